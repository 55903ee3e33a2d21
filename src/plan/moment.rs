//! The moment that a transaction calls now, said to every shard.
//!
//! Each server has a `now()` of its own. A statement over several shards, and one on a shard that its transaction
//! has not reached first, is told the first shard's: where its text names the transaction's time, that is written
//! in its place as a constant. The places are found by tokens, in the text that is sent: what the definition of a
//! view has in it is there too. `clock_timestamp()` and the like mean each server's clock, and stay.
//!
//! What does not stand in the text keeps the time of its own server: defaults of columns, triggers, functions of
//! users, `'now'` with no type beside it, parameters.

use std::fmt;
use std::sync::Arc;

use super::refusal::Refusal;
use super::{Answer, Plan, Texts, Workspace};
use crate::error::SqlError;
use crate::sql::ir::Analysis;
use crate::sql::tokens::{Token, TokenKind, tokenize};

/// Microseconds since 1970, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub i64);

/// What a server is asked for its transaction's time: [`Moment`].
pub const READ_MOMENT: &str =
    "SELECT (extract(epoch FROM pg_catalog.now()) * 1000000)::pg_catalog.int8";

/// The text says more than can be told.
#[derive(Debug, PartialEq, Eq)]
struct Unclear;

/// All calls of the analysis that depend on the clock stand in its own text, and can be said.
pub(super) fn can_be_said(analysis: &Analysis, call: &str) -> bool {
    let name = call.strip_prefix("pg_catalog.").unwrap_or(call);
    let known = matches!(name, "now" | "transaction_timestamp") || key_word(name).is_some();
    known && analysis.views.is_empty()
}

/// The type of a key word that is the transaction's time, and whether it may have a precision.
fn key_word(word: &str) -> Option<(&'static str, bool)> {
    Some(match word {
        "current_timestamp" => ("", true),
        "current_date" => ("::pg_catalog.date", false),
        "current_time" => ("::pg_catalog.timetz", true),
        "localtimestamp" => ("::pg_catalog.timestamp", true),
        "localtime" => ("::pg_catalog.time", true),
        _ => return None,
    })
}

impl Plan {
    /// Its texts (or the client's, where it has none of its own) name the time.
    ///
    /// # Errors
    ///
    /// 0A000 where that can't be told.
    pub fn names_time(&self, text: &str, standard_strings: bool) -> Result<bool, SqlError> {
        let mut found = false;
        self.each_text(text, &mut |sql| {
            found |= !places(sql, standard_strings)?.is_empty();
            Ok(())
        })
        .map_err(refusal)?;
        Ok(found)
    }

    /// The same plan with this time in its texts.
    ///
    /// # Errors
    ///
    /// 0A000 where it can't be told what the text says.
    pub fn at(&self, moment: Moment, text: &str, standard_strings: bool) -> Result<Self, SqlError> {
        self.saying(&moment, text, standard_strings)
    }

    /// The same plan as it is sent, for people: the time itself is known only when it runs.
    pub(super) fn told(&self, shard: &str, text: &str, standard_strings: bool) -> Option<Self> {
        let timed = matches!(self.names_time(text, standard_strings), Ok(true));
        let time = format!("the time of {}", shard.replace('\'', "''"));
        timed.then(|| self.saying(&time, text, standard_strings).ok()).flatten()
    }

    fn saying(
        &self,
        time: &dyn fmt::Display,
        text: &str,
        standard_strings: bool,
    ) -> Result<Self, SqlError> {
        let said = |sql: &str| written(sql, time, standard_strings).map_err(refusal);
        let mut plan = self.clone();
        match &mut plan.answer {
            Answer::Relay => {
                let sql = self.rewritten.as_deref().unwrap_or(text);
                plan.rewritten = Some(said(sql)?);
            }
            Answer::Stream(texts) => {
                let sql = self.rewritten.as_deref().unwrap_or(text);
                plan.rewritten = Some(said(sql)?);
                let own = texts.iter().map(|(shard, sql)| Ok((*shard, said(sql)?)));
                *texts = Texts::new(own.collect::<Result<_, SqlError>>()?);
            }
            Answer::Merge(merge) => {
                let merge = Arc::make_mut(merge);
                for worker in merge.workers_mut() {
                    worker.rewrite(said(&worker.sql)?);
                }
                if let Some(work) = &mut merge.fallback {
                    say_in(Arc::make_mut(work), &said)?;
                }
            }
            Answer::Workspace(work) => say_in(Arc::make_mut(work), &said)?,
            Answer::Staged(_) | Answer::Broadcast | Answer::InTurn => {}
        }
        Ok(plan)
    }

    fn each_text(
        &self,
        text: &str,
        look: &mut dyn FnMut(&str) -> Result<(), Unclear>,
    ) -> Result<(), Unclear> {
        match &self.answer {
            Answer::Relay | Answer::Stream(_) => look(self.rewritten.as_deref().unwrap_or(text)),
            Answer::Merge(merge) => look(&merge.workers.keyed.sql),
            Answer::Workspace(work) => {
                look(&work.sql)?;
                let fetches = work.tables.iter().flat_map(|table| &table.fetches);
                fetches.map(|(_, sql)| sql).try_for_each(|sql| look(sql))
            }
            Answer::Staged(_) | Answer::Broadcast | Answer::InTurn => Ok(()),
        }
    }
}

fn say_in(
    work: &mut Workspace,
    said: &dyn Fn(&str) -> Result<String, SqlError>,
) -> Result<(), SqlError> {
    work.sql = said(&work.sql)?;
    for (_, sql) in work.tables.iter_mut().flat_map(|table| &mut table.fetches) {
        *sql = said(sql)?;
    }
    Ok(())
}

fn refusal(_: Unclear) -> SqlError {
    Refusal::Opaque {
        reason: "It names the transaction's time, and standard_conforming_strings is off"
            .to_owned(),
        names: "each shard has a time of its own".to_owned(),
    }
    .into()
}

/// A text with the moment in it.
fn written(
    sql: &str,
    moment: &dyn fmt::Display,
    standard_strings: bool,
) -> Result<String, Unclear> {
    let mut out = String::with_capacity(sql.len() + 64);
    let mut done = 0;
    for place in places(sql, standard_strings)? {
        out.push_str(sql.get(done..place.start).unwrap_or_default());
        out.push_str(&place.text(moment));
        done = place.end;
    }
    out.push_str(sql.get(done..).unwrap_or_default());
    Ok(out)
}

/// Where a text names the transaction's time.
#[derive(Debug)]
struct Place {
    start: usize,
    end: usize,
    /// Casts behind the moment.
    casts: String,
    form: Form,
}

/// What stands there then.
#[derive(Debug)]
enum Form {
    Constant,
    /// A column of this name: one that has no alias is called like its function.
    Output(&'static str),
    /// Something that a column is named after.
    Within(&'static str),
    /// An item of FROM, with the alias that it has by itself.
    From(Option<&'static str>),
}

impl Place {
    fn text(&self, moment: &dyn fmt::Display) -> String {
        let constant = format!("'{moment}'::pg_catalog.timestamptz{}", self.casts);
        match self.form {
            Form::Constant => format!("({constant})"),
            Form::Output(name) => format!("({constant}) AS \"{name}\""),
            Form::Within(name) => format!("(SELECT {constant} AS \"{name}\")"),
            Form::From(None) => format!("coalesce({constant})"),
            Form::From(Some(name)) => format!("coalesce({constant}) AS \"{name}\""),
        }
    }
}

/// Which part of a statement tokens are in, by their parentheses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Output,
    /// In parentheses that hold a column's expression together.
    Grouped,
    From,
    Other,
}

/// Words that no text without a time lacks all of.
const MARKS: [&str; 6] =
    ["now", "current_", "localtime", "transaction_timestamp", "today", "terday"];

/// Words that a clause behind the output list or FROM begins with.
const CLAUSES: [&str; 12] = [
    "where",
    "order",
    "group",
    "having",
    "limit",
    "offset",
    "fetch",
    "union",
    "intersect",
    "except",
    "window",
    "for",
];

/// Other words behind an item of FROM that are no alias.
const JOINS: [&str; 9] =
    ["join", "left", "right", "full", "cross", "inner", "natural", "on", "using"];

fn places(sql: &str, standard_strings: bool) -> Result<Vec<Place>, Unclear> {
    let lower = sql.to_ascii_lowercase();
    if !MARKS.iter().any(|mark| lower.contains(mark)) && !lower.contains("tomorrow") {
        return Ok(Vec::new());
    }
    if !standard_strings && sql.contains('\\') {
        return Err(Unclear);
    }
    let tokens = tokenize(sql, None).map_err(|_| Unclear)?;
    let text = Tokens { tokens: &tokens, sql };
    let mut found = Vec::new();
    let mut parts = vec![Part::Other];
    for at in 0..tokens.len() {
        let Some(part) = parts.last_mut() else { return Err(Unclear) };
        if text.is(at, "(") {
            let inherits = matches!(part, Part::Output | Part::Grouped)
                && (text.groups(at) || text.is_cast(at));
            parts.push(if inherits { Part::Grouped } else { Part::Other });
            continue;
        }
        if text.is(at, "[") {
            parts.push(Part::Other);
            continue;
        }
        if text.is(at, ")") || text.is(at, "]") {
            parts.pop();
            continue;
        }
        if text.is_word(at, &["select", "returning"]) {
            *part = Part::Output;
        } else if text.is_word(at, &["from"])
            && *part == Part::Output
            && !text.behind(at, &["distinct"])
        {
            *part = Part::From;
        } else if *part != Part::Other && text.is_word(at, &CLAUSES) && !text.behind(at, &["as"]) {
            *part = Part::Other;
        }
        found.extend(text.place(at, *part));
    }
    Ok(found)
}

struct Tokens<'t> {
    tokens: &'t [Token],
    sql: &'t str,
}

impl Tokens<'_> {
    fn is(&self, at: usize, symbol: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(self.sql, symbol))
    }

    fn is_word(&self, at: usize, words: &[&str]) -> bool {
        let token = self.tokens.get(at);
        token.is_some_and(|token| words.iter().any(|word| token.is_word(self.sql, word)))
    }

    fn behind(&self, at: usize, words: &[&str]) -> bool {
        at.checked_sub(1).is_some_and(|before| self.is_word(before, words))
    }

    fn behind_symbol(&self, at: usize, symbol: &str) -> bool {
        at.checked_sub(1).is_some_and(|before| self.is(before, symbol))
    }

    /// A parenthesis that only holds together: what is in it may give the column its name.
    fn groups(&self, at: usize) -> bool {
        self.behind(at, &["select", "all", "distinct", "returning", "else"])
            || self.behind_symbol(at, ",")
            || self.behind_symbol(at, "(")
            || self.is_behind_distinct_on(at)
    }

    /// Behind the expressions of DISTINCT ON the columns begin.
    fn is_behind_distinct_on(&self, at: usize) -> bool {
        let Some(mut before) = at.checked_sub(1).filter(|before| self.is(*before, ")")) else {
            return false;
        };
        let mut depth = 1;
        while depth > 0 {
            let Some(next) = before.checked_sub(1) else { return false };
            before = next;
            depth += i32::from(self.is(before, ")")) - i32::from(self.is(before, "("));
        }
        self.behind(before, &["on"]) && self.behind(before - 1, &["distinct"])
    }

    /// The parenthesis of CAST.
    fn is_cast(&self, at: usize) -> bool {
        self.behind(at, &["cast"])
    }

    /// The place that begins with this token, if it names the time.
    fn place(&self, at: usize, part: Part) -> Option<Place> {
        let token = self.tokens.get(at)?;
        if matches!(token.kind, TokenKind::String(_)) {
            return self.said_as_text(at);
        }
        let name = token.name(self.sql)?;
        let qualified = self.behind_symbol(at, ".");
        let first = if qualified { at.checked_sub(2)? } else { at };
        if qualified && self.tokens.get(first)?.name(self.sql)? != "pg_catalog"
            || self.behind(first, &["as"])
        {
            return None;
        }
        let (name, casts, last) = match name.as_str() {
            "now" | "transaction_timestamp" => {
                if !(self.is(at + 1, "(") && self.is(at + 2, ")")) {
                    return None;
                }
                let name = if name == "now" { "now" } else { "transaction_timestamp" };
                (name, String::new(), at + 2)
            }
            word if token.kind == TokenKind::Word && !qualified => {
                let (mut casts, precise) = key_word(word).map(|(c, p)| (c.to_owned(), p))?;
                let number = self.tokens.get(at + 2).copied();
                let precision = number.filter(|n| {
                    precise
                        && matches!(n.kind, TokenKind::Number(_))
                        && self.is(at + 1, "(")
                        && self.is(at + 3, ")")
                });
                if let Some(number) = precision {
                    casts = format!("{casts}({})", number.text(self.sql));
                }
                let name = KEY_WORDS.into_iter().find(|known| *known == word)?;
                (name, casts, if precision.is_some() { at + 3 } else { at })
            }
            _ => return None,
        };
        let form = self.form(first, last, part, name);
        let end = self.tokens.get(last)?.end as usize;
        Some(Place { start: self.tokens.get(first)?.start as usize, end, casts, form })
    }

    fn form(&self, first: usize, last: usize, part: Part, name: &'static str) -> Form {
        let next = self.tokens.get(last + 1);
        match part {
            Part::From
                if self.behind(first, &["from", "join", "lateral"])
                    || self.behind_symbol(first, ",") =>
            {
                let word = |token: &Token| {
                    matches!(token.kind, TokenKind::Word | TokenKind::Quoted)
                        && !self.is_word(last + 1, &CLAUSES)
                        && !self.is_word(last + 1, &JOINS)
                };
                Form::From((!next.is_some_and(word)).then_some(name))
            }
            Part::Output | Part::Grouped if self.groups(first) => {
                let ends = next.is_none()
                    || [",", ")", ";"].iter().any(|end| self.is(last + 1, end))
                    || self.is_word(last + 1, &["from", "into"])
                    || self.is_word(last + 1, &CLAUSES);
                let goes_on = self.is(last + 1, "::")
                    || self.is_word(last + 1, &["end", "collate"])
                    || self.is_word(last + 1, &["as"])
                        && first.checked_sub(1).is_some_and(|before| self.is_cast(before));
                match (part, ends) {
                    (Part::Output, true) => Form::Output(name),
                    (Part::Grouped, true) => Form::Within(name),
                    _ if goes_on => Form::Within(name),
                    _ => Form::Constant,
                }
            }
            _ => Form::Constant,
        }
    }

    /// `'now'::timestamptz`, `date 'today'`, `CAST('now' AS timestamp)`.
    fn said_as_text(&self, at: usize) -> Option<Place> {
        const TYPES: [&str; 5] = ["timestamptz", "timestamp", "date", "time", "timetz"];
        let token = self.tokens.get(at)?;
        let word = token.text(self.sql).strip_prefix('\'')?.strip_suffix('\'')?;
        let casts = match word.trim().to_ascii_lowercase().as_str() {
            "now" => "",
            "today" => "::pg_catalog.date",
            "tomorrow" => "::pg_catalog.date + 1",
            "yesterday" => "::pg_catalog.date - 1",
            _ => return None,
        };
        let (start, end) = (token.start as usize, token.end as usize);
        // Anywhere else AS gives a column its name.
        let within_cast = || self.behind_symbol(at, "(") && self.is_cast(at - 1);
        let cast = self.is(at + 1, "::") || self.is_word(at + 1, &["as"]) && within_cast();
        // A day has no time of day.
        let times = if casts.is_empty() { &TYPES[..] } else { &TYPES[..3] };
        if cast && self.is_word(at + 2, times) {
            return Some(Place { start, end, casts: casts.to_owned(), form: Form::Constant });
        }
        let before = at.checked_sub(1)?;
        if self.is_word(before, times) && !self.behind_symbol(before, "::") {
            let ty = *self.tokens.get(before)?;
            // The type is kept behind it.
            let casts = match casts {
                "" => format!("::pg_catalog.{}", ty.text(self.sql).to_ascii_lowercase()),
                "::pg_catalog.date" => {
                    format!("{casts}::pg_catalog.{}", ty.text(self.sql).to_ascii_lowercase())
                }
                _ => return None,
            };
            let start = ty.start as usize;
            return Some(Place { start, end, casts, form: Form::Constant });
        }
        None
    }
}

const KEY_WORDS: [&str; 5] =
    ["current_timestamp", "current_date", "current_time", "localtimestamp", "localtime"];

impl fmt::Display for Moment {
    /// As PostgreSQL reads it whatever `DateStyle` is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: i64 = 86_400_000_000;
        let (days, rest) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        // Eras of 400 years, which begin on the first of March.
        let shifted = days + 719_468;
        let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let of_month = of_year - (153 * month + 2) / 5 + 1;
        let (month, carried) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = year + era * 400 + carried;
        let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        let seconds = seconds % 60;
        write!(
            f,
            "{year:04}-{month:02}-{of_month:02} {hours:02}:{minutes:02}:{seconds:02}.{micros:06}+00"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Moment = Moment(1_709_210_096_000_007);

    fn check(sql: &str, expected: &str) {
        let now = "'2024-02-29 12:34:56.000007+00'::pg_catalog.timestamptz";
        assert_eq!(written(sql, &AT, true).unwrap(), expected.replace('@', now), "{sql}");
    }

    #[test]
    fn a_moment_is_written_as_postgresql_reads_it() {
        assert_eq!(AT.to_string(), "2024-02-29 12:34:56.000007+00");
        assert_eq!(Moment(0).to_string(), "1970-01-01 00:00:00.000000+00");
        assert_eq!(Moment(-1).to_string(), "1969-12-31 23:59:59.999999+00");
        assert_eq!(Moment(1_767_225_599_999_999).to_string(), "2025-12-31 23:59:59.999999+00");
        assert_eq!(Moment(951_782_400_000_000).to_string(), "2000-02-29 00:00:00.000000+00");
    }

    #[test]
    fn the_time_is_written_where_it_is_named() {
        check("SELECT 1 FROM t WHERE x > now() - y", "SELECT 1 FROM t WHERE x > (@) - y");
        check("SELECT 1 FROM t WHERE x > pg_catalog.now()", "SELECT 1 FROM t WHERE x > (@)");
        check("SELECT s.now() FROM t", "SELECT s.now() FROM t");
        check(
            "SELECT now, 'now', \"now\" FROM t AS now",
            "SELECT now, 'now', \"now\" FROM t AS now",
        );
        check(
            "select f(CURRENT_DATE, current_time(2))",
            "select f((@::pg_catalog.date), (@::pg_catalog.timetz(2)))",
        );
        check(
            "SELECT x < LOCALTIMESTAMP(3) FROM t",
            "SELECT x < (@::pg_catalog.timestamp(3)) FROM t",
        );
        check(
            "SELECT clock_timestamp(), x AS current_date",
            "SELECT clock_timestamp(), x AS current_date",
        );
    }

    #[test]
    fn a_column_keeps_its_name() {
        check("SELECT now(), x FROM t", "SELECT (@) AS \"now\", x FROM t");
        check("SELECT now() AS n, x FROM t", "SELECT (@) AS n, x FROM t");
        check("SELECT (now())::date", "SELECT ((SELECT @ AS \"now\"))::date");
        check(
            "SELECT x < now(), current_date",
            "SELECT x < (@), (@::pg_catalog.date) AS \"current_date\"",
        );
        check("DELETE FROM t RETURNING now()", "DELETE FROM t RETURNING (@) AS \"now\"");
        check(
            "SELECT CAST(now() AS date) FROM t",
            "SELECT CAST((SELECT @ AS \"now\") AS date) FROM t",
        );
        check("SELECT now()::date", "SELECT (SELECT @ AS \"now\")::date");
        check(
            "SELECT DISTINCT ON (f(x), (y)) now(), current_date::text FROM t",
            "SELECT DISTINCT ON (f(x), (y)) (@) AS \"now\", \
             (SELECT @::pg_catalog.date AS \"current_date\")::text FROM t",
        );
        check(
            "SELECT x FROM t JOIN u ON (a = b) WHERE now() > x",
            "SELECT x FROM t JOIN u ON (a = b) WHERE (@) > x",
        );
        check("SELECT ARRAY[x, now(), y]", "SELECT ARRAY[x, (@), y]");
        check(
            "SELECT DISTINCT current_date, x FROM t ORDER BY current_date",
            "SELECT DISTINCT (@::pg_catalog.date) AS \"current_date\", x FROM t \
             ORDER BY (@::pg_catalog.date)",
        );
    }

    #[test]
    fn an_item_of_from_keeps_its_alias() {
        check(
            "SELECT * FROM t, now() WHERE true",
            "SELECT * FROM t, coalesce(@) AS \"now\" WHERE true",
        );
        check("SELECT * FROM t JOIN now() n ON true", "SELECT * FROM t JOIN coalesce(@) n ON true");
        check("SELECT extract(hour FROM now()) FROM t", "SELECT extract(hour FROM (@)) FROM t");
    }

    #[test]
    fn the_time_may_be_a_text_with_a_type() {
        check(
            "SELECT 1 FROM t WHERE x > 'now'::timestamptz",
            "SELECT 1 FROM t WHERE x > (@)::timestamptz",
        );
        check("SELECT date 'today' + 1", "SELECT (@::pg_catalog.date::pg_catalog.date) + 1");
        check("SELECT CAST('tomorrow' AS date)", "SELECT CAST((@::pg_catalog.date + 1) AS date)");
        check(
            "SELECT 'today'::time, 'now'::text, 'today'",
            "SELECT 'today'::time, 'now'::text, 'today'",
        );
        check("SELECT 'today' AS date, ('now') AS time", "SELECT 'today' AS date, ('now') AS time");
    }

    #[test]
    fn what_cant_be_told_is_unclear() {
        assert_eq!(written("SELECT now(), 'a\\'", &AT, false), Err(Unclear));
        assert!(written("SELECT 1, 'a\\'", &AT, false).is_ok());
    }
}
