//! PREPARE and EXECUTE as queries of their own.
//!
//! PREPARE is carried out as it was written on a shard that has the statement's tables, so that it is
//! PostgreSQL that finds what is wrong with it; what stays is the client's name, not the shard's. The route is
//! found when it is executed: constants among EXECUTE's arguments route as parameters do, the shard that
//! it is sent to evaluates the others.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use super::again::Repeat;
use super::extended::assemble::ParsedList;
use super::local::SessionScopes;
use super::merged::Wanted;
use super::planner::{Planned, Readied, Scopes};
use super::scatter::Requests;
use super::statements::{ClientStatement, Known, UNRESOLVED, no_statement};
use super::strings::{Piece, characters_of};
use super::{Executor, Failure, worker};
use crate::catalog::Catalog;
use crate::datum::{Format, Oid, Param, oid};
use crate::error::{SqlError, SqlState};
use crate::lookup::Noted;
use crate::map::ShardId;
use crate::plan::{Explained, Plan};
use crate::session::responses::StepKind;
use crate::session::transaction::Transaction;
use crate::sql::arguments::{self, Argument};
use crate::sql::class::{Class, Execution};
use crate::wire;

impl Executor {
    /// A shard that can parse the statement.
    pub(super) fn describe_shard(&self, readied: &Readied) -> Result<Option<ShardId>, SqlError> {
        let scopes = SessionScopes(&self.session);
        let scope = scopes.scope(&self.world, readied.hint.as_deref())?;
        let template = readied.entry.template.as_ref();
        // A table that the catalog does not know may be one of the session's own.
        let own = scope
            .temporary
            .filter(|_| !readied.entry.unknown_tables.is_empty())
            .map(|own| own.shard);
        let shard = || template.and_then(|t| t.describe_shard(&self.world.map, &scope));
        Ok(own.or_else(shard))
    }

    /// PREPARE as a query of its own.
    pub(super) async fn prepare_statement(
        &mut self,
        planned: &Planned,
        query: &[u8],
    ) -> Result<(), Failure> {
        let Class::Prepare { name, body, .. } = &planned.entry.class else { return Ok(()) };
        let sql = query.get((planned.start + body) as usize..planned.end as usize);
        let sql = sql.unwrap_or_default();
        let readied = self.read_statement(sql).await?;
        let admitted = self.statements.admit(name.as_bytes(), sql);
        let shard = self.shard_aside(&readied)?;
        let at = self.acquire(shard).await?;
        self.last_route.note_one(self.route_to(shard), &self.world);
        self.request.clear();
        self.begin_responses(true);
        wire::frontend::query_into(&mut self.request, query);
        // If it can't stay, PostgreSQL says first what else is wrong with it.
        self.responses.expect(StepKind::Query, admitted.is_err());
        self.exchange(at).await?;
        if self.responses.failed() {
            self.end_aside(at);
            return Err(Failure::Shown);
        }
        let learnt = self.give_back(at, &[name.as_bytes()], &[name.as_bytes()]).await?;
        self.end_aside(at);
        admitted?;
        let mut statement = self.client_statement(sql.into(), Vec::new(), readied);
        let prefix = query.get(..(planned.start + body) as usize).unwrap_or_default();
        let in_string = self.piece.as_ref().map_or(0, Piece::characters_before);
        statement.before = characters_of(prefix).saturating_add(in_string as u32);
        if let Some(types) = learnt.into_iter().next() {
            statement.oids.clone_from(&types);
            statement.types = Some(types);
        }
        self.statements.insert(name.as_bytes(), statement);
        self.end_answer();
        Ok(())
    }

    /// Reads the statement that is prepared; if it names a table that the catalog does not know, the
    /// catalog may be old.
    async fn read_statement(&mut self, sql: &[u8]) -> Result<Readied, SqlError> {
        let readied = worker::with_planner(|p| p.prepare(&self.world, &self.reading, sql))?;
        if (self.has_unknown_table(&readied.entry) || !self.world.catalog_known)
            && self.refresh_world().await?
        {
            return worker::with_planner(|p| p.prepare(&self.world, &self.reading, sql));
        }
        Ok(readied)
    }

    /// Where a statement can be looked at without being carried out.
    pub(super) fn shard_aside(&self, readied: &Readied) -> Result<ShardId, SqlError> {
        let busy = self.batch.open_on().or_else(|| self.session.transaction.shard());
        let shard = match busy.or_else(|| self.keeper()) {
            Some(shard) => Some(shard),
            None => self.describe_shard(readied)?,
        };
        Ok(shard.unwrap_or_else(|| self.world.map.default_shard()))
    }

    /// A connection has only been asked about a statement: a transaction that has not begun on it is not
    /// concerned, but by an error.
    pub(super) fn end_aside(&mut self, at: usize) {
        if !matches!(self.session.transaction, Transaction::Pending(_)) {
            return self.finish(at, false, false, &[], self.responses.failed());
        }
        self.settle(at);
        if self.responses.failed() {
            self.session.transaction.fail();
        }
    }

    /// EXECUTE as a query of its own.
    pub(super) async fn execute_statement(
        &mut self,
        planned: &Planned,
        query: &[u8],
    ) -> Result<(), Failure> {
        let Class::Execute(execution) = &planned.entry.class else { return Ok(()) };
        let name = execution.name.as_bytes();
        let statement = self.statement(name)?;
        let entry = Arc::clone(&statement.readied.entry);
        if statement.local {
            let sql = Arc::clone(&statement.sql);
            return self.run_inner(&sql).await;
        }
        let text = statement_of(query, planned);
        let hint = self.hint_of(planned, query)?;
        let plan = self.plan_execution_asking(execution, &text, hint.as_deref()).await?;
        if let Some(settings) = self.settings_of(&entry, &plan) {
            self.set_by_query(settings)?;
            self.end_answer();
            return Ok(());
        }
        self.refuse_session_state(&entry)?;
        self.note_route(&plan);
        if plan.answer.is_gathered() {
            return self.scatter_execution(execution, &plan, &text).await;
        }
        let shard = self.one_shard(&plan)?;
        let known = self.known_by(name, &plan)?;
        let before = self.statements.get(name).map_or(0, |statement| statement.before);
        if self.writes_apart(shard, plan.writes || plan.taints) {
            Box::pin(self.begin_writing(shard)).await?;
        }
        let place = self.fallible_place(planned.start, execution, query, &text);
        self.leaving = entry.leaves;
        let mut repeat = self.repeat_of(&entry, &plan);
        let mut parse_again = Repeat::Harmless;
        let at = loop {
            let at = self.acquire(shard).await?;
            self.may_write(at, plan.writes || plan.taints)?;
            let known = self.renamed_on(at, known.clone());
            if !self.prepare_on(at, &known, before, std::mem::take(&mut parse_again)).await? {
                continue;
            }
            self.start(at).await?;
            self.responses.known_as(&known.alias);
            self.write_execution(planned.start, execution, &known, query);
            self.responses.executes(place.clone(), before);
            self.responses.expect(StepKind::Query, false);
            if self.attempt(at, std::mem::take(&mut repeat)).await? {
                break at;
            }
        };
        self.finish_one(at, &plan, &entry.class);
        self.session.transaction.note(shard, plan.writes, plan.taints);
        self.close_trace();
        Ok(())
    }

    /// Appends EXECUTE to the request, with the name that the shard knows the statement by. `start`: where
    /// EXECUTE stands in the query.
    fn write_execution(&mut self, start: u32, execution: &Execution, known: &Known, query: &[u8]) {
        let end = (start + execution.at.end) as usize;
        let start = start + execution.at.start;
        let sql = [
            query.get(..start as usize).unwrap_or_default(),
            &known.prepared.name,
            query.get(end..).unwrap_or_default(),
        ]
        .concat();
        let written = i64::from(execution.at.end) - i64::from(execution.at.start);
        let longer = known.prepared.name.len() as i64 - written;
        let before = String::from_utf8_lossy(query.get(..start as usize).unwrap_or_default());
        self.responses.shift_positions(before.chars().count() as u32 + 1, -longer);
        wire::frontend::query_into(&mut self.request, &sql);
    }

    /// Where in the query EXECUTE's arguments stand (in characters, from 1), if PostgreSQL may find fault with
    /// the place of one: in a constant that its type can't read, or in an expression.
    fn fallible_place(
        &self,
        start: u32,
        execution: &Execution,
        query: &[u8],
        text: &str,
    ) -> Range<u32> {
        let Some(span) = execution.arguments else { return 0..0 };
        let statement = self.statements.get(execution.name.as_bytes());
        let types = statement.and_then(|one| one.types.as_deref()).unwrap_or_default();
        let base = |oid| self.world.catalog.base_type(oid);
        let is_harmless = |(n, argument): (usize, &Argument<'_>)| match argument {
            Argument::Null => true,
            Argument::Text(_) | Argument::Expression => false,
            Argument::Integer(_) | Argument::Decimal(_) | Argument::Boolean(_) => {
                types.get(n).is_some_and(|ty| as_parameter(argument, base(*ty)).is_some())
            }
        };
        let found = read_arguments(execution, text, self.reading.standard_strings);
        if found.iter().enumerate().all(is_harmless) {
            return 0..0;
        }
        let in_string = self.piece.as_ref().map_or(0, Piece::characters_before) as u32;
        let place = |at: u32| {
            let before = query.get(..(start + at) as usize).unwrap_or_default();
            characters_of(before).saturating_add(in_string).saturating_add(1)
        };
        place(span.start)..place(span.end)
    }

    /// The hint before EXECUTE.
    fn hint_of(&self, planned: &Planned, query: &[u8]) -> Result<Option<Box<str>>, SqlError> {
        if planned.from == planned.start {
            return Ok(None);
        }
        let sql = query.get(planned.from as usize..planned.end as usize).unwrap_or_default();
        Ok(worker::with_planner(|p| p.prepare(&self.world, &self.reading, sql))?.hint)
    }

    /// EXECUTE of what the proxy carries out itself.
    async fn run_inner(&mut self, sql: &[u8]) -> Result<(), Failure> {
        let mut planned = Vec::new();
        self.plan_query(sql, &mut planned).await?;
        match planned.as_slice() {
            [one] if !matches!(one.entry.class, Class::Execute(_)) => {
                Box::pin(self.run_one(one, sql)).await
            }
            _ => Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "EXECUTE of a statement that is itself EXECUTE is not supported",
            )
            .into()),
        }
    }

    /// EXECUTE over several shards: each is sent the statement with the arguments as parameters.
    async fn scatter_execution(
        &mut self,
        execution: &Execution,
        plan: &Plan,
        text: &str,
    ) -> Result<(), Failure> {
        if self.batch.is_open() {
            self.one_shard(plan)?;
        }
        let found = read_arguments(execution, text, self.reading.standard_strings);
        let values = self.constants(execution, &found)?;
        let Some(statement) = self.statements.get(execution.name.as_bytes()) else {
            return Err(no_statement(execution.name.as_bytes()).into());
        };
        let mut bind = Vec::new();
        wire::frontend::bind_text_into(&mut bind, b"", &values, Format::Text);
        self.refuse_beside_temporary(plan)?;
        self.allow_default_isolation(plan)?;
        let (own, oids) = (Arc::clone(&statement.sql), statement.oids.clone());
        let body = bind.get(wire::frame::HEADER_BYTES..);
        let timed = self.at_one_time(plan, &String::from_utf8_lossy(&own)).await?;
        let plan = timed.as_ref().unwrap_or(plan);
        let wanted = Wanted {
            sql: &own,
            oids: &oids,
            bind: body,
            described: true,
            no_data: false,
            rows_max: 0,
        };
        if self.read_gathered(plan, wanted).await? {
            self.end_answer();
            return Ok(());
        }
        let sql = plan.rewritten.as_deref().map_or(&*own, str::as_bytes);
        let requests = Requests::of(plan, sql, |sql| {
            let mut request = Vec::new();
            wire::frontend::parse_into(&mut request, b"", sql, oids.iter().copied());
            request.extend_from_slice(&bind);
            wire::frontend::describe_portal_into(&mut request, b"");
            wire::frontend::execute_into(&mut request, b"", 0);
            wire::frontend::sync_into(&mut request);
            request
        });
        self.scatter(plan, &requests, true, true).await?;
        self.end_answer();
        Ok(())
    }

    /// EXECUTE's arguments as text parameters.
    ///
    /// # Errors
    ///
    /// 0A000 for one that would have to be computed.
    pub(super) fn constants<'a>(
        &self,
        execution: &Execution,
        found: &'a [Argument<'_>],
    ) -> Result<Vec<Option<&'a [u8]>>, SqlError> {
        let statement = self.statements.get(execution.name.as_bytes());
        let types = statement.and_then(|one| one.types.as_deref()).unwrap_or_default();
        let base = |oid| self.world.catalog.base_type(oid);
        let value = |(n, argument): (usize, &'a Argument<'_>)| {
            as_parameter(argument, base(types.get(n).copied().unwrap_or(0))).ok_or_else(|| {
                SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "EXECUTE over several shards takes constants only",
                )
                .detail(format!(
                    "Argument {} of \"{}\" would be evaluated on every shard anew.",
                    n + 1,
                    execution.name
                ))
                .hint("Write its value, or bind it as a parameter.")
            })
        };
        found.iter().enumerate().map(value).collect()
    }

    fn end_answer(&mut self) {
        if self.session.trace {
            self.trace_notice();
        }
        self.ready();
    }

    /// Where an execution goes, when everything is known that can be.
    pub(super) async fn plan_execution_asking(
        &mut self,
        execution: &Execution,
        text: &str,
        hint: Option<&str>,
    ) -> Result<Plan, SqlError> {
        let mut settled = false;
        loop {
            let (plan, noted) = self.plan_execution_known(execution, text, hint)?;
            if !noted.wanted.is_empty() {
                Box::pin(self.look_up(noted.wanted)).await?;
            } else if plan.is_err() && !noted.newcomers.is_empty() && !settled && self.may_ask() {
                settled = true;
                Box::pin(self.settle_newcomers(&noted.newcomers)).await?;
            } else {
                self.made.extend(noted.made);
                return plan;
            }
        }
    }

    /// Where an execution goes.
    pub(super) fn plan_execution(
        &mut self,
        execution: &Execution,
        text: &str,
        hint: Option<&str>,
    ) -> Result<Plan, SqlError> {
        self.plan_execution_known(execution, text, hint)?.0
    }

    /// The same, and what it has brought up.
    pub(super) fn plan_execution_known(
        &mut self,
        execution: &Execution,
        text: &str,
        hint: Option<&str>,
    ) -> Result<(Result<Plan, SqlError>, Noted), SqlError> {
        let name = execution.name.as_bytes();
        self.statement(name)?;
        let Some(statement) = self.statements.get(name) else { return Err(no_statement(name)) };
        let found = self.plan_with_known(statement, execution, text, hint)?;
        if found.0.is_ok() {
            self.fresh.clear();
        }
        Ok(found)
    }

    /// The same for a statement that need not be the client's yet.
    pub(super) fn plan_with(
        &self,
        statement: &ClientStatement,
        execution: &Execution,
        text: &str,
        hint: Option<&str>,
    ) -> Result<Plan, SqlError> {
        self.plan_with_known(statement, execution, text, hint)?.0
    }

    fn plan_with_known(
        &self,
        statement: &ClientStatement,
        execution: &Execution,
        text: &str,
        hint: Option<&str>,
    ) -> Result<(Result<Plan, SqlError>, Noted), SqlError> {
        let class = &statement.readied.entry.class;
        let found = read_arguments(execution, text, self.reading.standard_strings);
        let wanted = statement.parameters();
        if found.len() != wanted && matches!(class, Class::Query) {
            // PostgreSQL's own words (`EvaluateParams`).
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("wrong number of parameters for prepared statement \"{}\"", execution.name),
            )
            .detail(format!("Expected {wanted} parameters but got {}.", found.len())));
        }
        if statement.local || matches!(class, Class::Execute(_)) {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("EXECUTE of \"{}\" is not supported here", execution.name),
            )
            .detail("It is EXECUTE itself, or a statement that the proxy carries out."));
        }
        let params = parameters(&self.world.catalog, statement, &found);
        Ok(self.plan_known(statement, &params, hint))
    }

    /// Where an execution would go.
    pub(super) fn explain_execution(
        &mut self,
        execution: &Execution,
        text: &str,
        hint: Option<&str>,
    ) -> Result<Explained, SqlError> {
        let name = execution.name.as_bytes();
        self.statement(name)?;
        let Some(statement) = self.statements.get(name) else { return Err(no_statement(name)) };
        let found = read_arguments(execution, text, self.reading.standard_strings);
        let params = parameters(&self.world.catalog, statement, &found);
        let scopes = self.scopes(None);
        let scope = scopes.scope(&self.world, hint.or(statement.readied.hint.as_deref()))?;
        let inputs = self.inputs(&statement.readied, statement.text(), &params);
        Ok(match &statement.readied.entry.template {
            Some(template) => template.explain(&self.world.map, &inputs, &scope),
            None => Explained::local(&self.world.map),
        })
    }

    /// What the connection has known for longer than the client may be older than a change of the schema
    /// that the client came after: the client's gets a name of its own.
    fn renamed_on(&mut self, at: usize, known: Known) -> Known {
        let prepared = &known.prepared;
        let held = self.held.get_mut(at);
        let since = held.and_then(|held| held.lease.prepared.generation(&prepared.name));
        if since.is_none_or(|since| since >= known.since) {
            return known;
        }
        worker::with_registry(|registry| registry.forget_text(&prepared.sql));
        let theirs = &known.alias.theirs;
        let new = self.name_text(theirs, &prepared.sql, &prepared.oids, known.since);
        if let Some(statement) = self.statements.get_mut(theirs)
            && statement.sql == new.prepared.sql
        {
            statement.known = Some(new.clone());
        }
        new
    }

    /// Sees to it that a connection knows a statement, in a round trip of its own; false if the connection
    /// was found dead.
    async fn prepare_on(
        &mut self,
        at: usize,
        known: &Known,
        before: u32,
        repeat: Repeat,
    ) -> Result<bool, Failure> {
        let Some(held) = self.held.get_mut(at) else { return Ok(true) };
        if held.lease.prepared.generation(&known.prepared.name).is_some() {
            return Ok(true);
        }
        self.request.clear();
        self.responses.begin(true);
        self.responses.executes(0..0, before);
        let (mut step, mut parsed) = (0, ParsedList::new());
        self.parse(at, known, None, &mut step, &mut parsed);
        wire::frontend::sync_into(&mut self.request);
        self.responses.expect(StepKind::Sync, true);
        if !self.attempt(at, repeat).await? {
            return Ok(false);
        }
        self.note_parsed(at, &parsed, false);
        self.shown_aside(at).map(|()| true)
    }

    /// An error of what was asked aside has been shown.
    pub(super) fn shown_aside(&mut self, at: usize) -> Result<(), Failure> {
        if !self.responses.failed() {
            return Ok(());
        }
        self.end_aside(at);
        Err(Failure::Shown)
    }
}

/// What stands between EXECUTE's parentheses.
pub(super) fn read_arguments<'a>(
    execution: &Execution,
    text: &'a str,
    standard_strings: bool,
) -> Vec<Argument<'a>> {
    execution.arguments.map_or_else(Vec::new, |span| arguments::read(text, span, standard_strings))
}

/// The arguments as parameters; an expression is one whose value nobody knows.
fn parameters<'a>(
    catalog: &Catalog,
    statement: &ClientStatement,
    found: &'a [Argument<'_>],
) -> SmallVec<[Param<'a>; 8]> {
    let parameter = |(n, argument): (usize, &'a Argument<'_>)| {
        let declared = catalog.base_type(statement.param_type(n, Format::Text, None));
        match as_parameter(argument, declared) {
            Some(value) => {
                let oid = catalog.base_type(statement.param_type(n, Format::Text, value));
                Param { oid, format: Format::Text, value }
            }
            None => Param { oid: UNRESOLVED, format: Format::Text, value: Some(b"") },
        }
    };
    found.iter().enumerate().map(parameter).collect()
}

/// An argument as the text of a parameter of this type, as far as PostgreSQL would make the same of both:
/// strings are read by the type itself, numbers are numbers first.
#[expect(clippy::option_option, reason = "NULL is a constant too")]
fn as_parameter<'a>(argument: &'a Argument<'_>, declared: Oid) -> Option<Option<&'a [u8]>> {
    let whole = matches!(declared, 0 | oid::INT2 | oid::INT4 | oid::INT8 | oid::NUMERIC);
    match argument {
        Argument::Null => Some(None),
        Argument::Text(text) => Some(Some(text.as_bytes())),
        Argument::Integer(number) if whole || matches!(declared, oid::TEXT | oid::VARCHAR) => {
            Some(Some(number.as_bytes()))
        }
        Argument::Decimal(number) if declared == oid::NUMERIC => Some(Some(number.as_bytes())),
        Argument::Boolean(true) if declared == oid::BOOL => Some(Some(b"true")),
        Argument::Boolean(false) if declared == oid::BOOL => Some(Some(b"false")),
        Argument::Integer(_)
        | Argument::Decimal(_)
        | Argument::Boolean(_)
        | Argument::Expression => None,
    }
}

/// The statement's own text.
pub(super) fn statement_of<'a>(query: &'a [u8], planned: &Planned) -> Cow<'a, str> {
    let place = planned.start as usize..planned.end as usize;
    String::from_utf8_lossy(query.get(place).unwrap_or_default())
}
