//! Predicates: what a condition says of columns, [`Pred::Unknown`] where it can't be said.
//!
//! Every part of a condition is walked exactly once, whether it is understood or not, so that no call
//! and no sub-select is lost. A condition is read as "true or not": that it may be NULL instead of false
//! makes no difference to which rows pass, and under NOT only equivalences of three-valued logic are used.

use sqlparser::ast::{self, BinaryOperator, Expr, UnaryOperator};

use super::super::ir::{ColumnRef, Expr as IrExpr, Pred, Scalar};
use super::scalar::{element_type, key_type};
use super::{Lowered, Lowering};
use crate::datum::Oid;

/// A comparison's direction.
#[derive(Clone, Copy)]
enum Bound {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Bound {
    /// `a op b` as `b op a`.
    fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
        }
    }

    /// `NOT (a op b)` as `a op b`; both are NULL when either side is.
    fn negated(self) -> Self {
        match self {
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
        }
    }
}

impl<'t> Lowering<'t, '_> {
    /// Lowers a condition.
    pub(super) fn pred(&mut self, expr: &'t Expr) -> Lowered<Pred> {
        self.condition(expr, false)
    }

    /// Lowers a condition, or its negation.
    fn condition(&mut self, expr: &'t Expr, negate: bool) -> Lowered<Pred> {
        stacker::maybe_grow(128 << 10, 2 << 20, || self.condition_inner(expr, negate))
    }

    fn condition_inner(&mut self, expr: &'t Expr, negate: bool) -> Lowered<Pred> {
        match expr {
            Expr::Nested(inner) => self.condition(inner, negate),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => self.condition(expr, !negate),
            Expr::IsTrue(inner) if !negate => self.condition(inner, false),
            Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } => {
                let mut terms = Vec::new();
                for term in chain(expr, op) {
                    terms.push(self.condition(term, negate)?);
                }
                let conjunction = (*op == BinaryOperator::And) != negate;
                Ok(if conjunction { Pred::And(terms) } else { Pred::Or(terms) })
            }
            Expr::BinaryOp { left, op, right } => self.comparison(left, op, right, negate),
            Expr::IsNull(inner) if !negate => self.is_null(inner),
            Expr::IsNotNull(inner) if negate => self.is_null(inner),
            Expr::IsNotDistinctFrom(left, right) if !negate => self.not_distinct(left, right),
            Expr::InList { expr, list, negated } if *negated == negate => self.in_list(expr, list),
            Expr::InSubquery { expr, subquery, negated } if *negated == negate => {
                self.in_query(expr, subquery)
            }
            Expr::Exists { subquery, negated } if *negated == negate => {
                Ok(Pred::Exists(self.subquery(subquery)?))
            }
            Expr::Between { expr, negated, low, high } => {
                self.between(expr, low, high, *negated != negate)
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, is_some: _ } if !negate => {
                self.equals_any(left, right)
            }
            other => {
                self.walk(other)?;
                Ok(Pred::Unknown)
            }
        }
    }

    fn comparison(
        &mut self,
        left: &'t Expr,
        op: &BinaryOperator,
        right: &'t Expr,
        negate: bool,
    ) -> Lowered<Pred> {
        let bound = match op {
            BinaryOperator::Eq if !negate => return self.equal(left, right),
            BinaryOperator::NotEq if negate && tuple(left).is_none() => {
                return self.equal(left, right);
            }
            BinaryOperator::Lt => Bound::Less,
            BinaryOperator::LtEq => Bound::LessOrEqual,
            BinaryOperator::Gt => Bound::Greater,
            BinaryOperator::GtEq => Bound::GreaterOrEqual,
            other => {
                self.walk(left)?;
                self.operator(other);
                self.walk(right)?;
                return Ok(Pred::Unknown);
            }
        };
        let bound = if negate { bound.negated() } else { bound };
        let (l, r) = (self.expr(left)?, self.expr(right)?);
        Ok(match (l, r) {
            (IrExpr::Column(column), IrExpr::Scalar(value)) => range(column, bound, value),
            (IrExpr::Scalar(value), IrExpr::Column(column)) => {
                range(column, bound.mirrored(), value)
            }
            _ => Pred::Unknown,
        })
    }

    fn equal(&mut self, left: &'t Expr, right: &'t Expr) -> Lowered<Pred> {
        if let (Some(left), Some(right)) = (tuple(left), tuple(right))
            && left.len() == right.len()
        {
            let pairs = left.iter().zip(right).map(|(l, r)| self.equal(l, r));
            return Ok(Pred::And(pairs.collect::<Lowered<_>>()?));
        }
        match (stripped(left), stripped(right)) {
            (column, Expr::Subquery(query)) | (Expr::Subquery(query), column) => {
                // That the sub-select has one row only is found out by reading it, for every row outside.
                self.in_query(column, query)?;
                Ok(Pred::Unknown)
            }
            _ => {
                let (l, r) = (self.expr(left)?, self.expr(right)?);
                Ok(equality(l, r))
            }
        }
    }

    /// `a IS NOT DISTINCT FROM b`, which is `a = b` if b is certainly not NULL.
    fn not_distinct(&mut self, left: &'t Expr, right: &'t Expr) -> Lowered<Pred> {
        let (l, r) = (self.expr(left)?, self.expr(right)?);
        let literal = |e: &IrExpr| match e {
            IrExpr::Scalar(value) => not_null(value),
            IrExpr::Column(_) | IrExpr::Excluded(_) | IrExpr::Default | IrExpr::Other => false,
        };
        Ok(match (literal(&l), literal(&r)) {
            (false, false) => Pred::Unknown,
            _ => equality(l, r),
        })
    }

    fn is_null(&mut self, inner: &'t Expr) -> Lowered<Pred> {
        Ok(match self.expr(inner)? {
            IrExpr::Column(column) => Pred::IsNull(column),
            IrExpr::Scalar(_) | IrExpr::Excluded(_) | IrExpr::Default | IrExpr::Other => {
                Pred::Unknown
            }
        })
    }

    fn in_list(&mut self, expr: &'t Expr, list: &'t [Expr]) -> Lowered<Pred> {
        if let Some(columns) = tuple(expr) {
            return self.row_in_list(columns, list);
        }
        let tested = self.expr(expr)?;
        let mut values = Vec::with_capacity(list.len());
        let mut known = true;
        for item in list {
            match self.expr(item)? {
                IrExpr::Scalar(value) => values.push(value),
                IrExpr::Column(_) | IrExpr::Excluded(_) | IrExpr::Default | IrExpr::Other => {
                    known = false;
                }
            }
        }
        Ok(match tested {
            IrExpr::Column(column) if known => Pred::In(column, values),
            _ => Pred::Unknown,
        })
    }

    /// `(a, b) IN ((1, 2), (3, 4))`.
    fn row_in_list(&mut self, columns: &'t [Expr], list: &'t [Expr]) -> Lowered<Pred> {
        let columns: Vec<IrExpr> = columns.iter().map(|c| self.expr(c)).collect::<Lowered<_>>()?;
        let mut rows = Vec::with_capacity(list.len());
        for item in list {
            let Some(row) = tuple(item).filter(|row| row.len() == columns.len()) else {
                self.walk(item)?;
                rows.push(Pred::Unknown);
                continue;
            };
            let mut parts = Vec::with_capacity(row.len());
            for (column, value) in columns.iter().zip(row) {
                let value = self.expr(value)?;
                parts.push(equality(column.clone(), value));
            }
            rows.push(Pred::And(parts));
        }
        Ok(Pred::Or(rows))
    }

    /// `x IN (SELECT …)`; of a row its first column is kept.
    fn in_query(&mut self, expr: &'t Expr, query: &'t ast::Query) -> Lowered<Pred> {
        let first = match tuple(expr) {
            Some([first, rest @ ..]) => {
                let first = self.expr(first)?;
                for item in rest {
                    self.walk(item)?;
                }
                first
            }
            Some([]) | None => self.expr(expr)?,
        };
        let block = self.subquery(query)?;
        Ok(match first {
            IrExpr::Column(column) => Pred::InQuery(column, block),
            IrExpr::Scalar(_) | IrExpr::Excluded(_) | IrExpr::Default | IrExpr::Other => {
                Pred::Unknown
            }
        })
    }

    fn between(
        &mut self,
        expr: &'t Expr,
        low: &'t Expr,
        high: &'t Expr,
        outside: bool,
    ) -> Lowered<Pred> {
        let tested = self.expr(expr)?;
        let (low, high) = (self.expr(low)?, self.expr(high)?);
        let scalar = |e: IrExpr| match e {
            IrExpr::Scalar(value) => Some((value, true)),
            IrExpr::Column(_) | IrExpr::Excluded(_) | IrExpr::Default | IrExpr::Other => None,
        };
        let (IrExpr::Column(column), false) = (tested, outside || self.text.symmetric) else {
            return Ok(Pred::Unknown);
        };
        Ok(match (scalar(low), scalar(high)) {
            (None, None) => Pred::Unknown,
            (lower, upper) => Pred::Range { column, lower, upper },
        })
    }

    /// `x = ANY (…)`.
    fn equals_any(&mut self, left: &'t Expr, right: &'t Expr) -> Lowered<Pred> {
        if let Expr::Subquery(query) = stripped(right) {
            return self.in_query(left, query);
        }
        if let Some((elements, cast)) = array(right) {
            let tested = self.expr(left)?;
            let mut values = Vec::with_capacity(elements.len());
            let mut known = true;
            for element in elements {
                match self.expr(element)? {
                    IrExpr::Scalar(value) => values.push(cast_to(value, cast)),
                    IrExpr::Column(_) | IrExpr::Excluded(_) | IrExpr::Default | IrExpr::Other => {
                        known = false;
                    }
                }
            }
            return Ok(match tested {
                IrExpr::Column(column) if known => Pred::In(column, values),
                _ => Pred::Unknown,
            });
        }
        let (l, r) = (self.expr(left)?, self.expr(right)?);
        Ok(match (l, r) {
            (IrExpr::Column(column), IrExpr::Scalar(value)) => Pred::EqAny(column, value),
            _ => Pred::Unknown,
        })
    }
}

/// The terms of a chain of AND or OR, in order. Chains lean to the left and may be long.
fn chain<'t>(expr: &'t Expr, op: &BinaryOperator) -> Vec<&'t Expr> {
    let mut terms = Vec::new();
    let mut at = expr;
    loop {
        match at {
            Expr::BinaryOp { left, op: found, right } if found == op => {
                terms.push(right.as_ref());
                at = left;
            }
            other => {
                terms.push(other);
                break;
            }
        }
    }
    terms.reverse();
    terms
}

/// Without parentheses around it.
fn stripped(expr: &Expr) -> &Expr {
    let mut at = expr;
    while let Expr::Nested(inner) = at {
        at = inner;
    }
    at
}

/// The elements of a row constructor with parentheses.
fn tuple(expr: &Expr) -> Option<&[Expr]> {
    match stripped(expr) {
        Expr::Tuple(items) => Some(items),
        _ => None,
    }
}

/// The elements of an array constructor, and the type its elements are cast to.
fn array(expr: &Expr) -> Option<(&[Expr], Option<Oid>)> {
    match stripped(expr) {
        Expr::Array(array) if array.named => Some((&array.elem, None)),
        Expr::Cast {
            kind: ast::CastKind::Cast | ast::CastKind::DoubleColon,
            expr,
            data_type,
            format: None,
        } => {
            let (elements, None) = array(expr)? else { return None };
            Some((elements, Some(element_type(key_type(data_type)?)?)))
        }
        _ => None,
    }
}

fn cast_to(value: Scalar, oid: Option<Oid>) -> Scalar {
    match oid {
        Some(oid) => Scalar::Cast(Box::new(value), oid),
        None => value,
    }
}

/// A constant that is not NULL, whatever the parameters are.
fn not_null(value: &Scalar) -> bool {
    match value {
        Scalar::Literal(_) | Scalar::Negative(_) => true,
        Scalar::Param(_) | Scalar::Null => false,
        Scalar::Cast(inner, _) => not_null(inner),
        Scalar::Arithmetic(both) => not_null(&both.left) && not_null(&both.right),
    }
}

fn equality(left: IrExpr, right: IrExpr) -> Pred {
    match (left, right) {
        (IrExpr::Column(column), IrExpr::Scalar(value))
        | (IrExpr::Scalar(value), IrExpr::Column(column)) => Pred::Eq(column, value),
        (IrExpr::Column(left), IrExpr::Column(right)) => Pred::EqColumns(left, right),
        _ => Pred::Unknown,
    }
}

fn range(column: ColumnRef, bound: Bound, value: Scalar) -> Pred {
    let (lower, upper) = match bound {
        Bound::Less => (None, Some((value, false))),
        Bound::LessOrEqual => (None, Some((value, true))),
        Bound::Greater => (Some((value, false)), None),
        Bound::GreaterOrEqual => (Some((value, true)), None),
    };
    Pred::Range { column, lower, upper }
}
