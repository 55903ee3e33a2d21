//! What a literal says: quotes removed, escapes decoded.
//!
//! Routing depends on it, so it answers only where the answer is certain: a value that PostgreSQL could
//! read otherwise (because of the server's encoding, its version, or a fault in it) is `None`.
//!
//! Rules: PostgreSQL manual, "String Constants", "String Constants with C-Style Escapes"; `scan.l`, states
//! `xq`, `xe`, `xdolq`.

use std::borrow::Cow;

use memchr::memchr;

use super::lexer::{Literal, LiteralKind};

/// A literal's text: a number's digits as written, a string's characters. `text` is the text that the
/// literal's span counts in, the statement's own. `None` for [`LiteralKind::Other`] and for what can't be
/// decoded with certainty.
pub fn text_of(text: &str, literal: Literal, standard_strings: bool) -> Option<Cow<'_, str>> {
    let written = text.get(literal.span.start as usize..literal.span.end as usize)?;
    match literal.kind {
        LiteralKind::Integer | LiteralKind::Decimal => Some(Cow::Borrowed(written)),
        LiteralKind::String if standard_strings => doubled(quoted(written)?),
        LiteralKind::String => escaped(quoted(written)?),
        LiteralKind::EscapeString => escaped(quoted(written.strip_prefix(['e', 'E'])?)?),
        LiteralKind::DollarString => dollar_quoted(written),
        LiteralKind::Other => None,
    }
}

/// What is between the first and the last quote.
fn quoted(written: &str) -> Option<&str> {
    written.strip_prefix('\'')?.strip_suffix('\'')
}

fn doubled(inner: &str) -> Option<Cow<'_, str>> {
    if memchr(b'\'', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let mut value = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = memchr(b'\'', rest.as_bytes()) {
        value.push_str(rest.get(..=at)?);
        rest = rest.get(at + 1..)?.strip_prefix('\'')?;
    }
    value.push_str(rest);
    Some(Cow::Owned(value))
}

fn dollar_quoted(written: &str) -> Option<Cow<'_, str>> {
    let tag_end = written.get(1..)?.find('$')? + 2;
    let tag = written.get(..tag_end)?;
    written.get(tag_end..)?.strip_suffix(tag).map(Cow::Borrowed)
}

fn escaped(inner: &str) -> Option<Cow<'_, str>> {
    if memchr::memchr2(b'\'', b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let mut value = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = memchr::memchr2(b'\'', b'\\', rest.as_bytes()) {
        value.push_str(rest.get(..at)?);
        let after = rest.get(at + 1..)?;
        let (character, length) = match rest.as_bytes().get(at)? {
            b'\'' if after.starts_with('\'') => ('\'', 1),
            b'\'' => return None,
            _ => escape(after)?,
        };
        value.push(character);
        rest = after.get(length..)?;
    }
    value.push_str(rest);
    Some(Cow::Owned(value))
}

/// The character that an escape stands for, and the bytes it takes after its backslash.
fn escape(after: &str) -> Option<(char, usize)> {
    let first = after.chars().next()?;
    match first {
        'b' => Some(('\x08', 1)),
        'f' => Some(('\x0C', 1)),
        'n' => Some(('\n', 1)),
        'r' => Some(('\r', 1)),
        't' => Some(('\t', 1)),
        // A `v` in older servers, a vertical tab in newer ones.
        'v' => None,
        '0'..='7' => {
            let length = after.bytes().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count();
            byte(after.get(..length)?, 8).map(|value| (value, length))
        }
        'x' => {
            let hex = after.get(1..)?;
            let length = hex.bytes().take(2).take_while(u8::is_ascii_hexdigit).count();
            match length {
                0 => Some(('x', 1)),
                _ => byte(hex.get(..length)?, 16).map(|value| (value, length + 1)),
            }
        }
        'u' | 'U' => unicode(after),
        _ => Some((first, first.len_utf8())),
    }
}

/// A byte by its number. Those beyond ASCII are bytes of the server's encoding, which isn't known here;
/// a zero is an error.
fn byte(digits: &str, radix: u32) -> Option<char> {
    match u32::from_str_radix(digits, radix).ok()? {
        value @ 1..=0x7F => char::from_u32(value),
        _ => None,
    }
}

/// `uXXXX` or `UXXXXXXXX`, or two of them that are a surrogate pair.
fn unicode(after: &str) -> Option<(char, usize)> {
    let (first, length) = code_unit(after)?;
    if let Some(character) = char::from_u32(first) {
        return (first != 0).then_some((character, length));
    }
    let (second, more) = code_unit(after.get(length..)?.strip_prefix('\\')?)?;
    if !matches!((first, second), (0xD800..=0xDBFF, 0xDC00..=0xDFFF)) {
        return None;
    }
    let character = char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00))?;
    Some((character, length + 1 + more))
}

fn code_unit(after: &str) -> Option<(u32, usize)> {
    let digits = match after.as_bytes().first()? {
        b'u' => 4,
        b'U' => 8,
        _ => return None,
    };
    let hex = after.get(1..=digits)?;
    if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(hex, 16).ok().map(|unit| (unit, digits + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::lexer::{Limits, Scan, scan};

    fn value(sql: &str, standard_strings: bool) -> Option<String> {
        let mut out = Scan::default();
        scan(sql.as_bytes(), standard_strings, &Limits::default(), &mut out).unwrap();
        assert_eq!(out.literals.len(), 1, "{sql}");
        text_of(sql, out.literals[0], standard_strings).map(Cow::into_owned)
    }

    #[test]
    fn numbers_and_plain_strings() {
        let check = |sql: &str, expect: Option<&str>| {
            assert_eq!(value(sql, true).as_deref(), expect, "{sql}");
        };
        check("42", Some("42"));
        check("007", Some("007"));
        check("1.50", Some("1.50"));
        check(".5e3", Some(".5e3"));
        check("1_000", None);
        check("0x1F", None);
        check("''", Some(""));
        check("'abc'", Some("abc"));
        check("'it''s'", Some("it's"));
        check("''''", Some("'"));
        check("''''''", Some("''"));
        check("'é''ü'", Some("é'ü"));
        check(r"'a\nb'", Some(r"a\nb"));
        check("$$a'b$$", Some("a'b"));
        check("$tag$a$$b$tag$", Some("a$$b"));
        check("$é$x$é$", Some("x"));
        check("$$$$", Some(""));
        check("N'abc'", None);
        check("B'101'", None);
        check("X'1F'", None);
        check(r"U&'\0041'", None);
        check("'a'\n'b'", None);
        check("E'a'\n'b'", None);
    }

    #[test]
    fn escape_strings() {
        let check = |sql: &str, expect: Option<&str>| {
            assert_eq!(value(sql, true).as_deref(), expect, "{sql}");
            let plain = &sql[1..];
            assert_eq!(value(plain, false).as_deref(), expect, "{plain} without standard strings");
        };
        check(r"E'abc'", Some("abc"));
        check(r"e'it''s'", Some("it's"));
        check(r"E'it\'s'", Some("it's"));
        check(r"E'\\'", Some("\\"));
        check(r"E'\b\f\n\r\t'", Some("\x08\x0C\n\r\t"));
        check(r"E'\q\é\8'", Some("qé8"));
        check(r"E'\v'", None);
        check(r"E'\101\60\0601'", Some("A001"));
        check(r"E'\1'", Some("\x01"));
        check(r"E'\0'", None);
        check(r"E'\303\251'", None);
        check(r"E'\777'", None);
        check(r"E'\x41\x4aZ\x4'", Some("AJZ\x04"));
        check(r"E'\xg'", Some("xg"));
        check(r"E'\X41'", Some("X41"));
        check(r"E'\x00'", None);
        check(r"E'\xff'", None);
        check(r"E'\u0041\U00000042'", Some("AB"));
        check(r"E'\u00e9'", Some("é"));
        check(r"E'\ud83d\ude00'", Some("😀"));
        check(r"E'\U0001F600'", Some("😀"));
        check(r"E'\ud83d'", None);
        check(r"E'\ude00\ud83d'", None);
        check(r"E'\ud83dx'", None);
        check(r"E'\u004'", None);
        check(r"E'\u+041'", None);
        check(r"E'\u0000'", None);
        check(r"E'\U00110000'", None);
        check(r"E'\é'", Some("é"));
    }

    #[test]
    fn spans_that_do_not_fit_give_nothing() {
        use crate::sql::ir::Span;
        let literal = |kind, start, end| Literal { kind, span: Span { start, end } };
        for kind in [LiteralKind::String, LiteralKind::EscapeString, LiteralKind::DollarString] {
            for (start, end) in [(0, 1), (0, 2), (1, 3), (2, 1), (0, 99)] {
                assert_eq!(text_of("ab'é'", literal(kind, start, end), true), None);
            }
        }
        assert_eq!(text_of("'", literal(LiteralKind::String, 0, 1), true), None);
        assert_eq!(text_of("$$", literal(LiteralKind::DollarString, 0, 2), true), None);
    }
}
