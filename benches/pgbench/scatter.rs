//! Reads over all shards: rows through pgmeridian beside as many direct connections in parallel.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::BytesMut;
use comfy_table::Table;
use pgmeridian::backend::{self, Connection, Target};
use pgmeridian::demo::cluster::{Cluster, DATABASE, ROLE};
use pgmeridian::map::ConnectionTarget;
use pgmeridian::wire::{frame, frontend};
use serde_json::{Value, json};

use crate::contenders::{self, Contender};
use crate::process;

/// Statements, each with what the shards are asked for directly.
const STATEMENTS: [(&str, &str); 7] = [
    ("all rows", "SELECT * FROM events"),
    ("all rows, ordered", "SELECT * FROM events ORDER BY id"),
    ("the first 100 of them", "SELECT * FROM events ORDER BY id LIMIT 100"),
    ("count", "SELECT count(*) FROM events"),
    ("10 groups", "SELECT kind, count(*), sum(amount), avg(amount) FROM events GROUP BY kind"),
    ("100,000 groups", "SELECT item, count(*), sum(amount), avg(amount) FROM events GROUP BY item"),
    ("one shard's rows", "SELECT * FROM events WHERE tenant_id = 3"),
];

const LOGIN: Duration = Duration::from_secs(20);

/// Fills each shard with its share of the rows.
fn fill(shards: &[Cluster], rows: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let count = shards.len();
    for (n, shard) in shards.iter().enumerate() {
        // Tenants are placed by the Euclidean remainder, so these are this shard's own.
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS events (tenant_id bigint NOT NULL, id bigint NOT NULL, kind int,
                 item int, amount numeric, note text);
             TRUNCATE events;
             INSERT INTO events SELECT {n} + {count} * (i % 1000), {n} + {count} * i, i % 10,
                 i % 100000, (i % 997) / 10.0, 'event number ' || i FROM generate_series(1, {rows}) i;
             ALTER TABLE events OWNER TO {ROLE};"
        );
        runtime.block_on(async {
            let client = shard.connect(DATABASE).await?;
            client.batch_execute(&sql).await?;
            client.batch_execute("VACUUM ANALYZE events").await?;
            Ok::<(), anyhow::Error>(())
        })?;
    }
    Ok(())
}

async fn connect(port: u16) -> Result<Connection> {
    let url = format!("postgresql://{ROLE}:{ROLE}@127.0.0.1:{port}/{DATABASE}");
    let url =
        ConnectionTarget::parse(&url, &|_| None).map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
    let target = std::sync::Arc::new(Target::from(&url));
    Ok(backend::connect(&target, &[], LOGIN).await?)
}

/// What one answer took.
#[derive(Clone, Copy)]
struct Taken {
    first: Duration,
    all: Duration,
    bytes: usize,
}

/// Runs a statement and reads its answer to the end without looking at it.
async fn read(connection: &mut Connection, sql: &str) -> Result<Taken> {
    let mut request = Vec::new();
    frontend::query_into(&mut request, sql.as_bytes());
    let started = Instant::now();
    connection.expect_ready(1);
    connection.send_all(&request).await?;
    let mut buffer = BytesMut::with_capacity(1 << 20);
    let mut taken = Taken { first: Duration::ZERO, all: Duration::ZERO, bytes: 0 };
    loop {
        let read = connection.read_some(&mut buffer).await?;
        taken.bytes += read;
        if taken.first.is_zero() {
            taken.first = started.elapsed();
        }
        while let Some(frame) = frame::next(&buffer, u32::MAX >> 2)? {
            let (tag, length) = (frame.tag, frame.raw.len());
            if tag == b'E' {
                bail!("{}", String::from_utf8_lossy(frame.body).replace('\0', " "));
            }
            if tag == b'Z' {
                connection.ready(b'I');
                taken.all = started.elapsed();
                return Ok(taken);
            }
            let _ = buffer.split_to(length);
        }
    }
}

/// Compares, and prints.
pub(crate) fn compare(shards: &[Cluster], rows: u64, rounds: u32) -> Result<Vec<Value>> {
    fill(shards, rows)?;
    let first = shards.first().context("a shard")?;
    let map = contenders::map_over(shards, shards.len(), contenders::BY_HASH);
    let proxy = contenders::meridian("pgmeridian", first.directory(), &map)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The same for all statements, as the proxy's are: a session that has once compiled an expression has every
    // parallel worker load LLVM from then on (RestoreLibraryState in PostgreSQL's parallel.c), and takes longer.
    let mut direct = runtime.block_on(async {
        let mut all = Vec::new();
        for shard in shards {
            all.push(connect(shard.port()).await?);
        }
        Ok::<_, anyhow::Error>(all)
    })?;
    let mut results = Vec::new();
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header([
        "",
        "direct ms",
        "proxy ms",
        "ratio",
        "first row direct ms",
        "first row ms",
        "memory above idle MiB",
    ]);
    for (name, sql) in STATEMENTS {
        let row = runtime.block_on(one(&mut direct, &proxy, sql, rounds));
        match row {
            Ok((direct, through, memory)) => {
                let ms = |time: Duration| time.as_secs_f64() * 1e3;
                let ratio = ms(through.all) / ms(direct.all);
                table.add_row([
                    name.to_owned(),
                    format!("{:.0}", ms(direct.all)),
                    format!("{:.0}", ms(through.all)),
                    format!("{ratio:.2}"),
                    format!("{:.1}", ms(direct.first)),
                    format!("{:.1}", ms(through.first)),
                    format!("{:.1}", memory / f64::from(1 << 20)),
                ]);
                results.push(json!({
                    "scatter": name, "rows_per_shard": rows, "direct_ms": ms(direct.all),
                    "proxy_ms": ms(through.all), "ratio": ratio, "first_row_ms": ms(through.first),
                    "direct_first_row_ms": ms(direct.first),
                    "memory_above_idle_bytes": memory, "bytes": through.bytes,
                }));
            }
            Err(error) => {
                table.add_row([name.to_owned(), format!("{error:#}")]);
                results.push(json!({ "scatter": name, "error": format!("{error:#}") }));
            }
        }
    }
    crate::say(&format!("\n{rows} rows on each of {} shards\n{table}", shards.len()));
    Ok(results)
}

/// The medians of one statement, and how far the proxy's memory grew above what it was idle.
async fn one(
    direct: &mut [Connection],
    proxy: &Contender,
    sql: &str,
    rounds: u32,
) -> Result<(Taken, Taken, f64)> {
    let pid = proxy.pid().context("the proxy's process")?;
    let mut through = connect(proxy.port).await?;
    let (mut directly, mut proxied, mut grown) = (Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..rounds {
        let started = Instant::now();
        let mut reads = Vec::new();
        for connection in &mut *direct {
            reads.push(read(connection, sql));
        }
        let answers = futures_all(reads).await?;
        let bytes = answers.iter().map(|taken| taken.bytes).sum();
        let first = answers.iter().map(|taken| taken.first).max().unwrap_or_default();
        directly.push(Taken { first, all: started.elapsed(), bytes });
        let (before, _) = process::memory(pid)?;
        proxied.push(read(&mut through, sql).await?);
        let (_, most) = process::memory(pid)?;
        grown = grown.max(most - before);
    }
    Ok((median(directly)?, median(proxied)?, grown))
}

/// All of them at once.
async fn futures_all<F: Future<Output = Result<Taken>>>(reads: Vec<F>) -> Result<Vec<Taken>> {
    let mut pending: Vec<_> = reads.into_iter().map(|read| (Box::pin(read), None)).collect();
    std::future::poll_fn(|cx| {
        let mut ready = true;
        for (read, answer) in &mut pending {
            if answer.is_none() {
                match read.as_mut().poll(cx) {
                    std::task::Poll::Ready(taken) => *answer = Some(taken),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    pending.into_iter().filter_map(|(_, answer)| answer).collect()
}

fn median(mut runs: Vec<Taken>) -> Result<Taken> {
    runs.sort_by_key(|taken| taken.all);
    runs.get(runs.len() / 2).copied().context("no run")
}
