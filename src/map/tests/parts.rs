//! Sets of shards from what is known of a key: exact where that can be told, never too small.

use super::*;
use crate::datum::KeyValue;

fn int(i: i64) -> KeyValue<'static> {
    KeyValue::Int(i)
}

fn range(lower: Option<(i64, bool)>, upper: Option<(i64, bool)>) -> Part<'static> {
    let bound = |b: Option<(i64, bool)>| b.map(|(i, inclusive)| (int(i), inclusive));
    Part::Range { lower: bound(lower), upper: bound(upper) }
}

fn shards(map: &ShardMap, parts: &[Part<'_>]) -> Vec<u16> {
    ids(&map.place_parts(K, parts).unwrap())
}

const RANGES: &str = "[keys.k.range]\nranges = [{ from = 1, to = 100, shard = \"usa-east\" }, \
                      { from = 101, to = 200, shard = \"usa-west\" }, { from = 301, shard = \"deu\" }]\n";

#[test]
fn ranges_over_ranges_are_the_overlapping_ones() {
    let map = keyed("bigint", "range", RANGES);
    let check = |lower, upper, expect: &[u16]| {
        assert_eq!(shards(&map, &[range(lower, upper)]), expect, "{lower:?} {upper:?}");
    };
    check(None, None, &[0, 1, 2]);
    check(None, Some((100, true)), &[0]);
    check(None, Some((101, false)), &[0]);
    check(None, Some((101, true)), &[0, 1]);
    check(Some((100, true)), None, &[0, 1, 2]);
    check(Some((100, false)), None, &[1, 2]);
    check(Some((200, false)), None, &[2]);
    check(Some((1000, true)), Some((9000, true)), &[2]);
    check(Some((201, true)), Some((300, true)), &[]);
    check(Some((201, true)), Some((250, true)), &[]);
    check(Some((50, true)), Some((40, true)), &[]);
    check(Some((50, true)), Some((50, false)), &[]);
    check(Some((50, true)), Some((50, true)), &[0]);
    assert_eq!(shards(&map, &[]), [0, 1, 2]);
    assert_eq!(shards(&map, &[Part::Any]), [0, 1, 2]);
    assert_eq!(shards(&map, &[Part::Values(&[])]), [0u16; 0]);
    assert_eq!(shards(&map, &[Part::Values(&[int(5), int(400), int(6)])]), [0, 2]);
    let error = map.place_parts(K, &[Part::Values(&[int(5), int(250)])]).unwrap_err();
    assert_eq!((error.value.as_str(), error.why), ("250", Why::NoRange));
}

#[test]
fn ranges_over_a_hash_are_counted_out_when_they_are_short() {
    let hash =
        "[keys.k.hash]\nalgorithm = \"modulo\"\nshards = [\"usa-east\", \"usa-west\", \"deu\"]\n";
    let map = keyed("bigint", "hash", hash);
    assert_eq!(shards(&map, &[range(Some((3, true)), Some((5, false)))]), [0, 1]);
    assert_eq!(shards(&map, &[range(Some((3, false)), Some((5, false)))]), [1]);
    assert_eq!(shards(&map, &[range(Some((3, false)), Some((4, false)))]), [0u16; 0]);
    assert_eq!(shards(&map, &[range(Some((3, true)), Some((5000, true)))]), [0, 1, 2]);
    assert_eq!(shards(&map, &[range(Some((i64::MIN, true)), Some((i64::MAX, true)))]), [0, 1, 2]);
    assert_eq!(shards(&map, &[range(Some((i64::MAX, false)), None)]), [0, 1, 2]);
    let edge = range(Some((i64::MAX, false)), Some((i64::MAX, true)));
    assert_eq!(shards(&map, &[edge]), [0u16; 0]);
}

#[test]
fn ranges_over_a_directory_take_listed_keys_too() {
    let directory = "[keys.k.directory]\nentries = { 150 = \"deu\", 5000 = \"usa-east\" }\n\
                     otherwise = \"range\"\n";
    let map = keyed("bigint", "directory", &format!("{directory}{RANGES}"));
    assert_eq!(shards(&map, &[range(Some((101, true)), Some((200, true)))]), [1, 2]);
    assert_eq!(shards(&map, &[range(Some((101, true)), Some((150, false)))]), [1]);
    assert_eq!(shards(&map, &[range(Some((1000, true)), None)]), [0, 2]);
    assert_eq!(shards(&map, &[range(Some((201, true)), Some((299, true)))]), [0u16; 0]);
}

#[test]
fn ranges_of_text_restrict_nothing() {
    let map = keyed(
        "text",
        "range",
        "[keys.k.range]\nranges = [{ to = \"m\", shard = \"deu\" }, { from = \"n\", shard = \"usa-west\" }]\n",
    );
    let bound = |text: &'static str| Some((KeyValue::Text(text.into()), true));
    for (lower, upper) in [("a", "b"), ("z", "A")] {
        let part = Part::Range { lower: bound(lower), upper: bound(upper) };
        assert_eq!(shards(&map, &[part]), [1, 2]);
    }
    let uuid = |byte| Some((KeyValue::Uuid([byte; 16]), true));
    let part = Part::Range { lower: uuid(1), upper: uuid(2) };
    assert_eq!(shards(&map, &[part]), [1, 2]);
}

#[test]
fn geo_takes_each_part() {
    let map = keyed(
        "text",
        "geo",
        "[keys.k.geo]\nregions = { USA = [\"usa-east\", \"usa-west\"], DEU = [\"deu\"] }\n\
         within = { column = \"t\", type = \"bigint\", algorithm = \"modulo\" }\ndefault = \"refuse\"\n",
    );
    let usa = [KeyValue::Text("USA".into())];
    let both = [KeyValue::Text("USA".into()), KeyValue::Text("DEU".into())];
    let fra = [KeyValue::Text("FRA".into())];
    assert_eq!(shards(&map, &[Part::Any, Part::Any]), [0, 1, 2]);
    assert_eq!(shards(&map, &[Part::Values(&usa), Part::Any]), [0, 1]);
    assert_eq!(shards(&map, &[Part::Values(&usa)]), [0, 1]);
    assert_eq!(shards(&map, &[Part::Values(&usa), Part::Values(&[int(3)])]), [1]);
    assert_eq!(shards(&map, &[Part::Values(&both), Part::Values(&[int(2)])]), [0, 2]);
    assert_eq!(shards(&map, &[Part::Any, Part::Values(&[int(3)])]), [1, 2]);
    assert_eq!(shards(&map, &[Part::Any, Part::Values(&[])]), [0u16; 0]);
    assert_eq!(shards(&map, &[Part::Values(&usa), range(Some((2, true)), Some((2, true)))]), [0]);
    assert_eq!(shards(&map, &[Part::Values(&usa), range(Some((2, true)), None)]), [0, 1]);
    let error = map.place_parts(K, &[Part::Values(&fra), Part::Any]).unwrap_err();
    assert_eq!(error.why, Why::RegionNotListed);
    assert_eq!(ids(map.key_shards(K)), [0, 1, 2]);
}

/// What is placed is inside every set that may hold it, for every strategy.
#[test]
fn sets_are_sound() {
    let hash = |algorithm: &str| {
        let shards = "shards = [\"usa-east\", \"usa-west\", \"deu\"]";
        keyed("bigint", "hash", &format!("[keys.k.hash]\nalgorithm = \"{algorithm}\"\n{shards}\n"))
    };
    let directory =
        "[keys.k.directory]\nentries = { 5 = \"deu\", 150 = \"deu\", 250 = \"usa-west\" }\n";
    let maps = [
        hash("modulo"),
        hash("md5"),
        hash("consistent"),
        hash("postgres"),
        keyed("bigint", "range", RANGES),
        keyed("bigint", "directory", &format!("{directory}otherwise = \"range\"\n{RANGES}")),
        keyed("bigint", "directory", &format!("{directory}otherwise = \"refuse\"\n")),
    ];
    for map in &maps {
        for low in (-5..400).step_by(7) {
            for width in [0, 1, 3, 62, 63, 64, 65, 200] {
                let set = map
                    .place_parts(K, &[range(Some((low, true)), Some((low + width, true)))])
                    .unwrap();
                assert!(set.is_subset(map.key_shards(K)));
                for key in low..=low + width {
                    if let Ok(shard) = map.place(K, &int(key)) {
                        assert!(set.contains(shard), "{key} in {low}+{width}");
                    }
                }
            }
        }
    }
}

#[test]
fn values_of_another_type_have_no_shard() {
    let map = keyed("bigint", "range", RANGES);
    let error = map.place(K, &KeyValue::Text("1".into())).unwrap_err();
    assert_eq!(error.why, Why::WrongType);
    assert!(map.place(KeyId(9), &int(1)).is_err());
}
