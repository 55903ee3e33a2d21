//! Statements about the schema that are refused for what they would do to the placement of rows, and why.
//!
//! Main type: [`SchemaRefusal`]. Rows that are there stay where they are, so a table may not come under another
//! rule behind their back ([`stranded`]); and a row goes where its statement says, so no trigger may give it
//! another key ([`key_trigger`]).

use smallvec::{SmallVec, smallvec};

use crate::catalog::{Catalog, Column, Table};
use crate::error::{SqlError, SqlState};
use crate::map::{Placement, ShardMap, UnlistedTables};
use crate::sql::reshape::Reshaped;
use crate::sql::triggers::may_assign;

/// What is refused of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SchemaRefusal {
    /// `CREATE TEMP VIEW v AS SELECT * FROM users`: it is on one shard.
    TemporaryView {
        /// What it reads: a table, or a function.
        reads: String,
    },
    /// `SET search_path = pg_temp, public; CREATE TABLE users (…)`.
    TemporaryByPath {
        /// The command.
        tag: &'static str,
    },
    /// `ALTER TABLE users RENAME tenant_id TO owner`: the map would no longer find the rows.
    Placement {
        /// The command.
        tag: &'static str,
        /// The table.
        table: String,
        /// What the map says of it.
        was: String,
        /// What it would say.
        becomes: String,
    },
    /// `CREATE TRIGGER …` whose function has `NEW.tenant_id := …`, and a write that it is called for.
    KeyTrigger {
        /// The table.
        table: String,
        /// The key's column.
        column: String,
    },
}

impl SchemaRefusal {
    pub(super) fn message(&self) -> String {
        match self {
            Self::TemporaryView { reads } => {
                format!("a temporary view of {reads} is not supported on several shards")
            }
            Self::TemporaryByPath { tag } => {
                format!("{tag} in schema pg_temp by search_path is not supported on several shards")
            }
            Self::Placement { tag, table, .. } => {
                format!("{tag} that changes where rows of table \"{table}\" live is not supported")
            }
            Self::KeyTrigger { table, column } => format!(
                "write to table \"{table}\", whose trigger assigns its sharding key \"{column}\", is not supported"
            ),
        }
    }

    pub(super) fn detail(&self) -> String {
        match self {
            Self::TemporaryView { .. } => {
                "It would be on one shard only, and show and change that shard's rows.".into()
            }
            Self::TemporaryByPath { .. } => {
                "It would be temporary, on connections that the session does not keep.".into()
            }
            Self::Placement { was, becomes, .. } => {
                format!("It is {was}, and would be {becomes}; its rows would stay where they are.")
            }
            Self::KeyTrigger { .. } => {
                "The shard is chosen before the trigger runs, and the row would not be found again."
                    .into()
            }
        }
    }

    pub(super) fn hint(&self) -> String {
        match self {
            Self::TemporaryByPath { .. } => "Write CREATE TEMP, or the schema's name.".into(),
            Self::TemporaryView { .. } => "CREATE VIEW makes one on every shard.".into(),
            Self::Placement { .. } => {
                "Change the shard map and move the rows; SET pgmeridian.shard = '*' then does it on every shard."
                    .into()
            }
            Self::KeyTrigger { .. } => {
                "Give the key in the statement. A trigger may fill one that is missing: \
                 NEW.key := coalesce(NEW.key, …)."
                    .into()
            }
        }
    }
}

/// What to say of a CREATE TABLE whose rows are on several shards and numbered by a sequence, which each shard
/// has for itself. (`check --live` looks at the sequences themselves.) And of one whose key can't be used.
pub fn repeating_numbers(text: &str, map: &ShardMap) -> Option<SqlError> {
    let created = Catalog::from_ddl(text).ok()?;
    let unusable = created.tables.values().find_map(|table| match map.placement(table) {
        Placement::Unusable(why) => Some((table, why)),
        _ => None,
    });
    if let Some((table, why)) = unusable {
        let message = format!("table \"{}\" can't be used through the proxy", table.name);
        let hint =
            "Give its key column that type, or list the table under [tables] in the shard map.";
        return Some(SqlError::new(SqlState::WARNING, message).detail(why.clone()).hint(hint));
    }
    let (table, key) = created.tables.values().find_map(|table| match map.placement(table) {
        Placement::Sharded { key, .. } => Some((table, map.key(key)?)),
        _ => None,
    })?;
    let numbered = |column: &&Column| {
        column.has_default && matches!(column.type_name.as_str(), "bigint" | "integer" | "smallint")
    };
    let column = table.columns.iter().find(numbered)?;
    if !is_counted(text) || key.columns.contains(&column.name) {
        return None;
    }
    let (name, table) = (&column.name, &table.name);
    Some(
        SqlError::new(
            SqlState::WARNING,
            format!("column \"{name}\" of sharded table \"{table}\" gets the same numbers on several shards"),
        )
        .detail("Each shard has a sequence of its own.")
        .hint("Use uuids, or give each shard's sequence numbers of its own, by ALTER SEQUENCE under SET pgmeridian.shard = '…'."),
    )
}

/// Whether it speaks of a serial or an identity column.
fn is_counted(text: &str) -> bool {
    const SERIALS: [&str; 6] =
        ["bigserial", "serial8", "serial", "serial4", "smallserial", "serial2"];
    let words: Vec<&str> = text
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|w| !w.is_empty())
        .collect();
    words.iter().any(|word| SERIALS.iter().any(|serial| word.eq_ignore_ascii_case(serial)))
        || words.windows(2).any(|two| {
            matches!(two, [a, b] if a.eq_ignore_ascii_case("as") && b.eq_ignore_ascii_case("identity"))
        })
}

/// What the map says of a table, if that decides where its rows are.
fn rule(map: &ShardMap, table: &Table) -> Option<String> {
    match map.placement(table) {
        Placement::Sharded { key, columns } => {
            let names = columns.iter().filter_map(|c| table.columns.get(usize::from(*c)));
            let names: Vec<&str> = names.map(|column| column.name.as_str()).collect();
            let key = map.key(key).map_or("", |key| key.name.as_str());
            Some(format!("sharded by {key} ({})", names.join(", ")))
        }
        Placement::Reference => Some("a reference table".into()),
        Placement::Single(shard) => Some(format!("a table of shard {}", map.shard_name(shard))),
        Placement::Lookup { name, column } => {
            let column = table.columns.get(usize::from(column)).map_or("", |c| c.name.as_str());
            Some(format!("placed by lookup {name} ({column})"))
        }
        Placement::Unlisted => match map.policy().unlisted_tables {
            UnlistedTables::DefaultShard => Some(format!(
                "a table of the default shard {}, for want of a rule",
                map.shard_name(map.default_shard())
            )),
            // It can't be used, so it has no rows.
            UnlistedTables::Refuse => None,
        },
        Placement::Unusable(_) => None,
    }
}

/// The trigger of a table that may change what its rows are placed by, if it has one.
pub(super) fn key_trigger(table: &Table, map: &ShardMap) -> Option<SchemaRefusal> {
    if table.before_row.is_empty() {
        return None;
    }
    let assigned = |column: &&Column| {
        let mut functions = table.before_row.iter();
        functions.any(|(language, source)| may_assign(language, source, &column.name))
    };
    let placed_by = placed_by(table, map);
    let mut columns = placed_by.iter().filter_map(|c| table.columns.get(usize::from(*c)));
    let column = columns.find(assigned)?.name.clone();
    Some(SchemaRefusal::KeyTrigger { table: table.name.clone(), column })
}

/// The columns that decide where a table's rows are.
fn placed_by(table: &Table, map: &ShardMap) -> SmallVec<[u16; 2]> {
    match map.placement(table) {
        Placement::Sharded { columns, .. } => columns,
        Placement::Lookup { column, .. } => smallvec![column],
        Placement::Reference
        | Placement::Single(_)
        | Placement::Unlisted
        | Placement::Unusable(_) => SmallVec::new(),
    }
}

/// Why a table may not become another: the map would look for its rows elsewhere. What can't be used before
/// has no rows, and what can't be used afterwards is refused then.
pub(super) fn stranded(
    tag: &'static str,
    reshaped: &Reshaped,
    map: &ShardMap,
) -> Option<SchemaRefusal> {
    let Reshaped { before, after, rewritten } = reshaped;
    let was = rule(map, before)?;
    let becomes = if placed_by(before, map).iter().any(|column| rewritten.contains(column)) {
        "without these values of its key".to_owned()
    } else {
        rule(map, after)?
    };
    let table = before.name.clone();
    (was != becomes).then_some(SchemaRefusal::Placement { tag, table, was, becomes })
}
