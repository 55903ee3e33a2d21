//! What PostgreSQL is told, and the decisions' table. Names are qualified: the client's `search_path` and settings
//! hold where some of it runs.

use super::gid::{Gid, PREFIX};
use super::{Verdict, gid};
use crate::sql::quote::{quote_identifier, quote_literal};

/// What makes the schema of the table.
pub const SCHEMA: &str = "CREATE SCHEMA pgmeridian";

/// What makes the table. Columns: the transaction's [`Gid`]; whether it is committed (a tombstone says false); what
/// only who began it knows (see [`gid::digest`]), without which it is a tombstone all the same; the
/// participants, each its number in the map and its [`server`](Prepared::server) with a colon between; when it was
/// decided; the inserting transaction's own number.
pub const TABLE: &str = "\
CREATE TABLE pgmeridian.decision (gid text PRIMARY KEY, committed boolean NOT NULL, secret text, \
shards text[] NOT NULL DEFAULT '{}', at timestamptz NOT NULL DEFAULT clock_timestamp(), \
xact bigint NOT NULL DEFAULT txid_current())";

/// What gives it its mark, 16 random hexadecimal digits. It holds in this database of this server (and of those that
/// were made from it by replication) alone: a copy by dump, or by logical replication, lacks decisions.
pub fn mark(table: &Table) -> String {
    format!("COMMENT ON TABLE pgmeridian.decision IS {}", quote_literal(&table.comment()))
}

/// Which database of which server this is, whatever its address.
const SERVER: &str = "(SELECT pg_catalog.concat(s.system_identifier, '/', d.oid) \
FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d \
WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())";

/// The comment of the table with this OID, without `obj_description`, whose body PostgreSQL plans at every call.
fn comment_of(oid: &str) -> String {
    format!(
        "(SELECT d.description FROM pg_catalog.pg_description d \
         WHERE d.objoid OPERATOR(pg_catalog.=) {oid} \
         AND d.classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
         AND d.objsubid OPERATOR(pg_catalog.=) 0)"
    )
}

/// The mark of table `c`, if it holds here.
fn mark_here() -> String {
    let comment = comment_of("c.oid");
    let part = |n: u8| format!("pg_catalog.split_part({comment}, '@', {n})");
    format!("CASE WHEN {} OPERATOR(pg_catalog.=) {SERVER} THEN {} END", part(2), part(1))
}

/// A table of decisions as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its mark.
    pub mark: String,
    /// Which database of which server it is in.
    pub server: String,
}

impl Table {
    fn comment(&self) -> String {
        format!("{}@{}", self.mark, self.server)
    }
}

/// What lets a role finish what was left behind.
pub fn grant_recovery(role: &str) -> String {
    let role = quote_identifier(role);
    format!(
        "GRANT USAGE ON SCHEMA pgmeridian TO {role}; \
         GRANT SELECT, INSERT, DELETE ON pgmeridian.decision TO {role}"
    )
}

/// What lets a role commit over several shards. When a row came, and of which transaction, it can't say itself.
pub fn grant(role: &str) -> String {
    let role = quote_identifier(role);
    format!(
        "GRANT USAGE ON SCHEMA pgmeridian TO {role}; GRANT INSERT (gid, committed, secret, shards) ON pgmeridian.decision TO {role}"
    )
}

/// Who installs does so alone.
pub const INSTALL_LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(7232106475268961396)";

/// What the table is to the current role, in a transaction that can be the coordinator's from then on: its mark,
/// whether rows may be inserted, whether it is there at all, which server this is, and the role, with a colon between
/// two. Never an error, whatever is missing. The transaction gets its number here: a tombstone that is inserted later
/// has a higher one, so that it is known when it is needed no more.
pub fn ready() -> String {
    format!(
        "SELECT pg_catalog.concat_ws(':', pg_catalog.txid_current()::pg_catalog.text, \
         COALESCE(pg_catalog.max({}), ''), \
         COALESCE(pg_catalog.bool_or(pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
         AND pg_catalog.has_any_column_privilege(c.oid, 'INSERT')), false)::pg_catalog.text, \
         pg_catalog.count(c.oid)::pg_catalog.text, {SERVER}, current_user::pg_catalog.text) \
         FROM pg_catalog.pg_namespace n \
         JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid \
         WHERE n.nspname OPERATOR(pg_catalog.=) 'pgmeridian' \
         AND c.relname OPERATOR(pg_catalog.=) 'decision'",
        mark_here()
    )
}

/// What [`ready`] has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The table's mark, if it is there and has one.
    pub mark: Option<String>,
    /// Rows may be inserted.
    pub may_insert: bool,
    /// The table is there.
    pub is_there: bool,
    /// Which database of which server it is.
    pub server: String,
    /// As whom.
    pub role: String,
}

impl Ready {
    /// Reads the answer.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(6, ':').skip(1);
        let mark = parts.next()?;
        let may_insert = parts.next()? == "true";
        let is_there = parts.next()? != "0";
        let mark = is_mark(mark).then(|| mark.to_owned());
        let server = parts.next()?.to_owned();
        Some(Self { mark, may_insert, is_there, server, role: parts.next()?.to_owned() })
    }
}

/// The same to one who looks from outside: whether there is the schema, the table's mark, whether there is a table,
/// whether rows may be read, inserted and deleted, which server it is.
pub fn installed() -> String {
    format!(
        "SELECT pg_catalog.count(n.oid) > 0, pg_catalog.max({}), \
         pg_catalog.count(c.oid) > 0, COALESCE(pg_catalog.bool_and(pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
         AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'INSERT') \
         AND pg_catalog.has_table_privilege(c.oid, 'DELETE')), false), {SERVER} \
         FROM pg_catalog.pg_namespace n \
         LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'decision' \
         WHERE n.nspname = 'pgmeridian'",
        mark_here()
    )
}

/// What a participant's server can prepare.
pub const CAN_PREPARE: &str = "SELECT pg_catalog.current_setting('max_prepared_transactions')";

/// Whether a transaction has written.
pub const HAS_WRITTEN: &str = "SELECT pg_catalog.txid_current_if_assigned() IS NOT NULL";

/// What [`ready`] has said before is asked no more: that the transaction has its number is seen to, and who it is is
/// said, as [`Wrote`] reads it.
pub const NUMBERED: &str = "SELECT pg_catalog.concat_ws(':', pg_catalog.txid_current()::pg_catalog.text, current_user::pg_catalog.text)";

/// The same of [`fit`]: whether the transaction has written, and who it is: a [`Wrote`].
pub const WROTE: &str = "SELECT pg_catalog.concat_ws(':', \
(pg_catalog.txid_current_if_assigned() IS NOT NULL)::pg_catalog.text, current_user::pg_catalog.text)";

/// What [`NUMBERED`] and [`WROTE`] have said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrote {
    /// The transaction has written.
    pub has_written: bool,
    /// Whose it is.
    pub role: String,
}

impl Wrote {
    /// Reads the answer.
    pub fn read(text: &str) -> Option<Self> {
        let (has_written, role) = text.split_once(':')?;
        Some(Self { has_written: has_written != "false", role: role.to_owned() })
    }
}

/// Whether a transaction has written, whether the role of the shard's URL may finish what the current one prepares (it
/// can become that role), and which that is, with a colon between two: a [`Fit`].
pub fn fit(url_user: &str) -> String {
    format!(
        "SELECT pg_catalog.concat_ws(':', \
         (pg_catalog.txid_current_if_assigned() IS NOT NULL)::pg_catalog.text, \
         COALESCE((SELECT pg_catalog.pg_has_role(r.oid, current_user, \
         CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 \
         OPERATOR(pg_catalog.<) 160000 THEN 'MEMBER' ELSE 'SET' END) FROM pg_catalog.pg_roles r \
         WHERE r.rolname OPERATOR(pg_catalog.=) {}), true)::pg_catalog.text, \
         current_user::pg_catalog.text)",
        quote_literal(url_user)
    )
}

/// What [`fit`] has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// The transaction has written.
    pub has_written: bool,
    /// What it prepares can be finished by recovery.
    pub may_finish: bool,
    /// Whose it is.
    pub role: String,
}

impl Fit {
    /// Reads the answer.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let has_written = parts.next()? != "false";
        let may_finish = parts.next()? == "true";
        Some(Self { has_written, may_finish, role: parts.next()?.to_owned() })
    }
}

/// The coordinator's part while the others prepare: what is deferred to the end fails now, if it fails.
/// It waits for them then, and is not idle.
pub const CHECK: &str =
    "SET LOCAL idle_in_transaction_session_timeout TO 0; SET CONSTRAINTS ALL IMMEDIATE";

/// From here on a COMMIT, or a PREPARE, is one that neither a crash nor a failover takes back: what a standby must have
/// by then is left as it is, less is not. A row says that something was changed.
fn durable(is_local: bool) -> String {
    format!(
        "SELECT pg_catalog.set_config('synchronous_commit', 'on', {is_local}) \
         WHERE pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.<>) 'on' \
         AND pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.<>) 'remote_apply'"
    )
}

/// The same for a COMMIT PREPARED, which with a time limit would not wait for standbys beyond it, and be said to be done
/// all the same. What the session had is kept in a setting of its own, for [`as_before`].
pub fn unhurried() -> String {
    let setting = |name: &str| format!("pg_catalog.current_setting('{name}')");
    let (timeout, commit) = (setting("statement_timeout"), setting("synchronous_commit"));
    let is_durable = format!("{commit} OPERATOR(pg_catalog.=) ANY ('{{on,remote_apply}}')");
    format!(
        "SELECT pg_catalog.set_config('{BEFORE}', pg_catalog.concat({timeout}, ',', {commit}), false), \
         pg_catalog.set_config('statement_timeout', '0', false), \
         pg_catalog.set_config('synchronous_commit', CASE WHEN {is_durable} THEN {commit} ELSE 'on' END, false) \
         WHERE {timeout} OPERATOR(pg_catalog.<>) '0' OR NOT {is_durable}"
    )
}

/// What the session had before [`unhurried`].
pub fn as_before() -> String {
    let before = format!("pg_catalog.current_setting('{BEFORE}', true)");
    let part = |n: u8| format!("pg_catalog.split_part({before}, ',', {n})");
    format!(
        "SELECT pg_catalog.set_config('statement_timeout', {}, false), \
         pg_catalog.set_config('synchronous_commit', {}, false), \
         pg_catalog.set_config('{BEFORE}', '', false) WHERE {before} OPERATOR(pg_catalog.<>) ''",
        part(1),
        part(2)
    )
}

/// Keeps settings for a moment.
const BEFORE: &str = "pgmeridian.before";

/// That a wait for standbys was cancelled is said by a warning, which a client may not want to hear.
const WARNINGS: &str = "SELECT pg_catalog.set_config('client_min_messages', 'warning', true) \
WHERE pg_catalog.current_setting('client_min_messages') OPERATOR(pg_catalog.=) 'error'";

/// PREPARE TRANSACTION on a participant; the last row before is a [`Prepared`]. A `server` that is known is not asked.
pub fn prepare(gid: &Gid, participant: i16, server: Option<&str>) -> String {
    let server = server.map_or_else(|| SERVER.to_owned(), quote_literal);
    format!(
        "{}; {WARNINGS}; SELECT pg_catalog.concat_ws(':', \
         COALESCE(pg_catalog.txid_current_if_assigned()::pg_catalog.text, ''), {server}, \
         current_user::pg_catalog.text); PREPARE TRANSACTION {}",
        durable(true),
        quote_literal(&gid.on(participant))
    )
}

/// What a participant says of what it prepares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Its transaction's number there, if it has one.
    pub xact: Option<i64>,
    /// Which database of which server it is.
    pub server: String,
    /// The role that owns it.
    pub owner: String,
}

impl Prepared {
    /// Reads the answer.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let xact = parts.next()?.parse().ok();
        let server = parts.next()?.to_owned();
        Some(Self { xact, server, owner: parts.next()?.to_owned() })
    }
}

/// What has become of a transaction by its number.
pub fn status(xact: i64) -> String {
    format!("SELECT pg_catalog.txid_status({xact})")
}

/// The decision, with the coordinator's rows. A COMMIT that a crash or a failover may take back (`synchronous_commit =
/// off`) would be none: the participants' are not taken back. Where the table is another one than it was, the row has no
/// gid, and violates its NOT NULL. (A snapshot that is older than the table does not show its comment.)
pub fn decide<'a>(
    gid: &Gid,
    table: &Table,
    secret: &str,
    participants: impl Iterator<Item = (i16, &'a str)>,
) -> String {
    let comment = quote_literal(&table.comment());
    format!(
        "{}; INSERT INTO pgmeridian.decision (gid, committed, shards, secret) VALUES (\
         CASE WHEN COALESCE({}, {comment}) OPERATOR(pg_catalog.=) {comment} THEN {} END, true, {}, {}); \
         COMMIT",
        durable(true),
        comment_of("'pgmeridian.decision'::pg_catalog.regclass"),
        quote_literal(&gid.to_string()),
        known_as(participants),
        quote_literal(secret)
    )
}

/// Shards as decisions name them: another server under the same number is another one, and so is a copy of the same
/// under another number.
fn known_as<'a>(shards: impl Iterator<Item = (i16, &'a str)>) -> String {
    let shards: Vec<String> =
        shards.map(|(number, server)| quote_literal(&format!("{number}:{server}"))).collect();
    format!("ARRAY[{}]::pg_catalog.text[]", shards.join(", "))
}

/// What is finished waits for standbys as long as it takes; whoever waits for it has a limit.
pub const NO_LIMIT: &str = "SET statement_timeout TO 0";

/// COMMIT PREPARED or ROLLBACK PREPARED of what is called so.
pub fn finish(verdict: Verdict, name: &str) -> String {
    let word = match verdict {
        Verdict::Committed => "COMMIT",
        Verdict::Aborted => "ROLLBACK",
    };
    format!("{word} PREPARED {}", quote_literal(name))
}

/// What recovery says of itself first, whatever its role's defaults are. Nothing that it does takes long, but a
/// tombstone waits for a transaction that still runs.
pub fn recovery_settings() -> String {
    format!("{RECOVERY_SETTINGS}; {}", durable(false))
}

const RECOVERY_SETTINGS: &str = "SET default_transaction_isolation TO 'read committed'; \
SET default_transaction_read_only TO off; SET lock_timeout TO '2s'; \
SET statement_timeout TO '5s'; SET search_path TO ''";

/// The tombstone, where the table is the one that the gid means.
pub fn tombstone(gid: &Gid) -> String {
    format!(
        "INSERT INTO pgmeridian.decision (gid, committed) SELECT {}, false FROM pg_catalog.pg_class c \
         WHERE c.oid = 'pgmeridian.decision'::pg_catalog.regclass \
         AND {} = {} ON CONFLICT (gid) DO NOTHING",
        quote_literal(&gid.to_string()),
        mark_here(),
        quote_literal(&gid.mark)
    )
}

/// What stands under a gid in the table that it means: whether it is committed, and the secret.
pub fn verdict(gid: &Gid) -> String {
    format!(
        "SELECT own.committed, own.secret FROM pgmeridian.decision own, pg_catalog.pg_class c \
         WHERE own.gid = {} AND c.oid = 'pgmeridian.decision'::pg_catalog.regclass AND {} = {}",
        quote_literal(&gid.to_string()),
        mark_here(),
        quote_literal(&gid.mark)
    )
}

/// What is prepared in this database, for how many milliseconds, and by whom, if that role is there still; before that,
/// whether the server is a standby, which shows nothing of it, and which server it is. Where nothing is prepared there is
/// one row without a gid.
pub fn prepared() -> String {
    format!(
        "SELECT here.is_standby, {SERVER}, p.gid, (extract(epoch FROM clock_timestamp() - p.prepared) * 1000)::bigint, p.owner \
         FROM (SELECT pg_is_in_recovery() AS is_standby) here \
         LEFT JOIN pg_catalog.pg_prepared_xacts p \
         ON p.database = current_database() AND left(p.gid, {}) = {}",
        PREFIX.len(),
        quote_literal(PREFIX)
    )
}

/// The names of what is prepared in this database.
pub fn names() -> String {
    format!(
        "SELECT gid FROM pg_catalog.pg_prepared_xacts \
         WHERE database = current_database() AND left(gid, {}) = {}",
        PREFIX.len(),
        quote_literal(PREFIX)
    )
}

/// Finishes what another role has prepared.
pub fn as_owner(owner: &str) -> String {
    format!("SET ROLE {}", quote_identifier(owner))
}

/// So many rows are removed at once.
pub const FORGOTTEN_MAX: u32 = 5_000;

/// Removes rows that nobody will ask for any more. Decisions: they are older than `before_ms` (by the server's clock,
/// before the shards were asked what they have prepared), all their participants are among those asked, and none has
/// anything `left` of it. A row is inserted when all have prepared, so that what was prepared was seen. Tombstones:
/// every transaction that could insert a decision in their place is over; and so for what says that it is committed
/// without the secret. How many went is told.
pub fn forget<'a>(
    before_ms: i64,
    asked: impl Iterator<Item = (i16, &'a str)>,
    left: &[String],
) -> String {
    let left: Vec<String> = left.iter().map(|gid| quote_literal(gid)).collect();
    format!(
        "WITH gone AS (DELETE FROM pgmeridian.decision WHERE gid = ANY (ARRAY( \
         SELECT gid FROM pgmeridian.decision \
         WHERE at < 'epoch'::timestamptz + {before_ms} * interval '1 millisecond' \
         AND CASE WHEN committed AND \
         left(encode(sha256(convert_to(secret, 'UTF8')), 'hex'), 32) = split_part(gid, ':', 4) \
         THEN shards <@ {} AND NOT gid = ANY (ARRAY[{}]::text[]) \
         ELSE xact < pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot()) END \
         LIMIT {FORGOTTEN_MAX})) RETURNING 1) SELECT count(*) FROM gone",
        known_as(asked),
        left.join(", ")
    )
}

/// The server's clock, in milliseconds since 1970; whether it is a standby, where what is prepared does not show until it
/// is promoted; and which server it is.
pub fn clock() -> String {
    format!(
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, pg_is_in_recovery(), {SERVER}"
    )
}

/// Whether a text can be a table's mark.
pub fn is_mark(text: &str) -> bool {
    gid::is_mark(text)
}
