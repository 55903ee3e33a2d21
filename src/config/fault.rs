//! What is wrong with the file: all of it at once, each with its place and a hint.

use std::fmt;
use std::ops::Range;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1; 0 when the file could not be read.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line's text and how many characters are meant; absent where it could show a secret.
    pub excerpt: Option<(String, usize)>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Fault {
    pub(super) fn new(file: &str, source: &str, span: Range<usize>, message: String) -> Self {
        let start = source.floor_boundary(span.start);
        let before = source.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_text = source.get(line_start..).and_then(|rest| rest.lines().next());
        let line_text = line_text.unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let marked = source.get(start..source.floor_boundary(span.end)).unwrap_or_default();
        let marked = marked.lines().next().unwrap_or_default().chars().count().max(1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column,
            excerpt: may_show(line_text).then(|| (line_text.to_owned(), marked)),
            message,
            hint: None,
        }
    }
}

/// Lines about these are not quoted: what stands there may be a secret.
fn may_show(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    !["password", "token", "secret", "scram"].iter().any(|word| line.contains(word))
}

trait FloorBoundary {
    fn floor_boundary(&self, at: usize) -> usize;
}

impl FloorBoundary for str {
    fn floor_boundary(&self, at: usize) -> usize {
        let mut at = at.min(self.len());
        while !self.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        match self.line {
            0 => writeln!(f, "  --> {}", self.file)?,
            line => writeln!(f, "  --> {}:{line}:{}", self.file, self.column)?,
        }
        if let Some((text, marked)) = &self.excerpt {
            let gutter = self.line.to_string();
            let blank = " ".repeat(gutter.len());
            writeln!(f, "{blank} |\n{gutter} | {text}")?;
            writeln!(f, "{blank} | {}{}", " ".repeat(self.column - 1), "^".repeat(*marked))?;
        }
        match &self.hint {
            Some(hint) => writeln!(f, "hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// All that is wrong, in the order of the file; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub(super) Vec<Fault>);

impl Faults {
    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
