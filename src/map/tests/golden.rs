//! Golden placements. They are frozen: a value that changes here is a row that nobody finds. Those of `md5`
//! and `consistent` were computed by an independent program, those of `postgres` and `slots` by a PostgreSQL
//! 15 server (`satisfies_hash_partition`).

use super::*;
use crate::datum::KeyValue;

/// Places texts read as the key's type; the shard's number, or `x` for none.
fn placed(map: &ShardMap, keys: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let ty = map.keys()[0].key_type();
    keys.into_iter()
        .map(|key| {
            let value = KeyValue::from_text(ty, key.as_ref()).unwrap();
            map.place(K, &value).map_or("x".to_owned(), |shard| shard.0.to_string())
        })
        .collect()
}

fn to(last: i64) -> impl Iterator<Item = String> {
    (1..=last).map(|i| i.to_string())
}

const INTEGERS: [&str; 8] =
    ["0", "1", "-1", "7", "42", "1000", "9223372036854775807", "-9223372036854775808"];
const UUIDS: [&str; 2] =
    ["00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"];
const TEXTS: [&str; 4] = ["", "USA", "日本語", "a b"];

fn hash(ty: &str, options: &str) -> ShardMap {
    let shards = "shards = [\"usa-east\", \"usa-west\", \"deu\"]";
    keyed(ty, "hash", &format!("[keys.k.hash]\n{options}\n{shards}\n"))
}

#[test]
fn modulo_is_the_euclidean_remainder() {
    let map = hash("bigint", "algorithm = \"modulo\"");
    assert_eq!(placed(&map, ["0", "1", "2", "3", "-1", "-2", "-3", "42"]), "01202100");
    assert_eq!(placed(&map, ["9223372036854775807", "-9223372036854775808"]), "11");
}

#[test]
fn md5_takes_four_bytes() {
    let plain = |ty| hash(ty, "algorithm = \"md5\"");
    assert_eq!(placed(&plain("bigint"), INTEGERS), "01001221");
    assert_eq!(placed(&plain("uuid"), UUIDS), "01");
    assert_eq!(placed(&plain("text"), TEXTS), "1020");
    assert_eq!(placed(&plain("integer"), to(40)), "1202200120011210200012111012020221111102");
    let prefixed = |ty| hash(ty, "algorithm = \"md5\"\nprefix = \"tenant:\"");
    assert_eq!(placed(&prefixed("bigint"), INTEGERS), "02122001");
    assert_eq!(placed(&prefixed("uuid"), UUIDS), "21");
    assert_eq!(placed(&prefixed("varchar"), TEXTS), "2102");
}

#[test]
fn consistent_takes_the_next_point_of_the_ring() {
    let plain = |ty| hash(ty, "algorithm = \"consistent\"");
    assert_eq!(placed(&plain("bigint"), INTEGERS), "12210100");
    assert_eq!(placed(&plain("uuid"), UUIDS), "12");
    assert_eq!(placed(&plain("text"), TEXTS), "1221");
    assert_eq!(placed(&plain("smallint"), to(40)), "2021101120112020200101002121211121220012");
    let prefixed = hash("bigint", "algorithm = \"consistent\"\nprefix = \"tenant:\"");
    assert_eq!(placed(&prefixed, INTEGERS), "20010112");
}

#[test]
fn a_ring_name_outlives_a_rename() {
    let options = "[keys.k]\ncolumns = [\"k\"]\ntype = \"bigint\"\nstrategy = \"hash\"\n\
                   [keys.k.hash]\nalgorithm = \"consistent\"\nvirtual_nodes = 4\n\
                   shards = [\"usa-east\", \"usa-west\", \"deu\"]\n";
    let text = with_shards(options).replacen(
        "name = \"usa-east\"",
        "name = \"usa-east\"\nring_name = \"old-name\"",
        1,
    );
    let (map, _) = ShardMap::parse("map.toml", &text, &no_env).unwrap();
    assert_eq!(placed(&map, INTEGERS), "11011122");
}

#[test]
fn postgres_is_the_partition_of_a_real_server() {
    let map = hash("bigint", "algorithm = \"postgres\"");
    assert_eq!(placed(&map, to(40)), "2010201021221100200012221102022200212021");
    let two = keyed(
        "bigint",
        "hash",
        "[keys.k.hash]\nalgorithm = \"postgres\"\nshards = [\"deu\", \"usa-west\"]\n",
    );
    let expect: String = "0011111111100010001111010000101010111101"
        .chars()
        .map(|c| if c == '0' { '2' } else { '1' })
        .collect();
    assert_eq!(placed(&two, to(40)), expect);
}

#[test]
fn slots_are_the_row_hash_modulo_16384() {
    let slots: Vec<u16> = (1..=12).map(|i| super::super::hash::slot(&KeyValue::Int(i))).collect();
    let server = [4024, 8570, 13497, 291, 13085, 15379, 1303, 6933, 6045, 7271, 13857, 3308];
    assert_eq!(slots, server);
    let map = hash(
        "bigint",
        "algorithm = \"slots\"\nslots = { \"0-5460\" = \"usa-east\", \"5461-10922\" = \"usa-west\", \
         \"10923\" = \"usa-east\", \"10924-16383\" = \"deu\" }",
    );
    assert_eq!(placed(&map, to(12)), "012022011120");
}

#[test]
fn ranges_include_both_ends() {
    let map = keyed(
        "bigint",
        "range",
        "[keys.k.range]\nranges = [{ from = 21, to = 30, shard = \"deu\" }, { to = -1, shard = \"usa-west\" }, \
         { from = 1, to = 20, shard = \"usa-east\" }, { from = 40, shard = \"usa-west\" }]\n",
    );
    let keys = [
        "-9223372036854775808",
        "-1",
        "0",
        "1",
        "20",
        "21",
        "30",
        "31",
        "39",
        "40",
        "9223372036854775807",
    ];
    assert_eq!(placed(&map, keys), "11x0022xx11");
    let text = keyed(
        "text",
        "range",
        "[keys.k.range]\nranges = [{ to = \"m\", shard = \"deu\" }, { from = \"n\", shard = \"usa-west\" }]\n",
    );
    assert_eq!(placed(&text, ["", "Z", "a", "m", "mm", "n", "é"]), "2222x11");
}

#[test]
fn directory_entries_win_over_otherwise() {
    let directory = |otherwise: &str, section: &str| {
        let entries = "entries = { 42 = \"deu\", \" 007\" = \"usa-west\" }";
        let rest = format!("[keys.k.directory]\n{entries}\notherwise = \"{otherwise}\"\n{section}");
        keyed("bigint", "directory", &rest)
    };
    let map = directory(
        "range",
        "[keys.k.range]\nranges = [{ from = 1, to = 100, shard = \"usa-east\" }]\n",
    );
    assert_eq!(placed(&map, ["42", "7", "8", "101"]), "210x");
    let map = directory(
        "hash",
        "[keys.k.hash]\nalgorithm = \"modulo\"\nshards = [\"usa-east\", \"usa-west\"]\n",
    );
    assert_eq!(placed(&map, ["42", "7", "8", "101"]), "2101");
    assert_eq!(placed(&directory("refuse", ""), ["42", "7", "8"]), "21x");
    let error = directory("refuse", "").place(K, &KeyValue::Int(999)).unwrap_err();
    let error = error.error(Some("users"));
    assert_eq!(error.to_string(), "no shard for key k = 999 of table \"users\" (SQLSTATE 22023)");
}

#[test]
fn geo_places_by_the_stored_text_then_within_the_region() {
    let geo = |within: &str, default: &str| {
        let regions = "regions = { USA = [\"usa-west\", \"usa-east\"], DEU = [\"deu\"] }";
        keyed("text", "geo", &format!("[keys.k.geo]\n{regions}\n{within}\n{default}\n"))
    };
    let place = |map: &ShardMap, region: &'static str, second: Option<i64>| {
        let mut row = vec![KeyValue::Text(region.into())];
        row.extend(second.map(KeyValue::Int));
        map.place_row(K, &row).map(|shard| shard.0).map_err(|e| e.why)
    };
    let map = geo(
        "within = { column = \"t\", type = \"bigint\", algorithm = \"postgres\" }",
        "default = \"usa-east\"",
    );
    // The server's partitions of 1 to 6 with modulus 2 are 0 0 1 1 1 1; the second part alone is hashed.
    let usa: Vec<_> = (1..=6).map(|i| place(&map, "USA", Some(i)).unwrap()).collect();
    assert_eq!(usa, [1, 1, 0, 0, 0, 0]);
    assert_eq!(place(&map, "DEU", Some(1)), Ok(2));
    assert_eq!(place(&map, "DEU", None), Ok(2));
    assert_eq!(place(&map, "USA", None), Err(Why::Incomplete));
    assert_eq!(place(&map, "usa", Some(1)), Ok(0));
    assert_eq!(place(&map, "USA ", Some(2)), Ok(0));
    let strict = geo(
        "within = { column = \"t\", type = \"bigint\", algorithm = \"modulo\" }",
        "default = \"refuse\"",
    );
    assert_eq!(place(&strict, "FRA", Some(1)), Err(Why::RegionNotListed));
    assert_eq!(place(&strict, "USA", Some(-1)), Ok(0));
}
