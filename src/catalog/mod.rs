//! What the schema says: tables, columns, types, keys, collations, views and functions.
//!
//! Main types: [`Catalog`], [`Table`], [`Column`]. A catalog is an immutable value; a change of the
//! schema makes a new one. It is built from rows that others read (`mapstore`, with the queries of
//! [`read`]) or from a file of CREATE statements (offline `route --schema`; `sql::ddl`), and knows
//! neither sockets nor the shard map. System catalogs are not in it.

mod check;
pub mod numbers;
pub mod read;

use std::sync::Arc;

use rustc_hash::FxHashMap;

pub use self::check::{SHARD_NUMBER, ShardCheck, snowflake_shard};
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
    /// What user-defined types and tables are numbered there.
    pub numbers: Arc<numbers::Numbers>,
    /// Stands for everything that was read: another schema has another one. 0 where nothing was read.
    pub fingerprint: u64,
    /// The types beneath domains that columns have, as [`Column::base_oid`].
    pub domains: FxHashMap<Oid, Oid>,
    /// What `search_path` is where a session doesn't set it, by how closely it is meant.
    pub search_paths: Vec<DefaultPath>,
    /// True when nothing is known of the schema (offline `route` without `--schema`): tables that are
    /// not listed are taken to exist, with whatever columns the statement names.
    pub open: bool,
}

/// A default of `search_path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultPath {
    /// The greater one wins: 0 the server's, 1 for everyone everywhere, 2 for everyone in this database, 3 a
    /// role's, 4 a role's in this database (`process_settings` in `postinit.c`).
    pub rank: u8,
    /// Whose; `None` for everyone's.
    pub role: Option<String>,
    /// The setting's text.
    pub value: String,
}

/// How names without a schema are resolved.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The session's `search_path`, as set: schema names, `$user` verbatim. `pg_catalog` comes first unless
    /// it is listed.
    pub search_path: &'a [String],
    /// What `$user` stands for.
    pub user: &'a str,
}

impl<'a> Names<'a> {
    /// Nothing that users have made hides what is PostgreSQL's own.
    pub fn has_system_first(&self) -> bool {
        self.search_path.iter().position(|schema| schema == "pg_catalog").is_none_or(|at| at == 0)
    }

    /// The schemas that are searched, in order, without `pg_catalog` and the session's temporary one.
    pub fn schemas(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let user = self.user;
        let schemas =
            self.search_path.iter().map(move |s| if s == "$user" { user } else { s.as_str() });
        schemas.filter(|s| *s != "pg_catalog" && *s != "pg_temp")
    }
}

impl Catalog {
    /// A catalog of which nothing is known: any table is taken to exist (see [`Catalog::open`]).
    pub fn unknown() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// The relation that a name means: in its schema if one was written, else in the first schema of the
    /// search path that has it.
    pub fn resolve(
        &self,
        names: &Names<'_>,
        schema: Option<&str>,
        name: &str,
    ) -> Option<Arc<Table>> {
        let find = |schema: &str| self.tables.get(&(schema.to_owned(), name.to_owned())).cloned();
        match schema {
            Some(schema) => find(schema),
            None => names.schemas().find_map(find),
        }
    }

    /// The type itself, or what is beneath the domain.
    #[inline]
    pub fn base_type(&self, oid: Oid) -> Oid {
        if self.domains.is_empty() { oid } else { self.domains.get(&oid).copied().unwrap_or(oid) }
    }

    /// What `search_path` is for a role that doesn't set it; `None` where nobody has changed it.
    pub fn default_search_path(&self, role: &str) -> Option<&str> {
        let meant = |path: &&DefaultPath| path.role.as_deref().is_none_or(|r| r == role);
        let path = self.search_paths.iter().filter(meant).max_by_key(|path| path.rank)?;
        Some(&path.value)
    }

    /// The user-defined functions that a name can mean. Without a schema all schemas of the search path
    /// count, since which overload is called depends on the arguments' types.
    pub fn resolve_function(
        &self,
        names: &Names<'_>,
        schema: Option<&str>,
        name: &str,
    ) -> Option<Function> {
        let find =
            |schema: &str| self.functions.get(&(schema.to_owned(), name.to_owned())).copied();
        match schema {
            Some(schema) => find(schema),
            None => names.schemas().filter_map(find).reduce(Function::strictest),
        }
    }
}

impl Function {
    /// What holds of a call that may mean either of two functions.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        Self {
            volatility: self.volatility.max(other.volatility),
            aggregate: self.aggregate || other.aggregate,
            returns_set: self.returns_set || other.returns_set,
            of_extension: self.of_extension && other.of_extension,
            random_uuid: self.random_uuid && other.random_uuid,
        }
    }

    /// A call by this name does no more than PostgreSQL's own functions do: an extension made it, and it says of
    /// itself that it depends on nothing but its arguments. (An aggregate says nothing of itself. Those that pick
    /// one of their values can be named: citext has them, under the names of PostgreSQL's own.)
    pub fn is_as_built_in(&self, name: &str) -> bool {
        self.of_extension
            && self.volatility == Volatility::Immutable
            && (!self.aggregate || matches!(name, "min" | "max"))
    }
}

impl Table {
    /// A table of which these columns are all that is known.
    pub fn plain(schema: impl Into<String>, name: impl Into<String>, columns: Vec<Column>) -> Self {
        Self {
            schema: schema.into(),
            name: name.into(),
            kind: RelationKind::Table,
            columns,
            primary_key: Vec::new(),
            view_definition: None,
            has_triggers: false,
            has_rules: false,
            columns_known: true,
            parents: Vec::new(),
            heirs: Vec::new(),
            before_row: Vec::new(),
        }
    }

    /// The index of a column.
    pub fn column(&self, name: &str) -> Option<u16> {
        self.columns.iter().position(|c| c.name == name).and_then(|i| u16::try_from(i).ok())
    }
}

impl Column {
    /// A column of which only the name is known.
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            shard_check: ShardCheck::presumed(&name),
            name,
            type_oid: 0,
            base_oid: 0,
            type_name: String::new(),
            not_null: false,
            deterministic: true,
            has_default: false,
            default: DefaultValue::Other,
            bytewise: false,
        }
    }
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
#[derive(Clone, Debug)]
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
    /// A view's query, as `pg_get_viewdef` writes it under an empty `search_path`.
    pub view_definition: Option<String>,
    /// It has user triggers or rules, or functions of users' in defaults and checks, or writing to it leads to
    /// a table that has: DML on it runs code that the proxy can't see.
    pub has_triggers: bool,
    /// The functions of its BEFORE ROW triggers of INSERT and UPDATE, and of its partitions': language and
    /// source. Those in C are left out.
    pub before_row: Vec<(String, String)>,
    /// It has rules besides a view's own: what is written to it becomes other statements.
    pub has_rules: bool,
    /// False when the columns are not known (see [`Catalog::open`]).
    pub columns_known: bool,
    /// Schema and name of the tables that it is a partition or a child of, nearest first.
    pub parents: Vec<(String, String)>,
    /// Its partitions and children, at any depth: their rows are read through it.
    pub heirs: Vec<Heir>,
}

/// A partition or a child of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heir {
    /// Schema name.
    pub schema: String,
    /// Relation name.
    pub name: String,
    /// Names of the columns that its parent doesn't have.
    pub more_columns: Vec<String>,
}

/// A column of a relation.
#[derive(Clone, Debug)]
pub struct Column {
    /// Column name.
    pub name: String,
    /// Type OID on the shard that the catalog was read from; 0 when only the name is known.
    pub type_oid: Oid,
    /// The type beneath, if it is a domain that changes no value; else the same.
    pub base_oid: Oid,
    /// The type's name as `format_type` writes it (`bigint`, `character varying(128)`).
    pub type_name: String,
    /// NOT NULL.
    pub not_null: bool,
    /// False for a nondeterministic collation: equal values may differ in bytes.
    pub deterministic: bool,
    /// It has a default, is an identity or a generated column.
    pub has_default: bool,
    /// Where its default's values come from.
    pub default: DefaultValue,
    /// Its collation compares bytes: C, POSIX, the provider `builtin`.
    pub bytewise: bool,
    /// What a CHECK says of it and the row's shard.
    pub shard_check: ShardCheck,
}

/// Where the values of a column's default come from, as far as that matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultValue {
    /// Anywhere, or there is none.
    #[default]
    Other,
    /// `gen_random_uuid()` or the like: whoever makes one, it is as good.
    RandomUuid,
    /// A sequence: serial and identity columns.
    Sequence,
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
    /// An extension made it.
    pub of_extension: bool,
    /// It takes nothing and returns a random UUID, as an extension of PostgreSQL's own has it.
    pub random_uuid: bool,
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
