//! Rule *database*: statements on tables whose key has a database for each of its values.
//!
//! Such a statement runs in one of these databases, as on that server alone. So it must say which, for every
//! table that it names, and name no table that is anywhere else; or hint or session say it for all of it.
//! There is no gathering over databases: what says none, or several, is refused. Main function:
//! [`of_statement`].

use std::sync::Arc;

use super::Ground;
use super::compile::Query;
use super::constant::Constants;
use super::refusal::Refusal;
use super::restrict::Region;
use super::scope::{Resolved, key_name};
use crate::datum::KeyValue;
use crate::error::SqlError;
use crate::map::{KeyDatabase, KeyId, ShardMap};

/// Keys that a refusal names.
const NAMED_MAX: usize = 12;

/// What is refused of statements on tables whose key has a database for each of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotInDatabase {
    /// `SELECT count(*) FROM notes`: no word of which.
    Unknown {
        /// The table.
        table: String,
        /// The key's name.
        key: String,
    },
    /// `SELECT * FROM notes WHERE tenant_id IN (1, 2)`.
    Several {
        /// The keys, some of them.
        keys: Vec<String>,
    },
    /// A table of other rows than the key's, beside a table of the key's.
    Mixed {
        /// The table.
        table: String,
        /// The key's database.
        database: String,
    },
    /// A function that `[functions]` declares `home` or `all`.
    Function {
        /// The function.
        name: String,
        /// The key's database.
        database: String,
    },
    /// `SET pgmeridian.shard = 'deu'; SELECT * FROM notes`.
    OnShard {
        /// The table.
        table: String,
        /// The shard.
        shard: String,
    },
    /// `COPY notes FROM STDIN` in a key's database: the rows' keys are not seen.
    Unchecked {
        /// The command.
        what: String,
        /// The table.
        table: String,
        /// The key's database.
        database: String,
    },
    /// DDL, COPY and the like without a key.
    Utility {
        /// The command.
        tag: &'static str,
    },
}

impl NotInDatabase {
    pub(super) fn message(&self) -> String {
        match self {
            Self::Unknown { table, key } => format!(
                "each {key} has a database of its own, and the statement does not say in which of them it reads or \
                 writes table \"{table}\""
            ),
            Self::Several { keys } => {
                format!("a statement over the databases of {} is not supported", keys.join(", "))
            }
            Self::Mixed { table, database } => format!(
                "table \"{table}\" is not known to be in database \"{database}\", where this statement goes"
            ),
            Self::Function { name, database } => format!(
                "function {name} does not run in database \"{database}\", where this statement goes"
            ),
            Self::OnShard { table, shard } => format!(
                "table \"{table}\" is in the databases of keys, of which shard {shard} may have many"
            ),
            Self::Unchecked { what, table, database } => format!(
                "{what} can't be checked to write to {table} only rows of the key of database \"{database}\""
            ),
            Self::Utility { tag } => {
                format!(
                    "{tag} without a key is not supported where keys have databases of their own"
                )
            }
        }
    }

    pub(super) fn detail(&self) -> &'static str {
        match self {
            Self::Unknown { .. } | Self::Several { .. } => {
                "The strategy of its key is \"database\": a statement runs in one of them, nothing is gathered from several."
            }
            Self::Mixed { .. } => {
                "Only tables of the key that the statement names are in the key's database for sure."
            }
            Self::Function { .. } => "Section [functions] of the shard map declares it so.",
            Self::OnShard { .. } => {
                "A shard's scope is its logical database, where no row of the table lives."
            }
            Self::Unchecked { .. } => {
                "No row is written where the shard map does not place it, and the rows are not looked at."
            }
            Self::Utility { .. } => {
                "It would be done in one of many databases, or in one that has none of the rows."
            }
        }
    }

    pub(super) fn hint(&self) -> String {
        match self {
            Self::Unknown { key, .. } => format!(
                "Restrict each table of the statement to one {key}, or set the session's key: SET pgmeridian.key = '…'."
            ),
            Self::Several { .. } => "Write one statement for each key.".to_owned(),
            Self::Mixed { .. } | Self::Function { .. } => {
                "In a session of the key everything runs in its database: SET pgmeridian.key = '…'."
                    .to_owned()
            }
            Self::OnShard { .. } => {
                "RESET pgmeridian.shard, and set the session's key: SET pgmeridian.key = '…'.".to_owned()
            }
            Self::Unchecked { .. } => {
                "Write the rows with INSERT, which is checked.".to_owned()
            }
            Self::Utility { .. } => {
                "SET pgmeridian.key = '…' for the database of one key; SET pgmeridian.shard = '*' for the \
                 shards' logical databases, where the schema is read."
                    .to_owned()
            }
        }
    }
}

impl From<NotInDatabase> for SqlError {
    fn from(what: NotInDatabase) -> Self {
        Refusal::NotInDatabase(what).into()
    }
}

/// The database that a query is for; `None` where the other rules decide.
///
/// # Errors
///
/// 0A000 where it names tables of several databases, or doesn't say of which.
pub(super) fn of_statement<'p>(
    query: &Query,
    ground: &Ground<'_>,
    stored: &Constants<'p>,
    scope: &Resolved<'p>,
    regions: &[Region<'p>],
) -> Result<Option<Arc<KeyDatabase>>, SqlError> {
    let map = ground.map;
    if ground.solo.is_some() || !map.has_key_databases() {
        return Ok(None);
    }
    let database = match &scope.database {
        Some(database) => Some(KeyDatabase::clone(database)),
        None => pinned(query, ground, stored, scope, regions)?,
    };
    let Some(mut database) = database else { return Ok(None) };
    let all_of_it = scope.is_session_of(database.key);
    // What only reads makes no database, whatever keys it tries.
    database.auto_create &= all_of_it || !query.inserts.is_empty();
    if let Some(table) = elsewhere(query, &database).filter(|_| !all_of_it) {
        let database = database.name.clone();
        return Err(NotInDatabase::Mixed { table, database }.into());
    }
    if let Some(view) = &query.view_written {
        return Err(Refusal::ViewWrite { view: view.clone() }.into());
    }
    let functions = &query.functions;
    if let Some(name) = functions.home.as_ref().or(functions.all.as_ref()).filter(|_| !all_of_it) {
        let name = name.clone();
        return Err(NotInDatabase::Function { name, database: database.name.clone() }.into());
    }
    Ok(Some(Arc::new(database)))
}

/// The database that the statement's own keys lead to.
fn pinned<'p>(
    query: &Query,
    ground: &Ground<'_>,
    stored: &Constants<'p>,
    scope: &Resolved<'p>,
    regions: &[Region<'p>],
) -> Result<Option<KeyDatabase>, SqlError> {
    let map = ground.map;
    let mut found: Vec<(KeyId, KeyValue<'p>)> = Vec::new();
    let mut add = |key: KeyId, value: &KeyValue<'p>| {
        if !found.iter().any(|(own, other)| *own == key && other == value) {
            found.push((key, value.clone()));
        }
    };
    let open = |key: KeyId, table: &str| {
        let (table, key) = (table.to_owned(), key_name(map, key).to_owned());
        SqlError::from(NotInDatabase::Unknown { table, key })
    };
    let mut named = None;
    for (occurrence, region) in query.occurrences.iter().zip(regions) {
        if !map.has_databases(occurrence.key) {
            continue;
        }
        named = Some(occurrence.table.name.as_str());
        let values = region.values();
        let values = values.ok_or_else(|| open(occurrence.key, &occurrence.table.name))?;
        for value in values {
            add(occurrence.key, value);
        }
    }
    for insert in &query.inserts {
        if !map.has_databases(insert.key) {
            continue;
        }
        named = Some(insert.table.name.as_str());
        let values = insert.first_keys(ground, stored, scope, regions)?;
        let values = values.ok_or_else(|| open(insert.key, &insert.table.name))?;
        for value in &values {
            add(insert.key, value);
        }
    }
    let Some(table) = named else { return Ok(None) };
    if let Some((shard, _)) = scope.shard {
        let (table, shard) = (table.to_owned(), map.shard_name(shard).to_owned());
        return Err(NotInDatabase::OnShard { table, shard }.into());
    }
    match found.as_slice() {
        [] => Ok(None),
        [(key, value)] => database_of(map, *key, value),
        several => {
            let text =
                |(key, value): &(KeyId, KeyValue<'p>)| format!("{} {value}", key_name(map, *key));
            let keys = several.iter().take(NAMED_MAX).map(text).collect();
            Err(NotInDatabase::Several { keys }.into())
        }
    }
}

/// A key's database; `None` if it has none of its own.
///
/// # Errors
///
/// 22023 for a key without a place.
pub(super) fn database_of(
    map: &ShardMap,
    key: KeyId,
    value: &KeyValue<'_>,
) -> Result<Option<KeyDatabase>, SqlError> {
    map.key_database(key, value)
        .map_err(|no_shard| Refusal::NoShard { no_shard, table: None }.into())
}

/// A table of the statement that is not in the database.
fn elsewhere(query: &Query, database: &KeyDatabase) -> Option<String> {
    let own = database.key;
    let other = query.occurrences.iter().find(|o| o.key != own).map(|o| o.table.name.clone());
    let inserted = || query.inserts.iter().find(|i| i.key != own).map(|i| i.table.name.clone());
    let fixed = || query.fixed.first().map(|fixed| fixed.table.clone());
    let reference = || query.reference.clone();
    other.or_else(inserted).or_else(fixed).or_else(reference)
}
