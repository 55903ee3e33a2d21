//! Scratch clusters, sample data, the tour: all of pgmeridian on one machine, with one command.
//!
//! [`run`] starts PostgreSQL servers ([`cluster`]), serves a shard map over them from this process,
//! creates the sample tables and loads the rows *through the proxy*, then either serves until Ctrl-C or
//! runs the tour and ends.
//!
//! Invariants: it leaves no process and no file behind (see `scratch`); everything it shows was really
//! run; a step of the tour that does not go as announced makes the tour fail, so that it is a test, too.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::config::Config;
use cluster::{Cluster, ClusterError, DATABASE, Options as ClusterOptions, Programs, ROLE};
use maps::Shard;
use proxy::Proxy;
use screen::Screen;

pub mod cluster;
mod load;
mod maps;
mod proxy;
mod sample;
mod scratch;
mod screen;
mod tour;

/// Where clients expect the proxy; taken when it is free.
const PORT_PREFERRED: u16 = 6432;
/// More clusters than this on one machine show nothing new.
const SHARDS_MAX: usize = 16;

/// What `pgmeridian demo` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many clusters; a map from a file has its own number.
    pub shards: usize,
    /// A map to serve instead of the demo's; the addresses of its shards are replaced.
    pub map: Option<PathBuf>,
    /// The proxy's settings, all but where it listens; it must take the demo's own user without TLS.
    pub config: Option<PathBuf>,
    /// Run the tour, then end.
    pub tour: bool,
    /// With the tour: go on serving after it.
    pub keep: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { shards: 3, map: None, config: None, tour: false, keep: false }
    }
}

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No scratch cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The proxy could not serve.
    #[error("the proxy did not start: {0}")]
    Proxy(String),
    /// A map file that can't be used.
    #[error("{path}: {fault}")]
    Map {
        /// The file.
        path: String,
        /// What is wrong.
        fault: String,
    },
    /// The faults of a map, each with its place.
    #[error("{0}")]
    Faults(String),
    /// A statement of the demo's own failed.
    #[error("{statement}: {}", describe(.source))]
    Statement {
        /// Its beginning.
        statement: String,
        /// What the proxy or a shard said.
        source: tokio_postgres::Error,
    },
    /// Wrong usage.
    #[error("{0}")]
    Usage(String),
    /// The runtime or a signal could not be had.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// An error of the server in one line, which `tokio_postgres::Error` itself does not give.
fn describe(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || error.to_string(),
        |said| format!("{} (SQLSTATE {})", said.message(), said.code().code()),
    )
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Done,
    /// Steps of the tour did not go as announced.
    Surprised,
}

/// Runs the demo to its end, or to Ctrl-C. Blocks; it has a runtime of its own.
pub fn run(options: &Options) -> Result<Outcome, DemoError> {
    if options.shards == 0 || options.shards > SHARDS_MAX {
        return Err(DemoError::Usage(format!("--shards takes 1 to {SHARDS_MAX}")));
    }
    if options.tour && (options.map.is_some() || options.shards != 3) {
        let why = "--tour brings its own maps over three shards: leave out --map and --shards";
        return Err(DemoError::Usage(why.to_owned()));
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // Whatever is dropped unfinished cleans up behind itself: clusters stop when they are dropped.
    runtime.block_on(async {
        tokio::select! {
            outcome = play(options) => outcome,
            signal = interrupted() => signal.map(|()| Outcome::Done),
        }
    })
}

/// Ctrl-C, or SIGTERM.
async fn interrupted() -> Result<(), DemoError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// What is on stage: the clusters, the shards as maps name them, the proxy over them.
struct Stage {
    screen: Screen,
    // Before the clusters: fields are dropped in this order.
    proxy: Proxy,
    clusters: Vec<Cluster>,
    shards: Vec<Shard>,
}

async fn play(options: &Options) -> Result<Outcome, DemoError> {
    let stage = Stage::set(options).await?;
    let mut outcome = Outcome::Done;
    if options.tour {
        outcome = tour::run(&stage).await?;
    } else {
        stage.fill(options).await?;
    }
    if !options.tour || options.keep {
        stage.say_how_to_play();
        std::future::pending::<()>().await;
    }
    Ok(outcome)
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.clusters.iter_mut().for_each(Cluster::ask_to_stop);
    }
}

impl Stage {
    /// Starts the clusters and the proxy.
    async fn set(options: &Options) -> Result<Self, DemoError> {
        let screen = Screen::new();
        let config = options.config.as_deref().map(Config::load).transpose();
        let config = config.map_err(|faults| DemoError::Faults(faults.to_string()))?;
        let config = config.unwrap_or_default();
        let file = match &options.map {
            Some(path) => Some((path, read_map(path)?)),
            None => None,
        };
        let named = match &file {
            Some((path, text)) => {
                maps::file_shards(path, text)?.into_iter().map(|name| (name, "")).collect()
            }
            None => maps::names(options.shards),
        };
        let version = Programs::find()?.version();
        let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        screen.line(&format!("starting {} × {version}: {}", names.len(), names.join(", ")));
        let clusters = start_clusters(&names).await?;
        let shards: Vec<Shard> = named
            .into_iter()
            .zip(&clusters)
            .map(|((name, region), cluster)| Shard { name, region, url: cluster.url() })
            .collect();
        let (name, map) = match &file {
            Some((path, text)) => {
                (path.display().to_string(), maps::relocate(path, text, &clusters)?)
            }
            None => ("the demo's map".to_owned(), maps::hash(&shards)),
        };
        // The usual port if nobody has it, else any. Whatever else is wrong shows the second time too.
        let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_PREFERRED));
        let proxy = match Proxy::start(&name, &map, &config, usual).await {
            Ok(proxy) => proxy,
            Err(_) => Proxy::start(&name, &map, &config, (Ipv4Addr::LOCALHOST, 0).into()).await?,
        };
        let stage = Self { screen, proxy, clusters, shards };
        stage.create_tables().await?;
        Ok(stage)
    }

    /// A client's connection to the proxy.
    async fn connect(&self) -> Result<tokio_postgres::Client, DemoError> {
        let url = self.client_url();
        let (client, connection) =
            tokio_postgres::connect(&url, NoTls).await.map_err(|source| DemoError::Statement {
                statement: format!("connecting to {url}"),
                source,
            })?;
        tokio::spawn(connection);
        Ok(client)
    }

    fn client_url(&self) -> String {
        format!("postgresql://{ROLE}:{ROLE}@{}/{DATABASE}", self.proxy.address())
    }

    /// The sample data under the map that is served. A map from a file may place it otherwise or refuse
    /// it; then the tables stay as empty as the map wants them.
    async fn fill(&self, options: &Options) -> Result<(), DemoError> {
        match self.load().await {
            Ok(rows) => {
                self.screen.line(&format!(
                    "loaded {rows} rows of {} tenants through the proxy",
                    sample::TENANTS
                ));
                Ok(())
            }
            Err(error) if options.map.is_some() => {
                self.screen.line(&format!("this map does not take the sample data: {error}"));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn say_how_to_play(&self) {
        let screen = &self.screen;
        screen.heading("serving until Ctrl-C", "Paste into another terminal:");
        screen.line("");
        screen.line(&format!("  psql {}", self.client_url()));
        screen.line("");
        screen.line("and there:");
        screen.line("");
        for line in [
            "EXPLAIN (ROUTE) SELECT * FROM users WHERE tenant_id = 42;",
            "SELECT username, email FROM users WHERE tenant_id = 42;",
            "SELECT id, name FROM tenants WHERE id IN (1, 2, 3);",
            "SET pgmeridian.trace = on;   -- every statement says where it went",
            "SET pgmeridian.shard = 'usa-east';   -- look at one shard alone",
        ] {
            screen.line(&format!("  {line}"));
        }
        screen.line("");
        screen.line("The operator's console, health and metrics:");
        let console = self.client_url().replace(&format!("/{DATABASE}"), "/pgmeridian");
        screen.line(&format!("  psql {console} -c 'SHOW HELP'"));
        if let Some(http) = self.proxy.http() {
            screen.line(&format!("  curl http://{http}/health http://{http}/metrics"));
        }
        screen.line("");
        screen.line("The shards themselves:");
        for cluster in &self.clusters {
            screen.line(&format!("  {:<10} psql {}", cluster.name(), cluster.url()));
        }
    }
}

fn read_map(path: &Path) -> Result<String, DemoError> {
    std::fs::read_to_string(path).map_err(|error| DemoError::Map {
        path: path.display().to_string(),
        fault: error.to_string(),
    })
}

async fn start_clusters(names: &[&str]) -> Result<Vec<Cluster>, DemoError> {
    let options: Vec<ClusterOptions> =
        names.iter().map(|name| ClusterOptions::named(*name)).collect();
    let starting = tokio::task::spawn_blocking(move || Cluster::start_all(&options));
    let clusters = starting.await.map_err(|error| DemoError::Proxy(error.to_string()))?;
    Ok(clusters?)
}

/// What one statement answered.
#[derive(Default)]
struct Reply {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    affected: u64,
}

/// Runs a statement in the simple protocol, as psql would.
async fn ask(client: &tokio_postgres::Client, sql: &str) -> Result<Reply, tokio_postgres::Error> {
    let mut reply = Reply::default();
    for message in client.simple_query(sql).await? {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                reply.columns = columns.iter().map(|column| column.name().to_owned()).collect();
            }
            SimpleQueryMessage::Row(row) => {
                let cell = |index| row.get(index).unwrap_or("∅").to_owned();
                reply.rows.push((0..row.len()).map(cell).collect());
            }
            SimpleQueryMessage::CommandComplete(count) => reply.affected = count,
            _ => {}
        }
    }
    Ok(reply)
}
