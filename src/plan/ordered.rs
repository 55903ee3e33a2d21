//! Rule *many* with ORDER BY, LIMIT or OFFSET: each shard sorts and cuts off its own rows, the proxy merges them.
//!
//! Main types: [`Shape`], compiled once for a statement's shape; [`Merge`], what one execution needs; [`Worker`], what
//! each shard is asked. A shard's statement has the sort keys in front of the output (they come in binary, and are
//! cut off again), sorts by them, and gives as many rows as OFFSET and LIMIT together ask for.
//!
//! Keys that are output columns are put in front of the statement as a whole, a sub-select then: in its own output
//! list they would make PostgreSQL form each row anew before it is sorted, most of them for a LIMIT in vain. Where
//! the client wants them in a format whose order is known here they need not be put anywhere: the rows are merged by
//! the client's own columns, and PostgreSQL forms no row anew at all. (That costs a shard a tenth of its time for
//! large answers; and where it compiles the expression, each parallel worker of the session loads LLVM from then on.)
//!
//! Why it is exact: the rows are the union of the shards' rows ([`super::many`]); each shard sorts its own by
//! PostgreSQL's order; and two rows are compared here only by types whose order is PostgreSQL's own
//! ([`Order::of`]). A bare name in ORDER BY is an output's if there is one of that name, a bare number is an
//! output's number, and everything else is an expression over FROM (manual, "ORDER BY Clause"), which means the
//! same in the output list. What is not plainly so is left to the other ways.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use super::combine::is_renamed;
use super::text::{Bounds, Clauses, Text};
use super::{Inputs, Workspace};
use crate::datum::order::{Key, KeyColumns, Order};
use crate::datum::{Format, Oid, oid};
use crate::map::ShardId;
use crate::sql::ir::{Analysis, Block, BlockKind, ColumnRef, Expr, SourceKind, Span};
use crate::sql::keywords::is_reserved;
use crate::sql::quote::quote_identifier;
use crate::sql::tokens::{Token, TokenKind, tokenize};

/// What sort keys are called, before their number.
const KEY: &str = "pgmeridian_key_";

/// What the statement is called where the keys stand around it.
const ROWS: &str = "pgmeridian_rows";

/// Derived tables nested deeper than this are not looked through.
const NESTING_MAX: u32 = 32;

/// What one execution needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// What each shard is asked.
    pub(super) workers: Workers,
    /// What some of them are asked instead, while a key is frozen.
    pub(super) apart: Vec<(ShardId, Workers)>,
    /// The sort keys.
    pub keys: Vec<Sort>,
    /// How many columns the client asked for.
    pub visible: usize,
    /// OFFSET.
    pub skip: u64,
    /// LIMIT.
    pub take: Option<u64>,
    /// WITH TIES.
    pub ties: bool,
    /// The keys' types are known to have an order here, and no column's type is user-defined.
    pub certain: bool,
    /// How it is done if they turn out to have none.
    pub fallback: Option<Arc<Workspace>>,
}

/// The two ways to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workers {
    /// With the sort keys in front.
    pub(super) keyed: Worker,
    /// As it is: the keys are columns of the client's.
    pub(super) plain: Option<Worker>,
}

/// What each shard is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// The statement.
    pub sql: String,
    /// Where the sort keys are in its rows.
    pub columns: KeyColumns,
    /// What they are called there.
    names: Vec<String>,
    /// Where parts of the client's text stand in the statement, by their bytes.
    pieces: Vec<Piece>,
}

/// A sort key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST.
    pub nulls_first: bool,
    /// Its type, if that is known.
    known: Option<Oid>,
    /// Its collation, if it has one, compares bytes.
    bytewise: bool,
    /// Texts come in the encoding in which the shards compare them.
    as_stored: bool,
}

impl Sort {
    /// How values of a type that come in a format are compared.
    pub fn order(&self, type_oid: Oid, format: Format) -> Option<Key> {
        let order = match format {
            Format::Binary => Order::of(type_oid, self.bytewise),
            Format::Text => Order::of_text(type_oid, self.bytewise),
        };
        let order = order.filter(|_| self.as_stored || !is_text(type_oid));
        let Self { descending, nulls_first, .. } = *self;
        Some(Key { order: order?, descending, nulls_first })
    }
}

/// A part of the client's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    new: usize,
    old: usize,
    length: usize,
}

/// A SELECT whose rows are the union of the shards' rows, and which sorts them or takes some.
#[derive(Debug)]
pub(super) struct Shape {
    outputs: Vec<Output>,
    /// What FROM has: qualifier and column names, with types.
    columns: Vec<(String, String, Option<Known>)>,
}

#[derive(Debug)]
struct Output {
    name: String,
    /// The column that it is, as SQL.
    sql: Option<String>,
    known: Option<Known>,
}

impl Output {
    fn is_built_in(&self) -> bool {
        self.known.is_some_and(|(oid, _)| oid < oid::FIRST_NORMAL)
    }
}

/// A column's type, and whether its collation compares bytes.
type Known = (Oid, bool);

impl Shape {
    /// The root of a statement as such a SELECT; `None` if it neither sorts nor takes some, nor has a column of a
    /// user-defined type (whose OID may be another one on each shard, which has to be seen to first).
    pub(super) fn compile(analysis: &Analysis) -> Option<Self> {
        let root = analysis.blocks.get(analysis.root as usize)?;
        let BlockKind::Select(select) = &root.kind else { return None };
        let mut columns = Vec::new();
        for (id, source) in (0..).zip(&analysis.sources) {
            if source.block != analysis.root || is_renamed(source, analysis) {
                continue;
            }
            let names = names_of(analysis, id);
            for (column, name) in (0..).zip(names) {
                let known = known(analysis, ColumnRef { source: id, column }, 0);
                columns.push((source.name.clone(), name, known));
            }
        }
        let outputs = root.output.iter().map(|output| Output {
            name: output.name.clone(),
            sql: match &output.expr {
                Expr::Column(column) => qualified(analysis, *column),
                _ => None,
            },
            known: match &output.expr {
                Expr::Column(column) => known(analysis, *column, 0),
                _ => None,
            },
        });
        let outputs: Vec<Output> = outputs.collect();
        let user = |output: &Output| output.known.is_some() && !output.is_built_in();
        (select.order_by || select.limit || outputs.iter().any(user))
            .then_some(Self { outputs, columns })
    }

    /// Plans one execution; `None` if the statement is of a form that is not known here, or sorts by what has no
    /// order here.
    pub(super) fn plan(&self, inputs: &Inputs<'_>) -> Option<Merge> {
        let tokens = tokenize(inputs.text, Some(inputs.literals)).ok()?;
        let text = Text { tokens: &tokens, inputs };
        let clauses = text.clauses()?;
        if clauses.distinct || clauses.group.is_some() || clauses.having.is_some() {
            return None;
        }
        let bounds = match &clauses.limit {
            Some(limit) => text.bounds(limit.clone())?,
            None => Bounds::default(),
        };
        if let Some(merge) = self.around(&text, &clauses, &bounds) {
            return Some(merge);
        }
        let mut out = Spliced::of(inputs.text);
        let select = clauses.select.clone();
        out.up_to(text.token(select.start)?.start);
        let mut keys = Vec::new();
        let mut certain = self.outputs.iter().all(Output::is_built_in);
        let mut order = String::new();
        let items = clauses.order.clone().map(|order| text.items(order)).unwrap_or_default();
        for (n, item) in (1..).zip(items) {
            let (expression, direction) = split_direction(&text, item)?;
            let (source, known) = self.key(&text, &select, expression)?;
            let sort = sort(&text, n, direction, known, &mut order);
            if let Some((oid, _)) = known {
                sort.order(oid, Format::Binary)?;
            }
            certain &= known.is_some();
            out.sql.push_str(if n == 1 { "(" } else { ", (" });
            match source {
                Source::Written(range) => out.copy(text.bytes(range)?),
                Source::Column(sql) => out.sql.push_str(&sql),
            }
            let _ = write!(out.sql, ") AS {KEY}{n}");
            keys.push(sort);
        }
        match (keys.is_empty(), select.is_empty()) {
            (true, _) => {}
            // A row without columns.
            (false, true) => out.sql.push(' '),
            (false, false) => out.sql.push_str(", "),
        }
        if let Some(range) = &clauses.order {
            out.replace(text.bytes(range.clone())?, order.trim_end());
        }
        if let Some(range) = &clauses.limit {
            out.replace(text.bytes(range.clone())?, &bounds.for_a_shard()?);
        }
        out.up_to(u32::try_from(inputs.text.len()).ok()?);
        out.sql.truncate(out.sql.trim_end().len());
        let keyed = out.with_keys_in_front(keys.len());
        Some(self.merge(keyed, None, keys, &bounds, certain))
    }

    fn merge(
        &self,
        keyed: Worker,
        plain: Option<Worker>,
        keys: Vec<Sort>,
        bounds: &Bounds,
        certain: bool,
    ) -> Merge {
        Merge {
            workers: Workers { keyed, plain },
            apart: Vec::new(),
            keys,
            visible: self.outputs.len(),
            skip: bounds.offset,
            take: bounds.limit,
            ties: bounds.ties,
            certain,
            fallback: None,
        }
    }

    /// The same where every key is an output column of built-in type whose name means it alone: the statement stays
    /// as it is but for its bounds, with the keys around it if need be.
    fn around(&self, text: &Text<'_>, clauses: &Clauses, bounds: &Bounds) -> Option<Merge> {
        let items = text.items(clauses.order.clone()?);
        let (mut list, mut order, mut keys) = (String::new(), String::new(), Vec::new());
        let (mut at, mut names) = (Vec::new(), Vec::new());
        for (n, item) in (1..).zip(items) {
            let (expression, direction) = split_direction(text, item)?;
            let column = self.output_column(text, expression)?;
            let output = self.outputs.get(column)?;
            let sort = sort(text, n, direction, output.known, &mut order);
            sort.order(output.known?.0, Format::Binary)?;
            let name = quote_identifier(&output.name);
            let _ = write!(list, "{ROWS}.{name} AS {KEY}{n}, ");
            keys.push(sort);
            at.push(column);
            names.push(name);
        }
        let certain = self.outputs.iter().all(Output::is_built_in);
        let bounded = |out: &mut Spliced<'_>| -> Option<()> {
            if let Some(range) = &clauses.limit {
                out.replace(text.bytes(range.clone())?, &bounds.for_a_shard()?);
            }
            let semicolon = text.tokens.last()?.is(text.sql(), ";");
            let end = text.tokens.len() - usize::from(semicolon);
            out.up_to(text.bytes(0..end)?.end.try_into().ok()?);
            Some(())
        };
        let mut out = Spliced::of(text.sql());
        let _ = write!(out.sql, "SELECT {list}{ROWS}.* FROM (");
        bounded(&mut out)?;
        let _ = write!(out.sql, ") AS {ROWS} ORDER BY {}", order.trim_end());
        let keyed = out.with_keys_in_front(keys.len());
        let mut plain = None;
        if certain && self.come_early(&at) {
            let mut out = Spliced::of(text.sql());
            bounded(&mut out)?;
            let columns = KeyColumns { at, hidden: 0 };
            plain = Some(Worker { sql: out.sql, columns, names, pieces: out.pieces });
        }
        Some(self.merge(keyed, plain, keys, bounds, certain))
    }

    /// No value in front of these columns is large: a row is passed on once its keys are there, while the rest of it
    /// is still to come.
    fn come_early(&self, keys: &[usize]) -> bool {
        let before = keys.iter().copied().max().unwrap_or(0);
        let small = |(at, output): (usize, &Output)| {
            keys.contains(&at) || output.known.is_some_and(|(oid, _)| is_small(oid))
        };
        self.outputs.iter().enumerate().take(before).all(small)
    }

    /// The output that an item of ORDER BY is, if that is a column of FROM and has its name to itself.
    fn output_column(&self, text: &Text<'_>, item: Range<usize>) -> Option<usize> {
        let sql = text.sql();
        let tokens = item.map(|at| text.token(at)).collect::<Option<Vec<_>>>()?;
        let mut columns = self.outputs.iter().enumerate().filter(|(_, o)| o.sql.is_some());
        let at = match &*tokens {
            [number] if matches!(number.kind, TokenKind::Number(_)) => {
                number.text(sql).parse::<usize>().ok()?.checked_sub(1)?
            }
            [name] => {
                let name = plain_name(*name, sql)?;
                columns.find(|(_, output)| output.name == name)?.0
            }
            [table, dot, column] if dot.is(sql, ".") => {
                let column = format!(
                    "{}.{}",
                    quote_identifier(&table.name(sql)?),
                    quote_identifier(&column.name(sql)?)
                );
                columns.find(|(_, output)| output.sql.as_ref() == Some(&column))?.0
            }
            _ => return None,
        };
        let output = self.outputs.get(at).filter(|output| output.sql.is_some())?;
        // A name that can't be told may be any.
        let may_be = |other: &&Output| other.name.is_empty() || other.name == output.name;
        let alone = !output.name.is_empty() && self.outputs.iter().filter(may_be).count() == 1;
        alone.then_some(at)
    }

    /// What an item of ORDER BY stands for, and its type if that is known.
    fn key(
        &self,
        text: &Text<'_>,
        select: &Range<usize>,
        item: Range<usize>,
    ) -> Option<(Source, Option<Known>)> {
        let first = text.token(item.start)?;
        let sql = text.sql();
        if item.len() == 1 && matches!(first.kind, TokenKind::Number(_)) {
            let n: usize = first.text(sql).parse().ok()?;
            return self.output(text, select, n.checked_sub(1)?);
        }
        // A constant that is no number is an error.
        if item.len() == 1 && !matches!(first.kind, TokenKind::Word | TokenKind::Quoted) {
            return None;
        }
        let written = Source::Written(item.clone());
        if let (1, Some(_)) = (item.len(), first.name(sql)) {
            let name = plain_name(first, sql)?;
            if self.outputs.iter().any(|output| output.name.is_empty()) {
                return None;
            }
            let mut named = self.outputs.iter().enumerate().filter(|(_, o)| o.name == name);
            return match (named.next(), named.next()) {
                (Some((at, _)), None) => self.output(text, select, at),
                (Some(_), Some(_)) => None,
                (None, _) => Some((written, self.known(None, &name))),
            };
        }
        if let [table, dot, column] = &*item.map(|at| text.token(at)).collect::<Option<Vec<_>>>()?
            && dot.is(sql, ".")
        {
            let (table, column) = (table.name(sql)?, column.name(sql)?);
            return Some((written, self.known(Some(&table), &column)));
        }
        Some((written, None))
    }

    /// An output, as an expression.
    fn output(
        &self,
        text: &Text<'_>,
        select: &Range<usize>,
        at: usize,
    ) -> Option<(Source, Option<Known>)> {
        let output = self.outputs.get(at)?;
        if let Some(sql) = &output.sql {
            return Some((Source::Column(sql.clone()), output.known));
        }
        let items = text.items(select.clone());
        if items.len() != self.outputs.len() {
            return None;
        }
        let item = text.without_alias(items.get(at)?.clone())?;
        Some((Source::Written(item), output.known))
    }

    /// The type of a column of FROM.
    fn known(&self, table: Option<&str>, column: &str) -> Option<Known> {
        let mut found = self.columns.iter().filter(|(qualifier, name, _)| {
            name == column && table.is_none_or(|table| table == qualifier)
        });
        let (_, _, first) = found.next()?;
        // Those of USING have one type.
        found.all(|(_, _, other)| other == first).then_some(*first)?
    }
}

/// A name that is no reserved word: `user` is a function.
fn plain_name(token: Token, sql: &str) -> Option<String> {
    let name = token.name(sql)?;
    (token.kind != TokenKind::Word || !is_reserved(&name)).then_some(name)
}

/// What a sort key is made of.
enum Source {
    /// Tokens of the statement.
    Written(Range<usize>),
    /// A column, as SQL.
    Column(String),
}

/// How the n-th key sorts; its item of ORDER BY is added to `order`.
fn sort(
    text: &Text<'_>,
    n: usize,
    direction: Range<usize>,
    known: Option<Known>,
    order: &mut String,
) -> Sort {
    let words = text.lower_words(direction);
    let descending = words.first().is_some_and(|word| word == "desc");
    let nulls_first = match words.last().map(String::as_str) {
        Some("first") => true,
        Some("last") => false,
        _ => descending,
    };
    let separator = if order.is_empty() { "" } else { ", " };
    // Writing to a String can't fail.
    let _ = write!(order, "{separator}{n} {}", words.join(" "));
    let bytewise = known.is_some_and(|(_, bytewise)| bytewise);
    let as_stored = text.inputs.utf8;
    Sort { descending, nulls_first, known: known.map(|(oid, _)| oid), bytewise, as_stored }
}

/// Types whose values a server converts to the client's encoding.
fn is_text(type_oid: Oid) -> bool {
    matches!(type_oid, oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME)
}

/// Types all of whose values are small, in either format.
fn is_small(type_oid: Oid) -> bool {
    matches!(
        type_oid,
        oid::BOOL | oid::INT2 | oid::INT4 | oid::INT8 | oid::UUID | oid::NAME
            // "char", oid, float4, float8, money
            | 18 | 26 | 700 | 701 | 790
            // date, time, timestamp, timestamptz, interval, timetz
            | 1082 | 1083 | 1114 | 1184 | 1186 | 1266
    )
}

/// Cuts `ASC`, `DESC`, `NULLS FIRST`, `NULLS LAST` off; `None` for USING.
fn split_direction(text: &Text<'_>, item: Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
    let mut end = item.end;
    let is = |at: Option<usize>, words: &[&str]| {
        at.is_some_and(|at| words.iter().any(|word| text.is_word(at, word)))
    };
    if is(end.checked_sub(1), &["first", "last"]) && is(end.checked_sub(2), &["nulls"]) {
        end -= 2;
    }
    if is(end.checked_sub(1), &["asc", "desc"]) {
        end -= 1;
    }
    let using = (item.start..end).any(|at| text.is_word(at, "using"));
    (end > item.start && !using).then_some((item.start..end, end..item.end))
}

/// The names of a source's columns.
fn names_of(analysis: &Analysis, source: u32) -> Vec<String> {
    match analysis.sources.get(source as usize).map(|source| &source.kind) {
        Some(SourceKind::Table(table)) => table.columns.iter().map(|c| c.name.clone()).collect(),
        Some(SourceKind::Derived(block)) => {
            let outputs = analysis.blocks.get(*block as usize).map(|block| &block.output);
            outputs.into_iter().flatten().map(|output| output.name.clone()).collect()
        }
        _ => Vec::new(),
    }
}

/// A column as SQL, if its name means it alone.
fn qualified(analysis: &Analysis, column: ColumnRef) -> Option<String> {
    let source = analysis.sources.get(column.source as usize)?;
    let alike = analysis
        .sources
        .iter()
        .filter(|other| other.block == analysis.root && other.name == source.name);
    if source.block != analysis.root || alike.count() != 1 || is_renamed(source, analysis) {
        return None;
    }
    let names = names_of(analysis, column.source);
    let name = names.get(usize::from(column.column)).filter(|name| !name.is_empty())?;
    let alone = names.iter().filter(|other| *other == name).count() == 1;
    alone.then(|| format!("{}.{}", quote_identifier(&source.name), quote_identifier(name)))
}

/// A column's type, looked for through derived tables.
fn known(analysis: &Analysis, column: ColumnRef, depth: u32) -> Option<Known> {
    if depth >= NESTING_MAX {
        return None;
    }
    match &analysis.sources.get(column.source as usize)?.kind {
        SourceKind::Table(table) => {
            let found = table.columns.get(usize::from(column.column))?;
            (found.type_oid != 0).then_some((found.type_oid, found.bytewise))
        }
        SourceKind::Derived(block) => {
            let block: &Block = analysis.blocks.get(*block as usize)?;
            match (&block.kind, &block.output.get(usize::from(column.column))?.expr) {
                (BlockKind::Select(_), Expr::Column(inner)) => known(analysis, *inner, depth + 1),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A text that is made of another one's parts.
struct Spliced<'t> {
    text: &'t str,
    sql: String,
    /// Up to here the old text is copied.
    done: usize,
    pieces: Vec<Piece>,
}

impl<'t> Spliced<'t> {
    fn of(text: &'t str) -> Self {
        Self { text, sql: String::new(), done: 0, pieces: Vec::new() }
    }

    /// The finished statement, whose first columns are the sort keys.
    fn with_keys_in_front(self, keys: usize) -> Worker {
        let names = (1..=keys).map(|n| format!("{KEY}{n}")).collect();
        Worker { sql: self.sql, columns: KeyColumns::hidden(keys), names, pieces: self.pieces }
    }

    /// Copies the old text up to a place.
    fn up_to(&mut self, end: u32) {
        let (start, end) = (self.done, end as usize);
        self.copy(start..end);
        self.done = end;
    }

    /// Copies a part of the old text.
    fn copy(&mut self, part: Range<usize>) {
        let piece = Piece { new: self.sql.len(), old: part.start, length: part.len() };
        self.sql.push_str(self.text.get(part).unwrap_or_default());
        self.pieces.push(piece);
    }

    /// Copies the old text up to a part that something else takes the place of.
    fn replace(&mut self, part: Range<usize>, new: &str) {
        let (start, end) = (self.done, part.start);
        self.copy(start..end);
        self.sql.push_str(new);
        self.done = part.end;
    }
}

impl Worker {
    /// Where in the client's text a place of [`Worker::sql`] is; both are counted in characters from 1, as in
    /// error messages.
    pub fn original_position(&self, text: &str, position: usize) -> Option<usize> {
        let (at, _) = self.sql.char_indices().nth(position.checked_sub(1)?)?;
        let piece = self.pieces.iter().find(|p| (p.new..p.new + p.length).contains(&at))?;
        let before = text.get(..piece.old + (at - piece.new))?;
        Some(before.chars().count() + 1)
    }

    /// The same with changes of the client's text, each in every part of it that has its place; `None` if it has none,
    /// or is not whole there.
    fn with(&self, changes: &[(Span, String)]) -> Option<Self> {
        let mut out = Self { sql: String::new(), pieces: Vec::new(), ..self.clone() };
        let mut done = 0;
        let mut made = vec![false; changes.len()];
        // In the order of their places in this text, which they were made in.
        for piece in &self.pieces {
            out.sql.push_str(self.sql.get(done..piece.new).unwrap_or_default());
            let (mut old, end) = (piece.old, piece.old + piece.length);
            for ((span, new), made) in changes.iter().zip(&mut made) {
                let (from, to) = (span.start as usize, span.end as usize);
                if to <= piece.old || from >= end {
                    continue;
                }
                if from < old || to > end {
                    return None;
                }
                out.copy_of(self, piece, old..from)?;
                out.sql.push_str(new);
                old = to;
                *made = true;
            }
            out.copy_of(self, piece, old..end)?;
            done = piece.new + piece.length;
        }
        out.sql.push_str(self.sql.get(done..).unwrap_or_default());
        // A name's schema may stand where the text was replaced.
        let whole = changes.iter().zip(&made).all(|((_, new), made)| *made || new.is_empty());
        whole.then_some(out)
    }

    /// Appends a part of another's piece, by its place in the client's text.
    fn copy_of(&mut self, other: &Self, piece: &Piece, part: Range<usize>) -> Option<()> {
        let at = piece.new + (part.start - piece.old);
        // Blanks at the end were cut off.
        let end = other.sql.len();
        let text = other.sql.get(at.min(end)..(at + part.len()).min(end))?;
        self.pieces.push(Piece { new: self.sql.len(), old: part.start, length: part.len() });
        self.sql.push_str(text);
        Some(())
    }

    /// The statement becomes another one, whose places are no longer those of the client's text.
    pub(super) fn rewrite(&mut self, sql: String) {
        self.sql = sql;
        self.pieces.clear();
    }
}

impl Workers {
    /// The same with changes of the client's text, which are in order; `None` if there is no place for them.
    fn with(&self, changes: &[(Span, String)]) -> Option<Self> {
        let plain = match &self.plain {
            Some(plain) => Some(plain.with(changes)?),
            None => None,
        };
        Some(Self { keyed: self.keyed.with(changes)?, plain })
    }
}

impl Merge {
    /// With other changes of the client's text for some shards; `None` if there is no place for them.
    pub(super) fn with_apart(mut self, apart: &[(ShardId, Vec<(Span, String)>)]) -> Option<Self> {
        let changed = |(shard, changes): &(ShardId, Vec<(Span, String)>)| {
            Some((*shard, self.workers.with(changes)?))
        };
        self.apart = apart.iter().map(changed).collect::<Option<_>>()?;
        Some(self)
    }

    /// What a shard is asked for a client that wants its columns in these formats. All shards' rows have the same
    /// columns.
    pub fn worker(&self, shard: ShardId, formats: impl Fn(usize) -> Format) -> &Worker {
        let apart = self.apart.iter().find(|(own, _)| *own == shard);
        let workers = apart.map_or(&self.workers, |(_, workers)| workers);
        let plain = workers.plain.as_ref().filter(|plain| {
            self.keys.iter().zip(&plain.columns.at).all(|(key, at)| {
                key.known.is_some_and(|oid| key.order(oid, formats(*at)).is_some())
            })
        });
        plain.unwrap_or(&workers.keyed)
    }

    /// The same where all columns are wanted as text.
    pub fn text_worker(&self, shard: ShardId) -> &Worker {
        self.worker(shard, |_| Format::Text)
    }

    /// All shards are asked the same.
    pub fn asks_alike(&self) -> bool {
        self.apart.is_empty()
    }

    /// Everything that any shard is asked.
    pub(super) fn workers_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        let apart = self.apart.iter_mut().map(|(_, workers)| workers);
        let all = std::iter::once(&mut self.workers).chain(apart);
        all.flat_map(|workers| std::iter::once(&mut workers.keyed).chain(&mut workers.plain))
    }

    /// What the sort keys are called where all columns are wanted as text.
    fn names(&self) -> &[String] {
        &self.text_worker(ShardId(u16::MAX)).names
    }

    /// The shards' rows one after the other are the answer.
    pub fn is_concatenation(&self) -> bool {
        self.keys.is_empty() && self.skip == 0 && self.take.is_none()
    }

    /// What is done with the shards' rows, for people.
    pub fn steps(&self) -> Vec<String> {
        let mut steps = Vec::new();
        if self.keys.is_empty() {
            steps.push("concatenate".to_owned());
        } else {
            let direction = |(key, name): (&Sort, &String)| {
                let way = if key.descending { "DESC" } else { "ASC" };
                let nulls = if key.nulls_first { "FIRST" } else { "LAST" };
                format!("{name} {way} NULLS {nulls}")
            };
            let names = self.names();
            let keys: Vec<String> = self.keys.iter().zip(names).map(direction).collect();
            steps.push(format!("merge by {}", keys.join(", ")));
        }
        if self.skip > 0 {
            steps.push(format!("skip {}", self.skip));
        }
        if let Some(take) = self.take {
            let ties = if self.ties { " with ties" } else { "" };
            steps.push(format!("take {take}{ties}"));
        }
        steps
    }
}
