//! What the messages of a unit have done to the session while they were read.
//!
//! A unit is read to its end before its shard is asked. If the shard reports an error, PostgreSQL skips what
//! comes behind it: so what that has done here already (a name given or taken, a setting of the proxy's own)
//! is undone. Only what stands behind something that a shard answers is written down.

use super::Unit;
use crate::exec::Executor;
use crate::exec::statements::{ClientStatement, Statements};
use crate::session::settings::OwnSettings;
use crate::sql::class::Class;

/// One such deed, with how it was before.
pub(super) enum Done {
    /// A prepared statement was made, replaced or closed.
    Statement(Vec<u8>, Option<Box<ClientStatement>>),
    /// All named ones were closed.
    Statements(Box<Statements>),
    /// A setting of the proxy's own was made.
    Setting(Box<Setting>),
}

/// The settings that no shard knows.
pub(super) struct Setting {
    own: OwnSettings,
    trace: bool,
}

/// The place of a deed that is done once everything else of its unit is.
const AT_THE_END: usize = usize::MAX;

impl Unit {
    /// Something comes before that may fail.
    pub(super) fn may_fail_before(&self) -> bool {
        self.is_alone() || self.needs_shard()
    }

    /// It is one statement, which the proxy carries out.
    fn is_alone(&self) -> bool {
        self.scatter.is_some() || self.copy.is_some() || self.tell.is_some()
    }

    fn note(&mut self, done: Done) {
        let place = if self.is_alone() { AT_THE_END } else { self.ops.len() };
        self.done.push((place, done));
    }
}

impl Executor {
    /// Close, and what precedes the Parse of another statement by that name.
    pub(super) fn close_statement(&mut self, name: &[u8], unit: &mut Unit) {
        let before = self.statements.take(name).map(Box::new);
        if unit.may_fail_before() {
            unit.note(Done::Statement(name.to_vec(), before));
        }
    }

    /// Before what the proxy carries out itself.
    pub(in crate::exec) fn note_local(&self, class: &Class, unit: &mut Unit) {
        if !unit.may_fail_before() {
            return;
        }
        match class {
            Class::Deallocate(None) => {
                unit.note(Done::Statements(Box::new(self.statements.clone())));
            }
            Class::Deallocate(Some(name)) => {
                let before = self.statements.get(name.as_bytes()).cloned().map(Box::new);
                unit.note(Done::Statement(name.as_bytes().to_vec(), before));
            }
            Class::Set(_) | Class::Reset(_) => {
                let session = &self.session;
                unit.note(Done::Setting(Box::new(Setting {
                    own: session.settings.own(),
                    trace: session.trace,
                })));
            }
            _ => {}
        }
    }

    /// The unit has failed on its shard: what was skipped there is undone. `None`: it was not sent.
    pub(super) fn undo_skipped(&mut self, unit: &mut Unit, completed: Option<u32>) {
        let steps = std::mem::take(&mut unit.steps);
        let skipped = |place: usize| match completed {
            Some(completed) => steps.get(place).is_none_or(|before| *before > completed),
            None => true,
        };
        let undone: Vec<Done> = unit
            .done
            .drain(..)
            .rev()
            .filter(|(place, _)| skipped(*place))
            .map(|(_, done)| done)
            .collect();
        for done in undone {
            match done {
                Done::Statement(name, None) => {
                    self.statements.take(&name);
                }
                Done::Statement(name, Some(before)) => self.statements.insert(&name, *before),
                Done::Statements(before) => self.statements.restore_named(*before),
                Done::Setting(before) => {
                    self.session.settings.restore_own(before.own);
                    self.session.trace = before.trace;
                }
            }
        }
    }

    /// What was to be carried out over several shards has failed: only what stands behind it was skipped.
    pub(super) fn undo_behind(&mut self, unit: &mut Unit) {
        unit.done.retain(|(place, _)| *place == AT_THE_END);
        self.undo_skipped(unit, None);
    }
}
