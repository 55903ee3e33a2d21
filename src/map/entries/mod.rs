//! The rows of a directory: on which shard a key is recorded, for millions of keys.
//!
//! Main type: [`Entries`], a persistent map. A clone costs a counter; a change of a clone copies one page
//! and the path to it and leaves the rest shared, so a row of ten million changes in microseconds while
//! readers go on with the snapshot they have. Inside it is a tree of 64 children a level, by the low bits
//! of the key's hash, with pages ([`page`]) of up to some thousand keys as leaves: 14 to 17 bytes for an
//! integer, one cache line or two for a look-up.
//!
//! A key's home is the *id* of a shard as the map file and `shard_config` have it, not its index in a map:
//! shards come and go without a touch of their tenants' rows. It knows no other part of the map.

mod page;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::datum::{KeyType, KeyValue};
use page::{Fixed, Page, Texts};

/// Bits of the hash that a level of the tree takes.
const LEVEL_BITS: u32 = 6;
const FANOUT: usize = 1 << LEVEL_BITS;

/// A page with more keys is divided: what a change of one row copies is bounded by it (80 kB for integers).
const PAGE_KEYS_MAX: usize = 8192;

/// The low half of the hash leads to the page; the high half finds the slot in it.
const DEPTH_MAX: u32 = 32 / LEVEL_BITS;

/// Recorded keys and the ids of their shards.
#[derive(Clone)]
pub struct Entries {
    tree: Tree,
    /// Keys by home; none is zero.
    counts: BTreeMap<i16, u64>,
}

#[derive(Clone)]
enum Tree {
    Int(Arc<Node<Fixed<8>>>),
    Uuid(Arc<Node<Fixed<16>>>),
    Text(Arc<Node<Texts>>),
}

#[derive(Clone)]
enum Node<P> {
    Page(P),
    Inner(Box<[Arc<Node<P>>; FANOUT]>),
}

/// A key whose home is another one than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The key.
    pub key: KeyValue<'static>,
    /// The id of its shard before; none when it was not recorded.
    pub from: Option<i16>,
    /// The id of its shard now; none when it is not recorded any more.
    pub to: Option<i16>,
}

impl Entries {
    /// No keys, of this type.
    pub fn new(ty: KeyType) -> Self {
        let tree = match ty {
            KeyType::BigInt | KeyType::Integer | KeyType::SmallInt => Tree::Int(Arc::default()),
            KeyType::Uuid => Tree::Uuid(Arc::default()),
            KeyType::Text | KeyType::Varchar => Tree::Text(Arc::default()),
        };
        Self { tree, counts: BTreeMap::new() }
    }

    /// The id of the shard that the key is recorded on.
    #[inline]
    pub fn find(&self, key: &KeyValue<'_>) -> Option<i16> {
        match (&self.tree, key) {
            (Tree::Int(root), KeyValue::Int(value)) => root.find(&value.to_ne_bytes()),
            (Tree::Uuid(root), KeyValue::Uuid(value)) => root.find(value),
            (Tree::Text(root), KeyValue::Text(value)) => root.find(value),
            _ => None,
        }
    }

    /// Records a key; gives the home that it had. A key of another type is not recorded, and no shard has
    /// the id -32768.
    pub fn put(&mut self, key: &KeyValue<'_>, home: i16) -> Option<i16> {
        if home == page::FREE {
            return None;
        }
        let old = match (&mut self.tree, key) {
            (Tree::Int(root), KeyValue::Int(value)) => put(root, &value.to_ne_bytes(), home),
            (Tree::Uuid(root), KeyValue::Uuid(value)) => put(root, value, home),
            (Tree::Text(root), KeyValue::Text(value)) => put(root, value.as_ref(), home),
            _ => return None,
        };
        if let Some(old) = old {
            self.uncount(old);
        }
        *self.counts.entry(home).or_default() += 1;
        old
    }

    /// Forgets a key; gives the home that it had.
    pub fn remove(&mut self, key: &KeyValue<'_>) -> Option<i16> {
        // What isn't there needs no copy of a page.
        self.find(key)?;
        let old = match (&mut self.tree, key) {
            (Tree::Int(root), KeyValue::Int(value)) => remove(root, &value.to_ne_bytes()),
            (Tree::Uuid(root), KeyValue::Uuid(value)) => remove(root, value),
            (Tree::Text(root), KeyValue::Text(value)) => remove(root, value.as_ref()),
            _ => None,
        }?;
        self.uncount(old);
        Some(old)
    }

    fn uncount(&mut self, home: i16) {
        if let Some(count) = self.counts.get_mut(&home) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&home);
            }
        }
    }

    /// Whether keys of the same type are recorded in both.
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(&self.tree) == std::mem::discriminant(&other.tree)
    }

    /// How many keys are recorded.
    pub fn len(&self) -> u64 {
        self.counts.values().sum()
    }

    /// None is.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The ids of the shards that keys are recorded on, ascending, and how many.
    pub fn homes(&self) -> impl Iterator<Item = (i16, u64)> + '_ {
        self.counts.iter().map(|(home, count)| (*home, *count))
    }

    /// Every key and its home, in no order.
    pub fn rows(&self) -> Box<dyn Iterator<Item = (KeyValue<'_>, i16)> + '_> {
        match &self.tree {
            Tree::Int(root) => Box::new(root.iter().map(|(key, home)| (int(key), home))),
            Tree::Uuid(root) => Box::new(root.iter().map(|(key, home)| (uuid(key), home))),
            Tree::Text(root) => Box::new(root.iter().map(|(key, home)| (text(key), home))),
        }
    }

    /// Every key whose home is another one than in `before`, in no order. What both share costs nothing.
    pub fn moved_since(&self, before: &Self) -> Vec<Moved> {
        match (&before.tree, &self.tree) {
            (Tree::Int(old), Tree::Int(new)) => moved(old, new, int),
            (Tree::Uuid(old), Tree::Uuid(new)) => moved(old, new, uuid),
            (Tree::Text(old), Tree::Text(new)) => moved(old, new, text),
            _ => {
                let gone = before.rows().map(|(key, home)| Moved {
                    key: key.into_owned(),
                    from: Some(home),
                    to: None,
                });
                let come = self.rows().map(|(key, home)| Moved {
                    key: key.into_owned(),
                    from: None,
                    to: Some(home),
                });
                gone.chain(come).collect()
            }
        }
    }

    /// What the entries take of memory, in bytes.
    pub fn memory_bytes(&self) -> usize {
        match &self.tree {
            Tree::Int(root) => root.memory_bytes(),
            Tree::Uuid(root) => root.memory_bytes(),
            Tree::Text(root) => root.memory_bytes(),
        }
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("homes", &self.counts).finish_non_exhaustive()
    }
}

fn int(key: &[u8; 8]) -> KeyValue<'_> {
    KeyValue::Int(i64::from_ne_bytes(*key))
}

fn uuid(key: &[u8; 16]) -> KeyValue<'_> {
    KeyValue::Uuid(*key)
}

fn text(key: &str) -> KeyValue<'_> {
    KeyValue::Text(key.into())
}

impl<P: Page> Default for Node<P> {
    fn default() -> Self {
        Self::Page(P::default())
    }
}

impl<P: Page> Node<P> {
    #[inline]
    fn find(&self, key: &P::Key) -> Option<i16> {
        let hash = P::hash(key);
        let (mut node, mut bits) = (self, hash);
        loop {
            match node {
                Self::Page(page) => return page.find(hash, key),
                Self::Inner(children) => {
                    node = &children[bits as usize % FANOUT];
                    bits >>= LEVEL_BITS;
                }
            }
        }
    }

    /// Its pages, each with its address: two trees share a page when both have its address.
    fn pages<'n>(self: &'n Arc<Self>, found: &mut Vec<(*const Self, &'n P)>) {
        match &**self {
            Self::Page(page) => found.push((Arc::as_ptr(self), page)),
            Self::Inner(children) => children.iter().for_each(|child| child.pages(found)),
        }
    }

    fn iter<'n>(self: &'n Arc<Self>) -> impl Iterator<Item = (&'n P::Key, i16)>
    where
        P: 'n,
    {
        let mut pages = Vec::new();
        self.pages(&mut pages);
        pages.into_iter().flat_map(|(_, page)| page.iter())
    }

    fn memory_bytes(&self) -> usize {
        // An Arc has two counters.
        let own = size_of::<Self>() + 2 * size_of::<usize>();
        own + match self {
            Self::Page(page) => page.heap_bytes(),
            Self::Inner(children) => {
                let below: usize = children.iter().map(|child| child.memory_bytes()).sum();
                size_of_val(&**children) + below
            }
        }
    }
}

fn put<P: Page>(root: &mut Arc<Node<P>>, key: &P::Key, home: i16) -> Option<i16> {
    let hash = P::hash(key);
    put_below(root, 0, hash, key, home)
}

fn put_below<P: Page>(
    node: &mut Arc<Node<P>>,
    depth: u32,
    hash: u64,
    key: &P::Key,
    home: i16,
) -> Option<i16> {
    match Arc::make_mut(node) {
        Node::Inner(children) => {
            let child = &mut children[child_at(hash, depth)];
            put_below(child, depth + 1, hash, key, home)
        }
        Node::Page(page) => {
            let old = page.put(hash, key, home);
            if page.len() > PAGE_KEYS_MAX && depth < DEPTH_MAX {
                let divided = divided(page, depth);
                *node = Arc::new(divided);
            }
            old
        }
    }
}

fn child_at(hash: u64, depth: u32) -> usize {
    (hash >> (depth * LEVEL_BITS)) as usize % FANOUT
}

fn divided<P: Page>(page: &P, depth: u32) -> Node<P> {
    let mut pages: [P; FANOUT] = std::array::from_fn(|_| P::default());
    for (key, home) in page.iter() {
        let hash = P::hash(key);
        pages[child_at(hash, depth)].put(hash, key, home);
    }
    Node::Inner(Box::new(pages.map(|page| Arc::new(Node::Page(page)))))
}

fn remove<P: Page>(root: &mut Arc<Node<P>>, key: &P::Key) -> Option<i16> {
    let hash = P::hash(key);
    let (mut node, mut depth) = (root, 0);
    loop {
        match Arc::make_mut(node) {
            Node::Page(page) => return page.remove(hash, key),
            Node::Inner(children) => {
                node = &mut children[child_at(hash, depth)];
                depth += 1;
            }
        }
    }
}

fn moved<P: Page>(
    before: &Arc<Node<P>>,
    after: &Arc<Node<P>>,
    value: impl for<'k> Fn(&'k P::Key) -> KeyValue<'k>,
) -> Vec<Moved> {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    before.pages(&mut old);
    after.pages(&mut new);
    let addresses = |pages: &[(*const Node<P>, &P)]| {
        pages.iter().map(|(address, _)| *address).collect::<rustc_hash::FxHashSet<_>>()
    };
    let (in_old, in_new) = (addresses(&old), addresses(&new));
    let mut found = Vec::new();
    for (key, to) in new.iter().filter(|(at, _)| !in_old.contains(at)).flat_map(|(_, p)| p.iter()) {
        let from = before.find(key);
        if from != Some(to) {
            found.push(Moved { key: value(key).into_owned(), from, to: Some(to) });
        }
    }
    for (key, from) in old.iter().filter(|(at, _)| !in_new.contains(at)).flat_map(|(_, p)| p.iter())
    {
        if after.find(key).is_none() {
            found.push(Moved { key: value(key).into_owned(), from: Some(from), to: None });
        }
    }
    found
}

#[cfg(test)]
mod tests;
