//! One cluster: a database with all rows, three that share them, and a proxy over those.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pgmeridian::app;
use pgmeridian::config::{AuthMethod, Config};
use pgmeridian::datum::KeyValue;
use pgmeridian::demo::cluster::{Cluster, DATABASE, Options, ROLE};
use pgmeridian::map::ShardMap;

use super::answer::Server;
use super::support;
use super::support::raw::Raw;

const NAMES: [&str; 5] = ["usa-east", "usa-west", "deu", "fra", "gbr"];

/// The shards: as many as `SHARDS` says, three if it says nothing.
pub(crate) fn shards() -> &'static [&'static str] {
    let count = std::env::var("SHARDS").map_or(3, |count| count.parse().unwrap());
    &NAMES[..count]
}

/// Both sides.
pub(crate) struct World {
    pub(crate) plain: Server,
    pub(crate) proxied: Server,
    pub(crate) operator: Arc<Operator>,
}

/// Who changes the map, and restarts shards.
pub(crate) struct Operator {
    proxy: app::Server,
    cluster: Cluster,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With other settings of the proxy.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_moving(&[], change).await
    }

    /// With keys that are frozen, by key, value, and the column of their tables: while they move, every shard has
    /// their rows.
    pub(crate) async fn start_moving(
        frozen: &[(&str, &str, &str)],
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut options = Options::named("differential");
        options.databases = shards().iter().map(|name| (*name).to_owned()).collect();
        options.hba = vec![format!("host all {ROLE} 127.0.0.1/32 trust")];
        let cluster = Cluster::start(&options).unwrap();
        let mut types = Vec::new();
        for (n, name) in std::iter::once(&DATABASE).chain(shards()).enumerate() {
            let client = support::connect(&cluster.database_url(name)).await.unwrap();
            client.batch_execute(include_str!("schema.sql")).await.unwrap();
            client.batch_execute(include_str!("data.sql")).await.unwrap();
            if let Some(shard) = n.checked_sub(1) {
                let count = shards().len();
                let sql = include_str!("shard.sql")
                    .replace("$SHARDS", &count.to_string())
                    .replace("$LAST", &(count.min(3) - 1).to_string())
                    .replace("$SHARD", &shard.to_string());
                client.batch_execute(&with_copies(&sql, frozen)).await.unwrap();
            }
            let rows = client.query("SELECT oid, typname::text FROM pg_type", &[]).await.unwrap();
            types.push(
                rows.iter().map(|row| (row.get(0), row.get(1))).collect::<HashMap<u32, String>>(),
            );
        }
        let proxy = serve(&cluster, frozen, change).await;
        let parameters = [("user", ROLE), ("database", DATABASE)];
        let direct = pgmeridian_address(&cluster);
        let mut types = types.into_iter();
        let plain =
            Server { raw: Raw::log_in(direct, &parameters).0, types: types.next().unwrap() };
        let proxied = Server {
            raw: Raw::log_in(proxy.address(), &parameters).0,
            types: types.next().unwrap(),
        };
        Self { plain, proxied, operator: Arc::new(Operator { proxy, cluster }) }
    }

    /// Another connection to the proxy; what comes of it, its first statement says.
    pub(crate) fn connect_again(&mut self) {
        let parameters = [("user", ROLE), ("database", DATABASE)];
        self.proxied.raw = Raw::log_in(self.operator.proxy.address(), &parameters).0;
    }
}

impl Operator {
    /// A map that places every row where it is, and gives the shards other numbers if `reversed`.
    pub(crate) async fn swap_map(&self, reversed: bool) {
        let mut names = shards().to_vec();
        if reversed {
            names.reverse();
        }
        self.proxy.swap_map(map(&self.cluster, &names)).await.unwrap();
    }

    /// A shard is away for a moment: nobody can connect, and whoever was connected is no more.
    pub(crate) async fn restart(&self, shard: &str) {
        let terminate = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{shard}'"
        );
        let allow = |yes: bool| format!("ALTER DATABASE \"{shard}\" ALLOW_CONNECTIONS {yes}");
        self.cluster.execute("postgres", &allow(false)).await.unwrap();
        self.cluster.execute("postgres", &terminate).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        self.cluster.execute("postgres", &allow(true)).await.unwrap();
    }
}

fn pgmeridian_address(cluster: &Cluster) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], cluster.port()))
}

/// The map, with the shards in this order.
fn map(cluster: &Cluster, names: &[&str]) -> ShardMap {
    let mut map =
        format!("version = 1\ndatabase = \"{DATABASE}\"\ndefault_shard = \"{}\"\n", NAMES[0]);
    for name in names {
        let url = cluster.database_url(name);
        let id = 1 + NAMES.iter().position(|own| own == name).unwrap();
        let _ = write!(
            map,
            "[[shards]]\nid = {id}\nname = \"{name}\"\nregion = \"X\"\nurl = \"{url}\"\n"
        );
    }
    let list = format!("shards = {:?}", shards());
    let last = shards()[shards().len().min(3) - 1];
    let second = shards()[shards().len().min(2) - 1];
    let rest = include_str!("map.toml")
        .replace("shards = [\"usa-east\", \"usa-west\", \"deu\"]", &list)
        .replace("shard = \"usa-west\"", &format!("shard = \"{second}\""))
        .replace("shard = \"deu\"", &format!("shard = \"{last}\""));
    map.push_str(&rest);
    let (map, _) = ShardMap::parse("differential.toml", &map, &|_| None)
        .unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    map
}

/// Statements that delete what is not a shard's, but for the rows of some keys.
fn with_copies(sql: &str, frozen: &[(&str, &str, &str)]) -> String {
    let mut kept = String::new();
    for line in sql.lines() {
        kept.push_str(line.trim_end_matches(';'));
        let tenants = line.contains(" tenants ");
        for (key, value, column) in frozen {
            let column = if tenants && *key == "tenant" { "id" } else { column };
            if line.contains(&format!(" {column} ")) || line.contains(&format!("({column}")) {
                let _ = write!(kept, " AND {column} <> '{value}'");
            }
        }
        kept.push_str(";\n");
    }
    kept
}

async fn serve(
    cluster: &Cluster,
    frozen: &[(&str, &str, &str)],
    change: impl FnOnce(&mut Config),
) -> app::Server {
    let map = map(cluster, shards());
    let frozen = frozen.iter().map(|(key, value, _)| {
        let key = map.key_named(key).unwrap();
        let ty = map.key(key).unwrap().key_type();
        (key, KeyValue::from_text(ty, value).unwrap().into_owned())
    });
    let frozen = frozen.collect();
    let map = map.freezing(frozen);
    let mut config = Config::default();
    "127.0.0.1:0".clone_into(&mut config.listen.address);
    config.auth.method = AuthMethod::Trust;
    // What can be kept prepared is so from the first time on.
    config.pool.prepare_threshold = 1;
    change(&mut config);
    app::Server::start(config, map).await.unwrap()
}
