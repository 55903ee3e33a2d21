//! Many clients over few connections, all of them rude: they abort, cancel, vanish in mid-query, let
//! transactions lie idle, make errors, and leave settings, temporary tables, locks, channels and prepared
//! statements behind. Each checks its own rows and its own state all the time; in the end nothing is left
//! over, neither in the proxy nor on the shards.
//!
//! `PGMERIDIAN_STORM="CLIENTS SECONDS"` makes it larger, `PGMERIDIAN_STORM_SEED` repeats its choices (not
//! their timing).

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod client;
mod deeds;
mod link;
mod state;

#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::{Ledger, Storm};
use support::{Proxy, Shards};
use tokio_postgres::SimpleQueryMessage;

const TABLES: &str = "
    CREATE TABLE notes (id bigint NOT NULL, tenant_id bigint NOT NULL, body text NOT NULL,
        PRIMARY KEY (tenant_id, id));
    CREATE TABLE plans (tier int PRIMARY KEY, name text);
    INSERT INTO plans VALUES (1, 'free'), (2, 'team');";

const REST: &str = "[tables]\nplans = \"reference\"\n";

/// Connections per shard.
const SIZE: usize = 20;

/// A transaction may lie idle for so long.
pub(crate) const IDLE: Duration = Duration::from_secs(3);

fn config() -> String {
    format!(
        "[auth]\nmethod = \"trust\"\n[[users]]\nname = \"bot\"\npassword = \"bot\"\nadmin = true\nhints = true\n\
         [pool]\nsize = {SIZE}\nreserve = 0\nwait_timeout = \"50s\"\n\
         [limits]\nidle_in_transaction_timeout = \"{}s\"\n",
        IDLE.as_secs()
    )
}

/// How many clients, and for how long.
fn size() -> (usize, Duration) {
    let asked = std::env::var("PGMERIDIAN_STORM").unwrap_or_else(|_| "200 5".to_owned());
    let mut words = asked.split_whitespace().map(|word| word.parse::<u64>().unwrap());
    let (clients, seconds) = (words.next().unwrap(), words.next().unwrap());
    (clients as usize, Duration::from_secs(seconds))
}

fn seed() -> u64 {
    let asked = std::env::var("PGMERIDIAN_STORM_SEED").ok().and_then(|seed| seed.parse().ok());
    asked.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_millis() as u64
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rude_clients_harm_nobody() {
    let (count, time) = size();
    let seed = seed();
    let shards = Shards::databases(3);
    shards.run_on_all(TABLES).await;
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(REST), &config()).await;
    let storm = Arc::new(Storm::new(proxy.address, count as u64, SIZE, Instant::now() + time));
    let tasks: Vec<_> = (1..=count as i64)
        .map(|id| tokio::spawn(client::live(Arc::clone(&storm), id, seed)))
        .collect();
    let watch = tokio::spawn(observe(Arc::clone(&storm), proxy.console_url("bot"), count));
    let mut faults = Vec::new();
    let mut ledgers = Vec::new();
    for (task, id) in tasks.into_iter().zip(1..) {
        match task.await {
            Ok(Ok(ledger)) => ledgers.push(ledger),
            Ok(Err(fault)) => faults.push(format!("client {id}: {fault}")),
            Err(panic) => faults.push(format!("client {id}: {panic}")),
        }
    }
    faults.extend(watch.await.unwrap());
    faults.extend(check_rest(&shards, &proxy).await);
    faults.extend(check_rows(&shards, &ledgers).await);
    storm.report(seed, count);
    assert!(
        faults.is_empty(),
        "seed {seed}: {} faults\n{}",
        faults.len(),
        faults.iter().take(12).map(String::as_str).collect::<Vec<_>>().join("\n")
    );
}

/// Rows of a console's table, by column.
async fn show(console: &tokio_postgres::Client, what: &str) -> Vec<BTreeMap<String, String>> {
    let answer = console.simple_query(&format!("SHOW {what}")).await.unwrap();
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|row| {
        let columns = row.columns().iter().enumerate();
        columns
            .map(|(at, own)| (own.name().to_owned(), row.get(at).unwrap_or("~").to_owned()))
            .collect()
    })
    .collect()
}

/// While it storms: never more connections than allowed, and each has one client at most.
async fn observe(storm: Arc<Storm>, url: String, clients: usize) -> Vec<String> {
    let mut faults = Vec::new();
    let console = support::connect(&url).await.unwrap();
    while !storm.is_over() {
        let servers = show(&console, "SERVERS").await;
        let mut by_shard: BTreeMap<&str, usize> = BTreeMap::new();
        for server in &servers {
            *by_shard.entry(&server["shard"]).or_default() += 1;
        }
        // One more for the schema's sake does not count: SHOW SERVERS has the pooled ones.
        if by_shard.values().any(|count| *count > SIZE) {
            faults.push(format!("more connections than allowed: {by_shard:?}"));
        }
        let known = show(&console, "CLIENTS").await.len();
        // Those that vanished are noticed a little later.
        if known > clients * 2 + 50 {
            faults.push(format!("{known} clients where {clients} are"));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    faults
}

/// Afterwards: no client, no work, no lock, no connection that is not the pool's.
async fn check_rest(shards: &Shards, proxy: &Proxy) -> Vec<String> {
    let console = support::connect(&proxy.console_url("bot")).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let faults = leftovers(shards, &console).await;
        if faults.is_empty() || Instant::now() > deadline {
            return faults;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn leftovers(shards: &Shards, console: &tokio_postgres::Client) -> Vec<String> {
    let mut faults = Vec::new();
    let clients = show(console, "CLIENTS").await;
    if clients.len() != 1 {
        faults.push(format!("clients are left: {:?}", clients.iter().take(4).collect::<Vec<_>>()));
    }
    for pool in show(console, "POOLS").await {
        if pool["used"] != "0" || pool["waiting"] != "0" {
            faults.push(format!("a pool is in use: {pool:?}"));
        }
    }
    let servers = show(console, "SERVERS").await;
    for server in servers.iter().filter(|own| own["state"] != "idle" || own["client"] != "~") {
        faults.push(format!("a server is in use: {server:?}"));
    }
    for name in shards.names() {
        let direct = shards.direct(name).await;
        let sql = "SELECT pid, state FROM pg_stat_activity WHERE datname = current_database()
            AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let known: HashSet<i32> = servers
            .iter()
            .filter(|own| own["shard"] == name)
            .map(|own| own["pid"].parse().unwrap())
            .collect();
        let mut found = HashSet::new();
        for row in direct.query(sql, &[]).await.unwrap() {
            let (pid, state): (i32, Option<String>) = (row.get(0), row.get(1));
            found.insert(pid);
            if state.as_deref() != Some("idle") {
                faults.push(format!("{name}: backend {pid} is {state:?}"));
            }
        }
        // The proxy itself has one to each shard, for health, and one to read the schema.
        let strange: Vec<_> = found.difference(&known).collect();
        if strange.len() > 2 || known.difference(&found).next().is_some() {
            faults.push(format!("{name}: backends {found:?}, of which the proxy knows {known:?}"));
        }
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database =
            (SELECT oid FROM pg_database WHERE datname = current_database())";
        let count: i64 = direct.query_one(locks, &[]).await.unwrap().get(0);
        if count > 0 {
            faults.push(format!("{name}: {count} advisory locks"));
        }
        let prepared = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
        let count: i64 = direct.query_one(prepared, &[]).await.unwrap().get(0);
        if count > 0 {
            faults.push(format!("{name}: {count} prepared transactions"));
        }
    }
    faults
}

/// What is on the shards is what the clients believe, on the right shard.
async fn check_rows(shards: &Shards, ledgers: &[Ledger]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut rows: BTreeMap<i64, BTreeMap<i64, String>> = BTreeMap::new();
    for (index, name) in shards.names().enumerate() {
        let direct = shards.direct(name).await;
        for row in direct.query("SELECT tenant_id, id, body FROM notes", &[]).await.unwrap() {
            let (tenant, id, body): (i64, i64, String) = (row.get(0), row.get(1), row.get(2));
            if tenant.rem_euclid(3) as usize != index {
                faults.push(format!("row {id} of {tenant} is on {name}"));
            }
            if rows.entry(tenant).or_default().insert(id, body).is_some() {
                faults.push(format!("row {id} of {tenant} is there twice"));
            }
        }
    }
    for ledger in ledgers {
        let found = rows.remove(&ledger.tenant).unwrap_or_default();
        if let Err(fault) = ledger.agrees(&found) {
            faults.push(format!("in the end: {fault}"));
        }
    }
    let known: BTreeSet<i64> = ledgers.iter().map(|ledger| ledger.tenant).collect();
    // Who ended with a fault has said so already.
    if ledgers.len() == known.len() && faults.is_empty() && ledgers.is_empty() {
        faults.push("nobody came through".to_owned());
    }
    faults
}

/// Counts of what was done, for the report.
#[derive(Default)]
pub(crate) struct Counts([AtomicU64; deeds::NAMES.len()]);

impl Counts {
    pub(crate) fn add(&self, deed: usize) {
        self.0[deed].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn words(&self) -> String {
        let each = self.0.iter().zip(deeds::NAMES);
        each.map(|(count, name)| format!("{} {name}", count.load(Ordering::Relaxed)))
            .collect::<Vec<_>>()
            .join(", ")
    }
}
