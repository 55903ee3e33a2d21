//! Scratch PostgreSQL clusters: started in a moment, gone without a trace.
//!
//! Main types: [`Cluster`] (one running server), [`Options`] (what it should be like), [`Programs`]
//! (where the server programs are). The demo, the tests and the benches share it.
//!
//! Invariants:
//! * No process and no file outlives the process that started the cluster, however it ends: see
//!   [`super::scratch`].
//! * `initdb` runs once per process; every cluster is a copy of that template.
//! * Nothing here is durable (`fsync = off`): these servers hold data for minutes.
//!
//! Deliberately absent: TLS, replication, and any way to point at a server that exists already.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

use super::scratch::Scratch;
use crate::sql::quote::quote_identifier;

/// The role that applications use on a scratch cluster; its password is the same word.
pub const ROLE: &str = "bot";
/// The database that [`ROLE`] owns.
pub const DATABASE: &str = "bots";
/// The superuser: over the Unix socket only, without a password.
pub const SUPERUSER: &str = "postgres";

/// A server that has not come up by then is not going to.
const START_MAX: Duration = Duration::from_secs(30);
/// Between two looks at `postmaster.pid`.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Another process can take the port between our look and the server's `bind`.
const PORT_ATTEMPTS_MAX: u32 = 5;

/// Written to every cluster's `postgresql.conf`; later lines win, so [`Options::settings`] can change
/// any of them.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_permissions = 0777
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum_naptime = '1h'
max_prepared_transactions = 64
wal_level = logical
max_wal_senders = 4
max_connections = 200
shared_buffers = '32MB'
dynamic_shared_memory_type = mmap
password_encryption = 'scram-sha-256'
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
";

/// Who may log in how: the superuser by the socket's permissions, everybody else by SCRAM.
const HBA: &str = "
local all postgres trust
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
";

/// Why there is no scratch cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No directory holds `initdb` and `postgres`.
    #[error(
        "PostgreSQL's server programs (initdb, postgres) were not found in PG_BINDIR, \
         `pg_config --bindir`, /usr/lib/postgresql/*/bin or PATH\n\
         hint: apt-get install postgresql"
    )]
    NoPrograms,
    /// PostgreSQL refuses to run as root, and no other user was found.
    #[error(
        "PostgreSQL refuses to run as root, and neither \"postgres\" nor \"nobody\" is in /etc/passwd\n\
         hint: run as an ordinary user, or apt-get install postgresql, which creates one"
    )]
    NoUser,
    /// A program ended badly.
    #[error("{program} failed: {output}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it said last.
        output: String,
    },
    /// The server did not become ready.
    #[error("cluster \"{name}\" did not start: {log}")]
    Start {
        /// The cluster.
        name: String,
        /// The end of its log.
        log: String,
    },
    /// A file or process operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// How it failed.
        source: std::io::Error,
    },
    /// The server refused a connection or a statement of ours.
    #[error(transparent)]
    Sql(#[from] tokio_postgres::Error),
}

/// Names an [`std::io::Error`] by what was attempted.
pub(super) fn io_error(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> ClusterError {
    let what = what.into();
    move |source| ClusterError::Io { what, source }
}

/// PostgreSQL's server programs on this machine.
#[derive(Clone, Debug)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Looks in `PG_BINDIR`, `pg_config --bindir`, Debian's `/usr/lib/postgresql/*/bin` (newest first)
    /// and `PATH`.
    pub fn find() -> Result<Self, ClusterError> {
        candidates()
            .into_iter()
            .find(|directory| {
                directory.join("initdb").is_file() && directory.join("postgres").is_file()
            })
            .map(|directory| Self { directory })
            .ok_or(ClusterError::NoPrograms)
    }

    /// Where a program is.
    pub fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }

    /// What `postgres --version` says, for people to read.
    pub fn version(&self) -> String {
        let output = Command::new(self.path("postgres")).arg("--version").output();
        output.map_or_else(
            |_| "PostgreSQL".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::env::var_os("PG_BINDIR").map(PathBuf::from).into_iter().collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output() {
        found.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let mut packaged: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .collect();
    packaged.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.extend(packaged.into_iter().map(|(_, directory)| directory));
    if let Some(path) = std::env::var_os("PATH") {
        found.extend(std::env::split_paths(&path));
    }
    found
}

/// What a scratch cluster should be like.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Its name, for people and for its directory.
    pub name: String,
    /// Its TCP port on 127.0.0.1; by default one that is free.
    pub port: Option<u16>,
    /// Databases owned by [`ROLE`] besides [`DATABASE`].
    pub databases: Vec<String>,
    /// Lines for `postgresql.conf` that win over the built-in ones.
    pub settings: Vec<(String, String)>,
    /// Lines for `pg_hba.conf` that come before the built-in ones.
    pub hba: Vec<String>,
}

impl Options {
    /// Defaults, with a name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// A running scratch cluster; dropping it stops the server and removes its directory.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    port: u16,
    directory: PathBuf,
    server: Option<Child>,
    scratch: Arc<Scratch>,
}

impl Cluster {
    /// Starts a cluster and waits until it accepts connections. Blocks for a few hundred
    /// milliseconds, the first time in a process for about two seconds (`initdb`).
    pub fn start(options: &Options) -> Result<Self, ClusterError> {
        let scratch = Scratch::shared()?;
        let directory = scratch.directory_for(&options.name)?;
        let mut cluster =
            Self { name: options.name.clone(), port: 0, directory, server: None, scratch };
        cluster.create(options)?;
        let mut last = None;
        for _ in 0..PORT_ATTEMPTS_MAX {
            cluster.port = options.port.map_or_else(free_port, Ok)?;
            match cluster.launch() {
                Ok(()) => return Ok(cluster),
                Err(ClusterError::Start { log, .. }) if log.contains("could not bind") => {
                    last = Some(log);
                }
                Err(error) => return Err(error),
            }
            if options.port.is_some() {
                break;
            }
        }
        Err(ClusterError::Start { name: options.name.clone(), log: last.unwrap_or_default() })
    }

    /// Starts several clusters at the same time.
    pub fn start_all(all: &[Options]) -> Result<Vec<Self>, ClusterError> {
        // Held so that the template made here is still there for the threads.
        let _scratch = Scratch::shared()?;
        thread::scope(|scope| {
            let starting: Vec<_> =
                all.iter().map(|options| scope.spawn(move || Self::start(options))).collect();
            starting
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|_| {
                        Err(ClusterError::Program {
                            program: "postgres",
                            output: "its starting thread panicked".to_owned(),
                        })
                    })
                })
                .collect()
        })
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn create(&self, options: &Options) -> Result<(), ClusterError> {
        self.scratch.copy_template(&self.data())?;
        let mut conf = String::from(SETTINGS);
        for (name, value) in &options.settings {
            let _ = writeln!(conf, "{name} = '{}'", value.replace('\'', "''"));
        }
        append(&self.data().join("postgresql.conf"), &conf)?;
        let mut hba = options.hba.join("\n");
        hba.push_str(HBA);
        fs::write(self.data().join("pg_hba.conf"), hba).map_err(io_error("pg_hba.conf"))?;
        if options.databases.is_empty() {
            return Ok(());
        }
        let mut create = String::new();
        for name in &options.databases {
            let _ = writeln!(create, "CREATE DATABASE {} OWNER {ROLE};", quote_identifier(name));
        }
        self.scratch.single_user(&self.data(), &create)
    }

    /// Starts the server and waits for "ready" on line 8 of `postmaster.pid`, which is what `pg_ctl -w`
    /// looks at (PostgreSQL `src/include/utils/pidfile.h`).
    fn launch(&mut self) -> Result<(), ClusterError> {
        let log_path = self.directory.join("log");
        let log = fs::File::create(&log_path).map_err(io_error("the server's log"))?;
        let also_log = log.try_clone().map_err(io_error("the server's log"))?;
        let server = self
            .scratch
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()])
            .arg("-k")
            .arg(&self.directory)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(also_log)
            .spawn()
            .map_err(io_error("starting postgres"))?;
        self.server = Some(server);
        let deadline = Instant::now() + START_MAX;
        loop {
            let lines = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            if lines.lines().nth(7).is_some_and(|state| state.trim() == "ready") {
                return Ok(());
            }
            let ended = match self.server.as_mut().map(Child::try_wait) {
                Some(Ok(None)) => false,
                Some(Ok(Some(_)) | Err(_)) | None => true,
            };
            if ended || Instant::now() > deadline {
                self.halt();
                return Err(ClusterError::Start {
                    name: self.name.clone(),
                    log: last_lines(&log_path, 6),
                });
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its Unix socket, log and data.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How an application reaches [`DATABASE`] by TCP, as [`ROLE`], with the password.
    pub fn url(&self) -> String {
        self.database_url(DATABASE)
    }

    /// The same for another database.
    pub fn database_url(&self, database: &str) -> String {
        format!("postgresql://{ROLE}:{ROLE}@127.0.0.1:{}/{database}", self.port)
    }

    /// How the superuser reaches a database, by the Unix socket.
    pub fn superuser_url(&self, database: &str) -> String {
        let host = self.directory.display().to_string().replace('/', "%2F");
        format!("postgresql://{SUPERUSER}@{host}:{}/{database}", self.port)
    }

    /// A superuser's connection.
    pub async fn connect(&self, database: &str) -> Result<tokio_postgres::Client, ClusterError> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.directory).port(self.port).user(SUPERUSER).dbname(database);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A command that runs as the server's user, in the cluster's directory; should it outlive this
    /// process, it is swept up with the server. It is out of reach of the terminal's Ctrl-C.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.scratch.command_at(program.as_ref());
        command.current_dir(&self.directory);
        command
    }

    /// Runs statements as the superuser.
    pub async fn execute(&self, database: &str, sql: &str) -> Result<(), ClusterError> {
        Ok(self.connect(database).await?.batch_execute(sql).await?)
    }

    /// Stops the server as a crash would (`pg_ctl stop -m immediate`), keeping its data.
    pub fn stop(&mut self) {
        self.halt();
    }

    /// Starts the server again on the same port and data.
    pub fn start_again(&mut self) -> Result<(), ClusterError> {
        self.halt();
        self.launch()
    }

    /// Asks the server to stop and does not wait: several clusters end sooner when all are asked first.
    pub(super) fn ask_to_stop(&mut self) {
        let Some(server) = &mut self.server else { return };
        if matches!(server.try_wait(), Ok(Some(_))) {
            return;
        }
        // SIGQUIT is an immediate shutdown; the postmaster itself kills stragglers after five seconds.
        // The shell's own `kill`, since this library has no unsafe code and not every machine has
        // /bin/kill.
        let asked = Command::new("/bin/sh")
            .args(["-c", "kill -QUIT \"$1\"", "sh", &server.id().to_string()])
            .stderr(Stdio::null())
            .status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = server.kill();
        }
    }

    fn halt(&mut self) {
        self.ask_to_stop();
        if let Some(mut server) = self.server.take() {
            let _ = server.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.halt();
        // The scratch directory goes as a whole later; what can't be removed now is removed then.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A TCP port on 127.0.0.1 that nobody listens on at the moment.
pub fn free_port() -> Result<u16, ClusterError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(io_error("a free TCP port"))
}

fn append(path: &Path, text: &str) -> Result<(), ClusterError> {
    fs::OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(io_error(path.display().to_string()))
}

fn last_lines(path: &Path, count: usize) -> String {
    let log = fs::read(path).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_cluster_comes_and_goes() {
        let mut options = Options::named("comes and goes");
        options.databases.push("second".to_owned());
        options.settings.push(("work_mem".to_owned(), "7MB".to_owned()));
        let mut cluster = Cluster::start(&options).unwrap();
        let directory = cluster.directory().to_owned();
        run(async {
            for database in [DATABASE, "second"] {
                let url = cluster.database_url(database);
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
                tokio::spawn(connection);
                client
                    .batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
                    .await
                    .unwrap();
                let row =
                    client.query_one("SELECT current_setting('work_mem')", &[]).await.unwrap();
                assert_eq!(row.get::<_, String>(0), "7MB");
            }
            cluster.execute(DATABASE, "CHECKPOINT").await.unwrap();
        });
        let port = cluster.port();
        cluster.stop();
        cluster.start_again().unwrap();
        assert_eq!(cluster.port(), port);
        run(async { cluster.execute(DATABASE, "SELECT a FROM t").await.unwrap() });
        drop(cluster);
        assert!(!directory.exists(), "{} is still there", directory.display());
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    }

    #[test]
    fn a_password_is_needed() {
        let cluster = Cluster::start(&Options::named("password")).unwrap();
        let url = cluster.url().replace("bot:bot@", "bot:wrong@");
        let error = run(tokio_postgres::connect(&url, NoTls)).err().unwrap();
        assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("28P01"));
    }
}
