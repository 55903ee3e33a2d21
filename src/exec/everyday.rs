//! The short way of the statements that are nearly all there are: by itself, outside a transaction, of a
//! client that holds nothing, for one shard, passed on as it is.
//!
//! It does what the long way does with them ([`Executor::run_one`], `extended`), and leaves out what is only
//! there for others. A statement that turns out to be none of these is taken from its beginning by the long
//! way: nothing of it was carried out by then.

use super::again::Repeat;
use super::pins::Pins;
use super::planner::Planned;
use super::statements::{ClientStatement, Known, Registry};
use super::{Executor, Failure, Gone, worker};
use crate::map::ShardId;
use crate::plan::{Answer, Plan, Route};
use crate::session::responses::StepKind;
use crate::session::transaction::Transaction;
use crate::sql::class::Class;
use crate::wire::frame::{self, Frame};
use crate::wire::frontend::{self, BindView, ExecuteView, ParseView, Target, tag};

/// It goes to one shard as it is, and leaves nothing that is to be followed.
fn is_plain(plan: &Plan) -> bool {
    plan.answer == Answer::Relay
        && matches!(plan.route, Route::One(_) | Route::Any | Route::Nowhere)
        && plan.rewritten.is_none()
        && plan.settings.is_none()
        && !plan.names_temporary
        && !plan.changes_schema
}

/// The messages of one statement: Parse of the unnamed one or of none, Bind, Describe or not, and Execute of the
/// unnamed portal, Sync.
struct Messages<'a> {
    parse: Option<ParseView<'a>>,
    bind: BindView<'a>,
    /// Where Bind begins, and where it ends.
    bind_start: usize,
    bind_end: usize,
    describes: bool,
}

impl<'a> Messages<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut at = 0;
        let mut next = || {
            let rest = bytes.get(at..)?;
            let frame = frame::next(rest, frame::STATEMENT_BYTES_MAX).ok().flatten()?;
            at += frame.raw.len();
            Some((frame, at))
        };
        let (mut message, mut end) = next()?;
        let mut bind_start = 0;
        let parse = match message.tag {
            tag::PARSE => {
                let parse = ParseView::parse(message.body).ok().filter(|p| p.name.is_empty())?;
                bind_start = end;
                (message, end) = next()?;
                Some(parse)
            }
            _ => None,
        };
        let bind = body(&message, tag::BIND).and_then(|body| BindView::parse(body).ok())?;
        let its_own = parse.is_none() || bind.statement.is_empty();
        if !(its_own && bind.portal.is_empty()) {
            return None;
        }
        let bind_end = end;
        let (mut message, _) = next()?;
        let describes = message.tag == tag::DESCRIBE;
        if describes {
            if !matches!(Target::describe(message.body), Ok(Target::Portal(b""))) {
                return None;
            }
            (message, _) = next()?;
        }
        let execute = body(&message, tag::EXECUTE).map(ExecuteView::parse)?.ok()?;
        let (last, end) = next()?;
        let whole = last.tag == tag::SYNC && end == bytes.len();
        (execute.portal.is_empty() && whole).then_some(Self {
            parse,
            bind,
            bind_start,
            bind_end,
            describes,
        })
    }
}

/// A unit that is one plain statement.
struct PlainUnit {
    plan: Plan,
    shard: ShardId,
    repeat: Repeat,
    /// How connections know the statement; `None`: the unit parses it.
    known: Option<Known>,
    /// What it parses is kept prepared.
    kept: Option<Known>,
    /// Where its Bind begins, and where it ends.
    bind_start: usize,
    bind_end: usize,
    describes: bool,
}

fn body<'a>(frame: &Frame<'a>, tag: u8) -> Option<&'a [u8]> {
    (frame.tag == tag).then_some(frame.body)
}

impl Executor {
    /// Nothing is open or held that a statement could be a part of.
    #[inline]
    fn is_at_rest(&self) -> bool {
        self.held.is_empty()
            && matches!(self.session.transaction, Transaction::Idle)
            && !self.batch.is_open()
            && !self.batch.is_skipping()
            && self.session.temporary.is_none()
            && !self.session.trace
            && self.piece.is_none()
            && self.keyed.is_none()
    }

    /// Carries out a simple query by the short way; false, and nothing was done, if it is not for it.
    pub(super) async fn run_plain(
        &mut self,
        planned: &Planned,
        query: &[u8],
    ) -> Result<bool, Failure> {
        let Some(plan) = planned.plan.as_ref().filter(|_| planned.entry.plain) else {
            return Ok(false);
        };
        if !(self.is_at_rest() && is_plain(plan)) {
            return Ok(false);
        }
        let shard = self.one_place(plan)?;
        self.note_route(plan);
        self.leaving = Pins::NONE;
        let mut repeat = self.repeat_of(&planned.entry, plan);
        let mut kept = self.kept_query(planned, query);
        loop {
            let at = self.acquire(shard).await?;
            self.may_write_alone(at, plan.writes || plan.taints)?;
            self.request.clear();
            self.responses.begin(false);
            kept = kept.filter(|known| self.request_kept_query(at, known, planned, query));
            if kept.is_none() {
                frontend::query_into(&mut self.request, query);
                self.responses.expect(StepKind::Query, false);
            }
            if !self.attempt(at, std::mem::take(&mut repeat)).await? {
                continue;
            }
            if let Some(known) = kept.take()
                && self.is_to_be_sent_as_it_came(at, &known)
            {
                self.settle(at);
                continue;
            }
            self.finish_plain(at, shard, plan);
            return Ok(true);
        }
    }

    /// The same for a unit of the extended protocol: `None` if it is not for the short way.
    pub(super) async fn run_plain_unit(&mut self, bytes: &[u8]) -> Option<Result<(), Gone>> {
        let mut unit = self.read_plain(bytes)?;
        let parses = unit.known.is_none();
        self.responses.begin(false);
        let outcome = self.relay_plain(&mut unit, bytes).await;
        let failed = outcome.is_err() || self.responses.failed();
        if parses && failed && self.responses.completed() == 0 {
            self.statements.remove(b"");
        }
        match outcome {
            Ok(true) => {
                self.batch.is_over();
                Some(Ok(()))
            }
            Ok(false) => {
                self.made.clear();
                None
            }
            Err(failure) => Some(self.fail_unit(failure, true)),
        }
    }

    async fn relay_plain(&mut self, unit: &mut PlainUnit, bytes: &[u8]) -> Result<bool, Failure> {
        let mut noted = false;
        loop {
            let at = self.acquire(unit.shard).await?;
            if !self.request_plain(at, unit, bytes) {
                self.settle(at);
                return Ok(false);
            }
            if !std::mem::replace(&mut noted, true) {
                self.note_route(&unit.plan);
            }
            self.may_write_alone(at, unit.plan.writes || unit.plan.taints)?;
            if !self.attempt(at, std::mem::take(&mut unit.repeat)).await? {
                continue;
            }
            if let Some(known) = unit.kept.take()
                && self.is_to_be_sent_as_it_came(at, &known)
            {
                self.settle(at);
                continue;
            }
            self.finish_plain(at, unit.shard, &unit.plan);
            return Ok(true);
        }
    }

    /// What these messages ask for, if they are such a unit.
    fn read_plain(&mut self, bytes: &[u8]) -> Option<PlainUnit> {
        let fresh = !self.stale && !self.session.schema_stale && self.world.catalog_known;
        if !(fresh && self.is_at_rest() && self.portals.is_empty()) {
            return None;
        }
        let messages = Messages::read(bytes)?;
        if messages.parse.as_ref().is_some_and(|parse| !self.parse_plain(parse)) {
            return None;
        }
        let name = messages.bind.statement;
        let schema = self.world.catalog.fingerprint;
        let own = self.statement(name).ok().filter(|own| !own.local && own.readied.entry.plain)?;
        if own.is_unsure(schema) {
            return None;
        }
        // Whatever is in the way is found there again, and dealt with.
        let (plan, made) = self.plan_bind(&messages.bind).ok()?;
        if !is_plain(&plan) {
            return None;
        }
        let repeat = self.repeat_of(&self.statements.get(name)?.readied.entry, &plan);
        let shard = self.one_place(&plan).ok()?;
        let (known, kept) = match messages.parse {
            Some(_) => (None, self.kept_unnamed()),
            None => (Some(self.known(name).ok()?), None),
        };
        self.made = made;
        self.leaving = Pins::NONE;
        let Messages { bind_start, bind_end, describes, .. } = messages;
        Some(PlainUnit { plan, shard, repeat, known, kept, bind_start, bind_end, describes })
    }

    /// The client's unnamed statement is this one now, if it is such a statement.
    fn parse_plain(&mut self, view: &ParseView<'_>) -> bool {
        let (world, reading) = (self.world.version, self.reading.id);
        // Drivers say the same again and again.
        if let Some(last) = self.statements.get_mut(b"")
            && *last.sql == *view.sql
            && view.oids().eq(last.oids.iter().copied())
            && (last.world, last.reading) == (world, reading)
            && !last.untold
        {
            (last.types, last.shape, last.known) = (None, None, None);
            last.since = worker::with_registry(Registry::tick);
            return last.readied.entry.plain;
        }
        let parsed = worker::with_planner(|p| p.parse(&self.world, &self.reading, view.sql));
        match parsed {
            Ok(parsed) if parsed.readied.entry.plain => {
                let oids = view.oids().collect();
                let statement = self.client_statement(parsed.sql, oids, parsed.readied);
                let statement = ClientStatement { kept: parsed.kept, ..statement };
                self.statements.insert(b"", statement);
                true
            }
            _ => false,
        }
    }

    /// The request for a connection; false if that does not know the statement yet, or for longer than the client
    /// has had it.
    fn request_plain(&mut self, at: usize, unit: &PlainUnit, bytes: &[u8]) -> bool {
        self.request.clear();
        self.responses.begin(false);
        let bind = bytes.get(unit.bind_start + frame::HEADER_BYTES..unit.bind_end);
        let behind = bytes.get(unit.bind_end..).unwrap_or_default();
        match (&unit.known, &unit.kept) {
            (None, None) => {
                self.request.extend_from_slice(bytes);
                self.responses.expect(StepKind::Parse, false);
                self.responses.expect(StepKind::Bind, false);
            }
            (None, Some(kept)) => {
                let Some(Ok(bind)) = bind.map(BindView::parse) else { return false };
                self.request_kept_bind(at, kept, &bind);
                self.request.extend_from_slice(behind);
            }
            (Some(known), _) => {
                let Some(held) = self.held.get_mut(at) else { return false };
                let name = &known.prepared.name;
                if held.lease.prepared.generation(name).is_none_or(|since| since < known.since) {
                    return false;
                }
                self.responses.known_as(&known.alias);
                let Some(Ok(bind)) = bind.map(BindView::parse) else { return false };
                frontend::bind_with_statement(&mut self.request, &bind, name);
                self.request.extend_from_slice(behind);
                self.responses.expect(StepKind::Bind, false);
            }
        }
        if unit.describes {
            self.responses.expect(StepKind::DescribePortal, false);
        }
        self.responses.expect(StepKind::Execute, false);
        self.responses.expect(StepKind::Sync, false);
        true
    }

    fn finish_plain(&mut self, at: usize, shard: ShardId, plan: &Plan) {
        let failed = self.responses.failed();
        let pinned = self.held.get(at).is_some_and(|held| held.pinned);
        if plan.taints || pinned || self.responses.status() != b'I' {
            let effects: &[&Class] = if failed { &[] } else { &[&Class::Query] };
            self.finish(at, plan.taints, false, effects, failed);
            self.session.transaction.note(shard, plan.writes, plan.taints);
            return;
        }
        if !self.made.is_empty() {
            self.learn_made(!failed);
        }
        self.settle(at);
    }
}
