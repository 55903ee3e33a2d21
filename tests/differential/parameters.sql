-- Parameters.

-- param: 3
SELECT count(*) FROM users WHERE score > $1

-- param: 3
-- param: hot 1
SELECT count(*), $2::text FROM users WHERE score > $1 OR name = $2

-- param: 2
SELECT tenant_id, id FROM users ORDER BY tenant_id, id LIMIT $1

-- param: 2
-- param: 3
SELECT tenant_id, id FROM users ORDER BY tenant_id DESC, id LIMIT $1 OFFSET $2

-- param: NULL
SELECT tenant_id, id FROM users WHERE tenant_id < 2 ORDER BY tenant_id, id LIMIT $1

-- param: -1
SELECT tenant_id, id FROM users ORDER BY tenant_id, id LIMIT $1

-- param: {1,2,5}
SELECT count(*) FROM users WHERE tenant_id = ANY ($1)

-- param: 1
-- param: 2
SELECT a.name, b.name FROM users a JOIN users b ON a.id = b.id WHERE a.tenant_id = $1 AND b.tenant_id = $2 ORDER BY a.id

-- param: 5
SELECT plan_id + $1, count(*) FROM users GROUP BY plan_id ORDER BY 1

-- param: x
SELECT $1 || name FROM users u WHERE EXISTS (SELECT FROM orders o WHERE o.user_id = u.score) ORDER BY 1

-- param: 2020-05-05
SELECT count(*) FROM tenants t, devices d WHERE since > $1

-- param: abc
SELECT count(*) FROM users WHERE score > $1

-- param: 1
SELECT sum(score + $1::int) FROM users

-- param: happy
SELECT count(*) FROM orders WHERE status = $1

-- param: {"n": 1}
SELECT count(*) FROM users WHERE doc @> $1

-- param: NULL
SELECT count(*) FROM users WHERE score IS NOT DISTINCT FROM $1

-- param: 3
SELECT $1::int AS p, max(id) FROM users WHERE tenant_id <> $1

-- param: user 4
SELECT tenant_id, id FROM users WHERE name = $1 ORDER BY tenant_id, id

-- param: user 4
SELECT count(*) FILTER (WHERE name = $1) FROM users
