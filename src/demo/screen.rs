//! What the demo shows: headings, statements, routes, small tables, errors with their hints.
//!
//! Legible without colour; colour only on a terminal, and not where `NO_COLOR` is set.

use std::io::{IsTerminal as _, Stdout, Write as _, stdout};
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio_postgres::error::DbError;

/// More rows than these are counted, not shown.
const ROWS_SHOWN_MAX: usize = 5;
/// A cell wider than this is cut.
const CELL_CHARS_MAX: usize = 44;
/// A line of a statement.
const LINE_CHARS_MAX: usize = 88;
/// On a terminal, time to read a step before the next one.
const STEP_PAUSE: Duration = Duration::from_millis(500);

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// Standard output, for people.
pub(super) struct Screen {
    out: Stdout,
    colour: bool,
    terminal: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let out = stdout();
        let terminal = out.is_terminal();
        Self { out, colour: terminal && std::env::var_os("NO_COLOR").is_none(), terminal }
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// One line. A closed pipe is no reason to fail: the work goes on, unseen.
    pub(super) fn line(&self, text: &str) {
        let _ = writeln!(self.out.lock(), "{text}");
    }

    fn indented(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("   {line}"));
        }
    }

    pub(super) fn heading(&self, title: &str, remark: &str) {
        self.line("");
        let rule = "─".repeat(76_usize.saturating_sub(title.chars().count()));
        self.line(&self.paint(BOLD, &format!("── {title} {rule}")));
        self.line(remark);
    }

    pub(super) fn statement(&self, say: &str, sql: &str) {
        self.line("");
        if !say.is_empty() {
            for line in wrapped(&format!("-- {say}")) {
                self.line(&self.paint(DIM, &line));
            }
        }
        for line in wrapped(&format!("{sql};")) {
            self.line(&self.paint(BOLD, &line));
        }
    }

    /// A route in one line.
    pub(super) fn route(&self, route: &Value) {
        self.line(&self.paint(GREEN, &format!("   → {}", route_line(route))));
    }

    pub(super) fn rows(&self, columns: &[String], rows: &[Vec<String>]) {
        if columns.is_empty() {
            return;
        }
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header(columns);
        for row in rows.iter().take(ROWS_SHOWN_MAX) {
            table.add_row(row.iter().map(|cell| cut(cell)));
        }
        self.indented(&table.to_string());
        if rows.len() > ROWS_SHOWN_MAX {
            let more = rows.len() - ROWS_SHOWN_MAX;
            self.indented(
                &self.paint(DIM, &format!("… and {more} more rows, {} in all", rows.len())),
            );
        }
    }

    /// Text that comes as rows of one column, an EXPLAIN's.
    pub(super) fn text(&self, rows: &[Vec<String>]) {
        for line in rows.iter().flatten() {
            self.indented(line);
        }
    }

    /// What a command without rows did.
    pub(super) fn remark(&self, text: &str) {
        self.indented(&self.paint(DIM, text));
    }

    pub(super) fn refusal(&self, error: &DbError) {
        let head = format!("ERROR:  {} (SQLSTATE {})", error.message(), error.code().code());
        self.indented(&self.paint(YELLOW, &head));
        if let Some(detail) = error.detail() {
            self.indented(&format!("DETAIL: {detail}"));
        }
        if let Some(hint) = error.hint() {
            self.indented(&format!("HINT:   {hint}"));
        }
    }

    /// Progress of something slow, on standard error, and only on a terminal.
    pub(super) fn progress(&self, what: &str, steps: u64) -> ProgressBar {
        let bar = if self.terminal { ProgressBar::new(steps) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("   {msg} {bar:30} {pos}/{len}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar
    }

    /// Time to read, where somebody reads.
    pub(super) async fn pause(&self) {
        if self.terminal {
            tokio::time::sleep(STEP_PAUSE).await;
        }
    }
}

/// Lines of at most [`LINE_CHARS_MAX`], broken between words, for reading.
fn wrapped(sql: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in sql.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > LINE_CHARS_MAX {
            lines.push(std::mem::replace(&mut line, "   ".to_owned()));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

fn cut(cell: &str) -> String {
    match cell.char_indices().nth(CELL_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &cell[..at]),
        None => cell.to_owned(),
    }
}

/// `one shard: deu · tenant = 42 (statement) · hash`, from the object that EXPLAIN (ROUTE, FORMAT JSON)
/// gives.
fn route_line(route: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &Value| {
        let values = value.as_array().map(|all| all.iter().map(text).collect::<Vec<_>>());
        values.unwrap_or_default().join(", ")
    };
    let shards = list(&route["shards"]);
    let mut parts = vec![match route["kind"].as_str().unwrap_or("?") {
        "one" => format!("one shard: {shards}"),
        "many" => format!("several shards: {shards}"),
        "all" => format!("all shards: {shards}"),
        "any" => format!("any shard will do: {shards}"),
        "none" => "no row can match".to_owned(),
        "local" => "answered by the proxy".to_owned(),
        other => other.to_owned(),
    }];
    if route["key"].is_object() {
        let key = &route["key"];
        let source = text(&key["source"]);
        parts.push(format!("{} = {} ({source})", text(&key["name"]), list(&key["values"])));
    }
    if let Some(strategy) = route["strategy"].as_str() {
        parts.push(strategy.to_owned());
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_in_a_line() {
        let check = |json: &str, expect: &str| {
            assert_eq!(route_line(&serde_json::from_str(json).unwrap()), expect);
        };
        check(
            r#"{"kind":"one","shards":["deu"],"key":{"name":"tenant","values":["42"],"source":"statement"},"strategy":"hash"}"#,
            "one shard: deu · tenant = 42 (statement) · hash",
        );
        check(r#"{"kind":"many","shards":["a","b"],"key":null}"#, "several shards: a, b");
        check(r#"{"kind":"none"}"#, "no row can match");
        check("{}", "?");
    }

    #[test]
    fn statements_are_wrapped_between_words() {
        assert_eq!(wrapped("SELECT 1;"), ["SELECT 1;"]);
        let long = format!("SELECT {} FROM t;", "a, ".repeat(40));
        let lines = wrapped(&long);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.chars().count() <= LINE_CHARS_MAX));
    }

    #[test]
    fn cells_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ä".repeat(60)).chars().count(), CELL_CHARS_MAX + 1);
    }
}
