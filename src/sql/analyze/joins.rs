//! Joins: ON, USING and NATURAL as predicates, and the columns that a join has.

use std::ops::Range;

use sqlparser::ast::{self, JoinConstraint, JoinOperator, TableWithJoins};

use super::super::ir::{
    BlockKind, ColumnRef, Expr, FromTree, JoinKind, Pred, SourceKind, SubqueryPlace,
};
use super::super::parse;
use super::scope::{Columns, Entry, Visible};
use super::{Lowered, Lowering, foreign, unsupported};
use crate::datum::Oid;

/// Through more derived tables than this a column's type is not followed.
const DERIVED_DEPTH_MAX: usize = 32;

impl<'t> Lowering<'t, '_> {
    pub(super) fn join_tree(&mut self, item: &'t TableWithJoins) -> Lowered<(FromTree, Columns)> {
        stacker::maybe_grow(128 << 10, 2 << 20, || self.join_tree_inner(item))
    }

    fn join_tree_inner(&mut self, item: &'t TableWithJoins) -> Lowered<(FromTree, Columns)> {
        let first_entry = self.scope_mut().entries.len();
        let (mut tree, mut columns) = self.factor(&item.relation)?;
        for joined in &item.joins {
            if joined.global {
                return foreign("GLOBAL JOIN");
            }
            let (kind, constraint) = join_kind(&joined.join_operator)?;
            // LATERAL sees what stands to the left of it.
            let saved = self.scope_mut().visible.clone();
            self.scope_mut().visible.append(&columns);
            let right_entry = self.scope_mut().entries.len();
            let right = self.factor(&joined.relation);
            self.scope_mut().visible = saved;
            let (right_tree, right_columns) = right?;
            let (on, merged) = self.constraint(
                constraint,
                kind,
                (columns, right_columns),
                first_entry..right_entry,
            )?;
            tree = join(kind, tree, right_tree, on);
            columns = merged;
        }
        Ok((tree, columns))
    }

    /// Lowers ON, USING or NATURAL; gives the predicate and the columns of the join.
    fn constraint(
        &mut self,
        constraint: &'t JoinConstraint,
        kind: JoinKind,
        (mut left, mut right): (Columns, Columns),
        left_entries: Range<usize>,
    ) -> Lowered<(Pred, Columns)> {
        let first_entry = left_entries.start;
        match constraint {
            JoinConstraint::On(condition) => {
                left.append(&right);
                let place = if kind == JoinKind::Inner {
                    SubqueryPlace::Filter
                } else {
                    SubqueryPlace::OuterJoin
                };
                let outer_visible = std::mem::replace(&mut self.scope_mut().visible, left.clone());
                let outer_window = std::mem::replace(&mut self.scope_mut().window, first_entry);
                let pred = self.at_place(place, |this| this.pred(condition));
                self.scope_mut().visible = outer_visible;
                self.scope_mut().window = outer_window;
                self.refresh(&mut left, first_entry);
                Ok((pred?, left))
            }
            JoinConstraint::Using(names) => {
                let names: Option<Vec<_>> = names.iter().map(single_name).collect();
                let Some(names) = names else { return foreign("a qualified name in USING") };
                Ok(self.using(&names, kind, (left, right), &left_entries))
            }
            JoinConstraint::Natural => {
                if left.incomplete || right.incomplete {
                    return unsupported("NATURAL JOIN of tables whose columns are not known");
                }
                let common = left.list.iter().map(|v| v.name.clone());
                let common: Vec<_> =
                    common.filter(|n| right.list.iter().any(|v| v.name == *n)).collect();
                Ok(self.using(&common, kind, (left, right), &left_entries))
            }
            JoinConstraint::None => {
                left.list.append(&mut right.list);
                left.incomplete |= right.incomplete;
                Ok((Pred::True, left))
            }
        }
    }

    /// Takes over the columns that an open table has got since `columns` was made.
    fn refresh(&mut self, columns: &mut Columns, first_entry: usize) {
        for entry in self.scope_mut().entries.iter().skip(first_entry).filter(|e| e.open.is_some())
        {
            for column in &entry.columns.list {
                if !columns.list.iter().any(|v| v.column == column.column) {
                    columns.list.push(column.clone());
                }
            }
        }
    }

    /// Columns merged by name: first in the join's columns, one for both sides.
    fn using(
        &mut self,
        names: &[String],
        kind: JoinKind,
        (mut left, mut right): (Columns, Columns),
        left_entries: &Range<usize>,
    ) -> (Pred, Columns) {
        let right_entries = left_entries.end..self.scope_mut().entries.len();
        let mut equalities = Vec::with_capacity(names.len());
        let mut merged = Vec::with_capacity(names.len());
        for name in names {
            let l = self.take_column(&mut left, left_entries, name);
            let r = self.take_column(&mut right, &right_entries, name);
            equalities.push(match (l, r) {
                (Some(l), Some(r)) => Pred::EqColumns(l, r),
                _ => Pred::Unknown,
            });
            // The merged column has the type that both sides have in common, and so have the literals that
            // it is compared with.
            let column = match kind {
                _ if !self.same_type(l, r) => None,
                JoinKind::Inner | JoinKind::Left => l,
                JoinKind::Right => r,
                JoinKind::Full => None,
            };
            merged.push(Visible { name: name.clone(), column });
        }
        merged.append(&mut left.list);
        merged.append(&mut right.list);
        let incomplete = left.incomplete || right.incomplete;
        (Pred::And(equalities), Columns { list: merged, incomplete })
    }

    /// Whether two columns are known to have one type.
    fn same_type(&self, l: Option<ColumnRef>, r: Option<ColumnRef>) -> bool {
        let oid = |column: Option<ColumnRef>| column.and_then(|column| self.type_oid(column));
        oid(l).is_some_and(|l| oid(r) == Some(l))
    }

    /// The type of a table's column, through the derived tables that hand it on.
    fn type_oid(&self, mut column: ColumnRef) -> Option<Oid> {
        for _ in 0..DERIVED_DEPTH_MAX {
            match &self.arena.sources.get(column.source as usize)?.kind {
                SourceKind::Table(table) => {
                    return table.columns.get(usize::from(column.column)).map(|c| c.type_oid);
                }
                SourceKind::Derived(block) => {
                    let block = self.arena.blocks.get(*block as usize)?;
                    let BlockKind::Select(_) = block.kind else { return None };
                    let output = block.output.get(usize::from(column.column))?;
                    let Expr::Column(inner) = output.expr else { return None };
                    column = inner;
                }
                _ => return None,
            }
        }
        None
    }

    /// Takes the only column of this name out of the list.
    fn take_column(
        &mut self,
        columns: &mut Columns,
        side: &Range<usize>,
        name: &str,
    ) -> Option<ColumnRef> {
        let matches = columns.list.iter().filter(|v| v.name == name).count();
        if matches == 0 && columns.incomplete {
            return self.open_column_of(side, name);
        }
        let found = columns.list.iter().find(|v| v.name == name).and_then(|v| v.column);
        self.arena
            .used
            .extend(columns.list.iter().filter(|v| v.name == name).filter_map(|v| v.column));
        columns.list.retain(|v| v.name != name);
        if matches == 1 { found } else { None }
    }

    /// In a side of a join that is one open table alone, any column exists.
    fn open_column_of(&mut self, side: &Range<usize>, name: &str) -> Option<ColumnRef> {
        let scope = self.scope;
        let [Entry { open: Some(_), .. }] = self.scope_mut().entries.get(side.clone())? else {
            return None;
        };
        let before = self.scope_mut().visible.list.len();
        let column = self.add_open_column(scope, side.start, name);
        self.scope_mut().visible.list.truncate(before);
        column
    }
}

pub(super) fn join(kind: JoinKind, left: FromTree, right: FromTree, on: Pred) -> FromTree {
    FromTree::Join { kind, left: Box::new(left), right: Box::new(right), on }
}

pub(super) fn has_outer_join(tree: &FromTree) -> bool {
    match tree {
        FromTree::Empty | FromTree::Source(_) => false,
        FromTree::Join { kind, left, right, on: _ } => {
            *kind != JoinKind::Inner || has_outer_join(left) || has_outer_join(right)
        }
    }
}

fn join_kind(operator: &JoinOperator) -> Lowered<(JoinKind, &JoinConstraint)> {
    let (kind, constraint) = match operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) => (JoinKind::Inner, c),
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (JoinKind::Left, c),
        JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (JoinKind::Right, c),
        JoinOperator::FullOuter(c) => (JoinKind::Full, c),
        JoinOperator::CrossJoin(c @ JoinConstraint::None) => return Ok((JoinKind::Inner, c)),
        JoinOperator::CrossJoin(_) => return foreign("CROSS JOIN … ON"),
        JoinOperator::Semi(_)
        | JoinOperator::LeftSemi(_)
        | JoinOperator::RightSemi(_)
        | JoinOperator::Anti(_)
        | JoinOperator::LeftAnti(_)
        | JoinOperator::RightAnti(_)
        | JoinOperator::CrossApply
        | JoinOperator::OuterApply
        | JoinOperator::AsOf { .. }
        | JoinOperator::StraightJoin(_)
        | JoinOperator::ArrayJoin
        | JoinOperator::LeftArrayJoin
        | JoinOperator::InnerArrayJoin => return foreign("this kind of join"),
    };
    match constraint {
        JoinConstraint::None => foreign("a join without ON"),
        JoinConstraint::On(_) | JoinConstraint::Using(_) | JoinConstraint::Natural => {
            Ok((kind, constraint))
        }
    }
}

fn single_name(name: &ast::ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [part] => part.as_ident().map(parse::name),
        _ => None,
    }
}
