-- Reads by primary key, which are kept prepared: values, literals and results of every kind, and what is like them.

SELECT * FROM tenants WHERE id = 3

SELECT * FROM tenants WHERE id=3

SELECT name, id AS "ID", plan_id + 1 AS next, id::text FROM tenants t WHERE t.id = 4

SELECT * FROM tenants WHERE 5 = id

SELECT name FROM tenants WHERE id = 00003

SELECT name FROM tenants WHERE id = 999999

SELECT name FROM tenants WHERE id = 9223372036854775807

SELECT name FROM tenants WHERE id = 9223372036854775808

SELECT name FROM tenants WHERE id = 99999999999999999999999

SELECT name FROM tenants WHERE id = -3

SELECT name FROM tenants WHERE id = '3'

SELECT name FROM tenants WHERE id = ' 3 '

SELECT name FROM tenants WHERE id = '3x'

SELECT name FROM tenants WHERE id = 3.0

SELECT name FROM tenants WHERE id = 3.5

SELECT name FROM tenants WHERE id = NULL

SELECT * FROM users WHERE tenant_id = 2 AND id = 1

SELECT * FROM users WHERE id = 1 AND tenant_id = 2

SELECT * FROM users WHERE (tenant_id, id) = (2, 1)

SELECT * FROM users WHERE tenant_id = 2 AND id = 1 AND name = 'no such'

SELECT name FROM users WHERE tenant_id = 2 AND id = 1 AND email = 'x''y'

SELECT name FROM users WHERE tenant_id = 2 AND id = 1 AND email = E'x'

SELECT name FROM users WHERE tenant_id = 2 AND id = 1 AND code = 'a'

SELECT name FROM users WHERE tenant_id = 2 AND id = 1 AND score = 3

SELECT name FROM users WHERE tenant_id = 2 AND id = 1 AND ratio = 3

SELECT name FROM users WHERE tenant_id = 2 AND id = 1 AND small = 1

SELECT name FROM users WHERE tenant_id = 2 AND id = 1 AND born = '2020-01-01'

SELECT name FROM users WHERE tenant_id = 2 AND id = 1 AND active

SELECT name FROM users WHERE tenant_id = 2 AND id = 1 OR tenant_id = 3 AND id = 1

SELECT count(*), max(score) FROM users WHERE tenant_id = 2 AND id = 1

SELECT DISTINCT name FROM users WHERE tenant_id = 2 AND id = 1

SELECT name FROM users WHERE tenant_id = 2 AND id = 1 ORDER BY 1 LIMIT 1

SELECT name FROM users WHERE tenant_id = 2 AND id = 1 LIMIT 0

SELECT 1 AS one FROM users WHERE tenant_id = 2 AND id = 1 LIMIT 1

SELECT 1 / 0 FROM users WHERE tenant_id = 2 AND id = 999

SELECT current_query() FROM users WHERE tenant_id = 2 AND id = 1

SELECT /* said */ name FROM users WHERE tenant_id = 2 AND id = 1

SELECT name FROM users WHERE tenant_id = 2 AND id = 1 -- said

SELECT u FROM users u WHERE tenant_id = 2 AND id = 1

SELECT no_such FROM users WHERE tenant_id = 2 AND id = 1

SELECT name FROM users WHERE tenant_id = 2 AND id = 'one'

SELECT * FROM docs WHERE owner = 'ann' AND n = 1

SELECT * FROM docs WHERE owner = 'än''n' AND n = 1

SELECT * FROM docs WHERE owner = '' AND n = 1

SELECT * FROM docs WHERE owner = 'a\b' AND n = 1

SELECT * FROM files WHERE file_id = '00000000-0000-0000-0000-000000000001'

SELECT * FROM files WHERE file_id = '{00000000000000000000000000000001}'

SELECT * FROM files WHERE file_id = '00000000-0000-0000-0000-00000000000'

SELECT * FROM devices WHERE device_id = 4

SELECT * FROM devices WHERE device_id = 3000000000

SELECT * FROM accounts WHERE account_id = 10

SELECT * FROM plans WHERE id = 1

SELECT name FROM countries WHERE code = 'DE'

SELECT value FROM settings WHERE name = 'theme'

-- param: 3
SELECT * FROM tenants WHERE id = $1

-- param: NULL
SELECT * FROM tenants WHERE id = $1

-- param: 3
SELECT name, now() > '2020-01-01' FROM tenants WHERE id = $1

-- param: 2
-- param: 1
SELECT * FROM users WHERE tenant_id = $1 AND id = $2

-- param: 2
-- param: 1
SELECT name, now() IS NOT NULL FROM users WHERE id = $2 AND tenant_id = $1

-- param: 2
-- param: 1
SELECT score / $2::int4 FROM users WHERE tenant_id = $1 AND id = $2

-- param: 2
-- param: 1
-- param: user 1
SELECT count(*) FROM users WHERE tenant_id = $1 AND id = $2 AND name = $3

-- param: 2
-- param: 1
-- param: happy
SELECT item FROM orders WHERE tenant_id = $1 AND id = $2 AND status = $3

-- param: 2
-- param: 1
-- param: sour
SELECT item FROM orders WHERE tenant_id = $1 AND id = $2 AND status = $3

-- param: 00000000-0000-0000-0000-000000000001
SELECT path FROM files WHERE file_id = $1

-- param: nonsense
SELECT path FROM files WHERE file_id = $1

-- param: 1
-- param: 2
SELECT $2::int4 FROM plans WHERE id = $1
