//! Constants of a statement as key values: literals by how they are written, parameters by their
//! declared type, casts.
//!
//! Main type: [`Constants`]. Invariant: a value is either what PostgreSQL would compare or store, or
//! [`Decoded::Unknown`], which restricts nothing and is never written. Sums, differences and products of integers
//! are computed within their types; other expressions than constants never come here.

use std::borrow::Cow;

use super::Inputs;
use super::refusal::Refusal;
use crate::datum::array::{self, DecodedArray};
use crate::datum::{Decoded, Format, KeyType, KeyValue, Oid, Param, oid};
use crate::error::SqlError;
use crate::sql::ir::{Arithmetic, ArithmeticOperator, Scalar, Slot};
use crate::sql::lexer::LiteralKind;
use crate::sql::literal;

/// What a value is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It is compared with a key column.
    Compare,
    /// It is stored in a key column. An assignment rounds numbers and casts types that a comparison would
    /// keep apart, so only what is stored as it stands is told.
    Store,
}

/// A constant's own type, beside a key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnType {
    /// Of the key's family.
    Key,
    /// It has none.
    Untyped,
    /// Another one.
    Other,
}

/// An integer with its type.
#[derive(Clone, Copy, Debug)]
struct Number {
    value: i64,
    oid: Oid,
}

/// One side of an operator.
enum Operand<'a> {
    Number(Number),
    /// A quoted literal, or a parameter that nobody has declared.
    Untyped(Cow<'a, str>),
}

impl Number {
    /// `None` if the type can't hold it, which the server says.
    fn of(value: i64, oid: Oid) -> Option<Self> {
        let fits = match oid {
            oid::INT2 => i16::try_from(value).is_ok(),
            oid::INT4 => i32::try_from(value).is_ok(),
            oid::INT8 => true,
            _ => false,
        };
        fits.then_some(Self { value, oid })
    }

    /// A constant without quotes: integer if that can hold it, else bigint (`make_const`).
    fn written(digits: &str) -> Option<Self> {
        let value = digits.parse::<i64>().ok()?;
        Self::of(value, oid::INT4).or_else(|| Self::of(value, oid::INT8))
    }

    /// A text that is read as this type.
    fn read(text: &str, oid: Oid) -> Option<Self> {
        match KeyValue::from_text(KeyType::from_oid(oid)?, text).ok()? {
            KeyValue::Int(value) => Self::of(value, oid),
            KeyValue::Text(_) | KeyValue::Uuid(_) => None,
        }
    }

    fn key(self) -> Decoded<'static> {
        Decoded::Key(KeyValue::Int(self.value))
    }
}

fn bytes_of(integer: Oid) -> u8 {
    match integer {
        oid::INT2 => 2,
        oid::INT4 => 4,
        _ => 8,
    }
}

/// The constants of one execution.
#[derive(Clone, Copy)]
pub(super) struct Constants<'a> {
    inputs: &'a Inputs<'a>,
    wanted: Use,
}

impl<'a> Constants<'a> {
    /// For comparisons.
    pub(super) fn new(inputs: &'a Inputs<'a>) -> Self {
        Self { inputs, wanted: Use::Compare }
    }

    /// For values that are stored.
    pub(super) fn stored(inputs: &'a Inputs<'a>) -> Self {
        Self { inputs, wanted: Use::Store }
    }

    /// The key that a constant is.
    ///
    /// # Errors
    ///
    /// Those of PostgreSQL's input functions; 0A000 for text that isn't ASCII under a client encoding other
    /// than UTF8.
    pub(super) fn key(&self, ty: KeyType, scalar: &Scalar) -> Result<Decoded<'a>, SqlError> {
        // Integers of all widths compare by value; the widest type reads them all.
        let ty = if ty.is_integer() { KeyType::BigInt } else { ty };
        let decoded = self.decode(ty, scalar)?;
        self.check_encoding(match decoded {
            // A comparison with NULL yields no row, but a NULL that is selected is stored as one.
            Decoded::Null | Decoded::NoMatch if self.wanted == Use::Store => Decoded::Unknown,
            decoded => decoded,
        })
    }

    /// The key that a constant is when it is stored as it stands: NULL too.
    ///
    /// # Errors
    ///
    /// As [`Constants::key`].
    pub(super) fn stored_key(&self, ty: KeyType, scalar: &Scalar) -> Result<Decoded<'a>, SqlError> {
        let ty = if ty.is_integer() { KeyType::BigInt } else { ty };
        let decoded = self.decode(ty, scalar)?;
        self.check_encoding(decoded)
    }

    /// The keys in an array constant.
    ///
    /// # Errors
    ///
    /// As [`Constants::key`], and 22P02, 22P03 for malformed arrays.
    pub(super) fn array(&self, ty: KeyType, scalar: &Scalar) -> Result<DecodedArray<'a>, SqlError> {
        let ty = if ty.is_integer() { KeyType::BigInt } else { ty };
        let decoded = match scalar {
            Scalar::Null => DecodedArray::Null,
            Scalar::Literal(slot) => self.literal_array(ty, 0, *slot)?,
            Scalar::Param(n) => self.param_array(ty, 0, *n)?,
            Scalar::Cast(inner, to) => match &**inner {
                Scalar::Null => DecodedArray::Null,
                Scalar::Literal(slot) => self.literal_array(ty, *to, *slot)?,
                Scalar::Param(n) => self.param_array(ty, *to, *n)?,
                Scalar::Negative(_) | Scalar::Cast(..) | Scalar::Arithmetic(_) => {
                    DecodedArray::Unknown
                }
            },
            Scalar::Negative(_) | Scalar::Arithmetic(_) => DecodedArray::Unknown,
        };
        if let DecodedArray::Keys(keys) = &decoded {
            for key in keys.iter().flatten() {
                self.check_text(key)?;
            }
        }
        Ok(decoded)
    }

    /// Whether constants that stand in one list can be read one by one. The list has one type, which
    /// PostgreSQL finds by looking at all of them (`select_common_type`): what has none of its own (a
    /// quoted literal, an undeclared parameter) is read as that one.
    pub(super) fn alike(&self, ty: KeyType, scalars: &[Scalar]) -> bool {
        let mut untyped = false;
        let mut others = false;
        for scalar in scalars {
            match self.own_type(ty, scalar) {
                OwnType::Key => {}
                OwnType::Untyped => untyped = true,
                OwnType::Other => others = true,
            }
        }
        !(untyped && others)
    }

    fn own_type(&self, ty: KeyType, scalar: &Scalar) -> OwnType {
        let of_oid = |oid| match KeyType::from_oid(oid) {
            Some(own) if own.same_family(ty) => OwnType::Key,
            _ => OwnType::Other,
        };
        match scalar {
            Scalar::Null => OwnType::Key,
            Scalar::Literal(slot) | Scalar::Negative(slot) => {
                match self.literal_text(*slot) {
                    // What bigint can't hold is numeric.
                    Some((LiteralKind::Integer, digits))
                        if ty.is_integer() && digits.parse::<i64>().is_ok() =>
                    {
                        OwnType::Key
                    }
                    Some((LiteralKind::Integer | LiteralKind::Decimal, _)) | None => OwnType::Other,
                    Some((
                        LiteralKind::String
                        | LiteralKind::EscapeString
                        | LiteralKind::DollarString
                        | LiteralKind::Other,
                        _,
                    )) => OwnType::Untyped,
                }
            }
            Scalar::Param(n) => match self.inputs.params.get(usize::from(*n)).map(|p| p.oid) {
                None | Some(0 | oid::UNKNOWN) => OwnType::Untyped,
                Some(declared) => of_oid(declared),
            },
            Scalar::Cast(_, to) => of_oid(*to),
            Scalar::Arithmetic(both) => {
                self.arithmetic(both).map_or(OwnType::Other, |number| of_oid(number.oid))
            }
        }
    }

    /// The text that a constant is, if it is one.
    pub(super) fn text(&self, scalar: &Scalar) -> Option<Cow<'a, str>> {
        match scalar {
            Scalar::Literal(slot) => match self.literal_text(*slot)? {
                (LiteralKind::Integer | LiteralKind::Decimal | LiteralKind::Other, _) => None,
                (_, text) => Some(text),
            },
            Scalar::Param(n) => {
                let bytes = self.inputs.params.get(usize::from(*n))?.value?;
                std::str::from_utf8(bytes).ok().map(Cow::Borrowed)
            }
            Scalar::Cast(inner, oid::TEXT | oid::VARCHAR) => self.text(inner),
            Scalar::Negative(_) | Scalar::Null | Scalar::Cast(..) | Scalar::Arithmetic(_) => None,
        }
    }

    fn decode(&self, ty: KeyType, scalar: &Scalar) -> Result<Decoded<'a>, SqlError> {
        match scalar {
            Scalar::Null => Ok(Decoded::Null),
            Scalar::Literal(slot) => self.literal(ty, *slot),
            Scalar::Negative(slot) => Ok(self.negative(ty, *slot)),
            Scalar::Param(n) => match self.inputs.params.get(usize::from(*n)) {
                Some(param) => self.param(ty, param),
                None => Ok(Decoded::Unknown),
            },
            Scalar::Cast(inner, to) => self.cast(ty, inner, *to),
            Scalar::Arithmetic(both) => Ok(match self.arithmetic(both) {
                Some(number) if ty.is_integer() => Decoded::Key(KeyValue::Int(number.value)),
                _ => Decoded::Unknown,
            }),
        }
    }

    /// What PostgreSQL computes of integers, if it is within their type.
    fn arithmetic(&self, both: &Arithmetic) -> Option<Number> {
        let (left, right) = (self.operand(&both.left)?, self.operand(&both.right)?);
        // What has no type of its own has that of the other side.
        let (left, right) = match (left, right) {
            (Operand::Number(left), Operand::Number(right)) => (left, right),
            (Operand::Number(left), Operand::Untyped(text)) => {
                (left, Number::read(&text, left.oid)?)
            }
            (Operand::Untyped(text), Operand::Number(right)) => {
                (Number::read(&text, right.oid)?, right)
            }
            (Operand::Untyped(_), Operand::Untyped(_)) => return None,
        };
        let value = match both.operator {
            ArithmeticOperator::Plus => left.value.checked_add(right.value),
            ArithmeticOperator::Minus => left.value.checked_sub(right.value),
            ArithmeticOperator::Times => left.value.checked_mul(right.value),
        };
        Number::of(
            value?,
            if bytes_of(left.oid) < bytes_of(right.oid) { right.oid } else { left.oid },
        )
    }

    fn operand(&self, scalar: &Scalar) -> Option<Operand<'a>> {
        let number = match scalar {
            Scalar::Null => return None,
            Scalar::Literal(slot) => match self.literal_text(*slot)? {
                (LiteralKind::Integer, digits) => Number::written(&digits),
                (LiteralKind::Decimal | LiteralKind::Other, _) => None,
                (_, text) => return Some(Operand::Untyped(text)),
            },
            Scalar::Negative(slot) => match self.literal_text(*slot)? {
                (LiteralKind::Integer, digits) => Number::written(&format!("-{digits}")),
                _ => None,
            },
            Scalar::Param(n) => {
                let param = self.inputs.params.get(usize::from(*n))?;
                if matches!(param.oid, 0 | oid::UNKNOWN) {
                    let text = std::str::from_utf8(param.value?).ok()?;
                    let written = param.format == Format::Text;
                    return written.then_some(Operand::Untyped(Cow::Borrowed(text)));
                }
                let ty = KeyType::from_oid(param.oid).filter(|ty| ty.is_integer())?;
                match KeyValue::from_param(ty, param).ok()? {
                    Decoded::Key(KeyValue::Int(value)) => Number::of(value, param.oid),
                    _ => None,
                }
            }
            Scalar::Cast(inner, to) => {
                let ty = KeyType::from_oid(*to).filter(|ty| ty.is_integer())?;
                match self.cast(ty, inner, *to).ok()? {
                    Decoded::Key(KeyValue::Int(value)) => Number::of(value, *to),
                    _ => None,
                }
            }
            Scalar::Arithmetic(both) => self.arithmetic(both),
        };
        number.map(Operand::Number)
    }

    fn literal(&self, ty: KeyType, slot: Slot) -> Result<Decoded<'a>, SqlError> {
        let Some((kind, text)) = self.literal_text(slot) else { return Ok(Decoded::Unknown) };
        match kind {
            LiteralKind::Integer => Ok(KeyValue::from_number(ty, &text)),
            LiteralKind::Decimal if self.wanted == Use::Compare => {
                Ok(KeyValue::from_number(ty, &text))
            }
            LiteralKind::Decimal | LiteralKind::Other => Ok(Decoded::Unknown),
            LiteralKind::String | LiteralKind::EscapeString | LiteralKind::DollarString => {
                from_text(ty, 0, text).map_err(|error| self.at(slot, error))
            }
        }
    }

    /// What is wrong with a literal stands where that does, as PostgreSQL says it.
    fn at(&self, slot: Slot, error: SqlError) -> SqlError {
        let start = self.inputs.literals.get(usize::from(slot)).map(|found| found.span.start);
        let before = start.and_then(|start| self.inputs.text.get(..start as usize));
        match before {
            Some(before) => error.position(before.chars().count() as u32 + 1),
            None => error,
        }
    }

    fn negative(&self, ty: KeyType, slot: Slot) -> Decoded<'a> {
        match self.literal_text(slot) {
            Some((LiteralKind::Integer, text)) => KeyValue::from_number(ty, &format!("-{text}")),
            Some((LiteralKind::Decimal, text)) if self.wanted == Use::Compare => {
                KeyValue::from_number(ty, &format!("-{text}"))
            }
            _ => Decoded::Unknown,
        }
    }

    fn param(&self, ty: KeyType, param: &Param<'a>) -> Result<Decoded<'a>, SqlError> {
        if self.wanted == Use::Store && param.oid == oid::NUMERIC {
            return Ok(Decoded::Unknown);
        }
        KeyValue::from_param(ty, param)
    }

    fn cast(&self, ty: KeyType, inner: &Scalar, to: Oid) -> Result<Decoded<'a>, SqlError> {
        if self.wanted == Use::Store && to == oid::NUMERIC {
            return Ok(Decoded::Unknown);
        }
        match inner {
            Scalar::Null => Ok(Decoded::Null),
            Scalar::Literal(slot) => match self.literal_text(*slot) {
                None => Ok(Decoded::Unknown),
                Some((LiteralKind::Integer | LiteralKind::Decimal, _)) => {
                    Ok(self.cast_number(ty, inner, to))
                }
                Some((_, text)) => from_text(ty, to, text).map_err(|error| self.at(*slot, error)),
            },
            Scalar::Negative(_) => Ok(self.cast_number(ty, inner, to)),
            Scalar::Param(n) => match self.inputs.params.get(usize::from(*n)) {
                Some(param) => Self::cast_param(ty, param, to),
                None => Ok(Decoded::Unknown),
            },
            Scalar::Arithmetic(both) => Ok(match (self.arithmetic(both), KeyType::from_oid(to)) {
                (Some(number), Some(wanted)) if wanted.is_integer() && ty.is_integer() => {
                    Number::of(number.value, to).map_or(Decoded::Unknown, Number::key)
                }
                (Some(number), Some(KeyType::Text | KeyType::Varchar))
                    if matches!(ty, KeyType::Text | KeyType::Varchar) =>
                {
                    Decoded::Key(KeyValue::Text(Cow::Owned(number.value.to_string())))
                }
                _ => Decoded::Unknown,
            }),
            // A text is read by the second cast's input function, where the server comes to it.
            Scalar::Cast(innermost, oid::TEXT | oid::VARCHAR)
                if !matches!(to, oid::TEXT | oid::VARCHAR)
                    && matches!(&**innermost, Scalar::Literal(_)) =>
            {
                match self.text(innermost) {
                    Some(text) => Ok(from_text(ty, to, text).unwrap_or(Decoded::Unknown)),
                    None => Ok(Decoded::Unknown),
                }
            }
            // A second cast within one family changes nothing that matters here.
            Scalar::Cast(innermost, first) => {
                match (KeyType::from_oid(*first), KeyType::from_oid(to)) {
                    (Some(a), Some(b)) if a.same_family(b) => self.cast(ty, innermost, *first),
                    _ => Ok(Decoded::Unknown),
                }
            }
        }
    }

    /// A cast of a number as written: to an integer type (a decimal would be rounded), to numeric, or to
    /// text by way of an integer.
    fn cast_number(&self, ty: KeyType, scalar: &Scalar, to: Oid) -> Decoded<'a> {
        let (slot, sign) = match scalar {
            Scalar::Literal(slot) => (*slot, ""),
            Scalar::Negative(slot) => (*slot, "-"),
            _ => return Decoded::Unknown,
        };
        let Some((kind, digits)) = self.literal_text(slot) else { return Decoded::Unknown };
        let whole = kind == LiteralKind::Integer;
        let number = format!("{sign}{digits}");
        match KeyType::from_oid(to) {
            Some(to) if to.is_integer() && whole => KeyValue::from_number(ty, &number),
            None if to == oid::NUMERIC
                && matches!(kind, LiteralKind::Decimal | LiteralKind::Integer) =>
            {
                KeyValue::from_number(ty, &number)
            }
            Some(KeyType::Text | KeyType::Varchar)
                if whole && matches!(ty, KeyType::Text | KeyType::Varchar) =>
            {
                match number.parse::<i64>() {
                    Ok(value) => Decoded::Key(KeyValue::Text(Cow::Owned(value.to_string()))),
                    Err(_) => Decoded::Unknown,
                }
            }
            _ => Decoded::Unknown,
        }
    }

    /// A cast of a parameter: an undeclared one has the cast's type; a text is read by the cast's input
    /// function; within one family nothing changes.
    fn cast_param(ty: KeyType, param: &Param<'a>, to: Oid) -> Result<Decoded<'a>, SqlError> {
        let Some(bytes) = param.value else { return Ok(Decoded::Null) };
        match param.oid {
            0 | oid::UNKNOWN => KeyValue::from_param(ty, &Param { oid: to, ..*param }),
            same if same == to => KeyValue::from_param(ty, param),
            oid::TEXT | oid::VARCHAR => {
                let param = Param { oid: to, format: Format::Text, value: Some(bytes) };
                // The server casts it where it comes to it, which may be never.
                Ok(KeyValue::from_param(ty, &param).unwrap_or(Decoded::Unknown))
            }
            declared => match (KeyType::from_oid(declared), KeyType::from_oid(to)) {
                (Some(a), Some(b)) if a.same_family(b) => KeyValue::from_param(ty, param),
                _ => Ok(Decoded::Unknown),
            },
        }
    }

    fn literal_array(
        &self,
        ty: KeyType,
        to: Oid,
        slot: Slot,
    ) -> Result<DecodedArray<'a>, SqlError> {
        let Some((kind, text)) = self.literal_text(slot) else { return Ok(DecodedArray::Unknown) };
        if matches!(kind, LiteralKind::Integer | LiteralKind::Decimal | LiteralKind::Other) {
            return Ok(DecodedArray::Unknown);
        }
        let decoded = match text {
            Cow::Borrowed(text) => array::decode(ty, &text_param(to, text)),
            Cow::Owned(text) => {
                array::decode(ty, &text_param(to, &text)).map(|decoded| match decoded {
                    DecodedArray::Keys(keys) => DecodedArray::Keys(
                        keys.into_iter().map(|key| key.map(KeyValue::into_owned)).collect(),
                    ),
                    DecodedArray::Null => DecodedArray::Null,
                    DecodedArray::Unknown => DecodedArray::Unknown,
                })
            }
        };
        decoded.map_err(|error| self.at(slot, error))
    }

    fn param_array(&self, ty: KeyType, to: Oid, n: u16) -> Result<DecodedArray<'a>, SqlError> {
        let Some(param) = self.inputs.params.get(usize::from(n)) else {
            return Ok(DecodedArray::Unknown);
        };
        match (param.oid, to) {
            (_, 0) => array::decode(ty, param),
            (0 | oid::UNKNOWN, to) => array::decode(ty, &Param { oid: to, ..*param }),
            (oid::TEXT | oid::VARCHAR, to) => {
                array::decode(ty, &Param { oid: to, format: Format::Text, ..*param })
            }
            (declared, to) if declared == to => array::decode(ty, param),
            _ => Ok(DecodedArray::Unknown),
        }
    }

    fn literal_text(&self, slot: Slot) -> Option<(LiteralKind, Cow<'a, str>)> {
        let found = self.inputs.literals.get(usize::from(slot))?;
        let text = literal::text_of(self.inputs.text, *found, self.inputs.standard_strings)?;
        Some((found.kind, text))
    }

    fn check_encoding(&self, decoded: Decoded<'a>) -> Result<Decoded<'a>, SqlError> {
        if let Decoded::Key(key) = &decoded {
            self.check_text(key)?;
        }
        Ok(decoded)
    }

    fn check_text(&self, key: &KeyValue<'_>) -> Result<(), SqlError> {
        match key {
            KeyValue::Text(text) if !self.inputs.utf8 && !text.is_ascii() => {
                Err(Refusal::ClientEncoding.into())
            }
            _ => Ok(()),
        }
    }
}

fn from_text(ty: KeyType, to: Oid, text: Cow<'_, str>) -> Result<Decoded<'_>, SqlError> {
    match text {
        Cow::Borrowed(text) => KeyValue::from_typed_text(ty, to, text),
        Cow::Owned(text) => Ok(match KeyValue::from_typed_text(ty, to, &text)? {
            Decoded::Key(key) => Decoded::Key(key.into_owned()),
            Decoded::Null => Decoded::Null,
            Decoded::NoMatch => Decoded::NoMatch,
            Decoded::Unknown => Decoded::Unknown,
        }),
    }
}

fn text_param(oid: Oid, text: &str) -> Param<'_> {
    Param { oid, format: Format::Text, value: Some(text.as_bytes()) }
}
