//! The merge is the sort of the concatenation, however the streams are cut.

use proptest::prelude::*;

use super::*;
use crate::datum::oid;
use crate::wire::frame::of as message;

fn description() -> Vec<u8> {
    let mut body = vec![0, 2];
    for (name, oid) in [(&b"key\0"[..], oid::INT8), (b"value\0", oid::TEXT)] {
        body.extend_from_slice(name);
        body.extend_from_slice(&[0; 6]);
        body.extend_from_slice(&oid.to_be_bytes());
        body.extend_from_slice(&[0, 8, 255, 255, 255, 255, 0, 0]);
    }
    message(b'T', &body)
}

fn value(out: &mut Vec<u8>, value: Option<&[u8]>) {
    let length = value.map_or(-1, |value| value.len() as i32);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value.unwrap_or_default());
}

/// A row as the shard sends it, and as the client gets it.
fn row(key: Option<i64>, text: &str) -> (Vec<u8>, Vec<u8>) {
    let (mut body, mut shown) = (vec![0, 2], vec![0, 1]);
    value(&mut body, key.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    value(&mut body, Some(text.as_bytes()));
    value(&mut shown, Some(text.as_bytes()));
    (message(b'D', &body), message(b'D', &shown))
}

fn key(descending: bool, nulls_first: bool) -> Key {
    Key { order: Order::Signed(8), descending, nulls_first }
}

/// Feeds the streams in chunks as the reader of `exec` does, and takes all that comes out.
fn merge(
    streams: &[Vec<u8>],
    chunk: usize,
    window: Window,
    key: Key,
) -> Result<(Vec<u8>, u64), Fault> {
    let mut merge = Ordered::new(streams.len(), KeyColumns::hidden(1), window);
    let mut at = vec![0; streams.len()];
    let mut out = Vec::new();
    let mut told = false;
    let mut over = false;
    for _ in 0..200_000 {
        for (n, bytes) in streams.iter().enumerate() {
            if merge.wants(n) {
                let end = bytes.len().min(at[n] + chunk);
                merge.feed(n, &bytes[at[n]..end])?;
                at[n] = end;
            }
        }
        if !told && merge.description().is_some() {
            assert_eq!(merge.key_types(), [oid::INT8]);
            merge.sort_by(vec![key]);
            told = true;
        }
        while told && !over {
            let most = out.len() + 50;
            match merge.advance(&mut out, most)? {
                State::Full => {}
                State::Hungry => break,
                State::Over => {
                    over = true;
                    merge.finish()?;
                }
            }
        }
        if merge.all_done() && over {
            return Ok((out, merge.rows()));
        }
    }
    panic!("no progress with chunks of {chunk}");
}

type Row = (Option<i64>, String);

fn stream(rows: &[Row]) -> Vec<u8> {
    let mut s = message(b'1', b"");
    s.extend(description());
    for (key, text) in rows {
        s.extend(row(*key, text).0);
    }
    s.extend(message(b'C', format!("SELECT {}\0", rows.len()).as_bytes()));
    s.extend(message(b'Z', b"I"));
    s
}

fn expected(shards: &[Vec<Row>], window: Window, key: Key) -> Vec<u8> {
    let bytes = |row: &Row| row.0.map(i64::to_be_bytes);
    let mut all: Vec<&Row> = shards.iter().flatten().collect();
    all.sort_by(|a, b| {
        key.compare(
            bytes(a).as_ref().map(<[u8; 8]>::as_slice),
            bytes(b).as_ref().map(<[u8; 8]>::as_slice),
        )
    });
    let rest = all.get(window.skip as usize..).unwrap_or_default();
    let mut end = window.take.map_or(rest.len(), |take| rest.len().min(take as usize));
    while window.ties && end > 0 && end < rest.len() && rest[end].0 == rest[end - 1].0 {
        end += 1;
    }
    rest[..end].iter().flat_map(|(key, text)| row(*key, text).1).collect()
}

proptest! {
    #[test]
    fn it_is_the_sort_of_the_concatenation(
        mut shards in prop::collection::vec(
            prop::collection::vec((prop::option::of(-3..9_i64), "[a-z]{0,9}"), 0..12), 1..6),
        chunk in 1..90_usize,
        (descending, nulls_first) in (any::<bool>(), any::<bool>()),
        (skip, take) in (0..9_u64, prop::option::of(0..20_u64)),
        ties in any::<bool>(),
    ) {
        let key = key(descending, nulls_first);
        let window = Window { skip, take, ties: ties && take.is_some_and(|take| take > 0) };
        for rows in &mut shards {
            rows.sort_by(|a, b| {
                let bytes = |row: &Row| row.0.map(i64::to_be_bytes);
                key.compare(
                    bytes(a).as_ref().map(<[u8; 8]>::as_slice),
                    bytes(b).as_ref().map(<[u8; 8]>::as_slice),
                )
            });
        }
        let streams: Vec<Vec<u8>> = shards.iter().map(|rows| stream(rows)).collect();
        let (out, _) = merge(&streams, chunk, window, key).unwrap();
        // Which of the rows with equal keys come first is the shards' order, as in a stable sort.
        prop_assert_eq!(out, expected(&shards, window, key));
    }
}

#[test]
fn a_large_row_is_passed_on_in_pieces() {
    let large = "x".repeat(AHEAD_BYTES * 5);
    let streams = [
        stream(&[(Some(1), large.clone()), (Some(3), "c".into())]),
        stream(&[(Some(2), "b".into())]),
    ];
    let mut merge = Ordered::new(2, KeyColumns::hidden(1), Window::default());
    let mut most = 0;
    let mut at = [0, 0];
    let mut out = Vec::new();
    for _ in 0..10_000 {
        for n in 0..2 {
            if merge.wants(n) {
                let end = streams[n].len().min(at[n] + 8192);
                merge.feed(n, &streams[n][at[n]..end]).unwrap();
                at[n] = end;
            }
        }
        if merge.description().is_some() {
            merge.sort_by(vec![key(false, false)]);
            let state = merge.advance(&mut out, usize::MAX).unwrap();
            if state == State::Over {
                break;
            }
        }
        most = most.max(merge.streams.iter().map(|s| s.buffer.len()).sum());
    }
    assert!(most <= 2 * (AHEAD_BYTES + 8192), "{most} bytes were kept");
    let rows: Vec<u8> = [(1, large.as_str()), (2, "b"), (3, "c")]
        .iter()
        .flat_map(|(k, t)| row(Some(*k), t).1)
        .collect();
    assert!(out == rows);
}

#[test]
fn errors_end_it_and_nonsense_is_malformed() {
    let mut broken = description();
    broken.extend(row(Some(1), "a").0);
    broken.extend(message(b'E', b"SERROR\0\0"));
    let good = stream(&[(Some(5), "b".into())]);
    let all = Window::default();
    let key = key(false, false);
    assert_eq!(
        merge(&[good.clone(), broken], 64, all, key),
        Err(Fault::Server(b"SERROR\0\0".to_vec()))
    );
    let mut other = message(b'T', b"\0\0");
    other.extend(message(b'Z', b"I"));
    assert_eq!(merge(&[good, other], 64, all, key), Err(Fault::Differs));
    let mut short = description();
    short.extend(message(b'D', b"\0\x02\0\0\0\x04abcd\0\0\0\0"));
    short.extend(message(b'Z', b"I"));
    assert_eq!(merge(&[short], 64, all, key), Err(Fault::Malformed));
    let mut cut = description();
    cut.extend(message(b'D', b"\0\x02\0\0\0\x09abcd"));
    assert_eq!(merge(&[cut], 64, all, key), Err(Fault::Malformed));
}

#[test]
fn rows_out_of_order_are_found_where_a_collation_decides() {
    let text = |word: &str| {
        let mut body = vec![0, 2];
        value(&mut body, Some(word.as_bytes()));
        value(&mut body, Some(b"x"));
        message(b'D', &body)
    };
    let mut merge = Ordered::new(1, KeyColumns::hidden(1), Window::default());
    let mut bytes = description();
    bytes.extend(text("B"));
    bytes.extend(text("a"));
    bytes.extend(text("A"));
    merge.feed(0, &bytes).unwrap();
    merge.sort_by(vec![Key { order: Order::Bytes, descending: false, nulls_first: false }]);
    assert_eq!(merge.advance(&mut Vec::new(), usize::MAX), Err(Fault::Unsorted));
}

#[test]
fn keys_among_the_clients_columns_stay() {
    let row = |id: &str, rank: Option<&str>| {
        let mut body = vec![0, 3];
        value(&mut body, Some(b"x"));
        value(&mut body, Some(id.as_bytes()));
        value(&mut body, rank.map(str::as_bytes));
        message(b'D', &body)
    };
    let mut head = vec![0, 3];
    for oid in [oid::TEXT, oid::INT8, oid::INT4] {
        head.extend_from_slice(&[b'c', 0, 0, 0, 0, 0, 0, 0]);
        head.extend_from_slice(&oid.to_be_bytes());
        head.extend_from_slice(&[0, 8, 255, 255, 255, 255, 0, 0]);
    }
    let all = [
        vec![row("9", Some("-3")), row("10", Some("-3")), row("7", None)],
        vec![row("-8", Some("-20")), row("9", Some("-3")), row("100", Some("5"))],
    ];
    let columns = KeyColumns { at: vec![2, 1], hidden: 0 };
    let mut merge = Ordered::new(2, columns, Window::default());
    for (n, rows) in all.iter().enumerate() {
        let mut bytes = message(b'T', &head);
        bytes.extend(rows.concat());
        bytes.extend(message(b'C', b"SELECT 3\0"));
        bytes.extend(message(b'Z', b"I"));
        merge.feed(n, &bytes).unwrap();
    }
    assert_eq!(merge.description(), Some(&*head));
    assert_eq!(merge.key_types(), [oid::INT4, oid::INT8]);
    let key = Key { order: Order::Decimal, descending: false, nulls_first: false };
    merge.sort_by(vec![key, key]);
    let mut out = Vec::new();
    assert_eq!(merge.advance(&mut out, usize::MAX), Ok(State::Over));
    let sorted = [&all[1][0], &all[0][0], &all[1][1], &all[0][1], &all[1][2], &all[0][2]];
    assert!(out == sorted.map(Vec::as_slice).concat());
}
