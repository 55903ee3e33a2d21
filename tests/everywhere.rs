//! Statements for all shards: the schema, migrations, `pgmeridian.shard = '*'`; all of them or none.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use support::{Proxy, Shards, said};
use tokio_postgres::{Client, SimpleQueryMessage};

const TABLES: &str = "
    CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE plans (tier int PRIMARY KEY, name text);
    CREATE TABLE settings (name text PRIMARY KEY, value text);
    INSERT INTO tenants SELECT n, 'tenant ' || n FROM generate_series(1, 9) n
     WHERE n % 3 = CASE current_database() WHEN 'usa-east' THEN 0 WHEN 'usa-west' THEN 1 ELSE 2 END;";

const REST: &str = "[tables]\nplans = \"reference\"\n";

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// What the commands did, as far as their tags count rows.
async fn count(client: &Client, sql: &str) -> u64 {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
            _ => None,
        })
        .sum()
}

async fn refused(client: &Client, sql: &str, code: &str) -> tokio_postgres::Error {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let (own, message) = said(&error);
    assert_eq!(own, code, "{sql}: {message}");
    error
}

/// One value from each shard.
async fn each(shards: &Shards, sql: &str) -> Vec<String> {
    let mut values = Vec::new();
    for name in shards.names() {
        let row = shards.direct(name).await.query_one(sql, &[]).await;
        values.push(row.unwrap_or_else(|e| panic!("{name}: {sql}: {e:?}")).get(0));
    }
    values
}

const RELATIONS: &str = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'made%'";

async fn relations(shards: &Shards) -> Vec<String> {
    let relations = format!("SELECT COALESCE(({RELATIONS}), '')");
    each(shards, &relations).await
}

#[tokio::test]
async fn on_every_shard() {
    let shards = Shards::databases(3);
    shards.run_on_all(TABLES).await;
    let proxy = Proxy::start(&shards, &shards.map_by_hash(REST)).await;
    the_schema_is_the_same_everywhere(&shards, &proxy).await;
    a_block_holds_them_together(&shards, &proxy).await;
    one_failure_undoes_all(&shards, &proxy).await;
    no_transaction_no_undoing(&shards, &proxy).await;
    the_session_may_be_for_all_shards(&shards, &proxy).await;
    migrations(&shards, &proxy).await;
    an_unknown_table_is_not_guessed(&shards, &proxy).await;
}

/// Whoever alters a view's table keeps the schema from being read. A table that was made past the proxy since
/// then may be one of several shards: it is not taken for one of the default shard.
async fn an_unknown_table_is_not_guessed(shards: &Shards, proxy: &Proxy) {
    let client = proxy.connect().await;
    run(&client, "CREATE VIEW names AS SELECT name FROM settings").await;
    run(&client, "SELECT count(*) FROM names").await;
    let altering = shards.direct(shards.names().next().unwrap()).await;
    run(&altering, "BEGIN; ALTER TABLE settings ADD COLUMN more text").await;
    shards.run_on_all("CREATE TABLE young (tenant_id bigint); INSERT INTO young VALUES (1)").await;
    refused(&client, "SELECT * FROM young", "55P03").await;
    run(&altering, "ROLLBACK").await;
    assert_eq!(count(&client, "SELECT * FROM young").await, 3);
    run(&client, "DROP VIEW names").await;
    run(&client, "DROP TABLE young").await;
    // However lately the schema was read: in both protocols, and within a transaction that is on its way.
    for n in 0..4 {
        run(&client, &format!("CREATE TABLE older{n} (tenant_id bigint)")).await;
        assert_eq!(count(&client, &format!("SELECT * FROM older{n}")).await, 0);
        let made =
            format!("CREATE TABLE young{n} (tenant_id bigint); INSERT INTO young{n} VALUES (1)");
        shards.run_on_all(&made).await;
        let sql = format!("SELECT * FROM young{n}");
        if n == 1 {
            assert_eq!(client.query(&sql, &[]).await.unwrap().len(), 3);
            continue;
        }
        if n > 1 {
            run(&client, "BEGIN; SELECT * FROM settings").await;
        }
        assert_eq!(count(&client, &sql).await, 3);
        if n > 1 {
            run(&client, "COMMIT").await;
        }
    }
    // What everybody waits for is read once; what is the session's own is not waited for.
    run(&client, "CREATE TEMP TABLE mine (n int)").await;
    let began = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(count(&client, "SELECT * FROM mine").await, 0);
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    run(&client, "DISCARD TEMP").await;
    for n in 0..4 {
        run(&client, &format!("DROP TABLE older{n}, young{n}")).await;
    }
}

async fn the_schema_is_the_same_everywhere(shards: &Shards, proxy: &Proxy) {
    let client = proxy.connect().await;
    run(&client, "CREATE TABLE made (tenant_id bigint NOT NULL, body text)").await;
    assert_eq!(relations(shards).await, ["made"; 3]);
    // The next statement knows it: its rows go where their key belongs.
    for tenant in 1..=6_i64 {
        let sql = "INSERT INTO made VALUES ($1, 'x')";
        assert_eq!(client.execute(sql, &[&tenant]).await.unwrap(), 1);
    }
    assert_eq!(each(shards, "SELECT count(*)::text FROM made").await, ["2", "2", "2"]);
    // In the extended protocol as well.
    let done = client.execute("ALTER TABLE made ADD COLUMN more int DEFAULT 7", &[]).await.unwrap();
    assert_eq!(done, 0);
    assert_eq!(each(shards, "SELECT max(more)::text FROM made").await, ["7"; 3]);
    // The rows would be without their key where they are: only for who says so.
    let again = "ALTER TABLE made DROP COLUMN tenant_id, ADD COLUMN tenant_id bigint";
    refused(&client, again, "0A000").await;
    run(&client, "SET pgmeridian.shard = '*'").await;
    run(&client, again).await;
    run(&client, "RESET pgmeridian.shard").await;
    run(&client, "INSERT INTO made VALUES ('y', 1, 1)").await;
    let where_it_is = "SELECT count(*)::text FROM made WHERE body = 'y'";
    assert_eq!(each(shards, where_it_is).await, ["0", "1", "0"]);
    run(&client, "COMMENT ON TABLE made IS 'a table'; ").await;
    run(&client, "CREATE INDEX made_body ON made (body)").await;
    run(&client, "CREATE TYPE made_type AS ENUM ('a', 'b')").await;
    run(&client, "CREATE FUNCTION made_twice(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1'")
        .await;
    run(&client, "CREATE VIEW made_view AS SELECT body FROM made").await;
    assert_eq!(
        relations(shards).await,
        ["made made_body made_type made_view"; 3].map(|all| { all.replace(" made_type", "") })
    );
    assert_eq!(count(&client, "TRUNCATE made, tenants").await, 0);
    assert_eq!(each(shards, "SELECT count(*)::text FROM made").await, ["0"; 3]);
    run(&client, "DROP VIEW made_view").await;
    run(&client, "DROP FUNCTION made_twice(int)").await;
    run(&client, "DROP TABLE IF EXISTS made, made_never").await;
    run(&client, "DROP TYPE made_type").await;
    assert_eq!(relations(shards).await, [""; 3]);
    shards.run_on_all("INSERT INTO tenants SELECT n, 'tenant ' || n FROM generate_series(1, 9) n
        WHERE n % 3 = CASE current_database() WHEN 'usa-east' THEN 0 WHEN 'usa-west' THEN 1 ELSE 2 END").await;
}

async fn a_block_holds_them_together(shards: &Shards, proxy: &Proxy) {
    let client = proxy.connect().await;
    run(&client, "BEGIN").await;
    run(&client, "CREATE TABLE made (tenant_id bigint NOT NULL, body text)").await;
    run(&client, "SAVEPOINT s").await;
    run(&client, "CREATE TABLE made_not (a int)").await;
    run(&client, "ROLLBACK TO s").await;
    // The transaction's own tables are known within it: the row goes where its key belongs.
    run(&client, "INSERT INTO made VALUES (2, 'x')").await;
    run(&client, "ALTER TABLE made ADD COLUMN more int").await;
    assert_eq!(count(&client, "SELECT more FROM made WHERE tenant_id = 2").await, 1);
    run(&client, "ROLLBACK").await;
    assert_eq!(relations(shards).await, [""; 3]);
    run(&client, "BEGIN").await;
    run(&client, "CREATE TABLE made (tenant_id bigint NOT NULL, body text)").await;
    run(&client, "INSERT INTO made VALUES (2, 'x')").await;
    // With rows of several shards all of it is one, the table too.
    run(&client, "INSERT INTO made VALUES (1, 'x')").await;
    run(&client, "COMMIT").await;
    assert_eq!(each(shards, "SELECT count(*)::text FROM made").await, ["0", "1", "1"]);
    run(&client, "DROP TABLE made").await;
    run(&client, "BEGIN").await;
    run(&client, "CREATE TABLE made (tenant_id bigint NOT NULL, body text)").await;
    run(&client, "INSERT INTO settings VALUES ('version', '1')").await;
    run(&client, "COMMIT").await;
    assert_eq!(relations(shards).await, ["made"; 3]);
    assert_eq!(each(shards, "SELECT count(*)::text FROM settings").await, ["1", "0", "0"]);
    run(&client, "DROP TABLE made").await;
    run(&client, "DELETE FROM settings").await;
}

async fn one_failure_undoes_all(shards: &Shards, proxy: &Proxy) {
    let client = proxy.connect().await;
    // The home shard's error is PostgreSQL's own, to the last field.
    let error = refused(&client, "CREATE TABLE tenants (id int)", "42P07").await;
    assert_eq!(error.as_db_error().unwrap().where_(), None);
    shards.direct("deu").await.batch_execute("CREATE TABLE made (a int)").await.unwrap();
    let error = refused(&client, "CREATE TABLE made (a int)", "42P07").await;
    assert_eq!(error.as_db_error().unwrap().where_(), Some("shard \"deu\""));
    assert_eq!(relations(shards).await, ["", "", "made"]);
    run(&client, "BEGIN").await;
    refused(&client, "CREATE TABLE made (a int)", "42P07").await;
    refused(&client, "SELECT 1", "25P02").await;
    run(&client, "COMMIT").await;
    assert_eq!(relations(shards).await, ["", "", "made"]);
    shards.direct("deu").await.batch_execute("DROP TABLE made").await.unwrap();
}

async fn no_transaction_no_undoing(shards: &Shards, proxy: &Proxy) {
    let client = proxy.connect().await;
    run(&client, "VACUUM tenants").await;
    run(&client, "ANALYZE").await;
    run(&client, "CREATE TABLE made (a int)").await;
    run(&client, "CREATE INDEX CONCURRENTLY made_a ON made (a)").await;
    assert_eq!(relations(shards).await, ["made made_a"; 3]);
    shards.direct("usa-west").await.batch_execute("DROP INDEX made_a").await.unwrap();
    let error = refused(&client, "DROP INDEX CONCURRENTLY made_a", "42704").await;
    let error = error.as_db_error().unwrap();
    assert_eq!(
        error.detail(),
        Some("It was done on shard \"usa-east\", and not on shards \"usa-west\", \"deu\".")
    );
    assert_eq!(error.where_(), Some("shard \"usa-west\""));
    run(&client, "BEGIN").await;
    refused(&client, "CREATE INDEX CONCURRENTLY made_b ON made (a)", "25001").await;
    run(&client, "ROLLBACK").await;
    run(&client, "DROP TABLE made").await;
}

async fn the_session_may_be_for_all_shards(shards: &Shards, proxy: &Proxy) {
    let client = proxy.connect().await;
    refused(&client, "DO $$ BEGIN PERFORM 1; END $$", "0A000").await;
    refused(&client, "UPDATE tenants SET name = upper(name)", "0A000").await;
    run(&client, "SET pgmeridian.shard = '*'").await;
    run(&client, "DO $$ BEGIN CREATE TABLE made (tenant_id bigint, n int); END $$").await;
    assert_eq!(relations(shards).await, ["made"; 3]);
    assert_eq!(count(&client, "UPDATE tenants SET name = upper(name)").await, 9);
    assert_eq!(count(&client, "INSERT INTO plans VALUES (1, 'free')").await, 3);
    assert_eq!(each(shards, "SELECT count(*)::text FROM plans").await, ["1"; 3]);
    // What would not be the same on every shard.
    for sql in [
        "INSERT INTO plans VALUES (2, now()::text)",
        "UPDATE plans SET name = random()::text",
        "UPDATE plans SET name = (SELECT max(name) FROM tenants)",
        "INSERT INTO plans SELECT tier + 1, name FROM plans LIMIT 1",
        "DELETE FROM plans USING plans p TABLESAMPLE BERNOULLI (50) WHERE plans.tier = p.tier",
        "INSERT INTO plans SELECT tier + 1, name FROM plans TABLESAMPLE SYSTEM (50) REPEATABLE (1)",
    ] {
        refused(&client, sql, "0A000").await;
    }
    // Where the rows that a query makes belong is not proved yet.
    refused(&client, "INSERT INTO made (tenant_id, n) SELECT id, 1 FROM tenants", "0A000").await;
    // A row has one place, and a read means all rows.
    assert_eq!(count(&client, "INSERT INTO tenants VALUES (10, 'ten')").await, 1);
    assert_eq!(each(shards, "SELECT count(*)::text FROM tenants").await, ["3", "4", "3"]);
    assert_eq!(client.query("SELECT id FROM tenants", &[]).await.unwrap().len(), 10);
    let one = client.execute("DELETE FROM tenants WHERE name = $1", &[&"TENANT 4"]).await;
    assert_eq!(one.unwrap(), 1);
    let two = "INSERT INTO tenants VALUES (11, 'eleven'), (12, 'twelve')";
    refused(&client, two, "0A000").await;
    refused(&client, "UPDATE tenants SET id = id + 1", "0A000").await;
    // All or nothing.
    refused(&client, "UPDATE tenants SET name = CASE id WHEN 5 THEN NULL ELSE '' END", "23502")
        .await;
    assert_eq!(client.query("SELECT 1 FROM tenants WHERE name = ''", &[]).await.unwrap().len(), 0);
    run(&client, "RESET pgmeridian.shard").await;
    run(&client, "DROP TABLE made").await;
}

/// What migration tools say, in their order.
async fn migrations(shards: &Shards, proxy: &Proxy) {
    let client = proxy.connect().await;
    // ActiveRecord: a lock, a transaction for each migration with the schema and the home shard's table.
    for sql in [
        "SELECT pg_try_advisory_lock(2053462845)",
        "CREATE TABLE \"schema_migrations\" (\"version\" character varying NOT NULL PRIMARY KEY)",
        "BEGIN",
        "CREATE TABLE \"made_posts\" (\"id\" bigserial primary key, \"tenant_id\" bigint NOT NULL, \"title\" character varying)",
        "CREATE INDEX \"made_index\" ON \"made_posts\" (\"tenant_id\")",
        "INSERT INTO \"schema_migrations\" (\"version\") VALUES ('20260101') RETURNING \"version\"",
        "COMMIT",
        "SELECT pg_advisory_unlock(2053462845)",
    ] {
        run(&client, sql).await;
    }
    assert_eq!(each(shards, "SELECT count(*)::text FROM schema_migrations").await, ["1", "0", "0"]);
    assert_eq!(
        relations(shards).await,
        ["made_index made_posts made_posts_id_seq made_posts_pkey"; 3]
    );
    run(&client, "DROP TABLE made_posts, schema_migrations").await;
    // Alembic: everything in one transaction, its own table among it.
    for sql in [
        "BEGIN",
        "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class WHERE relname = 'alembic_version'",
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))",
        "CREATE TABLE made_posts (id BIGINT NOT NULL, tenant_id BIGINT NOT NULL, PRIMARY KEY (tenant_id, id))",
        "INSERT INTO alembic_version (version_num) VALUES ('1975ea83b712') RETURNING alembic_version.version_num",
        "ALTER TABLE made_posts ADD COLUMN body TEXT",
        "UPDATE alembic_version SET version_num='ae1027a6acf' WHERE alembic_version.version_num = '1975ea83b712'",
        "COMMIT",
    ] {
        run(&client, sql).await;
    }
    assert_eq!(each(shards, "SELECT count(*)::text FROM alembic_version").await, ["1", "0", "0"]);
    run(&client, "DROP TABLE made_posts, alembic_version").await;
}
