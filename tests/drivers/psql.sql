-- What a psql user does, against the demo; psql stops at the first error.
\set tenant 42
SELECT id, name FROM tenants WHERE id = :tenant;
EXPLAIN (ROUTE) SELECT id FROM tasks WHERE tenant_id = :tenant;
EXPLAIN (ROUTE, FORMAT JSON) SELECT id FROM tasks;
EXPLAIN SELECT id FROM tasks WHERE tenant_id = :tenant;
SET pgmeridian.trace = on;
SELECT username FROM users WHERE tenant_id = :tenant;
SHOW pgmeridian.last_route;
SET pgmeridian.trace = off;
BEGIN;
UPDATE tasks SET status = 1 WHERE tenant_id = :tenant;
SAVEPOINT a;
DELETE FROM tasks WHERE tenant_id = :tenant;
ROLLBACK TO a;
ROLLBACK;
SELECT id FROM tenants WHERE id IN (1, 2, 3);
SET pgmeridian.shard = 'deu';
SELECT current_database(), count(*) FROM tenants;
RESET pgmeridian.shard;
SHOW server_version;
