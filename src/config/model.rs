//! The settings, their defaults, and the users that follow from the shards' URLs.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use md5::{Digest as _, Md5};

use super::secret::Secret;
use crate::wire::frame::STATEMENT_BYTES_MAX;
use crate::wire::scram::Verifier;

/// All settings.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `SHARD_ID` of the process's environment: the shard of all its sessions, by name or number, unless they
    /// choose another.
    pub shard: Option<String>,
    /// `[listen]`.
    pub listen: Listen,
    /// `[http]`.
    pub http: Http,
    /// `[auth]`.
    pub auth: Auth,
    /// `[[users]]`; none: see [`users_of`].
    pub users: Vec<User>,
    /// `[pool]`.
    pub pool: Pool,
    /// `[limits]`.
    pub limits: Limits,
    /// `[health]`.
    pub health: Health,
    /// `[breaker]`.
    pub breaker: Breaker,
    /// `[log]`.
    pub log: Log,
}

/// Where clients connect.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Address and port.
    pub address: String,
    /// At most so many clients at once.
    pub clients_max: usize,
    /// TLS towards clients.
    pub tls: Option<Tls>,
}

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Who may sign clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// Clients without TLS are refused.
    pub required: bool,
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: "127.0.0.1:6432".to_owned(), clients_max: 10_000, tls: None }
    }
}

/// Metrics, health, administration.
#[derive(Clone, Debug)]
pub struct Http {
    /// Address and port.
    pub address: String,
    /// What the administrative paths ask for; without one they are closed.
    pub token: Option<Secret>,
}

impl Default for Http {
    fn default() -> Self {
        Self { address: "127.0.0.1:9632".to_owned(), token: None }
    }
}

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// The method.
    pub method: AuthMethod,
}

/// See `[auth] method`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMethod {
    /// SCRAM-SHA-256.
    #[default]
    Scram,
    /// md5.
    Md5,
    /// The certificate's common name.
    Cert,
    /// Everybody is who they say, on the loopback interface.
    Trust,
}

/// Someone who may connect.
#[derive(Clone, Debug)]
pub struct User {
    /// The name, here and on the shards.
    pub name: String,
    /// At most so many clients of this user at once.
    pub clients_max: Option<usize>,
    /// What is known of the password; `None`: this user can't log in by password.
    pub password: Option<Password>,
    /// The password on the shards; by default that of a shard's URL where the URL's user is this one.
    pub shard_password: Option<Secret>,
    /// May use the console.
    pub admin: bool,
    /// May say in a comment where a statement goes.
    pub hints: bool,
    /// The only key this user may touch.
    pub key: Option<String>,
    /// May read rows of regions that `[policy] residency` fences together with others; each time is logged.
    pub across_regions: bool,
}

/// What is known of a user's password.
#[derive(Clone, Debug)]
pub enum Password {
    /// The password.
    Plain(Secret),
    /// A SCRAM verifier.
    Verifier(Verifier),
    /// PostgreSQL's old hash, `md5` and 32 hexadecimal digits: the user's name is in it. It is as good as
    /// the password for whoever gets hold of it.
    Md5(Secret),
}

impl Password {
    /// The verifier of it. For a password it is computed, with another salt each time, which takes some
    /// milliseconds: once per user, not per login. `None` for an md5 hash, which no verifier can be made of.
    pub fn verifier(&self) -> Option<Verifier> {
        match self {
            Self::Plain(password) => Some(Verifier::from_password(password.expose().as_bytes())),
            Self::Verifier(verifier) => Some(verifier.clone()),
            Self::Md5(_) => None,
        }
    }

    /// The `md5…` hash of it, as PostgreSQL stores it; `None` for a SCRAM verifier, which can't be turned
    /// back.
    pub fn md5(&self, user: &str) -> Option<Secret> {
        match self {
            Self::Plain(password) => {
                let salted = [password.expose().as_bytes(), user.as_bytes()].concat();
                let mut hash = "md5".to_owned();
                for byte in Md5::digest(salted) {
                    let _ = write!(hash, "{byte:02x}");
                }
                Some(Secret::new(hash))
            }
            Self::Md5(hash) => Some(hash.clone()),
            Self::Verifier(_) => None,
        }
    }
}

/// Connections to shards.
#[derive(Clone, Debug)]
pub struct Pool {
    /// When a connection goes back.
    pub mode: PoolMode,
    /// Connections per shard and user.
    pub size: usize,
    /// Further ones for clients that have waited half of `wait_timeout`.
    pub reserve: usize,
    /// How long a client waits for a connection.
    pub wait_timeout: Duration,
    /// A connection unused for so long is closed.
    pub idle_timeout: Duration,
    /// A connection of this age is closed when it is free.
    pub lifetime: Duration,
    /// `SELECT 1` and the like are answered without a shard while it is known to be up.
    pub local_answers: bool,
    /// A read by primary key that comes so often is kept prepared on the shards' connections; 0: none is.
    pub prepare_threshold: u32,
}

/// When a connection goes back to its pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolMode {
    /// After each transaction.
    #[default]
    Transaction,
    /// When the client leaves.
    Session,
    /// After each statement; transactions are refused.
    Statement,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            mode: PoolMode::default(),
            size: 25,
            reserve: 5,
            wait_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(300),
            lifetime: Duration::from_secs(3600),
            local_answers: true,
            prepare_threshold: 5,
        }
    }
}

/// Limits; a duration of zero is none.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest message of a client.
    pub statement_bytes_max: u32,
    /// Memory to merge one statement's rows in, in bytes.
    pub merge_memory_max: u64,
    /// The same for all statements together.
    pub merge_memory_total_max: u64,
    /// The longest a statement may run.
    pub query_timeout: Duration,
    /// The longest a transaction may do nothing.
    pub idle_in_transaction_timeout: Duration,
    /// What was prepared on shards for so long is decided by whoever finds it.
    pub in_doubt_after: Duration,
    /// How long a stop waits for what runs.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            statement_bytes_max: STATEMENT_BYTES_MAX,
            merge_memory_max: 64 << 20,
            merge_memory_total_max: 1 << 30,
            query_timeout: Duration::ZERO,
            idle_in_transaction_timeout: Duration::ZERO,
            in_doubt_after: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// Health checks of shards.
#[derive(Clone, Copy, Debug)]
pub struct Health {
    /// How often.
    pub interval: Duration,
    /// How long one may take; also how long a connection may take to be made.
    pub timeout: Duration,
    /// So many failures in a row make a shard unhealthy.
    pub retries: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), timeout: Duration::from_secs(5), retries: 3 }
    }
}

/// When a shard that can't be reached is left alone.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    /// After so many failures in a row.
    pub threshold: u32,
    /// For so long.
    pub timeout: Duration,
    /// Then it is tried by so many at once.
    pub half_open_requests: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { threshold: 5, timeout: Duration::from_secs(30), half_open_requests: 3 }
    }
}

/// The log.
#[derive(Clone, Debug)]
pub struct Log {
    /// Text or JSON.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives per module.
    pub level: String,
    /// Statements that take longer are logged; zero: none.
    pub slow_query: Duration,
}

/// The log's form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object per line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            level: "info".to_owned(),
            slow_query: Duration::from_secs(1),
        }
    }
}

/// The users of a configuration that names none: those of the shards' URLs, each with the password it has
/// there. `shards` are user and password of each URL, the default shard's first: its user is admin and may
/// give hints (serve then listens on the loopback interface only).
///
/// Where URLs give one user different passwords, the first one counts here; on the shards each URL's own
/// is used.
pub fn users_of<'a>(shards: impl IntoIterator<Item = (&'a str, &'a Secret)>) -> Vec<User> {
    let mut users: Vec<User> = Vec::new();
    for (name, password) in shards {
        if name.is_empty() || users.iter().any(|user| user.name == name) {
            continue;
        }
        let first = users.is_empty();
        users.push(User {
            name: name.to_owned(),
            clients_max: None,
            password: Some(Password::Plain(password.clone())),
            shard_password: None,
            admin: first,
            hints: first,
            key: None,
            across_regions: false,
        });
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_hashes_are_postgresql_s() {
        // SELECT 'md5' || md5('geheim' || 'bot')
        let plain = Password::Plain(Secret::new("geheim")).md5("bot");
        assert_eq!(plain, Some(Secret::new("md5a7f66222ee97f143f0754cde3edebdee")));
    }

    #[test]
    fn users_follow_from_urls() {
        let (a, b) = (Secret::new("a"), Secret::new("b"));
        let users = users_of([("bot", &a), ("bot", &b), ("", &a), ("other", &b)]);
        let shown: Vec<_> = users.iter().map(|u| (u.name.as_str(), u.admin, u.hints)).collect();
        assert_eq!(shown, [("bot", true, true), ("other", false, false)]);
        assert!(!format!("{users:?}").contains("\"a\""));
    }
}
