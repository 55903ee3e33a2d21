//! Statements that wait for a shard, and the maps that they were planned with.
//!
//! Who runs on a connection is seen there; who waits for one is seen here. Whoever moves rows has to know that
//! nobody is still about to look for them in their old place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many wait, by the version of their map.
#[derive(Debug, Default)]
pub(super) struct Waiting(Arc<Mutex<BTreeMap<u64, usize>>>);

/// One that waits.
#[derive(Debug)]
pub struct WaitsWith {
    all: Arc<Mutex<BTreeMap<u64, usize>>>,
    map_version: u64,
}

impl Waiting {
    pub(super) fn begin(&self, map_version: u64) -> WaitsWith {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry(map_version).or_default() += 1;
        WaitsWith { all: Arc::clone(&self.0), map_version }
    }

    pub(super) fn is_any_older(&self, map_version: u64) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.first_key_value().is_some_and(|(oldest, _)| *oldest < map_version)
    }
}

impl Drop for WaitsWith {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.map_version) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.map_version);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_with_an_older_map_is_seen() {
        let waiting = Waiting::default();
        let (first, second, third) = (waiting.begin(3), waiting.begin(3), waiting.begin(4));
        assert!(waiting.is_any_older(4) && !waiting.is_any_older(3));
        drop(first);
        assert!(waiting.is_any_older(4));
        drop(second);
        assert!(!waiting.is_any_older(4) && waiting.is_any_older(5));
        drop(third);
        assert!(!waiting.is_any_older(u64::MAX));
    }
}
