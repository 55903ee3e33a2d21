//! New maps while the proxy runs: from the file, by signal, by console, over HTTP; under load; faulty ones.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use support::{Proxy, Shards, connect, http, until};
use tokio_postgres::Client;

const TABLES: &str =
    "CREATE TABLE notes (id bigint, tenant_id bigint NOT NULL, PRIMARY KEY (tenant_id, id));
    CREATE TABLE plans (tier int PRIMARY KEY, name text);";

const CONFIG: &str = "[http]\ntoken = \"s3cret\"\n[health]\ninterval = \"200ms\"\n";

const RELOAD: &str = "/api/admin/reload-shard-config";

const REFERENCE: &str = "[tables]\nplans = \"reference\"\n";

async fn serve(count: usize) -> (Shards, Proxy) {
    let shards = Shards::databases(count);
    shards.run_on_all(TABLES).await;
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(""), CONFIG).await;
    (shards, proxy)
}

async fn history(console: &Client) -> Vec<(String, String, String)> {
    let rows = console.query("SHOW MAP HISTORY", &[]).await.unwrap();
    let text = |row: &tokio_postgres::Row, at: &str| {
        row.get::<_, Option<&str>>(at).unwrap_or_default().to_owned()
    };
    rows.iter()
        .map(|row| (text(row, "origin"), text(row, "outcome"), text(row, "changes")))
        .collect()
}

/// Puts a map in the file's place, as an editor does.
fn replace(proxy: &Proxy, map: &str) {
    let aside = proxy.map_path().with_extension("new");
    fs::write(&aside, map).unwrap();
    fs::rename(aside, proxy.map_path()).unwrap();
}

#[tokio::test]
async fn every_mouth_reloads() {
    let (shards, proxy) = serve(2).await;
    let console = connect(&proxy.console_url("bot")).await.unwrap();
    let (plain, listed) = (shards.map_by_hash(""), shards.map_by_hash(REFERENCE));
    let says = async |origin: &str, outcome: &str, changes: &str| {
        until(
            &format!("{origin}, {outcome}: {:?}\n{}", history(&console).await, proxy.log()),
            async || {
                let newest = history(&console).await.swap_remove(0);
                newest == (origin.to_owned(), outcome.to_owned(), changes.to_owned())
            },
        )
        .await;
    };
    replace(&proxy, &listed);
    says("file change", "loaded", "table plans").await;
    // The signal finds the file as the watcher found it, or first.
    proxy.reload(&listed);
    says("SIGHUP", "unchanged", "").await;
    console.batch_execute("RELOAD").await.unwrap();
    says("console", "unchanged", "").await;
    let (code, body) = http(proxy.http, "POST", RELOAD, Some("s3cret")).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, answer["status"].as_str()), (200, Some("unchanged")), "{body}");
    says("HTTP", "unchanged", "").await;
    replace(&proxy, &plain);
    says("file change", "loaded", "table plans").await;
}

#[tokio::test]
async fn a_faulty_map_changes_nothing_and_is_reported() {
    let (shards, proxy) = serve(2).await;
    let client = proxy.connect().await;
    client.query("SELECT * FROM notes WHERE tenant_id = 1", &[]).await.unwrap();
    let console = connect(&proxy.console_url("bot")).await.unwrap();
    let before = console.query_one("SHOW MAP", &[]).await.unwrap();
    // Who does not know the token learns nothing.
    for token in [None, Some(""), Some("s3cres"), Some("s3cret2")] {
        assert_eq!(http(proxy.http, "POST", RELOAD, token).await.0, 401, "{token:?}");
    }
    assert_eq!(http(proxy.http, "GET", RELOAD, Some("s3cret")).await.0, 405);
    replace(
        &proxy,
        &shards.map(
            "[keys.tenant]\ntype = \"bigint\"\nstrategy = \"rnage\"\ncolumns = [\"tenant_id\"]\n",
        ),
    );
    let (code, body) = http(proxy.http, "POST", RELOAD, Some("s3cret")).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, answer["status"].as_str()), (422, Some("refused")), "{body}");
    let faults = answer["faults"].as_array().unwrap();
    assert!(faults.iter().any(|fault| fault["line"].as_u64() > Some(1)), "{body}");
    assert!(!body.contains("bot:bot"), "{body}");
    let after = console.query_one("SHOW MAP", &[]).await.unwrap();
    assert_eq!(before.get::<_, i64>("version"), after.get::<_, i64>("version"));
    assert_ne!(after.get::<_, &str>("state"), "ok");
    let fault = after.get::<_, &str>("last_fault").to_owned();
    assert!(fault.contains("strategy") || fault.contains("rnage"), "{fault}");
    let error = console.batch_execute("RELOAD").await.unwrap_err();
    assert!(error.as_db_error().unwrap().detail().unwrap().contains("rnage"), "{error:?}");
    let (_, metrics) = http(proxy.http, "GET", "/metrics", None).await;
    assert!(metrics.contains("pgmeridian_map_last_reload_failed 1"), "{metrics}");
    assert!(!metrics.contains("pgmeridian_map_reload_errors_total 0"), "{metrics}");
    assert!(proxy.log().contains("the old one stays"), "{}", proxy.log());
    client.query("SELECT * FROM notes WHERE tenant_id = 1", &[]).await.unwrap();
    // A map that names a shard which can't be asked is not taken either.
    let away =
        shards.map_by_hash("").replacen("default_shard = \"usa-east\"", "default_shard = \"x\"", 1)
            + "[[shards]]\nid = 9\nname = \"x\"\nurl = \"postgresql://bot@127.0.0.1:1/x\"\n";
    replace(&proxy, &away);
    assert_eq!(http(proxy.http, "POST", RELOAD, Some("s3cret")).await.0, 503);
    replace(&proxy, &shards.map_by_hash(REFERENCE));
    let (code, body) = http(proxy.http, "POST", RELOAD, Some("s3cret")).await;
    assert_eq!(code, 200, "{body}");
    let (_, metrics) = http(proxy.http, "GET", "/metrics", None).await;
    assert!(metrics.contains("pgmeridian_map_last_reload_failed 0"), "{metrics}");
}

#[tokio::test]
async fn a_fault_is_gone_when_the_old_file_is_back() {
    let (shards, proxy) = serve(2).await;
    let console = connect(&proxy.console_url("bot")).await.unwrap();
    let state =
        async || console.query_one("SHOW MAP", &[]).await.unwrap().get::<_, String>("state");
    for faulty in [Some("version = 1"), None] {
        match faulty {
            Some(map) => replace(&proxy, map),
            None => fs::remove_file(proxy.map_path()).unwrap(),
        }
        until("the fault is seen", async || state().await != "ok").await;
        replace(&proxy, &shards.map_by_hash(""));
        until("it is gone", async || state().await == "ok").await;
        let (code, body) = http(proxy.http, "GET", "/health", None).await;
        assert!(code == 200 && body.contains("\"healthy\""), "{body}");
    }
    assert!(proxy.log().contains("the old one stays"), "{}", proxy.log());
}

#[tokio::test]
async fn a_reload_under_load_loses_nothing() {
    let (shards, proxy) = serve(3).await;
    let ended = Arc::new(AtomicBool::new(false));
    let mut workers = Vec::new();
    for worker in 0..6_i64 {
        let (mut client, ended) = (proxy.connect().await, Arc::clone(&ended));
        workers.push(tokio::spawn(async move {
            let mut written = 0_i64;
            while !ended.load(Ordering::Relaxed) {
                let (id, tenant) = (worker * 1_000_000 + written, written % 7);
                let transaction = client.transaction().await.unwrap();
                let insert = "INSERT INTO notes (id, tenant_id) VALUES ($1, $2)";
                transaction.execute(insert, &[&id, &tenant]).await.unwrap();
                transaction.commit().await.unwrap();
                let read = format!("SELECT id FROM notes WHERE tenant_id = {tenant} AND id = {id}");
                assert_eq!(client.query(&read, &[]).await.unwrap().len(), 1);
                let all = "SELECT id FROM notes WHERE tenant_id IN (1, 2, 3) AND id = -1";
                assert!(client.simple_query(all).await.is_ok());
                written += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            written
        }));
    }
    let console = connect(&proxy.console_url("bot")).await.unwrap();
    let names = "shards = [\"usa-east\", \"usa-west\", \"deu\"]";
    let maps = [
        shards.map_by_hash(REFERENCE),
        // Another way to say where a shard is, other pools.
        shards.map_by_hash("").replacen("/deu", "/deu?application_name=other", 1),
        shards.map_by_hash("").replacen(names, &format!("{names}\nprefix = \"\""), 1),
        // A shard that nobody needs comes and goes.
        shards.map_by_hash(
            "[[shards]]\nid = 9\nname = \"x\"\nurl = \"postgresql://bot@127.0.0.1:1/x\"\n",
        ),
    ];
    let mut taken = 0;
    for round in 0..8 {
        let before = history(&console).await.len();
        replace(&proxy, &maps[round % maps.len()]);
        // The watcher may have been first.
        if console.batch_execute("RELOAD").await.is_ok() && history(&console).await.len() > before {
            taken += 1;
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    ended.store(true, Ordering::Relaxed);
    let mut written = 0;
    for worker in workers {
        written += worker.await.unwrap();
    }
    assert!(taken >= 6, "{taken} reloads");
    let mut found = 0;
    for (index, name) in shards.names().enumerate() {
        let direct = shards.direct(name).await;
        let sql = "SELECT count(*), count(*) FILTER (WHERE tenant_id % 3 <> $1) FROM notes";
        let row = direct.query_one(sql, &[&i64::try_from(index).unwrap()]).await.unwrap();
        assert_eq!(row.get::<_, i64>(1), 0, "rows on the wrong shard {name}");
        found += row.get::<_, i64>(0);
    }
    assert_eq!(found, written);
    assert!(written > 50, "{written}");
    // The pools of maps that are gone are closed as their clients go on.
    let servers = console.query("SHOW SERVERS", &[]).await.unwrap();
    let pools = console.query("SHOW POOLS", &[]).await.unwrap();
    let open: i64 = pools.iter().map(|p| p.get::<_, i64>("used") + p.get::<_, i64>("idle")).sum();
    assert_eq!(servers.len() as i64, open, "connections outside of the pools that are used");
}

/// A migration begins with `routing = "off"`. It does not end before the rows are where the map says, and is
/// not begun again while they are elsewhere.
#[tokio::test]
async fn routing_is_not_switched_over_rows_that_are_elsewhere() {
    let shards = Shards::databases(2);
    shards.run_on_all(TABLES).await;
    let on = shards.map_by_hash(REFERENCE);
    let off = on.replacen("version = 1", "version = 1\nrouting = \"off\"", 1);
    let proxy = Proxy::start_with(&shards, &off, CONFIG).await;
    let (client, console) =
        (proxy.connect().await, connect(&proxy.console_url("bot")).await.unwrap());
    client.batch_execute("INSERT INTO notes VALUES (1, 3), (2, 2), (3, 15)").await.unwrap();
    client.batch_execute("INSERT INTO plans VALUES (1, 'free')").await.unwrap();
    let refused = async |map: &str, words: &str| {
        replace(&proxy, map);
        let error = console.batch_execute("RELOAD").await.expect_err(words);
        let told = error.as_db_error().unwrap();
        let detail = told.detail().unwrap_or_default();
        assert!(detail.contains(words), "{words}: {detail}");
        assert!(told.hint().unwrap().contains("RELOAD FORCE"), "{told:?}");
    };
    refused(
        &on,
        "table notes has 2 rows on shard usa-east with key 3, 15, and the new map looks for them on usa-west",
    )
    .await;
    let (east, west) = (shards.direct("usa-east").await, shards.direct("usa-west").await);
    west.batch_execute("INSERT INTO notes VALUES (1, 3), (3, 15)").await.unwrap();
    east.batch_execute("DELETE FROM notes WHERE tenant_id IN (3, 15)").await.unwrap();
    console.batch_execute("RELOAD").await.unwrap();
    let count = "SELECT count(*) FROM notes WHERE tenant_id IN (3, 2, 15)";
    assert_eq!(client.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 3);
    refused(
        &off,
        "table notes has 2 rows on shard usa-west, and the new map looks for them on usa-east",
    )
    .await;
    east.batch_execute("INSERT INTO notes VALUES (1, 3), (3, 15)").await.unwrap();
    west.batch_execute("DELETE FROM notes").await.unwrap();
    console.batch_execute("RELOAD").await.unwrap();
    assert_eq!(client.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 3);
}
