//! What tokens alone say: for utility statements, and for queries that are not understood.
//!
//! An identifier that could mean a table is taken to mean it, so the list of tables is never too short: a
//! view brings the tables of its definition, and where nothing is known of the schema every name is one.

use std::sync::Arc;

use super::super::class::Class;
use super::super::functions;
use super::super::ir::{CallKind, Opaque, Statement, UtilityKind};
use super::super::keywords::is_keyword;
use super::super::tokens::{Token, TokenKind, tokenize};
use super::VIEW_DEPTH_MAX;
use crate::catalog::{Catalog, Column, Names, RelationKind, Table};

/// A text that can't even be cut into tokens.
pub(super) fn unreadable(reason: &str) -> Statement {
    Statement::Opaque(Opaque {
        reason: reason.to_owned(),
        tables: Vec::new(),
        reads_only: false,
        unknown_functions: vec![reason.to_owned()],
        unknown_target: None,
    })
}

/// The reason that a table which is written is not in the catalog.
pub(super) fn not_known(table: &str) -> String {
    format!("the table \"{table}\" is not known")
}

/// The table, if that is the reason.
fn not_known_in(reason: &str) -> Option<String> {
    let table = reason.strip_prefix("the table \"")?.strip_suffix("\" is not known")?;
    Some(table.to_owned())
}

/// An opaque statement, described by its tokens.
pub(super) fn opaque(
    reason: String,
    text: &str,
    tokens: &[Token],
    catalog: &Catalog,
    names: &Names<'_>,
) -> Opaque {
    let unknown_functions = unknown_functions(text, tokens, catalog, names);
    Opaque {
        unknown_target: not_known_in(&reason),
        reason,
        tables: tables(text, tokens, catalog, names),
        reads_only: reads_only(text, tokens) && unknown_functions.is_empty(),
        unknown_functions,
    }
}

fn reads_only(text: &str, tokens: &[Token]) -> bool {
    const READS: &[&str] = &["select", "values", "table", "show", "explain", "with"];
    const WRITES: &[&str] = &["insert", "update", "delete", "merge", "into", "analyze", "analyse"];
    let mut words = tokens.iter().filter(|t| t.kind == TokenKind::Word);
    let reads = words.clone().next().is_some_and(|t| READS.iter().any(|w| t.is_word(text, w)));
    reads && !words.any(|t| WRITES.iter().any(|w| t.is_word(text, w)))
}

/// Functions that are not known to be built in and harmless: identifiers before a parenthesis, operators,
/// and names that were not decoded.
pub(super) fn unknown_functions(
    text: &str,
    tokens: &[Token],
    catalog: &Catalog,
    names: &Names<'_>,
) -> Vec<String> {
    let mut unknown = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::UnicodeQuoted => unknown.push(token.text(text).to_owned()),
            TokenKind::Operator => {
                let operator = token.text(text);
                if !functions::is_builtin_operator(operator) && operator != "=>" {
                    unknown.push(operator.to_owned());
                }
            }
            TokenKind::Word | TokenKind::Quoted => {
                let Some(name) = token.name(text) else { continue };
                // A table's name before its column list is no call.
                let target = i.checked_sub(1).and_then(|b| tokens.get(b));
                let target = target.is_some_and(|t| t.is_word(text, "into"));
                let called = !target && tokens.get(i + 1).is_some_and(|t| t.is(text, "("));
                let keyword = token.kind == TokenKind::Word && is_keyword(&name);
                let schema = qualifier(text, tokens, i);
                // `x.f` without parentheses may be f(x).
                let field =
                    schema.is_some() && catalog.resolve_function(names, None, &name).is_some();
                if !(called && !keyword || field) {
                    continue;
                }
                let kind = functions::classify(
                    &name,
                    schema.as_deref().filter(|_| called),
                    catalog,
                    names,
                )
                .kind;
                if matches!(kind, CallKind::User(_) | CallKind::ReadsTables | CallKind::Notifies) {
                    unknown.push(name);
                }
            }
            TokenKind::Number(_)
            | TokenKind::String(_)
            | TokenKind::Param
            | TokenKind::Punctuation => {}
        }
    }
    unknown.sort_unstable();
    unknown.dedup();
    unknown
}

/// The name before a dot before the token at `i`.
fn qualifier(text: &str, tokens: &[Token], i: usize) -> Option<String> {
    tokens.get(i.checked_sub(1)?).filter(|t| t.is(text, "."))?;
    tokens.get(i.checked_sub(2)?)?.name(text)
}

/// The tables that a materialized view's rows come from, as far as its definition names them.
pub(super) fn beneath(view: &Arc<Table>, catalog: &Catalog, names: &Names<'_>) -> Vec<Arc<Table>> {
    let mut found = Found { catalog, names, tables: Vec::new() };
    found.add_table(view, 0);
    found.tables.retain(|table| !Arc::ptr_eq(table, view));
    found.tables
}

/// Every table that an identifier could mean.
pub(super) fn tables(
    text: &str,
    tokens: &[Token],
    catalog: &Catalog,
    names: &Names<'_>,
) -> Vec<Arc<Table>> {
    let mut found = Found { catalog, names, tables: Vec::new() };
    found.add(text, tokens, names.schemas().collect::<Vec<_>>().as_slice(), 0);
    if catalog.open {
        found.tables = open_tables(text, tokens);
    }
    found.tables
}

struct Found<'c> {
    catalog: &'c Catalog,
    names: &'c Names<'c>,
    tables: Vec<Arc<Table>>,
}

impl Found<'_> {
    fn add(&mut self, text: &str, tokens: &[Token], schemas: &[&str], depth: u32) {
        for (i, token) in tokens.iter().enumerate() {
            let Some(name) = token.name(text) else { continue };
            let qualified = qualifier(text, tokens, i)
                .and_then(|s| self.catalog.resolve(self.names, Some(&s), &name));
            let path =
                schemas.iter().find_map(|s| self.catalog.resolve(self.names, Some(s), &name));
            for table in qualified.into_iter().chain(path) {
                self.add_table(&table, depth);
            }
        }
    }

    fn add_table(&mut self, table: &Arc<Table>, depth: u32) {
        if self.tables.iter().any(|t| Arc::ptr_eq(t, table)) {
            return;
        }
        self.tables.push(Arc::clone(table));
        let made_of_others =
            matches!(table.kind, RelationKind::View | RelationKind::MaterializedView);
        if !made_of_others || depth >= VIEW_DEPTH_MAX {
            return;
        }
        if let Some(definition) = &table.view_definition
            && let Ok(tokens) = tokenize(definition, None)
        {
            self.add(definition, &tokens, &[table.schema.as_str(), "public"], depth + 1);
        }
    }
}

/// Where nothing is known of the schema: each name is a table that has each name as a column.
fn open_tables(text: &str, tokens: &[Token]) -> Vec<Arc<Table>> {
    let is_name = |t: &&Token| {
        t.kind == TokenKind::Quoted
            || t.kind == TokenKind::Word && !is_keyword(&t.text(text).to_ascii_lowercase())
    };
    let mut names: Vec<_> = tokens.iter().filter(is_name).filter_map(|t| t.name(text)).collect();
    names.sort_unstable();
    names.dedup();
    let columns: Vec<_> = names.iter().map(Column::named).collect();
    let table = |name: &String| {
        Arc::new(Table {
            columns_known: false,
            ..Table::plain("public", name.as_str(), columns.clone())
        })
    };
    names.iter().map(table).collect()
}

/// CREATE of an object in the first schema of `search_path`.
pub(super) fn is_created_unqualified(tag: &str, text: &str, tokens: &[Token]) -> bool {
    const KINDS: [&str; 3] = ["table", "view", "sequence"];
    if !tag.starts_with("CREATE ") {
        return false;
    }
    let kind = tokens.iter().position(|token| KINDS.iter().any(|kind| token.is_word(text, kind)));
    let Some(kind) = kind else { return true };
    let mut rest = tokens.get(kind + 1..).unwrap_or_default();
    if rest.first().is_some_and(|token| token.is_word(text, "if")) {
        // IF NOT EXISTS.
        rest = rest.get(3..).unwrap_or_default();
    }
    !rest.get(1).is_some_and(|token| token.is(text, "."))
}

fn may_write(text: &str, tokens: &[Token]) -> bool {
    const WORDS: [&str; 5] = ["insert", "update", "delete", "merge", "into"];
    tokens.iter().any(|token| WORDS.iter().any(|word| token.is_word(text, word)))
}

fn ends_with_all(text: &str, tokens: &[Token]) -> bool {
    tokens.iter().any(|token| token.is_word(text, "all"))
}

/// Command tag and kind of a utility statement; `None` for classes that are none.
pub(super) fn utility_kind(
    class: &Class,
    text: &str,
    tokens: &[Token],
) -> Option<(&'static str, UtilityKind)> {
    Some(match class {
        Class::Definition { tag, temporary, from_query, .. } => {
            let kind = match (temporary, from_query) {
                (true, _) => UtilityKind::Temporary,
                (false, true) => UtilityKind::TableFromQuery,
                (false, false) => UtilityKind::Definition,
            };
            (*tag, kind)
        }
        Class::ClusterWide { tag } => (*tag, UtilityKind::ClusterWide),
        Class::Truncate => ("TRUNCATE TABLE", UtilityKind::Truncate),
        Class::Maintenance => (maintenance_tag(text, tokens), UtilityKind::Maintenance),
        Class::Lock => ("LOCK TABLE", UtilityKind::Lock),
        Class::Do => ("DO", UtilityKind::Do),
        Class::Call => ("CALL", UtilityKind::Call),
        Class::Copy { from: true, .. } => ("COPY", UtilityKind::CopyFrom),
        Class::Copy { from: false, .. } => ("COPY", UtilityKind::CopyTo),
        // Where its query can't be found.
        Class::Declare(_) => ("DECLARE CURSOR", UtilityKind::Cursor),
        Class::Fetch(_) => ("FETCH", UtilityKind::Cursor),
        // Where there is nothing to close it is no harm, and drivers say it to clean up.
        Class::Close(_) if ends_with_all(text, tokens) => ("CLOSE CURSOR ALL", UtilityKind::Set),
        Class::Close(_) => ("CLOSE CURSOR", UtilityKind::Cursor),
        Class::Prepare { .. } if !may_write(text, tokens) => ("PREPARE", UtilityKind::Cursor),
        Class::Prepare { .. } => ("PREPARE", UtilityKind::Prepared),
        Class::Execute(_) => ("EXECUTE", UtilityKind::Prepared),
        // The session knows whether there is anything to forget, and where.
        Class::Deallocate(_) => ("DEALLOCATE", UtilityKind::Set),
        Class::Listen => ("LISTEN", UtilityKind::Notify),
        // Where nothing listens it is no harm, and drivers say it to clean up.
        Class::Unlisten => ("UNLISTEN", UtilityKind::Set),
        Class::Notify => ("NOTIFY", UtilityKind::Notify),
        Class::PrepareTransaction => ("PREPARE TRANSACTION", UtilityKind::TwoPhase),
        Class::TwoPhase => ("COMMIT PREPARED or ROLLBACK PREPARED", UtilityKind::TwoPhase),
        Class::DiscardAll => ("DISCARD ALL", UtilityKind::Discard),
        Class::Discard => ("DISCARD", UtilityKind::Discard),
        Class::Show(_) => ("SHOW", UtilityKind::Show),
        Class::Set(_) | Class::SetTransaction { .. } => ("SET", UtilityKind::Set),
        Class::SetConstraints(_) => ("SET CONSTRAINTS", UtilityKind::Set),
        Class::Reset(_) => ("RESET", UtilityKind::Set),
        Class::Empty
        | Class::Query
        | Class::Explain
        | Class::ExplainRoute { .. }
        | Class::ExplainRouteWith(_)
        | Class::Begin(_)
        | Class::Commit { .. }
        | Class::Rollback { .. }
        | Class::Savepoint(_)
        | Class::Release(_)
        | Class::RollbackTo(_)
        | Class::Other => return None,
    })
}

/// The one database that a statement about the whole cluster is about.
pub(super) fn database(text: &str, tokens: &[Token]) -> Option<String> {
    let at = tokens.iter().position(|token| token.is_word(text, "database"))?;
    let mut rest = tokens.get(at + 1..)?;
    if rest.first()?.is_word(text, "if") {
        // IF EXISTS.
        rest = rest.get(2..)?;
    }
    let several = rest.get(1).is_some_and(|token| token.is(text, ","));
    rest.first()?.name(text).filter(|_| !several)
}

/// Whether PostgreSQL refuses it within a transaction block: by its kind, or by a word.
pub(super) fn runs_alone(tag: &str, text: &str, tokens: &[Token]) -> bool {
    let concurrently =
        || tokens.iter().any(|token| token.text(text).eq_ignore_ascii_case("concurrently"));
    match tag {
        "CREATE SUBSCRIPTION" | "ALTER SUBSCRIPTION" | "DROP SUBSCRIPTION" => true,
        "CREATE INDEX" | "DROP INDEX" | "ALTER TABLE" => concurrently(),
        _ => false,
    }
}

fn maintenance_tag(text: &str, tokens: &[Token]) -> &'static str {
    let first = tokens.first().map(|t| t.text(text).to_ascii_lowercase()).unwrap_or_default();
    match first.as_str() {
        "vacuum" => "VACUUM",
        "analyze" | "analyse" => "ANALYZE",
        "reindex" => "REINDEX",
        "cluster" => "CLUSTER",
        "checkpoint" => "CHECKPOINT",
        "refresh" => "REFRESH MATERIALIZED VIEW",
        "load" => "LOAD",
        _ => "VACUUM",
    }
}
