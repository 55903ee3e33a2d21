//! Ids that lead to keys: where a statement has one, and what it says of the shards.
//!
//! Main types: [`Via`], an id's column of an occurrence and what the statement says of it; [`IdCells`], the
//! ids in the rows of an INSERT. Only lookups that the map declares unique count, and only ids whose key is
//! known narrow anything; where the statement itself names the key, no id is looked up.

use smallvec::SmallVec;

use super::compile::Occurrence;
use super::constant::Constants;
use super::facts::Facts;
use super::restrict::{Region, Restrict};
use crate::catalog::Table;
use crate::datum::{Decoded, KeyType, KeyValue};
use crate::error::SqlError;
use crate::lookup::{Answer, Lookups};
use crate::map::{KeyId, ShardMap};
use crate::sql::ir::{ColumnRef, Expr, Scalar, SourceId};

/// A column that holds an id of a lookup.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct IdColumn {
    /// The lookup, by its index in the map.
    pub(super) lookup: usize,
    /// The column.
    pub(super) column: u16,
    /// The id's type in this table.
    pub(super) ty: KeyType,
    /// The lookup's source is this column: its rows make ids.
    pub(super) defines: bool,
}

/// The columns of a table that hold ids which lead to `key`.
pub(super) fn id_columns(map: &ShardMap, table: &Table, key: KeyId) -> SmallVec<[IdColumn; 2]> {
    let qualified = format!("{}.{}", table.schema, table.name);
    let mut found = SmallVec::new();
    for (lookup, rule) in map.lookups().iter().enumerate() {
        let whole = map.key(key).is_some_and(|key| key.types.len() == 1);
        if !rule.unique || rule.key != key || !whole {
            continue;
        }
        let listed = rule.tables.get(&qualified);
        for name in listed.into_iter().chain(&rule.columns) {
            let column = table.columns.iter().position(|column| column.name == *name);
            let Some(column) = column else { continue };
            let ty = table
                .columns
                .get(column)
                .filter(|c| c.deterministic)
                .and_then(|c| KeyType::from_oid(c.base_oid));
            let (Some(ty), Ok(column)) = (ty, u16::try_from(column)) else { continue };
            let source = rule.source.as_ref();
            let defines =
                source.is_some_and(|source| source.table == qualified && source.id == *name);
            found.push(IdColumn { lookup, column, ty, defines });
        }
    }
    found
}

/// The key that a lookup leads to, if rows can be placed by it.
pub(super) fn home(map: &ShardMap, lookup: &str) -> Option<KeyId> {
    let rule = map.lookups().iter().find(|rule| rule.name == lookup)?;
    let whole = map.key(rule.key)?.types.len() == 1;
    (rule.unique && whole && rule.source.is_some()).then_some(rule.key)
}

/// An id's column of an occurrence, with what every row that matters has in it.
#[derive(Clone, Debug)]
pub(super) struct Via {
    lookup: usize,
    ty: KeyType,
    restrict: Restrict,
}

/// The ids that an occurrence is restricted by.
pub(super) fn of_occurrence(
    map: &ShardMap,
    facts: Option<&Facts<'_>>,
    source: SourceId,
    table: &Table,
    key: KeyId,
) -> Vec<Via> {
    let Some(facts) = facts else { return Vec::new() };
    let columns = id_columns(map, table, key);
    let restricted = columns.into_iter().filter_map(|id| {
        let column = ColumnRef { source, column: id.column };
        let restrict = facts.restrict(facts.context_of(source), &[column]);
        (restrict != Restrict::Any).then_some(Via { lookup: id.lookup, ty: id.ty, restrict })
    });
    restricted.collect()
}

/// Notes which occurrences have the same id as which: then they have the same key. Rows that every shard has
/// are the exception: their id leads to no key. So the rows of their table follow the others (the copy is
/// where those are), but not the other way round.
pub(super) fn note_same(map: &ShardMap, facts: &Facts<'_>, occurrences: &mut [Occurrence]) {
    if map.lookups().is_empty() || map.shards().len() == 1 || occurrences.len() < 2 {
        return;
    }
    let ids: Vec<_> = occurrences.iter().map(|o| id_columns(map, &o.table, o.key)).collect();
    let has_copies = |lookup: usize| {
        let source = map.lookups().get(lookup).and_then(|rule| rule.source.as_ref());
        let mut rules = map.everywhere_rows().iter();
        rules.any(|rule| {
            source.is_some_and(|source| source.table == format!("{}.{}", rule.schema, rule.table))
        })
    };
    let mut same = vec![Vec::new(); occurrences.len()];
    for (n, (own, own_ids)) in occurrences.iter().zip(&ids).enumerate() {
        let context = facts.context_of(own.source);
        for (m, (other, other_ids)) in occurrences.iter().zip(&ids).enumerate() {
            let pairs = own_ids.iter().flat_map(|a| other_ids.iter().map(move |b| (a, b)));
            let equal = pairs.filter(|(a, b)| a.lookup == b.lookup).any(|(a, b)| {
                let follows = a.defines && !b.defines || !has_copies(a.lookup);
                let column = |source, column| ColumnRef { source, column };
                let (a, b) = (column(own.source, a.column), column(other.source, b.column));
                follows && facts.equal(context, a, b)
            });
            if n != m
                && own.key == other.key
                && equal
                && let Some(same) = same.get_mut(n)
            {
                same.push(m);
            }
        }
    }
    for (occurrence, same) in occurrences.iter_mut().zip(same) {
        occurrence.same = same;
    }
}

/// Narrows each region by those of the occurrences that it has its ids from.
pub(super) fn spread(occurrences: &[Occurrence], regions: &mut [Region<'_>]) {
    // A chain of n occurrences has settled after n rounds.
    for _ in 0..occurrences.len() {
        let mut changed = false;
        for (n, occurrence) in occurrences.iter().enumerate() {
            for other in &occurrence.same {
                let (Some(own), Some(other)) = (regions.get(n), regions.get(*other)) else {
                    continue;
                };
                if other.is_open() || own.is_named() || own.is_empty() {
                    continue;
                }
                let both = own.clone().intersect(other.clone());
                if both != *own
                    && let Some(place) = regions.get_mut(n)
                {
                    *place = both;
                    changed = true;
                }
            }
        }
        if !changed {
            return;
        }
    }
}

/// The region that is left when the ids' keys are known. Every id is asked for, so that all that are
/// unknown come together.
///
/// # Errors
///
/// Those of [`Constants::key`].
pub(super) fn narrow<'a>(
    region: Region<'a>,
    vias: &[Via],
    constants: &Constants<'a>,
    lookups: Option<&dyn Lookups>,
) -> Result<Region<'a>, SqlError> {
    let Some(lookups) = lookups else { return Ok(region) };
    if vias.is_empty() || region.is_named() {
        return Ok(region);
    }
    let mut region = region;
    for via in vias {
        let ids = via.restrict.region(&[via.ty], constants)?;
        let Some(ids) = ids.values() else { continue };
        let mut keys: SmallVec<[KeyValue<'a>; 1]> = SmallVec::new();
        let mut all = true;
        for id in ids {
            match lookups.answer(via.lookup, id) {
                Answer::Key(key) => keys.push(key),
                Answer::Anywhere | Answer::Unasked => all = false,
            }
        }
        if all {
            region = region.intersect(Region::one_of(keys));
        }
    }
    Ok(region)
}

/// The ids in one row of an INSERT, for each [`IdColumn`]; `None` where it isn't a constant.
pub(super) type IdCells = SmallVec<[Option<Scalar>; 2]>;

/// The ids of a row. `listed` is the INSERT's list of columns.
pub(super) fn cells(row: &[Expr], listed: &[u16], columns: &[IdColumn]) -> IdCells {
    let cell = |id: &IdColumn| {
        let at = listed.iter().position(|column| *column == id.column)?;
        match row.get(at)? {
            Expr::Scalar(scalar) => Some(scalar.clone()),
            _ => None,
        }
    };
    columns.iter().map(cell).collect()
}

/// A key that an id of a row leads to.
#[derive(Debug)]
pub(super) struct Led {
    /// The column.
    pub(super) column: u16,
    /// The id.
    pub(super) id: String,
    /// Its key.
    pub(super) key: KeyValue<'static>,
}

/// A row makes ids of its key.
///
/// # Errors
///
/// Those of [`Constants::stored_key`].
pub(super) fn teach(
    columns: &[IdColumn],
    cells: &IdCells,
    stored: &Constants<'_>,
    lookups: Option<&dyn Lookups>,
    key: &KeyValue<'_>,
) -> Result<(), SqlError> {
    let Some(lookups) = lookups else { return Ok(()) };
    for (column, cell) in columns.iter().zip(cells) {
        if let (true, Some(scalar)) = (column.defines, cell)
            && let Decoded::Key(id) = stored.stored_key(column.ty, scalar)?
        {
            lookups.makes(column.lookup, &id, key);
        }
    }
    Ok(())
}

/// The keys that a row's ids lead to. An id that the row itself makes leads nowhere unless it is known
/// already; one that is looked up for its own sake (`ask`) is asked for.
///
/// # Errors
///
/// Those of [`Constants::stored_key`].
pub(super) fn led(
    columns: &[IdColumn],
    cells: &IdCells,
    stored: &Constants<'_>,
    lookups: Option<&dyn Lookups>,
) -> Result<Vec<Led>, SqlError> {
    let mut found = Vec::new();
    let Some(lookups) = lookups else { return Ok(found) };
    for (column, cell) in columns.iter().zip(cells) {
        let Some(scalar) = cell else { continue };
        let Decoded::Key(id) = stored.stored_key(column.ty, scalar)? else { continue };
        let answer = if column.defines {
            lookups.known(column.lookup, &id)
        } else {
            lookups.answer(column.lookup, &id)
        };
        if let Answer::Key(key) = answer {
            found.push(Led { column: column.column, id: id.to_string(), key });
        }
    }
    Ok(found)
}
