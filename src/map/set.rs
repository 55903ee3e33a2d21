//! Sets of shards.

use smallvec::SmallVec;

use super::ShardId;

/// A set of shards, as bits. It may be empty: then no row can match.
///
/// Invariant: the last word isn't zero, so that equal sets are equal values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ShardSet {
    words: SmallVec<[u64; 2]>,
}

impl ShardSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The set of one shard.
    pub fn of(shard: ShardId) -> Self {
        let mut set = Self::new();
        set.insert(shard);
        set
    }

    /// Every shard of a map with `count` shards.
    pub fn all(count: usize) -> Self {
        (0..count).map(|i| ShardId(i as u16)).collect()
    }

    /// Adds a shard.
    pub fn insert(&mut self, shard: ShardId) {
        let word = usize::from(shard.0 / 64);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if let Some(bits) = self.words.get_mut(word) {
            *bits |= 1 << (shard.0 % 64);
        }
    }

    /// Whether the shard is in it.
    pub fn contains(&self, shard: ShardId) -> bool {
        let bits = self.words.get(usize::from(shard.0 / 64)).copied().unwrap_or_default();
        bits & (1 << (shard.0 % 64)) != 0
    }

    /// Adds the shards of another set.
    pub fn union_with(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine |= theirs;
        }
    }

    /// Keeps only the shards that are in another set too.
    pub fn intersect_with(&mut self, other: &Self) {
        self.words.truncate(other.words.len());
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine &= theirs;
        }
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }

    /// Whether every shard of this set is in the other.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.iter().all(|shard| other.contains(shard))
    }

    /// How many shards.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The shard, if there is exactly one.
    pub fn single(&self) -> Option<ShardId> {
        let mut shards = self.iter();
        let first = shards.next()?;
        shards.next().is_none().then_some(first)
    }

    /// The shards in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.words
            .iter()
            .zip(0u16..)
            .flat_map(|(&word, at)| Bits(word).map(move |bit| ShardId(at * 64 + bit)))
    }
}

impl FromIterator<ShardId> for ShardSet {
    fn from_iter<I: IntoIterator<Item = ShardId>>(shards: I) -> Self {
        let mut set = Self::new();
        for shard in shards {
            set.insert(shard);
        }
        set
    }
}

/// The numbers of the bits that are set.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as u16;
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u16]) -> ShardSet {
        ids.iter().map(|&i| ShardId(i)).collect()
    }

    #[test]
    fn sets_are_sets() {
        let ids = [0, 1, 63, 64, 127, 128, 1023];
        let all = set(&ids);
        assert_eq!(all.iter().map(|s| s.0).collect::<Vec<_>>(), ids);
        assert_eq!(all.len(), 7);
        assert!(all.contains(ShardId(1023)) && !all.contains(ShardId(1022)));
        assert!(!all.contains(ShardId(5000)));
        let mut cut = all.clone();
        cut.intersect_with(&set(&[63, 1022]));
        assert_eq!(cut, set(&[63]));
        assert_eq!(cut.single(), Some(ShardId(63)));
        cut.intersect_with(&set(&[900]));
        assert!(cut.is_empty());
        assert_eq!(cut, ShardSet::new());
        cut.union_with(&all);
        assert_eq!(cut, all);
        assert_eq!(all.single(), None);
        assert!(set(&[64]).is_subset(&all) && !set(&[65]).is_subset(&all));
        assert_eq!(ShardSet::all(65).len(), 65);
    }
}
