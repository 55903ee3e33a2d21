//! Portals over several shards: rows that wait in the proxy until they are fetched.
//!
//! A portal that is to give its rows bit by bit would keep every shard's connection in the middle of an
//! answer, while the transaction that it is part of goes on on the same connections. So its rows are read at
//! once and kept (at most `limits.merge_memory_max` of them), and each Execute takes its share. Outside a
//! transaction Sync ends a portal: there the shards are asked for no more rows than the first Execute is.
//!
//! Main type: [`Spool`].

use super::everywhere::Show;
use super::merged::Wanted;
use super::scatter::{ScatterBind, Trouble};
use super::{Executor, Failure, extended};
use crate::plan::Answer;
use crate::wire::backend::tag;
use crate::wire::{self, frame};

/// What a portal has still to give.
#[derive(Debug, Default)]
pub(super) struct Spool {
    /// `RowDescription`, as a whole message; empty if it has no columns.
    description: Vec<u8>,
    /// `DataRow`s.
    rows: Vec<u8>,
    /// How much of them was given.
    given: usize,
    /// The body of `CommandComplete`.
    tag: Vec<u8>,
}

impl Spool {
    /// Takes an answer apart; what is neither a row nor about rows is returned.
    fn of(answer: &[u8]) -> (Self, Vec<u8>) {
        let (mut spool, mut aside) = (Self::default(), Vec::new());
        for found in frame::all(answer) {
            match found.tag {
                tag::ROW_DESCRIPTION => spool.description = found.raw.to_vec(),
                tag::NO_DATA => {}
                tag::DATA_ROW => spool.rows.extend_from_slice(found.raw),
                tag::COMMAND_COMPLETE => spool.tag = found.body.to_vec(),
                _ => aside.extend_from_slice(found.raw),
            }
        }
        (spool, aside)
    }

    /// The columns.
    pub(super) fn describe(&self, out: &mut Vec<u8>) {
        if self.description.is_empty() {
            wire::backend::no_data(out);
        } else {
            out.extend_from_slice(&self.description);
        }
    }

    /// The next rows, all that are left with 0; then `PortalSuspended`, or the command tag when there are no
    /// more (manual, "Extended Query": a portal that gives as many as were asked for does not know whether
    /// they were the last).
    pub(super) fn fetch(&mut self, most: u32, out: &mut Vec<u8>) {
        let rest = self.rows.get(self.given..).unwrap_or_default();
        let most_rows = if most == 0 { usize::MAX } else { most as usize };
        let (mut count, mut bytes) = (0, 0);
        for row in frame::all(rest).take(most_rows) {
            bytes += row.raw.len();
            count += 1;
        }
        out.extend_from_slice(rest.get(..bytes).unwrap_or_default());
        self.given += bytes;
        if most > 0 && count == most {
            wire::backend::portal_suspended(out);
        } else if self.tag.is_empty() || self.tag.starts_with(b"SELECT ") {
            wire::backend::command_complete(out, &format!("SELECT {count}"));
        } else {
            frame::append(out, tag::COMMAND_COMPLETE, &self.tag);
        }
        if self.given == self.rows.len() {
            (self.rows, self.given) = (Vec::new(), 0);
        }
    }
}

impl Executor {
    /// A unit whose portal is fetched bit by bit, or later.
    pub(super) async fn spool_unit(
        &mut self,
        scatter: &mut ScatterBind,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let block = self.session.transaction.is_open();
        let (described, executed) = scatter.ask_all(!block);
        let most = self.worker.shared.config.limits.merge_memory_max;
        self.io.begin_capture(usize::try_from(most).unwrap_or(usize::MAX));
        let result = self.read_portal(scatter, bytes).await;
        let (answer, over) = self.io.end_capture();
        let (mut spool, aside) = Spool::of(&answer);
        self.io.outbox.extend_from_slice(&aside);
        result?;
        if over {
            return Err(self.failure(Trouble::TooMuch));
        }
        if described {
            spool.describe(&mut self.io.outbox);
        }
        if let Some(most) = executed {
            spool.fetch(most, &mut self.io.outbox);
        }
        if block {
            let portal = extended::Portal::Spooled(Box::new(spool));
            self.portals.insert(scatter.portal(bytes), portal);
        }
        Ok(())
    }

    /// All that is asked of a portal over several shards.
    pub(super) async fn read_portal(
        &mut self,
        scatter: &ScatterBind,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let wanted = Wanted {
            sql: &scatter.sql,
            oids: &scatter.oids,
            bind: Some(scatter.body(bytes)),
            described: scatter.described,
            no_data: true,
            rows_max: scatter.rows_max,
        };
        let text = String::from_utf8_lossy(&scatter.sql);
        let timed = if scatter.is_executed() {
            self.at_one_time(&scatter.plan, &text).await?
        } else {
            None
        };
        let plan = timed.as_ref().unwrap_or(&scatter.plan);
        let own = timed.as_ref().and_then(|plan| plan.rewritten.as_deref());
        let sql = own.map_or(&*scatter.sql, str::as_bytes);
        if scatter.is_executed() && self.read_gathered(plan, wanted).await? {
        } else if let Answer::Staged(staged) = &plan.answer {
            if scatter.described {
                self.describe_staged(staged, &wanted).await?;
            }
        } else if plan.answer.is_everywhere() {
            let show = Show {
                describe: scatter.described,
                no_data: true,
                complete: scatter.is_executed(),
            };
            let request = scatter.request(bytes, sql);
            self.everywhere(plan, &String::from_utf8_lossy(sql), &request, show).await?;
        } else if scatter.is_executed() || scatter.described {
            let requests = scatter.requests(plan, bytes, sql);
            let complete = scatter.is_executed();
            self.scatter(plan, &requests, scatter.described, complete).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_given_once_and_in_order() {
        let mut answer = Vec::new();
        frame::append(&mut answer, tag::ROW_DESCRIPTION, &[0, 0]);
        for n in 0..5_u8 {
            frame::append(&mut answer, tag::DATA_ROW, &[0, 1, n]);
        }
        frame::append(&mut answer, tag::NOTICE, b"\0");
        wire::backend::command_complete(&mut answer, "SELECT 5");
        let (mut spool, aside) = Spool::of(&answer);
        assert_eq!(aside.first(), Some(&tag::NOTICE));
        let mut fetch = |most: u32| {
            let mut out = Vec::new();
            spool.fetch(most, &mut out);
            frame::all(&out).map(|found| char::from(found.tag)).collect::<String>()
        };
        assert_eq!(fetch(2), "DDs");
        assert_eq!(fetch(3), "DDDs");
        assert_eq!(fetch(1), "C");
        assert_eq!(fetch(0), "C");
    }
}
