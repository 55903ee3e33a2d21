//! Tests of maps as a whole: golden placements, soundness of sets, faults, the maps that are shipped.

mod control;
mod faults;
mod geoip;
mod golden;
mod import;
mod parts;
mod shipped;
mod tables;

use super::*;

/// Three shards, and what comes after them.
fn with_shards(rest: &str) -> String {
    let mut shards = String::new();
    for (name, port) in ["usa-east", "usa-west", "deu"].iter().zip(5501..) {
        let id = port - 5500;
        let url = format!("postgresql://bot:bot@127.0.0.1:{port}/bots");
        shards = format!("{shards}[[shards]]\nid = {id}\nname = \"{name}\"\nurl = \"{url}\"\n");
    }
    format!("version = 1\ndefault_shard = \"usa-east\"\n{shards}\n{rest}")
}

fn no_env(_: &str) -> Option<String> {
    None
}

/// A map that must be valid.
fn map(rest: &str) -> ShardMap {
    match ShardMap::parse("map.toml", &with_shards(rest), &no_env) {
        Ok((map, _)) => map,
        Err(faults) => panic!("{faults}"),
    }
}

/// A map with one key of this type and strategy.
fn keyed(ty: &str, strategy: &str, rest: &str) -> ShardMap {
    map(&format!("[keys.k]\ncolumns = [\"k\"]\ntype = \"{ty}\"\nstrategy = \"{strategy}\"\n{rest}"))
}

const K: KeyId = KeyId(0);

/// The numbers of a set's shards.
fn ids(set: &ShardSet) -> Vec<u16> {
    set.iter().map(|shard| shard.0).collect()
}
