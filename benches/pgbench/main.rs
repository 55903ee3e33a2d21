//! pgbench through pgmeridian, beside PostgreSQL itself and `PgBouncer`.
//!
//! Three scratch shards hold the same table with every tenant's row; pgmeridian's map spreads the tenants
//! over them, `PgBouncer` and the direct runs use the first shard. So all contenders run the same script
//! with the same keys on the same machine. Runs are interleaved (A B C, A B C, …) and medians taken,
//! because a machine's speed drifts. What is compared: transactions per second, latency (mean and 99th
//! percentile), and of the proxy's process CPU time (user and system, all threads), context switches and
//! memory.
//!
//! | suite | what it shows |
//! |---|---|
//! | `routed` | one shard chosen by the tenant's key, in pgbench's three modes |
//! | `scale` | the same with more shards in the map, more tenants in the directory, more statements' shapes |
//! | `scatter` | reads over all shards beside direct connections in parallel |
//! | `idle` | memory of idle clients, CPU of a login |
//! | `churn` | memory while a hundred clients come and go each second; only when asked for, it takes an hour |
//!
//! `cargo bench --bench pgbench -- --help` lists the options; `make bench` runs all suites.

#![expect(clippy::print_stdout, reason = "a report for people")]

mod churn;
mod contenders;
mod idle;
mod load;
mod process;
mod scatter;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use comfy_table::Table;
use pgmeridian::demo::cluster::{Cluster, DATABASE, Options, ROLE};
use serde_json::{Value, json};

use self::contenders::{BY_HASH, Contender, Peers, map_over};
use self::load::{Figures, Load};

/// A run before the rounds, not counted.
const WARM_UP_SECONDS: u32 = 2;

const TABLE: &str = "
    CREATE TABLE tenant_accounts (tenant_id bigint PRIMARY KEY, balance bigint, note text);
    INSERT INTO tenant_accounts
        SELECT n, n * 7, 'account of tenant ' || n FROM generate_series(1, 10000) n;
    ALTER TABLE tenant_accounts OWNER TO bot;
    VACUUM ANALYZE tenant_accounts;";

const SCRIPT: &str = "\\set tenant random(1, 10000)\n\
    SELECT balance, note FROM tenant_accounts WHERE tenant_id = :tenant;\n";

/// The same for maps of 3, 30 and 1,000 shards: the tenants are on the first three of them, whatever the
/// number, for a connection to each of a thousand would be more than the servers take.
const FIRST_THREE: &str = "\\set tenant 3000 * random(1, 3) + random(0, 2)\n\
    SELECT balance, note FROM tenant_accounts WHERE tenant_id = :tenant;\n";

/// pgbench through pgmeridian, beside PostgreSQL itself and `PgBouncer`.
#[derive(Parser)]
struct Arguments {
    /// What to run.
    #[arg(long, value_delimiter = ',', default_value = "routed,scale,scatter,idle")]
    suites: Vec<String>,
    /// Concurrent clients, one run each.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    clients: Vec<u32>,
    /// pgbench's query modes.
    #[arg(long, value_delimiter = ',', default_value = "simple,extended,prepared")]
    modes: Vec<String>,
    /// Whom to run; `unsharded` is pgmeridian before one shard, `poolers` PgBouncer before all of them.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "direct,pgbouncer,poolers,pgmeridian,unsharded"
    )]
    contenders: Vec<String>,
    /// Other proxies to run beside them: a TOML file with [[peer]] name, command, port, files.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Rounds of every contender; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of one run.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Count system calls too, in a run of their own under strace.
    #[arg(long)]
    system_calls: bool,
    /// Rows on each shard for `scatter`.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Clients for `idle`.
    #[arg(long, default_value_t = 5_000)]
    idle_clients: usize,
    /// Minutes of `churn`.
    #[arg(long, default_value_t = 60)]
    churn_minutes: u32,
    /// Most entries of a directory for `scale`.
    #[arg(long, default_value_t = 100_000)]
    directory: u32,
    /// Where the figures go, as JSON.
    #[arg(long, default_value = "target/pgbench.json")]
    output: PathBuf,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let names = ["usa-east", "usa-west", "deu"];
    let shards = Cluster::start_all(&names.map(|name| Options {
        // Where the map has more shards than there are servers, each goes by another address of the loopback
        // interface; nobody else is let in.
        settings: vec![
            ("listen_addresses".to_owned(), "0.0.0.0".to_owned()),
            // A thousand shards are looked after by a connection each.
            ("max_connections".to_owned(), "1000".to_owned()),
        ],
        hba: vec![format!("host all {ROLE} 127.0.0.0/8 scram-sha-256")],
        ..Options::named(name)
    }))?;
    for shard in &shards {
        fill(shard)?;
    }
    let mut results = Vec::new();
    for suite in &arguments.suites {
        results.extend(match suite.as_str() {
            "routed" => routed(&arguments, &shards)?,
            "scale" => scale(&arguments, &shards)?,
            "scatter" => scatter::compare(&shards, arguments.rows, arguments.rounds)?,
            "idle" => idle::compare(&shards, arguments.idle_clients)?,
            "churn" => churn::watch(&shards, arguments.churn_minutes)?,
            other => bail!("no suite is called {other}"),
        });
        fs::write(&arguments.output, serde_json::to_string_pretty(&results)?)?;
    }
    println!("figures written to {}", arguments.output.display());
    Ok(())
}

/// Prints a part of the report.
fn say(text: &str) {
    println!("{text}");
}

fn fill(shard: &Cluster) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = shard.connect(DATABASE).await?;
        for statement in TABLE.split_inclusive(';') {
            client.batch_execute(statement).await?;
        }
        Ok(())
    })
}

fn peers(arguments: &Arguments) -> Result<Peers> {
    match &arguments.peers {
        Some(file) => Ok(toml::from_str(&fs::read_to_string(file)?)?),
        None => Ok(Peers::default()),
    }
}

/// One shard chosen by the tenant's key.
fn routed(arguments: &Arguments, shards: &[Cluster]) -> Result<Vec<Value>> {
    let first = shards.first().context("a shard")?;
    let directory = first.directory();
    let script = directory.join("script.sql");
    fs::write(&script, SCRIPT)?;
    let peers = peers(arguments)?;
    let mut results = Vec::new();
    for mode in &arguments.modes {
        let start = |name: &String| match name.as_str() {
            "direct" => Ok(contenders::direct(first)),
            "pgbouncer" => contenders::pooler(first, mode),
            "poolers" => contenders::pooler_before(shards, mode),
            "pgmeridian" => {
                contenders::meridian("pgmeridian", directory, &map_over(shards, 3, BY_HASH))
            }
            "unsharded" => {
                contenders::meridian("unsharded", directory, &map_over(shards, 1, BY_HASH))
            }
            other => bail!("no contender is called {other}"),
        };
        let mut all: Vec<Contender> =
            arguments.contenders.iter().map(start).collect::<Result<_>>()?;
        for peer in &peers.peer {
            all.push(contenders::peer(peer, shards, directory)?);
        }
        for &clients in &arguments.clients {
            let load = Load { script: &script, mode, clients, seconds: arguments.seconds };
            results.extend(compare(arguments, &all, "routed", &load)?);
        }
    }
    Ok(results)
}

/// Cost that should not grow: shards in the map, tenants in the directory, shapes of statements.
fn scale(arguments: &Arguments, shards: &[Cluster]) -> Result<Vec<Value>> {
    let first = shards.first().context("a shard")?;
    let directory = first.directory();
    let script = directory.join("script.sql");
    fs::write(&script, FIRST_THREE)?;
    let meridian = |name: &str, map: &str| contenders::meridian(name, directory, map);
    let mut all = vec![contenders::pooler(first, "simple")?];
    for names in [3, 30, 1000] {
        all.push(meridian(&format!("{names} shards"), &map_over(shards, names, BY_HASH))?);
    }
    let load = Load { script: &script, mode: "simple", clients: 16, seconds: arguments.seconds };
    let mut results = compare(arguments, &all, "shards", &load)?;
    // Each of them keeps its connections: all at once would be more than the servers take.
    all.truncate(1);
    let mut entries = 1_000;
    while entries <= arguments.directory {
        let map = map_over(shards, 3, &listed(entries));
        all.push(meridian(&format!("directory of {entries}"), &map)?);
        entries *= 10;
    }
    results.extend(compare(arguments, &all, "directory", &load)?);
    drop(all);

    let by_hash = map_over(shards, 3, BY_HASH);
    let all = [contenders::pooler(first, "simple")?, meridian("pgmeridian", &by_hash)?];
    for shapes in [1, 100, 10_000] {
        fs::write(
            &script,
            format!(
                "\\set tenant random(1, 10000)\n\\set shape random(1, {shapes})\n\
                 SELECT balance AS b:shape, note FROM tenant_accounts WHERE tenant_id = :tenant;\n"
            ),
        )?;
        results.extend(compare(arguments, &all, &format!("{shapes} shapes"), &load)?);
    }
    Ok(results)
}

/// A directory that lists that many tenants, the others by hash.
fn listed(entries: u32) -> String {
    let names = ["usa-east", "usa-west", "deu"];
    let entry = |n: u32| format!("{n} = \"{}\"", names[n as usize % names.len()]);
    let listed: Vec<String> = (1..=entries).map(entry).collect();
    format!(
        "strategy = \"directory\"\n[keys.tenant.directory]\notherwise = \"hash\"\n\
         entries = {{ {} }}\n[keys.tenant.hash]\nalgorithm = \"modulo\"\nshards = [{{shards}}]\n",
        listed.join(", ")
    )
}

/// All contenders under one load, interleaved.
fn compare(
    arguments: &Arguments,
    contenders: &[Contender],
    suite: &str,
    load: &Load<'_>,
) -> Result<Vec<Value>> {
    // A proxy logs in to the shards with its first clients; that belongs to no round.
    for contender in contenders {
        load::run(contender, &Load { seconds: WARM_UP_SECONDS, ..load.clone() })?;
    }
    let mut runs: Vec<Vec<Figures>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..arguments.rounds {
        for (contender, runs) in contenders.iter().zip(&mut runs) {
            runs.push(load::run(contender, load)?);
        }
    }
    let mut calls = vec![None; contenders.len()];
    if arguments.system_calls {
        for (contender, calls) in contenders.iter().zip(&mut calls) {
            *calls = load::system_calls(contender, &Load { seconds: 2, ..load.clone() })?;
        }
    }
    let medians: Vec<(Figures, f64)> = runs.iter().map(|runs| Figures::median(runs)).collect();
    Ok(report(contenders, suite, load, &medians, &calls, arguments))
}

/// Prints a table and returns its figures, each beside PgBouncer's.
fn report(
    contenders: &[Contender],
    suite: &str,
    load: &Load<'_>,
    medians: &[(Figures, f64)],
    calls: &[Option<f64>],
    arguments: &Arguments,
) -> Vec<Value> {
    let named = contenders.iter().zip(medians);
    let reference = named.clone().find(|(contender, _)| contender.name.starts_with("pgbouncer"));
    let reference = reference.map(|(_, (figures, _))| *figures);
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header([
        "",
        "tps",
        "latency ms",
        "99 % ms",
        "CPU µs",
        "switches",
        "calls",
        "resident MiB",
    ]);
    let mut results = Vec::new();
    for ((contender, (own, spread)), calls) in named.zip(calls) {
        let ratio = |of: fn(&Figures) -> Option<f64>| {
            reference.as_ref().and_then(of).zip(of(own)).map(|(reference, own)| own / reference)
        };
        let [tps, latency, cpu] =
            [ratio(|f| Some(f.tps)), ratio(|f| Some(f.latency_ms)), ratio(|f| f.cpu_us)];
        let cell = |value: Option<f64>, digits: usize, ratio: Option<f64>| match (value, ratio) {
            (Some(value), Some(ratio)) => format!("{value:.digits$} ({ratio:.2})"),
            (Some(value), None) => format!("{value:.digits$}"),
            (None, _) => String::new(),
        };
        table.add_row([
            contender.name.clone(),
            cell(Some(own.tps), 0, tps),
            cell(Some(own.latency_ms), 3, latency),
            cell(Some(own.p99_ms), 2, None),
            own.cpu_us
                .map_or(String::new(), |_| cell(own.cpu_us, 1, cpu) + &format!(" ±{spread:.1}")),
            cell(own.switches, 2, None),
            cell(*calls, 2, None),
            cell(own.memory_mib, 1, None),
        ]);
        results.push(json!({
            "suite": suite, "contender": contender.name, "mode": load.mode, "clients": load.clients,
            "rounds": arguments.rounds, "seconds": load.seconds, "figures": own.json(),
            "cpu_spread_us": spread, "system_calls_per_transaction": calls,
            "tps_to_pgbouncer": tps, "latency_to_pgbouncer": latency, "cpu_to_pgbouncer": cpu,
        }));
    }
    println!(
        "\n{suite}, -M {}, {} clients (per transaction; in brackets: ratios to PgBouncer)\n{table}",
        load.mode, load.clients
    );
    results
}
