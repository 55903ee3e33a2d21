//! The order of values, as PostgreSQL's default B-tree operator classes have it.
//!
//! Main types: [`Order`], [`Key`], [`KeyColumns`]. Only what is provably the same here is known: integers, numeric,
//! floats (NaN is the greatest and equals itself, -0 equals 0: `float8_cmp_internal`), dates and times, uuid, bytea,
//! booleans, and text where the collation compares bytes (C, POSIX, the provider `builtin`). Most are compared in
//! their binary form: the types' `…_send` functions (`numeric_send`, `interval_send` …). Of integers, uuid, booleans
//! and such texts the order is known in text format, too ([`Order::of_text`]).
//!
//! Deliberately absent: enums, arrays, ranges, jsonb, network addresses, user-defined types, other collations.

use std::cmp::Ordering;

use super::{Oid, oid};

/// How the values of a type are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Signed big-endian integers of two, four or eight bytes: `int2`, `int4`, `int8`, `date`, `time`,
    /// `timestamp`, `timestamptz`, `money`.
    Signed(u8),
    /// As bytes, of this length: `uuid`, `oid`, `bool`, `"char"`, `macaddr`, `pg_lsn`.
    Fixed(u8),
    /// As bytes, a prefix first: `bytea`, `name`, `text` and `varchar` under such a collation.
    Bytes,
    /// The same without blanks at the end: `bpchar` under such a collation.
    Padded,
    /// `float4`.
    Float4,
    /// `float8`.
    Float8,
    /// `numeric`.
    Numeric,
    /// `timetz`: by its instant, then its zone (`timetz_cmp_internal`).
    TimeTz,
    /// `interval`: months are thirty days and days 24 hours (`interval_cmp_value`).
    Interval,
    /// Integers in text format: `int2out`, `int4out`, `int8out`.
    Decimal,
}

/// Microseconds of a day.
const DAY_MICROSECONDS: i128 = 86_400_000_000;

impl Order {
    /// How a type's values are compared; `None` where that is not known here. `bytewise`: its collation, if it has
    /// one, compares bytes.
    pub fn of(type_oid: Oid, bytewise: bool) -> Option<Self> {
        Some(match type_oid {
            oid::INT2 => Self::Signed(2),
            // int4, date
            oid::INT4 | 1082 => Self::Signed(4),
            // int8, money, time, timestamp, timestamptz
            oid::INT8 | 790 | 1083 | 1114 | 1184 => Self::Signed(8),
            // bool, "char"
            oid::BOOL | 18 => Self::Fixed(1),
            // oid
            26 => Self::Fixed(4),
            // macaddr
            829 => Self::Fixed(6),
            // macaddr8, pg_lsn
            774 | 3220 => Self::Fixed(8),
            oid::UUID => Self::Fixed(16),
            // A name's collation is C.
            oid::BYTEA | oid::NAME => Self::Bytes,
            oid::TEXT | oid::VARCHAR if bytewise => Self::Bytes,
            oid::BPCHAR if bytewise => Self::Padded,
            700 => Self::Float4,
            701 => Self::Float8,
            oid::NUMERIC => Self::Numeric,
            1266 => Self::TimeTz,
            1186 => Self::Interval,
            _ => return None,
        })
    }

    /// The same of values in text format, where that is as good: nothing that a setting writes otherwise.
    pub fn of_text(type_oid: Oid, bytewise: bool) -> Option<Self> {
        Some(match type_oid {
            oid::INT2 | oid::INT4 | oid::INT8 => Self::Decimal,
            // `f` and `t`
            oid::BOOL => Self::Fixed(1),
            // Hexadecimal digits in lower case, groups of one length (`uuid_out`).
            oid::UUID => Self::Fixed(36),
            oid::NAME => Self::Bytes,
            oid::TEXT | oid::VARCHAR if bytewise => Self::Bytes,
            oid::BPCHAR if bytewise => Self::Padded,
            _ => return None,
        })
    }

    /// Whether these bytes are a value of the type, as far as comparing them needs it.
    pub fn fits(self, value: &[u8]) -> bool {
        match self {
            Self::Signed(bytes) | Self::Fixed(bytes) => value.len() == usize::from(bytes),
            Self::Bytes | Self::Padded => true,
            Self::Float4 => value.len() == 4,
            Self::Float8 => value.len() == 8,
            Self::Numeric => Decimal::read(value).is_some(),
            Self::TimeTz => value.len() == 12,
            Self::Interval => value.len() == 16,
            Self::Decimal => decimal(value).is_some(),
        }
    }

    /// Compares two values. What does not fit ([`Self::fits`]) compares somehow.
    pub fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Self::Signed(_) => signed(a, b),
            Self::Fixed(_) | Self::Bytes => a.cmp(b),
            Self::Padded => trimmed(a).cmp(trimmed(b)),
            Self::Float4 => {
                let value = |v: &[u8]| v.first_chunk().map_or(0.0, |v| f32::from_be_bytes(*v));
                float(f64::from(value(a)), f64::from(value(b)))
            }
            Self::Float8 => {
                let value = |v: &[u8]| v.first_chunk().map_or(0.0, |v| f64::from_be_bytes(*v));
                float(value(a), value(b))
            }
            Self::Numeric => match (Decimal::read(a), Decimal::read(b)) {
                (Some(a), Some(b)) => a.compare(&b),
                _ => Ordering::Equal,
            },
            Self::TimeTz => instant(a).cmp(&instant(b)),
            Self::Interval => span(a).cmp(&span(b)),
            Self::Decimal => decimal(a).cmp(&decimal(b)),
        }
    }
}

/// Big-endian integers: the sign bit decides the other way round, everything else like bytes.
fn signed(a: &[u8], b: &[u8]) -> Ordering {
    let negative = |v: &[u8]| v.first().is_some_and(|byte| *byte >= 0x80);
    negative(b).cmp(&negative(a)).then_with(|| a.cmp(b))
}

/// An integer that is written in digits.
fn decimal(value: &[u8]) -> Option<i64> {
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_i64, |number, byte| {
        let digit = i64::from(char::from(*byte).to_digit(10)?);
        let number = number.checked_mul(10)?;
        // The least one has no positive counterpart.
        if negative { number.checked_sub(digit) } else { number.checked_add(digit) }
    })
}

/// Without the blanks at its end (`bcTruelen`).
fn trimmed(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    value.get(..end).unwrap_or_default()
}

fn float(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    }
}

/// A `timetz`: microseconds of the day in UTC, zone in seconds west of it.
fn instant(value: &[u8]) -> (i64, i32) {
    let time = value.first_chunk().map_or(0, |v| i64::from_be_bytes(*v));
    let zone = value.last_chunk().map_or(0, |v| i32::from_be_bytes(*v));
    (time.saturating_add(i64::from(zone) * 1_000_000), zone)
}

/// An `interval` in microseconds: microseconds, days, months.
fn span(value: &[u8]) -> i128 {
    let time = value.first_chunk().map_or(0, |v| i64::from_be_bytes(*v));
    let days = value.get(8..).and_then(<[u8]>::first_chunk).map_or(0, |v| i32::from_be_bytes(*v));
    let months = value.last_chunk().map_or(0, |v| i32::from_be_bytes(*v));
    i128::from(time) + (i128::from(months) * 30 + i128::from(days)) * DAY_MICROSECONDS
}

/// A `numeric` as it is sent: digits to the base of 10,000.
struct Decimal<'a> {
    kind: Kind,
    /// The power of 10,000 that the first digit stands for.
    weight: i16,
    /// Two bytes each, none of them 0 at either end.
    digits: &'a [u8],
}

/// In ascending order; NaN is the greatest (`cmp_numerics`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    MinusInfinity,
    Negative,
    Zero,
    Positive,
    Infinity,
    NaN,
}

impl<'a> Decimal<'a> {
    fn read(value: &'a [u8]) -> Option<Self> {
        let (head, mut digits) = value.split_first_chunk::<8>()?;
        let [n0, n1, w0, w1, s0, s1, ..] = *head;
        if digits.len() != usize::from(u16::from_be_bytes([n0, n1])) * 2 {
            return None;
        }
        let mut weight = i16::from_be_bytes([w0, w1]);
        while let Some(rest) = digits.strip_prefix(&[0, 0]) {
            (digits, weight) = (rest, weight.wrapping_sub(1));
        }
        while let Some(rest) = digits.strip_suffix(&[0, 0]) {
            digits = rest;
        }
        // NUMERIC_POS, NUMERIC_NEG, NUMERIC_NAN, NUMERIC_PINF, NUMERIC_NINF of `numeric.c`.
        let kind = match u16::from_be_bytes([s0, s1]) {
            0xC000 => Kind::NaN,
            0xD000 => Kind::Infinity,
            0xF000 => Kind::MinusInfinity,
            0x0000 | 0x4000 if digits.is_empty() => Kind::Zero,
            0x0000 => Kind::Positive,
            0x4000 => Kind::Negative,
            _ => return None,
        };
        Some(Self { kind, weight, digits })
    }

    fn compare(&self, other: &Self) -> Ordering {
        let size = || self.weight.cmp(&other.weight).then_with(|| self.digits.cmp(other.digits));
        self.kind.cmp(&other.kind).then_with(|| match self.kind {
            Kind::Positive => size(),
            Kind::Negative => size().reverse(),
            Kind::Zero | Kind::Infinity | Kind::MinusInfinity | Kind::NaN => Ordering::Equal,
        })
    }
}

/// One item of ORDER BY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// How its values are compared.
    pub order: Order,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST.
    pub nulls_first: bool,
}

impl Key {
    /// Compares two values; `None` is NULL.
    pub fn compare(&self, a: Option<&[u8]>, b: Option<&[u8]>) -> Ordering {
        match (a, b) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) if self.nulls_first => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) if self.nulls_first => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) if self.descending => self.order.compare(b, a),
            (Some(a), Some(b)) => self.order.compare(a, b),
        }
    }

    /// A number for a value: of two values that have another one, the less comes first. `None` where the order is
    /// not that of the first bytes.
    pub fn rank(&self, value: &[u8]) -> Option<u64> {
        if self.order == Order::Decimal {
            let rank = decimal(value)?.cast_unsigned() ^ (1 << 63);
            return Some(if self.descending { !rank } else { rank });
        }
        let mut first = [0; 8];
        for (place, byte) in first.iter_mut().zip(value) {
            *place = *byte;
        }
        let rank = u64::from_be_bytes(first);
        let rank = match self.order {
            Order::Signed(_) => rank ^ (1 << 63),
            Order::Fixed(_) | Order::Bytes => rank,
            Order::Padded
            | Order::Float4
            | Order::Float8
            | Order::Numeric
            | Order::TimeTz
            | Order::Interval
            | Order::Decimal => return None,
        };
        Some(if self.descending { !rank } else { rank })
    }
}

/// Where the sort keys are in rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyColumns {
    /// The column of each key, counted from 0.
    pub at: Vec<usize>,
    /// So many columns in front are not part of the answer.
    pub hidden: usize,
}

impl KeyColumns {
    /// So many columns in front are the keys, and are cut off.
    pub fn hidden(keys: usize) -> Self {
        Self { at: (0..keys).collect(), hidden: keys }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascending(order: Order, values: &[Vec<u8>]) {
        for (i, a) in values.iter().enumerate() {
            assert!(order.fits(a), "{order:?} {a:?}");
            for (j, b) in values.iter().enumerate() {
                assert_eq!(order.compare(a, b), i.cmp(&j), "{order:?} {a:?} {b:?}");
                for descending in [false, true] {
                    let key = Key { order, descending, nulls_first: false };
                    if let (Some(x), Some(y)) = (key.rank(a), key.rank(b))
                        && x != y
                    {
                        assert_eq!(
                            x.cmp(&y),
                            key.compare(Some(a), Some(b)),
                            "{order:?} {a:?} {b:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn integers_and_floats() {
        let ints = [i64::MIN, -256, -1, 0, 1, 255, 256, i64::MAX];
        ascending(Order::Signed(8), &ints.map(|n| n.to_be_bytes().to_vec()));
        let shorts = [i16::MIN, -1, 0, 1, 300];
        ascending(Order::Signed(2), &shorts.map(|n| n.to_be_bytes().to_vec()));
        let floats = [f64::NEG_INFINITY, -1.5, -0.5, 0.0, 1e-300, 2.0, f64::INFINITY, f64::NAN];
        ascending(Order::Float8, &floats.map(|n| n.to_be_bytes().to_vec()));
        let zero = |n: f64| n.to_be_bytes().to_vec();
        assert_eq!(Order::Float8.compare(&zero(-0.0), &zero(0.0)), Ordering::Equal);
        assert_eq!(Order::Float8.compare(&zero(f64::NAN), &zero(-f64::NAN)), Ordering::Equal);
        assert!(!Order::Signed(4).fits(b"abc"));
    }

    #[test]
    fn integers_in_digits() {
        let ints = [i64::MIN, -256, -99, -1, 0, 1, 9, 10, 255, i64::MAX];
        ascending(Order::Decimal, &ints.map(|n| n.to_string().into_bytes()));
        for nonsense in ["", "-", "1a", "9223372036854775808", " 1", "+1"] {
            assert!(!Order::Decimal.fits(nonsense.as_bytes()), "{nonsense}");
        }
    }

    fn numeric(sign: u16, weight: i16, digits: &[u16]) -> Vec<u8> {
        let mut out = (digits.len() as u16).to_be_bytes().to_vec();
        out.extend(weight.to_be_bytes());
        out.extend(sign.to_be_bytes());
        out.extend(2u16.to_be_bytes());
        for digit in digits {
            out.extend(digit.to_be_bytes());
        }
        out
    }

    #[test]
    fn numerics() {
        let values = [
            numeric(0xF000, 0, &[]),
            numeric(0x4000, 1, &[1, 0, 5]),
            numeric(0x4000, 0, &[10]),
            numeric(0x4000, 0, &[9, 9000]),
            numeric(0x4000, -2, &[1]),
            numeric(0, 0, &[]),
            numeric(0, -3, &[9999]),
            numeric(0, -1, &[5000]),
            numeric(0, 0, &[1]),
            numeric(0, 0, &[1, 1]),
            numeric(0, 5, &[1]),
            numeric(0xD000, 0, &[]),
            numeric(0xC000, 0, &[]),
        ];
        ascending(Order::Numeric, &values);
        // 1.0 and 1.00
        let same = (numeric(0, 0, &[1]), numeric(0, 0, &[1, 0, 0]));
        assert_eq!(Order::Numeric.compare(&same.0, &same.1), Ordering::Equal);
        let same = (numeric(0, 0, &[1]), numeric(0, 1, &[0, 1]));
        assert_eq!(Order::Numeric.compare(&same.0, &same.1), Ordering::Equal);
        let zeros = (numeric(0, 0, &[]), numeric(0x4000, 3, &[0]));
        assert_eq!(Order::Numeric.compare(&zeros.0, &zeros.1), Ordering::Equal);
        assert!(!Order::Numeric.fits(&[0, 1, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn times() {
        let timetz = |time: i64, zone: i32| [&time.to_be_bytes()[..], &zone.to_be_bytes()].concat();
        ascending(
            Order::TimeTz,
            &[timetz(3_600_000_000, -3600), timetz(0, 0), timetz(1, 0), timetz(0, 1)],
        );
        let interval = |time: i64, days: i32, months: i32| {
            [&time.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat()
        };
        ascending(
            Order::Interval,
            &[
                interval(i64::MIN, i32::MIN, i32::MIN),
                interval(0, -1, 0),
                interval(0, 0, 0),
                interval(1, 29, 0),
                interval(0, 0, 1),
                interval(i64::MAX, i32::MAX, i32::MAX),
            ],
        );
        let same = (interval(0, 30, 0), interval(0, 0, 1));
        assert_eq!(Order::Interval.compare(&same.0, &same.1), Ordering::Equal);
    }

    #[test]
    fn text_and_nulls() {
        let words = ["", "A", "Z", "a", "a ", "aa", "ä"];
        ascending(Order::Bytes, &words.map(|w| w.as_bytes().to_vec()));
        assert_eq!(Order::Padded.compare(b"a  ", b"a"), Ordering::Equal);
        assert_eq!(Order::of(oid::TEXT, false), None);
        let key = Key { order: Order::Bytes, descending: true, nulls_first: true };
        assert_eq!(key.compare(Some(b"a"), Some(b"b")), Ordering::Greater);
        assert_eq!(key.compare(None, Some(b"b")), Ordering::Less);
        let key = Key { nulls_first: false, ..key };
        assert_eq!(key.compare(None, Some(b"b")), Ordering::Greater);
        assert_eq!(key.compare(None, None), Ordering::Equal);
    }
}
