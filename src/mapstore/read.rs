//! Reading the schema from a shard, over a control connection.

use std::hash::BuildHasher as _;

use tokio_postgres::SimpleQueryMessage;

use crate::catalog::Catalog;
use crate::catalog::read::{
    READ_COLUMNS, READ_FUNCTIONS, READ_RELATIONS, READ_SEARCH_PATHS, READ_SETTINGS, Row,
};
use crate::map::{ConnectionTarget, Host};

/// How long a shard may take to be reached for its schema.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Why a schema could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The server can't be reached, or does not answer.
    #[error("{}", blame(.0))]
    Server(#[from] tokio_postgres::Error),
    /// Its own catalog gave rows of another form: a kind of server that is not known.
    #[error("{0}")]
    Rows(#[from] crate::error::SqlError),
}

/// What went wrong with a control connection, in one line and without secrets: the server's own message,
/// or the cause below tokio-postgres' summary.
fn blame(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", server.message(), server.code().code());
    }
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Reads a server's schema, in one snapshot.
///
/// # Errors
///
/// See [`ReadError`].
pub async fn read_catalog(target: &ConnectionTarget) -> Result<Catalog, ReadError> {
    let (client, connection) = config(target).connect(tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let result = read(&client).await;
    drop(client);
    // It ends with its client; whatever it had to say has been said to the queries.
    let _ = connection.await;
    result
}

async fn read(client: &tokio_postgres::Client) -> Result<Catalog, ReadError> {
    let search_paths = rows(client, READ_SEARCH_PATHS).await?;
    client
        .batch_execute(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {READ_SETTINGS}"))
        .await?;
    let relations = rows(client, READ_RELATIONS).await?;
    let columns = rows(client, READ_COLUMNS).await?;
    let functions = rows(client, READ_FUNCTIONS).await?;
    client.batch_execute("COMMIT").await?;
    let mut catalog = Catalog::from_rows(&relations, &columns, &functions)?;
    catalog.fingerprint =
        rustc_hash::FxBuildHasher.hash_one((&search_paths, &relations, &columns, &functions));
    Ok(catalog.with_search_paths(&search_paths))
}

async fn rows(
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

fn config(target: &ConnectionTarget) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    match &target.host {
        Host::Tcp(host) => config.host(host),
        Host::Unix(directory) => config.host_path(directory),
    };
    config
        .port(target.port)
        .user(&target.user)
        .dbname(&target.dbname)
        .application_name("pgmeridian")
        .connect_timeout(CONNECT_TIMEOUT);
    if let Some(password) = &target.password {
        config.password(password.reveal());
    }
    config
}
