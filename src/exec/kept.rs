//! Frequent reads by primary key are kept prepared on the shards' connections: [`Kept`].
//!
//! PostgreSQL spends more on parsing and planning such a statement than on carrying it out. So when a client sends
//! one again and again, in a Query with literals or behind a Parse of the unnamed statement, it is prepared under
//! a name of ours on the connection that carries it out, with parameters in place of its literals, and from then on
//! only bound and executed there; the answer is put together as the client has asked for it. What qualifies is
//! [`crate::sql::point`]'s to say, and why nothing but the time it takes is changed by it.
//!
//! Invariants: only what stands by itself outside a transaction, so that an error leaves nothing behind; whatever
//! is found wrong with the statement before its portal is bound (a table was changed or dropped, a value can't be
//! read, the server knows no such statement), the client is not told, and its statement is sent as it came. How often one has to
//! come says `pool.prepare_threshold`: what comes once is not worth a Parse of its own, nor the memory that it takes
//! in a backend. It has to come so often among so many others ([`FREQUENT_MOST`]) that not more are kept than a
//! connection has room for: else each would be prepared where another has just made room for it.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use smallvec::SmallVec;

use super::planner::Planned;
use super::statements::{Known, Registry};
use super::{Executor, worker};
use crate::session::responses::{self, StepKind};
use crate::sql::point::{self, ByParameters};
use crate::wire::frontend;

/// `ParseComplete` and `BindComplete`.
const PARSED_AND_BOUND: &[u8] = b"1\0\0\0\x042\0\0\0\x04";

/// So many at most are frequent at a time; a connection keeps some more (`backend::prepared`).
const FREQUENT_MOST: u32 = 400;

thread_local! {
    /// How many statements came that may be kept.
    static CAME: Cell<u32> = const { Cell::new(0) };
}

/// How often a statement came, and the name of ours that it got.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Within this span of `threshold` × [`FREQUENT_MOST`] statements.
    span: AtomicU32,
    uses: AtomicU32,
    /// It was frequent in the span before.
    frequent: AtomicBool,
    known: OnceLock<Known>,
}

impl Kept {
    /// It came once more: whether it is frequent by now. (Only one thread counts.)
    fn came(&self, threshold: u32) -> bool {
        let came = CAME.get().wrapping_add(1);
        CAME.set(came);
        self.is_frequent(threshold, came / threshold.saturating_mul(FREQUENT_MOST).max(1))
    }

    fn is_frequent(&self, threshold: u32, span: u32) -> bool {
        let last = self.span.load(Ordering::Relaxed);
        if last != span {
            let uses = self.uses.swap(0, Ordering::Relaxed);
            let frequent = uses >= threshold && last.wrapping_add(1) == span;
            self.frequent.store(frequent, Ordering::Relaxed);
            self.span.store(span, Ordering::Relaxed);
        }
        let uses = self.uses.load(Ordering::Relaxed).saturating_add(1);
        self.uses.store(uses, Ordering::Relaxed);
        threshold > 0 && (uses >= threshold || self.frequent.load(Ordering::Relaxed))
    }
}

/// A statement of the simple protocol that may be kept.
#[derive(Debug)]
pub struct KeptQuery {
    by_parameters: ByParameters,
    kept: Kept,
}

impl KeptQuery {
    pub(super) fn new(by_parameters: ByParameters) -> Self {
        Self { by_parameters, kept: Kept::default() }
    }
}

impl Executor {
    /// The name that the client's unnamed statement, which was parsed just now, is kept by.
    pub(super) fn kept_unnamed(&self) -> Option<Known> {
        let statement = self.statements.get(b"")?;
        let threshold = self.worker.shared.config.pool.prepare_threshold;
        let kept = statement.kept.as_ref().filter(|kept| kept.came(threshold))?;
        let known = kept
            .known
            .get_or_init(|| self.name_text(b"", &statement.sql, &statement.oids, statement.since));
        let same = known.prepared.is_current() && known.prepared.oids == statement.oids;
        same.then(|| known.clone())
    }

    /// The name that a query is kept by, if parameters can stand for its literals.
    pub(super) fn kept_query(&self, planned: &Planned, query: &[u8]) -> Option<Known> {
        let threshold = self.worker.shared.config.pool.prepare_threshold;
        let own = planned.entry.kept.as_ref().filter(|own| own.kept.came(threshold))?;
        // What stands in comments is for the server's eyes.
        if memchr::memchr2(b'/', b'-', query).is_some() {
            return None;
        }
        let ByParameters { sql, oids } = &own.by_parameters;
        let known = own.kept.known.get_or_init(|| self.name_text(b"", sql, oids, 0));
        known.prepared.is_current().then(|| known.clone())
    }

    /// The request for a query that is kept; false, and nothing is requested, if its literals are written in a way
    /// that no parameter is.
    pub(super) fn request_kept_query(
        &mut self,
        at: usize,
        known: &Known,
        planned: &Planned,
        query: &[u8],
    ) -> bool {
        let mut values: SmallVec<[Option<&[u8]>; 4]> = SmallVec::new();
        for literal in &planned.literals {
            let place = (planned.start + literal.span.start) as usize
                ..(planned.start + literal.span.end) as usize;
            let value = query.get(place).and_then(|text| point::value(literal.kind, text));
            if value.is_none() {
                return false;
            }
            values.push(value);
        }
        self.prepare_kept(at, known);
        let name = &known.prepared.name;
        frontend::bind_text_into(&mut self.request, name, &values, crate::datum::Format::Text);
        self.responses.expect(StepKind::Bind, true);
        self.responses.spare_errors();
        frontend::describe_portal_into(&mut self.request, b"");
        self.responses.expect(StepKind::DescribePortal, false);
        frontend::execute_into(&mut self.request, b"", 0);
        self.responses.expect(StepKind::Execute, false);
        frontend::sync_into(&mut self.request);
        self.responses.expect(StepKind::Sync, false);
        true
    }

    /// The client's Bind of a statement that is kept, behind its Parse; what follows is the caller's.
    pub(super) fn request_kept_bind(
        &mut self,
        at: usize,
        known: &Known,
        bind: &frontend::BindView<'_>,
    ) {
        self.prepare_kept(at, known);
        frontend::bind_with_statement(&mut self.request, bind, &known.prepared.name);
        self.responses.expect(StepKind::Bind, true);
        self.responses.spare_errors();
        self.responses.inject_fixed(PARSED_AND_BOUND);
    }

    /// Sees to it that the connection knows the statement.
    fn prepare_kept(&mut self, at: usize, known: &Known) {
        let Some(held) = self.held.get_mut(at) else { return };
        let prepared = &known.prepared;
        if held.lease.prepared.generation(&prepared.name).is_some() {
            return;
        }
        let now = worker::with_registry(Registry::tick);
        if let Some(evicted) = held.lease.prepared.insert(&prepared.name, now) {
            frontend::close_statement_into(&mut self.request, &evicted);
            self.responses.expect(StepKind::Close, true);
        }
        let oids = prepared.oids.iter().copied();
        frontend::parse_into(&mut self.request, &prepared.name, &prepared.sql, oids);
        self.responses.expect(StepKind::Parse, true);
    }

    /// It was carried out. If it has failed because of what is kept by that name, that is not used again; true if
    /// the client was not told, and its statement is to be sent as it came.
    pub(super) fn is_to_be_sent_as_it_came(&mut self, at: usize, known: &Known) -> bool {
        if self.responses.failed() {
            self.note_failed(at, known);
        }
        self.responses.outdated()
    }

    fn note_failed(&mut self, at: usize, known: &Known) {
        let prepared = &known.prepared;
        let Some(held) = self.held.get_mut(at) else { return };
        let error = self.responses.error();
        let missing = error.split(|byte| *byte == 0).any(|field| field == b"C26000");
        if missing || matches!(self.responses.failed_at(), Some(StepKind::Parse | StepKind::Close))
        {
            held.lease.prepared.remove(&prepared.name);
        } else if responses::is_out_of_date(error)
            && let Some(since) = held.lease.prepared.generation(&prepared.name)
        {
            prepared.outdate(since);
            worker::with_registry(|registry| registry.forget_text(&prepared.sql));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_is_what_comes_often_among_the_others() {
        let kept = Kept::default();
        let came = |span, times: usize| {
            (0..times).map(|_| kept.is_frequent(3, span)).last().unwrap_or_default()
        };
        assert!(!came(0, 2));
        assert!(came(0, 1));
        // It stays so as long as the next span goes on as this one did.
        assert!(came(1, 3));
        assert!(came(2, 1));
        assert!(!came(3, 2));
        assert!(came(3, 1));
        // It was not there for a while.
        assert!(!came(9, 1));
        assert!(!Kept::default().is_frequent(0, 0));
    }
}
