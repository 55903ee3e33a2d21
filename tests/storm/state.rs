//! What rude clients do with their sessions: settings, temporary tables, locks, channels, prepared
//! statements. Whatever they leave behind must not be there for anybody else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use crate::client::{Client, LOCKS, ensure, fine};
use crate::link::{Fault, Link, bind, execute, parse};
use crate::support::NAMES;
use crate::support::raw::{frame, query};

/// A setting's name, its default, and values as SQL text and as PostgreSQL shows them.
type Setting = (&'static str, &'static str, [(&'static str, &'static str); 2]);

const SETTINGS: [Setting; 4] = [
    ("TimeZone", "UTC", [("'Asia/Tokyo'", "Asia/Tokyo"), ("'Europe/Berlin'", "Europe/Berlin")]),
    ("work_mem", "4MB", [("'7MB'", "7MB"), ("5120", "5MB")]),
    ("statement_timeout", "0", [("'55s'", "55s"), ("'2min'", "2min")]),
    (
        "search_path",
        "\"$user\", public",
        [("public", "public"), ("public, pg_catalog", "public, pg_catalog")],
    ),
];

pub(crate) async fn settings(client: &mut Client) -> Result<(), Fault> {
    for _ in 0..=client.below(2) {
        change(client).await?;
    }
    check(client).await
}

async fn change(client: &mut Client) -> Result<(), Fault> {
    let at = client.below(SETTINGS.len() as u64) as usize;
    let (name, _, values) = SETTINGS[at];
    let (sql, shown) = values[client.below(2) as usize];
    let own = client.tenant().to_string();
    match client.below(9) {
        0..3 => {
            client.ask(&format!("SET {name} TO {sql}")).await?;
            client.settings.insert(name, shown.to_owned());
        }
        3 => {
            client.ask(&format!("SET storm.me = '{own}'")).await?;
            client.settings.insert("storm.me", own);
        }
        4 => {
            client.ask(&format!("SET application_name = 'named {own}'")).await?;
            client.settings.insert("application_name", format!("named {own}"));
        }
        5 => {
            client.ask(&format!("RESET {name}")).await?;
            client.settings.remove(name);
        }
        6 => {
            client.ask("BEGIN").await?;
            client.ask(&format!("SET {name} TO {sql}")).await?;
            client.ask("SELECT count(*) FROM plans").await?;
            if client.chance(50) {
                client.ask("ROLLBACK").await?;
            } else {
                client.ask("COMMIT").await?;
                client.settings.insert(name, shown.to_owned());
            }
        }
        7 => {
            client.ask("BEGIN").await?;
            client.ask(&format!("SET LOCAL {name} TO {sql}")).await?;
            let reply = client.ask(&format!("SELECT current_setting('{name}')")).await?;
            ensure!(reply.rows() == [[shown]], "SET LOCAL {name}: {:?}", reply.rows());
            let end = client.either("COMMIT", "ROLLBACK");
            client.ask(end).await?;
        }
        _ => client.discard_all().await?,
    }
    Ok(())
}

/// As any server sees it.
async fn check(client: &mut Client) -> Result<(), Fault> {
    let mut names: Vec<(&str, String)> =
        SETTINGS.iter().map(|(name, default, _)| (*name, (*default).to_owned())).collect();
    names.push(("application_name", client.name()));
    names.push(("storm.me", String::new()));
    let expected: Vec<String> = names
        .into_iter()
        .map(|(name, default)| client.settings.get(name).cloned().unwrap_or(default))
        .collect();
    let shown = "SELECT current_setting('TimeZone'), current_setting('work_mem'),
        current_setting('statement_timeout'), current_setting('search_path'),
        current_setting('application_name'), coalesce(current_setting('storm.me', true), '')";
    let sql = match client.below(3) {
        0 => shown.to_owned(),
        1 => format!("{shown} FROM plans WHERE tier = 1"),
        _ => {
            // On its own shard.
            let from = format!("FROM notes WHERE tenant_id = {} LIMIT 1", client.tenant());
            if client.some_row().is_none() {
                return Ok(());
            }
            format!("{shown} {from}")
        }
    };
    let reply = client.ask(&sql).await?;
    ensure!(
        reply.rows() == [expected.clone()],
        "settings: {:?} instead of {expected:?}",
        reply.rows()
    );
    Ok(())
}

pub(crate) async fn temporary(client: &mut Client) -> Result<(), Fault> {
    let Ok(_permit) = Arc::clone(&client.storm.pins).try_acquire_owned() else { return Ok(()) };
    let tenant = client.tenant();
    client.fails("SELECT count(*) FROM mine", "42P01").await?;
    let shard = NAMES[tenant.rem_euclid(3) as usize];
    client.ask(&format!("SET pgmeridian.shard = '{shard}'")).await?;
    client.ask("CREATE TEMP TABLE mine (a bigint)").await?;
    let mut count = 0;
    for _ in 0..=client.below(3) {
        client.ask(&format!("INSERT INTO mine VALUES ({tenant})")).await?;
        count += 1;
        client.pause(5).await;
    }
    let sql = format!("SELECT count(*) FROM mine WHERE a = {tenant}");
    let reply = client.ask(&sql).await?;
    ensure!(reply.rows() == [[count.to_string()]], "{sql}: {:?}", reply.rows());
    if client.chance(40) {
        client.link.send(&query("COPY mine FROM STDIN")).await?;
        let fails = client.chance(40);
        let mut out = frame(b'd', b"1\n2\n");
        out.extend(if fails { frame(b'f', b"never mind\0") } else { frame(b'c', b"") });
        client.link.send(&out).await?;
        let reply = client.link.until_ready().await?;
        let expected = if fails { "57014" } else { "" };
        ensure!(reply.code() == expected, "COPY mine: {}", reply.words());
    }
    match client.below(5) {
        0 => client.come_back().await?,
        1 => client.come_again().await?,
        2 => client.discard_all().await?,
        3 => {
            client.ask("BEGIN").await?;
            client.ask("DROP TABLE mine").await?;
            client.ask("COMMIT").await?;
        }
        _ => {
            client.ask("DROP TABLE mine").await?;
        }
    }
    client.ask("RESET pgmeridian.shard").await?;
    client.fails("SELECT count(*) FROM mine", "42P01").await
}

/// A session's advisory lock: nobody else has it at the same time.
pub(crate) async fn lock(client: &mut Client) -> Result<(), Fault> {
    let Ok(_permit) = Arc::clone(&client.storm.pins).try_acquire_owned() else { return Ok(()) };
    let number = client.below(LOCKS as u64) as usize;
    let storm = Arc::clone(&client.storm);
    let held = &storm.locks[number];
    let reply = client.ask(&format!("SELECT pg_try_advisory_lock({number})")).await?;
    match reply.rows() {
        rows if rows == [["t"]] => {}
        rows if rows == [["f"]] => return Ok(()),
        rows => return Err(format!("pg_try_advisory_lock: {rows:?}")),
    }
    ensure!(!held.swap(true, Ordering::SeqCst), "two clients hold advisory lock {number}");
    for _ in 0..client.below(4) {
        client.read_own().await?;
        client.pause(5).await;
    }
    held.store(false, Ordering::SeqCst);
    if client.chance(30) {
        return if client.chance(50) {
            client.come_back().await
        } else {
            client.come_again().await
        };
    }
    let sql = if client.chance(70) {
        format!("SELECT pg_advisory_unlock({number})")
    } else {
        "SELECT pg_advisory_unlock_all()".to_owned()
    };
    let reply = client.ask(&sql).await?;
    ensure!(["t", ""].contains(&reply.rows()[0][0].as_str()), "{sql}: {:?}", reply.rows());
    Ok(())
}

/// Notifications come to who listens, and to nobody else.
pub(crate) async fn listen(client: &mut Client) -> Result<(), Fault> {
    let Ok(_permit) = Arc::clone(&client.storm.pins).try_acquire_owned() else { return Ok(()) };
    let channel = format!("channel_{}", client.tenant());
    client.ask(&format!("LISTEN {channel}")).await?;
    let count = client.below(3) + 1;
    let mut other = Link::log_in(client.storm.address, "notifier").await?;
    for n in 0..count {
        let sql = format!("NOTIFY {channel}, '{n}'");
        fine(&other.query(&sql).await?, &sql)?;
        client.pause(5).await;
    }
    other.terminate().await;
    // It is told while it says nothing, or with its next answer.
    if client.chance(50) {
        client.read_own().await?;
    }
    let mut heard = Vec::new();
    while heard.len() < count as usize {
        if let Some(text) = client.link.heard.pop_front() {
            heard.push(text);
            continue;
        }
        // `receive` returns for other messages only: what it keeps is looked at in between.
        match timeout(Duration::from_millis(50), client.link.receive()).await {
            Err(_) if client.storm.is_over() && client.link.heard.is_empty() => {
                return client.come_back().await;
            }
            Err(_) => {}
            Ok(Ok(None)) => return Err("the connection of a listener has ended".to_owned()),
            Ok(Ok(Some(message))) => {
                return Err(format!("a listener is told {}", char::from(message.tag)));
            }
            Ok(Err(fault)) => return Err(fault),
        }
    }
    let expected: Vec<String> = (0..count).map(|n| format!("{channel}:{n}")).collect();
    ensure!(heard == expected, "heard {heard:?} instead of {expected:?}");
    if client.chance(30) {
        return client.come_back().await;
    }
    if client.chance(50) {
        return client.discard_all().await;
    }
    client.ask("UNLISTEN *").await.map(|_| ())
}

/// Names that every client uses, each for statements of its own.
const STATEMENTS: [&str; 3] = ["s1", "s2", "s3"];

pub(crate) async fn prepared(client: &mut Client) -> Result<(), Fault> {
    let name = STATEMENTS[client.below(3) as usize];
    let tenant = client.tenant();
    let known = client.prepared.get(name).copied();
    let factor = client.below(5) as i64 + 1;
    let parsed = |factor: i64| {
        parse(
            name,
            &format!(
                "SELECT $1::bigint * {factor}, count(*) FROM notes WHERE tenant_id = $2::bigint"
            ),
        )
    };
    let Some(factor) = known else {
        if client.chance(20) {
            // It is nobody else's either.
            let reply = send(client, &[bind("", name, &["1", "1"])]).await?;
            ensure!(reply.code() == "26000", "{name} of another: {}", reply.words());
            return Ok(());
        }
        let reply = send(client, &[parsed(factor)]).await?;
        fine(&reply, "Parse")?;
        client.prepared.insert(name, factor);
        return Ok(());
    };
    match client.below(10) {
        0 => {
            let reply = send(client, &[parsed(9)]).await?;
            ensure!(reply.code() == "42P05", "{name} again: {}", reply.words());
        }
        1 => {
            let close = frame(b'C', format!("S{name}\0").as_bytes());
            fine(&send(client, &[close]).await?, "Close")?;
            client.prepared.remove(name);
        }
        2 => {
            client.ask(&format!("DEALLOCATE {name}")).await?;
            client.prepared.remove(name);
        }
        _ => {
            let number = client.below(1000) as i64;
            let values = [number.to_string(), tenant.to_string()];
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let reply = send(client, &[bind("", name, &values), execute("", 0)]).await?;
            fine(&reply, name)?;
            let product = (number * factor).to_string();
            ensure!(
                reply.rows().first().is_some_and(|row| row[0] == product),
                "{name}: {:?}",
                reply.rows()
            );
            if client.ledger.doubts.is_empty() {
                let count = client.ledger.rows.len().to_string();
                ensure!(
                    reply.rows()[0][1] == count,
                    "{name}: {:?}, not {count} rows",
                    reply.rows()
                );
            }
        }
    }
    Ok(())
}

async fn send(client: &mut Client, messages: &[Vec<u8>]) -> Result<crate::link::Reply, Fault> {
    let mut out = messages.concat();
    out.extend(frame(b'S', b""));
    client.note("extended messages");
    client.link.send(&out).await?;
    let reply = client.link.until_ready().await?;
    ensure!(!reply.ended, "extended messages: the connection has ended");
    Ok(reply)
}
