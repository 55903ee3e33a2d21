//! The map with its control tables: read at the start, followed from then on.
//!
//! Main types: [`Source`] (a map file and, where it has a section `[control]`, the tables behind it),
//! [`ControlStatus`] (what an operator should know of it). The tables are followed by LISTEN and by asking
//! every `poll`; where their changes are counted (`install`), only what changed is read. A good state is
//! kept on disk (`cache`), and a proxy that can't reach the control database starts from there.
//!
//! Invariant: whatever is wrong with the tables or with their database, the last good map goes on, and
//! the fault is told in the log, the metrics and [`ControlStatus`]. Nothing here prints a connection string.

mod cache;
pub mod freeze;
pub mod install;
pub mod newcomers;
mod read;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Mutex;
use tracing::{error, info, warn};

use super::{Files, ReloadError, Store};
use crate::datum::{KeyType, moment};
use crate::map::{Control, Fault, Faults, Outside, ShardMap, Tables};
use crate::observe::{self, METRICS};
use cache::Cache;
pub use read::TablesError;
use read::{Session, Snapshot, called};

/// A lost control database is asked again after this long, at first.
const RETRY_MIN: Duration = Duration::from_millis(500);

/// And after this long at last, however seldom it is polled otherwise.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Where changes aren't counted, each look reads everything: no more than this share of the time.
const FULL_READ_SHARE: u32 = 20;

/// A map file, and the control tables behind it.
pub struct Source {
    path: PathBuf,
    /// What was good last is kept on disk, and used when there is nothing newer.
    keeps: bool,
    state: Mutex<State>,
    /// This proxy has taken leave of the others; held by whoever speaks of it to them.
    left: Mutex<bool>,
}

/// The state holds connection strings.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("path", &self.path).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    /// The section of the file that was read last.
    control: Option<Control>,
    session: Option<Session>,
    /// What was read last, right or wrong.
    read: Option<Snapshot>,
    /// What the map was made of that was loaded last; until it is accepted, it may yet be refused.
    loaded: Option<Loaded>,
    /// What takes this one's place with the map that was loaded last: its file names other tables, or none.
    next: Option<Box<State>>,
    /// What the map in use was made of.
    good: Option<Snapshot>,
    cache: Option<Cache>,
    /// The file's text of the last good map.
    text: String,
    /// What that text refers to.
    files: Files,
    /// How long everything took to be read.
    full_read: Duration,
    /// What was read is from the cache: the control database has not answered yet.
    cached: bool,
    /// What was read is not what is in use.
    pending: bool,
    /// What is in use is being written to the cache.
    keeping: bool,
}

/// What a map was made of.
struct Loaded {
    tables: Snapshot,
    text: String,
    files: Files,
    /// What is wrong, when these tables are not what is there now.
    problem: Option<String>,
}

/// What an operator should know of the control database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlStatus {
    /// Which database, without a password.
    pub database: String,
    /// What is wrong: it can't be reached, or its tables have faults. The last good map is used meanwhile.
    pub problem: Option<String>,
    /// The tables' version that is used; none where changes are not counted.
    pub version: Option<i64>,
    /// It is on disk, too: a proxy that starts without the control database knows of it.
    pub is_kept: bool,
    /// When this became so.
    pub since: SystemTime,
}

/// Why there is no map.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file can't be read.
    #[error("{}: {error}", path.display())]
    File {
        /// The map file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file or the tables have faults.
    #[error("{0}")]
    Faults(#[from] Faults),
    /// The control database can't be asked, and nothing is kept of it.
    #[error("the control database {database} can't be read: {error}")]
    Control {
        /// Which.
        database: String,
        /// Why.
        error: TablesError,
    },
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn parse(
    name: &str,
    text: &str,
    files: &Files,
    tables: Option<&Tables>,
) -> Result<(ShardMap, Vec<Fault>), Faults> {
    let outside = Outside { env: &env, geoip: Some(&|name: &str| files.geoip(name)) };
    ShardMap::parse_in(name, text, outside, tables)
}

impl Source {
    /// A map file's.
    pub fn new(path: &Path) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            keeps: true,
            state: Mutex::default(),
            left: Mutex::default(),
        })
    }

    /// A map file's, to look at the control database as it is now: nothing is kept, nor taken from what is.
    pub fn without_cache(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            keeps: false,
            state: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// Where the control tables are.
    async fn control_url(&self) -> Option<crate::map::ConnectionTarget> {
        self.state.lock().await.control.as_ref().map(|control| control.url.clone())
    }

    /// The map file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The map as the file and the tables have it now; what is probably not meant comes back as warnings.
    /// Where the control database is away, what was read of it last is used.
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub async fn load(&self) -> Result<(ShardMap, Vec<Fault>), SourceError> {
        let text = std::fs::read_to_string(&self.path)
            .map_err(|error| SourceError::File { path: self.path.clone(), error })?;
        let name = self.path.display().to_string();
        let mut guard = self.state.lock().await;
        guard.next = None;
        let control = ShardMap::control_of(&name, &text, &env)?;
        let Some(control) = control else {
            let built = parse(&name, &text, &Files::beside(&self.path), None)?;
            guard.next = Some(Box::default());
            return Ok(built);
        };
        let files = Files::beside(&self.path);
        if guard.control.as_ref() == Some(&control) {
            return guard.load(&name, text, files, &control).await;
        }
        let path = control.cache.as_ref().map_or_else(|| beside(&self.path), PathBuf::from);
        let mut next = State {
            cache: self.keeps.then(|| Cache::at(path)),
            control: Some(control.clone()),
            ..State::default()
        };
        let built = next.load(&name, text, files, &control).await?;
        guard.next = Some(Box::new(next));
        Ok(built)
    }

    /// Notes that the map that was loaded last is the one in use, and keeps it on disk.
    pub async fn accept(&self, store: &Store) {
        let mut state = self.state.lock().await;
        if let Some(next) = state.next.take() {
            *state = *next;
        }
        state.accept(store).await;
    }

    /// Follows the control tables for ever and swaps their maps in.
    pub async fn follow(self: Arc<Self>, store: Arc<Store>) {
        let mut retry = RETRY_MIN;
        loop {
            let (poll, mut session) = {
                let mut state = self.state.lock().await;
                let Some(control) = &state.control else {
                    drop(state);
                    // A reload may bring a section [control].
                    tokio::time::sleep(RETRY_MIN).await;
                    continue;
                };
                let counted = state.read.as_ref().is_none_or(|read| read.version.is_some());
                let poll = if counted {
                    control.poll
                } else {
                    control.poll.max(state.full_read * FULL_READ_SHARE)
                };
                (poll, state.session.take())
            };
            if let Some(session) = &mut session {
                // Either way the tables are looked at; a connection that ended is made anew there.
                let _ = tokio::time::timeout(poll, session.changed()).await;
            } else {
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(poll.clamp(RETRY_MIN, RETRY_MAX));
            }
            let mut state = self.state.lock().await;
            if state.session.is_none() {
                state.session = session;
            }
            if self.look(&mut state, &store).await {
                retry = RETRY_MIN;
            }
        }
    }

    /// Looks at the tables once; false when they could not be read.
    async fn look(&self, state: &mut State, store: &Store) -> bool {
        let Some(control) = state.control.clone() else { return true };
        let began = Instant::now();
        match state.refresh(&control).await {
            Err(error) => {
                let problem = state.unread(&error);
                observe::add(&METRICS.control_errors, 1);
                state.tell(store, Some(problem));
                return false;
            }
            Ok(false) if !state.pending => {
                state.tell(store, None);
                return true;
            }
            Ok(_) => {}
        }
        let read_ms = began.elapsed().as_millis();
        let name = self.path.display().to_string();
        let (text, files) = (state.text.clone(), state.files.clone());
        let (problem, error) = match state.build(&name, &text, &files) {
            Err(faults) => {
                let error = ReloadError::Load(SourceError::Faults(faults.clone()));
                (format!("has faults:\n{faults}"), error)
            }
            Ok((map, _)) => match store.follow_map(map).await {
                Ok((old, world)) => {
                    let changes = store.note_followed(&old, &world);
                    let version = world.map.version();
                    // Most of it is the shards' time, where rows might be left behind.
                    let ms = began.elapsed().as_millis();
                    info!(
                        version,
                        changes,
                        read_ms,
                        ms,
                        "the control tables have changed: the map was swapped"
                    );
                    observe::add(&METRICS.map_reloads, 1);
                    state.loaded = state.read.clone().map(|tables| Loaded {
                        tables,
                        text,
                        files,
                        problem: None,
                    });
                    state.accept(store).await;
                    return true;
                }
                Err(error) => {
                    (format!("has a map that can't be used yet: {error}"), ReloadError::Swap(error))
                }
            },
        };
        state.pending = true;
        if state.tell(store, Some(problem)) {
            store.note_not_followed(&error);
        }
        true
    }
}

/// Where the cache of a map is when nothing else is said.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".cache");
    PathBuf::from(name)
}

impl State {
    /// The map of a file's text and the tables as they are now, or were last.
    async fn load(
        &mut self,
        name: &str,
        text: String,
        files: Files,
        control: &Control,
    ) -> Result<(ShardMap, Vec<Fault>), SourceError> {
        let mut problem = None;
        if let Err(error) = self.refresh(control).await {
            let unread = error.to_string();
            if let Err(error) = self.fall_back(control, error) {
                // What is wrong in the file is told even so.
                let outside = Outside { env: &env, geoip: Some(&|name: &str| files.geoip(name)) };
                ShardMap::check(name, &text, outside)?;
                return Err(error);
            }
            problem = Some(self.unread(&unread));
        }
        let (built, tables) = match self.build(name, &text, &files) {
            Ok(built) => (built, self.read.clone()),
            Err(faults) if self.good.is_some() => return Err(faults.into()),
            // Tables full of nonsense are no reason not to start.
            Err(faults) => {
                let kept = self.kept(control).and_then(|kept| {
                    parse(name, &text, &files, Some(&kept.tables)).ok().zip(Some(kept))
                });
                let Some((built, kept)) = kept else { return Err(faults.into()) };
                problem = Some(format!("has faults:\n{faults}"));
                (built, Some(kept))
            }
        };
        self.loaded = tables.map(|tables| Loaded { tables, text, files, problem });
        Ok(built)
    }

    /// Reads what has changed, or everything; true when something is new.
    async fn refresh(&mut self, control: &Control) -> Result<bool, TablesError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::open(&control.url).await?,
        };
        let begun = Instant::now();
        let read = match &self.read {
            Some(seen) => session.read_again(control, seen).await,
            // What the cache has may be caught up with.
            None => match self.kept(control).filter(|kept| kept.version.is_some()) {
                Some(kept) => match session.read_again(control, &kept).await {
                    Ok(None) => Ok(Some(kept)),
                    other => other,
                },
                None => session.read(control).await.map(Some),
            },
        }?;
        // A session that failed is not used again: it was taken out, and is dropped by the `?` above.
        self.session = Some(session);
        self.full_read = self.full_read.max(begun.elapsed());
        self.pending |= self.cached;
        self.cached = false;
        let Some(read) = read else { return Ok(false) };
        // Where changes aren't counted, everything was read, and is the same most of the time.
        let same = self.read.as_ref().is_some_and(|seen| {
            seen.version == read.version
                && seen.tables.shards == read.tables.shards
                && seen.tables.freezes == read.tables.freezes
                && seen.tables.odd == read.tables.odd
                && seen.tables.odd_more == read.tables.odd_more
                && read.tables.entries.moved_since(&seen.tables.entries).is_empty()
        });
        if !same {
            self.read = Some(read);
        }
        Ok(!same)
    }

    /// What was good last, for as long as the control database is away.
    fn fall_back(&mut self, control: &Control, error: TablesError) -> Result<(), SourceError> {
        let database = called(&control.url);
        if self.read.is_some() {
            warn!(
                "the control database {database} can't be read, what was read last is used: {error}"
            );
            return Ok(());
        }
        let Some(cache) = &self.cache else {
            return Err(SourceError::Control { database, error });
        };
        let ty = control.key_type.unwrap_or(KeyType::BigInt);
        match cache.read(&database, ty) {
            Ok(kept) => {
                let path = cache.path().display();
                warn!(
                    "the control database {database} can't be read, the map is from {path}: {error}"
                );
                self.read = Some(kept);
                self.cached = true;
                Ok(())
            }
            Err(why) => {
                let path = cache.path().display();
                warn!("nothing is kept of the control database in {path}: {why}");
                Err(SourceError::Control { database, error })
            }
        }
    }

    /// What it means that the tables can't be read.
    fn unread(&self, error: &impl std::fmt::Display) -> String {
        let Some(cache) = self.cache.as_ref().filter(|_| self.cached) else {
            return format!("can't be read: {error}");
        };
        // Nobody knows what has changed since.
        let written =
            cache.written().map_or_else(String::new, |at| format!(" at {}", moment::text(at)));
        let path = cache.path().display();
        format!("can't be read: {error}; the map is what was kept of it in {path}{written}")
    }

    /// What the cache has.
    fn kept(&self, control: &Control) -> Option<Snapshot> {
        let ty = control.key_type.unwrap_or(KeyType::BigInt);
        self.cache.as_ref()?.read(&called(&control.url), ty).ok()
    }

    fn build(
        &self,
        name: &str,
        text: &str,
        files: &Files,
    ) -> Result<(ShardMap, Vec<Fault>), Faults> {
        parse(name, text, files, self.read.as_ref().map(|read| &read.tables))
    }

    async fn accept(&mut self, store: &Store) {
        let Some(control) = &self.control else { return store.set_control(None) };
        let ty = control.key_type.unwrap_or(KeyType::BigInt);
        let Some(Loaded { tables: loaded, text, files, problem }) = self.loaded.take() else {
            // Newer tables were accepted while this map was on its way: they are to be used again.
            self.pending = true;
            return;
        };
        self.good = Some(loaded.clone());
        self.text = text;
        self.files = files;
        self.pending = problem.is_some();
        if problem.is_none()
            && let Some(mut cache) = self.cache.take()
        {
            // Ten million rows take seconds to write: that they are used is known before.
            self.keeping = true;
            self.tell(store, None);
            let kept = tokio::task::spawn_blocking(move || {
                let outcome = cache.keep(&loaded, ty);
                (cache, outcome)
            });
            if let Ok((cache, outcome)) = kept.await {
                if let Err(error) = outcome {
                    let path = cache.path().display();
                    warn!("the control tables can't be kept in {path}: {error}");
                }
                self.cache = Some(cache);
            }
            self.keeping = false;
        }
        self.tell(store, problem);
    }

    /// Makes known how it is; true when that is news. Said once, not every time.
    fn tell(&self, store: &Store, problem: Option<String>) -> bool {
        let Some(control) = &self.control else { return false };
        let database = called(&control.url);
        let version =
            self.good.as_ref().and_then(|good| good.version.as_ref()).map(|version| version.number);
        let is_kept = !self.keeping;
        let before = store.control();
        let same = before.as_ref().filter(|before| {
            before.problem == problem && before.version == version && before.database == database
        });
        if let Some(same) = same {
            if same.is_kept != is_kept {
                store.set_control(Some(ControlStatus { is_kept, ..ControlStatus::clone(same) }));
            }
            return false;
        }
        match (&problem, before.and_then(|before| before.problem.clone())) {
            (Some(problem), _) => {
                error!("the control database {database} {problem}; the last good map goes on");
            }
            (None, Some(_)) => info!("the control database {database} is followed again"),
            (None, None) => {}
        }
        store.set_control(Some(ControlStatus {
            database,
            problem,
            version,
            is_kept,
            since: SystemTime::now(),
        }));
        true
    }
}
