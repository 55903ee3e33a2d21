//! The one shard of a statement that is passed on as it is: where its plan's route and the transaction lead
//! together.

use super::Executor;
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::plan::{Plan, Route};

impl Executor {
    /// The one shard that a plan's route and the transaction lead to.
    pub(super) fn one_shard(&mut self, plan: &Plan) -> Result<ShardId, SqlError> {
        if let Route::Database(database) = &plan.route {
            let route = Route::One(self.visit(database)?);
            return self.one_place(&Plan { route, ..plan.clone() });
        }
        self.one_place(plan)
    }

    /// The same, where the route is none to a key's own database.
    pub(super) fn one_place(&self, plan: &Plan) -> Result<ShardId, SqlError> {
        let open = self.session.transaction.shard();
        let here = self.batch.open_on().or(open);
        let led;
        let plan = if plan.names_temporary {
            led = Plan { route: Route::One(self.beside_temporary(plan)?), ..plan.clone() };
            &led
        } else {
            plan
        };
        if self.session.transaction.is_several() && self.batch.open_on().is_none() {
            return self.one_of_several(plan);
        }
        match (&plan.route, here) {
            (Route::One(shard), None) => Ok(*shard),
            (Route::One(shard), Some(here)) if *shard == here => Ok(here),
            (Route::One(shard), Some(here)) => {
                if open.is_none() || self.batch.is_open() {
                    return Err(self.other_shard(*shard, here));
                }
                self.may_enlist(*shard, plan.writes || plan.taints)?;
                Ok(*shard)
            }
            (Route::Any | Route::Nowhere, Some(here)) => Ok(here),
            (Route::Any | Route::Nowhere, None) => {
                Ok(self.keeper().unwrap_or_else(|| self.world.map.default_shard()))
            }
            (Route::Database(_) | Route::Many(_) | Route::All, _) => Err(several_at_once()),
        }
    }

    /// The shard whose connection carries this session's state: what may go anywhere goes there.
    pub(super) fn keeper(&self) -> Option<ShardId> {
        let pinned = || self.held.iter().find(|held| held.pinned);
        let temporary = self.session.temporary.as_ref().map(|(shard, _)| *shard);
        temporary.or_else(|| pinned().map(|held| held.shard))
    }

    pub(super) fn other_shard(&self, wanted: ShardId, here: ShardId) -> SqlError {
        let name = |shard: ShardId| self.place_name(shard);
        SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "this statement belongs to shard \"{}\", the transaction is on shard \"{}\"",
                name(wanted),
                name(here)
            ),
        )
        .detail("A transaction stays on the shard of its first statement.")
        .hint("Commit first, or keep each transaction to the keys of one shard.")
    }
}

pub(super) fn several_at_once() -> SqlError {
    SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "a statement over several shards must stand alone",
    )
    .detail("It is part of a transaction, a query string or a pipeline that belongs to one shard.")
    .hint("Send it by itself, outside a transaction block.")
}
