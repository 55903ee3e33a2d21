//! What changes between two maps, as an owner of data needs to hear it: shards, keys that change shard,
//! tables whose placement changes, settings.
//!
//! Main types: [`MapDiff`] and its parts; [`MapDiff::of`] compares, [`MapDiff::text`], [`MapDiff::json`] and
//! [`MapDiff::summary`] say it. What ranges, slots, regions and directory entries do is exact; of a hash it
//! is a share, exact where both sides divide the same space, otherwise of keys that were tried out
//! ([`Share::exact`]).
//!
//! Invariant: no password is ever part of it. Deliberately absent: rows. Which of them exist only the shards
//! know.

mod moves;
mod render;

use std::collections::{BTreeMap, BTreeSet};

use super::model::TableRule;
use super::{ConnectionTarget, Key, KeyId, Placement, Shard, ShardId, ShardMap};
use crate::catalog::{Catalog, Table};

pub use moves::{Move, Share, What};

/// What changes between two maps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MapDiff {
    /// Shards that come, go, or are elsewhere.
    pub shards: Vec<ShardChange>,
    /// Keys that come, go, or are placed otherwise.
    pub keys: Vec<KeyChange>,
    /// Tables that are placed otherwise, but for the keys' own changes.
    pub tables: Vec<Change>,
    /// Everything else, by its name in the map.
    pub settings: Vec<Change>,
}

/// Something that has one value and gets another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// What it was; `None` when it is new.
    pub old: Option<String>,
    /// What it becomes; `None` when it goes.
    pub new: Option<String>,
}

/// What becomes of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardChange {
    /// It is new.
    Added(String),
    /// It goes.
    Removed(String),
    /// It stays, and these things about it change.
    Changed(String, Vec<Change>),
}

/// What becomes of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyChange {
    /// The key's name in the new map, or in the old one if it goes.
    pub key: String,
    /// It is new.
    pub added: bool,
    /// It goes.
    pub removed: bool,
    /// Columns, type, strategy.
    pub settings: Vec<Change>,
    /// Values that change shard, as far as they can be listed.
    pub moves: Vec<Move>,
    /// Moves that there are beyond those listed.
    pub moves_unlisted: usize,
    /// How much of what a hash places changes shard.
    pub share: Option<Share>,
    /// Nothing can be said of which values change shard: any may.
    pub unknown: bool,
    /// Tables that hold rows of it, where the schema is known.
    pub tables: Vec<String>,
}

impl KeyChange {
    /// A row may have to be moved.
    pub fn moves_rows(&self) -> bool {
        self.unknown
            || self.moves.iter().any(|one| one.from.is_some())
            || self.share.as_ref().is_some_and(|share| share.moved > 0.0)
    }
}

impl MapDiff {
    /// Compares two maps; with the schema, tables are named too.
    pub fn of(old: &ShardMap, new: &ShardMap, catalog: Option<&Catalog>) -> Self {
        let pair = Pair::new(old, new);
        Self {
            shards: pair.shards(),
            keys: pair.keys(catalog),
            tables: pair.tables(catalog),
            settings: pair.settings(),
        }
    }

    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
            && self.keys.is_empty()
            && self.tables.is_empty()
            && self.settings.is_empty()
    }

    /// Rows may have to be moved before the new map is used.
    pub fn moves_rows(&self) -> bool {
        self.keys.iter().any(KeyChange::moves_rows)
            || self.tables.iter().any(moves_table)
            || self.settings.iter().any(|change| change.name == "routing")
    }
}

/// Rows of a table may have to be moved. Those of a reference table are on the one shard already.
fn moves_table(change: &Change) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => old != "reference" || !new.starts_with("on shard"),
        _ => false,
    }
}

/// Two maps, and which shard of the one is which of the other.
struct Pair<'m> {
    old: &'m ShardMap,
    new: &'m ShardMap,
    /// Names by which shards are the same in both, in the order of each map's ids.
    old_names: Vec<String>,
    new_names: Vec<String>,
}

impl<'m> Pair<'m> {
    /// A shard is the same if its name is; one that was renamed is known by its id.
    fn new(old: &'m ShardMap, new: &'m ShardMap) -> Self {
        let renamed = |shard: &Shard| {
            let heir = new.shards().iter().find(|other| other.id == shard.id)?;
            let known = new.shard_named(&shard.name).is_some();
            (!known && old.shard_named(&heir.name).is_none()).then(|| heir.name.clone())
        };
        let old_name = |shard: &Shard| renamed(shard).unwrap_or_else(|| shard.name.clone());
        Self {
            old,
            new,
            old_names: old.shards().iter().map(old_name).collect(),
            new_names: new.shards().iter().map(|shard| shard.name.clone()).collect(),
        }
    }

    fn old_name(&self, shard: ShardId) -> &str {
        self.old_names.get(usize::from(shard.0)).map_or("?", String::as_str)
    }

    fn new_name(&self, shard: ShardId) -> &str {
        self.new_names.get(usize::from(shard.0)).map_or("?", String::as_str)
    }

    /// Whether each id is the same shard's in both maps: entries are recorded by it.
    fn same_ids(&self) -> bool {
        let named = |map: &'m ShardMap, names: &[String]| -> BTreeMap<i16, String> {
            map.shards().iter().map(|shard| shard.id).zip(names.iter().cloned()).collect()
        };
        let (old, new) = (named(self.old, &self.old_names), named(self.new, &self.new_names));
        old.iter().all(|(id, name)| new.get(id).is_none_or(|other| other == name))
            && old.len() <= new.len()
    }

    fn shards(&self) -> Vec<ShardChange> {
        let mut changes = Vec::new();
        for (name, shard) in self.new_names.iter().zip(self.new.shards()) {
            let old = self.old_names.iter().position(|own| own == name);
            let Some(old) = old.and_then(|at| self.old.shards().get(at)) else {
                changes.push(ShardChange::Added(name.clone()));
                continue;
            };
            let fields = shard_fields(old, shard);
            if !fields.is_empty() {
                changes.push(ShardChange::Changed(name.clone(), fields));
            }
        }
        for name in &self.old_names {
            if !self.new_names.contains(name) {
                changes.push(ShardChange::Removed(name.clone()));
            }
        }
        changes
    }

    fn keys(&self, catalog: Option<&Catalog>) -> Vec<KeyChange> {
        let mut changes = Vec::new();
        for (at, key) in (0u8..).zip(self.new.keys()) {
            let old = self.old.key_named(&key.name).and_then(|id| self.old.key(id));
            let mut change = match old {
                Some(old) => self.key_change(old, key),
                None => KeyChange { added: true, ..empty_change(&key.name) },
            };
            if change == empty_change(&key.name) {
                continue;
            }
            change.tables = sharded_by(self.new, KeyId(at), catalog);
            changes.push(change);
        }
        for (at, key) in (0u8..).zip(self.old.keys()) {
            if self.new.key_named(&key.name).is_none() {
                let tables = sharded_by(self.old, KeyId(at), catalog);
                changes.push(KeyChange { removed: true, tables, ..empty_change(&key.name) });
            }
        }
        changes
    }

    fn key_change(&self, old: &Key, new: &Key) -> KeyChange {
        let mut change = empty_change(&new.name);
        let types =
            |key: &Key| key.types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut note = |name: &str, old: String, new: String| {
            if old != new {
                change.settings.push(Change::of(name, Some(old), Some(new)));
            }
        };
        note("columns", old.columns.join(", "), new.columns.join(", "));
        note("type", types(old), types(new));
        note("strategy", old.strategy.name().to_owned(), new.strategy.name().to_owned());
        let within = |key: &Key| key.within_column.clone().unwrap_or_default();
        note("within", within(old), within(new));
        if old.types != new.types {
            change.unknown = true;
            return change;
        }
        let found = moves::compare(self, old, new);
        change.moves = found.moves;
        change.moves_unlisted = found.unlisted;
        change.share = found.share;
        change.unknown = found.unknown;
        change
    }

    fn tables(&self, catalog: Option<&Catalog>) -> Vec<Change> {
        let mut changes = BTreeMap::new();
        let listed: BTreeSet<&String> =
            self.old.tables.keys().chain(self.new.tables.keys()).collect();
        for name in listed {
            let (old, new) = (self.old.tables.get(name), self.new.tables.get(name));
            let old = old.map(|rule| self.rule(self.old, rule));
            let new = new.map(|rule| self.rule(self.new, rule));
            if old != new {
                changes.insert(plain(name), Change::of(&plain(name), old, new));
            }
        }
        // Columns and lookups place tables too, and with the schema it is known which.
        for table in catalog.into_iter().flat_map(|catalog| catalog.tables.values()) {
            let name = plain(&format!("{}.{}", table.schema, table.name));
            let old = self.placed(self.old, table);
            let new = self.placed(self.new, table);
            if old == new {
                changes.remove(&name);
            } else {
                changes.insert(name.clone(), Change::of(&name, Some(old), Some(new)));
            }
        }
        changes.into_values().collect()
    }

    fn rule(&self, map: &ShardMap, rule: &TableRule) -> String {
        match rule {
            TableRule::Reference => "reference".to_owned(),
            TableRule::Single(shard) => format!("on shard {}", self.name_in(map, *shard)),
            TableRule::Lookup(at) => {
                let lookup = map.lookups().get(*at).map_or("?", |lookup| lookup.name.as_str());
                format!("by lookup {lookup}")
            }
            TableRule::Key { key, column, .. } => {
                let key = map.key(*key).map_or("?", |key| key.name.as_str());
                format!("by key {key}, column {column}")
            }
        }
    }

    fn placed(&self, map: &ShardMap, table: &Table) -> String {
        match map.placement(table) {
            Placement::Sharded { key, columns } => {
                let key = map.key(key).map_or("?", |key| key.name.as_str());
                let column = |at: &u16| table.columns.get(usize::from(*at));
                let names = columns.iter().filter_map(column).map(|own| own.name.as_str());
                format!("by key {key}, column {}", names.collect::<Vec<_>>().join(", "))
            }
            Placement::Reference => "reference".to_owned(),
            Placement::Single(shard) => format!("on shard {}", self.name_in(map, shard)),
            Placement::Lookup { name, .. } => format!("by lookup {name}"),
            Placement::Unlisted => "not listed".to_owned(),
            Placement::Unusable(why) => format!("refused: {why}"),
        }
    }

    fn name_in(&self, map: &ShardMap, shard: ShardId) -> &str {
        if std::ptr::eq(map, self.old) { self.old_name(shard) } else { self.new_name(shard) }
    }

    fn settings(&self) -> Vec<Change> {
        let (old, new) = (self.old, self.new);
        let mut changes = Vec::new();
        let mut note = |name: &str, was: String, becomes: String| {
            if was != becomes {
                changes.push(Change::of(name, Some(was), Some(becomes)));
            }
        };
        note("database", old.database().to_owned(), new.database().to_owned());
        let home = |shard: &str| shard.to_owned();
        note(
            "default_shard",
            home(self.old_name(old.default_shard())),
            home(self.new_name(new.default_shard())),
        );
        let on = |routing: bool| if routing { "on" } else { "off" }.to_owned();
        note("routing", on(old.routing()), on(new.routing()));
        let (was, becomes) = (old.policy(), new.policy());
        macro_rules! policy {
            ($($field:ident),*) => {
                $(note(
                    concat!("policy.", stringify!($field)),
                    format!("{:?}", was.$field),
                    format!("{:?}", becomes.$field),
                );)*
            };
        }
        policy!(
            cross_shard_reads,
            cross_shard_writes,
            cross_shard_snapshot,
            unlisted_tables,
            fill_keys,
            trust_shard_id,
            residency
        );
        let session = |map: &ShardMap| {
            let key = map.session_key().and_then(|key| map.key(key));
            key.map_or_else(|| "none".to_owned(), |key| key.name.clone())
        };
        note("sessions.key", session(old), session(new));
        let setting = |map: &ShardMap| map.key_setting().unwrap_or("none").to_owned();
        note("sessions.key_setting", setting(old), setting(new));
        let functions = |map: &ShardMap| {
            let sorted: BTreeMap<_, _> = map.functions().iter().collect();
            format!("{sorted:?}")
        };
        note("functions", functions(old), functions(new));
        note("lookups", listed(old.lookups()), listed(new.lookups()));
        note("everywhere", listed(old.everywhere_rows()), listed(new.everywhere_rows()));
        note("databases", listed(old.databases()), listed(new.databases()));
        let control =
            |map: &ShardMap| map.control().map_or_else(|| "none".to_owned(), |own| place(&own.url));
        note("control", control(old), control(new));
        let frozen = |map: &ShardMap| {
            let name = |key| map.key(key).map_or("key", |key| key.name.as_str());
            let all = map.freezes().iter().map(|(key, value)| format!("{} {value}", name(*key)));
            let all: Vec<String> = all.collect();
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        };
        note("frozen", frozen(old), frozen(new));
        changes
    }
}

impl Change {
    fn of(name: &str, old: Option<String>, new: Option<String>) -> Self {
        Self { name: name.to_owned(), old, new }
    }
}

fn empty_change(key: &str) -> KeyChange {
    KeyChange {
        key: key.to_owned(),
        added: false,
        removed: false,
        settings: Vec::new(),
        moves: Vec::new(),
        moves_unlisted: 0,
        share: None,
        unknown: false,
        tables: Vec::new(),
    }
}

/// Schema public is not said.
fn plain(qualified: &str) -> String {
    qualified.strip_prefix("public.").unwrap_or(qualified).to_owned()
}

fn listed<T: std::fmt::Debug>(items: &[T]) -> String {
    items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ")
}

fn sharded_by(map: &ShardMap, key: KeyId, catalog: Option<&Catalog>) -> Vec<String> {
    let tables = catalog.into_iter().flat_map(|catalog| catalog.tables.values());
    let holds = |table: &&std::sync::Arc<Table>| matches!(map.placement(table), Placement::Sharded { key: own, .. } if own == key);
    let mut names: Vec<String> =
        tables.filter(holds).map(|t| plain(&format!("{}.{}", t.schema, t.name))).collect();
    names.sort_unstable();
    names
}

/// A URL without its password.
fn place(target: &ConnectionTarget) -> String {
    let ConnectionTarget { host, port, user, dbname, sslmode, .. } = target;
    format!("postgresql://{user}@{host}:{port}/{dbname}?sslmode={}", sslmode.word())
}

fn shard_fields(old: &Shard, new: &Shard) -> Vec<Change> {
    let mut fields = Vec::new();
    let mut note = |name: &str, was: String, becomes: String, same: bool| {
        if !same {
            fields.push(Change::of(name, Some(was), Some(becomes)));
        }
    };
    note("name", old.name.clone(), new.name.clone(), old.name == new.name);
    note("id", old.id.to_string(), new.id.to_string(), old.id == new.id);
    let (was, becomes) = (place(&old.url), place(&new.url));
    match (old.url == new.url, was == becomes) {
        (true, _) => {}
        (false, false) => note("url", was, becomes, false),
        // The difference is one that is not shown.
        (false, true) if old.url.password != new.url.password => {
            note("password", "***".to_owned(), "***".to_owned(), false);
        }
        (false, true) => note("url", was, format!("{becomes}, other parameters"), false),
    }
    note("ring_name", old.ring_name.clone(), new.ring_name.clone(), old.ring_name == new.ring_name);
    let text = |label: &Option<String>| label.clone().unwrap_or_else(|| "none".to_owned());
    note("region", text(&old.region), text(&new.region), old.region == new.region);
    note(
        "datacenter",
        text(&old.datacenter),
        text(&new.datacenter),
        old.datacenter == new.datacenter,
    );
    note("active", old.active.to_string(), new.active.to_string(), old.active == new.active);
    let replicas = |shard: &Shard| shard.replicas.iter().map(place).collect::<Vec<_>>().join(", ");
    note("replicas", replicas(old), replicas(new), old.replicas == new.replicas);
    fields
}

#[cfg(test)]
mod tests;
