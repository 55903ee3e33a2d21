//! Pages of a directory: small open-addressed tables, packed as tightly as their keys allow.
//!
//! Main types: [`Page`], [`Fixed`] (keys of as many bytes as their type has), [`Texts`]. A page finds a key
//! by linear probing from a place that the high half of its hash gives; the low half has led to the page.
//! Invariant: at least a quarter of the slots is free, so every search ends.

use std::hash::Hasher as _;

/// A free slot's home. No shard has this id.
pub(super) const FREE: i16 = i16::MIN;

/// A page grows to this share of free slots, in percent of the slots used.
const GROWN_PERCENT: usize = 160;

/// The smallest page.
const SLOTS_MIN: usize = 4;

/// What a tree of pages needs of them.
pub(super) trait Page: Clone + Default {
    /// A key as the page is asked for it.
    type Key: ?Sized;

    /// A hash of the key: the same key, the same hash.
    fn hash(key: &Self::Key) -> u64;

    /// The home of a key.
    fn find(&self, hash: u64, key: &Self::Key) -> Option<i16>;

    /// Records a key; gives the home that it had.
    fn put(&mut self, hash: u64, key: &Self::Key, home: i16) -> Option<i16>;

    /// Forgets a key; gives the home that it had.
    fn remove(&mut self, hash: u64, key: &Self::Key) -> Option<i16>;

    /// How many keys it has.
    fn len(&self) -> usize;

    /// Every key and its home.
    fn iter(&self) -> impl Iterator<Item = (&Self::Key, i16)>;

    /// What it takes of memory besides itself.
    fn heap_bytes(&self) -> usize;
}

/// Mixes all bits into all bits (the finalizer of `SplitMix64`).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The slot where a search begins: the hash's high half, scaled to the number of slots.
fn first_slot(hash: u64, slots: usize) -> usize {
    (((hash >> 32) * slots as u64) >> 32) as usize
}

/// Whether one more key would leave less than a quarter free.
fn is_full(used: usize, slots: usize) -> bool {
    (used + 1) * 4 > slots * 3
}

fn grown(used: usize) -> usize {
    ((used + 1) * GROWN_PERCENT / 100).max(SLOTS_MIN)
}

/// The first slot in the order of a search that is what is looked for; there is always a free one.
#[inline]
fn probe<S: Copy>(slots: &[S], hash: u64, is: impl Fn(S) -> bool) -> Option<(usize, S)> {
    let mut at = first_slot(hash, slots.len());
    for _ in 0..slots.len() {
        let slot = *slots.get(at)?;
        if is(slot) {
            return Some((at, slot));
        }
        at += 1;
        if at == slots.len() {
            at = 0;
        }
    }
    None
}

/// A page of keys of a fixed length.
#[derive(Clone, Default)]
pub(super) struct Fixed<const N: usize> {
    slots: Box<[Slot<N>]>,
    used: u32,
}

/// Bytes only, so that nothing is lost to alignment.
#[derive(Clone, Copy)]
struct Slot<const N: usize> {
    key: [u8; N],
    home: [u8; 2],
}

impl<const N: usize> Slot<N> {
    const FREE: Self = Self { key: [0; N], home: FREE.to_ne_bytes() };

    fn home(self) -> i16 {
        i16::from_ne_bytes(self.home)
    }
}

impl<const N: usize> Fixed<N> {
    /// The slot of a key, or the free one where it belongs.
    fn slot(&self, hash: u64, key: &[u8; N]) -> Option<usize> {
        let found = probe(&self.slots, hash, |slot| slot.home() == FREE || slot.key == *key);
        found.map(|(at, _)| at)
    }

    fn rebuilt(&self, slots: usize, without: Option<&[u8; N]>) -> Self {
        let mut page = Self { slots: vec![Slot::FREE; slots].into_boxed_slice(), used: 0 };
        for (key, home) in self.iter().filter(|(key, _)| Some(*key) != without) {
            page.fill(Self::hash(key), key, home);
        }
        page
    }

    /// There must be a free slot.
    fn fill(&mut self, hash: u64, key: &[u8; N], home: i16) -> Option<i16> {
        let at = self.slot(hash, key)?;
        let slot = self.slots.get_mut(at)?;
        let old = slot.home();
        *slot = Slot { key: *key, home: home.to_ne_bytes() };
        if old != FREE {
            return Some(old);
        }
        self.used += 1;
        None
    }
}

impl<const N: usize> Page for Fixed<N> {
    type Key = [u8; N];

    fn hash(key: &[u8; N]) -> u64 {
        let mut hash = 0;
        for chunk in key.chunks_exact(8) {
            let word = chunk.try_into().map_or(0, u64::from_ne_bytes);
            hash = mix(hash ^ word);
        }
        hash
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u8; N]) -> Option<i16> {
        let found = probe(&self.slots, hash, |slot| slot.key == *key || slot.home() == FREE);
        found.map(|(_, slot)| slot.home()).filter(|home| *home != FREE)
    }

    fn put(&mut self, hash: u64, key: &[u8; N], home: i16) -> Option<i16> {
        if is_full(self.used as usize, self.slots.len()) {
            *self = self.rebuilt(grown(self.used as usize), None);
        }
        self.fill(hash, key, home)
    }

    fn remove(&mut self, hash: u64, key: &[u8; N]) -> Option<i16> {
        let old = self.find(hash, key)?;
        *self = self.rebuilt(self.slots.len(), Some(key));
        Some(old)
    }

    fn len(&self) -> usize {
        self.used as usize
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8; N], i16)> {
        self.slots.iter().map(|slot| (&slot.key, slot.home())).filter(|(_, home)| *home != FREE)
    }

    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }
}

/// A page of texts: slots that point into one piece of memory.
#[derive(Clone, Default)]
pub(super) struct Texts {
    slots: Box<[TextSlot]>,
    /// Texts one after the other, each after its length (seven bits a byte, the lowest first, the high bit
    /// set on all but the last).
    memory: Vec<u8>,
    used: u32,
}

#[derive(Clone, Copy)]
struct TextSlot {
    at: u32,
    /// Some of the hash's bits, so that few other texts are looked at.
    tag: u16,
    home: i16,
}

impl TextSlot {
    const FREE: Self = Self { at: 0, tag: 0, home: FREE };
}

/// Bits that neither choose the page nor, mostly, the slot.
fn tag(hash: u64) -> u16 {
    (hash >> 24) as u16
}

impl Texts {
    fn bytes(&self, at: u32) -> &[u8] {
        let mut rest = self.memory.get(at as usize..).unwrap_or_default();
        let (mut length, mut shift) = (0usize, 0u32);
        while let [byte, tail @ ..] = rest {
            length |= usize::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
            shift += 7;
            rest = tail;
            if byte & 0x80 == 0 {
                break;
            }
        }
        rest.get(..length).unwrap_or_default()
    }

    fn text(&self, at: u32) -> &str {
        std::str::from_utf8(self.bytes(at)).unwrap_or_default()
    }

    /// Appends a text with no more memory than an eighth to spare.
    fn append(&mut self, text: &str) -> u32 {
        let at = self.memory.len();
        let needed = text.len() + 5;
        if self.memory.capacity() - at < needed {
            self.memory.reserve_exact(needed + at / 8);
        }
        let mut length = text.len();
        while length > 0x7f {
            self.memory.push(0x80 | (length & 0x7f) as u8);
            length >>= 7;
        }
        self.memory.push(length as u8);
        self.memory.extend_from_slice(text.as_bytes());
        at as u32
    }

    #[inline]
    fn slot(&self, hash: u64, key: &str) -> Option<(usize, TextSlot)> {
        let tag = tag(hash);
        probe(&self.slots, hash, |slot| {
            slot.home == FREE || (slot.tag == tag && self.bytes(slot.at) == key.as_bytes())
        })
    }

    fn rebuilt(&self, slots: usize, without: Option<&str>) -> Self {
        let slots = vec![TextSlot::FREE; slots].into_boxed_slice();
        let mut page = Self { slots, memory: Vec::with_capacity(self.memory.len()), used: 0 };
        for (key, home) in self.iter().filter(|(key, _)| Some(*key) != without) {
            page.fill(Self::hash(key), key, home);
        }
        page
    }

    fn fill(&mut self, hash: u64, key: &str, home: i16) -> Option<i16> {
        let (index, slot) = self.slot(hash, key)?;
        let at = if slot.home == FREE { self.append(key) } else { slot.at };
        *self.slots.get_mut(index)? = TextSlot { at, tag: tag(hash), home };
        if slot.home != FREE {
            return Some(slot.home);
        }
        self.used += 1;
        None
    }
}

impl Page for Texts {
    type Key = str;

    fn hash(key: &str) -> u64 {
        let mut hasher = rustc_hash::FxHasher::default();
        hasher.write(key.as_bytes());
        mix(hasher.finish())
    }

    #[inline]
    fn find(&self, hash: u64, key: &str) -> Option<i16> {
        let (_, slot) = self.slot(hash, key)?;
        (slot.home != FREE).then_some(slot.home)
    }

    fn put(&mut self, hash: u64, key: &str, home: i16) -> Option<i16> {
        if is_full(self.used as usize, self.slots.len()) {
            *self = self.rebuilt(grown(self.used as usize), None);
        }
        self.fill(hash, key, home)
    }

    fn remove(&mut self, hash: u64, key: &str) -> Option<i16> {
        let old = self.find(hash, key)?;
        *self = self.rebuilt(self.slots.len(), Some(key));
        Some(old)
    }

    fn len(&self) -> usize {
        self.used as usize
    }

    fn iter(&self) -> impl Iterator<Item = (&str, i16)> {
        let used = self.slots.iter().filter(|slot| slot.home != FREE);
        used.map(|slot| (self.text(slot.at), slot.home))
    }

    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.slots) + self.memory.capacity()
    }
}
