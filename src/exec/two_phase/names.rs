//! What is the proxy's own on a shard, and out of clients' reach however they name it: what is prepared under a name
//! of ours, and the table of decisions.

use std::borrow::Cow;

use crate::commit::PREFIX;
use crate::error::{SqlError, SqlState};
use crate::exec::planner::Reading;
use crate::sql::class::Class;
use crate::sql::lexer::LiteralKind;
use crate::sql::token::{Lexer, TokenKind, fold};

/// What is prepared under a name of ours is recovery's to finish, and nobody else's.
pub(in crate::exec) fn refuse_our_names(class: &Class, text: &str) -> Result<(), SqlError> {
    if !matches!(class, Class::PrepareTransaction | Class::TwoPhase) || has_other_name(text) {
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("prepared transactions whose names begin with \"{PREFIX}\" are the proxy's own"),
    )
    .hint("The proxy finishes them by itself; its log says what keeps it from that."))
}

/// The one literal of a text is a plain one, and no name of ours. What is written in another way may mean one.
fn has_other_name(text: &str) -> bool {
    let mut lexer = Lexer::new(text.as_bytes(), true);
    let mut names = Vec::new();
    while let Ok(Some(token)) = lexer.step() {
        if let TokenKind::Literal(kind) = token.kind {
            names.push((kind, token.span));
        }
    }
    let [(LiteralKind::String | LiteralKind::DollarString, span)] = names.as_slice() else {
        return false;
    };
    let name = text.get(span.start as usize..span.end as usize).unwrap_or(PREFIX);
    !name.contains(PREFIX) && !name.contains('\\')
}

/// A statement would write, remove or alter the table of decisions, if it is the one that it names. What only reads it
/// is told apart later.
pub(in crate::exec) fn touches_decisions(class: &Class, text: &str, reading: &Reading) -> bool {
    let may_touch = match class {
        Class::Query | Class::Explain | Class::Prepare { .. } | Class::Declare(_) => true,
        Class::Copy { from, .. } => *from,
        Class::Definition { tag, .. } => tag.starts_with("DROP") || tag.starts_with("ALTER"),
        Class::Lock => false,
        _ => starts_with(text, "truncate"),
    };
    may_touch && names_decisions(text, reading)
}

/// A statement names the table of decisions, or its schema as a whole.
fn names_decisions(text: &str, reading: &Reading) -> bool {
    const SCHEMA: &str = "pgmeridian";
    const TABLE: &str = "decision";
    let is_searched = reading.search_path.iter().any(|schema| schema == SCHEMA);
    let word = if is_searched { TABLE } else { SCHEMA };
    if !text.as_bytes().windows(word.len()).any(|w| w.eq_ignore_ascii_case(word.as_bytes())) {
        return false;
    }
    let mut lexer = Lexer::new(text.as_bytes(), reading.standard_strings);
    let mut before = [None, None, None];
    while let Ok(Some(token)) = lexer.step() {
        let name = match token.kind {
            TokenKind::Symbol => text.get(token.span.start as usize..token.span.end as usize),
            _ => None,
        };
        let name = name.map(Cow::Borrowed).or_else(|| fold(text, token));
        before.rotate_left(1);
        before[2] = name;
        let words = before.each_ref().map(|word| word.as_deref().unwrap_or_default());
        match words {
            [SCHEMA, ".", TABLE] => return true,
            [_, before, TABLE] if is_searched && before != "." => return true,
            [_, "schema" | "exists" | ",", SCHEMA] if names_schemas(text) => return true,
            _ => {}
        }
    }
    false
}

fn starts_with(text: &str, word: &str) -> bool {
    let first = Lexer::new(text.as_bytes(), true).step().ok().flatten();
    first.and_then(|token| fold(text, token)).as_deref() == Some(word)
}

/// DROP SCHEMA, ALTER SCHEMA.
fn names_schemas(text: &str) -> bool {
    let mut lexer = Lexer::new(text.as_bytes(), true);
    let mut word = || lexer.step().ok().flatten().and_then(|token| fold(text, token));
    let first = word();
    matches!(first.as_deref(), Some("drop" | "alter")) && word().as_deref() == Some("schema")
}

/// 42501: what is decided there is nobody else's.
pub(in crate::exec) fn not_theirs() -> SqlError {
    SqlError::new(SqlState::INSUFFICIENT_PRIVILEGE, "table pgmeridian.decision is the proxy's own")
        .detail("Its rows say which transactions over several shards are committed.")
        .hint("Rows that nobody needs any more are removed by the proxy itself.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ours_are_seen_however_they_are_written() {
        let is_refused = |text| refuse_our_names(&Class::TwoPhase, text).is_err();
        for text in [
            "COMMIT PREPARED 'pgmeridian:1:x:y:2'",
            r"ROLLBACK PREPARED E'\x70gmeridian:1:x:y:2'",
            r"ROLLBACK PREPARED U&'\0070gmeridian:1:x:y:2'",
            "ROLLBACK PREPARED 'pgmerid'\n'ian:1:x:y:2'",
            "COMMIT PREPARED $$pgmeridian:1:x:y:2$$",
        ] {
            assert!(is_refused(text), "{text}");
        }
        assert!(!is_refused("COMMIT PREPARED 'mine'") && !is_refused("COMMIT PREPARED $a$b$a$"));
    }

    fn reading(schema: &str) -> Reading {
        Reading {
            search_path: [schema.to_owned()].into(),
            user: "bot".into(),
            standard_strings: true,
            utf8: true,
            id: 0,
            settings: 0,
            world: 0,
        }
    }

    #[test]
    fn the_table_of_decisions_is_seen() {
        for text in [
            "DELETE FROM pgmeridian.decision",
            "TRUNCATE a, \"pgmeridian\" . \"decision\"",
            "DROP TABLE IF EXISTS PgMeridian.Decision",
            "DROP SCHEMA IF EXISTS pgmeridian CASCADE",
            "DROP SCHEMA a, pgmeridian",
        ] {
            assert!(names_decisions(text, &reading("public")), "{text}");
        }
        for text in [
            "/* pgmeridian: shard=deu */ DELETE FROM decision",
            "SET pgmeridian.shard = 'deu'",
            "SELECT 'pgmeridian.decision'",
            "INSERT INTO a (schema, pgmeridian) VALUES (1, 2)",
        ] {
            assert!(!names_decisions(text, &reading("public")), "{text}");
        }
        assert!(names_decisions("DELETE FROM decision", &reading("pgmeridian")));
        assert!(!names_decisions("DELETE FROM other.decision", &reading("pgmeridian")));
    }
}
