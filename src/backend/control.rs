//! Control connections: tokio-postgres over a socket that was dialled and encrypted as the target's
//! `sslmode` says. What isn't in the data path (the schema, tables of the map, health) goes this way.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding as Bound, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Connection};

use super::error::BackendError;
use super::stream::{Encryption, Stream};
use super::target::{ChannelBinding, Target};

/// The socket of a control connection.
#[derive(Debug)]
pub struct ControlStream {
    stream: Stream,
    channel_binding: ChannelBinding,
}

/// A control connection: the client, and the connection itself, which must be polled by a task.
pub type Control = (Client, Connection<ControlStream, ControlStream>);

/// Why there is no control connection.
#[derive(Debug)]
pub enum ControlError {
    /// The server refused it, or doesn't speak the protocol.
    Server(tokio_postgres::Error),
    /// It could not be reached or encrypted.
    Backend(BackendError),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => match (error.as_db_error(), std::error::Error::source(error)) {
                (Some(server), _) => {
                    write!(f, "{} (SQLSTATE {})", server.message(), server.code().code())
                }
                (None, Some(cause)) => write!(f, "{error}: {cause}"),
                (None, None) => write!(f, "{error}"),
            },
            Self::Backend(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ControlError {}

/// Connects and logs in, within `timeout` altogether.
///
/// # Errors
///
/// See [`ControlError`].
///
/// # Cancel safety
///
/// Dropped, it leaves nothing behind.
pub async fn control(target: &Target, timeout: Duration) -> Result<Control, ControlError> {
    let attempt = async {
        let mut first = None;
        for encryption in Encryption::attempts(target) {
            match control_once(target, *encryption).await {
                Err(error) if first.is_none() && was_turned_down(&error) => first = Some(error),
                Err(error) => {
                    return Err(first.filter(|_| was_turned_down(&error)).unwrap_or(error));
                }
                made => return made,
            }
        }
        Err(first.unwrap_or_else(|| ControlError::Backend(BackendError::eof())))
    };
    match tokio::time::timeout(timeout, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ControlError::Backend(BackendError::ConnectTimeout(timeout))),
    }
}

/// It may be otherwise with TLS, or without.
fn was_turned_down(error: &ControlError) -> bool {
    match error {
        ControlError::Server(error) => error.code().is_some_and(|code| {
            *code == tokio_postgres::error::SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        }),
        ControlError::Backend(BackendError::Tls(_)) => true,
        ControlError::Backend(_) => false,
    }
}

async fn control_once(target: &Target, encryption: Encryption) -> Result<Control, ControlError> {
    let stream = Stream::connect(target, encryption).await.map_err(ControlError::Backend)?;
    let mut config = Config::new();
    config
        .user(&target.user)
        .dbname(&target.database)
        .application_name("pgmeridian")
        // Encrypted or not, the socket is what it shall be: it is handed over as it is.
        .ssl_mode(tokio_postgres::config::SslMode::Require)
        .ssl_negotiation(tokio_postgres::config::SslNegotiation::Direct)
        .channel_binding(match target.tls.channel_binding {
            ChannelBinding::Disable => tokio_postgres::config::ChannelBinding::Disable,
            ChannelBinding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
            ChannelBinding::Require => tokio_postgres::config::ChannelBinding::Require,
        });
    if !target.password.is_empty() {
        config.password(target.password.expose());
    }
    let channel_binding = target.tls.channel_binding;
    let stream = ControlStream { stream, channel_binding };
    config.connect_raw(stream, AsItIs).await.map_err(ControlError::Server)
}

/// What tokio-postgres takes for the maker of an encrypted stream.
struct AsItIs;

impl TlsConnect<ControlStream> for AsItIs {
    type Stream = ControlStream;
    type Error = io::Error;
    type Future = Ready<io::Result<ControlStream>>;

    fn connect(self, stream: ControlStream) -> Self::Future {
        ready(Ok(stream))
    }
}

impl TlsStream for ControlStream {
    fn channel_binding(&self) -> Bound {
        let hash = self.stream.end_point_hash();
        match hash.filter(|_| self.channel_binding != ChannelBinding::Disable) {
            Some(hash) => Bound::tls_server_end_point(hash),
            None => Bound::none(),
        }
    }
}

impl AsyncRead for ControlStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ControlStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
