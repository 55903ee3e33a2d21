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
    /// The first that ROUTE can't be combined with.
    other: Option<String>,
    /// Where the parenthesis ends.
    end: u32,
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
    match (words.position(), options.other) {
        (Some(_), None) => Class::ExplainRoute { json: options.json, rest: options.end },
        (Some(_), Some(option)) => Class::ExplainRouteWith(option),
        (None, _) => Class::Other,
    }
}

/// `(name [value], …)`; `None` if that's not what it is, as in `EXPLAIN (SELECT 1)`.
fn options(words: &mut Words<'_>) -> Option<Options> {
    let mut options = Options::default();
    words.take_symbol("(");
    loop {
        let name = words.name()?;
        let value = value(words)?;
        match (name.as_str(), value.as_str()) {
            // As PostgreSQL reads an option's boolean (`defGetBoolean`).
            ("route", "" | "true" | "on" | "1") => options.route = true,
            ("route", "false" | "off" | "0") => options.route = false,
            ("route", _) => {
                options.route = true;
                options.other.get_or_insert(format!("{name} {value}"));
            }
            ("format", "json") => options.json = true,
            ("format", "text") => options.json = false,
            _ => {
                options.other.get_or_insert(format!("{name} {value}").trim_end().to_owned());
            }
        }
        options.end = words.position().map_or(0, |at| at + 1);
        if words.take_symbol(")") {
            return Some(options);
        }
        if !words.take_symbol(",") {
            return None;
        }
    }
}

/// An option's value in lower case, empty if it has none; `None` if it can't be one.
fn value(words: &mut Words<'_>) -> Option<String> {
    if words.is_symbol(",") || words.is_symbol(")") {
        return Some(String::new());
    }
    if words.is_name() {
        return words.name().map(|name| name.to_ascii_lowercase());
    }
    let token = words.take_any()?;
    if !matches!(token.kind, TokenKind::Literal(_)) {
        return None;
    }
    words.value_of(token).map(|value| value.to_ascii_lowercase())
}
