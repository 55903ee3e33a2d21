//! The proxy that the demo shows: served from this process, its map swapped between chapters.

use std::net::SocketAddr;

use super::DemoError;
use crate::app::Server;
use crate::config::Config;
use crate::map::ShardMap;

/// A proxy being served.
pub(super) struct Proxy {
    server: Server,
}

impl Proxy {
    /// Serves a map.
    pub(super) async fn start(map: &str, listen: SocketAddr) -> Result<Self, DemoError> {
        let mut config = Config::default();
        config.listen.address = listen.to_string();
        let server = Server::start(config, parse(map)?)
            .await
            .map_err(|error| DemoError::Proxy(format!("{error:#}")))?;
        Ok(Self { server })
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Swaps the map for another one; clients stay connected.
    pub(super) async fn swap_map(&self, map: &str) -> Result<(), DemoError> {
        let swapped = self.server.swap_map(parse(map)?).await;
        swapped.map(|_| ()).map_err(|error| DemoError::Proxy(format!("{error:#}")))
    }

    /// Stops serving.
    pub(super) async fn shutdown(self) {
        self.server.stop();
    }
}

fn parse(map: &str) -> Result<ShardMap, DemoError> {
    let env = |name: &str| std::env::var(name).ok();
    ShardMap::parse("the demo's map", map, &env)
        .map(|(map, _)| map)
        .map_err(|faults| DemoError::Proxy(faults.render(false)))
}
