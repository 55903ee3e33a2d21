//! Where the session's cursors are: FETCH, MOVE and CLOSE go to the shard that DECLARE went to.
//!
//! What a ROLLBACK TO has taken away stays here, and its shard says that there is no such cursor.

use std::borrow::Cow;

use super::Executor;
use super::pins::Pin;
use crate::map::ShardId;
use crate::plan::{Plan, Route};
use crate::sql::class::Class;

/// Cursors that are remembered. What is declared beyond them is found as long as the transaction is on one shard.
const CURSORS_MAX: usize = 1_000;

/// Cursors by name. Few sessions have any, and those are to be no larger for it.
#[derive(Debug, Default)]
pub(super) struct Cursors(Option<Box<All>>);

/// Their names, and where they are.
type All = Vec<(Box<str>, ShardId)>;

impl Cursors {
    fn shard(&self, name: &str) -> Option<ShardId> {
        let mut all = self.0.iter().flat_map(|all| all.iter());
        all.find(|(own, _)| **own == *name).map(|(_, shard)| *shard)
    }

    fn remove(&mut self, name: &str) {
        if let Some(all) = &mut self.0 {
            all.retain(|(own, _)| **own != *name);
        }
    }

    fn insert(&mut self, name: &str, shard: ShardId) {
        self.remove(name);
        let all = self.0.get_or_insert_default();
        if all.len() < CURSORS_MAX {
            all.push((name.into(), shard));
        }
    }

    /// The shards have other numbers now; those of some are gone.
    pub(super) fn renumber(&mut self, now: impl Fn(ShardId) -> Option<ShardId>) {
        if let Some(all) = &mut self.0 {
            all.retain_mut(|(_, shard)| now(*shard).map(|new| *shard = new).is_some());
        }
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }
}

impl Executor {
    /// The shard of a cursor.
    pub(super) fn cursor_named(&self, name: &[u8]) -> Option<ShardId> {
        self.cursors.shard(std::str::from_utf8(name).ok()?)
    }

    /// The shard of the cursor that a statement is about; of UNLISTEN, the one where the session listens.
    pub(super) fn cursor_of(&self, class: &Class) -> Option<ShardId> {
        match class {
            Class::Fetch(Some(name)) | Class::Close(Some(name)) => self.cursors.shard(name),
            Class::Unlisten => {
                self.held.iter().find(|held| held.pins.has(Pin::Listen)).map(|held| held.shard)
            }
            _ => None,
        }
    }

    /// What may go anywhere goes to the shard of its cursor.
    pub(super) fn at_its_cursor<'p>(&self, class: &Class, plan: &'p Plan) -> Cow<'p, Plan> {
        match self.cursor_of(class) {
            Some(shard) if plan.route == Route::Any => {
                Cow::Owned(Plan { route: Route::One(shard), ..plan.clone() })
            }
            _ => Cow::Borrowed(plan),
        }
    }

    /// A statement was carried out on this shard.
    pub(super) fn note_cursor(&mut self, class: &Class, shard: ShardId) {
        match class {
            Class::Declare(Some(name)) => self.cursors.insert(name, shard),
            Class::Close(Some(name)) => self.cursors.remove(name),
            _ => {}
        }
    }

    /// The transaction has ended: cursors WITH HOLD are where a connection is kept for them.
    pub(super) fn forget_cursors(&mut self) {
        let held = &self.held;
        let keeps = |at: ShardId| held.iter().any(|h| h.shard == at && h.pins.has(Pin::HoldCursor));
        if let Some(mut all) = self.cursors.0.take() {
            all.retain(|(_, shard)| keeps(*shard));
            self.cursors.0 = Some(all).filter(|all| !all.is_empty());
        }
    }
}
