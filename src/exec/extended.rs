//! The extended query protocol: Parse, Bind, Describe, Execute, Close up to Sync or Flush (a *unit*).
//!
//! A unit is first resolved, message by message, to a list of [`Op`]s and the one shard that they go to
//! ([`resolve`]); then a connection is taken, the request assembled (statements that this connection
//! has not seen are prepared on the way) and the answers relayed. Prepared statements are virtual: a
//! client's name leads to a text, the text to a name of ours, and a connection is told it when it first
//! needs it.

mod assemble;
mod resolve;

use std::ops::Range;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::planner::{Entry, Readied};
use super::scatter::ScatterBind;
use super::{Executor, Failure, Gone, worker};
use crate::datum::{Format, Oid};
use crate::error::SqlError;
use crate::map::ShardId;
use crate::observe;
use crate::session::responses::StepKind;
use crate::session::settings::SessionSettings;
use crate::session::transaction::Transaction;
use crate::sql::class::Class;
use crate::wire;
use crate::wire::backend::Severity;

/// A statement as connections know it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) name: Vec<u8>,
    pub(super) sql: Vec<u8>,
    pub(super) oids: Vec<Oid>,
}

/// Stands for the type of a parameter that nobody has told and that can't be concluded either: nothing is
/// routed by its value.
const UNRESOLVED: Oid = Oid::MAX;

/// A client's prepared statement.
pub(super) struct ClientStatement {
    sql: Vec<u8>,
    oids: Vec<Oid>,
    readied: Readied,
    /// World and reading it was analysed for.
    world: u64,
    reading: u64,
    /// The parameters' types as a shard described them, once the client has asked.
    types: Vec<Oid>,
    /// Made when it is first needed beyond its own unit.
    prepared: Option<Arc<Prepared>>,
    /// The proxy carries it out: no shard parses it.
    local: bool,
}

/// A client's portal.
pub(super) enum Portal {
    /// On a shard.
    Shard,
    /// Ours.
    Local { entry: Arc<Entry>, text: String },
    /// Over several shards, to be run by its Execute.
    Scatter,
}

/// What a unit leaves open when it ends with Flush.
#[derive(Default)]
pub(super) struct Batch {
    /// An error was reported: everything up to Sync is skipped.
    skipping: bool,
    /// Messages went to this shard since the last Sync.
    open_on: Option<ShardId>,
    /// The error was ours and the shard does not know of it.
    ours: bool,
    /// The unit's bytes, kept for their capacity.
    buffer: Vec<u8>,
}

impl Batch {
    /// Messages were sent that no Sync has followed yet.
    pub(super) fn is_open(&self) -> bool {
        self.open_on.is_some()
    }
}

/// Which statement a message is about, as the connection knows it.
pub(super) enum Which {
    /// The unnamed one, parsed in this unit.
    Unnamed,
    /// A prepared one.
    Prepared(Arc<Prepared>),
}

/// One thing to do for a unit.
pub(super) enum Op {
    /// Bytes of our own.
    Inject(Vec<u8>),
    /// The client's Parse of the unnamed statement, as it is.
    ParseUnnamed(Range<usize>),
    /// The client's Parse of a named statement.
    ParseNamed { client: Vec<u8>, prepared: Arc<Prepared> },
    /// The client's Bind.
    Bind { raw: Range<usize>, which: Which },
    /// The client's Describe of a statement.
    DescribeStatement(Which),
    /// A message that goes as it is.
    Raw(Range<usize>, StepKind),
    /// A statement of the client that the proxy watches over: only its Execute is answered.
    Run(String),
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
    taints: bool,
    changes_schema: bool,
    effects: Vec<Class>,
    /// The settings once the effects have come, if there are any.
    after: Option<SessionSettings>,
    scatter: Option<ScatterBind>,
    unnamed_parsed: bool,
    /// The client's names of the statements that are described, in order.
    described: Vec<Vec<u8>>,
    pub(super) error: Option<SqlError>,
}

impl ClientStatement {
    /// The type of parameter `n`, for reading a value that came in this format.
    fn param_type(&self, n: usize, format: Format) -> Oid {
        if let Some(oid) = self.types.get(n) {
            return *oid;
        }
        let declared = self.oids.get(n).copied().unwrap_or(0);
        let repeated = n >= 64 || self.readied.repeated & (1 << n) != 0;
        if declared == 0 && format == Format::Binary && repeated { UNRESOLVED } else { declared }
    }
}

impl Unit {
    fn inject(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
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
        let result = self.run_unit(&bytes, sync).await;
        if bytes.capacity() > 64 * 1024 {
            bytes = Vec::new();
        }
        self.batch.buffer = bytes;
        result?;
        if sync {
            self.after_schema_change().await;
        }
        Ok(())
    }

    async fn run_unit(&mut self, bytes: &[u8], sync: bool) -> Result<(), Gone> {
        self.note_start();
        if self.batch.open_on.is_none() {
            self.follow_world();
        }
        let mut unit = Unit::default();
        if !self.batch.skipping {
            self.resolve_unit(bytes, &mut unit).await?;
        }
        let result = if let Some(scatter) = unit.scatter.take() {
            self.run_scatter_unit(unit, scatter, bytes, sync).await
        } else if unit.needs_shard() || (sync && self.batch.open_on.is_some()) {
            self.run_on_shard(unit, bytes, sync).await
        } else {
            self.run_locally(unit, sync);
            Ok(())
        };
        match result {
            Ok(()) => Ok(()),
            Err(Failure::Gone(gone)) => Err(gone),
            Err(Failure::Error(error)) => {
                self.report(&error);
                self.after_failure(sync);
                Ok(())
            }
            Err(Failure::Shown) => {
                self.after_failure(sync);
                Ok(())
            }
        }
    }

    /// An error of ours ended the unit early.
    fn after_failure(&mut self, sync: bool) {
        self.batch = Batch { skipping: !sync, buffer: Vec::new(), ..Batch::default() };
        if sync {
            self.ready();
        }
    }

    /// Nothing of it concerns a shard.
    fn run_locally(&mut self, unit: Unit, sync: bool) {
        for op in unit.ops {
            if let Op::Inject(bytes) = op {
                self.io.outbox.extend_from_slice(&bytes);
            }
        }
        if let Some(error) = unit.error {
            self.report(&error);
            self.batch.skipping = true;
        }
        if sync {
            self.batch.skipping = false;
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
            .or(unit.describe_shard)
            .unwrap_or_else(|| self.world.map.default_shard())
    }

    async fn run_on_shard(&mut self, unit: Unit, bytes: &[u8], sync: bool) -> Result<(), Failure> {
        let shard = self.unit_shard(&unit);
        let at = self.acquire(shard).await?;
        // Parsing alone does not bring a transaction to a shard.
        let aside = !unit.executes && matches!(self.session.transaction, Transaction::Pending(_));
        let explicit = self.session.transaction.is_open() && !aside;
        let hold = self.session.trace || aside || unit.error.is_some() || self.batch.ours;
        self.request.clear();
        self.responses.begin(hold);
        if !aside {
            self.open_transaction(at).await?;
        }
        let parsed = self.assemble(at, &unit.ops, bytes);
        let ours = self.batch.ours || unit.error.is_some();
        if let Some(error) = &unit.error {
            let mut message = Vec::new();
            wire::backend::error(&mut message, error, Severity::Error);
            self.responses.inject(&message);
            observe::refused(error.code);
        }
        if !sync {
            wire::frontend::flush_into(&mut self.request);
        } else if ours && !explicit {
            // The shard does not know that the implicit transaction has failed.
            wire::frontend::query_into(&mut self.request, b"ROLLBACK");
            self.responses.expect(StepKind::Abort, true);
        } else {
            wire::frontend::sync_into(&mut self.request);
            self.responses.expect(StepKind::Sync, false);
        }
        self.exchange(at).await?;
        self.note_parsed(at, &parsed);
        self.note_types(&unit.described);
        if !sync {
            self.batch.open_on = Some(shard);
            self.batch.skipping = self.responses.failed() || unit.error.is_some();
            self.batch.ours |= unit.error.is_some() && !self.responses.failed();
            self.pending_effects(at, &unit);
            return Ok(());
        }
        self.batch = Batch { buffer: Vec::new(), ..Batch::default() };
        if aside {
            if self.responses.failed() || ours {
                self.session.transaction.fail();
            }
            self.settle(at);
        } else {
            self.finish(at, unit.taints, unit.changes_schema, &unit.effects);
            if ours {
                self.session.transaction.fail();
            }
        }
        if !self.session.transaction.is_open() {
            self.portals.clear();
        }
        if hold {
            if self.session.trace {
                self.trace_notice();
            }
            self.ready();
        }
        Ok(())
    }

    /// What a shard said of statements' parameters: from now on they are read as what they are.
    fn note_types(&mut self, described: &[Vec<u8>]) {
        for (name, body) in described.iter().zip(self.responses.descriptions()) {
            if let Some(statement) = self.statements.get_mut(name)
                && let Ok(types) = wire::response::parameter_description(body)
            {
                statement.types = types;
            }
        }
    }

    /// Effects of statements whose Sync has not come yet.
    fn pending_effects(&mut self, at: usize, unit: &Unit) {
        if self.responses.failed() {
            return;
        }
        self.session.schema_changed |= unit.changes_schema;
        // A SET within an implicit transaction may still be undone by a later error: its connection
        // is kept from others.
        if let Some(held) = self.held.get_mut(at) {
            held.pinned |= unit.taints || !unit.effects.is_empty();
        }
        let opened = matches!(self.session.transaction, Transaction::Pending(_)) && unit.executes;
        if opened && let Some(held) = self.held.get(at) {
            self.session.transaction.settle(held.shard, b'T');
        }
        for class in &unit.effects {
            self.apply(class, at);
        }
        self.reading = worker::reading_if_changed(&self.session, &self.world, &self.reading);
    }
}

/// Texts that have a name of ours, per thread.
pub(super) struct Registry {
    known: FxHashMap<(Vec<u8>, Vec<Oid>), Arc<Prepared>>,
}

/// Most texts that keep their name; past it the table starts over, and texts get new names.
const REGISTERED_MAX: usize = 20_000;

impl Registry {
    pub(super) fn new() -> Self {
        Self { known: FxHashMap::default() }
    }

    /// The one name for a text with these parameter types.
    fn prepared(&mut self, sql: &[u8], oids: &[Oid]) -> Arc<Prepared> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let key = (sql.to_vec(), oids.to_vec());
        if let Some(known) = self.known.get(&key) {
            return Arc::clone(known);
        }
        if self.known.len() >= REGISTERED_MAX {
            self.known.clear();
        }
        let name = format!("pgmeridian_{}", NEXT.fetch_add(1, Ordering::Relaxed)).into_bytes();
        let prepared = Arc::new(Prepared { name, sql: sql.to_vec(), oids: oids.to_vec() });
        self.known.insert(key, Arc::clone(&prepared));
        prepared
    }
}
