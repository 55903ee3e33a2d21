//! Reading a TOML tree with spans: typed values, and a fault wherever the file says something else.
//!
//! Main types: [`Reader`] (collects faults), [`Fields`] (a table whose fields are asked for by name; what
//! nobody asked for is unknown), [`Node`] (one value). A method that returns `None` for something
//! present has added a fault.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Severity, Source, did_you_mean};
use super::geoip::{GeoIp, Outside};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// Collects faults.
pub(super) struct Reader<'e> {
    source: Arc<Source>,
    outside: Outside<'e>,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
}

impl<'e> Reader<'e> {
    pub(super) fn new(source: Source, outside: Outside<'e>) -> Self {
        Self { source: Arc::new(source), outside, faults: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn env(&self) -> &'e dyn Fn(&str) -> Option<String> {
        self.outside.env
    }

    /// The `GeoIP` file of this name; `None` also where files are not read.
    pub(super) fn geoip(&mut self, name: &At<String>) -> Option<Arc<GeoIp>> {
        match (self.outside.geoip?)(&name.value) {
            Ok(read) => Some(read),
            Err(why) => {
                self.fault(&name.span, format!("the GeoIP file {why}")).hint(
                    "a file as MaxMind's GeoLite2-Country.mmdb, beside the map file unless its path is absolute",
                );
                None
            }
        }
    }

    /// Adds a fault; what it returns takes label and hint.
    pub(super) fn fault(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Fault {
        let fault = Fault::new(Severity::Error, &self.source, span.clone(), message);
        pushed(&mut self.faults, fault)
    }

    /// Adds a fault about another text than the file.
    pub(super) fn fault_in(
        &mut self,
        source: &Arc<Source>,
        span: &Range<usize>,
        message: impl Into<String>,
    ) -> &mut Fault {
        let fault = Fault::new(Severity::Error, source, span.clone(), message);
        pushed(&mut self.faults, fault)
    }

    /// Adds a warning.
    pub(super) fn warn(&mut self, span: &Range<usize>, message: impl Into<String>) -> &mut Fault {
        let fault = Fault::new(Severity::Warning, &self.source, span.clone(), message);
        pushed(&mut self.warnings, fault)
    }

    /// Adds a fault about a name that isn't one of `known`, with the nearest as hint.
    pub(super) fn unknown<'k>(
        &mut self,
        what: &str,
        name: &At<String>,
        known: impl Iterator<Item = &'k str>,
    ) {
        let known: Vec<&str> = known.collect();
        let hint = match did_you_mean(&name.value, known.iter().copied()) {
            Some(near) => format!("did you mean {what} \"{near}\"?"),
            None if known.is_empty() => format!("there is no {what}"),
            None => format!("known: {}", known.join(", ")),
        };
        self.fault(&name.span, format!("unknown {what} \"{}\"", name.value))
            .label("not defined in this map")
            .hint(hint);
    }

    /// Replaces `${VAR}` from the environment.
    fn expand(&mut self, text: &str, span: &Range<usize>) -> Option<String> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            expanded.push_str(before);
            let Some((name, tail)) = after.split_once('}') else {
                self.fault(span, "\"${\" without a closing brace").hint("write \"${NAME}\"");
                return None;
            };
            let Some(value) = (self.outside.env)(name) else {
                self.fault(span, format!("environment variable {name} is not set"))
                    .hint(format!("set {name}, or write the value here"));
                return None;
            };
            expanded.push_str(&value);
            rest = tail;
        }
        expanded.push_str(rest);
        Some(expanded)
    }
}

/// Appends, and gives what was appended.
fn pushed(faults: &mut Vec<Fault>, fault: Fault) -> &mut Fault {
    let at = faults.len();
    faults.push(fault);
    &mut faults[at]
}

/// One value of the file.
#[derive(Clone)]
pub(super) struct Node<'t> {
    /// Where its name stands.
    pub(super) key_span: Range<usize>,
    pub(super) name: String,
    value: &'t Spanned<DeValue<'t>>,
}

impl<'t> Node<'t> {
    pub(super) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// A string field of a table, whatever else is in it; no fault is added.
    pub(super) fn peek(&self, field: &str) -> Option<&'t str> {
        self.value.get_ref().as_table()?.get(field)?.get_ref().as_str()
    }

    /// The same for a field of a table in it.
    pub(super) fn peek_in(&self, table: &str, field: &str) -> Option<&'t str> {
        let table = self.value.get_ref().as_table()?.get(table)?.get_ref().as_table()?;
        table.get(field)?.get_ref().as_str()
    }

    fn expected(&self, r: &mut Reader<'_>, what: &str) {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let hint = match what {
            "a string" => "write it in quotation marks: \"…\"",
            "an integer" => "write its digits, without quotation marks",
            "true or false" => "write it without quotation marks",
            "an array" => "write [\"…\", \"…\"]",
            "a table" => "write { … }, or a section of its own",
            _ => "write 42 or \"42\"",
        };
        r.fault(&self.span(), format!("{} must be {what}", self.name))
            .label(format!("this is {found}"))
            .hint(hint);
    }

    /// A string, with `${VAR}` replaced.
    pub(super) fn string(&self, r: &mut Reader<'_>) -> Option<At<String>> {
        let Some(text) = self.value.get_ref().as_str() else {
            self.expected(r, "a string");
            return None;
        };
        let span = self.span();
        let value = r.expand(text, &span)?;
        Some(At { value, span })
    }

    /// A string if it is one.
    pub(super) fn as_string(&self, r: &mut Reader<'_>) -> Option<At<String>> {
        if self.value.get_ref().is_str() { self.string(r) } else { None }
    }

    pub(super) fn is_string(&self) -> bool {
        self.value.get_ref().is_str()
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// Text of an integer or a string: how keys are written.
    pub(super) fn scalar(&self, r: &mut Reader<'_>) -> Option<At<String>> {
        match self.value.get_ref() {
            DeValue::Integer(_) => {
                let value = self.any_integer(r)?.to_string();
                Some(At { value, span: self.span() })
            }
            DeValue::String(_) => self.string(r),
            _ => {
                self.expected(r, "an integer or a string");
                None
            }
        }
    }

    fn any_integer(&self, r: &mut Reader<'_>) -> Option<i128> {
        let Some(integer) = self.value.get_ref().as_integer() else {
            self.expected(r, "an integer");
            return None;
        };
        let value = i128::from_str_radix(integer.as_str(), integer.radix());
        if value.is_err() {
            r.fault(&self.span(), format!("{} is too large", self.name))
                .hint(format!("at most {}", i64::MAX));
        }
        value.ok()
    }

    pub(super) fn integer(
        &self,
        r: &mut Reader<'_>,
        bounds: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let value = self.any_integer(r)?;
        let value = i64::try_from(value).ok().filter(|v| bounds.contains(v));
        if value.is_none() {
            let message =
                format!("{} must be from {} to {}", self.name, bounds.start(), bounds.end());
            r.fault(&self.span(), message).label("out of these bounds");
        }
        value
    }

    pub(super) fn boolean(&self, r: &mut Reader<'_>) -> Option<bool> {
        let value = self.value.get_ref().as_bool();
        if value.is_none() {
            self.expected(r, "true or false");
        }
        value
    }

    /// The elements of an array.
    pub(super) fn array(&self, r: &mut Reader<'_>) -> Option<Vec<Node<'t>>> {
        let Some(array) = self.value.get_ref().as_array() else {
            self.expected(r, "an array");
            return None;
        };
        let node = |value: &'t Spanned<DeValue<'t>>| Node {
            key_span: value.span(),
            name: format!("an element of {}", self.name),
            value,
        };
        Some(array.iter().map(node).collect())
    }

    pub(super) fn strings(&self, r: &mut Reader<'_>) -> Option<Vec<At<String>>> {
        let elements = self.array(r)?;
        let count = elements.len();
        let strings: Vec<At<String>> = elements.iter().filter_map(|e| e.string(r)).collect();
        (strings.len() == count).then_some(strings)
    }

    pub(super) fn fields(&self, r: &mut Reader<'_>) -> Option<Fields<'t>> {
        let Some(table) = self.value.get_ref().as_table() else {
            self.expected(r, "a table");
            return None;
        };
        Some(Fields::new(self.key_span.clone(), table))
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, r: &mut Reader<'_>, words: &[(&str, T)]) -> Option<T> {
        let word = self.string(r)?;
        let found = words.iter().find(|(known, _)| *known == word.value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
            let hint = match did_you_mean(&word.value, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("write one of: {}", known.join(", ")),
            };
            r.fault(&word.span, format!("{} can't be \"{}\"", self.name, word.value)).hint(hint);
        }
        found.map(|(_, value)| *value)
    }
}

/// A table whose fields are asked for by name.
pub(super) struct Fields<'t> {
    /// Where the table's own name stands.
    pub(super) span: Range<usize>,
    table: &'t DeTable<'t>,
    asked: Vec<&'static str>,
    missing: Vec<&'static str>,
}

impl<'t> Fields<'t> {
    pub(super) fn root(table: &'t DeTable<'t>) -> Self {
        Self::new(0..0, table)
    }

    fn new(span: Range<usize>, table: &'t DeTable<'t>) -> Self {
        Self { span, table, asked: Vec::new(), missing: Vec::new() }
    }

    /// Whether a field is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// A field, if it is there.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Node<'t>> {
        self.asked.push(name);
        let (key, value) = self.table.get_key_value(name)?;
        Some(Node { key_span: key.span(), name: name.to_owned(), value })
    }

    /// A field that must be there; [`Fields::finish`] adds the fault.
    pub(super) fn require(&mut self, name: &'static str) -> Option<Node<'t>> {
        let node = self.take(name);
        if node.is_none() {
            self.missing.push(name);
        }
        node
    }

    pub(super) fn string(&mut self, r: &mut Reader<'_>, name: &'static str) -> Option<At<String>> {
        self.take(name)?.string(r)
    }

    pub(super) fn boolean(&mut self, r: &mut Reader<'_>, name: &'static str) -> Option<bool> {
        self.take(name)?.boolean(r)
    }

    pub(super) fn choice<T: Copy>(
        &mut self,
        r: &mut Reader<'_>,
        name: &'static str,
        words: &[(&str, T)],
    ) -> Option<T> {
        self.take(name)?.choice(r, words)
    }

    /// A sub-table.
    pub(super) fn table(&mut self, r: &mut Reader<'_>, name: &'static str) -> Option<Fields<'t>> {
        self.take(name)?.fields(r)
    }

    /// Every field, in the order of the file: for tables whose field names are data.
    pub(super) fn entries(&self) -> Vec<Node<'t>> {
        let mut nodes: Vec<Node<'t>> = self
            .table
            .iter()
            .map(|(key, value)| Node {
                key_span: key.span(),
                name: key.get_ref().to_string(),
                value,
            })
            .collect();
        nodes.sort_by_key(|node| node.key_span.start);
        nodes
    }

    /// The entries of a sub-table whose field names are data; none when it isn't there.
    pub(super) fn entries_of(&mut self, r: &mut Reader<'_>, name: &'static str) -> Vec<Node<'t>> {
        self.table(r, name).map(|table| table.entries()).unwrap_or_default()
    }

    /// The elements of an array of tables.
    pub(super) fn tables(&mut self, r: &mut Reader<'_>, name: &'static str) -> Vec<Fields<'t>> {
        let elements = self.take(name).and_then(|node| node.array(r)).unwrap_or_default();
        elements.iter().filter_map(|node| node.fields(r)).collect()
    }

    /// What was asked for, each name once.
    fn known(&self) -> Vec<&'static str> {
        let mut known = Vec::new();
        for asked in &self.asked {
            if !known.contains(asked) {
                known.push(*asked);
            }
        }
        known
    }

    /// Every field that nobody asked for is a fault, and every one that is missing, unless it is there
    /// misspelt. Gives the names that were meant by misspelt ones.
    pub(super) fn finish(self, r: &mut Reader<'_>) -> Vec<&'static str> {
        let mut meant = Vec::new();
        for node in self.entries() {
            if self.asked.iter().any(|asked| *asked == node.name) {
                continue;
            }
            let hint = match did_you_mean(&node.name, self.asked.iter().copied()) {
                Some(near) => {
                    meant.extend(self.asked.iter().copied().find(|asked| *asked == near));
                    format!("did you mean {near}?")
                }
                None => format!("known here: {}", self.known().join(", ")),
            };
            r.fault(&node.key_span, format!("unknown field {}", node.name)).hint(hint);
        }
        for name in self.missing.iter().filter(|name| !meant.contains(name)) {
            r.fault(&self.span, format!("{name} is missing")).label(format!("needs {name} = …"));
        }
        meant
    }
}
