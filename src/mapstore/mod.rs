//! Where the shard map and the catalog come from, and which ones are current.
//!
//! A [`World`] is one map with one catalog: what a statement is planned against. The [`Store`] holds the
//! current one; it is swapped in one store, and whoever has the old one finishes on it. Readers on the
//! hot path compare [`Store::version`] with the version they have.
//!
//! A map comes from a [`control::Source`]; [`Store::reload`] loads it again, whoever asks ([`Origin`]), and takes it
//! whole or not at all. What came of each attempt is in [`Store::history`]. Before it is taken the shards are
//! asked what it would leave behind (`stranded`); [`live`] is what an operator has them asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Mutex, Notify};

use crate::catalog::Catalog;
use crate::datum::KeyValue;
use crate::lookup::Known;
use crate::map::fault::Severity;
use crate::map::{Fault, KeyId, MapDiff, ShardMap};
use crate::observe::{self, METRICS};
use control::{Source, SourceError};
use numbers::Renumberings;
use waiting::Waiting;

mod asked;
pub mod control;
mod create;
mod files;
mod history;
pub mod live;
pub mod numbers;
mod read;
mod stranded;
mod waiting;
mod watch;

pub use asked::Asked;
pub use control::ControlStatus;
pub use create::create_database;
pub use files::Files;
pub use history::{Attempt, History, Origin, Outcome};
pub use read::{ReadError, read_catalog};
pub use stranded::{NotAsked, Stranded, Stray, stranded};
pub use waiting::WaitsWith;
pub use watch::FileWatch;

/// A shard map and the catalog that goes with it.
#[derive(Debug)]
pub struct World {
    /// Grows with every swap.
    pub version: u64,
    /// The map.
    pub map: Arc<ShardMap>,
    /// The schema, as the default shard has it.
    pub catalog: Arc<Catalog>,
    /// The schema was read from a shard: false while no shard could be asked yet.
    pub catalog_known: bool,
    /// What is known of ids that lead to keys.
    pub lookups: Arc<Known>,
    /// What the shards number otherwise than the default shard.
    pub numbers: Arc<Renumberings>,
}

/// Set in the version of a world that is one client's own.
const PRIVATE: u64 = 1 << 63;

/// Where a store's number stands in the versions of its worlds: a process does not live to see as many
/// swaps as fit below.
const REALM_SHIFT: u32 = 40;

/// The number of the store that a shared world of this version belongs to.
pub fn realm(version: u64) -> u64 {
    version >> REALM_SHIFT
}

/// Whether a world of this version is one client's own: what is shared by clients does not follow it.
pub fn is_private(version: u64) -> bool {
    version & PRIVATE != 0
}

impl World {
    /// A world of a client's own: the schema as its transaction has made it.
    pub fn private(shared: &Self, catalog: Arc<Catalog>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(PRIVATE);
        let version = NEXT.fetch_add(1, Ordering::Relaxed);
        let (map, lookups) = (Arc::clone(&shared.map), Arc::clone(&shared.lookups));
        let numbers = Arc::clone(&shared.numbers);
        Self { version, map, catalog, catalog_known: true, lookups, numbers }
    }
}

/// The current world.
#[derive(Debug)]
pub struct Store {
    current: ArcSwap<World>,
    /// The current world's version, and [`STALE`].
    version: AtomicU64,
    freezes_version: AtomicU64,
    waiting: Waiting,
    /// Changes of the schema that were made through this proxy.
    changes: AtomicU64,
    reading: Mutex<Reading>,
    control: ArcSwapOption<ControlStatus>,
    control_changed: Notify,
    /// One reload at a time.
    reloading: Mutex<()>,
    source: ArcSwapOption<Source>,
    description: ArcSwap<Description>,
    history: History,
    asked: Asked,
}

/// Why a map was not swapped in.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The schema can't be read from its default shard.
    #[error("the schema can't be read from the default shard: {0}")]
    Schema(#[from] ReadError),
    /// It would not find rows that are there.
    #[error("rows would be left behind: {}", sentences(.0))]
    Stranded(Vec<Stranded>),
    /// It can't be told whether it would.
    #[error("{0}")]
    NotAsked(#[from] NotAsked),
}

/// So many tables are told of in a sentence; `diff --live` tells of all.
const STRANDED_TOLD_MAX: usize = 3;

fn sentences(stranded: &[Stranded]) -> String {
    let told = stranded.iter().take(STRANDED_TOLD_MAX).map(ToString::to_string);
    let told = told.collect::<Vec<_>>().join("; ");
    match stranded.len().saturating_sub(STRANDED_TOLD_MAX) {
        0 => told,
        more => format!("{told}; and so have {more} more tables"),
    }
}

/// What is known of the current map besides what it says.
#[derive(Clone, Debug)]
pub struct Description {
    /// When it was taken.
    pub loaded: SystemTime,
    /// SHA-256 of its file, where it has one.
    pub checksum: Option<String>,
}

/// What a reload did.
#[derive(Debug)]
pub struct Reloaded {
    /// The version of the map that is used now.
    pub version: u64,
    /// What has changed.
    pub changes: MapDiff,
    /// The file is the one that is used already.
    pub unchanged: bool,
    /// What is legal in it, but probably not meant.
    pub warnings: Vec<Fault>,
    /// Why it may not be what is wanted: the control tables can't be read, and what was read of them last is used.
    pub problem: Option<String>,
}

/// Why a reload did nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The map does not come from a file.
    #[error("the map was not read from a file")]
    NoFile,
    /// There is no map.
    #[error(transparent)]
    Load(#[from] SourceError),
    /// The map can't be used.
    #[error(transparent)]
    Swap(#[from] SwapError),
}

/// Because a table is unknown the schema is not read more often than this: a client that asks for missing tables
/// in a loop must not keep the default shard busy. It waits, and all who wait are served by one read.
const REREAD_AFTER: Duration = Duration::from_millis(200);

/// The schema was changed since the current world's was read: a bit of the version's word, so that who has
/// the current world learns of it for nothing.
const STALE: u64 = 1 << 62;

impl Store {
    /// Starts with a map and no schema.
    pub fn new(map: ShardMap) -> Self {
        Self::in_realm(map, 0)
    }

    /// The same for one of several stores of a process: the versions of their worlds are all different.
    pub fn in_realm(map: ShardMap, realm: u16) -> Self {
        let version = (u64::from(realm) << REALM_SHIFT) + 1;
        let lookups = Arc::new(Known::new(&map));
        let world = World {
            version,
            map: Arc::new(map.with_version(version)),
            catalog: Arc::default(),
            catalog_known: false,
            lookups,
            numbers: Arc::default(),
        };
        let description = Description { loaded: SystemTime::now(), checksum: None };
        let store = Self {
            current: ArcSwap::from_pointee(world),
            version: AtomicU64::new(version),
            freezes_version: AtomicU64::new(0),
            waiting: Waiting::default(),
            changes: AtomicU64::new(0),
            reading: Mutex::default(),
            control: ArcSwapOption::empty(),
            control_changed: Notify::new(),
            reloading: Mutex::new(()),
            source: ArcSwapOption::empty(),
            description: ArcSwap::from_pointee(description),
            history: History::default(),
            asked: Asked::default(),
        };
        store.note(Origin::Start, Outcome::Loaded, String::new());
        store
    }

    /// The map in use is the one that was loaded from here last: reloads load it again. `checksum` is the
    /// file's.
    pub async fn came_from(&self, source: Arc<Source>, checksum: Option<String>) {
        source.accept(self).await;
        self.source.store(Some(source));
        let loaded = self.description().loaded;
        self.description.store(Arc::new(Description { loaded, checksum }));
    }

    /// Where the map was read from.
    pub fn source(&self) -> Option<Arc<Source>> {
        self.source.load_full()
    }

    /// What is known of the current map.
    pub fn description(&self) -> Arc<Description> {
        self.description.load_full()
    }

    /// What became of the maps so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Loads the map again from where it came: all of it is used from now on, or nothing. What runs finishes on the old
    /// map. With `force` it is used even where rows are left behind. The outcome is counted, remembered and logged.
    ///
    /// # Errors
    ///
    /// See [`ReloadError`]; the old map stays.
    pub async fn reload(&self, origin: Origin, force: bool) -> Result<Reloaded, ReloadError> {
        let _turn = self.reloading.lock().await;
        let outcome = self.try_reload(force).await;
        match &outcome {
            Ok(Reloaded { unchanged: true, .. }) => {
                self.note(origin, Outcome::Unchanged, String::new());
            }
            Ok(reloaded) => {
                observe::add(&METRICS.map_reloads, 1);
                let changes = reloaded.changes.summary();
                tracing::info!(
                    version = reloaded.version,
                    origin = origin.words(),
                    changes,
                    "a new map is used"
                );
                for warning in &reloaded.warnings {
                    tracing::warn!("{warning}");
                }
                self.note(origin, Outcome::Loaded, changes);
            }
            Err(error) => {
                observe::add(&METRICS.map_reload_errors, 1);
                tracing::error!(
                    origin = origin.words(),
                    "the map was not taken, the old one stays:\n{error}"
                );
                self.note(origin, Outcome::Refused, error.line());
            }
        }
        outcome
    }

    async fn try_reload(&self, force: bool) -> Result<Reloaded, ReloadError> {
        let source = self.source().ok_or(ReloadError::NoFile)?;
        // Before it is read: of a file that changes meanwhile the next look finds another sum.
        let checksum = watch::checksum(source.path());
        let (map, warnings) = source.load().await?;
        let old = self.current();
        let same = checksum.is_some() && self.description().checksum == checksum;
        if same && map.control().is_none() {
            // The schema is worth a look: that is why some ask.
            let world = self.read_catalog().await.unwrap_or(old);
            let version = world.map.version();
            let changes = MapDiff::default();
            return Ok(Reloaded { version, changes, unchanged: true, warnings, problem: None });
        }
        let world = self.swap_if_whole(map, force).await?;
        source.accept(self).await;
        self.describe(checksum);
        let changes = MapDiff::of(&old.map, &world.map, Some(&world.catalog));
        let (version, problem) = (world.map.version(), self.control_problem());
        Ok(Reloaded { version, changes, unchanged: false, warnings, problem })
    }

    /// Another map is used since now.
    fn describe(&self, checksum: Option<String>) {
        let description = Description { loaded: SystemTime::now(), checksum };
        self.description.store(Arc::new(description));
    }

    /// A map of other control tables is used instead of `old`: what changes.
    fn note_followed(&self, old: &World, new: &World) -> String {
        let loaded = SystemTime::now();
        let checksum = self.description().checksum.clone();
        self.description.store(Arc::new(Description { loaded, checksum }));
        let changes = MapDiff::of(&old.map, &new.map, Some(&new.catalog)).summary();
        self.note(Origin::Control, Outcome::Loaded, changes.clone());
        changes
    }

    /// A map of other control tables is not used.
    fn note_not_followed(&self, error: &ReloadError) {
        observe::add(&METRICS.map_reload_errors, 1);
        self.note(Origin::Control, Outcome::Refused, error.line());
    }

    fn note(&self, origin: Origin, outcome: Outcome, what: String) {
        let (at, version) = (SystemTime::now(), self.current().map.version());
        self.history.note(Attempt { at, origin, outcome, version, what });
    }

    /// How it is about the control database; none when the map has no section `[control]`.
    pub fn control(&self) -> Option<Arc<ControlStatus>> {
        self.control.load_full()
    }

    /// Why the map in use may not be the one that is wanted, and since when: the last one was refused, or the
    /// control database can't be followed.
    pub fn problem(&self) -> Option<(String, SystemTime)> {
        if let Some(fault) = self.history.fault() {
            return Some((fault.what, fault.at));
        }
        Some((self.control_problem()?, self.control()?.since))
    }

    fn control_problem(&self) -> Option<String> {
        let control = self.control()?;
        let problem = control.problem.as_ref()?;
        Some(format!("the control database {} {problem}", control.database))
    }

    /// Makes known how it is about the control database.
    pub(crate) fn set_control(&self, status: Option<ControlStatus>) {
        self.control.store(status.map(Arc::new));
        self.control_changed.notify_one();
    }

    /// Returns when it has changed how it is about the control database. For one who waits.
    pub(crate) async fn control_changed(&self) {
        self.control_changed.notified().await;
    }

    /// Swaps a map in, unless rows would be left behind where it does not look for them; `force` swaps all
    /// the same. The schema is read anew.
    ///
    /// # Errors
    ///
    /// See [`SwapError`]; nothing is swapped then.
    pub async fn swap_if_whole(&self, map: ShardMap, force: bool) -> Result<Arc<World>, SwapError> {
        self.swap_checked(map, force, true).await
    }

    /// The same for a map of other control tables: the schema stays while the default shard stays. The old
    /// world and the new one.
    async fn follow_map(&self, map: ShardMap) -> Result<(Arc<World>, Arc<World>), SwapError> {
        let old = self.current();
        let world = self.swap_checked(map, false, false).await?;
        Ok((old, world))
    }

    async fn swap_checked(
        &self,
        map: ShardMap,
        force: bool,
        reread: bool,
    ) -> Result<Arc<World>, SwapError> {
        let home = |map: &ShardMap| map.shard(map.default_shard()).map(|shard| shard.url.clone());
        loop {
            let old = self.current();
            let stays = old.catalog_known && home(&old.map) == home(&map) && !reread;
            let known = self.changes.load(Ordering::Acquire);
            let began = Instant::now();
            let fresh = if stays { None } else { Some(Arc::new(read_default(&map).await?)) };
            // Shards may take their time to answer: nobody waits for that at the lock.
            if !force {
                let catalog = fresh.as_ref().unwrap_or(&old.catalog);
                let stranded = stranded(&old.map, &map, catalog, &self.asked).await?;
                if !stranded.is_empty() {
                    return Err(SwapError::Stranded(stranded));
                }
            }
            let mut reading = self.reading.lock().await;
            if self.current().map.version() != old.map.version() {
                continue;
            }
            if fresh.is_some() {
                // Somebody has read a newer one meanwhile.
                if reading.began.is_some_and(|later| later > began) {
                    continue;
                }
                reading.began = Some(began);
            }
            self.asked.forget_others(&map);
            let catalog = fresh.as_ref().unwrap_or(&old.catalog);
            let numbers = reading.numbers.follow(&map, &catalog.numbers).await;
            return Ok(self.swap(fresh.is_some().then_some(known), numbers, |old, version| {
                let catalog = fresh.unwrap_or_else(|| Arc::clone(&old.catalog));
                (Arc::new(map.succeeding(&old.map, version)), catalog)
            }));
        }
    }

    /// The current world's version.
    pub fn version(&self) -> u64 {
        self.word() & !STALE
    }

    /// Changes whenever there is a newer world, or the current one's schema is no longer that of the shards.
    #[inline]
    pub fn word(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The word is no longer this one.
    #[inline]
    pub fn has_news(&self, seen: u64) -> bool {
        self.word() != seen
    }

    /// The schema was changed since it was last read: nothing that depends on it may be planned before
    /// [`Self::refresh_stale`].
    pub fn is_stale(&self) -> bool {
        self.word() & STALE != 0
    }

    /// A change of the schema was committed. It is read when it is next needed: of a migration's hundred
    /// statements few need it.
    pub fn note_schema_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.version.fetch_or(STALE, Ordering::AcqRel);
    }

    /// The current world, its schema read anew if it has changed since.
    ///
    /// # Errors
    ///
    /// The default shard could not be asked.
    pub async fn refresh_stale(&self) -> Result<Arc<World>, ReadError> {
        let asked = Instant::now();
        let mut reading = self.reading.lock().await;
        if !self.is_stale() {
            return Ok(self.current());
        }
        reading.since(asked)?;
        let known = self.changes.load(Ordering::Acquire);
        let (catalog, numbers) = reading.read(&self.current().map).await?;
        Ok(self.swap(Some(known), numbers, |old, _| (Arc::clone(&old.map), Arc::new(catalog))))
    }

    /// The version of the map at which keys were last frozen or not any more.
    pub fn freezes_version(&self) -> u64 {
        self.freezes_version.load(Ordering::Acquire)
    }

    /// A statement that was planned with a map of this version waits for a shard, for as long as what is returned
    /// lives.
    pub fn wait_with(&self, map_version: u64) -> WaitsWith {
        self.waiting.begin(map_version)
    }

    /// Whether a statement waits that was planned with an older map.
    pub fn is_waited_with_older(&self, map_version: u64) -> bool {
        self.waiting.is_any_older(map_version)
    }

    /// Rows of a key on shards that are not their home by the current map.
    ///
    /// # Errors
    ///
    /// A shard does not answer.
    pub async fn strays(&self, key: KeyId, value: &KeyValue<'_>) -> Result<Vec<Stray>, NotAsked> {
        let world = self.current();
        stranded::strays(&world.map, &world.catalog, key, value, &self.asked).await
    }

    /// The current world.
    pub fn current(&self) -> Arc<World> {
        self.current.load_full()
    }

    /// Swaps the map in and reads the schema of its default shard.
    ///
    /// # Errors
    ///
    /// The default shard could not be asked; nothing is swapped then.
    pub async fn swap_map(&self, map: ShardMap) -> Result<Arc<World>, ReadError> {
        let mut reading = self.reading.lock().await;
        let known = self.changes.load(Ordering::Acquire);
        let (catalog, numbers) = reading.read(&map).await?;
        let world = self.swap(Some(known), numbers, |old, version| {
            (Arc::new(map.succeeding(&old.map, version)), Arc::new(catalog))
        });
        self.describe(None);
        Ok(world)
    }

    /// Reads the schema again.
    ///
    /// # Errors
    ///
    /// The default shard could not be asked; the old schema stays.
    pub async fn read_catalog(&self) -> Result<Arc<World>, ReadError> {
        let mut reading = self.reading.lock().await;
        let known = self.changes.load(Ordering::Acquire);
        let (catalog, numbers) = reading.read(&self.current().map).await?;
        Ok(self.swap(Some(known), numbers, |old, _| (Arc::clone(&old.map), Arc::new(catalog))))
    }

    /// The world with a schema whose reading began after this was asked for: what somebody has made past the proxy
    /// before that is in it.
    ///
    /// # Errors
    ///
    /// The default shard could not be asked; the old schema stays.
    pub async fn refresh_catalog(&self) -> Result<Arc<World>, ReadError> {
        let asked = Instant::now();
        loop {
            let mut reading = self.reading.lock().await;
            reading.since(asked)?;
            let wait = match reading.began {
                Some(began) if began >= asked => return Ok(self.current()),
                Some(began) => REREAD_AFTER.saturating_sub(began.elapsed()),
                None => Duration::ZERO,
            };
            if wait.is_zero() {
                self.look_at_catalog(&mut reading).await?;
                return Ok(self.current());
            }
            // Nobody waits for that at the lock.
            drop(reading);
            tokio::time::sleep(wait).await;
        }
    }

    /// Looks whether the schema is another one: others change it too, and a table that hides another, a
    /// view that reads more, a column in another place make no statement fail. True if it was.
    ///
    /// # Errors
    ///
    /// The default shard could not be asked; the old schema stays.
    pub async fn follow_catalog(&self) -> Result<bool, ReadError> {
        let mut reading = self.reading.lock().await;
        self.look_at_catalog(&mut reading).await
    }

    /// [`Self::follow_catalog`] for one who has `reading` locked.
    async fn look_at_catalog(&self, reading: &mut Reading) -> Result<bool, ReadError> {
        let current = self.current();
        let known = self.changes.load(Ordering::Acquire);
        let (catalog, numbers) = reading.read(&current.map).await?;
        let same = current.catalog.fingerprint == catalog.fingerprint
            && Arc::ptr_eq(&current.numbers, &numbers);
        if current.catalog_known && same && !self.is_stale() {
            return Ok(false);
        }
        self.swap(Some(known), numbers, |old, _| (Arc::clone(&old.map), Arc::new(catalog)));
        Ok(true)
    }

    /// Must be called with `reading` locked: swaps follow each other. `known`: how many changes of the schema
    /// had been made when the new one was begun to be read; `None` if it is the old one.
    fn swap(
        &self,
        known: Option<u64>,
        numbers: Arc<Renumberings>,
        next: impl FnOnce(&World, u64) -> (Arc<ShardMap>, Arc<Catalog>),
    ) -> Arc<World> {
        let old = self.current();
        let version = old.version + 1;
        let (map, catalog) = next(&old, version);
        let lookups = old.lookups.follow(&map);
        let world =
            Arc::new(World { version, map, catalog, catalog_known: true, lookups, numbers });
        self.freezes_version.store(world.map.freezes_version(), Ordering::Release);
        self.current.store(Arc::clone(&world));
        let stale = if known.is_some() { 0 } else { self.version.load(Ordering::Acquire) & STALE };
        self.version.store(version | stale, Ordering::Release);
        // One that was made meanwhile may have been marked before the mark was taken away.
        let changes = self.changes.load(Ordering::Acquire);
        if known.is_some_and(|known| known != changes) {
            self.version.fetch_or(STALE, Ordering::AcqRel);
        }
        world
    }
}

impl ReloadError {
    /// It may be otherwise a little later: a server could not be asked.
    pub fn passes(&self) -> bool {
        match self {
            Self::NoFile | Self::Swap(SwapError::Stranded(_)) => false,
            Self::Load(error) => matches!(error, SourceError::Control { .. }),
            Self::Swap(SwapError::Schema(_) | SwapError::NotAsked(_)) => true,
        }
    }

    /// In one line: of several faults the first, with their number.
    pub fn line(&self) -> String {
        match self {
            Self::Load(SourceError::Faults(faults)) => {
                let first = faults.iter().find(|fault| fault.severity() == Severity::Error);
                let first = first.or(faults.iter().next()).map(ToString::to_string);
                let more = faults.count().saturating_sub(1);
                match more {
                    0 => first.unwrap_or_default(),
                    more => format!("{} (and {more} more)", first.unwrap_or_default()),
                }
            }
            other => other.to_string(),
        }
    }
}

/// What became of the last readings of the schema.
#[derive(Debug, Default)]
struct Reading {
    /// When the last one began that succeeded.
    began: Option<Instant>,
    /// When the last one began that failed, and how.
    failed: Option<(Instant, Arc<ReadError>)>,
    /// What the shards number otherwise.
    numbers: numbers::Known,
}

impl Reading {
    async fn read(&mut self, map: &ShardMap) -> Result<(Catalog, Arc<Renumberings>), ReadError> {
        let began = Instant::now();
        match read_default(map).await {
            Ok(catalog) => {
                self.began = Some(began);
                let numbers = self.numbers.follow(map, &catalog.numbers).await;
                Ok((catalog, numbers))
            }
            Err(error) => {
                let error = Arc::new(error);
                self.failed = Some((began, Arc::clone(&error)));
                Err(ReadError::Shared(error))
            }
        }
    }

    /// A reading that has begun since then, and failed, is everybody's: each of a hundred clients would else wait
    /// out its own, one after the other.
    fn since(&self, asked: Instant) -> Result<(), ReadError> {
        match &self.failed {
            Some((began, error)) if *began >= asked => Err(ReadError::Shared(Arc::clone(error))),
            _ => Ok(()),
        }
    }
}

/// The schema as the default shard has it.
async fn read_default(map: &ShardMap) -> Result<Catalog, ReadError> {
    match map.shard(map.default_shard()) {
        Some(shard) => read_catalog(&shard.url).await,
        None => Ok(Catalog::default()),
    }
}
