//! One cluster: a database with all rows, three that share them, and a proxy over those.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use pgmeridian::app;
use pgmeridian::config::{AuthMethod, Config};
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
    _proxy: app::Server,
    _cluster: Cluster,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With other settings of the proxy.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
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
                client.batch_execute(&sql).await.unwrap();
            }
            let rows = client.query("SELECT oid, typname::text FROM pg_type", &[]).await.unwrap();
            types.push(
                rows.iter().map(|row| (row.get(0), row.get(1))).collect::<HashMap<u32, String>>(),
            );
        }
        let proxy = serve(&cluster, change).await;
        let parameters = [("user", ROLE), ("database", DATABASE)];
        let direct = pgmeridian_address(&cluster);
        let mut types = types.into_iter();
        let plain =
            Server { raw: Raw::log_in(direct, &parameters).0, types: types.next().unwrap() };
        let proxied = Server {
            raw: Raw::log_in(proxy.address(), &parameters).0,
            types: types.next().unwrap(),
        };
        Self { plain, proxied, _proxy: proxy, _cluster: cluster }
    }
}

fn pgmeridian_address(cluster: &Cluster) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], cluster.port()))
}

async fn serve(cluster: &Cluster, change: impl FnOnce(&mut Config)) -> app::Server {
    let mut map =
        format!("version = 1\ndatabase = \"{DATABASE}\"\ndefault_shard = \"{}\"\n", NAMES[0]);
    for (index, name) in shards().iter().enumerate() {
        let url = cluster.database_url(name);
        let id = index + 1;
        let _ = write!(
            map,
            "[[shards]]\nid = {id}\nname = \"{name}\"\nregion = \"X\"\nurl = \"{url}\"\n"
        );
    }
    let list = format!("shards = {:?}", shards());
    let last = shards()[shards().len().min(3) - 1];
    let rest = include_str!("map.toml")
        .replace("shards = [\"usa-east\", \"usa-west\", \"deu\"]", &list)
        .replace("shard = \"deu\"", &format!("shard = \"{last}\""));
    map.push_str(&rest);
    let (map, _) = ShardMap::parse("differential.toml", &map, &|_| None)
        .unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    let mut config = Config::default();
    "127.0.0.1:0".clone_into(&mut config.listen.address);
    config.auth.method = AuthMethod::Trust;
    change(&mut config);
    app::Server::start(config, map).await.unwrap()
}
