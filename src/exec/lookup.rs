//! Asks the lookups' sources: which key does an id belong to?
//!
//! The planner says which ids it would like to know ([`View::into_wanted`]); they are asked for on every
//! shard that the source's rows may be on, in one query a shard, and the statement is planned again. An
//! answer narrows only when one shard alone knows the id, and the map places its key there: a row that is
//! on several shards (the default bot, say) says nothing of the rows that carry its id.

use std::fmt::Write as _;

use super::Executor;
use super::local::SessionScopes;
use super::planner::Scopes;
use crate::backend::BackendError;
use crate::catalog::Names;
use crate::datum::{KeyType, KeyValue};
use crate::error::SqlError;
use crate::lookup::{Answer, Id, View};
use crate::map::ShardId;
use crate::mapstore::World;
use crate::plan::{FreshHere, Scope};
use crate::sql::class::Isolation;
use crate::sql::quote::{quote_identifier, quote_literal};

/// The session's scopes, with what is known of ids, and what is made.
pub(super) struct LookingUp<'a> {
    session: SessionScopes<'a>,
    view: Option<&'a View<'a>>,
    fresh: FreshHere<'a>,
}

impl Scopes for LookingUp<'_> {
    fn scope(&self, world: &World, hint: Option<&str>) -> Result<Scope<'_>, SqlError> {
        let mut scope = self.session.scope(world, hint)?;
        if let Some(view) = self.view {
            scope.lookups = Some(view);
        }
        scope.fresh = Some(self.fresh);
        Ok(scope)
    }

    fn is_own(&self, table: &str) -> bool {
        self.session.is_own(table)
    }
}

/// An id's row that a shard has: whose it is, and the text of its key.
type Found = (ShardId, Option<String>);

impl Executor {
    /// What the planner may know of ids; `None` when the map has no lookups.
    pub(super) fn view(&self) -> Option<View<'_>> {
        let known = &self.world.lookups;
        let map = &self.world.map;
        let matters = !map.lookups().is_empty() || map.takes_newcomers();
        matters.then(|| View::new(known, &self.asked))
    }

    /// What a statement by itself made is known when it has succeeded; what a transaction made is asked for.
    pub(super) fn learn_made(&mut self, committed: bool) {
        for (id, key) in self.made.drain(..).filter(|_| committed) {
            self.world.lookups.learn(id, Some(key));
        }
    }

    /// The session's scopes with that view.
    pub(super) fn scopes<'a>(&'a self, view: Option<&'a View<'a>>) -> LookingUp<'a> {
        let fresh = self.fresh.of(0, self.only_writable());
        LookingUp { session: SessionScopes(&self.session), view, fresh }
    }

    /// The one shard that the transaction can write on, as far as that is settled.
    fn only_writable(&self) -> Option<ShardId> {
        let transaction = &self.session.transaction;
        let has_snapshot = || {
            let isolation = self.session.modes.and_then(|modes| modes.isolation);
            matches!(isolation, Some(Isolation::RepeatableRead | Isolation::Serializable))
        };
        let writer = transaction.deeds().writer;
        let alone = || transaction.shard().filter(|_| has_snapshot());
        self.batch.open_on().or(writer).or_else(alone)
    }

    /// Asks for ids; what can't be told narrows nothing.
    ///
    /// # Errors
    ///
    /// The transaction's own connection failed with it.
    pub(super) async fn look_up(&mut self, wanted: Vec<Id>) -> Result<(), SqlError> {
        let found = match self.source_query(&wanted) {
            Some(sql) if self.may_ask() => self.ask_shards(&sql, wanted.len()).await?,
            _ => None,
        };
        let Some(found) = found else {
            self.asked.extend(wanted.into_iter().map(|id| (id, Answer::Anywhere)));
            return Ok(());
        };
        for (id, rows) in wanted.into_iter().zip(found) {
            self.note_answer(id, &rows);
        }
        Ok(())
    }

    /// In a failed transaction, or while a pipeline is open, nothing can be asked.
    pub(super) fn may_ask(&self) -> bool {
        self.session.transaction.status() != b'E' && !self.batch.is_open()
    }

    /// One query for all ids: rows of an id's number and its key. Literals have the type of the source's
    /// column, so that reading them can't fail; `None` where that isn't known.
    fn source_query(&self, wanted: &[Id]) -> Option<String> {
        let mut sql = String::new();
        for (n, id) in wanted.iter().enumerate() {
            let source = self.world.map.lookups().get(id.lookup)?.source.as_ref()?;
            let (schema, name) = source.table.split_once('.')?;
            let names = Names { search_path: &[], user: "" };
            let table = self.world.catalog.resolve(&names, Some(schema), name)?;
            let column = table.columns.iter().find(|column| column.name == source.id)?;
            let ty = KeyType::from_oid(column.base_oid)?;
            table.columns.iter().find(|column| column.name == source.key)?;
            if !id.value.is_of(ty) {
                return None;
            }
            let union = if n == 0 { "" } else { " UNION ALL " };
            let literal = match &id.value {
                KeyValue::Int(number) => number.to_string(),
                text => quote_literal(&text.to_string()),
            };
            // Rows that exist on every shard say nothing of the rows that carry their id.
            let rules = self.world.map.everywhere_rows().iter();
            let rules = rules.filter(|rule| rule.schema == schema && rule.table == name);
            let everywhere: Vec<String> =
                rules.map(|rule| format!("({})", rule.predicate)).collect();
            let everywhere =
                if everywhere.is_empty() { "false".to_owned() } else { everywhere.join(" OR ") };
            let _ = write!(
                sql,
                "{union}SELECT {n}, CASE WHEN {everywhere} THEN NULL ELSE {}::pg_catalog.text END FROM {}.{} WHERE {} OPERATOR(pg_catalog.=) {literal}",
                quote_identifier(&source.key),
                quote_identifier(schema),
                quote_identifier(name),
                quote_identifier(&source.id),
            );
        }
        Some(sql)
    }

    /// The rows that each id has; `None` when a shard can't be asked.
    async fn ask_shards(
        &mut self,
        sql: &str,
        ids: usize,
    ) -> Result<Option<Vec<Vec<Found>>>, SqlError> {
        let mut found: Vec<Vec<Found>> = vec![Vec::new(); ids];
        for n in 0..self.world.map.shards().len() {
            let shard = ShardId(u16::try_from(n).unwrap_or(u16::MAX));
            let Ok(at) = self.acquire(shard).await else { return Ok(None) };
            let own = self.is_enlisted(shard);
            let Some(held) = self.held.get_mut(at) else { return Ok(None) };
            let rows = match held.lease.simple_query(sql).await {
                Ok(rows) => rows,
                Err(error) if own => return Err(self.shard_error(shard, &error)),
                Err(BackendError::Statement(_)) => {
                    self.settle(at);
                    return Ok(None);
                }
                Err(_) => {
                    self.lose(at);
                    return Ok(None);
                }
            };
            self.settle(at);
            for row in rows {
                let mut row = row.into_iter();
                let id = row.next().flatten().and_then(|n| n.parse::<usize>().ok());
                let Some(list) = id.and_then(|n| found.get_mut(n)) else { continue };
                list.push((shard, row.next().flatten()));
            }
        }
        Ok(Some(found))
    }

    /// Remembers what the shards said of an id: for everyone if it is committed, else for this statement.
    fn note_answer(&mut self, id: Id, rows: &[Found]) {
        let map = &self.world.map;
        let Some(lookup) = map.lookups().get(id.lookup) else { return };
        let ty = map.key(lookup.key).map(crate::map::Key::key_type);
        let mut answer = None;
        let home = |shard: ShardId, text: &str| {
            let key = KeyValue::from_text(ty?, text).ok()?.into_owned();
            map.place(lookup.key, &key).is_ok_and(|home| home == shard).then_some(key)
        };
        if let [(shard, Some(text))] = rows {
            answer = home(*shard, text);
        } else if let [(_, Some(text)), rest @ ..] = rows
            && rest.iter().all(|(_, other)| other.as_ref() == Some(text))
        {
            // Copied: while the key is frozen its rows are on two shards.
            answer = rows.iter().find_map(|(shard, _)| home(*shard, text));
            answer = answer.filter(|key| {
                map.freezes().iter().any(|(own, frozen)| *own == lookup.key && frozen == key)
            });
        }
        let private = rows.iter().any(|(shard, _)| self.is_enlisted(*shard));
        if rows.is_empty() || private {
            let answer = answer.map_or(Answer::Anywhere, Answer::Key);
            self.asked.push((id, answer));
        } else {
            self.world.lookups.learn(id, answer);
        }
    }
}
