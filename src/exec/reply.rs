//! A shard's whole answer, kept: for what the proxy asks several shards at once and answers itself.
//!
//! Main type: [`Reply`]. Answers are small (command tags, notices, the rows of a function called on every
//! shard) and bounded by `limits.merge_memory_max`. Rows that the client waits for are relayed
//! (`relay`, `scatter`), not kept.

use bytes::{Buf, BytesMut};

use super::Executor;
use super::scatter::too_much;
use crate::catalog::numbers::Renumbering;
use crate::datum::Oid;
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::session::responses::renumber_columns;
use crate::wire::backend::tag;
use crate::wire::response::{self, ServerError};
use crate::wire::{self, frame};

/// Largest message other than a row: as much as a shard's error may show of a value.
const CONTROL_BYTES_MAX: u64 = 64 << 20;

/// What one shard answered.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// Bodies of its `NoticeResponse`s.
    pub(super) notices: Vec<Vec<u8>>,
    /// What it said of its parameters.
    pub(super) parameters: Vec<(String, String)>,
    /// The types in its `ParameterDescription`.
    pub(super) types: Option<Vec<Oid>>,
    /// The body of its `RowDescription`.
    pub(super) columns: Option<Vec<u8>>,
    /// Its `DataRow`s, whole messages.
    pub(super) rows: Vec<u8>,
    /// Command tags; an empty statement leaves none.
    pub(super) tags: Vec<String>,
    /// Its first error.
    pub(super) error: Option<ServerError>,
    /// It is gone, or said what was not expected: the connection can't be used any more.
    pub(super) lost: bool,
}

impl Reply {
    /// It answered, and without an error.
    pub(super) fn is_well(&self) -> bool {
        self.error.is_none() && !self.lost
    }

    /// The last command tag.
    pub(super) fn tag(&self) -> &str {
        self.tags.last().map_or("", String::as_str)
    }

    /// Appends the notices as they came.
    pub(super) fn notices_into(&self, out: &mut Vec<u8>) {
        for body in &self.notices {
            frame::append(out, tag::NOTICE, body);
        }
    }
}

impl Reply {
    /// What it says of types and tables, in the client's numbers.
    fn renumber(&mut self, numbers: &Renumbering) {
        for oid in self.types.iter_mut().flatten() {
            *oid = numbers.of_type(*oid);
        }
        if let Some(columns) = &mut self.columns {
            // What can't be read stays as it is.
            let _ = renumber_columns(columns, numbers);
        }
    }
}

impl Executor {
    /// Sends the same request, in which so many `ReadyForQuery` are asked for, to held connections and
    /// keeps their answers, in the same order. They work at the same time. A connection that breaks stays
    /// held: the caller knows what its loss means.
    ///
    /// # Cancel safety
    ///
    /// None: connections are then in the middle of an answer. Their leases close them when dropped.
    pub(super) async fn ask_all(
        &mut self,
        shards: &[ShardId],
        request: &[u8],
        readies: u32,
    ) -> Vec<Reply> {
        let requests: Vec<(ShardId, &[u8])> =
            shards.iter().map(|shard| (*shard, request)).collect();
        self.ask_apart(&requests, readies, None).await
    }

    /// The same where each is sent something of its own. One that has not answered by the `deadline` is as good as
    /// lost.
    ///
    /// # Cancel safety
    ///
    /// See [`Self::ask_all`].
    pub(super) async fn ask_apart(
        &mut self,
        requests: &[(ShardId, &[u8])],
        readies: u32,
        deadline: Option<tokio::time::Instant>,
    ) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(requests.len());
        for (shard, request) in requests {
            let numbers = self.world.numbers.of(*shard);
            let own = numbers.and_then(|numbers| {
                wire::frontend::renumber_parsed(request, |theirs| numbers.own_type(theirs))
            });
            let lost = match self.held.iter_mut().find(|held| held.shard == *shard) {
                Some(held) => {
                    held.lease.expect_ready(readies);
                    held.lease.send_all(own.as_deref().unwrap_or(request)).await.is_err()
                }
                None => true,
            };
            replies.push(Reply { lost, ..Reply::default() });
        }
        let memory_max = self.shared().config.limits.merge_memory_max;
        for ((shard, _), reply) in requests.iter().zip(&mut replies) {
            // One that did not take everything may have said why.
            let Some(held) = self.held.iter_mut().find(|held| held.shard == *shard) else {
                continue;
            };
            let answer = receive(&mut held.lease, reply, memory_max);
            let whole = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, answer).await.unwrap_or(None),
                None => answer.await,
            };
            reply.lost |= whole.is_none();
            if let Some(numbers) = self.world.numbers.of(*shard) {
                reply.renumber(numbers);
            }
            self.io.outbox.append(&mut held.lease.take_notices());
            if reply.lost {
                held.lease.taint();
            }
        }
        replies
    }

    /// [`Self::ask_all`] of one shard, a Query.
    pub(super) async fn ask_query(&mut self, shard: ShardId, sql: &str) -> Reply {
        let mut request = Vec::new();
        wire::frontend::query_into(&mut request, sql.as_bytes());
        self.ask_all(&[shard], &request, 1).await.pop().unwrap_or_default()
    }

    /// What the client is told of a shard's failure, as a whole message. The first shard's own words are
    /// passed on unchanged, another's with its name as context.
    pub(super) fn failure_message(&self, shard: ShardId, reply: &Reply, first: bool) -> Vec<u8> {
        let mut out = Vec::new();
        match &reply.error {
            Some(error) if first => self.in_its_string(error).error_into(&mut out),
            Some(error) => {
                let context = format!("shard \"{}\"", self.place_name(shard));
                self.in_its_string(error).with_context(&context).error_into(&mut out);
            }
            None => {
                let error = self.lost_while_asked(shard);
                wire::backend::error(&mut out, &error, wire::backend::Severity::Error);
            }
        }
        out
    }

    /// 08006: the shard did not answer to the end.
    pub(super) fn lost_while_asked(&self, shard: ShardId) -> SqlError {
        SqlError::new(
            SqlState::CONNECTION_FAILURE,
            format!("shard \"{}\" was lost while it worked", self.place_name(shard)),
        )
    }
}

/// Reads up to the last `ReadyForQuery`; `None` when that does not come. Rows beyond `memory_max` bytes are read and
/// forgotten, and the answer is then an error.
async fn receive(
    connection: &mut crate::backend::Connection,
    reply: &mut Reply,
    memory_max: u64,
) -> Option<()> {
    let mut buffer = BytesMut::new();
    let mut over = false;
    // So much of a row that is not kept is still to come.
    let mut unwanted = 0;
    while connection.awaiting() > 0 {
        if unwanted > 0 {
            let there = buffer.len().min(unwanted);
            buffer.advance(there);
            unwanted -= there;
            if unwanted > 0 {
                connection.read_some(&mut buffer).await.ok()?;
            }
            continue;
        }
        let header = wire::frame::header(&buffer).ok()?;
        let (kind, length) = header.unwrap_or_default();
        if kind == tag::DATA_ROW {
            over |= reply.rows.len() as u64 + length as u64 > memory_max;
            if over {
                reply.rows = Vec::new();
                unwanted = length;
                continue;
            }
        } else if length as u64 > memory_max.max(CONTROL_BYTES_MAX) {
            return None;
        }
        let Some(frame) = wire::frame::next(&buffer, u32::MAX).ok()? else {
            connection.read_some(&mut buffer).await.ok()?;
            continue;
        };
        match frame.tag {
            tag::READY_FOR_QUERY => connection.ready(response::ready_for_query(frame.body).ok()?),
            tag::ERROR => {
                let error = ServerError::parse(frame.body).ok()?;
                reply.error.get_or_insert(error);
            }
            tag::NOTIFICATION => connection.note_notice(frame.tag, frame.body),
            tag::NOTICE => reply.notices.push(frame.body.to_vec()),
            tag::PARAMETER_STATUS => {
                let (name, value) = response::parameter_status(frame.body).ok()?;
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                let (name, value) = (text(name), text(value));
                connection.note_parameter(&name, &value);
                reply.parameters.push((name, value));
            }
            tag::COMMAND_COMPLETE => {
                let words = response::command_complete(frame.body).ok()?;
                reply.tags.push(String::from_utf8_lossy(words).into_owned());
            }
            tag::PARAMETER_DESCRIPTION => {
                reply.types = Some(response::parameter_description(frame.body).ok()?);
            }
            tag::ROW_DESCRIPTION => reply.columns = Some(frame.body.to_vec()),
            tag::DATA_ROW => reply.rows.extend_from_slice(frame.raw),
            // Nothing that is asked of several shards moves data.
            tag::COPY_IN | tag::COPY_OUT | tag::COPY_BOTH => return None,
            _ => {}
        }
        buffer.advance(length);
    }
    if over && reply.error.is_none() {
        let mut message = Vec::new();
        wire::backend::error(&mut message, &too_much(memory_max), wire::backend::Severity::Error);
        reply.error = ServerError::parse(message.get(frame::HEADER_BYTES..)?).ok();
    }
    buffer.is_empty().then_some(())
}
