//! Connections that were asked the same thing at once, and what becomes of them when the answer is
//! whole, or no longer wanted.
//!
//! [`Asked`] follows its connection's answer by the messages' headers alone, whatever else is made of
//! it: so a statement that fails half-way is read to its end, and its connection is as good as new. A
//! failed statement must not cost its client what a connection carries (temporary tables, locks), nor the
//! pool its connections.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::task::JoinSet;

use super::cancel::CANCEL_TIMEOUT;
use super::io::with_read_buffer;
use super::{Executor, Held};
use crate::catalog::numbers::Renumbering;
use crate::datum::Oid;
use crate::map::ShardId;
use crate::mapstore::World;
use crate::session::responses::renumber_columns;
use crate::wire::frontend;
use crate::wire::walk::Walk;

/// How long a cancelled statement may take to end. PostgreSQL looks for a cancel at every row; what
/// takes longer (a network file system, a foreign server) is not waited for.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// A connection that is asked something together with others.
pub(super) struct Asked {
    pub(super) held: Held,
    walk: Walk,
    lost: bool,
    /// What its shard numbers otherwise than the client knows it.
    numbers: Option<Arc<Renumbering>>,
}

impl Asked {
    pub(super) fn new(held: Held, world: &World) -> Self {
        let numbers = world.numbers.of(held.shard).cloned();
        Self { held, walk: Walk::default(), lost: false, numbers }
    }

    /// A `RowDescription` of its shard, in the client's numbers.
    pub(super) fn in_the_clients_numbers(&self, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        if let Some(numbers) = &self.numbers {
            // What can't be read stays as it is.
            let _ = renumber_columns(&mut body, numbers);
        }
        body
    }

    /// Types of parameters that its shard has told, in the client's numbers.
    pub(super) fn types_in_the_clients_numbers(&self, mut types: Vec<Oid>) -> Vec<Oid> {
        if let Some(numbers) = &self.numbers {
            for oid in &mut types {
                *oid = numbers.of_type(*oid);
            }
        }
        types
    }

    pub(super) fn shard(&self) -> ShardId {
        self.held.shard
    }

    /// Sends a request that one `ReadyForQuery` will answer; false when the connection is lost.
    pub(super) async fn ask(&mut self, request: &[u8]) -> bool {
        self.walk = Walk::default();
        self.held.lease.expect_ready(1);
        let renumbered = self.numbers.as_ref().and_then(|numbers| {
            frontend::renumber_parsed(request, |theirs| numbers.own_type(theirs))
        });
        let request = renumbered.as_deref().unwrap_or(request);
        self.lost = self.held.lease.send_all(request).await.is_err();
        !self.lost
    }

    /// Reads what has come; false when the connection is lost.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<bool> {
        let before = self.walk.ready();
        let read = ready!(self.held.lease.poll_read(cx, buffer));
        self.lost |= read.is_err() || buffer.filled().is_empty();
        self.lost = self.lost || self.walk.feed(buffer.filled()).is_err();
        if !self.lost {
            for _ in before..self.walk.ready() {
                self.held.lease.ready(self.walk.status());
            }
        }
        Poll::Ready(!self.lost)
    }

    /// Nothing (more) is to come: it was not asked yet, or the answer is whole.
    pub(super) fn is_over(&self) -> bool {
        self.held.lease.awaiting() == 0
    }

    /// Ends an answer that is not wanted any more; false when the connection can't be used again.
    ///
    /// The cancel request is waited for, too: one that came late would hit the next statement. (The server
    /// closes a cancel request's connection after it has sent the signal, and forgets a signal that comes
    /// while it waits for a command: `ProcessInterrupts`, `DoingCommandRead` in `postgres.c`.)
    pub(super) async fn end(&mut self) -> bool {
        if self.lost || self.is_over() {
            return !self.lost;
        }
        let key = (!self.walk.failed()).then(|| self.held.lease.cancel_key());
        let cancelled = async {
            match key {
                Some(key) => key.cancel(CANCEL_TIMEOUT).await.is_ok(),
                None => true,
            }
        };
        let drained = async {
            while !self.is_over() {
                let read = std::future::poll_fn(|cx| with_read_buffer(|b| self.poll_read(cx, b)));
                if !read.await {
                    return false;
                }
            }
            true
        };
        let both = async { tokio::join!(cancelled, drained) };
        matches!(tokio::time::timeout(DRAIN_MAX, both).await, Ok((true, true)))
    }
}

impl Executor {
    /// All answers have come: the connections go back where they came from.
    pub(super) fn put_back(&mut self, asked: Vec<Asked>) {
        let quiet = self.cancel.rest();
        // One beside the transaction that is not idle is closed.
        let kept = |one: &Asked| !one.held.beside || one.held.lease.tx_status() == b'I';
        for Asked { held, .. } in asked.into_iter().filter(kept) {
            self.held.push(held);
            self.settle_after(self.held.len() - 1, quiet.clone());
        }
    }

    /// The statement has failed: whoever still works for it is told to stop, and listened to until it has.
    pub(super) async fn stop(&mut self, asked: Vec<Asked>) {
        let (over, working): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|one| one.lost || one.is_over());
        let mut ended = over;
        let mut ending: JoinSet<Result<Asked, Held>> = working
            .into_iter()
            .map(|mut one| async move { if one.end().await { Ok(one) } else { Err(one.held) } })
            .collect();
        let mut lost: Vec<Held> = Vec::new();
        while let Some(outcome) = ending.join_next().await {
            match outcome {
                Ok(Ok(one)) => ended.push(one),
                Ok(Err(held)) => lost.push(held),
                // It can only have panicked; the connection went with it.
                Err(_) => self.state_lost = true,
            }
        }
        let (dead, alive): (Vec<_>, Vec<_>) = ended.into_iter().partition(|one| one.lost);
        lost.extend(dead.into_iter().map(|one| one.held));
        self.put_back(alive);
        for held in lost {
            self.held.push(held);
            self.lose(self.held.len() - 1);
        }
    }

    /// The client is gone: whoever still works for it is told to stop, and the connections are closed.
    pub(super) fn abandon_all(&mut self, asked: Vec<Asked>) {
        self.cancel.rest();
        for one in asked.into_iter().filter(|one| !one.is_over()) {
            let key = one.held.lease.cancel_key();
            drop(one);
            tokio::spawn(async move {
                // Nobody can be told; the connection is closed either way.
                let _ = key.cancel(CANCEL_TIMEOUT).await;
            });
        }
    }
}
