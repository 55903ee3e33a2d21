//! Soundness: no planned statement misses, doubles or misplaces a row. The oracle is PostgreSQL itself:
//! generated statements run on one database that holds all rows and, as planned, on databases that hold a
//! shard's rows each; the answers and the rows after writes must be the same.
//!
//! `PGMERIDIAN_SOUNDNESS_SECONDS` is the budget (default 40), `PGMERIDIAN_SOUNDNESS_SEED` a seed to begin
//! with (printed with each fault), `PGMERIDIAN_SOUNDNESS_FAULTS` how many faults are collected before the
//! test gives up (default 3), `PGMERIDIAN_SOUNDNESS_REPORT` prints what was refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]
#![allow(clippy::print_stdout, reason = "a test says what it did")]
#![allow(
    clippy::format_push_string,
    clippy::option_option,
    clippy::needless_range_loop,
    reason = "statements are texts, and their speed is PostgreSQL's"
)]

mod choices;
mod generator;
mod oracle;
#[path = "../support/mod.rs"]
mod support;
mod words;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use choices::Choices;
use generator::{Generated, generate};
use oracle::{Mode, Shared, Verdict, judge, through};
use pgmeridian::demo::cluster::{Cluster, Options};
use support::{Proxy, Shards};
use world::{INTS, SHARDS, World};

/// Faults through the proxy, after which it is given up.
const FAULTS_MAX: usize = 5;
/// Statements on one map and one set of rows.
const STATEMENTS_PER_WORLD: u64 = 300;
/// Tries to make a failing statement simpler.
const SHRINKS_MAX: usize = 1200;

/// What came out.
#[derive(Default)]
pub(crate) struct Tally {
    statements: usize,
    kinds: BTreeMap<&'static str, usize>,
    refused: BTreeMap<String, (usize, String)>,
    invalid: BTreeMap<String, (usize, String)>,
    skipped: usize,
    faults: Vec<String>,
    /// What the faults are like, so that each is told once.
    seen: BTreeSet<String>,
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn first_seed() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_millis() as u64);
    variable("PGMERIDIAN_SOUNDNESS_SEED", now % 1_000_000_000)
}

#[test]
fn every_row_that_matters_is_on_the_route() {
    let budget = Duration::from_secs(variable("PGMERIDIAN_SOUNDNESS_SECONDS", 40));
    let seed = first_seed();
    let faults_max = variable("PGMERIDIAN_SOUNDNESS_FAULTS", 3) as usize;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(16 << 20)
        .enable_all()
        .build()
        .unwrap();
    let tally: Shared = Arc::new(Mutex::new(Tally::default()));
    let deadline = Instant::now() + budget;
    runtime.block_on(async {
        let options = Options {
            settings: vec![("max_connections".to_owned(), "50".to_owned())],
            ..Options::named("soundness")
        };
        let cluster = tokio::task::spawn_blocking(move || Cluster::start(&options)).await;
        let cluster = cluster.unwrap().unwrap_or_else(|error| panic!("{error}"));
        let mut workers = Vec::new();
        for worker in 0..2 {
            let world = World::create(&cluster, worker).await;
            let tally = Arc::clone(&tally);
            let seed = seed + (worker as u64) * 500_000_000;
            workers.push(tokio::spawn(work(world, seed, deadline, tally, faults_max)));
        }
        for worker in workers {
            worker.await.unwrap();
        }
    });
    let tally = tally.lock().unwrap();
    report(&tally, seed);
    let limit = tally.faults.len().min(faults_max);
    assert!(tally.faults.is_empty(), "{}", tally.faults[..limit].join("\n\n"));
    assert!(tally.kinds.values().sum::<usize>() > 50, "too few statements were compared");
}

/// What a statement is held against.
struct Oracle<'w> {
    world: &'w World,
    mode: Mode,
    /// Through the proxy itself, instead of as planned.
    proxy: Option<&'w tokio_postgres::Client>,
}

impl Oracle<'_> {
    async fn judge(&self, statement: &Generated) -> Verdict {
        match self.proxy {
            Some(proxy) => through(self.world, proxy, statement, self.mode).await,
            None => judge(self.world, statement, self.mode).await,
        }
    }
}

/// The same through the whole proxy, with its caches, in both protocols.
#[tokio::test]
async fn the_proxy_answers_as_one_server_would() {
    let budget = Duration::from_secs(variable("PGMERIDIAN_SOUNDNESS_PROXY_SECONDS", 10));
    let mut deadline = None;
    let mut seed = first_seed();
    let shards = Shards::databases(1);
    let tally: Shared = Arc::new(Mutex::new(Tally::default()));
    let mut world = World::create(shards.first(), 0).await;
    'worlds: loop {
        world.renew(seed).await;
        let proxy = Proxy::start(&shards, &world.map_text).await;
        let mut client = world::connect(&proxy.url()).await;
        client.batch_execute(&world.settings()).await.unwrap();
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + budget);
        for number in 0..STATEMENTS_PER_WORLD * 4 {
            if Instant::now() > deadline || tally.lock().unwrap().faults.len() >= FAULTS_MAX {
                break 'worlds;
            }
            if client.is_closed() {
                // A failure on several shards may cost a session that has a state on one of them.
                client = world::connect(&proxy.url()).await;
                client.batch_execute(&world.settings()).await.unwrap();
            }
            let number_of = seed.wrapping_mul(7919).wrapping_add(number);
            let mode = mode(&mut Choices::random(!number_of));
            let mut choices = Choices::random(number_of);
            let statement = generate(&mut choices);
            let oracle = Oracle { world: &world, mode, proxy: Some(&client) };
            if std::env::var_os("PGMERIDIAN_SOUNDNESS_TELL").is_some() {
                println!("{number} {mode:?} {}", statement.sql);
            }
            let verdict = oracle.judge(&statement).await;
            if let Verdict::Fail(kind, _) = &verdict {
                let (kind, first) = (*kind, verdict);
                let text = shrink(&oracle, &choices.made, kind, first).await;
                if tally.lock().unwrap().seen.insert(essence(&text)) {
                    let fault = format!("seed {seed}, {kind}: {text}\n{}", world.map_text);
                    println!("{fault}\n");
                    tally.lock().unwrap().faults.push(fault);
                }
                continue;
            }
            count(&tally, verdict, &statement.sql);
        }
        seed += 1;
    }
    let tally = tally.lock().unwrap();
    report(&tally, seed);
    assert!(tally.faults.is_empty(), "{}", tally.faults.join("\n\n"));
}

async fn work(
    mut world: World,
    mut seed: u64,
    deadline: Instant,
    tally: Shared,
    faults_max: usize,
) {
    loop {
        world.renew(seed).await;
        for number in 0..STATEMENTS_PER_WORLD {
            if Instant::now() > deadline || tally.lock().unwrap().faults.len() >= faults_max {
                return;
            }
            let number_of = seed.wrapping_mul(1000).wrapping_add(number);
            let mode = mode(&mut Choices::random(!number_of));
            let mut choices = Choices::random(number_of);
            let statement = generate(&mut choices);
            let oracle = Oracle { world: &world, mode, proxy: None };
            let verdict = oracle.judge(&statement).await;
            let made = choices.made;
            if let Verdict::Fail(kind, _) = &verdict {
                let (kind, first) = (*kind, verdict);
                let text = shrink(&oracle, &made, kind, first).await;
                if !tally.lock().unwrap().seen.insert(essence(&text)) {
                    continue;
                }
                let fault =
                    format!("seed {seed}, statement {number}: {kind}: {text}\n{}", world.map_text);
                println!("{fault}\n");
                tally.lock().unwrap().faults.push(fault);
                continue;
            }
            count(&tally, verdict, &statement.sql);
        }
        seed += 1;
    }
}

fn mode(choices: &mut Choices) -> Mode {
    match choices.weighted(&[45, 35, 12, 8]) {
        0 => Mode::Plain,
        1 => Mode::Cached,
        2 => Mode::SessionKey(choices.pick(INTS.len())),
        _ => Mode::SessionShard(choices.pick(SHARDS)),
    }
}

fn count(tally: &Shared, verdict: Verdict, sql: &str) {
    let mut tally = tally.lock().unwrap();
    tally.statements += 1;
    match verdict {
        Verdict::Agree(kind) => *tally.kinds.entry(kind).or_default() += 1,
        Verdict::Refused(why) => {
            let words: Vec<&str> = why.split('"').step_by(2).collect();
            let entry = tally.refused.entry(words.join("…")).or_default();
            entry.0 += 1;
            if entry.1.is_empty() || sql.len() < entry.1.len() {
                sql.clone_into(&mut entry.1);
            }
        }
        Verdict::Invalid(code) => {
            let entry = tally.invalid.entry(code).or_default();
            entry.0 += 1;
            if entry.1.is_empty() || sql.len() < entry.1.len() {
                sql.clone_into(&mut entry.1);
            }
        }
        Verdict::Skipped => tally.skipped += 1,
        Verdict::Fail(..) => {}
    }
}

/// The simplest statement with the same fault that is found in time.
async fn shrink(oracle: &Oracle<'_>, made: &[u32], kind: &'static str, first: Verdict) -> String {
    let mut best = made.to_vec();
    let mut verdict = first;
    let mut tries = 0;
    'again: loop {
        for list in choices::simpler(&best) {
            tries += 1;
            if tries > SHRINKS_MAX {
                break 'again;
            }
            let mut choices = Choices::given(&list);
            let statement = generate(&mut choices);
            // What was not asked for is of no use; what was asked for beyond the end is 0.
            let mut used = choices.made;
            while used.last() == Some(&0) {
                used.pop();
            }
            if used.len() > best.len() || used == best {
                continue;
            }
            let again = oracle.judge(&statement).await;
            if oracle::same_fault(kind, &again) {
                best = used;
                verdict = again;
                continue 'again;
            }
        }
        break;
    }
    match verdict {
        Verdict::Fail(_, text) => text,
        other => format!("{other:?}"),
    }
}

/// A fault without its values.
fn essence(text: &str) -> String {
    let lines = text.lines().filter(|line| line.starts_with("  statement"));
    lines.flat_map(str::chars).filter(|c| !c.is_ascii_digit()).take(120).collect()
}

fn report(tally: &Tally, seed: u64) {
    let compared: usize = tally.kinds.values().sum();
    let refused: usize = tally.refused.values().map(|(n, _)| n).sum();
    let invalid: usize = tally.invalid.values().map(|(n, _)| n).sum();
    let mut text = format!(
        "seed {seed}: {} statements, {compared} compared {:?}, {refused} refused, {invalid} wrong in \
         PostgreSQL too, {} skipped, {} faults",
        tally.statements,
        tally.kinds,
        tally.skipped,
        tally.faults.len()
    );
    if std::env::var_os("PGMERIDIAN_SOUNDNESS_REPORT").is_some() {
        let mut rows: Vec<_> = tally.refused.iter().collect();
        rows.sort_by_key(|(_, (n, _))| std::cmp::Reverse(*n));
        for (why, (n, sql)) in rows.iter().take(60) {
            let _ = write!(text, "\n{n:6} {why}\n         {sql}");
        }
        for (code, (n, sql)) in &tally.invalid {
            let _ = write!(text, "\n{n:6} {code}\n         {sql}");
        }
    }
    println!("{text}");
}
