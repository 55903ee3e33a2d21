//! The client's socket with what has come and not been read, and what could not be sent yet.
//!
//! One read buffer serves all clients and connections of a thread: bytes are copied aside only when they
//! must outlive the read (a request that is not complete, an answer that the client is too slow for).

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::observe::{self, METRICS};

/// Size of a thread's read buffer: large enough that a big result costs few system calls, small enough
/// to stay in the second-level cache.
const READ_BYTES: usize = 64 * 1024;

/// What each buffer of a client may keep while it waits for its next words.
pub(super) const IDLE_BUFFER_BYTES: usize = 4 * 1024;

/// What the outbox may keep in the midst of an answer: as much as it grows to between two writes of merged rows.
const BUSY_BUFFER_BYTES: usize = 4 * READ_BYTES;

/// How long a client that is told good-bye may go on sending.
const DRAIN_MAX: std::time::Duration = std::time::Duration::from_secs(2);

/// A client that has sent nothing for so long is done with its message.
const SENDING: std::time::Duration = std::time::Duration::from_millis(100);

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// Runs `f` with this thread's read buffer. `f` must not await, nor use the buffer again.
pub(crate) fn with_read_buffer<R>(f: impl FnOnce(&mut ReadBuf<'_>) -> R) -> R {
    READ_BUFFER.with_borrow_mut(|buffer| f(&mut ReadBuf::new(buffer)))
}

/// A client's socket.
#[derive(Debug)]
pub enum ClientSocket {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted. Boxed, for its state is far larger than a socket.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // Sockets keep nothing back.
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct ClientIo {
    socket: ClientSocket,
    inbox: Vec<u8>,
    read: usize,
    /// What is to be sent to the client.
    pub outbox: Vec<u8>,
    sent: usize,
    /// What is to be sent is kept for now.
    capture: Option<Box<Capture>>,
}

/// The outbox as it was when what is to be sent began to be kept.
#[derive(Debug)]
struct Capture {
    before: Vec<u8>,
    sent: usize,
    /// What was being kept when this one began.
    outer: Option<Box<Capture>>,
    /// More than so many bytes are not kept.
    most: usize,
    over: bool,
}

impl ClientIo {
    /// A client whose first bytes (behind the start-up) may have come already.
    pub fn new(socket: ClientSocket, inbox: Vec<u8>) -> Self {
        Self { socket, inbox, read: 0, outbox: Vec::new(), sent: 0, capture: None }
    }

    /// Bytes that came and were not consumed.
    pub fn unread(&self) -> &[u8] {
        self.inbox.get(self.read..).unwrap_or_default()
    }

    /// `length` bytes from `offset` of what was not consumed.
    pub fn slice(&self, offset: usize, length: usize) -> &[u8] {
        self.unread().get(offset..offset + length).unwrap_or_default()
    }

    /// Marks bytes as consumed.
    pub fn consume(&mut self, bytes: usize) {
        self.read = self.read.saturating_add(bytes).min(self.inbox.len());
        if self.read == self.inbox.len() {
            self.read = 0;
            self.inbox.clear();
            if self.inbox.capacity() > IDLE_BUFFER_BYTES {
                self.inbox = Vec::new();
            }
        }
    }

    /// Waits for more bytes of the client; false when it is gone.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when dropped.
    pub async fn fill(&mut self) -> io::Result<bool> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// See [`Self::fill`].
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        with_read_buffer(|buffer| {
            ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
            if self.read > 0 {
                self.inbox.drain(..self.read);
                self.read = 0;
            }
            observe::add(&METRICS.client_bytes_in, buffer.filled().len() as u64);
            self.inbox.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(!buffer.filled().is_empty()))
        })
    }

    /// From now on what is to be sent is kept, at most so many bytes, until [`Self::end_capture`]. One may stand in
    /// another.
    pub(super) fn begin_capture(&mut self, most: usize) {
        let before = std::mem::take(&mut self.outbox);
        let sent = std::mem::take(&mut self.sent);
        let outer = self.capture.take();
        self.capture = Some(Box::new(Capture { before, sent, outer, most, over: false }));
    }

    /// What was kept, and whether it was too much: then it is nothing that could be used.
    pub(super) fn end_capture(&mut self) -> (Vec<u8>, bool) {
        self.keep();
        let Some(capture) = self.capture.take() else { return (Vec::new(), false) };
        self.sent = capture.sent;
        self.capture = capture.outer;
        (std::mem::replace(&mut self.outbox, capture.before), capture.over)
    }

    /// Something was added to what is kept.
    fn keep(&mut self) {
        if let Some(capture) = &mut self.capture
            && (capture.over || self.outbox.len() > capture.most)
        {
            // It is read to its end all the same, so that the connections can be used again.
            capture.over = true;
            self.outbox = Vec::new();
        }
    }

    /// Sends what is in the outbox.
    ///
    /// # Cancel safety
    ///
    /// What was not sent stays in the outbox.
    pub async fn flush(&mut self) -> io::Result<()> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// See [`Self::flush`].
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.capture.is_some() {
            self.keep();
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = self.outbox.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let n = ready!(Pin::new(&mut self.socket).poll_write(cx, rest))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            observe::add(&METRICS.client_bytes_out, n as u64);
            self.sent += n;
        }
        // What TLS has taken and the socket has no room for is not sent: until it is, the outbox stays.
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.sent = 0;
        self.outbox.clear();
        if self.outbox.capacity() > BUSY_BUFFER_BYTES {
            self.outbox = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Sends bytes behind what waits in the outbox, without a copy if the socket takes them; what it does not take
    /// goes to the outbox.
    pub fn pass_on(&mut self, cx: &mut Context<'_>, mut bytes: &[u8]) -> io::Result<()> {
        if self.capture.is_some() {
            self.outbox.extend_from_slice(bytes);
            self.keep();
            return Ok(());
        }
        if let ClientSocket::Tls(_) = self.socket {
            // Encryption copies anyway, and the outbox remembers what has still to leave.
            self.outbox.extend_from_slice(bytes);
            return match self.poll_flush(cx) {
                Poll::Ready(Err(error)) => Err(error),
                Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
            };
        }
        while !bytes.is_empty() {
            let waiting = self.outbox.get(self.sent..).unwrap_or_default();
            let before = waiting.len();
            let both = [io::IoSlice::new(waiting), io::IoSlice::new(bytes)];
            let written = match &mut self.socket {
                ClientSocket::Plain(socket) if before > 0 => {
                    Pin::new(socket).poll_write_vectored(cx, &both)
                }
                socket => Pin::new(socket).poll_write(cx, bytes),
            };
            match written {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    observe::add(&METRICS.client_bytes_out, n as u64);
                    if n < before {
                        self.sent += n;
                        break;
                    }
                    (self.sent, bytes) = (0, bytes.get(n - before..).unwrap_or_default());
                    self.outbox.clear();
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        self.outbox.extend_from_slice(bytes);
        Ok(())
    }

    /// Everything was said, and nothing has come: gives back what was grown for a large answer.
    #[inline]
    pub(super) fn rest(&mut self) {
        if self.outbox.is_empty() && self.outbox.capacity() > IDLE_BUFFER_BYTES {
            self.outbox = Vec::new();
        }
    }

    /// Reads and forgets what the client still sends: a socket that is closed with bytes unread takes the
    /// last words back, and libpq forgets them when the connection ends before all is sent.
    pub async fn drain(&mut self) {
        let forget = async {
            let _ = self.flush().await;
            while let Ok(Ok(true)) = tokio::time::timeout(SENDING, self.fill()).await {
                self.consume(usize::MAX);
            }
            self.shutdown().await;
            while let Ok(true) = self.fill().await {
                self.consume(usize::MAX);
            }
        };
        let _ = tokio::time::timeout(DRAIN_MAX, forget).await;
    }

    /// The last words to a client are on their way before the socket closes.
    pub async fn shutdown(&mut self) {
        let _ = self.flush().await;
        let _ = std::future::poll_fn(|cx| Pin::new(&mut self.socket).poll_shutdown(cx)).await;
    }
}
