//! Random UUIDs that statements have the proxy make: the key of a row must be known before it is sent.
//!
//! Main types: [`Fresh`], what was made for the executions that are being planned, and [`FreshHere`], one
//! statement's share of it. Planning one execution again finds the same values, so that a key that was given a home
//! in between is the key that is inserted; [`Fresh::clear`] ends that, once a plan is there to be carried out.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::map::ShardId;

/// What was made and is not in a plan yet.
#[derive(Default)]
pub struct Fresh {
    /// What is being planned is part of something that is on this shard.
    wanted: Option<ShardId>,
    /// There is none until something is made: few clients ever have the proxy make a key.
    all: Mutex<Option<Box<All>>>,
}

struct All {
    /// Random bytes. The argument counts what was made.
    source: fn(usize) -> [u8; 16],
    /// How many there have been.
    count: usize,
    made: Vec<Made>,
}

/// A value and what it is for: the statement's place in its string, and the value's place in the statement.
#[derive(Clone, Copy, Debug)]
struct Made {
    statement: u32,
    place: u32,
    uuid: [u8; 16],
}

impl All {
    fn of(source: fn(usize) -> [u8; 16]) -> Self {
        Self { source, count: 0, made: Vec::new() }
    }
}

impl Default for All {
    fn default() -> Self {
        Self::of(|_| rand::random())
    }
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = self.lock().as_ref().map_or(0, |all| all.made.len());
        f.debug_struct("Fresh").field("made", &made).finish_non_exhaustive()
    }
}

impl Fresh {
    /// With another source of bytes, for tests.
    pub fn new(source: fn(usize) -> [u8; 16]) -> Self {
        Self { wanted: None, all: Mutex::new(Some(Box::new(All::of(source)))) }
    }

    /// The share of the statement that stands at this place of its string, and where it has to go, if it can.
    pub fn of(&self, statement: u32, wanted: Option<ShardId>) -> FreshHere<'_> {
        FreshHere { all: self, statement, wanted: self.wanted.or(wanted) }
    }

    /// What is planned next is part of something that is on this shard.
    pub fn belong_to(&mut self, shard: Option<ShardId>) {
        self.wanted = shard;
    }

    /// What was made is in a plan that is carried out: nothing else may have it.
    #[inline]
    pub fn clear(&mut self) {
        if let Some(all) = self.all.get_mut().unwrap_or_else(PoisonError::into_inner) {
            all.made.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<All>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One statement's values.
#[derive(Clone, Copy, Debug)]
pub struct FreshHere<'a> {
    all: &'a Fresh,
    statement: u32,
    wanted: Option<ShardId>,
}

impl FreshHere<'_> {
    /// The same for the statement at this place of a string, in which something goes to a shard already.
    #[must_use]
    pub fn at(self, statement: u32, behind: Option<ShardId>) -> Self {
        Self { statement, wanted: self.wanted.or(behind), ..self }
    }

    /// The shard that a key should belong to.
    pub(super) fn wanted(self) -> Option<ShardId> {
        self.wanted
    }

    /// The value for this place in the statement.
    pub(super) fn uuid(self, place: u32) -> [u8; 16] {
        let all = self.all.lock();
        let mut made = all.iter().flat_map(|all| &all.made);
        let found = made.find(|made| self.is_for(made, place)).copied();
        drop(all);
        found.map_or_else(|| self.another(place), |made| made.uuid)
    }

    /// Another value for it.
    pub(super) fn another(self, place: u32) -> [u8; 16] {
        let mut all = self.all.lock();
        let all = all.get_or_insert_default();
        let uuid = version_4((all.source)(all.count));
        all.count = all.count.wrapping_add(1);
        all.made.retain(|made| !self.is_for(made, place));
        all.made.push(Made { statement: self.statement, place, uuid });
        uuid
    }

    fn is_for(self, made: &Made, place: u32) -> bool {
        made.statement == self.statement && made.place == place
    }
}

/// Random bytes as `gen_random_uuid` marks them.
fn version_4(mut bytes: [u8; 16]) -> [u8; 16] {
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_until_it_is_in_a_plan() {
        let mut fresh = Fresh::default();
        let (one, two) = (fresh.of(0, None), fresh.of(20, None));
        let value = one.uuid(7);
        assert_eq!(value, one.uuid(7));
        assert_ne!(value, one.uuid(8));
        assert_ne!(value, two.uuid(7));
        let other = one.another(7);
        assert_ne!(value, other);
        assert_eq!(other, one.uuid(7));
        fresh.clear();
        assert_ne!(other, fresh.of(0, None).uuid(7));
    }

    #[test]
    fn version_and_variant_are_those_of_random_ones() {
        for _ in 0..64 {
            let uuid = Fresh::default().of(0, None).uuid(0);
            assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (4, 2));
        }
    }
}
