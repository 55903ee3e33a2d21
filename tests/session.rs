//! A client's session over pooled connections: what belongs to one client stays its own, whatever happens
//! to its statements, and what it no longer needs goes back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use support::raw::{Message, Raw, rows, sqlstate};
use support::{Proxy, Shards};

const TABLES: &str = "
    CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE notes (id bigint NOT NULL, tenant_id bigint NOT NULL, body text);
    CREATE TABLE plans (tier int PRIMARY KEY, name text);
    INSERT INTO plans VALUES (1, 'free'), (2, 'team');";

const REST: &str = "[tables]\nplans = \"reference\"\n";

/// Everybody is who they say: raw clients need no password.
const TRUST: &str = "[auth]\nmethod = \"trust\"\n";

/// A single connection per shard: whoever leaves something behind leaves it to the next client.
const ONE: &str = "[pool]\nsize = 1\nreserve = 0\nwait_timeout = \"5s\"\n";

const BOT: [(&str, &str); 2] = [("user", "bot"), ("database", "bots")];

async fn serve(count: usize, config: &str) -> (Shards, Proxy) {
    let shards = Shards::databases(count);
    shards.run_on_all(TABLES).await;
    let config = format!("{TRUST}{config}");
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(REST), &config).await;
    (shards, proxy)
}

fn log_in(proxy: &Proxy) -> Raw {
    let (client, told) = Raw::log_in(proxy.address, &BOT);
    assert_eq!(sqlstate(&told), "", "{told:?}");
    client
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
    let mut client = log_in(&proxy);
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
        client.send(&support::raw::frame(b'P', &parse));
        client.send(&support::raw::frame(b'B', b"\0\0\0\0\0\0\0\0"));
        client.send(&support::raw::frame(b'E', b"\0\0\0\0\0"));
        client.send(&support::raw::frame(b'S', b""));
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
