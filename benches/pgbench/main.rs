//! pgbench through pgmeridian, beside PostgreSQL itself and PgBouncer.
//!
//! Three scratch shards hold the same table with every tenant's row; pgmeridian's map spreads the tenants
//! over them by hash, PgBouncer and the direct runs use the first shard. So all contenders run the same
//! script with the same keys on the same machine. Runs are interleaved (A B C, A B C, …) and medians taken,
//! because a machine's speed drifts. What is compared: transactions per second, mean latency, and the
//! proxy's own CPU time per transaction (user and system, all threads, from /proc/PID/stat).
//!
//! `cargo bench --bench pgbench -- --help` lists the options; `make bench` runs it with the defaults.

#![expect(clippy::print_stdout, reason = "a report for people")]

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use comfy_table::Table;
use pgmeridian::demo::cluster::{Cluster, DATABASE, Options, Programs, ROLE, free_port};
use serde_json::{Value, json};

/// Clock ticks per second in /proc/PID/stat (`USER_HZ`, 100 on every Linux port that Rust runs on).
const TICKS_PER_SECOND: f64 = 100.0;
/// Connections to a shard for either proxy, PgBouncer's and pgmeridian's usual figure.
const POOL_SIZE: u32 = 25;
/// A run before the rounds, not counted.
const WARM_UP_SECONDS: u32 = 2;
/// From this version on PgBouncer keeps prepared statements apart in transaction mode.
const POOLER_WITH_PREPARED: (u32, u32) = (1, 21);

const TABLE: &str = "
    CREATE TABLE tenant_accounts (tenant_id bigint PRIMARY KEY, balance bigint, note text);
    INSERT INTO tenant_accounts
        SELECT n, n * 7, 'account of tenant ' || n FROM generate_series(1, 10000) n;
    ALTER TABLE tenant_accounts OWNER TO bot;
    VACUUM ANALYZE tenant_accounts;";

const SCRIPT: &str = "\\set tenant random(1, 10000)\n\
    SELECT balance, note FROM tenant_accounts WHERE tenant_id = :tenant;\n";

/// pgbench through pgmeridian, beside PostgreSQL itself and `PgBouncer`.
#[derive(Parser)]
struct Arguments {
    /// Concurrent clients, one run each.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    clients: Vec<u32>,
    /// pgbench's query modes.
    #[arg(long, value_delimiter = ',', default_value = "simple,extended,prepared")]
    modes: Vec<String>,
    /// Whom to run.
    #[arg(long, value_delimiter = ',', default_value = "direct,pgbouncer,pgmeridian")]
    contenders: Vec<String>,
    /// Rounds of every contender; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of one run.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Where the figures go, as JSON.
    #[arg(long, default_value = "target/pgbench.json")]
    output: PathBuf,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One way to the data.
struct Contender {
    name: &'static str,
    port: u16,
    /// The proxy's process; none for PostgreSQL itself.
    process: Option<Child>,
}

impl Drop for Contender {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// What one run, or the median of several, showed.
#[derive(Clone, Copy)]
struct Figures {
    tps: f64,
    latency_ms: f64,
    /// Microseconds of the proxy's CPU time per transaction.
    cpu_us: Option<f64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let names = ["usa-east", "usa-west", "deu"];
    let shards = Cluster::start_all(&names.map(Options::named))?;
    for shard in &shards {
        fill(shard)?;
    }
    let first = shards.first().context("a shard")?;
    let script = first.directory().join("script.sql");
    fs::write(&script, SCRIPT)?;
    let map = first.directory().join("map.toml");
    fs::write(&map, map_over(&shards))?;

    let mut results = Vec::new();
    for mode in &arguments.modes {
        let start = |name: &String| match name.as_str() {
            "direct" => Ok(direct(first)),
            "pgbouncer" => pooler(first, mode),
            "pgmeridian" => meridian(&map),
            other => bail!("no contender is called {other}"),
        };
        let contenders: Vec<Contender> =
            arguments.contenders.iter().map(start).collect::<Result<_>>()?;
        for &clients in &arguments.clients {
            results.extend(compare(&arguments, &contenders, &script, mode, clients)?);
        }
    }
    fs::write(&arguments.output, serde_json::to_string_pretty(&results)?)?;
    println!("figures written to {}", arguments.output.display());
    Ok(())
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

fn map_over(shards: &[Cluster]) -> String {
    let mut map = format!("version = 1\ndatabase = \"{DATABASE}\"\ndefault_shard = \"usa-east\"\n");
    for (index, shard) in shards.iter().enumerate() {
        let (id, name, url) = (index + 1, shard.name(), shard.url());
        let _ = write!(map, "[[shards]]\nid = {id}\nname = \"{name}\"\nurl = \"{url}\"\n");
    }
    map + "[keys.tenant]\ncolumns = [\"tenant_id\"]\ntype = \"bigint\"\nstrategy = \"hash\"\n\
           [keys.tenant.hash]\nalgorithm = \"modulo\"\nshards = [\"usa-east\", \"usa-west\", \"deu\"]\n"
}

fn direct(shard: &Cluster) -> Contender {
    Contender { name: "direct", port: shard.port(), process: None }
}

fn meridian(map: &Path) -> Result<Contender> {
    let port = free_port()?;
    let log = map.with_extension("log");
    let process = Command::new(env!("CARGO_BIN_EXE_pgmeridian"))
        .arg("serve")
        .arg("--map")
        .arg(map)
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .current_dir(map.parent().context("the map's directory")?)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log)?)
        .spawn()
        .context("pgmeridian serve")?;
    await_port(Contender { name: "pgmeridian", port, process: Some(process) })
        .with_context(|| fs::read_to_string(log).unwrap_or_default())
}

/// PgBouncer in transaction mode; an old one in session mode for prepared statements, which it can't keep
/// apart otherwise.
fn pooler(shard: &Cluster, mode: &str) -> Result<Contender> {
    let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"]
        .iter()
        .find(|path| Path::new(path).is_file())
        .context("PgBouncer is not installed: apt-get install pgbouncer")?;
    let by_session = mode == "prepared" && pooler_version(program)? < POOLER_WITH_PREPARED;
    let port = free_port()?;
    let directory = shard.directory();
    let users = directory.join("userlist.txt");
    fs::write(&users, format!("\"{ROLE}\" \"{ROLE}\"\n"))?;
    let config = directory.join(format!("pgbouncer.{port}.ini"));
    let (pool_mode, size) = if by_session { ("session", 200) } else { ("transaction", POOL_SIZE) };
    let prepared =
        if mode == "prepared" && !by_session { "max_prepared_statements = 100\n" } else { "" };
    fs::write(
        &config,
        format!(
            "[databases]\n{DATABASE} = host=127.0.0.1 port={} dbname={DATABASE}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {}\npool_mode = {pool_mode}\n\
             default_pool_size = {size}\nmax_client_conn = 1000\nlog_connections = 0\n\
             log_disconnections = 0\nignore_startup_parameters = extra_float_digits\n{prepared}",
            shard.port(),
            users.display(),
        ),
    )?;
    let process = shard
        .command(program)
        .arg("-q")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("pgbouncer")?;
    await_port(Contender {
        name: if by_session { "pgbouncer (session)" } else { "pgbouncer" },
        port,
        process: Some(process),
    })
}

fn pooler_version(program: &str) -> Result<(u32, u32)> {
    let output = Command::new(program).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let parse = || {
        let mut numbers = text.lines().next()?.split_whitespace().nth(1)?.split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    parse().with_context(|| format!("PgBouncer's version in {text:?}"))
}

fn await_port(mut contender: Contender) -> Result<Contender> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", contender.port)).is_err() {
        let ended = match &mut contender.process {
            Some(process) => process.try_wait()?.is_some(),
            None => false,
        };
        ensure!(!ended && Instant::now() < deadline, "{} did not start", contender.name);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(contender)
}

/// All contenders in one mode with one number of clients, interleaved.
fn compare(
    arguments: &Arguments,
    contenders: &[Contender],
    script: &Path,
    mode: &str,
    clients: u32,
) -> Result<Vec<Value>> {
    // A proxy logs in to the shards with its first clients; that belongs to no round.
    for contender in contenders {
        measure(contender, script, mode, clients, WARM_UP_SECONDS)?;
    }
    let mut runs: Vec<Vec<Figures>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..arguments.rounds {
        for (contender, runs) in contenders.iter().zip(&mut runs) {
            runs.push(measure(contender, script, mode, clients, arguments.seconds)?);
        }
    }
    let medians: Vec<Figures> = runs.iter().map(|runs| median_figures(runs)).collect();
    let reference = contenders
        .iter()
        .zip(&medians)
        .find(|(contender, _)| contender.name.starts_with("pgbouncer"))
        .map(|(_, figures)| *figures);
    println!("\n-M {mode}, {clients} clients (in brackets: ratios to PgBouncer)");
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["", "tps", "latency ms", "proxy CPU µs/transaction"]);
    let mut results = Vec::new();
    for (contender, own) in contenders.iter().zip(&medians) {
        let ratio = |of: fn(&Figures) -> Option<f64>| {
            reference.as_ref().and_then(of).zip(of(own)).map(|(reference, own)| own / reference)
        };
        let ratios = [ratio(|f| Some(f.tps)), ratio(|f| Some(f.latency_ms)), ratio(|f| f.cpu_us)];
        let cells = [
            format!("{:.0}", own.tps),
            format!("{:.3}", own.latency_ms),
            own.cpu_us.map(|cpu| format!("{cpu:.1}")).unwrap_or_default(),
        ];
        let cells = cells.into_iter().zip(ratios).map(|(cell, ratio)| {
            ratio.map_or(cell.clone(), |ratio| format!("{cell} ({ratio:.2})"))
        });
        table.add_row(std::iter::once(contender.name.to_owned()).chain(cells));
        let [tps_ratio, latency_ratio, cpu_ratio] = ratios;
        results.push(json!({
            "contender": contender.name, "mode": mode, "clients": clients,
            "rounds": arguments.rounds, "seconds": arguments.seconds,
            "tps": own.tps, "latency_ms": own.latency_ms, "cpu_us_per_transaction": own.cpu_us,
            "tps_to_pgbouncer": tps_ratio,
            "latency_to_pgbouncer": latency_ratio,
            "cpu_to_pgbouncer": cpu_ratio,
        }));
    }
    println!("{table}");
    Ok(results)
}

fn measure(
    contender: &Contender,
    script: &Path,
    mode: &str,
    clients: u32,
    seconds: u32,
) -> Result<Figures> {
    let before = cpu_seconds(contender)?;
    let output = Command::new(pgbench()?)
        .args(["--no-vacuum", "-M", mode, "-c", &clients.to_string()])
        .args(["-j", &clients.min(2).to_string(), "-T", &seconds.to_string()])
        .args(["-h", "127.0.0.1", "-p", &contender.port.to_string(), "-U", ROLE])
        .arg("-f")
        .arg(script)
        .arg(DATABASE)
        .env("PGPASSWORD", ROLE)
        .output()
        .context("pgbench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("pgbench through {}, -M {mode}, {clients} clients: {said}", contender.name);
    }
    let transactions = figure(&text, "number of transactions actually processed: ")?;
    let cpu_us = cpu_seconds(contender)?
        .zip(before)
        .map(|(after, before)| (after - before) * 1e6 / transactions);
    Ok(Figures {
        tps: figure(&text, "tps = ")?,
        latency_ms: figure(&text, "latency average = ")?,
        cpu_us,
    })
}

fn pgbench() -> Result<PathBuf> {
    let packaged = Programs::find()?.path("pgbench");
    Ok(if packaged.is_file() { packaged } else { PathBuf::from("pgbench") })
}

/// The number after a label in pgbench's report.
fn figure(report: &str, label: &str) -> Result<f64> {
    let (_, rest) = report.split_once(label).with_context(|| format!("{label} in {report}"))?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    Ok(rest.get(..end).unwrap_or_default().parse()?)
}

/// User and system time of a proxy's process so far: fields 14 and 15 of /proc/PID/stat (proc(5)), counted
/// after the program's name, which may contain anything but ends with the last parenthesis.
fn cpu_seconds(contender: &Contender) -> Result<Option<f64>> {
    let Some(process) = &contender.process else { return Ok(None) };
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    Ok(Some(ticks / TICKS_PER_SECOND))
}

fn median_figures(runs: &[Figures]) -> Figures {
    let of = |value: &dyn Fn(&Figures) -> Option<f64>| {
        let mut values: Vec<f64> = runs.iter().filter_map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    Figures {
        tps: of(&|run| Some(run.tps)).unwrap_or(f64::NAN),
        latency_ms: of(&|run| Some(run.latency_ms)).unwrap_or(f64::NAN),
        cpu_us: of(&|run| run.cpu_us),
    }
}
