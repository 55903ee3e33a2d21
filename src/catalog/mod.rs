//! What the schema says: tables, columns, types, keys, collations, views and functions.
//!
//! Main types: [`Catalog`], [`Table`], [`Column`]. A catalog is an immutable value; a change of the
//! schema makes a new one. It is built from rows that others read (`mapstore`) or from a file of
//! CREATE statements (offline `route --schema`), and knows neither sockets nor the shard map.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::datum::Oid;

/// The schema of the logical database.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Grows with each catalog that replaces another.
    pub version: u64,
    /// Every relation, by schema and name.
    pub tables: FxHashMap<(String, String), Arc<Table>>,
    /// User-defined functions (everything outside `pg_catalog` and `information_schema`), by schema and
    /// name; overloads are folded together with the strictest of their facts.
    pub functions: FxHashMap<(String, String), Function>,
    /// True when nothing is known of the schema (offline `route` without `--schema`): tables that are
    /// not listed are taken to exist, with whatever columns the statement names.
    pub open: bool,
}

/// What sort of relation it is (`pg_class.relkind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// Ordinary or partitioned table.
    Table,
    /// View, with its definition.
    View,
    /// Materialized view.
    MaterializedView,
    /// Foreign table.
    ForeignTable,
    /// Sequence.
    Sequence,
}

/// A relation.
#[derive(Debug)]
pub struct Table {
    /// Schema name.
    pub schema: String,
    /// Relation name.
    pub name: String,
    /// What sort of relation it is.
    pub kind: RelationKind,
    /// The columns in `attnum` order, dropped ones left out.
    pub columns: Vec<Column>,
    /// Column indexes of the primary key, empty when there is none.
    pub primary_key: Vec<u16>,
    /// A view's query, as `pg_get_viewdef` writes it under an empty search_path.
    pub view_definition: Option<String>,
    /// It has user triggers or rules: DML on it runs code that the proxy can't see.
    pub has_triggers: bool,
    /// False when the columns are not known (see [`Catalog::open`]).
    pub columns_known: bool,
}

/// A column of a relation.
#[derive(Clone, Debug)]
pub struct Column {
    /// Column name.
    pub name: String,
    /// Type OID on the shard that the catalog was read from; 0 when only the name is known.
    pub type_oid: Oid,
    /// The type's name as `format_type` writes it (`bigint`, `character varying(128)`).
    pub type_name: String,
    /// NOT NULL.
    pub not_null: bool,
    /// False for a nondeterministic collation: equal values may differ in bytes.
    pub deterministic: bool,
    /// It has a default, is an identity or a generated column.
    pub has_default: bool,
}

/// What matters of a user-defined function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// `pg_proc.provolatile`.
    pub volatility: Volatility,
    /// It is an aggregate.
    pub aggregate: bool,
    /// It returns a set.
    pub returns_set: bool,
}

/// `pg_proc.provolatile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volatility {
    /// Same arguments, same result, for ever.
    Immutable,
    /// Same result within one statement.
    Stable,
    /// Anything.
    Volatile,
}
