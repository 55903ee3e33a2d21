//! `workload.sql`: the statements, with what their annotations say of them.

use std::fmt::Write as _;

/// Tables and statements.
const FILE: &str = include_str!("workload.sql");

/// Whose text it is: as botserver sends it, or with the tenant's key in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Without `{{…}}`.
    AsIs,
    /// With it.
    Keyed,
}

/// A statement's template.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) name: String,
    /// Per thousand statements.
    pub(crate) weight: u32,
    pub(crate) writes: bool,
    /// It travels as a named prepared statement.
    pub(crate) named: bool,
    as_is: String,
    keyed: String,
    text: String,
}

impl Template {
    /// The route that its annotation promises.
    pub(crate) fn promise(&self, profile: Profile) -> &str {
        match profile {
            Profile::AsIs => &self.as_is,
            Profile::Keyed => &self.keyed,
        }
    }

    /// The text with `$n`, and the parameters' names: each place has a number of its own, as diesel counts.
    pub(crate) fn sql(&self, profile: Profile) -> (String, Vec<String>) {
        let mut text = self.text.clone();
        while let (Some(open), Some(close)) = (text.find("{{"), text.find("}}")) {
            let inside = text[open + 2..close].to_owned();
            let kept = if profile == Profile::Keyed { inside } else { String::new() };
            text.replace_range(open..close + 2, &kept);
        }
        let (mut sql, mut names) = (String::new(), Vec::new());
        let mut rest = text.as_str();
        while let Some(colon) = rest.find(':') {
            let word: String = rest[colon + 1..]
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect();
            sql.push_str(&rest[..colon]);
            rest = &rest[colon + 1 + word.len()..];
            if word.is_empty() {
                sql.push(':');
            } else {
                names.push(word);
                let _ = write!(sql, "${}", names.len());
            }
        }
        (sql + rest, names)
    }
}

/// The tables' DDL.
pub(crate) fn schema() -> &'static str {
    FILE.split("Part 2: templates").next().unwrap()
}

/// All templates, in the file's order.
pub(crate) fn templates() -> Vec<Template> {
    let mut found: Vec<Template> = Vec::new();
    for line in FILE.lines().skip_while(|line| !line.contains("Part 2: templates")) {
        if let Some(words) = line.strip_prefix("-- @stmt ") {
            let mut words = words.split_whitespace();
            let name = words.next().unwrap().to_owned();
            let word = |key: &str| {
                let found = line.split_whitespace().find_map(|word| word.strip_prefix(key));
                found.unwrap_or_else(|| panic!("{name}: no {key}")).to_owned()
            };
            found.push(Template {
                weight: word("w=").parse().unwrap(),
                writes: word("rw=") == "w",
                named: word("proto=") == "named",
                as_is: word("asis="),
                keyed: word("keyed="),
                text: String::new(),
                name: name.clone(),
            });
        } else if !line.starts_with("--")
            && let Some(template) = found.last_mut()
        {
            template.text.push_str(line);
            template.text.push('\n');
        }
    }
    for template in &mut found {
        template.text = template.text.trim().trim_end_matches(';').to_owned();
    }
    found
}
