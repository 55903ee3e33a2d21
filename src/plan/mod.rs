//! Analysis + parameters + map → a plan, or a refusal by name.
//!
//! [`Template`] is compiled once for a statement's shape and a map; [`Template::plan`] is the hot path:
//! with the parameters of one execution it yields a [`Plan`]. Everything that is refused is a variant of
//! `refusal::Refusal`, which is also its documentation.
//!
//! | file | its concern |
//! |---|---|
//! | `compile` | a query's shape against one map |
//! | `facts` | what a statement says of each occurrence of a table, and why that is sound |
//! | `restrict`, `constant` | conditions on keys, their values, the shards that are left |
//! | `query` | the rules: scope, one, nowhere, any; claims and assignments |
//! | `several` | statements over several shards, and the map's policy |
//! | `many` | the whitelist of reads over several shards |
//! | `ordered` | the same with ORDER BY and LIMIT: what each shard is asked, how it is merged |
//! | `workspace` | reads that run on one shard over scratch tables |
//! | `combine` | what the shards can do for those beforehand |
//! | `text` | a statement's clauses by its tokens |
//! | `moment` | the transaction's time, said to every shard |
//! | `database` | keys that have a database each |
//! | `insert` | where new rows go |
//! | `staged` | a query's rows of several shards that go to one place |
//! | `everywhere` | what runs on every shard because the session says so |
//! | `copies` | rows that every shard has |
//! | `freeze` | keys that may not be written, and are read once |
//! | `fresh` | random keys that are made here |
//! | `utility` | what isn't a query, or could not be read |
//! | `scope` | hint and session |
//! | `via` | ids that lead to keys |
//! | `numbers` | numbers of shards in rows, where the map trusts them |
//! | `splice` | changes of the text |
//! | `explain` | the same, for people |
//!
//! Invariant: every row that can influence the answer lives on a shard of the route. It never awaits,
//! never logs, never sees a socket.

mod combine;
mod compile;
mod constant;
mod construct;
mod copies;
mod database;
mod everywhere;
mod explain;
mod facts;
mod freeze;
mod fresh;
mod insert;
mod many;
pub mod moment;
mod numbers;
pub mod ordered;
mod query;
mod refusal;
mod restrict;
mod schema;
pub mod scope;
mod settings;
mod several;
mod splice;
pub mod staged;
mod text;
mod utility;
mod via;
pub mod workspace;

use std::borrow::Cow;
use std::sync::Arc;

use self::compile::Query;
use self::constant::Constants;
pub use self::explain::{Explained, QueryWithin};
pub use self::fresh::{Fresh, FreshHere};
pub use self::ordered::Merge;
use self::refusal::Refusal;
use self::restrict::Restrict;
pub use self::schema::repeating_numbers;
use self::scope::Resolved;
pub use self::several::allowed;
pub use self::staged::Staged;
use self::utility::{OpaqueShape, UtilityShape};
pub use self::workspace::Workspace;
use crate::datum::{Decoded, KeyType, KeyValue, Param};
use crate::error::SqlError;
use crate::lookup::Lookups;
use crate::map::{KeyDatabase, KeyId, ShardId, ShardMap, ShardSet};
use crate::sql::class::{Class, SetCommand};
use crate::sql::ir::{Scalar, Statement};
use crate::sql::lexer::Literal;
use crate::sql::temporary::TemporaryNames;

/// Stack that compiling a statement may need: its predicates and joins nest as deep as the lexer allows.
const STACK_BYTES: usize = 8 << 20;
/// Less than this left, and a new stack is taken.
const STACK_RED_ZONE_BYTES: usize = 512 << 10;

/// Where a statement goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To one shard, and only there is the answer right.
    One(ShardId),
    /// To a key's own database, and only there is the answer right.
    Database(Arc<KeyDatabase>),
    /// To these shards (two or more).
    Many(ShardSet),
    /// To every shard of the map.
    All,
    /// Any shard gives the right answer (reference tables, no table at all); the home shard is preferred,
    /// a transaction's own shard is as good.
    Any,
    /// No row can match; any shard gives the right (empty) answer.
    Nowhere,
}

/// How the answer comes about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One shard's bytes, relayed.
    Relay,
    /// Rows of several shards, concatenated as they come.
    Stream(Texts),
    /// Rows of several shards, each shard's in order, merged.
    Merge(Arc<Merge>),
    /// One shard runs it over scratch tables with what the others have.
    Workspace(Arc<Workspace>),
    /// The rows of its query go to one shard first, and it runs there over them.
    Staged(Arc<Staged>),
    /// Done on every shard, all or nothing; one answer.
    Broadcast,
    /// Done on one shard after the other, each by itself: it can't be part of a transaction.
    InTurn,
}

/// Texts for shards that are asked something else than the others: while a key is frozen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(Option<Arc<Vec<(ShardId, String)>>>);

impl Texts {
    fn new(texts: Vec<(ShardId, String)>) -> Self {
        Self((!texts.is_empty()).then(|| Arc::new(texts)))
    }

    /// The text for a shard, if it has one of its own.
    pub fn of(&self, shard: ShardId) -> Option<&str> {
        self.iter().find(|(own, _)| *own == shard).map(|(_, text)| text.as_str())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &(ShardId, String)> {
        self.0.iter().flat_map(|texts| texts.iter())
    }
}

impl Answer {
    /// Several shards have a part in it.
    pub fn is_gathered(&self) -> bool {
        match self {
            Self::Relay => false,
            Self::Stream(_)
            | Self::Merge(_)
            | Self::Workspace(_)
            | Self::Staged(_)
            | Self::Broadcast
            | Self::InTurn => true,
        }
    }

    /// Asked for at all, it is carried out to its end.
    pub fn is_done_whole(&self) -> bool {
        self.is_everywhere() || matches!(self, Self::Staged(_))
    }

    /// Every shard does the same, and the client gets one answer.
    pub fn is_everywhere(&self) -> bool {
        matches!(self, Self::Broadcast | Self::InTurn)
    }
}

/// What to do with one execution of a statement.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where.
    pub route: Route,
    /// How.
    pub answer: Answer,
    /// The statement's text for the shard when it differs from the client's (a session key's predicate was
    /// added, say); spliced, never unparsed.
    pub rewritten: Option<String>,
    /// That text has a value in it that was made for this execution: it never comes again.
    pub once: bool,
    /// After it, the connection may carry state that only its client may see (user-defined code, DO,
    /// temporary tables, session advisory locks, `set_config` …).
    pub taints: bool,
    /// It may change data or schema: never run twice.
    pub writes: bool,
    /// It may have changed the schema: the catalog is read again.
    pub changes_schema: bool,
    /// What it sets by `set_config` when it succeeds, as SET would.
    pub settings: Option<Box<[SetCommand]>>,
    /// It may mean the session's temporary tables: it belongs to their shard.
    pub names_temporary: bool,
    /// Rows of a fenced region are read together with others, which the user may do.
    pub crossing: Option<Box<Crossing>>,
}

impl Plan {
    /// What a shard is sent where the shards' rows one after the other are the answer. `text` is the client's.
    pub fn text_for<'a>(&'a self, shard: ShardId, text: &'a str) -> &'a str {
        let own = match &self.answer {
            Answer::Stream(texts) => texts.of(shard),
            Answer::Merge(merge) => Some(merge.text_worker(shard).sql.as_str()),
            _ => None,
        };
        own.or(self.rewritten.as_deref()).unwrap_or(text)
    }
}

/// A use of the right to read rows of a fenced region together with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// The region.
    pub region: String,
    /// One that it may not be read with by others.
    pub with: String,
    /// The tables that are read.
    pub tables: Vec<String>,
}

/// The values of one execution.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The statement's text, which the literals' spans count in.
    pub text: &'a str,
    /// Its literals.
    pub literals: &'a [Literal],
    /// Bound parameters, empty in the simple protocol. When a statement with `$n` is planned before Bind
    /// (Describe), the parameters are missing: see [`Template::describe_shard`].
    pub params: &'a [Param<'a>],
    /// The client's encoding is UTF8. If not, text keys that aren't ASCII are refused.
    pub utf8: bool,
    /// `standard_conforming_strings`.
    pub standard_strings: bool,
}

/// What chooses or restricts the shard besides the statement. Sources that are present must agree.
#[derive(Clone, Debug, Default)]
pub struct Scope<'a> {
    /// `/* pgmeridian: shard=… */`.
    pub hint_shard: Option<ShardId>,
    /// `/* pgmeridian: key=… */`.
    pub hint_key: Option<(KeyId, Cow<'a, KeyValue<'static>>)>,
    /// `SET pgmeridian.shard`.
    pub session_shard: Option<ShardId>,
    /// `SET pgmeridian.key`.
    pub session_key: Option<(KeyId, Cow<'a, KeyValue<'static>>)>,
    /// The session's key is its user's: nobody else's rows are to be touched.
    pub confined: bool,
    /// The user may read rows of fenced regions together with others.
    pub across_regions: bool,
    /// What is known of ids that lead to keys. (They choose nothing by themselves: the statement must have
    /// them.)
    pub lookups: Option<&'a dyn Lookups>,
    /// `SET pgmeridian.shard = '*'`.
    pub everywhere: bool,
    /// What is made for the statement; `None`: nothing is.
    pub fresh: Option<FreshHere<'a>>,
    /// The session's temporary tables.
    pub temporary: Option<Temporary<'a>>,
    /// The open transaction sees rows that others don't: they are read on its own connections only.
    pub own_rows: bool,
}

impl Scope<'_> {
    /// Whether nothing but the statement chooses the shard.
    pub fn is_empty(&self) -> bool {
        !self.everywhere
            && self.temporary.is_none()
            && self.hint_shard.is_none()
            && self.session_shard.is_none()
            && self.hint_key.is_none()
            && self.session_key.is_none()
    }
}

/// A session's temporary tables.
#[derive(Clone, Copy, Debug)]
pub struct Temporary<'a> {
    /// They live on one shard.
    pub shard: ShardId,
    /// What they are called.
    pub names: &'a TemporaryNames,
}

/// Which rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// `routing = "off"`.
    Off,
    /// The map has one shard.
    OneShardMap,
    /// A hinted or session shard.
    Scope,
    /// All rows that matter are on one shard.
    One,
    /// All tables live on one shard.
    Fixed,
    /// The home shard, for what must mean the same to everyone.
    Home,
    /// The shard of the database that it is about.
    Database,
    /// The database of the key that it names.
    KeyDatabase,
    /// Any shard has the answer.
    Any,
    /// No row can match.
    Nowhere,
    /// The union of the shards' answers.
    Many,
    /// The union of the shards' answers, in order.
    Merge,
    /// Scratch tables on one shard.
    Workspace,
    /// A query's rows go to one shard.
    Staged,
    /// Every shard does the same.
    Everywhere,
    /// Every shard does the same, one after the other.
    InTurn,
}

/// What a plan stands on: the map, and whether all rows live on one shard.
#[derive(Clone, Copy)]
struct Ground<'m> {
    map: &'m ShardMap,
    /// The shard that everything lives on: the only one, or the default one with `routing = "off"`.
    solo: Option<ShardId>,
}

impl<'m> Ground<'m> {
    fn new(map: &'m ShardMap) -> Self {
        let solo = (map.is_one_server() || !map.routing()).then(|| map.default_shard());
        Self { map, solo }
    }

    fn solo_rule(&self) -> Rule {
        if self.map.routing() { Rule::OneShardMap } else { Rule::Off }
    }
}

/// A statement's shape, compiled for one version of the map.
#[derive(Debug)]
pub struct Template {
    shape: Shape,
    fast: Option<Fast>,
    /// EXPLAIN of the shape; with ANALYZE it runs.
    explain: Option<bool>,
    /// DECLARE CURSOR for the shape; whether WITH HOLD.
    cursor: Option<bool>,
    /// CREATE TEMP TABLE from the shape.
    temporary: bool,
    describe: Option<ShardId>,
    /// Why it is not carried out, whatever its values are.
    refused: Option<Box<SqlError>>,
}

#[derive(Debug)]
enum Shape {
    Query(Box<Query>),
    Utility(UtilityShape),
    Opaque(OpaqueShape),
}

/// The commonest case: one key, equal to one constant.
#[derive(Debug)]
struct Fast {
    key: KeyId,
    ty: KeyType,
    value: Scalar,
    table: String,
    taints: bool,
    writes: bool,
}

impl Template {
    /// Compiles a statement for a map. Neither fails nor refuses: what is to be refused is refused when
    /// it is planned.
    pub fn compile(statement: &Statement, class: &Class, map: &ShardMap) -> Self {
        stacker::maybe_grow(STACK_RED_ZONE_BYTES, STACK_BYTES, || {
            Self::compile_here(statement, class, map)
        })
    }

    fn compile_here(statement: &Statement, class: &Class, map: &ShardMap) -> Self {
        match statement {
            Statement::Query(analysis) => {
                let query = Query::compile(analysis, map);
                let describe = Some(describe_query(&query, map));
                let fast = Fast::of(&query, map);
                let shape = Shape::Query(Box::new(query));
                Self {
                    shape,
                    fast,
                    explain: None,
                    cursor: None,
                    temporary: false,
                    describe,
                    refused: None,
                }
            }
            Statement::Explain { analyze, inner } => {
                let inner = Self::compile_here(inner, class, map);
                Self { explain: Some(*analyze), ..inner.within() }
            }
            Statement::Declare { hold, inner } => {
                let inner = Self::compile_here(inner, class, map);
                Self { cursor: Some(*hold), ..inner.within() }
            }
            Statement::CreateTemporary { inner } => {
                let inner = Self::compile_here(inner, class, map);
                Self { temporary: true, ..inner.within() }
            }
            Statement::Utility(utility) => {
                let shape = UtilityShape::compile(utility, class, map);
                let describe = shape.describe();
                Self {
                    shape: Shape::Utility(shape),
                    fast: None,
                    explain: None,
                    cursor: None,
                    temporary: false,
                    describe,
                    refused: None,
                }
            }
            Statement::Opaque(opaque) => Self {
                shape: Shape::Opaque(OpaqueShape::compile(opaque, map)),
                fast: None,
                explain: None,
                cursor: None,
                temporary: false,
                describe: None,
                refused: None,
            },
        }
    }

    /// The same of what is the proxy's own: it may be read.
    #[must_use]
    pub fn reserved(self, error: SqlError) -> Self {
        match &self.shape {
            Shape::Query(query) if !query.writes => self,
            _ => Self { fast: None, refused: Some(Box::new(error)), ..self },
        }
    }

    /// The same as a part of another statement.
    fn within(mut self) -> Self {
        if let Shape::Query(query) = &mut self.shape {
            query.settings.iter_mut().for_each(|call| call.column = None);
        }
        Self { fast: None, ..self }
    }

    /// The columns of a statement that is nothing but calls of `set_config`.
    pub fn setting_columns(&self) -> Option<Vec<&str>> {
        match &self.shape {
            Shape::Query(query) => {
                query.settings.iter().map(|call| call.column.as_deref()).collect()
            }
            Shape::Utility(_) | Shape::Opaque(_) => None,
        }
    }

    /// Plans one execution.
    ///
    /// # Errors
    ///
    /// A refusal by name (0A000), sources that disagree or a key without a shard (22023), a key that is
    /// missing or NULL (23502), or what PostgreSQL would say of a value.
    pub fn plan(
        &self,
        map: &ShardMap,
        inputs: &Inputs<'_>,
        scope: &Scope<'_>,
    ) -> Result<Plan, SqlError> {
        if let Some(fast) = &self.fast
            && scope.is_empty()
            && (!fast.writes || map.freezes().is_empty())
            && let Some(plan) = fast.plan(map, inputs)?
        {
            return Ok(plan);
        }
        self.decide(map, inputs, scope).map(|(plan, _)| plan)
    }

    fn decide(
        &self,
        map: &ShardMap,
        inputs: &Inputs<'_>,
        scope: &Scope<'_>,
    ) -> Result<(Plan, Rule), SqlError> {
        if let Some(error) = &self.refused {
            return Err((**error).clone());
        }
        let ground = Ground::new(map);
        let mut scope = Resolved::new(map, scope, ground.solo)?;
        scope.temporary = scope.temporary.filter(|own| own.names.may_be_in(inputs.text));
        let (mut plan, mut rule) = match &self.shape {
            Shape::Query(query) => match (ground.solo, scope.shard, scope.keys.is_empty()) {
                // Everything lives there, so nothing has to be looked at.
                (Some(home), None, true) => {
                    (on_the_only(query, map, home, inputs)?, ground.solo_rule())
                }
                (Some(home), Some((shard, _)), true) if shard == home => {
                    (on_the_only(query, map, home, inputs)?, Rule::Scope)
                }
                _ if scope.everywhere => everywhere::plan(query, &ground, inputs, &scope)?,
                _ => query::plan(query, &ground, inputs, &scope)?,
            },
            Shape::Utility(utility) if utility.makes_table() => {
                match staged::anew(&ground, inputs, &scope) {
                    Some(plan) => (plan, Rule::Staged),
                    None => utility.plan(&ground, inputs, &scope)?,
                }
            }
            Shape::Utility(utility) => utility.plan(&ground, inputs, &scope)?,
            Shape::Opaque(opaque) => opaque.plan(&ground, inputs, &scope)?,
        };
        plan.names_temporary = scope.temporary.is_some();
        if let Some(analyze) = self.explain {
            if matches!(plan.route, Route::Many(_) | Route::All) {
                // Each shard has a plan of its own.
                return Err(Refusal::ExplainSeveral.into());
            }
            plan.writes &= analyze;
        }
        if self.temporary || self.cursor.is_some() {
            if plan.answer != Answer::Relay {
                let refusal = match self.cursor {
                    Some(_) => Refusal::SessionState { tag: "DECLARE CURSOR".to_owned() },
                    None => Refusal::Utility { tag: "CREATE TABLE AS".to_owned() },
                };
                let (whole, names_temporary) = (plan.route, plan.names_temporary);
                let staged = staged::anew(&ground, inputs, &scope).ok_or(refusal)?;
                plan = Plan { route: whole, names_temporary, ..staged };
                rule = Rule::Staged;
            }
            plan.taints |= self.cursor == Some(true);
            if self.temporary {
                (plan.taints, plan.writes) = (true, true);
            }
        }
        Ok((plan, rule))
    }

    /// A shard that can parse and describe the statement before its parameters are known: one that has
    /// its tables. `None` where any will do.
    pub fn describe_shard(&self, map: &ShardMap, scope: &Scope<'_>) -> Option<ShardId> {
        let ground = Ground::new(map);
        if let Some(shard) = scope.hint_shard.or(scope.session_shard) {
            return Some(shard);
        }
        if ground.solo.is_some() {
            return ground.solo;
        }
        let key = scope.hint_key.as_ref().or(scope.session_key.as_ref());
        if let Some((key, value)) = key
            && !map.has_databases(*key)
            && let Shape::Query(query) = &self.shape
            && query.fixed.is_empty()
            && let Ok(shard) = map.place(*key, value)
        {
            return Some(shard);
        }
        self.describe
    }

    /// Where the statement goes, and why, for people and programs; refusals too.
    pub fn explain(&self, map: &ShardMap, inputs: &Inputs<'_>, scope: &Scope<'_>) -> Explained {
        explain::explain(self, map, inputs, scope)
    }
}

/// Where all rows live.
fn on_the_only(
    query: &Query,
    map: &ShardMap,
    home: ShardId,
    inputs: &Inputs<'_>,
) -> Result<Plan, SqlError> {
    if !query.settings.is_empty() {
        settings::check_key(query, map, &Constants::new(inputs))?;
    }
    let told = settings::told(query, &Constants::new(inputs));
    Ok(Plan {
        route: Route::One(home),
        answer: Answer::Relay,
        rewritten: None,
        taints: query.taints || told.is_none() && !query.settings.is_empty(),
        writes: query.writes,
        changes_schema: false,
        settings: told,
        names_temporary: false,
        crossing: None,
        once: false,
    })
}

/// A shard that has all tables of a query, the default one if it does.
fn describe_query(query: &Query, map: &ShardMap) -> ShardId {
    let home = map.default_shard();
    if let Some(fixed) = query.fixed.first() {
        return fixed.shard;
    }
    let keys = query.occurrences.iter().map(|o| o.key).chain(query.inserts.iter().map(|i| i.key));
    let mut having = map.all_shards();
    // The default shard has the schema of keys' own databases.
    for key in keys.filter(|key| !map.has_databases(*key)) {
        having.intersect_with(map.key_shards(key));
    }
    if having.contains(home) { home } else { having.iter().next().unwrap_or(home) }
}

impl Fast {
    fn of(query: &Query, map: &ShardMap) -> Option<Self> {
        let ground = Ground::new(map);
        let first = query.occurrences.first()?;
        let Restrict::Eq(0, value) = &first.restrict else { return None };
        let [ty] = first.types.as_slice() else { return None };
        let alike =
            query.occurrences.iter().all(|o| o.key == first.key && o.restrict == first.restrict);
        let functions = &query.functions;
        let calls = functions.undeclared.is_some()
            || functions.home.is_some()
            || functions.all.is_some()
            || functions.reads.is_some()
            || functions.homely;
        let more = !query.inserts.is_empty()
            || !query.fixed.is_empty()
            || !query.settings.is_empty()
            || !query.unplaced.is_empty()
            || !query.assignments.is_empty()
            || !query.id_assignments.is_empty()
            || query.reference_written.is_some()
            || query.view_written.is_some()
            || query.writes && query.occurrences.iter().any(|o| !o.copies.is_empty())
            || query.occurrences.iter().any(|o| !o.numbers.is_empty())
            || map.has_databases(first.key);
        if !alike || calls || more || ground.solo.is_some() {
            return None;
        }
        Some(Self {
            key: first.key,
            ty: *ty,
            value: value.clone(),
            table: first.table.name.clone(),
            taints: query.taints,
            writes: query.writes,
        })
    }

    /// `None`: the constant's value can't be told here, and the whole query has to be looked at.
    #[inline]
    fn plan(&self, map: &ShardMap, inputs: &Inputs<'_>) -> Result<Option<Plan>, SqlError> {
        let route = match Constants::new(inputs).key(self.ty, &self.value)? {
            Decoded::Key(value) => match map.place(self.key, &value) {
                Ok(shard) => Route::One(shard),
                Err(no_shard) => {
                    let table = Some(self.table.clone());
                    return Err(Refusal::NoShard { no_shard, table }.into());
                }
            },
            Decoded::Null | Decoded::NoMatch | Decoded::Unknown => return Ok(None),
        };
        Ok(Some(Plan {
            route,
            answer: Answer::Relay,
            rewritten: None,
            taints: self.taints,
            writes: self.writes,
            changes_schema: false,
            settings: None,
            names_temporary: false,
            crossing: None,
            once: false,
        }))
    }
}
