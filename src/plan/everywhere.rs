//! `SET pgmeridian.shard = '*'`: every statement is for all shards.
//!
//! Where the ordinary rules have an answer, that is it: a row goes to its one shard, a read is of all rows.
//! What they refuse runs on each shard as on that server alone, if it writes or calls code that can't be
//! seen: a data migration, a maintenance function. Placement holds: each shard's part must be allowed in
//! that shard's scope, and a statement that reads a table of one shard only is not the same on the others.

use super::compile::Query;
use super::query;
use super::scope::{Origin, Resolved};
use super::{Answer, Ground, Inputs, Plan, Route, Rule};
use crate::error::SqlError;
use crate::map::ShardId;

/// Plans one execution.
///
/// # Errors
///
/// What the ordinary rules say, where it can't run on each shard either.
pub(super) fn plan<'p>(
    query: &Query,
    ground: &Ground<'_>,
    inputs: &'p Inputs<'p>,
    scope: &Resolved<'p>,
) -> Result<(Plan, Rule), SqlError> {
    let refused = match query::plan(query, ground, inputs, scope) {
        Ok(planned) => return Ok(planned),
        Err(refused) => refused,
    };
    let functions = &query.functions;
    let hidden = functions.undeclared.is_some() || functions.all.is_some();
    if !(query.writes || hidden) || !query.fixed.is_empty() || !scope.keys.is_empty() {
        return Err(refused);
    }
    let mut common: Option<Plan> = None;
    for shard in 0..ground.map.shards().len() as u16 {
        let own = Resolved {
            shard: Some((ShardId(shard), Origin::Session)),
            on_each: true,
            lookups: scope.lookups,
            temporary: scope.temporary,
            ..Resolved::default()
        };
        let Ok((plan, _)) = query::plan(query, ground, inputs, &own) else { return Err(refused) };
        if common.as_ref().is_some_and(|other| other.rewritten != plan.rewritten) {
            return Err(refused);
        }
        common = Some(plan);
    }
    match common {
        Some(plan) => {
            let plan = Plan { route: Route::All, answer: Answer::Broadcast, ..plan };
            Ok((plan, Rule::Everywhere))
        }
        None => Err(refused),
    }
}
