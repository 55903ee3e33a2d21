//! The end of a transaction that is decided: what is prepared is finished wherever that can be done now, and the client
//! is told how it ended.

use std::sync::Arc;

use super::{ANSWER_MAX, Work, message_of};
use crate::commit::{Commit, Outcome, Verdict, sql};
use crate::error::{SqlError, SqlState};
use crate::exec::Executor;
use crate::exec::pins::NOBODYS_SETTINGS;
use crate::exec::recovery;
use crate::exec::reply::Reply;
use crate::map::ShardId;
use crate::observe::{METRICS, add};
use crate::wire::backend::Severity;
use crate::wire::{self, frontend, response};

impl Executor {
    /// COMMIT PREPARED or ROLLBACK PREPARED wherever something is prepared; which have done it.
    pub(super) async fn finish_all(
        &mut self,
        work: &Work,
        commit: &Commit,
        verdict: Verdict,
    ) -> Vec<bool> {
        let asked: Vec<usize> =
            (0..work.participants.len()).filter(|n| commit.has_prepared(*n)).collect();
        let (mut done, refused) = self.finish_on(work, &asked, verdict, false).await;
        if !refused.is_empty() {
            // The transaction had another role than its session has.
            done.extend(self.finish_on(work, &refused, verdict, true).await.0);
        }
        if verdict == Verdict::Aborted {
            // What is prepared keeps its locks, and did not wait for this.
            let open: Vec<ShardId> = work
                .participants
                .iter()
                .enumerate()
                .filter(|(n, _)| !commit.has_prepared(*n))
                .map(|(_, shard)| *shard)
                .chain([work.coordinator])
                .collect();
            let deadline = Some(tokio::time::Instant::now() + ANSWER_MAX);
            self.roll_back_by(&open, "ROLLBACK", deadline).await;
        }
        if verdict == Verdict::Committed {
            let again = asked.iter().copied().filter(|n| !done.contains(n)).collect();
            done.extend(Box::pin(self.commit_again(work, again)).await);
        }
        (0..work.participants.len()).map(|n| done.contains(&n)).collect()
    }

    /// The same on these, on the connections that have prepared; which have done it, and which may not.
    async fn finish_on(
        &mut self,
        work: &Work,
        asked: &[usize],
        verdict: Verdict,
        as_owner: bool,
    ) -> (Vec<usize>, Vec<usize>) {
        let mut requests = Vec::new();
        let mut shards = Vec::new();
        for n in asked {
            let Some(shard) = work.participants.get(*n).copied() else { continue };
            let mut request = Vec::new();
            let owner = work.prepared.get(*n).filter(|_| as_owner);
            let owner = owner.map(|prepared| sql::as_owner(&prepared.owner));
            if let Some(owner) = owner {
                frontend::query_into(&mut request, owner.as_bytes());
            }
            frontend::query_into(&mut request, sql::unhurried().as_bytes());
            let name = work.gid.on(self.number_of(shard));
            frontend::query_into(&mut request, sql::finish(verdict, &name).as_bytes());
            frontend::query_into(&mut request, sql::as_before().as_bytes());
            if as_owner {
                frontend::query_into(&mut request, b"RESET ROLE");
            }
            requests.push((shard, request));
            shards.push(shard);
        }
        let borrowed: Vec<(ShardId, &[u8])> =
            requests.iter().map(|(shard, request)| (*shard, request.as_slice())).collect();
        let deadline = Some(tokio::time::Instant::now() + ANSWER_MAX);
        let replies = self.ask_apart(&borrowed, 3 + 2 * u32::from(as_owner), deadline).await;
        for (shard, reply) in shards.iter().zip(&replies) {
            // What the transaction has set is set there still, or this has set something and not set it back.
            if (as_owner || verdict == Verdict::Aborted || !reply.is_well())
                && let Some(held) = self.held.iter_mut().find(|held| held.shard == *shard)
            {
                held.lease.settings_id = NOBODYS_SETTINGS;
                held.follows = false;
            }
        }
        // Before that nobody else finishes what is prepared.
        let alone = work.since.elapsed() < self.shared().config.limits.in_doubt_after;
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        for ((n, shard), reply) in asked.iter().zip(&shards).zip(&replies) {
            let gone = |error: &response::ServerError| error.code() == SqlState::UNDEFINED_OBJECT.0;
            let is_gone = !reply.lost && reply.error.as_ref().is_some_and(gone);
            if is_gone && alone && verdict == Verdict::Committed {
                let name = work.gid.on(self.number_of(*shard));
                recovery::note_gone(&self.place_name(*shard), &name);
            }
            let may_not =
                |error: &response::ServerError| error.code() == SqlState::INSUFFICIENT_PRIVILEGE.0;
            if reply.is_well() || is_gone {
                done.push(*n);
            } else if !reply.lost && reply.error.as_ref().is_some_and(may_not) {
                refused.push(*n);
            }
        }
        self.drop_lost(&shards, &replies);
        (done, refused)
    }

    /// Those that did not answer are asked again on new connections, all at once; which have committed.
    async fn commit_again(&mut self, work: &Work, again: Vec<usize>) -> Vec<usize> {
        let mut asked = tokio::task::JoinSet::new();
        for n in again {
            let Some(shard) = work.participants.get(n).copied() else { continue };
            let prepared = work.prepared.get(n).cloned().unwrap_or_default();
            let (shared, map) = (Arc::clone(self.shared()), Arc::clone(&self.world.map));
            let name = work.gid.on(self.number_of(shard));
            asked.spawn(async move {
                let done = match map.shard(shard) {
                    Some(own) => recovery::commit_again(&shared, own, &name, &prepared).await,
                    None => false,
                };
                done.then_some(n)
            });
        }
        asked.join_all().await.into_iter().flatten().collect()
    }

    pub(super) fn end_in_two_phases(
        &mut self,
        work: Work,
        commit: &Commit,
        outcome: Outcome,
        mut last: Reply,
        failure: Option<Vec<u8>>,
        chain: bool,
    ) -> Result<Reply, Vec<u8>> {
        let left: Vec<ShardId> = work
            .participants
            .iter()
            .enumerate()
            .filter(|(n, _)| commit.is_left(*n))
            .map(|(_, shard)| *shard)
            .collect();
        let Work { gid, coordinator, running, participants, readers, .. } = work;
        if outcome != Outcome::Decided(Verdict::Committed) {
            self.disown(&readers);
            self.disown(&participants);
        }
        if left.is_empty() && outcome != Outcome::Unknown {
            running.end();
        }
        match outcome {
            Outcome::Decided(Verdict::Committed) => {
                add(&METRICS.two_phase_commits, 1);
                if !left.is_empty() {
                    let warning = SqlError::new(
                        SqlState::WARNING,
                        format!("the transaction is committed, and not visible yet on {}", self.shards_text(&left)),
                    )
                    .detail(format!("It was prepared there as \"{gid}\", and is committed there as soon as it can be."));
                    wire::backend::notice(&mut self.io.outbox, &warning, Severity::Warning);
                }
                self.ended(true, chain);
                last.columns = None;
                Ok(last)
            }
            Outcome::Decided(Verdict::Aborted) => {
                add(&METRICS.two_phase_aborts, 1);
                self.ended(false, false);
                let lost = || message_of(&self.lost_while_asked(coordinator));
                Err(failure.unwrap_or_else(lost))
            }
            Outcome::Unknown => {
                self.ended(false, false);
                let all: Vec<ShardId> = std::iter::once(coordinator).chain(participants).collect();
                let error = SqlError::new(
                    SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
                    "the outcome of the transaction is not known",
                )
                .detail(format!(
                    "It is committed on {}, or on none of them: shard \"{}\", which has decided, does not answer. It is finished as \"{gid}\" when that is back.",
                    self.shards_text(&all),
                    self.place_name(coordinator)
                ))
                .hint("Look what took effect before you send it again.");
                Err(message_of(&error))
            }
        }
    }
}
