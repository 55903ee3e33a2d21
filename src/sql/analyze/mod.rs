//! Analysis: a statement's text and the catalog → the [`ir`](super::ir).
//!
//! [`analyze`] parses a query and lowers its tree; [`utility`] looks at the tokens of everything else.
//! Lowering resolves names in scopes, turns every sub-select into a block, records every table and every
//! function call, and keeps of each expression only what planning can use. Two rules carry its
//! soundness: what is not understood restricts nothing ([`Pred::Unknown`](super::ir::Pred::Unknown),
//! [`Expr::Other`](super::ir::Expr::Other)), and a form that has no place in the IR makes the statement
//! opaque. Matches over the parser's types name every variant, so that a new one can't slip through.
//!
//! It never sees the shard map, a parameter's value or a literal's value.

mod dml;
#[cfg(test)]
mod dump;
mod expr;
mod from;
mod joins;
mod opaque;
mod pred;
mod query;
mod relations;
mod scalar;
mod scope;
#[cfg(test)]
mod tests;
mod views;

use std::sync::Arc;

use sqlparser::ast;

use super::class::Class;
use super::ir::{
    Analysis, Block, BlockId, BlockKind, Call, ColumnRef, SettingCall, Source, SourceId,
    SourceKind, Span, Statement, Utility, UtilityKind, ViewUse,
};
use super::lexer::Literal;
use super::parse;
use super::reshape;
use super::tokens::{self, Token, TokenKind};
pub use crate::catalog::Names;
use crate::catalog::{Catalog, Column, Table};
use rustc_hash::{FxHashMap, FxHashSet};
use scope::Scope;

/// Most blocks of one statement. A CTE is lowered again for each reference to it, so a short text can
/// stand for very many.
const BLOCKS_MAX: usize = 1_000;

/// How deep views may be made of views.
const VIEW_DEPTH_MAX: u32 = 32;

/// DECLARE, a name and its options: `CURSOR` stands among so many words.
const CURSOR_WORDS_MAX: usize = 8;

/// What was lowered, or why the statement is opaque.
type Lowered<T> = Result<T, String>;

/// Analyses a query, INSERT, UPDATE, DELETE, MERGE, EXPLAIN or DECLARE.
///
/// `text` is the statement's own text, `literals` the lexer's literals of it in text order, with spans
/// counted in `text`; slot = index.
pub fn analyze(
    text: &str,
    literals: &[Literal],
    catalog: &Catalog,
    names: &Names<'_>,
) -> Statement {
    let tokens = match tokens::tokenize(text, Some(literals)) {
        Ok(tokens) => tokens,
        Err(fault) => return opaque::unreadable(fault.reason),
    };
    let mut statement = analyze_tokens(text, &tokens, catalog, names);
    remember(&mut statement, literals, &tokens);
    statement
}

/// Reads a statement of this class: a query, or what holds one, as [`analyze`] does; anything else by its
/// tokens.
pub fn statement(
    text: &str,
    literals: &[Literal],
    class: &Class,
    catalog: &Catalog,
    names: &Names<'_>,
) -> Statement {
    let holds_query = match class {
        Class::Query | Class::Explain | Class::Declare(_) => true,
        Class::Definition { temporary: true, from_query: true, .. } => {
            let tokens = tokens::tokenize(text, Some(literals)).unwrap_or_default();
            temporary_query(text, &tokens).is_some()
        }
        _ => false,
    };
    if holds_query {
        analyze(text, literals, catalog, names)
    } else {
        utility(text, class, catalog, names)
    }
}

/// Keeps where the tokens stand.
fn remember(statement: &mut Statement, literals: &[Literal], tokens: &[Token]) {
    match statement {
        Statement::Query(analysis) => {
            analysis.literals = literals.to_vec();
            let span = |token: &Token| Span { start: token.start, end: token.end };
            analysis.tokens = tokens.iter().map(span).collect();
        }
        Statement::Explain { inner, .. }
        | Statement::Declare { inner, .. }
        | Statement::CreateTemporary { inner } => {
            remember(inner, literals, tokens);
        }
        Statement::Utility(_) | Statement::Opaque(_) => {}
    }
}

fn analyze_tokens(text: &str, tokens: &[Token], catalog: &Catalog, names: &Names<'_>) -> Statement {
    if tokens.first().is_some_and(|t| t.is_word(text, "explain"))
        && let Some((analyze, at)) = explain_options(text, tokens)
    {
        let inner = analyze_tokens(text, tokens.get(at..).unwrap_or_default(), catalog, names);
        return Statement::Explain { analyze, inner: Box::new(inner) };
    }
    if tokens.first().is_some_and(|t| t.is_word(text, "declare"))
        && let Some((hold, at)) = cursor_options(text, tokens)
    {
        let inner = analyze_tokens(text, tokens.get(at..).unwrap_or_default(), catalog, names);
        return Statement::Declare { hold, inner: Box::new(inner) };
    }
    if let Some(at) = temporary_query(text, tokens) {
        let query = without_data(text, tokens.get(at..).unwrap_or_default());
        let inner = analyze_tokens(text, query, catalog, names);
        return Statement::CreateTemporary { inner: Box::new(inner) };
    }
    let result = parse::on_deep_stack(tokens.len(), || {
        let statement = parse::parse(text, tokens)?;
        if makes_table(&statement) {
            return Ok(None);
        }
        let mut arena = Arena::default();
        let mut lowering =
            Lowering::new(&mut arena, Text::new(text, tokens, None), catalog, *names);
        let root = lowering.statement(&statement)?;
        arena.finish(root, text, tokens).map(Some)
    });
    match result {
        Ok(Some(analysis)) => Statement::Query(analysis),
        Ok(None) => Statement::Utility(Utility {
            tag: "SELECT INTO",
            kind: UtilityKind::TableFromQuery,
            alone: false,
            tables: opaque::tables(text, tokens, catalog, names),
            database: None,
            reshaped: Vec::new(),
            temporary_by_path: false,
            unknown_functions: Vec::new(),
            filters: false,
        }),
        Err(reason) => Statement::Opaque(opaque::opaque(reason, text, tokens, catalog, names)),
    }
}

/// Whether EXPLAIN runs its statement, and the index of the statement's first token.
fn explain_options(text: &str, tokens: &[Token]) -> Option<(bool, usize)> {
    let word = |i: usize, w: &str| tokens.get(i).is_some_and(|t: &Token| t.is_word(text, w));
    let mut analyze = false;
    let mut at = 1;
    let analyzes = |i: usize| word(i, "analyze") || word(i, "analyse");
    if tokens.get(at)?.is(text, "(") {
        let options = tokens::closing(tokens, text, at);
        // A parenthesis may also open the statement itself.
        if ["select", "with", "values", "table"].iter().any(|w| word(at + 1, w))
            || tokens.get(at + 1)?.is(text, "(")
        {
            return Some((false, at));
        }
        for i in at + 1..options {
            analyze |= analyzes(i) && !word(i + 1, "false") && !word(i + 1, "off");
        }
        return Some((analyze, options + 1));
    }
    if analyzes(at) {
        analyze = true;
        at += 1;
    }
    if word(at, "verbose") {
        at += 1;
    }
    Some((analyze, at))
}

/// Whether a cursor is WITH HOLD, and the index of its query's first token (manual, "DECLARE").
fn cursor_options(text: &str, tokens: &[Token]) -> Option<(bool, usize)> {
    let word = |i: usize, w: &str| tokens.get(i).is_some_and(|t: &Token| t.is_word(text, w));
    let mut at = (2..tokens.len().min(CURSOR_WORDS_MAX)).find(|at| word(*at, "cursor"))? + 1;
    let mut hold = false;
    if word(at + 1, "hold") {
        hold = word(at, "with");
        at += 2;
    }
    let query = |w: &str| word(at + 1, w);
    let reads = ["select", "with", "values", "table"].iter().any(|w| query(w));
    let nested = tokens.get(at + 1).is_some_and(|t| t.is(text, "("));
    (word(at, "for") && (reads || nested)).then_some((hold, at + 1))
}

/// The index of the first token of the query of CREATE TEMP TABLE … AS (manual, "CREATE TABLE AS").
fn temporary_query(text: &str, tokens: &[Token]) -> Option<usize> {
    if !tokens.first()?.is_word(text, "create") {
        return None;
    }
    let word = |i: usize, w: &str| tokens.get(i).is_some_and(|t: &Token| t.is_word(text, w));
    let mut at = 1;
    while !word(at, "as") {
        let opens = tokens.get(at)?.is(text, "(");
        at = if opens { tokens::closing(tokens, text, at) + 1 } else { at + 1 };
    }
    let reads = ["select", "with", "values", "table"].iter().any(|w| word(at + 1, w));
    let nested = tokens.get(at + 1).is_some_and(|t| t.is(text, "("));
    (reads || nested).then_some(at + 1)
}

/// CREATE TABLE AS without the `WITH [NO] DATA` that may end it.
fn without_data<'t>(text: &str, tokens: &'t [Token]) -> &'t [Token] {
    let is = |token: &Token, word: &str| token.is_word(text, word);
    match tokens {
        [query @ .., with, no, data] if is(with, "with") && is(no, "no") && is(data, "data") => {
            query
        }
        [query @ .., with, data] if is(with, "with") && is(data, "data") => query,
        tokens => tokens,
    }
}

/// SELECT INTO.
fn makes_table(statement: &ast::Statement) -> bool {
    let ast::Statement::Query(query) = statement else { return false };
    let mut body = query.body.as_ref();
    loop {
        match body {
            ast::SetExpr::Select(select) => return select.into.is_some(),
            ast::SetExpr::SetOperation { left, .. } => body = left,
            ast::SetExpr::Query(query) => body = &query.body,
            ast::SetExpr::Values(_)
            | ast::SetExpr::Insert(_)
            | ast::SetExpr::Update(_)
            | ast::SetExpr::Delete(_)
            | ast::SetExpr::Merge(_)
            | ast::SetExpr::Table(_) => return false,
        }
    }
}

/// Describes a statement that is not a query by its class and its tokens.
pub fn utility(text: &str, class: &Class, catalog: &Catalog, names: &Names<'_>) -> Statement {
    let tokens = match tokens::tokenize(text, None) {
        Ok(tokens) => tokens,
        Err(fault) => return opaque::unreadable(fault.reason),
    };
    let Some((tag, kind)) = opaque::utility_kind(class, text, &tokens) else {
        let reason = "it is of a kind that is not known here".to_owned();
        return Statement::Opaque(opaque::opaque(reason, text, &tokens, catalog, names));
    };
    let alone = opaque::runs_alone(tag, text, &tokens);
    let tables = opaque::tables(text, &tokens, catalog, names);
    let database = match kind {
        UtilityKind::ClusterWide => opaque::database(text, &tokens),
        _ => None,
    };
    let reshaped = match tag {
        "ALTER TABLE" | "ALTER SCHEMA" => reshape::reshaped(text, &tokens, catalog, names),
        _ => Vec::new(),
    };
    let unknown_functions = match (kind, tag) {
        (UtilityKind::Temporary, "CREATE VIEW") => {
            opaque::unknown_functions(text, &tokens, catalog, names)
        }
        _ => Vec::new(),
    };
    let filters =
        kind == UtilityKind::CopyFrom && tokens.iter().any(|token| token.is_word(text, "where"));
    let temporary_by_path = names.search_path.first().is_some_and(|schema| schema == "pg_temp")
        && opaque::is_created_unqualified(tag, text, &tokens);
    Statement::Utility(Utility {
        tag,
        kind,
        alone,
        tables,
        database,
        reshaped,
        temporary_by_path,
        unknown_functions,
        filters,
    })
}

/// The text that is lowered: the statement's, or a view's definition.
#[derive(Clone, Copy)]
struct Text<'t> {
    sql: &'t str,
    tokens: &'t [Token],
    /// Within a view: where the statement refers to the outermost one. Positions in a view's definition
    /// mean nothing in the statement, and its literals have no slot.
    view: Option<Span>,
    /// Which end of a BETWEEN is the lower one is not known.
    symmetric: bool,
}

impl<'t> Text<'t> {
    fn new(sql: &'t str, tokens: &'t [Token], view: Option<Span>) -> Self {
        Self { sql, tokens, view, symmetric: parse::has_symmetric(sql, tokens) }
    }
}

/// A table whose columns are whatever the statement names (see [`Catalog::open`]).
#[derive(Default)]
struct OpenTable {
    columns: Vec<String>,
}

/// Everything that lowering makes, shared by the statement and the views it refers to.
#[derive(Default)]
struct Arena {
    blocks: Vec<Block>,
    sources: Vec<Source>,
    calls: Vec<Call>,
    settings: Vec<SettingCall>,
    materialized: Vec<(SourceId, Vec<Arc<Table>>)>,
    views: Vec<ViewUse>,
    used: FxHashSet<ColumnRef>,
    uses_unclear: bool,
    locks_rows: bool,
    samples: bool,
    open: FxHashMap<(String, String), OpenTable>,
    open_sources: Vec<(SourceId, (String, String))>,
    view_depth: u32,
}

impl Arena {
    fn finish(mut self, root: BlockId, text: &str, tokens: &[Token]) -> Lowered<Analysis> {
        let mut tables: FxHashMap<(String, String), Arc<Table>> = FxHashMap::default();
        for (key, open) in self.open {
            tables.insert(key.clone(), Arc::new(open_table(key, open.columns)));
        }
        for (source, key) in self.open_sources {
            if let (Some(source), Some(table)) =
                (self.sources.get_mut(source as usize), tables.get(&key))
            {
                source.kind = SourceKind::Table(Arc::clone(table));
            }
        }
        let params = tokens.iter().filter(|t| t.kind == TokenKind::Param);
        let highest = params
            .map(|t| t.text(text).trim_start_matches('$').parse::<u16>())
            .try_fold(0, |max, n| {
                n.map(|n| n.max(max)).map_err(|_| "a parameter's number is above 65535".to_owned())
            })?;
        Ok(Analysis {
            root,
            blocks: self.blocks,
            sources: self.sources,
            calls: self.calls,
            settings: self.settings,
            materialized: self.materialized,
            views: self.views,
            used: self.used,
            uses_unclear: self.uses_unclear,
            locks_rows: self.locks_rows,
            samples: self.samples,
            params: highest,
            literals: Vec::new(),
            tokens: Vec::new(),
        })
    }
}

fn open_table((schema, name): (String, String), columns: Vec<String>) -> Table {
    let columns = columns.into_iter().map(Column::named).collect();
    Table { columns_known: false, ..Table::plain(schema, name, columns) }
}

/// The lowering of one text.
struct Lowering<'t, 'o> {
    arena: &'o mut Arena,
    text: Text<'t>,
    catalog: &'o Catalog,
    names: Names<'o>,
    scopes: Vec<Scope<'t>>,
    /// The block that is being lowered: calls and sub-selects are its.
    block: BlockId,
    /// The scope in which names are looked up.
    scope: scope::ScopeId,
    /// Where a sub-select that is met now stands.
    place: super::ir::SubqueryPlace,
    /// CTEs being lowered, outermost first: scope and index.
    active: Vec<(scope::ScopeId, usize)>,
    /// Column references met inside an aggregate's arguments: of this block, and of others or unknown.
    aggregate_refs: (u32, u32),
}

impl<'t, 'o> Lowering<'t, 'o> {
    fn new(arena: &'o mut Arena, text: Text<'t>, catalog: &'o Catalog, names: Names<'o>) -> Self {
        Self {
            arena,
            text,
            catalog,
            names,
            scopes: vec![Scope::default()],
            block: 0,
            scope: 0,
            place: super::ir::SubqueryPlace::Other,
            active: Vec::new(),
            aggregate_refs: (0, 0),
        }
    }

    fn statement(&mut self, statement: &'t ast::Statement) -> Lowered<BlockId> {
        match statement {
            ast::Statement::Query(query) => self.query(query, scope::Outside::top()),
            ast::Statement::Insert(_)
            | ast::Statement::Update(_)
            | ast::Statement::Delete(_)
            | ast::Statement::Merge(_) => self.modification(statement, None, 0),
            _ => Err("it is not a query that is known here".to_owned()),
        }
    }

    /// Starts a block; its kind and output are set when they are known.
    fn begin_block(&mut self, parent: Option<BlockId>, span: Span) -> Lowered<BlockId> {
        if self.arena.blocks.len() >= BLOCKS_MAX {
            return Err(format!(
                "it has more than {BLOCKS_MAX} sub-selects (each reference to a CTE counts)"
            ));
        }
        let id = BlockId::try_from(self.arena.blocks.len())
            .map_err(|_| "too many sub-selects".to_owned())?;
        self.arena.blocks.push(Block {
            parent,
            kind: BlockKind::Values(Vec::new()),
            output: Vec::new(),
            subqueries: Vec::new(),
            unused_ctes: Vec::new(),
            span: self.text.view.unwrap_or(span),
        });
        Ok(id)
    }

    fn block_mut(&mut self, id: BlockId) -> Lowered<&mut Block> {
        self.arena.blocks.get_mut(id as usize).ok_or_else(|| "a block is missing".to_owned())
    }

    fn add_source(&mut self, source: Source) -> Lowered<SourceId> {
        let id = SourceId::try_from(self.arena.sources.len())
            .map_err(|_| "too many tables".to_owned())?;
        self.arena.sources.push(source);
        Ok(id)
    }

    /// A parser's span as positions of the statement.
    fn span(&self, of: sqlparser::tokenizer::Span) -> Span {
        self.text.view.or_else(|| parse::span(of)).unwrap_or_default()
    }

    /// From `start` to the end of what the token there opens: before the `)` that closes around it, or
    /// the end of the text.
    fn span_from(&self, start: u32) -> Span {
        let Text { sql: text, tokens, view, .. } = self.text;
        if let Some(view) = view {
            return view;
        }
        let mut depth = 0;
        let mut end = start;
        for token in tokens.get(tokens::index_at(tokens, start)..).unwrap_or_default() {
            depth += tokens::depth_step(*token, text);
            if depth < 0 || token.is(text, ";") {
                break;
            }
            end = token.end;
        }
        Span { start, end }
    }
}

/// Forms of other databases, which the parser knows and PostgreSQL refuses.
fn foreign<T>(what: &str) -> Lowered<T> {
    Err(format!("PostgreSQL does not know {what}"))
}

/// Not lowered yet.
fn unsupported<T>(what: &str) -> Lowered<T> {
    Err(format!("{what} is not understood here"))
}
