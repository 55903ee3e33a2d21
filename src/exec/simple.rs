//! The simple query protocol: one Query message, one or several statements.

use super::control::{Control, aborted, is_control};
use super::effects::{READING_SETTINGS, after_reset, foresee, refuse_unsafe_encoding};
use super::planner::{Entry, Planned};
use super::{Executor, Failure, Gone, local, worker};
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::plan::{Answer, Plan, Route};
use crate::session::responses::StepKind;
use crate::session::settings::SessionSettings;
use crate::session::transaction::Transaction;
use crate::sql::class::Class;
use crate::wire;
use crate::wire::backend::Severity;

impl Executor {
    /// Answers a Query message whose text is `length` bytes at `offset` of the client's buffer, up to and
    /// including `ReadyForQuery`.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub async fn query(&mut self, offset: usize, length: usize) -> Result<(), Gone> {
        if self.batch.is_skipping() {
            // As in PostgreSQL: behind an error everything is skipped up to Sync, queries too.
            self.io.consume(offset + length + 1);
            return Ok(());
        }
        let batch = self.begin_query();
        self.follow_world();
        self.note_start();
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        text.extend_from_slice(self.io.slice(offset, length));
        // Header, text and its terminating zero: what follows may be COPY data.
        self.io.consume(offset + length + 1);
        let mut planned = std::mem::take(&mut self.planned);
        let result = match self.plan_query(&text, &mut planned).await {
            Ok(()) => self.run_planned(&planned, &text).await,
            Err(error) => Err(error.into()),
        };
        if let Some(shard) = batch {
            self.end_batch(shard, result.is_err());
        }
        planned.clear();
        self.planned = planned;
        if text.capacity() <= 4 * 1024 {
            self.text = text;
        }
        match result {
            Ok(()) => {}
            Err(Failure::Gone(gone)) => return Err(gone),
            Err(Failure::Error(error)) => {
                self.report(&error);
                self.ready();
            }
            Err(Failure::Shown) => self.ready(),
        }
        self.after_schema_change().await;
        Ok(())
    }

    /// A simple query takes the unnamed statement and portal away. If it stands in an unfinished pipeline,
    /// that becomes part of its transaction: the pipeline's shard is returned.
    fn begin_query(&mut self) -> Option<ShardId> {
        if !self.statements.is_empty() {
            self.statements.remove(&b""[..]);
        }
        if !self.portals.is_empty() {
            self.portals.remove(&b""[..]);
        }
        let shard = self.batch.open_on()?;
        let effects = self.batch.take_effects();
        if let Some(at) = self.held.iter().position(|held| held.shard == shard) {
            for class in &effects {
                self.apply(class, at);
            }
            if let Some(held) = self.held.get_mut(at) {
                held.pinned |= !effects.is_empty();
            }
        }
        Some(shard)
    }

    /// The query has ended the pipeline; if it failed before it reached the shard, what came before it
    /// must not stay.
    pub(super) fn end_batch(&mut self, shard: ShardId, failed: bool) {
        self.batch = super::extended::Batch::default();
        match self.held.iter().position(|held| held.shard == shard) {
            Some(at) if failed => self.lose(at),
            Some(at) => self.settle(at),
            None => {}
        }
    }

    /// Plans the query string; when it names a table that the catalog does not know, the catalog may be
    /// old, and is read again.
    async fn plan_query(
        &mut self,
        text: &[u8],
        planned: &mut Vec<Planned>,
    ) -> Result<(), SqlError> {
        let (result, unknown) = self.plan_once(text, planned);
        if !unknown && self.world.catalog_known {
            return result;
        }
        if Box::pin(self.refresh_world()).await? {
            return self.plan_once(text, planned).0;
        }
        result
    }

    fn plan_once(
        &mut self,
        text: &[u8],
        planned: &mut Vec<Planned>,
    ) -> (Result<(), SqlError>, bool) {
        planned.clear();
        let scopes = local::SessionScopes(&self.session);
        worker::with_planner(|planner| {
            let result = planner.plan_simple(&self.world, &self.reading, text, &scopes, planned);
            (result, planner.saw_unknown_table())
        })
    }

    async fn run_planned(&mut self, planned: &[Planned], text: &[u8]) -> Result<(), Failure> {
        match planned {
            [one] => self.run_one(one, text).await,
            many => Box::pin(self.run_string(many, text)).await,
        }
    }

    async fn run_one(&mut self, planned: &Planned, query: &[u8]) -> Result<(), Failure> {
        let class = &planned.entry.class;
        if matches!(class, Class::Empty) {
            wire::backend::empty_query_response(&mut self.io.outbox);
            self.ready();
            return Ok(());
        }
        let ends = matches!(class, Class::PrepareTransaction)
            && matches!(self.session.transaction, Transaction::Failed { .. });
        let class = if ends { &Class::Rollback { chain: false } } else { class };
        if self.session.transaction.status() == b'E'
            && !self.ends_failure(class)
            && !(matches!(class, Class::Other) && self.failed_on_shard())
        {
            return Err(aborted().into());
        }
        let text = statement_text(planned, query);
        if self.batch.is_open() && local::is_local(class, &self.world) {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "a command of pgmeridian cannot stand in an unfinished pipeline",
            )
            .hint("Send a Sync before it.")
            .into());
        }
        if let Some(answer) = self.answer_locally(class, &text)? {
            answer.simple(&mut self.io.outbox);
            self.ready();
            return Ok(());
        }
        if let (true, Some(shard)) = (is_control(class), self.batch.open_on()) {
            return self.forward(shard, &text, class).await;
        }
        if is_control(class) {
            return match self.control(class, &text)? {
                Control::Answered(tag) => {
                    self.complete(tag);
                    self.ready();
                    Ok(())
                }
                Control::Warned(warning, tag) => {
                    wire::backend::notice(&mut self.io.outbox, &warning, Severity::Warning);
                    self.complete(tag);
                    self.ready();
                    Ok(())
                }
                Control::Forward(shard, sql) => self.forward(shard, &sql, class).await,
            };
        }
        refuse_unsafe_encoding(class)?;
        if self.defer_setting(class, &text) {
            self.complete(if matches!(class, Class::Reset(_)) { "RESET" } else { "SET" });
            self.ready();
            return Ok(());
        }
        let Some(plan) = &planned.plan else {
            return Err(SqlError::new(SqlState::INTERNAL_ERROR, "the statement has no plan").into());
        };
        self.refuse_session_state(&planned.entry)?;
        if plan.answer.is_gathered() {
            self.last_route.note(plan, &self.world);
            return Box::pin(self.scatter_query(plan, &text)).await;
        }
        let shard = self.one_shard(plan)?;
        self.last_route.note(plan, &self.world);
        let at = self.acquire(shard).await?;
        self.start(at).await?;
        let block = self.session.settings.in_block();
        let reset = after_reset(&self.session.settings, class, block);
        match &plan.rewritten {
            Some(sql) => wire::frontend::query_into(&mut self.request, sql.as_bytes()),
            None if !reset.is_empty() => {
                let sql = format!("{text};{}", reset.join(";"));
                wire::frontend::query_into(&mut self.request, sql.as_bytes());
                (1..=reset.len() as u32).for_each(|n| self.responses.silence(n));
            }
            None => wire::frontend::query_into(&mut self.request, query),
        }
        self.responses.expect(StepKind::Query, false);
        self.exchange(at).await?;
        self.finish_one(at, plan.taints, plan.changes_schema, class);
        self.close_trace();
        Ok(())
    }

    /// Empties the request and puts BEGIN first, if the transaction has not reached this shard.
    pub(super) async fn start(&mut self, at: usize) -> Result<(), Failure> {
        self.request.clear();
        self.responses.begin(self.session.trace);
        self.open_transaction(at).await
    }

    /// Says something to the transaction's shard and relays the answer.
    async fn forward(&mut self, shard: ShardId, sql: &str, class: &Class) -> Result<(), Failure> {
        let at = self.acquire(shard).await?;
        self.last_route.note_one(shard, &self.world);
        self.start(at).await?;
        wire::frontend::query_into(&mut self.request, sql.as_bytes());
        self.responses.expect(StepKind::Query, false);
        self.exchange(at).await?;
        self.finish_one(at, false, false, class);
        self.close_trace();
        Ok(())
    }

    /// With trace on, `ReadyForQuery` was kept back: the notice goes before it.
    pub(super) fn close_trace(&mut self) {
        if self.session.trace {
            self.trace_notice();
            self.ready();
        }
    }

    /// What would show this client another one's state, or lose what is meant for it.
    pub(super) fn refuse_session_state(&self, entry: &Entry) -> Result<(), SqlError> {
        if entry.reads_sequence_state && !self.held.iter().any(|held| held.pinned) {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "currval and lastval are not supported on a pooled connection",
            )
            .detail("They speak of the connection's last nextval, which may have been another client's.")
            .hint("Use INSERT … RETURNING, or call nextval in this session first."));
        }
        let keepers = self.held.iter().filter(|held| held.pinned).count();
        if matches!(entry.class, Class::Close | Class::Unlisten) && keepers > 1 {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "the session has state on several shards, which only DISCARD ALL ends",
            ));
        }
        if matches!(entry.class, Class::Listen) {
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "LISTEN is not supported")
                .detail("Notifications are not passed on to pooled clients.")
                .hint("Listen on a connection to the shard itself."));
        }
        Ok(())
    }

    /// Several statements in one string: all of them go to one shard, as they are.
    async fn run_string(&mut self, planned: &[Planned], text: &[u8]) -> Result<(), Failure> {
        let failed = self.session.transaction.status() == b'E';
        let unread = planned.iter().any(|p| matches!(p.entry.class, Class::Other));
        if failed
            && !planned.first().is_some_and(|p| self.ends_failure(&p.entry.class))
            && !(unread && self.failed_on_shard())
        {
            return Err(aborted().into());
        }
        // A shard that does not know of the failure would commit.
        if matches!(self.session.transaction, Transaction::Failed { .. }) {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "the end of a failed transaction must stand alone in its query string",
            )
            .hint("Send ROLLBACK by itself.")
            .into());
        }
        let mut route = Route::Any;
        let mut after = self.session.settings.clone();
        let (mut taints, mut changes_schema, mut rewritten) = (false, false, false);
        for one in planned {
            let text = statement_text(one, text);
            refuse_unsafe_encoding(&one.entry.class)?;
            if local::is_local(&one.entry.class, &self.world) {
                return Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "a command of pgmeridian must stand alone in its query string",
                )
                .detail(format!("The string also holds: {text}"))
                .hint("Send it by itself.")
                .into());
            }
            self.refuse_session_state(&one.entry)?;
            if one.plan.is_some() && !matches!(one.entry.class, Class::Set(_) | Class::Reset(_)) {
                self.refuse_other_reading(&after)?;
            }
            foresee(&mut after, &one.entry.class);
            let Some(plan) = &one.plan else { continue };
            let shard = match plan.route {
                Route::Any | Route::Nowhere => None,
                _ => Some(self.one_shard(plan)?),
            };
            route = join_routes(&route, shard, &self.world.map)?;
            taints |= plan.taints;
            changes_schema |= plan.changes_schema;
            rewritten |= plan.rewritten.is_some();
        }
        let plan = Plan {
            route,
            answer: Answer::Relay,
            rewritten: None,
            taints,
            writes: true,
            changes_schema,
        };
        let shard = self.one_shard(&plan)?;
        self.last_route.note(&plan, &self.world);
        let at = self.acquire(shard).await?;
        self.start(at).await?;
        let resets =
            |one: &Planned| !after_reset(&self.session.settings, &one.entry.class, true).is_empty();
        if rewritten || planned.iter().any(resets) {
            let sql = self.rewritten_string(planned, text);
            wire::frontend::query_into(&mut self.request, sql.as_bytes());
        } else {
            wire::frontend::query_into(&mut self.request, text);
        }
        self.responses.expect(StepKind::Query, false);
        self.exchange(at).await?;
        let failed = self.responses.failed();
        let done = if failed { self.responses.commands() as usize } else { planned.len() };
        let effects: Vec<&Class> = planned.iter().take(done).map(|p| &p.entry.class).collect();
        self.finish(at, taints, changes_schema, &effects, failed);
        self.close_trace();
        Ok(())
    }

    /// The string with what takes the place of some of its statements, or comes behind them.
    fn rewritten_string(&mut self, planned: &[Planned], query: &[u8]) -> String {
        let mut sql = String::new();
        let mut tags = 0;
        for one in planned {
            if let Some(text) = one.plan.as_ref().and_then(|plan| plan.rewritten.as_deref()) {
                sql.push_str(text);
            } else {
                let bytes = query.get(one.start as usize..one.end as usize).unwrap_or_default();
                sql.push_str(&String::from_utf8_lossy(bytes));
            }
            sql.push_str("; ");
            tags += u32::from(!matches!(one.entry.class, Class::Empty));
            for reset in after_reset(&self.session.settings, &one.entry.class, true) {
                sql.push_str(&reset);
                sql.push_str("; ");
                self.responses.silence(tags);
                tags += 1;
            }
        }
        sql
    }

    /// Statements are read as the settings say that hold when the first of them is sent; `after` are those
    /// that hold by then.
    pub(super) fn refuse_other_reading(&self, after: &SessionSettings) -> Result<(), SqlError> {
        if self.world.map.shards().len() == 1 {
            return Ok(());
        }
        let changed = |name: &&&str| {
            after.current().value(name) != self.session.settings.current().value(name)
        };
        match READING_SETTINGS.iter().find(changed) {
            None => Ok(()),
            Some(name) => Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("a change of {name} and a statement after it can't be sent together"),
            )
            .detail("What the statement means would have to be known before the change is made.")
            .hint(format!("Send the change of {name} by itself."))),
        }
    }
}

/// The statement's own text; only what is off the hot path asks for it.
fn statement_text(planned: &Planned, query: &[u8]) -> String {
    let relayed = planned.plan.as_ref().is_some_and(|plan| plan.answer == Answer::Relay);
    if relayed && matches!(planned.entry.class, Class::Query) {
        return String::new();
    }
    let bytes = query.get(planned.start as usize..planned.end as usize).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

fn join_routes(
    route: &Route,
    shard: Option<ShardId>,
    map: &crate::map::ShardMap,
) -> Result<Route, SqlError> {
    match (route, shard) {
        (route, None) => Ok(route.clone()),
        (Route::One(one), Some(other)) if *one != other => Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "the statements of one query string belong to shards \"{}\" and \"{}\"",
                map.shard_name(*one),
                map.shard_name(other)
            ),
        )
        .detail("A query string of several statements is one transaction, and a transaction stays on one shard.")
        .hint("Send the statements one by one.")),
        (_, Some(shard)) => Ok(Route::One(shard)),
    }
}
