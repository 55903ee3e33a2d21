//! The words of the command line.
//!
//! Data goes to stdout, remarks to stderr. Exit codes: 0 ok, 1 checked and found a difference or a
//! fault, 2 wrong usage, configuration or map, 70 internal.

mod check;
mod control;
mod diff;
mod import;
mod route;
mod say;
mod serve;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use say::remark;

use crate::demo;
use crate::map::{Fault, ShardMap};
use crate::mapstore::control::SourceError;

/// Checked, and found a difference or a fault.
const FOUND: u8 = 1;
/// Wrong usage, configuration or map.
const WRONG: u8 = 2;
/// Internal.
const INTERNAL: u8 = 70;

/// A sharding-aware SQL proxy for PostgreSQL.
///
/// Applications connect to it as to one plain PostgreSQL; each statement goes to the shard that holds its
/// rows, or is refused by name.
#[derive(Parser)]
#[command(
    name = "pgmeridian",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  pgmeridian demo --tour\n  pgmeridian check shard-maps/hash.toml\n  pgmeridian serve --map shard-maps/hash.toml"
)]
struct Words {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy.
    #[command(
        after_help = "Example:\n  pgmeridian serve --map shard-maps/directory.toml\n  psql 'postgresql://bot:bot@127.0.0.1:6432/bots'"
    )]
    Serve(serve::Serve),
    /// Start scratch PostgreSQL clusters with sample data behind the proxy, to try it out.
    #[command(after_help = "Examples:\n  pgmeridian demo\n  pgmeridian demo --tour")]
    Demo(Demo),
    /// Validate a shard map; all faults at once.
    #[command(
        after_help = "Examples:\n  pgmeridian check shard-maps/directory.toml\n  pgmeridian check --live shard-maps/directory.toml"
    )]
    Check(check::Check),
    /// Turn General Bots' config.csv into a shard map.
    #[command(
        after_help = "Example:\n  pgmeridian import config.csv -o shard-maps/bots.toml\n  pgmeridian check shard-maps/bots.toml"
    )]
    Import(import::Import),
    /// Prepare a control database.
    #[command(
        after_help = "Example:\n  pgmeridian control install --url postgresql://ctl@10.0.0.1/control"
    )]
    Control(control::Control),
    /// Say where a statement would go, and why; offline.
    #[command(
        after_help = "Examples:\n  pgmeridian route --map shard-maps/directory.toml 'SELECT * FROM bots WHERE tenant_id = 42'\n  pgmeridian route --map shard-maps/hash.toml --format json \\\n    --param 42 'SELECT * FROM bots WHERE tenant_id = $1'"
    )]
    Route(route::Route),
    /// Say what changes between two maps; offline.
    #[command(
        after_help = "Examples:\n  pgmeridian diff shard-maps/hash.toml new.toml\n  pgmeridian diff old.toml new.toml --schema schema.sql --statements workload.sql\n\nExit code: 0 nothing changes, 1 something does."
    )]
    Diff(diff::Diff),
}

/// How an answer is printed.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(clap::Args)]
struct Demo {
    /// How many clusters to start.
    #[arg(long, default_value_t = 3, value_name = "N")]
    shards: usize,
    /// A map to serve instead of the demo's own.
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// The proxy's own settings, to try TLS, say: all but where it listens.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run the scripted tour, then end.
    #[arg(long)]
    tour: bool,
    /// Go on serving after the tour.
    #[arg(long)]
    keep: bool,
}

/// Runs the command line's command.
pub fn main() -> ExitCode {
    match Words::parse().command {
        Command::Serve(words) => serve::run(&words),
        Command::Demo(words) => demo(&words),
        Command::Check(words) => check::run(&words),
        Command::Import(words) => import::run(&words),
        Command::Control(words) => control::run(&words),
        Command::Route(words) => route::run(&words),
        Command::Diff(words) => diff::run(&words),
    }
}

fn demo(words: &Demo) -> ExitCode {
    let options = demo::Options {
        shards: words.shards,
        map: words.map.clone(),
        config: words.config.clone(),
        tour: words.tour,
        keep: words.keep,
    };
    match demo::run(&options) {
        Ok(demo::Outcome::Done) => ExitCode::SUCCESS,
        Ok(demo::Outcome::Surprised) => ExitCode::from(FOUND),
        Err(
            error @ (demo::DemoError::Usage(_)
            | demo::DemoError::Map { .. }
            | demo::DemoError::Faults(_)),
        ) => {
            remark!("error: {error}");
            ExitCode::from(WRONG)
        }
        Err(error) => {
            remark!("error: {error}");
            ExitCode::from(INTERNAL)
        }
    }
}

/// Runs something that waits on servers.
fn blocking(what: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(what),
        Err(error) => {
            remark!("error: {error}");
            ExitCode::from(INTERNAL)
        }
    }
}

/// A map from its file; what is wrong with it goes to stderr.
fn load_map(path: &Path) -> Result<ShardMap, ExitCode> {
    let text = read_text(path)?;
    let env = |name: &str| std::env::var(name).ok();
    match ShardMap::parse(&path.display().to_string(), &text, &env) {
        Ok((map, warnings)) => {
            print_faults(warnings.iter());
            Ok(map)
        }
        Err(faults) => {
            print_faults(faults.iter());
            Err(ExitCode::from(WRONG))
        }
    }
}

fn read_text(path: &Path) -> Result<String, ExitCode> {
    std::fs::read_to_string(path).map_err(|error| {
        remark!("error: {}: {error}", path.display());
        ExitCode::from(WRONG)
    })
}

/// Faults or warnings, to stderr.
fn print_faults<'f>(faults: impl Iterator<Item = &'f Fault>) {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for fault in faults {
        remark!("{}", fault.render(color));
    }
}

/// Why there is no map, and the exit code for it.
fn not_loaded(error: &SourceError) -> ExitCode {
    match error {
        SourceError::Faults(faults) => print_faults(faults.iter()),
        error => remark!("error: {error}"),
    }
    ExitCode::from(WRONG)
}
