//! The extended query protocol: Parse, Bind, Describe, Execute, Close up to Sync or Flush (a *unit*).
//!
//! A unit is first resolved, message by message, to a list of [`Op`]s and the one shard that they go to
//! ([`resolve`]); then a connection is taken, the request assembled (statements that this connection
//! has not seen are prepared on the way) and the answers relayed. Prepared statements are virtual: a
//! client's name leads to a text, the text to a name of ours, and a connection is told it when it first
//! needs it.

pub(super) mod assemble;
mod describe;
mod done;
mod execute;
mod portals;
mod resolve;

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use self::assemble::ParsedList;
use self::done::Done;
pub(super) use self::portals::Portals;
use super::again::Repeat;
use super::foregone::Constant;
use super::io::IDLE_BUFFER_BYTES;
use super::planner::Entry;
use super::scatter::ScatterBind;
use super::set_config::Settings;
use super::spool::Spool;
use super::statements::Known;
use super::{Executor, Failure, Gone, worker};
use crate::datum::Oid;
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::observe;
use crate::session::responses::StepKind;
use crate::session::settings::SessionSettings;
use crate::session::transaction::Transaction;
use crate::sql::class::Class;
use crate::wire;
use crate::wire::backend::Severity;

/// A client's portal.
pub(super) enum Portal {
    /// On a shard.
    Shard {
        /// COPY … FROM STDIN: its Execute waits for data.
        copies: bool,
        /// Which one, where the transaction is on several.
        shard: Option<ShardId>,
    },
    /// Ours.
    Local { entry: Arc<Entry>, text: String, has_run: bool },
    /// EXECUTE of a statement that there is not: its Execute says so.
    Missing(Vec<u8>),
    /// Over several shards, to be run by its Execute.
    Scatter,
    /// Over several shards, its rows read and kept.
    Spooled(Box<Spool>),
    /// Its answer is known without a shard.
    Constant(Constant),
    /// It sets the session's key.
    Settings(Box<Settings>),
}

impl Portal {
    /// Of a statement that the session carries out itself, or sees carried out.
    fn local(entry: Arc<Entry>, text: String) -> Self {
        Self::Local { entry, text, has_run: false }
    }

    /// The transaction goes on on other shards: a portal stays where it is.
    pub(super) fn bound_on(&mut self, first: ShardId) {
        if let Self::Shard { shard, .. } = self {
            shard.get_or_insert(first);
        }
    }
}

/// What a unit leaves open when it ends with Flush.
#[derive(Default)]
pub(super) struct Batch {
    /// An error was reported: everything up to Sync is skipped.
    skipping: bool,
    /// Something was bound or executed on this shard since the last Sync.
    open_on: Option<ShardId>,
    /// The error was ours and the shard does not know of it.
    ours: bool,
    /// In a transaction block, as far as the messages went.
    block: Option<bool>,
    /// In a failed one.
    failed: Option<bool>,
    /// The settings once the effects have come, if there are any.
    after: Option<Box<SessionSettings>>,
    /// A query was parsed since the last Sync: by then PostgreSQL has taken a snapshot.
    read: bool,
    writes: bool,
    taints: bool,
    changes_schema: bool,
    /// Statements that were carried out and concern the session.
    effects: Vec<Class>,
    /// The connection has known a statement of the unit for longer than the client.
    older: bool,
    /// Statements that the connection is to forget.
    outdated: Vec<Vec<u8>>,
    /// The unit's bytes, kept for their capacity.
    buffer: Vec<u8>,
}

impl Batch {
    /// Messages were sent that no Sync has followed yet.
    pub(super) fn is_open(&self) -> bool {
        self.open_on.is_some()
    }

    /// The shard that they went to.
    pub(super) fn open_on(&self) -> Option<ShardId> {
        self.open_on
    }

    /// Everything up to Sync is skipped.
    pub(super) fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// The transaction that its messages were part of has ended.
    pub(super) fn is_over(&mut self) {
        self.read = false;
    }

    /// Takes what it has done to the session.
    pub(super) fn take_effects(&mut self) -> Vec<Class> {
        std::mem::take(&mut self.effects)
    }
}

/// Which statement a message is about, as the connection knows it.
pub(super) enum Which {
    /// The unnamed one, parsed in this unit.
    Unnamed,
    /// A prepared one.
    Known(Known),
    /// A text of ours: the unnamed one is then this.
    Text(Text),
}

/// A text that differs from the client's by a name.
pub(super) struct Text {
    pub(super) sql: String,
    /// The parameters' types.
    pub(super) oids: Vec<Oid>,
    /// Error positions beyond the first are moved by the second.
    pub(super) shift: (u32, i64),
}

/// One thing to do for a unit.
pub(super) enum Op {
    /// Bytes of our own.
    Inject(Vec<u8>),
    /// The client's Parse of the unnamed statement, as it is.
    ParseUnnamed(Range<usize>),
    /// The client's Parse of a named statement.
    ParseNamed { client: Vec<u8>, known: Known },
    /// A statement that one of the next needs.
    Ensure(Known),
    /// The client's Bind.
    Bind { raw: Range<usize>, which: Which },
    /// The client's Describe of a statement.
    DescribeStatement(Which),
    /// A message that goes as it is.
    Raw(Range<usize>, StepKind),
    /// A statement of the client that the proxy watches over: only its Execute is answered.
    Run(String),
    /// A statement of ours behind it.
    RunBehind(String),
    /// PREPARE was carried out under this name of the client's: its parameters are asked for, and the name
    /// given back.
    Learn(Vec<u8>),
}

/// A unit, resolved.
#[derive(Default)]
pub(super) struct Unit {
    pub(super) ops: Vec<Op>,
    /// Where it must go.
    shard: Option<ShardId>,
    /// Where it may go if nothing else says.
    describe_shard: Option<ShardId>,
    /// Something is executed or bound, not only parsed and described.
    executes: bool,
    /// An Execute that waits for the client's data.
    copies: bool,
    /// The transaction is failed, as far as the messages were read.
    failed: bool,
    /// In a transaction block, as far as the messages were read.
    block: bool,
    /// A query is parsed.
    read: bool,
    /// The message that is read is the last one before Sync.
    last: bool,
    /// Executes so far.
    executions: u32,
    writes: bool,
    taints: bool,
    changes_schema: bool,
    /// On what evidence what is executed may be sent again.
    repeat: Repeat,
    /// The settings once the effects have come, if there are any.
    after: Option<Box<SessionSettings>>,
    /// What concerns the session, and how many Executes came before it.
    effects: Vec<(u32, Class)>,
    scatter: Option<Box<ScatterBind>>,
    /// To be said to all shards of the transaction; nothing for a shard comes before it.
    tell: Option<Box<(Class, String)>>,
    pub(super) unnamed_parsed: bool,
    /// What was done to the session already behind something that a shard has to answer, with the number of
    /// ops before it.
    done: Vec<(usize, Done)>,
    /// How many steps precede each of the ops, where something of that may have to be undone.
    steps: Vec<u32>,
    /// The client's names of the statements that are described, in order.
    described: Vec<Vec<u8>>,
    /// Where the messages begin that come when these have been answered.
    rest: Option<usize>,
    pub(super) error: Option<SqlError>,
}

impl Unit {
    /// Forgets everything but the room that it has.
    pub(super) fn clear(&mut self) {
        let mut ops = std::mem::take(&mut self.ops);
        ops.clear();
        *self = Self { ops, ..Self::default() };
    }

    pub(super) fn inject(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(Op::Inject(last)) = self.ops.last_mut() {
            write(last);
            return;
        }
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.ops.push(Op::Inject(bytes));
    }

    fn needs_shard(&self) -> bool {
        self.ops.iter().any(|op| !matches!(op, Op::Inject(_)))
    }
}

impl Executor {
    /// Carries out the extended messages in the first `length` bytes of the client's buffer; they end
    /// with Sync (`sync`) or Flush.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub async fn unit(&mut self, length: usize, sync: bool) -> Result<(), Gone> {
        let mut bytes = std::mem::take(&mut self.batch.buffer);
        bytes.clear();
        bytes.extend_from_slice(self.io.slice(0, length));
        self.io.consume(length);
        self.begin_unit();
        let plain = self.run_plain_unit(&bytes).await;
        let result = match plain {
            Some(result) => result,
            None => match self.run_unit(&bytes, sync).await {
                Ok(Some(rest)) => Box::pin(self.run_rest(&bytes, rest, sync)).await,
                other => other.map(|_| ()),
            },
        };
        if bytes.capacity() > IDLE_BUFFER_BYTES {
            bytes = Vec::new();
        }
        self.batch.buffer = bytes;
        result?;
        if sync {
            self.after_schema_change();
        }
        Ok(())
    }

    fn begin_unit(&mut self) {
        self.asked.clear();
        self.made.clear();
        self.bound.clear();
        self.note_start();
        if self.batch.open_on.is_none() {
            self.follow_world();
        }
    }

    /// Carries out what comes behind a part of a unit.
    async fn run_rest(&mut self, bytes: &[u8], mut rest: usize, sync: bool) -> Result<(), Gone> {
        while let Some(more) = self.run_unit(bytes.get(rest..).unwrap_or_default(), sync).await? {
            rest += more;
        }
        Ok(())
    }

    /// Carries out a unit of any kind, up to what must wait for the answers so far: where that begins.
    async fn run_unit(&mut self, bytes: &[u8], sync: bool) -> Result<Option<usize>, Gone> {
        let mut unit = self.empty_unit();
        if !self.batch.skipping {
            match self.read_if_stale(bytes).await {
                Ok(()) => self.resolve_unit(bytes, &mut unit).await?,
                Err(error) => unit.error = Some(error),
            }
        }
        let sync = sync && unit.rest.is_none();
        let result = if let Some(scatter) = unit.scatter.take() {
            Box::pin(self.run_scatter_unit(&mut unit, *scatter, bytes, sync)).await
        } else if let Some(tell) = unit.tell.take() {
            Box::pin(self.run_tell_unit(&mut unit, &tell.0, &tell.1, sync)).await
        } else if unit.needs_shard() || (sync && self.batch.open_on.is_some()) {
            self.run_on_shard(&mut unit, bytes, sync).await
        } else {
            self.run_locally(&mut unit, sync);
            Ok(())
        };
        if result.is_err() {
            self.undo_behind(&mut unit);
        }
        let rest = unit.rest.take();
        worker::put_back(unit);
        result.or_else(|failure| self.fail_unit(failure, sync))?;
        Ok(rest)
    }

    pub(super) fn fail_unit(&mut self, failure: Failure, sync: bool) -> Result<(), Gone> {
        match failure {
            Failure::Gone(gone) => return Err(gone),
            Failure::Error(error) => self.report(&error),
            Failure::Shown => {}
        }
        self.after_failure(sync);
        Ok(())
    }

    /// One of the thread's units, as the messages so far leave it.
    fn empty_unit(&self) -> Box<Unit> {
        let mut unit = worker::take_unit();
        unit.failed =
            self.batch.failed.unwrap_or_else(|| self.session.transaction.status() == b'E');
        unit.after.clone_from(&self.batch.after);
        unit.block = self.batch.block.unwrap_or_else(|| self.session.transaction.is_open());
        unit
    }

    async fn read_if_stale(&mut self, bytes: &[u8]) -> Result<(), SqlError> {
        if !self.world.catalog_known && self.unit_stands_on_schema(bytes) {
            Box::pin(self.refresh_world()).await?;
        }
        let own = self.session.schema_stale;
        if (self.stale || own) && self.unit_stands_on_schema(bytes) {
            if self.stale {
                self.read_stale().await?;
            }
            if self.is_behind(&Class::Query) && !self.batch.is_open() {
                Box::pin(self.read_own_schema()).await?;
            }
        }
        Ok(())
    }

    /// An error ended the unit early.
    fn after_failure(&mut self, sync: bool) {
        let open = self.batch.open_on;
        self.batch = Batch { skipping: !sync, ..Batch::default() };
        self.portals.retain(|portal| !matches!(portal, Portal::Scatter));
        if let Some(at) = self.held.iter().position(|held| Some(held.shard) == open) {
            // What came before in the pipeline must not stay.
            self.lose(at);
        }
        if sync {
            self.ready();
        }
    }

    /// A unit that is said to all shards of the transaction: what was parsed and bound before it, and
    /// closed after it, is ours.
    async fn run_tell_unit(
        &mut self,
        unit: &mut Unit,
        class: &Class,
        sql: &str,
        sync: bool,
    ) -> Result<(), Failure> {
        if let Some(Op::Inject(before)) = unit.ops.first_mut() {
            self.io.outbox.append(before);
        }
        self.tell_enlisted(class, sql).await?;
        self.run_locally(unit, sync);
        Ok(())
    }

    /// Nothing of it concerns a shard.
    fn run_locally(&mut self, unit: &mut Unit, sync: bool) {
        for op in &unit.ops {
            if let Op::Inject(bytes) = op {
                self.io.outbox.extend_from_slice(bytes);
            }
        }
        if self.batch.is_open() {
            self.batch.effects.extend(unit.effects.drain(..).map(|(_, class)| class));
        }
        if let Some(error) = &unit.error {
            self.report(error);
            self.batch.skipping = true;
            self.batch.ours |= self.batch.is_open();
        }
        if sync {
            self.batch.skipping = false;
            self.batch.read = false;
            if !self.session.transaction.is_open() {
                self.portals.clear();
            }
            self.ready();
        }
    }

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

    async fn run_on_shard(
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
        let at = self.acquire(self.unit_shard(unit)).await?;
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
}

impl Executor {
    /// What a shard said of statements' parameters: from now on they are read as what they are.
    fn note_types(&mut self, described: &[Vec<u8>]) {
        for (name, body) in described.iter().zip(self.responses.descriptions()) {
            if let Some(statement) = self.statements.get_mut(name)
                && let Ok(types) = wire::response::parameter_description(body)
            {
                if std::mem::take(&mut statement.untold) {
                    statement.oids.clone_from(&types);
                }
                statement.types = Some(types);
            }
        }
    }
}

/// How a unit is carried out.
struct Course {
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
