//! The simple query protocol: one Query message, one or several statements.

use super::control::{Control, aborted, is_control};
use super::effects::{
    READING_SETTINGS, SCOPE_SETTINGS, after_reset, refuse_unsafe_encoding, setting_tag,
};
use super::io::IDLE_BUFFER_BYTES;
use super::pins::{Pin, Pins};
use super::planner::{Entry, Planned};
use super::schema::stands_on_schema;
use super::several::is_for_all;
use super::two_phase::refuse_our_names;
use super::{Executor, Failure, Gone, Held, local, worker};
use crate::error::{SqlError, SqlState};
use crate::lookup::{Noted, View};
use crate::map::ShardId;
use crate::plan::{Answer, Plan};
use crate::session::responses::StepKind;
use crate::session::settings::SessionSettings;
use crate::session::transaction::Transaction;
use crate::sql::class::{Class, execution_within};
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
        self.asked.clear();
        self.made.clear();
        self.note_start();
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        text.extend_from_slice(self.io.slice(offset, length));
        // Header, text and its terminating zero: what follows may be COPY data.
        self.io.consume(offset + length + 1);
        let mut planned = std::mem::take(&mut self.planned);
        let result = match self.plan_query(&text, &mut planned).await {
            Ok(()) => self.run_planned(&mut planned, &text).await,
            Err(error) => match Box::pin(self.instead(&text, self.barred().unwrap_or(error))).await
            {
                Err(Failure::Error(refusal)) => {
                    Err(Box::pin(self.in_the_servers_words(refusal, &text)).await)
                }
                other => other,
            },
        };
        if let Some(shard) = batch {
            self.end_batch(shard, result.is_err());
        }
        planned.clear();
        self.planned = planned;
        if text.capacity() <= IDLE_BUFFER_BYTES {
            self.text = text;
        }
        self.end_request(result)?;
        if !self.session.transaction.is_open() {
            self.portals.clear();
        }
        self.after_schema_change();
        Ok(())
    }

    /// A simple query takes the unnamed statement and portal away. If it stands in an unfinished pipeline,
    /// that becomes part of its transaction: the pipeline's shard is returned.
    fn begin_query(&mut self) -> Option<ShardId> {
        self.statements.remove(b"");
        self.portals.remove(b"");
        self.batch.is_over();
        let shard = self.batch.open_on()?;
        let effects = self.batch.take_effects();
        if let Some(at) = self.held.iter().position(|held| held.shard == shard) {
            for class in &effects {
                self.apply(class, at);
            }
            if let (false, Some(held)) = (effects.is_empty(), self.held.get_mut(at)) {
                held.pin(Pins::of(Pin::OpaqueCode));
            }
        }
        Some(shard)
    }

    /// A statement is refused that no server would take either: what is wrong with it, PostgreSQL says best. A
    /// shard is asked to read it, and not to carry it out.
    async fn in_the_servers_words(&mut self, refusal: SqlError, text: &[u8]) -> Failure {
        // Parameters are unknown to a Query, and known to a Parse.
        let has_parameter = |text: &str| {
            text.split('$').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let readable = std::str::from_utf8(text).is_ok_and(|text| !has_parameter(text));
        let free = !self.batch.is_open() && self.session.transaction.status() != b'E';
        if refusal.code != SqlState::FEATURE_NOT_SUPPORTED
            || self.world.map.is_one_server()
            || !(readable && free)
        {
            return refusal.into();
        }
        let here = self.session.transaction.shard().or_else(|| self.keeper());
        let shard = here.unwrap_or_else(|| self.world.map.default_shard());
        self.leaving = Pins::NONE;
        let Ok(at) = self.acquire(shard).await else { return refusal.into() };
        self.request.clear();
        self.begin_responses(true);
        wire::frontend::parse_into(&mut self.request, b"", text, [].into_iter());
        wire::frontend::sync_into(&mut self.request);
        self.responses.expect(StepKind::Parse, true);
        self.responses.expect(StepKind::Sync, true);
        if let Err(failure) = self.exchange(at).await {
            return failure;
        }
        let failed = self.responses.failed();
        self.end_aside(at);
        if failed { Failure::Shown } else { refusal.into() }
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
    pub(super) async fn plan_query(
        &mut self,
        text: &[u8],
        planned: &mut Vec<Planned>,
    ) -> Result<(), SqlError> {
        let (mut result, mut unknown) = self.plan_asking(text, planned).await?;
        if self.stale
            && (result.is_err() || planned.iter().any(|one| stands_on_schema(&one.entry.class)))
        {
            self.read_stale().await?;
            (result, unknown) = self.plan_asking(text, planned).await?;
        }
        let behind = planned.iter().any(|one| self.is_behind(&one.entry.class));
        if behind || (unknown || result.is_err()) && self.is_behind(&Class::Query) {
            Box::pin(self.read_own_schema()).await?;
            result = self.plan_asking(text, planned).await?.0;
        }
        if !unknown && self.world.catalog_known {
            return result;
        }
        match Box::pin(self.refresh_world()).await {
            Ok(true) => self.plan_asking(text, planned).await?.0,
            Ok(false) => result,
            // What says nothing of the schema can do without: a session must be able to leave.
            Err(_)
                if result.is_ok() && !planned.iter().any(|p| stands_on_schema(&p.entry.class)) =>
            {
                result
            }
            Err(error) => Err(error),
        }
    }

    /// Plans, and again when ids had to be asked for: each round knows more of them.
    async fn plan_asking(
        &mut self,
        text: &[u8],
        planned: &mut Vec<Planned>,
    ) -> Result<(Result<(), SqlError>, bool), SqlError> {
        let mut settled = false;
        self.fresh.belong_to(None);
        loop {
            let (result, unknown, noted) = self.plan_once(text, planned);
            if !noted.wanted.is_empty() {
                Box::pin(self.look_up(noted.wanted)).await?;
            } else if !noted.newcomers.is_empty() && !settled && self.may_ask() {
                settled = true;
                Box::pin(self.settle_newcomers(&noted.newcomers)).await?;
            } else {
                self.fresh.clear();
                // Of several statements a later one may take the first ones back.
                self.made = if planned.len() == 1 { noted.made } else { Vec::new() };
                return Ok((result, unknown));
            }
        }
    }

    fn plan_once(
        &mut self,
        text: &[u8],
        planned: &mut Vec<Planned>,
    ) -> (Result<(), SqlError>, bool, Noted) {
        planned.clear();
        // Nearly every string is one statement, and an idle client keeps the room.
        planned.reserve_exact(1);
        let view = self.view();
        let scopes = self.scopes(view.as_ref());
        let (result, unknown) = worker::with_planner(|planner| {
            let result = planner.plan_simple(&self.world, &self.reading, text, &scopes, planned);
            (result, planner.saw_unknown_table())
        });
        (result, unknown, view.map(View::into_noted).unwrap_or_default())
    }

    async fn run_planned(&mut self, planned: &mut [Planned], text: &[u8]) -> Result<(), Failure> {
        match planned {
            [one] if self.run_plain(one, text).await? => Ok(()),
            [one] => self.run_one(one, text).await,
            many => Box::pin(self.run_string(many, text)).await,
        }
    }

    /// Runs a statement that stands alone.
    ///
    /// It is as long as it is because each `async fn` within another is memory of every client
    /// (`an_idle_client_is_small`).
    pub(super) async fn run_one(&mut self, planned: &Planned, query: &[u8]) -> Result<(), Failure> {
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
            return Err(not_in_a_pipeline().into());
        }
        if matches!(class, Class::DiscardAll) && self.has_to_discard() {
            Box::pin(self.discard_held()).await;
        }
        if let Some(mut answer) = self.answer_locally(class, &text)? {
            let wanted = std::mem::take(&mut self.wanted);
            if !wanted.is_empty() {
                Box::pin(self.look_up(wanted)).await?;
                answer = self.answer_locally(class, &text)?.unwrap_or(answer);
            }
            answer.simple(&mut self.io.outbox);
            self.ready();
            return Ok(());
        }
        if !is_control(class) {
            self.refuse_barred()?;
        }
        if let Some(plan) = &planned.plan
            && let Some(settings) = self.settings_of(&planned.entry, plan)
        {
            if self.batch.is_open() {
                return Err(not_in_a_pipeline().into());
            }
            self.set_by_query(settings)?;
            self.ready();
            return Ok(());
        }
        match class {
            Class::Prepare { .. } => {
                return Box::pin(self.prepare_statement(planned, query)).await;
            }
            Class::Execute(_) => return Box::pin(self.execute_statement(planned, query)).await,
            Class::Explain | Class::Definition { from_query: true, .. } => {
                let standard_strings = self.reading.standard_strings;
                if let Some(execution) = execution_within(&text, class, standard_strings) {
                    return Box::pin(self.run_with_execution(planned, &execution, query)).await;
                }
            }
            _ => {}
        }
        if let (true, Some(shard)) = (is_control(class), self.batch.open_on()) {
            return self.forward(shard, &text, class).await;
        }
        let chains =
            matches!(class, Class::Commit { chain: true } | Class::Rollback { chain: true });
        let chains = chains && !self.session.transaction.is_several();
        if let (true, Transaction::Failed { shard: Some(shard), .. }) =
            (chains, &self.session.transaction)
        {
            // What an error has taken back, the next transaction does not have.
            let shard = *shard;
            let at = self.acquire(shard).await?;
            Box::pin(self.fail_on_shard(at)).await?;
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
                Control::Tell(sql) => {
                    Box::pin(self.tell_enlisted(class, &sql)).await?;
                    self.close_told();
                    Ok(())
                }
            };
        }
        refuse_unsafe_encoding(class)?;
        let for_all = is_for_all(class) || matches!(class, Class::Close(None));
        if for_all && self.session.transaction.is_several() {
            Box::pin(self.tell_enlisted(class, &text)).await?;
            self.close_told();
            return Ok(());
        }
        if let Some(report) = self.settle_foregone(class) {
            self.complete("SET");
            self.io.outbox.extend_from_slice(&report);
            self.ready();
            return Ok(());
        }
        if self.defer_setting(class, &text) {
            self.complete(setting_tag(class));
            self.ready();
            return Ok(());
        }
        let Some(plan) = &planned.plan else {
            let none = || SqlError::new(SqlState::INTERNAL_ERROR, "the statement has no plan");
            return Err(planned.refused.as_deref().cloned().unwrap_or_else(none).into());
        };
        self.refuse_session_state(&planned.entry)?;
        refuse_our_names(class, &text)?;
        self.leave_database(&planned.entry)?;
        if plan.answer.is_gathered() {
            self.refuse_lock_alone(class)?;
            self.note_route(plan);
            return Box::pin(self.scatter_query(plan, &text)).await;
        }
        let shard = self.one_shard(&self.at_its_cursor(class, plan))?;
        if planned.entry.constant && self.answer_constant(planned, query, shard) {
            return Ok(());
        }
        self.note_route(plan);
        let timed = if self.is_behind_first(class, plan) {
            let own = planned.start as usize..planned.end as usize;
            Box::pin(self.at_first_time(plan, query.get(own).unwrap_or_default())).await?
        } else {
            None
        };
        let plan = timed.as_deref().unwrap_or(plan);
        if self.writes_apart(shard, plan.writes || plan.taints) {
            Box::pin(self.begin_writing(shard)).await?;
        }
        self.leaving = planned.entry.leaves;
        let mut repeat = self.repeat_of(&planned.entry, plan);
        let at = loop {
            let at = self.acquire(shard).await?;
            self.may_write(at, plan.writes || plan.taints)?;
            self.start(at).await?;
            self.expect_one(plan, class, &text, query);
            if self.attempt(at, std::mem::take(&mut repeat)).await? {
                break at;
            }
        };
        self.finish_one(at, plan, class);
        self.session.transaction.note(shard, plan.writes, plan.taints);
        self.close_trace();
        Ok(())
    }

    /// Appends a statement to the request, with what is expected in return.
    fn expect_one(&mut self, plan: &Plan, class: &Class, text: &str, query: &[u8]) {
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
    }

    /// `ReadyForQuery` behind what the proxy answered for several shards.
    pub(super) fn close_told(&mut self) {
        if self.session.trace {
            self.trace_notice();
        }
        self.ready();
    }

    /// Empties the request and puts BEGIN first, if the transaction has not reached this shard.
    pub(super) async fn start(&mut self, at: usize) -> Result<(), Failure> {
        self.request.clear();
        self.begin_responses(self.session.trace);
        self.open_transaction(at).await
    }

    /// Says something to the transaction's shard and relays the answer.
    async fn forward(&mut self, shard: ShardId, sql: &str, class: &Class) -> Result<(), Failure> {
        let at = self.acquire(shard).await?;
        self.last_route.note_one(self.route_to(shard), &self.world);
        self.start(at).await?;
        wire::frontend::query_into(&mut self.request, sql.as_bytes());
        self.responses.expect(StepKind::Query, false);
        let wrote = self.has_written();
        if let Err(failure) = self.exchange(at).await {
            return Err(self.lost_at_end(failure, class, wrote, shard));
        }
        let failed = self.responses.failed();
        let effects: &[&Class] = if failed { &[] } else { &[class] };
        self.finish(at, false, false, effects, failed);
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
        if entry.reads_sequence_state && !self.held.iter().any(|held| held.pinned && held.swept) {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "currval and lastval are not supported on a pooled connection",
            )
            .detail("They speak of the connection's last nextval, which may have been another client's.")
            .hint("Use INSERT … RETURNING, or call nextval in this session first."));
        }
        if matches!(entry.class, Class::PrepareTransaction) && self.session.transaction.is_several()
        {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "PREPARE TRANSACTION of a transaction over several shards is not supported",
            )
            .detail("It would be prepared on one of its shards only.")
            .hint("Send COMMIT, or keep the transaction to the keys of one shard."));
        }
        let of_cursor = matches!(entry.class, Class::Fetch(_) | Class::Close(_))
            && self.cursor_of(&entry.class).is_none();
        if of_cursor && self.session.transaction.is_several() {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "this cursor is not supported in a transaction over several shards",
            )
            .detail("Which of its shards it is on is not known: the session did not declare it.")
            .hint("Keep the transaction to the keys of one shard."));
        }
        let several = |concerned: &dyn Fn(&Held) -> bool| {
            self.held.iter().filter(|held| held.pinned && concerned(held)).count() > 1
        };
        let unlistens = matches!(entry.class, Class::Unlisten);
        if of_cursor && several(&|_| true)
            || unlistens && several(&|held| held.pins.has(Pin::Listen))
        {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "the session has state on several shards, which only DISCARD ALL ends",
            ));
        }
        Ok(())
    }

    /// What concerns a transaction over several shards is said to all of them; a string goes to one.
    pub(super) fn refuse_end_within(
        &self,
        planned: &[Planned],
        shard: ShardId,
    ) -> Result<(), SqlError> {
        let transaction = &self.session.transaction;
        let elsewhere = transaction.shard().is_some_and(|first| first != shard);
        let concerns_all =
            |one: &Planned| is_control(&one.entry.class) || is_for_all(&one.entry.class);
        if !(transaction.is_several() || elsewhere) || !planned.iter().any(concerns_all) {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "what concerns a transaction over several shards must stand alone in its query string",
        )
        .hint("Send COMMIT, ROLLBACK, SAVEPOINT and SET by themselves."))
    }

    /// Statements are read, and routed, as the settings say that hold when the first of them is sent; `after` are
    /// those that hold by then.
    pub(super) fn refuse_other_reading(&self, after: &SessionSettings) -> Result<(), SqlError> {
        let changed = |name: &&&str| {
            after.current().value(name) != self.session.settings.current().value(name)
        };
        let only = self.world.map.is_one_server() && self.world.map.sole_key().is_none();
        let reading = READING_SETTINGS.iter().filter(|_| !only).find(changed);
        match reading.or_else(|| SCOPE_SETTINGS.iter().find(changed)) {
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

fn not_in_a_pipeline() -> SqlError {
    SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "a command of pgmeridian cannot stand in an unfinished pipeline",
    )
    .hint("Send a Sync before it.")
}

/// The statement's own text; only what is off the hot path asks for it.
pub(super) fn statement_text(planned: &Planned, query: &[u8]) -> String {
    let relayed = planned.plan.as_ref().is_some_and(|plan| plan.answer == Answer::Relay);
    if relayed && matches!(planned.entry.class, Class::Query) {
        return String::new();
    }
    // A hint before EXPLAIN (ROUTE) belongs to what it explains.
    let hinted = matches!(planned.entry.class, Class::ExplainRoute { .. });
    let from = if hinted { planned.from } else { planned.start };
    let bytes = query.get(from as usize..planned.end as usize).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}
