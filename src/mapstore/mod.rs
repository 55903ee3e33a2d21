//! Where the shard map and the catalog come from, and which ones are current.
//!
//! A [`World`] is one map with one catalog: what a statement is planned against. The [`Store`] holds the
//! current one; it is swapped in one store, and whoever has the old one finishes on it. Readers on the
//! hot path compare [`Store::version`] with the version they have.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Mutex;

use crate::catalog::Catalog;
use crate::lookup::Known;
use crate::map::ShardMap;

pub mod control;
pub mod live;
mod read;
mod stranded;

pub use control::ControlStatus;
pub use read::{ReadError, read_catalog};
pub use stranded::{NotAsked, Stranded, stranded};

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
}

/// The current world.
#[derive(Debug)]
pub struct Store {
    current: ArcSwap<World>,
    version: AtomicU64,
    reading: Mutex<Option<Instant>>,
    control: ArcSwapOption<ControlStatus>,
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

fn sentences(stranded: &[Stranded]) -> String {
    stranded.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A catalog that was read less than this ago is not read again because a table is unknown: a client
/// that asks for missing tables in a loop must not keep the default shard busy.
const REREAD_AFTER: Duration = Duration::from_millis(500);

impl Store {
    /// Starts with a map and no schema.
    pub fn new(map: ShardMap) -> Self {
        let lookups = Arc::new(Known::new(&map));
        let world = World {
            version: 1,
            map: Arc::new(map.with_version(1)),
            catalog: Arc::default(),
            catalog_known: false,
            lookups,
        };
        Self {
            current: ArcSwap::from_pointee(world),
            version: AtomicU64::new(1),
            reading: Mutex::new(None),
            control: ArcSwapOption::empty(),
        }
    }

    /// How it is about the control database; none when the map has no section `[control]`.
    pub fn control(&self) -> Option<Arc<ControlStatus>> {
        self.control.load_full()
    }

    /// Makes known how it is about the control database.
    pub(crate) fn set_control(&self, status: Option<ControlStatus>) {
        self.control.store(status.map(Arc::new));
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

    /// The same for a map of other control tables: the schema stays while the default shard stays.
    pub(crate) async fn follow_map(&self, map: ShardMap) -> Result<Arc<World>, SwapError> {
        self.swap_checked(map, false, false).await
    }

    async fn swap_checked(
        &self,
        map: ShardMap,
        force: bool,
        reread: bool,
    ) -> Result<Arc<World>, SwapError> {
        let mut reading = self.reading.lock().await;
        let old = self.current();
        let home = |map: &ShardMap| map.shard(map.default_shard()).map(|shard| shard.url.clone());
        let stays = old.catalog_known && home(&old.map) == home(&map);
        let catalog = if stays && !reread {
            Arc::clone(&old.catalog)
        } else {
            let catalog = Arc::new(read_default(&map).await?);
            *reading = Some(Instant::now());
            catalog
        };
        if !force {
            let stranded = stranded(&old.map, &map, &catalog).await?;
            if !stranded.is_empty() {
                return Err(SwapError::Stranded(stranded));
            }
        }
        Ok(self.swap(|old, version| (Arc::new(map.succeeding(&old.map, version)), catalog)))
    }

    /// The current world's version.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
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
        let catalog = read_default(&map).await?;
        *reading = Some(Instant::now());
        Ok(self
            .swap(|old, version| (Arc::new(map.succeeding(&old.map, version)), Arc::new(catalog))))
    }

    /// Reads the schema again, unless that was done since `seen` or only just now.
    ///
    /// # Errors
    ///
    /// The default shard could not be asked; the old schema stays.
    pub async fn refresh_catalog(&self, seen: u64, force: bool) -> Result<Arc<World>, ReadError> {
        let mut reading = self.reading.lock().await;
        let current = self.current();
        let fresh = reading.is_some_and(|at| at.elapsed() < REREAD_AFTER);
        if !force && (current.version > seen || fresh) {
            return Ok(current);
        }
        let catalog = read_default(&current.map).await?;
        *reading = Some(Instant::now());
        Ok(self.swap(|old, _| (Arc::clone(&old.map), Arc::new(catalog))))
    }

    /// Looks whether the schema is another one: others change it too, and a table that hides another, a
    /// view that reads more, a column in another place make no statement fail. True if it was.
    ///
    /// # Errors
    ///
    /// The default shard could not be asked; the old schema stays.
    pub async fn follow_catalog(&self) -> Result<bool, ReadError> {
        let mut reading = self.reading.lock().await;
        let current = self.current();
        let catalog = read_default(&current.map).await?;
        *reading = Some(Instant::now());
        if current.catalog_known && current.catalog.fingerprint == catalog.fingerprint {
            return Ok(false);
        }
        self.swap(|old, _| (Arc::clone(&old.map), Arc::new(catalog)));
        Ok(true)
    }

    /// Must be called with `reading` locked: swaps follow each other.
    fn swap(&self, next: impl FnOnce(&World, u64) -> (Arc<ShardMap>, Arc<Catalog>)) -> Arc<World> {
        let old = self.current();
        let version = old.version + 1;
        let (map, catalog) = next(&old, version);
        let lookups = old.lookups.follow(&map);
        let world = Arc::new(World { version, map, catalog, catalog_known: true, lookups });
        self.current.store(Arc::clone(&world));
        self.version.store(version, Ordering::Release);
        world
    }
}

/// The schema as the default shard has it.
async fn read_default(map: &ShardMap) -> Result<Catalog, ReadError> {
    match map.shard(map.default_shard()) {
        Some(shard) => read_catalog(&shard.url).await,
        None => Ok(Catalog::default()),
    }
}
