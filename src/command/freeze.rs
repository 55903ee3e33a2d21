//! FREEZE, UNFREEZE, SHOW FREEZES: writes of a key are refused on every proxy while it is moved by hand, and its rows
//! are read from its home alone. So UNFREEZE looks first whether any are left elsewhere.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{Answer, Operator, Table, Topic, Value};
use crate::datum::KeyValue;
use crate::error::{SqlError, SqlState};
use crate::exec::recovery;
use crate::map::{ConnectionTarget, KeyId, Part, ShardMap};
use crate::mapstore::Stray;
use crate::mapstore::control::freeze::{self, Freeze, Waiting};
use crate::plan::scope;

/// How often it is asked who has acknowledged.
const ASK_INTERVAL: Duration = Duration::from_millis(20);

/// How often it is asked what is prepared still.
const PREPARED_INTERVAL: Duration = Duration::from_millis(200);

/// After UNFREEZE proxies are waited for so long.
const UNFREEZE_WAIT: Duration = Duration::from_secs(2);

impl Operator {
    pub(super) async fn freeze(&self, text: &str) -> Result<Answer, SqlError> {
        let map = &self.shared.store.current().map;
        let own = Named::read(map, text)?;
        refuse_own_database(map, &own.key)?;
        let mut client = self.control(map).await?;
        let frozen = freeze::freeze(&mut client, &own.key, &own.value).await;
        let (version, before) = frozen.map_err(|error| unfit(&error))?;
        tracing::info!(key = own.key, value = own.value, "frozen by an operator");
        let wait = self.shared.config.limits.drain_timeout;
        let deadline = Instant::now() + wait;
        let left = wait_for(&client, version, true, wait).await?;
        if left.is_empty() {
            self.wait_for_prepared(&own, deadline).await?;
            let notice = before.then(|| format!("{own} was frozen already"));
            return Ok(Answer::Done { tag: "FREEZE", notice });
        }
        Err(unacknowledged(&own, &left))
    }

    /// Every proxy that runs has settled; what one that is gone had begun may be prepared still, and be committed when
    /// the rows are copied already. What is prepared now must have ended; what is prepared later began later.
    async fn wait_for_prepared(&self, own: &Named, deadline: Instant) -> Result<(), SqlError> {
        let mut waited: Option<HashMap<i16, HashSet<String>>> = None;
        loop {
            let map = Arc::clone(&self.shared.store.current().map);
            let is_waited = |id: i16| match &waited {
                Some(waited) => waited.contains_key(&id),
                None => true,
            };
            let gone = waited.iter().flat_map(HashMap::keys);
            let gone = gone.copied().find(|id| !map.shards().iter().any(|shard| shard.id == *id));
            if let Some(gone) = gone {
                return Err(not_asked(own, &format!("number {gone}"), "The map has it no more"));
            }
            let asked = recovery::prepared_now(&self.shared, &map, is_waited).await;
            let over = Instant::now() >= deadline;
            match asked {
                Ok(mut now) => {
                    if let Some(waited) = waited.take() {
                        now.retain(|id, own| {
                            own.retain(|name| waited.get(id).is_some_and(|all| all.contains(name)));
                            true
                        });
                    }
                    now.retain(|_, own| !own.is_empty());
                    if now.is_empty() {
                        return Ok(());
                    }
                    if over {
                        return Err(still_prepared(own, now.values().flatten()));
                    }
                    waited = Some(now);
                }
                Err((shard, why)) if over => return Err(not_asked(own, &shard, &why)),
                Err(_) => {}
            }
            tokio::time::sleep(PREPARED_INTERVAL).await;
        }
    }

    pub(super) async fn unfreeze(&self, text: &str, force: bool) -> Result<Answer, SqlError> {
        let own = Named::read(&self.shared.store.current().map, text)?;
        let mut client = self.control(&self.shared.store.current().map).await?;
        let frozen = freeze::is_frozen(&client, &own.key, &own.value).await;
        if !frozen.map_err(|error| unfit(&error))? {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("{own} is not frozen"),
            )
            .hint("SHOW FREEZES lists what is."));
        }
        let deadline = Instant::now() + self.shared.config.limits.drain_timeout;
        let version = loop {
            // Whoever still looks for the rows in their old place must not miss what is written in the new one.
            let now = freeze::version(&client).await.map_err(|error| unfit(&error))?;
            let wait = deadline.saturating_duration_since(Instant::now());
            let left = wait_for(&client, now, true, wait).await?;
            if !left.is_empty() {
                return Err(unsettled(&own, now, &left));
            }
            if !force {
                self.refuse_strays(&own, text).await?;
            }
            let version = freeze::unfreeze(&mut client, &own.key, &own.value, now).await;
            if let Some(version) = version.map_err(|error| unfit(&error))? {
                break version;
            }
            if Instant::now() >= deadline {
                return Err(unsettled(&own, now, &[]));
            }
        };
        tracing::info!(
            key = own.key,
            value = own.value,
            force,
            "a freeze was ended by an operator"
        );
        let left = wait_for(&client, version, false, UNFREEZE_WAIT).await?;
        let notice =
            (!left.is_empty()).then(|| format!("{} will know a little later", names(&left)));
        Ok(Answer::Done { tag: "UNFREEZE", notice })
    }

    /// Rows of the key that are not where the map says would be read twice from now on.
    async fn refuse_strays(&self, own: &Named, text: &str) -> Result<(), SqlError> {
        let world = self.shared.store.current();
        let by_name = || {
            let key = world.map.key_named(&own.key)?;
            let ty = world.map.key(key)?.key_type();
            Some((key, KeyValue::from_text(ty, &own.value).ok()?))
        };
        // Of a key that the map does not have any more nothing is read.
        let Some((key, value)) = by_name() else { return Ok(()) };
        let found = self.shared.store.strays(key, &value).await;
        let found = found.map_err(|error| {
            SqlError::new(
                SqlState::CANNOT_CONNECT_NOW,
                format!("shard {} can't be asked whether it has rows of {own}", error.shard),
            )
            .detail(format!("{}. The key stays frozen.", error.error))
            .hint(format!("UNFREEZE {text} FORCE does not ask."))
        })?;
        if found.is_empty() { Ok(()) } else { Err(strayed(&world.map, own, text, &found)) }
    }

    /// With who has acknowledged, if the control database can be asked; else what this proxy knows.
    pub(super) async fn show_freezes(&self) -> Table {
        let map = &self.shared.store.current().map;
        let asked = match self.control(map).await {
            Ok(client) => freeze::list(&client).await.ok(),
            Err(_) => None,
        };
        let rows = match asked {
            Some(all) => all.into_iter().map(|own| told(map, own)).collect(),
            None => map.freezes().iter().map(|(key, value)| known(map, *key, value)).collect(),
        };
        Table { columns: Topic::Freezes.columns(), rows }
    }

    async fn control(&self, map: &ShardMap) -> Result<Client, SqlError> {
        let Some(control) = map.control() else { return Err(no_control()) };
        freeze::open(&control.url).await.map_err(|error| away(&control.url, &error.to_string()))
    }
}

fn told(map: &ShardMap, own: Freeze) -> Vec<Value> {
    let home = map.key_named(&own.key).and_then(|key| {
        let value = KeyValue::from_text(map.key(key)?.key_type(), &own.value).ok()?;
        Some(home(map, key, &value))
    });
    vec![
        own.key.into(),
        own.value.into(),
        own.since.into(),
        own.by.into(),
        Value::Int(own.acknowledged),
        own.waiting.join(", ").into(),
        home.unwrap_or_default().into(),
        own.behind.join(", ").into(),
    ]
}

fn known(map: &ShardMap, key: KeyId, value: &KeyValue<'_>) -> Vec<Value> {
    let name = map.key(key).map_or("", |key| key.name.as_str());
    let mut row = vec![name.into(), value.to_string().into()];
    row.resize(Topic::Freezes.columns().len() - 2, Value::Null);
    row.extend([home(map, key, value).into(), Value::Null]);
    row
}

/// The shards that a key is at home on.
fn home(map: &ShardMap, key: KeyId, value: &KeyValue<'_>) -> String {
    let homes = map.place_parts(key, &[Part::Values(slice::from_ref(value))]).unwrap_or_default();
    homes.iter().map(|shard| map.shard_name(shard)).collect::<Vec<_>>().join(", ")
}

/// What FREEZE and UNFREEZE name: `42`, or `tenant=42`.
struct Named {
    key: String,
    value: String,
}

impl Named {
    fn read(map: &ShardMap, text: &str) -> Result<Self, SqlError> {
        if let Some((name, value)) = text.split_once('=')
            && let Some(key) = map.keys().iter().find(|key| key.name == name.trim())
        {
            let value = KeyValue::from_text(key.key_type(), value.trim())?;
            return Ok(Self { key: key.name.clone(), value: value.to_string() });
        }
        let (key, value) = scope::resolve_key(map, text.trim())?;
        let key = map.key(key).map(|key| key.name.clone()).unwrap_or_default();
        Ok(Self { key, value: value.to_string() })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.value)
    }
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

fn unacknowledged(own: &Named, left: &[Waiting]) -> SqlError {
    let silent: Vec<_> = left.iter().filter(|one| one.silent).cloned().collect();
    let error = SqlError::new(
        SqlState::LOCK_NOT_AVAILABLE,
        format!("the freeze of {own} is not acknowledged by every proxy"),
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

fn still_prepared<'a>(own: &Named, left: impl Iterator<Item = &'a String>) -> SqlError {
    let mut names: Vec<&str> = left.map(String::as_str).collect();
    names.sort_unstable();
    SqlError::new(
        SqlState::LOCK_NOT_AVAILABLE,
        format!("transactions that may have written {own} are prepared still"),
    )
    .detail(format!("It stays frozen. They began before, and end one way or the other when the shard that decides answers: {}.", names.join(", ")))
    .hint("/health and the log say what keeps them; FREEZE again waits again.")
}

fn not_asked(own: &Named, shard: &str, why: &str) -> SqlError {
    SqlError::new(
        SqlState::LOCK_NOT_AVAILABLE,
        format!("shard {shard} can't be asked whether a transaction is prepared there that may have written {own}"),
    )
    .detail(format!("It stays frozen. {why}."))
    .hint("FREEZE again asks again.")
}

/// So many tables are named.
const STRAYS_NAMED_MAX: usize = 8;

fn strayed(map: &ShardMap, own: &Named, text: &str, found: &[Stray]) -> SqlError {
    let key = map.key_named(&own.key);
    let value = key
        .and_then(|key| map.key(key))
        .and_then(|key| KeyValue::from_text(key.key_type(), &own.value).ok());
    let home = key.zip(value).map(|(key, value)| home(map, key, &value)).unwrap_or_default();
    let place =
        if home.is_empty() { "it has no home".to_owned() } else { format!("its home is {home}") };
    let named = found.iter().take(STRAYS_NAMED_MAX).map(|stray| {
        let rows = if stray.rows == 1 { "row" } else { "rows" };
        format!("{} {rows} of {} on {}", stray.rows, stray.table, stray.shard)
    });
    let more = found.len().saturating_sub(STRAYS_NAMED_MAX);
    let more = (more > 0).then(|| format!("and {more} more"));
    let named = named.chain(more).collect::<Vec<_>>().join(", ");
    SqlError::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("{own} has rows on shards that are not its home"),
    )
    .detail(format!("There are {named}; {place}. While the key is frozen nobody reads them; after that statements over several shards would see them beside those at home."))
    .hint(format!("It stays frozen, and every proxy uses the map as it is: delete these rows there, and UNFREEZE again. UNFREEZE {text} FORCE leaves them."))
}

fn unsettled(own: &Named, version: i64, left: &[Waiting]) -> SqlError {
    SqlError::new(
        SqlState::LOCK_NOT_AVAILABLE,
        format!("not every proxy uses version {version} of the control tables"),
    )
    .detail(match left {
        [] => format!("{own} stays frozen. The tables change while it is waited for."),
        left => format!("{own} stays frozen. Not there yet: {}.", names(left)),
    })
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
