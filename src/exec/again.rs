//! A statement whose connection is found dead is sent again, once, on another one.
//!
//! A free connection that has ended is noticed when it is leased, unless that happened so lately that the
//! reactor has not heard of it: a restarted server, an administrator's `pg_terminate_backend`, a firewall.
//! Then the statement is written to a dead connection, and what comes back tells how far it can have got:
//!
//! * *Not all of it was taken.* A statement of which the end is missing is not carried out, and what came
//!   before it is not committed.
//! * *The server's farewell* (57P01, 57P05) comes before any answer. PostgreSQL looks for a shutdown when it
//!   waits for a command and at safe points within one, none of which lies between a commit and its
//!   `CommandComplete` (`ProcessInterrupts`; interrupts are held off in `CommitTransaction`): nothing was
//!   committed. What a rolled back statement leaves (numbers drawn from sequences) is no effect.
//! * *Silence.* It may have been carried out: only what changes nothing is sent again, and what stands in a
//!   transaction block that nobody can commit any more.
//!
//! Never sent again: what calls functions of unknown effect, what the client was told something of, and what
//! has worked for a while ([`FOUND_DEAD_MAX`]): that connection was not dead, it has died of something.

use std::time::Duration;

use super::cancel::Impatience;
use super::planner::{Entry, Planned};
use super::relay::Broken;
use super::{Executor, Failure};
use crate::backend::BackendError;
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::observe;
use crate::plan::Plan;
use crate::session::transaction::Transaction;
use crate::sql::class::Class;
use crate::sql::ir::{BlockKind, CallKind, Statement};

/// A dead connection says so within a round trip; what breaks later did so while it worked, and whoever ended
/// it (`pg_terminate_backend`) wants it ended.
pub(super) const FOUND_DEAD_MAX: Duration = Duration::from_millis(200);

/// On what evidence a statement may be sent again. The order is that of caution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Repeat {
    /// On none.
    #[default]
    Never,
    /// Nothing of it was committed.
    IfUncommitted,
    /// On any: to carry it out twice changes nothing.
    Harmless,
}

/// What a statement's shape says of it.
pub(super) fn repeats(statement: Option<&Statement>, class: &Class) -> Repeat {
    match (statement, class) {
        (Some(Statement::Query(analysis)), Class::Query) => {
            let harmless = |kind: CallKind, name: &str| match kind {
                CallKind::Pure | CallKind::Time | CallKind::Stable | CallKind::Measures => true,
                CallKind::Volatile => matches!(name, "random" | "gen_random_uuid"),
                CallKind::Sequence
                | CallKind::AdvisoryLock { .. }
                | CallKind::Setting
                | CallKind::ReadsTables
                | CallKind::Notifies
                | CallKind::User(_) => false,
            };
            if !analysis.calls.iter().all(|call| harmless(call.kind, &call.name)) {
                return Repeat::Never;
            }
            let reads = |kind: &BlockKind| {
                matches!(
                    kind,
                    BlockKind::Select(_) | BlockKind::SetOperation(_) | BlockKind::Values(_)
                )
            };
            let only_reads = analysis.blocks.iter().all(|block| reads(&block.kind));
            if only_reads { Repeat::Harmless } else { Repeat::IfUncommitted }
        }
        (_, Class::Show(_)) => Repeat::Harmless,
        _ => Repeat::Never,
    }
}

impl Executor {
    /// On what evidence this statement may be sent again, as the session stands.
    pub(super) fn repeat_of(&self, entry: &Entry, plan: &Plan) -> Repeat {
        if entry.repeats == Repeat::Never || plan.taints || !entry.leaves.is_empty() {
            return Repeat::Never;
        }
        match self.session.transaction {
            Transaction::Idle if plan.writes => entry.repeats.min(Repeat::IfUncommitted),
            Transaction::Idle => entry.repeats,
            // It begins with the statement, and nothing has committed it.
            Transaction::Pending(_) => Repeat::Harmless,
            Transaction::Active { .. } | Transaction::Failed { .. } => Repeat::Never,
        }
    }

    /// The same for a query string that goes to one shard as it is. What ends a transaction in it is
    /// answered before the farewell, if it was carried out.
    pub(super) fn repeat_of_string(&self, planned: &[Planned], plan: &Plan) -> Repeat {
        if !matches!(self.session.transaction, Transaction::Idle | Transaction::Pending(_)) {
            return Repeat::Never;
        }
        let each = |one: &Planned| match one.entry.class {
            Class::Begin(_) | Class::Commit { .. } | Class::Rollback { .. } => {
                Repeat::IfUncommitted
            }
            _ => self.repeat_of(&one.entry, plan),
        };
        planned.iter().map(each).min().unwrap_or_default().min(Repeat::IfUncommitted)
    }

    /// [`Self::exchange`] of what may be sent again on that evidence; false if it is to be: nothing was said
    /// to the client, and the connection is gone.
    ///
    /// # Cancel safety
    ///
    /// None, as [`Self::exchange`].
    pub(super) async fn attempt(&mut self, at: usize, repeat: Repeat) -> Result<bool, Failure> {
        let fresh = self.held.get(at).is_some_and(|held| held.fresh);
        if repeat == Repeat::Never || !fresh || self.responses.boundaries() == 0 {
            return self.exchange(at).await.map(|()| true);
        }
        self.responses.hold_back();
        let result = self.send_and_relay(at).await;
        if let Err(broken) = &result
            && self.found_dead(at, broken, repeat)
        {
            self.let_dead_go(at)?;
            self.request.clear();
            return Ok(false);
        }
        if let Some(bytes) = self.responses.leading() {
            self.io.outbox.extend_from_slice(&bytes);
        }
        self.conclude(at, &result).map(|()| true)
    }

    fn found_dead(&self, at: usize, broken: &Broken, repeat: Repeat) -> bool {
        let evident = match broken {
            Broken::Client => false,
            Broken::Unsent(_) => true,
            Broken::Shard(_) => self.responses.bade_farewell() || repeat == Repeat::Harmless,
        };
        let at_once = self.held.get(at).is_some_and(|h| h.lease.asked_for() < FOUND_DEAD_MAX);
        evident && at_once && !self.responses.answered()
    }

    /// A fresh connection was found dead: so may others of its pool be.
    ///
    /// # Errors
    ///
    /// 57014: the client has asked for a cancel meanwhile.
    pub(super) fn let_dead_go(&mut self, at: usize) -> Result<(), SqlError> {
        if at < self.held.len() {
            let shard = self.held.swap_remove(at).shard;
            self.weed(&[shard]);
        }
        match self.cancel.rest() {
            None => Ok(()),
            Some(_) => Err(self.impatient(Impatience::Cancelled)),
        }
    }

    /// Something will be sent again: not on a connection that died with the first.
    pub(super) fn weed(&mut self, shards: &[ShardId]) {
        observe::add(&observe::METRICS.retries, 1);
        for shard in shards {
            if let Ok(pool) = self.pool(*shard) {
                pool.weed();
            }
        }
    }

    /// Another connection takes the place of one that was found dead. (What is fresh is the last.)
    pub(super) async fn acquire_in_place(
        &mut self,
        shard: ShardId,
        at: usize,
    ) -> Result<(), SqlError> {
        if self.acquire(shard).await? == at {
            return Ok(());
        }
        Err(SqlError::new(SqlState::INTERNAL_ERROR, "a connection was not replaced"))
    }

    /// What sets a fresh connection up has failed: true if another one may do better.
    pub(super) fn is_dead_on_arrival(&self, at: usize, error: &BackendError) -> bool {
        error.is_gone() && self.held.get(at).is_some_and(|held| held.fresh)
    }
}
