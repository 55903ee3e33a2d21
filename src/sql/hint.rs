//! The hint in a statement's leading comment: `/* pgmeridian: shard=deu, key=42 */`.
//!
//! [`super::lexer::scan`] finds it, this reads it. What it means for the route is for planning to say.

use crate::error::{SqlError, SqlState};

/// What a hint asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// `shard=name`.
    pub shard: Option<String>,
    /// `key=value`, as text of the key's type.
    pub key: Option<String>,
}

/// Reads the text after `pgmeridian:`: `name=value` pairs between blanks or commas. A value with blanks,
/// commas or quotes is written in single quotes, a quote in it twice.
///
/// # Errors
///
/// 22023 for an unknown or repeated name, a missing or malformed value, and an empty hint.
pub fn parse(text: &str) -> Result<Hint, SqlError> {
    let mut hint = Hint::default();
    let mut rest = text.trim_start_matches(is_separator);
    if rest.is_empty() {
        return Err(invalid("the pgmeridian hint is empty".to_owned()));
    }
    while !rest.is_empty() {
        let name_end = rest.find(|c: char| c == '=' || is_separator(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(name_end);
        let slot = match name.to_ascii_lowercase().as_str() {
            "shard" => &mut hint.shard,
            "key" => &mut hint.key,
            _ => return Err(invalid(format!("unknown word \"{name}\" in the pgmeridian hint"))),
        };
        let Some(after) = after.trim_start().strip_prefix('=') else {
            return Err(invalid(format!("\"{name}\" has no value in the pgmeridian hint")));
        };
        let (value, after) = value(name, after.trim_start())?;
        if slot.replace(value).is_some() {
            return Err(invalid(format!("\"{name}\" is given twice in the pgmeridian hint")));
        }
        rest = after.trim_start_matches(is_separator);
    }
    Ok(hint)
}

fn is_separator(c: char) -> bool {
    c == ',' || c.is_ascii_whitespace()
}

/// The value at the start of `text`, and what follows it.
fn value<'a>(name: &str, text: &'a str) -> Result<(String, &'a str), SqlError> {
    let malformed = || invalid(format!("malformed value of \"{name}\" in the pgmeridian hint"));
    let Some(mut rest) = text.strip_prefix('\'') else {
        let end = text.find(is_separator).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        if value.is_empty() || value.contains(['\'', '"', '=', '/', '*']) && value != "*" {
            return Err(malformed());
        }
        return Ok((value.to_owned(), after));
    };
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('\'').ok_or_else(malformed)?;
        value.push_str(part);
        match after.strip_prefix('\'') {
            Some(after) => {
                value.push('\'');
                rest = after;
            }
            None if after.is_empty() || after.starts_with(is_separator) => {
                return Ok((value, after));
            }
            None => return Err(malformed()),
        }
    }
}

fn invalid(message: String) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
        .hint("Write /* pgmeridian: shard=name */ or /* pgmeridian: key=value */.")
}
