//! The innermost loop: what is to be sent goes to the shard, what comes back goes to the client.
//!
//! A routed statement costs four system calls: the client's bytes are read, written to the shard, the
//! shard's answer is read and written to the client from the same buffer.

use std::borrow::Cow;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use super::cancel::CANCEL_TIMEOUT;
use super::clients::Client as ClientState;
use super::io::{ClientIo, with_read_buffer};
use super::{Executor, Failure, Gone, timeouts};
use crate::backend::Connection;
use crate::config::Limits;
use crate::error::{SqlError, SqlState};
use crate::observe;
use crate::session::responses::{Responses, Segment, StepKind};
use crate::wire::backend::Severity;
use crate::wire::{self, frontend::tag};

/// Which side broke.
pub(super) enum Broken {
    Client,
    Shard(&'static str),
    /// The shard, before it has taken the whole request.
    Unsent(&'static str),
}

/// Why the relay stopped.
enum Stop {
    Done,
    CopyIn,
}

impl Executor {
    /// Sends the request to the connection and relays the answers until nothing more is expected.
    ///
    /// # Cancel safety
    ///
    /// None: the connection is then in the middle of an answer. Its lease closes it when dropped.
    pub(super) async fn exchange(&mut self, at: usize) -> Result<(), Failure> {
        if let Some(bytes) = self.responses.leading() {
            self.io.outbox.extend_from_slice(&bytes);
        }
        let result = self.send_and_relay(at).await;
        self.conclude(at, &result)
    }

    /// What became of an exchange.
    pub(super) fn conclude(
        &mut self,
        at: usize,
        result: &Result<(), Broken>,
    ) -> Result<(), Failure> {
        self.request.clear();
        if self.request.capacity() > 64 * 1024 {
            self.request = Vec::new();
        }
        match result {
            Ok(()) => {
                if let Some(held) = self.held.get_mut(at) {
                    held.fresh = false;
                }
                self.note_parameters(at);
                if self.responses.failed() && !self.responses.outdated() {
                    self.note_shard_error(at);
                }
                Ok(())
            }
            Err(Broken::Client) => {
                self.abandon(at);
                Err(Failure::Gone(Gone::Client))
            }
            Err(Broken::Shard(why) | Broken::Unsent(why)) => {
                let error = self.lost_shard(at, why);
                let broken_off = self.responses.broken_off();
                self.lose(at);
                if broken_off {
                    return Err(Failure::Gone(Gone::Protocol));
                }
                if self.responses.failed() {
                    // It said itself why it went; if it was the client's fault, so does the client.
                    let violation =
                        self.responses.error().windows(6).any(|field| field == b"C08P01");
                    return Err(if violation {
                        Failure::Gone(Gone::Protocol)
                    } else {
                        Failure::Shown
                    });
                }
                Err(Failure::Error(error))
            }
        }
    }

    pub(super) async fn send_and_relay(&mut self, at: usize) -> Result<(), Broken> {
        let Some(held) = self.held.get_mut(at) else { return Err(Broken::Shard("not connected")) };
        let connection = &mut *held.lease;
        if let Some(shown) = connection.shown_pid {
            self.responses.notifies_as(connection.pid(), shown);
        }
        let numbers = self.world.numbers.of(held.shard);
        self.responses.numbers_otherwise(numbers);
        // It is sent once: what is sent again is put together again.
        if let Some(numbers) = numbers
            && let Some(own) =
                wire::frontend::renumber_parsed(&self.request, |theirs| numbers.own_type(theirs))
        {
            self.request = own;
        }
        let mut boundaries = self.responses.boundaries();
        if boundaries == 0 {
            connection.leave_open();
        } else {
            connection.expect_ready(boundaries);
        }
        let mut sending = Sending::new(&self.request);
        let mut client = Client {
            io: &mut self.io,
            responses: &mut self.responses,
            segments: &mut self.segments,
            state: &self.client,
            limits: &self.worker.shared.config.limits,
        };
        loop {
            let stop = poll_fn(|cx| {
                // A shard that does not take bytes may wait for its answers to be taken first.
                if let Poll::Ready(Err(broken)) = sending.poll(cx, connection) {
                    return Poll::Ready(Err(broken));
                }
                poll_relay(cx, connection, &mut client)
            })
            .await;
            match stop.map_err(|broken| sending.blame(broken))? {
                Stop::Done => break,
                Stop::CopyIn => boundaries += Box::pin(copy_in(connection, &mut client)).await?,
            }
        }
        // After an early error the shard still has to read what it skips.
        poll_fn(|cx| sending.poll(cx, connection)).await?;
        for _ in 0..boundaries {
            connection.ready(self.responses.status());
        }
        Ok(())
    }

    fn note_parameters(&mut self, at: usize) {
        if self.responses.parameters().is_empty() {
            return;
        }
        let reported: Vec<(String, String)> = self
            .responses
            .parameters()
            .iter()
            .map(|(name, value)| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (text(name), text(value))
            })
            .collect();
        for (name, value) in reported {
            self.note_told(&name, &value);
            if let Some(held) = self.held.get_mut(at) {
                held.lease.note_parameter(&name, &value);
            }
        }
    }

    /// The shard answered with an error.
    pub(super) fn note_shard_error(&self, at: usize) {
        observe::add(&observe::METRICS.shard_errors, 1);
        self.last_route.note_failure();
        if let Some(held) = self.held.get(at) {
            held.lease.note_error();
        }
    }

    fn lost_shard(&self, at: usize, why: &str) -> SqlError {
        let held = self.held.get(at);
        let name = held.map_or("".into(), |held| self.place_name(held.shard));
        if let Some(held) = held {
            held.lease.note_lost();
        }
        SqlError::new(
            SqlState::CONNECTION_FAILURE,
            format!("shard \"{name}\" was lost while it worked"),
        )
        .detail(format!(
            "The connection broke: {why}. Whether the statement had an effect is not known."
        ))
        .hint("Look whether it took effect before you send it again.")
    }

    /// The client is gone in the middle of a statement: the shard is told to stop, the connection closed.
    fn abandon(&mut self, at: usize) {
        if let Some(held) = self.held.get(at) {
            let key = held.lease.cancel_key();
            tokio::spawn(async move {
                // The client can't be told; the connection is closed either way.
                let _ = key.cancel(CANCEL_TIMEOUT).await;
            });
        }
        self.lose(at);
    }
}

/// Bytes on their way to a shard.
struct Sending<'a> {
    rest: &'a [u8],
}

impl<'a> Sending<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What broke, with what is known of the bytes.
    fn blame(&self, broken: Broken) -> Broken {
        match broken {
            Broken::Shard(why) if !self.rest.is_empty() => Broken::Unsent(why),
            broken => broken,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
    ) -> Poll<Result<(), Broken>> {
        while !self.rest.is_empty() {
            match ready!(connection.poll_write(cx, self.rest)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Broken::Shard("it does not take bytes"))),
                Ok(n) => self.rest = self.rest.get(n..).unwrap_or_default(),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Where answers go, and what is made of them on the way.
struct Client<'a> {
    io: &'a mut ClientIo,
    responses: &'a mut Responses,
    segments: &'a mut Vec<Segment>,
    state: &'a ClientState,
    limits: &'a Limits,
}

impl Client<'_> {
    /// Reads what a shard sent.
    fn feed(&mut self, input: &[u8]) -> Result<(), Broken> {
        self.segments.clear();
        self.responses
            .feed(input, self.segments)
            .map_err(|_| Broken::Shard("it sent what the protocol does not allow"))
    }

    /// What comes back from a shard that was told to stop since its statement took too long.
    fn reworded<'b>(&self, message: &'b [u8]) -> Cow<'b, [u8]> {
        if !self.state.is_overdue() || !is_cancelled(message) {
            return Cow::Borrowed(message);
        }
        let mut ours = Vec::new();
        let error = timeouts::query_timeout(self.limits);
        wire::backend::error(&mut ours, &error, Severity::Error);
        Cow::Owned(ours)
    }
}

/// It is the error of a statement that was cancelled.
pub(super) fn is_cancelled(message: &[u8]) -> bool {
    message.first() == Some(&b'E')
        && message.split(|byte| *byte == 0).any(|field| field == b"C57014")
}

/// One turn: while the client takes what comes, no byte is copied.
fn poll_relay(
    cx: &mut Context<'_>,
    connection: &mut Connection,
    client: &mut Client<'_>,
) -> Poll<Result<Stop, Broken>> {
    loop {
        if !client.io.outbox.is_empty() && !client.responses.done() {
            // Back-pressure: nothing is read from the shard while the client does not take it.
            ready!(client.io.poll_flush(cx)).map_err(|_| Broken::Client)?;
        }
        if client.responses.done() {
            // What is left in the outbox goes out with whatever follows, or before the next wait.
            return Poll::Ready(Ok(Stop::Done));
        }
        if client.responses.take_copy_in() {
            return Poll::Ready(Ok(Stop::CopyIn));
        }
        if poll_shard(cx, connection, client)?.is_pending() {
            return poll_gone(cx, client.io).map(|()| Err(Broken::Client));
        }
    }
}

fn poll_shard(
    cx: &mut Context<'_>,
    connection: &mut Connection,
    client: &mut Client<'_>,
) -> Poll<Result<(), Broken>> {
    with_read_buffer(|buffer| {
        ready!(connection.poll_read(cx, buffer)).map_err(|_| Broken::Shard("reading failed"))?;
        let input = buffer.filled();
        if input.is_empty() {
            return Poll::Ready(Err(Broken::Shard("it closed the connection")));
        }
        client.feed(input)?;
        if client.responses.describes_columns() {
            let renumbered = client.responses.renumber(buffer.filled_mut());
            renumbered.map_err(|_| Broken::Shard("it sent what the protocol does not allow"))?;
        }
        let input = buffer.filled();
        if let ([Segment::Input(range)], true) =
            (client.segments.as_slice(), client.io.outbox.is_empty())
        {
            let bytes = input.get(range.clone()).unwrap_or_default();
            return Poll::Ready(client.io.pass_on(cx, bytes).map_err(|_| Broken::Client));
        }
        for segment in client.segments.iter() {
            match segment {
                Segment::Input(range) => {
                    let bytes = input.get(range.clone()).unwrap_or_default();
                    client.io.outbox.extend_from_slice(bytes);
                }
                Segment::Fixed(bytes) => client.io.outbox.extend_from_slice(bytes),
                Segment::Bytes(bytes) => {
                    let bytes = client.reworded(bytes);
                    client.io.outbox.extend_from_slice(&bytes);
                }
            }
        }
        Poll::Ready(Ok(()))
    })
}

/// How much of what a client pipelines is read while its statement runs.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// Ready when the client is gone while it waits for an answer. To be asked when there is nothing else to
/// do: it costs no system call unless the client has said something.
///
/// A client that has taken its leave (Terminate) is not gone: PostgreSQL carries out what came before.
pub(super) fn poll_gone(cx: &mut Context<'_>, client: &mut ClientIo) -> Poll<()> {
    while client.unread().len() < AHEAD_BYTES_MAX {
        match ready!(client.poll_fill(cx)) {
            Ok(true) => {}
            Ok(false) if has_taken_leave(client.unread()) => return Poll::Pending,
            Ok(false) | Err(_) => return Poll::Ready(()),
        }
    }
    Poll::Pending
}

fn has_taken_leave(mut unread: &[u8]) -> bool {
    while let Ok(Some(frame)) = wire::frame::next(unread, u32::MAX) {
        if frame.tag == tag::TERMINATE {
            return true;
        }
        unread = unread.get(frame.raw.len()..).unwrap_or_default();
    }
    false
}

/// COPY … FROM STDIN: the client's data goes to the shard until it says that it is done, or the shard
/// says that it is enough. How many more `ReadyForQuery` are to come.
async fn copy_in(connection: &mut Connection, client: &mut Client<'_>) -> Result<u32, Broken> {
    let mut rest = 0;
    let outcome = pass_copy_on(connection, client, &mut rest).await;
    if matches!(outcome, Err(Broken::Shard(_) | Broken::Unsent(_))) {
        // What is left of a message is no message: the client is listened to from where its next one begins.
        loop {
            let there = client.io.unread().len().min(rest);
            client.io.consume(there);
            rest -= there;
            if rest == 0 {
                break;
            }
            if !client.io.fill().await.unwrap_or(false) {
                return Err(Broken::Client);
            }
        }
    }
    outcome
}

/// See [`copy_in`]. `rest`: so much of a message of data is still to come, for a row may be larger than what should
/// be kept in memory.
async fn pass_copy_on(
    connection: &mut Connection,
    client: &mut Client<'_>,
    rest: &mut usize,
) -> Result<u32, Broken> {
    // Something before it in the same string.
    let failed_before = client.responses.failed();
    let extended = client.responses.in_execute();
    client.io.flush().await.map_err(|_| Broken::Client)?;
    let mut chunk = Vec::new();
    loop {
        let ended = client.responses.failed() && !failed_before;
        let taken = take_copy_frames(client.io, &mut chunk, rest, ended);
        let taken = taken.map_err(|()| Broken::Client)?;
        let mut boundaries = 0;
        if extended {
            match taken {
                Taken::Data => {}
                // Nothing else makes the shard say that it is done: it ignored the Sync that came before.
                Taken::Last => wire::frontend::flush_into(&mut chunk),
                // It ends the connection, unless the COPY has failed by then: then it skips to Sync.
                Taken::Stranger => {
                    wire::frontend::sync_into(&mut chunk);
                    client.responses.expect(StepKind::Sync, true);
                    connection.expect_ready(1);
                    boundaries = 1;
                }
            }
        }
        let mut sending = Sending::new(&chunk);
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(result) = sending.poll(cx, connection) {
                    return Poll::Ready(result);
                }
                // It may wait for its notices to be taken.
                if client.io.poll_flush(cx).is_pending() {
                    return Poll::Pending;
                }
                ready!(poll_shard(cx, connection, client))?;
            }
        })
        .await?;
        chunk.clear();
        if !matches!(taken, Taken::Data) {
            return Ok(boundaries);
        }
        if ended && *rest == 0 {
            return Ok(0);
        }
        let shard_spoke = poll_fn(|cx| {
            if let Poll::Ready(Err(_)) = client.io.poll_flush(cx) {
                return Poll::Ready(Err(Broken::Client));
            }
            if let Poll::Ready(result) = client.io.poll_fill(cx) {
                return Poll::Ready(match result {
                    Ok(true) => Ok(false),
                    Ok(false) | Err(_) => Err(Broken::Client),
                });
            }
            ready!(poll_shard(cx, connection, client))?;
            Poll::Ready(Ok(true))
        })
        .await?;
        // An error ends the COPY on the shard's side, once the message that has begun is whole; what the client still
        // sends of it is skipped.
        if shard_spoke && client.responses.failed() && *rest == 0 {
            return Ok(0);
        }
    }
}

/// What came of a COPY.
#[derive(Clone, Copy)]
enum Taken {
    /// Data, and more is to come.
    Data,
    /// The client says that it was all, or gives up.
    Last,
    /// A message that does not belong there: the shard will say so.
    Stranger,
}

/// Moves COPY frames to `chunk`: data as far as it is there, everything else whole. With `ended` only the `rest` of
/// the message that has begun.
fn take_copy_frames(
    client: &mut ClientIo,
    chunk: &mut Vec<u8>,
    rest: &mut usize,
    ended: bool,
) -> Result<Taken, ()> {
    loop {
        let there = client.unread().get(..*rest).unwrap_or(client.unread());
        chunk.extend_from_slice(there);
        let there = there.len();
        client.consume(there);
        *rest -= there;
        if *rest > 0 || ended {
            return Ok(Taken::Data);
        }
        let header = wire::frame::header(client.unread()).map_err(|_| ())?;
        let Some((kind, length)) = header else { return Ok(Taken::Data) };
        if kind == tag::COPY_DATA {
            *rest = length;
            continue;
        }
        let frame = wire::frame::next(client.unread(), wire::frame::STATEMENT_BYTES_MAX);
        let Some(frame) = frame.map_err(|_| ())? else { return Ok(Taken::Data) };
        // Flush and Sync have no meaning in copy-in mode (manual, "COPY Operations").
        let meaningless = matches!(kind, tag::FLUSH | tag::SYNC);
        if !meaningless {
            chunk.extend_from_slice(frame.raw);
        }
        client.consume(length);
        match kind {
            _ if meaningless => {}
            tag::COPY_DONE | tag::COPY_FAIL => return Ok(Taken::Last),
            _ => return Ok(Taken::Stranger),
        }
    }
}
