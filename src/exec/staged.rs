//! Statements that put the rows of a query over several shards somewhere: INSERT … SELECT, CREATE TABLE … AS,
//! SELECT … INTO, DECLARE … CURSOR ([`crate::plan::staged`]).
//!
//! One statement: the shard that the rows go to reads it as the client wrote it, which gives PostgreSQL's own errors
//! and parameter types; the query is read as it would be by itself, in binary, and its rows are kept (at most
//! `limits.merge_memory_max` of them); they are copied into a scratch table on that shard, numbered in their order; and
//! the statement runs there over the scratch table. Outside a transaction block it has a transaction of its own, which
//! begins when the rows are there.
//!
//! The scratch table is a temporary one in the client's transaction, since what runs over it has to be: it is written
//! on that shard anyway. It is dropped behind the statement, but for a cursor's, which is needed until the transaction
//! ends. (A transaction that has had one can't be prepared, nor be READ ONLY.) A row of the answer is a row of a binary
//! COPY as it is: manual, "Message Formats", and "COPY", "Binary Format".

use std::iter::repeat_n;
use std::sync::atomic::{AtomicU64, Ordering};

use super::answer::Asked;
use super::line::{Line, PART_BYTES};
use super::merged::Wanted;
use super::pins::{Pin, Pins};
use super::planner::Readied;
use super::reply::{Reply, frame_into};
use super::scatter::{BindBody, ScatterBind, Trouble};
use super::workspace::without_position;
use super::{Executor, Failure, parts, worker};
use crate::catalog::{Column, RelationKind, Table};
use crate::datum::{Format, Oid, Param};
use crate::error::{SqlError, SqlState};
use crate::map::{Placement, ShardId, ShardSet, UnlistedTables};
use crate::plan::staged::Place;
use crate::plan::{self, Answer, Plan, Route, Staged};
use crate::session::responses::StepKind;
use crate::session::settings::quote_literal;
use crate::session::transaction::{Pending, Transaction, quote_identifier};
use crate::sql::class::{TransactionModes, classify};
use crate::wire::backend::{self, tag};
use crate::wire::frontend::BindView;
use crate::wire::response::{self, ServerError};
use crate::wire::{frame, frontend};

/// What scratch tables are called, before their number.
const SCRATCH_NAME: &str = "pg_temp.pgmeridian_rows_";

/// So many were made.
static SCRATCH_TABLES: AtomicU64 = AtomicU64::new(1);

/// What the shard says of the statement, and of its query.
struct Described {
    /// The parameters' types.
    types: Vec<Oid>,
    /// The statement answers with rows.
    answers: bool,
    /// The names of the query's columns.
    names: Vec<String>,
}

/// The rows of the query, on their way.
struct Load<'a> {
    /// The scratch table.
    table: String,
    described: &'a Described,
    /// The client's Bind.
    view: Option<BindView<'a>>,
    /// `DataRow`s and what else was said.
    rows: Vec<u8>,
}

impl Load<'_> {
    /// The scratch table's columns as the query has them. `constants`: see [`Staged::constants`].
    fn select(&self, constants: &[(crate::plan::staged::Column, String)]) -> String {
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
    fn request(&self, sql: &str) -> Vec<u8> {
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
    /// Carries out a statement whose query's rows come from several shards, but for `ReadyForQuery`.
    ///
    /// # Cancel safety
    ///
    /// None: the connections are then in the middle of their work, and closed when dropped.
    pub(super) async fn staged(
        &mut self,
        staged: &Staged,
        plan: &Plan,
        wanted: Wanted<'_>,
    ) -> Result<(), Failure> {
        let readied = worker::with_planner(|p| p.prepare(&self.world, &self.reading, wanted.sql))?;
        self.refuse_cursor(staged, plan)?;
        let place = self.place_of(staged);
        if self.session.transaction.shard().is_some() {
            self.may_enlist(place, plan.writes)?;
        }
        self.leaving = leaves(staged, plan, &readied);
        let described = self.describe_at(place, staged, &wanted).await?;
        let view = wanted.bind.and_then(|body| BindView::parse(body).ok());
        let query = self.query_within(staged, &described.types, view.as_ref()).await?;
        self.may_meet(place, &query)?;
        let rows = if staged.tail.to_ascii_lowercase().ends_with("no data") {
            Vec::new()
        } else {
            self.rows_of(query, staged, &described, view.as_ref()).await?
        };
        let number = SCRATCH_TABLES.fetch_add(1, Ordering::Relaxed);
        let table = format!("{SCRATCH_NAME}{number}");
        let load = Load { table, described: &described, view, rows };
        if self.session.transaction.is_open() {
            return match &staged.place {
                Place::Table(..) => self.make_table(staged, plan, load).await,
                _ => self.run_over(place, staged, plan, &wanted, load).await,
            };
        }
        let modes = TransactionModes::default();
        self.session.transaction = Transaction::Pending(Pending::new(modes));
        self.session.modes = Some(modes);
        self.session.settings.begin();
        // That it is done, the client is told when it is committed.
        let kept = !described.answers;
        if kept {
            self.io.begin_capture(usize::MAX);
        }
        let outcome = match &staged.place {
            Place::Table(..) => self.make_table(staged, plan, load).await,
            _ => self.run_over(place, staged, plan, &wanted, load).await,
        };
        let told = if kept { self.io.end_capture().0 } else { Vec::new() };
        match outcome {
            Ok(()) => match self.commit("COMMIT", false).await {
                Ok(last) => {
                    last.notices_into(&mut self.io.outbox);
                    self.io.outbox.extend_from_slice(&told);
                    Ok(())
                }
                Err(message) => {
                    self.io.outbox.extend_from_slice(&message);
                    Err(Failure::Shown)
                }
            },
            Err(Failure::Gone(gone)) => Err(Failure::Gone(gone)),
            Err(failure) => {
                self.io.outbox.extend_from_slice(&told);
                let shards = self.enlisted();
                self.roll_back_on(&shards, "ROLLBACK").await;
                self.ended(false, false);
                Err(failure)
            }
        }
    }

    /// What the client is told of a portal that is not executed.
    pub(super) async fn describe_staged(
        &mut self,
        staged: &Staged,
        wanted: &Wanted<'_>,
    ) -> Result<(), Failure> {
        let place = self.place_of(staged);
        let at = self.hold(place).await?;
        self.request.clear();
        self.begin_responses(true);
        let oids = wanted.oids.iter().copied();
        frontend::parse_into(&mut self.request, b"", wanted.sql, oids);
        self.responses.expect(StepKind::Parse, true);
        if let Some(mut view) = wanted.bind.and_then(|body| BindView::parse(body).ok()) {
            view.portal = b"";
            frontend::bind_with_statement(&mut self.request, &view, b"");
            self.responses.expect(StepKind::Bind, true);
        }
        frontend::describe_portal_into(&mut self.request, b"");
        self.responses.expect(StepKind::DescribePortal, false);
        frontend::sync_into(&mut self.request);
        self.responses.expect(StepKind::Sync, true);
        self.exchange(at).await?;
        let failed = self.responses.failed();
        self.end_aside(at);
        if failed { Err(Failure::Shown) } else { Ok(()) }
    }

    /// A cursor needs a transaction, as PostgreSQL says, in which a scratch table can be made.
    fn refuse_cursor(&self, staged: &Staged, plan: &Plan) -> Result<(), SqlError> {
        if staged.place != Place::Cursor {
            return Ok(());
        }
        if !self.session.transaction.is_open() && !plan.taints {
            return Err(SqlError::new(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "DECLARE CURSOR can only be used in transaction blocks",
            ));
        }
        let reads_only = self.session.modes.is_some_and(|modes| modes.read_only == Some(true));
        if self.session.transaction.is_open() && reads_only {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "a cursor over several shards is not supported in a READ ONLY transaction",
            )
            .detail("Its rows are kept in a temporary table, which such a transaction can't make.")
            .hint("Begin the transaction without READ ONLY, or fetch the rows through a portal."));
        }
        Ok(())
    }

    /// The shard that the rows go to. A new table's is only known when it is there; it is made on all.
    fn place_of(&self, staged: &Staged) -> ShardId {
        let home = self.world.map.default_shard();
        let own = self.session.temporary.as_ref().map(|(shard, _)| *shard);
        let here = self.session.transaction.shard();
        match &staged.place {
            Place::Rows(shard) => *shard,
            Place::Temporary => own.or(here).or_else(|| self.keeper()).unwrap_or(home),
            Place::Cursor => here.or_else(|| self.keeper()).unwrap_or(home),
            Place::Table(..) => home,
        }
    }

    /// A connection to a shard, within the open transaction if there is one.
    async fn hold(&mut self, shard: ShardId) -> Result<usize, Failure> {
        if self.session.transaction.is_open() {
            self.join(shard).await
        } else {
            self.acquire(shard).await.map_err(Failure::from)
        }
    }

    /// Asks a shard about a statement, which is not carried out. Outside a transaction a connection that was
    /// found dead is replaced.
    async fn ask_aside(&mut self, shard: ShardId, request: &[u8]) -> Result<Reply, Failure> {
        let at = self.hold(shard).await?;
        self.work_on(&[shard]);
        let reply = self.ask_all(&[shard], request, 1).await.pop().unwrap_or_default();
        let farewell = reply.error.as_ref().is_none_or(ServerError::is_farewell);
        let fresh = self.held.get(at).is_some_and(|held| held.fresh);
        if !(reply.lost && farewell && fresh) || self.session.transaction.is_open() {
            return Ok(reply);
        }
        self.let_dead_go(at)?;
        self.acquire_in_place(shard, at).await?;
        Ok(self.ask_all(&[shard], request, 1).await.pop().unwrap_or_default())
    }

    /// Has the shard read the statement as the client wrote it, and its query.
    async fn describe_at(
        &mut self,
        place: ShardId,
        staged: &Staged,
        wanted: &Wanted<'_>,
    ) -> Result<Described, Failure> {
        let ask = |sql: &[u8], oids: &[Oid]| {
            let mut request = Vec::new();
            frontend::parse_into(&mut request, b"", sql, oids.iter().copied());
            frontend::describe_statement_into(&mut request, b"");
            frontend::sync_into(&mut request);
            request
        };
        let whole = self.ask_aside(place, &ask(wanted.sql, wanted.oids)).await?;
        self.refuse_reply(place, &whole)?;
        let types = whole.types.unwrap_or_default();
        let query = self.ask_aside(place, &ask(staged.query.as_bytes(), &types)).await?;
        self.refuse_reply(place, &query)?;
        let columns = query.columns.unwrap_or_default();
        let fields = response::row_description(&columns).unwrap_or_default();
        let names =
            fields.iter().map(|field| String::from_utf8_lossy(field.name).into_owned()).collect();
        if !self.session.transaction.is_open() {
            self.settle_all();
        }
        Ok(Described { types, answers: whole.columns.is_some(), names })
    }

    /// The client is told a shard's error, and the transaction has failed.
    fn refuse_reply(&mut self, shard: ShardId, reply: &Reply) -> Result<(), Failure> {
        if reply.is_well() {
            return Ok(());
        }
        let message = self.failure_message(shard, reply, true);
        self.io.outbox.extend_from_slice(&message);
        self.session.transaction.fail();
        self.drop_lost(&[shard], std::slice::from_ref(reply));
        self.settle_all();
        Err(Failure::Shown)
    }

    /// Plans the query by itself.
    async fn query_within(
        &mut self,
        staged: &Staged,
        types: &[Oid],
        view: Option<&BindView<'_>>,
    ) -> Result<Plan, SqlError> {
        let sql = staged.query.as_bytes();
        let mut refreshed = false;
        loop {
            let readied = worker::with_planner(|p| p.prepare(&self.world, &self.reading, sql))?;
            let unknown = self.has_unknown_table(&readied.entry) || !self.world.catalog_known;
            if unknown && !std::mem::replace(&mut refreshed, true) {
                Box::pin(self.refresh_world()).await?;
                continue;
            }
            let mut statement = self.client_statement(sql.into(), types.to_vec(), readied);
            statement.types = Some(types.to_vec());
            let values = view.into_iter().flat_map(BindView::parameters);
            let params: Vec<Param<'_>> = values
                .zip(types)
                .map(|((format, value), oid)| Param { oid: *oid, format, value })
                .collect();
            let (plan, noted) = self.plan_known(&statement, &params, None);
            if !noted.wanted.is_empty() {
                Box::pin(self.look_up(noted.wanted)).await?;
                continue;
            }
            return self.may_be_read(plan?);
        }
    }

    /// It only reads, and leaves nothing on the connections that it reads on.
    fn may_be_read(&self, mut plan: Plan) -> Result<Plan, SqlError> {
        let refused = |what: &str, why: &str| {
            Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("{what} in a query whose rows go to another shard is not supported"),
            )
            .detail(why.to_owned())
            .hint("Send it as a statement of its own."))
        };
        if plan.writes {
            return refused("a data-modifying WITH", "What it writes would be on other shards.");
        }
        if plan.taints || plan.settings.is_some() {
            return refused(
                "a function that may leave something behind",
                "It would leave it on the connections that the rows are read on.",
            );
        }
        match &plan.answer {
            Answer::Relay if plan.names_temporary => {
                plan.route = Route::One(self.beside_temporary(&plan)?);
            }
            _ => self.refuse_beside_temporary(&plan)?,
        }
        Ok(plan)
    }

    /// Whether the map's policy lets the query's rows go to a shard.
    fn may_meet(&self, place: ShardId, query: &Plan) -> Result<(), SqlError> {
        if matches!(query.route, Route::Any | Route::Nowhere) {
            return Ok(());
        }
        let mut together = ShardSet::of(place);
        for shard in self.shards_of(query) {
            together.insert(shard);
        }
        if together.len() > 1 {
            plan::allowed(&self.world.map, self.session.across_regions, &together)
        } else {
            Ok(())
        }
    }

    /// Reads the query's rows, in binary.
    async fn rows_of(
        &mut self,
        query: Plan,
        staged: &Staged,
        described: &Described,
        view: Option<&BindView<'_>>,
    ) -> Result<Vec<u8>, Failure> {
        let formats = repeat_n(Format::Binary, described.names.len());
        let mut bind = Vec::new();
        frontend::bind_with_formats(&mut bind, view, formats);
        let body = BindBody::Own(bind.split_off(frame::HEADER_BYTES));
        let sql = query.rewritten.clone().unwrap_or_else(|| staged.query.clone()).into_bytes();
        let mut scatter = ScatterBind::new(query, sql, described.types.clone(), body, Vec::new());
        scatter.describe();
        scatter.execute(0);
        let most = self.worker.shared.config.limits.merge_memory_max;
        self.io.begin_capture(usize::try_from(most).unwrap_or(usize::MAX));
        let result = Box::pin(self.read_portal(&scatter, &[])).await;
        let (answer, over) = self.io.end_capture();
        for found in frames(&answer) {
            match found.tag {
                tag::NOTICE | tag::PARAMETER_STATUS => {
                    self.io.outbox.extend_from_slice(found.raw);
                }
                // Its position counts in a text that the client does not know.
                tag::ERROR => {
                    frame_into(&mut self.io.outbox, tag::ERROR, &without_position(found.body));
                }
                _ => {}
            }
        }
        result?;
        if over { Err(self.failure(Trouble::TooMuch)) } else { Ok(answer) }
    }

    /// Brings the rows to a shard, within the open transaction.
    async fn bring(
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

    /// Brings the rows and runs the statement over them.
    async fn run_over(
        &mut self,
        place: ShardId,
        staged: &Staged,
        plan: &Plan,
        wanted: &Wanted<'_>,
        load: Load<'_>,
    ) -> Result<(), Failure> {
        let at = self.join(place).await?;
        self.may_write(at, plan.writes || plan.taints)?;
        self.work_on(&[place]);
        self.bring(place, staged, &load).await?;
        let Some(at) = self.held.iter().position(|held| held.shard == place) else {
            return Err(self.lost(place).into());
        };
        let sql = format!("{} {} {}", staged.head, load.select(&staged.constants), staged.tail);
        self.request.clear();
        self.begin_responses(true);
        self.expect_statement(&sql, wanted, &load);
        self.exchange(at).await?;
        let failed = self.responses.failed();
        let class = classify(&sql, self.reading.standard_strings);
        self.finish_one(at, plan, &class);
        let opaque = plan.taints && staged.place != Place::Cursor;
        self.session.transaction.note(place, plan.writes, opaque);
        if failed {
            return Err(Failure::Shown);
        }
        if staged.place != Place::Cursor {
            let reply = self.ask_query(place, &format!("DROP TABLE {}", load.table)).await;
            self.refuse_reply(place, &reply)?;
        }
        Ok(())
    }

    /// Appends the statement to the request, with what is expected in return.
    fn expect_statement(&mut self, sql: &str, wanted: &Wanted<'_>, load: &Load<'_>) {
        let Some(mut view) = load.view else {
            frontend::query_into(&mut self.request, sql.as_bytes());
            self.responses.expect(StepKind::Query, false);
            return;
        };
        let types = load.described.types.iter().copied();
        frontend::parse_into(&mut self.request, b"", sql.as_bytes(), types);
        self.responses.expect(StepKind::Parse, true);
        view.portal = b"";
        frontend::bind_with_statement(&mut self.request, &view, b"");
        self.responses.expect(StepKind::Bind, true);
        if wanted.described && (wanted.no_data || load.described.answers) {
            frontend::describe_portal_into(&mut self.request, b"");
            self.responses.expect(StepKind::DescribePortal, false);
        }
        frontend::execute_into(&mut self.request, b"", 0);
        self.responses.expect(StepKind::Execute, false);
        frontend::sync_into(&mut self.request);
        self.responses.expect(StepKind::Sync, true);
    }

    /// CREATE TABLE … AS: the table is made on every shard, and the rows go to the one that the map places it on.
    async fn make_table(
        &mut self,
        staged: &Staged,
        plan: &Plan,
        load: Load<'_>,
    ) -> Result<(), Failure> {
        let Place::Table(schema, name) = &staged.place else { return Ok(()) };
        let create = format!("{} {} WITH NO DATA", staged.head, staged.query);
        let replies = self.within(plan, &load.request(&create)).await?;
        let Some(first) = replies.first() else { return Ok(()) };
        first.notices_into(&mut self.io.outbox);
        let exists =
            |body: &Vec<u8>| ServerError::parse(body).is_ok_and(|notice| notice.code() == "42P07");
        let made = !first.notices.iter().any(exists);
        if !made || staged.tail.to_ascii_lowercase().ends_with("no data") {
            self.complete(first.tag());
            return Ok(());
        }
        let name = match schema {
            Some(schema) => format!("{}.{}", quote_identifier(schema), quote_identifier(name)),
            None => quote_identifier(name),
        };
        let place = self.place_of_new(&name).await?;
        if place != self.world.map.default_shard() {
            // Where the rows come from, was asked for the home shard.
            plan::allowed(
                &self.world.map,
                self.session.across_regions,
                &self.world.map.all_shards(),
            )?;
        }
        self.may_enlist(place, true)?;
        self.bring(place, staged, &load).await?;
        let insert = format!("INSERT INTO {name} {}", load.select(&[]));
        let reply = self.ask_query(place, &insert).await;
        self.refuse_reply(place, &reply)?;
        self.session.transaction.note(place, true, false);
        let rows = response::row_count(reply.tag().as_bytes()).unwrap_or_default();
        let dropped = self.ask_query(place, &format!("DROP TABLE {}", load.table)).await;
        self.refuse_reply(place, &dropped)?;
        self.complete(&format!("SELECT {rows}"));
        Ok(())
    }

    /// Where the map places the rows of a table that was made just now.
    async fn place_of_new(&mut self, name: &str) -> Result<ShardId, Failure> {
        let home = self.world.map.default_shard();
        let sql = format!(
            "SELECT n.nspname, c.relname, a.attname FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
             WHERE c.oid = {}::pg_catalog.regclass ORDER BY a.attnum",
            quote_literal(name)
        );
        let reply = self.ask_query(home, &sql).await;
        self.refuse_reply(home, &reply)?;
        let mut table = Table {
            schema: String::new(),
            name: String::new(),
            kind: RelationKind::Table,
            columns: Vec::new(),
            primary_key: Vec::new(),
            view_definition: None,
            has_triggers: false,
            has_rules: false,
            columns_known: true,
            parents: Vec::new(),
            heirs: Vec::new(),
            before_row: Vec::new(),
        };
        for row in frames(&reply.rows) {
            let values = response::data_row(row.body).unwrap_or_default();
            let text = |value: Option<&[u8]>| {
                value.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            };
            if let [schema, own, column] = values.as_slice() {
                table.schema = text(*schema).unwrap_or_default();
                table.name = text(*own).unwrap_or_default();
                table.columns.extend(text(*column).map(Column::named));
            }
        }
        let map = &self.world.map;
        let why = match map.placement(&table) {
            Placement::Single(shard) => return Ok(shard),
            Placement::Unlisted if map.policy().unlisted_tables == UnlistedTables::DefaultShard => {
                return Ok(home);
            }
            Placement::Unlisted => {
                "The map does not list it, and its policy says unlisted_tables = \"refuse\"."
            }
            Placement::Reference => {
                "It is a reference table: its rows would have to be on every shard."
            }
            Placement::Sharded { .. } | Placement::Lookup { .. } => {
                "It has a sharding key: each of its rows would have to go to its own shard."
            }
            Placement::Unusable(_) => "The map gives it no place.",
        };
        Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("a new table \"{}\" with the rows of a query is not supported", table.name),
        )
        .detail(why)
        .hint("Make the table with CREATE TABLE, then insert the rows.")
        .into())
    }
}

/// What the statement leaves on its connection.
fn leaves(staged: &Staged, plan: &Plan, readied: &Readied) -> Pins {
    match &staged.place {
        Place::Rows(_) => readied.entry.leaves,
        Place::Temporary => Pins::of(Pin::TemporaryTable).with(Pins::of(Pin::EventTrigger)),
        Place::Cursor if plan.taints => Pins::of(Pin::HoldCursor),
        Place::Cursor => Pins::NONE,
        Place::Table(..) => Pins::of(Pin::EventTrigger),
    }
}

/// The statement was cancelled, or the server goes.
fn is_interrupt(error: &ServerError) -> bool {
    matches!(error.code().as_ref(), "57014" | "57P01")
}

/// Whole messages, one after the other.
fn frames(bytes: &[u8]) -> impl Iterator<Item = frame::Frame<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let found = frame::next(rest, frame::STATEMENT_BYTES_MAX).ok().flatten()?;
        rest = rest.get(found.raw.len()..).unwrap_or_default();
        Some(found)
    })
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
    for (number, row) in
        (0_u64..).zip(frames(&load.rows).filter(|f| f.tag == backend::tag::DATA_ROW))
    {
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
    frame_into(&mut message, tag::COPY_DATA, data);
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
        let constants = [(crate::plan::staged::Column::FromLast(1), "'x'".to_owned())];
        assert_eq!(
            load.select(&constants),
            "SELECT c0 AS \"a\", 'x' AS \"?column?\", c2 AS \"b\" FROM pg_temp.s ORDER BY n"
        );
    }
}
