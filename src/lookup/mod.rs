//! Ids that lead to keys: what is known of them.
//!
//! A map's `[lookups]` say that a bot's, a session's, a user's id is unique everywhere and never changes the
//! key that it belongs to. Then a statement that has only the id can be routed, once the id's key is known.
//! [`Known`] remembers, bounded; a [`View`] is what one statement sees of it: it answers what is known and
//! writes down what is not, so that `exec` can ask the lookup's source and plan again.
//!
//! Invariants: only ids of lookups that the map declares unique are ever asked for; an id that was not
//! found, or that was found with several keys, narrows nothing (another proxy may insert it at any time);
//! an answer is remembered only when it came from committed rows. It asks nobody itself: that is `exec`'s
//! part, and so is learning from INSERTs when they are committed.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use quick_cache::Equivalent;
use quick_cache::sync::Cache;

use crate::datum::KeyValue;
use crate::map::{KeyId, Lookup, ShardMap};

/// Most ids that are remembered: about 100 bytes each.
const KNOWN_MAX: usize = 1_000_000;

/// Most ids that one statement may have looked up; past it the others narrow nothing.
const WANTED_MAX: usize = 256;

/// What is known of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It belongs to this key.
    Key(KeyValue<'static>),
    /// Rows with it may be anywhere: it was not found, or with several keys.
    Anywhere,
    /// Nobody has asked yet.
    Unasked,
}

/// Answers ids, for the planner.
pub trait Lookups: fmt::Debug {
    /// What is known of an id of the map's lookup with this index.
    fn answer(&self, lookup: usize, id: &KeyValue<'_>) -> Answer;

    /// The same, of an id that nobody need ask for.
    fn known(&self, lookup: usize, id: &KeyValue<'_>) -> Answer;

    /// The statement makes an id of this key: where it succeeds and is committed, that is known.
    fn makes(&self, lookup: usize, id: &KeyValue<'_>, key: &KeyValue<'_>);

    /// The statement inserts a row of a key that is nowhere yet, in a region if the row says so.
    fn comes(&self, key: KeyId, value: &KeyValue<'_>, region: Option<String>);
}

/// A key that a statement inserts a row of, and that is nowhere yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// Which key.
    pub key: KeyId,
    /// Its value.
    pub value: KeyValue<'static>,
    /// The region that the row names.
    pub region: Option<String>,
}

/// What a statement's planning has brought up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// Ids to be asked for before it is planned again.
    pub wanted: Vec<Id>,
    /// Ids that it makes, with their keys.
    pub made: Vec<(Id, KeyValue<'static>)>,
    /// Keys that are nowhere yet.
    pub newcomers: Vec<Newcomer>,
}

/// An id of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    /// The lookup's index in the map.
    pub lookup: usize,
    /// The id.
    pub value: KeyValue<'static>,
}

#[derive(Hash)]
struct IdRef<'a> {
    lookup: usize,
    value: &'a KeyValue<'a>,
}

impl Equivalent<Id> for IdRef<'_> {
    fn equivalent(&self, id: &Id) -> bool {
        self.lookup == id.lookup && *self.value == id.value
    }
}

/// What is remembered of the ids of one map's lookups.
pub struct Known {
    /// The lookups that the indexes count in.
    lookups: Vec<Lookup>,
    keys: Cache<Id, Option<KeyValue<'static>>>,
}

impl Known {
    /// Nothing yet.
    pub fn new(map: &ShardMap) -> Self {
        Self { lookups: map.lookups().to_vec(), keys: Cache::new(KNOWN_MAX) }
    }

    /// The same for another map: what is known stays known as long as the lookups are the same.
    #[must_use]
    pub fn follow(self: &Arc<Self>, map: &ShardMap) -> Arc<Self> {
        if self.lookups == map.lookups() { Arc::clone(self) } else { Arc::new(Self::new(map)) }
    }

    /// Remembers an id's key, or that it has several (`None`).
    pub fn learn(&self, id: Id, key: Option<KeyValue<'static>>) {
        self.keys.insert(id, key);
    }

    /// How many ids are remembered.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// No id is remembered.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn answer(&self, lookup: usize, value: &KeyValue<'_>) -> Answer {
        match self.keys.get(&IdRef { lookup, value }) {
            Some(Some(key)) => Answer::Key(key),
            Some(None) => Answer::Anywhere,
            None => Answer::Unasked,
        }
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("ids", &self.keys.len()).finish_non_exhaustive()
    }
}

/// What one statement sees.
#[derive(Debug)]
pub struct View<'a> {
    known: &'a Known,
    /// Answers that were got for this statement and are not to be remembered.
    asked: &'a [(Id, Answer)],
    noted: RefCell<Noted>,
}

impl<'a> View<'a> {
    /// A view on what is known and on what was asked for this statement.
    pub fn new(known: &'a Known, asked: &'a [(Id, Answer)]) -> Self {
        Self { known, asked, noted: RefCell::default() }
    }

    /// The ids that somebody should ask for before the statement is planned again.
    pub fn into_wanted(self) -> Vec<Id> {
        self.into_noted().wanted
    }

    /// What planning has brought up.
    pub fn into_noted(self) -> Noted {
        self.noted.into_inner()
    }
}

impl Lookups for View<'_> {
    fn known(&self, lookup: usize, id: &KeyValue<'_>) -> Answer {
        self.known.answer(lookup, id)
    }

    fn answer(&self, lookup: usize, id: &KeyValue<'_>) -> Answer {
        let known = self.known.answer(lookup, id);
        if known != Answer::Unasked {
            return known;
        }
        let asked = self.asked.iter().find(|(own, _)| own.lookup == lookup && own.value == *id);
        if let Some((_, answer)) = asked {
            return answer.clone();
        }
        let wanted = &mut self.noted.borrow_mut().wanted;
        if wanted.len() >= WANTED_MAX {
            return Answer::Anywhere;
        }
        let id = Id { lookup, value: id.clone().into_owned() };
        if !wanted.contains(&id) {
            wanted.push(id);
        }
        Answer::Unasked
    }

    fn makes(&self, lookup: usize, id: &KeyValue<'_>, key: &KeyValue<'_>) {
        let learns = self.known.lookups.get(lookup).is_some_and(|rule| rule.learn);
        let made = &mut self.noted.borrow_mut().made;
        if learns && made.len() < WANTED_MAX {
            let id = Id { lookup, value: id.clone().into_owned() };
            made.push((id, key.clone().into_owned()));
        }
    }

    fn comes(&self, key: KeyId, value: &KeyValue<'_>, region: Option<String>) {
        let newcomers = &mut self.noted.borrow_mut().newcomers;
        let newcomer = Newcomer { key, value: value.clone().into_owned(), region };
        if !newcomers.contains(&newcomer) {
            newcomers.push(newcomer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known { lookups: Vec::new(), keys: Cache::new(100) }
    }

    #[test]
    fn what_is_unknown_is_wanted_once() {
        let known = known();
        known.learn(Id { lookup: 0, value: KeyValue::Int(1) }, Some(KeyValue::Int(42)));
        known.learn(Id { lookup: 0, value: KeyValue::Int(2) }, None);
        let asked = [(Id { lookup: 0, value: KeyValue::Int(3) }, Answer::Anywhere)];
        let view = View::new(&known, &asked);
        assert_eq!(view.answer(0, &KeyValue::Int(1)), Answer::Key(KeyValue::Int(42)));
        assert_eq!(view.answer(0, &KeyValue::Int(2)), Answer::Anywhere);
        assert_eq!(view.answer(0, &KeyValue::Int(3)), Answer::Anywhere);
        for _ in 0..2 {
            assert_eq!(view.answer(1, &KeyValue::Int(1)), Answer::Unasked);
        }
        assert_eq!(view.into_wanted(), [Id { lookup: 1, value: KeyValue::Int(1) }]);
    }
}
