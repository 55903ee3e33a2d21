//! EXPLAIN and COPY TO STDOUT of a query, and of a read over several shards.
//!
//! Neither has a route of its own: planning refuses them, and then [`Executor::instead`] plans the query within
//! (for COPY of a table, the one that reads its rows). If that has one shard, so has the statement.
//! EXPLAIN asks each shard for its part, and shows the parts under what the proxy does with them; over scratch
//! tables it shows the host's plan too (with ANALYZE over their rows, else over empty ones). COPY passes on what
//! the shards send, headers and trailers once; what has to be sorted or computed is copied by the host.
//!
//! Only standing alone; EXPLAIN only in the simple protocol.

use serde_json::{Value, json};

use smallvec::SmallVec;

use super::planner::Planned;
use super::reply::Reply;
use super::workspace::{Ask, without_position};
use super::{Executor, Failure, worker};
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::plan::{Answer, Plan, QueryWithin, Workspace};
use crate::sql::class::{Class, classify};
use crate::sql::lexer::{self, Limits, Scan};
use crate::sql::quote::quote_literal;
use crate::sql::tokens::{Token, closing, tokenize};
use crate::wire::backend::{self, FieldDescription};
use crate::wire::{frame, response};

/// A statement about a query.
struct About<'t> {
    /// What stands before the query, `EXPLAIN (ANALYZE)`.
    before: &'t str,
    query: &'t str,
    /// What stands behind it, `TO STDOUT (FORMAT csv)`.
    behind: &'t str,
    copies: bool,
}

impl Executor {
    /// Carries out a query string that could not be planned, if it is EXPLAIN or COPY of a query over several
    /// shards.
    ///
    /// # Errors
    ///
    /// What planning said, if it is neither.
    pub(super) async fn instead(&mut self, text: &[u8], error: SqlError) -> Result<(), Failure> {
        let standard_strings = self.reading.standard_strings;
        let text = String::from_utf8_lossy(text).into_owned();
        let alone = error.code == SqlState::FEATURE_NOT_SUPPORTED
            && !self.batch.is_open()
            && self.session.transaction.status() != b'E'
            && self.barred().is_none();
        if !alone {
            return Err(error.into());
        }
        let text = self.copy_as_query(&text).await?.unwrap_or(text);
        let Some(about) = About::read(&text, standard_strings) else { return Err(error.into()) };
        let mut planned = Vec::new();
        if self.plan_query(about.query.as_bytes(), &mut planned).await.is_err() {
            return Err(error.into());
        }
        let plan = match planned.as_slice() {
            [Planned { entry, plan: Some(plan), .. }] if matches!(entry.class, Class::Query) => {
                plan
            }
            _ => return Err(error.into()),
        };
        let reads =
            matches!(plan.answer, Answer::Stream(_) | Answer::Merge(_) | Answer::Workspace(_));
        if about.copies && plan.answer == Answer::Relay && !plan.writes {
            return self.copy_one(plan, &about, &text).await;
        }
        if !reads || plan.writes {
            return Err(error.into());
        }
        self.refuse_beside_temporary(plan)?;
        self.allow_default_isolation(plan)?;
        self.note_route(plan);
        if about.copies {
            self.copy_out(plan, &about, error).await?;
        } else {
            self.explain_gathered(plan, &about, error).await?;
        }
        self.close_told();
        Ok(())
    }

    /// COPY of a query that has one shard.
    async fn copy_one(
        &mut self,
        plan: &Plan,
        about: &About<'_>,
        text: &str,
    ) -> Result<(), Failure> {
        let query = plan.rewritten.as_deref().unwrap_or(about.query);
        let rewritten = Some(format!("COPY ({query}) {}", about.behind));
        let readied =
            worker::with_planner(|p| p.prepare(&self.world, &self.reading, text.as_bytes()))?;
        let one = Planned {
            start: readied.start,
            end: readied.end,
            entry: readied.entry,
            plan: Some(Plan { rewritten, ..plan.clone() }),
            from: readied.start,
            literals: SmallVec::new(),
            refused: None,
        };
        Box::pin(self.run_one(&one, text.as_bytes())).await
    }

    /// COPY of a table's rows TO STDOUT, as COPY of a query: the columns are those that the home shard's own
    /// COPY would have, in that order, whatever their order is on the others. `None` for all else.
    async fn copy_as_query(&mut self, text: &str) -> Result<Option<String>, Failure> {
        let Some(copy) = TableCopy::read(text, self.reading.standard_strings) else {
            return Ok(None);
        };
        let columns = match copy.columns {
            Some(columns) => Some(columns.to_owned()),
            None => self.copied_columns(copy.table).await?,
        };
        let Some(columns) = columns else { return Ok(None) };
        Ok(Some(format!("COPY (SELECT {columns} FROM ONLY {}) {}", copy.table, copy.behind)))
    }

    /// The columns of a plain table that COPY copies. Row security makes COPY something else.
    async fn copied_columns(&mut self, table: &str) -> Result<Option<String>, Failure> {
        let sql = format!(
            "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(attname), ', ' ORDER BY attnum) \
             FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = attrelid \
             WHERE c.oid = {}::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped \
             AND attgenerated = '' AND relkind = 'r' AND NOT relrowsecurity",
            quote_literal(table)
        );
        let home = self.world.map.default_shard();
        self.hold_all(&[home]).await?;
        let reply = self.ask_query(home, &sql).await;
        let columns = texts(&reply).into_iter().next().filter(|text| !text.is_empty());
        let columns = columns.filter(|_| reply.is_well());
        self.drop_lost(&[home], &[reply]);
        self.settle_all();
        Ok(columns)
    }

    async fn explain_gathered(
        &mut self,
        plan: &Plan,
        about: &About<'_>,
        refused: SqlError,
    ) -> Result<(), Failure> {
        let options = about.before.to_ascii_lowercase();
        let has = |word: &str| options.split(|c: char| !c.is_alphanumeric()).any(|w| w == word);
        if has("xml") || has("yaml") {
            return Err(refused.into());
        }
        let analyzes = has("analyze") || has("analyse");
        let (parts, steps) = self.parts_of(plan, about);
        let mut explained = Vec::with_capacity(parts.len());
        let shards: Vec<ShardId> = parts.iter().map(|(shard, _)| *shard).collect();
        self.hold_all(&shards).await?;
        for (n, (shard, sql)) in parts.iter().enumerate() {
            let reply = self.ask_query(*shard, &format!("{} {sql}", about.before)).await;
            if !reply.is_well() {
                let mut message = self.failure_message(*shard, &reply, n == 0);
                if !matches!(&plan.answer, Answer::Stream(texts) if texts.of(*shard).is_none()) {
                    // Its position counts in a text that the client does not know.
                    let body =
                        without_position(message.get(frame::HEADER_BYTES..).unwrap_or_default());
                    message.clear();
                    frame::append(&mut message, backend::tag::ERROR, &body);
                }
                self.io.outbox.extend_from_slice(&message);
                self.session.transaction.fail();
                self.drop_lost(&[*shard], &[reply]);
                self.settle_all();
                return Err(Failure::Shown);
            }
            explained.push(texts(&reply));
        }
        self.settle_all();
        let host = match &plan.answer {
            Answer::Workspace(work) => {
                let mut work = Workspace::clone(work);
                if !analyzes {
                    work.tables.iter_mut().for_each(|table| table.fetches.clear());
                }
                let sql = format!("{} {}", about.before, work.sql);
                let query = about.query.as_bytes();
                let ask = Ask {
                    sql: query,
                    oids: &[],
                    bind: None,
                    described: false,
                    rows_max: 0,
                    work: &work,
                };
                Some((work.host, work.sql.clone(), self.ask_host(plan, &ask, &sql).await?))
            }
            _ => None,
        };
        let name = |shard: ShardId| self.world.map.shard_name(shard).to_owned();
        let mut all: Vec<(String, String, Vec<String>)> = parts
            .into_iter()
            .zip(explained)
            .map(|((shard, sql), lines)| (name(shard), sql, lines))
            .collect();
        all.extend(host.map(|(shard, sql, lines)| (format!("{} (host)", name(shard)), sql, lines)));
        let lines = if has("json") { as_json(&steps, &all) } else { as_text(&steps, &all) };
        let column = if has("json") { (114, "QUERY PLAN") } else { (25, "QUERY PLAN") };
        let field = FieldDescription { type_oid: column.0, ..FieldDescription::text(column.1) };
        backend::row_description(&mut self.io.outbox, &[field]);
        for line in &lines {
            backend::data_row(&mut self.io.outbox, &[Some(line.as_bytes())]);
        }
        self.complete("EXPLAIN");
        Ok(())
    }

    /// What each shard is asked, and what is done with the answers.
    fn parts_of(&self, plan: &Plan, about: &About<'_>) -> (Vec<(ShardId, String)>, Vec<String>) {
        let each = |sql: &dyn Fn(ShardId) -> String| -> Vec<(ShardId, String)> {
            self.shards_of(plan).into_iter().map(|shard| (shard, sql(shard))).collect()
        };
        match &plan.answer {
            Answer::Merge(merge) => {
                (each(&|shard| merge.text_worker(shard).sql.clone()), merge.steps())
            }
            Answer::Workspace(work) => {
                let fetches = work.tables.iter().flat_map(|table| &table.fetches);
                let mut steps: Vec<String> = work
                    .tables
                    .iter()
                    .map(|t| format!("fetch {} into {}", t.table, t.name))
                    .collect();
                steps.push(format!("run on {}", self.world.map.shard_name(work.host)));
                (fetches.cloned().collect(), steps)
            }
            _ => {
                let sql = |shard| plan.text_for(shard, about.query).to_owned();
                (each(&sql), vec!["concatenate".to_owned()])
            }
        }
    }

    /// Connections to these shards, held, which the open transaction is told of.
    async fn hold_all(&mut self, shards: &[ShardId]) -> Result<(), Failure> {
        let mut shards = shards.to_vec();
        shards.sort_unstable();
        shards.dedup();
        let taken = self.take_all(&shards).await?;
        self.work_with(&taken);
        self.held.extend(taken.into_iter().map(|one| one.held));
        Ok(())
    }

    async fn copy_out(
        &mut self,
        plan: &Plan,
        about: &About<'_>,
        refused: SqlError,
    ) -> Result<(), Failure> {
        let plain = |sql: &str| format!("COPY ({sql}) {}", about.behind);
        let timed = self.at_one_time(plan, about.query).await?;
        let plan = timed.as_ref().unwrap_or(plan);
        match &plan.answer {
            Answer::Workspace(work) => {
                self.copy_from_host(plan, about, work, &plain(&work.sql)).await
            }
            Answer::Merge(merge) if !merge.is_concatenation() => match &merge.fallback {
                Some(work) => {
                    let work = std::sync::Arc::clone(work);
                    self.copy_from_host(plan, about, &work, &plain(&work.sql)).await
                }
                None => Err(refused.into()),
            },
            _ => {
                let sql = |shard| plain(plan.text_for(shard, about.query));
                let shards = self.shards_of(plan);
                let asked = self.take_all(&shards).await?;
                self.work_with(&asked);
                self.pass_copies(asked, &sql, Header::of(about.behind)).await
            }
        }
    }

    async fn copy_from_host(
        &mut self,
        plan: &Plan,
        about: &About<'_>,
        work: &Workspace,
        sql: &str,
    ) -> Result<(), Failure> {
        let query = about.query.as_bytes();
        let ask = Ask { sql: query, oids: &[], bind: None, described: false, rows_max: 0, work };
        self.copy_host(plan, &ask, sql).await
    }
}

/// What the data of each COPY begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// Nothing.
    None,
    /// A line with the columns' names, a message of its own.
    Line,
    /// The header of the binary format; a trailer ends it.
    Binary,
}

impl Header {
    /// By the options of COPY: the old ones are words, the new ones stand in parentheses (manual, "COPY").
    fn of(options: &str) -> Self {
        let lower = options.to_ascii_lowercase();
        let words: Vec<&str> = lower
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|w| !w.is_empty())
            .collect();
        let is = |at: usize, names: &[&str]| words.get(at).is_some_and(|w| names.contains(w));
        let binary = words.iter().enumerate().any(|(at, word)| {
            *word == "binary" && (at == 0 || !is(at - 1, &["delimiter", "null", "quote", "escape"]))
        });
        let line =
            (0..words.len()).any(|at| is(at, &["header"]) && !is(at + 1, &["false", "off", "0"]));
        match (binary, line) {
            (true, _) => Self::Binary,
            (false, true) => Self::Line,
            (false, false) => Self::None,
        }
    }
}

/// COPY of a table to the client.
struct TableCopy<'t> {
    table: &'t str,
    columns: Option<&'t str>,
    /// What stands behind it, `TO STDOUT (FORMAT csv)`.
    behind: &'t str,
}

impl<'t> TableCopy<'t> {
    fn read(text: &'t str, standard_strings: bool) -> Option<Self> {
        let mut scan = Scan::default();
        lexer::scan(text.as_bytes(), standard_strings, &Limits::default(), &mut scan).ok()?;
        let [only] = scan.statements.as_slice() else { return None };
        let text = text.get(only.span.start as usize..only.span.end as usize)?;
        let copies = Class::Copy { from: false, client: true, query: false };
        let tokens = tokenize(text, Some(&scan.literals)).ok()?;
        if classify(text, standard_strings) != copies || tokens.get(1)?.is_word(text, "binary") {
            return None;
        }
        let qualified = tokens.get(2)?.is(text, ".");
        let mut at = if qualified { 4 } else { 2 };
        let table = text.get(tokens.get(1)?.start as usize..tokens.get(at - 1)?.end as usize)?;
        let mut columns = None;
        if tokens.get(at)?.is(text, "(") {
            let close = closing(&tokens, text, at);
            columns = text.get(tokens.get(at)?.end as usize..tokens.get(close)?.start as usize);
            at = close + 1;
        }
        let behind = text.get(tokens.get(at)?.start as usize..)?;
        Some(Self { table, columns, behind })
    }
}

impl<'t> About<'t> {
    /// EXPLAIN of a query, or COPY of one to the client.
    fn read(text: &'t str, standard_strings: bool) -> Option<Self> {
        let mut scan = Scan::default();
        lexer::scan(text.as_bytes(), standard_strings, &Limits::default(), &mut scan).ok()?;
        let [only] = scan.statements.as_slice() else { return None };
        let text = text.get(only.span.start as usize..only.span.end as usize)?;
        let tokens = tokenize(text, Some(&scan.literals)).ok()?;
        let word =
            |at: usize, word: &str| tokens.get(at).is_some_and(|t: &Token| t.is_word(text, word));
        let opens = |at: usize| tokens.get(at).is_some_and(|t| t.is(text, "("));
        let start = |at: usize| tokens.get(at).map(|token| token.start as usize);
        match classify(text, standard_strings) {
            Class::Explain => {
                let mut at = 1;
                if opens(at) {
                    at = closing(&tokens, text, at) + 1;
                } else {
                    while word(at, "analyze") || word(at, "analyse") || word(at, "verbose") {
                        at += 1;
                    }
                }
                let cut = start(at)?;
                let (before, query) = text.split_at_checked(cut)?;
                Some(Self { before: before.trim_end(), query, behind: "", copies: false })
            }
            Class::Copy { from: false, client: true, query: true } if opens(1) => {
                let close = closing(&tokens, text, 1);
                let query = text.get(start(1)? + 1..start(close)?)?;
                let behind = text.get(start(close + 1)?..)?;
                Some(Self { before: "", query: query.trim(), behind, copies: true })
            }
            _ => None,
        }
    }
}

/// The query within EXPLAIN or COPY … TO STDOUT, for showing where it goes; of a table, the one that reads its rows.
pub fn query_within(text: &str, standard_strings: bool) -> Option<QueryWithin> {
    if let Some(copy) = TableCopy::read(text, standard_strings) {
        let query = format!("SELECT {} FROM ONLY {}", copy.columns.unwrap_or("*"), copy.table);
        return Some(QueryWithin { query, copies: true });
    }
    let about = About::read(text, standard_strings)?;
    Some(QueryWithin { query: about.query.to_owned(), copies: about.copies })
}

/// The first column's values.
fn texts(reply: &Reply) -> Vec<String> {
    let text = |frame: frame::Frame<'_>| {
        let row = response::data_row(frame.body).unwrap_or_default();
        let value = row.first().copied().flatten().unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    };
    frame::all(&reply.rows).map(text).collect()
}

fn as_text(steps: &[String], parts: &[(String, String, Vec<String>)]) -> Vec<String> {
    let mut lines = vec![format!("Gather ({})", steps.join(", "))];
    for (shard, sql, plan) in parts {
        lines.push(format!(
            "  ->  Shard {shard}: {}",
            sql.split_whitespace().collect::<Vec<_>>().join(" ")
        ));
        lines.extend(plan.iter().map(|line| format!("        {line}")));
    }
    lines
}

fn as_json(steps: &[String], parts: &[(String, String, Vec<String>)]) -> Vec<String> {
    let part = |(shard, sql, plan): &(String, String, Vec<String>)| {
        let plan: Value = serde_json::from_str(&plan.join("\n")).unwrap_or(Value::Null);
        let plan = match plan {
            Value::Array(mut all) if all.len() == 1 => all.swap_remove(0),
            plan => plan,
        };
        json!({"Shard": shard, "Query": sql, "Explain": plan})
    };
    let shards: Vec<Value> = parts.iter().map(part).collect();
    let plan = json!([{"Plan": {"Node Type": "Gather", "Steps": steps, "Shards": shards}}]);
    vec![serde_json::to_string_pretty(&plan).unwrap_or_default()]
}

/// The data of one shard's COPY without what only the first one's begins with, and the last one's ends with.
#[derive(Debug)]
pub(super) struct Unwrapped {
    header: Header,
    first: bool,
    begun: bool,
}

impl Unwrapped {
    /// Of the first shard, or of another one.
    pub(super) fn new(header: Header, first: bool) -> Self {
        Self { header, first, begun: false }
    }

    /// One message's data; empty if nothing of it is to be passed on.
    pub(super) fn message<'d>(&mut self, data: &'d [u8]) -> &'d [u8] {
        let begins = !std::mem::replace(&mut self.begun, true);
        match self.header {
            Header::None => data,
            Header::Line if begins && !self.first => &[],
            Header::Line => data,
            Header::Binary => {
                let header = super::parts::HEADER.len();
                let body = if begins && !self.first {
                    data.get(header..).unwrap_or_default()
                } else {
                    data
                };
                // A row begins with the number of its columns, and is no message of two bytes: but for one without
                // columns, whose number is 0.
                body.strip_suffix(&super::parts::TRAILER)
                    .filter(|rest| rest.is_empty() || begins && rest.len() == header)
                    .unwrap_or(body)
            }
        }
    }
}

/// Appends the end of a binary COPY.
pub(super) fn trailer_into(out: &mut Vec<u8>, header: Header) {
    if header == Header::Binary {
        frame::append(out, backend::tag::COPY_DATA, &super::parts::TRAILER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_about_queries_are_read() {
        let about = About::read("EXPLAIN (ANALYZE, FORMAT json) SELECT ')' ;", true).unwrap();
        assert_eq!((about.before, about.query), ("EXPLAIN (ANALYZE, FORMAT json)", "SELECT ')'"));
        let about = About::read("explain analyze verbose select 1", true).unwrap();
        assert_eq!((about.before, about.query), ("explain analyze verbose", "select 1"));
        let about = About::read("COPY (SELECT (1), ')') TO STDOUT (FORMAT csv)", true).unwrap();
        assert_eq!((about.query, about.behind), ("SELECT (1), ')'", "TO STDOUT (FORMAT csv)"));
        assert!(About::read("COPY t TO STDOUT", true).is_none());
        assert!(About::read("EXPLAIN SELECT 1; SELECT 2", true).is_none());
    }

    #[test]
    fn headers_are_known_by_the_options() {
        let check = |options: &str, header| assert_eq!(Header::of(options), header, "{options}");
        check("TO STDOUT", Header::None);
        check("TO STDOUT WITH CSV HEADER", Header::Line);
        check("TO STDOUT (FORMAT csv, HEADER false)", Header::None);
        check("TO STDOUT (HEADER, FORMAT csv)", Header::Line);
        check("TO STDOUT (FORMAT binary)", Header::Binary);
        check("TO STDOUT WITH BINARY", Header::Binary);
    }

    #[test]
    fn headers_and_trailers_come_once() {
        let header = super::super::parts::HEADER;
        let row = [&[0u8, 1, 0, 0, 0, 2][..], &[0xff, 0xff]].concat();
        let with_row = [&header[..], &row].concat();
        let mut first = Unwrapped::new(Header::Binary, true);
        assert_eq!(first.message(&with_row), with_row);
        assert_eq!(first.message(&row), row);
        assert_eq!(first.message(&[0xff, 0xff]), b"");
        let mut other = Unwrapped::new(Header::Binary, false);
        assert_eq!(other.message(&with_row), row);
        let empty = [&header[..], &[0xff, 0xff]].concat();
        assert_eq!(Unwrapped::new(Header::Binary, true).message(&empty), header);
        assert_eq!(Unwrapped::new(Header::Binary, false).message(&empty), b"");
        let mut line = Unwrapped::new(Header::Line, false);
        assert_eq!((line.message(b"a,b\n"), line.message(b"1,2\n")), (&b""[..], &b"1,2\n"[..]));
    }
}
