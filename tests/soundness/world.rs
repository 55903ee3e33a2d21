//! Worlds: a map, rows, and the databases that hold them: one plain with all rows, one for each shard with
//! those that the map places there.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pgmeridian::catalog::{Catalog, read};
use pgmeridian::datum::KeyValue;
use pgmeridian::demo::cluster::Cluster;
use pgmeridian::map::{KeyId, Placement, ShardId, ShardMap};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::choices::Choices;

pub(crate) const SHARDS: usize = 3;
const SCHEMA: &str = include_str!("schema.sql");

/// A column's type, as far as expressions are made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ty {
    Int,
    Text,
    Uuid,
    Num,
}

/// A relation that statements may name.
pub(crate) struct Relation {
    pub(crate) sql: &'static str,
    pub(crate) columns: &'static [(&'static str, Ty)],
    pub(crate) table: bool,
}

impl Relation {
    /// The name that its columns are qualified with.
    pub(crate) fn short(&self) -> &'static str {
        self.sql.rsplit_once('.').map_or(self.sql, |(_, name)| name)
    }

    /// The sharding key that it is of.
    pub(crate) fn family(&self) -> usize {
        match self.sql {
            "docs" | "notes" | "odd_docs" => 1,
            "files" | "versions" => 2,
            "places" | "visits" => 3,
            "devices" | "readings" => 4,
            "plans" | "app.plans" | "countries" => REFERENCE,
            "global_settings" | "archive" | "audit" => 6,
            _ => 0,
        }
    }
}

/// The family of reference tables.
pub(crate) const REFERENCE: usize = 5;

use Ty::{Int, Num, Text, Uuid};

const fn table(sql: &'static str, columns: &'static [(&'static str, Ty)]) -> Relation {
    Relation { sql, columns, table: true }
}

const fn view(sql: &'static str, columns: &'static [(&'static str, Ty)]) -> Relation {
    Relation { sql, columns, table: false }
}

const USER: &[(&str, Ty)] =
    &[("tenant_id", Int), ("id", Int), ("name", Text), ("plan_id", Int), ("score", Int)];

/// The simplest first.
pub(crate) const RELATIONS: &[Relation] = &[
    table("users", USER),
    table(
        "orders",
        &[
            ("tenant_id", Int),
            ("id", Int),
            ("user_id", Int),
            ("total", Num),
            ("parent_tenant", Int),
        ],
    ),
    table("messages", &[("id", Int), ("tenant_id", Int), ("user_id", Int), ("body", Text)]),
    table("docs", &[("owner", Text), ("title", Text), ("n", Int)]),
    table("notes", &[("owner", Text), ("body", Text), ("n", Int)]),
    table("files", &[("file_id", Uuid), ("path", Text), ("n", Int)]),
    table("versions", &[("file_id", Uuid), ("n", Int), ("parent", Uuid)]),
    table("tenants", &[("id", Int), ("name", Text), ("plan_id", Int)]),
    table("plans", &[("id", Int), ("name", Text), ("tenant_limit", Int)]),
    table("places", &[("region_code", Text), ("tenant_ref", Int), ("id", Int), ("name", Text)]),
    table("visits", &[("region_code", Text), ("tenant_ref", Int), ("n", Int)]),
    table("devices", &[("device_id", Int), ("model", Text), ("tenant_ref", Int)]),
    table("readings", &[("device_id", Int), ("n", Int), ("value", Num)]),
    table("\"Odd Table\"", &[("\"order\"", Int), ("\"Tenant\"", Int), ("x", Text)]),
    table("countries", &[("code", Text), ("name", Text), ("n", Int)]),
    table("global_settings", &[("name", Text), ("value", Text), ("n", Int)]),
    table("archive", &[("id", Int), ("tenant", Int), ("body", Text)]),
    table("audit", &[("id", Int), ("what", Text)]),
    table("events", &[("tenant_id", Int), ("kind", Int), ("n", Int)]),
    table("events_a", &[("tenant_id", Int), ("kind", Int), ("n", Int)]),
    table("logs", &[("tid", Int), ("kind", Int), ("n", Int)]),
    table("logs_b_a", &[("tid", Int), ("kind", Int), ("n", Int)]),
    table("logs_a", &[("tid", Int), ("kind", Int), ("n", Int)]),
    table("items", &[("tenant_id", Int), ("label", Text)]),
    table("special_items", &[("tenant_id", Int), ("label", Text), ("extra", Int)]),
    table("app.users", USER),
    table("app.plans", &[("id", Int), ("name", Text), ("tenant_limit", Int)]),
    view("bots", &[("tenant_id", Int), ("id", Int), ("name", Text)]),
    view("all_users", &[("tenant_id", Int), ("id", Int), ("name", Text), ("plan_id", Int)]),
    view("renamed", &[("t", Int), ("i", Int), ("label", Text)]),
    view("top_users", &[("tenant_id", Int), ("id", Int), ("score", Int)]),
    view("user_counts", &[("tenant_id", Int), ("n", Int), ("best", Int)]),
    view(
        "user_orders",
        &[("tenant_id", Int), ("id", Int), ("name", Text), ("total", Num), ("user_id", Int)],
    ),
    view("maybe_orders", &[("tenant_id", Int), ("id", Int), ("order_tenant", Int), ("total", Num)]),
    view("counted", &[("tenant_id", Int), ("n", Int), ("name", Text)]),
    view("both_keys", &[("tenant_id", Int), ("id", Int)]),
    view("ranked", &[("tenant_id", Int), ("id", Int), ("r", Int)]),
    view("ranked_all", &[("tenant_id", Int), ("id", Int), ("r", Int)]),
    view("of_one", &[("id", Int), ("name", Text)]),
    view("odd_docs", &[("owner", Text), ("title", Text), ("n", Int)]),
];

/// Names of columns that hold keys.
pub(crate) const KEYS: &[&str] = &[
    "tenant_id",
    "owner",
    "file_id",
    "region_code",
    "tenant_ref",
    "device_id",
    "\"Tenant\"",
    "t",
    "tid",
];

/// Tables as they are stored, with the columns that hold their key.
const STORED: &[(&str, &[&str])] = &[
    ("public.tenants", &["id"]),
    ("public.users", &["tenant_id"]),
    ("public.orders", &["tenant_id"]),
    ("public.messages", &["tenant_id"]),
    ("public.\"Odd Table\"", &["\"Tenant\""]),
    ("public.bots", &["tenant_id"]),
    ("public.devices", &["device_id"]),
    ("public.readings", &["device_id"]),
    ("public.docs", &["owner"]),
    ("public.notes", &["owner"]),
    ("public.files", &["file_id"]),
    ("public.versions", &["file_id"]),
    ("public.places", &["region_code", "tenant_ref"]),
    ("public.visits", &["region_code", "tenant_ref"]),
    ("public.plans", &[]),
    ("public.countries", &[]),
    ("public.global_settings", &[]),
    ("public.archive", &[]),
    ("public.audit", &[]),
    ("public.events_a", &["tenant_id"]),
    ("public.events_b", &["tenant_id"]),
    ("public.logs_a", &["tid"]),
    ("public.logs_b_a", &["tid"]),
    ("public.items", &["tenant_id"]),
    ("public.special_items", &["tenant_id"]),
    ("app.users", &["tenant_id"]),
    ("app.plans", &[]),
];

/// Key values; the first ones are common.
pub(crate) const INTS: &[i64] = &[1, 2, 3, 1, 2, 4, 5, 6, 7, 8, 0, -1, 100];
pub(crate) const TEXTS: &[&str] = &[
    "ann", "bob", "eve", "Ann", "ann ", "zoë", "o'x", "", "a\\b", "USA", "DEU", "FRA", "usa",
    "ann  ", "1", "5",
];
pub(crate) const UUIDS: &[&str] = &[
    "00000000-0000-0000-0000-000000000001",
    "00000000-0000-0000-0000-000000000002",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
];

/// A stored row: its table, the texts of its key's parts, and its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stored {
    pub(crate) table: usize,
    pub(crate) key: Vec<Option<String>>,
    pub(crate) row: String,
}

pub(crate) struct World {
    pub(crate) map: ShardMap,
    pub(crate) map_text: String,
    pub(crate) catalog: Catalog,
    urls: Vec<String>,
    pub(crate) search_path: Vec<String>,
    /// `standard_conforming_strings`.
    pub(crate) standard_strings: bool,
    pub(crate) plain: Client,
    pub(crate) shards: Vec<Client>,
    /// What every shard holds at rest.
    pub(crate) at_rest: Vec<Vec<Stored>>,
    pub(crate) plain_at_rest: Vec<Stored>,
}

impl World {
    /// Databases `plain{n}` and `shard{n}_{i}` of a cluster, with the schema and nothing else.
    pub(crate) async fn create(cluster: &Cluster, n: usize) -> Self {
        let superuser = cluster.connect("postgres").await.expect("the superuser");
        let mut clients = Vec::new();
        let mut urls = Vec::new();
        for index in 0..=SHARDS {
            let name =
                if index == 0 { format!("plain{n}") } else { format!("shard{n}_{}", index - 1) };
            let owner = pgmeridian::demo::cluster::ROLE;
            superuser
                .batch_execute(&format!("CREATE DATABASE {name} OWNER {owner}"))
                .await
                .expect("a database");
            let url = cluster.database_url(&name);
            let client = connect(&url).await;
            urls.push(url);
            client.batch_execute(SCHEMA).await.expect("the schema");
            client.batch_execute("SET statement_timeout = '4s'").await.expect("a setting");
            clients.push(client);
        }
        let plain = clients.remove(0);
        urls.remove(0);
        let catalog = read_catalog(&plain).await;
        let (map, map_text) = map(&mut Choices::given(&[]), &urls);
        Self {
            map,
            map_text,
            catalog,
            urls,
            search_path: Vec::new(),
            standard_strings: true,
            plain,
            shards: clients,
            at_rest: Vec::new(),
            plain_at_rest: Vec::new(),
        }
    }

    /// Another map, other rows.
    pub(crate) async fn renew(&mut self, seed: u64) {
        let mut choices = Choices::random(seed);
        (self.map, self.map_text) = map(&mut choices, &self.urls);
        let paths: [&[&str]; 4] =
            [&["public"], &["$user", "public"], &["app", "public"], &["public", "app"]];
        self.search_path = choices.one(&paths).iter().map(|s| (*s).to_owned()).collect();
        self.standard_strings = !choices.chance(15);
        let mut load = String::new();
        let tables: Vec<&str> = STORED.iter().map(|(table, _)| *table).collect();
        let _ = writeln!(load, "TRUNCATE {};", tables.join(", "));
        let mut loads = vec![load; SHARDS + 1];
        for (index, (table, _)) in STORED.iter().enumerate() {
            let rows = rows(&mut choices, table);
            for row in rows {
                let insert = format!(
                    "INSERT INTO {table} VALUES ({}) ON CONFLICT DO NOTHING;\n",
                    row.join(", ")
                );
                loads[0].push_str(&insert);
                for shard in self.homes(index, &key_texts(index, &row)) {
                    loads[shard + 1].push_str(&insert);
                }
            }
        }
        let settings = self.settings();
        for load in &mut loads {
            load.push_str("ANALYZE;");
        }
        let clients = std::iter::once(&self.plain).chain(&self.shards);
        for (client, load) in clients.zip(&loads) {
            // A string is read whole before any of it runs.
            // However slow the machine is: this is no statement of the test.
            let plainly = "SET standard_conforming_strings = on; SET statement_timeout = 0";
            client.batch_execute(plainly).await.expect("a setting");
            client.batch_execute(load).await.unwrap_or_else(|e| panic!("{e:?}\n{load}"));
            client.batch_execute("SET statement_timeout = '4s'").await.expect("a setting");
            client.batch_execute(&settings).await.expect("settings");
        }
        self.plain_at_rest = dump(&self.plain).await;
        self.at_rest.clear();
        for shard in &self.shards {
            let dumped = dump(shard).await;
            self.at_rest.push(dumped);
        }
        for (shard, rows) in self.at_rest.iter().enumerate() {
            let expected = self.placed_on(&self.plain_at_rest, shard);
            assert_eq!(*rows, expected, "rows were not loaded where the map places them");
        }
    }

    /// The statements that make its settings.
    pub(crate) fn settings(&self) -> String {
        let path: Vec<String> = self.search_path.iter().map(|s| format!("\"{s}\"")).collect();
        let strings = if self.standard_strings { "on" } else { "off" };
        let path = path.join(", ");
        format!(
            "SET search_path = {path}; SET standard_conforming_strings = {strings}; \
             SET escape_string_warning = off;"
        )
    }

    /// The shards on which a row lives.
    pub(crate) fn homes(&self, table: usize, key: &[Option<String>]) -> Vec<usize> {
        if !self.map.routing() {
            return vec![usize::from(self.map.default_shard().0)];
        }
        let name = STORED[table].0;
        let (schema, bare) = name.split_once('.').expect("a qualified name");
        let bare = bare.trim_matches('"');
        let found = &self.catalog.tables[&(schema.to_owned(), bare.to_owned())];
        match self.map.placement(found) {
            Placement::Reference => (0..SHARDS).collect(),
            Placement::Single(shard) => vec![usize::from(shard.0)],
            Placement::Unlisted => vec![usize::from(self.map.default_shard().0)],
            Placement::Sharded { key: id, .. } => match self.place(id, key) {
                Some(shard) => vec![usize::from(shard.0)],
                None => panic!("row {key:?} of {name} has no shard"),
            },
            other => panic!("table {name} is {other:?}"),
        }
    }

    fn place(&self, id: KeyId, key: &[Option<String>]) -> Option<ShardId> {
        let types = &self.map.key(id).expect("a key").types;
        let values: Vec<KeyValue<'_>> = key
            .iter()
            .zip(types)
            .map(|(text, ty)| {
                KeyValue::from_text(*ty, text.as_deref().expect("a key")).expect("a value")
            })
            .collect();
        self.map.place_row(id, &values).ok()
    }

    /// The key that a stored table is sharded by.
    pub(crate) fn key_of(&self, table: usize) -> Option<KeyId> {
        let (schema, bare) = STORED[table].0.split_once('.')?;
        let found =
            self.catalog.tables.get(&(schema.to_owned(), bare.trim_matches('"').to_owned()))?;
        match self.map.placement(found) {
            Placement::Sharded { key, .. } => Some(key),
            _ => None,
        }
    }

    /// Those of these rows that live on a shard.
    pub(crate) fn placed_on(&self, rows: &[Stored], shard: usize) -> Vec<Stored> {
        rows.iter().filter(|r| self.homes(r.table, &r.key).contains(&shard)).cloned().collect()
    }

    /// Deletes rows of other keys from every table of this key.
    pub(crate) fn keep_only(&self, key: KeyId, value: &str) -> String {
        let mut sql = String::new();
        for (index, (table, columns)) in STORED.iter().enumerate() {
            if self.key_of(index) == Some(key) {
                let _ = write!(sql, "DELETE FROM {table} WHERE {} <> '{value}';", columns[0]);
            }
        }
        sql
    }
}

/// All rows of a database, sorted.
pub(crate) async fn dump(client: &Client) -> Vec<Stored> {
    let mut sql = String::new();
    for (index, (table, key)) in STORED.iter().enumerate() {
        let part = |n: usize| key.get(n).map_or("NULL".to_owned(), |c| format!("stored.{c}::text"));
        if index > 0 {
            sql.push_str(" UNION ALL ");
        }
        let _ = write!(
            sql,
            "SELECT {index}, {}, {}, stored::text FROM ONLY {table} AS stored",
            part(0),
            part(1)
        );
    }
    let mut rows = Vec::new();
    for message in client.simple_query(&sql).await.expect("a dump") {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let table: usize = row.get(0).expect("a number").parse().expect("a number");
        let key = (0..STORED[table].1.len()).map(|n| row.get(n + 1).map(str::to_owned)).collect();
        rows.push(Stored { table, key, row: row.get(3).expect("a row").to_owned() });
    }
    rows.sort();
    rows
}

pub(crate) fn describe(row: &Stored) -> String {
    format!("{} {}", STORED[row.table].0, row.row)
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

async fn read_catalog(client: &Client) -> Catalog {
    let mut answers = Vec::new();
    client.batch_execute(&format!("BEGIN; {}", read::READ_SETTINGS)).await.expect("settings");
    for query in [read::READ_RELATIONS, read::READ_COLUMNS, read::READ_FUNCTIONS] {
        let mut rows = Vec::new();
        for message in client.simple_query(query).await.expect("the catalog") {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
            }
        }
        answers.push(rows);
    }
    client.batch_execute("COMMIT").await.expect("commit");
    Catalog::from_rows(&answers[0], &answers[1], &answers[2]).expect("a catalog")
}

/// The rows of a table, as expressions.
fn rows(choices: &mut Choices, table: &str) -> Vec<Vec<String>> {
    let count = 8 + choices.pick(12);
    let mut kinds: Vec<(&str, bool)> = match table {
        "public.tenants" => vec![("i", true), ("t", true), ("i", false)],
        "public.users" | "app.users" => {
            vec![("i", true), ("i", true), ("t", false), ("i", false), ("i", false)]
        }
        "public.orders" => {
            vec![("i", true), ("i", true), ("i", false), ("n", false), ("i", false)]
        }
        "public.messages" => vec![("i", false), ("i", true), ("i", false), ("t", false)],
        "public.\"Odd Table\"" => vec![("i", false), ("i", true), ("t", false)],
        "public.bots" => vec![("i", true), ("i", true), ("t", false)],
        "public.devices" => vec![("i", true), ("t", false), ("i", false)],
        "public.readings" => vec![("i", true), ("i", false), ("n", false)],
        "public.docs" => vec![("t", true), ("t", false), ("i", true)],
        "public.notes" => vec![("4", true), ("t", false), ("i", false)],
        "public.files" => vec![("u", true), ("t", false), ("i", false)],
        "public.versions" => vec![("u", true), ("i", false), ("u", false)],
        "public.places" => vec![("t", true), ("i", true), ("i", false), ("t", false)],
        "public.visits" => vec![("t", true), ("i", true), ("i", false)],
        "public.plans" | "app.plans" => vec![("i", true), ("t", false), ("i", false)],
        "public.countries" => vec![("t", true), ("t", false), ("i", false)],
        "public.global_settings" => vec![("t", true), ("t", false), ("i", false)],
        "public.archive" => vec![("i", false), ("i", false), ("t", false)],
        "public.audit" => vec![("i", false), ("t", false)],
        "public.events_a" | "public.events_b" | "public.logs_a" | "public.logs_b_a" => {
            vec![("i", true), ("k", true), ("i", false)]
        }
        "public.items" => vec![("i", true), ("t", false)],
        "public.special_items" => vec![("i", true), ("t", false), ("i", false)],
        other => panic!("no rows for {other}"),
    };
    if matches!(table, "public.events_b" | "public.logs_b_a") {
        kinds[1].0 = "K";
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for _ in 0..count {
        let mut row: Vec<String> = Vec::new();
        for (kind, not_null) in &kinds {
            if !not_null && choices.chance(15) {
                row.push("NULL".to_owned());
                continue;
            }
            row.push(match *kind {
                "i" => choices.one(INTS).to_string(),
                "n" => format!("{}.5", choices.pick(4)),
                "k" => choices.pick(2).to_string(),
                "K" => (2 + choices.pick(2)).to_string(),
                "t" => format!("'{}'", choices.one(TEXTS).replace('\'', "''")),
                // As character varying(4) stores it.
                "4" => {
                    let text: String = choices.one(TEXTS).chars().take(4).collect();
                    format!("'{}'", text.replace('\'', "''"))
                }
                _ => format!("'{}'", choices.one(UUIDS)),
            });
        }
        let taken = |other: &Vec<String>| match table {
            "public.tenants" | "public.plans" | "public.countries" | "public.global_settings" => {
                other[0] == row[0]
            }
            "public.users" | "public.orders" => other[..2] == row[..2],
            "public.docs" => other[0] == row[0] && other[2] == row[2],
            _ => false,
        };
        if !rows.iter().any(taken) {
            rows.push(row);
        }
    }
    rows
}

/// The key of a row of expressions.
fn key_texts(table: usize, row: &[String]) -> Vec<Option<String>> {
    let key = STORED[table].1;
    let at: &[usize] = match STORED[table].0 {
        "public.messages" | "public.\"Odd Table\"" => &[1],
        "public.places" | "public.visits" => &[0, 1],
        _ if key.is_empty() => &[],
        _ => &[0],
    };
    at.iter().map(|i| Some(row[*i].trim_matches('\'').replace("''", "'"))).collect()
}

/// A map, and its text.
fn map(choices: &mut Choices, urls: &[String]) -> (ShardMap, String) {
    let mut text = String::from("version = 1\ndatabase = \"bots\"\ndefault_shard = \"");
    let default = choices.pick(SHARDS);
    let _ = writeln!(text, "s{default}\"");
    if choices.chance(8) {
        text.push_str("routing = \"off\"\n");
    }
    for index in 0..SHARDS {
        let _ = write!(
            text,
            "[[shards]]\nid = {}\nname = \"s{index}\"\nregion = \"R{index}\"\nurl = \"{}\"\n",
            index + 1,
            urls[index]
        );
    }
    let all = "[\"s0\", \"s1\", \"s2\"]";
    let places: BTreeMap<&str, (&str, &str, &str)> = BTreeMap::from([
        (
            "tenant",
            (
                "bigint",
                "columns = [\"tenant_id\"]\ntables = { tenants = \"id\", \"Odd Table\" = \"Tenant\", logs = \"tid\" }",
                "i",
            ),
        ),
        ("device", ("integer", "columns = [\"device_id\"]", "i")),
        ("owner", ("text", "columns = [\"owner\"]", "t")),
        ("file", ("uuid", "columns = [\"file_id\"]", "u")),
    ]);
    for (name, (ty, columns, kind)) in places {
        // A reading's device is a bigint.
        let ty = if name == "device" { "bigint" } else { ty };
        let strategy = choices.pick(5);
        let _ = write!(text, "[keys.{name}]\n{columns}\ntype = \"{ty}\"\n");
        let hash = |choices: &mut Choices| {
            let first = usize::from(kind != "i");
            let word = ["modulo", "md5", "consistent", "postgres", "slots"]
                [first + choices.pick(5 - first)];
            let shards = if word == "slots" {
                "slots = { \"0-5460\" = \"s0\", \"5461-10922\" = \"s1\", \"10923-16383\" = \"s2\" }"
                    .to_owned()
            } else {
                format!("shards = {all}")
            };
            format!("[keys.{name}.hash]\nalgorithm = \"{word}\"\n{shards}\n")
        };
        let ranges = match kind {
            "i" => {
                "ranges = [{ to = 1, shard = \"s0\" }, { from = 2, to = 4, shard = \"s1\" }, { from = 5, shard = \"s2\" }]"
            }
            "t" => {
                "ranges = [{ to = \"Z\", shard = \"s0\" }, { from = \"[\", to = \"b\", shard = \"s1\" }, { from = \"b!\", shard = \"s2\" }]"
            }
            _ => {
                "ranges = [{ to = \"00000000-0000-0000-0000-000000000001\", shard = \"s0\" }, { from = \"00000000-0000-0000-0000-000000000002\", to = \"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\", shard = \"s1\" }, { from = \"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12\", shard = \"s2\" }]"
            }
        };
        match strategy {
            // Texts don't fall into ranges without gaps.
            3 if kind != "t" => {
                let _ = write!(text, "strategy = \"range\"\n[keys.{name}.range]\n{ranges}\n");
            }
            4 => {
                let entries = match kind {
                    "i" => "1 = \"s2\", 3 = \"s0\"",
                    "t" => "ann = \"s1\", \"o'x\" = \"s0\", \"zoë\" = \"s2\"",
                    _ => "\"00000000-0000-0000-0000-000000000001\" = \"s2\"",
                };
                let otherwise = if kind != "t" && choices.chance(50) { "range" } else { "hash" };
                let rest = if otherwise == "range" {
                    format!("[keys.{name}.range]\n{ranges}\n")
                } else {
                    hash(choices)
                };
                let _ = write!(
                    text,
                    "strategy = \"directory\"\n[keys.{name}.directory]\nentries = {{ {entries} }}\notherwise = \"{otherwise}\"\n{rest}"
                );
            }
            _ => {
                let _ = write!(text, "strategy = \"hash\"\n{}", hash(choices));
            }
        }
    }
    let within = choices.one(&["modulo", "md5", "consistent", "postgres"]);
    let _ = write!(
        text,
        "[keys.region]\ncolumns = [\"region_code\"]\ntype = \"text\"\nstrategy = \"geo\"\n\
         [keys.region.geo]\nregions = {{ USA = [\"s0\", \"s1\"], DEU = [\"s2\"], FRA = [\"s2\", \"s0\"] }}\n\
         within = {{ column = \"tenant_ref\", type = \"bigint\", algorithm = \"{within}\" }}\n\
         default = \"s1\"\n"
    );
    let _ = write!(
        text,
        "[tables]\nplans = \"reference\"\n\"app.plans\" = \"reference\"\ncountries = \"reference\"\n\
         global_settings = {{ shard = \"s0\" }}\narchive = {{ shard = \"s2\" }}\n\
         [sessions]\nkey = \"tenant\"\n"
    );
    match ShardMap::parse("soundness", &text, &|_| None) {
        Ok((map, _)) => (map, text),
        Err(faults) => panic!("{}\n{text}", faults.render(false)),
    }
}
