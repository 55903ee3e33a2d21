-- psql's own commands, whose catalog reads go to the default shard: compared with that shard's own answers.
\d
\d+
\d tenants
\d+ users
\d plans
\dt
\dt+ users
\di
\dv
\ds
\df
\dn+
\du
\dp tenants
\dT
\l
\dd
\dC text
\do ~~
\dx
\drds
\d nothing
\sf nothing
SELECT id, name FROM tenants WHERE id = 1 \gdesc
SELECT 1 AS a, 'x' AS b \gx
SELECT 'SELECT ' || n FROM generate_series(1, 3) n \gexec
SELECT 42 AS tenant \gset
SELECT :tenant;
\copy plans TO STDOUT
\copy global_settings TO STDOUT (FORMAT csv, HEADER)
-- what completion asks for names that begin so
SELECT c.relname, NULL::pg_catalog.text FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') AND (c.relname) LIKE 'te%' AND pg_catalog.pg_table_is_visible(c.oid) AND c.relnamespace <> (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pg_catalog') UNION ALL SELECT NULL::pg_catalog.text, n.nspname FROM pg_catalog.pg_namespace n WHERE n.nspname LIKE 'te%' AND n.nspname NOT LIKE E'pg\\_%' LIMIT 1000;
SELECT attname, NULL::text FROM pg_catalog.pg_attribute a, pg_catalog.pg_class c WHERE c.oid = a.attrelid AND a.attnum > 0 AND NOT a.attisdropped AND attname LIKE '%' AND (c.relname) LIKE 'tenants' AND pg_catalog.pg_table_is_visible(c.oid) LIMIT 1000;
SELECT name FROM (SELECT pg_catalog.lower(name) AS name FROM pg_catalog.pg_settings) ss WHERE name LIKE 'work%' LIMIT 1000;
\set FETCH_COUNT 2
SELECT n FROM generate_series(1, 5) n;
\unset FETCH_COUNT
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT 1 / 0;
SELECT 1;
COMMIT;
