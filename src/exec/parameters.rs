//! The server's parameters as the client is told them: when it logs in, and whenever the connection that
//! works for it reports others (`ParameterStatus`).

use std::sync::Arc;

use super::Executor;
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::wire;

impl Executor {
    /// What the server tells a client that logs in: taken from the default shard, or from another one
    /// while that is down.
    ///
    /// # Errors
    ///
    /// No shard can be reached, or the start-up settings are not accepted.
    pub async fn greeting(&mut self) -> Result<Vec<(String, String)>, SqlError> {
        let (settings, map) = (self.session.settings.committed().id(), self.world.map.version());
        if let Some(known) = self.worker.greeting(&self.session.user, settings, map) {
            self.told = Arc::clone(&known);
            self.greeted = known;
            return Ok(self.greeted.to_vec());
        }
        let home = self.world.map.default_shard();
        let mut outcome = self.greeting_of(home).await;
        for n in 0..self.world.map.shards().len() {
            let shard = ShardId(n as u16);
            if !matches!(&outcome, Err(e) if e.code == SqlState::CANNOT_CONNECT_NOW) {
                break;
            }
            if shard != home {
                outcome = self.greeting_of(shard).await;
            }
        }
        if outcome.is_ok() {
            self.worker.note_greeting(&self.session.user, settings, map, &self.greeted);
        }
        outcome
    }

    async fn greeting_of(&mut self, shard: ShardId) -> Result<Vec<(String, String)>, SqlError> {
        let at = self.acquire(shard).await?;
        let found = self.held.get(at).map(|held| held.lease.parameters().to_vec());
        self.settle(at);
        self.greeted = Arc::new(found.unwrap_or_default());
        self.told = Arc::clone(&self.greeted);
        Ok(self.greeted.to_vec())
    }

    /// Tells the client of parameters that are not as it believes.
    pub(super) fn tell(&mut self, parameters: &[(String, String)]) {
        for (name, value) in parameters {
            let known = self.told.iter().position(|(own, _)| own == name);
            if known.is_some_and(|at| self.told.get(at).is_some_and(|(_, own)| own == value)) {
                continue;
            }
            wire::backend::parameter_status(&mut self.io.outbox, name, value);
            self.note_told(name, value);
        }
    }

    /// After DISCARD ALL.
    pub(super) fn tell_greeted(&mut self) {
        if std::mem::take(&mut self.tell_again) {
            let greeted = Arc::clone(&self.greeted);
            self.tell(&greeted);
        }
    }

    /// The client has been told of a parameter.
    pub(super) fn note_told(&mut self, name: &str, value: &str) {
        let told = Arc::make_mut(&mut self.told);
        match told.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => value.clone_into(own),
            None => told.push((name.to_owned(), value.to_owned())),
        }
    }
}
