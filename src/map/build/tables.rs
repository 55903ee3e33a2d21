//! `[tables]`, `[lookups.x]`, `[[everywhere]]`.

use rustc_hash::FxHashMap;

use super::Names;
use super::keys::ReadKey;
use crate::map::KeyId;
use crate::map::fault::did_you_mean;
use crate::map::model::{Everywhere, Lookup, LookupSource, TableRule};
use crate::map::reader::{At, Fields, Node, Reader};

/// A table's name as `schema.name`; without a schema it means schema public.
fn qualified(r: &mut Reader<'_>, name: &At<String>) -> Option<At<String>> {
    let (schema, table) = name.value.split_once('.').unwrap_or(("public", &name.value));
    if schema.is_empty() || table.is_empty() {
        r.fault(&name.span, format!("\"{}\" is not a table's name", name.value))
            .hint("write name for schema public, or \"schema.name\"");
        return None;
    }
    Some(At { value: format!("{schema}.{table}"), span: name.span.clone() })
}

/// The name of a field, as a table's name.
pub(super) fn table_name(r: &mut Reader<'_>, node: &Node<'_>) -> Option<At<String>> {
    qualified(r, &At { value: node.name.clone(), span: node.key_span.clone() })
}

/// `[tables]` over `keys.x.tables`.
pub(super) fn tables(
    r: &mut Reader<'_>,
    names: &Names,
    root: &mut Fields<'_>,
    keys: &[ReadKey],
) -> FxHashMap<String, TableRule> {
    let mut tables = FxHashMap::default();
    for (at, key) in (0u8..=u8::MAX).zip(keys) {
        for (table, column) in &key.tables {
            let rule = TableRule::Key { key: KeyId(at), column: column.clone(), within: None };
            tables.insert(table.value.clone(), rule);
        }
    }
    let mut listed: Vec<At<String>> = Vec::new();
    for node in root.entries_of(r, "tables") {
        let name = table_name(r, &node);
        let rule = table_rule(r, names, &node);
        let (Some(name), Some(rule)) = (name, rule) else { continue };
        if let Some(first) = listed.iter().find(|first| first.value == name.value) {
            r.fault(&name.span, format!("table {} is listed twice", name.value))
                .other(first.span.clone(), "first here");
            continue;
        }
        tables.insert(name.value.clone(), rule);
        listed.push(name);
    }
    tables
}

fn table_rule(r: &mut Reader<'_>, names: &Names, node: &Node<'_>) -> Option<TableRule> {
    const FORMS: &str =
        "write \"reference\", { shard = … }, { lookup = … } or { key = …, column = … }";
    if node.is_string() {
        let word = node.string(r)?;
        if word.value == "reference" {
            return Some(TableRule::Reference);
        }
        let near = did_you_mean(&word.value, ["reference"]).is_some();
        let hint = if near { "did you mean \"reference\"?" } else { FORMS };
        r.fault(&word.span, format!("a table can't be \"{}\"", word.value)).hint(hint);
        return None;
    }
    if !node.is_table() {
        r.fault(&node.span(), "this says nothing of the table").hint(FORMS);
        return None;
    }
    let mut fields = node.fields(r)?;
    let (shard, lookup) = (fields.take("shard"), fields.take("lookup"));
    let (key, column) = (fields.take("key"), fields.take("column"));
    let within = fields.take("within");
    fields.finish(r);
    match (shard, lookup, key, column) {
        (Some(shard), None, None, None) if within.is_none() => {
            let name = shard.string(r)?;
            names.shard(r, &name).map(TableRule::Single)
        }
        (None, Some(lookup), None, None) if within.is_none() => {
            let name = lookup.string(r)?;
            names.lookup(r, &name).map(TableRule::Lookup)
        }
        (None, None, Some(key), Some(column)) => {
            let name = key.string(r)?;
            let key = names.key(r, &name);
            let column = column.string(r)?.value;
            let within = match within {
                Some(node) => Some(node.string(r)?.value),
                None => None,
            };
            Some(TableRule::Key { key: key?, column, within })
        }
        _ => {
            r.fault(&node.span(), format!("what is table {} to be?", node.name)).hint(FORMS);
            None
        }
    }
}

/// `[lookups.x]`.
pub(super) fn lookups(
    r: &mut Reader<'_>,
    names: &Names,
    nodes: &[Node<'_>],
) -> Vec<Option<Lookup>> {
    nodes.iter().map(|node| lookup(r, names, node)).collect()
}

fn lookup(r: &mut Reader<'_>, names: &Names, node: &Node<'_>) -> Option<Lookup> {
    let mut fields = node.fields(r)?;
    let columns = fields.take("columns").and_then(|node| node.strings(r)).unwrap_or_default();
    let mut tables = FxHashMap::default();
    for entry in fields.entries_of(r, "tables") {
        let table = table_name(r, &entry);
        if let (Some(table), Some(column)) = (table, entry.string(r)) {
            tables.insert(table.value, column.value);
        }
    }
    let key = fields.require("key").and_then(|node| node.string(r));
    let key = key.and_then(|name| names.key(r, &name));
    let source = fields.take("source").map(|node| source(r, &node));
    let unique = fields.boolean(r, "unique").unwrap_or(false);
    let learn = fields.boolean(r, "learn").unwrap_or(false);
    if columns.is_empty() && tables.is_empty() {
        r.fault(&node.key_span, format!("lookup {} has neither columns nor tables", node.name))
            .hint("columns = [\"…\"] names the columns that hold the id");
    }
    fields.finish(r);
    let source = match source {
        Some(source) => Some(source?),
        None => None,
    };
    Some(Lookup {
        name: node.name.clone(),
        columns: columns.into_iter().map(|c| c.value).collect(),
        tables,
        key: key?,
        source,
        unique,
        learn,
    })
}

fn source(r: &mut Reader<'_>, node: &Node<'_>) -> Option<LookupSource> {
    let mut fields = node.fields(r)?;
    let table = fields.require("table").and_then(|node| node.string(r));
    let table = table.and_then(|name| qualified(r, &name));
    let id = fields.require("id").and_then(|node| node.string(r));
    let key = fields.require("key").and_then(|node| node.string(r));
    fields.finish(r);
    Some(LookupSource { table: table?.value, id: id?.value, key: key?.value })
}

/// `[[everywhere]]`.
pub(super) fn everywhere(r: &mut Reader<'_>, root: &mut Fields<'_>) -> Vec<Everywhere> {
    let mut rules = Vec::new();
    for mut fields in root.tables(r, "everywhere") {
        let table = fields.require("table").and_then(|node| node.string(r));
        let table = table.and_then(|name| qualified(r, &name));
        let predicate = fields.require("predicate").and_then(|node| node.string(r));
        let key = fields.take("key").and_then(|node| node.scalar(r));
        fields.finish(r);
        let (Some(table), Some(predicate)) = (table, predicate) else { continue };
        let Some((schema, name)) = table.value.split_once('.') else { continue };
        let equals = equality(&predicate.value);
        if !is_one_condition(&predicate.value) {
            r.fault(&predicate.span, "the predicate is not one condition")
                .hint("write it as behind WHERE: column = 'constant'");
        } else if equals.is_none() {
            r.warn(&predicate.span, "the predicate is not of the form column = constant")
                .hint("Which statements are about these rows can't be told then: reads of them go to all shards, and other writes to the table are refused.");
        }
        rules.push(Everywhere {
            schema: schema.to_owned(),
            table: name.to_owned(),
            predicate: predicate.value,
            equals,
            key: key.map(|key| key.value),
        });
    }
    rules
}

/// The text is one expression as far as quotes, brackets, semicolons and comments go: it is put between brackets in
/// statements that the shards are asked.
fn is_one_condition(predicate: &str) -> bool {
    let mut open = 0_usize;
    let mut rest = predicate.char_indices();
    let mut said = false;
    while let Some((at, c)) = rest.next() {
        let goes_on = |with: &str| predicate.get(at..).is_some_and(|text| text.starts_with(with));
        match c {
            '\'' | '"' if !rest.any(|(_, end)| end == c) => return false,
            '(' => open += 1,
            ')' if open == 0 => return false,
            ')' => open -= 1,
            ';' | '\0' => return false,
            _ if goes_on("--") || goes_on("/*") => return false,
            _ => {}
        }
        said |= !c.is_whitespace();
    }
    open == 0 && said
}

/// The column and the constant of `column = constant`.
fn equality(predicate: &str) -> Option<(String, String)> {
    let (column, constant) = predicate.split_once('=')?;
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let column = column.trim();
    let column = match column.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) if !quoted.contains('"') => quoted.to_owned(),
        Some(_) => return None,
        None => column.to_ascii_lowercase(),
    };
    let bare = column.chars().all(word) && !column.starts_with(|c: char| c.is_ascii_digit());
    let constant = constant.trim();
    // A cast of the constant to the column's own type says nothing new.
    let constant = constant.split_once("::").map_or(constant, |(constant, _)| constant.trim_end());
    let quoted = constant.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    let value = match quoted {
        Some(text) if !text.contains(['\'', '\\']) => text,
        None if constant.parse::<i64>().is_ok() => constant,
        _ => return None,
    };
    (bare && !column.is_empty()).then(|| (column, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_equality_is_understood() {
        let known = |text: &str| equality(text).map(|(column, value)| format!("{column}|{value}"));
        assert_eq!(known("id = 0").as_deref(), Some("id|0"));
        assert_eq!(known(" BOT_ID='0-0'::uuid ").as_deref(), Some("bot_id|0-0"));
        assert_eq!(known("\"id\" = -5").as_deref(), Some("id|-5"));
        for other in [
            "id > 0",
            "id >= 0",
            "id = 0 OR x = 1",
            "lower(x) = 'a'",
            "a = b",
            "a = 'x' AND b = 'y'",
            "a <> 1",
            "x = 'it''s'",
        ] {
            assert_eq!(known(other), None, "{other}");
        }
    }
}
