//! Strategy `hash`: the shard is a hash of the key's canonical text or of the value itself.
//!
//! What each algorithm computes is frozen (contract, "Golden rules of placement"): a change here would
//! leave people's rows where nobody looks for them.

use std::io::Write as _;

use md5::{Digest as _, Md5};

use super::place::Why;
use super::{ShardId, ShardSet};
use crate::datum::{KeyValue, hash::partition_hash_one};

/// How many slots `slots` has.
pub const SLOTS: u16 = 16384;

/// `virtual_nodes` when the map doesn't say.
pub const VIRTUAL_NODES_DEFAULT: u32 = 150;

/// More points per shard even nothing out, and a ring of 1,024 shards has to be sorted in memory.
pub const VIRTUAL_NODES_MAX: u32 = 10_000;

/// A hash placement, with what can be computed beforehand.
#[derive(Debug, Clone)]
pub enum Hash {
    /// The Euclidean remainder of the integer key by the number of shards.
    Modulo(Vec<ShardId>),
    /// The first four bytes of MD5 over prefix and key text, big-endian, modulo the number of shards.
    Md5 {
        /// Text put before the key.
        prefix: String,
        /// The shards in order.
        shards: Vec<ShardId>,
    },
    /// The first point of an MD5 ring at or after the key's, wrapping.
    Consistent {
        /// Text put before the key.
        prefix: String,
        /// The ring's points, ascending.
        ring: Vec<(u128, ShardId)>,
    },
    /// The partition of `PARTITION BY HASH` with that modulus.
    Postgres(Vec<ShardId>),
    /// PostgreSQL's partition hash modulo [`SLOTS`], then a table of slots.
    Slots(Box<[ShardId]>),
}

impl Hash {
    /// A consistent ring over shards and their ring names.
    pub fn consistent<'n>(
        prefix: String,
        virtual_nodes: u32,
        shards: impl Iterator<Item = (ShardId, &'n str)>,
    ) -> Self {
        let mut ring: Vec<(u128, ShardId)> = shards
            .flat_map(|(shard, ring_name)| {
                (0..virtual_nodes).map(move |i| {
                    let digest = Md5::digest(format!("{ring_name}:{i}"));
                    (u128::from_be_bytes(digest.into()), shard)
                })
            })
            .collect();
        ring.sort_unstable();
        Self::Consistent { prefix, ring }
    }

    /// The algorithm's name in the map.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Modulo(_) => "modulo",
            Self::Md5 { .. } => "md5",
            Self::Consistent { .. } => "consistent",
            Self::Postgres(_) => "postgres",
            Self::Slots(_) => "slots",
        }
    }

    /// The shard of a key.
    #[inline]
    pub(super) fn place(&self, key: &KeyValue<'_>) -> Result<ShardId, Why> {
        match self {
            Self::Modulo(shards) => {
                let KeyValue::Int(value) = key else { return Err(Why::WrongType) };
                let index = i128::from(*value).rem_euclid((shards.len() as i128).max(1));
                nth(shards, index as u64)
            }
            Self::Md5 { prefix, shards } => {
                let [a, b, c, d, ..] = digest(prefix, key);
                let hash = u32::from_be_bytes([a, b, c, d]);
                nth(shards, u64::from(hash) % (shards.len() as u64).max(1))
            }
            Self::Consistent { prefix, ring } => {
                let hash = u128::from_be_bytes(digest(prefix, key));
                let at = ring.partition_point(|(point, _)| *point < hash);
                let point = ring.get(at).or_else(|| ring.first());
                point.map(|(_, shard)| *shard).ok_or(Why::Unavailable)
            }
            Self::Postgres(shards) => {
                nth(shards, partition_hash_one(key) % (shards.len() as u64).max(1))
            }
            Self::Slots(slots) => nth(slots, slot(key).into()),
        }
    }

    /// Every shard that it can yield.
    pub(super) fn shards(&self) -> ShardSet {
        match self {
            Self::Modulo(shards) | Self::Postgres(shards) | Self::Md5 { shards, .. } => {
                shards.iter().copied().collect()
            }
            Self::Consistent { ring, .. } => ring.iter().map(|(_, shard)| *shard).collect(),
            Self::Slots(slots) => slots.iter().copied().collect(),
        }
    }
}

/// The slot of a key.
pub fn slot(key: &KeyValue<'_>) -> u16 {
    (partition_hash_one(key) % u64::from(SLOTS)) as u16
}

fn nth(shards: &[ShardId], index: u64) -> Result<ShardId, Why> {
    usize::try_from(index).ok().and_then(|i| shards.get(i)).copied().ok_or(Why::Unavailable)
}

/// MD5 over prefix and canonical text, without an allocation.
fn digest(prefix: &str, key: &KeyValue<'_>) -> [u8; 16] {
    let mut md5 = Md5::new();
    md5.update(prefix);
    match key {
        KeyValue::Text(text) => md5.update(text.as_bytes()),
        KeyValue::Int(_) | KeyValue::Uuid(_) => {
            // The longest: 36 characters of a uuid.
            let mut text = [0u8; 40];
            let mut free = &mut text[..];
            let written = write!(free, "{key}").map_or(0, |()| 40 - free.len());
            md5.update(text.get(..written).unwrap_or_default());
        }
    }
    md5.finalize().into()
}
