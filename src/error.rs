//! Errors as PostgreSQL reports them: severity, SQLSTATE, message, detail, hint, position.
//!
//! [`SqlError`] is what a client is shown. Rooms that can say more about a failure (whom to blame,
//! whether a retry is safe) have an enum of their own and turn it into an `SqlError` at their door.
//!
//! Field meanings: PostgreSQL manual, "Error and Notice Message Fields".

use std::fmt;

/// A five-character SQLSTATE (PostgreSQL manual, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub &'static str);

impl SqlState {
    /// `warning`.
    pub const WARNING: Self = Self("01000");
    /// `feature_not_supported`: refused by name.
    pub const FEATURE_NOT_SUPPORTED: Self = Self("0A000");
    /// `invalid_parameter_value`: no shard for that key, sources disagree, bad setting.
    pub const INVALID_PARAMETER_VALUE: Self = Self("22023");
    /// `invalid_text_representation`.
    pub const INVALID_TEXT_REPRESENTATION: Self = Self("22P02");
    /// `numeric_value_out_of_range`.
    pub const NUMERIC_VALUE_OUT_OF_RANGE: Self = Self("22003");
    /// `not_null_violation`: a key is missing or NULL in an INSERT.
    pub const NOT_NULL_VIOLATION: Self = Self("23502");
    /// `invalid_binary_representation`.
    pub const INVALID_BINARY_REPRESENTATION: Self = Self("22P03");
    /// `read_only_sql_transaction`: the key is frozen.
    pub const READ_ONLY_SQL_TRANSACTION: Self = Self("25006");
    /// `object_not_in_prerequisite_state`: something has to be done before.
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: Self = Self("55000");
    /// `lock_not_available`: somebody has not let go.
    pub const LOCK_NOT_AVAILABLE: Self = Self("55P03");
    /// `no_active_sql_transaction`.
    pub const NO_ACTIVE_SQL_TRANSACTION: Self = Self("25P01");
    /// `in_failed_sql_transaction`.
    pub const IN_FAILED_SQL_TRANSACTION: Self = Self("25P02");
    /// `active_sql_transaction`.
    pub const ACTIVE_SQL_TRANSACTION: Self = Self("25001");
    /// A transaction lay idle for too long.
    pub const IDLE_IN_TRANSACTION_SESSION_TIMEOUT: Self = Self("25P03");
    /// `invalid_sql_statement_name`.
    pub const INVALID_SQL_STATEMENT_NAME: Self = Self("26000");
    /// `invalid_password`.
    pub const INVALID_PASSWORD: Self = Self("28P01");
    /// `invalid_authorization_specification`.
    pub const INVALID_AUTHORIZATION: Self = Self("28000");
    /// `invalid_cursor_name`.
    pub const INVALID_CURSOR_NAME: Self = Self("34000");
    /// `invalid_catalog_name`: no such database.
    pub const INVALID_CATALOG_NAME: Self = Self("3D000");
    /// `serialization_failure`: run the transaction again.
    pub const SERIALIZATION_FAILURE: Self = Self("40001");
    /// `syntax_error`.
    pub const SYNTAX_ERROR: Self = Self("42601");
    /// `insufficient_privilege`.
    pub const INSUFFICIENT_PRIVILEGE: Self = Self("42501");
    /// `duplicate_prepared_statement`.
    pub const DUPLICATE_PREPARED_STATEMENT: Self = Self("42P05");
    /// `undefined_object`.
    pub const UNDEFINED_OBJECT: Self = Self("42704");
    /// `configuration_limit_exceeded`: a limit of ours, named.
    pub const CONFIGURATION_LIMIT_EXCEEDED: Self = Self("53400");
    /// `too_many_connections`.
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    /// `statement_too_complex`.
    pub const STATEMENT_TOO_COMPLEX: Self = Self("54001");
    /// `query_canceled`.
    pub const QUERY_CANCELED: Self = Self("57014");
    /// `admin_shutdown`.
    pub const ADMIN_SHUTDOWN: Self = Self("57P01");
    /// `cannot_connect_now`: the shard is down.
    pub const CANNOT_CONNECT_NOW: Self = Self("57P03");
    /// `connection_failure`: the shard was lost while it worked.
    pub const CONNECTION_FAILURE: Self = Self("08006");
    /// `transaction_resolution_unknown`: some shards may have committed.
    pub const TRANSACTION_RESOLUTION_UNKNOWN: Self = Self("08007");
    /// `protocol_violation`.
    pub const PROTOCOL_VIOLATION: Self = Self("08P01");
    /// `internal_error`.
    pub const INTERNAL_ERROR: Self = Self("XX000");
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An error as a client sees it. The severity is chosen where it is sent (ERROR, or FATAL when the
/// connection ends with it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    /// SQLSTATE.
    pub code: SqlState,
    /// The primary message: lower case, no full stop, names the construct.
    pub message: String,
    /// Why.
    pub detail: Option<String>,
    /// What to do instead.
    pub hint: Option<String>,
    /// Where in the statement: 1-based, counted in characters.
    pub position: Option<u32>,
}

const CHANGED_RESULT: &str = "cached plan must not change result type";

impl SqlError {
    /// An error with its message alone.
    pub fn new(code: SqlState, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None, position: None }
    }

    /// With a detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With a position in the statement (1-based, characters).
    #[must_use]
    pub fn position(mut self, position: u32) -> Self {
        self.position = Some(position);
        self
    }

    /// A prepared statement's result has another shape than its client was told: PostgreSQL's own words.
    pub fn changed_result() -> Self {
        Self::new(SqlState::FEATURE_NOT_SUPPORTED, CHANGED_RESULT)
    }

    /// The function of PostgreSQL's that says this, where drivers go by it.
    pub fn routine(&self) -> Option<&'static str> {
        // asyncpg and JDBC's driver prepare the statement anew.
        (self.message == CHANGED_RESULT).then_some("RevalidateCachedQuery")
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)
    }
}

impl std::error::Error for SqlError {}
