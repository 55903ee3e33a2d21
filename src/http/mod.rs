//! What an operator's tools ask over HTTP: health, readiness, metrics.
//!
//! | path | answer |
//! |---|---|
//! | `GET /health`, `GET /api/health` | `healthy`, `degraded` (some shard is down) or `unhealthy` (503), as JSON |
//! | `GET /ready` | 200 once clients can be served, 503 before and while draining |
//! | `GET /metrics` | Prometheus' text format |
//!
//! [`watch`] asks every shard now and then; the paths only tell what was found last, so that a scrape never
//! waits for a shard. It never sees a client's statement.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Map, Value, json};

use crate::backend::{Target, connect};
use crate::exec::Shared;
use crate::observe::{self, METRICS};

/// What is known of the shards' health.
pub struct Health {
    shared: Arc<Shared>,
    started: Instant,
    /// Name and finding (`ok`, or what went wrong), in the map's order.
    found: Mutex<Vec<(String, String)>>,
}

/// How the proxy is, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Healthy,
    Degraded,
    Unhealthy,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl Health {
    /// Nothing is known yet.
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared, started: Instant::now(), found: Mutex::default() })
    }

    fn found(&self) -> Vec<(String, String)> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn status(&self) -> Status {
        let found = self.found();
        let ok = found.iter().filter(|(_, finding)| finding == "ok").count();
        match ok {
            _ if !self.shared.store.current().catalog_known => Status::Unhealthy,
            0 => Status::Unhealthy,
            ok if ok < found.len() => Status::Degraded,
            _ => Status::Healthy,
        }
    }

    fn report(&self) -> Value {
        let checks: Map<String, Value> =
            self.found().into_iter().map(|(shard, finding)| (shard, finding.into())).collect();
        json!({
            "status": self.status().word(),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime": self.started.elapsed().as_secs(),
            "checks": checks,
            "metrics": {
                "clients": METRICS.clients.load(Ordering::Relaxed),
                "map_version": self.shared.store.current().map.version(),
            },
        })
    }

    /// Asks every shard once.
    async fn look(&self) {
        let world = self.shared.store.current();
        let timeout = self.shared.config.health.timeout;
        let mut found = Vec::new();
        for shard in world.map.shards() {
            let target = Arc::new(Target::from(&shard.url));
            let finding = match ask(&target, timeout).await {
                Ok(()) => "ok".to_owned(),
                Err(error) => error.sql_error(&shard.name).message,
            };
            found.push((shard.name.clone(), finding));
        }
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

/// Logs in and asks for one.
async fn ask(target: &Arc<Target>, timeout: Duration) -> Result<(), crate::backend::BackendError> {
    let mut connection = connect(target, &[], timeout).await?;
    let asked = connection.simple_query("SELECT 1");
    match tokio::time::timeout(timeout, asked).await {
        Ok(outcome) => outcome.map(|_| ()),
        Err(_) => Err(crate::backend::BackendError::ConnectTimeout(timeout)),
    }
}

/// Asks the shards for ever, every `[health] interval`.
pub async fn watch(health: Arc<Health>) {
    let mut ticks = tokio::time::interval(health.shared.config.health.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        health.look().await;
    }
}

/// Answers on a listener for ever.
pub async fn serve(health: Arc<Health>, listener: tokio::net::TcpListener) {
    let router = Router::new()
        .route("/health", get(report))
        .route("/api/health", get(report))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "HTTP is not served any more");
    }
}

async fn report(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let code = match health.status() {
        Status::Healthy | Status::Degraded => StatusCode::OK,
        Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, axum::Json(health.report()))
}

async fn ready(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let shared = &health.shared;
    if shared.draining.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    if !shared.store.current().catalog_known {
        return (StatusCode::SERVICE_UNAVAILABLE, "the schema has not been read yet\n");
    }
    (StatusCode::OK, "ready\n")
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let found = health.found();
    let up = found.iter().map(|(shard, finding)| {
        (vec![("shard", shard.as_str())], f64::from(u8::from(finding == "ok")))
    });
    let gauges = [("shard_up", "The shard answered when it was last asked", up.collect())];
    let text = observe::render(&gauges);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
