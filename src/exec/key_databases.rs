//! Keys that have a database each: sessions that are in one, and statements that visit one.
//!
//! A session with a key *moves*: between two transactions it goes to the [`Worker`] of its key's database, and
//! all its statements mean what they mean there. A session without one stays where it is; a statement that
//! names its key *visits* the key's database: it is planned against the logical database's schema, and has a
//! connection of that database's pool. Such a place has a [`ShardId`] of this client's own, beyond those of any
//! map, so that a transaction, a pipeline, or what a connection is kept for belongs to it as to a shard.
//!
//! Invariants: a transaction that is on such a place is on no other; a session does not move while a
//! connection carries something of it.

use std::borrow::Cow;
use std::sync::Arc;

use super::pins::{Pin, Pins};
use super::worker::{ClientPools, Worker};
use super::{Executor, LastRoute};
use crate::backend::{BackendError, Pool};
use crate::error::{SqlError, SqlState};
use crate::map::{KeyDatabase, SHARDS_MAX, ShardId, ShardMap};
use crate::mapstore::{World, create_database};
use crate::plan::{Route, scope};
use crate::session::Session;
use crate::session::transaction::Transaction;

/// The first number that no shard of a map has.
const FIRST: u16 = SHARDS_MAX as u16;

/// Databases that an idle client remembers having visited.
const REMEMBERED_MAX: usize = 16;

/// A client of a map with such keys.
pub(super) struct Keyed {
    /// Who serves the logical database.
    base: Arc<Worker>,
    /// The base's word when the session's key was last followed.
    seen: u64,
    /// That key, as it was written.
    key: Option<String>,
    /// The session is in a key's own database, on this shard of the base's map.
    home: Option<ShardId>,
    /// Why the session can't be where its key says.
    barred: Option<SqlError>,
    visits: Vec<Visit>,
}

/// A database that statements of this client have visited.
struct Visit {
    database: Arc<KeyDatabase>,
    /// The map's version that said so.
    map: u64,
    /// `deu/gb_tenant_42`.
    label: String,
    worker: Arc<Worker>,
    world: Arc<World>,
    pools: ClientPools,
    /// It is made if it is not there.
    makes: bool,
}

impl Keyed {
    /// `None` where no key has databases.
    pub(super) fn new(worker: &Arc<Worker>, map: &ShardMap) -> Option<Box<Self>> {
        map.has_key_databases().then(|| {
            Box::new(Self {
                base: Arc::clone(worker),
                seen: 0,
                key: None,
                home: None,
                barred: None,
                visits: Vec::new(),
            })
        })
    }

    fn visit(&self, place: ShardId) -> Option<&Visit> {
        self.visits.get(usize::from(place.0.checked_sub(FIRST)?))
    }

    /// The pool of a database that is visited.
    pub(super) fn pool(&mut self, user: &str, place: ShardId) -> Option<Result<&Pool, SqlError>> {
        let at = usize::from(place.0.checked_sub(FIRST)?);
        let Visit { pools, worker, world, .. } = self.visits.get_mut(at)?;
        Some(pools.pool(worker, world, user, ShardId(0)))
    }
}

/// It is a database that this client visits, and no shard of a map.
pub(super) fn is_visit(place: ShardId) -> bool {
    place.0 >= FIRST
}

impl Executor {
    /// The session's key may be another one: then the session moves, or is barred until it can.
    pub(super) fn follow_key(&mut self) {
        let idle = self.held.is_empty() && !self.session.transaction.is_open();
        let idle = idle && !self.batch.is_open();
        let own = own_key(&self.session);
        let Some(keyed) = &mut self.keyed else { return };
        if idle && keyed.visits.len() > REMEMBERED_MAX {
            keyed.visits.clear();
        }
        let word = keyed.base.shared.store.word();
        if keyed.seen == word && keyed.key.as_deref() == own && keyed.barred.is_none() {
            return;
        }
        let own = own.map(str::to_owned);
        let barred = match residence(&keyed.base, own.as_deref()) {
            Err(error) => Some(error),
            Ok((worker, home)) => self.go_to(worker, home).err(),
        };
        if let Some(keyed) = &mut self.keyed {
            keyed.barred = barred;
            keyed.key = own;
            keyed.seen = word;
        }
    }

    fn go_to(&mut self, worker: Arc<Worker>, home: Option<ShardId>) -> Result<(), SqlError> {
        if Arc::ptr_eq(&worker, &self.worker) {
            return Ok(());
        }
        self.may_move(worker.shared.store.current().map.database())?;
        if !self.held.is_empty() {
            self.leave();
        }
        self.worker = worker;
        let store = Arc::clone(&self.worker.shared.store);
        self.seen = store.word();
        self.stale = store.is_stale();
        self.world = store.current();
        self.pools = ClientPools::default();
        self.session.temporary = None;
        self.last_route = LastRoute::default();
        if let Some(keyed) = &mut self.keyed {
            keyed.home = home;
            keyed.visits.clear();
        }
        self.follow_settings();
        Ok(())
    }

    /// Nothing of the session is on a connection.
    fn may_move(&self, database: &str) -> Result<(), SqlError> {
        let refused = |why: &str, hint: &str| {
            let message = format!(
                "the session cannot go to database \"{database}\" now, where its key leads"
            );
            Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                .detail(why.to_owned())
                .hint(hint.to_owned()))
        };
        let begun =
            !matches!(self.session.transaction, Transaction::Idle | Transaction::Pending(_));
        if begun || self.batch.is_open() {
            return refused(
                "A transaction stays in one database.",
                "Commit first, or set the key before the transaction's first statement.",
            );
        }
        let only_pooled = Pins::of(Pin::Session);
        if self.held.iter().any(|held| held.pins.with(only_pooled) != only_pooled) {
            return refused(
                "The connection to the database where it is carries temporary tables, locks, settings or \
                 sequences of the session.",
                "DISCARD ALL ends what a session keeps; then set its key again.",
            );
        }
        Ok(())
    }

    /// The session can't be where its key says: nothing may run where it is.
    pub(super) fn refuse_barred(&self) -> Result<(), SqlError> {
        self.barred().map_or(Ok(()), Err)
    }

    /// Why the session can't be where its key says.
    pub(super) fn barred(&self) -> Option<SqlError> {
        let keyed = self.keyed.as_ref()?;
        let own = own_key(&self.session);
        // It was set or reset in the same pipeline, and the session moves between two.
        let behind = || keyed.home.is_some() && own != keyed.key.as_deref();
        keyed.barred.clone().or_else(|| {
            behind().then(|| {
                SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "a change of the session's key and a statement after it can't be sent together",
                )
                .detail("The session goes to its key's database between two pipelines.")
                .hint("Send the change by itself, and wait for its answer.")
            })
        })
    }

    /// The map that the session has come to, wherever it is now.
    pub(super) fn whole_map(&self) -> Arc<ShardMap> {
        match self.keyed.as_ref().filter(|keyed| keyed.home.is_some()) {
            Some(keyed) => Arc::clone(&keyed.base.shared.store.current().map),
            None => Arc::clone(&self.world.map),
        }
    }

    /// The place of a database that a statement visits.
    ///
    /// # Errors
    ///
    /// 40001: the database is elsewhere by now.
    pub(super) fn visit(&mut self, database: &Arc<KeyDatabase>) -> Result<ShardId, SqlError> {
        let version = self.world.map.version();
        let Some(keyed) = &mut self.keyed else {
            return Err(SqlError::new(SqlState::INTERNAL_ERROR, "no key has a database"));
        };
        let known = keyed
            .visits
            .iter()
            .position(|visit| visit.map == version && visit.database.name == database.name);
        let at = if let Some(at) = known {
            at
        } else {
            let own = self.world.map.of_database(&database.name);
            let worker = keyed.base.of_database(&database.name);
            let (Some(own), Some(worker)) = (own, worker) else { return Err(moved(database)) };
            let world = worker.shared.store.current();
            if !world.map.is_same_database(&own) {
                return Err(moved(database));
            }
            keyed.visits.push(Visit {
                database: Arc::clone(database),
                map: version,
                label: format!("{}/{}", self.world.map.shard_name(database.shard), database.name),
                worker,
                world,
                pools: ClientPools::default(),
                makes: false,
            });
            keyed.visits.len() - 1
        };
        let place = u16::try_from(at).ok().and_then(|at| at.checked_add(FIRST)).map(ShardId);
        let (Some(visit), Some(place)) = (keyed.visits.get_mut(at), place) else {
            return Err(SqlError::new(
                SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                "a session that keeps a connection has visited too many databases",
            )
            .hint("DISCARD ALL ends what a session keeps."));
        };
        visit.makes |= database.auto_create;
        Ok(place)
    }

    /// The name of a shard, or of a database that is visited, for people.
    pub(super) fn place_name(&self, place: ShardId) -> Cow<'_, str> {
        let visit = self.keyed.as_ref().and_then(|keyed| keyed.visit(place));
        Cow::Borrowed(visit.map_or_else(|| self.world.map.shard_name(place), |visit| &visit.label))
    }

    /// A shard, or a database that is visited, as a route.
    pub(super) fn route_to(&self, place: ShardId) -> Route {
        let visit = self.keyed.as_ref().and_then(|keyed| keyed.visit(place));
        visit.map_or(Route::One(place), |visit| Route::Database(Arc::clone(&visit.database)))
    }

    /// The shard, in the base's map, whose server takes a cancel request for what runs there.
    pub(super) fn server_of(&self, place: ShardId) -> ShardId {
        let Some(keyed) = &self.keyed else { return place };
        let visited = keyed.visit(place).map(|visit| visit.database.shard);
        visited.or(keyed.home).unwrap_or(place)
    }

    /// A transaction that is in a key's own database does not go on elsewhere, and none goes there.
    pub(super) fn refuse_leaving(&self, other: ShardId) -> Result<(), SqlError> {
        match self.session.transaction.shard() {
            Some(here) if here != other && (is_visit(here) || is_visit(other)) => {
                Err(self.other_shard(other, here))
            }
            _ => Ok(()),
        }
    }

    /// A database that is visited could not be connected to: if it is not there, it is made where the map says
    /// so. True if it may be there now.
    ///
    /// # Errors
    ///
    /// 3D000: it is not there, and is not made.
    pub(super) async fn make_visited(
        &mut self,
        place: ShardId,
        error: &BackendError,
    ) -> Result<bool, SqlError> {
        let missing = matches!(
            error,
            BackendError::Refused(error) if error.code() == SqlState::INVALID_CATALOG_NAME.0
        );
        let visit = self.keyed.as_ref().and_then(|keyed| keyed.visit(place));
        let Some(visit) = visit.filter(|_| missing) else { return Ok(false) };
        let (database, makes) = (Arc::clone(&visit.database), visit.makes);
        let map = Arc::clone(&self.world.map);
        self.make(&map, &database, makes).await?;
        Ok(true)
    }

    /// The session is in its key's own database, and that is not there: it is made where the map says so. False
    /// if the session is in none.
    ///
    /// # Errors
    ///
    /// 3D000: it is not made. What the server says, and 57014.
    pub(super) async fn make_own(&mut self) -> Result<bool, SqlError> {
        let Some(keyed) = self.keyed.as_ref().filter(|keyed| keyed.home.is_some()) else {
            return Ok(false);
        };
        let map = Arc::clone(&keyed.base.shared.store.current().map);
        let own = self.session.user_key.as_deref().or(self.session.key());
        let Some(database) = own.map(|own| database_of(&map, own)).transpose()?.flatten() else {
            return Ok(false);
        };
        if database.name != self.world.map.database() {
            return Err(moved(&database));
        }
        let makes = database.auto_create;
        self.make(&map, &database, makes).await?;
        Ok(true)
    }

    async fn make(
        &mut self,
        map: &ShardMap,
        database: &KeyDatabase,
        makes: bool,
    ) -> Result<(), SqlError> {
        let own = map.key(database.key).and_then(crate::map::Key::databases);
        let (Some(shard), Some(own)) = (map.shard(database.shard), own) else {
            return Err(moved(database));
        };
        if !makes {
            let key = map.key(database.key).map_or("", |key| key.name.as_str());
            let shard = &shard.name;
            return Err(SqlError::new(
                SqlState::INVALID_CATALOG_NAME,
                format!("database \"{}\" does not exist", database.name),
            )
            .detail(format!(
                "It is that of {key} {} and belongs to shard \"{shard}\".",
                database.value
            ))
            .hint(if own.auto_create {
                "It is made by the first INSERT of a row of the key, or by a session of it."
            } else {
                "Create it, or write auto_create = true in the shard map."
            }));
        }
        let made = create_database(&shard.url, &database.name, &own.template);
        match self.cancel.wait(&mut self.io, made).await {
            Ok(made) => made.map_err(|error| {
                let message = format!("database \"{}\" could not be created", database.name);
                SqlError::new(error.code(), message)
                    .detail(format!("Shard \"{}\" says: {error}.", shard.name))
            }),
            Err(impatience) => Err(self.impatient(impatience)),
        }
    }
}

/// The key in whose database the session belongs.
fn own_key(session: &Session) -> Option<&str> {
    let own = session.user_key.as_deref().or(session.key());
    // A shard that is chosen is a scope of its own.
    own.filter(|_| session.shard().is_none())
}

/// Who serves a session with this key, and on which shard of the base's map, if not the base.
fn residence(
    base: &Arc<Worker>,
    key: Option<&str>,
) -> Result<(Arc<Worker>, Option<ShardId>), SqlError> {
    let map = Arc::clone(&base.shared.store.current().map);
    let database = key.map(|key| database_of(&map, key)).transpose()?.flatten();
    match database {
        None => Ok((Arc::clone(base), None)),
        Some(database) => match base.of_database(&database.name) {
            Some(worker) => Ok((worker, Some(database.shard))),
            None => Err(moved(&database)),
        },
    }
}

/// The database of a session's key; `None` if keys of its kind have none.
fn database_of(map: &ShardMap, key: &str) -> Result<Option<KeyDatabase>, SqlError> {
    if !map.session_key().is_some_and(|key| map.has_databases(key)) {
        return Ok(None);
    }
    let (key, value) = scope::resolve_key(map, key)?;
    Ok(map.key_database(key, &value)?)
}

fn moved(database: &KeyDatabase) -> SqlError {
    SqlError::new(
        SqlState::SERIALIZATION_FAILURE,
        format!("database \"{}\" is placed elsewhere meanwhile", database.name),
    )
    .detail("The shard map has changed.")
    .hint("The transaction might succeed if retried.")
}
