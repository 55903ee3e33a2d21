//! Walks over a server's stream by its headers alone, to know where it stands: between two answers, or
//! in the middle of one.
//!
//! [`Walk`] copies nothing but a byte or two; what the messages say is for others. It is what makes a
//! connection fit for reuse after an answer that nobody wants any more: it is read until the walk has
//! seen `ReadyForQuery`.

use super::backend::{STATUS_IDLE, tag};
use super::frame;

/// Where a server's stream stands.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    header: [u8; frame::HEADER_BYTES],
    header_len: usize,
    /// Tag of the message that is not whole yet.
    tag: u8,
    left: usize,
    ready: u32,
    status: u8,
    failed: bool,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            header: [0; frame::HEADER_BYTES],
            header_len: 0,
            tag: 0,
            left: 0,
            ready: 0,
            status: STATUS_IDLE,
            failed: false,
        }
    }
}

/// The stream is none of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl Walk {
    /// Walks on over what came.
    ///
    /// # Errors
    ///
    /// A length is impossible. Nothing may be fed afterwards.
    pub fn feed(&mut self, mut input: &[u8]) -> Result<(), Lost> {
        while !input.is_empty() {
            if self.left == 0 {
                input = self.rows(input);
                input = self.header(input)?;
                continue;
            }
            let (part, rest) = input.split_at(self.left.min(input.len()));
            // The status is the only byte of its message.
            if let (tag::READY_FOR_QUERY, Some(status)) = (self.tag, part.last()) {
                self.status = *status;
            }
            self.left -= part.len();
            input = rest;
            if self.left == 0 {
                self.end_message();
            }
        }
        Ok(())
    }

    /// Goes over rows that are there whole: most of what a large answer is.
    fn rows<'a>(&self, mut input: &'a [u8]) -> &'a [u8] {
        if self.header_len > 0 {
            return input;
        }
        while let Some((tag::DATA_ROW, total)) = whole_header(input)
            && let Some(rest) = input.get(total..)
        {
            input = rest;
        }
        input
    }

    fn header<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Lost> {
        let (part, rest) = input.split_at((frame::HEADER_BYTES - self.header_len).min(input.len()));
        let place = self.header.get_mut(self.header_len..self.header_len + part.len());
        place.ok_or(Lost)?.copy_from_slice(part);
        self.header_len += part.len();
        if self.header_len == frame::HEADER_BYTES {
            self.header_len = 0;
            let (tag, total) = frame::header(&self.header).map_err(|_| Lost)?.ok_or(Lost)?;
            self.tag = tag;
            self.left = total - frame::HEADER_BYTES;
            if self.left == 0 {
                self.end_message();
            }
        }
        Ok(rest)
    }

    fn end_message(&mut self) {
        match self.tag {
            tag::READY_FOR_QUERY => self.ready += 1,
            tag::ERROR => self.failed = true,
            _ => {}
        }
    }

    /// How many `ReadyForQuery` have come.
    pub fn ready(&self) -> u32 {
        self.ready
    }

    /// The transaction status of the last one.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// An error has come: what the server was asked last is over, or about to be.
    pub fn failed(&self) -> bool {
        self.failed
    }
}

/// The tag and length of the message that begins here, if its header is there and possible.
fn whole_header(input: &[u8]) -> Option<(u8, usize)> {
    let [tag, a, b, c, d] = *input.first_chunk()?;
    let length = u32::from_be_bytes([a, b, c, d]);
    (4..=i32::MAX as u32).contains(&length).then_some((tag, length as usize + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_end_in_any_chunks() {
        let stream = [
            &b"T\0\0\0\x06\0\0"[..],
            b"D\0\0\0\x0b\0\x01\0\0\0\x01Z",
            b"N\0\0\0\x04",
            b"E\0\0\0\x05\0",
            b"Z\0\0\0\x05T",
        ]
        .concat();
        for size in 1..=stream.len() {
            let mut walk = Walk::default();
            let mut chunks = stream.chunks(size).peekable();
            while let Some(chunk) = chunks.next() {
                assert_eq!(walk.ready(), 0, "chunks of {size}");
                walk.feed(chunk).unwrap();
                assert_eq!(walk.ready() == 1, chunks.peek().is_none(), "chunks of {size}");
            }
            assert_eq!((walk.status(), walk.failed()), (b'T', true));
        }
        assert_eq!(Walk::default().feed(b"D\0\0\0\x03"), Err(Lost));
    }
}
