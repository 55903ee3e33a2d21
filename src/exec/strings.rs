//! Several statements in one simple query.
//!
//! As far as they belong to one shard they are sent there as they are, so that PostgreSQL's own rules hold
//! for what is one implicit transaction (manual, "Multiple Statements in a Simple Query"). Else the string
//! is carried out in [`Piece`]s, where that gives the same: statements of an explicit transaction one by
//! one; what only reads, and the proxy's own commands, one by one as well, since an error behind them has
//! nothing to take back but settings; and what is left of an implicit transaction in one piece on one shard, or, if
//! it is nothing but queries of several shards, in a transaction of the proxy's own.
//! PostgreSQL reads a whole string before it carries out any of it: so a shard is asked to read it first.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::control::{Control, aborted};
use super::effects::{after_reset, effects_of, foresee, refuse_unsafe_encoding};
use super::key_databases::is_visit;
use super::lend::Names;
use super::pins::Pins;
use super::planner::Planned;
use super::prepare::statement_of;
use super::simple::statement_text;
use super::two_phase::refuse_our_names;
use super::{Executor, Failure, local};
use crate::backend::BackendError;
use crate::error::{SqlError, SqlState};
use crate::map::{CrossShardWrites, ShardId};
use crate::plan::{Answer, Plan, Route};
use crate::session::responses::StepKind;
use crate::session::settings::SessionSettings;
use crate::session::transaction::Transaction;
use crate::sql::class::{Class, TransactionModes};
use crate::wire;
use crate::wire::response::ServerError;

/// A savepoint that nobody has.
const NOWHERE: &str = "ROLLBACK TO SAVEPOINT \"pgmeridian: nowhere\"; ";

/// After so long other clients have their turn.
const TURN_MAX: Duration = Duration::from_millis(5);

/// A part of a query string that is carried out by itself.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// How many characters of the string precede it.
    characters: u32,
}

impl Piece {
    /// Nothing precedes it.
    pub(super) fn first() -> Self {
        Self { characters: 0 }
    }

    pub(super) fn characters_before(&self) -> i64 {
        i64::from(self.characters)
    }
}

/// What an implicit transaction that fails takes back.
struct Undo {
    settings: SessionSettings,
    trace: bool,
}

impl Executor {
    /// Several statements in one string.
    pub(super) async fn run_string(
        &mut self,
        planned: &mut [Planned],
        text: &[u8],
    ) -> Result<(), Failure> {
        let failed = self.session.transaction.status() == b'E';
        let unread = planned.iter().any(|p| matches!(p.entry.class, Class::Other));
        if failed
            && !planned.first().is_some_and(|p| self.ends_string(&p.entry.class))
            && !(unread && self.failed_on_shard())
        {
            return Err(aborted().into());
        }
        let whole = self.names_of(planned, text).and_then(|names| {
            let plan = self.whole_plan(planned, text)?;
            Ok((self.one_shard(&plan)?, plan, names))
        });
        match whole {
            Ok((shard, plan, names))
                if !(failed && names.has_loans())
                    && self.refuse_end_within(planned, shard).is_ok() =>
            {
                self.run_whole(planned, text, shard, &plan, names).await
            }
            Ok(_) => self.run_pieces(text).await,
            Err(_) if self.has_pieces(planned) => self.run_pieces(text).await,
            Err(_) if self.writes_on_several(planned) => self.run_as_one(text).await,
            Err(error) if self.before_refused(planned).is_some() => {
                self.check_syntax(text).await?;
                self.piece = Some(Piece::first());
                let result = self.run_up_to_refused(planned, text, error).await;
                self.piece = None;
                result
            }
            Err(error) => {
                if unread {
                    self.check_syntax(text).await?;
                }
                Err(error.into())
            }
        }
    }

    /// How many statements of an implicit transaction are carried out before one that is refused: PostgreSQL, too,
    /// looks at a statement when those before it are done.
    fn before_refused(&self, planned: &[Planned]) -> Option<usize> {
        let is_plain = |one: &Planned| {
            let plan = one.plan.as_ref();
            matches!(one.entry.class, Class::Query)
                && plan.is_some_and(|plan| plan.answer == Answer::Relay && plan.settings.is_none())
        };
        let count = planned.iter().position(|one| one.refused.is_some())?;
        let before = planned.get(..count)?;
        let free = !self.session.transaction.is_open() && !self.batch.is_open();
        (free && count > 0 && before.iter().all(is_plain)).then_some(count)
    }

    /// Carries out what comes before a statement that is refused, and takes it back: the client is told what it
    /// was, and the refusal.
    async fn run_up_to_refused(
        &mut self,
        planned: &[Planned],
        text: &[u8],
        refusal: SqlError,
    ) -> Result<(), Failure> {
        let before = self.before_refused(planned).and_then(|count| planned.get(..count));
        let before = before.unwrap_or_default();
        let whole = self.whole_plan(before, text);
        let whole = whole.and_then(|plan| Ok((self.one_shard(&plan)?, plan)));
        let begin = Class::Begin(TransactionModes::default());
        let (Ok((shard, plan)), Some(last)) = (whole, before.last()) else {
            return Err(refusal.into());
        };
        if self.control(&begin, "BEGIN").is_err() {
            return Err(refusal.into());
        }
        let text = text.get(..last.end as usize).unwrap_or_default();
        let result = self.run_whole(before, text, shard, &plan, Names::default()).await;
        let failed = self.responses.failed();
        let taken_back = self.take_back_transaction().await;
        if let Err(gone @ Failure::Gone(_)) = taken_back {
            return Err(gone);
        }
        if self.session.transaction.is_open() {
            // Its shard was lost on the way.
            let _ = self.control(&Class::Rollback { chain: false }, "ROLLBACK");
        }
        result?;
        // The client has been told of one error, and is told of no second one.
        let told = failed || matches!(taken_back, Err(Failure::Shown));
        Err(if told { Failure::Shown } else { refusal.into() })
    }

    /// Ends a transaction that the client knows nothing of.
    async fn take_back_transaction(&mut self) -> Result<(), Failure> {
        let rollback = Class::Rollback { chain: false };
        let Control::Forward(shard, sql) = self.control(&rollback, "ROLLBACK")? else {
            return Ok(());
        };
        let at = self.acquire(shard).await?;
        self.request.clear();
        self.begin_responses(true);
        wire::frontend::query_into(&mut self.request, sql.as_bytes());
        self.responses.expect(StepKind::Query, true);
        self.exchange(at).await?;
        let failed = self.responses.failed();
        self.finish(at, false, false, &[&rollback], failed);
        Ok(())
    }

    /// What a string may begin with in a failed transaction: its shard is made to know of the failure.
    fn ends_string(&self, class: &Class) -> bool {
        self.ends_failure(class) || matches!(class, Class::PrepareTransaction)
    }

    /// The plan of the string as a whole.
    ///
    /// # Errors
    ///
    /// Why it can't be sent to one shard as it is.
    fn whole_plan(&mut self, planned: &[Planned], text: &[u8]) -> Result<Plan, SqlError> {
        self.refuse_barred()?;
        let mut route = Route::Any;
        let mut after = self.session.settings.clone();
        let (mut writes, mut taints, mut changes_schema) = (false, false, false);
        let mut names_temporary = false;
        for one in planned {
            if let Some(refused) = &one.refused {
                let mut refused = (**refused).clone();
                let before = characters_of(text.get(..one.from as usize).unwrap_or_default());
                refused.position = refused.position.map(|position| position + before);
                return Err(refused);
            }
            refuse_unsafe_encoding(&one.entry.class)?;
            if self.is_ours(one) {
                let text = statement_text(one, text);
                return Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "a command of pgmeridian must stand alone in its query string",
                )
                .detail(format!("The string also holds: {text}"))
                .hint("Send it by itself."));
            }
            self.refuse_session_state(&one.entry)?;
            refuse_our_names(&one.entry.class, &statement_text(one, text))?;
            self.refuse_block(&one.entry.class)?;
            if one.plan.is_some() && !matches!(one.entry.class, Class::Set(_) | Class::Reset(_)) {
                self.refuse_other_reading(&after)?;
            }
            foresee(&mut after, &one.entry.class);
            let Some(plan) = &one.plan else { continue };
            let plan = &*self.at_its_cursor(&one.entry.class, plan);
            let shard = match plan.route {
                Route::Any | Route::Nowhere if !plan.names_temporary => None,
                _ => Some(self.one_shard(plan)?),
            };
            route = self.join_routes(&route, shard)?;
            writes |= plan.writes;
            taints |= plan.taints;
            names_temporary |= plan.names_temporary;
            changes_schema |= plan.changes_schema;
        }
        let (answer, rewritten) = (Answer::Relay, None);
        Ok(Plan {
            route,
            answer,
            rewritten,
            taints,
            writes,
            changes_schema,
            settings: None,
            names_temporary,
            crossing: None,
            once: false,
        })
    }

    /// All of it goes to one shard, as it is.
    async fn run_whole(
        &mut self,
        planned: &[Planned],
        text: &[u8],
        shard: ShardId,
        plan: &Plan,
        names: Names,
    ) -> Result<(), Failure> {
        self.refuse_end_within(planned, shard)?;
        self.note_route(plan);
        if is_visit(shard) {
            self.last_route.note_one(self.route_to(shard), &self.world);
        }
        if self.writes_apart(shard, plan.writes || plan.taints) {
            Box::pin(self.begin_writing(shard)).await?;
        }
        self.leaving = planned.iter().fold(Pins::NONE, |all, one| all.with(one.entry.leaves));
        let mut repeat = self.repeat_of_string(planned, plan);
        let at = loop {
            let at = self.acquire(shard).await?;
            self.may_write(at, plan.writes || plan.taints)?;
            if matches!(self.session.transaction, Transaction::Failed { .. }) {
                self.fail_on_shard(at).await?;
            }
            self.lend(at, &names).await?;
            self.start(at).await?;
            self.write_string(planned, text);
            self.responses.expect(StepKind::Query, false);
            if self.attempt(at, std::mem::take(&mut repeat)).await? {
                break at;
            }
        };
        let failed = self.responses.failed();
        let done = if failed { self.responses.commands() as usize } else { planned.len() };
        self.settle_names(at, names, planned, done).await?;
        let effects: Vec<Cow<'_, Class>> =
            planned.iter().take(done).flat_map(effects_of_one).collect();
        let effects: Vec<&Class> = effects.iter().map(Cow::as_ref).collect();
        self.finish(at, plan.taints, plan.changes_schema, &effects, failed);
        self.session.transaction.note(shard, plan.writes, plan.taints);
        self.close_trace();
        Ok(())
    }

    /// Appends the string to the request, as it is if it can be.
    fn write_string(&mut self, planned: &[Planned], text: &[u8]) {
        let resets =
            |one: &Planned| !after_reset(&self.session.settings, &one.entry.class, true).is_empty();
        let rewritten =
            |one: &Planned| one.plan.as_ref().is_some_and(|plan| plan.rewritten.is_some());
        if planned.iter().any(|one| rewritten(one) || resets(one)) {
            let sql = self.rewritten_string(planned, text);
            wire::frontend::query_into(&mut self.request, sql.as_bytes());
        } else {
            wire::frontend::query_into(&mut self.request, text);
        }
    }

    /// The string with what takes the place of some of its statements, or comes behind them.
    fn rewritten_string(&mut self, planned: &[Planned], query: &[u8]) -> String {
        let mut sql = String::new();
        let mut tags = 0;
        for one in planned {
            if let Some(text) = one.plan.as_ref().and_then(|plan| plan.rewritten.as_deref()) {
                sql.push_str(text);
            } else {
                sql.push_str(&statement_of(query, one));
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

    /// The transaction has failed by an error of ours: its shard is made to know it, so that a string that
    /// ends it there means what it says.
    pub(super) async fn fail_on_shard(&mut self, at: usize) -> Result<(), Failure> {
        let sql = match &self.session.transaction {
            Transaction::Failed { shard: None, pending, .. } if pending.is_lost() => {
                format!("BEGIN; {NOWHERE}")
            }
            Transaction::Failed { shard: None, pending, .. } => {
                format!("{}; {NOWHERE}", pending.sql())
            }
            _ => NOWHERE.to_owned(),
        };
        let Some(held) = self.held.get_mut(at) else { return Ok(()) };
        let shard = held.shard;
        match held.lease.simple_query(&sql).await {
            Err(BackendError::Statement(_)) if held.lease.tx_status() == b'E' => {
                self.session.transaction.settle(shard, b'E');
                Ok(())
            }
            Err(error) => {
                let error = self.shard_error(shard, &error);
                self.lose(at);
                Err(error.into())
            }
            Ok(_) => {
                self.lose(at);
                Err(SqlError::new(SqlState::INTERNAL_ERROR, "a failed transaction went on").into())
            }
        }
    }

    /// The next piece of a string, how many statements; `None` if to carry it out by itself would not be the
    /// same.
    fn next_piece(&self, rest: &[Planned]) -> Option<usize> {
        let first = rest.first()?;
        let class = &first.entry.class;
        if self.session.transaction.is_open() || matches!(class, Class::Begin(_)) {
            return Some(1);
        }
        if self.is_free(first) && !self.settles(first) {
            return Some(1);
        }
        let is_end = |p: &&Planned| {
            matches!(p.entry.class, Class::Commit { .. } | Class::Rollback { .. } | Class::Begin(_))
        };
        let end = rest.iter().find(is_end).map(|p| &p.entry.class);
        let goes_over = matches!(end, Some(Class::Begin(_)));
        let keeps_settings = matches!(end, None | Some(Class::Commit { .. }));
        if self.is_free(first) && keeps_settings {
            return Some(1);
        }
        // What is left of the implicit transaction.
        let before_end = rest.iter().take_while(|p| !is_end(p)).count();
        let count = before_end + usize::from(end.is_some() && !goes_over);
        let left = rest.get(..count)?;
        let alone = matches!(class, Class::Maintenance | Class::ClusterWide { .. }) && count == 1;
        let ours = left.iter().any(|p| self.is_ours(p));
        (!goes_over && !ours && !alone).then_some(count)
    }

    /// Only the proxy can do it, and it leaves nothing on a shard under a name of the client's.
    fn is_ours(&self, planned: &Planned) -> bool {
        let class = &planned.entry.class;
        local::is_local(class, &self.world)
            && !matches!(class, Class::Deallocate(_) | Class::DiscardAll)
            || planned.plan.as_ref().is_some_and(|plan| self.sets_key(plan))
    }

    /// What comes behind it may be read or routed otherwise.
    fn resettles(&self, planned: &Planned) -> bool {
        matches!(planned.entry.class, Class::Set(_) | Class::Reset(_))
            || planned.plan.as_ref().is_some_and(|plan| self.sets_key(plan))
    }

    /// It sets what a transaction that fails takes back.
    fn settles(&self, planned: &Planned) -> bool {
        let class = &planned.entry.class;
        matches!(class, Class::Set(_) | Class::Reset(_)) && !local::is_local(class, &self.world)
            || planned.plan.as_ref().is_some_and(|plan| plan.settings.is_some())
    }

    /// Whether the string can be carried out in pieces, as far as that can be told before. What can't be
    /// planned yet may be once the proxy's own settings are others.
    fn has_pieces(&self, planned: &[Planned]) -> bool {
        let mut resettled = false;
        // What comes before it is carried out statement by statement.
        let mut singly = false;
        let mut open = self.session.transaction.is_open();
        for (n, one) in planned.iter().enumerate() {
            let class = &one.entry.class;
            resettled |= self.resettles(one);
            // If it is none that PostgreSQL knows, the shard says so before anything is done.
            let unread = matches!(class, Class::Other);
            if one.refused.is_some() && !resettled && !singly && !unread
                || unread && self.session.transaction.shard().is_some()
            {
                return false;
            }
            open |= matches!(class, Class::Begin(_));
            singly = (singly || n == 0) && (open || self.is_free(one) && !self.settles(one));
            open &= !matches!(class, Class::Commit { .. } | Class::Rollback { .. });
        }
        !self.batch.is_open() && self.next_piece(planned).is_some_and(|count| count < planned.len())
    }

    /// An error behind it has nothing to take back but settings.
    fn is_free(&self, planned: &Planned) -> bool {
        match &planned.entry.class {
            Class::DiscardAll => false,
            class if local::is_local(class, &self.world) => true,
            Class::Set(set) => !set.local,
            Class::Reset(_) | Class::Show(_) => true,
            Class::Query | Class::Explain | Class::Execute(_) => {
                let local = |plan: &Plan| plan.settings.iter().flatten().any(|set| set.local);
                let plan = planned.plan.as_ref();
                plan.is_some_and(|plan| !plan.writes && !plan.taints && !local(plan))
            }
            _ => false,
        }
    }

    async fn run_pieces(&mut self, text: &[u8]) -> Result<(), Failure> {
        self.check_syntax(text).await?;
        let mut planned = Vec::new();
        self.plan_query(text, &mut planned).await?;
        let result = self.run_each(planned, text).await;
        self.piece = None;
        if let Ok(()) = result {
            self.ready();
        }
        result
    }

    /// An implicit transaction that is nothing but queries, of several shards: it can be one of the proxy's own.
    fn writes_on_several(&self, planned: &[Planned]) -> bool {
        let is_plain = |one: &Planned| {
            let plan = one.plan.as_ref();
            matches!(one.entry.class, Class::Query)
                && plan.is_some_and(|plan| plan.settings.is_none() && !plan.changes_schema)
        };
        !self.session.transaction.is_open()
            && !self.batch.is_open()
            && self.world.map.policy().cross_shard_writes == CrossShardWrites::TwoPhase
            && planned.iter().all(is_plain)
            && planned.iter().any(|one| one.plan.as_ref().is_some_and(|plan| plan.writes))
    }

    /// An implicit transaction, statement by statement within one that the client knows nothing of.
    async fn run_as_one(&mut self, text: &[u8]) -> Result<(), Failure> {
        self.check_syntax(text).await?;
        let mut planned = Vec::new();
        self.plan_query(text, &mut planned).await?;
        self.begin_own(TransactionModes::default());
        let mut result = self.run_each(planned, text).await;
        if result.is_ok() && self.session.transaction.status() != b'E' {
            result = self.commit_own().await;
        } else if !matches!(result, Err(Failure::Gone(_))) {
            self.roll_back_own().await;
        }
        self.piece = None;
        if let Ok(()) = result {
            self.ready();
        }
        result
    }

    /// Piece by piece. `text` is the string; behind a change of settings what is left of it is planned anew.
    async fn run_each(&mut self, mut planned: Vec<Planned>, text: &[u8]) -> Result<(), Failure> {
        let mut undo = None;
        let (mut next, mut offset) = (0, 0);
        // So much of the string has been counted in characters.
        let (mut counted, mut characters) = (0, 0);
        let mut turn = Instant::now();
        // What can't be planned so far, is refused when it comes to it.
        let _ = self.names_of(&mut planned, text);
        while let Some(first) = planned.get(next) {
            let from = offset + first.from as usize;
            let rest = text.get(from..).unwrap_or_default();
            characters += text.get(counted..from).map_or(0, characters_of);
            counted = from;
            if turn.elapsed() > TURN_MAX {
                // Pieces that no shard is asked for wait for nothing.
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
            if !self.session.transaction.is_open() {
                undo.get_or_insert_with(|| self.undo());
            }
            self.piece = Some(Piece { characters });
            self.responses.begin(true);
            let resettles = self.resettles(first);
            let ends = matches!(first.entry.class, Class::Commit { .. } | Class::Rollback { .. });
            let left = planned.get(next..).unwrap_or_default();
            match self.run_next(left, offset, text).await {
                Ok(count) if !self.responses.failed() => next += count,
                result => {
                    if let (Some(undo), false) = (undo, self.session.transaction.is_open()) {
                        self.take_back(undo);
                    }
                    if let Err(Failure::Error(error)) = result {
                        let position = error.position.map(|position| position + characters);
                        return Err(SqlError { position, ..error }.into());
                    }
                    return result.map(|_| ());
                }
            }
            if ends || self.session.transaction.is_open() {
                undo = None;
            }
            if resettles && next < planned.len() {
                offset = from;
                planned.clear();
                self.plan_query(rest, &mut planned).await?;
                let _ = self.names_of(&mut planned, rest);
                next = 1;
            }
        }
        Ok(())
    }

    /// The next piece of what is left: how many statements it had.
    async fn run_next(
        &mut self,
        rest: &[Planned],
        offset: usize,
        text: &[u8],
    ) -> Result<usize, Failure> {
        let count = self.next_piece(rest).unwrap_or(rest.len());
        let last = count.checked_sub(1).and_then(|last| rest.get(last));
        let (Some(first), Some(last)) = (rest.first(), last) else { return Ok(rest.len()) };
        let place = offset + first.from as usize..offset + last.end as usize;
        self.run_piece(text.get(place).unwrap_or_default()).await?;
        Ok(count)
    }

    /// What the session says now is what holds for the piece: it is planned anew.
    async fn run_piece(&mut self, slice: &[u8]) -> Result<(), Failure> {
        let mut planned = Vec::new();
        self.after_schema_change();
        self.follow_world();
        let outcome = self.plan_query(slice, &mut planned).await;
        outcome.map_err(|error| self.barred().unwrap_or(error))?;
        match planned.as_mut_slice() {
            [one] if matches!(one.entry.class, Class::DiscardAll) => Err(SqlError::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "DISCARD ALL cannot run inside a transaction block",
            )
            .into()),
            [one] => Box::pin(self.run_one(one, slice)).await,
            many => {
                let names = self.names_of(many, slice)?;
                let plan = match self.whole_plan(many, slice) {
                    Err(error) if self.before_refused(many).is_some() => {
                        return self.run_up_to_refused(many, slice, error).await;
                    }
                    plan => plan?,
                };
                let shard = self.one_shard(&plan)?;
                self.run_whole(many, slice, shard, &plan, names).await
            }
        }
    }

    fn join_routes(&self, route: &Route, shard: Option<ShardId>) -> Result<Route, SqlError> {
        match (route, shard) {
            (route, None) => Ok(route.clone()),
            (Route::One(one), Some(other)) if *one != other => Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!(
                    "the statements of one query string belong to shards \"{}\" and \"{}\"",
                    self.place_name(*one),
                    self.place_name(other)
                ),
            )
            .detail("A query string of several statements is one transaction, and what is not a query in it belongs to one shard.")
            .hint("Send the statements one by one.")),
            (_, Some(shard)) => Ok(Route::One(shard)),
        }
    }

    /// A shard's error over a piece of a string: its position is the string's.
    pub(super) fn in_its_string<'e>(&self, error: &'e ServerError) -> Cow<'e, ServerError> {
        match &self.piece {
            None => Cow::Borrowed(error),
            Some(piece) => Cow::Owned(error.behind(piece.characters_before())),
        }
    }

    fn undo(&self) -> Undo {
        let session = &self.session;
        Undo { settings: session.settings.clone(), trace: session.trace }
    }

    fn take_back(&mut self, undo: Undo) {
        let session = &mut self.session;
        session.settings = undo.settings;
        session.trace = undo.trace;
        self.follow_settings();
    }

    /// PostgreSQL reads a whole string before it carries out any of it. A shard reads it here behind a
    /// statement that fails, so that nothing is carried out.
    async fn check_syntax(&mut self, text: &[u8]) -> Result<(), Failure> {
        if self.session.transaction.shard().is_some() {
            // There an error fails the transaction, with what the string has done before.
            return Ok(());
        }
        let Ok(text) = std::str::from_utf8(text) else { return Ok(()) };
        let shard = self.keeper().unwrap_or_else(|| self.world.map.default_shard());
        let at = self.acquire(shard).await?;
        let sql = format!("{NOWHERE}{text}");
        let Some(held) = self.held.get_mut(at) else { return Ok(()) };
        let result = held.lease.simple_query(&sql).await;
        match result {
            Err(BackendError::Statement(error)) if error.code() == "25P01" => {
                self.settle(at);
                Ok(())
            }
            Err(error) => {
                let position = match &error {
                    BackendError::Statement(error) => error.field(b'P').map(<[u8]>::to_vec),
                    _ => None,
                };
                let position = position.and_then(|digits| String::from_utf8(digits).ok());
                let position = position.and_then(|digits| digits.parse::<u32>().ok());
                let lost = !matches!(error, BackendError::Statement(_));
                let mut error = self.shard_error(shard, &error);
                error.position = position.map(|p| p.saturating_sub(NOWHERE.len() as u32));
                if lost {
                    self.lose(at);
                } else {
                    self.settle(at);
                }
                Err(error.into())
            }
            Ok(_) => {
                self.lose(at);
                Err(SqlError::new(SqlState::INTERNAL_ERROR, "a string was not read").into())
            }
        }
    }
}

/// How many characters a text has.
pub(super) fn characters_of(text: &[u8]) -> u32 {
    String::from_utf8_lossy(text).chars().count() as u32
}

fn effects_of_one(planned: &Planned) -> SmallVec<[Cow<'_, Class>; 1]> {
    match &planned.plan {
        Some(plan) => effects_of(&planned.entry.class, plan),
        None => std::iter::once(Cow::Borrowed(&planned.entry.class)).collect(),
    }
}
