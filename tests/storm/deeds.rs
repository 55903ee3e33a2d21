//! What rude clients do to their rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use crate::client::{Client, SPAN, ensure, fine, rows_of};
use crate::link::{Fault, bind, execute, parse};
use crate::support::NAMES as NAMES_OF_SHARDS;
use crate::support::raw::{frame, query};
use crate::{IDLE, state};

/// What clients do.
pub(crate) const NAMES: [&str; 20] = [
    "write",
    "read",
    "scattered read",
    "transaction",
    "cancel",
    "vanish",
    "settings",
    "temporary table",
    "advisory lock",
    "listen",
    "prepared",
    "errors",
    "pipeline",
    "portal",
    "idle in transaction",
    "churn",
    "string",
    "large answer",
    "crossing",
    "copy out",
];

/// How often, in the order of [`NAMES`].
const WEIGHTS: [u64; NAMES.len()] =
    [22, 12, 8, 14, 6, 5, 10, 2, 2, 2, 8, 5, 6, 4, 1, 2, 5, 1, 2, 3];

pub(crate) fn choose(client: &mut Client) -> usize {
    let mut number = client.below(WEIGHTS.iter().sum());
    for (deed, weight) in WEIGHTS.iter().enumerate() {
        if number < *weight {
            return deed;
        }
        number -= weight;
    }
    0
}

pub(crate) async fn perform(client: &mut Client, deed: usize) -> Result<(), Fault> {
    match NAMES[deed] {
        "write" => write(client).await,
        "read" => client.read_own().await,
        "scattered read" => scattered(client).await,
        "transaction" => transaction(client).await,
        "cancel" => cancel(client).await,
        "vanish" => vanish(client).await,
        "settings" => state::settings(client).await,
        "temporary table" => state::temporary(client).await,
        "advisory lock" => state::lock(client).await,
        "listen" => state::listen(client).await,
        "prepared" => state::prepared(client).await,
        "errors" => errors(client).await,
        "pipeline" => pipeline(client).await,
        "portal" => portal(client).await,
        "idle in transaction" => idle(client).await,
        "churn" => client.come_again().await,
        "string" => string(client).await,
        "large answer" => large(client).await,
        "crossing" => crossing(client).await,
        "copy out" => copy_out(client).await,
        other => Err(format!("nobody knows how to do {other}")),
    }
}

/// A write: its text, its row, and what that is then.
pub(crate) struct Write {
    pub(crate) sql: String,
    pub(crate) id: i64,
    pub(crate) after: Option<String>,
    tag: &'static str,
}

impl Write {
    pub(crate) fn some(client: &mut Client) -> Self {
        let tenant = client.tenant();
        let kind = client.below(10);
        let (row, body) = (client.some_row(), format!("{}/{}", tenant, client.below(1 << 40)));
        match row.filter(|_| kind >= 4) {
            Some(id) if kind >= 8 => Self {
                sql: format!("DELETE FROM notes WHERE tenant_id = {tenant} AND id = {id}"),
                id,
                after: None,
                tag: "DELETE 1",
            },
            Some(id) => Self {
                sql: format!(
                    "UPDATE notes SET body = '{body}' WHERE tenant_id = {tenant} AND id = {id}"
                ),
                id,
                after: Some(body),
                tag: "UPDATE 1",
            },
            None => {
                let id = client.fresh();
                let sql = format!("INSERT INTO notes VALUES ({id}, {tenant}, '{body}')");
                Self { sql, id, after: Some(body), tag: "INSERT 0 1" }
            }
        }
    }

    pub(crate) fn happens(&self, rows: &mut BTreeMap<i64, String>) {
        match &self.after {
            Some(body) => rows.insert(self.id, body.clone()),
            None => rows.remove(&self.id),
        };
    }

    /// Its client can't know whether it happened.
    fn leaves_doubt(self, client: &mut Client) {
        let before = client.ledger.rows.remove(&self.id);
        client.ledger.doubts.insert(self.id, (before, self.after));
    }
}

async fn write(client: &mut Client) -> Result<(), Fault> {
    let write = Write::some(client);
    let reply = client.ask(&write.sql).await?;
    ensure!(reply.tags() == [write.tag], "{}: {:?}", write.sql, reply.tags());
    write.happens(&mut client.ledger.rows);
    Ok(())
}

/// By ids, which say nothing of shards.
async fn scattered(client: &mut Client) -> Result<(), Fault> {
    let (from, to) = (client.tenant() * SPAN, (client.tenant() + 1) * SPAN - 1);
    let range = format!("FROM notes WHERE id BETWEEN {from} AND {to}");
    if client.chance(50) {
        let reply = client.ask(&format!("SELECT id, body {range}")).await?;
        let found = rows_of(&reply)?;
        client.ledger.agrees(&found)?;
        client.ledger.learn(&found);
        return Ok(());
    }
    let sql = format!("SELECT count(*), min(id) {range}");
    let reply = client.ask(&sql).await?;
    if client.ledger.doubts.is_empty() {
        let least = client.ledger.rows.keys().next().map_or("~".to_owned(), i64::to_string);
        let expected = vec![vec![client.ledger.rows.len().to_string(), least]];
        ensure!(reply.rows() == expected, "{sql}: {:?} instead of {expected:?}", reply.rows());
    }
    Ok(())
}

async fn transaction(client: &mut Client) -> Result<(), Fault> {
    client.ask("BEGIN").await?;
    let mut rows = client.ledger.rows.clone();
    let mut kept = None;
    for _ in 0..=client.below(5) {
        match client.below(10) {
            0 if kept.is_none() => {
                client.ask("SAVEPOINT here").await?;
                kept = Some(rows.clone());
            }
            1 if kept.is_some() => {
                client.ask("ROLLBACK TO here").await?;
                rows = kept.clone().unwrap_or_default();
            }
            2 if kept.is_some() => {
                client.fails("SELECT 1/0", "22012").await?;
                client.fails("SELECT 1", "25P02").await?;
                client.ask("ROLLBACK TO here").await?;
                rows = kept.clone().unwrap_or_default();
            }
            3 => {
                std::mem::swap(&mut client.ledger.rows, &mut rows);
                let read = client.read_within().await;
                std::mem::swap(&mut client.ledger.rows, &mut rows);
                read?;
            }
            _ => {
                std::mem::swap(&mut client.ledger.rows, &mut rows);
                let write = Write::some(client);
                std::mem::swap(&mut client.ledger.rows, &mut rows);
                let reply = client.ask(&write.sql).await?;
                ensure!(reply.tags() == [write.tag], "{}: {:?}", write.sql, reply.tags());
                write.happens(&mut rows);
            }
        }
        ensure!(client.link.status == b'T', "a transaction is not open any more");
        client.pause(5).await;
    }
    match client.below(10) {
        0..5 => {
            client.ask("COMMIT").await?;
            client.ledger.rows = rows;
        }
        5..7 => {
            client.ask("ROLLBACK").await?;
        }
        7 => {
            client.fails("SELECT no_such_column FROM plans", "42703").await?;
            let reply = client.ask("COMMIT").await?;
            ensure!(reply.tags() == ["ROLLBACK"], "COMMIT: {:?}", reply.tags());
        }
        8 => client.come_back().await?,
        _ => client.come_again().await?,
    }
    Ok(())
}

async fn cancel(client: &mut Client) -> Result<(), Fault> {
    let tenant = client.tenant();
    let write = client.some_row().map(|id| {
        let body = format!("{tenant}/after {id}");
        let sql = format!(
            "UPDATE notes SET body = '{body}' WHERE tenant_id = {tenant} AND id = {id}
             AND (SELECT pg_sleep(0.02)) IS NOT NULL"
        );
        (sql, id, body)
    });
    let block = client.chance(30);
    if block {
        client.ask("BEGIN").await?;
    }
    let (sql, change) = match client.below(3) {
        0 => ("SELECT pg_sleep(0.2)".to_owned(), None),
        1 => {
            (format!("SELECT count(*) FROM notes, pg_sleep(0.03) WHERE tenant_id = {tenant}"), None)
        }
        _ => match write {
            Some((sql, id, body)) => (sql, Some((id, body))),
            None => ("SELECT pg_sleep(0.1) FROM plans".to_owned(), None),
        },
    };
    client.note(format!("{sql}, cancelled"));
    let patience = client.below(40);
    let canceller = client.link.canceller();
    let (reply, ()) = tokio::join!(client.link.query(&sql), async {
        sleep(Duration::from_millis(patience)).await;
        canceller.await;
    });
    let reply = reply?;
    match reply.code().as_str() {
        "" => {
            if let (Some((id, body)), true) = (change, !reply.ended) {
                ensure!(reply.tags() == ["UPDATE 1"], "{sql}: {:?}", reply.tags());
                if !block {
                    client.ledger.rows.insert(id, body);
                }
            }
        }
        "57014" => {
            client.storm.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        _ => return Err(format!("{sql}, cancelled: {}", reply.words())),
    }
    ensure!(!reply.ended, "{sql}, cancelled: the connection has ended");
    if block {
        client.ask("ROLLBACK").await?;
    }
    Ok(())
}

async fn vanish(client: &mut Client) -> Result<(), Fault> {
    let tenant = client.tenant();
    match client.below(5) {
        0 => client.link.send(&query("SELECT pg_sleep(3)")).await?,
        1 => {
            let sql = format!("SELECT pg_sleep(0.2), id FROM notes WHERE tenant_id = {tenant}");
            client.link.send(&query(&sql)).await?;
        }
        2 => {
            // Half a message.
            let whole = query("SELECT 1");
            client.link.send(&whole[..7]).await?;
        }
        3 => {
            let write = Write::some(client);
            client.note(format!("{}, vanished", write.sql));
            client.link.send(&query(&write.sql)).await?;
            write.leaves_doubt(client);
        }
        _ => {
            let write = Write::some(client);
            client.note(format!("{}, vanished before Sync", write.sql));
            let mut out = parse("", &write.sql);
            out.extend(bind("", "", &[]));
            out.extend(execute("", 0));
            if client.chance(50) {
                out.extend(frame(b'H', b""));
            }
            // Without Sync nothing is committed.
            client.link.send(&out).await?;
        }
    }
    client.pause(30).await;
    client.come_back().await
}

async fn errors(client: &mut Client) -> Result<(), Fault> {
    let tenant = client.tenant();
    match client.below(5) {
        0 => client.fails("SELEKT 1", "42601").await,
        1 => client
            .fails(
                &format!(
                    "SELECT 1/(id - id) FROM notes WHERE tenant_id = {tenant} UNION ALL SELECT 1/0"
                ),
                "22012",
            )
            .await,
        2 => client.fails("SELECT * FROM no_such_table", "42P01").await,
        3 => {
            let Some(id) = client.some_row() else { return Ok(()) };
            client
                .fails(&format!("INSERT INTO notes VALUES ({id}, {tenant}, 'twice')"), "23505")
                .await
        }
        _ => {
            // What comes before an error in a pipeline goes with it.
            let write = Write::some(client);
            let mut out = parse("", &write.sql);
            out.extend(bind("", "", &[]));
            out.extend(execute("", 0));
            out.extend(parse("", "SELECT 1/(tier - 1) FROM plans WHERE tier = 1"));
            out.extend(bind("", "", &[]));
            out.extend(execute("", 0));
            out.extend(parse("", &write.sql));
            out.extend(frame(b'S', b""));
            client.note(format!("{} and an error before Sync", write.sql));
            client.link.send(&out).await?;
            let reply = client.link.until_ready().await?;
            ensure!(!reply.ended, "an error in a pipeline ends the connection");
            let code = reply.code();
            // A pipeline over two shards is refused.
            ensure!(["22012", "0A000"].contains(&code.as_str()), "a pipeline: {}", reply.words());
            client.read_own().await
        }
    }
}

/// Several units in flight, each a transaction of its own.
async fn pipeline(client: &mut Client) -> Result<(), Fault> {
    let mut out = Vec::new();
    let mut writes = Vec::new();
    for _ in 0..=client.below(4) {
        let write = Write::some(client);
        // A row is written once, so that each unit can be told from the others.
        if writes.iter().any(|(other, _): &(Write, bool)| other.id == write.id) {
            continue;
        }
        let fails = client.chance(25);
        out.extend(parse("", &write.sql));
        out.extend(bind("", "", &[]));
        out.extend(execute("", 0));
        if fails {
            out.extend(parse("", "SELECT nothing FROM plans"));
        }
        out.extend(frame(b'S', b""));
        client.note(format!("pipelined{} {}", if fails { " to fail" } else { "" }, write.sql));
        writes.push((write, fails));
    }
    client.link.send(&out).await?;
    for (write, fails) in writes {
        let reply = client.link.until_ready().await?;
        ensure!(!reply.ended, "a pipeline's connection has ended");
        if fails {
            ensure!(reply.code() == "42703", "{}: {}", write.sql, reply.words());
        } else {
            fine(&reply, &write.sql)?;
            write.happens(&mut client.ledger.rows);
        }
    }
    Ok(())
}

/// A few rows at a time.
async fn portal(client: &mut Client) -> Result<(), Fault> {
    let sql =
        format!("SELECT id, body FROM notes WHERE tenant_id = {} ORDER BY id", client.tenant());
    client.ask("BEGIN").await?;
    let mut out = parse("", &sql);
    out.extend(bind("p", "", &[]));
    let mut found = BTreeMap::new();
    loop {
        out.extend(execute("p", 3));
        out.extend(frame(b'S', b""));
        client.link.send(&std::mem::take(&mut out)).await?;
        let reply = client.link.until_ready().await?;
        fine(&reply, &sql)?;
        let rows = rows_of(&reply)?;
        let suspended = reply.messages.iter().any(|m| m.tag == b's');
        ensure!(rows.len() == 3 || !suspended, "{} rows and suspended", rows.len());
        found.extend(rows);
        if !suspended || client.chance(15) {
            if !suspended {
                client.ledger.agrees(&found)?;
            }
            break;
        }
    }
    let end = client.either("COMMIT", "ROLLBACK");
    client.ask(end).await?;
    Ok(())
}

/// A transaction that lies idle for too long is ended, and with it its client.
async fn idle(client: &mut Client) -> Result<(), Fault> {
    let storm = Arc::clone(&client.storm);
    let Ok(_permit) = storm.idlers.try_acquire() else { return Ok(()) };
    let write = Write::some(client);
    client.ask("BEGIN").await?;
    client.ask(&write.sql).await?;
    if client.chance(50) {
        sleep(Duration::from_millis(200)).await;
        return client.come_back().await;
    }
    sleep(IDLE + IDLE / 2).await;
    let reply = client.link.until_ready().await?;
    ensure!(reply.ended && reply.code() == "25P03", "an idle transaction: {}", reply.words());
    client.come_back().await
}

/// A query string is one transaction.
async fn string(client: &mut Client) -> Result<(), Fault> {
    let one = Write::some(client);
    let other = Write::some(client);
    let fails = one.id == other.id || client.chance(30);
    let last = if fails { "SELECT 1/0" } else { "SELECT 7" };
    let sql = format!("{}; {}; {last}", one.sql, other.sql);
    client.note(&*sql);
    let reply = client.link.query(&sql).await?;
    if fails {
        // Written twice, the second write may find no row, or one too many.
        let code = reply.code();
        ensure!(["22012", "23505"].contains(&code.as_str()), "{sql}: {}", reply.words());
        return client.read_own().await;
    }
    fine(&reply, &sql)?;
    ensure!(reply.rows() == [["7"]], "{sql}: {:?}", reply.rows());
    one.happens(&mut client.ledger.rows);
    other.happens(&mut client.ledger.rows);
    Ok(())
}

/// Read slowly, and perhaps not to its end.
async fn large(client: &mut Client) -> Result<(), Fault> {
    let storm = Arc::clone(&client.storm);
    let Ok(_permit) = storm.large.try_acquire() else { return Ok(()) };
    client.link.send(&query("SELECT repeat('x', 1000) FROM generate_series(1, 3000)")).await?;
    let enough = if client.chance(50) { client.below(3000) } else { 3000 };
    let mut rows = 0;
    while rows < enough {
        let message = client.link.receive().await?;
        ensure!(message.is_some(), "a large answer ends early");
        rows += u64::from(message.is_some_and(|message| message.tag == b'D'));
        if rows.is_multiple_of(500) {
            client.pause(10).await;
        }
    }
    if enough < 3000 {
        return client.come_back().await;
    }
    fine(&client.link.until_ready().await?, "a large answer")
}

/// A transaction that reads on one shard and writes on another.
async fn crossing(client: &mut Client) -> Result<(), Fault> {
    let storm = Arc::clone(&client.storm);
    let Ok(_permit) = storm.crossing.try_acquire() else { return Ok(()) };
    let write = Write::some(client);
    client.ask("BEGIN").await?;
    let other = client.tenant() + 1;
    client.ask(&format!("SELECT count(*) FROM notes WHERE tenant_id = {other}")).await?;
    client.ask(&write.sql).await?;
    client.ask("SELECT count(*) FROM plans").await?;
    match client.below(3) {
        0 => {
            client.ask("COMMIT").await?;
            write.happens(&mut client.ledger.rows);
        }
        1 => {
            client.ask("ROLLBACK").await?;
        }
        _ => client.come_back().await?,
    }
    Ok(())
}

/// A query may call anything: the connection is kept until it is reset.
async fn copy_out(client: &mut Client) -> Result<(), Fault> {
    let Ok(_permit) = Arc::clone(&client.storm.pins).try_acquire_owned() else { return Ok(()) };
    let sql = format!(
        "COPY (SELECT id, body FROM notes WHERE tenant_id = {}) TO STDOUT",
        client.tenant()
    );
    let shard = NAMES_OF_SHARDS[client.tenant().rem_euclid(3) as usize];
    client.ask(&format!("SET pgmeridian.shard = '{shard}'")).await?;
    let reply = client.link.query(&sql).await?;
    fine(&reply, &sql)?;
    client.discard_all().await?;
    let mut found = BTreeMap::new();
    for message in reply.messages.iter().filter(|m| m.tag == b'd') {
        let line = String::from_utf8_lossy(&message.body).trim_end().to_owned();
        let (id, body) = line.split_once('\t').ok_or_else(|| format!("{sql}: {line}"))?;
        let id = id.parse().map_err(|_| format!("{sql}: {line}"))?;
        found.insert(id, body.to_owned());
    }
    client.ledger.agrees(&found)?;
    client.ledger.learn(&found);
    Ok(())
}
