//! A client's session over pooled connections: what belongs to one client stays its own, whatever happens
//! to its statements, and what it no longer needs goes back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use std::time::{Duration, Instant};

use support::raw::{BOT, Message, Raw, field, frame, query, rows, sqlstate};
use support::{Proxy, Shards, TRUST, eventually};

const TABLES: &str = "
    CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE notes (id bigint NOT NULL, tenant_id bigint NOT NULL, body text);
    CREATE TABLE plans (tier int PRIMARY KEY, name text);
    INSERT INTO plans VALUES (1, 'free'), (2, 'team');
    CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql IMMUTABLE
        AS 'BEGIN PERFORM pg_sleep(100); RETURN true; END';";

const REST: &str = "[tables]\nplans = \"reference\"\n[functions]\nslow = \"pure\"\n";

/// A single connection per shard: whoever leaves something behind leaves it to the next client.
const ONE: &str = "[pool]\nsize = 1\nreserve = 0\nwait_timeout = \"5s\"\n";

async fn serve(count: usize, config: &str) -> (Shards, Proxy) {
    let shards = Shards::databases(count);
    shards.run_on_all(TABLES).await;
    let config = format!("{TRUST}{config}");
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(REST), &config).await;
    (shards, proxy)
}

/// The first value of the first row.
fn value(answer: &[Message]) -> String {
    let found = rows(answer).first().and_then(|row| row.first().cloned()).flatten();
    found.unwrap_or_else(|| panic!("no value in {answer:?}"))
}

/// Runs what must succeed.
fn run(client: &mut Raw, sql: &str) -> Vec<Message> {
    let answer = client.query(sql);
    assert_eq!(sqlstate(&answer), "", "{sql}: {answer:?}");
    answer
}

/// The backend that serves a client on a shard.
fn backend(client: &mut Raw, shard: &str) -> String {
    value(&run(client, &format!("/* pgmeridian: shard={shard} */ SELECT pg_backend_pid()")))
}

#[tokio::test]
async fn a_failed_read_over_several_shards_costs_no_connection() {
    let (shards, proxy) = serve(3, ONE).await;
    let mut client = proxy.raw();
    for id in 1..=60 {
        run(&mut client, &format!("INSERT INTO tenants VALUES ({id}, 'x')"));
    }
    let shards: Vec<&str> = shards.names().collect();
    let pids = |client: &mut Raw| -> Vec<String> {
        shards.iter().map(|shard| backend(client, shard)).collect()
    };
    let before = pids(&mut client);
    // While one shard divides by zero at its last row, the others have much to say.
    let sql = "SELECT 1 / (id - 60), repeat('x', 200000) FROM tenants";
    let pinned = "/* pgmeridian: shard=deu */ SELECT pg_advisory_lock(7)";
    for prepare in ["SELECT 1", pinned] {
        run(&mut client, prepare);
        let answer = client.query(sql);
        assert_eq!(sqlstate(&answer), "22012", "{prepare}");
        assert_eq!(answer.last().unwrap().body, b"I");
        let parse = [&b"\0"[..], sql.as_bytes(), b"\0\0\0"].concat();
        client.send(&frame(b'P', &parse));
        client.send(&frame(b'B', b"\0\0\0\0\0\0\0\0"));
        client.send(&frame(b'E', b"\0\0\0\0\0"));
        client.send(&frame(b'S', b""));
        assert_eq!(sqlstate(&client.until_ready()), "22012", "{prepare}");
        assert_eq!(rows(&run(&mut client, "SELECT id FROM tenants")).len(), 60);
        assert_eq!(pids(&mut client), before, "{prepare}");
    }
    // What the shard's connection carries is there still.
    let mine = "/* pgmeridian: shard=deu */ SELECT pg_advisory_unlock(7)";
    assert_eq!(value(&run(&mut client, mine)), "t");
    // A temporary table may hide one that is read.
    run(&mut client, "/* pgmeridian: shard=deu */ CREATE TEMP TABLE tenants (id bigint)");
    assert_eq!(sqlstate(&client.query("SELECT id FROM tenants")), "0A000");
}

/// How many statements of others run on a shard.
async fn running(direct: &tokio_postgres::Client, like: &str) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity
        WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE $1";
    direct.query_one(sql, &[&like]).await.unwrap().get(0)
}

#[tokio::test]
async fn the_statement_of_a_client_that_vanishes_is_cancelled() {
    let (shards, proxy) = serve(3, ONE).await;
    shards.run_on_all("INSERT INTO tenants VALUES (1, 'x')").await;
    let direct = shards.direct("deu").await;
    let none_runs = async || {
        eventually("it is cancelled", async || match running(&direct, "%sl%").await {
            0 => Ok(()),
            n => Err(format!("{n} run")),
        })
        .await;
    };
    let starts = async || {
        eventually("it runs", async || match running(&direct, "%sl%").await {
            0 => Err("nothing runs".to_owned()),
            _ => Ok(()),
        })
        .await;
    };
    let sleep = "/* pgmeridian: shard=deu */ SELECT pg_sleep(100)";
    let scattered = "SELECT slow(), id FROM tenants";
    for sql in [sleep, scattered] {
        let mut client = proxy.raw();
        client.send(&query(sql));
        starts().await;
        // One that pipelines is not gone, nor is one that says good-bye: PostgreSQL would go on, too.
        client.send(&query("SELECT 1"));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(running(&direct, "%sl%").await > 0, "{sql}");
        drop(client);
        none_runs().await;
    }
    let mut polite = proxy.raw();
    polite.send(&query("INSERT INTO tenants SELECT 77, pg_sleep(0.3)::text"));
    polite.send(&frame(b'X', b""));
    drop(polite);
    let mut next = proxy.raw();
    eventually("it is carried out", async || {
        match rows(&next.query("SELECT id FROM tenants WHERE id = 77")).len() {
            1 => Ok(()),
            _ => Err("not yet".to_owned()),
        }
    })
    .await;
    // Who waits for a connection and goes away does not get one.
    let mut busy = proxy.raw();
    run(&mut busy, "BEGIN");
    run(&mut busy, "/* pgmeridian: shard=deu */ SELECT 1");
    let mut waits = proxy.raw();
    waits.send(&query("/* pgmeridian: shard=deu */ INSERT INTO plans VALUES (7, 'never')"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(waits);
    tokio::time::sleep(Duration::from_millis(100)).await;
    run(&mut busy, "COMMIT");
    run(&mut busy, "/* pgmeridian: shard=deu */ SELECT 1");
    let never = direct.query("SELECT 1 FROM plans WHERE tier = 7", &[]).await.unwrap();
    assert_eq!(never.len(), 0);
}

#[tokio::test]
async fn what_takes_too_long_is_ended() {
    let config = "[limits]\nquery_timeout = \"300ms\"\nidle_in_transaction_timeout = \"1s\"\n";
    let (shards, proxy) = serve(2, &format!("{ONE}{config}")).await;
    shards.run_on_all("INSERT INTO tenants VALUES (1, 'x')").await;
    let mut client = proxy.raw();
    // To make the connection is part of the first statement's time.
    let first = "/* pgmeridian: shard=usa-west */ SELECT pg_backend_pid()";
    while sqlstate(&client.query(first)) == "57014" {}
    let before = backend(&mut client, "usa-west");
    let sleep = "/* pgmeridian: shard=usa-west */ SELECT pg_sleep(100)";
    for sql in [sleep, "SELECT slow(), id FROM tenants"] {
        let since = Instant::now();
        let answer = client.query(sql);
        assert!((250..2_000).contains(&since.elapsed().as_millis()), "{:?}", since.elapsed());
        let error = answer.iter().find(|m| m.tag == b'E').unwrap();
        assert_eq!(field(error, b'C'), "57014", "{sql}");
        assert_eq!(field(error, b'M'), "canceling statement due to query timeout");
        assert_eq!(answer.last().unwrap().body, b"I");
        // The connection is kept.
        assert_eq!(backend(&mut client, "usa-west"), before);
    }
    // In a transaction, and in the extended protocol.
    run(&mut client, "BEGIN");
    client.send(&frame(b'P', &[b"\0", sleep.as_bytes(), b"\0\0\0"].concat()));
    client.send(&frame(b'B', b"\0\0\0\0\0\0\0\0"));
    client.send(&frame(b'E', b"\0\0\0\0\0"));
    client.send(&frame(b'S', b""));
    let answer = client.until_ready();
    let error = answer.iter().find(|m| m.tag == b'E').unwrap();
    assert_eq!(field(error, b'M'), "canceling statement due to query timeout");
    assert_eq!(answer.last().unwrap().body, b"E");
    run(&mut client, "ROLLBACK");
    // One that is short enough passes, however many there are.
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(700) {
        run(&mut client, "SELECT pg_sleep(0.1)");
    }
    // An idle transaction ends its client, and nobody else.
    let mut idler = proxy.raw();
    for begun in [false, true] {
        let mut lazy = proxy.raw();
        run(&mut lazy, "BEGIN");
        if begun {
            run(&mut lazy, "INSERT INTO tenants VALUES (5, 'never')");
        }
        let since = Instant::now();
        let told = lazy.until_ready();
        assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
        let error = told.iter().find(|m| m.tag == b'E').unwrap_or_else(|| panic!("{told:?}"));
        assert_eq!((field(error, b'S'), field(error, b'C')), ("FATAL".into(), "25P03".into()));
    }
    run(&mut idler, "SELECT 1");
    assert_eq!(rows(&run(&mut idler, "SELECT id FROM tenants WHERE id = 5")).len(), 0);
}

#[tokio::test]
async fn a_cancelled_statement_costs_no_connection() {
    let (shards, proxy) = serve(3, ONE).await;
    shards.run_on_all("INSERT INTO tenants VALUES (1, 'x')").await;
    let mut client = proxy.raw();
    let before = backend(&mut client, "deu");
    let sleep = "/* pgmeridian: shard=deu */ SELECT pg_sleep(100)";
    for sql in [sleep, "SELECT slow(), id FROM tenants"] {
        client.send(&query(sql));
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.cancel();
        let answer = client.until_ready();
        assert_eq!(sqlstate(&answer), "57014");
        assert_eq!(backend(&mut client, "deu"), before, "{sql}");
    }
    // A cancel that comes when all is over hits nobody.
    let mut other = proxy.raw();
    for _ in 0..50 {
        run(&mut client, "SELECT 1");
        client.cancel();
        run(&mut other, "SELECT 1");
    }
    // Data on its way in or out.
    client.send(&query("/* pgmeridian: shard=deu */ COPY plans FROM STDIN"));
    assert_eq!(client.receive().unwrap().tag, b'G');
    client.cancel();
    // PostgreSQL only looks for it when data comes.
    client.send(&frame(b'd', b"8\tnever\n"));
    assert_eq!(sqlstate(&client.until_ready()), "57014");
    client.send(&frame(b'c', b""));
    let many = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 10000000)) TO STDOUT";
    client.send(&query(&format!("/* pgmeridian: shard=deu */ {many}")));
    assert_eq!(client.receive().unwrap().tag, b'H');
    client.cancel();
    let answer = client.until_ready();
    assert_eq!((sqlstate(&answer).as_str(), answer.last().unwrap().tag), ("57014", b'Z'));
    run(&mut client, "SELECT 1");
}

/// Who has notified.
fn notifier(message: &Message) -> Option<i32> {
    let pid = message.body.first_chunk::<4>().filter(|_| message.tag == b'A')?;
    Some(i32::from_be_bytes(*pid))
}

/// A client's own notifications come from the process that it knows as its own, others' do not.
#[tokio::test]
async fn a_clients_own_notifications_look_like_its_own() {
    let (shards, proxy) = serve(3, "[pool]\nsize = 2\nreserve = 0\n").await;
    let (mut a, told) = Raw::log_in(proxy.address, &BOT);
    let key = told.iter().find(|message| message.tag == b'K').unwrap();
    let own = i32::from_be_bytes(*key.body.first_chunk().unwrap());
    let heard = |client: &mut Raw, answer: &[Message]| {
        answer.iter().find_map(notifier).unwrap_or_else(|| {
            notifier(&client.receive_within(Duration::from_secs(5)).unwrap()).unwrap()
        })
    };
    run(&mut a, "LISTEN news");
    let answer = run(&mut a, "NOTIFY news, 'mine'");
    assert_eq!(heard(&mut a, &answer), own);
    let answer = run(&mut a, "SELECT pg_notify('news', 'mine too')");
    assert_eq!(heard(&mut a, &answer), own);
    // With the end of a transaction that has read on several shards.
    run(&mut a, "BEGIN");
    run(&mut a, "NOTIFY news, 'mine'");
    run(&mut a, "SELECT name FROM tenants WHERE id = 1");
    run(&mut a, "SELECT name FROM tenants WHERE id = 2");
    run(&mut a, "SELECT name FROM tenants WHERE id = 3");
    let answer = run(&mut a, "COMMIT");
    assert_eq!(heard(&mut a, &answer), own);
    let direct = shards.direct("usa-east").await;
    direct.batch_execute("NOTIFY news").await.unwrap();
    assert_ne!(heard(&mut a, &[]), own);
    let mut b = proxy.raw();
    run(&mut b, "NOTIFY news");
    assert_ne!(heard(&mut a, &[]), own);
}

/// The channel and payload of a notification.
fn notification(message: &Message) -> Option<(String, String)> {
    let rest = message.body.get(4..).filter(|_| message.tag == b'A')?;
    let mut parts = rest.split(|byte| *byte == 0);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    Some((text(), text()))
}

#[tokio::test]
async fn notifications_reach_who_listens_and_nobody_else() {
    let (shards, proxy) = serve(3, "[pool]\nsize = 2\nreserve = 0\n").await;
    let (mut a, mut b) = (proxy.raw(), proxy.raw());
    let heard = |client: &mut Raw| {
        let message = client.receive_within(Duration::from_secs(5)).unwrap();
        notification(&message).unwrap_or_else(|| panic!("{message:?}"))
    };
    let silent = |client: &mut Raw| {
        assert!(client.receive_within(Duration::from_millis(150)).is_err());
    };
    run(&mut a, "LISTEN news");
    run(&mut b, "NOTIFY news, 'one'");
    assert_eq!(heard(&mut a), ("news".into(), "one".into()));
    // Another way in, and from inside a transaction.
    shards.direct("usa-east").await.batch_execute("NOTIFY news, 'two'").await.unwrap();
    assert_eq!(heard(&mut a), ("news".into(), "two".into()));
    run(&mut b, "BEGIN");
    run(&mut b, "NOTIFY news, 'three'");
    silent(&mut a);
    run(&mut b, "COMMIT");
    assert_eq!(heard(&mut a), ("news".into(), "three".into()));
    // Its own, with the answer.
    let answer = run(&mut a, "NOTIFY news, 'mine'");
    let own = answer.iter().find_map(notification).unwrap_or_else(|| heard(&mut a));
    assert_eq!(own, ("news".into(), "mine".into()));
    // While it works on another shard.
    run(&mut b, "NOTIFY news, 'four'");
    run(&mut a, "INSERT INTO tenants VALUES (1, 'x'), (4, 'x')");
    silent(&mut b);
    // LISTEN takes effect with COMMIT, and not with ROLLBACK.
    run(&mut b, "BEGIN");
    run(&mut b, "LISTEN other");
    run(&mut b, "ROLLBACK");
    run(&mut a, "NOTIFY other, 'never'");
    silent(&mut b);
    run(&mut b, "BEGIN");
    run(&mut b, "LISTEN other");
    run(&mut b, "COMMIT");
    run(&mut a, "NOTIFY other, 'now'");
    assert_eq!(heard(&mut b), ("other".into(), "now".into()));
    // Who has stopped listening hears nothing, nor does who gets the connection next.
    run(&mut a, "UNLISTEN *");
    run(&mut b, "UNLISTEN other");
    let mut c = proxy.raw();
    run(&mut c, "NOTIFY news, 'never'");
    run(&mut c, "NOTIFY other, 'never'");
    for client in [&mut a, &mut b, &mut c] {
        run(client, "SELECT 1");
        silent(client);
    }
}

#[tokio::test]
async fn a_listener_is_told_how_its_connection_ended() {
    let (shards, proxy) = serve(1, "").await;
    let mut client = proxy.raw();
    run(&mut client, "LISTEN news");
    let pid = backend(&mut client, "usa-east");
    let direct = shards.direct("usa-east").await;
    direct.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).await.unwrap();
    let told = client.until_ready();
    let error = told.iter().find(|m| m.tag == b'E').unwrap_or_else(|| panic!("{told:?}"));
    assert_eq!(field(error, b'C'), "57P01");
    assert_eq!(field(error, b'M'), "terminating connection due to administrator command");
}

/// Tables that code of users' runs for without a trigger of their own.
const HIDDEN_CODE: &str = "
    CREATE FUNCTION marks(n int) RETURNS int LANGUAGE plpgsql
        AS $$ BEGIN PERFORM set_config('app.x', 'marked', false); RETURN n; END $$;
    CREATE FUNCTION marks() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN PERFORM marks(1); RETURN NULL; END $$;
    CREATE TABLE by_default (a int, b int DEFAULT marks(1));
    CREATE TABLE by_check (a int CHECK (marks(a) > 0));
    CREATE DOMAIN marked AS int CHECK (marks(VALUE) > 0);
    CREATE TABLE by_domain (a marked);
    CREATE TABLE by_partition (a int) PARTITION BY LIST (a);
    CREATE TABLE by_partition_1 PARTITION OF by_partition FOR VALUES IN (1);
    CREATE TRIGGER t AFTER INSERT ON by_partition_1 FOR EACH ROW EXECUTE FUNCTION marks();
    CREATE TABLE by_cascade (a int PRIMARY KEY);
    CREATE TABLE child (a int REFERENCES by_cascade ON DELETE CASCADE);
    CREATE TRIGGER t AFTER DELETE ON child FOR EACH ROW EXECUTE FUNCTION marks();
    INSERT INTO by_cascade VALUES (1);
    INSERT INTO child VALUES (1);";

#[tokio::test]
async fn a_connection_goes_back_when_it_is_no_longer_needed() {
    let (shards, proxy) = serve(1, ONE).await;
    let lone = "CREATE TABLE lone (a int); CREATE FUNCTION leaves() RETURNS boolean LANGUAGE sql \
                AS $$SELECT set_config('app.x', 'y', false) = 'y'$$";
    shards.run_on_all(&format!("CREATE SEQUENCE s; {lone}; {HIDDEN_CODE}")).await;
    let mut a = proxy.raw();
    // Each ends what it has begun: the other client gets the only connection.
    let stories: [&[&str]; 8] = [
        &["SELECT pg_advisory_lock(5)", "SELECT pg_advisory_unlock(5)"],
        &[
            "SELECT pg_advisory_lock(5)",
            "SELECT pg_advisory_lock(5)",
            "SELECT pg_advisory_unlock(5)",
            "SELECT pg_advisory_unlock_all()",
        ],
        &["CREATE TEMP TABLE t (a int)", "SELECT * FROM pg_temp.t", "DROP TABLE t"],
        &["CREATE TEMP TABLE t (a int)", "DISCARD TEMP"],
        &["BEGIN", "CREATE TEMP TABLE t (a int) ON COMMIT DROP", "COMMIT"],
        &["BEGIN", "CREATE TEMP TABLE t (a int)", "ROLLBACK"],
        &["BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "COMMIT", "FETCH c", "CLOSE c"],
        &["LISTEN x", "UNLISTEN *"],
    ];
    let mut b = proxy.raw();
    for story in stories {
        for sql in story {
            run(&mut a, sql);
        }
        let answer = b.query("SELECT pg_backend_pid()");
        if !sqlstate(&answer).is_empty() {
            let metrics = http_get(&proxy).await;
            let pins: Vec<&str> = metrics.lines().filter(|l| l.contains("pins_total")).collect();
            panic!("{story:?}: {pins:?}");
        }
    }
    // A text that can't be read leaves nothing; code that fails may have.
    assert_eq!(sqlstate(&a.query("SELEC 1")), "42601");
    assert_eq!(sqlstate(&b.query("SELECT pg_backend_pid()")), "");
    let code = "DO $$ BEGIN PERFORM pg_advisory_lock(6); EXECUTE 'SELEC'; END $$";
    assert_eq!(sqlstate(&a.query(code)), "42601");
    b.send(&query("SELECT pg_backend_pid()"));
    assert!(b.receive_within(Duration::from_millis(300)).is_err());
    run(&mut a, "DISCARD ALL");
    assert_eq!(sqlstate(&b.until_ready()), "");
    // What is not ended stays.
    let keeps = [
        "SELECT pg_advisory_lock(5)",
        "CREATE TEMP TABLE t (a int)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "LISTEN x",
        "SELECT nextval('s')",
    ];
    for sql in keeps {
        run(&mut a, sql);
        let pid = backend(&mut a, "usa-east");
        b.send(&query("SELECT pg_backend_pid()"));
        assert!(b.receive_within(Duration::from_millis(300)).is_err(), "{sql}");
        assert_eq!(backend(&mut a, "usa-east"), pid, "{sql}");
        run(&mut a, "DISCARD ALL");
        assert_eq!(sqlstate(&b.until_ready()), "", "{sql}");
    }
    // So does what runs code that no statement names.
    for sql in [
        "INSERT INTO by_default (a) VALUES (1)",
        "INSERT INTO by_check VALUES (1)",
        "INSERT INTO by_domain VALUES (1)",
        "INSERT INTO by_partition VALUES (1)",
        "DELETE FROM by_cascade",
    ] {
        run(&mut a, sql);
        b.send(&query("SELECT coalesce(current_setting('app.x', true), '')"));
        assert!(b.receive_within(Duration::from_millis(50)).is_err(), "{sql}");
        run(&mut a, "DISCARD ALL");
        assert_eq!(value(&b.until_ready()), "", "{sql}");
    }
    // And COPY's own condition.
    a.send(&query("COPY lone FROM STDIN WHERE leaves()"));
    a.send(&[frame(b'd', b"1\n"), frame(b'c', b"")].concat());
    assert_eq!(sqlstate(&a.until_ready()), "");
    b.send(&query("SELECT coalesce(current_setting('app.x', true), '')"));
    assert!(b.receive_within(Duration::from_millis(50)).is_err(), "COPY");
    run(&mut a, "DISCARD ALL");
    assert_eq!(value(&b.until_ready()), "", "COPY");
    // Who leaves takes everything along, and leaves the connection.
    let mut before = String::new();
    for sql in keeps {
        let mut leaver = proxy.raw();
        run(&mut leaver, sql);
        before = backend(&mut leaver, "usa-east");
        drop(leaver);
        let answer = run(&mut b, "SELECT pg_try_advisory_xact_lock(5)");
        assert_eq!(value(&answer), "t");
        let hidden = run(&mut b, "SELECT coalesce(current_setting('app.x', true), '')");
        assert_eq!(value(&hidden), "");
        assert_eq!(sqlstate(&b.query("SELECT * FROM t")), "42P01");
        assert_eq!(rows(&run(&mut b, "SELECT * FROM pg_cursors")).len(), 0);
    }
    assert_eq!(backend(&mut b, "usa-east"), before);
    let metrics = http_get(&proxy).await;
    assert!(metrics.contains("pgmeridian_pins_total{reason=\"advisory lock\"}"), "{metrics}");
}

async fn http_get(proxy: &Proxy) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(proxy.http).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn pooling_by_session_and_by_statement() {
    let shards = Shards::databases(1);
    shards.run_on_all(TABLES).await;
    shards.run_on_all("CREATE SEQUENCE s").await;
    let serve = async |mode: &str| {
        let pool = "size = 1\nreserve = 0\nwait_timeout = \"5s\"\n";
        let config = format!("{TRUST}[pool]\nmode = \"{mode}\"\n{pool}");
        let proxy = Proxy::start_with(&shards, &shards.map_by_hash(REST), &config).await;
        // The client that has waited until it was ready takes its leave.
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy
    };
    let proxy = serve("session").await;
    let mut a = proxy.raw();
    let pid = value(&run(&mut a, "SELECT pg_backend_pid()"));
    run(&mut a, "SELECT set_config('app.x', 'y', false)");
    run(&mut a, "SET work_mem TO '5MB'");
    run(&mut a, "SELECT nextval('s')");
    assert_eq!(value(&run(&mut a, "SELECT currval('s')")), "1");
    assert_eq!(value(&run(&mut a, "SELECT lastval()")), "1");
    run(&mut a, "PREPARE p AS SELECT 5");
    let waits = std::thread::spawn({
        let address = proxy.address;
        move || {
            let (mut b, _) = Raw::log_in(address, &BOT);
            let hidden = "SELECT coalesce(current_setting('app.x', true), '') || current_setting('work_mem')";
            (value(&b.query("SELECT pg_backend_pid()")), value(&b.query(hidden)))
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waits.is_finished(), "the session keeps its connection");
    assert_eq!(value(&run(&mut a, "SELECT pg_backend_pid()")), pid);
    drop(a);
    assert_eq!(waits.join().unwrap(), (pid, "4MB".to_owned()));
    drop(proxy);

    let proxy = serve("statement").await;
    let mut a = proxy.raw();
    for sql in ["BEGIN", "START TRANSACTION", "SELECT 1; BEGIN; SELECT 2"] {
        let answer = a.query(sql);
        let error = answer.iter().find(|m| m.tag == b'E').unwrap_or_else(|| panic!("{sql}"));
        assert_eq!(field(error, b'M'), "transaction blocks not allowed in statement pooling mode");
        assert_eq!(answer.last().unwrap().body, b"I");
    }
    run(&mut a, "INSERT INTO tenants VALUES (1, 'x')");
}

const SESSIONS: &str = "[sessions]\nkey = \"tenant\"\nkey_setting = \"app.tenant_id\"\n";

/// A map with a session's key, users who are confined to one, and a row for each of the tenants 1 to 4.
async fn serve_keys() -> (Shards, Proxy) {
    let shards = Shards::databases(2);
    shards.run_on_all(TABLES).await;
    let grants = "CREATE ROLE two LOGIN PASSWORD 'two' IN ROLE bot";
    shards.first().execute("postgres", grants).await.unwrap();
    let config = format!(
        "{TRUST}[[users]]\nname = \"bot\"\npassword = \"bot\"\nhints = true\n\
         [[users]]\nname = \"two\"\npassword = \"two\"\nkey = \"2\"\nhints = true\n"
    );
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(SESSIONS), &config).await;
    let mut client = proxy.raw();
    for tenant in 1..=4 {
        run(&mut client, &format!("INSERT INTO notes VALUES (1, {tenant}, 'of {tenant}')"));
    }
    (shards, proxy)
}

/// The tenants that a session sees, what it takes for its key, and what its server does.
fn sees(client: &mut Raw) -> (String, String, String) {
    let found = rows(&run(client, "SELECT tenant_id FROM notes ORDER BY 1"));
    let tenants: Vec<String> = found.into_iter().flatten().flatten().collect();
    let key = value(&run(client, "SHOW app.tenant_id"));
    let told = run(client, "SELECT coalesce(current_setting('app.tenant_id', true), '')");
    (tenants.join(" "), key, value(&told))
}

fn all_of(key: &str) -> (String, String, String) {
    let tenants = if key.is_empty() { "1 2 3 4" } else { key };
    (tenants.to_owned(), key.to_owned(), key.to_owned())
}

/// A session's key is a setting like any other: ROLLBACK takes it back, RESET goes back to where the session
/// began, and the servers know of it.
#[tokio::test]
async fn a_sessions_key_is_a_setting_like_any_other() {
    let (_shards, proxy) = serve_keys().await;
    let mut client = proxy.raw();
    assert_eq!(sees(&mut client), all_of(""));
    run(&mut client, "SET app.tenant_id = '3'");
    assert_eq!(sees(&mut client), all_of("3"));
    // In a transaction, before and behind its first statement.
    run(&mut client, "BEGIN; SET LOCAL app.tenant_id = '4'");
    assert_eq!(sees(&mut client), all_of("4"));
    run(&mut client, "COMMIT");
    assert_eq!(sees(&mut client), all_of("3"));
    run(&mut client, "BEGIN");
    assert_eq!(sees(&mut client), all_of("3"));
    run(&mut client, "SAVEPOINT a");
    run(&mut client, "SET app.tenant_id = '1'");
    assert_eq!(sees(&mut client), all_of("1"));
    run(&mut client, "ROLLBACK TO a");
    assert_eq!(sees(&mut client), all_of("3"));
    run(&mut client, "SET app.tenant_id = '1'");
    assert_eq!(sees(&mut client), all_of("1"));
    run(&mut client, "ROLLBACK");
    assert_eq!(sees(&mut client), all_of("3"));
    // Set at last, told to nobody: the connection goes back without it.
    run(&mut client, "BEGIN");
    assert_eq!(sees(&mut client), all_of("3"));
    run(&mut client, "SET app.tenant_id = '1'");
    run(&mut client, "COMMIT");
    let mut other = proxy.raw();
    assert_eq!(sees(&mut other), all_of(""));
    assert_eq!(sees(&mut client), all_of("1"));
    // A connection of its own is told as well.
    run(&mut client, "LISTEN x");
    run(&mut client, "SET app.tenant_id = '3'");
    assert_eq!(sees(&mut client), all_of("3"));
    run(&mut client, "UNLISTEN x");
    for reset in ["RESET app.tenant_id", "SET app.tenant_id = '1'; RESET ALL", "DISCARD ALL"] {
        run(&mut client, reset);
        assert_eq!(sees(&mut client), all_of(""), "{reset}");
        run(&mut client, "SET pgmeridian.shard = 'usa-west'");
        run(&mut client, "SET app.tenant_id = '3'");
        assert_eq!(sees(&mut client), all_of("3"));
        run(&mut client, "RESET pgmeridian.shard");
    }
    let refused = |client: &mut Raw, sql: &str| sqlstate(&client.query(sql));
    assert_eq!(refused(&mut client, "SET LOCAL app.tenant_id = '3'"), "25P01");
    assert_eq!(refused(&mut client, "SET app.tenant_id = 'x'"), "22023");
    assert_eq!(refused(&mut client, "SET app.tenant_id = 1, 2"), "22023");
    assert_eq!(sees(&mut client), all_of("3"));

    // What the session began with is what it goes back to.
    let (mut client, _) = Raw::log_in(
        proxy.address,
        &[BOT[0], BOT[1], ("options", "-c app.tenant_id=2 -c pgmeridian.region=USA")],
    );
    for reset in ["RESET app.tenant_id", "RESET ALL", "DISCARD ALL", "SET app.tenant_id TO DEFAULT"]
    {
        assert_eq!(sees(&mut client), all_of("2"));
        run(&mut client, "SET app.tenant_id = '3'");
        assert_eq!(sees(&mut client), all_of("3"));
        run(&mut client, reset);
    }
    assert_eq!(sees(&mut client), all_of("2"));
    for options in ["-c app.tenant_id=x", "-c pgmeridian.shard=nowhere"] {
        let (_, told) = Raw::log_in(proxy.address, &[BOT[0], BOT[1], ("options", options)]);
        assert_eq!(sqlstate(&told), "22023", "{options}");
    }
}

/// `SELECT set_config` of the map's `key_setting` is SET by another name, in both protocols.
#[tokio::test]
async fn a_sessions_key_is_set_by_set_config_too() {
    let (_shards, proxy) = serve_keys().await;
    let mut client = proxy.raw();
    let answer = run(&mut client, "SELECT set_config('app.tenant_id', '3', false)");
    assert_eq!(value(&answer), "3");
    assert_eq!(sees(&mut client), all_of("3"));
    // For a transaction, which then goes to the shard of the key, whichever it is.
    for tenant in ["1", "2", "3", "4"] {
        run(&mut client, "BEGIN");
        run(&mut client, &format!("SELECT set_config('app.tenant_id', '{tenant}', true) AS it"));
        assert_eq!(sees(&mut client), all_of(tenant));
        run(&mut client, "UPDATE notes SET body = body");
        run(&mut client, "COMMIT");
        assert_eq!(sees(&mut client), all_of("3"));
    }
    // Beside settings of the application's own, and as SQL's EXECUTE.
    run(&mut client, "BEGIN");
    let both =
        "SELECT set_config('app.tenant_id', '4', true), set_config('app.user', 'u''u', true)";
    assert_eq!(rows(&run(&mut client, both)), [[Some("4".to_owned()), Some("u'u".to_owned())]]);
    assert_eq!(sees(&mut client), all_of("4"));
    assert_eq!(value(&run(&mut client, "SELECT current_setting('app.user')")), "u'u");
    run(&mut client, "ROLLBACK");
    assert_eq!(sees(&mut client), all_of("3"));
    run(&mut client, "PREPARE k AS SELECT set_config('app.tenant_id', $1, $2)");
    assert_eq!(sqlstate(&client.query("EXECUTE k ('1', false)")), "0A000");
    run(&mut client, "PREPARE l AS SELECT set_config('app.tenant_id', $1, false)");
    assert_eq!(value(&run(&mut client, "EXECUTE l ('1')")), "1");
    assert_eq!(sees(&mut client), all_of("1"));
    // In a string.
    run(
        &mut client,
        "BEGIN; SELECT set_config('app.tenant_id', '2', true); UPDATE notes SET body = 'seen'; COMMIT",
    );
    assert_eq!(sees(&mut client), all_of("1"));
    run(&mut client, "SET app.tenant_id = '2'");
    assert_eq!(value(&run(&mut client, "SELECT string_agg(body, ' ') FROM notes")), "seen");

    let refused = |client: &mut Raw, sql: &str| sqlstate(&client.query(sql));
    for (sql, code) in [
        ("SELECT set_config('app.tenant_id', '3', true)", "25P01"),
        ("SELECT set_config('app.tenant_id', 'x', false)", "22023"),
        ("SELECT set_config('app.tenant_id', upper('3'), false)", "0A000"),
        (
            "SELECT set_config('app.tenant_id', '3', false), set_config('role', 'bot', false)",
            "0A000",
        ),
        ("SELECT set_config('app.tenant_id', '3', false) FROM notes", "0A000"),
        ("SELECT set_config('app.tenant_id', '3', false), 1", "0A000"),
        ("EXPLAIN ANALYZE SELECT set_config('app.tenant_id', '3', false)", "0A000"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT set_config('app.tenant_id', '3', false)", "0A000"),
        ("CREATE TEMP TABLE x AS SELECT set_config('app.tenant_id', '3', false)", "0A000"),
        ("CREATE TEMP TABLE x AS EXECUTE l ('3')", "0A000"),
        ("SELECT set_config('app.tenant_id', '3', true); SELECT count(*) FROM notes", "0A000"),
    ] {
        assert_eq!(refused(&mut client, sql), code, "{sql}");
        assert_eq!(sees(&mut client), all_of("2"), "{sql}");
    }

    // A driver's parameters.
    let mut client = support::connect(&proxy.url()).await.unwrap();
    for tenant in ["1", "2", "3", "4"] {
        let transaction = client.transaction().await.unwrap();
        let set = "SELECT set_config('app.tenant_id', $1, true)";
        let row = transaction.query_one(set, &[&tenant]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), tenant);
        let row = transaction.query_one("SELECT min(tenant_id), count(*) FROM notes", &[]).await;
        let row = row.unwrap();
        assert_eq!((row.get::<_, i64>(0).to_string().as_str(), row.get::<_, i64>(1)), (tenant, 1));
        transaction.commit().await.unwrap();
    }
    let row = client.query_one("SELECT count(*) FROM notes", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 4);
}

/// Statements of the extended protocol, before one Sync.
fn pipeline(client: &mut Raw, statements: &[&str]) -> Vec<Message> {
    for sql in statements {
        client.send(&frame(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat()));
        client.send(&frame(b'B', &[0; 8]));
        client.send(&frame(b'E', &[0; 5]));
    }
    client.send(&frame(b'S', b""));
    client.until_ready()
}

/// What comes behind the end of a transaction in one pipeline does not go with the transaction.
#[tokio::test]
async fn a_key_behind_the_end_of_a_transaction_stays() {
    let (_shards, proxy) = serve_keys().await;
    let mut client = proxy.raw();
    for (end, key) in [("ROLLBACK", "3"), ("COMMIT", "4"), ("ROLLBACK", "2")] {
        run(&mut client, "RESET app.tenant_id");
        run(&mut client, "BEGIN");
        run(&mut client, "SET app.tenant_id = '1'");
        assert_eq!(sees(&mut client), all_of("1"));
        let answer = pipeline(&mut client, &[end, &format!("SET app.tenant_id = '{key}'")]);
        assert_eq!(sqlstate(&answer), "", "{end}");
        assert_eq!(sees(&mut client), all_of(key), "{end}");
    }
    run(&mut client, "BEGIN");
    assert_eq!(sees(&mut client), all_of("2"));
    let answer = pipeline(&mut client, &["ROLLBACK", "RESET app.tenant_id"]);
    assert_eq!(sqlstate(&answer), "");
    assert_eq!(sees(&mut client), all_of(""));
}

/// A user of one key meets nobody else's rows, however it asks.
#[tokio::test]
async fn a_confined_user_is_refused_by_privilege() {
    let (_shards, proxy) = serve_keys().await;
    let two = [("user", "two"), ("database", "bots")];
    let (mut client, told) = Raw::log_in(proxy.address, &two);
    assert_eq!(sqlstate(&told), "", "{told:?}");
    assert_eq!(sees(&mut client), all_of("2"));
    let refused = [
        "SELECT * FROM notes WHERE tenant_id = 3",
        "INSERT INTO notes VALUES (2, 3, 'x')",
        "COPY notes FROM STDIN",
        "COPY notes TO STDOUT",
        "SELECT slow()",
        "SELECT (SELECT body FROM notes WHERE tenant_id = 3)",
        "DECLARE c CURSOR FOR SELECT * FROM notes WHERE tenant_id = 3",
        "PREPARE p AS SELECT * FROM notes WHERE tenant_id = 3; EXECUTE p",
        "/* pgmeridian: key=3 */ SELECT * FROM notes",
        "/* pgmeridian: shard=usa-west */ SELECT * FROM notes",
        "SET pgmeridian.key = '3'",
        "SET app.tenant_id = '3'",
        "SELECT set_config('app.tenant_id', '3', false)",
        "SET pgmeridian.shard = 'usa-east'",
        "SET pgmeridian.shard = '*'",
        "TRUNCATE notes",
        "DROP TABLE notes",
    ];
    for sql in refused {
        assert_eq!(sqlstate(&client.query(sql)), "42501", "{sql}");
    }
    // Its own key it may name.
    run(&mut client, "SET app.tenant_id = '2'");
    run(&mut client, "PREPARE q AS SELECT body FROM notes WHERE tenant_id = $1");
    assert_eq!(value(&run(&mut client, "EXECUTE q (2)")), "of 2");
    assert_eq!(sqlstate(&client.query("EXECUTE q (3)")), "42501");
    run(&mut client, "RESET app.tenant_id");
    run(&mut client, "DISCARD ALL");
    assert_eq!(sees(&mut client), all_of("2"));
    for (options, code) in [("-c app.tenant_id=3", "42501"), ("-c app.tenant_id=2", "")] {
        let (_, told) = Raw::log_in(proxy.address, &[two[0], two[1], ("options", options)]);
        assert_eq!(sqlstate(&told), code, "{options}");
    }
    // With binary parameters, and a key that is filled in.
    let url = proxy.url().replacen("bot:bot", "two:two", 1);
    let client = support::connect(&url).await.unwrap();
    let error =
        client.query("SELECT body FROM notes WHERE tenant_id = $1", &[&3_i64]).await.unwrap_err();
    assert_eq!(support::said(&error).0, "42501");
    let insert = "INSERT INTO notes (id, body) VALUES ($1, $2) RETURNING tenant_id";
    let statement = client.prepare(insert).await.unwrap();
    for id in [10_i64, 11] {
        let row = client.query_one(&statement, &[&id, &"filled"]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 2);
    }
    let insert = "INSERT INTO notes (id, tenant_id) VALUES ($1, $2)";
    let error = client.execute(insert, &[&1_i64, &3_i64]).await.unwrap_err();
    assert_eq!(support::said(&error).0, "42501");
}

/// What a policy of residency keeps apart is read together by who may, and each time is in the log.
#[tokio::test]
async fn regions_are_crossed_by_right_and_on_record() {
    let shards = Shards::databases(3);
    shards.run_on_all(TABLES).await;
    let role = "CREATE ROLE auditor LOGIN PASSWORD 'auditor' IN ROLE bot";
    shards.first().execute("postgres", role).await.unwrap();
    let config = format!(
        "{TRUST}[log]\nlevel = \"warn\"\n[[users]]\nname = \"bot\"\npassword = \"bot\"\n\
         [[users]]\nname = \"auditor\"\npassword = \"auditor\"\nacross_regions = true\n"
    );
    let map = shards.map_by_hash("[policy]\nresidency = { DEU = [\"DEU\"] }\n");
    let proxy = Proxy::start_with(&shards, &map, &config).await;
    let mut client = proxy.raw();
    for tenant in 3..=5 {
        run(&mut client, &format!("INSERT INTO notes VALUES ({tenant}, {tenant}, 'x')"));
    }
    let (mut auditor, _) = Raw::log_in(proxy.address, &[("user", "auditor"), ("database", "bots")]);
    let uses = || proxy.log().matches("rows of a fenced region are read together").count();
    let together =
        ["SELECT count(*) FROM notes", "SELECT id FROM notes", "SELECT id FROM notes ORDER BY id"];
    for (n, sql) in together.into_iter().enumerate() {
        assert_eq!(sqlstate(&client.query(sql)), "0A000", "{sql}");
        run(&mut auditor, sql);
        assert_eq!(uses(), n + 1, "{sql}: {}", proxy.log());
    }
    let apart = [
        "SELECT id FROM notes WHERE tenant_id IN (3, 4)",
        "SELECT id FROM notes WHERE tenant_id = 5",
    ];
    for sql in apart {
        run(&mut client, sql);
        run(&mut auditor, sql);
    }
    let (statement, uses_before) = ("SELECT id FROM notes WHERE tenant_id > $1", uses());
    let url = proxy.url().replacen("bot:bot", "auditor:auditor", 1);
    let driver = support::connect(&url).await.unwrap();
    assert_eq!(driver.query(statement, &[&0_i64]).await.unwrap().len(), 3);
    assert_eq!(uses(), uses_before + 1);
    let log = proxy.log();
    for told in ["auditor", "DEU", "USA", "notes"] {
        assert!(log.lines().any(|l| l.contains("fenced region") && l.contains(told)), "{log}");
    }
}

#[tokio::test]
async fn what_comes_before_a_refused_statement_of_a_string_is_answered_and_taken_back() {
    let (_shards, proxy) = serve(2, ONE).await;
    let mut client = proxy.raw();
    let mut check = |sql: &str, expect: &str, state: &str, status: u8| {
        let answer = client.query(sql);
        let tags: String = answer.iter().map(|message| char::from(message.tag)).collect();
        assert_eq!((tags.as_str(), sqlstate(&answer).as_str()), (expect, state), "{sql}");
        assert_eq!(answer.last().unwrap().body, [status], "{sql}");
        if status != b'I' {
            run(&mut client, "ROLLBACK");
        }
        let left = value(&run(&mut client, "SELECT count(*) FROM tenants WHERE id = 1"));
        assert_eq!(left, "0", "{sql}");
    };
    let one = "INSERT INTO tenants VALUES (1, 'x')";
    let refused = "DELETE FROM notes";
    check(&format!("SELECT 1; {refused}; SELECT 2"), "TDCEZ", "0A000", b'I');
    check(&format!("{one}; {refused}"), "CEZ", "0A000", b'I');
    let read = "SELECT name FROM tenants WHERE id = 1";
    check(&format!("SELECT 1; {one}; {read}; {refused}; SELECT 2"), "TDCCTDCEZ", "0A000", b'I');
    check(&format!("{one}; {one}; {refused}"), "CEZ", "23505", b'I');
    check(&format!("BEGIN; {one}; {refused}; COMMIT"), "CCEZ", "0A000", b'E');
    check(&format!("{refused}; {one}"), "EZ", "0A000", b'I');
    check(&format!("SELECT 1; SELEC; {refused}"), "EZ", "42601", b'I');
    // The refusal's place is in the string.
    let answer = client.query("SELECT 1; SELECT * FROM tenants WHERE id = 'x'; SELECT 2");
    assert_eq!((sqlstate(&answer).as_str(), answer[0].tag), ("22P02", b'T'), "{answer:?}");
    let error = answer.iter().find(|message| message.tag == b'E').unwrap();
    assert_eq!(field(error, b'P'), "44");
}

#[tokio::test]
async fn what_is_written_through_a_view_goes_where_the_table_has_it() {
    let shards = Shards::databases(3);
    shards.run_on_all(TABLES).await;
    shards
        .run_on_all(
            "CREATE VIEW named (label, tenant) AS SELECT name, id FROM tenants WHERE name <> 'hidden';
             CREATE VIEW counted AS SELECT tenant_id, count(*) AS n FROM notes GROUP BY tenant_id;
             CREATE VIEW diverted AS SELECT id, name FROM tenants;
             CREATE FUNCTION divert() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER divert INSTEAD OF UPDATE ON diverted FOR EACH ROW EXECUTE FUNCTION divert();",
        )
        .await;
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(REST), TRUST).await;
    let mut client = proxy.raw();
    for id in 1..=9 {
        let sql = format!("INSERT INTO named (tenant, label) VALUES ({id}, 'x') RETURNING tenant");
        assert_eq!(value(&run(&mut client, &sql)), id.to_string());
    }
    run(&mut client, "INSERT INTO named VALUES ('hidden', 10)");
    for (sql, tag) in [
        ("UPDATE named SET label = 'y' WHERE tenant = 4", "UPDATE 1"),
        (
            "UPDATE named n SET label = label || t.name FROM tenants t WHERE t.id = n.tenant AND n.tenant = 4",
            "UPDATE 1",
        ),
        ("UPDATE named SET label = 'seen' WHERE tenant = 10", "UPDATE 0"),
        ("DELETE FROM named WHERE tenant = 5 RETURNING label", "DELETE 1"),
    ] {
        let answer = run(&mut client, sql);
        let complete = answer.iter().find(|message| message.tag == b'C').unwrap();
        assert_eq!(String::from_utf8_lossy(&complete.body).trim_end_matches('\0'), tag, "{sql}");
    }
    assert_eq!(value(&run(&mut client, "SELECT name FROM tenants WHERE id = 4")), "yy");
    assert_eq!(value(&run(&mut client, "SELECT count(*) FROM tenants")), "9");
    for sql in [
        "UPDATE named SET label = 'z'",
        "UPDATE named SET tenant = 7 WHERE tenant = 4",
        "UPDATE diverted SET name = 'z' WHERE id = 4",
    ] {
        assert_eq!(sqlstate(&client.query(sql)), "0A000", "{sql}");
    }
    // What PostgreSQL would not write either, it says itself.
    assert_eq!(sqlstate(&client.query("DELETE FROM counted WHERE tenant_id = 4")), "55000");
    assert_eq!(sqlstate(&client.query("INSERT INTO named (label) VALUES ('x')")), "23502");
    // Each row is where it is looked for.
    for id in [1, 2, 3, 4, 6, 7, 8, 9, 10] {
        let sql = format!("SELECT count(*) FROM tenants WHERE id = {id}");
        assert_eq!(value(&run(&mut client, &sql)), "1", "{id}");
    }
}

#[tokio::test]
async fn a_table_that_was_made_past_the_proxy_is_looked_up_before_it_is_written() {
    let (shards, proxy) = serve(3, "").await;
    let mut client = proxy.raw();
    run(&mut client, "SELECT count(*) FROM tenants");
    shards.run_on_all("CREATE TABLE late (tenant_id bigint NOT NULL, body text)").await;
    for id in 1..=6 {
        run(&mut client, &format!("INSERT INTO late VALUES ({id}, 'x')"));
    }
    for name in shards.names() {
        let direct = shards.direct(name).await;
        let row = direct.query_one("SELECT count(*) FROM late", &[]).await.unwrap();
        assert!(row.get::<_, i64>(0) < 6, "{name} has all of them");
    }
    for id in 1..=6 {
        let sql = format!("SELECT count(*) FROM late WHERE tenant_id = {id}");
        assert_eq!(value(&run(&mut client, &sql)), "1", "{id}");
    }
}
