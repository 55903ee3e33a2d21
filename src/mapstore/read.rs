//! Reading the schema from a shard, over a control connection.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use tokio_postgres::SimpleQueryMessage;

use crate::backend::{Control, ControlError, control};
use crate::catalog::Catalog;
use crate::catalog::numbers::{Numbers, READ_NUMBERS};
use crate::catalog::read::{
    READ_COLUMNS, READ_FUNCTIONS, READ_RELATIONS, READ_SEARCH_PATHS, READ_SETTINGS, Row,
};
use crate::error::SqlState;
use crate::map::ConnectionTarget;
use crate::wire::sqlstates;

/// How long a shard may take to be reached for its schema.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// A view's definition needs locks on what it reads. Whoever alters such a table and does not end the
/// transaction must not stop everybody else's planning (perhaps its own, for all share one reading): the
/// schema is then read later.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '2s'";

/// What a question about a shard's rows may do and take.
const READ_ONLY: &str = "SET default_transaction_read_only = on; SET statement_timeout = '60s'";

/// Why a schema could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The server can't be reached, or does not answer.
    #[error("{0}")]
    Server(#[from] ControlError),
    /// Its own catalog gave rows of another form: a kind of server that is not known.
    #[error("{0}")]
    Rows(#[from] crate::error::SqlError),
    /// Another one's reading, which began after this one was asked for.
    #[error("{0}")]
    Shared(Arc<ReadError>),
}

impl ReadError {
    /// Its SQLSTATE: the server's own, else 57P03.
    pub fn code(&self) -> SqlState {
        let told = match self {
            Self::Server(ControlError::Server(error)) => error.code(),
            Self::Server(ControlError::Backend(_)) => None,
            Self::Rows(error) => return error.code,
            Self::Shared(error) => return error.code(),
        };
        let known = told.and_then(|code| sqlstates::known(code.code().as_bytes()));
        known.unwrap_or(SqlState::CANNOT_CONNECT_NOW)
    }
}

impl From<tokio_postgres::Error> for ReadError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(ControlError::Server(error))
    }
}

impl ReadError {
    /// The server is there, and somebody has altered what is to be read without ending the transaction.
    pub fn is_locked(&self) -> bool {
        match self {
            Self::Server(ControlError::Server(error)) => {
                error.code() == Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE)
            }
            Self::Shared(error) => error.is_locked(),
            Self::Server(ControlError::Backend(_)) | Self::Rows(_) => false,
        }
    }
}

/// Reads a server's schema, in one snapshot.
///
/// # Errors
///
/// See [`ReadError`].
pub async fn read_catalog(target: &ConnectionTarget) -> Result<Catalog, ReadError> {
    let (client, connection) = connect(target).await?;
    let connection = tokio::spawn(connection);
    let result = read(&client).await;
    drop(client);
    // It ends with its client; whatever it had to say has been said to the queries.
    let _ = connection.await;
    result
}

/// A connection of the control side: its client, and what keeps it going.
pub(super) async fn connect(target: &ConnectionTarget) -> Result<Control, ReadError> {
    Ok(control(&target.into(), CONNECT_TIMEOUT).await?)
}

/// A connection for questions about what a shard holds: it writes nothing, and each question has its time.
pub(super) async fn read_only(
    target: &ConnectionTarget,
) -> Result<tokio_postgres::Client, ReadError> {
    let (client, connection) = connect(target).await?;
    tokio::spawn(connection);
    client.batch_execute(READ_ONLY).await?;
    Ok(client)
}

/// The schema, in one snapshot.
pub(super) async fn read(client: &tokio_postgres::Client) -> Result<Catalog, ReadError> {
    let search_paths = rows(client, READ_SEARCH_PATHS).await?;
    client
        .batch_execute(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {READ_SETTINGS}; {LOCK_TIMEOUT}"
        ))
        .await?;
    let relations = rows(client, READ_RELATIONS).await?;
    let columns = rows(client, READ_COLUMNS).await?;
    let functions = rows(client, READ_FUNCTIONS).await?;
    let numbers = rows(client, READ_NUMBERS).await?;
    client.batch_execute("COMMIT").await?;
    let mut catalog = Catalog::from_rows(&relations, &columns, &functions)?;
    let read = (&search_paths, &relations, &columns, &functions, &numbers);
    catalog.fingerprint = rustc_hash::FxBuildHasher.hash_one(read);
    catalog.numbers = Arc::new(Numbers::from_rows(numbers));
    Ok(catalog.with_search_paths(&search_paths))
}

/// A query's rows as text.
pub(super) async fn rows(
    client: &tokio_postgres::Client,
    sql: &str,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|n| row.get(n).map(str::to_owned)).collect())
        }
        _ => None,
    });
    Ok(rows.collect())
}
