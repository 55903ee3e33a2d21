//! Which shard owns a key: the shard map's model, one file per strategy, parsing with spans, validation.
//!
//! Main types: [`ShardMap`] (only ever a valid one: [`ShardMap::parse`] is the only way to it), [`ShardId`],
//! [`ShardSet`], [`Placement`] (what the map says of a table), [`Part`] (what a predicate says of a key).
//!
//! A row's shard is a function of its stored key alone (contract, axiom of placement). How each strategy
//! computes it is frozen and tested by golden values. Strategies: [`hash`], [`range`], [`geo`],
//! [`directory`]. The file is read in three steps: a TOML tree with spans (`reader`), names resolved and
//! every fault collected ([`fault`], `build`), the built map.
//!
//! Where a map has a section `[control]`, shards, ranges and directory come from [`Tables`] that others have
//! read ([`ShardMap::parse_with`]); a directory holds millions of keys ([`entries`]).
//!
//! It knows no socket and no SQL; tables come to it as [`crate::catalog::Table`]. Lookups are
//! kept in the model, but nothing here acts on them.

mod build;
pub mod control;
pub mod databases;
pub mod diff;
pub mod directory;
pub mod entries;
pub mod fault;
pub mod geo;
pub mod geoip;
pub mod hash;
pub mod import;
pub mod key_database;
pub mod model;
mod newcomers;
pub mod place;
pub mod placement;
pub mod range;
mod reader;
mod set;
pub mod target;

#[cfg(test)]
mod tests;

use rustc_hash::FxHashMap;

pub use control::{Connection, OddTenant, ShardRow, Tables};
pub use databases::DatabaseHome;
pub use diff::MapDiff;
pub use entries::{Entries, Moved};
pub use fault::{Fault, Faults, did_you_mean};
pub use geoip::{GeoIp, Outside};
pub use key_database::KeyDatabase;
pub use model::{
    Control, CrossShardReads, CrossShardSnapshot, CrossShardWrites, DatabaseHomes, DatabasePerKey,
    DatabaseRule, DatabaseStrategy, Everywhere, FunctionRule, Key, Lookup, LookupSource,
    NewKeyPlaces, PlaceNew, Policy, Residency, Shard, Strategy, UnlistedTables,
};
pub use newcomers::RegionHints;
pub use place::{NoShard, Part, Why};
pub use placement::{Placement, UNNAMED_COLUMN};
pub use set::ShardSet;
pub use target::{ConnectionTarget, Host, Password, SslMode};

use crate::datum::KeyValue;
use build::Built;
use model::TableRule;

/// A shard: its index in the map, dense from 0 (not the map file's `id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// A sharding key: its index in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u8);

/// A map has at most so many shards: a Snowflake id has ten bits for them.
pub const SHARDS_MAX: usize = 1024;

/// A map has at most so many keys: [`KeyId`] is a byte.
pub const KEYS_MAX: usize = 256;

/// A valid shard map.
#[derive(Debug, Clone)]
pub struct ShardMap {
    version: u64,
    shards_version: u64,
    database: String,
    default_shard: ShardId,
    routing: bool,
    shards: Vec<Shard>,
    keys: Vec<Key>,
    /// By `schema.name`.
    tables: FxHashMap<String, TableRule>,
    lookups: Vec<Lookup>,
    everywhere: Vec<Everywhere>,
    functions: FxHashMap<String, FunctionRule>,
    databases: Vec<DatabaseRule>,
    /// Set in the map of one database.
    within: Option<databases::Within>,
    /// Every row is of this key: it is the map of a key's own database.
    sole_key: Option<(KeyId, KeyValue<'static>)>,
    session_key: Option<KeyId>,
    key_setting: Option<String>,
    policy: Policy,
    control: Option<Control>,
    freezes: Vec<(KeyId, KeyValue<'static>)>,
    freezes_version: u64,
}

impl ShardMap {
    /// Parses and validates a map file's text. `name` is the file's name in faults; `env` answers `${VAR}`.
    /// What is legal but probably not meant comes back as warnings.
    ///
    /// # Errors
    ///
    /// Every fault of the file at once. No password is ever part of a fault.
    pub fn parse(
        name: &str,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vec<Fault>), Faults> {
        Self::parse_in(name, text, Outside::of(env), None)
    }

    /// The same with what the control tables say: shards, ranges and directory are theirs, where the map has
    /// a section `[control]`.
    ///
    /// # Errors
    ///
    /// Every fault of the file and of the tables at once.
    pub fn parse_with(
        name: &str,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
        tables: &Tables,
    ) -> Result<(Self, Vec<Fault>), Faults> {
        Self::parse_in(name, text, Outside::of(env), Some(tables))
    }

    /// The same with the files that the map names.
    ///
    /// # Errors
    ///
    /// Every fault of the file, of the tables and of the files that it names.
    pub fn parse_in(
        name: &str,
        text: &str,
        outside: Outside<'_>,
        tables: Option<&Tables>,
    ) -> Result<(Self, Vec<Fault>), Faults> {
        match build::build(name, text, outside, tables)? {
            (Built::Map(map), warnings) => Ok((*map, warnings)),
            (Built::NeedsTables, _) => Err(Faults::needs_tables(name, text)),
        }
    }

    /// Looks for faults as far as that is possible without the control database. `None` when the shards
    /// are named there only, so that there is no map yet.
    ///
    /// # Errors
    ///
    /// Every fault of the file at once.
    pub fn check(
        name: &str,
        text: &str,
        outside: Outside<'_>,
    ) -> Result<(Option<Self>, Vec<Fault>), Faults> {
        build::build(name, text, outside, None).map(|(built, warnings)| match built {
            Built::Map(map) => (Some(*map), warnings),
            Built::NeedsTables => (None, warnings),
        })
    }

    /// The section `[control]` of a map's text, if it has one: where the tables are that
    /// [`ShardMap::parse_with`] wants.
    ///
    /// # Errors
    ///
    /// The section's own faults; others are found by `parse_with`.
    pub fn control_of(
        name: &str,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Control>, Faults> {
        build::control_of(name, text, env)
    }

    /// The version of the map at which its shards were last others; see [`ShardMap::succeeding`].
    pub fn shards_version(&self) -> u64 {
        self.shards_version
    }

    /// The same map as the successor of another. While the shards stay the same, whoever has connections to
    /// them can keep them.
    #[must_use]
    pub fn succeeding(mut self, old: &Self, version: u64) -> Self {
        self.version = version;
        self.shards_version = if self.same_shards(old) { old.shards_version } else { version };
        let same = self.freezes == old.freezes;
        self.freezes_version = if same { old.freezes_version } else { version };
        self
    }

    /// Whether both have the same shards in the same order at the same places.
    fn same_shards(&self, other: &Self) -> bool {
        self.shards.len() == other.shards.len()
            && self
                .shards
                .iter()
                .zip(&other.shards)
                .all(|(a, b)| a.name == b.name && a.url == b.url && a.replicas == b.replicas)
    }

    /// The same map with another version; whoever swaps maps counts them.
    #[must_use]
    pub fn with_version(mut self, version: u64) -> Self {
        self.version = version;
        self.shards_version = version;
        self
    }

    /// The version of the map at which its frozen keys were last others; see [`ShardMap::succeeding`].
    pub fn freezes_version(&self) -> u64 {
        self.freezes_version
    }

    /// Keys that may not be written.
    pub fn freezes(&self) -> &[(KeyId, KeyValue<'static>)] {
        &self.freezes
    }

    /// The same map with these keys frozen, and no others.
    #[must_use]
    pub fn freezing(mut self, keys: Vec<(KeyId, KeyValue<'static>)>) -> Self {
        self.freezes = keys;
        self
    }

    /// The map's version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The version that is told to people: of a database's own map that of the map which says where it is.
    pub fn version_told(&self) -> u64 {
        self.within.as_ref().map_or(self.version, |within| within.version)
    }

    /// The logical database that clients connect to.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The home shard: statements that name no table, single tables without a shard.
    pub fn default_shard(&self) -> ShardId {
        self.default_shard
    }

    /// False: everything goes to the default shard.
    pub fn routing(&self) -> bool {
        self.routing
    }

    /// The shards; a [`ShardId`] is an index into them.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// A shard.
    pub fn shard(&self, shard: ShardId) -> Option<&Shard> {
        self.shards.get(usize::from(shard.0))
    }

    /// A shard's name; `?` for an id that isn't of this map.
    pub fn shard_name(&self, shard: ShardId) -> &str {
        self.shard(shard).map_or("?", |s| &s.name)
    }

    /// The shard of this name.
    pub fn shard_named(&self, name: &str) -> Option<ShardId> {
        let at = self.shards.iter().position(|shard| shard.name == name)?;
        u16::try_from(at).ok().map(ShardId)
    }

    /// Every shard of the map.
    pub fn all_shards(&self) -> ShardSet {
        ShardSet::all(self.shards.len())
    }

    /// The shards of which something is true.
    pub fn shards_where(&self, is_so: impl Fn(&Shard) -> bool) -> ShardSet {
        let found = (0..).zip(&self.shards).filter(|(_, shard)| is_so(shard));
        found.map(|(at, _)| ShardId(at)).collect()
    }

    /// The keys; a [`KeyId`] is an index into them.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// A key.
    pub fn key(&self, key: KeyId) -> Option<&Key> {
        self.keys.get(usize::from(key.0))
    }

    /// The key of this name.
    pub fn key_named(&self, name: &str) -> Option<KeyId> {
        let at = self.keys.iter().position(|key| key.name == name)?;
        u8::try_from(at).ok().map(KeyId)
    }

    /// Every shard that the key's placement can yield.
    pub fn key_shards(&self, key: KeyId) -> &ShardSet {
        static NONE: std::sync::LazyLock<ShardSet> = std::sync::LazyLock::new(ShardSet::new);
        self.key(key).map_or(&NONE, |key| &key.shards)
    }

    /// The lookups: ids that lead to keys.
    pub fn lookups(&self) -> &[Lookup] {
        &self.lookups
    }

    /// Rows of sharded tables that exist on every shard.
    pub fn everywhere_rows(&self) -> &[Everywhere] {
        &self.everywhere
    }

    /// Whether some rows of the table exist on every shard.
    pub fn everywhere(&self, table: &crate::catalog::Table) -> bool {
        self.everywhere.iter().any(|rule| rule.schema == table.schema && rule.table == table.name)
    }

    /// Rules of user-defined functions, by `name` or `schema.name` as the map writes them.
    pub fn functions(&self) -> &FxHashMap<String, FunctionRule> {
        &self.functions
    }

    /// The rule of a function called `name` or `schema.name`. A call without a schema may mean the rule of
    /// schema public, and a rule without a schema is for public alone.
    pub fn function(&self, name: &str) -> Option<FunctionRule> {
        if let Some(rule) = self.functions.get(name) {
            return Some(*rule);
        }
        match name.strip_prefix("public.") {
            Some(bare) => self.functions.get(bare).copied(),
            None if name.contains('.') => None,
            None => self.functions.get(&format!("public.{name}")).copied(),
        }
    }

    /// Whole databases, routed by name.
    pub fn databases(&self) -> &[DatabaseRule] {
        &self.databases
    }

    /// The key that a session's key is a value of: the one named under `[sessions]`, or the only one.
    pub fn session_key(&self) -> Option<KeyId> {
        self.session_key
    }

    /// The setting that is the session's key, besides `pgmeridian.key`; lower case.
    pub fn key_setting(&self) -> Option<&str> {
        self.key_setting.as_deref()
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Where shards, ranges and directory are read from, besides the file.
    pub fn control(&self) -> Option<&Control> {
        self.control.as_ref()
    }
}
