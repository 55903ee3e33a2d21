//! The pools of all shards and logins: [`Pools`], and one login's share of them, [`ShardPools`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use dashmap::DashMap;
use deadpool::managed;

use super::super::books::{Books, ShardBook};
use super::hot::Hot;
use super::login::Login;
use super::manager::{Manager, build, worn_out};
use super::{Pool, PoolSettings, PoolStatus};
use crate::backend::breaker::Breaker;
use crate::backend::clock;
use crate::backend::target::Target;
use crate::map::ShardId;

/// The pools of all shards and logins.
pub struct Pools {
    settings: Arc<PoolSettings>,
    books: Arc<Books>,
    shards: Vec<Shard>,
    by_login: DashMap<(String, Option<String>), Arc<ShardPools>>,
}

struct Shard {
    name: Arc<str>,
    target: Target,
    breaker: Arc<Breaker>,
    book: Arc<ShardBook>,
}

impl Pools {
    /// Pools for these shards (name and target, in the order of their [`ShardId`]s). No connection is
    /// made yet.
    pub fn new(settings: PoolSettings, shards: impl IntoIterator<Item = (String, Target)>) -> Self {
        Self::with_books(settings, Arc::default(), shards)
    }

    /// The same, with books that others read.
    pub fn with_books(
        settings: PoolSettings,
        books: Arc<Books>,
        shards: impl IntoIterator<Item = (String, Target)>,
    ) -> Self {
        let shards = shards
            .into_iter()
            .map(|(name, target)| Shard {
                book: books.shard(&name),
                name: name.into(),
                target,
                breaker: Arc::new(Breaker::new(settings.breaker)),
            })
            .collect();
        Self { settings: Arc::new(settings), books, shards, by_login: DashMap::new() }
    }

    /// Pools for the shards of another map. Shards that are the same there keep their connections and
    /// their breaker; those of the others are closed, in use ones when their clients are done with them.
    #[must_use]
    pub fn succeeded_by(&self, shards: impl IntoIterator<Item = (String, Target)>) -> Self {
        let settings = PoolSettings::clone(&self.settings);
        let mut heirs = Self::with_books(settings, Arc::clone(&self.books), shards);
        let old = |shard: &Shard| {
            self.shards.iter().position(|o| o.name == shard.name && o.target == shard.target)
        };
        let kept: Vec<Option<usize>> = heirs.shards.iter().map(old).collect();
        for (shard, old) in heirs.shards.iter_mut().zip(&kept) {
            if let Some(old) = old.and_then(|at| self.shards.get(at)) {
                shard.breaker = Arc::clone(&old.breaker);
            }
        }
        for known in &self.by_login {
            let pools = heirs.shards.iter().zip(&kept).map(|(shard, old)| {
                let old = old.and_then(|at| known.pools.get(at)).map(Arc::clone);
                old.unwrap_or_else(|| Arc::new(heirs.pool(shard, &known.login)))
            });
            let pools = ShardPools { login: known.login.clone(), pools: pools.collect() };
            heirs.by_login.insert(known.key().clone(), Arc::new(pools));
            for (at, pool) in known.pools.iter().enumerate() {
                if !kept.contains(&Some(at)) {
                    pool.retire();
                }
            }
        }
        heirs
    }

    /// Closes what is free of a shard's connections.
    pub fn close_idle(&self, shard: &str) {
        for pools in &self.by_login {
            for pool in pools.pools.iter().filter(|pool| &*pool.shard == shard) {
                pool.close_idle();
            }
        }
    }

    /// The pools of one login, made when it is first seen. To be kept by who asks: this locks.
    pub fn of(&self, login: &Login) -> Arc<ShardPools> {
        let key = (login.user.clone(), login.database.clone());
        if let Some(known) = self.by_login.get(&key)
            && known.login == *login
        {
            return Arc::clone(&known);
        }
        let pools = Arc::new(ShardPools {
            login: login.clone(),
            pools: self.shards.iter().map(|shard| Arc::new(self.pool(shard, login))).collect(),
        });
        // A login whose password has changed gets new pools; what was leased from the old ones ends as
        // it would have.
        self.by_login.insert(key, Arc::clone(&pools));
        pools
    }

    fn pool(&self, shard: &Shard, login: &Login) -> Pool {
        let manager = Manager {
            shard: Arc::clone(&shard.name),
            target: Arc::new(login.target(&shard.target)),
            settings: Arc::clone(&self.settings),
            breaker: Arc::clone(&shard.breaker),
            books: Arc::clone(&self.books),
            book: Arc::clone(&shard.book),
            retired: Arc::default(),
            // What is in reserve is for those who have waited.
            hot: None,
        };
        let retired = Arc::clone(&manager.retired);
        let database = manager.target.database.clone();
        let reserve = (self.settings.reserve > 0)
            .then(|| build(manager.clone(), self.settings.reserve))
            .flatten();
        let hot = Arc::new(Hot::default());
        let manager = Manager { hot: Some(Arc::clone(&hot)), ..manager };
        Pool {
            shard: Arc::clone(&shard.name),
            settings: Arc::clone(&self.settings),
            book: Arc::clone(&shard.book),
            retired,
            hot,
            database,
            at_gate: AtomicUsize::new(0),
            main: build(manager, self.settings.size.max(1)),
            reserve,
        }
    }

    /// Closes connections that were unused for too long or are too old. To be called now and then:
    /// a pool by itself only looks at the connection that it is about to lease.
    pub fn sweep(&self, now: Instant) {
        clock::note(now);
        for pools in &self.by_login {
            for pool in &pools.pools {
                pool.retain(|connection| worn_out(connection, &self.settings, now).is_none());
            }
        }
    }

    /// A state of every pool, for SHOW POOLS.
    pub fn status(&self) -> Vec<PoolStatus> {
        let mut rows = Vec::new();
        for pools in &self.by_login {
            for (index, pool) in pools.pools.iter().enumerate() {
                let mut row = pool.status();
                row.user.clone_from(&pools.login.user);
                row.reachable =
                    self.shards.get(index).is_none_or(|shard| shard.breaker.is_closed());
                rows.push(row);
            }
        }
        rows
    }

    /// The shard of this name could be reached when it was last tried, or is none of these.
    pub fn reachable_by_name(&self, name: &str) -> bool {
        let shard = self.shards.iter().find(|shard| &*shard.name == name);
        shard.is_none_or(|shard| shard.breaker.is_closed())
    }

    /// The shard could be reached when it was last tried.
    pub fn reachable(&self, shard: ShardId) -> bool {
        self.shards.get(usize::from(shard.0)).is_none_or(|shard| shard.breaker.is_closed())
    }

    /// Closes everything that is free and refuses what is asked for from now on.
    pub fn close(&self) {
        for pools in &self.by_login {
            for pool in &pools.pools {
                pool.hot.close();
                pool.parts().for_each(managed::Pool::close);
            }
        }
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.status()).finish()
    }
}

/// One login's pools, by shard.
pub struct ShardPools {
    login: Login,
    pools: Box<[Arc<Pool>]>,
}

impl ShardPools {
    /// The pool of a shard; `None` for one that the map of these pools doesn't have.
    pub fn shard(&self, shard: ShardId) -> Option<&Pool> {
        self.pools.get(usize::from(shard.0)).map(|pool| &**pool)
    }

    /// The login.
    pub fn login(&self) -> &Login {
        &self.login
    }
}

impl fmt::Debug for ShardPools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pools.iter().map(|pool| pool.status())).finish()
    }
}
