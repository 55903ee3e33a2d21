//! What goes wrong between us and a shard: whom to blame, whether a retry is safe, what the client is
//! told.

use std::io;
use std::time::Duration;

use crate::error::{SqlError, SqlState};
use crate::wire::ProtocolError;
use crate::wire::response::ServerError;

/// Who is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The shard, or the way there.
    Shard,
    /// The proxy: its configuration or its load.
    Proxy,
}

/// A failure on the way to a shard or at it.
#[derive(Debug)]
pub enum BackendError {
    /// It can't be reached.
    Connect(io::Error),
    /// It didn't answer a connection attempt in time.
    ConnectTimeout(Duration),
    /// Its breaker is open: it could not be reached for some time and isn't asked again yet.
    BreakerOpen,
    /// It refused the connection, with its own words.
    Refused(ServerError),
    /// It asks for an authentication that isn't spoken here, or failed to prove itself.
    Authentication(String),
    /// No encrypted connection came about: no TLS there, a certificate that isn't trusted, a file of ours
    /// that can't be read.
    Tls(String),
    /// It doesn't speak the protocol.
    Protocol(ProtocolError),
    /// The connection ended while it worked.
    Lost(io::Error),
    /// It answered a statement of our own with an error.
    Statement(ServerError),
    /// No connection became free in time.
    WaitTimeout(Duration),
    /// The shard is paused by an operator, and stayed so for as long as a client waits.
    Paused(Duration),
    /// The shard is being drained: an operator has closed it to new work.
    Draining,
    /// The pool is closed: the map it belonged to is gone, or the proxy stops.
    Closed,
}

impl BackendError {
    /// The connection ended without a word.
    pub fn eof() -> Self {
        Self::Lost(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "server closed the connection unexpectedly",
        ))
    }

    /// Who is to blame.
    pub fn side(&self) -> Side {
        match self {
            Self::Connect(_)
            | Self::ConnectTimeout(_)
            | Self::BreakerOpen
            | Self::Refused(_)
            | Self::Protocol(_)
            | Self::Lost(_)
            | Self::Statement(_) => Side::Shard,
            Self::Authentication(_)
            | Self::Tls(_)
            | Self::WaitTimeout(_)
            | Self::Paused(_)
            | Self::Draining
            | Self::Closed => Side::Proxy,
        }
    }

    /// Nothing was sent that could have had an effect, and a moment later it might work.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::ConnectTimeout(_)
            | Self::BreakerOpen
            | Self::WaitTimeout(_)
            | Self::Paused(_)
            | Self::Draining
            | Self::Closed => true,
            // Starting up, shutting down, in recovery; no slot left.
            Self::Refused(error) => {
                matches!(error.code().as_ref(), "57P03" | "57P01" | "53300")
            }
            Self::Authentication(_)
            | Self::Tls(_)
            | Self::Protocol(_)
            | Self::Lost(_)
            | Self::Statement(_) => false,
        }
    }

    /// The connection had ended by itself, between two statements: nothing that was sent on it was carried
    /// out. (Of what only sets a connection up that is as good as if it had not been.)
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Statement(error) => error.is_farewell(),
            _ => false,
        }
    }

    /// Its name among the metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::ConnectTimeout(_) => "connect_timeout",
            Self::BreakerOpen => "breaker_open",
            Self::Refused(_) => "refused",
            Self::Authentication(_) => "authentication",
            Self::Tls(_) => "tls",
            Self::Protocol(_) => "protocol",
            Self::Lost(_) => "lost",
            Self::Statement(_) => "statement",
            Self::WaitTimeout(_) => "wait_timeout",
            Self::Paused(_) => "paused",
            Self::Draining => "draining",
            Self::Closed => "closed",
        }
    }

    /// What the client is told: 57P03 when the shard could not be reached, 08006 when it was lost while
    /// it worked, 53300 when no connection was free.
    pub fn sql_error(&self, shard: &str) -> SqlError {
        let down = |why: String| {
            SqlError::new(
                SqlState::CANNOT_CONNECT_NOW,
                format!("could not connect to shard \"{shard}\""),
            )
            .detail(why)
        };
        match self {
            Self::Connect(error) => down(format!("{error}.")),
            Self::ConnectTimeout(limit) => down(format!("No answer within {limit:?}.")),
            Self::BreakerOpen => down(
                "The last attempts failed; it is not asked again for a while (breaker.timeout)."
                    .to_owned(),
            ),
            Self::Refused(error) => {
                let mut sql = error.to_sql_error(SqlState::CANNOT_CONNECT_NOW);
                let shards_words = sql.message;
                sql.message = format!("shard \"{shard}\" refused the connection: {shards_words}");
                sql
            }
            Self::Authentication(why) => SqlError::new(
                SqlState::INVALID_AUTHORIZATION,
                format!("could not log in to shard \"{shard}\""),
            )
            .detail(format!("{why}.")),
            Self::Tls(why) => {
                down(format!("{why}.")).hint("Look at sslmode and sslrootcert in the shard's URL.")
            }
            Self::Protocol(error) => SqlError::new(
                SqlState::CONNECTION_FAILURE,
                format!("shard \"{shard}\" does not speak the protocol"),
            )
            .detail(error.to_string()),
            Self::Lost(error) => SqlError::new(
                SqlState::CONNECTION_FAILURE,
                format!("connection to shard \"{shard}\" was lost"),
            )
            .detail(format!("{error}.")),
            Self::Statement(error) => {
                let mut sql = error.to_sql_error(SqlState::INTERNAL_ERROR);
                sql.position = None;
                sql
            }
            Self::WaitTimeout(limit) => SqlError::new(
                SqlState::TOO_MANY_CONNECTIONS,
                format!("no connection to shard \"{shard}\" within {limit:?} (pool.wait_timeout)"),
            ),
            Self::Paused(limit) => SqlError::new(
                SqlState::TOO_MANY_CONNECTIONS,
                format!("no connection to shard \"{shard}\" within {limit:?} (pool.wait_timeout)"),
            )
            .detail("The shard is paused by an operator."),
            Self::Draining => SqlError::new(
                SqlState::CANNOT_CONNECT_NOW,
                format!("shard \"{shard}\" takes no new work"),
            )
            .detail("It is being drained by an operator."),
            Self::Closed => down("Its connections are being closed.".to_owned()),
        }
    }
}

impl std::fmt::Display for BackendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "could not connect: {error}"),
            Self::ConnectTimeout(limit) => write!(f, "no answer within {limit:?}"),
            Self::BreakerOpen => f.write_str("not asked again yet after failed connections"),
            Self::Refused(error) => write!(f, "refused the connection: {error}"),
            Self::Authentication(why) => f.write_str(why),
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::Protocol(error) => write!(f, "protocol violation: {error}"),
            Self::Lost(error) => write!(f, "connection lost: {error}"),
            Self::Statement(error) => write!(f, "{error}"),
            Self::WaitTimeout(limit) => write!(f, "no free connection within {limit:?}"),
            Self::Paused(limit) => write!(f, "paused for longer than {limit:?}"),
            Self::Draining => f.write_str("being drained"),
            Self::Closed => f.write_str("the pool is closed"),
        }
    }
}

impl std::error::Error for BackendError {}

impl From<ProtocolError> for BackendError {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_which_shard_and_what() {
        let refused = |body: &[u8]| BackendError::Refused(ServerError::parse(body).unwrap());
        let check = |error: BackendError, code: &str, message: &str, retryable: bool| {
            let sql = error.sql_error("deu");
            assert_eq!((sql.code.0, sql.message.as_str()), (code, message));
            assert_eq!(error.retryable(), retryable, "{error}");
        };
        let gone = || io::Error::from(io::ErrorKind::ConnectionRefused);
        check(BackendError::Connect(gone()), "57P03", "could not connect to shard \"deu\"", true);
        check(BackendError::Lost(gone()), "08006", "connection to shard \"deu\" was lost", false);
        check(
            BackendError::WaitTimeout(Duration::from_secs(5)),
            "53300",
            "no connection to shard \"deu\" within 5s (pool.wait_timeout)",
            true,
        );
        check(
            refused(b"SFATAL\0C57P03\0Mthe database system is starting up\0\0"),
            "57P03",
            "shard \"deu\" refused the connection: the database system is starting up",
            true,
        );
        check(
            refused(b"SFATAL\0C28P01\0Mno\0\0"),
            "28P01",
            "shard \"deu\" refused the connection: no",
            false,
        );
    }
}
