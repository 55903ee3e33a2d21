//! What `GET /metrics` shows besides the process's counters: shards, pools, connections, the map.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use crate::backend::{Gate, LATENCY_BOUNDS_US, ShardBook};
use crate::command::Operator;
use crate::observe::{Family, Labels, render as write};

pub(super) fn render(operator: &Operator) -> String {
    let shared = operator.shared();
    let map = shared.store.current().map.clone();
    let books: Vec<_> = map.shards().iter().map(|own| shared.books.shard(&own.name)).collect();
    let mut families = vec![up(operator), breakers(operator)];
    families.extend(gates(&books));
    families.extend(pools(operator));
    families.extend(shard_counters(&books));
    families.push(latency(&books));
    families.extend(map_state(operator));
    families.push(Family::gauge(
        "in_doubt",
        "Prepared transactions that can't be finished yet",
        vec![(Vec::new(), shared.commits.doubts().len() as f64)],
    ));
    families.push(Family::gauge(
        "uptime_seconds",
        "How long the proxy runs",
        vec![(Vec::new(), operator.health().uptime().as_secs_f64())],
    ));
    write(families)
}

fn shard_label(name: &str) -> Labels {
    vec![("shard", name.to_owned())]
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn up(operator: &Operator) -> Family {
    let found = operator.health().found();
    let values = found.iter().map(|(shard, finding)| (shard_label(shard), flag(finding == "ok")));
    Family::gauge("shard_up", "The shard answered when it was last asked", values.collect())
}

fn breakers(operator: &Operator) -> Family {
    let shared = operator.shared();
    let pools = shared.pools();
    let map = &shared.store.current().map;
    let values = map.shards().iter().map(|shard| {
        let open = !pools.iter().all(|own| own.reachable_by_name(&shard.name));
        (shard_label(&shard.name), flag(open))
    });
    Family::gauge(
        "breaker_open",
        "The shard could not be reached, and is left alone for a while",
        values.collect(),
    )
}

fn gates(books: &[std::sync::Arc<ShardBook>]) -> [Family; 2] {
    let of = |gate: Gate| {
        books.iter().map(|own| (shard_label(own.name()), flag(own.gate() == gate))).collect()
    };
    [
        Family::gauge("shard_paused", "An operator has paused the shard", of(Gate::Paused)),
        Family::gauge("shard_draining", "An operator drains the shard", of(Gate::Draining)),
    ]
}

fn pools(operator: &Operator) -> [Family; 5] {
    let shared = operator.shared();
    let mut sums: BTreeMap<(String, String), [usize; 4]> = BTreeMap::new();
    for status in shared.pools().iter().flat_map(|pools| pools.status()) {
        let sum = sums.entry((status.shard, status.user)).or_default();
        let counts = [status.active, status.idle, status.waiting, status.size_max];
        for (sum, count) in sum.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    let column = |at: usize| {
        sums.iter()
            .map(|((shard, user), counts)| {
                let labels = vec![("shard", shard.clone()), ("user", user.clone())];
                (labels, counts.get(at).copied().unwrap_or_default() as f64)
            })
            .collect::<Vec<_>>()
    };
    let longest = shared.store.current();
    let longest = longest.map.shards().iter().map(|shard| {
        let wait = shared.books.shard(&shard.name).longest_wait();
        (shard_label(&shard.name), wait.as_secs_f64())
    });
    [
        Family::gauge("pool_used", "Connections that clients have", column(0)),
        Family::gauge("pool_idle", "Connections that are free", column(1)),
        Family::gauge("pool_waiting", "Clients that wait for a connection", column(2)),
        Family::gauge("pool_size", "Connections that there may be", column(3)),
        Family::gauge(
            "pool_longest_wait_seconds",
            "The longest that anyone waited for a connection since the start",
            longest.collect(),
        ),
    ]
}

fn shard_counters(books: &[std::sync::Arc<ShardBook>]) -> Vec<Family> {
    type Read = fn(&ShardBook) -> &AtomicU64;
    let all: [(&str, &str, Read); 5] = [
        ("shard_statements_total", "Requests that the shard answered", |own| &own.statements),
        ("shard_transactions_total", "Transactions that ended there", |own| &own.transactions),
        ("shard_statement_errors_total", "Statements it answered with an error", |own| &own.errors),
        ("shard_sent_bytes_total", "Bytes to the shard", |own| &own.sent_bytes),
        ("shard_received_bytes_total", "Bytes from the shard", |own| &own.received_bytes),
    ];
    all.iter()
        .map(|(name, help, read)| {
            let values = books
                .iter()
                .map(|own| (shard_label(own.name()), read(own).load(Ordering::Relaxed) as f64));
            Family::counter(name, help, values.collect())
        })
        .collect()
}

fn latency(books: &[std::sync::Arc<ShardBook>]) -> Family {
    let bounds: Vec<f64> = LATENCY_BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).collect();
    let values = books.iter().map(|own| {
        let sum = own.busy_us.load(Ordering::Relaxed) as f64 / 1e6;
        (shard_label(own.name()), own.latencies().to_vec(), sum)
    });
    Family::histogram(
        "shard_latency_seconds",
        "Time between a request to the shard and the end of its answer",
        &bounds,
        values.collect(),
    )
}

fn map_state(operator: &Operator) -> [Family; 4] {
    let store = &operator.shared().store;
    let one = |value: f64| vec![(Vec::new(), value)];
    let loaded = store.description().loaded.duration_since(UNIX_EPOCH).unwrap_or_default();
    [
        Family::gauge(
            "map_version",
            "The version of the map that is used",
            one(store.current().map.version() as f64),
        ),
        Family::gauge("map_loaded_seconds", "When it was taken", one(loaded.as_secs_f64())),
        Family::gauge(
            "map_last_reload_failed",
            "The last map was refused, an older one is used",
            one(flag(store.history().fault().is_some())),
        ),
        Family::gauge(
            "control_followed",
            "The control database can be read, and its map is the one that is used",
            store
                .control()
                .map(|control| (Vec::new(), flag(control.problem.is_none())))
                .into_iter()
                .collect(),
        ),
    ]
}
