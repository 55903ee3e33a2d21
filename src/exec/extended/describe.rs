//! Describe: what a statement or a portal will answer with.

use std::ops::Range;

use super::execute::no_portal;
use super::place::not_alone;
use super::resolve::Obstacle;
use super::{Op, Portal, Unit};
use crate::datum::Format;
use crate::exec::Executor;
use crate::exec::local::LocalAnswer;
use crate::session::responses::StepKind;
use crate::sql::class::Class;
use crate::wire;

impl Executor {
    pub(super) fn describe_statement(
        &mut self,
        name: &[u8],
        unit: &mut Unit,
    ) -> Result<(), Obstacle> {
        if unit.scatter.is_some() || unit.copy.is_some() {
            return Err(not_alone().into());
        }
        let statement = self.statement(name)?;
        if statement.local {
            let column = local_column(&statement.readied.entry.class);
            let oids = statement.oids.clone();
            unit.inject(|out| {
                wire::backend::parameter_description(out, &oids);
                column.describe(out, Format::Text);
            });
            return Ok(());
        }
        let execution = match &statement.readied.entry.class {
            Class::Execute(execution) => Some(execution.clone()),
            _ => None,
        };
        self.refuse_in_failed(unit)?;
        if let Some(execution) = execution {
            return self.describe_execute(&execution, name, unit);
        }
        let statement = self.statement(name)?;
        if unit.describe_shard.is_none() {
            let readied = statement.readied.clone();
            unit.describe_shard = self.describe_shard(&readied)?;
        }
        let which = self.which_described(name, unit)?;
        unit.described.push(name.to_vec());
        unit.ops.push(Op::DescribeStatement(which));
        Ok(())
    }

    pub(super) fn describe_portal(
        &mut self,
        name: &[u8],
        raw: Range<usize>,
        unit: &mut Unit,
    ) -> Result<(), Obstacle> {
        match self.portals.get(name) {
            None if self.has_cursors(name, unit) => {
                unit.ops.push(Op::Raw(raw, StepKind::DescribePortal));
                Ok(())
            }
            None => Err(no_portal(name).into()),
            Some(Portal::Shard { shard, .. }) => {
                let shard = *shard;
                self.refuse_in_failed(unit)?;
                self.stay(shard, unit)?;
                unit.ops.push(Op::Raw(raw, StepKind::DescribePortal));
                Ok(())
            }
            Some(Portal::Local { entry, .. }) => {
                let column = local_column(&entry.class);
                unit.inject(|out| column.describe(out, Format::Text));
                Ok(())
            }
            Some(Portal::Missing(_)) => {
                unit.inject(wire::backend::no_data);
                Ok(())
            }
            Some(Portal::Spooled(spool)) => {
                unit.inject(|out| spool.describe(out));
                Ok(())
            }
            Some(Portal::Settings(settings)) => {
                unit.inject(|out| settings.describe(out));
                Ok(())
            }
            Some(Portal::Constant(constant)) => {
                unit.inject(|out| constant.describe(out));
                Ok(())
            }
            Some(Portal::Scatter) => {
                match (unit.scatter.as_mut(), unit.copy.as_mut()) {
                    (Some(scatter), _) => scatter.describe(),
                    (None, Some(copy)) => copy.describe(),
                    (None, None) => return Err(not_alone().into()),
                }
                Ok(())
            }
            // Its columns went by with its rows.
            Some(Portal::Given { .. }) => Err(not_alone().into()),
        }
    }
}

/// The column that a local statement answers with.
fn local_column(class: &Class) -> LocalAnswer {
    let column = match class {
        Class::ExplainRoute { json, .. } => {
            let oid = if *json { crate::datum::oid::JSON } else { crate::datum::oid::TEXT };
            Some(("QUERY PLAN".to_owned(), oid))
        }
        Class::Show(name) => Some((name.clone(), crate::datum::oid::TEXT)),
        _ => None,
    };
    LocalAnswer { column, rows: Vec::new(), tag: "" }
}
