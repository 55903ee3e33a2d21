//! From ops to bytes: what a connection is sent, and what is expected in return.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Op, Text, Unit, Which};
use crate::datum::Oid;
use crate::exec::statements::{Known, Prepared, Registry};
use crate::exec::{Executor, worker};
use crate::session::responses::StepKind;
use crate::wire::frontend;

/// A statement that was parsed in this unit: the step that says whether it worked.
pub(in crate::exec) struct Parsed {
    step: u32,
    /// `None` for the unnamed one.
    prepared: Option<Arc<Prepared>>,
    /// The client's own name, if it was the client's Parse.
    client: Option<Vec<u8>>,
    /// It is the Close of another one, which made room.
    evicted: Option<Box<[u8]>>,
    /// It was PREPARE that made it.
    by_sql: bool,
}

impl Parsed {
    fn of(step: u32, client: Option<Vec<u8>>) -> Self {
        Self { step, prepared: None, client, evicted: None, by_sql: false }
    }

    /// Whether the client has no such statement now. Of those that were skipped it is known otherwise what
    /// there was before, if that was noted.
    fn is_gone(&self, completed: u32, noted: bool) -> bool {
        let skipped_or_failed = self.step >= completed;
        skipped_or_failed && (self.step == completed || self.by_sql || !noted)
    }
}

/// The statements that a unit parses.
pub(in crate::exec) type ParsedList = SmallVec<[Parsed; 2]>;

impl Executor {
    /// Appends the unit's ops to the request and the expected answers.
    pub(super) fn assemble(&mut self, at: usize, unit: &mut Unit, bytes: &[u8]) -> ParsedList {
        let Unit { ops, done, steps, .. } = unit;
        let ops = ops.as_slice();
        steps.clear();
        let mut parsed = ParsedList::new();
        // A pipelined BEGIN is a step of its own.
        let mut step = u32::from(!self.request.is_empty());
        self.batch.older = false;
        for name in std::mem::take(&mut self.batch.outdated) {
            frontend::close_statement_into(&mut self.request, &name);
            self.step(StepKind::Close, true, &mut step);
        }
        for op in ops {
            if !done.is_empty() {
                steps.push(step);
            }
            match op {
                Op::Inject(own) => self.responses.inject(own),
                Op::ParseUnnamed(raw) => {
                    parsed.push(Parsed::of(step, Some(Vec::new())));
                    self.raw(bytes, raw, StepKind::Parse, &mut step);
                }
                Op::ParseNamed { client, known } => {
                    self.parse(at, known, Some(client), &mut step, &mut parsed);
                }
                Op::Ensure(known) => self.parse(at, known, None, &mut step, &mut parsed),
                Op::Bind { raw, which } => match which {
                    Which::Unnamed => self.raw(bytes, raw, StepKind::Bind, &mut step),
                    Which::Known(known) => {
                        self.parse(at, known, None, &mut step, &mut parsed);
                        self.bind(bytes, raw, &known.prepared.name, &mut step);
                    }
                    Which::Text(text) => {
                        self.shift_positions(ops, text);
                        self.parse_text(&text.sql, &text.oids, &mut step);
                        self.bind(bytes, raw, b"", &mut step);
                    }
                },
                Op::DescribeStatement(which) => {
                    let name: &[u8] = match which {
                        Which::Unnamed => b"",
                        Which::Text(text) => {
                            self.shift_positions(ops, text);
                            self.parse_text(&text.sql, &text.oids, &mut step);
                            b""
                        }
                        Which::Known(known) => {
                            self.parse(at, known, None, &mut step, &mut parsed);
                            &known.prepared.name
                        }
                    };
                    frontend::describe_statement_into(&mut self.request, name);
                    self.step(StepKind::DescribeStatement, false, &mut step);
                }
                Op::Raw(raw, kind) => self.raw(bytes, raw, *kind, &mut step),
                Op::Learn(name) => {
                    frontend::describe_statement_into(&mut self.request, name);
                    self.step(StepKind::DescribeStatement, true, &mut step);
                    parsed.push(Parsed { by_sql: true, ..Parsed::of(step, Some(name.clone())) });
                    frontend::close_statement_into(&mut self.request, name);
                    self.step(StepKind::Close, true, &mut step);
                }
                Op::Run(sql) | Op::RunBehind(sql) => {
                    let hidden = matches!(op, Op::RunBehind(_));
                    self.parse_text(sql, &[], &mut step);
                    frontend::bind_text_into(
                        &mut self.request,
                        b"",
                        &[],
                        crate::datum::Format::Text,
                    );
                    self.step(StepKind::Bind, true, &mut step);
                    frontend::execute_into(&mut self.request, b"", 0);
                    self.step(StepKind::Execute, hidden, &mut step);
                }
            }
        }
        if !done.is_empty() {
            steps.push(step);
        }
        parsed
    }

    fn step(&mut self, kind: StepKind, hidden: bool, step: &mut u32) {
        self.responses.expect(kind, hidden);
        *step += 1;
    }

    fn raw(&mut self, bytes: &[u8], raw: &std::ops::Range<usize>, kind: StepKind, step: &mut u32) {
        self.request.extend_from_slice(bytes.get(raw.clone()).unwrap_or_default());
        self.step(kind, false, step);
    }

    /// Positions in this text are not the client's. Which statement an error speaks of can't be told where
    /// there are several.
    fn shift_positions(&mut self, ops: &[Op], text: &Text) {
        let others = ops.iter().filter(|op| {
            matches!(
                op,
                Op::Bind { .. } | Op::DescribeStatement(_) | Op::Run(_) | Op::ParseNamed { .. }
            )
        });
        if others.count() == 1 {
            self.responses.shift_positions(text.shift.0, text.shift.1);
        }
    }

    fn parse_text(&mut self, sql: &str, oids: &[Oid], step: &mut u32) {
        let oids = oids.iter().copied();
        frontend::parse_into(&mut self.request, b"", sql.as_bytes(), oids);
        self.step(StepKind::Parse, true, step);
    }

    fn bind(
        &mut self,
        bytes: &[u8],
        raw: &std::ops::Range<usize>,
        statement: &[u8],
        step: &mut u32,
    ) {
        let body = bytes.get(raw.start + 5..raw.end).unwrap_or_default();
        if let Ok(view) = frontend::BindView::parse(body) {
            frontend::bind_with_statement(&mut self.request, &view, statement);
            self.step(StepKind::Bind, false, step);
        }
    }

    /// Sees to it that the connection knows a statement. A client's own Parse is answered either way.
    pub(in crate::exec) fn parse(
        &mut self,
        at: usize,
        known: &Known,
        client: Option<&Vec<u8>>,
        step: &mut u32,
        parsed: &mut ParsedList,
    ) {
        let Some(held) = self.held.get_mut(at) else { return };
        self.responses.known_as(&known.alias);
        let prepared = &known.prepared;
        if let Some(since) = held.lease.prepared.generation(&prepared.name) {
            self.batch.older |= since < known.since;
            if client.is_some() {
                let mut answer = Vec::new();
                crate::wire::backend::parse_complete(&mut answer);
                self.responses.inject(&answer);
            }
            return;
        }
        let now = worker::with_registry(Registry::tick);
        let evicted = held.lease.prepared.insert(&prepared.name, now);
        if let Some(name) = evicted {
            frontend::close_statement_into(&mut self.request, &name);
            parsed.push(Parsed { evicted: Some(name), ..Parsed::of(*step, None) });
            self.step(StepKind::Close, true, step);
        }
        frontend::parse_into(
            &mut self.request,
            &prepared.name,
            &prepared.sql,
            prepared.oids.iter().copied(),
        );
        let prepared = Some(Arc::clone(prepared));
        parsed.push(Parsed { prepared, ..Parsed::of(*step, client.cloned()) });
        self.step(StepKind::Parse, client.is_none(), step);
    }

    /// A connection knew statements for longer than the client has had them, and the schema has changed in
    /// between: PostgreSQL would have prepared them after the change. They get new names; what is to be
    /// sent again, is returned.
    pub(super) fn renew(&mut self, at: usize, ops: Vec<Op>) -> Vec<Op> {
        let told = |op: &Op| matches!(op, Op::Inject(_) | Op::ParseNamed { .. });
        let first = ops.iter().take_while(|op| told(op)).count();
        let mut renewed: Vec<(Known, Known)> = Vec::new();
        let mut ops: Vec<Op> = ops.into_iter().skip(first).collect();
        for op in &mut ops {
            let (Op::ParseNamed { known, .. }
            | Op::Ensure(known)
            | Op::Bind { which: Which::Known(known), .. }
            | Op::DescribeStatement(Which::Known(known))) = op
            else {
                continue;
            };
            let same = |(old, _): &&(Known, Known)| Arc::ptr_eq(&old.prepared, &known.prepared);
            if let Some((_, new)) = renewed.iter().find(same) {
                *known = new.clone();
                continue;
            }
            let Some(held) = self.held.get_mut(at) else { continue };
            let since = held.lease.prepared.generation(&known.prepared.name);
            let Some(since) = since.filter(|since| *since < known.since) else { continue };
            known.prepared.outdate(since);
            worker::with_registry(|registry| registry.forget_text(&known.prepared.sql));
            let Prepared { sql, oids, .. } = &*known.prepared;
            let new = self.name_text(&known.alias.theirs, sql, oids, known.since);
            if let Some(statement) = self.statements.get_mut(&known.alias.theirs) {
                statement.known = Some(new.clone());
            }
            renewed.push((std::mem::replace(known, new.clone()), new));
        }
        for (old, _) in renewed {
            if let Some(held) = self.held.get_mut(at) {
                held.lease.prepared.remove(&old.prepared.name);
            }
            self.batch.outdated.push(old.prepared.name.clone());
        }
        ops
    }

    /// After the exchange: a Parse that was not answered left no statement. `noted`: what was skipped has been
    /// undone.
    pub(in crate::exec) fn note_parsed(&mut self, at: usize, parsed: &[Parsed], noted: bool) {
        if !self.responses.failed() {
            return;
        }
        self.forget_unanswered(at, parsed);
        self.forget_gone(parsed, noted);
    }

    fn forget_gone(&mut self, parsed: &[Parsed], noted: bool) {
        let completed = self.responses.completed();
        for one in parsed.iter().filter(|one| one.is_gone(completed, noted)) {
            if let Some(name) = &one.client {
                self.statements.remove(name);
            }
        }
    }

    /// What was not answered was not done: it is undone in the books, the last first.
    pub(super) fn forget_unanswered(&mut self, at: usize, parsed: &[Parsed]) {
        let completed = self.responses.completed();
        let Some(held) = self.held.get_mut(at) else { return };
        for one in parsed.iter().rev().filter(|one| one.step >= completed) {
            if let Some(prepared) = &one.prepared {
                held.lease.prepared.remove(&prepared.name);
            }
            if let Some(evicted) = &one.evicted {
                held.lease.prepared.restore(evicted, 0);
            }
        }
    }

    /// The exchange has failed (`parsed` if it had begun): what was not answered left no statement.
    pub(super) fn forget_parsed(&mut self, unit: &Unit, parsed: Option<&[Parsed]>, noted: bool) {
        if let Some(parsed) = parsed {
            return self.forget_gone(parsed, noted);
        }
        for op in &unit.ops {
            match op {
                Op::ParseNamed { client, .. } | Op::Learn(client) => {
                    self.statements.remove(client);
                }
                Op::ParseUnnamed(_) => {
                    self.statements.remove(b"");
                }
                _ => {}
            }
        }
    }
}
