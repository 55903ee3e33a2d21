//! The rows on their way to the shard that they go to: [`Load`], a scratch table there, filled by a binary COPY.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Described;
use crate::error::{SqlError, SqlState};
use crate::exec::answer::Asked;
use crate::exec::line::{Line, PART_BYTES};
use crate::exec::scatter::Trouble;
use crate::exec::{Executor, Failure, parts};
use crate::map::ShardId;
use crate::plan::Staged;
use crate::plan::staged::Column;
use crate::sql::quote::quote_identifier;
use crate::wire::backend::tag;
use crate::wire::frontend::BindView;
use crate::wire::response::ServerError;
use crate::wire::{frame, frontend};

/// What scratch tables are called, before their number.
const SCRATCH_NAME: &str = "pg_temp.pgmeridian_rows_";

/// The next one's number.
static SCRATCH_TABLES: AtomicU64 = AtomicU64::new(1);

/// The rows of the query, on their way.
pub(super) struct Load<'a> {
    /// The scratch table.
    table: String,
    pub(super) described: &'a Described,
    /// The client's Bind.
    pub(super) view: Option<BindView<'a>>,
    /// `DataRow`s and what else was said.
    rows: Vec<u8>,
}

impl<'a> Load<'a> {
    pub(super) fn new(described: &'a Described, view: Option<BindView<'a>>, rows: Vec<u8>) -> Self {
        let number = SCRATCH_TABLES.fetch_add(1, Ordering::Relaxed);
        Self { table: format!("{SCRATCH_NAME}{number}"), described, view, rows }
    }

    /// The scratch table's columns as the query has them. `constants`: see [`Staged::constants`].
    pub(super) fn select(&self, constants: &[(Column, String)]) -> String {
        let names = &self.described.names;
        let column = |(n, name): (usize, &String)| {
            let constant = constants.iter().find(|(column, _)| column.of(names.len()) == Some(n));
            let value = constant.map_or_else(|| format!("c{n}"), |(_, value)| value.clone());
            format!("{value} AS {}", quote_identifier(name))
        };
        let columns: Vec<String> = names.iter().enumerate().map(column).collect();
        format!("SELECT {} FROM {} ORDER BY n", columns.join(", "), self.table)
    }

    /// What makes the scratch table: the query gives its columns their types.
    fn create(&self, query: &str) -> String {
        let columns = (0..self.described.names.len()).map(|n| format!("c{n}"));
        let columns: Vec<String> = std::iter::once("n".to_owned()).chain(columns).collect();
        format!(
            "CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP AS \
             SELECT pg_catalog.int8 '0', q.* FROM ({query}) q WITH NO DATA",
            self.table,
            columns.join(", ")
        )
    }

    /// A request for one statement, which may have the client's parameters.
    pub(super) fn request(&self, sql: &str) -> Vec<u8> {
        let mut out = Vec::new();
        if self.view.is_none() {
            frontend::query_into(&mut out, sql.as_bytes());
            return out;
        }
        let types = self.described.types.iter().copied();
        frontend::parse_into(&mut out, b"", sql.as_bytes(), types);
        frontend::bind_with_formats(&mut out, self.view.as_ref(), std::iter::empty());
        frontend::execute_into(&mut out, b"", 0);
        frontend::sync_into(&mut out);
        out
    }
}

impl Executor {
    /// Brings the rows to a shard, within the open transaction.
    pub(super) async fn bring(
        &mut self,
        place: ShardId,
        staged: &Staged,
        load: &Load<'_>,
    ) -> Result<(), Failure> {
        let request = load.request(&load.create(&staged.query));
        let reply = self.ask_all(&[place], &request, 1).await.pop().unwrap_or_default();
        if let Some(error) = reply.error.as_ref().filter(|_| !reply.lost)
            && !is_interrupt(error)
        {
            return Err(self.not_brought(place, error).into());
        }
        self.refuse_reply(place, &reply)?;
        let Some(at) = self.held.iter().position(|held| held.shard == place) else {
            return Err(self.lost(place).into());
        };
        let mut line = Line::of(Asked::new(self.held.swap_remove(at), &self.world));
        let copied = copy(&mut line, load).await;
        self.held.push(line.asked.held);
        match copied {
            Ok(()) => Ok(()),
            Err(Trouble::Server(body)) => match ServerError::parse(&body) {
                Ok(error) if !is_interrupt(&error) => Err(self.not_brought(place, &error).into()),
                _ => Err(self.failure(Trouble::Server(body))),
            },
            Err(trouble) => {
                self.lose(self.held.len() - 1);
                Err(self.failure(trouble))
            }
        }
    }

    /// The rows are where they belong.
    pub(super) async fn drop_scratch(
        &mut self,
        place: ShardId,
        load: &Load<'_>,
    ) -> Result<(), Failure> {
        let reply = self.ask_query(place, &format!("DROP TABLE {}", load.table)).await;
        self.refuse_reply(place, &reply)
    }

    fn not_brought(&mut self, place: ShardId, error: &ServerError) -> SqlError {
        self.session.transaction.fail();
        let shard = self.world.map.shard_name(place);
        SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("the query's rows could not be brought to shard \"{shard}\""),
        )
        .detail(format!("{} ({}).", error.message(), error.code()))
        .hint("Restrict the query to one sharding key, or cast its columns to built-in types.")
    }
}

/// The statement was cancelled, or the server goes.
fn is_interrupt(error: &ServerError) -> bool {
    matches!(error.code().as_ref(), "57014" | "57P01")
}

/// Copies the rows into the scratch table. An error of the server is read to its end.
async fn copy(line: &mut Line, load: &Load<'_>) -> Result<(), Trouble> {
    let mut request = Vec::new();
    let sql = format!("COPY {} FROM STDIN (FORMAT binary)", load.table);
    frontend::query_into(&mut request, sql.as_bytes());
    line.ask(&request).await?;
    if let Err(trouble) = line.until(tag::COPY_IN).await {
        if let Trouble::Server(_) = trouble {
            line.finish().await?;
        }
        return Err(trouble);
    }
    let mut data = parts::HEADER.to_vec();
    for (number, row) in (0_u64..).zip(frame::all(&load.rows).filter(|f| f.tag == tag::DATA_ROW)) {
        append_row(&mut data, number, row.body);
        if data.len() >= PART_BYTES {
            send(line, &mut data).await?;
        }
    }
    data.extend_from_slice(&parts::TRAILER);
    send(line, &mut data).await?;
    let mut done = Vec::new();
    frontend::copy_done_into(&mut done);
    line.send(&done).await?;
    line.finish().await
}

async fn send(line: &mut Line, data: &mut Vec<u8>) -> Result<(), Trouble> {
    let mut message = Vec::with_capacity(data.len() + frame::HEADER_BYTES);
    frame::append(&mut message, tag::COPY_DATA, data);
    data.clear();
    line.send(&message).await
}

/// A row of a binary COPY: the body of a `DataRow`, with the row's number before its columns.
fn append_row(out: &mut Vec<u8>, number: u64, row: &[u8]) {
    let Some((count, values)) = row.split_first_chunk::<2>() else { return };
    out.extend_from_slice(&u16::from_be_bytes(*count).saturating_add(1).to_be_bytes());
    out.extend_from_slice(&8_u32.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(values);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_an_answer_is_a_row_of_copy_with_its_number() {
        let mut out = Vec::new();
        append_row(&mut out, 7, &[0, 1, 0, 0, 0, 1, b'x']);
        assert_eq!(out, [0, 2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, b'x']);
    }

    #[test]
    fn constants_take_the_place_of_their_columns() {
        let names = ["a", "?column?", "b"].map(ToOwned::to_owned).to_vec();
        let described = Described { types: Vec::new(), answers: false, names };
        let table = "pg_temp.s".to_owned();
        let load = Load { table, described: &described, view: None, rows: Vec::new() };
        let constants = [(Column::FromLast(1), "'x'".to_owned())];
        assert_eq!(
            load.select(&constants),
            "SELECT c0 AS \"a\", 'x' AS \"?column?\", c2 AS \"b\" FROM pg_temp.s ORDER BY n"
        );
    }
}
