//! Changes of a statement's text at known places: never unparsed, only spliced.
//!
//! Main types: [`Site`], where a predicate on the key can be added for one occurrence, and [`Edits`]. Every
//! value that is put into a statement is a quoted literal with a cast.

use std::fmt::Write as _;

use crate::catalog::Table;
use crate::datum::{KeyType, KeyValue};
use crate::sql::ir::Span;
use crate::sql::lexer::Literal;
use crate::sql::quote::{quote_identifier, quote_literal};
use crate::sql::tokens::{Token, index_at, tokenize};

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

/// Where a table that is read stands in the statement's own text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// The name as written.
    pub(super) span: Span,
    /// `ONLY` stands before it.
    pub(super) alone: bool,
    /// The alias to add: `None` when one is written.
    pub(super) alias: Option<String>,
}

/// Changes to one text. Places are given as they were in the text that was compiled, which differs from
/// this one in its literals and blanks: they are found again by the token that starts or ends there.
#[derive(Debug, Default)]
pub(super) struct Edits<'p> {
    splices: Vec<(Span, String)>,
    compiled: &'p [Span],
    text: &'p str,
    literals: &'p [Literal],
    /// This text's tokens, read when the first place is looked for.
    tokens: Option<Vec<Token>>,
    /// A place was not found.
    lost: bool,
}

impl<'p> Edits<'p> {
    /// No changes yet: the tokens of the text that was compiled, this text and its literals.
    pub(super) fn new(compiled: &'p [Span], text: &'p str, literals: &'p [Literal]) -> Self {
        Self { compiled, text, literals, ..Self::default() }
    }

    /// This text's token at the place of one of the compiled text's.
    fn token(&mut self, index: usize) -> Option<Token> {
        let tokens = self
            .tokens
            .get_or_insert_with(|| tokenize(self.text, Some(self.literals)).unwrap_or_default());
        if tokens.len() == self.compiled.len() { tokens.get(index).copied() } else { None }
    }

    /// Where the token is now that started here.
    fn starting(&mut self, at: u32) -> Option<u32> {
        let index = self.compiled.binary_search_by_key(&at, |span| span.start).ok()?;
        self.token(index).map(|token| token.start)
    }

    /// Where the token is now that ended here.
    fn ending(&mut self, at: u32) -> Option<u32> {
        let index = self.compiled.binary_search_by_key(&at, |span| span.end).ok()?;
        self.token(index).map(|token| token.end)
    }

    fn places(&mut self, span: Span) -> Option<Span> {
        Some(Span { start: self.starting(span.start)?, end: self.ending(span.end)? })
    }

    /// Whether there is nothing to change.
    pub(super) fn is_empty(&self) -> bool {
        self.splices.is_empty()
    }

    /// Restricts an occurrence to `column = value`. `Err` says why it can't be.
    pub(super) fn restrict(
        &mut self,
        site: &Site,
        column: &str,
        value: &str,
    ) -> Result<(), &'static str> {
        match site {
            Site::None(why) => Err(why),
            Site::Name { span, alias } => {
                let Some(span) = self.places(*span) else {
                    return Err("its name was not found in the statement's text");
                };
                if self.splices.iter().any(|(other, _)| *other == span) {
                    return Ok(());
                }
                let Some(name) = self.text.get(span.start as usize..span.end as usize) else {
                    return Err("its name was not found in the statement's text");
                };
                let mut new =
                    format!("(SELECT * FROM {name} WHERE {} = {value})", quote_identifier(column));
                if let Some(alias) = alias {
                    // Writing to a String can't fail.
                    let _ = write!(new, " AS {}", quote_identifier(alias));
                }
                self.splices.push((span, new));
                Ok(())
            }
            Site::Filter { filter, insert, target } => {
                let condition =
                    format!("{}.{} = {value}", quote_identifier(target), quote_identifier(column));
                if let Some(filter) = filter {
                    self.insert_before(filter.start, "(".to_owned());
                    self.insert(filter.end, format!(") AND ({condition})"));
                } else {
                    let place = self.ending(*insert).or_else(|| self.starting(*insert));
                    let after = place.and_then(|at| self.text.as_bytes().get(at as usize));
                    let joined = after.is_some_and(|c| !c.is_ascii_whitespace());
                    let space = if joined { " " } else { "" };
                    self.insert_at(place, format!(" WHERE {condition}{space}"));
                }
                Ok(())
            }
        }
    }

    /// Puts something else in the place of a relation's name. `TABLE name` becomes a SELECT.
    pub(super) fn replace_relation(&mut self, span: Span, mut new: String) {
        let Some(mut place) = self.places(span) else {
            self.lost = true;
            self.splices.push((Span::default(), new));
            return;
        };
        let tokens = self.tokens.as_deref().unwrap_or_default();
        let before = index_at(tokens, place.start).checked_sub(1).and_then(|at| tokens.get(at));
        if let Some(table) = before.filter(|token| token.is_word(self.text, "table")) {
            place.start = table.start;
            new = format!("SELECT * FROM {new}");
        }
        self.splices.push((place, new));
    }

    /// Leaves out the rows of a table that don't meet a condition. False: there is no room for it.
    pub(super) fn keep(&mut self, spot: &Spot, table: &Table, condition: &str) -> bool {
        let Some(mut place) = self.places(spot.span) else { return false };
        let tokens = self.tokens.as_deref().unwrap_or_default();
        let at = index_at(tokens, place.start);
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        let behind = tokens.iter().find(|token| token.start >= place.end);
        // `name *` says that children are read too.
        if behind.is_some_and(|token| token.is(self.text, "*"))
            || self.splices.iter().any(|(other, _)| *other == place)
        {
            return false;
        }
        let Some(name) = self.text.get(place.start as usize..place.end as usize) else {
            return false;
        };
        let only = if spot.alone { "ONLY " } else { "" };
        let mut new = format!("(SELECT * FROM {only}{name} WHERE {condition})");
        if let Some(alias) = &spot.alias {
            // Writing to a String can't fail.
            let _ = write!(new, " AS {}", quote_identifier(alias));
        }
        match before {
            Some(word) if spot.alone && word.is_word(self.text, "only") => place.start = word.start,
            _ if spot.alone => return false,
            Some(word) if word.is_word(self.text, "table") => {
                place.start = word.start;
                new = format!("SELECT * FROM {new}");
            }
            _ => {}
        }
        self.splices.push((place, new));
        if spot.alias.is_some() {
            self.drop_schemas(&[(&table.schema, &table.name)]);
        }
        true
    }

    /// Takes the schema away from columns that are qualified with it, `schema.table.column`: these tables
    /// have other schemas now.
    pub(super) fn drop_schemas(&mut self, tables: &[(&str, &str)]) {
        let found = self.tokens.as_deref().unwrap_or_default();
        let mut dropped = Vec::new();
        for window in found.windows(5) {
            let [schema, dot, table, second, _] = window else { continue };
            if !dot.is(self.text, ".") || !second.is(self.text, ".") {
                continue;
            }
            let named = (schema.name(self.text), table.name(self.text));
            let (Some(schema_name), Some(table_name)) = named else { continue };
            if tables.contains(&(schema_name.as_str(), table_name.as_str())) {
                dropped.push(Span { start: schema.start, end: table.start });
            }
        }
        self.splices.extend(dropped.into_iter().map(|span| (span, String::new())));
    }

    /// Puts a value in the place of an expression.
    pub(super) fn replace(&mut self, span: Span, value: String) {
        let place = self.places(span);
        self.lost |= place.is_none();
        self.splices.push((place.unwrap_or_default(), value));
    }

    /// Puts text in before the token that starts there.
    fn insert_before(&mut self, at: u32, text: String) {
        let place = self.starting(at);
        self.insert_at(place, text);
    }

    /// Puts text in after the token that ends there, or else before the one that starts there.
    pub(super) fn insert(&mut self, at: u32, text: String) {
        let place = self.ending(at).or_else(|| self.starting(at));
        self.insert_at(place, text);
    }

    fn insert_at(&mut self, place: Option<u32>, text: String) {
        let Some(at) = place else {
            self.lost = true;
            self.splices.push((Span::default(), text));
            return;
        };
        let span = Span { start: at, end: at };
        if !self.splices.contains(&(span, text.clone())) {
            self.splices.push((span, text));
        }
    }

    /// The changed text; `None` if the places don't fit the text, which is then not to be sent.
    pub(super) fn apply(self) -> Option<String> {
        let text = self.text;
        spliced(text, &self.in_order()?)
    }

    /// The changes in the order of their places; `None` as for [`Self::apply`].
    pub(super) fn in_order(mut self) -> Option<Vec<(Span, String)>> {
        if self.lost {
            return None;
        }
        self.splices.sort_by_key(|(span, _)| (span.start, span.end));
        self.splices.dedup();
        Some(self.splices)
    }
}

/// A text with changes in it, which are in order.
pub(super) fn spliced(text: &str, changes: &[(Span, String)]) -> Option<String> {
    let mut changed = String::with_capacity(text.len() + 64);
    let mut done = 0;
    for (span, new) in changes {
        changed.push_str(text.get(done..span.start as usize)?);
        changed.push_str(new);
        done = span.end as usize;
    }
    changed.push_str(text.get(done..)?);
    Some(changed)
}

/// A key value as SQL: a quoted literal with a cast, whatever the value and whatever
/// `standard_conforming_strings` says.
pub(super) fn value_sql(ty: KeyType, value: &KeyValue<'_>) -> String {
    format!("{}::{}", quote_literal(&value.to_string()), ty.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::lexer::{Limits, Scan, scan};

    fn literals(text: &str) -> Vec<Literal> {
        let mut found = Scan::default();
        scan(text.as_bytes(), true, &Limits::default(), &mut found).expect("a scan");
        found.literals
    }

    fn tokens(text: &str, literals: &[Literal]) -> Vec<Span> {
        let tokens = tokenize(text, Some(literals)).expect("tokens");
        tokens.iter().map(|token| Span { start: token.start, end: token.end }).collect()
    }

    fn check(text: &str, sites: &[Site], expect: &str) {
        let literals = literals(text);
        let compiled = tokens(text, &literals);
        let mut edits = Edits::new(&compiled, text, &literals);
        for site in sites {
            edits.restrict(site, "tenant_id", "'42'::bigint").expect("a site");
        }
        assert_eq!(edits.apply().as_deref(), Some(expect));
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
    fn places_follow_literals_and_blanks_of_other_lengths() {
        let check = |compiled: &str, now: &str, at: &str, expect: Option<&str>| {
            let then = tokens(compiled, &literals(compiled));
            let literals = literals(now);
            let mut edits = Edits::new(&then, now, &literals);
            edits.insert(compiled.find(at).expect("a place") as u32, "<>".to_owned());
            assert_eq!(edits.apply().as_deref(), expect);
        };
        check(
            "a = 'x' AND b",
            "a = 'much longer' AND b",
            " AND",
            Some("a = 'much longer'<> AND b"),
        );
        check("a = 12345 AND b", "a = 1 AND b", " AND", Some("a = 1<> AND b"));
        check("a = 12345 AND b", "a = 1 AND b", "12345", Some("a = <>1 AND b"));
        check("a = 12345 AND b", "a = 1 AND b", "345", None);
        check("a = 1", "a = 1 AND b = 2", "a", None);
        check(
            "a = 1 AND b",
            "a  /* AND */ =\n1 AND   b",
            " AND",
            Some("a  /* AND */ =\n1<> AND   b"),
        );
        check("(a -- one\n)", "(a /**/ )", ")", Some("(a /**/ <>)"));
    }

    #[test]
    fn values_stay_values() {
        let sql = |text: &str| value_sql(KeyType::Text, &KeyValue::Text(text.into()));
        assert_eq!(sql("a'b"), "'a''b'::text");
        assert_eq!(sql("a\\'b"), "E'a\\\\''b'::text");
        assert_eq!(value_sql(KeyType::BigInt, &KeyValue::Int(-1)), "'-1'::bigint");
    }
}
