//! The protocol, message by message: what a client says to the proxy is answered as PostgreSQL itself
//! answers it.
//!
//! Each script of `tests/protocol/*.script` is said to PostgreSQL and to the proxy (one shard, two
//! connections in its pool, other clients between any two steps, so that no connection stays where it
//! was); the answers must be equal to the last field. Scripts for three shards say what they expect.
//! `SCRIPT=words` runs only scripts whose file or title contains them and shows the answers; `SEEDS=1-1000`
//! are the scripts made by chance (more than the usual ones); `EXPECT=1`
//! writes the answers of the three shards to `expected.script` in the tests' temporary directory, `target/tmp`, to be read before they are believed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]
#![allow(clippy::print_stdout, reason = "a script that is asked for is shown")]

mod support;

#[path = "protocol/chance.rs"]
mod chance;
#[path = "protocol/script.rs"]
mod script;
#[path = "protocol/show.rs"]
mod show;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use pgmeridian::app::Server;
use pgmeridian::config::{AuthMethod, Config};
use pgmeridian::demo::cluster::{Cluster, DATABASE, Options, ROLE};
use pgmeridian::map::ShardMap;
use script::{Script, Step};
use show::show;
use support::raw::{Raw, Silence};

const ONE: &str = "one";
const SHARDS: [&str; 3] = ["usa-east", "usa-west", "deu"];

/// The databases that the scripts run in.
const SCHEMA: &str = "
    CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE items (tenant_id bigint NOT NULL, id int NOT NULL, name text, price numeric(10,2),
        PRIMARY KEY (tenant_id, id));
    CREATE TABLE plans (tier int PRIMARY KEY, name text);
    CREATE SCHEMA other;
    CREATE TABLE other.plans (tier int PRIMARY KEY, name text, secret boolean DEFAULT true);
    INSERT INTO other.plans VALUES (9, 'other');
    CREATE FUNCTION say(what text) RETURNS int LANGUAGE plpgsql AS
        $$ BEGIN RAISE NOTICE 'said %', what; RETURN length(what); END $$;";

/// What every script finds in the tables.
const ROWS: &str = "
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle';
    TRUNCATE tenants, items, plans;
    INSERT INTO tenants SELECT n, 'tenant ' || n FROM generate_series(1, 6) n WHERE true;
    INSERT INTO items SELECT t, i, 'item ' || i, t + i / 4.0
        FROM generate_series(1, 6) t, generate_series(1, 5) i WHERE true;
    INSERT INTO plans VALUES (1, 'free'), (2, 'team'), (3, NULL);";

struct Servers {
    cluster: Cluster,
    one: Server,
    three: Server,
    /// A connection to each database.
    direct: Vec<(&'static str, tokio_postgres::Client)>,
}

impl Servers {
    async fn start() -> Self {
        let mut options = Options::named("protocol");
        options.databases = [ONE, SHARDS[0], SHARDS[1], SHARDS[2]].map(str::to_owned).to_vec();
        options.hba = vec![format!("host all {ROLE} 127.0.0.1/32 trust")];
        let cluster = Cluster::start(&options).unwrap();
        let mut direct = Vec::new();
        for name in std::iter::once(DATABASE).chain([ONE]).chain(SHARDS) {
            let client = support::connect(&cluster.database_url(name)).await.unwrap();
            client.batch_execute(SCHEMA).await.unwrap();
            direct.push((name, client));
        }
        let one = serve(&cluster, &[ONE]).await;
        let three = serve(&cluster, &SHARDS).await;
        Self { cluster, one, three, direct }
    }

    /// The tables as every script finds them.
    async fn reset(&self, three: bool) {
        let databases: &[&str] = if three { &SHARDS } else { &[DATABASE, ONE] };
        for (shard, name) in databases.iter().enumerate() {
            let mut rows = ROWS.to_owned();
            if three {
                rows = rows.replacen("WHERE true", &format!("WHERE n % 3 = {shard}"), 1);
                rows = rows.replacen("WHERE true", &format!("WHERE t % 3 = {shard}"), 1);
            }
            let (_, client) = self.direct.iter().find(|(own, _)| own == name).unwrap();
            client.batch_execute(&rows).await.unwrap();
        }
    }
}

async fn serve(cluster: &Cluster, shards: &[&str]) -> Server {
    let mut map =
        format!("version = 1\ndatabase = \"{DATABASE}\"\ndefault_shard = \"{}\"\n", shards[0]);
    for (index, name) in shards.iter().enumerate() {
        let url = cluster.database_url(name);
        let _ = write!(
            map,
            "[[shards]]\nid = {}\nname = \"{name}\"\nregion = \"X\"\nurl = \"{url}\"\n",
            index + 1
        );
    }
    let _ = write!(
        map,
        "{}shards = {shards:?}\n[tables]\nplans = \"reference\"\n",
        support::TENANT_BY_HASH
    );
    let (map, _) = ShardMap::parse("protocol.toml", &map, &|_| None)
        .unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    let mut config = Config::default();
    "127.0.0.1:0".clone_into(&mut config.listen.address);
    config.auth.method = AuthMethod::Trust;
    config.pool.size = 2;
    config.pool.reserve = 0;
    // What can be kept prepared is so from the first time on.
    config.pool.prepare_threshold = 1;
    Server::start(config, map).await.unwrap()
}

fn log_in(address: SocketAddr, more: &[(String, String)]) -> Raw {
    let mut parameters = vec![("user", ROLE), ("database", DATABASE)];
    parameters.extend(more.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    Raw::log_in(address, &parameters).0
}

/// Other clients, who use the connections between the steps of a script, and leave them changed.
struct Others {
    clients: Vec<Raw>,
    turn: usize,
}

impl Others {
    fn new(address: SocketAddr) -> Self {
        let clients = (0..3).map(|n| {
            let mut raw = log_in(address, &[]);
            raw.query(
                [
                    "SET TimeZone TO 'Asia/Tokyo'",
                    "SET search_path TO other, public",
                    "SET DateStyle TO German",
                ][n],
            );
            let parse = [b"s1\0SELECT 'from the ", n.to_string().as_bytes(), b"'\0\0\0"].concat();
            raw.send(&support::raw::frame(b'P', &parse));
            raw.send(&support::raw::frame(b'S', b""));
            raw.until_ready();
            raw
        });
        Self { clients: clients.collect(), turn: 0 }
    }

    /// Takes a connection at one turn and gives it back at the next.
    fn step(&mut self) {
        let count = self.clients.len();
        let now = self.turn / 2 % count;
        if self.turn.is_multiple_of(2) {
            self.clients[now].query("BEGIN");
            self.clients[now].query("SELECT tier FROM plans");
        } else {
            self.clients[now].query("COMMIT");
            self.clients[(now + 1) % count].query("SELECT 1");
        }
        self.turn += 1;
    }

    fn rest(&mut self) {
        if !self.turn.is_multiple_of(2) {
            self.step();
        }
    }
}

/// A client of a script.
struct Speaker {
    raw: Raw,
    pending: Vec<u8>,
    boundaries: usize,
}

impl Speaker {
    fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.pending);
        let _ = self.raw.try_send(&bytes);
    }

    /// Reads until `until` says so; false when nothing more can come.
    fn read(
        &mut self,
        prefix: &str,
        out: &mut Vec<String>,
        until: impl Fn(u8, usize) -> bool,
    ) -> bool {
        self.flush();
        loop {
            match self.raw.receive_within(Duration::from_secs(5)) {
                Ok(message) => {
                    if message.tag == b'Z' {
                        self.boundaries = self.boundaries.saturating_sub(1);
                    }
                    out.push(format!("{prefix}{}", show(&message)));
                    if until(message.tag, self.boundaries) {
                        return true;
                    }
                }
                Err(silence) => {
                    let word = if silence == Silence::End { "(end)" } else { "(HANGS)" };
                    out.push(format!("{prefix}{word}"));
                    return false;
                }
            }
        }
    }
}

/// Says a script to a server; what came back.
fn play(script: &Script, address: SocketAddr, mut others: Option<&mut Others>) -> Vec<String> {
    let mut speakers: BTreeMap<String, Speaker> = BTreeMap::new();
    let mut name = "a".to_owned();
    let mut out = Vec::new();
    let several = script.steps.iter().any(|step| matches!(step, Step::Client(_)));
    for step in script.steps.iter().chain([&Step::Read]) {
        let prefix = if several { format!("{name}: ") } else { String::new() };
        let speaker = speakers.entry(name.clone()).or_insert_with(|| Speaker {
            raw: log_in(address, &script.startup),
            pending: Vec::new(),
            boundaries: 0,
        });
        let alive = match step {
            Step::Client(other) => {
                name.clone_from(other);
                true
            }
            Step::Say { bytes, boundary } => {
                speaker.pending.extend_from_slice(bytes);
                speaker.boundaries += usize::from(*boundary);
                true
            }
            Step::Read if speaker.boundaries == 0 => {
                speaker.flush();
                true
            }
            Step::Read => speaker.read(&prefix, &mut out, |_, boundaries| boundaries == 0),
            Step::Await(tag) => {
                speaker.read(&prefix, &mut out, |t, _| t == *tag || (t == b'E' && *tag != b'Z'))
            }
            Step::Forget => {
                speaker.boundaries = 0;
                true
            }
            Step::Send => {
                speaker.flush();
                true
            }
            Step::Cancel => {
                speaker.raw.cancel();
                true
            }
            Step::Sleep(milliseconds) => {
                std::thread::sleep(Duration::from_millis(*milliseconds));
                true
            }
        };
        if !alive {
            break;
        }
        if let (Some(others), Step::Read, false) = (&mut others, step, several || script.quiet) {
            others.step();
        }
    }
    // Nobody may have more to say than was asked.
    for speaker in speakers.values_mut() {
        if let Ok(message) = speaker.raw.receive_within(Duration::from_millis(5)) {
            out.push(format!("(more) {}", show(&message)));
        }
    }
    if let Some(others) = others {
        others.rest();
    }
    out
}

fn scripts() -> Vec<Script> {
    let mut files: Vec<_> =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protocol"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "script"))
            .collect();
    files.sort();
    let parse = |path: &std::path::PathBuf| {
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        script::parse(&file, &std::fs::read_to_string(path).unwrap())
    };
    let written = files.iter().flat_map(parse);
    let seeds = std::env::var("SEEDS").unwrap_or_else(|_| "1-60".to_owned());
    let (first, last) = seeds.split_once('-').unwrap();
    let seeds: std::ops::RangeInclusive<u64> = first.parse().unwrap()..=last.parse().unwrap();
    written.chain(seeds.flat_map(|seed| script::parse("chance", &chance::script(seed)))).collect()
}

/// The lines of two transcripts, side by side where they differ.
fn difference(expect: &[String], found: &[String]) -> String {
    let mut text = String::new();
    for index in 0..expect.len().max(found.len()) {
        let (expect, found) = (expect.get(index), found.get(index));
        let none = || "(nothing)".to_owned();
        if expect == found {
            let _ = writeln!(text, "    {}", expect.cloned().unwrap_or_else(none));
        } else {
            let _ = writeln!(text, "  - {}", expect.cloned().unwrap_or_else(none));
            let _ = writeln!(text, "  + {}", found.cloned().unwrap_or_else(none));
        }
    }
    text
}

// The scripts wait with their thread, and the proxies' control work goes on meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_answers_as_postgresql_does() {
    let servers = Servers::start().await;
    let direct = SocketAddr::from(([127, 0, 0, 1], servers.cluster.port()));
    let mut others = Others::new(servers.one.address());
    let only = std::env::var("SCRIPT").ok();
    let mut failures = Vec::new();
    let mut count = 0;
    for script in scripts() {
        let name = format!("{}: {}", script.file, script.title);
        if only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        count += 1;
        servers.reset(script.three).await;
        let mut found = if script.three {
            play(&script, servers.three.address(), None)
        } else {
            play(&script, servers.one.address(), Some(&mut others))
        };
        let mut expect = match &script.expect {
            Some(expect) => expect.clone(),
            None => play(&script, direct, None),
        };
        if script.file == "chance" {
            // A shard that does not know yet of an error of the proxy's takes a SET back later.
            let compared = |line: &String| !line.starts_with("ParameterStatus");
            found.retain(compared);
            expect.retain(compared);
        }
        if script.expect.is_some() && std::env::var_os("EXPECT").is_some() {
            let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/expected.script");
            let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
            let text = found.join("\n").replace("\n\n", "\n");
            std::io::Write::write_all(
                &mut file,
                format!("=== {}\n{text}\n", script.title).as_bytes(),
            )
            .unwrap();
        }
        if only.is_some() {
            println!("=== {name}\n{}", found.join("\n"));
        }
        if found != expect {
            failures.push(format!("=== {name}\n{}", difference(&expect, &found)));
            if failures.iter().filter(|f| f.contains("HANGS")).count() > 8 {
                break;
            }
        }
    }
    let total = failures.len();
    assert!(
        total == 0,
        "{total} of {count} scripts (- PostgreSQL, + the proxy):\n{}",
        failures.join("\n")
    );
}
