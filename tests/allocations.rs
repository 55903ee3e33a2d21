//! A statement that the proxy knows is relayed without allocating anything: simple with literals, extended
//! with parameters, prepared. Counted in this process, where the proxy runs on threads of its own; what
//! runs beside a statement (health checks, timers) allocates too, so the least of several counts holds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use pgmeridian::app::Server;
use pgmeridian::config::{AuthMethod, Config};
use pgmeridian::map::ShardMap;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::Shards;
use support::raw::{frame, query, startup};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TABLES: &str = "
    CREATE TABLE notes (id bigint NOT NULL, tenant_id bigint NOT NULL, body text);
    INSERT INTO notes SELECT n, n, 'note ' || n FROM generate_series(1, 20) n;
    CREATE TABLE tenants (id bigint PRIMARY KEY, name text);
    INSERT INTO tenants SELECT n, 'tenant ' || n FROM generate_series(1, 20) n;";

/// Statements between two counts.
const STATEMENTS: usize = 100;

/// A client that allocates nothing by itself.
struct Client {
    socket: TcpStream,
    buffer: [u8; 4096],
}

impl Client {
    /// Says something, and reads what comes up to `ReadyForQuery`, which must be the last to come.
    fn ask(&mut self, request: &[u8]) -> usize {
        self.socket.write_all(request).unwrap();
        let mut length = 0;
        while !self.buffer[..length].ends_with(b"Z\0\0\0\x05I") {
            let count = self.socket.read(&mut self.buffer[length..]).unwrap();
            assert!(count > 0, "the proxy has hung up");
            length += count;
        }
        assert_ne!(self.buffer[0], b'E', "{}", String::from_utf8_lossy(&self.buffer[..length]));
        length
    }

    /// The fewest allocations that so many statements took.
    fn count(&mut self, request: &[u8]) -> usize {
        for _ in 0..STATEMENTS {
            self.ask(request);
        }
        // What the server does beside its clients (it looks at its shards when it starts) is counted as well, and over
        // after a while.
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut fewest = usize::MAX;
        while fewest > 0 && Instant::now() < deadline {
            let region = Region::new(ALLOCATOR);
            for _ in 0..STATEMENTS {
                self.ask(request);
            }
            let change = region.change();
            fewest = fewest.min(change.allocations + change.reallocations);
        }
        fewest
    }
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', &[text(name), text(sql), vec![0, 0]].concat())
}

/// Bind, Describe, Execute, Sync with one parameter in text.
fn run(statement: &str, value: &str) -> Vec<u8> {
    let length = i32::try_from(value.len()).unwrap().to_be_bytes();
    let values = [&[0, 0, 0, 1][..], &length, value.as_bytes(), &[0, 0]].concat();
    [
        frame(b'B', &[text(""), text(statement), values].concat()),
        frame(b'D', b"P\0"),
        frame(b'E', b"\0\0\0\0\0"),
        frame(b'S', b""),
    ]
    .concat()
}

#[test]
fn a_known_statement_allocates_nothing() {
    let shards = Shards::databases(3);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(async {
        shards.run_on_all(TABLES).await;
        let (map, _) = ShardMap::parse("map.toml", &shards.map_by_hash(""), &|_| None)
            .unwrap_or_else(|faults| panic!("{}", faults.render(false)));
        let mut config = Config::default();
        "127.0.0.1:0".clone_into(&mut config.listen.address);
        config.auth.method = AuthMethod::Trust;
        Server::start(config, map).await.unwrap()
    });
    let socket = TcpStream::connect(server.address()).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut client = Client { socket, buffer: [0; 4096] };
    client.ask(&startup(&[("user", "bot"), ("database", "bots")]));
    let sql = "SELECT id, body FROM notes WHERE tenant_id = $1";
    client.ask(&[parse("known", sql), frame(b'S', b"")].concat());
    for (name, request) in [
        ("simple", query("SELECT id, body FROM notes WHERE tenant_id = 7")),
        ("extended", [parse("", sql), run("", "7")].concat()),
        ("prepared", run("known", "7")),
        ("simple, kept", query("SELECT name FROM tenants WHERE id = 7")),
        (
            "extended, kept",
            [parse("", "SELECT name FROM tenants WHERE id = $1"), run("", "7")].concat(),
        ),
    ] {
        let count = client.count(&request);
        println!("{name}: {count} allocations in {STATEMENTS} statements");
        assert_eq!(count, 0, "{name}: allocations in {STATEMENTS} statements");
    }
    drop(server);
}
