//! BEGIN, COMMIT, ROLLBACK, SAVEPOINT …: what the session follows itself, and what the transaction's shard
//! must be told.

use super::Executor;
use crate::config::PoolMode;
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::session::transaction::{Pending, Transaction, set_transaction_sql};
use crate::sql::class::{Class, TransactionModes};

/// PostgreSQL's own words (`exec_simple_query`).
pub(super) fn aborted() -> SqlError {
    SqlError::new(
        SqlState::IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// What a transaction statement leaves to do.
pub(super) enum Control {
    /// Nothing: the client can be told this command tag.
    Answered(&'static str),
    /// The same, with a warning before it.
    Warned(SqlError, &'static str),
    /// This must be said to the transaction's shard.
    Forward(ShardId, String),
    /// This must be said to all shards that the transaction is on.
    Tell(String),
}

/// Transaction statements that the session follows itself.
pub(super) fn is_control(class: &Class) -> bool {
    matches!(
        class,
        Class::Begin(_)
            | Class::Commit { .. }
            | Class::Rollback { .. }
            | Class::Savepoint(_)
            | Class::Release(_)
            | Class::RollbackTo(_)
    )
}

impl Executor {
    /// With `pool.mode = "statement"` no transaction block begins; the words are other poolers'.
    pub(super) fn refuse_block(&self, class: &Class) -> Result<(), SqlError> {
        let allowed = self.worker.shared.config.pool.mode != PoolMode::Statement;
        if allowed || !matches!(class, Class::Begin(_)) {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "transaction blocks not allowed in statement pooling mode",
        )
        .hint("Set pool.mode to \"transaction\" or \"session\"."))
    }

    /// What a failed transaction accepts (`IsTransactionExitStmt`).
    pub(super) fn ends_failure(&self, class: &Class) -> bool {
        match class {
            Class::Commit { .. } | Class::Rollback { .. } | Class::RollbackTo(_) => true,
            // The shard makes a rollback of it. One that does not know of the failure would prepare.
            Class::PrepareTransaction => self.failed_on_shard(),
            _ => false,
        }
    }

    /// The shard knows that the transaction has failed, and says what is wrong with a statement that it
    /// can't even read.
    pub(super) fn failed_on_shard(&self) -> bool {
        matches!(self.session.transaction, Transaction::Active { status: b'E', .. })
            && !self.session.transaction.is_several()
    }

    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT …: what can be done without a shard is done.
    pub(super) fn control(&mut self, class: &Class, text: &str) -> Result<Control, SqlError> {
        self.refuse_block(class)?;
        if self.session.transaction.is_several() {
            return self.control_of_several(class, text);
        }
        match class {
            Class::Begin(modes) => {
                let start = text.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("start"));
                let tag = if start { "START TRANSACTION" } else { "BEGIN" };
                if let Transaction::Active { shard, .. } = &self.session.transaction {
                    // Its modes are applied to the transaction that there is, if that may still be.
                    return Ok(Control::Forward(*shard, text.to_owned()));
                }
                if let (Transaction::Pending(pending), true) =
                    (&mut self.session.transaction, *modes != TransactionModes::default())
                {
                    pending.push(text);
                    if let Some(sql) = set_transaction_sql(*modes) {
                        self.session.settings.say(&sql);
                    }
                }
                if self.session.transaction.is_open() {
                    let warning = SqlError::new(
                        SqlState::ACTIVE_SQL_TRANSACTION,
                        "there is already a transaction in progress",
                    );
                    return Ok(Control::Warned(warning, tag));
                }
                self.session.transaction = Transaction::Pending(Pending::new(*modes));
                self.session.modes = Some(*modes);
                self.session.inherited = Some(TransactionModes::default());
                self.session.settings.begin();
                Ok(Control::Answered(tag))
            }
            Class::Commit { chain } => self.end_transaction(true, *chain, text),
            Class::Rollback { chain } => self.end_transaction(false, *chain, text),
            Class::Savepoint(name) => self.savepoint(name, text),
            Class::Release(name) => self.release(name, text),
            Class::RollbackTo(name) => self.rollback_to(name, text),
            _ => Err(SqlError::new(SqlState::INTERNAL_ERROR, "not a transaction statement")),
        }
    }

    fn control_of_several(&self, class: &Class, text: &str) -> Result<Control, SqlError> {
        let lost = self.session.transaction.shard().is_none();
        match class {
            Class::Begin(_) | Class::Savepoint(_) | Class::Release(_)
                if self.session.transaction.status() == b'E' =>
            {
                Err(aborted())
            }
            Class::RollbackTo(name) if lost => Err(no_savepoint(name)),
            _ => Ok(Control::Tell(text.to_owned())),
        }
    }

    fn end_transaction(
        &mut self,
        commit: bool,
        chain: bool,
        text: &str,
    ) -> Result<Control, SqlError> {
        let tag = if commit { "COMMIT" } else { "ROLLBACK" };
        match &self.session.transaction {
            Transaction::Idle if chain => Err(SqlError::new(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                format!("{tag} AND CHAIN can only be used in transaction blocks"),
            )),
            Transaction::Idle => {
                let warning = SqlError::new(
                    SqlState::NO_ACTIVE_SQL_TRANSACTION,
                    "there is no transaction in progress",
                );
                Ok(Control::Warned(warning, tag))
            }
            Transaction::Active { shard, .. } => Ok(Control::Forward(*shard, text.to_owned())),
            // On its shard it is well, and would hand its modes on.
            Transaction::Failed { shard: Some(_), .. } if chain && !self.keeps_modes() => {
                Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "AND CHAIN is not supported after an error of the proxy's in a transaction with modes of its own",
                )
                .hint(format!("Send {tag}, then BEGIN.")))
            }
            Transaction::Failed { shard: Some(shard), .. } => {
                let sql = if chain { "ROLLBACK AND CHAIN" } else { "ROLLBACK" };
                Ok(Control::Forward(*shard, sql.to_owned()))
            }
            // The settings are a shard's to accept, even if no statement needed one.
            Transaction::Pending(pending) if commit && pending.has_settings() => {
                Ok(Control::Forward(self.world.map.default_shard(), text.to_owned()))
            }
            Transaction::Failed { shard: None, pending, .. } if chain && pending.is_lost() => {
                Err(SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "AND CHAIN is not supported after the transaction's shard was lost",
                )
                .hint("Send ROLLBACK, then BEGIN."))
            }
            Transaction::Pending(pending) | Transaction::Failed { shard: None, pending, .. } => {
                let failed = matches!(self.session.transaction, Transaction::Failed { .. });
                let chained = if failed {
                    self.session.modes = self.session.inherited;
                    Pending::new(self.session.inherited.unwrap_or_default())
                } else {
                    pending.chained()
                };
                self.session.inherited = self.session.modes;
                self.session.settings.end(commit && !failed);
                self.portals.clear();
                self.session.transaction = if chain {
                    self.session.settings.begin();
                    Transaction::Pending(chained)
                } else {
                    Transaction::Idle
                };
                self.follow_settings();
                Ok(Control::Answered(if failed { "ROLLBACK" } else { tag }))
            }
        }
    }

    /// An error takes no modes of the open transaction back.
    fn keeps_modes(&self) -> bool {
        self.session.modes.is_some()
            && self.session.modes == self.session.inherited
            && !self.session.settings.has_said()
    }

    fn savepoint(&mut self, name: &str, text: &str) -> Result<Control, SqlError> {
        match &mut self.session.transaction {
            Transaction::Idle => Err(outside("SAVEPOINT")),
            Transaction::Pending(pending) => {
                pending.savepoint(name);
                self.session.settings.savepoint(name);
                Ok(Control::Answered("SAVEPOINT"))
            }
            Transaction::Active { shard, .. } => Ok(Control::Forward(*shard, text.to_owned())),
            Transaction::Failed { .. } => Err(aborted()),
        }
    }

    fn release(&mut self, name: &str, text: &str) -> Result<Control, SqlError> {
        match &mut self.session.transaction {
            Transaction::Idle => Err(outside("RELEASE SAVEPOINT")),
            Transaction::Pending(pending) => {
                if !pending.release(name) {
                    return Err(no_savepoint(name));
                }
                self.session.settings.release(name);
                Ok(Control::Answered("RELEASE"))
            }
            Transaction::Active { shard, .. } => Ok(Control::Forward(*shard, text.to_owned())),
            Transaction::Failed { .. } => Err(aborted()),
        }
    }

    fn rollback_to(&mut self, name: &str, text: &str) -> Result<Control, SqlError> {
        match &mut self.session.transaction {
            Transaction::Idle => Err(outside("ROLLBACK TO SAVEPOINT")),
            Transaction::Pending(pending) => {
                if !pending.rollback_to(name) {
                    return Err(no_savepoint(name));
                }
                self.session.settings.rollback_to(name);
                Ok(Control::Answered("ROLLBACK"))
            }
            Transaction::Active { shard, .. } | Transaction::Failed { shard: Some(shard), .. } => {
                Ok(Control::Forward(*shard, text.to_owned()))
            }
            Transaction::Failed { shard: None, pending, .. } => {
                if !pending.rollback_to(name) {
                    return Err(no_savepoint(name));
                }
                let pending = std::mem::take(pending);
                self.session.transaction = Transaction::Pending(pending);
                self.session.settings.rollback_to(name);
                Ok(Control::Answered("ROLLBACK"))
            }
        }
    }
}

fn outside(command: &str) -> SqlError {
    SqlError::new(
        SqlState::NO_ACTIVE_SQL_TRANSACTION,
        format!("{command} can only be used in transaction blocks"),
    )
}

fn no_savepoint(name: &str) -> SqlError {
    SqlError::new(SqlState("3B001"), format!("savepoint \"{name}\" does not exist"))
}
