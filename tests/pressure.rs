//! Back-pressure: a shard that does not take what a client sends, and a client that does not take what
//! shards send, cost the proxy no memory and other clients nothing.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::raw::{Message, frame, query, rows, sqlstate};
use support::{Proxy, Shards, TRUST};

/// A row of the table waits for whoever holds this lock.
const TABLES: &str = "
    CREATE TABLE notes (id bigint NOT NULL, tenant_id bigint NOT NULL, body text);
    CREATE TABLE bulk (body text);
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NEW; END $$;
    CREATE TRIGGER waits BEFORE INSERT ON bulk FOR EACH ROW EXECUTE FUNCTION wait();";

async fn serve() -> (Shards, Proxy) {
    let shards = Shards::databases(3);
    shards.run_on_all(TABLES).await;
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(""), TRUST).await;
    (shards, proxy)
}

/// What the process has in memory, in bytes.
fn resident(proxy: &Proxy) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() * 1024
}

/// Far more than all sockets between hold, and what the proxy may grow by meanwhile.
const DATA: usize = 96 << 20;
const GROWTH_MAX: usize = 24 << 20;

/// Others work on every shard, as fast as ever.
fn others_work(proxy: &Proxy) {
    let mut other = proxy.raw();
    let began = Instant::now();
    for tenant in 0..6 {
        let insert = format!("INSERT INTO notes VALUES (1, {tenant}, 'x')");
        assert_eq!(sqlstate(&other.query(&insert)), "");
        let select = format!("SELECT body FROM notes WHERE tenant_id = {tenant}");
        assert!(!rows(&other.query(&select)).is_empty());
    }
    assert_eq!(rows(&other.query("SELECT count(*) FROM notes")).len(), 1);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_shard_that_does_not_take_a_copy_holds_up_its_client_alone() {
    let (shards, proxy) = serve().await;
    let direct = shards.direct("usa-east").await;
    let mut client = proxy.raw();
    others_work(&proxy);
    let before = resident(&proxy);
    direct.batch_execute("SELECT pg_advisory_lock(7)").await.unwrap();
    client.send(&query("COPY bulk FROM STDIN"));
    let opened = client.receive().unwrap();
    assert_eq!(opened.tag, b'G', "{opened:?}");
    let mut answers = client.second_hand();
    let line = [vec![b'x'; (1 << 16) - 1], vec![b'\n']].concat();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let writer = std::thread::spawn(move || {
        let chunk = frame(b'd', &line);
        while counter.load(Ordering::Relaxed) < DATA {
            client.send(&chunk);
            counter.fetch_add(line.len(), Ordering::Relaxed);
        }
        client.send(&frame(b'c', b""));
        client
    });
    // Until nothing more goes in.
    let mut last = usize::MAX;
    while sent.load(Ordering::Relaxed) != last {
        last = sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert!(last < DATA / 2, "{last} bytes were taken");
    let grown = resident(&proxy).saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} bytes of memory for {last} bytes");
    others_work(&proxy);
    direct.batch_execute("SELECT pg_advisory_unlock(7)").await.unwrap();
    let reply = answers.until_ready();
    let tag = reply.iter().find(|message| message.tag == b'C').map(|message| message.body.clone());
    assert_eq!(tag, Some(format!("COPY {}\0", DATA >> 16).into_bytes()), "{}", sqlstate(&reply));
    drop(writer.join().unwrap());
    let grown = resident(&proxy).saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} bytes of memory");
}

#[tokio::test]
async fn a_row_larger_than_any_statement_is_copied_as_it_comes() {
    let (shards, proxy) = serve().await;
    let mut client = proxy.raw();
    assert_eq!(sqlstate(&client.query("CREATE TABLE whole (n int, body text)")), "");
    let before = resident(&proxy);
    let row = |number: &str| {
        let row = [number.as_bytes(), b"\t", &vec![b'x'; DATA], b"\n"].concat();
        frame(b'd', &row)
    };
    for (number, expected) in [("1", ""), ("one", "22P02")] {
        client.send(&query("COPY whole FROM STDIN"));
        assert_eq!(client.receive().unwrap().tag, b'G');
        client.send(&row(number));
        client.send(&frame(b'c', b""));
        assert_eq!(sqlstate(&client.until_ready()), expected);
        let grown = resident(&proxy).saturating_sub(before);
        assert!(grown < GROWTH_MAX, "{grown} bytes of memory");
    }
    others_work(&proxy);
    let direct = shards.direct("usa-east").await;
    let found = direct.query_one("SELECT n, length(body) FROM whole", &[]).await.unwrap();
    let found: (i32, i32) = (found.get(0), found.get(1));
    assert_eq!(found, (1, i32::try_from(DATA).unwrap()));
}

/// Of what is kept before it is passed on, `limits.merge_memory_max` says how long it may be, and no other limit:
/// a row that is longer than any statement does not end its answer.
#[tokio::test]
async fn rows_larger_than_any_statement_are_kept_whole() {
    const LONG: usize = 65 << 20;
    let shards = Shards::databases(2);
    shards.run_on_all(TABLES).await;
    let limits = "[limits]\nmerge_memory_max = \"1GiB\"\nmerge_memory_total_max = \"2GiB\"\n";
    let config = format!("{TRUST}{limits}");
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(""), &config).await;
    let mut client = proxy.raw();
    for tenant in [1, 2] {
        let insert = format!("INSERT INTO notes VALUES (1, {tenant}, 'x')");
        assert_eq!(sqlstate(&client.query(&insert)), "");
    }
    let told = |told: &[Message]| -> Vec<(u8, usize)> {
        told.iter().map(|message| (message.tag, message.body.len())).collect()
    };
    let (row, suspended) = ((b'D', LONG + 6), (b's', 0));
    let long = format!("repeat('x', {LONG})");
    // Every shard's answer.
    assert_eq!(sqlstate(&client.query("SET pgmeridian.shard = '*'")), "");
    let all = told(&client.query(&format!("UPDATE notes SET body = NULL RETURNING {long}")));
    assert_eq!(all[1..], [row, row, (b'C', 9), (b'Z', 1)]);
    assert_eq!(sqlstate(&client.query("RESET pgmeridian.shard")), "");
    // A portal's rows, which wait until they are fetched.
    let sql = format!("\0SELECT {long} FROM notes ORDER BY tenant_id\0\0\0");
    let fetch = [frame(b'E', b"\0\0\0\0\x01"), frame(b'S', b"")].concat();
    assert_eq!(sqlstate(&client.query("BEGIN")), "");
    client.send(&[frame(b'P', sql.as_bytes()), frame(b'B', &[0; 8]), fetch.clone()].concat());
    assert_eq!(told(&client.until_ready()), [(b'1', 0), (b'2', 0), row, suspended, (b'Z', 1)]);
    client.send(&fetch);
    assert_eq!(told(&client.until_ready()), [row, suspended, (b'Z', 1)]);
    client.send(&fetch);
    let end = b"SELECT 0\0".len();
    assert_eq!(told(&client.until_ready()), [(b'C', end), (b'Z', 1)]);
    assert_eq!(sqlstate(&client.query("COMMIT")), "");
    // What is read on several shards to be written on one.
    assert_eq!(sqlstate(&client.query("CREATE TABLE kept (body text)")), "");
    let written = client.query(&format!("INSERT INTO kept SELECT {long} FROM notes"));
    assert_eq!(sqlstate(&written), "");
    let found = client.query("SELECT length(body) FROM kept");
    assert_eq!(rows(&found), [[Some(LONG.to_string())], [Some(LONG.to_string())]]);
}

/// What is left of a row when its shard is lost is no message, though it may look like one.
#[tokio::test]
async fn a_copy_whose_shard_is_lost_ends_where_its_message_ends() {
    let (shards, proxy) = serve().await;
    let mut client = proxy.raw();
    assert_eq!(sqlstate(&client.query("CREATE TABLE target (body text)")), "");
    client.send(&query("COPY target FROM STDIN"));
    assert_eq!(client.receive().unwrap().tag, b'G');
    let statement = query("INSERT INTO target VALUES ('smuggled')");
    let row = frame(b'd', &[vec![b'x'; 200_000], statement.repeat(100)].concat());
    let (begin, rest) = row.split_at(row.len() - statement.len() * 100);
    client.send(begin);
    // Until the shard has it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE query LIKE 'COPY target%' AND pid <> pg_backend_pid()";
    shards.first().execute("postgres", end).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.send(rest);
    client.send(&frame(b'c', b""));
    let lost = sqlstate(&client.until_ready());
    assert!(matches!(&*lost, "57P01" | "08006"), "{lost}");
    let found = client.query("SELECT count(*) FROM target");
    assert_eq!(rows(&found), [[Some("0".to_owned())]], "{}", sqlstate(&found));
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody() {
    let (_shards, proxy) = serve().await;
    let mut client = proxy.raw();
    for tenant in 0..3 {
        let rows = "SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n";
        let insert =
            format!("INSERT INTO notes (tenant_id, id, body) SELECT {tenant}, n.* FROM ({rows}) n");
        assert_eq!(sqlstate(&client.query(&insert)), "");
    }
    others_work(&proxy);
    let before = resident(&proxy);
    // As they come, in order, and of one shard.
    let mut deaf = Vec::new();
    for sql in [
        "SELECT id, body FROM notes",
        "SELECT id, body FROM notes ORDER BY id",
        "SELECT a.body FROM notes a, generate_series(1, 50) WHERE tenant_id = 1",
    ] {
        let mut client = proxy.raw();
        client.send(&query(sql));
        deaf.push(client);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    others_work(&proxy);
    let grown = resident(&proxy).saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} bytes of memory");
    // They are served when they read after all.
    let answers = deaf[0].until_ready();
    assert!(rows(&answers).len() >= 60_000, "{} {}", rows(&answers).len(), sqlstate(&answers));
}
