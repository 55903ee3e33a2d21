//! A transaction reaches another shard.
//!
//! A shard is *enlisted* by its first statement within the transaction: it is told BEGIN, with the
//! transaction's modes, and the settings and savepoints that the others have by then. Enlisted are the
//! shards whose held connection is in a transaction; nothing else keeps that list.
//!
//! Invariants: rows are written on a second shard of a transaction only when it can commit on both (see `two_phase`);
//! a transaction on several shards is READ COMMITTED, or REPEATABLE READ where the
//! map's policy takes each shard's own snapshot for good enough; a transaction whose connection may carry
//! what can't be said again does not enlist another.

use super::one_shard::several_at_once;
use super::{Executor, Failure};
use crate::error::{SqlError, SqlState};
use crate::map::{CrossShardSnapshot, ShardId};
use crate::plan::{Plan, Route};
use crate::session::transaction::{Transaction, begin_sql};
use crate::sql::class::Isolation;
use crate::wire::response::ServerError;
use crate::wire::{frame, frontend, response};

impl Executor {
    /// The shards that the open transaction is on, its first one first.
    pub(super) fn enlisted(&self) -> Vec<ShardId> {
        let first = self.session.transaction.shard();
        let open = self.held.iter().filter(|held| held.lease.tx_status() != b'I');
        let mut shards: Vec<ShardId> = open.map(|held| held.shard).collect();
        shards.sort_by_key(|shard| (Some(*shard) != first, *shard));
        shards
    }

    /// The transaction is on this shard.
    pub(super) fn is_enlisted(&self, shard: ShardId) -> bool {
        self.session.transaction.shard() == Some(shard)
            || self.held.iter().any(|held| held.shard == shard && held.lease.tx_status() != b'I')
    }

    /// Whether the open transaction may go on on a shard, with a statement that `writes` rows there (or
    /// may). Where nothing speaks against it before it is asked.
    ///
    /// # Errors
    ///
    /// 0A000: rows were written on another shard, and the policy keeps to one; the isolation level does not hold over several shards;
    /// the transaction's state can't be made on another shard.
    pub(super) fn may_enlist(&self, shard: ShardId, writes: bool) -> Result<(), SqlError> {
        self.refuse_leaving(shard)?;
        let deeds = self.session.transaction.deeds();
        let first = self.session.transaction.shard().unwrap_or(shard);
        if writes {
            self.refuse_writing_apart(shard)?;
        }
        if self.is_enlisted(shard) {
            return Ok(());
        }
        let Some(modes) = self.session.modes else {
            return Err(self
                .cannot_go_on(first, shard)
                .detail("Its modes are not known, so that they can't be given to another shard.")
                .hint("Begin it with a BEGIN of its own."));
        };
        if deeds.opaque {
            return Err(self
                .cannot_go_on(first, shard)
                .detail(
                    "It ran code (a user-defined function, a trigger, set_config …) whose traces on its \
                     connection are not known and would be missing on another shard.",
                )
                .hint("Commit first, or keep each transaction to the keys of one shard."));
        }
        self.allow_isolation(modes.isolation, first, shard)
    }

    /// Whether the open transaction may go on on several shards at once, reading there.
    ///
    /// # Errors
    ///
    /// See [`Self::may_enlist`].
    pub(super) fn may_read_on(&self, shards: &[ShardId]) -> Result<(), SqlError> {
        if self.session.transaction.shard().is_some() {
            return shards.iter().try_for_each(|shard| self.may_enlist(*shard, false));
        }
        match (self.session.modes, shards) {
            (Some(modes), [first, second, ..]) => {
                self.allow_isolation(modes.isolation, *first, *second)
            }
            _ => Ok(()),
        }
    }

    /// A statement outside a transaction block has the level that the session has made its default.
    pub(super) fn allow_default_isolation(&self, plan: &Plan) -> Result<(), SqlError> {
        let default = self.session.settings.current().value("default_transaction_isolation");
        let (Some(level), Transaction::Idle) = (default, &self.session.transaction) else {
            return Ok(());
        };
        let isolation = match level.trim_matches('\'').to_ascii_lowercase().as_str() {
            "serializable" => Isolation::Serializable,
            "repeatable read" => Isolation::RepeatableRead,
            _ => return Ok(()),
        };
        let (first, second) = match &plan.route {
            Route::Many(shards) => {
                let mut shards = shards.iter();
                let (Some(first), Some(second)) = (shards.next(), shards.next()) else {
                    return Ok(());
                };
                (first, second)
            }
            Route::All if self.world.map.shards().len() > 1 => (ShardId(0), ShardId(1)),
            _ => return Ok(()),
        };
        self.allow_isolation(Some(isolation), first, second)
    }

    pub(super) fn allow_isolation(
        &self,
        isolation: Option<Isolation>,
        first: ShardId,
        shard: ShardId,
    ) -> Result<(), SqlError> {
        let hint = "Use READ COMMITTED, or keep the transaction to the keys of one shard.";
        let best_effort =
            self.world.map.policy().cross_shard_snapshot == CrossShardSnapshot::BestEffort;
        let refused = |level: &str, why: &str| {
            let error = SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("a {level} transaction over several shards is not supported"),
            );
            let (one, other) = (self.world.map.shard_name(first), self.world.map.shard_name(shard));
            Err(error
                .detail(format!("It is on shards \"{one}\" and \"{other}\". {why}"))
                .hint(hint))
        };
        match isolation {
            Some(Isolation::Serializable) => {
                refused("SERIALIZABLE", "Each would order its transactions for itself.")
            }
            Some(Isolation::RepeatableRead) if !best_effort => refused(
                "REPEATABLE READ",
                "Each has a snapshot of its own, and the map's policy says cross_shard_snapshot = \
                 \"refuse\".",
            ),
            _ => Ok(()),
        }
    }

    /// The shard for a statement within a transaction that is on several.
    pub(super) fn one_of_several(&self, plan: &Plan) -> Result<ShardId, SqlError> {
        let first = self.session.transaction.shard().unwrap_or(self.world.map.default_shard());
        let shard = match &plan.route {
            Route::One(shard) => *shard,
            Route::Any | Route::Nowhere => first,
            Route::Database(_) | Route::Many(_) | Route::All => return Err(several_at_once()),
        };
        self.may_enlist(shard, plan.writes || plan.taints)?;
        Ok(shard)
    }

    pub(super) fn writes_elsewhere(&self, shard: ShardId, writer: ShardId) -> SqlError {
        let name = |shard| self.place_name(shard);
        SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "a transaction that writes on shards \"{}\" and \"{}\" is not supported",
                name(writer),
                name(shard)
            ),
        )
        .detail("The map's policy says cross_shard_writes = \"refuse\". It may read on any shard.")
        .hint("Commit first, or keep each transaction's writes to the keys of one shard.")
    }

    pub(super) fn cannot_go_on(&self, first: ShardId, shard: ShardId) -> SqlError {
        let name = |shard| self.place_name(shard);
        SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "the transaction on shard \"{}\" can't go on on shard \"{}\"",
                name(first),
                name(shard)
            ),
        )
    }

    /// A connection to a shard within the open transaction, which has been told of it. The index is into
    /// `held`.
    ///
    /// # Errors
    ///
    /// The shard can't be reached, or can't follow; see [`Self::may_enlist`], which is not asked here.
    pub(super) async fn join(&mut self, shard: ShardId) -> Result<usize, Failure> {
        let at = self.acquire(shard).await?;
        if matches!(self.session.transaction, Transaction::Pending(_)) {
            self.open_alone(at).await?;
        } else if self.is_late(at) {
            self.enlist(at).await?;
        }
        Ok(at)
    }

    /// The transaction is on another shard, and this connection has not been told of it.
    pub(super) fn is_late(&self, at: usize) -> bool {
        matches!(self.session.transaction, Transaction::Active { .. })
            && !self.batch.is_open()
            && self.held.get(at).is_some_and(|held| held.lease.tx_status() == b'I')
    }

    /// Tells a connection of the open transaction.
    pub(super) async fn enlist(&mut self, at: usize) -> Result<(), Failure> {
        let (Some(first), Some(shard), Some(modes)) = (
            self.session.transaction.shard(),
            self.held.get(at).map(|held| held.shard),
            self.session.modes,
        ) else {
            return Err(
                SqlError::new(SqlState::INTERNAL_ERROR, "no transaction to enlist in").into()
            );
        };
        self.refuse_leaving(shard)?;
        let several = self.session.transaction.is_several();
        let known = modes.isolation.is_some() && !self.session.settings.has_said();
        if !several && !known {
            // Its own level may come from its server's configuration, or from SET TRANSACTION.
            let level = self.isolation_of(first).await?;
            self.allow_isolation(level, first, shard)?;
        }
        let mut sql = begin_sql(modes);
        for statement in self.session.settings.late_script() {
            sql.push_str("; ");
            sql.push_str(&statement);
        }
        let mut reply = self.ask_query(shard, &sql).await;
        let farewell = reply.error.as_ref().is_none_or(ServerError::is_farewell);
        if reply.lost && farewell && self.held.get(at).is_some_and(|held| held.fresh) {
            self.let_dead_go(at)?;
            self.acquire_in_place(shard, at).await?;
            reply = self.ask_query(shard, &sql).await;
        }
        if !reply.is_well() {
            let message = self.failure_message(shard, &reply, false);
            self.forgo(shard).await;
            self.io.outbox.extend_from_slice(&message);
            self.session.transaction.fail();
            return Err(Failure::Shown);
        }
        self.session.transaction.enlist();
        for portal in self.portals.values_mut() {
            portal.bound_on(first);
        }
        if !known {
            let level = self.isolation_of(shard).await?;
            self.allow_isolation(level, first, shard)?;
        }
        Ok(())
    }

    /// The isolation level of the transaction on a connection.
    async fn isolation_of(&mut self, shard: ShardId) -> Result<Option<Isolation>, Failure> {
        let level = self.own_value(shard, b"SHOW transaction_isolation").await?;
        Ok(match level.as_deref() {
            Some(b"serializable") => Some(Isolation::Serializable),
            Some(b"repeatable read") => Some(Isolation::RepeatableRead),
            _ => Some(Isolation::ReadCommitted),
        })
    }

    /// A value that the transaction has on a connection. Asked in such a way that the unnamed portal and statement
    /// stay, which a Query would close.
    pub(super) async fn own_value(
        &mut self,
        shard: ShardId,
        sql: &[u8],
    ) -> Result<Option<Vec<u8>>, Failure> {
        const NAME: &[u8] = b"pgmeridian_value";
        let mut request = Vec::new();
        // One that was cancelled has left it there.
        frontend::close_statement_into(&mut request, NAME);
        frontend::parse_into(&mut request, NAME, sql, [].into_iter());
        frontend::bind_named_into(&mut request, NAME, NAME);
        frontend::execute_into(&mut request, NAME, 0);
        frontend::close_portal_into(&mut request, NAME);
        frontend::close_statement_into(&mut request, NAME);
        frontend::sync_into(&mut request);
        let reply = self.ask_all(&[shard], &request, 1).await.pop().unwrap_or_default();
        if !reply.is_well() {
            let message = self.failure_message(shard, &reply, true);
            self.io.outbox.extend_from_slice(&message);
            self.session.transaction.fail();
            self.drop_lost(&[shard], &[reply]);
            return Err(Failure::Shown);
        }
        let row = reply.rows.get(frame::HEADER_BYTES..).unwrap_or_default();
        let value = response::data_row(row).ok().and_then(|row| row.first().copied().flatten());
        Ok(value.map(<[u8]>::to_vec))
    }

    /// A shard that could not be enlisted is let go of.
    async fn forgo(&mut self, shard: ShardId) {
        let reply = self.ask_query(shard, "ROLLBACK").await;
        let Some(at) = self.held.iter().position(|held| held.shard == shard) else { return };
        let outside = self.session.settings.outside().id();
        match self.held.get_mut(at) {
            Some(held) if reply.is_well() => {
                held.lease.settings_id = outside;
                held.follows = false;
                if !held.pinned {
                    self.held.swap_remove(at).lease.release();
                }
            }
            _ => {
                self.state_lost |= self.held.swap_remove(at).pinned;
            }
        }
    }
}
