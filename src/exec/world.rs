//! The world that a client's statements are planned in, and when it goes on to a newer one.
//!
//! Invariants: within a transaction the map stays that it met its first shard with, while the schema is the
//! newest; what is held under another map's numbers is renumbered with it, or lost; a statement that writes
//! does not reach a shard by a map from before a key was frozen.

use std::sync::Arc;

use super::Executor;
use super::key_databases::{Keyed, is_visit};
use crate::error::{SqlError, SqlState};
use crate::map::{ShardId, ShardMap};
use crate::mapstore::World;
use crate::session::transaction::Transaction;

impl Executor {
    /// Between transactions the newest world is taken; within one the map stays that it met its first shard
    /// with, and the schema is the newest.
    #[inline]
    pub(super) fn follow_world(&mut self) {
        if self.worker.shared.store.has_news(self.seen) {
            self.take_news();
        }
        if self.keyed.is_some() {
            self.follow_key();
        }
    }

    #[cold]
    fn take_news(&mut self) {
        let store = &self.worker.shared.store;
        let seen = store.word();
        self.stale = store.is_stale();
        let current = store.current();
        if self.adopt(current) {
            self.seen = seen;
        }
        if self.keyed.is_none() {
            self.keyed = Keyed::new(&self.worker, &self.world.map);
        }
    }

    /// Goes on in this world, as far as it can; false if its map has to wait.
    pub(super) fn adopt(&mut self, current: Arc<World>) -> bool {
        if matches!(self.session.transaction, Transaction::Idle | Transaction::Pending(_)) {
            if current.version != self.world.version {
                if current.map.shards_version() != self.world.map.shards_version() {
                    self.keep_connections(&current.map);
                }
                self.world = current;
                self.follow_settings();
            }
            return true;
        }
        let same_map = current.map.version() == self.world.map.version();
        if self.session.schema_changed {
            // It has made a schema of its own, which is read again as it sees it.
            self.session.schema_stale = true;
        } else if !Arc::ptr_eq(&self.world.catalog, &current.catalog) {
            self.world = if same_map {
                current
            } else {
                let catalog = Arc::clone(&current.catalog);
                Arc::new(World::private(&self.world, catalog))
            };
            self.follow_settings();
        }
        same_map
    }

    /// Connections that are held on to have other numbers in a new map. What is not where it was can't go on.
    fn keep_connections(&mut self, map: &ShardMap) {
        let old = Arc::clone(&self.world);
        let now = |shard: ShardId| {
            // A session that keeps something in a key's own database stays with that.
            if is_visit(shard) {
                return Some(shard);
            }
            let was = old.map.shard(shard)?;
            let at = map.shard_named(&was.name)?;
            map.shard(at).filter(|is| is.url == was.url).map(|_| at)
        };
        while let Some(at) = self.held.iter().position(|held| now(held.shard).is_none()) {
            self.lose(at);
        }
        for held in &mut self.held {
            if let Some(at) = now(held.shard) {
                held.shard = at;
            }
        }
        self.cursors.renumber(now);
        let temporary = self.session.temporary.take();
        self.session.temporary =
            temporary.and_then(|(shard, names)| now(shard).map(|shard| (shard, names)));
    }

    /// A statement that may write was planned with a map that is outdated meanwhile: a key may be frozen by
    /// now. On a connection that was there before, it may go on, for whoever freezes a key waits for those.
    /// Where it writes beside another shard, it must have been made sure of before.
    pub(super) fn may_write(&mut self, at: usize, writes: bool) -> Result<(), SqlError> {
        if writes {
            let shard = self.held.get(at).map(|held| held.shard);
            if let Some(shard) = shard.filter(|shard| self.writes_apart(*shard, true)) {
                return Err(SqlError::new(
                    SqlState::INTERNAL_ERROR,
                    format!(
                        "shard \"{}\" was not made ready to be written on",
                        self.place_name(shard)
                    ),
                ));
            }
        }
        self.note_notifying(at)?;
        self.may_write_alone(at, writes)
    }

    /// The same for a statement that stands by itself.
    pub(super) fn may_write_alone(&mut self, at: usize, writes: bool) -> Result<(), SqlError> {
        let planned = self.world.map.freezes_version();
        if !writes || self.worker.shared.store.freezes_version() == planned {
            return Ok(());
        }
        if self.held.get(at).is_some_and(|held| held.freezes_version <= planned) {
            return Ok(());
        }
        self.settle(at);
        Err(SqlError::new(
            SqlState::SERIALIZATION_FAILURE,
            "could not write because keys were frozen meanwhile",
        )
        .detail("The statement was planned before that, and has only now reached its shard.")
        .hint("The transaction might succeed if retried."))
    }
}
