//! The key of a row that is inserted: as it is written, as the session or an id has it, or made here.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::super::Ground;
use super::super::compile::column_name;
use super::super::constant::Constants;
use super::super::refusal::Refusal;
use super::super::scope::{Resolved, key_name};
use super::super::splice::value_sql;
use super::super::via;
use super::{Cell, InsertPlan, Row};
use crate::catalog::DefaultValue;
use crate::datum::{Decoded, KeyType, KeyValue};
use crate::error::SqlError;
use crate::map::{ShardId, ShardMap};
use crate::sql::ir::Span;

/// So many random keys are made, at most, until one belongs to the wanted shard: of a thousand shards that get equal
/// shares it is missed once in twenty thousand times, and the statement refused.
const MADE_MAX: usize = 10_000;

/// A row's key, and how it comes into the statement.
pub(super) struct RowKey<'v> {
    pub(super) key: SmallVec<[KeyValue<'v>; 2]>,
    /// The first part's value, to be added to a row that leaves it out.
    pub(super) filled: Option<String>,
    /// Values to be written in the place of what stands there.
    pub(super) written: SmallVec<[(Span, String); 1]>,
    /// Some of it was made for this execution.
    pub(super) made: bool,
}

impl InsertPlan {
    /// The shard of the first row whose key is told, if there are others whose key is made.
    pub(super) fn told_shard(
        &self,
        ground: &Ground<'_>,
        rows: &[Row],
        stored: &Constants<'_>,
    ) -> Option<ShardId> {
        let ([ty], true) = (self.types.as_slice(), rows.len() > 1) else { return None };
        let told = |row: &Row| match row.cells.first()? {
            Cell::Constant(scalar) => match stored.stored_key(*ty, scalar) {
                Ok(Decoded::Key(value)) => {
                    ground.map.place_row(self.key, &[value.stored_as(self.type_name(0))]).ok()
                }
                _ => None,
            },
            Cell::Missing | Cell::Default(_) | Cell::RandomUuid(_) | Cell::Expression => None,
        };
        let is_made = |row: &Row| !matches!(row.cells.first(), Some(Cell::Constant(_)) | None);
        if rows.iter().any(is_made) { rows.iter().find_map(told) } else { None }
    }

    /// A random UUID as a key, for this place of the statement: on the wanted shard, as far as the map gives it
    /// one there.
    fn made_key(
        &self,
        ground: &Ground<'_>,
        ty: KeyType,
        scope: &Resolved<'_>,
        wanted: Option<ShardId>,
        place: u32,
    ) -> Option<KeyValue<'static>> {
        let fresh = scope.fresh?;
        let key = |uuid| match ty {
            KeyType::Uuid => Some(KeyValue::Uuid(uuid)),
            KeyType::Text | KeyType::Varchar => {
                Some(KeyValue::Text(Cow::Owned(KeyValue::Uuid(uuid).to_string())))
            }
            KeyType::BigInt | KeyType::Integer | KeyType::SmallInt => None,
        };
        let mut made = key(fresh.uuid(place))?;
        let one_part = self.types.len() == 1 && !ground.map.has_databases(self.key);
        if let Some(wanted) = wanted.filter(|_| one_part && ground.solo.is_none()) {
            for _ in 0..MADE_MAX {
                match ground.map.place_row(self.key, std::slice::from_ref(&made)) {
                    Ok(shard) if shard != wanted => made = key(fresh.another(place))?,
                    Ok(_) | Err(_) => break,
                }
            }
        }
        Some(made)
    }

    /// Where the values of a part's default come from.
    pub(super) fn default_value(&self, part: usize) -> DefaultValue {
        let column = self.columns.get(part).and_then(|c| self.table.columns.get(usize::from(*c)));
        column.map_or(DefaultValue::Other, |column| column.default)
    }

    /// A row's key, and what has to be written for it.
    pub(super) fn row_key<'v>(
        &self,
        ground: &Ground<'_>,
        row: &Row,
        columns_end: Option<u32>,
        stored: &Constants<'v>,
        scope: &Resolved<'v>,
        wanted: Option<ShardId>,
    ) -> Result<RowKey<'v>, SqlError> {
        let mut key: SmallVec<[KeyValue<'v>; 2]> = SmallVec::new();
        let mut filled = None;
        let mut written = SmallVec::new();
        let mut made = false;
        let led = match ground.solo {
            Some(_) => Vec::new(),
            None => via::led(&self.ids, &row.ids, stored, scope.lookups)?,
        };
        for (part, (cell, ty)) in row.cells.iter().zip(&self.types).enumerate() {
            let refuse = |default: bool| {
                let (table, column) = (self.table.name.clone(), self.column(part));
                let sequence = default && self.default_value(part) == DefaultValue::Sequence;
                SqlError::from(Refusal::KeyExpression { table, column, default, sequence })
            };
            let make = |place| self.made_key(ground, *ty, scope, wanted, place);
            match cell {
                Cell::Constant(scalar) => match stored.stored_key(*ty, scalar)? {
                    Decoded::Key(value) => key.push(value.stored_as(self.type_name(part))),
                    Decoded::Null => {
                        let (table, column) = (self.table.name.clone(), self.column(part));
                        return Err(Refusal::KeyNull { table, column }.into());
                    }
                    Decoded::NoMatch | Decoded::Unknown => return Err(refuse(false)),
                },
                Cell::RandomUuid(span) => {
                    let value = make(span.start).ok_or_else(|| refuse(false))?;
                    written.push((*span, made_sql(&value)));
                    key.push(value);
                    made = true;
                }
                Cell::Default(place) => {
                    let random = self.default_value(part) == DefaultValue::RandomUuid;
                    let span = place.filter(|_| random).ok_or_else(|| refuse(true))?;
                    let value = make(span.start).ok_or_else(|| refuse(true))?;
                    written.push((span, made_sql(&value)));
                    key.push(value);
                    made = true;
                }
                Cell::Expression => return Err(refuse(false)),
                Cell::Missing => {
                    let may = part == 0 && columns_end.is_some() && ground.map.policy().fill_keys;
                    let own = scope.key(self.key).map(|key| key.value);
                    match own.or(led.first().map(|led| &led.key)).filter(|_| may) {
                        Some(fill) => {
                            filled = Some(value_sql(*ty, fill));
                            key.push(fill.clone());
                        }
                        None if may && self.default_value(part) == DefaultValue::RandomUuid => {
                            let value = make(row.end).ok_or_else(|| self.missing(part))?;
                            filled = Some(made_sql(&value));
                            key.push(value);
                            made = true;
                        }
                        None => return Err(self.missing(part)),
                    }
                }
            }
        }
        if self.columns.is_empty() {
            match led.iter().find(|led| Some(led.column) == self.placed_by) {
                Some(led) => key.push(led.key.clone()),
                None if ground.solo.is_some() => {}
                None => {
                    let (table, column) = (self.table.name.clone(), self.column(0));
                    return Err(Refusal::LookupMiss { table, column }.into());
                }
            }
        }
        match led.iter().find(|led| key.first().is_some_and(|key| *key != led.key)) {
            Some(led) => Err(self.led_elsewhere(ground.map, led, &key)),
            None => Ok(RowKey { key, filled, written, made }),
        }
    }

    /// 22023: an id of the row leads to another key than the row's own.
    fn led_elsewhere(&self, map: &ShardMap, led: &via::Led, key: &[KeyValue<'_>]) -> SqlError {
        let name = key_name(map, self.key);
        let own = key.first().map(ToString::to_string).unwrap_or_default();
        let column = column_name(&self.table, led.column);
        Refusal::SourcesDisagree {
            one: format!("the row's {name} is {own} in table \"{}\"", self.table.name),
            other: format!("{column} = {} leads to {name} = {}", led.id, led.key),
        }
        .into()
    }
}

/// What the call would have given.
fn made_sql(value: &KeyValue<'_>) -> String {
    value_sql(KeyType::Uuid, value)
}
