//! Which shard owns a key: the shard map's model, one file per strategy, parsing with spans, validation.
//!
//! Main types: [`ShardMap`] (only ever a valid one), [`ShardId`], [`ShardSet`], [`Placement`]. A row's
//! shard is a function of its stored key alone (contract, axiom of placement). It knows no socket and no
//! SQL; tables come to it as [`crate::catalog::Table`].

use smallvec::SmallVec;

/// A shard: its index in the map, dense from 0 (not the map file's `id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// A sharding key: its index in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u8);

/// A set of shards, as bits. It may be empty: then no row can match.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ShardSet {
    words: SmallVec<[u64; 2]>,
}
