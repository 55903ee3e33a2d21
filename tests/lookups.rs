//! Ids that lead to keys, through the proxy's binary: statements with a bot's or a session's id and no
//! tenant find their shard.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod support;

use support::{Proxy, Shards, said};

const TABLES: &str = "
    CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE bots (id uuid PRIMARY KEY, tenant_id bigint NOT NULL DEFAULT 1, name text);
    CREATE TABLE user_sessions (id uuid PRIMARY KEY, tenant_id bigint NOT NULL DEFAULT 1,
        bot_id uuid NOT NULL, title text);
    CREATE TABLE message_history (id bigint, tenant_id bigint NOT NULL DEFAULT 1, session_id uuid,
        content text);
    CREATE TABLE session_notes (session_id uuid NOT NULL, note text);";

const REST: &str = "
    [lookups.bot]
    columns = [\"bot_id\"]
    tables = { bots = \"id\" }
    key = \"tenant\"
    source = { table = \"bots\", id = \"id\", key = \"tenant_id\" }
    unique = true
    learn = true
    [lookups.session]
    columns = [\"session_id\"]
    tables = { user_sessions = \"id\" }
    key = \"tenant\"
    source = { table = \"user_sessions\", id = \"id\", key = \"tenant_id\" }
    unique = true
    [tables]
    session_notes = { lookup = \"session\" }
";

fn bot(tenant: i64) -> String {
    format!("00000000-0000-0000-0001-{tenant:012}")
}

fn session(tenant: i64) -> String {
    format!("00000000-0000-0000-0002-{tenant:012}")
}

async fn three() -> (Shards, Proxy) {
    let shards = Shards::databases(3);
    shards.run_on_all(TABLES).await;
    let proxy = Proxy::start(&shards, &shards.map_by_hash(REST)).await;
    let client = proxy.connect().await;
    for tenant in 1..=9_i64 {
        let (bot, session) = (bot(tenant), session(tenant));
        client
            .batch_execute(&format!("INSERT INTO bots VALUES ('{bot}', {tenant}, 'bot {tenant}')"))
            .await
            .unwrap();
        let insert =
            format!("INSERT INTO user_sessions VALUES ('{session}', {tenant}, '{bot}', 't')");
        client.batch_execute(&insert).await.unwrap();
    }
    (shards, proxy)
}

/// The shard that the last statement went to.
async fn route(client: &tokio_postgres::Client) -> String {
    let rows = client.simple_query("SHOW pgmeridian.last_route").await.unwrap();
    let row = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    row.unwrap()
}

#[tokio::test]
async fn an_id_finds_its_shard() {
    let (shards, proxy) = three().await;
    let client = proxy.connect().await;
    let names: Vec<&str> = shards.names().collect();
    for tenant in 1..=9_i64 {
        let home = names[usize::try_from(tenant % 3).unwrap()];
        // A read, an update, a delete, none of which names the tenant.
        let sql = format!("SELECT title FROM user_sessions WHERE id = '{}'", session(tenant));
        assert_eq!(client.query(&sql, &[]).await.unwrap().len(), 1, "{sql}");
        assert!(route(&client).await.contains(home), "{sql}: {}", route(&client).await);
        let sql =
            format!("UPDATE user_sessions SET title = 'new' WHERE bot_id = '{}'", bot(tenant));
        assert_eq!(client.execute(&sql, &[]).await.unwrap(), 1, "{sql}");
        // The key that the INSERT has not is filled in; without the proxy it would be 1.
        let sql = format!(
            "INSERT INTO message_history (id, session_id, content) VALUES ({tenant}, '{}', 'hello')",
            session(tenant)
        );
        assert_eq!(client.execute(&sql, &[]).await.unwrap(), 1, "{sql}");
        // A table without a key of its own lives where its id leads.
        let sql = format!("INSERT INTO session_notes VALUES ('{}', 'n')", session(tenant));
        client.batch_execute(&sql).await.unwrap();
        let direct = shards.direct(home).await;
        let sql = format!("SELECT tenant_id FROM message_history WHERE id = {tenant}");
        assert_eq!(direct.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0), tenant);
        let sql = format!("SELECT 1 FROM session_notes WHERE session_id = '{}'", session(tenant));
        assert_eq!(direct.query(&sql, &[]).await.unwrap().len(), 1, "{sql}");
        assert_eq!(client.query(&sql, &[]).await.unwrap().len(), 1, "{sql}");
    }
    assert_eq!(client.query("SELECT * FROM session_notes", &[]).await.unwrap().len(), 9);
    // Groups, windows and joins across shards read it like any other.
    for (sql, rows) in [
        ("SELECT note, count(*) FROM session_notes GROUP BY note HAVING count(*) = 9", 1),
        ("SELECT DISTINCT note FROM session_notes", 1),
        ("SELECT count(*) OVER () FROM session_notes", 9),
        ("SELECT FROM session_notes a JOIN session_notes b ON a.note = b.note", 81),
        ("SELECT FROM bots b LEFT JOIN session_notes n ON n.note = b.name", 9),
    ] {
        assert_eq!(client.query(sql, &[]).await.unwrap().len(), rows, "{sql}");
    }
    let sql =
        format!("EXPLAIN (ROUTE) DELETE FROM message_history WHERE session_id = '{}'", session(5));
    let rows = client.simple_query(&sql).await.unwrap();
    let text: String = format!("{rows:?}");
    assert!(text.contains("lookup"), "{text}");
}

#[tokio::test]
async fn ids_come_as_parameters_too() {
    let (_shards, proxy) = three().await;
    let client = proxy.connect().await;
    let types = [tokio_postgres::types::Type::INT8, tokio_postgres::types::Type::TEXT];
    let insert = client
        .prepare_typed(
            &format!(
                "INSERT INTO message_history (id, content, session_id) VALUES ($1, $2, '{}')",
                session(4)
            ),
            &types,
        )
        .await
        .unwrap();
    assert_eq!(client.execute(&insert, &[&1_i64, &"hello"]).await.unwrap(), 1);
    let select = client
        .prepare("SELECT content FROM message_history WHERE session_id = $1::text::uuid OR tenant_id = $2")
        .await
        .unwrap();
    assert_eq!(client.query(&select, &[&session(4), &4_i64]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_ids_say_must_agree() {
    let (shards, proxy) = three().await;
    let client = proxy.connect().await;
    let check = async |sql: String, state: &str| {
        let error = client.batch_execute(&sql).await.expect_err(&sql);
        assert_eq!(
            error.code().map(tokio_postgres::error::SqlState::code),
            Some(state),
            "{sql}: {:?}",
            said(&error)
        );
    };
    let (four, five) = (session(4), session(5));
    check(
        format!("INSERT INTO message_history (id, tenant_id, session_id) VALUES (1, 5, '{four}')"),
        "22023",
    )
    .await;
    let unknown = session(77);
    check(format!("INSERT INTO message_history (id, session_id) VALUES (1, '{unknown}')"), "23502")
        .await;
    check(format!("INSERT INTO session_notes VALUES ('{unknown}', 'n')"), "22023").await;
    // An id keeps its key.
    client.query(&format!("SELECT * FROM bots WHERE id = '{}'", bot(4)), &[]).await.unwrap();
    check(format!("INSERT INTO bots VALUES ('{}', 5, 'again')", bot(4)), "22023").await;
    check(format!("UPDATE message_history SET session_id = '{five}' WHERE tenant_id = 4"), "0A000")
        .await;
    client
        .batch_execute(&format!(
            "UPDATE message_history SET session_id = '{four}' WHERE tenant_id = 4"
        ))
        .await
        .unwrap();
    // An id that is nowhere narrows nothing: another proxy may insert it at any time.
    let sql = format!("SELECT * FROM message_history WHERE session_id = '{unknown}'");
    assert_eq!(client.query(&sql, &[]).await.unwrap().len(), 0);
    let direct = shards.direct("usa-west").await;
    direct
        .batch_execute(&format!(
            "INSERT INTO user_sessions VALUES ('{unknown}', 79, '{}', 't');
             INSERT INTO message_history VALUES (1, 79, '{unknown}', 'late')",
            bot(7)
        ))
        .await
        .unwrap();
    assert_eq!(client.query(&sql, &[]).await.unwrap().len(), 1);
    // A row that several shards have says nothing of the rows with its id.
    let everywhere = bot(0);
    for name in shards.names() {
        let direct = shards.direct(name).await;
        let insert = format!("INSERT INTO bots VALUES ('{everywhere}', 1, 'default')");
        direct.batch_execute(&insert).await.unwrap();
    }
    for tenant in 1..=3_i64 {
        let id = format!("00000000-0000-0000-0003-{tenant:012}");
        let sql =
            format!("INSERT INTO user_sessions VALUES ('{id}', {tenant}, '{everywhere}', 'd')");
        client.batch_execute(&sql).await.unwrap();
    }
    let sql = format!("SELECT id FROM user_sessions WHERE bot_id = '{everywhere}'");
    assert_eq!(client.query(&sql, &[]).await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_a_transaction_inserted_is_its_own() {
    let (_shards, proxy) = three().await;
    let mut client = proxy.connect().await;
    let fresh = session(31);
    let messages = format!("SELECT * FROM message_history WHERE session_id = '{fresh}'");
    let transaction = client.transaction().await.unwrap();
    let insert = format!("INSERT INTO user_sessions VALUES ('{fresh}', 31, '{}', 't')", bot(4));
    // The bot is another tenant's.
    assert!(transaction.batch_execute(&insert).await.is_err());
    transaction.rollback().await.unwrap();
    let insert =
        format!("INSERT INTO user_sessions SELECT '{fresh}'::uuid, 31, NULL, 't' WHERE false");
    client.batch_execute(&insert).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction
        .batch_execute(&format!("INSERT INTO bots VALUES ('{}', 31, 'b')", bot(31)))
        .await
        .unwrap();
    transaction
        .batch_execute(&format!(
            "INSERT INTO user_sessions VALUES ('{fresh}', 31, '{}', 't')",
            bot(31)
        ))
        .await
        .unwrap();
    // Inside, its own rows count: the message goes where the session is.
    transaction
        .batch_execute(&format!(
            "INSERT INTO message_history (id, session_id) VALUES (1, '{fresh}')"
        ))
        .await
        .unwrap();
    assert_eq!(transaction.query(&messages, &[]).await.unwrap().len(), 1);
    transaction.rollback().await.unwrap();
    // It never was: the same id may become another tenant's.
    client
        .batch_execute(&format!(
            "INSERT INTO user_sessions VALUES ('{fresh}', 5, '{}', 't')",
            bot(5)
        ))
        .await
        .unwrap();
    client
        .batch_execute(&format!(
            "INSERT INTO message_history (id, session_id) VALUES (2, '{fresh}')"
        ))
        .await
        .unwrap();
    let rows = client.query(&messages, &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, i64>(1), 5);
}

/// The same of a shard that the transaction has come to later.
#[tokio::test]
async fn what_a_transaction_inserted_on_another_shard_is_its_own() {
    let (_shards, proxy) = three().await;
    let mut client = proxy.connect().await;
    let other = proxy.connect().await;
    for tenant in [31, 32, 33] {
        let fresh = session(tenant);
        let transaction = client.transaction().await.unwrap();
        // Tenants 1, 2 and 3 live on three shards.
        for first in [1, 2, 3] {
            let sql = format!("UPDATE tenants SET name = name WHERE id = {first}");
            transaction.batch_execute(&sql).await.unwrap();
        }
        transaction
            .batch_execute(&format!("INSERT INTO bots VALUES ('{}', {tenant}, 'b')", bot(tenant)))
            .await
            .unwrap();
        let insert = format!(
            "INSERT INTO user_sessions VALUES ('{fresh}', {tenant}, '{}', 't')",
            bot(tenant)
        );
        transaction.batch_execute(&insert).await.unwrap();
        let message =
            format!("INSERT INTO message_history (id, session_id) VALUES ({tenant}, '{fresh}')");
        transaction.batch_execute(&message).await.unwrap();
        // Nobody else knows of it, now or later.
        for moment in ["before", "after"] {
            let error = other.batch_execute(&message).await.expect_err(moment);
            assert_eq!(said(&error).0, "23502", "{moment}: {error:?}");
            if moment == "before" {
                transaction.batch_execute("ROLLBACK").await.unwrap();
            }
        }
        drop(transaction);
        let insert = format!("INSERT INTO user_sessions VALUES ('{fresh}', 5, '{}', 't')", bot(5));
        other.batch_execute(&insert).await.unwrap();
        other.batch_execute(&message).await.unwrap();
    }
}

#[tokio::test]
async fn sqls_execute_asks_too() {
    let (shards, proxy) = three().await;
    // Knows nothing yet.
    let fresh = Proxy::start(&shards, &shards.map_by_hash(REST)).await;
    let client = fresh.connect().await;
    let prepare = "PREPARE find (uuid) AS SELECT title FROM user_sessions WHERE id = $1;
        PREPARE put (bigint, uuid) AS INSERT INTO message_history (id, session_id) VALUES ($1, $2)";
    for sql in prepare.split(';') {
        client.batch_execute(sql).await.unwrap();
    }
    client.batch_execute(&format!("EXECUTE find('{}')", session(4))).await.unwrap();
    assert!(route(&client).await.contains("one shard: usa-west"), "{}", route(&client).await);
    client.batch_execute(&format!("EXECUTE put(7, '{}')", session(5))).await.unwrap();
    let direct = shards.direct("deu").await;
    let sql = "SELECT tenant_id FROM message_history WHERE id = 7";
    assert_eq!(direct.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 5);
    drop(proxy);
}

#[tokio::test]
async fn inserts_teach_when_they_are_committed() {
    let (shards, proxy) = three().await;
    let client = proxy.connect().await;
    let insert =
        |tenant: i64| format!("INSERT INTO bots VALUES ('{}', {tenant}, 'b')", bot(tenant));
    let find =
        |tenant: i64| format!("SELECT * FROM user_sessions WHERE bot_id = '{}'", bot(tenant));
    let types = [tokio_postgres::types::Type::TEXT];
    let prepared = client
        .prepare_typed(&format!("INSERT INTO bots VALUES ('{}', 42, $1)", bot(42)), &types)
        .await
        .unwrap();
    client.execute(&prepared, &[&"b"]).await.unwrap();
    client.batch_execute(&insert(41)).await.unwrap();
    client.batch_execute(&format!("PREPARE p AS {}", insert(43))).await.unwrap();
    client.batch_execute("EXECUTE p").await.unwrap();
    // These are not there, or nobody knows whether they are.
    for sql in ["BEGIN", &insert(51), "ROLLBACK"] {
        client.batch_execute(sql).await.unwrap();
    }
    client.batch_execute(&format!("BEGIN; {}; ROLLBACK", insert(52))).await.unwrap();
    client.batch_execute(&format!("{}; SELECT 1/0", insert(53))).await.unwrap_err();
    client.batch_execute(&format!("{} ON CONFLICT DO NOTHING", insert(54))).await.unwrap();
    client.batch_execute(&insert(41)).await.unwrap_err();
    // Nothing that could be asked is left.
    shards.run_on_all("DELETE FROM bots").await;
    for tenant in [41, 42, 43] {
        client.batch_execute(&find(tenant)).await.unwrap();
        assert!(route(&client).await.contains("one shard"), "{tenant}: {}", route(&client).await);
    }
    for tenant in [51, 52, 53, 54] {
        client.batch_execute(&find(tenant)).await.unwrap();
        assert!(route(&client).await.contains("all shards"), "{tenant}: {}", route(&client).await);
    }
}
