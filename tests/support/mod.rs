//! What integration tests stand on: shards, a map over them, the proxy's own binary in front.
//!
//! [`Shards::databases`] is the cheap kind (one cluster, a database for each shard), [`Shards::clusters`]
//! the real one, for tests that stop or kill a shard. Either may live in a `static`: what a scratch
//! directory's sweeper finds working below it is stopped when the test process ends.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

pub(crate) mod raw;

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgmeridian::demo::cluster::{Cluster, DATABASE, Options, ROLE, free_port};
use tokio_postgres::{Client, NoTls};

use raw::{BOT, Raw, sqlstate};

/// The shards' names, in the order of the map; as many of them as are asked for.
pub(crate) const NAMES: [&str; 4] = ["usa-east", "usa-west", "deu", "bra"];

/// A proxy that is not ready by then is not going to be.
const READY_MAX: Duration = Duration::from_secs(20);

/// What takes a moment, and has not come by then, does not come.
const MOMENT_MAX: Duration = Duration::from_secs(20);

/// Configuration: everybody is who they say, since raw clients know no password.
pub(crate) const TRUST: &str = "[auth]\nmethod = \"trust\"\n";

/// A hash-modulo tenant key, the rest of a map after its shards.
pub(crate) const TENANT_BY_HASH: &str = r#"
[keys.tenant]
columns = ["tenant_id"]
tables = { tenants = "id" }
type = "bigint"
strategy = "hash"
[keys.tenant.hash]
algorithm = "modulo"
"#;

/// Some shards.
pub(crate) struct Shards {
    clusters: Vec<Cluster>,
    /// Name and URL, in the map's order.
    places: Vec<(&'static str, String)>,
}

impl Shards {
    /// One cluster, and a database in it for each shard.
    pub(crate) fn databases(count: usize) -> Self {
        Self::databases_with(count, &[])
    }

    /// The same with settings of the server's own.
    pub(crate) fn databases_with(count: usize, settings: &[(&str, &str)]) -> Self {
        let names = &NAMES[..count];
        let mut options = Options::named("shards");
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        options.settings.extend(settings.iter().map(owned));
        options.databases = names.iter().map(|name| (*name).to_owned()).collect();
        let cluster = Cluster::start(&options).unwrap_or_else(|error| panic!("{error}"));
        let places = names.iter().map(|name| (*name, cluster.database_url(name))).collect();
        Self { clusters: vec![cluster], places }
    }

    /// A cluster for each shard.
    pub(crate) fn clusters(count: usize) -> Self {
        let names = &NAMES[..count];
        let options: Vec<Options> = names.iter().map(|name| Options::named(*name)).collect();
        let clusters = Cluster::start_all(&options).unwrap_or_else(|error| panic!("{error}"));
        let places = names.iter().zip(&clusters).map(|(name, own)| (*name, own.url())).collect();
        Self { clusters, places }
    }

    /// One cluster as asked for; its [`DATABASE`] is the only shard.
    pub(crate) fn of(options: &Options) -> Self {
        let cluster = Cluster::start(options).unwrap_or_else(|error| panic!("{error}"));
        let places = vec![(NAMES[0], cluster.url())];
        Self { clusters: vec![cluster], places }
    }

    /// A shard's own server, to be stopped and started. Only with [`Shards::clusters`].
    pub(crate) fn cluster(&mut self, name: &str) -> &mut Cluster {
        self.clusters.iter_mut().find(|cluster| cluster.name() == name).expect("a shard's name")
    }

    /// Where a shard is, for `bot`.
    pub(crate) fn url(&self, name: &str) -> &str {
        let place = self.places.iter().find(|(own, _)| *own == name);
        place.map(|(_, url)| url.as_str()).expect("a shard's name")
    }

    /// The first cluster.
    pub(crate) fn first(&self) -> &Cluster {
        &self.clusters[0]
    }

    /// The shards' names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.places.iter().map(|(name, _)| *name)
    }

    /// A map: these shards, the first one the default, and `rest`, which begins with any top-level keys
    /// left and goes on with sections.
    pub(crate) fn map(&self, rest: &str) -> String {
        let home = self.places[0].0;
        let mut map =
            format!("version = 1\ndatabase = \"{DATABASE}\"\ndefault_shard = \"{home}\"\n");
        for (index, (name, url)) in self.places.iter().enumerate() {
            let region = name[..3].to_uppercase();
            let id = index + 1;
            let _ = write!(
                map,
                "[[shards]]\nid = {id}\nname = \"{name}\"\nregion = \"{region}\"\nurl = \"{url}\"\n"
            );
        }
        map + rest
    }

    /// [`TENANT_BY_HASH`] over all of these shards, then `rest`.
    pub(crate) fn map_by_hash(&self, rest: &str) -> String {
        let names: Vec<String> = self.names().map(|name| format!("\"{name}\"")).collect();
        self.map(&format!("{TENANT_BY_HASH}shards = [{}]\n{rest}", names.join(", ")))
    }

    /// Runs statements on every shard, past the proxy.
    pub(crate) async fn run_on_all(&self, sql: &str) {
        for (name, url) in &self.places {
            let client = connect(url).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
    }

    /// A connection to one shard, past the proxy.
    pub(crate) async fn direct(&self, name: &str) -> Client {
        connect(self.url(name)).await.unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

/// The proxy's binary, serving a map.
pub(crate) struct Proxy {
    server: Child,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// Where health and metrics are.
    pub(crate) http: SocketAddr,
    map: PathBuf,
    log: PathBuf,
}

impl Proxy {
    /// Serves a map over shards, and waits until it answers. Its files are in the shards' scratch
    /// directory.
    pub(crate) async fn start(shards: &Shards, map: &str) -> Self {
        Self::start_with(shards, map, "").await
    }

    /// The same with a `pgmeridian.toml`, when it is not empty.
    pub(crate) async fn start_with(shards: &Shards, map: &str, config: &str) -> Self {
        // A port that was free a moment ago can be anybody's connection by now.
        for _ in 0..5 {
            let mut proxy = Self::spawn(shards, map, config);
            if proxy.is_ready().await {
                return proxy;
            }
        }
        panic!("no port stays free for long enough")
    }

    fn spawn(shards: &Shards, map: &str, config: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let http = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let directory = shards.clusters[0].directory();
        let file = |kind: &str| directory.join(format!("{kind}.{}", address.port()));
        let (map_path, log) = (file("map.toml"), file("proxy.log"));
        fs::write(&map_path, map).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgmeridian"));
        command.arg("serve").arg("--map").arg(&map_path);
        command.args(["--listen", &address.to_string(), "--http", &http.to_string()]);
        if !config.is_empty() {
            let path = file("pgmeridian.toml");
            fs::write(&path, config).unwrap();
            command.arg("--config").arg(path);
        }
        let output = fs::File::create(&log).unwrap();
        let server = command
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { server, address, http, map: map_path, log }
    }

    /// It answers; false when another has taken its port.
    async fn is_ready(&mut self) -> bool {
        let deadline = Instant::now() + READY_MAX;
        loop {
            let Err(failure) = connect(&self.url()).await else { return true };
            // The test's own credentials may be others: an answer of any kind is readiness.
            if failure.as_db_error().is_some_and(|said| said.code().code().starts_with("28")) {
                return true;
            }
            let ended = self.server.try_wait().unwrap().is_some();
            if ended && self.log().contains("Address already in use") {
                return false;
            }
            assert!(
                !ended && Instant::now() < deadline,
                "pgmeridian serve is not ready: {failure}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How a client connects as `bot`.
    pub(crate) fn url(&self) -> String {
        format!("postgresql://{ROLE}:{ROLE}@{}/{DATABASE}", self.address)
    }

    /// A client.
    pub(crate) async fn connect(&self) -> Client {
        connect(&self.url()).await.unwrap_or_else(|error| panic!("{error:?}\n{}", self.log()))
    }

    /// A client that speaks bytes, where users are [trusted](TRUST).
    pub(crate) fn raw(&self) -> Raw {
        let (client, told) = Raw::log_in(self.address, &BOT);
        assert_eq!(sqlstate(&told), "", "{told:?}");
        client
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Replaces the map file and asks for a reload; the swap happens a moment later.
    pub(crate) fn reload(&self, map: &str) {
        fs::write(&self.map, map).unwrap();
        self.signal("HUP");
    }

    /// Its map file.
    pub(crate) fn map_path(&self) -> &std::path::Path {
        &self.map
    }

    /// How a user connects to the console.
    pub(crate) fn console_url(&self, user: &str) -> String {
        format!("postgresql://{user}:{user}@{}/pgmeridian", self.address)
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.server.id().to_string();
        let kill = "kill -s \"$1\" \"$2\"";
        let sent = Command::new("/bin/sh").args(["-c", kill, "sh", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Its process number.
    pub(crate) fn id(&self) -> u32 {
        self.server.id()
    }

    /// Whether the process is there still.
    pub(crate) fn is_running(&mut self) -> bool {
        self.server.try_wait().unwrap().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "a failed test shows what its proxy said")]
            {
                eprintln!("the proxy's log:\n{}", self.log());
            }
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Tries until it works.
pub(crate) async fn eventually<T>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + MOMENT_MAX;
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(why) => assert!(Instant::now() < deadline, "{what}: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until it holds; the other case is what `otherwise` says.
pub(crate) async fn until(otherwise: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + MOMENT_MAX;
    while !holds().await {
        assert!(Instant::now() < deadline, "{otherwise}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A connection to anything that speaks the protocol.
pub(crate) async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// An HTTP request's status code and body.
pub(crate) async fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{}Connection: close\r\n\r\n",
        bearer.unwrap_or_default()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The SQLSTATE and message of a server's error.
pub(crate) fn said(error: &tokio_postgres::Error) -> (String, String) {
    error.as_db_error().map_or_else(
        || (String::new(), error.to_string()),
        |said| (said.code().code().to_owned(), said.message().to_owned()),
    )
}
