//! Prepared statements under the client's own names: in query strings, EXPLAIN EXECUTE, CREATE TABLE AS
//! EXECUTE.
//!
//! There the text goes to the shard as it is, and the names in it are the client's. The connection is
//! *lent* the statements under these names before, and gives the names back after; what the string has
//! done to them (PREPARE, DEALLOCATE, as far as it got) is done to the client's own.

use std::sync::Arc;

use super::planner::Planned;
use super::prepare::statement_of;
use super::statements::{ClientStatement, no_statement};
use super::strings::characters_of;
use super::{Executor, Failure, worker};
use crate::datum::Oid;
use crate::error::{SqlError, SqlState};
use crate::plan::Plan;
use crate::session::responses::{OUR_NAMES, StepKind};
use crate::sql::class::{Class, Execution, execution_within};
use crate::wire;

/// A statement that a connection is lent.
struct Loan {
    name: Vec<u8>,
    sql: Arc<[u8]>,
    oids: Vec<Oid>,
}

/// What a query string says of prepared statements.
#[derive(Default)]
pub(super) struct Names {
    loans: Vec<Loan>,
    /// What PREPARE in the string makes: which statement of the string, name, and what it is then.
    coming: Vec<(usize, Vec<u8>, ClientStatement)>,
}

impl Names {
    /// The connection has to be told of some.
    pub(super) fn has_loans(&self) -> bool {
        !self.loans.is_empty()
    }
}

impl Executor {
    /// EXPLAIN EXECUTE, CREATE TABLE AS EXECUTE.
    pub(super) async fn run_with_execution(
        &mut self,
        planned: &Planned,
        execution: &Execution,
        query: &[u8],
    ) -> Result<(), Failure> {
        let name = execution.name.as_bytes();
        let text = statement_of(query, planned);
        let inner = self.plan_execution_asking(execution, &text, None).await?;
        let entry = Arc::clone(&self.statement(name)?.readied.entry);
        self.refuse_session_state(&entry)?;
        self.refuse_key(&inner)?;
        if inner.answer.is_gathered() {
            return Err(over_several().into());
        }
        let outer = planned.plan.as_ref();
        let shard = self.one_shard(outer.unwrap_or(&inner))?;
        let loan = self.loan(name, inner.rewritten.as_deref())?;
        let names = Names { loans: vec![loan], coming: Vec::new() };
        // CREATE TABLE AS writes what it makes, whatever the statement within does.
        let writes = inner.writes || outer.is_some_and(|plan| plan.writes);
        let taints = inner.taints || outer.is_some_and(|plan| plan.taints);
        if self.writes_apart(shard, writes || taints) {
            Box::pin(self.begin_writing(shard)).await?;
        }
        self.leaving = entry.leaves.with(planned.entry.leaves);
        let at = self.acquire(shard).await?;
        self.may_write(at, writes || taints)?;
        self.last_route.note_one(self.route_to(shard), &self.world);
        self.lend(at, &names).await?;
        self.start(at).await?;
        wire::frontend::query_into(&mut self.request, query);
        self.responses.expect(StepKind::Query, false);
        self.exchange(at).await?;
        self.give_back(at, &[name], &[]).await?;
        let schema = outer.is_some_and(|plan| plan.changes_schema);
        let sets = inner.settings.is_some();
        let taints = taints || sets;
        let failed = self.responses.failed();
        let effects: &[&Class] = if failed { &[] } else { &[&planned.entry.class] };
        self.finish(at, taints, schema, effects, failed);
        self.session.transaction.note(shard, writes, taints);
        self.close_trace();
        Ok(())
    }

    fn loan(&self, name: &[u8], rewritten: Option<&str>) -> Result<Loan, SqlError> {
        let Some(statement) = self.statements.get(name) else { return Err(no_statement(name)) };
        let sql = match rewritten {
            Some(sql) => sql.as_bytes().into(),
            None => Arc::clone(&statement.sql),
        };
        Ok(Loan { name: name.to_vec(), sql, oids: statement.oids.clone() })
    }

    /// What a string says of prepared statements; its executions are given their plans.
    ///
    /// # Errors
    ///
    /// What can't be planned.
    pub(super) fn names_of(
        &mut self,
        planned: &mut [Planned],
        query: &[u8],
    ) -> Result<Names, SqlError> {
        let mut names = Names::default();
        for (n, one) in planned.iter_mut().enumerate() {
            let entry = Arc::clone(&one.entry);
            match &entry.class {
                Class::Prepare { name, typed, body } => {
                    let place = (one.start + body) as usize..one.end as usize;
                    let sql = query.get(place).unwrap_or_default();
                    let readied =
                        worker::with_planner(|p| p.prepare(&self.world, &self.reading, sql))?;
                    let mut statement = self.client_statement(sql.into(), Vec::new(), readied);
                    statement.untold = *typed;
                    let prefix = query.get(..(one.start + body) as usize).unwrap_or_default();
                    statement.before = characters_of(prefix);
                    // If there is one of this name already, the shard says so when it comes to it.
                    self.lend_known(&mut names, name.as_bytes())?;
                    names.coming.push((n, name.as_bytes().to_vec(), statement));
                }
                Class::Deallocate(Some(name)) => self.lend_known(&mut names, name.as_bytes())?,
                Class::Execute(execution) => {
                    let text = statement_of(query, one);
                    self.plan_in_string(&mut names, one, execution, &text)?;
                }
                class => {
                    let text = statement_of(query, one);
                    let standard_strings = self.reading.standard_strings;
                    if let Some(execution) = execution_within(&text, class, standard_strings) {
                        self.plan_in_string(&mut names, one, &execution, &text)?;
                    }
                }
            }
        }
        Ok(names)
    }

    /// A statement of the client's is lent as it is, if there is one.
    fn lend_known(&self, names: &mut Names, name: &[u8]) -> Result<(), SqlError> {
        if names.loans.iter().any(|loan| loan.name == name) {
            return Ok(());
        }
        match self.loan(name, None) {
            Ok(loan) => names.loans.push(loan),
            Err(error) if name.starts_with(OUR_NAMES) => return Err(error),
            // The shard says so itself.
            Err(_) => {}
        }
        Ok(())
    }

    fn plan_in_string(
        &mut self,
        names: &mut Names,
        planned: &mut Planned,
        execution: &Execution,
        text: &str,
    ) -> Result<(), SqlError> {
        let name = execution.name.as_bytes();
        let coming = names.coming.iter().rev().find(|(_, own, _)| own == name);
        let (plan, made_here) = match coming {
            Some((_, _, statement)) => (self.plan_with(statement, execution, text, None)?, true),
            None if !self.statements.contains(name) => return self.lend_known(names, name),
            None => (self.plan_execution(execution, text, None)?, false),
        };
        if plan.answer.is_gathered() {
            // By itself it may be.
            planned.plan.get_or_insert(plan);
            return Ok(());
        }
        let loan = if made_here { None } else { Some(self.loan(name, plan.rewritten.as_deref())?) };
        let lent = names.loans.iter().find(|lent| lent.name == name);
        let differs = |loan: &Loan| lent.is_some_and(|lent| lent.sql != loan.sql);
        if made_here && plan.rewritten.is_some() || loan.as_ref().is_some_and(differs) {
            return Err(SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!(
                    "\"{}\" cannot be executed in this query string under a session key",
                    execution.name
                ),
            )
            .detail("Its text would have to be another one for the shard.")
            .hint("Send the statements one by one."));
        }
        if lent.is_none() {
            names.loans.extend(loan);
        }
        planned.plan.get_or_insert(Plan { rewritten: None, ..plan });
        Ok(())
    }

    /// Tells a connection the statements under the client's own names.
    pub(super) async fn lend(&mut self, at: usize, names: &Names) -> Result<(), Failure> {
        if names.loans.is_empty() {
            return Ok(());
        }
        self.request.clear();
        self.responses.begin(true);
        for loan in &names.loans {
            let oids = loan.oids.iter().copied();
            wire::frontend::parse_into(&mut self.request, &loan.name, &loan.sql, oids);
            self.responses.expect(StepKind::Parse, true);
        }
        wire::frontend::sync_into(&mut self.request);
        self.responses.expect(StepKind::Sync, true);
        self.exchange(at).await?;
        if self.responses.failed() {
            // Some of them may be there: no other client may find them.
            let completed = self.responses.completed() as usize;
            let lent: Vec<&[u8]> =
                names.loans.iter().take(completed).map(|loan| &*loan.name).collect();
            self.give_back(at, &lent, &[]).await?;
        }
        self.shown_aside(at)
    }

    /// After a string whose first `done` statements were carried out: the connection gives the names back,
    /// and what became of them becomes of the client's.
    pub(super) async fn settle_names(
        &mut self,
        at: usize,
        mut names: Names,
        planned: &[Planned],
        done: usize,
    ) -> Result<(), Failure> {
        for (n, one) in planned.iter().enumerate().take(done) {
            match &one.entry.class {
                Class::Prepare { .. } => {
                    let found = names.coming.iter().position(|(own, ..)| *own == n);
                    if let Some(found) = found {
                        let (_, name, statement) = names.coming.remove(found);
                        let sql = Arc::clone(&statement.sql);
                        self.statements.insert(&name, statement);
                        names.loans.push(Loan { name, sql, oids: Vec::new() });
                    }
                }
                Class::Deallocate(Some(name)) => {
                    self.statements.remove(name.as_bytes());
                }
                Class::Deallocate(None) => self.statements.clear_named(),
                _ => {}
            }
        }
        if names.loans.is_empty() {
            return Ok(());
        }
        let lent: Vec<&[u8]> = names.loans.iter().map(|loan| &*loan.name).collect();
        // In a failed transaction nothing can be asked.
        let asks = self.responses.status() != b'E';
        let untold = |name: &&&[u8]| self.statements.get(name).is_some_and(|one| one.untold);
        let (learn, lost): (Vec<&[u8]>, Vec<&[u8]>) =
            lent.iter().filter(untold).partition(|_| asks);
        for name in lost {
            self.statements.remove(name);
        }
        let types = self.give_back(at, &lent, &learn).await?;
        for (name, types) in learn.iter().zip(types) {
            if let Some(statement) = self.statements.get_mut(name) {
                statement.untold = false;
                statement.oids.clone_from(&types);
                statement.types = Some(types);
            }
        }
        Ok(())
    }

    /// The connection forgets these names; of those to `learn` it says the parameters' types before. The
    /// answers to what was asked before stay as they are.
    pub(super) async fn give_back(
        &mut self,
        at: usize,
        names: &[&[u8]],
        learn: &[&[u8]],
    ) -> Result<Vec<Vec<Oid>>, Failure> {
        let mut responses = std::mem::take(&mut self.responses);
        self.request.clear();
        self.responses.begin(true);
        for name in learn {
            wire::frontend::describe_statement_into(&mut self.request, name);
            self.responses.expect(StepKind::DescribeStatement, true);
        }
        for name in names {
            wire::frontend::close_statement_into(&mut self.request, name);
            self.responses.expect(StepKind::Close, true);
        }
        wire::frontend::sync_into(&mut self.request);
        self.responses.expect(StepKind::Sync, true);
        let result = self.exchange(at).await;
        std::mem::swap(&mut responses, &mut self.responses);
        result?;
        let types = responses.descriptions().iter();
        let types = types.map(|one| wire::response::parameter_description(&one.parameters));
        Ok(types.filter_map(Result::ok).collect())
    }
}

fn over_several() -> SqlError {
    SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "EXECUTE over several shards must stand alone")
        .detail("Here it would have to run on one shard.")
        .hint("EXPLAIN (ROUTE) shows where it goes.")
}
