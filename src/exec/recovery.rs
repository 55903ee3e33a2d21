//! What becomes of transactions over several shards when somebody is lost on the way: [`Commits`], those of this
//! process, and [`watch`], which finishes what is left behind, whoever left it.
//!
//! Any number of proxies may do so at once: each tries the tombstone first, and does what the row says that stands
//! there then (see [`crate::commit`]). What is prepared is left alone for `limits.in_doubt_after`, since whoever has
//! prepared it will finish it; what this process knows to be given up is finished at once.
//!
//! Invariants: nothing is finished without a row that says how; a table that is missing is never made here, for it
//! would say of everything that it was not committed; a row is forgotten only when nobody can ask for it any more.

mod ask;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::{error, info, warn};

use self::ask::{Asked, Clock, Found, ask, at_once, clocks, list, open};
use super::Shared;
use crate::backend::{BackendError, Connection, Target};
use crate::commit::{Gid, Verdict, sql};
use crate::map::{Shard, ShardMap};
use crate::mapstore::WaitsWith;
use crate::observe::{METRICS, add};

/// Every so many looks, rows are forgotten.
const LONG_LOOK_EVERY: u32 = 6;

/// What this process has given up is looked for again after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// That time doubles so often.
const AGAIN_DOUBLED_MAX: u32 = 5;

/// Removing rows takes no longer.
const FORGET_MAX: Duration = Duration::from_secs(60);

/// Decisions are kept for so long, whatever has become of them.
const DECISION_KEPT_MS: i64 = 60_000;

/// A client's COMMIT waits so long for a shard that has to be asked again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// What a server or a role can do is asked again after this time: it may have been restarted, or revoked.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// `undefined_object`: nothing of that name is prepared.
const NOTHING_PREPARED: &str = "42704";

/// The transactions of this process that are committed on several shards.
#[derive(Debug, Default)]
pub struct Commits {
    /// Those under way.
    running: Mutex<HashSet<Gid>>,
    /// Those that were left to recovery.
    left: Mutex<HashMap<Gid, Left>>,
    /// Some were left.
    wake: Notify,
    /// Rows that nobody needs are being removed.
    forgets: AtomicBool,
    /// What the last look could not finish.
    doubts: Mutex<Vec<Doubt>>,
    /// Until when servers are known to be able to prepare, by address and database.
    able: Mutex<HashMap<String, Instant>>,
    /// The tables of decisions, by address and database.
    tables: Mutex<HashMap<String, sql::Table>>,
    /// Until when roles are known to be able to do their part, by address and database.
    roles: Mutex<HashMap<String, Roles>>,
}

/// Roles in their parts, and until when they are known to be fit for them.
type Roles = HashMap<(Part, String), Instant>;

/// What a role does in a commit over several shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// It inserts the decision.
    Decides,
    /// It prepares what the role of the shard's URL may finish.
    Prepares,
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

/// A transaction that was left to recovery.
#[derive(Clone, Debug)]
struct Left {
    /// The numbers of its shards.
    shards: Vec<i16>,
    /// How often it was tried.
    tries: u32,
    /// When it is tried again.
    due: Instant,
}

/// A transaction whose COMMIT is under way; dropped before its end, it is left to recovery.
pub(super) struct Running {
    commits: Arc<Commits>,
    gid: Gid,
    /// The numbers of its shards.
    shards: Vec<i16>,
    /// Keeps a version of the map from being taken for settled. What is left is seen on the shards by then.
    _waits: WaitsWith,
    ended: bool,
}

impl Commits {
    /// One begins to commit on shards with these numbers.
    pub(super) fn begin(
        self: &Arc<Self>,
        gid: &Gid,
        shards: Vec<i16>,
        waits: WaitsWith,
    ) -> Running {
        lock(&self.running).insert(gid.clone());
        let (commits, gid) = (Arc::clone(self), gid.clone());
        Running { commits, gid, shards, _waits: waits, ended: false }
    }

    /// What was left and is to be tried now.
    fn due(&self) -> Vec<(Gid, Left)> {
        let now = Instant::now();
        let left = lock(&self.left);
        let due = left.iter().filter(|(_, left)| left.due <= now);
        due.map(|(gid, left)| (gid.clone(), left.clone())).collect()
    }

    /// When some of it is to be tried next.
    fn next_due(&self) -> Option<Instant> {
        lock(&self.left).values().map(|left| left.due).min()
    }

    /// It could not be finished; less and less often is it tried.
    fn put_off(&self, gid: &Gid) {
        if let Some(left) = lock(&self.left).get_mut(gid) {
            left.due = Instant::now() + AGAIN_AFTER * (1 << left.tries.min(AGAIN_DOUBLED_MAX));
            left.tries += 1;
        }
    }

    /// What could not be finished when it was last tried.
    pub fn doubts(&self) -> Vec<Doubt> {
        lock(&self.doubts).clone()
    }

    /// Whether a server is known to be able to prepare transactions.
    pub(super) fn is_able(&self, target: &Target) -> bool {
        lock(&self.able).get(&place(target)).is_some_and(|until| *until > Instant::now())
    }

    /// The table of decisions on a server, as it was last read.
    pub(super) fn table(&self, target: &Target) -> Option<sql::Table> {
        lock(&self.tables).get(&place(target)).cloned()
    }

    /// It was read.
    pub(super) fn note_table(&self, target: &Target, table: sql::Table) {
        lock(&self.tables).insert(place(target), table);
    }

    /// Whether a role was able to do its part a short while ago.
    pub(super) fn may(&self, target: &Target, part: Part, role: &str) -> bool {
        let roles = lock(&self.roles);
        let until = roles.get(&place(target)).and_then(|own| own.get(&(part, role.to_owned())));
        until.is_some_and(|until| *until > Instant::now())
    }

    /// It is.
    pub(super) fn note_may(&self, target: &Target, part: Part, role: &str) {
        let until = Instant::now() + KNOWN_FOR;
        let mut roles = lock(&self.roles);
        let own = roles.entry(place(target)).or_default();
        own.retain(|_, until| *until > Instant::now());
        own.insert((part, role.to_owned()), until);
    }

    /// The table is another one than it was, or somebody may not what he might: everything is asked again.
    pub(super) fn forget_table(&self, target: &Target) {
        lock(&self.tables).remove(&place(target));
        lock(&self.roles).remove(&place(target));
    }

    /// It is.
    pub(super) fn note_able(&self, target: &Target) {
        lock(&self.able).insert(place(target), Instant::now() + KNOWN_FOR);
    }
}

impl Running {
    /// It has ended on all of its shards.
    pub(super) fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let shards = std::mem::take(&mut self.shards);
            let left = Left { shards, tries: 0, due: Instant::now() };
            lock(&self.commits.left).insert(self.gid.clone(), left);
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

async fn decide_there(own: &mut Asked, gid: &Gid, timeout: Duration) -> Result<Verdict, String> {
    match own.connection().await {
        Ok(connection) => decide(connection, gid, timeout).await,
        Err(error) => Err(error.to_string()),
    }
}

/// The coordinator did not answer its COMMIT: what has become of it, if that can be told in time.
pub(super) async fn ask_coordinator(shared: &Shared, shard: &Shard, gid: &Gid) -> Option<Verdict> {
    let target = shared.books.target(&shard.url);
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
    let target = shared.books.target(&shard.url);
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

/// A decision is committed on its shard alone, and the participants commit what it decides.
pub(super) fn note_unsafe(shard: &str, gid: &Gid) {
    error!(
        shard,
        %gid,
        "a COMMIT that decides over several shards did not wait for its standbys: its wait was cancelled there"
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
    ask(connection, sql::NO_LIMIT, timeout).await.map_err(|error| error.to_string())?;
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
/// is named. Several may do so at once. Which it is.
///
/// # Errors
///
/// Why it is not there, or can't be used by recovery.
pub(super) async fn install(
    shared: &Shared,
    shard: &Shard,
    role: Option<&str>,
) -> Result<sql::Table, NotInstalled> {
    let timeout = patience(shared);
    let target = shared.books.target(&shard.url);
    let mut connection = open(&target, timeout).await?;
    ask(&mut connection, "BEGIN", timeout).await?;
    ask(&mut connection, sql::INSTALL_LOCK, timeout).await?;
    let rows = ask(&mut connection, &sql::installed(), timeout).await?;
    let told = |n: usize| rows.first().and_then(|row| row.get(n)?.as_deref()).unwrap_or_default();
    let mut steps = Vec::new();
    if told(0) != "t" {
        steps.push(sql::SCHEMA.to_owned());
    }
    if told(2) != "t" {
        steps.push(sql::TABLE.to_owned());
    }
    if !sql::is_mark(told(1)) {
        steps.push(sql::mark(&fresh_table(told(4))));
    }
    if let Some(role) = role.filter(|role| *role != target.user) {
        steps.push(sql::grant(role));
    }
    for step in steps {
        ask(&mut connection, &step, timeout).await?;
    }
    let rows = ask(&mut connection, &sql::installed(), timeout).await?;
    ask(&mut connection, "COMMIT", timeout).await?;
    let told = |n: usize| rows.first().and_then(|row| row.get(n)?.as_deref()).unwrap_or_default();
    match told(3) {
        "t" => Ok(sql::Table { mark: told(1).to_owned(), server: told(4).to_owned() }),
        _ => Err(NotInstalled::Forbidden(format!(
            "role \"{}\" of the shard's URL, as which a COMMIT is finished that was broken off, may not read, insert and delete there",
            target.user
        ))),
    }
}

/// Why there is no table of decisions that can be used.
#[derive(Debug)]
pub(super) enum NotInstalled {
    /// The shard's role may not make it, or not use it.
    Forbidden(String),
    /// The shard could not be asked; it may be otherwise a little later.
    NotNow(BackendError),
}

impl From<BackendError> for NotInstalled {
    fn from(error: BackendError) -> Self {
        match &error {
            // Syntax errors and access rule violations.
            BackendError::Statement(told) if told.code().starts_with("42") => {
                Self::Forbidden(error.to_string())
            }
            _ => Self::NotNow(error),
        }
    }
}

/// A table on this server, with a mark of its own: 16 random hexadecimal digits.
pub(super) fn fresh_table(server: &str) -> sql::Table {
    sql::Table { mark: format!("{:016x}", rand::random::<u64>()), server: server.to_owned() }
}

/// Finishes what was left behind, for ever: the shards are asked every `[health] interval`, and at once for what this
/// process has given up, which concerns its shards alone.
pub async fn watch(shared: Arc<Shared>) {
    let commits = &shared.commits;
    let mut looks = 0_u32;
    let mut next = Instant::now();
    loop {
        let map = Arc::clone(&shared.store.current().map);
        if Instant::now() >= next {
            // A map of one shard may have had several.
            let is_long = looks.is_multiple_of(LONG_LOOK_EVERY);
            if is_long || map.shards().len() > 1 {
                look(&shared, &map, is_long).await;
            }
            looks = looks.wrapping_add(1);
            // Many proxies do not all come at once.
            let spread = 0.75 + rand::random::<f64>() / 2.0;
            next = Instant::now() + shared.config.health.interval.max(AGAIN_AFTER).mul_f64(spread);
        }
        let due = commits.due();
        if !due.is_empty() {
            look_for(&shared, &map, &due).await;
        }
        let until = commits.next_due().map_or(next, |due| due.min(next));
        let pause = until.saturating_duration_since(Instant::now());
        let _ = tokio::time::timeout(pause, commits.wake.notified()).await;
    }
}

/// Whatever any shard has prepared and was left behind.
async fn look(shared: &Arc<Shared>, map: &ShardMap, is_long: bool) {
    let commits = &shared.commits;
    let timeout = patience(shared);
    // What this process has given up is looked for by itself.
    let given_up: HashSet<Gid> = lock(&commits.left).keys().cloned().collect();
    // Their clocks before any of them says what it has.
    let clocks =
        if is_long { clocks(shared, map.shards().iter(), timeout).await } else { Vec::new() };
    let (mut listed, _) = list(shared, map.shards().iter(), timeout).await;
    let mut left: HashSet<String> = HashSet::new();
    let mut due: BTreeMap<Gid, Vec<Due>> = BTreeMap::new();
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
            if !runs && !given_up.contains(&gid) && found.age >= shared.config.limits.in_doubt_after
            {
                due.entry(gid).or_default().push((own.id, found.clone()));
            }
        }
    }
    for (gid, all) in due {
        doubts.extend(settle(map, &mut listed, &gid, all, timeout).await.1);
    }
    let is_own = |gid: Gid| given_up.contains(&gid);
    note_doubts(commits, doubts, |doubt| !Gid::of_prepared(&doubt.name).is_some_and(is_own));
    if is_long {
        let left: Vec<String> = left.into_iter().collect();
        let shared = Arc::clone(shared);
        // One at a time, and nobody waits for it.
        if !commits.forgets.swap(true, Ordering::AcqRel) {
            tokio::spawn(async move {
                forget_all(listed, &clocks, &left).await;
                shared.commits.forgets.store(false, Ordering::Release);
            });
        }
    }
}

/// Rows that nobody needs any more, with these left.
async fn forget_all(listed: Vec<Asked>, clocks: &[Clock], left: &[String]) {
    // Whose address has moved to another server in between has not said what that has.
    let known: Vec<(Asked, i64)> = listed
        .into_iter()
        .filter_map(|own| {
            let clock = clocks.iter().find(|clock| clock.id == own.id)?;
            (clock.server == own.server).then_some((own, clock.now))
        })
        .collect();
    let asked: Vec<(i16, String)> =
        known.iter().map(|(own, _)| (own.id, own.server.clone())).collect();
    at_once(known.into_iter().map(|(own, clock)| {
        let asked = asked.iter().map(|(id, server)| (*id, server.as_str()));
        forget(own, sql::forget(clock - DECISION_KEPT_MS, asked, left))
    }))
    .await;
}

/// What this process has given up: its shards are asked, and no others.
async fn look_for(shared: &Arc<Shared>, map: &ShardMap, due: &[(Gid, Left)]) {
    let commits = &shared.commits;
    let timeout = patience(shared);
    let concerns = |id: i16| due.iter().any(|(_, left)| left.shards.contains(&id));
    let shards = map.shards().iter().filter(|shard| concerns(shard.id));
    let (mut listed, _) = list(shared, shards, timeout).await;
    let mut doubts = Vec::new();
    for (gid, left) in due {
        let mut all = Vec::new();
        for own in &listed {
            let is_its = |found: &&Found| Gid::of_prepared(&found.name).as_ref() == Some(gid);
            all.extend(own.found.iter().filter(is_its).map(|found| (own.id, found.clone())));
        }
        let (whole, doubtful) = settle(map, &mut listed, gid, all, timeout).await;
        doubts.extend(doubtful);
        let is_known = |id: i16| map.shards().iter().any(|shard| shard.id == id);
        let is_listed = |id: i16| listed.iter().any(|own| own.id == id);
        let asked = left.shards.iter().all(|id| is_listed(*id) || !is_known(*id));
        // Without the shard that has decided only who looks at everything can say that there is something in doubt.
        if whole && asked || !is_known(gid.coordinator) {
            lock(&commits.left).remove(gid);
        } else {
            commits.put_off(gid);
        }
    }
    let is_one = |doubt: &Doubt| {
        let gid = Gid::of_prepared(&doubt.name);
        due.iter().any(|(own, _)| gid.as_ref() == Some(own))
    };
    note_doubts(commits, doubts, is_one);
}

/// The names of whatever these shards have prepared by any proxy, dead ones too, by their numbers.
///
/// # Errors
///
/// A shard that can't be asked, with the reason.
pub async fn prepared_now(
    shared: &Shared,
    map: &ShardMap,
    is_asked: impl Fn(i16) -> bool,
) -> Result<HashMap<i16, HashSet<String>>, (String, String)> {
    let shards: Vec<&Shard> = map.shards().iter().filter(|shard| is_asked(shard.id)).collect();
    let (listed, unasked) = list(shared, shards.iter().copied(), patience(shared)).await;
    if let Some(unasked) = unasked.into_iter().next() {
        return Err(unasked);
    }
    if listed.len() < shards.len() {
        return Err(("?".to_owned(), "asking was broken off".to_owned()));
    }
    let names = |own: Asked| own.found.into_iter().map(|found| found.name).collect();
    Ok(listed.into_iter().map(|own| (own.id, names(own))).collect())
}

/// What a shard has that is to be finished.
type Due = (i16, Found);

/// Finds out what was decided about a transaction, and finishes what is prepared of it: whether all of that is done,
/// and what is not.
async fn settle(
    map: &ShardMap,
    listed: &mut [Asked],
    gid: &Gid,
    all: Vec<Due>,
    timeout: Duration,
) -> (bool, Vec<Doubt>) {
    let verdict = match listed.iter_mut().find(|own| own.id == gid.coordinator) {
        Some(coordinator) => decide_there(coordinator, gid, timeout).await,
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
    let mut doubts = Vec::new();
    for (id, Found { name, age, owner }) in all {
        let Some(own) = listed.iter_mut().find(|own| own.id == id) else { continue };
        let done = match (&verdict, own.connection().await) {
            (Ok(verdict), Ok(connection)) => {
                finish(connection, *verdict, &name, owner.as_deref(), timeout).await
            }
            (Ok(_), Err(error)) => Err(error.to_string()),
            (Err(why), _) => Err(why.clone()),
        };
        match (done, &verdict) {
            // It was there a moment ago: somebody else has done it.
            (Ok(Finished::Nothing), Ok(_)) => {}
            (Ok(Finished::Now), Ok(verdict)) => {
                add(recovered(*verdict), 1);
                info!(shard = own.name, name, ?verdict, "what was left prepared is finished");
            }
            (done, _) => {
                let why = done.err().unwrap_or_default();
                doubts.push(Doubt { shard: own.name.clone(), name, age, why });
            }
        }
    }
    (verdict.is_ok() && doubts.is_empty(), doubts)
}

fn recovered(verdict: Verdict) -> &'static AtomicU64 {
    match verdict {
        Verdict::Committed => &METRICS.recovered_commits,
        Verdict::Aborted => &METRICS.recovered_aborts,
    }
}

async fn forget(mut own: Asked, sql: String) {
    let forgotten = async {
        let connection = own.connection().await?;
        let rows = ask(connection, &sql::installed(), FORGET_MAX).await?;
        let told = |n: usize| rows.first().and_then(|row| row.get(n)?.as_deref()) == Some("t");
        if told(2) && told(3) {
            ask(connection, sql::NO_LIMIT, FORGET_MAX).await?;
            let begun = Instant::now();
            while begun.elapsed() < FORGET_MAX {
                let rows = ask(connection, &sql, FORGET_MAX).await?;
                let gone = rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
                if gone.is_none_or(|gone: u32| gone < sql::FORGOTTEN_MAX) {
                    break;
                }
            }
        }
        Ok::<_, BackendError>(())
    };
    if let Err(error) = forgotten.await {
        warn!(%error, shard = own.name, "decisions that nobody needs can't be removed");
    }
}

/// What is new among the doubts is logged. They take the place of those that this look was about.
fn note_doubts(commits: &Commits, doubts: Vec<Doubt>, is_old: impl Fn(&Doubt) -> bool) {
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
    known.retain(|doubt| !is_old(doubt));
    known.extend(doubts);
}
