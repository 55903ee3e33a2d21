//! Reading key values: what PostgreSQL's input and receive functions of the key types would read.
//!
//! Main types: [`Decoded`], and [`KeyValue`]'s constructors. Where PostgreSQL would raise an error, the
//! error here has its SQLSTATE and words; where a value can't be told without the server, the answer is
//! [`Decoded::Unknown`], which restricts nothing.

use std::borrow::Cow;
use std::fmt;

use super::{Format, KeyType, KeyValue, Oid, Param, oid};
use crate::error::{SqlError, SqlState};

/// What a value turned out to be when it is compared with a key column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// This key.
    Key(KeyValue<'a>),
    /// NULL: `=` finds no row; a row's key can't be it.
    Null,
    /// A value that equals no value of the key's type (2.5 for a bigint). For a comparison only: an
    /// assignment would round it.
    NoMatch,
    /// It can't be told here. It must not narrow a route.
    Unknown,
}

impl KeyType {
    /// The type's name as `format_type` writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BigInt => "bigint",
            Self::Integer => "integer",
            Self::SmallInt => "smallint",
            Self::Text => "text",
            Self::Varchar => "character varying",
            Self::Uuid => "uuid",
        }
    }

    /// smallint, integer or bigint.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::BigInt | Self::Integer | Self::SmallInt)
    }

    /// The key type of a column's or parameter's type, if it is one.
    pub fn from_oid(type_oid: Oid) -> Option<Self> {
        match type_oid {
            oid::INT8 => Some(Self::BigInt),
            oid::INT4 => Some(Self::Integer),
            oid::INT2 => Some(Self::SmallInt),
            oid::TEXT => Some(Self::Text),
            oid::VARCHAR => Some(Self::Varchar),
            oid::UUID => Some(Self::Uuid),
            _ => None,
        }
    }

    /// Whether both share one form, one hash family and one equality: integers of any width; text and
    /// varchar; uuid.
    pub fn same_family(self, other: Self) -> bool {
        let text = |ty| matches!(ty, Self::Text | Self::Varchar);
        self == other || (self.is_integer() && other.is_integer()) || (text(self) && text(other))
    }

    /// Whether a column of this type can hold the key. Type 0 means that only the column's name is known,
    /// which is accepted. char(n), citext and domains are not: equal values may differ in bytes.
    pub fn accepts_column(self, type_oid: Oid) -> bool {
        type_oid == 0 || Self::from_oid(type_oid).is_some_and(|ty| self.same_family(ty))
    }

    /// The OIDs of this type and of its array type.
    pub fn oids(self) -> (Oid, Oid) {
        match self {
            Self::BigInt => (oid::INT8, oid::INT8_ARRAY),
            Self::Integer => (oid::INT4, oid::INT4_ARRAY),
            Self::SmallInt => (oid::INT2, oid::INT2_ARRAY),
            Self::Text => (oid::TEXT, oid::TEXT_ARRAY),
            Self::Varchar => (oid::VARCHAR, oid::VARCHAR_ARRAY),
            Self::Uuid => (oid::UUID, oid::UUID_ARRAY),
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<'a> KeyValue<'a> {
    /// Reads a quoted literal, or a text parameter, as the type's input function does.
    ///
    /// # Errors
    ///
    /// 22P02 and 22003 as `int8in` and its like and `uuid_in` raise them. Integers in the notations of
    /// PostgreSQL 16 (`0x2a`, `1_000`) are read; an older server refuses them itself.
    pub fn from_text(ty: KeyType, text: &'a str) -> Result<Self, SqlError> {
        match ty {
            KeyType::BigInt => integer(text, ty, i64::MIN, i64::MAX),
            KeyType::Integer => integer(text, ty, i32::MIN.into(), i32::MAX.into()),
            KeyType::SmallInt => integer(text, ty, i16::MIN.into(), i16::MAX.into()),
            KeyType::Text | KeyType::Varchar => Ok(KeyValue::Text(Cow::Borrowed(text))),
            KeyType::Uuid => {
                parse_uuid(text).map(KeyValue::Uuid).ok_or_else(|| invalid_syntax("uuid", text))
            }
        }
    }

    /// Reads an unquoted numeric constant (`42`, `-42`, `42.0`, `4.2e1`) compared with a key column. Only
    /// integer keys compare with numbers.
    pub fn from_number(ty: KeyType, text: &str) -> Decoded<'static> {
        if !ty.is_integer() {
            return Decoded::Unknown;
        }
        if let Ok(value) = text.trim().parse::<i64>() {
            return Decoded::Key(KeyValue::Int(value));
        }
        decimal(text)
    }

    /// Reads a binary value of type `type_oid` (0: the server infers the key's own type) as the
    /// type's receive function does.
    ///
    /// # Errors
    ///
    /// 22P03 when the length is wrong for the declared type, 22021 when text isn't UTF-8.
    pub fn from_binary(
        ty: KeyType,
        type_oid: Oid,
        bytes: &'a [u8],
    ) -> Result<Decoded<'a>, SqlError> {
        match ty {
            KeyType::BigInt | KeyType::Integer | KeyType::SmallInt => {
                binary_integer(type_oid, bytes)
            }
            KeyType::Text | KeyType::Varchar => match type_oid {
                0 | oid::TEXT | oid::VARCHAR | oid::UNKNOWN | oid::NAME => {
                    Ok(Decoded::Key(KeyValue::Text(Cow::Borrowed(utf8(bytes)?))))
                }
                _ => Ok(Decoded::Unknown),
            },
            KeyType::Uuid => match type_oid {
                0 | oid::UUID => match bytes.try_into() {
                    Ok(uuid) => Ok(Decoded::Key(KeyValue::Uuid(uuid))),
                    Err(_) => Err(bad_binary("uuid")),
                },
                _ => Ok(Decoded::Unknown),
            },
        }
    }

    /// Reads a bound parameter that is compared with a key column of type `ty`: the declared type decides
    /// how it is read, and `ty` where none was declared.
    ///
    /// # Errors
    ///
    /// Those of [`KeyValue::from_text`] and [`KeyValue::from_binary`].
    pub fn from_param(ty: KeyType, param: &Param<'a>) -> Result<Decoded<'a>, SqlError> {
        let Some(bytes) = param.value else { return Ok(Decoded::Null) };
        match param.format {
            Format::Binary => Self::from_binary(ty, param.oid, bytes),
            Format::Text => Self::from_typed_text(ty, param.oid, utf8(bytes)?),
        }
    }

    /// Reads the text form of a value of type `type_oid` (0 or unknown: the key's own type).
    ///
    /// # Errors
    ///
    /// Those of [`KeyValue::from_text`].
    pub fn from_typed_text(
        ty: KeyType,
        type_oid: Oid,
        text: &'a str,
    ) -> Result<Decoded<'a>, SqlError> {
        let declared = match type_oid {
            0 | oid::UNKNOWN => ty,
            oid::NAME if matches!(ty, KeyType::Text | KeyType::Varchar) => ty,
            oid::NUMERIC if ty.is_integer() => return Ok(decimal(text)),
            _ => match KeyType::from_oid(type_oid) {
                Some(declared) if ty.same_family(declared) => declared,
                _ => return Ok(Decoded::Unknown),
            },
        };
        Self::from_text(declared, text).map(Decoded::Key)
    }

    /// The value as a column of this type stores it when it is assigned: `character varying(n)` loses
    /// blanks past its length. `type_name` is what `format_type` writes. Anything else that doesn't fit is
    /// left as it is, for the server refuses it.
    #[must_use]
    pub fn stored_as(self, type_name: &str) -> Self {
        let KeyValue::Text(text) = &self else { return self };
        let Some(limit) = type_name
            .strip_prefix("character varying(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|digits| digits.parse::<usize>().ok())
        else {
            return self;
        };
        let Some((cut, _)) = text.char_indices().nth(limit) else { return self };
        match text.split_at_checked(cut) {
            Some((kept, excess)) if excess.bytes().all(|b| b == b' ') => {
                KeyValue::Text(Cow::Owned(kept.to_owned()))
            }
            _ => self,
        }
    }

    /// Whether the value has the form of this type.
    pub fn is_of(&self, ty: KeyType) -> bool {
        match self {
            KeyValue::Int(_) => ty.is_integer(),
            KeyValue::Text(_) => matches!(ty, KeyType::Text | KeyType::Varchar),
            KeyValue::Uuid(_) => ty == KeyType::Uuid,
        }
    }
}

/// PostgreSQL's canonical output: what the output function of the type writes.
impl fmt::Display for KeyValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyValue::Int(i) => write!(f, "{i}"),
            KeyValue::Text(t) => f.write_str(t),
            KeyValue::Uuid(u) => {
                for (i, byte) in u.iter().enumerate() {
                    if matches!(i, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

fn invalid_syntax(type_name: &str, text: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

pub(super) fn bad_binary(type_name: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_BINARY_REPRESENTATION,
        format!("incorrect binary data format for type {type_name}"),
    )
}

/// Bytes as text. A zero byte is refused too: no text value of PostgreSQL holds one.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, SqlError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if memchr::memchr(0, bytes).is_none() => Ok(text),
        _ => Err(SqlError::new(SqlState("22021"), "invalid byte sequence for encoding \"UTF8\"")),
    }
}

/// `isspace` in the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Why a text is not an integer.
enum NotInteger {
    Syntax,
    Range,
}

/// `pg_strtoint64` and its narrower brothers (`src/backend/utils/adt/numutils.c`).
fn integer(text: &str, ty: KeyType, min: i64, max: i64) -> Result<KeyValue<'static>, SqlError> {
    match integer_digits(text) {
        Ok(value) if (min.into()..=max.into()).contains(&value) => {
            // The bounds are those of an i64, so the value is one.
            i64::try_from(value).map(KeyValue::Int).map_err(|_| out_of_range(ty, text))
        }
        Ok(_) | Err(NotInteger::Range) => Err(out_of_range(ty, text)),
        Err(NotInteger::Syntax) => Err(invalid_syntax(ty.name(), text)),
    }
}

fn out_of_range(ty: KeyType, text: &str) -> SqlError {
    SqlError::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("value \"{text}\" is out of range for type {}", ty.name()),
    )
}

fn integer_digits(text: &str) -> Result<i128, NotInteger> {
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    let (radix, digits) = match digits {
        [b'0', b'x' | b'X', rest @ ..] => (16, rest),
        [b'0', b'o' | b'O', rest @ ..] => (8, rest),
        [b'0', b'b' | b'B', rest @ ..] => (2, rest),
        all => (10, all),
    };
    let mut value: i128 = 0;
    let mut overflow = false;
    // After the prefix of another base a separator may stand before the first digit.
    let mut separator_allowed = radix != 10;
    let mut ends_in_digit = false;
    for &byte in digits {
        if byte == b'_' {
            if !separator_allowed {
                return Err(NotInteger::Syntax);
            }
            separator_allowed = false;
            ends_in_digit = false;
            continue;
        }
        let Some(digit) = char::from(byte).to_digit(radix) else {
            return Err(NotInteger::Syntax);
        };
        value = value * i128::from(radix) + i128::from(digit);
        // Far beyond any integer type: what follows is only checked for syntax.
        if value > i128::from(u64::MAX) {
            overflow = true;
            value = 0;
        }
        separator_allowed = true;
        ends_in_digit = true;
    }
    match (ends_in_digit, overflow) {
        (false, _) => Err(NotInteger::Syntax),
        (true, true) => Err(NotInteger::Range),
        (true, false) => Ok(if negative { -value } else { value }),
    }
}

/// A numeric in decimal notation, compared with an integer: the integer it equals, or none. Text that
/// is no number is left to the server.
fn decimal(text: &str) -> Decoded<'static> {
    let text = text.trim_matches(|c: char| c.is_ascii() && is_space(c as u8));
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => match exponent.parse::<i32>() {
            Ok(exponent) => (mantissa, exponent),
            Err(_) => return Decoded::Unknown,
        },
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if digits().next().is_none() || !digits().all(|b| b.is_ascii_digit()) {
        return Decoded::Unknown;
    }
    // The value is 0.d1d2d3… × 10^point: digits before the point make the integer.
    let point = i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(exponent.into());
    let mut value: i128 = 0;
    let mut position: i64 = 0;
    for byte in digits() {
        let digit = i128::from(byte - b'0');
        if position >= point {
            if digit != 0 {
                return Decoded::NoMatch;
            }
        } else {
            value = value * 10 + digit;
        }
        if value > i128::from(u64::MAX) {
            return Decoded::NoMatch;
        }
        position += 1;
    }
    // Zeros that the exponent appends.
    while value != 0 && position < point {
        value *= 10;
        if value > i128::from(u64::MAX) {
            return Decoded::NoMatch;
        }
        position += 1;
    }
    integral(if negative { -value } else { value })
}

fn integral(value: i128) -> Decoded<'static> {
    i64::try_from(value).map_or(Decoded::NoMatch, |i| Decoded::Key(KeyValue::Int(i)))
}

fn binary_integer(type_oid: Oid, bytes: &[u8]) -> Result<Decoded<'static>, SqlError> {
    let two = || bytes.try_into().ok().map(|b| i64::from(i16::from_be_bytes(b)));
    let four = || bytes.try_into().ok().map(|b| i64::from(i32::from_be_bytes(b)));
    let eight = || bytes.try_into().ok().map(i64::from_be_bytes);
    let (value, name) = match type_oid {
        oid::INT2 => (two(), "smallint"),
        oid::INT4 => (four(), "integer"),
        oid::INT8 => (eight(), "bigint"),
        // No type was declared: the server infers one, and the length tells which.
        0 => (two().or_else(four).or_else(eight), "bigint"),
        oid::NUMERIC => return binary_numeric(bytes),
        _ => return Ok(Decoded::Unknown),
    };
    value.map(|i| Decoded::Key(KeyValue::Int(i))).ok_or_else(|| bad_binary(name))
}

/// `numeric_send`'s form: the number of base-10000 digits, the weight of the first, the sign, the display
/// scale, then the digits (`src/backend/utils/adt/numeric.c`).
fn binary_numeric(bytes: &[u8]) -> Result<Decoded<'static>, SqlError> {
    const NEGATIVE: i16 = 0x4000;
    let mut words = bytes.chunks_exact(2).map(|pair| {
        let (high, low) = (pair.first().copied(), pair.get(1).copied());
        i16::from_be_bytes([high.unwrap_or_default(), low.unwrap_or_default()])
    });
    let (Some(digits), Some(weight), Some(sign), Some(_scale)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad_binary("numeric"));
    };
    if bytes.len() % 2 != 0 || usize::try_from(digits) != Ok(words.len()) {
        return Err(bad_binary("numeric"));
    }
    let negative = match sign {
        0 => false,
        NEGATIVE => true,
        // NaN and the infinities equal no integer.
        _ => return Ok(Decoded::NoMatch),
    };
    let mut value: i128 = 0;
    let mut power = i32::from(weight);
    for digit in words {
        if !(0..10_000).contains(&digit) {
            return Err(bad_binary("numeric"));
        }
        if power < 0 && digit != 0 {
            return Ok(Decoded::NoMatch);
        }
        if power >= 0 {
            value = value * 10_000 + i128::from(digit);
        }
        if value > i128::from(u64::MAX) {
            return Ok(Decoded::NoMatch);
        }
        power -= 1;
    }
    while value != 0 && power >= 0 {
        value *= 10_000;
        if value > i128::from(u64::MAX) {
            return Ok(Decoded::NoMatch);
        }
        power -= 1;
    }
    Ok(integral(if negative { -value } else { value }))
}

/// `string_to_uuid` (`src/backend/utils/adt/uuid.c`): braces, and a hyphen after every four digits.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut bytes = text.as_bytes();
    if let [b'{', inner @ .., b'}'] = bytes {
        bytes = inner;
    }
    let mut uuid = [0u8; 16];
    for (i, byte) in uuid.iter_mut().enumerate() {
        let [high, low, rest @ ..] = bytes else { return None };
        let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        *byte = (digit(*high)? << 4) | digit(*low)?;
        bytes = match rest {
            [b'-', after @ ..] if i % 2 == 1 && i < 15 => after,
            _ => rest,
        };
    }
    bytes.is_empty().then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ty: KeyType, input: &str) -> String {
        match KeyValue::from_text(ty, input) {
            Ok(value) => value.to_string(),
            Err(error) => format!("{} {}", error.code, error.message),
        }
    }

    #[test]
    fn integers_read_as_their_input_functions_do() {
        let check = |ty, input: &str, expect: &str| assert_eq!(text(ty, input), expect, "{input}");
        check(KeyType::BigInt, "42", "42");
        check(KeyType::BigInt, " \t+42\n", "42");
        check(KeyType::BigInt, "-0", "0");
        check(KeyType::BigInt, "007", "7");
        check(KeyType::BigInt, "-9223372036854775808", "-9223372036854775808");
        check(
            KeyType::BigInt,
            "9223372036854775808",
            "22003 value \"9223372036854775808\" is out of range for type bigint",
        );
        check(
            KeyType::BigInt,
            "999999999999999999999999999999999999999999999999999",
            "22003 value \"999999999999999999999999999999999999999999999999999\" is out of range \
             for type bigint",
        );
        check(KeyType::BigInt, "", "22P02 invalid input syntax for type bigint: \"\"");
        check(KeyType::BigInt, "4 2", "22P02 invalid input syntax for type bigint: \"4 2\"");
        check(KeyType::BigInt, "4.2", "22P02 invalid input syntax for type bigint: \"4.2\"");
        check(KeyType::BigInt, "- 1", "22P02 invalid input syntax for type bigint: \"- 1\"");
        check(
            KeyType::BigInt,
            "\u{a0}1",
            "22P02 invalid input syntax for type bigint: \"\u{a0}1\"",
        );
        check(
            KeyType::BigInt,
            "99999999999999999999999x",
            "22P02 invalid input syntax for type bigint: \"99999999999999999999999x\"",
        );
        check(KeyType::BigInt, "0x2A", "42");
        check(KeyType::BigInt, "-0b_101", "-5");
        check(KeyType::BigInt, "0o17", "15");
        check(KeyType::BigInt, "1_000", "1000");
        check(KeyType::BigInt, "_1", "22P02 invalid input syntax for type bigint: \"_1\"");
        check(KeyType::BigInt, "1__0", "22P02 invalid input syntax for type bigint: \"1__0\"");
        check(KeyType::BigInt, "1_", "22P02 invalid input syntax for type bigint: \"1_\"");
        check(KeyType::BigInt, "0x", "22P02 invalid input syntax for type bigint: \"0x\"");
        check(KeyType::Integer, "2147483647", "2147483647");
        check(
            KeyType::Integer,
            "2147483648",
            "22003 value \"2147483648\" is out of range for type integer",
        );
        check(KeyType::SmallInt, "-32768", "-32768");
        check(
            KeyType::SmallInt,
            "32768",
            "22003 value \"32768\" is out of range for type smallint",
        );
    }

    #[test]
    fn uuids_read_as_uuid_in_does() {
        let canonical = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let good = [
            canonical,
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        ];
        for input in good {
            assert_eq!(text(KeyType::Uuid, input), canonical);
        }
        let bad = [
            "",
            " a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-",
            "a0-eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc99--9c0b4ef8bb6d6bb9bd380a11",
            "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380aé",
        ];
        for input in bad {
            let expect = format!("22P02 invalid input syntax for type uuid: \"{input}\"");
            assert_eq!(text(KeyType::Uuid, input), expect);
        }
    }

    #[test]
    fn numbers_compare_by_value() {
        let check = |input: &str, expect: Decoded<'static>| {
            assert_eq!(KeyValue::from_number(KeyType::BigInt, input), expect, "{input}");
        };
        let key = |i| Decoded::Key(KeyValue::Int(i));
        check("42", key(42));
        check("-42", key(-42));
        check("42.000", key(42));
        check(".5e1", key(5));
        check("420e-1", key(42));
        check("4.2e1", key(42));
        check("42.5", Decoded::NoMatch);
        check("9223372036854775808", Decoded::NoMatch);
        check("-9223372036854775808", key(i64::MIN));
        check("1e18", key(1_000_000_000_000_000_000));
        check("1e30", Decoded::NoMatch);
        check("1e2147483647", Decoded::NoMatch);
        check("0e2147483647", key(0));
        check("1e-2147483648", Decoded::NoMatch);
        check("0.0", key(0));
        check("NaN", Decoded::Unknown);
        check(".", Decoded::Unknown);
        assert_eq!(KeyValue::from_number(KeyType::Text, "42"), Decoded::Unknown);
    }

    #[test]
    fn binary_values_read_by_declared_type() {
        let check = |ty, oid, bytes: &[u8], expect: &str| {
            let found = match KeyValue::from_binary(ty, oid, bytes) {
                Ok(Decoded::Key(value)) => value.to_string(),
                Ok(other) => format!("{other:?}"),
                Err(error) => error.code.to_string(),
            };
            assert_eq!(found, expect, "{oid} {bytes:?}");
        };
        check(KeyType::BigInt, oid::INT8, &[0xff; 8], "-1");
        check(KeyType::BigInt, oid::INT4, &[0, 0, 0, 42], "42");
        check(KeyType::BigInt, oid::INT2, &[0x80, 0], "-32768");
        check(KeyType::BigInt, oid::INT8, &[0, 0, 0, 42], "22P03");
        check(KeyType::BigInt, 0, &[0, 42], "42");
        check(KeyType::BigInt, 0, &[0, 0, 42], "22P03");
        check(KeyType::BigInt, 701, &[0; 8], "Unknown");
        check(KeyType::BigInt, oid::TEXT, b"42", "Unknown");
        check(KeyType::Text, 0, "é".as_bytes(), "é");
        check(KeyType::Text, oid::VARCHAR, b"", "");
        check(KeyType::Text, oid::TEXT, &[0xff], "22021");
        check(KeyType::Text, oid::TEXT, &[b'a', 0], "22021");
        check(KeyType::Text, oid::BPCHAR, b"a  ", "Unknown");
        check(KeyType::Uuid, oid::UUID, &[0; 16], "00000000-0000-0000-0000-000000000000");
        check(KeyType::Uuid, oid::UUID, &[0; 15], "22P03");
        check(KeyType::Uuid, oid::TEXT, &[0; 16], "Unknown");
        let numeric =
            |words: &[i16]| -> Vec<u8> { words.iter().flat_map(|w| w.to_be_bytes()).collect() };
        let check = |words: &[i16], expect| {
            check(KeyType::BigInt, oid::NUMERIC, &numeric(words), expect);
        };
        check(&[0, 0, 0, 0], "0");
        check(&[1, 0, 0, 0, 42], "42");
        check(&[1, 1, 0x4000, 0, 42], "-420000");
        check(&[2, 0, 0, 1, 42, 5000], "NoMatch");
        check(&[2, 0, 0, 1, 42, 0], "42");
        check(&[5, 4, 0, 0, 922, 3372, 368, 5477, 5807], "9223372036854775807");
        check(&[5, 4, 0, 0, 922, 3372, 368, 5477, 5808], "NoMatch");
        check(&[1, 3000, 0, 0, 1], "NoMatch");
        check(&[1, -1, 0, 4, 42], "NoMatch");
        check(&[0, 0, 0xC000u16 as i16, 0], "NoMatch");
        check(&[2, 0, 0, 0, 42], "22P03");
        check(&[1, 0, 0, 0, -1], "22P03");
        check(&[1, 0], "22P03");
    }

    #[test]
    fn text_parameters_read_by_declared_type() {
        let check = |ty, oid, text: &str, expect: Decoded<'_>| {
            let param = Param { oid, format: Format::Text, value: Some(text.as_bytes()) };
            assert_eq!(KeyValue::from_param(ty, &param), Ok(expect), "{oid} {text}");
        };
        let key = |i| Decoded::Key(KeyValue::Int(i));
        check(KeyType::SmallInt, oid::INT8, "70000", key(70_000));
        check(KeyType::BigInt, 0, " 7", key(7));
        check(KeyType::BigInt, oid::NUMERIC, "7.0", key(7));
        check(KeyType::BigInt, oid::TEXT, "7", Decoded::Unknown);
        check(KeyType::Text, oid::INT4, "7", Decoded::Unknown);
        check(KeyType::Text, oid::NAME, "a", Decoded::Key(KeyValue::Text("a".into())));
        let null = Param { oid: 0, format: Format::Text, value: None };
        assert_eq!(KeyValue::from_param(KeyType::BigInt, &null), Ok(Decoded::Null));
    }

    #[test]
    fn assignment_to_varchar_drops_blanks_past_its_length() {
        let check = |input: &'static str, ty: &str, expect: &str| {
            assert_eq!(KeyValue::Text(input.into()).stored_as(ty).to_string(), expect);
        };
        check("abc  ", "character varying(3)", "abc");
        check("abc  ", "character varying(4)", "abc ");
        check("é  ", "character varying(1)", "é");
        check("abcd", "character varying(3)", "abcd");
        check("abc  ", "character varying", "abc  ");
        check("abc  ", "text", "abc  ");
    }
}
