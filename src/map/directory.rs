//! Strategy `directory`: listed keys, and a function for those not listed.

use rustc_hash::FxHashMap;

use super::entries::Entries;
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

/// Directories of more keys are not looked through for the keys between two bounds: every shard that has a
/// key of the directory counts then, which is never too few.
const SCANNED_MAX: u64 = 4096;

/// A directory placement.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Listed keys, and the ids of their shards.
    pub entries: Entries,
    /// The others.
    pub otherwise: Otherwise,
    /// The shards by their ids. Every home of an entry is in it.
    pub(super) homes: FxHashMap<i16, ShardId>,
}

impl Directory {
    /// The shard of a key, listed or not.
    ///
    /// # Errors
    ///
    /// [`Why`] there is none.
    pub fn place_of(&self, key: &KeyValue<'_>) -> Result<ShardId, Why> {
        self.place(key)
    }

    /// The shard of a key.
    #[inline]
    pub(super) fn place(&self, key: &KeyValue<'_>) -> Result<ShardId, Why> {
        if let Some(home) = self.entries.find(key) {
            return self.homes.get(&home).copied().ok_or(Why::Unavailable);
        }
        match &self.otherwise {
            Otherwise::Hash(hash) => hash.place(key),
            Otherwise::Range(ranges) => ranges.place(key),
            Otherwise::Refuse => Err(Why::NotListed),
        }
    }

    /// Whether the key is listed.
    pub(super) fn lists(&self, key: &KeyValue<'_>) -> bool {
        self.entries.find(key).is_some()
    }

    /// Every shard that it can yield.
    pub(super) fn shards(&self) -> ShardSet {
        let mut shards = self.listed();
        match &self.otherwise {
            Otherwise::Hash(hash) => shards.union_with(&hash.shards()),
            Otherwise::Range(ranges) => shards.union_with(&ranges.shards()),
            Otherwise::Refuse => {}
        }
        shards
    }

    /// Every shard on which a key inside the bounds may live.
    pub(super) fn overlapping(&self, lower: &Bound<'_>, upper: &Bound<'_>) -> ShardSet {
        let mut shards = if self.entries.len() > SCANNED_MAX {
            self.listed()
        } else {
            self.listed_between(lower, upper)
        };
        match &self.otherwise {
            Otherwise::Hash(hash) => shards.union_with(&hash.shards()),
            Otherwise::Range(ranges) => shards.union_with(&ranges.overlapping(lower, upper)),
            Otherwise::Refuse => {}
        }
        shards
    }

    /// The shards of all listed keys.
    fn listed(&self) -> ShardSet {
        self.entries.homes().filter_map(|(home, _)| self.homes.get(&home).copied()).collect()
    }

    fn listed_between(&self, lower: &Bound<'_>, upper: &Bound<'_>) -> ShardSet {
        let inside = |key: &KeyValue<'_>| {
            lower
                .as_ref()
                .is_none_or(|(value, inclusive)| value < key || (*inclusive && value == key))
                && upper
                    .as_ref()
                    .is_none_or(|(value, inclusive)| key < value || (*inclusive && value == key))
        };
        let listed = self.entries.rows().filter(|(key, _)| inside(key));
        listed.filter_map(|(_, home)| self.homes.get(&home).copied()).collect()
    }
}
