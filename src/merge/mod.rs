//! Many row streams → one.
//!
//! [`concat::Concat`] passes the rows of several shards on as they come; [`ordered::Ordered`] merges rows that each
//! shard delivers in order. Memory is bounded by the number of shards, never by rows. Pure: bytes in, bytes or
//! ranges of them out; it knows no socket and no map.

pub mod concat;
pub mod ordered;
