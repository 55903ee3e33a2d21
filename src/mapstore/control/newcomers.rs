//! Records where a new key lives.

use super::super::read::ReadError;
use super::install;
use crate::datum::KeyValue;
use crate::map::ConnectionTarget;
use crate::sql::quote::quote_literal;

/// Records a key's home, unless it has one: who is first decides.
///
/// # Errors
///
/// The control database can't be reached, or refuses it.
pub async fn record(
    url: &ConnectionTarget,
    key: &KeyValue<'_>,
    shard_id: i16,
    region: Option<&str>,
) -> Result<(), ReadError> {
    let client = install::open(url).await?;
    let region: String = region.unwrap_or_default().chars().take(3).collect();
    // Texts read as the column's own type, whatever that is.
    let sql = format!(
        "INSERT INTO tenant_shard_map (tenant_id, shard_id, region_code) VALUES ({}, {shard_id}, {}) \
         ON CONFLICT (tenant_id) DO NOTHING",
        quote_literal(&key.to_string()),
        quote_literal(&region)
    );
    Ok(client.batch_execute(&sql).await?)
}
