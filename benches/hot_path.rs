//! What the proxy itself does for one statement, piece by piece: frames, planning of a known shape,
//! analysis of an unknown one. `cargo bench --bench hot_path`.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![expect(clippy::unwrap_used, reason = "a bench says what is wrong by panicking")]

mod pure;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use pgmeridian::datum::{Format, Param};
use pgmeridian::exec::planner::{Planned, Planner, Reading};
use pgmeridian::mapstore::World;
use pgmeridian::plan::{Inputs, Scope};
use pgmeridian::session::responses::{Responses, StepKind};
use pgmeridian::wire::frame;

use self::pure::{HASH, JOIN, NoScope, POINT, PREPARED, directory, message, settings, world};

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
