//! A shard's server and schema against those of the default shard.

use std::collections::BTreeSet;

use super::told::Told;
use super::{Finding, bare, fault, is_spread, warning};
use crate::map::ShardMap;

pub(super) fn compare(
    map: &ShardMap,
    home: &Told<'_>,
    other: &Told<'_>,
    findings: &mut Vec<Finding>,
) {
    let (a, b) = (&home.shard.name, &other.shard.name);
    let major = |told: &Told<'_>| {
        told.server("server_version").split(['.', ' ', 'b', 'r']).next().map(str::to_owned)
    };
    if major(home) != major(other) {
        let (v, w) = (home.server("server_version"), other.server("server_version"));
        warning(findings, format!("PostgreSQL is {v} on {a} and {w} on {b}"), None);
    }
    for name in ["encoding", "collation", "collation version"] {
        let (x, y) = (home.server(name), other.server(name));
        if x != y {
            let hint = (name != "encoding").then_some(
                "text may sort differently: ORDER BY over several shards would not agree with either",
            );
            fault(findings, format!("the database's {name} is {x} on {a} and {y} on {b}"), hint);
        }
    }
    let spread = |told: &Told<'_>, fq: &str| {
        fq.is_empty() || told.table(fq).is_none_or(|table| is_spread(map, table))
    };
    let missing_tables: BTreeSet<&String> = home
        .objects
        .keys()
        .filter(|(kind, table, name)| {
            let key = (kind.clone(), table.clone(), name.clone());
            kind == "table" && !other.objects.contains_key(&key)
        })
        .map(|(_, table, _)| table)
        .collect();
    for ((kind, table, name), definition) in &home.objects {
        if !spread(home, table) || (kind != "table" && missing_tables.contains(table)) {
            continue;
        }
        let what = called(kind, table, name);
        match other.objects.get(&(kind.clone(), table.clone(), name.clone())) {
            None => differ(findings, kind, format!("{what} is on {a} and not on {b}")),
            Some(found) if found == definition => {}
            Some(_) if matches!(kind.as_str(), "function" | "view") => {
                differ(findings, kind, format!("{what} is another one on {b} than on {a}"));
            }
            Some(found) => {
                differ(findings, kind, format!("{what} is {definition} on {a} and {found} on {b}"));
            }
        }
    }
    for (kind, table, name) in other.objects.keys() {
        let key = (kind.clone(), table.clone(), name.clone());
        let table_is_new = kind != "table"
            && !table.is_empty()
            && !home.objects.contains_key(&("table".to_owned(), table.clone(), String::new()));
        if home.objects.contains_key(&key) || !spread(other, table) || table_is_new {
            continue;
        }
        differ(findings, kind, format!("{} is on {b} and not on {a}", called(kind, table, name)));
    }
    for (name, oid) in &home.types {
        let Some(found) = other.types.get(name).filter(|found| *found != oid) else { continue };
        warning(
            findings,
            format!("type {} has the OID {oid} on {a} and {found} on {b}", bare(name)),
            Some(
                "clients are told the default shard's; arrays and rows in binary keep their own: create the databases from one template to have the same",
            ),
        );
    }
}

pub(super) fn called(kind: &str, table: &str, name: &str) -> String {
    match (kind, name) {
        ("table" | "view", _) => format!(
            "{} {}",
            if kind == "view" { "the query of view" } else { "table" },
            bare(table)
        ),
        ("column", name) => format!("column {}.{name}", bare(table)),
        (kind, name) if table.is_empty() => format!("{kind} {}", bare(name)),
        (kind, name) => format!("{kind} {name} of table {}", bare(table)),
    }
}

/// Tables and their rows decide what is right; the rest, how it goes.
pub(super) fn differ(findings: &mut Vec<Finding>, kind: &str, text: String) {
    findings.push(Finding {
        fault: matches!(kind, "table" | "column" | "constraint" | "type"),
        text,
        hint: None,
    });
}
