//! `SET pgmeridian.shard = '*'`: every statement is for all shards.
//!
//! Where the ordinary rules have an answer, that is it: a row goes to its one shard, a read is of all rows.
//! What they refuse runs on each shard as on that server alone, if it writes or calls code that can't be
//! seen: a data migration, a maintenance function. Placement holds: each shard's part must be allowed in
//! that shard's scope, and a statement that reads a table of one shard only is not the same on the others.

use super::compile::Query;
use super::query;
use super::refusal::Refusal;
use super::scope::{Origin, Resolved};
use super::{Answer, Ground, Inputs, Plan, Route, Rule};
use crate::error::SqlError;
use crate::map::{FunctionRule, Placement, ShardId, ShardMap};
use crate::sql::ir::{Analysis, BlockKind, CallKind, SourceKind};

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
    if let (Some(table), Some(what)) = (&query.reference_written, &query.diverges) {
        let (table, what) = (table.clone(), what.clone());
        return Err(Refusal::ReferenceDiverges { table, what }.into());
    }
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

/// What in a statement is not the same on every shard, so that a reference table that it writes would not stay
/// the same either.
pub(super) fn diverges(analysis: &Analysis, map: &ShardMap) -> Option<String> {
    if analysis.samples {
        return Some("TABLESAMPLE".to_owned());
    }
    let call = analysis.calls.iter().find(|call| match call.kind {
        CallKind::Pure | CallKind::Stable => false,
        CallKind::User(_) => map.function(&call.name) != Some(FunctionRule::Pure),
        CallKind::Time
        | CallKind::Volatile
        | CallKind::Sequence
        | CallKind::AdvisoryLock { .. }
        | CallKind::Setting
        | CallKind::Measures
        | CallKind::Notifies
        | CallKind::ReadsTables => true,
    });
    if let Some(call) = call {
        return Some(format!("function {}", call.name));
    }
    for source in &analysis.sources {
        match &source.kind {
            SourceKind::Table(table) if map.placement(table) != Placement::Reference => {
                return Some(format!("table \"{}\"", table.name));
            }
            SourceKind::Unknown(name) => return Some(format!("table \"{name}\"")),
            SourceKind::SystemCatalog => return Some(format!("catalog \"{}\"", source.name)),
            SourceKind::Table(_)
            | SourceKind::Derived(_)
            | SourceKind::Function
            | SourceKind::RecursiveSelf => {}
        }
    }
    // Rows that are picked in no order, or in one that leaves ties.
    let picks = analysis.blocks.iter().any(|block| match &block.kind {
        BlockKind::Select(select) => select.limit || select.distinct_on || select.windows,
        BlockKind::SetOperation(set) => set.limit,
        _ => false,
    });
    picks.then(|| "a sub-select with LIMIT, DISTINCT ON or a window function".to_owned())
}
