//! Rule *workspace*: a read that no shard can answer for itself runs on one of them, the *host*, over
//! scratch tables that hold what the others have.
//!
//! Main types: [`Shape`], compiled once per shape (which tables, which of their columns, where they stand in
//! the text), and [`Workspace`], what one execution needs: what is fetched from where, and the statement as
//! the host runs it. Every place where a fetched table stands is spliced to the scratch table's name, with
//! the old name as its alias; a view becomes its definition, spliced likewise. Nothing is hidden by name.
//!
//! Why it is exact: the host's PostgreSQL computes the answer, and of each table it has every row that can
//! influence it (the invariant of [`super::facts`]): all rows of the shards on which they can live, less those
//! whose key the statement rules out. Where a transaction sees rows of its own ([`super::Scope::own_rows`]), all
//! rows come from its own connections. What would mean something else there is refused ([`Shape::compile`]): system columns and catalogs, row locks, writes, functions that read tables or belong to a session.

use std::fmt::Write as _;
use std::sync::Arc;

use super::Inputs;
use super::combine::{Pushed, Single};
use super::compile::{Occurrence, Query};
use super::construct::is_system_column;
use super::freeze;
use super::refusal::Construct;
use super::restrict::Region;
use super::scope::Resolved;
use super::splice::{Edits, value_sql};
use super::via;
use crate::catalog::Table;
use crate::datum::KeyType;
use crate::error::SqlError;
use crate::map::{FunctionRule, Placement, ShardId, ShardMap, ShardSet};
use crate::sql::ir::{Analysis, BlockKind, CallKind, ColumnRef, SourceKind, Span};
use crate::sql::quote::quote_identifier;

/// What scratch tables are called, before their number.
const SCRATCH_NAME: &str = "pgmeridian_scratch_";

/// What one execution needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// The shard that runs the statement.
    pub host: ShardId,
    /// The scratch tables.
    pub tables: Vec<Scratch>,
    /// The statement as the host runs it.
    pub sql: String,
    /// The tables that are read through views, as names of SQL.
    pub viewed: Vec<String>,
    /// The shards add up, and the host adds up what they give.
    pub combined: bool,
    /// Why the shards can't answer it by themselves.
    pub why: String,
}

/// A scratch table, and where its rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// The table that it stands for, for people.
    pub table: String,
    /// Its name, qualified.
    pub name: String,
    /// What makes it.
    pub create: String,
    /// Which rows, on which shard: a query that gives the scratch table's columns.
    pub fetches: Vec<(ShardId, String)>,
}

/// A query's shape, as far as a workspace is concerned.
#[derive(Debug)]
pub(super) struct Shape {
    relations: Vec<Relation>,
    spots: Vec<Spot>,
    /// Primary keys are needed: GROUP BY may depend on them.
    grouped: bool,
    /// Views are read.
    views: bool,
    /// It reads one table, and the shards can do a part of the work.
    single: Option<Single>,
}

/// A table that is read.
#[derive(Debug)]
struct Relation {
    table: Arc<Table>,
    only: bool,
    /// The columns that are needed; all if they can't be told.
    columns: Option<Vec<u16>>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// On the shards of these occurrences' keys.
    Sharded(Vec<usize>),
    /// On one shard.
    Fixed(ShardId),
    /// The same on every shard.
    Reference,
}

/// Where a table or a view stands in a text.
#[derive(Debug)]
struct Spot {
    span: Span,
    what: What,
    /// The alias to add: `None` when one is written.
    alias: Option<String>,
}

#[derive(Debug)]
enum What {
    Relation(usize),
    View { view: Arc<Table>, text: String, spots: Vec<Spot> },
}

impl Shape {
    /// Compiles a query, or says what a workspace can't do for it.
    pub(super) fn compile(
        analysis: &Analysis,
        occurrences: &[Occurrence],
        map: &ShardMap,
    ) -> Result<Self, Construct> {
        refuse_functions(analysis, map)?;
        if analysis.samples {
            return Err(Construct::Sample);
        }
        if analysis.locks_rows {
            return Err(Construct::RowLocks);
        }
        let writes = |kind: &BlockKind| {
            matches!(
                kind,
                BlockKind::Insert(_)
                    | BlockKind::Update(_)
                    | BlockKind::Delete(_)
                    | BlockKind::Merge(_)
            )
        };
        if analysis.blocks.iter().any(|block| writes(&block.kind)) {
            return Err(Construct::WritingCte);
        }
        let grouped = analysis.blocks.iter().any(
            |block| matches!(&block.kind, BlockKind::Select(select) if !select.group_by.is_empty()),
        );
        let mut shape =
            Self { relations: Vec::new(), spots: Vec::new(), grouped, views: false, single: None };
        for (id, source) in (0..).zip(&analysis.sources) {
            match &source.kind {
                SourceKind::Table(table) => {
                    let at = shape.relation(table, source.alone, map)?;
                    let occurrence = occurrences.iter().position(|o| o.source == id);
                    shape.add_use(analysis, at, id, occurrence);
                }
                SourceKind::SystemCatalog => return Err(Construct::SystemCatalog),
                SourceKind::Unknown(name) => return Err(Construct::UnknownTable(name.clone())),
                SourceKind::Derived(_) | SourceKind::Function | SourceKind::RecursiveSelf => {}
            }
        }
        shape.views = !analysis.views.is_empty();
        shape.spots = shape.spots_of(analysis)?;
        shape.single = Single::of(analysis, map);
        Ok(shape)
    }

    /// The table among those that are read, added if it is new.
    fn relation(
        &mut self,
        table: &Arc<Table>,
        only: bool,
        map: &ShardMap,
    ) -> Result<usize, Construct> {
        if let Some(at) = self.position(table, only) {
            return Ok(at);
        }
        if table.name.starts_with(SCRATCH_NAME) {
            return Err(Construct::UnknownTable(table.name.clone()));
        }
        // What a row of another shard has in it is that shard's OID.
        if let Some(column) = table.columns.iter().find(|c| c.type_name.starts_with("reg")) {
            return Err(Construct::Function(column.type_name.clone()));
        }
        let place = match map.placement(table) {
            Placement::Sharded { .. } => Place::Sharded(Vec::new()),
            Placement::Reference => Place::Reference,
            Placement::Single(shard) => Place::Fixed(shard),
            Placement::Unlisted => Place::Fixed(map.default_shard()),
            Placement::Lookup { name, .. } if via::home(map, name).is_some() => {
                Place::Sharded(Vec::new())
            }
            // Refused before: they have no usable place.
            Placement::Lookup { .. } | Placement::Unusable(_) => {
                return Err(Construct::SingleTable(table.name.clone()));
            }
        };
        self.relations.push(Relation {
            table: Arc::clone(table),
            only,
            columns: Some(Vec::new()),
            place,
        });
        Ok(self.relations.len() - 1)
    }

    fn position(&self, table: &Table, only: bool) -> Option<usize> {
        self.relations.iter().position(|relation| {
            relation.only == only
                && relation.table.schema == table.schema
                && relation.table.name == table.name
        })
    }

    fn add_use(&mut self, analysis: &Analysis, at: usize, source: u32, occurrence: Option<usize>) {
        let Some(relation) = self.relations.get_mut(at) else { return };
        if let (Place::Sharded(all), Some(occurrence)) = (&mut relation.place, occurrence) {
            all.push(occurrence);
        }
        if analysis.uses_unclear || !relation.table.columns_known {
            relation.columns = None;
        }
        let Some(columns) = &mut relation.columns else { return };
        let used = |column: &u16| analysis.used.contains(&ColumnRef { source, column: *column });
        let width = u16::try_from(relation.table.columns.len()).unwrap_or(u16::MAX);
        columns.extend((0..width).filter(used));
        columns.sort_unstable();
        columns.dedup();
    }

    /// The places of tables and views in an analysis's own text.
    fn spots_of(&self, analysis: &Analysis) -> Result<Vec<Spot>, Construct> {
        let mut spots: Vec<Spot> = Vec::new();
        for view in &analysis.views {
            if view.only {
                return Err(Construct::Derived(format!("ONLY view \"{}\"", view.view.name)));
            }
            if spots.iter().any(|spot| spot.span == view.span) {
                continue;
            }
            let inner = self.spots_of(&view.body)?;
            spots.push(Spot {
                span: view.span,
                what: What::View {
                    view: Arc::clone(&view.view),
                    text: view.text.clone(),
                    spots: inner,
                },
                alias: (!view.aliased).then(|| view.name.clone()),
            });
        }
        for source in &analysis.sources {
            let SourceKind::Table(table) = &source.kind else { continue };
            // What a view expands to is said to stand where the view's name does, and a CTE stands for
            // each of its references.
            if spots.iter().any(|spot| spot.span == source.span) {
                continue;
            }
            let Some(at) = self.position(table, source.alone) else { continue };
            spots.push(Spot {
                span: source.span,
                what: What::Relation(at),
                alias: (!source.aliased).then(|| source.name.clone()),
            });
        }
        spots.sort_by_key(|spot| spot.span.start);
        Ok(spots)
    }
}

/// Functions that mean something else on the host, or belong to a session.
fn refuse_functions(analysis: &Analysis, map: &ShardMap) -> Result<(), Construct> {
    for call in &analysis.calls {
        let same = match call.kind {
            CallKind::Pure | CallKind::Stable | CallKind::Time => true,
            CallKind::Volatile => !is_servers_own(&call.name),
            CallKind::User(_) => map.function(&call.name) == Some(FunctionRule::Pure),
            CallKind::Sequence
            | CallKind::AdvisoryLock { .. }
            | CallKind::Setting
            | CallKind::Measures
            | CallKind::Notifies
            | CallKind::ReadsTables => false,
        };
        if !same {
            return Err(Construct::Function(call.name.clone()));
        }
    }
    Ok(())
}

/// Columns that every table has (manual, "System Columns"): a scratch table's are its own. Casts to OIDs that
/// are written as names (manual, "Object Identifier Types"): the host has others than the rows' shards.
fn is_servers_own(name: &str) -> bool {
    name.starts_with("reg") || name.starts_with("to_reg") || is_system_column(name)
}

/// The values that one execution is planned with.
pub(super) struct Values<'v, 'p> {
    pub(super) query: &'v Query,
    pub(super) map: &'v ShardMap,
    pub(super) inputs: &'v Inputs<'v>,
    pub(super) scope: &'v Resolved<'p>,
    /// The keys that matter, for each occurrence, and their shards.
    pub(super) regions: &'v [Region<'p>],
    pub(super) shards: Vec<&'v ShardSet>,
}

impl Values<'_, '_> {
    /// The shards of these occurrences.
    fn shards_of(&self, occurrences: &[usize]) -> ShardSet {
        let mut shards = ShardSet::default();
        for own in occurrences.iter().filter_map(|at| self.shards.get(*at)) {
            shards.union_with(own);
        }
        shards
    }

    /// What rows of a shard have to meet that is not the home of a frozen key.
    fn of_moving(
        &self,
        occurrences: &[usize],
        shard: ShardId,
    ) -> impl Iterator<Item = Result<Option<String>, SqlError>> {
        occurrences.iter().filter_map(move |at| {
            let (own, region) = (self.query.occurrences.get(*at)?, self.regions.get(*at)?);
            Some(freeze::condition(self.map, own, region, shard, self.inputs.utf8))
        })
    }
}

impl Shape {
    /// Whether rows of frozen keys can be told from their copies.
    ///
    /// # Errors
    ///
    /// Those of [`freeze::condition`].
    pub(super) fn check_moving(&self, values: &Values<'_, '_>) -> Result<(), SqlError> {
        for relation in self.relations.iter().filter(|_| !values.map.freezes().is_empty()) {
            let Place::Sharded(occurrences) = &relation.place else { continue };
            for shard in values.shards_of(occurrences).iter() {
                values.of_moving(occurrences, shard).collect::<Result<Vec<_>, _>>()?;
            }
        }
        Ok(())
    }

    /// Plans one execution; `None` if the places don't fit the text. `all` are the shards that any of the
    /// statement's tables live on.
    pub(super) fn plan(
        &self,
        values: &Values<'_, '_>,
        all: &ShardSet,
        mut edits: Edits<'_>,
        why: String,
    ) -> Option<Workspace> {
        let host = self.host(values, all);
        let first = format!("pg_temp.{SCRATCH_NAME}1");
        let pushed = self.single.as_ref().and_then(|single| single.push(values.inputs, &first));
        if let (Some(Pushed::Groups { sql, .. }), [relation]) = (&pushed, self.relations.as_slice())
        {
            let scratch = self.scratch(relation, values, host, pushed.as_ref(), first)?;
            let (sql, tables) = (sql.clone(), vec![scratch]);
            return Some(Workspace { host, tables, sql, viewed: Vec::new(), combined: true, why });
        }
        let mut tables = Vec::new();
        let mut names: Vec<Option<String>> = Vec::with_capacity(self.relations.len());
        for relation in &self.relations {
            let name = format!("pg_temp.{SCRATCH_NAME}{}", tables.len() + 1);
            let scratch = self.scratch(relation, values, host, pushed.as_ref(), name);
            names.push(scratch.as_ref().map(|scratch| scratch.name.clone()));
            tables.extend(scratch);
        }
        let mut renamed = Vec::new();
        for spot in &self.spots {
            let table = match &spot.what {
                What::Relation(at) => self.relations.get(*at).map(|relation| &relation.table),
                What::View { view, .. } => Some(view),
            };
            let Some(text) = spot.text(&names) else { continue };
            edits.replace_relation(spot.span, text);
            if let (Some(table), Some(_)) = (table, &spot.alias) {
                renamed.push((table.schema.as_str(), table.name.as_str()));
            }
        }
        edits.drop_schemas(&renamed);
        let sql = edits.apply()?;
        let name = |relation: &Relation| {
            format!(
                "{}.{}",
                quote_identifier(&relation.table.schema),
                quote_identifier(&relation.table.name)
            )
        };
        let viewed =
            if self.views { self.relations.iter().map(name).collect() } else { Vec::new() };
        Some(Workspace { host, tables, sql, viewed, combined: false, why })
    }

    /// The scratch table for a table; `None` if the host has all its rows and nobody else.
    fn scratch(
        &self,
        relation: &Relation,
        values: &Values<'_, '_>,
        host: ShardId,
        pushed: Option<&Pushed>,
        name: String,
    ) -> Option<Scratch> {
        let parts = relation.parts(values, host)?;
        let columns = relation.column_list(self.grouped);
        let from = self.single.as_ref().map_or_else(|| relation.from(), Single::relation);
        let (columns, condition, grouping, tail) = match pushed {
            None => (columns, None, "", ""),
            Some(Pushed::Rows { condition, tail }) => {
                (columns, condition.as_ref(), "", tail.as_str())
            }
            Some(Pushed::Groups { columns, group_by, condition, .. }) => {
                (columns.clone(), condition.as_ref(), group_by.as_str(), "")
            }
        };
        let select = |mut conditions: Vec<String>| {
            conditions.extend(condition.map(|condition| format!("({condition})")));
            let filter = if conditions.is_empty() {
                String::new()
            } else {
                format!(" WHERE {}", conditions.join(" AND "))
            };
            format!("SELECT {columns} FROM {from}{filter}{grouping}{tail}")
        };
        let mut create = format!(
            "CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS SELECT {columns} FROM {from}{grouping} WITH NO DATA"
        );
        let key = &relation.table.primary_key;
        if self.grouped && !key.is_empty() && !matches!(pushed, Some(Pushed::Groups { .. })) {
            let columns: Vec<String> = key.iter().filter_map(|c| relation.column(*c)).collect();
            let _ = write!(create, "; ALTER TABLE {name} ADD PRIMARY KEY ({})", columns.join(", "));
        }
        Some(Scratch {
            table: format!("{}.{}", relation.table.schema, relation.table.name),
            create,
            name,
            fetches: parts.into_iter().map(|(shard, part)| (shard, select(part))).collect(),
        })
    }

    /// A view's definition has a backslash in it, which reads as something else without
    /// `standard_conforming_strings`.
    pub(super) fn has_backslash(&self) -> bool {
        fn any(spots: &[Spot]) -> bool {
            spots.iter().any(|spot| match &spot.what {
                What::Relation(_) => false,
                What::View { text, spots, .. } => text.contains('\\') || any(spots),
            })
        }
        any(&self.spots)
    }

    /// The home shard if it has a part in it (so no row travels to a shard that the statement has nothing to
    /// do with), else the first one that does and has all tables.
    fn host(&self, values: &Values<'_, '_>, all: &ShardSet) -> ShardId {
        let home = values.map.default_shard();
        if all.contains(home) {
            return home;
        }
        let keys = || values.query.occurrences.iter().map(|o| values.map.key_shards(o.key));
        let has_all = |shard: &ShardId| {
            keys().all(|having| having.contains(*shard))
                && self.relations.iter().all(|relation| match relation.place {
                    Place::Fixed(only) => only == *shard,
                    Place::Sharded(_) | Place::Reference => true,
                })
        };
        all.iter().find(has_all).unwrap_or(home)
    }
}

impl Relation {
    /// Where its rows are fetched from, and under which conditions; `None` if the host has them all and nobody
    /// else. (What a transaction has written is on its own connections, and the host runs on another one.)
    fn parts(&self, values: &Values<'_, '_>, host: ShardId) -> Option<Vec<(ShardId, Vec<String>)>> {
        match &self.place {
            Place::Reference if values.scope.own_rows => Some(vec![(host, Vec::new())]),
            Place::Reference => None,
            Place::Fixed(shard) if *shard == host && !values.scope.own_rows => None,
            Place::Fixed(shard) => Some(vec![(*shard, Vec::new())]),
            Place::Sharded(occurrences) => {
                let mut conditions: Vec<String> = key_condition(values, occurrences);
                let everywhere = self.everywhere(values.map);
                let mut fetches = Vec::new();
                for (n, shard) in values.shards_of(occurrences).iter().enumerate() {
                    if n == 1 {
                        // What is on every shard has come from the first one.
                        conditions.extend(everywhere.clone());
                    }
                    let mut own = conditions.clone();
                    for condition in values.of_moving(occurrences, shard).flatten().flatten() {
                        if !own.contains(&condition) {
                            own.push(condition);
                        }
                    }
                    fetches.push((shard, own));
                }
                Some(fetches)
            }
        }
    }

    /// Leaves out the rows that every shard has.
    fn everywhere(&self, map: &ShardMap) -> Vec<String> {
        let (schema, name) = (&self.table.schema, &self.table.name);
        let rules = map.everywhere_rows().iter();
        let own = rules.filter(|rule| rule.schema == *schema && rule.table == *name);
        own.map(|rule| format!("(({}) IS NOT TRUE)", rule.predicate)).collect()
    }

    fn from(&self) -> String {
        let only = if self.only { "ONLY " } else { "" };
        format!(
            "{only}{}.{}",
            quote_identifier(&self.table.schema),
            quote_identifier(&self.table.name)
        )
    }

    fn column(&self, column: u16) -> Option<String> {
        self.table.columns.get(usize::from(column)).map(|column| quote_identifier(&column.name))
    }

    /// The columns that the scratch table has, in the table's order.
    fn column_list(&self, grouped: bool) -> String {
        let Some(columns) = &self.columns else { return "*".to_owned() };
        let mut columns = columns.clone();
        if grouped {
            columns.extend(&self.table.primary_key);
        }
        if columns.is_empty() {
            // Rows without a column can't be copied.
            columns.push(0);
        }
        columns.sort_unstable();
        columns.dedup();
        let names: Vec<String> = columns.iter().filter_map(|c| self.column(*c)).collect();
        if names.is_empty() { "*".to_owned() } else { names.join(", ") }
    }
}

/// What the keys of the rows meet: what the statement says of each occurrence, and what the session
/// filters by.
fn key_condition(values: &Values<'_, '_>, occurrences: &[usize]) -> Vec<String> {
    let mut conditions = Vec::new();
    let mut alternatives: Option<Vec<String>> = Some(Vec::new());
    for at in occurrences {
        let (Some(occurrence), Some(region)) =
            (values.query.occurrences.get(*at), values.regions.get(*at))
        else {
            continue;
        };
        let names = occurrence.column_names();
        if names.is_empty() {
            // Placed by an id: its rows have no key to compare.
            alternatives = None;
            continue;
        }
        match (region.sql(&names, &occurrence.types), &mut alternatives) {
            (Some(sql), Some(known)) if !known.contains(&sql) => known.push(sql),
            (Some(_), _) => {}
            (None, _) => alternatives = None,
        }
        if let (Some(key), Some(column)) = (values.scope.key(occurrence.key), names.first()) {
            let ty = occurrence.types.first().map_or(KeyType::Text, |ty| widest(*ty));
            let filter = format!("{} = {}", quote_identifier(column), value_sql(ty, key.value));
            if !conditions.contains(&filter) {
                conditions.push(filter);
            }
        }
    }
    if let Some(known) = alternatives.filter(|known| !known.is_empty()) {
        conditions.push(format!("({})", known.join(" OR ")));
    }
    conditions
}

/// The type that reads all values that are compared with this one's.
pub(super) fn widest(ty: KeyType) -> KeyType {
    if ty.is_integer() { KeyType::BigInt } else { ty }
}

impl Spot {
    /// What stands there from now on; `None` if that does not change.
    fn text(&self, names: &[Option<String>]) -> Option<String> {
        let mut text = match &self.what {
            What::Relation(at) => names.get(*at)?.clone()?,
            What::View { text, spots, .. } => format!("({})", spliced(text, spots, names)?),
        };
        if let Some(alias) = &self.alias {
            let _ = write!(text, " AS {}", quote_identifier(alias));
        }
        Some(text)
    }
}

/// A view's definition with its tables replaced; `None` if nothing is.
fn spliced(text: &str, spots: &[Spot], names: &[Option<String>]) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    let mut changed = false;
    for spot in spots {
        let Some(new) = spot.text(names) else { continue };
        out.push_str(text.get(done..spot.span.start as usize)?);
        out.push_str(&new);
        done = spot.span.end as usize;
        changed = true;
    }
    out.push_str(text.get(done..)?);
    changed.then_some(out)
}
