//! How the shards are: asked now and then, so that whoever wants to know never waits for one.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::backend::{BackendError, Target, connect};
use crate::exec::Shared;
use crate::observe::METRICS;

/// What is known of the shards' health.
pub struct Health {
    shared: Arc<Shared>,
    started: Instant,
    /// Name and finding (`ok`, or what went wrong), in the map's order.
    found: Mutex<Vec<(String, String)>>,
}

/// How the proxy is, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Every shard answers, and the map is the one that is wanted.
    Healthy,
    /// Some shard does not; or the last map was refused, or the control database can't be followed; or something is
    /// prepared that can't be finished.
    Degraded,
    /// None does, or the schema is unknown.
    Unhealthy,
}

impl Status {
    /// In a word.
    pub fn word(self) -> &'static str {
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

    /// Name and finding (`ok`, or what went wrong) of each shard, as it was last asked.
    pub fn found(&self) -> Vec<(String, String)> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long the proxy runs.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// All in all.
    pub fn status(&self) -> Status {
        let found = self.found();
        let ok = found.iter().filter(|(_, finding)| finding == "ok").count();
        match ok {
            _ if !self.shared.store.current().catalog_known => Status::Unhealthy,
            0 => Status::Unhealthy,
            ok if ok < found.len() => Status::Degraded,
            _ if self.shared.store.problem().is_some() => Status::Degraded,
            _ if !self.shared.commits.doubts().is_empty() => Status::Degraded,
            _ => Status::Healthy,
        }
    }

    /// In contract's form.
    pub fn report(&self) -> Value {
        let checks: Map<String, Value> =
            self.found().into_iter().map(|(shard, finding)| (shard, finding.into())).collect();
        let problem = self.shared.store.problem().map(|(what, _)| what);
        json!({
            "status": self.status().word(),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime": self.uptime().as_secs(),
            "checks": checks,
            "map": problem.as_deref().unwrap_or("ok"),
            "metrics": {
                "clients": METRICS.clients.load(Ordering::Relaxed),
                "connections": self.shared.books.connections().len(),
                "map_version": self.shared.store.current().map.version(),
                "in_doubt": self.shared.commits.doubts().len(),
            },
        })
    }

    /// Asks the shards for ever, every `[health] interval`.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(self.shared.config.health.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // How often in a row each shard has not answered.
        let mut failures = HashMap::new();
        loop {
            ticks.tick().await;
            self.look(&mut failures).await;
        }
    }

    /// Asks every shard once, all at the same time. One that was well is called ill only after
    /// `[health] retries` failures in a row; one that never was, at once.
    async fn look(&self, failures: &mut HashMap<String, u32>) {
        let world = self.shared.store.current();
        let settings = self.shared.config.health;
        let mut asked = Vec::new();
        for shard in world.map.shards() {
            let target = self.shared.books.target(&shard.url);
            asked.push(tokio::spawn(async move { ask(&target, settings.timeout).await }));
        }
        let before: HashMap<String, String> = self.found().into_iter().collect();
        let mut found = Vec::new();
        for (shard, asked) in world.map.shards().iter().zip(asked) {
            let asked = asked.await;
            self.shared.books.shard(&shard.name).note_health(matches!(asked, Ok(Ok(()))));
            let finding = match asked {
                Ok(Ok(())) => {
                    failures.remove(&shard.name);
                    "ok".to_owned()
                }
                Ok(Err(error)) => {
                    let failed = failures.entry(shard.name.clone()).or_default();
                    *failed += 1;
                    let was_well = before.get(&shard.name).is_some_and(|finding| finding == "ok");
                    if was_well && *failed < settings.retries {
                        "ok".to_owned()
                    } else {
                        error.sql_error(&shard.name).message
                    }
                }
                Err(_) => "could not be asked".to_owned(),
            };
            found.push((shard.name.clone(), finding));
        }
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

/// Logs in and asks for one.
async fn ask(target: &Arc<Target>, timeout: Duration) -> Result<(), BackendError> {
    let mut connection = connect(target, &[], timeout).await?;
    let asked = connection.simple_query("SELECT 1");
    match tokio::time::timeout(timeout, asked).await {
        Ok(outcome) => outcome.map(|_| ()),
        Err(_) => Err(BackendError::ConnectTimeout(timeout)),
    }
}
