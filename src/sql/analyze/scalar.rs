//! Constants: literals, parameters, NULL, and casts of them to types that a key can have.

use sqlparser::ast::{
    self, ArrayElemTypeDef, BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr,
    UnaryOperator, Value,
};

use super::super::ir::{Arithmetic, ArithmeticOperator, Scalar, Slot, Span};
use super::super::parse;
use super::super::tokens::{TokenKind, index_at};
use super::Lowering;
use crate::datum::{Oid, oid};

/// Operators deep: who computes more leaves it to the server.
const OPERATORS_MAX: u32 = 8;

impl Lowering<'_, '_> {
    /// The expression as a constant, if it is one that the IR can hold. Calls nothing, looks up nothing.
    pub(super) fn scalar(&self, expr: &Expr) -> Option<Scalar> {
        self.scalar_within(expr, 0)
    }

    fn scalar_within(&self, expr: &Expr, operators: u32) -> Option<Scalar> {
        match expr {
            Expr::Nested(inner) => self.scalar_within(inner, operators),
            Expr::Value(value) => self.value(value),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match self.scalar(expr)? {
                Scalar::Literal(slot) if is_number(expr) => Some(Scalar::Negative(slot)),
                Scalar::Literal(_)
                | Scalar::Negative(_)
                | Scalar::Param(_)
                | Scalar::Null
                | Scalar::Cast(..)
                | Scalar::Arithmetic(_) => None,
            },
            Expr::UnaryOp { op: UnaryOperator::Plus, expr } if is_number(expr) => self.scalar(expr),
            Expr::BinaryOp { left, op, right } if operators < OPERATORS_MAX => {
                let operator = match op {
                    BinaryOperator::Plus => ArithmeticOperator::Plus,
                    BinaryOperator::Minus => ArithmeticOperator::Minus,
                    BinaryOperator::Multiply => ArithmeticOperator::Times,
                    _ => return None,
                };
                let right = self.scalar_within(right, operators + 1)?;
                let left = self.scalar_within(left, operators + 1)?;
                Some(Scalar::Arithmetic(Box::new(Arithmetic { operator, left, right })))
            }
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } => {
                let oid = key_type(data_type)?;
                Some(Scalar::Cast(Box::new(self.scalar_within(expr, operators)?), oid))
            }
            Expr::TypedString(typed) if !typed.uses_odbc_syntax => {
                let oid = key_type(&typed.data_type)?;
                Some(Scalar::Cast(Box::new(self.value(&typed.value)?), oid))
            }
            _ => None,
        }
    }

    fn value(&self, value: &ast::ValueWithSpan) -> Option<Scalar> {
        match &value.value {
            Value::Null => Some(Scalar::Null),
            Value::Placeholder(name) => {
                let number: u16 = name.strip_prefix('$')?.parse().ok()?;
                Some(Scalar::Param(number.checked_sub(1)?))
            }
            Value::Number(..) | Value::SingleQuotedString(_) => {
                self.slot(parse::span(value.span)?).map(Scalar::Literal)
            }
            _ => None,
        }
    }

    /// The slot of the literal that stands at `span`.
    pub(super) fn slot(&self, span: Span) -> Option<Slot> {
        if self.text.view.is_some() {
            return None;
        }
        let token = self.text.tokens.get(index_at(self.text.tokens, span.start))?;
        match token.kind {
            TokenKind::Number(slot) | TokenKind::String(slot) if token.start == span.start => slot,
            _ => None,
        }
    }
}

fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_number(inner),
        Expr::Value(value) => matches!(value.value, Value::Number(..)),
        _ => false,
    }
}

/// The OID of a built-in type that a key can be compared with, or of its array. Types with a length or a
/// precision are left out: casting to them changes the value.
pub(super) fn key_type(data_type: &DataType) -> Option<Oid> {
    Some(match data_type {
        DataType::Int2(None) | DataType::SmallInt(None) => oid::INT2,
        DataType::Int4(None) | DataType::Int(None) | DataType::Integer(None) => oid::INT4,
        DataType::Int8(None) | DataType::BigInt(None) => oid::INT8,
        DataType::Text => oid::TEXT,
        DataType::Varchar(None)
        | DataType::CharacterVarying(None)
        | DataType::CharVarying(None) => oid::VARCHAR,
        DataType::Uuid => oid::UUID,
        DataType::Numeric(ExactNumberInfo::None)
        | DataType::Decimal(ExactNumberInfo::None)
        | DataType::Dec(ExactNumberInfo::None) => oid::NUMERIC,
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) => {
            array_type(key_type(element)?)?
        }
        DataType::Custom(name, arguments) if arguments.is_empty() => qualified_type(name)?,
        _ => return None,
    })
}

fn array_type(element: Oid) -> Option<Oid> {
    match element {
        oid::INT2 => Some(oid::INT2_ARRAY),
        oid::INT4 => Some(oid::INT4_ARRAY),
        oid::INT8 => Some(oid::INT8_ARRAY),
        oid::TEXT => Some(oid::TEXT_ARRAY),
        oid::VARCHAR => Some(oid::VARCHAR_ARRAY),
        oid::UUID => Some(oid::UUID_ARRAY),
        _ => None,
    }
}

/// The element type of an array type.
pub(super) fn element_type(array: Oid) -> Option<Oid> {
    [oid::INT2, oid::INT4, oid::INT8, oid::TEXT, oid::VARCHAR, oid::UUID]
        .into_iter()
        .find(|&element| array_type(element) == Some(array))
}

/// `pg_catalog.int8` and the like. Unqualified names that the parser doesn't know as types may be the
/// user's.
fn qualified_type(name: &ast::ObjectName) -> Option<Oid> {
    let [ast::ObjectNamePart::Identifier(schema), ast::ObjectNamePart::Identifier(name)] =
        name.0.as_slice()
    else {
        return None;
    };
    if parse::name(schema) != "pg_catalog" {
        return None;
    }
    match parse::name(name).as_str() {
        "int2" => Some(oid::INT2),
        "int4" => Some(oid::INT4),
        "int8" => Some(oid::INT8),
        "text" => Some(oid::TEXT),
        "varchar" => Some(oid::VARCHAR),
        "uuid" => Some(oid::UUID),
        "numeric" => Some(oid::NUMERIC),
        _ => None,
    }
}
