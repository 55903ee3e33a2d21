//! What the proxy itself says to clients. What a shard says is relayed as bytes and never passes here.
//!
//! Messages that a session sees once (authentication, start-up) or seldom (errors, descriptions) go
//! through `pgwire`'s structs; what can come with every statement is written directly.

use bytes::{Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::data as pg_data;
use pgwire::messages::response as pg_response;
use pgwire::messages::startup as pg_startup;

use super::frontend::put_value;
use super::out::{Out, cstring, message};
use super::startup::Negotiation;
use crate::datum::{Format, Oid};
use crate::error::SqlError;

/// Tags of backend messages (manual, "Message Formats").
pub mod tag {
    /// Authentication….
    pub const AUTHENTICATION: u8 = b'R';
    /// `BackendKeyData`.
    pub const BACKEND_KEY_DATA: u8 = b'K';
    /// `BindComplete`.
    pub const BIND_COMPLETE: u8 = b'2';
    /// `CloseComplete`.
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// `CommandComplete`.
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// `CopyBothResponse`.
    pub const COPY_BOTH: u8 = b'W';
    /// `CopyData`.
    pub const COPY_DATA: u8 = b'd';
    /// `CopyDone`.
    pub const COPY_DONE: u8 = b'c';
    /// `CopyInResponse`.
    pub const COPY_IN: u8 = b'G';
    /// `CopyOutResponse`.
    pub const COPY_OUT: u8 = b'H';
    /// `DataRow`.
    pub const DATA_ROW: u8 = b'D';
    /// `EmptyQueryResponse`.
    pub const EMPTY_QUERY: u8 = b'I';
    /// `ErrorResponse`.
    pub const ERROR: u8 = b'E';
    /// `NegotiateProtocolVersion`.
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    /// `NoData`.
    pub const NO_DATA: u8 = b'n';
    /// `NoticeResponse`.
    pub const NOTICE: u8 = b'N';
    /// `NotificationResponse`.
    pub const NOTIFICATION: u8 = b'A';
    /// `ParameterDescription`.
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    /// `ParameterStatus`.
    pub const PARAMETER_STATUS: u8 = b'S';
    /// `ParseComplete`.
    pub const PARSE_COMPLETE: u8 = b'1';
    /// `PortalSuspended`.
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// `ReadyForQuery`.
    pub const READY_FOR_QUERY: u8 = b'Z';
    /// `RowDescription`.
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// The transaction status of a `ReadyForQuery`: not in a transaction block.
pub const STATUS_IDLE: u8 = b'I';
/// In a transaction block.
pub const STATUS_TRANSACTION: u8 = b'T';
/// In a failed transaction block.
pub const STATUS_FAILED: u8 = b'E';

/// The severity of an error or a notice (manual, "Error and Notice Message Fields", S and V).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends with it.
    Fatal,
    /// WARNING.
    Warning,
    /// NOTICE.
    Notice,
    /// INFO: shown whatever `client_min_messages` says.
    Info,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
            Severity::Warning => "WARNING",
            Severity::Notice => "NOTICE",
            Severity::Info => "INFO",
        }
    }
}

/// A column of a result that the proxy makes up itself: of no table.
#[derive(Clone, Copy, Debug)]
pub struct FieldDescription<'a> {
    /// The column's name.
    pub name: &'a str,
    /// The type.
    pub type_oid: Oid,
    /// `pg_type.typlen`.
    pub type_len: i16,
    /// The type modifier, -1 for none.
    pub type_mod: i32,
    /// How the values are written.
    pub format: Format,
}

impl<'a> FieldDescription<'a> {
    /// A column of type text, in text format.
    pub fn text(name: &'a str) -> Self {
        Self {
            name,
            type_oid: crate::datum::oid::TEXT,
            type_len: -1,
            type_mod: -1,
            format: Format::Text,
        }
    }
}

/// Appends what `pgwire` encodes. It encodes into a buffer of its own, so that a message it refuses
/// (one beyond its limits) leaves no half frame behind.
fn encode(out: &mut impl Out, encoded: &impl Message) {
    let mut buffer = BytesMut::new();
    if encoded.encode(&mut buffer).is_ok() {
        out.put(&buffer);
    }
}

/// A string for a struct of `pgwire`, which takes NULs as they come.
fn clean(text: &str) -> String {
    text.split('\0').next().unwrap_or_default().to_owned()
}

/// Appends `AuthenticationOk`.
pub fn authentication_ok(out: &mut impl Out) {
    encode(out, &pg_startup::Authentication::Ok);
}

/// Appends `AuthenticationCleartextPassword`.
pub fn authentication_cleartext(out: &mut impl Out) {
    encode(out, &pg_startup::Authentication::CleartextPassword);
}

/// Appends `AuthenticationMD5Password`.
pub fn authentication_md5(out: &mut impl Out, salt: [u8; 4]) {
    encode(out, &pg_startup::Authentication::MD5Password(salt.to_vec()));
}

/// Appends `AuthenticationSASL` with the mechanisms on offer.
pub fn authentication_sasl(out: &mut impl Out, mechanisms: &[&str]) {
    let mechanisms = mechanisms.iter().map(|name| clean(name)).collect();
    encode(out, &pg_startup::Authentication::SASL(mechanisms));
}

/// Appends `AuthenticationSASLContinue`.
pub fn authentication_sasl_continue(out: &mut impl Out, challenge: &[u8]) {
    let challenge = Bytes::copy_from_slice(challenge);
    encode(out, &pg_startup::Authentication::SASLContinue(challenge));
}

/// Appends `AuthenticationSASLFinal`.
pub fn authentication_sasl_final(out: &mut impl Out, outcome: &[u8]) {
    encode(out, &pg_startup::Authentication::SASLFinal(Bytes::copy_from_slice(outcome)));
}

/// Appends `NegotiateProtocolVersion`. PostgreSQL sends the whole version number, not the minor alone,
/// and libpq reads it so.
pub fn negotiate_protocol_version(out: &mut impl Out, negotiation: &Negotiation) {
    let version = (3 << 16) | i32::from(negotiation.minor);
    let unsupported = negotiation.unsupported.iter().map(|name| clean(name)).collect();
    encode(out, &pg_startup::NegotiateProtocolVersion::new(version, unsupported));
}

/// Appends `BackendKeyData`: 4 bytes of secret in protocol 3.0, 4 to 256 in 3.2.
pub fn backend_key_data(out: &mut impl Out, pid: i32, secret: &[u8]) {
    let key = pg_startup::SecretKey::Bytes(Bytes::copy_from_slice(secret));
    encode(out, &pg_startup::BackendKeyData::new(pid, key));
}

/// Appends `ParameterStatus`.
pub fn parameter_status(out: &mut impl Out, name: &str, value: &str) {
    message(out, tag::PARAMETER_STATUS, |out| {
        cstring(out, name.as_bytes());
        cstring(out, value.as_bytes());
    });
}

/// Appends `ReadyForQuery` with [`STATUS_IDLE`], [`STATUS_TRANSACTION`] or [`STATUS_FAILED`].
pub fn ready_for_query(out: &mut impl Out, status: u8) {
    out.put(&[tag::READY_FOR_QUERY, 0, 0, 0, 5, status]);
}

/// Appends `ErrorResponse`.
pub fn error(out: &mut impl Out, error: &SqlError, severity: Severity) {
    encode(out, &pg_response::ErrorResponse::new(fields(error, severity)));
}

/// Appends `NoticeResponse`.
pub fn notice(out: &mut impl Out, notice: &SqlError, severity: Severity) {
    encode(out, &pg_response::NoticeResponse::new(fields(notice, severity)));
}

fn fields(error: &SqlError, severity: Severity) -> Vec<(u8, String)> {
    // pgwire refuses notices of more than 30,000 bytes; libpq refuses errors of that length too.
    const TEXT_BYTES_MAX: usize = 8_000;
    let cut = |text: &str| {
        let mut text = clean(text);
        let end = text.char_indices().map(|(at, c)| at + c.len_utf8());
        let end = end.take_while(|end| *end <= TEXT_BYTES_MAX).last().unwrap_or_default();
        text.truncate(end);
        text
    };
    let mut fields = Vec::with_capacity(8);
    fields.push((b'S', severity.word().to_owned()));
    fields.push((b'V', severity.word().to_owned()));
    fields.push((b'C', error.code.0.to_owned()));
    fields.push((b'M', cut(&error.message)));
    fields.extend(error.detail.as_deref().map(|text| (b'D', cut(text))));
    fields.extend(error.hint.as_deref().map(|text| (b'H', cut(text))));
    fields.extend(error.position.map(|position| (b'P', position.to_string())));
    fields.extend(error.routine().map(|routine| (b'R', routine.to_owned())));
    fields
}

/// Appends `RowDescription`.
pub fn row_description(out: &mut impl Out, fields: &[FieldDescription<'_>]) {
    let fields = fields
        .iter()
        .map(|field| {
            pg_data::FieldDescription::new(
                clean(field.name),
                0,
                0,
                field.type_oid,
                field.type_len,
                field.type_mod,
                i16::from(field.format == Format::Binary),
            )
        })
        .collect();
    encode(out, &pg_data::RowDescription::new(fields));
}

/// Appends `ParameterDescription`.
pub fn parameter_description(out: &mut impl Out, oids: &[Oid]) {
    encode(out, &pg_data::ParameterDescription::new(oids.to_vec()));
}

/// Appends `DataRow`, `None` for NULL.
pub fn data_row(out: &mut impl Out, values: &[Option<&[u8]>]) {
    message(out, tag::DATA_ROW, |out| {
        out.put(&(values.len() as u16).to_be_bytes());
        for value in values {
            put_value(out, *value);
        }
    });
}

/// Appends `CommandComplete`, `"SELECT 3"`.
pub fn command_complete(out: &mut impl Out, command_tag: &str) {
    message(out, tag::COMMAND_COMPLETE, |out| cstring(out, command_tag.as_bytes()));
}

/// Appends `EmptyQueryResponse`.
pub fn empty_query_response(out: &mut impl Out) {
    empty(out, tag::EMPTY_QUERY);
}

/// Appends `ParseComplete`.
pub fn parse_complete(out: &mut impl Out) {
    empty(out, tag::PARSE_COMPLETE);
}

/// Appends `BindComplete`.
pub fn bind_complete(out: &mut impl Out) {
    empty(out, tag::BIND_COMPLETE);
}

/// Appends `CloseComplete`.
pub fn close_complete(out: &mut impl Out) {
    empty(out, tag::CLOSE_COMPLETE);
}

/// Appends `NoData`.
pub fn no_data(out: &mut impl Out) {
    empty(out, tag::NO_DATA);
}

/// Appends `PortalSuspended`.
pub fn portal_suspended(out: &mut impl Out) {
    empty(out, tag::PORTAL_SUSPENDED);
}

fn empty(out: &mut impl Out, tag: u8) {
    out.put(&[tag, 0, 0, 0, 4]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SqlState;
    use crate::wire::frame;

    fn check(write: impl FnOnce(&mut Vec<u8>), expect: &[u8]) {
        let mut out = b"before".to_vec();
        write(&mut out);
        let frame = frame::next(&out[6..], 100_000).unwrap().unwrap();
        assert_eq!(frame.raw.len() + 6, out.len());
        assert_eq!(
            String::from_utf8_lossy(&[&[frame.tag], frame.body].concat()),
            String::from_utf8_lossy(expect)
        );
    }

    #[test]
    fn messages() {
        check(authentication_ok, b"R\0\0\0\0");
        check(authentication_cleartext, b"R\0\0\0\x03");
        check(|out| authentication_sasl(out, &["SCRAM-SHA-256"]), b"R\0\0\0\x0aSCRAM-SHA-256\0\0");
        check(|out| authentication_sasl_continue(out, b"r=x"), b"R\0\0\0\x0br=x");
        check(|out| authentication_sasl_final(out, b"v=x"), b"R\0\0\0\x0cv=x");
        check(|out| backend_key_data(out, 1, b"abcd"), b"K\0\0\0\x01abcd");
        check(|out| backend_key_data(out, 1, b"0123456789"), b"K\0\0\0\x010123456789");
        check(|out| parameter_status(out, "a", "b"), b"Sa\0b\0");
        check(|out| ready_for_query(out, STATUS_FAILED), b"ZE");
        check(|out| command_complete(out, "SELECT 3"), b"CSELECT 3\0");
        check(|out| data_row(out, &[Some(b"x"), None]), b"D\0\x02\0\0\0\x01x\xff\xff\xff\xff");
        check(|out| parameter_description(out, &[20, 25]), b"t\0\x02\0\0\0\x14\0\0\0\x19");
        check(
            |out| row_description(out, &[FieldDescription::text("a")]),
            b"T\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
        );
        let negotiation = Negotiation { minor: 2, unsupported: vec!["_pq_.x".into()] };
        check(
            |out| negotiate_protocol_version(out, &negotiation),
            b"v\0\x03\0\x02\0\0\0\x01_pq_.x\0",
        );
        check(empty_query_response, b"I");
        check(parse_complete, b"1");
        check(bind_complete, b"2");
        check(close_complete, b"3");
        check(no_data, b"n");
        check(portal_suspended, b"s");
    }

    #[test]
    fn errors_and_notices() {
        let refused = SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "no\0forgery")
            .detail("d")
            .hint("h")
            .position(7);
        check(
            |out| error(out, &refused, Severity::Error),
            b"ESERROR\0VERROR\0C0A000\0Mno\0Dd\0Hh\0P7\0\0",
        );
        let shown = SqlError::new(SqlState("00000"), "m");
        check(|out| notice(out, &shown, Severity::Notice), b"NSNOTICE\0VNOTICE\0C00000\0Mm\0\0");
    }

    #[test]
    fn long_texts_are_cut_rather_than_lost() {
        let long = SqlError::new(SqlState::INTERNAL_ERROR, "ü".repeat(100_000));
        let mut out = Vec::new();
        notice(&mut out, &long, Severity::Warning);
        assert!(frame::next(&out, 10_000).unwrap().is_some());
    }
}
