//! What a shard's bytes mean for the client: which are passed on, which are ours to swallow, where
//! answers of our own go in between.
//!
//! Every request that is sent to a connection leaves a [`Step`] here, in order; what the proxy answers
//! itself is an injection between two steps. [`Responses::feed`] walks over the frame headers of what
//! came and says which ranges go to the client. It never copies a row: with no hidden step in the queue
//! everything that came in one read is one range.
//!
//! Message flow: PostgreSQL manual, "Frontend/Backend Protocol", "Message Flow".

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::wording::Wording;
pub use super::wording::{Alias, OUR_NAMES};

use crate::catalog::numbers::Renumbering;
use crate::wire::frame;
use crate::wire::response::{self, ServerError};

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

/// Largest message that is looked into (errors, parameters): they are buffered, rows are not. An error may show a
/// value that could not be read.
const CAPTURED_MAX: usize = 64 << 20;

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

    #[inline]
    fn numbers(&self) -> Option<&Arc<Renumbering>> {
        self.own.as_ref()?.numbers.as_ref()
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

    fn is_silenced(&self) -> bool {
        self.silenced.contains(&self.tags)
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

    /// Injections that nothing precedes.
    pub fn leading(&mut self) -> Option<Vec<u8>> {
        match self.queue.front() {
            Some(Entry::Inject(_)) => match self.queue.pop_front() {
                Some(Entry::Inject(bytes)) => Some(bytes),
                _ => None,
            },
            _ => None,
        }
    }

    /// Columns were described in the bytes that were fed last: they must be told in the client's numbers.
    #[inline]
    pub fn describes_columns(&self) -> bool {
        self.own.as_ref().is_some_and(|own| !own.columns.is_empty())
    }

    /// Tells the columns in the bytes that were fed last in the client's numbers.
    pub fn renumber(&mut self, input: &mut [u8]) -> Result<(), Malformed> {
        let Some(Own { numbers: Some(numbers), columns, .. }) = self.own.as_deref_mut() else {
            return Ok(());
        };
        for range in columns.drain(..) {
            let body = input.get_mut(range).ok_or(Malformed)?;
            renumber_columns(body, numbers)?;
        }
        Ok(())
    }

    /// Reads what a shard sent and appends to `out` what of it goes to the client.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<Segment>) -> Result<(), Malformed> {
        if let Some(own) = &mut self.own {
            own.columns.clear();
        }
        let mut at = 0;
        while at < input.len() {
            if self.frame_left == 0 && self.header_len == 0 {
                at = self.read_whole(input, at, out)?;
                if at == input.len() {
                    break;
                }
            }
            if self.frame_left == 0 {
                at = self.read_header(input, at, out)?;
                if self.frame_left > 0 || self.header_len > 0 {
                    continue;
                }
            } else {
                let end = input.len().min(at + self.frame_left);
                let body = input.get(at..end).ok_or(Malformed)?;
                if self.is_captured() {
                    if self.captured.len() + body.len() > CAPTURED_MAX {
                        return Err(Malformed);
                    }
                    self.captured.extend_from_slice(body);
                }
                self.frame_left -= end - at;
                if self.forward {
                    push_range(out, at..end);
                }
                at = end;
            }
            if self.frame_left == 0 && self.header_len == 0 {
                self.end_frame(out)?;
            }
        }
        Ok(())
    }

    /// Reads the frames at `at` that have come whole; the position behind them.
    fn read_whole(
        &mut self,
        input: &[u8],
        at: usize,
        out: &mut Vec<Segment>,
    ) -> Result<usize, Malformed> {
        let mut at = self.read_everyday(input, at, out)?;
        while let Some((header, rest)) = input.get(at..).and_then(<[u8]>::split_first_chunk::<5>) {
            let (tag, body) = body_length(*header)?;
            let Some(body) = rest.get(..body) else { break };
            let end = at + header.len() + body.len();
            self.tag = tag;
            self.start_frame(tag, out)?;
            if self.is_captured() {
                if body.len() > CAPTURED_MAX {
                    return Err(Malformed);
                }
                self.captured.clear();
                self.captured.extend_from_slice(body);
            }
            if self.forward {
                push_range(out, at..end);
            }
            self.end_frame(out)?;
            at = end;
        }
        Ok(at)
    }

    /// [`Self::read_whole`] for as long as what comes is what was asked for by the client and goes to it as it is:
    /// nearly every answer, at a fraction of the instructions.
    fn read_everyday(
        &mut self,
        input: &[u8],
        mut at: usize,
        out: &mut Vec<Segment>,
    ) -> Result<usize, Malformed> {
        let mut from = at;
        'steps: while let Some(Entry::Step(Step { kind, hidden })) = self.queue.front() {
            let (kind, hidden) = (*kind, *hidden);
            if hidden && !matches!(kind, StepKind::Parse | StepKind::Bind | StepKind::Close) {
                break;
            }
            loop {
                let Some((header, rest)) = input.get(at..).and_then(<[u8]>::split_first_chunk::<5>)
                else {
                    break 'steps;
                };
                let (tag, length) = body_length(*header)?;
                let Some(body) = rest.get(..length) else { break 'steps };
                match tag {
                    _ if hidden && !kind.ends_with(tag) => break 'steps,
                    // Its columns are looked into.
                    _ if kind == StepKind::DescribeStatement => break 'steps,
                    b'D' | b'1' | b'2' | b'3' | b'n' => {}
                    b'T' => {
                        if let Some(own) = self.own.as_mut().filter(|own| own.numbers.is_some()) {
                            let body = at + header.len();
                            own.columns.push(body..body + length);
                        }
                    }
                    b'C' | b'I' | b's' if self.silenced.is_empty() => {
                        self.commands += 1;
                        self.tags += 1;
                    }
                    b'Z' if kind.is_boundary() && !self.hold_ready => {
                        self.status = *body.first().ok_or(Malformed)?;
                    }
                    _ => break 'steps,
                }
                if self.holds_back {
                    self.end_hold(out);
                }
                if hidden {
                    push_range(out, from..at);
                    from = at + header.len() + length;
                }
                at += header.len() + length;
                if kind.ends_with(tag) {
                    break;
                }
            }
            if matches!(self.queue.get(1), Some(Entry::Inject(_) | Entry::Fixed(_))) {
                push_range(out, from..at);
                from = at;
            }
            self.end_step(out);
        }
        push_range(out, from..at);
        Ok(at)
    }

    /// Reads a header at `at`, or as much of it as has come; the position behind it.
    fn read_header(
        &mut self,
        input: &[u8],
        at: usize,
        out: &mut Vec<Segment>,
    ) -> Result<usize, Malformed> {
        let whole = self.header_len == 0;
        let take = (5 - self.header_len).min(input.len() - at);
        let part = input.get(at..at + take).ok_or(Malformed)?;
        self.header
            .get_mut(self.header_len..self.header_len + take)
            .ok_or(Malformed)?
            .copy_from_slice(part);
        self.header_len += take;
        if self.header_len < 5 {
            return Ok(at + take);
        }
        self.header_len = 0;
        let (tag, body) = body_length(self.header)?;
        self.tag = tag;
        self.frame_left = body;
        self.captured.clear();
        self.start_frame(tag, out)?;
        if self.forward {
            if whole {
                push_range(out, at..at + take);
            } else {
                out.push(Segment::Bytes(self.header.to_vec()));
            }
        }
        Ok(at + take)
    }

    fn is_captured(&self) -> bool {
        matches!(self.tag, b'Z' | b'E' | b'S' | b't' | b'A')
            || self.tag == b'T' && (self.numbers().is_some() || self.describes_statement())
    }

    fn describes_statement(&self) -> bool {
        matches!(self.queue.front(), Some(Entry::Step(step)) if step.kind == StepKind::DescribeStatement)
    }

    /// Decides whether the frame goes to the client.
    fn start_frame(&mut self, tag: u8, out: &mut Vec<Segment>) -> Result<(), Malformed> {
        if self.holds_back && !matches!(tag, b'S' | b'E') {
            self.end_hold(out);
        }
        if tag == b'Z' {
            self.skip_to_boundary();
        }
        let step = match self.queue.front() {
            Some(Entry::Step(step)) => Some(*step),
            _ => None,
        };
        let hidden = step.is_none_or(|s| s.hidden);
        self.forward = match tag {
            b'S' => true,
            // What is passed on when it has been read whole, in the client's words. (Only a connection of
            // the client's own listens, and to what the client has asked for.)
            b'E' | b'A' => false,
            b'Z' => !hidden && !self.hold_ready,
            // Told when it has been read whole, in the client's numbers.
            b't' | b'T' if self.numbers().is_some() => false,
            b't' => !hidden && !std::mem::take(&mut self.described),
            b'C' => !hidden && !self.is_silenced(),
            _ => !hidden,
        };
        // Between requests a server only says what it may say at any time.
        if step.is_none() && !matches!(tag, b'S' | b'N' | b'A' | b'E') {
            return Err(Malformed);
        }
        Ok(())
    }

    fn end_hold(&mut self, out: &mut Vec<Segment>) {
        self.holds_back = false;
        self.answered = true;
        if let Some(bytes) = self.leading() {
            out.push(Segment::Bytes(bytes));
        }
    }

    fn end_frame(&mut self, out: &mut Vec<Segment>) -> Result<(), Malformed> {
        let tag = self.tag;
        if self.holds_back && tag == b'E' {
            let error = ServerError::parse(&self.captured);
            if error.is_ok_and(|error| error.is_farewell()) {
                self.farewell = true;
                return Ok(());
            }
            self.end_hold(out);
        }
        if tag == b'A' {
            self.pass_notification(out);
            return Ok(());
        }
        let Some(Entry::Step(step)) = self.queue.front() else {
            if tag == b'E' {
                self.note_error(out);
            }
            return Ok(());
        };
        let kind = step.kind;
        let hidden = step.hidden;
        match tag {
            b'Z' => {
                self.status = *self.captured.first().ok_or(Malformed)?;
            }
            b'S' => self.note_parameter(),
            b'T' => {
                let numbers = self.own.as_ref().and_then(|own| own.numbers.as_ref());
                if let Some(numbers) = numbers {
                    let columns = &mut self.captured;
                    renumber_columns(columns, numbers)?;
                    if !hidden {
                        out.push(Segment::Bytes(frame::of(b'T', columns)));
                    }
                }
                if kind == StepKind::DescribeStatement
                    && let Some(last) = self.descriptions.last_mut()
                {
                    last.shape = response::shape(&self.captured);
                }
            }
            b'n' if kind == StepKind::DescribeStatement => {
                if let Some(last) = self.descriptions.last_mut() {
                    last.shape = Some(0);
                }
            }
            b't' => {
                let numbers = self.own.as_ref().and_then(|own| own.numbers.as_ref());
                if let Some(numbers) = numbers {
                    let parameters = &mut self.captured;
                    response::renumber_parameters(parameters, |own| numbers.of_type(own))
                        .ok_or(Malformed)?;
                    if !hidden && !std::mem::take(&mut self.described) {
                        out.push(Segment::Bytes(frame::of(b't', parameters)));
                    }
                }
                let parameters = std::mem::take(&mut self.captured);
                self.descriptions.push(Description { parameters, shape: None });
            }
            b'E' => {
                self.failed_at = Some(kind);
                self.note_error(out);
                if !kind.is_boundary() {
                    self.skip_to_boundary();
                }
                return Ok(());
            }
            b'G' | b'W' => {
                self.copy_in = true;
                self.copied = true;
            }
            b'C' | b'I' | b's' if !hidden => {
                self.commands += u32::from(!self.is_silenced());
                self.tags += 1;
            }
            _ => {}
        }
        if kind.ends_with(tag) {
            self.end_step(out);
        }
        Ok(())
    }

    #[inline]
    fn end_step(&mut self, out: &mut Vec<Segment>) {
        self.queue.pop_front();
        if !self.failed {
            self.completed += 1;
        }
        if let Some(Entry::Fixed(bytes)) = self.queue.front() {
            out.push(Segment::Fixed(bytes));
            self.queue.pop_front();
        }
        if let Some(bytes) = self.leading() {
            out.push(Segment::Bytes(bytes));
        }
    }

    fn pass_notification(&mut self, out: &mut Vec<Segment>) {
        if let Some((own, shown)) = self.own.as_ref().and_then(|own| own.notifier) {
            response::rename_notifier(&mut self.captured, own, shown);
        }
        out.push(Segment::Bytes(frame::of(b'A', &self.captured)));
    }

    fn note_error(&mut self, out: &mut Vec<Segment>) {
        self.failed = true;
        self.error = self.wording.of(&self.captured);
        let outdated = self.spares_outdated && self.completed == 0 && is_out_of_date(&self.error);
        let spared = self.completed < u32::from(self.spared) && is_of_the_statement(&self.captured);
        if outdated || spared {
            self.outdated = true;
            self.hold_ready = true;
            return;
        }
        out.push(Segment::Bytes(frame::of(b'E', &self.error)));
    }

    fn note_parameter(&mut self) {
        let mut parts = self.captured.split(|b| *b == 0);
        if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            self.parameters.push((name.to_vec(), value.to_vec()));
        }
    }

    /// After an error the server skips to Sync; so do we.
    fn skip_to_boundary(&mut self) {
        while let Some(entry) = self.queue.front() {
            if matches!(entry, Entry::Step(s) if s.kind.is_boundary()) {
                return;
            }
            self.queue.pop_front();
        }
    }
}

/// A prepared statement's result has another shape since the schema has changed (`RevalidateCachedQuery` in
/// `plancache.c`).
pub fn is_out_of_date(error: &[u8]) -> bool {
    let mut fields = error.split(|byte| *byte == 0);
    fields.clone().any(|field| field == b"C0A000")
        && fields.any(|field| field == b"RRevalidateCachedQuery")
}

/// It says that something is wrong with a statement, its values or its preparation.
fn is_of_the_statement(error: &[u8]) -> bool {
    ServerError::parse(error).is_ok_and(|error| {
        let class = error.field(b'C').and_then(|code| code.get(..2));
        matches!(class, Some(b"0A" | b"22" | b"26" | b"3F" | b"42"))
    })
}

/// Tells a `RowDescription`'s columns in the client's numbers.
pub fn renumber_columns(body: &mut [u8], numbers: &Renumbering) -> Result<(), Malformed> {
    let table = |own| numbers.of_table(own);
    response::renumber_columns(body, table, |own| numbers.of_type(own)).ok_or(Malformed)
}

/// A frame's tag, and how long its body is.
fn body_length(header: [u8; 5]) -> Result<(u8, usize), Malformed> {
    let [tag, a, b, c, d] = header;
    let length = i32::from_be_bytes([a, b, c, d]);
    let body = usize::try_from(length).ok().and_then(|length| length.checked_sub(4));
    body.map(|body| (tag, body)).ok_or(Malformed)
}

fn push_range(out: &mut Vec<Segment>, range: Range<usize>) {
    if range.is_empty() {
        return;
    }
    if let Some(Segment::Input(last)) = out.last_mut()
        && last.end == range.start
    {
        last.end = range.end;
        return;
    }
    out.push(Segment::Input(range));
}

#[cfg(test)]
mod tests;
