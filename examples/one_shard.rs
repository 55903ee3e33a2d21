//! A scratch PostgreSQL with a proxy of one shard before it, for suites that compare the two: prints
//! `direct PORT` and `proxied PORT`, and serves until its standard input ends. Both let `postgres` in as a
//! superuser, by trust, to the database `postgres`.

#![expect(clippy::print_stdout, reason = "an example talks to people")]

use std::io::Read as _;

use anyhow::{Result, anyhow};
use pgmeridian::app::Server;
use pgmeridian::config::{AuthMethod, Config};
use pgmeridian::demo::cluster::{Cluster, Options, SUPERUSER};
use pgmeridian::map::ShardMap;

/// Connections to the shard: few enough that clients share them.
const CONNECTIONS: usize = 4;

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = Cluster::start(&Options {
        hba: vec![format!("host all {SUPERUSER} 127.0.0.1/32 trust")],
        ..Options::named("suite")
    })?;
    let map = format!(
        "version = 1\ndatabase = \"{SUPERUSER}\"\ndefault_shard = \"only\"\n\
         [[shards]]\nid = 1\nname = \"only\"\nregion = \"USA\"\n\
         url = \"postgresql://{SUPERUSER}@127.0.0.1:{}/{SUPERUSER}\"\n",
        cluster.port()
    );
    let (map, _warnings) = ShardMap::parse("one shard", &map, &|_| None)
        .map_err(|faults| anyhow!("{}", faults.render(false)))?;
    let mut config = Config::default();
    "127.0.0.1:0".clone_into(&mut config.listen.address);
    config.auth.method = AuthMethod::Trust;
    config.pool.size = CONNECTIONS;
    let proxy = Server::start(config, map).await?;
    println!("direct {}\nproxied {}", cluster.port(), proxy.address().port());
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}
