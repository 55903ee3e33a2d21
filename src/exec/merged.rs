//! Reads over several shards whose rows come in order: asked all at once, merged as they come.
//!
//! The merge itself is [`Ordered`]'s; here are its connections. Shards are asked in the extended protocol whatever
//! the client speaks, since sort keys of their own come in binary and the client's columns as it wants them. Where a key's
//! type turns out to have no order outside PostgreSQL, scratch tables (`workspace`) take over, which is found out
//! before anything is run. A user-defined type may have another OID on each shard: it is then compared by its name,
//! and the client is told the home shard's.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Instant;

use super::again::FOUND_DEAD_MAX;
use super::answer::Asked;
use super::io::with_read_buffer;
use super::relay::poll_gone;
use super::scatter::{Cut, Trouble};
use super::workspace::{Ask, without_position};
use super::{Executor, Failure, Gone};
use crate::datum::order::Key;
use crate::datum::{Format, Oid};
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::merge::concat;

use crate::merge::ordered::{Ordered, State, Window};
use crate::plan::ordered::Worker;
use crate::plan::{Merge, Plan};
use crate::wire::backend::tag;
use crate::wire::frontend::BindView;
use crate::wire::response::{self, ServerError};
use crate::wire::{self, frame};

/// So many bytes of merged rows are put together before they are sent.
const CHUNK_BYTES: usize = 64 << 10;

/// Shards that have so many more rows to send than were asked for are told to stop.
const DRAIN_ROWS_MAX: u64 = 10_000;

/// A statement that is to be read from several shards.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    /// As the client wrote it.
    pub(super) sql: &'a [u8],
    /// The parameters' types that the client declared.
    pub(super) oids: &'a [Oid],
    /// The body of its Bind; `None` in the simple protocol.
    pub(super) bind: Option<&'a [u8]>,
    /// The client wants to know the columns.
    pub(super) described: bool,
    /// Where there are none, it is told so.
    pub(super) no_data: bool,
    /// So many rows are enough; 0 for all.
    pub(super) rows_max: u32,
}

impl Wanted<'_> {
    /// How the client wants the n-th column.
    fn format(&self, n: usize) -> Format {
        let view = self.bind.and_then(|body| BindView::parse(body).ok());
        view.map_or(Format::Text, |view| view.result_formats().of(n))
    }
}

/// Whether the shards' columns can be merged.
enum Alike {
    Yes,
    /// User-defined types have other OIDs, and the same names.
    ByName,
    No,
}

/// How a merge ended.
enum Ended {
    /// All shards are ready for the next query.
    Whole,
    /// The answer is whole, the shards still have rows for it.
    Early,
    /// Nothing was run: it can't be done here.
    Elsewhere,
}

impl Executor {
    /// Merges the shards' rows, or has them sorted over scratch tables; the command tag is sent too.
    pub(super) async fn merge(
        &mut self,
        plan: &Plan,
        merge: &Merge,
        wanted: Wanted<'_>,
    ) -> Result<(), Failure> {
        let shards = self.shards_of(plan);
        let mut last = plan.taints || self.session.transaction.is_open();
        loop {
            let began = Instant::now();
            let mut asked = self.take_all(&shards).await?;
            self.work_with(&asked);
            let window = Window { skip: merge.skip, take: merge.take, ties: merge.ties };
            let first = shards.first().copied().unwrap_or(ShardId(0));
            let worker = merge.worker(first, |n| wanted.format(n));
            let mut merged = Ordered::new(asked.len(), worker.columns.clone(), window);
            let gathered = self.gather_ordered(&mut asked, merge, worker, &wanted, &mut merged);
            let trouble = match gathered.await {
                Ok(Ended::Elsewhere) => {
                    self.put_back(asked);
                    return self.merge_elsewhere(plan, merge, wanted).await;
                }
                Ok(ended) => {
                    match ended {
                        Ended::Early => self.stop(asked).await,
                        _ => self.put_back(asked),
                    }
                    self.complete(&format!("SELECT {}", merged.rows()));
                    return Ok(());
                }
                Err(Trouble::Client) => {
                    self.abandon_all(asked);
                    return Err(Failure::Gone(Gone::Client));
                }
                Err(trouble) => trouble,
            };
            let dead = trouble.is_of_dead(&asked) && began.elapsed() < FOUND_DEAD_MAX;
            self.stop(asked).await;
            if dead && !last && merged.description().is_none() {
                // Nothing of it was said to the client.
                last = true;
                self.weed(&shards);
                continue;
            }
            return Err(self.failure(match trouble {
                _ if merged.is_stuck() => Trouble::BrokenOff,
                Trouble::Server(body) if merge.asks_alike() => {
                    Trouble::Server(in_the_clients_text(&body, worker, wanted.sql))
                }
                Trouble::Server(body) => Trouble::Server(without_position(&body)),
                trouble => trouble,
            }));
        }
    }

    async fn merge_elsewhere(
        &mut self,
        plan: &Plan,
        merge: &Merge,
        wanted: Wanted<'_>,
    ) -> Result<(), Failure> {
        let Some(work) = &merge.fallback else {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "ORDER BY of this type over several shards is not supported",
            )
            .detail("Its order is known to PostgreSQL only, and the statement can't be run over scratch tables.")
            .hint("Restrict the statement to one sharding key, or sort by a column of a plainer type.")
            .into());
        };
        let Wanted { sql, oids, bind, described, rows_max, .. } = wanted;
        self.workspace(plan, &Ask { sql, oids, bind, described, rows_max, work }).await
    }

    async fn gather_ordered(
        &mut self,
        asked: &mut [Asked],
        merge: &Merge,
        worker: &Worker,
        wanted: &Wanted<'_>,
        merged: &mut Ordered,
    ) -> Result<Ended, Trouble> {
        let mut teller = 0;
        if !merge.certain {
            match are_alike(asked, merge, worker, wanted).await? {
                Alike::No => return Ok(Ended::Elsewhere),
                Alike::ByName => {
                    let home = self.world.map.default_shard();
                    let at = asked.iter().position(|one| one.shard() == home);
                    teller = at.unwrap_or(0);
                    merged.described_by(teller);
                }
                Alike::Yes => {}
            }
        }
        let alike = request(merge, worker, wanted);
        for one in asked.iter_mut() {
            let own = (!merge.asks_alike())
                .then(|| request(merge, merge.worker(one.shard(), |n| wanted.format(n)), wanted));
            if !one.ask(own.as_ref().unwrap_or(&alike)).await {
                return Err(Trouble::Lost(one.shard()));
            }
        }
        while merged.description().is_none() {
            self.read_more(asked, merged).await?;
        }
        let keys = orders(merge, worker, wanted, merged.key_types());
        let Some(keys) = keys else { return Err(Trouble::Differs) };
        merged.sort_by(keys);
        if let (true, Some(body), Some(teller)) =
            (wanted.described, merged.description(), asked.get(teller))
        {
            let body = teller.in_the_clients_numbers(body);
            frame::append(&mut self.io.outbox, tag::ROW_DESCRIPTION, &body);
        }
        loop {
            let most = self.io.kept().saturating_add(CHUNK_BYTES);
            let state = merged.advance(&mut self.io.outbox, most);
            let state = state.map_err(|fault| Self::trouble(Cut::Fault(fault), ShardId(0)))?;
            match state {
                State::Full => self.io.flush().await.map_err(|_| Trouble::Client)?,
                State::Hungry => self.read_more(asked, merged).await?,
                State::Over => break,
            }
            self.note_done_times(asked, merged);
        }
        let notices = merged.take_notices();
        self.io.outbox.extend_from_slice(&notices);
        let rows = merge.take.unwrap_or(0).saturating_add(merge.skip);
        if rows > DRAIN_ROWS_MAX && !merged.all_done() && !self.session.transaction.is_open() {
            return Ok(Ended::Early);
        }
        merged.finish().map_err(|fault| Self::trouble(Cut::Fault(fault), ShardId(0)))?;
        while !merged.all_done() {
            self.read_more(asked, merged).await?;
        }
        self.note_done_times(asked, merged);
        Ok(Ended::Whole)
    }

    fn note_done_times(&mut self, asked: &[Asked], merged: &Ordered) {
        if self.traced.is_some() {
            self.note_shard_times(asked, &|n| merged.is_done(n));
        }
    }

    /// Reads what has come; where nothing has, what is ready for the client goes to it, and the first shard that
    /// has something is waited for.
    async fn read_more(
        &mut self,
        asked: &mut [Asked],
        merged: &mut Ordered,
    ) -> Result<(), Trouble> {
        let io = &mut self.io;
        poll_fn(|cx| {
            let mut any = false;
            for (n, one) in asked.iter_mut().enumerate() {
                if !merged.wants(n) {
                    continue;
                }
                let read = with_read_buffer(|buffer| {
                    if !ready!(one.poll_read(cx, buffer)) {
                        return Poll::Ready(Err(Cut::Lost));
                    }
                    Poll::Ready(merged.feed(n, buffer.filled()).map_err(Cut::Fault))
                });
                match read {
                    Poll::Ready(Ok(())) => any = true,
                    Poll::Ready(Err(cut)) => {
                        return Poll::Ready(Err(Self::trouble(cut, one.shard())));
                    }
                    Poll::Pending => {}
                }
            }
            if any {
                return Poll::Ready(Ok(()));
            }
            if ready!(io.poll_flush(cx)).is_err() {
                return Poll::Ready(Err(Trouble::Client));
            }
            poll_gone(cx, io).map(|()| Err(Trouble::Client))
        })
        .await
    }
}

/// How the keys are compared; `None` if one of them has no order here.
fn orders(merge: &Merge, worker: &Worker, wanted: &Wanted<'_>, types: &[Oid]) -> Option<Vec<Key>> {
    let at = &worker.columns.at;
    if types.len() != merge.keys.len() || at.len() != merge.keys.len() {
        return None;
    }
    let format = |at: usize| match at.checked_sub(worker.columns.hidden) {
        Some(own) => wanted.format(own),
        None => Format::Binary,
    };
    let keys = merge.keys.iter().zip(types).zip(at);
    keys.map(|((sort, oid), at)| sort.order(*oid, format(*at))).collect()
}

/// User-defined types whose binary form has no OID in it that may be another one on each shard.
const BINARY_ALIKE: &str = " AND (t.typtype = 'e' OR t.typtype = 'c' AND NOT EXISTS
    (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0
         AND NOT a.attisdropped AND a.atttypid >= 16384))";

/// What each shard is sent.
fn request(merge: &Merge, worker: &Worker, wanted: &Wanted<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let oids = wanted.oids.iter().copied();
    wire::frontend::parse_into(&mut out, b"", worker.sql.as_bytes(), oids);
    let view = wanted.bind.and_then(|body| BindView::parse(body).ok());
    let keys = std::iter::repeat_n(Format::Binary, worker.columns.hidden);
    let own = (0..merge.visible).map(|n| match &view {
        Some(view) => view.result_formats().of(n),
        None => Format::Text,
    });
    wire::frontend::bind_with_formats(&mut out, view.as_ref(), keys.chain(own));
    wire::frontend::describe_portal_into(&mut out, b"");
    // What is skipped is skipped here: it may all be one shard's.
    let enough = match wanted.rows_max {
        0 => 0,
        rows => u32::try_from(merge.skip.saturating_add(u64::from(rows))).unwrap_or(0),
    };
    wire::frontend::execute_into(&mut out, b"", enough.cast_signed());
    wire::frontend::sync_into(&mut out);
    out
}

/// Asks the shards what their columns are.
async fn descriptions(
    asked: &mut [Asked],
    worker: &Worker,
    wanted: &Wanted<'_>,
) -> Result<Vec<Vec<u8>>, Trouble> {
    let mut request = Vec::new();
    let oids = wanted.oids.iter().copied();
    wire::frontend::parse_into(&mut request, b"", worker.sql.as_bytes(), oids);
    wire::frontend::describe_statement_into(&mut request, b"");
    wire::frontend::sync_into(&mut request);
    for one in asked.iter_mut() {
        if !one.ask(&request).await {
            return Err(Trouble::Lost(one.shard()));
        }
    }
    let mut found = Vec::with_capacity(asked.len());
    for one in asked.iter_mut() {
        found.push(description(one).await?);
    }
    Ok(found)
}

/// Whether the columns are the same everywhere, and all keys have an order here.
async fn are_alike(
    asked: &mut [Asked],
    merge: &Merge,
    worker: &Worker,
    wanted: &Wanted<'_>,
) -> Result<Alike, Trouble> {
    let found = descriptions(asked, worker, wanted).await?;
    let fields = found.first().and_then(|body| response::row_description(body).ok());
    let types: Vec<Oid> = fields.iter().flatten().map(|field| field.type_oid).collect();
    let at = worker.columns.at.iter();
    let keys: Option<Vec<Oid>> = at.map(|at| types.get(*at).copied()).collect();
    if keys.and_then(|keys| orders(merge, worker, wanted, &keys)).is_none() {
        return Ok(Alike::No);
    }
    let columns: Option<Vec<_>> = found.iter().map(|body| concat::columns(body)).collect();
    let Some([first, rest @ ..]) = columns.as_deref() else { return Ok(Alike::No) };
    if rest.iter().all(|other| other == first) {
        return Ok(Alike::Yes);
    }
    let mut differing: Vec<usize> = Vec::new();
    for other in rest {
        match concat::differing_types(first, other) {
            Some(columns) => differing.extend(columns),
            None => return Ok(Alike::No),
        }
    }
    differing.sort_unstable();
    differing.dedup();
    let hidden = worker.columns.hidden;
    let binary = |n: &usize| wanted.format(n.saturating_sub(hidden)) == Format::Binary;
    let any_binary = differing.iter().any(binary);
    let mut names: Option<Vec<Vec<Option<String>>>> = None;
    for (one, columns) in asked.iter_mut().zip(columns.iter().flatten()) {
        let oid = |n: &usize| columns.get(*n).and_then(|column| column.1.first_chunk::<4>());
        let oids: Vec<String> = differing
            .iter()
            .filter_map(oid)
            .map(|oid| format!("{}::oid", u32::from_be_bytes(*oid)))
            .collect();
        // The labels of an enum are the same in both formats, and so is a row of built-in types; what else is binary
        // may have OIDs in it. A row's columns must be the same, in the same order.
        let kinds = if any_binary { BINARY_ALIKE } else { "" };
        let sql = format!(
            "SELECT n.nspname, t.typname, t.typtype,
                 (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname) || ' ' ||
                         pg_catalog.format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
                  FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
             FROM pg_catalog.unnest(ARRAY[{}]) WITH ORDINALITY AS o (oid, n)
             JOIN pg_catalog.pg_type t ON t.oid = o.oid{kinds}
             JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace ORDER BY o.n",
            oids.join(", ")
        );
        let Ok(rows) = one.held.lease.simple_query(&sql).await else {
            return Err(Trouble::Lost(one.shard()));
        };
        let same = names.get_or_insert_with(|| rows.clone()) == &rows;
        if !same || rows.len() != differing.len() {
            return Ok(Alike::No);
        }
    }
    Ok(Alike::ByName)
}

/// Reads an answer to its end: the body of the `RowDescription` in it.
async fn description(one: &mut Asked) -> Result<Vec<u8>, Trouble> {
    let mut answer = Vec::new();
    while !one.is_over() {
        let read = poll_fn(|cx| {
            with_read_buffer(|buffer| {
                let alive = ready!(one.poll_read(cx, buffer));
                answer.extend_from_slice(buffer.filled());
                Poll::Ready(alive)
            })
        });
        if !read.await {
            return Err(Trouble::Lost(one.shard()));
        }
    }
    let mut rest = answer.as_slice();
    let mut found = Vec::new();
    while let Ok(Some((kind, length))) = frame::header(rest) {
        let Some((message, behind)) = rest.split_at_checked(length) else { break };
        let body = message.get(frame::HEADER_BYTES..).unwrap_or_default();
        match kind {
            tag::ERROR => return Err(Trouble::Server(body.to_vec())),
            tag::ROW_DESCRIPTION => found = body.to_vec(),
            _ => {}
        }
        rest = behind;
    }
    Ok(found)
}

/// An error message with its position in the statement as the client wrote it.
fn in_the_clients_text(body: &[u8], worker: &Worker, sql: &[u8]) -> Vec<u8> {
    let Ok(error) = ServerError::parse(body) else { return body.to_vec() };
    let text = std::str::from_utf8(sql).unwrap_or_default();
    let mut out = Vec::with_capacity(body.len());
    for (kind, value) in error.fields() {
        let position = if kind == b'P' {
            let own = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            let Some(position) = own.and_then(|own| worker.original_position(text, own)) else {
                continue;
            };
            Some(position.to_string())
        } else {
            None
        };
        out.push(kind);
        out.extend_from_slice(position.as_ref().map_or(value, |position| position.as_bytes()));
        out.push(0);
    }
    out.push(0);
    out
}
