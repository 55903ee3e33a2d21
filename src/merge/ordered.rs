//! K-way merge: rows that each shard delivers in order become one stream in order.
//!
//! Main type: [`Ordered`]. The sort keys ([`Key`]) are columns that the client asked for, or the shards put them in
//! front of those, in binary: here they decide and are cut off. OFFSET and LIMIT (WITH TIES too) are counted here:
//! each shard gives as many rows as both together ask for.
//!
//! Memory is bounded by the number of shards: of each the keys of its next row are there, and what came in the
//! same read ([`AHEAD_BYTES`]). A row goes on while the rest of it is still to come, and until then nothing else
//! goes. Where a collation decides, each shard's rows are checked to be in the order that is taken for granted
//! ([`Fault::Unsorted`]).
//!
//! Message formats: PostgreSQL manual, "Message Formats".

use std::cmp::Ordering;
use std::ops::Range;

use smallvec::SmallVec;

use super::concat::{Fault, HELD_BYTES_MAX, columns, differing_types};
use crate::datum::Oid;
use crate::datum::order::{Key, KeyColumns, Order};

/// More of a shard than this is not read before it is needed.
const AHEAD_BYTES: usize = 64 << 10;

/// Largest message other than a row. An error may show a value that could not be read.
const CONTROL_BYTES_MAX: usize = 64 << 20;

/// `DataRow`'s tag and length, and the number of its columns.
const ROW_HEAD_BYTES: usize = 7;

/// Where the merge stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As much as was asked for has been written.
    Full,
    /// Shards have to be read ([`Ordered::wants`]).
    Hungry,
    /// All rows that belong to the answer have been written.
    Over,
}

/// What of the merged rows belongs to the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// OFFSET.
    pub skip: u64,
    /// LIMIT.
    pub take: Option<u64>,
    /// WITH TIES: rows that are equal to the last one are taken too.
    pub ties: bool,
}

/// The state of all streams.
#[derive(Debug)]
pub struct Ordered {
    keys: Vec<Key>,
    /// A collation decides on one of them.
    collates: bool,
    columns: KeyColumns,
    streams: Vec<Stream>,
    /// Streams with a row, the least one first.
    heap: Vec<usize>,
    begun: bool,
    /// The stream at the top of the heap has given its row, and its next one is not there yet.
    stale: bool,
    /// The rest of a row: of which stream, how much, and whether it is shown.
    passing: Option<(usize, usize, bool)>,
    window: Window,
    /// What still comes is not wanted.
    over: bool,
    /// The keys of the last row within LIMIT.
    last: Option<Vec<Option<Vec<u8>>>>,
    rows: u64,
    description: Option<Vec<u8>>,
    /// The stream whose description the client gets, where user-defined types have an OID on each shard.
    described_by: Option<usize>,
    key_types: Vec<Oid>,
    notices: Vec<u8>,
    /// A shard's error that came before the first row: the client is told the columns first, as by PostgreSQL.
    failed: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Stream {
    buffer: Vec<u8>,
    /// Up to here it is done with.
    at: usize,
    head: Option<Head>,
    /// Where the keys of that row are in its message; `None` is NULL.
    keys: Keys,
    /// So much of a row that is not wanted is still to come.
    unwanted: usize,
    /// The first key of the next row, if its beginning says as much as a number: [`Key::rank`].
    rank: Option<u64>,
    /// The keys of the row before, where the order is checked.
    before: Vec<u8>,
    described: Option<Vec<u8>>,
    /// No more rows: its command is complete.
    ended: bool,
    done: bool,
}

/// Where a row's keys are.
type Keys = SmallVec<[Option<Range<usize>>; 2]>;

/// A row whose keys are there.
#[derive(Debug, Default)]
struct Head {
    /// All of its message.
    length: usize,
    columns: u16,
    /// Where the client's columns begin.
    visible: usize,
}

impl Ordered {
    /// So many shards were asked.
    pub fn new(shards: usize, columns: KeyColumns, window: Window) -> Self {
        Self {
            keys: Vec::new(),
            collates: false,
            columns,
            streams: (0..shards).map(|_| Stream::default()).collect(),
            heap: Vec::new(),
            begun: false,
            stale: false,
            passing: None,
            window,
            over: false,
            last: None,
            rows: 0,
            description: None,
            described_by: None,
            key_types: Vec::new(),
            notices: Vec::new(),
            failed: None,
        }
    }

    /// The client's columns, once all shards have described theirs: a `RowDescription`'s body.
    pub fn description(&self) -> Option<&[u8]> {
        self.description.as_deref()
    }

    /// The keys' types, once all shards have described their columns.
    pub fn key_types(&self) -> &[Oid] {
        &self.key_types
    }

    /// How the rows are compared, a key for each of [`KeyColumns::at`]. To be said before [`Self::advance`].
    pub fn sort_by(&mut self, keys: Vec<Key>) {
        self.collates = keys.iter().any(|key| collates(key.order));
        self.keys = keys;
    }

    /// User-defined types are known to be the same by their names: the client is told this shard's OIDs.
    pub fn described_by(&mut self, shard: usize) {
        self.described_by = Some(shard);
    }

    /// Rows passed on.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// A row is half passed on.
    pub fn is_stuck(&self) -> bool {
        self.passing.is_some_and(|(_, _, shown)| shown)
    }

    /// This shard is ready for the next query.
    pub fn is_done(&self, shard: usize) -> bool {
        self.streams.get(shard).is_none_or(|stream| stream.done)
    }

    /// All shards are.
    pub fn all_done(&self) -> bool {
        self.streams.iter().all(|stream| stream.done)
    }

    /// Notices that came: whole messages.
    pub fn take_notices(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.notices)
    }

    /// Whether this shard may be read: what it sends has room.
    pub fn wants(&self, shard: usize) -> bool {
        self.streams.get(shard).is_some_and(|stream| {
            !stream.done
                && (stream.buffer.len() - stream.at < AHEAD_BYTES
                    || self.needs_stream(shard, stream))
        })
    }

    fn needs_stream(&self, shard: usize, stream: &Stream) -> bool {
        let passing = self.passing.is_some_and(|(own, ..)| own == shard);
        passing || stream.head.is_none() && !stream.ended
    }

    /// Takes what a shard sent.
    ///
    /// # Errors
    ///
    /// See [`Fault`]. Nothing may be fed afterwards.
    pub fn feed(&mut self, shard: usize, input: &[u8]) -> Result<(), Fault> {
        let passing = self.passing.is_some_and(|(own, ..)| own == shard);
        let stream = self.streams.get_mut(shard).ok_or(Fault::Malformed)?;
        // What is left is moved only when it is no more than what was done with since the last time.
        if stream.at >= stream.buffer.len() - stream.at {
            stream.buffer.drain(..stream.at);
            stream.at = 0;
        }
        stream.buffer.extend_from_slice(input);
        if !passing {
            self.look(shard)?;
        }
        Ok(())
    }

    /// Reads a stream's messages up to its next row.
    fn look(&mut self, shard: usize) -> Result<(), Fault> {
        loop {
            let Some(stream) = self.streams.get_mut(shard) else { return Ok(()) };
            if stream.head.is_some() {
                return Ok(());
            }
            let unwanted = stream.unwanted.min(stream.buffer.len() - stream.at);
            stream.at += unwanted;
            stream.unwanted -= unwanted;
            let unread = stream.buffer.get(stream.at..).unwrap_or_default();
            let Some([tag, a, b, c, d]) = unread.first_chunk().copied() else { return Ok(()) };
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if length < 4 || length > i32::MAX as usize {
                return Err(Fault::Malformed);
            }
            let total = length + 1;
            if tag == b'D' && self.over {
                stream.unwanted = total;
                continue;
            }
            if tag == b'D' && unread.len() < total && total <= HELD_BYTES_MAX {
                return Ok(());
            }
            if tag == b'D' {
                stream.head = Head::read(unread, total, &self.columns, &mut stream.keys)?;
                if stream.head.is_some() {
                    check_keys(&self.keys, stream)?;
                    stream.rank = rank(&self.keys, stream);
                }
                return Ok(());
            }
            if total > CONTROL_BYTES_MAX {
                return Err(Fault::Malformed);
            }
            let Some(body) = unread.get(5..total) else { return Ok(()) };
            match tag {
                b'1' | b'2' | b'3' | b'S' | b'I' => {}
                b'T' => {
                    stream.described = Some(body.to_vec());
                    stream.at += total;
                    self.compare_descriptions()?;
                    continue;
                }
                b'C' | b's' => stream.ended = true,
                b'Z' => (stream.ended, stream.done) = (true, true),
                b'E' if stream.described.is_some() && !self.begun => {
                    self.failed.get_or_insert_with(|| body.to_vec());
                    stream.ended = true;
                }
                b'E' => return Err(Fault::Server(body.to_vec())),
                b'N' | b'A' => {
                    self.notices.extend_from_slice(unread.get(..total).unwrap_or_default());
                }
                _ => return Err(Fault::Malformed),
            }
            stream.at += total;
        }
    }

    fn compare_descriptions(&mut self) -> Result<(), Fault> {
        let mut first: Option<&[u8]> = None;
        let mut all = true;
        for stream in &self.streams {
            let Some(own) = stream.described.as_deref() else {
                all = false;
                continue;
            };
            let Some(first) = first else {
                first = Some(own);
                continue;
            };
            let (one, other) = (columns(first), columns(own));
            let (one, other) = (one.ok_or(Fault::Malformed)?, other.ok_or(Fault::Malformed)?);
            let alike = match self.described_by {
                Some(_) => differing_types(&one, &other).is_some(),
                None => one == other,
            };
            if !alike {
                return Err(Fault::Differs);
            }
        }
        let (true, Some(first)) = (all, first) else { return Ok(()) };
        let chosen = self.described_by.and_then(|shard| self.streams.get(shard));
        let first = chosen.and_then(|stream| stream.described.as_deref()).unwrap_or(first);
        let found = columns(first).ok_or(Fault::Malformed)?;
        let Some(visible) = found.len().checked_sub(self.columns.hidden) else {
            return Err(Fault::Differs);
        };
        for at in &self.columns.at {
            let (_, types) = found.get(*at).ok_or(Fault::Differs)?;
            let oid = types.first_chunk().ok_or(Fault::Malformed)?;
            self.key_types.push(u32::from_be_bytes(*oid));
        }
        let hidden = found.iter().take(self.columns.hidden);
        let cut = hidden.fold(2, |cut, (name, _)| cut + name.len() + 1 + 18);
        let mut body = u16::try_from(visible).unwrap_or(u16::MAX).to_be_bytes().to_vec();
        body.extend_from_slice(first.get(cut..).ok_or(Fault::Malformed)?);
        self.description = Some(body);
        Ok(())
    }

    /// Writes rows to `out` until it has `most` bytes or more.
    ///
    /// # Errors
    ///
    /// See [`Fault`]. What was written before belongs to the answer.
    pub fn advance(&mut self, out: &mut Vec<u8>, most: usize) -> Result<State, Fault> {
        if let Some(body) = self.failed.take() {
            return Err(Fault::Server(body));
        }
        if !self.begun {
            let ready = |s: &Stream| s.head.is_some() || s.ended;
            if self.description.is_none() || !self.streams.iter().all(ready) {
                return Ok(State::Hungry);
            }
            self.begin()?;
        }
        loop {
            if let Some((shard, left, shown)) = self.passing {
                if !self.pass(shard, left, shown, out)? {
                    return Ok(State::Hungry);
                }
                self.stale = true;
            }
            let enough = self.window.take.is_some_and(|take| self.rows >= take);
            if enough && !self.window.ties {
                return Ok(State::Over);
            }
            if self.stale && !self.renew()? {
                return Ok(State::Hungry);
            }
            let Some(&top) = self.heap.first() else { return Ok(State::Over) };
            if enough && !self.is_tie(top) {
                return Ok(State::Over);
            }
            if out.len() >= most {
                return Ok(State::Full);
            }
            self.begin_row(top, out)?;
        }
    }

    /// What still comes is not wanted: it is to be fed all the same, until all shards are done.
    ///
    /// # Errors
    ///
    /// See [`Fault`]: a shard's error is one although its rows are not wanted.
    pub fn finish(&mut self) -> Result<(), Fault> {
        self.over = true;
        for shard in 0..self.streams.len() {
            if let Some(stream) = self.streams.get_mut(shard) {
                stream.head = None;
            }
            self.look(shard)?;
        }
        Ok(())
    }

    /// All streams have a row, or have ended.
    fn begin(&mut self) -> Result<(), Fault> {
        if self.keys.len() != self.columns.at.len() {
            return Err(Fault::Malformed);
        }
        self.begun = true;
        for shard in 0..self.streams.len() {
            let Some(stream) = self.streams.get_mut(shard) else { continue };
            if stream.head.is_none() {
                continue;
            }
            check_keys(&self.keys, stream)?;
            stream.rank = rank(&self.keys, stream);
            self.heap.push(shard);
        }
        for at in (0..self.heap.len() / 2).rev() {
            self.sift(at);
        }
        Ok(())
    }

    /// The top stream's next row takes its place; false if that is not there yet.
    fn renew(&mut self) -> Result<bool, Fault> {
        let Some(&top) = self.heap.first() else { return Ok(true) };
        self.look(top)?;
        let Some(stream) = self.streams.get(top) else { return Ok(true) };
        if stream.head.is_some() {
            self.check_sorted(top)?;
        } else if stream.ended {
            self.heap.swap_remove(0);
        } else {
            return Ok(false);
        }
        self.stale = false;
        self.sift(0);
        Ok(true)
    }

    /// The heap's order below one place is made good again.
    fn sift(&mut self, mut at: usize) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if let (Some(&a), Some(&b)) = (self.heap.get(child), self.heap.get(least))
                    && self.compare(a, b) == Ordering::Less
                {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }

    /// Compares two streams' rows; those that are equal come in the shards' order.
    fn compare(&self, a: usize, b: usize) -> Ordering {
        let (Some(left), Some(right)) = (self.streams.get(a), self.streams.get(b)) else {
            return Ordering::Equal;
        };
        if let (Some(left), Some(right)) = (left.rank, right.rank)
            && left != right
        {
            return left.cmp(&right);
        }
        for (n, key) in self.keys.iter().enumerate() {
            let order = key.compare(left.key(n), right.key(n));
            if order != Ordering::Equal {
                return order;
            }
        }
        a.cmp(&b)
    }

    /// Starts to pass a row on, or to pass it over.
    fn begin_row(&mut self, top: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.collates {
            self.remember(top);
        }
        let Some(stream) = self.streams.get_mut(top) else { return Err(Fault::Malformed) };
        let Some(head) = stream.head.take() else { return Err(Fault::Malformed) };
        let left = head.length.checked_sub(head.visible).ok_or(Fault::Malformed)?;
        if self.window.skip > 0 {
            self.window.skip -= 1;
            stream.at += head.visible;
            self.passing = Some((top, left, false));
            return Ok(());
        }
        self.rows += 1;
        if self.window.ties && self.window.take == Some(self.rows) {
            let row = stream_row(stream);
            let value = |key: &Option<Range<usize>>| {
                key.clone().map(|range| row.get(range).unwrap_or_default().to_vec())
            };
            self.last = Some(stream.keys.iter().map(value).collect());
        }
        let columns = usize::from(head.columns).checked_sub(self.columns.hidden);
        let columns = columns.ok_or(Fault::Malformed)?;
        out.push(b'D');
        // Tag and hidden columns are not counted; the length itself and the number of columns are.
        out.extend_from_slice(&(left as u32 + 6).to_be_bytes());
        out.extend_from_slice(&(columns as u16).to_be_bytes());
        stream.at += head.visible;
        self.passing = Some((top, left, true));
        Ok(())
    }

    /// Passes on what there is of a row; true when it is whole.
    fn pass(
        &mut self,
        shard: usize,
        left: usize,
        shown: bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, Fault> {
        let stream = self.streams.get_mut(shard).ok_or(Fault::Malformed)?;
        let end = stream.buffer.len().min(stream.at + left);
        if shown {
            out.extend_from_slice(stream.buffer.get(stream.at..end).unwrap_or_default());
        }
        let left = left - (end - stream.at);
        stream.at = end;
        self.passing = (left > 0).then_some((shard, left, shown));
        Ok(left == 0)
    }

    /// The row is equal to the last one within LIMIT.
    fn is_tie(&self, top: usize) -> bool {
        let (Some(last), Some(stream)) = (&self.last, self.streams.get(top)) else { return false };
        self.keys.iter().zip(last).enumerate().all(|(n, (key, value))| {
            key.compare(value.as_deref(), stream.key(n)) == Ordering::Equal
        })
    }

    /// Keeps a row's keys, to be compared with the next one's.
    fn remember(&mut self, top: usize) {
        let Some(stream) = self.streams.get_mut(top) else { return };
        let Stream { buffer, at, keys, before, .. } = stream;
        before.clear();
        let row = buffer.get(*at..).unwrap_or_default();
        for key in keys.iter() {
            let value = key.clone().map(|range| row.get(range).unwrap_or_default());
            let length = value.map_or(-1, |value| value.len() as i32);
            before.extend_from_slice(&length.to_be_bytes());
            before.extend_from_slice(value.unwrap_or_default());
        }
    }

    /// A shard whose collation is another than the catalog's would give its rows in another order.
    fn check_sorted(&self, top: usize) -> Result<(), Fault> {
        let Some(stream) = self.streams.get(top).filter(|s| !s.before.is_empty()) else {
            return Ok(());
        };
        let mut rest = stream.before.as_slice();
        for (n, key) in self.keys.iter().enumerate() {
            let Some((length, behind)) = rest.split_first_chunk::<4>() else { return Ok(()) };
            let length = usize::try_from(i32::from_be_bytes(*length)).ok();
            let (value, behind) = behind.split_at(length.unwrap_or(0).min(behind.len()));
            rest = behind;
            match key.compare(length.map(|_| value), stream.key(n)) {
                Ordering::Less => return Ok(()),
                Ordering::Equal => {}
                Ordering::Greater => return Err(Fault::Unsorted),
            }
        }
        Ok(())
    }
}

/// Values whose order depends on a collation.
fn collates(order: Order) -> bool {
    matches!(order, Order::Bytes | Order::Padded)
}

fn stream_row(stream: &Stream) -> &[u8] {
    stream.buffer.get(stream.at..).unwrap_or_default()
}

fn rank(keys: &[Key], stream: &Stream) -> Option<u64> {
    keys.first()?.rank(stream.key(0)?)
}

fn check_keys(keys: &[Key], stream: &Stream) -> Result<(), Fault> {
    for (n, key) in keys.iter().enumerate() {
        if stream.key(n).is_some_and(|value| !key.order.fits(value)) {
            return Err(Fault::Malformed);
        }
    }
    Ok(())
}

impl Stream {
    /// A key of the next row; `None` is NULL.
    fn key(&self, n: usize) -> Option<&[u8]> {
        self.head.as_ref()?;
        let range = self.keys.get(n)?.clone()?;
        stream_row(self).get(range)
    }
}

impl Head {
    /// Reads where a row's keys are; `None` if they are not there yet.
    fn read(
        row: &[u8],
        length: usize,
        own: &KeyColumns,
        keys: &mut Keys,
    ) -> Result<Option<Self>, Fault> {
        let Some(head) = row.first_chunk::<ROW_HEAD_BYTES>() else { return Ok(None) };
        let [.., c0, c1] = *head;
        let columns = u16::from_be_bytes([c0, c1]);
        let read = own.at.iter().map(|at| at + 1).max().unwrap_or(0);
        if usize::from(columns) < read.max(own.hidden) || length < ROW_HEAD_BYTES {
            return Err(Fault::Malformed);
        }
        keys.clear();
        keys.resize(own.at.len(), None);
        let mut at = ROW_HEAD_BYTES;
        let mut visible = at;
        for column in 0..read {
            let Some(size) = row.get(at..).and_then(<[u8]>::first_chunk::<4>) else {
                return Ok(None);
            };
            at += 4;
            let size = u32::from_be_bytes(*size);
            if size != u32::MAX {
                let value = at..at + size as usize;
                if value.end > length {
                    return Err(Fault::Malformed);
                }
                at = value.end;
                let asked = own.at.iter().zip(keys.iter_mut()).filter(|(at, _)| **at == column);
                for (_, key) in asked {
                    *key = Some(value.clone());
                }
            }
            if column < own.hidden {
                visible = at;
            }
        }
        if at > length {
            return Err(Fault::Malformed);
        }
        if row.len() < at {
            return Ok(None);
        }
        Ok(Some(Self { length, columns, visible }))
    }
}

#[cfg(test)]
mod tests;
