//! The client's protocol state: settings, transaction, scope, what it was last told.
//!
//! Main types: [`Session`], [`transaction::Transaction`], [`settings::SessionSettings`],
//! [`responses::Responses`]. Pure: frames and statements come in as values, nothing here awaits, reads a
//! clock or knows a socket; `exec` does what it says.

pub mod responses;
pub mod settings;
pub mod transaction;

use settings::SessionSettings;
use transaction::Transaction;

use crate::map::ShardId;
use crate::sql::class::TransactionModes;
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
    /// PostgreSQL settings.
    pub settings: SessionSettings,
    /// The transaction.
    pub transaction: Transaction,
    /// The modes of its BEGIN; `None` when nobody saw it begin.
    pub modes: Option<TransactionModes>,
    /// `SET pgmeridian.shard`.
    pub shard: Option<String>,
    /// `SET pgmeridian.key`, or the map's `key_setting`.
    pub key: Option<String>,
    /// `SET pgmeridian.region`.
    pub region: Option<String>,
    /// Its temporary tables: where they are, and what they are called.
    pub temporary: Option<(ShardId, TemporaryNames)>,
    /// `SET pgmeridian.trace`.
    pub trace: bool,
    /// A statement within the open transaction changed the schema.
    pub schema_changed: bool,
    /// The same, since the transaction's own schema was last read.
    pub schema_stale: bool,
}
