//! Frames: a tag, a length that counts itself, a body. Cut out of a byte stream, and made of a body that is there.
//!
//! A frame is found by its first five bytes alone. What is in it is nobody's business here.

use super::{Out, ProtocolError};
use crate::error::SqlState;

/// Bytes of a frame before its body: tag and length.
pub const HEADER_BYTES: usize = 5;

/// The longest first packet, as PostgreSQL's `MAX_STARTUP_PACKET_LENGTH` (`pqcomm.h`): whoever sends it
/// isn't known yet.
pub const STARTUP_BYTES_MAX: u32 = 10_000;

/// The longest message of a client that has not logged in yet. PostgreSQL's `PG_MAX_AUTH_TOKEN_LENGTH`
/// is 65,535, for the sake of Kerberos tickets; a password or a SCRAM message is far shorter.
pub const AUTH_BYTES_MAX: u32 = 65_535;

/// The longest message of a client that has logged in, unless configured otherwise
/// (`limits.statement_bytes_max`). PostgreSQL takes 1 GB; a proxy holds a statement in memory while it
/// reads it, for thousands of clients.
pub const STATEMENT_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// More than this PostgreSQL takes for nonsense, too (`PQ_LARGE_MESSAGE_LIMIT`).
const STATEMENT_BYTES_POSSIBLE: usize = 0x3fff_fffe;

/// One whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The message's type.
    pub tag: u8,
    /// What follows the length.
    pub body: &'a [u8],
    /// All of it, to be forwarded as it is.
    pub raw: &'a [u8],
}

/// The frame at the start of `buf`; `None` when more bytes are needed.
///
/// # Errors
///
/// 08P01 when the length is impossible, or the body longer than `body_max` (53400 where that can be
/// configured). That is seen as soon as the header is there, so nothing is buffered for a frame that will
/// not be taken.
pub fn next(buf: &[u8], body_max: u32) -> Result<Option<Frame<'_>>, ProtocolError> {
    let Some((tag, total)) = header(buf)? else {
        return Ok(None);
    };
    let body_bytes = total - HEADER_BYTES;
    if body_bytes > body_max as usize {
        return Err(too_long(body_bytes, body_max));
    }
    let Some(raw) = buf.get(..total) else {
        return Ok(None);
    };
    Ok(raw.get(HEADER_BYTES..).map(|body| Frame { tag, body, raw }))
}

/// The tag and the whole length (tag included) of the frame at the start of `buf`; `None` when even its
/// header is incomplete. At least [`HEADER_BYTES`] long, so that whoever skips by it moves on.
///
/// # Errors
///
/// 08P01 when the length is impossible.
#[inline]
pub fn header(buf: &[u8]) -> Result<Option<(u8, usize)>, ProtocolError> {
    let Some(&[tag, a, b, c, d]) = buf.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    // The length is signed in the protocol: more than i32::MAX is a negative one.
    if length < 4 || length > i32::MAX as u32 {
        return Err(ProtocolError::violation("invalid message length"));
    }
    Ok(Some((tag, length as usize + 1)))
}

/// The whole frames at the start of `buf`, one after the other, however long: they are here already.
pub fn all(buf: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let mut rest = buf;
    std::iter::from_fn(move || {
        let found = next(rest, u32::MAX).ok().flatten()?;
        rest = rest.get(found.raw.len()..).unwrap_or_default();
        Some(found)
    })
}

/// Appends a frame.
#[inline]
pub fn append(out: &mut impl Out, tag: u8, body: &[u8]) {
    out.put(&[tag]);
    out.put(&(body.len() as u32 + 4).to_be_bytes());
    out.put(body);
}

/// A frame by itself.
pub fn of(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    append(&mut out, tag, body);
    out
}

#[cold]
fn too_long(body_bytes: usize, body_max: u32) -> ProtocolError {
    if body_bytes > STATEMENT_BYTES_POSSIBLE {
        return ProtocolError::violation("invalid message length");
    }
    // Only the limit on statements can be configured.
    if body_max <= AUTH_BYTES_MAX {
        let message = format!("message of {body_bytes} bytes exceeds the limit of {body_max}");
        return ProtocolError::violation(message);
    }
    ProtocolError::with_code(
        SqlState::CONFIGURATION_LIMIT_EXCEEDED,
        format!(
            "a message of {body_bytes} bytes is longer than limits.statement_bytes_max ({body_max})"
        ),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(buf: &[u8], body_max: u32, expect: Result<Option<(u8, &[u8])>, &str>) {
        let found = next(buf, body_max);
        match (found, expect) {
            (Ok(found), Ok(expect)) => {
                assert_eq!(found.map(|frame| (frame.tag, frame.body)), expect, "{buf:?}");
            }
            (Err(found), Err(expect)) => {
                assert!(found.message.contains(expect), "{} / {expect}", found.message);
            }
            (found, expect) => panic!("{buf:?}: {found:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn a_frame_that_is_here_is_found_however_long() {
        let long = vec![b'x'; STATEMENT_BYTES_MAX as usize + 1];
        let mut bytes = of(b'D', &long);
        append(&mut bytes, b'C', b"SELECT 1\0");
        bytes.extend_from_slice(b"Z\0\0\0\x05");
        let found: Vec<(u8, usize)> =
            all(&bytes).map(|frame| (frame.tag, frame.body.len())).collect();
        assert_eq!(found, [(b'D', long.len()), (b'C', 9)]);
    }

    #[test]
    fn frames_are_cut_by_their_length() {
        check(b"", 10, Ok(None));
        check(b"Q\0\0\0", 10, Ok(None));
        check(b"Q\0\0\0\x04", 10, Ok(Some((b'Q', b""))));
        check(b"Q\0\0\0\x06ab", 10, Ok(Some((b'Q', b"ab"))));
        check(b"Q\0\0\0\x06abS\0", 10, Ok(Some((b'Q', b"ab"))));
        check(b"Q\0\0\0\x06a", 10, Ok(None));
        check(b"Q\0\0\0\x03abc", 10, Err("invalid message length"));
        check(b"Q\0\0\0\0abc", 10, Err("invalid message length"));
        check(b"Q\xff\xff\xff\xff", u32::MAX, Err("invalid message length"));
        check(b"Q\0\0\0\x0f", 10, Err("message of 11 bytes exceeds the limit of 10"));
        check(b"Q\0\0\0\x0e", 10, Ok(None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(buf in prop::collection::vec(any::<u8>(), 0..64), max in any::<u32>()) {
            if let Ok(Some(frame)) = next(&buf, max) {
                prop_assert!(buf.starts_with(frame.raw));
                prop_assert_eq!(frame.raw.len(), frame.body.len() + HEADER_BYTES);
            }
        }

        #[test]
        fn frames_come_back_from_any_chunking(
            frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            cuts in prop::collection::vec(1usize..30, 1..40),
        ) {
            let mut stream = Vec::new();
            for (tag, body) in &frames {
                super::super::out::message(&mut stream, *tag, |out: &mut Vec<u8>| out.extend_from_slice(body));
            }
            let (mut buf, mut found, mut at) = (Vec::new(), Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                if at >= stream.len() { break; }
                let end = stream.len().min(at + cut);
                buf.extend_from_slice(&stream[at..end]);
                at = end;
                while let Some(frame) = next(&buf, 1000).unwrap() {
                    found.push((frame.tag, frame.body.to_vec()));
                    let used = frame.raw.len();
                    buf.drain(..used);
                }
            }
            prop_assert!(buf.is_empty());
            prop_assert_eq!(found, frames);
        }
    }
}
