//! Whether shards can commit together: the coordinator has its table, the participants can prepare, the roles may do
//! their part.
//!
//! All of that is asked in full, which costs PostgreSQL about a millisecond of planning, when it is new to this process
//! and every minute. Else the coordinator is asked for its transaction's number alone, everybody for the role, and what
//! has changed meanwhile makes the decision fail (see [`sql::decide`]).

use std::sync::Arc;

use super::{first_value, unreadable};
use crate::backend::Target;
use crate::commit::sql;
use crate::error::{SqlError, SqlState};
use crate::exec::recovery::{self, NotInstalled, Part};
use crate::exec::{Executor, Failure};
use crate::map::ShardId;
use crate::sql::quote::quote_identifier;
use crate::wire::frontend;

/// What keeps two shards from committing together.
struct Unready {
    coordinator: ShardId,
    participant: ShardId,
    ready: sql::Ready,
    why: Option<String>,
}

impl Executor {
    /// Where a shard's URL leads.
    fn target_of(&self, shard: ShardId) -> Option<Arc<Target>> {
        Some(self.shared().books.target(&self.world.map.shard(shard)?.url))
    }

    /// Which database of which server a held connection leads to, where that was asked.
    pub(super) fn known_server(&self, shard: ShardId) -> Option<Arc<str>> {
        let held = self.held.iter().find(|held| held.shard == shard)?;
        held.lease.server.clone()
    }

    /// It was.
    pub(super) fn note_server(&mut self, shard: ShardId, server: &str) {
        let held = self.held.iter_mut().find(|held| held.shard == shard);
        if let Some(held) = held.filter(|held| held.lease.server.is_none() && !server.is_empty()) {
            held.lease.server = Some(server.into());
        }
    }

    /// What is known of a shard's table and roles is not so.
    pub(super) fn forget_table(&self, shard: ShardId) {
        if let Some(target) = self.target_of(shard) {
            self.shared().commits.forget_table(&target);
        }
    }

    /// The coordinator's table, as it is known of the server that its connection leads to.
    fn known_table(&self, coordinator: ShardId) -> Option<sql::Table> {
        let table = self.shared().commits.table(&*self.target_of(coordinator)?)?;
        (self.known_server(coordinator)? == table.server.as_str().into()).then_some(table)
    }

    /// Whether a role was found fit a short while ago.
    fn may(&self, shard: ShardId, part: Part, role: &str) -> bool {
        let target = self.target_of(shard);
        target.is_some_and(|target| self.shared().commits.may(&target, part, role))
    }

    /// The same of the role that a connection has logged in as; whoever has another one by the end is asked then.
    fn may_as_it_came(&self, shard: ShardId, part: Part) -> bool {
        let held = self.held.iter().find(|held| held.shard == shard);
        held.is_some_and(|held| self.may(shard, part, held.lease.user()))
    }

    /// The coordinator has the table of decisions, which the client's role may insert into; where it is missing it is
    /// made.
    ///
    /// # Errors
    ///
    /// 0A000: it is not there, or may not be used.
    pub(super) async fn make_ready(
        &mut self,
        coordinator: ShardId,
        participant: ShardId,
    ) -> Result<(), Failure> {
        let is_known = self.known_table(coordinator).is_some();
        if is_known && self.may_as_it_came(coordinator, Part::Decides) {
            return Ok(());
        }
        let ready = self.ask_ready(coordinator).await?;
        self.use_ready(ready, coordinator, participant).await.map(|_| ())
    }

    /// The same after what it has said of itself; which table it is.
    async fn use_ready(
        &mut self,
        mut ready: sql::Ready,
        coordinator: ShardId,
        participant: ShardId,
    ) -> Result<sql::Table, Failure> {
        let map = Arc::clone(&self.world.map);
        let Some(shard) = map.shard(coordinator) else {
            return Err(SqlError::new(SqlState::INTERNAL_ERROR, "no such shard").into());
        };
        let target = self.shared().books.target(&shard.url);
        let is_ready = |ready: &sql::Ready| ready.mark.is_some() && ready.may_insert;
        let known = self.shared().commits.table(&target);
        // Where it is new to this process, recovery must be able to use it too.
        if !is_ready(&ready) || known.map(|table| table.mark) != ready.mark {
            let shared = Arc::clone(self.shared());
            let role = Some(ready.role.as_str()).filter(|_| !ready.may_insert);
            let made = Box::pin(recovery::install(&shared, shard, role)).await;
            if made.is_ok() && !is_ready(&ready) {
                ready = self.ask_ready(coordinator).await?;
            }
            // A snapshot that is older than the table does not show it.
            if let Ok(table) = &made
                && !ready.is_there
            {
                (ready.mark, ready.may_insert) = (Some(table.mark.clone()), true);
            }
            let why = match made {
                Ok(_) => None,
                Err(NotInstalled::Forbidden(why)) => Some(why),
                Err(NotInstalled::NotNow(error)) => {
                    return Err(error.sql_error(&self.place_name(coordinator)).into());
                }
            };
            if why.is_some() || !is_ready(&ready) {
                let unready = Unready { coordinator, participant, ready, why };
                return Err(self.not_ready(&unready, &target.user).into());
            }
        }
        let table = sql::Table { mark: ready.mark.unwrap_or_default(), server: ready.server };
        self.note_server(coordinator, &table.server);
        let commits = &self.shared().commits;
        commits.note_table(&target, table.clone());
        commits.note_may(&target, Part::Decides, &ready.role);
        Ok(table)
    }

    async fn ask_ready(&mut self, coordinator: ShardId) -> Result<sql::Ready, Failure> {
        let told = self.own_value(coordinator, sql::ready().as_bytes()).await?.unwrap_or_default();
        sql::Ready::read(&String::from_utf8_lossy(&told)).ok_or_else(|| unreadable().into())
    }

    fn not_ready(&self, unready: &Unready, url_user: &str) -> SqlError {
        let Unready { coordinator, participant, ready, why } = unready;
        let name = self.place_name(*coordinator);
        let lacks = match (ready.is_there, ready.may_insert) {
            (false, _) => "It is not there",
            (true, false) => "The client's role may not insert into it",
            (true, true) => "It can't be used",
        };
        let why = why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        let mut statements = Vec::new();
        if !ready.is_there {
            statements.push(sql::SCHEMA.replace("SCHEMA", "SCHEMA IF NOT EXISTS"));
            statements.push(sql::TABLE.to_owned());
        }
        if ready.mark.is_none() {
            statements.push(sql::mark(&recovery::fresh_table(&ready.server)));
        }
        statements.push(sql::grant_recovery(url_user));
        if ready.role != url_user {
            statements.push(sql::grant(&ready.role));
        }
        self.writes_elsewhere(*participant, *coordinator)
            .detail(format!(
                "That both commit is decided by a row of table pgmeridian.decision on shard \"{name}\". {lacks}{why}."
            ))
            .hint(format!("On shard \"{name}\", as one who may: {};", statements.join("; ")))
    }

    /// The participant's server can prepare transactions.
    ///
    /// # Errors
    ///
    /// 0A000: it can't.
    pub(super) async fn make_able(&mut self, participant: ShardId) -> Result<(), Failure> {
        let Some(target) = self.target_of(participant) else { return Ok(()) };
        if self.shared().commits.is_able(&target) {
            return Ok(());
        }
        let most = self.own_value(participant, sql::CAN_PREPARE.as_bytes()).await?;
        if most.as_deref().is_none_or(|most| most == b"0") {
            let writer = self.session.transaction.deeds().writer.unwrap_or(participant);
            let name = self.place_name(participant);
            return Err(self
                .writes_elsewhere(participant, writer)
                .detail(format!("Shard \"{name}\" can't prepare transactions: its max_prepared_transactions is 0."))
                .hint("Set max_prepared_transactions to max_connections on every shard, and restart it.")
                .into());
        }
        self.shared().commits.note_able(&target);
        Ok(())
    }

    /// Asks all at once, in the transactions that are to end. The coordinator: its transaction has its number from then
    /// on, and the role that it has now may insert; its table is returned. The others: whether the silent ones have
    /// written, and take part after all, and whether recovery may finish what they prepare.
    ///
    /// # Errors
    ///
    /// 0A000: one of them can't do its part, or is not allowed to; or what a shard has said, or its loss.
    pub(super) async fn make_sure(
        &mut self,
        coordinator: ShardId,
        silent: &[ShardId],
        participants: &mut Vec<ShardId>,
    ) -> Result<sql::Table, Failure> {
        let known = self.known_table(coordinator);
        let ready = sql::ready();
        let mut requests: Vec<(ShardId, &str)> =
            vec![(coordinator, if known.is_some() { sql::NUMBERED } else { &ready })];
        requests.extend(participants.iter().chain(silent).map(|shard| (*shard, sql::WROTE)));
        let mut told = self.ask_values(&requests).await?.into_iter();
        let decides = told.next().unwrap_or_default();
        let mut others = Vec::new();
        for ((shard, _), told) in requests.iter().skip(1).zip(told) {
            let wrote = sql::Wrote::read(&told).ok_or_else(unreadable)?;
            if silent.contains(shard) {
                if !wrote.has_written {
                    continue;
                }
                participants.push(*shard);
            }
            if !self.may(*shard, Part::Prepares, &wrote.role) {
                others.push(*shard);
            }
        }
        for shard in others {
            self.ask_fit(shard, coordinator).await?;
        }
        let participant = participants.first().copied().unwrap_or(coordinator);
        let ready = match known {
            Some(table) => {
                let role = sql::Wrote::read(&decides).ok_or_else(unreadable)?.role;
                if self.may(coordinator, Part::Decides, &role) {
                    return Ok(table);
                }
                self.ask_ready(coordinator).await?
            }
            None => sql::Ready::read(&decides).ok_or_else(unreadable)?,
        };
        Box::pin(self.use_ready(ready, coordinator, participant)).await
    }

    /// What it prepares can be finished by recovery.
    ///
    /// # Errors
    ///
    /// 0A000: it can't.
    pub(super) async fn make_fit(
        &mut self,
        shard: ShardId,
        coordinator: ShardId,
    ) -> Result<(), Failure> {
        if self.may_as_it_came(shard, Part::Prepares) {
            return Ok(());
        }
        self.ask_fit(shard, coordinator).await
    }

    async fn ask_fit(&mut self, shard: ShardId, coordinator: ShardId) -> Result<(), Failure> {
        let Some(target) = self.target_of(shard) else { return Ok(()) };
        let told = self.own_value(shard, sql::fit(&target.user).as_bytes()).await?;
        let told = String::from_utf8_lossy(&told.unwrap_or_default()).into_owned();
        let fit = sql::Fit::read(&told).ok_or_else(unreadable)?;
        if !fit.may_finish {
            return Err(self.no_member(shard, coordinator, &fit.role).into());
        }
        self.shared().commits.note_may(&target, Part::Prepares, &fit.role);
        Ok(())
    }

    /// One value of each, asked at once in a Query.
    async fn ask_values(&mut self, asked: &[(ShardId, &str)]) -> Result<Vec<String>, Failure> {
        let requests: Vec<(ShardId, Vec<u8>)> = asked
            .iter()
            .map(|(shard, sql)| {
                let mut request = Vec::new();
                frontend::query_into(&mut request, sql.as_bytes());
                (*shard, request)
            })
            .collect();
        let borrowed: Vec<(ShardId, &[u8])> =
            requests.iter().map(|(shard, request)| (*shard, request.as_slice())).collect();
        let replies = self.ask_apart(&borrowed, 1, None).await;
        let shards: Vec<ShardId> = requests.iter().map(|(shard, _)| *shard).collect();
        if let Err(message) = self.refuse_unwell(&shards, &replies) {
            self.io.outbox.extend_from_slice(&message);
            return Err(Failure::Shown);
        }
        let value =
            |reply| String::from_utf8_lossy(&first_value(reply).unwrap_or_default()).into_owned();
        Ok(replies.iter().map(value).collect())
    }

    /// 0A000: what a role prepares could not be finished by recovery.
    fn no_member(&self, shard: ShardId, coordinator: ShardId, role: &str) -> SqlError {
        let user = self.target_of(shard).map(|target| target.user.clone()).unwrap_or_default();
        let name = self.place_name(shard);
        self.writes_elsewhere(shard, coordinator)
            .detail(format!(
                "It is role \"{role}\"'s, and role \"{user}\" of the URL of shard \"{name}\" could not finish what that has prepared."
            ))
            .hint(format!(
                "On shard \"{name}\": GRANT {} TO {}",
                quote_identifier(role),
                quote_identifier(&user)
            ))
    }
}
