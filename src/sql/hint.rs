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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints() {
        let check = |text: &str, shard: Option<&str>, key: Option<&str>| {
            let expect = Hint { shard: shard.map(str::to_owned), key: key.map(str::to_owned) };
            assert_eq!(parse(text), Ok(expect), "{text}");
        };
        check("shard=deu", Some("deu"), None);
        check("key=42", None, Some("42"));
        check("key=-42", None, Some("-42"));
        check("SHARD=usa-east", Some("usa-east"), None);
        check("shard=deu key=42", Some("deu"), Some("42"));
        check("shard=deu,key=42", Some("deu"), Some("42"));
        check(" key = 42 , shard = deu ", Some("deu"), Some("42"));
        check("key='a b'", None, Some("a b"));
        check("key='it''s, x',shard=deu", Some("deu"), Some("it's, x"));
        check("key=''", None, Some(""));
        check("shard=*", Some("*"), None);
        check("key=naïve", None, Some("naïve"));
    }

    #[test]
    fn faults_are_named() {
        let check = |text: &str, expect: &str| {
            let error = parse(text).unwrap_err();
            assert_eq!(error.code, SqlState::INVALID_PARAMETER_VALUE, "{text}");
            assert_eq!(error.message, format!("{expect} the pgmeridian hint"), "{text}");
        };
        let empty = |text: &str| {
            assert_eq!(parse(text).unwrap_err().message, "the pgmeridian hint is empty");
        };
        empty("");
        empty(" , ");
        check("shrad=deu", "unknown word \"shrad\" in");
        check("=deu", "unknown word \"\" in");
        check("shard", "\"shard\" has no value in");
        check("shard deu", "\"shard\" has no value in");
        check("shard=", "malformed value of \"shard\" in");
        check("shard=,key=1", "malformed value of \"shard\" in");
        check("key='a", "malformed value of \"key\" in");
        check("key='a'b", "malformed value of \"key\" in");
        check("key=a'b'", "malformed value of \"key\" in");
        check("key=1=2", "malformed value of \"key\" in");
        check("shard=a shard=b", "\"shard\" is given twice in");
        check("key=1 /* x */", "unknown word \"/*\" in");
    }
}
