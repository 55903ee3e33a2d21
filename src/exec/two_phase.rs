//! A transaction writes on several shards, and commits on all of them or on none.
//!
//! Before it writes on a second shard, both are made sure of: that the one that will decide, the *coordinator*, has
//! the table of decisions, and that the other can prepare. At COMMIT the machine of [`crate::commit`] says what comes
//! next; this is its hands and ears. What is not finished here is left to `recovery`.
//!
//! Invariants: every shard that has written is prepared before anything is decided, and which have written is asked
//! of the shards themselves where it is not known; a client that is told COMMIT sees the transaction on every shard,
//! or is warned; cancel requests end with the first PREPARE.

mod finish;
mod names;
mod ready;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use self::names::{not_theirs, refuse_our_names, touches_decisions};
use super::pins::Pins;
use super::recovery::{self, Running};
use super::reply::Reply;
use super::{Executor, Failure};
use crate::commit::{Commit, Gid, Step, Verdict, Word, sql};
use crate::error::{SqlError, SqlState};
use crate::map::{CrossShardWrites, ShardId};
use crate::wire::backend::Severity;
use crate::wire::{self, frame, frontend, response};

/// A shard that does not answer the decision, or what follows it, for so long is taken for lost.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Why one with scratch tables is no participant.
const UNPREPARABLE: &str = "A statement over several shards puts its rows into scratch tables where it writes, and PostgreSQL can't prepare what has touched temporary tables: one shard of a transaction can have such.";

/// Why one that notifies is no participant.
const NOTIFYING: &str = "PostgreSQL can't prepare a transaction that listens or notifies: one shard of a transaction that writes on several can do so, or have scratch tables, and that one decides.";

/// The command tag of PREPARE TRANSACTION.
const PREPARED_TAG: &str = "PREPARE TRANSACTION";

/// `not_null_violation`.
const NOT_NULL_VIOLATION: &str = "23502";

/// `unique_violation`.
const UNIQUE_VIOLATION: &str = "23505";

impl Executor {
    /// A statement that `writes` on a shard would be the transaction's first one there, after it wrote elsewhere.
    pub(super) fn writes_apart(&self, shard: ShardId, writes: bool) -> bool {
        let elsewhere = || {
            let writer = self.session.transaction.deeds().writer;
            writer.is_some_and(|writer| writer != shard)
        };
        let is_known = |held: &super::Held| held.shard == shard && held.wrote;
        writes && elsewhere() && !self.held.iter().any(is_known)
    }

    /// The same, and that is not allowed.
    pub(super) fn refuse_writing_apart(&self, shard: ShardId) -> Result<(), SqlError> {
        let deeds = self.session.transaction.deeds();
        let writer = deeds.writer.filter(|writer| *writer != shard);
        match writer {
            Some(writer)
                if self.world.map.policy().cross_shard_writes == CrossShardWrites::Refuse =>
            {
                Err(self.writes_elsewhere(shard, writer))
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that the transaction can commit on this shard together with the one where it wrote before.
    ///
    /// # Errors
    ///
    /// 0A000: one of them can't do its part.
    pub(super) async fn begin_writing(&mut self, shard: ShardId) -> Result<(), Failure> {
        self.refuse_writing_apart(shard)?;
        let Some(first) = self.session.transaction.deeds().writer else { return Ok(()) };
        let piped = self.batch.is_open();
        if !piped {
            self.join(shard).await?;
        }
        let coordinator = self.coordinator_of(first, shard)?;
        let participant = if coordinator == first { shard } else { first };
        if !(piped && coordinator == shard) {
            self.make_ready(coordinator, participant).await?;
        }
        if !(piped && participant == shard) {
            self.make_able(participant).await?;
            self.make_fit(participant, coordinator).await?;
        }
        if let Some(held) = self.held.iter_mut().find(|held| held.shard == participant) {
            held.wrote = true;
        }
        self.session.transaction.write_on_several(coordinator);
        if self.session.transaction.deeds().everywhere {
            self.make_all_able(&self.enlisted()).await?;
        }
        Ok(())
    }

    /// A statement is about to write rows on all of these: where they can, they commit in two phases, else as ever.
    pub(super) async fn begin_writing_everywhere(
        &mut self,
        shards: &[ShardId],
    ) -> Result<(), Failure> {
        if self.world.map.policy().cross_shard_writes == CrossShardWrites::Refuse {
            return Ok(());
        }
        let unfit = |held: &&super::Held| held.scratched || held.notified;
        let unfit: Vec<ShardId> = self.held.iter().filter(unfit).map(|held| held.shard).collect();
        let writer = self.session.transaction.deeds().writer.or(shards.first().copied());
        let coordinator = match unfit.as_slice() {
            [] => writer,
            [one] => Some(*one),
            _ => None,
        };
        let other = shards.iter().copied().find(|shard| Some(*shard) != coordinator);
        let (Some(coordinator), Some(other)) = (coordinator, other) else { return Ok(()) };
        let mut able = self.make_ready(coordinator, other).await;
        for shard in shards.iter().filter(|shard| **shard != coordinator) {
            if able.is_ok() {
                able = self.make_able(*shard).await;
            }
            if able.is_ok() {
                able = self.make_fit(*shard, coordinator).await;
            }
        }
        match able {
            Ok(()) => self.session.transaction.write_on_several(coordinator),
            Err(Failure::Error(error)) if error.code == SqlState::FEATURE_NOT_SUPPORTED => {}
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// A statement runs, or ran, on all of these within a transaction that commits in two phases.
    pub(super) async fn make_all_able(&mut self, shards: &[ShardId]) -> Result<(), Failure> {
        let coordinator = self.session.transaction.deeds().writer;
        for shard in shards.iter().filter(|shard| Some(**shard) != coordinator) {
            self.make_able(*shard).await?;
        }
        Ok(())
    }

    /// Scratch tables are about to be made on a shard within the transaction: it can't be prepared then.
    pub(super) fn note_scratch(&mut self, shard: ShardId) -> Result<(), SqlError> {
        let deeds = self.session.transaction.deeds();
        let everywhere = deeds.two_phase && deeds.everywhere && deeds.writer != Some(shard);
        match self.held.iter_mut().find(|held| held.shard == shard) {
            Some(held) if held.wrote || everywhere => {}
            held => {
                if let Some(held) = held {
                    held.scratched = true;
                }
                return Ok(());
            }
        }
        let writer = self.session.transaction.deeds().writer.unwrap_or(shard);
        Err(self.writes_elsewhere(shard, writer).detail(UNPREPARABLE))
    }

    /// A statement that is about to run listens or notifies: within a transaction that can't be prepared then.
    pub(super) fn note_notifying(&mut self, at: usize) -> Result<(), SqlError> {
        if !self.leaving.notifies() || !self.session.transaction.is_open() {
            return Ok(());
        }
        let deeds = self.session.transaction.deeds();
        let Some(held) = self.held.get_mut(at) else { return Ok(()) };
        let everywhere = deeds.two_phase && deeds.everywhere && deeds.writer != Some(held.shard);
        if !(held.wrote || everywhere) {
            held.notified = true;
            return Ok(());
        }
        let shard = held.shard;
        self.leaving = Pins::NONE;
        let writer = self.session.transaction.deeds().writer.unwrap_or(shard);
        Err(self.writes_elsewhere(shard, writer).detail(NOTIFYING))
    }

    /// Which of two that are written on decides: what has temporary tables, or notifies, can't be prepared.
    fn coordinator_of(&self, first: ShardId, second: ShardId) -> Result<ShardId, SqlError> {
        let is = |shard: ShardId, what: fn(&super::Held) -> bool| {
            self.held.iter().any(|held| held.shard == shard && what(held))
        };
        let scratched = |shard| is(shard, |held| held.scratched);
        let unfit = |shard| is(shard, |held| held.scratched || held.notified);
        let own = self.session.temporary.as_ref().map(|(shard, _)| *shard);
        match (unfit(first), unfit(second)) {
            (true, true) => {
                let both = scratched(first) && scratched(second);
                let why = if both { UNPREPARABLE } else { NOTIFYING };
                Err(self.writes_elsewhere(second, first).detail(why))
            }
            (false, true) => Ok(second),
            (false, false) if own == Some(second) => Ok(second),
            _ => Ok(first),
        }
    }

    /// The number of a shard in the map.
    fn number_of(&self, shard: ShardId) -> i16 {
        self.world.map.shard(shard).map_or(0, |shard| shard.id)
    }

    /// A transaction that is known to have written on one shard ends: whether it has written on others after all, which
    /// their servers know, and can commit on all of them together. Rows that were locked count, too.
    ///
    /// # Errors
    ///
    /// One of them can't be asked: everything is rolled back, and the client is told this.
    pub(super) async fn has_written_apart(&mut self) -> Result<bool, Vec<u8>> {
        let deeds = self.session.transaction.deeds();
        let Some(writer) = deeds.writer.filter(|_| !deeds.everywhere) else { return Ok(false) };
        if self.world.map.policy().cross_shard_writes == CrossShardWrites::Refuse {
            return Ok(false);
        }
        let enlisted = self.enlisted();
        let scratched =
            |shard: &ShardId| self.held.iter().any(|held| held.shard == *shard && held.scratched);
        let is_silent = |shard: &ShardId| *shard != writer && !scratched(shard);
        let silent: Vec<ShardId> = enlisted.iter().copied().filter(is_silent).collect();
        if silent.is_empty() {
            return Ok(false);
        }
        self.work_on(&enlisted);
        let mut request = Vec::new();
        frontend::query_into(&mut request, sql::HAS_WRITTEN.as_bytes());
        let replies = self.ask_all(&silent, &request, 1).await;
        if let Err(message) = self.refuse_unwell(&silent, &replies) {
            return Err(self.undo_all(&enlisted, message).await);
        }
        let has_written = |reply: &Reply| first_value(reply).as_deref() != Some(b"f");
        let wrote = silent.iter().zip(&replies).filter(|(_, reply)| has_written(reply));
        let mut wrote: Vec<ShardId> = wrote.map(|(shard, _)| *shard).collect();
        if wrote.is_empty() {
            return Ok(false);
        }
        let mut coordinator = writer;
        for shard in &wrote {
            match self.coordinator_of(coordinator, *shard) {
                Ok(shard) => coordinator = shard,
                Err(_) => return Ok(false),
            }
        }
        wrote.push(writer);
        wrote.retain(|shard| *shard != coordinator);
        let participant = wrote.first().copied().unwrap_or(coordinator);
        let mut able = self.make_ready(coordinator, participant).await;
        for shard in &wrote {
            if able.is_ok() {
                able = self.make_able(*shard).await;
            }
            if able.is_ok() {
                able = self.make_fit(*shard, coordinator).await;
            }
        }
        match able {
            Ok(()) => {}
            // It may be locks alone, with which it commits as ever.
            Err(Failure::Error(error)) if error.code == SqlState::FEATURE_NOT_SUPPORTED => {
                return Ok(false);
            }
            Err(failure) => {
                let message = told(&failure);
                return Err(self.undo_all(&enlisted, message).await);
            }
        }
        for held in self.held.iter_mut().filter(|held| wrote.contains(&held.shard)) {
            held.wrote = true;
        }
        self.session.transaction.write_on_several(coordinator);
        Ok(true)
    }

    /// COMMIT of a transaction that wrote on several shards: what the client is told, up to the command tag.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it is left to recovery, which finishes it one way or the other.
    pub(super) async fn commit_in_two_phases(&mut self, chain: bool) -> Result<Reply, Vec<u8>> {
        let deeds = self.session.transaction.deeds();
        let enlisted = self.enlisted();
        let coordinator = deeds.writer.or(enlisted.first().copied()).unwrap_or(ShardId(0));
        self.work_on(&enlisted);
        let wrote = |shard: &ShardId| {
            deeds.everywhere || self.held.iter().any(|held| held.shard == *shard && held.wrote)
        };
        let others = enlisted.iter().copied().filter(|shard| *shard != coordinator);
        let (mut participants, silent): (Vec<ShardId>, Vec<ShardId>) = others.partition(wrote);
        // A cursor's rows are all that was written there.
        let scratched =
            |shard: &ShardId| self.held.iter().any(|held| held.shard == *shard && held.scratched);
        let (scratched, silent): (Vec<ShardId>, Vec<ShardId>) =
            silent.into_iter().partition(scratched);
        let table = match self.make_sure(coordinator, &silent, &mut participants).await {
            Ok(table) => table,
            Err(failure) => {
                let message = told(&failure);
                return Err(self.undo_all(&enlisted, message).await);
            }
        };
        let notified =
            |shard: &ShardId| self.held.iter().any(|held| held.shard == *shard && held.notified);
        let silent = silent.into_iter().filter(|shard| !participants.contains(shard));
        // What they say is heard when it is committed, and not before.
        let (later, readers): (Vec<ShardId>, Vec<ShardId>) =
            scratched.into_iter().chain(silent).partition(notified);
        if let Err(message) = self.end_readers(&readers).await {
            self.disown(&readers);
            return Err(self.undo_all(&enlisted, message).await);
        }
        let secret = format!("{:032x}", rand::random::<u128>());
        let gid = Gid::new(self.number_of(coordinator), &table.mark, &secret);
        let waits = self.worker.shared.store.wait_with(self.world.map.version());
        let shards = std::iter::once(&coordinator).chain(&participants);
        let shards = shards.map(|shard| self.number_of(*shard)).collect();
        let running = self.shared().commits.begin(&gid, shards, waits);
        let prepared = vec![sql::Prepared::default(); participants.len()];
        let since = Instant::now();
        let work = Work {
            gid,
            table,
            secret,
            coordinator,
            participants,
            later,
            readers,
            prepared,
            since,
            running,
        };
        self.carry_through(work, chain).await
    }

    /// The shards that have only been read let go.
    async fn end_readers(&mut self, readers: &[ShardId]) -> Result<(), Vec<u8>> {
        let mut request = Vec::new();
        frontend::query_into(&mut request, b"COMMIT");
        let replies = self.ask_all(readers, &request, 1).await;
        self.refuse_unwell(readers, &replies)
    }

    /// What notifies is committed at last. If that fails nobody hears of it, and the client is told so.
    async fn commit_later(&mut self, shards: &[ShardId]) {
        let mut request = Vec::new();
        frontend::query_into(&mut request, b"COMMIT");
        let borrowed: Vec<(ShardId, &[u8])> =
            shards.iter().map(|shard| (*shard, request.as_slice())).collect();
        let deadline = Some(tokio::time::Instant::now() + ANSWER_MAX);
        let replies = self.ask_apart(&borrowed, 1, deadline).await;
        for (shard, reply) in shards.iter().zip(&replies) {
            if word(reply, "COMMIT") != Word::Done {
                let name = self.place_name(*shard);
                let warning = SqlError::new(
                    SqlState::WARNING,
                    format!(
                        "the transaction is committed, and its notifications on shard \"{name}\" may be lost"
                    ),
                );
                wire::backend::notice(&mut self.io.outbox, &warning, Severity::Warning);
            }
        }
        let words = shards.iter().zip(&replies);
        let undone = words.filter(|(_, reply)| word(reply, "COMMIT") != Word::Done);
        let undone: Vec<ShardId> = undone.map(|(shard, _)| *shard).collect();
        self.disown(&undone);
        self.drop_lost(shards, &replies);
    }

    fn refuse_unwell(&mut self, shards: &[ShardId], replies: &[Reply]) -> Result<(), Vec<u8>> {
        let found = shards.iter().zip(replies).find(|(_, reply)| !reply.is_well());
        let message = found.map(|(shard, reply)| self.failure_message(*shard, reply, false));
        self.drop_lost(shards, replies);
        message.map_or(Ok(()), Err)
    }

    /// Everything is rolled back before anything was prepared.
    async fn undo_all(&mut self, shards: &[ShardId], message: Vec<u8>) -> Vec<u8> {
        self.roll_back_on(shards, "ROLLBACK").await;
        self.ended(false, false);
        message
    }

    async fn carry_through(&mut self, mut work: Work, chain: bool) -> Result<Reply, Vec<u8>> {
        let mut commit = Commit::new(work.participants.len());
        let mut last = Reply::default();
        // The first failure, as the client is told of it.
        let mut failure = None;
        loop {
            match commit.step() {
                Step::Prepare => {
                    // One that cancels a wait for a standby would make it a PREPARE that a failover takes back.
                    self.hear_no_more().await;
                    failure = self.prepare_all(&mut work, &mut commit).await;
                }
                Step::Decide => {
                    let (word, reply) = self.decide(&work).await;
                    commit.decided(word);
                    failure =
                        (word == Word::Refused).then(|| self.undecided(work.coordinator, &reply));
                    last = reply;
                }
                Step::Ask => {
                    let shared = Arc::clone(self.shared());
                    let map = Arc::clone(&self.world.map);
                    let verdict = match map.shard(work.coordinator) {
                        Some(shard) => {
                            Box::pin(recovery::ask_coordinator(&shared, shard, &work.gid)).await
                        }
                        None => None,
                    };
                    if verdict == Some(Verdict::Aborted) {
                        failure = Some(message_of(&self.lost_while_asked(work.coordinator)));
                    }
                    commit.asked(verdict);
                }
                Step::Finish(verdict) => {
                    let done = self.finish_all(&work, &commit, verdict).await;
                    commit.finished(done);
                    if verdict == Verdict::Committed {
                        self.commit_later(&work.later).await;
                    }
                }
                Step::Over(outcome) => {
                    let deadline = Some(tokio::time::Instant::now() + ANSWER_MAX);
                    self.roll_back_by(&work.later, "ROLLBACK", deadline).await;
                    return self.end_in_two_phases(work, &commit, outcome, last, failure, chain);
                }
            }
        }
    }

    /// PREPARE TRANSACTION on the participants; meanwhile the coordinator does what was deferred to the end.
    async fn prepare_all(&mut self, work: &mut Work, commit: &mut Commit) -> Option<Vec<u8>> {
        let mut requests = Vec::new();
        for shard in &work.participants {
            let mut request = Vec::new();
            let server = self.known_server(*shard);
            let sql = sql::prepare(&work.gid, self.number_of(*shard), server.as_deref());
            frontend::query_into(&mut request, sql.as_bytes());
            requests.push((*shard, request));
        }
        let mut check = Vec::new();
        frontend::query_into(&mut check, sql::CHECK.as_bytes());
        requests.push((work.coordinator, check));
        let borrowed: Vec<(ShardId, &[u8])> =
            requests.iter().map(|(shard, request)| (*shard, request.as_slice())).collect();
        // For longer than that others would not wait either: what has prepared keeps its locks.
        let most = self.shared().config.limits.in_doubt_after;
        let deadline = Some(tokio::time::Instant::now() + most);
        let mut replies = self.ask_apart(&borrowed, 1, deadline).await;
        let checked = replies.pop().unwrap_or_default();
        commit.prepared(replies.iter().map(|reply| word(reply, PREPARED_TAG)));
        for ((prepared, shard), reply) in
            work.prepared.iter_mut().zip(&work.participants).zip(&replies)
        {
            let told = last_value(reply).unwrap_or_default();
            *prepared = sql::Prepared::read(&String::from_utf8_lossy(&told)).unwrap_or_default();
            self.note_server(*shard, &prepared.server);
        }
        let mut failure = None;
        let is_over = deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline);
        let too_late = |reply: &Reply| reply.lost && reply.error.is_none() && is_over;
        if !checked.is_well() {
            commit.give_up();
            failure = Some(if too_late(&checked) {
                message_of(&self.not_in_time(work.coordinator))
            } else {
                self.failure_message(work.coordinator, &checked, true)
            });
        }
        for (shard, reply) in work.participants.iter().zip(&replies) {
            if failure.is_none() && word(reply, PREPARED_TAG) != Word::Done {
                failure = Some(if too_late(reply) {
                    message_of(&self.not_in_time(*shard))
                } else {
                    self.failure_message(*shard, reply, false)
                });
            }
            // Somebody has cancelled its wait for a standby: a failover could take it back.
            if reply.notices.iter().any(|notice| has_not_waited(notice)) {
                commit.give_up();
                failure.get_or_insert_with(|| message_of(&self.not_safe(*shard)));
            }
            for body in &reply.notices {
                frame::append(&mut self.io.outbox, wire::backend::tag::NOTICE, body);
            }
        }
        checked.notices_into(&mut self.io.outbox);
        self.drop_lost(&work.participants, &replies);
        self.drop_lost(&[work.coordinator], std::slice::from_ref(&checked));
        failure
    }

    /// 40001: what a participant has prepared could be lost.
    fn not_safe(&self, shard: ShardId) -> SqlError {
        SqlError::new(
            SqlState::SERIALIZATION_FAILURE,
            format!(
                "shard \"{}\" has prepared the transaction without waiting for its standbys",
                self.place_name(shard)
            ),
        )
        .detail("Its wait was cancelled there. It was rolled back on all of its shards.")
        .hint("The transaction might succeed if retried.")
    }

    /// 40001: a participant has taken too long.
    fn not_in_time(&self, shard: ShardId) -> SqlError {
        SqlError::new(
            SqlState::SERIALIZATION_FAILURE,
            format!(
                "shard \"{}\" did not prepare the transaction within limits.in_doubt_after",
                self.place_name(shard)
            ),
        )
        .detail("It was rolled back on all of its shards.")
        .hint("The transaction might succeed if retried.")
    }

    /// From now on nothing is cancelled. A request that is on its way is waited for.
    async fn hear_no_more(&mut self) {
        if let Some(quiet) = self.cancel.rest()
            && !quiet.wait().await
        {
            // It may come at any time: nobody else gets these connections.
            for held in self.held.iter_mut().filter(|held| !held.pinned) {
                held.lease.taint();
            }
        }
    }

    /// The decision, with the coordinator's own rows.
    async fn decide(&mut self, work: &Work) -> (Word, Reply) {
        let numbers = work.participants.iter().map(|shard| self.number_of(*shard));
        let servers = work.prepared.iter().map(|prepared| prepared.server.as_str());
        let sql = sql::decide(&work.gid, &work.table, &work.secret, numbers.zip(servers));
        let mut request = Vec::new();
        frontend::query_into(&mut request, sql.as_bytes());
        let deadline = Some(tokio::time::Instant::now() + ANSWER_MAX);
        let reply = self.ask_apart(&[(work.coordinator, &request)], 1, deadline).await.pop();
        let reply = reply.unwrap_or_else(|| Reply { lost: true, ..Reply::default() });
        if reply.notices.iter().any(|notice| has_not_waited(notice)) {
            recovery::note_unsafe(&self.place_name(work.coordinator), &work.gid);
        }
        self.drop_lost(&[work.coordinator], std::slice::from_ref(&reply));
        (word(&reply, "COMMIT"), reply)
    }

    /// The coordinator has not decided.
    fn undecided(&self, coordinator: ShardId, reply: &Reply) -> Vec<u8> {
        self.forget_table(coordinator);
        let is_another = reply.error.as_ref().is_some_and(|error| {
            error.code() == NOT_NULL_VIOLATION && error.field(b't') == Some(b"decision")
        });
        if is_another {
            let name = self.place_name(coordinator);
            return message_of(
                &SqlError::new(
                    SqlState::SERIALIZATION_FAILURE,
                    "the table by which the transaction commits is another one than it was",
                )
                .detail(format!(
                    "Somebody has made or restored pgmeridian.decision on shard \"{name}\" meanwhile. The transaction was rolled back on all of its shards."
                ))
                .hint("The transaction might succeed if retried."),
            );
        }
        let is_buried = reply.error.as_ref().is_some_and(|error| {
            error.code() == UNIQUE_VIOLATION && error.field(b't') == Some(b"decision")
        });
        let is_read_only = reply
            .error
            .as_ref()
            .is_some_and(|error| error.code() == SqlState::READ_ONLY_SQL_TRANSACTION.0);
        if is_read_only {
            let error = SqlError::new(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                "a transaction that wrote on several shards can't commit once it is read-only",
            )
            .detail(format!(
                "That it commits is decided by a row of table pgmeridian.decision on shard \"{}\". It was rolled back on all of them.",
                self.place_name(coordinator)
            ))
            .hint("Leave out SET TRANSACTION READ ONLY after its writes.");
            return message_of(&error);
        }
        if !is_buried {
            return self.failure_message(coordinator, reply, true);
        }
        message_of(
            &SqlError::new(
                SqlState::SERIALIZATION_FAILURE,
                "the transaction was given up while its shards prepared",
            )
            .detail(
                "That took longer than limits.in_doubt_after; it was rolled back on all of them.",
            )
            .hint("The transaction might succeed if retried."),
        )
    }
}

/// A transaction whose end is under way.
struct Work {
    gid: Gid,
    /// The coordinator's table.
    table: sql::Table,
    secret: String,
    coordinator: ShardId,
    participants: Vec<ShardId>,
    /// Where it wrote nothing, and notifies: committed when everything else is.
    later: Vec<ShardId>,
    /// Where it only read: committed before everything else.
    readers: Vec<ShardId>,
    /// What each of them has said of it.
    prepared: Vec<sql::Prepared>,
    /// When they were told to prepare.
    since: Instant,
    running: Running,
}

/// A notice says that a wait for standbys was cancelled (`SyncRepWaitForLSN` in `syncrep.c`).
fn has_not_waited(notice: &[u8]) -> bool {
    response::ServerError::parse(notice)
        .is_ok_and(|notice| notice.field(b'R') == Some(b"SyncRepWaitForLSN"))
}

/// What a shard's answer says of a command with this tag.
fn word(reply: &Reply, tag: &str) -> Word {
    match reply {
        // What it said before it was lost may be about anything.
        Reply { lost: true, .. } => Word::Lost,
        Reply { error: None, .. } if reply.tag() == tag => Word::Done,
        _ => Word::Refused,
    }
}

/// What the client is to be told of a failure, if it is not told yet.
fn told(failure: &Failure) -> Vec<u8> {
    match failure {
        Failure::Error(error) => message_of(error),
        Failure::Shown | Failure::Gone(_) => Vec::new(),
    }
}

fn unreadable() -> SqlError {
    SqlError::new(SqlState::INTERNAL_ERROR, "a shard's answer can't be read")
}

/// The first value of the first row.
fn first_value(reply: &Reply) -> Option<Vec<u8>> {
    let row = frame::all(&reply.rows).next()?;
    let values = response::data_row(row.body).ok()?;
    values.first().copied().flatten().map(<[u8]>::to_vec)
}

/// The first value of the last row.
fn last_value(reply: &Reply) -> Option<Vec<u8>> {
    let row = frame::all(&reply.rows).last()?;
    let values = response::data_row(row.body).ok()?;
    values.first().copied().flatten().map(<[u8]>::to_vec)
}

fn message_of(error: &SqlError) -> Vec<u8> {
    let mut out = Vec::new();
    wire::backend::error(&mut out, error, Severity::Error);
    out
}
