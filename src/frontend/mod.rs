//! Clients: the listener, start-up and authentication, and the one loop per client.
//!
//! [`serve`] accepts on one thread's listener; [`door`] and [`tls`] take a client to its start-up packet,
//! [`auth`] lets it prove who it is ([`throttle`] slows guessing down), [`login`] does the rest up to
//! `ReadyForQuery`; [`client`] cuts frames and hands them to `exec`. What the threads share of this is the
//! [`Gate`].
//!
//! It is the only room that reads a client's socket outside of a running statement. It knows no SQL.

mod auth;
mod client;
mod door;
mod login;
mod throttle;
mod tls;

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use self::login::{Entered, Place};
pub use self::tls::{ServerTls, TlsFault};
use crate::command::Operator;
use crate::config::{AuthMethod, Config};
use crate::console;
use crate::error::{SqlError, SqlState};
use crate::exec::{Account, Executor, Worker};
use crate::observe::METRICS;
use crate::wire;
use crate::wire::backend::Severity;

/// Fewer clients than this may log in at the same time on no proxy: logging in is cheap, and after a
/// restart everybody comes at once.
const LOGINS_MIN: usize = 1000;

/// What clients pass before they are served.
#[derive(Debug)]
pub struct Gate {
    /// TLS, where it is set up.
    pub tls: Option<Arc<ServerTls>>,
    throttle: throttle::Throttle,
    /// Clients that are logging in, and how many may.
    logins: Arc<AtomicUsize>,
    logins_max: usize,
    /// With md5: users that don't exist are asked for a password as most of the others are.
    strangers_by_md5: bool,
}

impl Gate {
    /// Reads the certificate, if there is one.
    ///
    /// # Errors
    ///
    /// It can't be used.
    pub fn new<'a>(
        config: &Config,
        accounts: impl IntoIterator<Item = &'a Account>,
    ) -> Result<Self, TlsFault> {
        let tls = config.listen.tls.as_ref().map(ServerTls::load).transpose()?;
        let mut by_md5 = 0_isize;
        for account in accounts {
            by_md5 += if account.md5.is_some() { 1 } else { -1 };
        }
        Ok(Self {
            tls: tls.map(Arc::new),
            throttle: throttle::Throttle::default(),
            logins: Arc::default(),
            logins_max: config.listen.clients_max.max(LOGINS_MIN),
            strangers_by_md5: config.auth.method == AuthMethod::Md5 && by_md5 >= 0,
        })
    }
}

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
pub async fn serve(
    worker: Arc<Worker>,
    gate: Arc<Gate>,
    operator: Arc<Operator>,
    listener: TcpListener,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = worker.shared.drain.notified() => {
                // It also wakes clients that are to go one by one.
                if worker.shared.draining.load(Ordering::Relaxed) {
                    return;
                }
                continue;
            }
        };
        match accepted {
            Ok((socket, peer)) => {
                // Without it small answers wait for acknowledgements.
                if let Err(error) = socket.set_nodelay(true) {
                    debug!(%error, "nodelay");
                }
                METRICS.client_connects.fetch_add(1, Ordering::Relaxed);
                let Some(entering) = Place::take(&gate.logins, Some(gate.logins_max)) else {
                    turn_away(&socket);
                    continue;
                };
                let (worker, gate) = (Arc::clone(&worker), Arc::clone(&gate));
                let operator = Arc::clone(&operator);
                let own = Arc::new(OnceLock::new());
                let task = Arc::clone(&own);
                // Boxed: it is soon done, and would make every client larger.
                let login = Box::pin(async move {
                    let entered = login::login(worker, &gate, socket, peer, task).await;
                    drop(entering);
                    match entered? {
                        (Entered::Client(executor), place) => Some((executor, place)),
                        (Entered::Operator(io, client), _place) => {
                            Box::pin(console::run(*io, client, operator)).await;
                            None
                        }
                    }
                });
                let spawned = tokio::spawn(attend(login));
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

/// The way of a client up to where it is served. An operator's ends there.
type Login = Pin<Box<dyn Future<Output = Option<(Box<Executor>, Place)>> + Send>>;

/// A client from its first byte to its last. Its task lives as long as the client: little is kept in it.
async fn attend(login: Login) {
    let _counted = Counted::new();
    if let Some((executor, _place)) = login.await {
        client::serve(executor).await.leave();
    }
}

/// More clients are logging in than can be served: as PostgreSQL says it, before it knows who they are.
fn turn_away(socket: &TcpStream) {
    let mut out = Vec::new();
    let error = SqlError::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already");
    wire::backend::error(&mut out, &error, Severity::Fatal);
    // A socket that is new has room for it, or its client does not read.
    let _ = socket.try_write(&out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_clients_task_is_small() {
        fn size_of_future<F>(_: fn(Login) -> F) -> usize {
            size_of::<F>()
        }
        let task = size_of_future(attend);
        assert!(task <= 264, "the task's future takes {task} bytes");
    }
}
