//! What shards answer, as far as it must be understood. Everything is a borrowed view; nothing is lost:
//! what isn't UTF-8 stays bytes.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};

use super::out::{Out, cstring, message};
use super::reader::Reader;
use super::{ProtocolError, sqlstates};
use crate::datum::{Format, Oid};
use crate::error::{SqlError, SqlState};

/// The fields of an `ErrorResponse` or `NoticeResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    fields: Vec<(u8, Box<[u8]>)>,
}

impl ServerError {
    /// Reads a message's body.
    ///
    /// # Errors
    ///
    /// 08P01.
    pub fn parse(body: &[u8]) -> Result<Self, ProtocolError> {
        let mut reader = Reader::new(body);
        let mut fields = Vec::with_capacity(8);
        loop {
            match reader.u8()? {
                0 => break,
                kind => fields.push((kind, reader.cstring()?.into())),
            }
        }
        reader.end()?;
        Ok(Self { fields })
    }

    /// A field by its letter (manual, "Error and Notice Message Fields").
    pub fn field(&self, kind: u8) -> Option<&[u8]> {
        let found = self.fields.iter().find(|(candidate, _)| *candidate == kind);
        found.map(|(_, value)| value.as_ref())
    }

    /// All fields in the order they came in.
    pub fn fields(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.fields.iter().map(|(kind, value)| (*kind, value.as_ref()))
    }

    /// The severity, not translated (field V; S before PostgreSQL 9.6).
    pub fn severity(&self) -> Cow<'_, str> {
        self.text(b'V').or_else(|| self.text(b'S')).unwrap_or_default()
    }

    /// The SQLSTATE, `XX000` when there is none.
    pub fn code(&self) -> Cow<'_, str> {
        self.text(b'C').unwrap_or(Cow::Borrowed("XX000"))
    }

    /// The server has ended the connection of its own accord, while nothing was committed on it: at an
    /// administrator's word or a shutdown (57P01), or since it was idle for too long (57P05).
    pub fn is_farewell(&self) -> bool {
        self.severity() == "FATAL" && matches!(self.code().as_ref(), "57P01" | "57P05")
    }

    /// The primary message.
    pub fn message(&self) -> Cow<'_, str> {
        self.text(b'M').unwrap_or_default()
    }

    /// The detail.
    pub fn detail(&self) -> Option<Cow<'_, str>> {
        self.text(b'D')
    }

    /// The hint.
    pub fn hint(&self) -> Option<Cow<'_, str>> {
        self.text(b'H')
    }

    /// The connection ends with it.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity().as_ref(), "FATAL" | "PANIC")
    }

    /// The same with a line more in its context (field `W`).
    #[must_use]
    pub fn with_context(&self, line: &str) -> Self {
        self.with_line(b'W', line)
    }

    /// The same with a line more in one of its fields.
    #[must_use]
    pub fn with_line(&self, kind: u8, line: &str) -> Self {
        let mut fields = self.fields.clone();
        match fields.iter_mut().find(|(own, _)| *own == kind) {
            Some((_, text)) => *text = [text, &b"\n"[..], line.as_bytes()].concat().into(),
            None => fields.push((kind, line.as_bytes().into())),
        }
        Self { fields }
    }

    /// The same behind so many characters of a longer text: its position (field `P`) counts them too.
    #[must_use]
    pub fn behind(&self, characters: i64) -> Self {
        let mut fields = self.fields.clone();
        let position = fields.iter_mut().find(|(own, _)| *own == b'P').map(|(_, value)| value);
        if let Some(value) = position
            && let Some(own) =
                std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok())
        {
            *value = own.saturating_add(characters).to_string().into_bytes().into();
        }
        Self { fields }
    }

    /// Appends it as an `ErrorResponse`, field by field as it came.
    pub fn error_into(&self, out: &mut impl Out) {
        self.encode(out, super::backend::tag::ERROR);
    }

    /// Appends it as a `NoticeResponse`, field by field as it came.
    pub fn notice_into(&self, out: &mut impl Out) {
        self.encode(out, super::backend::tag::NOTICE);
    }

    fn encode(&self, out: &mut impl Out, tag: u8) {
        message(out, tag, |out| {
            for (kind, value) in &self.fields {
                out.put(&[*kind]);
                cstring(out, value);
            }
            out.put(&[0]);
        });
    }

    /// The same as an error of our own making, with `fallback` for a SQLSTATE that isn't one of PostgreSQL's.
    /// To pass an error on unchanged use [`ServerError::error_into`].
    pub fn to_sql_error(&self, fallback: SqlState) -> SqlError {
        let code = self.field(b'C').and_then(sqlstates::known).unwrap_or(fallback);
        let mut error = SqlError::new(code, self.message());
        error.detail = self.detail().map(Cow::into_owned);
        error.hint = self.hint().map(Cow::into_owned);
        error.position = self.text(b'P').and_then(|position| position.parse().ok());
        error
    }

    fn text(&self, kind: u8) -> Option<Cow<'_, str>> {
        self.field(kind).map(String::from_utf8_lossy)
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message(), self.code())
    }
}

/// A column of a `RowDescription`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The column's name, in the client's encoding.
    pub name: &'a [u8],
    /// The table it comes from, or 0.
    pub table_oid: Oid,
    /// Its number in that table, or 0.
    pub attribute: i16,
    /// Its type.
    pub type_oid: Oid,
    /// `pg_type.typlen`.
    pub type_len: i16,
    /// The type modifier.
    pub type_mod: i32,
    /// How its values are written (text when described before Bind).
    pub format: Format,
}

/// The columns of a `RowDescription`.
///
/// # Errors
///
/// 08P01.
pub fn row_description(body: &[u8]) -> Result<Vec<Field<'_>>, ProtocolError> {
    let mut reader = Reader::new(body);
    let count = usize::from(reader.u16()?);
    // Not more than the body can hold (19 bytes each), whatever it says.
    let mut fields = Vec::with_capacity(count.min(body.len() / 19));
    for _ in 0..count {
        fields.push(Field {
            name: reader.cstring()?,
            table_oid: reader.u32()?,
            attribute: reader.i16()?,
            type_oid: reader.u32()?,
            type_len: reader.i16()?,
            type_mod: reader.i32()?,
            format: if reader.i16()? == 1 { Format::Binary } else { Format::Text },
        });
    }
    reader.end()?;
    Ok(fields)
}

/// Stands for the names and types of a `RowDescription`'s columns: what a prepared statement's result may not
/// change in (`equalTupleDescs`). Never 0.
pub fn shape(body: &[u8]) -> Option<u64> {
    let fields = row_description(body).ok()?;
    let mut hasher = rustc_hash::FxHasher::default();
    for field in &fields {
        (field.name, field.type_oid, field.type_mod).hash(&mut hasher);
    }
    fields.len().hash(&mut hasher);
    Some(hasher.finish().max(1))
}

/// Appends a `RowDescription` of such columns.
pub fn row_description_into(out: &mut impl Out, fields: &[Field<'_>]) {
    message(out, super::backend::tag::ROW_DESCRIPTION, |out| {
        out.put(&(fields.len() as u16).to_be_bytes());
        for field in fields {
            cstring(out, field.name);
            out.put(&field.table_oid.to_be_bytes());
            out.put(&field.attribute.to_be_bytes());
            out.put(&field.type_oid.to_be_bytes());
            out.put(&field.type_len.to_be_bytes());
            out.put(&field.type_mod.to_be_bytes());
            out.put(&i16::from(field.format == Format::Binary).to_be_bytes());
        }
    });
}

/// The values of a `DataRow`, `None` for NULL.
///
/// # Errors
///
/// 08P01.
pub fn data_row(body: &[u8]) -> Result<Vec<Option<&[u8]>>, ProtocolError> {
    let mut reader = Reader::new(body);
    let count = usize::from(reader.u16()?);
    let mut values = Vec::with_capacity(count.min(body.len() / 4));
    for _ in 0..count {
        values.push(reader.value()?);
    }
    reader.end()?;
    Ok(values)
}

/// In the body of a `NotificationResponse`: who notified is `shown` if it was `own`.
pub fn rename_notifier(body: &mut [u8], own: i32, shown: i32) {
    if let Some(pid) = body.first_chunk_mut::<4>()
        && *pid == own.to_be_bytes()
    {
        *pid = shown.to_be_bytes();
    }
}

/// In the body of a `RowDescription`: the numbers of tables and types are others.
pub fn renumber_columns(
    body: &mut [u8],
    table: impl Fn(Oid) -> Oid,
    type_: impl Fn(Oid) -> Oid,
) -> Option<()> {
    let (_, mut rest) = body.split_first_chunk_mut::<2>()?;
    while !rest.is_empty() {
        let name = rest.iter().position(|byte| *byte == 0)?;
        let (column, behind) = rest.split_at_mut_checked(name + 1 + 18)?;
        let (_, fixed) = column.split_at_mut_checked(name + 1)?;
        renumber(fixed, &table)?;
        renumber(fixed.get_mut(6..)?, &type_)?;
        rest = behind;
    }
    Some(())
}

/// In the body of a `ParameterDescription`: the numbers of types are others.
pub fn renumber_parameters(body: &mut [u8], type_: impl Fn(Oid) -> Oid) -> Option<()> {
    let (_, oids) = body.split_first_chunk_mut::<2>()?;
    oids.as_chunks_mut::<4>().0.iter_mut().try_for_each(|oid| renumber(oid, &type_))
}

fn renumber(bytes: &mut [u8], number: &impl Fn(Oid) -> Oid) -> Option<()> {
    let oid = bytes.first_chunk_mut::<4>()?;
    *oid = number(u32::from_be_bytes(*oid)).to_be_bytes();
    Some(())
}

/// Name and value of a `ParameterStatus`.
///
/// # Errors
///
/// 08P01.
pub fn parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), ProtocolError> {
    let mut reader = Reader::new(body);
    let (name, value) = (reader.cstring()?, reader.cstring()?);
    reader.end()?;
    Ok((name, value))
}

/// Process number and secret of a `BackendKeyData`.
///
/// # Errors
///
/// 08P01.
pub fn backend_key_data(body: &[u8]) -> Result<(i32, &[u8]), ProtocolError> {
    let mut reader = Reader::new(body);
    let pid = reader.i32()?;
    Ok((pid, reader.rest()))
}

/// The transaction status of a `ReadyForQuery`.
///
/// # Errors
///
/// 08P01 when it is none that exists.
pub fn ready_for_query(body: &[u8]) -> Result<u8, ProtocolError> {
    match body {
        [status @ (b'I' | b'T' | b'E')] => Ok(*status),
        _ => Err(ProtocolError::violation("invalid ReadyForQuery message")),
    }
}

/// The tag of a `CommandComplete`.
///
/// # Errors
///
/// 08P01.
pub fn command_complete(body: &[u8]) -> Result<&[u8], ProtocolError> {
    super::frontend::query(body)
}

/// How many rows a command tag counts: `SELECT 3`, `INSERT 0 3`, `COPY 3`; `None` when it counts none.
pub fn row_count(command_tag: &[u8]) -> Option<u64> {
    let (_, count) = std::str::from_utf8(command_tag).ok()?.rsplit_once(' ')?;
    count.parse().ok()
}

/// The types of a `ParameterDescription`.
///
/// # Errors
///
/// 08P01.
pub fn parameter_description(body: &[u8]) -> Result<Vec<Oid>, ProtocolError> {
    let mut reader = Reader::new(body);
    let count = usize::from(reader.u16()?);
    let oids = reader.bytes(count * 4)?;
    reader.end()?;
    Ok(oids.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid)).collect())
}

/// What an Authentication… message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// Nothing more.
    Ok,
    /// The password as it is.
    Cleartext,
    /// The password's md5 form with this salt.
    Md5([u8; 4]),
    /// One of these SASL mechanisms.
    Sasl(Vec<&'a [u8]>),
    /// A SASL challenge.
    SaslContinue(&'a [u8]),
    /// The outcome of SASL.
    SaslFinal(&'a [u8]),
    /// Something that isn't spoken here: Kerberos, GSSAPI, SSPI …, by its code.
    Other(i32),
}

/// Reads the body of an Authentication… message.
///
/// # Errors
///
/// 08P01.
pub fn authentication(body: &[u8]) -> Result<Authentication<'_>, ProtocolError> {
    let mut reader = Reader::new(body);
    match reader.i32()? {
        0 => Ok(Authentication::Ok),
        3 => Ok(Authentication::Cleartext),
        5 => match reader.rest().first_chunk::<4>() {
            Some(salt) => Ok(Authentication::Md5(*salt)),
            None => Err(ProtocolError::violation("invalid AuthenticationMD5Password message")),
        },
        10 => {
            let mut mechanisms = Vec::new();
            loop {
                match reader.cstring()? {
                    b"" => return Ok(Authentication::Sasl(mechanisms)),
                    mechanism => mechanisms.push(mechanism),
                }
            }
        }
        11 => Ok(Authentication::SaslContinue(reader.rest())),
        12 => Ok(Authentication::SaslFinal(reader.rest())),
        code => Ok(Authentication::Other(code)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::frame;

    #[test]
    fn errors_pass_through_unchanged() {
        let body = b"SFEHLER\0VERROR\0C23505\0Md\xfcplicate\0Ddetail\0nkey\0\0";
        let error = ServerError::parse(body).unwrap();
        assert_eq!(error.severity(), "ERROR");
        assert_eq!(error.code(), "23505");
        assert_eq!(error.message(), "d\u{fffd}plicate");
        assert_eq!(error.field(b'n'), Some(&b"key"[..]));
        assert!(!error.is_fatal());
        let mut out = Vec::new();
        error.error_into(&mut out);
        assert_eq!(frame::next(&out, 1000).unwrap().unwrap().body, body);
        assert_eq!(error.to_sql_error(SqlState::CONNECTION_FAILURE).code, SqlState("23505"));
        let strange = ServerError::parse(b"SERROR\0C0ZZZZ\0Mno\0\0").unwrap();
        assert_eq!(strange.to_sql_error(SqlState::CONNECTION_FAILURE).code, SqlState("08006"));
        let error = ServerError::parse(b"SFATAL\0C28P01\0Mno\0P12\0\0").unwrap();
        assert!(error.is_fatal());
        let sql = error.to_sql_error(SqlState::CONNECTION_FAILURE);
        assert_eq!((sql.code, sql.position), (SqlState::INVALID_PASSWORD, Some(12)));
    }

    #[test]
    fn descriptions_read_back() {
        let field = Field {
            name: b"na\xefve",
            table_oid: 16_400,
            attribute: 3,
            type_oid: 20,
            type_len: 8,
            type_mod: -1,
            format: Format::Binary,
        };
        let mut out = Vec::new();
        row_description_into(&mut out, &[field, field]);
        let body = frame::next(&out, 1000).unwrap().unwrap().body;
        assert_eq!(row_description(body).unwrap(), [field, field]);
        let mut out = Vec::new();
        crate::wire::backend::data_row(&mut out, &[Some(b"a"), None]);
        let body = frame::next(&out, 1000).unwrap().unwrap().body;
        assert_eq!(data_row(body).unwrap(), [Some(&b"a"[..]), None]);
        assert_eq!(parameter_description(b"\0\x01\0\0\0\x14").unwrap(), [20]);
        assert!(parameter_description(b"\xff\xff\0\0\0\x14").is_err());
        assert!(row_description(b"\xff\xffa\0").is_err());
    }

    #[test]
    fn command_tags_count_rows() {
        let check = |tag: &str, expect| assert_eq!(row_count(tag.as_bytes()), expect, "{tag}");
        check("SELECT 3", Some(3));
        check("INSERT 0 12", Some(12));
        check("BEGIN", None);
        check("CREATE TABLE", None);
        check("", None);
    }

    #[test]
    fn authentication_requests() {
        let check = |body: &[u8], expect| assert_eq!(authentication(body).unwrap(), expect);
        check(b"\0\0\0\0", Authentication::Ok);
        check(b"\0\0\0\x03", Authentication::Cleartext);
        check(b"\0\0\0\x05salt", Authentication::Md5(*b"salt"));
        check(b"\0\0\0\x0aA\0B\0\0", Authentication::Sasl(vec![b"A", b"B"]));
        check(b"\0\0\0\x0bx", Authentication::SaslContinue(b"x"));
        check(b"\0\0\0\x0cx", Authentication::SaslFinal(b"x"));
        check(b"\0\0\0\x07", Authentication::Other(7));
        assert!(authentication(b"\0\0\0\x05sal").is_err());
        assert!(authentication(b"\0\0\0\x0aA\0").is_err());
        assert!(authentication(b"").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..96)) {
            let _ = ServerError::parse(&body);
            let _ = row_description(&body);
            let _ = data_row(&body);
            let _ = parameter_status(&body);
            let _ = backend_key_data(&body);
            let _ = ready_for_query(&body);
            let _ = command_complete(&body).map(row_count);
            let _ = parameter_description(&body);
            let _ = authentication(&body);
        }
    }
}
