//! Transactions that write on several shards: committed on all of them or on none, whatever dies when.
//!
//! Between the proxy and its shards stands a relay that waits for a text in a request (PREPARE TRANSACTION, the
//! decision, COMMIT PREPARED) and lets that meet its fate. What is counted is always the same: the sum of all
//! accounts, which no transfer changes, and what is left prepared, which is nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pgmeridian::demo::cluster::ROLE;
use support::raw::{Message, Raw, field, frame, rows, sqlstate};
use support::{Proxy, Shards, connect, eventually, http, until};
use tokio_postgres::Client;

/// Tenants 3, 1 and 2 live on usa-east, usa-west and deu.
const TABLES: &str = "
    SET synchronous_commit = on;
    CREATE TABLE accounts (tenant_id bigint PRIMARY KEY, cents bigint NOT NULL CHECK (cents >= 0));
    CREATE TABLE notes (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, body text,
                        UNIQUE (tenant_id, body) DEFERRABLE INITIALLY IMMEDIATE);";

const CONFIG: &str =
    "[auth]\nmethod = \"trust\"\n[limits]\nin_doubt_after = \"3s\"\n[health]\ninterval = \"1s\"\n";

const FROM_1: &str = "UPDATE accounts SET cents = cents - 1 WHERE tenant_id = 1";
const TO_2: &str = "UPDATE accounts SET cents = cents + 1 WHERE tenant_id = 2";
const TO_3: &str = "UPDATE accounts SET cents = cents + 1 WHERE tenant_id = 3";

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The connection ends, and the server never sees it.
    Swallowed,
    /// The server sees it, and its answer is lost with the connection.
    Unanswered,
    /// It is not passed on, and the connection stays.
    Held,
    /// It is passed on, and nothing that comes back is.
    Silent,
}

/// The text that is waited for, and what becomes of the request that has it.
type Trap = Arc<Mutex<Option<(String, Fate)>>>;

/// Stands between the proxies and a server.
struct Relay {
    address: SocketAddr,
    trap: Trap,
}

impl Relay {
    fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let trap = Trap::default();
        let own = Arc::clone(&trap);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else {
                    let _ = near.shutdown(Shutdown::Both);
                    continue;
                };
                let (near_2, far_2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (mute, mute_2) = {
                    let mute = Arc::new(Mutex::new(None));
                    (Arc::clone(&mute), mute)
                };
                let trap = Arc::clone(&own);
                std::thread::spawn(move || requests(near, far, &trap, &mute));
                std::thread::spawn(move || answers(far_2, near_2, &mute_2));
            }
        });
        Self { address, trap }
    }

    fn set(&self, text: &str, fate: Fate) {
        *self.trap.lock().unwrap() = Some((text.to_owned(), fate));
    }

    /// It has caught its request.
    fn is_done(&self) -> bool {
        self.trap.lock().unwrap().is_none()
    }
}

fn requests(mut near: TcpStream, mut far: TcpStream, trap: &Trap, mute: &Mutex<Option<Fate>>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = near.read(&mut buffer) {
        let bytes = &buffer[..count];
        let fate = {
            let mut trap = trap.lock().unwrap();
            let caught = trap.as_ref().is_some_and(|(text, _)| {
                bytes.windows(text.len()).any(|window| window == text.as_bytes())
            });
            if caught { trap.take().map(|(_, fate)| fate) } else { None }
        };
        match fate {
            Some(Fate::Swallowed) => break,
            Some(Fate::Held) => continue,
            Some(fate) => *mute.lock().unwrap() = Some(fate),
            None => {}
        }
        if far.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = near.shutdown(Shutdown::Both);
    let _ = far.shutdown(Shutdown::Both);
}

fn answers(mut far: TcpStream, mut near: TcpStream, mute: &Mutex<Option<Fate>>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = far.read(&mut buffer) {
        match *mute.lock().unwrap() {
            Some(Fate::Silent) => continue,
            Some(_) => break,
            None => {}
        }
        if near.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = near.shutdown(Shutdown::Both);
    let _ = far.shutdown(Shutdown::Both);
}

/// Three shards behind a relay, with an account of 100 on each.
struct World {
    shards: Shards,
    relay: Relay,
    map: String,
    direct: Vec<Client>,
}

impl World {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(settings: &[(&str, &str)]) -> Self {
        let shards = Shards::databases_with(3, settings);
        shards.run_on_all(TABLES).await;
        let port = shards.first().port();
        let relay = Relay::before(port);
        let map = shards.map_by_hash("");
        let map = map.replace(&format!(":{port}/"), &format!(":{}/", relay.address.port()));
        let mut direct = Vec::new();
        for (name, tenant) in shards.names().zip([3, 1, 2]) {
            let client = shards.direct(name).await;
            let sql =
                format!("SET synchronous_commit = on; INSERT INTO accounts VALUES ({tenant}, 100)");
            client.batch_execute(&sql).await.unwrap();
            direct.push(client);
        }
        Self { shards, relay, map, direct }
    }

    async fn proxy(&self) -> Proxy {
        Proxy::start_with(&self.shards, &self.map, CONFIG).await
    }

    /// What tenants 3, 1 and 2 have.
    async fn cents(&self) -> Vec<i64> {
        let mut all = Vec::new();
        for client in &self.direct {
            all.push(client.query_one("SELECT cents FROM accounts", &[]).await.unwrap().get(0));
        }
        all
    }

    async fn prepared(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_prepared_xacts";
        self.direct[0].query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Whoever recovers has finished.
    async fn nothing_is_left(&self) {
        until("something is left prepared", async || self.prepared().await == 0).await;
    }
}

fn ok(client: &mut Raw, sql: &str) -> Vec<Message> {
    let told = client.query(sql);
    assert_eq!(sqlstate(&told), "", "{sql}: {told:?}");
    told
}

fn transfer(client: &mut Raw) {
    for sql in ["BEGIN", FROM_1, TO_2] {
        ok(client, sql);
    }
}

#[tokio::test]
async fn it_is_committed_on_all_shards_or_on_none() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    transfer(&mut client);
    assert_eq!(ok(&mut client, "COMMIT").last().unwrap().body, b"I");
    assert_eq!(world.cents().await, [100, 99, 101]);
    // It is seen at once, through the proxy.
    let told = ok(&mut client, "SELECT sum(cents), max(cents) FROM accounts");
    assert_eq!(rows(&told)[0], [Some("300".to_owned()), Some("101".to_owned())]);
    transfer(&mut client);
    ok(&mut client, TO_3);
    ok(&mut client, "ROLLBACK");
    assert_eq!(world.cents().await, [100, 99, 101]);
    // Three of them, with a reader between.
    for sql in [
        "BEGIN",
        "SELECT * FROM accounts WHERE tenant_id = 3",
        FROM_1,
        FROM_1,
        TO_2,
        TO_3,
        "COMMIT",
    ] {
        ok(&mut client, sql);
    }
    assert_eq!(world.cents().await, [101, 97, 102]);
    // Chained, and prepared in the extended protocol.
    let driver = proxy.connect().await;
    let from = driver
        .prepare("UPDATE accounts SET cents = cents - $2 WHERE tenant_id = $1")
        .await
        .unwrap();
    let to = driver
        .prepare("UPDATE accounts SET cents = cents + $2 WHERE tenant_id = $1")
        .await
        .unwrap();
    driver.batch_execute("BEGIN").await.unwrap();
    for _ in 0..2 {
        driver.execute(&from, &[&2_i64, &2_i64]).await.unwrap();
        driver.execute(&to, &[&1_i64, &1_i64]).await.unwrap();
        driver.execute(&to, &[&3_i64, &1_i64]).await.unwrap();
        driver.batch_execute("COMMIT AND CHAIN").await.unwrap();
    }
    driver.batch_execute("COMMIT").await.unwrap();
    assert_eq!(world.cents().await, [103, 99, 98]);
    // What a subtransaction has taken back is no matter.
    for sql in ["BEGIN", FROM_1, "SAVEPOINT s", TO_2, "ROLLBACK TO s", TO_3, "RELEASE s", "COMMIT"]
    {
        ok(&mut client, sql);
    }
    assert_eq!(world.cents().await, [104, 98, 98]);
    // In one string.
    ok(&mut client, &format!("BEGIN; {FROM_1}; {TO_2}; COMMIT"));
    assert_eq!(world.cents().await, [104, 97, 99]);
    // In one string without a block, which is a transaction too; and one that fails at its end.
    let told = ok(
        &mut client,
        &format!("{TO_2}; SELECT cents FROM accounts WHERE tenant_id = 2; {FROM_1}"),
    );
    assert_eq!(rows(&told)[0][0].as_deref(), Some("100"));
    assert_eq!(told.iter().filter(|message| message.tag == b'Z').count(), 1);
    assert_eq!(world.cents().await, [104, 96, 100]);
    let told = client.query(&format!(
        "{FROM_1}; {TO_2}; SELECT 1/(tenant_id - 3) FROM accounts WHERE tenant_id = 3"
    ));
    assert_eq!(sqlstate(&told), "22012", "{told:?}");
    assert_eq!(told.last().unwrap().body, b"I");
    ok(
        &mut client,
        &format!(
            "{FROM_1}; UPDATE accounts SET cents = cents - 1 WHERE tenant_id = 2; {TO_2}; UPDATE accounts SET cents = cents + 1 WHERE tenant_id = 1"
        ),
    );
    ok(
        &mut client,
        "BEGIN; UPDATE accounts SET cents = cents + 1 WHERE tenant_id = 1; UPDATE accounts SET cents = cents - 1 WHERE tenant_id = 2; COMMIT",
    );
    assert_eq!(world.cents().await, [104, 97, 99]);
    // An error on the second one is everybody's.
    transfer(&mut client);
    let told = client.query("UPDATE accounts SET cents = -1 WHERE tenant_id = 3");
    assert_eq!(sqlstate(&told), "23514", "{told:?}");
    ok(&mut client, "COMMIT");
    assert_eq!(world.cents().await, [104, 97, 99]);
    assert_eq!(world.prepared().await, 0);
    let (_, metrics) = http(proxy.http, "GET", "/metrics", None).await;
    assert!(metrics.contains("pgmeridian_two_phase_commits_total 9"), "{metrics}");
    // What is prepared in its name is not for clients.
    ok(&mut client, "SET pgmeridian.shard = 'deu'");
    let told = client.query("COMMIT PREPARED 'pgmeridian:1:0123456789abcdef:0:2'");
    assert_eq!(sqlstate(&told), "42501", "{told:?}");
}

#[tokio::test]
async fn what_is_deferred_or_cannot_be_prepared_undoes_all() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    for (id, tenant) in [(1, 1), (2, 2)] {
        ok(&mut client, &format!("INSERT INTO notes VALUES ({id}, {tenant}, 'here')"));
    }
    // On the one that decides, and on the other.
    for (first, second) in [(1, 2), (2, 1)] {
        for sql in ["BEGIN", "SET CONSTRAINTS ALL DEFERRED"] {
            ok(&mut client, sql);
        }
        ok(&mut client, &format!("INSERT INTO notes VALUES (11, {first}, 'here')"));
        ok(&mut client, &format!("INSERT INTO notes VALUES (12, {second}, 'new')"));
        let told = client.query("COMMIT");
        assert_eq!(sqlstate(&told), "23505", "{told:?}");
        assert_eq!(told.last().unwrap().body, b"I");
        ok(&mut client, &format!("SELECT 1 FROM notes WHERE tenant_id = {first}"));
        ok(&mut client, "BEGIN");
        ok(&mut client, "SET CONSTRAINTS ALL DEFERRED");
        ok(&mut client, &format!("INSERT INTO notes VALUES (12, {second}, 'new')"));
        ok(&mut client, &format!("INSERT INTO notes VALUES (11, {first}, 'here')"));
        let told = client.query("COMMIT");
        assert_eq!(sqlstate(&told), "23505", "{told:?}");
        assert_eq!(
            rows(&ok(&mut client, "SELECT count(*) FROM notes"))[0][0].as_deref(),
            Some("2")
        );
    }
    // A setting of the transaction that failed is gone, on connections that had prepared too.
    for sql in ["BEGIN", "SET work_mem = '7MB'", FROM_1, TO_2, "SET CONSTRAINTS ALL DEFERRED"] {
        ok(&mut client, sql);
    }
    ok(&mut client, "INSERT INTO notes VALUES (13, 1, 'here')");
    assert_eq!(sqlstate(&client.query("COMMIT")), "23505");
    for tenant in [1, 2] {
        let sql =
            format!("SELECT current_setting('work_mem') FROM accounts WHERE tenant_id = {tenant}");
        assert_eq!(rows(&ok(&mut client, &sql))[0][0].as_deref(), Some("4MB"));
    }
    // Temporary tables may be where it is decided, and nowhere else.
    for sql in ["BEGIN", FROM_1, TO_2, "CREATE TEMP TABLE own (n int)", "COMMIT"] {
        ok(&mut client, sql);
    }
    ok(&mut client, "DISCARD ALL");
    let scratch = |tenant: i64| {
        format!("INSERT INTO notes SELECT tenant_id + 20, {tenant}, tenant_id::text FROM accounts")
    };
    for sql in ["BEGIN", FROM_1, &scratch(2), TO_2, "COMMIT"] {
        ok(&mut client, sql);
    }
    ok(&mut client, "BEGIN");
    ok(&mut client, &scratch(1));
    let told = client.query(&scratch(2));
    assert_eq!(sqlstate(&told), "0A000", "{told:?}");
    ok(&mut client, "ROLLBACK");
    for sql in [
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT cents FROM accounts",
        "FETCH c",
        FROM_1,
        TO_2,
        "COMMIT",
    ] {
        ok(&mut client, sql);
    }
    let back = "UPDATE accounts SET cents = 100 WHERE tenant_id = ";
    ok(&mut client, &format!("BEGIN; {back} 1; {back} 2; COMMIT"));
    transfer(&mut client);
    let told = client.query("PREPARE TRANSACTION 'mine'");
    assert_eq!(sqlstate(&told), "0A000", "{told:?}");
    ok(&mut client, "ROLLBACK");
    assert_eq!(world.cents().await, [100, 100, 100]);
    assert_eq!(world.prepared().await, 0);
}

/// Each step's request is lost, or its answer.
#[tokio::test]
async fn a_lost_connection_leaves_nothing_half() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    transfer(&mut client);
    ok(&mut client, "COMMIT");
    let mut moved = 1;
    for (text, fate, code, commits) in [
        ("PREPARE TRANSACTION", Fate::Swallowed, "08006", false),
        ("PREPARE TRANSACTION", Fate::Unanswered, "08006", false),
        ("gid, committed, shards", Fate::Swallowed, "08006", false),
        ("gid, committed, shards", Fate::Unanswered, "", true),
        ("COMMIT PREPARED", Fate::Swallowed, "", true),
        ("COMMIT PREPARED", Fate::Unanswered, "", true),
    ] {
        transfer(&mut client);
        ok(&mut client, TO_3);
        ok(&mut client, "UPDATE accounts SET cents = cents - 1 WHERE tenant_id = 3");
        world.relay.set(text, fate);
        let told = client.query("COMMIT");
        assert_eq!(sqlstate(&told), code, "{text} {fate:?}: {told:?}");
        assert!(world.relay.is_done(), "{text} {fate:?}");
        assert_eq!(told.last().unwrap().body, b"I");
        moved += i64::from(commits);
        // What is committed is seen, without waiting for anything.
        if commits {
            assert_eq!(world.cents().await, [100, 100 - moved, 100 + moved], "{text} {fate:?}");
        }
        world.nothing_is_left().await;
        assert_eq!(world.cents().await, [100, 100 - moved, 100 + moved], "{text} {fate:?}");
    }
}

/// A proxy dies between any two steps, and two others find what it has left.
#[tokio::test]
async fn a_proxy_that_dies_is_cleared_up_after() {
    let world = World::new().await;
    let mut moved = 0;
    for (text, fate, commits) in [
        ("PREPARE TRANSACTION", Fate::Silent, false),
        ("gid, committed, shards", Fate::Held, false),
        ("gid, committed, shards", Fate::Silent, true),
        ("COMMIT PREPARED", Fate::Held, true),
    ] {
        let dying = world.proxy().await;
        let mut client = dying.raw();
        transfer(&mut client);
        ok(&mut client, TO_3);
        ok(&mut client, "UPDATE accounts SET cents = cents - 1 WHERE tenant_id = 3");
        world.relay.set(text, fate);
        client.send(&frame(b'Q', b"COMMIT\0"));
        until("the request did not come", async || world.relay.is_done()).await;
        // It has reached the server, and what was to be done at the same time is done.
        tokio::time::sleep(Duration::from_millis(100)).await;
        dying.signal("KILL");
        let (one, other) = tokio::join!(world.proxy(), world.proxy());
        world.nothing_is_left().await;
        moved += i64::from(commits);
        assert_eq!(world.cents().await, [100, 100 - moved, 100 + moved], "{text} {fate:?}");
        let mut client = one.raw();
        transfer(&mut client);
        ok(&mut client, "ROLLBACK");
        drop(other);
    }
}

/// Shards are clusters of their own here, and one of them crashes.
#[tokio::test]
async fn a_shard_that_crashes_comes_back_to_what_was_decided() {
    let mut shards = Shards::clusters(2);
    shards.run_on_all(TABLES).await;
    let mut map = shards.map_by_hash("");
    let mut relays = Vec::new();
    for (name, tenant) in [("usa-east", 2), ("usa-west", 1)] {
        let port = shards.cluster(name).port();
        let relay = Relay::before(port);
        map = map.replace(&format!(":{port}/"), &format!(":{}/", relay.address.port()));
        relays.push(relay);
        let sql =
            format!("SET synchronous_commit = on; INSERT INTO accounts VALUES ({tenant}, 100)");
        shards.direct(name).await.batch_execute(&sql).await.unwrap();
    }
    let proxy = Proxy::start_with(&shards, &map, CONFIG).await;
    let mut moved = 0;
    // usa-west decides. The relay before whom, what is waited for, who crashes, what the client is told.
    for (relay, text, crashes, code, commits) in [
        (0, "PREPARE TRANSACTION", "usa-east", "08006", false),
        (1, "gid, committed, shards", "usa-east", "", true),
        (1, "gid, committed, shards", "usa-west", "08006", false),
        (0, "COMMIT PREPARED", "usa-west", "", true),
        (0, "COMMIT PREPARED", "usa-east", "", true),
    ] {
        let what = format!("{text} {crashes}");
        let mut client = proxy.raw();
        transfer(&mut client);
        let at_east = crashes == "usa-east";
        // Nothing passes while the shard is down: then it is back, and the message comes.
        let fate = if (relay == 0) == at_east { Fate::Swallowed } else { Fate::Silent };
        relays[relay].set(text, fate);
        client.send(&frame(b'Q', b"COMMIT\0"));
        until("the request did not come", async || relays[relay].is_done()).await;
        shards.cluster(crashes).stop();
        shards.cluster(crashes).start_again().unwrap();
        if fate == Fate::Silent {
            // The other one's answer never comes; its connection breaks some day.
            let other = if at_east { "usa-west" } else { "usa-east" };
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = current_user";
            shards.direct(other).await.batch_execute(sql).await.unwrap();
        }
        let told = client.until_ready();
        let told_code = sqlstate(&told);
        let committed = if told_code.is_empty() { true } else { commits && told_code == "08006" };
        assert!(told_code == code || fate == Fate::Silent, "{what}: {told:?}");
        moved += i64::from(committed);
        let mut sum = 0;
        for (name, wanted) in [("usa-east", 100 + moved), ("usa-west", 100 - moved)] {
            let direct = shards.direct(name).await;
            until("something is left prepared", async || {
                let sql = "SELECT count(*) FROM pg_prepared_xacts";
                direct.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
            })
            .await;
            let cents: i64 =
                direct.query_one("SELECT cents FROM accounts", &[]).await.unwrap().get(0);
            assert_eq!(cents, wanted, "{what} on {name}: {told:?}");
            sum += cents;
        }
        assert_eq!(sum, 200);
    }
}

/// While the shard that decides is away nobody knows, and everybody is told so.
#[tokio::test]
async fn what_is_not_known_is_said() {
    let mut shards = Shards::clusters(2);
    shards.run_on_all(TABLES).await;
    let mut map = shards.map_by_hash("");
    let port = shards.cluster("usa-west").port();
    let relay = Relay::before(port);
    map = map.replace(&format!(":{port}/"), &format!(":{}/", relay.address.port()));
    for (name, tenant) in [("usa-east", 2), ("usa-west", 1)] {
        let sql =
            format!("SET synchronous_commit = on; INSERT INTO accounts VALUES ({tenant}, 100)");
        shards.direct(name).await.batch_execute(&sql).await.unwrap();
    }
    let proxy = Proxy::start_with(&shards, &map, CONFIG).await;
    let mut client = proxy.raw();
    transfer(&mut client);
    relay.set("gid, committed, shards", Fate::Unanswered);
    client.send(&frame(b'Q', b"COMMIT\0"));
    until("the request did not come", async || relay.is_done()).await;
    shards.cluster("usa-west").stop();
    let told = client.until_ready();
    let error = told.iter().find(|message| message.tag == b'E').unwrap();
    assert_eq!(field(error, b'C'), "08007", "{told:?}");
    let detail = field(error, b'D');
    assert!(
        detail.contains("shards \"usa-west\", \"usa-east\"") && detail.contains("pgmeridian:2:"),
        "{detail}"
    );
    eventually("the doubt is not told", async || {
        let (_, health) = http(proxy.http, "GET", "/health", None).await;
        let (_, metrics) = http(proxy.http, "GET", "/metrics", None).await;
        let told = health.contains("degraded") && health.contains("\"in_doubt\":1");
        if told && metrics.contains("pgmeridian_in_doubt 1") { Ok(()) } else { Err(health) }
    })
    .await;
    shards.cluster("usa-west").start_again().unwrap();
    let mut sum = 0;
    for name in ["usa-east", "usa-west"] {
        let direct = shards.direct(name).await;
        until("something is left prepared", async || {
            let sql = "SELECT count(*) FROM pg_prepared_xacts";
            direct.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
        sum += direct.query_one("SELECT cents FROM accounts", &[]).await.unwrap().get::<_, i64>(0);
    }
    assert_eq!(sum, 200);
}

#[tokio::test]
async fn cancel_requests_leave_nothing_half() {
    let world = World::new().await;
    for client in &world.direct {
        client.batch_execute("UPDATE accounts SET cents = 1000000").await.unwrap();
    }
    let proxy = world.proxy().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (done, failed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = proxy.raw();
        let (address, key) = (proxy.address, client.key);
        let stops = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut pause = 1;
            while !stops.load(Ordering::Relaxed) {
                let mut asker = Raw::dial(address);
                asker.key = key;
                asker.cancel();
                pause = pause * 5 % 97;
                std::thread::sleep(Duration::from_millis(pause));
            }
        });
        let (done, failed) = (Arc::clone(&done), Arc::clone(&failed));
        clients.push(std::thread::spawn(move || {
            let until = Instant::now() + Duration::from_secs(4);
            while Instant::now() < until {
                let all = ["BEGIN", FROM_1, TO_2, "COMMIT"].map(|sql| sqlstate(&client.query(sql)));
                let well = all.iter().all(String::is_empty);
                (if well { &done } else { &failed }).fetch_add(1, Ordering::Relaxed);
                if !well {
                    client.query("ROLLBACK");
                }
                assert!(
                    all.iter().all(|code| ["", "57014", "25P02"].contains(&code.as_str())),
                    "{all:?}"
                );
            }
        }));
    }
    for client in clients {
        tokio::task::spawn_blocking(move || client.join().unwrap()).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    world.nothing_is_left().await;
    let done = i64::from(done.load(Ordering::Relaxed));
    assert_eq!(world.cents().await, [1_000_000, 1_000_000 - done, 1_000_000 + done]);
    assert!(done > 0 && failed.load(Ordering::Relaxed) > 0, "{done} {failed:?}");
}

#[tokio::test]
async fn a_server_that_cannot_prepare_is_refused_before_it_is_written() {
    let world = World::with(&[("max_prepared_transactions", "0")]).await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    ok(&mut client, "BEGIN");
    ok(&mut client, FROM_1);
    let told = client.query(TO_2);
    let error = told.iter().find(|message| message.tag == b'E').unwrap();
    assert_eq!(field(error, b'C'), "0A000", "{told:?}");
    assert!(field(error, b'D').contains("max_prepared_transactions"), "{told:?}");
    ok(&mut client, "COMMIT");
    assert_eq!(world.cents().await, [100, 100, 100]);
    // Written on one, it commits as ever.
    ok(&mut client, "BEGIN");
    ok(&mut client, "SELECT * FROM accounts WHERE tenant_id = 2");
    ok(&mut client, FROM_1);
    ok(&mut client, "COMMIT");
    assert_eq!(world.cents().await, [100, 99, 100]);
}

#[tokio::test]
async fn the_table_that_is_missing_is_named_with_what_makes_it() {
    let world = World::new().await;
    let cluster = world.shards.first();
    let superuser = async |name: &str| {
        let url = cluster.superuser_url(name);
        support::connect(&url).await.unwrap_or_else(|error| panic!("{error}"))
    };
    for name in ["usa-west", "deu"] {
        superuser(name).await.batch_execute("CREATE SCHEMA pgmeridian").await.unwrap();
    }
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    ok(&mut client, "BEGIN");
    ok(&mut client, FROM_1);
    let told = client.query(TO_2);
    let error = told.iter().find(|message| message.tag == b'E').unwrap();
    assert_eq!(field(error, b'C'), "0A000", "{told:?}");
    assert!(field(error, b'D').contains("pgmeridian.decision on shard \"usa-west\""), "{told:?}");
    let hint = field(error, b'H');
    let statements = hint.split_once(": ").unwrap().1;
    superuser("usa-west").await.batch_execute(statements).await.unwrap();
    ok(&mut client, "ROLLBACK");
    transfer(&mut client);
    ok(&mut client, "COMMIT");
    assert_eq!(world.cents().await, [100, 99, 101]);
    // A client's role that may not insert, and a table that the proxy has made: it may let it.
    let shared = superuser("usa-east").await;
    shared.batch_execute("CREATE ROLE clerk LOGIN; GRANT clerk TO bot").await.unwrap();
    for direct in &world.direct {
        direct.batch_execute("GRANT ALL ON accounts TO clerk").await.unwrap();
    }
    ok(&mut client, "SET ROLE clerk");
    for sql in
        ["BEGIN", "UPDATE accounts SET cents = cents - 1 WHERE tenant_id = 3", TO_2, "COMMIT"]
    {
        ok(&mut client, sql);
    }
    assert_eq!(world.cents().await, [99, 99, 102]);
    // A role for the transaction alone, which owns what is prepared.
    ok(&mut client, "RESET ROLE");
    for sql in [
        "BEGIN",
        "SET LOCAL ROLE clerk",
        TO_3,
        "UPDATE accounts SET cents = cents - 1 WHERE tenant_id = 2",
    ] {
        ok(&mut client, sql);
    }
    ok(&mut client, "COMMIT");
    assert_eq!(world.cents().await, [100, 99, 101]);
    assert_eq!(world.prepared().await, 0);
}

#[tokio::test]
async fn a_copy_of_the_table_has_another_mark() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    transfer(&mut client);
    ok(&mut client, "COMMIT");
    let comment = "SELECT obj_description('pgmeridian.decision'::regclass, 'pg_class')";
    let mark = async || world.direct[1].query_one(comment, &[]).await.unwrap().get::<_, String>(0);
    let first = mark().await;
    let (digits, server) = first.split_once('@').unwrap();
    // As a dump of another server's would have left it.
    let copied = format!("COMMENT ON TABLE pgmeridian.decision IS '{digits}@1{server}'");
    world.direct[1].batch_execute(&copied).await.unwrap();
    // It is not looked at each time, and not trusted either.
    transfer(&mut client);
    assert_eq!(sqlstate(&client.query("COMMIT")), "40001");
    assert_eq!((world.cents().await, world.prepared().await), (vec![100, 99, 101], 0));
    transfer(&mut client);
    ok(&mut client, "COMMIT");
    let second = mark().await;
    assert!(second.ends_with(&format!("@{server}")) && second != first, "{first} {second}");
    // Who takes part is known by its server, too.
    let shards = "SELECT shards[1] FROM pgmeridian.decision LIMIT 1";
    let participant: String = world.direct[1].query_one(shards, &[]).await.unwrap().get(0);
    let (system, _) = server.split_once('/').unwrap();
    assert!(participant.starts_with(&format!("3:{system}/")), "{participant}");
    assert_eq!(world.cents().await, [100, 98, 102]);
}

#[tokio::test]
async fn what_a_client_does_without_waiting_for_is_durable_all_the_same() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    ok(&mut client, "SET synchronous_commit = local");
    transfer(&mut client);
    ok(&mut client, "COMMIT");
    // It is the client's setting still, where it prepared and where it decided.
    for tenant in [1, 2] {
        let sql = format!(
            "SELECT current_setting('synchronous_commit') FROM accounts WHERE tenant_id = {tenant}"
        );
        assert_eq!(rows(&ok(&mut client, &sql))[0][0].as_deref(), Some("local"));
    }
    let mut other = proxy.raw();
    let sql = "SELECT current_setting('synchronous_commit') FROM accounts WHERE tenant_id = 2";
    assert_eq!(rows(&ok(&mut other, sql))[0][0].as_deref(), Some("off"));
    assert_eq!(world.cents().await, [100, 99, 101]);
}

/// Everybody may read the name of what is prepared, and a role that commits may insert.
#[tokio::test]
async fn a_decision_without_its_secret_is_none() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    transfer(&mut client);
    world.relay.set("gid, committed, shards", Fate::Held);
    client.send(&frame(b'Q', b"COMMIT\0"));
    until("the request did not come", async || world.relay.is_done()).await;
    let sql = "SELECT gid FROM pg_prepared_xacts";
    let name: String = world.direct[0].query_one(sql, &[]).await.unwrap().get(0);
    let (gid, _) = name.rsplit_once(':').unwrap();
    let forged = format!("INSERT INTO pgmeridian.decision (gid, committed) VALUES ('{gid}', true)");
    world.direct[1].batch_execute(&forged).await.unwrap();
    let other = world.proxy().await;
    world.nothing_is_left().await;
    proxy.signal("KILL");
    assert_eq!(world.cents().await, [100; 3]);
    drop(other);
}

/// What only the servers know: rows that are locked on the one, written on the other.
#[tokio::test]
async fn whoever_has_a_transaction_number_takes_part() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    let lock = "SELECT cents FROM accounts WHERE tenant_id = 2 FOR UPDATE";
    for sql in ["BEGIN", lock, FROM_1, "COMMIT"] {
        ok(&mut client, sql);
    }
    assert_eq!(world.cents().await, [100, 99, 100]);
    assert_eq!(world.prepared().await, 0);
    let (_, metrics) = http(proxy.http, "GET", "/metrics", None).await;
    assert!(metrics.contains("pgmeridian_two_phase_commits_total 1"), "{metrics}");
}

#[tokio::test]
async fn rows_of_all_shards_are_written_together() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    ok(&mut client, "SET pgmeridian.shard = '*'");
    let add = "UPDATE accounts SET cents = cents + 1";
    ok(&mut client, add);
    assert_eq!(world.cents().await, [101, 101, 101]);
    for (text, code, cents) in [
        ("PREPARE TRANSACTION", "08006", 101),
        ("gid, committed, shards", "08006", 101),
        ("COMMIT PREPARED", "", 102),
    ] {
        world.relay.set(text, Fate::Swallowed);
        let told = client.query(add);
        assert_eq!(sqlstate(&told), code, "{text}: {told:?}");
        assert!(world.relay.is_done(), "{text}");
        world.nothing_is_left().await;
        assert_eq!(world.cents().await, [cents; 3], "{text}");
    }
}

/// The default shard is where it notifies.
#[tokio::test]
async fn notifications_are_said_where_it_decides_or_at_last() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    let say = "SELECT pg_notify('moved', 'one')";
    // Nothing is written there; and then something is, and it decides.
    for last in [TO_2, TO_3] {
        for sql in ["BEGIN", say, FROM_1, last, "COMMIT"] {
            ok(&mut client, sql);
        }
    }
    assert_eq!(world.cents().await, [101, 98, 101]);
    // It has been decided already that it is prepared there.
    for sql in ["BEGIN", FROM_1, TO_3] {
        ok(&mut client, sql);
    }
    let told = client.query(say);
    assert_eq!(sqlstate(&told), "0A000", "{told:?}");
    ok(&mut client, "ROLLBACK");
    assert_eq!(world.cents().await, [101, 98, 101]);
    assert_eq!(world.prepared().await, 0);
}

/// AND CHAIN where the shards themselves begin the next transaction: it knows nothing of the one before.
#[tokio::test]
async fn what_is_chained_begins_anew() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    ok(&mut client, "INSERT INTO notes VALUES (1, 1, 'here')");
    for end in ["COMMIT AND CHAIN", "COMMIT"] {
        for sql in ["BEGIN", "SET TRANSACTION READ WRITE", FROM_1, TO_2, "ROLLBACK AND CHAIN"] {
            ok(&mut client, sql);
        }
        for sql in [FROM_1, TO_2, "SET CONSTRAINTS ALL DEFERRED"] {
            ok(&mut client, sql);
        }
        ok(&mut client, "INSERT INTO notes VALUES (11, 1, 'here')");
        let told = client.query(end);
        let code = if end == "COMMIT" { "23505" } else { "0A000" };
        assert_eq!(sqlstate(&told), code, "{end}: {told:?}");
        client.query("ROLLBACK");
        assert_eq!((world.cents().await, world.prepared().await), (vec![100; 3], 0), "{end}");
    }
    // Rows that were locked have a number, too.
    let lock = "SELECT cents FROM accounts WHERE tenant_id = 2 FOR UPDATE";
    for sql in ["BEGIN", "SET TRANSACTION READ WRITE", lock, FROM_1] {
        ok(&mut client, sql);
    }
    assert_eq!(sqlstate(&client.query("COMMIT AND CHAIN")), "0A000");
    client.query("ROLLBACK");
    assert_eq!(world.cents().await, [100; 3]);
}

/// COMMIT AND CHAIN that fails on one of its shards has begun the next one on another.
#[tokio::test]
async fn what_a_failed_chain_has_begun_is_over() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    for (read, written) in [(3, 2), (2, 3), (1, 2), (2, 1)] {
        let mut client = proxy.raw();
        client.query(&format!("INSERT INTO notes VALUES ({written}, {written}, 'here')"));
        for sql in [
            "BEGIN".to_owned(),
            format!("SELECT cents FROM accounts WHERE tenant_id = {read}"),
            "SET CONSTRAINTS ALL DEFERRED".to_owned(),
            format!("INSERT INTO notes VALUES (1{written}, {written}, 'here')"),
            "SET TRANSACTION READ WRITE".to_owned(),
        ] {
            ok(&mut client, &sql);
        }
        let told = client.query("COMMIT AND CHAIN");
        assert_eq!(sqlstate(&told), "23505", "{told:?}");
        client.query("ROLLBACK");
        ok(&mut client, &format!("UPDATE accounts SET cents = cents + 1 WHERE tenant_id = {read}"));
    }
    assert_eq!(world.cents().await, [101, 101, 102]);
}

/// However a commit ends, what its transaction has set is the session's or nobody's, on each of the connections.
#[tokio::test]
async fn settings_of_a_transaction_are_left_to_nobody() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    for sql in
        ["INSERT INTO notes VALUES (1, 1, 'here')", "INSERT INTO notes VALUES (2, 2, 'here')"]
    {
        ok(&mut client, sql);
    }
    let own = format!("CREATE ROLE mighty; GRANT mighty TO {ROLE}");
    world.shards.first().execute("postgres", &own).await.unwrap();
    for client in &world.direct {
        let sql = "GRANT ALL ON ALL TABLES IN SCHEMA public TO mighty";
        client.batch_execute(sql).await.unwrap();
    }
    let is_clean = |proxy: &Proxy, what: &str| {
        // More than one, lest the pool has others.
        let mut others = [proxy.raw(), proxy.raw()];
        for _ in 0..2 {
            for other in &mut others {
                for tenant in [1, 2, 3] {
                    let sql = format!(
                        "SELECT current_setting('work_mem') || current_user FROM accounts WHERE tenant_id = {tenant}"
                    );
                    let told = rows(&ok(other, &sql))[0][0].clone().unwrap();
                    assert!(
                        !told.starts_with("7MB") && !told.ends_with("mighty"),
                        "{what}: {told}"
                    );
                }
            }
        }
    };
    let read = "SELECT cents FROM accounts WHERE tenant_id = 3";
    for deferred in [None, Some((11, 1)), Some((12, 2))] {
        for fate in [
            None,
            Some(("PREPARE TRANSACTION", Fate::Swallowed)),
            Some(("gid, committed, shards", Fate::Swallowed)),
            Some(("gid, committed, shards", Fate::Unanswered)),
            Some(("COMMIT PREPARED", Fate::Unanswered)),
        ] {
            let what = format!("{deferred:?} {fate:?}");
            for sql in ["BEGIN", read, FROM_1, TO_2, "SET CONSTRAINTS ALL DEFERRED"] {
                ok(&mut client, sql);
            }
            if let Some((id, tenant)) = deferred {
                ok(&mut client, &format!("INSERT INTO notes VALUES ({id}, {tenant}, 'here')"));
            }
            for sql in ["SET work_mem = '7MB'", "SET ROLE mighty"] {
                ok(&mut client, sql);
            }
            if let Some((text, fate)) = fate {
                world.relay.set(text, fate);
            }
            client.query("COMMIT");
            *world.relay.trap.lock().unwrap() = None;
            is_clean(&proxy, &what);
            world.nothing_is_left().await;
            for sql in ["RESET ROLE", "RESET work_mem"] {
                ok(&mut client, sql);
            }
        }
    }
    let cents = world.cents().await;
    assert_eq!((cents[0], cents[1] + cents[2]), (100, 200));
}

/// The role that has prepared it is not the session's; and what a function has set on a connection stays there.
#[tokio::test]
async fn finishing_leaves_a_session_as_it_was() {
    let world = World::new().await;
    let own = format!("CREATE ROLE mighty; GRANT mighty TO {ROLE}");
    world.shards.first().execute("postgres", &own).await.unwrap();
    for client in &world.direct {
        let sql = "GRANT ALL ON ALL TABLES IN SCHEMA public TO mighty";
        client.batch_execute(sql).await.unwrap();
    }
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    ok(&mut client, "SET statement_timeout = '7s'");
    for sql in ["BEGIN", "SET LOCAL ROLE mighty", FROM_1, TO_2, "COMMIT"] {
        ok(&mut client, sql);
    }
    ok(&mut client, "SET pgmeridian.shard = 'deu'");
    ok(&mut client, "DO $$BEGIN PERFORM set_config('app.tenant', '7', false); END$$");
    ok(&mut client, "RESET pgmeridian.shard");
    transfer(&mut client);
    ok(&mut client, "COMMIT");
    let sql = "SELECT current_setting('app.tenant') || current_setting('statement_timeout') \
               || current_setting('synchronous_commit') FROM accounts WHERE tenant_id = 2";
    assert_eq!(rows(&ok(&mut client, sql))[0][0].as_deref(), Some("77soff"));
    assert_eq!(world.cents().await, [100, 98, 102]);
}

/// One has refused to prepare, one has prepared, and the one that would have decided says nothing to ROLLBACK.
#[tokio::test]
async fn what_is_prepared_does_not_wait_for_others() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    ok(&mut client, "INSERT INTO notes VALUES (2, 2, 'here')");
    for sql in ["BEGIN", "SET CONSTRAINTS ALL DEFERRED", FROM_1, TO_2, TO_3] {
        ok(&mut client, sql);
    }
    ok(&mut client, "INSERT INTO notes VALUES (12, 2, 'here')");
    world.relay.set("ROLLBACK\0", Fate::Held);
    client.send(&frame(b'Q', b"COMMIT\0"));
    until("it was not asked to roll back", async || world.relay.is_done()).await;
    assert_eq!(world.prepared().await, 0);
    assert_eq!(world.cents().await, [100; 3]);
}

/// The one that decides waits for the others, and is not idle meanwhile.
#[tokio::test]
async fn whoever_waits_for_the_others_is_not_idle() {
    let world = World::new().await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
                'BEGIN PERFORM pg_sleep(1.2); RETURN NULL; END'; \
                CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON accounts DEFERRABLE INITIALLY DEFERRED \
                FOR EACH ROW EXECUTE FUNCTION slow()";
    world.direct[2].batch_execute(slow).await.unwrap();
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    ok(&mut client, "SET idle_in_transaction_session_timeout = '400ms'");
    transfer(&mut client);
    ok(&mut client, "COMMIT");
    assert_eq!(world.cents().await, [100, 99, 101]);
}

/// Rows of all shards, written by triggers that notify: as they were written before there were two phases.
#[tokio::test]
async fn triggers_that_notify_are_committed_one_after_the_other() {
    let world = World::new().await;
    world
        .shards
        .run_on_all(
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN NOTIFY changed; RETURN NULL; END'; \
             CREATE TRIGGER tell AFTER UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION tell()",
        )
        .await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    ok(&mut client, "SET pgmeridian.shard = '*'");
    ok(&mut client, "UPDATE accounts SET cents = cents + 1");
    assert_eq!(world.cents().await, [101; 3]);
}

/// What is decided, and what is prepared, is out of a client's reach, however it is named.
#[tokio::test]
async fn decisions_are_the_proxys_own() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let mut client = proxy.raw();
    let driver = proxy.connect().await;
    transfer(&mut client);
    ok(&mut client, "COMMIT");
    for scope in [
        "RESET pgmeridian.shard",
        "SET pgmeridian.shard = 'usa-west'",
        "SET pgmeridian.shard = '*'",
    ] {
        ok(&mut client, scope);
        driver.batch_execute(scope).await.unwrap();
        for sql in [
            "DELETE FROM pgmeridian.decision",
            "UPDATE \"pgmeridian\".decision SET committed = false",
            "TRUNCATE notes, pgmeridian.decision",
            "DROP TABLE IF EXISTS pgmeridian.decision",
            "DROP SCHEMA pgmeridian CASCADE",
            "WITH gone AS (DELETE FROM pgmeridian.decision RETURNING gid) SELECT count(*) FROM gone",
        ] {
            let told = client.query(sql);
            assert_eq!(sqlstate(&told), "42501", "{scope} {sql}: {told:?}");
            // The default shard, which describes it, has no such table.
            let error = driver.execute(sql, &[]).await.unwrap_err();
            let code = error.code().map(tokio_postgres::error::SqlState::code).unwrap_or_default();
            assert!(["42501", "42P01"].contains(&code), "{scope} {sql}: {error:?}");
        }
    }
    ok(&mut client, "SET pgmeridian.shard = 'usa-west'");
    for sql in ["BEGIN", "LOCK TABLE pgmeridian.decision IN ACCESS SHARE MODE", "COMMIT"] {
        ok(&mut client, sql);
    }
    ok(&mut client, "COPY pgmeridian.decision TO STDOUT");
    ok(&mut client, "SET search_path TO pgmeridian, public");
    assert_eq!(sqlstate(&client.query("DELETE FROM decision")), "42501");
    ok(&mut client, "RESET search_path");
    let told = ok(&mut client, "SELECT count(*) FROM pgmeridian.decision");
    assert_eq!(rows(&told)[0][0].as_deref(), Some("1"));
    for name in [r"E'\x70gmeridian:1:a:b:2'", r"U&'\0070gmeridian:1:a:b:2'"] {
        let told = client.query(&format!("ROLLBACK PREPARED {name}"));
        assert_eq!(sqlstate(&told), "42501", "{name}: {told:?}");
    }
}

/// A map that moves keys waits for what is prepared where they were: nobody sees those rows yet.
#[tokio::test]
async fn a_map_does_not_leave_behind_what_is_prepared() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let name = format!("pgmeridian:9:0123456789abcdef:{:032x}:2", 7);
    let prepare =
        format!("BEGIN; INSERT INTO accounts VALUES (13, 5); PREPARE TRANSACTION '{name}'");
    // Which shard tenant 13 is on does not matter: all of them move.
    world.direct[1].batch_execute(&prepare).await.unwrap();
    for client in &world.direct {
        client.batch_execute("TRUNCATE notes").await.unwrap();
        client.batch_execute("DELETE FROM accounts").await.unwrap();
    }
    let moved = world
        .map
        .replace("\"usa-east\", \"usa-west\", \"deu\"", "\"deu\", \"usa-east\", \"usa-west\"");
    assert_ne!(moved, world.map);
    std::fs::write(proxy.map_path(), &moved).unwrap();
    let console = connect(&proxy.console_url(ROLE)).await.unwrap();
    let error = console.simple_query("RELOAD").await.unwrap_err();
    let said = format!("{:?}", error.as_db_error());
    assert!(said.contains("prepared there") && said.contains(&name), "{said}");
    world.direct[1].batch_execute(&format!("ROLLBACK PREPARED '{name}'")).await.unwrap();
    until("the map is not read", async || console.simple_query("RELOAD").await.is_ok()).await;
}

#[tokio::test]
async fn the_policy_may_keep_to_one_shard() {
    let world = World::new().await;
    let map = format!("{}\n[policy]\ncross_shard_writes = \"refuse\"\n", world.map);
    let proxy = Proxy::start_with(&world.shards, &map, CONFIG).await;
    let mut client = proxy.raw();
    ok(&mut client, "BEGIN");
    ok(&mut client, FROM_1);
    assert_eq!(sqlstate(&client.query(TO_2)), "0A000");
    ok(&mut client, "ROLLBACK");
}
