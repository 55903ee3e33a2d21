//! Reads over scratch tables: rows go from the shards to the host, and the statement runs there.
//!
//! One statement: the host begins a transaction of its own (on a connection that is in none of the client's)
//! and reads the statement as the client wrote it, which gives PostgreSQL's own errors, parameter types and
//! columns; scratch tables are made; each shard is read in one snapshot by `COPY … TO STDOUT`, whose data goes
//! to the host as it comes; the spliced statement runs, and its rows go to the client like any shard's; the
//! transaction is rolled back, and nothing is left.
//!
//! Binary COPY needs no setting to mean the same on both sides (manual, "COPY", "Binary Format"). What goes to
//! the host is counted and bounded by `limits.merge_memory_max`.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::sync::SemaphorePermit;

use super::again::FOUND_DEAD_MAX;
use super::answer::Asked;
use super::line::Line;
use super::parts::{self, Parts};
use super::relay::poll_gone;
use super::scatter::{Requests, Trouble};
use super::{Backend, Executor, Failure, Gone, Held, Worker};
use crate::backend::BackendError;
use crate::datum::{Format, Oid};
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::merge::concat::Concat;
use crate::plan::workspace::Scratch;
use crate::plan::{Plan, Workspace};
use crate::sql::quote::quote_literal;
use crate::wire::backend::tag;
use crate::wire::{self, frame, response};

/// Beside an open transaction a lock is not waited for longer than this: it may be the transaction's own, which
/// nobody would ever release.
const BRIEFLY: &str = "SET LOCAL lock_timeout = '5s'";

/// A statement that is to run over scratch tables.
pub(super) struct Ask<'a> {
    /// As the client wrote it.
    pub(super) sql: &'a [u8],
    /// The parameters' types that the client declared.
    pub(super) oids: &'a [Oid],
    /// The body of its Bind; `None` in the simple protocol.
    pub(super) bind: Option<&'a [u8]>,
    /// The client wants to know the columns.
    pub(super) described: bool,
    /// So many rows are enough; 0 for all.
    pub(super) rows_max: u32,
    pub(super) work: &'a Workspace,
}

/// What the host says of the client's statement.
#[derive(Default)]
struct Described {
    parameters: Vec<Oid>,
    columns: Option<Vec<u8>>,
}

impl Executor {
    /// Runs a statement over scratch tables.
    ///
    /// # Cancel safety
    ///
    /// None: the connections are then in the middle of their work, and closed when dropped.
    pub(super) async fn workspace(&mut self, plan: &Plan, ask: &Ask<'_>) -> Result<(), Failure> {
        self.refuse_unseen_schema()?;
        if self.session.transaction.is_open() {
            self.may_read_on(&self.shards_of(plan))?;
        }
        let own = self.session.reads_own_rows();
        let worker = Arc::clone(&self.worker);
        let _turn = self.take_turn(&worker).await?;
        match self.workspace_once(ask, own, false).await? {
            Some(done) => Ok(done),
            // A connection was found dead, and nothing was said to the client.
            None => self.workspace_once(ask, own, true).await.map(|_| ()),
        }
    }

    /// Waits for a place among those that work over scratch tables.
    pub(super) async fn take_turn<'w>(
        &mut self,
        worker: &'w Worker,
    ) -> Result<SemaphorePermit<'w>, Failure> {
        let waits = worker.shared.store.wait_with(self.world.map.version());
        let permit = self.cancel.wait(&mut self.io, worker.workspaces.acquire()).await;
        drop(waits);
        let permit = permit.map_err(|impatience| self.impatient(impatience))?;
        permit.map_err(|_| Failure::Gone(Gone::Client))
    }

    /// [`Self::workspace`] within its bound; `None` where it may be tried again, if this is not the last time.
    async fn workspace_once(
        &mut self,
        ask: &Ask<'_>,
        own: bool,
        last: bool,
    ) -> Result<Option<()>, Failure> {
        let began = Instant::now();
        let (mut host, mut shards) = self.workspace_lines(ask.work, own).await?;
        let filled = self.fill(ask, &mut host, &mut shards, own).await;
        for line in &shards {
            self.note_shard_time(line.shard(), line.done);
        }
        let shards: Vec<Asked> = shards.into_iter().map(|line| line.asked).collect();
        let mut asked = vec![host.asked];
        let dead = filled
            .as_ref()
            .is_err_and(|trouble| trouble.is_of_dead(&asked) || trouble.is_of_dead(&shards));
        let again = dead && !last && began.elapsed() < FOUND_DEAD_MAX;
        let places: Vec<ShardId> = shards.iter().chain(&asked).map(Asked::shard).collect();
        let answered = match filled {
            Ok(described) => self.answer(ask, described, &mut asked).await,
            Err(trouble) => Err(trouble),
        };
        let gone = matches!(answered, Err(Trouble::Client));
        self.clear_workspace(asked, shards, answered.is_ok(), gone).await;
        if again && !self.session.transaction.is_open() {
            self.weed(&places);
            return Ok(None);
        }
        match answered {
            Ok(rows) => {
                self.complete(&format!("SELECT {rows}"));
                Ok(Some(()))
            }
            Err(trouble) => Err(self.failure(trouble)),
        }
    }

    /// Connections to the shards that are read, in order, and another one to the host.
    async fn workspace_lines(
        &mut self,
        work: &Workspace,
        own: bool,
    ) -> Result<(Line, Vec<Line>), Failure> {
        let mut read: Vec<ShardId> =
            work.tables.iter().flat_map(|t| &t.fetches).map(|(shard, _)| *shard).collect();
        read.sort_unstable();
        read.dedup();
        let mut lines: Vec<Asked> = if own || !self.session.transaction.is_open() {
            self.take_all(&read).await?
        } else {
            Vec::new()
        };
        // Beside a transaction that has nothing of its own, its connections stay out of it.
        for shard in read.into_iter().skip(lines.len()) {
            match self.acquire_another(shard).await {
                Ok(held) => lines.push(Asked::new(held, &self.world)),
                Err(error) => {
                    self.put_back(lines);
                    return Err(error.into());
                }
            }
        }
        let host = match self.acquire_another(work.host).await {
            Ok(mut held) => match self.refuse_kept_snapshot(&mut held, own).await {
                Ok(()) => Ok(held),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let within = self.session.transaction.is_open();
        let line = |asked| Line { within, ..Line::of(asked) };
        match host {
            Ok(held) => {
                Ok((line(Asked::new(held, &self.world)), lines.into_iter().map(line).collect()))
            }
            Err(error) => {
                self.put_back(lines);
                Err(error.into())
            }
        }
    }

    /// A transaction that did not say its isolation level may keep a snapshot because the session, or the server's
    /// configuration, says so: then rows that are read beside it are not its own.
    async fn refuse_kept_snapshot(&self, host: &mut Held, own: bool) -> Result<(), SqlError> {
        if own || !self.session.transaction.is_open() {
            return Ok(());
        }
        let level = host.lease.simple_query("SHOW default_transaction_isolation").await;
        let level = level.map_err(|error| self.shard_error(host.shard, &error))?;
        let level = level.into_iter().flatten().flatten().next().unwrap_or_default();
        let said = self.session.modes.is_some_and(|modes| modes.isolation.is_some());
        if said || level == "read committed" || level == "read uncommitted" {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("this statement over several shards is not supported at isolation level {level} by default"),
        )
        .detail("Whether the open transaction keeps a snapshot would have to be known.")
        .hint("Say the level: BEGIN ISOLATION LEVEL READ COMMITTED."))
    }

    /// The host reads the statement in a transaction of its own, which knows nothing of a schema that is not
    /// committed.
    fn refuse_unseen_schema(&self) -> Result<(), SqlError> {
        if !(self.session.transaction.is_open() && self.session.schema_changed) {
            return Ok(());
        }
        Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "this statement over several shards is not supported after a change of the schema in the same transaction",
        )
        .detail("It needs scratch tables, which are made by a transaction that does not see the change.")
        .hint("Commit first, or restrict the statement to one sharding key."))
    }

    /// A connection beside those that the client holds, told the session's settings.
    async fn acquire_another(&mut self, shard: ShardId) -> Result<Held, SqlError> {
        let mut lease = self.lease(shard).await?;
        let wanted = self.session.settings.current();
        if lease.settings_id != wanted.id() {
            let told = lease.simple_query(&wanted.replay()).await;
            told.map_err(|error: BackendError| self.shard_error(shard, &error))?;
            lease.settings_id = wanted.id();
        }
        Ok(Held { beside: true, ..Held::new(shard, lease) })
    }

    /// Makes the scratch tables and has the host say something about them: the first column of its rows.
    pub(super) async fn ask_host(
        &mut self,
        plan: &Plan,
        ask: &Ask<'_>,
        sql: &str,
    ) -> Result<Vec<String>, Failure> {
        let worker = Arc::clone(&self.worker);
        let _turn = self.take_turn(&worker).await?;
        let (mut host, shards) = self.filled(plan, ask).await?;
        let rows = {
            let io = &mut self.io;
            let mut asking = pin!(host.asked.held.lease.simple_query(sql));
            let rows = poll_fn(|cx| match asking.as_mut().poll(cx) {
                Poll::Pending => poll_gone(cx, io).map(|()| None),
                Poll::Ready(rows) => Poll::Ready(Some(rows)),
            });
            rows.await
        };
        let place = host.shard();
        self.clear_workspace(vec![host.asked], shards, rows.is_some(), rows.is_none()).await;
        let Some(rows) = rows else { return Err(Failure::Gone(Gone::Client)) };
        let first = |row: Vec<Option<String>>| row.into_iter().next().flatten().unwrap_or_default();
        match rows {
            Ok(rows) => Ok(rows.into_iter().map(first).collect()),
            Err(error) => Err(self.shard_error(place, &error).into()),
        }
    }

    /// Scratch tables with their rows, on a host that waits for what comes next.
    pub(super) async fn filled(
        &mut self,
        plan: &Plan,
        ask: &Ask<'_>,
    ) -> Result<(Line, Vec<Asked>), Failure> {
        self.refuse_unseen_schema()?;
        if self.session.transaction.is_open() {
            self.may_read_on(&self.shards_of(plan))?;
        }
        let own = self.session.reads_own_rows();
        let (mut host, mut shards) = self.workspace_lines(ask.work, own).await?;
        let filled = self.fill(ask, &mut host, &mut shards, own).await;
        let shards: Vec<Asked> = shards.into_iter().map(|line| line.asked).collect();
        match filled {
            Ok(_) => Ok((host, shards)),
            Err(trouble) => {
                let gone = matches!(trouble, Trouble::Client);
                self.clear_workspace(vec![host.asked], shards, false, gone).await;
                Err(self.failure(trouble))
            }
        }
    }

    /// Makes the scratch tables and fills them, as long as the client is there. From now on a cancel request concerns
    /// all connections that work for it.
    async fn fill(
        &mut self,
        ask: &Ask<'_>,
        host: &mut Line,
        shards: &mut [Line],
        own: bool,
    ) -> Result<Described, Trouble> {
        let backend = |line: &Line| Backend {
            shard: line.shard(),
            pid: line.asked.held.lease.pid(),
            secret: line.asked.held.lease.secret_word(),
        };
        self.cancel.working_all(shards.iter().chain([&*host]).map(backend).collect());
        let most = self.worker.shared.config.limits.merge_memory_max;
        let mut filling = pin!(fill(ask, most, host, shards, own));
        let io = &mut self.io;
        poll_fn(|cx| match filling.as_mut().poll(cx) {
            Poll::Pending => poll_gone(cx, io).map(|()| Err(Trouble::Client)),
            done @ Poll::Ready(_) => done,
        })
        .await
    }

    /// Runs the statement on the host, whose rows go to the client; how many there were.
    async fn answer(
        &mut self,
        ask: &Ask<'_>,
        described: Described,
        host: &mut [Asked],
    ) -> Result<u64, Trouble> {
        let mut request = Vec::new();
        let oids = described.parameters.iter().copied();
        wire::frontend::parse_into(&mut request, b"", ask.work.sql.as_bytes(), oids);
        let mut portal: &[u8] = b"";
        match ask.bind.map(wire::frontend::BindView::parse) {
            Some(Ok(view)) => {
                portal = view.portal;
                wire::frontend::bind_with_statement(&mut request, &view, b"");
            }
            _ => wire::frontend::bind_text_into(&mut request, b"", &[], Format::Text),
        }
        wire::frontend::describe_portal_into(&mut request, portal);
        wire::frontend::execute_into(&mut request, portal, ask.rows_max.cast_signed());
        wire::frontend::sync_into(&mut request);
        let expected = described.columns.unwrap_or_default();
        let mut concat = Concat::expecting(host.len(), expected);
        let requests = Requests::alike(request);
        let result = self.gather(host, &requests, &mut concat, ask.described).await;
        match result {
            Ok(()) => Ok(concat.rows()),
            Err(_) if concat.stuck().is_some() => Err(Trouble::BrokenOff),
            Err(Trouble::Server(body)) if !concat.is_described() => Err(spliced_error(body)),
            Err(Trouble::Server(body)) => Err(Trouble::Server(without_position(&body))),
            Err(Trouble::Differs) => Err(Trouble::Ours(
                SqlError::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "a whole row of a table over several shards is not supported",
                )
                .detail("The row's type would be that of a copy of the table.")
                .hint("Name the columns, or use row_to_json."),
            )),
            Err(trouble) => Err(trouble),
        }
    }

    /// Ends the host's transaction, and gives back what can be reused.
    pub(super) async fn clear_workspace(
        &mut self,
        mut host: Vec<Asked>,
        mut shards: Vec<Asked>,
        whole: bool,
        gone: bool,
    ) {
        if gone {
            shards.append(&mut host);
            self.abandon_all(shards);
            return;
        }
        for one in &mut host {
            if !one.is_over() {
                // It may wait for data; where it does not, it ignores this.
                let mut fail = Vec::new();
                wire::frontend::copy_fail_into(&mut fail, b"the statement has failed");
                let _ = one.held.lease.send_all(&fail).await;
            } else if one.held.lease.tx_status() == b'I' {
                continue;
            }
            if one.end().await {
                // If that fails, the connection is not idle, and closed.
                let _ = one.held.lease.simple_query("ROLLBACK").await;
            }
        }
        shards.append(&mut host);
        if whole {
            self.put_back(shards);
        } else {
            self.stop(shards).await;
        }
    }
}

/// Makes the scratch tables and fills them; at most `left` bytes are brought there.
async fn fill(
    ask: &Ask<'_>,
    mut left: u64,
    host: &mut Line,
    shards: &mut [Line],
    own: bool,
) -> Result<Described, Trouble> {
    let described = describe(ask, host).await?;
    refuse_secured_views(ask.work, host).await?;
    for line in shards.iter_mut() {
        let sql = fetch_sql(&ask.work.tables, line.shard(), own);
        line.parts = sql.1.map(Parts::new);
        let sql = if line.within && !own { format!("{BRIEFLY}; {}", sql.0) } else { sql.0 };
        let mut request = Vec::new();
        wire::frontend::query_into(&mut request, sql.as_bytes());
        line.ask(&request).await?;
    }
    let mut request = Vec::new();
    wire::frontend::query_into(&mut request, load_sql(&ask.work.tables).as_bytes());
    host.ask(&request).await?;
    for table in &ask.work.tables {
        for (shard, _) in &table.fetches {
            host.until(tag::COPY_IN).await.map_err(|t| on_host(t, ask.work))?;
            let Some(line) = shards.iter_mut().find(|line| line.shard() == *shard) else {
                return Err(Trouble::Lost(*shard));
            };
            if line.parts.is_none() {
                left = line.copy_to(host, left).await.map_err(in_our_words)?;
            } else {
                if line.taken == 0 {
                    left = line.take_apart(left).await.map_err(in_our_words)?;
                }
                line.part_to(host).await?;
            }
            line.done = Some(Instant::now());
        }
    }
    for line in shards {
        line.finish().await.map_err(in_our_words)?;
    }
    host.finish().await.map_err(|trouble| on_host(trouble, ask.work))?;
    Ok(described)
}

/// Begins the host's transaction, and has the client's statement read as it is.
async fn describe(ask: &Ask<'_>, host: &mut Line) -> Result<Described, Trouble> {
    let mut request = Vec::new();
    let begin = b"BEGIN ISOLATION LEVEL REPEATABLE READ, READ WRITE";
    wire::frontend::parse_into(&mut request, b"", begin, [].into_iter());
    wire::frontend::bind_text_into(&mut request, b"", &[], Format::Text);
    wire::frontend::execute_into(&mut request, b"", 0);
    if host.within {
        wire::frontend::parse_into(&mut request, b"", BRIEFLY.as_bytes(), [].into_iter());
        wire::frontend::bind_text_into(&mut request, b"", &[], Format::Text);
        wire::frontend::execute_into(&mut request, b"", 0);
    }
    wire::frontend::parse_into(&mut request, b"", ask.sql, ask.oids.iter().copied());
    wire::frontend::describe_statement_into(&mut request, b"");
    wire::frontend::sync_into(&mut request);
    host.ask(&request).await?;
    let mut described = Described::default();
    let mut error = None;
    while host.open {
        let (kind, body) = host.message().await?;
        match kind {
            tag::ERROR => {
                error.get_or_insert(body);
            }
            tag::PARAMETER_DESCRIPTION => {
                let types = response::parameter_description(&body).unwrap_or_default();
                described.parameters = host.asked.types_in_the_clients_numbers(types);
            }
            tag::ROW_DESCRIPTION => described.columns = Some(body.to_vec()),
            _ => {}
        }
    }
    match (error, &described.columns) {
        (Some(error), _) => Err(Trouble::Server(error.to_vec())),
        (None, None) => Err(Trouble::Lost(host.shard())),
        (None, Some(_)) => Ok(described),
    }
}

/// A view reads its tables with its owner's rights, and their row-level security is that for the owner; here
/// it is read with the client's.
async fn refuse_secured_views(work: &Workspace, host: &mut Line) -> Result<(), Trouble> {
    if work.viewed.is_empty() {
        return Ok(());
    }
    let names: Vec<String> =
        work.viewed.iter().map(|name| format!("{}::regclass", quote_literal(name))).collect();
    let sql = format!(
        "SELECT oid::regclass::text FROM pg_catalog.pg_class WHERE relrowsecurity AND oid IN ({}) ORDER BY 1",
        names.join(", ")
    );
    let rows = match host.asked.held.lease.simple_query(&sql).await {
        Ok(rows) => rows,
        Err(BackendError::Statement(error)) => {
            let mut body = Vec::new();
            error.error_into(&mut body);
            return Err(Trouble::Server(body.split_off(frame::HEADER_BYTES)));
        }
        Err(_) => return Err(Trouble::Lost(host.shard())),
    };
    match rows.first().and_then(|row| row.first()) {
        None => Ok(()),
        Some(table) => Err(Trouble::Ours(
            SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!(
                    "a view of table \"{}\", which has row-level security, over several shards is not supported",
                    table.as_deref().unwrap_or_default()
                ),
            )
            .detail("Which rows a view shows is decided by its owner's policies.")
            .hint("Restrict the statement to one sharding key, or read the table itself."),
        )),
    }
}

/// What a shard is asked: all its tables in one snapshot. Within the client's transaction (`own`) several come in
/// one COPY, of so many parts.
fn fetch_sql(tables: &[Scratch], shard: ShardId, own: bool) -> (String, Option<usize>) {
    let queries =
        tables.iter().flat_map(|table| &table.fetches).filter(|(other, _)| *other == shard);
    let queries: Vec<&str> = queries.map(|(_, sql)| sql.as_str()).collect();
    let copy = |sql: &str| format!("COPY ({sql}) TO STDOUT (FORMAT binary)");
    if let [one] = queries.as_slice() {
        return (copy(one), None);
    }
    if own {
        return (copy(&parts::joined(&queries)), Some(queries.len()));
    }
    // One query string is one transaction, which an error ends.
    let copies: Vec<String> = queries.iter().map(|sql| copy(sql)).collect();
    let begin = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    (format!("{begin}; {}", copies.join("; ")), None)
}

/// What the host is told: the tables, and one COPY for each part of them.
fn load_sql(tables: &[Scratch]) -> String {
    let mut steps: Vec<String> = tables.iter().map(|table| table.create.clone()).collect();
    for table in tables {
        let copy = format!("COPY {} FROM STDIN (FORMAT binary)", table.name);
        steps.extend(table.fetches.iter().map(|_| copy.clone()));
    }
    steps.join("; ")
}

/// An error of the host over what the client has never seen.
fn on_host(trouble: Trouble, work: &Workspace) -> Trouble {
    let Trouble::Server(body) = trouble else { return trouble };
    let Ok(error) = response::ServerError::parse(&body) else { return Trouble::Server(body) };
    let cancelled = matches!(error.code().as_ref(), "57014" | "57P01");
    if cancelled {
        return Trouble::Server(body);
    }
    let tables: Vec<&str> = work.tables.iter().map(|table| table.table.as_str()).collect();
    Trouble::Ours(
        SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("the rows of {} could not be brought together", tables.join(", ")),
        )
        .detail(format!("{} ({}).", error.message(), error.code()))
        .hint("Restrict the statement to one sharding key."),
    )
}

/// The host could read the statement as the client wrote it, but not with scratch tables in it.
fn spliced_error(body: Vec<u8>) -> Trouble {
    let Ok(error) = response::ServerError::parse(&body) else { return Trouble::Server(body) };
    if !error.code().starts_with("42") {
        return Trouble::Server(without_position(&body));
    }
    Trouble::Ours(
        SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "this statement can't be run over rows of several shards",
        )
        .detail(format!(
            "Over copies of its tables it reads as something else: {}.",
            error.message()
        ))
        .hint("Write it in plainer SQL, or restrict it to one sharding key."),
    )
}

/// A shard's error over a statement that the client does not know.
pub(super) fn in_our_words(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Server(body) => Trouble::Server(without_position(&body)),
        trouble => trouble,
    }
}

/// An error message without its position, which counts in a text that the client does not know.
pub(super) fn without_position(body: &[u8]) -> Vec<u8> {
    let Ok(error) = response::ServerError::parse(body) else { return body.to_vec() };
    let mut out = Vec::with_capacity(body.len());
    for (kind, value) in error.fields().filter(|(kind, _)| !matches!(kind, b'P' | b'p' | b'q')) {
        out.push(kind);
        out.extend_from_slice(value);
        out.push(0);
    }
    out.push(0);
    out
}
