//! What the shards number their user-defined types and tables, beside the default shard, whose numbers clients are
//! told.
//!
//! They are asked when the default shard's numbers have changed, and once more a little later; a shard that can't be
//! asked is asked again, and until then its numbers are passed on as they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::read::{ReadError, connect, rows};
use crate::catalog::numbers::{Numbers, READ_NUMBERS, Renumbering};
use crate::map::{ConnectionTarget, ShardId, ShardMap};

/// A statement may wait for it.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// One that could not be asked is left alone for so long.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// How each shard's numbers lead to those that clients know.
#[derive(Debug, Default)]
pub struct Renumberings {
    shards: Vec<Option<Arc<Renumbering>>>,
}

impl Renumberings {
    /// A shard's, if it numbers anything otherwise.
    #[inline]
    pub fn of(&self, shard: ShardId) -> Option<&Arc<Renumbering>> {
        self.shards.get(usize::from(shard.0))?.as_ref()
    }
}

/// What was read of all shards.
#[derive(Debug, Default)]
pub(super) struct Known {
    clients: Arc<Numbers>,
    shards: Vec<(ConnectionTarget, Option<Numbers>)>,
    failed: Option<Instant>,
    /// When what they said was new.
    changed: Option<Instant>,
    told: Arc<Renumberings>,
}

impl Known {
    /// The numbers of the map's shards, where `clients` are those of the default shard.
    pub(super) async fn follow(
        &mut self,
        map: &ShardMap,
        clients: &Arc<Numbers>,
    ) -> Arc<Renumberings> {
        let targets: Vec<&ConnectionTarget> = map.shards().iter().map(|shard| &shard.url).collect();
        // Elsewhere a connection's database need not be the shard's own.
        if targets.len() < 2 || map.is_one_server() || map.has_key_databases() || clients.is_empty()
        {
            if !self.shards.is_empty() {
                *self = Self::default();
            }
            return Arc::clone(&self.told);
        }
        let same = self.shards.len() == targets.len()
            && self.shards.iter().zip(&targets).all(|((own, _), target)| own == *target);
        if !same || self.clients != *clients {
            // Whatever has changed on one of them may have changed on all.
            let stays = self.clients == *clients;
            let mut before = std::mem::take(&mut self.shards);
            let known = |target: &&ConnectionTarget| {
                let own = before.iter_mut().find(|(own, _)| stays && own == *target);
                ((*target).clone(), own.and_then(|(_, known)| known.take()))
            };
            self.shards = targets.iter().map(known).collect();
            self.clients = Arc::clone(clients);
            self.failed = None;
            self.told = self.renumberings();
        }
        let home = usize::from(map.default_shard().0);
        let tired = self.failed.is_some_and(|failed| failed.elapsed() < ASK_AGAIN);
        // A change may have reached the others a moment later.
        let doubtful = self.changed.is_some_and(|changed| changed.elapsed() >= ASK_AGAIN);
        let mut asked = JoinSet::new();
        for (n, (target, known)) in self.shards.iter().enumerate() {
            if n != home && (doubtful || known.is_none() && !tired) {
                let target = target.clone();
                asked.spawn(async move {
                    let read = tokio::time::timeout(READ_TIMEOUT, read(&target)).await;
                    (n, read.ok().and_then(Result::ok))
                });
            }
        }
        if asked.is_empty() {
            return Arc::clone(&self.told);
        }
        self.failed = None;
        let mut changed = false;
        while let Some(answer) = asked.join_next().await {
            let Ok((n, Some(numbers))) = answer else {
                self.failed = Some(Instant::now());
                continue;
            };
            if let Some((_, known)) = self.shards.get_mut(n) {
                changed |= known.as_ref() != Some(&numbers);
                *known = Some(numbers);
            }
        }
        if changed {
            self.told = self.renumberings();
        }
        self.changed = changed.then(Instant::now);
        Arc::clone(&self.told)
    }

    fn renumberings(&self) -> Arc<Renumberings> {
        let between = |(_, known): &(_, Option<Numbers>)| {
            Renumbering::between(known.as_ref()?, &self.clients).map(Arc::new)
        };
        Arc::new(Renumberings { shards: self.shards.iter().map(between).collect() })
    }
}

async fn read(target: &ConnectionTarget) -> Result<Numbers, ReadError> {
    let (client, connection) = connect(target).await?;
    let connection = tokio::spawn(connection);
    let found = rows(&client, READ_NUMBERS).await;
    drop(client);
    // It ends with its client; whatever it had to say has been said to the query.
    let _ = connection.await;
    Ok(Numbers::from_rows(found?))
}
