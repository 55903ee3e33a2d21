use proptest::prelude::*;

use super::*;
use crate::wire::frame;

fn body(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    let frame = frame::next(&out, u32::MAX).unwrap().unwrap();
    assert_eq!(frame.raw.len(), out.len());
    frame.body.to_vec()
}

/// A Bind body from its parts, without any check.
fn bind_body(formats: &[i16], values: &[Option<&[u8]>], results: &[i16]) -> Vec<u8> {
    let mut out = b"portal\0stmt\0".to_vec();
    let codes = |out: &mut Vec<u8>, codes: &[i16]| {
        out.extend((codes.len() as u16).to_be_bytes());
        out.extend(codes.iter().flat_map(|code| code.to_be_bytes()));
    };
    codes(&mut out, formats);
    out.extend((values.len() as u16).to_be_bytes());
    for value in values {
        put_value(&mut out, *value);
    }
    codes(&mut out, results);
    out
}

type Values<'a> = &'a [(Format, Option<&'a [u8]>)];

fn check_bind(formats: &[i16], values: &[Option<&[u8]>], expect: Result<Values<'_>, &str>) {
    let body = bind_body(formats, values, &[1]);
    match (BindView::parse(&body), expect) {
        (Ok(view), Ok(expect)) => {
            assert_eq!(view.portal, b"portal");
            assert_eq!(view.statement, b"stmt");
            assert_eq!(view.parameters().collect::<Vec<_>>(), expect);
            assert_eq!(view.len(), expect.len());
            assert_eq!(view.result_formats().of(3), Format::Binary);
        }
        (Err(found), Err(expect)) => assert_eq!(found.message, expect),
        (found, expect) => panic!("{found:?} instead of {expect:?}"),
    }
}

#[test]
fn binds() {
    use Format::{Binary, Text};
    check_bind(&[], &[], Ok(&[]));
    check_bind(&[], &[Some(b"a"), None], Ok(&[(Text, Some(b"a")), (Text, None)]));
    check_bind(&[1], &[Some(b"a"), Some(b"")], Ok(&[(Binary, Some(b"a")), (Binary, Some(b""))]));
    check_bind(&[0, 1], &[None, Some(b"x")], Ok(&[(Text, None), (Binary, Some(b"x"))]));
    check_bind(&[1], &[], Ok(&[]));
    check_bind(&[2], &[None], Err("unsupported format code: 2"));
    check_bind(&[0, 1], &[None], Err("bind message has 2 parameter formats but 1 parameters"));
}

#[test]
fn faulty_messages() {
    let check = |found: Result<(), ProtocolError>, expect: &str| {
        assert_eq!(found.unwrap_err().message, expect);
    };
    check(query(b"no end").map(drop), "invalid string in message");
    check(query(b"").map(drop), "invalid string in message");
    check(query(b"a\0b\0").map(drop), "invalid message format");
    check(ParseView::parse(b"\0\0").map(drop), "insufficient data left in message");
    check(ParseView::parse(b"\0\0\0\x01\0\0\0").map(drop), "insufficient data left in message");
    check(ParseView::parse(b"\0\0\0\0x").map(drop), "invalid message format");
    check(BindView::parse(b"\0\0\0\0\0\x01").map(drop), "insufficient data left in message");
    check(
        BindView::parse(b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0").map(drop),
        "insufficient data left in message",
    );
    check(
        BindView::parse(b"\0\0\0\0\0\x01\x7f\xff\xff\xffab").map(drop),
        "insufficient data left in message",
    );
    check(Target::describe(b"Xa\0").map(drop), "invalid DESCRIBE message subtype 88");
    check(Target::close(b"Xa\0").map(drop), "invalid CLOSE message subtype 88");
    check(ExecuteView::parse(b"\0\0\0").map(drop), "insufficient data left in message");
    check(password(b"a\0b").map(drop), "invalid password packet size");
}

#[test]
fn what_is_written_reads_back() {
    let parse = body(|out| parse_into(out, b"s1", b"SELECT $1", [20u32, 0].into_iter()));
    let view = ParseView::parse(&parse).unwrap();
    assert_eq!((view.name, view.sql), (&b"s1"[..], &b"SELECT $1"[..]));
    assert_eq!(view.oids().collect::<Vec<_>>(), [20, 0]);

    let original = bind_body(&[0, 1], &[Some(b"42"), None], &[1, 0]);
    let view = BindView::parse(&original).unwrap();
    let rewritten = body(|out| bind_with_statement(out, &view, b"another"));
    let again = BindView::parse(&rewritten).unwrap();
    assert_eq!(again.statement, b"another");
    assert_eq!(again.portal, view.portal);
    assert_eq!(again.parameters().collect::<Vec<_>>(), view.parameters().collect::<Vec<_>>());
    assert_eq!(again.after_statement, view.after_statement);
    assert_eq!(body(|out| bind_with_statement(out, &view, b"stmt")), original);

    let bind = body(|out| bind_text_into(out, b"s", &[Some(b"1"), None], Format::Binary));
    let view = BindView::parse(&bind).unwrap();
    assert_eq!(view.parameter(0), Some((Format::Text, Some(&b"1"[..]))));
    assert_eq!(view.parameter(1), Some((Format::Text, None)));
    assert_eq!(view.parameter(2), None);
    assert_eq!(view.result_formats().of(0), Format::Binary);

    let describe = body(|out| describe_portal_into(out, b"p"));
    assert_eq!(Target::describe(&describe), Ok(Target::Portal(b"p")));
    let close = body(|out| close_statement_into(out, b"s"));
    assert_eq!(Target::close(&close), Ok(Target::Statement(b"s")));
    let execute = body(|out| execute_into(out, b"p", 7));
    assert_eq!(ExecuteView::parse(&execute), Ok(ExecuteView { portal: b"p", max_rows: 7 }));
    assert_eq!(query(&body(|out| query_into(out, b"SELECT 1"))), Ok(&b"SELECT 1"[..]));
    assert_eq!(copy_fail(&body(|out| copy_fail_into(out, b"why"))), Ok(&b"why"[..]));
    let sasl = body(|out| sasl_initial_into(out, "SCRAM-SHA-256", b"n,,n=,r=x"));
    let expect = SaslInitialView { mechanism: b"SCRAM-SHA-256", message: Some(b"n,,n=,r=x") };
    assert_eq!(SaslInitialView::parse(&sasl), Ok(expect));
}

#[test]
fn a_nul_in_a_name_cannot_forge_a_message() {
    let body = body(|out| query_into(out, b"SELECT 1\0X\0\0\0\x04"));
    assert_eq!(query(&body), Ok(&b"SELECT 1"[..]));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..96)) {
        let _ = query(&body);
        let _ = ParseView::parse(&body).map(|view| view.oids().count());
        let _ = Target::describe(&body);
        let _ = Target::close(&body);
        let _ = ExecuteView::parse(&body);
        let _ = password(&body);
        let _ = SaslInitialView::parse(&body);
        if let Ok(view) = BindView::parse(&body) {
            prop_assert_eq!(view.parameters().count(), view.len());
            let mut out = Vec::new();
            bind_with_statement(&mut out, &view, view.statement);
            prop_assert_eq!(&out[5..], &body[..]);
        }
    }

    /// Near-misses: a well-formed Bind with one byte changed, or cut short.
    #[test]
    fn damaged_binds_do_not_panic(
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..9)), 0..6),
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
        let mut body = bind_body(&[1], &values, &[0]);
        prop_assert_eq!(BindView::parse(&body).unwrap().parameters().map(|(_, v)| v).collect::<Vec<_>>(), values);
        let place = at.index(body.len());
        body[place] = byte;
        body.truncate(cut.index(body.len()) + 1);
        if let Ok(view) = BindView::parse(&body) {
            prop_assert_eq!(view.parameters().count(), view.len());
        }
    }
}
