//! Everything that is refused, which is also its documentation: what it is, an example, why, and what to
//! write instead.
//!
//! Main types: [`Refusal`], [`Construct`]. Message, detail, hint (`advice`) and SQLSTATE are total functions of the
//! variant. Nothing is refused in other words anywhere else in planning, except for values that
//! PostgreSQL itself would not read.

mod advice;

pub(super) use super::construct::Construct;
use super::database::NotInDatabase;
use super::schema::SchemaRefusal;
use crate::error::{SqlError, SqlState};
use crate::map::NoShard;

/// A statement that is refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Hint, session and statement lead to different shards:
    /// `/* pgmeridian: shard=deu */ SELECT * FROM users WHERE tenant_id = 1`, and 1 lives elsewhere.
    SourcesDisagree {
        /// One source and where it leads.
        one: String,
        /// The other.
        other: String,
    },
    /// `CREATE DATABASE bot_y` in a session of another database under `[[databases]]`.
    OtherDatabase {
        /// The command.
        tag: &'static str,
        /// The database.
        database: String,
        /// Its shard.
        shard: String,
    },
    /// `SET pgmeridian.shard = 'duo'`.
    UnknownShard {
        /// As written.
        name: String,
        /// The nearest name.
        nearest: Option<String>,
    },
    /// `SET pgmeridian.key = '42'`, and the map doesn't say which key a session has.
    NoSessionKey {
        /// The keys of the map.
        keys: Vec<String>,
    },
    /// `SET pgmeridian.key = 'x'` where the key is a bigint.
    BadKey {
        /// The key's name.
        key: String,
        /// PostgreSQL's own words.
        why: String,
    },
    /// A value that no rule places: `WHERE tenant_id = 999` where no range has 999.
    NoShard {
        /// What the map says.
        no_shard: NoShard,
        /// The table, if it is known.
        table: Option<String>,
    },
    /// A read of several shards whose answer is not the union of the shards' answers.
    SeveralShards {
        /// What makes it so.
        construct: Construct,
        /// The shards.
        shards: Vec<String>,
    },
    /// Tables whose rows are on different shards:
    /// `SELECT * FROM users u, orders o WHERE u.tenant_id = 1 AND o.tenant_id = 2`.
    DifferentShards {
        /// One table and where it is.
        one: (String, String),
        /// The other.
        other: (String, String),
    },
    /// Of keys that have a database each.
    NotInDatabase(NotInDatabase),
    /// `[policy] cross_shard_reads = "refuse"`.
    CrossShardReads {
        /// The shards.
        shards: Vec<String>,
    },
    /// `[policy] residency`.
    Residency {
        /// The region whose rows stay among themselves.
        region: String,
        /// A region that would be read with it.
        with: String,
    },
    /// A table that hangs on a lookup.
    Lookup {
        /// The table.
        table: String,
        /// The lookup.
        lookup: String,
    },
    /// A row of a table that hangs on a lookup, whose id leads to no known key.
    LookupMiss {
        /// The table.
        table: String,
        /// The id's column.
        column: String,
    },
    /// An assignment to an id that leads to a key.
    IdAssigned {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A table without a key under `[policy] unlisted_tables = "refuse"`.
    UnlistedTable {
        /// The table.
        table: String,
    },
    /// A table whose key column can't be used.
    UnusableTable {
        /// The table.
        table: String,
        /// Why.
        why: String,
    },
    /// `SELECT my_function()`: it may read any table.
    UserFunction {
        /// The function.
        name: String,
    },
    /// A function that `[functions]` declares `home`, with rows of another shard.
    HomeFunction {
        /// The function.
        name: String,
        /// The default shard.
        home: String,
    },
    /// A function that `[functions]` declares `all`.
    AllFunction {
        /// The function.
        name: String,
    },
    /// `SELECT query_to_xml('SELECT …')`.
    ReadingFunction {
        /// The function.
        name: String,
    },
    /// `SELECT set_config('search_path', 'app', false)`: it changes what later statements mean.
    SettingFunction {
        /// The setting, if it is known.
        name: Option<String>,
    },
    /// `SELECT set_config('work_mem', upper(x), false) FROM t`: the other shards would not know.
    SettingUntold {
        /// The setting.
        name: String,
    },
    /// `UPDATE users SET active = false`: rows of several shards.
    CrossShardWrite {
        /// UPDATE, DELETE, MERGE.
        command: &'static str,
        /// The table.
        table: String,
        /// The shards.
        shards: Vec<String>,
    },
    /// `INSERT INTO users (tenant_id, …) VALUES (1, …), (2, …)` on different shards.
    CrossShardInsert {
        /// The table.
        table: String,
        /// The shards.
        shards: Vec<String>,
    },
    /// `UPDATE plans SET …` where `plans` is a reference table.
    ReferenceWrite {
        /// The table.
        table: String,
    },
    /// `SET pgmeridian.shard = '*'; UPDATE plans SET changed = now()`.
    ReferenceDiverges {
        /// The table.
        table: String,
        /// What is not the same on every shard.
        what: String,
    },
    /// `INSERT INTO users (name) VALUES ('x')`.
    KeyMissing {
        /// The table.
        table: String,
        /// The key's column.
        column: String,
        /// Its default is a sequence.
        sequence: bool,
    },
    /// `INSERT INTO users (tenant_id) VALUES (NULL)`.
    KeyNull {
        /// The table.
        table: String,
        /// The key's column.
        column: String,
    },
    /// `INSERT INTO users (tenant_id) VALUES (1 + 1)`, or DEFAULT.
    KeyExpression {
        /// The table.
        table: String,
        /// The key's column.
        column: String,
        /// It is DEFAULT.
        default: bool,
        /// That is a sequence.
        sequence: bool,
    },
    /// `INSERT INTO archive SELECT * FROM users`, where the key's value can't be told.
    InsertQuery {
        /// The table.
        table: String,
        /// The key's column.
        column: String,
    },
    /// `UPDATE users SET tenant_id = 2 WHERE …`.
    KeyAssigned {
        /// The table.
        table: String,
        /// The key's column.
        column: String,
    },
    /// INSERT, UPDATE, DELETE of a view.
    ViewWrite {
        /// The view.
        view: String,
    },
    /// A write to a table with rules (`CREATE RULE … DO INSTEAD …`).
    RuledWrite {
        /// The table.
        table: String,
    },
    /// A write to a table that has no place on the shard in scope.
    WriteElsewhere {
        /// The table.
        table: String,
        /// Where it lives.
        home: String,
        /// The shard in scope.
        scope: String,
    },
    /// `SET pgmeridian.shard = 'deu'; COPY users FROM STDIN`: rows that are written unseen.
    UncheckedWrite {
        /// The command, or that it can't be read.
        what: String,
        /// The table.
        table: String,
        /// The shard in scope.
        scope: String,
    },
    /// A session's key is a filter, and the statement can't be given one.
    KeyFilter {
        /// What can't be filtered.
        what: String,
        /// Why not.
        why: &'static str,
    },
    /// What a user who is confined to a key may not do.
    Confined {
        /// What.
        what: String,
    },
    /// DDL and other utility statements where the map has several shards.
    Utility {
        /// The command.
        tag: String,
    },
    /// `COPY users FROM STDIN`.
    CopyFrom {
        /// How the table is named, if it is known.
        table: String,
    },
    /// `DO $$ … $$`, `CALL p()`: code that can't be seen.
    HiddenCode {
        /// The command.
        tag: String,
    },
    /// DECLARE, FETCH, PREPARE, EXECUTE, LISTEN and the like on several shards.
    SessionState {
        /// The command.
        tag: String,
    },
    /// `EXPLAIN SELECT * FROM users` where that goes to several shards.
    ExplainSeveral,
    /// What the parser can't read.
    Opaque {
        /// What it is.
        reason: String,
        /// What stands in the way of sending it to the default shard.
        names: String,
    },
    /// A write that may change rows that every shard has (`[[everywhere]]`).
    CopiesWritten {
        /// The table.
        table: String,
        /// Which rows they are.
        predicate: String,
    },
    /// A write of rows of a frozen key.
    Frozen {
        /// The key's name.
        key: String,
        /// Its value.
        value: String,
        /// The command.
        tag: String,
    },
    /// A read that would have to tell a frozen key's rows from their copies, and can't.
    Moving {
        /// The table.
        table: String,
        /// The key's name.
        key: String,
        /// Its value.
        value: String,
        /// What stands in the way.
        why: &'static str,
    },
    /// What would leave rows where the map does not look for them.
    Schema(SchemaRefusal),
    /// A text key that isn't ASCII under a client encoding other than UTF8.
    ClientEncoding,
}

impl Refusal {
    /// The error for a user who may touch one key only, or for one who may choose.
    pub(super) fn of_user(self, confined: bool) -> SqlError {
        if !confined {
            return self.into();
        }
        let what = match &self {
            Self::KeyFilter { what, .. } => {
                format!("{what} can't be restricted to the user's key")
            }
            other => other.message(),
        };
        Self::Confined { what }.into()
    }

    /// The SQLSTATE.
    pub(super) fn code(&self) -> SqlState {
        match self {
            Self::SourcesDisagree { .. }
            | Self::UnknownShard { .. }
            | Self::NoSessionKey { .. }
            | Self::BadKey { .. }
            | Self::NoShard { .. }
            | Self::LookupMiss { .. }
            | Self::WriteElsewhere { .. } => SqlState::INVALID_PARAMETER_VALUE,
            Self::Frozen { .. } => SqlState::READ_ONLY_SQL_TRANSACTION,
            Self::Moving { .. } => SqlState::SERIALIZATION_FAILURE,
            Self::Confined { .. } => SqlState::INSUFFICIENT_PRIVILEGE,
            Self::KeyMissing { .. } | Self::KeyNull { .. } => SqlState::NOT_NULL_VIOLATION,
            Self::SeveralShards { .. }
            | Self::NotInDatabase(_)
            | Self::DifferentShards { .. }
            | Self::CrossShardReads { .. }
            | Self::Residency { .. }
            | Self::Lookup { .. }
            | Self::IdAssigned { .. }
            | Self::CopiesWritten { .. }
            | Self::UnlistedTable { .. }
            | Self::UnusableTable { .. }
            | Self::UserFunction { .. }
            | Self::HomeFunction { .. }
            | Self::AllFunction { .. }
            | Self::ReadingFunction { .. }
            | Self::SettingFunction { .. }
            | Self::SettingUntold { .. }
            | Self::CrossShardWrite { .. }
            | Self::CrossShardInsert { .. }
            | Self::ReferenceWrite { .. }
            | Self::ReferenceDiverges { .. }
            | Self::KeyExpression { .. }
            | Self::InsertQuery { .. }
            | Self::KeyAssigned { .. }
            | Self::ViewWrite { .. }
            | Self::RuledWrite { .. }
            | Self::UncheckedWrite { .. }
            | Self::KeyFilter { .. }
            | Self::Utility { .. }
            | Self::CopyFrom { .. }
            | Self::OtherDatabase { .. }
            | Self::HiddenCode { .. }
            | Self::SessionState { .. }
            | Self::ExplainSeveral
            | Self::Opaque { .. }
            | Self::Schema(_)
            | Self::ClientEncoding => SqlState::FEATURE_NOT_SUPPORTED,
        }
    }

    /// The message: names the construct.
    pub(super) fn message(&self) -> String {
        match self {
            Self::SourcesDisagree { one, other } => format!("{one}, but {other}"),
            Self::UnknownShard { name, .. } => format!("shard \"{name}\" does not exist"),
            Self::NoSessionKey { .. } => {
                "the shard map does not say which key a session has".into()
            }
            Self::BadKey { key, why } => format!("bad value for key {key}: {why}"),
            Self::NoShard { no_shard, table } => no_shard.error(table.as_deref()).message,
            Self::SeveralShards { construct, .. } => {
                format!("{} over several shards is not supported", construct.name())
            }
            Self::DifferentShards { one, other } => format!(
                "{} is on {} and {} is on {}: a statement over different shards is not supported",
                one.0, one.1, other.0, other.1
            ),
            Self::NotInDatabase(what) => what.message(),
            Self::CrossShardReads { .. } => {
                "a read over several shards is refused by the shard map".into()
            }
            Self::Residency { region, with } => {
                format!(
                    "rows of region {region} may not be read together with rows of region {with}"
                )
            }
            Self::Lookup { table, lookup } => {
                format!(
                    "table \"{table}\" is placed by lookup {lookup}, which is not unique or has no source"
                )
            }
            Self::LookupMiss { table, column } => {
                format!("no key is known for \"{column}\" of a row of table \"{table}\"")
            }
            Self::Frozen { key, value, tag } => {
                format!("cannot execute {tag} while {key} {value} is frozen")
            }
            Self::Moving { table, key, value, .. } => {
                format!("cannot read table \"{table}\" while {key} {value} is frozen")
            }
            Self::CopiesWritten { table, predicate } => {
                format!(
                    "a write to rows of table \"{table}\" that every shard has ({predicate}) is not supported"
                )
            }
            Self::IdAssigned { table, column } => {
                format!(
                    "column \"{column}\" of table \"{table}\" leads to the sharding key and can't be assigned here"
                )
            }
            Self::ReferenceDiverges { table, what } => {
                format!("write to reference table \"{table}\" with {what} is not supported")
            }
            Self::Schema(refusal) => refusal.message(),
            Self::UnlistedTable { table } => {
                format!("table \"{table}\" has no sharding key and is not listed in the shard map")
            }
            Self::UnusableTable { table, .. } => {
                format!("the sharding key of table \"{table}\" can't be used")
            }
            Self::UserFunction { name } => {
                format!("user-defined function {name} needs a route to one shard")
            }
            Self::HomeFunction { name, home } => {
                format!("function {name} runs on shard {home}, where this statement does not go")
            }
            Self::AllFunction { name } => {
                format!("function {name} runs on all shards, which is not supported yet")
            }
            Self::ReadingFunction { name } => {
                format!("function {name} reads or writes what its arguments say, on several shards")
            }
            Self::CrossShardWrite { command, table, .. } => {
                format!("{command} of table \"{table}\" on several shards is not supported")
            }
            Self::CrossShardInsert { table, .. } => {
                format!("INSERT of rows for several shards into table \"{table}\" is not supported")
            }
            Self::ReferenceWrite { table } => {
                format!("write to reference table \"{table}\" on several shards is not supported")
            }
            Self::KeyMissing { table, column, .. } => {
                format!(
                    "INSERT into table \"{table}\" has no value for its sharding key \"{column}\""
                )
            }
            Self::KeyNull { table, column } => {
                format!("null value in sharding key \"{column}\" of table \"{table}\"")
            }
            Self::KeyExpression { table, column, default: true, .. } => {
                format!(
                    "DEFAULT for sharding key \"{column}\" of table \"{table}\" is not supported"
                )
            }
            Self::KeyExpression { table, column, default: false, .. } => format!(
                "an expression for sharding key \"{column}\" of table \"{table}\" is not supported"
            ),
            Self::InsertQuery { table, column } => format!(
                "INSERT … SELECT into table \"{table}\" with an unknown sharding key \"{column}\" is not supported"
            ),
            Self::KeyAssigned { table, column } => {
                format!(
                    "assignment to sharding key \"{column}\" of table \"{table}\" is not supported"
                )
            }
            Self::RuledWrite { table } => {
                format!("write to table \"{table}\", which has rules, is not supported")
            }
            Self::ViewWrite { view } => {
                format!("write to view \"{view}\" on several shards is not supported")
            }
            Self::WriteElsewhere { table, home, scope } => {
                format!(
                    "table \"{table}\" lives on shard {home}, but the statement's shard is {scope}"
                )
            }
            Self::SettingFunction { name: Some(name) } => {
                format!("set_config of {name} is not supported")
            }
            Self::SettingFunction { name: None } => {
                "set_config of a setting whose name is not a constant is not supported".into()
            }
            Self::SettingUntold { name } => {
                format!(
                    "set_config of {name} to what can't be told is not supported over several shards"
                )
            }
            Self::UncheckedWrite { what, table, scope } => {
                format!(
                    "{what} can't be checked to write to {table} only what belongs to shard {scope}"
                )
            }
            Self::KeyFilter { what, .. } => {
                format!("{what} can't be restricted to the session's key")
            }
            Self::Confined { what } => format!("permission denied: {what}"),
            Self::Utility { tag } => format!("{tag} on several shards is not supported"),
            Self::CopyFrom { table } => {
                format!("COPY FROM into {table}, which is on several shards, is not supported")
            }
            Self::OtherDatabase { tag, database, shard } => {
                format!("{tag}: database \"{database}\" belongs to shard \"{shard}\"")
            }
            Self::HiddenCode { tag } => format!("{tag} needs a shard to run on"),
            Self::SessionState { tag } => format!("{tag} needs a shard to run on"),
            Self::ExplainSeveral => {
                "EXPLAIN of a statement over several shards is not supported".into()
            }
            Self::Opaque { .. } => "this statement can't be routed".into(),
            Self::ClientEncoding => {
                "a sharding key that is not ASCII needs client_encoding UTF8".into()
            }
        }
    }
}

impl From<Refusal> for SqlError {
    fn from(refusal: Refusal) -> Self {
        let mut error = Self::new(refusal.code(), refusal.message());
        error.detail = refusal.detail();
        error.hint = refusal.hint();
        error
    }
}
