//! Reference tables: the same rows on every shard.

use super::told::Told;
use super::{Finding, bare, fault, warning};
use crate::catalog::{RelationKind, Table};
use crate::map::{Placement, Shard, ShardMap};
use crate::mapstore::read::{ReadError, read_only};
use crate::sql::quote::{quote_identifier, quote_literal};

/// Reference tables of more rows are compared by their number of rows only.
const COMPARED_ROWS_MAX: i64 = 100_000;

/// Reference tables must have the same rows everywhere.
pub(super) async fn check_reference(
    map: &ShardMap,
    home: &Told<'_>,
    told: &[Told<'_>],
    findings: &mut Vec<Finding>,
) {
    let mut tables: Vec<&Table> = home
        .catalog
        .tables
        .values()
        .map(|table| &**table)
        .filter(|table| {
            table.kind == RelationKind::Table && map.placement(table) == Placement::Reference
        })
        .collect();
    tables.sort_by_key(|table| (&table.schema, &table.name));
    let mut seen: Vec<(&str, Vec<Option<String>>)> = Vec::new();
    for shard in told {
        match contents(shard.shard, &tables).await {
            Ok(contents) => seen.push((&shard.shard.name, contents)),
            Err(error) => {
                let text = format!(
                    "reference tables of shard {} can't be read: {error}",
                    shard.shard.name
                );
                warning(findings, text, None);
            }
        }
    }
    let Some((first, expected)) = seen.first() else { return };
    for (name, contents) in seen.iter().skip(1) {
        for ((table, a), b) in tables.iter().zip(expected).zip(contents) {
            if a.is_some() && b.is_some() && a != b {
                fault(
                    findings,
                    format!(
                        "reference table {} has other rows on {name} than on {first}",
                        bare(&format!("{}.{}", table.schema, table.name))
                    ),
                    Some(
                        "any shard answers for a reference table: make its rows the same everywhere",
                    ),
                );
            }
        }
    }
}

/// What stands for the rows of each table; none where the table is missing.
async fn contents(shard: &Shard, tables: &[&Table]) -> Result<Vec<Option<String>>, ReadError> {
    let client = read_only(&shard.url).await?;
    let mut contents = Vec::with_capacity(tables.len());
    for table in tables {
        let fq = format!("{}.{}", quote_identifier(&table.schema), quote_identifier(&table.name));
        let regclass = format!("to_regclass({})", quote_literal(&fq));
        let there = client.query_one(&format!("SELECT {regclass} IS NOT NULL"), &[]).await?;
        if !there.get::<_, bool>(0) {
            contents.push(None);
            continue;
        }
        let sql = format!(
            "SELECT count(*) || ' ' || CASE WHEN count(*) <= {COMPARED_ROWS_MAX} THEN coalesce((\
             SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\")) FROM {fq} t), '') ELSE '' END FROM {fq}"
        );
        contents.push(client.query_one(&sql, &[]).await?.get(0));
    }
    Ok(contents)
}
