//! One run of pgbench through a contender, and the median of several.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use pgmeridian::demo::cluster::{DATABASE, Programs, ROLE};
use serde_json::{Value, json};

use crate::contenders::Contender;
use crate::process::{self, Usage};

/// A share of the transactions whose latency is written down, for the percentile.
const SAMPLED: &str = "0.2";

/// What pgbench is to do.
#[derive(Clone)]
pub(crate) struct Load<'a> {
    pub script: &'a Path,
    pub mode: &'a str,
    pub clients: u32,
    pub seconds: u32,
}

/// What one run, or the median of several, showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub tps: f64,
    pub latency_ms: f64,
    pub p99_ms: f64,
    /// Of the proxy's process, per transaction: CPU time, context switches.
    pub cpu_us: Option<f64>,
    pub switches: Option<f64>,
    /// Its resident memory at the end.
    pub memory_mib: Option<f64>,
}

impl Figures {
    pub(crate) fn json(&self) -> Value {
        json!({
            "tps": self.tps, "latency_ms": self.latency_ms, "p99_ms": self.p99_ms,
            "cpu_us_per_transaction": self.cpu_us,
            "context_switches_per_transaction": self.switches,
            "resident_mib": self.memory_mib,
        })
    }

    /// The median of each figure, and half the distance between the extremes of CPU time.
    pub(crate) fn median(runs: &[Self]) -> (Self, f64) {
        let sorted = |value: &dyn Fn(&Self) -> Option<f64>| {
            let mut values: Vec<f64> = runs.iter().filter_map(value).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let of = |value: &dyn Fn(&Self) -> Option<f64>| {
            let values = sorted(value);
            values.get(values.len() / 2).copied()
        };
        let plain = |value: &dyn Fn(&Self) -> Option<f64>| of(value).unwrap_or(f64::NAN);
        let cpu = sorted(&|run| run.cpu_us);
        let spread = cpu.first().zip(cpu.last()).map_or(0.0, |(low, high)| (high - low) / 2.0);
        let median = Self {
            tps: plain(&|run| Some(run.tps)),
            latency_ms: plain(&|run| Some(run.latency_ms)),
            p99_ms: plain(&|run| Some(run.p99_ms)),
            cpu_us: of(&|run| run.cpu_us),
            switches: of(&|run| run.switches),
            memory_mib: of(&|run| run.memory_mib),
        };
        (median, spread)
    }
}

/// Runs pgbench once.
pub(crate) fn run(contender: &Contender, load: &Load<'_>) -> Result<Figures> {
    let usage = || contender.pid().map(Usage::of).transpose();
    let logs = tempfile::tempdir()?;
    let before = usage()?;
    let runs: Vec<Child> = commands(contender, load)?
        .into_iter()
        .enumerate()
        .map(|(n, mut command)| {
            command
                .args(["--log", "--sampling-rate", SAMPLED])
                .arg("--log-prefix")
                .arg(logs.path().join(format!("log{n}")))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("pgbench")
        })
        .collect::<Result<_>>()?;
    let mut reports = Vec::new();
    for run in runs {
        let output = run.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("pgbench through {}, -M {}: {said}", contender.name, load.mode);
        }
        reports.push(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let after = usage()?;
    let sum =
        |label: &str| -> Result<f64> { reports.iter().map(|report| figure(report, label)).sum() };
    let transactions = sum("number of transactions actually processed: ")?;
    let used = before.zip(after).map(|(before, after)| Usage {
        cpu_us: (after.cpu_us - before.cpu_us) / transactions,
        switches: (after.switches - before.switches) / transactions,
    });
    let memory = contender.pid().map(process::memory).transpose()?;
    Ok(Figures {
        tps: sum("tps = ")?,
        latency_ms: sum("latency average = ")? / reports.len() as f64,
        p99_ms: percentile_99(logs.path())?,
        cpu_us: used.map(|used| used.cpu_us),
        switches: used.map(|used| used.switches),
        memory_mib: memory.map(|(resident, _)| resident / f64::from(1 << 20)),
    })
}

/// One pgbench for each database, the clients divided among them.
fn commands(contender: &Contender, load: &Load<'_>) -> Result<Vec<Command>> {
    let parts = contender.databases.len() as u32;
    let of = |(n, database): (u32, &String)| {
        let clients = (load.clients + n) / parts;
        command(contender, load, clients.max(1), database)
    };
    (0..parts).zip(&contender.databases).map(of).collect()
}

fn command(
    contender: &Contender,
    load: &Load<'_>,
    clients: u32,
    database: &str,
) -> Result<Command> {
    let mut command = Command::new(pgbench()?);
    command
        .args(["--no-vacuum", "-M", contender.mode(load.mode), "-c", &clients.to_string()])
        .args(["-j", &clients.min(2).to_string(), "-T", &load.seconds.to_string()])
        .args(["-h", "127.0.0.1", "-p", &contender.port.to_string(), "-U", ROLE])
        .arg("-f")
        .arg(load.script)
        .arg(database)
        .env("PGPASSWORD", ROLE);
    Ok(command)
}

/// System calls of the proxy per transaction, counted by strace in a run of their own (it slows everything
/// down, but counts right); `None` where there is no strace.
pub(crate) fn system_calls(contender: &Contender, load: &Load<'_>) -> Result<Option<f64>> {
    let Some(pid) = contender.pid().filter(|_| contender.databases.len() == 1) else {
        return Ok(None);
    };
    let counts = tempfile::NamedTempFile::new()?;
    let strace = Command::new("strace")
        .args(["-c", "-f", "-o"])
        .arg(counts.path())
        .args(["-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut strace) = strace else { return Ok(None) };
    let output = command(contender, load, load.clients, DATABASE)?.output().context("pgbench")?;
    // On the signal it lets go of the process and writes its table.
    Command::new("kill").args(["-INT", &strace.id().to_string()]).status()?;
    strace.wait()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let transactions = figure(&text, "number of transactions actually processed: ")?;
    let table = fs::read_to_string(counts.path())?;
    let total = table.lines().rfind(|line| line.trim_end().ends_with("total"));
    let calls = total.and_then(|line| line.split_whitespace().nth(3)?.parse::<f64>().ok());
    Ok(calls.map(|calls| calls / transactions))
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

/// The latency that 99 % of the sampled transactions stayed below, in milliseconds: the third field of
/// pgbench's log lines is their time in microseconds.
fn percentile_99(logs: &Path) -> Result<f64> {
    let mut times: Vec<f64> = Vec::new();
    for file in fs::read_dir(logs)? {
        let text = fs::read_to_string(file?.path())?;
        let field = |line: &str| line.split_whitespace().nth(2)?.parse::<f64>().ok();
        times.extend(text.lines().filter_map(field));
    }
    times.sort_by(f64::total_cmp);
    let at = times.len().saturating_sub(1) * 99 / 100;
    Ok(times.get(at).map_or(f64::NAN, |time| time / 1000.0))
}
