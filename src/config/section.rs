//! Reads one table of the file key by key; what was asked for is known, what is left over is a fault.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Fault;
use super::units;

/// Collects faults while a file is read.
pub(super) struct Reading<'a> {
    pub(super) file: &'a str,
    pub(super) source: &'a str,
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) faults: Vec<(usize, Fault)>,
}

impl Reading<'_> {
    pub(super) fn fault(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let start = span.start;
        let mut fault = Fault::new(self.file, self.source, span, message.into());
        fault.hint = hint.into();
        self.faults.push((start, fault));
    }

    /// Replaces each `${NAME}`; `$$` is a dollar sign.
    fn expand(&mut self, text: &str, span: &Range<usize>) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let Some((name, after_name)) =
                after.strip_prefix('{').and_then(|after| after.split_once('}'))
            else {
                // A lone dollar sign, as in a SCRAM verifier.
                out.push('$');
                rest = after;
                continue;
            };
            if let Some(value) = (self.env)(name) {
                out.push_str(&value);
            } else {
                let hint = format!("Set {name}, or write the value itself.");
                let message = format!("environment variable {name} is not set");
                self.fault(span.clone(), message, hint);
                // So that it doesn't look empty, which would be one more fault.
                out.push_str(name);
            }
            rest = after_name;
        }
        out.push_str(rest);
        out
    }
}

/// A table that is being read.
pub(super) struct Section<'r, 'a, 't> {
    pub(super) reading: &'r mut Reading<'a>,
    /// As in the file, `pool`.
    path: String,
    table: Option<&'t DeTable<'t>>,
    known: Vec<&'static str>,
}

impl<'r, 'a, 't> Section<'r, 'a, 't> {
    pub(super) fn new(
        reading: &'r mut Reading<'a>,
        path: &str,
        table: Option<&'t DeTable<'t>>,
    ) -> Self {
        Self { reading, path: path.to_owned(), table, known: Vec::new() }
    }

    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn value(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.table?.get(key)
    }

    pub(super) fn span(&self, key: &str) -> Range<usize> {
        self.table.and_then(|table| table.get(key)).map_or(0..0, Spanned::span)
    }

    fn wrong(&mut self, key: &str, span: Range<usize>, found: &DeValue<'_>, wanted: &str) {
        let message = format!("{} must be {wanted}, not {}", self.name(key), a(found.type_str()));
        self.reading.fault(span, message, None);
    }

    /// A string with its variables replaced.
    pub(super) fn string(&mut self, key: &'static str) -> Option<String> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(self.reading.expand(text, &value.span())),
            other => {
                self.wrong(key, value.span(), other, "a string");
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, key: &'static str, target: &mut bool) {
        let Some(value) = self.value(key) else { return };
        match value.get_ref() {
            DeValue::Boolean(found) => *target = *found,
            other => self.wrong(key, value.span(), other, "true or false"),
        }
    }

    /// A whole number within bounds.
    pub(super) fn number<N: TryFrom<i64>>(
        &mut self,
        key: &'static str,
        min: i64,
        max: i64,
        target: &mut N,
    ) {
        let Some(value) = self.value(key) else { return };
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong(key, value.span(), value.get_ref(), "a whole number");
        };
        let digits = number.as_str().replace('_', "");
        let number = i64::from_str_radix(&digits, number.radix()).ok();
        let number = number.filter(|number| (min..=max).contains(number));
        if let Some(number) = number.and_then(|number| N::try_from(number).ok()) {
            *target = number;
            return;
        }
        let message = format!("{} must be between {min} and {max}", self.name(key));
        self.reading.fault(value.span(), message, None);
    }

    pub(super) fn duration(&mut self, key: &'static str, target: &mut Duration) {
        let Some(text) = self.quantity(key, "5s") else { return };
        if let Some(duration) = units::duration(&text) {
            *target = duration;
            return;
        }
        self.unreadable(key, &text, "a duration", "\"300ms\", \"5s\", \"2min\", \"1h\"");
    }

    pub(super) fn positive_duration(&mut self, key: &'static str, target: &mut Duration) {
        self.duration(key, target);
        if target.is_zero() {
            let message = format!("{} must be longer than zero", self.name(key));
            self.reading.fault(self.span(key), message, None);
        }
    }

    pub(super) fn bytes(&mut self, key: &'static str) -> Option<u64> {
        let text = self.quantity(key, "64MiB")?;
        let bytes = units::bytes(&text);
        if bytes.is_none() {
            self.unreadable(key, &text, "a size", "\"64MiB\", \"1GiB\", \"512kB\"");
        }
        bytes
    }

    /// A string; a bare number gets a hint about its unit.
    fn quantity(&mut self, key: &'static str, example: &str) -> Option<String> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(self.reading.expand(text, &value.span())),
            DeValue::Integer(_) | DeValue::Float(_) => {
                let message = format!("{} needs a unit", self.name(key));
                let hint = format!("Write a string, {key} = \"{example}\".");
                self.reading.fault(value.span(), message, hint);
                None
            }
            other => {
                self.wrong(key, value.span(), other, &format!("a string such as \"{example}\""));
                None
            }
        }
    }

    fn unreadable(&mut self, key: &str, text: &str, what: &str, examples: &str) {
        let message = format!("{} is not {what}: \"{text}\"", self.name(key));
        self.reading.fault(self.span(key), message, format!("Write {examples}."));
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)], target: &mut T) {
        let Some(text) = self.string(key) else { return };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            *target = *value;
            return;
        }
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("{} must be one of {}", self.name(key), words.join(", "));
        let hint = closest(&text, &words).map(|word| format!("Did you mean \"{word}\"?"));
        self.reading.fault(self.span(key), message, hint);
    }

    /// A table within this one.
    pub(super) fn table(&mut self, key: &'static str) -> Option<&'t DeTable<'t>> {
        let value = self.value(key)?;
        if let DeValue::Table(table) = value.get_ref() {
            return Some(table);
        }
        let wanted = format!("a table, [{}]", self.name(key));
        self.wrong(key, value.span(), value.get_ref(), &wanted);
        None
    }

    /// The tables of an array of tables.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<(Range<usize>, &'t DeTable<'t>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let wanted = format!("a list of tables, [[{}]]", self.name(key));
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong(key, value.span(), value.get_ref(), &wanted);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => tables.push((item.span(), table)),
                other => self.wrong(key, item.span(), other, &wanted),
            }
        }
        tables
    }

    /// What was not asked for is a fault.
    pub(super) fn end(self) {
        let Some(table) = self.table else { return };
        for key in table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let place = match self.path.as_str() {
                "" => String::new(),
                path => format!(" in [{path}]"),
            };
            let hint = match closest(name, &self.known) {
                Some(known) => format!("Did you mean \"{known}\"?"),
                None => format!("Known here: {}.", self.known.join(", ")),
            };
            self.reading.fault(key.span(), format!("unknown key \"{name}\"{place}"), hint);
        }
    }
}

fn a(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// The candidate that is at most two edits away, if it is the only meaning.
fn closest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let distance = |candidate: &&str| edits(word, candidate);
    let best = candidates.iter().copied().min_by_key(|candidate| distance(candidate))?;
    (edits(word, best) <= 2.min(best.len() / 2)).then_some(best)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (above + 1).min(left + 1).min(diagonal + usize::from(x != *y));
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_nearby() {
        let check = |word, expect| {
            assert_eq!(closest(word, &["size", "reserve", "lifetime"]), expect, "{word}");
        };
        check("sizes", Some("size"));
        check("liftime", Some("lifetime"));
        check("mode", None);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
    }
}
