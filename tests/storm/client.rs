//! One rude client: what it owns, what it believes, and its life.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::link::{Fault, Link, Reply};
use crate::{Counts, deeds};

/// Ids of a client's rows begin here, times its tenant: no two clients share one.
pub(crate) const SPAN: i64 = 1_000_000;

/// Advisory locks that clients compete for.
pub(crate) const LOCKS: usize = 6;

/// What all clients share.
pub(crate) struct Storm {
    pub(crate) address: SocketAddr,
    deadline: Instant,
    clients: u64,
    /// Connections that are kept by their clients: whoever keeps all of them starves the others, which
    /// is no fault of a proxy.
    pub(crate) pins: Arc<Semaphore>,
    /// Transactions that wait for a second shard while they keep the first one.
    pub(crate) crossing: Semaphore,
    /// Transactions that do nothing for long.
    pub(crate) idlers: Semaphore,
    /// Large answers.
    pub(crate) large: Semaphore,
    /// Who holds an advisory lock says so here.
    pub(crate) locks: [AtomicBool; LOCKS],
    pub(crate) counts: Counts,
    pub(crate) cancelled: AtomicU64,
    statements: AtomicU64,
    slowest_ms: AtomicU64,
}

impl Storm {
    pub(crate) fn new(address: SocketAddr, clients: u64, size: usize, deadline: Instant) -> Self {
        Self {
            address,
            deadline,
            clients,
            pins: Arc::new(Semaphore::new(size / 3)),
            crossing: Semaphore::new(size / 4),
            idlers: Semaphore::new(2),
            large: Semaphore::new(2),
            locks: [const { AtomicBool::new(false) }; LOCKS],
            counts: Counts::default(),
            cancelled: AtomicU64::new(0),
            statements: AtomicU64::new(0),
            slowest_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// What was done, for people.
    #[expect(clippy::print_stderr, reason = "a test tells what it did")]
    pub(crate) fn report(&self, seed: u64, clients: usize) {
        eprintln!(
            "{clients} clients, seed {seed}: {} answers, the slowest after {} ms; {} statements cancelled; {}",
            self.statements.load(Ordering::Relaxed),
            self.slowest_ms.load(Ordering::Relaxed),
            self.cancelled.load(Ordering::Relaxed),
            self.counts.words()
        );
    }
}

/// A row before and after a write whose end nobody has seen; `None` where there is no row.
type Doubt = (Option<String>, Option<String>);

/// What a client believes to be on the shards.
pub(crate) struct Ledger {
    pub(crate) tenant: i64,
    pub(crate) rows: BTreeMap<i64, String>,
    /// Rows of writes that were under way when their client went.
    pub(crate) doubts: BTreeMap<i64, Doubt>,
}

impl Ledger {
    /// Whether rows are what they should be.
    pub(crate) fn agrees(&self, found: &BTreeMap<i64, String>) -> Result<(), Fault> {
        let mut expected = self.rows.clone();
        for (id, (before, after)) in &self.doubts {
            let row = found.get(id);
            if row != before.as_ref() && row != after.as_ref() {
                return Err(format!("row {id} is {row:?}, not {before:?} or {after:?}"));
            }
            match row {
                Some(body) => expected.insert(*id, body.clone()),
                None => expected.remove(id),
            };
        }
        if expected == *found {
            return Ok(());
        }
        let wrong = |a: &BTreeMap<i64, String>, b: &BTreeMap<i64, String>| {
            let rows = a.iter().filter(|(id, body)| b.get(id) != Some(body)).take(3);
            rows.map(|(id, body)| format!("{id}={body}")).collect::<Vec<_>>().join(", ")
        };
        Err(format!(
            "the rows of {}: found [{}] where [{}] should be",
            self.tenant,
            wrong(found, &expected),
            wrong(&expected, found)
        ))
    }

    /// Takes over what was seen of rows in doubt: what came about does not go again.
    pub(crate) fn learn(&mut self, found: &BTreeMap<i64, String>) {
        let rows = &mut self.rows;
        self.doubts.retain(|id, (_, after)| {
            if found.get(id) != after.as_ref() {
                return true;
            }
            match after.take() {
                Some(body) => rows.insert(*id, body),
                None => rows.remove(id),
            };
            false
        });
    }
}

/// A client.
pub(crate) struct Client {
    pub(crate) storm: Arc<Storm>,
    pub(crate) ledger: Ledger,
    pub(crate) random: SmallRng,
    pub(crate) link: Link,
    /// What differs from the defaults, outside transactions.
    pub(crate) settings: BTreeMap<&'static str, String>,
    /// Prepared statements: the factor in each.
    pub(crate) prepared: BTreeMap<&'static str, i64>,
    next: i64,
    history: VecDeque<String>,
}

/// What `ask` takes for granted.
pub(crate) fn fine(reply: &Reply, sql: &str) -> Result<(), Fault> {
    let code = reply.code();
    if !code.is_empty() || reply.ended {
        return Err(format!("{sql}: {} [{}]", reply.words(), reply.types()));
    }
    Ok(())
}

/// A fault unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($words:tt)*) => {
        if !$condition {
            return Err(format!($($words)*));
        }
    };
}
pub(crate) use ensure;

/// Lives until the storm is over; what it believes in the end.
pub(crate) async fn live(storm: Arc<Storm>, id: i64, seed: u64) -> Result<Ledger, Fault> {
    let seed = seed.wrapping_add(id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut random = SmallRng::seed_from_u64(seed);
    sleep(Duration::from_millis(random.random_range(0..500))).await;
    let link = Link::log_in(storm.address, &format!("storm-{id}")).await?;
    let mut client = Client {
        storm,
        ledger: Ledger { tenant: id, rows: BTreeMap::new(), doubts: BTreeMap::new() },
        random,
        link,
        settings: BTreeMap::new(),
        prepared: BTreeMap::new(),
        next: 1,
        history: VecDeque::new(),
    };
    let lived = client.live().await;
    let history = Vec::from(std::mem::take(&mut client.history)).join("; ");
    lived.map_err(|fault| format!("{fault}\n  it had done: {history}"))?;
    match client.below(3) {
        0 => client.link.terminate().await,
        1 => client.link.vanish(false),
        _ => client.link.vanish(true),
    }
    Ok(client.ledger)
}

impl Client {
    async fn live(&mut self) -> Result<(), Fault> {
        while !self.storm.is_over() {
            let deed = deeds::choose(self);
            self.note(deeds::NAMES[deed]);
            self.storm.counts.add(deed);
            deeds::perform(self, deed).await?;
            self.check_told(deed)?;
            // All of them together ask for the same, however many they are.
            let millis = self.storm.clients * 6;
            self.pause(millis).await;
        }
        self.read_own().await
    }

    /// Nothing comes to a client that is another's.
    fn check_told(&mut self, deed: usize) -> Result<(), Fault> {
        let deed = deeds::NAMES[deed];
        ensure!(self.link.heard.is_empty(), "{deed}: it heard {:?}", self.link.heard);
        ensure!(self.link.status == b'I', "{deed}: it is in a transaction");
        for (parameter, default) in
            [("TimeZone", "UTC"), ("application_name", self.name().as_str())]
        {
            let told = self.link.parameters.get(parameter).map(String::as_str);
            let own = self.settings.get(parameter).map_or(default, String::as_str);
            ensure!(told == Some(own), "{deed}: {parameter} is {own}, it was told {told:?}");
        }
        Ok(())
    }

    /// What it calls itself.
    pub(crate) fn name(&self) -> String {
        format!("storm-{}", self.ledger.tenant)
    }

    pub(crate) fn tenant(&self) -> i64 {
        self.ledger.tenant
    }

    /// For the report of a fault.
    pub(crate) fn note(&mut self, what: impl Into<String>) {
        if self.history.len() >= 14 {
            self.history.pop_front();
        }
        self.history.push_back(what.into());
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.random.random_range(0..bound)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of two.
    pub(crate) fn either<T>(&mut self, one: T, other: T) -> T {
        if self.chance(50) { one } else { other }
    }

    /// Up to so many milliseconds.
    pub(crate) async fn pause(&mut self, millis: u64) {
        let millis = self.below(millis + 1);
        sleep(Duration::from_millis(millis)).await;
    }

    /// An id that no row had yet.
    pub(crate) fn fresh(&mut self) -> i64 {
        self.next += 1;
        self.tenant() * SPAN + self.next
    }

    /// One of its rows that is not in doubt.
    pub(crate) fn some_row(&mut self) -> Option<i64> {
        let count = self.ledger.rows.len() as u64;
        if count == 0 {
            return None;
        }
        let at = self.below(count) as usize;
        let id = *self.ledger.rows.keys().nth(at)?;
        (!self.ledger.doubts.contains_key(&id)).then_some(id)
    }

    /// A statement by any protocol.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<Reply, Fault> {
        self.note(sql);
        let began = Instant::now();
        let reply = if self.chance(50) {
            self.link.query(sql).await
        } else {
            self.link.extended(sql, &[]).await
        };
        let reply = reply.map_err(|fault| format!("{sql}: {fault}"))?;
        self.storm.statements.fetch_add(1, Ordering::Relaxed);
        self.storm.slowest_ms.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
        Ok(reply)
    }

    /// A statement that must work.
    pub(crate) async fn ask(&mut self, sql: &str) -> Result<Reply, Fault> {
        let reply = self.run(sql).await?;
        fine(&reply, sql)?;
        Ok(reply)
    }

    /// A statement that must fail so.
    pub(crate) async fn fails(&mut self, sql: &str, code: &str) -> Result<(), Fault> {
        let reply = self.run(sql).await?;
        ensure!(reply.code() == code && !reply.ended, "{sql}: {} instead of {code}", reply.words());
        Ok(())
    }

    /// A new connection after the old one, which ends in any way.
    pub(crate) async fn come_again(&mut self) -> Result<(), Fault> {
        let link = Link::log_in(self.storm.address, &self.name()).await?;
        let old = std::mem::replace(&mut self.link, link);
        match self.below(3) {
            0 => old.terminate().await,
            1 => old.vanish(false),
            _ => old.vanish(true),
        }
        self.forget_session();
        Ok(())
    }

    /// The old connection ends first, then a new one begins.
    pub(crate) async fn come_back(&mut self) -> Result<(), Fault> {
        // A placeholder that is never spoken on would be one more connection: the old one is ended by hand.
        let abruptly = self.chance(50);
        self.link.hang_up(abruptly).await;
        self.link = Link::log_in(self.storm.address, &self.name()).await?;
        self.forget_session();
        Ok(())
    }

    /// The session is as it was in the beginning.
    pub(crate) async fn discard_all(&mut self) -> Result<(), Fault> {
        self.ask("DISCARD ALL").await?;
        self.settings.clear();
        self.prepared.clear();
        Ok(())
    }

    fn forget_session(&mut self) {
        self.settings.clear();
        self.prepared.clear();
        self.note("came back");
    }

    /// Its own rows, and nothing else.
    pub(crate) async fn read_own(&mut self) -> Result<(), Fault> {
        let found = self.read_within().await?;
        self.ledger.learn(&found);
        Ok(())
    }

    /// The same within a transaction that may come to nothing, and what it believes with it.
    pub(crate) async fn read_within(&mut self) -> Result<BTreeMap<i64, String>, Fault> {
        let sql = format!("SELECT id, body FROM notes WHERE tenant_id = {}", self.tenant());
        let reply = self.ask(&sql).await?;
        let found = rows_of(&reply)?;
        self.ledger.agrees(&found)?;
        Ok(found)
    }
}

/// Rows of id and body.
pub(crate) fn rows_of(reply: &Reply) -> Result<BTreeMap<i64, String>, Fault> {
    let mut found = BTreeMap::new();
    for row in reply.rows() {
        let [id, body] = row.as_slice() else { return Err(format!("a row of {row:?}")) };
        let id = id.parse().map_err(|_| format!("an id of {id}"))?;
        ensure!(found.insert(id, body.clone()).is_none(), "row {id} came twice");
    }
    Ok(found)
}
