//! How long one scan takes: a point SELECT, a wide SELECT, a multi-row INSERT; and its classification.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgmeridian::sql::class::classify;
use pgmeridian::sql::lexer::{Limits, Scan, scan};

const POINT: &str = "SELECT name, balance FROM accounts WHERE tenant_id = 42 AND id = 7";

fn wide() -> String {
    let columns: Vec<String> = (1..=20).map(|n| format!("t.column_number_{n}")).collect();
    format!(
        "SELECT {} FROM public.messages t WHERE t.tenant_id = 42 AND t.state = 'open' \
         ORDER BY t.created_at DESC, t.id LIMIT 50",
        columns.join(", ")
    )
}

fn insert() -> String {
    let rows: Vec<String> = (0..100).map(|n| format!("(42, {n}, 'message number {n}')")).collect();
    format!("INSERT INTO messages (tenant_id, id, body) VALUES {}", rows.join(", "))
}

fn lexer(c: &mut Criterion) {
    let limits = Limits::default();
    let mut out = Scan::default();
    let mut group = c.benchmark_group("lexer");
    for (name, text) in
        [("point_select", POINT.to_owned()), ("wide_select", wide()), ("insert_100_rows", insert())]
    {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| scan(black_box(text.as_bytes()), true, &limits, &mut out));
        });
    }
    group.finish();
    c.bench_function("classify/select", |b| b.iter(|| classify(black_box(POINT), true)));
    c.bench_function("classify/set", |b| {
        b.iter(|| classify(black_box("SET pgmeridian.key = '42'"), true));
    });
}

criterion_group!(benches, lexer);
criterion_main!(benches);
