//! The query by itself: what its shard says of it, whether its rows may go elsewhere, and the reading of them.

use std::iter::repeat_n;

use super::Described;
use crate::datum::{Format, Oid, Param};
use crate::error::{SqlError, SqlState};
use crate::exec::merged::Wanted;
use crate::exec::reply::Reply;
use crate::exec::scatter::{BindBody, ScatterBind, Trouble};
use crate::exec::workspace::without_position;
use crate::exec::{Executor, Failure, worker};
use crate::map::{ShardId, ShardSet};
use crate::plan::{self, Answer, Plan, Route, Staged};
use crate::wire::backend::tag;
use crate::wire::frontend::BindView;
use crate::wire::response::{self, ServerError};
use crate::wire::{frame, frontend};

impl Executor {
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
    pub(super) async fn describe_at(
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

    /// Plans the query by itself.
    pub(super) async fn query_within(
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
    pub(super) fn may_meet(&self, place: ShardId, query: &Plan) -> Result<(), SqlError> {
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
    pub(super) async fn rows_of(
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
        for found in frame::all(&answer) {
            match found.tag {
                tag::NOTICE | tag::PARAMETER_STATUS => {
                    self.io.outbox.extend_from_slice(found.raw);
                }
                // Its position counts in a text that the client does not know.
                tag::ERROR => {
                    frame::append(&mut self.io.outbox, tag::ERROR, &without_position(found.body));
                }
                _ => {}
            }
        }
        result?;
        if over { Err(self.failure(Trouble::TooMuch)) } else { Ok(answer) }
    }
}
