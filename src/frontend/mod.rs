//! Clients: the listener, start-up and authentication, and the one loop per client.
//!
//! [`serve`] accepts on one thread's listener; [`login`] takes a client from its first packet to
//! `ReadyForQuery`; [`client`] cuts frames and hands them to `exec`. It is the only room that reads a
//! client's socket outside of a running statement. It knows no SQL.

mod client;
mod login;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use tokio::net::TcpListener;
use tracing::{debug, warn};

use crate::exec::Worker;
use crate::observe::METRICS;

/// A connected client, also if its task is ended from outside.
struct Counted;

impl Counted {
    fn new() -> Self {
        METRICS.clients.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        METRICS.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts clients until the process drains; each gets a task of its own on this thread.
pub async fn serve(worker: Arc<Worker>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = worker.shared.drain.notified() => return,
        };
        match accepted {
            Ok((socket, peer)) => {
                // Without it small answers wait for acknowledgements.
                if let Err(error) = socket.set_nodelay(true) {
                    debug!(%error, "nodelay");
                }
                METRICS.client_connects.fetch_add(1, Ordering::Relaxed);
                let worker = Arc::clone(&worker);
                let own = Arc::new(OnceLock::new());
                let task = Arc::clone(&own);
                let spawned = tokio::spawn(async move {
                    let _counted = Counted::new();
                    // Boxed: it is soon done, and would make every client larger.
                    let login = Box::pin(login::login(worker, socket, peer, task)).await;
                    if let Some(executor) = login {
                        client::run(executor).await;
                    }
                });
                let _ = own.set(spawned.abort_handle());
            }
            Err(error) => {
                // Out of descriptors, most likely: a short pause lets some close.
                warn!(%error, "a client could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}
