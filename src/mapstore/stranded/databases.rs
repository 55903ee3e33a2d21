//! Whole databases that a new map looks for elsewhere: those of keys, and those that are routed by name.

use tokio_postgres::SimpleQueryMessage;

use super::{NAMED_MAX, NotAsked, Stranded, called, note, number};
use crate::map::{DatabaseHome, Shard, ShardId, ShardMap};
use crate::mapstore::asked::Asked;
use crate::sql::quote::quote_identifier;

/// Databases that clients of the old map find by name or by their key, as they are on a server.
const DATABASES: &str = "SELECT datname FROM pg_catalog.pg_database \
    WHERE datallowconn AND NOT datistemplate ORDER BY length(datname), datname";

/// A database's tables.
const TABLES: &str = "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' \
    AND n.nspname NOT IN ('information_schema', 'pgmeridian') ORDER BY 1, 2";

/// Asks for whole databases that the new map looks for elsewhere.
pub(super) async fn databases(
    old: &ShardMap,
    new: &ShardMap,
    found: &mut Vec<Stranded>,
    asked: &Asked,
) -> Result<(), NotAsked> {
    if !old.has_key_databases() && old.databases().is_empty() {
        return Ok(());
    }
    for (at, shard) in (0..).map(ShardId).zip(old.shards()) {
        let not_asked = |error| NotAsked { shard: shard.name.clone(), error };
        let messages = asked.query(&shard.url, DATABASES).await.map_err(not_asked)?;
        let mut of_shard: Vec<Stranded> = Vec::new();
        for message in &messages {
            let SimpleQueryMessage::Row(row) = message else { continue };
            let Some(name) =
                row.get(0).filter(|name| old.database_home(name) == Some(DatabaseHome::Here(at)))
            else {
                continue;
            };
            let Err(to) = stays(old, new, shard, name) else { continue };
            let mut target = shard.url.clone();
            name.clone_into(&mut target.dbname);
            let own = Asked::default();
            let tables = own.query(&target, TABLES).await.map_err(not_asked)?;
            for table in &tables {
                let SimpleQueryMessage::Row(table) = table else { continue };
                let (Some(schema), Some(table)) = (table.get(0), table.get(1)) else { continue };
                let sql = format!(
                    "SELECT count(*) FROM {}.{}",
                    quote_identifier(schema),
                    quote_identifier(table)
                );
                let counted = own.query(&target, &sql).await.map_err(not_asked)?;
                let rows = number(&counted);
                if rows > 0 {
                    let table = called(schema, table);
                    note_database(&mut of_shard, &table, shard, rows, name, to.clone());
                }
            }
            own.close();
        }
        found.append(&mut of_shard);
    }
    Ok(())
}

/// Whether the new map finds a database of the old one where it is; else where it looks for it, if anywhere.
fn stays(old: &ShardMap, new: &ShardMap, shard: &Shard, name: &str) -> Result<(), Option<String>> {
    let home = match old.key_database_named(name) {
        Some(own) => {
            if let Some(own) = new.key_database_named(name) {
                Some((own.shard, name.to_owned()))
            } else {
                // The same key's, where they are called otherwise now.
                let key = old.key(own.key).and_then(|key| new.key_named(&key.name));
                let renamed = key.and_then(|key| new.key_database(key, &own.value).ok().flatten());
                renamed.map(|own| (own.shard, own.name))
            }
        }
        None => match new.database_home(name) {
            Some(DatabaseHome::Here(at)) => Some((at, name.to_owned())),
            _ => None,
        },
    };
    let Some((at, called)) = home else { return Err(None) };
    let same = new.shard(at).is_some_and(|home| {
        // Shards may share a server, and a shard's server may be another one by now.
        home.id == shard.id || (&home.url.host, home.url.port) == (&shard.url.host, shard.url.port)
    });
    if same && called == name {
        Ok(())
    } else {
        Err(Some(format!("{}/{called}", new.shard_name(at))))
    }
}

fn note_database(
    found: &mut Vec<Stranded>,
    table: &str,
    shard: &Shard,
    rows: u64,
    database: &str,
    to: Option<String>,
) {
    if !found.iter().any(|own| own.table == table) {
        found.push(Stranded::of(table.to_owned(), shard));
    }
    let Some(own) = found.iter_mut().find(|own| own.table == table) else { return };
    own.rows += rows;
    note(&mut own.databases, &mut own.keys_more, database.to_owned());
    own.to.extend(to.filter(|_| own.to.len() < NAMED_MAX));
}
