//! Numbers of shards in rows: the column `shard_id`, and the bits of Snowflake ids.
//!
//! Main type: [`Number`], what a statement says of such a column. It narrows the shards of an occurrence only
//! under `trust_shard_id`, and only where no CHECK is known to be missing: then a row with `shard_id = 3` is on
//! shard 3, and so are the rows that have its key. It says nothing of rows whose number is NULL, which a CHECK
//! lets pass: no comparison finds those.
//!
//! The key comes first: where it leads elsewhere than the number does, no row can match, and one of the two is
//! a mistake that had better be told (contract, axiom of placement).

use super::compile::{Occurrence, column_name};
use super::constant::Constants;
use super::facts::Facts;
use super::restrict::Restrict;
use crate::catalog::{RelationKind, SHARD_NUMBER, ShardCheck, Table, snowflake_shard};
use crate::datum::{KeyType, KeyValue};
use crate::error::SqlError;
use crate::map::{ShardMap, ShardSet};
use crate::sql::ir::ColumnRef;

/// A column with the number of its row's shard in it, and what every row that matters has there.
#[derive(Clone, Debug)]
pub(super) struct Number {
    holds: Holds,
    restrict: Restrict,
    table: String,
    column: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// The number itself.
    Number,
    /// An id that was made on the shard.
    Snowflake,
}

/// What a number says in one execution.
pub(super) struct Said {
    /// The shards of these numbers. None if there is no such number in the map, or nothing is equal to it.
    pub(super) shards: ShardSet,
    /// `shard_id is 3 in table "users"`; none where the comparison is with NULL, which is no source of a route.
    pub(super) text: Option<String>,
}

/// Notes what is said of the numbers in each occurrence's rows, and in rows that have the same key.
pub(super) fn note(map: &ShardMap, facts: &Facts<'_>, occurrences: &mut [Occurrence]) {
    if !map.policy().trust_shard_id || map.shards().len() == 1 {
        return;
    }
    let columns: Vec<_> = occurrences.iter().map(|o| columns(map, o)).collect();
    let noted: Vec<Vec<Number>> = (occurrences.iter().enumerate())
        .map(|(n, own)| {
            // Rows that every shard has are on no shard of their own.
            if !own.copies.is_empty() {
                return Vec::new();
            }
            let context = facts.context_of(own.source);
            let others = occurrences.iter().zip(&columns).enumerate();
            let beside = others.filter(|(m, (other, columns))| {
                !columns.is_empty() && (n == *m || together(facts, own, other, *m))
            });
            let found = beside.flat_map(|(_, (other, columns))| {
                columns.iter().filter_map(move |(column, holds)| {
                    let at = ColumnRef { source: other.source, column: *column };
                    let restrict = facts.restrict(context, &[at]);
                    (restrict != Restrict::Any).then(|| Number {
                        holds: *holds,
                        restrict,
                        table: other.table.name.clone(),
                        column: column_name(&other.table, *column),
                    })
                })
            });
            found.collect()
        })
        .collect();
    for (occurrence, numbers) in occurrences.iter_mut().zip(noted) {
        occurrence.numbers = numbers;
    }
}

/// Whether the first occurrence's rows have the key of the other's, number `at`, that they are joined with.
fn together(facts: &Facts<'_>, own: &Occurrence, other: &Occurrence, at: usize) -> bool {
    let context = facts.context_of(own.source);
    let equal = |(a, b): (&u16, &u16)| {
        let a = ColumnRef { source: own.source, column: *a };
        facts.equal(context, a, ColumnRef { source: other.source, column: *b })
    };
    let same_key = own.key == other.key
        && !own.columns.is_empty()
        && own.columns.len() == other.columns.len()
        && own.columns.iter().zip(&other.columns).all(equal);
    same_key || own.same.contains(&at)
}

/// The columns of an occurrence's table that can be trusted to name the shard of a row.
fn columns(map: &ShardMap, occurrence: &Occurrence) -> Vec<(u16, Holds)> {
    if !occurrence.copies.is_empty() {
        return Vec::new();
    }
    trusted(map, &occurrence.table)
}

fn trusted(map: &ShardMap, table: &Table) -> Vec<(u16, Holds)> {
    // PostgreSQL checks nothing that a foreign table's server has.
    if !map.policy().trust_shard_id || table.kind != RelationKind::Table {
        return Vec::new();
    }
    // The schema is the default shard's.
    let home = map.shard(map.default_shard()).map(|shard| shard.id);
    let of_home = |number: Option<i16>| number.is_none() || number == home;
    let row = table.column(SHARD_NUMBER).and_then(|at| table.columns.get(usize::from(at)));
    let row = row.filter(|row| matches!(row.shard_check, ShardCheck::Number(n) if of_home(n)));
    let numbered = |oid| oid == 0 || KeyType::from_oid(oid).is_some_and(KeyType::is_integer);
    let holds = |check| match check {
        ShardCheck::None => None,
        ShardCheck::Number(_) => row.map(|_| Holds::Number),
        ShardCheck::Snowflake(number) => of_home(number).then_some(Holds::Snowflake),
        // A row without a number would let any id pass.
        ShardCheck::SnowflakeOfRow => row.filter(|row| row.not_null).map(|_| Holds::Snowflake),
    };
    let found = (0..).zip(&table.columns).filter(|(_, column)| numbered(column.type_oid));
    found.filter_map(|(at, column)| Some((at, holds(column.shard_check)?))).collect()
}

/// The column for the number of a row's shard, where an INSERT of another number is sure to be wrong.
pub(super) fn checked(map: &ShardMap, table: &Table) -> Option<u16> {
    let found = trusted(map, table).into_iter().find(|(_, holds)| *holds == Holds::Number);
    found.map(|(column, _)| column)
}

impl Number {
    /// What it says; `None` if the values don't tell.
    ///
    /// # Errors
    ///
    /// Those of [`Constants::key`].
    pub(super) fn said(
        &self,
        map: &ShardMap,
        constants: &Constants<'_>,
    ) -> Result<Option<Said>, SqlError> {
        let region = self.restrict.region(&[KeyType::BigInt], constants)?;
        let has = |number: i64| region.holds(&KeyValue::Int(number));
        let shards: ShardSet = match (self.holds, region.values()) {
            (Holds::Number, _) => map.shards_where(|shard| has(i64::from(shard.id))),
            (Holds::Snowflake, Some(ids)) => {
                let of_id = |id: &&KeyValue<'_>| match id {
                    KeyValue::Int(id) => Some(snowflake_shard(*id)),
                    KeyValue::Text(_) | KeyValue::Uuid(_) => None,
                };
                let numbers: Vec<i64> = ids.iter().filter_map(of_id).collect();
                map.shards_where(|shard| numbers.contains(&i64::from(shard.id)))
            }
            // Ids between two others may have been made anywhere.
            (Holds::Snowflake, None) => return Ok(None),
        };
        if region.is_open() {
            return Ok(None);
        }
        let text = (!region.is_empty()).then(|| {
            let values = region.named_values().join(", ");
            format!("{} is {values} in table \"{}\"", self.column, self.table)
        });
        Ok(Some(Said { shards, text }))
    }

    /// The column, and the values that it has, for people.
    pub(super) fn named(&self, constants: &Constants<'_>) -> Option<(&str, Vec<String>)> {
        let region = self.restrict.region(&[KeyType::BigInt], constants).ok()?;
        let values = region.named_values();
        (!values.is_empty()).then_some((self.column.as_str(), values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Column;
    use crate::datum::oid;

    const MAP: &str = "default_shard = \"b\"\n\
        shards = [ { id = 1, name = \"a\", url = \"postgresql://u@h/a\" }, { id = 7, name = \"b\", url = \"postgresql://u@h/b\" } ]\n\
        [policy]\ntrust_shard_id = true\n";

    /// The catalog is the default shard's: what its CHECKs say of another number proves nothing.
    #[test]
    fn only_what_a_check_says_is_trusted() {
        let (map, _) = ShardMap::parse("m", MAP, &|_| None).unwrap();
        let table = |checks: [ShardCheck; 2], not_null| {
            let column = |(name, shard_check): (&str, ShardCheck)| Column {
                base_oid: oid::INT8,
                type_oid: oid::INT8,
                not_null,
                shard_check,
                ..Column::named(name)
            };
            let columns = [SHARD_NUMBER, "id"].into_iter().zip(checks).map(column).collect();
            Table::plain("public", "t", columns)
        };
        let check = |checks: [ShardCheck; 2], not_null: bool, expect: &[(u16, Holds)]| {
            assert_eq!(trusted(&map, &table(checks, not_null)), expect, "{checks:?}");
        };
        let (number, snowflake) = ((0, Holds::Number), (1, Holds::Snowflake));
        let (none, of_row) = (ShardCheck::None, ShardCheck::SnowflakeOfRow);
        check([ShardCheck::Number(Some(7)), none], false, &[number]);
        check([ShardCheck::Number(None), none], false, &[number]);
        check([ShardCheck::Number(Some(1)), none], false, &[]);
        check([none, none], false, &[]);
        check([none, ShardCheck::Snowflake(Some(7))], false, &[snowflake]);
        check([none, ShardCheck::Snowflake(Some(1))], false, &[]);
        check([ShardCheck::Number(Some(7)), of_row], true, &[number, snowflake]);
        check([ShardCheck::Number(Some(7)), of_row], false, &[number]);
        check([ShardCheck::Number(Some(1)), of_row], true, &[]);
        check([none, of_row], true, &[]);
    }
}
