//! Slows down whoever guesses passwords, without keeping others waiting.
//!
//! A wrong password is answered late, and later with each one from the same address for the same user;
//! while some are waiting for that answer, further attempts of the same kind wait for their turn. Others
//! (another user, another address, the right password) notice nothing. What is remembered is bounded, and
//! forgotten after a while. It knows no socket.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long the first wrong passwords are left without an answer.
const PAUSE: Duration = Duration::from_millis(200);

/// So many wrong passwords are answered after [`PAUSE`]: people mistype.
const MISTYPED_MAX: u32 = 3;

/// The longest pause: a guesser's rate is then [`TURNS`] in this time.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// So many attempts at a time for an address and user that gave wrong passwords.
const TURNS: usize = 4;

/// Wrong passwords are forgotten after so long without another one.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// So many pairs of address and user are remembered: about a megabyte.
const ENTRIES_MAX: usize = 4096;

/// Who gave wrong passwords lately.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    names: RandomState,
    entries: Mutex<HashMap<Key, Entry>>,
}

/// An address (a network, in IPv6, where one host has many) and the hash of a user's name.
type Key = (IpAddr, u64);

#[derive(Debug)]
struct Entry {
    failures: u32,
    last: Instant,
    turns: Arc<Semaphore>,
}

impl Throttle {
    /// Waits for a turn, if there were wrong passwords; the turn lasts until what is returned is dropped.
    pub(super) async fn turn(
        &self,
        now: Instant,
        address: IpAddr,
        user: &str,
    ) -> Option<OwnedSemaphorePermit> {
        let turns = {
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = entries.get(&self.key(address, user))?;
            if entry.is_over(now) {
                return None;
            }
            Arc::clone(&entry.turns)
        };
        turns.acquire_owned().await.ok()
    }

    /// A wrong password: how long to wait before saying so.
    pub(super) fn failed(&self, now: Instant, address: IpAddr, user: &str) -> Duration {
        let key = self.key(address, user);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ENTRIES_MAX && !entries.contains_key(&key) {
            entries.retain(|_, entry| !entry.is_over(now));
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.last).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| entries.len() >= ENTRIES_MAX) {
                entries.remove(&oldest);
            }
        }
        let entry = entries.entry(key).or_insert_with(|| Entry {
            failures: 0,
            last: now,
            turns: Arc::new(Semaphore::new(TURNS)),
        });
        if entry.is_over(now) {
            entry.failures = 0;
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.last = now;
        let doublings = entry.failures.saturating_sub(MISTYPED_MAX).min(16);
        PAUSE.saturating_mul(1 << doublings).min(PAUSE_MAX)
    }

    fn key(&self, address: IpAddr, user: &str) -> Key {
        let network = match address {
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(address) => IpAddr::V4(address),
                None => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
            },
            IpAddr::V4(_) => address,
        };
        (network, self.names.hash_one(user))
    }
}

impl Entry {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= FORGET_AFTER
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const HERE: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 1, 2, 3, 4));
    const SAME: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 9, 9, 9, 9));
    const THERE: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 1, 2, 3, 4));

    fn turn(
        throttle: &Throttle,
        now: Instant,
        address: IpAddr,
        user: &str,
    ) -> Poll<Option<OwnedSemaphorePermit>> {
        let waiting = std::pin::pin!(throttle.turn(now, address, user));
        waiting.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn each_wrong_password_costs_more_up_to_a_bound() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let pauses: Vec<u128> =
            (0..10).map(|_| throttle.failed(now, HERE, "bot").as_millis()).collect();
        assert_eq!(pauses, [200, 200, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(throttle.failed(now, SAME, "bot").as_millis(), 5000);
        assert_eq!(throttle.failed(now, THERE, "bot").as_millis(), 200);
        assert_eq!(throttle.failed(now, HERE, "other").as_millis(), 200);
        let later = now + FORGET_AFTER;
        assert_eq!(throttle.failed(later, HERE, "bot").as_millis(), 200);
    }

    #[test]
    fn guessers_take_turns_and_others_don_t_wait() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        assert!(matches!(turn(&throttle, now, HERE, "bot"), Poll::Ready(None)));
        throttle.failed(now, HERE, "bot");
        let turns: Vec<_> = (0..TURNS).map(|_| turn(&throttle, now, HERE, "bot")).collect();
        assert!(turns.iter().all(|turn| matches!(turn, Poll::Ready(Some(_)))));
        assert!(turn(&throttle, now, SAME, "bot").is_pending());
        assert!(matches!(turn(&throttle, now, THERE, "bot"), Poll::Ready(None)));
        assert!(matches!(turn(&throttle, now, HERE, "other"), Poll::Ready(None)));
        drop(turns);
        assert!(matches!(turn(&throttle, now, HERE, "bot"), Poll::Ready(Some(_))));
        assert!(matches!(turn(&throttle, now + FORGET_AFTER, HERE, "bot"), Poll::Ready(None)));
    }

    #[test]
    fn memory_is_bounded() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..ENTRIES_MAX as u64 + 10 {
            throttle.failed(now + Duration::from_millis(n), HERE, &n.to_string());
        }
        assert_eq!(throttle.entries.lock().unwrap().len(), ENTRIES_MAX);
        let now = now + Duration::from_secs(60);
        assert!(matches!(turn(&throttle, now, HERE, "0"), Poll::Ready(None)));
        assert!(matches!(turn(&throttle, now, HERE, "4100"), Poll::Ready(Some(_))));
        throttle.failed(now + FORGET_AFTER, HERE, "last");
        assert_eq!(throttle.entries.lock().unwrap().len(), 1);
    }
}
