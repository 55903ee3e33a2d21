//! What is between two Syncs when a unit ends with Flush: [`Batch`].

use crate::map::ShardId;
use crate::session::settings::SessionSettings;
use crate::sql::class::Class;

/// What a unit leaves open when it ends with Flush.
#[derive(Default)]
pub(in crate::exec) struct Batch {
    /// An error was reported: everything up to Sync is skipped.
    pub(super) skipping: bool,
    /// Something was bound or executed on this shard since the last Sync.
    pub(super) open_on: Option<ShardId>,
    /// The error was ours and the shard does not know of it.
    pub(super) ours: bool,
    /// In a transaction block, as far as the messages went.
    pub(super) block: Option<bool>,
    /// In a failed one.
    pub(super) failed: Option<bool>,
    /// The settings once the effects have come, if there are any.
    pub(super) after: Option<Box<SessionSettings>>,
    /// A query was parsed since the last Sync: by then PostgreSQL has taken a snapshot.
    pub(super) read: bool,
    pub(super) writes: bool,
    pub(super) taints: bool,
    pub(super) changes_schema: bool,
    /// Statements that were carried out and concern the session.
    pub(super) effects: Vec<Class>,
    /// The connection has known a statement of the unit for longer than the client.
    pub(super) older: bool,
    /// Statements that the connection is to forget.
    pub(super) outdated: Vec<Vec<u8>>,
    /// The unit's bytes, kept for their capacity.
    pub(super) buffer: Vec<u8>,
}

impl Batch {
    /// Messages were sent that no Sync has followed yet.
    pub(in crate::exec) fn is_open(&self) -> bool {
        self.open_on.is_some()
    }

    /// The shard that they went to.
    pub(in crate::exec) fn open_on(&self) -> Option<ShardId> {
        self.open_on
    }

    /// Everything up to Sync is skipped.
    pub(in crate::exec) fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// The transaction that its messages were part of has ended.
    pub(in crate::exec) fn is_over(&mut self) {
        self.read = false;
    }

    /// Takes what it has done to the session.
    pub(in crate::exec) fn take_effects(&mut self) -> Vec<Class> {
        std::mem::take(&mut self.effects)
    }
}
