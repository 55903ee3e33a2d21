//! Rows that every shard has (`[[everywhere]]`): is a statement about them, and about them alone?
//!
//! Main type: [`Copies`], a rule beside what a statement says of its column. A read of nothing but these
//! rows may go to any shard. A write of one of them on one shard would make the copies differ, so writes
//! must be known to leave them alone, or be said to all shards (`pgmeridian.shard = '*'`).

use smallvec::SmallVec;

use super::constant::Constants;
use super::facts::Facts;
use super::refusal::Refusal;
use super::restrict::{Region, Restrict};
use super::via::IdCells;
use crate::catalog::Table;
use crate::datum::{Decoded, KeyType, KeyValue};
use crate::error::SqlError;
use crate::map::{Everywhere, KeyId, ShardMap};
use crate::sql::ir::{ColumnRef, Expr, Scalar, SourceId};

/// A rule about rows of a table, and what a statement says of the rule's column.
#[derive(Clone, Debug)]
pub(super) struct Copies {
    predicate: String,
    /// The rule's column and constant, where they are understood.
    equals: Option<(u16, KeyType, KeyValue<'static>)>,
    /// The key that the rows have.
    key: Option<KeyValue<'static>>,
    /// What every row that matters has in the column.
    restrict: Restrict,
}

fn rules<'m>(map: &'m ShardMap, table: &Table) -> impl Iterator<Item = &'m Everywhere> {
    let whole = map.shards().len() > 1;
    let (schema, name) = (table.schema.clone(), table.name.clone());
    let all = map.everywhere_rows().iter();
    all.filter(move |rule| whole && rule.schema == schema && rule.table == name)
}

/// The rules of a table.
pub(super) fn of_table(map: &ShardMap, table: &Table, key: KeyId) -> SmallVec<[Copies; 1]> {
    let key_type = map.key(key).map(crate::map::Key::key_type);
    let known = |ty, text: &str| KeyValue::from_text(ty, text).ok().map(KeyValue::into_owned);
    let of = |rule: &Everywhere| {
        let equals = rule.equals.as_ref().and_then(|(name, text)| {
            let at = table.columns.iter().position(|column| column.name == *name)?;
            let ty = table.columns.get(at).filter(|column| column.deterministic);
            let ty = ty.and_then(|column| KeyType::from_oid(column.base_oid))?;
            Some((u16::try_from(at).ok()?, ty, known(ty, text)?))
        });
        Copies {
            predicate: rule.predicate.clone(),
            equals,
            key: rule.key.as_ref().and_then(|text| known(key_type?, text)),
            restrict: Restrict::Any,
        }
    };
    rules(map, table).map(of).collect()
}

/// The rules of an occurrence's table, with what the statement says of their columns.
pub(super) fn of_occurrence(
    map: &ShardMap,
    facts: Option<&Facts<'_>>,
    source: SourceId,
    table: &Table,
    key: KeyId,
) -> SmallVec<[Copies; 1]> {
    let mut found = of_table(map, table, key);
    for copies in &mut found {
        if let (Some(facts), Some((column, ..))) = (facts, &copies.equals) {
            let column = ColumnRef { source, column: *column };
            copies.restrict = facts.restrict(facts.context_of(source), &[column]);
        }
    }
    found
}

/// Whether an occurrence is about such rows and no others.
///
/// # Errors
///
/// Those of [`Constants::key`].
pub(super) fn are_all(all: &[Copies], constants: &Constants<'_>) -> Result<bool, SqlError> {
    for copies in all {
        let (Some((_, ty, value)), false) =
            (&copies.equals, matches!(copies.restrict, Restrict::Any))
        else {
            continue;
        };
        if copies.restrict.region(&[*ty], constants)?.is_pinned_to(value) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first rule that a write of rows with these keys may break.
///
/// # Errors
///
/// Those of [`Constants::key`].
pub(super) fn touched<'c>(
    all: &'c [Copies],
    constants: &Constants<'_>,
    region: &Region<'_>,
) -> Result<Option<&'c Copies>, SqlError> {
    for copies in all {
        if let Some(key) = &copies.key
            && region.clone().intersect(Region::pinned(1, key.clone())).is_empty()
        {
            continue;
        }
        if let Some((_, ty, value)) = &copies.equals {
            let own = copies.restrict.region(&[*ty], constants)?;
            if own.intersect(Region::pinned(1, value.clone())).is_empty() {
                continue;
            }
        }
        return Ok(Some(copies));
    }
    Ok(None)
}

/// What a row of an INSERT has in the rules' columns.
pub(super) fn cells(row: &[Expr], listed: &[u16], all: &[Copies]) -> IdCells {
    let cell = |copies: &Copies| {
        let (column, ..) = copies.equals.as_ref()?;
        let at = listed.iter().position(|own| own == column)?;
        match row.get(at)? {
            Expr::Scalar(scalar) => Some(scalar.clone()),
            _ => None,
        }
    };
    all.iter().map(cell).collect()
}

/// The rule that says that a row of an INSERT is on every shard.
///
/// # Errors
///
/// Those of [`Constants::stored_key`].
pub(super) fn inserted<'c>(
    all: &'c [Copies],
    cells: &IdCells,
    stored: &Constants<'_>,
) -> Result<Option<&'c Copies>, SqlError> {
    for (copies, cell) in all.iter().zip(cells) {
        let (Some((_, ty, value)), Some(scalar)) = (&copies.equals, cell) else { continue };
        if stored.stored_key(*ty, scalar)? == Decoded::Key(value.clone()) {
            return Ok(Some(copies));
        }
    }
    Ok(None)
}

impl Copies {
    /// Its rows are told by this column.
    pub(super) fn is_told_by(&self, column: u16) -> bool {
        self.equals.as_ref().is_some_and(|(own, ..)| *own == column)
    }

    /// A row with this value in that column may be one of its rows.
    ///
    /// # Errors
    ///
    /// Those of [`Constants::stored_key`].
    pub(super) fn may_become(
        &self,
        value: Option<&Scalar>,
        stored: &Constants<'_>,
    ) -> Result<bool, SqlError> {
        let (Some((_, ty, own)), Some(scalar)) = (&self.equals, value) else { return Ok(true) };
        Ok(match stored.stored_key(*ty, scalar)? {
            Decoded::Key(new) => new == *own,
            Decoded::Null => false,
            _ => true,
        })
    }

    /// 0A000: a write that all shards must hear of.
    pub(super) fn refusal(&self, table: &Table) -> SqlError {
        Refusal::CopiesWritten { table: table.name.clone(), predicate: self.predicate.clone() }
            .into()
    }
}
