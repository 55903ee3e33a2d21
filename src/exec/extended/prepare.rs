//! PREPARE and EXECUTE as statements of the extended protocol.

use std::ops::Range;
use std::sync::Arc;

use super::resolve::Obstacle;
use super::{Op, Portal, Text, Unit, Which};
use crate::exec::prepare::read_arguments;
use crate::exec::scatter::BindBody;
use crate::exec::strings::characters_of;
use crate::exec::{Executor, worker};
use crate::sql::class::{Class, Execution};
use crate::wire::{self, frontend::BindView};

/// EXECUTE with the statement's name replaced.
fn renamed(text: &str, execution: &Execution, name: &[u8]) -> Text {
    let before = text.get(..execution.at.start as usize).unwrap_or_default();
    let after = text.get(execution.at.end as usize..).unwrap_or_default();
    let written = i64::from(execution.at.end) - i64::from(execution.at.start);
    let shift = (before.chars().count() as u32 + 1, written - name.len() as i64);
    let sql = format!("{before}{}{after}", String::from_utf8_lossy(name));
    Text { sql, oids: Vec::new(), shift }
}

impl Executor {
    /// PREPARE behind what a shard is sent: it is carried out there under the client's own name, which is
    /// given back at once.
    pub(super) fn prepare_in_unit(
        &mut self,
        name: &str,
        typed: bool,
        body: u32,
        text: &str,
        unit: &mut Unit,
    ) -> Result<(), Obstacle> {
        let sql = text.get(body as usize..).unwrap_or_default().as_bytes();
        self.statements.admit(name.as_bytes(), sql)?;
        let readied = worker::with_planner(|p| p.prepare(&self.world, &self.reading, sql))?;
        if unit.describe_shard.is_none() {
            unit.describe_shard = self.describe_shard(&readied)?;
        }
        let mut statement = self.client_statement(sql.into(), Vec::new(), readied);
        statement.untold = typed;
        statement.before = characters_of(text.get(..body as usize).unwrap_or_default().as_bytes());
        self.statements.insert(name.as_bytes(), statement);
        let class = Class::Prepare { name: name.to_owned(), typed, body };
        self.run(unit, text.to_owned(), &class);
        unit.described.push(name.as_bytes().to_vec());
        unit.ops.push(Op::Learn(name.as_bytes().to_vec()));
        Ok(())
    }

    /// Bind of EXECUTE: what it executes is what is routed.
    pub(super) fn bind_execute(
        &mut self,
        execution: &Execution,
        view: &BindView<'_>,
        raw: Range<usize>,
        unit: &mut Unit,
    ) -> Result<(), Obstacle> {
        let name = execution.name.as_bytes();
        let portal = if self.statements.contains(name) {
            let inner = self.statement(name)?;
            let entry = Arc::clone(&inner.readied.entry);
            inner.local.then(|| Portal::local(entry, inner.text().to_owned()))
        } else {
            // PostgreSQL looks when it is executed.
            Some(Portal::Missing(name.to_vec()))
        };
        if let Some(portal) = portal {
            self.portals.insert(view.portal, portal);
            unit.inject(wire::backend::bind_complete);
            return Ok(());
        }
        let Some(outer) = self.statements.get(view.statement) else { return Ok(()) };
        let (text, hint) = (outer.text().to_owned(), outer.readied.hint.clone());
        self.fresh.belong_to(unit.shard);
        let (plan, noted) = self.plan_execution_known(execution, &text, hint.as_deref())?;
        if !noted.wanted.is_empty() {
            return Err(Obstacle::Wanted(noted.wanted));
        }
        let plan = plan?;
        let entry = Arc::clone(&self.statement(name)?.readied.entry);
        if let Some(portal) = self.settings_portal(&entry, &plan, view, unit) {
            self.portals.insert(view.portal, portal);
            return Ok(());
        }
        self.bound = if view.portal.is_empty() { noted.made } else { Vec::new() };
        if plan.answer.is_gathered() {
            self.note_route(&plan);
            let found = read_arguments(execution, &text, self.reading.standard_strings);
            let values = self.constants(execution, &found)?;
            let mut bind = Vec::new();
            wire::frontend::bind_text_as(&mut bind, view, &values);
            let body = BindBody::Own(bind.split_off(wire::frame::HEADER_BYTES));
            return self.bind_scatter(view.portal, name, body, unit, plan);
        }
        self.note_route(&plan);
        self.refuse_session_state(&entry)?;
        self.place(&plan, &entry, unit)?;
        let known = self.known_by(name, &plan)?;
        let text = renamed(&text, execution, &known.prepared.name);
        unit.ops.push(Op::Ensure(known));
        unit.ops.push(Op::Bind { raw, which: Which::Text(text) });
        // The server's unnamed statement is then this one.
        unit.unnamed_parsed = false;
        self.portals.insert(view.portal, Portal::Shard { copies: false, shard: unit.shard });
        Ok(())
    }

    /// Describe of EXECUTE: its rows are those of what it executes.
    pub(super) fn describe_execute(
        &mut self,
        execution: &Execution,
        outer: &[u8],
        unit: &mut Unit,
    ) -> Result<(), Obstacle> {
        let name = execution.name.as_bytes();
        if !self.statements.contains(name) || self.statement(name)?.local {
            unit.inject(|out| {
                wire::backend::parameter_description(out, &[]);
                wire::backend::no_data(out);
            });
            return Ok(());
        }
        let readied = self.statement(name)?.readied.clone();
        if unit.describe_shard.is_none() {
            unit.describe_shard = self.describe_shard(&readied)?;
        }
        let known = self.known(name)?;
        let text = self.statements.get(outer).map(|outer| outer.text().to_owned());
        let text = renamed(&text.unwrap_or_default(), execution, &known.prepared.name);
        unit.ops.push(Op::Ensure(known));
        unit.described.push(outer.to_vec());
        unit.ops.push(Op::DescribeStatement(Which::Text(text)));
        unit.unnamed_parsed = false;
        Ok(())
    }
}
