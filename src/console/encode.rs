//! Result sets: columns and values in text and binary form (PostgreSQL: the types' output and send
//! functions).

use std::time::Duration;

use crate::command::{Column, Type, Value};
use crate::datum::{Format, Oid, moment, oid};
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
        (Value::Time(time), Format::Text) => moment::text(*time).into_bytes(),
        (Value::Time(time), Format::Binary) => {
            (moment::micros(*time) - POSTGRES_EPOCH.as_micros() as i64).to_be_bytes().to_vec()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_values() {
        let check = |ty, value: Value, expect: &[u8]| {
            assert_eq!(encode(ty, &value, Format::Binary).as_deref(), Some(expect));
        };
        check(Type::Int8, Value::Int(-2), &[255, 255, 255, 255, 255, 255, 255, 254]);
        check(Type::Int4, Value::Int(1), &[0, 0, 0, 1]);
        check(Type::Bool, Value::Bool(true), &[1]);
        check(Type::Timestamptz, Value::Time(std::time::UNIX_EPOCH + POSTGRES_EPOCH), &[0; 8]);
        assert_eq!(encode(Type::Text, &Value::Null, Format::Text), None);
    }
}
