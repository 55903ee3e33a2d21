//! The maps of `shard-maps/`, and one with everything that the contract has.

use std::time::Duration;

use super::*;
use crate::datum::KeyValue;

const SHIPPED: [(&str, &str); 7] = [
    ("hash.toml", include_str!("../../../shard-maps/hash.toml")),
    ("range.toml", include_str!("../../../shard-maps/range.toml")),
    ("geo.toml", include_str!("../../../shard-maps/geo.toml")),
    ("directory.toml", include_str!("../../../shard-maps/directory.toml")),
    ("slots.toml", include_str!("../../../shard-maps/slots.toml")),
    ("database.toml", include_str!("../../../shard-maps/database.toml")),
    ("botserver.toml", include_str!("../../../shard-maps/botserver.toml")),
];

#[test]
fn shipped_maps_are_valid() {
    for (name, text) in SHIPPED {
        let (map, warnings) = ShardMap::parse(name, text, &no_env)
            .unwrap_or_else(|faults| panic!("{name}\n{faults}"));
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
        assert_eq!(map.database(), "bots");
        let names: Vec<&str> = map.shards().iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["usa-east", "usa-west", "deu"]);
        let ports: Vec<u16> = map.shards().iter().map(|s| s.url.port).collect();
        assert_eq!(ports, [5501, 5502, 5503]);
        assert_eq!(ids(map.key_shards(K)), [0, 1, 2]);
        assert_eq!(map.session_key(), Some(K));
    }
}

#[test]
fn rules_are_told_in_words() {
    let check = |file: &str, values: &[KeyValue<'static>], shard: u16, expect: &str| {
        let (_, text) = SHIPPED.iter().find(|(name, _)| *name == file).unwrap();
        let (map, _) = ShardMap::parse(file, text, &no_env).unwrap();
        assert_eq!(map.place_row(K, values), Ok(ShardId(shard)), "{file} {values:?}");
        assert_eq!(map.keys()[0].rule(values), expect, "{file} {values:?}");
    };
    let int = |i| [KeyValue::Int(i)];
    let row = |region: &'static str, i| [KeyValue::Text(region.into()), KeyValue::Int(i)];
    check("hash.toml", &int(40), 1, "hash postgres modulo 3");
    check("range.toml", &int(20), 0, "range 1 to 20");
    check("range.toml", &int(42), 2, "range from 41");
    check("directory.toml", &int(42), 2, "directory entry 42");
    check("directory.toml", &int(43), 1, "not in the directory, range 31 to 60");
    check("slots.toml", &int(1), 0, "slot 4024");
    check("slots.toml", &int(3), 2, "slot 13497");
    check("geo.toml", &row("USA", 3), 1, "region USA, hash postgres modulo 2");
    check("geo.toml", &row("FRA", 3), 2, "region FRA");
    check("geo.toml", &row("MEX", 3), 0, "region MEX is not listed, default");
    check("botserver.toml", &int(1_000_001), 1, "not in the directory, range 1000001 to 2000000");
}

#[test]
fn every_section_of_the_contract_is_read() {
    let text = include_str!("../../../tests/golden/full_map.toml");
    let env = |name: &str| (name == "BOT_PASSWORD").then(|| "s3cret".to_owned());
    let (map, warnings) =
        ShardMap::parse("full_map.toml", text, &env).unwrap_or_else(|f| panic!("{f}"));
    let warned: Vec<&str> = warnings.iter().map(Fault::message).collect();
    let expected = "shard \"usa-west\" is not active";
    assert!(warned.contains(&expected), "{warned:?}");
    assert_eq!(warned.len(), 2);
    let shard = &map.shards()[0];
    assert_eq!((shard.id, shard.ring_name.as_str()), (1, "old-east"));
    assert_eq!(shard.url.password.as_ref().map(Password::reveal), Some("s3cret"));
    assert_eq!(shard.replicas.len(), 1);
    assert!(!map.shards()[1].active);
    assert_eq!(map.with_version(7).version(), 7);
    let (map, _) = ShardMap::parse("full_map.toml", text, &env).unwrap();
    assert!(!map.routing());
    let tenant = map.key_named("tenant").unwrap();
    assert_eq!(map.place(tenant, &KeyValue::Int(42)), Ok(ShardId(2)));
    assert_eq!(map.place(tenant, &KeyValue::Int(43)), Ok(ShardId(0)));
    assert_eq!(map.key(tenant).unwrap().place_new, PlaceNew::Geo);
    assert_eq!(map.lookups()[0].source.as_ref().unwrap().table, "public.bots");
    assert_eq!(map.everywhere_rows().len(), 1);
    assert_eq!(map.databases().len(), 2);
    assert_eq!((map.session_key(), map.key_setting()), (Some(tenant), Some("app.tenant_id")));
    let policy = map.policy();
    assert_eq!(policy.cross_shard_reads, CrossShardReads::Refuse);
    assert_eq!(policy.cross_shard_writes, CrossShardWrites::Refuse);
    assert_eq!(policy.cross_shard_snapshot, CrossShardSnapshot::BestEffort);
    assert_eq!(policy.unlisted_tables, UnlistedTables::Refuse);
    assert!(!policy.fill_keys && policy.trust_shard_id);
    assert_eq!(policy.residency[0].together, ["DEU", "FRA"]);
    assert_eq!(map.control().unwrap().poll, Duration::from_secs(10));
    assert!(!format!("{map:?}").contains("s3cret"));
}

#[test]
fn small_maps_need_little() {
    let text = "[[shards]]\nname = \"only\"\nurl = \"postgresql://bot@h/db\"\n";
    let (map, _) = ShardMap::parse("m", text, &no_env).unwrap_or_else(|f| panic!("{f}"));
    assert_eq!((map.version(), map.database(), map.default_shard()), (1, "db", ShardId(0)));
    assert_eq!(map.shards()[0].id, 1);
    assert!(map.routing() && map.keys().is_empty() && map.session_key().is_none());
}
