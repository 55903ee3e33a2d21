//! COPY TO STDOUT over several shards: the data of each shard's COPY, or of the host's, goes to the client.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::answer::Asked;
use super::gathered::{Header, Unwrapped, trailer_into};
use super::line::{Line, PART_BYTES};
use super::relay::poll_gone;
use super::scatter::Trouble;
use super::workspace::{Ask, in_our_words};
use super::{Executor, Failure, Gone};
use crate::map::ShardId;
use crate::plan::Plan;
use crate::wire::backend::tag;
use crate::wire::{self, frame, response};

/// A COPY to the client that is under way.
struct CopyOut {
    /// The client has been told of it.
    begun: bool,
    rows: u64,
    header: Header,
}

impl Executor {
    /// Makes the scratch tables and has the host copy to the client.
    pub(super) async fn copy_host(
        &mut self,
        plan: &Plan,
        ask: &Ask<'_>,
        sql: &str,
    ) -> Result<(), Failure> {
        let worker = Arc::clone(&self.worker);
        let _turn = self.take_turn(&worker).await?;
        let (mut host, shards) = self.filled(plan, ask).await?;
        let mut out = CopyOut { begun: false, rows: 0, header: Header::None };
        let passed = self.pass_copy(&mut host, sql, &mut out, true).await;
        let gone = matches!(passed, Err(Trouble::Client));
        self.clear_workspace(vec![host.asked], shards, passed.is_ok(), gone).await;
        match passed {
            Ok(()) => {
                self.end_copy(&out);
                Ok(())
            }
            Err(trouble) => Err(self.failure(in_our_words(trouble))),
        }
    }

    /// Passes on the data of each shard's COPY, one shard after the other.
    pub(super) async fn pass_copies(
        &mut self,
        asked: Vec<Asked>,
        sql: &(dyn Fn(ShardId) -> String + Sync),
        header: Header,
    ) -> Result<(), Failure> {
        let mut lines: Vec<Line> = asked.into_iter().map(Line::of).collect();
        let mut out = CopyOut { begun: false, rows: 0, header };
        let mut passed = Ok(());
        for line in &mut lines {
            if passed.is_ok() {
                let mut request = Vec::new();
                wire::frontend::query_into(&mut request, sql(line.shard()).as_bytes());
                passed = line.ask(&request).await;
            }
        }
        for (n, line) in lines.iter_mut().enumerate() {
            if passed.is_ok() {
                passed = self.pass_copy(line, "", &mut out, n == 0).await;
            }
        }
        let asked: Vec<Asked> = lines.into_iter().map(|line| line.asked).collect();
        match passed {
            Ok(()) => {
                self.put_back(asked);
                self.end_copy(&out);
                Ok(())
            }
            Err(Trouble::Client) => {
                self.abandon_all(asked);
                Err(Failure::Gone(Gone::Client))
            }
            Err(trouble) => {
                self.stop(asked).await;
                Err(self.failure(in_our_words(trouble)))
            }
        }
    }

    fn end_copy(&mut self, out: &CopyOut) {
        trailer_into(&mut self.io.outbox, out.header);
        frame::append(&mut self.io.outbox, tag::COPY_DONE, b"");
        self.complete(&format!("COPY {}", out.rows));
    }

    /// Passes one COPY on, asked for here unless it was before.
    async fn pass_copy(
        &mut self,
        line: &mut Line,
        sql: &str,
        out: &mut CopyOut,
        first: bool,
    ) -> Result<(), Trouble> {
        if !sql.is_empty() {
            let mut request = Vec::new();
            wire::frontend::query_into(&mut request, sql.as_bytes());
            line.ask(&request).await?;
        }
        let mut unwrapped = Unwrapped::new(out.header, first);
        let mut error = None;
        while line.open {
            let io = &mut self.io;
            let mut coming = pin!(line.message());
            let message = poll_fn(|cx| match coming.as_mut().poll(cx) {
                Poll::Pending => poll_gone(cx, io).map(|()| Err(Trouble::Client)),
                message @ Poll::Ready(_) => message,
            });
            let (kind, body) = message.await?;
            match kind {
                tag::COPY_OUT if !std::mem::replace(&mut out.begun, true) => {
                    frame::append(&mut self.io.outbox, kind, &body);
                }
                tag::COPY_DATA => {
                    let data = unwrapped.message(&body);
                    if !data.is_empty() {
                        frame::append(&mut self.io.outbox, kind, data);
                    }
                    if self.io.outbox.len() >= PART_BYTES {
                        self.io.flush().await.map_err(|_| Trouble::Client)?;
                    }
                }
                tag::COMMAND_COMPLETE => {
                    let words = response::command_complete(&body).ok();
                    out.rows += words.and_then(response::row_count).unwrap_or(0);
                }
                tag::ERROR => {
                    error.get_or_insert(body);
                }
                _ => {}
            }
        }
        error.map_or(Ok(()), |body| Err(Trouble::Server(body.to_vec())))
    }
}
