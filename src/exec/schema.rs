//! The schema that a client's own transaction has made, which nobody else sees yet.
//!
//! Behind DDL in a transaction block the next statement that names tables is planned against the catalog
//! as the transaction's own connection to the home shard reads it: a table made in the block has its key,
//! a column that was dropped no longer counts. That world belongs to this client, until the block ends.

use std::sync::Arc;

use super::Executor;
use crate::catalog::Catalog;
use crate::catalog::read::{
    READ_COLUMNS, READ_FUNCTIONS, READ_RELATIONS, READ_SEARCH_PATHS, READ_SETTINGS,
};
use crate::error::SqlError;
use crate::mapstore::World;
use crate::sql::class::Class;

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
            | Class::Declare
    )
}

impl Executor {
    /// The open transaction has changed the schema since it was last read, and a statement of this class
    /// stands on it.
    pub(super) fn is_behind(&self, class: &Class) -> bool {
        self.session.schema_stale
            && self.session.transaction.status() == b'T'
            && self.world.map.shards().len() > 1
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
