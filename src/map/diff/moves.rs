//! Which values of a key change shard.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Pair;
use crate::datum::{KeyType, KeyValue};
use crate::map::directory::{Directory, Otherwise};
use crate::map::geo::{Geo, Region};
use crate::map::hash::Hash;
use crate::map::model::DatabaseHomes;
use crate::map::range::{RangeEntry, Ranges};
use crate::map::{Key, ShardId, Strategy};

/// Moves beyond so many are counted, not listed: a directory may have millions.
const LISTED_MAX: usize = 10_000;

/// Remainders that are looked at one by one; beyond that keys are tried out.
const REMAINDERS_MAX: u64 = 1 << 20;

/// So many keys are tried out where nothing can be computed: the share is then right to about one percent.
const SAMPLES: i64 = 1 << 15;

/// Values that change shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub what: What,
    /// Where they were; `None`: nowhere, they had no shard.
    pub from: Option<String>,
    /// Where they will be; `None`: nowhere.
    pub to: Option<String>,
}

/// Values of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Between these, both included; `None` is open.
    Range(Option<String>, Option<String>),
    /// Between these, the flags say included: keys that are no integers have no neighbours.
    Between {
        /// The lowest, and whether it is one of them.
        from: Option<(String, bool)>,
        /// The highest, and whether it is one of them.
        to: Option<(String, bool)>,
    },
    /// Of these hash slots, both included.
    Slots(u16, u16),
    /// This one.
    Entry(String),
    /// Of this region.
    Region(String),
    /// Of regions that are not listed.
    OtherRegions,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(Some(from), Some(to)) if from == to => write!(f, "{from}"),
            Self::Range(Some(from), Some(to)) => write!(f, "{from} to {to}"),
            Self::Range(Some(from), None) => write!(f, "from {from}"),
            Self::Range(None, Some(to)) => write!(f, "to {to}"),
            Self::Range(None, None) => f.write_str("every key"),
            Self::Between { from, to } => {
                let included = |bound: &(String, bool)| if bound.1 { "" } else { " (excluded)" };
                match from {
                    Some(bound) => write!(f, "from {}{}", bound.0, included(bound))?,
                    None => f.write_str("from the first")?,
                }
                match to {
                    Some(bound) => write!(f, " to {}{}", bound.0, included(bound)),
                    None => f.write_str(" to the last"),
                }
            }
            Self::Slots(from, to) if from == to => write!(f, "slot {from}"),
            Self::Slots(from, to) => write!(f, "slots {from}-{to}"),
            Self::Entry(key) => write!(f, "entry {key}"),
            Self::Region(region) => write!(f, "region {region}"),
            Self::OtherRegions => f.write_str("regions not listed"),
        }
    }
}

/// How much of what a hash places changes shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Share {
    /// Of all of it, between 0 and 1.
    pub moved: f64,
    /// It was computed, not tried out.
    pub exact: bool,
    /// From where to where, the greatest first.
    pub flows: Vec<(String, String, f64)>,
}

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) moves: Vec<Move>,
    pub(super) unlisted: usize,
    pub(super) share: Option<Share>,
    pub(super) unknown: bool,
}

impl Found {
    fn push(&mut self, what: What, from: Option<&str>, to: Option<&str>) {
        if from == to {
            return;
        }
        if self.moves.len() >= LISTED_MAX {
            self.unlisted += 1;
            return;
        }
        self.moves.push(Move { what, from: from.map(str::to_owned), to: to.map(str::to_owned) });
    }
}

/// A placement that lists some keys and computes the others.
struct Parts<'m> {
    directory: Option<&'m Directory>,
    rest: Rest<'m>,
}

enum Rest<'m> {
    Hash(&'m Hash),
    /// `None` where nothing is placed.
    Ranges(Option<&'m Ranges>),
}

impl<'m> Parts<'m> {
    fn of(strategy: &'m Strategy) -> Option<Self> {
        match strategy {
            Strategy::Hash(hash) => Some(Self { directory: None, rest: Rest::Hash(hash) }),
            Strategy::Range(ranges) => {
                Some(Self { directory: None, rest: Rest::Ranges(Some(ranges)) })
            }
            Strategy::Directory(directory) => Some(Self::of_directory(directory)),
            Strategy::Geo(_) | Strategy::Database(_) => None,
        }
    }

    fn of_homes(homes: &'m DatabaseHomes) -> Self {
        match homes {
            DatabaseHomes::Hash(hash) => Self { directory: None, rest: Rest::Hash(hash) },
            DatabaseHomes::Directory(directory) => Self::of_directory(directory),
        }
    }

    fn of_directory(directory: &'m Directory) -> Self {
        Self {
            directory: Some(directory),
            rest: match &directory.otherwise {
                Otherwise::Hash(hash) => Rest::Hash(hash),
                Otherwise::Range(ranges) => Rest::Ranges(Some(ranges)),
                Otherwise::Refuse => Rest::Ranges(None),
            },
        }
    }
}

/// Compares two placements of keys of the same types.
pub(super) fn compare(pair: &Pair<'_>, old: &Key, new: &Key) -> Found {
    let mut found = Found::default();
    match (&old.strategy, &new.strategy) {
        (Strategy::Geo(was), Strategy::Geo(becomes)) => {
            regions(pair, old, was, becomes, &mut found);
        }
        (Strategy::Database(was), Strategy::Database(becomes)) => {
            found.unknown = was.prefix != becomes.prefix;
            let (was, becomes) = (Parts::of_homes(&was.homes), Parts::of_homes(&becomes.homes));
            parts(pair, old, &was, &becomes, &mut found);
        }
        (was, becomes) => match (Parts::of(was), Parts::of(becomes)) {
            (Some(a), Some(b)) => parts(pair, old, &a, &b, &mut found),
            _ => found.unknown = true,
        },
    }
    if found.share.as_ref().is_some_and(|share| share.flows.is_empty()) {
        found.share = None;
    }
    found
}

fn parts<'m>(pair: &Pair<'_>, key: &Key, old: &Parts<'m>, new: &Parts<'m>, found: &mut Found) {
    entries(pair, old, new, found);
    match (&old.rest, &new.rest) {
        (Rest::Hash(was), Rest::Hash(becomes)) => {
            slots(pair, was, becomes, found);
            found.share = Some(share(pair, key.key_type(), was, becomes));
        }
        (Rest::Ranges(was), Rest::Ranges(becomes)) => {
            let entries = |own: Option<&'m Ranges>| own.map_or(&[][..], Ranges::entries);
            ranges(pair, entries(*was), entries(*becomes), found);
        }
        _ => found.unknown = true,
    }
}

/// Keys that one of the directories lists.
fn entries(pair: &Pair<'_>, old: &Parts<'_>, new: &Parts<'_>, found: &mut Found) {
    let listed: BTreeSet<KeyValue<'static>> = match (old.directory, new.directory) {
        // Of millions only what was recorded otherwise is looked at.
        (Some(was), Some(becomes)) if was.entries.is_like(&becomes.entries) && pair.same_ids() => {
            becomes.entries.moved_since(&was.entries).into_iter().map(|moved| moved.key).collect()
        }
        (was, becomes) => {
            let both = [was, becomes].into_iter().flatten();
            both.flat_map(|own| own.entries.rows().map(|(key, _)| key.into_owned())).collect()
        }
    };
    for key in listed {
        let from = place(old, &key).map(|shard| pair.old_name(shard));
        let to = place(new, &key).map(|shard| pair.new_name(shard));
        found.push(What::Entry(key.to_string()), from, to);
    }
}

fn place(parts: &Parts<'_>, key: &KeyValue<'static>) -> Option<ShardId> {
    if let Some(directory) = parts.directory {
        return directory.place(key).ok();
    }
    match &parts.rest {
        Rest::Hash(hash) => hash.place(key).ok(),
        Rest::Ranges(ranges) => ranges.and_then(|own| own.place(key).ok()),
    }
}

/// A place between keys: before this one, or behind it.
type Cut<'k> = Option<(Cow<'k, KeyValue<'static>>, bool)>;

/// Every stretch of keys that changes shard. Between two cuts a key has one shard on either side.
fn ranges(pair: &Pair<'_>, old: &[RangeEntry], new: &[RangeEntry], found: &mut Found) {
    let spans = |entries: &[RangeEntry]| -> Vec<(Cut<'static>, Cut<'static>, ShardId)> {
        entries.iter().map(|own| (start(own), end(own), own.shard)).collect()
    };
    let (was, becomes) = (spans(old), spans(new));
    let mut cuts: Vec<(Cow<'static, KeyValue<'static>>, bool)> = was
        .iter()
        .chain(&becomes)
        .flat_map(|(from, to, _)| [from.clone(), to.clone()])
        .flatten()
        .collect();
    cuts.sort();
    cuts.dedup();
    let mut edges: Vec<Cut<'static>> = vec![None];
    edges.extend(cuts.into_iter().map(Some));
    let mut stretches: Vec<(Cut<'static>, Cut<'static>, Option<&str>, Option<&str>)> = Vec::new();
    let (mut a, mut b) = (0, 0);
    for (at, from) in edges.iter().enumerate() {
        let to = edges.get(at + 1).cloned().unwrap_or_default();
        let old_shard = covering(&was, &mut a, from).map(|shard| pair.old_name(shard));
        let new_shard = covering(&becomes, &mut b, from).map(|shard| pair.new_name(shard));
        match stretches.last_mut() {
            Some(last) if (last.2, last.3) == (old_shard, new_shard) => last.1 = to,
            _ => stretches.push((from.clone(), to, old_shard, new_shard)),
        }
    }
    for (from, to, old_shard, new_shard) in stretches {
        found.push(stretch(&from, &to), old_shard, new_shard);
    }
}

/// The shard of the span that holds what follows a cut. Cuts come in order, so that spans that are left
/// behind need not be looked at again.
fn covering(
    spans: &[(Cut<'static>, Cut<'static>, ShardId)],
    next: &mut usize,
    from: &Cut<'static>,
) -> Option<ShardId> {
    while let Some((_, Some(end), _)) = spans.get(*next) {
        if from.as_ref().is_some_and(|from| end <= from) {
            *next += 1;
        } else {
            break;
        }
    }
    let (begin, _, shard) = spans.get(*next)?;
    // An open beginning is before every cut.
    (begin <= from).then_some(*shard)
}

/// Before the lowest key of a range.
fn start(entry: &RangeEntry) -> Cut<'static> {
    entry.from.clone().map(|key| (Cow::Owned(key), false))
}

/// Behind the highest key of a range: of integers, before the next one.
fn end(entry: &RangeEntry) -> Cut<'static> {
    match &entry.to {
        None | Some(KeyValue::Int(i64::MAX)) => None,
        Some(KeyValue::Int(key)) => Some((Cow::Owned(KeyValue::Int(key + 1)), false)),
        Some(key) => Some((Cow::Owned(key.clone()), true)),
    }
}

fn stretch(from: &Cut<'_>, to: &Cut<'_>) -> What {
    let integer = |cut: &Cut<'_>| match cut.as_ref().map(|(key, _)| key.as_ref()) {
        Some(KeyValue::Int(key)) => Some(*key),
        _ => None,
    };
    let whole = |cut: &Cut<'_>| cut.is_none() || integer(cut).is_some();
    if whole(from) && whole(to) {
        let last = integer(to).map(|key| (key - 1).to_string());
        return What::Range(integer(from).map(|key| key.to_string()), last);
    }
    What::Between {
        from: from.as_ref().map(|(key, behind)| (key.to_string(), !behind)),
        to: to.as_ref().map(|(key, behind)| (key.to_string(), *behind)),
    }
}

/// Runs of slots that change shard, where both sides have slots.
fn slots(pair: &Pair<'_>, old: &Hash, new: &Hash, found: &mut Found) {
    let (Hash::Slots(was), Hash::Slots(becomes)) = (old, new) else { return };
    let mut run: Option<(u16, u16, &str, &str)> = None;
    for (slot, (from, to)) in (0u16..).zip(was.iter().zip(becomes)) {
        let (from, to) = (pair.old_name(*from), pair.new_name(*to));
        match &mut run {
            Some((_, last, a, b)) if (*a, *b) == (from, to) => *last = slot,
            _ => {
                if let Some((first, last, a, b)) = run.replace((slot, slot, from, to)) {
                    found.push(What::Slots(first, last), Some(a), Some(b));
                }
            }
        }
    }
    if let Some((first, last, a, b)) = run {
        found.push(What::Slots(first, last), Some(a), Some(b));
    }
}

fn regions(pair: &Pair<'_>, key: &Key, old: &Geo, new: &Geo, found: &mut Found) {
    let names: BTreeSet<&String> = old.regions.keys().chain(new.regions.keys()).collect();
    let second = key.types.get(1).copied().unwrap_or(KeyType::BigInt);
    for name in names {
        let was = region(old, name);
        let becomes = region(new, name);
        match (was, becomes) {
            (None, None) => {}
            (Some(Home::One(from)), Some(Home::One(to))) => {
                let (from, to) = (pair.old_name(from), pair.new_name(to));
                found.push(What::Region(name.clone()), Some(from), Some(to));
            }
            (Some(Home::One(from)), None) => {
                found.push(What::Region(name.clone()), Some(pair.old_name(from)), None);
            }
            (None, Some(Home::One(to))) => {
                found.push(What::Region(name.clone()), None, Some(pair.new_name(to)));
            }
            (Some(was), Some(becomes)) => {
                let part = share(pair, second, &was.as_hash(), &becomes.as_hash());
                for (from, to, moved) in part.flows {
                    let what = What::Region(format!("{name}, {:.1} % of it", moved * 100.0));
                    found.push(what, Some(&from), Some(&to));
                }
            }
            (Some(Home::Within(_)), None) => {
                found.push(What::Region(name.clone()), Some("its shards"), None);
            }
            (None, Some(Home::Within(_))) => {
                found.push(What::Region(name.clone()), None, Some("its shards"));
            }
        }
    }
    let (from, to) = (old.default, new.default);
    let from = from.map(|shard| pair.old_name(shard));
    found.push(What::OtherRegions, from, to.map(|shard| pair.new_name(shard)));
}

/// Where a region's rows live.
enum Home<'m> {
    One(ShardId),
    Within(&'m Hash),
}

impl Home<'_> {
    fn as_hash(&self) -> Cow<'_, Hash> {
        match self {
            Self::One(shard) => Cow::Owned(Hash::Postgres(vec![*shard])),
            Self::Within(hash) => Cow::Borrowed(hash),
        }
    }
}

fn region<'m>(geo: &'m Geo, name: &str) -> Option<Home<'m>> {
    match geo.regions.get(name) {
        Some(Region::One(shard)) => Some(Home::One(*shard)),
        Some(Region::Within(hash)) => Some(Home::Within(hash)),
        None => geo.default.map(Home::One),
    }
}

/// What a hash divides: two that divide the same can be compared without trying.
#[derive(PartialEq, Eq)]
enum Space<'m> {
    Integer,
    Md5(&'m str),
    Partition,
}

/// The space, and the shards of the remainders that it is divided into.
fn remainders(hash: &Hash) -> Option<(Space<'_>, &[ShardId])> {
    match hash {
        Hash::Modulo(shards) => Some((Space::Integer, shards)),
        Hash::Md5 { prefix, shards } => Some((Space::Md5(prefix), shards)),
        Hash::Postgres(shards) => Some((Space::Partition, shards)),
        Hash::Slots(slots) => Some((Space::Partition, slots)),
        Hash::Consistent { .. } => None,
    }
}

fn share(pair: &Pair<'_>, ty: KeyType, old: &Hash, new: &Hash) -> Share {
    let mut flows: BTreeMap<(ShardId, ShardId), f64> = BTreeMap::new();
    let exact = divided(old, new, &mut flows) || rings(old, new, &mut flows);
    if !exact {
        flows.clear();
        let samples = (0..SAMPLES).map(|n| sample(ty, n));
        for key in samples {
            if let (Ok(from), Ok(to)) = (old.place(&key), new.place(&key)) {
                *flows.entry((from, to)).or_default() += 1.0 / SAMPLES as f64;
            }
        }
    }
    let mut share = Share { exact, ..Share::default() };
    for ((from, to), part) in flows {
        let (from, to) = (pair.old_name(from), pair.new_name(to));
        if from != to {
            share.moved += part;
            share.flows.push((from.to_owned(), to.to_owned(), part));
        }
    }
    share.flows.sort_by(|a, b| b.2.total_cmp(&a.2));
    share
}

/// Both divide the same space: their remainders repeat together.
fn divided(old: &Hash, new: &Hash, flows: &mut BTreeMap<(ShardId, ShardId), f64>) -> bool {
    let (Some((space, was)), Some((other, becomes))) = (remainders(old), remainders(new)) else {
        return false;
    };
    // One shard is one shard, whatever divides.
    let one = was.len() == 1 || becomes.len() == 1;
    if space != other && !one {
        return false;
    }
    let period = lcm(was.len() as u64, becomes.len() as u64);
    if period == 0 || period > REMAINDERS_MAX {
        return false;
    }
    for n in 0..period as usize {
        if let (Some(from), Some(to)) = (was.get(n % was.len()), becomes.get(n % becomes.len())) {
            *flows.entry((*from, *to)).or_default() += 1.0 / period as f64;
        }
    }
    true
}

fn lcm(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a.checked_div(x).unwrap_or(0).saturating_mul(b)
}

/// Two rings over the same digests: the arcs between their points.
fn rings(old: &Hash, new: &Hash, flows: &mut BTreeMap<(ShardId, ShardId), f64>) -> bool {
    let (Hash::Consistent { prefix: a, ring: was }, Hash::Consistent { prefix: b, ring: becomes }) =
        (old, new)
    else {
        return false;
    };
    if a != b || was.is_empty() || becomes.is_empty() {
        return false;
    }
    let mut points: Vec<u128> = was.iter().chain(becomes).map(|(point, _)| *point).collect();
    points.sort_unstable();
    points.dedup();
    let owner = |ring: &[(u128, ShardId)], point: u128| {
        let at = ring.partition_point(|(own, _)| *own < point);
        ring.get(at).or_else(|| ring.first()).map(|(_, shard)| *shard)
    };
    // The arc that ends at the first point begins behind the last one.
    let mut before = points.last().copied().unwrap_or_default();
    for point in points {
        let arc = point.wrapping_sub(before) as f64 / 2f64.powi(128);
        let arc = if point == before { 1.0 } else { arc };
        if let (Some(from), Some(to)) = (owner(was, point), owner(becomes, point)) {
            *flows.entry((from, to)).or_default() += arc;
        }
        before = point;
    }
    true
}

fn sample(ty: KeyType, n: i64) -> KeyValue<'static> {
    match ty {
        // Ids mostly count from 1.
        KeyType::BigInt | KeyType::Integer | KeyType::SmallInt => KeyValue::Int(n + 1),
        KeyType::Text | KeyType::Varchar => KeyValue::Text(Cow::Owned(n.to_string())),
        KeyType::Uuid => {
            use md5::{Digest as _, Md5};
            KeyValue::Uuid(Md5::digest(n.to_be_bytes()).into())
        }
    }
}
