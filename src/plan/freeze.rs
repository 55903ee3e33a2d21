//! Frozen keys: writes of their rows are refused while somebody moves them, and no read sees them twice.
//!
//! What may write a row of a frozen key is refused (25006), whatever chose its shard. Where it can't be told which
//! rows are written (COPY, TRUNCATE, DO, CALL), a frozen key whose rows are on the statement's shards is enough.
//!
//! While a key moves its rows are on two shards. One of them is its home by the map, and has all of them from the
//! first copy to the last deletion: a read that also looks elsewhere leaves the key's rows out there. Before the map
//! is changed that hides what is copied, and after it what is left behind. Why that is exact where only the driving
//! table is restricted ([`apart`]): each row of the answer comes from one row of it, and everything else in that
//! row has the same key ([`super::many`]). Rows that an id places have no key to tell them by: reading them
//! elsewhere is refused (40001), and so is a key whose rows have several homes, between which they move.

use std::fmt::Write as _;

use super::compile::{Occurrence, Query, Role};
use super::query::Claim;
use super::refusal::Refusal;
use super::restrict::Region;
use super::scope::key_name;
use super::splice::{Edits, value_sql};
use super::workspace::widest;
use super::{Inputs, Plan, Route};
use crate::datum::{KeyType, KeyValue};
use crate::error::SqlError;
use crate::map::{KeyId, Part, ShardId, ShardMap, ShardSet};
use crate::sql::quote::quote_identifier;

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

/// What an occurrence's rows on a shard that is not a frozen key's home have to meet, so that its rows are not among
/// them; `None` if they can't be.
///
/// # Errors
///
/// 40001 where that can't be said.
pub(super) fn condition(
    map: &ShardMap,
    occurrence: &Occurrence,
    region: &Region<'_>,
    shard: ShardId,
    utf8: bool,
) -> Result<Option<String>, SqlError> {
    let mut condition = String::new();
    for (key, value) in map.freezes().iter().filter(|(key, _)| *key == occurrence.key) {
        let frozen = Region::pinned(occurrence.types.len(), value.clone());
        let frozen = region.clone().intersect(frozen);
        if map.has_databases(*key) || frozen.is_empty() {
            continue;
        }
        let moving = |why| Refusal::Moving {
            table: occurrence.table.name.clone(),
            key: key_name(map, *key).to_owned(),
            value: value.to_string(),
            why,
        };
        let Some(home) = frozen.shards(map, *key).unwrap_or_default().single() else {
            return Err(moving("the map gives them no home, or several").into());
        };
        if home == shard {
            continue;
        }
        let Some(column) = occurrence.column_names().into_iter().next() else {
            return Err(moving("whose they are is known by an id only").into());
        };
        if !utf8 && matches!(value, KeyValue::Text(text) if !text.is_ascii()) {
            return Err(Refusal::ClientEncoding.into());
        }
        let ty = occurrence.types.first().map_or(KeyType::Text, |ty| widest(*ty));
        let and = if condition.is_empty() { "" } else { " AND " };
        // Writing to a String can't fail.
        let _ = write!(
            condition,
            "{and}({} = {}) IS NOT TRUE",
            quote_identifier(&column),
            value_sql(ty, value)
        );
    }
    if condition.is_empty() {
        return Ok(None);
    }
    // What every shard has is not moved.
    let (schema, name) = (&occurrence.table.schema, &occurrence.table.name);
    let rules = map.everywhere_rows().iter();
    let kept: Vec<String> = rules
        .filter(|rule| rule.schema == *schema && rule.table == *name)
        .map(|rule| format!("({}) IS TRUE", rule.predicate))
        .collect();
    Ok(Some(match kept.as_slice() {
        [] => condition,
        kept => format!("({condition} OR {})", kept.join(" OR ")),
    }))
}

/// The conditions of one occurrence on several shards: those that have one.
///
/// # Errors
///
/// Those of [`condition`].
pub(super) fn apart(
    map: &ShardMap,
    occurrence: &Occurrence,
    region: &Region<'_>,
    shards: &ShardSet,
    utf8: bool,
) -> Result<Vec<(ShardId, String)>, SqlError> {
    let mut found = Vec::new();
    for shard in shards.iter() {
        let condition = condition(map, occurrence, region, shard, utf8)?;
        found.extend(condition.map(|condition| (shard, condition)));
    }
    Ok(found)
}

/// Keeps the rows of frozen keys out of a statement on one shard that is not their home, which only numbers of
/// shards in the rows can lead to.
///
/// # Errors
///
/// 40001 where that can't be said.
pub(super) fn restrict(
    query: &Query,
    map: &ShardMap,
    inputs: &Inputs<'_>,
    shard: ShardId,
    claims: &[Claim<'_>],
    regions: &[Region<'_>],
    edits: &mut Edits<'_>,
) -> Result<(), SqlError> {
    for ((occurrence, region), claim) in query.occurrences.iter().zip(regions).zip(claims) {
        if !claim.sharded || claim.shards.is_empty() {
            continue;
        }
        let found = condition(map, occurrence, region, shard, inputs.utf8)?;
        let Some(condition) = found else { continue };
        let spot = occurrence.spot.as_ref();
        if !spot.is_some_and(|spot| edits.keep(spot, &occurrence.table, &condition)) {
            return Err(no_room(map, occurrence));
        }
    }
    Ok(())
}

/// 40001: the statement's text has no place for the condition.
pub(super) fn no_room(map: &ShardMap, occurrence: &Occurrence) -> SqlError {
    let frozen = map.freezes().iter().find(|(key, _)| *key == occurrence.key);
    Refusal::Moving {
        table: occurrence.table.name.clone(),
        key: key_name(map, occurrence.key).to_owned(),
        value: frozen.map(|(_, value)| value.to_string()).unwrap_or_default(),
        why: "there is no place in the statement to say which of them are meant",
    }
    .into()
}
