//! Keys that PostgreSQL would make itself, `gen_random_uuid()` and its like: the proxy makes them, a new one for
//! each execution, in every form of a request, and the row is where its key belongs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use std::collections::BTreeSet;

use support::raw::{Message, Raw, frame, rows, sqlstate};
use support::{Proxy, Shards};

const TABLES: &str = "
    CREATE EXTENSION \"uuid-ossp\";
    CREATE EXTENSION pgcrypto;
    CREATE TABLE tenants (id bigint PRIMARY KEY);
    CREATE TABLE items (item uuid PRIMARY KEY DEFAULT gen_random_uuid(), body text);
    CREATE TABLE old_items (item uuid PRIMARY KEY DEFAULT uuid_generate_v4(), body text);
    CREATE TABLE crypto_items (item uuid PRIMARY KEY DEFAULT public.gen_random_uuid(), body text);
    CREATE TABLE labels (label varchar(36) PRIMARY KEY DEFAULT gen_random_uuid(), body text);
    CREATE TABLE stubs (label varchar(36) PRIMARY KEY DEFAULT gen_random_uuid()::varchar(8), body text);
    CREATE SCHEMA mine;
    CREATE FUNCTION mine.gen_random_uuid() RETURNS uuid LANGUAGE sql
        AS 'SELECT ''00000000-0000-0000-0000-000000000000''::uuid';";

const KEYS: &str = "
    [keys.item]
    columns = [\"item\"]
    type = \"uuid\"
    strategy = \"hash\"
    hash = { algorithm = \"md5\", shards = SHARDS }
    [keys.label]
    columns = [\"label\"]
    type = \"text\"
    strategy = \"hash\"
    hash = { algorithm = \"md5\", shards = SHARDS }
    [sessions]
    key = \"item\"";

/// Everybody is who they say.
const CONFIG: &str = "[auth]\nmethod = \"trust\"\n";

async fn serve() -> (Shards, Proxy) {
    let shards = Shards::databases(3);
    shards.run_on_all(TABLES).await;
    let names: Vec<String> = shards.names().map(|name| format!("\"{name}\"")).collect();
    let keys = KEYS.replace("SHARDS", &format!("[{}]", names.join(", ")));
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(&keys), CONFIG).await;
    (shards, proxy)
}

/// How many rows of a table a shard has.
async fn count_on(shards: &Shards, name: &str, table: &str) -> usize {
    let (direct, sql) = (shards.direct(name).await, format!("SELECT count(*) FROM {table}"));
    let row = direct.query_one(&sql, &[]).await.unwrap();
    usize::try_from(row.get::<_, i64>(0)).unwrap()
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

/// Bind of one text parameter to the unnamed portal, and Execute.
fn execute(name: &str, parameter: &str) -> Vec<u8> {
    let mut body = format!("\0{name}\0").into_bytes();
    body.extend([0, 0, 0, 1]);
    body.extend(u32::try_from(parameter.len()).unwrap().to_be_bytes());
    body.extend(parameter.as_bytes());
    body.extend([0, 0]);
    [frame(b'B', &body), frame(b'E', b"\0\0\0\0\0")].concat()
}

fn sync(client: &mut Raw, messages: &[Vec<u8>]) -> Vec<Message> {
    client.send(&messages.concat());
    client.send(&frame(b'S', b""));
    client.until_ready()
}

/// The first column of all rows.
fn firsts(answer: &[Message]) -> Vec<String> {
    assert_eq!(sqlstate(answer), "", "{answer:?}");
    rows(answer).into_iter().map(|row| row[0].clone().unwrap()).collect()
}

/// Each of them is found by its key, and by nobody twice.
fn all_are_found(client: &mut Raw, table: &str, column: &str, made: &[String]) {
    let different: BTreeSet<&String> = made.iter().collect();
    assert_eq!(different.len(), made.len(), "{made:?}");
    for key in made {
        let found = client.query(&format!("SELECT count(*) FROM {table} WHERE {column} = '{key}'"));
        assert_eq!(firsts(&found), ["1"], "{table} {key}");
    }
    let all = client.query(&format!("SELECT count(*) FROM {table}"));
    assert_eq!(firsts(&all), [made.len().to_string()], "{table}");
}

#[tokio::test]
async fn every_execution_makes_a_key_of_its_own() {
    let (shards, proxy) = serve().await;
    let mut client = proxy.raw();
    let mut made = Vec::new();
    for sql in [
        "INSERT INTO items VALUES (gen_random_uuid(), 'called') RETURNING item",
        "INSERT INTO items (body, item) VALUES ('qualified', pg_catalog.gen_random_uuid()) RETURNING item",
        "INSERT INTO items (body, item) VALUES ('extension', uuid_generate_v4()) RETURNING item",
        "INSERT INTO items (body) VALUES ('left out') RETURNING item",
        "INSERT INTO items (item, body) VALUES (DEFAULT, 'default') RETURNING item",
        "INSERT INTO items (body) VALUES ('a row'), ('and another') RETURNING item",
        "BEGIN; INSERT INTO items (body) VALUES ('one') RETURNING item; INSERT INTO items (body) VALUES ('two') RETURNING item; COMMIT",
        "INSERT INTO items (body) VALUES ('three') RETURNING item; INSERT INTO items (body) VALUES ('four') RETURNING item",
    ] {
        for _ in 0..8 {
            made.extend(firsts(&client.query(sql)));
        }
    }
    // Prepared in SQL.
    let sql = "PREPARE p (text) AS INSERT INTO items (body) VALUES ($1) RETURNING item";
    assert_eq!(sqlstate(&client.query(sql)), "");
    for n in 0..8 {
        made.extend(firsts(&client.query(&format!("EXECUTE p ('prepared {n}')"))));
    }
    // In the extended protocol: unnamed and named, one by one and in one pipeline, within a transaction.
    let sql = "INSERT INTO items (item, body) VALUES (gen_random_uuid(), $1) RETURNING item";
    let mut answers = Vec::new();
    for n in 0..4 {
        answers.push(sync(&mut client, &[parse("", sql), execute("", &format!("un {n}"))]));
    }
    answers.push(sync(&mut client, &[parse("s", sql)]));
    for n in 0..8 {
        answers.push(sync(&mut client, &[execute("s", &format!("named {n}"))]));
    }
    let pipeline: Vec<Vec<u8>> = (0..16).map(|n| execute("s", &format!("p {n}"))).collect();
    answers.push(sync(&mut client, &pipeline));
    assert_eq!(sqlstate(&client.query("BEGIN")), "");
    for n in 0..4 {
        answers.push(sync(&mut client, &[execute("s", &format!("within {n}"))]));
    }
    assert_eq!(sqlstate(&client.query("COMMIT")), "");
    made.extend(answers.iter().flat_map(|answer| firsts(answer)));
    all_are_found(&mut client, "items", "item", &made);
    // They are spread.
    let mut counts = Vec::new();
    for name in shards.names() {
        counts.push(count_on(&shards, name, "items").await);
    }
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), made.len());
}

#[tokio::test]
async fn defaults_of_extensions_and_texts_are_made_too() {
    let (_shards, proxy) = serve().await;
    let mut client = proxy.raw();
    for (table, column) in [("old_items", "item"), ("crypto_items", "item"), ("labels", "label")] {
        let sql = format!("INSERT INTO {table} (body) VALUES ('x') RETURNING {column}");
        let made: Vec<String> = (0..12).flat_map(|_| firsts(&client.query(&sql))).collect();
        all_are_found(&mut client, table, column, &made);
    }
    let sql = "INSERT INTO labels VALUES (gen_random_uuid()::text, 'cast') RETURNING label";
    let label = firsts(&client.query(sql)).remove(0);
    let found = client.query(&format!("SELECT body FROM labels WHERE label = '{label}'"));
    assert_eq!(firsts(&found), ["cast"]);
}

/// The key that PostgreSQL would make is another one than the proxy would.
#[tokio::test]
async fn a_default_that_shortens_is_not_made() {
    let (shards, proxy) = serve().await;
    let mut client = proxy.raw();
    for sql in [
        "INSERT INTO stubs (body) VALUES ('x')",
        "INSERT INTO stubs VALUES (DEFAULT, 'x')",
        "INSERT INTO stubs VALUES (gen_random_uuid()::varchar(8), 'x')",
    ] {
        let answer = client.query(sql);
        assert!(matches!(&*sqlstate(&answer), "0A000" | "23502"), "{sql}: {answer:?}");
    }
    // The shard that is chosen makes it, and says where it belongs.
    for name in shards.names() {
        assert_eq!(sqlstate(&client.query(&format!("SET pgmeridian.shard = '{name}'"))), "");
        let answer = client.query("INSERT INTO stubs (body) VALUES ('x')");
        assert_ne!(sqlstate(&answer), "", "{answer:?}");
        assert_eq!(count_on(&shards, name, "stubs").await, 0);
    }
}

#[tokio::test]
async fn what_is_made_belongs_to_the_shard_of_the_session() {
    let (shards, proxy) = serve().await;
    let mut client = proxy.raw();
    for name in shards.names() {
        assert_eq!(sqlstate(&client.query(&format!("SET pgmeridian.shard = '{name}'"))), "");
        for _ in 0..6 {
            let answer = client.query("INSERT INTO items (body) VALUES ('x') RETURNING item");
            assert_eq!(firsts(&answer).len(), 1);
        }
        assert_eq!(count_on(&shards, name, "items").await, 6);
    }
}

#[tokio::test]
async fn a_function_of_the_same_name_is_not_taken_for_it() {
    let (_shards, proxy) = serve().await;
    let mut client = proxy.raw();
    assert_eq!(sqlstate(&client.query("SET search_path = mine, pg_catalog, public")), "");
    let answer = client.query("INSERT INTO items VALUES (gen_random_uuid(), 'x')");
    assert_eq!(sqlstate(&answer), "0A000", "{answer:?}");
    assert_eq!(sqlstate(&client.query("SET search_path = mine, public")), "");
    let answer = client.query("INSERT INTO items VALUES (gen_random_uuid(), 'x') RETURNING item");
    assert_ne!(firsts(&answer), ["00000000-0000-0000-0000-000000000000"]);
    let answer = client.query("INSERT INTO items VALUES (mine.gen_random_uuid(), 'x')");
    assert_eq!(sqlstate(&answer), "0A000", "{answer:?}");
    // The session's key is not one that is made.
    let key = "11111111-1111-4111-8111-111111111111";
    assert_eq!(sqlstate(&client.query(&format!("SET pgmeridian.key = '{key}'"))), "");
    let answer = client.query("INSERT INTO items VALUES (gen_random_uuid(), 'x')");
    assert_eq!(sqlstate(&answer), "22023", "{answer:?}");
    let answer = client.query("INSERT INTO items (body) VALUES ('x') RETURNING item");
    assert_eq!(firsts(&answer), [key]);
}
