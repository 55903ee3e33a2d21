//! `[[databases]]`: whole databases, routed by name at connect, and made where they will be looked for. And a
//! database for each key.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

#[path = "databases/keys.rs"]
mod keys;
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use pgmeridian::demo::cluster::ROLE;
use support::raw::{Raw, rows, sqlstate};
use support::{Proxy, Shards, said};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const RULES: &str = "
[[databases]]
match = \"bot_*\"
strategy = \"directory\"
entries = { bot_fixed = \"deu\", bot_a = \"usa-west\", bot_b = \"deu\", \"bot_x-Y\" = \"deu\" }
[[databases]]
match = \"bot_*\"
strategy = \"hash\"
shards = [\"usa-east\", \"usa-west\", \"deu\"]
[[databases]]
match = \"listed_*\"
strategy = \"directory\"
entries = { listed_one = \"deu\" }
";

const CONFIG: &str = "
[auth]
method = \"trust\"
[[users]]
name = \"bot\"
password = \"bot\"
admin = true
[[users]]
name = \"confined\"
password = \"confined\"
key = \"7\"
[pool]
size = 4
idle_timeout = \"60s\"
";

struct World {
    shards: Shards,
    proxy: Proxy,
}

impl World {
    async fn new() -> Self {
        let mut shards = Shards::clusters(3);
        let names: Vec<_> = shards.names().collect();
        for name in names {
            let grant = format!("ALTER ROLE {ROLE} CREATEDB");
            shards.cluster(name).execute("postgres", &grant).await.unwrap();
        }
        shards.run_on_all("CREATE TABLE notes (tenant_id bigint NOT NULL, id int)").await;
        let proxy = Proxy::start_with(&shards, &shards.map_by_hash(RULES), CONFIG).await;
        Self { shards, proxy }
    }

    fn url(&self, database: &str) -> String {
        format!("postgresql://{ROLE}:{ROLE}@{}/{database}", self.proxy.address)
    }

    async fn connect(&self, database: &str) -> Client {
        let connected = support::connect(&self.url(database)).await;
        connected.unwrap_or_else(|error| panic!("{database}: {error:?}\n{}", self.proxy.log()))
    }

    async fn refused(&self, database: &str) -> (String, String) {
        let outcome = tokio_postgres::connect(&self.url(database), NoTls).await;
        outcome.err().map(|error| said(&error)).unwrap_or_default()
    }

    /// The shards that have a database.
    async fn homes(&self, database: &str) -> Vec<&'static str> {
        let mut homes = Vec::new();
        for name in self.shards.names() {
            let sql = "SELECT FROM pg_database WHERE datname = $1";
            let found = self.shards.direct(name).await.query(sql, &[&database]).await.unwrap();
            homes.extend((!found.is_empty()).then_some(name));
        }
        homes
    }

    async fn show(&self, what: &str) -> String {
        let console = support::connect(&self.proxy.console_url("bot")).await.unwrap();
        let answer = console.simple_query(&format!("SHOW {what}")).await.unwrap();
        let lines = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let values = (0..row.len()).map(|at| row.get(at).unwrap_or("~"));
                Some(values.collect::<Vec<_>>().join("|"))
            }
            _ => None,
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

#[tokio::test]
async fn databases_are_made_and_found_by_name() {
    let mut world = World::new().await;
    let main = world.connect("bots").await;
    let missing = |name: &str| ("3D000".to_owned(), format!("database \"{name}\" does not exist"));
    for name in ["bot_a", "nobodys", "listed_two"] {
        assert_eq!(world.refused(name).await, missing(name));
    }

    // Simple and extended.
    main.batch_execute("CREATE DATABASE bot_a").await.unwrap();
    main.execute("CREATE DATABASE bot_b", &[]).await.unwrap();
    main.batch_execute("CREATE DATABASE \"bot_x-Y\" TEMPLATE template0").await.unwrap();
    main.batch_execute("CREATE DATABASE bot_somewhere").await.unwrap();
    assert_eq!(world.homes("bot_a").await, ["usa-west"]);
    assert_eq!(world.homes("bot_b").await, ["deu"]);
    assert_eq!(world.homes("bot_x-Y").await, ["deu"]);
    let somewhere = world.homes("bot_somewhere").await;
    assert_eq!(somewhere.len(), 1);
    let again = main.batch_execute("CREATE DATABASE bot_a").await.unwrap_err();
    assert_eq!(said(&again).0, "42P04");
    main.batch_execute("ALTER DATABASE bot_b SET work_mem = '5MB'").await.unwrap();
    let other = main.batch_execute("CREATE DATABASE nobodys").await.unwrap_err();
    assert_eq!(said(&other).0, "0A000");
    main.batch_execute("SET pgmeridian.shard = 'usa-east'").await.unwrap();
    let torn = main.batch_execute("CREATE DATABASE bot_fixed").await.unwrap_err();
    assert_eq!(said(&torn).0, "22023", "{torn:?}");
    main.batch_execute("RESET pgmeridian.shard").await.unwrap();

    sessions(&world, &main).await;
    operators(&world).await;
    cancels(&world);

    // Sessions of a database reach their own shard.
    let own = world.connect("bot_b").await;
    own.batch_execute("CREATE DATABASE bot_fixed").await.unwrap();
    assert_eq!(world.homes("bot_fixed").await, ["deu"]);
    let other = own.batch_execute("CREATE DATABASE bot_a").await.unwrap_err();
    assert_eq!(said(&other).0, "0A000");
    assert!(said(&other).1.contains("usa-west"), "{other:?}");

    // A database with connections that nobody uses can be dropped.
    main.batch_execute("DROP DATABASE bot_a").await.unwrap();
    assert_eq!(world.refused("bot_a").await, missing("bot_a"));
    main.batch_execute("DROP DATABASE IF EXISTS bot_a").await.unwrap();
    let used = main.batch_execute("DROP DATABASE bot_b").await.unwrap_err();
    assert_eq!(said(&used).0, "55006");
    assert!(said(&used).1.ends_with("is being accessed by other users"), "{used:?}");
    moves(&mut world, &own).await;
}

/// Sessions of several databases, with tables of the same names.
async fn sessions(world: &World, main: &Client) {
    let (a, b) = (world.connect("bot_a").await, world.connect("bot_b").await);
    a.batch_execute("CREATE TABLE notes (a int PRIMARY KEY)").await.unwrap();
    b.batch_execute("CREATE TABLE notes (tenant_id text, b int)").await.unwrap();
    let insert = a.prepare("INSERT INTO notes VALUES ($1)").await.unwrap();
    for n in 0..10 {
        a.execute(&insert, &[&n]).await.unwrap();
        b.execute("INSERT INTO notes VALUES ('x', $1)", &[&n]).await.unwrap();
        main.execute("INSERT INTO notes VALUES ($1, 1)", &[&i64::from(n)]).await.unwrap();
        let count = "SELECT count(*) FROM notes";
        let expected = i64::from(n) + 1;
        for client in [&a, &b, main] {
            assert_eq!(number(client, count).await, expected);
        }
    }
    // The same text means other columns, shards and tables in each.
    let one = "SELECT count(*) FROM notes WHERE tenant_id = '7'";
    assert_eq!(number(main, one).await, 1);
    assert_eq!(number(&b, one).await, 0);
    assert_eq!(said(&a.query(one, &[]).await.unwrap_err()).0, "42703");
    let sum = number(&a, "SELECT sum(a) FROM notes JOIN (VALUES (1), (2)) v (n) ON n = a").await;
    assert_eq!(sum, 3);
    // One server: whatever PostgreSQL can do.
    a.batch_execute(
        "BEGIN; CREATE TEMP TABLE t (n int); INSERT INTO t SELECT a FROM notes; DO $$ BEGIN PERFORM 1; END $$; COMMIT;
         SET search_path TO public; SELECT set_config('x.y', 'z', false)",
    )
    .await
    .unwrap();
    a.batch_execute("DISCARD ALL").await.unwrap();
    let name = a.query_one("SELECT current_database()::text", &[]).await.unwrap();
    assert_eq!(name.get::<_, String>(0), "bot_a");
    let name = b.query_one("SELECT current_setting('work_mem')", &[]).await.unwrap();
    assert_eq!(name.get::<_, String>(0), "5MB");
    assert_eq!(
        said(&a.batch_execute("SET pgmeridian.shard = 'deu'").await.unwrap_err()).0,
        "22023"
    );
    // A schema that others change is read again when a statement needs it.
    let direct = world.shards.url("deu").replace("/bots", "/bot_b");
    let direct = support::connect(&direct).await.unwrap();
    direct.batch_execute("CREATE TABLE later (n int); INSERT INTO later VALUES (1)").await.unwrap();
    assert_eq!(number(&b, "SELECT count(*) FROM later").await, 1);
    let confined = format!("postgresql://confined:confined@{}/bot_a", world.proxy.address);
    let outcome = tokio_postgres::connect(&confined, NoTls).await.err().unwrap();
    assert_eq!(said(&outcome).0, "42501");
}

async fn operators(world: &World) {
    let _b = world.connect("bot_b").await;
    let databases = world.show("DATABASES").await;
    for line in ["bots|~|", "bot_b|deu|1|", "bot_fixed|deu|0|0", "listed_one|deu|0|0"] {
        assert!(databases.contains(line), "{line}\n{databases}");
    }
    let pools = world.show("POOLS").await;
    assert!(
        pools.lines().any(|line| line.starts_with("deu|bot|") && line.ends_with("|bot_b")),
        "{pools}"
    );
    let clients = world.show("CLIENTS").await;
    assert!(clients.contains("|bot_b|"), "{clients}");
    let (code, metrics) = support::http(world.proxy.http, "GET", "/metrics", None).await;
    assert_eq!(code, 200);
    let series = metrics.lines().filter(|line| line.starts_with("pgmeridian_pool_size{"));
    let mut series: Vec<&str> = series.filter_map(|line| line.split(' ').next()).collect();
    let count = series.len();
    series.dedup();
    assert!(count > 0 && series.len() == count, "{metrics}");
}

/// A cancel finds the shard of a session's own database.
fn cancels(world: &World) {
    let who = [("user", "bot"), ("database", "bot_b")];
    let (mut client, told) = Raw::log_in(world.proxy.address, &who);
    assert_eq!(sqlstate(&told), "");
    client.send(&support::raw::query("SELECT pg_sleep(20)"));
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    client.cancel();
    assert_eq!(sqlstate(&client.until_ready()), "57014");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(rows(&client.query("SELECT current_database()"))[0][0].as_deref(), Some("bot_b"));
}

/// A map that places a database elsewhere is for those who come then.
async fn moves(world: &mut World, old: &Client) {
    let rules = RULES.replace("bot_b = \"deu\"", "bot_b = \"usa-east\"");
    let map = world.shards.map_by_hash(&rules);
    world.shards.direct("usa-east").await.batch_execute("CREATE DATABASE bot_b").await.unwrap();
    std::fs::write(world.proxy.map_path(), &map).unwrap();
    let console = support::connect(&world.proxy.console_url("bot")).await.unwrap();
    let error = console.batch_execute("RELOAD").await.expect_err("rows are left behind");
    let told = error.as_db_error().and_then(|told| told.detail()).unwrap_or_default().to_owned();
    let expect = "table notes has 10 rows on shard deu in database bot_b, and the new map looks for them on usa-east/bot_b";
    assert!(told.contains(expect), "{told}");
    console.batch_execute("RELOAD FORCE").await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let new = world.connect("bot_b").await;
        let tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'notes'";
        if number(&new, tables).await == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "the map is not taken");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(number(old, "SELECT count(*) FROM notes").await, 10);
    // What is left behind is told.
    let checked = Command::new(env!("CARGO_BIN_EXE_pgmeridian"))
        .args(["check", "--live"])
        .arg(world.proxy.map_path())
        .output()
        .unwrap();
    let out = String::from_utf8(checked.stdout).unwrap();
    let line = "error: database bot_b is on shard deu, and the shard map places it on usa-east";
    assert!(checked.status.code() == Some(1) && out.contains(line), "{out}");
    assert!(!out.contains("bot_fixed"), "{out}");
}
