//! Cancel requests: from the key a client was given to the connection that works for it.
//!
//! A cancel must never hit another client's statement. The slot of a client holds, in one atomic word,
//! which backend works for it; a canceller marks that word before it sends anything, and whoever gives
//! the connection back sees the mark and first waits until the request is done with ([`Quiet`]). The
//! server closes a cancel request's connection after it has sent the signal, and forgets a signal that
//! finds it waiting for a command (`ProcessInterrupts` and `DoingCommandRead` in `postgres.c`): from then
//! on the connection is as good as any.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tracing::debug;

use super::Shared;
use super::io::ClientIo;
use super::relay::poll_gone;
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::mapstore::Store;
use crate::observe::{METRICS, add};

/// How long a shard may take to accept a cancel request.
pub(super) const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// The key of `BackendKeyData`: process number and secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CancelKey {
    /// Process number: unique among the clients of this proxy.
    pub pid: i32,
    /// Secret.
    pub secret: i32,
}

/// `MARKED | shard (16 bits) | backend pid (32 bits)`, 0 when no backend works.
const MARKED: u64 = 1 << 63;
const WORKING: u64 = 1 << 62;
/// More backends work, see [`Slot::others`].
const SEVERAL: u64 = 1 << 61;

#[derive(Debug)]
struct Slot {
    working: AtomicU64,
    /// The backend's secret, valid while `working` says so; protocol 3.0 keys are four bytes.
    secret: AtomicI32,
    /// The other backends of a statement over several shards.
    others: Mutex<Vec<Backend>>,
    /// While the client waits for its turn: who is told that it wants it no more.
    waits: Mutex<Option<oneshot::Sender<()>>>,
    /// The cancel requests since it was last marked: each says when all of its shards have taken it, or
    /// ends without a word.
    requests: Mutex<Vec<watch::Receiver<bool>>>,
    /// Whose map the shards' numbers are of.
    store: Arc<Store>,
}

/// A backend that works for a client: its shard, process number and secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its shard.
    pub shard: ShardId,
    /// Its process number.
    pub pid: i32,
    /// Its secret.
    pub secret: i32,
}

/// All clients that can be cancelled.
#[derive(Debug, Default)]
pub struct Cancels {
    next: AtomicI32,
    clients: DashMap<CancelKey, Arc<Slot>>,
}

/// A client's place in [`Cancels`]; it leaves when dropped.
#[derive(Debug)]
pub struct CancelSlot {
    key: CancelKey,
    slot: Arc<Slot>,
    cancels: Arc<Cancels>,
}

impl Cancels {
    /// A new client's slot; its shards are those of that store's map.
    pub fn register(self: &Arc<Self>, store: &Arc<Store>) -> CancelSlot {
        let secret = rand::random::<i32>();
        let pid = self.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & i32::MAX;
        let key = CancelKey { pid, secret };
        let slot = Arc::new(Slot::new(Arc::clone(store)));
        self.clients.insert(key, Arc::clone(&slot));
        CancelSlot { key, slot, cancels: Arc::clone(self) }
    }

    /// Which backends to cancel for a key, if any work for it. The connections are marked: nobody else gets
    /// them before the requests are done with.
    fn mark(&self, key: CancelKey) -> Option<Marked> {
        let slot = self.clients.get(&key).map(|slot| Arc::clone(slot.value()))?;
        slot.mark()
    }

    /// The backends that a client has now: their shards' names and process numbers.
    pub fn places(&self, key: CancelKey) -> Vec<(String, i32)> {
        let Some(slot) = self.clients.get(&key).map(|slot| Arc::clone(slot.value())) else {
            return Vec::new();
        };
        let map = &slot.store.current().map;
        let backends = slot.backends().into_iter();
        backends.map(|own| (map.shard_name(own.shard).to_owned(), own.pid)).collect()
    }

    /// A client that waits for a connection is told to give it up; false if it does not wait.
    fn call_off(&self, key: CancelKey) -> bool {
        let slot = self.clients.get(&key).map(|slot| Arc::clone(slot.value()));
        slot.is_some_and(|slot| slot.call_off())
    }

    /// How many clients there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// There is no client.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

impl Slot {
    fn new(store: Arc<Store>) -> Self {
        Self {
            working: AtomicU64::default(),
            secret: AtomicI32::default(),
            others: Mutex::default(),
            waits: Mutex::default(),
            requests: Mutex::default(),
            store,
        }
    }

    /// Takes a waiting client out of its queue; false if it does not wait.
    fn call_off(&self) -> bool {
        let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner).take();
        waits.is_some_and(|waits| waits.send(()).is_ok())
    }

    fn mark(&self) -> Option<Marked> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let working = self.working.load(Ordering::Acquire);
        let backends = self.backends_of(working);
        if backends.is_empty() {
            return None;
        }
        self.working
            .compare_exchange(working, working | MARKED, Ordering::AcqRel, Ordering::Relaxed)
            .ok()?;
        let (taken, request) = watch::channel(false);
        // Whoever sees the mark waits for the lock.
        requests.push(request);
        Some(Marked { backends, taken, store: Arc::clone(&self.store) })
    }

    fn backends(&self) -> Vec<Backend> {
        self.backends_of(self.working.load(Ordering::Acquire))
    }

    fn backends_of(&self, working: u64) -> Vec<Backend> {
        let mut backends = Vec::new();
        if working & WORKING == 0 {
            return backends;
        }
        let secret = self.secret.load(Ordering::Acquire);
        if working & SEVERAL != 0 {
            backends.clone_from(&self.others.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let shard = ShardId((working >> 32) as u16);
        backends.push(Backend { shard, pid: working as u32 as i32, secret });
        backends
    }
}

impl CancelSlot {
    /// The key that the client is given.
    pub fn key(&self) -> CancelKey {
        self.key
    }

    /// The client begins to wait for its turn.
    fn waits(&self) -> Waiting {
        let (call_off, called_off) = oneshot::channel();
        *self.slot.waits.lock().unwrap_or_else(PoisonError::into_inner) = Some(call_off);
        Waiting { slot: Arc::clone(&self.slot), called_off }
    }

    /// Waits for something that other clients are waited for with (a connection, a place), as long as this
    /// client wants it.
    ///
    /// # Cancel safety
    ///
    /// That of `turn`.
    pub(super) async fn wait<T>(
        &self,
        io: &mut ClientIo,
        turn: impl Future<Output = T>,
    ) -> Result<T, Impatience> {
        let mut turn = pin!(turn);
        let mut waiting = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = turn.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            let waiting: &mut Waiting = waiting.get_or_insert_with(|| self.waits());
            if Pin::new(&mut waiting.called_off).poll(cx).is_ready() {
                return Poll::Ready(Err(Impatience::Cancelled));
            }
            poll_gone(cx, io).map(|()| Err(Impatience::Gone))
        })
        .await
    }

    /// A backend works for this client from now on.
    pub(super) fn working(&self, shard: ShardId, pid: i32, secret: i32) {
        self.slot.secret.store(secret, Ordering::Release);
        let word = WORKING | (u64::from(shard.0) << 32) | u64::from(pid as u32);
        self.slot.working.store(word, Ordering::Release);
    }

    /// These backends work for this client from now on.
    pub(super) fn working_all(&self, mut backends: Vec<Backend>) {
        let Some(last) = backends.pop() else { return };
        *self.slot.others.lock().unwrap_or_else(PoisonError::into_inner) = backends;
        self.slot.secret.store(last.secret, Ordering::Release);
        let word = WORKING | SEVERAL | (u64::from(last.shard.0) << 32) | u64::from(last.pid as u32);
        self.slot.working.store(word, Ordering::Release);
    }

    /// No backend works any more. If a cancel may be on its way to the one that did, nobody else may use
    /// it before that is known to be over.
    pub(super) fn rest(&self) -> Option<Quiet> {
        let marked = self.slot.working.swap(0, Ordering::AcqRel) & MARKED != 0;
        marked.then(|| {
            let mut requests = self.slot.requests.lock().unwrap_or_else(PoisonError::into_inner);
            Quiet(std::mem::take(&mut *requests))
        })
    }
}

/// Why a client no longer waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Impatience {
    /// It was cancelled.
    Cancelled,
    /// The client is gone.
    Gone,
}

impl Impatience {
    /// What the client is told, if it is still there.
    pub(super) fn sql_error(self) -> SqlError {
        match self {
            // PostgreSQL's own words (`ProcessInterrupts`).
            Self::Cancelled => {
                SqlError::new(SqlState::QUERY_CANCELED, "canceling statement due to user request")
            }
            Self::Gone => SqlError::new(SqlState::CONNECTION_FAILURE, "the client is gone"),
        }
    }
}

/// A client that waits for its turn, until it is dropped.
struct Waiting {
    slot: Arc<Slot>,
    called_off: oneshot::Receiver<()>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.slot.waits.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Cancel requests that were on their way to a connection when its client was done with it.
#[derive(Clone, Debug)]
pub(super) struct Quiet(Vec<watch::Receiver<bool>>);

impl Quiet {
    /// Waits until they have arrived; false if that can't be known.
    pub(super) async fn wait(mut self) -> bool {
        let all = async {
            for request in &mut self.0 {
                if request.wait_for(|taken| *taken).await.is_err() {
                    return false;
                }
            }
            true
        };
        matches!(tokio::time::timeout(CANCEL_TIMEOUT, all).await, Ok(true))
    }
}

/// Backends that are about to be cancelled.
struct Marked {
    backends: Vec<Backend>,
    /// To be told when all of their shards have taken the request.
    taken: watch::Sender<bool>,
    store: Arc<Store>,
}

impl Shared {
    /// Cancels what runs for a client, on all of its shards at once, or its waiting for a connection; false
    /// if it does neither.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the requests may or may not arrive; the connections are closed when their client is done
    /// with them.
    pub async fn cancel(&self, key: CancelKey) -> bool {
        // What it holds has nothing to do while it waits for more.
        if self.cancels.call_off(key) {
            return true;
        }
        let Some(marked) = self.cancels.mark(key) else { return false };
        let map = Arc::clone(&marked.store.current().map);
        let mut requests = JoinSet::new();
        for Backend { shard, pid, secret } in marked.backends.clone() {
            let Some(shard) = map.shards().get(usize::from(shard.0)) else { continue };
            add(&METRICS.cancels, 1);
            let (name, target) = (shard.name.clone(), (&shard.url).into());
            requests.spawn(async move {
                let secret = secret.to_be_bytes();
                let sent = crate::backend::cancel(&target, pid, &secret, CANCEL_TIMEOUT).await;
                if let Err(error) = &sent {
                    debug!(%error, shard = name, "a cancel request did not reach the shard");
                }
                sent.is_ok()
            });
        }
        let expected = marked.backends.len();
        let taken = requests.join_all().await;
        if taken.len() == expected && taken.iter().all(|taken| *taken) {
            marked.taken.send_replace(true);
        }
        true
    }
}

impl Drop for CancelSlot {
    fn drop(&mut self) {
        self.cancels.clients.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::ShardMap;

    fn store() -> Arc<Store> {
        let text = "version = 1\ndatabase = \"d\"\ndefault_shard = \"a\"\n\
            shards = [ { id = 1, name = \"a\", url = \"postgresql://u@h/d\" } ]\n";
        Arc::new(Store::new(ShardMap::parse("test", text, &|_| None).unwrap().0))
    }

    #[test]
    fn a_cancel_finds_the_backend_and_marks_it() {
        let cancels = Arc::new(Cancels::default());
        let slot = cancels.register(&store());
        let backends = |key| cancels.mark(key).map(|marked| marked.backends.clone());
        assert_eq!(backends(slot.key()), None);
        slot.working(ShardId(3), 4711, 9);
        let first = Backend { shard: ShardId(3), pid: 4711, secret: 9 };
        assert_eq!(backends(slot.key()), Some(vec![first]));
        assert!(slot.rest().is_some());
        assert!(slot.rest().is_none());
        let wrong = CancelKey { secret: slot.key().secret.wrapping_add(1), ..slot.key() };
        assert_eq!(backends(wrong), None);
        let second = Backend { shard: ShardId(1), pid: 5, secret: 6 };
        slot.working_all(vec![first, second]);
        assert_eq!(backends(slot.key()), Some(vec![first, second]));
        assert!(slot.rest().is_some());
        drop(slot);
        assert!(cancels.is_empty());
    }

    #[tokio::test]
    async fn a_connection_waits_for_the_cancel_that_is_on_its_way() {
        let cancels = Arc::new(Cancels::default());
        let slot = cancels.register(&store());
        slot.working(ShardId(0), 1, 1);
        let marked = cancels.mark(slot.key()).unwrap();
        let quiet = slot.rest().unwrap();
        let waiting = tokio::spawn(quiet.clone().wait());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        marked.taken.send_replace(true);
        drop(marked);
        assert!(waiting.await.unwrap());
        // One that went astray may arrive at any time.
        slot.working(ShardId(0), 1, 1);
        drop(cancels.mark(slot.key()));
        assert!(!slot.rest().unwrap().wait().await);
    }
}
