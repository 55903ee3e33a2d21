//! A shard that can't be reached is left alone for a while, so that its clients fail fast and its
//! recovery isn't trampled by attempts.
//!
//! ```text
//!   closed ──threshold failures in a row──► open ──timeout──► half-open ──a success──► closed
//!                                             ▲                  │
//!                                             └────a failure─────┘
//! ```
//!
//! Only the *making* of connections passes through it; connections that live are used on. It is one per
//! shard, so a shard that is down has no effect on the others.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::config;

#[derive(Debug)]
pub(super) struct Breaker {
    settings: config::Breaker,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { running: u32 },
}

/// An attempt that may be made. Dropped without an outcome (the client went away), it counts as none.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    breaker: &'a Breaker,
    decided: bool,
}

impl Breaker {
    pub(super) fn new(settings: config::Breaker) -> Self {
        Self { settings, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// `None`: not now.
    pub(super) fn attempt(&self, now: Instant) -> Option<Attempt<'_>> {
        let mut state = self.lock();
        match *state {
            State::Closed { .. } => {}
            State::Open { until } if now < until => return None,
            State::Open { .. } => *state = State::HalfOpen { running: 1 },
            State::HalfOpen { running } if running >= self.settings.half_open_requests.max(1) => {
                return None;
            }
            State::HalfOpen { running } => *state = State::HalfOpen { running: running + 1 },
        }
        Some(Attempt { breaker: self, decided: false })
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(*self.lock(), State::Closed { .. })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A plain value is in it: one that panicked left it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, now: Instant) -> State {
        State::Open { until: now + self.settings.timeout }
    }
}

impl Attempt<'_> {
    pub(super) fn succeeded(mut self) {
        self.decided = true;
        *self.breaker.lock() = State::Closed { failures: 0 };
    }

    pub(super) fn failed(mut self, now: Instant) {
        self.decided = true;
        let threshold = self.breaker.settings.threshold.max(1);
        let mut state = self.breaker.lock();
        *state = match *state {
            State::Closed { failures } if failures + 1 < threshold => {
                State::Closed { failures: failures + 1 }
            }
            // Attempts that began before it opened don't prolong it.
            State::Open { until } => State::Open { until },
            State::Closed { .. } | State::HalfOpen { .. } => self.breaker.open(now),
        };
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.decided {
            return;
        }
        let mut state = self.breaker.lock();
        if let State::HalfOpen { running } = *state {
            *state = State::HalfOpen { running: running.saturating_sub(1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_opens_and_closes() {
        let settings = config::Breaker {
            threshold: 2,
            timeout: Duration::from_secs(30),
            half_open_requests: 1,
        };
        let breaker = Breaker::new(settings);
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let fail = |now| breaker.attempt(now).unwrap().failed(now);
        fail(start);
        breaker.attempt(start).unwrap().succeeded();
        fail(start);
        assert!(breaker.is_closed());
        fail(start);
        assert!(!breaker.is_closed());
        assert!(breaker.attempt(later(29)).is_none());
        let trial = breaker.attempt(later(30)).unwrap();
        assert!(breaker.attempt(later(30)).is_none());
        drop(trial);
        fail(later(31));
        assert!(breaker.attempt(later(60)).is_none());
        breaker.attempt(later(61)).unwrap().succeeded();
        assert!(breaker.is_closed());
    }
}
