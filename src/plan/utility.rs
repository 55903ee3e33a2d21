//! Rules for what isn't a query: utility statements and statements that could not be read.
//!
//! On a map of several shards they go where a hint or the session say, or to the only shard that all of
//! their tables live on; else they are refused. Nothing is ever guessed or broadcast.

use std::sync::Arc;

use super::database::NotInDatabase;
use super::refusal::Refusal;
use super::schema::{self, SchemaRefusal};
use super::scope::{Resolved, shard_text};
use super::{Answer, Ground, Inputs, Plan, Route, Rule, freeze, staged, via};
use crate::catalog::Table;
use crate::error::SqlError;
use crate::map::{DatabaseHome, Placement, ShardId, ShardMap, UnlistedTables};
use crate::sql::class::Class;
use crate::sql::ir::{Opaque, Utility, UtilityKind};

/// Commands of the schema that concern roles, which shards may share.
const OF_ROLES: [&str; 2] = ["DROP OWNED", "REASSIGN OWNED"];

/// A utility statement's shape.
#[derive(Clone, Debug)]
pub(super) struct UtilityShape {
    tag: &'static str,
    kind: UtilityKind,
    /// PostgreSQL does not run it in a transaction block.
    alone: bool,
    /// COPY of a query, CREATE TABLE from one.
    of_query: bool,
    /// The one shard that all of its tables live on.
    home: Option<ShardId>,
    /// All of its tables are reference tables, and there is one.
    reference: bool,
    triggers: bool,
    /// COPY FROM … WHERE.
    filters: bool,
    /// Where the database is that it is about, with its name; of one under `[[databases]]` only.
    database: Option<(String, DatabaseHome)>,
    /// What it may write unseen, and where that may be written.
    unseen: Vec<Unseen>,
    /// It names a table whose key has a database for each value.
    in_databases: bool,
    /// Rows that it would leave where the map does not look for them.
    strands: Option<SchemaRefusal>,
    /// It makes a temporary object, and `search_path` alone says so.
    temporary_by_path: bool,
    /// For a temporary view: what it may read that is not on one shard.
    spread: Option<String>,
}

/// A table that a statement may write to, with rows that can't be checked.
#[derive(Clone, Debug)]
struct Unseen {
    /// How a refusal names it.
    table: String,
    /// Where all of its rows live; `None` for a table with a key.
    home: Option<ShardId>,
    /// Its rows live on every shard.
    everywhere: bool,
}

/// The tables of these that not every shard may be written to.
fn unseen(tables: &[std::sync::Arc<Table>], map: &ShardMap) -> Vec<Unseen> {
    let place = |table: &std::sync::Arc<Table>| {
        let placement = map.placement(table);
        Unseen {
            table: format!("table \"{}\"", table.name),
            home: match placement {
                Placement::Single(shard) => Some(shard),
                Placement::Unlisted => Some(map.default_shard()),
                Placement::Reference
                | Placement::Sharded { .. }
                | Placement::Lookup { .. }
                | Placement::Unusable(_) => None,
            },
            everywhere: placement == Placement::Reference,
        }
    };
    tables.iter().map(place).collect()
}

/// What a temporary view may read that is not all on one shard: a function, or a table.
fn spread(utility: &Utility, map: &ShardMap) -> Option<String> {
    if (utility.kind, utility.tag) != (UtilityKind::Temporary, "CREATE VIEW") {
        return None;
    }
    let undeclared = |name: &&String| map.function(name) != Some(crate::map::FunctionRule::Pure);
    let function = utility.unknown_functions.iter().find(undeclared);
    let lives_there = |table: &std::sync::Arc<Table>| common_home(std::slice::from_ref(table), map);
    let home = common_home(&utility.tables, map);
    let table = utility.tables.iter().find(|t| home.is_none() || lives_there(t) != home);
    let table = table.map(|table| format!("table \"{}\"", table.name));
    function.map(|name| format!("function {name}")).or(table)
}

/// In a shard's scope nothing may be written unseen that the map may place elsewhere. With routing off it
/// places everything on the default shard.
fn check_unseen(
    unseen: &[Unseen],
    what: &str,
    ground: &Ground<'_>,
    scope: &Resolved<'_>,
) -> Result<(), SqlError> {
    if scope.whole || scope.database.is_some() {
        return check_unseen_of_key(unseen, what, ground, scope);
    }
    let Some((shard, _)) = scope.shard else { return Ok(()) };
    let elsewhere = |unseen: &&Unseen| match ground.solo {
        Some(home) => home != shard,
        None => unseen.home != Some(shard) && !unseen.everywhere,
    };
    match unseen.iter().find(elsewhere) {
        Some(unseen) => Err(Refusal::UncheckedWrite {
            what: what.to_owned(),
            table: unseen.table.clone(),
            scope: ground.map.shard_name(shard).to_owned(),
        }
        .into()),
        None => Ok(()),
    }
}

/// In a key's own database no row of another key may be written unseen.
fn check_unseen_of_key(
    unseen: &[Unseen],
    what: &str,
    ground: &Ground<'_>,
    scope: &Resolved<'_>,
) -> Result<(), SqlError> {
    let Some(unseen) = unseen.iter().find(|unseen| unseen.home.is_none() && !unseen.everywhere)
    else {
        return Ok(());
    };
    let database = scope.database.as_ref().map(|database| database.name.as_str());
    Err(NotInDatabase::Unchecked {
        what: what.to_owned(),
        table: unseen.table.clone(),
        database: database.unwrap_or(ground.map.database()).to_owned(),
    }
    .into())
}

impl UtilityShape {
    pub(super) fn compile(utility: &Utility, class: &Class, map: &ShardMap) -> Self {
        Self {
            tag: utility.tag,
            kind: utility.kind,
            alone: utility.alone,
            of_query: matches!(
                class,
                Class::Copy { query: true, .. } | Class::Definition { from_query: true, .. }
            ),
            home: common_home(&utility.tables, map),
            reference: !utility.tables.is_empty()
                && utility.tables.iter().all(|t| map.placement(t) == Placement::Reference),
            triggers: utility.tables.iter().any(|table| table.has_triggers),
            filters: utility.filters,
            database: utility
                .database
                .as_ref()
                .and_then(|name| Some((name.clone(), map.database_home(name)?))),
            unseen: match utility.kind {
                UtilityKind::CopyFrom | UtilityKind::Prepared => unseen(&utility.tables, map),
                UtilityKind::TableFromQuery if utility.tag != "CREATE MATERIALIZED VIEW" => {
                    vec![Unseen { table: "a new table".to_owned(), home: None, everywhere: false }]
                }
                _ => Vec::new(),
            },
            in_databases: utility.tables.iter().any(|table| is_in_databases(table, map)),
            strands: utility
                .reshaped
                .iter()
                .find_map(|reshaped| schema::stranded(utility.tag, reshaped, map)),
            temporary_by_path: utility.temporary_by_path,
            spread: spread(utility, map),
        }
    }

    /// A query's rows become a table.
    pub(super) fn makes_table(&self) -> bool {
        self.kind == UtilityKind::TableFromQuery && self.tag != "CREATE MATERIALIZED VIEW"
    }

    /// Where it can be parsed.
    pub(super) fn describe(&self) -> Option<ShardId> {
        self.home
    }

    /// Plans one execution.
    ///
    /// # Errors
    ///
    /// 0A000 where it would concern several shards, or rows of other keys than the session's.
    pub(super) fn plan(
        &self,
        ground: &Ground<'_>,
        inputs: &Inputs<'_>,
        scope: &Resolved<'_>,
    ) -> Result<(Plan, Rule), SqlError> {
        if let Some(own) = scope.temporary
            && ground.solo.is_none()
            && own.names.is_target(self.tag, inputs.text)
        {
            let plan = Plan { changes_schema: false, ..self.as_plan(Route::One(own.shard)) };
            return Ok((plan, Rule::Fixed));
        }
        if !scope.keys.is_empty() && !scope.whole && self.touches_rows() {
            return Err(Refusal::KeyFilter {
                what: self.tag.to_owned(),
                why: "It concerns rows of every key.",
            }
            .of_user(scope.confined));
        }
        check_unseen(&self.unseen, self.tag, ground, scope)?;
        let (route, rule) = match (scope.shard, ground.solo) {
            _ if self.database.is_some() => (self.at_its_database(ground, scope)?, Rule::Database),
            _ if scope.database.is_some() => {
                in_a_session(scope).ok_or(NotInDatabase::Utility { tag: self.tag })?
            }
            (Some((shard, _)), _) => (Route::One(shard), Rule::Scope),
            (None, Some(home)) => (Route::One(home), ground.solo_rule()),
            // So that whoever listens and whoever notifies meet.
            (None, None) if self.kind == UtilityKind::Notify => {
                (Route::One(ground.map.default_shard()), Rule::Home)
            }
            (None, None) if self.is_empty_temporary() && !scope.keys.is_empty() => {
                let shards = scope.keys.iter().map(|key| key.shards.single());
                let mut shards = shards.collect::<Option<Vec<_>>>().unwrap_or_default();
                shards.dedup();
                match shards.as_slice() {
                    [shard] => (Route::One(*shard), Rule::One),
                    _ => self.unscoped(scope.everywhere)?,
                }
            }
            (None, None) => {
                self.check_databases(ground, scope)?;
                self.unscoped(scope.everywhere)?
            }
        };
        let mut plan = self.as_plan(route);
        if self.may_write_rows() && ground.solo.is_none() {
            freeze::check_blind(ground.map, &plan, self.tag)?;
        }
        match rule {
            Rule::Everywhere => plan.answer = Answer::Broadcast,
            Rule::InTurn => plan.answer = Answer::InTurn,
            _ => {}
        }
        // Its connections are not used again.
        if rule == Rule::Everywhere || rule == Rule::InTurn {
            plan.taints &= matches!(self.kind, UtilityKind::Do | UtilityKind::Call);
        }
        Ok((plan, rule))
    }

    /// What may concern tables of keys' own databases is for one of those.
    fn check_databases(&self, ground: &Ground<'_>, scope: &Resolved<'_>) -> Result<(), SqlError> {
        let whole = match self.kind {
            UtilityKind::Definition => !OF_ROLES.contains(&self.tag) && !scope.everywhere,
            UtilityKind::Maintenance => self.home.is_none() && !scope.everywhere,
            _ => false,
        };
        if ground.map.has_key_databases() && (whole || self.in_databases) {
            return Err(NotInDatabase::Utility { tag: self.tag }.into());
        }
        Ok(())
    }

    /// CREATE DATABASE goes to the shard that will be asked for it.
    fn at_its_database(
        &self,
        ground: &Ground<'_>,
        scope: &Resolved<'_>,
    ) -> Result<Route, SqlError> {
        match &self.database {
            Some((name, DatabaseHome::Here(home))) => match scope.shard {
                Some((shard, origin)) if shard != *home => Err(Refusal::SourcesDisagree {
                    one: format!(
                        "database \"{name}\" belongs to shard \"{}\"",
                        ground.map.shard_name(*home)
                    ),
                    other: shard_text(ground.map, shard, origin),
                }
                .into()),
                _ => Ok(Route::One(*home)),
            },
            Some((name, DatabaseHome::Elsewhere(shard))) => Err(Refusal::OtherDatabase {
                tag: self.tag,
                database: name.clone(),
                shard: shard.clone(),
            }
            .into()),
            None => Err(Refusal::Utility { tag: self.tag.to_owned() }.into()),
        }
    }

    fn unscoped(&self, everywhere: bool) -> Result<(Route, Rule), SqlError> {
        const EVERYWHERE: (Route, Rule) = (Route::All, Rule::Everywhere);
        const IN_TURN: (Route, Rule) = (Route::All, Rule::InTurn);
        let tag = || self.tag.to_owned();
        let on_its_shard = match self.home {
            Some(shard) => Ok((Route::One(shard), Rule::Fixed)),
            None => Err(Refusal::Utility { tag: tag() }.into()),
        };
        match self.kind {
            UtilityKind::Set | UtilityKind::Show | UtilityKind::Discard => {
                Ok((Route::Any, Rule::Any))
            }
            UtilityKind::Definition if OF_ROLES.contains(&self.tag) => {
                Err(Refusal::Utility { tag: tag() }.into())
            }
            // The schema is the same on every shard, whatever lives there.
            UtilityKind::Definition if !everywhere && self.strands.is_some() => Err(self
                .strands
                .clone()
                .map_or_else(|| Refusal::Utility { tag: tag() }, Refusal::Schema)
                .into()),
            UtilityKind::Definition if self.temporary_by_path => {
                Err(Refusal::Schema(SchemaRefusal::TemporaryByPath { tag: self.tag }).into())
            }
            UtilityKind::Definition if self.alone => Ok(IN_TURN),
            UtilityKind::Definition => Ok(EVERYWHERE),
            UtilityKind::CopyTo if self.reference && !self.of_query => Ok((Route::Any, Rule::Any)),
            UtilityKind::CopyFrom | UtilityKind::CopyTo
                if self.home.is_some() && !self.of_query =>
            {
                on_its_shard
            }
            UtilityKind::CopyFrom => match self.unseen.first() {
                Some(Unseen { table, everywhere: false, .. }) => {
                    Err(Refusal::CopyFrom { table: table.clone() }.into())
                }
                _ => Err(Refusal::Utility { tag: "COPY FROM".to_owned() }.into()),
            },
            UtilityKind::Truncate | UtilityKind::Lock | UtilityKind::Maintenance
                if self.home.is_some() =>
            {
                on_its_shard
            }
            UtilityKind::Truncate | UtilityKind::Lock => Ok(EVERYWHERE),
            UtilityKind::Maintenance => Ok(IN_TURN),
            UtilityKind::Do | UtilityKind::Call if everywhere => Ok(EVERYWHERE),
            UtilityKind::Do | UtilityKind::Call => Err(Refusal::HiddenCode { tag: tag() }.into()),
            UtilityKind::Temporary if self.is_view() && !everywhere => {
                match (&self.spread, self.home) {
                    (Some(reads), _) => {
                        let reads = reads.clone();
                        Err(Refusal::Schema(SchemaRefusal::TemporaryView { reads }).into())
                    }
                    (None, Some(home)) => Ok((Route::One(home), Rule::Fixed)),
                    (None, None) => Ok((Route::Any, Rule::Any)),
                }
            }
            // Empty, it is where the transaction, or the connection that the session keeps, is.
            UtilityKind::Temporary if self.is_empty_temporary() && !everywhere => {
                Ok((Route::Any, Rule::Any))
            }
            // So is a cursor.
            UtilityKind::Cursor if self.of_cursor() => Ok((Route::Any, Rule::Any)),
            UtilityKind::Cursor
            | UtilityKind::Prepared
            | UtilityKind::Notify
            | UtilityKind::TwoPhase => Err(Refusal::SessionState { tag: tag() }.into()),
            UtilityKind::Temporary
            | UtilityKind::TableFromQuery
            | UtilityKind::ClusterWide
            | UtilityKind::CopyTo => Err(Refusal::Utility { tag: tag() }.into()),
        }
    }

    /// A temporary table without rows, which may be on any shard.
    fn is_empty_temporary(&self) -> bool {
        self.kind == UtilityKind::Temporary && !self.of_query && !self.is_view()
    }

    /// A temporary view, which reads and writes what it is made of.
    fn is_view(&self) -> bool {
        self.kind == UtilityKind::Temporary && self.tag == "CREATE VIEW"
    }

    /// It may write rows, and which is not known.
    fn may_write_rows(&self) -> bool {
        let here = self.reference || self.home.is_some();
        match self.kind {
            UtilityKind::CopyFrom | UtilityKind::Truncate => !here,
            UtilityKind::Do | UtilityKind::Call | UtilityKind::Prepared => true,
            _ => false,
        }
    }

    /// Of a cursor that is there: its rows were chosen when it was declared.
    fn of_cursor(&self) -> bool {
        matches!(self.tag, "FETCH" | "CLOSE CURSOR")
    }

    fn touches_rows(&self) -> bool {
        match self.kind {
            UtilityKind::Cursor if self.of_cursor() => false,
            UtilityKind::Set
            | UtilityKind::Show
            | UtilityKind::Discard
            | UtilityKind::Notify
            | UtilityKind::TwoPhase => false,
            UtilityKind::Temporary => self.of_query || self.is_view() && self.home.is_none(),
            UtilityKind::Lock | UtilityKind::CopyTo | UtilityKind::CopyFrom => {
                self.of_query || !(self.reference || self.home.is_some())
            }
            UtilityKind::Definition
            | UtilityKind::TableFromQuery
            | UtilityKind::ClusterWide
            | UtilityKind::Truncate
            | UtilityKind::Maintenance
            | UtilityKind::Do
            | UtilityKind::Call
            | UtilityKind::Cursor
            | UtilityKind::Prepared => true,
        }
    }

    fn as_plan(&self, route: Route) -> Plan {
        let kind = self.kind;
        let taints = match kind {
            // What it runs, and what it leaves, DECLARE has seen to.
            UtilityKind::Cursor if self.of_cursor() => false,
            UtilityKind::Do
            | UtilityKind::Call
            | UtilityKind::Temporary
            | UtilityKind::Cursor
            | UtilityKind::Prepared => true,
            // NOTIFY leaves nothing; UNLISTEN only ends something.
            UtilityKind::Notify => self.tag == "LISTEN",
            UtilityKind::CopyFrom | UtilityKind::Truncate => self.triggers || self.filters,
            // COPY (query) may call anything.
            UtilityKind::CopyTo => self.of_query,
            // The query may call anything; so may an event trigger.
            UtilityKind::TableFromQuery | UtilityKind::Definition | UtilityKind::Maintenance => {
                true
            }
            UtilityKind::ClusterWide
            | UtilityKind::Lock
            | UtilityKind::TwoPhase
            | UtilityKind::Discard
            | UtilityKind::Show
            | UtilityKind::Set => false,
        };
        Plan {
            route,
            answer: Answer::Relay,
            rewritten: None,
            taints,
            writes: !self.of_cursor()
                && !matches!(
                    kind,
                    UtilityKind::Set
                        | UtilityKind::Show
                        | UtilityKind::Discard
                        | UtilityKind::CopyTo
                )
                || self.of_query,
            changes_schema: matches!(
                kind,
                UtilityKind::Definition
                    | UtilityKind::TableFromQuery
                    | UtilityKind::ClusterWide
                    | UtilityKind::Do
                    | UtilityKind::Call
            ),
            settings: None,
            names_temporary: false,
            crossing: None,
            once: false,
        }
    }
}

/// A session of a key is in that key's database. (A hint is for one statement whose tables are known.)
fn in_a_session(scope: &Resolved<'_>) -> Option<(Route, Rule)> {
    let database = scope.database.as_ref()?;
    let session = scope.is_session_of(database.key);
    session.then(|| (Route::Database(Arc::clone(database)), Rule::KeyDatabase))
}

/// The table is one of those that each value of a key has in a database of its own.
fn is_in_databases(table: &Table, map: &ShardMap) -> bool {
    match map.placement(table) {
        Placement::Sharded { key, .. } => map.has_databases(key),
        Placement::Lookup { name, .. } => {
            via::home(map, name).is_some_and(|key| map.has_databases(key))
        }
        Placement::Reference
        | Placement::Single(_)
        | Placement::Unlisted
        | Placement::Unusable(_) => false,
    }
}

/// The shard that all of these tables live on, if there are any, and one.
fn common_home(tables: &[std::sync::Arc<Table>], map: &ShardMap) -> Option<ShardId> {
    let mut common = None;
    for table in tables {
        let home = match map.placement(table) {
            Placement::Single(shard) => shard,
            Placement::Unlisted if map.policy().unlisted_tables == UnlistedTables::DefaultShard => {
                map.default_shard()
            }
            _ => return None,
        };
        if common.is_some_and(|other| other != home) {
            return None;
        }
        common = Some(home);
    }
    common
}

/// The shape of a statement that could not be read.
#[derive(Clone, Debug)]
pub(super) struct OpaqueShape {
    reason: String,
    reads_only: bool,
    /// What keeps it from the home shard.
    names: Option<String>,
    /// It may call `currval` or `lastval`.
    /// What it may write.
    unseen: Vec<Unseen>,
}

impl OpaqueShape {
    pub(super) fn compile(opaque: &Opaque, map: &ShardMap) -> Self {
        Self {
            reason: opaque.reason.clone(),
            reads_only: opaque.reads_only,
            names: obstacle(opaque, map),
            unseen: if opaque.reads_only { Vec::new() } else { unseen(&opaque.tables, map) },
        }
    }

    /// Plans one execution.
    ///
    /// # Errors
    ///
    /// 0A000 where it might concern rows that aren't on the home shard, or rows of another key than the
    /// session's.
    pub(super) fn plan(
        &self,
        ground: &Ground<'_>,
        inputs: &Inputs<'_>,
        scope: &Resolved<'_>,
    ) -> Result<(Plan, Rule), SqlError> {
        if let Some(own) = scope.temporary
            && self.names.is_none()
            && self.unseen.is_empty()
            && ground.solo.is_none()
            && own.names.is_target("INSERT", inputs.text)
        {
            return Ok((self.as_plan(Route::One(own.shard)), Rule::Fixed));
        }
        if let (None, Some(plan)) = (ground.solo, staged::into_temporary(ground, inputs, scope)) {
            return Ok((Plan { taints: true, ..plan }, Rule::Staged));
        }
        if !scope.keys.is_empty() && !scope.whole {
            return Err(Refusal::KeyFilter {
                what: "a statement that can't be read".to_owned(),
                why: "Its tables can't be given a predicate.",
            }
            .of_user(scope.confined));
        }
        check_unseen(&self.unseen, "a statement that can't be read", ground, scope)?;
        let home = ground.map.default_shard();
        let (route, rule) = match (scope.shard, ground.solo, &self.names) {
            _ if scope.database.is_some() => {
                let (reason, names) = (self.reason.clone(), self.names.clone());
                in_a_session(scope).ok_or_else(|| Refusal::Opaque {
                    reason,
                    names: names.unwrap_or_else(|| "its hint names a key".to_owned()),
                })?
            }
            (Some((shard, _)), ..) => (Route::One(shard), Rule::Scope),
            (None, Some(home), _) => (Route::One(home), ground.solo_rule()),
            (None, None, None) => (Route::One(home), Rule::Home),
            (None, None, Some(names)) => {
                let (reason, names) = (self.reason.clone(), names.clone());
                return Err(Refusal::Opaque { reason, names }.into());
            }
        };
        let plan = self.as_plan(route);
        // What names no sharded table can't write one, but by code that is not seen.
        if plan.writes && rule == Rule::Scope && ground.solo.is_none() {
            freeze::check_blind(ground.map, &plan, "a statement that can't be read")?;
        }
        Ok((plan, rule))
    }

    fn as_plan(&self, route: Route) -> Plan {
        Plan {
            route,
            answer: Answer::Relay,
            rewritten: None,
            taints: true,
            writes: !self.reads_only,
            changes_schema: false,
            settings: None,
            names_temporary: false,
            crossing: None,
            once: false,
        }
    }
}

/// What in an unread statement might not be on the home shard.
fn obstacle(opaque: &Opaque, map: &ShardMap) -> Option<String> {
    let home = map.default_shard();
    for table in &opaque.tables {
        let name = &table.name;
        let obstacle = match map.placement(table) {
            Placement::Reference if opaque.reads_only => None,
            Placement::Reference => Some(format!("it may write to reference table \"{name}\"")),
            Placement::Single(shard) if shard == home => None,
            Placement::Single(shard) => {
                Some(format!("it names table \"{name}\" of shard {}", map.shard_name(shard)))
            }
            Placement::Unlisted if map.policy().unlisted_tables == UnlistedTables::DefaultShard => {
                None
            }
            Placement::Sharded { .. }
            | Placement::Lookup { .. }
            | Placement::Unlisted
            | Placement::Unusable(_) => Some(format!("it names table \"{name}\"")),
        };
        if obstacle.is_some() {
            return obstacle;
        }
    }
    let undeclared = |name: &&String| map.function(name) != Some(crate::map::FunctionRule::Pure);
    opaque.unknown_functions.iter().find(undeclared).map(|name| format!("it calls function {name}"))
}
