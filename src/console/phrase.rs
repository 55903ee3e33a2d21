//! What a statement of the console says.

use super::courtesy::{self, Courtesy};
use super::encode::Shape;
use crate::command::{Command, ROUTE, Topic};
use crate::datum::{Oid, oid};
use crate::error::{SqlError, SqlState};

/// What a statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing at all.
    Nothing,
    /// A command.
    Command(Command),
    /// A command whose argument is `$1`.
    Asks(Verb),
    /// Something that drivers say.
    Courtesy(Courtesy),
}

/// A command that takes an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Route,
    Pause,
    Resume,
    Drain,
    Freeze,
    Unfreeze,
    Kill,
}

impl Verb {
    const ALL: [(&'static str, Self); 7] = [
        ("route", Self::Route),
        ("pause", Self::Pause),
        ("resume", Self::Resume),
        ("drain", Self::Drain),
        ("freeze", Self::Freeze),
        ("unfreeze", Self::Unfreeze),
        ("kill", Self::Kill),
    ];

    /// The command with this argument.
    pub(super) fn with(self, argument: &str) -> Result<Command, SqlError> {
        let text = argument.to_owned();
        Ok(match self {
            Self::Route => Command::Route(text),
            Self::Pause => Command::Pause(Some(text)),
            Self::Resume => Command::Resume(Some(text)),
            Self::Drain => Command::Drain(text),
            Self::Freeze => Command::Freeze(text),
            Self::Unfreeze => Command::Unfreeze { key: text, force: false },
            Self::Kill => Command::Kill(argument.trim().parse().map_err(|_| {
                SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("\"{argument}\" is no client's id"),
                )
                .hint("SHOW CLIENTS lists them.")
            })?),
        })
    }

    /// The type of its argument.
    pub(super) fn argument_type(self) -> Oid {
        if self == Self::Kill { oid::INT8 } else { oid::TEXT }
    }
}

impl Said {
    /// The columns of its answer.
    pub(super) fn shape(&self) -> Shape {
        match self {
            Self::Nothing => Shape::of(&[]),
            Self::Command(command) => Shape::of(command.columns()),
            Self::Asks(Verb::Route) => Shape::of(ROUTE),
            Self::Asks(_) => Shape::of(&[]),
            Self::Courtesy(courtesy) => courtesy.shape(),
        }
    }
}

/// Reads one statement, without its `;`.
pub(super) fn read(text: &str) -> Result<Said, SqlError> {
    let text = text.trim();
    let (first, rest) = split_word(text);
    let first = first.to_ascii_lowercase();
    if first.is_empty() {
        return if text.is_empty() { Ok(Said::Nothing) } else { Err(unknown(text)) };
    }
    if let Some((_, verb)) = Verb::ALL.iter().find(|(name, _)| *name == first) {
        return if *verb == Verb::Unfreeze { unfreeze(rest) } else { argument(*verb, rest) };
    }
    let words = rest.split_whitespace().collect::<Vec<_>>().join(" ");
    let bare = words.replace('"', "").to_ascii_lowercase();
    match first.as_str() {
        "show" if let Some(topic) = Topic::named(&bare) => Ok(Said::Command(Command::Show(topic))),
        "help" => Ok(Said::Command(Command::Show(Topic::Help))),
        "reload" if bare.is_empty() => Ok(Said::Command(Command::Reload { force: false })),
        "reload" if bare == "force" => Ok(Said::Command(Command::Reload { force: true })),
        "shutdown" if bare.is_empty() => Ok(Said::Command(Command::Shutdown)),
        "show" if bare.is_empty() => Ok(Said::Command(Command::Show(Topic::Help))),
        _ => {
            let whole = if bare.is_empty() { first.clone() } else { format!("{first} {bare}") };
            match courtesy::answer(&first, &whole) {
                Some(courtesy) => Ok(Said::Courtesy(courtesy)),
                None if first == "show" => Err(unknown_topic(&words)),
                None => Err(unknown(&first)),
            }
        }
    }
}

/// The argument of UNFREEZE, and whether FORCE stands behind it.
fn unfreeze(rest: &str) -> Result<Said, SqlError> {
    let forced = rest.trim().rsplit_once(char::is_whitespace);
    let Some((key, word)) = forced.filter(|(_, word)| word.eq_ignore_ascii_case("force")) else {
        return argument(Verb::Unfreeze, rest);
    };
    match argument(Verb::Unfreeze, key)? {
        Said::Command(Command::Unfreeze { key, .. }) => {
            Ok(Said::Command(Command::Unfreeze { key, force: true }))
        }
        _ => Err(unknown(word)),
    }
}

/// The argument of a command: quoted as a string or a name, a bare word, or `$1`. After ROUTE a statement
/// may also stand as it is.
fn argument(verb: Verb, rest: &str) -> Result<Said, SqlError> {
    let rest = rest.trim();
    if rest.is_empty() {
        return match verb {
            Verb::Pause => Ok(Said::Command(Command::Pause(None))),
            Verb::Resume => Ok(Said::Command(Command::Resume(None))),
            _ => Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at end of input")
                .hint("The command needs an argument; SHOW HELP lists the commands.")),
        };
    }
    if rest == "$1" {
        return Ok(Said::Asks(verb));
    }
    let quoted = unquote(rest, '\'').or_else(|| unquote(rest, '"'));
    match quoted {
        Some(text) => verb.with(&text).map(Said::Command),
        None if verb == Verb::Route || !rest.contains(char::is_whitespace) => {
            verb.with(rest).map(Said::Command)
        }
        None => {
            let (_, more) = split_word(rest);
            Err(unknown(more.split_whitespace().next().unwrap_or(rest)))
        }
    }
}

/// The inside of a text that is quoted from end to end, doubled quotes undone.
fn unquote(text: &str, quote: char) -> Option<String> {
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let halves = inner.replace(&format!("{quote}{quote}"), "");
    (!halves.contains(quote)).then(|| inner.replace(&format!("{quote}{quote}"), &quote.to_string()))
}

/// The first word, and what follows it.
fn split_word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text.split_at(end)
}

fn unknown(word: &str) -> SqlError {
    SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{word}\""))
        .detail("This is the console of pgmeridian: it knows its own commands and no tables.")
        .hint("SHOW HELP lists the commands.")
}

fn unknown_topic(words: &str) -> SqlError {
    let error =
        SqlError::new(SqlState::SYNTAX_ERROR, format!("the console can't show \"{words}\""));
    let names = Topic::ALL.iter().map(|(name, _)| *name);
    match crate::map::did_you_mean(words, names) {
        Some(near) => error.hint(format!("Did you mean SHOW {}?", near.to_ascii_uppercase())),
        None => error.hint("SHOW HELP lists the commands."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Said {
        read(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn commands_are_read() {
        let check = |text: &str, expect: Command| assert_eq!(said(text), Said::Command(expect));
        check("show pools", Command::Show(Topic::Pools));
        check("SHOW  Map\n History", Command::Show(Topic::MapHistory));
        check("show \"shards\"", Command::Show(Topic::Shards));
        check("help", Command::Show(Topic::Help));
        check("ROUTE 'SELECT ''x'''", Command::Route("SELECT 'x'".to_owned()));
        check("route select 1 from t", Command::Route("select 1 from t".to_owned()));
        check("pause", Command::Pause(None));
        check("PAUSE usa-east", Command::Pause(Some("usa-east".to_owned())));
        check("drain \"Deu\"", Command::Drain("Deu".to_owned()));
        check("kill 17", Command::Kill(17));
        check("freeze 'tenant=42'", Command::Freeze("tenant=42".to_owned()));
        let unfreeze = |key: &str, force| Command::Unfreeze { key: key.to_owned(), force };
        check("unfreeze 42", unfreeze("42", false));
        check("UNFREEZE 42  Force", unfreeze("42", true));
        check("unfreeze 'tenant=42' FORCE", unfreeze("tenant=42", true));
        check("unfreeze force", unfreeze("force", false));
        check("unfreeze 'a force'", unfreeze("a force", false));
        assert!(read("unfreeze 42 soon").is_err() && read("unfreeze $1 force").is_err());
        check("reload", Command::Reload { force: false });
        check("RELOAD Force", Command::Reload { force: true });
        assert_eq!(said("kill $1"), Said::Asks(Verb::Kill));
        assert_eq!(said("  "), Said::Nothing);
    }

    #[test]
    fn drivers_are_answered() {
        for text in [
            "SET client_encoding TO 'UTF8'",
            "SELECT 1",
            "select pg_catalog.version()",
            "BEGIN",
            "START TRANSACTION READ ONLY",
            "ROLLBACK",
            "SHOW standard_conforming_strings",
            "SHOW TRANSACTION ISOLATION LEVEL",
            "DISCARD ALL",
            "SELECT pg_advisory_unlock_all()",
            "CLOSE ALL",
            "SELECT current_user",
        ] {
            assert!(matches!(said(text), Said::Courtesy(_)), "{text}");
        }
    }

    #[test]
    fn the_rest_is_no_command() {
        for text in [
            "SELECT * FROM tenants",
            "SHOW weather",
            "drain",
            "kill me",
            "pause a b",
            "reload now",
            "DROP TABLE x",
            "?",
            "route",
        ] {
            let error = read(text).expect_err(text);
            assert!(matches!(error.code.0, "42601" | "22023"), "{text}: {error}");
            assert!(error.hint.is_some(), "{text}");
        }
        assert_eq!(read("show pols").unwrap_err().hint.unwrap(), "Did you mean SHOW POOLS?");
    }
}
