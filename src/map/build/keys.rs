//! `[keys.x]`.

use smallvec::SmallVec;

use super::Names;
use super::control::Feed;
use super::strategies::{self, DatabaseParts, DirectoryParts, OtherwiseWord, Within};
use super::tables::table_name;
use crate::datum::KeyType;
use crate::map::directory::{Directory, Otherwise};
use crate::map::geo::Geo;
use crate::map::hash::Hash;
use crate::map::model::{DatabaseHomes, DatabasePerKey, Key, NewKeyPlaces, PlaceNew, Strategy};
use crate::map::range::Ranges;
use crate::map::reader::{At, Fields, Node, Reader};
use crate::map::{KEYS_MAX, ShardSet};

/// A key as it was read.
pub(super) struct ReadKey {
    /// `None` when it was faulty.
    pub(super) built: Option<Key>,
    /// Its columns, for faults about them.
    columns: Vec<At<String>>,
    /// `tables`: `schema.name`, column, and where it stands.
    pub(super) tables: Vec<(At<String>, String)>,
}

/// The strategies' words.
#[derive(Clone, Copy, PartialEq)]
enum Word {
    Hash,
    Range,
    Geo,
    Directory,
    Database,
}

const STRATEGIES: [(&str, Word); 5] = [
    ("hash", Word::Hash),
    ("range", Word::Range),
    ("geo", Word::Geo),
    ("directory", Word::Directory),
    ("database", Word::Database),
];

const SECTIONS: [&str; 6] = ["hash", "range", "geo", "directory", "database", "place"];

/// Reads the keys, in the order of the file.
pub(super) fn keys(
    r: &mut Reader<'_>,
    names: &Names,
    nodes: &[Node<'_>],
    has_control: bool,
) -> Vec<ReadKey> {
    let mut keys: Vec<ReadKey> = Vec::new();
    for node in nodes {
        let Some(fields) = node.fields(r) else {
            keys.push(ReadKey { built: None, columns: Vec::new(), tables: Vec::new() });
            continue;
        };
        let key = key(r, names, &node.name, fields, has_control);
        for column in &key.columns {
            let first = keys.iter().flat_map(|k| &k.columns).find(|c| c.value == column.value);
            if let Some(first) = first {
                let span = first.span.clone();
                r.fault(&column.span, format!("two keys have the column \"{}\"", column.value))
                    .label("again here")
                    .other(span, "first here")
                    .hint("list the tables of one of them under tables, with their column");
            }
        }
        for (table, _) in &key.tables {
            let first = keys.iter().flat_map(|k| &k.tables).find(|(t, _)| t.value == table.value);
            if let Some((first, _)) = first {
                let span = first.span.clone();
                r.fault(&table.span, format!("two keys have the table {}", table.value))
                    .label("again here")
                    .other(span, "first here")
                    .hint("a table is sharded by one key");
            }
        }
        keys.push(key);
    }
    distinct_prefixes(r, nodes, &keys);
    if keys.len() > KEYS_MAX {
        r.fault(&(0..0), format!("more than {KEYS_MAX} keys"))
            .hint("tables with columns of other names go under the tables of one key");
    }
    keys
}

/// No database may be that of two keys.
fn distinct_prefixes(r: &mut Reader<'_>, nodes: &[Node<'_>], keys: &[ReadKey]) {
    let own = |key: &ReadKey| match &key.built.as_ref()?.strategy {
        Strategy::Database(own) => Some(own.prefix.clone()),
        _ => None,
    };
    let found = nodes.iter().zip(keys).filter_map(|(node, key)| Some((node, own(key)?)));
    let found: Vec<(&Node<'_>, String)> = found.collect();
    for (at, (node, prefix)) in found.iter().enumerate() {
        let earlier = found.get(..at).unwrap_or_default();
        let clash = |(_, other): &&(&Node<'_>, String)| {
            prefix.starts_with(other.as_str()) || other.starts_with(prefix.as_str())
        };
        if let Some((first, other)) = earlier.iter().find(clash) {
            r.fault(
                &node.key_span,
                format!("its databases' prefix \"{prefix}\" can't be told from \"{other}\""),
            )
            .label("of this key")
            .other(first.key_span.clone(), "and of this one")
            .hint("neither may begin with the other");
        }
    }
}

/// A sub-table of a key.
enum Section<T> {
    /// It isn't there.
    Absent,
    /// It is there, and a fault was added.
    Faulty,
    /// It was read.
    Read(T),
}

impl<T> Section<T> {
    /// Reads a sub-table if it is there; `read` gives `None` after a fault.
    fn read(node: Option<&Node<'_>>, read: impl FnOnce(&Node<'_>) -> Option<T>) -> Self {
        match node.map(read) {
            None => Self::Absent,
            Some(None) => Self::Faulty,
            Some(Some(value)) => Self::Read(value),
        }
    }
}

/// What the sub-tables of a key hold.
struct Parts {
    hash: Section<Hash>,
    range: Section<Ranges>,
    geo: Section<(Geo, Option<Within>)>,
    directory: Section<DirectoryParts>,
    database: Section<DatabaseParts>,
    place: Section<NewKeyPlaces>,
}

fn key(
    r: &mut Reader<'_>,
    names: &Names,
    name: &str,
    mut fields: Fields<'_>,
    has_control: bool,
) -> ReadKey {
    let columns = fields.take("columns").and_then(|node| node.strings(r)).unwrap_or_default();
    let mut tables = Vec::new();
    for node in fields.entries_of(r, "tables") {
        let table = table_name(r, &node);
        if let (Some(table), Some(column)) = (table, node.string(r)) {
            tables.push((table, column.value));
        }
    }
    let ty = fields.require("type").and_then(|node| strategies::key_type(r, &node));
    let word = fields.require("strategy").and_then(|node| node.choice(r, &STRATEGIES));
    let sections: Vec<(&str, Node<'_>)> =
        SECTIONS.into_iter().filter_map(|name| Some((name, fields.take(name)?))).collect();
    let section = |name| sections.iter().find(|(n, _)| *n == name).map(|(_, node)| node);
    let mut parts = Parts {
        hash: Section::read(section("hash"), |node| {
            let fields = node.fields(r)?;
            strategies::hash(r, names, fields, ty)
        }),
        range: Section::read(section("range"), |node| {
            let fields = node.fields(r)?;
            strategies::range(r, names, fields, ty)
        }),
        geo: Section::read(section("geo"), |node| {
            let fields = node.fields(r)?;
            strategies::geo(r, names, fields)
        }),
        directory: Section::read(section("directory"), |node| {
            let fields = node.fields(r)?;
            strategies::directory(r, names, fields, ty, has_control)
        }),
        database: Section::read(section("database"), |node| {
            let fields = node.fields(r)?;
            strategies::database(r, fields, ty)
        }),
        place: Section::read(section("place"), |node| {
            let fields = node.fields(r)?;
            strategies::new_key_places(r, names, fields)
        }),
    };
    let feed = names.feed.as_ref().filter(|feed| feed.key == name);
    if let Some(feed) = feed {
        feed_range(r, feed, word, &mut parts, section("range"));
    }
    let span = fields.span.clone();
    let meant = fields.finish(r);
    if let Some(word) = word {
        warn_unused(r, word, &parts, &sections);
    }
    let column_names = columns.iter().map(|c| c.value.clone()).collect();
    let built = match (word, ty) {
        (Some(word), Some(ty)) => assemble(r, names, (&span, &meant), word, ty, parts)
            .map(|assembled| assembled.into_key(name, column_names)),
        _ => None,
    };
    ReadKey { built, columns, tables }
}

/// Ranges come from `shard_config` where it is read, and entries from `tenant_shard_map`.
fn feed_range(
    r: &mut Reader<'_>,
    feed: &Feed,
    word: Option<Word>,
    parts: &mut Parts,
    range: Option<&Node<'_>>,
) {
    let otherwise = match &parts.directory {
        Section::Read(directory) => {
            if let Some(span) = &directory.entries_span {
                r.fault(span, "the entries of this key are the rows of tenant_shard_map")
                    .label("and here are others")
                    .hint("insert these into tenant_shard_map, or take [control] out of the map");
            }
            Some(directory.otherwise)
        }
        Section::Absent | Section::Faulty => None,
    };
    if word == Some(Word::Range) || otherwise == Some(OtherwiseWord::Range) {
        if let Some(node) = range {
            r.fault(&node.key_span, "the ranges of this key are those of shard_config")
                .label("and here are others")
                .hint("write them into min_tenant_id and max_tenant_id, or take [control] out of the map");
        }
        parts.range = match &feed.ranges {
            Some(ranges) => Section::Read(ranges.clone()),
            None => Section::Faulty,
        };
    }
    if let (Section::Read(directory), Some(entries)) = (&mut parts.directory, &feed.entries) {
        directory.entries = entries.clone();
    }
    if word == Some(Word::Range)
        && let Some(entries) = feed.entries.as_ref().filter(|entries| !entries.is_empty())
    {
        r.fault(
            &feed.key_span,
            format!("tenant_shard_map has {} rows, and this key has no directory", entries.len()),
        )
        .hint("write strategy = \"directory\" with otherwise = \"range\"");
    }
}

/// Sub-tables that the strategy has no use for.
fn warn_unused(r: &mut Reader<'_>, word: Word, parts: &Parts, sections: &[(&str, Node<'_>)]) {
    let (otherwise, place_new) = match &parts.directory {
        Section::Read(directory) => (Some(directory.otherwise), directory.place_new),
        Section::Absent | Section::Faulty => (None, PlaceNew::Refuse),
    };
    let listed = match &parts.database {
        Section::Read(database) => database.by_directory,
        Section::Absent | Section::Faulty => true,
    };
    for (section, node) in sections {
        let used = match (word, *section) {
            (Word::Hash, "hash") | (Word::Range, "range") | (Word::Geo, "geo") => true,
            (Word::Directory, "directory" | "place") => true,
            (Word::Directory, "range") => otherwise != Some(OtherwiseWord::Refuse),
            (Word::Directory, "hash") => {
                otherwise != Some(OtherwiseWord::Refuse) || place_new == PlaceNew::Hash
            }
            (Word::Database, "database") => true,
            (Word::Database, "directory") => listed,
            (Word::Database, "hash") => !listed || otherwise != Some(OtherwiseWord::Refuse),
            (Word::Database, "range") => listed && otherwise == Some(OtherwiseWord::Range),
            _ => false,
        };
        if !used {
            r.warn(&node.key_span, format!("section {section} is not used by this strategy"));
        }
    }
}

/// A key's placement, put together.
struct Assembled {
    strategy: Strategy,
    types: SmallVec<[KeyType; 2]>,
    within_column: Option<String>,
    shards: ShardSet,
    place_new: PlaceNew,
    new_key_places: Option<NewKeyPlaces>,
    new_key_hash: Option<Hash>,
}

impl Assembled {
    fn into_key(self, name: &str, columns: Vec<String>) -> Key {
        Key {
            name: name.to_owned(),
            columns,
            within_column: self.within_column,
            types: self.types,
            strategy: self.strategy,
            shards: self.shards,
            place_new: self.place_new,
            new_key_places: self.new_key_places,
            new_key_hash: self.new_key_hash,
        }
    }
}

/// Where a key's name stands, and which of its fields are there but misspelt.
type Place<'p> = (&'p std::ops::Range<usize>, &'p [&'static str]);

/// Adds the fault, unless the section is there misspelt; always `None`.
fn missing<T>(r: &mut Reader<'_>, (span, meant): Place<'_>, section: &str) -> Option<T> {
    if !meant.contains(&section) {
        r.fault(span, format!("section {section} is missing"))
            .label(format!("its strategy needs a section {section}"));
    }
    None
}

/// A section that must be there.
fn present<T>(r: &mut Reader<'_>, place: Place<'_>, name: &str, section: Section<T>) -> Option<T> {
    match section {
        Section::Read(value) => Some(value),
        Section::Faulty => None,
        Section::Absent => missing(r, place, name),
    }
}

/// `None` only when a fault was added.
fn assemble(
    r: &mut Reader<'_>,
    names: &Names,
    place: Place<'_>,
    word: Word,
    ty: KeyType,
    mut parts: Parts,
) -> Option<Assembled> {
    let mut types = SmallVec::from_slice(&[ty]);
    let mut within_column = None;
    let mut place_new = PlaceNew::Refuse;
    let mut new_key_hash = None;
    let (strategy, shards) = match word {
        Word::Hash => {
            let hash = present(r, place, "hash", parts.hash)?;
            let shards = hash.shards();
            (Strategy::Hash(hash), shards)
        }
        Word::Range => {
            if names.open && matches!(parts.range, Section::Absent) {
                parts.range = Section::Read(Ranges::none());
            }
            let ranges = present(r, place, "range", parts.range)?;
            let shards = ranges.shards();
            (Strategy::Range(ranges), shards)
        }
        Word::Geo => {
            let geo = present(r, place, "geo", parts.geo)?;
            let (geo, within) = geo;
            if !matches!(ty, KeyType::Text | KeyType::Varchar) {
                r.fault(place.0, format!("strategy geo needs a key of type text, not {ty}"))
                    .hint("the key is the column that holds the region: USA, DEU");
                return None;
            }
            if let Some(within) = within {
                types.push(within.ty);
                within_column = Some(within.column);
            }
            let shards = geo.shards();
            (Strategy::Geo(geo), shards)
        }
        Word::Directory => {
            let listed = present(r, place, "directory", parts.directory)?;
            place_new = listed.place_new;
            if names.open && matches!(parts.range, Section::Absent) {
                parts.range = Section::Read(Ranges::none());
            }
            if place_new == PlaceNew::Hash && listed.otherwise != OtherwiseWord::Hash {
                new_key_hash = Some(present(r, place, "hash", parts.hash)?);
                parts.hash = Section::Absent;
            }
            let otherwise = otherwise(r, &listed, place.1, parts.hash, parts.range)?;
            let directory = Directory { entries: listed.entries, otherwise, homes: names.homes() };
            let shards = directory.shards();
            (Strategy::Directory(directory), shards)
        }
        Word::Database => {
            let own = present(r, place, "database", parts.database)?;
            let (homes, shards) = if own.by_directory {
                let listed = present(r, place, "directory", parts.directory)?;
                if listed.place_new != PlaceNew::Refuse {
                    r.fault(place.0, "place_new is not for strategy database")
                        .hint("list the key before it is used, or write otherwise = \"hash\"");
                    return None;
                }
                if names.open && matches!(parts.range, Section::Absent) {
                    parts.range = Section::Read(Ranges::none());
                }
                let otherwise = otherwise(r, &listed, place.1, parts.hash, parts.range)?;
                let directory =
                    Directory { entries: listed.entries, otherwise, homes: names.homes() };
                let shards = directory.shards();
                (DatabaseHomes::Directory(directory), shards)
            } else {
                let hash = present(r, place, "hash", parts.hash)?;
                let shards = hash.shards();
                (DatabaseHomes::Hash(hash), shards)
            };
            let database = DatabasePerKey {
                prefix: own.prefix.value,
                homes,
                auto_create: own.auto_create,
                template: own.template,
                reserved: Vec::new(),
            };
            (Strategy::Database(database), shards)
        }
    };
    let new_key_places = match parts.place {
        Section::Read(places) => Some(places),
        Section::Faulty => return None,
        Section::Absent if place_new == PlaceNew::Geo => return missing(r, place, "place"),
        Section::Absent => None,
    };
    Some(Assembled {
        strategy,
        types,
        within_column,
        shards,
        place_new,
        new_key_places,
        new_key_hash,
    })
}

fn otherwise(
    r: &mut Reader<'_>,
    directory: &DirectoryParts,
    meant: &[&'static str],
    hash: Section<Hash>,
    range: Section<Ranges>,
) -> Option<Otherwise> {
    let place = (&directory.otherwise_span, meant);
    match directory.otherwise {
        OtherwiseWord::Refuse => Some(Otherwise::Refuse),
        OtherwiseWord::Hash => present(r, place, "hash", hash).map(Otherwise::Hash),
        OtherwiseWord::Range => present(r, place, "range", range).map(Otherwise::Range),
    }
}
