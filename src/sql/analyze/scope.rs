//! Scopes: which CTEs, tables and columns a name can mean, and where.
//!
//! A scope belongs to a query (its CTEs) or to a SELECT or data-modifying statement (its range table).
//! A derived table's or a CTE's query does not see the range table around it unless it is LATERAL; its
//! scope says so with [`Scope::hide_parent`]. ON sees the two sides of its join alone, which is what
//! [`Scope::window`] and an exchange of [`Scope::visible`] are for. PostgreSQL: `parse_relation.c`,
//! `colNameToVar`, `refnameNamespaceItem`.

use sqlparser::ast;

use super::super::functions;
use super::super::ir::{BlockId, Call, ColumnRef, Scalar, SourceId, Span};
use super::super::parse;
use super::{Lowered, Lowering, unsupported};

/// Index of a scope in its lowering.
pub(super) type ScopeId = usize;

/// A column as a name finds it.
#[derive(Clone, Debug)]
pub(super) struct Visible {
    /// The name; empty when it is not known.
    pub(super) name: String,
    /// The column; `None` when it can't be told (a FULL JOIN's merged column, a function's column).
    pub(super) column: Option<ColumnRef>,
}

/// The columns that unqualified names can mean, in the order of `*`.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    /// The known ones.
    pub(super) list: Vec<Visible>,
    /// There may be others.
    pub(super) incomplete: bool,
}

/// A name in the range table.
#[derive(Debug)]
pub(super) struct Entry {
    /// Alias or table name.
    pub(super) name: String,
    /// The table's schema, if it has no alias.
    pub(super) schema: Option<String>,
    /// What it names; `None` for `excluded`.
    pub(super) source: Option<SourceId>,
    /// Its columns.
    pub(super) columns: Columns,
    /// Its key in the open tables.
    pub(super) open: Option<(String, String)>,
}

/// A common table expression.
pub(super) struct Cte<'t> {
    pub(super) name: String,
    pub(super) definition: &'t ast::Cte,
    /// How many CTEs of its WITH its query sees.
    pub(super) sees: usize,
    pub(super) references: u32,
    pub(super) modifies: bool,
    /// It refers to itself.
    pub(super) recursive: bool,
}

/// What a block holds besides its range table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    pub(super) aggregates: bool,
    pub(super) windows: bool,
    pub(super) returns_set: bool,
}

/// A scope.
#[derive(Default)]
pub(super) struct Scope<'t> {
    pub(super) parent: Option<ScopeId>,
    /// The range table of the parent scope is not visible here.
    pub(super) hide_parent: bool,
    /// How many of the parent's CTEs are visible here; `None` for all.
    pub(super) parent_ctes: Option<usize>,
    pub(super) ctes: Vec<Cte<'t>>,
    pub(super) entries: Vec<Entry>,
    /// Entries before this one are not visible (inside ON).
    pub(super) window: usize,
    pub(super) visible: Columns,
    pub(super) flags: Flags,
    /// All of its rows have this in `name`, and they are the one row of `pg_settings` that has.
    pub(super) setting: Option<Scalar>,
}

/// Where a query stands.
#[derive(Clone, Copy)]
pub(super) struct Outside {
    pub(super) block: Option<BlockId>,
    pub(super) scope: ScopeId,
    /// It does not see the range table around it.
    pub(super) hide: bool,
    /// How many of the CTEs around it it sees.
    pub(super) ctes: Option<usize>,
}

impl Outside {
    /// The outermost query.
    pub(super) fn top() -> Self {
        Self { block: None, scope: 0, hide: false, ctes: None }
    }
}

/// How a lookup in one list of columns ended.
enum Found {
    One(Option<ColumnRef>),
    Ambiguous,
    Missing,
}

impl Columns {
    fn find(&self, name: &str) -> Found {
        let mut found = Found::Missing;
        for visible in self.list.iter().filter(|v| v.name == name) {
            found = match found {
                Found::Missing => Found::One(visible.column),
                Found::One(_) | Found::Ambiguous => return Found::Ambiguous,
            };
        }
        found
    }

    /// Adds another list.
    pub(super) fn append(&mut self, other: &Self) {
        self.list.extend(other.list.iter().cloned());
        self.incomplete |= other.incomplete;
    }
}

/// Columns that every table has, and that `*` leaves out.
const SYSTEM_COLUMNS: &[&str] = &["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

/// What a name resolved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// A column.
    Column(ColumnRef),
    /// A column or something else that can't be told.
    Unclear,
    /// Nothing has this name, here or further out.
    Nothing,
}

impl Resolved {
    pub(super) fn column(self) -> Option<ColumnRef> {
        match self {
            Self::Column(column) => Some(column),
            Self::Unclear | Self::Nothing => None,
        }
    }
}

impl<'t> Lowering<'t, '_> {
    pub(super) fn push_scope(&mut self, scope: Scope<'t>) -> ScopeId {
        self.scopes.push(scope);
        self.scopes.len() - 1
    }

    pub(super) fn scope_mut(&mut self) -> &mut Scope<'t> {
        // The first scope always exists, and ids come from push_scope alone.
        let id = self.scope.min(self.scopes.len() - 1);
        &mut self.scopes[id]
    }

    /// An unqualified name, as a column of this scope or of one further out.
    pub(super) fn resolve(&mut self, name: &str) -> Resolved {
        let mut at = Some(self.scope);
        let mut hidden = false;
        while let Some(id) = at {
            if !hidden && let Some(found) = self.resolve_here(id, name) {
                return self.noted(found);
            }
            let Some(scope) = self.scopes.get(id) else { break };
            hidden = scope.hide_parent;
            at = scope.parent;
        }
        self.noted(Resolved::Nothing)
    }

    /// An unqualified name in one scope; `None` to look further out.
    pub(super) fn resolve_here(&mut self, id: ScopeId, name: &str) -> Option<Resolved> {
        let scope = self.scopes.get(id)?;
        match scope.visible.find(name) {
            Found::One(Some(column)) => return Some(Resolved::Column(column)),
            Found::One(None) | Found::Ambiguous => return Some(Resolved::Unclear),
            Found::Missing => {}
        }
        let entries = scope.entries.get(scope.window..).unwrap_or_default();
        if !entries.is_empty() && SYSTEM_COLUMNS.contains(&name) {
            self.system_column(name);
            return Some(Resolved::Unclear);
        }
        if entries.iter().any(|e| e.name == name) {
            return Some(Resolved::Unclear); // the whole row
        }
        if !scope.visible.incomplete {
            return None;
        }
        if let [Entry { open: Some(_), .. }] = entries {
            let entry = scope.window;
            return Some(
                self.add_open_column(id, entry, name).map_or(Resolved::Unclear, Resolved::Column),
            );
        }
        Some(Resolved::Unclear)
    }

    /// `table.column` or `schema.table.column`.
    pub(super) fn resolve_qualified(
        &mut self,
        schema: Option<&str>,
        table: &str,
        column: &str,
    ) -> Resolved {
        let mut at = Some(self.scope);
        let mut hidden = false;
        while let Some(id) = at {
            if !hidden && let Some(entry) = self.find_entry(id, schema, table) {
                let found = self.resolve_in_entry(id, entry, column);
                return self.noted(found);
            }
            let Some(scope) = self.scopes.get(id) else { break };
            hidden = scope.hide_parent;
            at = scope.parent;
        }
        self.noted(Resolved::Nothing)
    }

    /// The range-table entry of a qualifier, in one scope.
    pub(super) fn find_entry(
        &self,
        id: ScopeId,
        schema: Option<&str>,
        table: &str,
    ) -> Option<usize> {
        let scope = self.scopes.get(id)?;
        let mut entries = scope.entries.iter().enumerate().skip(scope.window);
        let matches =
            |e: &Entry| e.name == table && schema.is_none_or(|s| e.schema.as_deref() == Some(s));
        entries.find(|(_, e)| matches(e)).map(|(i, _)| i)
    }

    fn resolve_in_entry(&mut self, id: ScopeId, entry: usize, column: &str) -> Resolved {
        let Some(found) = self.scopes.get(id).and_then(|s| s.entries.get(entry)) else {
            return Resolved::Nothing;
        };
        match found.columns.find(column) {
            Found::One(Some(column)) => return Resolved::Column(column),
            Found::One(None) | Found::Ambiguous => return Resolved::Unclear,
            Found::Missing => {}
        }
        if found.open.is_some() && !SYSTEM_COLUMNS.contains(&column) {
            return self
                .add_open_column(id, entry, column)
                .map_or(Resolved::Unclear, Resolved::Column);
        }
        if SYSTEM_COLUMNS.contains(&column) {
            self.system_column(column);
            return Resolved::Unclear;
        }
        // `t.f` calls f(t) when t has no column f.
        self.field_call(column);
        Resolved::Unclear
    }

    /// Records a system column as a call whose value nothing in the row says: another server has another
    /// one, and two servers have the same.
    fn system_column(&mut self, name: &str) {
        let (name, kind) = (name.to_owned(), crate::sql::ir::CallKind::Volatile);
        self.arena.calls.push(Call { name, kind, span: Span::default(), block: self.block });
    }

    /// Records the call that a field selection may be: `row.f` is `f(row)` when the row has no field f.
    pub(super) fn field_call(&mut self, field: &str) {
        if self.catalog.resolve_function(&self.names, None, field).is_some() {
            let called = functions::classify(field, None, self.catalog, &self.names);
            let call = Call {
                name: field.to_owned(),
                kind: called.kind,
                span: Span::default(),
                block: self.block,
            };
            self.arena.calls.push(call);
        }
    }

    /// Gives an open table another column.
    pub(super) fn add_open_column(
        &mut self,
        id: ScopeId,
        entry: usize,
        name: &str,
    ) -> Option<ColumnRef> {
        let scope = self.scopes.get_mut(id)?;
        let found = scope.entries.get_mut(entry)?;
        let table = self.arena.open.get_mut(found.open.as_ref()?)?;
        let index = table.columns.iter().position(|c| c == name).unwrap_or_else(|| {
            table.columns.push(name.to_owned());
            table.columns.len() - 1
        });
        let column = ColumnRef { source: found.source?, column: u16::try_from(index).ok()? };
        let visible = Visible { name: name.to_owned(), column: Some(column) };
        found.columns.list.push(visible.clone());
        scope.visible.list.push(visible);
        Some(column)
    }

    /// Notes the use of a column, and counts a reference inside an aggregate's arguments.
    pub(super) fn noted(&mut self, found: Resolved) -> Resolved {
        match found {
            Resolved::Column(column) => {
                self.arena.used.insert(column);
            }
            Resolved::Unclear => self.arena.uses_unclear = true,
            Resolved::Nothing => {}
        }
        let block =
            found.column().and_then(|c| self.arena.sources.get(c.source as usize)).map(|s| s.block);
        if block == Some(self.block) {
            self.aggregate_refs.0 += 1;
        } else {
            self.aggregate_refs.1 += 1;
        }
        found
    }

    /// A column by an expression that is nothing but its name.
    pub(super) fn column(&mut self, parts: &[ast::Ident]) -> Lowered<Resolved> {
        if let Some(word) = parts.first().filter(|ident| parse::is_misread(ident)) {
            return unsupported(&format!("{} here", word.value));
        }
        Ok(match parts {
            [column] => self.resolve(&parse::name(column)),
            [table, column] => {
                self.resolve_qualified(None, &parse::name(table), &parse::name(column))
            }
            [schema, table, column] => self.resolve_qualified(
                Some(&parse::name(schema)),
                &parse::name(table),
                &parse::name(column),
            ),
            _ => Resolved::Unclear,
        })
    }

    /// Finds a CTE by name: its scope and index.
    pub(super) fn find_cte(&self, name: &str) -> Option<(ScopeId, usize)> {
        let mut at = Some(self.scope);
        let mut limit = None;
        while let Some(id) = at {
            let scope = self.scopes.get(id)?;
            let visible = limit.unwrap_or(scope.ctes.len()).min(scope.ctes.len());
            if let Some(index) = scope.ctes.iter().take(visible).position(|c| c.name == name) {
                return Some((id, index));
            }
            limit = scope.parent_ctes;
            at = scope.parent;
        }
        None
    }

    /// Marks the aggregates of an aggregate call that refers to outer columns only: it belongs to one of
    /// the blocks further out.
    pub(super) fn mark_outer_aggregates(&mut self) {
        let mut at = Some(self.scope);
        while let Some(scope) = at.and_then(|id| self.scopes.get_mut(id)) {
            scope.flags.aggregates = true;
            at = scope.parent;
        }
    }
}
