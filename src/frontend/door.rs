//! A client's socket before it is logged in: the first packet, the way to TLS, and messages one at a time.
//!
//! PostgreSQL `backend_startup.c` (`ProcessSSLStartup`, `ProcessStartupPacket`) and `be-secure.c`. Bytes
//! that came in plain are never taken for encrypted ones (CVE-2021-23222).

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::info;

use super::tls::{ALPN, ServerTls};
use crate::error::{SqlError, SqlState};
use crate::exec::{ClientIo, ClientSocket};
use crate::wire::backend::Severity;
use crate::wire::frontend::tag;
use crate::wire::startup::FirstPacket;
use crate::wire::{self, ProtocolError};

/// The first byte of a TLS record that begins a handshake (RFC 8446, section 5.1). No packet of
/// PostgreSQL's begins with it, for it would be far too long.
const TLS_HANDSHAKE: u8 = 0x16;

/// Why a log-in came to nothing.
pub(super) enum Refused {
    /// The client is told.
    Told(SqlError),
    /// There is nobody to tell, or nothing to say.
    Silently,
}

impl From<SqlError> for Refused {
    fn from(error: SqlError) -> Self {
        Self::Told(error)
    }
}

impl From<ProtocolError> for Refused {
    fn from(error: ProtocolError) -> Self {
        Self::Told(error.into())
    }
}

impl From<std::io::Error> for Refused {
    fn from(_: std::io::Error) -> Self {
        Self::Silently
    }
}

/// A socket with what has come on it.
pub(super) struct Door {
    socket: ClientSocket,
    inbox: Vec<u8>,
    /// What is to be sent before the next message is waited for.
    pub(super) out: Vec<u8>,
    /// Of the certificate that the client was shown.
    end_point_hash: Option<Vec<u8>>,
}

impl Door {
    /// Takes a connection to its first packet that is not about encryption; `None` when it came to nothing
    /// and nobody can be told.
    pub(super) async fn open(
        socket: TcpStream,
        tls: Option<&ServerTls>,
    ) -> Option<(Self, Result<FirstPacket, Refused>)> {
        let mut first = [0];
        let is_direct = socket.peek(&mut first).await.ok()? > 0 && first == [TLS_HANDSHAKE];
        let mut door = Self {
            socket: ClientSocket::Plain(socket),
            inbox: Vec::new(),
            out: Vec::new(),
            end_point_hash: None,
        };
        if is_direct {
            door = door.encrypt(tls?).await?;
            if door.alpn() != Some(ALPN) {
                info!(
                    "received direct SSL connection request without ALPN protocol negotiation extension"
                );
                return None;
            }
        }
        let (mut ssl_done, mut gss_done) = (is_direct, is_direct);
        loop {
            match (door.first_packet().await, tls) {
                (Ok(FirstPacket::Ssl), Some(tls)) if !ssl_done => {
                    if !door.inbox.is_empty() {
                        return Some((door, Err(injected("SSL").into())));
                    }
                    door.out.push(b'S');
                    door.flush().await.ok()?;
                    door = door.encrypt(tls).await?;
                    (ssl_done, gss_done) = (true, true);
                }
                (Ok(FirstPacket::Ssl), None) if !ssl_done => {
                    ssl_done = true;
                    door.out.push(b'N');
                    if !door.inbox.is_empty() {
                        return Some((door, Err(injected("SSL").into())));
                    }
                }
                (Ok(FirstPacket::GssEnc), _) if !gss_done => {
                    gss_done = true;
                    door.out.push(b'N');
                    if !door.inbox.is_empty() {
                        return Some((door, Err(injected("GSSAPI encryption").into())));
                    }
                }
                (Ok(FirstPacket::Ssl), _) => return Some((door, Err(asked_again(5679).into()))),
                (Ok(FirstPacket::GssEnc), _) => return Some((door, Err(asked_again(5680).into()))),
                (packet, _) => return Some((door, packet)),
            }
        }
    }

    async fn encrypt(self, tls: &ServerTls) -> Option<Self> {
        // What comes in plain and is encrypted below it can't be told apart any more.
        let ClientSocket::Plain(socket) = self.socket else { return None };
        let identity = tls.current();
        match identity.acceptor.accept(socket).await {
            Ok(stream) => Some(Self {
                socket: ClientSocket::Tls(Box::new(stream)),
                inbox: Vec::new(),
                out: Vec::new(),
                end_point_hash: identity.end_point_hash.clone(),
            }),
            Err(error) => {
                info!(%error, "could not accept SSL connection");
                None
            }
        }
    }

    fn alpn(&self) -> Option<&[u8]> {
        match &self.socket {
            ClientSocket::Plain(_) => None,
            ClientSocket::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// The connection is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.socket, ClientSocket::Tls(_))
    }

    /// What SCRAM can be bound to.
    pub(super) fn end_point_hash(&self) -> Option<&[u8]> {
        self.end_point_hash.as_deref()
    }

    /// The certificate that the client has shown, and that was found to be signed by whom it must be.
    pub(super) fn client_certificate(&self) -> Option<&CertificateDer<'static>> {
        match &self.socket {
            ClientSocket::Plain(_) => None,
            ClientSocket::Tls(stream) => stream.get_ref().1.peer_certificates()?.first(),
        }
    }

    async fn fill(&mut self) -> Result<(), Refused> {
        self.flush().await?;
        if self.socket.read_buf(&mut self.inbox).await? == 0 {
            return Err(Refused::Silently);
        }
        Ok(())
    }

    /// Sends what is to be sent.
    pub(super) async fn flush(&mut self) -> std::io::Result<()> {
        if !self.out.is_empty() {
            self.socket.write_all(&self.out).await?;
            self.socket.flush().await?;
            self.out.clear();
        }
        Ok(())
    }

    async fn first_packet(&mut self) -> Result<FirstPacket, Refused> {
        loop {
            if let Some((packet, length)) = wire::startup::next(&self.inbox)? {
                self.inbox.drain(..length);
                return Ok(packet);
            }
            self.fill().await?;
        }
    }

    /// The body of a password or SASL message; `expected` names it where another one comes.
    pub(super) async fn password_message(&mut self, expected: &str) -> Result<Vec<u8>, Refused> {
        loop {
            let frame = wire::frame::next(&self.inbox, wire::frame::AUTH_BYTES_MAX)?;
            let Some(frame) = frame else {
                self.fill().await?;
                continue;
            };
            if frame.tag == tag::TERMINATE {
                return Err(Refused::Silently);
            }
            if frame.tag != tag::PASSWORD {
                return Err(ProtocolError::violation(format!(
                    "expected {expected} response, got message type {}",
                    frame.tag
                ))
                .into());
            }
            let (body, length) = (frame.body.to_vec(), frame.raw.len());
            self.inbox.drain(..length);
            return Ok(body);
        }
    }

    /// The connection for whoever serves the client from now on, with what is still to be sent.
    pub(super) fn into_io(mut self) -> ClientIo {
        // Passwords were longer than most statements are.
        self.inbox.shrink_to_fit();
        let mut io = ClientIo::new(self.socket, self.inbox);
        io.outbox = self.out;
        io
    }

    /// The client is told why it is not let in, and the connection ends.
    pub(super) async fn close(self, error: &SqlError) {
        let mut io = self.into_io();
        wire::backend::error(&mut io.outbox, error, Severity::Fatal);
        io.drain().await;
    }
}

/// Bytes behind such a request can only come from somebody who has not waited for the answer.
fn injected(request: &str) -> ProtocolError {
    let message = format!("received unencrypted data after {request} request");
    ProtocolError::violation(message).detail(
        "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
    )
}

/// Each kind of encryption can be asked for once; then the packet is a version that nobody knows.
fn asked_again(minor: u16) -> SqlError {
    SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!(
            "unsupported frontend protocol 1234.{minor}: server supports 3.0 to 3.{}",
            wire::startup::MINOR_MAX
        ),
    )
}
