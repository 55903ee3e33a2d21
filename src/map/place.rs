//! From keys to shards: [`ShardMap::place`] for one value (the hot path), [`ShardMap::place_parts`] for what
//! a predicate says of each part of a key.
//!
//! Invariant (soundness): a set contains every shard on which a row with such a key may be placed. Values
//! that no rule places are an error by name where the statement names them, and add nothing where a
//! range merely spans them: no row has such a key.

use std::fmt::Write as _;

use super::geo::{Geo, Region};
use super::model::{DatabaseHomes, DatabasePerKey};
use super::range::Bound;
use super::{Key, KeyId, ShardId, ShardMap, ShardSet, Strategy};
use crate::datum::KeyValue;
use crate::error::{SqlError, SqlState};

/// A range of at most so many integers is taken value by value where only a hash places them.
pub const ENUMERATED_MAX: u128 = 64;

/// What is known of one part of a key.
#[derive(Clone, Debug)]
pub enum Part<'a> {
    /// Nothing.
    Any,
    /// It is one of these.
    Values(&'a [KeyValue<'a>]),
    /// It lies between these bounds; the flags say inclusive.
    Range {
        /// The lower bound.
        lower: Bound<'a>,
        /// The upper bound.
        upper: Bound<'a>,
    },
}

/// Why a key has no shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No range contains it.
    NoRange,
    /// The directory does not list it, and refuses what it does not list.
    NotListed,
    /// Its region is not listed, and there is no default.
    RegionNotListed,
    /// The value isn't of the key's type.
    WrongType,
    /// A part of the key is missing.
    Incomplete,
    /// The key's strategy has no placement here.
    Unavailable,
    /// Its database would need a name that PostgreSQL cuts off.
    NameTooLong,
    /// Its database would be one that the servers have for themselves.
    NameReserved,
}

/// A key that has no shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoShard {
    /// The key's name.
    pub key: String,
    /// The value's text; parts are separated by `, `.
    pub value: String,
    /// Why.
    pub why: Why,
}

impl NoShard {
    /// The error for a client, naming the table where one is known.
    pub fn error(&self, table: Option<&str>) -> SqlError {
        let mut message = format!("no shard for key {} = {}", self.key, self.value);
        if let Some(table) = table {
            // Writing to a String can't fail.
            let _ = write!(message, " of table \"{table}\"");
        }
        let (detail, hint) = match self.why {
            Why::NoRange => (
                "No range of the shard map contains it.",
                "Add a range, or list the key in a directory.",
            ),
            Why::NotListed => (
                "The directory of the shard map does not list it, and otherwise = \"refuse\".",
                "List the key in the directory.",
            ),
            Why::RegionNotListed => (
                "The region is not listed in the shard map, and default = \"refuse\".",
                "List the region, or name a default shard.",
            ),
            Why::WrongType => {
                ("The value is not of the key's type.", "Write it as a literal of the key's type.")
            }
            Why::Incomplete => {
                ("A part of the key is missing.", "Give a value for each part of the key.")
            }
            Why::Unavailable => (
                "The key's strategy does not place rows on shards.",
                "Use strategy hash, range, geo or directory.",
            ),
            Why::NameTooLong => (
                "The name of its database would be empty or longer than 63 bytes, and PostgreSQL cuts such names off.",
                "Use a shorter key, or a shorter prefix in the shard map.",
            ),
            Why::NameReserved => (
                "Its database would be one that the servers have for themselves.",
                "Choose another prefix in the shard map.",
            ),
        };
        SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message).detail(detail).hint(hint)
    }
}

impl From<NoShard> for SqlError {
    fn from(no_shard: NoShard) -> Self {
        no_shard.error(None)
    }
}

impl ShardMap {
    /// The shard of a key of one part. No allocation, unless it fails.
    ///
    /// # Errors
    ///
    /// [`NoShard`] when no rule places the value.
    #[inline]
    pub fn place(&self, key: KeyId, value: &KeyValue<'_>) -> Result<ShardId, NoShard> {
        self.place_row(key, std::slice::from_ref(value))
    }

    /// The shard of a row, by every part of its key, in order.
    ///
    /// # Errors
    ///
    /// [`NoShard`] when no rule places the values.
    pub fn place_row(&self, key: KeyId, values: &[KeyValue<'_>]) -> Result<ShardId, NoShard> {
        let Some(key) = self.keys.get(usize::from(key.0)) else {
            return Err(NoShard { key: String::new(), value: text(values), why: Why::Unavailable });
        };
        key.place_row(values).map_err(|why| key.no_shard(values, why))
    }

    /// Every shard on which a row may be placed of whose key these things are known. Parts that are left
    /// out are [`Part::Any`].
    ///
    /// # Errors
    ///
    /// [`NoShard`] when a listed value has no shard.
    pub fn place_parts(&self, key: KeyId, parts: &[Part<'_>]) -> Result<ShardSet, NoShard> {
        let Some(key) = self.keys.get(usize::from(key.0)) else {
            return Ok(ShardSet::all(self.shards.len()));
        };
        let empty = |part: &Part<'_>| match part {
            Part::Values(values) => values.is_empty(),
            Part::Range { lower: Some((low, low_in)), upper: Some((high, high_in)) } => {
                // Text compares by the server's collation, which may find a key where bytes don't.
                !matches!(low, KeyValue::Text(_))
                    && std::mem::discriminant(low) == std::mem::discriminant(high)
                    && (low > high || (low == high && !(*low_in && *high_in)))
            }
            Part::Any | Part::Range { .. } => false,
        };
        if parts.iter().any(empty) {
            return Ok(ShardSet::new());
        }
        let first = parts.first().unwrap_or(&Part::Any);
        if let Strategy::Geo(geo) = &key.strategy {
            return geo_parts(key, geo, first, parts.get(1).unwrap_or(&Part::Any));
        }
        match first {
            Part::Any => Ok(key.shards.clone()),
            Part::Values(values) => values
                .iter()
                .map(|v| {
                    let one = std::slice::from_ref(v);
                    key.place_row(one).map_err(|why| key.no_shard(one, why))
                })
                .collect(),
            Part::Range { lower, upper } => Ok(range_shards(key, lower, upper)),
        }
    }
}

impl Key {
    #[inline]
    fn place_row(&self, values: &[KeyValue<'_>]) -> Result<ShardId, Why> {
        let Some(first) = values.first() else { return Err(Why::Incomplete) };
        if !values.iter().zip(&self.types).all(|(value, ty)| value.is_of(*ty)) {
            return Err(Why::WrongType);
        }
        match &self.strategy {
            Strategy::Hash(hash) => hash.place(first),
            Strategy::Range(ranges) => ranges.place(first),
            Strategy::Directory(directory) => directory.place(first),
            Strategy::Geo(geo) => geo.place(first, values.get(1)),
            Strategy::Database(own) => own.place(first),
        }
    }

    #[cold]
    fn no_shard(&self, values: &[KeyValue<'_>], why: Why) -> NoShard {
        NoShard { key: self.name.clone(), value: text(values), why }
    }
}

fn text(values: &[KeyValue<'_>]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Shards of a key of one part between bounds.
fn range_shards(key: &Key, lower: &Bound<'_>, upper: &Bound<'_>) -> ShardSet {
    let ordered = |bound: &Bound<'_>| match bound {
        // Text compares by the server's collation, not by its bytes.
        Some((value, _)) => {
            !matches!(value, KeyValue::Text(_))
                && key.types.first().is_some_and(|ty| value.is_of(*ty))
        }
        None => true,
    };
    if !ordered(lower) || !ordered(upper) {
        return key.shards.clone();
    }
    if let Some(values) = enumerate(lower, upper) {
        return values.filter_map(|v| key.place_row(&[KeyValue::Int(v)]).ok()).collect();
    }
    match &key.strategy {
        Strategy::Range(ranges) => ranges.overlapping(lower, upper),
        Strategy::Directory(directory) => directory.overlapping(lower, upper),
        Strategy::Database(DatabasePerKey {
            homes: DatabaseHomes::Directory(directory), ..
        }) => directory.overlapping(lower, upper),
        Strategy::Hash(_) | Strategy::Geo(_) | Strategy::Database(_) => key.shards.clone(),
    }
}

/// The integers between two bounds, if they are few.
fn enumerate(lower: &Bound<'_>, upper: &Bound<'_>) -> Option<std::ops::RangeInclusive<i64>> {
    let (Some((KeyValue::Int(low), low_in)), Some((KeyValue::Int(high), high_in))) = (lower, upper)
    else {
        return None;
    };
    let low = if *low_in { *low } else { low.checked_add(1)? };
    let high = if *high_in { *high } else { high.checked_sub(1)? };
    let few = high < low || u128::from(high.abs_diff(low)) < ENUMERATED_MAX;
    few.then_some(low..=high)
}

fn geo_parts(
    key: &Key,
    geo: &Geo,
    first: &Part<'_>,
    second: &Part<'_>,
) -> Result<ShardSet, NoShard> {
    let Part::Values(values) = first else {
        // Any region, listed or not; a range of texts says nothing without the server's collation.
        let mut shards: ShardSet = geo.default.into_iter().collect();
        for region in geo.regions.values() {
            shards.union_with(&region_shards(key, region, second)?);
        }
        return Ok(shards);
    };
    let mut shards = ShardSet::new();
    for value in *values {
        match (geo.region(value), geo.default) {
            (Ok(region), _) => shards.union_with(&region_shards(key, region, second)?),
            (Err(Why::RegionNotListed), Some(default)) => shards.insert(default),
            (Err(why), _) => return Err(key.no_shard(std::slice::from_ref(value), why)),
        }
    }
    Ok(shards)
}

/// Shards of a region, given what is known of the second part.
fn region_shards(key: &Key, region: &Region, second: &Part<'_>) -> Result<ShardSet, NoShard> {
    let place = |value: &KeyValue<'_>| match key.types.get(1) {
        Some(ty) if !value.is_of(*ty) => Err(Why::WrongType),
        _ => region.place(Some(value)),
    };
    match second {
        Part::Any => Ok(region.shards()),
        Part::Values(values) => values
            .iter()
            .map(|v| place(v).map_err(|why| key.no_shard(std::slice::from_ref(v), why)))
            .collect(),
        Part::Range { lower, upper } => Ok(match enumerate(lower, upper) {
            Some(values) => values.filter_map(|v| place(&KeyValue::Int(v)).ok()).collect(),
            None => region.shards(),
        }),
    }
}
