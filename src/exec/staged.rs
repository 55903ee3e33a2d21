//! Statements that put the rows of a query over several shards somewhere: INSERT … SELECT, CREATE TABLE … AS,
//! SELECT … INTO, DECLARE … CURSOR ([`crate::plan::staged`]).
//!
//! One statement: the shard that the rows go to reads it as the client wrote it, which gives PostgreSQL's own errors
//! and parameter types; the query is read as it would be by itself, in binary, and its rows are kept (at most
//! `limits.merge_memory_max` of them); they are copied into a scratch table on that shard, numbered in their order; and
//! the statement runs there over the scratch table. Outside a transaction block it has a transaction of its own, which
//! begins when the rows are there.
//!
//! The scratch table is a temporary one in the client's transaction, since what runs over it has to be: it is written
//! on that shard anyway. It is dropped behind the statement, but for a cursor's, which is needed until the transaction
//! ends. (A transaction that has had one can't be prepared, nor be READ ONLY.) A row of the answer is a row of a binary
//! COPY as it is: manual, "Message Formats", and "COPY", "Binary Format".

mod load;
mod new_table;
mod query;

use self::load::Load;
use super::merged::Wanted;
use super::pins::{Pin, Pins};
use super::planner::Readied;
use super::reply::Reply;
use super::{Executor, Failure, worker};
use crate::datum::Oid;
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::plan::staged::Place;
use crate::plan::{Plan, Staged};
use crate::session::responses::StepKind;
use crate::sql::class::{TransactionModes, classify};
use crate::wire::frontend;
use crate::wire::frontend::BindView;

/// What the shard says of the statement, and of its query.
struct Described {
    /// The parameters' types.
    types: Vec<Oid>,
    /// The statement answers with rows.
    answers: bool,
    /// The names of the query's columns.
    names: Vec<String>,
}

impl Executor {
    /// Carries out a statement whose query's rows come from several shards, but for `ReadyForQuery`.
    ///
    /// # Cancel safety
    ///
    /// None: the connections are then in the middle of their work, and closed when dropped.
    pub(super) async fn staged(
        &mut self,
        staged: &Staged,
        plan: &Plan,
        wanted: Wanted<'_>,
    ) -> Result<(), Failure> {
        let readied = worker::with_planner(|p| p.prepare(&self.world, &self.reading, wanted.sql))?;
        self.refuse_cursor(staged, plan)?;
        let place = self.place_of(staged);
        if self.session.transaction.shard().is_some() {
            self.may_enlist(place, plan.writes)?;
        }
        self.leaving = leaves(staged, plan, &readied);
        let described = self.describe_at(place, staged, &wanted).await?;
        let view = wanted.bind.and_then(|body| BindView::parse(body).ok());
        let query = self.query_within(staged, &described.types, view.as_ref()).await?;
        self.may_meet(place, &query)?;
        let rows = if staged.tail.to_ascii_lowercase().ends_with("no data") {
            Vec::new()
        } else {
            self.rows_of(query, staged, &described, view.as_ref()).await?
        };
        let load = Load::new(&described, view, rows);
        if self.session.transaction.is_open() {
            return self.put(place, staged, plan, &wanted, &load).await;
        }
        self.begin_own(TransactionModes::default());
        // That it is done, the client is told when it is committed.
        let kept = !described.answers;
        if kept {
            self.io.begin_capture(usize::MAX);
        }
        let outcome = self.put(place, staged, plan, &wanted, &load).await;
        let told = if kept { self.io.end_capture().0 } else { Vec::new() };
        match outcome {
            Ok(()) => {
                self.commit_own().await?;
                self.io.outbox.extend_from_slice(&told);
                Ok(())
            }
            Err(Failure::Gone(gone)) => Err(Failure::Gone(gone)),
            Err(failure) => {
                self.io.outbox.extend_from_slice(&told);
                self.roll_back_own().await;
                Err(failure)
            }
        }
    }

    /// What the client is told of a portal that is not executed.
    pub(super) async fn describe_staged(
        &mut self,
        staged: &Staged,
        wanted: &Wanted<'_>,
    ) -> Result<(), Failure> {
        let place = self.place_of(staged);
        let at = self.hold(place).await?;
        self.request.clear();
        self.begin_responses(true);
        let oids = wanted.oids.iter().copied();
        frontend::parse_into(&mut self.request, b"", wanted.sql, oids);
        self.responses.expect(StepKind::Parse, true);
        if let Some(mut view) = wanted.bind.and_then(|body| BindView::parse(body).ok()) {
            view.portal = b"";
            frontend::bind_with_statement(&mut self.request, &view, b"");
            self.responses.expect(StepKind::Bind, true);
        }
        frontend::describe_portal_into(&mut self.request, b"");
        self.responses.expect(StepKind::DescribePortal, false);
        frontend::sync_into(&mut self.request);
        self.responses.expect(StepKind::Sync, true);
        self.exchange(at).await?;
        let failed = self.responses.failed();
        self.end_aside(at);
        if failed { Err(Failure::Shown) } else { Ok(()) }
    }

    /// A cursor needs a transaction, as PostgreSQL says, in which a scratch table can be made.
    fn refuse_cursor(&self, staged: &Staged, plan: &Plan) -> Result<(), SqlError> {
        if staged.place != Place::Cursor {
            return Ok(());
        }
        if !self.session.transaction.is_open() && !plan.taints {
            return Err(SqlError::new(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "DECLARE CURSOR can only be used in transaction blocks",
            ));
        }
        let reads_only = self.session.modes.is_some_and(|modes| modes.read_only == Some(true));
        if self.session.transaction.is_open() && reads_only {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "a cursor over several shards is not supported in a READ ONLY transaction",
            )
            .detail("Its rows are kept in a temporary table, which such a transaction can't make.")
            .hint("Begin the transaction without READ ONLY, or fetch the rows through a portal."));
        }
        Ok(())
    }

    /// The shard that the rows go to. A new table's is only known when it is there; it is made on all.
    fn place_of(&self, staged: &Staged) -> ShardId {
        let home = self.world.map.default_shard();
        let own = self.session.temporary.as_ref().map(|(shard, _)| *shard);
        let here = self.session.transaction.shard();
        match &staged.place {
            Place::Rows(shard) => *shard,
            Place::Temporary => own.or(here).or_else(|| self.keeper()).unwrap_or(home),
            Place::Cursor => here.or_else(|| self.keeper()).unwrap_or(home),
            Place::Table(..) => home,
        }
    }

    /// A connection to a shard, within the open transaction if there is one.
    async fn hold(&mut self, shard: ShardId) -> Result<usize, Failure> {
        if self.session.transaction.is_open() {
            self.join(shard).await
        } else {
            self.acquire(shard).await.map_err(Failure::from)
        }
    }

    /// The client is told a shard's error, and the transaction has failed.
    fn refuse_reply(&mut self, shard: ShardId, reply: &Reply) -> Result<(), Failure> {
        if reply.is_well() {
            return Ok(());
        }
        let message = self.failure_message(shard, reply, true);
        self.io.outbox.extend_from_slice(&message);
        self.session.transaction.fail();
        self.drop_lost(&[shard], std::slice::from_ref(reply));
        self.settle_all();
        Err(Failure::Shown)
    }

    /// Puts the rows where the statement says, within the open transaction.
    async fn put(
        &mut self,
        place: ShardId,
        staged: &Staged,
        plan: &Plan,
        wanted: &Wanted<'_>,
        load: &Load<'_>,
    ) -> Result<(), Failure> {
        match &staged.place {
            Place::Table(..) => self.make_table(staged, plan, load).await,
            _ => self.run_over(place, staged, plan, wanted, load).await,
        }
    }

    /// Brings the rows and runs the statement over them.
    async fn run_over(
        &mut self,
        place: ShardId,
        staged: &Staged,
        plan: &Plan,
        wanted: &Wanted<'_>,
        load: &Load<'_>,
    ) -> Result<(), Failure> {
        self.join(place).await?;
        self.note_scratch(place)?;
        if self.writes_apart(place, plan.writes || plan.taints) {
            Box::pin(self.begin_writing(place)).await?;
        }
        let at = self.join(place).await?;
        self.may_write(at, plan.writes || plan.taints)?;
        self.work_on(&[place]);
        self.bring(place, staged, load).await?;
        let Some(at) = self.held.iter().position(|held| held.shard == place) else {
            return Err(self.lost(place).into());
        };
        let sql = format!("{} {} {}", staged.head, load.select(&staged.constants), staged.tail);
        self.request.clear();
        self.begin_responses(true);
        self.expect_statement(&sql, wanted, load);
        self.exchange(at).await?;
        let failed = self.responses.failed();
        let class = classify(&sql, self.reading.standard_strings);
        self.finish_one(at, plan, &class);
        let opaque = plan.taints && staged.place != Place::Cursor;
        self.session.transaction.note(place, plan.writes, opaque);
        if failed {
            return Err(Failure::Shown);
        }
        if staged.place != Place::Cursor {
            self.drop_scratch(place, load).await?;
        }
        Ok(())
    }

    /// Appends the statement to the request, with what is expected in return.
    fn expect_statement(&mut self, sql: &str, wanted: &Wanted<'_>, load: &Load<'_>) {
        let Some(mut view) = load.view else {
            frontend::query_into(&mut self.request, sql.as_bytes());
            self.responses.expect(StepKind::Query, false);
            return;
        };
        let types = load.described.types.iter().copied();
        frontend::parse_into(&mut self.request, b"", sql.as_bytes(), types);
        self.responses.expect(StepKind::Parse, true);
        view.portal = b"";
        frontend::bind_with_statement(&mut self.request, &view, b"");
        self.responses.expect(StepKind::Bind, true);
        if wanted.described && (wanted.no_data || load.described.answers) {
            frontend::describe_portal_into(&mut self.request, b"");
            self.responses.expect(StepKind::DescribePortal, false);
        }
        frontend::execute_into(&mut self.request, b"", 0);
        self.responses.expect(StepKind::Execute, false);
        frontend::sync_into(&mut self.request);
        self.responses.expect(StepKind::Sync, true);
    }
}

/// What the statement leaves on its connection.
fn leaves(staged: &Staged, plan: &Plan, readied: &Readied) -> Pins {
    match &staged.place {
        Place::Rows(_) => readied.entry.leaves,
        Place::Temporary => Pins::of(Pin::TemporaryTable).with(Pins::of(Pin::EventTrigger)),
        Place::Cursor if plan.taints => Pins::of(Pin::HoldCursor),
        Place::Cursor => Pins::NONE,
        Place::Table(..) => Pins::of(Pin::EventTrigger),
    }
}
