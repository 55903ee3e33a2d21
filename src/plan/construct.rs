//! Constructs that make the shards' answers differ from the union of their rows, and why: what is refused of reads
//! over several shards, and what a workspace is for.

/// A construct that makes the shards' answers differ from the union of their rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Construct {
    /// `SELECT DISTINCT name FROM users`: the same name may be on two shards.
    Distinct,
    /// `SELECT status, count(*) FROM orders GROUP BY status`: a group has rows on several shards.
    GroupBy,
    /// `SELECT count(*) FROM users`: each shard would count its own.
    Aggregate,
    /// `SELECT row_number() OVER () FROM users`: a window has rows on several shards.
    Window,
    /// `SELECT * FROM users ORDER BY id`: the shards' rows would have to be merged.
    OrderBy,
    /// `SELECT * FROM users LIMIT 5`: each shard would give five.
    Limit,
    /// `SELECT * FROM users FOR UPDATE`: locks on several shards.
    RowLocks,
    /// `SELECT * FROM users TABLESAMPLE SYSTEM (10)`.
    Sample,
    /// `SELECT unnest(tags) FROM users`.
    SetReturningOutput,
    /// `SELECT id FROM users UNION SELECT id FROM admins`.
    SetOperation,
    /// `WITH RECURSIVE …`.
    Recursive,
    /// A data-modifying statement in WITH.
    WritingCte,
    /// `FROM users, generate_series(1, 3)`.
    FunctionInFrom,
    /// `FROM users, pg_class`.
    SystemCatalog,
    /// A table that lives on one shard only.
    SingleTable(String),
    /// A table that isn't in the catalog.
    UnknownTable(String),
    /// `now()`, `random()`, `nextval('s')`: each shard has its own.
    Function(String),
    /// Two sharded tables that are not equal on the key.
    NotColocated(String, String),
    /// `plans LEFT JOIN users`: each shard would add the plans that have no user *there*.
    PreservedReference,
    /// A sub-select that picks rows of a reference table in an order of its own.
    PickedReference(String),
    /// The table has rows that are on every shard: they would come once from each.
    Everywhere(String),
    /// A view's, sub-select's or CTE's rows don't come one by one from one sharded table.
    Derived(String),
}

/// They come as calls whose value no column says.
pub(super) fn is_system_column(name: &str) -> bool {
    matches!(name, "ctid" | "xmin" | "xmax" | "cmin" | "cmax" | "tableoid")
}

impl Construct {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Distinct => "DISTINCT".into(),
            Self::GroupBy => "GROUP BY".into(),
            Self::Aggregate => "an aggregate".into(),
            Self::Window => "a window function".into(),
            Self::OrderBy => "ORDER BY".into(),
            Self::Limit => "LIMIT or OFFSET".into(),
            Self::RowLocks => "FOR UPDATE or FOR SHARE".into(),
            Self::Sample => "TABLESAMPLE".into(),
            Self::SetReturningOutput => "a set-returning function in the output list".into(),
            Self::SetOperation => "UNION, INTERSECT or EXCEPT".into(),
            Self::Recursive => "WITH RECURSIVE".into(),
            Self::WritingCte => "a data-modifying WITH".into(),
            Self::FunctionInFrom => "a function in FROM".into(),
            Self::SystemCatalog => "a join with a system catalog".into(),
            Self::SingleTable(table) => format!("a join with single-shard table \"{table}\""),
            Self::UnknownTable(table) => format!("a join with unknown table \"{table}\""),
            Self::Function(name) if is_system_column(name) => format!("system column {name}"),
            Self::Function(name) => format!("function {name}"),
            Self::NotColocated(a, b) if a == b => {
                format!("a query on table \"{a}\" twice, not joined on the sharding key,")
            }
            Self::NotColocated(a, b) => {
                format!("a query on tables \"{a}\" and \"{b}\", not joined on the sharding key,")
            }
            Self::PreservedReference => {
                "an outer join whose rows don't all come from one sharded table".into()
            }
            Self::PickedReference(what) => format!("{what} in a sub-select of reference tables"),
            Self::Everywhere(table) => format!("table \"{table}\", with rows on every shard,"),
            Self::Derived(what) => format!("a sub-select with {what}"),
        }
    }

    pub(super) fn why(&self) -> &'static str {
        match self {
            Self::Distinct
            | Self::GroupBy
            | Self::Aggregate
            | Self::Window
            | Self::SetOperation => {
                "Rows that belong together may be on several shards, and each shard would answer for its own."
            }
            Self::OrderBy | Self::Limit => {
                "The shards' rows would have to be merged in one order, which isn't done yet."
            }
            Self::Sample => "Each shard would pick of its own rows.",
            Self::RowLocks => "Rows would be locked on several shards in one statement.",
            Self::SetReturningOutput | Self::FunctionInFrom => {
                "The function's rows would come once from each shard."
            }
            Self::Recursive | Self::Derived(_) => {
                "Each shard would work on its own rows only, where the query means all of them."
            }
            Self::WritingCte => "It would write on several shards.",
            Self::SystemCatalog => "Each shard has catalogs of its own.",
            Self::SingleTable(_) | Self::UnknownTable(_) => "The table is not on the other shards.",
            Self::Function(name) if is_system_column(name) => "Each shard has its own.",
            Self::Function(_) => "Each shard would evaluate it for itself.",
            Self::NotColocated(..) => {
                "Rows that have to be joined may be on different shards. Tables are colocated where they \
                 are equal on every part of the key."
            }
            Self::PreservedReference => {
                "Each shard would add the rows that have no partner there, though they have one elsewhere."
            }
            Self::PickedReference(_) => "Each shard may pick other rows.",
            Self::Everywhere(_) => "Those rows would come once from each shard.",
        }
    }
}
