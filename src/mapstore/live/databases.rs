//! Databases that are routed by name, and those of keys: where they are, and whether they are as what they were
//! made from.

use std::collections::BTreeMap;

use super::schema::{called, differ};
use super::told::{NO_SEARCH_PATH, Objects, Told, objects};
use super::{Finding, fault, warning};
use crate::map::{DatabaseHome, Key, KeyId, Placement, Shard, ShardMap};
use crate::mapstore::read::{ReadError, read_only};

/// Of the databases that a shard's keys have, so many are compared with what they were made from: each takes
/// a connection.
const DATABASES_COMPARED_MAX: usize = 100;

/// So many databases are named that differ in the same way.
const DATABASES_NAMED_MAX: usize = 3;

/// Databases that are routed by their names are where the map looks for them.
pub(super) fn check_databases(map: &ShardMap, told: &Told<'_>, findings: &mut Vec<Finding>) {
    let names = told.server.keys().filter_map(|key| key.strip_prefix("database "));
    for name in names {
        let Some(DatabaseHome::Here(at)) = map.database_home(name) else { continue };
        let Some(home) = map.shard(at) else { continue };
        // Shards may share a server.
        let same = (&home.url.host, home.url.port) == (&told.shard.url.host, told.shard.url.port);
        if same {
            continue;
        }
        fault(
            findings,
            format!(
                "database {name} is on shard {}, and the shard map places it on {}: its clients don't find it",
                told.shard.name, home.name
            ),
            Some(
                "list it where it is, in its key's directory or under a [[databases]] with strategy = \"directory\" before the others; or move it",
            ),
        );
    }
}

/// The databases of keys are as what they were made from is now.
pub(super) async fn check_key_databases(
    map: &ShardMap,
    home: Option<&Told<'_>>,
    told: &Told<'_>,
    findings: &mut Vec<Finding>,
) {
    let names = told.server.keys().filter_map(|key| key.strip_prefix("database "));
    let mut by_key: BTreeMap<KeyId, Vec<&str>> = BTreeMap::new();
    for name in names {
        match map.key_database_named(name) {
            Some(own) if own.shard == told.at => by_key.entry(own.key).or_default().push(name),
            // Another shard's on the same server, or out of its place, which has been said.
            _ => {}
        }
    }
    let shard = &told.shard.name;
    for (key, mut names) in by_key {
        let Some((key, own)) = map.key(key).and_then(|key| Some((key, key.databases()?))) else {
            continue;
        };
        names.sort_by_key(|name| (name.len(), *name));
        let template = match objects_of(told.shard, &own.template).await {
            Ok(objects) if has_tables(&objects) => Some((own.template.as_str(), objects)),
            // What is made from an empty one, or by hand, has what statements are planned by.
            _ => home.map(|home| (home.shard.url.dbname.as_str(), of_key(map, key, home))),
        };
        let Some((template, expected)) = template else { continue };
        let looked_at: Vec<&str> = sample(&names, DATABASES_COMPARED_MAX);
        let mut differences: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
        for name in &looked_at {
            match objects_of(told.shard, name).await {
                Ok(found) => {
                    for difference in differ_from(template, &expected, &found) {
                        differences.entry(difference).or_default().push(name);
                    }
                }
                Err(error) => fault(
                    findings,
                    format!("database {name} on shard {shard} can't be asked: {error}"),
                    None,
                ),
            }
        }
        for ((kind, what), of) in differences {
            let mut named =
                of.iter().take(DATABASES_NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
            if let more @ 1.. = of.len().saturating_sub(DATABASES_NAMED_MAX) {
                named = format!("{named} and {more} more");
            }
            differ(findings, &kind, format!("{what} {named} on shard {shard}"));
        }
        if looked_at.len() < names.len() {
            warning(
                findings,
                format!(
                    "of the {} databases of {} on shard {shard}, {} were compared with {template}",
                    names.len(),
                    key.name,
                    looked_at.len()
                ),
                None,
            );
        }
    }
}

/// So many of them at most, from all over the list.
fn sample<'n>(names: &[&'n str], max: usize) -> Vec<&'n str> {
    let take = names.len().min(max);
    (0..take).filter_map(|at| names.get(at * names.len() / take.max(1)).copied()).collect()
}

async fn objects_of(shard: &Shard, database: &str) -> Result<Objects, ReadError> {
    let mut target = shard.url.clone();
    database.clone_into(&mut target.dbname);
    let client = read_only(&target).await?;
    client.batch_execute(NO_SEARCH_PATH).await?;
    objects(&client).await
}

fn has_tables(objects: &Objects) -> bool {
    objects.keys().any(|(kind, _, _)| kind == "table")
}

/// What of the default shard's schema a key's statements are planned by: the key's tables.
fn of_key(map: &ShardMap, key: &Key, home: &Told<'_>) -> Objects {
    let is_own = |fq: &str| {
        let table = home.table(fq);
        table.is_some_and(|table| match map.placement(table) {
            Placement::Sharded { key: of, .. } => map.key(of).is_some_and(|of| of.name == key.name),
            _ => false,
        })
    };
    let own =
        home.objects.iter().filter(|((kind, table, _), _)| kind != "trigger" && is_own(table));
    own.map(|(object, definition)| (object.clone(), definition.clone())).collect()
}

/// What is another thing in a database than in what it was made from: its kind, and how it differs, in words
/// that the database's name follows. What it has besides does no harm.
fn differ_from(template: &str, expected: &Objects, found: &Objects) -> Vec<(String, String)> {
    let mut differences = Vec::new();
    for ((kind, table, name), definition) in expected {
        // Roles are the server's.
        if kind == "role" {
            continue;
        }
        let of_table = ("table".to_owned(), table.clone(), String::new());
        let is_missing = !table.is_empty() && kind != "table" && !found.contains_key(&of_table);
        if is_missing {
            continue;
        }
        let what = called(kind, table, name);
        let text = match found.get(&(kind.clone(), table.clone(), name.clone())) {
            Some(own) if own == definition => continue,
            None => format!("{what} is in {template} and not in"),
            Some(_) if matches!(kind.as_str(), "function" | "view") => {
                format!("{what} is another one than in {template} in")
            }
            Some(own) => format!("{what} is {definition} in {template} and {own} in"),
        };
        differences.push((kind.clone(), text));
    }
    differences
}
