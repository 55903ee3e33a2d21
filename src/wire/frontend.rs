//! What clients send: borrowed views of messages, and the same messages written anew.
//!
//! A view's `parse` checks its whole message, so that everything after it is infallible; it borrows the
//! body and copies nothing. Error texts are those of `postgres.c` and `pqformat.c`.

use super::ProtocolError;
use super::out::{Out, cstring, message};
use super::reader::Reader;
use crate::datum::{Format, Oid};
use crate::error::SqlState;

/// Tags of frontend messages (manual, "Message Formats").
pub mod tag {
    /// Bind.
    pub const BIND: u8 = b'B';
    /// Close.
    pub const CLOSE: u8 = b'C';
    /// `CopyData`.
    pub const COPY_DATA: u8 = b'd';
    /// `CopyDone`.
    pub const COPY_DONE: u8 = b'c';
    /// `CopyFail`.
    pub const COPY_FAIL: u8 = b'f';
    /// Describe.
    pub const DESCRIBE: u8 = b'D';
    /// Execute.
    pub const EXECUTE: u8 = b'E';
    /// Flush.
    pub const FLUSH: u8 = b'H';
    /// `FunctionCall`.
    pub const FUNCTION_CALL: u8 = b'F';
    /// Parse.
    pub const PARSE: u8 = b'P';
    /// `PasswordMessage`, `SASLInitialResponse`, `SASLResponse`.
    pub const PASSWORD: u8 = b'p';
    /// Query.
    pub const QUERY: u8 = b'Q';
    /// Sync.
    pub const SYNC: u8 = b'S';
    /// Terminate.
    pub const TERMINATE: u8 = b'X';
}

/// The statements of a Query message.
///
/// # Errors
///
/// 08P01 when it isn't exactly one string.
pub fn query(body: &[u8]) -> Result<&[u8], ProtocolError> {
    let mut reader = Reader::new(body);
    let sql = reader.cstring()?;
    reader.end()?;
    Ok(sql)
}

/// A Parse message.
#[derive(Clone, Copy, Debug)]
pub struct ParseView<'a> {
    /// The prepared statement's name, empty for the unnamed one.
    pub name: &'a [u8],
    /// The statement.
    pub sql: &'a [u8],
    oids: &'a [u8],
}

impl<'a> ParseView<'a> {
    /// Reads a message's body.
    ///
    /// # Errors
    ///
    /// 08P01.
    pub fn parse(body: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let name = reader.cstring()?;
        let sql = reader.cstring()?;
        let count = reader.u16()?;
        let oids = reader.bytes(usize::from(count) * 4)?;
        reader.end()?;
        Ok(Self { name, sql, oids })
    }

    /// The parameter types that were declared; 0 leaves one to the server.
    pub fn oids(&self) -> impl ExactSizeIterator<Item = Oid> + 'a {
        self.oids.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid))
    }
}

/// A Bind message.
#[derive(Clone, Copy, Debug)]
pub struct BindView<'a> {
    /// The portal's name, empty for the unnamed one.
    pub portal: &'a [u8],
    /// The prepared statement's name.
    pub statement: &'a [u8],
    formats: Formats<'a>,
    count: u16,
    values: &'a [u8],
    result_formats: Formats<'a>,
    after_statement: &'a [u8],
}

impl<'a> BindView<'a> {
    /// Reads a message's body.
    ///
    /// # Errors
    ///
    /// 08P01; 22023 for a format code that doesn't exist.
    pub fn parse(body: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let portal = reader.cstring()?;
        let statement = reader.cstring()?;
        let after_statement = reader.rest();
        let formats = Formats::read(&mut reader)?;
        let count = reader.u16()?;
        if formats.len() > 1 && formats.len() != usize::from(count) {
            return Err(ProtocolError::violation(format!(
                "bind message has {} parameter formats but {count} parameters",
                formats.len()
            )));
        }
        let start = reader.rest();
        for _ in 0..count {
            reader.value()?;
        }
        let values = start.get(..start.len() - reader.rest().len()).unwrap_or_default();
        let result_formats = Formats::read(&mut reader)?;
        reader.end()?;
        Ok(Self { portal, statement, formats, count, values, result_formats, after_statement })
    }

    /// How many parameter values there are.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// There are no parameter values.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The parameter values in order, `None` for NULL.
    pub fn parameters(&self) -> impl Iterator<Item = (Format, Option<&'a [u8]>)> + use<'a> {
        let (formats, mut values) = (self.formats, Reader::new(self.values));
        // The values were walked once already, so the reader doesn't fail before its count is reached.
        (0..usize::from(self.count))
            .map_while(move |n| values.value().ok().map(|value| (formats.of(n), value)))
    }

    /// The n-th parameter value, counted from 0.
    pub fn parameter(&self, n: usize) -> Option<(Format, Option<&'a [u8]>)> {
        self.parameters().nth(n)
    }

    /// The formats asked for the result's columns.
    pub fn result_formats(&self) -> Formats<'a> {
        self.result_formats
    }
}

/// Format codes of a Bind message: none (all text), one for all, or one each.
#[derive(Clone, Copy, Debug)]
pub struct Formats<'a> {
    codes: &'a [u8],
}

impl<'a> Formats<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ProtocolError> {
        let count = reader.u16()?;
        let codes = reader.bytes(usize::from(count) * 2)?;
        let unknown = codes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|code| i16::from_be_bytes(*code))
            .find(|code| !matches!(code, 0 | 1));
        match unknown {
            None => Ok(Self { codes }),
            Some(code) => Err(ProtocolError::with_code(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("unsupported format code: {code}"),
            )),
        }
    }

    /// How many codes were sent.
    pub fn len(&self) -> usize {
        self.codes.len() / 2
    }

    /// No code was sent: all text.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// The format of the n-th value or column, counted from 0. What has no code of its own is text.
    pub fn of(&self, n: usize) -> Format {
        let codes = self.codes.as_chunks::<2>().0;
        let code = if codes.len() == 1 { codes.first() } else { codes.get(n) };
        if code == Some(&[0, 1]) { Format::Binary } else { Format::Text }
    }
}

/// What a Describe or Close is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal.
    Portal(&'a [u8]),
}

impl<'a> Target<'a> {
    /// Reads the body of a Describe message.
    ///
    /// # Errors
    ///
    /// 08P01.
    pub fn describe(body: &'a [u8]) -> Result<Self, ProtocolError> {
        Self::parse(body, "DESCRIBE")
    }

    /// Reads the body of a Close message.
    ///
    /// # Errors
    ///
    /// 08P01.
    pub fn close(body: &'a [u8]) -> Result<Self, ProtocolError> {
        Self::parse(body, "CLOSE")
    }

    fn parse(body: &'a [u8], verb: &str) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let kind = reader.u8()?;
        let name = reader.cstring()?;
        reader.end()?;
        match kind {
            b'S' => Ok(Self::Statement(name)),
            b'P' => Ok(Self::Portal(name)),
            _ => Err(ProtocolError::violation(format!("invalid {verb} message subtype {kind}"))),
        }
    }
}

/// An Execute message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecuteView<'a> {
    /// The portal's name.
    pub portal: &'a [u8],
    /// At most so many rows; 0 or less: all of them.
    pub max_rows: i32,
}

impl<'a> ExecuteView<'a> {
    /// Reads a message's body.
    ///
    /// # Errors
    ///
    /// 08P01.
    pub fn parse(body: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let portal = reader.cstring()?;
        let max_rows = reader.i32()?;
        reader.end()?;
        Ok(Self { portal, max_rows })
    }
}

/// The password of a `PasswordMessage`.
///
/// # Errors
///
/// 08P01 when it isn't exactly one string.
pub fn password(body: &[u8]) -> Result<&[u8], ProtocolError> {
    let mut reader = Reader::new(body);
    let password = reader.cstring()?;
    reader.end().map_err(|_| ProtocolError::violation("invalid password packet size"))?;
    Ok(password)
}

/// A `SASLInitialResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslInitialView<'a> {
    /// The mechanism that the client chose.
    pub mechanism: &'a [u8],
    /// The mechanism's first message, if the client sent one already.
    pub message: Option<&'a [u8]>,
}

impl<'a> SaslInitialView<'a> {
    /// Reads a message's body.
    ///
    /// # Errors
    ///
    /// 08P01.
    pub fn parse(body: &'a [u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let mechanism = reader.cstring()?;
        let message = reader.value()?;
        reader.end()?;
        Ok(Self { mechanism, message })
    }
}

/// The reason given in a `CopyFail`.
///
/// # Errors
///
/// 08P01 when it isn't exactly one string.
pub fn copy_fail(body: &[u8]) -> Result<&[u8], ProtocolError> {
    query(body)
}

/// Appends a Query.
pub fn query_into(out: &mut impl Out, sql: &[u8]) {
    message(out, tag::QUERY, |out| cstring(out, sql));
}

/// Appends a Parse.
pub fn parse_into(
    out: &mut impl Out,
    name: &[u8],
    sql: &[u8],
    oids: impl ExactSizeIterator<Item = Oid>,
) {
    message(out, tag::PARSE, |out| {
        cstring(out, name);
        cstring(out, sql);
        let count = oids.len().min(usize::from(u16::MAX));
        out.put(&(count as u16).to_be_bytes());
        for oid in oids.take(count) {
            out.put(&oid.to_be_bytes());
        }
    });
}

/// A request whose Parse messages declare types by other numbers; `None` if they declare none.
pub fn renumber_parsed(request: &[u8], type_: impl Fn(Oid) -> Oid) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Ok(Some((kind, length))) = super::frame::header(request.get(at..)?) {
        let end = at + length;
        let Some(body) = request.get(at + super::frame::HEADER_BYTES..end) else { break };
        if kind == tag::PARSE
            && let Ok(view) = ParseView::parse(body)
        {
            let first = end - view.oids().len() * 4;
            for (n, oid) in view.oids().enumerate().filter(|(_, oid)| type_(*oid) != *oid) {
                let own = out.get_or_insert_with(|| request.to_vec());
                let place = own.get_mut(first + n * 4..first + n * 4 + 4)?;
                place.copy_from_slice(&type_(oid).to_be_bytes());
            }
        }
        at = end;
    }
    out
}

/// Appends the same Bind for a statement of another name.
pub fn bind_with_statement(out: &mut impl Out, bind: &BindView<'_>, statement: &[u8]) {
    message(out, tag::BIND, |out| {
        cstring(out, bind.portal);
        cstring(out, statement);
        out.put(bind.after_statement);
    });
}

/// Appends a Bind of the unnamed statement to the unnamed portal, with the parameters of another one and these
/// formats, one for each column of the result.
pub fn bind_with_formats(
    out: &mut impl Out,
    bind: Option<&BindView<'_>>,
    formats: impl Iterator<Item = Format> + Clone,
) {
    message(out, tag::BIND, |out| {
        out.put(&[0, 0]);
        let parameters = bind.map_or(&[0; 4][..], |bind| {
            let length = bind.after_statement.len() - 2 - bind.result_formats.codes.len();
            bind.after_statement.get(..length).unwrap_or_default()
        });
        out.put(parameters);
        let count = formats.clone().take(usize::from(u16::MAX)).count();
        out.put(&(count as u16).to_be_bytes());
        for format in formats.take(count) {
            out.put(&[0, u8::from(format == Format::Binary)]);
        }
    });
}

/// Appends a Bind of text parameters to the unnamed portal, all results in `results`.
pub fn bind_text_into(
    out: &mut impl Out,
    statement: &[u8],
    parameters: &[Option<&[u8]>],
    results: Format,
) {
    message(out, tag::BIND, |out| {
        out.put(&[0]);
        cstring(out, statement);
        out.put(&[0, 0]);
        let count = parameters.len().min(usize::from(u16::MAX));
        out.put(&(count as u16).to_be_bytes());
        for value in parameters.iter().take(count) {
            put_value(out, *value);
        }
        out.put(&[0, 1, 0, u8::from(results == Format::Binary)]);
    });
}

/// Appends a Bind of the unnamed statement with text parameters, to the portal of another Bind and with the
/// results in its formats.
pub fn bind_text_as(out: &mut impl Out, bind: &BindView<'_>, parameters: &[Option<&[u8]>]) {
    message(out, tag::BIND, |out| {
        cstring(out, bind.portal);
        out.put(&[0, 0, 0]);
        let count = parameters.len().min(usize::from(u16::MAX));
        out.put(&(count as u16).to_be_bytes());
        for value in parameters.iter().take(count) {
            put_value(out, *value);
        }
        let formats = bind.result_formats;
        out.put(&(formats.len() as u16).to_be_bytes());
        out.put(formats.codes);
    });
}

/// Appends a Bind without parameters, all results in text.
pub fn bind_named_into(out: &mut impl Out, portal: &[u8], statement: &[u8]) {
    message(out, tag::BIND, |out| {
        cstring(out, portal);
        cstring(out, statement);
        out.put(&[0; 6]);
    });
}

/// A value with its length, -1 for NULL.
pub(super) fn put_value(out: &mut impl Out, value: Option<&[u8]>) {
    match value {
        None => out.put(&(-1i32).to_be_bytes()),
        Some(bytes) => {
            out.put(&(bytes.len() as u32).to_be_bytes());
            out.put(bytes);
        }
    }
}

/// Appends a Describe of a prepared statement.
pub fn describe_statement_into(out: &mut impl Out, name: &[u8]) {
    named(out, tag::DESCRIBE, b'S', name);
}

/// Appends a Describe of a portal.
pub fn describe_portal_into(out: &mut impl Out, name: &[u8]) {
    named(out, tag::DESCRIBE, b'P', name);
}

/// Appends a Close of a prepared statement.
pub fn close_statement_into(out: &mut impl Out, name: &[u8]) {
    named(out, tag::CLOSE, b'S', name);
}

/// Appends a Close of a portal.
pub fn close_portal_into(out: &mut impl Out, name: &[u8]) {
    named(out, tag::CLOSE, b'P', name);
}

fn named(out: &mut impl Out, tag: u8, kind: u8, name: &[u8]) {
    message(out, tag, |out| {
        out.put(&[kind]);
        cstring(out, name);
    });
}

/// Appends an Execute; `max_rows` 0 for all.
pub fn execute_into(out: &mut impl Out, portal: &[u8], max_rows: i32) {
    message(out, tag::EXECUTE, |out| {
        cstring(out, portal);
        out.put(&max_rows.to_be_bytes());
    });
}

/// Appends a Sync.
pub fn sync_into(out: &mut impl Out) {
    out.put(b"S\0\0\0\x04");
}

/// Appends a Flush.
pub fn flush_into(out: &mut impl Out) {
    out.put(b"H\0\0\0\x04");
}

/// Appends a Terminate.
pub fn terminate_into(out: &mut impl Out) {
    out.put(b"X\0\0\0\x04");
}

/// Appends a `CopyDone`.
pub fn copy_done_into(out: &mut impl Out) {
    out.put(b"c\0\0\0\x04");
}

/// Appends a `CopyFail`.
pub fn copy_fail_into(out: &mut impl Out, reason: &[u8]) {
    message(out, tag::COPY_FAIL, |out| cstring(out, reason));
}

/// Appends a `PasswordMessage` (cleartext or the md5 form).
pub fn password_into(out: &mut impl Out, password: &[u8]) {
    message(out, tag::PASSWORD, |out| cstring(out, password));
}

/// Appends a `SASLInitialResponse`.
pub fn sasl_initial_into(out: &mut impl Out, mechanism: &str, first: &[u8]) {
    message(out, tag::PASSWORD, |out| {
        cstring(out, mechanism.as_bytes());
        put_value(out, Some(first));
    });
}

/// Appends a `SASLResponse`.
pub fn sasl_response_into(out: &mut impl Out, response: &[u8]) {
    message(out, tag::PASSWORD, |out| out.put(response));
}

#[cfg(test)]
mod tests;
