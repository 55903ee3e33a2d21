//! The operator's console through a real driver, in both protocols.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod support;

use std::time::{Duration, Instant, SystemTime};

use support::{Proxy, Shards, connect, said, until};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

const TABLES: &str = "CREATE TABLE notes (tenant_id bigint NOT NULL, body text);
    CREATE TABLE plans (tier int PRIMARY KEY, name text);";

const CONFIG: &str = r#"
[[users]]
name = "bot"
password = "bot"
admin = true
hints = true
[[users]]
name = "guest"
password = "guest"
[pool]
size = 4
reserve = 0
wait_timeout = "1s"
[limits]
drain_timeout = "5s"
"#;

const TOPICS: [&str; 15] = [
    "SHARDS",
    "MAP",
    "MAP HISTORY",
    "KEYS",
    "TABLES",
    "POOLS",
    "CLIENTS",
    "SERVERS",
    "STATS",
    "TENANTS",
    "LOOKUPS",
    "FREEZES",
    "CONFIG",
    "VERSION",
    "HELP",
];

async fn serve() -> (Shards, Proxy) {
    let shards = Shards::databases(2);
    shards.run_on_all(TABLES).await;
    let map = shards.map_by_hash("[tables]\nplans = \"reference\"\n");
    let proxy = Proxy::start_with(&shards, &map, CONFIG).await;
    (shards, proxy)
}

async fn console(proxy: &Proxy) -> Client {
    connect(&proxy.console_url("bot")).await.unwrap()
}

/// A statement's rows in the simple protocol, `NULL` for NULL.
async fn rows(client: &Client, sql: &str) -> Vec<Vec<String>> {
    let messages =
        client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|n| row.get(n).unwrap_or("NULL").to_owned()).collect())
            }
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn it_answers_in_both_protocols() {
    let (_shards, proxy) = serve().await;
    let mut client = proxy.connect().await;
    for tenant in 1..=4_i64 {
        client.execute("INSERT INTO notes VALUES ($1, 'x')", &[&tenant]).await.unwrap();
    }
    let transaction = client.transaction().await.unwrap();
    transaction.execute("INSERT INTO notes VALUES (1, 'y')", &[]).await.unwrap();
    let failed = transaction.simple_query("SELECT 1/0 FROM notes WHERE tenant_id = 1").await;
    assert!(failed.is_err());

    let mut console = console(&proxy).await;
    for topic in TOPICS {
        let sql = format!("SHOW {topic}");
        let extended = console.query(&sql, &[]).await.unwrap();
        let simple = rows(&console, &format!("show {};", topic.to_lowercase())).await;
        if !matches!(topic, "TENANTS" | "LOOKUPS" | "FREEZES") {
            assert!(!extended.is_empty(), "{topic} is empty");
        }
        assert_eq!(extended.len(), simple.len(), "{topic}");
    }
    let shards = console.query("SHOW SHARDS", &[]).await.unwrap();
    assert_eq!(shards[0].columns()[0].type_(), &Type::INT8);
    assert_eq!(shards[1].get::<_, i64>("id"), 2);
    assert_eq!(shards[1].get::<_, &str>("name"), "usa-west");
    assert!(shards[0].get::<_, bool>("default") && !shards[1].get::<_, bool>("default"));
    let map = console.query_one("SHOW MAP", &[]).await.unwrap();
    let age = SystemTime::now().duration_since(map.get::<_, SystemTime>("loaded_at")).unwrap();
    assert!(age < Duration::from_secs(60), "{age:?}");
    assert_eq!(map.get::<_, &str>("checksum").len(), 64);
    assert_eq!(map.get::<_, Option<&str>>("last_fault"), None);
    assert_eq!(map.get::<_, &str>("state"), "ok");
    let tables = rows(&console, "SHOW TABLES").await;
    assert_eq!(tables[0][1..6], ["notes", "table", "sharded", "tenant", "tenant_id"]);
    assert_eq!(tables[1][1..4], ["plans", "table", "reference"]);

    let clients = console.query("SHOW CLIENTS", &[]).await.unwrap();
    let one = clients.iter().find(|row| row.get::<_, &str>("database") == "bots").unwrap();
    assert_eq!(one.get::<_, &str>("state"), "idle in transaction (aborted)");
    assert!(one.get::<_, bool>("transaction"));
    assert_eq!(one.get::<_, &str>("shards"), "usa-west");
    assert!(one.get::<_, i64>("statements") >= 6);
    let servers = console.query("SHOW SERVERS", &[]).await.unwrap();
    let held = servers.iter().find(|row| row.get::<_, &str>("state") == "idle in transaction");
    let held = held.unwrap();
    assert_eq!(held.get::<_, Option<i64>>("client"), Some(one.get::<_, i64>("id")));
    assert_eq!(held.get::<_, Option<i64>>("idle_ms"), None);
    let pools = rows(&console, "SHOW POOLS").await;
    let west = pools.iter().find(|row| row[0] == "usa-west").unwrap();
    assert_eq!(west[1..6], ["bot", "1", "0", "0", "4"]);
    let stats = console.query("SHOW STATS", &[]).await.unwrap();
    let west = stats.iter().find(|row| row.get::<_, &str>("shard") == "usa-west").unwrap();
    assert_eq!(west.get::<_, i64>("errors"), 1);
    for count in ["statements", "transactions", "sent_bytes", "received_bytes", "time_us"] {
        assert!(west.get::<_, i64>(count) > 0, "{count}");
    }
    transaction.rollback().await.unwrap();

    // Parameters, portals in pieces, and what can be wrong.
    let route = "SELECT body FROM notes WHERE tenant_id = 3";
    let lines = console.query("ROUTE $1", &[&route]).await.unwrap();
    let lines: Vec<&str> = lines.iter().map(|row| row.get(0)).collect();
    assert!(lines.join("\n").contains("usa-west"), "{lines:?}");
    assert_eq!(rows(&console, &format!("ROUTE '{route}'")).await.len(), lines.len());
    let transaction = console.transaction().await.unwrap();
    let portal = transaction.bind("SHOW HELP", &[]).await.unwrap();
    let mut seen = 0;
    loop {
        let piece = transaction.query_portal(&portal, 10).await.unwrap().len();
        seen += piece;
        if piece < 10 {
            break;
        }
    }
    transaction.commit().await.unwrap();
    assert_eq!(seen, rows(&console, "SHOW HELP").await.len());
    errors(&console).await;
    drivers_are_at_home(&console).await;
    let everything = rows(&console, "SHOW CONFIG; SHOW CLIENTS; SHOW SHARDS; SHOW MAP").await;
    let everything = format!("{everything:?}");
    assert!(!everything.contains("postgresql://"), "{everything}");
}

async fn errors(console: &Client) {
    let check = async |sql: &str, expect: &str| {
        let simple = said(&console.simple_query(sql).await.expect_err(sql));
        let extended = said(&console.query(sql, &[]).await.expect_err(sql));
        assert_eq!((simple.0.as_str(), extended.0.as_str()), (expect, expect), "{sql}: {simple:?}");
    };
    check("SELECT * FROM notes", "42601").await;
    check("SHOW weather", "42601").await;
    check("DROP TABLE notes", "42601").await;
    check("PAUSE atlantis", "22023").await;
    check("KILL 123456", "22023").await;
    check("KILL me", "22023").await;
    check("FREEZE 42", "0A000").await;
    check("ROUTE 'SELECT '''", "42601").await;
    let error = console.simple_query("SHOW pols").await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().hint(), Some("Did you mean SHOW POOLS?"));
    // As in PostgreSQL: what came before an error was done, what comes after it is not.
    assert!(console.simple_query("SHOW VERSION; nonsense; SHUTDOWN").await.is_err());
    assert_eq!(rows(console, "SHOW VERSION").await.len(), 1);
}

async fn drivers_are_at_home(console: &Client) {
    let one = console.query_one("SELECT 1", &[]).await.unwrap();
    assert_eq!(one.get::<_, i32>(0), 1);
    let version = console.query_one("select pg_catalog.version()", &[]).await.unwrap();
    assert!(version.get::<_, &str>(0).starts_with("PostgreSQL 15.0 (pgmeridian"));
    assert_eq!(rows(console, "SELECT current_user").await[0][0], "bot");
    console.batch_execute("SET client_encoding TO 'UTF8'; SET x = 1").await.unwrap();
    console.batch_execute("BEGIN; SHOW VERSION; COMMIT; DISCARD ALL").await.unwrap();
    console.batch_execute("BEGIN").await.unwrap();
    assert!(console.batch_execute("nonsense").await.is_err());
    assert_eq!(said(&console.batch_execute("SHOW MAP").await.unwrap_err()).0, "25P02");
    console.batch_execute("ROLLBACK; SHOW MAP").await.unwrap();
}

#[tokio::test]
async fn operators_act() {
    let (shards, mut proxy) = serve().await;
    // Who is no administrator has nothing to do here.
    let error = connect(&proxy.console_url("guest")).await.err().unwrap();
    assert_eq!(said(&error).0, "42501");
    let console = console(&proxy).await;
    let client = proxy.connect().await;
    client.query("SELECT * FROM notes", &[]).await.unwrap();
    pause_and_drain(&proxy, &console, &client).await;
    kill(&shards, &proxy, &console).await;
    console.batch_execute("SHUTDOWN").await.unwrap();
    until("it still runs", async || !proxy.is_running()).await;
}

async fn pause_and_drain(proxy: &Proxy, console: &Client, client: &Client) {
    let (east, west) =
        ("SELECT * FROM notes WHERE tenant_id = 2", "SELECT * FROM notes WHERE tenant_id = 1");
    let connections = async |shard: &str| {
        let servers = rows(console, "SHOW SERVERS").await;
        servers.iter().filter(|row| row[1] == shard).count()
    };
    // A statement that runs is waited for; one that comes waits in its turn.
    let other = proxy.connect().await;
    other.batch_execute("BEGIN; SELECT * FROM notes WHERE tenant_id = 1").await.unwrap();
    let pausing = console.batch_execute("PAUSE usa-west");
    let ending = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        other.batch_execute("COMMIT").await.unwrap();
    };
    let began = Instant::now();
    let pausing = async {
        pausing.await.unwrap();
        began.elapsed()
    };
    let (waited, ()) = tokio::join!(pausing, ending);
    assert!(waited >= Duration::from_millis(150), "PAUSE did not wait: {waited:?}");
    assert_eq!(connections("usa-west").await, 0);
    assert_eq!(connections("usa-east").await, 1);
    client.query(east, &[]).await.unwrap();
    let waiting = async {
        let began = Instant::now();
        client.query(west, &[]).await.unwrap();
        began.elapsed()
    };
    let resuming = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let waiting = rows(console, "SHOW POOLS").await;
        assert!(waiting.iter().any(|row| row[0] == "usa-west" && row[4] == "1"), "{waiting:?}");
        console.batch_execute("RESUME usa-west").await.unwrap();
    };
    let (waited, ()) = tokio::join!(waiting, resuming);
    assert!(waited >= Duration::from_millis(200), "{waited:?}");
    // One that is not resumed is 53300 after wait_timeout.
    console.batch_execute("PAUSE").await.unwrap();
    assert_eq!(said(&client.query(east, &[]).await.unwrap_err()).0, "53300");
    console.batch_execute("RESUME").await.unwrap();
    client.query("SELECT * FROM notes", &[]).await.unwrap();
    // What is drained refuses at once.
    console.batch_execute("DRAIN \"usa-west\"").await.unwrap();
    assert_eq!(connections("usa-west").await, 0);
    assert_eq!(said(&client.query(west, &[]).await.unwrap_err()).0, "57P03");
    client.query(east, &[]).await.unwrap();
    let shards = rows(console, "SHOW SHARDS").await;
    assert_eq!((shards[0][9].as_str(), shards[1][9].as_str()), ("open", "draining"));
    console.batch_execute("RESUME").await.unwrap();
    client.query(west, &[]).await.unwrap();
}

async fn kill(shards: &Shards, proxy: &Proxy, console: &Client) {
    let id = async |state: &str| {
        let clients = rows(console, "SHOW CLIENTS").await;
        let found =
            clients.iter().find(|row| row[2] == "bots" && row[3] == "victim" && row[5] == state);
        found.map(|row| row[0].parse::<i64>().unwrap())
    };
    let url = format!("{}?application_name=victim", proxy.url());
    // One that is idle.
    let idle = connect(&url).await.unwrap();
    let victim = id("idle").await.unwrap();
    console.execute("KILL $1", &[&victim]).await.unwrap();
    until("an idle client lives on", async || idle.is_closed()).await;
    // One that works: its statement ends on the shard too.
    let busy = connect(&url).await.unwrap();
    let sleeping = tokio::spawn(async move {
        let slow = "SELECT pg_sleep(60) FROM (SELECT 1) AS x";
        busy.simple_query(slow).await.err().map(|error| said(&error).0)
    });
    until("it does not work", async || id("active").await.is_some()).await;
    let victim = id("active").await.unwrap();
    console.batch_execute(&format!("KILL {victim}")).await.unwrap();
    let code = tokio::time::timeout(Duration::from_secs(5), sleeping).await.unwrap().unwrap();
    assert!(matches!(code.as_deref(), Some("57014" | "57P01")), "{code:?}");
    until("it is still there", async || {
        rows(console, "SHOW CLIENTS").await.iter().all(|row| row[0] != victim.to_string())
    })
    .await;
    let direct = shards.direct("usa-east").await;
    until("its statement runs on", async || {
        let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()";
        direct.query_one(running, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}
