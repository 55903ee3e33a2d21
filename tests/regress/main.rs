//! The same SQL files through psql on two equal servers, one of them behind the proxy with a map of one
//! shard: what psql prints must be the same to the letter, but for what [`compare::normalised`] and the
//! list of exceptions name.
//!
//! Nothing is expected of the outputs but that they are equal. The files of `sql/` run always. PostgreSQL's
//! own regression tests run where `PGMERIDIAN_REGRESS_SOURCE` names their directory (`src/test/regress` of
//! its source) and `PGMERIDIAN_REGRESS_LIB` one with their C library (`.ci/regress-source` fetches and
//! builds both). `PGMERIDIAN_REGRESS_ONLY` names the files that are wanted instead of all.
//!
//! Outputs are kept below `CARGO_TARGET_TMPDIR`: `regress/direct` and `regress/proxied`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]
#![allow(clippy::print_stderr, reason = "a long test says where it is")]

mod compare;
mod schedule;
mod side;
#[path = "../support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use compare::difference;
use schedule::{Exceptions, Schedule};
use side::{Side, Sources};

/// The exceptions among PostgreSQL's files, with their reasons.
const EXCEPTIONS: &str = include_str!("exceptions.txt");

/// No file needs longer on an idle machine than a tenth of this.
const FILE_MAX: Duration = Duration::from_secs(600);

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regress")
}

#[tokio::test(flavor = "multi_thread")]
async fn own_files_read_the_same_through_the_proxy() {
    let sources = Sources { files: here(), library: None };
    let schedule = Schedule::parse(include_str!("schedule"));
    run("own", &sources, &schedule, &Exceptions::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresqls_own_files_read_the_same_through_the_proxy() {
    let Some(files) = std::env::var_os("PGMERIDIAN_REGRESS_SOURCE").map(PathBuf::from) else {
        return;
    };
    let library = std::env::var_os("PGMERIDIAN_REGRESS_LIB").map(PathBuf::from);
    let text = std::fs::read_to_string(files.join("parallel_schedule")).unwrap();
    let sources = Sources { files, library };
    run("postgresql", &sources, &Schedule::parse(&text), &Exceptions::parse(EXCEPTIONS)).await;
}

/// Runs a schedule on both sides, file by file.
async fn run(name: &str, sources: &Sources, schedule: &Schedule, exceptions: &Exceptions) {
    let outputs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("regress").join(name);
    let (direct, proxied) = tokio::join!(
        Side::direct(outputs.join("direct"), sources),
        Side::proxied(outputs.join("proxied"), sources),
    );
    let mut report = String::new();
    let (mut equal, mut excepted) = (0, 0);
    for file in schedule.files() {
        let begun = Instant::now();
        let (left, right) = tokio::join!(direct.run(file, FILE_MAX), proxied.run(file, FILE_MAX));
        let found = difference(&left, &right);
        let word = match (&found, exceptions.reason(file)) {
            (None, _) => "equal",
            (Some(_), Some(_)) => "excepted",
            (Some(_), None) => "DIFFERENT",
        };
        eprintln!("{file:28} {word:10} {:6.1}s", begun.elapsed().as_secs_f32());
        match (found, exceptions.reason(file)) {
            (None, _) => equal += 1,
            (Some(_), Some(_)) => excepted += 1,
            (Some(found), None) => {
                let _ =
                    writeln!(report, "\n=== {file}: {} lines differ\n{}", found.lines, found.first);
            }
        }
    }
    eprintln!("{name}: {equal} equal, {excepted} excepted");
    assert!(
        report.is_empty(),
        "{report}\nThe outputs are in {}\n{}",
        outputs.display(),
        proxied.proxy_log()
    );
}
