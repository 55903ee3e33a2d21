//! What ALTER TABLE makes of a table, as far as a shard map can depend on it: names, columns, and columns whose
//! values become others.
//!
//! Main type: [`Reshaped`]. It reads tokens; what it does not know changes nothing here.

use std::sync::Arc;

use super::ddl::Reader;
use super::tokens::Token;
use crate::catalog::{Catalog, Names, Table};

/// A table before and after.
#[derive(Debug)]
pub struct Reshaped {
    /// As it is.
    pub before: Arc<Table>,
    /// As it will be.
    pub after: Table,
    /// Columns of `before` whose values go, or become others.
    pub rewritten: Vec<u16>,
}

/// The tables that ALTER TABLE, or ALTER SCHEMA … RENAME, makes others of.
pub(super) fn reshaped(
    text: &str,
    tokens: &[Token],
    catalog: &Catalog,
    names: &Names<'_>,
) -> Vec<Reshaped> {
    let mut reader = Reader::new(text, tokens);
    if reader.words(&["alter", "schema"]) {
        return renamed_schema(&mut reader, catalog);
    }
    if !reader.words(&["alter", "table"]) {
        return Vec::new();
    }
    reader.skip_words(&["if", "exists", "only"]);
    let Some(name) = reader.name() else { return Vec::new() };
    let table = if reader.symbol(".") {
        reader.name().and_then(|second| catalog.resolve(names, Some(&name), &second))
    } else {
        catalog.resolve(names, None, &name)
    };
    let Some(before) = table else { return Vec::new() };
    reader.symbol("*");
    let (mut after, mut rewritten) = (Table::clone(&before), Vec::new());
    for mut action in reader.rest().items() {
        apply(&mut action, catalog, &mut after, &mut rewritten);
    }
    let rewritten = rewritten.iter().filter_map(|name| before.column(name)).collect();
    vec![Reshaped { before, after, rewritten }]
}

fn renamed_schema(reader: &mut Reader<'_>, catalog: &Catalog) -> Vec<Reshaped> {
    let (Some(old), true) = (reader.name(), reader.words(&["rename", "to"])) else {
        return Vec::new();
    };
    let Some(new) = reader.name() else { return Vec::new() };
    let own = catalog.tables.values().filter(|table| table.schema == old);
    own.map(|before| {
        let after = Table { schema: new.clone(), ..Table::clone(before) };
        Reshaped { before: Arc::clone(before), after, rewritten: Vec::new() }
    })
    .collect()
}

/// One action of ALTER TABLE.
pub(super) fn apply(
    action: &mut Reader<'_>,
    catalog: &Catalog,
    table: &mut Table,
    rewritten: &mut Vec<String>,
) {
    if action.words(&["rename", "to"]) {
        if let Some(name) = action.name() {
            table.name = name;
        }
    } else if action.words(&["set", "schema"]) {
        if let Some(schema) = action.name() {
            table.schema = schema;
        }
    } else if action.words(&["rename", "constraint"]) {
    } else if action.words(&["rename"]) {
        action.skip_words(&["column"]);
        let (old, new) = (action.name(), action.words(&["to"]).then(|| action.name()).flatten());
        if let (Some(old), Some(new)) = (old, new)
            && let Some(column) = table.columns.iter_mut().find(|column| column.name == old)
        {
            column.name = new;
        }
    } else if action.words(&["drop", "constraint"]) {
    } else if action.words(&["drop"]) {
        action.skip_words(&["column", "if", "exists"]);
        if let Some(name) = action.name() {
            let keys = table.primary_key_names();
            table.columns.retain(|column| column.name != name);
            table.set_primary_key(&keys);
            rewritten.push(name);
        }
    } else if action.words(&["add"]) {
        action.skip_words(&["column", "if", "not", "exists"]);
        let mut keys = table.primary_key_names();
        action.table_item(catalog, table, &mut keys);
        table.set_primary_key(&keys);
    } else if action.words(&["alter"]) {
        action.skip_words(&["column"]);
        if let Some(name) = action.name()
            && (action.words(&["type"]) || action.words(&["set", "data", "type"]))
            && action.has_word("using")
        {
            rewritten.push(name);
        }
    }
}
