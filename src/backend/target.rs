//! Where a shard is, and as whom one logs in there.

use std::fmt;
use std::path::PathBuf;

use crate::config::Secret;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A host name or an address.
    Tcp(String),
    /// The directory of a unix socket; the socket's name follows from the port.
    Unix(PathBuf),
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only if the server insists.
    Allow,
    /// TLS if the server can: libpq's default.
    #[default]
    Prefer,
    /// TLS or nothing.
    Require,
    /// TLS with a certificate of a known authority.
    VerifyCa,
    /// The same, and for this host.
    VerifyFull,
}

impl SslMode {
    /// Reads libpq's word for it.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }

    /// libpq's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// It accepts a connection without TLS.
    pub fn allows_plaintext(self) -> bool {
        matches!(self, Self::Disable | Self::Allow | Self::Prefer)
    }
}

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
        use crate::map;
        Self {
            host: match &url.host {
                map::Host::Tcp(host) => Host::Tcp(host.clone()),
                map::Host::Unix(directory) => Host::Unix(directory.clone()),
            },
            port: url.port,
            user: url.user.clone(),
            password: url
                .password
                .as_ref()
                .map_or_else(Secret::default, |password| Secret::new(password.reveal())),
            database: url.dbname.clone(),
            ssl_mode: match url.sslmode {
                map::SslMode::Disable => SslMode::Disable,
                map::SslMode::Allow => SslMode::Allow,
                map::SslMode::Prefer => SslMode::Prefer,
                map::SslMode::Require => SslMode::Require,
                map::SslMode::VerifyCa => SslMode::VerifyCa,
                map::SslMode::VerifyFull => SslMode::VerifyFull,
            },
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
