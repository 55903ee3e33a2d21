//! The schema that a client's own transaction has made, which nobody else sees yet.
//!
//! Behind DDL in a transaction block the next statement that names tables is planned against the catalog
//! as the transaction's own connection to the home shard reads it: a table made in the block has its key,
//! a column that was dropped no longer counts. That world belongs to this client, until the block ends.

use std::sync::Arc;

use super::Executor;
use super::planner::Entry;
use crate::catalog::Catalog;
use crate::catalog::read::{
    READ_COLUMNS, READ_FUNCTIONS, READ_RELATIONS, READ_SEARCH_PATHS, READ_SETTINGS,
};
use crate::error::SqlError;
use crate::mapstore::World;
use crate::sql::class::{Class, classify};
use crate::wire::frame;
use crate::wire::frontend::{BindView, ParseView, tag};

/// The names in it decide where it goes.
fn needs_schema(class: &Class) -> bool {
    matches!(
        class,
        Class::Query
            | Class::Explain
            | Class::Copy { .. }
            | Class::Truncate
            | Class::Lock
            | Class::Maintenance
            | Class::Prepare { .. }
            | Class::Declare(_)
    )
}

/// What the schema says of its names decides how it is planned. Definitions go to every shard, whatever there
/// is, but for those that may change where rows are looked for; others say nothing that the schema could answer.
pub(super) fn stands_on_schema(class: &Class) -> bool {
    if let Class::Definition { tag, .. } = class
        && ["ALTER TABLE", "ALTER SCHEMA"].contains(tag)
    {
        return true;
    }
    !matches!(
        class,
        Class::Empty
            | Class::Begin(_)
            | Class::Commit { .. }
            | Class::Rollback { .. }
            | Class::Savepoint(_)
            | Class::Release(_)
            | Class::RollbackTo(_)
            | Class::Set(_)
            | Class::Reset(_)
            | Class::Show(_)
            | Class::SetTransaction { .. }
            | Class::SetConstraints(_)
            | Class::Deallocate(_)
            | Class::DiscardAll
            | Class::Discard
            | Class::Definition { from_query: false, temporary: false, .. }
    )
}

impl Executor {
    /// It names a table that neither the catalog knows nor the session has made for itself.
    pub(super) fn has_unknown_table(&self, entry: &Entry) -> bool {
        !entry.unknown_tables.iter().all(|name| self.session.has_temporary(name))
    }

    /// Something in these messages stands on the schema.
    pub(super) fn unit_stands_on_schema(&self, bytes: &[u8]) -> bool {
        frame::all(bytes).any(|found| match found.tag {
            tag::PARSE => ParseView::parse(found.body).is_ok_and(|view| {
                let text = std::str::from_utf8(view.sql).unwrap_or_default();
                stands_on_schema(&classify(text, self.reading.standard_strings))
            }),
            tag::BIND => BindView::parse(found.body).is_ok_and(|view| {
                let known = self.statements.get(view.statement);
                known.is_some_and(|known| stands_on_schema(&known.readied.entry.class))
            }),
            _ => false,
        })
    }

    /// The open transaction has changed the schema since it was last read, and a statement of this class
    /// stands on it.
    pub(super) fn is_behind(&self, class: &Class) -> bool {
        self.session.schema_stale
            && self.session.transaction.status() == b'T'
            && !(self.world.map.is_one_server() && self.world.map.sole_key().is_none())
            && needs_schema(class)
            && self.is_enlisted(self.world.map.default_shard())
    }

    /// Reads the schema as the open transaction sees it.
    ///
    /// # Errors
    ///
    /// The shard was lost, or says what can't be understood.
    pub(super) async fn read_own_schema(&mut self) -> Result<(), SqlError> {
        const NAME: &str = "\"pgmeridian: schema\"";
        let home = self.world.map.default_shard();
        let Some(at) = self.held.iter().position(|held| held.shard == home) else { return Ok(()) };
        self.session.schema_stale = false;
        let begin = format!("SAVEPOINT {NAME}; {READ_SETTINGS}");
        let end = format!("ROLLBACK TO {NAME}; RELEASE {NAME}");
        let queries =
            [READ_SEARCH_PATHS, &begin, READ_RELATIONS, READ_COLUMNS, READ_FUNCTIONS, &end];
        let mut answers = Vec::with_capacity(queries.len());
        for sql in queries {
            let Some(held) = self.held.get_mut(at) else { return Ok(()) };
            match held.lease.simple_query(sql).await {
                Ok(rows) => answers.push(rows),
                Err(error) => {
                    let error = self.shard_error(home, &error);
                    self.lose(at);
                    return Err(error);
                }
            }
        }
        if let [paths, _, relations, columns, functions, _] = answers.as_slice() {
            let catalog = Catalog::from_rows(relations, columns, functions)?;
            let catalog = Arc::new(catalog.with_search_paths(paths));
            self.world = Arc::new(World::private(&self.world, catalog));
            self.follow_settings();
        }
        Ok(())
    }
}
