//! Frozen keys in the control database, and the proxies that must know of them.
//!
//! A freeze is a row of `pgmeridian.freeze`; proxies follow it as they follow the map. Each proxy keeps a
//! row in `pgmeridian.proxy`: which version of the map it plans with, and up to which version it has
//! *settled*, that is, no transaction is left that began with an older one. A key is frozen in truth when
//! every proxy has settled on the version that froze it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio_postgres::Client;

use super::super::read::ReadError;
use super::{Source, Store, install};
use crate::backend::{Books, ConnectionBook, Doing};
use crate::map::ConnectionTarget;
use crate::sql::quote::quote_literal;

/// How often a proxy says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// One that has not said so for this long may be gone.
const SILENT_AFTER: f64 = 60.0;

/// What began to work at the moment of a swap shows up within this time.
const BEGUN_WITHIN: Duration = Duration::from_millis(40);

/// How often connections that have work to end are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A frozen key.
#[derive(Debug, Clone)]
pub struct Freeze {
    /// The key's name in the map.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Since when.
    pub since: SystemTime,
    /// The role that froze it, in the control database.
    pub by: String,
    /// How many proxies have acknowledged.
    pub acknowledged: i64,
    /// Those that have not.
    pub waiting: Vec<String>,
    /// Those that have not settled on the tables as they are now.
    pub behind: Vec<String>,
}

/// A proxy that has not settled on a version.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Its name.
    pub name: String,
    /// It has not been heard of for a while.
    pub silent: bool,
}

/// This process's name among the proxies.
pub fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.map(|host| host.trim().to_owned()).filter(|host| !host.is_empty());
    format!("{}/{}", host.as_deref().unwrap_or("localhost"), std::process::id())
}

/// Connects to the control database, to freeze keys there.
///
/// # Errors
///
/// It can't be reached.
pub async fn open(url: &ConnectionTarget) -> Result<Client, ReadError> {
    install::open(url).await
}

/// Freezes a key: the version that tells the proxies of it, and whether it was frozen before.
///
/// # Errors
///
/// The control database refuses it: nothing is installed there, or it may not be written.
pub async fn freeze(client: &mut Client, key: &str, value: &str) -> Result<(i64, bool), ReadError> {
    let transaction = client.transaction().await?;
    let sql = "SELECT version + 1 FROM pgmeridian.map_version FOR UPDATE";
    let version: i64 = transaction.query_one(sql, &[]).await?.get(0);
    let sql = "SELECT map_version FROM pgmeridian.freeze WHERE key = $1 AND value = $2";
    if let Some(row) = transaction.query_opt(sql, &[&key, &value]).await? {
        return Ok((row.get(0), true));
    }
    let sql = "INSERT INTO pgmeridian.freeze (key, value, map_version) VALUES ($1, $2, $3)";
    transaction.execute(sql, &[&key, &value, &version]).await?;
    transaction.commit().await?;
    Ok((version, false))
}

/// The version of the tables as they are now.
///
/// # Errors
///
/// The control database could not be asked.
pub async fn version(client: &Client) -> Result<i64, ReadError> {
    Ok(client.query_one("SELECT version FROM pgmeridian.map_version", &[]).await?.get(0))
}

/// Whether a key is frozen.
///
/// # Errors
///
/// The control database could not be asked.
pub async fn is_frozen(client: &Client, key: &str, value: &str) -> Result<bool, ReadError> {
    let sql = "SELECT FROM pgmeridian.freeze WHERE key = $1 AND value = $2";
    Ok(client.query_opt(sql, &[&key, &value]).await?.is_some())
}

/// Ends a freeze, if the tables are still those of a version: the version that tells the proxies so; `None` when
/// they are not.
///
/// # Errors
///
/// As [`freeze`].
pub async fn unfreeze(
    client: &mut Client,
    key: &str,
    value: &str,
    seen: i64,
) -> Result<Option<i64>, ReadError> {
    let transaction = client.transaction().await?;
    let sql = "SELECT version FROM pgmeridian.map_version FOR UPDATE";
    if transaction.query_one(sql, &[]).await?.get::<_, i64>(0) != seen {
        return Ok(None);
    }
    let sql = "DELETE FROM pgmeridian.freeze WHERE key = $1 AND value = $2";
    transaction.execute(sql, &[&key, &value]).await?;
    let sql = "SELECT version FROM pgmeridian.map_version";
    let version = transaction.query_one(sql, &[]).await?.get(0);
    transaction.commit().await?;
    Ok(Some(version))
}

/// The proxies that have not settled on a version (or do not use it yet).
///
/// # Errors
///
/// The control database could not be asked.
pub async fn waiting(
    client: &Client,
    version: i64,
    settled: bool,
) -> Result<Vec<Waiting>, ReadError> {
    let column = if settled { "settled_version" } else { "used_version" };
    let sql = format!(
        "SELECT name, extract(epoch FROM now() - seen_at)::float8 FROM pgmeridian.proxy \
         WHERE {column} < $1 ORDER BY name"
    );
    let rows = client.query(&sql, &[&version]).await?;
    let waiting = |row: &tokio_postgres::Row| Waiting {
        name: row.get(0),
        silent: row.get::<_, f64>(1) > SILENT_AFTER,
    };
    Ok(rows.iter().map(waiting).collect())
}

/// All frozen keys.
///
/// # Errors
///
/// The control database could not be asked.
pub async fn list(client: &Client) -> Result<Vec<Freeze>, ReadError> {
    let sql = "SELECT key, value, since, frozen_by, \
               (SELECT count(*) FROM pgmeridian.proxy p WHERE p.settled_version >= f.map_version), \
               ARRAY (SELECT name FROM pgmeridian.proxy p WHERE p.settled_version < f.map_version ORDER BY 1), \
               ARRAY (SELECT name FROM pgmeridian.proxy p, pgmeridian.map_version v \
                      WHERE p.settled_version < v.version ORDER BY 1) \
               FROM pgmeridian.freeze f ORDER BY key, value";
    let rows = client.query(sql, &[]).await?;
    let freeze = |row: &tokio_postgres::Row| Freeze {
        key: row.get(0),
        value: row.get(1),
        since: row.get(2),
        by: row.get(3),
        acknowledged: row.get(4),
        waiting: row.get(5),
        behind: row.get(6),
    };
    Ok(rows.iter().map(freeze).collect())
}

impl Source {
    /// Tells the control database for ever which version of its tables this proxy uses, and when nothing
    /// is left that began with an older one.
    pub async fn acknowledge(self: Arc<Self>, store: Arc<Store>, books: Arc<Books>) {
        let mut client: Option<Client> = None;
        let mut settled = 0;
        let mut open = Open::default();
        loop {
            let status = store.control();
            let version = status.as_ref().and_then(|status| status.version);
            if let (Some(version), Some(status)) = (version, status) {
                if !self.tell_version(&mut client, version, settled).await {
                    client = None;
                } else if settled != version && status.is_kept {
                    if open.version != version {
                        open = Open::new(version, store.current().map.version());
                    }
                    if open.ended(&store, &books).await {
                        settled = version;
                    }
                    continue;
                }
            }
            let _ = tokio::time::timeout(HEARTBEAT, store.control_changed()).await;
        }
    }

    async fn tell_version(&self, client: &mut Option<Client>, used: i64, settled: i64) -> bool {
        let left = self.left.lock().await;
        if *left {
            return false;
        }
        if client.as_ref().is_none_or(Client::is_closed) {
            *client = match self.control_url().await {
                Some(url) => open(&url).await.ok(),
                None => None,
            };
        }
        let Some(client) = client.as_ref() else { return false };
        // One message, and no more: those who wait for a freeze wait for this.
        let sql = format!(
            "INSERT INTO pgmeridian.proxy (name, used_version, settled_version) \
             VALUES ({}, {used}, {settled}) ON CONFLICT (name) DO UPDATE SET \
             used_version = excluded.used_version, settled_version = excluded.settled_version, \
             seen_at = now()",
            quote_literal(&own_name())
        );
        if let Err(error) = client.simple_query(&sql).await {
            tracing::debug!("the control database does not take this proxy's word: {error}");
            return false;
        }
        if used == settled {
            let gone = "DELETE FROM pgmeridian.proxy WHERE seen_at < now() - interval '1 hour'";
            let _ = client.simple_query(gone).await;
        }
        true
    }

    /// This proxy ends: nobody need wait for it. It says nothing more of itself, and no more if that takes longer.
    pub async fn leave(&self, within: Duration) {
        let Some(url) = self.control_url().await else { return };
        let gone = async {
            // What is being said now would bring the row back.
            *self.left.lock().await = true;
            let client = open(&url).await?;
            let sql = "DELETE FROM pgmeridian.proxy WHERE name = $1";
            Ok::<_, ReadError>(client.execute(sql, &[&own_name()]).await?)
        };
        let _ = tokio::time::timeout(within, gone).await;
    }
}

/// What was at work when a version of the map was swapped in.
#[derive(Default)]
struct Open {
    version: i64,
    /// The version of the map that came with it.
    map_version: u64,
    /// Known when nobody waits any more who would begin to work with an older map.
    connections: Option<Vec<(u64, Arc<ConnectionBook>)>>,
}

impl Open {
    fn new(version: i64, map_version: u64) -> Self {
        Self { version, map_version, connections: None }
    }

    /// Waits until all of it is over, but not longer than to the next heartbeat, or to the next version;
    /// whether it is.
    async fn ended(&mut self, store: &Store, books: &Books) -> bool {
        let deadline = Instant::now() + HEARTBEAT;
        loop {
            if self.connections.is_none() && !store.is_waited_with_older(self.map_version) {
                tokio::time::sleep(BEGUN_WITHIN).await;
                // Who reads several shards waits for one after the other.
                if !store.is_waited_with_older(self.map_version) {
                    let all = books.connections().into_iter().filter(|own| is_busy(own));
                    self.connections = Some(all.map(|own| (own.released_ms(), own)).collect());
                }
            }
            if let Some(connections) = &mut self.connections {
                connections
                    .retain(|(released, own)| is_busy(own) && own.released_ms() == *released);
            }
            // Who commits on several shards lets go of their connections before it is done.
            let ended = self.connections.as_ref().is_some_and(Vec::is_empty)
                && !store.is_waited_with_older(self.map_version);
            let version = store.control().and_then(|status| status.version);
            let over = version != Some(self.version) || Instant::now() >= deadline;
            if ended || over {
                return ended;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

fn is_busy(own: &ConnectionBook) -> bool {
    matches!(own.doing(), Doing::Active | Doing::InTransaction)
}
