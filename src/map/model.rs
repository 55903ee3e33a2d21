//! What a map consists of. Field by field it is contract §2; the file's words are in the comments there.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::directory::{Directory, Otherwise};
use super::geo::{Geo, Region};
use super::geoip::GeoIp;
use super::hash::{Hash, slot};
use super::range::{RangeEntry, Ranges};
use super::target::ConnectionTarget;
use super::{KeyId, ShardId, ShardSet};
use crate::datum::{KeyType, KeyValue};

/// A shard.
#[derive(Debug, Clone)]
pub struct Shard {
    /// `shard_config.shard_id`; not the index in the map.
    pub id: i16,
    /// Its name.
    pub name: String,
    /// Its name on consistent rings, which outlives a rename.
    pub ring_name: String,
    /// A label, up to 16 characters.
    pub region: Option<String>,
    /// A label.
    pub datacenter: Option<String>,
    /// Where it is.
    pub url: ConnectionTarget,
    /// Its read replicas.
    pub replicas: Vec<ConnectionTarget>,
    /// False: no new key is recorded here.
    pub active: bool,
}

/// A sharding key.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// A table with a column of one of these names is sharded by it.
    pub columns: Vec<String>,
    /// The column of the second part, for composite keys.
    pub within_column: Option<String>,
    /// The types of its parts: one, or two for geo with `within`.
    pub types: SmallVec<[KeyType; 2]>,
    /// How its values are placed.
    pub strategy: Strategy,
    /// Every shard that the placement can yield.
    pub shards: ShardSet,
    /// What happens to a key that is nowhere, at its first INSERT (strategy directory with `[control]`).
    pub place_new: PlaceNew,
    /// Where new keys go by region.
    pub new_key_places: Option<NewKeyPlaces>,
    /// Where new keys go by a hash.
    pub new_key_hash: Option<Hash>,
}

impl Key {
    /// The type of the first part.
    pub fn key_type(&self) -> KeyType {
        self.types.first().copied().unwrap_or(KeyType::Text)
    }

    /// How many parts it has.
    pub fn parts(&self) -> usize {
        self.types.len()
    }

    /// The rule that places a row with these parts, in words, for EXPLAIN (ROUTE): `range 1 to 20`.
    pub fn rule(&self, values: &[KeyValue<'_>]) -> String {
        let Some(first) = values.first() else { return self.strategy.name().to_owned() };
        match &self.strategy {
            Strategy::Hash(hash) => hash_rule(hash, first),
            Strategy::Range(ranges) => range_rule(ranges, first),
            Strategy::Directory(directory) => directory_rule(directory, first),
            Strategy::Geo(geo) => match (geo.region(first), values.get(1)) {
                (Ok(Region::Within(hash)), Some(second)) => {
                    format!("region {first}, {}", hash_rule(hash, second))
                }
                (Ok(_), _) => format!("region {first}"),
                (Err(_), _) => format!("region {first} is not listed, default"),
            },
            Strategy::Database(own) => {
                let home = match &own.homes {
                    DatabaseHomes::Hash(hash) => hash_rule(hash, first),
                    DatabaseHomes::Directory(directory) => directory_rule(directory, first),
                };
                format!("database {}{first}, {home}", own.prefix)
            }
        }
    }
}

fn directory_rule(directory: &Directory, value: &KeyValue<'_>) -> String {
    match &directory.otherwise {
        _ if directory.lists(value) => format!("directory entry {value}"),
        Otherwise::Hash(hash) => format!("not in the directory, {}", hash_rule(hash, value)),
        Otherwise::Range(ranges) => format!("not in the directory, {}", range_rule(ranges, value)),
        Otherwise::Refuse => "not in the directory".to_owned(),
    }
}

fn hash_rule(hash: &Hash, value: &KeyValue<'_>) -> String {
    match hash {
        Hash::Slots(_) => format!("slot {}", slot(value)),
        Hash::Modulo(shards) | Hash::Postgres(shards) | Hash::Md5 { shards, .. } => {
            format!("hash {} modulo {}", hash.algorithm(), shards.len())
        }
        Hash::Consistent { .. } => "hash consistent".to_owned(),
    }
}

fn range_rule(ranges: &Ranges, value: &KeyValue<'_>) -> String {
    match ranges.entry(value) {
        Some(RangeEntry { from: Some(from), to: Some(to), .. }) => format!("range {from} to {to}"),
        Some(RangeEntry { from: Some(from), .. }) => format!("range from {from}"),
        Some(RangeEntry { to: Some(to), .. }) => format!("range to {to}"),
        Some(RangeEntry { .. }) => "range of every key".to_owned(),
        None => "no range".to_owned(),
    }
}

/// How a key's values are placed.
#[derive(Debug, Clone)]
pub enum Strategy {
    /// By a hash.
    Hash(Hash),
    /// By ranges.
    Range(Ranges),
    /// By the stored region.
    Geo(Geo),
    /// By a list of keys.
    Directory(Directory),
    /// A database per key.
    Database(DatabasePerKey),
}

impl Strategy {
    /// Its name in the map.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hash(_) => "hash",
            Self::Range(_) => "range",
            Self::Geo(_) => "geo",
            Self::Directory(_) => "directory",
            Self::Database(_) => "database",
        }
    }
}

/// Strategy `database`.
#[derive(Debug, Clone)]
pub struct DatabasePerKey {
    /// Put before the key's text to make the database's name.
    pub prefix: String,
    /// On which shard each database is.
    pub homes: DatabaseHomes,
    /// Missing databases are created, by a session of the key or the first INSERT of a row of it.
    pub auto_create: bool,
    /// What they are made from.
    pub template: String,
    /// Databases that the servers have for themselves: no key's, whatever its text.
    pub(super) reserved: Vec<String>,
}

/// On which shard the database of a key is.
#[derive(Debug, Clone)]
pub enum DatabaseHomes {
    /// By a hash of the key.
    Hash(Hash),
    /// By a list of keys.
    Directory(Directory),
}

/// What happens to a key that is nowhere, at its first INSERT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlaceNew {
    /// It is refused.
    #[default]
    Refuse,
    /// Its region decides.
    Geo,
    /// A hash decides.
    Hash,
    /// The shard with the fewest keys gets it.
    LeastKeys,
}

/// `[keys.x.place]`: where new keys go by region.
#[derive(Debug, Clone)]
pub struct NewKeyPlaces {
    /// The column of the INSERT that names the region.
    pub column: Option<String>,
    /// Shards of each region, in order.
    pub regions: BTreeMap<String, Vec<ShardId>>,
    /// Regions of client networks, as written.
    pub networks: Vec<(String, String)>,
    /// Which country an address is in; none also where the map was read without its files.
    pub geoip: Option<Arc<GeoIp>>,
    /// The region when nothing tells one.
    pub default: Option<String>,
}

/// `[lookups.x]`: an id that leads to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Its name.
    pub name: String,
    /// Columns of this name hold the id.
    pub columns: Vec<String>,
    /// Columns that hold it in tables of another naming, by `schema.name`.
    pub tables: FxHashMap<String, String>,
    /// The key it leads to.
    pub key: KeyId,
    /// The table that is asked on a miss.
    pub source: Option<LookupSource>,
    /// The id is unique everywhere and never changes its key. Only then does it narrow a route.
    pub unique: bool,
    /// It is learned from committed INSERTs.
    pub learn: bool,
}

/// The table that a lookup asks on a miss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupSource {
    /// `schema.name`.
    pub table: String,
    /// The id's column.
    pub id: String,
    /// The key's column.
    pub key: String,
}

/// What `[tables]` (and `keys.x.tables`) says of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TableRule {
    Reference,
    Single(ShardId),
    /// By index in the map's lookups.
    Lookup(usize),
    Key {
        key: KeyId,
        column: String,
        /// The second part's column, where it isn't the key's `within` column.
        within: Option<String>,
    },
}

/// `[[everywhere]]`: rows of a sharded table that exist on every shard.
#[derive(Debug, Clone)]
pub struct Everywhere {
    /// The table's schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// Which rows, in SQL.
    pub predicate: String,
    /// The column and the constant's text, where the predicate is `column = constant`: then the planner
    /// can tell which statements are about these rows.
    pub equals: Option<(String, String)>,
    /// The text of the key that these rows have, if the map says so.
    pub key: Option<String>,
}

/// What a user-defined function may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionRule {
    /// It reads no table.
    Pure,
    /// It runs on the home shard.
    Home,
    /// It runs on all shards.
    All,
}

/// `[[databases]]`: whole databases, routed by name at connect.
#[derive(Debug, Clone)]
pub struct DatabaseRule {
    /// A name, with `*` for any text.
    pub pattern: String,
    /// How they are placed.
    pub strategy: DatabaseStrategy,
}

/// How whole databases are placed.
#[derive(Debug, Clone)]
pub enum DatabaseStrategy {
    /// By a consistent hash of the name.
    Hash(Hash),
    /// By a list.
    Directory(BTreeMap<String, ShardId>),
}

/// `[policy]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Reads over several shards.
    pub cross_shard_reads: CrossShardReads,
    /// Transactions that write on several shards.
    pub cross_shard_writes: CrossShardWrites,
    /// REPEATABLE READ over several shards.
    pub cross_shard_snapshot: CrossShardSnapshot,
    /// Tables with no key column and not under `[tables]`.
    pub unlisted_tables: UnlistedTables,
    /// An INSERT without its key column gets the key that routing found.
    pub fill_keys: bool,
    /// `shard_id = n` and Snowflake bits narrow routes.
    pub trust_shard_id: bool,
    /// Regions whose rows may only be read together with rows of certain regions.
    pub residency: Vec<Residency>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            cross_shard_reads: CrossShardReads::Allow,
            cross_shard_writes: CrossShardWrites::TwoPhase,
            cross_shard_snapshot: CrossShardSnapshot::Refuse,
            unlisted_tables: UnlistedTables::DefaultShard,
            fill_keys: true,
            trust_shard_id: false,
            residency: Vec::new(),
        }
    }
}

/// `policy.cross_shard_reads`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrossShardReads {
    /// They are answered.
    Allow,
    /// They are refused.
    Refuse,
}

/// `policy.cross_shard_writes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrossShardWrites {
    /// They commit in two phases.
    TwoPhase,
    /// They are refused.
    Refuse,
}

/// `policy.cross_shard_snapshot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrossShardSnapshot {
    /// Refused.
    Refuse,
    /// A snapshot per shard.
    BestEffort,
}

/// `policy.unlisted_tables`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlistedTables {
    /// They live on the default shard.
    DefaultShard,
    /// They are refused.
    Refuse,
}

/// Rows of `region` are never read through a statement that reads rows of regions not listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residency {
    /// The region.
    pub region: String,
    /// The regions it may be read together with.
    pub together: Vec<String>,
}

/// `[control]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The control database.
    pub url: ConnectionTarget,
    /// How often it is asked, besides LISTEN.
    pub poll: std::time::Duration,
    /// The key that `tenant_shard_map` and the ranges of `shard_config` are of, where the map names it.
    pub key: Option<String>,
    /// Where what was read last is kept; next to the map when nothing is said.
    pub cache: Option<String>,
    /// The type of the key that the tables are of.
    pub key_type: Option<KeyType>,
}
