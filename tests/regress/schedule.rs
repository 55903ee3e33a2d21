//! Which files run in which order, and which of them may differ.

use std::collections::{BTreeMap, BTreeSet};

/// The files of a `parallel_schedule`, one after another: what its groups may do at the same time they
/// may also do in turn.
pub(crate) struct Schedule {
    files: Vec<String>,
}

impl Schedule {
    /// Reads the format of `pg_regress`: lines of `test: name name …`, `#` before remarks.
    pub(crate) fn parse(text: &str) -> Self {
        let tests = text.lines().filter_map(|line| line.trim().strip_prefix("test:"));
        Self { files: tests.flat_map(str::split_whitespace).map(str::to_owned).collect() }
    }

    /// The files to run. What sets up for the others is always among them.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        let only = std::env::var("PGMERIDIAN_REGRESS_ONLY").ok();
        let only: Option<BTreeSet<String>> =
            only.map(|only| only.split_whitespace().map(str::to_owned).collect());
        self.files.iter().map(String::as_str).filter(move |file| {
            *file == "test_setup" || only.as_ref().is_none_or(|only| only.contains(*file))
        })
    }
}

/// Files whose outputs may differ, each with its reason.
#[derive(Default)]
pub(crate) struct Exceptions {
    reasons: BTreeMap<String, String>,
}

impl Exceptions {
    /// Lines of `name: reason`, `#` before remarks.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let reasons = lines.map(|line| {
            let (name, reason) =
                line.split_once(':').unwrap_or_else(|| panic!("no reason: {line}"));
            assert!(!reason.trim().is_empty(), "no reason: {line}");
            (name.trim().to_owned(), reason.trim().to_owned())
        });
        Self { reasons: reasons.collect() }
    }

    /// Why a file's outputs may differ.
    pub(crate) fn reason(&self, file: &str) -> Option<&str> {
        self.reasons.get(file).map(String::as_str)
    }
}
