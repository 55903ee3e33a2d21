//! Files of statements.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::answer::Mode;

/// A statement, and what is said of it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Statement {
    pub(crate) line: usize,
    pub(crate) sql: String,
    pub(crate) params: Vec<String>,
    pub(crate) ties: bool,
    pub(crate) float: bool,
    pub(crate) text_only: bool,
    /// In this protocol and format alone.
    pub(crate) only: Option<Mode>,
    pub(crate) refused: Option<String>,
    remarks: Vec<String>,
}

/// A file of them.
pub(crate) struct File {
    pub(crate) name: String,
    path: PathBuf,
    pub(crate) statements: Vec<Statement>,
}

impl Statement {
    /// A statement of which nothing is said.
    pub(crate) fn plain(sql: String) -> Self {
        Self { sql, ..Self::default() }
    }

    /// ORDER BY stands outside all parentheses.
    pub(crate) fn is_ordered(&self) -> bool {
        let mut depth = 0;
        let lower = self.sql.to_lowercase();
        let mut found = false;
        for (at, c) in lower.char_indices() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                'o' if depth == 0 => found |= lower[at..].starts_with("order by"),
                _ => {}
            }
        }
        found && !self.ties
    }
}

/// The files; with `TOPIC` one of them.
pub(crate) fn files() -> Vec<File> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential");
    let topic = std::env::var("TOPIC").ok();
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let is_topic = path.extension().is_some_and(|extension| extension == "sql")
            && !["schema", "data", "shard"].contains(&name.as_str());
        if is_topic && topic.as_deref().is_none_or(|topic| topic == name) {
            let statements = read(&fs::read_to_string(&path).unwrap());
            files.push(File { name, path, statements });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

fn read(text: &str) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut current = Statement::default();
    for (number, line) in text.lines().chain([""]).enumerate() {
        if line.is_empty() {
            if !current.sql.is_empty() || !current.remarks.is_empty() {
                statements.push(std::mem::take(&mut current));
            }
            continue;
        }
        match line.strip_prefix("-- ").filter(|_| current.sql.is_empty()) {
            Some("ties") => current.ties = true,
            Some("float") => current.float = true,
            Some("text") => current.text_only = true,
            Some("once") => current.only = Some(Mode::Simple),
            Some("once, in binary") => current.only = Some(Mode::Binary),
            Some(remark) => match remark.split_once(": ") {
                Some(("param", value)) => current.params.push(value.to_owned()),
                Some(("refused", message)) => current.refused = Some(message.to_owned()),
                _ => current.remarks.push(remark.to_owned()),
            },
            None => {
                if current.sql.is_empty() {
                    current.line = number + 1;
                } else {
                    current.sql.push('\n');
                }
                current.sql.push_str(line);
            }
        }
    }
    // Remarks alone belong to nobody, and stay.
    statements
}

impl File {
    /// Writes the file with the marks that it has now.
    pub(crate) fn write(&self) {
        let mut blocks = Vec::new();
        for statement in &self.statements {
            let mut block = String::new();
            for remark in &statement.remarks {
                let _ = writeln!(block, "-- {remark}");
            }
            for param in &statement.params {
                let _ = writeln!(block, "-- param: {param}");
            }
            for (is, word) in [
                (statement.ties, "ties"),
                (statement.float, "float"),
                (statement.text_only, "text"),
                (statement.only == Some(Mode::Simple), "once"),
                (statement.only == Some(Mode::Binary), "once, in binary"),
            ] {
                if is {
                    let _ = writeln!(block, "-- {word}");
                }
            }
            if let Some(message) = &statement.refused {
                let _ = writeln!(block, "-- refused: {message}");
            }
            if !statement.sql.is_empty() {
                let _ = writeln!(block, "{}", statement.sql);
            }
            blocks.push(block);
        }
        fs::write(&self.path, blocks.join("\n")).unwrap();
    }
}
