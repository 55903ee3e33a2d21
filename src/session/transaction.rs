//! The client's transaction, which may not have reached a shard yet, or several.
//!
//! ```text
//!          BEGIN                first routed statement             a statement of another shard
//!  Idle ──────────► Pending ───────────────────────────► Active ─────────────────────────► Active, several
//!                      │                                   │                                    │
//!                      │ an error of ours                  │ an error of ours                   │
//!                      ▼                                   ▼                                    ▼
//!                   Failed(None)                        Failed(Some(shard)) ◄───────────────────┘
//! ```
//!
//! BEGIN is sent when the first statement has a route. What the client did before (SAVEPOINT, SET
//! TRANSACTION, SET LOCAL) is kept as SQL and sent along with it. A shard that a later statement leads to
//! is *enlisted*: it is told BEGIN, the savepoints and settings (`SessionSettings::late_script`), and from
//! then on savepoints and the end are every enlisted shard's. Which shards these are is not kept here: it
//! is those whose connection is in a transaction. An error that the proxy reports itself fails the
//! transaction as PostgreSQL would: everything but its end is refused with 25P02.

use crate::map::ShardId;
use crate::sql::class::TransactionModes;
use crate::sql::quote::quote_identifier;

/// Where a client's transaction stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Transaction {
    /// None.
    #[default]
    Idle,
    /// Begun by the client, on no shard yet.
    Pending(Pending),
    /// Open on a shard, or on several.
    Active {
        /// The shard it is on; of several, the first one.
        shard: ShardId,
        /// Status byte of its last `ReadyForQuery` (`T` or `E`); of several shards, `E` if any has failed.
        status: u8,
        /// What it did so far.
        deeds: Deeds,
    },
    /// Failed by an error of ours. On its shards the transaction is still open.
    Failed {
        /// The (first) shard it is on, if it had reached one.
        shard: Option<ShardId>,
        /// What it was before, for ROLLBACK TO.
        pending: Pending,
        /// What it did so far.
        deeds: Deeds,
    },
}

/// What an open transaction did, as far as that decides where it may go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deeds {
    /// It is on more than one shard.
    pub several: bool,
    /// A statement ran on all shards, and may have written on each of them.
    pub everywhere: bool,
    /// The shard where it wrote rows, or may have; of several, the one that will decide.
    pub writer: Option<ShardId>,
    /// It wrote on others, too.
    pub two_phase: bool,
    /// It ran code that may have left something on its connection (a setting, a temporary table): a shard
    /// that is enlisted later would not have it.
    pub opaque: bool,
    /// What it calls now, in microseconds since 1970, if that had to be known: its first shard's word.
    pub moment: Option<i64>,
}

/// What has to be said to a shard before the transaction's first statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// BEGIN with its modes.
    pub begin: String,
    /// Statements that came after it.
    pub prelude: Vec<String>,
    /// Savepoints among them: name and how many statements precede it.
    savepoints: Vec<(String, usize)>,
}

impl Pending {
    /// BEGIN was read.
    pub fn new(modes: TransactionModes) -> Self {
        Self { begin: begin_sql(modes), prelude: Vec::new(), savepoints: Vec::new() }
    }

    /// The same BEGIN again, for AND CHAIN.
    #[must_use]
    pub fn chained(&self) -> Self {
        Self { begin: self.begin.clone(), ..Self::default() }
    }

    /// A statement that only matters once there is a shard.
    pub fn push(&mut self, sql: &str) {
        self.prelude.push(sql.to_owned());
    }

    /// SAVEPOINT.
    pub fn savepoint(&mut self, name: &str) {
        self.savepoints.push((name.to_owned(), self.prelude.len()));
        self.prelude.push(format!("SAVEPOINT {}", quote_identifier(name)));
    }

    /// ROLLBACK TO: forgets what came after it; false if there is no such savepoint.
    pub fn rollback_to(&mut self, name: &str) -> bool {
        let Some(at) = self.savepoints.iter().rposition(|(n, _)| n == name) else {
            return false;
        };
        let keep = self.savepoints.get(at).map_or(0, |(_, before)| before + 1);
        self.savepoints.truncate(at + 1);
        self.prelude.truncate(keep);
        true
    }

    /// RELEASE: false if there is no such savepoint.
    pub fn release(&mut self, name: &str) -> bool {
        let Some(at) = self.savepoints.iter().rposition(|(n, _)| n == name) else {
            return false;
        };
        self.savepoints.truncate(at);
        self.prelude.push(format!("RELEASE SAVEPOINT {}", quote_identifier(name)));
        true
    }

    /// The SQL to send; a lone BEGIN can't fail and needs no round trip of its own.
    pub fn sql(&self) -> String {
        let mut sql = self.begin.clone();
        for statement in &self.prelude {
            sql.push_str("; ");
            sql.push_str(statement);
        }
        sql
    }

    /// Something in it outlives the transaction if that is committed: a setting.
    pub fn has_settings(&self) -> bool {
        let savepoint = |sql: &String| sql.starts_with("SAVEPOINT") || sql.starts_with("RELEASE");
        !self.prelude.iter().all(savepoint)
    }

    /// Nothing is known of it but that it is to be ended: the shard it was on is lost.
    pub fn is_lost(&self) -> bool {
        self.begin.is_empty()
    }

    /// It is BEGIN alone.
    pub fn is_plain(&self) -> bool {
        self.prelude.is_empty()
    }
}

impl Transaction {
    /// The status byte of `ReadyForQuery` that the client should see.
    pub fn status(&self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Pending(_) => b'T',
            Self::Active { status, .. } => *status,
            Self::Failed { .. } => b'E',
        }
    }

    /// The shard it is on.
    pub fn shard(&self) -> Option<ShardId> {
        match self {
            Self::Active { shard, .. } => Some(*shard),
            Self::Failed { shard, .. } => *shard,
            Self::Idle | Self::Pending(_) => None,
        }
    }

    /// It is open on more than one shard.
    pub fn is_several(&self) -> bool {
        self.deeds().several
    }

    /// What it did so far.
    pub fn deeds(&self) -> Deeds {
        match self {
            Self::Active { deeds, .. } | Self::Failed { deeds, .. } => *deeds,
            Self::Idle | Self::Pending(_) => Deeds::default(),
        }
    }

    /// A statement was sent to a shard within it.
    pub fn note(&mut self, shard: ShardId, writes: bool, opaque: bool) {
        if let Self::Active { deeds, .. } | Self::Failed { deeds, .. } = self {
            deeds.opaque |= opaque;
            if writes || opaque {
                deeds.writer.get_or_insert(shard);
            }
        }
    }

    /// It is about to write on another shard than the one where it wrote before; this one of all will decide.
    pub fn write_on_several(&mut self, coordinator: ShardId) {
        if let Self::Active { deeds, .. } | Self::Failed { deeds, .. } = self {
            (deeds.writer, deeds.two_phase) = (Some(coordinator), true);
        }
    }

    /// What it calls now was asked for.
    pub fn note_moment(&mut self, moment: i64) {
        if let Self::Active { deeds, .. } | Self::Failed { deeds, .. } = self {
            deeds.moment = Some(moment);
        }
    }

    /// One more shard was told of it.
    pub fn enlist(&mut self) {
        if let Self::Active { deeds, .. } = self {
            deeds.several = true;
        }
    }

    /// AND CHAIN was done on every shard that it is on: the next one is on the same.
    pub fn chain(&mut self) {
        if let Some(shard) = self.shard() {
            let deeds = Deeds { several: self.is_several(), ..Deeds::default() };
            *self = Self::Active { shard, status: b'T', deeds };
        }
    }

    /// A statement ran on all shards.
    pub fn note_everywhere(&mut self) {
        if let Self::Active { deeds, .. } = self {
            deeds.everywhere = true;
        }
    }

    /// ROLLBACK TO was done on every shard that it is on: it goes on.
    pub fn resume(&mut self) {
        match std::mem::take(self) {
            Self::Active { shard, deeds, .. } | Self::Failed { shard: Some(shard), deeds, .. } => {
                *self = Self::Active { shard, status: b'T', deeds };
            }
            other => *self = other,
        }
    }

    /// In a transaction block.
    pub fn is_open(&self) -> bool {
        !matches!(self, Self::Idle)
    }

    /// The proxy reported an error within it.
    pub fn fail(&mut self) {
        match std::mem::take(self) {
            Self::Idle => {}
            Self::Pending(pending) => {
                *self = Self::Failed { shard: None, pending, deeds: Deeds::default() };
            }
            Self::Active { shard, status: b'T', deeds } => {
                let pending = Pending::default();
                *self = Self::Failed { shard: Some(shard), pending, deeds };
            }
            other => *self = other,
        }
    }

    /// The shard is lost and the transaction with it: only its end can follow.
    pub fn lose_shard(&mut self) {
        if self.is_open() {
            let deeds = self.deeds();
            *self = Self::Failed { shard: None, pending: Pending::default(), deeds };
        }
    }

    /// Whether [`Self::lose_shard`] was the last that happened to it.
    pub fn has_lost_its_shard(&self) -> bool {
        matches!(self, Self::Failed { shard: None, .. })
    }

    /// What a shard's `ReadyForQuery` says about it.
    pub fn settle(&mut self, shard: ShardId, status: u8) {
        match (status, &mut *self) {
            (b'I', _) => *self = Self::Idle,
            // Of several shards, one that is well does not mend the others.
            (status, Self::Active { status: own, deeds: Deeds { several: true, .. }, .. }) => {
                *own = if status == b'E' { status } else { *own };
            }
            (_, Self::Active { shard: first, status: own, .. }) => {
                (*first, *own) = (shard, status);
            }
            (status, _) => {
                let deeds = self.deeds();
                *self = Self::Active { shard, status, deeds };
            }
        }
    }
}

/// BEGIN with its modes, as PostgreSQL reads them.
pub fn begin_sql(modes: TransactionModes) -> String {
    format!("BEGIN{}", modes_sql(modes))
}

/// What a second BEGIN with modes does; `None` if it has none.
pub fn set_transaction_sql(modes: TransactionModes) -> Option<String> {
    (modes != TransactionModes::default()).then(|| format!("SET TRANSACTION{}", modes_sql(modes)))
}

fn modes_sql(modes: TransactionModes) -> String {
    use crate::sql::class::Isolation;
    let mut sql = String::new();
    match modes.isolation {
        Some(Isolation::ReadUncommitted) => sql.push_str(" ISOLATION LEVEL READ UNCOMMITTED"),
        Some(Isolation::ReadCommitted) => sql.push_str(" ISOLATION LEVEL READ COMMITTED"),
        Some(Isolation::RepeatableRead) => sql.push_str(" ISOLATION LEVEL REPEATABLE READ"),
        Some(Isolation::Serializable) => sql.push_str(" ISOLATION LEVEL SERIALIZABLE"),
        None => {}
    }
    match modes.read_only {
        Some(true) => sql.push_str(" READ ONLY"),
        Some(false) => sql.push_str(" READ WRITE"),
        None => {}
    }
    match modes.deferrable {
        Some(true) => sql.push_str(" DEFERRABLE"),
        Some(false) => sql.push_str(" NOT DEFERRABLE"),
        None => {}
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> Pending {
        Pending::new(TransactionModes { read_only: Some(true), ..TransactionModes::default() })
    }

    fn active(shard: u16, status: u8) -> Transaction {
        Transaction::Active { shard: ShardId(shard), status, deeds: Deeds::default() }
    }

    #[test]
    fn savepoints_before_the_first_shard_are_replayed() {
        let mut p = pending();
        p.savepoint("a");
        p.push("SET LOCAL work_mem TO '1MB'");
        p.savepoint("b");
        assert!(p.rollback_to("a"));
        assert!(!p.rollback_to("b"));
        assert_eq!(p.sql(), "BEGIN READ ONLY; SAVEPOINT \"a\"");
        assert!(p.release("a"));
        assert!(!p.release("a"));
        assert_eq!(p.sql(), "BEGIN READ ONLY; SAVEPOINT \"a\"; RELEASE SAVEPOINT \"a\"");
    }

    #[test]
    fn an_error_of_ours_fails_it() {
        let mut t = Transaction::Pending(pending());
        t.fail();
        assert_eq!(t.status(), b'E');
        assert_eq!(t.shard(), None);
        let mut t = active(2, b'T');
        t.fail();
        assert_eq!((t.status(), t.shard()), (b'E', Some(ShardId(2))));
        let mut t = Transaction::Idle;
        t.fail();
        assert_eq!(t, Transaction::Idle);
    }

    #[test]
    fn the_shards_word_settles_it() {
        let mut t = Transaction::Pending(pending());
        t.settle(ShardId(1), b'T');
        assert_eq!(t.shard(), Some(ShardId(1)));
        t.settle(ShardId(1), b'E');
        t.fail();
        assert_eq!(t, active(1, b'E'));
        t.settle(ShardId(1), b'I');
        assert!(!t.is_open());
    }

    #[test]
    fn of_several_shards_one_error_fails_all_until_rollback_to() {
        let mut t = active(1, b'T');
        t.note(ShardId(1), true, false);
        t.enlist();
        t.settle(ShardId(2), b'E');
        t.settle(ShardId(1), b'T');
        assert_eq!((t.status(), t.shard()), (b'E', Some(ShardId(1))));
        t.resume();
        assert_eq!(t.status(), b'T');
        t.fail();
        t.resume();
        let deeds = t.deeds();
        assert_eq!((deeds.several, deeds.writer, deeds.opaque), (true, Some(ShardId(1)), false));
    }
}
