//! What SHOW can show, with the columns of each.

use super::Column;

/// What SHOW can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The shards, and how they are.
    Shards,
    /// The map that is used.
    Map,
    /// What became of maps.
    MapHistory,
    /// The sharding keys.
    Keys,
    /// The tables, and where the map places them.
    Tables,
    /// The pools of connections.
    Pools,
    /// The databases.
    Databases,
    /// The clients.
    Clients,
    /// The connections to shards.
    Servers,
    /// What the shards were asked and took.
    Stats,
    /// The keys that the directory lists.
    Tenants,
    /// Ids that lead to keys.
    Lookups,
    /// Keys that may not be written.
    Freezes,
    /// The proxy's settings.
    Config,
    /// The proxy's version.
    Version,
    /// The commands.
    Help,
}

impl Topic {
    /// All of them, by the words after SHOW.
    pub const ALL: [(&'static str, Self); 16] = [
        ("shards", Self::Shards),
        ("map", Self::Map),
        ("map history", Self::MapHistory),
        ("keys", Self::Keys),
        ("tables", Self::Tables),
        ("pools", Self::Pools),
        ("databases", Self::Databases),
        ("clients", Self::Clients),
        ("servers", Self::Servers),
        ("stats", Self::Stats),
        ("tenants", Self::Tenants),
        ("lookups", Self::Lookups),
        ("freezes", Self::Freezes),
        ("config", Self::Config),
        ("version", Self::Version),
        ("help", Self::Help),
    ];

    /// The topic of these words, in lower case with one blank between two.
    pub fn named(words: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == words).map(|(_, topic)| *topic)
    }

    /// Its columns.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Shards => SHARDS,
            Self::Map => MAP,
            Self::MapHistory => MAP_HISTORY,
            Self::Keys => KEYS,
            Self::Tables => TABLES,
            Self::Pools => POOLS,
            Self::Databases => DATABASES,
            Self::Clients => CLIENTS,
            Self::Servers => SERVERS,
            Self::Stats => STATS,
            Self::Tenants => TENANTS,
            Self::Lookups => LOOKUPS,
            Self::Freezes => FREEZES,
            Self::Config => CONFIG,
            Self::Version => VERSION,
            Self::Help => HELP,
        }
    }
}

const SHARDS: &[Column] = &[
    Column::int("id"),
    Column::text("name"),
    Column::text("region"),
    Column::text("datacenter"),
    Column::text("host"),
    Column::int("port"),
    Column::text("database"),
    Column::bool("default"),
    Column::bool("active"),
    Column::text("gate"),
    Column::text("health"),
    Column::text("breaker"),
    Column::int("connections"),
    Column::int("replicas"),
];

const MAP: &[Column] = &[
    Column::int("version"),
    Column::text("source"),
    Column::time("loaded_at"),
    Column::text("checksum"),
    Column::text("state"),
    Column::text("last_fault"),
    Column::time("last_fault_at"),
    Column::text("database"),
    Column::text("default_shard"),
    Column::bool("routing"),
    Column::int("shards"),
    Column::int("keys"),
    Column::bool("schema_known"),
    Column::int("tables"),
];

const MAP_HISTORY: &[Column] = &[
    Column::time("at"),
    Column::text("origin"),
    Column::text("outcome"),
    Column::int("version"),
    Column::text("changes"),
];

const KEYS: &[Column] = &[
    Column::text("name"),
    Column::text("columns"),
    Column::text("type"),
    Column::text("strategy"),
    Column::text("algorithm"),
    Column::text("shards"),
    Column::int("entries"),
    Column::bool("session"),
];

const TABLES: &[Column] = &[
    Column::text("schema"),
    Column::text("name"),
    Column::text("kind"),
    Column::text("placement"),
    Column::text("key"),
    Column::text("columns"),
    Column::text("shards"),
    Column::text("remark"),
];

const POOLS: &[Column] = &[
    Column::text("shard"),
    Column::text("user"),
    Column::int("used"),
    Column::int("idle"),
    Column::int("waiting"),
    Column::int("size"),
    Column::int("max_wait_us"),
    Column::text("gate"),
    Column::text("database"),
];

const DATABASES: &[Column] = &[
    Column::text("name"),
    Column::text("shard"),
    Column::int("clients"),
    Column::int("connections"),
];

const CLIENTS: &[Column] = &[
    Column::int("id"),
    Column::text("user"),
    Column::text("database"),
    Column::text("application"),
    Column::text("address"),
    Column::text("state"),
    Column::bool("transaction"),
    Column::text("shards"),
    Column::text("pinned"),
    Column::int("statements"),
    Column::time("connected_since"),
];

const SERVERS: &[Column] = &[
    Column::int("id"),
    Column::text("shard"),
    Column::text("user"),
    Column::text("state"),
    Column::int("pid"),
    Column::int("client"),
    Column::int("age_ms"),
    Column::int("idle_ms"),
    Column::int("statements"),
    Column::time("connected_since"),
];

const STATS: &[Column] = &[
    Column::text("shard"),
    Column::int("statements"),
    Column::int("transactions"),
    Column::int("errors"),
    Column::int("sent_bytes"),
    Column::int("received_bytes"),
    Column::int("time_us"),
    Column::int("average_us"),
    Column::int("p50_us"),
    Column::int("p99_us"),
];

const TENANTS: &[Column] =
    &[Column::text("key"), Column::text("value"), Column::text("shard"), Column::text("source")];

const LOOKUPS: &[Column] = &[
    Column::text("name"),
    Column::text("key"),
    Column::text("columns"),
    Column::text("source"),
    Column::bool("unique"),
    Column::bool("learn"),
];

const FREEZES: &[Column] = &[
    Column::text("key"),
    Column::text("value"),
    Column::time("since"),
    Column::text("frozen_by"),
    Column::int("acknowledged"),
    Column::text("waiting_for"),
    Column::text("home"),
    Column::text("behind"),
];

const CONFIG: &[Column] = &[Column::text("name"), Column::text("value")];

const VERSION: &[Column] = &[Column::text("version")];

const HELP: &[Column] = &[Column::text("command"), Column::text("meaning")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_found_by_their_words() {
        for (words, topic) in Topic::ALL {
            assert_eq!(Topic::named(words), Some(topic));
            assert!(!topic.columns().is_empty());
        }
        assert_eq!(Topic::named("weather"), None);
    }
}
