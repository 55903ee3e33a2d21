//! From the first packet to `ReadyForQuery`.
//!
//! PostgreSQL manual, "Start-up" in "Message Flow"; `src/backend/postmaster/postmaster.c`
//! (`ProcessStartupPacket`) and `utils/init/postinit.c` for its words. [`door`](super::door) has the bytes,
//! [`auth`](super::auth) the proofs.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tracing::info;

use super::Gate;
use super::auth::authenticate;
use super::door::{Door, Refused};
use crate::console;
use crate::error::{SqlError, SqlState};
use crate::exec::clients::{Client, ClientState};
use crate::exec::{
    CancelKey, CancelSlot, ClientIo, Executor, Worker, check_startup, startup_value,
};
use crate::map::ShardMap;
use crate::observe::METRICS;
use crate::plan::scope;
use crate::session::Session;
use crate::session::settings::{SessionSettings, Settings};
use crate::sql::class::is_custom;
use crate::sql::quote::quote_literal;
use crate::wire;
use crate::wire::backend::Severity;
use crate::wire::startup::{FirstPacket, Startup};

/// How long a client may take to log in (PostgreSQL's `authentication_timeout`).
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A place among a number of clients; it is free again when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    /// `None` where `most` are taken.
    pub(super) fn take(taken: &Arc<AtomicUsize>, most: Option<usize>) -> Option<Self> {
        let place = Self(Arc::clone(taken));
        let before = taken.fetch_add(1, Ordering::Relaxed);
        most.is_none_or(|most| before < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client that may come in.
struct Guest {
    startup: Startup,
    /// `None` for an operator at the console.
    session: Option<Session>,
    place: Place,
    /// Who serves its database.
    worker: Arc<Worker>,
}

/// Who has come in.
pub(super) enum Entered {
    /// A client of the map's database, greeted.
    Client(Box<Executor>),
    /// An operator, not greeted yet. Boxed, for most are clients.
    Operator(Box<ClientIo>, Client),
}

/// Logs a client in; `None` when that came to nothing (it has been told why).
pub(super) async fn login(
    worker: Arc<Worker>,
    gate: &Gate,
    socket: TcpStream,
    peer: SocketAddr,
    task: Arc<OnceLock<AbortHandle>>,
) -> Option<(Entered, Place)> {
    let deadline = tokio::time::Instant::now() + LOGIN_TIMEOUT;
    // Until it has said who it is, a client that is too slow is told nothing, as in PostgreSQL.
    let opened = tokio::time::timeout_at(deadline, Door::open(socket, gate.tls.as_deref())).await;
    let (mut door, first) = opened.ok().flatten()?;
    let outcome = match first {
        Ok(packet) => {
            let entering = enter(&worker, gate, &mut door, packet, peer);
            match tokio::time::timeout_at(deadline, entering).await {
                Ok(outcome) => outcome,
                Err(_) => Err(too_slow().into()),
            }
        }
        Err(refused) => Err(refused),
    };
    match outcome {
        Ok(guest) => {
            let worker = guest.worker;
            let slot = worker.shared.cancels.register(&worker.shared.store);
            let client = worker.shared.clients.enter(ClientState::new(
                slot.key(),
                guest.startup.user(),
                guest.startup.database(),
                guest.startup.parameter("application_name").unwrap_or_default(),
                peer,
                task,
            ));
            let entered = match guest.session {
                Some(session) => Entered::Client(greet(worker, door, session, slot, client).await?),
                None => Entered::Operator(Box::new(door.into_io()), client),
            };
            Some((entered, guest.place))
        }
        Err(Refused::Silently) => None,
        Err(Refused::Told(error)) => {
            METRICS.client_auth_failures.fetch_add(1, Ordering::Relaxed);
            info!(%peer, %error, "a client was not let in");
            door.close(&error).await;
            None
        }
    }
}

fn too_slow() -> SqlError {
    SqlError::new(SqlState::QUERY_CANCELED, "canceling authentication due to timeout")
}

async fn enter(
    worker: &Arc<Worker>,
    gate: &Gate,
    door: &mut Door,
    packet: FirstPacket,
    peer: SocketAddr,
) -> Result<Guest, Refused> {
    let startup = match packet {
        FirstPacket::Startup(startup) => startup,
        FirstPacket::Cancel { pid, secret } => {
            cancel(worker, pid, &secret).await;
            return Err(Refused::Silently);
        }
        // The door lets none of them through.
        FirstPacket::Ssl | FirstPacket::GssEnc => return Err(Refused::Silently),
    };
    if let Some(negotiation) = startup.negotiation() {
        wire::backend::negotiate_protocol_version(&mut door.out, &negotiation);
    }
    authenticate(worker, gate, door, &startup, peer).await?;
    let (place, own) = admit(worker, &startup)?;
    let worker = own.unwrap_or_else(|| Arc::clone(worker));
    let session = match startup.database() {
        console::DATABASE => None,
        _ => Some(session(&worker, &startup)?),
    };
    Ok(Guest { startup, session, place, worker })
}

async fn cancel(worker: &Worker, pid: i32, secret: &[u8]) {
    let Some(word) = secret.first_chunk::<4>().filter(|_| secret.len() == 4) else { return };
    let key = CancelKey { pid, secret: i32::from_be_bytes(*word) };
    worker.shared.cancel(key).await;
}

/// Whether the client may come in, now that it is known who it is; and who serves its database, if not the
/// thread's own worker.
fn admit(worker: &Worker, startup: &Startup) -> Result<(Place, Option<Arc<Worker>>), SqlError> {
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
    let place = place(worker, startup.user())?;
    let database = startup.database();
    if database == console::DATABASE {
        admit_operator(worker, startup.user())?;
        return Ok((place, None));
    }
    let map = Arc::clone(&shared.store.current().map);
    if database == map.database() {
        return Ok((place, None));
    }
    let Some(own) = worker.of_database(database) else {
        return Err(no_database(database, &map));
    };
    let account = shared.accounts.get(startup.user());
    if account.is_some_and(|account| account.user.key.is_some()) {
        return Err(SqlError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for database \"{database}\""),
        )
        .detail(format!(
            "User \"{}\" is confined to one key, and the database has none.",
            startup.user()
        )));
    }
    Ok((place, Some(own)))
}

fn no_database(name: &str, map: &ShardMap) -> SqlError {
    let error = SqlError::new(
        SqlState::INVALID_CATALOG_NAME,
        format!("database \"{name}\" does not exist"),
    );
    let hint = format!("The map serves the database \"{}\".", map.database());
    if map.databases().iter().any(|rule| rule.matches(name)) {
        return error
            .detail(
                "A rule under [[databases]] matches its name, but its directory does not list it.",
            )
            .hint(hint);
    }
    error.hint(hint)
}

/// A place among the clients of that user (PostgreSQL's `CONNECTION LIMIT` of a role).
fn place(worker: &Worker, user: &str) -> Result<Place, SqlError> {
    let account = worker.shared.accounts.get(user);
    let (taken, most) = match account {
        Some(account) => (Arc::clone(&account.clients), account.user.clients_max),
        None => (Arc::default(), None),
    };
    Place::take(&taken, most).ok_or_else(|| {
        SqlError::new(
            SqlState::TOO_MANY_CONNECTIONS,
            format!("too many connections for role \"{user}\""),
        )
        .hint("The limit is this user's clients_max.")
    })
}

/// The console is for users with `admin = true`.
fn admit_operator(worker: &Worker, user: &str) -> Result<(), SqlError> {
    let account = worker.shared.accounts.get(user);
    if account.is_some_and(|account| account.user.admin) {
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("permission denied for the console: user \"{user}\" is not an administrator"),
    )
    .detail(format!("The database \"{}\" is the operator's console.", console::DATABASE))
    .hint("Give the user `admin = true` in [[users]]."))
}

/// The session that the start-up packet asks for.
fn session(worker: &Worker, startup: &Startup) -> Result<Session, SqlError> {
    let user = startup.user().to_owned();
    let account = worker.shared.accounts.get(&user).map(|account| &account.user);
    let map = Arc::clone(&worker.shared.store.current().map);
    let mut session = Session {
        hints: account.is_some_and(|account| account.hints),
        user_key: account.and_then(|account| account.key.clone()),
        across_regions: account.is_some_and(|account| account.across_regions),
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
    let mut key = None;
    for (name, value) in wanted {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "pgmeridian.shard" | "pgmeridian.region" => settings = settings.with(&name, &value),
            "pgmeridian.key" => key = Some(value),
            name if map.key_setting() == Some(name) => key = Some(value),
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
    check_choices(&session, key.as_deref(), settings.value("pgmeridian.shard"), &map)?;
    if let Some(key) = session.user_key.clone().or(key) {
        settings = settings.with("pgmeridian.key", &key);
        if let Some(name) = map.key_setting().filter(|name| is_custom(name)) {
            settings = settings.with(name, &quote_literal(&key));
        }
    }
    if let (None, Some(own)) = (settings.value("pgmeridian.shard"), &worker.shared.config.shard) {
        settings = settings.with("pgmeridian.shard", own);
    }
    session.settings = SessionSettings::new(settings);
    Ok(session)
}

/// What the session starts with must be a key and a shard of the map, and its user's to choose.
fn check_choices(
    session: &Session,
    key: Option<&str>,
    shard: Option<&str>,
    map: &ShardMap,
) -> Result<(), SqlError> {
    let chosen = key.map(|key| scope::resolve_key(map, key)).transpose()?;
    if let Some(shard) = shard.filter(|shard| *shard != "*") {
        scope::resolve_shard(map, shard)?;
    }
    let Some(own) = &session.user_key else { return Ok(()) };
    let own = scope::resolve_key(map, own)?;
    if shard.is_some() || chosen.is_some_and(|chosen| chosen != own) {
        return Err(SqlError::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("user \"{}\" may not choose a key or a shard", session.user),
        )
        .detail("The user is confined to one key."));
    }
    Ok(())
}

fn is_utf8(encoding: &str) -> bool {
    matches!(
        encoding.trim_matches('\'').to_ascii_lowercase().as_str(),
        "utf8" | "utf-8" | "unicode"
    )
}

/// A database that is not there is told as PostgreSQL tells it.
fn in_its_words(error: SqlError, database: &str) -> SqlError {
    if error.code != SqlState::INVALID_CATALOG_NAME {
        return error;
    }
    let message = format!("database \"{database}\" does not exist");
    SqlError::new(SqlState::INVALID_CATALOG_NAME, message).detail(error.message)
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
    let io = door.into_io();
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
            let error = in_its_words(error, &executor.client.database);
            wire::backend::error(&mut executor.io.outbox, &error, Severity::Fatal);
            executor.io.shutdown().await;
            None
        }
    }
}
