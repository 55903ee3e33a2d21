//! What the clients of one thread share, and what all threads share.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Executor;
use super::cancel::Cancels;
use super::planner::{Planner, Reading};
use crate::backend::{Pool, Pools};
use crate::config::Config;
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::mapstore::{Store, World};
use crate::observe::Metrics;
use crate::session::Session;
use crate::sql::class::SetValue;

/// What all threads share.
pub struct Shared {
    /// The current map and catalog.
    pub store: Arc<Store>,
    /// The proxy's own settings.
    pub config: Config,
    /// Counters.
    pub metrics: Metrics,
    /// Clients that can be cancelled.
    pub cancels: Arc<Cancels>,
}

/// What the clients of one thread share.
pub struct Worker {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// This thread's connections.
    pub pools: Pools,
}

/// Most ways of reading that are remembered; numbers are never used twice, so forgetting is safe.
const READINGS_MAX: usize = 10_000;

thread_local! {
    static PLANNER: RefCell<Planner> = RefCell::new(Planner::default());
}

/// Runs `f` with this thread's planner. `f` must not await.
pub(super) fn with_planner<R>(f: impl FnOnce(&mut Planner) -> R) -> R {
    PLANNER.with_borrow_mut(f)
}

/// A client's way to the pools of its user: an index instead of a look-up, for as long as the world
/// stays the same.
pub(super) struct ClientPools {
    user: String,
    world: u64,
    pools: Vec<Option<Arc<Pool>>>,
}

impl ClientPools {
    pub(super) fn new(user: &str) -> Self {
        Self { user: user.to_owned(), world: 0, pools: Vec::new() }
    }

    /// The pool for a shard of this world.
    pub(super) fn pool(
        &mut self,
        worker: &Worker,
        world: &World,
        shard: ShardId,
    ) -> Result<&Arc<Pool>, SqlError> {
        if self.world != world.version {
            self.world = world.version;
            self.pools.clear();
            self.pools.resize(world.map.shards().len(), None);
        }
        let slot = self
            .pools
            .get_mut(usize::from(shard.0))
            .ok_or_else(|| SqlError::new(SqlState::INTERNAL_ERROR, "no such shard"))?;
        if slot.is_none() {
            *slot = Some(worker.pools.pool(&world.map, shard, &self.user, &worker.shared.config)?);
        }
        slot.as_ref().ok_or_else(|| SqlError::new(SqlState::INTERNAL_ERROR, "no such pool"))
    }
}

/// What a session's settings say about reading its statements.
pub(super) fn reading(session: &Session) -> Reading {
    let settings = session.settings.current();
    let search_path: Vec<String> = match settings.value("search_path") {
        Some(text) => split_identifiers(text),
        None => vec!["$user".to_owned(), "public".to_owned()],
    };
    let user = match settings.value("role") {
        Some(role) => split_identifiers(role).pop().unwrap_or_else(|| session.user.clone()),
        None => session.user.clone(),
    };
    let is = |name: &str, wanted: &[&str]| {
        settings.value(name).is_none_or(|value| {
            let value = value.trim_matches('\'').to_ascii_lowercase();
            wanted.contains(&value.as_str())
        })
    };
    let standard_strings = is("standard_conforming_strings", &["on", "true", "yes", "1"]);
    Reading {
        id: reading_id(&search_path, &user, standard_strings),
        search_path: search_path.into(),
        user: user.into(),
        standard_strings,
        utf8: is("client_encoding", &["utf8", "utf-8", "unicode"]),
        settings: settings.id(),
    }
}

/// Equal ways to read share a number, and with it the analyses of a thread's cache.
fn reading_id(search_path: &[String], user: &str, standard_strings: bool) -> u64 {
    type Known = HashMap<(Vec<String>, String, bool), u64>;
    static KNOWN: Mutex<Option<Known>> = Mutex::new(None);
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Whose names nobody can tell apart are one reader.
    let user = if search_path.iter().any(|schema| schema == "$user") { user } else { "" };
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if known.len() >= READINGS_MAX {
        known.clear();
    }
    *known
        .entry((search_path.to_vec(), user.to_owned(), standard_strings))
        .or_insert_with(|| NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The same, if the settings are others than those `old` was made of.
pub(super) fn reading_if_changed(session: &Session, old: &Reading) -> Reading {
    if session.settings.current().id() == old.settings { old.clone() } else { reading(session) }
}

/// A list of identifiers or string literals, as `SET search_path TO` takes it.
fn split_identifiers(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut chars = text.chars().peekable();
    let mut name = String::new();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' | '\'' => {
                quoted = true;
                while let Some(inner) = chars.next() {
                    if inner != c {
                        name.push(inner);
                    } else if chars.peek() == Some(&c) {
                        chars.next();
                        name.push(c);
                    } else {
                        break;
                    }
                }
            }
            ',' => {
                names.push(std::mem::take(&mut name));
                quoted = false;
            }
            c if c.is_whitespace() => {}
            c => name.extend(if quoted { c.to_string() } else { c.to_lowercase().to_string() }.chars()),
        }
    }
    if !name.is_empty() || quoted {
        names.push(name);
    }
    names.retain(|name| !name.is_empty());
    names
}

/// A start-up value as SQL text: lists become lists of literals.
pub fn startup_value(name: &str, value: &str) -> String {
    use crate::session::settings::quote_literal;
    if !matches!(name, "search_path" | "datestyle") {
        return quote_literal(value);
    }
    let parts: Vec<String> = split_identifiers(value).iter().map(|part| quote_literal(part)).collect();
    if parts.is_empty() { quote_literal("") } else { parts.join(", ") }
}

impl Executor {
    /// Reads the catalog again if nobody did so just now; true if this client's world is newer than
    /// before.
    ///
    /// # Errors
    ///
    /// The schema was never read, and can't be now: nothing can be routed.
    pub(super) async fn refresh_world(&mut self) -> Result<bool, SqlError> {
        if self.session.transaction.shard().is_some() && self.world.catalog_known {
            return Ok(false);
        }
        let seen = self.world.version;
        match self.worker.shared.store.refresh_catalog(seen, false).await {
            Ok(world) => {
                let newer = world.version != seen;
                self.world = world;
                Ok(newer)
            }
            Err(_) if self.world.catalog_known => Ok(false),
            Err(_) => {
                let map = &self.world.map;
                Err(SqlError::new(
                    SqlState::CANNOT_CONNECT_NOW,
                    "the schema has not been read yet",
                )
                .detail(format!(
                    "It is read from the default shard \"{}\", which can't be reached.",
                    map.shard(map.default_shard()).name
                )))
            }
        }
    }

    /// Once a change of the schema is committed, the next statement must know it.
    pub(super) async fn after_schema_change(&mut self) {
        if !self.session.schema_changed || self.session.transaction.is_open() {
            return;
        }
        self.session.schema_changed = false;
        let seen = self.worker.shared.store.version();
        if let Err(error) = self.worker.shared.store.refresh_catalog(seen, true).await {
            tracing::warn!(%error, "the schema could not be read again after a change");
        }
    }
}

/// The value of a SET as a plain word.
pub(super) fn plain(value: &SetValue) -> Option<&str> {
    match value {
        SetValue::Default => None,
        SetValue::One(text) | SetValue::Raw(text) => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifier_lists_are_read_as_postgresql_reads_them() {
        let check = |text: &str, expect: &[&str]| assert_eq!(split_identifiers(text), expect, "{text}");
        check("a, B", &["a", "b"]);
        check("'a, b', \"C\"\"d\"", &["a, b", "C\"d"]);
        check("\"$user\", public", &["$user", "public"]);
        check("''", &[]);
    }

    #[test]
    fn start_up_lists_stay_lists() {
        assert_eq!(startup_value("search_path", "\"$user\", app"), "'$user', 'app'");
        assert_eq!(startup_value("application_name", "a, b"), "'a, b'");
    }
}
