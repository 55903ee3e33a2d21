//! Everything that can be wrong with a map or its control tables, before the running proxy: nothing is swapped, and
//! whoever asks or looks is told the same. File, signal, console, HTTP and tables ask; the log, the metrics,
//! `SHOW MAP`, `SHOW MAP HISTORY` and `/health` tell.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

#[path = "../support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use pgmeridian::demo::cluster::{Cluster, Options, ROLE};
use serde::Deserialize;
use serde_json::Value;
use support::{Proxy, Shards, connect, http, said};
use tokio_postgres::{Client, SimpleQueryMessage};

const CONFIG: &str = "[http]\ntoken = \"t0ken\"\n[health]\ninterval = \"200ms\"\n";

const RELOAD: &str = "/api/admin/reload-shard-config";

const TABLES: &str = "CREATE TABLE tenants (id bigint PRIMARY KEY);
    CREATE TABLE notes (id bigint, tenant_id bigint NOT NULL, PRIMARY KEY (tenant_id, id));";

/// What the proxy says of its map.
#[derive(Debug)]
struct Told {
    version: i64,
    fault: Option<String>,
    /// The newest attempts first: from where, what came of it, what was wrong.
    history: Vec<(String, String, String)>,
    /// The last attempt failed.
    failed: bool,
}

/// Somebody who looks at everything there is to be seen.
struct Looker<'p> {
    proxy: &'p Proxy,
    console: Client,
    client: Client,
}

impl<'p> Looker<'p> {
    async fn at(proxy: &'p Proxy) -> Self {
        let console = connect(&proxy.console_url("bot")).await.unwrap();
        Self { proxy, console, client: proxy.connect().await }
    }

    /// What is told, everywhere the same; an error where it is not: what is asked for one after the other may change
    /// meanwhile.
    async fn told(&self) -> Result<Told, String> {
        let map = self.console.query_one("SHOW MAP", &[]).await.unwrap();
        let history = self.console.query("SHOW MAP HISTORY", &[]).await.unwrap();
        let health = http(self.proxy.http, "GET", "/health", None).await.1;
        let health: Value = serde_json::from_str(&health).unwrap();
        let metrics = http(self.proxy.http, "GET", "/metrics", None).await.1;
        let failed = metrics.contains("\npgmeridian_map_last_reload_failed 1");
        let followed = !metrics.contains("\npgmeridian_control_followed 0");
        let text = |row: &tokio_postgres::Row, at: &str| {
            row.get::<_, Option<&str>>(at).unwrap_or_default().to_owned()
        };
        let history: Vec<_> = history
            .iter()
            .map(|row| (text(row, "origin"), text(row, "outcome"), text(row, "changes")))
            .collect();
        let state = map.get::<_, &str>("state");
        let fault = map.get::<_, Option<&str>>("last_fault").map(str::to_owned);
        let since = map.get::<_, Option<SystemTime>>("last_fault_at");
        let (status, of_map) =
            (health["status"].as_str().unwrap(), health["map"].as_str().unwrap());
        let refused = history.first().is_some_and(|newest| newest.1 == "refused");
        let shown = format!("{state} {fault:?} {status} {of_map} {failed} {followed} {history:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("bot:bot"), "{shown}");
        let alike = (state == "ok") == fault.is_none()
            && since.is_some() == fault.is_some()
            && of_map == fault.as_deref().unwrap_or("ok")
            && refused == failed
            && (status == "healthy") == (fault.is_none() && followed)
            && (fault.is_some() || (!failed && followed));
        if !alike {
            return Err(shown);
        }
        Ok(Told { version: map.get("version"), fault, history, failed })
    }

    async fn until(&self, what: &str, holds: impl Fn(&Told) -> bool) -> Told {
        let begun = Instant::now();
        loop {
            let told = self.told().await;
            match told {
                Ok(told) if holds(&told) => return told,
                told => assert!(
                    begun.elapsed() < Duration::from_secs(15),
                    "{what}: {told:?}\n{}",
                    self.proxy.log()
                ),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// RELOAD on the console: SQLSTATE and detail of its refusal.
    async fn console(&self) -> (String, String) {
        let Err(error) = self.console.batch_execute("RELOAD").await else {
            return Default::default();
        };
        let (code, message) = said(&error);
        assert_eq!(message, "the map was not taken, the old one stays");
        (code, error.as_db_error().and_then(|own| own.detail()).unwrap_or_default().to_owned())
    }

    /// RELOAD over HTTP: code and answer.
    async fn http(&self) -> (u16, Value) {
        let (code, body) = http(self.proxy.http, "POST", RELOAD, Some("t0ken")).await;
        assert!(!body.contains("s3cret") && !body.contains("bot:bot"), "{body}");
        (code, serde_json::from_str(&body).unwrap())
    }

    /// Clients go on as before.
    async fn works(&self, tenant: i64, home: &str) {
        let sql = format!("SELECT id FROM notes WHERE tenant_id = {tenant}");
        self.client.simple_query(&sql).await.unwrap();
        let found = self.client.simple_query(&format!("EXPLAIN (ROUTE) {sql}")).await.unwrap();
        let lines = found.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let lines = lines.collect::<Vec<_>>().join("\n");
        assert!(lines.contains(home), "{lines}");
    }
}

/// The messages of the faults that HTTP tells of.
fn messages(answer: &Value) -> Vec<String> {
    let faults = answer["faults"].as_array().cloned().unwrap_or_default();
    faults.iter().map(|fault| fault["message"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Puts a map in the file's place, as an editor does.
fn replace(proxy: &Proxy, map: &str) {
    let aside = proxy.map_path().with_extension("new");
    fs::write(&aside, map).unwrap();
    fs::rename(aside, proxy.map_path()).unwrap();
}

/// A change that makes the full map faulty.
#[derive(Deserialize)]
struct FaultyMap {
    from: String,
    to: String,
    expect: Vec<String>,
}

#[derive(Deserialize)]
struct FaultyMaps {
    fault: Vec<FaultyMap>,
}

/// What is slow is tried with every so many of the faults.
const SAMPLE: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_faulty_map_is_taken_whoever_asks() {
    let shards = Shards::databases(2);
    shards.run_on_all(TABLES).await;
    let good = shards.map_by_hash("");
    let proxy = Proxy::start_with(&shards, &good, CONFIG).await;
    let looker = Looker::at(&proxy).await;
    let before = looker.told().await.unwrap();
    assert_eq!(before.fault, None);
    let base = include_str!("../golden/full_map.toml")
        .replace("${BOT_PASSWORD}", "s3cret")
        .replace("geoip = \"GeoLite2-Country.mmdb\"\n", "");
    let FaultyMaps { fault: faults } = toml::from_str(include_str!("maps.toml")).unwrap();
    let mut maps: Vec<(String, Vec<String>)> = faults
        .into_iter()
        .map(|FaultyMap { from, to, expect }| {
            assert!(base.contains(&from), "{from}");
            (base.replacen(&from, &to, 1).replace("bot:bot@", "bot:s3cret@"), expect)
        })
        .collect();
    for (text, expect) in [
        ("", "the map has no shards"),
        ("version = \n", "not TOML"),
        ("\u{feff}{\"version\": 1}", "not TOML"),
        ("[[shards]\nurl = \"postgresql://bot:s3cret@h", "not TOML"),
    ] {
        maps.push((text.to_owned(), vec![expect.to_owned()]));
    }
    for (at, (map, expect)) in maps.iter().enumerate() {
        replace(&proxy, map);
        let (code, detail) = looker.console().await;
        let told = format!("{at} {expect:?}: {detail}");
        assert!(code == "22023" && !detail.contains("s3cret"), "{told}");
        for words in expect {
            assert!(detail.contains(words.as_str()) && detail.contains('^'), "{told}");
        }
        let (code, answer) = looker.http().await;
        assert_eq!((code, answer["status"].as_str()), (422, Some("refused")), "{told}");
        if expect != &["not TOML"] {
            assert!(expect.iter().all(|words| messages(&answer).contains(words)), "{answer}");
        }
        let is_told = |fault: &str| {
            let file = proxy.map_path().display().to_string();
            fault.contains(&file)
                && (expect == &["not TOML"] || expect.iter().any(|own| fault.contains(own)))
        };
        let shown = looker.until(&told, |told| told.fault.as_deref().is_some_and(is_told)).await;
        assert!(shown.version == before.version && shown.failed, "{told}");
        assert!(is_told(&shown.history[0].2), "{told} {:?}", shown.history[0]);
        if at % SAMPLE == 0 {
            for (origin, signal) in [("file change", ""), ("SIGHUP", "HUP")] {
                if !signal.is_empty() {
                    proxy.signal(signal);
                }
                let by = |told: &Told| {
                    let recent = told.history.iter().take(4);
                    recent
                        .clone()
                        .any(|(by, came, what)| by == origin && came == "refused" && is_told(what))
                };
                looker.until(&format!("{origin} {told}"), by).await;
            }
            looker.works(2, "usa-east").await;
            looker.works(3, "usa-west").await;
        }
    }
    let log = proxy.log();
    assert!(!log.contains("s3cret"), "{log}");
    for (_, expect) in &maps {
        assert!(expect.iter().all(|words| log.contains(words)), "{expect:?}\n{log}");
    }
    replace(&proxy, &good);
    let (code, answer) = looker.http().await;
    assert_eq!((code, answer["status"].as_str()), (200, Some("unchanged")), "{answer}");
    let after = looker.until("no fault", |told| told.fault.is_none()).await;
    assert_eq!(after.version, before.version);
}

/// Something that is wrong in the tables, and with which words it is told.
#[derive(Deserialize)]
struct FaultyTable {
    wrong: String,
    right: Option<String>,
    refused: Option<String>,
    unread: Option<String>,
    unusable: Option<String>,
}

#[derive(Deserialize)]
struct FaultyTables {
    fault: Vec<FaultyTable>,
}

/// As botserver's tables, but that they take anything.
const CONTROL: &str = "
    CREATE TABLE shard_config (shard_id text, region_code text, datacenter text, connection_string text,
        is_primary text, is_active text, min_tenant_id text, max_tenant_id text);
    CREATE TABLE tenant_shard_map (tenant_id text, shard_id text, region_code text);";

const RIGHT: &str = "BEGIN;
    DELETE FROM shard_config; INSERT INTO shard_config SELECT * FROM good_config;
    DELETE FROM tenant_shard_map; INSERT INTO tenant_shard_map SELECT * FROM good_map;
    COMMIT";

async fn control_tables(shards: &Shards) -> (Cluster, Client) {
    let mut options = Options::named("control");
    // Logging in takes its time with debugging symbols.
    options.hba = vec![format!("host all {ROLE} 127.0.0.1/32 trust")];
    let cluster = Cluster::start(&options).unwrap();
    let control = connect(&cluster.url()).await.unwrap();
    control.batch_execute(CONTROL).await.unwrap();
    let install = Command::new(env!("CARGO_BIN_EXE_pgmeridian"))
        .args(["control", "install", "--yes", "--url", &cluster.url()])
        .output()
        .unwrap();
    assert!(install.status.success(), "{install:?}");
    let mut sql = String::new();
    for (id, name) in (1_i64..).zip(shards.names()) {
        let (url, min) = (shards.url(name), id * 1000);
        let _ = write!(
            sql,
            "INSERT INTO shard_config VALUES ({id}, 'USA', 'dc', '{url}', '{}', 'true', {min}, {});",
            id == 1,
            min + 999
        );
    }
    sql += "INSERT INTO tenant_shard_map VALUES ('1500', '3', 'DEU');
        CREATE TABLE good_config AS SELECT * FROM shard_config;
        CREATE TABLE good_map AS SELECT * FROM tenant_shard_map";
    control.batch_execute(&sql).await.unwrap();
    (cluster, control)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_faulty_tables_are_followed_and_all_who_look_are_told() {
    let shards = Shards::databases(3);
    shards.run_on_all(TABLES).await;
    let (cluster, control) = control_tables(&shards).await;
    let mut map = format!(
        "version = 1\ndatabase = \"bots\"\n[keys.tenant]\ncolumns = [\"tenant_id\"]\n\
         tables = {{ tenants = \"id\" }}\ntype = \"bigint\"\nstrategy = \"directory\"\n\
         directory = {{ otherwise = \"range\" }}\n[control]\nurl = \"{}\"\npoll = \"250ms\"\n",
        cluster.url()
    );
    for (id, name) in (1..).zip(shards.names()) {
        let _ = write!(map, "[[shards]]\nid = {id}\nname = \"{name}\"\n");
    }
    let proxy = Proxy::start_with(&shards, &map, CONFIG).await;
    let looker = Looker::at(&proxy).await;
    looker.until("no fault at first", |told| told.fault.is_none()).await;
    looker.client.batch_execute("INSERT INTO notes VALUES (1, 1700)").await.unwrap();
    let FaultyTables { fault: faults } = toml::from_str(include_str!("tables.toml")).unwrap();
    for FaultyTable { wrong, right, refused, unread, unusable } in &faults {
        let words = refused.iter().chain(unread).chain(unusable).next().unwrap();
        let before = looker.told().await.unwrap_or_else(|shown| panic!("{wrong}: {shown}"));
        control.batch_execute(wrong).await.unwrap();
        // The tables tell by themselves.
        let is_told = |told: &Told| told.fault.as_ref().is_some_and(|own| own.contains(words));
        let told = looker.until(wrong, is_told).await;
        assert_eq!(told.failed, unread.is_none(), "{wrong}: {told:?}");
        assert_eq!(told.version, before.version, "{wrong}");
        // Whoever asks is told the same.
        let (code, detail) = looker.console().await;
        let (status, answer) = looker.http().await;
        match (refused, unread) {
            (Some(_), _) => {
                assert!(code == "22023" && detail.contains(words.as_str()), "{wrong}: {detail}");
                assert!(detail.contains('^'), "{detail}");
                let told = messages(&answer).iter().any(|own| own.contains(words.as_str()));
                assert!(status == 422 && told, "{wrong}: {answer}");
            }
            (None, Some(_)) => {
                // What was read last goes on, and so it is said.
                let problem = answer["problem"].as_str().unwrap_or_default();
                assert!(code.is_empty() && status == 200 && problem.contains(words), "{answer}");
            }
            (None, None) => {
                let told = answer["error"].as_str().unwrap_or_default().contains(words.as_str());
                assert!(detail.contains(words.as_str()) && told, "{wrong}: {detail} {answer}");
                assert!([409, 503].contains(&status), "{wrong}: {status} {answer}");
            }
        }
        looker.until(wrong, is_told).await;
        looker.works(1500, "deu").await;
        looker.works(1700, "usa-east").await;
        control.batch_execute(right.as_deref().unwrap_or(RIGHT)).await.unwrap();
        looker.until(&format!("right again: {wrong}"), |told| told.fault.is_none()).await;
    }
    let log = proxy.log();
    assert!(!log.contains("s3cret") && !log.contains("bot:bot"), "{log}");
    for fault in &faults {
        for words in fault.refused.iter().chain(&fault.unread).chain(&fault.unusable) {
            assert!(log.contains(words.as_str()), "{words}\n{log}");
        }
    }
}
