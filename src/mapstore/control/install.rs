//! What a control database needs: the two tables as botserver defines them, and what makes their changes
//! known at once.
//!
//! Triggers fire once per statement. Each counts `pgmeridian.map_version` up, writes down in
//! `pgmeridian.map_change` what changed, and notifies. Running it again changes nothing that is there.

use tokio_postgres::Client;

use super::super::read::{ReadError, connect};
use crate::map::ConnectionTarget;

/// The channel that is notified: `version shards`, or `version tenants` and, when they are few, which.
pub const CHANNEL: &str = "pgmeridian_map";

/// A step of the installation.
#[derive(Debug, Clone)]
pub struct Step {
    /// What it is for.
    pub what: &'static str,
    /// Its SQL.
    pub sql: &'static str,
    /// It is done already.
    pub done: bool,
}

/// A step, and the query that tells whether it is done.
struct Piece {
    what: &'static str,
    sql: &'static str,
    done: &'static str,
}

const PIECES: [Piece; 7] = [
    Piece {
        what: "table shard_config: the shards, and the ranges of tenants that live on them",
        sql: "\
CREATE TABLE shard_config (
    shard_id smallint PRIMARY KEY,
    region_code char(3) NOT NULL,
    datacenter varchar(32) NOT NULL,
    connection_string text NOT NULL,
    is_primary boolean DEFAULT false,
    is_active boolean DEFAULT true,
    min_tenant_id bigint NOT NULL,
    max_tenant_id bigint NOT NULL,
    created_at timestamptz DEFAULT now()
);",
        done: "SELECT to_regclass('shard_config') IS NOT NULL",
    },
    Piece {
        what: "table tenant_shard_map: tenants that live elsewhere than their range says",
        sql: "\
CREATE TABLE tenant_shard_map (
    tenant_id bigint PRIMARY KEY,
    shard_id smallint NOT NULL REFERENCES shard_config,
    region_code char(3) NOT NULL,
    created_at timestamptz DEFAULT now()
);",
        done: "SELECT to_regclass('tenant_shard_map') IS NOT NULL",
    },
    Piece {
        what: "schema pgmeridian, with the tables' version and what each version changed",
        sql: "\
CREATE SCHEMA IF NOT EXISTS pgmeridian;
CREATE TABLE IF NOT EXISTS pgmeridian.map_version (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL,
    token text NOT NULL DEFAULT md5(random()::text || clock_timestamp()::text),
    changed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO pgmeridian.map_version (version) VALUES (1) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS pgmeridian.map_change (
    version bigint NOT NULL,
    shards boolean NOT NULL,  -- shard_config has changed
    tenant text,              -- this row of tenant_shard_map; NULL and not shards: any of them
    token text NOT NULL       -- tells this version from one of the same number after a restore
);
CREATE INDEX IF NOT EXISTS map_change_version ON pgmeridian.map_change (version);
INSERT INTO pgmeridian.map_change SELECT version, true, NULL, token FROM pgmeridian.map_version v
WHERE NOT EXISTS (SELECT FROM pgmeridian.map_change c WHERE c.version = v.version);
GRANT USAGE ON SCHEMA pgmeridian TO PUBLIC;
GRANT SELECT ON pgmeridian.map_version, pgmeridian.map_change TO PUBLIC;",
        done: "SELECT to_regclass('pgmeridian.map_version') IS NOT NULL \
               AND to_regclass('pgmeridian.map_change') IS NOT NULL",
    },
    Piece {
        what: "functions that count versions and notify",
        sql: r"
CREATE OR REPLACE FUNCTION pgmeridian.next_map_version() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    -- Old changes are of no use: whoever has missed so many reads everything.
    DELETE FROM pgmeridian.map_change c USING pgmeridian.map_version v
    WHERE v.version % 1000 = 0 AND c.version < v.version - 100000;
    UPDATE pgmeridian.map_version
    SET version = version + 1, changed_at = now(), token = md5(random()::text || clock_timestamp()::text)
    RETURNING version;
$body$;
REVOKE ALL ON FUNCTION pgmeridian.next_map_version() FROM PUBLIC;
CREATE OR REPLACE FUNCTION pgmeridian.shards_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    now_at bigint := pgmeridian.next_map_version();
BEGIN
    INSERT INTO pgmeridian.map_change
    SELECT now_at, true, NULL, token FROM pgmeridian.map_version;
    PERFORM pg_notify('pgmeridian_map', now_at || ' shards');
    RETURN NULL;
END $body$;
CREATE OR REPLACE FUNCTION pgmeridian.tenants_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    now_at bigint;
    tenants text[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        tenants := ARRAY (SELECT tenant_id::text FROM new_rows LIMIT 10001);
    ELSIF TG_OP = 'DELETE' THEN
        tenants := ARRAY (SELECT tenant_id::text FROM old_rows LIMIT 10001);
    ELSIF TG_OP = 'UPDATE' THEN
        tenants := ARRAY (SELECT tenant_id::text FROM new_rows UNION SELECT tenant_id::text FROM old_rows LIMIT 10001);
    END IF;
    IF tenants = '{}' THEN
        RETURN NULL;
    END IF;
    now_at := pgmeridian.next_map_version();
    IF tenants IS NULL OR cardinality(tenants) > 10000 THEN
        INSERT INTO pgmeridian.map_change
        SELECT now_at, false, NULL, token FROM pgmeridian.map_version;
        PERFORM pg_notify('pgmeridian_map', now_at || ' tenants');
    ELSE
        INSERT INTO pgmeridian.map_change
        SELECT now_at, false, unnest(tenants), token FROM pgmeridian.map_version;
        PERFORM pg_notify('pgmeridian_map', now_at || ' tenants' || CASE
            WHEN length(array_to_string(tenants, ',')) < 7000 THEN ' ' || array_to_string(tenants, ',')
            ELSE '' END);
    END IF;
    RETURN NULL;
END $body$;",
        done: "SELECT to_regprocedure('pgmeridian.tenants_changed()') IS NOT NULL \
               AND to_regprocedure('pgmeridian.shards_changed()') IS NOT NULL \
               AND to_regprocedure('pgmeridian.next_map_version()') IS NOT NULL",
    },
    Piece {
        what: "triggers on shard_config",
        sql: "\
CREATE TRIGGER pgmeridian_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON shard_config
    FOR EACH STATEMENT EXECUTE FUNCTION pgmeridian.shards_changed();",
        done: "SELECT count(*) = 1 FROM pg_catalog.pg_trigger \
               WHERE tgrelid = to_regclass('shard_config') AND tgname = 'pgmeridian_changed'",
    },
    Piece {
        what: "triggers on tenant_shard_map",
        sql: "\
DROP TRIGGER IF EXISTS pgmeridian_inserted ON tenant_shard_map;
DROP TRIGGER IF EXISTS pgmeridian_updated ON tenant_shard_map;
DROP TRIGGER IF EXISTS pgmeridian_deleted ON tenant_shard_map;
DROP TRIGGER IF EXISTS pgmeridian_truncated ON tenant_shard_map;
CREATE TRIGGER pgmeridian_inserted AFTER INSERT ON tenant_shard_map
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION pgmeridian.tenants_changed();
CREATE TRIGGER pgmeridian_updated AFTER UPDATE ON tenant_shard_map
    REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION pgmeridian.tenants_changed();
CREATE TRIGGER pgmeridian_deleted AFTER DELETE ON tenant_shard_map
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION pgmeridian.tenants_changed();
CREATE TRIGGER pgmeridian_truncated AFTER TRUNCATE ON tenant_shard_map
    FOR EACH STATEMENT EXECUTE FUNCTION pgmeridian.tenants_changed();",
        done: "SELECT count(*) = 4 FROM pg_catalog.pg_trigger \
               WHERE tgrelid = to_regclass('tenant_shard_map') AND tgname IN \
               ('pgmeridian_inserted', 'pgmeridian_updated', 'pgmeridian_deleted', 'pgmeridian_truncated')",
    },
    Piece {
        what: "tables of frozen keys (FREEZE) and of the proxies that must know of them",
        sql: "\
CREATE TABLE IF NOT EXISTS pgmeridian.freeze (
    key text NOT NULL,               -- as the map calls it
    value text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    frozen_by text NOT NULL DEFAULT session_user,
    map_version bigint NOT NULL,     -- proxies that have settled on this version know of it
    PRIMARY KEY (key, value)
);
CREATE TABLE IF NOT EXISTS pgmeridian.proxy (
    name text PRIMARY KEY,
    used_version bigint NOT NULL,    -- statements are planned with this version
    settled_version bigint NOT NULL, -- and no transaction is left that began before it
    seen_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON pgmeridian.freeze, pgmeridian.proxy TO PUBLIC;
DROP TRIGGER IF EXISTS pgmeridian_changed ON pgmeridian.freeze;
CREATE TRIGGER pgmeridian_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON pgmeridian.freeze
    FOR EACH STATEMENT EXECUTE FUNCTION pgmeridian.shards_changed();",
        done: "SELECT to_regclass('pgmeridian.freeze') IS NOT NULL \
               AND to_regclass('pgmeridian.proxy') IS NOT NULL",
    },
];

/// Connects to a control database, to install things there.
///
/// # Errors
///
/// It can't be reached.
pub async fn open(url: &ConnectionTarget) -> Result<Client, ReadError> {
    let (client, connection) = connect(url).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// What an installation consists of, and what of it is there.
///
/// # Errors
///
/// The database could not be asked.
pub async fn plan(client: &Client) -> Result<Vec<Step>, ReadError> {
    let mut steps = Vec::with_capacity(PIECES.len());
    for piece in &PIECES {
        let done = client.query_one(piece.done, &[]).await?.get(0);
        steps.push(Step { what: piece.what, sql: piece.sql.trim(), done });
    }
    Ok(steps)
}

/// Does what is not done, all of it or nothing.
///
/// # Errors
///
/// The database refused it; nothing has changed then.
pub async fn install(client: &mut Client, steps: &[Step]) -> Result<(), ReadError> {
    let transaction = client.transaction().await?;
    for step in steps.iter().filter(|step| !step.done) {
        transaction.batch_execute(step.sql).await?;
    }
    Ok(transaction.commit().await?)
}
