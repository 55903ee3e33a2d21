//! The extended query protocol: Parse, Bind, Describe, Execute, Close.

use std::sync::Arc;

use super::encode::Shape;
use super::phrase::{self, Said, Verb};
use super::{Console, Outcome, complete_tag, tell_notice, text};
use crate::command::Table;
use crate::datum::Format;
use crate::error::{SqlError, SqlState};
use crate::sql::lexer::{self, Limits, Scan};
use crate::wire;
use crate::wire::frontend::{BindView, ExecuteView, ParseView, Target, tag};

/// Statements that a client may keep: an operator has few.
const STATEMENTS_MAX: usize = 1_000;

/// A prepared statement.
pub(super) struct Statement {
    said: Said,
    shape: Shape,
}

/// A portal.
pub(super) struct Portal {
    said: Said,
    shape: Shape,
    /// A format for each column, one for all, or none.
    formats: Vec<Format>,
    /// Its rows and the command tag, once it has been executed.
    ran: Option<(Table, &'static str)>,
    /// So many of them have been sent.
    sent: usize,
}

impl Portal {
    fn format(&self, at: usize) -> Format {
        match self.formats.as_slice() {
            [] => Format::Text,
            [all] => *all,
            each => each.get(at).copied().unwrap_or(Format::Text),
        }
    }
}

impl Console {
    pub(super) async fn extended(&mut self, kind: u8, body: &[u8]) -> Result<(), SqlError> {
        match kind {
            tag::PARSE => self.parse(body),
            tag::BIND => self.bind(body),
            tag::DESCRIBE => self.describe(body),
            tag::EXECUTE => self.execute(body).await,
            tag::CLOSE => {
                match Target::close(body)? {
                    Target::Statement(name) => drop(self.statements.remove(name)),
                    Target::Portal(name) => drop(self.portals.remove(name)),
                }
                wire::backend::close_complete(&mut self.io.outbox);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn parse(&mut self, body: &[u8]) -> Result<(), SqlError> {
        let view = ParseView::parse(body)?;
        if !view.name.is_empty() && self.statements.contains_key(view.name) {
            return Err(SqlError::new(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!(
                    "prepared statement \"{}\" already exists",
                    String::from_utf8_lossy(view.name)
                ),
            ));
        }
        if self.statements.len() >= STATEMENTS_MAX {
            return Err(SqlError::new(
                SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                format!("more than {STATEMENTS_MAX} prepared statements"),
            )
            .hint("DEALLOCATE ALL."));
        }
        let sql = text(view.sql)?;
        let mut scan = Scan::default();
        lexer::scan(sql.as_bytes(), true, &Limits::default(), &mut scan)?;
        let one = match scan.statements.as_slice() {
            [] => "",
            [one] => sql.get(one.span.start as usize..one.span.end as usize).unwrap_or_default(),
            _ => {
                return Err(SqlError::new(
                    SqlState::SYNTAX_ERROR,
                    "cannot insert multiple commands into a prepared statement",
                ));
            }
        };
        let said = phrase::read(one)?;
        let statement = Statement { shape: said.shape(), said };
        self.statements.insert(view.name.to_vec(), Arc::new(statement));
        wire::backend::parse_complete(&mut self.io.outbox);
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), SqlError> {
        let view = BindView::parse(body)?;
        let statement = self.statement(view.statement)?;
        let wanted = usize::from(matches!(statement.said, Said::Asks(_)));
        if view.len() != wanted {
            return Err(SqlError::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{}\" requires {wanted}",
                    view.len(),
                    String::from_utf8_lossy(view.statement)
                ),
            ));
        }
        let said = match &statement.said {
            Said::Asks(verb) => Said::Command(verb.with(&argument(*verb, &view)?)?),
            other => other.clone(),
        };
        let results = view.result_formats();
        let columns = statement.shape.len();
        if results.len() > 1 && results.len() != columns {
            return Err(SqlError::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message has {} result formats but query has {columns} columns",
                    results.len()
                ),
            ));
        }
        let portal = Portal {
            said,
            shape: statement.shape.clone(),
            formats: (0..results.len()).map(|at| results.of(at)).collect(),
            ran: None,
            sent: 0,
        };
        self.portals.insert(view.portal.to_vec(), portal);
        wire::backend::bind_complete(&mut self.io.outbox);
        Ok(())
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), SqlError> {
        match Target::describe(body)? {
            Target::Statement(name) => {
                let statement = self.statement(name)?;
                let out = &mut self.io.outbox;
                let types: Vec<_> = match statement.said {
                    Said::Asks(verb) => vec![verb.argument_type()],
                    _ => Vec::new(),
                };
                wire::backend::parameter_description(out, &types);
                statement.shape.describe(out, |_| Format::Text);
            }
            Target::Portal(name) => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                portal.shape.describe(&mut self.io.outbox, |at| portal.format(at));
            }
        }
        Ok(())
    }

    async fn execute(&mut self, body: &[u8]) -> Result<(), SqlError> {
        let view = ExecuteView::parse(body)?;
        let portal = self.portals.get(view.portal).ok_or_else(|| no_portal(view.portal))?;
        if portal.ran.is_none() {
            let said = portal.said.clone();
            match self.run_said(&said).await? {
                Outcome::Rows { table, tag, .. } => {
                    if let Some(portal) = self.portals.get_mut(view.portal) {
                        portal.ran = Some((table, tag));
                    }
                }
                other => {
                    let out = &mut self.io.outbox;
                    match other {
                        Outcome::Done { tag, notice } => {
                            tell_notice(out, notice.as_deref());
                            wire::backend::command_complete(out, tag);
                        }
                        _ => wire::backend::empty_query_response(out),
                    }
                    return Ok(());
                }
            }
        }
        self.send_rows(view.portal, view.max_rows);
        Ok(())
    }

    /// The rows that were not sent yet, as many as are asked for.
    fn send_rows(&mut self, name: &[u8], max_rows: i32) {
        let out = &mut self.io.outbox;
        let Some(portal) = self.portals.get_mut(name) else { return };
        let Some((table, tag)) = &portal.ran else { return };
        let rest = table.rows.get(portal.sent..).unwrap_or_default();
        let count = match usize::try_from(max_rows) {
            Ok(max) if max > 0 => max.min(rest.len()),
            _ => rest.len(),
        };
        for row in rest.iter().take(count) {
            portal.shape.row(out, row, |at| portal.format(at));
        }
        // As PostgreSQL: who gets as many rows as were asked for is not told that there are no more.
        let suspended = max_rows > 0 && count == max_rows as usize;
        if suspended {
            wire::backend::portal_suspended(out);
        } else {
            wire::backend::command_complete(out, &complete_tag(tag, count));
        }
        portal.sent += count;
    }

    fn statement(&self, name: &[u8]) -> Result<Arc<Statement>, SqlError> {
        self.statements.get(name).map(Arc::clone).ok_or_else(|| {
            let message = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                let name = String::from_utf8_lossy(name);
                format!("prepared statement \"{name}\" does not exist")
            };
            SqlError::new(SqlState::INVALID_SQL_STATEMENT_NAME, message)
        })
    }
}

fn no_portal(name: &[u8]) -> SqlError {
    SqlError::new(
        SqlState::INVALID_CURSOR_NAME,
        format!("portal \"{}\" does not exist", String::from_utf8_lossy(name)),
    )
}

/// The text of `$1`.
fn argument(verb: Verb, view: &BindView<'_>) -> Result<String, SqlError> {
    let Some((format, Some(value))) = view.parameter(0) else {
        return Err(SqlError::new(SqlState("22004"), "the command's argument is NULL"));
    };
    if verb == Verb::Kill && format == Format::Binary {
        let long = value.first_chunk::<8>().filter(|_| value.len() == 8);
        let short = value.first_chunk::<4>().filter(|_| value.len() == 4);
        let number = long
            .map(|bytes| i64::from_be_bytes(*bytes))
            .or_else(|| short.map(|bytes| i32::from_be_bytes(*bytes).into()));
        return number.map(|number| number.to_string()).ok_or_else(|| {
            SqlError::new(
                SqlState::INVALID_BINARY_REPRESENTATION,
                "incorrect binary data format in bind parameter 1",
            )
        });
    }
    text(value).map(str::to_owned)
}
