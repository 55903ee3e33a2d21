//! An application's view of pgmeridian: it is PostgreSQL. Run `pgmeridian demo`, then
//! `cargo run --example tokio_postgres_client`.

#![expect(clippy::print_stdout, reason = "an example talks to people")]

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The demo's proxy and its sample data.
const DEFAULT_URL: &str = "postgresql://bot:bot@127.0.0.1:6432/bots";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| DEFAULT_URL.to_owned());
    // A connection's own type says whether it is encrypted: each is a task of its own here.
    let (mut client, connection) = if let Ok(path) = std::env::var("PGSSLROOTCERT") {
        let (client, connection) = tokio_postgres::connect(&url, tls(&path)).await?;
        (client, tokio::spawn(connection))
    } else {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        (client, tokio::spawn(connection))
    };

    read_one_tenant(&client, 42).await?;
    write_in_a_transaction(&mut client, 42).await?;
    read_across_shards(&client).await?;
    see_the_route(&client).await?;
    meet_a_refusal(&client).await?;

    drop(client);
    // The connection's task ends with its client.
    let _ = connection.await;
    Ok(())
}

/// TLS that trusts the authorities of a file.
fn tls(path: &str) -> MakeRustlsConnect {
    let authorities: Vec<_> = CertificateDer::pem_file_iter(path)
        .expect("PGSSLROOTCERT is a file")
        .collect::<Result<_, _>>()
        .expect("PGSSLROOTCERT has certificates");
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    MakeRustlsConnect::new(config)
}

/// A prepared statement with the sharding key as a parameter: the proxy reads it from Bind.
async fn read_one_tenant(client: &Client, tenant: i64) -> Result<(), Error> {
    let users = client
        .prepare("SELECT username, email FROM users WHERE tenant_id = $1 ORDER BY username")
        .await?;
    println!("users of tenant {tenant}:");
    for row in client.query(&users, &[&tenant]).await? {
        println!("  {} <{}>", row.get::<_, &str>(0), row.get::<_, &str>(1));
    }
    Ok(())
}

/// A transaction lives on the shard of its first key; COMMIT and ROLLBACK are as ever.
async fn write_in_a_transaction(client: &mut Client, tenant: i64) -> Result<(), Error> {
    let transaction = client.transaction().await?;
    let changed = transaction
        .execute("UPDATE tasks SET priority = priority + 1 WHERE tenant_id = $1", &[&tenant])
        .await?;
    let open = transaction
        .query("SELECT id FROM tasks WHERE tenant_id = $1 AND status = 0", &[&tenant])
        .await?;
    println!("{changed} tasks of tenant {tenant} moved up, {} are open", open.len());
    transaction.rollback().await
}

/// Without a key, or with keys of several shards, the shards are asked together.
async fn read_across_shards(client: &Client) -> Result<(), Error> {
    let tenants: Vec<i64> = vec![1, 2, 3, 42];
    let rows = client.query("SELECT id, name FROM tenants WHERE id = ANY($1)", &[&tenants]).await?;
    println!("{} of {} tenants found, wherever they live", rows.len(), tenants.len());
    Ok(())
}

/// `EXPLAIN (ROUTE)` says where a statement would go, without running it.
async fn see_the_route(client: &Client) -> Result<(), Error> {
    let route = "EXPLAIN (ROUTE) SELECT title FROM tasks WHERE tenant_id = 42";
    for message in client.simple_query(route).await? {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            println!("  {}", row.get(0).unwrap_or_default());
        }
    }
    Ok(())
}

/// What can't be answered exactly is an ordinary error with SQLSTATE 0A000, and the connection goes on.
async fn meet_a_refusal(client: &Client) -> Result<(), Error> {
    match client.execute("UPDATE tasks SET tenant_id = 43 WHERE tenant_id = 42", &[]).await {
        Err(error) if error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED) => {
            if let Some(said) = error.as_db_error() {
                println!("refused: {}", said.message());
                println!("   hint: {}", said.hint().unwrap_or("none"));
            }
            Ok(())
        }
        other => other.map(|rows| println!("{rows} rows changed their tenant?")),
    }
}
