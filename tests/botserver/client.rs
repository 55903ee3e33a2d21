//! A connection that speaks as diesel does: declared types, everything in binary, DSL statements by name.

use std::collections::HashMap;
use std::net::SocketAddr;

use pgmeridian::demo::cluster::ROLE;

use crate::support::raw::{Message, Raw, field, frame, rows, values};

/// What a statement was answered with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// SQLSTATE and message, or nothing.
    pub(crate) error: Option<(String, String)>,
    /// `RowDescription` without what differs between databases: names, types, formats.
    columns: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) rows: Vec<Vec<Option<Vec<u8>>>>,
    tag: Vec<u8>,
}

impl Answer {
    fn of(messages: &[Message]) -> Self {
        let error = messages.iter().find(|message| message.tag == b'E');
        let of = |tag| messages.iter().filter(move |message| message.tag == tag);
        Self {
            error: error.map(|error| (field(error, b'C'), field(error, b'M'))),
            columns: of(b'T').flat_map(|message| columns(&message.body)).collect(),
            rows: of(b'D').map(|message| values(&message.body)).collect(),
            tag: of(b'C').map(|message| message.body.clone()).next().unwrap_or_default(),
        }
    }
}

fn columns(body: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = &body[2..];
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        // Behind the name: table's OID, its column, then what counts.
        found.push((rest[..end].to_vec(), rest[end + 7..end + 19].to_vec()));
        rest = &rest[end + 19..];
    }
    found
}

/// A client and the statements that it has prepared.
pub(crate) struct Diesel {
    raw: Raw,
    named: HashMap<String, String>,
}

impl Diesel {
    pub(crate) fn connect(address: SocketAddr, database: &str) -> Self {
        let (raw, told) = Raw::log_in(address, &[("user", ROLE), ("database", database)]);
        assert!(told.iter().all(|message| message.tag != b'E'), "{told:?}");
        Self { raw, named: HashMap::new() }
    }

    /// Simple Query: the rows, or the error.
    pub(crate) fn simple(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        let messages = self.raw.query(sql);
        match messages.iter().find(|message| message.tag == b'E') {
            Some(error) => Err(format!("{} {}", field(error, b'C'), field(error, b'M'))),
            None => Ok(rows(&messages)),
        }
    }

    /// Runs a statement, by name if it is to have one.
    pub(crate) fn run(&mut self, named: bool, sql: &str, params: &[(u32, Vec<u8>)]) -> Answer {
        let mut name = String::new();
        let mut messages = Vec::new();
        if named {
            let next = format!("__diesel_stmt_{}", self.named.len());
            let known = self.named.get(sql).cloned();
            name = known.clone().unwrap_or(next);
            if known.is_none() {
                self.raw.send(&[parse(&name, sql, params), frame(b'S', b"")].concat());
                messages = self.raw.until_ready();
                if messages.iter().any(|message| message.tag == b'E') {
                    return Answer::of(&messages);
                }
                self.named.insert(sql.to_owned(), name.clone());
            }
        }
        let mut request = if named { Vec::new() } else { parse("", sql, params) };
        request.extend(bind(&name, params));
        request.extend(frame(b'D', b"P\0"));
        request.extend(frame(b'E', b"\0\0\0\0\0"));
        request.extend(frame(b'S', b""));
        self.raw.send(&request);
        messages.extend(self.raw.until_ready());
        Answer::of(&messages)
    }
}

fn parse(name: &str, sql: &str, params: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut body = format!("{name}\0{sql}\0").into_bytes();
    body.extend(u16::try_from(params.len()).unwrap().to_be_bytes());
    for (oid, _) in params {
        body.extend(oid.to_be_bytes());
    }
    frame(b'P', &body)
}

/// To the unnamed portal, all in binary.
fn bind(name: &str, params: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut body = format!("\0{name}\0\0\x01\0\x01").into_bytes();
    body.extend(u16::try_from(params.len()).unwrap().to_be_bytes());
    for (_, value) in params {
        body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(value);
    }
    body.extend([0, 1, 0, 1]);
    frame(b'B', &body)
}
