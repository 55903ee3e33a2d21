//! Who runs: PostgreSQL itself, `PgBouncer`, pgmeridian, and whoever a file of peers names.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use pgmeridian::demo::cluster::{Cluster, DATABASE, ROLE, free_port};
use serde::Deserialize;

/// Connections to servers that every proxy has, all its servers together: with more of them at work a machine of
/// few cores does less, whoever forwards.
const SERVER_CONNECTIONS: usize = 24;
/// The servers that they are to.
const SHARDS: usize = 3;
/// Clients that either lets in.
const CLIENTS_MAX: u32 = 20_000;
/// From this version on PgBouncer keeps prepared statements apart in transaction mode.
const POOLER_WITH_PREPARED: (u32, u32) = (1, 21);

/// One way to the data.
pub(crate) struct Contender {
    pub name: String,
    pub port: u16,
    /// Databases that the clients are divided among.
    pub databases: Vec<String>,
    /// pgbench's mode, where it can't do the one that is asked for.
    instead: Option<&'static str>,
    /// The proxy's process; none for PostgreSQL itself.
    process: Option<Child>,
}

impl Contender {
    fn new(name: &str, port: u16, process: Option<Child>) -> Self {
        let databases = vec![DATABASE.to_owned()];
        Self { name: name.to_owned(), port, databases, instead: None, process }
    }

    /// The mode that pgbench is run in.
    pub(crate) fn mode<'a>(&self, asked: &'a str) -> &'a str {
        self.instead.unwrap_or(asked)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Other proxies, to be measured in the same run.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peers {
    #[serde(default)]
    pub peer: Vec<Peer>,
}

/// How to start one: `{port}` is where it must listen, `{usa-east}`, `{usa-west}` and `{deu}` are the
/// shards' ports on 127.0.0.1; role, password and database are `bot`, `bot`, `bots`.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    pub name: String,
    pub command: Vec<String>,
    /// Where it listens, if it can't be told.
    pub port: Option<u16>,
    /// Files to write first, with the same placeholders.
    #[serde(default)]
    pub files: std::collections::BTreeMap<String, String>,
}

/// The map's part after its shards: tenants by hash over the three.
pub(crate) const BY_HASH: &str =
    "strategy = \"hash\"\n[keys.tenant.hash]\nalgorithm = \"modulo\"\n";

/// A map over the shards, under `names` names in all, with a placement of tenants.
pub(crate) fn map_over(shards: &[Cluster], names: usize, placement: &str) -> String {
    let mut map = format!("version = 1\ndatabase = \"{DATABASE}\"\ndefault_shard = \"usa-east\"\n");
    let mut all = Vec::new();
    for (index, shard) in shards.iter().cycle().take(names).enumerate() {
        let id = index + 1;
        let name = match index {
            first if first < shards.len() => shard.name().to_owned(),
            _ => format!("{}-{id}", shard.name()),
        };
        // Two shards of one address would be one database twice: its rows would be read twice.
        let turn = index / shards.len();
        let address = format!("127.0.{}.{}", turn / 250, turn % 250 + 1);
        let url = shard.url().replace("127.0.0.1", &address);
        let _ = write!(map, "[[shards]]\nid = {id}\nname = \"{name}\"\nurl = \"{url}\"\n");
        all.push(format!("\"{name}\""));
    }
    let _ = write!(
        map,
        "[keys.tenant]\ncolumns = [\"tenant_id\"]\ntype = \"bigint\"\n{}",
        placement.replace("{shards}", &all.join(", "))
    );
    if placement == BY_HASH {
        let _ = writeln!(map, "shards = [{}]", all.join(", "));
    }
    map
}

/// PostgreSQL itself.
pub(crate) fn direct(shard: &Cluster) -> Contender {
    Contender::new("direct", shard.port(), None)
}

/// The binary that is measured: `PGMERIDIAN` says which, for `make release` makes another one than cargo.
fn program() -> Result<PathBuf> {
    match std::env::var_os("PGMERIDIAN") {
        Some(path) => fs::canonicalize(&path).with_context(|| path.display().to_string()),
        None => Ok(env!("CARGO_BIN_EXE_pgmeridian").into()),
    }
}

/// pgmeridian with a map.
pub(crate) fn meridian(name: &str, directory: &Path, map: &str) -> Result<Contender> {
    let port = free_port()?;
    let file = directory.join(format!("map.{port}.toml"));
    fs::write(&file, map)?;
    let log = file.with_extension("log");
    let config = file.with_extension("conf");
    let shards = map.matches("[[shards]]").count().clamp(1, SHARDS);
    let size = SERVER_CONNECTIONS / shards;
    let settings =
        format!("[listen]\nclients_max = {CLIENTS_MAX}\n[pool]\nsize = {size}\nreserve = 0\n");
    fs::write(&config, settings)?;
    let process = Command::new(program()?)
        .arg("serve")
        .arg("--map")
        .arg(&file)
        .arg("--config")
        .arg(&config)
        .args(["--listen", &format!("127.0.0.1:{port}"), "--http", "127.0.0.1:0"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log)?)
        .spawn()
        .context("pgmeridian serve")?;
    await_port(Contender::new(name, port, Some(process)))
        .with_context(|| fs::read_to_string(log).unwrap_or_default())
}

/// `PgBouncer` in transaction mode before the first shard. An old one can't keep prepared statements apart
/// there: it is then measured with the extended protocol, and named for it.
pub(crate) fn pooler(shard: &Cluster, mode: &str) -> Result<Contender> {
    pooler_before(std::slice::from_ref(shard), mode)
}

/// `PgBouncer` before several shards, each under a name of its own, with the clients divided among them: what
/// forwarding costs where as many servers share the machine as with a sharded map.
pub(crate) fn pooler_before(shards: &[Cluster], mode: &str) -> Result<Contender> {
    let shard = shards.first().context("a shard")?;
    let names = |shard: &Cluster| match shards.len() {
        1 => DATABASE.to_owned(),
        _ => format!("{DATABASE}_{}", shard.name().replace('-', "_")),
    };
    let databases: Vec<String> = shards.iter().map(names).collect();
    let mut listed = String::new();
    for (name, shard) in databases.iter().zip(shards) {
        let port = shard.port();
        writeln!(listed, "{name} = host=127.0.0.1 port={port} dbname={DATABASE}")?;
    }
    let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"]
        .iter()
        .find(|path| Path::new(path).is_file())
        .context("PgBouncer is not installed: apt-get install pgbouncer")?;
    let prepared = mode == "prepared";
    let unable = prepared && pooler_version(program)? < POOLER_WITH_PREPARED;
    let port = free_port()?;
    let directory = shard.directory();
    let users = directory.join("userlist.txt");
    fs::write(&users, format!("\"{ROLE}\" \"{ROLE}\"\n"))?;
    let config = directory.join(format!("pgbouncer.{port}.ini"));
    let size = SERVER_CONNECTIONS / databases.len();
    let prepared = if prepared && !unable { "max_prepared_statements = 100\n" } else { "" };
    fs::write(
        &config,
        format!(
            "[databases]\n{listed}\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = {size}\nmax_client_conn = {CLIENTS_MAX}\nlog_connections = 0\n\
             log_disconnections = 0\nignore_startup_parameters = extra_float_digits\n{prepared}",
            users.display(),
        ),
    )?;
    let process = shard
        .command(program)
        .arg("-q")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("pgbouncer")?;
    let (suffix, instead) = if unable { (" (extended)", Some("extended")) } else { ("", None) };
    let several = if databases.len() > 1 { ", all shards" } else { "" };
    let mut contender = Contender::new(&format!("pgbouncer{several}{suffix}"), port, Some(process));
    (contender.databases, contender.instead) = (databases, instead);
    await_port(contender)
}

/// A peer from the file.
pub(crate) fn peer(peer: &Peer, shards: &[Cluster], directory: &Path) -> Result<Contender> {
    let port = peer.port.map_or_else(free_port, Ok)?;
    let filled = |text: &str| {
        let text = text.replace("{port}", &port.to_string());
        let text = text.replace("{directory}", &directory.display().to_string());
        shards.iter().fold(text, |text, shard| {
            text.replace(&format!("{{{}}}", shard.name()), &shard.port().to_string())
        })
    };
    for (name, text) in &peer.files {
        fs::write(directory.join(name), filled(text))?;
    }
    let Some((program, arguments)) = peer.command.split_first() else {
        bail!("peer {} has no command", peer.name)
    };
    let process = Command::new(program)
        .args(arguments.iter().map(|argument| filled(argument)))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| peer.name.clone())?;
    await_port(Contender::new(&peer.name, port, Some(process)))
}

fn pooler_version(program: &str) -> Result<(u32, u32)> {
    let output = Command::new(program).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let parse = || {
        let mut numbers = text.lines().next()?.split_whitespace().nth(1)?.split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    parse().with_context(|| format!("PgBouncer's version in {text:?}"))
}

fn await_port(mut contender: Contender) -> Result<Contender> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", contender.port)).is_err() {
        let ended = match &mut contender.process {
            Some(process) => process.try_wait()?.is_some(),
            None => false,
        };
        ensure!(!ended && Instant::now() < deadline, "{} did not start", contender.name);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(contender)
}
