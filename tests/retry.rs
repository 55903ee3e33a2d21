//! A statement that meets a dead connection is sent again where it provably had no effect, and only there.
//!
//! Between the proxy and its shards stands a relay that ends connections at the worst moment: when a request
//! is on its way, without a word or with the server's farewell, before or after the server has had it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use support::raw::{self, Raw, field, frame, rows, sqlstate};
use support::{Proxy, Shards, said};

const TABLES: &str = "
    CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE notes (id bigint NOT NULL, tenant_id bigint NOT NULL, body text);
    CREATE SEQUENCE tickets;";

const CONFIG: &str = "[auth]\nmethod = \"trust\"\n[health]\ninterval = \"300s\"\n";

/// What happens to the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It goes its way.
    Passes,
    /// The connection ends, and the server never sees it.
    Swallowed,
    /// The same, and the server has said why.
    Farewell,
    /// The server sees it, and its answer is lost.
    Unanswered,
}

/// Stands between the proxy and a server.
struct Relay {
    address: SocketAddr,
    fate: Arc<AtomicU8>,
    /// So many requests pass before it.
    before: Arc<AtomicU8>,
}

impl Relay {
    fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let fate = Arc::new(AtomicU8::new(Fate::Passes as u8));
        let own = Arc::clone(&fate);
        let before = Arc::new(AtomicU8::new(0));
        let passing = Arc::clone(&before);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let (near_2, far_2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let cut = Arc::new(AtomicU8::new(0));
                let (fate, cut_2) = (Arc::clone(&own), Arc::clone(&cut));
                let passing = Arc::clone(&passing);
                std::thread::spawn(move || requests(near, far, &fate, &passing, &cut));
                std::thread::spawn(move || answers(far_2, near_2, &cut_2));
            }
        });
        Self { address, fate, before }
    }

    /// The one after the next.
    /// The one behind so many others.
    fn behind(&self, others: u8, fate: Fate) {
        self.before.store(others, Ordering::SeqCst);
        self.next(fate);
    }

    fn next(&self, fate: Fate) {
        self.fate.store(fate as u8, Ordering::SeqCst);
    }

    /// It has met its request.
    fn is_done(&self) -> bool {
        self.fate.load(Ordering::SeqCst) == Fate::Passes as u8
    }
}

fn requests(
    mut near: TcpStream,
    mut far: TcpStream,
    fate: &AtomicU8,
    passing: &AtomicU8,
    cut: &AtomicU8,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = near.read(&mut buffer) {
        let is_request = b"QPBDE".contains(&buffer[0])
            && fate.load(Ordering::SeqCst) != 0
            && passing
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_err();
        let fate = if is_request { fate.swap(Fate::Passes as u8, Ordering::SeqCst) } else { 0 };
        if fate == Fate::Farewell as u8 {
            let words =
                b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0";
            near.write_all(&frame(b'E', words)).unwrap();
        }
        if fate == Fate::Swallowed as u8 || fate == Fate::Farewell as u8 {
            break;
        }
        cut.store(u8::from(fate == Fate::Unanswered as u8), Ordering::SeqCst);
        if far.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = near.shutdown(Shutdown::Both);
    let _ = far.shutdown(Shutdown::Both);
}

fn answers(mut far: TcpStream, mut near: TcpStream, cut: &AtomicU8) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = far.read(&mut buffer) {
        if cut.load(Ordering::SeqCst) == 1 || near.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = near.shutdown(Shutdown::Both);
    let _ = far.shutdown(Shutdown::Both);
}

/// Two shards behind a relay.
async fn serve() -> (Shards, Relay, Proxy) {
    let shards = Shards::databases(2);
    shards.run_on_all(TABLES).await;
    let port = shards.first().port();
    let relay = Relay::before(port);
    let map = shards.map_by_hash("");
    let map = map.replace(&format!(":{port}/"), &format!(":{}/", relay.address.port()));
    let proxy = Proxy::start_with(&shards, &map, CONFIG).await;
    (shards, relay, proxy)
}

/// A statement in the extended protocol, as JDBC says even its COMMIT.
fn say_extended(client: &mut Raw, sql: &str) -> Vec<raw::Message> {
    let body = |parts: &[&[u8]]| parts.concat();
    let mut unit = frame(b'P', &body(&[b"\0", sql.as_bytes(), b"\0\0\0"]));
    unit.extend(frame(b'B', &[0; 8]));
    unit.extend(frame(b'E', &[0; 5]));
    unit.extend(frame(b'S', b""));
    client.send(&unit);
    client.until_ready()
}

/// Connections past the relay.
async fn direct(shards: &Shards) -> Vec<tokio_postgres::Client> {
    let mut clients = Vec::new();
    for name in shards.names() {
        clients.push(shards.direct(name).await);
    }
    clients
}

/// How many tenants there were.
async fn tenants(direct: &[tokio_postgres::Client]) -> u64 {
    let mut count = 0;
    for client in direct {
        count += client.execute("DELETE FROM tenants", &[]).await.unwrap();
    }
    count
}

#[tokio::test]
async fn only_what_had_no_effect_is_sent_again() {
    let (shards, relay, proxy) = serve().await;
    let direct = direct(&shards).await;
    let mut client = proxy.raw();
    // What is said before, and what meets its fate; the SQLSTATE, and how many rows there are in the end.
    let mut check = async |before: &str, sql: &str, fate: Fate, code: &str, count: u64| {
        for warm in 1..=2 {
            client.query(&format!("SELECT 1 FROM tenants WHERE id = {warm}"));
        }
        for one in before.split("; ").filter(|one| !one.is_empty()) {
            assert_eq!(sqlstate(&client.query(one)), "", "{before}");
        }
        relay.next(fate);
        let told = client.query(sql);
        let what = format!("{before}; {sql}: {fate:?}");
        assert!(relay.is_done(), "{what}: no request came");
        assert_eq!(sqlstate(&told), code, "{what}: {told:?}");
        if told.last().unwrap().body == b"T" {
            assert_eq!(sqlstate(&client.query("COMMIT")), "", "{what}");
        } else if told.last().unwrap().body == b"E" {
            client.query("ROLLBACK");
        }
        client.query("DISCARD ALL");
        assert_eq!(tenants(&direct).await, count, "{what}");
    };
    let insert = "INSERT INTO tenants VALUES (1, 'a')";
    let read = "SELECT name, now() FROM tenants WHERE id = 1";
    for fate in [Fate::Swallowed, Fate::Farewell, Fate::Unanswered] {
        check("", read, fate, "", 0).await;
        check("BEGIN", read, fate, "", 0).await;
        // Of a transaction that has just begun nothing stays without its COMMIT.
        check("BEGIN", insert, fate, "", 1).await;
        // The savepoint goes along with BEGIN in a request of its own.
        check("BEGIN; SAVEPOINT a", insert, fate, "", 1).await;
        // What tells a connection the session's settings has no effect either.
        check("SET work_mem = '1MB'", insert, fate, "", 1).await;
        check("SET work_mem = '2MB'", "SELECT nextval('tickets')", fate, "", 0).await;
        check("", "SELECT * FROM tenants", fate, "", 0).await;
        check("", "SELECT count(DISTINCT name) FROM tenants", fate, "", 0).await;
        check("SET pgmeridian.shard = '*'", "DELETE FROM tenants", fate, "", 0).await;
    }
    check("", insert, Fate::Swallowed, "08006", 0).await;
    check("", insert, Fate::Farewell, "", 1).await;
    check("", insert, Fate::Unanswered, "08006", 1).await;
    let both = "INSERT INTO tenants VALUES (1, 'a'); INSERT INTO tenants VALUES (3, 'b')";
    check("", both, Fate::Farewell, "", 2).await;
    check("", both, Fate::Unanswered, "08006", 2).await;
    check("", "BEGIN; INSERT INTO tenants VALUES (1, 'a'); COMMIT", Fate::Farewell, "", 1).await;
    check("", "BEGIN; INSERT INTO tenants VALUES (1, 'a'); COMMIT", Fate::Unanswered, "08006", 1)
        .await;
    // Functions that do something besides.
    check("", "SELECT pg_sleep(0)", Fate::Unanswered, "08006", 0).await;
    check("", "SELECT pg_sleep(0)", Fate::Farewell, "57P01", 0).await;
    // In a transaction that has had answers there is nothing to be saved.
    check("BEGIN; SELECT 1 FROM tenants WHERE id = 1", insert, Fate::Farewell, "57P01", 0).await;
    check("BEGIN; SELECT 1 FROM tenants WHERE id = 1", read, Fate::Swallowed, "08006", 0).await;
    // On a second shard it has had none.
    let begun = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT 1 FROM tenants WHERE id = 2";
    check(begun, insert, Fate::Swallowed, "", 1).await;
    check(begun, insert, Fate::Farewell, "", 1).await;
}

/// What was done before a refused statement in a string is taken back, and the transaction that it was done in is no
/// client's: it is over even if its shard is lost while it is taken back, and the client is told the refusal.
#[tokio::test]
async fn what_comes_before_a_refusal_is_gone_with_its_shard() {
    let (shards, relay, proxy) = serve().await;
    let direct = direct(&shards).await;
    let mut client = proxy.raw();
    let refused = "INSERT INTO tenants VALUES (1, 'a'); INSERT INTO notes (id) VALUES (2)";
    let told = client.query(refused);
    let (code, why) = (sqlstate(&told), field(&told[1], b'M'));
    for (fate, told_by_shard) in
        [(Fate::Swallowed, false), (Fate::Unanswered, false), (Fate::Farewell, true)]
    {
        client.query(refused);
        // Behind BEGIN and the INSERT.
        relay.behind(2, fate);
        let told = client.query(refused);
        assert!(relay.is_done(), "{fate:?}");
        let tags: Vec<u8> = told.iter().map(|message| message.tag).collect();
        assert_eq!(tags, b"CEZ", "{fate:?}: {told:?}");
        if told_by_shard {
            assert_eq!(sqlstate(&told), "57P01", "{told:?}");
        } else {
            assert_eq!((sqlstate(&told), field(&told[1], b'M')), (code.clone(), why.clone()));
        }
        assert_eq!(told[2].body, b"I", "{fate:?}");
        let told = client.query("SELECT name FROM tenants WHERE id = 1");
        assert_eq!((sqlstate(&told), rows(&told).len()), (String::new(), 0), "{fate:?}");
        assert_eq!(told.last().unwrap().body, b"I", "{fate:?}");
        assert_eq!(tenants(&direct).await, 0, "{fate:?}");
    }
}

/// COMMIT that is sent and not answered: nothing is said to be committed, or not, that may be otherwise.
#[tokio::test]
async fn a_commit_without_an_answer_is_in_doubt() {
    let (shards, relay, proxy) = serve().await;
    let direct = direct(&shards).await;
    let mut client = proxy.raw();
    let insert = "INSERT INTO tenants VALUES (1, 'a')";
    let read = "SELECT name FROM tenants WHERE id = 2";
    let mut extended = false;
    let mut check = async |before: &[&str], others: u8, fate: Fate, code: &str, count: u64| {
        for sql in before {
            assert_eq!(sqlstate(&client.query(sql)), "", "{sql}");
        }
        extended = !extended;
        let what = format!("{before:?} {others} {fate:?} {extended}");
        relay.behind(others, fate);
        let told =
            if extended { say_extended(&mut client, "COMMIT") } else { client.query("COMMIT") };
        assert!(relay.is_done(), "{what}");
        let error = told.iter().find(|message| message.tag == b'E').unwrap();
        assert_eq!(field(error, b'C'), code, "{what}: {told:?}");
        let unknown = field(error, b'D').contains("not known on shard \"usa-west\"");
        assert_eq!(unknown, code == "08007", "{what}: {}", field(error, b'D'));
        // After COMMIT there is no transaction, whatever came of it.
        assert_eq!(told.last().unwrap().body, b"I", "{what}");
        assert_eq!(client.query("SELECT 1").last().unwrap().body, b"I", "{what}");
        client.query("DISCARD ALL");
        assert_eq!(tenants(&direct).await, count, "{what}");
    };
    // On one shard.
    for _ in ["extended", "simple"] {
        check(&["BEGIN", insert], 0, Fate::Unanswered, "08007", 1).await;
    }
    for _ in ["extended", "simple"] {
        check(&["BEGIN", insert], 0, Fate::Swallowed, "08007", 0).await;
    }
    // The shard said good-bye before it had read it.
    for _ in ["extended", "simple"] {
        check(&["BEGIN", insert], 0, Fate::Farewell, "57P01", 0).await;
    }
    // Written on one, read on another, which is asked whether it was, and whose COMMIT comes first.
    for before in [["BEGIN", read, insert], ["BEGIN", insert, read]] {
        check(&before, 2, Fate::Unanswered, "08007", 1).await;
        check(&before, 2, Fate::Swallowed, "08007", 0).await;
        for others in [0, 1] {
            check(&before, others, Fate::Unanswered, "08006", 0).await;
            check(&before, others, Fate::Swallowed, "08006", 0).await;
        }
    }
}

/// COMMIT of what was written on two shards, and one of its messages is lost, each in turn.
#[tokio::test]
async fn a_commit_on_two_shards_is_all_or_nothing() {
    let (shards, relay, proxy) = serve().await;
    let direct = direct(&shards).await;
    for (id, name) in [(1, "usa-west"), (2, "usa-east")] {
        let row = format!("INSERT INTO tenants VALUES ({id}, 'a')");
        let at = shards.names().position(|own| own == name).unwrap();
        direct[at].batch_execute(&row).await.unwrap();
    }
    let mut met = 0;
    for fate in [Fate::Swallowed, Fate::Unanswered, Fate::Farewell] {
        for others in 0.. {
            let what = format!("{fate:?} behind {others}");
            let mut client = proxy.raw();
            let before = ["SET pgmeridian.shard = '*'", "BEGIN", "UPDATE tenants SET name = 'b'"];
            for sql in before {
                assert_eq!(sqlstate(&client.query(sql)), "", "{sql}");
            }
            relay.behind(others, fate);
            let told = client.query("COMMIT");
            let code = sqlstate(&told);
            assert_eq!(told.last().unwrap().body, b"I", "{what}: {told:?}");
            // Whatever is left prepared is finished before this has its locks.
            let mut written = 0;
            for own in &direct {
                let own = own.execute("UPDATE tenants SET name = 'a' WHERE name = 'b'", &[]);
                written += own.await.unwrap();
            }
            match code.as_str() {
                "" => assert_eq!(written, 2, "{what}"),
                "08007" => assert!(written == 0 || written == 2, "{what}: {written}"),
                _ => assert_eq!(written, 0, "{what}: {code}"),
            }
            if !relay.is_done() {
                relay.next(Fate::Passes);
                break;
            }
            met += 1;
        }
    }
    assert!(met >= 15, "{met} messages");
}

#[tokio::test]
async fn prepared_statements_are_sent_again_too() {
    let (shards, relay, proxy) = serve().await;
    let direct = direct(&shards).await;
    let client = proxy.connect().await;
    let read = client.prepare("SELECT name FROM tenants WHERE id = $1").await.unwrap();
    let insert = client.prepare("INSERT INTO tenants VALUES ($1, 'a')").await.unwrap();
    for fate in [Fate::Swallowed, Fate::Farewell, Fate::Unanswered] {
        relay.next(fate);
        assert!(client.query(&read, &[&1_i64]).await.unwrap().is_empty(), "{fate:?}");
        assert!(relay.is_done());
        // The connection that is found dead had known the statement; the client is told once.
        client.query("SELECT 1 FROM tenants WHERE id = 1", &[]).await.unwrap();
        relay.next(fate);
        client.prepare("SELECT name FROM tenants WHERE id = $1").await.unwrap();
        assert!(relay.is_done());
        relay.next(fate);
        assert!(client.query("SELECT id FROM tenants", &[]).await.unwrap().is_empty(), "{fate:?}");
        client
            .batch_execute("PREPARE p (bigint) AS SELECT name FROM tenants WHERE id = $1")
            .await
            .unwrap();
        relay.next(fate);
        client.batch_execute("EXECUTE p (1)").await.unwrap();
        client.batch_execute("DEALLOCATE p").await.unwrap();
        client.batch_execute("BEGIN").await.unwrap();
        relay.next(fate);
        assert_eq!(client.execute(&insert, &[&1_i64]).await.unwrap(), 1, "{fate:?}");
        client.batch_execute("COMMIT").await.unwrap();
        assert_eq!(tenants(&direct).await, 1);
    }
    client.query(&read, &[&1_i64]).await.unwrap();
    relay.next(Fate::Farewell);
    assert_eq!(client.execute(&insert, &[&1_i64]).await.unwrap(), 1);
    assert_eq!(tenants(&direct).await, 1);
    for (fate, count) in [(Fate::Swallowed, 0), (Fate::Unanswered, 1)] {
        client.query(&read, &[&1_i64]).await.unwrap();
        relay.next(fate);
        let error = client.execute(&insert, &[&1_i64]).await.unwrap_err();
        assert_eq!(said(&error).0, "08006", "{error:?}");
        assert_eq!(tenants(&direct).await, count, "{fate:?}");
    }
    let (_, metrics) = support::http(proxy.http, "GET", "/metrics", None).await;
    assert!(!metrics.contains("pgmeridian_retries_total 0"), "{metrics}");
}

#[tokio::test]
async fn a_restarted_shard_costs_idle_clients_nothing() {
    let mut shards = Shards::clusters(1);
    shards.run_on_all(TABLES).await;
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(""), CONFIG).await;
    let mut crowd: Vec<Raw> = (0..50).map(|_| proxy.raw()).collect();
    for (n, client) in crowd.iter_mut().enumerate() {
        if n < 20 {
            assert_eq!(sqlstate(&client.query("BEGIN; SELECT 1 FROM tenants WHERE id = 1")), "");
        }
    }
    for client in &mut crowd {
        client.query("COMMIT");
    }
    shards.cluster("usa-east").stop();
    shards.cluster("usa-east").start_again().unwrap();
    for (n, client) in crowd.iter_mut().enumerate() {
        let told = client.query(&format!("INSERT INTO tenants VALUES ({n}, 'a')"));
        assert_eq!(sqlstate(&told), "", "client {n}: {told:?}");
    }
    let told = crowd[0].query("SELECT count(*) FROM tenants");
    assert_eq!(rows(&told)[0][0].as_deref(), Some("50"));
}
