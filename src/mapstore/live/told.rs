//! What a shard tells of itself: [`Told`], its server and its database, object by object.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use crate::catalog::read::Row;
use crate::catalog::{Catalog, ShardCheck, Table};
use crate::map::{Shard, ShardId};
use crate::mapstore::read::{self, ReadError, read_only, rows};

/// What a database consists of: kind, table and name, and the definition.
pub(super) type Objects = BTreeMap<(String, String, String), String>;

/// What one shard said.
pub(super) struct Told<'m> {
    pub(super) at: ShardId,
    pub(super) shard: &'m Shard,
    pub(super) catalog: Catalog,
    pub(super) server: BTreeMap<String, String>,
    pub(super) objects: Objects,
    pub(super) unique: Vec<Row>,
    pub(super) sequences: Vec<Row>,
    /// OIDs of user types.
    pub(super) types: BTreeMap<String, String>,
}

impl Told<'_> {
    pub(super) fn server(&self, name: &str) -> &str {
        self.server.get(name).map_or("", String::as_str)
    }

    pub(super) fn table(&self, fq: &str) -> Option<&Table> {
        let (schema, name) = fq.split_once('.')?;
        self.catalog.tables.get(&(schema.to_owned(), name.to_owned())).map(|table| &**table)
    }
}

const SERVER: &str = "\
SELECT s.name, s.setting FROM pg_catalog.pg_settings s
WHERE s.name IN ('server_version', 'max_prepared_transactions')
UNION ALL SELECT 'decision', CASE
    WHEN count(c.oid) > 0 AND bool_and(pg_catalog.has_schema_privilege(n.oid, 'USAGE')
      AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'INSERT')
      AND pg_catalog.has_table_privilege(c.oid, 'DELETE')) THEN 'ready'
    WHEN count(c.oid) > 0 THEN 'closed'
    WHEN count(n.oid) > 0 AND bool_and(pg_catalog.has_schema_privilege(n.oid, 'CREATE')) THEN 'to be made'
    WHEN count(n.oid) = 0 AND pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') THEN 'to be made'
    ELSE 'missing' END
FROM pg_catalog.pg_namespace n
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'decision'
WHERE n.nspname = 'pgmeridian'
UNION ALL SELECT 'recovery', pg_catalog.pg_is_in_recovery()::text
UNION ALL SELECT 'encoding', pg_catalog.pg_encoding_to_char(d.encoding) FROM pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
UNION ALL SELECT 'collation', d.datcollate || ', ' || d.datctype FROM pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
UNION ALL SELECT 'collation version', pg_catalog.to_jsonb(d) ->> 'datcollversion' FROM pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
UNION ALL SELECT 'database ' || d.datname, '' FROM pg_catalog.pg_database d
WHERE d.datallowconn AND NOT d.datistemplate";

/// So that the names in definitions are qualified.
pub(super) const NO_SEARCH_PATH: &str = "SET search_path = ''";

const OBJECTS: &str = "\
WITH relation AS (
  SELECT c.*, n.nspname || '.' || c.relname AS fq
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgmeridian') AND n.nspname !~ '^pg_toast')
SELECT 'table', fq, '', CASE relkind WHEN 'r' THEN 'a table' WHEN 'v' THEN 'a view' WHEN 'm' THEN 'a materialized view'
    WHEN 'f' THEN 'a foreign table' ELSE 'partitioned by ' || pg_catalog.pg_get_partkeydef(oid) END
FROM relation
UNION ALL
SELECT 'column', r.fq, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)
    || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
    || COALESCE(' COLLATE ' || CASE WHEN a.attcollation <> t.typcollation THEN l.collname END, '')
    || CASE WHEN a.attidentity <> '' THEN ' IDENTITY' WHEN a.attgenerated <> '' THEN ' GENERATED' ELSE '' END
    || COALESCE(' DEFAULT ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
FROM relation r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
UNION ALL
SELECT 'constraint', r.fq, o.conname, pg_catalog.pg_get_constraintdef(o.oid)
FROM relation r JOIN pg_catalog.pg_constraint o ON o.conrelid = r.oid
WHERE o.contype <> 'n'
UNION ALL
SELECT 'index', r.fq, x.relname, pg_catalog.pg_get_indexdef(i.indexrelid)
FROM relation r JOIN pg_catalog.pg_index i ON i.indrelid = r.oid JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
UNION ALL
SELECT 'trigger', r.fq, g.tgname, pg_catalog.pg_get_triggerdef(g.oid)
FROM relation r JOIN pg_catalog.pg_trigger g ON g.tgrelid = r.oid AND NOT g.tgisinternal
UNION ALL
SELECT 'view', fq, '', pg_catalog.pg_get_viewdef(oid) FROM relation WHERE relkind IN ('v', 'm')
UNION ALL
SELECT 'function', '', p.oid::pg_catalog.regprocedure::text,
    p.provolatile::text || pg_catalog.md5(p.prosrc) || COALESCE(p.probin, '')
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgmeridian')
UNION ALL
SELECT 'type', '', n.nspname || '.' || t.typname, CASE t.typtype
    WHEN 'e' THEN 'an enum of ' || (SELECT pg_catalog.string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder)
                                    FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid)
    WHEN 'd' THEN 'a domain over ' || pg_catalog.format_type(t.typbasetype, t.typtypmod) ELSE 'a type' END
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype IN ('e', 'd', 'r') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgmeridian')
UNION ALL
SELECT 'role', '', r.rolname, CASE WHEN r.rolcanlogin THEN 'may log in' ELSE 'may not log in' END
FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_'";

/// Table, index, columns (blank-separated numbers; 0 is an expression), whether all columns are uuids.
const UNIQUE: &str = "\
SELECT n.nspname || '.' || c.relname, x.relname, i.indkey::text,
    (SELECT pg_catalog.bool_and(a.atttypid = 2950) FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey))::text,
    (SELECT pg_catalog.string_agg(a.attname, ', ') FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey))
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisunique AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgmeridian')
  AND n.nspname !~ '^pg_toast' ORDER BY 1, 2";

/// Table, column, sequence, start, increment, minimum, maximum of what a column's default takes numbers from.
const SEQUENCES: &str = "\
SELECT n.nspname || '.' || c.relname, a.attname, q.oid::pg_catalog.regclass::text,
    s.seqstart::text, s.seqincrement::text, s.seqmin::text, s.seqmax::text
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN LATERAL (
  SELECT d.objid AS oid FROM pg_catalog.pg_depend d
  WHERE d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.deptype = 'i' AND d.classid = 'pg_catalog.pg_class'::regclass
  UNION
  SELECT d.refobjid FROM pg_catalog.pg_attrdef f
  JOIN pg_catalog.pg_depend d ON d.objid = f.oid AND d.classid = 'pg_catalog.pg_attrdef'::regclass
    AND d.refclassid = 'pg_catalog.pg_class'::regclass
  WHERE f.adrelid = c.oid AND f.adnum = a.attnum) q ON true
JOIN pg_catalog.pg_sequence s ON s.seqrelid = q.oid ORDER BY 1, 2";

const TYPES: &str = "\
SELECT n.nspname || '.' || t.typname, t.oid::text
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype IN ('e', 'c', 'd', 'r') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgmeridian')
  AND n.nspname !~ '^pg_toast' AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.atttypid = t.oid
    AND a.attnum > 0 AND NOT a.attisdropped)";

pub(super) async fn ask(at: ShardId, shard: &Shard) -> Result<Told<'_>, ReadError> {
    let client = read_only(&shard.url).await?;
    let catalog = read::read(&client).await?;
    client.batch_execute(NO_SEARCH_PATH).await?;
    let pairs = |rows: Vec<Row>| -> BTreeMap<String, String> {
        let pair = |row: Row| match row.as_slice() {
            [Some(name), value] => Some((name.clone(), value.clone().unwrap_or_default())),
            _ => None,
        };
        rows.into_iter().filter_map(pair).collect()
    };
    let objects = objects(&client).await?;
    Ok(Told {
        at,
        shard,
        catalog,
        objects,
        server: pairs(rows(&client, SERVER).await?),
        unique: rows(&client, UNIQUE).await?,
        sequences: rows(&client, SEQUENCES).await?,
        types: pairs(rows(&client, TYPES).await?),
    })
}

/// What a database consists of, under an empty `search_path`.
pub(super) async fn objects(client: &Client) -> Result<Objects, ReadError> {
    let read = rows(client, OBJECTS).await?.into_iter();
    let objects = read.filter_map(|row| match row.as_slice() {
        // A CHECK of the shard's number is another one on each shard, and is meant so.
        [Some(kind), _, _, Some(definition)]
            if kind == "constraint" && ShardCheck::differs_by_shard(definition) =>
        {
            None
        }
        [Some(kind), Some(table), Some(name), definition] => {
            let key = (kind.clone(), table.clone(), name.clone());
            Some((key, definition.clone().unwrap_or_default()))
        }
        _ => None,
    });
    Ok(objects.collect())
}
