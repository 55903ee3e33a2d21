//! The log: text or JSON lines on stderr.

use std::io::IsTerminal;

use tracing::warn;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Starts logging at a level (`info`, `pgmeridian::backend=trace`), as text or as JSON; the environment
/// variable `PGMERIDIAN_LOG` overrides the level. A second call does nothing: the first one stays.
pub fn init_log(level: &str, json: bool) {
    let filter = std::env::var("PGMERIDIAN_LOG").ok();
    let filter = filter.as_deref().unwrap_or(level);
    // A level that can't be read should not keep the proxy from starting; the configuration's own was
    // checked before.
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let log_to = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = if json {
        log_to.json().flatten_event(true).try_init()
    } else {
        log_to.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
}

/// A user has used the right to read rows of a fenced region together with others. It is a warning, so that
/// it is not lost where a log has nothing else.
pub fn crossed_regions(user: &str, region: &str, with: &str, tables: &[String]) {
    let tables = tables.join(", ");
    warn!(user, region, with, tables, "rows of a fenced region are read together with others");
}
