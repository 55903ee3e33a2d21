//! Runs plans on backend connections: the part of a client's life between two of its messages.
//!
//! [`Executor`] belongs to one client and is driven by `frontend`'s loop: [`Executor::query`] for a
//! simple Query, [`Executor::unit`] for extended messages up to Sync or Flush. It owns the connections
//! that the client holds, and nothing else runs beside it: no channel, no lock, no second task on the
//! way of a routed statement. [`Worker`] is what the clients of one thread share.
//!
//! A statement's way: `simple` or `extended` reads it, `planner` plans it, `one_shard` says where it goes, `held`
//! has the connection, `begin` and `lend` say what that must hear first, `relay` passes the answer on, `effects`
//! draws the conclusions. Nearly all take `everyday`, the same in short, and the most frequent of those are `kept`
//! prepared. What is beside that way:
//!
//! | files | their concern |
//! |---|---|
//! | `strings`, `prepare`, `statements`, `function_call`, `set_config` | forms of requests: query strings, prepared statements, `PQfn` |
//! | `local`, `foregone` | answers that take no shard |
//! | `io`, `relay`, `reply`, `answer`, `line` | bytes: the client's, and shards' answers passed on, kept, followed, read one by one |
//! | `scatter`, `merged`, `gathered`, `workspace`, `parts`, `spool`, `copy_out` | reads over several shards |
//! | `staged` | rows of several shards that are put somewhere |
//! | `everywhere` | statements that every shard carries out |
//! | `control`, `begin`, `enlist`, `several`, `moment` | transactions, those over several shards too |
//! | `two_phase`, `recovery` | commits of what was written on several shards, and what is left of them |
//! | `held`, `pins`, `again`, `temporary`, `cursors` | connections, and what sessions leave on them |
//! | `world`, `schema`, `lookup`, `newcomers` | what is planned by: map, catalog, ids, keys without a home |
//! | `key_databases`, `databases` | keys that have a database each, databases that are routed by name |
//! | `cancel`, `timeouts`, `clients` | ends from outside, and who is there |
//! | `parameters` | what the client is told of its server |
//! | `worker` | what a thread's clients share |
//!
//! Invariants: a connection goes back to its pool only idle, clean and with known settings, else it is
//! closed; no statement that may have had an effect is sent twice; an error of ours inside a transaction
//! fails the transaction.

pub mod again;
mod answer;
mod begin;
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
mod held;
mod io;
mod kept;
mod key_databases;
mod lend;
mod line;
mod local;
mod lookup;
mod merged;
mod moment;
mod newcomers;
mod one_shard;
mod parameters;
mod parts;
pub mod pins;
pub mod planner;
mod prepare;
pub mod recovery;
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
mod two_phase;
mod worker;
mod workspace;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::datum::KeyValue;
use crate::error::{SqlError, SqlState};
use crate::lookup::{Answer, Id};
use crate::map::ShardId;
use crate::mapstore::World;
use crate::observe;
use crate::plan::Fresh;
use crate::session::Session;
use crate::session::responses::{Responses, Segment};
use crate::wire;
use crate::wire::backend::Severity;

pub use cancel::{Backend, CancelKey, CancelSlot, Cancels};
pub use gathered::query_within;
pub use io::{ClientIo, ClientSocket};
pub use local::explain;
pub use worker::{Account, Shared, Worker, check_startup, reading, startup_value};

use held::Held;
use key_databases::Keyed;
use local::LastRoute;
use pins::Pins;
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
    /// Keys that were made for what is being planned.
    fresh: Fresh,
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
            fresh: Fresh::default(),
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

    /// The end of a request whose answer `ReadyForQuery` ends: the client is told what has failed.
    fn end_request(&mut self, result: Result<(), Failure>) -> Result<(), Gone> {
        match result {
            Ok(()) => {}
            Err(Failure::Gone(gone)) => return Err(gone),
            Err(Failure::Error(error)) => {
                self.report(&error);
                self.ready();
            }
            Err(Failure::Shown) => self.ready(),
        }
        Ok(())
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
}
