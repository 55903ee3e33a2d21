//! Reads over several shards: asked all at once, their rows passed on as they come.

use std::future::poll_fn;
use std::ops::Range;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::again::FOUND_DEAD_MAX;
use super::answer::Asked;
use super::io::{ClientIo, with_read_buffer};
use super::merged::Wanted;
use super::relay::poll_gone;
use super::workspace::{Ask, without_position};
use super::{Backend, Executor, Failure, Gone, extended, timeouts};
use crate::datum::Oid;
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::merge::concat::{Concat, Fault, Piece};
use crate::plan::{Answer, Plan, Route};
use crate::wire::response::ServerError;
use crate::wire::{self, frame};

/// A Bind that goes to several shards, with what was asked of its portal.
pub(super) struct ScatterBind {
    pub(super) plan: Plan,
    pub(super) sql: Vec<u8>,
    pub(super) oids: Vec<Oid>,
    bind: BindBody,
    /// What the client is told before the rows.
    prefix: Vec<u8>,
    pub(super) described: bool,
    executed: bool,
    /// So many rows are asked for; 0 for all.
    pub(super) rows_max: u32,
}

/// The body of a Bind message.
pub(super) enum BindBody {
    /// The client's: where its message stands in the unit.
    Client(Range<usize>),
    /// Ours: EXECUTE's arguments are the parameters.
    Own(Vec<u8>),
}

impl ScatterBind {
    pub(super) fn body<'a>(&'a self, unit: &'a [u8]) -> &'a [u8] {
        match &self.bind {
            BindBody::Client(raw) => {
                unit.get(raw.start + wire::frame::HEADER_BYTES..raw.end).unwrap_or_default()
            }
            BindBody::Own(body) => body,
        }
    }

    pub(super) fn new(
        plan: Plan,
        sql: Vec<u8>,
        oids: Vec<Oid>,
        bind: BindBody,
        prefix: Vec<u8>,
    ) -> Self {
        Self { plan, sql, oids, bind, prefix, described: false, executed: false, rows_max: 0 }
    }

    pub(super) fn describe(&mut self) {
        self.described = true;
    }

    pub(super) fn execute(&mut self, rows_max: u32) {
        self.executed = true;
        self.rows_max = rows_max;
    }

    /// The columns and all rows are asked for, or no more of them than the client asks for if `limited`;
    /// whether the client wants to know the columns, and how many rows if any.
    pub(super) fn ask_all(&mut self, limited: bool) -> (bool, Option<u32>) {
        let asked = (self.described, self.executed.then_some(self.rows_max));
        (self.described, self.executed) = (true, true);
        if !limited || self.plan.answer.is_done_whole() {
            self.rows_max = 0;
        }
        asked
    }

    /// The portal's name.
    pub(super) fn portal<'a>(&'a self, unit: &'a [u8]) -> &'a [u8] {
        wire::frontend::BindView::parse(self.body(unit)).map_or(b"", |view| view.portal)
    }

    pub(super) fn is_executed(&self) -> bool {
        self.executed
    }

    /// What the shards are sent, where some may have a text of their own.
    pub(super) fn requests(&self, plan: &Plan, unit: &[u8], sql: &[u8]) -> Requests {
        Requests::of(plan, sql, |sql| self.request(unit, sql))
    }

    /// What each shard is sent. The columns are always asked for: they are compared.
    pub(super) fn request(&self, unit: &[u8], sql: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        wire::frontend::parse_into(&mut out, b"", sql, self.oids.iter().copied());
        let body = self.body(unit);
        if let Ok(mut view) = wire::frontend::BindView::parse(body) {
            // The client's portal is not the shards': it would stay there until their transaction ends.
            view.portal = b"";
            wire::frontend::bind_with_statement(&mut out, &view, b"");
        }
        wire::frontend::describe_portal_into(&mut out, b"");
        if self.executed {
            wire::frontend::execute_into(&mut out, b"", self.rows_max.cast_signed());
        }
        wire::frontend::sync_into(&mut out);
        out
    }
}

/// What shards are sent.
pub(super) struct Requests {
    all: Vec<u8>,
    apart: Vec<(ShardId, Vec<u8>)>,
}

impl Requests {
    /// The same for all.
    pub(super) fn alike(request: Vec<u8>) -> Self {
        Self { all: request, apart: Vec::new() }
    }

    /// A statement, for each shard as its plan says.
    pub(super) fn of(plan: &Plan, sql: &[u8], request: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        let apart = match &plan.answer {
            Answer::Stream(texts) => {
                texts.iter().map(|(shard, sql)| (*shard, request(sql.as_bytes()))).collect()
            }
            _ => Vec::new(),
        };
        Self { all: request(sql), apart }
    }

    fn to(&self, shard: ShardId) -> &[u8] {
        let apart = self.apart.iter().find(|(own, _)| *own == shard);
        apart.map_or(&self.all, |(_, request)| request)
    }
}

/// What came of a scattered statement.
pub(super) enum Trouble {
    Client,
    /// A shard's own error: the message's body.
    Server(Vec<u8>),
    Ours(SqlError),
    /// A shard's connection broke.
    Lost(ShardId),
    /// The columns are not those of the other shards, or not as expected.
    Differs,
    /// The shard sorts otherwise than the catalog says.
    Unsorted,
    /// More than `limits.merge_memory_max`.
    TooMuch,
    /// A row was half passed on.
    BrokenOff,
}

impl Trouble {
    /// A connection that was leased for the statement was lost.
    pub(super) fn is_of_dead(&self, asked: &[Asked]) -> bool {
        let fresh = |one: &Asked| one.held.fresh;
        match self {
            Self::Lost(shard) => asked.iter().any(|one| one.shard() == *shard && fresh(one)),
            Self::Server(body) => {
                ServerError::parse(body).is_ok_and(|error| error.is_farewell())
                    && asked.iter().all(fresh)
            }
            Self::Client
            | Self::Ours(_)
            | Self::Differs
            | Self::Unsorted
            | Self::TooMuch
            | Self::BrokenOff => false,
        }
    }
}

impl Executor {
    /// A simple Query over several shards.
    pub(super) async fn scatter_query(&mut self, plan: &Plan, text: &str) -> Result<(), Failure> {
        if plan.answer.is_everywhere() {
            self.query_everywhere(plan, text).await?;
            self.close_told();
            return Ok(());
        }
        if self.batch.is_open() {
            self.one_shard(plan)?;
        }
        self.refuse_beside_temporary(plan)?;
        self.allow_default_isolation(plan)?;
        let timed = self.at_one_time(plan, text).await?;
        let plan = timed.as_ref().unwrap_or(plan);
        let wanted = Wanted { sql: text.as_bytes(), described: true, ..Wanted::default() };
        if !self.read_gathered(plan, wanted).await? {
            let sql = plan.rewritten.as_deref().unwrap_or(text);
            let requests = Requests::of(plan, sql.as_bytes(), |sql| {
                let mut request = Vec::new();
                wire::frontend::query_into(&mut request, sql);
                request
            });
            self.scatter(plan, &requests, true, true).await?;
        }
        self.close_told();
        Ok(())
    }

    /// Runs a read whose rows are merged, or computed over scratch tables; false if it is neither.
    pub(super) async fn read_gathered(
        &mut self,
        plan: &Plan,
        wanted: Wanted<'_>,
    ) -> Result<bool, Failure> {
        match &plan.answer {
            Answer::Workspace(work) => {
                let Wanted { sql, oids, bind, described, rows_max, .. } = wanted;
                self.workspace(plan, &Ask { sql, oids, bind, described, rows_max, work }).await?;
            }
            Answer::Merge(merge) => self.merge(plan, merge, wanted).await?,
            Answer::Staged(staged) => Box::pin(self.staged(staged, plan, wanted)).await?,
            Answer::Relay | Answer::Stream(_) | Answer::Broadcast | Answer::InTurn => {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A unit of the extended protocol that is one statement over several shards.
    pub(super) async fn run_scatter_unit(
        &mut self,
        unit: &mut extended::Unit,
        mut scatter: ScatterBind,
        bytes: &[u8],
        sync: bool,
    ) -> Result<(), Failure> {
        self.io.outbox.extend_from_slice(&scatter.prefix);
        if let Some(error) = unit.error.take() {
            return Err(error.into());
        }
        let later = !scatter.executed && self.session.transaction.is_open();
        if scatter.rows_max > 0 || later && !scatter.plan.answer.is_done_whole() {
            self.spool_unit(&mut scatter, bytes).await?;
        } else {
            self.read_portal(&scatter, bytes).await?;
        }
        if sync && self.session.trace {
            self.trace_notice();
        }
        self.end_alone(unit, sync, scatter.plan.answer.is_done_whole());
        Ok(())
    }

    /// The end of a unit that is one statement, which the proxy has carried out, and whose portal can be run `once`.
    pub(super) fn end_alone(&mut self, unit: &mut extended::Unit, sync: bool, once: bool) {
        for op in unit.ops.drain(..) {
            if let extended::Op::Inject(own) = op {
                self.io.outbox.extend_from_slice(&own);
            }
        }
        if sync {
            self.batch.is_over();
            if self.session.transaction.is_open() {
                self.portals.give(once);
            } else {
                self.portals.clear();
            }
            self.ready();
        }
    }

    /// Asks all shards of the route and passes their rows on.
    pub(super) async fn scatter(
        &mut self,
        plan: &Plan,
        requests: &Requests,
        describe: bool,
        complete: bool,
    ) -> Result<(), Failure> {
        let shards = match &plan.answer {
            // Only described: one shard that has the tables can do that.
            Answer::Workspace(work) => vec![work.host],
            Answer::Merge(_) => self.shards_of(plan).into_iter().take(1).collect(),
            _ => self.shards_of(plan),
        };
        let mut last = plan.writes || plan.taints || self.session.transaction.is_open();
        loop {
            let began = Instant::now();
            let mut asked = self.take_all(&shards).await?;
            self.work_with(&asked);
            let mut concat = Concat::new(asked.len());
            match self.gather(&mut asked, requests, &mut concat, describe).await {
                Ok(()) => {
                    self.put_back(asked);
                    if complete {
                        self.complete(&format!("SELECT {}", concat.rows()));
                    }
                    return Ok(());
                }
                Err(Trouble::Client) => {
                    self.abandon_all(asked);
                    return Err(Failure::Gone(Gone::Client));
                }
                Err(trouble) => {
                    let dead = trouble.is_of_dead(&asked) && began.elapsed() < FOUND_DEAD_MAX;
                    let broken_off = concat.stuck().is_some();
                    let shards: Vec<ShardId> = asked.iter().map(Asked::shard).collect();
                    self.stop(asked).await;
                    if dead && !last && !concat.is_described() {
                        // Nothing of it was said to the client.
                        last = true;
                        self.weed(&shards);
                        continue;
                    }
                    return Err(self.failure(match trouble {
                        _ if broken_off => Trouble::BrokenOff,
                        // Its position may count in a text that the client does not know.
                        Trouble::Server(body) if !requests.apart.is_empty() => {
                            Trouble::Server(without_position(&body))
                        }
                        trouble => trouble,
                    }));
                }
            }
        }
    }

    /// The shards of a route. Always in the same order, so that two statements never wait for each other's
    /// connections.
    pub(super) fn shards_of(&self, plan: &Plan) -> Vec<ShardId> {
        match &plan.route {
            Route::Many(shards) => shards.iter().collect(),
            Route::All => (0..self.world.map.shards().len() as u16).map(ShardId).collect(),
            Route::One(shard) => vec![*shard],
            // Nothing is gathered from there.
            Route::Database(_) => Vec::new(),
            Route::Any | Route::Nowhere => vec![self.world.map.default_shard()],
        }
    }

    /// Connections to these shards, which the open transaction is told of.
    pub(super) async fn take_all(&mut self, shards: &[ShardId]) -> Result<Vec<Asked>, Failure> {
        if self.session.transaction.is_open() {
            self.may_read_on(shards)?;
        }
        for shard in shards {
            let taken = if self.session.transaction.is_open() {
                self.join(*shard).await
            } else {
                self.acquire(*shard).await.map_err(Failure::from)
            };
            if let Err(failure) = taken {
                self.settle_all();
                return Err(failure);
            }
        }
        let mut asked = Vec::with_capacity(shards.len());
        for shard in shards {
            if let Some(at) = self.held.iter().position(|held| held.shard == *shard) {
                asked.push(Asked::new(self.held.swap_remove(at), &self.world));
            }
        }
        Ok(asked)
    }

    /// A cancel request concerns these from now on.
    pub(super) fn work_with(&self, asked: &[Asked]) {
        let backend = |one: &Asked| Backend {
            shard: one.shard(),
            pid: one.held.lease.pid(),
            secret: one.held.lease.secret_word(),
        };
        self.cancel.working_all(asked.iter().map(backend).collect());
    }

    pub(super) async fn gather(
        &mut self,
        asked: &mut [Asked],
        requests: &Requests,
        concat: &mut Concat,
        describe: bool,
    ) -> Result<(), Trouble> {
        for one in asked.iter_mut() {
            if !one.ask(requests.to(one.shard())).await {
                return Err(Trouble::Lost(one.shard()));
            }
        }
        // What came of a shard before all columns were known.
        let mut early: Vec<Vec<u8>> = vec![Vec::new(); asked.len()];
        let mut head = Vec::new();
        for (n, one) in asked.iter_mut().enumerate() {
            while !concat.has_described(n) {
                let io = &mut self.io;
                let result =
                    poll_fn(|cx| match poll_head(cx, n, one, concat, &mut head, &mut early) {
                        Poll::Pending => poll_gone(cx, io).map(|()| Err(Cut::Client)),
                        answered @ Poll::Ready(_) => answered,
                    });
                let result = result.await;
                result.map_err(|fault| Self::trouble(fault, one.shard()))?;
            }
        }
        if describe && let (Some(body), Some(first)) = (concat.description(), asked.first()) {
            let body = first.in_the_clients_numbers(body);
            frame::append(&mut self.io.outbox, wire::backend::tag::ROW_DESCRIPTION, &body);
        }
        self.io.outbox.extend_from_slice(&head);
        self.finish_row(concat, asked).await?;
        for (n, bytes) in early.into_iter().enumerate() {
            self.feed_early(n, &bytes, concat, asked).await?;
        }
        let mut turn = 0;
        while !concat.all_done() {
            turn += 1;
            let (io, concat) = (&mut self.io, &mut *concat);
            let result = poll_fn(|cx| poll_rows(cx, turn, asked, concat, io)).await;
            if let Err((at, fault)) = result {
                let shard = asked.get(at).map_or(ShardId(0), Asked::shard);
                return Err(Self::trouble(fault, shard));
            }
            self.note_shard_times(asked, &|n| concat.is_done(n));
        }
        self.note_shard_times(asked, &|n| concat.is_done(n));
        Ok(())
    }

    /// With trace on: which shards are done by now.
    pub(super) fn note_shard_times(&mut self, asked: &[Asked], is_done: &dyn Fn(usize) -> bool) {
        if self.traced.is_none() {
            return;
        }
        for (n, one) in asked.iter().enumerate() {
            self.note_shard_time(one.shard(), is_done(n).then(Instant::now));
        }
    }

    /// With trace on: a shard was done then. The first word counts.
    pub(super) fn note_shard_time(&mut self, shard: ShardId, done: Option<Instant>) {
        let (Some(traced), Some(done)) = (&mut self.traced, done) else { return };
        if traced.shards.iter().all(|(known, _)| *known != shard) {
            traced.shards.push((shard, done.saturating_duration_since(traced.began)));
        }
    }

    /// Rows that came early. If the last one is only half there, the rest is read before another shard's.
    async fn feed_early(
        &mut self,
        n: usize,
        bytes: &[u8],
        concat: &mut Concat,
        asked: &mut [Asked],
    ) -> Result<(), Trouble> {
        let shard = asked.get(n).map_or(ShardId(0), Asked::shard);
        let mut pieces = Vec::new();
        let fed = concat.feed(n, bytes, &mut pieces);
        emit(&mut self.io.outbox, bytes, pieces);
        fed.map_err(|fault| Self::trouble(Cut::Fault(fault), shard))?;
        self.io.flush().await.map_err(|_| Trouble::Client)?;
        self.finish_row(concat, asked).await
    }

    /// Reads the rest of a row that is half passed on.
    async fn finish_row(
        &mut self,
        concat: &mut Concat,
        asked: &mut [Asked],
    ) -> Result<(), Trouble> {
        while let Some(n) = concat.stuck() {
            // No other one: what it sent before is yet to be fed.
            let Some(one) = asked.get_mut(n) else { return Ok(()) };
            let (shard, io) = (one.shard(), &mut self.io);
            let result = poll_fn(|cx| {
                if ready!(io.poll_flush(cx)).is_err() {
                    return Poll::Ready(Err(Cut::Client));
                }
                match poll_one(cx, n, one, concat, io) {
                    Poll::Pending => poll_gone(cx, io).map(|()| Err(Cut::Client)),
                    result @ Poll::Ready(_) => result,
                }
            })
            .await;
            result.map_err(|cut| Self::trouble(cut, shard))?;
        }
        Ok(())
    }

    pub(super) fn trouble(cut: Cut, shard: ShardId) -> Trouble {
        match cut {
            Cut::Client => Trouble::Client,
            Cut::Lost | Cut::Fault(Fault::Malformed) => Trouble::Lost(shard),
            Cut::Fault(Fault::Server(body)) => Trouble::Server(body),
            Cut::Fault(Fault::Differs) => Trouble::Differs,
            Cut::Fault(Fault::Unsorted) => Trouble::Unsorted,
        }
    }

    /// What the client is told of a trouble; a shard's own error goes as it is.
    pub(super) fn failure(&mut self, trouble: Trouble) -> Failure {
        self.session.transaction.fail();
        match trouble {
            Trouble::Client => Failure::Gone(Gone::Client),
            Trouble::BrokenOff => Failure::Gone(Gone::Protocol),
            Trouble::Server(body)
                if self.client.is_overdue()
                    && body.split(|byte| *byte == 0).any(|field| field == b"C57014") =>
            {
                timeouts::query_timeout(&self.worker.shared.config.limits).into()
            }
            Trouble::Server(body) => {
                match ServerError::parse(&body) {
                    Ok(error) => {
                        let error = self.in_its_string(&error).into_owned();
                        error.error_into(&mut self.io.outbox);
                    }
                    Err(_) => {
                        frame::append(&mut self.io.outbox, wire::backend::tag::ERROR, &body);
                    },
                }
                Failure::Shown
            }
            Trouble::Ours(error) => error.into(),
            Trouble::Lost(shard) => self.lost(shard).into(),
            Trouble::Differs => SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "the shards answer with different columns",
            )
            .detail("Names, types or type OIDs of the result's columns are not the same on every shard.")
            .hint("Compare the tables and user-defined types of the shards; cast the column to a built-in type.")
            .into(),
            Trouble::Unsorted => SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "the shards' rows can't be merged: a shard sorts them otherwise",
            )
            .detail("A shard's collation is another one than that of the shard that the schema was read from.")
            .hint("Compare the collations of the shards' databases and columns: pgmeridian check --live.")
            .into(),
            Trouble::TooMuch => {
                too_much(self.worker.shared.config.limits.merge_memory_max).into()
            }
        }
    }

    pub(super) fn lost(&self, shard: ShardId) -> SqlError {
        SqlError::new(
            SqlState::CONNECTION_FAILURE,
            format!("shard \"{}\" was lost while it worked", self.world.map.shard_name(shard)),
        )
    }
}

/// More of the shards' rows than may be kept.
pub(super) fn too_much(most: u64) -> SqlError {
    SqlError::new(
        SqlState::CONFIGURATION_LIMIT_EXCEEDED,
        format!("the statement needs more than {most} bytes of the shards' rows"),
    )
    .detail("Limit: merge_memory_max, section [limits].")
    .hint("Restrict the statement, or raise the limit.")
}

/// Why reading stopped.
pub(super) enum Cut {
    Client,
    Lost,
    Fault(Fault),
}

/// Reads one shard until it has described its columns. Rows beyond that are set aside (`early`), at most
/// one read's worth; of the shard that describes last they may go at once (`head`).
fn poll_head(
    cx: &mut Context<'_>,
    n: usize,
    one: &mut Asked,
    concat: &mut Concat,
    head: &mut Vec<u8>,
    early: &mut [Vec<u8>],
) -> Poll<Result<(), Cut>> {
    with_read_buffer(|buffer| {
        if !ready!(one.poll_read(cx, buffer)) {
            return Poll::Ready(Err(Cut::Lost));
        }
        let input = buffer.filled();
        let mut pieces = Vec::new();
        let fed = concat.feed(n, input, &mut pieces);
        emit(head, input, pieces);
        let taken = match fed {
            Ok(taken) => taken,
            Err(fault) => return Poll::Ready(Err(Cut::Fault(fault))),
        };
        let rest = input.get(taken..).unwrap_or_default();
        if let Some(early) = early.get_mut(n) {
            early.extend_from_slice(rest);
        }
        Poll::Ready(Ok(()))
    })
}

/// So many bytes of rows are put together before they are sent: a write costs more than a copy.
const CHUNK_BYTES: usize = 64 << 10;

/// From so many bytes on a write costs less.
const DIRECT_BYTES: usize = 16 << 10;

/// Passes on what the shards have; the client is served before more is read.
fn poll_rows(
    cx: &mut Context<'_>,
    turn: usize,
    asked: &mut [Asked],
    concat: &mut Concat,
    io: &mut ClientIo,
) -> Poll<Result<(), (usize, Cut)>> {
    if ready!(io.poll_flush(cx)).is_err() {
        return Poll::Ready(Err((0, Cut::Client)));
    }
    let count = asked.len();
    let mut any = false;
    for step in 0..count {
        let n = concat.stuck().unwrap_or((turn + step) % count);
        if concat.is_done(n) {
            continue;
        }
        let Some(one) = asked.get_mut(n) else { continue };
        match poll_one(cx, n, one, concat, io) {
            Poll::Ready(Ok(())) => any = true,
            Poll::Ready(Err(cut)) => return Poll::Ready(Err((n, cut))),
            Poll::Pending if concat.stuck().is_some() => break,
            Poll::Pending => {}
        }
        if any && io.outbox.len() >= CHUNK_BYTES {
            break;
        }
    }
    if any {
        return Poll::Ready(Ok(()));
    }
    poll_gone(cx, io).map(|()| Err((0, Cut::Client)))
}

fn poll_one(
    cx: &mut Context<'_>,
    n: usize,
    one: &mut Asked,
    concat: &mut Concat,
    io: &mut ClientIo,
) -> Poll<Result<(), Cut>> {
    with_read_buffer(|buffer| {
        if !ready!(one.poll_read(cx, buffer)) {
            return Poll::Ready(Err(Cut::Lost));
        }
        let input = buffer.filled();
        let mut pieces = Vec::new();
        let fed = concat.feed(n, input, &mut pieces);
        // What came before an error goes out before it: it may be the end of a row that has begun.
        match pieces.pop() {
            // What came is large: all but the rest of a row goes as it is.
            Some(Piece::Input(last)) if last.len() >= DIRECT_BYTES => {
                emit(&mut io.outbox, input, pieces);
                if io.pass_on(cx, input.get(last).unwrap_or_default()).is_err() {
                    return Poll::Ready(Err(Cut::Client));
                }
            }
            last => {
                pieces.extend(last);
                emit(&mut io.outbox, input, pieces);
            }
        }
        Poll::Ready(fed.map(|_| ()).map_err(Cut::Fault))
    })
}

fn emit(out: &mut Vec<u8>, input: &[u8], pieces: Vec<Piece>) {
    for piece in pieces {
        match piece {
            Piece::Input(range) => out.extend_from_slice(input.get(range).unwrap_or_default()),
            Piece::Bytes(bytes) => out.extend_from_slice(&bytes),
        }
    }
}
