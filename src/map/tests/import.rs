//! `config.csv` of General Bots: what it becomes, and what is said of the rest.

use super::*;
use crate::map::import::import;

fn imported(csv: &str) -> (ShardMap, String) {
    let imported = import(csv).unwrap_or_else(|error| panic!("{error}"));
    let env = |name: &str| match name {
        "DB_USER" | "DB_PASSWORD" | "PGUSER" => Some("gb".to_owned()),
        _ => name.ends_with("_URL").then(|| format!("postgresql://gb@{}/gb", name.to_lowercase())),
    };
    let (map, _) = ShardMap::parse("map.toml", &imported.map, &env)
        .unwrap_or_else(|faults| panic!("{faults}\n{}", imported.map));
    (map, imported.remarks.join("\n"))
}

fn place(map: &ShardMap, key: i64) -> &str {
    map.place(K, &crate::datum::KeyValue::Int(key)).map_or("none", |at| map.shard_name(at))
}

#[test]
fn hash_keeps_the_number_that_the_remainder_is() {
    let csv = "name,value\n# Hash sharding\nshard-strategy,hash\nshard-count,4\nshard-key,user_id\n\
               shard-algorithm,modulo\nshard-1-primary,postgresql://shard1-primary:5432/gb\n\
               shard-1-replica-1,postgresql://shard1-replica1:5432/gb\n\
               shard-1-failover-priority,replica-1,replica-2\ncircuit-breaker-threshold,5\n\
               health-interval,10\nllm-model,x\n";
    let (map, remarks) = imported(csv);
    let found: Vec<&str> = [12345, 12346, 12347, 12348].map(|key| place(&map, key)).to_vec();
    assert_eq!(found, ["shard1", "shard2", "shard3", "shard4"]);
    assert_eq!(map.keys()[0].columns, ["user_id"]);
    assert_eq!(map.shards()[0].url.host.to_string(), "shard1-primary");
    assert_eq!(map.shards()[0].replicas.len(), 1);
    for remark in [
        "remainder 0 is taken for shard4",
        "where shard2 is, is not said: set SHARD2_URL",
        "shard-1-failover-priority has no equivalent",
        "circuit-breaker-threshold belongs into pgmeridian.toml: [breaker] threshold = 5",
        "health-interval belongs into pgmeridian.toml: [health] interval = \"10s\"",
    ] {
        assert!(remarks.contains(remark), "{remark}\n{remarks}");
    }
    assert!(!remarks.contains("llm-model"));
}

#[test]
fn ranges_and_regions_and_databases() {
    let (map, _) = imported(
        "shard-strategy,range\nshard-ranges,0-999999:shard1,1000000-1999999:shard2,2000000-:shard3\n",
    );
    let found: Vec<&str> = [-1, 0, 999_999, 1_000_000, 2_000_000].map(|k| place(&map, k)).to_vec();
    assert_eq!(found, ["none", "shard1", "shard1", "shard2", "shard3"]);

    let (map, remarks) = imported(
        "shard-strategy,geo\nshard-geo-us,postgres-us.example.com\nshard-geo-eu,postgres-eu.example.com\n\
         shard-geo-asia,postgres-asia.example.com\nshard-default,postgres-us.example.com\nshard-detection,ip\n",
    );
    assert_eq!(map.shard_name(map.default_shard()), "us");
    let region = crate::datum::KeyValue::Text("eu".into());
    assert_eq!(map.shard_name(map.place(K, &region).unwrap()), "eu");
    assert!(remarks.contains("shard-detection has no equivalent"), "{remarks}");

    // Shards of their own sections may be named, too; those that are not, are told.
    let (map, remarks) = imported(
        "shard-strategy,geo\nshard-geo-us,shard-1\nshard-geo-eu,shard2\nshard-default,shard-1\n\
         shard-1-primary,postgresql://gb@us-1/gb\nshard-1-replica-1,postgresql://gb@us-2/gb\n\
         shard-2-primary,postgresql://gb@eu-1/gb\nshard-3-primary,postgresql://gb@asia-1/gb\n\
         shard-4-url,postgresql://gb@other/gb\n",
    );
    assert_eq!(map.shard_name(map.place(K, &region).unwrap()), "shard2");
    assert_eq!(map.shard_name(map.default_shard()), "shard1");
    assert_eq!(map.shards()[0].url.host.to_string(), "us-1");
    assert_eq!((map.shards()[0].replicas.len(), map.shards().len()), (1, 2));
    assert!(remarks.contains("the primary and the replicas of shard3 are not used"), "{remarks}");
    assert!(remarks.contains("shard-4-url is not known: a shard's URL is shard-1-primary"));
    assert!(!remarks.contains("bigint"), "{remarks}");

    let (map, _) = imported(
        "shard-strategy,tenant\nshard-tenant-db-prefix,gb_tenant_\nshard-auto-create,true\n",
    );
    assert!(matches!(
        &map.keys()[0].strategy,
        Strategy::Database(database) if database.prefix == "gb_tenant_" && database.auto_create
    ));
}

#[test]
fn what_has_no_equivalent_is_refused_by_name() {
    let check = |csv: &str, expect: &str| {
        let error = import(csv).unwrap_err();
        assert!(error.contains(expect), "{error}");
    };
    check("", "there is no shard-strategy");
    check("shard-strategy,time\nshard-interval,monthly\n", "time has no equivalent");
    check("shard-strategy,magic\n", "magic is not known");
    check("shard-strategy,hash\n", "which shards there are");
    check("shard-strategy,hash\nshard-count,x\n", "not a number from 1 to 1024");
    check("shard-strategy,hash\nshard-count,2\nshard-algorithm,crc\n", "crc is not known");
    check("shard-strategy,range\n", "there are no shard-ranges");
    check("shard-strategy,range\nshard-ranges,1..5:shard1\n", "is not from-to:shard");
    check("shard-strategy,geo\n", "no shard-geo-");
}
