//! `[keys.x]`.

use smallvec::SmallVec;

use super::Names;
use super::strategies::{self, DirectoryParts, OtherwiseWord, Within};
use super::tables::table_name;
use crate::datum::KeyType;
use crate::map::directory::{Directory, Otherwise};
use crate::map::geo::Geo;
use crate::map::hash::Hash;
use crate::map::model::{DatabasePerKey, Key, NewKeyPlaces, PlaceNew, Strategy};
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
                    .other(span, "first here");
            }
        }
        keys.push(key);
    }
    if keys.len() > KEYS_MAX {
        r.fault(&(0..0), format!("more than {KEYS_MAX} keys"));
    }
    keys
}

/// What the sub-tables of a key hold; `Some(None)` is a faulty one.
struct Parts {
    hash: Option<Option<Hash>>,
    range: Option<Option<Ranges>>,
    geo: Option<Option<(Geo, Option<Within>)>>,
    directory: Option<Option<DirectoryParts>>,
    database: Option<Option<DatabasePerKey>>,
    place: Option<Option<NewKeyPlaces>>,
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
    let mut sub = |r: &mut Reader<'_>, name: &'static str| {
        let node = fields.take(name)?;
        Some((node.clone(), node.fields(r)))
    };
    let (hash, range, geo) = (sub(r, "hash"), sub(r, "range"), sub(r, "geo"));
    let (directory, database) = (sub(r, "directory"), sub(r, "database"));
    let place = sub(r, "place");
    let sections: Vec<(Node<'_>, &str)> = [&hash, &range, &geo, &directory, &database, &place]
        .into_iter()
        .zip(["hash", "range", "geo", "directory", "database", "place"])
        .filter_map(|(section, name)| Some((section.as_ref()?.0.clone(), name)))
        .collect();
    let parts = Parts {
        hash: hash.map(|(_, f)| f.and_then(|f| strategies::hash(r, names, f, ty))),
        range: range.map(|(_, f)| f.and_then(|f| strategies::range(r, names, f, ty))),
        geo: geo.map(|(_, f)| f.and_then(|f| strategies::geo(r, names, f))),
        directory: directory
            .map(|(_, f)| f.and_then(|f| strategies::directory(r, names, f, ty, has_control))),
        database: database.map(|(_, f)| f.and_then(|f| strategies::database(r, f))),
        place: place.map(|(_, f)| f.and_then(|f| strategies::new_key_places(r, names, f))),
    };
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

/// Sub-tables that the strategy has no use for.
fn warn_unused(r: &mut Reader<'_>, word: Word, parts: &Parts, sections: &[(Node<'_>, &str)]) {
    let (otherwise, place_new) = match &parts.directory {
        Some(Some(directory)) => (Some(directory.otherwise), directory.place_new),
        _ => (None, PlaceNew::Refuse),
    };
    for (node, section) in sections {
        let used = match (word, *section) {
            (Word::Hash, "hash") | (Word::Range, "range") | (Word::Geo, "geo") => true,
            (Word::Directory, "directory" | "place") => true,
            (Word::Directory, "range") => otherwise != Some(OtherwiseWord::Refuse),
            (Word::Directory, "hash") => {
                otherwise != Some(OtherwiseWord::Refuse) || place_new == PlaceNew::Hash
            }
            (Word::Database, "database" | "hash" | "directory") => true,
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

/// `None` only when a fault was added.
fn assemble(
    r: &mut Reader<'_>,
    names: &Names,
    place: Place<'_>,
    word: Word,
    ty: KeyType,
    parts: Parts,
) -> Option<Assembled> {
    let mut types = SmallVec::from_slice(&[ty]);
    let mut within_column = None;
    let mut place_new = PlaceNew::Refuse;
    let (strategy, shards) = match word {
        Word::Hash => {
            let Some(hash) = parts.hash else { return missing(r, place, "hash") };
            let hash = hash?;
            let shards = hash.shards();
            (Strategy::Hash(hash), shards)
        }
        Word::Range => {
            let Some(ranges) = parts.range else { return missing(r, place, "range") };
            let ranges = ranges?;
            let shards = ranges.shards();
            (Strategy::Range(ranges), shards)
        }
        Word::Geo => {
            let Some(geo) = parts.geo else { return missing(r, place, "geo") };
            let (geo, within) = geo?;
            if !matches!(ty, KeyType::Text | KeyType::Varchar) {
                r.fault(place.0, format!("strategy geo needs a key of type text, not {ty}"));
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
            let Some(listed) = parts.directory else { return missing(r, place, "directory") };
            let listed = listed?;
            place_new = listed.place_new;
            let otherwise = otherwise(r, &listed, place.1, parts.hash, parts.range)?;
            let directory = Directory { entries: listed.entries, otherwise };
            let shards = directory.shards();
            (Strategy::Directory(directory), shards)
        }
        Word::Database => {
            let Some(database) = parts.database else { return missing(r, place, "database") };
            (Strategy::Database(database?), ShardSet::all(names.shards.len()))
        }
    };
    let new_key_places = match parts.place {
        Some(place) => Some(place?),
        None if place_new == PlaceNew::Geo => return missing(r, place, "place"),
        None => None,
    };
    Some(Assembled { strategy, types, within_column, shards, place_new, new_key_places })
}

fn otherwise(
    r: &mut Reader<'_>,
    directory: &DirectoryParts,
    meant: &[&'static str],
    hash: Option<Option<Hash>>,
    range: Option<Option<Ranges>>,
) -> Option<Otherwise> {
    let section = match (directory.otherwise, hash, range) {
        (OtherwiseWord::Refuse, _, _) => return Some(Otherwise::Refuse),
        (OtherwiseWord::Hash, Some(hash), _) => return hash.map(Otherwise::Hash),
        (OtherwiseWord::Range, _, Some(ranges)) => return ranges.map(Otherwise::Range),
        (OtherwiseWord::Hash, None, _) => "hash",
        (OtherwiseWord::Range, _, None) => "range",
    };
    missing(r, (&directory.otherwise_span, meant), section)
}
