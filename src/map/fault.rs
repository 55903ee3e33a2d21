//! Faults of a map file: where, what, and what to write instead.
//!
//! Main types: [`Fault`], [`Faults`]. A fault shows the lines it is about with passwords masked, and its
//! words never quote a value that could hold one.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A map's text as faults may show it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    name: String,
    /// As long as the original, byte by byte, so that spans agree.
    masked: String,
    /// Faults of the file come before those of tables.
    rank: u8,
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), masked: mask(text), rank: 0 }
    }

    /// Rows of a table, written out.
    pub(super) fn of_table(name: String, rows: &str, rank: u8) -> Self {
        Self { name, masked: mask(rows), rank }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The map can't be used.
    Error,
    /// It can be used, but is probably not meant so.
    Warning,
}

/// Something wrong at one place of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    severity: Severity,
    source: Arc<Source>,
    span: Range<usize>,
    message: String,
    label: Option<String>,
    /// Another place that it has to do with.
    other: Option<(Range<usize>, String)>,
    hint: Option<String>,
}

impl Fault {
    pub(super) fn new(
        severity: Severity,
        source: &Arc<Source>,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> Self {
        let end = span.end.min(source.masked.len());
        Self {
            severity,
            source: Arc::clone(source),
            span: span.start.min(end)..end,
            message: message.into(),
            label: None,
            other: None,
            hint: None,
        }
    }

    /// With words beside the carets.
    pub(super) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    /// With another place that it has to do with.
    pub(super) fn other(&mut self, span: Range<usize>, label: impl Into<String>) -> &mut Self {
        self.other = Some((span, label.into()));
        self
    }

    /// With what to write instead.
    pub(super) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to write instead.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// It says more than what is wrong: beside the caret, or as a hint.
    #[cfg(test)]
    pub(super) fn is_explained(&self) -> bool {
        self.hint.is_some() || self.label.is_some()
    }

    /// The file's name as it was given.
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// Line and column, from 1, the column in characters.
    pub fn position(&self) -> (usize, usize) {
        let before = self.source.masked.get(..self.span.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        (line, column)
    }

    /// The fault with its lines, carets and hint.
    pub fn render(&self, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut primary = AnnotationKind::Primary.span(self.span.clone());
        if let Some(label) = &self.label {
            primary = primary.label(label.as_str());
        }
        let mut snippet =
            Snippet::source(self.source.masked.as_str()).path(self.source.name.as_str());
        snippet = snippet.annotation(primary);
        if let Some((span, label)) = &self.other {
            snippet = snippet
                .annotation(AnnotationKind::Context.span(span.clone()).label(label.as_str()));
        }
        let mut group: Group<'_> = level.primary_title(self.message.as_str()).element(snippet);
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

/// `file:line:column: message`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.position();
        write!(f, "{}:{line}:{column}: {}", self.file(), self.message)
    }
}

/// Every fault of a map, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| (fault.source.rank, fault.span.start));
        Self(faults)
    }

    /// The one fault of a map whose shards are in a control database that was not asked.
    pub(super) fn needs_tables(name: &str, text: &str) -> Self {
        let source = Arc::new(Source::new(name, text));
        let at = text.find("[control]").unwrap_or_default();
        let span = at..(at + "[control]".len()).min(text.len());
        let message = "the shards of this map are in its control database, which was not asked";
        let mut fault = Fault::new(Severity::Error, &source, span, message);
        fault.hint("list them under [[shards]] too, for use without the control database");
        Self(vec![fault])
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// All of them with lines, carets and hints, an empty line between two.
    pub fn render(&self, color: bool) -> String {
        let faults: Vec<String> = self.0.iter().map(|fault| fault.render(color)).collect();
        faults.join("\n\n")
    }
}

impl<'f> IntoIterator for &'f Faults {
    type Item = &'f Fault;
    type IntoIter = std::slice::Iter<'f, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Faults {}

/// The candidate that was probably meant, if one is near enough.
pub fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words: insertion, deletion, replacement, and a swap of neighbours (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

/// The text with everything that may be a password turned into stars: what stands between the first colon
/// and the last `@` of a URL's authority, and the values of settings called password, token or secret.
/// Rather too much than too little.
fn mask(text: &str) -> String {
    let mut hidden: Vec<Range<usize>> = Vec::new();
    for (at, scheme) in text.match_indices("://") {
        let start = at + scheme.len();
        let url = text.get(start..).unwrap_or_default();
        let url = &url[..url.find(['"', '\'', ' ', '\t', '\r', '\n']).unwrap_or(url.len())];
        // Without an `@`, a colon may still stand before a password whose `@` was forgotten; digits alone
        // are a port.
        let end = url.rfind('@').unwrap_or_else(|| url.find(['/', '?']).unwrap_or(url.len()));
        let Some(colon) = url[..end].find(':') else { continue };
        let secret = &url[colon + 1..end];
        let port = !url.contains('@') && secret.bytes().all(|b| b.is_ascii_digit());
        if !port {
            hidden.push(start + colon + 1..start + end);
        }
    }
    let lower = text.to_ascii_lowercase();
    for word in ["password", "passwd", "passphrase", "token", "secret"] {
        for (at, _) in lower.match_indices(word) {
            let after = &text[at + word.len()..];
            let Some(value) = after.trim_start().strip_prefix('=') else { continue };
            let value = value.trim_start_matches([' ', '\t']);
            let quoted = value.trim_start_matches(['"', '\'']);
            let start = text.len() - quoted.len();
            let stops: &[char] = if quoted.len() < value.len() {
                &['"', '\'', '\n']
            } else {
                &['"', '\'', '&', ' ', '\n']
            };
            let length = quoted.find(stops).unwrap_or(quoted.len());
            hidden.push(start..start + length);
        }
    }
    // A variable's name is no secret, and tells the reader what to set.
    hidden.retain(|range| {
        let secret = &text[range.clone()];
        !(secret.starts_with("${") && secret.find('}') == Some(secret.len() - 1))
    });
    let mut masked = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if c != '\n' && hidden.iter().any(|range| range.contains(&at)) {
            masked.extend(std::iter::repeat_n('*', c.len_utf8()));
        } else {
            masked.push(c);
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked() {
        let check = |text: &str, expect: &str| {
            let masked = mask(text);
            assert_eq!(masked, expect);
            assert_eq!(masked.len(), text.len());
        };
        check("url = \"postgresql://bot:pw@h:1/d\"", "url = \"postgresql://bot:**@h:1/d\"");
        check("'postgres://b:p@ss/w@h/d?x=1'", "'postgres://b:******@h/d?x=1'");
        check("\"postgresql://b:é@h\"", "\"postgresql://b:**@h\"");
        check("\"postgresql://h:5432/d\"", "\"postgresql://h:5432/d\"");
        check("\"postgresql://b:pw", "\"postgresql://b:**");
        check("postgresql://b:${PW}@h", "postgresql://b:${PW}@h");
        check("\"postgresql://h/d?password=pw&x=1\"", "\"postgresql://h/d?password=**&x=1\"");
        check("Password = 'a b'\nx", "Password = '***'\nx");
        check("\"host=h password=pw user=b\"", "\"host=h password=** user=b\"");
    }

    #[test]
    fn near_words_are_found() {
        let check = |word, expect| {
            assert_eq!(did_you_mean(word, ["usa-east", "usa-west", "deu"]), expect, "{word}");
        };
        check("duе", None); // a Cyrillic letter makes two edits
        check("due", Some("deu"));
        check("DEU", Some("deu"));
        check("usa-esat", Some("usa-east"));
        check("usaeast", Some("usa-east"));
        check("fra", None);
        check("", None);
    }
}
