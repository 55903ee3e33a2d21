//! From a map file's text to a map: the TOML tree is read section by section, names are resolved, every
//! fault is collected; only without faults is there a map.
//!
//! Names (of shards, keys, lookups) are collected first and on their own, so that a fault inside one
//! section doesn't make every reference to it a fault too.

mod control;
mod keys;
mod rest;
mod shards;
mod strategies;
mod tables;

use rustc_hash::FxHashMap;
use toml::de::DeTable;

use super::control::Tables;
use super::fault::Source;
use super::geoip::Outside;
use super::model::{Control, Key, Shard};
use super::reader::{At, Fields, Reader};
use super::{Fault, Faults, KeyId, ShardId, ShardMap};
use control::Feed;

/// The names that sections refer to; an id is an index here and in the built map.
#[derive(Default)]
struct Names {
    shards: Vec<String>,
    rings: Vec<String>,
    /// The id of each shard; of a faulty one any.
    ids: Vec<i16>,
    /// `active` of each shard.
    active: Vec<bool>,
    keys: Vec<String>,
    lookups: Vec<String>,
    /// Which shards there are is not known: any name is taken to be one.
    open: bool,
    /// What the control tables say of one key.
    feed: Option<Feed>,
}

impl Names {
    fn shard(&self, r: &mut Reader<'_>, name: &At<String>) -> Option<ShardId> {
        if self.open {
            return Some(ShardId(0));
        }
        let at = self.shards.iter().position(|shard| *shard == name.value);
        // The nameless shard of another fault may be the one that is meant.
        if at.is_none() && !self.shards.iter().any(String::is_empty) {
            r.unknown("shard", name, self.shards.iter().map(String::as_str));
        }
        at.and_then(|at| u16::try_from(at).ok()).map(ShardId)
    }

    /// The shards by their ids.
    fn homes(&self) -> FxHashMap<i16, ShardId> {
        (0..).map(ShardId).zip(&self.ids).map(|(shard, id)| (*id, shard)).collect()
    }

    fn key(&self, r: &mut Reader<'_>, name: &At<String>) -> Option<KeyId> {
        let at = self.keys.iter().position(|key| *key == name.value);
        if at.is_none() {
            r.unknown("key", name, self.keys.iter().map(String::as_str));
        }
        at.and_then(|at| u8::try_from(at).ok()).map(KeyId)
    }

    fn lookup(&self, r: &mut Reader<'_>, name: &At<String>) -> Option<usize> {
        let at = self.lookups.iter().position(|lookup| *lookup == name.value);
        if at.is_none() {
            r.unknown("lookup", name, self.lookups.iter().map(String::as_str));
        }
        at
    }
}

/// See [`ShardMap::parse`] and [`ShardMap::parse_in`].
pub(super) fn build(
    name: &str,
    text: &str,
    outside: Outside<'_>,
    tables: Option<&Tables>,
) -> Result<(Built, Vec<Fault>), Faults> {
    let mut r = Reader::new(Source::new(name, text), outside);
    let (tree, errors) = DeTable::parse_recoverable(text);
    // A key that stands twice leaves the tree intact; after any other fault of syntax, what was
    // recovered would give faults that aren't there.
    let mut intact = true;
    for error in &errors {
        intact &= error.message().starts_with("duplicate key");
        let span = error.span().unwrap_or(0..0);
        let fault = r.fault(&span, error.message().trim_end().to_owned());
        fault.label(if error.message().starts_with("duplicate") {
            "again here"
        } else {
            "not TOML"
        });
    }
    let built = if intact { read(&mut r, Fields::root(tree.get_ref()), tables) } else { None };
    match built {
        Some(built) if r.faults.is_empty() => Ok((built, r.warnings)),
        _ => {
            if r.faults.is_empty() {
                r.fault(&(0..0), "the map is incomplete");
            }
            Err(Faults::new(r.faults))
        }
    }
}

/// See [`ShardMap::control_of`].
pub(super) fn control_of(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Control>, Faults> {
    let mut r = Reader::new(Source::new(name, text), Outside::of(env));
    let (tree, _) = DeTable::parse_recoverable(text);
    let mut root = Fields::root(tree.get_ref());
    let mut control = rest::control(&mut r, &mut root);
    if let Some(control) = &mut control {
        let nodes = root.entries_of(&mut r, "keys");
        control.key_type = control::fed_key(&nodes, control.key.as_deref()).and_then(|(_, ty)| ty);
    }
    if r.faults.is_empty() { Ok(control) } else { Err(Faults::new(r.faults)) }
}

/// What a file, with or without its control tables, makes.
pub(super) enum Built {
    /// A map.
    Map(Box<ShardMap>),
    /// No fault was found, but which shards there are is written in the control database only.
    NeedsTables,
}

/// The labels that the shards' regions have; `None` where a shard is faulty.
fn region_labels(shards: &[Option<Shard>]) -> Option<Vec<&str>> {
    let mut labels = Vec::new();
    for shard in shards {
        if let Some(region) = shard.as_ref()?.region.as_deref()
            && !labels.contains(&region)
        {
            labels.push(region);
        }
    }
    Some(labels)
}

/// Whoever connects to the database of this name speaks to the proxy itself.
const CONSOLE: &str = "pgmeridian";

/// `None` only when a fault was added.
fn read(r: &mut Reader<'_>, mut root: Fields<'_>, tables: Option<&Tables>) -> Option<Built> {
    let version = root.take("version").and_then(|node| node.integer(r, 1..=i64::MAX));
    let database = root.string(r, "database");
    if let Some(name) = database.as_ref().filter(|name| name.value == CONSOLE) {
        let fault = r.fault(&name.span, "the database \"pgmeridian\" is the operator's console");
        fault.hint("give the logical database another name; the shards' own names don't matter");
    }
    if let Some(name) = database.as_ref().filter(|name| name.value.is_empty()) {
        r.fault(&name.span, "the database has no name").hint("clients connect to it by its name");
    }
    let default_shard = root.string(r, "default_shard");
    let routing = root.choice(r, "routing", &[("on", true), ("off", false)]);
    let control_node = root.take("control");
    let control = rest::control(r, &mut root);
    let has_control = control_node.is_some();

    let key_nodes = root.entries_of(r, "keys");
    let lookup_nodes = root.entries_of(r, "lookups");
    let listed = root.tables(r, "shards");
    let (mut primary, mut no_primary) = (None, None);
    let (shards, mut names) = match tables.filter(|_| has_control) {
        None => shards::shards(r, listed, has_control),
        Some(tables) => {
            let wanted = control.as_ref().and_then(|control| control.key.as_deref());
            let fed = control::fed_key(&key_nodes, wanted);
            let read = control::shards(r, tables, listed, fed.as_ref());
            primary = read.primary;
            no_primary = read.no_primary;
            (read.shards, read.names)
        }
    };
    names.keys = key_nodes.iter().map(|node| node.name.clone()).collect();
    names.lookups = lookup_nodes.iter().map(|node| node.name.clone()).collect();
    if let (Some(node), Some(control)) = (&control_node, &control) {
        control::check_key(r, &names, &key_nodes, node, control);
    }

    let default_shard = match default_shard {
        Some(name) => {
            let shard = names.shard(r, &name);
            control::check_default(r, &name, shard, primary.as_ref());
            shard
        }
        None if names.shards.len() == 1 || names.open => Some(ShardId(0)),
        None if primary.is_some() => primary.as_ref().and_then(|primary| primary.only(r)),
        None if has_control && tables.is_some() => {
            no_primary.as_ref().and_then(|source| control::lacks_primary(r, source))
        }
        None => {
            // Required, unless it was there and faulty.
            root.require("default_shard");
            None
        }
    };
    let keys = keys::keys(r, &names, &key_nodes, has_control);
    let lookups = tables::lookups(r, &names, &lookup_nodes);
    let fed = tables.filter(|_| has_control);
    let tables = tables::tables(r, &names, &mut root, &keys);
    let everywhere = tables::everywhere(r, &mut root);
    let functions = rest::functions(r, &mut root);
    let databases = rest::databases(r, &names, &mut root);
    let (session_key, key_setting) = rest::sessions(r, &names, &mut root);
    let regions = region_labels(&shards).filter(|_| !names.open);
    let policy = rest::policy(r, &mut root, regions.as_deref());
    root.finish(r);
    if names.open {
        return r.faults.is_empty().then_some(Built::NeedsTables);
    }

    let shards: Option<Vec<_>> = shards.into_iter().collect();
    let keys: Option<Vec<Key>> = keys.into_iter().map(|key| key.built).collect();
    let (shards, mut keys, default_shard) = (shards?, keys?, default_shard?);
    let frozen = fed.map(|tables| control::freezes(r, tables, &keys)).unwrap_or_default();
    let database = match database {
        Some(name) => name.value,
        None => shards.get(usize::from(default_shard.0))?.url.dbname.clone(),
    };
    for key in &mut keys {
        key.reserve(&database, &shards);
    }
    let only_key = (keys.len() == 1).then_some(KeyId(0));
    Some(Built::Map(Box::new(ShardMap {
        version: version.map_or(1, i64::unsigned_abs),
        shards_version: 0,
        database,
        default_shard,
        routing: routing.unwrap_or(true),
        shards,
        keys,
        tables,
        lookups: lookups.into_iter().collect::<Option<_>>()?,
        everywhere,
        functions,
        databases,
        within: None,
        sole_key: None,
        session_key: session_key.or(only_key),
        key_setting,
        policy: policy.unwrap_or_default(),
        control,
        freezes: frozen,
        freezes_version: 0,
    })))
}
