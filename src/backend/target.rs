//! Where a shard is, and as whom one logs in there.

use std::fmt;
use std::path::PathBuf;

use crate::config::Secret;
pub use crate::map::{Host, SslMode};

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
    /// What is asked of TLS.
    pub ssl_mode: SslMode,
    /// Further parameters of the startup packet that belong to this server (`application_name`,
    /// `options` of its URL).
    pub options: Vec<(String, String)>,
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
            database: url.dbname.clone(),
            ssl_mode: url.sslmode,
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
