//! From the first packet to `ReadyForQuery`.
//!
//! PostgreSQL manual, "Start-up" in "Message Flow"; `src/backend/postmaster/postmaster.c`
//! (`ProcessStartupPacket`) and `libpq/auth.c` for its words.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tracing::{debug, info};

use crate::config::AuthMethod;
use crate::error::{SqlError, SqlState};
use crate::exec::clients::{Client, ClientState};
use crate::exec::{
    Backend, CancelKey, CancelSlot, ClientIo, Executor, Worker, check_startup, startup_value,
};
use crate::observe::METRICS;
use crate::session::Session;
use crate::session::settings::{SessionSettings, Settings};
use crate::wire::backend::Severity;
use crate::wire::frontend::{SaslInitialView, tag};
use crate::wire::scram::{MECHANISM, ServerExchange, Verifier};
use crate::wire::startup::{FirstPacket, Startup};
use crate::wire::{self, ProtocolError};

/// How long a client may take to log in (PostgreSQL's `authentication_timeout`).
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a shard may take to accept a cancel request.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a wrong password is left without an answer, so that guessing is slow.
const WRONG_PASSWORD_PAUSE: Duration = Duration::from_millis(200);

/// Why a log-in came to nothing.
enum Refused {
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

/// A client that may come in.
struct Guest {
    startup: Startup,
    session: Session,
}

/// A socket with what has come on it.
struct Door {
    socket: TcpStream,
    inbox: Vec<u8>,
}

impl Door {
    async fn fill(&mut self) -> Result<(), Refused> {
        if self.socket.read_buf(&mut self.inbox).await? == 0 {
            return Err(Refused::Silently);
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

    /// The body of a password or SASL message.
    async fn password_message(&mut self) -> Result<Vec<u8>, Refused> {
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
                    "expected SASL response, got message type {}",
                    frame.tag
                ))
                .into());
            }
            let (body, length) = (frame.body.to_vec(), frame.raw.len());
            self.inbox.drain(..length);
            return Ok(body);
        }
    }
}

/// Logs a client in; `None` when that came to nothing (it has been told why).
pub(super) async fn login(
    worker: Arc<Worker>,
    socket: TcpStream,
    peer: SocketAddr,
    task: Arc<OnceLock<AbortHandle>>,
) -> Option<Box<Executor>> {
    let mut door = Door { socket, inbox: Vec::new() };
    let entered = tokio::time::timeout(LOGIN_TIMEOUT, enter(&worker, &mut door, peer)).await;
    let outcome = match entered {
        Err(_) | Ok(Err(Refused::Silently)) => return None,
        Ok(Err(Refused::Told(error))) => Err(error),
        Ok(Ok(guest)) => Ok(guest),
    };
    let guest = match outcome {
        Ok(guest) => guest,
        Err(error) => {
            METRICS.client_auth_failures.fetch_add(1, Ordering::Relaxed);
            info!(%peer, %error, "a client was not let in");
            let mut out = Vec::new();
            wire::backend::error(&mut out, &error, Severity::Fatal);
            let _ = door.socket.write_all(&out).await;
            let _ = door.socket.shutdown().await;
            return None;
        }
    };
    let slot = worker.shared.cancels.register();
    let client = worker.shared.clients.enter(ClientState::new(
        slot.key(),
        guest.startup.user(),
        guest.startup.database(),
        guest.startup.parameter("application_name").unwrap_or_default(),
        peer,
        task,
    ));
    greet(worker, door, guest.session, slot, client).await
}

async fn enter(worker: &Arc<Worker>, door: &mut Door, peer: SocketAddr) -> Result<Guest, Refused> {
    let startup = loop {
        match door.first_packet().await? {
            FirstPacket::Ssl | FirstPacket::GssEnc => door.socket.write_all(b"N").await?,
            FirstPacket::Cancel { pid, secret } => {
                cancel(worker, pid, &secret).await;
                return Err(Refused::Silently);
            }
            FirstPacket::Startup(startup) => break startup,
        }
    };
    if let Some(negotiation) = startup.negotiation() {
        let mut out = Vec::new();
        wire::backend::negotiate_protocol_version(&mut out, &negotiation);
        door.socket.write_all(&out).await?;
    }
    authenticate(worker, door, &startup, peer).await?;
    admit(worker, &startup)?;
    let session = session(worker, &startup)?;
    Ok(Guest { startup, session })
}

async fn cancel(worker: &Worker, pid: i32, secret: &[u8]) {
    let Some(word) = secret.first_chunk::<4>().filter(|_| secret.len() == 4) else { return };
    let key = CancelKey { pid, secret: i32::from_be_bytes(*word) };
    let map = &worker.shared.store.current().map;
    for Backend { shard, pid, secret } in worker.shared.cancels.mark(key) {
        let Some(shard) = map.shards().get(usize::from(shard.0)) else { continue };
        METRICS.cancels.fetch_add(1, Ordering::Relaxed);
        let target = (&shard.url).into();
        let secret = secret.to_be_bytes();
        if let Err(error) = crate::backend::cancel(&target, pid, &secret, CANCEL_TIMEOUT).await {
            debug!(%error, shard = shard.name, "a cancel request did not reach the shard");
        }
    }
}

async fn authenticate(
    worker: &Worker,
    door: &mut Door,
    startup: &Startup,
    peer: SocketAddr,
) -> Result<(), Refused> {
    let user = startup.user();
    match worker.shared.config.auth.method {
        AuthMethod::Trust if peer.ip().is_loopback() => {
            if !worker.shared.accounts.contains_key(user) {
                return Err(SqlError::new(
                    SqlState::INVALID_AUTHORIZATION,
                    format!("role \"{user}\" does not exist"),
                )
                .into());
            }
        }
        AuthMethod::Scram => scram(worker, door, user).await?,
        AuthMethod::Trust => {
            return Err(SqlError::new(
                SqlState::INVALID_AUTHORIZATION,
                "trust authentication is for the loopback interface only",
            )
            .into());
        }
        AuthMethod::Md5 | AuthMethod::Cert => {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "this authentication method is not supported",
            )
            .hint("Set [auth] method = \"scram-sha-256\".")
            .into());
        }
    }
    let mut out = Vec::new();
    wire::backend::authentication_ok(&mut out);
    door.socket.write_all(&out).await?;
    Ok(())
}

async fn scram(worker: &Worker, door: &mut Door, user: &str) -> Result<(), Refused> {
    let account = worker.shared.accounts.get(user);
    let verifier = account
        .and_then(|account| account.verifier.clone())
        .unwrap_or_else(|| Verifier::mock(&worker.shared.mock_secret, user));
    let mut out = Vec::new();
    wire::backend::authentication_sasl(&mut out, &[MECHANISM]);
    door.socket.write_all(&out).await?;
    let body = door.password_message().await?;
    let view = SaslInitialView::parse(&body)?;
    if view.mechanism != MECHANISM.as_bytes() {
        let error =
            ProtocolError::violation("client selected an invalid SASL authentication mechanism");
        return Err(error.into());
    }
    let exchange = ServerExchange::new(verifier);
    let (awaiting, challenge) =
        exchange.first(view.message.unwrap_or_default()).map_err(|error| error.sql_error(user))?;
    out.clear();
    wire::backend::authentication_sasl_continue(&mut out, challenge.as_bytes());
    door.socket.write_all(&out).await?;
    let body = door.password_message().await?;
    match awaiting.last(&body) {
        Ok(done) => {
            out.clear();
            wire::backend::authentication_sasl_final(&mut out, done.server_final.as_bytes());
            door.socket.write_all(&out).await?;
            Ok(())
        }
        Err(error) => {
            tokio::time::sleep(WRONG_PASSWORD_PAUSE).await;
            Err(error.sql_error(user).into())
        }
    }
}

/// Whether the client may come in, now that it is known who it is.
fn admit(worker: &Worker, startup: &Startup) -> Result<(), SqlError> {
    let shared = &worker.shared;
    if shared.draining.load(Ordering::Relaxed) {
        return Err(SqlError::new(
            SqlState::CANNOT_CONNECT_NOW,
            "the database system is shutting down",
        ));
    }
    if shared.cancels.len() >= shared.config.listen.clients_max {
        return Err(SqlError::new(
            SqlState::TOO_MANY_CONNECTIONS,
            "sorry, too many clients already",
        )
        .hint("The limit is [listen] clients_max."));
    }
    if startup.parameter("replication").is_some_and(|value| !matches!(value, "false" | "off" | "0"))
    {
        return Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "replication connections are not supported",
        )
        .hint("Connect to the shard itself."));
    }
    let database = startup.database();
    let map = &shared.store.current().map;
    if database != map.database() {
        return Err(SqlError::new(
            SqlState::INVALID_CATALOG_NAME,
            format!("database \"{database}\" does not exist"),
        )
        .hint(format!("The map serves the database \"{}\".", map.database())));
    }
    Ok(())
}

/// The session that the start-up packet asks for.
fn session(worker: &Worker, startup: &Startup) -> Result<Session, SqlError> {
    let user = startup.user().to_owned();
    let account = worker.shared.accounts.get(&user).map(|account| &account.user);
    let map = Arc::clone(&worker.shared.store.current().map);
    let mut session = Session {
        hints: account.is_some_and(|account| account.hints),
        user_key: account.and_then(|account| account.key.clone()),
        user,
        ..Session::default()
    };
    let mut wanted: Vec<(String, String)> = Vec::new();
    for (name, value) in &startup.parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => wanted.extend(wire::startup::options(value)?),
            name if name.starts_with("_pq_.") => {}
            _ => wanted.push((name.clone(), value.clone())),
        }
    }
    let mut settings = Settings::default();
    for (name, value) in wanted {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "pgmeridian.shard" => session.shard = Some(value),
            "pgmeridian.key" => session.key = Some(value),
            "pgmeridian.region" => session.region = Some(value),
            name if map.key_setting() == Some(name) => session.key = Some(value),
            name if name.starts_with("pgmeridian.") => {
                return Err(SqlError::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("unrecognized configuration parameter \"{name}\""),
                ));
            }
            // What every connection has anyway must not tell its users apart.
            "client_encoding" if is_utf8(&value) => {}
            name => {
                check_startup(name, &value)?;
                settings = settings.with(name, &startup_value(name, &value));
            }
        }
    }
    if session.user_key.is_some() && (session.key.is_some() || session.shard.is_some()) {
        return Err(SqlError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("user \"{}\" may not choose a key or a shard", session.user),
        )
        .detail("The user is confined to one key."));
    }
    session.settings = SessionSettings::new(settings);
    Ok(session)
}

fn is_utf8(encoding: &str) -> bool {
    matches!(
        encoding.trim_matches('\'').to_ascii_lowercase().as_str(),
        "utf8" | "utf-8" | "unicode"
    )
}

/// Parameters, the cancel key, and `ReadyForQuery`.
async fn greet(
    worker: Arc<Worker>,
    door: Door,
    session: Session,
    slot: CancelSlot,
    client: Client,
) -> Option<Box<Executor>> {
    let key = slot.key();
    let io = ClientIo::new(door.socket, door.inbox);
    let mut executor = Box::new(Executor::new(worker, io, session, slot, client));
    match executor.greeting().await {
        Ok(parameters) => {
            let out = &mut executor.io.outbox;
            for (name, value) in &parameters {
                wire::backend::parameter_status(out, name, value);
            }
            wire::backend::backend_key_data(out, key.pid, &key.secret.to_be_bytes());
            wire::backend::ready_for_query(out, wire::backend::STATUS_IDLE);
            Some(executor)
        }
        Err(error) => {
            wire::backend::error(&mut executor.io.outbox, &error, Severity::Fatal);
            executor.io.shutdown().await;
            None
        }
    }
}
