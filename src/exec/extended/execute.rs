//! Execute: a portal of a shard is fetched from there, a portal of ours is answered, and a command that the
//! session follows itself is carried out or put among what the shard is told.

use std::ops::Range;
use std::sync::Arc;

use super::place::{not_alone, not_alone_in_transaction};
use super::resolve::Obstacle;
use super::{Op, Portal, Unit};
use crate::error::{SqlError, SqlState};
use crate::exec::Executor;
use crate::exec::control::{Control, aborted, is_control};
use crate::exec::effects::{after_reset, foresee, refuse_unsafe_encoding, setting_tag};
use crate::exec::local::is_local;
use crate::exec::several::is_for_all;
use crate::exec::statements::no_statement;
use crate::session::responses::StepKind;
use crate::session::transaction::Transaction;
use crate::sql::class::{Class, Isolation};
use crate::wire;
use crate::wire::frontend::ExecuteView;

impl Executor {
    pub(super) fn resolve_execute(
        &mut self,
        view: &ExecuteView<'_>,
        raw: Range<usize>,
        unit: &mut Unit,
    ) -> Result<(), Obstacle> {
        if !self.portals.contains(view.portal) && self.has_cursors(view.portal, unit) {
            self.refuse_in_failed(unit)?;
            unit.executes = true;
            unit.executions += 1;
            unit.ops.push(Op::Raw(raw, StepKind::Execute));
            return Ok(());
        }
        let failed_here = self.has_failed_here(unit);
        match self.portals.get_mut(view.portal) {
            None => Err(no_portal(view.portal).into()),
            Some(Portal::Shard { .. }) if failed_here => Err(aborted().into()),
            Some(Portal::Shard { copies, shard }) => {
                let shard = *shard;
                unit.executes = true;
                unit.executions += 1;
                unit.copies |= *copies;
                if view.portal.is_empty() {
                    self.made.append(&mut self.bound);
                }
                self.stay(shard, unit)?;
                unit.ops.push(Op::Raw(raw, StepKind::Execute));
                Ok(())
            }
            Some(Portal::Scatter) => {
                match (unit.scatter.as_mut(), unit.copy.as_mut()) {
                    (Some(scatter), _) => {
                        scatter.execute(u32::try_from(view.max_rows).unwrap_or(0));
                    }
                    (None, Some(copy)) => copy.execute(),
                    (None, None) => return Err(not_alone().into()),
                }
                Ok(())
            }
            Some(Portal::Given { .. }) if unit.failed => Err(aborted().into()),
            Some(Portal::Given { once: true }) => Err(cannot_be_run(view.portal).into()),
            Some(Portal::Given { once: false }) => {
                unit.inject(|out| wire::backend::command_complete(out, "SELECT 0"));
                Ok(())
            }
            Some(Portal::Spooled(_)) if unit.failed => Err(aborted().into()),
            Some(Portal::Spooled(spool)) => {
                let most = u32::try_from(view.max_rows).unwrap_or(0);
                unit.inject(|out| spool.fetch(most, out));
                Ok(())
            }
            Some(Portal::Missing(name)) => Err(no_statement(name).into()),
            Some(Portal::Settings(_)) if unit.failed => Err(aborted().into()),
            Some(Portal::Settings(_)) => {
                Ok(self.fetch_settings(view.portal, view.max_rows, unit)?)
            }
            Some(Portal::Constant(constant)) => {
                unit.inject(|out| constant.execute(view.max_rows, out));
                Ok(())
            }
            Some(Portal::Local { entry, text, has_run }) => {
                let (entry, text, again) = (Arc::clone(entry), text.clone(), *has_run);
                if again && (!unit.failed || self.ends_failure(&entry.class)) {
                    return Err(cannot_be_run(view.portal).into());
                }
                self.execute_local(&entry.class, &text, unit)?;
                if let Some(Portal::Local { has_run, .. }) = self.portals.get_mut(view.portal) {
                    // Nothing can be done again and again.
                    *has_run = !matches!(entry.class, Class::Empty);
                }
                Ok(())
            }
        }
    }

    fn execute_local(
        &mut self,
        class: &Class,
        text: &str,
        unit: &mut Unit,
    ) -> Result<(), Obstacle> {
        if matches!(class, Class::Empty) {
            unit.inject(wire::backend::empty_query_response);
            return Ok(());
        }
        if unit.failed && !self.ends_failure(class) {
            return Err(aborted().into());
        }
        if let Class::Prepare { name, typed, body } = class {
            return self.prepare_in_unit(name, *typed, *body, text, unit);
        }
        let busy = unit.executes || self.batch.is_open();
        if busy && is_local(class, &self.world) && matches!(class, Class::DiscardAll) {
            return Err(SqlError::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "DISCARD ALL cannot be executed within a pipeline",
            )
            .into());
        }
        if matches!(class, Class::DiscardAll) && self.has_to_discard() {
            return Err(Obstacle::Held);
        }
        self.note_local(class, unit);
        if let Some(answer) = self.answer_locally(class, text)? {
            self.follow_again(class, unit);
            unit.inject(|out| answer.execute(out));
            return Ok(());
        }
        refuse_unsafe_encoding(class)?;
        self.refuse_block(class)?;
        if !busy
            && unit.last
            && !unit.needs_shard()
            && let Some(report) = self.settle_foregone(class)
        {
            unit.inject(|out| {
                wire::backend::command_complete(out, "SET");
                out.extend_from_slice(&report);
            });
            return Ok(());
        }
        // What was parsed before may have failed, or have taken a snapshot so that it is too late for another
        // isolation level: the shard says so.
        let parsed = unit.needs_shard() && !self.session.transaction.is_several();
        let busy = busy || is_control(class) && parsed;
        let concerns_all = is_control(class) || is_for_all(class);
        if concerns_all && (busy || unit.shard.is_some()) && self.goes_elsewhere(unit) {
            return Err(not_alone_in_transaction().into());
        }
        if is_for_all(class) && self.session.transaction.is_several() {
            unit.tell = Some(Box::new((class.clone(), text.to_owned())));
            unit.ops.push(Op::Inject(Vec::new()));
            return Ok(());
        }
        self.refuse_late_isolation(class)?;
        // Behind statements that a shard has yet to be sent, their order matters: it goes there too.
        if is_control(class) && !busy {
            return self.execute_control(class, text, unit);
        }
        if !busy && self.defer_setting(class, text) {
            unit.inject(|out| wire::backend::command_complete(out, setting_tag(class)));
            return Ok(());
        }
        self.run(unit, text.to_owned(), class);
        Ok(())
    }

    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT … in front of what a shard is sent.
    fn execute_control(
        &mut self,
        class: &Class,
        text: &str,
        unit: &mut Unit,
    ) -> Result<(), Obstacle> {
        let control = self.control(class, text)?;
        if matches!(class, Class::Commit { .. } | Class::Rollback { .. }) {
            self.portals.retain(|portal| !matches!(portal, Portal::Local { .. }));
        }
        match control {
            Control::Warned(warning, tag) => unit.inject(|out| {
                let severity = wire::backend::Severity::Warning;
                wire::backend::notice(out, &warning, severity);
                wire::backend::command_complete(out, tag);
            }),
            Control::Answered(tag) => {
                unit.inject(|out| wire::backend::command_complete(out, tag));
                unit.failed = self.session.transaction.status() == b'E';
                unit.block = self.session.transaction.is_open();
            }
            Control::Forward(shard, sql) => {
                let other = unit.shard.filter(|other| *other != shard);
                if let Some(other) = other {
                    return Err(self.other_pipeline(shard, other).into());
                }
                unit.shard = Some(shard);
                self.run(unit, sql, class);
            }
            Control::Tell(sql) => {
                unit.tell = Some(Box::new((class.clone(), sql)));
                // What follows is answered after it.
                unit.ops.push(Op::Inject(Vec::new()));
            }
        }
        Ok(())
    }

    /// What was parsed before a Flush was no part of a transaction on its shard: that it would have been too late
    /// for another isolation level, is said here, in PostgreSQL's own words (`check_XactIsoLevel`).
    fn refuse_late_isolation(&self, class: &Class) -> Result<(), SqlError> {
        let Class::Begin(modes) = class else { return Ok(()) };
        let other = modes.isolation.is_some_and(|level| level != Isolation::ReadCommitted);
        if !(other && self.batch.read && self.session.transaction == Transaction::Idle) {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::ACTIVE_SQL_TRANSACTION,
            "SET TRANSACTION ISOLATION LEVEL must be called before any query",
        ))
    }

    /// A setting of the proxy's own is made at once; behind the end of a transaction that is yet to come it is
    /// made again when that has come, and has not taken it back.
    pub(in crate::exec) fn follow_again(&self, class: &Class, unit: &mut Unit) {
        let mut before = self.batch.effects.iter().chain(unit.effects.iter().map(|(_, own)| own));
        if matches!(class, Class::Set(_) | Class::Reset(_)) && before.any(is_control) {
            unit.effects.push((unit.executions, class.clone()));
        }
    }

    pub(super) fn run(&mut self, unit: &mut Unit, sql: String, class: &Class) {
        match class {
            Class::Begin(_) => unit.block = true,
            Class::Commit { chain } | Class::Rollback { chain } => {
                unit.block &= *chain;
                unit.failed = false;
                // Those of the shard it drops itself.
                self.portals.retain(|portal| !matches!(portal, Portal::Local { .. }));
            }
            Class::RollbackTo(_) => unit.failed = false,
            _ => {}
        }
        unit.executes = true;
        // The server's unnamed statement is then this one.
        unit.unnamed_parsed = false;
        unit.effects.push((unit.executions, class.clone()));
        unit.executions += 1;
        let block = unit.block || self.session.settings.in_block();
        let behind = after_reset(&self.session.settings, class, block);
        foresee(unit.after.get_or_insert_with(|| Box::new(self.session.settings.clone())), class);
        unit.ops.push(Op::Run(sql));
        unit.ops.extend(behind.into_iter().map(Op::RunBehind));
    }

    /// The transaction has failed by an error of ours: its shard would go on.
    fn has_failed_here(&self, unit: &Unit) -> bool {
        unit.failed && matches!(self.session.transaction, Transaction::Failed { .. })
    }

    pub(super) fn refuse_in_failed(&self, unit: &Unit) -> Result<(), SqlError> {
        if self.has_failed_here(unit) { Err(aborted()) } else { Ok(()) }
    }
}

pub(super) fn no_portal(name: &[u8]) -> SqlError {
    SqlError::new(
        SqlState::INVALID_CURSOR_NAME,
        format!("portal \"{}\" does not exist", String::from_utf8_lossy(name)),
    )
}

/// A portal of what is no query runs once (`MarkPortalActive`).
fn cannot_be_run(portal: &[u8]) -> SqlError {
    let name = String::from_utf8_lossy(portal);
    SqlError::new(SqlState("55000"), format!("portal \"{name}\" cannot be run"))
}
