//! What the map says of a table.
//!
//! Precedence: `[tables]`, `keys.x.tables`, key columns, lookups, unlisted. Run once per statement shape,
//! not per statement.

use smallvec::SmallVec;

use super::model::TableRule;
use super::{KeyId, ShardId, ShardMap};
use crate::catalog::{Column, RelationKind, Table};
use crate::datum::KeyType;

/// The index of a key column that the statement doesn't name, of a table whose columns aren't known: no
/// column reference equals it.
pub const UNNAMED_COLUMN: u16 = u16::MAX;

/// What the map says of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement<'m> {
    /// Its rows are spread by a key.
    Sharded {
        /// The key.
        key: KeyId,
        /// The table's columns that hold the key's parts, in their order.
        columns: SmallVec<[u16; 2]>,
    },
    /// Same rows on every shard.
    Reference,
    /// It lives on one shard.
    Single(ShardId),
    /// It has no key column: its rows live with the key that an id leads to.
    Lookup {
        /// The lookup's name.
        name: &'m str,
        /// The column that holds the id.
        column: u16,
    },
    /// The map has no rule: `policy.unlisted_tables` says what that means.
    Unlisted,
    /// There is a rule, but it can't be applied: why.
    Unusable(String),
}

impl ShardMap {
    /// What the map says of a table. Where the table's columns aren't known, those that the statement
    /// names are taken to be there; a listed key column that it doesn't name is [`UNNAMED_COLUMN`].
    pub fn placement(&self, table: &Table) -> Placement<'_> {
        let (rule, placement) = self.own_placement(table);
        match self.stray_heir(table, rule) {
            Some(why) => Placement::Unusable(why),
            None => placement,
        }
    }

    fn rule(&self, schema: &str, name: &str) -> Option<&TableRule> {
        self.tables.get(&format!("{schema}.{name}"))
    }

    /// Where the rows of the table itself are, and the rule that says so. A partition that is not listed
    /// follows its parent.
    fn own_placement(&self, table: &Table) -> (Option<&TableRule>, Placement<'_>) {
        let listed = self.rule(&table.schema, &table.name);
        let parents = || table.parents.iter().find_map(|(schema, name)| self.rule(schema, name));
        let rule = listed.or_else(parents);
        (rule, rule.map_or_else(|| self.by_columns(table), |rule| self.by_rule(table, rule)))
    }

    /// What reads the table reads its partitions and children too: why they can't be read as one.
    fn stray_heir(&self, table: &Table, rule: Option<&TableRule>) -> Option<String> {
        let is_key = |name: &String| self.keys.iter().any(|key| key.columns.contains(name));
        let stray =
            table.heirs.iter().find(|heir| match (self.rule(&heir.schema, &heir.name), rule) {
                (Some(own), rule) => rule != Some(own),
                (None, Some(_)) => false,
                (None, None) => heir.more_columns.iter().any(is_key),
            })?;
        Some(format!(
            "its rows are also in \"{}\", which inherits from it and is placed by another rule",
            stray.name
        ))
    }

    /// By the names of its columns.
    fn by_columns(&self, table: &Table) -> Placement<'_> {
        if table.kind == RelationKind::Sequence {
            return Placement::Unlisted;
        }
        let mut found = None;
        for (at, key) in (0u8..).zip(&self.keys) {
            for name in &key.columns {
                let Some(column) = column_named(table, name) else { continue };
                if let Some((_, other)) = found {
                    return Placement::Unusable(format!(
                        "it has two key columns, \"{other}\" and \"{name}\"; list the table under \
                         [tables] with the one that holds its key"
                    ));
                }
                found = Some(((KeyId(at), column), name));
            }
        }
        if let Some(((key, column), _)) = found {
            if let Some(sort) = unlisted_kind(table.kind) {
                return Placement::Unusable(format!(
                    "it is a {sort} with a key column, and only a table under [tables] is known to \
                     hold its key there"
                ));
            }
            return self.sharded(table, key, column, None);
        }
        self.by_lookup(table)
    }

    fn by_rule(&self, table: &Table, rule: &TableRule) -> Placement<'_> {
        match rule {
            TableRule::Reference => Placement::Reference,
            TableRule::Single(shard) => Placement::Single(*shard),
            TableRule::Lookup(at) => match self.lookups.get(*at) {
                Some(lookup) => {
                    let listed = lookup.tables.get(&format!("{}.{}", table.schema, table.name));
                    let column = listed
                        .into_iter()
                        .chain(&lookup.columns)
                        .find_map(|name| column_named(table, name));
                    match column.or((!table.columns_known).then_some(UNNAMED_COLUMN)) {
                        Some(column) => Placement::Lookup { name: &lookup.name, column },
                        None => Placement::Unusable(format!(
                            "it has no column of the lookup \"{}\"",
                            lookup.name
                        )),
                    }
                }
                None => Placement::Unlisted,
            },
            TableRule::Key { key, column, within } => match column_or_unnamed(table, column) {
                Some(index) => self.sharded(table, *key, index, within.as_deref()),
                None => Placement::Unusable(format!(
                    "the shard map names \"{column}\" as its key column, and it has no such column"
                )),
            },
        }
    }

    fn by_lookup(&self, table: &Table) -> Placement<'_> {
        let qualified = format!("{}.{}", table.schema, table.name);
        for lookup in &self.lookups {
            let listed = lookup.tables.get(&qualified);
            let mut names = listed.into_iter().chain(&lookup.columns);
            if let Some(column) = names.find_map(|name| column_named(table, name)) {
                return Placement::Lookup { name: &lookup.name, column };
            }
        }
        if !table.columns_known && !self.keys.is_empty() {
            return Placement::Unusable(
                "its columns are not known (offline they come from --schema FILE.sql), so it may have a key column that the statement does \
                 not name"
                    .to_owned(),
            );
        }
        Placement::Unlisted
    }

    /// Sharded by `key` with its first part in column `first`, if the columns can hold it.
    fn sharded(&self, table: &Table, id: KeyId, first: u16, within: Option<&str>) -> Placement<'_> {
        let Some(key) = self.key(id) else { return Placement::Unlisted };
        let mut columns = SmallVec::from_slice(&[first]);
        if let Some(name) = within.or(key.within_column.as_deref()) {
            match column_or_unnamed(table, name) {
                Some(column) => columns.push(column),
                None => {
                    return Placement::Unusable(format!(
                        "it has no column \"{name}\", the second part of the key \"{}\"",
                        key.name
                    ));
                }
            }
        }
        for (column, ty) in columns.iter().zip(&key.types) {
            if let Some(column) = table.columns.get(usize::from(*column))
                && let Some(reason) = cannot_hold(column, *ty)
            {
                return Placement::Unusable(reason);
            }
        }
        Placement::Sharded { key: id, columns }
    }
}

fn column_named(table: &Table, name: &str) -> Option<u16> {
    let at = table.columns.iter().position(|column| column.name == name)?;
    u16::try_from(at).ok()
}

fn column_or_unnamed(table: &Table, name: &str) -> Option<u16> {
    column_named(table, name).or((!table.columns_known).then_some(UNNAMED_COLUMN))
}

/// Relations whose columns say nothing of where their rows live.
fn unlisted_kind(kind: RelationKind) -> Option<&'static str> {
    match kind {
        RelationKind::Table | RelationKind::Sequence => None,
        RelationKind::View => Some("view"),
        RelationKind::MaterializedView => Some("materialized view"),
        RelationKind::ForeignTable => Some("foreign table"),
    }
}

/// Why a column can't hold a key of this type.
fn cannot_hold(column: &Column, ty: KeyType) -> Option<String> {
    if !ty.accepts_column(column.base_oid) {
        let found = if column.type_name.is_empty() { "another type" } else { &column.type_name };
        return Some(format!(
            "its key column \"{}\" is of type {found}, and the shard map says {ty}",
            column.name
        ));
    }
    (!column.deterministic).then(|| {
        format!(
            "its key column \"{}\" has a nondeterministic collation: equal keys could have \
             different shards",
            column.name
        )
    })
}
