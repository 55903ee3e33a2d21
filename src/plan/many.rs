//! Rule *many*: which reads are the union of the shards' answers.
//!
//! A whitelist (the argument is in [`super::facts`]): every output row comes from exactly one row of one
//! sharded *driving* table, which stands where no join extends it with NULLs; every other occurrence of a
//! sharded table equals it on all parts of the key, so the rows that it joins are on the same shard;
//! reference tables are whole on every shard; and nothing else has a say. The outermost ORDER BY, LIMIT and OFFSET
//! don't count: whoever gathers the rows sees to them ([`super::ordered`]).

use super::compile::Occurrence;
use super::facts::Facts;
use super::moment::can_be_said;
use super::refusal::Construct;
use crate::map::{FunctionRule, Placement, ShardMap};
use crate::sql::ir::{
    Analysis, Block, BlockId, BlockKind, CallKind, ColumnRef, FromTree, JoinKind, Select, SourceId,
    SourceKind,
};

/// Aggregates whose result depends on the order of their input.
const ORDERED_AGGREGATES: [&str; 9] = [
    "array_agg",
    "string_agg",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "xmlagg",
    "json_arrayagg",
    "json_objectagg",
];

/// The driving occurrence's index, or what stands in the way.
pub(super) fn driver(
    analysis: &Analysis,
    facts: &Facts<'_>,
    occurrences: &[Occurrence],
    map: &ShardMap,
) -> Result<usize, Construct> {
    functions(analysis, map)?;
    if analysis.samples {
        return Err(Construct::Sample);
    }
    if analysis.locks_rows {
        return Err(Construct::RowLocks);
    }
    sources(analysis, map)?;
    let root = analysis.blocks.get(analysis.root as usize);
    let Some(Block { kind: BlockKind::Select(select), .. }) = root else {
        return Err(Construct::SetOperation);
    };
    plain(select)?;
    let mut candidates = Vec::new();
    let mut obstacle = None;
    candidates_in(analysis, &select.from, &mut candidates, &mut obstacle);
    if !map.freezes().is_empty() {
        // Rows that an id places can't be told from their copies; what they equal may be.
        let placed_by_id = |id: &SourceId| {
            occurrences.iter().any(|own| own.source == *id && own.columns.is_empty())
        };
        candidates.sort_by_key(placed_by_id);
    }
    let mut failed = obstacle.unwrap_or(Construct::PreservedReference);
    for candidate in candidates {
        let Some(at) = occurrences.iter().position(|o| o.source == candidate) else { continue };
        match colocated(facts, occurrences, at) {
            Ok(()) => {
                picked_references(analysis, occurrences)?;
                return Ok(at);
            }
            Err(construct) => failed = construct,
        }
    }
    Err(failed)
}

fn functions(analysis: &Analysis, map: &ShardMap) -> Result<(), Construct> {
    for call in &analysis.calls {
        let harmless = match call.kind {
            CallKind::Pure | CallKind::Stable => true,
            CallKind::User(_) => map.function(&call.name) == Some(FunctionRule::Pure),
            CallKind::Time => can_be_said(analysis, &call.name),
            CallKind::Volatile
            | CallKind::Sequence
            | CallKind::AdvisoryLock { .. }
            | CallKind::Setting
            | CallKind::Measures
            | CallKind::Notifies
            | CallKind::ReadsTables => false,
        };
        if !harmless {
            return Err(Construct::Function(call.name.clone()));
        }
    }
    Ok(())
}

fn sources(analysis: &Analysis, map: &ShardMap) -> Result<(), Construct> {
    for block in &analysis.blocks {
        match &block.kind {
            BlockKind::SetOperation(set) if set.recursive => return Err(Construct::Recursive),
            BlockKind::Insert(_)
            | BlockKind::Update(_)
            | BlockKind::Delete(_)
            | BlockKind::Merge(_) => return Err(Construct::WritingCte),
            BlockKind::SetOperation(_) | BlockKind::Select(_) | BlockKind::Values(_) => {}
        }
    }
    for source in &analysis.sources {
        match &source.kind {
            SourceKind::Table(table) if map.everywhere(table) => {
                return Err(Construct::Everywhere(table.name.clone()));
            }
            SourceKind::Table(table) => match map.placement(table) {
                Placement::Sharded { .. } | Placement::Lookup { .. } | Placement::Reference => {}
                Placement::Single(_) | Placement::Unlisted | Placement::Unusable(_) => {
                    return Err(Construct::SingleTable(table.name.clone()));
                }
            },
            SourceKind::Derived(_) => {}
            SourceKind::SystemCatalog => return Err(Construct::SystemCatalog),
            SourceKind::Function => return Err(Construct::FunctionInFrom),
            SourceKind::RecursiveSelf => return Err(Construct::Recursive),
            SourceKind::Unknown(name) => return Err(Construct::UnknownTable(name.clone())),
        }
    }
    Ok(())
}

/// Each output row comes from exactly one joined row, and each joined row gives one.
fn plain(select: &Select) -> Result<(), Construct> {
    let obstacles = [
        (select.distinct || select.distinct_on, Construct::Distinct),
        (!select.group_by.is_empty() || select.grouping_sets, Construct::GroupBy),
        (select.aggregates || select.having, Construct::Aggregate),
        (select.windows, Construct::Window),
        (select.srf_in_output, Construct::SetReturningOutput),
        (select.locks_rows, Construct::RowLocks),
    ];
    match obstacles.into_iter().find(|(there, _)| *there) {
        Some((_, construct)) => Err(construct),
        None => Ok(()),
    }
}

/// The same for a derived table, whose LIMIT would be each shard's own.
fn whole(select: &Select) -> Result<(), Construct> {
    if select.limit { Err(Construct::Limit) } else { plain(select) }
}

/// Occurrences that no join extends with NULLs, in plain derived tables too.
fn candidates_in(
    analysis: &Analysis,
    tree: &FromTree,
    found: &mut Vec<SourceId>,
    obstacle: &mut Option<Construct>,
) {
    match tree {
        FromTree::Empty | FromTree::Join { kind: JoinKind::Full, .. } => {}
        FromTree::Join { kind: JoinKind::Inner, left, right, .. } => {
            candidates_in(analysis, left, found, obstacle);
            candidates_in(analysis, right, found, obstacle);
        }
        FromTree::Join { kind: JoinKind::Left, left, .. } => {
            candidates_in(analysis, left, found, obstacle);
        }
        FromTree::Join { kind: JoinKind::Right, right, .. } => {
            candidates_in(analysis, right, found, obstacle);
        }
        FromTree::Source(id) => {
            match analysis.sources.get(*id as usize).map(|source| &source.kind) {
                Some(SourceKind::Table(_)) => found.push(*id),
                Some(SourceKind::Derived(block)) => {
                    match analysis.blocks.get(*block as usize).map(|b| &b.kind) {
                        Some(BlockKind::Select(select)) => match whole(select) {
                            Ok(()) => candidates_in(analysis, &select.from, found, obstacle),
                            Err(construct) => {
                                obstacle.get_or_insert(derived(&construct));
                            }
                        },
                        Some(BlockKind::SetOperation(_)) => {
                            obstacle.get_or_insert(derived(&Construct::SetOperation));
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }
}

fn derived(construct: &Construct) -> Construct {
    Construct::Derived(construct.name())
}

fn colocated(
    facts: &Facts<'_>,
    occurrences: &[Occurrence],
    driver: usize,
) -> Result<(), Construct> {
    let Some(drives) = occurrences.get(driver) else { return Err(Construct::PreservedReference) };
    for (at, other) in occurrences.iter().enumerate() {
        if at == driver {
            continue;
        }
        let context = facts.context_of(other.source);
        let column = |o: &Occurrence, column: u16| ColumnRef { source: o.source, column };
        // Rows that an id places have no key to compare.
        let equal = other.key == drives.key
            && !drives.columns.is_empty()
            && other.columns.len() == drives.columns.len()
            && other
                .columns
                .iter()
                .zip(&drives.columns)
                .all(|(&a, &b)| facts.equal(context, column(other, a), column(drives, b)));
        if !(equal || other.same.contains(&driver)) {
            let names = (drives.table.name.clone(), other.table.name.clone());
            return Err(Construct::NotColocated(names.0, names.1));
        }
    }
    Ok(())
}

/// Sub-selects of reference tables alone must give the same rows on every shard.
fn picked_references(analysis: &Analysis, occurrences: &[Occurrence]) -> Result<(), Construct> {
    let mut sharded = vec![false; analysis.blocks.len()];
    for occurrence in occurrences {
        let mut next = analysis.sources.get(occurrence.source as usize).map(|s| s.block);
        while let Some(id) = next {
            match sharded.get_mut(id as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => break,
            }
            next = analysis.blocks.get(id as usize).and_then(|block| block.parent);
        }
    }
    for (block, _) in analysis.blocks.iter().zip(&sharded).filter(|(_, sharded)| !**sharded) {
        let picks = match &block.kind {
            BlockKind::Select(select) if select.limit => Some("LIMIT or OFFSET"),
            BlockKind::Select(select) if select.distinct_on => Some("DISTINCT ON"),
            BlockKind::Select(select) if select.windows => Some("a window function"),
            BlockKind::SetOperation(set) if set.limit => Some("LIMIT or OFFSET"),
            _ => None,
        };
        if let Some(what) = picks {
            return Err(Construct::PickedReference(what.to_owned()));
        }
    }
    let in_reference = |block: BlockId| sharded.get(block as usize) == Some(&false);
    match analysis
        .calls
        .iter()
        .find(|call| in_reference(call.block) && ORDERED_AGGREGATES.contains(&call.name.as_str()))
    {
        Some(call) => Err(Construct::PickedReference(call.name.clone())),
        None => Ok(()),
    }
}
