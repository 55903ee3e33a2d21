//! The one shard of a unit: its statements are one implicit transaction, and each that is placed settles it
//! for the others.

use super::Unit;
use crate::error::{SqlError, SqlState};
use crate::exec::Executor;
use crate::exec::planner::Entry;
use crate::map::ShardId;
use crate::plan::{Plan, Route};
use crate::sql::class::Class;

impl Executor {
    /// A statement that is bound goes where its plan says; the unit goes there with it.
    pub(super) fn place(
        &mut self,
        plan: &Plan,
        entry: &Entry,
        unit: &mut Unit,
    ) -> Result<(), SqlError> {
        let plan = &*self.at_its_cursor(&entry.class, plan);
        let anywhere = matches!(plan.route, Route::Any | Route::Nowhere);
        if !anywhere
            || plan.names_temporary
            || self.session.transaction.is_several() && unit.shard.is_none()
        {
            let shard = self.one_shard(plan)?;
            let other = self.batch.open_on.or(unit.shard).filter(|other| *other != shard);
            if let Some(other) = other {
                return Err(self.other_pipeline(shard, other));
            }
            unit.shard = Some(shard);
        }
        if matches!(entry.class, Class::Definition { temporary: true, .. }) {
            unit.effects.push((unit.executions, entry.class.clone()));
        }
        for set in plan.settings.iter().flatten() {
            unit.effects.push((unit.executions, Class::Set(set.clone())));
        }
        let repeat = self.repeat_of(entry, plan);
        unit.repeat = if unit.executes { unit.repeat.min(repeat) } else { repeat };
        unit.writes |= plan.writes;
        unit.taints |= plan.taints;
        self.leaving = self.leaving.with(entry.leaves);
        unit.changes_schema |= plan.changes_schema;
        unit.executes = true;
        Ok(())
    }

    /// A portal is on a shard: so is what concerns it.
    pub(super) fn stay(&self, shard: Option<ShardId>, unit: &mut Unit) -> Result<(), SqlError> {
        let Some(shard) = shard else { return Ok(()) };
        if let Some(other) = self.batch.open_on.or(unit.shard).filter(|other| *other != shard) {
            return Err(self.other_pipeline(shard, other));
        }
        unit.shard = Some(shard);
        Ok(())
    }

    /// A portal that is not known here may be one that DECLARE has made: where there may be such, the shard
    /// is asked.
    pub(super) fn has_cursors(&self, name: &[u8], unit: &mut Unit) -> bool {
        if self.batch.open_on.is_some() || unit.shard.is_some() {
            return true;
        }
        let open = || self.session.transaction.shard().or_else(|| self.keeper());
        unit.shard = self.cursor_named(name).or_else(open);
        unit.shard.is_some()
    }

    /// The transaction is on several shards, or will be by this unit.
    pub(super) fn goes_elsewhere(&self, unit: &Unit) -> bool {
        let first = self.session.transaction.shard();
        let here = self.batch.open_on.or(unit.shard);
        self.session.transaction.is_several()
            || first.is_some_and(|first| here.is_some_and(|here| here != first))
    }

    pub(super) fn other_pipeline(&self, wanted: ShardId, here: ShardId) -> SqlError {
        let name = |shard| self.place_name(shard);
        SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "the statements between two Syncs belong to shards \"{}\" and \"{}\"",
                name(here),
                name(wanted)
            ),
        )
        .detail("They are one implicit transaction, and a transaction stays on one shard.")
        .hint("Send a Sync between them.")
    }
}

pub(super) fn not_alone() -> SqlError {
    SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "a statement over several shards must stand alone",
    )
    .detail("It is part of a transaction or of a pipeline that belongs to one shard.")
    .hint("Send it by itself, with its own Sync, outside a transaction block.")
}

pub(super) fn not_alone_in_transaction() -> SqlError {
    SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "what concerns a transaction over several shards must stand alone",
    )
    .detail("It is said to every shard of the transaction, and comes behind a statement for one of them.")
    .hint("Send a Sync before it.")
}
