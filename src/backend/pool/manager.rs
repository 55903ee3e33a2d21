//! What deadpool is told of connections: how one is made, and whether it can be used again.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use deadpool::Runtime;
use deadpool::managed::{
    self, Metrics, PoolConfig, QueueMode, RecycleError, RecycleResult, Timeouts,
};

use super::super::books::{Books, ShardBook};
use super::PoolSettings;
use super::hot::Hot;
use crate::backend::breaker::Breaker;
use crate::backend::clock;
use crate::backend::connect::connect;
use crate::backend::connection::Connection;
use crate::backend::error::BackendError;
use crate::backend::target::Target;
use crate::observe::{METRICS, add};

pub(super) fn build(manager: Manager, size: usize) -> Option<managed::Pool<Manager>> {
    let config =
        PoolConfig { max_size: size, timeouts: Timeouts::new(), queue_mode: QueueMode::Lifo };
    // It only fails where time limits are asked for without a runtime, and there is one.
    managed::Pool::builder(manager).config(config).runtime(Runtime::Tokio1).build().ok()
}

thread_local! {
    /// No connection is to be made by the attempt that is polled.
    static ONLY_FREE: Cell<bool> = const { Cell::new(false) };
}

/// Polls an attempt for a connection in such a way that it finds one which is free, and makes none.
pub(super) fn only_free<T>(poll: impl FnOnce() -> T) -> T {
    ONLY_FREE.set(true);
    let polled = poll();
    ONLY_FREE.set(false);
    polled
}

/// Makes connections and looks at them before they are used again.
#[derive(Clone, Debug)]
pub(super) struct Manager {
    pub(super) shard: Arc<str>,
    pub(super) target: Arc<Target>,
    pub(super) settings: Arc<PoolSettings>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) books: Arc<Books>,
    pub(super) book: Arc<ShardBook>,
    pub(super) retired: Arc<AtomicBool>,
    pub(super) hot: Option<Arc<Hot>>,
}

/// A connection with where it goes when it is free.
pub(super) struct Pooled {
    pub(super) connection: Connection,
    pub(super) hot: Option<Arc<Hot>>,
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
pub(super) enum WornOut {
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
pub(super) fn worn_out(
    connection: &Connection,
    settings: &PoolSettings,
    now: Instant,
) -> Option<WornOut> {
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
