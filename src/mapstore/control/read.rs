//! Reading the control tables: all of them in one snapshot, streamed; or only what has changed.
//!
//! Where `pgmeridian control install` has been, `pgmeridian.map_version` grows by one with every statement
//! that changes the tables, and `pgmeridian.map_change` says what each version changed. Writers of one
//! version follow each other on its row, so whoever has seen version n has seen everything before it.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, Connection as Wire, SimpleQueryMessage};

use super::super::read::{ReadError, connect};
use super::install::CHANNEL;
use crate::catalog::read::Row;
use crate::datum::{KeyType, KeyValue};
use crate::map::{Connection, ConnectionTarget, Control, Entries, OddTenant, ShardRow, Tables};
use crate::sql::quote::quote_literal;

/// More rows that can't be used are counted, not kept.
const ODD_MAX: usize = 100;

/// More changed tenants are read as all of them.
const CHANGED_MAX: usize = 20_000;

/// A file with a connection string has at most so many bytes.
const URL_FILE_BYTES_MAX: u64 = 64 * 1024;

/// What is asked between two streams must be answered within this time; a control database that hangs is as
/// good as away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Somebody who alters the tables and does not end the transaction is told of, not waited for.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '1s'";

/// Why control tables could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// The database can't be reached, or does not answer.
    #[error("{0}")]
    Server(#[from] ReadError),
    /// It took too long.
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    /// Tables or columns are missing.
    #[error("{}", .0.join("; "))]
    Schema(Vec<String>),
}

impl From<tokio_postgres::Error> for TablesError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error.into())
    }
}

/// What was read, and the version at which.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) tables: Tables,
    /// `None` where nothing counts versions.
    pub(super) version: Option<Version>,
}

/// A version of the tables. After a restore from a backup the same number may mean something else; the token
/// doesn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) number: i64,
    pub(super) token: String,
}

impl Version {
    fn of(rows: &[Row]) -> Option<Self> {
        let [number, token] = rows.first()?.as_slice() else { return None };
        let number = number.as_ref()?.parse().ok()?;
        Some(Self { number, token: token.clone()? })
    }
}

/// A connection to the control database that hears of changes.
pub(super) struct Session {
    client: Client,
    changes: mpsc::Receiver<()>,
}

impl Session {
    /// Connects and listens.
    pub(super) async fn open(url: &ConnectionTarget) -> Result<Self, TablesError> {
        let (client, connection) = connect(url).await?;
        let (tell, changes) = mpsc::channel(1);
        tokio::spawn(hear(connection, tell));
        let session = Self { client, changes };
        within(session.client.batch_execute(&format!("LISTEN {CHANNEL}"))).await?;
        Ok(session)
    }

    /// Waits for a change, or for the connection's end; true for a change.
    pub(super) async fn changed(&mut self) -> bool {
        self.changes.recv().await.is_some()
    }

    /// Reads everything, in one snapshot.
    pub(super) async fn read(&self, control: &Control) -> Result<Snapshot, TablesError> {
        let layout = self.begin().await?;
        let outcome = self.read_all(control, &layout).await;
        self.end(outcome.is_ok()).await?;
        outcome
    }

    /// Reads what has changed since; `None` when nothing has.
    pub(super) async fn read_again(
        &self,
        control: &Control,
        seen: &Snapshot,
    ) -> Result<Option<Snapshot>, TablesError> {
        let layout = self.begin().await?;
        let outcome = self.read_changes(control, seen, &layout).await;
        self.end(outcome.is_ok()).await?;
        outcome
    }

    /// Begins a snapshot and looks what there is to be read in it. Every proxy waits for each answer before it
    /// follows a change: what can be asked at once is one message.
    async fn begin(&self) -> Result<Layout, TablesError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let answers = self.ask(&[begin, LOCK_TIMEOUT, INSTALLED, COLUMNS]).await;
        let layout = answers.and_then(|mut answers| {
            let columns = Columns::of(&answers.pop().unwrap_or_default())?;
            let installed = answers.pop().and_then(|mut rows| rows.pop()).unwrap_or_default();
            let is_there =
                |at: usize| installed.get(at).is_some_and(|is| is.as_deref() == Some("t"));
            Ok(Layout { columns, counts: is_there(0), freezes: is_there(1) })
        });
        if layout.is_err() {
            self.end(false).await?;
        }
        layout
    }

    async fn end(&self, well: bool) -> Result<(), TablesError> {
        // After an error the connection may be gone; the first error is the one to tell.
        let ended = within(self.client.batch_execute("ROLLBACK")).await;
        if well { ended } else { Ok(()) }
    }

    /// The rows of each of several statements that are sent together.
    async fn ask(&self, statements: &[&str]) -> Result<Vec<Vec<Row>>, TablesError> {
        let messages = within(self.client.simple_query(&statements.join(";\n"))).await?;
        let mut answers = Vec::with_capacity(statements.len());
        let mut rows = Vec::new();
        for message in messages {
            match message {
                SimpleQueryMessage::Row(row) => {
                    rows.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
                }
                SimpleQueryMessage::CommandComplete(_) => answers.push(std::mem::take(&mut rows)),
                _ => {}
            }
        }
        Ok(answers)
    }

    async fn read_all(&self, control: &Control, layout: &Layout) -> Result<Snapshot, TablesError> {
        let shards = layout.columns.select_shards();
        let answers = self.ask(&[layout.version(), layout.freezes(), &shards]).await?;
        let [version, freezes, shards] = <[_; 3]>::try_from(answers).unwrap_or_default();
        let ty = control.key_type.unwrap_or(KeyType::BigInt);
        let mut tables = Tables {
            database: called(&control.url),
            shards: shards.into_iter().map(shard_row).collect(),
            entries: Entries::new(ty),
            odd: Vec::new(),
            odd_more: 0,
            freezes: frozen(freezes),
        };
        // In the text format: keys of any type are read as their own input functions read them.
        let sql = "COPY (SELECT tenant_id, shard_id FROM tenant_shard_map) TO STDOUT";
        let mut rows = pin!(self.client.copy_out(sql).await?);
        let mut rest: Vec<u8> = Vec::new();
        while let Some(chunk) = tokio::time::timeout(ANSWER_TIMEOUT, rows.next())
            .await
            .map_err(|_| TablesError::Timeout)?
        {
            let chunk = chunk?;
            // The server sends a row a message; the protocol does not promise it.
            let mut lines = chunk.split(|byte| *byte == b'\n').peekable();
            while let Some(line) = lines.next() {
                rest.extend_from_slice(line);
                if lines.peek().is_some() {
                    put_line(&mut tables, ty, &rest);
                    rest.clear();
                }
            }
        }
        Ok(Snapshot { tables, version: Version::of(&version) })
    }

    async fn read_changes(
        &self,
        control: &Control,
        seen: &Snapshot,
        layout: &Layout,
    ) -> Result<Option<Snapshot>, TablesError> {
        let Some(before) = seen.version.as_ref().filter(|_| layout.counts) else {
            return self.read_all(control, layout).await.map(Some);
        };
        let number = before.number;
        let shards = layout.columns.select_shards();
        let known = format!(
            "SELECT count(DISTINCT version) FILTER (WHERE version > {number}), \
             bool_or(version = {number} AND token = {}) \
             FROM pgmeridian.map_change WHERE version >= {number}",
            quote_literal(&before.token)
        );
        let tenants = format!(
            "SELECT tenant FROM pgmeridian.map_change WHERE version > {number} \
             AND (tenant IS NOT NULL OR NOT shards) LIMIT {}",
            CHANGED_MAX + 1
        );
        let answers =
            self.ask(&[layout.version(), layout.freezes(), &shards, &known, &tenants]).await?;
        let [version, freezes, shards, known, tenants] =
            <[_; 5]>::try_from(answers).unwrap_or_default();
        let version = Version::of(&version);
        let shards: Vec<ShardRow> = shards.into_iter().map(shard_row).collect();
        let freezes = frozen(freezes);
        if version.is_some() && version == seen.version {
            // Where triggers don't fire (a logical replica, say) nothing is counted; what is small is compared.
            if shards == seen.tables.shards && freezes == seen.tables.freezes {
                return Ok(None);
            }
            let mut tables = seen.tables.clone();
            (tables.shards, tables.freezes) = (shards, freezes);
            return Ok(Some(Snapshot { tables, version }));
        }
        let changed = version
            .as_ref()
            .and_then(|now| changed_tenants(before, now, &known, tenants))
            .filter(|_| seen.tables.odd_more == 0);
        let Some(changed) = changed else {
            return self.read_all(control, layout).await.map(Some);
        };
        let ty = control.key_type.unwrap_or(KeyType::BigInt);
        let mut tables = seen.tables.clone();
        (tables.shards, tables.freezes) = (shards, freezes);
        if !changed.is_empty() {
            for tenant in &changed {
                tables.odd.retain(|odd| odd.tenant_id.as_ref() != Some(tenant));
                if let Ok(key) = KeyValue::from_text(ty, tenant) {
                    tables.entries.remove(&key);
                }
            }
            let changed: Vec<String> = changed.iter().map(|tenant| quote_literal(tenant)).collect();
            let sql = format!(
                "SELECT tenant_id::text, shard_id::text FROM tenant_shard_map \
                 WHERE tenant_id = ANY (ARRAY[{}]::text[]::{}[])",
                changed.join(","),
                layout.columns.tenant_type
            );
            for row in self.ask(&[&sql]).await?.pop().unwrap_or_default() {
                let mut fields = row.into_iter();
                let (tenant, shard) = (fields.next().flatten(), fields.next().flatten());
                put_row(&mut tables, ty, tenant, shard);
            }
        }
        Ok(Some(Snapshot { tables, version }))
    }
}

/// The tenants whose rows other versions than those seen have changed; `None` when that is not known, or is all
/// of them. `known`: how many versions are known since, and whether that one is among them.
fn changed_tenants(
    before: &Version,
    now: &Version,
    known: &[Row],
    tenants: Vec<Row>,
) -> Option<Vec<String>> {
    let [versions, same] = known.first()?.as_slice() else { return None };
    // Old changes are forgotten, and a restored database has another history.
    let versions = versions.as_ref()?.parse::<i64>().ok()?;
    if same.as_deref() != Some("t") || versions != now.number.saturating_sub(before.number) {
        return None;
    }
    if tenants.len() > CHANGED_MAX {
        return None;
    }
    // No tenant, and not the shards: all tenants.
    let mut tenants: Vec<String> =
        tenants.into_iter().map(|row| row.into_iter().next().flatten()).collect::<Option<_>>()?;
    tenants.sort_unstable();
    tenants.dedup();
    Some(tenants)
}

fn frozen(rows: Vec<Row>) -> Vec<(String, String)> {
    let pair = |row: Row| {
        let mut fields = row.into_iter();
        fields.next().flatten().zip(fields.next().flatten())
    };
    rows.into_iter().filter_map(pair).collect()
}

/// Keeps a connection going and tells of notifications. One that was not taken yet is enough.
async fn hear<S, T>(mut connection: Wire<S, T>, tell: mpsc::Sender<()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) =
        std::future::poll_fn(|context| connection.poll_message(context)).await
    {
        if matches!(message, AsyncMessage::Notification(_)) {
            let _ = tell.try_send(());
        }
    }
}

async fn within<T>(
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, TablesError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(TablesError::Timeout),
    }
}

/// The database as faults and logs call it, without a password.
pub(super) fn called(url: &ConnectionTarget) -> String {
    format!("{}@{}:{}/{}", url.user, url.host, url.port, url.dbname)
}

/// Versions are counted; keys may be frozen.
const INSTALLED: &str = "\
SELECT pg_catalog.to_regclass('pgmeridian.map_version') IS NOT NULL
    AND pg_catalog.to_regclass('pgmeridian.map_change') IS NOT NULL,
    pg_catalog.to_regclass('pgmeridian.freeze') IS NOT NULL";

const COLUMNS: &str = "\
SELECT t.name, c.oid::text, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)
FROM (VALUES ('shard_config'), ('tenant_shard_map')) AS t (name)
LEFT JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(t.name)
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY t.name, a.attnum";

/// The columns of `shard_config`, in the order of [`shard_row`].
const SHARD_COLUMNS: [&str; 8] = [
    "shard_id",
    "region_code",
    "datacenter",
    "connection_string",
    "is_primary",
    "is_active",
    "min_tenant_id",
    "max_tenant_id",
];

/// What a control database has to read.
struct Layout {
    columns: Columns,
    /// Versions are counted.
    counts: bool,
    /// Keys may be frozen.
    freezes: bool,
}

impl Layout {
    fn version(&self) -> &'static str {
        if self.counts {
            "SELECT version, token FROM pgmeridian.map_version"
        } else {
            "SELECT WHERE false"
        }
    }

    fn freezes(&self) -> &'static str {
        if self.freezes {
            "SELECT key, value FROM pgmeridian.freeze ORDER BY key, value"
        } else {
            "SELECT WHERE false"
        }
    }
}

/// What columns the tables have.
struct Columns {
    of_shards: Vec<String>,
    /// The type of `tenant_shard_map.tenant_id`.
    tenant_type: String,
}

impl Columns {
    fn of(rows: &[Row]) -> Result<Self, TablesError> {
        let mut faults = Vec::new();
        let hint = "\"pgmeridian control install\" creates it";
        let mut table = |name: &str, needed: &[&str]| {
            let own =
                rows.iter().filter(|row| row.first().is_some_and(|n| n.as_deref() == Some(name)));
            let mut columns: Vec<(String, String)> = Vec::new();
            let mut exists = false;
            for row in own {
                if let [_, oid, column, ty] = row.as_slice() {
                    exists |= oid.is_some();
                    columns.extend(column.clone().zip(ty.clone()));
                }
            }
            if !exists {
                faults
                    .push(format!("table {name} does not exist in the control database ({hint})"));
                return columns;
            }
            for column in needed {
                if !columns.iter().any(|(known, _)| known == column) {
                    faults.push(format!("table {name} has no column {column}"));
                }
            }
            columns
        };
        let shards = table("shard_config", &["shard_id", "connection_string"]);
        let tenants = table("tenant_shard_map", &["tenant_id", "shard_id"]);
        if !faults.is_empty() {
            return Err(TablesError::Schema(faults));
        }
        let tenant_type = tenants.into_iter().find(|(name, _)| name == "tenant_id");
        Ok(Self {
            of_shards: shards.into_iter().map(|(name, _)| name).collect(),
            tenant_type: tenant_type.map(|(_, ty)| ty).unwrap_or_default(),
        })
    }

    fn select_shards(&self) -> String {
        let columns = SHARD_COLUMNS.map(|column| {
            if self.of_shards.iter().any(|known| known == column) {
                format!("{column}::text")
            } else {
                "NULL::text".to_owned()
            }
        });
        format!("SELECT {} FROM shard_config ORDER BY shard_id", columns.join(", "))
    }
}

/// A row of `shard_config`, with what is in the file that its connection string may name.
pub(super) fn shard_row(row: Vec<Option<String>>) -> ShardRow {
    let mut values = row.into_iter();
    let mut next = || values.next().flatten();
    let (shard_id, region_code, datacenter) = (next(), next(), next());
    let connection = Connection::new(next());
    let content = connection.file().map(read_url_file);
    let connection_string = match content {
        Some(content) => connection.with_file(content),
        None => connection,
    };
    ShardRow {
        shard_id,
        region_code,
        datacenter,
        connection_string,
        is_primary: next(),
        is_active: next(),
        min_tenant_id: next(),
        max_tenant_id: next(),
    }
}

fn read_url_file(path: &str) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > URL_FILE_BYTES_MAX {
        return Err(format!("it has more than {URL_FILE_BYTES_MAX} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// A line of COPY's text format.
fn put_line(tables: &mut Tables, ty: KeyType, line: &[u8]) {
    let mut fields = line.split(|byte| *byte == b'\t').map(unescape);
    let (tenant, shard) = (fields.next().flatten(), fields.next().flatten());
    put_row(tables, ty, tenant, shard);
}

/// A field of COPY's text format (`CopyAttributeOutText`): `\N` is NULL.
pub(super) fn unescape(field: &[u8]) -> Option<String> {
    if field == b"\\N" {
        return None;
    }
    // Of millions hardly one has anything to be unescaped.
    if !field.contains(&b'\\') {
        return Some(String::from_utf8_lossy(field).into_owned());
    }
    let mut text = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => other,
                None => b'\\',
            },
            other => other,
        });
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Takes a row over, or notes why it can't be.
pub(super) fn put_row(
    tables: &mut Tables,
    ty: KeyType,
    tenant: Option<String>,
    shard: Option<String>,
) {
    let problem = match (&tenant, &shard) {
        (None, _) => Some("tenant_id is NULL".to_owned()),
        (Some(tenant), None) => Some(format!("tenant {tenant}: shard_id is NULL")),
        (Some(tenant), Some(shard)) => {
            match (KeyValue::from_text(ty, tenant), shard.parse::<i16>()) {
                (Err(error), _) => Some(format!("tenant_id: {}", error.message)),
                (_, Err(_) | Ok(i16::MIN)) => Some(format!(
                    "tenant {tenant}: shard_id must be from -32767 to 32767, not {shard}"
                )),
                (Ok(key), Ok(home)) => {
                    let old = tables.entries.put(&key, home).filter(|old| *old != home);
                    old.map(|old| {
                        format!("tenant {tenant} stands twice, on shard_id {old} and on {home}")
                    })
                }
            }
        }
    };
    let Some(problem) = problem else { return };
    if tables.odd.len() < ODD_MAX {
        tables.odd.push(OddTenant { tenant_id: tenant, shard_id: shard, problem });
    } else {
        tables.odd_more += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_cannot_be_used_are_told() {
        let mut tables = Tables {
            database: String::new(),
            shards: Vec::new(),
            entries: Entries::new(KeyType::BigInt),
            odd: Vec::new(),
            odd_more: 0,
            freezes: Vec::new(),
        };
        for line in
            ["42\t3", "\\N\t1", "5\t\\N", "x\t1", "6\t70000", "6\t-32768", "42\t3", "42\t4", "7"]
        {
            put_line(&mut tables, KeyType::BigInt, line.as_bytes());
        }
        let problems: Vec<&str> = tables.odd.iter().map(|odd| odd.problem.as_str()).collect();
        assert_eq!(
            problems,
            [
                "tenant_id is NULL",
                "tenant 5: shard_id is NULL",
                "tenant_id: invalid input syntax for type bigint: \"x\"",
                "tenant 6: shard_id must be from -32767 to 32767, not 70000",
                "tenant 6: shard_id must be from -32767 to 32767, not -32768",
                "tenant 42 stands twice, on shard_id 3 and on 4",
                "tenant 7: shard_id is NULL",
            ]
        );
        for _ in 0..200 {
            put_line(&mut tables, KeyType::BigInt, b"x\t1");
        }
        assert_eq!((tables.odd.len(), tables.odd_more), (ODD_MAX, 107));
    }

    #[test]
    fn fields_are_read_as_copy_writes_them() {
        let check = |field: &str, expect: Option<&str>| {
            assert_eq!(unescape(field.as_bytes()).as_deref(), expect, "{field}");
        };
        check("\\N", None);
        check("", Some(""));
        check("a\\tb\\\\N\\n", Some("a\tb\\N\n"));
        check("\\", Some("\\"));
    }
}
