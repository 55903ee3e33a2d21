//! Names of relations: what one means, and the source that it becomes.

use std::sync::Arc;

use sqlparser::ast::{self, TableAlias};

use super::super::ir::{ColumnRef, Source, SourceId, SourceKind, Span};
use super::super::{parse, tokens};
use super::scope::{Columns, Entry, Visible};
use super::{Lowered, Lowering, Text, foreign, unsupported};
use crate::catalog::Table;

/// Schemas of PostgreSQL's own relations.
const SYSTEM_SCHEMAS: &[&str] = &["pg_catalog", "information_schema", "pg_toast"];

/// What a relation's name means.
pub(super) enum Meaning {
    Table(Arc<Table>),
    Open((String, String)),
    System,
    Unknown(String),
}

impl Lowering<'_, '_> {
    /// What a relation's name means, CTEs aside.
    pub(super) fn meaning(&self, schema: Option<&str>, name: &str) -> Meaning {
        if schema.is_some_and(|s| SYSTEM_SCHEMAS.contains(&s)) {
            return Meaning::System;
        }
        if let Some(table) = self.catalog.resolve(&self.names, schema, name) {
            return Meaning::Table(table);
        }
        if schema.is_none() && name.starts_with("pg_") {
            return Meaning::System;
        }
        if self.catalog.open {
            return Meaning::Open((schema.unwrap_or("public").to_owned(), name.to_owned()));
        }
        Meaning::Unknown(schema.map_or_else(|| name.to_owned(), |s| format!("{s}.{name}")))
    }

    /// A source that is a table, with its entry in the range table, which the caller adds.
    pub(super) fn table_entry(
        &mut self,
        meaning: Meaning,
        name: String,
        span: Span,
        alias: Option<&TableAlias>,
    ) -> Lowered<(SourceId, Entry)> {
        let (kind, schema, known, open) = match meaning {
            Meaning::Table(table) => {
                let names = table
                    .columns_known
                    .then(|| table.columns.iter().map(|c| c.name.clone()).collect());
                let schema = Some(table.schema.clone());
                (SourceKind::Table(table), schema, names, None)
            }
            Meaning::Open(key) => {
                self.arena.open.entry(key.clone()).or_default();
                (SourceKind::Unknown(name.clone()), Some(key.0.clone()), None, Some(key))
            }
            Meaning::System => (SourceKind::SystemCatalog, None, None, None),
            Meaning::Unknown(written) => (SourceKind::Unknown(written), None, None, None),
        };
        let named = Named { name, schema, span, alias };
        let source = self.push_source(kind, &named)?;
        let renamed = alias.is_some_and(|a| !a.columns.is_empty());
        if let Some(key) = &open {
            self.arena.open_sources.push((source, key.clone()));
        }
        let columns = columns_of(source, known, alias)?;
        if renamed {
            // They are renamed by their place.
            self.arena.used.extend(columns.list.iter().filter_map(|visible| visible.column));
        }
        let open = open.filter(|_| !renamed);
        Ok((source, named.entry(Some(source), columns, open)))
    }

    /// Adds a source by its name and alias.
    pub(super) fn push_source(&mut self, kind: SourceKind, named: &Named<'_>) -> Lowered<SourceId> {
        if named.alias.is_some_and(|a| a.at.is_some()) {
            return foreign("AT after an alias");
        }
        let end = named.alias.map_or(named.span.end, |a| self.alias_end(a));
        let (name, span, block) = (named.visible_name(), named.span, self.block);
        let before = self.word_before(span.start);
        let alone = before == Some("only");
        let only = before.is_some();
        self.add_source(Source {
            kind,
            name,
            span,
            end,
            aliased: named.alias.is_some(),
            only,
            alone,
            through_view: false,
            block,
        })
    }

    /// Where an alias with its column list ends.
    pub(super) fn alias_end(&self, alias: &TableAlias) -> u32 {
        let Text { sql: text, tokens, view, .. } = self.text;
        let name = self.span(alias.name.span);
        if let Some(view) = view {
            return view.end;
        }
        if alias.columns.is_empty() {
            return name.end;
        }
        let open = tokens::index_at(tokens, name.end);
        tokens.get(tokens::closing(tokens, text, open)).map_or(name.end, |t| t.end)
    }

    /// ONLY, or TABLE in the place of SELECT, if it stands before the name at `start`.
    pub(super) fn word_before(&self, start: u32) -> Option<&'static str> {
        let Text { sql: text, tokens, view, .. } = self.text;
        let mut before = tokens::index_at(tokens, start);
        if view.is_some() {
            return None;
        }
        while before > 0 {
            before -= 1;
            match tokens.get(before) {
                Some(token) if token.is(text, "(") => {}
                Some(token) => {
                    return ["only", "table"].into_iter().find(|word| token.is_word(text, word));
                }
                None => return None,
            }
        }
        None
    }

    /// Where a possibly qualified name stands.
    pub(super) fn name_span(&self, name: &ast::ObjectName) -> Span {
        let ident = |part: Option<&ast::ObjectNamePart>| {
            part.and_then(ast::ObjectNamePart::as_ident)
                .map(|i| self.span(i.span))
                .unwrap_or_default()
        };
        Span { start: ident(name.0.first()).start, end: ident(name.0.last()).end }
    }
}

/// A range-table entry's names.
pub(super) struct Named<'n> {
    pub(super) name: String,
    pub(super) schema: Option<String>,
    pub(super) span: Span,
    pub(super) alias: Option<&'n TableAlias>,
}

impl Named<'_> {
    fn visible_name(&self) -> String {
        self.alias.map_or_else(|| self.name.clone(), |a| parse::name(&a.name))
    }

    pub(super) fn entry(
        &self,
        source: Option<SourceId>,
        columns: Columns,
        open: Option<(String, String)>,
    ) -> Entry {
        let schema = if self.alias.is_some() { None } else { self.schema.clone() };
        Entry { name: self.visible_name(), schema, source, columns, open }
    }
}

/// The columns of a source; `names` as the source has them, `None` if they are not known. An alias's
/// column list renames the first ones.
pub(super) fn columns_of(
    source: SourceId,
    names: Option<Vec<String>>,
    alias: Option<&TableAlias>,
) -> Lowered<Columns> {
    let renamed = alias.map(|a| a.columns.as_slice()).unwrap_or_default();
    let Some(mut names) = names else {
        let list =
            renamed.iter().map(|c| Visible { name: parse::name(&c.name), column: None }).collect();
        return Ok(Columns { list, incomplete: true });
    };
    for (name, column) in names.iter_mut().zip(renamed) {
        *name = parse::name(&column.name);
    }
    let mut list = Vec::with_capacity(names.len());
    let mut incomplete = false;
    for (index, name) in names.into_iter().enumerate() {
        let column =
            u16::try_from(index).map_err(|_| "a table with more than 65535 columns".to_owned())?;
        incomplete |= name.is_empty();
        list.push(Visible { name, column: Some(ColumnRef { source, column }) });
    }
    Ok(Columns { list, incomplete })
}

/// Schema and name of a relation; a database's name before them is dropped, as it can only be this one.
pub(super) fn relation_name(name: &ast::ObjectName) -> Lowered<(Option<String>, String)> {
    let parts: Option<Vec<_>> = name.0.iter().map(|p| p.as_ident().map(parse::name)).collect();
    match parts.as_deref() {
        Some([table]) => Ok((None, table.clone())),
        Some([schema, table] | [_, schema, table]) => Ok((Some(schema.clone()), table.clone())),
        _ => unsupported("this form of a table's name"),
    }
}
