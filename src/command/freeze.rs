//! FREEZE, UNFREEZE, SHOW FREEZES: writes of a key are refused on every proxy while it is moved by hand.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{Answer, Operator, Table, Topic, Value};
use crate::datum::KeyValue;
use crate::error::{SqlError, SqlState};
use crate::map::{ConnectionTarget, KeyId, ShardMap};
use crate::mapstore::control::freeze::{self, Freeze, Waiting};
use crate::plan::scope;

/// How often it is asked who has acknowledged.
const ASK_INTERVAL: Duration = Duration::from_millis(20);

/// After UNFREEZE proxies are waited for so long.
const UNFREEZE_WAIT: Duration = Duration::from_secs(2);

impl Operator {
    pub(super) async fn freeze(&self, text: &str) -> Result<Answer, SqlError> {
        let map = &self.shared.store.current().map;
        let (key, value) = named(map, text)?;
        refuse_own_database(map, &key)?;
        let mut client = self.control(map).await?;
        let frozen = freeze::freeze(&mut client, &key, &value).await;
        let (version, before) = frozen.map_err(|error| unfit(&error))?;
        tracing::info!(key, value, "frozen by an operator");
        let wait = self.shared.config.limits.drain_timeout;
        let left = wait_for(&client, version, true, wait).await?;
        if left.is_empty() {
            let notice = before.then(|| format!("{key} {value} was frozen already"));
            return Ok(Answer::Done { tag: "FREEZE", notice });
        }
        Err(unacknowledged(&key, &value, &left))
    }

    pub(super) async fn unfreeze(&self, text: &str) -> Result<Answer, SqlError> {
        let map = &self.shared.store.current().map;
        let (key, value) = named(map, text)?;
        let mut client = self.control(map).await?;
        // Whoever still looks for the rows in their old place must not miss what is written in the new one.
        let now = freeze::version(&client).await.map_err(|error| unfit(&error))?;
        let wait = self.shared.config.limits.drain_timeout;
        let left = wait_for(&client, now, true, wait).await?;
        if !left.is_empty() {
            return Err(unsettled(&key, &value, now, &left));
        }
        let version = freeze::unfreeze(&mut client, &key, &value).await;
        let Some(version) = version.map_err(|error| unfit(&error))? else {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("{key} {value} is not frozen"),
            )
            .hint("SHOW FREEZES lists what is."));
        };
        tracing::info!(key, value, "a freeze was ended by an operator");
        let left = wait_for(&client, version, false, UNFREEZE_WAIT).await?;
        let notice =
            (!left.is_empty()).then(|| format!("{} will know a little later", names(&left)));
        Ok(Answer::Done { tag: "UNFREEZE", notice })
    }

    /// With who has acknowledged, if the control database can be asked; else what this proxy knows.
    pub(super) async fn show_freezes(&self) -> Table {
        let map = &self.shared.store.current().map;
        let asked = match self.control(map).await {
            Ok(client) => freeze::list(&client).await.ok(),
            Err(_) => None,
        };
        let rows = match asked {
            Some(all) => all.into_iter().map(told).collect(),
            None => map.freezes().iter().map(|(key, value)| known(map, *key, value)).collect(),
        };
        Table { columns: Topic::Freezes.columns(), rows }
    }

    async fn control(&self, map: &ShardMap) -> Result<Client, SqlError> {
        let Some(control) = map.control() else { return Err(no_control()) };
        freeze::open(&control.url).await.map_err(|error| away(&control.url, &error.to_string()))
    }
}

fn told(own: Freeze) -> Vec<Value> {
    vec![
        own.key.into(),
        own.value.into(),
        own.since.into(),
        own.by.into(),
        Value::Int(own.acknowledged),
        own.waiting.join(", ").into(),
    ]
}

fn known(map: &ShardMap, key: KeyId, value: &KeyValue<'_>) -> Vec<Value> {
    let name = map.key(key).map_or("", |key| key.name.as_str());
    let mut row = vec![name.into(), value.to_string().into()];
    row.resize(Topic::Freezes.columns().len(), Value::Null);
    row
}

/// Sessions in a key's own database know nothing of freezes.
fn refuse_own_database(map: &ShardMap, name: &str) -> Result<(), SqlError> {
    if !map.key_named(name).is_some_and(|key| map.has_databases(key)) {
        return Ok(());
    }
    let message = format!("a {name} with a database of its own cannot be frozen");
    Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
        .detail("Sessions that are in the database are not asked before they write.")
        .hint("ALTER DATABASE … WITH ALLOW_CONNECTIONS false on its shard keeps everybody out."))
}

/// `42`, or `tenant=42`.
fn named(map: &ShardMap, text: &str) -> Result<(String, String), SqlError> {
    if let Some((name, value)) = text.split_once('=')
        && let Some(key) = map.keys().iter().find(|key| key.name == name.trim())
    {
        let value = KeyValue::from_text(key.key_type(), value.trim())?;
        return Ok((key.name.clone(), value.to_string()));
    }
    let (key, value) = scope::resolve_key(map, text.trim())?;
    let name = map.key(key).map(|key| key.name.clone()).unwrap_or_default();
    Ok((name, value.to_string()))
}

/// The proxies that are not there yet when the time is over.
async fn wait_for(
    client: &Client,
    version: i64,
    settled: bool,
    wait: Duration,
) -> Result<Vec<Waiting>, SqlError> {
    let deadline = Instant::now() + wait;
    loop {
        let left = freeze::waiting(client, version, settled).await.map_err(|e| unfit(&e))?;
        // One that is silent is not waited for, but named.
        if left.iter().all(|one| one.silent) || Instant::now() >= deadline {
            return Ok(left);
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}

fn names(left: &[Waiting]) -> String {
    left.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn unacknowledged(key: &str, value: &str, left: &[Waiting]) -> SqlError {
    let silent: Vec<_> = left.iter().filter(|one| one.silent).cloned().collect();
    let error = SqlError::new(
        SqlState::LOCK_NOT_AVAILABLE,
        format!("the freeze of {key} {value} is not acknowledged by every proxy"),
    );
    if silent.is_empty() {
        return error
            .detail(format!(
                "It stays frozen. Transactions that began before are still open: {}.",
                names(left)
            ))
            .hint("SHOW FREEZES says who has acknowledged; FREEZE again waits again.");
    }
    error
        .detail(format!("It stays frozen. Not heard of for a minute or more: {}.", names(&silent)))
        .hint("If it does not run any more, delete its row from pgmeridian.proxy in the control database.")
}

fn unsettled(key: &str, value: &str, version: i64, left: &[Waiting]) -> SqlError {
    SqlError::new(
        SqlState::LOCK_NOT_AVAILABLE,
        format!("not every proxy uses version {version} of the control tables"),
    )
    .detail(format!("{key} {value} stays frozen. Not there yet: {}.", names(left)))
    .hint("SHOW MAP on that proxy says what is wrong. If it does not run any more, delete its row from pgmeridian.proxy in the control database.")
}

fn unfit(error: &crate::mapstore::ReadError) -> SqlError {
    SqlError::new(SqlState::CANNOT_CONNECT_NOW, format!("the control database refuses: {error}"))
        .hint("\"pgmeridian control install\" creates what FREEZE needs; the role of [control] url must own it or may INSERT, UPDATE and DELETE.")
}

fn away(url: &ConnectionTarget, why: &str) -> SqlError {
    let database = format!("{}:{}/{}", url.host, url.port, url.dbname);
    SqlError::new(
        SqlState::CANNOT_CONNECT_NOW,
        format!("the control database {database} can't be reached: {why}"),
    )
}

fn no_control() -> SqlError {
    SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "FREEZE is not supported without [control]")
        .detail("A freeze that only this proxy knew would not keep others from writing.")
        .hint("Keep the application from writing while a key is moved.")
}
