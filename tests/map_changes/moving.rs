//! A tenant is moved by hand, step by step, and at each step reads of every kind are asked on two proxies, and of one
//! plain PostgreSQL that holds all rows.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use crate::TABLES;
use crate::operator::{self, Operator};
use crate::support::raw::{Message, Raw, sqlstate};
use crate::support::{Proxy, Shards, TRUST, said};

/// The tenant that moves, from the first shard to the second, and is in that one's sight by its range, too.
const TENANT: i64 = 2500;

const MORE_TABLES: &str = "
    CREATE TABLE parts (tenant_id bigint NOT NULL, day int NOT NULL, n int) PARTITION BY LIST (day);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
    CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
    CREATE TABLE note_pages (note_id bigint NOT NULL, page text);
    CREATE VIEW titles AS SELECT tenant_id, id, upper(body) AS title FROM notes;";

/// `note_pages` has no tenant of its own.
const LOOKUP: &str = "
    [lookups.note]
    columns = [\"note_id\"]
    tables = { notes = \"id\" }
    key = \"tenant\"
    source = { table = \"notes\", id = \"id\", key = \"tenant_id\" }
    unique = true
    [tables]
    note_pages = { lookup = \"note\" }
";

/// Statements in the simple protocol. Rows in no order are compared in one.
const QUERIES: [&str; 24] = [
    "SELECT tenant_id, id, body FROM notes",
    "SELECT n.id, t.name FROM notes n JOIN tenants t ON t.id = n.tenant_id",
    "SELECT t.name, n.id FROM tenants t LEFT JOIN notes n ON n.tenant_id = t.id AND n.id % 3 = 0",
    "SELECT id, body FROM notes WHERE tenant_id IN (1001, 2500, 3001)",
    "SELECT id FROM notes WHERE tenant_id BETWEEN 1000 AND 2999",
    "WITH big AS (SELECT * FROM notes WHERE id > 40) SELECT id, body FROM big",
    "SELECT public.notes.id FROM ONLY public.notes WHERE public.notes.id > 30",
    "TABLE tenants",
    "SELECT day, n FROM parts",
    "SELECT title FROM titles",
    "SELECT id, now() > '2001-01-01' FROM notes",
    "SELECT id, (SELECT count(*) FROM notes m WHERE m.tenant_id = n.tenant_id) FROM notes n",
    "SELECT id, tenant_id FROM notes ORDER BY id DESC, tenant_id LIMIT 40 OFFSET 3",
    "SELECT id AS x FROM notes ORDER BY id % 7, lower(body), id",
    "SELECT body FROM notes n WHERE EXISTS (SELECT FROM parts p WHERE p.tenant_id = n.tenant_id) ORDER BY 1",
    "SELECT count(*), sum(id), avg(client), max(body) FROM notes",
    "SELECT client, count(*) FROM notes GROUP BY client HAVING count(*) > 1 ORDER BY client",
    "SELECT DISTINCT tenant_id FROM notes",
    "SELECT a.id, b.tenant_id FROM notes a JOIN notes b ON b.id = a.id + 1",
    "SELECT id, row_number() OVER (ORDER BY id, tenant_id) FROM notes",
    "SELECT id FROM notes UNION ALL SELECT n FROM parts",
    "SELECT count(*) FROM titles, tenants WHERE titles.title LIKE 'B%'",
    "SELECT id FROM notes WHERE tenant_id = 2500",
    "SELECT count(*) FROM notes WHERE tenant_id IN (1001, 3001)",
];

const COPIES: [&str; 5] = [
    "COPY (SELECT id, body FROM notes) TO STDOUT",
    "COPY (SELECT id, body FROM notes ORDER BY id LIMIT 50) TO STDOUT (FORMAT csv, HEADER)",
    "COPY (SELECT client, count(*) FROM notes GROUP BY client) TO STDOUT",
    "COPY notes TO STDOUT",
    "COPY tenants (name) TO STDOUT",
];

/// Statements that belong together.
const TOGETHER: [&[&str]; 4] = [
    &[
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT id, body FROM notes",
        "FETCH 7 FROM c",
        "FETCH ALL FROM c",
        "COMMIT",
    ],
    &[
        "BEGIN",
        "SELECT count(*) FROM notes WHERE tenant_id = 2500",
        "SELECT id FROM notes",
        "COMMIT",
    ],
    &["PREPARE p AS SELECT id FROM notes WHERE client > $1", "EXECUTE p(1)", "DEALLOCATE p"],
    &[
        "CREATE TEMP TABLE kept AS SELECT id, body FROM notes",
        "SELECT * FROM kept",
        "DROP TABLE kept",
    ],
];

/// Prepared when nothing was frozen, with numbers as their parameters.
const PREPARED: [(&str, &[i64]); 4] = [
    ("SELECT tenant_id, id FROM notes WHERE id > $1 AND tenant_id <> $2", &[5, 3]),
    ("SELECT id, tenant_id FROM notes WHERE id > $1 ORDER BY id, tenant_id LIMIT $2", &[5, 60]),
    ("SELECT count(*) FROM notes WHERE id < $1", &[70]),
    ("SELECT n.id FROM notes n, parts p WHERE p.n = n.id + $1", &[0]),
];

/// Someone who reads, here and there.
struct Reader {
    client: Client,
    /// For COPY in the simple protocol.
    raw: Option<Mutex<Raw>>,
    statements: Vec<Statement>,
}

impl Reader {
    async fn new(client: Client, raw: Option<Raw>) -> Self {
        let mut statements = Vec::new();
        for (sql, _) in PREPARED {
            statements.push(client.prepare(sql).await.unwrap());
        }
        Self { client, raw: raw.map(Mutex::new), statements }
    }

    /// Everything that is read, each statement's rows in an order.
    async fn all(&self) -> Vec<(String, Vec<String>)> {
        let mut found = Vec::new();
        for sql in QUERIES {
            found.push((sql.to_owned(), self.rows(sql).await));
        }
        for sql in COPIES {
            let text = if let Some(raw) = &self.raw {
                copied(&raw.lock().unwrap().query(sql))
            } else {
                let stream = self.client.copy_out(sql).await.unwrap();
                stream.try_collect::<Vec<_>>().await.unwrap().concat()
            };
            let text = String::from_utf8(text).unwrap();
            found.push((sql.to_owned(), sorted(text.lines().map(ToOwned::to_owned).collect())));
        }
        for together in TOGETHER {
            let mut rows = Vec::new();
            for sql in together {
                rows.extend(self.rows(sql).await);
            }
            found.push((together.join("; "), sorted(rows)));
        }
        for ((sql, values), statement) in PREPARED.iter().zip(&self.statements) {
            let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| v as _).collect();
            let rows = self.client.query(statement, &values).await;
            let rows = rows.unwrap_or_else(|error| panic!("{sql}: {:?}", said(&error)));
            let text = |row: &tokio_postgres::Row| {
                (0..row.len()).map(|at| row.get::<_, i64>(at).to_string() + " ").collect()
            };
            found.push(((*sql).to_owned(), sorted(rows.iter().map(text).collect())));
        }
        found
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        let answer = self.client.simple_query(sql).await;
        let answer = answer.unwrap_or_else(|error| panic!("{sql}: {:?}", said(&error)));
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let values = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL"));
                Some(values.collect::<Vec<_>>().join("|"))
            }
            _ => None,
        });
        let rows: Vec<String> = rows.collect();
        if sql.contains("ORDER BY") { rows } else { sorted(rows) }
    }
}

/// The data of COPY TO STDOUT.
fn copied(messages: &[Message]) -> Vec<u8> {
    assert_eq!(sqlstate(messages), "", "{messages:?}");
    let data = messages.iter().filter(|message| message.tag == b'd');
    data.flat_map(|message| message.body.clone()).collect()
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

struct World {
    shards: Shards,
    operator: Operator,
    truth: Reader,
    expected: Vec<(String, Vec<String>)>,
    readers: Vec<Reader>,
    proxies: Vec<Proxy>,
}

impl World {
    async fn new(config: &str) -> Self {
        // The last one is no shard: it has all rows.
        let shards = Shards::databases(4);
        shards.run_on_all(TABLES).await;
        shards.run_on_all(MORE_TABLES).await;
        let (mut operator, map) = Operator::install(&shards).await;
        let (map, config) = (map + LOOKUP, format!("{TRUST}{config}"));
        let one = Proxy::start_with(&shards, &map, &config).await;
        let proxies = vec![one, Proxy::start_with(&shards, &map, &config).await];
        operator.change(&format!("INSERT INTO tenant_shard_map VALUES ({TENANT}, 1, 'USA')")).await;
        operator.meet(&proxies).await;
        let truth = shards.direct("bra").await;
        let tenants = [
            (1001, "usa-east"),
            (1002, "usa-east"),
            (TENANT, "usa-east"),
            (2001, "usa-west"),
            (3001, "deu"),
            (3002, "deu"),
        ];
        for (at, (tenant, home)) in tenants.into_iter().enumerate() {
            let sql = format!(
                "INSERT INTO tenants VALUES ({tenant}, 'tenant {tenant}');
                 INSERT INTO notes SELECT {at} + n * 10, {tenant}, n % 4, 'body ' || n
                     FROM generate_series(1, 12) n;
                 INSERT INTO parts SELECT {tenant}, n % 2 + 1, n * 10 FROM generate_series(1, 6) n;
                 INSERT INTO note_pages SELECT id, 'page of ' || id FROM notes WHERE tenant_id = {tenant};"
            );
            shards.direct(home).await.batch_execute(&sql).await.unwrap();
            truth.batch_execute(&sql).await.unwrap();
        }
        let mut readers = Vec::new();
        for proxy in &proxies {
            readers.push(Reader::new(proxy.connect().await, Some(proxy.raw())).await);
        }
        let truth = Reader::new(truth, None).await;
        let expected = truth.all().await;
        assert!(expected.iter().all(|(_, rows)| !rows.is_empty()), "{expected:?}");
        Self { shards, operator, truth, expected, readers, proxies }
    }

    /// A proxy says what the plain server says. They take turns.
    async fn holds(&mut self, step: &str) {
        self.readers.rotate_left(1);
        for ((sql, expected), (_, found)) in self.expected.iter().zip(self.readers[0].all().await) {
            assert_eq!(found, *expected, "{step}: {sql}");
        }
    }

    /// Copies some tables' rows of the tenant.
    async fn copy(&self, from: &str, to: &str, tables: &[(&str, &str)]) {
        let (old, new) = (self.shards.direct(from).await, self.shards.direct(to).await);
        for (table, condition) in tables {
            let sql = format!("COPY (SELECT * FROM {table} WHERE {condition}) TO STDOUT");
            let rows: Vec<_> =
                old.copy_out(&sql).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
            let sink = new.copy_in(&format!("COPY {table} FROM STDIN")).await.unwrap();
            let mut sink = std::pin::pin!(sink);
            for part in rows {
                futures_util::SinkExt::feed(&mut sink, part).await.unwrap();
            }
            sink.finish().await.unwrap();
        }
    }

    async fn on(&self, shard: &str, sql: &str) {
        self.shards.direct(shard).await.batch_execute(sql).await.unwrap();
    }

    /// The console refuses to unfreeze the tenant, and says which rows are in the way.
    async fn refuses_to_unfreeze(&self, home: &str, named: &str) {
        let error = loop {
            let error = self.operator.console("UNFREEZE 2500").await.expect_err("rows elsewhere");
            // What has just been read is not over yet.
            if said(&error).0 != "55P03" {
                break error;
            }
        };
        let said = error.as_db_error().unwrap();
        assert_eq!(said.code().code(), "55000", "{said:?}");
        assert_eq!(said.message(), "tenant 2500 has rows on shards that are not its home");
        let detail = said.detail().unwrap();
        assert!(detail.starts_with(&format!("There are {named}; its home is {home}.")), "{detail}");
    }

    async fn frozen(&self) -> (String, String) {
        let rows = self.operator.console("SHOW FREEZES").await.unwrap();
        let text = |at: usize| rows[0][at].clone().unwrap_or_default();
        (text(6), text(7))
    }
}

const NOTES: (&str, &str) = ("notes", "tenant_id = 2500");
const REST: [(&str, &str); 3] = [
    ("tenants", "id = 2500"),
    ("parts_1", "tenant_id = 2500"),
    ("note_pages", "note_id IN (SELECT id FROM notes WHERE tenant_id = 2500)"),
];

const DELETE: &str =
    "DELETE FROM note_pages WHERE note_id IN (SELECT id FROM notes WHERE tenant_id = 2500);
    DELETE FROM parts WHERE tenant_id = 2500; DELETE FROM tenants WHERE id = 2500;";
const DELETE_NOTES: &str = "DELETE FROM notes WHERE tenant_id = 2500";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_moves_is_read_once() {
    let mut world = World::new(operator::CONFIG).await;
    world.holds("before").await;
    world.operator.insist("FREEZE 2500").await;
    world.holds("frozen").await;
    assert_eq!(world.frozen().await, ("usa-east".to_owned(), String::new()));

    // In vain: what was copied has to go again.
    world.copy("usa-east", "usa-west", &[NOTES]).await;
    world.holds("half copied").await;
    world.refuses_to_unfreeze("usa-east", "12 rows of notes on usa-west").await;
    world.on("usa-west", DELETE_NOTES).await;
    world.operator.insist("UNFREEZE 2500").await;
    world.holds("given up").await;

    world.operator.insist("FREEZE 2500").await;
    world.copy("usa-east", "usa-west", &[NOTES]).await;
    world.copy("usa-east", "usa-west", &REST).await;
    world.copy("usa-east", "usa-west", &[("parts_2", "tenant_id = 2500")]).await;
    world.holds("copied").await;
    let explained = world.readers[0].rows("EXPLAIN (ROUTE) SELECT name FROM tenants").await;
    let left_out = "SELECT name FROM (SELECT * FROM tenants WHERE (\"id\" = '2500'::bigint) IS NOT TRUE) AS \"tenants\"";
    for line in [
        "  On usa-east: SELECT name FROM tenants".to_owned(),
        format!("  On usa-west: {left_out}"),
        format!("  On deu: {left_out}"),
    ] {
        assert!(explained.contains(&line), "{line}: {explained:?}");
    }
    rows_without_a_key_are_refused(&world).await;
    let flip = "UPDATE tenant_shard_map SET shard_id = 2 WHERE tenant_id = 2500";
    world.operator.change(flip).await;
    world.holds("at home on the other shard").await;
    let left = "12 rows of note_pages on usa-east, 12 rows of notes on usa-east, \
        6 rows of parts on usa-east, 1 row of tenants on usa-east";
    world.refuses_to_unfreeze("usa-west", left).await;
    assert_eq!(world.frozen().await, ("usa-west".to_owned(), String::new()));
    world.on("usa-east", DELETE).await;
    world.holds("half deleted").await;
    world.refuses_to_unfreeze("usa-west", "12 rows of notes on usa-east").await;
    world.on("usa-east", DELETE_NOTES).await;
    world.operator.insist("UNFREEZE 2500").await;
    world.holds("moved").await;
    assert!(world.operator.console("SHOW FREEZES").await.unwrap().is_empty());

    // Who insists gets what was said.
    world.operator.insist("FREEZE 'tenant=2500'").await;
    world.copy("usa-west", "deu", &[NOTES]).await;
    world.operator.insist("UNFREEZE 2500 FORCE").await;
    let counted = world.readers[0].rows("SELECT count(*) FROM notes WHERE id > 0").await;
    assert_eq!(counted, ["84"], "rows that are there twice");
}

/// Whose they are is not in them. Where an id leads they are read, and so are those of one shard.
async fn rows_without_a_key_are_refused(world: &World) {
    for (sql, state) in [
        ("SELECT page FROM note_pages", "40001"),
        ("SELECT count(*) FROM note_pages", "40001"),
        (
            "SELECT p.page FROM note_pages p JOIN notes n ON n.id = p.note_id WHERE n.tenant_id = 2500",
            "",
        ),
    ] {
        for reader in &world.readers {
            let answer = reader.client.simple_query(sql).await;
            let found = answer.err().map(|error| said(&error)).unwrap_or_default();
            assert_eq!(found.0, state, "{sql}: {found:?}");
        }
    }
    for sql in [
        "SELECT p.page FROM notes n JOIN note_pages p ON p.note_id = n.id",
        "SELECT p.page FROM note_pages p JOIN notes n ON p.note_id = n.id",
    ] {
        let expected = world.truth.rows(sql).await;
        for reader in &world.readers {
            assert_eq!(reader.rows(sql).await, expected, "{sql}");
        }
    }
    // A note of the tenant is on two shards, and its id leads to its home all the same.
    let sql = "SELECT page FROM note_pages WHERE note_id = 12";
    for reader in &world.readers {
        assert_eq!(reader.rows(sql).await, ["page of 12"], "{sql}");
    }
}

/// A statement that was planned before the freeze, and gets its connection after it, is not over when that is free for
/// a moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_with_an_older_map_is_waited_for() {
    let config = operator::CONFIG.replace("size = 6", "size = 1\nreserve = 0");
    let config = config.replace("drain_timeout = \"1s\"", "drain_timeout = \"2s\"");
    let world = World::new(&config).await;
    let sleeps = |seconds: f32, tenant: i32| {
        let url = world.proxies[0].url();
        tokio::spawn(async move {
            let sql = format!("SELECT pg_sleep({seconds}) FROM tenants WHERE id = {tenant}");
            crate::client(&url).await.simple_query(&sql).await.map(|_| ())
        })
    };
    let first = sleeps(1.2, 1001);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let second = sleeps(3.5, 1002);
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Which waits for two seconds.
    let error = world.operator.console("FREEZE 2500").await.expect_err("one has not ended");
    assert_eq!(said(&error).0, "55P03", "{error:?}");
    assert!(first.is_finished() && !second.is_finished());
    second.await.unwrap().unwrap();
    world.operator.insist("FREEZE 2500").await;
}
