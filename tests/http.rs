//! Health, readiness and metrics, with a shard that goes away and comes back.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Proxy, Shards};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Status code and body.
async fn fetch(proxy: &Proxy, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(proxy.http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn wait_for(proxy: &Proxy, status: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let (_, body) = fetch(proxy, "/health").await;
        let health: Value = serde_json::from_str(&body).unwrap();
        if health["status"] == status {
            return health;
        }
        assert!(Instant::now() < deadline, "not {status}: {body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
