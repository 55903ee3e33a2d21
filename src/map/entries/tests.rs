//! Directories against a plain map, and snapshots against their later selves.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn key(ty: KeyType, n: i64) -> KeyValue<'static> {
    match ty {
        KeyType::Uuid => {
            KeyValue::Uuid((n as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
        }
        KeyType::Text | KeyType::Varchar => {
            KeyValue::Text(format!("{}{n}", "é".repeat(n.rem_euclid(97) as usize)).into())
        }
        _ => KeyValue::Int(n),
    }
}

fn sorted(entries: &Entries) -> Vec<(KeyValue<'static>, i16)> {
    let mut all: Vec<_> = entries.rows().map(|(key, home)| (key.into_owned(), home)).collect();
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever is put and removed, it is what a plain map would hold; a snapshot stays as it was, and the
    /// difference leads from it to what came later.
    #[test]
    fn entries_are_a_map(
        ty in prop_oneof![Just(KeyType::BigInt), Just(KeyType::Uuid), Just(KeyType::Text)],
        first in prop::collection::vec((-300i64..300, -3i16..9), 0..400),
        then in prop::collection::vec((-300i64..300, prop::option::of(-3i16..9)), 0..200),
    ) {
        let mut entries = Entries::new(ty);
        let mut plain = BTreeMap::new();
        for (n, home) in first {
            prop_assert_eq!(entries.put(&key(ty, n), home), plain.insert(key(ty, n), home));
        }
        let before = entries.clone();
        let plain_before = plain.clone();
        for (n, home) in then {
            let key = key(ty, n);
            let (mine, theirs) = match home {
                Some(home) => (entries.put(&key, home), plain.insert(key, home)),
                None => (entries.remove(&key), plain.remove(&key)),
            };
            prop_assert_eq!(mine, theirs);
        }
        prop_assert_eq!(entries.len(), plain.len() as u64);
        prop_assert_eq!(sorted(&entries), plain.clone().into_iter().collect::<Vec<_>>());
        prop_assert_eq!(sorted(&before), plain_before.clone().into_iter().collect::<Vec<_>>());
        let mut patched = plain_before;
        for moved in entries.moved_since(&before) {
            prop_assert_eq!(moved.from, patched.get(&moved.key).copied());
            prop_assert_ne!(moved.from, moved.to);
            match moved.to {
                Some(home) => patched.insert(moved.key, home),
                None => patched.remove(&moved.key),
            };
        }
        prop_assert_eq!(patched, plain);
    }
}

#[test]
fn pages_divide_and_stay_small() {
    for (ty, bytes_max) in [(KeyType::BigInt, 18), (KeyType::Uuid, 32), (KeyType::Text, 150)] {
        let mut entries = Entries::new(ty);
        for n in 0..40_000 {
            assert_eq!(entries.put(&key(ty, n), (n % 5) as i16), None);
        }
        assert_eq!(
            entries.homes().collect::<Vec<_>>(),
            (0..5).map(|h| (h, 8000)).collect::<Vec<_>>()
        );
        for n in 0..40_000 {
            assert_eq!(entries.find(&key(ty, n)), Some((n % 5) as i16));
            assert_eq!(entries.find(&key(ty, n + 40_000)), None);
        }
        let bytes = entries.memory_bytes() / 40_000;
        assert!(bytes <= bytes_max, "{ty}: {bytes}");
        let before = entries.clone();
        assert_eq!(entries.put(&key(ty, 7), 100), Some(2));
        assert_eq!(entries.remove(&key(ty, 8)), Some(3));
        assert_eq!(entries.moved_since(&before).len(), 2);
        assert_eq!((before.find(&key(ty, 7)), before.find(&key(ty, 8))), (Some(2), Some(3)));
    }
}

#[test]
fn a_key_of_another_type_is_not_recorded() {
    let mut entries = Entries::new(KeyType::BigInt);
    assert_eq!(entries.put(&KeyValue::Text("1".into()), 1), None);
    assert_eq!(entries.put(&KeyValue::Int(1), i16::MIN), None);
    assert!(entries.is_empty() && entries.find(&KeyValue::Text("1".into())).is_none());
    let mut uuids = Entries::new(KeyType::Uuid);
    uuids.put(&KeyValue::Uuid([1; 16]), 1);
    entries.put(&KeyValue::Int(5), 2);
    assert_eq!(uuids.moved_since(&entries).len(), 2);
}
