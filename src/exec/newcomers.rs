//! Keys that are nowhere get a home at their first INSERT (`place_new`): recorded in `tenant_shard_map`, once
//! and for all, whichever of several proxies is first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Executor;
use crate::error::{SqlError, SqlState};
use crate::lookup::Newcomer;
use crate::map::{RegionHints, ShardId, ShardMap};
use crate::mapstore::control::newcomers;
use crate::session::transaction::Transaction;

/// So long it may take until this proxy knows what was recorded.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// How often it looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

impl Executor {
    /// Records homes for keys, and waits until the map has them.
    ///
    /// # Errors
    ///
    /// The control database can't be written, or the map does not follow; 40001 where the open transaction
    /// can't see the new map.
    pub(super) async fn settle_newcomers(&mut self, all: &[Newcomer]) -> Result<(), SqlError> {
        let store = Arc::clone(&self.worker.shared.store);
        for newcomer in all {
            let map = Arc::clone(&store.current().map);
            if map.place(newcomer.key, &newcomer.value).is_ok() {
                continue;
            }
            let home = self.new_home(&map, newcomer);
            let (Some(home), Some(control)) = (home.and_then(|at| map.shard(at)), map.control())
            else {
                return Err(no_home(newcomer));
            };
            newcomers::record(&control.url, &newcomer.value, home.id, home.region.as_deref())
                .await
                .map_err(|error| unrecorded(newcomer, &error.to_string()))?;
            tracing::info!(key = %newcomer.value, shard = home.name, "a new key was given a home");
        }
        let untouched =
            matches!(self.session.transaction, Transaction::Idle | Transaction::Pending(_));
        let begun = Instant::now();
        loop {
            if untouched {
                self.follow_world();
            }
            let world = if untouched { Arc::clone(&self.world) } else { store.current() };
            let known = |own: &&Newcomer| world.map.place(own.key, &own.value).is_ok();
            let Some(missing) = all.iter().find(|own| !known(own)) else { break };
            if begun.elapsed() > KNOWN_WITHIN {
                return Err(unrecorded(missing, "the map does not have it yet"));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        if untouched {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::SERIALIZATION_FAILURE,
            "could not place a new key because the transaction began before it had a home",
        )
        .detail("Its home is recorded now.")
        .hint("The transaction might succeed if retried."))
    }

    /// The shard that a key would get a home on, as things are.
    pub(super) fn home_for(&self, newcomer: &Newcomer) -> Option<ShardId> {
        self.new_home(&self.world.map, newcomer)
    }

    fn new_home(&self, map: &ShardMap, newcomer: &Newcomer) -> Option<ShardId> {
        let hints = RegionHints {
            row: newcomer.region.as_deref(),
            session: self.session.region(),
            address: Some(self.client.address.ip()),
        };
        map.new_home(newcomer.key, &newcomer.value, &hints)
    }
}

fn no_home(newcomer: &Newcomer) -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("no shard takes new key {}", newcomer.value),
    )
    .detail("No active shard is meant for it by place_new and the region that is known of it.")
    .hint("Give the region in the row or by SET pgmeridian.region, or a default under [keys.….place].")
}

fn unrecorded(newcomer: &Newcomer, why: &str) -> SqlError {
    SqlError::new(
        SqlState::CANNOT_CONNECT_NOW,
        format!("new key {} can't be given a home: {why}", newcomer.value),
    )
    .hint("The role of [control] url must be allowed to INSERT into tenant_shard_map.")
}
