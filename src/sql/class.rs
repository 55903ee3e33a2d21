//! What sort of statement it is, by its first words alone: enough for everything that needs no tree.
//!
//! [`classify`] reads tokens, never the inside of strings or comments. What it does not recognise to the
//! last word is [`Class::Other`]: PostgreSQL will say what is wrong with it. It says nothing of tables and
//! predicates, and does not check what only PostgreSQL can (that a setting exists, that a name is not
//! reserved).
//!
//! Grammar: `src/backend/parser/gram.y`; command tags: `src/include/tcop/cmdtaglist.h`.

mod definition;
mod explain;
mod setting;
mod transaction;
mod words;

pub use transaction::set_transaction_modes;
use words::Words;

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
    /// `EXPLAIN (ROUTE [, FORMAT JSON]) …`; from byte `rest` on there is the statement, with the comments
    /// before it. With nothing to explain it is [`Class::Other`].
    ExplainRoute {
        /// FORMAT JSON.
        json: bool,
        /// Behind the parenthesis.
        rest: u32,
    },
    /// `EXPLAIN (ROUTE, …) …` with an option that ROUTE can't be combined with: this one.
    ExplainRouteWith(String),
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
    /// `RELEASE [SAVEPOINT] name`.
    Release(String),
    /// `ROLLBACK TO [SAVEPOINT] name`.
    RollbackTo(String),
    /// `SET [SESSION | LOCAL] name …`, also SET TIME ZONE, SET NAMES, SET ROLE, SET SESSION AUTHORIZATION.
    Set(SetCommand),
    /// SET TRANSACTION …, SET SESSION CHARACTERISTICS AS TRANSACTION …; [`set_transaction_modes`] says which.
    SetTransaction {
        /// SESSION CHARACTERISTICS.
        session: bool,
        /// As written.
        text: String,
    },
    /// SET CONSTRAINTS …, as written.
    SetConstraints(String),
    /// RESET name; `None` for RESET ALL.
    Reset(Option<String>),
    /// SHOW name (lower case, `all` for SHOW ALL).
    Show(String),
    /// PREPARE name [(types)] AS …
    Prepare {
        /// The statement's name.
        name: String,
        /// It says types of its parameters.
        typed: bool,
        /// Where the statement that is prepared starts.
        body: u32,
    },
    /// EXECUTE name [(arguments)]
    Execute(Execution),
    /// `DEALLOCATE [PREPARE] name`; `None` for ALL.
    Deallocate(Option<String>),
    /// DISCARD ALL.
    DiscardAll,
    /// DISCARD PLANS, SEQUENCES, TEMP.
    Discard,
    /// DECLARE … CURSOR, with the cursor's name if it can be read here.
    Declare(Option<Box<str>>),
    /// FETCH, MOVE, with the cursor's name.
    Fetch(Option<Box<str>>),
    /// CLOSE cursor; `None` for ALL.
    Close(Option<Box<str>>),
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
    /// PREPARE TRANSACTION
    PrepareTransaction,
    /// COMMIT PREPARED, ROLLBACK PREPARED
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
        /// The temporary object's name.
        name: Option<Box<str>>,
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

/// `name [(arguments)]`, as it follows EXECUTE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The statement's name.
    pub name: String,
    /// Where the name stands.
    pub at: Span,
    /// What is between the parentheses.
    pub arguments: Option<Span>,
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

impl TransactionModes {
    /// The settings that SET SESSION CHARACTERISTICS AS TRANSACTION with these modes sets.
    pub fn as_defaults(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let truth = |yes: bool| if yes { "on" } else { "off" };
        [
            ("default_transaction_isolation", self.isolation.map(Isolation::as_setting)),
            ("default_transaction_read_only", self.read_only.map(truth)),
            ("default_transaction_deferrable", self.deferrable.map(truth)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
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

impl Isolation {
    /// As the value of a setting.
    fn as_setting(self) -> &'static str {
        match self {
            Self::ReadUncommitted => "read uncommitted",
            Self::ReadCommitted => "read committed",
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        }
    }
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

impl SetCommand {
    /// RESET of this setting.
    pub fn reset(name: &str) -> Self {
        Self {
            local: false,
            name: name.to_owned(),
            value: SetValue::Default,
            span: Span::default(),
        }
    }
}

/// A name that PostgreSQL lets anybody set: parts like identifiers, with dots between them
/// (`valid_custom_variable_name`).
pub fn is_custom(name: &str) -> bool {
    let is_part = |part: &str| {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        part.starts_with(first) && part.chars().all(|c| first(c) || c.is_ascii_digit() || c == '$')
    };
    name.contains('.') && name.split('.').all(is_part)
}

/// What a setting is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetValue {
    /// TO DEFAULT (also SET ROLE NONE, SET TIME ZONE LOCAL).
    Default,
    /// One value, unquoted. For a setting that is a list (`search_path`) it is one element, whatever
    /// commas are in it.
    One(String),
    /// A list, or something that needs PostgreSQL to read it; the text as written.
    Raw(String),
}

/// The class of one statement. `statement` is its own text ([`super::lexer::Scanned::span`]), which spans
/// and offsets in the answer count in; `standard_strings` is `standard_conforming_strings`.
pub fn classify(statement: &str, standard_strings: bool) -> Class {
    if is_plain_query(statement.as_bytes()) {
        return Class::Query;
    }
    let mut words = Words::new(statement, standard_strings);
    if words.at_end() {
        return Class::Empty;
    }
    if words.is_symbol("(") {
        return Class::Query;
    }
    let mut buffer = [0; FIRST_WORD_BYTES_MAX];
    match words.take_lower(&mut buffer) {
        Some(first) => by_first_word(first, &mut words).unwrap_or(Class::Other),
        None => Class::Other,
    }
}

/// The commonest case without a token cut: the first word is one of these and a blank ends it.
#[inline]
fn is_plain_query(statement: &[u8]) -> bool {
    let Some((word, rest)) = statement.split_first_chunk::<6>() else { return false };
    rest.first() == Some(&b' ')
        && matches!(
            &word.map(|b| b.to_ascii_lowercase()),
            b"select" | b"insert" | b"update" | b"delete"
        )
}

/// No first word is longer (`deallocate`).
const FIRST_WORD_BYTES_MAX: usize = 10;

/// `None` for [`Class::Other`].
fn by_first_word(first: &str, words: &mut Words<'_>) -> Option<Class> {
    let class = match first {
        "select" | "insert" | "update" | "delete" | "with" | "values" | "table" | "merge" => {
            Class::Query
        }
        "begin" => transaction::begin(words)?,
        "commit" | "end" => transaction::commit(words)?,
        "rollback" => transaction::rollback(words)?,
        "abort" => transaction::abort(words)?,
        "start" => transaction::start(words)?,
        "savepoint" => transaction::savepoint(words)?,
        "release" => transaction::release(words)?,
        "set" => setting::set(words)?,
        "reset" => setting::reset(words)?,
        "show" => setting::show(words)?,
        "explain" => explain::explain(words),
        "prepare" => prepare(words)?,
        "execute" => Class::Execute(execution(words).filter(|_| words.at_end())?),
        "deallocate" => deallocate(words)?,
        "discard" => discard(words)?,
        "declare" => Class::Declare(words.name().map(Into::into)),
        "fetch" | "move" => Class::Fetch(last_name(words)),
        "close" if words.is("all") => Class::Close(None),
        "close" => Class::Close(words.name().map(Into::into)),
        "copy" => copy(words)?,
        "do" => Class::Do,
        "call" => Class::Call,
        "listen" => Class::Listen,
        "unlisten" => Class::Unlisten,
        "notify" => Class::Notify,
        "lock" => Class::Lock,
        "truncate" => Class::Truncate,
        "vacuum" | "analyze" | "analyse" | "reindex" | "cluster" | "checkpoint" | "refresh"
        | "load" => Class::Maintenance,
        _ => return definition::by_first_word(first, words),
    };
    Some(class)
}

/// PREPARE name …, PREPARE TRANSACTION 'gid'.
fn prepare(words: &mut Words<'_>) -> Option<Class> {
    if words.is("transaction") && words.second_is_string() {
        return Some(Class::PrepareTransaction);
    }
    let name = words.name()?;
    let typed = words.is_symbol("(");
    if typed {
        words.skip_parentheses()?;
    }
    if !words.take("as") {
        return None;
    }
    words.position().map(|body| Class::Prepare { name, typed, body })
}

/// What follows EXECUTE.
fn execution(words: &mut Words<'_>) -> Option<Execution> {
    let at = words.next()?.span;
    let name = words.name()?;
    if !words.is_symbol("(") {
        return Some(Execution { name, at, arguments: None });
    }
    let open = words.next()?.span.end;
    let mut inner = words.clone();
    words.skip_parentheses()?;
    let mut close = open;
    while inner.position() != words.position() {
        close = inner.take_any()?.span.start;
    }
    Some(Execution { name, at, arguments: Some(Span { start: open, end: close }) })
}

/// To where the query of CREATE TABLE … AS begins.
fn skip_behind_as(words: &mut Words<'_>) -> Option<()> {
    while !words.take("as") {
        if words.is_symbol("(") {
            words.skip_parentheses()?;
        } else {
            words.take_any()?;
        }
    }
    Some(())
}

/// The EXECUTE within `EXPLAIN … EXECUTE …`, `CREATE TABLE … AS EXECUTE …`, or the one within the other.
pub fn execution_within(
    statement: &str,
    class: &Class,
    standard_strings: bool,
) -> Option<Execution> {
    let mut words = Words::new(statement, standard_strings);
    match class {
        Class::Explain => {
            words.take("explain");
            if words.is_symbol("(") {
                words.skip_parentheses()?;
            }
            while words.take("analyze") || words.take("analyse") || words.take("verbose") {}
            if words.take("create") {
                skip_behind_as(&mut words)?;
            }
        }
        Class::Definition { from_query: true, .. } => skip_behind_as(&mut words)?,
        _ => return None,
    }
    if words.take("execute") { execution(&mut words) } else { None }
}

/// The name that ends the statement.
fn last_name(words: &mut Words<'_>) -> Option<Box<str>> {
    loop {
        let mut name = words.clone();
        words.take_any()?;
        if words.at_end() {
            return name.name().map(Into::into);
        }
    }
}

fn deallocate(words: &mut Words<'_>) -> Option<Class> {
    let mut before = words.clone();
    if words.take("prepare") && words.at_end() {
        return Some(Class::Deallocate(Some(before.name()?)));
    }
    let name = if words.take("all") { None } else { Some(words.name()?) };
    words.at_end().then_some(Class::Deallocate(name))
}

fn discard(words: &mut Words<'_>) -> Option<Class> {
    let class = if words.take("all") {
        Class::DiscardAll
    } else if ["plans", "sequences", "temp", "temporary"].iter().any(|word| words.take(word)) {
        Class::Discard
    } else {
        return None;
    };
    words.at_end().then_some(class)
}

/// COPY (query) TO …, COPY [BINARY] table [(columns)] FROM | TO …; PostgreSQL takes STDIN and STDOUT for
/// one another.
fn copy(words: &mut Words<'_>) -> Option<Class> {
    let query = words.is_symbol("(");
    if query {
        words.skip_parentheses()?;
    } else {
        words.take("binary");
        words.qualified_name()?;
        if words.is_symbol("(") {
            words.skip_parentheses()?;
        }
    }
    let from = !query && words.take("from");
    if !from && !words.take("to") {
        return None;
    }
    let client = words.take("stdin") || words.take("stdout");
    if !client {
        words.take("program");
        words.string_token()?;
    }
    Some(Class::Copy { from, client, query })
}

#[cfg(test)]
mod tests;
