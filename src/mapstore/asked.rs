//! Connections to shards that are asked what they hold, kept for a while: who moves tenants one by one asks the same
//! shards again and again, and logging in takes longer than the answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

use super::read::{ReadError, read_only};
use crate::map::{ConnectionTarget, ShardMap};

/// A connection that nobody needs for so long is closed.
const KEPT: Duration = Duration::from_secs(10);

/// The connections that are kept, at most one to each shard.
#[derive(Clone, Default)]
pub struct Asked(Arc<Mutex<Vec<Kept>>>);

struct Kept {
    target: ConnectionTarget,
    client: Client,
    since: Instant,
}

/// Targets have passwords.
impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").finish_non_exhaustive()
    }
}

impl Asked {
    /// Asks a shard, which changes nothing there.
    pub(super) async fn query(
        &self,
        target: &ConnectionTarget,
        sql: &str,
    ) -> Result<Vec<SimpleQueryMessage>, ReadError> {
        if let Some(client) = self.take(target) {
            match client.simple_query(sql).await {
                Ok(answer) => {
                    self.keep(target, client);
                    return Ok(answer);
                }
                // It may have been closed since it was last used.
                Err(_) if client.is_closed() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let client = read_only(target).await?;
        let answer = client.simple_query(sql).await?;
        self.keep(target, client);
        Ok(answer)
    }

    /// Closes those to shards that a map does not have.
    pub(super) fn forget_others(&self, map: &ShardMap) {
        let known = |kept: &Kept| map.shards().iter().any(|shard| shard.url == kept.target);
        self.retain(known);
    }

    /// Closes all: a database with a connection can't be dropped.
    pub(super) fn close(&self) {
        self.retain(|_| false);
    }

    fn take(&self, target: &ConnectionTarget) -> Option<Client> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|kept| kept.target == *target)?;
        Some(all.swap_remove(at).client).filter(|client| !client.is_closed())
    }

    fn keep(&self, target: &ConnectionTarget, client: Client) {
        let kept = Kept { target: target.clone(), client, since: Instant::now() };
        self.retain(|other| other.target != *target);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        let all = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            all.retain(|kept| kept.since.elapsed() < KEPT);
        });
    }

    fn retain(&self, wanted: impl FnMut(&Kept) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(wanted);
    }
}
