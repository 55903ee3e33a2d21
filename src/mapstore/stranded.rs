//! What a new map would leave behind: rows on shards where it does not look for them.
//!
//! Main type: [`Stranded`]. The old homes of keys that change shard are asked which tables hold rows of
//! them. Whole keys are compared by both maps, so the answer is exact for every strategy; a directory or
//! ranges narrow what is read, a hash reads every distinct key. Tables that hang on a lookup follow the
//! lookup's source table, which is asked itself. Databases that are a key's own, or that `[[databases]]` routes,
//! are asked where they are, for rows of any table.

mod databases;
mod moved;
mod question;
mod strays;

use std::fmt;
use std::time::{Duration, Instant};

use tokio_postgres::SimpleQueryMessage;

use self::databases::databases;
use self::moved::Deltas;
use self::question::{Held, Question, answer, ask_of, compare};
pub use self::strays::Stray;
pub(super) use self::strays::strays;
use super::asked::Asked;
use super::read::ReadError;
use crate::catalog::{Catalog, RelationKind};
use crate::commit::sql;
use crate::error::{SqlError, SqlState};
use crate::map::{Shard, ShardMap};

/// What is prepared on a shard is waited for so long.
const PREPARED_MAX: Duration = Duration::from_secs(5);

/// And looked at every so often.
const PREPARED_INTERVAL: Duration = Duration::from_millis(50);

/// So many keys are named; the others are counted.
const NAMED_MAX: usize = 10;

/// Rows of a table that a new map would not find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranded {
    /// The table, with its schema where that isn't public.
    pub table: String,
    /// The shard that holds the rows.
    pub shard: String,
    /// How many.
    pub rows: u64,
    /// Their keys, the first ones; none for a table without a key.
    pub keys: Vec<String>,
    /// How many more keys.
    pub keys_more: u64,
    /// Where the new map looks for them; none where it has no place for them.
    pub to: Vec<String>,
    /// How many of them are there already, where their key is frozen and they are being copied.
    pub there: Option<u64>,
    /// They are in databases of their own: those of the keys, or where there are no keys, the ones named here.
    pub databases: Vec<String>,
}

impl Stranded {
    /// No rows so far.
    fn of(table: String, shard: &Shard) -> Self {
        Self {
            table,
            shard: shard.name.clone(),
            rows: 0,
            keys: Vec::new(),
            keys_more: 0,
            to: Vec::new(),
            there: None,
            databases: Vec::new(),
        }
    }
}

impl fmt::Display for Stranded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, shard, rows, .. } = self;
        write!(f, "table {table} has {rows} rows on shard {shard}")?;
        let (what, names) = match self.databases.as_slice() {
            [] => (" with key ", &self.keys),
            [_] => (" in database ", &self.databases),
            _ => (" in databases ", &self.databases),
        };
        if !names.is_empty() {
            write!(f, "{what}{}", names.join(", "))?;
            if self.keys_more > 0 {
                write!(f, " and {} more", self.keys_more)?;
            }
        }
        if self.to.is_empty() {
            f.write_str(", and the new map has no place for them")
        } else {
            write!(f, ", and the new map looks for them on {}", self.to.join(", "))?;
            match self.there {
                Some(there) => write!(f, ", which has {there}"),
                None => Ok(()),
            }
        }
    }
}

/// A shard that could not be asked what it holds.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard} can't be asked whether it still holds rows that move: {error}")]
pub struct NotAsked {
    /// Which.
    pub shard: String,
    /// Why.
    pub error: ReadError,
}

/// Asks the shards of the old map which rows the new one would not find.
///
/// # Errors
///
/// A shard that has something to say does not answer.
pub async fn stranded(
    old: &ShardMap,
    new: &ShardMap,
    catalog: &Catalog,
    asked: &Asked,
) -> Result<Vec<Stranded>, NotAsked> {
    let mut questions = Vec::new();
    let deltas = Deltas::of(old, new);
    for table in catalog.tables.values() {
        // What is a part of another is asked through it.
        if table.kind == RelationKind::Table && table.parents.is_empty() {
            ask_of(old, new, &deltas, table, &mut questions);
        }
    }
    questions.sort_by(|a, b| {
        let key = |q: &Question<'_>| (q.shard, q.table.schema.clone(), q.table.name.clone());
        key(a).cmp(&key(b))
    });
    let mut shards: Vec<&Shard> =
        questions.iter().filter_map(|question| old.shard(question.shard)).collect();
    shards.dedup_by_key(|shard| shard.id);
    futures_util::future::try_join_all(shards.into_iter().map(|shard| finished(shard, asked)))
        .await?;
    // Each shard takes its time: all are asked at once.
    let of_shards = questions.chunk_by(|a, b| a.shard == b.shard);
    let answers = of_shards.map(|questions| ask_shard(old, new, questions, asked));
    let mut found = futures_util::future::try_join_all(answers).await?.concat();
    databases(old, new, &mut found, asked).await?;
    Ok(found)
}

/// Waits for what is prepared on a shard: its rows are seen by nobody until it is committed.
async fn finished(shard: &Shard, asked: &Asked) -> Result<(), NotAsked> {
    let not_asked = |error| NotAsked { shard: shard.name.clone(), error };
    let deadline = Instant::now() + PREPARED_MAX;
    let mut waited: Option<Vec<String>> = None;
    loop {
        let rows = asked.query(&shard.url, &sql::names()).await.map_err(not_asked)?;
        let mut names: Vec<String> = rows.iter().filter_map(first_of).collect();
        // What is prepared meanwhile was begun when anything else was that runs now.
        names.retain(|name| waited.as_ref().is_none_or(|waited| waited.contains(name)));
        if names.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let error = SqlError::new(
                SqlState::LOCK_NOT_AVAILABLE,
                format!(
                    "transactions are prepared there that may have written some: {}",
                    names.join(", ")
                ),
            );
            return Err(not_asked(ReadError::Rows(error)));
        }
        waited = Some(names);
        tokio::time::sleep(PREPARED_INTERVAL).await;
    }
}

fn first_of(message: &SimpleQueryMessage) -> Option<String> {
    match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }
}

/// Asks one shard.
async fn ask_shard(
    old: &ShardMap,
    new: &ShardMap,
    questions: &[Question<'_>],
    asked: &Asked,
) -> Result<Vec<Stranded>, NotAsked> {
    let mut found: Vec<Stranded> = Vec::new();
    let Some(shard) = questions.first().and_then(|first| old.shard(first.shard)) else {
        return Ok(found);
    };
    let not_asked = |error| NotAsked { shard: shard.name.clone(), error };
    for question in questions {
        let Held { stays: held, frozen } =
            answer(asked, old, new, shard, question).await.map_err(not_asked)?;
        for copied in frozen {
            found.extend(compare(old, new, shard, question, copied, asked).await?);
        }
        match (held, found.last_mut()) {
            (Some(held), Some(last)) if last.table == held.table && last.there.is_none() => {
                merge(last, held);
            }
            (Some(held), _) => found.push(held),
            (None, _) => {}
        }
    }
    Ok(found)
}

fn merge(into: &mut Stranded, held: Stranded) {
    into.rows += held.rows;
    into.keys_more += held.keys_more;
    for key in held.keys {
        note(&mut into.keys, &mut into.keys_more, key);
    }
    for to in held.to {
        if !into.to.contains(&to) {
            into.to.push(to);
        }
    }
}

fn note(keys: &mut Vec<String>, more: &mut u64, key: String) {
    if keys.len() < NAMED_MAX {
        keys.push(key);
    } else {
        *more += 1;
    }
}

/// A table's name, with its schema where that isn't public.
fn called(schema: &str, table: &str) -> String {
    if schema == "public" { table.to_owned() } else { format!("{schema}.{table}") }
}

/// The number that an answer consists of.
fn number(messages: &[SimpleQueryMessage]) -> u64 {
    let number = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse::<u64>().ok(),
        _ => None,
    });
    number.unwrap_or_default()
}
