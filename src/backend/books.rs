//! What is known of shards and connections without asking them: counters, states, the gates of shards
//! that are paused or drained.
//!
//! Main types: [`Books`] (all of one process), [`ShardBook`] (one shard, by name: it outlives a change of
//! the map), [`ConnectionBook`] (one pooled connection). They are written by whoever owns a connection, with
//! relaxed atomics, and read by operators' commands: no lock is on a statement's way.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use dashmap::DashMap;
use tokio::sync::Notify;

use super::error::BackendError;
use super::target::Target;
use crate::map::ConnectionTarget;
use crate::wire::backend::STATUS_IDLE;

/// The books of all shards and connections.
#[derive(Debug)]
pub struct Books {
    shards: DashMap<String, Arc<ShardBook>>,
    connections: DashMap<u64, Weak<ConnectionBook>>,
    /// Whom the proxy itself logs in to, now and again.
    targets: DashMap<ConnectionTarget, Arc<Target>>,
    next: AtomicU64,
    /// Times of use are counted from here.
    epoch: Instant,
}

impl Default for Books {
    fn default() -> Self {
        Self {
            shards: DashMap::new(),
            connections: DashMap::new(),
            targets: DashMap::new(),
            next: AtomicU64::new(1),
            epoch: Instant::now(),
        }
    }
}

impl Books {
    /// The book of the shard of this name.
    pub fn shard(&self, name: &str) -> Arc<ShardBook> {
        if let Some(known) = self.shards.get(name) {
            return Arc::clone(&known);
        }
        let fresh = || Arc::new(ShardBook::new(name));
        Arc::clone(&self.shards.entry(name.to_owned()).or_insert_with(fresh))
    }

    /// Where a URL leads. Who asks again is given the same, with the SCRAM keys that it has accepted: to make them of
    /// the password each time costs more than the rest of a login.
    pub fn target(&self, url: &ConnectionTarget) -> Arc<Target> {
        /// Those of maps that are not used any more go when there are so many.
        const TARGETS_MAX: usize = 10_000;
        if let Some(known) = self.targets.get(url) {
            return Arc::clone(&known);
        }
        if self.targets.len() >= TARGETS_MAX {
            self.targets.clear();
        }
        let fresh = || Arc::new(Target::from(url));
        Arc::clone(&self.targets.entry(url.clone()).or_insert_with(fresh))
    }

    /// Every pooled connection that there is, the oldest first.
    pub fn connections(&self) -> Vec<Arc<ConnectionBook>> {
        let mut found: Vec<_> = self.connections.iter().filter_map(|own| own.upgrade()).collect();
        found.sort_by_key(|connection| connection.number);
        found
    }

    /// A new connection's book; it leaves when the connection is dropped.
    pub(super) fn open(
        self: &Arc<Self>,
        shard: Arc<ShardBook>,
        user: &str,
        pid: i32,
        retired: Arc<AtomicBool>,
    ) -> Entry {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let book = Arc::new(ConnectionBook {
            number,
            shard,
            user: user.into(),
            pid: AtomicI32::new(pid),
            since: SystemTime::now(),
            opened: Instant::now(),
            leased: AtomicBool::new(true),
            works: AtomicBool::new(false),
            status: AtomicU8::new(STATUS_IDLE),
            statements: AtomicU64::new(0),
            released_ms: AtomicU64::new(self.now_ms(Instant::now())),
            retired,
        });
        self.connections.insert(number, Arc::downgrade(&book));
        Entry { books: Arc::clone(self), book }
    }

    fn now_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }

    /// How long a connection has not been used; `None` while someone has it.
    pub fn idle_for(&self, connection: &ConnectionBook, now: Instant) -> Option<Duration> {
        if connection.leased.load(Ordering::Relaxed) {
            return None;
        }
        let released = connection.released_ms.load(Ordering::Relaxed);
        Some(Duration::from_millis(self.now_ms(now).saturating_sub(released)))
    }
}

/// Who may have connections to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Everybody.
    Open,
    /// Who asks now waits until it is open again.
    Paused,
    /// Who asks now is refused.
    Draining,
}

impl Gate {
    const ALL: [Self; 3] = [Self::Open, Self::Paused, Self::Draining];

    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

/// Upper bounds of the latency histogram's buckets, in microseconds; one more is without a bound.
pub const LATENCY_BOUNDS_US: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    5_000_000, 30_000_000,
];

/// One shard's counters since the process started, and its gate.
#[derive(Debug)]
pub struct ShardBook {
    name: Box<str>,
    gate: AtomicU8,
    /// It answered when it was last asked for its health, and no connection to it has failed since.
    up: AtomicBool,
    /// The gate has changed, or a connection was closed behind it.
    changed: Notify,
    /// Requests that were answered: statements, and what the proxy says for itself (settings, BEGIN).
    pub statements: AtomicU64,
    /// Times that the shard was in no transaction after one.
    pub transactions: AtomicU64,
    /// Statements that it answered with an error.
    pub errors: AtomicU64,
    /// Bytes to it.
    pub sent_bytes: AtomicU64,
    /// Bytes from it.
    pub received_bytes: AtomicU64,
    /// Time between a request and the end of its answer, in microseconds.
    pub busy_us: AtomicU64,
    latency: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    /// The longest that anyone waited for a connection.
    longest_wait_us: AtomicU64,
}

impl ShardBook {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            gate: AtomicU8::new(0),
            up: AtomicBool::new(false),
            changed: Notify::new(),
            statements: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            busy_us: AtomicU64::new(0),
            latency: [const { AtomicU64::new(0) }; LATENCY_BOUNDS_US.len() + 1],
            longest_wait_us: AtomicU64::new(0),
        }
    }

    /// The shard's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its gate.
    #[inline]
    pub fn gate(&self) -> Gate {
        let gate = usize::from(self.gate.load(Ordering::Relaxed));
        Gate::ALL.get(gate).copied().unwrap_or(Gate::Open)
    }

    /// It is open to everybody, answered when it was last asked for its health, and no connection to it
    /// has failed since.
    #[inline]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed) && self.gate() == Gate::Open
    }

    /// It was asked for its health and has answered, or something has failed.
    pub fn note_health(&self, well: bool) {
        self.up.store(well, Ordering::Relaxed);
    }

    /// Moves the gate.
    pub fn set_gate(&self, gate: Gate) {
        self.gate.store(gate as u8, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// The longest that anyone waited for a connection to it.
    pub fn longest_wait(&self) -> Duration {
        Duration::from_micros(self.longest_wait_us.load(Ordering::Relaxed))
    }

    /// How many statements took up to each of [`LATENCY_BOUNDS_US`], and longer; not cumulated.
    pub fn latencies(&self) -> [u64; LATENCY_BOUNDS_US.len() + 1] {
        std::array::from_fn(|n| self.latency.get(n).map_or(0, |n| n.load(Ordering::Relaxed)))
    }

    /// Waits for the gate, at most so long; meanwhile it is counted in `waiting`.
    ///
    /// # Errors
    ///
    /// It stayed closed, or the shard is drained.
    pub(super) async fn pass_gate(
        &self,
        waiting: &AtomicUsize,
        timeout: Duration,
    ) -> Result<(), BackendError> {
        let _counted = Waiting::new(waiting);
        let wait = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                // Registered before the look, so that no change between the two is missed.
                changed.as_mut().enable();
                match self.gate() {
                    Gate::Open => return Ok(()),
                    Gate::Draining => return Err(BackendError::Draining),
                    Gate::Paused => changed.await,
                }
            }
        };
        let began = Instant::now();
        let outcome = tokio::time::timeout(timeout, wait).await;
        self.waited(began.elapsed());
        outcome.unwrap_or(Err(BackendError::Paused(timeout)))
    }

    pub(super) fn waited(&self, time: Duration) {
        self.longest_wait_us.fetch_max(time.as_micros() as u64, Ordering::Relaxed);
    }

    fn answered(&self, status: u8, took: Option<Duration>) {
        self.statements.fetch_add(1, Ordering::Relaxed);
        if status == STATUS_IDLE {
            self.transactions.fetch_add(1, Ordering::Relaxed);
        }
        let Some(took) = took else { return };
        let took = took.as_micros() as u64;
        self.busy_us.fetch_add(took, Ordering::Relaxed);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < took);
        if let Some(bucket) = self.latency.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A client that waits, for as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection to a shard is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It waits in its pool.
    Idle,
    /// It works on a statement.
    Active,
    /// A client has it, and a transaction on it.
    InTransaction,
    /// A client has it, and no transaction.
    Held,
}

impl Doing {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::InTransaction => "idle in transaction",
            Self::Held => "held",
        }
    }
}

/// One pooled connection.
#[derive(Debug)]
pub struct ConnectionBook {
    /// Its number, in the order in which connections were made.
    pub number: u64,
    /// Its shard.
    pub shard: Arc<ShardBook>,
    /// The role.
    pub user: Box<str>,
    pid: AtomicI32,
    /// When it was made.
    pub since: SystemTime,
    opened: Instant,
    leased: AtomicBool,
    works: AtomicBool,
    status: AtomicU8,
    statements: AtomicU64,
    released_ms: AtomicU64,
    /// Its pool is not used any more.
    retired: Arc<AtomicBool>,
}

impl ConnectionBook {
    /// The backend's process number.
    pub fn pid(&self) -> i32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// How long it is there.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened)
    }

    /// What it does.
    pub fn doing(&self) -> Doing {
        if !self.leased.load(Ordering::Relaxed) {
            Doing::Idle
        } else if self.works.load(Ordering::Relaxed) {
            Doing::Active
        } else if self.status.load(Ordering::Relaxed) == STATUS_IDLE {
            Doing::Held
        } else {
            Doing::InTransaction
        }
    }

    /// When its last user was done with it: tells one use from the next.
    pub fn released_ms(&self) -> u64 {
        self.released_ms.load(Ordering::Relaxed)
    }

    /// Statements that it has answered.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// It need not be kept when its client is done.
    fn may_be_kept(&self) -> bool {
        self.shard.gate() == Gate::Open && !self.retired.load(Ordering::Relaxed)
    }
}

/// A connection's hand on its book.
#[derive(Debug)]
pub(super) struct Entry {
    books: Arc<Books>,
    book: Arc<ConnectionBook>,
}

impl Entry {
    pub(super) fn leased(&self) {
        self.book.leased.store(true, Ordering::Relaxed);
    }

    /// False: it is to be closed instead.
    pub(super) fn released(&self, now: Instant) -> bool {
        self.book.released_ms.store(self.books.now_ms(now), Ordering::Relaxed);
        self.book.leased.store(false, Ordering::Relaxed);
        self.book.may_be_kept()
    }

    pub(super) fn begins(&self) {
        self.book.works.store(true, Ordering::Relaxed);
    }

    /// `took` is known for the last answer of several only.
    pub(super) fn answered(&self, status: u8, took: Option<Duration>) {
        let book = &self.book;
        // Only the connection's own task writes these.
        book.status.store(status, Ordering::Relaxed);
        book.statements.store(book.statements.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        if took.is_some() {
            book.works.store(false, Ordering::Relaxed);
        }
        book.shard.answered(status, took);
    }

    pub(super) fn failed(&self) {
        self.book.shard.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lost(&self) {
        self.book.shard.note_health(false);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.book.shard.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.book.shard.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.books.connections.remove(&self.book.number);
        if self.book.shard.gate() != Gate::Open {
            self.book.shard.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_known_for_as_long_as_it_lives() {
        let books = Arc::new(Books::default());
        let entry = books.open(books.shard("deu"), "bot", 7, Arc::default());
        let book = Arc::clone(&books.connections()[0]);
        assert_eq!((book.pid(), book.doing()), (7, Doing::Held));
        entry.begins();
        assert_eq!(book.doing(), Doing::Active);
        entry.answered(b'T', Some(Duration::from_micros(300)));
        assert_eq!(book.doing(), Doing::InTransaction);
        entry.answered(b'I', None);
        let shard = books.shard("deu");
        assert_eq!(shard.statements.load(Ordering::Relaxed), 2);
        assert_eq!(shard.transactions.load(Ordering::Relaxed), 1);
        assert_eq!(shard.latencies()[2], 1);
        assert!(entry.released(Instant::now()));
        assert_eq!(book.doing(), Doing::Idle);
        assert!(books.idle_for(&book, Instant::now()).is_some());
        shard.set_gate(Gate::Paused);
        assert!(!entry.released(Instant::now()));
        drop(entry);
        assert!(books.connections().is_empty());
    }

    #[test]
    fn a_target_is_the_same_as_long_as_its_url_is() {
        let books = Books::default();
        let of = |url: &str| books.target(&ConnectionTarget::parse(url, &|_| None).unwrap());
        let first = of("postgresql://bot:one@shard/bots");
        assert!(Arc::ptr_eq(&first, &of("postgresql://bot:one@shard/bots")));
        assert!(!Arc::ptr_eq(&first, &of("postgresql://bot:two@shard/bots")));
    }
}
