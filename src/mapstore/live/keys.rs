//! What sharding asks of a schema: keys that are there, numbers that tell their shard, values that are unique
//! beyond one shard.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::told::Told;
use super::{Finding, bare, fault, is_spread, warning};
use crate::catalog::{RelationKind, SHARD_NUMBER, ShardCheck, Table};
use crate::map::{Placement, ShardMap};

/// Key columns: there, of the right type, never NULL; and what the map can't place.
pub(super) fn check_keys(
    map: &ShardMap,
    home: &Told<'_>,
    told: &[Told<'_>],
    findings: &mut Vec<Finding>,
) {
    for table in home.catalog.tables.values().filter(|table| table.kind == RelationKind::Table) {
        let name = bare(&format!("{}.{}", table.schema, table.name)).to_owned();
        let columns = match map.placement(table) {
            Placement::Sharded { columns, .. } => columns,
            Placement::Lookup { .. } => SmallVec::new(),
            Placement::Unusable(why) => {
                fault(findings, format!("table {name} can't be placed: {why}"), None);
                continue;
            }
            _ => continue,
        };
        for column in columns.iter().filter_map(|at| table.columns.get(usize::from(*at))) {
            if !column.not_null {
                fault(
                    findings,
                    format!("key column {name}.{} may be NULL", column.name),
                    Some(
                        "rows without a key are found on no shard: ALTER TABLE … ALTER COLUMN … SET NOT NULL",
                    ),
                );
            }
            if column.has_default {
                warning(
                    findings,
                    format!("key column {name}.{} has a default", column.name),
                    Some(
                        "an INSERT past the proxy that leaves it out lands on whatever shard it is run on",
                    ),
                );
            }
        }
        if map.policy().trust_shard_id {
            check_numbers(table, told, findings);
        }
    }
}

/// `trust_shard_id` wants CHECK (`shard_id` = n) on every shard, and Snowflake ids of the default shard are
/// taken for such on every shard.
fn check_numbers(table: &Table, told: &[Told<'_>], findings: &mut Vec<Finding>) {
    let fq = format!("{}.{}", table.schema, table.name);
    for shard in told {
        let (id, name) = (shard.shard.id, &shard.shard.name);
        let found = |column: &str| {
            let there = shard.table(&fq).and_then(|table| {
                table.columns.get(usize::from(table.column(column)?)).map(|own| own.shard_check)
            });
            there.unwrap_or_default()
        };
        for column in &table.columns {
            let (missing, hint) = match column.shard_check {
                _ if column.name == SHARD_NUMBER => (
                    (found(SHARD_NUMBER) != ShardCheck::Number(Some(id)))
                        .then(|| format!("{SHARD_NUMBER} = {id}")),
                    "ALTER TABLE … ADD CHECK (shard_id = n), or trust_shard_id = false",
                ),
                ShardCheck::Snowflake(_) | ShardCheck::SnowflakeOfRow => {
                    let there = [ShardCheck::Snowflake(Some(id)), ShardCheck::SnowflakeOfRow];
                    let quoted = format!("({} >> 12) & 1023 = {id}", column.name);
                    (
                        (!there.contains(&found(&column.name))).then_some(quoted),
                        "ALTER TABLE … ADD CHECK ((id >> 12) & 1023 = n), or trust_shard_id = false",
                    )
                }
                ShardCheck::None | ShardCheck::Number(_) => continue,
            };
            if let Some(check) = missing {
                let text = format!(
                    "table {} on shard {name} has no CHECK ({check}), and trust_shard_id = true",
                    bare(&fq)
                );
                fault(findings, text, Some(hint));
            }
        }
    }
}

/// Unique indexes that don't contain the key hold on each shard alone.
pub(super) fn check_unique(map: &ShardMap, home: &Told<'_>, findings: &mut Vec<Finding>) {
    let mut uuids = 0;
    for row in &home.unique {
        let [Some(fq), Some(index), Some(numbers), only_uuids, columns] = row.as_slice() else {
            continue;
        };
        let Some(table) = home.table(fq) else { continue };
        let Placement::Sharded { columns: key, .. } = map.placement(table) else { continue };
        let columns = columns.as_deref().unwrap_or_default();
        let names: Vec<&str> = columns.split(", ").collect();
        let has = |at: &u16| {
            table
                .columns
                .get(usize::from(*at))
                .is_some_and(|column| names.contains(&column.name.as_str()))
        };
        if key.iter().all(has) {
            continue;
        }
        if only_uuids.as_deref() == Some("true") && !numbers.split(' ').any(|number| number == "0")
        {
            uuids += 1;
            continue;
        }
        warning(
            findings,
            format!(
                "unique index {index} on {} ({columns}) holds on each shard alone: it does not contain the key",
                bare(fq)
            ),
            Some(
                "two shards may have the same value; add the key to the index, or see to it elsewhere",
            ),
        );
    }
    if uuids > 0 {
        warning(
            findings,
            format!(
                "{uuids} unique indexes on uuids alone hold on each shard alone, which random uuids make good"
            ),
            None,
        );
    }
}

/// A shard's name; start, increment, minimum and maximum of its sequence.
type OnShard<'t> = (&'t str, [i128; 4]);

/// Sequences that give the same numbers on several shards.
pub(super) fn check_sequences(map: &ShardMap, told: &[Told<'_>], findings: &mut Vec<Finding>) {
    let mut columns: BTreeMap<(&str, &str), Vec<OnShard<'_>>> = BTreeMap::new();
    for shard in told {
        for row in &shard.sequences {
            let [Some(fq), Some(column), _, numbers @ ..] = row.as_slice() else { continue };
            let numbers: Vec<i128> =
                numbers.iter().flatten().filter_map(|number| number.parse().ok()).collect();
            let Ok(numbers) = <[i128; 4]>::try_from(numbers) else { continue };
            let Some(table) = shard.table(fq) else { continue };
            if is_spread(map, table) {
                columns.entry((fq, column)).or_default().push((&shard.shard.name, numbers));
            }
        }
    }
    for ((fq, column), sequences) in columns {
        let apart = |[start, step, min, max]: [i128; 4],
                     [other, other_step, low, high]: [i128; 4]| {
            max < low
                || high < min
                || (step == other_step && step != 0 && (start - other) % step != 0)
        };
        let clash = sequences.iter().enumerate().find_map(|(at, (name, numbers))| {
            let earlier = sequences.iter().take(at).find(|(_, other)| !apart(*numbers, *other))?;
            Some((earlier.0, *name))
        });
        if let Some((a, b)) = clash {
            warning(
                findings,
                format!(
                    "the sequence of {}.{column} gives the same numbers on {a} and {b}",
                    bare(fq)
                ),
                Some(
                    "give each shard its own range (MINVALUE, MAXVALUE, RESTART), or its own remainder (INCREMENT BY number of shards, RESTART WITH n)",
                ),
            );
        }
    }
}
