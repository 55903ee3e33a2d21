//! Where a shard is, and as whom one logs in there.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Secret;
pub use crate::map::{Host, SslMode};
use crate::wire::scram::client::Keys;

/// A server, a database on it, and who logs in.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it listens.
    pub host: Host,
    /// TCP port, or the number in the unix socket's name.
    pub port: u16,
    /// The role.
    pub user: String,
    /// Its password; empty for none.
    pub password: Secret,
    /// The database.
    pub database: String,
    /// SCRAM keys of the role, where its password is not known.
    pub keys: Option<Keys>,
    /// What the server has last accepted of the password.
    pub accepted: Accepted,
    /// What is asked of TLS.
    pub ssl_mode: SslMode,
    /// With which certificates, and how it begins.
    pub tls: TlsOptions,
    /// `require_auth`: methods that are accepted, or with `!` those that are not.
    pub require_auth: Option<String>,
    /// Further parameters of the startup packet that belong to this server (`application_name`,
    /// `options` of its URL).
    pub options: Vec<(String, String)>,
}

/// The SCRAM keys that a server has accepted, shared by all connections to a target: to make them of the
/// password again for each connection would take milliseconds of the thread that serves the clients.
///
/// They are no part of what a target is: all of them are equal.
#[derive(Clone, Debug, Default)]
pub struct Accepted(Arc<Mutex<Option<Keys>>>);

impl Accepted {
    pub(super) fn keys(&self) -> Option<Keys> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, keys: Keys) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(keys);
    }
}

impl PartialEq for Accepted {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Accepted {}

/// libpq's parameters for TLS, besides `sslmode`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsOptions {
    /// `sslrootcert`: a file, or `system`; by default `~/.postgresql/root.crt` if there is one.
    pub root_cert: Option<String>,
    /// `sslcert`; by default `~/.postgresql/postgresql.crt` if there is one.
    pub cert: Option<String>,
    /// `sslkey`; by default `~/.postgresql/postgresql.key`.
    pub key: Option<String>,
    /// `sslnegotiation=direct`: TLS from the first byte (PostgreSQL 17).
    pub direct: bool,
    /// `channel_binding`.
    pub channel_binding: ChannelBinding,
}

/// Whether SCRAM must be bound to the shard's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the shard offers it.
    #[default]
    Prefer,
    /// Always: a shard that does not offer it is not logged in to.
    Require,
}

/// A parameter's value; the last one wins, an empty one is none.
fn param<'p>(params: &'p [(String, String)], wanted: &str) -> Option<&'p str> {
    let found = params.iter().rev().find(|(name, _)| name == wanted);
    found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}

impl TlsOptions {
    fn of(params: &[(String, String)]) -> Self {
        let param = |wanted| param(params, wanted);
        Self {
            root_cert: param("sslrootcert").map(str::to_owned),
            cert: param("sslcert").map(str::to_owned),
            key: param("sslkey").map(str::to_owned),
            direct: param("sslnegotiation") == Some("direct"),
            channel_binding: match param("channel_binding") {
                Some("disable") => ChannelBinding::Disable,
                Some("require") => ChannelBinding::Require,
                _ => ChannelBinding::Prefer,
            },
        }
    }
}

impl Target {
    /// The unix socket's path, for a server that listens on one.
    pub(super) fn socket_path(&self) -> Option<PathBuf> {
        match &self.host {
            Host::Tcp(_) => None,
            Host::Unix(directory) => Some(directory.join(format!(".s.PGSQL.{}", self.port))),
        }
    }
}

/// Without the password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Tcp(host) => {
                write!(f, "{}@{host}:{}/{}", self.user, self.port, self.database)
            }
            Host::Unix(directory) => {
                let directory = directory.display();
                write!(f, "{}@{directory}:{}/{}", self.user, self.port, self.database)
            }
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

impl From<&crate::map::ConnectionTarget> for Target {
    fn from(url: &crate::map::ConnectionTarget) -> Self {
        Self {
            host: url.host.clone(),
            port: url.port,
            user: url.user.clone(),
            password: url
                .password
                .as_ref()
                .map_or_else(Secret::default, |password| Secret::new(password.reveal())),
            keys: None,
            accepted: Accepted::default(),
            database: url.dbname.clone(),
            ssl_mode: url.sslmode,
            tls: TlsOptions::of(&url.params),
            require_auth: param(&url.params, "require_auth").map(str::to_owned),
            // The others speak to libpq, not to the server.
            options: url
                .params
                .iter()
                .filter(|(name, _)| {
                    matches!(name.as_str(), "application_name" | "client_encoding" | "options")
                })
                .cloned()
                .collect(),
        }
    }
}
