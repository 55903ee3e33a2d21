//! Tables and rows reach the shards as an application's would: through the proxy.

use tokio_postgres::Client;

use super::{DemoError, Stage, sample};

/// An error message shows this much of a statement.
const STATEMENT_CHARS_SHOWN: usize = 60;

impl Stage {
    /// Creates the sample tables on every shard, each through `SET pgmeridian.shard`.
    pub(super) async fn create_tables(&self) -> Result<(), DemoError> {
        for shard in &self.shards {
            let client = self.on_shard(&shard.name).await?;
            for statement in sample::SCHEMA.split_inclusive(";\n") {
                run(&client, statement).await?;
            }
            run(&client, sample::PLANS).await?;
        }
        run(&self.connect().await?, sample::SETTINGS).await
    }

    /// Empties the sharded tables on every shard, for a map that places the rows otherwise.
    pub(super) async fn clear(&self) -> Result<(), DemoError> {
        let truncate = format!("TRUNCATE {}", sample::SHARDED.join(", "));
        for shard in &self.shards {
            run(&self.on_shard(&shard.name).await?, &truncate).await?;
        }
        Ok(())
    }

    /// Inserts the sample rows, one tenant's and one table's to a statement, and says how many there were.
    pub(super) async fn load(&self) -> Result<u64, DemoError> {
        let client = self.connect().await?;
        let progress = self.screen.progress("loading tenants", sample::TENANTS);
        let mut rows = 0;
        for tenant in 1..=sample::TENANTS {
            for insert in sample::tenant(tenant) {
                run(&client, &insert.sql).await?;
                rows += insert.rows;
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(rows)
    }

    /// A connection whose statements run on one shard.
    async fn on_shard(&self, name: &str) -> Result<Client, DemoError> {
        let client = self.connect().await?;
        run(&client, &format!("SET pgmeridian.shard = '{name}'")).await?;
        Ok(client)
    }

    /// How many rows of a table each shard holds, asked of the shards themselves, past the proxy.
    pub(super) async fn count(&self, table: &str) -> Result<Vec<i64>, DemoError> {
        let mut counts = Vec::new();
        for cluster in &self.clusters {
            let client = cluster.connect(super::DATABASE).await?;
            let sql = format!("SELECT count(*) FROM {table}");
            let counted = client.query_one(&sql, &[]).await;
            let row = counted.map_err(|source| DemoError::Statement { statement: sql, source })?;
            counts.push(row.try_get(0).map_err(super::ClusterError::from)?);
        }
        Ok(counts)
    }
}

async fn run(client: &Client, sql: &str) -> Result<(), DemoError> {
    client.batch_execute(sql).await.map_err(|source| DemoError::Statement {
        statement: sql.trim().chars().take(STATEMENT_CHARS_SHOWN).collect(),
        source,
    })
}
