//! Concatenation: each row goes to the client as it is, in whatever order the shards deliver.
//!
//! No row is passed on before every shard has described its columns and all descriptions agree (names,
//! types, modifiers, formats; table OIDs may differ): a user type can have another OID on each shard.
//! A row that is only half there is kept back, if it is not too large; else it goes on in parts, and meanwhile
//! only its shard is read ([`Concat::stuck`]).
//!
//! Message formats: PostgreSQL manual, "Message Formats".

use std::ops::Range;

use crate::datum::oid::FIRST_NORMAL;
use crate::wire::frame;

/// A piece of what goes to the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A range of the bytes that were fed.
    Input(Range<usize>),
    /// Bytes that came in another read (a header in two parts, a notice).
    Bytes(Vec<u8>),
}

/// Why the streams can't be joined.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// The shard reported an error; the message's body.
    Server(Vec<u8>),
    /// The shards describe different columns.
    Differs,
    /// The shard's rows are not in the order that was asked for.
    Unsorted,
    /// The shard broke the protocol, or sent what can't be concatenated (COPY).
    Malformed,
}

/// Largest message other than a row. An error may show a value that could not be read.
const CONTROL_BYTES_MAX: usize = 64 << 20;

/// A row that came in parts is kept back until it is whole, up to this size (that of a read): a shard that is
/// lost in the midst of one costs the client an error, and not its connection.
pub(super) const HELD_BYTES_MAX: usize = 64 * 1024;

/// The state of all streams.
#[derive(Debug)]
pub struct Concat {
    streams: Vec<Stream>,
    description: Option<Vec<u8>>,
    /// The columns as they must be, when that is known before.
    expected: Option<Vec<u8>>,
    rows: u64,
}

#[derive(Debug, Default)]
struct Stream {
    header: [u8; 5],
    header_len: usize,
    tag: u8,
    left: usize,
    /// The row that is being read goes on when it is whole.
    held: bool,
    body: Vec<u8>,
    description: Option<Vec<u8>>,
    done: bool,
}

impl Concat {
    /// So many shards were asked.
    pub fn new(shards: usize) -> Self {
        Self {
            streams: (0..shards).map(|_| Stream::default()).collect(),
            description: None,
            expected: None,
            rows: 0,
        }
    }

    /// So many shards were asked, and their columns must be these (a `RowDescription`'s body): of the same
    /// names, types and modifiers. Where the columns come from is then taken from here.
    pub fn expecting(shards: usize, columns: Vec<u8>) -> Self {
        Self { expected: Some(columns), ..Self::new(shards) }
    }

    /// The columns, once all shards have described theirs: a `RowDescription`'s body.
    pub fn description(&self) -> Option<&[u8]> {
        self.description.as_deref()
    }

    /// All shards have described their columns.
    pub fn is_described(&self) -> bool {
        self.description.is_some()
    }

    /// This shard has described its columns.
    pub fn has_described(&self, shard: usize) -> bool {
        self.streams.get(shard).is_some_and(|stream| stream.description.is_some())
    }

    /// This shard is ready for the next query.
    pub fn is_done(&self, shard: usize) -> bool {
        self.streams.get(shard).is_none_or(|stream| stream.done)
    }

    /// All shards are.
    pub fn all_done(&self) -> bool {
        self.streams.iter().all(|stream| stream.done)
    }

    /// Rows passed on, by the shards' own count.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The shard of which a row is half passed on.
    pub fn stuck(&self) -> Option<usize> {
        let half = |stream: &Stream| stream.tag == b'D' && stream.left > 0 && !stream.held;
        self.streams.iter().position(half)
    }

    /// Reads what a shard sent; how much of it was taken. The rest (rows that came before all shards had
    /// described theirs) is to be fed again once [`Self::is_described`].
    ///
    /// # Errors
    ///
    /// See [`Fault`]. Nothing may be fed afterwards.
    pub fn feed(
        &mut self,
        shard: usize,
        input: &[u8],
        out: &mut Vec<Piece>,
    ) -> Result<usize, Fault> {
        let mut at = 0;
        loop {
            let described = self.is_described();
            let stream = self.streams.get_mut(shard).ok_or(Fault::Malformed)?;
            if stream.left == 0 && stream.tag == 0 {
                // A row's header is not taken before the rows may go.
                let tag = if stream.header_len > 0 { stream.header.first() } else { input.get(at) };
                if tag == Some(&b'D') && !described {
                    return Ok(at);
                }
                let whole = stream.header_len == 0;
                if described && whole {
                    let rows = whole_rows(input.get(at..).unwrap_or_default());
                    push(out, at..at + rows);
                    at += rows;
                }
                let start = at;
                at += stream.take_header(input.get(at..).unwrap_or_default())?;
                if stream.tag == 0 {
                    return Ok(at);
                }
                if stream.tag == b'D' {
                    let cut = stream.left > input.len() - at;
                    stream.held = cut && stream.left <= HELD_BYTES_MAX;
                    if stream.held || !whole {
                        stream.held_header(out);
                    } else {
                        push(out, start..at);
                    }
                }
            }
            let end = input.len().min(at + stream.left);
            if stream.tag == b'D' && !stream.held {
                push(out, at..end);
            } else {
                let part = input.get(at..end).unwrap_or_default();
                if stream.body.len() + part.len() > CONTROL_BYTES_MAX {
                    return Err(Fault::Malformed);
                }
                stream.body.extend_from_slice(part);
            }
            stream.left -= end - at;
            at = end;
            if stream.left > 0 {
                return Ok(at);
            }
            self.end_message(shard, out)?;
        }
    }

    fn end_message(&mut self, shard: usize, out: &mut Vec<Piece>) -> Result<(), Fault> {
        let stream = self.streams.get_mut(shard).ok_or(Fault::Malformed)?;
        let tag = std::mem::take(&mut stream.tag);
        let body = std::mem::take(&mut stream.body);
        match tag {
            b'D' if std::mem::take(&mut stream.held) => out.push(Piece::Bytes(body)),
            b'D' | b'1' | b'2' | b'3' | b'S' | b'I' => {}
            b'T' => {
                stream.description = Some(body);
                self.compare()?;
            }
            b'C' => self.rows += row_count(&body),
            // As many rows as were asked for: who asked knows how many.
            b's' => {}
            b'Z' => stream.done = true,
            b'E' => return Err(Fault::Server(body)),
            b'N' | b'A' => {
                out.push(Piece::Bytes(frame::of(tag, &body)));
            }
            _ => return Err(Fault::Malformed),
        }
        Ok(())
    }

    fn compare(&mut self) -> Result<(), Fault> {
        let mut descriptions = self.streams.iter().map(|stream| stream.description.as_deref());
        let Some(Some(first)) = descriptions.next() else { return Ok(()) };
        let columns = columns(first).ok_or(Fault::Malformed)?;
        let mut all = true;
        for other in descriptions {
            match other {
                None => all = false,
                Some(other) => {
                    if self::columns(other).ok_or(Fault::Malformed)? != columns {
                        return Err(Fault::Differs);
                    }
                }
            }
        }
        if all {
            self.description = Some(match &self.expected {
                Some(expected) => origins(expected, first)?,
                None => first.to_vec(),
            });
        }
        Ok(())
    }
}

impl Stream {
    /// The header that was just taken: to where the row's bytes go.
    fn held_header(&mut self, out: &mut Vec<Piece>) {
        if self.held {
            self.body.extend_from_slice(&self.header);
        } else {
            out.push(Piece::Bytes(self.header.to_vec()));
        }
    }

    /// Takes a header, or as much of it as there is; `tag` is 0 until it is whole.
    fn take_header(&mut self, input: &[u8]) -> Result<usize, Fault> {
        let take = (5 - self.header_len).min(input.len());
        let place = self.header.get_mut(self.header_len..self.header_len + take);
        place.ok_or(Fault::Malformed)?.copy_from_slice(input.get(..take).unwrap_or_default());
        self.header_len += take;
        if self.header_len < 5 {
            return Ok(take);
        }
        self.header_len = 0;
        let [tag, a, b, c, d] = self.header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length < 4 || length > i32::MAX as usize || tag == 0 {
            return Err(Fault::Malformed);
        }
        self.tag = tag;
        self.left = length - 4;
        Ok(take)
    }
}

/// So many bytes are rows that are there whole.
fn whole_rows(input: &[u8]) -> usize {
    let mut at = 0;
    while let Some([b'D', a, b, c, d]) = input.get(at..).and_then(<[u8]>::first_chunk).copied() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length < 4 || length >= input.len() - at {
            break;
        }
        at += length + 1;
    }
    at
}

fn push(out: &mut Vec<Piece>, range: Range<usize>) {
    if range.is_empty() {
        return;
    }
    if let Some(Piece::Input(last)) = out.last_mut()
        && last.end == range.start
    {
        last.end = range.end;
        return;
    }
    out.push(Piece::Input(range));
}

/// `actual` with the origins (table OID, attribute number) of `expected`; formats may differ.
fn origins(expected: &[u8], actual: &[u8]) -> Result<Vec<u8>, Fault> {
    let wanted = columns(expected).ok_or(Fault::Malformed)?;
    let found = columns(actual).ok_or(Fault::Malformed)?;
    let same = |(a, b): (&Column<'_>, &Column<'_>)| a.0 == b.0 && a.1.get(..10) == b.1.get(..10);
    if wanted.len() != found.len() || !wanted.iter().zip(&found).all(same) {
        return Err(Fault::Differs);
    }
    // Only the formats, two bytes at the end of each column, are the actual ones.
    let mut out = expected.to_vec();
    let mut end = 2;
    for (name, types) in &found {
        end += name.len() + 1 + 18;
        let format = types.get(10..12).ok_or(Fault::Malformed)?;
        out.get_mut(end - 2..end).ok_or(Fault::Malformed)?.copy_from_slice(format);
    }
    Ok(out)
}

/// What must agree of a column: its name, and type OID, length, modifier and format as they stand.
pub type Column<'a> = (&'a [u8], &'a [u8]);

/// Reads a `RowDescription`'s body; `None` if it is malformed.
pub fn columns(body: &[u8]) -> Option<Vec<Column<'_>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let name = rest.get(..end)?;
        // Behind the name: table OID (4), attribute number (2), then what must agree (12).
        let types = rest.get(end + 1 + 6..end + 1 + 18)?;
        columns.push((name, types));
        rest = rest.get(end + 1 + 18..)?;
    }
    rest.is_empty().then_some(columns)
}

/// The columns whose types have other OIDs in two descriptions, both of them user-defined; `None` if anything else
/// differs (but for the length, modifier and format of such a column, which must agree too).
pub fn differing_types(one: &[Column<'_>], other: &[Column<'_>]) -> Option<Vec<usize>> {
    if one.len() != other.len() {
        return None;
    }
    let oid = |types: &[u8]| types.first_chunk().map(|oid| u32::from_be_bytes(*oid));
    let mut found = Vec::new();
    for (n, (a, b)) in one.iter().zip(other).enumerate() {
        if a == b {
            continue;
        }
        let user = |types| oid(types).is_some_and(|oid| oid >= FIRST_NORMAL);
        if a.0 != b.0 || a.1.get(4..) != b.1.get(4..) || !user(a.1) || !user(b.1) {
            return None;
        }
        found.push(n);
    }
    Some(found)
}

/// The count in a command tag such as `SELECT 3`.
fn row_count(tag: &[u8]) -> u64 {
    let tag = std::str::from_utf8(tag).unwrap_or_default().trim_end_matches('\0');
    tag.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::of as message;

    fn description(table: u32, type_oid: u32) -> Vec<u8> {
        let mut body = vec![0, 1];
        body.extend_from_slice(b"id\0");
        body.extend_from_slice(&table.to_be_bytes());
        body.extend_from_slice(&[0, 1]);
        body.extend_from_slice(&type_oid.to_be_bytes());
        body.extend_from_slice(&[0, 8, 255, 255, 255, 255, 0, 0]);
        message(b'T', &body)
    }

    fn stream(table: u32, rows: &[&[u8]]) -> Vec<u8> {
        let mut s = description(table, 20);
        for row in rows {
            s.extend(message(b'D', row));
        }
        s.extend(message(b'C', format!("SELECT {}\0", rows.len()).as_bytes()));
        s.extend(message(b'Z', b"I"));
        s
    }

    /// Feeds the streams in chunks, in turn, as the reader of `exec` does.
    fn join(streams: &[Vec<u8>], size: usize) -> Result<(Vec<u8>, u64), Fault> {
        let mut concat = Concat::new(streams.len());
        let mut at = vec![0; streams.len()];
        let mut client = Vec::new();
        for _ in 0..10_000 {
            for (i, bytes) in streams.iter().enumerate() {
                if concat.stuck().is_some_and(|stuck| stuck != i) || concat.is_done(i) {
                    continue;
                }
                let chunk = &bytes[at[i]..bytes.len().min(at[i] + size)];
                let mut out = Vec::new();
                let taken = concat.feed(i, chunk, &mut out)?;
                for piece in out {
                    match piece {
                        Piece::Input(range) => client.extend_from_slice(&chunk[range]),
                        Piece::Bytes(bytes) => client.extend_from_slice(&bytes),
                    }
                }
                at[i] += taken;
            }
            if concat.all_done() {
                return Ok((client, concat.rows()));
            }
        }
        panic!("no progress with chunks of {size}");
    }

    #[test]
    fn a_row_is_passed_on_when_it_is_whole_unless_it_is_large() {
        for (length, passes) in [(100, false), (HELD_BYTES_MAX, false), (HELD_BYTES_MAX + 1, true)]
        {
            let row = vec![b'x'; length];
            let bytes = stream(1, &[&row]);
            let mut concat = Concat::new(1);
            let mut out = Vec::new();
            // All but the last byte of the row.
            let end = description(1, 20).len() + 5 + length - 1;
            concat.feed(0, &bytes[..end], &mut out).unwrap();
            assert_eq!(!out.is_empty(), passes, "{length} bytes");
            assert_eq!(concat.stuck().is_some(), passes, "{length} bytes");
            concat.feed(0, &bytes[end..], &mut out).unwrap();
            assert!(concat.all_done() && concat.stuck().is_none());
        }
        let large = vec![b'y'; HELD_BYTES_MAX + 1];
        let streams = [stream(1, &[b"a", &large, b"b"]), stream(2, &[&large])];
        let (client, rows) = join(&streams, 30_000).unwrap();
        assert_eq!((client.len(), rows), (4 * 5 + 2 + 2 * large.len(), 4));
    }

    #[test]
    fn every_row_arrives_whole_and_once_however_it_is_cut() {
        let streams =
            [stream(1, &[b"a1", b"a2", b"a3"]), stream(2, &[]), stream(3, &[b"c1", b"c2-longer"])];
        for size in 1..200 {
            let (client, rows) = join(&streams, size).unwrap();
            assert_eq!(rows, 5, "chunks of {size}");
            let mut found = Vec::new();
            let mut rest = client.as_slice();
            while !rest.is_empty() {
                assert_eq!(rest[0], b'D');
                let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
                found.push(rest[5..=length].to_vec());
                rest = &rest[1 + length..];
            }
            found.sort();
            let expected: Vec<&[u8]> = vec![b"a1", b"a2", b"a3", b"c1", b"c2-longer"];
            assert_eq!(found, expected, "chunks of {size}");
        }
    }

    #[test]
    fn columns_that_differ_are_found_before_the_first_row() {
        let mut other = description(2, 23);
        other.extend(message(b'D', b"x"));
        assert_eq!(join(&[stream(1, &[b"a"]), other], 7), Err(Fault::Differs));
    }

    #[test]
    fn an_error_ends_it() {
        let error = message(b'E', b"SERROR\0\0");
        assert_eq!(join(&[stream(1, &[]), error], 64), Err(Fault::Server(b"SERROR\0\0".to_vec())));
    }

    #[test]
    fn nonsense_is_malformed() {
        for bytes in [&b"T\0\0\0\x03"[..], b"\0\0\0\0\x04", b"G\0\0\0\x04", b"T\0\0\0\x06\0\x01"] {
            let mut concat = Concat::new(1);
            assert_eq!(concat.feed(0, bytes, &mut Vec::new()), Err(Fault::Malformed), "{bytes:?}");
        }
    }
}
