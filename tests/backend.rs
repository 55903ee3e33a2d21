//! Connections and pools against a real PostgreSQL: every way of logging in, the control path, leases,
//! cancel, a server that goes away and comes back; and servers that lie.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pgmeridian::backend::{
    Accepted, BackendError, Host, Login, PoolSettings, Pools, ShardPools, SslMode, Target,
    TlsOptions, connect,
};
use pgmeridian::config::{Config, Secret};
use pgmeridian::error::SqlState;
use pgmeridian::map::ShardId;
use pgmeridian::wire::{frame, frontend};

const SHARD: ShardId = ShardId(0);
const TIMEOUT: Duration = Duration::from_secs(5);

const HBA: &str = "
local all postgres trust
local all trusted trust
local all scram scram-sha-256
host all plain 127.0.0.1/32 password
host all hashed 127.0.0.1/32 md5
host all scram 127.0.0.1/32 scram-sha-256
host all trusted 127.0.0.1/32 trust
host all refused 127.0.0.1/32 reject
host all elsewhere 127.0.0.1/32 ident
";

const ROLES: &str = "
SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN PASSWORD 'geheim';
SET password_encryption = 'scram-sha-256'; CREATE ROLE scram LOGIN PASSWORD 'gehéim\u{a0}x';
CREATE ROLE plain LOGIN PASSWORD 'geheim'; CREATE ROLE trusted LOGIN SUPERUSER;
CREATE ROLE refused LOGIN; CREATE ROLE elsewhere LOGIN;
";

/// A scratch server that ends with its value.
struct Server {
    directory: tempfile::TempDir,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("pgm-backend").tempdir_in("/tmp").unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { directory, port };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(server.path()));
        }
        let data = server.data();
        run(as_postgres("initdb").args(["-A", "trust", "-U", "postgres", "-N", "-D"]).arg(&data));
        std::fs::write(data.join("pg_hba.conf"), HBA).unwrap();
        server.up();
        let mut psql = Command::new("psql");
        psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-c", ROLES, "-h"]);
        run(psql.arg(server.path()).args(["-p", &port.to_string()]));
        server
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn up(&self) {
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=40",
            self.port,
            self.path().display()
        );
        let log = self.path().join("log");
        let mut start = as_postgres("pg_ctl");
        start.args(["start", "-w", "-o", &options, "-l"]).arg(log).arg("-D").arg(self.data());
        run(&mut start);
    }

    fn down(&self, mode: &str) -> Output {
        as_postgres("pg_ctl")
            .args(["stop", "-w", "-m", mode, "-D"])
            .arg(self.data())
            .output()
            .unwrap()
    }

    fn target(&self, user: &str, password: &str) -> Target {
        Target {
            host: Host::Tcp("127.0.0.1".to_owned()),
            port: self.port,
            user: user.to_owned(),
            password: Secret::new(password),
            database: "postgres".to_owned(),
            keys: None,
            accepted: Accepted::default(),
            ssl_mode: SslMode::Prefer,
            tls: TlsOptions::default(),
            require_auth: None,
            options: Vec::new(),
        }
    }

    fn pools(&self, change: impl FnOnce(&mut PoolSettings)) -> Arc<ShardPools> {
        let mut settings = PoolSettings::from(&Config::default());
        change(&mut settings);
        let pools = Pools::new(settings, [("deu".to_owned(), self.target("trusted", ""))]);
        pools.of(&login())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.down("immediate");
    }
}

fn login() -> Login {
    Login { user: "trusted".to_owned(), password: None, fallback: None, keys: None, database: None }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

/// A server program, not as root, which it would refuse.
fn as_postgres(program: &str) -> Command {
    let path = std::fs::read_dir("/usr/lib/postgresql")
        .unwrap()
        .map(|version| version.unwrap().path().join("bin").join(program))
        .find(|path| path.exists())
        .unwrap();
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
    command.current_dir("/tmp");
    command
}

fn run(command: &mut Command) {
    // Not `output`: the server would keep the pipes open.
    let log = tempfile::tempfile().unwrap();
    let status = command.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap();
    assert!(status.success(), "{command:?}");
}

async fn rows(connection: &mut pgmeridian::backend::Connection, sql: &str) -> Vec<Vec<String>> {
    let rows = connection.simple_query(sql).await.unwrap();
    rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect()
}

#[tokio::test]
async fn against_a_real_server() {
    let server = Server::start();
    ways_of_logging_in(&server).await;
    refusals(&server).await;
    control_statements(&server).await;
    leases_come_back_clean_or_not_at_all(&server).await;
    waiting_ends(&server).await;
    connections_age(&server).await;
    cancels(&server).await;
    books_are_kept_for_pipelines(&server).await;
    a_dropped_wait_leaves_nothing(&server).await;
    a_server_that_goes_and_comes_back(&server).await;
}

async fn ways_of_logging_in(server: &Server) {
    let check = async |target: Target| {
        let target = Arc::new(target);
        let options = [("application_name".to_owned(), "pgmeridian".to_owned())];
        let mut connection = connect(&target, &options, TIMEOUT).await.unwrap();
        let sql = "SELECT current_user, current_setting('application_name'), pg_backend_pid()";
        let pid = connection.pid().to_string();
        assert_eq!(rows(&mut connection, sql).await, [[&target.user, "pgmeridian", &pid]]);
        assert_eq!(connection.parameter("application_name"), Some("pgmeridian"));
        assert!(connection.parameter("server_version").is_some());
        assert!(connection.is_alive());
    };
    check(server.target("trusted", "")).await;
    check(server.target("plain", "geheim")).await;
    check(server.target("hashed", "geheim")).await;
    check(server.target("scram", "gehéim\u{a0}x")).await;
    check(server.target("scram", "gehe\u{301}im x")).await;
    let unix = Host::Unix(server.path().to_owned());
    check(Target { host: unix.clone(), ..server.target("trusted", "") }).await;
    check(Target { host: unix, ..server.target("scram", "gehéim x") }).await;
}

async fn refusals(server: &Server) {
    let check = async |target: Target, code: SqlState, text: &str| {
        let error = connect(&Arc::new(target), &[], TIMEOUT).await.unwrap_err();
        let sql = error.sql_error("deu");
        assert_eq!(sql.code, code, "{sql:?}");
        let shown = format!("{}; {}", sql.message, sql.detail.unwrap_or_default());
        assert!(shown.contains(text) && shown.contains("\"deu\""), "{shown}");
    };
    let down = SqlState::CANNOT_CONNECT_NOW;
    let wrong = SqlState::INVALID_PASSWORD;
    check(server.target("plain", "x"), wrong, "password authentication failed").await;
    check(server.target("hashed", "x"), wrong, "password authentication failed").await;
    check(server.target("scram", "x"), wrong, "password authentication failed").await;
    let unknown = SqlState::INVALID_AUTHORIZATION;
    check(server.target("scram", ""), unknown, "asks for a password").await;
    check(server.target("refused", ""), SqlState::INVALID_AUTHORIZATION, "rejects").await;
    let nowhere = Target { database: "nowhere".to_owned(), ..server.target("trusted", "") };
    check(nowhere, SqlState::INVALID_CATALOG_NAME, "does not exist").await;
    check(Target { port: 1, ..server.target("trusted", "") }, down, "refused").await;
    let tls = Target { ssl_mode: SslMode::Require, ..server.target("trusted", "") };
    check(tls, down, "server does not support SSL, but SSL was required").await;
    // Nobody answers: a listener whose queue takes the connection, and that is all.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target { port: deaf.local_addr().unwrap().port(), ..server.target("trusted", "") };
    let limit = Duration::from_millis(50);
    let error = connect(&Arc::new(target), &[], limit).await.unwrap_err();
    assert!(matches!(error, BackendError::ConnectTimeout(_)) && error.retryable());
}

async fn control_statements(server: &Server) {
    let target = Arc::new(server.target("trusted", ""));
    let mut connection = connect(&target, &[], TIMEOUT).await.unwrap();
    assert_eq!(rows(&mut connection, "SELECT 1; SELECT 2, NULL").await, [["2", ""]]);
    assert_eq!(rows(&mut connection, "SET TimeZone = 'Asia/Tokyo'").await, [[""; 0]; 0]);
    assert_eq!(connection.parameter("TimeZone"), Some("Asia/Tokyo"));
    let error = connection.simple_query("SELECT 1; SELECT nonsense").await.unwrap_err();
    assert!(matches!(&error, BackendError::Statement(e) if e.code() == "42703"), "{error}");
    assert!(connection.is_idle());
    rows(&mut connection, "BEGIN").await;
    assert_eq!((connection.tx_status(), connection.is_idle()), (b'T', false));
    connection.simple_query("SELECT 1/0").await.unwrap_err();
    assert_eq!(connection.tx_status(), b'E');
    rows(&mut connection, "ROLLBACK").await;
    assert!(connection.is_alive());
    let big = rows(&mut connection, "SELECT repeat('x', 3000000)").await;
    assert_eq!(big[0][0].len(), 3_000_000);
    let error = connection.simple_query("COPY pg_class TO STDOUT").await.unwrap_err();
    assert!(matches!(error, BackendError::Protocol(_)) && !connection.is_idle());
    let mut connection = connect(&target, &[], TIMEOUT).await.unwrap();
    let end = "SELECT pg_terminate_backend(pg_backend_pid())";
    let error = connection.simple_query(end).await.unwrap_err();
    assert!(matches!(&error, BackendError::Statement(e) if e.code() == "57P01"), "{error}");
    assert!(!connection.is_idle());
}

async fn leases_come_back_clean_or_not_at_all(server: &Server) {
    let pools = server.pools(|_| {});
    let pool = pools.shard(SHARD).unwrap();
    assert!(pools.shard(ShardId(1)).is_none());
    let mut lease = pool.lease().await.unwrap();
    let first = lease.pid();
    lease.simple_query("SELECT 1").await.unwrap();
    assert!(lease.release());
    let mut lease = pool.lease().await.unwrap();
    assert_eq!(lease.pid(), first);
    assert_eq!((pool.status().active, pool.status().idle), (1, 0));
    lease.simple_query("BEGIN").await.unwrap();
    assert!(!lease.release());
    let lease = pool.lease().await.unwrap();
    let second = lease.pid();
    assert_ne!(second, first);
    drop(lease);
    let mut lease = pool.lease().await.unwrap();
    assert_ne!(lease.pid(), second);
    lease.taint();
    assert!(!lease.release());
    // An answer that was not read.
    let mut lease = pool.lease().await.unwrap();
    let mut out = Vec::new();
    frontend::query_into(&mut out, b"SELECT 1");
    lease.send_all(&out).await.unwrap();
    assert!(!lease.release());
    // The last one used is the first one leased.
    let (a, b) = (pool.lease().await.unwrap(), pool.lease().await.unwrap());
    let hot = b.pid();
    assert!(a.release() && b.release());
    let lease = pool.lease().await.unwrap();
    assert_eq!(lease.pid(), hot);
    // What the server ended meanwhile isn't leased again.
    let mut other = pool.lease().await.unwrap();
    assert!(lease.release());
    other.simple_query(&format!("SELECT pg_terminate_backend({hot}, 1000)")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_ne!(pool.lease().await.unwrap().pid(), hot);
}

async fn waiting_ends(server: &Server) {
    let pools = server.pools(|settings| {
        settings.size = 1;
        settings.reserve = 1;
        settings.wait_timeout = Duration::from_millis(200);
    });
    let pool = pools.shard(SHARD).unwrap();
    let main = pool.lease().await.unwrap();
    let start = Instant::now();
    let reserve = pool.lease().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(100));
    let start = Instant::now();
    let error = pool.lease().await.unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(
        error.sql_error(pool.shard_name()).message,
        "no connection to shard \"deu\" within 200ms (pool.wait_timeout)"
    );
    let (lease, ()) = tokio::join!(pool.lease(), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        main.release();
    });
    assert!(lease.unwrap().release() && reserve.release());
    assert_eq!(pool.status().idle, 2);
}

async fn connections_age(server: &Server) {
    let settings = PoolSettings {
        idle_timeout: Duration::from_millis(50),
        ..PoolSettings::from(&Config::default())
    };
    let all = Pools::new(settings, [("deu".to_owned(), server.target("trusted", ""))]);
    let pools = all.of(&login());
    let pool = pools.shard(SHARD).unwrap();
    let lease = pool.lease().await.unwrap();
    let first = lease.pid();
    assert!(lease.release());
    tokio::time::sleep(Duration::from_millis(60)).await;
    all.sweep(Instant::now());
    let lease = pool.lease().await.unwrap();
    assert_ne!(lease.pid(), first);
    assert!(lease.release());
    all.sweep(Instant::now());
    assert_eq!(all.status()[0].idle, 1);
    all.sweep(Instant::now() + Duration::from_secs(1));
    assert_eq!(all.status()[0].idle, 0);
    all.close();
    assert!(matches!(pool.lease().await, Err(BackendError::Closed)));
}

async fn cancels(server: &Server) {
    let target = Arc::new(server.target("trusted", ""));
    let mut connection = connect(&target, &[], TIMEOUT).await.unwrap();
    let key = connection.cancel_key();
    let (answer, ()) = tokio::join!(connection.simple_query("SELECT pg_sleep(30)"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        key.cancel(TIMEOUT).await.unwrap();
    });
    let error = answer.unwrap_err();
    assert!(matches!(&error, BackendError::Statement(e) if e.code() == "57014"), "{error}");
    assert!(connection.is_alive());
}

async fn books_are_kept_for_pipelines(server: &Server) {
    let pools = server.pools(|_| {});
    let mut lease = pools.shard(SHARD).unwrap().lease().await.unwrap();
    let mut out = Vec::new();
    for _ in 0..2 {
        frontend::parse_into(&mut out, b"", b"SELECT $1::int8", [20u32].into_iter());
        frontend::bind_text_into(&mut out, b"", &[Some(b"42")], pgmeridian::datum::Format::Text);
        frontend::execute_into(&mut out, b"", 0);
        frontend::sync_into(&mut out);
    }
    lease.expect_ready(2);
    lease.send_all(&out).await.unwrap();
    let (mut buf, mut tags) = (BytesMut::new(), Vec::new());
    while lease.awaiting() > 0 {
        assert!(!lease.is_idle());
        lease.read_some(&mut buf).await.unwrap();
        while let Some(frame) = frame::next(&buf, 1000).unwrap() {
            tags.push(frame.tag);
            if frame.tag == b'Z' {
                lease.ready(frame.body[0]);
            }
            let used = frame.raw.len();
            let _ = buf.split_to(used);
        }
    }
    assert_eq!(tags, b"12DCZ12DCZ");
    assert!(lease.release());
}

async fn a_dropped_wait_leaves_nothing(server: &Server) {
    let pools = server.pools(|settings| {
        settings.size = 1;
        settings.reserve = 0;
    });
    let pool = pools.shard(SHARD).unwrap();
    let lease = pool.lease().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), pool.lease()).await.is_err());
    assert!(lease.release());
    let mut lease = pool.lease().await.unwrap();
    let sleep = lease.simple_query("SELECT pg_sleep(30)");
    assert!(tokio::time::timeout(Duration::from_millis(20), sleep).await.is_err());
    assert!(!lease.release());
    let lease = pool.lease().await.unwrap();
    assert!(lease.release());
    assert_eq!((pool.status().active, pool.status().idle, pool.status().waiting), (0, 1, 0));
}

async fn a_server_that_goes_and_comes_back(server: &Server) {
    let mut settings = PoolSettings::from(&Config::default());
    settings.breaker.threshold = 2;
    settings.breaker.timeout = Duration::from_millis(300);
    let other = ("other".to_owned(), Target { port: 1, ..server.target("trusted", "") });
    let all = Pools::new(settings, [("deu".to_owned(), server.target("trusted", "")), other]);
    let pools = all.of(&login());
    let pool = pools.shard(SHARD).unwrap();
    assert!(pool.lease().await.unwrap().release());
    // The other shard's failures are its own.
    for _ in 0..3 {
        pools.shard(ShardId(1)).unwrap().lease().await.unwrap_err();
    }
    assert!(!all.reachable(ShardId(1)) && all.reachable(SHARD));
    let lease = pool.lease().await.unwrap();
    server.down("immediate");
    drop(lease);
    for _ in 0..2 {
        let error = pool.lease().await.unwrap_err();
        assert!(matches!(error, BackendError::Connect(_)), "{error}");
    }
    assert!(matches!(pool.lease().await, Err(BackendError::BreakerOpen)));
    server.up();
    assert!(matches!(pool.lease().await, Err(BackendError::BreakerOpen)) || all.reachable(SHARD));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(pool.lease().await.unwrap().release());
    assert!(all.reachable(SHARD));
}

/// A server that says `script` after whatever it is told first, and then nothing.
async fn liar(script: Vec<u8>) -> Target {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buf = [0; 1000];
        let _ = stream.read(&mut buf).await;
        let _ = stream.write_all(&script).await;
        while stream.read(&mut buf).await.is_ok_and(|count| count > 0) {}
    });
    Target {
        host: Host::Tcp("127.0.0.1".to_owned()),
        port,
        user: "u".to_owned(),
        password: Secret::new("p"),
        database: "d".to_owned(),
        keys: None,
        accepted: Accepted::default(),
        ssl_mode: SslMode::Disable,
        tls: TlsOptions::default(),
        require_auth: None,
        options: Vec::new(),
    }
}

#[tokio::test]
async fn servers_that_lie() {
    use pgmeridian::wire::backend;
    let check = async |script: &dyn Fn(&mut Vec<u8>), expect: &str| {
        let mut bytes = Vec::new();
        script(&mut bytes);
        let target = Arc::new(liar(bytes).await);
        let error = connect(&target, &[], Duration::from_millis(500)).await.unwrap_err();
        assert!(error.to_string().contains(expect), "{error} / {expect}");
    };
    check(&|out| out.extend(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "invalid message length").await;
    check(&|out| out.extend(b"E\0\0\0\x05x"), "invalid string in message").await;
    check(&|out| backend::ready_for_query(out, b'I'), "unexpected message \"Z\"").await;
    check(&|out| backend::authentication_sasl(out, &["OTHER"]), "no SASL mechanism but OTHER")
        .await;
    check(&|out| out.extend(b"R\0\0\0\x08\0\0\0\x07"), "method 7 (GSSAPI)").await;
    let scram = |out: &mut Vec<u8>| backend::authentication_sasl(out, &["SCRAM-SHA-256"]);
    // It must prove that it knows the password.
    let unproven = |out: &mut Vec<u8>| {
        scram(out);
        backend::authentication_ok(out);
    };
    check(&unproven, "unexpected message \"R\"").await;
    let garbage = |out: &mut Vec<u8>| {
        scram(out);
        backend::authentication_sasl_continue(out, b"r=x,s=!!,i=0");
    };
    check(&garbage, "SCRAM-SHA-256 authentication failed").await;
    check(&|_| {}, "no answer within").await;
}
