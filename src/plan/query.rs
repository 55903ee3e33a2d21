//! Planning of one execution of a query: regions of keys → shards → one of the rules.
//!
//! Main function: [`plan`]. The rules, in this order: *scope* (a hinted or session shard), *one* (all rows
//! that matter are on one shard), *nowhere*, *any*, *many* ([`super::many`]); writes are *one* or refused.

use super::compile::{Occurrence, Query, Role};
use super::constant::Constants;
use super::freeze;
use super::refusal::Refusal;
use super::restrict::Region;
use super::scope::{Origin, Resolved, ScopeKey, key_name, key_text, shard_text};
use super::settings;
use super::several::{crossing, names, over_all, several, workspace};
use super::splice::{self, Edits, value_sql};
use super::staged::{self, Place, Staged};
use super::via;
use super::{Answer, Ground, Inputs, Merge, Plan, Route, Rule, Texts};
use super::{copies, database};
use std::sync::Arc;

use crate::catalog::Table;
use crate::datum::KeyValue;
use crate::error::SqlError;
use crate::lookup;
use crate::map::{KeyId, ShardId, ShardMap, ShardSet};

/// Something that says where a statement must go.
pub(super) struct Claim<'q> {
    /// The table, and how it is named in a refusal.
    pub(super) table: &'q str,
    pub(super) shards: ShardSet,
    /// It comes from a sharded table's key.
    pub(super) sharded: bool,
    /// It is about rows that every shard has.
    pub(super) copies: bool,
    /// The number of a shard that had a say in it: `shard_id is 3 in table "users"`.
    pub(super) number: Option<String>,
}

impl<'q> Claim<'q> {
    fn new(table: &'q str, shards: ShardSet, sharded: bool) -> Self {
        Self { table, shards, sharded, copies: false, number: None }
    }
}

/// Plans one execution.
///
/// # Errors
///
/// A [`Refusal`], or what PostgreSQL would say of a value.
pub(super) fn plan<'p>(
    query: &Query,
    ground: &Ground<'_>,
    inputs: &'p Inputs<'p>,
    scope: &Resolved<'p>,
) -> Result<(Plan, Rule), SqlError> {
    let free = scope.shard.is_none() && ground.solo.is_none() && !scope.whole;
    refuse_unplaced(query, free)?;
    refuse_unfiltered(query, scope)?;
    settings::check(query, ground.map, &Constants::new(inputs), free)?;
    let told = settings::told(query, &Constants::new(inputs));
    let mut edits = Edits::new(&query.tokens, inputs.text, inputs.literals);
    let constants = Constants::new(inputs);
    let regions = regions(query, ground.map, &constants, scope)?;
    add_filters(query, ground.map, inputs, scope, &regions, &mut edits)?;
    let stored = Constants::stored(inputs);
    let database = database::of_statement(query, ground, &stored, scope, &regions)?;
    let mut claims = match database {
        // It has no part in what all shards have.
        Some(_) => Vec::new(),
        None => occurrence_claims(query, ground, &constants, scope, &regions)?,
    };
    let mut once = false;
    for insert in &query.inserts {
        let edits = (&mut edits, &mut once);
        let shards = insert.shards(ground, &stored, scope, &regions, agreed(&claims), edits)?;
        claims.push(Claim::new(&insert.table.name, shards, true));
    }
    if ground.solo.is_none() {
        freeze::check(query, ground.map, &regions)?;
    }
    check_assignments(query, &stored, &regions)?;
    check_id_assignments(query, ground, &stored, scope, &regions)?;
    check_copy_assignments(query, ground, &stored, scope)?;
    let mut staged = None;
    let (route, rule) = match (database, scope.shard) {
        (Some(database), _) => (Route::Database(database), Rule::KeyDatabase),
        (None, Some((shard, _))) => {
            in_scope(query, ground, scope, &claims, &regions)?;
            (Route::One(shard), Rule::Scope)
        }
        (None, None) => unscoped(query, ground, inputs, scope, &claims, &mut staged)?,
    };
    let over = || workspace(query, ground, inputs, scope, &claims, &regions).map(Arc::new);
    let moving = rule != Rule::Scope && ground.solo.is_none() && !ground.map.freezes().is_empty();
    if let (true, Route::One(shard)) = (moving, &route) {
        freeze::restrict(query, ground.map, inputs, *shard, &claims, &regions, &mut edits)?;
    }
    let (answer, rule) = match (&route, rule) {
        _ if staged.is_some() => (staged.map_or(Answer::Relay, Answer::Staged), rule),
        (_, Rule::Workspace) => (Answer::Workspace(over()?), rule),
        (Route::Many(_) | Route::All, _) => {
            let found = gathered(query, ground.map, inputs, moving, &route, &regions, &edits)?;
            match found {
                Gathered::Stream(texts) => (Answer::Stream(texts), rule),
                Gathered::Merge(merge) => {
                    let merge = Merge { fallback: over().ok(), ..*merge };
                    (Answer::Merge(Arc::new(merge)), Rule::Merge)
                }
                Gathered::Otherwise(None) => (Answer::Workspace(over()?), Rule::Workspace),
                Gathered::Otherwise(Some(at)) if query.workspace.is_err() => {
                    return Err(freeze::no_room(ground.map, at));
                }
                Gathered::Otherwise(Some(_)) => (Answer::Workspace(over()?), Rule::Workspace),
            }
        }
        (Route::One(_) | Route::Database(_) | Route::Any | Route::Nowhere, _) => {
            (Answer::Relay, rule)
        }
    };
    let rewritten = if edits.is_empty() || matches!(rule, Rule::Workspace | Rule::Staged) {
        None
    } else {
        let unfit = || Refusal::KeyFilter {
            what: "the statement".to_owned(),
            why: "Its text could not be changed at the places that analysis found.",
        };
        Some(edits.apply().ok_or_else(unfit)?)
    };
    let crossing = crossing(query, ground.map, scope, (&route, &answer));
    let plan = Plan {
        route,
        answer,
        rewritten,
        taints: query.taints || told.is_none() && !query.settings.is_empty(),
        writes: query.writes,
        changes_schema: false,
        settings: told,
        names_temporary: false,
        crossing,
        once,
    };
    Ok((plan, rule))
}

/// How the union of the shards' answers comes about.
enum Gathered<'q> {
    Stream(Texts),
    Merge(Box<Merge>),
    /// Over scratch tables; where a frozen key's rows can't be left out of the text, the table.
    Otherwise(Option<&'q Occurrence>),
}

/// The rules *many* and *merge*: what each shard is asked.
fn gathered<'q>(
    query: &'q Query,
    map: &ShardMap,
    inputs: &Inputs<'_>,
    moving: bool,
    route: &Route,
    regions: &[Region<'_>],
    edits: &Edits<'_>,
) -> Result<Gathered<'q>, SqlError> {
    let mut apart = Vec::new();
    if moving
        && let Ok(driver) = query.many
        && let (Some(drives), Some(region)) = (query.occurrences.get(driver), regions.get(driver))
    {
        let all = map.all_shards();
        let shards = if let Route::Many(shards) = route { shards } else { &all };
        for (shard, condition) in freeze::apart(map, drives, region, shards, inputs.utf8)? {
            let mut own = Edits::new(&query.tokens, inputs.text, inputs.literals);
            let spot = drives.spot.as_ref().filter(|_| edits.is_empty());
            let kept = spot.is_some_and(|spot| own.keep(spot, &drives.table, &condition));
            let Some(changes) = own.in_order().filter(|_| kept) else {
                return Ok(Gathered::Otherwise(Some(drives)));
            };
            apart.push((shard, changes));
        }
    }
    let Some(shape) = &query.ordered else {
        let texts = apart.into_iter().map(|(shard, changes)| {
            splice::spliced(inputs.text, &changes).map(|text| (shard, text))
        });
        return Ok(match texts.collect::<Option<Vec<_>>>() {
            Some(texts) => Gathered::Stream(Texts::new(texts)),
            None => Gathered::Otherwise(
                query.many.as_ref().ok().and_then(|at| query.occurrences.get(*at)),
            ),
        });
    };
    let merge = shape.plan(inputs).filter(|_| edits.is_empty());
    let merge = merge.and_then(|merge| merge.with_apart(&apart));
    Ok(merge.map_or(Gathered::Otherwise(None), |merge| Gathered::Merge(Box::new(merge))))
}

/// The one shard of all claims.
fn agreed(claims: &[Claim<'_>]) -> Option<ShardId> {
    let mut shards = claims.iter().map(|claim| &claim.shards).filter(|shards| !shards.is_empty());
    let first = shards.next()?.single()?;
    shards.all(|shards| shards.single() == Some(first)).then_some(first)
}

/// Tables without a usable place: a shard in scope decides for them, unless they are written and can't be
/// checked.
fn refuse_unplaced(query: &Query, free: bool) -> Result<(), SqlError> {
    match query.unplaced.iter().find(|u| free || u.always) {
        Some(unplaced) => Err(unplaced.refusal.clone().into()),
        None => Ok(()),
    }
}

/// What can't be restricted to the session's key.
fn refuse_unfiltered(query: &Query, scope: &Resolved<'_>) -> Result<(), SqlError> {
    if scope.keys.is_empty() || scope.whole {
        return Ok(());
    }
    let functions = &query.functions;
    let called = [&functions.undeclared, &functions.home, &functions.all, &functions.reads];
    if let Some(name) = called.into_iter().flatten().next() {
        return Err(Refusal::KeyFilter {
            what: format!("function {name}"),
            why: "It may read rows of any key.",
        }
        .of_user(scope.confined));
    }
    if scope.confined {
        let read = query.occurrences.iter().map(|o| (o.key, &o.table));
        let mut all = read.chain(query.inserts.iter().map(|insert| (insert.key, &insert.table)));
        if let Some((_, table)) = all.find(|(key, _)| scope.key(*key).is_none()) {
            let what = format!("table \"{}\" has another sharding key than the user", table.name);
            return Err(Refusal::Confined { what }.into());
        }
    }
    if let Some(unplaced) = query.unplaced.first() {
        return Err(unplaced.refusal.clone().into());
    }
    Ok(())
}

/// The keys that matter, for each occurrence.
pub(super) fn regions<'a>(
    query: &Query,
    map: &ShardMap,
    constants: &Constants<'a>,
    scope: &Resolved<'a>,
) -> Result<Vec<Region<'a>>, SqlError> {
    let found: Result<Vec<Region<'a>>, SqlError> = query
        .occurrences
        .iter()
        .map(|occurrence| {
            let region = occurrence.restrict.region(&occurrence.types, constants)?;
            let region = match map.shards().len() {
                1 => region,
                _ => via::narrow(region, &occurrence.vias, constants, scope.lookups)?,
            };
            let Some(key) = scope.key(occurrence.key) else { return Ok(region) };
            let pinned = Region::pinned(occurrence.types.len(), key.value.clone());
            if region.is_empty() {
                return Ok(region);
            }
            let both = region.clone().intersect(pinned);
            if both.is_empty() {
                let named = region.named_values().join(", ");
                return Err(key_disagrees(map, key, &occurrence.table, &named));
            }
            Ok(both)
        })
        .collect();
    let mut found = found?;
    if query.occurrences.iter().any(|occurrence| !occurrence.same.is_empty()) {
        via::spread(&query.occurrences, &mut found);
    }
    Ok(found)
}

/// 22023: the statement has another key than the scope.
pub(super) fn key_disagrees(
    map: &ShardMap,
    key: &ScopeKey<'_>,
    table: &Table,
    named: &str,
) -> SqlError {
    Refusal::SourcesDisagree {
        one: format!(
            "the statement's key is {} = {named} in table \"{}\"",
            key_name(map, key.key),
            table.name
        ),
        other: key_text(map, key),
    }
    .of_user(key.origin == Origin::User)
}

/// Adds the session's key to each occurrence that the statement itself doesn't pin to it.
fn add_filters(
    query: &Query,
    map: &ShardMap,
    inputs: &Inputs<'_>,
    scope: &Resolved<'_>,
    regions: &[Region<'_>],
    edits: &mut Edits<'_>,
) -> Result<(), SqlError> {
    if scope.keys.is_empty() || scope.whole {
        return Ok(());
    }
    let constants = Constants::new(inputs);
    for (occurrence, region) in query.occurrences.iter().zip(regions) {
        let Some(key) = scope.key(occurrence.key) else { continue };
        let own = occurrence.restrict.region(&occurrence.types, &constants)?;
        let own = if occurrence.columns.is_empty() {
            via::narrow(own, &occurrence.vias, &constants, scope.lookups)?
        } else {
            own
        };
        if region.is_empty() || own.is_pinned_to(key.value) {
            continue;
        }
        if let KeyValue::Text(text) = key.value
            && !inputs.utf8
            && !text.is_ascii()
        {
            return Err(Refusal::ClientEncoding.into());
        }
        let refuse = |why: &'static str| {
            Refusal::KeyFilter { what: format!("table \"{}\"", occurrence.table.name), why }
                .of_user(scope.confined)
        };
        let column = occurrence
            .columns
            .first()
            .and_then(|c| occurrence.table.columns.get(usize::from(*c)))
            .ok_or_else(|| refuse("its key column is not known"))?;
        let ty =
            map.key(occurrence.key).map_or(crate::datum::KeyType::Text, crate::map::Key::key_type);
        let value = value_sql(ty, key.value);
        edits.restrict(&occurrence.site, &column.name, &value).map_err(refuse)?;
    }
    Ok(())
}

fn occurrence_claims<'q>(
    query: &'q Query,
    ground: &Ground<'_>,
    constants: &Constants<'_>,
    scope: &Resolved<'_>,
    regions: &[Region<'_>],
) -> Result<Vec<Claim<'q>>, SqlError> {
    let mut claims = Vec::with_capacity(query.occurrences.len() + query.fixed.len());
    for (occurrence, region) in query.occurrences.iter().zip(regions) {
        let table = &occurrence.table.name;
        if about_copies(occurrence, ground, constants, scope, region)? {
            claims.push(Claim { copies: true, ..Claim::new(table, ShardSet::default(), false) });
            continue;
        }
        let shards = region_shards(ground, occurrence.key, &occurrence.table, region)?;
        let mut claim = Claim::new(table, shards, true);
        // What runs on each shard finds nothing where the number is another one.
        if !occurrence.numbers.is_empty() && ground.solo.is_none() && !scope.on_each {
            by_numbers(ground.map, occurrence, constants, scope, region, &mut claim)?;
        }
        claims.push(claim);
    }
    for fixed in &query.fixed {
        claims.push(Claim::new(&fixed.table, ShardSet::of(fixed.shard(ground, scope)), false));
    }
    Ok(claims)
}

/// Narrows a claim by the numbers of shards that the statement names.
///
/// # Errors
///
/// 22023 when a number and the key, or two numbers, lead to different shards.
fn by_numbers(
    map: &ShardMap,
    occurrence: &Occurrence,
    constants: &Constants<'_>,
    scope: &Resolved<'_>,
    region: &Region<'_>,
    claim: &mut Claim<'_>,
) -> Result<(), SqlError> {
    for number in &occurrence.numbers {
        let Some(said) = number.said(map, constants)? else { continue };
        let mut both = claim.shards.clone();
        both.intersect_with(&said.shards);
        let chosen = claim.number.is_some() || !region.is_open();
        if let (true, Some(text)) =
            (chosen && both.is_empty() && !claim.shards.is_empty(), &said.text)
        {
            let by_key = || match scope.key(occurrence.key) {
                Some(key) => key_text(map, key),
                None => statement_text(map, occurrence, region, &claim.shards),
            };
            let by_number = claim.number.as_ref().map(|own| number_text(map, own, &claim.shards));
            return Err(Refusal::SourcesDisagree {
                one: by_number.unwrap_or_else(by_key),
                other: number_text(map, text, &said.shards),
            }
            .into());
        }
        claim.number = said.text.or_else(|| claim.number.take());
        claim.shards = both;
    }
    Ok(())
}

/// `the statement's shard_id is 3 in table "users" (shard deu)`
fn number_text(map: &ShardMap, number: &str, shards: &ShardSet) -> String {
    match names(map, shards).join(", ") {
        none if none.is_empty() => format!("the statement's {number} (no shard)"),
        shards => format!("the statement's {number} (shard {shards})"),
    }
}

/// Whether an occurrence is about rows that every shard has, so that each will do; a write must leave them
/// alone or be for all shards.
fn about_copies(
    occurrence: &Occurrence,
    ground: &Ground<'_>,
    constants: &Constants<'_>,
    scope: &Resolved<'_>,
    region: &Region<'_>,
) -> Result<bool, SqlError> {
    if occurrence.copies.is_empty() || ground.solo.is_some() || region.is_empty() {
        return Ok(false);
    }
    let alone = !region.is_named() && copies::are_all(&occurrence.copies, constants)?;
    if occurrence.role == Role::Read || scope.on_each {
        return Ok(alone);
    }
    match copies::touched(&occurrence.copies, constants, region)? {
        Some(rule) => Err(rule.refusal(&occurrence.table)),
        None => Ok(false),
    }
}

/// The shards of a region of keys.
///
/// # Errors
///
/// 22023 when a value has no shard.
pub(super) fn region_shards(
    ground: &Ground<'_>,
    key: KeyId,
    table: &Table,
    region: &Region<'_>,
) -> Result<ShardSet, SqlError> {
    match ground.solo {
        Some(_) if region.is_empty() => Ok(ShardSet::default()),
        Some(home) => Ok(ShardSet::of(home)),
        None => region.shards(ground.map, key).map_err(|no_shard| {
            Refusal::NoShard { no_shard, table: Some(table.name.clone()) }.into()
        }),
    }
}

/// Assignments to a key must be proved to change nothing.
fn check_assignments(
    query: &Query,
    stored: &Constants<'_>,
    regions: &[Region<'_>],
) -> Result<(), SqlError> {
    for assignment in &query.assignments {
        let occurrence = assignment.occurrence.and_then(|at| query.occurrences.get(at));
        let region = assignment.occurrence.and_then(|at| regions.get(at));
        let same = match (occurrence, region, &assignment.value) {
            (Some(occurrence), Some(region), Some(value)) => {
                let ty = occurrence.types.get(assignment.part).copied();
                match (region.only(assignment.part), ty) {
                    (Some(only), Some(ty)) => {
                        matches!(
                            stored.stored_key(ty, value)?,
                            crate::datum::Decoded::Key(new) if new == *only
                        )
                    }
                    _ => false,
                }
            }
            _ => false,
        };
        if !same {
            let (table, column) = (assignment.table.clone(), assignment.column.clone());
            return Err(Refusal::KeyAssigned { table, column }.into());
        }
    }
    Ok(())
}

/// No row becomes one that every shard has, on one shard.
fn check_copy_assignments(
    query: &Query,
    ground: &Ground<'_>,
    stored: &Constants<'_>,
    scope: &Resolved<'_>,
) -> Result<(), SqlError> {
    if ground.solo.is_some() || scope.on_each {
        return Ok(());
    }
    for assignment in &query.copy_assignments {
        if assignment.copies.may_become(assignment.value.as_ref(), stored)? {
            return Err(assignment.copies.refusal(&assignment.table));
        }
    }
    Ok(())
}

/// An id may only be assigned where its key is that of the rows: else they could not be found by it.
fn check_id_assignments(
    query: &Query,
    ground: &Ground<'_>,
    stored: &Constants<'_>,
    scope: &Resolved<'_>,
    regions: &[Region<'_>],
) -> Result<(), SqlError> {
    if ground.solo.is_some() {
        return Ok(());
    }
    for assignment in &query.id_assignments {
        let region = assignment.occurrence.and_then(|at| regions.get(at));
        let only = region.and_then(|region| region.only(0));
        let same = match &assignment.value {
            Some(value) => match stored.stored_key(assignment.id.ty, value)? {
                crate::datum::Decoded::Null => true,
                crate::datum::Decoded::Key(id) => {
                    let answer = scope.lookups.map(|l| l.answer(assignment.id.lookup, &id));
                    match answer {
                        Some(lookup::Answer::Key(key)) => only.is_some_and(|only| *only == key),
                        Some(lookup::Answer::Anywhere) => only.is_some(),
                        Some(lookup::Answer::Unasked) | None => false,
                    }
                }
                _ => false,
            },
            None => false,
        };
        if !same {
            let (table, column) = (assignment.table.clone(), assignment.column.clone());
            return Err(Refusal::IdAssigned { table, column }.into());
        }
    }
    Ok(())
}

/// Rule *scope*: the statement runs on the shard that hint or session say, as on that server alone. What
/// the statement itself says must agree, and writes must be placed there.
fn in_scope(
    query: &Query,
    ground: &Ground<'_>,
    scope: &Resolved<'_>,
    claims: &[Claim<'_>],
    regions: &[Region<'_>],
) -> Result<(), SqlError> {
    let Some((shard, origin)) = scope.shard else { return Ok(()) };
    let map = ground.map;
    let only = ShardSet::of(shard);
    let disagree = |what: String| {
        SqlError::from(Refusal::SourcesDisagree {
            one: what,
            other: shard_text(map, shard, origin),
        })
    };
    for ((occurrence, region), claim) in query.occurrences.iter().zip(regions).zip(claims) {
        // With routing off, rows live on the default shard whatever their key; reads elsewhere see what is
        // there.
        if ground.solo.is_some() && occurrence.role == Role::Read {
            continue;
        }
        let whole = !region.is_named() || region.is_empty();
        let open = region.is_open() && claim.number.is_none() && occurrence.role == Role::Read;
        let meets = open || claim.shards.is_empty() || claim.shards.contains(shard);
        let inside = claim.shards.is_subset(&only);
        if !(inside || whole && meets) {
            let by_number = claim.number.as_ref().map(|own| number_text(map, own, &claim.shards));
            let by_key = || statement_text(map, occurrence, region, &claim.shards);
            return Err(disagree(by_number.unwrap_or_else(by_key)));
        }
    }
    // Rows that are inserted follow the occurrences and the fixed tables.
    let inserted = claims.iter().skip(query.occurrences.len() + query.fixed.len());
    for (claim, insert) in inserted.zip(&query.inserts) {
        if !claim.shards.is_subset(&only) {
            let shards = names(map, &claim.shards).join(", ");
            return Err(disagree(format!("the rows' {} is on shard {shards}", insert.label(map))));
        }
    }
    if let (Some(home), Some(table)) = (ground.solo, &query.reference_written)
        && home != shard
    {
        // With routing off every row has its place on the default shard, a reference table's too.
        return Err(Refusal::WriteElsewhere {
            table: table.clone(),
            home: map.shard_name(home).to_owned(),
            scope: map.shard_name(shard).to_owned(),
        }
        .into());
    }
    match query.fixed.iter().find(|f| f.written && f.shard(ground, scope) != shard) {
        Some(fixed) => Err(Refusal::WriteElsewhere {
            table: fixed.table.clone(),
            home: map.shard_name(fixed.shard(ground, scope)).to_owned(),
            scope: map.shard_name(shard).to_owned(),
        }
        .into()),
        None => Ok(()),
    }
}

fn statement_text(
    map: &ShardMap,
    occurrence: &Occurrence,
    region: &Region<'_>,
    shards: &ShardSet,
) -> String {
    let (table, shards) = (&occurrence.table.name, names(map, shards).join(", "));
    let named = region.named_values().join(", ");
    if named.is_empty() {
        return format!("table \"{table}\" is on shard {shards}");
    }
    let key = key_name(map, occurrence.key);
    format!("the statement's key is {key} = {named} in table \"{table}\" (shard {shards})")
}

/// The rules *one*, *nowhere*, *any*, *many*, and *staged*, which says more of itself.
fn unscoped(
    query: &Query,
    ground: &Ground<'_>,
    inputs: &Inputs<'_>,
    scope: &Resolved<'_>,
    claims: &[Claim<'_>],
    staged: &mut Option<Arc<Staged>>,
) -> Result<(Route, Rule), SqlError> {
    let map = ground.map;
    if ground.solo.is_none() {
        if let Some(table) = &query.reference_written {
            return Err(Refusal::ReferenceWrite { table: table.clone() }.into());
        }
        if let Some(view) = &query.view_written {
            return Err(Refusal::ViewWrite { view: view.clone() }.into());
        }
    }
    if let Some(view) = query.view_written.as_ref().filter(|_| !scope.keys.is_empty()) {
        return Err(Refusal::KeyFilter {
            what: format!("a write to view \"{view}\""),
            why: "Where a view's rows go can't be seen.",
        }
        .into());
    }
    other_keys_agree(query, map, scope, claims)?;
    let mut agreed: Option<ShardId> = None;
    let mut together = true;
    for claim in claims.iter().filter(|claim| !claim.shards.is_empty()) {
        match (claim.shards.single(), agreed) {
            (Some(shard), None) => agreed = Some(shard),
            (Some(shard), Some(same)) if shard == same => {}
            _ => together = false,
        }
    }
    let by_rows = claims.iter().any(|claim| claim.sharded && !claim.shards.is_empty());
    let (route, rule) = if !together {
        if let Some((shards, found)) = staged::insert(query, claims, inputs, scope) {
            if let Place::Rows(shard) = found.place {
                functions(query, ground, Route::One(shard), Rule::Staged, false)?;
            }
            *staged = Some(Arc::new(found));
            return Ok((over_all(map, scope, shards)?, Rule::Staged));
        }
        return several(query, ground, scope, claims);
    } else if let Some(shard) = agreed {
        (Route::One(shard), if by_rows { Rule::One } else { Rule::Fixed })
    } else if claims.iter().any(|claim| claim.sharded) {
        (Route::Nowhere, Rule::Nowhere)
    } else {
        (Route::Any, Rule::Any)
    };
    functions(query, ground, route, rule, by_rows)
}

/// Rows of another sharding key than the session's must be on the shard of the session's key.
fn other_keys_agree(
    query: &Query,
    map: &ShardMap,
    scope: &Resolved<'_>,
    claims: &[Claim<'_>],
) -> Result<(), SqlError> {
    for key in &scope.keys {
        for (occurrence, claim) in query.occurrences.iter().zip(claims) {
            if occurrence.key == key.key || claim.shards.is_subset(&key.shards) {
                continue;
            }
            return Err(Refusal::SourcesDisagree {
                one: format!(
                    "table \"{}\" is on shard {}",
                    occurrence.table.name,
                    names(map, &claim.shards).join(", ")
                ),
                other: key_text(map, key),
            }
            .of_user(key.origin == Origin::User));
        }
    }
    Ok(())
}

/// What the functions of a statement with one route ask for.
fn functions(
    query: &Query,
    ground: &Ground<'_>,
    route: Route,
    rule: Rule,
    by_rows: bool,
) -> Result<(Route, Rule), SqlError> {
    let map = ground.map;
    if let Some(home) = ground.solo {
        // Other shards may not even have the tables.
        return Ok((Route::One(home), rule));
    }
    let functions = &query.functions;
    let home = map.default_shard();
    let one = matches!(route, Route::One(_));
    if let Some(name) = &functions.all {
        return Err(Refusal::AllFunction { name: name.clone() }.into());
    }
    if let Some(name) = &functions.reads {
        return Err(Refusal::ReadingFunction { name: name.clone() }.into());
    }
    if let Some(name) = &functions.undeclared
        && !(one && by_rows)
    {
        return Err(Refusal::UserFunction { name: name.clone() }.into());
    }
    if let Some(name) = &functions.home {
        return match route {
            Route::One(shard) if shard != home => Err(Refusal::HomeFunction {
                name: name.clone(),
                home: map.shard_name(home).to_owned(),
            }
            .into()),
            Route::One(_) | Route::Database(_) => Ok((route, rule)),
            Route::Any | Route::Nowhere | Route::Many(_) | Route::All => {
                Ok((Route::One(home), Rule::Home))
            }
        };
    }
    // Sequences, locks of the whole database and of reference rows are kept on one shard, so that they
    // mean the same to everyone.
    if !one && (functions.homely || query.locks_rows) {
        return Ok((Route::One(home), Rule::Home));
    }
    Ok((route, rule))
}
