//! From ops to bytes: what a connection is sent, and what is expected in return.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Op, Prepared, Unit, Which};
use crate::exec::{Executor, worker};
use crate::session::responses::StepKind;
use crate::wire::frontend;

/// A statement that was parsed in this unit: the step that says whether it worked.
pub(super) struct Parsed {
    step: u32,
    /// `None` for the unnamed one.
    prepared: Option<Arc<Prepared>>,
    /// The client's own name, if it was the client's Parse.
    client: Option<Vec<u8>>,
}

/// The statements that a unit parses.
pub(super) type ParsedList = SmallVec<[Parsed; 2]>;

impl Executor {
    /// Appends the ops to the request and the expected answers.
    pub(super) fn assemble(&mut self, at: usize, ops: &[Op], bytes: &[u8]) -> ParsedList {
        let mut parsed = ParsedList::new();
        // A pipelined BEGIN is a step of its own.
        let mut step = u32::from(!self.request.is_empty());
        for op in ops {
            match op {
                Op::Inject(own) => self.responses.inject(own),
                Op::ParseUnnamed(raw) => {
                    parsed.push(Parsed { step, prepared: None, client: Some(Vec::new()) });
                    self.raw(bytes, raw, StepKind::Parse, &mut step);
                }
                Op::ParseNamed { client, prepared } => {
                    self.parse(at, prepared, Some(client), &mut step, &mut parsed);
                }
                Op::Bind { raw, which } => match which {
                    Which::Unnamed => self.raw(bytes, raw, StepKind::Bind, &mut step),
                    Which::Prepared(prepared) => {
                        self.parse(at, prepared, None, &mut step, &mut parsed);
                        let body = bytes.get(raw.start + 5..raw.end).unwrap_or_default();
                        if let Ok(view) = frontend::BindView::parse(body) {
                            frontend::bind_with_statement(&mut self.request, &view, &prepared.name);
                            self.step(StepKind::Bind, false, &mut step);
                        }
                    }
                },
                Op::DescribeStatement(which) => {
                    let name: &[u8] = match which {
                        Which::Unnamed => b"",
                        Which::Prepared(prepared) => {
                            self.parse(at, prepared, None, &mut step, &mut parsed);
                            &prepared.name
                        }
                    };
                    frontend::describe_statement_into(&mut self.request, name);
                    self.step(StepKind::DescribeStatement, false, &mut step);
                }
                Op::Raw(raw, kind) => self.raw(bytes, raw, *kind, &mut step),
                Op::Run(sql) | Op::RunBehind(sql) => {
                    let hidden = matches!(op, Op::RunBehind(_));
                    frontend::parse_into(&mut self.request, b"", sql.as_bytes(), [].into_iter());
                    self.step(StepKind::Parse, true, &mut step);
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

    /// Sees to it that the connection knows a statement. A client's own Parse is answered either way.
    fn parse(
        &mut self,
        at: usize,
        prepared: &Arc<Prepared>,
        client: Option<&Vec<u8>>,
        step: &mut u32,
        parsed: &mut ParsedList,
    ) {
        let Some(held) = self.held.get_mut(at) else { return };
        if held.lease.prepared.generation(&prepared.name).is_some() {
            if client.is_some() {
                let mut answer = Vec::new();
                crate::wire::backend::parse_complete(&mut answer);
                self.responses.inject(&answer);
            }
            return;
        }
        let evicted = held.lease.prepared.insert(&prepared.name, 0);
        if let Some(name) = evicted {
            frontend::close_statement_into(&mut self.request, &name);
            self.step(StepKind::Close, true, step);
        }
        frontend::parse_into(
            &mut self.request,
            &prepared.name,
            &prepared.sql,
            prepared.oids.iter().copied(),
        );
        parsed.push(Parsed {
            step: *step,
            prepared: Some(Arc::clone(prepared)),
            client: client.cloned(),
        });
        self.step(StepKind::Parse, client.is_none(), step);
    }

    /// After the exchange: a Parse that was not answered left no statement.
    pub(super) fn note_parsed(&mut self, at: usize, parsed: &[Parsed]) {
        if !self.responses.failed() {
            return;
        }
        if is_out_of_date(self.responses.error()) {
            worker::with_registry(super::Registry::forget);
        }
        let completed = self.responses.completed();
        for one in parsed.iter().filter(|one| one.step >= completed) {
            if let (Some(held), Some(prepared)) = (self.held.get_mut(at), &one.prepared) {
                held.lease.prepared.remove(&prepared.name);
            }
            if let Some(name) = &one.client {
                self.statements.remove(name);
            }
        }
    }

    /// The exchange has failed (`parsed` if it had begun): what was not answered left no statement.
    pub(super) fn forget_parsed(&mut self, unit: &Unit, parsed: Option<&[Parsed]>) {
        if let Some(parsed) = parsed {
            let completed = self.responses.completed();
            for one in parsed.iter().filter(|one| one.step >= completed) {
                if let Some(name) = &one.client {
                    self.statements.remove(name);
                }
            }
            return;
        }
        for op in &unit.ops {
            match op {
                Op::ParseNamed { client, .. } => self.statements.remove(client),
                Op::ParseUnnamed(_) => self.statements.remove(&b""[..]),
                _ => None,
            };
        }
    }
}

/// A prepared statement's result has another shape since the schema has changed (`RevalidateCachedQuery` in
/// `plancache.c`).
fn is_out_of_date(error: &[u8]) -> bool {
    let mut fields = error.split(|byte| *byte == 0);
    fields.clone().any(|field| field == b"C0A000")
        && fields.any(|field| field == b"RRevalidateCachedQuery")
}
