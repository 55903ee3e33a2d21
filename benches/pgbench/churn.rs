//! Whether clients that come and go leave memory behind.

use std::time::Duration;

use anyhow::{Context as _, Result};
use comfy_table::Table;
use pgmeridian::demo::cluster::{Cluster, DATABASE, ROLE};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_postgres::{Config, NoTls};

use crate::contenders;
use crate::process;

/// Clients that come each second.
const CLIENTS_PER_SECOND: u32 = 100;

/// How often memory is looked at.
const SAMPLES: u32 = 10;

/// Clients that log in, prepare and run a statement, and leave, for so long; prints the proxy's memory meanwhile.
pub(crate) fn watch(shards: &[Cluster], minutes: u32) -> Result<Vec<Value>> {
    let first = shards.first().context("a shard")?;
    let map = contenders::map_over(shards, shards.len(), contenders::BY_HASH);
    let proxy = contenders::meridian("pgmeridian", first.directory(), &map)?;
    let pid = proxy.pid().context("the proxy's process")?;
    let mut config = Config::new();
    config.host("127.0.0.1").port(proxy.port).user(ROLE).password(ROLE).dbname(DATABASE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["minutes", "clients so far", "resident MiB"]);
    let mut results = Vec::new();
    let mut clients = 0_u64;
    let whole = Duration::from_secs(60) * minutes;
    for sample in 0..=SAMPLES {
        // The first sample comes after a minute: tables and pools have their size by then.
        let time = if sample == 0 { Duration::from_secs(60) } else { whole / SAMPLES };
        clients += runtime.block_on(come_and_go(&config, time))?;
        let (resident, _) = process::memory(pid)?;
        let minutes = 1.0 + whole.as_secs_f64() / 60.0 * f64::from(sample) / f64::from(SAMPLES);
        let mib = resident / f64::from(1 << 20);
        table.add_row([format!("{minutes:.0}"), clients.to_string(), format!("{mib:.1}")]);
        results.push(json!({
            "churn_minutes": minutes, "clients": clients, "resident_bytes": resident,
        }));
    }
    crate::say(&format!("\n{CLIENTS_PER_SECOND} clients come and go each second\n{table}"));
    Ok(results)
}

/// How many came.
async fn come_and_go(config: &Config, time: Duration) -> Result<u64> {
    let ends = Instant::now() + time;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / CLIENTS_PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut visits = tokio::task::JoinSet::new();
    let mut count = 0_u64;
    while Instant::now() < ends {
        ticks.tick().await;
        let tenant = i64::try_from(count % 10_000)? + 1;
        visits.spawn(visit(config.clone(), tenant));
        count += 1;
        while let Some(visit) = visits.try_join_next() {
            visit??;
        }
    }
    while let Some(visit) = visits.join_next().await {
        visit??;
    }
    Ok(count)
}

async fn visit(config: Config, tenant: i64) -> Result<()> {
    let (client, connection) = config.connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    let sql = "SELECT balance, note FROM tenant_accounts WHERE tenant_id = $1";
    let row = client.query_one(sql, &[&tenant]).await?;
    anyhow::ensure!(row.get::<_, i64>(0) == tenant * 7, "another tenant's row");
    drop(client);
    connection.await??;
    Ok(())
}
