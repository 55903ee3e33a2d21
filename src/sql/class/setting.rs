//! SET, RESET, SHOW.

use super::transaction::set_transaction_modes;
use super::words::Words;
use super::{Class, SetCommand, SetValue};
use crate::sql::ir::Span;
use crate::sql::lexer::LiteralKind;
use crate::sql::token::TokenKind;

/// What follows SET.
pub(super) fn set(words: &mut Words<'_>) -> Option<Class> {
    if words.is("constraints") && !words.is_assigned() {
        return Some(Class::SetConstraints(words.whole().to_owned()));
    }
    let mut local = false;
    if !words.is_assigned() {
        if words.take("local") {
            local = true;
        } else if words.is("session") && !is_session_form(words) {
            words.take("session");
        }
    }
    if words.is_assigned() {
        return generic(words, local);
    }
    if words.take("transaction") {
        return transaction(words, false);
    }
    if words.take_all(&["session", "characteristics", "as", "transaction"]) {
        return transaction(words, true);
    }
    match special(words) {
        Some((name, value, span)) if words.at_end() => {
            Some(Class::Set(SetCommand { local, name: name.to_owned(), value, span }))
        }
        _ => None,
    }
}

/// SESSION is the first word of SESSION AUTHORIZATION or SESSION CHARACTERISTICS here, not a scope.
fn is_session_form(words: &Words<'_>) -> bool {
    let mut second = words.clone();
    second.take("session");
    (second.is("authorization") || second.is("characteristics")) && !second.is_assigned()
}

/// SET TRANSACTION modes | SNAPSHOT 'id', after TRANSACTION.
fn transaction(words: &mut Words<'_>, session: bool) -> Option<Class> {
    let class = Class::SetTransaction { session, text: words.whole().to_owned() };
    if !session && words.take("snapshot") {
        words.string_token()?;
        return words.at_end().then_some(class);
    }
    set_transaction_modes(words.whole()).map(|_| class)
}

/// `name = value`, `name TO value`.
fn generic(words: &mut Words<'_>, local: bool) -> Option<Class> {
    let name = setting_name(words)?;
    if !words.take_symbol("=") && !words.take("to") {
        return None;
    }
    let (value, span) = assigned(words)?;
    Some(Class::Set(SetCommand { local, name, value, span }))
}

/// A setting's name, with its dots; settings are the same in either case, quoted or not.
fn setting_name(words: &mut Words<'_>) -> Option<String> {
    let mut name = words.name()?;
    while words.take_symbol(".") {
        name.push('.');
        name.push_str(&words.name()?);
    }
    name.make_ascii_lowercase();
    Some(name)
}

/// The value or values after `=`, to the end.
fn assigned(words: &mut Words<'_>) -> Option<(SetValue, Span)> {
    let start = words.position()?;
    if words.is("default") {
        let span = words.take_any()?.span;
        return words.at_end().then_some((SetValue::Default, span));
    }
    let mut first = None;
    let mut count = 0;
    let mut end;
    loop {
        let value;
        (value, end) = one_value(words)?;
        if count == 0 {
            first = value;
        }
        count += 1;
        if words.at_end() {
            break;
        }
        if !words.take_symbol(",") {
            return None;
        }
    }
    let span = Span { start, end };
    let value = match first {
        Some(value) if count == 1 => SetValue::One(value),
        _ => SetValue::Raw(words.text(span).to_owned()),
    };
    Some((value, span))
}

/// A word, a string, or a number with its sign: its value if that is certain, and where it ends.
fn one_value(words: &mut Words<'_>) -> Option<(Option<String>, u32)> {
    if words.is_name() {
        let end = words.next()?.span.end;
        return Some((Some(words.name()?), end));
    }
    if let Some(string) = words.string_token() {
        let value = words.value_of(string).map(std::borrow::Cow::into_owned);
        return Some((value, string.span.end));
    }
    let negative = words.take_symbol("-");
    if !negative {
        words.take_symbol("+");
    }
    let token = words.take_any()?;
    let TokenKind::Literal(kind) = token.kind else { return None };
    let digits = match kind {
        LiteralKind::Integer => {
            let digits = words.text(token.span).trim_start_matches('0');
            Some(if digits.is_empty() { "0" } else { digits })
        }
        LiteralKind::Decimal => Some(words.text(token.span)),
        // A signed string is an error; 0x1F and 1_000 are for PostgreSQL to read.
        LiteralKind::Other if !words.text(token.span).ends_with('\'') => None,
        _ => return None,
    };
    let sign = if negative && digits != Some("0") { "-" } else { "" };
    Some((digits.map(|digits| format!("{sign}{digits}")), token.span.end))
}

/// The forms that have words of their own.
fn special(words: &mut Words<'_>) -> Option<(&'static str, SetValue, Span)> {
    if words.take_all(&["time", "zone"]) {
        return time_zone(words);
    }
    if words.take_all(&["session", "authorization"]) {
        let default = words.is("default");
        return word_or_string(words, "session_authorization", default);
    }
    if words.take("role") {
        let (name, value, span) = word_or_string(words, "role", false)?;
        let none = matches!(&value, SetValue::One(role) if role == "none");
        return Some((name, if none { SetValue::Default } else { value }, span));
    }
    if words.take("names") {
        return names(words);
    }
    if words.take("schema") {
        let token = words.string_token()?;
        return Some(("search_path", string_value(words, token), token.span));
    }
    if words.take_all(&["xml", "option"]) && (words.is("document") || words.is("content")) {
        return word_or_string(words, "xmloption", false);
    }
    None
}

fn string_value(words: &Words<'_>, token: crate::sql::token::Token) -> SetValue {
    match words.value_of(token) {
        Some(value) => SetValue::One(value.into_owned()),
        None => SetValue::Raw(words.text(token.span).to_owned()),
    }
}

fn word_or_string(
    words: &mut Words<'_>,
    name: &'static str,
    default: bool,
) -> Option<(&'static str, SetValue, Span)> {
    if let Some(token) = words.string_token() {
        return Some((name, string_value(words, token), token.span));
    }
    let span = words.next()?.span;
    let word = words.name()?;
    Some((name, if default { SetValue::Default } else { SetValue::One(word) }, span))
}

/// SET NAMES ['encoding' | DEFAULT]
fn names(words: &mut Words<'_>) -> Option<(&'static str, SetValue, Span)> {
    const NAME: &str = "client_encoding";
    if words.at_end() {
        let end = words.whole().len() as u32;
        return Some((NAME, SetValue::Default, Span { start: end, end }));
    }
    if words.is("default") {
        return Some((NAME, SetValue::Default, words.take_any()?.span));
    }
    let token = words.string_token()?;
    Some((NAME, string_value(words, token), token.span))
}

/// SET TIME ZONE value | LOCAL | DEFAULT | INTERVAL '…' …
fn time_zone(words: &mut Words<'_>) -> Option<(&'static str, SetValue, Span)> {
    const NAME: &str = "timezone";
    if words.is("local") || words.is("default") {
        return Some((NAME, SetValue::Default, words.take_any()?.span));
    }
    let start = words.position()?;
    if words.is("interval") {
        let mut end = start;
        while let Some(token) = words.take_any() {
            end = token.span.end;
        }
        let span = Span { start, end };
        return Some((NAME, SetValue::Raw(words.text(span).to_owned()), span));
    }
    let (value, end) = one_value(words)?;
    let span = Span { start, end };
    let value = match value {
        Some(value) => SetValue::One(value),
        None => SetValue::Raw(words.text(span).to_owned()),
    };
    Some((NAME, value, span))
}

/// What follows RESET.
pub(super) fn reset(words: &mut Words<'_>) -> Option<Class> {
    if words.take("all") {
        return words.at_end().then_some(Class::Reset(None));
    }
    shown_name(words).map(|name| Class::Reset(Some(name)))
}

/// What follows SHOW.
pub(super) fn show(words: &mut Words<'_>) -> Option<Class> {
    shown_name(words).map(Class::Show)
}

fn shown_name(words: &mut Words<'_>) -> Option<String> {
    let name = if words.take_all(&["time", "zone"]) {
        "timezone".to_owned()
    } else if words.take_all(&["transaction", "isolation", "level"]) {
        "transaction_isolation".to_owned()
    } else if words.take_all(&["session", "authorization"]) {
        "session_authorization".to_owned()
    } else {
        setting_name(words)?
    };
    words.at_end().then_some(name)
}
