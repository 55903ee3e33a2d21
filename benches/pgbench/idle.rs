//! What a client costs that logs in and does nothing.

use anyhow::{Context as _, Result};
use comfy_table::Table;
use pgmeridian::demo::cluster::{Cluster, DATABASE, ROLE};
use serde_json::{Value, json};
use tokio_postgres::{Client, Config, NoTls};

use crate::contenders::{self, Contender};
use crate::process::{self, Usage};

/// Clients that log in at the same time: more would queue in the listener's backlog.
const AT_ONCE: usize = 50;

/// Logs clients in, to each proxy in turn, and prints what they cost.
pub(crate) fn compare(shards: &[Cluster], clients: usize) -> Result<Vec<Value>> {
    let first = shards.first().context("a shard")?;
    let map = contenders::map_over(shards, shards.len(), contenders::BY_HASH);
    let all = [
        contenders::pooler(first, "simple")?,
        contenders::meridian("pgmeridian", first.directory(), &map)?,
    ];
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["", "memory per idle client, bytes", "CPU per login, µs"]);
    let mut results = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for proxy in &all {
        let (memory, cpu) = runtime.block_on(one(proxy, clients))?;
        table.add_row([proxy.name.clone(), format!("{memory:.0}"), format!("{cpu:.0}")]);
        results.push(json!({
            "idle_clients": clients, "contender": proxy.name,
            "bytes_per_client": memory, "cpu_us_per_login": cpu,
        }));
    }
    crate::say(&format!("\n{clients} idle clients\n{table}"));
    Ok(results)
}

async fn one(proxy: &Contender, clients: usize) -> Result<(f64, f64)> {
    let pid = proxy.pid().context("the proxy's process")?;
    let mut config = Config::new();
    config.host("127.0.0.1").port(proxy.port).user(ROLE).password(ROLE).dbname(DATABASE);
    // The first clients make it log in to its servers and grow its own tables.
    let mut all: Vec<Client> = log_in(&config, AT_ONCE).await?;
    let (idle, _) = process::memory(pid)?;
    let before = Usage::of(pid)?;
    while all.len() < clients + AT_ONCE {
        all.extend(log_in(&config, AT_ONCE.min(clients + AT_ONCE - all.len())).await?);
    }
    let after = Usage::of(pid)?;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let (grown, _) = process::memory(pid)?;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let count = clients as f64;
    Ok(((grown - idle) / count, (after.cpu_us - before.cpu_us) / count))
}

async fn log_in(config: &Config, count: usize) -> Result<Vec<Client>> {
    let mut tasks = Vec::new();
    for _ in 0..count {
        let config = config.clone();
        tasks.push(tokio::spawn(async move {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            Ok::<Client, tokio_postgres::Error>(client)
        }));
    }
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await??);
    }
    Ok(clients)
}
