//! Rows of one key on shards that are not their home: what a move has left behind, or copied in vain.

use tokio_postgres::SimpleQueryMessage;

use super::{NotAsked, called};
use crate::catalog::{Catalog, RelationKind, Table};
use crate::datum::KeyValue;
use crate::map::{KeyId, Placement, Shard, ShardId, ShardMap};
use crate::mapstore::asked::Asked;
use crate::sql::quote::{quote_identifier, quote_literal};

/// Ids asked for in one statement.
const IDS_AT_ONCE: usize = 5_000;

/// Rows of a table on a shard that is not their home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The table, with its schema where that isn't public.
    pub table: String,
    /// The shard.
    pub shard: String,
    /// How many rows.
    pub rows: u64,
}

/// Asks every shard for rows of a key that the map places on another one. Rows that an id places are those of the
/// ids that the key's home has.
///
/// # Errors
///
/// A shard does not answer.
pub(crate) async fn strays(
    map: &ShardMap,
    catalog: &Catalog,
    key: KeyId,
    value: &KeyValue<'_>,
    asked: &Asked,
) -> Result<Vec<Stray>, NotAsked> {
    let mut tables: Vec<&Table> = catalog.tables.values().map(AsRef::as_ref).collect();
    // What is a part of another is asked through it.
    tables.retain(|table| table.kind == RelationKind::Table && table.parents.is_empty());
    tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    let search = Search { map, key, value, asked };
    let mut found = Vec::new();
    for table in tables {
        match map.placement(table) {
            Placement::Sharded { key: own, columns } if own == key => {
                let columns: Vec<&str> = columns.iter().filter_map(|at| name(table, *at)).collect();
                search.by_key(table, &columns, &mut found).await?;
            }
            Placement::Lookup { name: lookup, column } => {
                let ids = search.ids(lookup).await?;
                if let Some(column) = name(table, column).filter(|_| !ids.is_empty()) {
                    search.by_ids(table, column, &ids, &mut found).await?;
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn name(table: &Table, column: u16) -> Option<&str> {
    table.columns.get(usize::from(column)).map(|column| column.name.as_str())
}

struct Search<'a> {
    map: &'a ShardMap,
    key: KeyId,
    value: &'a KeyValue<'a>,
    asked: &'a Asked,
}

impl Search<'_> {
    fn shards(&self) -> impl Iterator<Item = (ShardId, &Shard)> {
        (0..).map(ShardId).zip(self.map.shards())
    }

    async fn query(&self, shard: &Shard, sql: &str) -> Result<Vec<Vec<String>>, NotAsked> {
        let answer = self.asked.query(&shard.url, sql).await;
        let answer = answer.map_err(|error| NotAsked { shard: shard.name.clone(), error })?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect())
            }
            _ => None,
        };
        Ok(answer.into_iter().filter_map(row).collect())
    }

    /// What says that a row is not one that every shard has.
    fn own_rows(&self, schema: &str, table: &str) -> String {
        let rules = self.map.everywhere_rows().iter();
        let rules = rules.filter(|rule| rule.schema == schema && rule.table == table);
        let own = rules.map(|rule| format!(" AND ({}) IS NOT TRUE", rule.predicate));
        own.collect::<Vec<_>>().concat()
    }

    /// Rows that have the key.
    async fn by_key(
        &self,
        table: &Table,
        columns: &[&str],
        found: &mut Vec<Stray>,
    ) -> Result<(), NotAsked> {
        let Some(first) = columns.first() else { return Ok(()) };
        let quoted: Vec<String> = columns.iter().map(|column| quote_identifier(column)).collect();
        let texts: Vec<String> = quoted.iter().map(|column| format!("{column}::text")).collect();
        let sql = format!(
            "SELECT count(*), {} FROM {} WHERE {} = {}{} GROUP BY {}",
            texts.join(", "),
            qualified(&table.schema, &table.name),
            quote_identifier(first),
            quote_literal(&self.value.to_string()),
            self.own_rows(&table.schema, &table.name),
            quoted.join(", "),
        );
        for (at, shard) in self.shards() {
            let mut rows = 0;
            for row in self.query(shard, &sql).await? {
                let [count, texts @ ..] = row.as_slice() else { continue };
                if self.home(texts) != Some(at) {
                    rows += count.parse::<u64>().unwrap_or_default();
                }
            }
            note(found, table, shard, rows);
        }
        Ok(())
    }

    /// The home of a row with this key.
    fn home(&self, texts: &[String]) -> Option<ShardId> {
        let types = &self.map.key(self.key)?.types;
        let values = texts.iter().zip(types);
        let values = values.map(|(text, ty)| KeyValue::from_text(*ty, text).ok());
        self.map.place_row(self.key, &values.collect::<Option<Vec<_>>>()?).ok()
    }

    /// The key's ids.
    async fn ids(&self, lookup: &str) -> Result<Vec<String>, NotAsked> {
        let rule = self.map.lookups().iter().find(|rule| rule.name == lookup);
        let Some(rule) = rule.filter(|rule| rule.key == self.key) else { return Ok(Vec::new()) };
        let Some(source) = &rule.source else { return Ok(Vec::new()) };
        let Some((schema, table)) = source.table.split_once('.') else { return Ok(Vec::new()) };
        let sql = format!(
            "SELECT {}::text FROM {} WHERE {} = {}{}",
            quote_identifier(&source.id),
            qualified(schema, table),
            quote_identifier(&source.key),
            quote_literal(&self.value.to_string()),
            self.own_rows(schema, table),
        );
        let mut ids = Vec::new();
        let home = self.map.place(self.key, self.value).ok();
        if let Some(shard) = home.and_then(|home| self.map.shard(home)) {
            ids.extend(self.query(shard, &sql).await?.into_iter().flatten());
        }
        Ok(ids)
    }

    /// Rows that have one of the ids.
    async fn by_ids(
        &self,
        table: &Table,
        column: &str,
        ids: &[String],
        found: &mut Vec<Stray>,
    ) -> Result<(), NotAsked> {
        let home = self.map.place(self.key, self.value).ok();
        for (_, shard) in self.shards().filter(|(at, _)| Some(*at) != home) {
            let mut rows = 0;
            for some in ids.chunks(IDS_AT_ONCE) {
                let list: Vec<String> = some.iter().map(|id| quote_literal(id)).collect();
                let sql = format!(
                    "SELECT count(*) FROM {} WHERE {} IN ({}){}",
                    qualified(&table.schema, &table.name),
                    quote_identifier(column),
                    list.join(", "),
                    self.own_rows(&table.schema, &table.name),
                );
                let count = self.query(shard, &sql).await?.into_iter().flatten().next();
                rows += count.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
            }
            note(found, table, shard, rows);
        }
        Ok(())
    }
}

fn qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", quote_identifier(schema), quote_identifier(table))
}

fn note(found: &mut Vec<Stray>, table: &Table, shard: &Shard, rows: u64) {
    if rows > 0 {
        let (table, shard) = (called(&table.schema, &table.name), shard.name.clone());
        found.push(Stray { table, shard, rows });
    }
}
