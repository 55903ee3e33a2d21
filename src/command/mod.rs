//! What an operator can do: one enum of commands and the functions that carry them out.
//!
//! Main types: [`Command`], [`Operator`] (who carries them out), [`Answer`]. `console` reads commands from
//! SQL and writes answers as result sets, `http` has a path for some of them; neither decides anything.
//!
//! Invariants: what an answer shows was read from counters and states that their owners write for it: no
//! command locks what a statement needs; no secret is in an answer.
//!
//! Absent: figures per key.

mod freeze;
mod health;
mod show;
mod table;
mod topic;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::backend::{Doing, Gate};
use crate::config::Secret;
use crate::error::{SqlError, SqlState};
use crate::exec::{self, Shared};
use crate::map::did_you_mean;
use crate::mapstore::control::SourceError;
use crate::mapstore::{Origin, ReloadError, Reloaded, SwapError};

pub use health::{Health, Status};
pub use table::{Column, Table, Type, Value};
pub use topic::Topic;

/// A client that is to go has so long to notice by itself.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// How often connections that have to end are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// SHOW …
    Show(Topic),
    /// Where a statement would go.
    Route(String),
    /// Read the map again.
    Reload {
        /// Even where rows are left behind.
        force: bool,
    },
    /// No new work for this shard, or for all, until it is resumed.
    Pause(Option<String>),
    /// New work again.
    Resume(Option<String>),
    /// New work for this shard is refused.
    Drain(String),
    /// No writes for this key.
    Freeze(String),
    /// Writes for this key again.
    Unfreeze {
        /// The key.
        key: String,
        /// Even where rows of it are left on other shards than its home.
        force: bool,
    },
    /// This client has to go.
    Kill(i32),
    /// The proxy ends, as at SIGTERM.
    Shutdown,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Rows.
    Table(Table),
    /// It is done; what else is to be said about it.
    Done {
        /// The command tag.
        tag: &'static str,
        /// Something worth knowing.
        notice: Option<String>,
    },
}

/// Carries commands out.
pub struct Operator {
    shared: Arc<Shared>,
    health: Arc<Health>,
}

impl Command {
    /// The columns of its answer; none for one without rows.
    pub fn columns(&self) -> &'static [Column] {
        match self {
            Self::Show(topic) => topic.columns(),
            Self::Route(_) => ROUTE,
            Self::Reload { .. }
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Drain(_)
            | Self::Freeze(_)
            | Self::Unfreeze { .. }
            | Self::Kill(_)
            | Self::Shutdown => &[],
        }
    }
}

/// The columns of ROUTE's answer.
pub const ROUTE: &[Column] = &[Column::text("route")];

impl Operator {
    /// An operator of this process.
    pub fn new(shared: Arc<Shared>, health: Arc<Health>) -> Self {
        Self { shared, health }
    }

    /// What all threads share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What is known of the shards' health.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Carries a command out.
    ///
    /// # Errors
    ///
    /// It can't be done: the reason, for the one who asked.
    pub async fn run(&self, command: &Command) -> Result<Answer, SqlError> {
        match command {
            Command::Show(Topic::Freezes) => Ok(Answer::Table(self.show_freezes().await)),
            Command::Show(topic) => Ok(Answer::Table(self.show(*topic))),
            Command::Route(sql) => self.route(sql).map(Answer::Table),
            Command::Reload { force } => self.reload_answer(*force).await,
            Command::Pause(shard) => self.pause(shard.as_deref()).await,
            Command::Resume(shard) => self.resume(shard.as_deref()),
            Command::Drain(shard) => self.drain(shard).await,
            Command::Freeze(key) => self.freeze(key).await,
            Command::Unfreeze { key, force } => self.unfreeze(key, *force).await,
            Command::Kill(client) => self.kill(*client).await,
            Command::Shutdown => {
                tracing::info!("an operator asks for the end");
                self.shared.shutdown.notify_one();
                Ok(done("SHUTDOWN"))
            }
        }
    }

    /// Reads the map again. What comes of it is logged and remembered.
    ///
    /// # Errors
    ///
    /// See [`ReloadError`]; the old map stays.
    pub async fn reload(&self, origin: Origin, force: bool) -> Result<Reloaded, ReloadError> {
        self.shared.store.reload(origin, force).await
    }

    async fn reload_answer(&self, force: bool) -> Result<Answer, SqlError> {
        match self.reload(Origin::Console, force).await {
            Ok(Reloaded { unchanged: true, .. }) => {
                Ok(Answer::Done { tag: "RELOAD", notice: Some("the map is unchanged".to_owned()) })
            }
            Ok(reloaded) => {
                let mut notice = format!(
                    "map version {} is used: {}",
                    reloaded.version,
                    reloaded.changes.summary()
                );
                if let Some(problem) = reloaded.problem {
                    notice = format!("{notice}; {problem}: what was read last is used");
                }
                Ok(Answer::Done { tag: "RELOAD", notice: Some(notice) })
            }
            Err(error) => Err(reload_refused(&error)),
        }
    }

    fn route(&self, sql: &str) -> Result<Table, SqlError> {
        let lines = exec::explain(&self.shared.store.current(), sql)?;
        let rows = lines.into_iter().map(|line| vec![Value::Text(line)]).collect();
        Ok(Table { columns: ROUTE, rows })
    }

    /// The shards that are meant, by name.
    fn meant(&self, shard: Option<&str>) -> Result<Vec<String>, SqlError> {
        let map = &self.shared.store.current().map;
        let names = || map.shards().iter().map(|shard| shard.name.as_str());
        let Some(name) = shard else { return Ok(names().map(str::to_owned).collect()) };
        if map.shard_named(name).is_some() {
            return Ok(vec![name.to_owned()]);
        }
        let error = SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("the map has no shard \"{name}\""),
        );
        Err(match did_you_mean(name, names()) {
            Some(near) => error.hint(format!("Did you mean \"{near}\"?")),
            None => error.hint("SHOW SHARDS lists them."),
        })
    }

    async fn pause(&self, shard: Option<&str>) -> Result<Answer, SqlError> {
        let shards = self.meant(shard)?;
        tracing::info!(shards = shards.join(", "), "paused by an operator");
        self.close_gates(&shards, Gate::Paused);
        let left = self.wait_for(&shards).await;
        Ok(Answer::Done { tag: "PAUSE", notice: still_used(left) })
    }

    async fn drain(&self, shard: &str) -> Result<Answer, SqlError> {
        let shards = self.meant(Some(shard))?;
        tracing::info!(shard, "drained by an operator");
        self.close_gates(&shards, Gate::Draining);
        let left = self.wait_for(&shards).await;
        Ok(Answer::Done { tag: "DRAIN", notice: still_used(left) })
    }

    fn resume(&self, shard: Option<&str>) -> Result<Answer, SqlError> {
        let shards = self.meant(shard)?;
        tracing::info!(shards = shards.join(", "), "resumed by an operator");
        for name in &shards {
            self.shared.books.shard(name).set_gate(Gate::Open);
        }
        Ok(done("RESUME"))
    }

    fn close_gates(&self, shards: &[String], gate: Gate) {
        for name in shards {
            self.shared.books.shard(name).set_gate(gate);
            for pools in self.shared.pools() {
                pools.close_idle(name);
            }
        }
    }

    /// Waits until nobody has a connection to these shards, but not longer than a stop would; how many
    /// there are then.
    async fn wait_for(&self, shards: &[String]) -> usize {
        let deadline = Instant::now() + self.shared.config.limits.drain_timeout;
        loop {
            let connections = self.shared.books.connections();
            let held = |name: &str| shards.iter().any(|shard| shard == name);
            let left = connections
                .iter()
                .filter(|own| held(own.shard.name()) && own.doing() != Doing::Idle)
                .count();
            let resumed =
                shards.iter().any(|name| self.shared.books.shard(name).gate() == Gate::Open);
            if left == 0 || resumed || Instant::now() >= deadline {
                // One that was given back just as the gate closed.
                for (pools, name) in
                    self.shared.pools().iter().flat_map(|p| shards.iter().map(move |s| (p, s)))
                {
                    if !resumed {
                        pools.close_idle(name);
                    }
                }
                return left;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn kill(&self, id: i32) -> Result<Answer, SqlError> {
        let Some(client) = self.shared.clients.find(id) else {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("there is no client {id}"),
            )
            .hint("SHOW CLIENTS lists them."));
        };
        tracing::info!(client = id, user = client.user, "ended by an operator");
        client.kill();
        self.shared.drain.notify_waiters();
        self.shared.cancel(client.key).await;
        let (clients, task) = (Arc::clone(&self.shared.clients), Arc::clone(&client.task));
        tokio::spawn(async move {
            tokio::time::sleep(KILL_GRACE).await;
            // It may wait for something that no cancel reaches.
            if clients.find(id).is_some()
                && let Some(task) = task.get()
            {
                task.abort();
            }
        });
        Ok(done("KILL"))
    }

    /// Whether a token lets one do what HTTP's administrative paths do. The comparison takes the same time
    /// wherever the difference is.
    pub fn may(&self, token: &str) -> bool {
        let wanted = self.shared.config.http.token.as_ref().filter(|own| !own.is_empty());
        wanted.is_some_and(|own| *own == Secret::new(token))
    }

    /// Administrative paths are open to those who know the token.
    pub fn has_token(&self) -> bool {
        self.shared.config.http.token.as_ref().is_some_and(|own| !own.is_empty())
    }

    /// The process has been asked to end.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }
}

fn done(tag: &'static str) -> Answer {
    Answer::Done { tag, notice: None }
}

fn still_used(left: usize) -> Option<String> {
    let are = if left == 1 { "connection is" } else { "connections are" };
    (left > 0)
        .then(|| format!("{left} {are} still in use, and closed as soon as their clients are done"))
}

fn reload_refused(error: &ReloadError) -> SqlError {
    let why = match error {
        ReloadError::Load(SourceError::Faults(faults)) => faults.render(false),
        other => other.to_string(),
    };
    let code = if error.passes() {
        SqlState::CANNOT_CONNECT_NOW
    } else {
        SqlState::INVALID_PARAMETER_VALUE
    };
    let refused = SqlError::new(code, "the map was not taken, the old one stays").detail(why);
    match error {
        ReloadError::Swap(SwapError::Stranded(_)) => refused.hint(
            "Move the rows first, or put the old map back. RELOAD FORCE takes it all the same: then nothing finds these rows.",
        ),
        _ => refused,
    }
}
