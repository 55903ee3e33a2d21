//! Strategy `geo`: the stored region is (the first part of) the key.
//!
//! A region matches by the exact text stored. A region of several shards needs a second part of the
//! key, which is hashed over the region's shards in the order listed.

use rustc_hash::FxHashMap;

use super::hash::Hash;
use super::place::Why;
use super::{ShardId, ShardSet};
use crate::datum::KeyValue;

/// Where a region's rows live.
#[derive(Debug, Clone)]
pub enum Region {
    /// On its only shard; a second part of the key, if there is one, doesn't matter.
    One(ShardId),
    /// On several, by the second part of the key.
    Within(Hash),
}

/// A geo placement.
#[derive(Debug, Clone)]
pub struct Geo {
    /// Regions by their stored text.
    pub regions: FxHashMap<String, Region>,
    /// Rows of regions not listed; `None` refuses them.
    pub default: Option<ShardId>,
}

impl Region {
    /// The shard of a row of this region.
    pub(super) fn place(&self, second: Option<&KeyValue<'_>>) -> Result<ShardId, Why> {
        match (self, second) {
            (Self::One(shard), _) => Ok(*shard),
            (Self::Within(hash), Some(value)) => hash.place(value),
            (Self::Within(_), None) => Err(Why::Incomplete),
        }
    }

    /// Every shard that it can yield.
    pub(super) fn shards(&self) -> ShardSet {
        match self {
            Self::One(shard) => ShardSet::of(*shard),
            Self::Within(hash) => hash.shards(),
        }
    }
}

impl Geo {
    /// What is said of a region.
    pub(super) fn region(&self, key: &KeyValue<'_>) -> Result<&Region, Why> {
        let KeyValue::Text(name) = key else { return Err(Why::WrongType) };
        self.regions.get(name.as_ref()).ok_or(Why::RegionNotListed)
    }

    /// The shard of a row.
    pub(super) fn place(
        &self,
        region: &KeyValue<'_>,
        second: Option<&KeyValue<'_>>,
    ) -> Result<ShardId, Why> {
        match (self.region(region), self.default) {
            (Ok(region), _) => region.place(second),
            (Err(Why::RegionNotListed), Some(default)) => Ok(default),
            (Err(why), _) => Err(why),
        }
    }

    /// Every shard that it can yield.
    pub(super) fn shards(&self) -> ShardSet {
        let mut shards: ShardSet = self.default.into_iter().collect();
        for region in self.regions.values() {
            shards.union_with(&region.shards());
        }
        shards
    }
}
