//! Cancel requests: from the key a client was given to the connection that works for it.
//!
//! A cancel must never hit another client's statement. The slot of a client holds, in one atomic word,
//! which backend works for it; a canceller marks that word before it sends anything, and whoever gives
//! the connection back sees the mark and closes it instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use dashmap::DashMap;

use crate::map::ShardId;

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

#[derive(Debug, Default)]
struct Slot {
    working: AtomicU64,
    /// The backend's secret, valid while `working` says so; protocol 3.0 keys are four bytes.
    secret: AtomicI32,
    /// The other backends of a statement over several shards.
    others: Mutex<Vec<Backend>>,
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
    /// A new client's slot.
    pub fn register(self: &Arc<Self>) -> CancelSlot {
        let secret = rand::random::<i32>();
        let pid = self.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & i32::MAX;
        let key = CancelKey { pid, secret };
        let slot = Arc::new(Slot::default());
        self.clients.insert(key, Arc::clone(&slot));
        CancelSlot { key, slot, cancels: Arc::clone(self) }
    }

    /// Which backends to cancel for a key. The connections are marked, so that their client closes them
    /// when done.
    pub fn mark(&self, key: CancelKey) -> Vec<Backend> {
        let slot = self.clients.get(&key).map(|slot| Arc::clone(slot.value()));
        slot.and_then(|slot| slot.mark()).unwrap_or_default()
    }

    /// The backends that a client has now, without marking them.
    pub fn backends(&self, key: CancelKey) -> Vec<Backend> {
        let slot = self.clients.get(&key).map(|slot| Arc::clone(slot.value()));
        slot.map(|slot| slot.backends()).unwrap_or_default()
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
    fn mark(&self) -> Option<Vec<Backend>> {
        let working = self.working.load(Ordering::Acquire);
        let backends = self.backends_of(working);
        if backends.is_empty() {
            return None;
        }
        self.working
            .compare_exchange(working, working | MARKED, Ordering::AcqRel, Ordering::Relaxed)
            .ok()?;
        Some(backends)
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

    /// No backend works any more; true if a cancel may be on its way to the one that did.
    pub(super) fn rest(&self) -> bool {
        self.slot.working.swap(0, Ordering::AcqRel) & MARKED != 0
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

    #[test]
    fn a_cancel_finds_the_backend_and_marks_it() {
        let cancels = Arc::new(Cancels::default());
        let slot = cancels.register();
        assert_eq!(cancels.mark(slot.key()), []);
        slot.working(ShardId(3), 4711, 9);
        let first = Backend { shard: ShardId(3), pid: 4711, secret: 9 };
        assert_eq!(cancels.mark(slot.key()), [first]);
        assert!(slot.rest());
        assert!(!slot.rest());
        let wrong = CancelKey { secret: slot.key().secret.wrapping_add(1), ..slot.key() };
        assert_eq!(cancels.mark(wrong), []);
        let second = Backend { shard: ShardId(1), pid: 5, secret: 6 };
        slot.working_all(vec![first, second]);
        assert_eq!(cancels.mark(slot.key()), [first, second]);
        assert!(slot.rest());
        drop(slot);
        assert!(cancels.is_empty());
    }
}
