//! A query's shape against one map: everything that doesn't depend on the values of one execution.
//!
//! Main types: [`Query`], with an [`Occurrence`] for each place where a sharded table stands, an
//! [`InsertRows`] for each INSERT, and a [`Fixed`] for each table that lives in one place.

use std::sync::Arc;

use smallvec::SmallVec;

use super::copies::{self, Copies};
use super::facts::Facts;
use super::insert::{self, InsertPlan};
use super::numbers::Number;
use super::refusal::{Construct, Refusal};
use super::restrict::Restrict;
use super::schema;
use super::scope::Resolved;
use super::splice::{Site, Spot};
use super::via::{self, IdColumn, Via};
use super::{Ground, everywhere, many, numbers, ordered, workspace};
use crate::catalog::{RelationKind, Table};
use crate::datum::KeyType;
use crate::map::{FunctionRule, KeyId, Placement, ShardId, ShardMap, UnlistedTables};
use crate::sql::ir::{
    Analysis, Assignment, Block, BlockKind, CallKind, ColumnRef, Expr, MergeAction, OnConflict,
    Scalar, SettingCall, Source, SourceId, SourceKind, Span,
};

/// Statements with more range-table entries than this are not looked into: nothing is known of any of
/// them. (PostgreSQL itself plans them badly; the walk here is quadratic.)
const SOURCES_MAX: usize = 256;

/// What is done with an occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It is read.
    Read,
    /// It is the target of this command.
    Write(&'static str),
}

/// A place where a sharded table is read, updated or deleted from.
#[derive(Clone, Debug)]
pub(super) struct Occurrence {
    /// Its source in the analysis.
    pub(super) source: SourceId,
    /// The table.
    pub(super) table: Arc<Table>,
    /// Its key.
    pub(super) key: KeyId,
    /// The key's columns.
    pub(super) columns: SmallVec<[u16; 2]>,
    /// Types of the key's parts.
    pub(super) types: SmallVec<[KeyType; 2]>,
    /// What every row that matters meets.
    pub(super) restrict: Restrict,
    /// Ids that lead to the key.
    pub(super) vias: Vec<Via>,
    /// Occurrences whose rows have the key of this one's, because they have the same id.
    pub(super) same: Vec<usize>,
    /// Numbers of shards in its rows, or in rows that are on the same shard.
    pub(super) numbers: Vec<Number>,
    /// Rules about rows of the table that every shard has.
    pub(super) copies: SmallVec<[Copies; 1]>,
    /// What is done with it.
    pub(super) role: Role,
    /// Where a predicate can be added.
    pub(super) site: Site,
    /// Where it stands, if it is read and stands in the statement's own text.
    pub(super) spot: Option<Spot>,
}

impl Occurrence {
    /// The names of the key's columns.
    pub(super) fn column_names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column_name(&self.table, *column)).collect()
    }
}

/// A table that lives in one place.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    /// Its name.
    pub(super) table: String,
    /// Its shard.
    pub(super) shard: ShardId,
    /// It is written.
    pub(super) written: bool,
    /// The catalog does not know it.
    pub(super) unknown: bool,
}

impl Fixed {
    /// The shard that it is on for this session.
    pub(super) fn shard(&self, ground: &Ground<'_>, scope: &Resolved<'_>) -> ShardId {
        let own = scope.temporary.filter(|own| self.unknown && own.names.has(&self.table));
        ground.solo.or(own.map(|own| own.shard)).unwrap_or(self.shard)
    }
}

/// A table that the map gives no usable place.
#[derive(Clone, Debug)]
pub(super) struct Unplaced {
    /// How it is refused.
    pub(super) refusal: Refusal,
    /// It is written, and can't be checked: refused whatever the scope.
    pub(super) always: bool,
}

/// An assignment to a key column that may change it.
#[derive(Clone, Debug)]
pub(super) struct KeyAssignment {
    /// The occurrence that is updated, if what it is restricted to can prove that nothing changes.
    pub(super) occurrence: Option<usize>,
    /// Which part of the key.
    pub(super) part: usize,
    /// The new value, if it is a constant.
    pub(super) value: Option<Scalar>,
    /// The table.
    pub(super) table: String,
    /// The column.
    pub(super) column: String,
}

/// An assignment to a column with an id that leads to a key.
#[derive(Clone, Debug)]
pub(super) struct IdAssignment {
    /// The occurrence that is updated, if its keys are those of the rows that change.
    pub(super) occurrence: Option<usize>,
    /// The column.
    pub(super) id: IdColumn,
    /// The new id, if it is a constant.
    pub(super) value: Option<Scalar>,
    /// The table.
    pub(super) table: String,
    /// The column's name.
    pub(super) column: String,
}

/// An assignment to a column by which rows are told that every shard has.
#[derive(Clone, Debug)]
pub(super) struct CopyAssignment {
    /// The rule.
    pub(super) copies: Copies,
    /// The new value, if it is a constant.
    pub(super) value: Option<Scalar>,
    /// The table.
    pub(super) table: Arc<Table>,
}

/// What the functions that a query calls ask for.
#[derive(Clone, Debug, Default)]
pub(super) struct Functions {
    /// User-defined ones that the map doesn't declare.
    pub(super) undeclared: Option<String>,
    /// One that the map declares `home`.
    pub(super) home: Option<String>,
    /// One that the map declares `all`.
    pub(super) all: Option<String>,
    /// A built-in one that reads what its arguments say.
    pub(super) reads: Option<String>,
    /// Sequences and advisory locks live on the home shard unless rows say otherwise.
    pub(super) homely: bool,
    /// They may leave something on the connection.
    pub(super) taint: bool,
}

/// A query's shape.
#[derive(Debug)]
pub(super) struct Query {
    /// Sharded tables that are read, updated, deleted from.
    pub(super) occurrences: Vec<Occurrence>,
    /// Rows that are inserted into sharded tables.
    pub(super) inserts: Vec<InsertPlan>,
    /// Tables that live in one place.
    pub(super) fixed: Vec<Fixed>,
    /// Tables without a usable place.
    pub(super) unplaced: Vec<Unplaced>,
    /// A reference table that it names.
    pub(super) reference: Option<String>,
    /// A reference table that is written.
    pub(super) reference_written: Option<String>,
    /// What in a statement that writes a reference table is not the same on every shard.
    pub(super) diverges: Option<String>,
    /// A view that is written.
    pub(super) view_written: Option<String>,
    /// Assignments to keys.
    pub(super) assignments: Vec<KeyAssignment>,
    /// Assignments to ids that lead to keys.
    pub(super) id_assignments: Vec<IdAssignment>,
    /// Assignments that may make rows those that every shard has.
    pub(super) copy_assignments: Vec<CopyAssignment>,
    /// What functions ask for.
    pub(super) functions: Functions,
    /// The driving occurrence, if the answer is the union of the shards' answers.
    pub(super) many: Result<usize, Construct>,
    /// How the shards' rows are brought into order, and cut off, if they are the answer but for that.
    pub(super) ordered: Option<ordered::Shape>,
    /// How it runs over scratch tables, or why it can't.
    pub(super) workspace: Result<workspace::Shape, Construct>,
    /// What it sets by `set_config`.
    pub(super) settings: Box<[SettingCall]>,
    /// Where the tokens stood in the text that was compiled.
    pub(super) tokens: Box<[Span]>,
    /// It locks rows (of reference tables too).
    pub(super) locks_rows: bool,
    /// It writes.
    pub(super) writes: bool,
    /// It may leave something on the connection.
    pub(super) taints: bool,
}

impl Query {
    /// Compiles an analysis.
    pub(super) fn compile(analysis: &Analysis, map: &ShardMap) -> Self {
        let known = analysis.sources.len() <= SOURCES_MAX;
        let mut facts = known.then(|| Facts::new(analysis));
        let mut query = Self {
            occurrences: Vec::new(),
            inserts: Vec::new(),
            fixed: Vec::new(),
            unplaced: Vec::new(),
            reference: None,
            reference_written: None,
            diverges: None,
            view_written: None,
            assignments: Vec::new(),
            id_assignments: Vec::new(),
            copy_assignments: Vec::new(),
            functions: functions(analysis, map),
            many: Err(Construct::NotColocated(String::new(), String::new())),
            ordered: None,
            workspace: Err(Construct::NotColocated(String::new(), String::new())),
            settings: settings(analysis),
            tokens: analysis.tokens.as_slice().into(),
            locks_rows: analysis.locks_rows,
            writes: false,
            taints: false,
        };
        query.taints = query.functions.taint;
        let targets: Vec<(SourceId, &'static str)> =
            analysis.blocks.iter().filter_map(target).collect();
        query.writes = !targets.is_empty();
        for (id, source) in (0..).zip(&analysis.sources) {
            let command = targets.iter().find(|(target, _)| *target == id).map(|(_, c)| *c);
            query.add_source(analysis, map, facts.as_ref(), id, source, command);
        }
        if let Some(facts) = &facts {
            via::note_same(map, facts, &mut query.occurrences);
            numbers::note(map, facts, &mut query.occurrences);
        }
        query.add_materialized(analysis, map);
        if query.reference_written.is_some() {
            query.diverges = everywhere::diverges(analysis, map);
        }
        for block in &analysis.blocks {
            query.add_assignments(analysis, map, block);
        }
        if let Some(facts) = &mut facts {
            for (id, block) in (0..).zip(&analysis.blocks) {
                let found = insert::compile(analysis, map, facts, id, block, &query.occurrences);
                query.inserts.extend(found);
            }
        } else if let Some((_, command)) = targets.first() {
            // Too large to be looked into: nothing is known of its rows.
            query.unplaced.push(Unplaced {
                refusal: Refusal::Opaque {
                    reason: format!("{command} with more than {SOURCES_MAX} tables"),
                    names: "its rows can't be placed".to_owned(),
                },
                always: true,
            });
        }
        query.many = match &facts {
            Some(_) if query.writes => Err(Construct::WritingCte),
            Some(facts) => many::driver(analysis, facts, &query.occurrences, map),
            None => Err(Construct::NotColocated(String::new(), String::new())),
        };
        if query.many.is_ok() {
            query.ordered = ordered::Shape::compile(analysis);
        }
        // Streams fall back on it while a key is frozen.
        let moving = !map.freezes().is_empty();
        if known && (moving || query.many.is_err() || query.ordered.is_some()) {
            query.workspace = workspace::Shape::compile(analysis, &query.occurrences, map);
        }
        query
    }

    fn add_source(
        &mut self,
        analysis: &Analysis,
        map: &ShardMap,
        facts: Option<&Facts<'_>>,
        id: SourceId,
        source: &Source,
        command: Option<&'static str>,
    ) {
        let home = map.default_shard();
        let table = match &source.kind {
            SourceKind::Table(table) => table,
            SourceKind::Unknown(name) => {
                let (table, written) = (name.clone(), command.is_some());
                self.fixed.push(Fixed { table, shard: home, written, unknown: true });
                return;
            }
            SourceKind::Derived(_) if command.is_some() => {
                self.view_written = Some(source.name.clone());
                return;
            }
            SourceKind::Derived(_)
            | SourceKind::SystemCatalog
            | SourceKind::Function
            | SourceKind::RecursiveSelf => return,
        };
        if command.is_some() {
            self.taints |= table.has_triggers;
            if table.has_rules {
                let refusal = Refusal::RuledWrite { table: table.name.clone() };
                self.unplaced.push(Unplaced { refusal, always: true });
            }
            if command != Some("DELETE")
                && let Some(refusal) = schema::key_trigger(table, map)
            {
                let refusal = Refusal::Schema(refusal);
                self.unplaced.push(Unplaced { refusal, always: true });
            }
            if table.kind == RelationKind::View {
                self.view_written = Some(table.name.clone());
                return;
            }
        }
        let written = command.is_some();
        let fixed = |shard| Fixed { table: table.name.clone(), shard, written, unknown: false };
        let unplaced = |refusal, always| Unplaced { refusal, always };
        match map.placement(table) {
            Placement::Reference => {
                self.reference.get_or_insert_with(|| table.name.clone());
                if command.is_some() {
                    self.reference_written = Some(table.name.clone());
                }
            }
            Placement::Single(shard) => self.fixed.push(fixed(shard)),
            Placement::Unlisted => match map.policy().unlisted_tables {
                UnlistedTables::DefaultShard => self.fixed.push(fixed(home)),
                UnlistedTables::Refuse => {
                    let refusal = Refusal::UnlistedTable { table: table.name.clone() };
                    self.unplaced.push(unplaced(refusal, false));
                }
            },
            Placement::Lookup { name, .. } => match via::home(map, name) {
                Some(_) if command == Some("INSERT") => {}
                Some(key) => {
                    let found = via::of_occurrence(map, facts, id, table, key);
                    self.occurrences.push(Occurrence {
                        source: id,
                        table: Arc::clone(table),
                        key,
                        columns: SmallVec::new(),
                        types: types_of(map, key),
                        restrict: Restrict::Any,
                        vias: found,
                        same: Vec::new(),
                        numbers: Vec::new(),
                        copies: copies::of_occurrence(map, facts, id, table, key),
                        role: command.map_or(Role::Read, Role::Write),
                        site: site(analysis, id, source, command),
                        spot: spot(analysis, source, command),
                    });
                }
                None => {
                    let table = table.name.clone();
                    let refusal = Refusal::Lookup { table, lookup: name.to_owned() };
                    self.unplaced.push(unplaced(refusal, false));
                }
            },
            Placement::Unusable(why) => {
                let refusal = Refusal::UnusableTable { table: table.name.clone(), why };
                self.unplaced.push(unplaced(refusal, command.is_some()));
            }
            Placement::Sharded { key, columns } => {
                // An INSERT's target is placed by its rows.
                if command == Some("INSERT") {
                    return;
                }
                let types = types_of(map, key);
                let refs: Vec<ColumnRef> =
                    columns.iter().map(|&column| ColumnRef { source: id, column }).collect();
                let restrict = facts
                    .map_or(Restrict::Any, |facts| facts.restrict(facts.context_of(id), &refs));
                self.occurrences.push(Occurrence {
                    source: id,
                    table: Arc::clone(table),
                    key,
                    columns,
                    types,
                    restrict,
                    vias: via::of_occurrence(map, facts, id, table, key),
                    same: Vec::new(),
                    numbers: Vec::new(),
                    copies: copies::of_occurrence(map, facts, id, table, key),
                    role: command.map_or(Role::Read, Role::Write),
                    site: site(analysis, id, source, command),
                    spot: spot(analysis, source, command),
                });
            }
        }
    }

    /// A materialized view that the map doesn't list was made of what one shard has: with rows of others in
    /// it there is no telling what it should hold.
    fn add_materialized(&mut self, analysis: &Analysis, map: &ShardMap) {
        let home = map.default_shard();
        let elsewhere = |table: &Arc<Table>| match map.placement(table) {
            // Another view stands for the tables beneath it, which are here too.
            Placement::Reference | Placement::Unlisted => false,
            Placement::Single(shard) => shard != home,
            Placement::Sharded { .. } | Placement::Lookup { .. } => true,
            Placement::Unusable(_) => table.kind == RelationKind::Table,
        };
        for (source, tables) in &analysis.materialized {
            let Some(SourceKind::Table(view)) =
                analysis.sources.get(*source as usize).map(|source| &source.kind)
            else {
                continue;
            };
            if map.placement(view) == Placement::Unlisted && tables.iter().any(elsewhere) {
                let refusal = Refusal::UnlistedTable { table: view.name.clone() };
                self.unplaced.push(Unplaced { refusal, always: false });
            }
        }
    }

    fn add_assignments(&mut self, analysis: &Analysis, map: &ShardMap, block: &Block) {
        let (target, assignments, provable): (SourceId, Vec<&Assignment>, bool) = match &block.kind
        {
            BlockKind::Update(update) => (update.target, update.assignments.iter().collect(), true),
            BlockKind::Insert(insert) => match &insert.on_conflict {
                OnConflict::Update(assignments) => {
                    (insert.target, assignments.iter().collect(), false)
                }
                OnConflict::Error | OnConflict::Nothing => return,
            },
            BlockKind::Merge(merge) => {
                let updates = merge.actions.iter().filter_map(|action| match action {
                    MergeAction::Update(assignments) => Some(assignments),
                    MergeAction::Insert { .. } | MergeAction::Delete | MergeAction::Nothing => None,
                });
                (merge.target, updates.flatten().collect(), true)
            }
            BlockKind::Select(_)
            | BlockKind::SetOperation(_)
            | BlockKind::Values(_)
            | BlockKind::Delete(_) => return,
        };
        let Some(SourceKind::Table(table)) =
            analysis.sources.get(target as usize).map(|source| &source.kind)
        else {
            return;
        };
        let occurrence = self.occurrences.iter().position(|o| o.source == target);
        let (key, columns) = match map.placement(table) {
            Placement::Sharded { key, columns } => (key, columns),
            Placement::Lookup { name, .. } => match via::home(map, name) {
                Some(key) => (key, SmallVec::new()),
                None => return,
            },
            _ => return,
        };
        let ids = via::id_columns(map, table, key);
        for assignment in &assignments {
            let Some(id) = ids.iter().find(|id| id.column == assignment.column) else { continue };
            let itself = ColumnRef { source: target, column: assignment.column };
            if columns.contains(&id.column) || assignment.value == Expr::Column(itself) {
                continue;
            }
            self.id_assignments.push(IdAssignment {
                occurrence: occurrence.filter(|_| provable),
                id: id.clone(),
                value: match &assignment.value {
                    Expr::Scalar(scalar) => Some(scalar.clone()),
                    _ => None,
                },
                table: table.name.clone(),
                column: column_name(table, assignment.column),
            });
        }
        for copies in copies::of_table(map, table, key) {
            for assignment in &assignments {
                // EXCLUDED has what the INSERT's own rows have, which are looked at by themselves.
                let itself = ColumnRef { source: target, column: assignment.column };
                let stays = assignment.value == Expr::Column(itself)
                    || assignment.value == Expr::Excluded(assignment.column);
                if copies.is_told_by(assignment.column) && !stays {
                    self.copy_assignments.push(CopyAssignment {
                        copies: copies.clone(),
                        value: match &assignment.value {
                            Expr::Scalar(scalar) => Some(scalar.clone()),
                            _ => None,
                        },
                        table: Arc::clone(table),
                    });
                }
            }
        }
        for assignment in assignments {
            let Some(part) = columns.iter().position(|c| *c == assignment.column) else { continue };
            let itself = ColumnRef { source: target, column: assignment.column };
            if assignment.value == Expr::Column(itself) {
                continue;
            }
            self.assignments.push(KeyAssignment {
                occurrence: occurrence.filter(|_| provable),
                part,
                value: match &assignment.value {
                    Expr::Scalar(scalar) => Some(scalar.clone()),
                    _ => None,
                },
                table: table.name.clone(),
                column: column_name(table, assignment.column),
            });
        }
    }
}

/// Types of a key's parts.
pub(super) fn types_of(map: &ShardMap, key: KeyId) -> SmallVec<[KeyType; 2]> {
    map.key(key).map(|key| key.types.clone()).unwrap_or_default()
}

/// A column's name, for people.
pub(super) fn column_name(table: &Table, column: u16) -> String {
    table.columns.get(usize::from(column)).map_or_else(String::new, |c| c.name.clone())
}

/// What it sets. A column's name is only known of a statement that is nothing but such calls.
fn settings(analysis: &Analysis) -> Box<[SettingCall]> {
    let alone = analysis.blocks.len() == 1 && analysis.calls.len() == analysis.settings.len();
    let call = |call: &SettingCall| SettingCall {
        column: call.column.clone().filter(|_| alone),
        ..call.clone()
    };
    analysis.settings.iter().map(call).collect()
}

fn target(block: &Block) -> Option<(SourceId, &'static str)> {
    match &block.kind {
        BlockKind::Insert(insert) => Some((insert.target, "INSERT")),
        BlockKind::Update(update) => Some((update.target, "UPDATE")),
        BlockKind::Delete(delete) => Some((delete.target, "DELETE")),
        BlockKind::Merge(merge) => Some((merge.target, "MERGE")),
        BlockKind::Select(_) | BlockKind::SetOperation(_) | BlockKind::Values(_) => None,
    }
}

fn functions(analysis: &Analysis, map: &ShardMap) -> Functions {
    let mut found = Functions::default();
    let are_told = analysis.are_settings_told();
    for call in &analysis.calls {
        let name = || Some(call.name.clone());
        match call.kind {
            CallKind::Pure | CallKind::Time | CallKind::Stable | CallKind::Volatile => {}
            CallKind::Sequence => {
                found.homely = true;
                found.taint = true;
            }
            CallKind::AdvisoryLock { session } => {
                found.homely = true;
                found.taint |= session;
            }
            CallKind::Setting => found.taint |= !are_told,
            // Of the default shard, as all that a catalog read says. By itself it would be taken for the
            // size of all shards together.
            // As NOTIFY: where LISTEN listens.
            CallKind::Notifies if analysis.sources.is_empty() => found.homely = true,
            CallKind::Notifies => {
                found.reads = name();
                found.taint = true;
            }
            CallKind::Measures if reads_catalog_alone(analysis) => found.homely = true,
            CallKind::Measures => found.reads = name(),
            CallKind::ReadsTables => {
                found.reads = name();
                found.taint = true;
            }
            CallKind::User(_) => match map.function(&call.name) {
                Some(FunctionRule::Pure) => {}
                Some(FunctionRule::Home) => {
                    found.home = name();
                    found.taint = true;
                }
                Some(FunctionRule::All) => found.all = name(),
                None => {
                    found.undeclared = name();
                    found.taint = true;
                }
            },
        }
    }
    found
}

/// It reads system catalogs and no other table.
fn reads_catalog_alone(analysis: &Analysis) -> bool {
    let system = |source: &Source| matches!(source.kind, SourceKind::SystemCatalog);
    let other =
        |source: &Source| matches!(source.kind, SourceKind::Table(_) | SourceKind::Unknown(_));
    analysis.sources.iter().any(system) && !analysis.sources.iter().any(other)
}

/// Where a predicate on an occurrence can be added.
fn site(analysis: &Analysis, id: SourceId, source: &Source, command: Option<&'static str>) -> Site {
    let block = analysis.blocks.get(source.block as usize).map(|block| &block.kind);
    if source.through_view {
        return Site::None("it is written through a view");
    }
    if command.is_some() {
        let (filter, insert) = match block {
            Some(BlockKind::Update(update)) if update.target == id => {
                (update.filter_span, update.filter_insert)
            }
            Some(BlockKind::Delete(delete)) if delete.target == id => {
                (delete.filter_span, delete.filter_insert)
            }
            _ => return Site::None("MERGE can't be given a predicate"),
        };
        return Site::Filter { filter, insert, target: source.name.clone() };
    }
    if matches!(block, Some(BlockKind::Merge(_))) {
        return Site::None("MERGE can't be given a predicate");
    }
    if source.only {
        return Site::None("it is read with ONLY, TABLE or TABLESAMPLE");
    }
    if is_in_view(analysis, source) {
        return Site::None("it is read through a view");
    }
    Site::Name { span: source.span, alias: (!source.aliased).then(|| source.name.clone()) }
}

/// What a view expands to is said to stand where the view's name does.
fn is_in_view(analysis: &Analysis, source: &Source) -> bool {
    source.span.start >= source.span.end
        || analysis
            .sources
            .iter()
            .any(|other| matches!(other.kind, SourceKind::Derived(_)) && other.span == source.span)
}

/// Where an occurrence that is read stands. (A sub-select in its place would give a whole row another type.)
fn spot(analysis: &Analysis, source: &Source, command: Option<&'static str>) -> Option<Spot> {
    let in_text = command.is_none() && !analysis.uses_unclear && !is_in_view(analysis, source);
    in_text.then(|| Spot {
        span: source.span,
        alone: source.alone,
        alias: (!source.aliased).then(|| source.name.clone()),
    })
}
