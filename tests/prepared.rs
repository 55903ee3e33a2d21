//! Prepared statements over pooled connections, where a script can't show it: changes of the schema behind
//! the proxy's back, bounds, and what connections keep. `STATEMENTS=10000` tries more of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use support::raw::{Message, Raw, field, frame, rows, sqlstate};
use support::{Proxy, Shards};

const TABLES: &str = "
    CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL);
    INSERT INTO tenants VALUES (1, 'one'), (2, 'two');";

/// Everybody is who they say, over a single connection per shard.
const CONFIG: &str = "[auth]\nmethod = \"trust\"\n
    [pool]\nsize = 1\nreserve = 0\nwait_timeout = \"5s\"\n";

async fn serve() -> (Shards, Proxy) {
    let shards = Shards::databases(1);
    shards.run_on_all(TABLES).await;
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(""), CONFIG).await;
    (shards, proxy)
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

/// Bind to the unnamed portal and Execute.
fn bind(name: &str) -> Vec<u8> {
    let bind = frame(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes());
    [bind, frame(b'E', b"\0\0\0\0\0")].concat()
}

fn describe(name: &str) -> Vec<u8> {
    frame(b'D', format!("S{name}\0").as_bytes())
}

fn sync(client: &mut Raw, messages: &[Vec<u8>]) -> Vec<Message> {
    client.send(&messages.concat());
    client.send(&frame(b'S', b""));
    client.until_ready()
}

fn tags(answer: &[Message]) -> String {
    answer.iter().map(|message| char::from(message.tag)).collect()
}

/// What is wrong, in the server's words.
fn message(answer: &[Message]) -> String {
    let error = answer.iter().find(|message| message.tag == b'E');
    error.map_or(String::new(), |error| support::raw::field(error, b'M'))
}

const ALL: &str = "SELECT * FROM tenants ORDER BY id";

#[tokio::test]
async fn who_prepares_after_a_change_finds_the_new_columns() {
    let (shards, proxy) = serve().await;
    let (mut early, mut late) = (proxy.raw(), proxy.raw());
    let answer = sync(&mut early, &[parse("s", ALL), bind("s")]);
    assert_eq!((tags(&answer).as_str(), rows(&answer)[0].len()), ("12DDCZ", 2));
    // Nobody tells the proxy.
    shards.run_on_all("ALTER TABLE tenants ADD COLUMN note text").await;
    let outdated = "cached plan must not change result type";
    let answer = sync(&mut early, &[bind("s")]);
    assert_eq!((message(&answer).as_str(), tags(&answer).as_str()), (outdated, "EZ"));
    // The connection knows the text for longer than this client.
    let answer = sync(&mut late, &[parse("mine", ALL), describe("mine")]);
    assert_eq!(tags(&answer), "1tTZ", "{answer:?}");
    let answer = sync(&mut late, &[bind("mine")]);
    assert_eq!((tags(&answer).as_str(), rows(&answer)[0].len()), ("2DDCZ", 3), "{answer:?}");
    // For the one who came before, it stays as it is on PostgreSQL.
    let answer = sync(&mut early, &[bind("s")]);
    assert_eq!(message(&answer), outdated);
    let answer = sync(&mut early, &[frame(b'C', b"Ss\0"), parse("s", ALL), bind("s")]);
    assert_eq!((tags(&answer).as_str(), rows(&answer)[0].len()), ("312DDCZ", 3), "{answer:?}");

    // The same at Bind, with SQL's EXECUTE, and for the next change.
    shards.run_on_all("ALTER TABLE tenants DROP COLUMN note").await;
    let mut third = proxy.raw();
    let answer = sync(&mut third, &[parse("other", ALL), bind("other")]);
    assert_eq!((tags(&answer).as_str(), rows(&answer)[0].len()), ("12DDCZ", 2), "{answer:?}");
    shards.run_on_all("ALTER TABLE tenants ADD COLUMN note text").await;
    let mut fourth = proxy.raw();
    let answer = fourth.query(&format!("PREPARE p AS {ALL}"));
    assert_eq!(sqlstate(&answer), "");
    let answer = fourth.query("EXECUTE p");
    assert_eq!(rows(&answer)[0].len(), 3, "{answer:?}");
    let answer = third.query("EXECUTE other");
    assert_eq!(message(&answer), outdated);
    assert_eq!(rows(&third.query("SELECT 1")).len(), 1);
}

/// A point read and how it is asked: a Query, or messages for the unnamed statement.
fn read_one(client: &mut Raw, extended: bool) -> Vec<Message> {
    if !extended {
        return client.query("SELECT * FROM tenants WHERE id = 2");
    }
    let value = b"\0\0\0\0\0\x01\0\0\0\x012\0\0";
    let bound = [frame(b'B', value), frame(b'D', b"P\0"), frame(b'E', b"\0\0\0\0\0")].concat();
    sync(client, &[parse("", "SELECT * FROM tenants WHERE id = $1"), bound])
}

/// What the one connection keeps: how often each statement was planned for any values and for these.
fn kept(client: &mut Raw) -> Vec<Vec<Option<String>>> {
    let kept = client.query(
        "SELECT statement, (generic_plans + custom_plans)::int4 FROM pg_prepared_statements ORDER BY 1",
    );
    rows(&kept)
}

#[tokio::test]
async fn a_frequent_read_by_primary_key_is_kept_prepared_and_nobody_learns_of_it() {
    for extended in [false, true] {
        let (shards, proxy) = serve().await;
        let (mut client, mut other) = (proxy.raw(), proxy.raw());
        let all = if extended { "12TDCZ" } else { "TDCZ" };
        for n in 1..=4 {
            assert_eq!(tags(&read_one(&mut client, extended)), all, "{n}");
        }
        assert_eq!(kept(&mut other), Vec::<Vec<Option<String>>>::new());
        for n in 5..=12 {
            let answer = read_one(if n % 2 == 0 { &mut client } else { &mut other }, extended);
            assert_eq!((tags(&answer).as_str(), rows(&answer)[0].len()), (all, 2), "{n}");
        }
        let text = if extended { "$1" } else { " $1 " };
        let text = format!("SELECT * FROM tenants WHERE id = {text}");
        assert_eq!(kept(&mut other), vec![vec![Some(text), Some("8".to_owned())]]);
        // Nobody tells the proxy of a change: the client gets what it would get from the server.
        shards.run_on_all("ALTER TABLE tenants ADD COLUMN note text").await;
        for client in [&mut client, &mut other] {
            let answer = read_one(client, extended);
            assert_eq!((tags(&answer).as_str(), rows(&answer)[0].len()), (all, 3), "{answer:?}");
        }
        shards.run_on_all("ALTER TABLE tenants RENAME TO others").await;
        let answer = read_one(&mut client, extended);
        assert_eq!((tags(&answer).as_str(), sqlstate(&answer).as_str()), ("EZ", "42P01"));
        let error = answer.iter().find(|message| message.tag == b'E').unwrap();
        assert_eq!(support::raw::field(error, b'P'), "15");
        shards.run_on_all("ALTER TABLE others RENAME TO tenants").await;
        for client in [&mut client, &mut other] {
            assert_eq!(tags(&read_one(client, extended)), all);
        }
        // What ends a statement from outside is told at once, and what was not prepared by then is so later.
        let locker = shards.direct(shards.names().next().unwrap()).await;
        client.query("SET lock_timeout = '50ms'");
        for n in 0..3 {
            locker.batch_execute("BEGIN; LOCK TABLE tenants").await.unwrap();
            assert_eq!(sqlstate(&read_one(&mut client, extended)), "55P03", "{n}");
            locker.batch_execute("COMMIT").await.unwrap();
            assert_eq!(tags(&read_one(&mut client, extended)), all, "{n}");
        }
        client.query("RESET lock_timeout");
        // Nor does a statement go amiss that somebody took from the connection.
        for _ in 0..8 {
            read_one(&mut client, extended);
        }
        shards.run_on_all("ALTER TABLE tenants DROP COLUMN note").await;
        let held = client.query("BEGIN; DEALLOCATE ALL; COMMIT");
        assert_eq!(sqlstate(&held), "");
        for _ in 0..8 {
            let answer = read_one(&mut client, extended);
            assert_eq!((tags(&answer).as_str(), rows(&answer)[0].len()), (all, 2));
        }
    }
}

#[tokio::test]
async fn a_connection_keeps_some_statements_and_a_client_many() {
    let (_shards, proxy) = serve().await;
    let mut client = proxy.raw();
    let rounds = std::env::var("STATEMENTS").map_or(2_000, |count| count.parse().unwrap()) / 100;
    for round in 0..rounds {
        let names = (0..100).map(|n| round * 100 + n);
        let batch: Vec<Vec<u8>> = names
            .flat_map(|n| [parse(&format!("s{n}"), &format!("SELECT {n}")), bind(&format!("s{n}"))])
            .collect();
        let answer = sync(&mut client, &batch);
        assert_eq!(sqlstate(&answer), "", "{round}");
        assert_eq!(rows(&answer).len(), 100);
    }
    let held = client.query("SELECT count(*) FROM pg_prepared_statements");
    let held: usize = rows(&held)[0][0].as_ref().unwrap().parse().unwrap();
    assert!((1..=500).contains(&held), "{held} statements on one connection");
    for n in [0, 1, 999, rounds * 100 - 1] {
        let answer = sync(&mut client, &[bind(&format!("s{n}"))]);
        assert_eq!(rows(&answer), vec![vec![Some(n.to_string())]]);
    }
    // A pipeline of more statements than a connection keeps.
    let batch: Vec<Vec<u8>> = (0..700).map(|n| bind(&format!("s{n}"))).collect();
    assert_eq!(rows(&sync(&mut client, &batch)).len(), 700);
    // What an error skips is closed all the same when its turn comes.
    let mut batch: Vec<Vec<u8>> = vec![parse("bad", "SELECT 1/0"), bind("bad")];
    batch.extend((1_000..1_600).map(|n| bind(&format!("s{n}"))));
    assert_eq!(sqlstate(&sync(&mut client, &batch)), "22012");
    let batch: Vec<Vec<u8>> = (0..1_600).map(|n| bind(&format!("s{n}"))).collect();
    let answer = sync(&mut client, &batch);
    assert_eq!((sqlstate(&answer), rows(&answer).len()), (String::new(), 1_600));
}

#[tokio::test]
async fn a_client_that_never_closes_a_statement_is_told() {
    let (_shards, proxy) = serve().await;
    let mut client = proxy.raw();
    let mut refused = None;
    for round in 0..210 {
        let names = (0..100).map(|n| round * 100 + n);
        let batch: Vec<Vec<u8>> =
            names.map(|n| parse(&format!("s{n}"), "SET work_mem TO '1MB'")).collect();
        let answer = sync(&mut client, &batch);
        if !sqlstate(&answer).is_empty() {
            refused = Some((round, answer));
            break;
        }
    }
    let (round, answer) = refused.unwrap();
    assert_eq!((round, sqlstate(&answer).as_str()), (200, "53400"), "{answer:?}");
    assert_eq!(message(&answer), "too many prepared statements");
    assert_eq!(sqlstate(&client.query("PREPARE p AS SELECT 1")), "53400");
    assert_eq!(sqlstate(&client.query("DEALLOCATE ALL")), "");
    assert_eq!(sqlstate(&client.query("PREPARE p AS SELECT 1")), "");
    // The same for their texts.
    let long = format!("SELECT '{}'", "x".repeat(4 << 20));
    let told = (0..20).map(|n| sqlstate(&sync(&mut client, &[parse(&format!("l{n}"), &long)])));
    let refused: Vec<String> = told.filter(|state| !state.is_empty()).collect();
    assert_eq!(refused, vec!["53400"; 5]);
}

#[tokio::test]
async fn a_key_of_a_domain_is_read_as_what_is_beneath() {
    let shards = Shards::databases(3);
    // The same domain has another number on each shard.
    for (n, name) in shards.names().enumerate() {
        let direct = shards.direct(name).await;
        for dummy in 0..n {
            let sql = format!("CREATE DOMAIN dummy_{dummy} AS text");
            direct.batch_execute(&sql).await.unwrap();
        }
    }
    shards
        .run_on_all(
            "CREATE DOMAIN positive AS bigint CHECK (VALUE > 0);
             CREATE DOMAIN tenant AS positive;
             CREATE TABLE tenants (id tenant PRIMARY KEY, name text);",
        )
        .await;
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(""), CONFIG).await;
    let mut client = proxy.raw();
    let sql = "INSERT INTO tenants VALUES ($1, 'x') RETURNING id";
    let answer = sync(&mut client, &[parse("s", sql), describe("s")]);
    assert_eq!(tags(&answer), "1tTZ", "{answer:?}");
    let execute = |value: &[u8], binary: u8| {
        let mut body = b"\0s\0\0\x01\0".to_vec();
        body.extend([binary, 0, 1]);
        body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(value);
        body.extend([0, 0]);
        [frame(b'B', &body), frame(b'E', b"\0\0\0\0\0")].concat()
    };
    for id in 1..=9_i64 {
        let binary = u8::from(id % 2 == 0);
        let text = id.to_string();
        let value = if binary == 1 { id.to_be_bytes().to_vec() } else { text.clone().into_bytes() };
        let answer = sync(&mut client, &[execute(&value, binary)]);
        assert_eq!(rows(&answer), vec![vec![Some(text)]], "{answer:?}");
    }
    assert_eq!(sqlstate(&sync(&mut client, &[execute(b"-1", 0)])), "23514");
    for sql in [
        "INSERT INTO tenants VALUES (10, 'x')",
        "PREPARE p AS INSERT INTO tenants VALUES ($1, 'x')",
        "EXECUTE p (11)",
        "UPDATE tenants SET name = 'y' WHERE id = 11",
    ] {
        assert_eq!(sqlstate(&client.query(sql)), "", "{sql}");
    }
    for id in 1..=11 {
        let answer = client.query(&format!("SELECT count(*) FROM tenants WHERE id = {id}"));
        assert_eq!(rows(&answer), vec![vec![Some("1".to_owned())]], "{id}");
    }
    let mut counts = Vec::new();
    for name in shards.names() {
        let row = shards.direct(name).await.query_one("SELECT count(*) FROM tenants", &[]).await;
        counts.push(row.unwrap().get::<_, i64>(0));
    }
    assert!(
        counts.iter().all(|count| *count > 0) && counts.iter().sum::<i64>() == 11,
        "{counts:?}"
    );
}

#[tokio::test]
async fn who_was_told_other_columns_is_told_that_they_changed_whatever_the_connection() {
    let shards = Shards::databases(3);
    shards.run_on_all(TABLES).await;
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(""), CONFIG).await;
    let (mut early, mut other) = (proxy.raw(), proxy.raw());
    let star = "SELECT * FROM tenants WHERE id = $1";
    let names = "SELECT name FROM tenants WHERE id = $1";
    for (name, sql) in [("star", star), ("names", names), ("blind", star)] {
        let describes = if name == "blind" { Vec::new() } else { vec![describe(name)] };
        let answer = sync(&mut early, &[vec![parse(name, sql)], describes].concat());
        assert_eq!(sqlstate(&answer), "");
    }
    let execute = |name: &str, id: &str| {
        let body = [format!("\0{name}\0\0\0\0\x01\0\0\0\x01{id}\0\0").into_bytes()].concat();
        [frame(b'B', &body), frame(b'E', b"\0\0\0\0\0")].concat()
    };
    let answer = sync(&mut early, &[execute("star", "1")]);
    assert_eq!(rows(&answer)[0].len(), 2, "{answer:?}");
    let sql = "ALTER TABLE tenants ADD COLUMN note text";
    assert_eq!(sqlstate(&other.query(&format!("SET pgmeridian.shard = '*'; {sql}"))), "");
    // No connection but one has ever heard of these statements.
    let outdated = "cached plan must not change result type";
    for id in 1..=6 {
        let answer = sync(&mut early, &[execute("star", &id.to_string())]);
        assert_eq!((message(&answer).as_str(), tags(&answer).as_str()), (outdated, "EZ"), "{id}");
        // Drivers prepare it anew by this.
        assert_eq!(field(&answer[0], b'R'), "RevalidateCachedQuery", "{id}");
        let answer = sync(&mut early, &[execute("names", &id.to_string())]);
        assert_eq!(sqlstate(&answer), "", "{answer:?}");
    }
    // Who was told nothing is told the new columns.
    let answer = sync(&mut early, &[execute("blind", "5")]);
    assert_eq!(sqlstate(&answer), "", "{answer:?}");
    let answer =
        sync(&mut early, &[frame(b'C', b"Sstar\0"), parse("star", star), describe("star")]);
    assert_eq!(sqlstate(&answer), "", "{answer:?}");
    let answer = sync(&mut early, &[execute("star", "1")]);
    assert_eq!(rows(&answer)[0].len(), 3, "{answer:?}");
    // As it was before, it is as the client was told.
    let answer = sync(&mut early, &[parse("later", star), describe("later")]);
    assert_eq!(sqlstate(&answer), "", "{answer:?}");
    assert_eq!(sqlstate(&other.query("ALTER TABLE tenants RENAME COLUMN note TO remark")), "");
    assert_eq!(message(&sync(&mut early, &[execute("later", "4")])), outdated);
    assert_eq!(sqlstate(&other.query("ALTER TABLE tenants RENAME COLUMN remark TO note")), "");
    assert_eq!(sqlstate(&sync(&mut early, &[execute("later", "4")])), "");
    // Within a transaction it fails as it does on PostgreSQL; what is gone, the server says.
    assert_eq!(sqlstate(&other.query("ALTER TABLE tenants DROP COLUMN note")), "");
    assert_eq!(sqlstate(&early.query("BEGIN")), "");
    assert_eq!(message(&sync(&mut early, &[execute("later", "4")])), outdated);
    assert_eq!(sqlstate(&early.query("SELECT 1")), "25P02");
    assert_eq!(sqlstate(&early.query("ROLLBACK")), "");
    assert_eq!(sqlstate(&other.query("ALTER TABLE tenants DROP COLUMN name")), "");
    let answer = sync(&mut early, &[execute("names", "4")]);
    assert_eq!((sqlstate(&answer).as_str(), tags(&answer).as_str()), ("42703", "EZ"), "{answer:?}");
    assert_eq!(rows(&early.query("SELECT 1")).len(), 1);
}
