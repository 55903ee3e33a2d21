-- User-defined types: another number on each shard, and one for clients.

SELECT status FROM orders WHERE tenant_id = 0 ORDER BY id

SELECT status FROM orders WHERE tenant_id = 1 ORDER BY id

SELECT id, status FROM orders WHERE tenant_id IN (1, 4) ORDER BY id, tenant_id

SELECT id, status FROM orders WHERE tenant_id IN (1, 2) ORDER BY id, tenant_id

SELECT status, count(*) FROM orders WHERE tenant_id IN (1, 2) GROUP BY status ORDER BY status

SELECT about FROM notes WHERE tenant_id = 1 ORDER BY id

SELECT about FROM notes WHERE tenant_id IN (1, 2) ORDER BY id, body

-- text
SELECT array_agg(status ORDER BY id) FROM orders WHERE tenant_id = 1

-- text
SELECT enum_first(status), enum_range(status) FROM orders WHERE tenant_id = 1 LIMIT 1

-- text
SELECT u FROM users u WHERE tenant_id = 1 AND id = 1

-- param: happy
SELECT id, status FROM orders WHERE status = $1 AND tenant_id = 1 ORDER BY id

-- param: happy
SELECT id, status FROM orders WHERE status = $1 AND tenant_id IN (1, 2) ORDER BY tenant_id, id

-- param: {happy,sad}
SELECT id, status FROM orders WHERE tenant_id = 2 AND status = ANY ($1) ORDER BY id

-- param: (1,x)
SELECT $1::pair FROM notes WHERE tenant_id = 1 LIMIT 1

-- param: ok
SELECT $1::mood, status FROM orders WHERE tenant_id = 1 AND id < 4 ORDER BY id
