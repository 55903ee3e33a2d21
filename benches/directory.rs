//! A directory of ten million tenants: load, memory, look-up, one change. `ENTRIES` says how many others.

#![expect(clippy::print_stderr, reason = "figures that criterion does not measure")]

use std::hint::black_box;
use std::time::Instant;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use pgmeridian::datum::{KeyType, KeyValue};
use pgmeridian::map::Entries;

fn key(ty: KeyType, n: u64) -> KeyValue<'static> {
    // Far apart, as ids of tenants made over years are.
    let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match ty {
        KeyType::Uuid => KeyValue::Uuid((u128::from(spread) << 64 | u128::from(n)).to_be_bytes()),
        KeyType::Text => KeyValue::Text(format!("tenant-{spread:016x}").into()),
        _ => KeyValue::Int(n as i64),
    }
}

fn directory(c: &mut Criterion) {
    let count: u64 =
        std::env::var("ENTRIES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000_000);
    for (name, ty) in [("int", KeyType::BigInt), ("uuid", KeyType::Uuid), ("text", KeyType::Text)] {
        let begun = Instant::now();
        let mut entries = Entries::new(ty);
        for n in 0..count {
            entries.put(&key(ty, n), (n % 16) as i16);
        }
        let (load, bytes) = (begun.elapsed(), entries.memory_bytes() as f64 / count as f64);
        eprintln!("{name}: {count} keys in {load:.1?}, {bytes:.1} bytes a key");
        let keys: Vec<_> = (0..1 << 16)
            .map(|n: u64| key(ty, n.wrapping_mul(0x2545_f491_4f6c_dd1d) % count))
            .collect();
        let mut at = 0;
        c.bench_function(&format!("directory/{name}/lookup"), |b| {
            b.iter(|| {
                at = (at + 1) % keys.len();
                entries.find(black_box(&keys[at]))
            });
        });
        let mut homes = 0;
        c.bench_function(&format!("directory/{name}/change one of a snapshot"), |b| {
            b.iter_batched(
                || entries.clone(),
                |mut changed| {
                    homes = (homes + 1) % keys.len();
                    changed.put(&keys[homes], 99);
                    changed
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, directory);
criterion_main!(benches);
