//! PostgreSQL's hash functions, bit for bit as its hash partitioning uses them.
//!
//! Sources of the algorithms: `src/common/hashfn.c` (Bob Jenkins' lookup3 with PostgreSQL's seeds),
//! `src/backend/access/hash/hashfunc.c` (the per-type functions),
//! `src/backend/partitioning/partbounds.c` (`compute_partition_hash_value`). The little-endian form is
//! computed whatever machine this runs on: PostgreSQL on a big-endian server gives other values.
//!
//! Invariant: the values are frozen. Rows have been placed by them; `tests/golden` holds what a real
//! server answered. Text is hashed by its bytes, which is what PostgreSQL does under deterministic
//! collations; nondeterministic ones have no place here.

use super::KeyValue;

/// `HASH_PARTITION_SEED` (`src/include/catalog/partition.h`).
pub const HASH_PARTITION_SEED: u64 = 0x7A5B_2236_7996_DCFD;

/// lookup3's golden ratio plus PostgreSQL's own offset; the length is added to it.
const INITIAL: u32 = 0x9e37_79b9u32.wrapping_add(3_923_095);

/// The three words of lookup3's state.
struct State {
    a: u32,
    b: u32,
    c: u32,
}

impl State {
    fn new(len: usize, seed: u64) -> Self {
        let start = INITIAL.wrapping_add(len as u32);
        let mut state = Self { a: start, b: start, c: start };
        if seed != 0 {
            state.a = state.a.wrapping_add((seed >> 32) as u32);
            state.b = state.b.wrapping_add(seed as u32);
            state.mix();
        }
        state
    }

    fn mix(&mut self) {
        let Self { a, b, c } = self;
        for (r1, r2, r3) in [(4, 6, 8), (16, 19, 4)] {
            *a = a.wrapping_sub(*c) ^ c.rotate_left(r1);
            *c = c.wrapping_add(*b);
            *b = b.wrapping_sub(*a) ^ a.rotate_left(r2);
            *a = a.wrapping_add(*c);
            *c = c.wrapping_sub(*b) ^ b.rotate_left(r3);
            *b = b.wrapping_add(*a);
        }
    }

    /// lookup3's `final`, as the 64-bit result.
    fn finish(self) -> u64 {
        let Self { mut a, mut b, mut c } = self;
        c = (c ^ b).wrapping_sub(b.rotate_left(14));
        a = (a ^ c).wrapping_sub(c.rotate_left(11));
        b = (b ^ a).wrapping_sub(a.rotate_left(25));
        c = (c ^ b).wrapping_sub(b.rotate_left(16));
        a = (a ^ c).wrapping_sub(c.rotate_left(4));
        b = (b ^ a).wrapping_sub(a.rotate_left(14));
        c = (c ^ b).wrapping_sub(b.rotate_left(24));
        (u64::from(b) << 32) | u64::from(c)
    }
}

/// A little-endian word of up to four bytes, missing ones zero.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).rev().fold(0, |word, &byte| (word << 8) | u32::from(byte))
}

/// `hash_bytes_extended`.
pub fn hash_bytes_extended(bytes: &[u8], seed: u64) -> u64 {
    let mut state = State::new(bytes.len(), seed);
    let mut blocks = bytes.chunks_exact(12);
    for block in &mut blocks {
        let (first, rest) = block.split_at(4);
        let (second, third) = rest.split_at(4);
        state.a = state.a.wrapping_add(word(first));
        state.b = state.b.wrapping_add(word(second));
        state.c = state.c.wrapping_add(word(third));
        state.mix();
    }
    let tail = blocks.remainder();
    let (first, rest) = tail.split_at(tail.len().min(4));
    let (second, third) = rest.split_at(rest.len().min(4));
    state.a = state.a.wrapping_add(word(first));
    state.b = state.b.wrapping_add(word(second));
    // The lowest byte of c is left to the length.
    state.c = state.c.wrapping_add(word(third) << 8);
    state.finish()
}

/// `hash_bytes_uint32_extended`.
pub fn hash_bytes_uint32_extended(value: u32, seed: u64) -> u64 {
    let mut state = State::new(4, seed);
    state.a = state.a.wrapping_add(value);
    state.finish()
}

/// `hashint8extended`. Values that fit a smaller integer hash as that integer does.
pub fn hashint8extended(value: i64, seed: u64) -> u64 {
    let low = value as u32;
    let high = (value >> 32) as u32;
    hash_bytes_uint32_extended(low ^ if value >= 0 { high } else { !high }, seed)
}

/// `hashint4extended`.
pub fn hashint4extended(value: i32, seed: u64) -> u64 {
    hash_bytes_uint32_extended(value as u32, seed)
}

/// `hashint2extended`.
pub fn hashint2extended(value: i16, seed: u64) -> u64 {
    hashint4extended(i32::from(value), seed)
}

/// `hashtextextended` under a deterministic collation.
pub fn hashtextextended(text: &str, seed: u64) -> u64 {
    hash_bytes_extended(text.as_bytes(), seed)
}

/// `uuid_hash_extended`.
pub fn uuid_hash_extended(uuid: &[u8; 16], seed: u64) -> u64 {
    hash_bytes_extended(uuid, seed)
}

/// `hash_combine64`.
pub fn hash_combine64(a: u64, b: u64) -> u64 {
    a ^ b.wrapping_add(0x49a0_f4dd_15e5_a8e3).wrapping_add(a << 54).wrapping_add(a >> 7)
}

/// The extended hash of a key's value, by the hash operator family of its type.
pub fn hash_extended(value: &KeyValue<'_>, seed: u64) -> u64 {
    match value {
        KeyValue::Int(i) => hashint8extended(*i, seed),
        KeyValue::Text(t) => hashtextextended(t, seed),
        KeyValue::Uuid(u) => uuid_hash_extended(u, seed),
    }
}

/// `compute_partition_hash_value`: the row hash of the partition key's columns, NULL (`None`)
/// left out. A row belongs to the partition whose remainder is this modulo the modulus.
pub fn partition_hash(columns: &[Option<&KeyValue<'_>>]) -> u64 {
    columns
        .iter()
        .flatten()
        .fold(0, |row, value| hash_combine64(row, hash_extended(value, HASH_PARTITION_SEED)))
}

/// [`partition_hash`] of one column that isn't NULL.
pub fn partition_hash_one(value: &KeyValue<'_>) -> u64 {
    hash_combine64(0, hash_extended(value, HASH_PARTITION_SEED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datum::KeyType;

    /// `tests/golden/partition_hash.tsv`: column types, values, then a modulus and the remainder for
    /// which a PostgreSQL 15 server's `satisfies_hash_partition` was true.
    const GOLDEN: &str = include_str!("../../tests/golden/partition_hash.tsv");

    fn key_type(name: &str) -> KeyType {
        match name {
            "int2" => KeyType::SmallInt,
            "int4" => KeyType::Integer,
            "int8" => KeyType::BigInt,
            "text" => KeyType::Text,
            "varchar" => KeyType::Varchar,
            "uuid" => KeyType::Uuid,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn partitions_are_those_of_a_real_server() {
        let mut cases = 0;
        for line in GOLDEN.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [types, values, modulus, remainder] = fields[..] else { panic!("{line}") };
            let types = types.split(',').map(key_type);
            // Values are hex of UTF-8, so that any text fits a line; `-` is NULL.
            let decoded: Vec<Option<String>> = values
                .split(',')
                .map(|v| {
                    (v != "-").then(|| {
                        let bytes = (0..v.len())
                            .step_by(2)
                            .map(|i| u8::from_str_radix(&v[i..i + 2], 16).unwrap())
                            .collect();
                        String::from_utf8(bytes).unwrap()
                    })
                })
                .collect();
            let values: Vec<Option<KeyValue<'_>>> = types
                .zip(&decoded)
                .map(|(ty, text)| text.as_ref().map(|t| KeyValue::from_text(ty, t).unwrap()))
                .collect();
            let columns: Vec<Option<&KeyValue<'_>>> = values.iter().map(Option::as_ref).collect();
            let hash = partition_hash(&columns);
            let modulus: u64 = modulus.parse().unwrap();
            assert_eq!(hash % modulus, remainder.parse::<u64>().unwrap(), "{line}");
            if let [Some(value)] = columns[..] {
                assert_eq!(partition_hash_one(value), hash);
            }
            cases += 1;
        }
        assert!(cases > 1000, "{cases}");
    }

    #[test]
    fn integer_widths_agree() {
        for value in [0i16, 1, -1, i16::MIN, i16::MAX] {
            let wide = hashint8extended(i64::from(value), 7);
            assert_eq!(hashint4extended(i32::from(value), 7), wide);
            assert_eq!(hashint2extended(value, 7), wide);
        }
    }
}
