//! What a session's temporary tables are called, and whether a statement may mean them.
//!
//! Main type: [`TemporaryNames`]. They may hide tables of the same name. A statement whose text has none of
//! the names has nothing to do with them. A name that stands for something else (a column, a part of a word)
//! counts too: whoever asks is careful in vain, and never wrong.

use super::tokens::{Token, tokenize};

/// The names in a session's temporary schema; or that they are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemporaryNames(Option<Vec<String>>);

impl TemporaryNames {
    /// As PostgreSQL has listed them, if it has.
    pub fn new(names: Option<Vec<String>>) -> Self {
        Self(names)
    }

    /// With one more. One without a name could not be told.
    #[must_use]
    pub fn with(self, name: Option<&str>) -> Self {
        Self(self.0.zip(name).map(|(mut names, name)| {
            names.push(name.to_owned());
            names
        }))
    }

    /// It has a table of this name, which may be qualified as the statement has it.
    pub fn has(&self, name: &str) -> bool {
        let name = name.strip_prefix("pg_temp.").unwrap_or(name);
        self.0.iter().flatten().any(|own| own == name)
    }

    /// A statement with this text may mean one of them.
    pub fn may_be_in(&self, text: &str) -> bool {
        let Some(names) = &self.0 else { return true };
        let lower = text.to_lowercase();
        // Names written as `U&"\0061"` are not read here.
        lower.contains("u&") || names.iter().any(|name| lower.contains(&name.to_lowercase()))
    }

    /// A utility statement is about these tables alone.
    pub fn is_target(&self, tag: &str, text: &str) -> bool {
        let Some(targets) = tokenize(text, None).ok().and_then(|t| targets(tag, text, &t)) else {
            return false;
        };
        !targets.is_empty() && targets.iter().all(|target| self.has(target))
    }
}

/// The tables that a utility statement is about, where that can be told from its first words.
fn targets(tag: &str, text: &str, tokens: &[Token]) -> Option<Vec<String>> {
    let skipped: &[&str] = match tag {
        "DROP TABLE" => &["drop", "table", "if", "exists"],
        "ALTER TABLE" => &["alter", "table", "if", "exists", "only"],
        "TRUNCATE TABLE" => &["truncate", "table", "only"],
        "LOCK TABLE" => &["lock", "table", "only"],
        "COPY" => &["copy", "binary"],
        "INSERT" => &["insert", "into"],
        "CREATE INDEX" => &["on", "only"],
        "ANALYZE" | "VACUUM" => &["analyze", "analyse", "vacuum", "full", "freeze", "verbose"],
        _ => return None,
    };
    let start = match tag {
        "CREATE INDEX" => tokens.iter().position(|token| token.is_word(text, "on"))?,
        _ => 0,
    };
    let mut rest = tokens.get(start..)?.iter().copied().peekable();
    while rest.next_if(|t| skipped.iter().any(|word| t.is_word(text, word))).is_some() {}
    let mut found = Vec::new();
    loop {
        let mut name = rest.next()?.name(text)?;
        if rest.next_if(|t| t.is(text, ".")).is_some() {
            name = format!("{name}.{}", rest.next()?.name(text)?);
        }
        found.push(name);
        rest.next_if(|t| t.is(text, "*"));
        let several = ["DROP TABLE", "TRUNCATE TABLE", "LOCK TABLE"].contains(&tag);
        if !several || rest.next_if(|t| t.is(text, ",")).is_none() {
            return Some(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> TemporaryNames {
        TemporaryNames::new(Some(vec!["scratch".to_owned()])).with(Some("B"))
    }

    #[test]
    fn a_text_without_their_names_is_free() {
        assert!(scratch().may_be_in("SELECT * FROM Scratch"));
        assert!(scratch().may_be_in("SELECT scratch_card FROM t"));
        assert!(!scratch().may_be_in("SELECT 1 FROM users"));
        assert!(scratch().may_be_in("SELECT 1 FROM U&\"\\0061\""));
        assert!(scratch().with(None).with(Some("x")).may_be_in("SELECT 1"));
    }

    #[test]
    fn utility_statements_say_what_they_are_about() {
        let is = |tag, text| scratch().is_target(tag, text);
        assert!(is("DROP TABLE", "DROP TABLE IF EXISTS scratch, pg_temp.scratch, \"B\" CASCADE"));
        assert!(!is("DROP TABLE", "DROP TABLE scratch, users"));
        assert!(!is("DROP TABLE", "DROP TABLE other.scratch"));
        assert!(is("ALTER TABLE", "ALTER TABLE ONLY scratch ADD COLUMN x int"));
        assert!(!is("ALTER TABLE", "ALTER TABLE users ADD COLUMN scratch int"));
        assert!(is("TRUNCATE TABLE", "TRUNCATE scratch"));
        assert!(is("COPY", "COPY scratch (a, b) FROM STDIN"));
        assert!(!is("COPY", "COPY (SELECT 1) TO STDOUT"));
        assert!(is("CREATE INDEX", "CREATE INDEX CONCURRENTLY i ON scratch (a)"));
        assert!(!is("CREATE TABLE", "CREATE TABLE x (scratch int)"));
        assert!(is("ANALYZE", "ANALYZE scratch"));
        assert!(is("INSERT", "INSERT INTO scratch VALUES (1)"));
        assert!(!is("INSERT", "WITH x AS (SELECT 1) INSERT INTO scratch SELECT * FROM x"));
    }
}
