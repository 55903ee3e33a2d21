//! The connections that a client holds: leased when a shard is needed, told the session's settings, given
//! back when their work is done.
//!
//! Main type: [`Held`]. A connection stays while a transaction is open on it, or while it carries what only
//! this client may see (`pins`); everything else that is held goes back to its pool by [`Executor::settle`].
//! What broke, or is in a state that nobody knows, goes by [`Executor::lose`].

use super::cancel::{Impatience, Quiet};
use super::key_databases::is_visit;
use super::pins::{NOBODYS_SETTINGS, Pin, Pins};
use super::{Executor, timeouts};
use crate::backend::{BackendError, Lease, Pool};
use crate::config::PoolMode;
use crate::error::SqlError;
use crate::map::ShardId;
use crate::session::transaction::Transaction;

/// A connection that the client holds on to.
pub(super) struct Held {
    pub(super) shard: ShardId,
    pub(super) lease: Lease,
    /// It carries state that only this client may see.
    pub(super) pinned: bool,
    /// Why.
    pub(super) pins: Pins,
    /// What it is kept for may be over.
    pub(super) doubtful: bool,
    /// It has no part in the client's transaction, and the settings that it was told for one statement.
    pub(super) beside: bool,
    /// What its server remembers of sequences is this client's doing alone.
    pub(super) swept: bool,
    /// It was leased for the statement that runs, which has had no answer on it yet.
    pub(super) fresh: bool,
    /// It was set up for what the client does now, and is told whatever becomes of the settings. One that is only
    /// kept is not.
    pub(super) follows: bool,
    /// What it is to be told of settings before the next statement.
    pub(super) untold: Vec<String>,
    /// [`Store::freezes_version`](crate::mapstore::Store::freezes_version) when it was leased.
    pub(super) freezes_version: u64,
    /// The client's transaction has written here, and on another shard before.
    pub(super) wrote: bool,
    /// The transaction has made scratch tables here, and can't be prepared.
    pub(super) scratched: bool,
    /// The transaction listens or notifies here, and can't be prepared.
    pub(super) notified: bool,
}

impl Held {
    /// A connection that has just been leased.
    pub(super) fn new(shard: ShardId, lease: Lease) -> Self {
        Self {
            shard,
            lease,
            pinned: false,
            pins: Pins::NONE,
            doubtful: false,
            beside: false,
            swept: false,
            fresh: true,
            follows: true,
            untold: Vec::new(),
            freezes_version: 0,
            wrote: false,
            scratched: false,
            notified: false,
        }
    }
}

impl Executor {
    /// A connection to a shard: the one that is held, or one from the pool that has been told the
    /// session's settings. The index is into `held`.
    pub(super) async fn acquire(&mut self, shard: ShardId) -> Result<usize, SqlError> {
        if let Some(at) = self.held.iter().position(|held| held.shard == shard) {
            if let Some(held) = self.held.get_mut(at) {
                held.fresh = false;
            }
            if let Err(error) = self.set_up(at).await {
                let error_of_ours = self.shard_error(shard, &error);
                if !matches!(error, BackendError::Statement(_)) {
                    self.lose(at);
                }
                return Err(error_of_ours);
            }
            if let Some(held) = self.held.get_mut(at) {
                held.follows = true;
            }
            if self.session.transaction.is_several() {
                self.work_on(&[shard]);
            }
            return Ok(at);
        }
        self.tell_greeted();
        let mut at = self.lease_one(shard).await?;
        if self.is_set_up(at) {
            return Ok(at);
        }
        let mut ready = self.set_up(at).await;
        if ready.as_ref().is_err_and(|error| self.is_dead_on_arrival(at, error)) {
            self.let_dead_go(at)?;
            at = Box::pin(self.lease_one(shard)).await?;
            ready = Box::pin(self.set_up(at)).await;
        }
        if let Err(error) = ready {
            let error = self.shard_error(shard, &error);
            self.lose(at);
            return Err(error);
        }
        Ok(at)
    }

    /// A connection that is not the client's yet: the index is the last.
    async fn lease_one(&mut self, shard: ShardId) -> Result<usize, SqlError> {
        let free = self.pool(shard)?.try_lease();
        let lease = match free {
            Some(lease) => lease,
            // Boxed, as everything here that is seldom done: a client must not be as large as that.
            None => Box::pin(self.lease(shard)).await?,
        };
        self.cancel.working(self.server_of(shard), lease.pid(), lease.secret_word());
        let mut held = Held::new(shard, lease);
        held.lease.shown_pid = Some(self.cancel.key().pid);
        held.freezes_version = self.worker.shared.store.freezes_version();
        if self.worker.shared.config.pool.mode == PoolMode::Session {
            held.pin(Pins::of(Pin::Session));
            // It was reset when the last client left.
            held.swept = true;
        }
        self.held.push(held);
        Ok(self.held.len() - 1)
    }

    /// There is nothing that [`Self::set_up`] would do.
    fn is_set_up(&self, at: usize) -> bool {
        let wanted = self.session.settings.outside().id();
        self.leaving.is_empty()
            && self.held.get(at).is_some_and(|held| held.lease.settings_id == wanted)
    }

    /// What a connection must be told before the client's statement.
    async fn set_up(&mut self, at: usize) -> Result<(), BackendError> {
        self.apply_settings(at).await?;
        self.sweep(at).await
    }

    /// Before a connection is kept for the first time: what other clients' INSERTs have drawn from sequences
    /// on it must not be this one's `currval`.
    async fn sweep(&mut self, at: usize) -> Result<(), BackendError> {
        if self.leaving.is_empty() || self.batch.is_open() {
            return Ok(());
        }
        let Some(held) = self.held.get_mut(at) else { return Ok(()) };
        if held.swept || held.pinned || held.lease.tx_status() == b'E' {
            return Ok(());
        }
        Box::pin(held.lease.simple_query("DISCARD SEQUENCES")).await?;
        held.swept = true;
        Ok(())
    }

    pub(super) fn pool(&mut self, shard: ShardId) -> Result<&Pool, SqlError> {
        if let Some(keyed) = self.keyed.as_mut().filter(|_| is_visit(shard))
            && let Some(pool) = keyed.pool(&self.session.user, shard)
        {
            return pool;
        }
        self.pools.pool(&self.worker, &self.world, &self.session.user, shard)
    }

    /// A connection that has to be waited for or made.
    pub(super) async fn lease(&mut self, shard: ShardId) -> Result<Lease, SqlError> {
        let _waits = self.worker.shared.store.wait_with(self.world.map.version());
        let mut outcome = self.turn(shard).await?;
        if let Err(error) = &outcome
            && is_visit(shard)
            && Box::pin(self.make_visited(shard, error)).await?
        {
            outcome = self.turn(shard).await?;
        }
        outcome.map_err(|error| self.shard_error(shard, &error))
    }

    async fn turn(&mut self, shard: ShardId) -> Result<Result<Lease, BackendError>, SqlError> {
        let user = &self.session.user;
        let visited = match self.keyed.as_mut().filter(|_| is_visit(shard)) {
            Some(keyed) => keyed.pool(user, shard),
            None => None,
        };
        let pool = match visited {
            Some(pool) => pool?,
            None => self.pools.pool(&self.worker, &self.world, user, shard)?,
        };
        match self.cancel.wait(&mut self.io, pool.lease()).await {
            Ok(leased) => Ok(leased),
            Err(impatience) => Err(self.impatient(impatience)),
        }
    }

    /// What the client is told when it no longer waits; nobody reads it if it is gone.
    pub(super) fn impatient(&self, impatience: Impatience) -> SqlError {
        if self.client.is_overdue() && impatience == Impatience::Cancelled {
            return timeouts::query_timeout(&self.worker.shared.config.limits);
        }
        impatience.sql_error()
    }

    /// Tells a connection the session's settings, if it has others. Within a transaction it has been told.
    async fn apply_settings(&mut self, at: usize) -> Result<(), BackendError> {
        // What the transaction has set is told within it.
        let wanted = self.session.settings.outside();
        let Some(held) = self.held.get_mut(at) else { return Ok(()) };
        if held.lease.settings_id == wanted.id() || held.lease.tx_status() != b'I' {
            return Ok(());
        }
        Box::pin(held.lease.simple_query(&wanted.replay())).await?;
        held.lease.settings_id = wanted.id();
        self.take_notices(at);
        let Some(held) = self.held.get(at) else { return Ok(()) };
        if !self.told.is_empty() {
            let parameters = held.lease.parameters().to_vec();
            self.tell(&parameters);
        }
        Ok(())
    }

    pub(super) fn shard_error(&self, shard: ShardId, error: &BackendError) -> SqlError {
        error.sql_error(&self.place_name(shard))
    }

    /// Lets go of a connection whose work is done; it stays if it is pinned or in a transaction.
    pub(super) fn settle(&mut self, at: usize) {
        self.settle_after(at, None);
    }

    /// [`Self::settle`], where a cancel request may be on its way to the connection.
    pub(super) fn settle_after(&mut self, at: usize, quiet: Option<Quiet>) {
        let Some(held) = self.held.get_mut(at) else { return };
        if held.lease.tx_status() != b'I' || self.batch.is_open() {
            return;
        }
        (held.wrote, held.scratched, held.notified) = (false, false, false);
        let follows = std::mem::take(&mut held.follows);
        if !held.untold.is_empty() {
            held.lease.settings_id = NOBODYS_SETTINGS;
            held.untold.clear();
        } else if follows && !held.beside {
            held.lease.settings_id = self.session.settings.committed().id();
        }
        if held.pinned {
            return;
        }
        let lease = self.held.swap_remove(at).lease;
        match self.cancel.rest().or(quiet) {
            None => {
                lease.release();
            }
            Some(quiet) => {
                // It must not hit the next client.
                tokio::spawn(async move {
                    if quiet.wait().await {
                        lease.release();
                    }
                });
            }
        }
    }

    /// A connection broke, or its state is unknown: it is closed, and a transaction on it is lost.
    pub(super) fn lose(&mut self, at: usize) {
        if at >= self.held.len() {
            return;
        }
        let held = self.held.swap_remove(at);
        self.state_lost |= held.pinned;
        self.cancel.rest();
        if held.beside {
            return;
        }
        let within = self.session.transaction.is_several() && held.lease.tx_status() != b'I';
        if within
            || self.session.transaction.shard() == Some(held.shard)
            || matches!(self.session.transaction, Transaction::Pending(_))
        {
            self.session.transaction.lose_shard();
        }
    }
}
