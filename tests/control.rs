//! The map from control tables, with a real control database: installed, followed, away, full of nonsense.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

#[path = "support/mmdb.rs"]
mod mmdb;
mod support;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime};

use pgmeridian::demo::cluster::{Cluster, Options};
use support::{Proxy, Shards, connect, eventually, http};
use tokio_postgres::Client;

const TABLES: &str = "
    CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE notes (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, body text);";

fn run(words: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_pgmeridian")).args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Shards, and a control database of its own that tells where they are.
struct Controlled {
    shards: Shards,
    cluster: Cluster,
}

impl Controlled {
    async fn new() -> Self {
        let shards = Shards::databases(3);
        shards.run_on_all(TABLES).await;
        let cluster = Cluster::start(&Options::named("control")).unwrap();
        let (code, _, err) = run(&["control", "install", "--url", &cluster.url(), "--yes"]);
        assert_eq!(code, 0, "{err}");
        let own = Self { shards, cluster };
        let client = own.control().await;
        for (id, name) in (1_i16..).zip(own.shards.names()) {
            let (url, min) = (own.shards.url(name).to_owned(), i64::from(id) * 1000);
            client
                .execute(
                    "INSERT INTO shard_config VALUES ($1, $2, 'dc', $3, $4, true, $5, $6)",
                    &[&id, &name[..3].to_uppercase(), &url, &(id == 1), &min, &(min + 999)],
                )
                .await
                .unwrap();
        }
        own
    }

    async fn control(&self) -> Client {
        connect(&self.cluster.url()).await.unwrap()
    }

    fn cache(&self) -> PathBuf {
        self.shards.first().directory().join("control.cache")
    }

    fn map(&self) -> String {
        let mut map = format!(
            "version = 1\ndatabase = \"bots\"\n\
             [keys.tenant]\ncolumns = [\"tenant_id\"]\ntables = {{ tenants = \"id\" }}\n\
             type = \"bigint\"\nstrategy = \"directory\"\ndirectory = {{ otherwise = \"range\" }}\n\
             [control]\nurl = \"{}\"\npoll = \"1s\"\ncache = \"{}\"\n",
            self.cluster.url(),
            self.cache().display()
        );
        for (id, name) in (1..).zip(self.shards.names()) {
            let _ = write!(map, "[[shards]]\nid = {id}\nname = \"{name}\"\n");
        }
        map
    }

    async fn serve(&self) -> Proxy {
        Proxy::start(&self.shards, &self.map()).await
    }
}

/// Where a tenant's rows go, by EXPLAIN (ROUTE).
async fn home(client: &Client, tenant: i64) -> String {
    let sql =
        format!("EXPLAIN (ROUTE, FORMAT JSON) SELECT * FROM notes WHERE tenant_id = {tenant}");
    let row = match client.query_one(&sql, &[]).await {
        Ok(row) => row,
        Err(error) => return error.to_string(),
    };
    let route: serde_json::Value = serde_json::from_str(&row.get::<_, Json>(0).0).unwrap();
    match route["shards"].as_array().map(Vec::as_slice) {
        Some([only]) => only.as_str().unwrap().to_owned(),
        _ => route["reason"].as_str().unwrap_or_default().to_owned(),
    }
}

/// A json column, as text.
struct Json(String);

impl<'a> tokio_postgres::types::FromSql<'a> for Json {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
}

/// Waits until a tenant has this home; how long it took.
async fn becomes(client: &Client, tenant: i64, expect: &str) -> Duration {
    let begun = Instant::now();
    eventually(expect, async || {
        let found = home(client, tenant).await;
        if found == expect { Ok(()) } else { Err(found) }
    })
    .await;
    begun.elapsed()
}

#[tokio::test]
async fn install_says_what_it_does_and_does_it_once() {
    let cluster = Cluster::start(&Options::named("control")).unwrap();
    let (code, out, err) = run(&["control", "install", "--url", &cluster.url()]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("CREATE TABLE tenant_shard_map") && err.contains("nothing was done"));
    assert!(!out.contains("bot:bot") && !err.contains("bot:bot"));
    let client = connect(&cluster.url()).await.unwrap();
    let there = "SELECT to_regclass('shard_config') IS NOT NULL";
    assert!(!client.query_one(there, &[]).await.unwrap().get::<_, bool>(0));
    // botserver's own tables may be there, with rows.
    client
        .batch_execute(
            "CREATE TABLE shard_config (shard_id smallint PRIMARY KEY, region_code char(3) NOT NULL, \
             datacenter varchar(32) NOT NULL, connection_string text NOT NULL, \
             is_primary boolean DEFAULT false, is_active boolean DEFAULT true, \
             min_tenant_id bigint NOT NULL, max_tenant_id bigint NOT NULL); \
             INSERT INTO shard_config VALUES (1, 'USA', 'dc', 'x', true, true, 1, 2)",
        )
        .await
        .unwrap();
    let (code, _, err) = run(&["control", "install", "--url", &cluster.url(), "--yes"]);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = run(&["control", "install", "--url", &cluster.url(), "--yes"]);
    assert!(code == 0 && err.contains("everything is there"), "{err}");

    // Each statement is one version and says what it changed.
    let changed = async |sql: &str| {
        client.batch_execute("DELETE FROM pgmeridian.map_change").await.unwrap();
        client.batch_execute(sql).await.unwrap();
        let sql = "SELECT coalesce(tenant, shards::text) FROM pgmeridian.map_change ORDER BY 1";
        let rows = client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>().join(" ")
    };
    let insert = "INSERT INTO tenant_shard_map SELECT g, 1, 'USA' FROM generate_series(1, 3) g";
    assert_eq!(changed(insert).await, "1 2 3");
    assert_eq!(
        changed("UPDATE tenant_shard_map SET tenant_id = 4 WHERE tenant_id = 3").await,
        "3 4"
    );
    assert_eq!(changed("DELETE FROM tenant_shard_map WHERE tenant_id > 99").await, "");
    assert_eq!(changed("DELETE FROM tenant_shard_map WHERE tenant_id > 1").await, "2 4");
    assert_eq!(changed("TRUNCATE tenant_shard_map").await, "false");
    assert_eq!(changed("UPDATE shard_config SET datacenter = 'x'").await, "true");
    let many = "INSERT INTO tenant_shard_map SELECT g, 1, 'USA' FROM generate_series(1, 10001) g";
    assert_eq!(changed(many).await, "false");
    let (code, _, err) =
        run(&["control", "install", "--url", "postgresql://bot:s3cret@127.0.0.1:1/x"]);
    assert!(code == 1 && !err.contains("s3cret"), "{err}");
    let (code, _, err) = run(&["control", "install", "--url", "s3cret"]);
    assert!(code == 2 && !err.contains("s3cret"), "{err}");
}

#[tokio::test]
async fn the_tables_are_followed() {
    let own = Controlled::new().await;
    let control = own.control().await;
    // So seldom that only notifications can be what is seen here.
    let map = own.map().replace("poll = \"1s\"", "poll = \"300s\"");
    let proxy = Proxy::start(&own.shards, &map).await;
    let client = proxy.connect().await;
    assert_eq!(home(&client, 1000).await, "usa-east");
    assert_eq!(home(&client, 3999).await, "deu");
    // A row wins over the range; it comes, changes and goes.
    let mut took = Vec::new();
    for (sql, expect) in [
        ("INSERT INTO tenant_shard_map VALUES (1500, 3, 'DEU')", "deu"),
        ("UPDATE tenant_shard_map SET shard_id = 2 WHERE tenant_id = 1500", "usa-west"),
        ("DELETE FROM tenant_shard_map", "usa-east"),
        (
            "INSERT INTO tenant_shard_map SELECT g, 3, 'DEU' FROM generate_series(1400, 1500) g",
            "deu",
        ),
        ("TRUNCATE tenant_shard_map", "usa-east"),
        (
            "UPDATE shard_config SET max_tenant_id = 1499 WHERE shard_id = 1; \
          UPDATE shard_config SET min_tenant_id = 1500 WHERE shard_id = 2",
            "usa-west",
        ),
    ] {
        control.batch_execute(sql).await.unwrap();
        took.push(becomes(&client, 1500, expect).await);
    }
    eprintln!("from the tables to the proxy: {took:?}");
    // Clients' statements went on all the time, on the same connections where the shards stayed.
    client.batch_execute("INSERT INTO notes VALUES (1, 1500, 'x')").await.unwrap();

    // Faulty tables change nothing, and the truth is told without a secret.
    let seen = proxy.log().len();
    control
        .batch_execute("UPDATE shard_config SET max_tenant_id = 2000 WHERE shard_id = 1")
        .await
        .unwrap();
    eventually("the fault in the log", async || {
        let log = proxy.log().split_off(seen);
        if log.contains("the ranges of shard_id 1 and 2 overlap") { Ok(()) } else { Err(log) }
    })
    .await;
    control.batch_execute("INSERT INTO tenant_shard_map VALUES (2500, 3, 'DEU')").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        (home(&client, 2500).await, home(&client, 1600).await),
        ("usa-west".to_owned(), "usa-west".to_owned())
    );
    control
        .batch_execute("UPDATE shard_config SET max_tenant_id = 1499 WHERE shard_id = 1")
        .await
        .unwrap();
    becomes(&client, 2500, "deu").await;

    // Tables that are gone, or not what they were, change nothing either.
    control.batch_execute("ALTER TABLE tenant_shard_map RENAME TO elsewhere").await.unwrap();
    control.batch_execute("UPDATE shard_config SET datacenter = 'y'").await.unwrap();
    eventually("the missing table in the log", async || {
        let log = proxy.log();
        if log.contains("table tenant_shard_map does not exist") { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(home(&client, 2500).await, "deu");
    control.batch_execute("ALTER TABLE elsewhere RENAME TO tenant_shard_map").await.unwrap();
    control.batch_execute("UPDATE tenant_shard_map SET shard_id = 1").await.unwrap();
    becomes(&client, 2500, "usa-east").await;
    assert!(!proxy.log().contains("bot:bot"), "{}", proxy.log());
}

#[tokio::test]
async fn rows_are_not_left_behind() {
    let own = Controlled::new().await;
    let control = own.control().await;
    let proxy = own.serve().await;
    let client = proxy.connect().await;
    client
        .batch_execute(
            "INSERT INTO notes VALUES (1, 1500, 'x'); INSERT INTO notes VALUES (2, 1500, 'y')",
        )
        .await
        .unwrap();
    let seen = proxy.log().len();
    control
        .batch_execute("INSERT INTO tenant_shard_map VALUES (1500, 3, 'DEU'), (1600, 2, 'USA')")
        .await
        .unwrap();
    eventually("the refusal in the log", async || {
        let log = proxy.log().split_off(seen);
        let expect = "table notes has 2 rows on shard usa-east with key 1500, and the new map looks for them on deu";
        if log.contains(expect) { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(home(&client, 1600).await, "usa-east");
    // An operator who compares two maps is told the same.
    let old = write(&own, "old.toml", &own.shards.map_by_hash(""));
    let new =
        own.shards.map_by_hash("").replace("[\"usa-east\", \"usa-west\", \"deu\"]", "[\"deu\"]");
    let new = write(&own, "new.toml", &new);
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    let (code, out, err) = run(&["diff", "--live", old, new]);
    let told = "! table notes has 2 rows on shard usa-east with key 1500, and the new map looks for them on deu";
    assert!(code == 1 && out.contains(told), "{out}{err}");
    let (code, out, err) = run(&["diff", "--live", old, old]);
    assert!(code == 0 && !out.contains("notes"), "{out}{err}");
    // Once they are where the tables want them, the map follows by itself.
    let east = own.shards.direct("usa-east").await;
    let deu = own.shards.direct("deu").await;
    deu.batch_execute("INSERT INTO notes VALUES (1, 1500, 'x'), (2, 1500, 'y')").await.unwrap();
    east.batch_execute("DELETE FROM notes").await.unwrap();
    becomes(&client, 1500, "deu").await;
    assert_eq!(
        client.query("SELECT * FROM notes WHERE tenant_id = 1500", &[]).await.unwrap().len(),
        2
    );
    assert_eq!(home(&client, 1600).await, "usa-west");
}

#[tokio::test]
async fn without_the_control_database_the_last_good_map_goes_on() {
    let mut own = Controlled::new().await;
    let control = own.control().await;
    control.batch_execute("INSERT INTO tenant_shard_map VALUES (1500, 3, 'DEU')").await.unwrap();
    let first = own.serve().await;
    let client = first.connect().await;
    // A scratch cluster may forget its last commits when it is stopped at once; not this one.
    control.batch_execute("SET synchronous_commit = on").await.unwrap();
    control.batch_execute("INSERT INTO tenant_shard_map VALUES (1501, 3, 'DEU')").await.unwrap();
    becomes(&client, 1501, "deu").await;
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(own.cache()).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);

    own.cluster.stop();
    client.batch_execute("INSERT INTO notes VALUES (1, 1501, 'x')").await.unwrap();
    // A proxy starts without it, and one with nothing kept does not.
    let second = own.serve().await;
    let other = second.connect().await;
    assert_eq!(home(&other, 1501).await, "deu");
    assert_eq!(
        other.query("SELECT * FROM notes WHERE tenant_id = 1501", &[]).await.unwrap().len(),
        1
    );
    assert!(second.log().contains("can't be read"), "{}", second.log());
    let bare = own.map().replace("control.cache", "no.cache");
    let (code, _, err) = run(&[
        "serve",
        "--map",
        write(&own, "bare.toml", &bare).to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
    ]);
    assert!(code == 2 && err.contains("the control database bot@127.0.0.1"), "{code} {err}");

    // It comes back, with changes: both proxies follow.
    own.cluster.start_again().unwrap();
    let control = own.control().await;
    control
        .batch_execute("UPDATE tenant_shard_map SET shard_id = 2 WHERE tenant_id = 1500")
        .await
        .unwrap();
    becomes(&client, 1500, "usa-west").await;
    becomes(&other, 1500, "usa-west").await;

    // A proxy that starts over tables full of nonsense uses what was good last.
    eventually("the cache", async || {
        let kept = std::fs::read_to_string(own.cache()).unwrap();
        if kept.contains("tenant\t1500\t2") { Ok(()) } else { Err(kept) }
    })
    .await;
    control.batch_execute("UPDATE shard_config SET connection_string = 'nonsense'").await.unwrap();
    let third = own.serve().await;
    let client = third.connect().await;
    assert_eq!(home(&client, 1500).await, "usa-west");
    assert!(third.log().contains("connection_string: not a PostgreSQL URL"), "{}", third.log());
}

/// The fault that SHOW MAP, SHOW MAP HISTORY, /health and the metrics tell of, if there is one; an error while they do
/// not say the same: they are asked one after the other.
async fn told(proxy: &Proxy) -> Result<Option<String>, String> {
    let console = connect(&proxy.console_url("bot")).await.unwrap();
    let map = console.query_one("SHOW MAP", &[]).await.unwrap();
    let newest = console.query("SHOW MAP HISTORY", &[]).await.unwrap().swap_remove(0);
    let (_, health) = http(proxy.http, "GET", "/health", None).await;
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    let (_, metrics) = http(proxy.http, "GET", "/metrics", None).await;
    let gauge = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned()
    };
    let (state, fault) = (map.get::<_, &str>("state"), map.get::<_, Option<&str>>("last_fault"));
    let is_refused = newest.get::<_, &str>("outcome") == "refused";
    let (followed, failed) =
        (gauge("pgmeridian_control_followed"), gauge("pgmeridian_map_last_reload_failed"));
    let (status, of_map) = (health["status"].as_str().unwrap(), health["map"].as_str().unwrap());
    let shown = format!("{state} {fault:?} {is_refused} {followed} {failed} {status} {of_map}");
    assert!(!shown.contains("bot:bot"), "{shown}");
    let alike = (state == "ok") == fault.is_none()
        && fault.is_some() == map.get::<_, Option<SystemTime>>("last_fault_at").is_some()
        && of_map == fault.unwrap_or("ok")
        && is_refused == (failed == "1");
    match fault {
        None if alike && followed == "1" && failed == "0" && status == "healthy" => Ok(None),
        Some(fault) if alike && followed == "0" && status == "degraded" => {
            Ok(Some(fault.to_owned()))
        }
        _ => Err(shown),
    }
}

/// Waits until nothing tells of a fault.
async fn tells_of_none(proxy: &Proxy) {
    eventually("no fault", async || match told(proxy).await {
        Ok(None) => Ok(()),
        told => Err(format!("{told:?}")),
    })
    .await;
}

/// Waits until everything that tells of the map says this.
async fn tells(proxy: &Proxy, words: &str) {
    eventually(words, async || match told(proxy).await {
        Ok(Some(fault)) if fault.contains(words) => Ok(()),
        told => Err(format!("{told:?}")),
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_the_control_database_is_told_everywhere() {
    let mut own = Controlled::new().await;
    let control = own.control().await;
    let proxy = own.serve().await;
    let client = proxy.connect().await;
    tells_of_none(&proxy).await;
    // What is put right must outlast the server's end.
    control.batch_execute("SET synchronous_commit = on").await.unwrap();
    let works = async || {
        assert_eq!(home(&client, 1500).await, "usa-east");
        client.batch_execute("SELECT * FROM notes WHERE tenant_id = 1500").await.unwrap();
    };
    // Each is put right again before the next.
    let urls = "UPDATE shard_config SET connection_string = replace(connection_string, 'x-', '')";
    for (wrong, right, words) in [
        (
            "UPDATE shard_config SET connection_string = 'x-' || connection_string",
            urls,
            "not a PostgreSQL URL",
        ),
        (
            "UPDATE shard_config SET is_primary = true",
            "UPDATE shard_config SET is_primary = shard_id = 1",
            "two shards are is_primary",
        ),
        (
            "UPDATE shard_config SET is_primary = false",
            "UPDATE shard_config SET is_primary = shard_id = 1",
            "no shard is_primary",
        ),
        (
            "UPDATE shard_config SET max_tenant_id = 2500 WHERE shard_id = 1",
            "UPDATE shard_config SET max_tenant_id = 1999 WHERE shard_id = 1",
            "the ranges of shard_id 1 and 2 overlap",
        ),
        (
            "ALTER TABLE tenant_shard_map DROP CONSTRAINT tenant_shard_map_shard_id_fkey; \
             INSERT INTO tenant_shard_map VALUES (1500, 9, 'DEU')",
            "DELETE FROM tenant_shard_map",
            "tenant 1500: shard_config has no shard_id 9",
        ),
        (
            "ALTER TABLE tenant_shard_map ALTER shard_id DROP NOT NULL; \
             INSERT INTO tenant_shard_map VALUES (1500, NULL, 'DEU')",
            "DELETE FROM tenant_shard_map",
            "tenant 1500: shard_id is NULL",
        ),
        (
            "ALTER TABLE tenant_shard_map RENAME TO elsewhere; UPDATE shard_config SET datacenter = 'y'",
            "ALTER TABLE elsewhere RENAME TO tenant_shard_map",
            "table tenant_shard_map does not exist",
        ),
        ("TRUNCATE shard_config CASCADE", "", "shard_config has no rows"),
    ] {
        let kept = "CREATE TEMP TABLE IF NOT EXISTS kept AS SELECT * FROM shard_config";
        control.batch_execute(kept).await.unwrap();
        control.batch_execute(wrong).await.unwrap();
        tells(&proxy, words).await;
        works().await;
        let right = match right {
            "" => "INSERT INTO shard_config SELECT * FROM kept",
            right => right,
        };
        control.batch_execute(right).await.unwrap();
        tells_of_none(&proxy).await;
        works().await;
    }
    // Killed under load, and back with a change.
    own.cluster.stop();
    tells(&proxy, "can't be read").await;
    works().await;
    own.cluster.start_again().unwrap();
    tells_of_none(&proxy).await;
    let control = own.control().await;
    control.batch_execute("INSERT INTO tenant_shard_map VALUES (1500, 3, 'DEU')").await.unwrap();
    becomes(&client, 1500, "deu").await;
    tells_of_none(&proxy).await;
}

/// Nobody knows what has changed since a map was kept on disk.
#[tokio::test]
async fn a_proxy_that_starts_from_what_was_kept_says_so() {
    let mut own = Controlled::new().await;
    let control = own.control().await;
    // What is put down must outlast the server's end.
    control.batch_execute("SET synchronous_commit = on").await.unwrap();
    control.batch_execute("INSERT INTO tenant_shard_map VALUES (1500, 3, 'DEU')").await.unwrap();
    let first = own.serve().await;
    assert_eq!(home(&first.connect().await, 1500).await, "deu");
    tells_of_none(&first).await;
    drop(first);
    control.batch_execute("UPDATE tenant_shard_map SET shard_id = 2").await.unwrap();
    own.cluster.stop();
    // The map is older than the tables, and nobody can tell by how much but by its time.
    let second = own.serve().await;
    assert_eq!(home(&second.connect().await, 1500).await, "deu");
    let kept = format!("the map is what was kept of it in {} at 20", own.cache().display());
    tells(&second, &kept).await;
    let console = connect(&second.console_url("bot")).await.unwrap();
    console.batch_execute("RELOAD").await.unwrap();
    tells(&second, &kept).await;
    drop(second);
    // Everything comes back at once.
    let map = own.map();
    let Controlled { shards, mut cluster } = own;
    let back = std::thread::spawn(move || {
        cluster.start_again().unwrap();
        cluster
    });
    let (one, two, three) = tokio::join!(
        Proxy::start(&shards, &map),
        Proxy::start(&shards, &map),
        Proxy::start(&shards, &map)
    );
    let _cluster = back.join().unwrap();
    for proxy in [&one, &two, &three] {
        becomes(&proxy.connect().await, 1500, "usa-west").await;
        tells_of_none(proxy).await;
    }
}

fn write(own: &Controlled, name: &str, text: &str) -> PathBuf {
    let path = own.shards.first().directory().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Without `control install` the tables are read again and again.
#[tokio::test]
async fn tables_without_triggers_are_polled() {
    let own = Controlled::new().await;
    let control = own.control().await;
    control.batch_execute("DROP SCHEMA pgmeridian CASCADE").await.unwrap();
    let proxy = own.serve().await;
    let client = proxy.connect().await;
    control.batch_execute("INSERT INTO tenant_shard_map VALUES (1500, 3, 'DEU')").await.unwrap();
    becomes(&client, 1500, "deu").await;
}

/// New tenants' homes, as `rest` of the directory says, over two proxies.
async fn newcomers(controlled: &Controlled, rest: &str) -> (Proxy, Proxy) {
    let map = controlled
        .map()
        .replace("otherwise = \"range\"", &format!("otherwise = \"refuse\", {rest}"));
    let one = Proxy::start(&controlled.shards, &map).await;
    let cache = controlled.cache().display().to_string();
    let other = map.replace(&cache, &format!("{cache}.other"));
    (one, Proxy::start(&controlled.shards, &other).await)
}

#[tokio::test]
async fn new_tenants_get_a_home_once() {
    let controlled = Controlled::new().await;
    let (one, other) = newcomers(&controlled, "place_new = \"least-keys\"").await;
    let (first, second) = (one.connect().await, other.connect().await);
    // What is nowhere can't be read, and reading gives nobody a home.
    let error = first.batch_execute("SELECT * FROM notes WHERE tenant_id = 9001").await;
    assert_eq!(support::said(&error.unwrap_err()).0, "22023");
    for tenant in 9001..=9006_i64 {
        first.batch_execute(&format!("INSERT INTO tenants VALUES ({tenant}, 't')")).await.unwrap();
    }
    // By parameters; and both proxies at once.
    let texts = ["INSERT INTO tenants VALUES ($1, 'u')", "INSERT INTO notes VALUES ($1, $1, 'n')"];
    let (a, b) = (first.prepare(texts[0]).await.unwrap(), second.prepare(texts[1]).await.unwrap());
    for tenant in 9011..=9020_i64 {
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&tenant];
        let (x, y) = tokio::join!(first.execute(&a, &params), second.execute(&b, &params));
        assert_eq!((x.unwrap(), y.unwrap()), (1, 1), "{tenant}");
    }
    let control = controlled.control().await;
    let sql = "SELECT shard_id, count(*) FROM tenant_shard_map GROUP BY 1 ORDER BY 1";
    let counts: Vec<(i16, i64)> =
        control.query(sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<i64>(), 16, "{counts:?}");
    assert!(
        counts.len() == 3 && counts.iter().all(|(_, count)| (3..=8).contains(count)),
        "{counts:?}"
    );
    for (id, name) in (1_i16..).zip(controlled.shards.names()) {
        let direct = controlled.shards.direct(name).await;
        let sql = "SELECT id FROM tenants UNION SELECT tenant_id FROM notes";
        for row in direct.query(sql, &[]).await.unwrap() {
            let tenant: i64 = row.get(0);
            let sql = "SELECT shard_id FROM tenant_shard_map WHERE tenant_id = $1";
            let home: i16 = control.query_one(sql, &[&tenant]).await.unwrap().get(0);
            assert_eq!(home, id, "{tenant}");
        }
    }
    // A transaction on a shard can't see a home that comes later; the next one can.
    let lines = ["BEGIN", "INSERT INTO notes VALUES (2, 9001, 'x')"];
    for sql in lines {
        first.batch_execute(sql).await.unwrap();
    }
    let error = first.batch_execute("INSERT INTO tenants VALUES (9031, 't')").await.unwrap_err();
    assert_eq!(support::said(&error).0, "40001", "{error:?}");
    first.batch_execute("ROLLBACK").await.unwrap();
    first.batch_execute("INSERT INTO tenants VALUES (9031, 't')").await.unwrap();
}

#[tokio::test]
async fn new_tenants_live_in_their_region() {
    let controlled = Controlled::new().await;
    controlled.shards.run_on_all("ALTER TABLE tenants ADD COLUMN region_code char(3)").await;
    let place = "place_new = \"geo\" }\n[keys.tenant.place]\ncolumn = \"region_code\"\n\
        regions = { USA = [\"usa-east\", \"usa-west\"], DEU = [\"deu\"] }\ndefault = \"USA\"\n\
        #";
    let (one, _other) = newcomers(&controlled, place).await;
    let client = one.connect().await;
    let insert = async |sql: &str| client.batch_execute(sql).await.unwrap();
    insert("INSERT INTO tenants VALUES (9001, 't', 'DEU')").await;
    insert("SET pgmeridian.region = 'DEU'").await;
    insert("INSERT INTO tenants (id, name) VALUES (9004, 't')").await;
    // EXPLAIN says where a new key would live, and records nothing.
    let explain = "EXPLAIN (ROUTE) INSERT INTO tenants (id, name) VALUES (9006, 't')";
    let told = format!("{:?}", client.simple_query(explain).await.unwrap());
    assert!(told.contains("new keys first: 9006 on deu"), "{told}");
    // Several of them get their homes at once.
    insert("INSERT INTO tenants (id, name) VALUES (9007, 't'), (9008, 't'), (9009, 't')").await;
    insert("RESET pgmeridian.region").await;
    insert("INSERT INTO tenants (id, name) VALUES (9005, 't')").await;
    let control = controlled.control().await;
    let sql = "SELECT string_agg(tenant_id || ' ' || shard_id, ', ' ORDER BY tenant_id) FROM tenant_shard_map";
    let homes: String = control.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(homes, "9001 3, 9004 3, 9005 1, 9007 3, 9008 3, 9009 3");
}

/// A file says which country an address is in; it is read with the map, whole or not at all.
#[tokio::test]
async fn new_tenants_live_in_the_country_that_they_call_from() {
    let controlled = Controlled::new().await;
    let file = |name: &str| controlled.shards.first().directory().join(name);
    let countries = |code| mmdb::countries("Country", &[(Ipv4Addr::new(127, 0, 0, 0), 8, code)]);
    let put = |contents: &[u8]| std::fs::write(file("countries.mmdb"), contents).unwrap();
    put(&countries("DE"));
    let map = controlled.map().replace(
        "otherwise = \"range\" }",
        "otherwise = \"refuse\", place_new = \"geo\" }\n[keys.tenant.place]\n\
         regions = { USA = [\"usa-east\"], DEU = [\"deu\"], MEX = [\"usa-west\"] }\n\
         geoip = \"GEOIP\"\ndefault = \"MEX\"\n",
    );
    let map = map.replace("GEOIP", &file("countries.mmdb").display().to_string());
    let proxy = Proxy::start(&controlled.shards, &map).await;
    let client = proxy.connect().await;
    let console = connect(&proxy.console_url("bot")).await.unwrap();
    let insert = async |tenant: i64| {
        let sql = format!("INSERT INTO tenants (id, name) VALUES ({tenant}, 't')");
        client.batch_execute(&sql).await.unwrap();
    };
    let control = controlled.control().await;
    let home = async |tenant: i64| -> i16 {
        let sql = "SELECT shard_id FROM tenant_shard_map WHERE tenant_id = $1";
        control.query_one(sql, &[&tenant]).await.unwrap().get(0)
    };
    insert(9001).await;
    assert_eq!(home(9001).await, 3);
    // Another file counts from the next reload on; a change of the tables alone is none.
    put(&countries("US"));
    control.batch_execute("INSERT INTO tenant_shard_map VALUES (9002, 1, 'USA')").await.unwrap();
    becomes(&client, 9002, "usa-east").await;
    insert(9003).await;
    assert_eq!(home(9003).await, 3);
    console.batch_execute("RELOAD").await.unwrap();
    insert(9004).await;
    assert_eq!(home(9004).await, 1);
    // A faulty one changes nothing.
    put(b"nonsense");
    let told = format!("{:?}", console.batch_execute("RELOAD").await.unwrap_err());
    assert!(told.contains("is not a MaxMind database"), "{told}");
    insert(9005).await;
    assert_eq!(home(9005).await, 1);
    let (code, _, err) = run(&["check", proxy.map_path().to_str().unwrap()]);
    let place = format!("{}:", proxy.map_path().display());
    assert!(
        code == 1 && err.contains("is not a MaxMind database") && err.contains(&place),
        "{err}"
    );
    let (code, _, err) = run(&["check", "--live", proxy.map_path().to_str().unwrap()]);
    assert!(code == 1 && err.contains("is not a MaxMind database"), "{err}");
    put(&countries("XX"));
    let (code, out, err) = run(&["check", proxy.map_path().to_str().unwrap()]);
    assert!(code == 0, "{out}{err}");
    console.batch_execute("RELOAD").await.unwrap();
    insert(9006).await;
    assert_eq!(home(9006).await, 2);
}
