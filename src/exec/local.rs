//! What the proxy answers itself: its own settings, EXPLAIN (ROUTE), the trace.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use super::gathered::query_within;
use super::planner::{Readied, Scopes};
use super::statements::no_statement;
use super::{Executor, worker};
use crate::datum::Format;
use crate::error::{SqlError, SqlState};
use crate::lookup::View;
use crate::map::ShardId;
use crate::mapstore::World;
use crate::observe::{self, RouteKind};
use crate::plan::{Explained, Fresh, Inputs, Plan, Route, Scope, Temporary, scope};
use crate::session::Session;
use crate::session::responses::OUR_NAMES;
use crate::session::settings::set_sql;
use crate::session::transaction::Transaction;
use crate::sql::class::{Class, SetCommand, SetValue, classify, is_custom};
use crate::sql::hint;
use crate::sql::quote::quote_literal;
use crate::wire;
use crate::wire::Out;
use crate::wire::backend::{FieldDescription, Severity};

/// A result of our own: at most one column of text or json.
#[derive(Clone, Debug, Default)]
pub(super) struct LocalAnswer {
    /// The column's name and type; `None` for a command without rows.
    pub(super) column: Option<(String, u32)>,
    /// Its rows.
    pub(super) rows: Vec<String>,
    /// The command tag.
    pub(super) tag: &'static str,
}

impl LocalAnswer {
    fn command(tag: &'static str) -> Self {
        Self { column: None, rows: Vec::new(), tag }
    }

    fn value(name: &str, value: impl Into<String>) -> Self {
        Self {
            column: Some((name.to_owned(), crate::datum::oid::TEXT)),
            rows: vec![value.into()],
            tag: "SHOW",
        }
    }

    /// `RowDescription` or `NoData`.
    pub(super) fn describe(&self, out: &mut impl Out, format: Format) {
        match &self.column {
            None => wire::backend::no_data(out),
            Some((name, oid)) => wire::backend::row_description(
                out,
                &[FieldDescription { type_oid: *oid, format, ..FieldDescription::text(name) }],
            ),
        }
    }

    /// The rows and the tag. (Text and json look the same in both formats.)
    pub(super) fn execute(&self, out: &mut impl Out) {
        observe::routed(RouteKind::Local);
        for row in &self.rows {
            wire::backend::data_row(out, &[Some(row.as_bytes())]);
        }
        wire::backend::command_complete(out, self.tag);
    }

    /// All of it, as the simple protocol wants it.
    pub(super) fn simple(&self, out: &mut impl Out) {
        if self.column.is_some() {
            self.describe(out, Format::Text);
        }
        self.execute(out);
    }
}

/// The session's word on where statements go.
pub(super) struct SessionScopes<'a>(pub(super) &'a Session);

impl Scopes for SessionScopes<'_> {
    fn is_own(&self, table: &str) -> bool {
        self.0.has_temporary(table)
    }

    fn scope(&self, world: &World, hint: Option<&str>) -> Result<Scope<'_>, SqlError> {
        let session = self.0;
        let own = session.temporary.as_ref();
        let temporary = own.map(|(shard, names)| Temporary { shard: *shard, names });
        let mut found = Scope {
            temporary,
            across_regions: session.across_regions,
            own_rows: session.reads_own_rows(),
            ..Scope::default()
        };
        let Some(text) = hint else {
            if session.is_unscoped() {
                return Ok(found);
            }
            return self.with_session(world, found);
        };
        if !session.hints {
            return Err(SqlError::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("user \"{}\" may not give routing hints", session.user),
            )
            .hint("Give the user `hints = true` in [[users]], or leave the comment out."));
        }
        let hint = hint::parse(text)?;
        if let Some(name) = &hint.shard {
            found.hint_shard = Some(scope::resolve_shard(&world.map, name)?);
        }
        if let Some(key) = &hint.key {
            let (id, value) = scope::resolve_key(&world.map, key)?;
            found.hint_key = Some((id, Cow::Owned(value)));
        }
        self.with_session(world, found)
    }
}

impl SessionScopes<'_> {
    fn with_session<'a>(&self, world: &World, mut scope: Scope<'a>) -> Result<Scope<'a>, SqlError> {
        let session = self.0;
        if session.shard() == Some("*") {
            scope.everywhere = true;
        } else if let Some(name) = session.shard() {
            scope.session_shard = Some(scope::resolve_shard(&world.map, name)?);
        }
        if let Some(key) = session.user_key.as_deref().or(session.key()) {
            let (id, value) = scope::resolve_key(&world.map, key)?;
            scope.session_key = Some((id, Cow::Owned(value)));
            scope.confined = session.user_key.is_some();
        }
        Ok(scope)
    }
}

/// Where a statement would go, for whoever asks outside of a session: in lines, without running it.
///
/// # Errors
///
/// It can't be read, or its hint names what is not in the map.
pub fn explain(world: &Arc<World>, text: &str) -> Result<Vec<String>, SqlError> {
    let session = Session { hints: true, ..Session::default() };
    let reading = worker::reading(&session, world);
    let prepare =
        |text: &str| worker::with_planner(|p| p.prepare(world, &reading, text.as_bytes()));
    let hint = prepare(text)?.hint;
    let (scopes, fresh) = (SessionScopes(&session), Fresh::default());
    let explain = |text: &str| {
        let readied = prepare(text)?;
        let scope = scopes.scope(world, hint.as_deref())?;
        let scope = Scope { fresh: Some(fresh.of(0, None)), ..scope };
        let inputs = Inputs {
            text: text.get(readied.start as usize..readied.end as usize).unwrap_or_default(),
            literals: &readied.literals,
            params: &[],
            utf8: true,
            standard_strings: true,
        };
        Ok::<_, SqlError>(match &readied.entry.template {
            _ if is_local(&readied.entry.class, world) => Explained::local(&world.map),
            Some(template) => template.explain(&world.map, &inputs, &scope),
            None => Explained::local(&world.map),
        })
    };
    let mut explained = explain(text)?;
    if explained.is_unsupported()
        && let Some(within) = query_within(text, true)
    {
        explained = explain(&within.query)?.about(&within).unwrap_or(explained);
    }
    Ok(explained.lines)
}

/// What the client's last statement did, for `SHOW pgmeridian.last_route` and the trace.
#[derive(Debug, Default)]
pub(super) struct LastRoute {
    route: Option<Route>,
    map_version: u64,
    /// How the statement that runs was counted.
    counted: Option<RouteKind>,
    /// It was answered without a shard.
    local: bool,
}

impl LastRoute {
    pub(super) fn note(&mut self, plan: &Plan, world: &World) {
        let kind = match &plan.route {
            Route::One(_) | Route::Database(_) => RouteKind::One,
            Route::Many(_) => RouteKind::Many,
            Route::All => RouteKind::All,
            Route::Any => RouteKind::Any,
            Route::Nowhere => RouteKind::Nowhere,
        };
        observe::routed(kind);
        self.counted = Some(kind);
        self.route = Some(plan.route.clone());
        self.local = false;
        self.map_version = world.map.version_told();
    }

    /// A new statement begins.
    pub(super) fn begin(&mut self) {
        self.counted = None;
    }

    /// The statement that runs has failed on a shard.
    pub(super) fn note_failure(&self) {
        if let Some(kind) = self.counted {
            observe::failed(kind);
        }
    }

    /// The proxy reports an error of its own: the statement was refused, or failed on its way.
    pub(super) fn note_refusal(&self) {
        match self.counted {
            Some(kind) => observe::failed(kind),
            None => observe::routed(RouteKind::Refused),
        }
    }

    pub(super) fn note_one(&mut self, route: Route, world: &World) {
        self.route = Some(route);
        self.local = false;
        self.map_version = world.map.version_told();
    }

    /// The proxy has answered without asking a shard.
    pub(super) fn note_local(&mut self) {
        self.local = true;
    }

    fn text(&self, world: &World, transaction: &Transaction) -> String {
        if self.local {
            return "answered by the proxy".to_owned();
        }
        let Some(route) = &self.route else { return "none yet".to_owned() };
        let name = |shard: ShardId| {
            world.map.shards().get(usize::from(shard.0)).map_or("?", |shard| shard.name.as_str())
        };
        let place = match route {
            Route::One(shard) => match world.map.sole_key() {
                Some(_) => {
                    format!("one shard: {}, database {}", name(*shard), world.map.database())
                }
                None => format!("one shard: {}", name(*shard)),
            },
            Route::Database(database) => {
                format!("one shard: {}, database {}", name(database.shard), database.name)
            }
            Route::Many(shards) => {
                let names: Vec<&str> = shards.iter().map(name).collect();
                format!("many shards: {}", names.join(", "))
            }
            Route::All => "all shards".to_owned(),
            Route::Any | Route::Nowhere => {
                let shard = transaction.shard().unwrap_or(world.map.default_shard());
                let why = if *route == Route::Any { "any shard" } else { "no row can match" };
                format!("{why}: {}", name(shard))
            }
        };
        format!("{place} (map version {})", self.map_version)
    }
}

/// Only the proxy can answer it.
pub(super) fn is_local(class: &Class, world: &World) -> bool {
    match class {
        Class::ExplainRoute { .. } | Class::ExplainRouteWith(_) => true,
        Class::DiscardAll | Class::Deallocate(_) => true,
        class => scope::is_own_setting(class, &world.map),
    }
}

fn is_ours(name: &str, world: &World) -> bool {
    scope::is_own(name, &world.map)
}

fn unknown_setting(name: &str) -> SqlError {
    SqlError::new(
        SqlState::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\""),
    )
    .hint("The proxy's own settings are pgmeridian.shard, .key, .region and .trace; pgmeridian.last_route can be shown.")
}

impl Executor {
    /// A statement goes on its way.
    pub(super) fn note_route(&mut self, plan: &Plan) {
        self.last_route.note(plan, &self.world);
        if let Some(crossing) = &plan.crossing {
            let (region, with) = (&crossing.region, &crossing.with);
            observe::crossed_regions(&self.session.user, region, with, &crossing.tables);
        }
    }

    /// Does what only the proxy can do; `None` for everything else.
    pub(super) fn answer_locally(
        &mut self,
        class: &Class,
        text: &str,
    ) -> Result<Option<LocalAnswer>, SqlError> {
        match class {
            Class::ExplainRoute { json, .. } => self.explain_route(*json, text).map(Some),
            Class::ExplainRouteWith(option) => Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("EXPLAIN (ROUTE) can't be combined with option \"{option}\""),
            )
            .hint("Write EXPLAIN (ROUTE) or EXPLAIN (ROUTE, FORMAT JSON).")),
            Class::Set(set) if is_ours(&set.name, &self.world) => {
                self.set_ours(set)?;
                Ok(Some(LocalAnswer::command("SET")))
            }
            Class::Reset(Some(name)) if is_ours(name, &self.world) => {
                self.set_ours(&SetCommand::reset(name))?;
                Ok(Some(LocalAnswer::command("RESET")))
            }
            Class::Show(name) if is_ours(name, &self.world) => self.show_ours(name).map(Some),
            Class::DiscardAll => {
                self.discard_all()?;
                Ok(Some(LocalAnswer::command("DISCARD ALL")))
            }
            Class::Deallocate(name) => self.deallocate(name.as_deref()),
            _ => Ok(None),
        }
    }

    pub(super) fn set_ours(&mut self, set: &SetCommand) -> Result<(), SqlError> {
        let name = set.name.as_str();
        let value = match &set.value {
            SetValue::Default => None,
            SetValue::One(value) => Some(value.as_str()),
            SetValue::Raw(_) => {
                return Err(SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("SET {name} takes only one argument"),
                ));
            }
        };
        // PostgreSQL warns, and does nothing. What was to be a filter must not be missed so easily.
        if set.local && !self.session.settings.in_block() {
            return Err(SqlError::new(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                format!("SET LOCAL {name} can only be used in transaction blocks"),
            ));
        }
        if name == "pgmeridian.trace" {
            if set.local {
                return Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "SET LOCAL pgmeridian.trace is not supported",
                )
                .hint("Use SET, and RESET when done."));
            }
            self.session.trace = match value {
                None => false,
                Some(word) => parse_bool(word).ok_or_else(|| {
                    SqlError::new(
                        SqlState::INVALID_PARAMETER_VALUE,
                        "parameter \"pgmeridian.trace\" requires a Boolean value",
                    )
                })?,
            };
            return Ok(());
        }
        // A key or shard that is chosen is one of the map's that the session came to.
        let is_key = name == "pgmeridian.key" || self.world.map.key_setting() == Some(name);
        match (name, value) {
            ("pgmeridian.region", _) => {}
            ("pgmeridian.shard", value) => {
                self.may_choose(name)?;
                if let Some(shard) = value.filter(|shard| *shard != "*") {
                    scope::resolve_shard(&self.whole_map(), shard)?;
                }
            }
            (_, Some(key)) if is_key => {
                let map = self.whole_map();
                let chosen = scope::resolve_key(&map, key)?;
                let own = self.session.user_key.as_deref();
                if own.is_some_and(|own| scope::resolve_key(&map, own) != Ok(chosen)) {
                    self.may_choose(name)?;
                }
            }
            (_, None) if is_key => {}
            (name, _) => return Err(unknown_setting(name)),
        }
        self.keep_ours(set);
        self.follow_settings();
        Ok(())
    }

    /// A setting of the proxy's own that has been found good is the session's; false if it is not the proxy's.
    pub(super) fn keep_ours(&mut self, set: &SetCommand) -> bool {
        let name = set.name.as_str();
        if !is_ours(name, &self.world) {
            return false;
        }
        let is_key = self.world.map.key_setting() == Some(name);
        let own = if is_key { "pgmeridian.key" } else { name };
        self.session.settings.set(own, worker::plain(&set.value), set.local);
        if own != name {
            self.set_custom(name, set);
        }
        true
    }

    /// The map's `key_setting` is a setting of PostgreSQL's too: the shards are told of it, whose policies,
    /// defaults and functions may read it.
    pub(super) fn set_custom(&mut self, name: &str, set: &SetCommand) {
        if !is_custom(name) {
            return;
        }
        let before = self.session.settings.outside().id();
        let value = worker::plain(&set.value).map(quote_literal);
        self.session.settings.set(name, value.as_deref(), set.local);
        let after = self.session.settings.outside().id();
        // What a session began with, its connections have no default for.
        let mut told = vec![set_sql(name, value.as_deref().unwrap_or("DEFAULT"), set.local)];
        if value.is_none() {
            told.extend(self.session.settings.after_reset(Some(name), set.local));
        }
        if let Transaction::Pending(pending) = &mut self.session.transaction {
            for sql in &told {
                pending.push(sql);
            }
            return;
        }
        for held in self.held.iter_mut().filter(|held| !held.beside) {
            if held.lease.tx_status() != b'I' {
                held.untold.extend(told.iter().cloned());
            } else if held.lease.settings_id == before {
                held.untold.extend(told.iter().cloned());
                held.lease.settings_id = after;
            }
        }
    }

    fn may_choose(&self, setting: &str) -> Result<(), SqlError> {
        if self.session.user_key.is_some() {
            return Err(SqlError::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("user \"{}\" may not set \"{setting}\"", self.session.user),
            )
            .detail("The user is confined to one key."));
        }
        Ok(())
    }

    fn show_ours(&mut self, name: &str) -> Result<LocalAnswer, SqlError> {
        let none = String::new;
        let value = match name {
            "pgmeridian.trace" => if self.session.trace { "on" } else { "off" }.to_owned(),
            "pgmeridian.shard" => self.session.shard().map_or_else(none, str::to_owned),
            "pgmeridian.region" => self.session.region().map_or_else(none, str::to_owned),
            "pgmeridian.last_route" => self.last_route.text(&self.world, &self.session.transaction),
            "pgmeridian.key" => self.shown_key(),
            name if self.world.map.key_setting() == Some(name) => self.shown_key(),
            name => return Err(unknown_setting(name)),
        };
        Ok(LocalAnswer::value(name, value))
    }

    fn shown_key(&self) -> String {
        let session = &self.session;
        session.user_key.as_deref().or(session.key()).unwrap_or_default().to_owned()
    }

    /// Before DISCARD ALL: the client has connections of its own that it concerns.
    pub(super) fn has_to_discard(&self) -> bool {
        !self.held.is_empty() && !self.session.transaction.is_open() && !self.batch.is_open()
    }

    /// DISCARD ALL: a new session, once its own connections were reset.
    fn discard_all(&mut self) -> Result<(), SqlError> {
        if self.session.transaction.is_open() {
            return Err(SqlError::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "DISCARD ALL cannot run inside a transaction block",
            ));
        }
        self.held.clear();
        self.cancel.rest();
        self.session.temporary = None;
        self.statements.clear();
        self.portals.clear();
        self.cursors.clear();
        self.session.settings.discard();
        self.session.trace = false;
        self.tell_again = true;
        self.follow_settings();
        Ok(())
    }

    fn deallocate(&mut self, name: Option<&str>) -> Result<Option<LocalAnswer>, SqlError> {
        let pinned = self.held.iter().any(|held| held.pinned);
        match name {
            None => {
                self.statements.clear_named();
                Ok((!pinned).then(|| LocalAnswer::command("DEALLOCATE ALL")))
            }
            Some(name) if self.statements.remove(name.as_bytes()) => {
                Ok(Some(LocalAnswer::command("DEALLOCATE")))
            }
            Some(name) if pinned && !name.as_bytes().starts_with(OUR_NAMES) => Ok(None),
            Some(name) => Err(no_statement(name.as_bytes())),
        }
    }

    /// `EXPLAIN (ROUTE) …`: the route, without running it. A hint before EXPLAIN is one of what it explains.
    fn explain_route(&mut self, json: bool, text: &str) -> Result<LocalAnswer, SqlError> {
        let prepare = |text: &str| {
            worker::with_planner(|p| p.prepare(&self.world, &self.reading, text.as_bytes()))
        };
        // Its shape may be that of another text, where what is explained stands elsewhere.
        let rest = match classify(text, self.reading.standard_strings) {
            Class::ExplainRoute { rest, .. } => rest,
            _ => 0,
        };
        let outer = prepare(text)?.hint;
        let text = text.get(rest as usize..).unwrap_or_default();
        let hint = prepare(text)?.hint.or(outer);
        let mut explained = self.explain_statement(text, hint.as_deref())?;
        if explained.is_unsupported()
            && let Some(within) = query_within(text, self.reading.standard_strings)
        {
            let query = self.explain_statement(&within.query, hint.as_deref())?;
            explained = query.about(&within).unwrap_or(explained);
        }
        let oid = if json { crate::datum::oid::JSON } else { crate::datum::oid::TEXT };
        let rows = if json { vec![explained.json.to_string()] } else { explained.lines };
        Ok(LocalAnswer { column: Some(("QUERY PLAN".to_owned(), oid)), rows, tag: "EXPLAIN" })
    }

    fn explain_statement(&mut self, text: &str, hint: Option<&str>) -> Result<Explained, SqlError> {
        let readied =
            worker::with_planner(|p| p.prepare(&self.world, &self.reading, text.as_bytes()))?;
        let statement = text.get(readied.start as usize..readied.end as usize).unwrap_or_default();
        match (&readied.entry.template, &readied.entry.class) {
            (_, class) if is_local(class, &self.world) => Ok(Explained::local(&self.world.map)),
            (Some(template), _) => {
                let view = self.view();
                let scopes = self.scopes(view.as_ref());
                let scope = scopes.scope(&self.world, hint)?;
                let inputs = self.inputs(&readied, statement, &[]);
                let explained = template.explain(&self.world.map, &inputs, &scope);
                let noted = view.map(View::into_noted).unwrap_or_default();
                self.wanted = noted.wanted;
                let homes = noted.newcomers.iter().filter_map(|newcomer| {
                    Some((newcomer.value.to_string(), self.home_for(newcomer)?))
                });
                Ok(explained.with_homes(&self.world.map, &homes.collect::<Vec<_>>()))
            }
            (None, Class::Execute(execution)) => {
                self.explain_execution(&execution.clone(), statement, hint)
            }
            (None, _) => Ok(Explained::local(&self.world.map)),
        }
    }

    pub(super) fn inputs<'a>(
        &self,
        readied: &'a Readied,
        text: &'a str,
        params: &'a [crate::datum::Param<'a>],
    ) -> Inputs<'a> {
        Inputs {
            text,
            literals: &readied.literals,
            params,
            utf8: self.reading.utf8,
            standard_strings: self.reading.standard_strings,
        }
    }

    /// The NOTICE that `pgmeridian.trace` puts behind a statement.
    pub(super) fn trace_notice(&mut self) {
        let mut message = String::from("route: ");
        message.push_str(&self.last_route.text(&self.world, &self.session.transaction));
        let traced = self.traced.as_deref();
        if let Some(traced) = traced {
            let _ = write!(message, ", {:.3} ms", traced.began.elapsed().as_secs_f64() * 1e3);
        }
        let shards = traced.map(|traced| traced.shards.as_slice()).unwrap_or_default();
        for (n, (shard, time)) in shards.iter().enumerate() {
            let name = self.world.map.shard_name(*shard);
            let before = if n == 0 { " (" } else { ", " };
            let _ = write!(message, "{before}{name} {:.3} ms", time.as_secs_f64() * 1e3);
        }
        if !shards.is_empty() {
            message.push(')');
        }
        let notice = SqlError::new(SqlState("00000"), message);
        wire::backend::notice(&mut self.io.outbox, &notice, Severity::Notice);
    }
}

fn parse_bool(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" | "t" | "y" => Some(true),
        "off" | "false" | "no" | "0" | "f" | "n" => Some(false),
        _ => None,
    }
}
