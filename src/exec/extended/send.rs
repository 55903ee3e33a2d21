//! A unit on its shard: sent there, sent again where that is safe, and what the answers mean for the session.

use smallvec::SmallVec;

use super::assemble::ParsedList;
use super::{Op, Portal, Unit, Which};
use crate::error::{SqlError, SqlState};
use crate::exec::again::Repeat;
use crate::exec::pins::Pins;
use crate::exec::{Executor, Failure};
use crate::map::ShardId;
use crate::observe;
use crate::session::responses::StepKind;
use crate::session::transaction::Transaction;
use crate::sql::class::Class;
use crate::wire;
use crate::wire::backend::Severity;

/// How a unit is carried out.
pub(super) struct Course {
    /// It ends with Sync: the client is told `ReadyForQuery`.
    sync: bool,
    /// It only parses and describes.
    aside: bool,
    /// It has failed by an error of ours, now or before.
    ours: bool,
    /// The shard's `ReadyForQuery` is kept back.
    hold: bool,
    /// It is sent again, since a statement was out of date.
    again: bool,
    /// If its connection is found dead, that is that.
    last: bool,
    /// By then the client had been told the first statement's parameters.
    described: bool,
}

impl Executor {
    /// The shard that a unit goes to.
    fn unit_shard(&self, unit: &Unit) -> ShardId {
        self.batch
            .open_on
            .or(unit.shard)
            .or_else(|| self.session.transaction.shard())
            .or_else(|| if unit.executes { self.keeper() } else { None })
            .or(unit.describe_shard)
            .unwrap_or_else(|| self.world.map.default_shard())
    }

    pub(super) async fn run_on_shard(
        &mut self,
        unit: &mut Unit,
        bytes: &[u8],
        sync: bool,
    ) -> Result<(), Failure> {
        if !(unit.copies && sync) {
            return self.run_unit_on_shard(unit, bytes, sync).await;
        }
        // While a shard takes COPY data it ignores Sync. The client sends another one behind the data.
        self.run_unit_on_shard(unit, bytes, false).await?;
        if self.responses.copied() {
            return Ok(());
        }
        let mut rest = self.empty_unit();
        Box::pin(self.run_unit_on_shard(&mut rest, &[], true)).await
    }

    async fn run_unit_on_shard(
        &mut self,
        unit: &mut Unit,
        bytes: &[u8],
        sync: bool,
    ) -> Result<(), Failure> {
        let ours = self.batch.ours || unit.error.is_some();
        let shard = self.unit_shard(unit);
        // Parsing and describing is no part of a transaction: the shard gets a Sync in any case, and what
        // follows may go elsewhere.
        let aside = !unit.executes && !self.batch.is_open();
        let hold =
            self.session.trace || ours || !sync || (aside && self.transaction_is_elsewhere());
        let mut course =
            Course { sync, aside, ours, hold, again: false, last: false, described: false };
        let mut parsed = None;
        let wrote = self.has_written() || unit.writes || self.batch.writes;
        let mut result = self.send_unit(unit, bytes, &course, &mut parsed).await;
        if let Ok(None) = result {
            course.last = true;
            result = Box::pin(self.send_unit(unit, bytes, &course, &mut parsed)).await;
        }
        if let (Ok(Some(at)), true) = (&result, self.responses.outdated()) {
            self.forget_unanswered(*at, parsed.as_deref().unwrap_or_default());
            let before = unit.ops.len();
            unit.ops = self.renew(*at, std::mem::take(&mut unit.ops));
            let told = before - unit.ops.len();
            unit.done.iter_mut().for_each(|(place, _)| *place = place.saturating_sub(told));
            course.again = true;
            course.described = !self.responses.descriptions().is_empty();
            result = Box::pin(self.send_unit(unit, bytes, &course, &mut parsed)).await;
        }
        match result {
            Ok(None) => {
                Err(SqlError::new(SqlState::INTERNAL_ERROR, "a unit was not sent again").into())
            }
            Ok(Some(at)) => {
                let noted = !unit.done.is_empty();
                if self.responses.failed() {
                    self.undo_skipped(unit, Some(self.responses.completed()));
                    self.portals.retain(|portal| !matches!(portal, Portal::Local { .. }));
                }
                self.note_parsed(at, parsed.as_deref().unwrap_or_default(), noted);
                self.note_types(&unit.described);
                self.finish_unit(at, unit, &course);
                Ok(())
            }
            Err(failure) => {
                let noted = !unit.done.is_empty();
                // It leaves nothing, and what comes next does not leave it.
                self.leaving = Pins::NONE;
                self.undo_skipped(unit, parsed.is_some().then(|| self.responses.completed()));
                self.forget_parsed(unit, parsed.as_deref(), noted);
                Err(match unit.effects.last() {
                    Some((_, end)) if sync => self.lost_at_end(failure, end, wrote, shard),
                    _ => failure,
                })
            }
        }
    }

    /// Sends what the unit asks of its shard and relays the answers; `None` if its connection was found dead
    /// and it can be sent again.
    async fn send_unit(
        &mut self,
        unit: &mut Unit,
        bytes: &[u8],
        course: &Course,
        parsed: &mut Option<ParsedList>,
    ) -> Result<Option<usize>, Failure> {
        let shard = self.unit_shard(unit);
        if self.writes_apart(shard, unit.writes || unit.taints) {
            Box::pin(self.begin_writing(shard)).await?;
        }
        let at = self.acquire(shard).await?;
        self.may_write(at, unit.writes || unit.taints)?;
        self.request.clear();
        self.responses.begin(course.hold);
        if !course.aside {
            self.open_transaction(at).await?;
        }
        *parsed = Some(self.assemble(at, unit, bytes));
        if course.described {
            self.responses.is_described();
        }
        if self.batch.older && !course.again && self.may_send_again(unit, course) {
            self.responses.spare_outdated();
        }
        if let Some(error) = &unit.error {
            let mut message = Vec::new();
            wire::backend::error(&mut message, error, Severity::Error);
            self.responses.inject(&message);
            observe::refused(error.code);
        }
        if !course.sync && !course.aside {
            wire::frontend::flush_into(&mut self.request);
        } else {
            if course.ours && !course.aside && !unit.block {
                self.roll_back();
            }
            wire::frontend::sync_into(&mut self.request);
            self.responses.expect(StepKind::Sync, false);
        }
        let repeat = if course.last { Repeat::Never } else { self.repeat_of_unit(unit, course) };
        Ok(self.attempt(at, repeat).await?.then_some(at))
    }

    /// On what evidence the unit may be sent again. What only parses and describes changes nothing.
    fn repeat_of_unit(&self, unit: &Unit, course: &Course) -> Repeat {
        if self.batch.is_open() || unit.copies || !unit.effects.is_empty() {
            Repeat::Never
        } else if course.aside {
            Repeat::Harmless
        } else {
            unit.repeat
        }
    }

    /// An error of the unit's first message leaves nothing behind, and the rest can be sent again.
    fn may_send_again(&self, unit: &Unit, course: &Course) -> bool {
        let untouched = match self.session.transaction {
            Transaction::Idle => course.sync || course.aside,
            Transaction::Pending(_) => course.aside,
            _ => false,
        };
        let of_ours = |op: &Op| {
            matches!(
                op,
                Op::Bind { which: Which::Text(_), .. } | Op::DescribeStatement(Which::Text(_))
            )
        };
        untouched && !course.ours && !self.batch.is_open() && !unit.ops.iter().any(of_ours)
    }

    /// The shard does not know that the implicit transaction has failed. (In the extended protocol: if it
    /// has failed there too, it skips this, and a Query would be skipped without an answer.)
    fn roll_back(&mut self) {
        let request = &mut self.request;
        wire::frontend::parse_into(request, b"", b"ROLLBACK", [].into_iter());
        wire::frontend::bind_text_into(request, b"", &[], crate::datum::Format::Text);
        wire::frontend::execute_into(request, b"", 0);
        for kind in [StepKind::Parse, StepKind::Bind, StepKind::Execute] {
            self.responses.expect(kind, true);
        }
    }

    /// What is only parsed and described is told nothing of the client's transaction: it has reached no shard,
    /// or failed by an error of ours, which its shard does not know of.
    fn transaction_is_elsewhere(&self) -> bool {
        matches!(self.session.transaction, Transaction::Pending(_) | Transaction::Failed { .. })
    }

    /// What the answers mean for the session.
    fn finish_unit(&mut self, at: usize, unit: &mut Unit, course: &Course) {
        let failed = self.responses.failed();
        let done = if failed { self.responses.commands() } else { u32::MAX };
        let (block, aborted, after) = (unit.block, unit.failed, unit.after.take());
        let effects = unit.effects.drain(..).filter(|(before, _)| *before < done);
        self.batch.effects.extend(effects.map(|(_, class)| class));
        self.batch.writes |= unit.writes;
        self.batch.taints |= unit.taints;
        self.batch.changes_schema |= unit.changes_schema;
        let pending = matches!(self.session.transaction, Transaction::Pending(_));
        let shard = self.held.get(at).map(|held| held.shard);
        if !course.sync && !course.aside {
            self.batch.open_on = shard;
            self.batch.block = Some(block);
            self.batch.failed = Some(aborted);
            self.batch.after = after;
            self.batch.skipping = failed || course.ours;
            self.batch.ours = course.ours && !failed;
            if let (true, Some(shard)) = (pending, shard) {
                self.session.transaction.settle(shard, b'T');
            }
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let failed = failed || course.ours || batch.skipping;
        if course.aside && self.transaction_is_elsewhere() {
            self.settle(at);
            if failed {
                self.session.transaction.fail();
            }
        } else {
            let effects: SmallVec<[&Class; 4]> = batch.effects.iter().collect();
            self.finish(at, batch.taints, batch.changes_schema, &effects, failed);
            if let Some(shard) = shard {
                self.session.transaction.note(shard, batch.writes, batch.taints);
            }
            if course.ours {
                self.session.transaction.fail();
            }
        }
        if !course.sync {
            self.batch.skipping = failed;
            self.batch.read = batch.read || unit.read;
            return;
        }
        if !self.session.transaction.is_open() {
            self.portals.clear();
        }
        if course.hold {
            if self.session.trace {
                self.trace_notice();
            }
            self.ready();
        }
    }

    /// What a shard said of statements' parameters: from now on they are read as what they are.
    fn note_types(&mut self, described: &[Vec<u8>]) {
        for (name, told) in described.iter().zip(self.responses.descriptions()) {
            if let Some(statement) = self.statements.get_mut(name)
                && let Ok(types) = wire::response::parameter_description(&told.parameters)
            {
                // What the client was told first is what it goes by.
                statement.shape = statement.shape.or(told.shape);
                if std::mem::take(&mut statement.untold) {
                    statement.oids.clone_from(&types);
                }
                statement.types = Some(types);
            }
        }
    }
}
