//! The rows of SHOW.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Operator, Table, Topic, Value};
use crate::backend::{LATENCY_BOUNDS_US, ShardBook};
use crate::catalog::RelationKind;
use crate::config::{Config, LogFormat, PoolMode};
use crate::datum::KeyValue;
use crate::exec::clients;
use crate::map::{
    DatabaseHomes, DatabasePerKey, Host, Key, Placement, ShardId, ShardMap, ShardSet, Strategy,
};
use crate::mapstore::Outcome;

/// A directory may list millions of keys: so many are shown.
const TENANTS_MAX: usize = 10_000;

type Rows = Vec<Vec<Value>>;

impl Operator {
    pub(super) fn show(&self, topic: Topic) -> Table {
        let rows = match topic {
            Topic::Shards => self.shards(),
            Topic::Map => self.map(),
            Topic::MapHistory => self.map_history(),
            Topic::Keys => self.keys(),
            Topic::Tables => self.tables(),
            Topic::Pools => self.pools(),
            Topic::Databases => self.databases(),
            Topic::Clients => self.clients(),
            Topic::Servers => self.servers(),
            Topic::Stats => self.stats(),
            Topic::Tenants => self.tenants(),
            Topic::Lookups => self.lookups(),
            // The control database is asked for them.
            Topic::Freezes => Vec::new(),
            Topic::Config => settings(&self.shared.config),
            Topic::Version => {
                vec![vec![concat!("pgmeridian ", env!("CARGO_PKG_VERSION")).into()]]
            }
            Topic::Help => help(),
        };
        Table { columns: topic.columns(), rows }
    }

    fn shards(&self) -> Rows {
        let map = &self.shared.store.current().map;
        let health: HashMap<String, String> = self.health.found().into_iter().collect();
        let connections = self.shared.books.connections();
        let pools = self.shared.pools();
        let shards = map.shards().iter().zip(0u16..);
        shards
            .map(|(shard, at)| {
                let id = ShardId(at);
                let book = self.shared.books.shard(&shard.name);
                let held = connections.iter().filter(|own| own.shard.name() == shard.name).count();
                let reachable = pools.iter().all(|own| own.reachable_by_name(&shard.name));
                let host = match &shard.url.host {
                    Host::Tcp(host) => host.clone(),
                    Host::Unix(directory) => directory.display().to_string(),
                };
                vec![
                    Value::Int(shard.id.into()),
                    shard.name.as_str().into(),
                    shard.region.clone().into(),
                    shard.datacenter.clone().into(),
                    host.into(),
                    Value::Int(shard.url.port.into()),
                    shard.url.dbname.as_str().into(),
                    (id == map.default_shard()).into(),
                    shard.active.into(),
                    book.gate().word().into(),
                    health.get(&shard.name).map_or("not asked yet", String::as_str).into(),
                    if reachable { "closed" } else { "open" }.into(),
                    held.into(),
                    shard.replicas.len().into(),
                ]
            })
            .collect()
    }

    fn map(&self) -> Rows {
        let store = &self.shared.store;
        let (world, description) = (store.current(), store.description());
        let map = &world.map;
        let fault = store.history().fault();
        let source = store.source().map(|own| format!("file {}", own.path().display()));
        let control = store.control();
        let source = match &control {
            Some(control) => source.map(|file| format!("{file}, control {}", control.database)),
            None => source,
        };
        let problem = store.problem();
        let state = match &fault {
            Some(_) => "the last reload was refused, this map stays",
            None if problem.is_some() => "the control database can't be followed, this map stays",
            None => "ok",
        };
        vec![vec![
            map.version().into(),
            source.into(),
            description.loaded.into(),
            description.checksum.clone().into(),
            state.into(),
            problem.as_ref().map(|(what, _)| what.clone()).into(),
            problem.map(|(_, at)| at).into(),
            map.database().into(),
            map.shard_name(map.default_shard()).into(),
            map.routing().into(),
            map.shards().len().into(),
            map.keys().len().into(),
            world.catalog_known.into(),
            world.catalog.tables.len().into(),
        ]]
    }

    fn map_history(&self) -> Rows {
        let attempts = self.shared.store.history().all();
        attempts
            .into_iter()
            .map(|attempt| {
                let said = (attempt.outcome != Outcome::Unchanged && !attempt.what.is_empty())
                    .then_some(attempt.what);
                vec![
                    attempt.at.into(),
                    attempt.origin.words().into(),
                    attempt.outcome.word().into(),
                    attempt.version.into(),
                    said.into(),
                ]
            })
            .collect()
    }

    fn keys(&self) -> Rows {
        let map = &self.shared.store.current().map;
        let keys = map.keys().iter().zip(0u8..);
        keys.map(|(key, at)| {
            let types: Vec<String> = key.types.iter().map(ToString::to_string).collect();
            let columns = key.columns.iter().chain(&key.within_column);
            let entries = match &key.strategy {
                Strategy::Directory(directory) => Some(directory.entries.len()),
                Strategy::Range(ranges) => Some(ranges.entries().len() as u64),
                Strategy::Geo(geo) => Some(geo.regions.len() as u64),
                Strategy::Database(DatabasePerKey {
                    homes: DatabaseHomes::Directory(directory),
                    ..
                }) => Some(directory.entries.len()),
                Strategy::Hash(_) | Strategy::Database(_) => None,
            };
            vec![
                key.name.as_str().into(),
                columns.cloned().collect::<Vec<_>>().join(", ").into(),
                types.join(", ").into(),
                key.strategy.name().into(),
                algorithm(key).into(),
                names(map, &key.shards).into(),
                entries.into(),
                (map.session_key().is_some_and(|own| own.0 == at)).into(),
            ]
        })
        .collect()
    }

    fn tables(&self) -> Rows {
        let world = self.shared.store.current();
        let map = &world.map;
        let sorted: BTreeMap<_, _> = world.catalog.tables.iter().collect();
        let placed = |((schema, name), table): (&(String, String), &std::sync::Arc<_>)| {
            let table: &crate::catalog::Table = table;
            let column = |at: &u16| {
                table.columns.get(usize::from(*at)).map_or("?", |column| column.name.as_str())
            };
            let everywhere = map.all_shards();
            let (placement, key, columns, shards, remark) = match map.placement(table) {
                Placement::Sharded { key, columns } => (
                    "sharded",
                    map.key(key).map(|key| key.name.clone()),
                    Some(columns.iter().map(column).collect::<Vec<_>>().join(", ")),
                    Some(names(map, map.key_shards(key))),
                    None,
                ),
                Placement::Reference => {
                    ("reference", None, None, Some(names(map, &everywhere)), None)
                }
                Placement::Single(shard) => {
                    ("single", None, None, Some(map.shard_name(shard).to_owned()), None)
                }
                Placement::Lookup { name, column: at } => {
                    ("lookup", Some(name.to_owned()), Some(column(&at).to_owned()), None, None)
                }
                Placement::Unlisted => {
                    let home = map.shard_name(map.default_shard()).to_owned();
                    match map.policy().unlisted_tables {
                        crate::map::UnlistedTables::DefaultShard => {
                            ("unlisted", None, None, Some(home), None)
                        }
                        crate::map::UnlistedTables::Refuse => {
                            ("refused", None, None, None, Some("it is not listed".to_owned()))
                        }
                    }
                }
                Placement::Unusable(why) => ("refused", None, None, None, Some(why)),
            };
            vec![
                schema.as_str().into(),
                name.as_str().into(),
                kind(table.kind).into(),
                placement.into(),
                key.into(),
                columns.into(),
                shards.into(),
                remark.into(),
            ]
        };
        sorted.into_iter().map(placed).collect()
    }

    fn pools(&self) -> Rows {
        let mut sums: BTreeMap<(String, String, String), [usize; 4]> = BTreeMap::new();
        for status in self.shared.pools().iter().flat_map(|pools| pools.status()) {
            let sum = sums.entry((status.shard, status.user, status.database)).or_default();
            let counts = [status.active, status.idle, status.waiting, status.size_max];
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        sums.into_iter()
            .map(|((shard, user, database), [used, idle, waiting, size])| {
                let book = self.shared.books.shard(&shard);
                vec![
                    shard.into(),
                    user.into(),
                    used.into(),
                    idle.into(),
                    waiting.into(),
                    size.into(),
                    (book.longest_wait().as_micros() as u64).into(),
                    book.gate().word().into(),
                    database.into(),
                ]
            })
            .collect()
    }

    /// The map's own database, the databases that have had clients, and those that the map lists.
    fn databases(&self) -> Rows {
        let map = &self.shared.store.current().map;
        let own = (map.database().to_owned(), None);
        let mut found = BTreeMap::from([own]);
        for (name, home) in map.listed_databases() {
            found.insert(name, Some(map.shard_name(home).to_owned()));
        }
        found.extend(self.shared.served().into_iter().map(|(name, shard)| (name, Some(shard))));
        let clients = self.shared.clients.all();
        let pools: Vec<_> = self.shared.pools().iter().flat_map(|pools| pools.status()).collect();
        let row = |(name, shard): (String, Option<String>)| {
            let connected = clients.iter().filter(|client| client.database == name).count();
            let open = pools.iter().filter(|pool| pool.database == name);
            let open: usize = open.map(|pool| pool.active + pool.idle).sum();
            vec![name.into(), shard.into(), connected.into(), open.into()]
        };
        found.into_iter().map(row).collect()
    }

    fn clients(&self) -> Rows {
        let clients = self.shared.clients.all();
        clients
            .into_iter()
            .map(|client| {
                let places = self.shared.cancels.places(client.key).into_iter();
                let shards: Vec<String> = places.map(|(shard, _)| shard).collect();
                let pins = clients::pin_reasons(client.pins());
                vec![
                    Value::Int(client.id().into()),
                    client.user.as_str().into(),
                    client.database.as_str().into(),
                    client.application.as_str().into(),
                    client.address.to_string().into(),
                    client.activity().words().into(),
                    client.in_transaction().into(),
                    shards.join(", ").into(),
                    (!pins.is_empty()).then_some(pins).into(),
                    client.statements().into(),
                    client.since.into(),
                ]
            })
            .collect()
    }

    fn servers(&self) -> Rows {
        let (now, books) = (Instant::now(), &self.shared.books);
        let holders: HashMap<(String, i32), i32> = self
            .shared
            .clients
            .all()
            .iter()
            .flat_map(|client| {
                let id = client.id();
                self.shared.cancels.places(client.key).into_iter().map(move |own| (own, id))
            })
            .collect();
        let millis = |time: Duration| Value::from(time.as_millis() as u64);
        books
            .connections()
            .iter()
            .map(|own| {
                let holder = holders.get(&(own.shard.name().to_owned(), own.pid()));
                let idle = books.idle_for(own, now);
                vec![
                    own.number.into(),
                    own.shard.name().into(),
                    (*own.user).into(),
                    own.doing().words().into(),
                    Value::Int(own.pid().into()),
                    holder.map_or(Value::Null, |id| Value::Int((*id).into())),
                    millis(own.age(now)),
                    idle.map_or(Value::Null, millis),
                    own.statements().into(),
                    own.since.into(),
                ]
            })
            .collect()
    }

    fn stats(&self) -> Rows {
        let map = &self.shared.store.current().map;
        let shards = map.shards().iter().map(|shard| self.shared.books.shard(&shard.name));
        shards
            .map(|book| {
                let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
                let latencies = book.latencies();
                let answers: u64 = latencies.iter().sum();
                let busy = read(&book.busy_us);
                vec![
                    book.name().into(),
                    read(&book.statements).into(),
                    read(&book.transactions).into(),
                    read(&book.errors).into(),
                    read(&book.sent_bytes).into(),
                    read(&book.received_bytes).into(),
                    busy.into(),
                    busy.checked_div(answers).into(),
                    quantile(&book, 0.5).into(),
                    quantile(&book, 0.99).into(),
                ]
            })
            .collect()
    }

    fn tenants(&self) -> Rows {
        let map = &self.shared.store.current().map;
        let mut rows = Vec::new();
        for key in map.keys() {
            let Strategy::Directory(directory) = &key.strategy else { continue };
            let room = TENANTS_MAX.saturating_sub(rows.len());
            let listed = directory.entries.rows().take(room);
            let mut values: Vec<KeyValue<'static>> =
                listed.map(|(value, _)| value.into_owned()).collect();
            values.sort_unstable();
            for value in values {
                let shard = directory.place_of(&value).ok();
                rows.push(vec![
                    key.name.as_str().into(),
                    value.to_string().into(),
                    shard.map(|shard| map.shard_name(shard)).into(),
                    "directory".into(),
                ]);
            }
        }
        rows
    }

    fn lookups(&self) -> Rows {
        let map = &self.shared.store.current().map;
        map.lookups()
            .iter()
            .map(|lookup| {
                let source = lookup.source.as_ref();
                let source = source.map(|own| format!("{} ({}, {})", own.table, own.id, own.key));
                vec![
                    lookup.name.as_str().into(),
                    map.key(lookup.key).map(|key| key.name.clone()).into(),
                    lookup.columns.join(", ").into(),
                    source.into(),
                    lookup.unique.into(),
                    lookup.learn.into(),
                ]
            })
            .collect()
    }
}

fn names(map: &ShardMap, shards: &ShardSet) -> String {
    shards.iter().map(|shard| map.shard_name(shard)).collect::<Vec<_>>().join(", ")
}

fn algorithm(key: &Key) -> Option<&'static str> {
    use crate::map::directory::{Directory, Otherwise};
    let of_directory = |directory: &Directory| match &directory.otherwise {
        Otherwise::Hash(hash) => hash.algorithm(),
        Otherwise::Range(_) => "range",
        Otherwise::Refuse => "refuse",
    };
    match &key.strategy {
        Strategy::Hash(hash) => Some(hash.algorithm()),
        Strategy::Directory(directory) => Some(of_directory(directory)),
        Strategy::Database(own) => Some(match &own.homes {
            DatabaseHomes::Hash(hash) => hash.algorithm(),
            DatabaseHomes::Directory(directory) => of_directory(directory),
        }),
        Strategy::Range(_) | Strategy::Geo(_) => None,
    }
}

fn kind(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Table => "table",
        RelationKind::View => "view",
        RelationKind::MaterializedView => "materialized view",
        RelationKind::ForeignTable => "foreign table",
        RelationKind::Sequence => "sequence",
    }
}

/// The bound of the bucket below which that share of the answers took; `None` without answers, or beyond
/// the last bound.
fn quantile(book: &ShardBook, share: f64) -> Option<u64> {
    let latencies = book.latencies();
    let all: u64 = latencies.iter().sum();
    let wanted = (all as f64 * share).ceil() as u64;
    if all == 0 {
        return None;
    }
    let mut sum = 0;
    for (count, bound) in latencies.iter().zip(LATENCY_BOUNDS_US) {
        sum += count;
        if sum >= wanted {
            return Some(bound);
        }
    }
    None
}

/// Every setting that is not a secret, in the file's words.
fn settings(config: &Config) -> Rows {
    let seconds = |time: Duration| format!("{}s", time.as_secs_f64());
    let given = |known: bool| if known { "(set)" } else { "(none)" }.to_owned();
    let mode = match config.pool.mode {
        PoolMode::Transaction => "transaction",
        PoolMode::Session => "session",
        PoolMode::Statement => "statement",
    };
    let users: Vec<&str> = config.users.iter().map(|user| user.name.as_str()).collect();
    let users =
        if users.is_empty() { "(those of the shards' URLs)".to_owned() } else { users.join(", ") };
    let format = match config.log.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let (limits, pool) = (&config.limits, &config.pool);
    let rows: Vec<(&str, String)> = vec![
        ("auth.method", method(config.auth.method).to_owned()),
        ("breaker.half_open_requests", config.breaker.half_open_requests.to_string()),
        ("breaker.threshold", config.breaker.threshold.to_string()),
        ("breaker.timeout", seconds(config.breaker.timeout)),
        ("health.interval", seconds(config.health.interval)),
        ("health.retries", config.health.retries.to_string()),
        ("health.timeout", seconds(config.health.timeout)),
        ("http.address", config.http.address.clone()),
        ("http.token", given(config.http.token.as_ref().is_some_and(|own| !own.is_empty()))),
        ("limits.drain_timeout", seconds(limits.drain_timeout)),
        ("limits.idle_in_transaction_timeout", seconds(limits.idle_in_transaction_timeout)),
        ("limits.in_doubt_after", seconds(limits.in_doubt_after)),
        ("limits.merge_memory_max", limits.merge_memory_max.to_string()),
        ("limits.merge_memory_total_max", limits.merge_memory_total_max.to_string()),
        ("limits.query_timeout", seconds(limits.query_timeout)),
        ("limits.statement_bytes_max", limits.statement_bytes_max.to_string()),
        ("listen.address", config.listen.address.clone()),
        ("listen.clients_max", config.listen.clients_max.to_string()),
        ("listen.tls", given(config.listen.tls.is_some())),
        ("log.format", format.to_owned()),
        ("log.level", config.log.level.clone()),
        ("log.slow_query", seconds(config.log.slow_query)),
        ("pool.idle_timeout", seconds(pool.idle_timeout)),
        ("pool.lifetime", seconds(pool.lifetime)),
        ("pool.local_answers", pool.local_answers.to_string()),
        ("pool.mode", mode.to_owned()),
        ("pool.prepare_threshold", pool.prepare_threshold.to_string()),
        ("pool.reserve", pool.reserve.to_string()),
        ("pool.size", pool.size.to_string()),
        ("pool.wait_timeout", seconds(pool.wait_timeout)),
        ("users", users),
    ];
    rows.into_iter().map(|(name, value)| vec![name.into(), value.into()]).collect()
}

fn method(method: crate::config::AuthMethod) -> &'static str {
    use crate::config::AuthMethod;
    match method {
        AuthMethod::Scram => "scram-sha-256",
        AuthMethod::Md5 => "md5",
        AuthMethod::Cert => "cert",
        AuthMethod::Trust => "trust",
    }
}

fn help() -> Rows {
    const COMMANDS: [(&str, &str); 26] = [
        ("SHOW SHARDS", "the shards: where they are and how"),
        ("SHOW MAP", "the map that is used, and what was wrong with the last one"),
        ("SHOW MAP HISTORY", "when maps were read, who asked, what changed"),
        ("SHOW KEYS", "the sharding keys"),
        ("SHOW TABLES", "the tables, and where the map places them"),
        ("SHOW POOLS", "connections by shard and user"),
        ("SHOW CLIENTS", "who is connected, and what they do"),
        ("SHOW SERVERS", "connections to shards, one by one"),
        ("SHOW STATS", "what the shards were asked, and how long they took"),
        ("SHOW TENANTS", "keys that a directory lists"),
        ("SHOW LOOKUPS", "ids that lead to keys"),
        ("SHOW DATABASES", "the databases in use, and the shards of those that are routed by name"),
        ("SHOW FREEZES", "keys that may not be written"),
        ("SHOW CONFIG", "the proxy's settings"),
        ("SHOW VERSION", "the proxy's version"),
        ("SHOW HELP", "this list"),
        ("ROUTE 'statement'", "where a statement would go, and why; it is not run"),
        (
            "RELOAD [FORCE]",
            "read the map again: all of it is used, or nothing; by force even where rows are left behind",
        ),
        (
            "PAUSE [shard]",
            "new statements wait (pool.wait_timeout), running ones end, connections close",
        ),
        ("RESUME [shard]", "ends PAUSE and DRAIN"),
        ("DRAIN shard", "new statements are refused, running ones end, connections close"),
        (
            "FREEZE key",
            "writes of a key are refused, and its rows are read at home only (needs [control])",
        ),
        (
            "UNFREEZE key [FORCE]",
            "ends FREEZE, when no other shard has rows of the key; by force even then",
        ),
        ("KILL client", "ends a client, by its id in SHOW CLIENTS"),
        ("SHUTDOWN", "ends the proxy as SIGTERM does: what runs may finish"),
        ("SELECT 1, SET, BEGIN …", "answered, so that drivers feel at home"),
    ];
    COMMANDS.iter().map(|(command, meaning)| vec![(*command).into(), (*meaning).into()]).collect()
}
