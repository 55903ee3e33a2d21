//! Who is connected, for operators: what each client does, and how to end it.
//!
//! [`Clients`] knows every [`ClientState`]; a [`Client`] is the client's own hand on it and takes it away
//! when dropped. The state is written with relaxed atomics by the client's own task and read by whoever
//! asks; nothing on a statement's way locks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use dashmap::DashMap;
use tokio::task::AbortHandle;

use super::cancel::CancelKey;
use super::pins::{Pin, Pins};

/// Every client that is connected, by the process number that it was given.
#[derive(Debug, Default)]
pub struct Clients {
    live: DashMap<i32, Arc<ClientState>>,
    /// Milliseconds since some moment, as of a little while ago; it stands still unless somebody sets it.
    clock: AtomicU64,
}

impl Clients {
    /// A client has come.
    pub fn enter(self: &Arc<Self>, state: ClientState) -> Client {
        let state = Arc::new(state);
        self.live.insert(state.id(), Arc::clone(&state));
        Client { clients: Arc::clone(self), state }
    }

    /// All of them, by id.
    pub fn all(&self) -> Vec<Arc<ClientState>> {
        let mut found: Vec<_> = self.live.iter().map(|client| Arc::clone(&client)).collect();
        found.sort_by_key(|client| client.id());
        found
    }

    /// Sets the clock that states are stamped with: reading a coarse one costs a statement nothing.
    pub(super) fn set_clock(&self, now: u64) {
        self.clock.store(now, Ordering::Relaxed);
    }

    /// Looks at every one of them. `look` must not come back here.
    pub(super) fn each(&self, mut look: impl FnMut(&Arc<ClientState>)) {
        self.live.iter().for_each(|client| look(&client));
    }

    /// One of them.
    pub fn find(&self, id: i32) -> Option<Arc<ClientState>> {
        self.live.get(&id).map(|client| Arc::clone(&client))
    }
}

/// The reasons of these bits, with commas between them.
pub fn pin_reasons(pins: u32) -> String {
    let named = Pin::ALL.into_iter().filter(|pin| pins & Pins::of(*pin).bits() != 0);
    let set: Vec<&str> = named.map(Pin::label).collect();
    set.join(", ")
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It has nothing to do.
    Idle,
    /// A statement runs, or waits for a connection.
    Active,
    /// It is in a transaction and says nothing.
    IdleInTransaction,
    /// The same, and the transaction has failed.
    IdleInFailedTransaction,
}

impl Activity {
    const ALL: [Self; 4] =
        [Self::Idle, Self::Active, Self::IdleInTransaction, Self::IdleInFailedTransaction];

    /// As `pg_stat_activity.state` has it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::IdleInTransaction => "idle in transaction",
            Self::IdleInFailedTransaction => "idle in transaction (aborted)",
        }
    }

    /// Between statements, by the status byte of `ReadyForQuery`.
    pub fn between(status: u8) -> Self {
        match status {
            b'T' => Self::IdleInTransaction,
            b'E' => Self::IdleInFailedTransaction,
            _ => Self::Idle,
        }
    }
}

/// One client.
#[derive(Debug)]
pub struct ClientState {
    /// The key it was given: its process number is its id.
    pub key: CancelKey,
    /// Who it logged in as.
    pub user: String,
    /// The database it is connected to.
    pub database: String,
    /// `application_name` of its start-up packet.
    pub application: String,
    /// Where it is.
    pub address: SocketAddr,
    /// Since when it is connected.
    pub since: SystemTime,
    /// Its task, to end it when it does not listen.
    pub task: Arc<OnceLock<AbortHandle>>,
    activity: AtomicU8,
    in_transaction: AtomicBool,
    statements: AtomicU64,
    /// When its activity was last stamped, by [`Clients::set_clock`].
    stamp: AtomicU64,
    /// The stamp (and one) of the activity that took too long.
    overdue: AtomicU64,
    /// Why its connection is pinned: a bit for each reason.
    pins: AtomicU32,
    killed: AtomicBool,
}

impl ClientState {
    /// A client that has just come in.
    pub fn new(
        key: CancelKey,
        user: &str,
        database: &str,
        application: &str,
        address: SocketAddr,
        task: Arc<OnceLock<AbortHandle>>,
    ) -> Self {
        Self {
            key,
            user: user.to_owned(),
            database: database.to_owned(),
            application: application.to_owned(),
            address,
            since: SystemTime::now(),
            task,
            activity: AtomicU8::new(0),
            in_transaction: AtomicBool::new(false),
            statements: AtomicU64::new(0),
            stamp: AtomicU64::new(0),
            overdue: AtomicU64::new(0),
            pins: AtomicU32::new(0),
            killed: AtomicBool::new(false),
        }
    }

    /// What operators call it: the process number that it was given.
    pub fn id(&self) -> i32 {
        self.key.pid
    }

    #[inline]
    fn begins(&self, now: u64) {
        self.stamp.store(now, Ordering::Relaxed);
        self.activity.store(Activity::Active as u8, Ordering::Relaxed);
        // Nobody else writes it: no read-modify-write is needed.
        self.statements.store(self.statements.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    #[inline]
    fn done(&self, status: u8, now: u64) {
        self.stamp.store(now, Ordering::Relaxed);
        self.activity.store(Activity::between(status) as u8, Ordering::Relaxed);
        self.in_transaction.store(status != b'I', Ordering::Relaxed);
    }

    /// For how long it has done what it does, by a coarse clock in milliseconds.
    pub(super) fn active_for(&self, now: u64) -> u64 {
        now.saturating_sub(self.stamp.load(Ordering::Relaxed))
    }

    /// What it does takes too long.
    pub(super) fn expire(&self) {
        self.overdue.store(self.stamp.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// It was not told so after all.
    pub(super) fn forgive(&self) {
        self.overdue.store(0, Ordering::Relaxed);
    }

    /// What it does took too long: a statement was cancelled, a transaction lay idle.
    #[inline]
    pub fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Relaxed) == self.stamp.load(Ordering::Relaxed) + 1
    }

    /// What it does.
    pub fn activity(&self) -> Activity {
        let index = usize::from(self.activity.load(Ordering::Relaxed));
        Activity::ALL.get(index).copied().unwrap_or(Activity::Idle)
    }

    /// It is in a transaction block (while a statement runs: it was when that began).
    pub fn in_transaction(&self) -> bool {
        self.in_transaction.load(Ordering::Relaxed)
    }

    /// Statements so far; of the extended protocol, units up to Sync or Flush.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Says why its connection is pinned: the bits of [`Pins`].
    pub fn set_pins(&self, pins: u32) {
        self.pins.store(pins, Ordering::Relaxed);
    }

    /// See [`Self::set_pins`].
    pub fn pins(&self) -> u32 {
        self.pins.load(Ordering::Relaxed)
    }

    /// It is to go.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
    }

    /// An operator wants it to go.
    #[inline]
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }
}

/// A client's own hand on its state: the state is gone when it is dropped.
#[derive(Debug)]
pub struct Client {
    clients: Arc<Clients>,
    state: Arc<ClientState>,
}

impl Client {
    /// A statement (or a unit of extended messages) begins.
    #[inline]
    pub fn begins(&self) {
        self.state.begins(self.clients.clock.load(Ordering::Relaxed));
    }

    /// It is done; `status` is that of the `ReadyForQuery` that follows.
    #[inline]
    pub fn done(&self, status: u8) {
        self.state.done(status, self.clients.clock.load(Ordering::Relaxed));
    }
}

impl std::ops::Deref for Client {
    type Target = ClientState;

    fn deref(&self) -> &ClientState {
        &self.state
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.clients.live.remove(&self.state.id());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_while_it_is_there() {
        let clients = Arc::new(Clients::default());
        let key = CancelKey { pid: 7, secret: 1 };
        let address = SocketAddr::from(([127, 0, 0, 1], 5));
        let state = ClientState::new(key, "bot", "bots", "psql", address, Arc::default());
        let client = clients.enter(state);
        client.begins();
        let seen = clients.find(7).unwrap();
        assert_eq!((seen.activity(), seen.statements()), (Activity::Active, 1));
        client.done(b'E');
        assert_eq!(seen.activity(), Activity::IdleInFailedTransaction);
        assert!(seen.in_transaction() && !client.is_killed());
        seen.kill();
        assert!(client.is_killed());
        clients.set_clock(5);
        client.begins();
        assert_eq!(seen.active_for(12), 7);
        seen.expire();
        assert!(client.is_overdue());
        clients.set_clock(13);
        client.done(b'I');
        assert!(!client.is_overdue());
        drop(client);
        assert!(clients.all().is_empty());
    }
}
