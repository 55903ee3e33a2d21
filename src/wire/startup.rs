//! The first packet of a connection, protocol versions, and the `options` of a startup packet.
//!
//! Mirrors `ProcessStartupPacket` (`backend_startup.c`), `pg_split_opts` and
//! `process_postgres_switches` (`postgres.c`), with PostgreSQL's own error texts.

use super::ProtocolError;
use super::frame::STARTUP_BYTES_MAX;
use super::out::{Out, cstring, lengthed};
use super::reader::Reader;
use crate::error::SqlState;

/// The newest minor version of protocol 3 that is spoken (3.2: longer cancel keys).
pub const MINOR_MAX: u16 = 2;

/// The longest cancel key of protocol 3.2 (manual, "`CancelRequest`").
pub const CANCEL_KEY_BYTES_MAX: usize = 256;

const CANCEL_REQUEST: u32 = code(1234, 5678);
const SSL_REQUEST: u32 = code(1234, 5679);
const GSSENC_REQUEST: u32 = code(1234, 5680);

const fn code(major: u16, minor: u16) -> u32 {
    ((major as u32) << 16) | minor as u32
}

/// What opens a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    /// `SSLRequest`: answered by one byte, `S` or `N`; then another first packet follows.
    Ssl,
    /// `GSSENCRequest`: answered by `G` or `N`; then another first packet follows.
    GssEnc,
    /// `CancelRequest`: never answered.
    Cancel {
        /// The process number of `BackendKeyData`.
        pid: i32,
        /// The secret of `BackendKeyData`.
        secret: Vec<u8>,
    },
    /// `StartupMessage`.
    Startup(Startup),
}

/// `StartupMessage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// Always 3.
    pub major: u16,
    /// The minor version that was asked for; see [`Startup::negotiation`].
    pub minor: u16,
    /// Names and values as sent, `user` among them and not empty.
    pub parameters: Vec<(String, String)>,
}

/// What is spoken instead of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiation {
    /// The minor version that is spoken.
    pub minor: u16,
    /// Protocol options (`_pq_.…`) that aren't known here: all of them.
    pub unsupported: Vec<String>,
}

impl Startup {
    /// The value of a parameter; the last one wins, as in PostgreSQL.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().rev().find(|(candidate, _)| candidate == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        self.parameter("user").unwrap_or_default()
    }

    /// The database's name: the user's when there is none.
    pub fn database(&self) -> &str {
        self.parameter("database").filter(|name| !name.is_empty()).unwrap_or_else(|| self.user())
    }

    /// Whether a `NegotiateProtocolVersion` must be sent (after this message, before authentication),
    /// and with what.
    pub fn negotiation(&self) -> Option<Negotiation> {
        let unsupported: Vec<String> = self
            .parameters
            .iter()
            .filter(|(name, _)| name.starts_with("_pq_."))
            .map(|(name, _)| name.clone())
            .collect();
        if self.minor <= MINOR_MAX && unsupported.is_empty() {
            return None;
        }
        Some(Negotiation { minor: self.minor.min(MINOR_MAX), unsupported })
    }
}

/// The first packet at the start of `buf` and its length; `None` when more bytes are needed.
///
/// # Errors
///
/// 08P01 for a malformed packet, 0A000 for another protocol, 28000 without a user name, 22021 for text
/// that isn't UTF-8.
pub fn next(buf: &[u8]) -> Result<Option<(FirstPacket, usize)>, ProtocolError> {
    let Some(length) = buf.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length);
    // At least a length and a protocol version; the limit is on what follows the length.
    if length < 8 || length - 4 > STARTUP_BYTES_MAX {
        return Err(ProtocolError::violation("invalid length of startup packet"));
    }
    let total = length as usize;
    let Some(body) = buf.get(4..total) else {
        return Ok(None);
    };
    parse(body).map(|packet| Some((packet, total)))
}

fn parse(body: &[u8]) -> Result<FirstPacket, ProtocolError> {
    let mut reader = Reader::new(body);
    match reader.u32()? {
        SSL_REQUEST => Ok(FirstPacket::Ssl),
        GSSENC_REQUEST => Ok(FirstPacket::GssEnc),
        CANCEL_REQUEST => cancel(reader),
        version => startup(version, reader.rest()),
    }
}

fn cancel(mut reader: Reader<'_>) -> Result<FirstPacket, ProtocolError> {
    let invalid = || ProtocolError::violation("invalid length of cancel request packet");
    let pid = reader.i32().map_err(|_| invalid())?;
    let secret = reader.rest();
    if secret.len() < 4 || secret.len() > CANCEL_KEY_BYTES_MAX {
        return Err(invalid());
    }
    Ok(FirstPacket::Cancel { pid, secret: secret.to_vec() })
}

fn startup(version: u32, rest: &[u8]) -> Result<FirstPacket, ProtocolError> {
    let (major, minor) = ((version >> 16) as u16, (version & 0xffff) as u16);
    if major != 3 {
        return Err(ProtocolError::with_code(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{MINOR_MAX}"
            ),
        ));
    }
    let parameters = parameters(rest)?;
    let startup = Startup { major, minor, parameters };
    if startup.user().is_empty() {
        return Err(ProtocolError::with_code(
            SqlState::INVALID_AUTHORIZATION,
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    Ok(FirstPacket::Startup(startup))
}

fn parameters(rest: &[u8]) -> Result<Vec<(String, String)>, ProtocolError> {
    let mut reader = Reader::new(rest);
    let mut parameters = Vec::new();
    let layout = || {
        ProtocolError::violation("invalid startup packet layout: expected terminator as last byte")
    };
    loop {
        let name = reader.cstring().map_err(|_| layout())?;
        if name.is_empty() {
            break;
        }
        let value = reader.cstring().map_err(|_| layout())?;
        parameters.push((text(name)?, text(value)?));
    }
    reader.end().map_err(|_| layout())?;
    Ok(parameters)
}

fn text(bytes: &[u8]) -> Result<String, ProtocolError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| {
        ProtocolError::with_code(
            SqlState("22021"),
            "invalid byte sequence for encoding \"UTF8\" in startup packet",
        )
    })
}

/// Settings given in the startup parameter `options`: `-c name=value`, `-cname=value`, `--name=value`,
/// separated by blanks, with `\` before a character that is meant literally. In names `-` means `_`.
///
/// # Errors
///
/// 42601 for any other switch of the server process: none has a meaning here.
pub fn options(options: &str) -> Result<Vec<(String, String)>, ProtocolError> {
    let mut settings = Vec::new();
    let mut words = split_options(options).into_iter();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next().unwrap_or_default()
        } else if let Some(rest) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            rest.to_owned()
        } else {
            return Err(ProtocolError::with_code(
                SqlState::SYNTAX_ERROR,
                format!("invalid command-line argument for server process: {word}"),
            ));
        };
        let Some((name, value)) = assignment.split_once('=') else {
            let switch = if word.starts_with("--") { "--" } else { "-c " };
            return Err(ProtocolError::with_code(
                SqlState::SYNTAX_ERROR,
                format!("{switch}{assignment} requires a value"),
            ));
        };
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

/// `pg_split_opts`.
fn split_options(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = options.chars().peekable();
    loop {
        while chars.next_if(|c| is_blank(*c)).is_some() {}
        if chars.peek().is_none() {
            return words;
        }
        let mut word = String::new();
        while let Some(c) = chars.next_if(|c| !is_blank(*c)) {
            match c {
                // A backslash at the very end stands for nothing.
                '\\' => word.extend(chars.next()),
                c => word.push(c),
            }
        }
        words.push(word);
    }
}

/// `isspace` in the C locale.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Appends a `StartupMessage` of protocol 3.0, the packet that opens a connection to a shard.
pub fn startup_into<'a>(
    out: &mut impl Out,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    lengthed(out, |out| {
        out.put(&code(3, 0).to_be_bytes());
        for (name, value) in parameters {
            cstring(out, name.as_bytes());
            cstring(out, value.as_bytes());
        }
        out.put(&[0]);
    });
}

/// Appends an `SSLRequest`.
pub fn ssl_request_into(out: &mut impl Out) {
    lengthed(out, |out| out.put(&SSL_REQUEST.to_be_bytes()));
}

/// Appends a `CancelRequest`.
pub fn cancel_into(out: &mut impl Out, pid: i32, secret: &[u8]) {
    lengthed(out, |out| {
        out.put(&CANCEL_REQUEST.to_be_bytes());
        out.put(&pid.to_be_bytes());
        out.put(secret);
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        lengthed(&mut out, |out: &mut Vec<u8>| out.extend_from_slice(body));
        out
    }

    fn version(major: u16, minor: u16, rest: &[u8]) -> Vec<u8> {
        let mut body = code(major, minor).to_be_bytes().to_vec();
        body.extend_from_slice(rest);
        packet(&body)
    }

    fn check(bytes: &[u8], expect: Result<FirstPacket, &str>) {
        match (next(bytes), expect) {
            (Ok(Some((found, used))), Ok(expect)) => {
                assert_eq!(found, expect);
                assert_eq!(used, bytes.len());
            }
            (Err(found), Err(expect)) => {
                assert!(found.message.starts_with(expect), "{found} / {expect}");
            }
            (found, expect) => panic!("{bytes:?}: {found:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn first_packets() {
        check(&packet(&80_877_103u32.to_be_bytes()), Ok(FirstPacket::Ssl));
        check(&packet(&80_877_104u32.to_be_bytes()), Ok(FirstPacket::GssEnc));
        let mut cancel = Vec::new();
        cancel_into(&mut cancel, -7, b"four");
        check(&cancel, Ok(FirstPacket::Cancel { pid: -7, secret: b"four".to_vec() }));
        let mut cancel = Vec::new();
        cancel_into(&mut cancel, 1, &[9; 256]);
        check(&cancel, Ok(FirstPacket::Cancel { pid: 1, secret: vec![9; 256] }));
        let mut startup = Vec::new();
        startup_into(&mut startup, [("user", "bot"), ("database", "bots")]);
        let parameters = vec![("user".into(), "bot".into()), ("database".into(), "bots".into())];
        check(&startup, Ok(FirstPacket::Startup(Startup { major: 3, minor: 0, parameters })));
    }

    #[test]
    fn faulty_first_packets() {
        check(&[0, 0, 0, 7, 0, 0, 0], Err("invalid length of startup packet"));
        check(&[0, 0, 0x27, 0x15, 0], Err("invalid length of startup packet"));
        check(&[0xff; 8], Err("invalid length of startup packet"));
        check(b"GET / HTTP/1.1\r\n\r\n", Err("invalid length of startup packet"));
        let mut cancel = Vec::new();
        cancel_into(&mut cancel, 1, b"abc");
        check(&cancel, Err("invalid length of cancel request packet"));
        let mut cancel = Vec::new();
        cancel_into(&mut cancel, 1, &[9; 257]);
        check(&cancel, Err("invalid length of cancel request packet"));
        check(&version(2, 0, b"\0"), Err("unsupported frontend protocol 2.0: server supports 3.0"));
        check(&version(3, 0, b""), Err("invalid startup packet layout"));
        check(&version(3, 0, b"user\0bot\0"), Err("invalid startup packet layout"));
        check(&version(3, 0, b"user\0bot\0\0x"), Err("invalid startup packet layout"));
        check(&version(3, 0, b"user\0bot"), Err("invalid startup packet layout"));
        check(&version(3, 0, b"user\0"), Err("invalid startup packet layout"));
        check(&version(3, 0, b"\0"), Err("no PostgreSQL user name"));
        check(&version(3, 0, b"user\0\0\0"), Err("no PostgreSQL user name"));
        check(&version(3, 0, b"user\0\xff\0\0"), Err("invalid byte sequence"));
    }

    #[test]
    fn versions_are_negotiated_down() {
        let check = |minor, name: &str, expect: Option<Negotiation>| {
            let bytes = version(3, minor, format!("user\0a\0{name}\01\0\0").as_bytes());
            let Ok(Some((FirstPacket::Startup(startup), _))) = next(&bytes) else {
                panic!("{minor} {name}");
            };
            assert_eq!(startup.negotiation(), expect);
        };
        check(0, "x", None);
        check(2, "x", None);
        check(9999, "x", Some(Negotiation { minor: 2, unsupported: vec![] }));
        let unsupported = vec!["_pq_.column_encryption".to_owned()];
        check(0, "_pq_.column_encryption", Some(Negotiation { minor: 0, unsupported }));
    }

    #[test]
    fn options_are_split_as_postgres_does() {
        let check = |text: &str, expect: Result<&[(&str, &str)], &str>| match expect {
            Ok(expect) => {
                let found = options(text).unwrap();
                let found: Vec<_> = found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                assert_eq!(found, expect, "{text}");
            }
            Err(expect) => assert_eq!(options(text).unwrap_err().message, expect, "{text}"),
        };
        check("", Ok(&[]));
        check("  ", Ok(&[]));
        check("-c a=1", Ok(&[("a", "1")]));
        check("-ca=1 --b-c=2=3", Ok(&[("a", "1"), ("b_c", "2=3")]));
        check(r"-c search_path=a\ b\\c", Ok(&[("search_path", r"a b\c")]));
        check("-c app.tenant_id=42\t-c x=", Ok(&[("app.tenant_id", "42"), ("x", "")]));
        check("-c a=1\\", Ok(&[("a", "1")]));
        check("-c", Err("-c  requires a value"));
        check("--a", Err("--a requires a value"));
        check("-d 5", Err("invalid command-line argument for server process: -d"));
        check("x=1", Err("invalid command-line argument for server process: x=1"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..80), v in 0u16..5) {
            let _ = next(&body);
            let _ = next(&packet(&body));
            let _ = next(&version(3, v, &body));
            let _ = options(&String::from_utf8_lossy(&body));
        }
    }
}
