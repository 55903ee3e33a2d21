//! Counters, and their rendering in Prometheus' text format.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};

use crate::error::SqlState;

/// The process's counters.
pub static METRICS: Metrics = Metrics::new();

/// What is counted. Every field is a total since the process started, unless it says otherwise.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Statements by where they went, in the order of [`RouteKind`].
    statements: [AtomicU64; RouteKind::ALL.len()],
    /// Those of them that failed.
    failures: [AtomicU64; RouteKind::ALL.len()],
    /// Errors of our own making by SQLSTATE; seldom enough for a lock.
    refusals: Mutex<Vec<(&'static str, u64)>>,
    /// Connections that stay with their client, by reason; seldom enough for a lock.
    pins: Mutex<Vec<(&'static str, u64)>>,
    /// Errors that shards answered.
    pub shard_errors: AtomicU64,
    /// Clients that are connected now.
    pub clients: AtomicI64,
    /// Clients that were accepted.
    pub client_connects: AtomicU64,
    /// Clients that failed to log in.
    pub client_auth_failures: AtomicU64,
    /// Bytes from clients.
    pub client_bytes_in: AtomicU64,
    /// Bytes to clients.
    pub client_bytes_out: AtomicU64,
    /// Connections made to shards.
    pub backend_connects: AtomicU64,
    /// Connections to shards that could not be made.
    pub backend_connect_errors: AtomicU64,
    /// Connections to shards that were closed because they weren't clean when their client was done.
    pub backend_dirty: AtomicU64,
    /// Leases that had to wait for a connection.
    pub pool_waits: AtomicU64,
    /// Statements whose analysis was found in the cache.
    pub analysis_hits: AtomicU64,
    /// Statements that had to be parsed.
    pub analysis_misses: AtomicU64,
    /// Cancel requests that were passed on.
    pub cancels: AtomicU64,
    /// Statements that were sent again, since their connection was found dead.
    pub retries: AtomicU64,
    /// Maps that were swapped in.
    pub map_reloads: AtomicU64,
    /// Maps that were refused.
    pub map_reload_errors: AtomicU64,
    /// Times that the control database could not be read.
    pub control_errors: AtomicU64,
    /// Transactions that were committed in two phases.
    pub two_phase_commits: AtomicU64,
    /// Transactions that were to be, and were rolled back.
    pub two_phase_aborts: AtomicU64,
    /// What was left prepared, and was committed.
    pub recovered_commits: AtomicU64,
    /// What was left prepared, and was rolled back.
    pub recovered_aborts: AtomicU64,
}

/// Where a statement went, as the metrics count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// To one shard.
    One,
    /// To several.
    Many,
    /// To all.
    All,
    /// To any one of them.
    Any,
    /// Nowhere: no row could match.
    Nowhere,
    /// It was answered by the proxy.
    Local,
    /// It was refused.
    Refused,
}

impl RouteKind {
    const ALL: [Self; 7] =
        [Self::One, Self::Many, Self::All, Self::Any, Self::Nowhere, Self::Local, Self::Refused];

    fn label(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Many => "many",
            Self::All => "all",
            Self::Any => "any",
            Self::Nowhere => "none",
            Self::Local => "local",
            Self::Refused => "refused",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Adds to a counter.
#[inline]
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Counts a statement by where it went.
#[inline]
pub fn routed(kind: RouteKind) {
    if let Some(counter) = METRICS.statements.get(kind.index()) {
        add(counter, 1);
    }
}

/// Counts the failure of a statement that was counted before.
pub fn failed(kind: RouteKind) {
    if let Some(counter) = METRICS.failures.get(kind.index()) {
        add(counter, 1);
    }
}

/// Counts an error of our own making.
pub fn refused(code: SqlState) {
    METRICS.refused(code);
}

/// Counts a connection that stays with its client for this reason.
pub fn pinned(reason: &'static str) {
    count(&METRICS.pins, reason);
}

fn count(counts: &Mutex<Vec<(&'static str, u64)>>, label: &'static str) {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    match counts.iter_mut().find(|(known, _)| *known == label) {
        Some((_, count)) => *count += 1,
        None => counts.push((label, 1)),
    }
}

impl Metrics {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            statements: [const { AtomicU64::new(0) }; RouteKind::ALL.len()],
            failures: [const { AtomicU64::new(0) }; RouteKind::ALL.len()],
            refusals: Mutex::new(Vec::new()),
            pins: Mutex::new(Vec::new()),
            shard_errors: AtomicU64::new(0),
            clients: AtomicI64::new(0),
            client_connects: AtomicU64::new(0),
            client_auth_failures: AtomicU64::new(0),
            client_bytes_in: AtomicU64::new(0),
            client_bytes_out: AtomicU64::new(0),
            backend_connects: AtomicU64::new(0),
            backend_connect_errors: AtomicU64::new(0),
            backend_dirty: AtomicU64::new(0),
            pool_waits: AtomicU64::new(0),
            analysis_hits: AtomicU64::new(0),
            analysis_misses: AtomicU64::new(0),
            cancels: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            map_reloads: AtomicU64::new(0),
            map_reload_errors: AtomicU64::new(0),
            control_errors: AtomicU64::new(0),
            two_phase_commits: AtomicU64::new(0),
            two_phase_aborts: AtomicU64::new(0),
            recovered_commits: AtomicU64::new(0),
            recovered_aborts: AtomicU64::new(0),
        }
    }

    fn refused(&self, code: SqlState) {
        count(&self.refusals, code.0);
    }

    fn counters(&self) -> [(&'static str, &'static str, &AtomicU64); 20] {
        [
            ("shard_errors", "Errors that shards answered", &self.shard_errors),
            ("client_connects", "Clients that were accepted", &self.client_connects),
            ("client_auth_failures", "Clients that failed to log in", &self.client_auth_failures),
            ("client_received_bytes", "Bytes from clients", &self.client_bytes_in),
            ("client_sent_bytes", "Bytes to clients", &self.client_bytes_out),
            ("backend_connects", "Connections made to shards", &self.backend_connects),
            (
                "backend_connect_errors",
                "Connections to shards that could not be made",
                &self.backend_connect_errors,
            ),
            (
                "backend_dirty",
                "Connections closed because they were not clean when their client was done",
                &self.backend_dirty,
            ),
            ("pool_waits", "Leases that had to wait for a connection", &self.pool_waits),
            ("analysis_cache_hits", "Analyses found in the cache", &self.analysis_hits),
            ("analysis_cache_misses", "Statements that had to be parsed", &self.analysis_misses),
            ("cancels", "Cancel requests passed on", &self.cancels),
            ("retries", "Statements sent again on another connection", &self.retries),
            ("map_reloads", "Maps that were swapped in", &self.map_reloads),
            ("map_reload_errors", "Maps that were refused", &self.map_reload_errors),
            (
                "control_errors",
                "Times that the control database could not be read",
                &self.control_errors,
            ),
            (
                "two_phase_commits",
                "Transactions that were committed on several shards in two phases",
                &self.two_phase_commits,
            ),
            (
                "two_phase_aborts",
                "Transactions that could not be committed in two phases, and were rolled back",
                &self.two_phase_aborts,
            ),
            (
                "recovered_commits",
                "Prepared transactions that were left behind, and were committed",
                &self.recovered_commits,
            ),
            (
                "recovered_aborts",
                "Prepared transactions that were left behind, and were rolled back",
                &self.recovered_aborts,
            ),
        ]
    }

    /// What was refused has not failed besides.
    fn outcomes(&self) -> Vec<Metric> {
        let counts = RouteKind::ALL.iter().zip(&self.statements).zip(&self.failures);
        let mut metrics = Vec::new();
        for ((kind, all), failed) in counts {
            let (all, failed) = (all.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
            let outcomes: &[(&str, u64)] = match kind {
                RouteKind::Refused => &[("refused", all)],
                _ => &[("ok", all.saturating_sub(failed)), ("error", failed)],
            };
            for (outcome, count) in outcomes {
                metrics.push(counter(&[("route", kind.label()), ("outcome", outcome)], *count));
            }
        }
        metrics
    }

    fn families(&self) -> Vec<MetricFamily> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut families = Vec::new();
        families.push(family(
            "statements_total",
            "Statements by where they went and what came of them",
            MetricType::COUNTER,
            self.outcomes(),
        ));
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !refusals.is_empty() {
            let refusals = refusals.iter().map(|(code, n)| counter(&[("sqlstate", code)], *n));
            families.push(family(
                "refusals_total",
                "Errors of the proxy's own making by SQLSTATE",
                MetricType::COUNTER,
                refusals.collect(),
            ));
        }
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !pins.is_empty() {
            let pins = pins.iter().map(|(reason, n)| counter(&[("reason", reason)], *n));
            families.push(family(
                "pins_total",
                "Connections that stayed with their client, by reason",
                MetricType::COUNTER,
                pins.collect(),
            ));
        }
        for (name, help, value) in self.counters() {
            let metrics = vec![counter(&[], read(value))];
            families.push(family(&format!("{name}_total"), help, MetricType::COUNTER, metrics));
        }
        let clients = vec![gauge(&[], self.clients.load(Ordering::Relaxed) as f64)];
        families.push(family("clients", "Clients connected now", MetricType::GAUGE, clients));
        families
    }
}

/// Prometheus' text format: the process's counters, and further families.
pub fn render(further: Vec<Family>) -> String {
    let mut families = METRICS.families();
    families.extend(further.into_iter().map(|family| family.0));
    families.retain(|family| !family.get_metric().is_empty());
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
        tracing::error!(%error, "could not render the metrics");
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Labels of one value: names and values.
pub type Labels = Vec<(&'static str, String)>;

/// Values of one name (without prefix), by their labels.
pub struct Family(MetricFamily);

impl Family {
    /// Values that go up and down.
    pub fn gauge(name: &str, help: &str, values: Vec<(Labels, f64)>) -> Self {
        let metrics = values.into_iter().map(|(labels, value)| gauge(&borrowed(&labels), value));
        Self(family(name, help, MetricType::GAUGE, metrics.collect()))
    }

    /// Totals; the name ends with `_total`.
    pub fn counter(name: &str, help: &str, values: Vec<(Labels, f64)>) -> Self {
        let metrics = values.into_iter().map(|(labels, value)| {
            let mut counter = Counter::default();
            counter.set_value(value);
            let mut metric = labelled(&borrowed(&labels));
            metric.set_counter(counter);
            metric
        });
        Self(family(name, help, MetricType::COUNTER, metrics.collect()))
    }

    /// Counts per bucket (not cumulated, one more than there are bounds) and the sum of what was counted.
    pub fn histogram(
        name: &str,
        help: &str,
        bounds: &[f64],
        values: Vec<(Labels, Vec<u64>, f64)>,
    ) -> Self {
        let metrics = values.into_iter().map(|(labels, counts, sum)| {
            let mut cumulated = 0;
            let buckets = bounds.iter().zip(&counts).map(|(bound, count)| {
                cumulated += count;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound);
                bucket.set_cumulative_count(cumulated);
                bucket
            });
            let mut histogram = Histogram::default();
            histogram.set_bucket(buckets.collect());
            histogram.set_sample_count(counts.iter().sum());
            histogram.set_sample_sum(sum);
            let mut metric = labelled(&borrowed(&labels));
            metric.set_histogram(histogram);
            metric
        });
        Self(family(name, help, MetricType::HISTOGRAM, metrics.collect()))
    }
}

fn borrowed(labels: &Labels) -> Vec<(&str, &str)> {
    labels.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(format!("pgmeridian_{name}"));
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = labelled(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = labelled(labels);
    metric.set_gauge(gauge);
    metric
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_renders() {
        routed(RouteKind::Many);
        refused(SqlState::FEATURE_NOT_SUPPORTED);
        let shard = || vec![("shard", "deu\"x".to_owned())];
        let text = render(vec![
            Family::gauge("pool_idle", "Free", vec![(shard(), 3.0)]),
            Family::histogram("took", "Time", &[0.1, 1.0], vec![(shard(), vec![1, 2, 4], 9.5)]),
        ]);
        for line in [
            "# TYPE pgmeridian_statements_total counter",
            "pgmeridian_statements_total{route=\"many\",outcome=\"ok\"} ",
            "pgmeridian_refusals_total{sqlstate=\"0A000\"} ",
            "pgmeridian_clients ",
            "pgmeridian_took_bucket{shard=\"deu\\\"x\",le=\"1\"} 3",
            "pgmeridian_took_count{shard=\"deu\\\"x\"} 7",
            "pgmeridian_pool_idle{shard=\"deu\\\"x\"} 3",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
    }
}
