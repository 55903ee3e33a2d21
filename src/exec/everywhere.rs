//! Statements that every shard carries out: DDL, TRUNCATE, and whatever else under `pgmeridian.shard = '*'`.
//!
//! All or nothing as far as one phase goes: outside a transaction block one is begun on every shard; the
//! home shard goes first, and the others hear of the statement only when it was done there, so that two
//! clients that want the same locks wait for each other on one server, which sees a deadlock. Then
//! everything is committed: rows in two phases where the shards can (see `two_phase`), else the home shard last (see
//! `several`). What PostgreSQL does not do in a
//! transaction block is done shard by shard, and an error says where it was done.
//!
//! The answer is one: the home shard's command tag with the counts of all, its notices, and those of
//! others that say something else.

use std::time::Instant;

use rustc_hash::FxHashSet;

use super::one_shard::several_at_once;
use super::reply::Reply;
use super::{Executor, Failure};
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::plan::{Answer, Plan, repeating_numbers};
use crate::sql::class::{Class, Isolation, TransactionModes};
use crate::wire::backend::{Severity, tag};
use crate::wire::response::{self, ServerError};
use crate::wire::{self, frame};

/// What the client is told of the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Show {
    /// The columns: `RowDescription`, or `NoData` where there are none.
    pub(super) describe: bool,
    /// `NoData` is a message of its own (extended protocol).
    pub(super) no_data: bool,
    /// The rows and the command tag.
    pub(super) complete: bool,
}

impl Executor {
    /// A simple Query for all shards; `ReadyForQuery` is left to the caller.
    pub(super) async fn query_everywhere(
        &mut self,
        plan: &Plan,
        text: &str,
    ) -> Result<(), Failure> {
        let mut request = Vec::new();
        let sql = plan.rewritten.as_deref().unwrap_or(text);
        wire::frontend::query_into(&mut request, sql.as_bytes());
        let show = Show { describe: true, no_data: false, complete: true };
        self.everywhere(plan, sql, &request, show).await
    }

    /// A request (with one `ReadyForQuery`) for all shards.
    pub(super) async fn everywhere(
        &mut self,
        plan: &Plan,
        sql: &str,
        request: &[u8],
        show: Show,
    ) -> Result<(), Failure> {
        if self.batch.is_open() {
            return Err(several_at_once().into());
        }
        self.refuse_beside_temporary(plan)?;
        self.note_route(plan);
        if self.session.transaction.is_open() {
            let replies = self.within(plan, request).await?;
            Self::same_columns(&replies)?;
            self.warn_of_numbers(plan, sql, &replies);
            self.show(&replies, show);
            return Ok(());
        }
        if matches!(plan.answer, Answer::InTurn) {
            return self.in_turn(plan, request, show).await;
        }
        let modes = TransactionModes {
            isolation: Some(Isolation::ReadCommitted),
            ..TransactionModes::default()
        };
        self.begin_own(modes);
        let outcome = match self.within(plan, request).await {
            Ok(replies) => Self::same_columns(&replies).map(|()| replies).map_err(Into::into),
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(replies) => {
                self.commit_own().await?;
                self.warn_of_numbers(plan, sql, &replies);
                self.show(&replies, show);
                Ok(())
            }
            Err(Failure::Gone(gone)) => Err(Failure::Gone(gone)),
            Err(failure) => {
                self.roll_back_own().await;
                Err(failure)
            }
        }
    }

    /// A lock ends with its transaction: by itself it would be none (`RequireTransactionBlock`).
    pub(super) fn refuse_lock_alone(&self, class: &Class) -> Result<(), SqlError> {
        if !matches!(class, Class::Lock)
            || self.session.transaction.is_open()
            || self.piece.is_some()
        {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::NO_ACTIVE_SQL_TRANSACTION,
            "LOCK TABLE can only be used in transaction blocks",
        ))
    }

    /// All shards, the home shard first.
    fn every_shard(&self) -> Vec<ShardId> {
        let home = self.world.map.default_shard();
        let all = (0..self.world.map.shards().len() as u16).map(ShardId);
        std::iter::once(home).chain(all.filter(|shard| *shard != home)).collect()
    }

    /// Within the open transaction.
    pub(super) async fn within(
        &mut self,
        plan: &Plan,
        request: &[u8],
    ) -> Result<Vec<Reply>, Failure> {
        let shards = self.every_shard();
        self.may_go_everywhere(&shards)?;
        for shard in &shards {
            self.join(*shard).await?;
        }
        if self.session.transaction.deeds().two_phase {
            Box::pin(self.make_all_able(&shards)).await?;
        } else if plan.writes && !plan.changes_schema && !plan.taints {
            // What a trigger does (notify, touch temporary tables) may be what can't be prepared.
            Box::pin(self.begin_writing_everywhere(&shards)).await?;
        }
        self.work_on(&shards);
        let (first, others) = shards.split_at(shards.len().min(1));
        let mut replies = self.ask_all(first, request, 1).await;
        self.note_times(first);
        self.refuse_failed(first, &replies, true)?;
        let rest = self.ask_all(others, request, 1).await;
        self.note_times(others);
        self.refuse_failed(others, &rest, false)?;
        replies.extend(rest);
        self.session.transaction.note_everywhere();
        self.note_done(plan, &shards);
        Ok(replies)
    }

    /// A table was made whose numbers will not be unique.
    fn warn_of_numbers(&mut self, plan: &Plan, sql: &str, replies: &[Reply]) {
        if !plan.changes_schema || replies.first().is_none_or(|reply| reply.tag() != "CREATE TABLE")
        {
            return;
        }
        if let Some(warning) = repeating_numbers(sql, &self.world.map) {
            wire::backend::notice(&mut self.io.outbox, &warning, Severity::Warning);
        }
    }

    /// With trace on: these shards have answered by now.
    fn note_times(&mut self, shards: &[ShardId]) {
        if self.traced.is_some() {
            for shard in shards {
                self.note_shard_time(*shard, Some(Instant::now()));
            }
        }
    }

    /// What was done leaves on the connections and in the session.
    fn note_done(&mut self, plan: &Plan, shards: &[ShardId]) {
        for held in self.held.iter_mut().filter(|held| shards.contains(&held.shard)) {
            held.pinned |= plan.taints;
            if plan.changes_schema && !held.pinned {
                // An event trigger may have left something behind: nobody else gets the connection.
                held.lease.taint();
            }
        }
        self.session.schema_changed |= plan.changes_schema;
        self.session.schema_stale |= plan.changes_schema;
        self.follow_settings();
    }

    /// The client is told the first failure, and the transaction has failed.
    fn refuse_failed(
        &mut self,
        shards: &[ShardId],
        replies: &[Reply],
        first: bool,
    ) -> Result<(), Failure> {
        let mut each = shards.iter().zip(replies);
        let Some((shard, reply)) = each.find(|(_, reply)| !reply.is_well()) else { return Ok(()) };
        let message = self.failure_message(*shard, reply, first);
        self.io.outbox.extend_from_slice(&message);
        self.session.transaction.fail();
        self.drop_lost(shards, replies);
        Err(Failure::Shown)
    }

    /// Shard by shard, each by itself.
    async fn in_turn(&mut self, plan: &Plan, request: &[u8], show: Show) -> Result<(), Failure> {
        let shards = self.every_shard();
        let mut replies = Vec::new();
        for (n, shard) in shards.iter().enumerate() {
            let left = shards.get(n..).unwrap_or_default();
            let done = shards.get(..n).unwrap_or_default();
            if let Err(mut error) = self.acquire(*shard).await {
                if n > 0 {
                    let text = self.done_and_left(done, left);
                    error.detail = Some(match error.detail {
                        Some(detail) => format!("{detail}\n{text}"),
                        None => text,
                    });
                }
                return Err(error.into());
            }
            self.work_on(&[*shard]);
            let reply = self.ask_all(&[*shard], request, 1).await.pop().unwrap_or_default();
            if !reply.is_well() {
                let message = self.in_turn_failure(*shard, &reply, done, left);
                self.io.outbox.extend_from_slice(&message);
                self.drop_lost(&[*shard], &[reply]);
                self.settle_all();
                return Err(Failure::Shown);
            }
            replies.push(reply);
            self.note_times(&[*shard]);
            self.note_done(plan, &[*shard]);
            self.settle_all();
        }
        self.show(&replies, show);
        Ok(())
    }

    fn in_turn_failure(
        &self,
        shard: ShardId,
        reply: &Reply,
        done: &[ShardId],
        left: &[ShardId],
    ) -> Vec<u8> {
        if done.is_empty() {
            return self.failure_message(shard, reply, true);
        }
        let mut out = Vec::new();
        let text = self.done_and_left(done, left);
        if let Some(error) = &reply.error {
            let context = format!("shard \"{}\"", self.world.map.shard_name(shard));
            error.with_line(b'D', &text).with_context(&context).error_into(&mut out);
        } else {
            let error = self.lost_while_asked(shard).detail(text);
            wire::backend::error(&mut out, &error, wire::backend::Severity::Error);
        }
        out
    }

    fn done_and_left(&self, done: &[ShardId], left: &[ShardId]) -> String {
        format!("It was done on {}, and not on {}.", self.shards_text(done), self.shards_text(left))
    }

    /// One answer of several.
    fn show(&mut self, replies: &[Reply], show: Show) {
        let Some(first) = replies.first() else { return };
        self.tell(&first.parameters);
        first.notices_into(&mut self.io.outbox);
        let mut said: FxHashSet<Vec<u8>> = first.notices.iter().map(|body| words(body)).collect();
        for body in replies.iter().skip(1).flat_map(|reply| &reply.notices) {
            if said.insert(words(body)) {
                frame::append(&mut self.io.outbox, tag::NOTICE, body);
            }
        }
        match &first.columns {
            Some(columns) if show.describe => {
                frame::append(&mut self.io.outbox, tag::ROW_DESCRIPTION, columns);
            }
            None if show.describe && show.no_data => wire::backend::no_data(&mut self.io.outbox),
            _ => {}
        }
        if show.complete {
            for reply in replies {
                self.io.outbox.extend_from_slice(&reply.rows);
            }
            self.complete(&common_tag(replies));
        }
    }

    fn same_columns(replies: &[Reply]) -> Result<(), SqlError> {
        let shape = |reply: &Reply| reply.columns.as_deref().map(shape);
        if replies.windows(2).all(|pair| matches!(pair, [a, b] if shape(a) == shape(b))) {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "the shards answer with different columns",
        )
        .hint("Compare the tables and user-defined types of the shards."))
    }

    fn may_go_everywhere(&self, shards: &[ShardId]) -> Result<(), SqlError> {
        let here = self.session.transaction.shard();
        let first = here.or(shards.first().copied()).unwrap_or(ShardId(0));
        let other = shards.iter().copied().find(|shard| *shard != first).unwrap_or(first);
        self.refuse_leaving(other)?;
        let Some(modes) = self.session.modes else {
            return Err(self
                .cannot_go_on(first, other)
                .detail("Its modes are not known, so that they can't be given to another shard.")
                .hint("Begin it with a BEGIN of its own."));
        };
        self.allow_isolation(modes.isolation, first, other)
    }
}

/// What must be equal of the columns: names, types, modifiers, formats. Tables have OIDs of their own on
/// each shard.
fn shape(columns: &[u8]) -> Vec<(Vec<u8>, u32, i32, bool)> {
    let fields = response::row_description(columns).unwrap_or_default();
    let field = |f: &response::Field<'_>| {
        let binary = f.format == crate::datum::Format::Binary;
        (f.name.to_vec(), f.type_oid, f.type_mod, binary)
    };
    fields.iter().map(field).collect()
}

/// What a notice says, without where in PostgreSQL's source it says so.
fn words(body: &[u8]) -> Vec<u8> {
    let Ok(notice) = ServerError::parse(body) else { return body.to_vec() };
    let kinds = [b'S', b'C', b'M', b'D', b'H'];
    kinds.iter().filter_map(|kind| notice.field(*kind)).collect::<Vec<_>>().join(&b'\n')
}

/// The command tag with the rows of all shards.
fn common_tag(replies: &[Reply]) -> String {
    let first = replies.first().map_or("", Reply::tag);
    let Some((words, _)) = first.rsplit_once(' ') else { return first.to_owned() };
    let count = |reply: &Reply| response::row_count(reply.tag().as_bytes());
    match replies.iter().map(count).collect::<Option<Vec<u64>>>() {
        Some(counts) => format!("{words} {}", counts.iter().sum::<u64>()),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(tag: &str) -> Reply {
        Reply { tags: vec![tag.to_owned()], ..Reply::default() }
    }

    #[test]
    fn counts_are_those_of_all_shards() {
        assert_eq!(
            common_tag(&[reply("UPDATE 2"), reply("UPDATE 0"), reply("UPDATE 5")]),
            "UPDATE 7"
        );
        assert_eq!(common_tag(&[reply("INSERT 0 1"), reply("INSERT 0 1")]), "INSERT 0 2");
        assert_eq!(common_tag(&[reply("CREATE TABLE"), reply("CREATE TABLE")]), "CREATE TABLE");
        assert_eq!(common_tag(&[reply("DO"), reply("DO")]), "DO");
    }
}
