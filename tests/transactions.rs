//! Transactions over several shards, through a real driver: who is enlisted, what all of them are told, and
//! how it ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use support::{Proxy, Shards, said};
use tokio_postgres::{Client, SimpleQueryMessage};

const TABLES: &str = "
    CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE notes (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, body text,
                        at timestamptz DEFAULT now(),
                        UNIQUE (tenant_id, body) DEFERRABLE INITIALLY IMMEDIATE);
    CREATE FUNCTION opaque() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
    INSERT INTO tenants SELECT n, 'tenant ' || n FROM generate_series(1, 9) n
     WHERE n % 3 = CASE current_database() WHEN 'usa-east' THEN 0 WHEN 'usa-west' THEN 1 ELSE 2 END;";

// Tenants 3, 1 and 2 live on these.
const EAST: i64 = 3;
const WEST: i64 = 1;
const DEU: i64 = 2;

#[tokio::test]
async fn over_several_shards() {
    let shards = Shards::databases(3);
    shards.run_on_all(TABLES).await;
    let proxy = Proxy::start(&shards, &shards.map_by_hash("")).await;
    it_reads_everywhere_and_writes_on_one(&shards, &proxy).await;
    shards.run_on_all("TRUNCATE notes").await;
    it_has_one_time(&proxy).await;
    shards.run_on_all("TRUNCATE notes").await;
    an_error_on_one_shard_fails_it_on_all(&shards, &proxy).await;
    settings_hold_on_every_shard_and_end_with_it(&proxy).await;
    shards.run_on_all("TRUNCATE notes").await;
    modes_and_chains_hold_on_every_shard(&shards, &proxy).await;
    what_does_not_hold_over_several_is_refused(&proxy).await;
    repeatable_read_by_policy(&shards).await;
    no_connection_is_left_in_a_transaction(&shards).await;
}

async fn no_connection_is_left_in_a_transaction(shards: &Shards) {
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'";
    let direct = shards.direct("deu").await;
    assert_eq!(direct.query_one(open, &[]).await.unwrap().get::<_, i64>(0), 0);
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

async fn name(client: &Client, tenant: i64) -> String {
    let row = client.query_one("SELECT name FROM tenants WHERE id = $1", &[&tenant]).await;
    row.unwrap_or_else(|error| panic!("{tenant}: {error:?}")).get(0)
}

async fn value(client: &Client, sql: &str) -> String {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    row.unwrap_or_default()
}

async fn refused(client: &Client, sql: &str, code: &str) -> String {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let (own, message) = said(&error);
    assert_eq!(own, code, "{sql}: {message}");
    message
}

async fn bodies(shards: &Shards, shard: &str) -> Vec<String> {
    let client = shards.direct(shard).await;
    let rows = client.query("SELECT body FROM notes ORDER BY 1", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn it_reads_everywhere_and_writes_on_one(shards: &Shards, proxy: &Proxy) {
    let client = proxy.connect().await;
    // It wrote on one shard, reads others, writes there again.
    run(&client, "BEGIN; ").await;
    run(&client, "INSERT INTO notes VALUES (1, 1, 'one')").await;
    assert_eq!(name(&client, DEU).await, "tenant 2");
    assert_eq!(name(&client, EAST).await, "tenant 3");
    run(&client, "INSERT INTO notes VALUES (2, 1, 'two')").await;
    assert_eq!(value(&client, "SELECT count(*) FROM notes WHERE tenant_id = 1").await, "2");
    run(&client, "COMMIT").await;
    assert_eq!(bodies(shards, "usa-west").await, ["one", "two"]);
    // It read first, and writes on a shard that came late.
    run(&client, "BEGIN").await;
    assert_eq!(name(&client, EAST).await, "tenant 3");
    run(&client, "INSERT INTO notes VALUES (3, 2, 'three')").await;
    run(&client, "ROLLBACK").await;
    assert_eq!(bodies(shards, "deu").await, Vec::<String>::new());
    run(&client, "BEGIN").await;
    assert_eq!(name(&client, EAST).await, "tenant 3");
    run(&client, "INSERT INTO notes VALUES (3, 2, 'three')").await;
    // And on a second one: see `two_phase`.
    run(&client, "INSERT INTO notes VALUES (4, 1, 'four')").await;
    run(&client, "ROLLBACK").await;
    assert_eq!(bodies(shards, "deu").await, Vec::<String>::new());
    assert_eq!(bodies(shards, "usa-west").await, ["one", "two"]);
}

/// The time of the first shard that it reaches, on each of them and over all of them, in both protocols.
async fn it_has_one_time(proxy: &Proxy) {
    const EARLIER: &str = "SELECT now()::text FROM tenants WHERE id = ";
    let client = proxy.connect().await;
    let pause = || tokio::time::sleep(std::time::Duration::from_millis(2));
    for all in ["SELECT max(now())::text FROM tenants", "SELECT now()::text FROM tenants LIMIT 1"] {
        run(&client, "BEGIN").await;
        let first = value(&client, &format!("{EARLIER}{WEST}")).await;
        pause().await;
        assert_eq!(value(&client, &format!("{EARLIER}{DEU}")).await, first);
        pause().await;
        assert_eq!(value(&client, all).await, first);
        assert_eq!(value(&client, "SELECT current_timestamp::text").await, first);
        for tenant in [EAST, WEST, DEU] {
            let sql = "SELECT now()::text, localtimestamp(3)::text FROM tenants WHERE id = $1";
            let row = client.query_one(sql, &[&tenant]).await.unwrap();
            assert_eq!(row.columns()[0].name(), "now");
            assert_eq!(row.get::<_, String>(0), first);
        }
        let rows = client.query("SELECT DISTINCT now()::text FROM tenants", &[]).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].get::<_, String>(0), first);
        run(&client, "COMMIT").await;
    }
    // A transaction's own rows have it, whoever asks for them.
    run(&client, "BEGIN; INSERT INTO notes VALUES (1, 1, 'one')").await;
    pause().await;
    let count = "SELECT count(*) FROM notes WHERE at = now()";
    assert_eq!(value(&client, count).await, "1");
    assert_eq!(value(&client, "SELECT body FROM notes WHERE at = 'now'::timestamptz").await, "one");
    assert_eq!(client.query("SELECT id FROM notes WHERE at >= now()", &[]).await.unwrap().len(), 1);
    run(&client, "ROLLBACK").await;
    // It begins with a statement over all of them.
    run(&client, "BEGIN").await;
    let first = value(&client, "SELECT max(now())::text FROM tenants").await;
    pause().await;
    assert_eq!(value(&client, "SELECT now()::text").await, first);
    assert_eq!(value(&client, &format!("{EARLIER}{DEU}")).await, first);
    run(&client, "COMMIT").await;
    run(&client, "BEGIN").await;
    assert_ne!(value(&client, "SELECT max(now())::text FROM tenants").await, first);
    run(&client, "COMMIT").await;
}

async fn an_error_on_one_shard_fails_it_on_all(shards: &Shards, proxy: &Proxy) {
    let client = proxy.connect().await;
    run(&client, "BEGIN").await;
    run(&client, "INSERT INTO notes VALUES (1, 1, 'kept')").await;
    run(&client, "SAVEPOINT s").await;
    run(&client, "INSERT INTO notes VALUES (2, 1, 'undone')").await;
    // This shard comes late: it is told of the savepoint.
    refused(&client, "SELECT name::int FROM tenants WHERE id = 2", "22P02").await;
    refused(&client, "SELECT 1 FROM tenants WHERE id = 1", "25P02").await;
    refused(&client, "SAVEPOINT t", "25P02").await;
    run(&client, "ROLLBACK TO s").await;
    assert_eq!(name(&client, DEU).await, "tenant 2");
    assert_eq!(name(&client, EAST).await, "tenant 3");
    run(&client, "RELEASE s").await;
    assert_eq!(name(&client, WEST).await, "tenant 1");
    run(&client, "COMMIT").await;
    assert_eq!(bodies(shards, "usa-west").await, ["kept"]);
    // An error of the proxy's own is an error like others.
    run(&client, "BEGIN").await;
    assert_eq!((name(&client, DEU).await, name(&client, EAST).await).0, "tenant 2");
    run(&client, "SAVEPOINT s").await;
    refused(&client, "UPDATE tenants SET id = 5 WHERE id = 2", "0A000").await;
    refused(&client, "SELECT 1", "25P02").await;
    run(&client, "ROLLBACK TO s").await;
    assert_eq!(name(&client, WEST).await, "tenant 1");
    refused(&client, "ROLLBACK TO nowhere", "3B001").await;
    assert_eq!(value(&client, "COMMIT").await, "");
    assert_eq!(name(&client, WEST).await, "tenant 1");
    // Deferred to the end, the writer's own words are the transaction's.
    run(&client, "BEGIN").await;
    assert_eq!(name(&client, DEU).await, "tenant 2");
    run(&client, "SET CONSTRAINTS ALL DEFERRED").await;
    run(&client, "INSERT INTO notes VALUES (3, 1, 'kept')").await;
    refused(&client, "COMMIT", "23505").await;
    assert_eq!(bodies(shards, "usa-west").await, ["kept"]);
    run(&client, "SELECT 1").await;
    // Where it was only read it has committed by then: nobody has what it set there.
    let memory = "SELECT current_setting('work_mem') FROM tenants WHERE id = 2";
    let before = value(&client, memory).await;
    run(&client, "BEGIN; SET work_mem = '13MB'").await;
    assert_eq!(value(&client, memory).await, "13MB");
    run(&client, "SET CONSTRAINTS ALL DEFERRED").await;
    run(&client, "INSERT INTO notes VALUES (3, 1, 'kept')").await;
    refused(&client, "COMMIT", "23505").await;
    assert_eq!(value(&proxy.connect().await, memory).await, before);
    assert_eq!(value(&client, memory).await, before);
}

async fn settings_hold_on_every_shard_and_end_with_it(proxy: &Proxy) {
    let client = proxy.connect().await;
    let setting = |tenant: i64| {
        format!("SELECT current_setting('work_mem') FROM tenants WHERE id = {tenant}")
    };
    run(&client, "SET work_mem = '3MB'").await;
    run(&client, "BEGIN").await;
    run(&client, "SET LOCAL work_mem = '5MB'").await;
    assert_eq!(value(&client, &setting(WEST)).await, "5MB");
    assert_eq!(value(&client, &setting(DEU)).await, "5MB");
    run(&client, "SET work_mem = '7MB'").await;
    assert_eq!(value(&client, &setting(WEST)).await, "7MB");
    assert_eq!(value(&client, &setting(DEU)).await, "7MB");
    assert_eq!(value(&client, &setting(EAST)).await, "7MB");
    run(&client, "ROLLBACK").await;
    for tenant in [WEST, DEU, EAST] {
        assert_eq!(value(&client, &setting(tenant)).await, "3MB", "{tenant}");
    }
    run(&client, "BEGIN").await;
    assert_eq!(value(&client, &setting(WEST)).await, "3MB");
    run(&client, "SET work_mem = '9MB'").await;
    assert_eq!(value(&client, &setting(DEU)).await, "9MB");
    run(&client, "COMMIT").await;
    for tenant in [WEST, DEU, EAST] {
        assert_eq!(value(&client, &setting(tenant)).await, "9MB", "{tenant}");
    }
    // What is set and rolled back before any other shard is reached is rolled back there too.
    run(&client, "BEGIN").await;
    run(&client, "SET work_mem = '11MB'").await;
    assert_eq!(value(&client, &setting(WEST)).await, "11MB");
    run(&client, "ROLLBACK").await;
    for tenant in [WEST, DEU, EAST] {
        assert_eq!(value(&client, &setting(tenant)).await, "9MB", "{tenant}");
    }
}

async fn modes_and_chains_hold_on_every_shard(shards: &Shards, proxy: &Proxy) {
    let client = proxy.connect().await;
    run(&client, "BEGIN READ ONLY").await;
    assert_eq!(name(&client, WEST).await, "tenant 1");
    run(&client, "ROLLBACK AND CHAIN").await;
    assert_eq!(name(&client, DEU).await, "tenant 2");
    assert_eq!(name(&client, WEST).await, "tenant 1");
    refused(&client, "INSERT INTO notes VALUES (1, 2, 'no')", "25006").await;
    // An error leaves what AND CHAIN gave, and takes back what BEGIN gave.
    run(&client, "ROLLBACK AND CHAIN").await;
    assert_eq!(name(&client, WEST).await, "tenant 1");
    refused(&client, "INSERT INTO notes VALUES (1, 2, 'no')", "25006").await;
    run(&client, "ROLLBACK").await;
    run(&client, "BEGIN READ ONLY").await;
    assert_eq!(name(&client, WEST).await, "tenant 1");
    refused(&client, "INSERT INTO notes VALUES (1, 2, 'no')", "25006").await;
    run(&client, "ROLLBACK AND CHAIN").await;
    assert_eq!(name(&client, WEST).await, "tenant 1");
    run(&client, "INSERT INTO notes VALUES (1, 2, 'yes')").await;
    run(&client, "ROLLBACK").await;
    run(&client, "BEGIN").await;
    assert_eq!(name(&client, WEST).await, "tenant 1");
    run(&client, "INSERT INTO notes VALUES (1, 2, 'chained')").await;
    run(&client, "COMMIT AND CHAIN").await;
    // The next one may write elsewhere.
    run(&client, "INSERT INTO notes VALUES (2, 1, 'next')").await;
    assert_eq!(name(&client, DEU).await, "tenant 2");
    run(&client, "COMMIT").await;
    assert_eq!(bodies(shards, "deu").await, ["chained"]);
    assert_eq!(bodies(shards, "usa-west").await, ["next"]);
}

async fn what_does_not_hold_over_several_is_refused(proxy: &Proxy) {
    let client = proxy.connect().await;
    let check = async |begin: &str, then: &str, code: &str, message: &str| {
        for sql in begin.split(';') {
            run(&client, sql).await;
        }
        let own = refused(&client, then, code).await;
        assert!(own.contains(message), "{own}");
        run(&client, "ROLLBACK").await;
    };
    let (west, deu) = ("SELECT 1 FROM tenants WHERE id = 1", "SELECT 1 FROM tenants WHERE id = 2");
    let begin = |modes: &str| format!("BEGIN {modes};{west}");
    check(&begin("ISOLATION LEVEL SERIALIZABLE"), deu, "0A000", "a SERIALIZABLE").await;
    check(&begin("ISOLATION LEVEL REPEATABLE READ"), deu, "0A000", "a REPEATABLE READ").await;
    let later = format!("BEGIN;SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;{west}");
    check(&later, deu, "0A000", "a REPEATABLE READ").await;
    let opaque = "BEGIN;SELECT opaque() FROM tenants WHERE id = 1";
    check(opaque, deu, "0A000", "can't go on on shard \"deu\"").await;
    // What the server's or the session's defaults say counts as well.
    run(&client, "SET default_transaction_isolation = 'serializable'").await;
    check(&begin(""), deu, "0A000", "a SERIALIZABLE").await;
    let alone = refused(&client, "SELECT count(*) FROM tenants", "0A000").await;
    assert!(alone.contains("a SERIALIZABLE"), "{alone}");
    check(&begin("ISOLATION LEVEL READ COMMITTED"), "SELECT 1/0", "22012", "division").await;
    run(&client, "BEGIN ISOLATION LEVEL READ COMMITTED").await;
    run(&client, west).await;
    run(&client, deu).await;
    // The end of it is said to all, in a string too.
    run(&client, "SELECT 1; COMMIT").await;
    run(&client, west).await;
    run(&client, "VACUUM notes").await;
}

async fn repeatable_read_by_policy(shards: &Shards) {
    let policy = "[policy]\ncross_shard_snapshot = \"best-effort\"\n";
    let proxy = Proxy::start(shards, &shards.map_by_hash(policy)).await;
    let client = proxy.connect().await;
    run(&client, "BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    assert_eq!(name(&client, WEST).await, "tenant 1");
    let level = "SELECT current_setting('transaction_isolation') FROM tenants WHERE id = 2";
    assert_eq!(value(&client, level).await, "repeatable read");
    run(&client, "COMMIT").await;
}
