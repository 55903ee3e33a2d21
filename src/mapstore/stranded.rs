//! What a new map would leave behind: rows on shards where it does not look for them.
//!
//! Main type: [`Stranded`]. The old homes of keys that change shard are asked which tables hold rows of
//! them. Whole keys are compared by both maps, so the answer is exact for every strategy; a directory or
//! ranges narrow what is read, a hash reads every distinct key. Tables that hang on a lookup follow the
//! lookup's source table, which is asked itself. Databases that are a key's own, or that `[[databases]]` routes,
//! are asked where they are, for rows of any table.

use std::fmt;

use tokio_postgres::SimpleQueryMessage;

use super::asked::Asked;
use super::read::ReadError;
use crate::catalog::{Catalog, RelationKind, Table};
use crate::datum::KeyValue;
use crate::map::directory::{Directory, Otherwise};
use crate::map::geo::{Geo, Region};
use crate::map::hash::Hash;
use crate::map::range::{RangeEntry, Ranges};
use crate::map::{DatabaseHome, Key, KeyId, Placement, Shard, ShardId, ShardMap, Strategy};

/// So many keys are named; the others are counted.
const NAMED_MAX: usize = 10;

/// Keys asked for in one statement.
const KEYS_AT_ONCE: usize = 5_000;

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

/// Which of a shard's rows to look at.
#[derive(Debug, Clone, PartialEq)]
enum Which {
    All,
    Keys(Vec<String>),
    Between(Option<String>, Option<String>),
}

/// One thing to ask of a shard.
struct Question<'a> {
    table: &'a Table,
    /// In the old map.
    shard: ShardId,
    /// Columns of the key that both maps know, by which rows are placed; none for any row at all.
    columns: Vec<&'a str>,
    /// The key in the old map, where it was sharded by the same one, and in the new one.
    keys: Option<(Option<KeyId>, KeyId)>,
    which: Which,
    /// Where rows without a key belong now.
    to: Vec<String>,
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
    // Each shard takes its time: all are asked at once.
    let of_shards = questions.chunk_by(|a, b| a.shard == b.shard);
    let answers = of_shards.map(|questions| ask_shard(old, new, questions, asked));
    let mut found = futures_util::future::try_join_all(answers).await?.concat();
    databases(old, new, &mut found, asked).await?;
    Ok(found)
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

/// Databases that clients of the old map find by name or by their key, as they are on a server.
const DATABASES: &str = "SELECT datname FROM pg_catalog.pg_database \
    WHERE datallowconn AND NOT datistemplate ORDER BY length(datname), datname";

/// A database's tables.
const TABLES: &str = "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' \
    AND n.nspname NOT IN ('information_schema', 'pgmeridian') ORDER BY 1, 2";

/// Asks for whole databases that the new map looks for elsewhere.
async fn databases(
    old: &ShardMap,
    new: &ShardMap,
    found: &mut Vec<Stranded>,
    asked: &Asked,
) -> Result<(), NotAsked> {
    if !old.has_key_databases() && old.databases().is_empty() {
        return Ok(());
    }
    for (at, shard) in (0..).map(ShardId).zip(old.shards()) {
        let not_asked = |error| NotAsked { shard: shard.name.clone(), error };
        let messages = asked.query(&shard.url, DATABASES).await.map_err(not_asked)?;
        let mut of_shard: Vec<Stranded> = Vec::new();
        for message in &messages {
            let SimpleQueryMessage::Row(row) = message else { continue };
            let Some(name) =
                row.get(0).filter(|name| old.database_home(name) == Some(DatabaseHome::Here(at)))
            else {
                continue;
            };
            let Err(to) = stays(old, new, shard, name) else { continue };
            let mut target = shard.url.clone();
            name.clone_into(&mut target.dbname);
            let own = Asked::default();
            let tables = own.query(&target, TABLES).await.map_err(not_asked)?;
            for table in &tables {
                let SimpleQueryMessage::Row(table) = table else { continue };
                let (Some(schema), Some(table)) = (table.get(0), table.get(1)) else { continue };
                let sql = format!("SELECT count(*) FROM {}.{}", quote(schema), quote(table));
                let counted = own.query(&target, &sql).await.map_err(not_asked)?;
                let rows = number(&counted);
                if rows > 0 {
                    let table = match schema {
                        "public" => table.to_owned(),
                        schema => format!("{schema}.{table}"),
                    };
                    note_database(&mut of_shard, &table, shard, rows, name, to.clone());
                }
            }
            own.close();
        }
        found.append(&mut of_shard);
    }
    Ok(())
}

/// Whether the new map finds a database of the old one where it is; else where it looks for it, if anywhere.
fn stays(old: &ShardMap, new: &ShardMap, shard: &Shard, name: &str) -> Result<(), Option<String>> {
    let home = match old.key_database_named(name) {
        Some(own) => {
            if let Some(own) = new.key_database_named(name) {
                Some((own.shard, name.to_owned()))
            } else {
                // The same key's, where they are called otherwise now.
                let key = old.key(own.key).and_then(|key| new.key_named(&key.name));
                let renamed = key.and_then(|key| new.key_database(key, &own.value).ok().flatten());
                renamed.map(|own| (own.shard, own.name))
            }
        }
        None => match new.database_home(name) {
            Some(DatabaseHome::Here(at)) => Some((at, name.to_owned())),
            _ => None,
        },
    };
    let Some((at, called)) = home else { return Err(None) };
    let same = new.shard(at).is_some_and(|home| {
        // Shards may share a server, and a shard's server may be another one by now.
        home.id == shard.id || (&home.url.host, home.url.port) == (&shard.url.host, shard.url.port)
    });
    if same && called == name {
        Ok(())
    } else {
        Err(Some(format!("{}/{called}", new.shard_name(at))))
    }
}

fn note_database(
    found: &mut Vec<Stranded>,
    table: &str,
    shard: &Shard,
    rows: u64,
    database: &str,
    to: Option<String>,
) {
    if !found.iter().any(|own| own.table == table) {
        found.push(Stranded {
            table: table.to_owned(),
            shard: shard.name.clone(),
            rows: 0,
            keys: Vec::new(),
            keys_more: 0,
            to: Vec::new(),
            there: None,
            databases: Vec::new(),
        });
    }
    let Some(own) = found.iter_mut().find(|own| own.table == table) else { return };
    own.rows += rows;
    note(&mut own.databases, &mut own.keys_more, database.to_owned());
    own.to.extend(to.filter(|_| own.to.len() < NAMED_MAX));
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

/// The same shard in another map: the one of the same id.
fn same(from: &ShardMap, shard: ShardId, to: &ShardMap) -> Option<ShardId> {
    let id = from.shard(shard)?.id;
    let at = to.shards().iter().position(|shard| shard.id == id)?;
    u16::try_from(at).ok().map(ShardId)
}

fn id_of(map: &ShardMap, shard: ShardId) -> Option<i16> {
    map.shard(shard).map(|shard| shard.id)
}

/// For each key of the old map that the new one has too: which of its keys may have another shard.
struct Deltas(Vec<Option<Delta>>);

/// A key in the new map, and which of its values may have another shard, by the old one.
type Delta = (KeyId, Vec<(ShardId, Which)>);

impl Deltas {
    fn of(old: &ShardMap, new: &ShardMap) -> Self {
        let delta = |key: &Key| {
            let at = new.key_named(&key.name)?;
            let other = new.key(at).filter(|other| other.types == key.types)?;
            Some((at, moved(old, key, new, other)))
        };
        Self(old.keys().iter().map(delta).collect())
    }

    fn key(&self, key: KeyId) -> Option<&Delta> {
        self.0.get(usize::from(key.0))?.as_ref()
    }
}

fn everywhere_of(key: &Key) -> Vec<(ShardId, Which)> {
    key.shards.iter().map(|shard| (shard, Which::All)).collect()
}

/// Which keys may have another shard, by their old one. Rather too many: each is placed by both maps.
fn moved(old: &ShardMap, key: &Key, new: &ShardMap, other: &Key) -> Vec<(ShardId, Which)> {
    match (&key.strategy, &other.strategy) {
        (Strategy::Hash(a), Strategy::Hash(b)) if same_hash(old, a, new, b) => Vec::new(),
        (Strategy::Range(a), Strategy::Range(b)) => moved_ranges(old, a, new, b),
        (Strategy::Directory(a), Strategy::Directory(b)) => {
            moved_entries(old, a, new, b).unwrap_or_else(|| everywhere_of(key))
        }
        (Strategy::Geo(a), Strategy::Geo(b)) if same_geo(old, a, new, b) => Vec::new(),
        (Strategy::Database(_), _) => Vec::new(),
        _ => everywhere_of(key),
    }
}

fn same_hash(old: &ShardMap, a: &Hash, new: &ShardMap, b: &Hash) -> bool {
    let same_shards = |a: &[ShardId], b: &[ShardId]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| id_of(old, *a) == id_of(new, *b))
    };
    match (a, b) {
        (Hash::Modulo(a), Hash::Modulo(b)) | (Hash::Postgres(a), Hash::Postgres(b)) => {
            same_shards(a, b)
        }
        (Hash::Md5 { prefix: p, shards: a }, Hash::Md5 { prefix: q, shards: b }) => {
            p == q && same_shards(a, b)
        }
        (Hash::Slots(a), Hash::Slots(b)) => same_shards(a, b),
        (Hash::Consistent { prefix: p, ring: a }, Hash::Consistent { prefix: q, ring: b }) => {
            p == q
                && a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((x, a), (y, b))| x == y && id_of(old, *a) == id_of(new, *b))
        }
        _ => false,
    }
}

fn same_geo(old: &ShardMap, a: &Geo, new: &ShardMap, b: &Geo) -> bool {
    let same = |a: &Region, b: &Region| match (a, b) {
        (Region::One(a), Region::One(b)) => id_of(old, *a) == id_of(new, *b),
        (Region::Within(a), Region::Within(b)) => same_hash(old, a, new, b),
        _ => false,
    };
    a.default.and_then(|shard| id_of(old, shard)) == b.default.and_then(|shard| id_of(new, shard))
        && a.regions.len() == b.regions.len()
        && a.regions.iter().all(|(name, a)| b.regions.get(name).is_some_and(|b| same(a, b)))
}

/// `None` when it can't be narrowed down.
fn moved_entries(
    old: &ShardMap,
    a: &Directory,
    new: &ShardMap,
    b: &Directory,
) -> Option<Vec<(ShardId, Which)>> {
    let mut moved = match (&a.otherwise, &b.otherwise) {
        (Otherwise::Refuse, _) => Vec::new(),
        (Otherwise::Range(a), Otherwise::Range(b)) => moved_ranges(old, a, new, b),
        (Otherwise::Hash(a), Otherwise::Hash(b)) if same_hash(old, a, new, b) => Vec::new(),
        _ => return None,
    };
    let mut by_shard: Vec<Vec<String>> = vec![Vec::new(); old.shards().len()];
    for entry in b.entries.moved_since(&a.entries) {
        let Ok(from) = a.place_of(&entry.key) else { continue };
        if let Some(keys) = by_shard.get_mut(usize::from(from.0)) {
            keys.push(entry.key.to_string());
        }
    }
    // A directory's rows stay where they are when their shard's place in the map is another one; shards
    // that are gone have theirs, by their ids.
    let gone = |id: i16| !new.shards().iter().any(|shard| shard.id == id);
    for (home, _) in a.entries.homes().filter(|(home, _)| gone(*home)) {
        let at = old.shards().iter().position(|shard| shard.id == home);
        if let Some(at) = at.and_then(|at| u16::try_from(at).ok()) {
            moved.push((ShardId(at), Which::All));
        }
    }
    for (at, keys) in (0..).zip(by_shard) {
        moved.extend(
            keys.chunks(KEYS_AT_ONCE).map(|keys| (ShardId(at), Which::Keys(keys.to_vec()))),
        );
    }
    Some(moved)
}

fn moved_ranges(old: &ShardMap, a: &Ranges, new: &ShardMap, b: &Ranges) -> Vec<(ShardId, Which)> {
    let mut moved = Vec::new();
    for entry in a.entries() {
        let id = id_of(old, entry.shard);
        let stay: Vec<&RangeEntry> =
            b.entries().iter().filter(|other| id_of(new, other.shard) == id).collect();
        let whole = stay.iter().any(|other| other.from == entry.from && other.to == entry.to);
        if whole {
            continue;
        }
        let pieces = integers_left(entry, &stay).unwrap_or_else(|| {
            let text = |end: &Option<KeyValue<'_>>| end.as_ref().map(ToString::to_string);
            vec![(text(&entry.from), text(&entry.to))]
        });
        moved.extend(pieces.into_iter().map(|(from, to)| (entry.shard, Which::Between(from, to))));
    }
    moved
}

type Piece = (Option<String>, Option<String>);

/// What is left of a range of integers without others, which don't overlap and ascend.
fn integers_left(range: &RangeEntry, others: &[&RangeEntry]) -> Option<Vec<Piece>> {
    let end = |end: &Option<KeyValue<'_>>, open: i64| match end {
        None => Some(open),
        Some(KeyValue::Int(value)) => Some(*value),
        Some(_) => None,
    };
    let (mut from, to) =
        (i128::from(end(&range.from, i64::MIN)?), i128::from(end(&range.to, i64::MAX)?));
    let mut left = Vec::new();
    let mut put = |from: i128, to: i128| {
        if from <= to {
            left.push((Some(from.to_string()), Some(to.to_string())));
        }
    };
    for other in others {
        let start = i128::from(end(&other.from, i64::MIN)?);
        let stop = i128::from(end(&other.to, i64::MAX)?);
        if stop < from || start > to {
            continue;
        }
        put(from, start - 1);
        from = stop + 1;
    }
    put(from, to);
    Some(left)
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

fn ask_of<'a>(
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

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl<'a> Question<'a> {
    /// The same of fewer keys.
    fn narrowed(&self, which: Which) -> Question<'a> {
        let (columns, to) = (self.columns.clone(), self.to.clone());
        Question { table: self.table, shard: self.shard, columns, keys: self.keys, which, to }
    }

    fn sql(&self, old: &ShardMap) -> String {
        let table = format!("{}.{}", quote(&self.table.schema), quote(&self.table.name));
        let columns: Vec<String> = self.columns.iter().map(|column| quote(column)).collect();
        let mut conditions = Vec::new();
        if let Some(column) = columns.first() {
            conditions.push(format!("{column} IS NOT NULL"));
            match &self.which {
                Which::All => {}
                Which::Keys(keys) => {
                    let keys: Vec<String> = keys.iter().map(|key| literal(key)).collect();
                    conditions.push(format!("{column} IN ({})", keys.join(", ")));
                }
                Which::Between(from, to) => {
                    conditions
                        .extend(from.iter().map(|from| format!("{column} >= {}", literal(from))));
                    conditions.extend(to.iter().map(|to| format!("{column} <= {}", literal(to))));
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
        let texts: Vec<String> = columns.iter().map(|column| format!("{column}::text")).collect();
        let columns = columns.join(", ");
        format!(
            "SELECT count(*), {} FROM {table} WHERE {condition} GROUP BY {columns} ORDER BY {columns}",
            texts.join(", ")
        )
    }
}

/// What a shard holds that the new map would not find there.
#[derive(Default)]
struct Held {
    stays: Option<Stranded>,
    /// Rows of frozen keys: while nobody writes them, they may be copied.
    frozen: Vec<Frozen>,
}

/// Rows of one frozen key.
struct Frozen {
    key: String,
    rows: u64,
    /// Where they belong, in the new map.
    to: ShardId,
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
async fn compare(
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
        table: called(question.table),
        shard: shard.name.clone(),
        rows: frozen.rows,
        keys: vec![frozen.key],
        keys_more: 0,
        to: vec![home.name.clone()],
        there: Some(there),
        databases: Vec::new(),
    }))
}

/// The number that an answer consists of.
fn number(messages: &[SimpleQueryMessage]) -> u64 {
    let number = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse::<u64>().ok(),
        _ => None,
    });
    number.unwrap_or_default()
}

/// A table's name, with its schema where that isn't public.
fn called(table: &Table) -> String {
    match table.schema.as_str() {
        "public" => table.name.clone(),
        schema => format!("{schema}.{}", table.name),
    }
}

/// What a shard answers: rows that both maps don't place on it any more.
async fn answer(
    asked: &Asked,
    old: &ShardMap,
    new: &ShardMap,
    shard: &Shard,
    question: &Question<'_>,
) -> Result<Held, ReadError> {
    let mut frozen = Vec::new();
    let mut held = Stranded {
        table: called(question.table),
        shard: shard.name.clone(),
        rows: 0,
        keys: Vec::new(),
        keys_more: 0,
        to: question.to.clone(),
        there: None,
        databases: Vec::new(),
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_range() {
        let range = |from: Option<i64>, to: Option<i64>| RangeEntry {
            from: from.map(KeyValue::Int),
            to: to.map(KeyValue::Int),
            shard: ShardId(0),
        };
        let check = |whole: RangeEntry, others: &[RangeEntry], expect: &str| {
            let others: Vec<&RangeEntry> = others.iter().collect();
            let left = integers_left(&whole, &others).unwrap();
            let left: Vec<String> = left
                .into_iter()
                .map(|(from, to)| format!("{}-{}", from.unwrap(), to.unwrap()))
                .collect();
            assert_eq!(left.join(" "), expect);
        };
        let one = || range(Some(1), Some(100));
        check(one(), &[], "1-100");
        check(one(), &[range(Some(1), Some(50))], "51-100");
        check(one(), &[range(Some(-5), Some(10)), range(Some(20), Some(30))], "11-19 31-100");
        check(one(), &[range(Some(50), None)], "1-49");
        check(one(), &[range(None, None)], "");
        check(one(), &[range(Some(101), None)], "1-100");
        check(range(Some(1), None), &[range(None, Some(9))], &format!("10-{}", i64::MAX));
    }
}
