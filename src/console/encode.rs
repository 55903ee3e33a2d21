//! Result sets: columns and values in text and binary form (PostgreSQL: the types' output and send
//! functions).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::command::{Column, Type, Value};
use crate::datum::{Format, Oid, oid};
use crate::wire;
use crate::wire::backend::FieldDescription;

/// `timestamptz`.
const TIMESTAMPTZ: Oid = 1184;

/// 2000-01-01, where PostgreSQL's timestamps begin, after 1970.
const POSTGRES_EPOCH: Duration = Duration::from_secs(946_684_800);

/// The columns of an answer: names and types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape(Vec<(String, Type)>);

impl Shape {
    pub(super) fn of(columns: &[Column]) -> Self {
        Self(columns.iter().map(|column| (column.name.to_owned(), column.ty)).collect())
    }

    pub(super) fn one(name: &str, ty: Type) -> Self {
        Self(vec![(name.to_owned(), ty)])
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// `RowDescription`, or `NoData` without columns.
    pub(super) fn describe(&self, out: &mut Vec<u8>, format: impl Fn(usize) -> Format) {
        if self.0.is_empty() {
            return wire::backend::no_data(out);
        }
        let fields: Vec<FieldDescription<'_>> = self
            .0
            .iter()
            .enumerate()
            .map(|(at, (name, ty))| {
                let (type_oid, type_len) = type_of(*ty);
                FieldDescription { name, type_oid, type_len, type_mod: -1, format: format(at) }
            })
            .collect();
        wire::backend::row_description(out, &fields);
    }

    /// `DataRow`.
    pub(super) fn row(&self, out: &mut Vec<u8>, row: &[Value], format: impl Fn(usize) -> Format) {
        let columns = self.0.iter().zip(row).enumerate();
        let values: Vec<Option<Vec<u8>>> =
            columns.map(|(at, ((_, ty), value))| encode(*ty, value, format(at))).collect();
        let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
        wire::backend::data_row(out, &values);
    }
}

fn type_of(ty: Type) -> (Oid, i16) {
    match ty {
        Type::Int4 => (oid::INT4, 4),
        Type::Int8 => (oid::INT8, 8),
        Type::Text => (oid::TEXT, -1),
        Type::Bool => (oid::BOOL, 1),
        Type::Timestamptz => (TIMESTAMPTZ, 8),
    }
}

fn encode(ty: Type, value: &Value, format: Format) -> Option<Vec<u8>> {
    Some(match (value, format) {
        (Value::Null, _) => return None,
        (Value::Int(number), Format::Text) => number.to_string().into_bytes(),
        (Value::Int(number), Format::Binary) if ty == Type::Int4 => {
            i32::try_from(*number).unwrap_or(i32::MAX).to_be_bytes().to_vec()
        }
        (Value::Int(number), Format::Binary) => number.to_be_bytes().to_vec(),
        // A NUL can't be in a text, and would end the message's string early elsewhere.
        (Value::Text(text), _) => text.replace('\0', "").into_bytes(),
        (Value::Bool(value), Format::Text) => if *value { b"t" } else { b"f" }.to_vec(),
        (Value::Bool(value), Format::Binary) => vec![u8::from(*value)],
        (Value::Time(time), Format::Text) => timestamp(*time).into_bytes(),
        (Value::Time(time), Format::Binary) => {
            (micros(*time) - POSTGRES_EPOCH.as_micros() as i64).to_be_bytes().to_vec()
        }
    })
}

/// Microseconds since 1970, UTC.
fn micros(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    }
}

/// `DateStyle` ISO, `TimeZone` UTC: `2024-02-29 12:00:00.5+00`.
fn timestamp(time: SystemTime) -> String {
    const DAY: i64 = 86_400_000_000;
    let micros = micros(time);
    let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = format!("{fraction:06}");
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{point}{fraction}+00")
}

/// Year, month and day of a day since 1970-01-01, in the proleptic Gregorian calendar. Years are counted
/// from March, so that a leap day is a year's last.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_as_postgresql_writes_them() {
        let check = |micros: u64, expect: &str| {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_micros(micros)), expect);
        };
        check(0, "1970-01-01 00:00:00+00");
        check(946_684_800_000_000, "2000-01-01 00:00:00+00");
        check(1_709_208_000_500_000, "2024-02-29 12:00:00.5+00");
        check(1_735_689_599_999_999, "2024-12-31 23:59:59.999999+00");
        check(4_107_542_400_000_000, "2100-03-01 00:00:00+00");
    }

    #[test]
    fn binary_values() {
        let check = |ty, value: Value, expect: &[u8]| {
            assert_eq!(encode(ty, &value, Format::Binary).as_deref(), Some(expect));
        };
        check(Type::Int8, Value::Int(-2), &[255, 255, 255, 255, 255, 255, 255, 254]);
        check(Type::Int4, Value::Int(1), &[0, 0, 0, 1]);
        check(Type::Bool, Value::Bool(true), &[1]);
        check(Type::Timestamptz, Value::Time(UNIX_EPOCH + POSTGRES_EPOCH), &[0; 8]);
        assert_eq!(encode(Type::Text, &Value::Null, Format::Text), None);
    }
}
