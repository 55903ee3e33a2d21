//! The buffer that messages are appended to, and the one way to frame a message.

use bytes::BytesMut;

/// A growing buffer of bytes to send: `Vec<u8>` or `BytesMut`, whichever the caller has.
pub trait Out {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);
    /// How many bytes there are.
    fn size(&self) -> usize;
    /// Overwrites bytes that were appended before; out of range does nothing.
    fn patch(&mut self, at: usize, bytes: [u8; 4]);
}

impl Out for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn size(&self) -> usize {
        self.len()
    }

    fn patch(&mut self, at: usize, bytes: [u8; 4]) {
        patch_slice(self, at, bytes);
    }
}

impl Out for BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn size(&self) -> usize {
        self.len()
    }

    fn patch(&mut self, at: usize, bytes: [u8; 4]) {
        patch_slice(self, at, bytes);
    }
}

fn patch_slice(buffer: &mut [u8], at: usize, bytes: [u8; 4]) {
    if let Some(place) = buffer.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = bytes;
    }
}

/// Appends one message: tag, length (filled in afterwards), body.
pub(super) fn message<O: Out>(out: &mut O, tag: u8, body: impl FnOnce(&mut O)) {
    out.put(&[tag]);
    lengthed(out, body);
}

/// Appends a length that counts itself, and what it counts (the first packet has no tag).
pub(super) fn lengthed<O: Out>(out: &mut O, body: impl FnOnce(&mut O)) {
    let at = out.size();
    out.put(&[0; 4]);
    body(out);
    let length = out.size().saturating_sub(at) as u32;
    out.patch(at, length.to_be_bytes());
}

/// Appends a string with its terminator. A NUL inside would end it early and make the rest of the frame
/// something else, so the string ends there.
pub(super) fn cstring(out: &mut impl Out, text: &[u8]) {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    out.put(text.get(..end).unwrap_or(text));
    out.put(&[0]);
}
