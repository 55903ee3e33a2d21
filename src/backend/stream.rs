//! A socket to a shard, TCP (encrypted or not) or unix.

use std::io;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::error::BackendError;
use super::target::{Host, SslMode, Target};
use super::tls;
use crate::wire::startup::ssl_request_into;

/// A dead peer is noticed after so long, where no byte comes that would be acknowledged.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Boxed, for its state is far larger than a socket.
    Tls(Box<TlsStream<TcpStream>>),
}

/// How a connection is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    /// Without TLS.
    None,
    /// With it if the server can.
    IfOffered,
    /// With it or not at all.
    Must,
}

impl Encryption {
    /// What libpq tries in turn; the second only where the first was turned down for what it is.
    pub(super) fn attempts(target: &Target) -> &'static [Self] {
        match (&target.host, target.ssl_mode) {
            // libpq encrypts no unix-domain socket, whatever the mode.
            (Host::Unix(_), _) | (_, SslMode::Disable) => &[Self::None],
            (_, SslMode::Allow) => &[Self::None, Self::Must],
            (_, SslMode::Prefer) => &[Self::IfOffered, Self::None],
            (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => &[Self::Must],
        }
    }

    /// For a cancel request, which servers take from anybody: encrypted if that can be.
    pub(super) fn of_cancel(target: &Target) -> Self {
        match (&target.host, target.ssl_mode) {
            (Host::Unix(_), _) | (_, SslMode::Disable) => Self::None,
            (_, SslMode::Allow | SslMode::Prefer) => Self::IfOffered,
            (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => Self::Must,
        }
    }
}

impl Stream {
    /// # Cancel safety
    ///
    /// Dropped, it leaves no socket behind.
    pub(super) async fn connect(
        target: &Target,
        encryption: Encryption,
    ) -> Result<Self, BackendError> {
        if let Some(path) = target.socket_path() {
            return UnixStream::connect(path).await.map(Self::Unix).map_err(BackendError::Connect);
        }
        let mut socket = tcp(target).await.map_err(BackendError::Connect)?;
        if encryption == Encryption::None {
            return Ok(Self::Tcp(socket));
        }
        if !target.tls.direct {
            match ask_for_tls(&mut socket).await.map_err(BackendError::Connect)? {
                b'S' => {}
                b'N' if encryption == Encryption::IfOffered => return Ok(Self::Tcp(socket)),
                b'N' => {
                    return Err(BackendError::Tls(
                        "server does not support SSL, but SSL was required".to_owned(),
                    ));
                }
                _ => {
                    let error = "server sent an error response during SSL exchange";
                    return Err(BackendError::Connect(io::Error::other(error)));
                }
            }
        }
        match tls::handshake(target, socket).await {
            // Whatever broke it: where TLS is not insisted on, it is no reason to stay away.
            Err(BackendError::Connect(error)) if encryption == Encryption::IfOffered => {
                Err(BackendError::Tls(format!("the handshake broke off: {error}")))
            }
            outcome => outcome.map(Self::Tls),
        }
    }

    /// It is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// What SCRAM can be bound to: the hash of the server's certificate.
    pub(super) fn end_point_hash(&self) -> Option<Vec<u8>> {
        match self {
            Self::Tls(stream) => tls::end_point_hash(stream),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// Sends what fits at once, for a last word that nobody waits for.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Tls(stream) => {
                let (socket, session) = stream.get_mut();
                let count = session.writer().write(bytes)?;
                session.send_close_notify();
                let mut records = Vec::new();
                while session.wants_write() {
                    session.write_tls(&mut records)?;
                }
                socket.try_write(&records)?;
                Ok(count)
            }
        }
    }

    /// Nothing has come in: no byte, no end, no error. Costs no system call unless the reactor saw
    /// something.
    pub(super) fn is_silent(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let ready = match self {
            Self::Tcp(stream) => stream.poll_read_ready(&mut cx),
            Self::Unix(stream) => stream.poll_read_ready(&mut cx),
            Self::Tls(stream) => stream.get_ref().0.poll_read_ready(&mut cx),
        };
        if ready.is_pending() {
            return true;
        }
        // Readiness is a hint and may be a left-over; only a read tells. A byte that it takes is lost,
        // but then the connection is too.
        let mut byte = [0];
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
            // Half a record must not be taken out: it is looked at only.
            Self::Tls(stream) => {
                let mut byte = [std::mem::MaybeUninit::uninit()];
                SockRef::from(stream.get_ref().0).peek(&mut byte)
            }
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// [`Self::is_silent`], asked of the kernel: the reactor may not have heard yet. Takes nothing out.
    pub(super) fn is_silent_now(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let peeked = match self {
            Self::Tcp(stream) => SockRef::from(stream).peek(&mut byte),
            Self::Unix(stream) => SockRef::from(stream).peek(&mut byte),
            Self::Tls(stream) => SockRef::from(stream.get_ref().0).peek(&mut byte),
        };
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The sockets' poll_read, not their try_read: it clears the readiness on a short read, which
        // saves the read that would only say EAGAIN.
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => {
                // Whoever waits for an answer waits for the question to leave, too: TLS may have taken
                // bytes that the socket had no room for.
                if stream.get_ref().1.wants_write()
                    && let Poll::Ready(Err(error)) = Pin::new(&mut *stream).poll_flush(cx)
                {
                    return Poll::Ready(Err(error));
                }
                Pin::new(stream).poll_read(cx, buf)
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // Sockets keep nothing back.
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

async fn tcp(target: &Target) -> io::Result<TcpStream> {
    let Host::Tcp(host) = &target.host else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let stream = TcpStream::connect((host.as_str(), target.port)).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// Sends an `SSLRequest` and reads its one byte, not more: what comes behind it in plain is the
/// handshake's to refuse.
async fn ask_for_tls(socket: &mut TcpStream) -> io::Result<u8> {
    let mut request = Vec::new();
    ssl_request_into(&mut request);
    socket.write_all(&request).await?;
    socket.read_u8().await
}
