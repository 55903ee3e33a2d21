//! What the shards really are, against what the map takes them for.
//!
//! Main function: [`check`]; main type: [`Finding`]. Every shard is asked at the same time, read-only; its
//! schema is compared with that of the default shard, object by object. What lives on one shard only by the
//! map is not missed on the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use smallvec::SmallVec;

use super::read::{self, ReadError, connect, rows};
use crate::catalog::read::Row;
use crate::catalog::{Catalog, RelationKind, SHARD_NUMBER, ShardCheck, Table};
use crate::map::{CrossShardWrites, DatabaseHome, Key, KeyId, Placement, Shard, ShardId, ShardMap};

/// Of the databases that a shard's keys have, so many are compared with what they were made from: each takes
/// a connection.
const DATABASES_COMPARED_MAX: usize = 100;

/// So many databases are named that differ in the same way.
const DATABASES_NAMED_MAX: usize = 3;

/// Reference tables of more rows are compared by their number of rows only.
const COMPARED_ROWS_MAX: i64 = 100_000;

/// Something found on the shards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// It makes answers wrong, or statements fail; else it is only worth knowing.
    pub fault: bool,
    /// What, with table, column and shard.
    pub text: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", if self.fault { "error" } else { "warning" }, self.text)?;
        if let Some(hint) = self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// What a database consists of: kind, table and name, and the definition.
type Objects = BTreeMap<(String, String, String), String>;

/// What one shard said.
struct Told<'m> {
    at: ShardId,
    shard: &'m Shard,
    catalog: Catalog,
    server: BTreeMap<String, String>,
    objects: Objects,
    unique: Vec<Row>,
    sequences: Vec<Row>,
    /// OIDs of user types.
    types: BTreeMap<String, String>,
}

const SERVER: &str = "\
SELECT s.name, s.setting FROM pg_catalog.pg_settings s
WHERE s.name IN ('server_version', 'max_prepared_transactions')
UNION ALL SELECT 'recovery', pg_catalog.pg_is_in_recovery()::text
UNION ALL SELECT 'encoding', pg_catalog.pg_encoding_to_char(d.encoding) FROM pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
UNION ALL SELECT 'collation', d.datcollate || ', ' || d.datctype FROM pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
UNION ALL SELECT 'collation version', pg_catalog.to_jsonb(d) ->> 'datcollversion' FROM pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
UNION ALL SELECT 'database ' || d.datname, '' FROM pg_catalog.pg_database d
WHERE d.datallowconn AND NOT d.datistemplate";

/// Under an empty `search_path`, so that names are qualified.
const OBJECTS: &str = "\
WITH relation AS (
  SELECT c.*, n.nspname || '.' || c.relname AS fq
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgmeridian') AND n.nspname !~ '^pg_toast')
SELECT 'table', fq, '', CASE relkind WHEN 'r' THEN 'a table' WHEN 'v' THEN 'a view' WHEN 'm' THEN 'a materialized view'
    WHEN 'f' THEN 'a foreign table' ELSE 'partitioned by ' || pg_catalog.pg_get_partkeydef(oid) END
FROM relation
UNION ALL
SELECT 'column', r.fq, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)
    || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
    || COALESCE(' COLLATE ' || CASE WHEN a.attcollation <> t.typcollation THEN l.collname END, '')
    || CASE WHEN a.attidentity <> '' THEN ' IDENTITY' WHEN a.attgenerated <> '' THEN ' GENERATED' ELSE '' END
    || COALESCE(' DEFAULT ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
FROM relation r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
UNION ALL
SELECT 'constraint', r.fq, o.conname, pg_catalog.pg_get_constraintdef(o.oid)
FROM relation r JOIN pg_catalog.pg_constraint o ON o.conrelid = r.oid
WHERE o.contype <> 'n'
UNION ALL
SELECT 'index', r.fq, x.relname, pg_catalog.pg_get_indexdef(i.indexrelid)
FROM relation r JOIN pg_catalog.pg_index i ON i.indrelid = r.oid JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
UNION ALL
SELECT 'trigger', r.fq, g.tgname, pg_catalog.pg_get_triggerdef(g.oid)
FROM relation r JOIN pg_catalog.pg_trigger g ON g.tgrelid = r.oid AND NOT g.tgisinternal
UNION ALL
SELECT 'view', fq, '', pg_catalog.pg_get_viewdef(oid) FROM relation WHERE relkind IN ('v', 'm')
UNION ALL
SELECT 'function', '', p.oid::pg_catalog.regprocedure::text,
    p.provolatile::text || pg_catalog.md5(p.prosrc) || COALESCE(p.probin, '')
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgmeridian')
UNION ALL
SELECT 'type', '', n.nspname || '.' || t.typname, CASE t.typtype
    WHEN 'e' THEN 'an enum of ' || (SELECT pg_catalog.string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder)
                                    FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid)
    WHEN 'd' THEN 'a domain over ' || pg_catalog.format_type(t.typbasetype, t.typtypmod) ELSE 'a type' END
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype IN ('e', 'd', 'r') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgmeridian')
UNION ALL
SELECT 'role', '', r.rolname, CASE WHEN r.rolcanlogin THEN 'may log in' ELSE 'may not log in' END
FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_'";

/// Table, index, columns (blank-separated numbers; 0 is an expression), whether all columns are uuids.
const UNIQUE: &str = "\
SELECT n.nspname || '.' || c.relname, x.relname, i.indkey::text,
    (SELECT pg_catalog.bool_and(a.atttypid = 2950) FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey))::text,
    (SELECT pg_catalog.string_agg(a.attname, ', ') FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey))
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisunique AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgmeridian')
  AND n.nspname !~ '^pg_toast' ORDER BY 1, 2";

/// Table, column, sequence, start, increment, minimum, maximum of what a column's default takes numbers from.
const SEQUENCES: &str = "\
SELECT n.nspname || '.' || c.relname, a.attname, q.oid::pg_catalog.regclass::text,
    s.seqstart::text, s.seqincrement::text, s.seqmin::text, s.seqmax::text
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN LATERAL (
  SELECT d.objid AS oid FROM pg_catalog.pg_depend d
  WHERE d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.deptype = 'i' AND d.classid = 'pg_catalog.pg_class'::regclass
  UNION
  SELECT d.refobjid FROM pg_catalog.pg_attrdef f
  JOIN pg_catalog.pg_depend d ON d.objid = f.oid AND d.classid = 'pg_catalog.pg_attrdef'::regclass
    AND d.refclassid = 'pg_catalog.pg_class'::regclass
  WHERE f.adrelid = c.oid AND f.adnum = a.attnum) q ON true
JOIN pg_catalog.pg_sequence s ON s.seqrelid = q.oid ORDER BY 1, 2";

const TYPES: &str = "\
SELECT n.nspname || '.' || t.typname, t.oid::text
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype IN ('e', 'c', 'd', 'r') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgmeridian')
  AND n.nspname !~ '^pg_toast' AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.atttypid = t.oid
    AND a.attnum > 0 AND NOT a.attisdropped)";

/// Asks every shard; what was found, faults first.
pub async fn check(map: &ShardMap) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut told = Vec::new();
    for (at, shard) in (0..).map(ShardId).zip(map.shards()) {
        match ask(at, shard).await {
            Ok(answer) => told.push(answer),
            Err(error) => {
                fault(&mut findings, format!("shard {} can't be asked: {error}", shard.name), None);
            }
        }
    }
    for shard in &told {
        check_server(map, shard, &mut findings);
        check_databases(map, shard, &mut findings);
    }
    if map.has_key_databases() {
        let home = told.iter().find(|told| told.at == map.default_shard());
        for shard in &told {
            check_key_databases(map, home, shard, &mut findings).await;
        }
    }
    if let Some(home) = told.iter().find(|told| told.at == map.default_shard()) {
        for other in told.iter().filter(|other| other.at != home.at) {
            compare(map, home, other, &mut findings);
        }
        check_keys(map, home, &told, &mut findings);
        check_unique(map, home, &mut findings);
        check_sequences(map, &told, &mut findings);
        check_reference(map, home, &told, &mut findings).await;
    }
    findings.sort_by(|a, b| (!a.fault, &a.text).cmp(&(!b.fault, &b.text)));
    findings.dedup();
    findings
}

fn fault(findings: &mut Vec<Finding>, text: String, hint: Option<&'static str>) {
    findings.push(Finding { fault: true, text, hint });
}

fn warning(findings: &mut Vec<Finding>, text: String, hint: Option<&'static str>) {
    findings.push(Finding { fault: false, text, hint });
}

async fn ask(at: ShardId, shard: &Shard) -> Result<Told<'_>, ReadError> {
    let (client, connection) = connect(&shard.url).await?;
    tokio::spawn(connection);
    client
        .batch_execute("SET default_transaction_read_only = on; SET statement_timeout = '60s'")
        .await?;
    let catalog = read::read(&client).await?;
    client.batch_execute("SET search_path = ''").await?;
    let pairs = |rows: Vec<Row>| -> BTreeMap<String, String> {
        let pair = |row: Row| match row.as_slice() {
            [Some(name), value] => Some((name.clone(), value.clone().unwrap_or_default())),
            _ => None,
        };
        rows.into_iter().filter_map(pair).collect()
    };
    let objects = objects(&client).await?;
    Ok(Told {
        at,
        shard,
        catalog,
        objects,
        server: pairs(rows(&client, SERVER).await?),
        unique: rows(&client, UNIQUE).await?,
        sequences: rows(&client, SEQUENCES).await?,
        types: pairs(rows(&client, TYPES).await?),
    })
}

/// What a database consists of, under an empty `search_path`.
async fn objects(client: &tokio_postgres::Client) -> Result<Objects, ReadError> {
    let read = rows(client, OBJECTS).await?.into_iter();
    let objects = read.filter_map(|row| match row.as_slice() {
        // A CHECK of the shard's number is another one on each shard, and is meant so.
        [Some(kind), _, _, Some(definition)]
            if kind == "constraint" && ShardCheck::differs_by_shard(definition) =>
        {
            None
        }
        [Some(kind), Some(table), Some(name), definition] => {
            let key = (kind.clone(), table.clone(), name.clone());
            Some((key, definition.clone().unwrap_or_default()))
        }
        _ => None,
    });
    Ok(objects.collect())
}

impl Told<'_> {
    fn server(&self, name: &str) -> &str {
        self.server.get(name).map_or("", String::as_str)
    }

    fn table(&self, fq: &str) -> Option<&Table> {
        let (schema, name) = fq.split_once('.')?;
        self.catalog.tables.get(&(schema.to_owned(), name.to_owned())).map(|table| &**table)
    }
}

/// Databases that are routed by their names are where the map looks for them.
fn check_databases(map: &ShardMap, told: &Told<'_>, findings: &mut Vec<Finding>) {
    let names = told.server.keys().filter_map(|key| key.strip_prefix("database "));
    for name in names {
        let Some(DatabaseHome::Here(at)) = map.database_home(name) else { continue };
        let Some(home) = map.shard(at) else { continue };
        // Shards may share a server.
        let same = (&home.url.host, home.url.port) == (&told.shard.url.host, told.shard.url.port);
        if same {
            continue;
        }
        fault(
            findings,
            format!(
                "database {name} is on shard {}, and the shard map places it on {}: its clients don't find it",
                told.shard.name, home.name
            ),
            Some(
                "list it where it is, in its key's directory or under a [[databases]] with strategy = \"directory\" before the others; or move it",
            ),
        );
    }
}

/// The databases of keys are as what they were made from is now.
async fn check_key_databases(
    map: &ShardMap,
    home: Option<&Told<'_>>,
    told: &Told<'_>,
    findings: &mut Vec<Finding>,
) {
    let names = told.server.keys().filter_map(|key| key.strip_prefix("database "));
    let mut by_key: BTreeMap<KeyId, Vec<&str>> = BTreeMap::new();
    for name in names {
        match map.key_database_named(name) {
            Some(own) if own.shard == told.at => by_key.entry(own.key).or_default().push(name),
            // Another shard's on the same server, or out of its place, which has been said.
            _ => {}
        }
    }
    let shard = &told.shard.name;
    for (key, mut names) in by_key {
        let Some((key, own)) = map.key(key).and_then(|key| Some((key, key.databases()?))) else {
            continue;
        };
        names.sort_by_key(|name| (name.len(), *name));
        let template = match objects_of(told.shard, &own.template).await {
            Ok(objects) if has_tables(&objects) => Some((own.template.as_str(), objects)),
            // What is made from an empty one, or by hand, has what statements are planned by.
            _ => home.map(|home| (home.shard.url.dbname.as_str(), of_key(map, key, home))),
        };
        let Some((template, expected)) = template else { continue };
        let looked_at: Vec<&str> = sample(&names, DATABASES_COMPARED_MAX);
        let mut differences: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
        for name in &looked_at {
            match objects_of(told.shard, name).await {
                Ok(found) => {
                    for difference in differ_from(template, &expected, &found) {
                        differences.entry(difference).or_default().push(name);
                    }
                }
                Err(error) => fault(
                    findings,
                    format!("database {name} on shard {shard} can't be asked: {error}"),
                    None,
                ),
            }
        }
        for ((kind, what), of) in differences {
            let mut named =
                of.iter().take(DATABASES_NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
            if let more @ 1.. = of.len().saturating_sub(DATABASES_NAMED_MAX) {
                named = format!("{named} and {more} more");
            }
            differ(findings, &kind, format!("{what} {named} on shard {shard}"));
        }
        if looked_at.len() < names.len() {
            warning(
                findings,
                format!(
                    "of the {} databases of {} on shard {shard}, {} were compared with {template}",
                    names.len(),
                    key.name,
                    looked_at.len()
                ),
                None,
            );
        }
    }
}

/// So many of them at most, from all over the list.
fn sample<'n>(names: &[&'n str], max: usize) -> Vec<&'n str> {
    let take = names.len().min(max);
    (0..take).filter_map(|at| names.get(at * names.len() / take.max(1)).copied()).collect()
}

async fn objects_of(shard: &Shard, database: &str) -> Result<Objects, ReadError> {
    let mut target = shard.url.clone();
    database.clone_into(&mut target.dbname);
    let (client, connection) = connect(&target).await?;
    tokio::spawn(connection);
    client
        .batch_execute(
            "SET default_transaction_read_only = on; SET statement_timeout = '60s'; SET search_path = ''",
        )
        .await?;
    objects(&client).await
}

fn has_tables(objects: &Objects) -> bool {
    objects.keys().any(|(kind, _, _)| kind == "table")
}

/// What of the default shard's schema a key's statements are planned by: the key's tables.
fn of_key(map: &ShardMap, key: &Key, home: &Told<'_>) -> Objects {
    let is_own = |fq: &str| {
        let table = home.table(fq);
        table.is_some_and(|table| match map.placement(table) {
            Placement::Sharded { key: of, .. } => map.key(of).is_some_and(|of| of.name == key.name),
            _ => false,
        })
    };
    let own =
        home.objects.iter().filter(|((kind, table, _), _)| kind != "trigger" && is_own(table));
    own.map(|(object, definition)| (object.clone(), definition.clone())).collect()
}

/// What is another thing in a database than in what it was made from: its kind, and how it differs, in words
/// that the database's name follows. What it has besides does no harm.
fn differ_from(template: &str, expected: &Objects, found: &Objects) -> Vec<(String, String)> {
    let mut differences = Vec::new();
    for ((kind, table, name), definition) in expected {
        // Roles are the server's.
        if kind == "role" {
            continue;
        }
        let of_table = ("table".to_owned(), table.clone(), String::new());
        let is_missing = !table.is_empty() && kind != "table" && !found.contains_key(&of_table);
        if is_missing {
            continue;
        }
        let what = called(kind, table, name);
        let text = match found.get(&(kind.clone(), table.clone(), name.clone())) {
            Some(own) if own == definition => continue,
            None => format!("{what} is in {template} and not in"),
            Some(_) if matches!(kind.as_str(), "function" | "view") => {
                format!("{what} is another one than in {template} in")
            }
            Some(own) => format!("{what} is {definition} in {template} and {own} in"),
        };
        differences.push((kind.clone(), text));
    }
    differences
}

fn check_server(map: &ShardMap, told: &Told<'_>, findings: &mut Vec<Finding>) {
    let name = &told.shard.name;
    if told.server("recovery") == "true" {
        fault(
            findings,
            format!("shard {name} is a standby: it takes no writes"),
            Some("url must lead to the primary; list standbys under replicas"),
        );
    }
    let several = map.shards().len() > 1;
    if several
        && map.policy().cross_shard_writes == CrossShardWrites::TwoPhase
        && told.server("max_prepared_transactions") == "0"
    {
        warning(
            findings,
            format!(
                "shard {name} has max_prepared_transactions = 0: transactions that write on several shards are refused"
            ),
            Some(
                "set max_prepared_transactions to max_connections, or cross_shard_writes = \"refuse\"",
            ),
        );
    }
}

/// Whether a table's rows are on more than one shard by the map.
fn is_spread(map: &ShardMap, table: &Table) -> bool {
    match map.placement(table) {
        Placement::Sharded { .. } | Placement::Reference | Placement::Lookup { .. } => true,
        Placement::Single(_) | Placement::Unlisted => table.kind != RelationKind::Table,
        Placement::Unusable(_) => true,
    }
}

fn compare(map: &ShardMap, home: &Told<'_>, other: &Told<'_>, findings: &mut Vec<Finding>) {
    let (a, b) = (&home.shard.name, &other.shard.name);
    let major = |told: &Told<'_>| {
        told.server("server_version").split(['.', ' ', 'b', 'r']).next().map(str::to_owned)
    };
    if major(home) != major(other) {
        let (v, w) = (home.server("server_version"), other.server("server_version"));
        warning(findings, format!("PostgreSQL is {v} on {a} and {w} on {b}"), None);
    }
    for name in ["encoding", "collation", "collation version"] {
        let (x, y) = (home.server(name), other.server(name));
        if x != y {
            let hint = (name != "encoding").then_some(
                "text may sort differently: ORDER BY over several shards would not agree with either",
            );
            fault(findings, format!("the database's {name} is {x} on {a} and {y} on {b}"), hint);
        }
    }
    let spread = |told: &Told<'_>, fq: &str| {
        fq.is_empty() || told.table(fq).is_none_or(|table| is_spread(map, table))
    };
    let missing_tables: BTreeSet<&String> = home
        .objects
        .keys()
        .filter(|(kind, table, name)| {
            let key = (kind.clone(), table.clone(), name.clone());
            kind == "table" && !other.objects.contains_key(&key)
        })
        .map(|(_, table, _)| table)
        .collect();
    for ((kind, table, name), definition) in &home.objects {
        if !spread(home, table) || (kind != "table" && missing_tables.contains(table)) {
            continue;
        }
        let what = called(kind, table, name);
        match other.objects.get(&(kind.clone(), table.clone(), name.clone())) {
            None => differ(findings, kind, format!("{what} is on {a} and not on {b}")),
            Some(found) if found == definition => {}
            Some(_) if matches!(kind.as_str(), "function" | "view") => {
                differ(findings, kind, format!("{what} is another one on {b} than on {a}"));
            }
            Some(found) => {
                differ(findings, kind, format!("{what} is {definition} on {a} and {found} on {b}"));
            }
        }
    }
    for (kind, table, name) in other.objects.keys() {
        let key = (kind.clone(), table.clone(), name.clone());
        let table_is_new = kind != "table"
            && !table.is_empty()
            && !home.objects.contains_key(&("table".to_owned(), table.clone(), String::new()));
        if home.objects.contains_key(&key) || !spread(other, table) || table_is_new {
            continue;
        }
        differ(findings, kind, format!("{} is on {b} and not on {a}", called(kind, table, name)));
    }
    for (name, oid) in &home.types {
        let Some(found) = other.types.get(name).filter(|found| *found != oid) else { continue };
        warning(
            findings,
            format!("type {} has the OID {oid} on {a} and {found} on {b}", bare(name)),
            Some(
                "clients are told the default shard's; arrays and rows in binary keep their own: create the databases from one template to have the same",
            ),
        );
    }
}

fn bare(fq: &str) -> &str {
    fq.strip_prefix("public.").unwrap_or(fq)
}

fn called(kind: &str, table: &str, name: &str) -> String {
    match (kind, name) {
        ("table" | "view", _) => format!(
            "{} {}",
            if kind == "view" { "the query of view" } else { "table" },
            bare(table)
        ),
        ("column", name) => format!("column {}.{name}", bare(table)),
        (kind, name) if table.is_empty() => format!("{kind} {}", bare(name)),
        (kind, name) => format!("{kind} {name} of table {}", bare(table)),
    }
}

/// Tables and their rows decide what is right; the rest, how it goes.
fn differ(findings: &mut Vec<Finding>, kind: &str, text: String) {
    findings.push(Finding {
        fault: matches!(kind, "table" | "column" | "constraint" | "type"),
        text,
        hint: None,
    });
}

/// Key columns: there, of the right type, never NULL; and what the map can't place.
fn check_keys(map: &ShardMap, home: &Told<'_>, told: &[Told<'_>], findings: &mut Vec<Finding>) {
    for table in home.catalog.tables.values().filter(|table| table.kind == RelationKind::Table) {
        let name = bare(&format!("{}.{}", table.schema, table.name)).to_owned();
        let columns = match map.placement(table) {
            Placement::Sharded { columns, .. } => columns,
            Placement::Lookup { .. } => SmallVec::new(),
            Placement::Unusable(why) => {
                fault(findings, format!("table {name} can't be placed: {why}"), None);
                continue;
            }
            _ => continue,
        };
        for column in columns.iter().filter_map(|at| table.columns.get(usize::from(*at))) {
            if !column.not_null {
                fault(
                    findings,
                    format!("key column {name}.{} may be NULL", column.name),
                    Some(
                        "rows without a key are found on no shard: ALTER TABLE … ALTER COLUMN … SET NOT NULL",
                    ),
                );
            }
            if column.has_default {
                warning(
                    findings,
                    format!("key column {name}.{} has a default", column.name),
                    Some(
                        "an INSERT past the proxy that leaves it out lands on whatever shard it is run on",
                    ),
                );
            }
        }
        if map.policy().trust_shard_id {
            check_numbers(table, told, findings);
        }
    }
}

/// `trust_shard_id` wants CHECK (`shard_id` = n) on every shard, and Snowflake ids of the default shard are
/// taken for such on every shard.
fn check_numbers(table: &Table, told: &[Told<'_>], findings: &mut Vec<Finding>) {
    let fq = format!("{}.{}", table.schema, table.name);
    for shard in told {
        let (id, name) = (shard.shard.id, &shard.shard.name);
        let found = |column: &str| {
            let there = shard.table(&fq).and_then(|table| {
                table.columns.get(usize::from(table.column(column)?)).map(|own| own.shard_check)
            });
            there.unwrap_or_default()
        };
        for column in &table.columns {
            let (missing, hint) = match column.shard_check {
                _ if column.name == SHARD_NUMBER => (
                    (found(SHARD_NUMBER) != ShardCheck::Number(Some(id)))
                        .then(|| format!("{SHARD_NUMBER} = {id}")),
                    "ALTER TABLE … ADD CHECK (shard_id = n), or trust_shard_id = false",
                ),
                ShardCheck::Snowflake(_) | ShardCheck::SnowflakeOfRow => {
                    let there = [ShardCheck::Snowflake(Some(id)), ShardCheck::SnowflakeOfRow];
                    let quoted = format!("({} >> 12) & 1023 = {id}", column.name);
                    (
                        (!there.contains(&found(&column.name))).then_some(quoted),
                        "ALTER TABLE … ADD CHECK ((id >> 12) & 1023 = n), or trust_shard_id = false",
                    )
                }
                ShardCheck::None | ShardCheck::Number(_) => continue,
            };
            if let Some(check) = missing {
                let text = format!(
                    "table {} on shard {name} has no CHECK ({check}), and trust_shard_id = true",
                    bare(&fq)
                );
                fault(findings, text, Some(hint));
            }
        }
    }
}

/// Unique indexes that don't contain the key hold on each shard alone.
fn check_unique(map: &ShardMap, home: &Told<'_>, findings: &mut Vec<Finding>) {
    let mut uuids = 0;
    for row in &home.unique {
        let [Some(fq), Some(index), Some(numbers), only_uuids, columns] = row.as_slice() else {
            continue;
        };
        let Some(table) = home.table(fq) else { continue };
        let Placement::Sharded { columns: key, .. } = map.placement(table) else { continue };
        let columns = columns.as_deref().unwrap_or_default();
        let names: Vec<&str> = columns.split(", ").collect();
        let has = |at: &u16| {
            table
                .columns
                .get(usize::from(*at))
                .is_some_and(|column| names.contains(&column.name.as_str()))
        };
        if key.iter().all(has) {
            continue;
        }
        if only_uuids.as_deref() == Some("true") && !numbers.split(' ').any(|number| number == "0")
        {
            uuids += 1;
            continue;
        }
        warning(
            findings,
            format!(
                "unique index {index} on {} ({columns}) holds on each shard alone: it does not contain the key",
                bare(fq)
            ),
            Some(
                "two shards may have the same value; add the key to the index, or see to it elsewhere",
            ),
        );
    }
    if uuids > 0 {
        warning(
            findings,
            format!(
                "{uuids} unique indexes on uuids alone hold on each shard alone, which random uuids make good"
            ),
            None,
        );
    }
}

/// A shard's name; start, increment, minimum and maximum of its sequence.
type OnShard<'t> = (&'t str, [i128; 4]);

/// Sequences that give the same numbers on several shards.
fn check_sequences(map: &ShardMap, told: &[Told<'_>], findings: &mut Vec<Finding>) {
    let mut columns: BTreeMap<(&str, &str), Vec<OnShard<'_>>> = BTreeMap::new();
    for shard in told {
        for row in &shard.sequences {
            let [Some(fq), Some(column), _, numbers @ ..] = row.as_slice() else { continue };
            let numbers: Vec<i128> =
                numbers.iter().flatten().filter_map(|number| number.parse().ok()).collect();
            let Ok(numbers) = <[i128; 4]>::try_from(numbers) else { continue };
            let Some(table) = shard.table(fq) else { continue };
            if is_spread(map, table) {
                columns.entry((fq, column)).or_default().push((&shard.shard.name, numbers));
            }
        }
    }
    for ((fq, column), sequences) in columns {
        let apart = |[start, step, min, max]: [i128; 4],
                     [other, other_step, low, high]: [i128; 4]| {
            max < low
                || high < min
                || (step == other_step && step != 0 && (start - other) % step != 0)
        };
        let clash = sequences.iter().enumerate().find_map(|(at, (name, numbers))| {
            let earlier = sequences.iter().take(at).find(|(_, other)| !apart(*numbers, *other))?;
            Some((earlier.0, *name))
        });
        if let Some((a, b)) = clash {
            warning(
                findings,
                format!(
                    "the sequence of {}.{column} gives the same numbers on {a} and {b}",
                    bare(fq)
                ),
                Some(
                    "give each shard its own range (MINVALUE, MAXVALUE, RESTART), or its own remainder (INCREMENT BY number of shards, RESTART WITH n)",
                ),
            );
        }
    }
}

/// Reference tables must have the same rows everywhere.
async fn check_reference(
    map: &ShardMap,
    home: &Told<'_>,
    told: &[Told<'_>],
    findings: &mut Vec<Finding>,
) {
    let mut tables: Vec<&Table> = home
        .catalog
        .tables
        .values()
        .map(|table| &**table)
        .filter(|table| {
            table.kind == RelationKind::Table && map.placement(table) == Placement::Reference
        })
        .collect();
    tables.sort_by_key(|table| (&table.schema, &table.name));
    let mut seen: Vec<(&str, Vec<Option<String>>)> = Vec::new();
    for shard in told {
        match contents(shard.shard, &tables).await {
            Ok(contents) => seen.push((&shard.shard.name, contents)),
            Err(error) => {
                let text = format!(
                    "reference tables of shard {} can't be read: {error}",
                    shard.shard.name
                );
                warning(findings, text, None);
            }
        }
    }
    let Some((first, expected)) = seen.first() else { return };
    for (name, contents) in seen.iter().skip(1) {
        for ((table, a), b) in tables.iter().zip(expected).zip(contents) {
            if a.is_some() && b.is_some() && a != b {
                fault(
                    findings,
                    format!(
                        "reference table {} has other rows on {name} than on {first}",
                        bare(&format!("{}.{}", table.schema, table.name))
                    ),
                    Some(
                        "any shard answers for a reference table: make its rows the same everywhere",
                    ),
                );
            }
        }
    }
}

/// What stands for the rows of each table; none where the table is missing.
async fn contents(shard: &Shard, tables: &[&Table]) -> Result<Vec<Option<String>>, ReadError> {
    let (client, connection) = connect(&shard.url).await?;
    tokio::spawn(connection);
    client
        .batch_execute("SET default_transaction_read_only = on; SET statement_timeout = '60s'")
        .await?;
    let mut contents = Vec::with_capacity(tables.len());
    for table in tables {
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let fq = format!("{}.{}", quote(&table.schema), quote(&table.name));
        let regclass = format!("to_regclass('{}')", fq.replace('\'', "''"));
        let there = client.query_one(&format!("SELECT {regclass} IS NOT NULL"), &[]).await?;
        if !there.get::<_, bool>(0) {
            contents.push(None);
            continue;
        }
        let sql = format!(
            "SELECT count(*) || ' ' || CASE WHEN count(*) <= {COMPARED_ROWS_MAX} THEN coalesce((\
             SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\")) FROM {fq} t), '') ELSE '' END FROM {fq}"
        );
        contents.push(client.query_one(&sql, &[]).await?.get(0));
    }
    Ok(contents)
}
