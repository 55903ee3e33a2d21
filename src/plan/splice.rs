//! Changes of a statement's text at known places: never unparsed, only spliced.
//!
//! Main types: [`Site`], where a predicate on the key can be added for one occurrence, and [`Edits`]. Every
//! value that is put into a statement is a quoted literal with a cast.

use std::fmt::Write as _;

use crate::datum::{KeyType, KeyValue};
use crate::sql::ir::Span;

/// Where a predicate can be added that restricts one occurrence of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// The table's name in FROM becomes a sub-select.
    Name {
        /// The name as written.
        span: Span,
        /// The alias to add: `None` when one is written.
        alias: Option<String>,
    },
    /// A conjunct of UPDATE's or DELETE's WHERE.
    Filter {
        /// Where WHERE's expression stands.
        filter: Option<Span>,
        /// Where a new WHERE would stand.
        insert: u32,
        /// The name that the target's columns are qualified with.
        target: String,
    },
    /// There is none: why.
    None(&'static str),
}

/// Changes to one text.
#[derive(Debug, Default)]
pub(super) struct Edits {
    edits: Vec<(Span, String)>,
}

impl Edits {
    /// Whether there is nothing to change.
    pub(super) fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Restricts an occurrence to `column = value`. `Err` says why it can't be.
    pub(super) fn restrict(
        &mut self,
        text: &str,
        site: &Site,
        column: &str,
        value: &str,
    ) -> Result<(), &'static str> {
        match site {
            Site::None(why) => Err(why),
            Site::Name { span, alias } => {
                if self.edits.iter().any(|(other, _)| other == span) {
                    return Ok(());
                }
                let Some(name) = text.get(span.start as usize..span.end as usize) else {
                    return Err("its name was not found in the statement's text");
                };
                let mut new = format!("(SELECT * FROM {name} WHERE {} = {value})", quoted(column));
                if let Some(alias) = alias {
                    // Writing to a String can't fail.
                    let _ = write!(new, " AS {}", quoted(alias));
                }
                self.edits.push((*span, new));
                Ok(())
            }
            Site::Filter { filter, insert, target } => {
                let condition = format!("{}.{} = {value}", quoted(target), quoted(column));
                match filter {
                    Some(filter) => {
                        self.insert(filter.start, "(".to_owned());
                        self.insert(filter.end, format!(") AND ({condition})"));
                    }
                    None => {
                        let rest = text.get(*insert as usize..).unwrap_or_default();
                        let joined = rest.chars().next().is_some_and(|c| !c.is_ascii_whitespace());
                        let space = if joined { " " } else { "" };
                        self.insert(*insert, format!(" WHERE {condition}{space}"));
                    }
                }
                Ok(())
            }
        }
    }

    /// Puts text in.
    pub(super) fn insert(&mut self, at: u32, text: String) {
        let span = Span { start: at, end: at };
        if !self.edits.contains(&(span, text.clone())) {
            self.edits.push((span, text));
        }
    }

    /// The changed text; `None` if the places don't fit the text, which is then not to be sent.
    pub(super) fn apply(mut self, text: &str) -> Option<String> {
        self.edits.sort_by_key(|(span, _)| (span.start, span.end));
        let mut changed = String::with_capacity(text.len() + 64);
        let mut done = 0;
        for (span, new) in &self.edits {
            changed.push_str(text.get(done..span.start as usize)?);
            changed.push_str(new);
            done = span.end as usize;
        }
        changed.push_str(text.get(done..)?);
        Some(changed)
    }
}

/// An identifier in double quotes.
fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A key value as SQL: a quoted literal with a cast, whatever the value and whatever
/// `standard_conforming_strings` says.
pub(super) fn value_sql(ty: KeyType, value: &KeyValue<'_>) -> String {
    let text = value.to_string().replace('\'', "''");
    if text.contains('\\') {
        format!("E'{}'::{}", text.replace('\\', "\\\\"), ty.name())
    } else {
        format!("'{text}'::{}", ty.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, sites: &[Site], expect: &str) {
        let mut edits = Edits::default();
        for site in sites {
            edits.restrict(text, site, "tenant_id", "'42'::bigint").expect("a site");
        }
        assert_eq!(edits.apply(text).as_deref(), Some(expect));
    }

    fn at(text: &str, part: &str) -> Span {
        let start = text.find(part).expect("part") as u32;
        Span { start, end: start + part.len() as u32 }
    }

    #[test]
    fn predicates_are_spliced() {
        let text = "SELECT * FROM public.t, u AS x";
        check(
            text,
            &[
                Site::Name { span: at(text, "public.t"), alias: Some("t".into()) },
                Site::Name { span: at(text, "u"), alias: None },
            ][..1],
            "SELECT * FROM (SELECT * FROM public.t WHERE \"tenant_id\" = '42'::bigint) AS \"t\", u AS x",
        );
        let text = "DELETE FROM t WHERE a = 1 OR b = 2 RETURNING *";
        let filter = Some(at(text, "a = 1 OR b = 2"));
        check(
            text,
            &[Site::Filter { filter, insert: 0, target: "t".into() }],
            "DELETE FROM t WHERE (a = 1 OR b = 2) AND (\"t\".\"tenant_id\" = '42'::bigint) RETURNING *",
        );
        let text = "DELETE FROM t";
        check(
            text,
            &[Site::Filter { filter: None, insert: 13, target: "t".into() }],
            "DELETE FROM t WHERE \"t\".\"tenant_id\" = '42'::bigint",
        );
    }

    #[test]
    fn values_stay_values() {
        let sql = |text: &str| value_sql(KeyType::Text, &KeyValue::Text(text.into()));
        assert_eq!(sql("a'b"), "'a''b'::text");
        assert_eq!(sql("a\\'b"), "E'a\\\\''b'::text");
        assert_eq!(value_sql(KeyType::BigInt, &KeyValue::Int(-1)), "'-1'::bigint");
    }
}
