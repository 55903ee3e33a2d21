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
