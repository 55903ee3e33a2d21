//! What became of the maps: who asked for a reload, when, what changed, what was wrong.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Older attempts are forgotten.
const KEPT_MAX: usize = 200;

/// Who asked for a map to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is the one that the process started with.
    Start,
    /// The file has changed.
    File,
    /// SIGHUP.
    Signal,
    /// RELOAD on the console.
    Console,
    /// The HTTP interface.
    Http,
    /// The control tables have changed.
    Control,
    /// The program itself.
    Program,
}

impl Origin {
    /// In a word or two.
    pub fn words(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::File => "file change",
            Self::Signal => "SIGHUP",
            Self::Console => "console",
            Self::Http => "HTTP",
            Self::Control => "control tables",
            Self::Program => "program",
        }
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The map is used.
    Loaded,
    /// It says the same as the one that is used.
    Unchanged,
    /// It has faults, or can't be used now: the old one stays.
    Refused,
}

impl Outcome {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When.
    pub at: SystemTime,
    /// Who asked.
    pub origin: Origin,
    /// What came of it.
    pub outcome: Outcome,
    /// The version of the map that is used since.
    pub version: u64,
    /// What changed, or what was wrong, in a line.
    pub what: String,
}

/// The attempts, the newest last.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Attempt>>);

impl History {
    pub(super) fn note(&self, attempt: Attempt) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A watcher that finds nothing new says nothing new, but that a fault is gone.
        let sound = kept.back().is_none_or(|last| last.outcome != Outcome::Refused);
        if attempt.outcome == Outcome::Unchanged && attempt.origin == Origin::File && sound {
            return;
        }
        // Tables that stay faulty are looked at again and again.
        let again = |last: &Attempt| {
            attempt.origin == Origin::Control
                && (last.origin, last.outcome) == (attempt.origin, attempt.outcome)
                && attempt.outcome == Outcome::Refused
        };
        if kept.back().is_some_and(again) {
            kept.pop_back();
        }
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(attempt);
    }

    /// All that is remembered, the newest first.
    pub fn all(&self) -> Vec<Attempt> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().cloned().collect()
    }

    /// The last attempt, if it failed.
    pub fn fault(&self) -> Option<Attempt> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.back().filter(|attempt| attempt.outcome == Outcome::Refused).cloned()
    }
}
