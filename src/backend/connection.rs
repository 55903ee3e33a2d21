//! A session on a shard. Its holder reads and writes it directly; it keeps the books that tell whether it
//! may be reused.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::books::Entry;
use super::cancel::CancelKey;
use super::clock;
use super::error::BackendError;
use super::prepared::Prepared;
use super::stream::Stream;
use super::target::Target;
use crate::wire::backend::{STATUS_IDLE, tag};
use crate::wire::response::{self, ServerError};
use crate::wire::{ProtocolError, frame, frontend};

/// A row of a statement of our own, in text.
pub type Row = Vec<Option<String>>;

/// The longest message that the control path takes from a shard: catalog rows, not user data.
const CONTROL_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// A connection to a shard, logged in.
///
/// # Books
///
/// Whoever sends something that will be answered by `ReadyForQuery` calls [`Connection::expect_ready`]
/// before (or [`Connection::leave_open`] for what a Sync will follow only later), and [`Connection::ready`] for each `ReadyForQuery` that it reads. A connection is idle only if
/// as many have come as are expected, the last one said "not in a transaction", and nothing was marked as
/// [tainted](Connection::taint). Forgetting a call makes a connection closed instead of reused, never the
/// other way round.
pub struct Connection {
    stream: Stream,
    target: Arc<Target>,
    /// Bytes that were read but not consumed: between control statements none.
    inbox: BytesMut,
    /// What the server said unasked (notifications) and nobody has taken yet, as it came.
    notices: Vec<u8>,
    pid: i32,
    /// The process number that its client believes it to have.
    pub shown_pid: Option<i32>,
    secret: Vec<u8>,
    /// What the server reported by `ParameterStatus`, newest values.
    parameters: Vec<(String, String)>,
    tx_status: u8,
    awaiting: u32,
    /// Something was written since the connection was last idle.
    written: bool,
    /// What was written last is not yet followed by a Sync.
    open: bool,
    tainted: bool,
    /// The statements prepared on it.
    pub prepared: Prepared,
    /// Which session settings are applied on it, by their owner's numbering; 0 is none.
    pub settings_id: u64,
    /// Which database of which server it is, where somebody has asked.
    pub server: Option<Arc<str>>,
    created: Instant,
    last_used: Instant,
    /// What operators are told of it; `None` outside of pools.
    entry: Option<Entry>,
    /// When the request was sent that is not yet answered.
    asked: Option<Instant>,
}

impl Connection {
    pub(super) fn new(stream: Stream, target: Arc<Target>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            target,
            inbox: BytesMut::new(),
            notices: Vec::new(),
            pid: 0,
            shown_pid: None,
            secret: Vec::new(),
            parameters: Vec::new(),
            tx_status: STATUS_IDLE,
            awaiting: 0,
            written: false,
            open: false,
            tainted: false,
            prepared: Prepared::default(),
            settings_id: 0,
            server: None,
            created: now,
            last_used: now,
            entry: None,
            asked: None,
        }
    }

    /// From now on operators are told of it.
    pub(super) fn enter(&mut self, entry: Entry) {
        self.entry = Some(entry);
    }

    pub(super) fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    /// The shard answered with an error.
    pub fn note_error(&self) {
        if let Some(entry) = &self.entry {
            entry.failed();
        }
    }

    /// The shard has broken it off.
    pub fn note_lost(&self) {
        if let Some(entry) = &self.entry {
            entry.lost();
        }
    }

    /// The backend's process number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The first four bytes of the backend's secret: all of it in protocol 3.0, which is spoken here.
    pub fn secret_word(&self) -> i32 {
        self.secret.first_chunk::<4>().map_or(0, |bytes| i32::from_be_bytes(*bytes))
    }

    /// What it takes to cancel what runs here.
    pub fn cancel_key(&self) -> CancelKey {
        CancelKey { target: Arc::clone(&self.target), pid: self.pid, secret: self.secret.clone() }
    }

    pub(super) fn set_cancel_key(&mut self, pid: i32, secret: &[u8]) {
        self.pid = pid;
        self.secret = secret.to_vec();
    }

    /// All that the server reported: `server_version`, `TimeZone` …
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    /// One of them, by its exact name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(candidate, _)| candidate == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Takes note of a `ParameterStatus` that was read.
    pub fn note_parameter(&mut self, name: &str, value: &str) {
        let known = self.parameters.iter_mut().find(|(candidate, _)| candidate == name);
        match known {
            Some((_, old)) => value.clone_into(old),
            None => self.parameters.push((name.to_owned(), value.to_owned())),
        }
    }

    /// The transaction status of the last `ReadyForQuery`: `I`, `T` or `E`.
    pub fn tx_status(&self) -> u8 {
        self.tx_status
    }

    /// So many `ReadyForQuery` more will come: one for each Query and Sync that is about to be sent.
    pub fn expect_ready(&mut self, count: u32) {
        if self.awaiting == 0
            && count > 0
            && let Some(entry) = &self.entry
        {
            entry.begins();
            self.asked = Some(clock::read());
        }
        self.awaiting = self.awaiting.saturating_add(count);
        self.open = self.open && count == 0;
    }

    /// Messages of the extended protocol are about to be sent, and their Sync comes later: until it is
    /// [expected](Connection::expect_ready), no `ReadyForQuery` of what went before makes the connection
    /// idle.
    pub fn leave_open(&mut self) {
        self.open = true;
    }

    /// A `ReadyForQuery` was read.
    pub fn ready(&mut self, status: u8) {
        self.tx_status = status;
        match self.awaiting.checked_sub(1) {
            Some(left) => self.awaiting = left,
            None => self.tainted = true,
        }
        if self.awaiting == 0 {
            self.written = false;
        }
        if let Some(entry) = &self.entry {
            let last = self.awaiting == 0;
            let took =
                if last { self.asked.take().map(|asked| clock::read() - asked) } else { None };
            entry.answered(status, took);
        }
    }

    /// How many `ReadyForQuery` are still to come.
    pub fn awaiting(&self) -> u32 {
        self.awaiting
    }

    /// It must not be reused: state on it that only its client may see, or an answer cut off.
    pub fn taint(&mut self) {
        self.tainted = true;
    }

    /// Nothing runs, nothing is unread, no transaction is open, nothing is left behind.
    pub fn is_idle(&self) -> bool {
        self.is_between_statements() && self.tx_status == STATUS_IDLE
    }

    /// The same, but for a transaction that may be open.
    pub fn is_between_statements(&self) -> bool {
        !self.tainted && !self.written && !self.open && self.awaiting == 0 && self.inbox.is_empty()
    }

    /// It is idle and the server has neither ended it nor said anything on it. (What may come unasked,
    /// such as the notice of a shutdown or of a changed setting, is no reason to keep it.)
    pub fn is_alive(&self) -> bool {
        self.is_idle() && self.stream.is_silent()
    }

    /// [`Self::is_alive`], asked of the kernel: for when others of its kind have just been found dead.
    pub(super) fn is_alive_now(&self) -> bool {
        self.is_idle() && self.stream.is_silent_now()
    }

    /// For how long the request that was sent last has had no (whole) answer; nothing where no clock is kept.
    pub fn asked_for(&self) -> Duration {
        self.asked.map_or(Duration::ZERO, |asked| asked.elapsed())
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.created)
    }

    pub(super) fn unused_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_used)
    }

    pub(super) fn touch(&mut self, now: Instant) {
        self.last_used = now;
    }

    /// Reads what has come, as [`tokio::io::AsyncRead`] does. Nothing read is the end.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.inbox.is_empty() {
            let before = buf.filled().len();
            let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
            if let (Poll::Ready(Ok(())), Some(entry)) = (&polled, &self.entry) {
                entry.received(buf.filled().len().saturating_sub(before));
            }
            return polled;
        }
        let count = self.inbox.len().min(buf.remaining());
        let taken = self.inbox.split_to(count);
        buf.put_slice(&taken);
        Poll::Ready(Ok(()))
    }

    /// Writes what fits, as [`tokio::io::AsyncWrite`] does. See the type's books.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written = true;
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let (Poll::Ready(Ok(count)), Some(entry)) = (&polled, &self.entry) {
            entry.sent(*count);
        }
        polled
    }

    /// Writes all of it. See the type's books.
    ///
    /// # Errors
    ///
    /// [`BackendError::Lost`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, part of it may be sent; the connection is then not idle and will be closed.
    pub async fn send_all(&mut self, bytes: &[u8]) -> Result<(), BackendError> {
        self.written = true;
        if let Some(entry) = &self.entry {
            entry.sent(bytes.len());
        }
        self.stream.write_all(bytes).await.map_err(BackendError::Lost)
    }

    /// Appends what comes next to `buf`, at least one byte.
    ///
    /// # Errors
    ///
    /// [`BackendError::Lost`], at the end too.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing has been read.
    pub async fn read_some(&mut self, buf: &mut BytesMut) -> Result<usize, BackendError> {
        if !self.inbox.is_empty() {
            buf.extend_from_slice(&self.inbox);
            let count = self.inbox.len();
            self.inbox.clear();
            return Ok(count);
        }
        let count = read_more(&mut self.stream, buf).await?;
        if let Some(entry) = &self.entry {
            entry.received(count);
        }
        Ok(count)
    }

    /// Runs statements of our own (settings, catalog reads, health checks) and returns the rows of the
    /// last one that has any, in text.
    ///
    /// # Errors
    ///
    /// [`BackendError::Statement`] with the shard's first error, after which the connection can still be
    /// used (unless the error was fatal); [`BackendError::Lost`]; [`BackendError::Protocol`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, the statement may still run; the connection is then not idle and will be closed.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<Row>, BackendError> {
        let mut out = Vec::with_capacity(sql.len() + 6);
        frontend::query_into(&mut out, sql.as_bytes());
        self.expect_ready(1);
        self.send_all(&out).await?;
        let mut answer = Answer::default();
        loop {
            if let Err(lost) = self.next_control(&mut answer).await {
                self.tainted = true;
                // What the server said before it went tells more than that it went.
                return Err(answer.error.map_or(lost, BackendError::Statement));
            }
            if self.awaiting == 0 {
                break;
            }
        }
        match answer.error {
            Some(error) => Err(BackendError::Statement(error)),
            None => Ok(answer.rows),
        }
    }

    async fn next_control(&mut self, answer: &mut Answer) -> Result<(), BackendError> {
        let (tag, body) = self.next_frame(CONTROL_BYTES_MAX).await?;
        match tag {
            tag::ROW_DESCRIPTION => answer.rows.clear(),
            tag::DATA_ROW => answer.rows.push(text_row(&body)?),
            tag::ERROR => {
                let error = ServerError::parse(&body)?;
                answer.error.get_or_insert(error);
            }
            tag::READY_FOR_QUERY => self.ready(response::ready_for_query(&body)?),
            tag::PARAMETER_STATUS => self.take_parameter_status(&body)?,
            tag::NOTIFICATION => self.note_notice(tag, &body),
            tag::COPY_IN | tag::COPY_OUT | tag::COPY_BOTH => {
                return Err(ProtocolError::violation("COPY is not expected here").into());
            }
            _ => {}
        }
        Ok(())
    }

    /// The server has said this unasked; it can be [taken](Connection::take_notices).
    pub fn note_notice(&mut self, tag: u8, body: &[u8]) {
        frame::append(&mut self.notices, tag, body);
        let start = self.notices.len() - body.len();
        if let (tag::NOTIFICATION, Some(shown)) = (tag, self.shown_pid) {
            let body = self.notices.get_mut(start..).unwrap_or_default();
            response::rename_notifier(body, self.pid, shown);
        }
    }

    /// What the server has said unasked, as it came, to be passed on.
    pub fn take_notices(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.notices)
    }

    /// Listens while nothing is asked. `buffer` is only room to read into.
    pub fn poll_notices(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Notices> {
        let mut heard = false;
        loop {
            let Ok(found) = frame::next(&self.inbox, CONTROL_BYTES_MAX) else {
                return Poll::Ready(Notices::End(None));
            };
            let Some(found) = found else {
                if heard {
                    return Poll::Ready(Notices::Some);
                }
                match Pin::new(&mut self.stream).poll_read(cx, buffer) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                        self.inbox.extend_from_slice(buffer.filled());
                        buffer.clear();
                        continue;
                    }
                    Poll::Ready(_) => return Poll::Ready(Notices::End(None)),
                }
            };
            heard = true;
            let (tag, length) = (found.tag, found.body.len());
            self.inbox.advance(frame::HEADER_BYTES);
            let body = self.inbox.split_to(length);
            match tag {
                // Between statements there is no error but the last one.
                tag::ERROR => return Poll::Ready(Notices::End(Some(body.to_vec()))),
                tag::PARAMETER_STATUS => {
                    if self.take_parameter_status(&body).is_err() {
                        return Poll::Ready(Notices::End(None));
                    }
                    self.note_notice(tag, &body);
                }
                tag::NOTIFICATION | tag::NOTICE => self.note_notice(tag, &body),
                _ => return Poll::Ready(Notices::End(None)),
            }
        }
    }

    pub(super) fn take_parameter_status(&mut self, body: &[u8]) -> Result<(), BackendError> {
        let (name, value) = response::parameter_status(body)?;
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        self.note_parameter(&name, &value);
        Ok(())
    }

    /// The next whole message.
    pub(super) async fn next_frame(
        &mut self,
        body_max: u32,
    ) -> Result<(u8, BytesMut), BackendError> {
        loop {
            if let Some(found) = frame::next(&self.inbox, body_max)? {
                let (tag, length) = (found.tag, found.body.len());
                self.inbox.advance(frame::HEADER_BYTES);
                return Ok((tag, self.inbox.split_to(length)));
            }
            read_more(&mut self.stream, &mut self.inbox).await?;
        }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// It is encrypted by TLS.
    pub fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    /// As whom it has logged in.
    pub fn user(&self) -> &str {
        &self.target.user
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }
}

/// What a connection says while nothing is asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Notices {
    /// Something was read; what of it is for the client can be [taken](Connection::take_notices).
    Some,
    /// It has ended, with the body of the server's last error if there was one.
    End(Option<Vec<u8>>),
}

#[derive(Default)]
struct Answer {
    rows: Vec<Row>,
    error: Option<ServerError>,
}

/// Room that a read finds at least.
const READ_BYTES: usize = 8192;

async fn read_more(stream: &mut Stream, buf: &mut BytesMut) -> Result<usize, BackendError> {
    buf.reserve(READ_BYTES);
    match stream.read_buf(buf).await.map_err(BackendError::Lost)? {
        0 => Err(BackendError::eof()),
        count => Ok(count),
    }
}

fn text_row(body: &[u8]) -> Result<Row, BackendError> {
    let values = response::data_row(body)?;
    let text = |value: &[u8]| {
        String::from_utf8(value.to_vec())
            .map_err(|_| ProtocolError::violation("a value of the catalog is not UTF-8").into())
    };
    values.into_iter().map(|value| value.map(text).transpose()).collect()
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A word of farewell, so that the server doesn't log a lost connection. If it doesn't fit, the
        // end of the stream says the same.
        if self.is_idle() {
            let mut out = Vec::new();
            frontend::terminate_into(&mut out);
            let _ = self.stream.try_write(&out);
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("target", &self.target)
            .field("pid", &self.pid)
            .field("tx_status", &char::from(self.tx_status))
            .field("idle", &self.is_idle())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;
    use crate::map::ConnectionTarget;

    /// What comes in one piece with the end of an answer is heard too.
    #[tokio::test]
    async fn a_notification_behind_an_answer_is_heard() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let target = ConnectionTarget::parse("postgresql://u@127.0.0.1/d", &|_| None).unwrap();
        let target = Arc::new(Target::from(&target));
        let mut connection = Connection::new(Stream::Unix(ours), target);
        // Process 7, channel "news", payload "x".
        let notification = b"A\0\0\0\x0f\0\0\0\x07news\0x\0";
        let answer = [&b"C\0\0\0\x0bLISTEN\0Z\0\0\0\x05I"[..], &notification[..]].concat();
        let served = async {
            let mut request = [0; 64];
            let _ = theirs.read(&mut request).await.unwrap();
            theirs.write_all(&answer).await.unwrap();
        };
        let (asked, ()) = tokio::join!(connection.simple_query("LISTEN news"), served);
        asked.unwrap();
        let mut room = [0; 64];
        let mut buffer = ReadBuf::new(&mut room);
        let heard = poll_fn(|cx| connection.poll_notices(cx, &mut buffer)).await;
        assert_eq!(heard, Notices::Some);
        assert_eq!(connection.take_notices(), notification);
    }
}
