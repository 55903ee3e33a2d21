//! What the clients of one thread share, and what all threads share.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Executor;
use super::cancel::Cancels;
use super::clients::Clients;
use super::databases::Databases;
use super::extended::Unit;
use super::planner::{Planner, Reading};
use super::recovery::Commits;
use super::statements::Registry;
use crate::backend::{Books, Login, Pool, PoolSettings, Pools, ShardPools};
use crate::config::{Config, Password, Secret, User};
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::mapstore::{Store, World};
use crate::session::Session;
use crate::sql::class::SetValue;
use crate::wire::scram::Verifier;
use crate::wire::scram::client::Keys;

/// A user who may log in.
#[derive(Debug)]
pub struct Account {
    /// As configured.
    pub user: User,
    /// What a password is checked against, computed once; without one nobody gets in by SCRAM.
    pub verifier: Option<Verifier>,
    /// The same for md5, where that is allowed.
    pub md5: Option<Secret>,
    /// What the first who logged in by SCRAM has shown of the password: enough to log in on shards that
    /// have the same verifier.
    pub keys: OnceLock<Keys>,
    /// Clients of this user that are connected.
    pub clients: Arc<AtomicUsize>,
}

impl Account {
    /// A user whom nobody has logged in as yet. `md5` says whether that method is in use.
    pub fn new(user: User, md5: bool) -> Self {
        let password = user.password.as_ref();
        let verifier = password.and_then(Password::verifier);
        let md5 = password.filter(|_| md5).and_then(|password| password.md5(&user.name));
        Self { user, verifier, md5, keys: OnceLock::new(), clients: Arc::default() }
    }
}

/// What all threads share.
pub struct Shared {
    /// The current map and catalog.
    pub store: Arc<Store>,
    /// The proxy's own settings.
    pub config: Arc<Config>,
    /// Who may log in.
    pub accounts: Arc<HashMap<String, Account>>,
    /// Random, for the salts of users that don't exist.
    pub mock_secret: [u8; 32],
    /// Clients that can be cancelled.
    pub cancels: Arc<Cancels>,
    /// Set when the process is asked to end.
    pub draining: Arc<AtomicBool>,
    /// Wakes the clients that wait, to look whether the process ends or they are to go.
    pub drain: Arc<Notify>,
    /// Wakes whoever can end the process.
    pub shutdown: Arc<Notify>,
    /// Who is connected.
    pub clients: Arc<Clients>,
    /// What is known of shards and connections.
    pub books: Arc<Books>,
    /// Transactions that are committed on several shards.
    pub commits: Arc<Commits>,
    pub(super) workers: Arc<Mutex<Vec<Weak<Worker>>>>,
}

impl Shared {
    /// What threads will share, who have no clients yet.
    pub fn new(store: Arc<Store>, config: Config, accounts: HashMap<String, Account>) -> Self {
        Self {
            store,
            accounts: Arc::new(accounts),
            config: Arc::new(config),
            mock_secret: rand::random(),
            cancels: Arc::default(),
            draining: Arc::default(),
            drain: Arc::default(),
            shutdown: Arc::default(),
            clients: Arc::default(),
            books: Arc::default(),
            commits: Arc::default(),
            workers: Arc::default(),
        }
    }

    /// The same for a store of its own: clients of another database, among all the others.
    pub(super) fn beside(&self, store: Arc<Store>) -> Self {
        Self {
            store,
            config: Arc::clone(&self.config),
            accounts: Arc::clone(&self.accounts),
            mock_secret: self.mock_secret,
            cancels: Arc::clone(&self.cancels),
            draining: Arc::clone(&self.draining),
            drain: Arc::clone(&self.drain),
            shutdown: Arc::clone(&self.shutdown),
            clients: Arc::clone(&self.clients),
            books: Arc::clone(&self.books),
            commits: Arc::clone(&self.commits),
            workers: Arc::clone(&self.workers),
        }
    }

    /// Remembers a thread's part, for commands that concern all threads.
    pub fn enlist(&self, worker: &Arc<Worker>) {
        let mut workers = self.lock_workers();
        workers.retain(|known| known.strong_count() > 0);
        workers.push(Arc::downgrade(worker));
    }

    /// The pools of every thread.
    pub fn pools(&self) -> Vec<Arc<Pools>> {
        let workers = self.lock_workers();
        workers.iter().filter_map(Weak::upgrade).map(|worker| worker.current_pools()).collect()
    }

    pub(super) fn lock_workers(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Worker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Most ways of reading that are remembered; numbers are never used twice, so forgetting is safe.
const READINGS_MAX: usize = 10_000;

/// What the clients of one thread share.
pub struct Worker {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// This thread's connections, for the world of that version.
    pools: Mutex<(u64, Arc<Pools>)>,
    /// Statements that may run over scratch tables at a time: each holds one connection to the home shard
    /// while it waits for another, and with all of them taken they would wait for each other.
    pub(super) workspaces: tokio::sync::Semaphore,
    /// What clients were told when they logged in, by user and start-up settings.
    greetings: Mutex<HashMap<(String, u64), Greeting>>,
    /// Databases that are routed by name.
    pub(super) databases: Mutex<Databases>,
}

/// What a server reports when a client logs in.
struct Greeting {
    map: u64,
    since: Instant,
    parameters: Arc<Vec<(String, String)>>,
}

/// How long a greeting is believed: a server may be restarted with other defaults.
const GREETING_TTL: Duration = Duration::from_secs(10);

/// Most greetings that are remembered.
const GREETINGS_MAX: usize = 1_000;

impl Worker {
    /// A thread without connections yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        let settings = PoolSettings::from(&*shared.config);
        let pools = Pools::with_books(settings, Arc::clone(&shared.books), []);
        let pools = Mutex::new((0, Arc::new(pools)));
        let workspaces = tokio::sync::Semaphore::new((shared.config.pool.size / 2).max(1));
        let (greetings, databases) = (Mutex::default(), Mutex::default());
        Self { shared, pools, workspaces, greetings, databases }
    }

    /// What another client with the same user and start-up settings was told just now.
    pub(super) fn greeting(
        &self,
        user: &str,
        settings: u64,
        map: u64,
    ) -> Option<Arc<Vec<(String, String)>>> {
        let greetings = self.greetings.lock().unwrap_or_else(PoisonError::into_inner);
        let known = greetings.get(&(user.to_owned(), settings))?;
        (known.map == map && known.since.elapsed() < GREETING_TTL)
            .then(|| Arc::clone(&known.parameters))
    }

    /// Remembers what a client was told.
    pub(super) fn note_greeting(
        &self,
        user: &str,
        settings: u64,
        map: u64,
        parameters: &Arc<Vec<(String, String)>>,
    ) {
        let mut greetings = self.greetings.lock().unwrap_or_else(PoisonError::into_inner);
        if greetings.len() >= GREETINGS_MAX {
            greetings.clear();
        }
        let greeting = Greeting { map, since: Instant::now(), parameters: Arc::clone(parameters) };
        greetings.insert((user.to_owned(), settings), greeting);
    }

    /// Whoever logs in next is to be told by a server.
    pub(super) fn forget_greetings(&self) {
        self.greetings.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn current_pools(&self) -> Arc<Pools> {
        Arc::clone(&self.pools.lock().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// The pools for a world's shards. With a newer map, shards that have changed get new ones; what was
    /// leased from the old ones ends as it would have.
    fn pools_for(&self, world: &World) -> Arc<Pools> {
        let version = world.map.shards_version();
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.0 != version {
            let shards = world.map.shards().iter();
            let targets = shards.map(|shard| (shard.name.clone(), (&shard.url).into()));
            if version < pools.0 {
                let settings = PoolSettings::from(&*self.shared.config);
                let books = Arc::clone(&self.shared.books);
                return Arc::new(Pools::with_books(settings, books, targets));
            }
            let heirs = pools.1.succeeded_by(targets);
            *pools = (version, Arc::new(heirs));
        }
        Arc::clone(&pools.1)
    }

    /// Closes what was unused for too long.
    pub fn sweep(&self, now: std::time::Instant) {
        // A map that nobody has used yet counts too: what it no longer needs is closed.
        let world = self.shared.store.current();
        self.pools_for(&world).sweep(now);
        self.sweep_databases(now);
    }
}

thread_local! {
    static REGISTRY: RefCell<Registry> = RefCell::new(Registry::new());
    static PLANNER: RefCell<Planner> = RefCell::new(Planner::default());
    #[expect(clippy::vec_box, reason = "they are moved as pointers")]
    static UNITS: RefCell<Vec<Box<Unit>>> = const { RefCell::new(Vec::new()) };
}

/// Units that a thread keeps ready: so many statements of the extended protocol are seldom under way at
/// once, and what one takes is small.
const UNITS_KEPT: usize = 64;

/// Messages that a unit which is kept may have room for.
const KEPT_OPS_MAX: usize = 64;

/// An empty unit, with the room that an earlier one had.
pub(super) fn take_unit() -> Box<Unit> {
    UNITS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// A unit is done with.
pub(super) fn put_back(mut unit: Box<Unit>) {
    unit.clear();
    if unit.ops.capacity() > KEPT_OPS_MAX {
        return;
    }
    UNITS.with_borrow_mut(|units| {
        if units.len() < UNITS_KEPT {
            units.push(unit);
        }
    });
}

/// Runs `f` with this thread's planner. `f` must not await.
pub(super) fn with_planner<R>(f: impl FnOnce(&mut Planner) -> R) -> R {
    PLANNER.with_borrow_mut(f)
}

/// A client's way to the pools of its user: an index instead of a look-up, for as long as the map stays
/// the same.
#[derive(Default)]
pub(super) struct ClientPools {
    map: u64,
    pools: Option<Arc<ShardPools>>,
}

impl ClientPools {
    /// The pool for a shard of this world; `user` is always the same one.
    #[inline]
    pub(super) fn pool(
        &mut self,
        worker: &Worker,
        world: &World,
        user: &str,
        shard: ShardId,
    ) -> Result<&Pool, SqlError> {
        if self.map != world.map.shards_version() {
            self.map = world.map.shards_version();
            self.pools = Some(worker.pools_for(world).of(&login(worker, user)));
        }
        self.pools
            .as_ref()
            .and_then(|pools| pools.shard(shard))
            .ok_or_else(|| SqlError::new(SqlState::INTERNAL_ERROR, "no such shard"))
    }
}

/// As whom a user's statements run on the shards.
fn login(worker: &Worker, user: &str) -> Login {
    match worker.shared.accounts.get(user) {
        Some(account) => Login::of(&account.user, None).with_keys(account.keys.get().cloned()),
        None => Login {
            user: user.to_owned(),
            password: None,
            fallback: None,
            keys: None,
            database: None,
        },
    }
}

/// Runs `f` with this thread's names of prepared statements. `f` must not await.
pub(super) fn with_registry<R>(f: impl FnOnce(&mut Registry) -> R) -> R {
    REGISTRY.with_borrow_mut(f)
}

/// What a session's settings say about reading its statements.
pub fn reading(session: &Session, world: &World) -> Reading {
    let settings = session.settings.current();
    let search_path: Vec<String> = match settings.value("search_path") {
        Some(text) => split_identifiers(text),
        None => match world.catalog.default_search_path(&session.user) {
            Some(text) => split_identifiers(text),
            None => vec!["$user".to_owned(), "public".to_owned()],
        },
    };
    let named =
        |setting: &str| settings.value(setting).and_then(|role| split_identifiers(role).pop());
    let user = named("role")
        .filter(|role| role != "none")
        .or_else(|| named("session_authorization"))
        .unwrap_or_else(|| session.user.clone());
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
        world: world.version,
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
            c => name.push_str(&if quoted { c.to_string() } else { c.to_lowercase().to_string() }),
        }
    }
    if !name.is_empty() || quoted {
        names.push(name);
    }
    names.retain(|name| !name.is_empty());
    names
}

/// A start-up setting that can't be honoured is refused.
///
/// # Errors
///
/// 0A000 for a client encoding that can't be read byte by byte.
pub fn check_startup(name: &str, value: &str) -> Result<(), SqlError> {
    if name == "client_encoding" && super::effects::is_unsafe_encoding(value) {
        return Err(super::effects::unsafe_encoding(value));
    }
    Ok(())
}

/// A start-up value as SQL text: lists become lists of literals.
pub fn startup_value(name: &str, value: &str) -> String {
    use crate::sql::quote::quote_literal;
    if !matches!(name, "search_path" | "datestyle") {
        return quote_literal(value);
    }
    let parts: Vec<String> =
        split_identifiers(value).iter().map(|part| quote_literal(part)).collect();
    if parts.is_empty() { quote_literal("") } else { parts.join(", ") }
}

impl Executor {
    /// The settings, or their defaults, may be others now: so may be the way to read statements.
    pub(super) fn follow_settings(&mut self) {
        let old = &self.reading;
        if self.session.settings.current().id() != old.settings || self.world.version != old.world {
            self.reading = reading(&self.session, &self.world);
        }
    }

    /// Reads the catalog again if nobody has done so since; true if this client's world is newer than before.
    ///
    /// # Errors
    ///
    /// The schema was never read, and can't be now: nothing can be routed.
    pub(super) async fn refresh_world(&mut self) -> Result<bool, SqlError> {
        let within = self.session.transaction.shard().is_some() && self.world.catalog_known;
        if within && self.session.schema_changed {
            if self.session.schema_stale && self.is_behind(&crate::sql::class::Class::Query) {
                self.read_own_schema().await?;
                return Ok(true);
            }
            return Ok(false);
        }
        let seen = self.world.version;
        match self.worker.shared.store.refresh_catalog().await {
            Ok(world) if within => {
                // Its map stays.
                self.adopt(world);
                Ok(self.world.version != seen)
            }
            Ok(world) => {
                let newer = world.version != seen;
                self.world = world;
                self.follow_settings();
                Ok(newer)
            }
            // The server would answer, and may have a table of several shards by that name.
            Err(error) if error.is_locked() => Err(SqlError::new(
                SqlState("55P03"),
                "the schema could not be read again: a table is being altered",
            )
            .hint("Try again when the transaction that alters it has ended.")),
            Err(_) if self.world.catalog_known => Ok(false),
            Err(error) if error.code() == SqlState::INVALID_CATALOG_NAME => {
                if !Box::pin(self.make_own()).await? {
                    return Err(SqlError::new(error.code(), error.to_string()));
                }
                let read = self.worker.shared.store.read_catalog().await;
                self.world =
                    read.map_err(|error| SqlError::new(error.code(), error.to_string()))?;
                self.follow_settings();
                Ok(true)
            }
            Err(_) => {
                let map = &self.world.map;
                Err(SqlError::new(SqlState::CANNOT_CONNECT_NOW, "the schema has not been read yet")
                    .detail(format!(
                        "It is read from the default shard \"{}\", which can't be reached.",
                        map.shard_name(map.default_shard())
                    )))
            }
        }
    }

    /// Once a change of the schema is committed, whoever next stands on the schema must know it.
    pub(super) fn after_schema_change(&mut self) {
        if !self.session.schema_changed || self.session.transaction.is_open() {
            return;
        }
        self.session.schema_changed = false;
        self.session.schema_stale = false;
        self.worker.shared.store.note_schema_change();
    }

    /// Reads the schema again before something is planned that stands on it.
    ///
    /// # Errors
    ///
    /// 57P03: the default shard can't be asked, and nothing can be routed by what is known.
    pub(super) async fn read_stale(&mut self) -> Result<(), SqlError> {
        let home = self.world.map.default_shard();
        let own = self.session.schema_changed && self.session.transaction.is_open();
        if own && (self.world.map.is_one_server() || self.is_enlisted(home)) {
            // To read a view's definition is to wait for the locks that this transaction has. On its own
            // connection it sees what others have committed, too.
            self.session.schema_stale = true;
            return Ok(());
        }
        let fresh = Box::pin(self.worker.shared.store.refresh_stale()).await;
        let current = fresh.map_err(|error| {
            let map = &self.world.map;
            let home = map.shard_name(map.default_shard());
            SqlError::new(
                SqlState::CANNOT_CONNECT_NOW,
                "the schema could not be read again after it was changed",
            )
            .detail(format!("It is read from the default shard \"{home}\": {error}."))
        })?;
        self.stale = false;
        self.adopt(current);
        Ok(())
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
        let check =
            |text: &str, expect: &[&str]| assert_eq!(split_identifiers(text), expect, "{text}");
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
