//! Values of PostgreSQL types outside PostgreSQL: OIDs, text and binary forms, order, PostgreSQL's hash
//! functions.
//!
//! Main types: [`KeyType`], [`KeyValue`] (a non-null value of a sharding key), [`Param`] (a bound
//! parameter as it came from the wire), [`Decoded`] and [`DecodedArray`] (what a literal or parameter turned
//! out to be).
//!
//! Invariant: whatever this room computes equals what PostgreSQL computes, or it says that it does not know.
//! It knows no SQL, no map and no socket.

pub mod array;
pub mod hash;
pub mod key;
pub mod moment;
pub mod oid;
pub mod order;

pub use array::DecodedArray;
pub use key::Decoded;

use std::borrow::Cow;

/// A PostgreSQL object identifier.
pub type Oid = u32;

/// The type of a sharding key (contract: `bigint | integer | smallint | text | varchar | uuid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `bigint`, int8.
    BigInt,
    /// `integer`, int4.
    Integer,
    /// `smallint`, int2.
    SmallInt,
    /// `text`.
    Text,
    /// `varchar`, with or without a length.
    Varchar,
    /// `uuid`.
    Uuid,
}

/// A non-null value of a sharding key. All integer types share one form, as they share one hash
/// family and compare with each other in PostgreSQL (`integer_ops`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyValue<'a> {
    /// smallint, integer, bigint.
    Int(i64),
    /// text, varchar.
    Text(Cow<'a, str>),
    /// uuid, in network order.
    Uuid([u8; 16]),
}

impl KeyValue<'_> {
    /// The same value, owning its text.
    pub fn into_owned(self) -> KeyValue<'static> {
        match self {
            KeyValue::Int(i) => KeyValue::Int(i),
            KeyValue::Text(t) => KeyValue::Text(Cow::Owned(t.into_owned())),
            KeyValue::Uuid(u) => KeyValue::Uuid(u),
        }
    }
}

/// The wire format of a value (PostgreSQL manual, "Formats and Format Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Format code 0.
    Text,
    /// Format code 1.
    Binary,
}

/// A bound parameter as it came from the wire.
#[derive(Clone, Copy, Debug)]
pub struct Param<'a> {
    /// The type declared in Parse; 0 when the server was left to infer it.
    pub oid: Oid,
    /// How `value` is written.
    pub format: Format,
    /// `None` is NULL.
    pub value: Option<&'a [u8]>,
}
