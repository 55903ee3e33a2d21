//! What the messages of a unit mean, one by one, before anything is sent: [`Executor::resolve_unit`] reads them,
//! does what an [`Obstacle`] asks for first, and reads on. Parse and Close are here; `bind`, `describe` and
//! `execute` have the others.

use std::ops::Range;

use super::place::not_alone;
use super::{Op, Portal, Unit};
use crate::error::SqlError;
use crate::exec::control::aborted;
use crate::exec::local::is_local;
use crate::exec::planner::{Parsed, check_utf8, is_session_level};
use crate::exec::schema::stands_on_schema;
use crate::exec::{Executor, Failure, Gone, worker};
use crate::lookup::{Id, Newcomer};
use crate::session::responses::StepKind;
use crate::sql::class::Class;
use crate::wire::frame::Frame;
use crate::wire::frontend::{BindView, ExecuteView, ParseView, Target, tag};
use crate::wire::{self, ProtocolError};

/// Why a message could not be resolved.
pub(in crate::exec) enum Obstacle {
    Error(SqlError),
    /// It names a table that the catalog does not know: the catalog may be old.
    UnknownTable,
    Protocol(ProtocolError),
    /// These ids must be asked for first.
    Wanted(Vec<Id>),
    /// The client's own connections must be reset first.
    Held,
    /// The transaction's time must be asked for first.
    Timeless,
    /// This statement's columns must be looked at again first.
    Unsure(Vec<u8>),
    /// What was parsed and described before it must be answered first.
    Behind,
    /// These keys must be given homes first.
    Homeless(Vec<Newcomer>, SqlError),
}

impl From<SqlError> for Obstacle {
    fn from(error: SqlError) -> Self {
        Self::Error(error)
    }
}

impl From<ProtocolError> for Obstacle {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl Executor {
    /// Resolves the messages of a unit; the first error ends it, as it does in PostgreSQL.
    pub(super) async fn resolve_unit(&mut self, bytes: &[u8], unit: &mut Unit) -> Result<(), Gone> {
        let mut at = 0;
        let mut refreshed = false;
        let mut settled = false;
        while let Ok(Some(frame)) = wire::frame::next(bytes.get(at..).unwrap_or_default(), u32::MAX)
        {
            let raw = at..at + frame.raw.len();
            let rest = bytes.get(raw.end..).unwrap_or_default();
            match self.resolve(&frame, raw.clone(), rest, unit, refreshed) {
                Ok(()) => at = raw.end,
                Err(Obstacle::UnknownTable) => {
                    refreshed = true;
                    if let Err(error) = Box::pin(self.refresh_world()).await {
                        unit.error = Some(error);
                        return Ok(());
                    }
                }
                Err(Obstacle::Wanted(ids)) => {
                    if let Err(error) = Box::pin(self.look_up(ids)).await {
                        unit.error = Some(error);
                        return Ok(());
                    }
                }
                Err(Obstacle::Timeless) => match Box::pin(self.moment_within()).await {
                    Ok(_) => {}
                    Err(Failure::Error(error)) => {
                        unit.error = Some(error);
                        return Ok(());
                    }
                    Err(Failure::Gone(gone)) => return Err(gone),
                    Err(Failure::Shown) => {
                        unit.error = Some(aborted());
                        return Ok(());
                    }
                },
                Err(Obstacle::Unsure(name)) => match Box::pin(self.look_again(&name)).await {
                    Ok(()) => {}
                    Err(Failure::Error(error)) => {
                        unit.error = Some(error);
                        return Ok(());
                    }
                    Err(Failure::Gone(gone)) => return Err(gone),
                    Err(Failure::Shown) => {
                        unit.shown = true;
                        return Ok(());
                    }
                },
                Err(Obstacle::Behind) => {
                    unit.rest = Some(at);
                    return Ok(());
                }
                Err(Obstacle::Held) => Box::pin(self.discard_held()).await,
                Err(Obstacle::Homeless(keys, error)) => {
                    let outcome = if settled || !self.may_ask() || unit.executes {
                        Err(error)
                    } else {
                        Box::pin(self.settle_newcomers(&keys)).await
                    };
                    settled = true;
                    if let Err(error) = outcome {
                        unit.error = Some(error);
                        return Ok(());
                    }
                }
                Err(Obstacle::Error(error)) => {
                    unit.error = Some(error);
                    return Ok(());
                }
                // The next message is found all the same.
                Err(Obstacle::Protocol(error)) => {
                    unit.error = Some(SqlError::new(error.code, error.message));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn resolve(
        &mut self,
        frame: &Frame<'_>,
        raw: Range<usize>,
        rest: &[u8],
        unit: &mut Unit,
        refreshed: bool,
    ) -> Result<(), Obstacle> {
        let (tag, body) = (frame.tag, frame.body);
        let done = unit.tell.is_some()
            || unit.scatter.as_ref().is_some_and(|scatter| scatter.is_executed())
            || unit.copy.as_ref().is_some_and(|copy| copy.is_executed());
        if done && !matches!(tag, tag::SYNC | tag::FLUSH | tag::CLOSE) {
            return Err(not_alone().into());
        }
        match tag {
            tag::PARSE => self.resolve_parse(&ParseView::parse(body)?, raw, unit, refreshed),
            tag::BIND => self.resolve_bind(&BindView::parse(body)?, raw, rest, unit),
            tag::DESCRIBE => match Target::describe(body)? {
                Target::Statement(name) => self.describe_statement(name, unit),
                Target::Portal(name) => self.describe_portal(name, raw, unit),
            },
            tag::EXECUTE => {
                unit.last = rest.first() == Some(&tag::SYNC);
                self.resolve_execute(&ExecuteView::parse(body)?, raw, unit)
            }
            tag::CLOSE => {
                match Target::close(body)? {
                    Target::Statement(name) => {
                        self.close_statement(name, unit);
                        unit.inject(wire::backend::close_complete);
                    }
                    Target::Portal(name) => match self.portals.remove(name) {
                        Some(Portal::Shard { shard, .. }) => {
                            self.stay(shard, unit)?;
                            unit.ops.push(Op::Raw(raw, StepKind::Close));
                        }
                        None if self.has_cursors(name, unit) => {
                            unit.ops.push(Op::Raw(raw, StepKind::Close));
                        }
                        _ => unit.inject(wire::backend::close_complete),
                    },
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn resolve_parse(
        &mut self,
        view: &ParseView<'_>,
        raw: Range<usize>,
        unit: &mut Unit,
        refreshed: bool,
    ) -> Result<(), Obstacle> {
        if self.reading.utf8 {
            check_utf8(view.name)?;
        }
        self.statements.admit(view.name, view.sql)?;
        if view.name.is_empty() || unit.may_fail_before() {
            self.close_statement(view.name, unit);
        }
        let Parsed { sql, readied, .. } =
            worker::with_planner(|p| p.parse(&self.world, &self.reading, view.sql))?;
        let class = &readied.entry.class;
        if unit.failed && !self.ends_failure(class) && !matches!(class, Class::Empty) {
            return Err(aborted().into());
        }
        let behind = self.is_behind(class);
        let unread = !self.world.catalog_known && stands_on_schema(class);
        if (self.has_unknown_table(&readied.entry) || unread || behind) && !refreshed {
            return Err(Obstacle::UnknownTable);
        }
        let local = is_session_level(class) && !matches!(class, Class::Execute(_))
            || is_local(class, &self.world)
            || matches!(
                class,
                Class::Set(_)
                    | Class::Reset(_)
                    | Class::SetTransaction { .. }
                    | Class::SetConstraints(_)
            );
        if let (false, Some(after)) = (local, &unit.after) {
            self.refuse_other_reading(after)?;
        }
        if !local && unit.describe_shard.is_none() {
            unit.describe_shard = self.describe_shard(&readied)?;
        }
        unit.read |= takes_snapshot(class);
        let mut statement = self.client_statement(sql, view.oids().collect(), readied);
        statement.local = local;
        if local {
            unit.inject(wire::backend::parse_complete);
        } else if view.name.is_empty() {
            unit.ops.push(Op::ParseUnnamed(raw));
        } else {
            let known = self.name_text(view.name, &statement.sql, &statement.oids, statement.since);
            statement.known = Some(known.clone());
            unit.ops.push(Op::ParseNamed { client: view.name.to_vec(), known });
        }
        if view.name.is_empty() {
            unit.unnamed_parsed = !local;
        }
        self.statements.insert(view.name, statement);
        Ok(())
    }
}

/// PostgreSQL takes a snapshot to read it (`analyze_requires_snapshot`).
fn takes_snapshot(class: &Class) -> bool {
    matches!(
        class,
        Class::Query
            | Class::Explain
            | Class::Declare(_)
            | Class::Definition { from_query: true, .. }
    )
}
