//! Health, readiness and metrics, with a shard that goes away and comes back.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod support;

use serde_json::Value;
use support::{Proxy, Shards, eventually, http};

/// Status code and body.
async fn fetch(proxy: &Proxy, path: &str) -> (u16, String) {
    http(proxy.http, "GET", path, None).await
}

async fn wait_for(proxy: &Proxy, status: &str) -> Value {
    eventually(status, async || {
        let (_, body) = fetch(proxy, "/health").await;
        let health: Value = serde_json::from_str(&body).unwrap();
        if health["status"] == status { Ok(health) } else { Err(body) }
    })
    .await
}

#[tokio::test]
async fn health_tells_the_truth_about_each_shard() {
    let mut shards = Shards::clusters(2);
    shards.run_on_all("CREATE TABLE notes (tenant_id bigint NOT NULL, body text)").await;
    let config = "[health]\ninterval = \"200ms\"\ntimeout = \"2s\"\n";
    let proxy = Proxy::start_with(&shards, &shards.map_by_hash(""), config).await;
    let health = wait_for(&proxy, "healthy").await;
    assert_eq!(health["checks"]["usa-east"], "ok");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(fetch(&proxy, "/ready").await, (200, "ready\n".to_owned()));
    assert_eq!(fetch(&proxy, "/no-such-path").await.0, 404);

    let client = proxy.connect().await;
    client.query("SELECT * FROM notes WHERE tenant_id = 1", &[]).await.unwrap();
    let (code, metrics) = fetch(&proxy, "/metrics").await;
    assert_eq!(code, 200);
    assert!(
        metrics.contains("pgmeridian_statements_total{route=\"one\",outcome=\"ok\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("pgmeridian_shard_up{shard=\"usa-west\"} 1"), "{metrics}");
    assert!(metrics.contains("pgmeridian_clients 1"), "{metrics}");

    shards.cluster("usa-west").stop();
    let health = wait_for(&proxy, "degraded").await;
    assert_ne!(health["checks"]["usa-west"], "ok");
    assert!(!health.to_string().contains("postgresql://"), "{health}");
    shards.cluster("usa-west").start_again().unwrap_or_else(|error| panic!("{error}"));
    wait_for(&proxy, "healthy").await;
}
