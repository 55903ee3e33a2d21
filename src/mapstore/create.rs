//! Making the database of a key on its shard.

use tokio_postgres::error::SqlState;

use super::read::{ReadError, connect};
use crate::map::ConnectionTarget;
use crate::sql::quote::quote_identifier;

/// Creates a database from a template, as the role of the shard's URL, which then owns it. That it is there
/// already is as good: another proxy, or another client, may have been first.
///
/// # Errors
///
/// The server can't be reached, or refuses it.
///
/// # Cancel safety
///
/// Dropped, it leaves it open whether the database is made.
pub async fn create_database(
    target: &ConnectionTarget,
    name: &str,
    template: &str,
) -> Result<(), ReadError> {
    let (client, connection) = connect(target).await?;
    let connection = tokio::spawn(connection);
    let sql = format!(
        "CREATE DATABASE {} TEMPLATE {}",
        quote_identifier(name),
        quote_identifier(template)
    );
    let outcome = client.batch_execute(&sql).await;
    drop(client);
    // It ends with its client; whatever it had to say has been said to the command.
    let _ = connection.await;
    match outcome {
        // Two at once: one finds the other's row in `pg_database`, or its index does (`createdb`).
        Err(error)
            if matches!(
                error.code(),
                Some(&SqlState::DUPLICATE_DATABASE | &SqlState::UNIQUE_VIOLATION)
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(()) => {
            tracing::info!(database = name, template, "created the database of a key");
            Ok(())
        }
    }
}
