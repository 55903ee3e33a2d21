//! The proxy that the demo shows: served from this process, its map swapped between chapters.

use std::net::SocketAddr;

use crate::app::Server;
use crate::config::Config;
use crate::map::ShardMap;

use super::DemoError;

/// A proxy being served; dropping it stops it.
pub(super) struct Proxy {
    server: Server,
    http: Option<SocketAddr>,
}

impl Proxy {
    /// Serves a map, whose `name` faults are told under.
    pub(super) async fn start(
        name: &str,
        map: &str,
        config: &Config,
        listen: SocketAddr,
    ) -> Result<Self, DemoError> {
        let mut config = config.clone();
        config.listen.address = listen.to_string();
        // As for clients: the usual port if nobody has it, else any.
        let usual = config.http.address.clone();
        let started = Server::start(config, parse(name, map)?).await;
        let mut server = started.map_err(|error| DemoError::Proxy(format!("{error:#}")))?;
        let http = match server.serve_http(&usual).await {
            Ok(http) => Some(http),
            Err(_) => server.serve_http("127.0.0.1:0").await.ok(),
        };
        Ok(Self { server, http })
    }

    /// Where health and metrics are.
    pub(super) fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Swaps the map for another one; clients stay connected.
    pub(super) async fn swap_map(&self, map: &str) -> Result<(), DemoError> {
        let swapped = self.server.swap_map(parse("the demo's map", map)?).await;
        swapped.map(drop).map_err(|error| DemoError::Proxy(format!("{error:#}")))
    }
}

fn parse(name: &str, map: &str) -> Result<ShardMap, DemoError> {
    // Every address was replaced by a cluster's, so a variable can only be one that is missing anyway.
    let parsed = ShardMap::parse(name, map, &|variable| std::env::var(variable).ok());
    match parsed {
        Ok((map, _warnings)) => Ok(map),
        Err(faults) => Err(DemoError::Faults(faults.render(false))),
    }
}
