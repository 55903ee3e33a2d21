//! What sort of statement it is, by its first words alone: enough for everything that needs no tree.

use super::ir::Span;

/// A statement's class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing but blanks and comments.
    Empty,
    /// SELECT, VALUES, TABLE, WITH, INSERT, UPDATE, DELETE, MERGE, `(`: goes to analysis. (SELECT INTO and
    /// data-modifying CTEs too: analysis says what they are.)
    Query,
    /// `EXPLAIN …`, PostgreSQL's own: goes to analysis.
    Explain,
    /// `EXPLAIN (ROUTE [, FORMAT JSON]) …`; the statement starts at byte `rest`.
    ExplainRoute {
        /// FORMAT JSON.
        json: bool,
        /// Where the explained statement starts.
        rest: u32,
    },
    /// BEGIN, START TRANSACTION, with modes that were understood (else [`Class::Other`]).
    Begin(TransactionModes),
    /// COMMIT, END.
    Commit {
        /// AND CHAIN.
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        /// AND CHAIN.
        chain: bool,
    },
    /// SAVEPOINT name.
    Savepoint(String),
    /// RELEASE [SAVEPOINT] name.
    Release(String),
    /// ROLLBACK TO [SAVEPOINT] name.
    RollbackTo(String),
    /// SET [SESSION | LOCAL] name …, also SET TIME ZONE, SET NAMES, SET ROLE, SET SESSION AUTHORIZATION.
    Set(SetCommand),
    /// SET TRANSACTION …, SET SESSION CHARACTERISTICS AS TRANSACTION …
    SetTransaction {
        /// SESSION CHARACTERISTICS.
        session: bool,
    },
    /// SET CONSTRAINTS …
    SetConstraints,
    /// RESET name; `None` for RESET ALL.
    Reset(Option<String>),
    /// SHOW name (lower case, `all` for SHOW ALL).
    Show(String),
    /// PREPARE name … AS …
    Prepare {
        /// The statement's name.
        name: String,
    },
    /// EXECUTE name …
    Execute {
        /// The statement's name.
        name: String,
    },
    /// DEALLOCATE [PREPARE] name; `None` for ALL.
    Deallocate(Option<String>),
    /// DISCARD ALL.
    DiscardAll,
    /// DISCARD PLANS, SEQUENCES, TEMP.
    Discard,
    /// DECLARE … CURSOR
    Declare,
    /// FETCH, MOVE
    Fetch,
    /// CLOSE cursor
    Close,
    /// COPY
    Copy {
        /// FROM (else TO).
        from: bool,
        /// STDIN or STDOUT (else a file or a program).
        client: bool,
        /// COPY (query) TO.
        query: bool,
    },
    /// DO
    Do,
    /// CALL
    Call,
    /// LISTEN
    Listen,
    /// UNLISTEN
    Unlisten,
    /// NOTIFY
    Notify,
    /// LOCK
    Lock,
    /// TRUNCATE
    Truncate,
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED
    TwoPhase,
    /// CREATE, ALTER, DROP, GRANT, REVOKE, COMMENT, REASSIGN, SECURITY LABEL, IMPORT FOREIGN SCHEMA of
    /// anything within a database, with the command tag.
    Definition {
        /// Its command tag as far as the words give it, `CREATE TABLE`.
        tag: &'static str,
        /// CREATE TEMP/TEMPORARY.
        temporary: bool,
        /// CREATE TABLE … AS, CREATE MATERIALIZED VIEW.
        from_query: bool,
    },
    /// CREATE/ALTER/DROP DATABASE, ROLE, USER, GROUP, TABLESPACE, ALTER SYSTEM.
    ClusterWide {
        /// Its command tag.
        tag: &'static str,
    },
    /// VACUUM, ANALYZE, REINDEX, CLUSTER, CHECKPOINT, REFRESH, LOAD.
    Maintenance,
    /// Anything else, syntax errors included.
    Other,
}

/// Transaction modes of BEGIN, START TRANSACTION, SET TRANSACTION.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TransactionModes {
    /// ISOLATION LEVEL.
    pub isolation: Option<Isolation>,
    /// READ ONLY (`Some(true)`) or READ WRITE.
    pub read_only: Option<bool>,
    /// DEFERRABLE or NOT DEFERRABLE.
    pub deferrable: Option<bool>,
}

/// Isolation levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// READ UNCOMMITTED, which PostgreSQL treats as READ COMMITTED
    ReadUncommitted,
    /// READ COMMITTED
    ReadCommitted,
    /// REPEATABLE READ
    RepeatableRead,
    /// SERIALIZABLE
    Serializable,
}

/// `SET name = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCommand {
    /// SET LOCAL.
    pub local: bool,
    /// The setting's name, lower case (`timezone` for SET TIME ZONE, `client_encoding` for SET NAMES,
    /// `role`, `session_authorization`).
    pub name: String,
    /// The value when it is a single literal, identifier or number, unquoted; `None` for DEFAULT.
    pub value: SetValue,
    /// Where the value stands.
    pub span: Span,
}

/// What a setting is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetValue {
    /// TO DEFAULT (also SET ROLE NONE, SET TIME ZONE LOCAL).
    Default,
    /// One value, unquoted.
    One(String),
    /// A list, or something that needs PostgreSQL to read it; the text as written.
    Raw(String),
}
