//! The analysed statement, in terms that planning needs: blocks, sources, joins, predicates.
//!
//! Everything is in arenas of one [`Analysis`]: a [`SourceId`] names one occurrence of a table (or of a
//! sub-select, a function, VALUES …) in the whole statement, so a [`ColumnRef`] means the same thing at
//! any depth, and a correlated reference needs nothing special. A CTE is lowered again for each
//! reference to it (as a derived source), so that each occurrence has its own context; one that nothing
//! refers to is in [`Block::unused_ctes`].

use std::sync::Arc;

use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use crate::catalog::{Table, Volatility};
use crate::datum::Oid;
use crate::sql::lexer::Literal;
use crate::sql::reshape::Reshaped;

/// Index of a block in [`Analysis::blocks`].
pub type BlockId = u32;
/// Index of a source in [`Analysis::sources`].
pub type SourceId = u32;
/// Number of a literal in the statement's shape, from 0, in text order.
pub type Slot = u16;

/// A byte range of the statement's own text (not of a hint or a neighbour in the same query string).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// What a statement turned out to be.
#[derive(Debug)]
pub enum Statement {
    /// SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE, MERGE: understood in full.
    Query(Analysis),
    /// EXPLAIN of one of those (PostgreSQL's own EXPLAIN).
    Explain {
        /// With ANALYZE the statement runs.
        analyze: bool,
        /// The explained statement.
        inner: Box<Statement>,
    },
    /// DECLARE … CURSOR.
    Declare {
        /// WITH HOLD.
        hold: bool,
        /// The cursor's query.
        inner: Box<Statement>,
    },
    /// CREATE TEMP TABLE … AS a query: its rows stay on the shard that they come from.
    CreateTemporary {
        /// The query.
        inner: Box<Statement>,
    },
    /// Schema definition and other utility statements, with the tables they name.
    Utility(Utility),
    /// What the parser can't read, or what has no place in the IR: never guessed at.
    Opaque(Opaque),
}

/// A statement that is not a query.
#[derive(Debug)]
pub struct Utility {
    /// Its command tag, `CREATE TABLE`.
    pub tag: &'static str,
    /// What it is.
    pub kind: UtilityKind,
    /// PostgreSQL does not run it in a transaction block (`PreventInTransactionBlock`).
    pub alone: bool,
    /// Tables of the catalog that it names (all identifiers that resolve are taken).
    pub tables: Vec<Arc<Table>>,
    /// The database that it is about: CREATE, ALTER, DROP DATABASE, GRANT … ON DATABASE of one.
    pub database: Option<String>,
    /// The tables that it makes others of.
    pub reshaped: Vec<Reshaped>,
    /// It makes a temporary object without saying so: `search_path` begins with `pg_temp`.
    pub temporary_by_path: bool,
    /// For a temporary view: functions that are not known to be built in and harmless.
    pub unknown_functions: Vec<String>,
    /// COPY FROM … WHERE, which may call anything.
    pub filters: bool,
}

/// What sort of utility statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UtilityKind {
    /// CREATE, ALTER, DROP, GRANT, COMMENT …: changes the schema.
    Definition,
    /// CREATE TEMP …: lives in the session.
    Temporary,
    /// CREATE TABLE AS, SELECT INTO, CREATE MATERIALIZED VIEW: makes a table from a query.
    TableFromQuery,
    /// CREATE/DROP DATABASE, ROLE, TABLESPACE, ALTER SYSTEM: cluster-wide.
    ClusterWide,
    /// TRUNCATE, which writes.
    Truncate,
    /// VACUUM, ANALYZE, REINDEX, CLUSTER, CHECKPOINT, REFRESH.
    Maintenance,
    /// LOCK TABLE.
    Lock,
    /// DO: code that can't be seen.
    Do,
    /// CALL: code that can't be seen.
    Call,
    /// COPY … FROM STDIN or a file.
    CopyFrom,
    /// COPY … TO STDOUT or a file, of a table.
    CopyTo,
    /// DECLARE CURSOR, with FETCH, MOVE, CLOSE.
    Cursor,
    /// SQL-level PREPARE, EXECUTE, DEALLOCATE.
    Prepared,
    /// LISTEN, UNLISTEN, NOTIFY.
    Notify,
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.
    TwoPhase,
    /// DISCARD.
    Discard,
    /// SHOW of a PostgreSQL setting.
    Show,
    /// SET and RESET of a PostgreSQL setting, SET ROLE, SET CONSTRAINTS …
    Set,
}

/// A statement that could not be read.
#[derive(Debug)]
pub struct Opaque {
    /// Why, for the detail of a refusal: `the parser does not know GROUPING SETS here`.
    pub reason: String,
    /// Every table of the catalog that an identifier of the statement could mean.
    pub tables: Vec<Arc<Table>>,
    /// The first keyword says that it only reads (SELECT, VALUES, TABLE, SHOW, EXPLAIN without ANALYZE)
    /// and no word in it is INSERT, UPDATE, DELETE, MERGE, INTO or a user-defined function.
    pub reads_only: bool,
    /// Identifiers followed by `(` that are not known built-in functions.
    pub unknown_functions: Vec<String>,
    /// The table that it writes, which the catalog does not know.
    pub unknown_target: Option<String>,
}

/// A query, INSERT, UPDATE, DELETE or MERGE.
#[derive(Debug)]
pub struct Analysis {
    /// The outermost block.
    pub root: BlockId,
    /// Every block: query blocks, set operations, VALUES lists, data-modifying statements.
    pub blocks: Vec<Block>,
    /// Every range-table entry of every block.
    pub sources: Vec<Source>,
    /// Every function call, at any depth.
    pub calls: Vec<Call>,
    /// Every call of `set_config`.
    pub settings: Vec<SettingCall>,
    /// The materialized views among the sources, with the tables that their rows were once read from.
    pub materialized: Vec<(SourceId, Vec<Arc<Table>>)>,
    /// The views that the statement's own text refers to.
    pub views: Vec<ViewUse>,
    /// Columns that an expression, `*` or USING refers to, views' definitions included.
    pub used: FxHashSet<ColumnRef>,
    /// Something may refer to columns that [`Analysis::used`] does not have: a whole row, or a name that
    /// could not be told.
    pub uses_unclear: bool,
    /// `FOR UPDATE`, `FOR SHARE` … anywhere.
    pub locks_rows: bool,
    /// TABLESAMPLE anywhere.
    pub samples: bool,
    /// Highest `$n`.
    pub params: u16,
    /// The tokens of the text that was analysed. Every position here counts in that text; in another one of
    /// the same shape literals and blanks have other lengths, and only a token's number is the same.
    pub tokens: Vec<Span>,
    /// The literals of the text that was analysed, by slot.
    pub literals: Vec<Literal>,
}

impl Analysis {
    /// Everything that it sets can be told from the statement and its parameters.
    pub fn are_settings_told(&self) -> bool {
        let calls = self.calls.iter().filter(|call| call.kind == CallKind::Setting).count();
        calls == self.settings.len() && self.settings.iter().all(SettingCall::is_told)
    }
}

/// A view in FROM.
#[derive(Debug)]
pub struct ViewUse {
    /// The view.
    pub view: Arc<Table>,
    /// Where its name stands.
    pub span: Span,
    /// The name its columns are qualified with.
    pub name: String,
    /// An alias was written.
    pub aliased: bool,
    /// `ONLY v` was written.
    pub only: bool,
    /// Its definition, without what ends it.
    pub text: String,
    /// Its definition's own analysis: places in it count in [`ViewUse::text`].
    pub body: Box<Analysis>,
}

/// A function call.
#[derive(Debug, Clone)]
pub struct Call {
    /// As written, lower case, with its schema if that was written.
    pub name: String,
    /// What is known of it.
    pub kind: CallKind,
    /// Where the name stands.
    pub span: Span,
    /// The block it is evaluated in.
    pub block: BlockId,
}

/// `set_config(name, value, …)`, as far as its arguments are constants.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingCall {
    /// The setting's name.
    pub name: Option<Scalar>,
    /// Its value.
    pub value: Option<Scalar>,
    /// `is_local`.
    pub local: Option<bool>,
    /// It is evaluated once, if the statement succeeds: an output column of a SELECT without FROM.
    pub certain: bool,
    /// The name of its column, where the statement is nothing but such calls.
    pub column: Option<String>,
}

impl SettingCall {
    /// What it sets can be told from the statement and its parameters.
    pub fn is_told(&self) -> bool {
        self.certain && self.name.is_some() && self.value.is_some() && self.local.is_some()
    }
}

/// What is known of a called function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Built in, and it depends on its arguments alone.
    Pure,
    /// Built in, stable or volatile by the clock: `now()`, `current_timestamp`, `clock_timestamp()` …
    Time,
    /// Built in, stable: it reads settings or the catalog (`current_user`, `to_char`, `pg_typeof` …).
    Stable,
    /// Built in and volatile without further effect: `random()`, `gen_random_uuid()`, `pg_sleep()`.
    Volatile,
    /// nextval, setval, currval, lastval.
    Sequence,
    /// Session- or transaction-level advisory locks.
    AdvisoryLock {
        /// It outlives the transaction.
        session: bool,
    },
    /// It changes the session: `set_config`.
    Setting,
    /// Built in, but it reads tables named in its arguments (`query_to_xml`, `ts_stat` …), or writes
    /// (`lo_*` …).
    ReadsTables,
    /// `pg_notify`: it is heard on the server that it runs on.
    Notifies,
    /// Built in: the size or place of what its arguments name, on the server that it runs on
    /// (`pg_table_size`, `pg_relation_filenode` …).
    Measures,
    /// User-defined, or unknown.
    User(Volatility),
}

/// A range-table entry.
#[derive(Debug)]
pub struct Source {
    /// What it is.
    pub kind: SourceKind,
    /// The name its columns are qualified with (alias or table name).
    pub name: String,
    /// Where the table's name (qualified as written) stands; for other kinds the whole entry if known.
    pub span: Span,
    /// Where `AS alias (columns)` ends if there is one, else `span.end`.
    pub end: u32,
    /// An alias was written.
    pub aliased: bool,
    /// `ONLY t`, `TABLE t` or `t TABLESAMPLE …` was written: a sub-select can't stand there.
    pub only: bool,
    /// `ONLY t` was written: its partitions and children are left out.
    pub alone: bool,
    /// It is written through a view, whose columns the statement names.
    pub through_view: bool,
    /// The block in whose FROM (or as whose target) it stands.
    pub block: BlockId,
}

/// What a range-table entry is.
#[derive(Debug)]
pub enum SourceKind {
    /// A table of the catalog (views are expanded to [`SourceKind::Derived`]).
    Table(Arc<Table>),
    /// A sub-select, a CTE reference or a view: column `i` is output `i` of the block.
    Derived(BlockId),
    /// `pg_catalog`, `information_schema`.
    SystemCatalog,
    /// A function in FROM, UNNEST, `generate_series`, a table sample, XMLTABLE …: rows out of arguments.
    Function,
    /// A recursive CTE's reference to itself.
    RecursiveSelf,
    /// A table that is not in the catalog (it may not exist; PostgreSQL will say so).
    Unknown(String),
}

/// A column of one occurrence of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnRef {
    /// The occurrence.
    pub source: SourceId,
    /// The column's index in the table, or the block's output.
    pub column: u16,
}

/// One query block or data-modifying statement.
#[derive(Debug)]
pub struct Block {
    /// The block it stands in; `None` for the outermost.
    pub parent: Option<BlockId>,
    /// What it is.
    pub kind: BlockKind,
    /// The output columns (of RETURNING for data-modifying blocks).
    pub output: Vec<Output>,
    /// Blocks of sub-selects in expressions (not in FROM), with where they stand.
    pub subqueries: Vec<Subquery>,
    /// CTE blocks that no reference uses; data-modifying ones run all the same.
    pub unused_ctes: Vec<BlockId>,
    /// Where the block's text stands, without a WITH before it; what follows a set operation's operand is part
    /// of its text. Within a view: where the statement refers to it.
    pub span: Span,
}

/// A sub-select in an expression of a block.
#[derive(Debug, Clone, Copy)]
pub struct Subquery {
    /// The sub-select's block.
    pub block: BlockId,
    /// Where it stands.
    pub place: SubqueryPlace,
}

/// Where a sub-select stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubqueryPlace {
    /// In WHERE (or an inner join's ON): evaluated for rows that the other conjuncts restrict too.
    Filter,
    /// In ON of an outer join.
    OuterJoin,
    /// In the output, GROUP BY, HAVING, ORDER BY, SET, VALUES, RETURNING.
    Other,
    /// In LIMIT or OFFSET.
    Limit,
}

/// What a block is.
#[derive(Debug)]
pub enum BlockKind {
    /// SELECT.
    Select(Select),
    /// UNION, INTERSECT, EXCEPT of blocks with the same number of columns.
    SetOperation(SetOperation),
    /// VALUES rows.
    Values(Vec<Vec<Expr>>),
    /// INSERT.
    Insert(Insert),
    /// UPDATE.
    Update(Update),
    /// DELETE.
    Delete(Delete),
    /// MERGE.
    Merge(Merge),
}

/// A SELECT block.
#[derive(Debug, Default)]
pub struct Select {
    /// FROM.
    pub from: FromTree,
    /// WHERE.
    pub filter: Pred,
    /// DISTINCT.
    pub distinct: bool,
    /// DISTINCT ON.
    pub distinct_on: bool,
    /// GROUP BY items: a column, or something else (`None`).
    pub group_by: Vec<Option<ColumnRef>>,
    /// GROUPING SETS, CUBE, ROLLUP.
    pub grouping_sets: bool,
    /// It has an aggregate call of its own, or HAVING.
    pub aggregates: bool,
    /// HAVING.
    pub having: bool,
    /// It has window functions.
    pub windows: bool,
    /// A set-returning function in the output list.
    pub srf_in_output: bool,
    /// ORDER BY.
    pub order_by: bool,
    /// LIMIT, FETCH FIRST or OFFSET.
    pub limit: bool,
    /// FOR UPDATE, FOR SHARE …
    pub locks_rows: bool,
}

impl Select {
    /// Each row of the answer is one row of FROM.
    pub fn is_plain(&self) -> bool {
        !(self.distinct
            || self.distinct_on
            || !self.group_by.is_empty()
            || self.grouping_sets
            || self.aggregates
            || self.having
            || self.windows
            || self.srf_in_output)
    }
}

/// UNION, INTERSECT, EXCEPT.
#[derive(Debug)]
pub struct SetOperation {
    /// Which.
    pub operator: SetOperator,
    /// ALL.
    pub all: bool,
    /// Left operand.
    pub left: BlockId,
    /// Right operand.
    pub right: BlockId,
    /// Part of a recursive CTE.
    pub recursive: bool,
    /// ORDER BY on the whole.
    pub order_by: bool,
    /// LIMIT or OFFSET on the whole.
    pub limit: bool,
}

/// Which set operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOperator {
    /// UNION
    Union,
    /// INTERSECT
    Intersect,
    /// EXCEPT
    Except,
}

/// An output column of a block.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its name, as PostgreSQL would give it where that matters (alias, column name); may be empty.
    pub name: String,
    /// What it is: a column, a constant, or something else.
    pub expr: Expr,
}

/// A join tree.
#[derive(Debug, Default)]
pub enum FromTree {
    /// No FROM.
    #[default]
    Empty,
    /// One entry.
    Source(SourceId),
    /// A join. Comma-separated entries are inner joins on nothing ([`Pred::True`]); USING and NATURAL
    /// have become equalities.
    Join {
        /// Which.
        kind: JoinKind,
        /// Left side.
        left: Box<FromTree>,
        /// Right side.
        right: Box<FromTree>,
        /// ON.
        on: Pred,
    },
}

/// Which join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// INNER, CROSS and the comma.
    Inner,
    /// LEFT OUTER
    Left,
    /// RIGHT OUTER
    Right,
    /// FULL OUTER
    Full,
}

/// A predicate, as far as it can restrict a column. What isn't understood is [`Pred::Unknown`], which
/// restricts nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Pred {
    /// Every row (no WHERE).
    #[default]
    True,
    /// All of them.
    And(Vec<Pred>),
    /// One of them.
    Or(Vec<Pred>),
    /// `column = value`, with PostgreSQL's `=` of the column's type.
    Eq(ColumnRef, Scalar),
    /// `column = column`.
    EqColumns(ColumnRef, ColumnRef),
    /// `column IN (values)`; also `= ANY (ARRAY[…])`.
    In(ColumnRef, Vec<Scalar>),
    /// `column = ANY (array)` with one array value.
    EqAny(ColumnRef, Scalar),
    /// `column IN (SELECT …)`, `column = ANY (SELECT …)`: equal to output 0 of one row of the block.
    InQuery(ColumnRef, BlockId),
    /// `EXISTS (SELECT …)`.
    Exists(BlockId),
    /// `lower <= column <= upper`, either bound may be missing.
    Range {
        /// The column.
        column: ColumnRef,
        /// Lower bound; the flag says inclusive.
        lower: Option<(Scalar, bool)>,
        /// Upper bound; the flag says inclusive.
        upper: Option<(Scalar, bool)>,
    },
    /// `column IS NULL`.
    IsNull(ColumnRef),
    /// A row comparison's or row IN's alternatives are lowered to And/Or of the above; anything else.
    Unknown,
}

/// A constant as far as the statement's text shows it.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// Literal number `n` of the shape.
    Literal(Slot),
    /// `- literal`.
    Negative(Slot),
    /// `$n`, counted from 0.
    Param(u16),
    /// `NULL`.
    Null,
    /// A cast of one of the others to a named built-in type.
    Cast(Box<Scalar>, Oid),
    /// `40 + 2`, of whatever types.
    Arithmetic(Box<Arithmetic>),
}

/// Two constants with an operator between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Arithmetic {
    /// The operator.
    pub operator: ArithmeticOperator,
    /// What stands on its left.
    pub left: Scalar,
    /// What stands on its right.
    pub right: Scalar,
}

/// An operator that is the same for every integer type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArithmeticOperator {
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Times,
}

/// A scalar expression, as far as planning cares.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A constant.
    Scalar(Scalar),
    /// A column, as it is.
    Column(ColumnRef),
    /// `excluded.column` of ON CONFLICT; the column's index in the target.
    Excluded(u16),
    /// DEFAULT.
    Default,
    /// Something else.
    Other,
}

/// INSERT.
#[derive(Debug)]
pub struct Insert {
    /// The target.
    pub target: SourceId,
    /// The target's columns that get values, in order (the first ones of the table if none were listed).
    pub columns: Vec<u16>,
    /// Where a column list's `)` stands; `None` when no columns were listed.
    pub columns_end: Option<u32>,
    /// What is inserted.
    pub rows: InsertRows,
    /// ON CONFLICT.
    pub on_conflict: OnConflict,
}

/// What an INSERT inserts.
#[derive(Debug)]
pub enum InsertRows {
    /// VALUES.
    Values(Vec<InsertRow>),
    /// A query's rows.
    Query(BlockId),
    /// DEFAULT VALUES.
    Defaults,
}

/// A row of an INSERT's VALUES.
#[derive(Debug, Default)]
pub struct InsertRow {
    /// The expressions.
    pub values: Vec<Expr>,
    /// Where its `)` stands.
    pub end: u32,
    /// Expressions that a value can be written in the place of: which, why, and where.
    pub open: Vec<(u16, Open, Span)>,
}

/// Why a value can be written in the place of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It is a call that makes a random UUID, by itself or cast.
    RandomUuid,
    /// It is DEFAULT.
    Default,
}

/// ON CONFLICT.
#[derive(Debug)]
pub enum OnConflict {
    /// None.
    Error,
    /// DO NOTHING.
    Nothing,
    /// DO UPDATE SET …, with its WHERE in the block's filter left out.
    Update(Vec<Assignment>),
}

/// `SET column = expr`.
#[derive(Debug)]
pub struct Assignment {
    /// The target's column.
    pub column: u16,
    /// The value.
    pub value: Expr,
}

/// UPDATE.
#[derive(Debug)]
pub struct Update {
    /// The target.
    pub target: SourceId,
    /// SET.
    pub assignments: Vec<Assignment>,
    /// The target joined (inner) with FROM.
    pub from: FromTree,
    /// WHERE.
    pub filter: Pred,
    /// Where WHERE's expression stands, for adding a conjunct.
    pub filter_span: Option<Span>,
    /// Where a new WHERE would be put.
    pub filter_insert: u32,
}

/// DELETE.
#[derive(Debug)]
pub struct Delete {
    /// The target.
    pub target: SourceId,
    /// The target joined (inner) with USING.
    pub from: FromTree,
    /// WHERE.
    pub filter: Pred,
    /// Where WHERE's expression stands, for adding a conjunct.
    pub filter_span: Option<Span>,
    /// Where a new WHERE would be put.
    pub filter_insert: u32,
}

/// MERGE.
#[derive(Debug)]
pub struct Merge {
    /// The target.
    pub target: SourceId,
    /// `source LEFT JOIN target ON …`.
    pub from: FromTree,
    /// What happens to rows.
    pub actions: Vec<MergeAction>,
}

/// A WHEN clause of MERGE.
#[derive(Debug)]
pub enum MergeAction {
    /// INSERT (columns) VALUES (…).
    Insert {
        /// Target columns.
        columns: Vec<u16>,
        /// Values.
        values: Vec<Expr>,
    },
    /// UPDATE SET.
    Update(Vec<Assignment>),
    /// DELETE.
    Delete,
    /// DO NOTHING.
    Nothing,
}

/// A small list of columns.
pub type Columns = SmallVec<[u16; 2]>;
