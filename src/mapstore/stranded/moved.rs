//! Which keys may have another shard in a new map: what two maps say by themselves, before a shard is asked.
//!
//! Rather too many than too few: each key that a shard then names is placed by both maps.

use crate::datum::KeyValue;
use crate::map::directory::{Directory, Otherwise};
use crate::map::geo::{Geo, Region};
use crate::map::hash::Hash;
use crate::map::range::{RangeEntry, Ranges};
use crate::map::{Key, KeyId, ShardId, ShardMap, Strategy};

/// Keys asked for in one statement.
const KEYS_AT_ONCE: usize = 5_000;

/// Which of a shard's rows to look at.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Which {
    All,
    Keys(Vec<String>),
    Between(Option<String>, Option<String>),
}

/// For each key of the old map that the new one has too: which of its keys may have another shard.
pub(super) struct Deltas(Vec<Option<Delta>>);

/// A key in the new map, and which of its values may have another shard, by the old one.
pub(super) type Delta = (KeyId, Vec<(ShardId, Which)>);

impl Deltas {
    pub(super) fn of(old: &ShardMap, new: &ShardMap) -> Self {
        let delta = |key: &Key| {
            let at = new.key_named(&key.name)?;
            let other = new.key(at).filter(|other| other.types == key.types)?;
            Some((at, moved(old, key, new, other)))
        };
        Self(old.keys().iter().map(delta).collect())
    }

    pub(super) fn key(&self, key: KeyId) -> Option<&Delta> {
        self.0.get(usize::from(key.0))?.as_ref()
    }
}

fn everywhere_of(key: &Key) -> Vec<(ShardId, Which)> {
    key.shards.iter().map(|shard| (shard, Which::All)).collect()
}

/// Which keys may have another shard, by their old one. Rather too many: each is placed by both maps.
fn moved(old: &ShardMap, key: &Key, new: &ShardMap, other: &Key) -> Vec<(ShardId, Which)> {
    match (&key.strategy, &other.strategy) {
        (Strategy::Hash(a), Strategy::Hash(b)) if same_hash(old, a, new, b) => Vec::new(),
        (Strategy::Range(a), Strategy::Range(b)) => moved_ranges(old, a, new, b),
        (Strategy::Directory(a), Strategy::Directory(b)) => {
            moved_entries(old, a, new, b).unwrap_or_else(|| everywhere_of(key))
        }
        (Strategy::Geo(a), Strategy::Geo(b)) if same_geo(old, a, new, b) => Vec::new(),
        (Strategy::Database(_), _) => Vec::new(),
        _ => everywhere_of(key),
    }
}

fn same_hash(old: &ShardMap, a: &Hash, new: &ShardMap, b: &Hash) -> bool {
    let same_shards = |a: &[ShardId], b: &[ShardId]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| id_of(old, *a) == id_of(new, *b))
    };
    match (a, b) {
        (Hash::Modulo(a), Hash::Modulo(b)) | (Hash::Postgres(a), Hash::Postgres(b)) => {
            same_shards(a, b)
        }
        (Hash::Md5 { prefix: p, shards: a }, Hash::Md5 { prefix: q, shards: b }) => {
            p == q && same_shards(a, b)
        }
        (Hash::Slots(a), Hash::Slots(b)) => same_shards(a, b),
        (Hash::Consistent { prefix: p, ring: a }, Hash::Consistent { prefix: q, ring: b }) => {
            p == q
                && a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((x, a), (y, b))| x == y && id_of(old, *a) == id_of(new, *b))
        }
        _ => false,
    }
}

fn same_geo(old: &ShardMap, a: &Geo, new: &ShardMap, b: &Geo) -> bool {
    let same = |a: &Region, b: &Region| match (a, b) {
        (Region::One(a), Region::One(b)) => id_of(old, *a) == id_of(new, *b),
        (Region::Within(a), Region::Within(b)) => same_hash(old, a, new, b),
        _ => false,
    };
    a.default.and_then(|shard| id_of(old, shard)) == b.default.and_then(|shard| id_of(new, shard))
        && a.regions.len() == b.regions.len()
        && a.regions.iter().all(|(name, a)| b.regions.get(name).is_some_and(|b| same(a, b)))
}

/// `None` when it can't be narrowed down.
fn moved_entries(
    old: &ShardMap,
    a: &Directory,
    new: &ShardMap,
    b: &Directory,
) -> Option<Vec<(ShardId, Which)>> {
    let mut moved = match (&a.otherwise, &b.otherwise) {
        (Otherwise::Refuse, _) => Vec::new(),
        (Otherwise::Range(a), Otherwise::Range(b)) => moved_ranges(old, a, new, b),
        (Otherwise::Hash(a), Otherwise::Hash(b)) if same_hash(old, a, new, b) => Vec::new(),
        _ => return None,
    };
    let mut by_shard: Vec<Vec<String>> = vec![Vec::new(); old.shards().len()];
    for entry in b.entries.moved_since(&a.entries) {
        let Ok(from) = a.place_of(&entry.key) else { continue };
        if let Some(keys) = by_shard.get_mut(usize::from(from.0)) {
            keys.push(entry.key.to_string());
        }
    }
    // A directory's rows stay where they are when their shard's place in the map is another one; shards
    // that are gone have theirs, by their ids.
    let gone = |id: i16| !new.shards().iter().any(|shard| shard.id == id);
    for (home, _) in a.entries.homes().filter(|(home, _)| gone(*home)) {
        let at = old.shards().iter().position(|shard| shard.id == home);
        if let Some(at) = at.and_then(|at| u16::try_from(at).ok()) {
            moved.push((ShardId(at), Which::All));
        }
    }
    for (at, keys) in (0..).zip(by_shard) {
        moved.extend(
            keys.chunks(KEYS_AT_ONCE).map(|keys| (ShardId(at), Which::Keys(keys.to_vec()))),
        );
    }
    Some(moved)
}

fn moved_ranges(old: &ShardMap, a: &Ranges, new: &ShardMap, b: &Ranges) -> Vec<(ShardId, Which)> {
    let mut moved = Vec::new();
    for entry in a.entries() {
        let id = id_of(old, entry.shard);
        let stay: Vec<&RangeEntry> =
            b.entries().iter().filter(|other| id_of(new, other.shard) == id).collect();
        let whole = stay.iter().any(|other| other.from == entry.from && other.to == entry.to);
        if whole {
            continue;
        }
        let pieces = integers_left(entry, &stay).unwrap_or_else(|| {
            let text = |end: &Option<KeyValue<'_>>| end.as_ref().map(ToString::to_string);
            vec![(text(&entry.from), text(&entry.to))]
        });
        moved.extend(pieces.into_iter().map(|(from, to)| (entry.shard, Which::Between(from, to))));
    }
    moved
}

type Piece = (Option<String>, Option<String>);

/// What is left of a range of integers without others, which don't overlap and ascend.
fn integers_left(range: &RangeEntry, others: &[&RangeEntry]) -> Option<Vec<Piece>> {
    let end = |end: &Option<KeyValue<'_>>, open: i64| match end {
        None => Some(open),
        Some(KeyValue::Int(value)) => Some(*value),
        Some(_) => None,
    };
    let (mut from, to) =
        (i128::from(end(&range.from, i64::MIN)?), i128::from(end(&range.to, i64::MAX)?));
    let mut left = Vec::new();
    let mut put = |from: i128, to: i128| {
        if from <= to {
            left.push((Some(from.to_string()), Some(to.to_string())));
        }
    };
    for other in others {
        let start = i128::from(end(&other.from, i64::MIN)?);
        let stop = i128::from(end(&other.to, i64::MAX)?);
        if stop < from || start > to {
            continue;
        }
        put(from, start - 1);
        from = stop + 1;
    }
    put(from, to);
    Some(left)
}

pub(super) fn id_of(map: &ShardMap, shard: ShardId) -> Option<i16> {
    map.shard(shard).map(|shard| shard.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_range() {
        let range = |from: Option<i64>, to: Option<i64>| RangeEntry {
            from: from.map(KeyValue::Int),
            to: to.map(KeyValue::Int),
            shard: ShardId(0),
        };
        let check = |whole: RangeEntry, others: &[RangeEntry], expect: &str| {
            let others: Vec<&RangeEntry> = others.iter().collect();
            let left = integers_left(&whole, &others).unwrap();
            let left: Vec<String> = left
                .into_iter()
                .map(|(from, to)| format!("{}-{}", from.unwrap(), to.unwrap()))
                .collect();
            assert_eq!(left.join(" "), expect);
        };
        let one = || range(Some(1), Some(100));
        check(one(), &[], "1-100");
        check(one(), &[range(Some(1), Some(50))], "51-100");
        check(one(), &[range(Some(-5), Some(10)), range(Some(20), Some(30))], "11-19 31-100");
        check(one(), &[range(Some(50), None)], "1-49");
        check(one(), &[range(None, None)], "");
        check(one(), &[range(Some(101), None)], "1-100");
        check(range(Some(1), None), &[range(None, Some(9))], &format!("10-{}", i64::MAX));
    }
}
