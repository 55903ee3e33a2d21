//! The loop of a client that has logged in.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{SqlError, SqlState};
use crate::exec::timeouts::idle_in_transaction;
use crate::exec::{Executor, Gone};
use crate::wire::backend::Severity;
use crate::wire::frontend::tag;
use crate::wire::{self, ProtocolError};

/// Extended messages without Sync or Flush are carried out when they are this many bytes: a client may
/// pipeline more than should be kept in memory.
const UNIT_BYTES: usize = 256 * 1024;

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

/// Serves a client until it is gone.
pub(super) async fn run(mut executor: Box<Executor>) {
    serve(&mut executor).await;
    executor.leave();
}

async fn serve(executor: &mut Executor) {
    let shared = Arc::clone(executor.shared());
    let mut drain = pin!(shared.drain.notified());
    let mut unit = 0;
    // What it was greeted with is not said again, and most clients say less.
    if executor.io.flush().await.is_err() {
        return;
    }
    executor.io.outbox = Vec::new();
    loop {
        let most = shared.config.limits.statement_bytes_max;
        let next = match next(executor.io.unread(), &mut unit, most) {
            Ok(next) => next,
            Err(error) => {
                wire::backend::error(&mut executor.io.outbox, &error.into(), Severity::Fatal);
                return Box::pin(executor.io.drain()).await;
            }
        };
        let result = match next {
            Next::Terminate => return,
            Next::Skip(length) => {
                executor.io.consume(length);
                Ok(())
            }
            Next::Fill if unit > UNIT_BYTES => {
                executor.client.begins();
                executor.unit(std::mem::take(&mut unit), false).await
            }
            Next::Fill => {
                if shared.draining.load(Ordering::Relaxed) && executor.is_idle() {
                    return Box::pin(farewell(executor, &shutting_down())).await;
                }
                if executor.client.is_killed() {
                    return Box::pin(farewell(executor, &shutting_down())).await;
                }
                if executor.client.is_overdue() && !executor.is_idle() {
                    return Box::pin(farewell(executor, &idle_in_transaction())).await;
                }
                if executor.io.flush().await.is_err() {
                    return;
                }
                executor.rest();
                if executor.is_in_doubt() {
                    Box::pin(executor.resolve_doubts()).await;
                    if executor.lost_state().is_none() {
                        continue;
                    }
                }
                if let Some(error) = executor.lost_state() {
                    return Box::pin(farewell(executor, &error)).await;
                }
                tokio::select! {
                    biased;
                    filled = executor.wait() => match filled {
                        Ok(true) => {}
                        Ok(false) | Err(_) => return,
                    },
                    () = drain.as_mut() => drain.set(shared.drain.notified()),
                }
                continue;
            }
            Next::Query { offset, length } => {
                executor.client.begins();
                let before = std::mem::take(&mut unit);
                let result = if before > 0 { executor.unit(before, false).await } else { Ok(()) };
                match result {
                    Ok(()) => executor.query(offset - before, length).await,
                    gone => gone,
                }
            }
            Next::Unit { length, sync } => {
                executor.client.begins();
                unit = 0;
                executor.unit(length, sync).await
            }
            Next::Call(length) => {
                let before = std::mem::take(&mut unit);
                let result = if before > 0 { executor.unit(before, false).await } else { Ok(()) };
                match result {
                    Ok(()) => Box::pin(executor.function_call(length)).await,
                    gone => gone,
                }
            }
            Next::Faulty { length, error } => {
                let before = std::mem::take(&mut unit);
                Box::pin(refuse(executor, before, length, error)).await
            }
        };
        match result {
            Ok(()) => {
                executor.client.done(executor.session.transaction.status());
                if executor.client.is_killed() {
                    return Box::pin(farewell(executor, &shutting_down())).await;
                }
                if let Some(error) = executor.lost_state() {
                    return Box::pin(farewell(executor, &error)).await;
                }
            }
            Err(Gone::Client) => return,
            Err(Gone::Protocol) => {
                executor.io.shutdown().await;
                return;
            }
        }
    }
}

/// Refuses a message of `length` bytes behind a unit of `before` bytes.
async fn refuse(
    executor: &mut Executor,
    before: usize,
    length: usize,
    error: Box<ProtocolError>,
) -> Result<(), Gone> {
    if before > 0 {
        executor.unit(before, false).await?;
    }
    executor.refuse(length, &(*error).into());
    Ok(())
}

/// What is to be done next; what belongs to the unit is added to its length on the way.
fn next(unread: &[u8], length: &mut usize, body_max: u32) -> Result<Next, ProtocolError> {
    let frame = loop {
        let rest = unread.get(*length..).unwrap_or_default();
        let Some(frame) = wire::frame::next(rest, body_max)? else {
            return match rest.first() {
                // What is no message's beginning need not be waited for.
                Some(other) if !is_known(*other) => Err(unknown(*other)),
                _ => Ok(Next::Fill),
            };
        };
        match frame.tag {
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE => {
                *length += frame.raw.len();
            }
            _ => break frame,
        }
    };
    let unit = *length;
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
async fn farewell(executor: &mut Executor, error: &SqlError) {
    executor.tell_farewell(error);
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
        let (loop_, executor) = (size_of_future(run), size_of::<Executor>());
        assert!(loop_ <= 1_280, "the loop's future takes {loop_} bytes");
        assert!(executor <= 1_384, "the executor takes {executor} bytes");
    }
}
