//! What libpq makes of the messages that the proxy writes: psql talks to a server made of `wire` alone.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use pgmeridian::error::{SqlError, SqlState};
use pgmeridian::wire::backend::{self, FieldDescription, STATUS_IDLE, Severity};
use pgmeridian::wire::scram::{Binding, MECHANISM, ServerExchange, Verifier};
use pgmeridian::wire::startup::{self, FirstPacket};
use pgmeridian::wire::{ProtocolError, frame, frontend};

struct Client {
    stream: TcpStream,
    buf: Vec<u8>,
}

impl Client {
    fn fill(&mut self) -> Option<()> {
        let mut chunk = [0; 100];
        let count = self.stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        self.buf.extend_from_slice(&chunk[..count]);
        Some(())
    }

    fn first_packet(&mut self) -> FirstPacket {
        loop {
            if let Some((packet, used)) = startup::next(&self.buf).unwrap() {
                self.buf.drain(..used);
                return packet;
            }
            self.fill().unwrap();
        }
    }

    fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = frame::next(&self.buf, 10_000).unwrap() {
                let (found, used) = ((frame.tag, frame.body.to_vec()), frame.raw.len());
                self.buf.drain(..used);
                return Some(found);
            }
            self.fill()?;
        }
    }

    fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        self.stream.write_all(&out).unwrap();
    }
}

fn serve(mut client: Client) {
    let startup = loop {
        match client.first_packet() {
            FirstPacket::Ssl | FirstPacket::GssEnc => client.send(|out| out.push(b'N')),
            FirstPacket::Startup(startup) => break startup,
            FirstPacket::Cancel { .. } => return,
        }
    };
    assert_eq!((startup.user(), startup.database()), ("bot", "bots"));
    if let Some(negotiation) = startup.negotiation() {
        client.send(|out| backend::negotiate_protocol_version(out, &negotiation));
    }
    if let Err(refused) = log_in(&mut client) {
        return client.send(|out| backend::error(out, &refused, Severity::Fatal));
    }
    client.send(|out| {
        backend::authentication_ok(out);
        backend::parameter_status(out, "server_version", "15.0");
        backend::parameter_status(out, "client_encoding", "UTF8");
        backend::backend_key_data(out, 7, b"keys");
        backend::ready_for_query(out, STATUS_IDLE);
    });
    while let Some((b'Q', body)) = client.message() {
        let sql = frontend::query(&body).unwrap();
        client.send(|out| answer(out, sql));
    }
}

fn log_in(client: &mut Client) -> Result<(), SqlError> {
    client.send(|out| backend::authentication_sasl(out, &[MECHANISM]));
    let (_, body) = client.message().ok_or_else(gone)?;
    let initial = frontend::SaslInitialView::parse(&body)?;
    assert_eq!(initial.mechanism, MECHANISM.as_bytes());
    let verifier = Verifier::from_password("gehéim".as_bytes());
    let exchange = ServerExchange::new(verifier, Binding::Unsupported);
    let first = exchange.first(initial.message.unwrap()).map_err(|e| e.sql_error("bot"))?;
    client.send(|out| backend::authentication_sasl_continue(out, first.1.as_bytes()));
    let (_, body) = client.message().ok_or_else(gone)?;
    let done = first.0.last(&body).map_err(|error| error.sql_error("bot"))?;
    client.send(|out| backend::authentication_sasl_final(out, done.server_final.as_bytes()));
    Ok(())
}

fn gone() -> SqlError {
    ProtocolError::violation("gone").into()
}

fn answer(out: &mut Vec<u8>, sql: &[u8]) {
    if sql == b"rows" {
        let notice = SqlError::new(SqlState("00000"), "on its way").detail("one shard");
        backend::notice(out, &notice, Severity::Notice);
        let fields = [FieldDescription::text("a"), FieldDescription::text("b")];
        backend::row_description(out, &fields);
        backend::data_row(out, &[Some("ü".as_bytes()), None]);
        backend::command_complete(out, "SELECT 1");
    } else {
        let refused = SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "refused")
            .detail("Why.")
            .hint("Instead.")
            .position(2);
        backend::error(out, &refused, Severity::Error);
    }
    backend::ready_for_query(out, STATUS_IDLE);
}

/// What psql prints, on both outputs.
fn psql(password: &str, sql: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        // psql connects once more when it learns that it needs a password; here it has one.
        let (stream, _) = listener.accept().unwrap();
        serve(Client { stream, buf: Vec::new() });
    });
    let mut psql = Command::new("psql");
    psql.args(["-X", "-h", "127.0.0.1", "-p", &port.to_string(), "-U", "bot", "-d", "bots"]);
    psql.args(["-P", "null=NULL", "-At", "-v", "VERBOSITY=verbose", "-c", sql]);
    let output = psql.env("PGPASSWORD", password).env("LC_ALL", "C.UTF-8").output().unwrap();
    server.join().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn psql_understands() {
    let check = |password: &str, sql: &str, expect: &str| {
        let shown = psql(password, sql);
        assert!(shown.contains(expect), "{shown} / {expect}");
    };
    check("gehéim", "rows", "ü|NULL\nNOTICE:  00000: on its way\nDETAIL:  one shard\n");
    check(
        "gehéim",
        "other",
        "ERROR:  0A000: refused\nLINE 1: other\n         ^\nDETAIL:  Why.\nHINT:  Instead.\n",
    );
    check("falsch", "rows", "FATAL:  password authentication failed for user \"bot\"");
}
