//! Which statements are prepared on a connection, under which names.

use rustc_hash::FxHashMap;

/// How many prepared statements a connection keeps: each costs memory in its backend.
const STATEMENTS_MAX: usize = 500;

/// The prepared statements of one connection, least recently used first out.
///
/// A generation tells apart what has the same name but is something else (the statement's text, types or
/// `search_path` changed); whoever finds another one than it wants closes the old one and prepares anew.
#[derive(Debug)]
pub struct Prepared {
    by_name: FxHashMap<Box<[u8]>, Entry>,
    clock: u64,
    max: usize,
}

#[derive(Debug)]
struct Entry {
    generation: u64,
    used: u64,
}

impl Default for Prepared {
    fn default() -> Self {
        Self::with_max(STATEMENTS_MAX)
    }
}

impl Prepared {
    /// None yet, at most `max`.
    pub fn with_max(max: usize) -> Self {
        Self { by_name: FxHashMap::default(), clock: 0, max: max.max(1) }
    }

    /// The generation under which `name` is prepared; counts as a use.
    pub fn generation(&mut self, name: &[u8]) -> Option<u64> {
        self.clock += 1;
        let entry = self.by_name.get_mut(name)?;
        entry.used = self.clock;
        Some(entry.generation)
    }

    /// `name` is being prepared. Returns the name of the statement that must be closed (Close, on the
    /// same connection) because there is no room for both.
    #[must_use = "the statement is still prepared on the shard until it is closed"]
    pub fn insert(&mut self, name: &[u8], generation: u64) -> Option<Box<[u8]>> {
        self.clock += 1;
        let entry = Entry { generation, used: self.clock };
        if let Some(known) = self.by_name.get_mut(name) {
            *known = entry;
            return None;
        }
        let evicted = if self.by_name.len() < self.max { None } else { self.evict() };
        self.by_name.insert(name.into(), entry);
        evicted
    }

    /// `name` was evicted, but its Close was never carried out. It may be one too many until the next is
    /// prepared.
    pub fn restore(&mut self, name: &[u8], generation: u64) {
        self.clock += 1;
        self.by_name.insert(name.into(), Entry { generation, used: self.clock });
    }

    /// `name` is not prepared (any more): closed, or its Parse failed.
    pub fn remove(&mut self, name: &[u8]) {
        self.by_name.remove(name);
    }

    /// Nothing is prepared any more: DEALLOCATE ALL, DISCARD ALL.
    pub fn clear(&mut self) {
        self.by_name.clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    fn evict(&mut self) -> Option<Box<[u8]>> {
        // A scan of a few hundred entries, beside a Parse on the shard: not worth a list.
        let oldest = self.by_name.iter().min_by_key(|(_, entry)| entry.used)?.0.clone();
        self.by_name.remove(&oldest);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes() {
        let mut prepared = Prepared::with_max(2);
        assert_eq!(prepared.insert(b"a", 1), None);
        assert_eq!(prepared.insert(b"b", 1), None);
        assert_eq!(prepared.generation(b"a"), Some(1));
        assert_eq!(prepared.insert(b"a", 2), None);
        assert_eq!(prepared.insert(b"c", 1).as_deref(), Some(&b"b"[..]));
        assert_eq!(prepared.generation(b"b"), None);
        assert_eq!(prepared.generation(b"a"), Some(2));
        prepared.restore(b"b", 3);
        assert_eq!((prepared.len(), prepared.generation(b"b")), (3, Some(3)));
        prepared.remove(b"b");
        prepared.remove(b"a");
        assert_eq!(prepared.len(), 1);
        prepared.clear();
        assert!(prepared.is_empty());
    }
}
