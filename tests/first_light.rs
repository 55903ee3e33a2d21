//! The proxy's binary in front of real shards, through a real driver: the shortest way through all rooms.

mod support;

use support::{Proxy, Shards, said};

const TABLES: &str = "
    CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE notes (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, body text);
    CREATE TABLE plans (tier int PRIMARY KEY, name text);
    INSERT INTO plans VALUES (1, 'free'), (2, 'team');";

const REST: &str = "[tables]\nplans = \"reference\"\n";

async fn three() -> (Shards, Proxy) {
    let shards = Shards::databases(3);
    shards.run_on_all(TABLES).await;
    let proxy = Proxy::start(&shards, &shards.map_by_hash(REST)).await;
    (shards, proxy)
}

#[tokio::test]
async fn statements_go_where_the_rows_live() {
    let (shards, proxy) = three().await;
    let client = proxy.connect().await;
    let insert = client.prepare("INSERT INTO tenants (id, name) VALUES ($1, $2)").await.unwrap();
    for id in 1..=30_i64 {
        assert_eq!(client.execute(&insert, &[&id, &format!("tenant {id}")]).await.unwrap(), 1);
    }
    // Each row is where modulo says, and nowhere else.
    for (index, name) in shards.names().enumerate() {
        let rows = shards.direct(name).await.query("SELECT id FROM tenants", &[]).await.unwrap();
        let mut ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        ids.sort_unstable();
        let expect: Vec<i64> =
            (1..=30).filter(|id| id % 3 == i64::try_from(index).unwrap()).collect();
        assert_eq!(ids, expect, "{name}");
    }
    // And comes back: by parameter, by literal, from several shards, from all.
    for id in 1..=30_i64 {
        let row = client.query_one("SELECT name FROM tenants WHERE id = $1", &[&id]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), format!("tenant {id}"));
    }
    let check = async |sql: &str, expect: usize| {
        assert_eq!(client.query(sql, &[]).await.unwrap().len(), expect, "{sql}");
        let simple = client.simple_query(sql).await.unwrap();
        let rows = simple
            .iter()
            .filter(|message| matches!(message, tokio_postgres::SimpleQueryMessage::Row(_)));
        assert_eq!(rows.count(), expect, "{sql}, simple protocol");
    };
    check("SELECT id, name FROM tenants WHERE id = 7", 1).await;
    check("SELECT id, name FROM tenants WHERE id IN (7, 8)", 2).await;
    check("SELECT id, name FROM tenants WHERE id IN (7, 8, 99)", 2).await;
    check("SELECT id, name FROM tenants", 30).await;
    check("SELECT name FROM plans", 2).await;
}

#[tokio::test]
async fn what_is_not_exact_is_refused() {
    let (_shards, proxy) = three().await;
    let client = proxy.connect().await;
    let check = async |sql: &str, expect: &str| {
        let error = client.batch_execute(sql).await.expect_err(sql);
        let (code, message) = said(&error);
        assert_eq!(code, expect, "{sql}: {message}");
    };
    check("UPDATE notes SET tenant_id = 2 WHERE tenant_id = 1", "0A000").await;
    check("DELETE FROM notes WHERE body = 'x'", "0A000").await;
    check("INSERT INTO notes (id, body) VALUES (1, 'whose?')", "23502").await;
    check("SET pgmeridian.shard = 'atlantis'", "22023").await;
    // The connection is as good as before.
    client.batch_execute("SELECT id FROM notes WHERE tenant_id = 1").await.unwrap();
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing() {
    let (shards, proxy) = three().await;
    let mut client = proxy.connect().await;
    let transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO notes VALUES (1, 1, 'no')", &[]).await.unwrap();
    transaction.execute("INSERT INTO notes VALUES (2, 2, 'no')", &[]).await.unwrap();
    transaction.rollback().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO notes VALUES (3, 1, 'kept')", &[]).await.unwrap();
    transaction.execute("INSERT INTO notes VALUES (4, 2, 'kept')", &[]).await.unwrap();
    transaction.commit().await.unwrap();
    for (shard, id) in [("usa-west", 3), ("deu", 4)] {
        let rows = shards.direct(shard).await.query("SELECT id FROM notes", &[]).await.unwrap();
        assert_eq!(
            rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(),
            [id],
            "{shard}"
        );
    }
}
