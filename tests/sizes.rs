//! Rows, statements and errors of every size, and answers that ask no shard: what comes is what one PostgreSQL sends,
//! and nobody else waits for it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgmeridian::app::Server;
use pgmeridian::config::{AuthMethod, Config};
use pgmeridian::demo::cluster::{Cluster, DATABASE, Options, ROLE};
use pgmeridian::map::ShardMap;
use support::raw::{BOT, Message, Raw, frame, query, rows, sqlstate};
use support::{NAMES, TENANT_BY_HASH, connect};

const SHARDS: usize = 3;

const TABLES: &str = "
    CREATE TABLE big (tenant_id bigint NOT NULL, id int NOT NULL, body text, PRIMARY KEY (tenant_id, id));
    CREATE TABLE small (tenant_id bigint NOT NULL, id int NOT NULL);
    CREATE FUNCTION tell(n int) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN FOR i IN 1 .. n LOOP RAISE NOTICE '% of %', i, current_database(); END LOOP; END $$;";

/// Rows of a tenant: whole reads and parts of them are 64 KiB, and so is what is sent at once.
const ROWS: [(u64, &str); 6] = [
    (1, "SELECT 1 FROM generate_series(1, 40)"),
    (2, "SELECT 61440 FROM generate_series(1, 6)"),
    (3, "SELECT 65510 + n FROM generate_series(1, 35) n"),
    (4, "SELECT 1048576"),
    (5, "SELECT unnest(ARRAY[10, 70000, 20, 200000, 30])"),
    (6, "SELECT 131050 + n FROM generate_series(1, 8) n"),
];

/// At most so many bytes of rows are kept.
const MEMORY_MAX: u64 = 16 << 20;

/// Others wait no longer for one statement's sake, on a machine that does other things too and with code that is not
/// optimised.
const OTHERS_WAIT_MAX: Duration = Duration::from_secs(4);

struct World {
    cluster: Cluster,
    proxy: Server,
}

impl World {
    async fn start() -> Self {
        let names = &NAMES[..SHARDS];
        let mut options = Options::named("sizes");
        options.databases = names.iter().map(|name| (*name).to_owned()).collect();
        options.hba = vec![format!("host all {ROLE} 127.0.0.1/32 trust")];
        let cluster = Cluster::start(&options).unwrap();
        let mut map =
            format!("version = 1\ndatabase = \"{DATABASE}\"\ndefault_shard = \"{}\"\n", names[0]);
        for (n, name) in std::iter::once(DATABASE).chain(names.iter().copied()).enumerate() {
            let client = connect(&cluster.database_url(name)).await.unwrap();
            client.batch_execute(TABLES).await.unwrap();
            for (tenant, sizes) in ROWS {
                let body = format!("left(repeat(md5(n || '-{tenant}'), s / 32 + 1), s)");
                // The first database has all rows.
                if n == 0 || (tenant as usize) % SHARDS == n - 1 {
                    let insert = format!(
                        "INSERT INTO big SELECT {tenant}, n, {body} FROM \
                         (SELECT s::int, row_number() OVER () AS n FROM ({sizes}) u (s)) r"
                    );
                    client.batch_execute(&insert).await.unwrap();
                    let insert = format!(
                        "INSERT INTO small SELECT {tenant}, n FROM generate_series(1, 500) n"
                    );
                    client.batch_execute(&insert).await.unwrap();
                }
            }
            if n > 0 {
                let url = cluster.database_url(name);
                let _ = write!(
                    map,
                    "[[shards]]\nid = {n}\nname = \"{name}\"\nregion = \"X\"\nurl = \"{url}\"\n"
                );
            }
        }
        let _ = writeln!(map, "{TENANT_BY_HASH}shards = {names:?}");
        let (map, _) = ShardMap::parse("sizes.toml", &map, &|_| None)
            .unwrap_or_else(|faults| panic!("{}", faults.render(false)));
        let mut config = Config::default();
        "127.0.0.1:0".clone_into(&mut config.listen.address);
        config.auth.method = AuthMethod::Trust;
        config.limits.merge_memory_max = MEMORY_MAX;
        let proxy = Server::start(config, map).await.unwrap();
        Self { cluster, proxy }
    }

    /// A client of the proxy.
    fn client(&self) -> Raw {
        Raw::log_in(self.proxy.address(), &BOT).0
    }

    /// A client of the database that has all rows.
    fn plain(&self) -> Raw {
        let address = SocketAddr::from(([127, 0, 0, 1], self.cluster.port()));
        Raw::log_in(address, &BOT).0
    }

    /// Says the same to both.
    fn both(&self, what: &str, say: impl Fn(&mut Raw) -> Vec<Message>) {
        let expected = say(&mut self.plain());
        let mut client = self.client();
        let found = say(&mut client);
        assert_eq!(rows(&client.query("SELECT 1")), [[Some("1".to_owned())]], "after {what}");
        // A table's own number is told too.
        let told = |messages: &[Message]| -> Vec<Message> {
            messages.iter().filter(|m| !matches!(m.tag, b'T' | b'S')).cloned().collect()
        };
        let (expected, found) = (told(&expected), told(&found));
        let tags = |messages: &[Message]| -> String {
            let one = |m: &Message| format!("{}{}", char::from(m.tag), m.body.len());
            messages.iter().map(one).collect::<Vec<_>>().join(" ")
        };
        assert!(
            expected == found,
            "{what}: {} {}\n{}\n{}",
            sqlstate(&expected),
            sqlstate(&found),
            tags(&expected),
            tags(&found)
        );
    }
}

fn parse(sql: &str) -> Vec<u8> {
    frame(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

/// Of the unnamed statement, with at most one parameter.
fn bind(portal: &str, parameter: Option<&[u8]>) -> Vec<u8> {
    let mut body = [portal.as_bytes(), b"\0\0\0\0"].concat();
    body.extend_from_slice(&u16::from(parameter.is_some()).to_be_bytes());
    if let Some(value) = parameter {
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value);
    }
    body.extend_from_slice(&[0, 0]);
    frame(b'B', &body)
}

fn execute(portal: &str, most: u32) -> Vec<u8> {
    frame(b'E', &[portal.as_bytes(), b"\0", &most.to_be_bytes()].concat())
}

fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

fn send(client: &mut Raw, messages: &[Vec<u8>]) -> Vec<Message> {
    client.send(&messages.concat());
    client.until_ready()
}

/// Every way to answer a read, each in an order that leaves nothing open.
const READS: [&str; 10] = [
    "SELECT id, body FROM big WHERE tenant_id = 3 ORDER BY id",
    "SELECT tenant_id, id, body FROM big ORDER BY tenant_id, id",
    "SELECT id, body FROM big ORDER BY length(body) DESC, tenant_id DESC, id",
    "SELECT body, id FROM big ORDER BY body COLLATE \"C\", tenant_id, id",
    "SELECT id, body FROM big ORDER BY length(body) DESC, tenant_id, id LIMIT 9 OFFSET 3",
    "SELECT DISTINCT left(body, 50000) FROM big WHERE id < 4 ORDER BY 1",
    "SELECT left(body, 70000), count(*) FROM big WHERE id < 4 GROUP BY 1 ORDER BY 1",
    "SELECT id, row_number() OVER (ORDER BY id, tenant_id), body FROM big ORDER BY id, tenant_id",
    "SELECT string_agg(body, ',' ORDER BY tenant_id, id) FROM big",
    "SELECT id, body FROM big WHERE id < 0 ORDER BY id",
];

#[tokio::test]
async fn rows_of_any_size_come_as_from_one_server() {
    let world = World::start().await;
    for sql in READS {
        world.both(sql, |client| client.query(sql));
        world.both(sql, |client| {
            send(client, &[parse(sql), bind("", None), execute("", 7), sync()])
        });
        // Part by part, with other statements in between.
        world.both(sql, |client| {
            client.query("BEGIN");
            let mut told = send(client, &[parse(sql), bind("p", None), sync()]);
            for most in [1, 2, 30, 1, 0] {
                told.extend(send(client, &[execute("p", most), sync()]));
                told.extend(client.query("SELECT count(*) FROM big"));
            }
            told.extend(client.query("COMMIT"));
            told
        });
        world.both(sql, |client| client.query(&format!("COPY ({sql}) TO STDOUT")));
    }
    let columns: Vec<String> = (0..1600).map(|n| format!("id + {n}")).collect();
    let wide =
        format!("SELECT {} FROM big WHERE id < 3 ORDER BY tenant_id, id", columns.join(", "));
    world.both("1,600 columns", |client| client.query(&wide));
}

/// A client may send a statement in as many pieces as it likes.
#[tokio::test]
async fn a_parameter_that_is_large_is_bound_when_all_of_its_statement_is_there() {
    let world = World::start().await;
    for sql in [
        "SELECT id, length($1) FROM big WHERE tenant_id = 1 ORDER BY id",
        "SELECT tenant_id, id, length($1) FROM big ORDER BY tenant_id, id",
        "SELECT count(*), max($1::text) FROM big",
        "SELECT a.id, length($1) FROM big a JOIN big b ON a.id = b.id + 1 ORDER BY a.tenant_id, b.tenant_id, a.id",
    ] {
        for length in [1000, 300_000, 2_000_000] {
            let value = vec![b'x'; length];
            world.both(&format!("{length} bytes for {sql}"), |client| {
                client.send(&[parse(sql), bind("", Some(&value))].concat());
                std::thread::sleep(Duration::from_millis(50));
                send(client, &[execute("", 0), sync()])
            });
        }
    }
}

#[tokio::test]
async fn an_error_that_shows_a_large_value_is_the_shards_own() {
    let world = World::start().await;
    let value = "repeat(left(body, 1) || 'x', 1000000)";
    for sql in [
        format!("SELECT {value}::int FROM big WHERE tenant_id = 1 AND id = 1"),
        format!("SELECT {value}::int FROM big WHERE id = 1 AND tenant_id IN (1, 2)"),
        format!("SELECT id, {value}::int FROM big WHERE id = 1 ORDER BY tenant_id"),
        format!("SELECT sum({value}::int) FROM big WHERE id = 1"),
        format!(
            "SELECT a.id, {value}::int FROM big a JOIN small b ON a.id = b.tenant_id WHERE a.id = 1"
        ),
    ] {
        let sql = sql
            .replace("left(body", if sql.contains("a.id") { "left(a.body" } else { "left(body" });
        let mut client = world.client();
        client.query("BEGIN");
        let told = client.query(&sql);
        assert_eq!(sqlstate(&told), "22P02", "{sql}");
        let error = told.iter().find(|m| m.tag == b'E').unwrap();
        assert!(error.body.len() > 2_000_000, "{sql}");
        assert_eq!(told.last().unwrap().body, b"E", "{sql}");
        assert_eq!(client.query("ROLLBACK").last().unwrap().body, b"I", "{sql}");
        assert_eq!(rows(&client.query("SELECT count(*) FROM big")).len(), 1);
    }
}

#[tokio::test]
async fn answers_of_all_shards_that_are_more_than_is_kept_are_refused_by_name() {
    let world = World::start().await;
    let mut client = world.client();
    client.query("SET pgmeridian.shard = '*'");
    // Many rows, and one.
    for (value, which) in
        [("repeat('x', 700000)", "id <= 20"), ("repeat('x', 20000000)", "id = 1 AND tenant_id < 4")]
    {
        let update = format!("UPDATE big SET id = id + 1000 WHERE {which} RETURNING {value}");
        assert_eq!(sqlstate(&client.query(&update)), "53400", "{value}");
        client.query("BEGIN");
        assert_eq!(sqlstate(&client.query(&update)), "53400", "{value}");
        assert_eq!(client.query("ROLLBACK").last().unwrap().body, b"I");
        let changed = rows(&client.query("SELECT count(*) FROM big WHERE id > 1000"));
        assert!(changed.iter().all(|row| row == &[Some("0".to_owned())]), "{changed:?}");
    }
}

/// The longest that others waited for a cheap statement while something was done.
fn others_waited(world: &World, doing: impl FnOnce()) -> Duration {
    let over = Arc::new(AtomicBool::new(false));
    let mut other = world.client();
    let seen = Arc::clone(&over);
    let watch = std::thread::spawn(move || {
        let mut worst = Duration::ZERO;
        while !seen.load(Ordering::Relaxed) {
            let began = Instant::now();
            other.send(&query("SELECT id FROM small WHERE tenant_id = 1 AND id = 1"));
            while other.receive_within(Duration::from_secs(60)).unwrap().tag != b'Z' {}
            worst = worst.max(began.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
        worst
    });
    std::thread::sleep(Duration::from_millis(50));
    doing();
    over.store(true, Ordering::Relaxed);
    watch.join().unwrap()
}

/// Everything up to so many `ReadyForQuery`, however long it takes.
fn wait_for(client: &mut Raw, mut readies: usize) -> usize {
    let mut messages = 0;
    while readies > 0 {
        let message = client.receive_within(Duration::from_secs(60)).unwrap();
        messages += 1;
        readies -= usize::from(message.tag == b'Z');
    }
    messages
}

#[tokio::test]
async fn what_waits_for_no_shard_lets_others_have_their_turn() {
    let world = World::start().await;
    let waited = others_waited(&world, || {
        let mut client = world.client();
        client.send(&query(&"SHOW pgmeridian.last_route;".repeat(15_000)));
        assert_eq!(wait_for(&mut client, 1), 45_001);
    });
    assert!(waited < OTHERS_WAIT_MAX, "a string of answers: {waited:?}");
    let waited = others_waited(&world, || {
        let mut client = world.client();
        client.query("SET pgmeridian.shard = '*'");
        client.send(&query("SELECT tell(12000)"));
        assert!(wait_for(&mut client, 1) > 36_000);
    });
    assert!(waited < OTHERS_WAIT_MAX, "notices of all shards: {waited:?}");
    let waited = others_waited(&world, || {
        let mut client = world.client();
        let mut answers = client.second_hand();
        let pipeline = query("SELECT 1").repeat(20_000);
        let writer = std::thread::spawn(move || client.send(&pipeline));
        wait_for(&mut answers, 20_000);
        writer.join().unwrap();
    });
    assert!(waited < OTHERS_WAIT_MAX, "a pipeline of answers: {waited:?}");
}

#[tokio::test]
async fn what_is_copied_or_explained_over_scratch_tables_can_be_cancelled() {
    let world = World::start().await;
    let endless =
        "SELECT count(*) FROM small a JOIN small b ON a.id <> b.id JOIN small c ON c.id <> a.id";
    for sql in [
        endless.to_owned(),
        format!("COPY ({endless}) TO STDOUT"),
        format!("EXPLAIN ANALYZE {endless}"),
    ] {
        let mut client = world.client();
        client.send(&query(&sql));
        std::thread::sleep(Duration::from_millis(1500));
        client.cancel();
        assert_eq!(sqlstate(&client.until_ready()), "57014", "{sql}");
        assert_eq!(rows(&client.query("SELECT count(*) FROM small")).len(), 1);
    }
}
