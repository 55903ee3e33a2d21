//! The time as this thread last read it. What needs it to a few seconds only (the age of a connection)
//! reads no clock of its own.

use std::cell::Cell;
use std::time::Instant;

thread_local! {
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Reads the clock.
#[inline]
pub(super) fn read() -> Instant {
    let now = Instant::now();
    LAST.set(Some(now));
    now
}

/// What this thread has read last: with every statement, and every few seconds when there is none
/// ([`super::Pools::sweep`]).
#[inline]
pub(super) fn recent() -> Instant {
    LAST.get().unwrap_or_else(read)
}

/// Somebody has read it.
pub(super) fn note(now: Instant) {
    LAST.set(Some(now));
}
