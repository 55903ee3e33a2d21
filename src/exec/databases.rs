//! Databases that are routed by name: each has a [`Worker`] of its own beside the thread's.
//!
//! It has what a proxy for that one database would have (a map of one shard, a catalog, pools) and shares
//! with all others who is connected, who may log in, and what is known of shards and connections. It is made
//! when the first client of the database comes, and forgotten when it has neither clients nor connections.
//! A session stays with the worker that it came to: a map that moves the database is for those who come
//! then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::Executor;
use super::planner::Entry;
use super::worker::{Shared, Worker};
use crate::error::{SqlError, SqlState};
use crate::map::ShardMap;
use crate::mapstore::{Store, is_private, realm};

/// A thread's workers for databases, by name.
pub(super) type Databases = HashMap<String, Arc<Worker>>;

/// Stores are numbered, so that nobody takes the worlds of one for those of another. The number of the
/// map's own is 0.
static NEXT_REALM: AtomicU16 = AtomicU16::new(1);

fn next_realm() -> u16 {
    match NEXT_REALM.fetch_add(1, Ordering::Relaxed) {
        0 => NEXT_REALM.fetch_add(1, Ordering::Relaxed),
        realm => realm,
    }
}

impl Worker {
    /// Who serves the clients of a database that is a key's own, or that `[[databases]]` speaks of; `None` for
    /// any other.
    pub fn of_database(&self, name: &str) -> Option<Arc<Self>> {
        let map = Arc::clone(&self.shared.store.current().map);
        let own = map.of_database(name)?;
        let mut databases = self.lock_databases();
        if let Some(known) = databases.get(name)
            && known.is_for(&own)
        {
            return Some(Arc::clone(known));
        }
        let store = Arc::new(Store::in_realm(own, next_realm()));
        let worker = Arc::new(Self::new(Arc::new(self.shared.beside(store))));
        self.shared.enlist(&worker);
        databases.insert(name.to_owned(), Arc::clone(&worker));
        Some(worker)
    }

    /// Its sessions see what new ones would see.
    fn is_for(&self, own: &ShardMap) -> bool {
        self.shared.store.current().map.is_same_database(own)
    }

    /// Closes what was unused for too long, and forgets databases that nobody uses or that are elsewhere by
    /// now.
    pub(super) fn sweep_databases(&self, now: Instant) {
        let map: Arc<ShardMap> = Arc::clone(&self.shared.store.current().map);
        self.lock_databases().retain(|name, worker| {
            worker.sweep(now);
            let stays = map.of_database(name).is_some_and(|own| worker.is_for(&own));
            stays && !worker.is_unused()
        });
    }

    /// It has neither clients nor connections.
    fn is_unused(self: &Arc<Self>) -> bool {
        let connections = |pools: Vec<crate::backend::PoolStatus>| {
            pools.iter().map(|pool| pool.active + pool.idle).sum::<usize>()
        };
        Arc::strong_count(self) == 1 && connections(self.current_pools().status()) == 0
    }

    fn lock_databases(&self) -> MutexGuard<'_, Databases> {
        self.databases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// The databases that are served by name: each with its shard's name.
    pub fn served(&self) -> Vec<(String, String)> {
        let stores = self.stores();
        let maps = stores.iter().map(|store| Arc::clone(&store.current().map));
        maps.map(|map| (map.database().to_owned(), map.shard_name(map.default_shard()).to_owned()))
            .collect()
    }

    /// The stores of the databases that are served by name.
    pub fn stores(&self) -> Vec<Arc<Store>> {
        let workers = self.lock_workers();
        let workers = workers.iter().filter_map(Weak::upgrade);
        let others = workers.filter(|worker| is_beside(worker.shared.store.version()));
        others.map(|worker| Arc::clone(&worker.shared.store)).collect()
    }

    /// Closes the free connections to a database, which a server does not drop while somebody is
    /// connected to it.
    fn leave_database(&self, name: &str) {
        let workers: Vec<_> = self.lock_workers().iter().filter_map(Weak::upgrade).collect();
        for worker in workers {
            let map = Arc::clone(&worker.shared.store.current().map);
            if is_beside(worker.shared.store.version()) && map.database() == name {
                worker.forget_greetings();
                worker.current_pools().close_idle(map.shard_name(map.default_shard()));
            }
        }
    }
}

impl Executor {
    /// Before a database is dropped or renamed: what is free of the connections to it is closed.
    ///
    /// # Errors
    ///
    /// 55006 while other clients are connected to it, as PostgreSQL says it of those that it knows
    /// (`dropdb` in `dbcommands.c`): here they may have no connection of their own.
    #[inline]
    pub(super) fn leave_database(&self, entry: &Entry) -> Result<(), SqlError> {
        match &entry.ends_database {
            Some((name, alone)) => self.give_up_database(name, *alone),
            None => Ok(()),
        }
    }

    fn give_up_database(&self, name: &str, alone: bool) -> Result<(), SqlError> {
        let shared = &self.worker.shared;
        let clients = shared.clients.all();
        let others = clients.iter().filter(|client| client.id() != self.client.id());
        let others = others.filter(|client| client.database == name).count();
        if alone && others > 0 {
            let sessions = match others {
                1 => "There is 1 other session using the database.".to_owned(),
                count => format!("There are {count} other sessions using the database."),
            };
            let message = format!("database \"{name}\" is being accessed by other users");
            return Err(SqlError::new(SqlState("55006"), message).detail(sessions));
        }
        shared.leave_database(name);
        Ok(())
    }
}

/// The version of a world of a database's own store.
fn is_beside(version: u64) -> bool {
    !is_private(version) && realm(version) != 0
}
