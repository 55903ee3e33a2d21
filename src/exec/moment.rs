//! One time for all shards of a transaction: that of the first one.
//!
//! It is asked for when a statement over several shards, or on a later one, names it ([`Plan::names_time`]); within
//! a transaction once. Outside of one a statement over several shards is told the time of the first of them.

use super::{Executor, Failure};
use crate::backend::BackendError;
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::plan::moment::{Moment, READ_MOMENT};
use crate::plan::{Answer, Plan, Route};
use crate::session::transaction::Transaction;
use crate::sql::class::Class;

impl Executor {
    /// The same plan with the time in its texts; `None` if they don't name it. `text` is the client's.
    pub(super) async fn at_one_time(
        &mut self,
        plan: &Plan,
        text: &str,
    ) -> Result<Option<Plan>, Failure> {
        let standard_strings = self.reading.standard_strings;
        if !plan.names_time(text, standard_strings)? {
            return Ok(None);
        }
        let shards = self.shards_of(plan);
        let moment = if self.session.transaction.is_open() {
            self.may_read_on(&shards)?;
            if let (Transaction::Pending(_), Some(first)) =
                (&self.session.transaction, shards.first())
            {
                self.join(*first).await?;
            }
            self.moment_within().await?
        } else {
            self.read_moment(&shards).await?
        };
        Ok(Some(plan.at(moment, text, standard_strings)?))
    }

    /// The shard of a query's plan is not the first one of its transaction. (What is only defined keeps its words.)
    pub(super) fn is_behind_first(&self, class: &Class, plan: &Plan) -> bool {
        let Transaction::Active { shard: first, status: b'T', .. } = self.session.transaction
        else {
            return false;
        };
        matches!(class, Class::Query)
            && plan.answer == Answer::Relay
            && !self.batch.is_open()
            && matches!(plan.route, Route::One(shard) if shard != first)
    }

    /// A plan for a shard that is not the transaction's first one, with the time in its text; `None` if that does
    /// not name it.
    pub(super) async fn at_first_time(
        &mut self,
        plan: &Plan,
        text: &[u8],
    ) -> Result<Option<Box<Plan>>, Failure> {
        let standard_strings = self.reading.standard_strings;
        let text = String::from_utf8_lossy(text);
        if !plan.names_time(&text, standard_strings)? {
            return Ok(None);
        }
        let moment = self.moment_within().await?;
        Ok(Some(Box::new(plan.at(moment, &text, standard_strings)?)))
    }

    /// The open transaction's time.
    pub(super) async fn moment_within(&mut self) -> Result<Moment, Failure> {
        if let Some(known) = self.session.transaction.deeds().moment {
            return Ok(Moment(known));
        }
        let Some(first) = self.session.transaction.shard() else { return Err(unreadable().into()) };
        let value = self.own_value(first, READ_MOMENT.as_bytes()).await?;
        let moment = value.as_deref().and_then(read).ok_or_else(unreadable)?;
        self.session.transaction.note_moment(moment.0);
        Ok(moment)
    }

    /// The time of the first of these shards, outside of any transaction.
    async fn read_moment(&mut self, shards: &[ShardId]) -> Result<Moment, Failure> {
        let first = shards.first().copied().unwrap_or(self.world.map.default_shard());
        let mut again = false;
        loop {
            let at = self.acquire(first).await?;
            let Some(held) = self.held.get_mut(at) else { return Err(unreadable().into()) };
            let fresh = held.fresh;
            match held.lease.simple_query(READ_MOMENT).await {
                Ok(rows) => {
                    self.settle(at);
                    let value = rows.into_iter().flatten().flatten().next();
                    let moment = value.as_deref().and_then(|value| read(value.as_bytes()));
                    return moment.ok_or_else(|| unreadable().into());
                }
                // Cancelled, say: the connection is as it was.
                Err(error @ BackendError::Statement(_)) => {
                    self.settle(at);
                    return Err(self.shard_error(first, &error).into());
                }
                // It was dead when it was leased.
                Err(_) if fresh && !std::mem::replace(&mut again, true) => self.lose(at),
                Err(error) => {
                    let told = self.shard_error(first, &error);
                    self.lose(at);
                    return Err(told.into());
                }
            }
        }
    }
}

fn read(value: &[u8]) -> Option<Moment> {
    std::str::from_utf8(value).ok()?.parse().ok().map(Moment)
}

fn unreadable() -> SqlError {
    SqlError::new(SqlState::INTERNAL_ERROR, "the transaction's time could not be read")
}
