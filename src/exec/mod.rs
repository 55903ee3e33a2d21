//! Runs plans on backend connections: the part of a client's life between two of its messages.
//!
//! [`Executor`] belongs to one client and is driven by `frontend`'s loop: [`Executor::query`] for a
//! simple Query, [`Executor::unit`] for extended messages up to Sync or Flush. It owns the connections
//! that the client holds, and nothing else runs beside it: no channel, no lock, no second task on the
//! way of a routed statement. [`Worker`] is what the clients of one thread share.
//!
//! Invariants: a connection goes back to its pool only idle, clean and with known settings, else it is
//! closed; no statement that may have had an effect is sent twice; an error of ours inside a transaction
//! fails the transaction.

pub mod again;
mod answer;
mod cancel;
pub mod clients;
mod control;
mod copy_out;
mod cursors;
mod databases;
mod effects;
mod enlist;
mod everyday;
mod everywhere;
mod extended;
mod foregone;
mod function_call;
mod gathered;
mod io;
mod key_databases;
mod lend;
mod line;
mod local;
mod lookup;
mod merged;
mod moment;
mod newcomers;
mod parts;
pub mod pins;
pub mod planner;
mod prepare;
mod relay;
mod reply;
mod scatter;
mod schema;
mod set_config;
mod several;
mod simple;
mod spool;
mod staged;
mod statements;
mod strings;
mod temporary;
pub mod timeouts;
mod worker;
mod workspace;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{BackendError, Lease, Pool};
use crate::config::PoolMode;
use crate::datum::KeyValue;
use crate::error::{SqlError, SqlState};
use crate::lookup::{Answer, Id};
use crate::map::{ShardId, ShardMap};
use crate::mapstore::World;
use crate::observe;
use crate::plan::{Plan, Route};
use crate::session::Session;
use crate::session::responses::{Responses, Segment, StepKind};
use crate::session::transaction::Transaction;
use crate::wire;
use crate::wire::backend::Severity;

pub use cancel::{Backend, CancelKey, CancelSlot, Cancels};
pub use io::{ClientIo, ClientSocket};
pub use local::explain;
pub use worker::{Account, Shared, Worker, check_startup, reading, startup_value};

use again::Repeat;
use key_databases::{Keyed, is_visit};
use local::LastRoute;
use pins::{Pin, Pins};
use planner::{Planned, Reading};

/// Why a client's life ends before it says so.
#[derive(Debug)]
pub enum Gone {
    /// Its socket is closed or broken.
    Client,
    /// It broke the protocol; it has been told.
    Protocol,
}

/// What can go wrong with a statement.
#[derive(Debug)]
enum Failure {
    /// The client is told, and goes on.
    Error(SqlError),
    /// The client was told already (by the shard's own words), and goes on.
    Shown,
    /// The client is gone.
    Gone(Gone),
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self::Error(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(_: std::io::Error) -> Self {
        Self::Gone(Gone::Client)
    }
}

/// A connection that the client holds on to.
struct Held {
    shard: ShardId,
    lease: Lease,
    /// It carries state that only this client may see.
    pinned: bool,
    /// Why.
    pins: pins::Pins,
    /// What it is kept for may be over.
    doubtful: bool,
    /// It has no part in the client's transaction, and the settings that it was told for one statement.
    beside: bool,
    /// What its server remembers of sequences is this client's doing alone.
    swept: bool,
    /// It was leased for the statement that runs, which has had no answer on it yet.
    fresh: bool,
    /// What it is to be told of settings before the next statement.
    untold: Vec<String>,
    /// [`Store::freezes_version`](crate::mapstore::Store::freezes_version) when it was leased.
    freezes_version: u64,
}

/// What trace tells of a statement.
struct Traced {
    began: Instant,
    /// When each shard of a statement over several was done, since it began.
    shards: Vec<(ShardId, Duration)>,
}

impl Traced {
    fn new() -> Self {
        Self { began: Instant::now(), shards: Vec::new() }
    }
}

/// One client's executor.
pub struct Executor {
    worker: Arc<Worker>,
    /// The client's socket and buffers.
    pub io: ClientIo,
    /// What the client has told us.
    pub session: Session,
    world: Arc<World>,
    /// Its schema is no longer that of the shards: it is read again before something is planned by it.
    stale: bool,
    /// The store's word when it was last looked at.
    seen: u64,
    reading: Reading,
    responses: Responses,
    segments: Vec<Segment>,
    /// What is to be sent to a shard.
    request: Vec<u8>,
    held: Vec<Held>,
    pools: worker::ClientPools,
    planned: Vec<Planned>,
    cancel: CancelSlot,
    /// What operators see of it.
    pub client: clients::Client,
    last_route: LastRoute,
    statements: statements::Statements,
    portals: extended::Portals,
    cursors: cursors::Cursors,
    batch: extended::Batch,
    /// Parameters as the client was last told, and as it was told when it logged in.
    told: Arc<Vec<(String, String)>>,
    greeted: Arc<Vec<(String, String)>>,
    /// The parameters are as they were at the start, which the client has yet to be told.
    tell_again: bool,
    /// A connection was lost that carried state of this session.
    state_lost: bool,
    /// A query string is carried out piece by piece: its one `ReadyForQuery` comes at its end.
    piece: Option<strings::Piece>,
    /// What the server said of that.
    last_words: Option<Box<[u8]>>,
    /// What the statements that are about to run may leave on their connection.
    leaving: Pins,
    /// The text of a simple query, kept for its capacity.
    text: Vec<u8>,
    /// What was found out about ids for the statement that is planned, and is not to be remembered.
    asked: Vec<(Id, Answer)>,
    /// Ids that the statement that runs makes, with their keys.
    made: Vec<(Id, KeyValue<'static>)>,
    /// Those of the unnamed portal, which may never be executed.
    bound: Vec<(Id, KeyValue<'static>)>,
    /// Ids that an EXPLAIN (ROUTE) would like to know.
    wanted: Vec<Id>,
    /// With trace on: the times of the statement that runs.
    traced: Option<Box<Traced>>,
    /// The map has keys with a database each.
    keyed: Option<Box<Keyed>>,
}

impl Executor {
    /// A client that has logged in.
    pub fn new(
        worker: Arc<Worker>,
        io: ClientIo,
        session: Session,
        cancel: CancelSlot,
        client: clients::Client,
    ) -> Self {
        let world = worker.shared.store.current();
        let reading = worker::reading(&session, &world);
        let keyed = Keyed::new(&worker, &world.map);
        Self {
            worker,
            io,
            session,
            world,
            stale: false,
            seen: 0,
            reading,
            responses: Responses::default(),
            segments: Vec::new(),
            request: Vec::new(),
            held: Vec::new(),
            pools: worker::ClientPools::default(),
            planned: Vec::new(),
            cancel,
            client,
            last_route: LastRoute::default(),
            statements: statements::Statements::default(),
            portals: extended::Portals::default(),
            cursors: cursors::Cursors::default(),
            batch: extended::Batch::default(),
            told: Arc::default(),
            greeted: Arc::default(),
            tell_again: false,
            state_lost: false,
            piece: None,
            last_words: None,
            leaving: Pins::NONE,
            text: Vec::new(),
            asked: Vec::new(),
            made: Vec::new(),
            bound: Vec::new(),
            wanted: Vec::new(),
            traced: None,
            keyed,
        }
    }

    /// What all threads share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.worker.shared
    }

    /// The connection that carried state of this session (temporary tables, locks, settings that can't be
    /// said again) is lost: the session can't go on as if nothing had happened.
    pub fn lost_state(&self) -> Option<SqlError> {
        self.state_lost.then(|| {
            SqlError::new(
                SqlState::CONNECTION_FAILURE,
                "the session's state was lost with its shard's connection",
            )
            .detail("It carried temporary tables, locks or settings that can't be made again.")
            .hint("Connect again.")
        })
    }

    /// The client is told that its session can't go on: in the server's own words, if it left any.
    pub fn tell_farewell(&mut self, error: &SqlError) {
        match self.last_words.take().filter(|_| self.state_lost) {
            Some(body) => self.io.outbox.extend_from_slice(&pins::as_message(&body)),
            None => wire::backend::error(&mut self.io.outbox, error, Severity::Fatal),
        }
    }

    /// The client is waited for: what was grown for a large statement is given back.
    #[inline]
    pub fn rest(&mut self) {
        self.io.rest();
        if self.request.capacity() > io::IDLE_BUFFER_BYTES {
            self.request = Vec::new();
        }
    }

    /// The client is between statements, outside a transaction.
    pub fn is_idle(&self) -> bool {
        !self.session.transaction.is_open() && !self.batch.is_open()
    }

    /// Refuses the first `length` bytes of the client's buffer, a message that `ReadyForQuery` ends.
    pub fn refuse(&mut self, length: usize, error: &SqlError) {
        self.io.consume(length);
        if self.batch.is_skipping() {
            return;
        }
        if let Some(shard) = self.batch.open_on() {
            self.end_batch(shard, true);
        }
        self.report(error);
        self.ready();
    }

    /// Between transactions the newest world is taken; within one the map stays that it met its first shard
    /// with, and the schema is the newest.
    #[inline]
    fn follow_world(&mut self) {
        if self.worker.shared.store.has_news(self.seen) {
            self.take_news();
        }
        if self.keyed.is_some() {
            self.follow_key();
        }
    }

    #[cold]
    fn take_news(&mut self) {
        let store = &self.worker.shared.store;
        let seen = store.word();
        self.stale = store.is_stale();
        let current = store.current();
        if self.adopt(current) {
            self.seen = seen;
        }
        if self.keyed.is_none() {
            self.keyed = Keyed::new(&self.worker, &self.world.map);
        }
    }

    /// Goes on in this world, as far as it can; false if its map has to wait.
    fn adopt(&mut self, current: Arc<World>) -> bool {
        if matches!(self.session.transaction, Transaction::Idle | Transaction::Pending(_)) {
            if current.version != self.world.version {
                if current.map.shards_version() != self.world.map.shards_version() {
                    self.keep_connections(&current.map);
                }
                self.world = current;
                self.follow_settings();
            }
            return true;
        }
        let same_map = current.map.version() == self.world.map.version();
        if self.session.schema_changed {
            // It has made a schema of its own, which is read again as it sees it.
            self.session.schema_stale = true;
        } else if !Arc::ptr_eq(&self.world.catalog, &current.catalog) {
            self.world = if same_map {
                current
            } else {
                let catalog = Arc::clone(&current.catalog);
                Arc::new(World::private(&self.world, catalog))
            };
            self.follow_settings();
        }
        same_map
    }

    /// Connections that are held on to have other numbers in a new map. What is not where it was can't go on.
    fn keep_connections(&mut self, map: &ShardMap) {
        let old = Arc::clone(&self.world);
        let now = |shard: ShardId| {
            // A session that keeps something in a key's own database stays with that.
            if is_visit(shard) {
                return Some(shard);
            }
            let was = old.map.shard(shard)?;
            let at = map.shard_named(&was.name)?;
            map.shard(at).filter(|is| is.url == was.url).map(|_| at)
        };
        while let Some(at) = self.held.iter().position(|held| now(held.shard).is_none()) {
            self.lose(at);
        }
        for held in &mut self.held {
            if let Some(at) = now(held.shard) {
                held.shard = at;
            }
        }
        self.cursors.renumber(now);
        let temporary = self.session.temporary.take();
        self.session.temporary =
            temporary.and_then(|(shard, names)| now(shard).map(|shard| (shard, names)));
    }

    /// A statement that may write was planned with a map that is outdated meanwhile: a key may be frozen by
    /// now. On a connection that was there before, it may go on, for whoever freezes a key waits for those.
    fn may_write(&mut self, at: usize, writes: bool) -> Result<(), SqlError> {
        let planned = self.world.map.freezes_version();
        if !writes || self.worker.shared.store.freezes_version() == planned {
            return Ok(());
        }
        if self.held.get(at).is_some_and(|held| held.freezes_version <= planned) {
            return Ok(());
        }
        self.settle(at);
        Err(SqlError::new(
            SqlState::SERIALIZATION_FAILURE,
            "could not write because keys were frozen meanwhile",
        )
        .detail("The statement was planned before that, and has only now reached its shard.")
        .hint("The transaction might succeed if retried."))
    }

    fn note_start(&mut self) {
        self.last_route.begin();
        self.traced = self.session.trace.then(|| Box::new(Traced::new()));
    }

    /// Tells the client of an error of ours, and fails its transaction.
    fn report(&mut self, error: &SqlError) {
        observe::refused(error.code);
        self.last_route.note_refusal();
        self.session.transaction.fail();
        wire::backend::error(&mut self.io.outbox, error, Severity::Error);
    }

    /// Starts over for the next request. Within a string `ReadyForQuery` is kept back, and positions are
    /// the string's.
    fn begin_responses(&mut self, hold_ready: bool) {
        self.responses.begin(hold_ready || self.piece.is_some());
        if let Some(piece) = &self.piece {
            self.responses.shift_positions(0, piece.characters_before());
        }
    }

    fn ready(&mut self) {
        if self.piece.is_some() {
            return;
        }
        self.tell_greeted();
        let status = self.session.transaction.status();
        wire::backend::ready_for_query(&mut self.io.outbox, status);
    }

    fn complete(&mut self, tag: &str) {
        wire::backend::command_complete(&mut self.io.outbox, tag);
    }

    /// The one shard that a plan's route and the transaction lead to.
    fn one_shard(&mut self, plan: &Plan) -> Result<ShardId, SqlError> {
        if let Route::Database(database) = &plan.route {
            let route = Route::One(self.visit(database)?);
            return self.one_place(&Plan { route, ..plan.clone() });
        }
        self.one_place(plan)
    }

    /// The same, where the route is none to a key's own database.
    fn one_place(&self, plan: &Plan) -> Result<ShardId, SqlError> {
        let open = self.session.transaction.shard();
        let here = self.batch.open_on().or(open);
        let led;
        let plan = if plan.names_temporary {
            led = Plan { route: Route::One(self.beside_temporary(plan)?), ..plan.clone() };
            &led
        } else {
            plan
        };
        if self.session.transaction.is_several() && self.batch.open_on().is_none() {
            return self.one_of_several(plan);
        }
        match (&plan.route, here) {
            (Route::One(shard), None) => Ok(*shard),
            (Route::One(shard), Some(here)) if *shard == here => Ok(here),
            (Route::One(shard), Some(here)) => {
                if open.is_none() || self.batch.is_open() {
                    return Err(self.other_shard(*shard, here));
                }
                self.may_enlist(*shard, plan.writes || plan.taints)?;
                Ok(*shard)
            }
            (Route::Any | Route::Nowhere, Some(here)) => Ok(here),
            (Route::Any | Route::Nowhere, None) => {
                Ok(self.keeper().unwrap_or_else(|| self.world.map.default_shard()))
            }
            (Route::Database(_) | Route::Many(_) | Route::All, _) => Err(several_at_once()),
        }
    }

    /// The shard whose connection carries this session's state: what may go anywhere goes there.
    fn keeper(&self) -> Option<ShardId> {
        let pinned = || self.held.iter().find(|held| held.pinned);
        let temporary = self.session.temporary.as_ref().map(|(shard, _)| *shard);
        temporary.or_else(|| pinned().map(|held| held.shard))
    }

    fn other_shard(&self, wanted: ShardId, here: ShardId) -> SqlError {
        let name = |shard: ShardId| self.place_name(shard);
        SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "this statement belongs to shard \"{}\", the transaction is on shard \"{}\"",
                name(wanted),
                name(here)
            ),
        )
        .detail("A transaction stays on the shard of its first statement.")
        .hint("Commit first, or keep each transaction to the keys of one shard.")
    }

    /// What the server tells a client that logs in: taken from the default shard, or from another one
    /// while that is down.
    ///
    /// # Errors
    ///
    /// No shard can be reached, or the start-up settings are not accepted.
    pub async fn greeting(&mut self) -> Result<Vec<(String, String)>, SqlError> {
        let (settings, map) = (self.session.settings.committed().id(), self.world.map.version());
        if let Some(known) = self.worker.greeting(&self.session.user, settings, map) {
            self.told = Arc::clone(&known);
            self.greeted = known;
            return Ok(self.greeted.to_vec());
        }
        let home = self.world.map.default_shard();
        let mut outcome = self.greeting_of(home).await;
        for n in 0..self.world.map.shards().len() {
            let shard = ShardId(n as u16);
            if !matches!(&outcome, Err(e) if e.code == SqlState::CANNOT_CONNECT_NOW) {
                break;
            }
            if shard != home {
                outcome = self.greeting_of(shard).await;
            }
        }
        if outcome.is_ok() {
            self.worker.note_greeting(&self.session.user, settings, map, &self.greeted);
        }
        outcome
    }

    async fn greeting_of(&mut self, shard: ShardId) -> Result<Vec<(String, String)>, SqlError> {
        let at = self.acquire(shard).await?;
        let found = self.held.get(at).map(|held| held.lease.parameters().to_vec());
        self.settle(at);
        self.greeted = Arc::new(found.unwrap_or_default());
        self.told = Arc::clone(&self.greeted);
        Ok(self.greeted.to_vec())
    }

    /// Tells the client of parameters that are not as it believes.
    fn tell(&mut self, parameters: &[(String, String)]) {
        for (name, value) in parameters {
            let known = self.told.iter().position(|(own, _)| own == name);
            if known.is_some_and(|at| self.told.get(at).is_some_and(|(_, own)| own == value)) {
                continue;
            }
            wire::backend::parameter_status(&mut self.io.outbox, name, value);
            self.note_told(name, value);
        }
    }

    /// After DISCARD ALL.
    fn tell_greeted(&mut self) {
        if std::mem::take(&mut self.tell_again) {
            let greeted = Arc::clone(&self.greeted);
            self.tell(&greeted);
        }
    }

    /// The client has been told of a parameter.
    fn note_told(&mut self, name: &str, value: &str) {
        let told = Arc::make_mut(&mut self.told);
        match told.iter_mut().find(|(own, _)| own == name) {
            Some((_, own)) => value.clone_into(own),
            None => told.push((name.to_owned(), value.to_owned())),
        }
    }

    /// A connection to a shard: the one that is held, or one from the pool that has been told the
    /// session's settings. The index is into `held`.
    async fn acquire(&mut self, shard: ShardId) -> Result<usize, SqlError> {
        if let Some(at) = self.held.iter().position(|held| held.shard == shard) {
            if let Some(held) = self.held.get_mut(at) {
                held.fresh = false;
            }
            if let Err(error) = self.set_up(at).await {
                let error_of_ours = self.shard_error(shard, &error);
                if !matches!(error, BackendError::Statement(_)) {
                    self.lose(at);
                }
                return Err(error_of_ours);
            }
            if self.session.transaction.is_several() {
                self.work_on(&[shard]);
            }
            return Ok(at);
        }
        self.tell_greeted();
        let mut at = self.lease_one(shard).await?;
        if self.is_set_up(at) {
            return Ok(at);
        }
        let mut ready = self.set_up(at).await;
        if ready.as_ref().is_err_and(|error| self.is_dead_on_arrival(at, error)) {
            self.let_dead_go(at)?;
            at = Box::pin(self.lease_one(shard)).await?;
            ready = Box::pin(self.set_up(at)).await;
        }
        if let Err(error) = ready {
            let error = self.shard_error(shard, &error);
            self.lose(at);
            return Err(error);
        }
        Ok(at)
    }

    /// A connection that is not the client's yet: the index is the last.
    async fn lease_one(&mut self, shard: ShardId) -> Result<usize, SqlError> {
        let free = self.pool(shard)?.try_lease();
        let lease = match free {
            Some(lease) => lease,
            // Boxed, as everything here that is seldom done: a client must not be as large as that.
            None => Box::pin(self.lease(shard)).await?,
        };
        self.cancel.working(self.server_of(shard), lease.pid(), lease.secret_word());
        let mut held = Held::new(shard, lease);
        held.lease.shown_pid = Some(self.cancel.key().pid);
        held.freezes_version = self.worker.shared.store.freezes_version();
        if self.worker.shared.config.pool.mode == PoolMode::Session {
            held.pin(Pins::of(Pin::Session));
            // It was reset when the last client left.
            held.swept = true;
        }
        self.held.push(held);
        Ok(self.held.len() - 1)
    }

    /// There is nothing that [`Self::set_up`] would do.
    fn is_set_up(&self, at: usize) -> bool {
        let wanted = self.session.settings.outside().id();
        self.leaving.is_empty()
            && self.held.get(at).is_some_and(|held| held.lease.settings_id == wanted)
    }

    /// What a connection must be told before the client's statement.
    async fn set_up(&mut self, at: usize) -> Result<(), BackendError> {
        self.apply_settings(at).await?;
        self.sweep(at).await
    }

    /// Before a connection is kept for the first time: what other clients' INSERTs have drawn from sequences
    /// on it must not be this one's `currval`.
    async fn sweep(&mut self, at: usize) -> Result<(), BackendError> {
        if self.leaving.is_empty() || self.batch.is_open() {
            return Ok(());
        }
        let Some(held) = self.held.get_mut(at) else { return Ok(()) };
        if held.swept || held.pinned || held.lease.tx_status() == b'E' {
            return Ok(());
        }
        Box::pin(held.lease.simple_query("DISCARD SEQUENCES")).await?;
        held.swept = true;
        Ok(())
    }

    fn pool(&mut self, shard: ShardId) -> Result<&Pool, SqlError> {
        if let Some(keyed) = self.keyed.as_mut().filter(|_| is_visit(shard))
            && let Some(pool) = keyed.pool(&self.session.user, shard)
        {
            return pool;
        }
        self.pools.pool(&self.worker, &self.world, &self.session.user, shard)
    }

    /// A connection that has to be waited for or made.
    async fn lease(&mut self, shard: ShardId) -> Result<Lease, SqlError> {
        let mut outcome = self.turn(shard).await?;
        if let Err(error) = &outcome
            && is_visit(shard)
            && Box::pin(self.make_visited(shard, error)).await?
        {
            outcome = self.turn(shard).await?;
        }
        outcome.map_err(|error| self.shard_error(shard, &error))
    }

    async fn turn(&mut self, shard: ShardId) -> Result<Result<Lease, BackendError>, SqlError> {
        let user = &self.session.user;
        let visited = match self.keyed.as_mut().filter(|_| is_visit(shard)) {
            Some(keyed) => keyed.pool(user, shard),
            None => None,
        };
        let pool = match visited {
            Some(pool) => pool?,
            None => self.pools.pool(&self.worker, &self.world, user, shard)?,
        };
        match self.cancel.wait(&mut self.io, pool.lease()).await {
            Ok(leased) => Ok(leased),
            Err(impatience) => Err(self.impatient(impatience)),
        }
    }

    /// What the client is told when it no longer waits; nobody reads it if it is gone.
    fn impatient(&self, impatience: cancel::Impatience) -> SqlError {
        if self.client.is_overdue() && impatience == cancel::Impatience::Cancelled {
            return timeouts::query_timeout(&self.worker.shared.config.limits);
        }
        impatience.sql_error()
    }

    /// Tells a connection the session's settings, if it has others. Within a transaction it has been told.
    async fn apply_settings(&mut self, at: usize) -> Result<(), BackendError> {
        // What the transaction has set is told within it.
        let wanted = self.session.settings.outside();
        let Some(held) = self.held.get_mut(at) else { return Ok(()) };
        if held.lease.settings_id == wanted.id() || held.lease.tx_status() != b'I' {
            return Ok(());
        }
        Box::pin(held.lease.simple_query(&wanted.replay())).await?;
        held.lease.settings_id = wanted.id();
        self.take_notices(at);
        let Some(held) = self.held.get(at) else { return Ok(()) };
        if !self.told.is_empty() {
            let parameters = held.lease.parameters().to_vec();
            self.tell(&parameters);
        }
        Ok(())
    }

    fn shard_error(&self, shard: ShardId, error: &BackendError) -> SqlError {
        error.sql_error(&self.place_name(shard))
    }

    /// Lets go of a connection whose work is done; it stays if it is pinned or in a transaction.
    fn settle(&mut self, at: usize) {
        self.settle_after(at, None);
    }

    /// [`Self::settle`], where a cancel request may be on its way to the connection.
    fn settle_after(&mut self, at: usize, quiet: Option<cancel::Quiet>) {
        let Some(held) = self.held.get_mut(at) else { return };
        if held.lease.tx_status() != b'I' || self.batch.is_open() {
            return;
        }
        if !held.untold.is_empty() {
            held.lease.settings_id = pins::NOBODYS_SETTINGS;
            held.untold.clear();
        } else if !held.beside {
            held.lease.settings_id = self.session.settings.committed().id();
        }
        if held.pinned {
            return;
        }
        let lease = self.held.swap_remove(at).lease;
        match self.cancel.rest().or(quiet) {
            None => {
                lease.release();
            }
            Some(quiet) => {
                // It must not hit the next client.
                tokio::spawn(async move {
                    if quiet.wait().await {
                        lease.release();
                    }
                });
            }
        }
    }

    /// A connection broke, or its state is unknown: it is closed, and a transaction on it is lost.
    fn lose(&mut self, at: usize) {
        if at >= self.held.len() {
            return;
        }
        let held = self.held.swap_remove(at);
        self.state_lost |= held.pinned;
        self.cancel.rest();
        if held.beside {
            return;
        }
        let within = self.session.transaction.is_several() && held.lease.tx_status() != b'I';
        if within
            || self.session.transaction.shard() == Some(held.shard)
            || matches!(self.session.transaction, Transaction::Pending(_))
        {
            self.session.transaction.lose_shard();
        }
    }

    /// What BEGIN and what came after it must be said first? `None` when the connection is in the
    /// transaction already, or there is none.
    fn opening(&mut self) -> Option<String> {
        match &self.session.transaction {
            Transaction::Pending(pending) => Some(pending.sql()),
            _ => None,
        }
    }

    /// Puts BEGIN (with its prelude) in front of the request. A lone BEGIN is pipelined; anything more
    /// may fail, so that it takes a round trip of its own before the statement is sent.
    async fn open_transaction(&mut self, at: usize) -> Result<(), Failure> {
        if self.held.get(at).is_some_and(|held| !held.untold.is_empty()) {
            Box::pin(self.tell_settings(at)).await?;
        }
        if self.is_late(at) {
            return Box::pin(self.enlist(at)).await;
        }
        let Some(sql) = self.opening() else { return Ok(()) };
        let plain = matches!(&self.session.transaction, Transaction::Pending(p) if p.is_plain());
        if plain {
            wire::frontend::query_into(&mut self.request, sql.as_bytes());
            self.responses.expect(StepKind::Query, true);
            return Ok(());
        }
        Box::pin(self.open_alone(at)).await
    }

    /// Tells a connection of what was set since its last statement.
    async fn tell_settings(&mut self, at: usize) -> Result<(), Failure> {
        let Some(held) = self.held.get_mut(at) else { return Ok(()) };
        if self.batch.is_open() || held.lease.tx_status() == b'E' {
            return Ok(());
        }
        let shard = held.shard;
        let sql = std::mem::take(&mut held.untold).join("; ");
        match held.lease.simple_query(&sql).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = self.shard_error(shard, &error);
                self.lose(at);
                Err(error.into())
            }
        }
    }

    /// Sends BEGIN and its prelude in a round trip of its own.
    async fn open_alone(&mut self, at: usize) -> Result<(), Failure> {
        let Some(sql) = self.opening() else { return Ok(()) };
        let Some(shard) = self.held.get(at).map(|held| held.shard) else { return Ok(()) };
        let mut request = Vec::new();
        wire::frontend::query_into(&mut request, sql.as_bytes());
        let mut responses = Responses::default();
        responses.begin(true);
        responses.expect(StepKind::Query, true);
        std::mem::swap(&mut request, &mut self.request);
        std::mem::swap(&mut responses, &mut self.responses);
        let mut result = self.attempt(at, Repeat::Harmless).await;
        if let Ok(false) = result {
            wire::frontend::query_into(&mut self.request, sql.as_bytes());
            self.responses.begin(true);
            self.responses.expect(StepKind::Query, true);
            result = match self.acquire_in_place(shard, at).await {
                Ok(()) => self.exchange(at).await.map(|()| true),
                Err(error) => Err(error.into()),
            };
        }
        std::mem::swap(&mut request, &mut self.request);
        std::mem::swap(&mut responses, &mut self.responses);
        result?;
        if responses.failed() {
            // The client has been shown the shard's error.
            self.lose(at);
            return Err(Failure::Shown);
        }
        self.session.transaction.settle(shard, responses.status());
        Ok(())
    }
}

fn several_at_once() -> SqlError {
    SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "a statement over several shards must stand alone",
    )
    .detail("It is part of a transaction, a query string or a pipeline that belongs to one shard.")
    .hint("Send it by itself, outside a transaction block.")
}
