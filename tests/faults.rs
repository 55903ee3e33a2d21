//! What goes wrong between two well-behaved ends: clients that break the protocol or vanish, shards that
//! die, limits that are reached, signals. The one rule: what is broken ends, everything else goes on, and
//! nobody sees what is another's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use std::time::{Duration, Instant};

use support::raw::{self, BOT, Raw, Silence, field, frame, query, rows, sqlstate, startup};
use support::{Proxy, Shards, TRUST, eventually, said};
use tokio_postgres::error::SqlState;

const TABLES: &str = "
    CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE notes (id bigint NOT NULL, tenant_id bigint NOT NULL, body text);
    CREATE TABLE plans (tier int PRIMARY KEY, name text);
    INSERT INTO plans VALUES (1, 'free'), (2, 'team');";

const REST: &str = "[tables]\nplans = \"reference\"\n";

async fn serve(count: usize, config: &str) -> (Shards, Proxy) {
    let shards = Shards::databases(count);
    shards.run_on_all(TABLES).await;
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(REST), config).await;
    (shards, proxy)
}

#[tokio::test]
async fn broken_frames_end_their_connection_alone() {
    let (_shards, mut proxy) = serve(1, TRUST).await;
    let mut witness = proxy.raw();
    let version = |number: u32, rest: &[u8]| {
        let length = u32::try_from(rest.len() + 8).unwrap().to_be_bytes();
        [&length[..], &number.to_be_bytes(), rest].concat()
    };
    let first_packets: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0; 8],
        vec![0xff; 64],
        b"\0\0\0\x04".to_vec(),
        b"\0\0\0\x07\0\0\0".to_vec(),
        version(0x0002_0000, b"user\0bot\0\0"),
        version(0x0003_0000, b""),
        version(0x0003_0000, b"user\0bot"),
        version(0x0003_0000, b"user\0bot\0"),
        version(0x0003_0000, b"user\0bot\0database"),
        version(0x0003_0000, b"database\0bots\0\0"),
        version(0x0003_0000, b"user\0bot\0database\0bots\0no_such_setting\x001\0\0"),
        version(0x0003_0000, b"user\0bot\0database\0bots\0options\0-c\0\0"),
        version(0x0003_0000, b"user\0bot\0database\0bots\0options\0--nonsense\0\0"),
        version(80_877_102, b"\0\0\0\x01\0\0\0\x02"),
        version(80_877_102, b"\0"),
        [version(80_877_103, b""), b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec()].concat(),
        [20_000_u32.to_be_bytes().to_vec(), vec![b'x'; 20_000]].concat(),
    ];
    for packet in first_packets {
        let mut client = Raw::dial(proxy.address);
        let _ = client.try_send(&packet);
        let _ = client.socket.shutdown(std::net::Shutdown::Write);
        loop {
            match client.receive() {
                Ok(_) => {}
                Err(Silence::End) => break,
                Err(Silence::Hang) => panic!("{packet:?} is left without an answer"),
            }
        }
    }
    // Later: these end the connection.
    let check_code = |code: &str, bytes: &[u8]| {
        let mut client = proxy.raw();
        client.query("BEGIN");
        client.query("INSERT INTO tenants VALUES (1, 'never')");
        let _ = client.try_send(bytes);
        let told = client.until_ready();
        assert_eq!(sqlstate(&told), code, "{bytes:?}: {told:?}");
        assert_eq!(client.receive(), Err(Silence::End), "{bytes:?}");
    };
    let check = |bytes: &[u8]| check_code("08P01", bytes);
    check(b"z\0\0\0\x04");
    check(b"\0\0\0\0\0\0\0\0");
    check(b"Q\0\0\0\x03");
    check(b"Q\0\0\0\0");
    check(b"Q\x7f\xff\xff\xff");
    check(b"Q\xff\xff\xff\xff");
    check_code("53400", b"P\x10\0\0\0");
    check(&frame(b'p', b"password\0"));
    check(&startup(&BOT));
    // These are errors that Sync recovers from (a Query by itself), as in PostgreSQL.
    let check = |bytes: &[u8]| {
        let mut client = proxy.raw();
        client.send(bytes);
        if bytes.first() != Some(&b'Q') {
            client.send(&frame(b'S', b""));
        }
        let told = client.until_ready();
        assert_eq!(sqlstate(&told), "08P01", "{bytes:?}: {told:?}");
        assert_eq!(rows(&client.query("SELECT 7"))[0][0].as_deref(), Some("7"));
    };
    check(&frame(b'Q', b"SELECT 1"));
    check(&frame(b'Q', b""));
    check(&frame(b'P', b""));
    check(&frame(b'P', b"s1\0SELECT 1\0\0\x05"));
    check(&frame(b'P', b"s1\0SELECT 1\0\0\x05\0\0"));
    check(&frame(b'B', b"\0"));
    check(&frame(b'D', b""));
    check(&frame(b'D', b"X\0"));
    check(&frame(b'E', b"\0"));
    check(&frame(b'C', b"S"));
    // And noise, which must not matter to anybody else.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..60 {
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let mut client = proxy.raw();
        for _ in 0..next() % 6 {
            let tag = b"QPBDECSHdcfFXpz"[next() as usize % 15];
            let body: Vec<u8> = (0..next() % 24).map(|_| (next() >> 9) as u8 & 0x4f).collect();
            let _ = client.try_send(&frame(tag, &body));
        }
        let _ = client.socket.shutdown(std::net::Shutdown::Write);
        while let Ok(_) | Err(Silence::Hang) = client.receive() {}
    }
    assert_eq!(rows(&witness.query("SELECT count(*) FROM tenants"))[0][0].as_deref(), Some("0"));
    assert!(proxy.is_running(), "{}", proxy.log());
}

#[tokio::test]
async fn log_in_is_refused_by_name() {
    let (_shards, proxy) = serve(1, "").await;
    let check = async |url: &str, expect: &str| {
        let error = support::connect(url).await.err().unwrap_or_else(|| panic!("{url}"));
        assert_eq!(said(&error).0, expect, "{url}");
    };
    let address = proxy.address;
    check(&format!("postgresql://bot:wrong@{address}/bots"), "28P01").await;
    check(&format!("postgresql://nobody:bot@{address}/bots"), "28P01").await;
    check(&format!("postgresql://bot:bot@{address}/nowhere"), "3D000").await;
    check(&format!("postgresql://bot:bot@{address}/bots?options=-c%20work_mem%3Dmuch"), "22023")
        .await;
    proxy.connect().await.simple_query("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing() {
    let config = format!("{TRUST}[pool]\nsize = 1\nreserve = 0\nwait_timeout = \"10s\"\n");
    let (shards, proxy) = serve(1, &config).await;
    let direct = shards.direct("usa-east").await;
    type Ending<'a> = (&'a str, &'a dyn Fn(&mut Raw));
    let endings: [Ending<'_>; 6] = [
        ("in a transaction", &|client| {
            client.query("BEGIN");
            client.query("INSERT INTO tenants VALUES (1, 'x')");
        }),
        ("in the middle of a result", &|client| {
            client.query("BEGIN");
            client.query("INSERT INTO tenants VALUES (1, 'x')");
            client.send(&query("SELECT repeat('x', 10000) FROM generate_series(1, 20000)"));
            client.receive().unwrap();
        }),
        ("in the middle of COPY", &|client| {
            client.send(&query("COPY tenants FROM STDIN"));
            assert_eq!(client.receive().unwrap().tag, b'G');
            client.send(&frame(b'd', b"1\tx\n"));
        }),
        ("in the middle of a message", &|client| {
            client.query("BEGIN");
            client.query("INSERT INTO tenants VALUES (1, 'x')");
            client.send(b"Q\0\0\0\x30SELECT");
        }),
        ("in a pipeline", &|client| {
            client.send(&frame(b'P', b"\0INSERT INTO tenants VALUES (1, 'x')\0\0\0"));
            client.send(&frame(b'B', b"\0\0\0\0\0\0\0\0"));
            client.send(&frame(b'E', b"\0\0\0\0\0"));
            client.send(&frame(b'H', b""));
            while client.receive().unwrap().tag != b'C' {}
        }),
        ("while its statement runs", &|client| {
            client.query("BEGIN");
            client.query("INSERT INTO tenants VALUES (1, 'x')");
            client.send(&query("SELECT pg_sleep(1)"));
        }),
    ];
    for (what, act) in endings {
        let mut client = proxy.raw();
        act(&mut client);
        drop(client);
        // The only connection of the pool is free again, and clean.
        let mut next = proxy.raw();
        let answer = next.query("SELECT id FROM tenants");
        assert_eq!(sqlstate(&answer), "", "{what}");
        assert_eq!(rows(&answer).len(), 0, "{what}");
        assert_eq!(answer.last().unwrap().body, b"I", "{what}");
        drop(next);
        eventually(what, async || {
            let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND pid <> pg_backend_pid() AND state <> 'idle'";
            let open: i64 = direct.query_one(open, &[]).await.unwrap().get(0);
            if open == 0 { Ok(()) } else { Err(format!("{open} backends are not idle")) }
        })
        .await;
    }
}

#[tokio::test]
async fn what_a_client_sets_stays_its_own() {
    let config = format!("{TRUST}[pool]\nsize = 2\nreserve = 0\nwait_timeout = \"2s\"\n");
    let (mut shards, proxy) = serve(1, &config).await;
    let grant = "CREATE ROLE helper; GRANT helper TO bot; GRANT USAGE ON SCHEMA public TO helper";
    shards.cluster("shards").execute("postgres", grant).await.unwrap();
    let show = |client: &mut Raw, name: &str| {
        let answer = client.query(&format!("SHOW {name}"));
        rows(&answer).first().unwrap_or_else(|| panic!("{name}: {answer:?}"))[0].clone().unwrap()
    };
    let (mut a, mut b) = (proxy.raw(), proxy.raw());
    let settings = [
        ("application_name", "'mine'"),
        ("search_path", "pg_catalog, public"),
        ("DateStyle", "'German'"),
        ("TimeZone", "'Asia/Tokyo'"),
        ("statement_timeout", "4711"),
        ("work_mem", "'5MB'"),
        ("role", "helper"),
        ("app.anything", "'x'"),
        ("default_transaction_isolation", "'serializable'"),
        ("session_authorization", "bot"),
        ("client_encoding", "'LATIN1'"),
        ("extra_float_digits", "0"),
    ];
    for (name, value) in settings {
        let before = if name == "app.anything" { String::new() } else { show(&mut b, name) };
        let told = a.query(&format!("SET {name} TO {value}"));
        assert_eq!(sqlstate(&told), "", "{name}");
        let mine = show(&mut a, name);
        for _ in 0..2 {
            if name == "app.anything" {
                let shown =
                    rows(&b.query("SELECT coalesce(current_setting('app.anything', true), '')"));
                assert_eq!(shown[0][0].as_deref(), Some(""));
            } else {
                assert_eq!(show(&mut b, name), before, "{name}");
            }
            assert_eq!(show(&mut a, name), mine, "{name}");
        }
        a.query(&format!("RESET {name}"));
    }
    let user =
        |client: &mut Raw| rows(&client.query("SELECT current_user, session_user"))[0].clone();
    a.query("SET ROLE helper");
    assert_eq!(user(&mut a)[0].as_deref(), Some("helper"));
    assert_eq!(user(&mut b)[0].as_deref(), Some("bot"));
    assert_eq!(user(&mut a)[0].as_deref(), Some("helper"));
    a.query("RESET ROLE");
    assert_eq!(user(&mut a)[0].as_deref(), Some("bot"));
    // What binds a client to its connection.
    a.query("CREATE TEMP TABLE scratch (a int)");
    a.query("SELECT pg_advisory_lock(5)");
    a.query("PREPARE mine AS SELECT 1");
    a.query("SELECT set_config('app.hidden', 'secret', false)");
    assert_eq!(sqlstate(&b.query("SELECT * FROM scratch")), "42P01");
    assert_eq!(sqlstate(&b.query("EXECUTE mine")), "26000");
    assert_eq!(rows(&b.query("SELECT pg_try_advisory_xact_lock(5)"))[0][0].as_deref(), Some("f"));
    let hidden = "SELECT coalesce(current_setting('app.hidden', true), '')";
    assert_eq!(rows(&b.query(hidden))[0][0].as_deref(), Some(""));
    assert_eq!(rows(&a.query(hidden))[0][0].as_deref(), Some("secret"));
    assert_eq!(sqlstate(&a.query("SELECT * FROM scratch")), "");
    drop(a);
    eventually("the lock goes with its client", async || {
        let got = rows(&b.query("SELECT pg_try_advisory_xact_lock(5)"))[0][0].clone();
        if got.as_deref() == Some("t") { Ok(()) } else { Err("still held".to_owned()) }
    })
    .await;
    let mut c = proxy.raw();
    assert_eq!(sqlstate(&c.query("SELECT * FROM scratch")), "42P01");
    assert_eq!(rows(&c.query(hidden))[0][0].as_deref(), Some(""));
}

#[tokio::test]
async fn limits_are_errors_with_a_name() {
    let config = format!(
        "{TRUST}[pool]\nsize = 1\nreserve = 0\nwait_timeout = \"300ms\"\n\
         [limits]\nstatement_bytes_max = \"1MiB\"\n[listen]\nclients_max = 8\n"
    );
    let (_shards, mut proxy) = serve(2, &config).await;
    let mut client = proxy.raw();
    for sql in [
        format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!(
            "SELECT name FROM tenants WHERE id = {}1{}",
            "(".repeat(10_000),
            ")".repeat(10_000)
        ),
        format!("SELECT 1 {}", "+ 1".repeat(10_000)),
        format!("SELECT name FROM tenants WHERE {}", "id = 1 AND ".repeat(2_000) + "true"),
        format!("SELECT name FROM tenants WHERE {}true", "NOT ".repeat(10_000)),
        format!("SELECT {}1", "- ".repeat(10_000)),
        format!("SELECT {}1{}", "ARRAY[".repeat(10_000), "]".repeat(10_000)),
        format!("SELECT * FROM {}tenants{}", "(SELECT * FROM ".repeat(5_000), ") x".repeat(5_000)),
        format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(2_000), " END".repeat(2_000)),
        format!("SELECT 1 {}", "UNION ALL SELECT 1 ".repeat(500)),
        format!("{}SELECT 1{}", "/*".repeat(50_000), "*/".repeat(50_000)),
    ] {
        let answer = client.query(&sql);
        assert_eq!(answer.last().unwrap().tag, b'Z', "{}…", &sql[..60]);
        let body = frame(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat());
        client.send(&body);
        client.send(&frame(b'S', b""));
        assert_eq!(client.until_ready().last().unwrap().tag, b'Z', "{}…", &sql[..60]);
    }
    // What could not be read may have left something on its connection.
    client.query("DISCARD ALL");
    // The statement's size.
    let mut large = proxy.raw();
    let _ = large.try_send(&query(&format!("SELECT '{}'", "x".repeat(2 << 20))));
    let told = large.until_ready();
    assert!(!told.is_empty(), "{}", proxy.log());
    assert_eq!(sqlstate(&told), "53400", "{told:?}");
    assert!(raw::field(&told[0], b'M').contains("limits.statement_bytes_max"), "{told:?}");
    drop(large);
    // libpq forgets what it was told when the connection ends before it has sent all.
    let mut slow = proxy.raw();
    let text = query(&format!("SELECT '{}'", "x".repeat(2 << 20)));
    let (head, tail) = text.split_at(text.len() / 2);
    slow.send(head);
    assert_eq!(sqlstate(&[slow.receive().unwrap()]), "53400");
    let silence = slow.receive_within(Duration::from_millis(20)).unwrap_err();
    assert_eq!(silence, raw::Silence::Hang);
    slow.send(tail);
    drop(slow);
    // The pool's.
    let mut holder = proxy.raw();
    holder.query("BEGIN");
    holder.query("SELECT name FROM tenants WHERE id = 2");
    let began = Instant::now();
    assert_eq!(sqlstate(&client.query("SELECT name FROM tenants WHERE id = 4")), "53300");
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(sqlstate(&client.query("SELECT name FROM tenants WHERE id = 1")), "");
    holder.query("COMMIT");
    assert_eq!(sqlstate(&client.query("SELECT name FROM tenants WHERE id = 4")), "");
    // The listener's.
    let mut others = Vec::new();
    let refused = (0..9).find_map(|_| {
        let (other, told) = Raw::log_in(proxy.address, &BOT);
        others.push(other);
        Some(sqlstate(&told)).filter(|code| !code.is_empty())
    });
    assert_eq!(refused.as_deref(), Some("53300"));
    drop(others);
    assert!(proxy.is_running());
}

#[tokio::test]
async fn cancel_reaches_its_own_statement_and_no_other() {
    let config = format!("{TRUST}[pool]\nsize = 2\nreserve = 0\n");
    let (shards, proxy) = serve(3, &config).await;
    let mut client = proxy.raw();
    for tenant in 1..4 {
        let rows = format!("INSERT INTO notes SELECT n, {tenant} FROM generate_series(1, 20000) n");
        assert_eq!(sqlstate(&client.query(&rows)), "");
    }
    // A statement on one shard, and one on all.
    for sql in [
        "SELECT pg_sleep(20) FROM plans",
        "SELECT id FROM notes WHERE md5(repeat('x', 300000) || id::text) = 'y'",
    ] {
        client.send(&query(sql));
        let patience = Duration::from_millis(500);
        assert_eq!(client.receive_within(patience), Err(Silence::Hang), "{sql}");
        let began = Instant::now();
        client.cancel();
        let answer = client.until_ready();
        assert_eq!(sqlstate(&answer), "57014", "{sql}");
        assert!(began.elapsed() < Duration::from_secs(4), "{sql}: {:?}", began.elapsed());
        assert_eq!(rows(&client.query("SELECT 1")).len(), 1);
        for name in shards.names() {
            let direct = shards.direct(name).await;
            eventually("no backend works on", async || {
                let busy = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'";
                let busy: i64 = direct.query_one(busy, &[]).await.unwrap().get(0);
                if busy == 0 { Ok(()) } else { Err(format!("{sql}: {busy} on {name}")) }
            })
            .await;
        }
    }
    // One client that is cancelled all the time shares connections with one that must never be.
    let mut cancelled = proxy.raw();
    let mut other = proxy.raw();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let key = cancelled.key;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let mut asker = Raw::dial(proxy.address);
                asker.key = key;
                asker.cancel();
            }
        });
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let answer = cancelled.query("SELECT pg_sleep(0.002) FROM plans");
                assert!(["", "57014"].contains(&sqlstate(&answer).as_str()), "{answer:?}");
            }
        });
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            let answer = other.query("SELECT pg_sleep(0.003) FROM plans");
            assert_eq!(sqlstate(&answer), "", "{answer:?}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[tokio::test]
async fn who_waits_for_a_connection_can_be_cancelled() {
    let config = format!(
        "{TRUST}[pool]\nsize = 1\nreserve = 0\nwait_timeout = \"20s\"\n\
         [limits]\nquery_timeout = \"3s\"\n"
    );
    let (_shards, proxy) = serve(1, &config).await;
    let mut holder = proxy.raw();
    holder.query("BEGIN");
    holder.query("SELECT id FROM tenants");
    let waits = |client: &mut Raw| {
        client.send(&query("SELECT name FROM tenants WHERE id = 1"));
        assert_eq!(client.receive_within(Duration::from_millis(300)), Err(Silence::Hang));
    };
    let mut cancelled = proxy.raw();
    waits(&mut cancelled);
    let began = Instant::now();
    cancelled.cancel();
    let told = cancelled.until_ready();
    assert_eq!(sqlstate(&told), "57014", "{told:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // In a transaction, which it fails.
    cancelled.query("BEGIN");
    waits(&mut cancelled);
    cancelled.cancel();
    let told = cancelled.until_ready();
    assert_eq!((sqlstate(&told).as_str(), &*told.last().unwrap().body), ("57014", &b"E"[..]));
    cancelled.query("ROLLBACK");
    // Waiting is part of the time that a statement may take.
    waits(&mut cancelled);
    let told = cancelled.until_ready();
    assert_eq!(sqlstate(&told), "57014", "{told:?}");
    assert!(field(&told[0], b'D').contains("limits.query_timeout"), "{told:?}");
    // Nobody has lost a place: the holder goes on, and who comes next gets the connection.
    assert_eq!(sqlstate(&holder.query("SELECT id FROM tenants")), "");
    waits(&mut cancelled);
    holder.query("COMMIT");
    assert_eq!(sqlstate(&cancelled.until_ready()), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_share_ten_connections() {
    let (shards, proxy) =
        serve(3, &format!("{TRUST}[pool]\nsize = 10\nreserve = 0\nwait_timeout = \"30s\"\n")).await;
    let url = proxy.url();
    let clients = (1..=200_i64).map(|id| {
        let url = url.clone();
        tokio::spawn(async move {
            let mut client = support::connect(&url).await.unwrap();
            let insert = client.prepare("INSERT INTO notes VALUES ($1, $2, $3)").await.unwrap();
            let select = client
                .prepare("SELECT body FROM notes WHERE tenant_id = $1 AND id = $2")
                .await
                .unwrap();
            for round in 0..10_i64 {
                let body = format!("{id}/{round}");
                let transaction = client.transaction().await.unwrap();
                transaction.execute(&insert, &[&round, &id, &body]).await.unwrap();
                if round % 3 == 2 {
                    transaction.rollback().await.unwrap();
                    assert!(client.query(&select, &[&id, &round]).await.unwrap().is_empty());
                } else {
                    transaction.commit().await.unwrap();
                    let row = client.query_one(&select, &[&id, &round]).await.unwrap();
                    assert_eq!(row.get::<_, String>(0), body);
                }
                let count = format!("SELECT id FROM notes WHERE tenant_id = {id}");
                let found = client.simple_query(&count).await.unwrap();
                let rows = found
                    .iter()
                    .filter(|m| matches!(m, tokio_postgres::SimpleQueryMessage::Row(_)));
                assert_eq!(rows.count() as i64, round + 1 - (round + 1) / 3);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    for name in shards.names() {
        let direct = shards.direct(name).await;
        let backends = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND pid <> pg_backend_pid()";
        let backends: i64 = direct.query_one(backends, &[]).await.unwrap().get(0);
        assert!(backends <= 11, "{backends} connections to {name}");
    }
}

/// What the process has in memory, in KiB.
fn resident(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[tokio::test]
async fn a_slow_reader_does_not_fill_the_memory() {
    let (_shards, proxy) = serve(3, TRUST).await;
    let mut client = proxy.raw();
    for id in 1..=3 {
        client.query(&format!("INSERT INTO tenants VALUES ({id}, 'x')"));
        client.query(&format!(
            "INSERT INTO notes SELECT n, {id}, repeat('x', 1000) FROM generate_series(1, 30000) n"
        ));
    }
    let before = resident(&proxy);
    for sql in
        ["SELECT repeat('x', 1000) FROM generate_series(1, 100000)", "SELECT id, body FROM notes"]
    {
        let mut slow = proxy.raw();
        slow.send(&query(sql));
        let mut count = 0;
        let mut largest = 0;
        loop {
            let message = slow.receive().unwrap();
            count += usize::from(message.tag == b'D');
            if count % 500 == 0 {
                std::thread::sleep(Duration::from_millis(1));
                largest = largest.max(resident(&proxy));
            }
            if message.tag == b'Z' {
                break;
            }
        }
        assert!(count >= 90_000, "{sql}: {count} rows");
        assert!(largest < before + 16 * 1024, "{sql}: {before} KiB became {largest}");
    }
    // A client that never reads, and one that only sends.
    let mut deaf = proxy.raw();
    deaf.send(&query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(resident(&proxy) < before + 16 * 1024);
    let mut other = proxy.raw();
    assert_eq!(rows(&other.query("SELECT 1")).len(), 1);
}

#[tokio::test]
async fn a_large_pipeline_does_not_stall() {
    let (_shards, proxy) = serve(1, TRUST).await;
    let mut client = proxy.raw();
    let mut reader = client.second_hand();
    // Answers are far larger than what sockets hold, and so are the requests.
    let count = 3_000;
    let writer = std::thread::spawn(move || {
        let filler = "y".repeat(2_000);
        for n in 0..count {
            let sql = format!("SELECT {n}, repeat('x', 4000), length('{filler}')");
            client.send(&frame(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat()));
            client.send(&frame(b'B', b"\0\0\0\0\0\0\0\0"));
            client.send(&frame(b'E', b"\0\0\0\0\0"));
        }
        client.send(&frame(b'S', b""));
        client
    });
    let answers = reader.until_ready();
    assert_eq!(sqlstate(&answers), "");
    assert_eq!(rows(&answers).len(), count);
    drop(writer.join().unwrap());
}

#[tokio::test]
async fn a_shard_that_is_down_keeps_to_itself() {
    let mut shards = Shards::clusters(3);
    // A cluster that is stopped at once forgets what was committed asynchronously.
    shards.run_on_all(&format!("SET synchronous_commit = on; {TABLES}")).await;
    let config = format!("{TRUST}[breaker]\nthreshold = 2\ntimeout = \"500ms\"\n");
    shards.cluster("usa-west").stop();
    // Down at the start: the others serve.
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(REST), &config).await;
    let mut client = proxy.raw();
    // Ids go by modulo 3 to usa-east, usa-west, deu.
    let at = |client: &mut Raw, id: u32| {
        sqlstate(&client.query(&format!("SELECT id FROM tenants WHERE id = {id}")))
    };
    let is_down = |code: &str| ["57P03", "08006", "57P01", "08001"].contains(&code);
    for _ in 0..3 {
        let code = at(&mut client, 1);
        assert!(is_down(&code), "{code}");
        assert_eq!(at(&mut client, 3), "");
        assert_eq!(at(&mut client, 2), "");
    }
    let all = client.query("SELECT id FROM tenants");
    assert!(is_down(&sqlstate(&all)), "{all:?}");
    shards.cluster("usa-west").start_again().unwrap();
    let recovers = async |client: &mut Raw, id: u32| {
        eventually("the shard is back", async || {
            let code = at(client, id);
            if code.is_empty() { Ok(()) } else { Err(code) }
        })
        .await;
    };
    recovers(&mut client, 1).await;
    assert_eq!(sqlstate(&client.query("SELECT id FROM tenants")), "");
    // Down in a transaction, by kill -9.
    client.query("BEGIN");
    client.query("INSERT INTO tenants VALUES (2, 'never')");
    let mut other = proxy.raw();
    assert_eq!(at(&mut other, 2), "");
    let directory = shards.cluster("deu").directory().join("data/postmaster.pid");
    let pid = std::fs::read_to_string(directory).unwrap().lines().next().unwrap().to_owned();
    let kill = ["-c", "kill -9 \"$1\"", "sh", &pid];
    assert!(std::process::Command::new("/bin/sh").args(kill).status().unwrap().success());
    eventually("its backends notice", async || {
        if at(&mut other, 2).is_empty() { Err("still up".to_owned()) } else { Ok(()) }
    })
    .await;
    let answer = client.query("INSERT INTO tenants VALUES (5, 'never')");
    assert!(is_down(&sqlstate(&answer)), "{answer:?}");
    assert_eq!(answer.last().unwrap().body, b"E");
    assert_eq!(sqlstate(&client.query("SELECT 1")), "25P02");
    assert_eq!(client.query("COMMIT")[0].body, b"ROLLBACK\0");
    assert_eq!(at(&mut client, 1), "");
    tokio::time::sleep(Duration::from_millis(300)).await;
    eventually("it starts again", async || {
        shards.cluster("deu").start_again().map_err(|error| error.to_string())
    })
    .await;
    recovers(&mut client, 2).await;
    assert_eq!(rows(&client.query("SELECT id FROM tenants WHERE id = 2")).len(), 0);
    // All connections ended by an administrator while they are free: nobody need notice.
    let mut crowd: Vec<Raw> = (0..5).map(|_| proxy.raw()).collect();
    for client in &mut crowd {
        client.query("BEGIN");
        client.query("SELECT id FROM tenants WHERE id = 3");
    }
    for client in &mut crowd {
        client.query("COMMIT");
    }
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bot'";
    shards.cluster("usa-east").execute("bots", end).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for client in &mut crowd {
        assert_eq!(at(client, 3), "");
    }
    // And in a transaction, of which the client is told.
    crowd[0].query("BEGIN");
    crowd[0].query("INSERT INTO tenants VALUES (3, 'never')");
    crowd[1].query("CREATE TEMP TABLE scratch (a int)");
    shards.cluster("usa-east").execute("bots", end).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let code = at(&mut crowd[0], 3);
    assert!(is_down(&code), "{code}");
    assert_eq!(crowd[0].query("ROLLBACK").last().unwrap().body, b"I");
    assert_eq!(at(&mut crowd[0], 3), "");
}

#[tokio::test]
async fn sigterm_lets_transactions_finish() {
    let (shards, mut proxy) = serve(1, TRUST).await;
    let mut idle = proxy.raw();
    let mut busy = proxy.raw();
    busy.query("BEGIN");
    busy.query("INSERT INTO tenants VALUES (1, 'kept')");
    proxy.signal("TERM");
    let told = idle.until_ready();
    assert_eq!(sqlstate(&told), "57P01");
    assert_eq!(idle.receive(), Err(Silence::End));
    assert_eq!(sqlstate(&busy.query("INSERT INTO tenants VALUES (2, 'kept')")), "");
    assert_eq!(busy.query("COMMIT")[0].body, b"COMMIT\0");
    assert_eq!(sqlstate(&busy.until_ready()), "57P01");
    eventually("the process ends", async || {
        if proxy.is_running() { Err("it runs".to_owned()) } else { Ok(()) }
    })
    .await;
    let kept = shards.direct("usa-east").await.query("SELECT id FROM tenants", &[]).await.unwrap();
    assert_eq!(kept.len(), 2);
}

#[tokio::test]
async fn sighup_swaps_the_map_whole_or_not_at_all() {
    let (shards, proxy) = serve(3, TRUST).await;
    let mut client = proxy.raw();
    client.query("INSERT INTO tenants VALUES (1, 'x')");
    let placed = |client: &mut Raw| {
        let route = rows(&client.query("EXPLAIN (ROUTE) SELECT name FROM plans WHERE tier = 1"));
        route.iter().map(|row| row[0].clone().unwrap()).collect::<Vec<_>>().join("\n")
    };
    assert!(placed(&mut client).contains("any"));
    // A transaction stays on the map that it began with.
    let mut open = proxy.raw();
    open.query("BEGIN");
    open.query("SELECT id FROM tenants WHERE id = 1");
    proxy.reload("version = 1\nthis is no map");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(placed(&mut client).contains("any"));
    proxy.reload(&shards.map_by_hash("[tables]\nplans = { shard = \"deu\" }\n"));
    eventually("the new map", async || {
        let route = placed(&mut client);
        if route.contains("deu") { Ok(()) } else { Err(route) }
    })
    .await;
    assert_eq!(rows(&open.query("SELECT id FROM tenants WHERE id = 1")).len(), 1);
    assert_eq!(open.query("COMMIT")[0].body, b"COMMIT\0");
    assert!(placed(&mut open).contains("deu"));
}

#[tokio::test]
async fn a_driver_finds_the_same_errors_as_with_postgresql() {
    let (_shards, proxy) = serve(3, "").await;
    let client = proxy.connect().await;
    client.execute("INSERT INTO tenants VALUES (1, 'one')", &[]).await.unwrap();
    let error = client.execute("INSERT INTO tenants VALUES (1, 'two')", &[]).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(*error.code(), SqlState::UNIQUE_VIOLATION);
    assert_eq!(error.constraint(), Some("tenants_pkey"));
    assert_eq!(error.table(), Some("tenants"));
}

#[tokio::test]
async fn a_ping_is_answered_for_as_long_as_its_shard_is_up() {
    let mut shards = Shards::clusters(1);
    let config = "[health]\ninterval = \"100ms\"\n";
    let map = shards.map("");
    let proxy = Proxy::start_with(&shards, &map, config).await;
    let off = format!("{config}[pool]\nlocal_answers = false\n");
    let without = Proxy::start_with(&shards, &map, &off).await;
    let (client, other) = (proxy.connect().await, without.connect().await);
    let route = async |client: &tokio_postgres::Client| {
        client.batch_execute("SELECT 1").await.unwrap();
        let shown = client.simple_query("SHOW pgmeridian.last_route").await.unwrap();
        let row = shown.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        row.unwrap()
    };
    assert_eq!(route(&client).await, "answered by the proxy");
    assert_eq!(route(&other).await, "one shard: usa-east (map version 1)");
    shards.cluster("usa-east").stop();
    let deadline = Instant::now() + Duration::from_secs(5);
    while client.batch_execute("SELECT 1").await.is_ok() {
        assert!(Instant::now() < deadline, "still answered");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shards.cluster("usa-east").start_again().unwrap();
}
