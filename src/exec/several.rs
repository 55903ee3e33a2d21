//! Savepoints, settings and the end of a transaction that is on several shards.
//!
//! What concerns the transaction as a whole is said to every enlisted shard. At COMMIT the shards that
//! wrote nothing go first: nothing is lost when one of them fails, and the rest is rolled back. The one
//! shard that wrote goes last, so that its outcome is the transaction's; several commit in two phases
//! (`two_phase`). After DDL, and where the shards can't prepare, all of them commit one after the other, and a COMMIT that
//! fails midway leaves some committed: the client is told 08007 with the shards' names.

use super::effects::after_reset;
use super::pins::NOBODYS_SETTINGS;
use super::reply::Reply;
use super::{Executor, Failure};
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::session::transaction::{Pending, Transaction};
use crate::sql::class::{Class, TransactionModes};
use crate::wire::{self, backend::Severity};

/// How a COMMIT over several shards ended.
struct Outcome {
    committed: Vec<ShardId>,
    /// The first one that failed, with its answer.
    failed: Option<(ShardId, Reply)>,
    /// Not asked any more: rolled back.
    rest: Vec<ShardId>,
    /// The last one's answer.
    last: Reply,
}

/// Statements that every shard of a transaction must be told.
pub(super) fn is_for_all(class: &Class) -> bool {
    matches!(
        class,
        Class::Set(_) | Class::Reset(_) | Class::SetTransaction { .. } | Class::SetConstraints(_)
    )
}

impl Executor {
    /// Says something that concerns the whole transaction to all of its shards, and answers the client up
    /// to `ReadyForQuery`, which is left to the caller.
    pub(super) async fn tell_enlisted(&mut self, class: &Class, sql: &str) -> Result<(), Failure> {
        match class {
            Class::Commit { chain } => self.end_on_all(true, *chain).await,
            Class::Rollback { chain } => self.end_on_all(false, *chain).await,
            class => self.say_to_all(class, sql).await,
        }
    }

    async fn say_to_all(&mut self, class: &Class, sql: &str) -> Result<(), Failure> {
        let shards = self.enlisted();
        self.work_on(&shards);
        let mut string = sql.to_owned();
        for reset in after_reset(&self.session.settings, class, true) {
            string.push_str("; ");
            string.push_str(&reset);
        }
        let mut request = Vec::new();
        wire::frontend::query_into(&mut request, string.as_bytes());
        let replies = self.ask_all(&shards, &request, 1).await;
        if let Some((n, reply)) = replies.iter().enumerate().find(|(_, reply)| !reply.is_well()) {
            let shard = shards.get(n).copied().unwrap_or(ShardId(0));
            let message = self.failure_message(shard, reply, n == 0);
            self.io.outbox.extend_from_slice(&message);
            self.session.transaction.fail();
            self.drop_lost(&shards, &replies);
            return Err(Failure::Shown);
        }
        if matches!(class, Class::RollbackTo(_)) {
            self.session.transaction.resume();
            self.session.schema_stale |= self.session.schema_changed;
        }
        if let Some(at) = self.held.iter().position(|held| Some(&held.shard) == shards.first()) {
            self.follow(at, &[class], false, b'T');
        }
        self.follow_settings();
        if let Some(first) = replies.first() {
            first.notices_into(&mut self.io.outbox);
            self.complete(first.tags.first().map_or("", String::as_str));
            self.tell(&first.parameters);
        }
        Ok(())
    }

    async fn end_on_all(&mut self, commit: bool, chain: bool) -> Result<(), Failure> {
        let failed = self.session.transaction.status() == b'E';
        if chain && self.session.transaction.shard().is_none() {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "AND CHAIN is not supported after the transaction's shard was lost",
            )
            .hint("Send ROLLBACK, then BEGIN.")
            .into());
        }
        if failed {
            // An error has taken modes back, perhaps on one of the shards alone.
            self.session.settings.unsay();
            self.session.modes = self.session.inherited;
        }
        // Begun anew where its next statement leads, the next one has the same modes on every shard.
        let anew = chain && self.session.modes.is_some() && !self.session.settings.has_said();
        let chained = chain && !anew;
        if commit && !failed && chained && self.commits_on_several().await? {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "COMMIT AND CHAIN of a transaction that wrote on several shards is not supported after SET TRANSACTION",
            )
            .detail("What is prepared can't hand its modes on.")
            .hint("Send COMMIT, then BEGIN.")
            .into());
        }
        if !commit || failed {
            let sql = if chained { "ROLLBACK AND CHAIN" } else { "ROLLBACK" };
            let shards = self.enlisted();
            let parameters = self.roll_back_on(&shards, sql).await;
            self.ended(false, chain);
            self.complete("ROLLBACK");
            self.tell(&parameters);
            return Ok(());
        }
        let sql = if chained { "COMMIT AND CHAIN" } else { "COMMIT" };
        match self.commit(sql, chain).await {
            Ok(last) => {
                last.notices_into(&mut self.io.outbox);
                self.complete("COMMIT");
                self.tell(&last.parameters);
                Ok(())
            }
            Err(message) => {
                self.io.outbox.extend_from_slice(&message);
                Err(Failure::Shown)
            }
        }
    }

    /// Whether the transaction has written on several shards, and can commit there in two phases alone.
    async fn commits_on_several(&mut self) -> Result<bool, Failure> {
        if self.session.transaction.deeds().two_phase {
            return Ok(true);
        }
        match Box::pin(self.has_written_apart()).await {
            Ok(apart) => Ok(apart),
            Err(message) => {
                self.io.outbox.extend_from_slice(&message);
                Err(Failure::Shown)
            }
        }
    }

    /// What a transaction has set was committed on these connections, though it is not for the session, or it may have
    /// been: nobody goes on with it.
    pub(super) fn disown(&mut self, shards: &[ShardId]) {
        for held in self.held.iter_mut().filter(|held| shards.contains(&held.shard)) {
            held.lease.settings_id = NOBODYS_SETTINGS;
            held.follows = false;
        }
    }

    /// Commits on all shards: the last one's answer, or what the client is to be told.
    pub(super) async fn commit(&mut self, sql: &str, chain: bool) -> Result<Reply, Vec<u8>> {
        let two_phase = self.session.transaction.deeds().two_phase
            || sql == "COMMIT" && Box::pin(self.has_written_apart()).await?;
        if two_phase {
            return Box::pin(self.commit_in_two_phases(chain)).await;
        }
        let Outcome { committed, failed, rest, last } = self.commit_all(sql).await;
        let Some((shard, reply)) = failed else {
            self.ended(true, chain);
            return Ok(last);
        };
        let message = self.commit_failure(shard, &reply, &committed, &rest);
        self.disown(&committed);
        // AND CHAIN has begun another one where it was committed.
        let all: Vec<ShardId> = rest.iter().chain(&committed).copied().chain([shard]).collect();
        self.roll_back_on(&all, "ROLLBACK").await;
        self.ended(false, false);
        Err(message)
    }

    /// COMMIT, one shard after the other, those that wrote last.
    async fn commit_all(&mut self, sql: &str) -> Outcome {
        let mut order = self.enlisted();
        self.work_on(&order);
        let home = self.world.map.default_shard();
        let writer = self.session.transaction.deeds().writer;
        let notified =
            |shard: &ShardId| self.held.iter().any(|held| held.shard == *shard && held.notified);
        order.sort_by_key(|shard| match writer {
            Some(writer) if *shard == writer => 1,
            // What it says is heard when the rows are there, or not at all.
            Some(_) if notified(shard) => 2,
            None if *shard == home => 1,
            _ => 0,
        });
        let mut outcome = Outcome {
            committed: Vec::new(),
            failed: None,
            rest: Vec::new(),
            last: Reply::default(),
        };
        let mut left = order.into_iter();
        for shard in left.by_ref() {
            let reply = self.ask_query(shard, sql).await;
            if !reply.is_well() || reply.tag() != "COMMIT" {
                outcome.failed = Some((shard, reply));
                break;
            }
            outcome.committed.push(shard);
            outcome.last = reply;
        }
        outcome.rest = left.collect();
        outcome
    }

    /// What the client is told when a COMMIT over several shards has failed.
    fn commit_failure(
        &self,
        shard: ShardId,
        reply: &Reply,
        committed: &[ShardId],
        rest: &[ShardId],
    ) -> Vec<u8> {
        let deeds = self.session.transaction.deeds();
        let wrote = |shard: &ShardId| deeds.everywhere || deeds.writer == Some(*shard);
        let torn: Vec<ShardId> = committed.iter().copied().filter(wrote).collect();
        let unknown = reply.lost && wrote(&shard);
        if torn.is_empty() && !unknown {
            return self.failure_message(shard, reply, wrote(&shard));
        }
        let mut undone: Vec<ShardId> = rest.iter().copied().filter(wrote).collect();
        if !unknown && wrote(&shard) {
            undone.insert(0, shard);
        }
        let mut parts = Vec::new();
        let mut part = |what: &str, shards: &[ShardId]| {
            if !shards.is_empty() {
                parts.push(format!("{what} on {}", self.shards_text(shards)));
            }
        };
        part("It was committed", &torn);
        part("its outcome is not known", if unknown { std::slice::from_ref(&shard) } else { &[] });
        part("it was rolled back", &undone);
        let mut detail = parts.join(", ");
        if torn.is_empty() {
            detail = detail.replacen("its", "Its", 1);
        }
        if let Some(error) = &reply.error {
            detail.push_str(": ");
            detail.push_str(&error.message());
        }
        let error = SqlError::new(
            SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
            if torn.is_empty() {
                "the outcome of the transaction is not known"
            } else {
                "the transaction was committed on some of its shards only"
            },
        )
        .detail(format!("{detail}."))
        .hint("Look what took effect before you send it again.");
        let mut out = Vec::new();
        wire::backend::error(&mut out, &error, Severity::Error);
        out
    }

    /// Whether something may be lost if the open transaction's COMMIT is not answered.
    pub(super) fn has_written(&self) -> bool {
        let transaction = &self.session.transaction;
        transaction.deeds().writer.is_some() && transaction.status() == b'T'
    }

    /// The shard was lost while a statement ended the transaction. That is over then, whatever came of it, as
    /// after every COMMIT.
    pub(super) fn lost_at_end(
        &mut self,
        failure: Failure,
        end: &Class,
        wrote: bool,
        shard: ShardId,
    ) -> Failure {
        let commits = matches!(end, Class::Commit { .. });
        if !(commits || matches!(end, Class::Rollback { .. }))
            || !self.session.transaction.has_lost_its_shard()
        {
            return failure;
        }
        self.ended(false, false);
        match failure {
            Failure::Error(error)
                if commits && wrote && error.code == SqlState::CONNECTION_FAILURE =>
            {
                self.outcome_unknown(&[shard]).into()
            }
            failure => failure,
        }
    }

    /// COMMIT was sent to these shards and not answered.
    fn outcome_unknown(&self, shards: &[ShardId]) -> SqlError {
        SqlError::new(
            SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
            "the outcome of the transaction is not known",
        )
        .detail(format!("Its outcome is not known on {}.", self.shards_text(shards)))
        .hint("Look what took effect before you send it again.")
    }

    /// `shard "a"`, `shards "a", "b"`.
    pub(super) fn shards_text(&self, shards: &[ShardId]) -> String {
        let names: Vec<String> =
            shards.iter().map(|shard| format!("\"{}\"", self.place_name(*shard))).collect();
        let word = if names.len() == 1 { "shard" } else { "shards" };
        format!("{word} {}", names.join(", "))
    }

    /// Begins a transaction of a statement's own: it stands outside a block, and concerns several shards.
    pub(super) fn begin_own(&mut self, modes: TransactionModes) {
        self.session.transaction = Transaction::Pending(Pending::new(modes));
        self.session.modes = Some(modes);
        self.session.inherited = Some(TransactionModes::default());
        self.session.settings.begin();
    }

    /// Commits it.
    pub(super) async fn commit_own(&mut self) -> Result<(), Failure> {
        match self.commit("COMMIT", false).await {
            Ok(last) => {
                last.notices_into(&mut self.io.outbox);
                Ok(())
            }
            Err(message) => {
                self.io.outbox.extend_from_slice(&message);
                Err(Failure::Shown)
            }
        }
    }

    /// Takes it back.
    pub(super) async fn roll_back_own(&mut self) {
        let shards = self.enlisted();
        self.roll_back_on(&shards, "ROLLBACK").await;
        self.ended(false, false);
    }

    /// Rolls back on these shards. One that does not answer has lost its transaction with its connection.
    pub(super) async fn roll_back_on(
        &mut self,
        shards: &[ShardId],
        sql: &str,
    ) -> Vec<(String, String)> {
        self.roll_back_by(shards, sql, None).await
    }

    /// The same of those that answer by a deadline; the others are lost.
    pub(super) async fn roll_back_by(
        &mut self,
        shards: &[ShardId],
        sql: &str,
        deadline: Option<tokio::time::Instant>,
    ) -> Vec<(String, String)> {
        let is_open = |shard: &ShardId| {
            self.held.iter().any(|held| held.shard == *shard && held.lease.tx_status() != b'I')
        };
        let shards: Vec<ShardId> = shards.iter().copied().filter(is_open).collect();
        let mut request = Vec::new();
        wire::frontend::query_into(&mut request, sql.as_bytes());
        let requests: Vec<(ShardId, &[u8])> =
            shards.iter().map(|shard| (*shard, request.as_slice())).collect();
        let mut replies = self.ask_apart(&requests, 1, deadline).await;
        self.drop_lost(&shards, &replies);
        let last = replies.iter_mut().rfind(|reply| reply.is_well());
        last.map(|reply| std::mem::take(&mut reply.parameters)).unwrap_or_default()
    }

    /// Connections that broke are closed.
    pub(super) fn drop_lost(&mut self, shards: &[ShardId], replies: &[Reply]) {
        for (shard, reply) in shards.iter().zip(replies) {
            if !reply.lost {
                continue;
            }
            if let Some(at) = self.held.iter().position(|held| held.shard == *shard) {
                self.lose(at);
            }
        }
    }

    /// The transaction has ended on all of its shards, perhaps with a next one begun there.
    pub(super) fn ended(&mut self, committed: bool, chain: bool) {
        if self.session.settings.has_said() {
            self.session.modes = None;
        }
        self.session.settings.end(committed);
        // Where the next one is begun already the connection is not given back.
        for held in &mut self.held {
            (held.wrote, held.scratched, held.notified) = (false, false, false);
        }
        self.portals.clear();
        self.forget_cursors();
        if chain {
            self.session.settings.begin();
            self.session.inherited = self.session.modes;
        }
        match self.session.modes {
            _ if !chain => self.session.transaction = Transaction::Idle,
            Some(modes) => self.session.transaction = Transaction::Pending(Pending::new(modes)),
            None => self.session.transaction.chain(),
        }
        self.follow_settings();
        self.settle_all();
    }

    /// Lets go of all connections whose work is done.
    pub(super) fn settle_all(&mut self) {
        let idle = |held: &super::Held| held.lease.tx_status() == b'I';
        if !self.held.iter().any(idle) || self.batch.is_open() {
            return;
        }
        let quiet = self.cancel.rest();
        let mut n = 0;
        while let Some(held) = self.held.get(n) {
            if !idle(held) {
                n += 1;
                continue;
            }
            let before = self.held.len();
            self.settle_after(n, quiet.clone());
            n += usize::from(self.held.len() == before);
        }
    }

    /// A cancel request concerns these from now on.
    pub(super) fn work_on(&self, shards: &[ShardId]) {
        let backends = self.held.iter().filter(|held| shards.contains(&held.shard));
        let backend = |held: &super::Held| super::Backend {
            shard: self.server_of(held.shard),
            pid: held.lease.pid(),
            secret: held.lease.secret_word(),
        };
        self.cancel.working_all(backends.map(backend).collect());
    }
}
