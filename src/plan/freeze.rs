//! Frozen keys: writes of their rows are refused while somebody moves them.
//!
//! What may write a row of a frozen key is refused (25006), whatever chose its shard; reads go on. Where it
//! can't be told which rows are written (COPY, TRUNCATE, DO, CALL), a frozen key whose rows are on the
//! statement's shards is enough.

use super::compile::{Query, Role};
use super::refusal::Refusal;
use super::restrict::Region;
use super::scope::key_name;
use super::{Plan, Route};
use crate::datum::KeyValue;
use crate::error::SqlError;
use crate::map::{KeyId, Part, ShardMap, ShardSet};

fn refusal(map: &ShardMap, key: KeyId, value: &KeyValue<'_>, tag: &str) -> SqlError {
    let (key, tag) = (key_name(map, key).to_owned(), tag.to_owned());
    Refusal::Frozen { key, value: value.to_string(), tag }.into()
}

/// Refuses an UPDATE, DELETE or MERGE that may change rows of a frozen key, and user-defined functions
/// beside such rows: who calls them for a key may well write it.
pub(super) fn check(query: &Query, map: &ShardMap, regions: &[Region<'_>]) -> Result<(), SqlError> {
    let calls = query.functions.undeclared.is_some();
    if map.freezes().is_empty() || !(query.writes || calls) {
        return Ok(());
    }
    for (occurrence, region) in query.occurrences.iter().zip(regions) {
        let tag = match occurrence.role {
            Role::Write(tag) => tag,
            Role::Read if calls => "a user-defined function",
            Role::Read => continue,
        };
        for (key, value) in map.freezes().iter().filter(|(key, _)| *key == occurrence.key) {
            let frozen = Region::pinned(occurrence.types.len(), value.clone());
            if !region.clone().intersect(frozen).is_empty() {
                return Err(refusal(map, *key, value, tag));
            }
        }
    }
    Ok(())
}

/// Refuses a row of a frozen key.
pub(super) fn check_row(
    map: &ShardMap,
    key: KeyId,
    value: Option<&KeyValue<'_>>,
) -> Result<(), SqlError> {
    match map.freezes().iter().find(|(own, frozen)| *own == key && Some(frozen) == value) {
        Some((key, value)) => Err(refusal(map, *key, value, "INSERT")),
        None => Ok(()),
    }
}

/// Refuses rows of a query that may have a frozen key.
pub(super) fn check_rows(
    map: &ShardMap,
    key: KeyId,
    parts: usize,
    region: &Region<'_>,
) -> Result<(), SqlError> {
    for (own, value) in map.freezes().iter().filter(|(own, _)| *own == key) {
        if !region.clone().intersect(Region::pinned(parts, value.clone())).is_empty() {
            return Err(refusal(map, *own, value, "INSERT"));
        }
    }
    Ok(())
}

/// Refuses what may write any row of its shards.
pub(super) fn check_blind(map: &ShardMap, plan: &Plan, tag: &str) -> Result<(), SqlError> {
    let meets = |shards: &ShardSet| match &plan.route {
        Route::One(shard) => shards.contains(*shard),
        Route::Database(database) => shards.contains(database.shard),
        Route::Many(all) => all.iter().any(|shard| shards.contains(shard)),
        Route::All | Route::Any | Route::Nowhere => true,
    };
    for (key, value) in map.freezes() {
        let values = [value.clone()];
        let home = map.place_parts(*key, &[Part::Values(&values)]).unwrap_or_default();
        if meets(&home) {
            return Err(refusal(map, *key, value, tag));
        }
    }
    Ok(())
}
