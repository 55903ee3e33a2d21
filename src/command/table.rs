//! Answers with rows: typed columns, values.

use std::time::SystemTime;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `integer`.
    Int4,
    /// `bigint`.
    Int8,
    /// `text`.
    Text,
    /// `boolean`.
    Bool,
    /// `timestamp with time zone`.
    Timestamptz,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
}

impl Column {
    /// Of type `text`.
    pub const fn text(name: &'static str) -> Self {
        Self { name, ty: Type::Text }
    }

    /// Of type `bigint`.
    pub const fn int(name: &'static str) -> Self {
        Self { name, ty: Type::Int8 }
    }

    /// Of type `boolean`.
    pub const fn bool(name: &'static str) -> Self {
        Self { name, ty: Type::Bool }
    }

    /// Of type `timestamp with time zone`.
    pub const fn time(name: &'static str) -> Self {
        Self { name, ty: Type::Timestamptz }
    }
}

/// A value; it is of its column's type, or NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// `integer`, `bigint`.
    Int(i64),
    /// `text`.
    Text(String),
    /// `boolean`.
    Bool(bool),
    /// `timestamp with time zone`.
    Time(SystemTime),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<SystemTime> for Value {
    fn from(time: SystemTime) -> Self {
        Self::Time(time)
    }
}

/// Counts beyond `bigint` are its greatest.
impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Int(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Self::from(count as u64)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its columns.
    pub columns: &'static [Column],
    /// Its rows, each as long as the columns.
    pub rows: Vec<Vec<Value>>,
}
