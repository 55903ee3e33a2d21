//! Pools of connections: one per shard, role and database.
//!
//! [`Pools`] belongs to one thread's runtime and one shard map. A session asks it once for its
//! [`ShardPools`] (one [`Pool`] per shard for one login) and from then on only indexes it.
//!
//! A [`Lease`] is given back or closed, nothing else. The connection that was used last is leased first, so
//! that the hot ones stay hot and the others age out: it is kept beside deadpool's own slots (`hot`), which
//! make connections and keep the queue of those who wait (`manager`).

mod by_login;
mod hot;
mod lease;
mod login;
mod manager;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use deadpool::managed::{self, Object, PoolError, Timeouts};

use self::hot::Hot;
use self::manager::{Manager, WornOut, only_free, worn_out};
use super::books::{Gate, ShardBook};
use super::clock;
use super::connection::Connection;
use super::error::BackendError;
use crate::config;
use crate::observe::{METRICS, add};

pub use self::by_login::{Pools, ShardPools};
pub use self::lease::{Idle, Lease};
pub use self::login::Login;

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
        let polled = only_free(|| attempt.poll(&mut Context::from_waker(Waker::noop())));
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

const NO_WAIT: Timeouts = Timeouts { wait: Some(Duration::ZERO), create: None, recycle: None };
