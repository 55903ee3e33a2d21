//! Strategy `directory`: listed keys, and a function for those not listed.

use rustc_hash::FxHashMap;

use super::hash::Hash;
use super::place::Why;
use super::range::{Bound, Ranges};
use super::{ShardId, ShardSet};
use crate::datum::KeyValue;

/// Where keys that aren't listed live.
#[derive(Debug, Clone)]
pub enum Otherwise {
    /// By a hash.
    Hash(Hash),
    /// By ranges.
    Range(Ranges),
    /// Nowhere: 22023.
    Refuse,
}

/// A directory placement.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Listed keys.
    pub entries: FxHashMap<KeyValue<'static>, ShardId>,
    /// The others.
    pub otherwise: Otherwise,
}

impl Directory {
    /// The shard of a key.
    #[inline]
    pub(super) fn place(&self, key: &KeyValue<'_>) -> Result<ShardId, Why> {
        // A map of 'static keys can be looked up by shorter-lived ones.
        let entries: &FxHashMap<KeyValue<'_>, ShardId> = &self.entries;
        if let Some(shard) = entries.get(key) {
            return Ok(*shard);
        }
        match &self.otherwise {
            Otherwise::Hash(hash) => hash.place(key),
            Otherwise::Range(ranges) => ranges.place(key),
            Otherwise::Refuse => Err(Why::NotListed),
        }
    }

    /// Every shard that it can yield.
    pub(super) fn shards(&self) -> ShardSet {
        let mut shards = self.listed(|_| true);
        match &self.otherwise {
            Otherwise::Hash(hash) => shards.union_with(&hash.shards()),
            Otherwise::Range(ranges) => shards.union_with(&ranges.shards()),
            Otherwise::Refuse => {}
        }
        shards
    }

    /// Every shard on which a key inside the bounds may live.
    pub(super) fn overlapping(&self, lower: &Bound<'_>, upper: &Bound<'_>) -> ShardSet {
        let mut shards = self.listed(|key| {
            lower
                .as_ref()
                .is_none_or(|(value, inclusive)| value < key || (*inclusive && value == key))
                && upper
                    .as_ref()
                    .is_none_or(|(value, inclusive)| key < value || (*inclusive && value == key))
        });
        match &self.otherwise {
            Otherwise::Hash(hash) => shards.union_with(&hash.shards()),
            Otherwise::Range(ranges) => shards.union_with(&ranges.overlapping(lower, upper)),
            Otherwise::Refuse => {}
        }
        shards
    }

    fn listed(&self, wanted: impl Fn(&KeyValue<'_>) -> bool) -> ShardSet {
        self.entries.iter().filter(|(key, _)| wanted(key)).map(|(_, shard)| *shard).collect()
    }
}
