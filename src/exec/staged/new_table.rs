//! CREATE TABLE … AS and SELECT … INTO: the table is made on every shard, and the rows go where the map places it.

use super::load::Load;
use crate::catalog::{Column, Table};
use crate::error::{SqlError, SqlState};
use crate::exec::{Executor, Failure};
use crate::map::{Placement, ShardId, UnlistedTables};
use crate::plan::staged::Place;
use crate::plan::{self, Plan, Staged};
use crate::sql::quote::{quote_identifier, quote_literal};
use crate::wire::frame;
use crate::wire::response::{self, ServerError};

impl Executor {
    /// CREATE TABLE … AS: the table is made on every shard, and the rows go to the one that the map places it on.
    pub(super) async fn make_table(
        &mut self,
        staged: &Staged,
        plan: &Plan,
        load: &Load<'_>,
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
        self.note_scratch(place)?;
        if self.writes_apart(place, true) {
            Box::pin(self.begin_writing(place)).await?;
        }
        self.bring(place, staged, load).await?;
        let insert = format!("INSERT INTO {name} {}", load.select(&[]));
        let reply = self.ask_query(place, &insert).await;
        self.refuse_reply(place, &reply)?;
        self.session.transaction.note(place, true, false);
        let rows = response::row_count(reply.tag().as_bytes()).unwrap_or_default();
        self.drop_scratch(place, load).await?;
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
        let mut table = Table::plain("", "", Vec::new());
        for row in frame::all(&reply.rows) {
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
