-- Predicates on the sharding key, in all forms.

SELECT count(*) FROM users WHERE tenant_id = 1::bigint

SELECT count(*) FROM users WHERE tenant_id = 1::int2

SELECT count(*) FROM users WHERE tenant_id = 1::numeric

SELECT count(*) FROM users WHERE tenant_id = 1.0

SELECT count(*) FROM users WHERE tenant_id = 1.5

SELECT count(*) FROM users WHERE tenant_id = 1e0

SELECT count(*) FROM users WHERE tenant_id = '1'

SELECT count(*) FROM users WHERE tenant_id = ' 1 '

SELECT count(*) FROM users WHERE tenant_id = '1.0'

SELECT count(*) FROM users WHERE tenant_id = ''

SELECT count(*) FROM users WHERE tenant_id = '1'::text

SELECT count(*) FROM users WHERE tenant_id::text = '1'

SELECT count(*) FROM users WHERE tenant_id = CAST('1' AS int)

SELECT count(*) FROM users WHERE tenant_id = int8 '1'

SELECT count(*) FROM users WHERE tenant_id = bigint '1'

SELECT count(*) FROM users WHERE 1 = tenant_id

SELECT count(*) FROM users WHERE tenant_id IN (1,1,2)

SELECT count(*) FROM users WHERE tenant_id IN (1, '2', 3.0)

SELECT count(*) FROM users WHERE tenant_id = ANY('{1,2}')

SELECT count(*) FROM users WHERE tenant_id = ANY('{1,NULL,2}')

SELECT count(*) FROM users WHERE tenant_id = ANY('{{1,2},{3,4}}')

SELECT count(*) FROM users WHERE tenant_id = ANY(ARRAY[1,2]::int[])

SELECT count(*) FROM users WHERE tenant_id = ANY(ARRAY[1,2]::numeric[])

SELECT count(*) FROM users WHERE tenant_id = ANY(ARRAY[]::int[])

SELECT count(*) FROM users WHERE tenant_id = ANY(NULL)

SELECT count(*) FROM users WHERE tenant_id = ALL('{1}')

SELECT count(*) FROM users WHERE tenant_id = ALL('{}')

SELECT count(*) FROM users WHERE tenant_id = ALL('{1,2}')

SELECT count(*) FROM users WHERE tenant_id <> ALL('{1,2}')

-- refused: this statement can't be routed
SELECT count(*) FROM users WHERE tenant_id = SOME(VALUES (1),(2))

SELECT count(*) FROM users WHERE (tenant_id, id) = (1, 2)

SELECT count(*) FROM users WHERE (tenant_id, id) IN ((1, 2), (2, 3))

SELECT count(*) FROM users WHERE (tenant_id, id) IN ((1, 2))

SELECT count(*) FROM users WHERE (id, tenant_id) = ANY (SELECT 2::bigint, 1::bigint)

SELECT count(*) FROM users WHERE ROW(tenant_id, id) = ROW(1, 2)

SELECT count(*) FROM users WHERE (tenant_id, id) IS NOT DISTINCT FROM (1, 2)

SELECT count(*) FROM users WHERE tenant_id IS NOT DISTINCT FROM 1

SELECT count(*) FROM users WHERE NOT tenant_id IS DISTINCT FROM 1

SELECT count(*) FROM users WHERE NOT (tenant_id <> 1)

SELECT count(*) FROM users WHERE NOT (tenant_id = 1)

SELECT count(*) FROM users WHERE NOT (tenant_id <> 1 AND tenant_id <> 2)

SELECT count(*) FROM users WHERE (tenant_id = 1) = true

SELECT count(*) FROM users WHERE (tenant_id = 1) IS TRUE

SELECT count(*) FROM users WHERE (tenant_id = 1) IS NOT TRUE

SELECT count(*) FROM users WHERE (tenant_id = 1) IS FALSE

SELECT count(*) FROM users WHERE (tenant_id = 1) IS NOT FALSE

SELECT count(*) FROM users WHERE (tenant_id = 1) IS UNKNOWN

SELECT count(*) FROM users WHERE (tenant_id = 1) <> (score = 2)

SELECT count(*) FROM users WHERE tenant_id = 1 OR tenant_id = 2

SELECT count(*) FROM users WHERE tenant_id = 1 OR score = 2

SELECT count(*) FROM users WHERE tenant_id = 1 OR NULL

SELECT count(*) FROM users WHERE tenant_id = 1 OR false

SELECT count(*) FROM users WHERE tenant_id = 1 OR true

SELECT count(*) FROM users WHERE tenant_id = 1 AND true

SELECT count(*) FROM users WHERE tenant_id = 1 AND tenant_id = 2

SELECT count(*) FROM users WHERE tenant_id = 1 AND (tenant_id = 2 OR score > 0)

SELECT count(*) FROM users WHERE tenant_id + 0 = 1

SELECT count(*) FROM users WHERE tenant_id = 0 + 1

SELECT count(*) FROM users WHERE tenant_id = 2 - 1

SELECT count(*) FROM users WHERE tenant_id = - -1

SELECT count(*) FROM users WHERE tenant_id = +1

SELECT count(*) FROM users WHERE tenant_id = abs(-1)

SELECT count(*) FROM users WHERE -tenant_id = -1

SELECT count(*) FROM users WHERE tenant_id = 9223372036854775807

SELECT count(*) FROM users WHERE tenant_id = 9223372036854775808

SELECT count(*) FROM users WHERE tenant_id = '9223372036854775808'

SELECT count(*) FROM users WHERE tenant_id = -9223372036854775808

SELECT count(*) FROM users WHERE tenant_id = 99999999999999999999999

SELECT count(*) FROM notes WHERE tenant_id = 2147483648

SELECT count(*) FROM notes WHERE tenant_id = '2147483648'

SELECT count(*) FROM notes WHERE tenant_id = 4294967297

SELECT count(*) FROM smalls WHERE tenant_id = 65537

SELECT count(*) FROM smalls WHERE tenant_id = -3

SELECT count(*) FROM smalls WHERE tenant_id = '-3'

SELECT count(*) FROM smalls WHERE tenant_id IN (-3, -2, 40000)

SELECT count(*) FROM users WHERE tenant_id BETWEEN 1 AND 1

SELECT count(*) FROM users WHERE tenant_id BETWEEN 2 AND 1

SELECT count(*) FROM users WHERE tenant_id BETWEEN SYMMETRIC 2 AND 1

SELECT count(*) FROM users WHERE tenant_id NOT BETWEEN SYMMETRIC 2 AND 1

SELECT count(*) FROM users WHERE tenant_id >= 1 AND tenant_id <= 1

SELECT count(*) FROM users WHERE tenant_id > 0 AND tenant_id < 2

SELECT count(*) FROM users WHERE tenant_id > 0.5 AND tenant_id < 1.5

SELECT count(*) FROM users WHERE CASE WHEN true THEN tenant_id = 1 END

SELECT count(*) FROM users WHERE CASE tenant_id WHEN 1 THEN true ELSE score = 3 END

SELECT count(*) FROM users WHERE tenant_id = CASE WHEN id > 3 THEN 1 ELSE 2 END

SELECT count(*) FROM users WHERE COALESCE(tenant_id, 5) = 1

SELECT count(*) FROM users WHERE COALESCE(tenant_id = 1, false)

SELECT count(*) FROM users WHERE tenant_id = COALESCE(NULL, 1)

SELECT count(*) FROM users WHERE NULLIF(tenant_id, 2) = 1

SELECT count(*) FROM users WHERE tenant_id = NULLIF(1, 2)

SELECT count(*) FROM users WHERE tenant_id = (SELECT 1)

SELECT count(*) FROM users WHERE tenant_id = (1)

SELECT count(*) FROM users WHERE tenant_id = ((1::bigint))

SELECT count(*) FROM users WHERE tenant_id IN (SELECT 1 UNION SELECT 2)

SELECT count(*) FROM users WHERE tenant_id IN (VALUES (1), (2))

SELECT count(*) FROM users WHERE tenant_id = least(1, 2)

SELECT count(*) FROM users WHERE tenant_id = greatest(tenant_id, 1)

SELECT count(*) FROM users WHERE tenant_id OPERATOR(pg_catalog.=) 1

SELECT count(*) FROM users WHERE tenant_id = 1 AND NOT EXISTS (SELECT 1 FROM orders WHERE tenant_id = 2 AND orders.user_id = users.id)

SELECT count(*) FROM users WHERE EXISTS (SELECT 1 WHERE users.tenant_id = 1)

SELECT u.tenant_id, u.id, o.id FROM users u LEFT JOIN orders o ON o.tenant_id = u.tenant_id AND o.id = u.id AND u.tenant_id = 1 WHERE u.id < 3 ORDER BY 1, 2, 3

SELECT u.tenant_id, u.id, o.id FROM users u LEFT JOIN orders o ON o.tenant_id = u.tenant_id AND o.id = u.id AND o.tenant_id = 1 WHERE u.id < 3 ORDER BY 1, 2, 3

SELECT u.tenant_id, u.id, o.id FROM users u RIGHT JOIN orders o ON o.tenant_id = u.tenant_id AND o.id = u.id AND o.tenant_id = 1 WHERE o.id < 3 ORDER BY o.tenant_id, 1, 2, 3

SELECT u.tenant_id, u.id, o.id FROM users u LEFT JOIN orders o ON o.tenant_id = u.tenant_id AND o.id = u.id WHERE o.tenant_id = 1 ORDER BY 1, 2, 3

SELECT u.tenant_id, o.tenant_id FROM users u FULL JOIN orders o ON o.tenant_id = u.tenant_id AND o.id = u.id AND o.tenant_id = 1 WHERE u.tenant_id = 1 ORDER BY 1, 2

SELECT tenant_id, count(*) FROM users LEFT JOIN orders USING (tenant_id) WHERE tenant_id = 1 GROUP BY 1

SELECT tenant_id, count(*) FROM users RIGHT JOIN orders USING (tenant_id) WHERE tenant_id = 11 GROUP BY 1

SELECT tenant_id, count(*) FROM users FULL JOIN orders USING (tenant_id) WHERE tenant_id = 11 GROUP BY 1

SELECT tenant_id, count(*) FROM users FULL JOIN orders USING (tenant_id, id) WHERE users.tenant_id IS NULL GROUP BY 1 ORDER BY 1

SELECT count(*) FROM users u JOIN orders o USING (tenant_id) JOIN notes n USING (tenant_id) WHERE n.tenant_id = 3

SELECT count(*) FROM users u JOIN orders o USING (tenant_id) WHERE tenant_id = 3

SELECT count(*) FROM users u JOIN tenants t ON t.id = u.tenant_id WHERE t.name = 'tenant 3'

SELECT count(*) FROM users u, tenants t WHERE t.id = u.tenant_id AND t.id = 3

SELECT count(*) FROM users WHERE tenant_id = (SELECT id FROM tenants WHERE name = 'tenant 3')

SELECT count(*) FROM users WHERE tenant_id IN (SELECT id FROM tenants WHERE id = 3)

SELECT count(*) FROM users WHERE tenant_id IN (SELECT id FROM tenants WHERE id = 3 OR name = 'tenant 4')

SELECT name FROM users WHERE tenant_id = 1 UNION ALL SELECT item FROM orders WHERE tenant_id = 2 ORDER BY 1

SELECT name FROM users WHERE tenant_id = 1 UNION SELECT name FROM users WHERE tenant_id = 4 ORDER BY 1

SELECT name FROM users WHERE tenant_id = 1 EXCEPT SELECT name FROM users WHERE tenant_id = 2 ORDER BY 1

SELECT t.id, (SELECT count(*) FROM users u WHERE u.tenant_id = t.id) FROM tenants t WHERE t.id IN (1, 2, 3) ORDER BY 1

SELECT t.id, (SELECT count(*) FROM users u WHERE u.tenant_id = t.plan_id) FROM tenants t WHERE t.id = 1

SELECT (SELECT count(*) FROM users u WHERE u.tenant_id = x.n) FROM (VALUES (1), (2)) x (n)

SELECT x.n, count(u.id) FROM (VALUES (1), (2), (50)) x (n) LEFT JOIN users u ON u.tenant_id = x.n GROUP BY 1 ORDER BY 1

SELECT g, count(u.id) FROM generate_series(1, 3) g LEFT JOIN users u ON u.tenant_id = g GROUP BY 1 ORDER BY 1

WITH k AS MATERIALIZED (SELECT 1::bigint AS t) SELECT count(*) FROM users, k WHERE tenant_id = k.t

WITH k (t) AS (VALUES (1), (2)) SELECT count(*) FROM users WHERE tenant_id IN (SELECT t FROM k)

WITH k AS NOT MATERIALIZED (SELECT * FROM users) SELECT count(*) FROM k WHERE tenant_id = 1

WITH k AS MATERIALIZED (SELECT * FROM users) SELECT count(*) FROM k WHERE tenant_id = 1

WITH k AS MATERIALIZED (SELECT * FROM users LIMIT 3) SELECT count(*) <= 3 FROM k WHERE tenant_id = 1

SELECT count(*) FROM (SELECT * FROM users ORDER BY tenant_id, id LIMIT 10) x WHERE tenant_id = 1

SELECT count(*) FROM (SELECT DISTINCT ON (score) * FROM users ORDER BY score, tenant_id, id) x WHERE tenant_id = 1

SELECT count(*) FROM (SELECT *, row_number() OVER (ORDER BY tenant_id, id) r FROM users) x WHERE tenant_id = 1 AND r < 10

SELECT r FROM (SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY id) r FROM users) x WHERE tenant_id = 1 ORDER BY r

SELECT * FROM (SELECT tenant_id + 1 AS tenant_id, id FROM users) x WHERE tenant_id = 1 ORDER BY 2

SELECT * FROM (SELECT id AS tenant_id, tenant_id AS id FROM users) x WHERE tenant_id = 1 ORDER BY 2

SELECT count(*) FROM v_renamed WHERE t = 1

SELECT count(*) FROM v_renamed WHERE u = 1

SELECT * FROM v_barrier WHERE t = 3 AND u < 7 ORDER BY u

SELECT * FROM v_on_view WHERE t = 3

SELECT * FROM v_on_view ORDER BY t

SELECT count(*), min(kind), max(kind) FROM v_union WHERE tenant_id = 4

SELECT kind, count(*) FROM v_union GROUP BY 1 ORDER BY 1

SELECT count(*) FROM v_top WHERE tenant_id = 3

SELECT count(*) FROM "Odd Table" WHERE tenant_id = 1

SELECT count(*) FROM "Odd Table" WHERE tenant_id = 1::key_id

SELECT * FROM "Odd Table" WHERE "tenant_id" IN (1, 2) ORDER BY tenant_id, "Select" DESC

SELECT "a""b", "ünï", "x y" ->> 't' FROM "Odd Table" o WHERE o."Select" = 2 ORDER BY o.tenant_id

SELECT count(*) FROM base WHERE tenant_id = 1

SELECT count(*) FROM ONLY base

-- refused: system column tableoid over several shards is not supported
SELECT v, tableoid::regclass::text FROM base ORDER BY tenant_id, k, v

-- refused: this statement can't be routed
SELECT * FROM base* ORDER BY tenant_id, k, v LIMIT 5

SELECT * FROM derived WHERE tenant_id IN (0, 1) ORDER BY tenant_id, k

SELECT title FROM docs WHERE owner = 'alice' ORDER BY n

SELECT title FROM docs WHERE owner = 'alice'::text ORDER BY n

SELECT title FROM docs WHERE owner = 'alice'::varchar(3) ORDER BY n

SELECT title FROM docs WHERE owner = 'bob  '::varchar ORDER BY n

SELECT title FROM docs WHERE owner = 'bob'::char(10) ORDER BY n

SELECT title FROM docs WHERE owner = 'bob '::char(10) ORDER BY n

SELECT title FROM docs WHERE owner = 'bob' ORDER BY n

SELECT title FROM docs WHERE owner = 'bob ' ORDER BY n

SELECT title FROM docs WHERE owner = 'bob'::name ORDER BY n

SELECT title FROM docs WHERE owner = E'back\\slash' ORDER BY n

SELECT title FROM docs WHERE owner = 'O''Neil' ORDER BY n

SELECT title FROM docs WHERE owner = $$O'Neil$$ ORDER BY n

SELECT title FROM docs WHERE owner = U&'\00e9ric' ORDER BY n

-- refused: this statement can't be routed
SELECT title FROM docs WHERE owner = U&'!00e9ric' UESCAPE '!' ORDER BY n

SELECT title FROM docs WHERE owner = 'ali' 
'ce' ORDER BY n

SELECT title FROM docs WHERE owner = '' ORDER BY n

SELECT title FROM docs WHERE owner COLLATE "C" = 'alice' ORDER BY n

SELECT title FROM docs WHERE owner = 'alice' COLLATE "C" ORDER BY n

SELECT title FROM docs WHERE owner = 'alice' COLLATE "de-x-icu" ORDER BY n

SELECT title FROM docs WHERE owner LIKE 'ali%' ORDER BY owner, n

SELECT title FROM docs WHERE owner LIKE 'alice' ORDER BY owner, n

SELECT title FROM docs WHERE owner ILIKE 'alice' ORDER BY owner, n

SELECT title FROM docs WHERE lower(owner) = 'alice' ORDER BY owner, n

SELECT title FROM docs WHERE owner = lower('ALICE') ORDER BY owner, n

SELECT title FROM docs WHERE owner = 'ali' || 'ce' ORDER BY owner, n

SELECT title FROM docs WHERE owner = 1 ORDER BY n

SELECT title FROM docs WHERE owner = 1::text ORDER BY n

SELECT title FROM docs WHERE owner = '1' ORDER BY n

SELECT title FROM docs WHERE owner = true::text ORDER BY n

SELECT title FROM docs WHERE owner ~ '^alice$' ORDER BY n

SELECT title FROM docs WHERE owner >= 'alice' AND owner <= 'alice' ORDER BY n

SELECT title FROM docs WHERE owner IN ('alice', 'bob') ORDER BY owner, n

SELECT title FROM docs WHERE owner = ANY('{alice,"bob "}') ORDER BY owner, n

SELECT title FROM docs WHERE owner = ANY(ARRAY['alice','bob ']::char(5)[]) ORDER BY owner, n

SELECT title FROM docs WHERE owner = ANY(string_to_array('alice,bob', ',')) ORDER BY owner, n

SELECT count(*) FROM docs WHERE NOT owner = 'alice'

SELECT body FROM pages WHERE owner = 'alice' ORDER BY page

SELECT body FROM pages WHERE owner = 'alice'::owner_name ORDER BY page

SELECT d.title, p.body FROM docs d JOIN pages p USING (owner) WHERE d.n = 1 ORDER BY owner, page

SELECT d.title, p.body FROM docs d LEFT JOIN pages p USING (owner) WHERE owner = 'dave' ORDER BY n, page

SELECT owner, count(*) FROM docs NATURAL JOIN pages GROUP BY owner ORDER BY owner

SELECT path FROM files WHERE file_id = md5('f1')::uuid

SELECT path FROM files WHERE file_id = '8b8e0f5b-0000-0000-0000-000000000000'

SELECT path FROM files WHERE file_id = 'not a uuid'

SELECT path FROM files WHERE file_id = 'BD19836D-DB62-C11C-55AB-251CCAC5645F'

SELECT path FROM files WHERE file_id = 'bd19836ddb62c11c55ab251ccac5645f'

SELECT path FROM files WHERE file_id = '{bd19836d-db62-c11c-55ab-251ccac5645f}'

SELECT path FROM files WHERE file_id = '{bd19836ddb62c11c55ab251ccac5645f}'

SELECT path FROM files WHERE file_id = 'bd19-836d-db62-c11c-55ab-251c-cac5-645f'

SELECT path FROM files WHERE file_id = uuid 'BD19836DDB62C11C55AB251CCAC5645F'

SELECT path FROM files WHERE file_id = 'bd19836d-db62-c11c-55ab-251ccac5645f'::text

SELECT path FROM files WHERE file_id::text = 'bd19836d-db62-c11c-55ab-251ccac5645f'

SELECT path FROM files WHERE file_id = ' bd19836d-db62-c11c-55ab-251ccac5645f'

SELECT path FROM files WHERE file_id IN ('bd19836d-db62-c11c-55ab-251ccac5645f', '{BD19836D-DB62-C11C-55AB-251CCAC5645F}')

SELECT name FROM accounts WHERE account_id = 9 OR account_id = 10 ORDER BY account_id

SELECT name FROM accounts WHERE account_id BETWEEN 8 AND 11 ORDER BY account_id

SELECT name FROM accounts WHERE account_id > 9 AND account_id < 11 ORDER BY account_id

SELECT name FROM accounts WHERE account_id < -3 ORDER BY account_id

SELECT name FROM accounts WHERE account_id <= 9.5 AND account_id > 8.5 ORDER BY account_id

SELECT name FROM accounts WHERE account_id >= 24.5 AND account_id < '26' ORDER BY account_id

SELECT name FROM accounts WHERE account_id > 99999999999 ORDER BY account_id

SELECT name FROM accounts WHERE account_id < 99999999999 AND account_id > 38 ORDER BY account_id

SELECT name FROM accounts WHERE NOT account_id < 39 ORDER BY account_id

SELECT name FROM accounts WHERE NOT (account_id < 39 OR account_id > 39) ORDER BY account_id

SELECT name FROM accounts WHERE account_id <@ int4range(8, 12) ORDER BY account_id

SELECT name FROM accounts WHERE int4range(8, 12) @> account_id ORDER BY account_id

SELECT name FROM accounts WHERE (account_id, name) < (-3, 'b') ORDER BY account_id

SELECT name FROM accounts WHERE (account_id, name) >= (9, 'acc 3') AND (account_id, name) <= (10, 'acc 4') ORDER BY account_id

SELECT name FROM accounts WHERE account_id >= ALL (ARRAY[38, 39]) ORDER BY account_id

SELECT name FROM accounts WHERE account_id < ANY (ARRAY[-3, -4]) ORDER BY account_id

SELECT name FROM accounts WHERE account_id = 10 - 1 ORDER BY account_id

SELECT name FROM accounts WHERE account_id - 1 = 9 ORDER BY account_id

SELECT max(account_id) FROM accounts WHERE account_id <= 24

SELECT account_id FROM accounts WHERE account_id > 20 ORDER BY account_id LIMIT 7

SELECT a.account_id, count(m.id) FROM accounts a LEFT JOIN moves m USING (account_id) WHERE account_id BETWEEN 5 AND 12 GROUP BY 1 ORDER BY 1

SELECT count(*) FROM accounts a JOIN moves m ON m.account_id = a.account_id AND m.account_id < 5

-- param: 1
SELECT count(*) FROM users WHERE tenant_id = $1

-- param: 1
SELECT count(*) FROM users WHERE tenant_id = $1::int

-- param: 1
SELECT count(*) FROM users WHERE tenant_id = $1::numeric

-- param: 1.5
SELECT count(*) FROM users WHERE tenant_id = $1::numeric

-- param: 1
SELECT count(*) FROM users WHERE tenant_id = $1::text::bigint

-- param: NULL
SELECT count(*) FROM users WHERE tenant_id = $1

-- param: {1,2}
SELECT count(*) FROM users WHERE tenant_id = ANY($1::int[])

-- param: [0:1]={1,2}
SELECT count(*) FROM users WHERE tenant_id = ANY($1)

-- param: 1
-- param: 0
SELECT count(*) FROM users WHERE tenant_id = $1 + $2

-- param: 1
SELECT count(*) FROM users WHERE tenant_id = $1 AND tenant_id = $1

-- param: 1
-- param: 2
SELECT count(*) FROM users WHERE tenant_id = $1 AND tenant_id = $2

-- param: 1
-- param: 2
SELECT count(*) FROM users WHERE tenant_id BETWEEN $1 AND $2

-- param: alice
SELECT title FROM docs WHERE owner = $1 ORDER BY n

-- param: bob 
SELECT title FROM docs WHERE owner = $1 ORDER BY n

-- param: bob 
SELECT title FROM docs WHERE owner = $1::char(6) ORDER BY n

-- param: alice
SELECT title FROM docs WHERE owner = $1::varchar(3) ORDER BY n

-- param: {BD19836D-DB62-C11C-55AB-251CCAC5645F}
SELECT path FROM files WHERE file_id = $1

-- param:  1
SELECT count(*) FROM users WHERE tenant_id = $1

-- param: x
SELECT count(*) FROM users WHERE tenant_id = $1

-- param: 99999999999999999999
SELECT count(*) FROM users WHERE tenant_id = $1

-- param: 1
SELECT $1, count(*) FROM users WHERE tenant_id = $1

-- param: 1
SELECT count(*) FROM users WHERE tenant_id = $1 OR ($1 IS NULL)

-- param: NULL
SELECT count(*) FROM users WHERE tenant_id = $1 OR ($1 IS NULL)

-- param: NULL
SELECT count(*) FROM users WHERE ($1::bigint IS NULL OR tenant_id = $1)

-- param: 2
SELECT count(*) FROM users WHERE ($1::bigint IS NULL OR tenant_id = $1)

-- param: NULL
SELECT count(*) FROM users WHERE tenant_id = COALESCE($1, tenant_id)

-- param: 3
SELECT count(*) FROM users WHERE tenant_id = COALESCE($1, tenant_id)

-- param: true
-- param: 2
SELECT count(*) FROM users WHERE CASE WHEN $1 THEN tenant_id = $2 ELSE true END
