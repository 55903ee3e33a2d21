//! The client's protocol state: settings, transaction, scope, what it was last told.
//!
//! Main types: [`Session`], [`transaction::Transaction`], [`settings::SessionSettings`],
//! [`responses::Responses`]. Pure: frames and statements come in as values, nothing here awaits, reads a
//! clock or knows a socket; `exec` does what it says.

pub mod responses;
pub mod settings;
pub mod transaction;
mod wording;

use settings::SessionSettings;
use transaction::Transaction;

use crate::map::ShardId;
use crate::sql::class::{Isolation, TransactionModes};
use crate::sql::temporary::TemporaryNames;

/// What a client has told us so far.
#[derive(Debug, Default)]
pub struct Session {
    /// Who it logged in as; also the role on the shards.
    pub user: String,
    /// May give hints and choose shards.
    pub hints: bool,
    /// The key this user is confined to.
    pub user_key: Option<String>,
    /// May read rows of fenced regions together with others.
    pub across_regions: bool,
    /// PostgreSQL settings.
    pub settings: SessionSettings,
    /// The transaction.
    pub transaction: Transaction,
    /// The modes of its BEGIN; `None` when nobody saw it begin.
    pub modes: Option<TransactionModes>,
    /// What an error leaves of them: those that it has by AND CHAIN (`AtEOXact_GUC` takes back what was set,
    /// `RestoreTransactionCharacteristics` sets nothing).
    pub inherited: Option<TransactionModes>,
    /// Its temporary tables: where they are, and what they are called.
    pub temporary: Option<(ShardId, TemporaryNames)>,
    /// `SET pgmeridian.trace`. It is on or off at once, whatever becomes of the transaction.
    pub trace: bool,
    /// A statement within the open transaction changed the schema.
    pub schema_changed: bool,
    /// The same, since the transaction's own schema was last read.
    pub schema_stale: bool,
}

impl Session {
    /// `SET pgmeridian.shard`.
    pub fn shard(&self) -> Option<&str> {
        self.settings.current().value("pgmeridian.shard")
    }

    /// `SET pgmeridian.key`, or the map's `key_setting`.
    pub fn key(&self) -> Option<&str> {
        self.settings.current().value("pgmeridian.key")
    }

    /// `SET pgmeridian.region`.
    pub fn region(&self) -> Option<&str> {
        self.settings.current().value("pgmeridian.region")
    }

    /// Nothing but its statements says where they go.
    pub fn is_unscoped(&self) -> bool {
        self.user_key.is_none() && self.settings.current().is_servers_alone()
    }

    /// It has a temporary table of this name.
    pub fn has_temporary(&self, table: &str) -> bool {
        self.temporary.as_ref().is_some_and(|(_, names)| names.has(table))
    }

    /// The open transaction sees rows that another connection would not: its own, or those of a snapshot that it
    /// keeps.
    pub fn reads_own_rows(&self) -> bool {
        if !self.transaction.is_open() {
            return false;
        }
        let deeds = self.transaction.deeds();
        let isolation = self.modes.map(|modes| modes.isolation);
        let keeps = !matches!(
            isolation,
            Some(None | Some(Isolation::ReadUncommitted | Isolation::ReadCommitted))
        );
        keeps
            || deeds.writer.is_some()
            || deeds.everywhere
            || deeds.opaque
            || self.settings.has_said()
    }
}
