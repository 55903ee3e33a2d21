//! What a shard's bytes mean: the walk over the frames that came, against what was asked.
//!
//! A frame is begun when its header is known and ended when all of it has come; in between nothing but the bodies
//! that are looked into is kept. [`Responses::read_everyday`] is the same for what is neither hidden nor looked into.

use std::ops::Range;
use std::sync::Arc;

use super::{Description, Entry, Malformed, Own, Responses, Segment, Step, StepKind};
use crate::catalog::numbers::Renumbering;
use crate::wire::frame;
use crate::wire::response::{self, ServerError};

/// Largest message that is looked into (errors, parameters): they are buffered, rows are not. An error may show a
/// value that could not be read.
const CAPTURED_MAX: usize = 64 << 20;

impl Responses {
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

    #[inline]
    pub(super) fn numbers(&self) -> Option<&Arc<Renumbering>> {
        self.own.as_ref()?.numbers.as_ref()
    }

    fn is_silenced(&self) -> bool {
        self.silenced.contains(&self.tags)
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
