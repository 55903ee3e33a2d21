//! An application's database code in sqlx: a pool, statements that are prepared and kept by name, streams,
//! transactions with savepoints, values in binary, errors, COPY, a statement that is given up. Each call
//! checks what came back, so that it serves as a test of the proxy, too.
//!
//! Run `pgmeridian demo`, then `cargo run` here; `DATABASE_URL` points elsewhere.

use std::error::Error;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Acquire as _, Row as _};

type AnyError = Box<dyn Error + Send + Sync>;

const DEFAULT_URL: &str = "postgresql://bot:bot@127.0.0.1:6432/bots";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| DEFAULT_URL.to_owned());
    let pool = PgPoolOptions::new().max_connections(8).connect(&url).await?;
    statements(&pool).await?;
    transactions(&pool).await?;
    errors(&pool).await?;
    copy(&pool).await?;
    many_at_once(&pool).await?;
    give_up(&pool).await?;
    pool.close().await;
    Ok(())
}

async fn count(pool: &PgPool, tenant: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM tasks WHERE tenant_id = $1")
        .bind(tenant)
        .fetch_one(pool)
        .await
}

async fn statements(pool: &PgPool) -> Result<(), AnyError> {
    for tenant in 1..=60_i64 {
        let row = sqlx::query("SELECT id, name, settings::text FROM tenants WHERE id = $1")
            .bind(tenant)
            .fetch_one(pool)
            .await?;
        assert_eq!(row.get::<i64, _>("id"), tenant);
    }
    let mut ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM tenants WHERE id = ANY($1)")
        .bind(vec![3_i64, 1, 2, 1000])
        .fetch_all(pool)
        .await?;
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
    let mut users =
        sqlx::query("SELECT id::text FROM users WHERE tenant_id = $1").bind(42_i64).fetch(pool);
    let mut seen = 0;
    while users.try_next().await?.is_some() {
        seen += 1;
    }
    assert!(seen >= 4);
    let several = sqlx::raw_sql("SELECT 1; SELECT 2").fetch_all(pool).await?;
    assert_eq!(several.len(), 2);
    Ok(())
}

async fn transactions(pool: &PgPool) -> Result<(), AnyError> {
    let before = count(pool, 42).await?;
    let mut outer = pool.begin().await?;
    let delete = "DELETE FROM tasks WHERE tenant_id = $1";
    let mut inner = outer.begin().await?;
    let gone = sqlx::query(delete).bind(42_i64).execute(&mut *inner).await?;
    assert_eq!(gone.rows_affected() as i64, before);
    inner.rollback().await?;
    let update = "UPDATE tasks SET priority = priority WHERE tenant_id = $1";
    let touched = sqlx::query(update).bind(42_i64).execute(&mut *outer).await?;
    assert_eq!(touched.rows_affected() as i64, before);
    outer.commit().await?;
    // Dropped: rolled back.
    let mut dropped = pool.begin().await?;
    sqlx::query(delete).bind(42_i64).execute(&mut *dropped).await?;
    drop(dropped);
    assert_eq!(count(pool, 42).await?, before);
    Ok(())
}

async fn errors(pool: &PgPool) -> Result<(), AnyError> {
    for (sql, expect) in [
        ("SELECT 1 / 0", "22012"),
        ("SELEC 1", "42601"),
        ("SELECT * FROM nothing_here", "42P01"),
        ("UPDATE users SET tenant_id = 43 WHERE tenant_id = 42", "0A000"),
    ] {
        let error = sqlx::query(sql).execute(pool).await.expect_err(sql);
        let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
        assert_eq!(code, expect, "{sql}");
    }
    Ok(())
}

async fn copy(pool: &PgPool) -> Result<(), AnyError> {
    let mut connection = pool.acquire().await?;
    let mut copy = connection.copy_in_raw("COPY global_settings (name, value) FROM STDIN").await?;
    copy.send("sqlx one\t1\nsqlx two\t2\n".as_bytes()).await?;
    assert_eq!(copy.finish().await?, 2);
    let mut out = connection.copy_out_raw("COPY global_settings TO STDOUT").await?;
    let mut text = Vec::new();
    while let Some(chunk) = out.try_next().await? {
        text.extend_from_slice(&chunk);
    }
    drop(out);
    assert!(String::from_utf8_lossy(&text).contains("sqlx two\t2"));
    let mut copy = connection.copy_in_raw("COPY global_settings (name, value) FROM STDIN").await?;
    copy.send("sqlx three\t3\n".as_bytes()).await?;
    copy.abort("changed my mind").await?;
    let delete = "DELETE FROM global_settings WHERE name LIKE 'sqlx %'";
    assert_eq!(sqlx::query(delete).execute(&mut *connection).await?.rows_affected(), 2);
    Ok(())
}

async fn many_at_once(pool: &PgPool) -> Result<(), AnyError> {
    let clients = (0..200_i64).map(|n| async move {
        let tenant = n % 60 + 1;
        let mut transaction = pool.begin().await?;
        let found: i64 = sqlx::query_scalar("SELECT id FROM tenants WHERE id = $1")
            .bind(tenant)
            .fetch_one(&mut *transaction)
            .await?;
        assert_eq!(found, tenant);
        transaction.commit().await
    });
    futures_util::future::try_join_all(clients).await?;
    Ok(())
}

/// The connection is closed in mid-query; others are as good as before.
async fn give_up(pool: &PgPool) -> Result<(), AnyError> {
    let slow = sqlx::query("SELECT pg_sleep(20) FROM tenants WHERE id = 1").execute(pool);
    assert!(tokio::time::timeout(Duration::from_millis(300), slow).await.is_err());
    let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(pool).await?;
    assert_eq!(one, 1);
    Ok(())
}
