//! Pools of connections: one per shard, role and database.
//!
//! [`Pools`] belongs to one thread's runtime and one shard map. A session asks it once for its
//! [`ShardPools`] (one [`Pool`] per shard for one login) and from then on only indexes it.
//!
//! A [`Lease`] that is dropped closes its connection; only [`Lease::into_idle`] and [`Idle::release`]
//! give one back. The connection that was used last is leased first, so that the hot ones stay hot and the
//! others age out: it is kept beside deadpool's own slots (`hot`).

mod hot;

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use deadpool::Runtime;
use deadpool::managed::{
    self, Metrics, Object, PoolConfig, PoolError, QueueMode, RecycleError, RecycleResult, Timeouts,
};

use self::hot::Hot;
use super::books::{Books, Gate, ShardBook};
use super::breaker::Breaker;
use super::clock;
use super::connect::connect;
use super::connection::Connection;
use super::error::BackendError;
use super::target::{Accepted, Target};
use crate::config::{self, Secret};
use crate::map::ShardId;
use crate::observe::{METRICS, add};
use crate::wire::scram::client::Keys;

/// How pools behave.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Connections per shard and login.
    pub size: usize,
    /// Further ones for clients that have waited half of `wait_timeout`.
    pub reserve: usize,
    /// How long a client waits for a connection.
    pub wait_timeout: Duration,
    /// A connection that was unused for so long is closed.
    pub idle_timeout: Duration,
    /// A connection of this age is closed when it is next free.
    pub lifetime: Duration,
    /// How long dialling and logging in may take together.
    pub connect_timeout: Duration,
    /// When a shard is left alone.
    pub breaker: config::Breaker,
    /// Further parameters of the startup packet (`application_name` …), the same for all.
    pub options: Vec<(String, String)>,
}

impl From<&config::Config> for PoolSettings {
    fn from(config: &config::Config) -> Self {
        Self {
            size: config.pool.size,
            reserve: config.pool.reserve,
            wait_timeout: config.pool.wait_timeout,
            idle_timeout: config.pool.idle_timeout,
            lifetime: config.pool.lifetime,
            connect_timeout: config.health.timeout,
            breaker: config.breaker,
            options: Vec::new(),
        }
    }
}

/// As whom to log in on the shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The role.
    pub user: String,
    /// Its password on all shards. Without one, that of a shard's URL is taken where the URL's user is
    /// this one,
    pub password: Option<Secret>,
    /// and this one where it isn't: the password that the user has here, if it is known.
    pub fallback: Option<Secret>,
    /// SCRAM keys that the user has logged in with here, for where no password is known: they do where the
    /// shard has the same verifier.
    pub keys: Option<Keys>,
    /// Another database than that of the shards' URLs.
    pub database: Option<String>,
}

impl Login {
    /// A configured user's login; `database` where it isn't that of the shards' URLs.
    pub fn of(user: &config::User, database: Option<String>) -> Self {
        let fallback = match &user.password {
            Some(config::Password::Plain(password)) => Some(password.clone()),
            Some(config::Password::Verifier(_) | config::Password::Md5(_)) | None => None,
        };
        let password = user.shard_password.clone();
        Self { user: user.name.clone(), password, fallback, keys: None, database }
    }

    /// With the keys that the user has logged in with.
    #[must_use]
    pub fn with_keys(self, keys: Option<Keys>) -> Self {
        Self { keys, ..self }
    }

    fn target(&self, shard: &Target) -> Target {
        let password = match (&self.password, &self.fallback) {
            (Some(password), _) => password.clone(),
            (None, _) if shard.user == self.user => shard.password.clone(),
            (None, Some(password)) => password.clone(),
            (None, None) => Secret::default(),
        };
        let database = self.database.clone().unwrap_or_else(|| shard.database.clone());
        let keys = self.keys.clone();
        // Another user's keys are none of this one's.
        let accepted = Accepted::default();
        Target { user: self.user.clone(), password, keys, accepted, database, ..shard.clone() }
    }
}

/// The pools of all shards and logins.
pub struct Pools {
    settings: Arc<PoolSettings>,
    books: Arc<Books>,
    shards: Vec<Shard>,
    by_login: DashMap<(String, Option<String>), Arc<ShardPools>>,
}

struct Shard {
    name: Arc<str>,
    target: Target,
    breaker: Arc<Breaker>,
    book: Arc<ShardBook>,
}

impl Pools {
    /// Pools for these shards (name and target, in the order of their [`ShardId`]s). No connection is
    /// made yet.
    pub fn new(settings: PoolSettings, shards: impl IntoIterator<Item = (String, Target)>) -> Self {
        Self::with_books(settings, Arc::default(), shards)
    }

    /// The same, with books that others read.
    pub fn with_books(
        settings: PoolSettings,
        books: Arc<Books>,
        shards: impl IntoIterator<Item = (String, Target)>,
    ) -> Self {
        let shards = shards
            .into_iter()
            .map(|(name, target)| Shard {
                book: books.shard(&name),
                name: name.into(),
                target,
                breaker: Arc::new(Breaker::new(settings.breaker)),
            })
            .collect();
        Self { settings: Arc::new(settings), books, shards, by_login: DashMap::new() }
    }

    /// Pools for the shards of another map. Shards that are the same there keep their connections and
    /// their breaker; those of the others are closed, in use ones when their clients are done with them.
    #[must_use]
    pub fn succeeded_by(&self, shards: impl IntoIterator<Item = (String, Target)>) -> Self {
        let settings = PoolSettings::clone(&self.settings);
        let mut heirs = Self::with_books(settings, Arc::clone(&self.books), shards);
        let old = |shard: &Shard| {
            self.shards.iter().position(|o| o.name == shard.name && o.target == shard.target)
        };
        let kept: Vec<Option<usize>> = heirs.shards.iter().map(old).collect();
        for (shard, old) in heirs.shards.iter_mut().zip(&kept) {
            if let Some(old) = old.and_then(|at| self.shards.get(at)) {
                shard.breaker = Arc::clone(&old.breaker);
            }
        }
        for known in &self.by_login {
            let pools = heirs.shards.iter().zip(&kept).map(|(shard, old)| {
                let old = old.and_then(|at| known.pools.get(at)).map(Arc::clone);
                old.unwrap_or_else(|| Arc::new(heirs.pool(shard, &known.login)))
            });
            let pools = ShardPools { login: known.login.clone(), pools: pools.collect() };
            heirs.by_login.insert(known.key().clone(), Arc::new(pools));
            for (at, pool) in known.pools.iter().enumerate() {
                if !kept.contains(&Some(at)) {
                    pool.retire();
                }
            }
        }
        heirs
    }

    /// Closes what is free of a shard's connections.
    pub fn close_idle(&self, shard: &str) {
        for pools in &self.by_login {
            for pool in pools.pools.iter().filter(|pool| &*pool.shard == shard) {
                pool.close_idle();
            }
        }
    }

    /// The pools of one login, made when it is first seen. To be kept by who asks: this locks.
    pub fn of(&self, login: &Login) -> Arc<ShardPools> {
        let key = (login.user.clone(), login.database.clone());
        if let Some(known) = self.by_login.get(&key)
            && known.login == *login
        {
            return Arc::clone(&known);
        }
        let pools = Arc::new(ShardPools {
            login: login.clone(),
            pools: self.shards.iter().map(|shard| Arc::new(self.pool(shard, login))).collect(),
        });
        // A login whose password has changed gets new pools; what was leased from the old ones ends as
        // it would have.
        self.by_login.insert(key, Arc::clone(&pools));
        pools
    }

    fn pool(&self, shard: &Shard, login: &Login) -> Pool {
        let manager = Manager {
            shard: Arc::clone(&shard.name),
            target: Arc::new(login.target(&shard.target)),
            settings: Arc::clone(&self.settings),
            breaker: Arc::clone(&shard.breaker),
            books: Arc::clone(&self.books),
            book: Arc::clone(&shard.book),
            retired: Arc::default(),
            // What is in reserve is for those who have waited.
            hot: None,
        };
        let retired = Arc::clone(&manager.retired);
        let database = manager.target.database.clone();
        let reserve = (self.settings.reserve > 0)
            .then(|| build(manager.clone(), self.settings.reserve))
            .flatten();
        let hot = Arc::new(Hot::default());
        let manager = Manager { hot: Some(Arc::clone(&hot)), ..manager };
        Pool {
            shard: Arc::clone(&shard.name),
            settings: Arc::clone(&self.settings),
            book: Arc::clone(&shard.book),
            retired,
            hot,
            database,
            at_gate: AtomicUsize::new(0),
            main: build(manager, self.settings.size.max(1)),
            reserve,
        }
    }

    /// Closes connections that were unused for too long or are too old. To be called now and then:
    /// a pool by itself only looks at the connection that it is about to lease.
    pub fn sweep(&self, now: Instant) {
        clock::note(now);
        for pool in self.by_login.iter().flat_map(|pools| pools.pools.to_vec()) {
            pool.retain(|connection| worn_out(connection, &self.settings, now).is_none());
        }
    }

    /// A state of every pool, for SHOW POOLS.
    pub fn status(&self) -> Vec<PoolStatus> {
        let mut rows = Vec::new();
        for pools in &self.by_login {
            for (index, pool) in pools.pools.iter().enumerate() {
                let mut row = pool.status();
                row.user.clone_from(&pools.login.user);
                row.reachable =
                    self.shards.get(index).is_none_or(|shard| shard.breaker.is_closed());
                rows.push(row);
            }
        }
        rows
    }

    /// The shard of this name could be reached when it was last tried, or is none of these.
    pub fn reachable_by_name(&self, name: &str) -> bool {
        let shard = self.shards.iter().find(|shard| &*shard.name == name);
        shard.is_none_or(|shard| shard.breaker.is_closed())
    }

    /// The shard could be reached when it was last tried.
    pub fn reachable(&self, shard: ShardId) -> bool {
        self.shards.get(usize::from(shard.0)).is_none_or(|shard| shard.breaker.is_closed())
    }

    /// Closes everything that is free and refuses what is asked for from now on.
    pub fn close(&self) {
        for pools in &self.by_login {
            for pool in &pools.pools {
                pool.hot.close();
                pool.parts().for_each(managed::Pool::close);
            }
        }
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.status()).finish()
    }
}

/// One login's pools, by shard.
pub struct ShardPools {
    login: Login,
    pools: Box<[Arc<Pool>]>,
}

impl ShardPools {
    /// The pool of a shard; `None` for one that the map of these pools doesn't have.
    pub fn shard(&self, shard: ShardId) -> Option<&Pool> {
        self.pools.get(usize::from(shard.0)).map(|pool| &**pool)
    }

    /// The login.
    pub fn login(&self) -> &Login {
        &self.login
    }
}

impl fmt::Debug for ShardPools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pools.iter().map(|pool| pool.status())).finish()
    }
}

/// The connections to one shard for one login.
pub struct Pool {
    shard: Arc<str>,
    settings: Arc<PoolSettings>,
    book: Arc<ShardBook>,
    retired: Arc<AtomicBool>,
    /// Free connections of `main`, which take these for leased.
    hot: Arc<Hot>,
    database: String,
    /// Clients that wait until the shard is resumed.
    at_gate: AtomicUsize,
    main: Option<managed::Pool<Manager>>,
    reserve: Option<managed::Pool<Manager>>,
}

/// A pool's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// The shard's name.
    pub shard: String,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// Connections that are leased.
    pub active: usize,
    /// Connections that are free.
    pub idle: usize,
    /// Clients that wait.
    pub waiting: usize,
    /// At most so many connections, the reserve included.
    pub size_max: usize,
    /// The breaker is closed.
    pub reachable: bool,
}

impl Pool {
    /// The shard's name.
    pub fn shard_name(&self) -> &str {
        &self.shard
    }

    /// The shard is known to be up.
    pub fn is_up(&self) -> bool {
        self.book.is_up()
    }

    /// A connection that is free now; `None`: one has to be waited for, or made, or the shard is not open
    /// to everybody.
    #[inline]
    pub fn try_lease(&self) -> Option<Lease> {
        if self.book.gate() != Gate::Open {
            return None;
        }
        self.take_hot().or_else(|| self.take_given_back()).map(Lease::new)
    }

    /// The free connection that was used last, if it can be used again.
    #[inline]
    fn take_hot(&self) -> Option<Object<Manager>> {
        loop {
            let object = self.hot.take()?;
            let Some(why) = worn_out(&object.connection, &self.settings, clock::recent()) else {
                if self.book.gate() == Gate::Open {
                    return Some(object);
                }
                // It was closed since it was asked for.
                drop(Object::take(object));
                return None;
            };
            self.discard(object, why);
        }
    }

    #[cold]
    fn discard(&self, object: Object<Manager>, why: WornOut) {
        if why == WornOut::Dead {
            self.book.note_health(false);
        }
        drop(Object::take(object));
    }

    /// A connection that was given back while somebody waited.
    #[cold]
    fn take_given_back(&self) -> Option<Object<Manager>> {
        let main = self.main.as_ref()?;
        let attempt = pin!(main.timeout_get(&NO_WAIT));
        // What is not done by one poll would make a connection: dropped, it has not begun to.
        let polled = ONLY_FREE.with(|only_free| {
            only_free.set(true);
            let polled = attempt.poll(&mut Context::from_waker(Waker::noop()));
            only_free.set(false);
            polled
        });
        match polled {
            Poll::Ready(Ok(object)) => Some(object),
            Poll::Ready(Err(_)) | Poll::Pending => None,
        }
    }

    /// A connection, logged in and idle. Does not yield when one is free.
    ///
    /// # Errors
    ///
    /// [`BackendError::WaitTimeout`], or why no connection could be made.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it gives up its place in the queue and leaves nothing behind.
    pub async fn lease(&self) -> Result<Lease, BackendError> {
        let main = self.main.as_ref().ok_or(BackendError::Closed)?;
        loop {
            if self.book.gate() != Gate::Open {
                let timeout = self.settings.wait_timeout;
                Box::pin(self.book.pass_gate(&self.at_gate, timeout)).await?;
            }
            if let Some(object) = self.take_hot() {
                return Ok(Lease::new(object));
            }
            let object = match main.timeout_get(&NO_WAIT).await {
                Ok(object) => object,
                Err(PoolError::Timeout(_)) => {
                    Box::pin(self.wait(main)).await.map_err(|e| self.blame(e))?
                }
                Err(error) => return Err(self.blame(error)),
            };
            if self.book.gate() == Gate::Open {
                return Ok(Lease::new(object));
            }
            // The gate was closed while it was waited for or made.
            drop(Object::take(object));
        }
    }

    /// The queue for the connections of the pool and, half-way, for those of the reserve.
    async fn wait(
        &self,
        main: &managed::Pool<Manager>,
    ) -> Result<Object<Manager>, PoolError<BackendError>> {
        let _waiting = self.hot.begin_waiting();
        // Released before that was known.
        if let Some(object) = self.take_hot() {
            return Ok(object);
        }
        add(&METRICS.pool_waits, 1);
        let began = Instant::now();
        let outcome = self.queue(main).await;
        self.book.waited(began.elapsed());
        outcome
    }

    async fn queue(
        &self,
        main: &managed::Pool<Manager>,
    ) -> Result<Object<Manager>, PoolError<BackendError>> {
        let wait = self.settings.wait_timeout;
        let timeouts = Timeouts { wait: Some(wait), create: None, recycle: None };
        let mut queued = pin!(main.timeout_get(&timeouts));
        let Some(reserve) = &self.reserve else {
            return queued.await;
        };
        if let Ok(outcome) = tokio::time::timeout(wait / 2, &mut queued).await {
            return outcome;
        }
        match reserve.timeout_get(&NO_WAIT).await {
            Err(PoolError::Timeout(_)) => queued.await,
            outcome => outcome,
        }
    }

    fn blame(&self, error: PoolError<BackendError>) -> BackendError {
        match error {
            PoolError::Backend(error) => error,
            PoolError::Timeout(_) => BackendError::WaitTimeout(self.settings.wait_timeout),
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                BackendError::Closed
            }
        }
    }

    /// What is free is closed, and what is in use when it would become free.
    fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.close_idle();
    }

    /// Closes those of the free connections that have died, which a lease would find out only if the
    /// reactor had heard of it. A system call for each.
    pub fn weed(&self) {
        self.retain(Connection::is_alive_now);
    }

    fn close_idle(&self) {
        self.retain(|_| false);
    }

    /// Closes those of the free connections that are not to be kept.
    fn retain(&self, mut keep: impl FnMut(&Connection) -> bool) {
        self.hot.retain(&mut keep);
        for part in self.parts() {
            // Dropped, and so closed, outside the pool's lock.
            drop(part.retain(|pooled, _| keep(&pooled.connection)).removed);
        }
    }

    fn parts(&self) -> impl Iterator<Item = &managed::Pool<Manager>> {
        self.main.iter().chain(&self.reserve)
    }

    /// Its state (without the fields that only [`Pools`] knows).
    pub fn status(&self) -> PoolStatus {
        let mut sum =
            PoolStatus { shard: self.shard.to_string(), reachable: true, ..PoolStatus::default() };
        sum.database.clone_from(&self.database);
        sum.waiting = self.at_gate.load(Ordering::Relaxed);
        for part in self.parts() {
            let status = part.status();
            sum.active += status.size.saturating_sub(status.available);
            sum.idle += status.available;
            sum.waiting += status.waiting;
            sum.size_max += status.max_size;
        }
        let hot = self.hot.len();
        sum.active = sum.active.saturating_sub(hot);
        sum.idle += hot;
        sum
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // They know the way back here: together they would live for ever.
        self.hot.close();
    }
}

thread_local! {
    /// No connection is to be made by the attempt that is polled.
    static ONLY_FREE: Cell<bool> = const { Cell::new(false) };
}

const NO_WAIT: Timeouts = Timeouts { wait: Some(Duration::ZERO), create: None, recycle: None };

fn build(manager: Manager, size: usize) -> Option<managed::Pool<Manager>> {
    let config =
        PoolConfig { max_size: size, timeouts: Timeouts::new(), queue_mode: QueueMode::Lifo };
    // It only fails where time limits are asked for without a runtime, and there is one.
    managed::Pool::builder(manager).config(config).runtime(Runtime::Tokio1).build().ok()
}

/// A connection for as long as a client needs it. Dropped, it is closed.
pub struct Lease {
    /// `None` only while it is taken apart.
    object: Option<Object<Manager>>,
}

impl Lease {
    fn new(object: Object<Manager>) -> Self {
        if let Some(entry) = object.connection.entry() {
            entry.leased();
        }
        Self { object: Some(object) }
    }

    /// Proves that the connection is clean.
    ///
    /// # Errors
    ///
    /// The lease itself, if it is not.
    pub fn into_idle(self) -> Result<Idle, Self> {
        if self.is_idle() { Ok(Idle(self)) } else { Err(self) }
    }

    /// Gives the connection back if it is provably clean, and closes it if not. Returns whether it was.
    pub fn release(self) -> bool {
        match self.into_idle() {
            Ok(idle) => {
                idle.release();
                true
            }
            Err(dirty) => {
                add(&METRICS.backend_dirty, 1);
                drop(dirty);
                false
            }
        }
    }
}

impl Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match &self.object {
            Some(object) => &object.connection,
            None => unreachable!("a lease is only empty while it is dropped"),
        }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Connection {
        match &mut self.object {
            Some(object) => &mut object.connection,
            None => unreachable!("a lease is only empty while it is dropped"),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({:?})", self.object.as_ref().map(|object| &object.connection))
    }
}

/// A lease whose connection is clean: nothing runs, nothing is unread, no transaction, no left-overs.
#[derive(Debug)]
pub struct Idle(Lease);

impl Idle {
    /// Gives the connection back to its pool.
    pub fn release(mut self) {
        let Some(mut object) = self.0.object.take() else { return };
        let now = clock::recent();
        object.connection.touch(now);
        if !object.connection.entry().is_none_or(|entry| entry.released(now)) {
            drop(Object::take(object));
            return;
        }
        match object.hot.clone() {
            Some(hot) => hot.put(object),
            None => drop(object),
        }
    }

    /// Goes on using it.
    pub fn into_lease(self) -> Lease {
        self.0
    }
}

/// Makes connections and looks at them before they are used again.
#[derive(Clone, Debug)]
struct Manager {
    shard: Arc<str>,
    target: Arc<Target>,
    settings: Arc<PoolSettings>,
    breaker: Arc<Breaker>,
    books: Arc<Books>,
    book: Arc<ShardBook>,
    retired: Arc<AtomicBool>,
    hot: Option<Arc<Hot>>,
}

/// A connection with where it goes when it is free.
struct Pooled {
    connection: Connection,
    hot: Option<Arc<Hot>>,
}

impl managed::Manager for Manager {
    // Boxed, for it is moved in and out of the pool with every lease.
    type Type = Box<Pooled>;
    type Error = BackendError;

    async fn create(&self) -> Result<Box<Pooled>, BackendError> {
        if ONLY_FREE.get() {
            std::future::pending::<()>().await;
        }
        let attempt = self.breaker.attempt(Instant::now()).ok_or(BackendError::BreakerOpen)?;
        // Boxed: a client's future must not be as large as what it seldom does.
        let options = &self.settings.options;
        let made = Box::pin(connect(&self.target, options, self.settings.connect_timeout)).await;
        match &made {
            Ok(_) => {
                add(&METRICS.backend_connects, 1);
                attempt.succeeded();
            }
            Err(error) => {
                add(&METRICS.backend_connect_errors, 1);
                tracing::warn!(shard = %self.shard, server = %self.target, %error, "could not connect");
                if is_down(error) {
                    self.book.note_health(false);
                    attempt.failed(Instant::now());
                } else {
                    // It answers; that it doesn't want this login is no reason to keep others away.
                    attempt.succeeded();
                }
            }
        }
        let mut connection = made?;
        let (book, retired) = (Arc::clone(&self.book), Arc::clone(&self.retired));
        let entry = self.books.open(book, &self.target.user, connection.pid(), retired);
        connection.enter(entry);
        Ok(Box::new(Pooled { connection, hot: self.hot.clone() }))
    }

    async fn recycle(&self, pooled: &mut Box<Pooled>, _: &Metrics) -> RecycleResult<BackendError> {
        match worn_out(&pooled.connection, &self.settings, clock::recent()) {
            None => Ok(()),
            Some(why) => {
                if why == WornOut::Dead {
                    self.book.note_health(false);
                }
                Err(RecycleError::message(why.words()))
            }
        }
    }
}

/// Why a free connection is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WornOut {
    Old,
    Unused,
    Dead,
}

impl WornOut {
    fn words(self) -> &'static str {
        match self {
            Self::Old => "too old",
            Self::Unused => "unused for too long",
            Self::Dead => "not alive",
        }
    }
}

#[inline]
fn worn_out(connection: &Connection, settings: &PoolSettings, now: Instant) -> Option<WornOut> {
    if connection.age(now) >= settings.lifetime {
        Some(WornOut::Old)
    } else if connection.unused_for(now) >= settings.idle_timeout {
        Some(WornOut::Unused)
    } else if !connection.is_alive() {
        Some(WornOut::Dead)
    } else {
        None
    }
}

/// The shard itself is out of reach, for whoever asks.
fn is_down(error: &BackendError) -> bool {
    match error {
        BackendError::Connect(_)
        | BackendError::ConnectTimeout(_)
        | BackendError::Protocol(_)
        | BackendError::Lost(_) => true,
        BackendError::Refused(error) => matches!(error.code().as_ref(), "57P03" | "57P01"),
        BackendError::BreakerOpen
        | BackendError::Authentication(_)
        | BackendError::Tls(_)
        | BackendError::Statement(_)
        | BackendError::WaitTimeout(_)
        | BackendError::Paused(_)
        | BackendError::Draining
        | BackendError::Closed => false,
    }
}
