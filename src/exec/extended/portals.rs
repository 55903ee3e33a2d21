//! A client's portals, by name. The unnamed one, which most statements run in, is found without hashing.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::exec::foregone::Constant;
use crate::exec::planner::Entry;
use crate::exec::set_config::Settings;
use crate::exec::spool::Spool;
use crate::map::ShardId;

/// A client's portal.
pub(in crate::exec) enum Portal {
    /// On a shard.
    Shard {
        /// COPY … FROM STDIN: its Execute waits for data.
        copies: bool,
        /// Which one, where the transaction is on several.
        shard: Option<ShardId>,
    },
    /// Ours.
    Local { entry: Arc<Entry>, text: String, has_run: bool },
    /// EXECUTE of a statement that there is not: its Execute says so.
    Missing(Vec<u8>),
    /// Over several shards, to be run by its Execute.
    Scatter,
    /// Over several shards, and all its rows were given; `once` if it is of what is no query.
    Given { once: bool },
    /// Over several shards, its rows read and kept.
    Spooled(Box<Spool>),
    /// Its answer is known without a shard.
    Constant(Constant),
    /// It sets the session's key.
    Settings(Box<Settings>),
}

impl Portal {
    /// Of a statement that the session carries out itself, or sees carried out.
    pub(super) fn local(entry: Arc<Entry>, text: String) -> Self {
        Self::Local { entry, text, has_run: false }
    }

    /// The transaction goes on on other shards: a portal stays where it is.
    pub(in crate::exec) fn bound_on(&mut self, first: ShardId) {
        if let Self::Shard { shard, .. } = self {
            shard.get_or_insert(first);
        }
    }
}

/// The portals that are open.
#[derive(Default)]
pub(in crate::exec) struct Portals {
    unnamed: Option<Portal>,
    /// Made when it is first needed.
    named: Option<Box<FxHashMap<Vec<u8>, Portal>>>,
}

impl Portals {
    pub(in crate::exec) fn get(&self, name: &[u8]) -> Option<&Portal> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.as_ref()?.get(name) }
    }

    pub(in crate::exec) fn get_mut(&mut self, name: &[u8]) -> Option<&mut Portal> {
        if name.is_empty() { self.unnamed.as_mut() } else { self.named.as_mut()?.get_mut(name) }
    }

    pub(in crate::exec) fn is_empty(&self) -> bool {
        self.unnamed.is_none() && self.named.as_ref().is_none_or(|named| named.is_empty())
    }

    pub(in crate::exec) fn contains(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    pub(in crate::exec) fn insert(&mut self, name: &[u8], portal: Portal) {
        if name.is_empty() {
            self.unnamed = Some(portal);
        } else {
            self.named.get_or_insert_default().insert(name.to_vec(), portal);
        }
    }

    /// A portal over several shards has been run to its end.
    pub(in crate::exec) fn give(&mut self, once: bool) {
        for portal in self.values_mut().filter(|portal| matches!(portal, Portal::Scatter)) {
            *portal = Portal::Given { once };
        }
    }

    pub(in crate::exec) fn remove(&mut self, name: &[u8]) -> Option<Portal> {
        if name.is_empty() { self.unnamed.take() } else { self.named.as_mut()?.remove(name) }
    }

    pub(in crate::exec) fn values_mut(&mut self) -> impl Iterator<Item = &mut Portal> {
        let named = self.named.iter_mut().flat_map(|named| named.values_mut());
        self.unnamed.iter_mut().chain(named)
    }

    /// Keeps those of which `keep` says so.
    pub(in crate::exec) fn retain(&mut self, keep: impl Fn(&Portal) -> bool) {
        self.unnamed = self.unnamed.take().filter(|portal| keep(portal));
        if let Some(named) = &mut self.named {
            named.retain(|_, portal| keep(portal));
        }
    }

    pub(in crate::exec) fn clear(&mut self) {
        self.unnamed = None;
        if let Some(named) = &mut self.named {
            named.clear();
        }
    }
}
