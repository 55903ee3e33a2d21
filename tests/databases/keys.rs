//! Strategy `database`: a database for each key.

use std::time::{Duration, Instant};

use pgmeridian::demo::cluster::ROLE;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::number;
use super::support::raw::{Raw, frame, rows, sqlstate};
use super::support::{self, Proxy, Shards, said};

const RULES: &str = "
[keys.tenant]
columns = [\"tenant_id\"]
type = \"bigint\"
strategy = \"database\"
database = { prefix = \"gb_tenant_\", placement = \"hash\", auto_create = true, template = \"gb_template\" }
hash = { algorithm = \"modulo\", shards = [\"usa-east\", \"usa-west\"] }
[sessions]
key_setting = \"app.tenant_id\"
";

const CONFIG: &str = "
[auth]
method = \"trust\"
[[users]]
name = \"bot\"
password = \"bot\"
hints = true
admin = true
[[users]]
name = \"seven\"
password = \"seven\"
shard_password = \"seven\"
key = \"7\"
";

const SCHEMA: &str = "CREATE TABLE notes (tenant_id bigint NOT NULL DEFAULT 1, id int, body text); \
    GRANT ALL ON notes TO PUBLIC";

struct World {
    shards: Shards,
    proxy: Proxy,
}

impl World {
    async fn new() -> Self {
        let mut shards = Shards::clusters(2);
        let names: Vec<_> = shards.names().collect();
        for name in names {
            let cluster = shards.cluster(name);
            let roles =
                format!("ALTER ROLE {ROLE} CREATEDB; CREATE ROLE seven LOGIN PASSWORD 'seven'");
            cluster.execute("postgres", &roles).await.unwrap();
            let template = format!("CREATE DATABASE gb_template OWNER {ROLE} IS_TEMPLATE true");
            cluster.execute("postgres", &template).await.unwrap();
            cluster.execute("gb_template", SCHEMA).await.unwrap();
        }
        shards.run_on_all(SCHEMA).await;
        shards.run_on_all("CREATE TABLE plans (id int)").await;
        let proxy = Proxy::start_with(&shards, &shards.map(RULES), CONFIG).await;
        Self { shards, proxy }
    }

    /// A client of a tenant.
    async fn of_tenant(&self, tenant: &str) -> Client {
        let client = self.proxy.connect().await;
        client.batch_execute(&format!("SET pgmeridian.key = '{tenant}'")).await.unwrap();
        client
    }

    /// A tenant's database, past the proxy.
    async fn direct(&self, shard: &str, tenant: i64) -> Client {
        let url = self.shards.url(shard).replace("/bots", &format!("/gb_tenant_{tenant}"));
        support::connect(&url).await.unwrap()
    }

    /// The tenants' databases that a shard has.
    async fn databases(&self, shard: &str) -> String {
        let sql = "SELECT coalesce(string_agg(datname, ' ' ORDER BY datname), '') FROM pg_database \
            WHERE datname LIKE 'gb\\_tenant\\_%'";
        self.shards.direct(shard).await.query_one(sql, &[]).await.unwrap().get(0)
    }
}

async fn refused(client: &Client, sql: &str, state: &str, words: &str) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let (code, message) = said(&error);
    assert!(code == state && message.contains(words), "{sql}: {error:?}");
}

async fn text(client: &Client, sql: &str) -> String {
    let answer = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.unwrap_or_else(|| panic!("{sql}: no row")).to_owned()
}

#[tokio::test]
async fn each_key_has_a_database() {
    let mut world = World::new().await;
    statements_that_name_their_key(&world).await;
    transactions(&world).await;
    sessions_of_a_key(&world).await;
    moving(&world).await;
    strings_and_pipelines(&world);
    users_of_a_key(&world).await;
    many_at_once(&world).await;
    cancels(&world);
    databases_that_differ(&mut world).await;
    a_map_that_places_it_elsewhere(&world).await;
}

async fn statements_that_name_their_key(world: &World) {
    let main = world.proxy.connect().await;
    // Who only reads makes no database.
    refused(&main, "SELECT * FROM notes WHERE tenant_id = 2", "3D000", "gb_tenant_2").await;
    assert_eq!(world.databases("usa-east").await, "");
    let insert = main.prepare("INSERT INTO notes VALUES ($1, $2, $3)").await.unwrap();
    for (tenant, id) in [(2_i64, 1), (2, 2), (3, 1), (4, 1)] {
        assert_eq!(main.execute(&insert, &[&tenant, &id, &"x"]).await.unwrap(), 1);
    }
    assert_eq!(world.databases("usa-east").await, "gb_tenant_2 gb_tenant_4");
    assert_eq!(world.databases("usa-west").await, "gb_tenant_3");
    let count = "SELECT count(*) FROM notes WHERE tenant_id = $1";
    for (tenant, expected) in [(2_i64, 2_i64), (3, 1), (4, 1)] {
        assert_eq!(main.query_one(count, &[&tenant]).await.unwrap().get::<_, i64>(0), expected);
    }
    let name = "SELECT current_database()::text FROM notes WHERE tenant_id = 3";
    assert_eq!(text(&main, name).await, "gb_tenant_3");
    assert_eq!(number(&world.direct("usa-east", 2).await, "SELECT count(*) FROM notes").await, 2);
    main.batch_execute("UPDATE notes SET body = 'y' WHERE tenant_id = 2 AND id = 2").await.unwrap();
    assert_eq!(text(&main, "SELECT body FROM notes WHERE tenant_id = 2 AND id = 2").await, "y");
    let hinted = "/* pgmeridian: key=4 */ SELECT count(*) FROM notes";
    assert_eq!(number(&main, hinted).await, 1);

    for (sql, words) in [
        ("SELECT count(*) FROM notes", "each tenant has a database of its own"),
        ("SELECT * FROM notes WHERE tenant_id IN (2, 4)", "the databases of tenant 2, tenant 4"),
        ("SELECT * FROM notes, plans WHERE tenant_id = 2", "\"plans\" is not known to be in"),
        ("ALTER TABLE notes ADD COLUMN more int", "ALTER TABLE without a key"),
    ] {
        refused(&main, sql, "0A000", words).await;
    }
    // The rest is where it is in any map.
    assert_eq!(text(&main, "SELECT current_database()::text").await, "bots");
    assert_eq!(number(&main, "SELECT count(*) FROM plans").await, 0);
    let route =
        text(&main, "EXPLAIN (ROUTE, FORMAT JSON) SELECT * FROM notes WHERE tenant_id = 3").await;
    for part in ["\"database\":\"gb_tenant_3\"", "\"strategy\":\"database\"", "\"kind\":\"one\""] {
        assert!(route.contains(part), "{route}");
    }
    main.query("SELECT id FROM notes WHERE tenant_id = 3", &[]).await.unwrap();
    let last = text(&main, "SHOW pgmeridian.last_route").await;
    assert!(last.contains("usa-west, database gb_tenant_3"), "{last}");
}

async fn transactions(world: &World) {
    let main = world.proxy.connect().await;
    main.batch_execute(
        "BEGIN; INSERT INTO notes VALUES (2, 3); SAVEPOINT s; DELETE FROM notes WHERE tenant_id = 2; \
         ROLLBACK TO s; COMMIT",
    )
    .await
    .unwrap();
    assert_eq!(number(&main, "SELECT count(*) FROM notes WHERE tenant_id = 2").await, 3);
    // Also with the statements one by one; each stays in the transaction's database.
    main.batch_execute("BEGIN").await.unwrap();
    main.batch_execute("DELETE FROM notes WHERE tenant_id = 2").await.unwrap();
    assert_eq!(text(&main, "SELECT current_database()::text").await, "gb_tenant_2");
    let elsewhere = "SELECT * FROM notes WHERE tenant_id = 4";
    refused(&main, elsewhere, "0A000", "usa-east/gb_tenant_4").await;
    refused(&main, "SELECT 1", "25P02", "").await;
    main.batch_execute("ROLLBACK").await.unwrap();
    for (first, second) in [
        ("SELECT * FROM notes WHERE tenant_id = 2", "SELECT * FROM notes"),
        ("SELECT * FROM notes WHERE tenant_id = 2", "INSERT INTO plans VALUES (1)"),
        ("INSERT INTO plans VALUES (1)", "INSERT INTO notes VALUES (2, 9)"),
        ("SELECT count(*) FROM plans", "SELECT * FROM notes WHERE tenant_id = 2"),
    ] {
        main.batch_execute(&format!("BEGIN; {first}")).await.unwrap();
        refused(&main, second, "0A000", "").await;
        main.batch_execute("ROLLBACK").await.unwrap();
    }
    assert_eq!(number(&main, "SELECT count(*) FROM notes WHERE tenant_id = 2").await, 3);
    assert_eq!(number(&main, "SELECT count(*) FROM plans").await, 0);
}

async fn sessions_of_a_key(world: &World) {
    let two = world.of_tenant("2").await;
    assert_eq!(text(&two, "SELECT current_database()::text").await, "gb_tenant_2");
    assert_eq!(number(&two, "SELECT count(*) FROM notes").await, 3);
    // The key is filled in where PostgreSQL would take the column's default.
    two.execute("INSERT INTO notes (id) VALUES ($1)", &[&4]).await.unwrap();
    assert_eq!(number(&two, "SELECT count(*) FROM notes WHERE tenant_id = 2").await, 4);
    let other = "INSERT INTO notes VALUES (4, 1)";
    refused(&two, other, "22023", "but the database's key is tenant = 2").await;
    refused(&two, "UPDATE notes SET tenant_id = 4", "0A000", "tenant_id").await;
    refused(&two, "COPY notes FROM STDIN", "0A000", "COPY").await;
    // Its own schema, which others' statements don't see.
    two.batch_execute("CREATE TABLE own (tenant_id bigint, n int); INSERT INTO own VALUES (2, 1)")
        .await
        .unwrap();
    assert_eq!(number(&two, "SELECT count(*) FROM own JOIN notes USING (tenant_id)").await, 4);
    two.batch_execute("BEGIN; CREATE TABLE fresh (tenant_id bigint)").await.unwrap();
    refused(&two, "INSERT INTO fresh VALUES (4)", "22023", "tenant = 4").await;
    two.batch_execute("ROLLBACK").await.unwrap();
    two.batch_execute("DO $$ BEGIN PERFORM 1; END $$; CREATE TEMP TABLE t (n int)").await.unwrap();
    refused(&two, "SELECT * FROM own; SET pgmeridian.key = '4'; SELECT 1", "0A000", "").await;
    two.batch_execute("DISCARD ALL").await.unwrap();
    assert_eq!(text(&two, "SELECT current_database()::text").await, "bots");
    let four = world.of_tenant("4").await;
    refused(&four, "SELECT * FROM own", "42P01", "own").await;
    assert_eq!(number(&four, "SELECT count(*) FROM notes").await, 1);
    let route = text(&four, "EXPLAIN (ROUTE, FORMAT JSON) SELECT * FROM notes").await;
    assert!(route.contains("\"database\":\"gb_tenant_4\""), "{route}");
    assert!(route.contains("\"map_version\":1,"), "{route}");
    // By its name, as any database.
    let url = world.proxy.url().replace("/bots", "/gb_tenant_3");
    let three = support::connect(&url).await.unwrap();
    assert_eq!(number(&three, "SELECT count(*) FROM notes").await, 1);
    refused(&three, "INSERT INTO notes VALUES (2, 1)", "22023", "tenant = 3").await;
}

/// A session goes where its key says, between two transactions.
async fn moving(world: &World) {
    let client = world.proxy.connect().await;
    let count = client.prepare("SELECT count(*) FROM notes").await;
    let count = count.unwrap();
    for (tenant, expected) in [(2, 4_i64), (3, 1), (2, 4)] {
        client.batch_execute(&format!("SET app.tenant_id = '{tenant}'")).await.unwrap();
        assert_eq!(client.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), expected);
    }
    client.batch_execute("BEGIN; SET app.tenant_id = '4'").await.unwrap();
    assert_eq!(number(&client, "SELECT count(*) FROM notes").await, 1);
    client.batch_execute("SET app.tenant_id = '2'").await.unwrap();
    refused(&client, "SELECT count(*) FROM notes", "0A000", "gb_tenant_2").await;
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(number(&client, "SELECT count(*) FROM notes").await, 4);
    refused(&client, "SET app.tenant_id = 'x'", "22023", "").await;
    client.batch_execute("SET pgmeridian.shard = 'usa-west'").await.unwrap();
    refused(&client, "SELECT count(*) FROM notes", "22023", "usa-west").await;
    // All shards are not the key's database: what is for them would be missing there.
    client.batch_execute("SET pgmeridian.shard = '*'").await.unwrap();
    refused(&client, "CREATE TABLE astray (a int)", "22023", "the session's shard is *").await;
    client.batch_execute("RESET pgmeridian.shard; RESET app.tenant_id").await.unwrap();
    refused(&client, "SELECT count(*) FROM notes", "0A000", "each tenant").await;
    // What is kept on a connection is not left behind.
    client.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    client.batch_execute("SET app.tenant_id = '2'").await.unwrap();
    refused(&client, "SELECT count(*) FROM notes", "0A000", "gb_tenant_2").await;
    client.batch_execute("RESET app.tenant_id").await.unwrap();
    client.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    client.batch_execute("SET app.tenant_id = '2'").await.unwrap();
    assert_eq!(number(&client, "SELECT count(*) FROM notes").await, 4);
    // The session goes back as its key does.
    let database = "SELECT current_database()::text";
    for end in ["COMMIT", "ROLLBACK"] {
        client.batch_execute("BEGIN").await.unwrap();
        client.batch_execute("SET LOCAL pgmeridian.key = '3'").await.unwrap();
        assert_eq!(text(&client, database).await, "gb_tenant_3");
        assert_eq!(text(&client, &format!("{end}; {database}")).await, "gb_tenant_2");
    }
    client.batch_execute("BEGIN").await.unwrap();
    client.batch_execute("SAVEPOINT s").await.unwrap();
    client.batch_execute("SET pgmeridian.key = '3'").await.unwrap();
    client.batch_execute("ROLLBACK TO s").await.unwrap();
    assert_eq!(text(&client, database).await, "gb_tenant_2");
    client.batch_execute("SET LOCAL pgmeridian.key = '3'").await.unwrap();
    refused(&client, "INSERT INTO notes (id) VALUES (5)", "0A000", "gb_tenant_3").await;
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(text(&client, &format!("RESET ALL; {database}")).await, "bots");
}

fn strings_and_pipelines(world: &World) {
    let who = [("user", "bot"), ("database", "bots")];
    let (mut client, _) = Raw::log_in(world.proxy.address, &who);
    let told = client.query(
        "SELECT count(*) FROM plans; SET pgmeridian.key = '3'; SELECT current_database(); SELECT count(*) FROM notes",
    );
    let found: Vec<_> = rows(&told).into_iter().flatten().flatten().collect();
    assert_eq!(found, ["0", "gb_tenant_3", "1"], "{}", sqlstate(&told));
    client.query("RESET pgmeridian.key");
    let one = "SELECT count(*) FROM notes WHERE tenant_id = ";
    let told = client.query(&format!("{one} 2; {one} 3"));
    let found: Vec<_> = rows(&told).into_iter().flatten().flatten().collect();
    assert_eq!(found, ["4", "1"], "{}", sqlstate(&told));
    client.query("SET pgmeridian.key = '3'");
    for change in ["RESET pgmeridian.key", "SET pgmeridian.key = '2'"] {
        let said = |sql: &str| {
            let parse = frame(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat());
            [parse, frame(b'B', &[0; 8]), frame(b'E', &[0; 5])].concat()
        };
        let count = said("SELECT count(*) FROM notes");
        let pipeline = [said(change), count, frame(b'S', b"")].concat();
        client.send(&pipeline);
        let told = client.until_ready();
        assert_eq!((sqlstate(&told).as_str(), rows(&told).len()), ("0A000", 0), "{change}");
        client.query("SET pgmeridian.key = '3'");
    }
    client.query("RESET pgmeridian.key");
    let both = "INSERT INTO notes VALUES (2, 8); INSERT INTO notes VALUES (4, 8)";
    assert_eq!(sqlstate(&client.query(both)), "0A000");
    assert_eq!(rows(&client.query(&format!("{one} 2")))[0][0].as_deref(), Some("4"));
}

/// A user with a key of its own is in that key's database, and nowhere else.
async fn users_of_a_key(world: &World) {
    let url = format!("postgresql://seven:seven@{}/bots", world.proxy.address);
    let seven = support::connect(&url).await.unwrap();
    assert_eq!(text(&seven, "SELECT current_database()::text").await, "gb_tenant_7");
    seven.batch_execute("INSERT INTO notes (id) VALUES (1)").await.unwrap();
    assert_eq!(number(&seven, "SELECT count(*) FROM notes WHERE tenant_id = 7").await, 1);
    refused(&seven, "SELECT * FROM notes WHERE tenant_id = 2", "42501", "tenant = 2").await;
    refused(&seven, "SET pgmeridian.key = '2'", "42501", "").await;
    assert_eq!(world.databases("usa-west").await, "gb_tenant_3 gb_tenant_7");
    // Who is in the database already would not be asked.
    let console = support::connect(&world.proxy.console_url("bot")).await.unwrap();
    refused(&console, "FREEZE 7", "0A000", "a tenant with a database of its own").await;
    let other = url.replace("/bots", "/gb_tenant_2");
    let outcome = support::connect(&other).await.err().unwrap();
    assert_eq!(said(&outcome).0, "42501");
}

/// Whoever is first, a database is made once.
async fn many_at_once(world: &World) {
    let second = Proxy::start_with(&world.shards, &world.shards.map(RULES), CONFIG).await;
    let clients = (0..8).map(async |n| {
        let proxy = if n % 2 == 0 { &world.proxy } else { &second };
        let client = proxy.connect().await;
        if n < 4 {
            client.batch_execute("SET pgmeridian.key = '11'").await.unwrap();
        }
        client.batch_execute(&format!("INSERT INTO notes (tenant_id, id) VALUES (11, {n})")).await
    });
    for outcome in futures_util::future::join_all(clients).await {
        outcome.unwrap();
    }
    let eleven = world.direct("usa-west", 11).await;
    assert_eq!(number(&eleven, "SELECT count(*) FROM notes").await, 8);
}

/// A cancel finds the server, whichever way a statement has gone to its database.
fn cancels(world: &World) {
    for key in ["", "SET pgmeridian.key = '3'"] {
        let (mut client, _) =
            Raw::log_in(world.proxy.address, &[("user", "bot"), ("database", "bots")]);
        client.query(key);
        client.send(&support::raw::query("SELECT pg_sleep(20) FROM notes WHERE tenant_id = 3"));
        std::thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        client.cancel();
        assert_eq!(sqlstate(&client.until_ready()), "57014", "{key}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

/// `check --live` compares them with what they were made from.
async fn databases_that_differ(world: &mut World) {
    let path = world.proxy.map_path().to_str().unwrap().to_owned();
    let checked = || {
        let program = env!("CARGO_BIN_EXE_pgmeridian");
        let output = std::process::Command::new(program).args(["check", "--live", &path]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(!checked().contains("gb_"), "{}", checked());
    let west = world.shards.cluster("usa-west");
    let drop = "ALTER TABLE notes DROP COLUMN body; CREATE TABLE own (id int)";
    for (database, sql) in [
        ("gb_tenant_3", "ALTER TABLE notes ALTER COLUMN body TYPE varchar(9)"),
        ("gb_tenant_7", drop),
        ("gb_tenant_11", drop),
    ] {
        west.execute(database, sql).await.unwrap();
    }
    let told = checked();
    for line in [
        "error: column notes.body is text in gb_template and character varying(9) in gb_tenant_3 on shard usa-west",
        "error: column notes.body is in gb_template and not in gb_tenant_7, gb_tenant_11 on shard usa-west",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    assert_eq!(told.matches("gb_template").count(), 2, "{told}");
    let add = "ALTER TABLE notes ADD COLUMN body text; DROP TABLE own";
    for (database, sql) in [
        ("gb_tenant_3", "ALTER TABLE notes ALTER COLUMN body TYPE text"),
        ("gb_tenant_7", add),
        ("gb_tenant_11", add),
    ] {
        west.execute(database, sql).await.unwrap();
    }
    assert!(!checked().contains("gb_"), "{}", checked());
}

/// Sessions of a key follow the map.
async fn a_map_that_places_it_elsewhere(world: &World) {
    let four = world.of_tenant("4").await;
    let listed = RULES.replace("placement = \"hash\"", "placement = \"directory\"").replace(
        "[sessions]",
        "directory = { entries = { 4 = \"usa-west\" }, otherwise = \"hash\" }\n[sessions]",
    );
    // What the old home still holds is not left behind, nor what would be called otherwise.
    let console = support::connect(&world.proxy.console_url("bot")).await.unwrap();
    let refused = async |map: &str, words: &str| {
        std::fs::write(world.proxy.map_path(), map).unwrap();
        let error = console.batch_execute("RELOAD").await.expect_err(words);
        let told = error.as_db_error().and_then(|told| told.detail()).unwrap_or_default();
        assert!(told.contains(words), "{words}: {told}");
        assert_eq!(number(&four, "SELECT count(*) FROM notes").await, 1);
    };
    let told = "table notes has 1 rows on shard usa-east in database gb_tenant_4, and the new map looks for them \
        on usa-west/gb_tenant_4";
    refused(&world.shards.map(&listed), told).await;
    let renamed = world.shards.map(&RULES.replace("\"gb_tenant_\"", "\"gb_other_\""));
    refused(&renamed, "in databases gb_tenant_3, gb_tenant_7, gb_tenant_11, and the new map looks for them on usa-west/gb_other_3,").await;
    let elsewhere = "strategy = \"hash\"\nhash = { algorithm = \"modulo\", shards = [\"usa-east\", \"usa-west\"] }\n#";
    let shared =
        RULES.replace("strategy = \"database\"\ndatabase", &format!("{elsewhere} database"));
    let shared = shared.replacen(
        "\nhash = { algorithm = \"modulo\", shards = [\"usa-east\", \"usa-west\"] }\n[sess",
        "\n[sess",
        1,
    );
    refused(
        &world.shards.map(&shared),
        "in databases gb_tenant_3, gb_tenant_7, gb_tenant_11, and the new map has no place",
    )
    .await;
    let west = world.shards.direct("usa-west").await;
    west.batch_execute("CREATE DATABASE gb_tenant_4 TEMPLATE gb_template").await.unwrap();
    world.direct("usa-east", 4).await.batch_execute("DELETE FROM notes").await.unwrap();
    world.proxy.reload(&world.shards.map(&listed));
    let port = text(&west, "SELECT inet_server_port()::text").await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while text(&four, "SELECT inet_server_port()::text").await != port {
        assert!(Instant::now() < deadline, "the map is not taken\n{}", world.proxy.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let main = world.proxy.connect().await;
    assert_eq!(number(&main, "SELECT count(*) FROM notes WHERE tenant_id = 4").await, 0);
    assert_eq!(number(&main, "SELECT count(*) FROM notes WHERE tenant_id = 3").await, 1);
}
