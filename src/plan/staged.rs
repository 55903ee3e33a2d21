//! Rule *staged*: a statement that puts a query's rows somewhere (INSERT … SELECT, CREATE TABLE … AS, SELECT … INTO,
//! DECLARE … CURSOR), where the rows are not all on the shard that the place is on.
//!
//! Main types: [`Staged`], and [`Split`], the statement cut at its query by the tokens. The query is answered as it
//! would be by itself; its rows go to the one shard, and the statement runs there over them: what it does with them is
//! PostgreSQL's own. Where new rows are placed was checked before, as for any INSERT ([`super::insert`]).
//!
//! A string or NULL that stands in the output list by itself has no type of its own: in INSERT it takes the target
//! column's, in a query by itself it is text (manual, "SELECT Output Columns"). Such a column is written into the
//! statement again ([`Staged::constants`]).

use std::sync::Arc;

use super::compile::{Query, Role};
use super::query::Claim;
use super::scope::{Origin, Resolved};
use super::text::Text;
use super::{Answer, Ground, Inputs, Plan, Route};
use crate::map::{ShardId, ShardSet};
use crate::sql::tokens::{Token, TokenKind, closing, depth_step, tokenize};

/// A statement, and the query whose rows it puts somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Where.
    pub place: Place,
    /// What stands before the query: `INSERT INTO t (a)`.
    pub head: String,
    /// The query.
    pub query: String,
    /// What stands behind it: `RETURNING a`.
    pub tail: String,
    /// Output columns that are constants without a type.
    pub constants: Vec<(Column, String)>,
}

/// Where the rows of a query go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Into a table of this shard.
    Rows(ShardId),
    /// Into a new temporary table, which is where the session's are.
    Temporary,
    /// Into a new table, of this schema, if one is named, and this name.
    Table(Option<String>, String),
    /// Into a cursor.
    Cursor,
}

/// An output column, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// From the first one on, which is 0.
    FromFirst(usize),
    /// From the last one back, which is 0: a `*` stands before it.
    FromLast(usize),
}

impl Column {
    /// Its number among so many.
    pub fn of(self, columns: usize) -> Option<usize> {
        match self {
            Self::FromFirst(n) => Some(n).filter(|n| *n < columns),
            Self::FromLast(n) => columns.checked_sub(n + 1),
        }
    }
}

/// What a statement makes of its query's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Insert,
    Table { temporary: bool, schema: Option<String>, name: String },
    Cursor,
}

/// A statement cut at its query.
#[derive(Debug)]
struct Split {
    kind: Kind,
    head: String,
    query: String,
    tail: String,
    constants: Vec<(Column, String)>,
}

/// An INSERT whose query's rows are not all where they go: the shards that have a part in it, and how it is done.
/// `None` if it is none, or not one that is known here.
pub(super) fn insert(
    query: &Query,
    claims: &[Claim<'_>],
    inputs: &Inputs<'_>,
    scope: &Resolved<'_>,
) -> Option<(ShardSet, Staged)> {
    let reads = query.occurrences.iter().all(|occurrence| occurrence.role == Role::Read);
    if !reads || is_hinted(scope) {
        return None;
    }
    let (fixed, inserted) = claims.get(query.occurrences.len()..)?.split_at(query.fixed.len());
    let written = query.fixed.iter().zip(fixed).filter(|(fixed, _)| fixed.written);
    let mut targets = written.map(|(_, claim)| claim).chain(inserted);
    let target = targets.next().filter(|_| targets.next().is_none())?;
    let target = target.shards.single()?;
    let staged = Split::of(inputs).filter(|split| split.kind == Kind::Insert)?;
    let mut all = ShardSet::default();
    for claim in claims {
        all.union_with(&claim.shards);
    }
    Some((all, staged.at(Place::Rows(target))))
}

/// INSERT of a query's rows into one of the session's temporary tables, which nothing is known of.
pub(super) fn into_temporary(
    ground: &Ground<'_>,
    inputs: &Inputs<'_>,
    scope: &Resolved<'_>,
) -> Option<Plan> {
    if ground.map.has_key_databases() {
        return None;
    }
    let own = scope.temporary.filter(|own| own.names.is_target("INSERT", inputs.text))?;
    let split =
        Split::of(inputs).filter(|split| split.kind == Kind::Insert && !is_hinted(scope))?;
    let staged = split.at(Place::Rows(own.shard));
    Some(Plan { writes: true, ..plan(staged) })
}

/// The query's rows become a new table, or are a cursor's. `None` if the statement is of another form, or it is not for
/// the statement to choose where it goes.
pub(super) fn anew(ground: &Ground<'_>, inputs: &Inputs<'_>, scope: &Resolved<'_>) -> Option<Plan> {
    if ground.solo.is_some() || scope.shard.is_some() || scope.everywhere || is_hinted(scope) {
        return None;
    }
    // The place of the new rows, and what their query would be by itself, may be in different databases.
    if ground.map.has_key_databases() {
        return None;
    }
    let split = Split::of(inputs)?;
    let place = match &split.kind {
        Kind::Insert => return None,
        Kind::Table { temporary: true, .. } => Place::Temporary,
        Kind::Table { schema, name, .. } => Place::Table(schema.clone(), name.clone()),
        Kind::Cursor => Place::Cursor,
    };
    if matches!(place, Place::Table(..)) && !scope.keys.is_empty() {
        // As any change of the schema.
        return None;
    }
    let (writes, taints) = (place != Place::Cursor, place == Place::Temporary);
    let changes_schema = matches!(place, Place::Table(..));
    Some(Plan { taints, writes, changes_schema, ..plan(split.at(place)) })
}

/// Any shard may have a part in it.
fn plan(staged: Staged) -> Plan {
    Plan {
        route: Route::All,
        answer: Answer::Staged(Arc::new(staged)),
        rewritten: None,
        taints: false,
        writes: false,
        changes_schema: false,
        settings: None,
        names_temporary: false,
        // Its query is planned by itself, and says so.
        crossing: None,
        once: false,
    }
}

/// A comment before the statement says more of it than its query would say by itself.
fn is_hinted(scope: &Resolved<'_>) -> bool {
    scope.keys.iter().any(|key| key.origin == Origin::Hint)
}

impl Split {
    fn of(inputs: &Inputs<'_>) -> Option<Self> {
        let mut tokens = tokenize(inputs.text, Some(inputs.literals)).ok()?;
        tokens.pop_if(|last| last.is(inputs.text, ";"));
        let cut = Cut { sql: inputs.text, tokens: &tokens };
        let first = tokens.first()?;
        let is = |word: &str| first.is_word(inputs.text, word);
        if is("declare") {
            return cut.cursor();
        }
        if is("create") {
            return cut.table();
        }
        let main = cut.main()?;
        if cut.is(main, "insert") { cut.insert(main, inputs) } else { cut.select_into(main) }
    }

    fn at(self, place: Place) -> Staged {
        let Self { head, query, tail, constants, .. } = self;
        Staged { place, head, query, tail, constants }
    }
}

/// A statement's text and tokens.
struct Cut<'t> {
    sql: &'t str,
    tokens: &'t [Token],
}

impl Cut<'_> {
    fn is(&self, at: usize, word: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_word(self.sql, word))
    }

    fn any(&self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    fn opens(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(self.sql, "("))
    }

    /// A query begins here.
    fn begins(&self, at: usize) -> bool {
        let within = |at| self.any(at, &["select", "with", "table", "values"]) || self.opens(at);
        self.any(at, &["select", "with", "table"]) || self.opens(at) && within(at + 1)
    }

    fn text(&self, from: usize, to: usize) -> Option<String> {
        let Some(last) = to.checked_sub(1).filter(|last| *last >= from) else {
            return Some(String::new());
        };
        let (start, end) = (self.tokens.get(from)?.start, self.tokens.get(last)?.end);
        self.sql.get(start as usize..end as usize).map(ToOwned::to_owned)
    }

    /// The first token from here on, outside parentheses, that is wanted.
    fn find(&self, from: usize, wanted: impl Fn(usize) -> bool) -> Option<usize> {
        let mut depth = 0;
        for (at, token) in self.tokens.iter().enumerate().skip(from) {
            depth += depth_step(*token, self.sql);
            if depth == 0 && wanted(at) {
                return Some(at);
            }
        }
        None
    }

    /// The statement itself, behind WITH if that is there.
    fn main(&self) -> Option<usize> {
        if !self.is(0, "with") {
            return Some(0);
        }
        self.find(1, |at| self.any(at, &["select", "insert", "update", "delete", "merge", "table"]))
    }

    /// A name, qualified or not, and what comes behind it.
    fn name(&self, at: usize) -> Option<(Option<String>, String, usize)> {
        let part = |at: usize| self.tokens.get(at).and_then(|token| token.name(self.sql));
        let dot = |at: usize| self.tokens.get(at).is_some_and(|token| token.is(self.sql, "."));
        let first = part(at)?;
        if !dot(at + 1) {
            return Some((None, first, at + 1));
        }
        let second = part(at + 2).filter(|_| !dot(at + 3))?;
        Some((Some(first), second, at + 3))
    }

    /// `[WITH …] INSERT INTO t [AS a] [(columns)] [OVERRIDING … VALUE] query [ON CONFLICT …] [RETURNING …]`
    fn insert(&self, main: usize, inputs: &Inputs<'_>) -> Option<Split> {
        let (_, _, mut at) = self.name(main + 2).filter(|_| self.is(main + 1, "into"))?;
        at += if self.is(at, "as") { 2 } else { 0 };
        if self.opens(at) && !self.begins(at) {
            at = closing(self.tokens, self.sql, at) + 1;
        }
        at += if self.is(at, "overriding") { 3 } else { 0 };
        if !self.begins(at) {
            return None;
        }
        let behind = |at: usize| {
            let of_conflict = self.any(at + 2, &["do", "on"]) || self.opens(at + 2);
            let plain = !self.tokens.get(at - 1).is_some_and(|before| before.is(self.sql, "."))
                && !self.is(at - 1, "as");
            plain
                && (self.is(at, "returning")
                    || self.is(at, "on") && self.is(at + 1, "conflict") && of_conflict)
        };
        let end = self.find(at, behind).unwrap_or(self.tokens.len());
        // What stands there could read other tables.
        let reads = |at: usize| self.any(at, &["select", "table", "values", "with"]);
        if (end..self.tokens.len()).any(reads) {
            return None;
        }
        let own = self.text(at, end)?;
        let query = match self.text(0, main)? {
            with if with.is_empty() => own,
            // One SELECT can't have two of them (`multiple WITH clauses not allowed`).
            _ if (at..end).find(|at| !self.opens(*at)).is_some_and(|at| self.is(at, "with")) => {
                return None;
            }
            with => format!("{with} {own}"),
        };
        Some(Split {
            kind: Kind::Insert,
            head: self.text(main, at)?,
            query,
            tail: self.text(end, self.tokens.len())?,
            constants: constants(self.tokens.get(at..end)?, inputs),
        })
    }

    /// `CREATE [TEMP | UNLOGGED] TABLE [IF NOT EXISTS] name … AS query [WITH [NO] DATA]`
    fn table(&self) -> Option<Split> {
        let kinds = ["global", "local", "temporary", "temp", "unlogged"];
        let at = 1 + (1..self.tokens.len()).take_while(|at| self.any(*at, &kinds)).count();
        let temporary = (1..at).any(|at| self.any(at, &["temporary", "temp"]));
        let exists = self.is(at + 1, "if") && self.is(at + 2, "not") && self.is(at + 3, "exists");
        let named = at + 1 + if exists { 3 } else { 0 };
        let (schema, name, behind) = self.name(named).filter(|_| self.is(at, "table"))?;
        let start = self.find(behind, |at| self.is(at, "as"))? + 1;
        if !(self.begins(start) || self.is(start, "values")) {
            return None;
        }
        let count = self.tokens.len();
        let has_end = self.is(count - 1, "data");
        let without = has_end && self.is(count - 2, "no");
        let end = match (has_end, without) {
            (true, true) => count - 3,
            (true, false) if self.is(count - 2, "with") => count - 2,
            _ => count,
        };
        Some(Split {
            kind: Kind::Table { temporary, schema, name },
            head: self.text(0, start)?,
            query: self.text(start, end)?,
            tail: self.text(end, count)?,
            constants: Vec::new(),
        })
    }

    /// `[WITH …] SELECT … INTO [TEMP | UNLOGGED] [TABLE] name …`, as CREATE TABLE … AS.
    fn select_into(&self, main: usize) -> Option<Split> {
        if !self.is(main, "select") {
            return None;
        }
        let qualifies = |at: usize| {
            self.tokens.get(at - 1).is_some_and(|before| before.is(self.sql, "."))
                || self.is(at - 1, "as")
        };
        let into = self.find(main + 1, |at| self.is(at, "into") && !qualifies(at))?;
        let mut at = into + 1;
        let mut kind = "";
        while self.any(at, &["local", "global", "temporary", "temp", "unlogged", "table"]) {
            kind = match () {
                () if self.is(at, "unlogged") => " UNLOGGED",
                () if self.any(at, &["temporary", "temp"]) => " TEMPORARY",
                () => kind,
            };
            at += 1;
        }
        let (schema, name, behind) = self.name(at)?;
        let written = self.text(at, behind)?;
        let (before, after) = (self.text(0, into)?, self.text(behind, self.tokens.len())?);
        Some(Split {
            kind: Kind::Table { temporary: kind == " TEMPORARY", schema, name },
            head: format!("CREATE{kind} TABLE {written} AS"),
            query: format!("{before} {after}"),
            tail: String::new(),
            constants: Vec::new(),
        })
    }

    /// `DECLARE name … CURSOR … FOR query`
    fn cursor(&self) -> Option<Split> {
        let start = self.find(1, |at| self.is(at, "for") && !self.is(at - 1, "declare"))? + 1;
        if !(self.begins(start) || self.is(start, "values")) {
            return None;
        }
        Some(Split {
            kind: Kind::Cursor,
            head: self.text(0, start)?,
            query: self.text(start, self.tokens.len())?,
            tail: String::new(),
            constants: Vec::new(),
        })
    }
}

/// The output columns of a SELECT that are strings or NULL, and nothing else.
fn constants(tokens: &[Token], inputs: &Inputs<'_>) -> Vec<(Column, String)> {
    let text = Text { tokens, inputs };
    let Some(clauses) = text.clauses().filter(|clauses| !clauses.distinct) else {
        return Vec::new();
    };
    let items = text.items(clauses.select);
    let is_star = |item: &std::ops::Range<usize>| {
        item.end.checked_sub(1).and_then(|last| text.token(last)).is_some_and(|last| {
            let before = text.token(item.end.wrapping_sub(2)).filter(|_| item.len() > 1);
            last.is(text.sql(), "*") && before.is_none_or(|before| before.is(text.sql(), "."))
        })
    };
    let first_star = items.iter().position(is_star).unwrap_or(items.len());
    let last_star = items.iter().rposition(is_star);
    let mut found = Vec::new();
    for (n, item) in items.iter().enumerate() {
        let Some(value) = text.without_alias(item.clone()) else { continue };
        let Some(token) = text.token(value.start).filter(|_| value.len() == 1) else { continue };
        let is_constant =
            matches!(token.kind, TokenKind::String(_)) || token.is_word(text.sql(), "null");
        let column = if n < first_star {
            Column::FromFirst(n)
        } else if last_star.is_some_and(|star| n > star) {
            Column::FromLast(items.len() - 1 - n)
        } else {
            continue;
        };
        if is_constant {
            found.push((column, token.text(text.sql()).to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::lexer::{Limits, Scan, scan};

    fn split(text: &str) -> Option<Split> {
        let mut found = Scan::default();
        scan(text.as_bytes(), true, &Limits::default(), &mut found).expect("a scan");
        let literals = &found.literals;
        Split::of(&Inputs { text, literals, params: &[], utf8: true, standard_strings: true })
    }

    fn check(text: &str, expect: [&str; 3]) {
        let found = split(text).expect(text);
        assert_eq!([found.head.as_str(), &found.query, &found.tail], expect, "{text}");
    }

    #[test]
    fn statements_are_cut_at_their_query() {
        check("INSERT INTO t SELECT a FROM u;", ["INSERT INTO t", "SELECT a FROM u", ""]);
        check(
            "insert into s.t as x (a, b) overriding user value (select 1, 2) on conflict do nothing returning *",
            [
                "insert into s.t as x (a, b) overriding user value",
                "(select 1, 2)",
                "on conflict do nothing returning *",
            ],
        );
        check("INSERT INTO t (SELECT 1)", ["INSERT INTO t", "(SELECT 1)", ""]);
        check("INSERT INTO t (a) ((TABLE u))", ["INSERT INTO t (a)", "((TABLE u))", ""]);
        check(
            "INSERT INTO t SELECT * FROM a JOIN b ON conflict = a.x",
            ["INSERT INTO t", "SELECT * FROM a JOIN b ON conflict = a.x", ""],
        );
        check(
            "WITH x AS (SELECT 1) INSERT INTO t (SELECT 3) ON CONFLICT (a) DO UPDATE SET b = excluded.b",
            [
                "INSERT INTO t",
                "WITH x AS (SELECT 1) (SELECT 3)",
                "ON CONFLICT (a) DO UPDATE SET b = excluded.b",
            ],
        );
        check(
            "CREATE UNLOGGED TABLE IF NOT EXISTS s.t (a) WITH (fillfactor = 70) AS SELECT 1 WITH NO DATA",
            [
                "CREATE UNLOGGED TABLE IF NOT EXISTS s.t (a) WITH (fillfactor = 70) AS",
                "SELECT 1",
                "WITH NO DATA",
            ],
        );
        check("CREATE TEMP TABLE t AS VALUES (1)", ["CREATE TEMP TABLE t AS", "VALUES (1)", ""]);
        check("CREATE TABLE t AS TABLE u WITH DATA", ["CREATE TABLE t AS", "TABLE u", "WITH DATA"]);
        check(
            "SELECT a, b INTO TEMP TABLE t FROM u WHERE a > 1",
            ["CREATE TEMPORARY TABLE t AS", "SELECT a, b FROM u WHERE a > 1", ""],
        );
        check(
            "DECLARE \"for\" NO SCROLL CURSOR WITH HOLD FOR (SELECT 1) ORDER BY 1",
            ["DECLARE \"for\" NO SCROLL CURSOR WITH HOLD FOR", "(SELECT 1) ORDER BY 1", ""],
        );
        for text in [
            "INSERT INTO t VALUES (1)",
            "INSERT INTO t DEFAULT VALUES",
            "INSERT INTO t SELECT 1 RETURNING (SELECT max(a) FROM u)",
            "WITH x AS (SELECT 1) INSERT INTO t (WITH y AS (SELECT 2) SELECT 3)",
            "CREATE TABLE t AS EXECUTE p",
            "CREATE VIEW v AS SELECT 1",
            "CREATE MATERIALIZED VIEW v AS SELECT 1",
            "SELECT 1",
        ] {
            assert!(split(text).is_none(), "{text}");
        }
    }

    #[test]
    fn constants_are_found_on_both_sides_of_a_star() {
        let constants = |text: &str| split(text).expect(text).constants;
        assert_eq!(
            constants("INSERT INTO t SELECT 'a', u.*, 1, NULL AS x, 'b' y FROM u"),
            [
                (Column::FromFirst(0), "'a'".to_owned()),
                (Column::FromLast(1), "NULL".to_owned()),
                (Column::FromLast(0), "'b'".to_owned()),
            ]
        );
        assert_eq!(constants("INSERT INTO t SELECT a * 'x', 'a' || b, 'c'::text FROM u"), []);
        assert_eq!(constants("INSERT INTO t SELECT DISTINCT 'a', b FROM u"), []);
        assert_eq!((Column::FromFirst(2).of(3), Column::FromFirst(3).of(3)), (Some(2), None));
        assert_eq!((Column::FromLast(0).of(3), Column::FromLast(3).of(3)), (Some(2), None));
    }
}
