//! What reaches the client is the same however a shard's answer is cut.

use super::*;
use crate::catalog::numbers::Numbers;
use crate::wire::frame::of as frame;
use crate::wire::response;

/// Feeds `stream` in chunks of every size; what reaches the client must not depend on it.
fn run(set_up: impl Fn(&mut Responses), stream: &[u8]) -> (Vec<u8>, Responses) {
    let mut results: Vec<(Vec<u8>, Responses)> = Vec::new();
    for size in (1..=stream.len()).rev() {
        let mut responses = Responses::default();
        responses.begin(false);
        set_up(&mut responses);
        let mut client = responses.leading().unwrap_or_default();
        for chunk in stream.chunks(size) {
            let mut out = Vec::new();
            responses.feed(chunk, &mut out).unwrap();
            let mut chunk = chunk.to_vec();
            responses.renumber(&mut chunk).unwrap();
            for segment in out {
                match segment {
                    Segment::Input(range) => client.extend_from_slice(&chunk[range]),
                    Segment::Bytes(bytes) => client.extend_from_slice(&bytes),
                    Segment::Fixed(bytes) => client.extend_from_slice(bytes),
                }
            }
        }
        if let Some((first, _)) = results.first() {
            assert_eq!(first, &client, "chunks of {size}");
        }
        results.push((client, responses));
    }
    results.swap_remove(0)
}

#[test]
fn a_plain_query_passes_as_one_range() {
    let stream =
        [frame(b'T', b"x"), frame(b'D', b"row"), frame(b'C', b"SELECT 1\0"), frame(b'Z', b"I")]
            .concat();
    let mut responses = Responses::default();
    responses.begin(false);
    responses.expect(StepKind::Query, false);
    let mut out = Vec::new();
    responses.feed(&stream, &mut out).unwrap();
    assert_eq!(out, vec![Segment::Input(0..stream.len())]);
    assert!(responses.done());
}

#[test]
fn a_hidden_begin_is_swallowed_and_its_parameters_are_not() {
    let report = frame(b'S', b"TimeZone\0UTC\0");
    let stream = [
        frame(b'C', b"BEGIN\0"),
        report.clone(),
        frame(b'Z', b"T"),
        frame(b'C', b"SELECT 0\0"),
        frame(b'Z', b"T"),
    ]
    .concat();
    let (client, responses) = run(
        |r| {
            r.expect(StepKind::Query, true);
            r.expect(StepKind::Query, false);
        },
        &stream,
    );
    assert_eq!(client, [report, frame(b'C', b"SELECT 0\0"), frame(b'Z', b"T")].concat());
    assert_eq!(responses.status(), b'T');
    assert_eq!(responses.parameters(), [(b"TimeZone".to_vec(), b"UTC".to_vec())]);
}

#[test]
fn injections_keep_their_place() {
    let stream =
        [frame(b'1', b""), frame(b'2', b""), frame(b'C', b"SELECT 0\0"), frame(b'Z', b"I")]
            .concat();
    let (client, _) = run(
        |r| {
            r.inject(b"A");
            r.expect(StepKind::Parse, true);
            r.inject(b"B");
            r.expect(StepKind::Bind, false);
            r.expect(StepKind::Execute, false);
            r.inject(b"C");
            r.expect(StepKind::Sync, false);
        },
        &stream,
    );
    let expected = [
        b"AB".to_vec(),
        frame(b'2', b""),
        frame(b'C', b"SELECT 0\0"),
        b"C".to_vec(),
        frame(b'Z', b"I"),
    ];
    assert_eq!(client, expected.concat());
}

#[test]
fn an_error_skips_to_sync() {
    let stream = [frame(b'E', b"SERROR\0\0"), frame(b'Z', b"I")].concat();
    let (client, responses) = run(
        |r| {
            r.expect(StepKind::Parse, true);
            r.expect(StepKind::Bind, false);
            r.inject(b"never");
            r.expect(StepKind::Sync, false);
        },
        &stream,
    );
    assert_eq!(client, stream);
    assert!(responses.failed());
    assert_eq!(responses.completed(), 0);
}

#[test]
fn nonsense_is_malformed() {
    for bytes in [&b"Z\0\0\0\x03"[..], b"D\xff\xff\xff\xff", b"D\0\0\0\x04"] {
        let mut responses = Responses::default();
        responses.begin(false);
        let mut out = Vec::new();
        assert_eq!(responses.feed(bytes, &mut out), Err(Malformed), "{bytes:?}");
    }
}

#[test]
fn types_are_told_in_the_clients_numbers() {
    let numbers = |oid: &str| {
        let text = |text: &str| Some(text.to_owned());
        Numbers::from_rows(vec![
            vec![text("t"), text("public.mood"), text(oid)],
            vec![text("r"), text("public.t"), text(&format!("9{oid}"))],
        ])
    };
    let renumbering = Renumbering::between(&numbers("16501"), &numbers("16500"));
    let renumbering = Arc::new(renumbering.unwrap());
    let columns = |table: u32, mood: u32| {
        let mut body = 2_u16.to_be_bytes().to_vec();
        for (name, oid) in [("a", 23), ("mood", mood)] {
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(&[0]);
            body.extend_from_slice(&table.to_be_bytes());
            body.extend_from_slice(&[0, 1]);
            body.extend_from_slice(&oid.to_be_bytes());
            body.extend_from_slice(&[0, 4, 255, 255, 255, 255, 0, 0]);
        }
        frame(b'T', &body)
    };
    let parameters = |mood: u32| frame(b't', &[&[0, 1][..], &mood.to_be_bytes()[..]].concat());
    let (row, end) = (frame(b'D', &[0, 0]), frame(b'C', b"SELECT 1\0"));
    let answer = |table: u32, mood: u32| {
        let columns = columns(table, mood);
        [frame(b'1', b""), parameters(mood), columns.clone(), frame(b'2', b""), columns].concat()
    };
    let ready = frame(b'Z', b"I");
    let set_up = |responses: &mut Responses| {
        responses.numbers_otherwise(Some(&renumbering));
        for kind in [
            StepKind::Parse,
            StepKind::DescribeStatement,
            StepKind::Bind,
            StepKind::DescribePortal,
            StepKind::Execute,
            StepKind::Sync,
        ] {
            responses.expect(kind, false);
        }
    };
    let stream = [answer(916_501, 16_501), row.clone(), end.clone(), ready.clone()].concat();
    let (client, responses) = run(set_up, &stream);
    assert_eq!(client, [answer(916_500, 16_500), row, end, ready].concat());
    let [description] = responses.descriptions() else { panic!("{:?}", responses.descriptions()) };
    assert_eq!(description.parameters, [&[0, 1][..], &16_500_u32.to_be_bytes()].concat());
    assert_eq!(description.shape, response::shape(&columns(1, 16_500)[5..]));
    assert_ne!(description.shape, response::shape(&columns(1, 16_501)[5..]));
}

/// What is known of a statement does not depend on where its answer was cut: its columns may come by themselves.
#[test]
fn a_statement_is_described_wherever_its_answer_is_cut() {
    let field = [&b"a\0"[..], &[0; 6], &23_u32.to_be_bytes(), &[0, 4, 255, 255, 255, 255, 0, 0]];
    let columns = frame(b'T', &[&1_u16.to_be_bytes()[..], &field.concat()].concat());
    let shape = response::shape(&columns[5..]);
    assert!(shape.is_some_and(|shape| shape != 0));
    for (last, shape) in [(columns, shape), (frame(b'n', b""), Some(0))] {
        let stream = [frame(b'1', b""), frame(b't', &[0, 0]), last, frame(b'Z', b"I")].concat();
        for cut in 1..stream.len() {
            for hidden in [false, true] {
                let mut responses = Responses::default();
                responses.begin(false);
                responses.expect(StepKind::Parse, hidden);
                responses.expect(StepKind::DescribeStatement, hidden);
                responses.expect(StepKind::Sync, false);
                let mut out = Vec::new();
                for part in [&stream[..cut], &stream[cut..]] {
                    responses.feed(part, &mut out).unwrap();
                }
                assert!(responses.done());
                let expect = Description { parameters: vec![0, 0], shape };
                assert_eq!(responses.descriptions(), [expect], "cut at {cut}, hidden: {hidden}");
            }
        }
    }
}
