//! What the messages of a unit mean, one by one, before anything is sent.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Op, Portal, Text, Unit, Which};
use crate::datum::{KeyValue, Param};
use crate::error::{SqlError, SqlState};
use crate::exec::control::{Control, aborted, is_control};
use crate::exec::effects::{after_reset, foresee, refuse_unsafe_encoding, setting_tag};
use crate::exec::local::is_local;
use crate::exec::planner::{Entry, Parsed, Scopes, check_utf8, is_session_level};
use crate::exec::scatter::{BindBody, ScatterBind};
use crate::exec::schema::stands_on_schema;
use crate::exec::several::is_for_all;
use crate::exec::statements::{ClientStatement, no_statement};
use crate::exec::{Executor, Failure, Gone, worker};
use crate::lookup::{Id, Newcomer, Noted, View};
use crate::plan::moment::Moment;
use crate::plan::{Plan, Route};
use crate::session::responses::StepKind;
use crate::session::transaction::Transaction;
use crate::sql::class::{Class, Isolation};
use crate::wire::frame::Frame;
use crate::wire::frontend::{BindView, ExecuteView, ParseView, Target, tag};
use crate::wire::{self, ProtocolError};

/// Why a message could not be resolved.
pub(in crate::exec) enum Obstacle {
    Error(SqlError),
    /// It names a table that the catalog does not know: the catalog may be old.
    UnknownTable,
    Protocol(ProtocolError),
    /// These ids must be asked for first.
    Wanted(Vec<Id>),
    /// The client's own connections must be reset first.
    Held,
    /// The transaction's time must be asked for first.
    Timeless,
    /// What was parsed and described before it must be answered first.
    Behind,
    /// These keys must be given homes first.
    Homeless(Vec<Newcomer>, SqlError),
}

impl From<SqlError> for Obstacle {
    fn from(error: SqlError) -> Self {
        Self::Error(error)
    }
}

impl From<ProtocolError> for Obstacle {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl Executor {
    /// Resolves the messages of a unit; the first error ends it, as it does in PostgreSQL.
    pub(super) async fn resolve_unit(&mut self, bytes: &[u8], unit: &mut Unit) -> Result<(), Gone> {
        let mut at = 0;
        let mut refreshed = false;
        let mut settled = false;
        while let Ok(Some(frame)) =
            wire::frame::next(bytes.get(at..).unwrap_or_default(), wire::frame::STATEMENT_BYTES_MAX)
        {
            let raw = at..at + frame.raw.len();
            let rest = bytes.get(raw.end..).unwrap_or_default();
            match self.resolve(&frame, raw.clone(), rest, unit, refreshed) {
                Ok(()) => at = raw.end,
                Err(Obstacle::UnknownTable) => {
                    refreshed = true;
                    if let Err(error) = Box::pin(self.refresh_world()).await {
                        unit.error = Some(error);
                        return Ok(());
                    }
                }
                Err(Obstacle::Wanted(ids)) => {
                    if let Err(error) = Box::pin(self.look_up(ids)).await {
                        unit.error = Some(error);
                        return Ok(());
                    }
                }
                Err(Obstacle::Timeless) => match Box::pin(self.moment_within()).await {
                    Ok(_) => {}
                    Err(Failure::Error(error)) => {
                        unit.error = Some(error);
                        return Ok(());
                    }
                    Err(Failure::Gone(gone)) => return Err(gone),
                    Err(Failure::Shown) => {
                        unit.error = Some(aborted());
                        return Ok(());
                    }
                },
                Err(Obstacle::Behind) => {
                    unit.rest = Some(at);
                    return Ok(());
                }
                Err(Obstacle::Held) => Box::pin(self.discard_held()).await,
                Err(Obstacle::Homeless(keys, error)) => {
                    let outcome = if settled || !self.may_ask() || unit.executes {
                        Err(error)
                    } else {
                        Box::pin(self.settle_newcomers(&keys)).await
                    };
                    settled = true;
                    if let Err(error) = outcome {
                        unit.error = Some(error);
                        return Ok(());
                    }
                }
                Err(Obstacle::Error(error)) => {
                    unit.error = Some(error);
                    return Ok(());
                }
                // The next message is found all the same.
                Err(Obstacle::Protocol(error)) => {
                    unit.error = Some(SqlError::new(error.code, error.message));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn resolve(
        &mut self,
        frame: &Frame<'_>,
        raw: Range<usize>,
        rest: &[u8],
        unit: &mut Unit,
        refreshed: bool,
    ) -> Result<(), Obstacle> {
        let (tag, body) = (frame.tag, frame.body);
        let done = unit.tell.is_some()
            || unit.scatter.as_ref().is_some_and(|scatter| scatter.is_executed());
        if done && !matches!(tag, tag::SYNC | tag::FLUSH | tag::CLOSE) {
            return Err(not_alone().into());
        }
        match tag {
            tag::PARSE => self.resolve_parse(&ParseView::parse(body)?, raw, unit, refreshed),
            tag::BIND => self.resolve_bind(&BindView::parse(body)?, raw, rest, unit),
            tag::DESCRIBE => match Target::describe(body)? {
                Target::Statement(name) => self.describe_statement(name, unit),
                Target::Portal(name) => self.describe_portal(name, raw, unit),
            },
            tag::EXECUTE => {
                unit.last = rest.first() == Some(&tag::SYNC);
                self.resolve_execute(&ExecuteView::parse(body)?, raw, unit)
            }
            tag::CLOSE => {
                match Target::close(body)? {
                    Target::Statement(name) => {
                        self.close_statement(name, unit);
                        unit.inject(wire::backend::close_complete);
                    }
                    Target::Portal(name) => match self.portals.remove(name) {
                        Some(Portal::Shard { shard, .. }) => {
                            self.stay(shard, unit)?;
                            unit.ops.push(Op::Raw(raw, StepKind::Close));
                        }
                        None if self.has_cursors(name, unit) => {
                            unit.ops.push(Op::Raw(raw, StepKind::Close));
                        }
                        _ => unit.inject(wire::backend::close_complete),
                    },
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn resolve_parse(
        &mut self,
        view: &ParseView<'_>,
        raw: Range<usize>,
        unit: &mut Unit,
        refreshed: bool,
    ) -> Result<(), Obstacle> {
        if self.reading.utf8 {
            check_utf8(view.name)?;
        }
        self.statements.admit(view.name, view.sql)?;
        if view.name.is_empty() || unit.may_fail_before() {
            self.close_statement(view.name, unit);
        }
        let Parsed { sql, readied } =
            worker::with_planner(|p| p.parse(&self.world, &self.reading, view.sql))?;
        let class = &readied.entry.class;
        if unit.failed && !self.ends_failure(class) && !matches!(class, Class::Empty) {
            return Err(aborted().into());
        }
        let behind = self.is_behind(class);
        let unread = !self.world.catalog_known && stands_on_schema(class);
        if (self.has_unknown_table(&readied.entry) || unread || behind) && !refreshed {
            return Err(Obstacle::UnknownTable);
        }
        let local = is_session_level(class) && !matches!(class, Class::Execute(_))
            || is_local(class, &self.world)
            || matches!(
                class,
                Class::Set(_)
                    | Class::Reset(_)
                    | Class::SetTransaction { .. }
                    | Class::SetConstraints(_)
            );
        if let (false, Some(after)) = (local, &unit.after) {
            self.refuse_other_reading(after)?;
        }
        if !local && unit.describe_shard.is_none() {
            unit.describe_shard = self.describe_shard(&readied)?;
        }
        unit.read |= takes_snapshot(class);
        let mut statement = self.client_statement(sql, view.oids().collect(), readied);
        statement.local = local;
        if local {
            unit.inject(wire::backend::parse_complete);
        } else if view.name.is_empty() {
            unit.ops.push(Op::ParseUnnamed(raw));
        } else {
            let known = self.name_text(view.name, &statement.sql, &statement.oids, statement.since);
            statement.known = Some(known.clone());
            unit.ops.push(Op::ParseNamed { client: view.name.to_vec(), known });
        }
        if view.name.is_empty() {
            unit.unnamed_parsed = !local;
        }
        self.statements.insert(view.name, statement);
        Ok(())
    }

    fn resolve_bind(
        &mut self,
        view: &BindView<'_>,
        raw: Range<usize>,
        rest: &[u8],
        unit: &mut Unit,
    ) -> Result<(), Obstacle> {
        let entry = Arc::clone(&self.statement(view.statement)?.readied.entry);
        let class = &entry.class;
        if unit.failed && !(self.ends_failure(class) && view.is_empty()) {
            return Err(aborted().into());
        }
        let copies = matches!(class, Class::Copy { from: true, client: true, .. });
        self.refuse_session_state(&entry)?;
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
            let text = statement.text().to_owned();
            self.portals.insert(view.portal, Portal::local(entry, text));
            unit.inject(wire::backend::bind_complete);
            return Ok(());
        }
        self.refuse_barred()?;
        if let Some(after) = &unit.after {
            self.refuse_other_reading(after)?;
        }
        let (plan, made) = self.plan_bind(view)?;
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
        let which = match plan.rewritten.as_ref().filter(|_| timed) {
            // It will never come again: no connection need know it by a name.
            Some(sql) => {
                // The server's unnamed statement is then this one.
                unit.unnamed_parsed = false;
                let oids = self.statement(view.statement)?.oids.clone();
                Which::Text(Text { sql: sql.clone(), oids, shift: (0, 0) })
            }
            None => self.which(view.statement, plan.rewritten.as_deref(), unit)?,
        };
        unit.ops.push(Op::Bind { raw, which });
        self.portals.insert(view.portal, Portal::Shard { copies, shard: unit.shard });
        Ok(())
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

    /// A statement that is bound goes where its plan says; the unit goes there with it.
    pub(super) fn place(
        &mut self,
        plan: &Plan,
        entry: &Entry,
        unit: &mut Unit,
    ) -> Result<(), SqlError> {
        let plan = &*self.at_its_cursor(&entry.class, plan);
        let anywhere = matches!(plan.route, Route::Any | Route::Nowhere);
        if !anywhere
            || plan.names_temporary
            || self.session.transaction.is_several() && unit.shard.is_none()
        {
            let shard = self.one_shard(plan)?;
            let other = self.batch.open_on.or(unit.shard).filter(|other| *other != shard);
            if let Some(other) = other {
                return Err(self.other_pipeline(shard, other));
            }
            unit.shard = Some(shard);
        }
        if matches!(entry.class, Class::Definition { temporary: true, .. }) {
            unit.effects.push((unit.executions, entry.class.clone()));
        }
        for set in plan.settings.iter().flatten() {
            unit.effects.push((unit.executions, Class::Set(set.clone())));
        }
        let repeat = self.repeat_of(entry, plan);
        unit.repeat = if unit.executes { unit.repeat.min(repeat) } else { repeat };
        unit.writes |= plan.writes;
        unit.taints |= plan.taints;
        self.leaving = self.leaving.with(entry.leaves);
        unit.changes_schema |= plan.changes_schema;
        unit.executes = true;
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
                oid: statement.param_type(n, format, value),
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

    /// How the connection will know the statement.
    pub(super) fn which(
        &mut self,
        name: &[u8],
        rewritten: Option<&str>,
        unit: &Unit,
    ) -> Result<Which, SqlError> {
        if rewritten.is_none() && name.is_empty() && unit.unnamed_parsed {
            return Ok(Which::Unnamed);
        }
        self.known(name, rewritten).map(Which::Known)
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
        if self.batch.open_on.is_some() || unit.executes || unit.scatter.is_some() {
            return Err(not_alone().into());
        }
        self.refuse_beside_temporary(&plan)?;
        if !plan.answer.is_everywhere() {
            self.allow_default_isolation(&plan)?;
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
        // What was parsed in this unit is parsed on the shards; the client is told here.
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
        wire::backend::bind_complete(&mut prefix);
        let statement = self.statement(statement)?;
        let sql = plan.rewritten.clone().map_or_else(|| statement.sql.to_vec(), String::into_bytes);
        let oids = statement.oids.clone();
        self.portals.insert(portal, Portal::Scatter);
        unit.ops.clear();
        unit.scatter = Some(Box::new(ScatterBind::new(plan, sql, oids, bind, prefix)));
        Ok(())
    }

    /// A portal that is not known here may be one that DECLARE has made: where there may be such, the shard
    /// is asked.
    pub(super) fn has_cursors(&self, name: &[u8], unit: &mut Unit) -> bool {
        if self.batch.open_on.is_some() || unit.shard.is_some() {
            return true;
        }
        let open = || self.session.transaction.shard().or_else(|| self.keeper());
        unit.shard = self.cursor_named(name).or_else(open);
        unit.shard.is_some()
    }

    fn resolve_execute(
        &mut self,
        view: &ExecuteView<'_>,
        raw: Range<usize>,
        unit: &mut Unit,
    ) -> Result<(), Obstacle> {
        if !self.portals.contains(view.portal) && self.has_cursors(view.portal, unit) {
            self.refuse_in_failed(unit)?;
            unit.executes = true;
            unit.executions += 1;
            unit.ops.push(Op::Raw(raw, StepKind::Execute));
            return Ok(());
        }
        let failed_here = self.has_failed_here(unit);
        match self.portals.get_mut(view.portal) {
            None => Err(no_portal(view.portal).into()),
            Some(Portal::Shard { .. }) if failed_here => Err(aborted().into()),
            Some(Portal::Shard { copies, shard }) => {
                let shard = *shard;
                unit.executes = true;
                unit.executions += 1;
                unit.copies |= *copies;
                if view.portal.is_empty() {
                    self.made.append(&mut self.bound);
                }
                self.stay(shard, unit)?;
                unit.ops.push(Op::Raw(raw, StepKind::Execute));
                Ok(())
            }
            Some(Portal::Scatter) => match unit.scatter.as_mut() {
                Some(scatter) => {
                    scatter.execute(u32::try_from(view.max_rows).unwrap_or(0));
                    Ok(())
                }
                None => Err(not_alone().into()),
            },
            Some(Portal::Spooled(_)) if unit.failed => Err(aborted().into()),
            Some(Portal::Spooled(spool)) => {
                let most = u32::try_from(view.max_rows).unwrap_or(0);
                unit.inject(|out| spool.fetch(most, out));
                Ok(())
            }
            Some(Portal::Missing(name)) => Err(no_statement(name).into()),
            Some(Portal::Settings(_)) if unit.failed => Err(aborted().into()),
            Some(Portal::Settings(_)) => {
                Ok(self.fetch_settings(view.portal, view.max_rows, unit)?)
            }
            Some(Portal::Constant(constant)) => {
                unit.inject(|out| constant.execute(view.max_rows, out));
                Ok(())
            }
            Some(Portal::Local { entry, text, has_run }) => {
                let (entry, text, again) = (Arc::clone(entry), text.clone(), *has_run);
                if again && (!unit.failed || self.ends_failure(&entry.class)) {
                    return Err(cannot_be_run(view.portal).into());
                }
                self.execute_local(&entry.class, &text, unit)?;
                if let Some(Portal::Local { has_run, .. }) = self.portals.get_mut(view.portal) {
                    // Nothing can be done again and again.
                    *has_run = !matches!(entry.class, Class::Empty);
                }
                Ok(())
            }
        }
    }

    fn execute_local(
        &mut self,
        class: &Class,
        text: &str,
        unit: &mut Unit,
    ) -> Result<(), Obstacle> {
        if matches!(class, Class::Empty) {
            unit.inject(wire::backend::empty_query_response);
            return Ok(());
        }
        if unit.failed && !self.ends_failure(class) {
            return Err(aborted().into());
        }
        if let Class::Prepare { name, typed, body } = class {
            return self.prepare_in_unit(name, *typed, *body, text, unit);
        }
        let busy = unit.executes || self.batch.is_open();
        if busy && is_local(class, &self.world) && matches!(class, Class::DiscardAll) {
            return Err(SqlError::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "DISCARD ALL cannot be executed within a pipeline",
            )
            .into());
        }
        if matches!(class, Class::DiscardAll) && self.has_to_discard() {
            return Err(Obstacle::Held);
        }
        self.note_local(class, unit);
        if let Some(answer) = self.answer_locally(class, text)? {
            self.follow_again(class, unit);
            unit.inject(|out| answer.execute(out));
            return Ok(());
        }
        refuse_unsafe_encoding(class)?;
        self.refuse_block(class)?;
        if !busy
            && unit.last
            && !unit.needs_shard()
            && let Some(report) = self.settle_foregone(class)
        {
            unit.inject(|out| {
                wire::backend::command_complete(out, "SET");
                out.extend_from_slice(&report);
            });
            return Ok(());
        }
        // What was parsed before may have failed, or have taken a snapshot so that it is too late for another
        // isolation level: the shard says so.
        let parsed = unit.needs_shard() && !self.session.transaction.is_several();
        let busy = busy || is_control(class) && parsed;
        let concerns_all = is_control(class) || is_for_all(class);
        if concerns_all && (busy || unit.shard.is_some()) && self.goes_elsewhere(unit) {
            return Err(not_alone_in_transaction().into());
        }
        if is_for_all(class) && self.session.transaction.is_several() {
            unit.tell = Some(Box::new((class.clone(), text.to_owned())));
            unit.ops.push(Op::Inject(Vec::new()));
            return Ok(());
        }
        self.refuse_late_isolation(class)?;
        // Behind statements that a shard has yet to be sent, their order matters: it goes there too.
        if is_control(class) && !busy {
            let control = self.control(class, text)?;
            if matches!(class, Class::Commit { .. } | Class::Rollback { .. }) {
                self.portals.retain(|portal| !matches!(portal, Portal::Local { .. }));
            }
            match control {
                Control::Warned(warning, tag) => unit.inject(|out| {
                    let severity = wire::backend::Severity::Warning;
                    wire::backend::notice(out, &warning, severity);
                    wire::backend::command_complete(out, tag);
                }),
                Control::Answered(tag) => {
                    unit.inject(|out| wire::backend::command_complete(out, tag));
                    unit.failed = self.session.transaction.status() == b'E';
                    unit.block = self.session.transaction.is_open();
                }
                Control::Forward(shard, sql) => {
                    let other = unit.shard.filter(|other| *other != shard);
                    if let Some(other) = other {
                        return Err(self.other_pipeline(shard, other).into());
                    }
                    unit.shard = Some(shard);
                    self.run(unit, sql, class);
                }
                Control::Tell(sql) => {
                    unit.tell = Some(Box::new((class.clone(), sql)));
                    // What follows is answered after it.
                    unit.ops.push(Op::Inject(Vec::new()));
                }
            }
            return Ok(());
        }
        if !busy && self.defer_setting(class, text) {
            unit.inject(|out| wire::backend::command_complete(out, setting_tag(class)));
            return Ok(());
        }
        unit.taints |= matches!(class, Class::SetTransaction { session: true, .. });
        self.run(unit, text.to_owned(), class);
        Ok(())
    }

    /// What was parsed before a Flush was no part of a transaction on its shard: that it would have been too late
    /// for another isolation level, is said here, in PostgreSQL's own words (`check_XactIsoLevel`).
    fn refuse_late_isolation(&self, class: &Class) -> Result<(), SqlError> {
        let Class::Begin(modes) = class else { return Ok(()) };
        let other = modes.isolation.is_some_and(|level| level != Isolation::ReadCommitted);
        if !(other && self.batch.read && self.session.transaction == Transaction::Idle) {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::ACTIVE_SQL_TRANSACTION,
            "SET TRANSACTION ISOLATION LEVEL must be called before any query",
        ))
    }

    /// A setting of the proxy's own is made at once; behind the end of a transaction that is yet to come it is
    /// made again when that has come, and has not taken it back.
    pub(in crate::exec) fn follow_again(&self, class: &Class, unit: &mut Unit) {
        let mut before = self.batch.effects.iter().chain(unit.effects.iter().map(|(_, own)| own));
        if matches!(class, Class::Set(_) | Class::Reset(_)) && before.any(is_control) {
            unit.effects.push((unit.executions, class.clone()));
        }
    }

    pub(super) fn run(&mut self, unit: &mut Unit, sql: String, class: &Class) {
        match class {
            Class::Begin(_) => unit.block = true,
            Class::Commit { chain } | Class::Rollback { chain } => {
                unit.block &= *chain;
                unit.failed = false;
                // Those of the shard it drops itself.
                self.portals.retain(|portal| !matches!(portal, Portal::Local { .. }));
            }
            Class::RollbackTo(_) => unit.failed = false,
            _ => {}
        }
        unit.executes = true;
        // The server's unnamed statement is then this one.
        unit.unnamed_parsed = false;
        unit.effects.push((unit.executions, class.clone()));
        unit.executions += 1;
        let block = unit.block || self.session.settings.in_block();
        let behind = after_reset(&self.session.settings, class, block);
        foresee(unit.after.get_or_insert_with(|| Box::new(self.session.settings.clone())), class);
        unit.ops.push(Op::Run(sql));
        unit.ops.extend(behind.into_iter().map(Op::RunBehind));
    }

    /// The transaction has failed by an error of ours: its shard would go on.
    fn has_failed_here(&self, unit: &Unit) -> bool {
        unit.failed && matches!(self.session.transaction, Transaction::Failed { .. })
    }

    pub(super) fn refuse_in_failed(&self, unit: &Unit) -> Result<(), SqlError> {
        if self.has_failed_here(unit) { Err(aborted()) } else { Ok(()) }
    }

    /// A portal is on a shard: so is what concerns it.
    pub(super) fn stay(
        &self,
        shard: Option<crate::map::ShardId>,
        unit: &mut Unit,
    ) -> Result<(), SqlError> {
        let Some(shard) = shard else { return Ok(()) };
        if let Some(other) = self.batch.open_on.or(unit.shard).filter(|other| *other != shard) {
            return Err(self.other_pipeline(shard, other));
        }
        unit.shard = Some(shard);
        Ok(())
    }

    /// The transaction is on several shards, or will be by this unit.
    fn goes_elsewhere(&self, unit: &Unit) -> bool {
        let first = self.session.transaction.shard();
        let here = self.batch.open_on.or(unit.shard);
        self.session.transaction.is_several()
            || first.is_some_and(|first| here.is_some_and(|here| here != first))
    }

    fn other_pipeline(&self, wanted: crate::map::ShardId, here: crate::map::ShardId) -> SqlError {
        let name = |shard| self.place_name(shard);
        SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "the statements between two Syncs belong to shards \"{}\" and \"{}\"",
                name(here),
                name(wanted)
            ),
        )
        .detail("They are one implicit transaction, and a transaction stays on one shard.")
        .hint("Send a Sync between them.")
    }
}

/// PostgreSQL takes a snapshot to read it (`analyze_requires_snapshot`).
fn takes_snapshot(class: &Class) -> bool {
    matches!(
        class,
        Class::Query
            | Class::Explain
            | Class::Declare(_)
            | Class::Definition { from_query: true, .. }
    )
}

pub(super) fn not_alone() -> SqlError {
    SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "a statement over several shards must stand alone",
    )
    .detail("It is part of a transaction or of a pipeline that belongs to one shard.")
    .hint("Send it by itself, with its own Sync, outside a transaction block.")
}

fn not_alone_in_transaction() -> SqlError {
    SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "what concerns a transaction over several shards must stand alone",
    )
    .detail("It is said to every shard of the transaction, and comes behind a statement for one of them.")
    .hint("Send a Sync before it.")
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

/// A portal of what is no query runs once (`MarkPortalActive`).
fn cannot_be_run(portal: &[u8]) -> SqlError {
    let name = String::from_utf8_lossy(portal);
    SqlError::new(SqlState("55000"), format!("portal \"{name}\" cannot be run"))
}

pub(super) fn no_portal(name: &[u8]) -> SqlError {
    SqlError::new(
        SqlState::INVALID_CURSOR_NAME,
        format!("portal \"{}\" does not exist", String::from_utf8_lossy(name)),
    )
}

/// Behind a Bind there is nothing but what fetches its rows, and Sync.
fn is_fetched_at_once(mut rest: &[u8]) -> bool {
    while let Ok(Some(frame)) = wire::frame::next(rest, wire::frame::STATEMENT_BYTES_MAX) {
        rest = rest.get(frame.raw.len()..).unwrap_or_default();
        match frame.tag {
            tag::DESCRIBE | tag::EXECUTE | tag::CLOSE => {}
            other => return other == tag::SYNC,
        }
    }
    false
}
