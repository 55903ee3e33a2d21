//! BEGIN reaches the transaction's first shard in front of its first statement, with what has to be said
//! before that.

use super::again::Repeat;
use super::{Executor, Failure};
use crate::session::responses::{Responses, StepKind};
use crate::session::transaction::Transaction;
use crate::wire;

impl Executor {
    /// What BEGIN and what came after it must be said first? `None` when the connection is in the
    /// transaction already, or there is none.
    fn opening(&mut self) -> Option<String> {
        match &self.session.transaction {
            Transaction::Pending(pending) => Some(pending.sql()),
            _ => None,
        }
    }

    /// Puts BEGIN (with its prelude) in front of the request. A lone BEGIN is pipelined; anything more
    /// may fail, so that it takes a round trip of its own before the statement is sent.
    pub(super) async fn open_transaction(&mut self, at: usize) -> Result<(), Failure> {
        if self.held.get(at).is_some_and(|held| !held.untold.is_empty()) {
            Box::pin(self.tell_settings(at)).await?;
        }
        if self.is_late(at) {
            return Box::pin(self.enlist(at)).await;
        }
        let Some(sql) = self.opening() else { return Ok(()) };
        let plain = matches!(&self.session.transaction, Transaction::Pending(p) if p.is_plain());
        if plain {
            wire::frontend::query_into(&mut self.request, sql.as_bytes());
            self.responses.expect(StepKind::Query, true);
            return Ok(());
        }
        Box::pin(self.open_alone(at)).await
    }

    /// Tells a connection of what was set since its last statement.
    async fn tell_settings(&mut self, at: usize) -> Result<(), Failure> {
        let Some(held) = self.held.get_mut(at) else { return Ok(()) };
        if self.batch.is_open() || held.lease.tx_status() == b'E' {
            return Ok(());
        }
        let shard = held.shard;
        let sql = std::mem::take(&mut held.untold).join("; ");
        match held.lease.simple_query(&sql).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = self.shard_error(shard, &error);
                self.lose(at);
                Err(error.into())
            }
        }
    }

    /// Sends BEGIN and its prelude in a round trip of its own.
    pub(super) async fn open_alone(&mut self, at: usize) -> Result<(), Failure> {
        let Some(sql) = self.opening() else { return Ok(()) };
        let Some(shard) = self.held.get(at).map(|held| held.shard) else { return Ok(()) };
        let mut request = Vec::new();
        wire::frontend::query_into(&mut request, sql.as_bytes());
        let mut responses = Responses::default();
        responses.begin(true);
        responses.expect(StepKind::Query, true);
        std::mem::swap(&mut request, &mut self.request);
        std::mem::swap(&mut responses, &mut self.responses);
        let mut result = self.attempt(at, Repeat::Harmless).await;
        if let Ok(false) = result {
            wire::frontend::query_into(&mut self.request, sql.as_bytes());
            self.responses.begin(true);
            self.responses.expect(StepKind::Query, true);
            result = match self.acquire_in_place(shard, at).await {
                Ok(()) => self.exchange(at).await.map(|()| true),
                Err(error) => Err(error.into()),
            };
        }
        std::mem::swap(&mut request, &mut self.request);
        std::mem::swap(&mut responses, &mut self.responses);
        result?;
        if responses.failed() {
            // The client has been shown the shard's error.
            self.lose(at);
            return Err(Failure::Shown);
        }
        self.session.transaction.settle(shard, responses.status());
        Ok(())
    }
}
