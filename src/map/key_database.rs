//! Strategy `database`: which database is a key's own, and the map that its sessions see.
//!
//! Main type: [`KeyDatabase`]. A key's database is called the map's prefix and the key's text, and is on the
//! shard that the key's placement gives. A session in it sees one server on which every row is of that key
//! ([`ShardMap::sole_key`]): nothing has to be filtered, and no row of another key may come in. The logical
//! database of the default shard is where the schema is read for statements that name their key themselves;
//! that of the other shards, and what is not of the key, is what it is in any map.

use rustc_hash::FxHashMap;

use super::databases::Within;
use super::directory::{Directory, Otherwise};
use super::entries::Entries;
use super::model::{
    DatabaseHomes, DatabasePerKey, Key, PlaceNew, Policy, Shard, Strategy, TableRule,
};
use super::place::Why;
use super::{KeyId, NoShard, ShardId, ShardMap, ShardSet};
use crate::datum::KeyValue;

/// PostgreSQL cuts names off behind so many bytes (`NAMEDATALEN - 1`), and two keys would have one database.
const NAME_BYTES_MAX: usize = 63;

/// Databases that `initdb` makes, and the one that is the operator's console here.
const OF_SERVERS: [&str; 4] = ["postgres", "template0", "template1", "pgmeridian"];

/// The database of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDatabase {
    /// The shard that it is on.
    pub shard: ShardId,
    /// Its name.
    pub name: String,
    /// The key.
    pub key: KeyId,
    /// Its value.
    pub value: KeyValue<'static>,
    /// It is made if it is not there.
    pub auto_create: bool,
}

impl DatabasePerKey {
    /// The shard of a key's database.
    pub(super) fn place(&self, value: &KeyValue<'_>) -> Result<ShardId, Why> {
        let name = self.name(value);
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Why::NameTooLong);
        }
        if self.reserved.contains(&name) {
            return Err(Why::NameReserved);
        }
        match &self.homes {
            DatabaseHomes::Hash(hash) => hash.place(value),
            DatabaseHomes::Directory(directory) => directory.place(value),
        }
    }

    fn name(&self, value: &KeyValue<'_>) -> String {
        format!("{}{value}", self.prefix)
    }
}

impl Key {
    /// Its own databases, if each value has one.
    pub fn databases(&self) -> Option<&DatabasePerKey> {
        match &self.strategy {
            Strategy::Database(own) => Some(own),
            Strategy::Hash(_) | Strategy::Range(_) | Strategy::Geo(_) | Strategy::Directory(_) => {
                None
            }
        }
    }

    /// Keeps from keys what the servers have for themselves.
    pub(super) fn reserve(&mut self, database: &str, shards: &[Shard]) {
        let Strategy::Database(own) = &mut self.strategy else { return };
        let logical = shards.iter().map(|shard| shard.url.dbname.as_str());
        let known = logical.chain(OF_SERVERS).chain([database, own.template.as_str()]);
        let mine = known.filter(|name| name.starts_with(&own.prefix)).map(str::to_owned);
        own.reserved = mine.collect();
    }

    /// The value whose database is called so, if there is one.
    fn value_of(&self, name: &str) -> Option<KeyValue<'static>> {
        let text = name.strip_prefix(self.databases()?.prefix.as_str())?;
        let value = KeyValue::from_text(self.key_type(), text).ok()?;
        (value.to_string() == text).then(|| value.into_owned())
    }
}

impl ShardMap {
    /// Whether the values of this key have a database each.
    pub fn has_databases(&self, key: KeyId) -> bool {
        self.key(key).is_some_and(|key| key.databases().is_some())
    }

    /// Whether the values of any key have a database each, and statements are sent there.
    pub fn has_key_databases(&self) -> bool {
        self.routing && self.keys.iter().any(|key| key.databases().is_some())
    }

    /// Whether everything that its statements can mean is in one database.
    pub fn is_one_server(&self) -> bool {
        self.shards.len() == 1 && !self.has_key_databases()
    }

    /// The database of a key; `None` if the key's values have none of their own.
    ///
    /// # Errors
    ///
    /// [`NoShard`]: the value has no place.
    pub fn key_database(
        &self,
        key: KeyId,
        value: &KeyValue<'_>,
    ) -> Result<Option<KeyDatabase>, NoShard> {
        let Some(own) = self.key(key).and_then(Key::databases).filter(|_| self.routing) else {
            return Ok(None);
        };
        let shard = self.place(key, value)?;
        let value = value.clone().into_owned();
        let (name, auto_create) = (own.name(&value), own.auto_create);
        Ok(Some(KeyDatabase { shard, name, key, value, auto_create }))
    }

    /// The key that every row of this map is of: it is that of the key's own database.
    pub fn sole_key(&self) -> Option<(KeyId, &KeyValue<'static>)> {
        self.sole_key.as_ref().map(|(key, value)| (*key, value))
    }

    /// The key's database that is called so, where it is in the map that this one was taken from.
    pub fn key_database_named(&self, name: &str) -> Option<KeyDatabase> {
        let keys = match &self.within {
            Some(within) => within.keys.as_slice(),
            None if self.routing => &self.keys,
            None => return None,
        };
        (0..).map(KeyId).zip(keys).find_map(|(key, own)| {
            let value = own.value_of(name)?;
            let databases = own.databases()?;
            let shard = databases.place(&value).ok()?;
            let (name, auto_create) = (name.to_owned(), databases.auto_create);
            Some(KeyDatabase { shard, name, key, value, auto_create })
        })
    }

    /// The keys whose values have a database each.
    pub(super) fn keys_with_databases(&self) -> Vec<Key> {
        match &self.within {
            Some(within) => within.keys.clone(),
            None => self.keys.clone(),
        }
    }

    /// Makes of the map of one database that of this key's own.
    pub(super) fn for_key(mut self, whole: &Self, own: KeyDatabase) -> Self {
        let Some(key) = whole.key(own.key) else { return self };
        let (Some(home), first) = (self.shards.first().map(|shard| shard.id), ShardId(0)) else {
            return self;
        };
        let mut entries = Entries::new(key.key_type());
        entries.put(&own.value, home);
        let homes = std::iter::once((home, first)).collect();
        let listed = Directory { entries, otherwise: Otherwise::Refuse, homes };
        self.keys = vec![Key {
            strategy: Strategy::Directory(listed),
            shards: ShardSet::of(first),
            place_new: PlaceNew::Refuse,
            new_key_places: None,
            new_key_hash: None,
            ..key.clone()
        }];
        self.tables = tables(&whole.tables, own.key);
        self.session_key = Some(KeyId(0));
        self.key_setting.clone_from(&whole.key_setting);
        self.policy = Policy { fill_keys: whole.policy.fill_keys, ..Policy::default() };
        self.sole_key = Some((KeyId(0), own.value));
        self
    }

    /// Whether sessions that are in this map's one database would see the same in the other's.
    pub fn is_same_database(&self, other: &Self) -> bool {
        let places = |map: &Self| -> Vec<_> {
            map.shards.iter().map(|shard| (shard.name.clone(), shard.url.clone())).collect()
        };
        let columns =
            |map: &Self| -> Vec<_> { map.keys.iter().map(|key| key.columns.clone()).collect() };
        places(self) == places(other)
            && self.sole_key == other.sole_key
            && self.tables == other.tables
            && columns(self) == columns(other)
            && self.key_setting == other.key_setting
            && self.policy == other.policy
    }
}

impl Within {
    /// Of a database of that map, on this shard.
    pub(super) fn new(map: &ShardMap, home: ShardId) -> Self {
        let names = map.shards.iter().map(|shard| shard.name.clone()).collect();
        Self { home, names, keys: map.keys_with_databases(), version: map.version }
    }
}

/// Tables of the key keep their rule; all others are the database's own.
fn tables(rules: &FxHashMap<String, TableRule>, own: KeyId) -> FxHashMap<String, TableRule> {
    let rule = |rule: &TableRule| match rule {
        TableRule::Key { key, column, within } if *key == own => {
            TableRule::Key { key: KeyId(0), column: column.clone(), within: within.clone() }
        }
        TableRule::Key { .. }
        | TableRule::Reference
        | TableRule::Single(_)
        | TableRule::Lookup(_) => TableRule::Single(ShardId(0)),
    };
    rules.iter().map(|(name, of)| (name.clone(), rule(of))).collect()
}
