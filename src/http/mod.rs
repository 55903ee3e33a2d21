//! What an operator's tools ask over HTTP: health, readiness, metrics, a new map.
//!
//! | path | answer |
//! |---|---|
//! | `GET /health`, `GET /api/health` | `healthy`, `degraded` (some shard is down, or the map is not the one that is wanted) or `unhealthy` (503), as JSON |
//! | `GET /ready` | 200 once clients can be served, 503 before and while draining |
//! | `GET /metrics` | Prometheus' text format |
//! | `POST /api/admin/reload-shard-config` | reads the map again (`?force=true`: even where rows are left behind): what changed, or its faults, as JSON; with `Authorization: Bearer` and `[http] token` |
//!
//! The paths only tell what was found last, so that a scrape never waits for a shard. It never sees a
//! client's statement, and decides nothing: `command` does.

mod metrics;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::command::{Operator, Status};
use crate::map::Fault;
use crate::map::fault::Severity;
use crate::mapstore::control::SourceError;
use crate::mapstore::{Origin, ReloadError, Reloaded, SwapError};

/// Answers on a listener for ever.
pub async fn serve(operator: Arc<Operator>, listener: tokio::net::TcpListener) {
    let router = Router::new()
        .route("/health", get(report))
        .route("/api/health", get(report))
        .route("/ready", get(ready))
        .route("/metrics", get(render))
        .route("/api/admin/reload-shard-config", post(reload))
        .with_state(operator);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "HTTP is not served any more");
    }
}

async fn report(State(operator): State<Arc<Operator>>) -> impl IntoResponse {
    let code = match operator.health().status() {
        Status::Healthy | Status::Degraded => StatusCode::OK,
        Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(operator.health().report()))
}

async fn ready(State(operator): State<Arc<Operator>>) -> impl IntoResponse {
    if operator.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    if !operator.shared().store.current().catalog_known {
        return (StatusCode::SERVICE_UNAVAILABLE, "the schema has not been read yet\n");
    }
    (StatusCode::OK, "ready\n")
}

async fn render(State(operator): State<Arc<Operator>>) -> impl IntoResponse {
    let text = metrics::render(&operator);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Why someone may not use the administrative paths.
fn refused(operator: &Operator, headers: &HeaderMap) -> Option<Response> {
    if !operator.has_token() {
        let words = json!({
            "status": "error",
            "error": "administration over HTTP is closed: [http] token is not set",
        });
        return Some((StatusCode::FORBIDDEN, Json(words)).into_response());
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    if token.is_some_and(|token| operator.may(token)) {
        return None;
    }
    let words = json!({"status": "error", "error": "the bearer token is missing or wrong"});
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    Some((StatusCode::UNAUTHORIZED, challenge, Json(words)).into_response())
}

async fn reload(
    State(operator): State<Arc<Operator>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if let Some(refused) = refused(&operator, &headers) {
        return refused;
    }
    let force = query.is_some_and(|query| query.split('&').any(|word| word == "force=true"));
    match operator.reload(Origin::Http, force).await {
        Ok(reloaded) => Json(took(&reloaded)).into_response(),
        Err(error) => (refusal_code(&error), Json(refusal(&error))).into_response(),
    }
}

fn took(reloaded: &Reloaded) -> Value {
    json!({
        "status": if reloaded.unchanged { "unchanged" } else { "reloaded" },
        "version": reloaded.version,
        "changes": reloaded.changes.json(),
        "summary": reloaded.changes.summary(),
        "warnings": reloaded.warnings.iter().map(fault).collect::<Vec<_>>(),
        "problem": reloaded.problem,
    })
}

fn refusal_code(error: &ReloadError) -> StatusCode {
    match error {
        ReloadError::Load(SourceError::Faults(_)) => StatusCode::UNPROCESSABLE_ENTITY,
        ReloadError::Load(SourceError::File { .. }) => StatusCode::INTERNAL_SERVER_ERROR,
        ReloadError::NoFile | ReloadError::Swap(SwapError::Stranded(_)) => StatusCode::CONFLICT,
        ReloadError::Load(SourceError::Control { .. })
        | ReloadError::Swap(SwapError::Schema(_) | SwapError::NotAsked(_)) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

fn refusal(error: &ReloadError) -> Value {
    let faults: Vec<Value> = match error {
        ReloadError::Load(SourceError::Faults(faults)) => faults.iter().map(fault).collect(),
        _ => Vec::new(),
    };
    json!({"status": "refused", "error": error.line(), "faults": faults})
}

fn fault(fault: &Fault) -> Value {
    let (line, column) = fault.position();
    json!({
        "severity": match fault.severity() {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "file": fault.file(),
        "line": line,
        "column": column,
        "message": fault.message(),
        "hint": fault.hint_text(),
    })
}
