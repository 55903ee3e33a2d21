//! What PostgreSQL is told, and the decisions' table. Names are qualified: the client's `search_path` and settings
//! hold where some of it runs.

use super::gid::{Gid, PREFIX};
use super::{Verdict, gid};
use crate::sql::quote::{quote_identifier, quote_literal};

/// What makes the schema of the table.
pub const SCHEMA: &str = "CREATE SCHEMA pgmeridian";

/// What makes the table. Columns: the transaction's [`Gid`]; whether it is committed (a tombstone says false); the
/// numbers of its participants; when it was decided; the inserting transaction's own number.
pub const TABLE: &str = "\
CREATE TABLE pgmeridian.decision (gid text PRIMARY KEY, committed boolean NOT NULL, \
shards integer[] NOT NULL DEFAULT '{}', at timestamptz NOT NULL DEFAULT clock_timestamp(), \
xact bigint NOT NULL DEFAULT txid_current())";

/// What gives it its mark, 16 random hexadecimal digits.
pub fn mark(mark: &str) -> String {
    format!("COMMENT ON TABLE pgmeridian.decision IS {}", quote_literal(mark))
}

/// What lets a role finish what was left behind.
pub fn grant_recovery(role: &str) -> String {
    let role = quote_identifier(role);
    format!(
        "GRANT USAGE ON SCHEMA pgmeridian TO {role}; \
         GRANT SELECT, INSERT, DELETE ON pgmeridian.decision TO {role}"
    )
}

/// What lets a role commit over several shards.
pub fn grant(role: &str) -> String {
    let role = quote_identifier(role);
    format!(
        "GRANT USAGE ON SCHEMA pgmeridian TO {role}; GRANT INSERT ON pgmeridian.decision TO {role}"
    )
}

/// Who installs does so alone.
pub const INSTALL_LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(7232106475268961396)";

/// What the table is to the current role, in a transaction that can be the coordinator's from then on: its mark,
/// whether rows may be inserted, whether it is there at all, and the role, with a colon between two. Never an error,
/// whatever is missing. The transaction gets its number here: a tombstone that is inserted later has a higher one, so
/// that it is known when it is needed no more.
pub const READY: &str = "\
SELECT pg_catalog.concat_ws(':', pg_catalog.txid_current()::pg_catalog.text, \
COALESCE(pg_catalog.max(pg_catalog.obj_description(c.oid, 'pg_class')), ''), \
COALESCE(pg_catalog.bool_or(pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
AND pg_catalog.has_table_privilege(c.oid, 'INSERT')), false)::pg_catalog.text, \
pg_catalog.count(c.oid)::pg_catalog.text, current_user::pg_catalog.text) \
FROM pg_catalog.pg_namespace n \
JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid \
WHERE n.nspname OPERATOR(pg_catalog.=) 'pgmeridian' \
AND c.relname OPERATOR(pg_catalog.=) 'decision'";

/// What [`READY`] has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The table's mark, if it is there and has one.
    pub mark: Option<String>,
    /// Rows may be inserted.
    pub may_insert: bool,
    /// The table is there.
    pub is_there: bool,
    /// As whom.
    pub role: String,
}

impl Ready {
    /// Reads the answer.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, ':').skip(1);
        let mark = parts.next()?;
        let may_insert = parts.next()? == "true";
        let is_there = parts.next()? != "0";
        let mark = is_mark(mark).then(|| mark.to_owned());
        Some(Self { mark, may_insert, is_there, role: parts.next()?.to_owned() })
    }
}

/// The same to one who looks from outside: whether there is the schema, the table's mark, whether there is a table,
/// whether rows may be read, inserted and deleted.
pub const INSTALLED: &str = "\
SELECT pg_catalog.count(n.oid) > 0, pg_catalog.max(pg_catalog.obj_description(c.oid, 'pg_class')), \
pg_catalog.count(c.oid) > 0, COALESCE(pg_catalog.bool_and(pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'INSERT') \
AND pg_catalog.has_table_privilege(c.oid, 'DELETE')), false) \
FROM pg_catalog.pg_namespace n \
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'decision' \
WHERE n.nspname = 'pgmeridian'";

/// What a participant's server can prepare.
pub const CAN_PREPARE: &str = "SELECT pg_catalog.current_setting('max_prepared_transactions')";

/// Whether a transaction has written.
pub const HAS_WRITTEN: &str = "SELECT pg_catalog.txid_current_if_assigned() IS NOT NULL";

/// The coordinator's part while the others prepare: what is deferred to the end fails now, if it fails.
pub const CHECK: &str = "SET CONSTRAINTS ALL IMMEDIATE";

/// From here on a COMMIT, or a PREPARE, is one that neither a crash nor a failover takes back: what a standby must have
/// by then is left as it is, less is not. A row says that something was changed.
fn durable(is_local: bool) -> String {
    format!(
        "SELECT pg_catalog.set_config('synchronous_commit', 'on', {is_local}) \
         WHERE pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.<>) 'on' \
         AND pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.<>) 'remote_apply'"
    )
}

/// The same for what a connection does next, outside a transaction.
pub fn durable_from_now() -> String {
    durable(false)
}

/// PREPARE TRANSACTION on a participant; the last row before is a [`Prepared`].
pub fn prepare(gid: &Gid, participant: i16) -> String {
    format!(
        "{}; SELECT pg_catalog.concat_ws(':', \
         COALESCE(pg_catalog.txid_current_if_assigned()::pg_catalog.text, ''), \
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
    /// The role that owns it.
    pub owner: String,
}

impl Prepared {
    /// Reads the answer.
    pub fn read(text: &str) -> Option<Self> {
        let (xact, owner) = text.split_once(':')?;
        Some(Self { xact: xact.parse().ok(), owner: owner.to_owned() })
    }
}

/// What has become of a transaction by its number.
pub fn status(xact: i64) -> String {
    format!("SELECT pg_catalog.txid_status({xact})")
}

/// The decision, with the coordinator's rows. A COMMIT that a crash or a failover may take back (`synchronous_commit =
/// off`) would be none: the participants' are not taken back.
pub fn decide(gid: &Gid, participants: &[i16]) -> String {
    let participants: Vec<String> = participants.iter().map(ToString::to_string).collect();
    format!(
        "{}; INSERT INTO pgmeridian.decision (gid, committed, shards) VALUES ({}, true, '{{{}}}'); COMMIT",
        durable(true),
        quote_literal(&gid.to_string()),
        participants.join(",")
    )
}

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
    format!("{RECOVERY_SETTINGS}; {}", durable_from_now())
}

const RECOVERY_SETTINGS: &str = "SET default_transaction_isolation TO 'read committed'; \
SET default_transaction_read_only TO off; SET lock_timeout TO '2s'; \
SET statement_timeout TO '5s'; SET search_path TO ''";

/// The tombstone, where the table is the one that the gid means.
pub fn tombstone(gid: &Gid) -> String {
    format!(
        "INSERT INTO pgmeridian.decision (gid, committed) SELECT {}, false FROM pg_catalog.pg_class c \
         WHERE c.oid = 'pgmeridian.decision'::pg_catalog.regclass \
         AND pg_catalog.obj_description(c.oid, 'pg_class') = {} ON CONFLICT (gid) DO NOTHING",
        quote_literal(&gid.to_string()),
        quote_literal(&gid.mark)
    )
}

/// What stands under a gid.
pub fn verdict(gid: &Gid) -> String {
    format!(
        "SELECT committed FROM pgmeridian.decision WHERE gid = {}",
        quote_literal(&gid.to_string())
    )
}

/// What is prepared in this database, for how many milliseconds, and by whom; before that, whether the server is a
/// standby, which shows nothing of it. Where nothing is prepared there is one row without a gid.
pub fn prepared() -> String {
    format!(
        "SELECT here.is_standby, p.gid, (extract(epoch FROM clock_timestamp() - p.prepared) * 1000)::bigint, p.owner \
         FROM (SELECT pg_is_in_recovery() AS is_standby) here \
         LEFT JOIN pg_catalog.pg_prepared_xacts p \
         ON p.database = current_database() AND left(p.gid, {}) = {}",
        PREFIX.len(),
        quote_literal(PREFIX)
    )
}

/// Finishes what another role has prepared.
pub fn as_owner(owner: &str) -> String {
    format!("SET ROLE {}", quote_identifier(owner))
}

/// Removes rows that nobody will ask for any more. Decisions: they are older than `before_ms` (by the server's clock,
/// before the shards were asked what they have prepared), all their participants are among those asked, and none has
/// anything `left` of it. A row is inserted when all have prepared, so that what was prepared was seen. Tombstones:
/// every transaction that could insert a decision in their place is over.
pub fn forget(before_ms: i64, asked: &[i16], left: &[String]) -> String {
    let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
    let left: Vec<String> = left.iter().map(|gid| quote_literal(gid)).collect();
    format!(
        "DELETE FROM pgmeridian.decision WHERE CASE WHEN committed \
         THEN at < 'epoch'::timestamptz + {before_ms} * interval '1 millisecond' \
         AND shards <@ '{{{}}}'::integer[] AND NOT gid = ANY (ARRAY[{}]::text[]) \
         ELSE xact < pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot()) END",
        asked.join(","),
        left.join(", ")
    )
}

/// The server's clock, in milliseconds since 1970, and whether it is a standby: what is prepared does not show there
/// until it is promoted.
pub const CLOCK: &str =
    "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, pg_is_in_recovery()";

/// Whether a text can be a table's mark.
pub fn is_mark(text: &str) -> bool {
    gid::is_mark(text)
}
