//! Shards are asked what they have prepared: [`list`], and [`Asked`], one that has answered.
//!
//! Invariants: no more than [`ASKED_AT_ONCE`] are talked to at the same time, and who has nothing is let go of at once:
//! shards may be databases of one server, whose connections are the clients'. A standby is never taken for one that
//! has nothing.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use crate::backend::{BackendError, Connection, Target, connect};
use crate::commit::sql;
use crate::exec::Shared;
use crate::map::Shard;

/// Shards are asked at the same time, so many of them.
const ASKED_AT_ONCE: usize = 16;

/// A standby knows of nothing that is prepared, and would make others forget what was decided of it.
const STANDBY: &str = "it is a standby";

/// A shard, and why it can't be asked.
pub(super) type Unasked = (String, String);

/// A connection of recovery's own, as the shard's URL says.
pub(super) async fn open(
    target: &Arc<Target>,
    timeout: Duration,
) -> Result<Connection, BackendError> {
    let mut connection = connect(target, &[], timeout).await?;
    ask(&mut connection, &sql::recovery_settings(), timeout).await?;
    Ok(connection)
}

/// One statement, whose answer does not take longer than that.
pub(super) async fn ask(
    connection: &mut Connection,
    sql: &str,
    timeout: Duration,
) -> Result<Vec<Vec<Option<String>>>, BackendError> {
    if !connection.is_between_statements() {
        // One that has not answered in time would answer now.
        return Err(BackendError::eof());
    }
    match tokio::time::timeout(timeout, connection.simple_query(sql)).await {
        Ok(answer) => answer,
        Err(_) => Err(BackendError::ConnectTimeout(timeout)),
    }
}

/// Something that a shard has prepared.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) age: Duration,
    /// `None`: its role is gone.
    pub(super) owner: Option<String>,
}

/// A shard that has said what it has prepared.
pub(super) struct Asked {
    pub(super) id: i16,
    pub(super) name: String,
    /// Which database of which server has said so.
    pub(super) server: String,
    target: Arc<Target>,
    timeout: Duration,
    /// Where it has something.
    connection: Option<Connection>,
    pub(super) found: Vec<Found>,
}

impl Asked {
    /// A connection to it.
    pub(super) async fn connection(&mut self) -> Result<&mut Connection, BackendError> {
        // One that has not answered in time would answer now.
        if !self.connection.as_ref().is_some_and(Connection::is_between_statements) {
            self.connection = Some(open(&self.target, self.timeout).await?);
        }
        self.connection.as_mut().ok_or_else(BackendError::eof)
    }
}

/// A shard's server.
pub(super) struct Clock {
    pub(super) id: i16,
    /// Which database of which server it is.
    pub(super) server: String,
    /// In milliseconds since 1970.
    pub(super) now: i64,
}

/// The clocks of the shards that can be asked.
pub(super) async fn clocks<'a>(
    shared: &Shared,
    shards: impl Iterator<Item = &'a Shard>,
    timeout: Duration,
) -> Vec<Clock> {
    let asked = shards.map(|shard| {
        let (id, target) = (shard.id, shared.books.target(&shard.url));
        async move {
            let mut connection = open(&target, timeout).await.ok()?;
            let rows = ask(&mut connection, &sql::clock(), timeout).await.ok()?;
            let told = |n: usize| rows.first().and_then(|row| row.get(n)?.as_deref());
            if told(1) != Some("f") {
                return None;
            }
            let now = told(0)?.parse().ok()?;
            Some(Clock { id, server: told(2)?.to_owned(), now })
        }
    });
    at_once(asked).await.into_iter().flatten().collect()
}

/// What these shards have prepared, and why the others can't be asked.
pub(super) async fn list<'a>(
    shared: &Shared,
    shards: impl Iterator<Item = &'a Shard>,
    timeout: Duration,
) -> (Vec<Asked>, Vec<Unasked>) {
    let (mut listed, mut unasked) = (Vec::new(), Vec::new());
    let asked = shards.map(|shard| {
        let (id, name, target) = (shard.id, shard.name.clone(), shared.books.target(&shard.url));
        let server = String::new();
        list_one(Asked { id, name, server, target, timeout, connection: None, found: Vec::new() })
    });
    for one in at_once(asked).await {
        match one {
            Ok(own) => listed.push(own),
            Err((shard, why)) => {
                debug!(why, shard, "what it has prepared is not known");
                unasked.push((shard, why));
            }
        }
    }
    (listed, unasked)
}

async fn list_one(mut own: Asked) -> Result<Asked, Unasked> {
    let timeout = own.timeout;
    let rows = match own.connection().await {
        Ok(connection) => ask(connection, &sql::prepared(), timeout).await,
        Err(error) => Err(error),
    };
    match rows {
        Ok(rows) if rows.is_empty() || !rows.iter().all(|row| is_primarys(row)) => {
            Err((own.name, STANDBY.to_owned()))
        }
        Ok(rows) => {
            let server = rows.first().and_then(|row| row.get(1)?.clone());
            own.server = server.unwrap_or_default();
            own.found = rows.into_iter().filter_map(found).collect();
            if own.found.is_empty() {
                own.connection = None;
            }
            Ok(own)
        }
        Err(error) => Err((own.name, error.to_string())),
    }
}

/// A row of [`sql::prepared`] does not come from a standby.
fn is_primarys(row: &[Option<String>]) -> bool {
    row.first().and_then(Option::as_deref) == Some("f")
}

fn found(row: Vec<Option<String>>) -> Option<Found> {
    let mut row = row.into_iter().skip(2);
    let (name, age, owner) = (row.next()??, row.next()??, row.next()?);
    let age = Duration::from_millis(age.parse::<i64>().ok()?.max(0).unsigned_abs());
    Some(Found { name, age, owner })
}

/// Does all of this at the same time, but not more than so much of it.
pub(super) async fn at_once<T: Send + 'static>(
    all: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut tasks = tokio::task::JoinSet::new();
    let mut done = Vec::new();
    for one in all {
        if tasks.len() >= ASKED_AT_ONCE {
            done.extend(tasks.join_next().await.and_then(Result::ok));
        }
        tasks.spawn(one);
    }
    while let Some(one) = tasks.join_next().await {
        done.extend(one.ok());
    }
    done
}
