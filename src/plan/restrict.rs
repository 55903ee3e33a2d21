//! What a statement says of a sharding key, and which shards that leaves.
//!
//! Main types: [`Restrict`], compiled once per shape: a condition that every row which can influence the
//! answer meets; [`Region`], its value for one execution: a union of boxes, each with a [`Domain`] per
//! part of the key. Invariant: every operation may only err towards more keys. What can't be told is
//! [`Domain::Any`]; text is never compared for order, for that is the server's collation's affair.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::constant::Constants;
use super::splice::value_sql;
use super::workspace::widest;
use crate::datum::array::DecodedArray;
use crate::datum::{Decoded, KeyType, KeyValue};
use crate::error::SqlError;
use crate::map::{KeyId, NoShard, Part, ShardMap, ShardSet};
use crate::sql::ir::Scalar;
use crate::sql::quote::quote_identifier;

/// A union of more boxes than this is not intersected further: one operand is kept, which is a superset.
/// Statements with more alternatives than this on several columns at once are not written by hand.
const BOXES_MAX: usize = 1024;

/// A condition on the parts of one sharding key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Restrict {
    /// No condition.
    Any,
    /// The part equals a constant.
    Eq(u8, Scalar),
    /// The part equals one of these.
    In(u8, Vec<Scalar>),
    /// The part equals an element of an array.
    EqAny(u8, Scalar),
    /// The part lies between bounds; the flags say inclusive.
    Range(u8, Option<(Scalar, bool)>, Option<(Scalar, bool)>),
    /// All of these.
    And(Vec<Restrict>),
    /// One of these.
    Or(Vec<Restrict>),
}

impl Restrict {
    /// All of these, simplified.
    pub(super) fn and(all: impl IntoIterator<Item = Self>) -> Self {
        let mut kept: Vec<Self> = Vec::new();
        for one in all {
            match one {
                Self::Any => {}
                Self::And(inner) => kept.extend(inner),
                other if kept.contains(&other) => {}
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Self::Any,
            1 => kept.pop().unwrap_or(Self::Any),
            _ => Self::And(kept),
        }
    }

    /// One of these, simplified. Nothing to choose from is no condition.
    pub(super) fn or(all: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for one in all {
            match one {
                Self::Any => return Self::Any,
                Self::Or(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Self::Any,
            1 => kept.pop().unwrap_or(Self::Any),
            _ => Self::Or(kept),
        }
    }

    /// The same condition on another part (conditions on one part only).
    #[must_use]
    pub(super) fn on_part(self, part: u8) -> Self {
        match self {
            Self::Any => Self::Any,
            Self::Eq(_, s) => Self::Eq(part, s),
            Self::In(_, s) => Self::In(part, s),
            Self::EqAny(_, s) => Self::EqAny(part, s),
            Self::Range(_, low, high) => Self::Range(part, low, high),
            Self::And(all) => Self::And(all.into_iter().map(|r| r.on_part(part)).collect()),
            Self::Or(all) => Self::Or(all.into_iter().map(|r| r.on_part(part)).collect()),
        }
    }

    /// The keys that meet the condition, or more.
    ///
    /// # Errors
    ///
    /// Those of [`Constants::key`].
    pub(super) fn region<'a>(
        &self,
        types: &[KeyType],
        constants: &Constants<'a>,
    ) -> Result<Region<'a>, SqlError> {
        match self {
            Self::Any => Ok(Region::everything(types.len())),
            Self::Eq(part, scalar) => {
                let mut found = SmallVec::new();
                match constants.key(type_of(types, *part), scalar)? {
                    Decoded::Key(key) => found.push(key),
                    Decoded::Null | Decoded::NoMatch => {}
                    Decoded::Unknown => return Ok(Region::everything(types.len())),
                }
                Ok(Region::of_part(types.len(), *part, Domain::Values(found)))
            }
            Self::In(part, scalars) => {
                if !constants.alike(type_of(types, *part), scalars) {
                    return Ok(Region::everything(types.len()));
                }
                let mut found = SmallVec::new();
                for scalar in scalars {
                    match constants.key(type_of(types, *part), scalar)? {
                        Decoded::Key(key) => found.push(key),
                        Decoded::Null | Decoded::NoMatch => {}
                        Decoded::Unknown => return Ok(Region::everything(types.len())),
                    }
                }
                Ok(Region::of_part(types.len(), *part, Domain::values(found)))
            }
            Self::EqAny(part, scalar) => match constants.array(type_of(types, *part), scalar)? {
                DecodedArray::Keys(keys) => {
                    let found = keys.into_iter().flatten().collect();
                    Ok(Region::of_part(types.len(), *part, Domain::values(found)))
                }
                DecodedArray::Null => Ok(Region::nothing()),
                DecodedArray::Unknown => Ok(Region::everything(types.len())),
            },
            Self::Range(part, low, high) => {
                range(types, *part, low.as_ref(), high.as_ref(), constants)
            }
            Self::And(all) => {
                let mut region = Region::everything(types.len());
                for one in all {
                    region = region.intersect(one.region(types, constants)?);
                }
                Ok(region)
            }
            Self::Or(all) => {
                let mut regions = Vec::with_capacity(all.len());
                for one in all {
                    regions.push(one.region(types, constants)?);
                }
                Ok(Region::united(regions))
            }
        }
    }
}

fn type_of(types: &[KeyType], part: u8) -> KeyType {
    types.get(usize::from(part)).copied().unwrap_or(KeyType::Text)
}

fn range<'a>(
    types: &[KeyType],
    part: u8,
    low: Option<&(Scalar, bool)>,
    high: Option<&(Scalar, bool)>,
    constants: &Constants<'a>,
) -> Result<Region<'a>, SqlError> {
    let ty = type_of(types, part);
    let mut bounds = [None, None];
    for (bound, written) in bounds.iter_mut().zip([low, high]) {
        let Some((scalar, inclusive)) = written else { continue };
        match constants.key(ty, scalar)? {
            // A comparison with NULL is never true.
            Decoded::Null => return Ok(Region::nothing()),
            Decoded::Key(KeyValue::Text(_)) | Decoded::NoMatch | Decoded::Unknown => {}
            Decoded::Key(key) => *bound = Some((key, *inclusive)),
        }
    }
    let [lower, upper] = bounds;
    Ok(Region::of_part(types.len(), part, Domain::range(lower, upper)))
}

/// So many values of a key are told to people.
pub(super) const VALUES_TOLD_MAX: usize = 12;

/// An end of a range; the flag says inclusive.
type Bound<'a> = Option<(KeyValue<'a>, bool)>;

/// What is known of one part of a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Domain<'a> {
    /// Nothing.
    Any,
    /// It is one of these: sorted, each once.
    Values(SmallVec<[KeyValue<'a>; 1]>),
    /// It lies between these. Never texts.
    Range(Bound<'a>, Bound<'a>),
}

impl<'a> Domain<'a> {
    fn values(mut found: SmallVec<[KeyValue<'a>; 1]>) -> Self {
        found.sort_unstable();
        found.dedup();
        Self::Values(found)
    }

    fn range(lower: Bound<'a>, upper: Bound<'a>) -> Self {
        match (&lower, &upper) {
            (None, None) => Self::Any,
            (Some((low, low_in)), Some((high, high_in)))
                if low > high || (low == high && !(*low_in && *high_in)) =>
            {
                Self::Values(SmallVec::new())
            }
            _ => Self::Range(lower, upper),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Values(values) if values.is_empty())
    }

    fn holds(&self, value: &KeyValue<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Values(values) => values.iter().any(|own| same(own, value)),
            Self::Range(lower, upper) => within(value, lower, upper),
        }
    }

    fn intersect(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Any, one) | (one, Self::Any) => one.clone(),
            (Self::Values(mine), Self::Values(theirs)) => Self::Values(
                mine.iter().filter(|v| theirs.binary_search(v).is_ok()).cloned().collect(),
            ),
            (Self::Values(values), Self::Range(lower, upper))
            | (Self::Range(lower, upper), Self::Values(values)) => {
                Self::Values(values.iter().filter(|v| within(v, lower, upper)).cloned().collect())
            }
            (Self::Range(low_a, high_a), Self::Range(low_b, high_b)) => Self::range(
                tighter(low_a, low_b, |a, b| a > b),
                tighter(high_a, high_b, |a, b| a < b),
            ),
        }
    }
}

/// Lists of more values are not said to a shard.
const LISTED_MAX: usize = 1000;

/// One box as a conjunction; `None` if it rules nothing out.
fn box_sql(one: &KeyBox<'_>, columns: &[String], types: &[KeyType]) -> Option<String> {
    let mut conditions = Vec::new();
    for (n, (domain, column)) in one.iter().zip(columns).enumerate() {
        let ty = widest(types.get(n).copied().unwrap_or(KeyType::Text));
        let column = quote_identifier(column);
        match domain {
            Domain::Any => {}
            Domain::Values(values) if values.len() > LISTED_MAX => {}
            Domain::Values(values) => {
                let list: Vec<String> = values.iter().map(|value| value_sql(ty, value)).collect();
                conditions.push(format!("{column} IN ({})", list.join(", ")));
            }
            Domain::Range(lower, upper) => {
                let bounds = [(lower, ">"), (upper, "<")];
                for (bound, operator) in bounds {
                    if let Some((value, inclusive)) = bound {
                        let equal = if *inclusive { "=" } else { "" };
                        conditions
                            .push(format!("{column} {operator}{equal} {}", value_sql(ty, value)));
                    }
                }
            }
        }
    }
    if conditions.is_empty() { None } else { Some(format!("({})", conditions.join(" AND "))) }
}

fn within(value: &KeyValue<'_>, lower: &Bound<'_>, upper: &Bound<'_>) -> bool {
    lower.as_ref().is_none_or(|(low, inclusive)| value > low || (*inclusive && value == low))
        && upper
            .as_ref()
            .is_none_or(|(high, inclusive)| value < high || (*inclusive && value == high))
}

fn tighter<'a>(
    a: &Bound<'a>,
    b: &Bound<'a>,
    beyond: impl Fn(&KeyValue<'a>, &KeyValue<'a>) -> bool,
) -> Bound<'a> {
    match (a, b) {
        (None, one) | (one, None) => one.clone(),
        (Some((x, x_in)), Some((y, y_in))) => {
            if x == y {
                Some((x.clone(), *x_in && *y_in))
            } else if beyond(x, y) {
                a.clone()
            } else {
                b.clone()
            }
        }
    }
}

/// One box: a domain for each part of the key.
pub(super) type KeyBox<'a> = SmallVec<[Domain<'a>; 2]>;

/// A set of keys: a union of boxes. No box: no key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Region<'a> {
    boxes: SmallVec<[KeyBox<'a>; 1]>,
}

impl<'a> Region<'a> {
    /// Every key.
    pub(super) fn everything(parts: usize) -> Self {
        let mut boxes = SmallVec::new();
        boxes.push(std::iter::repeat_n(Domain::Any, parts).collect());
        Self { boxes }
    }

    /// No key.
    pub(super) fn nothing() -> Self {
        Self { boxes: SmallVec::new() }
    }

    /// Keys with this value as their first part.
    pub(super) fn pinned(parts: usize, value: KeyValue<'a>) -> Self {
        let mut values = SmallVec::new();
        values.push(value);
        Self::of_part(parts, 0, Domain::Values(values))
    }

    /// Keys of one part that are one of these.
    pub(super) fn one_of(values: SmallVec<[KeyValue<'a>; 1]>) -> Self {
        Self::of_part(1, 0, Domain::values(values))
    }

    /// The values of the first part, if every key's is named.
    pub(super) fn values(&self) -> Option<Vec<&KeyValue<'a>>> {
        let mut all = Vec::new();
        for one in &self.boxes {
            let Some(Domain::Values(values)) = one.first() else { return None };
            all.extend(values);
        }
        Some(all)
    }

    fn of_part(parts: usize, part: u8, domain: Domain<'a>) -> Self {
        if domain.is_empty() {
            return Self::nothing();
        }
        let mut region = Self::everything(parts);
        if let Some(place) = region.boxes.first_mut().and_then(|b| b.get_mut(usize::from(part))) {
            *place = domain;
        }
        region
    }

    /// Whether it holds no key.
    pub(super) fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }

    /// Keys in both.
    #[must_use]
    pub(super) fn intersect(self, other: Self) -> Self {
        if self.boxes.len().saturating_mul(other.boxes.len()) > BOXES_MAX {
            return if self.boxes.len() <= other.boxes.len() { self } else { other };
        }
        let mut boxes: SmallVec<[KeyBox<'a>; 1]> = SmallVec::new();
        for mine in &self.boxes {
            for theirs in &other.boxes {
                let both: KeyBox<'a> =
                    mine.iter().zip(theirs).map(|(a, b)| a.intersect(b)).collect();
                if !both.iter().any(Domain::is_empty) {
                    boxes.push(both);
                }
            }
        }
        Self { boxes }
    }

    /// Adds the keys of another. Lists of values of a one-part key grow together.
    pub(super) fn unite(&mut self, other: Self) {
        for theirs in other.boxes {
            if self.boxes.contains(&theirs) {
                continue;
            }
            match (self.boxes.last_mut().map(SmallVec::as_mut_slice), theirs.as_slice()) {
                (Some([Domain::Values(mine)]), [Domain::Values(more)]) => {
                    mine.extend(more.iter().cloned());
                    mine.sort_unstable();
                    mine.dedup();
                }
                _ => self.boxes.push(theirs),
            }
        }
    }

    /// The keys of all of them. Values of a one-part key are put in order once, however many there are.
    fn united(regions: Vec<Self>) -> Self {
        let mut all = Self::nothing();
        let mut listed: SmallVec<[KeyValue<'a>; 1]> = SmallVec::new();
        for mut region in regions {
            match region.boxes.as_mut_slice() {
                [one] if matches!(one.as_slice(), [Domain::Values(_)]) => {
                    if let Some(Domain::Values(values)) = one.first_mut() {
                        listed.append(values);
                    }
                }
                _ => all.unite(region),
            }
        }
        if !listed.is_empty() {
            all.unite(Self::one_of(listed));
        }
        all
    }

    /// The shards on which rows with these keys may live.
    ///
    /// # Errors
    ///
    /// [`NoShard`] when a value that is named has no shard.
    pub(super) fn shards(&self, map: &ShardMap, key: KeyId) -> Result<ShardSet, NoShard> {
        let mut shards = ShardSet::new();
        for one in &self.boxes {
            let parts: SmallVec<[Part<'_>; 2]> = one.iter().map(part_of).collect();
            shards.union_with(&map.place_parts(key, &parts)?);
        }
        Ok(shards)
    }

    /// The keys as a condition on the key's columns; `None` if nothing is ruled out. A longer list of values
    /// than [`LISTED_MAX`] is left out, which rules out less.
    pub(super) fn sql(&self, columns: &[String], types: &[KeyType]) -> Option<String> {
        if self.boxes.is_empty() {
            return Some("false".to_owned());
        }
        let alternatives: Option<Vec<String>> =
            self.boxes.iter().map(|one| box_sql(one, columns, types)).collect();
        Some(alternatives?.join(" OR "))
    }

    /// Whether every part of every key is named by value: nothing is open.
    pub(super) fn is_named(&self) -> bool {
        self.boxes.iter().flatten().all(|domain| matches!(domain, Domain::Values(_)))
    }

    /// Whether the key of one part is in it.
    pub(super) fn holds(&self, value: &KeyValue<'_>) -> bool {
        self.boxes.iter().any(|one| one.first().is_some_and(|domain| domain.holds(value)))
    }

    /// Whether nothing is said of the key.
    pub(super) fn is_open(&self) -> bool {
        self.boxes.iter().any(|one| one.iter().all(|domain| matches!(domain, Domain::Any)))
    }

    /// Whether a column of this type stores every value that is named for this part as it stands.
    pub(super) fn is_stored_whole(&self, part: usize, type_name: &str) -> bool {
        self.boxes.iter().filter_map(|one| one.get(part)).all(|domain| match domain {
            Domain::Values(values) => {
                values.iter().all(|value| value.clone().stored_as(type_name) == *value)
            }
            Domain::Any | Domain::Range(..) => false,
        })
    }

    /// The one value that every key has in this part, if there is one.
    pub(super) fn only(&self, part: usize) -> Option<&KeyValue<'a>> {
        let mut only = None;
        for one in &self.boxes {
            let Some(Domain::Values(values)) = one.get(part) else { return None };
            let [value] = values.as_slice() else { return None };
            match only {
                None => only = Some(value),
                Some(same) if same == value => {}
                Some(_) => return None,
            }
        }
        only
    }

    /// Whether every key has this first part, which holds for no key at all too.
    pub(super) fn is_pinned_to(&self, value: &KeyValue<'_>) -> bool {
        self.is_empty() || self.only(0).is_some_and(|only| same(only, value))
    }

    /// The values named for the first part, for people: the first few of them.
    pub(super) fn named_values(&self) -> Vec<String> {
        let mut named = Vec::new();
        for one in &self.boxes {
            let parts: Vec<Vec<String>> = one.iter().map(domain_text).collect();
            match parts.as_slice() {
                [only] => named.extend(only.iter().cloned()),
                several => named.push(
                    several
                        .iter()
                        .map(|p| if p.is_empty() { "*".to_owned() } else { p.join("|") })
                        .collect::<Vec<_>>()
                        .join(", "),
                ),
            }
        }
        if named.len() > VALUES_TOLD_MAX {
            named.truncate(VALUES_TOLD_MAX);
            named.push("…".to_owned());
        }
        named
    }
}

/// Equality of values of different lifetimes.
fn same<'v>(a: &KeyValue<'v>, b: &KeyValue<'v>) -> bool {
    a == b
}

fn domain_text(domain: &Domain<'_>) -> Vec<String> {
    match domain {
        Domain::Any => Vec::new(),
        Domain::Values(values) => values.iter().map(ToString::to_string).collect(),
        Domain::Range(low, high) => {
            let low = low.as_ref().map_or_else(String::new, |(value, included)| {
                format!("{value}{}", if *included { "" } else { "<" })
            });
            let high = high.as_ref().map_or_else(String::new, |(value, included)| {
                format!("{}{value}", if *included { "" } else { "<" })
            });
            vec![format!("{low}..{high}")]
        }
    }
}

fn part_of<'p, 'a: 'p>(domain: &'p Domain<'a>) -> Part<'p> {
    match domain {
        Domain::Any => Part::Any,
        Domain::Values(values) => Part::Values(values),
        Domain::Range(lower, upper) => {
            Part::Range { lower: lower.as_ref().map(copy), upper: upper.as_ref().map(copy) }
        }
    }
}

fn copy<'p, 'a: 'p>((value, inclusive): &'p (KeyValue<'a>, bool)) -> (KeyValue<'p>, bool) {
    let value = match value {
        KeyValue::Int(i) => KeyValue::Int(*i),
        KeyValue::Text(t) => KeyValue::Text(Cow::Borrowed(t)),
        KeyValue::Uuid(u) => KeyValue::Uuid(*u),
    };
    (value, *inclusive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(ints: &[i64]) -> Domain<'static> {
        Domain::values(ints.iter().map(|&i| KeyValue::Int(i)).collect())
    }

    fn between(low: Option<i64>, high: Option<i64>) -> Domain<'static> {
        let bound = |end: Option<i64>| end.map(|i| (KeyValue::Int(i), true));
        Domain::range(bound(low), bound(high))
    }

    #[test]
    fn domains_intersect() {
        let check = |a: Domain<'static>, b: Domain<'static>, expect: Domain<'static>| {
            assert_eq!(a.intersect(&b), expect);
            assert_eq!(b.intersect(&a), expect);
        };
        check(Domain::Any, values(&[1]), values(&[1]));
        check(values(&[3, 1, 2, 1]), values(&[2, 3, 4]), values(&[2, 3]));
        check(values(&[1]), values(&[2]), values(&[]));
        check(values(&[1, 5, 9]), between(Some(5), None), values(&[5, 9]));
        check(between(Some(1), Some(5)), between(Some(3), None), between(Some(3), Some(5)));
        check(between(Some(1), Some(2)), between(Some(3), None), values(&[]));
        check(
            Domain::range(Some((KeyValue::Int(1), false)), None),
            between(Some(1), Some(1)),
            values(&[]),
        );
    }

    #[test]
    fn regions_keep_the_parts_of_a_box_together() {
        let one = |a: i64, b: i64| {
            Region::of_part(2, 0, values(&[a])).intersect(Region::of_part(2, 1, values(&[b])))
        };
        let mut both = one(1, 10);
        both.unite(one(2, 20));
        let narrowed = both.clone().intersect(Region::of_part(2, 1, values(&[20])));
        assert_eq!(narrowed.only(0), Some(&KeyValue::Int(2)));
        assert_eq!(both.only(0), None);
        assert!(both.intersect(one(1, 20)).is_empty());
        assert!(Region::everything(2).is_open() && !one(1, 2).is_open());
    }

    #[test]
    fn many_alternatives_are_one_list() {
        let all: Vec<Region<'_>> = (0..50_000)
            .rev()
            .map(|n| Region::of_part(1, 0, values(&[n % 40_000])))
            .chain([Region::of_part(1, 0, Domain::range(None, Some((KeyValue::Int(-5), true))))])
            .collect();
        let united = Region::united(all);
        let [range, list] = united.boxes.as_slice() else { panic!("{:?}", united.boxes.len()) };
        assert!(matches!(range.as_slice(), [Domain::Range(None, Some(_))]));
        let [Domain::Values(list)] = list.as_slice() else { panic!("{list:?}") };
        assert_eq!(list.len(), 40_000);
        assert!(list.is_sorted());
    }

    #[test]
    fn too_many_boxes_are_a_superset() {
        let wide = |part: u8, n: i64| {
            let mut region = Region::nothing();
            for i in 0..n {
                region.unite(Region::of_part(2, part, values(&[i])));
            }
            region
        };
        let (a, b) = (wide(0, 40), wide(1, 50));
        assert_eq!(a.clone().intersect(b), a);
    }
}
