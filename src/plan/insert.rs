//! Rule *insert*: where new rows go, and that the map places them there.
//!
//! Main type: [`InsertPlan`], for INSERT and for MERGE's INSERT. A row's key must be known before it is
//! sent: a literal, a parameter, or for INSERT … SELECT a column that is proved to have one key. A random UUID,
//! which a call or the column's default would make on a shard, is made here and written into the statement. NULL
//! and missing keys are errors; other defaults and expressions are refused.

mod keys;

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use self::keys::RowKey;
use super::compile::{Occurrence, column_name, types_of};
use super::constant::Constants;
use super::copies::{self, Copies};
use super::facts::Facts;
use super::freeze;
use super::numbers;
use super::refusal::Refusal;
use super::restrict::{Region, Restrict};
use super::scope::{Resolved, key_name};
use super::splice::Edits;
use super::via::{self, IdCells, IdColumn};
use super::{Ground, query};
use crate::catalog::{DefaultValue, SHARD_NUMBER, Table};
use crate::datum::{Decoded, KeyType, KeyValue};
use crate::error::SqlError;
use crate::map::{KeyId, Placement, ShardId, ShardMap, ShardSet};
use crate::sql::ir::{
    Analysis, Block, BlockId, BlockKind, ColumnRef, Expr, InsertRow, InsertRows, MergeAction,
    OnConflict, Open, Scalar, SourceKind, Span,
};
use crate::sql::quote::quote_identifier;

/// Rows for a sharded table.
#[derive(Clone, Debug)]
pub(super) struct InsertPlan {
    /// The table.
    pub(super) table: Arc<Table>,
    /// Its key.
    pub(super) key: KeyId,
    /// The key's columns.
    columns: SmallVec<[u16; 2]>,
    types: SmallVec<[KeyType; 2]>,
    /// The columns with ids that lead to the key.
    ids: SmallVec<[IdColumn; 2]>,
    rows: Rows,
    /// Rules about rows that every shard has.
    copies: SmallVec<[Copies; 1]>,
    /// The table has a column for the shard's number, and the INSERT leaves it out.
    numbers: bool,
    /// The column whose id places the rows, where there is no key's.
    placed_by: Option<u16>,
    /// A row that is there afterwards was inserted by this: it teaches where its ids lead.
    teaches: bool,
    /// ON CONFLICT DO UPDATE: a row that is there already is changed, whatever its key.
    updates: bool,
}

#[derive(Clone, Debug)]
enum Rows {
    /// VALUES. `columns_end` is where a key column could be added.
    Values { rows: Vec<Row>, columns_end: Option<u32> },
    /// A query's rows meet this; `follows` is an occurrence that they have their key from.
    Query { restrict: Restrict, follows: Option<usize> },
    /// The key's part has no value at all.
    Missing(usize),
}

type Cells = SmallVec<[Cell; 2]>;

/// One row of VALUES.
#[derive(Clone, Debug)]
struct Row {
    cells: Cells,
    ids: IdCells,
    copies: IdCells,
    /// What it says of its region, where that can choose a new key's shard.
    region: Option<Scalar>,
    /// What it says of its shard's number, where the map trusts that.
    number: Option<Scalar>,
    /// Where a value can be added.
    end: u32,
}

/// What a row has for a part of the key.
#[derive(Clone, Debug)]
enum Cell {
    Constant(Scalar),
    Missing,
    /// Where it stands, if a value can be written there.
    Default(Option<Span>),
    /// A call that makes a random UUID.
    RandomUuid(Span),
    Expression,
}

/// The rows that a block inserts into sharded tables.
pub(super) fn compile(
    analysis: &Analysis,
    map: &ShardMap,
    facts: &mut Facts<'_>,
    id: BlockId,
    block: &Block,
    occurrences: &[Occurrence],
) -> Vec<InsertPlan> {
    let target = match &block.kind {
        BlockKind::Insert(insert) => insert.target,
        BlockKind::Merge(merge) => merge.target,
        _ => return Vec::new(),
    };
    let Some(SourceKind::Table(table)) =
        analysis.sources.get(target as usize).map(|source| &source.kind)
    else {
        return Vec::new();
    };
    let (key, columns, placed_by) = match map.placement(table) {
        Placement::Sharded { key, columns } => (key, columns, None),
        Placement::Lookup { name, column } => match via::home(map, name) {
            Some(key) => (key, SmallVec::new(), Some(column)),
            None => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let ids = via::id_columns(map, table, key);
    let copies = copies::of_table(map, table, key);
    let teaches = matches!(
        &block.kind,
        BlockKind::Insert(insert) if matches!(insert.on_conflict, OnConflict::Error)
    ) && !table.has_triggers
        && !table.has_rules;
    let region = map.key(key).and_then(|key| key.new_key_places.as_ref()?.column.as_deref());
    let region = region.and_then(|name| table.columns.iter().position(|c| c.name == name));
    let number = numbers::checked(map, table).map(usize::from);
    let numbers = match &block.kind {
        BlockKind::Insert(insert) => is_numbered(table, &columns, &insert.columns),
        _ => false,
    };
    let types = types_of(map, key);
    let updates = matches!(
        &block.kind,
        BlockKind::Insert(insert) if matches!(insert.on_conflict, OnConflict::Update(_))
    );
    let plan = |rows| InsertPlan {
        table: Arc::clone(table),
        key,
        columns: columns.clone(),
        types: types.clone(),
        ids: ids.clone(),
        copies: copies.clone(),
        numbers,
        placed_by,
        teaches,
        rows,
        updates,
    };
    match &block.kind {
        BlockKind::Insert(insert) => {
            let at: SmallVec<[Option<usize>; 2]> = columns
                .iter()
                .map(|column| insert.columns.iter().position(|c| c == column))
                .collect();
            let rows = match &insert.rows {
                InsertRows::Values(rows) => Rows::Values {
                    rows: rows
                        .iter()
                        .map(|row| Row {
                            cells: row_cells(row, &at),
                            ids: via::cells(&row.values, &insert.columns, &ids),
                            copies: copies::cells(&row.values, &insert.columns, &copies),
                            region: region.and_then(|at| cell(&row.values, &insert.columns, at)),
                            number: number.and_then(|at| cell(&row.values, &insert.columns, at)),
                            end: row.end,
                        })
                        .collect(),
                    columns_end: insert.columns_end,
                },
                InsertRows::Query(query) => {
                    query_rows(facts, *query, &at, &types, key, occurrences)
                }
                InsertRows::Defaults => Rows::Missing(0),
            };
            vec![plan(rows)]
        }
        BlockKind::Merge(merge) => merge
            .actions
            .iter()
            .filter_map(|action| match action {
                MergeAction::Insert { columns: listed, values } => {
                    let at: SmallVec<[Option<usize>; 2]> = columns
                        .iter()
                        .map(|column| listed.iter().position(|c| c == column))
                        .collect();
                    Some(plan(merge_row(facts, id, values, &at, via::cells(values, listed, &ids))))
                }
                MergeAction::Update(_) | MergeAction::Delete | MergeAction::Nothing => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The table's column `shard_id` holds the number of a row's shard, and an INSERT does not list it: it is
/// filled in together with the key.
fn is_numbered(table: &Table, key: &[u16], listed: &[u16]) -> bool {
    let at = table.columns.iter().position(|column| column.name == SHARD_NUMBER);
    let Some(at) = at.and_then(|at| u16::try_from(at).ok()) else { return false };
    let column = table.columns.get(usize::from(at));
    let integer = column.and_then(|column| KeyType::from_oid(column.type_oid));
    integer.is_some_and(KeyType::is_integer) && !key.contains(&at) && !listed.contains(&at)
}

/// What a row has in a column, if it is a constant.
fn cell(row: &[Expr], listed: &[u16], column: usize) -> Option<Scalar> {
    let at = listed.iter().position(|own| usize::from(*own) == column)?;
    match row.get(at)? {
        Expr::Scalar(scalar) => Some(scalar.clone()),
        _ => None,
    }
}

fn cells(row: &[Expr], at: &[Option<usize>]) -> Cells {
    at.iter()
        .map(|at| match at.and_then(|at| row.get(at)) {
            None => Cell::Missing,
            Some(Expr::Scalar(scalar)) => Cell::Constant(scalar.clone()),
            Some(Expr::Default) => Cell::Default(None),
            Some(Expr::Column(_) | Expr::Excluded(_) | Expr::Other) => Cell::Expression,
        })
        .collect()
}

/// The same of a row that values can be written into.
fn row_cells(row: &InsertRow, at: &[Option<usize>]) -> Cells {
    let mut cells = cells(&row.values, at);
    for (cell, at) in cells.iter_mut().zip(at) {
        let open = at.and_then(|at| row.open.iter().find(|(own, ..)| usize::from(*own) == at));
        match open {
            Some((_, Open::RandomUuid, span)) => *cell = Cell::RandomUuid(*span),
            Some((_, Open::Default, span)) => *cell = Cell::Default(Some(*span)),
            None => {}
        }
    }
    cells
}

fn query_rows(
    facts: &mut Facts<'_>,
    query: BlockId,
    at: &[Option<usize>],
    types: &[KeyType],
    key: KeyId,
    occurrences: &[Occurrence],
) -> Rows {
    let mut outputs = Vec::new();
    for (part, (at, ty)) in at.iter().zip(types).enumerate() {
        match at {
            Some(at) => outputs.push((*at as u16, *ty)),
            None => return Rows::Missing(part),
        }
    }
    let (restrict, context, columns) = facts.output(query, &outputs);
    // A column of a null-producing side may be NULL although its occurrence has keys.
    let there = facts.always_there(query);
    let follows = occurrences.iter().position(|o| {
        o.key == key
            && there.contains(&o.source)
            && o.columns.len() == columns.len()
            && o.columns.iter().zip(&columns).all(|(&column, &output)| {
                facts.equal(context, output, ColumnRef { source: o.source, column })
            })
    });
    Rows::Query { restrict, follows }
}

fn merge_row(
    facts: &Facts<'_>,
    merge: BlockId,
    values: &[Expr],
    at: &[Option<usize>],
    ids: IdCells,
) -> Rows {
    if at.iter().all(|at| {
        matches!(
            at.and_then(|at| values.get(at)),
            None | Some(Expr::Scalar(_) | Expr::Default | Expr::Other | Expr::Excluded(_))
        )
    }) {
        let row = Row {
            cells: cells(values, at),
            ids,
            copies: IdCells::new(),
            region: None,
            number: None,
            end: 0,
        };
        return Rows::Values { rows: vec![row], columns_end: None };
    }
    let context = facts.context_of_block(merge);
    let mut all = Vec::new();
    for (part, at) in at.iter().enumerate() {
        match at.and_then(|at| values.get(at)) {
            None => return Rows::Missing(part),
            Some(Expr::Scalar(scalar)) => all.push(Restrict::Eq(part as u8, scalar.clone())),
            Some(Expr::Column(column)) => {
                all.push(facts.restrict(context, &[*column]).on_part(part as u8));
            }
            Some(Expr::Default | Expr::Other | Expr::Excluded(_)) => {
                return Rows::Query { restrict: Restrict::Any, follows: None };
            }
        }
    }
    Rows::Query { restrict: Restrict::and(all), follows: None }
}

impl InsertPlan {
    /// The shards that the rows go to; where a session's key fills a missing column, or a key is made, the edits
    /// say so, and `made` is true then. What is made is for the shard that the rest of the statement goes to
    /// (`agreed`).
    ///
    /// # Errors
    ///
    /// 23502 for a missing or NULL key, 22023 for one without a shard or against the scope, 0A000 for one
    /// that isn't known.
    pub(super) fn shards<'p>(
        &self,
        ground: &Ground<'_>,
        stored: &Constants<'p>,
        scope: &Resolved<'p>,
        regions: &[Region<'p>],
        agreed: Option<ShardId>,
        (edits, made): (&mut Edits<'_>, &mut bool),
    ) -> Result<ShardSet, SqlError> {
        if self.updates && scope.key(self.key).is_some() && !scope.whole {
            return Err(Refusal::KeyFilter {
                what: "ON CONFLICT DO UPDATE".to_owned(),
                why: "The row that is in the way may have another key.",
            }
            .of_user(scope.confined));
        }
        match &self.rows {
            Rows::Missing(part) => Err(self.missing(*part)),
            Rows::Query { restrict, follows } => {
                let region = self.query_region(restrict, *follows, stored, regions)?;
                self.query_shards(ground, scope, &region)
            }
            Rows::Values { rows, columns_end } => {
                let mut shards = ShardSet::new();
                let mut fills = false;
                // All keys without a home are told of at once.
                let mut homeless = None;
                let mut wanted = match scope.shard {
                    Some((shard, _)) => Some(shard),
                    None => agreed
                        .or_else(|| self.told_shard(ground, rows, stored))
                        .or_else(|| scope.fresh?.wanted()),
                };
                for row in rows {
                    if let Some(shard) = self.copied(ground, row, stored, scope)? {
                        shards.insert(shard);
                        continue;
                    }
                    let row_key = self.row_key(ground, row, *columns_end, stored, scope, wanted)?;
                    let RowKey { key, filled, written, made: own } = row_key;
                    self.check_scope(ground.map, scope, &key)?;
                    freeze::check_row(ground.map, self.key, key.first())?;
                    let placed = self.place(ground, &key);
                    if let (Err(_), Some(lookups), Some(first)) =
                        (&placed, scope.lookups, key.first())
                        && ground.map.takes_new(self.key, first)
                    {
                        let region = row.region.as_ref().and_then(|region| stored.text(region));
                        lookups.comes(self.key, first, region.map(Cow::into_owned));
                        homeless = homeless.or(placed.err());
                        continue;
                    }
                    let shard = placed?;
                    self.check_number(ground, row, stored, &key, shard)?;
                    if let (true, Some(first)) = (self.teaches, key.first()) {
                        via::teach(&self.ids, &row.ids, stored, scope.lookups, first)?;
                    }
                    shards.insert(shard);
                    wanted = wanted.or(Some(shard));
                    *made |= own;
                    for (span, text) in written {
                        edits.replace(span, text);
                    }
                    if let Some(text) = filled {
                        let number = ground.map.shard(shard).filter(|_| self.numbers);
                        let number = number.map(|shard| format!(", {}", shard.id));
                        edits.insert(row.end, format!(", {text}{}", number.unwrap_or_default()));
                        fills = true;
                    }
                }
                if let Some(error) = homeless {
                    return Err(error);
                }
                if let (true, Some(end)) = (fills, columns_end) {
                    let column = quote_identifier(&self.column(0));
                    let number =
                        if self.numbers { format!(", {SHARD_NUMBER}") } else { String::new() };
                    edits.insert(*end, format!(", {column}{number}"));
                }
                Ok(shards)
            }
        }
    }

    /// The first parts of the rows' keys; `None` where they aren't all known.
    ///
    /// # Errors
    ///
    /// 23502 for a missing or NULL key, 0A000 for one that isn't known.
    pub(super) fn first_keys<'p>(
        &self,
        ground: &Ground<'_>,
        stored: &Constants<'p>,
        scope: &Resolved<'p>,
        regions: &[Region<'p>],
    ) -> Result<Option<Vec<KeyValue<'p>>>, SqlError> {
        match &self.rows {
            Rows::Missing(part) => Err(self.missing(*part)),
            Rows::Query { restrict, follows } => {
                let region = self.query_region(restrict, *follows, stored, regions)?;
                Ok(region.values().map(|values| values.into_iter().cloned().collect()))
            }
            Rows::Values { rows, columns_end } => {
                let mut keys = Vec::with_capacity(rows.len());
                for row in rows {
                    let row_key = self.row_key(ground, row, *columns_end, stored, scope, None)?;
                    let Some(first) = row_key.key.into_iter().next() else { return Ok(None) };
                    keys.push(first);
                }
                Ok(Some(keys))
            }
        }
    }

    /// The keys that the rows of a query may have.
    fn query_region<'p>(
        &self,
        restrict: &Restrict,
        follows: Option<usize>,
        stored: &Constants<'p>,
        regions: &[Region<'p>],
    ) -> Result<Region<'p>, SqlError> {
        let region = restrict.region(&self.types, stored)?;
        Ok(match follows.and_then(|at| regions.get(at)) {
            Some(source) => region.intersect(source.clone()),
            None => region,
        })
    }

    /// 22023: the row says that it is on another shard than its key does.
    fn check_number(
        &self,
        ground: &Ground<'_>,
        row: &Row,
        stored: &Constants<'_>,
        key: &[KeyValue<'_>],
        shard: ShardId,
    ) -> Result<(), SqlError> {
        let (Some(number), None) = (&row.number, ground.solo) else { return Ok(()) };
        let Decoded::Key(said) = stored.stored_key(KeyType::BigInt, number)? else {
            return Ok(());
        };
        let Some(home) = ground.map.shard(shard) else { return Ok(()) };
        if said == KeyValue::Int(i64::from(home.id)) {
            return Ok(());
        }
        let own: Vec<String> = key.iter().map(ToString::to_string).collect();
        let (name, own) = (key_name(ground.map, self.key), own.join(", "));
        Err(Refusal::SourcesDisagree {
            one: format!("the row's {SHARD_NUMBER} is {said} in table \"{}\"", self.table.name),
            other: format!("{name} = {own} is on shard {} ({SHARD_NUMBER} {})", home.name, home.id),
        }
        .into())
    }

    /// A row that every shard has: it is inserted on all of them, or not at all.
    fn copied(
        &self,
        ground: &Ground<'_>,
        row: &Row,
        stored: &Constants<'_>,
        scope: &Resolved<'_>,
    ) -> Result<Option<ShardId>, SqlError> {
        if self.copies.is_empty() || ground.solo.is_some() {
            return Ok(None);
        }
        match (copies::inserted(&self.copies, &row.copies, stored)?, scope.shard) {
            (None, _) => Ok(None),
            (Some(_), Some((shard, _))) if scope.on_each => Ok(Some(shard)),
            (Some(rule), _) => Err(rule.refusal(&self.table)),
        }
    }

    fn query_shards(
        &self,
        ground: &Ground<'_>,
        scope: &Resolved<'_>,
        region: &Region<'_>,
    ) -> Result<ShardSet, SqlError> {
        let unknown =
            || Refusal::InsertQuery { table: self.table.name.clone(), column: self.column(0) };
        let whole = |part| region.is_stored_whole(part, self.type_name(part));
        if region.is_empty() || !region.is_named() || !(0..self.columns.len()).all(whole) {
            return Err(unknown().into());
        }
        if let Some(key) = scope.key(self.key)
            && !region.is_pinned_to(key.value)
        {
            let named = region.named_values().join(", ");
            return Err(query::key_disagrees(ground.map, key, &self.table, &named));
        }
        freeze::check_rows(ground.map, self.key, self.types.len(), region)?;
        query::region_shards(ground, self.key, &self.table, region)
    }

    fn check_scope(
        &self,
        map: &ShardMap,
        scope: &Resolved<'_>,
        key: &[KeyValue<'_>],
    ) -> Result<(), SqlError> {
        let (Some(wanted), Some(first)) = (scope.key(self.key), key.first()) else { return Ok(()) };
        if wanted.value == first {
            return Ok(());
        }
        Err(query::key_disagrees(map, wanted, &self.table, &first.to_string()))
    }

    fn place(
        &self,
        ground: &Ground<'_>,
        key: &[KeyValue<'_>],
    ) -> Result<crate::map::ShardId, SqlError> {
        match ground.solo {
            Some(home) => Ok(home),
            None => ground.map.place_row(self.key, key).map_err(|no_shard| {
                Refusal::NoShard { no_shard, table: Some(self.table.name.clone()) }.into()
            }),
        }
    }

    /// The keys of the rows, for people.
    pub(super) fn named_keys(&self, stored: &Constants<'_>) -> Vec<String> {
        let Rows::Values { rows, .. } = &self.rows else { return Vec::new() };
        let mut named = Vec::new();
        for row in rows.iter().take(12) {
            let parts: Vec<String> = row
                .cells
                .iter()
                .zip(&self.types)
                .filter_map(|(cell, ty)| match cell {
                    Cell::Constant(scalar) => match stored.stored_key(*ty, scalar) {
                        Ok(Decoded::Key(value)) => Some(value.to_string()),
                        _ => None,
                    },
                    Cell::Missing | Cell::Default(_) | Cell::RandomUuid(_) | Cell::Expression => {
                        None
                    }
                })
                .collect();
            let text = parts.join(", ");
            if !text.is_empty() && !named.contains(&text) {
                named.push(text);
            }
        }
        named
    }

    fn missing(&self, part: usize) -> SqlError {
        Refusal::KeyMissing {
            table: self.table.name.clone(),
            column: self.column(part),
            sequence: self.default_value(part) == DefaultValue::Sequence,
        }
        .into()
    }

    fn column(&self, part: usize) -> String {
        let own = self.columns.get(part).copied();
        let column = own.or(self.placed_by);
        column.map_or_else(String::new, |c| column_name(&self.table, c))
    }

    fn type_name(&self, part: usize) -> &str {
        self.columns
            .get(part)
            .and_then(|c| self.table.columns.get(usize::from(*c)))
            .map_or("", |c| c.type_name.as_str())
    }

    /// `tenant = 5 of table "users"`
    pub(super) fn label(&self, map: &ShardMap) -> String {
        format!("{} of table \"{}\"", key_name(map, self.key), self.table.name)
    }
}
