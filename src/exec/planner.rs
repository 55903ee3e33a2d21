//! One thread's way from text to plan: scan, cached analysis, template, plan.
//!
//! The cache belongs to one [`World`] (a shard map and a catalog) and to one thread: no lock, and a new
//! world simply starts an empty one. Each store of the process has a cache of its own. Its key is the
//! statement's shape with what else changes its meaning (`search_path`, role, `standard_conforming_strings`).

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use quick_cache::Equivalent;
use quick_cache::unsync::Cache;
use smallvec::SmallVec;

use super::again::{self, Repeat};
use super::foregone;
use super::kept::{Kept, KeptQuery};
use super::pins::{self, Pins};
use super::two_phase;
use crate::error::{SqlError, SqlState};
use crate::mapstore::{World, is_private, realm};
use crate::observe::{self, METRICS};
use crate::plan::{Inputs, Plan, Route, Scope, Template};
use crate::sql::analyze::{self, Names};
use crate::sql::class::{self, Class};
use crate::sql::ir::Statement;
use crate::sql::lexer::{self, Limits, Literal, Scan, Scanned};
use crate::sql::point::Point;
use crate::sql::tokens::{TokenKind, tokenize};

/// Shapes that are remembered. An application has hundreds; tools that build texts with varying lists
/// have thousands. At about 4 kB each this bounds a thread's cache at some 40 MB.
const CACHED_SHAPES_MAX: usize = 10_000;

/// Longest shape that is remembered: bulk INSERTs are not worth their memory.
const CACHED_SHAPE_BYTES_MAX: usize = 16 * 1024;

/// Texts that are remembered whole: those of a driver that parses what it is about to execute. With
/// [`CACHED_TEXT_BYTES_MAX`] this bounds a thread's memory for them at some 8 MB.
const CACHED_TEXTS_MAX: usize = 2_000;

/// Longest text that is remembered whole.
const CACHED_TEXT_BYTES_MAX: usize = 4 * 1024;

/// Stores (databases that are routed by name) whose shapes are remembered beside the one in use.
const OTHERS_MAX: usize = 64;

/// A statement's shape, analysed and compiled for one world.
#[derive(Debug)]
pub struct Entry {
    /// Its class.
    pub class: Class,
    /// How it is routed; `None` for what the session answers.
    pub template: Option<Template>,
    /// The tables that it names and the catalog does not know.
    pub unknown_tables: Box<[Box<str>]>,
    /// It calls currval or lastval, which speak of the connection's own past.
    pub reads_sequence_state: bool,
    /// What it leaves on its connection, if it leaves anything.
    pub leaves: Pins,
    /// `SELECT` and one integer.
    pub constant: bool,
    /// On what evidence it may be sent again.
    pub repeats: Repeat,
    /// The database that it drops or changes, and whether that needs nobody else to be connected to it.
    pub ends_database: Option<(Box<str>, bool)>,
    /// It is a query that has nothing to do with the session or its connection.
    pub plain: bool,
    /// It reads one row by its primary key.
    pub point: bool,
    /// The same with literals, which parameters can stand for.
    pub kept: Option<KeptQuery>,
}

/// One statement of a query string, with its plan.
#[derive(Debug)]
pub struct Planned {
    /// Its place in the query string.
    pub start: u32,
    /// One past its last byte.
    pub end: u32,
    /// Its shape's entry.
    pub entry: Arc<Entry>,
    /// Where it goes; `None` for what the session itself answers.
    pub plan: Option<Plan>,
    /// Where its hint begins, or it does.
    pub from: u32,
    /// Where its literals are in its text, if [`Entry::kept`] has parameters for them.
    pub literals: SmallVec<[Literal; 2]>,
    /// Why it can't be planned as the session stands. (One that is alone is refused at once, unless it may
    /// change just that.)
    pub refused: Option<Box<SqlError>>,
}

/// What changes a text's meaning besides the text.
#[derive(Clone, Debug)]
pub struct Reading {
    /// `search_path`, `$user` verbatim.
    pub search_path: Arc<[String]>,
    /// The role.
    pub user: Arc<str>,
    /// `standard_conforming_strings`.
    pub standard_strings: bool,
    /// The client's encoding is UTF8.
    pub utf8: bool,
    /// Stands for the first three in the cache's key.
    pub id: u64,
    /// The settings it was made of.
    pub settings: u64,
    /// The world whose defaults it was made of.
    pub world: u64,
}

/// A shape, or a whole text, with how it is read.
struct Key {
    reading: u64,
    shape: Arc<[u8]>,
}

struct KeyRef<'a> {
    reading: u64,
    shape: &'a [u8],
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        KeyRef { reading: self.reading, shape: &self.shape }.hash(state);
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.reading);
        state.write(self.shape);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.reading == other.reading && self.shape == other.shape
    }
}

impl Eq for Key {}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.reading == key.reading && *self.shape == *key.shape
    }
}

type KeyCache<T> = Cache<Key, T, quick_cache::UnitWeighter, rustc_hash::FxBuildHasher>;

/// Scans and plans for the clients of one thread.
pub struct Planner {
    world: u64,
    cache: KeyCache<Arc<Entry>>,
    /// Texts of Parse messages that were read before.
    texts: KeyCache<Parsed>,
    /// The same of stores that are not the one that was planned for last.
    others: HashMap<u64, Caches>,
    scan: Scan,
    limits: Limits,
    unknown: bool,
}

impl Default for Planner {
    fn default() -> Self {
        Self {
            world: 0,
            cache: new_cache(CACHED_SHAPES_MAX),
            texts: new_cache(CACHED_TEXTS_MAX),
            others: HashMap::new(),
            scan: Scan::default(),
            limits: Limits::default(),
            unknown: false,
        }
    }
}

fn new_cache<T>(entries: usize) -> KeyCache<T> {
    Cache::with(
        entries,
        entries as u64,
        quick_cache::UnitWeighter,
        rustc_hash::FxBuildHasher,
        quick_cache::unsync::DefaultLifecycle::default(),
    )
}

/// How scopes (hint, session) are found for each statement of a string.
pub trait Scopes {
    /// The scope for a statement with this hint text.
    fn scope(&self, world: &World, hint: Option<&str>) -> Result<Scope<'_>, SqlError>;

    /// The session has a temporary table of this name.
    fn is_own(&self, table: &str) -> bool;
}

impl Planner {
    /// Plans every statement of a query string of the simple protocol.
    pub fn plan_simple(
        &mut self,
        world: &Arc<World>,
        reading: &Reading,
        text: &[u8],
        scopes: &dyn Scopes,
        out: &mut Vec<Planned>,
    ) -> Result<(), SqlError> {
        self.follow(world);
        self.unknown = false;
        let mut scan = std::mem::take(&mut self.scan);
        let result = lexer::scan(text, reading.standard_strings, &self.limits, &mut scan)
            .and_then(|()| self.plan_scanned(world, reading, text, &scan, scopes, out));
        self.scan = scan;
        result
    }

    fn plan_scanned(
        &mut self,
        world: &Arc<World>,
        reading: &Reading,
        text: &[u8],
        scan: &Scan,
        scopes: &dyn Scopes,
        out: &mut Vec<Planned>,
    ) -> Result<(), SqlError> {
        let mut behind = None;
        for scanned in &scan.statements {
            let (start, end) = (scanned.span.start, scanned.span.end);
            let statement = utf8(reading, text, start, end)?;
            let entry = self.entry(world, reading, statement, scan, scanned);
            self.unknown |= !entry.unknown_tables.iter().all(|name| scopes.is_own(name));
            let (mut plan, mut refused) = (None, None);
            if let Some(template) = &entry.template {
                let hint = hint_text(reading, text, scanned)?;
                let inputs = Inputs {
                    text: statement,
                    literals: literals(scan, scanned),
                    params: &[],
                    utf8: reading.utf8,
                    standard_strings: reading.standard_strings,
                };
                let scope = scopes.scope(world, hint);
                let found = scope.and_then(|scope| {
                    let fresh = scope.fresh.map(|fresh| fresh.at(start, behind));
                    template.plan(&world.map, &inputs, &Scope { fresh, ..scope })
                });
                let found = match &found {
                    _ if scanned.params == 0 || !has_no_parameters(&entry.class) => found,
                    // The shard that it goes to says so itself.
                    Ok(plan) if !plan.answer.is_gathered() => found,
                    _ => no_parameter(statement).map_or(found, Err),
                };
                // Alone it is placed in the string; of several the one that fails is.
                let place = scanned.hint.map_or(start, |hint| comment_start(text, hint.start));
                let place = if scan.statements.len() > 1 { place } else { 0 };
                let before = text.get(place as usize..start as usize).unwrap_or_default();
                match found.map_err(|error| moved(error, before)) {
                    Ok(found) => {
                        if let Route::One(shard) = found.route {
                            behind = behind.or(Some(shard));
                        }
                        plan = Some(found);
                    }
                    Err(error) if scan.statements.len() > 1 || settles(&entry.class) => {
                        refused = Some(Box::new(error));
                    }
                    Err(error) => return Err(error),
                }
            }
            let from = scanned.hint.map_or(start, |hint| comment_start(text, hint.start));
            let kept = entry.kept.as_ref().map_or(&[][..], |_| literals(scan, scanned));
            let literals = kept.into();
            out.push(Planned { start, end, entry, plan, from, literals, refused });
        }
        Ok(())
    }

    /// The last query string named a table that neither the catalog knows nor the session has made for itself.
    pub fn saw_unknown_table(&self) -> bool {
        self.unknown
    }

    /// Reads the one statement of a Parse message, which is returned to be kept. A text without literals
    /// is looked up as a whole first.
    pub fn parse(
        &mut self,
        world: &Arc<World>,
        reading: &Reading,
        text: &[u8],
    ) -> Result<Parsed, SqlError> {
        self.follow(world);
        let remembers = world.version == self.world && text.len() <= CACHED_TEXT_BYTES_MAX;
        let key = KeyRef { reading: reading.id, shape: text };
        if remembers && let Some(known) = self.texts.get(&key) {
            observe::add(&METRICS.analysis_hits, 1);
            return Ok(known.clone());
        }
        let readied = self.prepare(world, reading, text)?;
        let mut parsed = Parsed { sql: text.into(), readied, kept: None };
        let readied = &parsed.readied;
        if remembers && readied.literals.is_empty() && is_shape_alone(&readied.entry) {
            // A parameter in two places may be more than a value to compare with.
            if readied.entry.point && readied.entry.plain && readied.repeated == 0 {
                parsed.kept = Some(Arc::default());
            }
            let key = Key { reading: reading.id, shape: Arc::clone(&parsed.sql) };
            self.texts.insert(key, parsed.clone());
        }
        Ok(parsed)
    }

    /// Reads the one statement of a Parse message. The literals are copied out for later Binds.
    pub fn prepare(
        &mut self,
        world: &Arc<World>,
        reading: &Reading,
        text: &[u8],
    ) -> Result<Readied, SqlError> {
        self.follow(world);
        let mut scan = std::mem::take(&mut self.scan);
        let result = lexer::scan(text, reading.standard_strings, &self.limits, &mut scan)
            .and_then(|()| self.prepare_scanned(world, reading, text, &scan));
        self.scan = scan;
        result
    }

    fn prepare_scanned(
        &mut self,
        world: &Arc<World>,
        reading: &Reading,
        text: &[u8],
        scan: &Scan,
    ) -> Result<Readied, SqlError> {
        let [scanned] = scan.statements.as_slice() else {
            return Err(SqlError::new(
                SqlState::SYNTAX_ERROR,
                "cannot insert multiple commands into a prepared statement",
            ));
        };
        let (start, end) = (scanned.span.start, scanned.span.end);
        let statement = utf8(reading, text, start, end)?;
        let entry = self.entry(world, reading, statement, scan, scanned);
        Ok(Readied {
            start,
            end,
            entry,
            literals: literals(scan, scanned).into(),
            params: scanned.params,
            repeated: if scanned.params == 0 { 0 } else { repeated_params(statement) },
            hint: hint_text(reading, text, scanned)?.map(Into::into),
        })
    }

    /// The analysed shape of a statement, from the cache if it is there.
    fn entry(
        &mut self,
        world: &Arc<World>,
        reading: &Reading,
        statement: &str,
        scan: &Scan,
        scanned: &Scanned,
    ) -> Arc<Entry> {
        let shape = scan
            .shapes
            .get(scanned.shape.start as usize..scanned.shape.end as usize)
            .unwrap_or_default();
        let cached = world.version == self.world;
        if cached && let Some(entry) = self.cache.get(&KeyRef { reading: reading.id, shape }) {
            observe::add(&METRICS.analysis_hits, 1);
            return Arc::clone(entry);
        }
        observe::add(&METRICS.analysis_misses, 1);
        let entry = Arc::new(analyse(world, reading, statement, shape, literals(scan, scanned)));
        if cached && shape.len() <= CACHED_SHAPE_BYTES_MAX && is_shape_alone(&entry) {
            self.cache.insert(Key { reading: reading.id, shape: shape.into() }, Arc::clone(&entry));
        }
        entry
    }

    /// A newer world empties the cache. (A session that still finishes a transaction on an older one is
    /// planned without it.)
    fn follow(&mut self, world: &Arc<World>) {
        if world.version == self.world || is_private(world.version) {
            return;
        }
        if realm(world.version) != realm(self.world) {
            self.visit(realm(world.version));
        }
        if world.version > self.world {
            self.cache = new_cache(CACHED_SHAPES_MAX);
            self.texts = new_cache(CACHED_TEXTS_MAX);
            self.world = world.version;
        }
    }

    /// Goes on with the caches of another store.
    fn visit(&mut self, other: u64) {
        let mut caches = self.others.remove(&other).unwrap_or_else(Caches::new);
        if self.others.len() >= OTHERS_MAX {
            self.others.clear();
        }
        let left = realm(self.world);
        std::mem::swap(&mut self.world, &mut caches.world);
        std::mem::swap(&mut self.cache, &mut caches.shapes);
        std::mem::swap(&mut self.texts, &mut caches.texts);
        self.others.insert(left, caches);
    }
}

/// What is remembered for one store.
struct Caches {
    world: u64,
    shapes: KeyCache<Arc<Entry>>,
    texts: KeyCache<Parsed>,
}

impl Caches {
    fn new() -> Self {
        let (shapes, texts) = (new_cache(CACHED_SHAPES_MAX), new_cache(CACHED_TEXTS_MAX));
        Self { world: 0, shapes, texts }
    }
}

/// A Parse message's text, and what was read.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The text.
    pub sql: Arc<[u8]>,
    /// Its statement.
    pub readied: Readied,
    /// Where it reads one row by its primary key: it may be kept prepared.
    pub(super) kept: Option<Arc<Kept>>,
}

/// A statement that was read for the extended protocol.
#[derive(Clone, Debug)]
pub struct Readied {
    /// Its place in the Parse message's text.
    pub start: u32,
    /// One past its last byte.
    pub end: u32,
    /// Its shape's entry.
    pub entry: Arc<Entry>,
    /// Its literals.
    pub literals: Arc<[Literal]>,
    /// Highest `$n`; 0 for none.
    pub params: u16,
    /// Parameters that stand in more than one place, the first 64 as bits: what type the server gives
    /// them can't be told from one place alone.
    pub repeated: u64,
    /// Its hint.
    pub hint: Option<Box<str>>,
}

fn analyse(
    world: &World,
    reading: &Reading,
    text: &str,
    shape: &[u8],
    literals: &[Literal],
) -> Entry {
    let class = class::classify(text, reading.standard_strings);
    let names = Names { search_path: &reading.search_path, user: &reading.user };
    let statement = match &class {
        class if is_session_level(class) => None,
        // The session knows what it stands for.
        Class::Explain
            if class::execution_within(text, &class, reading.standard_strings).is_some() =>
        {
            None
        }
        class => Some(analyze::statement(text, literals, class, &world.catalog, &names)),
    };
    let template = statement.as_ref().map(|statement| {
        let template = Template::compile(statement, &class, &world.map);
        if two_phase::touches_decisions(&class, text, reading) {
            template.reserved(two_phase::not_theirs())
        } else {
            template
        }
    });
    let unknown_tables = statement.as_ref().map(unknown_tables).unwrap_or_default();
    // What is only defined is not called (a DEFAULT, a function's body).
    let defines = matches!(&class, Class::Definition { tag, from_query: false, .. } if tag.starts_with("CREATE"));
    let reads_sequence_state = !defines
        && shape.split(|c| !c.is_ascii_alphanumeric() && *c != b'_').any(|word| {
            word.eq_ignore_ascii_case(b"currval") || word.eq_ignore_ascii_case(b"lastval")
        });
    let leaves = pins::left_by(statement.as_ref(), &class, text);
    let constant = foregone::is_constant(shape);
    let repeats = again::repeats(statement.as_ref(), &class);
    let ends_database = match &statement {
        Some(Statement::Utility(utility)) if ENDS_DATABASE.contains(&utility.tag) => {
            let has = |word: &str| {
                shape
                    .split(|c| !c.is_ascii_alphanumeric())
                    .any(|w| w.eq_ignore_ascii_case(word.as_bytes()))
            };
            let alone = if utility.tag == "DROP DATABASE" { !has("force") } else { has("rename") };
            utility.database.as_deref().map(|name| (name.into(), alone))
        }
        _ => None,
    };
    let point = match &statement {
        Some(Statement::Query(analysis)) => Point::of(analysis, text),
        _ => None,
    };
    let plain = matches!(class, Class::Query)
        && template.is_some()
        && unknown_tables.is_empty()
        && !(reads_sequence_state || constant)
        && leaves.is_empty();
    Entry {
        class,
        template,
        unknown_tables,
        reads_sequence_state,
        leaves,
        constant,
        repeats,
        ends_database,
        plain,
        point: point.is_some(),
        kept: point.and_then(|point| point.by_parameters).map(KeptQuery::new),
    }
}

/// Commands that PostgreSQL refuses while others are connected to the database (some forms of the second).
const ENDS_DATABASE: [&str; 2] = ["DROP DATABASE", "ALTER DATABASE"];

fn unknown_tables(statement: &Statement) -> Box<[Box<str>]> {
    use crate::sql::ir::SourceKind;
    match statement {
        Statement::Query(analysis) => {
            let unknown = analysis.sources.iter().filter_map(|source| match &source.kind {
                SourceKind::Unknown(name) => Some(name.as_str().into()),
                _ => None,
            });
            unknown.collect()
        }
        Statement::Explain { inner, .. }
        | Statement::Declare { inner, .. }
        | Statement::CreateTemporary { inner } => unknown_tables(inner),
        Statement::Opaque(opaque) => {
            opaque.unknown_target.iter().map(|name| name.as_str().into()).collect()
        }
        Statement::Utility(_) => Box::default(),
    }
}

/// The class says all there is, and it says nothing of a literal's value.
fn is_shape_alone(entry: &Entry) -> bool {
    matches!(
        entry.class,
        Class::Query
            | Class::Explain
            | Class::Begin(_)
            | Class::Commit { .. }
            | Class::Rollback { .. }
            | Class::Empty
    )
}

/// What may change how the session stands.
fn settles(class: &Class) -> bool {
    matches!(class, Class::Set(_) | Class::Reset(_) | Class::Show(_) | Class::DiscardAll)
}

/// A Query message brings no parameters, and this is no place to declare any.
fn has_no_parameters(class: &Class) -> bool {
    matches!(class, Class::Query | Class::Explain | Class::Declare(_))
}

/// PostgreSQL's own words (`transformParamRef`).
fn no_parameter(statement: &str) -> Option<SqlError> {
    let tokens = tokenize(statement, None).ok()?;
    let first = tokens.iter().find(|token| token.kind == TokenKind::Param)?;
    let before = statement.get(..first.start as usize)?;
    let message = format!("there is no parameter {}", first.text(statement));
    Some(SqlError::new(SqlState("42P02"), message).position(characters(before.as_bytes()) + 1))
}

/// An error's position behind something else.
fn moved(error: SqlError, before: &[u8]) -> SqlError {
    let position = error.position.map(|position| position + characters(before));
    SqlError { position, ..error }
}

fn characters(bytes: &[u8]) -> u32 {
    String::from_utf8_lossy(bytes).chars().count() as u32
}

/// What the session answers or does by itself.
pub fn is_session_level(class: &Class) -> bool {
    matches!(
        class,
        Class::Empty
            | Class::ExplainRoute { .. }
            | Class::ExplainRouteWith(_)
            | Class::Begin(_)
            | Class::Commit { .. }
            | Class::Rollback { .. }
            | Class::Savepoint(_)
            | Class::Release(_)
            | Class::RollbackTo(_)
            | Class::Prepare { .. }
            | Class::Execute(_)
    )
}

fn literals<'a>(scan: &'a Scan, scanned: &Scanned) -> &'a [Literal] {
    scan.literals
        .get(scanned.literals.start as usize..scanned.literals.end as usize)
        .unwrap_or_default()
}

/// Which `$n` stand in more than one place. What looks like one in a string or a comment counts too:
/// that only makes more of them repeated.
fn repeated_params(statement: &str) -> u64 {
    let (mut seen, mut repeated) = (0_u64, 0_u64);
    for part in statement.split('$').skip(1) {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let number = part.get(..digits).and_then(|digits| digits.parse::<u32>().ok());
        let Some(bit) = number.and_then(|n| n.checked_sub(1)).and_then(|n| 1_u64.checked_shl(n))
        else {
            continue;
        };
        repeated |= seen & bit;
        seen |= bit;
    }
    repeated
}

/// A statement that is not what the client's encoding says it is, is refused as PostgreSQL refuses it; in
/// other encodings nothing else than ASCII can be read.
fn utf8<'a>(reading: &Reading, text: &'a [u8], start: u32, end: u32) -> Result<&'a str, SqlError> {
    let statement = text.get(start as usize..end as usize).unwrap_or_default();
    std::str::from_utf8(statement).map_err(|_| match check_utf8(text) {
        Err(error) if reading.utf8 => error,
        _ => SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "a statement whose text is not UTF-8 cannot be routed",
        )
        .detail("The statement is read as UTF-8 to find its tables and keys.")
        .hint("Set client_encoding to UTF8, or pass the text as a parameter."),
    })
}

/// What a client says in UTF8.
///
/// # Errors
///
/// 22021 as PostgreSQL says it (`report_invalid_encoding`).
pub(super) fn check_utf8(text: &[u8]) -> Result<(), SqlError> {
    let Err(error) = std::str::from_utf8(text) else { return Ok(()) };
    let wrong = text.get(error.valid_up_to()..).unwrap_or_default();
    // As many bytes as the first one announces (`pg_utf_mblen`).
    let length = match wrong.first() {
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf7) => 4,
        _ => 1,
    };
    let shown: Vec<String> =
        wrong.iter().take(length).map(|byte| format!("0x{byte:02x}")).collect();
    Err(SqlError::new(
        SqlState("22021"),
        format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
    ))
}

/// Where the comment begins that holds a hint.
fn comment_start(text: &[u8], hint: u32) -> u32 {
    let before = text.get(..hint as usize).unwrap_or_default();
    before.windows(2).rposition(|marks| marks == b"/*").unwrap_or(0) as u32
}

fn hint_text<'a>(
    reading: &Reading,
    text: &'a [u8],
    scanned: &Scanned,
) -> Result<Option<&'a str>, SqlError> {
    match scanned.hint {
        Some(span) => utf8(reading, text, span.start, span.end).map(Some),
        None => Ok(None),
    }
}
