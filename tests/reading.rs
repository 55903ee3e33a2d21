//! What a name means is decided by settings: nothing may be routed by a meaning that it no longer has.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod support;

use std::time::{Duration, Instant};

use support::{Proxy, Shards, said};

const TABLES: &str = "
    CREATE TABLE users (tenant_id bigint NOT NULL, name text);
    CREATE SCHEMA app;
    CREATE TABLE app.users (id bigint, tenant_id bigint NOT NULL, name text);
    CREATE SCHEMA other;
    CREATE TABLE other.users (name text);";

/// In `public` and `app` sharded by tenant, in `other` on one shard.
const REST: &str = "[tables]\n\"other.users\" = { shard = \"deu\" }\n[functions]\n";

async fn three() -> (Shards, Proxy) {
    let shards = Shards::databases(3);
    shards.run_on_all(TABLES).await;
    for (index, name) in shards.names().enumerate() {
        let direct = shards.direct(name).await;
        for tenant in (0..30).filter(|tenant| tenant % 3 == index) {
            let rows = format!(
                "INSERT INTO users VALUES ({tenant}, 'public'); INSERT INTO app.users VALUES (1, {tenant}, 'app')"
            );
            direct.batch_execute(&rows).await.unwrap();
        }
        if name == "deu" {
            direct.batch_execute("INSERT INTO other.users VALUES ('other')").await.unwrap();
        }
    }
    let proxy = Proxy::start(&shards, &shards.map_by_hash(REST)).await;
    (shards, proxy)
}

async fn names(client: &tokio_postgres::Client, sql: &str) -> Result<Vec<String>, String> {
    let messages = client.simple_query(sql).await.map_err(|error| said(&error).0)?;
    Ok(messages
        .iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get("name").map(str::to_owned),
            _ => None,
        })
        .collect())
}

#[tokio::test]
async fn settings_that_change_meaning_are_followed_or_refused() {
    let (_shards, proxy) = three().await;
    let client = proxy.connect().await;
    let other = vec!["other".to_owned()];
    client.batch_execute("SET search_path = other").await.unwrap();
    assert_eq!(names(&client, "SELECT name FROM users").await.unwrap(), other);
    client.batch_execute("RESET search_path").await.unwrap();
    assert_eq!(names(&client, "SELECT name FROM users").await.unwrap().len(), 30);
    // In one string the second statement is read by what the first one says.
    let together = "SET search_path = other; SELECT name FROM users";
    assert_eq!(names(&client, together).await.unwrap(), other);
    client.batch_execute("RESET search_path").await.unwrap();
    assert_eq!(names(&client, "SELECT name FROM users").await.unwrap().len(), 30);
    let undone =
        "BEGIN; SET LOCAL search_path = other; COMMIT; SELECT name FROM users WHERE tenant_id = 4";
    assert_eq!(names(&client, undone).await.unwrap(), ["public"]);
    let same = "SET work_mem = '1MB'; SELECT name FROM users WHERE tenant_id = 4";
    assert_eq!(names(&client, same).await.unwrap(), ["public"]);
    // A function that sets is not followed.
    let check = async |sql: &str, expect: &str| {
        let error = client.batch_execute(sql).await.expect_err(sql);
        assert_eq!(said(&error).0, expect, "{sql}: {error:?}");
    };
    check("SELECT set_config('search_path', 'other', false)", "0A000").await;
    check("SELECT set_config('SEARCH_PATH', 'other', false)", "0A000").await;
    check("SELECT set_config(lower('X'), 'other', false)", "0A000").await;
    check("SELECT set_config('pgmeridian.key', '4', false)", "0A000").await;
    client.batch_execute("SELECT set_config('work_mem', '1MB', false)").await.unwrap();
    client.batch_execute("SELECT pg_catalog.set_config('search_path', '', true)").await.unwrap();
}

#[tokio::test]
async fn a_schema_changed_by_others_is_noticed() {
    let (shards, proxy) = three().await;
    shards.run_on_all("CREATE VIEW listed AS SELECT name FROM users WHERE false").await;
    let client = proxy.connect().await;
    assert_eq!(names(&client, "SELECT name FROM listed").await.unwrap().len(), 0);
    // If it went to all shards still, it would give the one row of each.
    let limited = "CREATE OR REPLACE VIEW listed AS SELECT name FROM users LIMIT 1";
    shards.run_on_all(limited).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    shards
        .run_on_all("CREATE RULE aside AS ON INSERT TO app.users DO INSTEAD INSERT INTO users VALUES (0, 'x')")
        .await;
    while names(&client, "SELECT name FROM listed").await.unwrap().len() != 1 {
        assert!(Instant::now() < deadline, "the view is still what it was");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Between the two changes the schema may have been read once.
    let insert = "INSERT INTO app.users VALUES (1, 4, 'x')";
    while names(&client, insert).await != Err("0A000".to_owned()) {
        assert!(Instant::now() < deadline, "the rule is not known");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn sequences_are_asked_where_they_were_advanced() {
    let (shards, proxy) = three().await;
    shards.run_on_all("CREATE SEQUENCE s").await;
    let mut client = proxy.connect().await;
    for sql in
        ["SELECT currval('s')", "SELECT lastval()", "INSERT INTO other.users SELECT lastval()"]
    {
        let error = client.simple_query(sql).await.expect_err(sql);
        assert_eq!(said(&error).0, "0A000", "{sql}: {error:?}");
        assert_eq!(said(&client.query(sql, &[]).await.expect_err(sql)).0, "0A000", "{sql}");
    }
    let transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO users VALUES (4, nextval('s')::text)", &[]).await.unwrap();
    let row =
        transaction.query_one("SELECT currval('s') FROM users WHERE tenant_id = 4 LIMIT 1", &[]);
    assert_eq!(row.await.unwrap().get::<_, i64>(0), 1);
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_role_has_a_search_path_of_its_own() {
    let (shards, proxy) = three().await;
    shards
        .run_on_all("ALTER ROLE CURRENT_USER IN DATABASE \"usa-east\" SET search_path = app")
        .await;
    shards.run_on_all("ALTER ROLE CURRENT_USER SET search_path = app, public").await;
    drop(proxy);
    let proxy = Proxy::start(&shards, &shards.map_by_hash(REST)).await;
    let client = proxy.connect().await;
    let rows = names(&client, "SELECT id, name FROM users WHERE tenant_id = 4").await.unwrap();
    assert_eq!(rows, ["app"]);
    // Its first column is another one than in schema public.
    client.batch_execute("INSERT INTO users VALUES (7, 5, 'new')").await.unwrap();
    let rows = names(&client, "SELECT name FROM users WHERE id = 7").await.unwrap();
    assert_eq!(rows, ["new"]);
    let found =
        shards.direct("deu").await.query("SELECT id FROM app.users WHERE id = 7", &[]).await;
    assert_eq!(found.unwrap().len(), 1, "tenant 5 is of deu");
}

/// Who changes the schema need not read it again at once; nobody may be routed by what it was.
#[tokio::test]
async fn a_definition_counts_for_everybody_from_its_commit_on() {
    let (shards, proxy) = three().await;
    let definer = proxy.connect().await;
    let other = proxy.connect().await;
    let begun = proxy.connect().await;
    let inside = proxy.connect().await;
    begun.batch_execute("BEGIN").await.unwrap();
    inside.batch_execute("BEGIN; SELECT name FROM users WHERE tenant_id = 4").await.unwrap();
    definer.batch_execute("CREATE TABLE late (tenant_id bigint, id bigint)").await.unwrap();
    let insert = "INSERT INTO late VALUES ($1, $2)";
    let statement = other.prepare(insert).await.unwrap();
    other.execute(&statement, &[&4_i64, &9_i64]).await.unwrap();
    // The columns change places; whoever goes by the old ones writes to the wrong shard.
    definer.batch_execute("DROP TABLE late").await.unwrap();
    definer.batch_execute("CREATE TABLE late (id bigint, tenant_id bigint)").await.unwrap();
    begun.batch_execute("INSERT INTO late VALUES (3, 7); COMMIT").await.unwrap();
    inside.batch_execute("INSERT INTO late VALUES (3, 7)").await.unwrap();
    inside.batch_execute("COMMIT").await.unwrap();
    other.execute(&statement, &[&3_i64, &7_i64]).await.unwrap();
    other.batch_execute("INSERT INTO late VALUES (3, 7)").await.unwrap();
    // In a block that changes the schema itself, and from its end on.
    definer
        .batch_execute("BEGIN; DROP TABLE late; CREATE TABLE late (a int, b int, tenant_id bigint)")
        .await
        .unwrap();
    definer.batch_execute("INSERT INTO late VALUES (0, 3, 7)").await.unwrap();
    definer.batch_execute("COMMIT").await.unwrap();
    // Prepared before, carried out behind the change.
    let statement = other.prepare("INSERT INTO late VALUES (0, $1, $2)").await.unwrap();
    other.batch_execute("BEGIN; DROP TABLE late").await.unwrap();
    other.batch_execute("CREATE TABLE late (a int, tenant_id bigint, b int)").await.unwrap();
    other.execute(&statement, &[&3_i32, &7_i64]).await.unwrap();
    let found = other.query("SELECT b FROM late WHERE tenant_id = 3", &[]).await.unwrap();
    assert_eq!(found.len(), 1);
    other.batch_execute("ROLLBACK").await.unwrap();
    other.batch_execute("INSERT INTO late VALUES (0, 3, 7)").await.unwrap();
    other.batch_execute("BEGIN; ALTER TABLE late DROP COLUMN a").await.unwrap();
    other.batch_execute("INSERT INTO late VALUES (3, 7)").await.unwrap();
    other.batch_execute("ROLLBACK").await.unwrap();
    other.batch_execute("INSERT INTO late VALUES (0, 3, 7)").await.unwrap();
    for name in shards.names() {
        let row = shards.direct(name).await.query_one("SELECT count(*) FROM late", &[]).await;
        let expected = if name == "usa-west" { 3 } else { 0 };
        assert_eq!(row.unwrap().get::<_, i64>(0), expected, "{name}");
    }
}

/// The bytes of a converted text are in another order than those that the shards sort by.
#[tokio::test]
async fn texts_in_another_encoding_are_in_their_servers_order() {
    let shards = Shards::databases(3);
    shards
        .run_on_all("CREATE TABLE words (tenant_id bigint NOT NULL, word text COLLATE \"C\")")
        .await;
    // In UTF8 the second comes first, in WIN1251 the first.
    for (tenant, (name, word)) in shards.names().zip(["\u{451}", "\u{430}", "\u{44f}"]).enumerate()
    {
        let row = format!("INSERT INTO words VALUES ({tenant}, '{word}')");
        shards.direct(name).await.batch_execute(&row).await.unwrap();
    }
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(""), support::TRUST).await;
    let mut client = proxy.raw();
    for (encoding, expected) in [
        ("UTF8", [&b"\xd0\xb0"[..], b"\xd1\x8f", b"\xd1\x91"]),
        ("WIN1251", [b"\xe0", b"\xff", b"\xb8"]),
    ] {
        client.query(&format!("SET client_encoding TO '{encoding}'"));
        let answer = client.query("SELECT word FROM words ORDER BY word");
        let words: Vec<_> = answer
            .iter()
            .filter(|message| message.tag == b'D')
            .map(|message| support::raw::values(&message.body).remove(0).unwrap())
            .collect();
        assert_eq!(words, expected, "{encoding}: {}", support::raw::sqlstate(&answer));
    }
}
