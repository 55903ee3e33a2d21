//! What a shard's bytes mean for the client: which are passed on, which are ours to swallow, where
//! answers of our own go in between.
//!
//! Every request that is sent to a connection leaves a [`Step`] here, in order; what the proxy answers
//! itself is an injection between two steps. [`Responses::feed`] walks over the frame headers of what
//! came and says which ranges go to the client. It never copies a row: with no hidden step in the queue
//! everything that came in one read is one range.
//!
//! Message flow: PostgreSQL manual, "Frontend/Backend Protocol", "Message Flow".

mod walk;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::wording::Wording;
pub use super::wording::{Alias, OUR_NAMES};
pub use walk::{is_out_of_date, renumber_columns};

use crate::catalog::numbers::Renumbering;

/// A request that a shard will answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was asked.
    pub kind: StepKind,
    /// The client did not ask for it: its answer is swallowed (errors are not).
    pub hidden: bool,
}

/// What was asked, which says by which message it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Parse: `ParseComplete`.
    Parse,
    /// Bind: `BindComplete`.
    Bind,
    /// Close: `CloseComplete`.
    Close,
    /// Describe of a statement: `ParameterDescription`, then `RowDescription` or `NoData`.
    DescribeStatement,
    /// Describe of a portal: `RowDescription` or `NoData`.
    DescribePortal,
    /// Execute: `CommandComplete`, `EmptyQueryResponse` or `PortalSuspended`.
    Execute,
    /// Sync: `ReadyForQuery`.
    Sync,
    /// Query: `ReadyForQuery`.
    Query,
}

impl StepKind {
    /// It ends with `ReadyForQuery`, errors do not skip it.
    #[inline]
    fn is_boundary(self) -> bool {
        matches!(self, Self::Sync | Self::Query)
    }

    /// This message is the last of its answer.
    #[inline]
    fn ends_with(self, tag: u8) -> bool {
        match self {
            Self::Parse => tag == b'1',
            Self::Bind => tag == b'2',
            Self::Close => tag == b'3',
            Self::DescribeStatement | Self::DescribePortal => matches!(tag, b'T' | b'n'),
            Self::Execute => matches!(tag, b'C' | b'I' | b's'),
            Self::Sync | Self::Query => tag == b'Z',
        }
    }
}

#[derive(Debug)]
enum Entry {
    Step(Step),
    Inject(Vec<u8>),
    Fixed(&'static [u8]),
}

/// A piece of what goes to the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Segment {
    /// A range of the bytes that were fed.
    Input(Range<usize>),
    /// Bytes of our own (injections; a header that came in two reads).
    Bytes(Vec<u8>),
    /// The same, always these.
    Fixed(&'static [u8]),
}

/// A message from a shard that broke the protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// What a server says otherwise than the client knows it.
#[derive(Debug, Default)]
struct Own {
    /// The server's process number, and the one that the client knows it by.
    notifier: Option<(i32, i32)>,
    /// Types and tables.
    numbers: Option<Arc<Renumbering>>,
    /// Where in the bytes that were fed last columns are described, and passed on, in its numbers.
    columns: Vec<Range<usize>>,
}

/// The queue of what is expected, and the state of the scan.
#[derive(Debug, Default)]
pub struct Responses {
    queue: VecDeque<Entry>,
    /// Bytes of the current frame that have not come yet.
    frame_left: usize,
    /// Tag of the current frame.
    tag: u8,
    /// The current frame goes to the client.
    forward: bool,
    /// A header of which only a part has come.
    header: [u8; 5],
    header_len: usize,
    /// The body of a frame that is looked into.
    captured: Vec<u8>,
    /// `ReadyForQuery` that answers the client is kept back: the caller sends it.
    hold_ready: bool,
    failed: bool,
    /// What was being answered when the last error came.
    failed_at: Option<StepKind>,
    copy_in: bool,
    copied: bool,
    completed: u32,
    commands: u32,
    /// Command tags of the client's Query that came.
    tags: u32,
    /// Which of them answer statements of ours.
    silenced: Vec<u32>,
    status: u8,
    error: Vec<u8>,
    /// That a statement is out of date is not passed on, if it is the first thing that is said.
    spares_outdated: bool,
    /// No error in the statement is passed on before so many steps are complete.
    spared: u8,
    /// An error was not passed on.
    outdated: bool,
    /// The next `ParameterDescription` was passed on already.
    described: bool,
    /// What precedes the first answer is kept back, and so is the server's farewell if it comes instead of it.
    holds_back: bool,
    /// An answer has begun to come, or anything that is for the client.
    answered: bool,
    /// The farewell has come instead.
    farewell: bool,
    wording: Wording,
    /// What this server says otherwise than the client knows it.
    own: Option<Box<Own>>,
    parameters: Vec<(Vec<u8>, Vec<u8>)>,
    descriptions: Vec<Description>,
}

/// What a server said of a statement.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The body of its `ParameterDescription`.
    pub parameters: Vec<u8>,
    /// Stands for its columns: 0 for none; `None` if they did not come.
    pub shape: Option<u64>,
}

impl Responses {
    /// Starts over for the next request.
    pub fn begin(&mut self, hold_ready: bool) {
        self.queue.clear();
        self.frame_left = 0;
        self.header_len = 0;
        self.hold_ready = hold_ready;
        self.failed = false;
        self.failed_at = None;
        self.copy_in = false;
        self.copied = false;
        self.completed = 0;
        self.commands = 0;
        self.tags = 0;
        self.silenced.clear();
        self.status = b'I';
        self.error.clear();
        self.spares_outdated = false;
        self.spared = 0;
        self.outdated = false;
        self.described = false;
        self.holds_back = false;
        self.answered = false;
        self.farewell = false;
        self.wording.clear();
        self.parameters.clear();
        self.descriptions.clear();
    }

    /// Errors that name a statement shall name it as the client does.
    pub fn known_as(&mut self, alias: &Arc<Alias>) {
        self.wording.known_as(alias);
    }

    /// If nothing else was answered before, the client is not told that a statement is out of date, nor of
    /// `ReadyForQuery` behind it: the request will be sent again.
    pub fn spare_outdated(&mut self) {
        self.spares_outdated = true;
    }

    /// Where what is expected so far finds something wrong with the statement or its values, the client is not told,
    /// nor of `ReadyForQuery` behind it: what it has sent will be sent as it came. What ends a statement from
    /// outside (a cancel, a timeout, a shutdown) it is told.
    pub fn spare_errors(&mut self) {
        let steps = self.queue.iter().filter(|entry| matches!(entry, Entry::Step(_)));
        self.spared = steps.count().min(usize::from(u8::MAX)) as u8;
    }

    /// Until the first answer comes nothing is said to the client, not even that the server has ended the
    /// connection: the request may be sent again.
    pub fn hold_back(&mut self) {
        self.holds_back = true;
    }

    /// An answer has begun to come. (Only known after [`Self::hold_back`].)
    pub fn answered(&self) -> bool {
        self.answered
    }

    /// The server has ended the connection instead of an answer, with a word that the client was not told.
    pub fn bade_farewell(&self) -> bool {
        self.farewell
    }

    /// A statement was out of date (or [`Self::spare_errors`] spared it), and the client was not told.
    pub fn outdated(&self) -> bool {
        self.outdated
    }

    /// The client has been told the parameters of what is described first.
    pub fn is_described(&mut self) {
        self.described = true;
    }

    /// The shard's text is not the client's: error positions beyond `after` (in characters of the shard's)
    /// are moved by `by`.
    pub fn shift_positions(&mut self, after: u32, by: i64) {
        self.wording.shift_positions(after, by);
    }

    /// What this process notifies of comes, to the client, from that one.
    pub fn notifies_as(&mut self, own: i32, shown: i32) {
        self.own.get_or_insert_default().notifier = Some((own, shown));
    }

    /// What this server numbers otherwise than the client knows it.
    pub fn numbers_otherwise(&mut self, numbers: Option<&Arc<Renumbering>>) {
        let same = match (self.numbers(), numbers) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (own, other) => own.is_none() && other.is_none(),
        };
        if !same {
            self.own.get_or_insert_default().numbers = numbers.cloned();
        }
    }

    /// EXECUTE is sent: positions outside of this part of the client's text are those in the statement that it
    /// executes, of which so many characters more are the client's.
    pub fn executes(&mut self, own: Range<u32>, before: u32) {
        self.wording.executes(own, before);
    }

    /// A request was sent.
    pub fn expect(&mut self, kind: StepKind, hidden: bool) {
        self.queue.push_back(Entry::Step(Step { kind, hidden }));
    }

    /// Command tag `n` of the Query, from 0, answers a statement that we have put into the client's string.
    pub fn silence(&mut self, n: u32) {
        self.silenced.push(n);
    }

    /// Bytes of our own follow what is expected so far.
    pub fn inject(&mut self, bytes: &[u8]) {
        if let Some(Entry::Inject(last)) = self.queue.back_mut() {
            last.extend_from_slice(bytes);
            return;
        }
        self.queue.push_back(Entry::Inject(bytes.to_vec()));
    }

    /// Bytes that are always these follow what is expected so far. Something must be expected.
    pub fn inject_fixed(&mut self, bytes: &'static [u8]) {
        self.queue.push_back(Entry::Fixed(bytes));
    }

    /// How many `ReadyForQuery` are expected.
    pub fn boundaries(&self) -> u32 {
        let steps = self.queue.iter();
        steps.filter(|e| matches!(e, Entry::Step(s) if s.kind.is_boundary())).count() as u32
    }

    /// Nothing more is expected.
    pub fn done(&self) -> bool {
        self.queue.is_empty() && self.frame_left == 0 && self.header_len == 0
    }

    /// A message is half passed on: after a break the client can't find the next one.
    pub fn broken_off(&self) -> bool {
        self.forward && self.frame_left > 0
    }

    /// The shard reported an error.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// What the (last) error answered; `None` where nothing was asked.
    pub fn failed_at(&self) -> Option<StepKind> {
        self.failed_at
    }

    /// The body of the (last) error.
    pub fn error(&self) -> &[u8] {
        &self.error
    }

    /// The transaction status of the last `ReadyForQuery`.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// How many steps were completed without error.
    pub fn completed(&self) -> u32 {
        self.completed
    }

    /// How many statements of the client were carried out: command tags, empty ones, suspended portals.
    pub fn commands(&self) -> u32 {
        self.commands
    }

    /// What is answered next was asked by Execute: if it is COPY, no Sync ends it.
    pub fn in_execute(&self) -> bool {
        matches!(self.queue.front(), Some(Entry::Step(Step { kind: StepKind::Execute, .. })))
    }

    /// The shard waits for COPY data; asking clears it.
    pub fn take_copy_in(&mut self) -> bool {
        std::mem::take(&mut self.copy_in)
    }

    /// COPY data was asked for.
    pub fn copied(&self) -> bool {
        self.copied
    }

    /// Parameters that were reported since [`Self::begin`].
    pub fn parameters(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.parameters
    }

    /// What was said of statements that were described, in order.
    pub fn descriptions(&self) -> &[Description] {
        &self.descriptions
    }
}

#[cfg(test)]
mod tests;
