//! EXPLAIN, and the one option of it that is ours: ROUTE.

use super::Class;
use super::words::Words;
use crate::sql::token::TokenKind;

/// What is in an EXPLAIN's parentheses.
#[derive(Default)]
struct Options {
    /// ROUTE, and it is on.
    route: bool,
    json: bool,
    /// Something that ROUTE can't be combined with.
    others: bool,
}

/// What follows EXPLAIN.
pub(super) fn explain(words: &mut Words<'_>) -> Class {
    if !words.is_symbol("(") {
        return Class::Explain;
    }
    let Some(options) = options(words) else { return Class::Explain };
    if !options.route {
        return Class::Explain;
    }
    match words.position() {
        Some(rest) if !options.others => Class::ExplainRoute { json: options.json, rest },
        _ => Class::Other,
    }
}

/// `(name [value], …)`; `None` if that's not what it is, as in `EXPLAIN (SELECT 1)`.
fn options(words: &mut Words<'_>) -> Option<Options> {
    let mut options = Options::default();
    words.take_symbol("(");
    loop {
        let name = words.name()?;
        let value = value(words)?;
        match name.as_str() {
            "route" => match boolean(value.as_deref()) {
                Some(on) => options.route = on,
                None => {
                    options.route = true;
                    options.others = true;
                }
            },
            "format" => match value.as_deref() {
                Some("json") => options.json = true,
                Some("text") => options.json = false,
                _ => options.others = true,
            },
            _ => options.others = true,
        }
        if words.take_symbol(")") {
            return Some(options);
        }
        if !words.take_symbol(",") {
            return None;
        }
    }
}

/// An option's value in lower case, if it has one.
fn value(words: &mut Words<'_>) -> Option<Option<String>> {
    if words.is_symbol(",") || words.is_symbol(")") {
        return Some(None);
    }
    if words.is_name() {
        return words.name().map(|name| Some(name.to_ascii_lowercase()));
    }
    let token = words.take_any()?;
    if !matches!(token.kind, TokenKind::Literal(_)) {
        return None;
    }
    words.value_of(token).map(|value| Some(value.to_ascii_lowercase()))
}

/// As PostgreSQL reads an option's boolean (`defGetBoolean`).
fn boolean(value: Option<&str>) -> Option<bool> {
    match value {
        None | Some("true" | "on" | "1") => Some(true),
        Some("false" | "off" | "0") => Some(false),
        Some(_) => None,
    }
}
