//! What a shard is asked of a table, and what its answer means in both maps.

use tokio_postgres::SimpleQueryMessage;

use super::moved::{Deltas, Which, id_of};
use super::{NotAsked, Stranded, called, note, number};
use crate::catalog::Table;
use crate::datum::KeyValue;
use crate::map::{KeyId, Placement, Shard, ShardId, ShardMap};
use crate::mapstore::asked::Asked;
use crate::mapstore::read::ReadError;
use crate::sql::quote::{quote_identifier, quote_literal};

/// One thing to ask of a shard.
pub(super) struct Question<'a> {
    pub(super) table: &'a Table,
    /// In the old map.
    pub(super) shard: ShardId,
    /// Columns of the key that both maps know, by which rows are placed; none for any row at all.
    columns: Vec<&'a str>,
    /// The key in the old map, where it was sharded by the same one, and in the new one.
    keys: Option<(Option<KeyId>, KeyId)>,
    which: Which,
    /// Where rows without a key belong now.
    to: Vec<String>,
}

impl<'a> Question<'a> {
    /// The same of fewer keys.
    fn narrowed(&self, which: Which) -> Question<'a> {
        let (columns, to) = (self.columns.clone(), self.to.clone());
        Question { table: self.table, shard: self.shard, columns, keys: self.keys, which, to }
    }

    fn table_name(&self) -> String {
        called(&self.table.schema, &self.table.name)
    }

    fn sql(&self, old: &ShardMap) -> String {
        let table = format!(
            "{}.{}",
            quote_identifier(&self.table.schema),
            quote_identifier(&self.table.name)
        );
        let columns: Vec<String> =
            self.columns.iter().map(|column| quote_identifier(column)).collect();
        let mut conditions = Vec::new();
        if let Some(column) = columns.first() {
            conditions.push(format!("{column} IS NOT NULL"));
            match &self.which {
                Which::All => {}
                Which::Keys(keys) => {
                    let keys: Vec<String> = keys.iter().map(|key| quote_literal(key)).collect();
                    conditions.push(format!("{column} IN ({})", keys.join(", ")));
                }
                Which::Between(from, to) => {
                    conditions.extend(
                        from.iter().map(|from| format!("{column} >= {}", quote_literal(from))),
                    );
                    conditions
                        .extend(to.iter().map(|to| format!("{column} <= {}", quote_literal(to))));
                }
            }
        }
        let everywhere = old.everywhere_rows().iter();
        conditions.extend(
            everywhere
                .filter(|rule| rule.schema == self.table.schema && rule.table == self.table.name)
                .map(|rule| format!("({}) IS NOT TRUE", rule.predicate)),
        );
        let condition =
            if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
        if columns.is_empty() {
            return format!("SELECT count(*) FROM {table} WHERE {condition}");
        }
        // Under their own names ORDER BY would mean the texts, and 15 comes before 3.
        let texts: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(n, column)| format!("{column}::text AS pgmeridian_{n}"))
            .collect();
        let columns = columns.join(", ");
        format!(
            "SELECT count(*), {} FROM {table} WHERE {condition} GROUP BY {columns} ORDER BY {columns}",
            texts.join(", ")
        )
    }
}

pub(super) fn ask_of<'a>(
    old: &ShardMap,
    new: &ShardMap,
    deltas: &Deltas,
    table: &'a Table,
    questions: &mut Vec<Question<'a>>,
) {
    let (mut before, mut after) = (old.placement(table), new.placement(table));
    // With routing off everything is on the default shard; what is the same everywhere, there too.
    if !old.routing() && before != Placement::Reference {
        before = Placement::Single(old.default_shard());
    }
    if !new.routing() {
        after = Placement::Single(new.default_shard());
    }
    let names = |shards: &[ShardId]| -> Vec<String> {
        shards.iter().map(|shard| new.shard_name(*shard).to_owned()).collect()
    };
    let column = |at: &u16| table.columns.get(usize::from(*at)).map(|c| c.name.as_str());
    match (&before, &after) {
        (Placement::Sharded { key, columns }, Placement::Sharded { key: to, columns: others }) => {
            let names: Vec<&str> = others.iter().filter_map(column).collect();
            let (keys, asked) = match deltas.key(*key) {
                Some((same, moved)) if same == to && columns == others => {
                    ((Some(*key), *to), moved.clone())
                }
                // By another column or key now: every row may be elsewhere.
                _ => {
                    let all = holders(old, &before).into_iter().map(|shard| (shard, Which::All));
                    ((None, *to), all.collect())
                }
            };
            for (shard, which) in asked {
                let columns = names.clone();
                questions.push(Question {
                    table,
                    shard,
                    columns,
                    keys: Some(keys),
                    which,
                    to: Vec::new(),
                });
            }
        }
        (_, Placement::Sharded { key, columns }) => {
            for shard in holders(old, &before) {
                questions.push(Question {
                    table,
                    shard,
                    columns: columns.iter().filter_map(column).collect(),
                    keys: Some((None, *key)),
                    which: Which::All,
                    to: Vec::new(),
                });
            }
        }
        // What is everywhere is on any shard that it is to be on; a new shard is `check --live`'s to see.
        (Placement::Reference, _) | (_, Placement::Lookup { .. } | Placement::Unusable(_)) => {}
        (_, Placement::Reference | Placement::Single(_) | Placement::Unlisted) => {
            let now = holders(new, &after);
            for shard in holders(old, &before) {
                let stays = same(old, shard, new);
                if now.len() == 1 && stays == now.first().copied() {
                    continue;
                }
                // Rows that are on one shard are not the same rows on all.
                let to = names(&now);
                questions.push(Question {
                    table,
                    shard,
                    columns: Vec::new(),
                    keys: None,
                    which: Which::All,
                    to,
                });
            }
        }
    }
}

/// The shards that hold a table's rows.
fn holders(map: &ShardMap, placement: &Placement<'_>) -> Vec<ShardId> {
    match placement {
        Placement::Sharded { key, .. } => map.key_shards(*key).iter().collect(),
        Placement::Single(shard) => vec![*shard],
        Placement::Unlisted => vec![map.default_shard()],
        Placement::Reference => map.all_shards().iter().collect(),
        // Asked through its source table; and what can't be reached can't be lost.
        Placement::Lookup { .. } | Placement::Unusable(_) => Vec::new(),
    }
}

/// The same shard in another map: the one of the same id.
fn same(from: &ShardMap, shard: ShardId, to: &ShardMap) -> Option<ShardId> {
    let id = from.shard(shard)?.id;
    let at = to.shards().iter().position(|shard| shard.id == id)?;
    u16::try_from(at).ok().map(ShardId)
}

/// What a shard holds that the new map would not find there.
#[derive(Default)]
pub(super) struct Held {
    pub(super) stays: Option<Stranded>,
    /// Rows of frozen keys: while nobody writes them, they may be copied.
    pub(super) frozen: Vec<Frozen>,
}

/// Rows of one frozen key.
pub(super) struct Frozen {
    key: String,
    rows: u64,
    /// Where they belong, in the new map.
    to: ShardId,
}

/// What a shard answers: rows that both maps don't place on it any more.
pub(super) async fn answer(
    asked: &Asked,
    old: &ShardMap,
    new: &ShardMap,
    shard: &Shard,
    question: &Question<'_>,
) -> Result<Held, ReadError> {
    let mut frozen = Vec::new();
    let mut held = Stranded::of(question.table_name(), shard);
    held.to.clone_from(&question.to);
    for message in asked.query(&shard.url, &question.sql(old)).await? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let rows = row.get(0).and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
        let Some((before, after)) = question.keys else {
            held.rows += rows;
            continue;
        };
        let texts: Vec<&str> = (1..row.len()).filter_map(|at| row.get(at)).collect();
        let placed = |map: &ShardMap, key: KeyId| {
            let types = &map.key(key)?.types;
            let values: Vec<KeyValue<'_>> = texts
                .iter()
                .zip(types)
                .filter_map(|(text, ty)| KeyValue::from_text(*ty, text).ok())
                .collect();
            map.place_row(key, &values).ok()
        };
        // A row that the old map did not find either is no worse off.
        let was_here = before
            .is_none_or(|key| placed(old, key).and_then(|at| id_of(old, at)) == Some(shard.id));
        let now = placed(new, after);
        // What has a database of its own is looked for there, and nowhere else.
        let elsewhere = new.has_databases(after);
        if !was_here || (!elsewhere && now.and_then(|at| id_of(new, at)) == Some(shard.id)) {
            continue;
        }
        if let ([text], Some(to), Some(key)) = (texts.as_slice(), now, before)
            && is_frozen(old, new, key, text)
        {
            frozen.push(Frozen { key: (*text).to_owned(), rows, to });
            continue;
        }
        held.rows += rows;
        note(&mut held.keys, &mut held.keys_more, texts.join(", "));
        if let Some(now) = now {
            let name = new.shard_name(now);
            let to = if elsewhere {
                format!("{name}, in databases of their own")
            } else {
                name.to_owned()
            };
            if !held.to.contains(&to) {
                held.to.push(to);
            }
        }
    }
    Ok(Held { stays: (held.rows > 0).then_some(held), frozen })
}

/// Both maps say that the key may not be written.
fn is_frozen(old: &ShardMap, new: &ShardMap, key: KeyId, text: &str) -> bool {
    let name = old.key(key).map(|key| key.name.as_str());
    let frozen = |map: &ShardMap| {
        map.freezes().iter().any(|(own, value)| {
            map.key(*own).map(|key| key.name.as_str()) == name && value.to_string() == text
        })
    };
    frozen(old) && frozen(new)
}

/// Whether the new home has as many rows of a frozen key as the old one: then it is a copy, and nothing is
/// left behind.
pub(super) async fn compare(
    old: &ShardMap,
    new: &ShardMap,
    shard: &Shard,
    question: &Question<'_>,
    frozen: Frozen,
    asked: &Asked,
) -> Result<Option<Stranded>, NotAsked> {
    let Some(home) = new.shard(frozen.to) else { return Ok(None) };
    let not_asked = |error| NotAsked { shard: home.name.clone(), error };
    let which = Which::Keys(vec![frozen.key.clone()]);
    let sql = question.narrowed(which).sql(old);
    let messages = asked.query(&home.url, &sql).await.map_err(not_asked)?;
    let there = number(&messages);
    Ok((there != frozen.rows).then(|| Stranded {
        rows: frozen.rows,
        keys: vec![frozen.key],
        to: vec![home.name.clone()],
        there: Some(there),
        ..Stranded::of(question.table_name(), shard)
    }))
}
