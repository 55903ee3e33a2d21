//! What the proxy itself does for one statement, piece by piece: frames, planning of a known shape,
//! analysis of an unknown one. `cargo bench --bench hot_path`.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![expect(clippy::unwrap_used, reason = "a bench says what is wrong by panicking")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use pgmeridian::catalog::Catalog;
use pgmeridian::datum::{Format, Param};
use pgmeridian::error::SqlError;
use pgmeridian::exec::planner::{Planned, Planner, Reading, Scopes};
use pgmeridian::exec::reading;
use pgmeridian::lookup::Known;
use pgmeridian::map::ShardMap;
use pgmeridian::mapstore::World;
use pgmeridian::plan::{Inputs, Scope};
use pgmeridian::session::Session;
use pgmeridian::session::responses::{Responses, StepKind};
use pgmeridian::wire::frame;

const SCHEMA: &str = "
    CREATE TABLE accounts (tenant_id bigint NOT NULL, id bigint NOT NULL, name text, balance bigint,
        PRIMARY KEY (tenant_id, id));
    CREATE TABLE orders (tenant_id bigint NOT NULL, id bigint NOT NULL, account_id bigint, total numeric);
    CREATE TABLE items (tenant_id bigint NOT NULL, order_id bigint, sku text, price numeric);";

const POINT: &str = "SELECT name, balance FROM accounts WHERE tenant_id = 42 AND id = 7";
const JOIN: &str = "SELECT a.name, o.id, i.sku, i.price FROM accounts a \
    JOIN orders o ON o.tenant_id = a.tenant_id AND o.account_id = a.id \
    JOIN items i ON i.tenant_id = o.tenant_id AND i.order_id = o.id \
    WHERE a.tenant_id = 42 AND a.id = 7 ORDER BY i.price DESC LIMIT 20";
const PREPARED: &str = "SELECT name, balance FROM accounts WHERE tenant_id = $1 AND id = $2";

struct NoScope;

impl Scopes for NoScope {
    fn scope(&self, _: &World, _: Option<&str>) -> Result<Scope<'_>, SqlError> {
        Ok(Scope::default())
    }
}

fn world(strategy: &str) -> Arc<World> {
    let map = format!(
        "version = 1\ndatabase = 'bots'\ndefault_shard = 'a'\n\
         [[shards]]\nid = 1\nname = 'a'\nurl = 'postgresql://u@localhost/a'\n\
         [[shards]]\nid = 2\nname = 'b'\nurl = 'postgresql://u@localhost/b'\n\
         [[shards]]\nid = 3\nname = 'c'\nurl = 'postgresql://u@localhost/c'\n\
         [keys.tenant]\ncolumns = ['tenant_id']\ntype = 'bigint'\n{strategy}"
    );
    let (map, _) = ShardMap::parse("bench", &map, &|_| None).unwrap();
    let catalog = Catalog::from_ddl(SCHEMA).unwrap();
    let lookups = Arc::new(Known::new(&map));
    Arc::new(World {
        version: 1,
        map: Arc::new(map),
        catalog: Arc::new(catalog),
        catalog_known: true,
        lookups,
    })
}

const HASH: &str =
    "strategy = 'hash'\n[keys.tenant.hash]\nalgorithm = 'postgres'\nshards = ['a', 'b', 'c']\n";

fn directory(tenants: u32) -> String {
    let mut text = String::from(
        "strategy = 'directory'\n[keys.tenant.directory]\notherwise = 'refuse'\n[keys.tenant.directory.entries]\n",
    );
    for tenant in 0..tenants {
        let shard = ["a", "b", "c"][tenant as usize % 3];
        writeln!(text, "{tenant} = '{shard}'").unwrap();
    }
    text
}

fn settings() -> Reading {
    reading(&Session::default(), &world(HASH))
}

fn plan(
    planner: &mut Planner,
    world: &Arc<World>,
    reading: &Reading,
    sql: &str,
    out: &mut Vec<Planned>,
) {
    out.clear();
    planner.plan_simple(world, reading, sql.as_bytes(), &NoScope, out).unwrap();
}

fn planning(c: &mut Criterion) {
    let mut group = c.benchmark_group("planning");
    let reading = settings();
    for (name, strategy) in [("hash", HASH.to_owned()), ("directory of 1000", directory(1000))] {
        let world = world(&strategy);
        for (shape, sql) in [("point SELECT", POINT), ("3-table join", JOIN)] {
            let (mut planner, mut out) = (Planner::default(), Vec::new());
            plan(&mut planner, &world, &reading, sql, &mut out);
            group.bench_function(format!("known shape, {shape}, {name}"), |b| {
                b.iter(|| plan(&mut planner, &world, &reading, black_box(sql), &mut out));
            });
        }
    }
    let world = world(HASH);
    for (shape, sql) in [("point SELECT", POINT), ("3-table join", JOIN)] {
        group.bench_function(format!("unknown shape, {shape}"), |b| {
            b.iter_batched_ref(
                || (Planner::default(), Vec::new()),
                |(planner, out)| plan(planner, &world, &reading, black_box(sql), out),
                BatchSize::SmallInput,
            );
        });
    }
    let mut planner = Planner::default();
    let readied = planner.prepare(&world, &reading, PREPARED.as_bytes()).unwrap();
    let template = readied.entry.template.as_ref().unwrap();
    group.bench_function("prepared statement, two binary parameters", |b| {
        let (tenant, id) = (42_i64.to_be_bytes(), 7_i64.to_be_bytes());
        b.iter(|| {
            let params = [
                Param { oid: 20, format: Format::Binary, value: Some(black_box(&tenant)) },
                Param { oid: 20, format: Format::Binary, value: Some(&id) },
            ];
            let inputs = Inputs {
                text: PREPARED,
                literals: &readied.literals,
                params: &params,
                utf8: true,
                standard_strings: true,
            };
            template.plan(&world.map, &inputs, &Scope::default()).unwrap()
        });
    });
    group.finish();
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(body);
    message
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frames");
    let query = message(b'Q', format!("{POINT}\0").as_bytes());
    group.bench_function("cut a query", |b| {
        b.iter(|| {
            frame::next(black_box(&query), frame::STATEMENT_BYTES_MAX).unwrap().map(|f| f.tag)
        });
    });
    for rows in [1, 1000] {
        let mut answer = message(b'T', &[0; 60]);
        for _ in 0..rows {
            answer.extend(message(b'D', &[0; 40]));
        }
        answer.extend(message(b'C', b"SELECT 1\0"));
        answer.extend(message(b'Z', b"I"));
        let (mut responses, mut segments) = (Responses::default(), Vec::new());
        group.bench_function(format!("relay an answer of {rows} rows"), |b| {
            b.iter(|| {
                responses.begin(false);
                responses.expect(StepKind::Query, false);
                segments.clear();
                responses.feed(black_box(&answer), &mut segments).unwrap();
                assert!(responses.done());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, planning, frames);
criterion_main!(benches);
