//! Prepared statements: a client's names, the texts behind them, and the names that shards know them by.
//!
//! They are virtual: a client's name leads to a text, the text to a name of ours, and a connection is told
//! it when it first needs it. PREPARE in SQL and Parse share one namespace, as in PostgreSQL.
//!
//! Main types: [`Statements`] (a client's), [`Known`] (one as connections know it), [`Registry`] (a
//! thread's names for texts). Invariants: no client ever sees or uses a name of ours; a text that is read
//! in another way, or under another schema, has another name. What is deliberately absent:
//! `pg_prepared_statements` is PostgreSQL's own and shows what the connection that answers knows, under our
//! names and for all clients: a view of the server's memory, which is what it is read for.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;

use super::kept::Kept;
use super::planner::Readied;
use super::{Executor, worker};
use crate::datum::{Format, Oid, oid};
use crate::error::{SqlError, SqlState};
use crate::plan::Plan;
use crate::session::responses::{Alias, OUR_NAMES};

/// Most named statements of a client: drivers that cache keep hundreds; ten thousand are a client that
/// never closes any.
const STATEMENTS_MAX: usize = 20_000;

/// Most bytes of text that a client's named statements may have together.
const STATEMENT_BYTES_MAX: usize = 64 << 20;

/// What a statement takes besides its text, about.
const STATEMENT_OVERHEAD_BYTES: usize = 512;

/// Stands for the type of a parameter that nobody has told and that can't be concluded either: nothing is
/// routed by its value.
pub(super) const UNRESOLVED: Oid = Oid::MAX;

/// A statement as connections know it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) name: Vec<u8>,
    pub(super) sql: Arc<[u8]>,
    pub(super) oids: Vec<Oid>,
    /// A connection has found it out of date: whoever prepared it up to then has another result in mind.
    /// 0 if it is not.
    outdated: AtomicU64,
}

impl Prepared {
    /// No connection has found it out of date.
    pub(super) fn is_current(&self) -> bool {
        self.outdated.load(Ordering::Relaxed) == 0
    }

    /// A connection that had it prepared then has found it out of date.
    pub(super) fn outdate(&self, since: u64) {
        self.outdated.fetch_max(since, Ordering::Relaxed);
    }
}

/// A client's statement as connections know it, and as errors shall name it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) prepared: Arc<Prepared>,
    pub(super) alias: Arc<Alias>,
    /// When the client prepared it, by the thread's count. What a connection has known for longer may be
    /// older than a change of the schema that the client came after.
    pub(super) since: u64,
}

impl Known {
    fn new(prepared: Arc<Prepared>, theirs: &[u8], since: u64) -> Self {
        let alias = Alias { ours: prepared.name.clone(), theirs: theirs.to_vec() };
        Self { prepared, alias: Arc::new(alias), since }
    }
}

/// A client's prepared statement.
#[derive(Clone)]
pub(super) struct ClientStatement {
    pub(super) sql: Arc<[u8]>,
    pub(super) oids: Vec<Oid>,
    pub(super) readied: Readied,
    /// World and reading it was analysed for.
    pub(super) world: u64,
    pub(super) reading: u64,
    /// The parameters' types as a shard described them, once it was asked.
    pub(super) types: Option<Vec<Oid>>,
    /// Stands for its columns as the client was told them, if it was.
    pub(super) shape: Option<u64>,
    /// The schema by which it is known to have them.
    pub(super) schema: u64,
    /// Made when it is first needed beyond its own unit.
    pub(super) known: Option<Known>,
    /// When it was prepared, by the thread's count.
    pub(super) since: u64,
    /// The proxy carries it out: no shard parses it.
    pub(super) local: bool,
    /// PREPARE named types, which no shard has told the OIDs of yet.
    pub(super) untold: bool,
    /// How many characters of the query string stood before it: PREPARE and what preceded that.
    pub(super) before: u32,
    /// It may be kept prepared, whatever the client does with it.
    pub(super) kept: Option<Arc<Kept>>,
}

impl ClientStatement {
    /// The statement itself, without what stands around it in the text.
    pub(super) fn text(&self) -> &str {
        let place = self.readied.start as usize..self.readied.end as usize;
        self.sql.get(place).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The type of parameter `n`, for reading this value. One without a type that stands in several places
    /// has the type that the first of them gives it, which need not be the key's.
    pub(super) fn param_type(&self, n: usize, format: Format, value: Option<&[u8]>) -> Oid {
        if let Some(oid) = self.types.as_ref().and_then(|types| types.get(n)) {
            return *oid;
        }
        let declared = self.oids.get(n).copied().unwrap_or(0);
        let repeated = n >= 64 || self.readied.repeated & (1 << n) != 0;
        let untold = matches!(declared, 0 | oid::UNKNOWN);
        let ambiguous = || format == Format::Binary || value.is_some_and(reads_otherwise);
        if untold && repeated && ambiguous() { UNRESOLVED } else { declared }
    }

    /// The schema has changed since the client was told its columns.
    #[inline]
    pub(super) fn is_unsure(&self, schema: u64) -> bool {
        self.schema != schema && self.shape.is_some()
    }

    /// How many parameters it has.
    pub(super) fn parameters(&self) -> usize {
        let told = self.types.as_ref().map(Vec::len);
        told.unwrap_or_else(|| self.oids.len().max(usize::from(self.readied.params)))
    }

    fn bytes(&self, name: &[u8]) -> usize {
        name.len() + self.sql.len() + STATEMENT_OVERHEAD_BYTES
    }
}

/// A text that another type of the key's kind reads as something else: `char(n)` without the blanks at
/// the end, numeric with a fraction.
fn reads_otherwise(text: &[u8]) -> bool {
    let fraction = || {
        let number = std::str::from_utf8(text).ok().map(str::trim);
        number.is_some_and(|t| t.parse::<i64>().is_err() && t.parse::<f64>().is_ok())
    };
    text.ends_with(b" ") || fraction()
}

/// A client's prepared statements, by its own names.
#[derive(Clone, Default)]
pub(super) struct Statements {
    /// Boxed, for most clients have none; the box stays when the statement goes.
    unnamed: Option<Box<Option<ClientStatement>>>,
    named: FxHashMap<Vec<u8>, ClientStatement>,
    /// What the named ones take.
    bytes: usize,
}

impl Statements {
    pub(super) fn get(&self, name: &[u8]) -> Option<&ClientStatement> {
        if name.is_empty() { self.unnamed.as_deref()?.as_ref() } else { self.named.get(name) }
    }

    pub(super) fn get_mut(&mut self, name: &[u8]) -> Option<&mut ClientStatement> {
        if name.is_empty() {
            self.unnamed.as_deref_mut()?.as_mut()
        } else {
            self.named.get_mut(name)
        }
    }

    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// Whether there is room for one more, which must not be there yet.
    ///
    /// # Errors
    ///
    /// 42P05, 42939 for names that are ours, 53400.
    pub(super) fn admit(&self, name: &[u8], sql: &[u8]) -> Result<(), SqlError> {
        if name.is_empty() {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(name);
        if self.named.contains_key(name) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{shown}\" already exists"),
            ));
        }
        if name.starts_with(OUR_NAMES) {
            return Err(SqlError::new(
                SqlState("42939"),
                format!("prepared statement name \"{shown}\" is reserved"),
            )
            .detail("Names that begin with \"pgmeridian_\" are the proxy's own on its shards."));
        }
        let full = if self.named.len() >= STATEMENTS_MAX {
            Some(format!("A session may have {STATEMENTS_MAX} of them."))
        } else if self.bytes + sql.len() > STATEMENT_BYTES_MAX {
            let mebibytes = STATEMENT_BYTES_MAX >> 20;
            Some(format!("The texts of a session's may take {mebibytes} MiB together."))
        } else {
            None
        };
        match full {
            None => Ok(()),
            Some(why) => Err(SqlError::new(
                SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                "too many prepared statements",
            )
            .detail(why)
            .hint("Close (DEALLOCATE) those that are no longer needed.")),
        }
    }

    pub(super) fn insert(&mut self, name: &[u8], statement: ClientStatement) {
        if name.is_empty() {
            **self.unnamed.get_or_insert_default() = Some(statement);
            return;
        }
        self.remove(name);
        self.bytes += statement.bytes(name);
        self.named.insert(name.to_vec(), statement);
    }

    /// Whether there was one.
    pub(super) fn remove(&mut self, name: &[u8]) -> bool {
        self.take(name).is_some()
    }

    /// Removes one.
    pub(super) fn take(&mut self, name: &[u8]) -> Option<ClientStatement> {
        if name.is_empty() {
            return self.unnamed.as_deref_mut().and_then(Option::take);
        }
        let statement = self.named.remove(name)?;
        self.bytes = self.bytes.saturating_sub(statement.bytes(name));
        Some(statement)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// DEALLOCATE ALL: the unnamed one stays.
    pub(super) fn clear_named(&mut self) {
        self.named = FxHashMap::default();
        self.bytes = 0;
    }

    /// The named ones are these again.
    pub(super) fn restore_named(&mut self, before: Self) {
        self.named = before.named;
        self.bytes = before.bytes;
    }
}

/// PostgreSQL's own words (`FetchPreparedStatement`, `exec_bind_message`).
pub(super) fn no_statement(name: &[u8]) -> SqlError {
    let message = if name.is_empty() {
        "unnamed prepared statement does not exist".to_owned()
    } else {
        format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(name))
    };
    SqlError::new(SqlState::INVALID_SQL_STATEMENT_NAME, message)
}

/// Texts with the same hash, with how they are read.
type Alike = SmallVec<[(u64, Arc<Prepared>); 1]>;

/// Texts that have a name of ours, per thread.
pub(super) struct Registry {
    /// By the hash of what tells them apart.
    known: FxHashMap<u64, Alike>,
    count: usize,
    bytes: usize,
    /// The world that the names were given in.
    world: u64,
    /// Counts what is prepared.
    clock: u64,
}

/// Most texts that keep their name; past it the table starts over, and texts get new names.
const REGISTERED_MAX: usize = 20_000;

/// The same in bytes of text.
const REGISTERED_BYTES_MAX: usize = 64 << 20;

impl Registry {
    pub(super) fn new() -> Self {
        Self { known: FxHashMap::default(), count: 0, bytes: 0, world: 0, clock: 0 }
    }

    /// The one name for a text with these parameter types, read in this way. When the schema has changed,
    /// a text gets a new name: a connection's statement by the old one may be of another shape.
    fn prepared(
        &mut self,
        world: u64,
        reading: u64,
        sql: &Arc<[u8]>,
        oids: &[Oid],
    ) -> Arc<Prepared> {
        if world > self.world && !crate::mapstore::is_private(world) {
            self.forget();
            self.world = world;
        }
        let mut hasher = FxHasher::default();
        (reading, &**sql, oids).hash(&mut hasher);
        let hash = hasher.finish();
        let alike = self.known.get(&hash).map(SmallVec::as_slice).unwrap_or_default();
        let same = |(own, one): &&(u64, Arc<Prepared>)| {
            *own == reading && one.sql == *sql && one.oids == oids
        };
        if let Some((_, known)) = alike.iter().find(same) {
            return Arc::clone(known);
        }
        if self.count >= REGISTERED_MAX || self.bytes + sql.len() > REGISTERED_BYTES_MAX {
            self.forget();
        }
        let prepared = Arc::new(Prepared::named(sql, oids));
        self.known.entry(hash).or_default().push((reading, Arc::clone(&prepared)));
        self.count += 1;
        self.bytes += sql.len();
        prepared
    }

    fn forget(&mut self) {
        self.known.clear();
        self.count = 0;
        self.bytes = 0;
    }

    /// A connection has refused a statement as out of date: its text gets a new name.
    pub(super) fn forget_text(&mut self, sql: &[u8]) {
        for alike in self.known.values_mut() {
            let before = alike.len();
            alike.retain(|(_, one)| *one.sql != *sql);
            self.count -= before - alike.len();
        }
    }

    /// Something is prepared now: later than all before.
    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

impl Prepared {
    fn named(sql: &Arc<[u8]>, oids: &[Oid]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Where other proxies' connections lead to the same server's (a pooler stands between), their names must
        // not be ours.
        static PROCESS: LazyLock<u32> = LazyLock::new(rand::random);
        let mut name = OUR_NAMES.to_vec();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        name.extend_from_slice(format!("{:010}{number}", *PROCESS).as_bytes());
        Self { name, sql: Arc::clone(sql), oids: oids.to_vec(), outdated: AtomicU64::new(0) }
    }
}

impl Executor {
    /// The name of ours for a text. On a connection with state of its own (a temporary table hides
    /// another) a text may mean something else: there it gets a name of its own.
    pub(super) fn name_text(
        &self,
        theirs: &[u8],
        sql: &Arc<[u8]>,
        oids: &[Oid],
        since: u64,
    ) -> Known {
        // Other bytes than ASCII are other letters to clients with other encodings.
        let own_letters = !self.reading.utf8 && !sql.is_ascii();
        let prepared = if own_letters || self.held.iter().any(|held| held.pinned) {
            Arc::new(Prepared::named(sql, oids))
        } else {
            let (world, reading) = (self.world.version, self.reading.id);
            worker::with_registry(|registry| registry.prepared(world, reading, sql, oids))
        };
        Known::new(prepared, theirs, since)
    }

    /// The statement, analysed for the world and the settings that hold now.
    pub(super) fn statement(&mut self, name: &[u8]) -> Result<&mut ClientStatement, SqlError> {
        let (world, reading) = (&self.world, &self.reading);
        let Some(statement) = self.statements.get_mut(name) else { return Err(no_statement(name)) };
        if statement.world != world.version || statement.reading != reading.id {
            statement.readied =
                worker::with_planner(|p| p.prepare(world, reading, &statement.sql))?;
            statement.world = world.version;
            statement.reading = reading.id;
        }
        Ok(statement)
    }

    /// A statement that was read just now.
    pub(super) fn client_statement(
        &self,
        sql: Arc<[u8]>,
        oids: Vec<Oid>,
        readied: Readied,
    ) -> ClientStatement {
        ClientStatement {
            sql,
            oids,
            readied,
            world: self.world.version,
            reading: self.reading.id,
            types: None,
            shape: None,
            schema: self.world.catalog.fingerprint,
            known: None,
            since: worker::with_registry(Registry::tick),
            local: false,
            untold: false,
            before: 0,
            kept: None,
        }
    }

    /// A client's statement as connections know it, in the words of its plan.
    pub(super) fn known_by(&mut self, name: &[u8], plan: &Plan) -> Result<Known, SqlError> {
        let Some(sql) = plan.rewritten.as_deref() else { return self.known(name) };
        let statement = self.told_statement(name)?;
        let (sql, since) = (sql.as_bytes().into(), statement.since);
        Ok(if plan.once {
            // Nobody will ask for it again.
            Known::new(Arc::new(Prepared::named(&sql, &statement.oids)), name, since)
        } else {
            self.name_text(name, &sql, &statement.oids, since)
        })
    }

    /// A client's statement whose parameters' types are known.
    fn told_statement(&self, name: &[u8]) -> Result<&ClientStatement, SqlError> {
        let Some(statement) = self.statements.get(name) else { return Err(no_statement(name)) };
        if !statement.untold {
            return Ok(statement);
        }
        Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "prepared statement \"{}\" cannot be used before its PREPARE is carried out",
                String::from_utf8_lossy(name)
            ),
        )
        .detail("PREPARE names types of parameters, which a shard has yet to tell.")
        .hint("Send a Sync between them."))
    }

    /// A client's statement as connections know it.
    pub(super) fn known(&mut self, name: &[u8]) -> Result<Known, SqlError> {
        let statement = self.told_statement(name)?;
        if let Some(known) = &statement.known {
            let outdated = known.prepared.outdated.load(Ordering::Relaxed);
            if outdated == 0 {
                return Ok(known.clone());
            }
            if statement.since <= outdated {
                return Err(SqlError::changed_result());
            }
        }
        let known = self.name_text(name, &statement.sql, &statement.oids, statement.since);
        if let Some(statement) = self.statements.get_mut(name) {
            statement.known = Some(known.clone());
        }
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_name_until_it_is_out_of_date() {
        let mut registry = Registry::new();
        let text = |sql: &str| -> Arc<[u8]> { sql.as_bytes().into() };
        let mut name = |world, reading, sql: &str, oids: &[Oid]| {
            registry.prepared(world, reading, &text(sql), oids).name.clone()
        };
        let one = name(1, 1, "SELECT 1", &[]);
        assert_eq!(one, name(1, 1, "SELECT 1", &[]));
        assert_ne!(one, name(1, 1, "SELECT 2", &[]));
        assert_ne!(one, name(1, 1, "SELECT 1", &[23]));
        assert_ne!(one, name(1, 2, "SELECT 1", &[]));
        assert_ne!(one, name(2, 1, "SELECT 1", &[]));
        let two = registry.prepared(2, 1, &text("SELECT 2"), &[]).name.clone();
        let three = registry.prepared(2, 1, &text("SELECT 3"), &[]).name.clone();
        registry.forget_text(b"SELECT 2");
        assert_ne!(two, registry.prepared(2, 1, &text("SELECT 2"), &[]).name);
        assert_eq!(three, registry.prepared(2, 1, &text("SELECT 3"), &[]).name);
    }
}
