//! Whole databases, routed by name: those of `[[databases]]`, and keys' own (`key_database`). Which shard a
//! database is on, and the map that its sessions see.
//!
//! A session of such a database sees one server. Its map has that one shard, with the database in its URL,
//! and no key, so that everything PostgreSQL can do is passed on. What is deliberately absent: a database
//! over several shards other than the map's own.

use rustc_hash::FxHashMap;

use super::model::{DatabaseRule, DatabaseStrategy, Key, Policy};
use super::{ShardId, ShardMap};
use crate::datum::KeyValue;

/// Where the shards of a session's map are from, if it is the map of one database.
#[derive(Debug, Clone)]
pub(super) struct Within {
    /// The database's shard in the map it was taken from.
    pub(super) home: ShardId,
    /// The names of all shards there.
    pub(super) names: Vec<String>,
    /// The keys there.
    pub(super) keys: Vec<Key>,
    /// That map's version.
    pub(super) version: u64,
}

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseHome {
    /// On a shard of this map.
    Here(ShardId),
    /// On another shard (its name), which sessions of this database don't reach.
    Elsewhere(String),
}

impl DatabaseRule {
    /// The rule is about databases of this name.
    pub fn matches(&self, name: &str) -> bool {
        matches(&self.pattern, name)
    }

    fn place(&self, name: &str) -> Option<ShardId> {
        match &self.strategy {
            DatabaseStrategy::Hash(ring) => ring.place(&KeyValue::Text(name.into())).ok(),
            DatabaseStrategy::Directory(listed) => listed.get(name).copied(),
        }
    }
}

/// `*` stands for any text, everything else for itself.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = left.get(at + part.len()..).unwrap_or_default();
    }
    left.ends_with(end)
}

impl ShardMap {
    /// Where a database is that is a key's own, or that `[[databases]]` speaks of: the first rule that
    /// matches its name and has a place for it. `None` for others, the map's own among them.
    pub fn database_home(&self, name: &str) -> Option<DatabaseHome> {
        let own = self.within.is_none() && name == self.database;
        let mut rules = self.databases.iter().filter(|rule| !own && rule.matches(name));
        let home = match self.key_database_named(name).filter(|_| !own) {
            Some(database) => database.shard,
            None => rules.find_map(|rule| rule.place(name))?,
        };
        Some(match &self.within {
            None => DatabaseHome::Here(home),
            Some(within) if within.home == home => DatabaseHome::Here(ShardId(0)),
            Some(within) => {
                let name = within.names.get(usize::from(home.0));
                DatabaseHome::Elsewhere(name.cloned().unwrap_or_default())
            }
        })
    }

    /// The databases that directories list, each with its shard.
    pub fn listed_databases(&self) -> Vec<(String, ShardId)> {
        let rules = self.databases.iter().filter_map(|rule| match &rule.strategy {
            DatabaseStrategy::Directory(listed) => Some(listed),
            DatabaseStrategy::Hash(_) => None,
        });
        let names = rules.flat_map(|listed| listed.keys());
        names
            .filter_map(|name| match self.database_home(name)? {
                DatabaseHome::Here(home) => Some((name.clone(), home)),
                DatabaseHome::Elsewhere(_) => None,
            })
            .collect()
    }

    /// The map for sessions of a database that is a key's own, or that `[[databases]]` speaks of.
    pub fn of_database(&self, name: &str) -> Option<Self> {
        let DatabaseHome::Here(home) = self.database_home(name)? else { return None };
        let mut shard = self.shard(home)?.clone();
        name.clone_into(&mut shard.url.dbname);
        for replica in &mut shard.replicas {
            name.clone_into(&mut replica.dbname);
        }
        let map = Self {
            version: 0,
            shards_version: 0,
            freezes: Vec::new(),
            freezes_version: 0,
            database: name.to_owned(),
            default_shard: ShardId(0),
            routing: true,
            shards: vec![shard],
            keys: Vec::new(),
            tables: FxHashMap::default(),
            lookups: Vec::new(),
            everywhere: Vec::new(),
            functions: FxHashMap::default(),
            databases: self.databases.clone(),
            within: Some(Within::new(self, home)),
            sole_key: None,
            session_key: None,
            key_setting: None,
            policy: Policy::default(),
            control: None,
        };
        Some(match self.key_database_named(name).filter(|_| self.within.is_none()) {
            Some(database) => map.for_key(self, database),
            None => map,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_they_read() {
        let check = |pattern: &str, name: &str, expect: bool| {
            assert_eq!(matches(pattern, name), expect, "{pattern} {name}");
        };
        check("bot_*", "bot_x", true);
        check("bot_*", "bot_", true);
        check("bot_*", "robot_x", false);
        check("bot", "bot", true);
        check("bot", "bot_x", false);
        check("*", "anything", true);
        check("*_test", "a_test", true);
        check("a*b*c", "a-b-c", true);
        check("a*b*c", "a-c", false);
        check("a*a", "a", false);
        check("**", "x", true);
    }

    fn map() -> ShardMap {
        let text = "version = 1\ndatabase = \"bots\"\ndefault_shard = \"a\"\n\
            shards = [ { id = 1, name = \"a\", url = \"postgresql://u:p@h:1/bots\" },\
                { id = 2, name = \"b\", url = \"postgresql://u:p@h:2/bots\" } ]\n\
            [keys.tenant]\ncolumns = [\"tenant_id\"]\ntype = \"bigint\"\nstrategy = \"hash\"\n\
            hash = { algorithm = \"modulo\", shards = [\"a\", \"b\"] }\n\
            [[databases]]\nmatch = \"bot_*\"\nstrategy = \"directory\"\nentries = { bot_x = \"b\" }\n\
            [[databases]]\nmatch = \"bo*\"\nstrategy = \"hash\"\nshards = [\"a\", \"b\"]\n";
        ShardMap::parse("test", text, &|_| None).unwrap().0
    }

    #[test]
    fn the_first_rule_that_has_a_place_wins() {
        let map = map();
        let home = |name: &str| map.database_home(name);
        assert_eq!(home("bot_x"), Some(DatabaseHome::Here(ShardId(1))));
        assert_eq!(home("bots"), None, "the map's own");
        assert_eq!(home("other"), None);
        // Frozen: a change would look for people's databases where they are not.
        let ring: Vec<u16> = (0..16)
            .filter_map(|n| match home(&format!("bot_{n}")) {
                Some(DatabaseHome::Here(shard)) => Some(shard.0),
                _ => None,
            })
            .collect();
        assert_eq!(ring, [1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0]);
    }

    #[test]
    fn its_sessions_see_one_server() {
        let of = map().of_database("bot_x").unwrap();
        assert_eq!((of.database(), of.shards().len(), of.keys().len()), ("bot_x", 1, 0));
        let shard = &of.shards()[0];
        assert_eq!((shard.name.as_str(), shard.url.dbname.as_str()), ("b", "bot_x"));
        assert_eq!(of.database_home("bot_x"), Some(DatabaseHome::Here(ShardId(0))));
        let others = (0..50).map(|n| of.database_home(&format!("bot_{n}")));
        assert!(others.clone().any(|home| home == Some(DatabaseHome::Elsewhere("a".to_owned()))));
        assert!(map().of_database("bots").is_none());
    }
}
