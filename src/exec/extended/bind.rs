//! Bind: the statement is planned with its parameters, and its portal goes where the plan says.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use super::copy::copies_out;
use super::place::not_alone;
use super::resolve::Obstacle;
use super::{Op, Portal, Text, Unit, Which};
use crate::datum::{KeyValue, Param};
use crate::error::{SqlError, SqlState};
use crate::exec::control::aborted;
use crate::exec::planner::{Entry, Scopes};
use crate::exec::scatter::{BindBody, ScatterBind};
use crate::exec::statements::{ClientStatement, no_statement};
use crate::exec::two_phase::refuse_our_names;
use crate::exec::{Executor, Failure};
use crate::lookup::{Id, Noted, View};
use crate::plan::Plan;
use crate::plan::moment::Moment;
use crate::session::responses::StepKind;
use crate::sql::class::Class;
use crate::wire;
use crate::wire::frontend::{BindView, tag};

impl Executor {
    pub(super) fn resolve_bind(
        &mut self,
        view: &BindView<'_>,
        raw: Range<usize>,
        rest: &[u8],
        unit: &mut Unit,
    ) -> Result<(), Obstacle> {
        let entry = Arc::clone(&self.statement(view.statement)?.readied.entry);
        if self.must_look_again(view.statement, unit) {
            return Err(Obstacle::Unsure(view.statement.to_vec()));
        }
        let class = &entry.class;
        if unit.failed && !(self.ends_failure(class) && view.is_empty()) {
            return Err(aborted().into());
        }
        let copies = matches!(class, Class::Copy { from: true, client: true, .. });
        self.refuse_session_state(&entry)?;
        refuse_our_names(class, self.statement(view.statement)?.text())?;
        self.leave_database(&entry)?;
        self.refuse_taken(view.portal)?;
        let statement = self.statement(view.statement)?;
        let is_execute = matches!(entry.class, Class::Execute(_));
        // A command has the parameters that its Parse has declared, and no use for them.
        let wanted = statement.oids.len();
        if (statement.local || is_execute) && view.len() != wanted {
            return Err(wrong_number(view, wanted).into());
        }
        if let Class::Execute(execution) = &entry.class {
            self.refuse_barred()?;
            return self.bind_execute(execution, view, raw, unit);
        }
        if statement.local {
            let text = match &statement.readied.hint {
                // A hint before EXPLAIN (ROUTE) belongs to what it explains.
                Some(hint) if matches!(entry.class, Class::ExplainRoute { .. }) => {
                    format!("/* pgmeridian: {hint} */ {}", statement.text())
                }
                _ => statement.text().to_owned(),
            };
            self.portals.insert(view.portal, Portal::local(entry, text));
            unit.inject(wire::backend::bind_complete);
            return Ok(());
        }
        self.refuse_barred()?;
        if let Some(after) = &unit.after {
            self.refuse_other_reading(after)?;
        }
        self.fresh.belong_to(unit.shard);
        let (plan, made) = match self.plan_bind(view) {
            Err(Obstacle::Error(refusal)) if copies_out(&entry.class) => {
                return self.bind_copy_out(view, refusal, unit);
            }
            found => found?,
        };
        self.fresh.clear();
        self.bound = if view.portal.is_empty() { made } else { Vec::new() };
        if let Some(portal) = self.settings_portal(&entry, &plan, view, unit) {
            self.portals.insert(view.portal, portal);
            return Ok(());
        }
        if entry.constant
            && !plan.answer.is_gathered()
            && is_fetched_at_once(rest)
            && let Some(portal) = self.bind_constant(view, &plan, unit)
        {
            self.portals.insert(view.portal, portal);
            return Ok(());
        }
        self.note_route(&plan);
        if plan.answer.is_gathered() {
            self.refuse_lock_alone(&entry.class)?;
            let (portal, statement) = (view.portal, view.statement);
            return self.bind_scatter(portal, statement, BindBody::Client(raw), unit, plan);
        }
        let (plan, timed) = self.plan_behind_first(view.statement, &entry, plan)?;
        self.place(&plan, &entry, unit)?;
        let which = match plan.rewritten.as_ref().filter(|_| timed || plan.once) {
            // It will never come again: no connection need know it by a name.
            Some(sql) => {
                // The server's unnamed statement is then this one.
                unit.unnamed_parsed = false;
                let oids = self.statement(view.statement)?.oids.clone();
                Which::Text(Text { sql: sql.clone(), oids, shift: (0, 0) })
            }
            None => self.which(view.statement, &plan, unit)?,
        };
        unit.ops.push(Op::Bind { raw, which });
        self.portals.insert(view.portal, Portal::Shard { copies, shard: unit.shard });
        Ok(())
    }

    /// A statement may have other columns than its client was told. (Where nothing can be asked in between, the
    /// connection is left to find out.)
    fn must_look_again(&self, name: &[u8], unit: &Unit) -> bool {
        let statement = self.statements.get(name);
        statement.is_some_and(|statement| statement.is_unsure(self.world.catalog.fingerprint))
            && unit.ops.is_empty()
            && self.may_ask()
            && !unit.failed
    }

    /// Asks a shard for a statement's columns: they must be what its client was told.
    ///
    /// # Errors
    ///
    /// 0A000 as PostgreSQL says it; what the shard says of the statement has been shown.
    pub(super) async fn look_again(&mut self, name: &[u8]) -> Result<(), Failure> {
        let statement = self.statement(name)?;
        let (sql, oids, told) =
            (Arc::clone(&statement.sql), statement.oids.clone(), statement.shape);
        let readied = statement.readied.clone();
        let shard = self.shard_aside(&readied)?;
        let at = self.acquire(shard).await?;
        self.request.clear();
        self.begin_responses(true);
        wire::frontend::parse_into(&mut self.request, b"", &sql, oids.into_iter());
        wire::frontend::describe_statement_into(&mut self.request, b"");
        wire::frontend::sync_into(&mut self.request);
        for kind in [StepKind::Parse, StepKind::DescribeStatement, StepKind::Sync] {
            self.responses.expect(kind, true);
        }
        self.exchange(at).await?;
        self.shown_aside(at)?;
        let shape = self.responses.descriptions().first().and_then(|found| found.shape);
        self.end_aside(at);
        if shape != told {
            return Err(SqlError::changed_result().into());
        }
        let schema = self.world.catalog.fingerprint;
        if let Some(statement) = self.statements.get_mut(name) {
            statement.schema = schema;
        }
        Ok(())
    }

    pub(in crate::exec) fn plan_bind(
        &self,
        view: &BindView<'_>,
    ) -> Result<(Plan, Vec<(Id, KeyValue<'static>)>), Obstacle> {
        let Some(statement) = self.statements.get(view.statement) else {
            return Err(no_statement(view.statement).into());
        };
        let wanted = statement.parameters();
        if matches!(statement.readied.entry.class, Class::Query)
            && view.len() != wanted
            && !self.world.map.is_one_server()
        {
            // One shard says so itself; here a route would have to be found first.
            return Err(wrong_number(view, wanted).into());
        }
        let params: SmallVec<[Param<'_>; 8]> = view
            .parameters()
            .enumerate()
            .map(|(n, (format, value))| Param {
                oid: self.world.catalog.base_type(statement.param_type(n, format, value)),
                format,
                value,
            })
            .collect();
        match self.plan_known(statement, &params, None) {
            (_, noted) if !noted.wanted.is_empty() => Err(Obstacle::Wanted(noted.wanted)),
            (Err(error), noted) if !noted.newcomers.is_empty() => {
                Err(Obstacle::Homeless(noted.newcomers, error))
            }
            (plan, noted) => Ok((plan?, noted.made)),
        }
    }

    /// Plans one execution of a prepared statement with what is known of its ids, and what that has brought
    /// up. A hint before EXECUTE wins over the statement's own.
    pub(in crate::exec) fn plan_known(
        &self,
        statement: &ClientStatement,
        params: &[Param<'_>],
        hint: Option<&str>,
    ) -> (Result<Plan, SqlError>, Noted) {
        let readied = &statement.readied;
        let view = self.view();
        let scopes = self.scopes(view.as_ref());
        let inputs = self.inputs(readied, statement.text(), params);
        let plan = match (
            scopes.scope(&self.world, hint.or(readied.hint.as_deref())),
            &readied.entry.template,
        ) {
            (Err(error), _) => Err(error),
            (Ok(scope), Some(template)) => template.plan(&self.world.map, &inputs, &scope),
            (Ok(_), None) => {
                Err(SqlError::new(SqlState::INTERNAL_ERROR, "the statement has no plan"))
            }
        };
        (plan, view.map(View::into_noted).unwrap_or_default())
    }

    /// The plan of a statement for a shard that is not its transaction's first one, with the time in its text if
    /// that names it, and whether it does.
    fn plan_behind_first(
        &mut self,
        statement: &[u8],
        entry: &Entry,
        plan: Plan,
    ) -> Result<(Plan, bool), Obstacle> {
        let standard_strings = self.reading.standard_strings;
        if !self.is_behind_first(&entry.class, &plan) {
            return Ok((plan, false));
        }
        let moment = self.session.transaction.deeds().moment;
        let text = self.statement(statement)?.text();
        if !plan.names_time(text, standard_strings)? {
            return Ok((plan, false));
        }
        match moment {
            None => Err(Obstacle::Timeless),
            Some(moment) => Ok((plan.at(Moment(moment), text, standard_strings)?, true)),
        }
    }

    /// A portal of ours that is open keeps its name; of those on shards the shard knows.
    fn refuse_taken(&self, portal: &[u8]) -> Result<(), SqlError> {
        if portal.is_empty()
            || matches!(self.portals.get(portal), None | Some(Portal::Shard { .. }))
        {
            return Ok(());
        }
        let name = String::from_utf8_lossy(portal);
        Err(SqlError::new(SqlState("42P03"), format!("cursor \"{name}\" already exists")))
    }

    /// How the connection will know the statement.
    pub(super) fn which(
        &mut self,
        name: &[u8],
        plan: &Plan,
        unit: &Unit,
    ) -> Result<Which, SqlError> {
        match &plan.rewritten {
            None => self.which_described(name, unit),
            Some(_) => self.known_by(name, plan).map(Which::Known),
        }
    }

    /// The same of one that is only described.
    pub(super) fn which_described(&mut self, name: &[u8], unit: &Unit) -> Result<Which, SqlError> {
        if name.is_empty() && unit.unnamed_parsed {
            return Ok(Which::Unnamed);
        }
        self.known(name).map(Which::Known)
    }

    /// A statement that goes to several shards: the client is told of what was parsed and bound.
    pub(super) fn bind_scatter(
        &mut self,
        portal: &[u8],
        statement: &[u8],
        bind: BindBody,
        unit: &mut Unit,
        plan: Plan,
    ) -> Result<(), Obstacle> {
        let mut prefix = self.told_before(unit)?;
        self.refuse_beside_temporary(&plan)?;
        if !plan.answer.is_everywhere() {
            self.allow_default_isolation(&plan)?;
        }
        wire::backend::bind_complete(&mut prefix);
        let statement = self.statement(statement)?;
        let sql = plan.rewritten.clone().map_or_else(|| statement.sql.to_vec(), String::into_bytes);
        let oids = statement.oids.clone();
        self.portals.insert(portal, Portal::Scatter);
        unit.ops.clear();
        unit.scatter = Some(Box::new(ScatterBind::new(plan, sql, oids, bind, prefix)));
        Ok(())
    }

    /// What the client is told before the answer to a Bind that stands alone: what was parsed in this unit is
    /// parsed on the shards, and the client is told here.
    pub(super) fn told_before(&self, unit: &Unit) -> Result<Vec<u8>, Obstacle> {
        let busy = self.batch.open_on.is_some() || unit.executes;
        if busy || unit.scatter.is_some() || unit.copy.is_some() {
            return Err(not_alone().into());
        }
        let described = unit.ops.iter().any(|op| matches!(op, Op::DescribeStatement(_)));
        let aside = |op: &Op| {
            use Op::{DescribeStatement, Ensure, Inject, ParseNamed, ParseUnnamed};
            matches!(
                op,
                Inject(_) | ParseUnnamed(_) | ParseNamed { .. } | Ensure(_) | DescribeStatement(_)
            )
        };
        if described && unit.ops.iter().all(aside) {
            return Err(Obstacle::Behind);
        }
        let mut prefix = Vec::new();
        for op in &unit.ops {
            match op {
                Op::Inject(bytes) => prefix.extend_from_slice(bytes),
                Op::ParseUnnamed(_) | Op::ParseNamed { .. } => {
                    wire::backend::parse_complete(&mut prefix);
                }
                _ => return Err(not_alone().into()),
            }
        }
        Ok(prefix)
    }
}

/// PostgreSQL's own words (`exec_bind_message`).
fn wrong_number(view: &BindView<'_>, wanted: usize) -> SqlError {
    SqlError::new(
        SqlState::PROTOCOL_VIOLATION,
        format!(
            "bind message supplies {} parameters, but prepared statement \"{}\" requires {wanted}",
            view.len(),
            String::from_utf8_lossy(view.statement)
        ),
    )
}

/// Behind a Bind there is nothing but what fetches its rows, and Sync.
fn is_fetched_at_once(rest: &[u8]) -> bool {
    let fetches = |tag: &u8| matches!(*tag, tag::DESCRIBE | tag::EXECUTE | tag::CLOSE);
    let behind = wire::frame::all(rest).map(|frame| frame.tag).find(|tag| !fetches(tag));
    behind == Some(tag::SYNC)
}
