//! What becomes of transactions over several shards when somebody is lost on the way: [`Commits`], those of this
//! process, and [`watch`], which finishes what is left behind, whoever left it.
//!
//! Any number of proxies may do so at once: each tries the tombstone first, and does what the row says that stands
//! there then (see [`crate::commit`]). What is prepared is left alone for `limits.in_doubt_after`, since whoever has
//! prepared it will finish it; what this process knows to be given up is finished at once.
//!
//! Invariants: nothing is finished without a row that says how; a table that is missing is never made here, for it
//! would say of everything that it was not committed; a row is forgotten only when nobody can ask for it any more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::{debug, error, info, warn};

use super::Shared;
use crate::backend::{BackendError, Connection, Target, connect};
use crate::commit::{Gid, Verdict, sql};
use crate::map::{Shard, ShardMap};
use crate::mapstore::WaitsWith;
use crate::observe::{METRICS, add};

/// Every so many looks, rows are forgotten.
const FORGET_EVERY: u32 = 6;

/// What this process has given up is looked for again after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Decisions are kept for so long, whatever has become of them.
const DECISION_KEPT_MS: i64 = 60_000;

/// A client's COMMIT waits so long for a shard that has to be asked again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// What a server can prepare is asked again after this time: it may have been restarted.
const CAN_PREPARE_FOR: Duration = Duration::from_secs(60);

/// `undefined_object`: nothing of that name is prepared.
const NOTHING_PREPARED: &str = "42704";

/// The transactions of this process that are committed on several shards.
#[derive(Debug, Default)]
pub struct Commits {
    /// Those under way.
    running: Mutex<HashSet<Gid>>,
    /// Those that were left to recovery, with what keeps a key from being frozen meanwhile.
    left: Mutex<HashMap<Gid, WaitsWith>>,
    /// Some were left.
    wake: Notify,
    /// What the last look could not finish.
    doubts: Mutex<Vec<Doubt>>,
    /// Until when servers are known to be able to prepare, by address and database.
    able: Mutex<HashMap<String, Instant>>,
    /// The marks of the tables of decisions, by address and database.
    marks: Mutex<HashMap<String, String>>,
}

/// Something prepared that can't be finished yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The shard that has it.
    pub shard: String,
    /// What it is called.
    pub name: String,
    /// For how long it has been prepared.
    pub age: Duration,
    /// Why.
    pub why: String,
}

/// A transaction whose COMMIT is under way; dropped before its end, it is left to recovery.
pub(super) struct Running {
    commits: Arc<Commits>,
    gid: Gid,
    waits: Option<WaitsWith>,
}

impl Commits {
    /// One begins to commit.
    pub(super) fn begin(self: &Arc<Self>, gid: &Gid, waits: WaitsWith) -> Running {
        lock(&self.running).insert(gid.clone());
        Running { commits: Arc::clone(self), gid: gid.clone(), waits: Some(waits) }
    }

    /// What could not be finished when it was last tried.
    pub fn doubts(&self) -> Vec<Doubt> {
        lock(&self.doubts).clone()
    }

    /// Whether a server is known to be able to prepare transactions.
    pub(super) fn is_able(&self, target: &Target) -> bool {
        lock(&self.able).get(&place(target)).is_some_and(|until| *until > Instant::now())
    }

    /// The mark of the table on a server, as it was last read.
    pub(super) fn mark(&self, target: &Target) -> Option<String> {
        lock(&self.marks).get(&place(target)).cloned()
    }

    /// It was read.
    pub(super) fn note_mark(&self, target: &Target, mark: String) {
        lock(&self.marks).insert(place(target), mark);
    }

    /// It is.
    pub(super) fn note_able(&self, target: &Target) {
        lock(&self.able).insert(place(target), Instant::now() + CAN_PREPARE_FOR);
    }
}

impl Running {
    /// It has ended on all of its shards.
    pub(super) fn end(mut self) {
        self.waits = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(waits) = self.waits.take() {
            lock(&self.commits.left).insert(self.gid.clone(), waits);
            self.commits.wake.notify_one();
        }
        lock(&self.commits.running).remove(&self.gid);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(target: &Target) -> String {
    format!("{:?}:{}/{}", target.host, target.port, target.database)
}

/// A connection of recovery's own, as the shard's URL says.
async fn open(target: &Arc<Target>, timeout: Duration) -> Result<Connection, BackendError> {
    let mut connection = connect(target, &[], timeout).await?;
    ask(&mut connection, &sql::recovery_settings(), timeout).await?;
    Ok(connection)
}

/// One statement, whose answer does not take longer than that.
async fn ask(
    connection: &mut Connection,
    sql: &str,
    timeout: Duration,
) -> Result<Vec<Vec<Option<String>>>, BackendError> {
    if !connection.is_between_statements() {
        // One that has not answered in time would answer now.
        return Err(BackendError::eof());
    }
    match tokio::time::timeout(timeout, connection.simple_query(sql)).await {
        Ok(answer) => answer,
        Err(_) => Err(BackendError::ConnectTimeout(timeout)),
    }
}

/// Statements of ours have limits of their own on the shard, and this one behind them.
fn patience(shared: &Shared) -> Duration {
    shared.config.health.timeout.max(Duration::from_secs(6))
}

/// Tries the tombstone, and reads what stands under the gid then; else why that can't be told.
async fn decide(
    connection: &mut Connection,
    gid: &Gid,
    timeout: Duration,
) -> Result<Verdict, String> {
    let unfit = |error: BackendError| error.to_string();
    ask(connection, &sql::tombstone(gid), timeout).await.map_err(unfit)?;
    let rows = ask(connection, &sql::verdict(gid), timeout).await.map_err(unfit)?;
    let told = |n: usize| rows.first().and_then(|row| row.get(n)?.as_deref());
    match told(0) {
        Some("t") if told(1).is_some_and(|secret| gid.is_of(secret)) => Ok(Verdict::Committed),
        // What somebody else has written there keeps its decision out.
        Some(_) => Ok(Verdict::Aborted),
        None => Err("the table pgmeridian.decision there is another one than it was".to_owned()),
    }
}

/// The coordinator did not answer its COMMIT: what has become of it, if that can be told in time.
pub(super) async fn ask_coordinator(shared: &Shared, shard: &Shard, gid: &Gid) -> Option<Verdict> {
    let target = Arc::new(Target::from(&shard.url));
    let timeout = patience(shared);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = match open(&target, timeout).await {
            Ok(mut connection) => decide(&mut connection, gid, timeout).await,
            Err(error) => Err(error.to_string()),
        };
        match told {
            Ok(verdict) => return Some(verdict),
            Err(why) if Instant::now() >= deadline => {
                warn!(%gid, shard = shard.name, why, "the outcome of a transaction is not known");
                return None;
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// A participant has not said that it has committed: it is told again, for a while. Whether it has.
pub(super) async fn commit_again(
    shared: &Shared,
    shard: &Shard,
    name: &str,
    prepared: &sql::Prepared,
) -> bool {
    let target = Arc::new(Target::from(&shard.url));
    let timeout = patience(shared);
    let deadline = Instant::now() + PATIENCE;
    let owner = Some(prepared.owner.as_str());
    loop {
        let done = match open(&target, timeout).await {
            Ok(mut connection) => {
                let done = finish(&mut connection, Verdict::Committed, name, owner, timeout).await;
                if done == Ok(Finished::Nothing) {
                    check_gone(&mut connection, shard, name, prepared, timeout).await;
                }
                done
            }
            Err(error) => Err(error.to_string()),
        };
        match done {
            Ok(_) => return true,
            Err(why) if Instant::now() >= deadline => {
                warn!(name, shard = shard.name, why, "a transaction is not visible yet on a shard");
                return false;
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Nothing is prepared under a name that is to be committed: it was, and the answer got lost, or somebody else has
/// done it. Where the server does not know it as committed, it has lost what it had confirmed.
async fn check_gone(
    connection: &mut Connection,
    shard: &Shard,
    name: &str,
    prepared: &sql::Prepared,
    timeout: Duration,
) {
    let Some(xact) = prepared.xact else { return };
    let status = match ask(connection, &sql::status(xact), timeout).await {
        Ok(rows) => rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten(),
        // A number that it has not reached.
        Err(_) => None,
    };
    if status.as_deref() != Some("committed") {
        note_gone(&shard.name, name);
    }
}

/// A shard has not what it has confirmed as prepared, and nobody is known to have finished it.
pub(super) fn note_gone(shard: &str, name: &str) {
    error!(
        shard,
        name,
        "a shard has lost a prepared transaction that is committed elsewhere: its failover must not lose what it has confirmed"
    );
}

/// What COMMIT PREPARED or ROLLBACK PREPARED has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finished {
    /// It is done.
    Now,
    /// Nothing is prepared there by that name.
    Nothing,
}

/// COMMIT PREPARED or ROLLBACK PREPARED; as the role that has prepared it, where this one may not.
async fn finish(
    connection: &mut Connection,
    verdict: Verdict,
    name: &str,
    owner: Option<&str>,
    timeout: Duration,
) -> Result<Finished, String> {
    let sql = sql::finish(verdict, name);
    let mut answer = ask(connection, &sql, timeout).await;
    if let (Err(BackendError::Statement(error)), Some(owner)) = (&answer, owner)
        && error.code() == "42501"
    {
        answer = match ask(connection, &sql::as_owner(owner), timeout).await {
            Ok(_) => {
                let answer = ask(connection, &sql, timeout).await;
                if let Err(error) = ask(connection, "RESET ROLE", timeout).await {
                    return Err(error.to_string());
                }
                answer
            }
            Err(error) => Err(error),
        };
    }
    match answer {
        Ok(_) => Ok(Finished::Now),
        Err(BackendError::Statement(error)) if error.code() == NOTHING_PREPARED => {
            Ok(Finished::Nothing)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Makes the table of decisions where it is missing and the shard's role may, and lets a `role` insert there, if one
/// is named. Several may do so at once.
///
/// # Errors
///
/// Why it is not there, or can't be used by recovery.
pub(super) async fn install(
    shared: &Shared,
    shard: &Shard,
    role: Option<&str>,
) -> Result<(), String> {
    let timeout = patience(shared);
    let target = Arc::new(Target::from(&shard.url));
    let unfit = |error: BackendError| error.to_string();
    let mut connection = open(&target, timeout).await.map_err(unfit)?;
    ask(&mut connection, "BEGIN", timeout).await.map_err(unfit)?;
    ask(&mut connection, sql::INSTALL_LOCK, timeout).await.map_err(unfit)?;
    let rows = ask(&mut connection, &sql::installed(), timeout).await.map_err(unfit)?;
    let told = |n: usize| rows.first().and_then(|row| row.get(n)?.as_deref()).unwrap_or_default();
    let mut steps = Vec::new();
    if told(0) != "t" {
        steps.push(sql::SCHEMA.to_owned());
    }
    if told(2) != "t" {
        steps.push(sql::TABLE.to_owned());
    }
    if !sql::is_mark(told(1)) {
        steps.push(sql::mark(&fresh_mark(), told(4)));
    }
    if let Some(role) = role.filter(|role| *role != target.user) {
        steps.push(sql::grant(role));
    }
    for step in steps {
        ask(&mut connection, &step, timeout).await.map_err(unfit)?;
    }
    let rows = ask(&mut connection, &sql::installed(), timeout).await.map_err(unfit)?;
    ask(&mut connection, "COMMIT", timeout).await.map_err(unfit)?;
    match rows.first().and_then(|row| row.get(3)?.as_deref()) {
        Some("t") => Ok(()),
        _ => Err(format!(
            "role \"{}\" of the shard's URL, as which a COMMIT is finished that was broken off, may not read, insert and delete there",
            target.user
        )),
    }
}

/// 16 random hexadecimal digits.
pub(super) fn fresh_mark() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// What a shard has prepared.
struct Found {
    name: String,
    age: Duration,
    owner: String,
}

/// A shard that recovery talks to.
struct Asked {
    id: i16,
    name: String,
    /// Which database of which server it is.
    server: String,
    connection: Connection,
    /// Its clock, before any shard was asked what it has prepared.
    clock: i64,
    found: Vec<Found>,
}

/// Finishes what was left behind, for ever: the shards are asked every `[health] interval`, and at once for what this
/// process has given up.
pub async fn watch(shared: Arc<Shared>) {
    let mut looks = 0_u32;
    loop {
        let map = Arc::clone(&shared.store.current().map);
        if map.shards().len() > 1 {
            look(&shared, &map, looks.is_multiple_of(FORGET_EVERY)).await;
            looks = looks.wrapping_add(1);
        }
        let commits = &shared.commits;
        let waits = !lock(&commits.left).is_empty();
        let interval = shared.config.health.interval.max(AGAIN_AFTER);
        let pause = if waits { AGAIN_AFTER } else { interval };
        let _ = tokio::time::timeout(pause, commits.wake.notified()).await;
    }
}

async fn look(shared: &Arc<Shared>, map: &ShardMap, forgets: bool) {
    let commits = &shared.commits;
    let timeout = patience(shared);
    // Before anything is asked: what is given up later is looked for the next time.
    let given_up: Vec<Gid> = lock(&commits.left).keys().cloned().collect();
    let mut asked = Vec::new();
    for shard in map.shards() {
        match begin(shard, timeout).await {
            Ok(own) => asked.push(own),
            Err(why) => debug!(why, shard = shard.name, "what it has prepared is not known"),
        }
    }
    let mut listed = Vec::new();
    for mut own in asked {
        match ask(&mut own.connection, &sql::prepared(), timeout).await {
            // A standby knows of nothing that is prepared, and would make others forget what was decided of it.
            Ok(rows) if rows.is_empty() || !rows.iter().all(|row| is_primarys(row)) => {
                debug!(shard = own.name, "what it has prepared is not known: it is a standby");
            }
            Ok(rows) => {
                own.found = rows.into_iter().filter_map(found).collect();
                listed.push(own);
            }
            Err(error) => debug!(%error, shard = own.name, "what it has prepared is not known"),
        }
    }
    let mut left: HashSet<String> = HashSet::new();
    let mut due: BTreeMap<Gid, Vec<(i16, String, Duration, String)>> = BTreeMap::new();
    let mut doubts = Vec::new();
    for own in &listed {
        for found in &own.found {
            let Some(gid) = Gid::of_prepared(&found.name) else {
                doubts.push(Doubt {
                    shard: own.name.clone(),
                    name: found.name.clone(),
                    age: found.age,
                    why: "its name is none that this version gives".to_owned(),
                });
                continue;
            };
            left.insert(gid.to_string());
            let runs = lock(&commits.running).contains(&gid);
            if !runs
                && (given_up.contains(&gid) || found.age >= shared.config.limits.in_doubt_after)
            {
                let found = (own.id, found.name.clone(), found.age, found.owner.clone());
                due.entry(gid).or_default().push(found);
            }
        }
    }
    for gid in &given_up {
        due.entry(gid.clone()).or_default();
    }
    for (gid, all) in due {
        let verdict = match listed.iter_mut().find(|own| own.id == gid.coordinator) {
            Some(coordinator) => decide(&mut coordinator.connection, &gid, timeout).await,
            None => Err(match map.shards().iter().find(|shard| shard.id == gid.coordinator) {
                Some(shard) => {
                    format!("shard {}, which has decided about it, can't be asked", shard.name)
                }
                None => format!(
                    "the map has no shard number {}, which has decided about it",
                    gid.coordinator
                ),
            }),
        };
        let mut whole = listed.len() == map.shards().len() && verdict.is_ok();
        for (id, name, age, owner) in all {
            let Some(own) = listed.iter_mut().find(|own| own.id == id) else { continue };
            let done = match &verdict {
                Ok(verdict) => {
                    finish(&mut own.connection, *verdict, &name, Some(&owner), timeout).await
                }
                Err(why) => Err(why.clone()),
            };
            match (done, &verdict) {
                // It was there a moment ago: somebody else has done it.
                (Ok(Finished::Nothing), Ok(_)) => {}
                (Ok(Finished::Now), Ok(verdict)) => {
                    add(recovered(*verdict), 1);
                    info!(shard = own.name, name, ?verdict, "what was left prepared is finished");
                }
                (done, _) => {
                    whole = false;
                    let why = done.err().unwrap_or_default();
                    doubts.push(Doubt { shard: own.name.clone(), name, age, why });
                }
            }
        }
        if whole {
            lock(&commits.left).remove(&gid);
        }
    }
    note_doubts(commits, doubts);
    if forgets {
        let ids: Vec<(i16, String)> =
            listed.iter().map(|own| (own.id, own.server.clone())).collect();
        let left: Vec<String> = left.into_iter().collect();
        for own in &mut listed {
            let ids = ids.iter().map(|(id, server)| (*id, server.as_str()));
            let sql = sql::forget(own.clock - DECISION_KEPT_MS, ids, &left);
            if let Err(error) = forget(&mut own.connection, &sql, timeout).await {
                debug!(%error, shard = own.name, "decisions are not forgotten");
            }
        }
    }
}

fn recovered(verdict: Verdict) -> &'static AtomicU64 {
    match verdict {
        Verdict::Committed => &METRICS.recovered_commits,
        Verdict::Aborted => &METRICS.recovered_aborts,
    }
}

/// A connection to a shard that can say what it has prepared.
async fn begin(shard: &Shard, timeout: Duration) -> Result<Asked, String> {
    let unfit = |error: BackendError| error.to_string();
    let target = Arc::new(Target::from(&shard.url));
    let mut connection = open(&target, timeout).await.map_err(unfit)?;
    let rows = ask(&mut connection, &sql::clock(), timeout).await.map_err(unfit)?;
    let told = |n: usize| rows.first().and_then(|row| row.get(n)?.as_deref());
    if told(1) != Some("f") {
        return Err("it is a standby".to_owned());
    }
    let clock = told(0).and_then(|clock| clock.parse().ok()).unwrap_or_default();
    let server = told(2).unwrap_or_default().to_owned();
    let (id, name) = (shard.id, shard.name.clone());
    Ok(Asked { id, name, server, connection, clock, found: Vec::new() })
}

/// A row of [`sql::prepared`] does not come from a standby.
fn is_primarys(row: &[Option<String>]) -> bool {
    row.first().and_then(Option::as_deref) == Some("f")
}

fn found(row: Vec<Option<String>>) -> Option<Found> {
    let mut row = row.into_iter().skip(1);
    let (name, age, owner) = (row.next()??, row.next()??, row.next()??);
    let age = Duration::from_millis(age.parse::<i64>().ok()?.max(0).unsigned_abs());
    Some(Found { name, age, owner })
}

async fn forget(
    connection: &mut Connection,
    sql: &str,
    timeout: Duration,
) -> Result<(), BackendError> {
    let rows = ask(connection, &sql::installed(), timeout).await?;
    let told = |n: usize| rows.first().and_then(|row| row.get(n)?.as_deref()) == Some("t");
    if told(2) && told(3) {
        ask(connection, sql, timeout).await?;
    }
    Ok(())
}

/// What is new among the doubts is logged.
fn note_doubts(commits: &Commits, doubts: Vec<Doubt>) {
    let mut known = lock(&commits.doubts);
    for doubt in &doubts {
        let same = |other: &&Doubt| other.name == doubt.name && other.why == doubt.why;
        if known.iter().find(same).is_none() {
            warn!(
                shard = doubt.shard,
                name = doubt.name,
                why = doubt.why,
                "a prepared transaction can't be finished yet"
            );
        }
    }
    *known = doubts;
}
