//! Statements over several shards: the rules *many* and *workspace*, what the map's policy says of them, and why a
//! write on several shards is refused.

use super::compile::{Query, Role};
use super::query::Claim;
use super::refusal::{Construct, Refusal};
use super::restrict::Region;
use super::scope::Resolved;
use super::splice::Edits;
use super::workspace::{Values, Workspace};
use super::{Answer, Crossing, Ground, Inputs, Route, Rule};
use crate::error::SqlError;
use crate::map::{CrossShardReads, ShardId, ShardMap, ShardSet};

/// Rule *many*, or why not.
pub(super) fn several(
    query: &Query,
    ground: &Ground<'_>,
    scope: &Resolved<'_>,
    claims: &[Claim<'_>],
) -> Result<(Route, Rule), SqlError> {
    let map = ground.map;
    let mut all = ShardSet::default();
    for claim in claims {
        all.union_with(&claim.shards);
    }
    if query.writes {
        return Err(several_written(query, map, claims, &all));
    }
    if let Ok(driver) = &query.many {
        let driven = claims.get(*driver).map(|claim| claim.shards.clone()).unwrap_or(all);
        if driven.is_empty() {
            return Ok((Route::Nowhere, Rule::Nowhere));
        }
        if let Some(shard) = driven.single() {
            return Ok((Route::One(shard), Rule::One));
        }
        return Ok((over_all(map, scope, driven)?, Rule::Many));
    }
    if let Err(construct) = &query.workspace {
        let (construct, shards) = (construct.clone(), names(map, &all));
        return Err(Refusal::SeveralShards { construct, shards }.into());
    }
    Ok((over_all(map, scope, all)?, Rule::Workspace))
}

/// These shards together, if the map's policy allows that.
pub(super) fn over_all(
    map: &ShardMap,
    scope: &Resolved<'_>,
    shards: ShardSet,
) -> Result<Route, SqlError> {
    allowed(map, scope.across_regions, &shards)?;
    Ok(if shards == map.all_shards() { Route::All } else { Route::Many(shards) })
}

/// Rule *workspace*: what is fetched, and what runs over it.
pub(super) fn workspace<'p>(
    query: &Query,
    ground: &Ground<'_>,
    inputs: &'p Inputs<'p>,
    scope: &Resolved<'p>,
    claims: &[Claim<'_>],
    regions: &[Region<'p>],
) -> Result<Workspace, SqlError> {
    let unfit = |reason: &str| {
        SqlError::from(Refusal::Opaque {
            reason: reason.to_owned(),
            names: "it reads rows of several shards".to_owned(),
        })
    };
    let why = match &query.many {
        Err(construct) => construct.name(),
        Ok(_) if query.ordered.is_some() => Construct::OrderBy.name(),
        Ok(_) => "rows of a frozen key".to_owned(),
    };
    let shape = query.workspace.as_ref().map_err(|construct| {
        let shards =
            claims.iter().map(|claim| names(ground.map, &claim.shards)).max_by_key(Vec::len);
        Refusal::SeveralShards { construct: construct.clone(), shards: shards.unwrap_or_default() }
    })?;
    if !inputs.standard_strings && shape.has_backslash() {
        return Err(unfit(
            "A view's definition has a backslash, and standard_conforming_strings is off",
        ));
    }
    let mut all = ShardSet::default();
    for claim in claims {
        all.union_with(&claim.shards);
    }
    let home = ShardSet::of(ground.map.default_shard());
    if all.is_empty() {
        all = home.clone();
    }
    let values = Values {
        query,
        map: ground.map,
        inputs,
        scope,
        regions,
        shards: claims.iter().map(|c| if c.copies { &home } else { &c.shards }).collect(),
    };
    shape.check_moving(&values)?;
    let edits = Edits::new(&query.tokens, inputs.text, inputs.literals);
    let planned = shape
        .plan(&values, &all, edits, why)
        .ok_or_else(|| unfit("Its text could not be changed at the places that analysis found"))?;
    all.insert(planned.host);
    fenced(ground.map, scope.across_regions, &all)?;
    Ok(planned)
}

/// Two claims on one shard each, and these are different.
fn different_shards(map: &ShardMap, claims: &[Claim<'_>]) -> Option<SqlError> {
    let mut first: Option<(&Claim<'_>, ShardId)> = None;
    for claim in claims.iter().filter(|claim| !claim.shards.is_empty()) {
        let shard = claim.shards.single()?;
        match first {
            None => first = Some((claim, shard)),
            Some((other, at)) if at != shard => {
                let name = |claim: &Claim<'_>, shard| {
                    (format!("table \"{}\"", claim.table), map.shard_name(shard).to_owned())
                };
                let (one, other) = (name(other, at), name(claim, shard));
                return Some(Refusal::DifferentShards { one, other }.into());
            }
            Some(_) => {}
        }
    }
    None
}

fn several_written(
    query: &Query,
    map: &ShardMap,
    claims: &[Claim<'_>],
    all: &ShardSet,
) -> SqlError {
    for (occurrence, claim) in query.occurrences.iter().zip(claims) {
        if let Role::Write(command) = occurrence.role
            && claim.shards.len() > 1
        {
            let (table, shards) = (occurrence.table.name.clone(), names(map, &claim.shards));
            return Refusal::CrossShardWrite { command, table, shards }.into();
        }
    }
    let inserted = claims.iter().skip(query.occurrences.len() + query.fixed.len());
    if let Some(claim) = inserted.into_iter().find(|claim| claim.shards.len() > 1) {
        let (table, shards) = (claim.table.to_owned(), names(map, &claim.shards));
        return Refusal::CrossShardInsert { table, shards }.into();
    }
    if let Some(error) = different_shards(map, claims) {
        return error;
    }
    let spread = claims.iter().find(|claim| claim.shards.len() > 1);
    let written = claims.iter().find(|claim| claim.shards.len() == 1);
    let name = |claim: Option<&Claim<'_>>| claim.map_or_else(String::new, |c| c.table.to_owned());
    let construct = Construct::NotColocated(name(written), name(spread));
    Refusal::SeveralShards { construct, shards: names(map, all) }.into()
}

/// What the map's policy says of rows of these shards that meet, by a user who may or may not read across
/// fenced regions.
///
/// # Errors
///
/// 0A000: `cross_shard_reads` or `residency` forbid it.
pub fn allowed(map: &ShardMap, across_regions: bool, shards: &ShardSet) -> Result<(), SqlError> {
    if map.policy().cross_shard_reads == CrossShardReads::Refuse {
        return Err(Refusal::CrossShardReads { shards: names(map, shards) }.into());
    }
    fenced(map, across_regions, shards)
}

/// Rows of regions that are kept apart may not meet, not even on the shard that works with them.
fn fenced(map: &ShardMap, across_regions: bool, shards: &ShardSet) -> Result<(), SqlError> {
    match strangers(map, shards) {
        Some((region, with)) if !across_regions => {
            Err(Refusal::Residency { region: region.to_owned(), with: with.to_owned() }.into())
        }
        _ => Ok(()),
    }
}

/// A fenced region among these shards', and another one that it may not be read together with.
fn strangers<'m>(map: &'m ShardMap, shards: &ShardSet) -> Option<(&'m str, &'m str)> {
    let region = |shard: ShardId| map.shard(shard).and_then(|s| s.region.as_deref());
    map.policy().residency.iter().find_map(|rule| {
        if !shards.iter().any(|shard| region(shard) == Some(rule.region.as_str())) {
            return None;
        }
        let stranger = shards.iter().map(region).find(|region| {
            *region != Some(rule.region.as_str())
                && !region.is_some_and(|r| rule.together.iter().any(|allowed| allowed == r))
        });
        stranger.map(|with| (rule.region.as_str(), with.unwrap_or("(none)")))
    })
}

/// The use of a user's right to cross regions, if this is one.
pub(super) fn crossing(
    query: &Query,
    map: &ShardMap,
    scope: &Resolved<'_>,
    plan: (&Route, &Answer),
) -> Option<Box<Crossing>> {
    if !scope.across_regions || map.policy().residency.is_empty() {
        return None;
    }
    let mut shards = match plan.0 {
        Route::Many(shards) => shards.clone(),
        Route::All => map.all_shards(),
        Route::One(_) | Route::Database(_) | Route::Any | Route::Nowhere => return None,
    };
    if let Answer::Workspace(workspace) = plan.1 {
        shards.insert(workspace.host);
    }
    let (region, with) = strangers(map, &shards)?;
    let mut tables: Vec<String> =
        query.occurrences.iter().map(|occurrence| occurrence.table.name.clone()).collect();
    tables.dedup();
    Some(Box::new(Crossing { region: region.to_owned(), with: with.to_owned(), tables }))
}

/// The shards' names.
pub(super) fn names(map: &ShardMap, shards: &ShardSet) -> Vec<String> {
    shards.iter().map(|shard| map.shard_name(shard).to_owned()).collect()
}
