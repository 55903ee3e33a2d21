//! The wiring: accounts, threads, listeners, the end.
//!
//! [`Server::start`] brings a proxy up on its own threads and returns when it accepts clients;
//! [`Server::shutdown`] lets running transactions finish. `cli` and `demo` are its users, tests too.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use crate::command::{Health, Operator};
use crate::config::{AuthMethod, Config, User, users_of};
use crate::exec::{Account, Shared, Worker, recovery, timeouts};
use crate::frontend;
use crate::http;
use crate::map::ShardMap;
use crate::mapstore::control::Source;
use crate::mapstore::{FileWatch, Origin, ReloadError, Reloaded, Store};

/// Clients that the kernel may hold before they are accepted.
const BACKLOG: i32 = 1024;

/// How often the schema is compared with what is known of it. Reading it takes some milliseconds of the
/// default shard's time.
const SCHEMA_INTERVAL: Duration = Duration::from_secs(10);

/// How often the certificate's files are looked at: it costs a system call for each.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(1);

/// How often idle connections are looked through, and the schema is tried again while it is unknown.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// A proxy that ends takes leave of the others within this time.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// One that stops at once.
const LEAVE_TIMEOUT_AT_ONCE: Duration = Duration::from_secs(1);

/// A running proxy.
pub struct Server {
    shared: Arc<Shared>,
    gate: Arc<frontend::Gate>,
    operator: Arc<Operator>,
    address: SocketAddr,
    stop: Arc<Notify>,
    threads: Vec<JoinHandle<()>>,
    accepting: Arc<AtomicBool>,
    /// On the runtime that started the server, until it ends.
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Server {
    /// Starts serving a map.
    ///
    /// # Errors
    ///
    /// The address can't be listened on; the configuration has no user who could log in.
    pub async fn start(config: Config, map: ShardMap) -> Result<Self> {
        let address = resolve(&config.listen.address)?;
        let accounts = accounts(&config, &map, address)?;
        let gate = Arc::new(
            frontend::Gate::new(&config, accounts.values())
                .context("[listen] tls can't be used")?,
        );
        let store = Arc::new(Store::new(map));
        let shared = Arc::new(Shared::new(store, config, accounts));
        if let Err(error) = shared.store.read_catalog().await {
            warn!(
                %error,
                "the schema can't be read from the default shard yet; it is tried again with the first statement"
            );
        }
        let listener = listen(address)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(Notify::new());
        let accepting = Arc::new(AtomicBool::new(true));
        let health = Health::new(Arc::clone(&shared));
        let operator = Arc::new(Operator::new(Arc::clone(&shared), Arc::clone(&health)));
        let thread =
            client_thread(Arc::clone(&operator), Arc::clone(&gate), listener, Arc::clone(&stop))?;
        let mut tasks = vec![
            tokio::spawn(follow_schema(Arc::clone(&shared))),
            tokio::spawn(timeouts::watch(Arc::clone(&shared))),
            tokio::spawn(recovery::watch(Arc::clone(&shared))),
            tokio::spawn(health.watch()),
        ];
        if let Some(tls) = &gate.tls {
            tasks.push(tokio::spawn(follow_certificate(Arc::clone(tls))));
        }
        let threads = vec![thread];
        Ok(Self { shared, gate, operator, address, stop, threads, accepting, tasks })
    }

    /// Serves health and metrics too, on this runtime, until the server ends; where.
    ///
    /// # Errors
    ///
    /// The address can't be listened on.
    pub async fn serve_http(&mut self, address: &str) -> Result<SocketAddr> {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .with_context(|| format!("{address} can't be listened on for HTTP"))?;
        let address = listener.local_addr()?;
        self.tasks.push(tokio::spawn(http::serve(Arc::clone(&self.operator), listener)));
        Ok(address)
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What all threads share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Swaps the map for another one. Clients stay connected; what runs finishes on the old map.
    ///
    /// # Errors
    ///
    /// The schema can't be read from the new default shard; nothing is swapped then.
    pub async fn swap_map(&self, map: ShardMap) -> Result<u64> {
        let world = self.shared.store.swap_map(map).await?;
        info!(version = world.map.version(), "the map was swapped");
        Ok(world.map.version())
    }

    /// Reads the certificate for clients again; whether there is one.
    ///
    /// # Errors
    ///
    /// It can't be used; the old one stays.
    pub fn reload_certificate(&self) -> Result<bool> {
        let Some(tls) = &self.gate.tls else { return Ok(false) };
        tls.reload()?;
        Ok(true)
    }

    /// The map was loaded from here just now. It is loaded again whenever its file changes, and its control
    /// tables are followed, until the server ends.
    pub async fn follow(&mut self, source: &Arc<Source>) {
        let store = Arc::clone(&self.shared.store);
        let mut watch = FileWatch::new(source.path());
        store.came_from(Arc::clone(source), watch.checksum()).await;
        self.tasks.push(tokio::spawn(Arc::clone(source).follow(Arc::clone(&store))));
        let books = Arc::clone(&self.shared.books);
        self.tasks.push(tokio::spawn(Arc::clone(source).acknowledge(Arc::clone(&store), books)));
        self.tasks.push(tokio::spawn(async move {
            loop {
                watch.changed().await;
                // A server that is away comes back; a fault does not go by itself.
                if store.reload(Origin::File, false).await.is_err_and(|error| error.passes()) {
                    watch.again();
                }
            }
        }));
    }

    /// Reads the map's file again. What comes of it is logged and remembered.
    ///
    /// # Errors
    ///
    /// See [`ReloadError`]; the old map stays.
    pub async fn reload(&self, origin: Origin) -> Result<Reloaded, ReloadError> {
        self.shared.store.reload(origin, false).await
    }

    /// Returns when a client that may do so has asked for the end.
    pub async fn shutdown_asked(&self) {
        self.shared.shutdown.notified().await;
    }

    /// Stops accepting, lets what runs finish for at most `limits.drain_timeout`, then closes everything.
    pub async fn shutdown(mut self) {
        self.drain().await;
        self.leave(LEAVE_TIMEOUT).await;
        self.end();
    }

    /// Closes everything at once.
    pub async fn stop(mut self) {
        self.end();
        self.leave(LEAVE_TIMEOUT_AT_ONCE).await;
    }

    /// The other proxies need not wait for this one.
    async fn leave(&self, within: Duration) {
        if let Some(source) = self.shared.store.source() {
            source.leave(within).await;
        }
    }

    async fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + self.shared.config.limits.drain_timeout;
        while !self.shared.cancels.is_empty() && Instant::now() < deadline {
            self.shared.drain.notify_waiters();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn end(&mut self) {
        if !self.accepting.swap(false, Ordering::Relaxed) {
            return;
        }
        self.tasks.drain(..).for_each(|task| task.abort());
        self.stop.notify_one();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                warn!("a client thread ended badly");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn resolve(address: &str) -> Result<SocketAddr> {
    address
        .to_socket_addrs()
        .with_context(|| format!("the listen address \"{address}\" can't be read"))?
        .next()
        .with_context(|| format!("the listen address \"{address}\" has no host"))
}

/// Who may log in: the configured users, or those of the shards' URLs.
fn accounts(
    config: &Config,
    map: &ShardMap,
    address: SocketAddr,
) -> Result<HashMap<String, Account>> {
    let users: Vec<User> = if config.users.is_empty() {
        if !address.ip().is_loopback() {
            bail!(
                "without [[users]] the proxy listens on the loopback interface only, not on {address}\n\
                 hint: name the users in pgmeridian.toml, or listen on 127.0.0.1"
            );
        }
        let home = map.shard(map.default_shard());
        let urls = home.into_iter().chain(map.shards()).map(|shard| &shard.url);
        let targets: Vec<crate::backend::Target> = urls.map(std::convert::Into::into).collect();
        users_of(targets.iter().map(|target| (target.user.as_str(), &target.password)))
    } else {
        config.users.clone()
    };
    Ok(users
        .into_iter()
        .map(|user| (user.name.clone(), Account::new(user, config.auth.method == AuthMethod::Md5)))
        .collect())
}

/// Takes a renewed certificate when its files change.
async fn follow_certificate(tls: Arc<frontend::ServerTls>) {
    loop {
        tokio::time::sleep(CERTIFICATE_INTERVAL).await;
        match tls.follow() {
            Ok(true) => info!("the certificate for clients has changed and was read again"),
            Ok(false) => {}
            Err(error) => warn!(
                %error,
                "the certificate for clients has changed and can't be used; the old one stays"
            ),
        }
    }
}

/// Notices changes of the schema that were not made through this proxy.
async fn follow_schema(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(SCHEMA_INTERVAL).await;
        let others = shared.stores();
        // Of a database that nobody has asked anything of yet, nothing need be known.
        let others = others.iter().filter(|store| store.current().catalog_known);
        for store in std::iter::once(&shared.store).chain(others) {
            let database = store.current().map.database().to_owned();
            match store.follow_catalog().await {
                Ok(true) => info!(database, "the schema has changed and was read again"),
                Ok(false) => {}
                // Whoever watches the shards says so louder.
                Err(error) => debug!(%error, database, "the schema could not be read"),
            }
        }
    }
}

fn listen(address: SocketAddr) -> Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket
        .bind(&address.into())
        .and_then(|()| socket.listen(BACKLOG))
        .with_context(|| format!("{address} can't be listened on"))?;
    Ok(socket.into())
}

/// One thread with a runtime of its own: all its clients and connections live on it.
fn client_thread(
    operator: Arc<Operator>,
    gate: Arc<frontend::Gate>,
    listener: std::net::TcpListener,
    stop: Arc<Notify>,
) -> Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("clients".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return warn!(%error, "the listener is lost"),
            };
            let worker = Arc::new(Worker::new(Arc::clone(operator.shared())));
            operator.shared().enlist(&worker);
            tokio::spawn(frontend::serve(Arc::clone(&worker), gate, operator, listener));
            let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
            loop {
                tokio::select! {
                    () = stop.notified() => return,
                    _ = sweep.tick() => worker.sweep(Instant::now()),
                }
            }
        });
        // Connections close as their tasks are dropped.
        drop(runtime);
    })?;
    Ok(thread)
}
