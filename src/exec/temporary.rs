//! Statements in a session that has temporary tables: those that may mean them belong to their shard.

use super::Executor;
use super::one_shard::several_at_once;
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::plan::{Answer, Plan, Route};

impl Executor {
    /// The shard of a statement that may mean temporary tables.
    pub(super) fn beside_temporary(&self, plan: &Plan) -> Result<ShardId, SqlError> {
        let Some((own, _)) = &self.session.temporary else { return Err(several_at_once()) };
        match plan.route {
            Route::One(shard) if shard != *own => Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!(
                    "this statement belongs to shard \"{}\", the session has temporary tables on shard \"{}\"",
                    self.place_name(shard),
                    self.place_name(*own)
                ),
            )
            .detail(HIDES)
            .hint(DROPS)),
            Route::One(_) | Route::Any | Route::Nowhere => Ok(*own),
            Route::Database(_) | Route::Many(_) | Route::All => Err(several_at_once()),
        }
    }

    /// A statement of several shards must not mean what one of them has alone.
    pub(super) fn refuse_beside_temporary(&self, plan: &Plan) -> Result<(), SqlError> {
        // Of one that has a query within, that is looked at by itself.
        let concerned = plan.names_temporary && !matches!(plan.answer, Answer::Staged(_));
        let Some((own, _)) = self.session.temporary.as_ref().filter(|_| concerned) else {
            return Ok(());
        };
        Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "a statement over several shards, while the session has temporary tables on shard \"{}\"",
                self.place_name(*own)
            ),
        )
        .detail(HIDES)
        .hint(DROPS))
    }
}

const HIDES: &str =
    "A temporary table may hide a table of the same name, and it is on one shard only.";
const DROPS: &str = "DISCARD ALL drops the session's temporary tables.";
