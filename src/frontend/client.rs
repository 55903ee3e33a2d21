//! The loop of a client that has logged in.
//!
//! A client waits most of its life, and its task is as large as the largest thing that it ever awaits. So what
//! carries out a request is a future apart from it ([`carry_out`]), in memory that the clients of a thread share:
//! there is as much of it as there are requests at the same time ([`Carrier`]).

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use crate::error::{SqlError, SqlState};
use crate::exec::timeouts::idle_in_transaction;
use crate::exec::{Executor, Gone};
use crate::wire::backend::Severity;
use crate::wire::frontend::tag;
use crate::wire::{self, ProtocolError};

/// Extended messages without Sync or Flush are carried out when they are this many bytes: a client may
/// pipeline more than should be kept in memory. Not before an Execute, though: what is bound and not executed may be
/// a statement over several shards, which is carried out as a whole.
const UNIT_BYTES: usize = 256 * 1024;

/// So many bytes are not waited with for an Execute.
const WAITING_BYTES_MAX: u32 = 1 << 30;

/// So many are kept for the requests to come; more are made when more are carried out at the same time.
const CARRIERS_KEPT: usize = 64;

/// A request's end: its client again, and whether it stays.
type Done = (Box<Executor>, Result<(), Gone>);

thread_local! {
    /// Those whose request is done.
    static CARRIERS: RefCell<Vec<Box<dyn Carrier>>> = const { RefCell::new(Vec::new()) };
}

/// Carries requests out, one after another in the same memory.
trait Carrier: Send {
    /// Takes a request, which stands behind `before` bytes of a unit.
    fn take(&mut self, executor: Box<Executor>, before: usize, request: Request);
    /// Goes on with it; without one there is nothing to go on with.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Done>;
}

/// A [`Carrier`] by an `async fn`, whose future has no name.
struct By<M, F> {
    make: M,
    future: Pin<Box<Option<F>>>,
}

impl<M, F> By<M, F>
where
    M: Fn(Box<Executor>, usize, Request) -> F + Send + 'static,
    F: Future<Output = Done> + Send + 'static,
{
    fn new(make: M) -> Self {
        Self { make, future: Box::pin(None) }
    }
}

impl<M, F> Carrier for By<M, F>
where
    M: Fn(Box<Executor>, usize, Request) -> F + Send,
    F: Future<Output = Done> + Send,
{
    fn take(&mut self, executor: Box<Executor>, before: usize, request: Request) {
        self.future.set(Some((self.make)(executor, before, request)));
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Done> {
        match self.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(context),
            None => Poll::Pending,
        }
    }
}

/// What to do with the next frame.
enum Next {
    /// More bytes are needed.
    Fill,
    /// A simple query: where its text is.
    Query { offset: usize, length: usize },
    /// It means nothing here.
    Skip(usize),
    /// It ends the unit.
    Unit { length: usize, sync: bool },
    /// The client says good-bye.
    Terminate,
    /// A function call of this many bytes behind the unit.
    Call(usize),
    /// A query of this many bytes behind the unit that is none: it is refused, and the client goes on.
    Faulty { length: usize, error: Box<ProtocolError> },
}

/// What is carried out, of [`Next`].
enum Request {
    Query { offset: usize, length: usize },
    Unit { length: usize, sync: bool },
    Call(usize),
    Faulty { length: usize, error: Box<ProtocolError> },
}

/// The messages of the extended protocol that wait for Sync, Flush, or [`UNIT_BYTES`].
#[derive(Clone, Copy, Default)]
struct Waiting {
    /// How many bytes: at most [`WAITING_BYTES_MAX`] and a message more. (A word of every client's memory.)
    bytes: u32,
    /// The last one is Execute.
    executes: bool,
}

impl Waiting {
    fn length(self) -> usize {
        self.bytes as usize
    }

    /// They wait no longer. `most`: a message may be as long.
    fn is_enough(self, most: u32) -> bool {
        let behind = self.length().saturating_sub(UNIT_BYTES);
        behind > 0 && self.executes || behind > WAITING_BYTES_MAX.min(most) as usize
    }
}

/// Serves a client until it is gone.
pub(super) async fn serve(mut executor: Box<Executor>) -> Box<Executor> {
    let shared = Arc::clone(executor.shared());
    let mut drain = pin!(shared.drain.notified());
    let mut unit = Waiting::default();
    // What it was greeted with is not said again, and most clients say less.
    if executor.io.flush().await.is_err() {
        return executor;
    }
    executor.io.outbox = Vec::new();
    loop {
        let most = shared.config.limits.statement_bytes_max;
        let next = match next(executor.io.unread(), &mut unit, most) {
            Ok(next) => next,
            Err(error) => {
                wire::backend::error(&mut executor.io.outbox, &error.into(), Severity::Fatal);
                Box::pin(executor.io.drain()).await;
                return executor;
            }
        };
        let (before, request) = match next {
            Next::Terminate => return executor,
            Next::Skip(length) => {
                executor.io.consume(length);
                continue;
            }
            Next::Fill if unit.is_enough(most) => {
                (0, Request::Unit { length: unit.length(), sync: false })
            }
            Next::Fill => {
                if let Some(error) = must_leave(&executor) {
                    Box::pin(farewell(&mut executor, error)).await;
                    return executor;
                }
                if executor.io.flush().await.is_err() {
                    return executor;
                }
                executor.rest();
                if executor.is_in_doubt() {
                    Box::pin(executor.resolve_doubts()).await;
                    if executor.lost_state().is_none() {
                        continue;
                    }
                }
                if let Some(error) = executor.lost_state().map(Box::new) {
                    Box::pin(farewell(&mut executor, error)).await;
                    return executor;
                }
                tokio::select! {
                    biased;
                    filled = executor.wait() => match filled {
                        Ok(true) => {}
                        Ok(false) | Err(_) => return executor,
                    },
                    () = drain.as_mut() => drain.set(shared.drain.notified()),
                }
                continue;
            }
            Next::Unit { length, sync } => (0, Request::Unit { length, sync }),
            Next::Query { offset, length } => (unit.length(), Request::Query { offset, length }),
            Next::Call(length) => (unit.length(), Request::Call(length)),
            Next::Faulty { length, error } => (unit.length(), Request::Faulty { length, error }),
        };
        unit = Waiting::default();
        let result;
        (executor, result) = run_request(executor, before, request).await;
        match result {
            Ok(()) => {
                executor.client.done(executor.session.transaction.status());
                let killed = executor.client.is_killed().then(shutting_down);
                if let Some(error) = killed.or_else(|| executor.lost_state()).map(Box::new) {
                    Box::pin(farewell(&mut executor, error)).await;
                    return executor;
                }
            }
            Err(Gone::Client) => return executor,
            Err(Gone::Protocol) => {
                executor.io.shutdown().await;
                return executor;
            }
        }
    }
}

/// Has one of the thread's carriers carry a request out.
async fn run_request(executor: Box<Executor>, before: usize, request: Request) -> Done {
    let free = CARRIERS.with_borrow_mut(Vec::pop);
    let mut carrier = free.unwrap_or_else(|| Box::new(By::new(carry_out)));
    carrier.take(executor, before, request);
    let done = poll_fn(|context| carrier.poll(context)).await;
    CARRIERS.with_borrow_mut(|carriers| {
        if carriers.len() < CARRIERS_KEPT {
            carriers.push(carrier);
        }
    });
    done
}

/// Carries a request out, after the `before` bytes of a unit that stand before it.
async fn carry_out(mut executor: Box<Executor>, before: usize, request: Request) -> Done {
    // What is answered here waits for nothing, and others have their turn all the same.
    tokio::task::consume_budget().await;
    executor.client.begins();
    if before > 0
        && let Err(gone) = executor.unit(before, false).await
    {
        return (executor, Err(gone));
    }
    let result = match request {
        Request::Query { offset, length } => executor.query(offset - before, length).await,
        Request::Unit { length, sync } => executor.unit(length, sync).await,
        Request::Call(length) => Box::pin(executor.function_call(length)).await,
        Request::Faulty { length, error } => {
            executor.refuse(length, &(*error).into());
            Ok(())
        }
    };
    (executor, result)
}

/// Why a client has to go that is waited for; boxed, for it would be memory of every task.
fn must_leave(executor: &Executor) -> Option<Box<SqlError>> {
    let shared = executor.shared();
    let draining = shared.draining.load(Ordering::Relaxed) && executor.is_idle();
    if draining || executor.client.is_killed() {
        return Some(Box::new(shutting_down()));
    }
    let overdue = executor.client.is_overdue() && !executor.is_idle();
    overdue.then(|| Box::new(idle_in_transaction()))
}

/// What is to be done next; what belongs to the unit is added to its length on the way.
fn next(unread: &[u8], unit: &mut Waiting, body_max: u32) -> Result<Next, ProtocolError> {
    let frame = loop {
        let rest = unread.get(unit.length()..).unwrap_or_default();
        let Some(frame) = wire::frame::next(rest, body_max)? else {
            return match rest.first() {
                // What is no message's beginning need not be waited for.
                Some(other) if !is_known(*other) => Err(unknown(*other)),
                _ => Ok(Next::Fill),
            };
        };
        match frame.tag {
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE => {
                unit.bytes = unit.bytes.saturating_add(frame.raw.len() as u32);
                unit.executes = frame.tag == tag::EXECUTE;
            }
            _ => break frame,
        }
    };
    let unit = unit.length();
    let length = frame.raw.len();
    Ok(match frame.tag {
        tag::QUERY => match wire::frontend::query(frame.body) {
            Ok(text) => {
                Next::Query { offset: unit + wire::frame::HEADER_BYTES, length: text.len() }
            }
            Err(error) => Next::Faulty { length, error: Box::new(error) },
        },
        tag::SYNC => Next::Unit { length: unit + length, sync: true },
        tag::FLUSH => Next::Unit { length: unit + length, sync: false },
        tag::TERMINATE => Next::Terminate,
        // It may be for a COPY that the unit begins; what is left of one that has failed is skipped, as in
        // PostgreSQL.
        tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL if unit == 0 => Next::Skip(length),
        tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {
            Next::Unit { length: unit, sync: false }
        }
        tag::FUNCTION_CALL => Next::Call(length),
        other => return Err(unknown(other)),
    })
}

fn is_known(kind: u8) -> bool {
    b"QPBDECSHXdcfF".contains(&kind)
}

fn unknown(kind: u8) -> ProtocolError {
    ProtocolError::violation(format!("invalid frontend message type {kind}"))
}

fn shutting_down() -> SqlError {
    SqlError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}

/// The connection ends with an error.
async fn farewell(executor: &mut Executor, error: Box<SqlError>) {
    executor.tell_farewell(&error);
    executor.io.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client takes while it does nothing, besides its socket and its names.
    #[test]
    fn an_idle_client_is_small() {
        fn size_of_future<F>(_: fn(Box<Executor>) -> F) -> usize {
            size_of::<F>()
        }
        let (loop_, executor) = (size_of_future(serve), size_of::<Executor>());
        assert!(loop_ <= 216, "the loop's future takes {loop_} bytes");
        assert!(executor <= 1_400, "the executor takes {executor} bytes");
    }
}
