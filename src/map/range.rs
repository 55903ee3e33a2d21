//! Strategy `range`: intervals of keys with both ends included.
//!
//! Text is ordered by its bytes, whatever the columns' collation says: a placement must not change with
//! a library on the server.

use super::place::Why;
use super::{ShardId, ShardSet};
use crate::datum::KeyValue;

/// One interval.
#[derive(Debug, Clone)]
pub struct RangeEntry {
    /// The lowest key, `None` when open.
    pub from: Option<KeyValue<'static>>,
    /// The highest key, `None` when open.
    pub to: Option<KeyValue<'static>>,
    /// Its shard.
    pub shard: ShardId,
}

/// Intervals that don't overlap, ascending.
#[derive(Debug, Clone)]
pub struct Ranges(Vec<RangeEntry>);

/// A bound of a range of keys: the value, and whether it is included.
pub type Bound<'a> = Option<(KeyValue<'a>, bool)>;

impl Ranges {
    /// No interval: no key has a shard.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// Sorts the intervals.
    ///
    /// # Errors
    ///
    /// The indexes (in the order given) of two intervals that overlap.
    pub fn new(entries: Vec<RangeEntry>) -> Result<Self, (usize, usize)> {
        let mut numbered: Vec<(usize, RangeEntry)> = entries.into_iter().enumerate().collect();
        // An open start (None) sorts before every key.
        numbered.sort_by(|(_, a), (_, b)| a.from.cmp(&b.from));
        for pair in numbered.windows(2) {
            let [(first, a), (second, b)] = pair else { continue };
            let apart = match (&a.to, &b.from) {
                (Some(to), Some(from)) => to < from,
                _ => false,
            };
            if !apart {
                return Err((*first.min(second), *first.max(second)));
            }
        }
        Ok(Self(numbered.into_iter().map(|(_, entry)| entry).collect()))
    }

    /// The intervals, ascending.
    pub fn entries(&self) -> &[RangeEntry] {
        &self.0
    }

    /// The interval that holds a key.
    pub fn entry(&self, key: &KeyValue<'_>) -> Option<&RangeEntry> {
        let after = self.0.partition_point(|e| e.from.as_ref().is_none_or(|from| from <= key));
        let entry = self.0.get(after.checked_sub(1)?)?;
        entry.to.as_ref().is_none_or(|to| key <= to).then_some(entry)
    }

    /// The shard of a key.
    #[inline]
    pub(super) fn place(&self, key: &KeyValue<'_>) -> Result<ShardId, Why> {
        self.entry(key).map(|entry| entry.shard).ok_or(Why::NoRange)
    }

    /// Every shard that it can yield.
    pub(super) fn shards(&self) -> ShardSet {
        self.0.iter().map(|entry| entry.shard).collect()
    }

    /// The shards of intervals that overlap the bounds.
    pub(super) fn overlapping(&self, lower: &Bound<'_>, upper: &Bound<'_>) -> ShardSet {
        self.0
            .iter()
            .filter(|e| {
                let above = match (lower, &e.to) {
                    (Some((value, inclusive)), Some(to)) => {
                        value < to || (*inclusive && value == to)
                    }
                    _ => true,
                };
                let below = match (upper, &e.from) {
                    (Some((value, inclusive)), Some(from)) => {
                        from < value || (*inclusive && from == value)
                    }
                    _ => true,
                };
                above && below
            })
            .map(|entry| entry.shard)
            .collect()
    }
}
