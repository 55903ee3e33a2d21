//! What the control tables say, as they were read: `shard_config` and `tenant_shard_map`.
//!
//! Main types: [`Tables`], [`ShardRow`], [`Connection`]. Values are texts as PostgreSQL writes them, right or
//! wrong: [`crate::map::ShardMap::parse_with`] tells which, and names table, row and column. Nothing here
//! ever shows a connection string.

use std::fmt;

use super::entries::Entries;

/// What a control database's tables hold.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Which database it is, without a password: `ctl@10.0.0.1:5432/control`.
    pub database: String,
    /// The rows of `shard_config`.
    pub shards: Vec<ShardRow>,
    /// The rows of `tenant_shard_map` that can be read.
    pub entries: Entries,
    /// Some of those that can't.
    pub odd: Vec<OddTenant>,
    /// How many more there are of them.
    pub odd_more: u64,
    /// Keys that may not be written: the key's name in the map and its value's text.
    pub freezes: Vec<(String, String)>,
}

/// A row of `shard_config`; `None` is NULL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardRow {
    /// `smallint`.
    pub shard_id: Option<String>,
    /// `char(3)`, blank-padded.
    pub region_code: Option<String>,
    /// `varchar(32)`.
    pub datacenter: Option<String>,
    /// `text`.
    pub connection_string: Connection,
    /// `boolean`.
    pub is_primary: Option<String>,
    /// `boolean`.
    pub is_active: Option<String>,
    /// `bigint`.
    pub min_tenant_id: Option<String>,
    /// `bigint`.
    pub max_tenant_id: Option<String>,
}

/// A `connection_string`: a URL, in which `${VAR}` stands for a variable of the proxy's environment, or
/// `file:/path` for a file that holds one. It is never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Connection {
    written: Option<String>,
    /// What was in the file, or why it can't be read.
    file: Option<Result<String, String>>,
}

/// A row of `tenant_shard_map` that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OddTenant {
    /// `tenant_id`.
    pub tenant_id: Option<String>,
    /// `shard_id`.
    pub shard_id: Option<String>,
    /// What is wrong with it.
    pub problem: String,
}

impl Connection {
    /// As it stands in the table.
    pub fn new(written: Option<String>) -> Self {
        Self { written, file: None }
    }

    /// The file that it refers to.
    pub fn file(&self) -> Option<&str> {
        self.written.as_deref()?.trim().strip_prefix("file:")
    }

    /// With what is in the file, or why it can't be read.
    #[must_use]
    pub fn with_file(mut self, content: Result<String, String>) -> Self {
        self.file = Some(content);
        self
    }

    /// As it stands in the table, for whoever keeps it.
    pub fn written(&self) -> Option<&str> {
        self.written.as_deref()
    }

    /// The URL, with `${VAR}` still in it.
    pub(super) fn url(&self) -> Result<&str, String> {
        let written = self.written.as_deref().map(str::trim).unwrap_or_default();
        match &self.file {
            _ if written.is_empty() => Err("connection_string is empty".to_owned()),
            Some(Ok(content)) => Ok(content.trim()),
            Some(Err(why)) => Err(format!("the file of connection_string can't be read: {why}")),
            None if self.file().is_some() => {
                Err("the file of connection_string was not read".to_owned())
            }
            None => Ok(written),
        }
    }

    /// What may be shown of it: a reference, for that is no secret.
    pub(super) fn shown(&self) -> &str {
        match self.written.as_deref().map(str::trim) {
            None => "NULL",
            Some("") => "",
            Some(text) if text.starts_with("file:") => text,
            Some(text) if text.starts_with("${") && text.find('}') == Some(text.len() - 1) => text,
            Some(_) => "***",
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.shown())
    }
}
