//! The operator's console: who connects to the database `pgmeridian` speaks to the proxy itself, in SQL's
//! manner, over both protocols.
//!
//! [`run`] serves one client that has logged in. Statements are read by `phrase`, carried out by `command`,
//! and written as ordinary result sets by `encode`, in text and binary, so that any driver can be used;
//! what drivers say of their own accord is answered by `courtesy`.
//!
//! Absent: any way to a shard. A console's transaction is a word: nothing is undone.

mod courtesy;
mod encode;
mod extended;
mod phrase;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use crate::command::{Answer, Command, Operator, Table};
use crate::datum::Format;
use crate::error::{SqlError, SqlState};
use crate::exec::ClientIo;
use crate::exec::clients::Client;
use crate::sql::lexer::{self, Limits, Scan};
use crate::wire::backend::{STATUS_FAILED, STATUS_IDLE, STATUS_TRANSACTION, Severity};
use crate::wire::frontend::tag;
use crate::wire::{self, ProtocolError};

use courtesy::{Courtesy, Effect};
use encode::Shape;
use extended::{Portal, Statement};
use phrase::Said;

/// The database that one connects to.
pub const DATABASE: &str = "pgmeridian";

/// The version of PostgreSQL whose manners the console has: drivers ask.
const SERVER_VERSION: &str = concat!("15.0 (pgmeridian ", env!("CARGO_PKG_VERSION"), ")");

/// What a client is told when it comes in, by name.
const PARAMETERS: [(&str, &str); 9] = [
    ("server_version", SERVER_VERSION),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("is_superuser", "off"),
];

/// An operator's connection.
struct Console {
    io: ClientIo,
    client: Client,
    operator: Arc<Operator>,
    /// The status byte of `ReadyForQuery`.
    status: u8,
    /// Behind an error: everything up to Sync is skipped.
    skipping: bool,
    statements: HashMap<Vec<u8>, Arc<Statement>>,
    portals: HashMap<Vec<u8>, Portal>,
}

/// What came of a statement.
enum Outcome {
    Empty,
    Rows { shape: Shape, table: Table, tag: &'static str },
    Done { tag: &'static str, notice: Option<String> },
}

/// Serves an operator until it is gone.
pub async fn run(io: ClientIo, client: Client, operator: Arc<Operator>) {
    let (statements, portals) = (HashMap::new(), HashMap::new());
    let status = STATUS_IDLE;
    let mut console =
        Console { io, client, operator, status, skipping: false, statements, portals };
    console.greet();
    let shared = Arc::clone(console.operator.shared());
    let mut drain = pin!(shared.drain.notified());
    loop {
        match console.next() {
            Ok(Some((tag::TERMINATE, _))) => return,
            Ok(Some((kind, body))) => {
                console.client.begins();
                console.carry_out(kind, &body).await;
                console.client.done(console.status);
            }
            Ok(None) => {
                if console.io.flush().await.is_err() {
                    return;
                }
                if console.operator.is_draining() || console.client.is_killed() {
                    return console.farewell().await;
                }
                tokio::select! {
                    filled = console.io.fill() => {
                        if !matches!(filled, Ok(true)) {
                            return;
                        }
                    }
                    () = drain.as_mut() => drain.set(shared.drain.notified()),
                }
            }
            Err(error) => {
                wire::backend::error(&mut console.io.outbox, &error.into(), Severity::Fatal);
                return console.io.drain().await;
            }
        }
    }
}

impl Console {
    fn greet(&mut self) {
        let out = &mut self.io.outbox;
        for (name, value) in PARAMETERS {
            wire::backend::parameter_status(out, name, value);
        }
        let key = self.client.key;
        wire::backend::backend_key_data(out, key.pid, &key.secret.to_be_bytes());
        wire::backend::ready_for_query(out, self.status);
    }

    async fn farewell(mut self) {
        let error = SqlError::new(
            SqlState::ADMIN_SHUTDOWN,
            "terminating connection due to administrator command",
        );
        wire::backend::error(&mut self.io.outbox, &error, Severity::Fatal);
        self.io.shutdown().await;
    }

    /// The next message, if it is there as a whole.
    fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, ProtocolError> {
        let body_max = self.operator.shared().config.limits.statement_bytes_max;
        let Some(frame) = wire::frame::next(self.io.unread(), body_max)? else { return Ok(None) };
        let (kind, body, length) = (frame.tag, frame.body.to_vec(), frame.raw.len());
        if !b"QPBDECSHXdcfF".contains(&kind) {
            return Err(ProtocolError::violation(format!("invalid frontend message type {kind}")));
        }
        self.io.consume(length);
        Ok(Some((kind, body)))
    }

    async fn carry_out(&mut self, kind: u8, body: &[u8]) {
        match kind {
            tag::SYNC => {
                self.skipping = false;
                if self.status == STATUS_IDLE {
                    self.portals.clear();
                }
                wire::backend::ready_for_query(&mut self.io.outbox, self.status);
            }
            _ if self.skipping => {}
            tag::QUERY => self.query(body).await,
            tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {}
            tag::FUNCTION_CALL => {
                self.report(&SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "the function call protocol is not supported",
                ));
                wire::backend::ready_for_query(&mut self.io.outbox, self.status);
            }
            kind => {
                if let Err(error) = self.extended(kind, body).await {
                    self.report(&error);
                    self.skipping = true;
                }
            }
        }
    }

    /// A simple query: its statements in order, up to an error.
    async fn query(&mut self, body: &[u8]) {
        if let Err(error) = self.query_string(body).await {
            self.report(&error);
        }
        wire::backend::ready_for_query(&mut self.io.outbox, self.status);
    }

    async fn query_string(&mut self, body: &[u8]) -> Result<(), SqlError> {
        self.statements.remove(&b""[..]);
        self.portals.remove(&b""[..]);
        let text = text(wire::frontend::query(body)?)?;
        let mut scan = Scan::default();
        lexer::scan(text.as_bytes(), true, &Limits::default(), &mut scan)?;
        for scanned in &scan.statements {
            let span = scanned.span;
            let one = text.get(span.start as usize..span.end as usize).unwrap_or_default();
            let said = phrase::read(one)?;
            if let Said::Asks(_) = said {
                return Err(SqlError::new(SqlState("42P02"), "there is no parameter $1"));
            }
            let outcome = self.run_said(&said).await?;
            self.tell(outcome);
        }
        Ok(())
    }

    /// A statement without parameters left.
    async fn run_said(&mut self, said: &Said) -> Result<Outcome, SqlError> {
        let ends = matches!(said, Said::Courtesy(Courtesy { effect: Effect::End, .. }));
        if self.status == STATUS_FAILED && !ends {
            return Err(SqlError::new(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        match said {
            Said::Nothing => Ok(Outcome::Empty),
            Said::Command(command) => self.run_command(command).await,
            Said::Asks(_) => Err(SqlError::new(SqlState::INTERNAL_ERROR, "a parameter is missing")),
            Said::Courtesy(courtesy) => Ok(self.be_kind(courtesy)),
        }
    }

    async fn run_command(&mut self, command: &Command) -> Result<Outcome, SqlError> {
        let answer = self.operator.run(command).await?;
        Ok(match answer {
            Answer::Table(table) => {
                let tag = if matches!(command, Command::Route(_)) { "ROUTE" } else { "SHOW" };
                Outcome::Rows { shape: Shape::of(table.columns), table, tag }
            }
            Answer::Done { tag, notice } => Outcome::Done { tag, notice },
        })
    }

    fn be_kind(&mut self, courtesy: &Courtesy) -> Outcome {
        let failed = self.status == STATUS_FAILED;
        match courtesy.effect {
            Effect::None => {}
            Effect::Begin => self.status = STATUS_TRANSACTION,
            Effect::End => self.status = STATUS_IDLE,
            Effect::ForgetStatements => self.statements.clear(),
        }
        let tag = if failed { "ROLLBACK" } else { courtesy.tag };
        match &courtesy.answer {
            None => Outcome::Done { tag, notice: None },
            Some((shape, row)) => {
                let row = row.clone().resolve(&self.client);
                let table = Table { columns: &[], rows: vec![vec![row]] };
                Outcome::Rows { shape: shape.clone(), table, tag }
            }
        }
    }

    /// Tells the client of a whole answer, as the simple protocol wants it.
    fn tell(&mut self, outcome: Outcome) {
        let out = &mut self.io.outbox;
        match outcome {
            Outcome::Empty => wire::backend::empty_query_response(out),
            Outcome::Rows { shape, table, tag } => {
                shape.describe(out, |_| Format::Text);
                for row in &table.rows {
                    shape.row(out, row, |_| Format::Text);
                }
                wire::backend::command_complete(out, &complete_tag(tag, table.rows.len()));
            }
            Outcome::Done { tag, notice } => {
                tell_notice(out, notice.as_deref());
                wire::backend::command_complete(out, tag);
            }
        }
    }

    fn report(&mut self, error: &SqlError) {
        if self.status == STATUS_TRANSACTION {
            self.status = STATUS_FAILED;
        }
        wire::backend::error(&mut self.io.outbox, error, Severity::Error);
    }
}

/// As PostgreSQL: SHOW counts no rows, SELECT does.
fn complete_tag(tag: &str, rows: usize) -> String {
    if tag == "SELECT" { format!("SELECT {rows}") } else { tag.to_owned() }
}

fn tell_notice(out: &mut Vec<u8>, notice: Option<&str>) {
    if let Some(notice) = notice {
        let notice = SqlError::new(SqlState("00000"), notice);
        wire::backend::notice(out, &notice, Severity::Notice);
    }
}

fn text(bytes: &[u8]) -> Result<&str, SqlError> {
    std::str::from_utf8(bytes).map_err(|_| {
        SqlError::new(SqlState("22021"), "invalid byte sequence for encoding \"UTF8\"")
    })
}
