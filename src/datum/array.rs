//! Arrays of key values, in text and binary form: what `= ANY (array)` compares with.
//!
//! Main function: [`decode`]. Dimensions don't matter for `= ANY`, which looks at every element, so they
//! are checked only as far as finding the elements needs. Text follows `array_in`, binary `array_recv`
//! (`src/backend/utils/adt/arrayfuncs.c`).

use std::borrow::Cow;

use smallvec::SmallVec;

use super::key::{bad_binary, utf8};
use super::{Decoded, Format, KeyType, KeyValue, Oid, Param, oid};
use crate::error::{SqlError, SqlState};

/// `MAXDIM`: PostgreSQL's arrays have at most six dimensions.
const DIMENSIONS_MAX: usize = 6;

/// What an array parameter turned out to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodedArray<'a> {
    /// Its elements that can equal a key; `None` is NULL. Elements that equal no key are left out.
    Keys(SmallVec<[Option<KeyValue<'a>>; 4]>),
    /// The array itself is NULL: no row matches.
    Null,
    /// It can't be told here. It must not narrow a route.
    Unknown,
}

/// Decodes a bound array that a key column is compared with.
///
/// # Errors
///
/// 22P02 and 22P03 for malformed arrays, and those of [`KeyValue`]'s constructors for their elements.
pub fn decode<'a>(ty: KeyType, param: &Param<'a>) -> Result<DecodedArray<'a>, SqlError> {
    let Some(bytes) = param.value else { return Ok(DecodedArray::Null) };
    match param.format {
        Format::Binary => decode_binary(ty, bytes),
        Format::Text => match element_oid(param.oid) {
            Some(element) => decode_text(ty, element, utf8(bytes)?),
            None => Ok(DecodedArray::Unknown),
        },
    }
}

/// The element type of an array type; 0 for an undeclared one, `None` for what isn't understood.
fn element_oid(array: Oid) -> Option<Oid> {
    match array {
        0 | oid::UNKNOWN => Some(0),
        oid::INT2_ARRAY => Some(oid::INT2),
        oid::INT4_ARRAY => Some(oid::INT4),
        oid::INT8_ARRAY => Some(oid::INT8),
        oid::TEXT_ARRAY => Some(oid::TEXT),
        oid::VARCHAR_ARRAY => Some(oid::VARCHAR),
        oid::UUID_ARRAY => Some(oid::UUID),
        oid::NUMERIC_ARRAY => Some(oid::NUMERIC),
        _ => None,
    }
}

/// Adds an element; false when the array can't be told.
fn push<'a>(keys: &mut SmallVec<[Option<KeyValue<'a>>; 4]>, element: Decoded<'a>) -> bool {
    match element {
        Decoded::Key(value) => keys.push(Some(value)),
        Decoded::Null => keys.push(None),
        Decoded::NoMatch => {}
        Decoded::Unknown => return false,
    }
    true
}

/// Decodes `array_send`'s form: dimensions, a flag for NULLs, the element type, then per dimension its
/// length and lower bound, then each element with its length.
pub fn decode_binary(ty: KeyType, bytes: &[u8]) -> Result<DecodedArray<'_>, SqlError> {
    let mut rest = bytes;
    let mut word = || -> Result<i32, SqlError> {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(|| bad_binary("array"))?;
        rest = tail;
        Ok(i32::from_be_bytes(*head))
    };
    let dimensions = usize::try_from(word()?).map_err(|_| bad_binary("array"))?;
    let _has_nulls = word()?;
    let element = word()? as Oid;
    if dimensions > DIMENSIONS_MAX {
        return Err(bad_binary("array"));
    }
    let mut elements = usize::from(dimensions > 0);
    for _ in 0..dimensions {
        let length = usize::try_from(word()?).map_err(|_| bad_binary("array"))?;
        let _lower_bound = word()?;
        elements = elements.checked_mul(length).ok_or_else(|| bad_binary("array"))?;
    }
    let mut keys = SmallVec::new();
    // Each element costs at least four bytes, so a lie about their number ends with the input.
    for _ in 0..elements {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(|| bad_binary("array"))?;
        let decoded = match i32::from_be_bytes(*head) {
            -1 => {
                rest = tail;
                Decoded::Null
            }
            length => {
                let length = usize::try_from(length).map_err(|_| bad_binary("array"))?;
                let (value, after) =
                    tail.split_at_checked(length).ok_or_else(|| bad_binary("array"))?;
                rest = after;
                KeyValue::from_binary(ty, element, value)?
            }
        };
        if !push(&mut keys, decoded) {
            return Ok(DecodedArray::Unknown);
        }
    }
    if rest.is_empty() { Ok(DecodedArray::Keys(keys)) } else { Err(bad_binary("array")) }
}

/// Decodes `{…}` notation; `element` is the elements' type, 0 for the key's own.
///
/// # Errors
///
/// 22P02 for a malformed array, and those of [`KeyValue::from_text`] for its elements.
pub fn decode_text(ty: KeyType, element: Oid, text: &str) -> Result<DecodedArray<'_>, SqlError> {
    let malformed = || {
        SqlError::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            format!("malformed array literal: \"{text}\""),
        )
    };
    let mut elements = Elements { rest: skip_bounds(text).ok_or_else(malformed)?, depth: 0 };
    let mut keys = SmallVec::new();
    loop {
        let decoded = match elements.next_token().ok_or_else(malformed)? {
            Token::End => return Ok(DecodedArray::Keys(keys)),
            Token::Null => Decoded::Null,
            Token::Value(Cow::Borrowed(value)) => KeyValue::from_typed_text(ty, element, value)?,
            Token::Value(Cow::Owned(value)) => {
                owned(KeyValue::from_typed_text(ty, element, &value)?)
            }
        };
        if !push(&mut keys, decoded) {
            return Ok(DecodedArray::Unknown);
        }
    }
}

fn owned(decoded: Decoded<'_>) -> Decoded<'static> {
    match decoded {
        Decoded::Key(value) => Decoded::Key(value.into_owned()),
        Decoded::Null => Decoded::Null,
        Decoded::NoMatch => Decoded::NoMatch,
        Decoded::Unknown => Decoded::Unknown,
    }
}

/// `array_isspace`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

/// Past explicit bounds, `[1:3]={…}`, up to the first brace.
fn skip_bounds(text: &str) -> Option<&str> {
    let text = text.trim_matches(is_space);
    if !text.starts_with('[') {
        return Some(text);
    }
    let (bounds, rest) = text.split_once('=')?;
    let valid =
        |c: char| c.is_ascii_digit() || is_space(c) || matches!(c, '[' | ']' | ':' | '-' | '+');
    bounds.chars().all(valid).then(|| rest.trim_start_matches(is_space))
}

enum Token<'a> {
    Value(Cow<'a, str>),
    Null,
    End,
}

/// A reader of elements, at any depth of braces.
struct Elements<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Elements<'a> {
    /// The next element, or `None` when the text is malformed.
    fn next_token(&mut self) -> Option<Token<'a>> {
        let mut expects_more = self.depth == 0;
        loop {
            self.rest = self.rest.trim_start_matches(is_space);
            let first = self.rest.chars().next()?;
            match first {
                '{' => {
                    self.advance(1);
                    self.depth += 1;
                    if self.depth > DIMENSIONS_MAX {
                        return None;
                    }
                    expects_more = false;
                }
                '}' if !expects_more => {
                    self.advance(1);
                    self.depth = self.depth.checked_sub(1)?;
                    if self.depth == 0 {
                        return self.rest.is_empty().then_some(Token::End);
                    }
                    self.separator()?;
                }
                '}' | ',' => return None,
                _ if self.depth == 0 => return None,
                '"' => {
                    self.advance(1);
                    return self.quoted();
                }
                _ => return self.unquoted(),
            }
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// After an element or a closed brace: a comma that something follows, or the end of this level.
    fn separator(&mut self) -> Option<()> {
        self.rest = self.rest.trim_start_matches(is_space);
        if self.rest.starts_with('}') {
            return Some(());
        }
        self.rest = self.rest.strip_prefix(',')?.trim_start_matches(is_space);
        (!self.rest.starts_with(['}', ','])).then_some(())
    }

    fn quoted(&mut self) -> Option<Token<'a>> {
        let plain = self.rest.find(['"', '\\'])?;
        if self.rest[plain..].starts_with('"') {
            let value = &self.rest[..plain];
            self.advance(plain + 1);
            self.separator()?;
            return Some(Token::Value(Cow::Borrowed(value)));
        }
        let mut value = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.advance(at + 1);
                    self.separator()?;
                    return Some(Token::Value(Cow::Owned(value)));
                }
                '\\' => value.push(chars.next()?.1),
                other => value.push(other),
            }
        }
        None
    }

    fn unquoted(&mut self) -> Option<Token<'a>> {
        let end = self.rest.find([',', '{', '}', '"', '\\'])?;
        // A backslash escape outside quotes is legal and rare; it is read the slow way.
        if self.rest[end..].starts_with('\\') {
            return self.unquoted_escaped();
        }
        if self.rest[end..].starts_with(['{', '"']) {
            return None;
        }
        let value = self.rest[..end].trim_end_matches(is_space);
        self.advance(end);
        self.separator()?;
        Some(if value.eq_ignore_ascii_case("null") {
            Token::Null
        } else {
            Token::Value(Cow::Borrowed(value))
        })
    }

    fn unquoted_escaped(&mut self) -> Option<Token<'a>> {
        let mut value = String::new();
        // Blanks are trimmed from the end, but not escaped ones.
        let mut kept = 0;
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                ',' | '}' => {
                    value.truncate(kept);
                    self.advance(at);
                    self.separator()?;
                    return Some(Token::Value(Cow::Owned(value)));
                }
                '{' | '"' => return None,
                '\\' => {
                    value.push(chars.next()?.1);
                    kept = value.len();
                }
                other => {
                    value.push(other);
                    if !is_space(other) {
                        kept = value.len();
                    }
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(found: Result<DecodedArray<'_>, SqlError>) -> String {
        match found {
            Ok(DecodedArray::Keys(keys)) => keys
                .iter()
                .map(|key| key.as_ref().map_or("NULL".into(), |k| format!("<{k}>")))
                .collect(),
            Ok(other) => format!("{other:?}"),
            Err(error) => format!("{} {}", error.code, error.message),
        }
    }

    #[test]
    fn text_arrays_read_as_array_in_does() {
        let check = |ty, text: &str, expect: &str| {
            assert_eq!(show(decode_text(ty, 0, text)), expect, "{text}");
        };
        let malformed = |text: &str| {
            check(KeyType::Text, text, &format!("22P02 malformed array literal: \"{text}\""));
        };
        check(KeyType::BigInt, "{1,2,NULL}", "<1><2>NULL");
        check(KeyType::BigInt, " { 1 , 2 } ", "<1><2>");
        check(KeyType::BigInt, "{}", "");
        check(KeyType::BigInt, "{{1,2},{3,4}}", "<1><2><3><4>");
        check(KeyType::BigInt, "[2:3]={1,2}", "<1><2>");
        check(KeyType::BigInt, "{1,x}", "22P02 invalid input syntax for type bigint: \"x\"");
        check(KeyType::BigInt, "{\"1\"}", "<1>");
        check(KeyType::Text, "{a b, c ,null,\"null\",\"\"}", "<a b><c>NULL<null><>");
        check(KeyType::Text, r#"{"a\"b","c\\d","e,f}"}"#, r#"<a"b><c\d><e,f}>"#);
        check(KeyType::Text, r"{a\,b, \ c\  }", "<a,b>< c >");
        check(KeyType::Text, "{é}", "<é>");
        for text in
            ["", "{", "}", "{,}", "{1,}", "{,1}", "{1}x", "{a\"b\"}", "{\"a\"b}", "1", "{\"a"]
        {
            malformed(text);
        }
        malformed("{{{{{{{1}}}}}}}");
        malformed("{1}{2}");
        malformed("{{1},}");
        malformed("{a{b}}");
        malformed("[x]={1}");
    }

    #[test]
    fn binary_arrays_read_as_array_recv_does() {
        fn array(dimensions: &[i32], element: Oid, values: &[Option<&[u8]>]) -> Vec<u8> {
            let mut bytes = Vec::new();
            bytes.extend((dimensions.len() as i32).to_be_bytes());
            bytes.extend(0i32.to_be_bytes());
            bytes.extend(element.to_be_bytes());
            for length in dimensions {
                bytes.extend(length.to_be_bytes());
                bytes.extend(1i32.to_be_bytes());
            }
            for value in values {
                let length = value.map_or(-1, |v| v.len() as i32);
                bytes.extend(length.to_be_bytes());
                bytes.extend(value.unwrap_or_default());
            }
            bytes
        }
        let check = |ty, bytes: &[u8], expect: &str| {
            assert_eq!(show(decode_binary(ty, bytes)), expect, "{bytes:?}");
        };
        let (one, two) = (1i64.to_be_bytes(), 2i64.to_be_bytes());
        let good = array(&[3], oid::INT8, &[Some(&one), None, Some(&two)]);
        check(KeyType::BigInt, &good, "<1>NULL<2>");
        for cut in 0..good.len() {
            check(
                KeyType::BigInt,
                &good[..cut],
                "22P03 incorrect binary data format for type array",
            );
        }
        let long = [&good[..], &[0]].concat();
        check(KeyType::BigInt, &long, "22P03 incorrect binary data format for type array");
        check(KeyType::BigInt, &array(&[], oid::INT8, &[]), "");
        check(KeyType::BigInt, &array(&[1, 2], oid::INT8, &[Some(&one), Some(&two)]), "<1><2>");
        check(KeyType::BigInt, &array(&[1], oid::TEXT, &[Some(b"1")]), "Unknown");
        check(KeyType::Text, &array(&[2], oid::TEXT, &[Some(b"a"), Some(b"")]), "<a><>");
        let lie = array(&[i32::MAX], oid::INT8, &[Some(&one)]);
        check(KeyType::BigInt, &lie, "22P03 incorrect binary data format for type array");
        let huge = array(&[i32::MAX; 6], oid::INT8, &[]);
        check(KeyType::BigInt, &huge, "22P03 incorrect binary data format for type array");
        let null = Param { oid: oid::INT8_ARRAY, format: Format::Binary, value: None };
        assert_eq!(decode(KeyType::BigInt, &null), Ok(DecodedArray::Null));
    }

    #[test]
    fn values_that_equal_no_key_are_left_out() {
        assert_eq!(show(decode_text(KeyType::BigInt, oid::NUMERIC, "{1.5,2.0}")), "<2>");
        let foreign = Param { oid: 1231 + 9999, format: Format::Text, value: Some(b"{1}") };
        assert_eq!(decode(KeyType::BigInt, &foreign), Ok(DecodedArray::Unknown));
    }
}
