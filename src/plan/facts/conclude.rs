//! What follows from facts: columns that are equal, restrictions of columns, families of their types.

use rustc_hash::FxHashSet;

use super::{ContextId, Fact, Facts, Family, MADE_UP, NESTING_MAX, Says};
use crate::datum::KeyType;
use crate::plan::restrict::Restrict;
use crate::sql::ir::{BlockId, BlockKind, ColumnRef, Expr, Pred, Scalar, SourceKind};
use crate::sql::lexer::LiteralKind;

impl<'a> Facts<'a> {
    /// The facts that hold in a context.
    pub(super) fn holding(&self, context: ContextId) -> Vec<&Fact<'a>> {
        let mut left_behind: Vec<BlockId> = Vec::new();
        let mut facts = Vec::new();
        let mut next = Some(context);
        while let Some(context) = next.and_then(|id| self.contexts.get(id as usize)) {
            facts.extend(
                context
                    .facts
                    .iter()
                    .filter(|fact| fact.from.is_none_or(|block| !left_behind.contains(&block))),
            );
            left_behind.extend(context.inside);
            next = context.parent;
        }
        facts
    }

    /// The columns that are equal to this one.
    pub(super) fn class(&self, facts: &[&Fact<'a>], column: ColumnRef) -> FxHashSet<ColumnRef> {
        let mut class = FxHashSet::default();
        class.insert(column);
        let mut grown = true;
        while grown {
            grown = false;
            for fact in facts {
                let Says::Equal(a, b) = fact.says else { continue };
                let (a_in, b_in) = (class.contains(&a), class.contains(&b));
                if a_in == b_in || !self.family(a).fits(self.family(b)) {
                    continue;
                }
                class.insert(if a_in { b } else { a });
                grown = true;
            }
        }
        class
    }

    pub(super) fn restrict_pred(
        &self,
        pred: &Pred,
        part: &dyn Fn(ColumnRef) -> Option<u8>,
    ) -> Restrict {
        // What is compared with a column of constants is read as their type, which isn't known here.
        let on = |column: &ColumnRef, make: &dyn Fn(u8) -> Restrict| match part(*column) {
            Some(part) if self.family(*column) != Family::Constant => make(part),
            _ => Restrict::Any,
        };
        match pred {
            Pred::And(all) => Restrict::and(all.iter().map(|p| self.restrict_pred(p, part))),
            Pred::Or(all) => Restrict::or(all.iter().map(|p| self.restrict_pred(p, part))),
            Pred::Eq(column, scalar) => on(column, &|p| Restrict::Eq(p, scalar.clone())),
            Pred::In(column, scalars) => on(column, &|p| Restrict::In(p, scalars.clone())),
            Pred::EqAny(column, scalar) => on(column, &|p| Restrict::EqAny(p, scalar.clone())),
            Pred::Range { column, lower, upper } => {
                on(column, &|p| Restrict::Range(p, lower.clone(), upper.clone()))
            }
            Pred::InQuery(column, block) => {
                on(column, &|p| self.one_output(*block, 0, self.family(*column)).on_part(p))
            }
            Pred::True
            | Pred::EqColumns(..)
            | Pred::Exists(_)
            | Pred::IsNull(_)
            | Pred::Unknown => Restrict::Any,
        }
    }

    /// What every row that comes out of a block says of one output that is used as this family.
    pub(super) fn one_output(&self, block: BlockId, output: u16, wanted: Family) -> Restrict {
        self.output_restriction(block, output, wanted, 0)
    }

    fn output_restriction(&self, id: BlockId, output: u16, wanted: Family, depth: u32) -> Restrict {
        let Some(block) = self.analysis.blocks.get(id as usize) else { return Restrict::Any };
        if depth >= NESTING_MAX || !self.output_family(id, output).fits(wanted) {
            return Restrict::Any;
        }
        match &block.kind {
            BlockKind::SetOperation(set) if !set.recursive => {
                let left = self.output_restriction(set.left, output, wanted, depth + 1);
                let right = self.output_restriction(set.right, output, wanted, depth + 1);
                match set.operator {
                    crate::sql::ir::SetOperator::Union => Restrict::or([left, right]),
                    crate::sql::ir::SetOperator::Intersect => Restrict::and([left, right]),
                    crate::sql::ir::SetOperator::Except => left,
                }
            }
            _ => {
                let column = ColumnRef { source: MADE_UP, column: u16::MAX };
                let mut facts = Vec::new();
                self.comes_out(id, &[(column, output)], id, &mut facts);
                let refs: Vec<&Fact<'a>> = facts.iter().collect();
                let class = self.class(&refs, column);
                let part = |c: ColumnRef| class.contains(&c).then_some(0);
                Restrict::and(refs.iter().map(|fact| match &fact.says {
                    Says::Pred(pred) => self.restrict_pred(pred, &part),
                    Says::OneOf(c, scalars) if class.contains(c) => {
                        Restrict::In(0, scalars.iter().map(|s| (*s).clone()).collect())
                    }
                    Says::Output(c, block, index) if class.contains(c) => {
                        self.output_restriction(*block, *index, wanted, depth + 1)
                    }
                    Says::Equal(..) | Says::OneOf(..) | Says::Output(..) => Restrict::Any,
                }))
            }
        }
    }

    /// The family of a column's type.
    pub(super) fn family(&self, column: ColumnRef) -> Family {
        self.family_within(column, 0)
    }

    fn family_within(&self, column: ColumnRef, depth: u32) -> Family {
        if column.source == MADE_UP {
            return self.made_up.get(usize::from(column.column)).copied().unwrap_or(Family::Open);
        }
        match self.analysis.sources.get(column.source as usize).map(|source| &source.kind) {
            Some(SourceKind::Table(table)) => match table.columns.get(usize::from(column.column)) {
                Some(known) if known.type_oid == 0 => Family::Open,
                Some(known) => KeyType::from_oid(known.base_oid)
                    .filter(|_| known.deterministic)
                    .map_or(Family::Other, Family::of),
                None => Family::Other,
            },
            Some(SourceKind::Derived(block)) => {
                self.output_family_within(*block, column.column, depth)
            }
            _ => Family::Other,
        }
    }

    /// Whether the branches of a set operation have literals in this output that are all written as
    /// integers, or all quoted.
    fn written_alike(&self, block: BlockId, output: u16) -> bool {
        let mut kinds = Vec::new();
        self.written(block, output, 0, &mut kinds);
        let first = kinds.first().copied().flatten();
        first.is_some() && kinds.iter().all(|kind| *kind == first)
    }

    /// How each branch's constant is written: as an integer, or quoted; `None` for anything else.
    fn written(&self, id: BlockId, output: u16, depth: u32, kinds: &mut Vec<Option<bool>>) {
        let Some(block) = self.analysis.blocks.get(id as usize).filter(|_| depth < NESTING_MAX)
        else {
            kinds.push(None);
            return;
        };
        let of_expr = |expr: Option<&Expr>| match expr {
            Some(Expr::Scalar(Scalar::Literal(slot) | Scalar::Negative(slot))) => {
                match self.analysis.literals.get(usize::from(*slot))?.kind {
                    LiteralKind::Integer => Some(true),
                    LiteralKind::String | LiteralKind::EscapeString | LiteralKind::DollarString => {
                        Some(false)
                    }
                    LiteralKind::Decimal | LiteralKind::Other => None,
                }
            }
            _ => None,
        };
        let index = usize::from(output);
        match &block.kind {
            BlockKind::SetOperation(set) => {
                self.written(set.left, output, depth + 1, kinds);
                self.written(set.right, output, depth + 1, kinds);
            }
            BlockKind::Values(rows) => kinds.extend(rows.iter().map(|row| of_expr(row.get(index)))),
            _ => kinds.push(of_expr(block.output.get(index).map(|o| &o.expr))),
        }
    }

    pub(super) fn output_family(&self, block: BlockId, output: u16) -> Family {
        self.output_family_within(block, output, 0)
    }

    fn output_family_within(&self, id: BlockId, output: u16, depth: u32) -> Family {
        let Some(block) = self.analysis.blocks.get(id as usize) else { return Family::Other };
        if depth >= NESTING_MAX {
            return Family::Other;
        }
        let of_expr = |expr: Option<&Expr>| match expr {
            Some(Expr::Column(column)) => self.family_within(*column, depth + 1),
            Some(Expr::Scalar(scalar)) => scalar_family(scalar),
            _ => Family::Other,
        };
        let index = usize::from(output);
        match &block.kind {
            BlockKind::Values(rows) => rows
                .iter()
                .map(|row| of_expr(row.get(index)))
                .reduce(common)
                .unwrap_or(Family::Other),
            BlockKind::SetOperation(set) => {
                let left = self.output_family_within(set.left, output, depth + 1);
                let right = self.output_family_within(set.right, output, depth + 1);
                match (left, right) {
                    // Constants are read as the type of both sides.
                    (Family::Constant, Family::Constant) if !self.written_alike(id, output) => {
                        Family::Other
                    }
                    sides => common(sides.0, sides.1),
                }
            }
            _ => of_expr(block.output.get(index).map(|o| &o.expr)),
        }
    }
}

/// The family of two branches: theirs if they agree.
fn common(a: Family, b: Family) -> Family {
    match (a, b) {
        (Family::Constant, one) | (one, Family::Constant) => one,
        (Family::Open, one) | (one, Family::Open) => one,
        (a, b) if a == b => a,
        _ => Family::Other,
    }
}

fn scalar_family(scalar: &Scalar) -> Family {
    match scalar {
        Scalar::Cast(_, to) => KeyType::from_oid(*to).map_or(Family::Other, Family::of),
        Scalar::Literal(_) | Scalar::Negative(_) | Scalar::Param(_) | Scalar::Null => {
            Family::Constant
        }
        // Of which type depends on the values.
        Scalar::Arithmetic(_) => Family::Other,
    }
}
