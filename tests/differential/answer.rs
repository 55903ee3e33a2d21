//! What a server answers, and when two answers are the same.

use std::collections::HashMap;

use super::statements::Statement;
use super::support::raw::{Message, Raw, field, frame, query, values};

/// How a statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Simple,
    Text,
    Binary,
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::Simple, Self::Text, Self::Binary];
}

/// A row's values.
type Row = Vec<Option<Vec<u8>>>;

/// An error, as far as a client would notice a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) position: String,
}

/// Everything that a server says to a statement.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    /// Name, type, length, modifier, format.
    columns: Vec<(String, String, i16, i32, i16)>,
    rows: Vec<Row>,
    tag: String,
    pub(crate) error: Option<Error>,
    status: u8,
}

impl Answer {
    /// The server is gone.
    pub(crate) fn is_lost(&self) -> bool {
        self.status == 0
    }
}

/// A server, and what its types are called.
pub(crate) struct Server {
    pub(crate) raw: Raw,
    pub(crate) types: HashMap<u32, String>,
}

impl Server {
    pub(crate) fn ask(&mut self, mode: Mode, sql: &str, params: &[String]) -> Answer {
        let request = match mode {
            Mode::Simple => query(sql),
            Mode::Text => extended(sql, params, 0),
            Mode::Binary => extended(sql, params, 1),
        };
        // Where it is gone, it answers nothing.
        let _ = self.raw.try_send(&request);
        let messages = self.raw.until_ready();
        self.answer(&messages)
    }

    fn answer(&self, messages: &[Message]) -> Answer {
        let mut answer = Answer::default();
        for message in messages {
            match message.tag {
                b'T' => answer.columns = self.columns(&message.body),
                b'D' => answer.rows.push(values(&message.body)),
                b'C' => answer.tag = text(&message.body),
                b'E' => {
                    answer.error = Some(Error {
                        code: field(message, b'C'),
                        message: field(message, b'M'),
                        position: field(message, b'P'),
                    });
                }
                b'Z' => answer.status = message.body[0],
                _ => {}
            }
        }
        answer
    }

    fn columns(&self, body: &[u8]) -> Vec<(String, String, i16, i32, i16)> {
        let mut columns = Vec::new();
        let mut rest = &body[2..];
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == 0).unwrap();
            let name = text(&rest[..end]);
            let fixed = &rest[end + 1..end + 19];
            let short = |at: usize| i16::from_be_bytes(fixed[at..at + 2].try_into().unwrap());
            let long = |at: usize| i32::from_be_bytes(fixed[at..at + 4].try_into().unwrap());
            let oid = long(6).cast_unsigned();
            // Types made by users have other OIDs in each database.
            let own = oid.to_string();
            let type_name = if oid < 16384 { &own } else { self.types.get(&oid).unwrap_or(&own) };
            columns.push((name, type_name.clone(), short(10), long(12), short(16)));
            rest = &rest[end + 19..];
        }
        columns
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn extended(sql: &str, params: &[String], format: i16) -> Vec<u8> {
    let mut request = frame(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat());
    let mut bind = vec![0, 0, 0, 0];
    bind.extend_from_slice(&i16::try_from(params.len()).unwrap().to_be_bytes());
    for param in params {
        if param == "NULL" {
            bind.extend_from_slice(&(-1_i32).to_be_bytes());
            continue;
        }
        bind.extend_from_slice(&i32::try_from(param.len()).unwrap().to_be_bytes());
        bind.extend_from_slice(param.as_bytes());
    }
    bind.extend_from_slice(&1_i16.to_be_bytes());
    bind.extend_from_slice(&format.to_be_bytes());
    request.extend(frame(b'B', &bind));
    request.extend(frame(b'D', b"P\0"));
    request.extend(frame(b'E', b"\0\0\0\0\0"));
    request.extend(frame(b'S', b""));
    request
}

/// Whether a client could tell the answers apart.
pub(crate) fn compare(
    plain: &Answer,
    proxied: &Answer,
    statement: &Statement,
) -> Result<(), String> {
    match (&plain.error, &proxied.error) {
        (Some(expected), Some(got)) if expected == got => {
            return if plain.status == proxied.status { Ok(()) } else { Err("status".to_owned()) };
        }
        (None, None) => {}
        (expected, got) => return Err(format!("error {got:?} instead of {expected:?}")),
    }
    if plain.columns != proxied.columns {
        return Err(format!("columns {:?} instead of {:?}", proxied.columns, plain.columns));
    }
    if plain.tag != proxied.tag || plain.status != proxied.status {
        return Err(format!("tag {} instead of {}", proxied.tag, plain.tag));
    }
    let (mut expected, mut got) = (plain.rows.clone(), proxied.rows.clone());
    if statement.float {
        for row in expected.iter_mut().chain(&mut got) {
            row.iter_mut().flatten().for_each(round);
        }
    }
    if !statement.is_ordered() {
        expected.sort();
        got.sort();
    }
    if expected == got {
        return Ok(());
    }
    let mut missing = expected.clone();
    let mut surplus = Vec::new();
    for row in got {
        match missing.iter().position(|own| *own == row) {
            Some(at) => drop(missing.remove(at)),
            None => surplus.push(row),
        }
    }
    let lines = |rows: &[Row]| rows.iter().take(4).map(line).collect::<Vec<_>>().join("; ");
    Err(if missing.is_empty() && surplus.is_empty() {
        "the rows are in another order".to_owned()
    } else {
        format!(
            "missing {}: {}; surplus {}: {}",
            missing.len(),
            lines(&missing),
            surplus.len(),
            lines(&surplus)
        )
    })
}

/// A float to twelve digits.
fn round(value: &mut Vec<u8>) {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<f64>().ok());
    if let Some(number) = number {
        *value = format!("{number:.11e}").into_bytes();
    } else if let Ok(bytes) = <[u8; 8]>::try_from(value.as_slice()) {
        *value = format!("{:.11e}", f64::from_be_bytes(bytes)).into_bytes();
    }
}

fn line(row: &Row) -> String {
    let value = |value: &Option<Vec<u8>>| {
        value.as_ref().map_or("NULL".to_owned(), |bytes| text(bytes).chars().take(60).collect())
    };
    row.iter().map(value).collect::<Vec<String>>().join("|")
}

/// An answer in a few words.
pub(crate) fn short(answer: &Answer) -> String {
    if let Some(error) = &answer.error {
        return format!("{} {} at {}", error.code, error.message, error.position);
    }
    let rows: Vec<String> = answer.rows.iter().take(5).map(line).collect();
    format!("{} [{}]", answer.tag, rows.join(" / "))
}
