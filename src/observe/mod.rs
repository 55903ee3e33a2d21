//! Logs and counters: all their names in one place.
//!
//! [`init_log`] sets up tracing once per process; [`METRICS`] are plain atomics, counted where things
//! happen and turned into Prometheus' text only when someone asks ([`render`]).
//!
//! Absent: what each shard, tenant or statement took; it has no place in a fixed set of counters.

mod log;
mod metrics;

pub use self::log::{crossed_regions, init_log};
pub use self::metrics::{
    Family, Labels, METRICS, Metrics, RouteKind, add, failed, pinned, refused, render, routed,
};
