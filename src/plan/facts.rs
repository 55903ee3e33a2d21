//! What a statement says of each occurrence of a table: facts, where they hold, and what follows.
//!
//! Main type: [`Facts`]. It walks the blocks once, top down, and gives every occurrence a *context*: a
//! chain of predicates that hold for every row of it that can influence the answer. From a context
//! follow the restriction of a set of columns ([`Facts::restrict`]) and whether two columns are equal
//! ([`Facts::equal`]).
//!
//! Invariant, the one that everything else stands on: *taking away rows of an occurrence that violate
//! what its context says does not change the answer.* Why the rules keep it:
//!
//! * WHERE, and ON of inner joins that only inner joins and preserved sides enclose, hold in every joined
//!   row that survives. They are strict in the columns that they restrict, so a row that was extended with
//!   NULLs because a row was taken away does not survive either.
//! * ON of an outer join says nothing of the preserved side; for the null-producing side it holds in
//!   addition to everything around it. ON of a full join says nothing of either side.
//! * What is said of a sub-select's output holds inside only where filtering the output is filtering the
//!   input ([`Facts::passes`]); what is said inside holds outside for every row that comes out, except
//!   where a row comes out of no row (an aggregate without GROUP BY, the empty grouping set).
//! * A sub-select in an expression inherits what holds for the rows that it is evaluated for.
//! * `EXISTS` and `IN (SELECT …)` as a conjunct name a row that exists, so what is
//!   said of that row may be used outside.
//!
//! Deliberately absent: predicates under NOT, outer joins' ON for the preserved side, anything about
//! recursive terms, and all cleverness about windows.

mod conclude;

use rustc_hash::FxHashSet;

use super::restrict::Restrict;
use crate::datum::KeyType;
use crate::sql::ir::{
    Analysis, Block, BlockId, BlockKind, ColumnRef, Expr, FromTree, InsertRows, JoinKind, Pred,
    Scalar, Select, SetOperation, SourceId, SourceKind, SubqueryPlace,
};

/// Sub-selects nested deeper than this are not looked into (analysis is bounded by the parser's own
/// limit; this one keeps the walk's stack small).
const NESTING_MAX: u32 = 128;

/// Index of a context.
pub(super) type ContextId = u32;

/// The context in which nothing is known.
pub(super) const NOWHERE: ContextId = 0;

/// Sources of the columns that this room makes up: outputs that are asked for ([`Facts::output`]).
const MADE_UP: SourceId = SourceId::MAX;

/// Which columns may be equal to each other without a conversion that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// smallint, integer, bigint.
    Integer,
    /// text, varchar.
    Text,
    /// uuid.
    Uuid,
    /// Not known; the statement would fail if it didn't fit.
    Open,
    /// That of constants, whose type is what all that stand together have in common.
    Constant,
    /// Anything else.
    Other,
}

impl Family {
    /// The family of a key type.
    pub(super) fn of(ty: KeyType) -> Self {
        match ty {
            KeyType::BigInt | KeyType::Integer | KeyType::SmallInt => Self::Integer,
            KeyType::Text | KeyType::Varchar => Self::Text,
            KeyType::Uuid => Self::Uuid,
        }
    }

    fn fits(self, other: Self) -> bool {
        match (self, other) {
            (Self::Other, _) | (_, Self::Other) => false,
            (Self::Open | Self::Constant, _) | (_, Self::Open | Self::Constant) => true,
            (a, b) => a == b,
        }
    }
}

/// A fact, and the block that it came out of, if it did.
#[derive(Clone, Debug)]
struct Fact<'a> {
    says: Says<'a>,
    from: Option<BlockId>,
}

#[derive(Clone, Debug)]
enum Says<'a> {
    /// A conjunct.
    Pred(&'a Pred),
    /// The columns are the same.
    Equal(ColumnRef, ColumnRef),
    /// The column is one of these constants (or NULL).
    OneOf(ColumnRef, Vec<&'a Scalar>),
    /// The column is this output of a row of the block.
    Output(ColumnRef, BlockId, u16),
}

#[derive(Debug, Default)]
struct Context<'a> {
    parent: Option<ContextId>,
    facts: Vec<Fact<'a>>,
    /// Facts of the enclosing contexts that came out of this block don't hold here: they are about its
    /// output, and this is inside.
    inside: Option<BlockId>,
}

/// The facts of a statement.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    analysis: &'a Analysis,
    contexts: Vec<Context<'a>>,
    of_source: Vec<ContextId>,
    of_block: Vec<ContextId>,
    made_up: Vec<Family>,
    depth: u32,
}

/// A column outside that is an output of the block about to be walked.
type Link = (ColumnRef, u16);

impl<'a> Facts<'a> {
    /// Walks the statement.
    pub(super) fn new(analysis: &'a Analysis) -> Self {
        let mut facts = Self {
            analysis,
            contexts: vec![Context::default()],
            of_source: vec![NOWHERE; analysis.sources.len()],
            of_block: vec![NOWHERE; analysis.blocks.len()],
            made_up: Vec::new(),
            depth: 0,
        };
        facts.visit(analysis.root, NOWHERE, &[]);
        facts
    }

    /// The context of an occurrence.
    pub(super) fn context_of(&self, source: SourceId) -> ContextId {
        self.of_source.get(source as usize).copied().unwrap_or(NOWHERE)
    }

    /// The context of a block's rows: its WHERE and what encloses it.
    pub(super) fn context_of_block(&self, block: BlockId) -> ContextId {
        self.of_block.get(block as usize).copied().unwrap_or(NOWHERE)
    }

    /// What a context says of these columns, which are the parts of one key, in order.
    pub(super) fn restrict(&self, context: ContextId, columns: &[ColumnRef]) -> Restrict {
        let facts = self.holding(context);
        let classes: Vec<FxHashSet<ColumnRef>> =
            columns.iter().map(|&column| self.class(&facts, column)).collect();
        let part = |column: ColumnRef| {
            classes.iter().position(|class| class.contains(&column)).map(|p| p as u8)
        };
        Restrict::and(facts.iter().map(|fact| match &fact.says {
            Says::Pred(pred) => self.restrict_pred(pred, &part),
            Says::Equal(..) => Restrict::Any,
            Says::OneOf(column, scalars) => match (part(*column), scalars.as_slice()) {
                (None, _) => Restrict::Any,
                (Some(part), [one]) => Restrict::Eq(part, (*one).clone()),
                (Some(part), _) => {
                    Restrict::In(part, scalars.iter().map(|s| (*s).clone()).collect())
                }
            },
            Says::Output(column, block, index) => match part(*column) {
                Some(part) => self.one_output(*block, *index, self.family(*column)).on_part(part),
                None => Restrict::Any,
            },
        }))
    }

    /// Whether a context says that two columns are equal.
    pub(super) fn equal(&self, context: ContextId, a: ColumnRef, b: ColumnRef) -> bool {
        let facts = self.holding(context);
        self.class(&facts, a).contains(&b)
    }

    /// What every row that comes out of a block says of these outputs, which are the parts of one key of
    /// these types. Also columns that stand for the outputs, and the context in which they do.
    pub(super) fn output(
        &mut self,
        block: BlockId,
        outputs: &[(u16, KeyType)],
    ) -> (Restrict, ContextId, Vec<ColumnRef>) {
        let mut links = Vec::new();
        for &(output, ty) in outputs {
            let column = ColumnRef { source: MADE_UP, column: self.made_up.len() as u16 };
            self.made_up.push(Family::of(ty));
            links.push((column, output));
        }
        let mut facts = Vec::new();
        self.comes_out(block, &links, block, &mut facts);
        let parent = Some(NOWHERE);
        self.contexts.push(Context { parent, facts, inside: None });
        let context = (self.contexts.len() - 1) as ContextId;
        let columns: Vec<ColumnRef> = links.iter().map(|(column, _)| *column).collect();
        (self.restrict(context, &columns), context, columns)
    }

    /// Sources of which each row that comes out of a block has a row: no join extends them with NULLs.
    pub(super) fn always_there(&self, block: BlockId) -> Vec<SourceId> {
        let mut found = Vec::new();
        self.there_in_block(block, &mut found, 0);
        found
    }

    fn there_in_block(&self, block: BlockId, found: &mut Vec<SourceId>, depth: u32) {
        if let Some(Block { kind: BlockKind::Select(select), .. }) =
            self.analysis.blocks.get(block as usize)
            && depth < NESTING_MAX
        {
            self.there_in_tree(&select.from, found, depth + 1);
        }
    }

    fn there_in_tree(&self, tree: &FromTree, found: &mut Vec<SourceId>, depth: u32) {
        match tree {
            FromTree::Empty | FromTree::Join { kind: JoinKind::Full, .. } => {}
            FromTree::Source(id) => {
                found.push(*id);
                if let Some(block) = self.derived(*id) {
                    self.there_in_block(block, found, depth);
                }
            }
            FromTree::Join { kind: JoinKind::Inner, left, right, .. } => {
                self.there_in_tree(left, found, depth);
                self.there_in_tree(right, found, depth);
            }
            FromTree::Join { kind: JoinKind::Left, left: there, .. }
            | FromTree::Join { kind: JoinKind::Right, right: there, .. } => {
                self.there_in_tree(there, found, depth);
            }
        }
    }

    // ---- the walk -------------------------------------------------------------------------------

    fn open(
        &mut self,
        parent: ContextId,
        facts: Vec<Fact<'a>>,
        inside: Option<BlockId>,
    ) -> ContextId {
        self.contexts.push(Context { parent: Some(parent), facts, inside });
        (self.contexts.len() - 1) as ContextId
    }

    fn visit(&mut self, id: BlockId, outside: ContextId, links: &[Link]) {
        if self.depth >= NESTING_MAX {
            return;
        }
        self.depth += 1;
        let analysis = self.analysis;
        if let Some(block) = analysis.blocks.get(id as usize) {
            for &cte in &block.unused_ctes {
                self.visit(cte, NOWHERE, &[]);
            }
            let outside = self.open(outside, Vec::new(), Some(id));
            self.visit_kind(id, block, outside, links);
        }
        self.depth -= 1;
    }

    fn visit_kind(&mut self, id: BlockId, block: &'a Block, outside: ContextId, links: &[Link]) {
        match &block.kind {
            BlockKind::Select(select) => self.visit_select(id, block, select, outside, links),
            BlockKind::SetOperation(set) => self.visit_set(id, block, set, outside, links),
            BlockKind::Values(_) => self.visit_subqueries(block, outside, outside, outside, &[]),
            BlockKind::Insert(insert) => {
                if let InsertRows::Query(query) = &insert.rows {
                    self.visit(*query, NOWHERE, &[]);
                }
                self.visit_subqueries(block, NOWHERE, NOWHERE, NOWHERE, &[]);
            }
            BlockKind::Update(update) => {
                self.visit_target(id, block, &update.from, &update.filter);
            }
            BlockKind::Delete(delete) => {
                self.visit_target(id, block, &delete.from, &delete.filter);
            }
            BlockKind::Merge(merge) => {
                let mut facts = Vec::new();
                self.preserved(&merge.from, None, &mut facts);
                let context = self.open(NOWHERE, facts, None);
                self.set_block(id, context);
                self.visit_from(&merge.from, context);
                self.visit_subqueries(block, NOWHERE, NOWHERE, NOWHERE, &[]);
            }
        }
    }

    fn visit_select(
        &mut self,
        id: BlockId,
        block: &'a Block,
        select: &'a Select,
        outside: ContextId,
        links: &[Link],
    ) {
        let mut facts = Vec::new();
        self.preserved(&select.from, None, &mut facts);
        self.conjuncts(&select.filter, None, &mut facts);
        for &(column, output) in links {
            if let Some(inner) = Self::passes(block, select, output) {
                facts.push(Fact { says: Says::Equal(column, inner), from: None });
            }
        }
        let context = self.open(outside, facts, None);
        self.set_block(id, context);
        self.visit_from(&select.from, context);
        // Without GROUP BY an aggregate's one row is there even when no row meets WHERE, so what stands in
        // the output is evaluated all the same.
        let rows_or_none =
            !(select.grouping_sets || select.aggregates && select.group_by.is_empty());
        let other = if rows_or_none { context } else { outside };
        let conjuncts = conjunct_queries(&select.filter, &select.from);
        self.visit_subqueries(block, context, other, outside, &conjuncts);
    }

    fn visit_set(
        &mut self,
        id: BlockId,
        block: &'a Block,
        set: &SetOperation,
        outside: ContextId,
        links: &[Link],
    ) {
        self.set_block(id, outside);
        let links: Vec<Link> = if set.recursive || set.limit {
            Vec::new()
        } else {
            let one_family = |link: &&Link| self.output_family(id, link.1) != Family::Other;
            links.iter().filter(one_family).copied().collect()
        };
        self.visit(set.left, outside, &links);
        self.visit(set.right, outside, &links);
        self.visit_subqueries(block, outside, outside, outside, &[]);
    }

    fn visit_target(
        &mut self,
        id: BlockId,
        block: &'a Block,
        from: &'a FromTree,
        filter: &'a Pred,
    ) {
        let mut facts = Vec::new();
        self.preserved(from, None, &mut facts);
        self.conjuncts(filter, None, &mut facts);
        let context = self.open(NOWHERE, facts, None);
        self.set_block(id, context);
        self.visit_from(from, context);
        let conjuncts = conjunct_queries(filter, from);
        self.visit_subqueries(block, context, context, NOWHERE, &conjuncts);
    }

    fn visit_subqueries(
        &mut self,
        block: &Block,
        filter: ContextId,
        other: ContextId,
        outside: ContextId,
        conjuncts: &[(BlockId, ColumnRef)],
    ) {
        for subquery in &block.subqueries {
            let context = match subquery.place {
                SubqueryPlace::Filter => filter,
                SubqueryPlace::Other => other,
                // Which join it is isn't known here; LIMIT is evaluated whatever WHERE says.
                SubqueryPlace::OuterJoin | SubqueryPlace::Limit => outside,
            };
            let links: Vec<Link> = conjuncts
                .iter()
                .filter(|(id, _)| *id == subquery.block && subquery.place == SubqueryPlace::Filter)
                .map(|(_, column)| (*column, 0))
                .collect();
            self.visit(subquery.block, context, &links);
        }
    }

    fn visit_from(&mut self, tree: &'a FromTree, context: ContextId) {
        match tree {
            FromTree::Empty => {}
            FromTree::Source(id) => {
                if let Some(place) = self.of_source.get_mut(*id as usize) {
                    *place = context;
                }
                if let Some(block) = self.derived(*id) {
                    let links = self.links(*id, block);
                    self.visit(block, context, &links);
                }
            }
            FromTree::Join { kind, left, right, on } => {
                let (left_context, right_context) = match kind {
                    JoinKind::Inner => (context, context),
                    JoinKind::Left => (context, self.null_side(right, Some(on), context)),
                    JoinKind::Right => (self.null_side(left, Some(on), context), context),
                    JoinKind::Full => {
                        (self.null_side(left, None, context), self.null_side(right, None, context))
                    }
                };
                self.visit_from(left, left_context);
                self.visit_from(right, right_context);
            }
        }
    }

    fn null_side(
        &mut self,
        side: &'a FromTree,
        on: Option<&'a Pred>,
        context: ContextId,
    ) -> ContextId {
        let mut facts = Vec::new();
        self.preserved(side, None, &mut facts);
        if let Some(on) = on {
            self.conjuncts(on, None, &mut facts);
        }
        self.open(context, facts, None)
    }

    fn set_block(&mut self, id: BlockId, context: ContextId) {
        if let Some(place) = self.of_block.get_mut(id as usize) {
            *place = context;
        }
    }

    // ---- collecting -----------------------------------------------------------------------------

    /// What holds in every row that this tree yields.
    fn preserved(&self, tree: &'a FromTree, from: Option<BlockId>, out: &mut Vec<Fact<'a>>) {
        match tree {
            FromTree::Empty => {}
            FromTree::Source(id) => {
                if let Some(block) = self.derived(*id) {
                    let links = self.links(*id, block);
                    self.comes_out(block, &links, from.unwrap_or(block), out);
                }
            }
            FromTree::Join { kind: JoinKind::Inner, left, right, on } => {
                self.preserved(left, from, out);
                self.preserved(right, from, out);
                self.conjuncts(on, from, out);
            }
            FromTree::Join { kind: JoinKind::Left, left, .. } => self.preserved(left, from, out),
            FromTree::Join { kind: JoinKind::Right, right, .. } => {
                self.preserved(right, from, out);
            }
            FromTree::Join { kind: JoinKind::Full, .. } => {}
        }
    }

    fn conjuncts(&self, pred: &'a Pred, from: Option<BlockId>, out: &mut Vec<Fact<'a>>) {
        match pred {
            Pred::And(all) => {
                for one in all {
                    self.conjuncts(one, from, out);
                }
            }
            Pred::InQuery(column, block) => {
                self.comes_out(*block, &[(*column, 0)], from.unwrap_or(*block), out);
            }
            Pred::Exists(block) => self.comes_out(*block, &[], from.unwrap_or(*block), out),
            Pred::EqColumns(a, b) => out.push(Fact { says: Says::Equal(*a, *b), from }),
            Pred::True | Pred::Unknown | Pred::IsNull(_) => {}
            Pred::Or(_) | Pred::Eq(..) | Pred::In(..) | Pred::EqAny(..) | Pred::Range { .. } => {
                out.push(Fact { says: Says::Pred(pred), from });
            }
        }
    }

    /// What holds for some row inside whenever a row comes out of a block; `links` name its outputs.
    fn comes_out(&self, id: BlockId, links: &[Link], from: BlockId, out: &mut Vec<Fact<'a>>) {
        let Some(block) = self.analysis.blocks.get(id as usize) else { return };
        let tag = Some(from);
        match &block.kind {
            BlockKind::Select(select) => {
                if select.grouping_sets {
                    return;
                }
                // The one row of an aggregate comes out of no rows too; its constants are in it.
                if !select.aggregates || !select.group_by.is_empty() {
                    self.preserved(&select.from, tag, out);
                    self.conjuncts(&select.filter, tag, out);
                }
                for &(column, output) in links {
                    match block.output.get(usize::from(output)).map(|o| &o.expr) {
                        Some(Expr::Column(inner)) => {
                            out.push(Fact { says: Says::Equal(column, *inner), from: tag });
                        }
                        Some(Expr::Scalar(scalar)) => {
                            out.push(Fact { says: Says::OneOf(column, vec![scalar]), from: tag });
                        }
                        _ => {}
                    }
                }
            }
            BlockKind::Values(rows) => {
                for &(column, output) in links {
                    let scalars = rows.iter().map(|row| match row.get(usize::from(output)) {
                        Some(Expr::Scalar(scalar)) => Some(scalar),
                        _ => None,
                    });
                    if let Some(scalars) = scalars.collect::<Option<Vec<_>>>() {
                        out.push(Fact { says: Says::OneOf(column, scalars), from: tag });
                    }
                }
            }
            BlockKind::SetOperation(set) if !set.recursive => {
                for &(column, output) in links {
                    if self.output_family(id, output) != Family::Other {
                        out.push(Fact { says: Says::Output(column, id, output), from: tag });
                    }
                }
            }
            BlockKind::SetOperation(_)
            | BlockKind::Insert(_)
            | BlockKind::Update(_)
            | BlockKind::Delete(_)
            | BlockKind::Merge(_) => {}
        }
    }

    /// The column of the input that this output is, if filtering the output by it is filtering the input.
    fn passes(block: &Block, select: &Select, output: u16) -> Option<ColumnRef> {
        let Expr::Column(inner) = block.output.get(usize::from(output))?.expr else { return None };
        if select.limit
            || select.distinct_on
            || select.windows
            || select.grouping_sets
            || select.srf_in_output
            || select.locks_rows
        {
            return None;
        }
        let grouped = select.aggregates || !select.group_by.is_empty();
        (!grouped || select.group_by.contains(&Some(inner))).then_some(inner)
    }

    fn links(&self, source: SourceId, block: BlockId) -> Vec<Link> {
        let outputs = self.analysis.blocks.get(block as usize).map_or(0, |b| match &b.kind {
            BlockKind::Values(rows) => rows.first().map_or(0, Vec::len).max(b.output.len()),
            BlockKind::SetOperation(_) => self.output_count(block, 0).max(b.output.len()),
            _ => b.output.len(),
        });
        (0..outputs as u16).map(|column| (ColumnRef { source, column }, column)).collect()
    }

    fn output_count(&self, block: BlockId, depth: u32) -> usize {
        let Some(block) = self.analysis.blocks.get(block as usize) else { return 0 };
        match &block.kind {
            BlockKind::SetOperation(set) if depth < NESTING_MAX => {
                self.output_count(set.left, depth + 1)
            }
            BlockKind::Values(rows) => rows.first().map_or(0, Vec::len),
            _ => block.output.len(),
        }
    }

    fn derived(&self, source: SourceId) -> Option<BlockId> {
        match self.analysis.sources.get(source as usize)?.kind {
            SourceKind::Derived(block) => Some(block),
            _ => None,
        }
    }
}

/// `column IN (SELECT …)` as conjuncts of WHERE and of inner joins' ON. (`column = (SELECT …)` is no fact: a
/// second row of that one is an error, which must not go away with the row.)
fn conjunct_queries(filter: &Pred, from: &FromTree) -> Vec<(BlockId, ColumnRef)> {
    let mut found = Vec::new();
    pred_queries(filter, &mut found);
    tree_queries(from, &mut found);
    found
}

fn tree_queries(tree: &FromTree, found: &mut Vec<(BlockId, ColumnRef)>) {
    match tree {
        FromTree::Join { kind: JoinKind::Inner, left, right, on } => {
            tree_queries(left, found);
            tree_queries(right, found);
            pred_queries(on, found);
        }
        FromTree::Join { kind: JoinKind::Left, left, .. } => tree_queries(left, found),
        FromTree::Join { kind: JoinKind::Right, right, .. } => tree_queries(right, found),
        FromTree::Join { kind: JoinKind::Full, .. } | FromTree::Empty | FromTree::Source(_) => {}
    }
}

fn pred_queries(pred: &Pred, found: &mut Vec<(BlockId, ColumnRef)>) {
    match pred {
        Pred::And(all) => all.iter().for_each(|p| pred_queries(p, found)),
        Pred::InQuery(column, block) => found.push((*block, *column)),
        _ => {}
    }
}
