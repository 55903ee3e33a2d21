-- ORDER BY, LIMIT, OFFSET, FETCH.

SELECT tenant_id, id, tenant_id FROM users ORDER BY tenant_id, tenant_id, id

SELECT tenant_id FROM users ORDER BY tenant_id DESC, tenant_id DESC, id LIMIT 3 OFFSET 0

SELECT tenant_id, id, id FROM users ORDER BY id DESC, tenant_id, id

SELECT id FROM users ORDER BY id, tenant_id DESC, id LIMIT 4 OFFSET 1

SELECT tenant_id, id, name FROM users ORDER BY name NULLS FIRST, tenant_id, id

SELECT name FROM users ORDER BY name DESC NULLS LAST, tenant_id DESC, id LIMIT 5 OFFSET 2

SELECT tenant_id, id, email FROM users ORDER BY email DESC NULLS LAST, tenant_id, id

SELECT email FROM users ORDER BY email NULLS FIRST, tenant_id DESC, id LIMIT 6 OFFSET 3

SELECT tenant_id, id, plan_id FROM users ORDER BY plan_id, tenant_id, id

SELECT plan_id FROM users ORDER BY plan_id DESC, tenant_id DESC, id LIMIT 7 OFFSET 4

SELECT tenant_id, id, score FROM users ORDER BY score DESC, tenant_id, id

SELECT score FROM users ORDER BY score, tenant_id DESC, id LIMIT 8 OFFSET 0

SELECT tenant_id, id, ratio FROM users ORDER BY ratio NULLS FIRST, tenant_id, id

SELECT ratio FROM users ORDER BY ratio DESC NULLS LAST, tenant_id DESC, id LIMIT 9 OFFSET 1

SELECT tenant_id, id, balance FROM users ORDER BY balance DESC NULLS LAST, tenant_id, id

SELECT balance FROM users ORDER BY balance NULLS FIRST, tenant_id DESC, id LIMIT 10 OFFSET 2

SELECT tenant_id, id, huge FROM users ORDER BY huge, tenant_id, id

SELECT huge FROM users ORDER BY huge DESC, tenant_id DESC, id LIMIT 11 OFFSET 3

SELECT tenant_id, id, active FROM users ORDER BY active DESC, tenant_id, id

SELECT active FROM users ORDER BY active, tenant_id DESC, id LIMIT 12 OFFSET 4

SELECT tenant_id, id, born FROM users ORDER BY born NULLS FIRST, tenant_id, id

SELECT born FROM users ORDER BY born DESC NULLS LAST, tenant_id DESC, id LIMIT 13 OFFSET 0

SELECT tenant_id, id, seen FROM users ORDER BY seen DESC NULLS LAST, tenant_id, id

SELECT seen FROM users ORDER BY seen NULLS FIRST, tenant_id DESC, id LIMIT 14 OFFSET 1

SELECT tenant_id, id, at FROM users ORDER BY at, tenant_id, id

SELECT at FROM users ORDER BY at DESC, tenant_id DESC, id LIMIT 15 OFFSET 2

SELECT tenant_id, id, tags FROM users ORDER BY tags DESC, tenant_id, id

SELECT tags FROM users ORDER BY tags, tenant_id DESC, id LIMIT 16 OFFSET 3

SELECT tenant_id, id, doc FROM users ORDER BY doc NULLS FIRST, tenant_id, id

SELECT doc FROM users ORDER BY doc DESC NULLS LAST, tenant_id DESC, id LIMIT 17 OFFSET 4

SELECT tenant_id, id, uid FROM users ORDER BY uid DESC NULLS LAST, tenant_id, id

SELECT uid FROM users ORDER BY uid NULLS FIRST, tenant_id DESC, id LIMIT 18 OFFSET 0

SELECT tenant_id, id, raw FROM users ORDER BY raw, tenant_id, id

SELECT raw FROM users ORDER BY raw DESC, tenant_id DESC, id LIMIT 19 OFFSET 1

SELECT tenant_id, id, span FROM users ORDER BY span DESC, tenant_id, id

SELECT span FROM users ORDER BY span, tenant_id DESC, id LIMIT 20 OFFSET 2

SELECT tenant_id, id, small FROM users ORDER BY small NULLS FIRST, tenant_id, id

SELECT small FROM users ORDER BY small DESC NULLS LAST, tenant_id DESC, id LIMIT 21 OFFSET 3

SELECT tenant_id, id, half FROM users ORDER BY half DESC NULLS LAST, tenant_id, id

SELECT half FROM users ORDER BY half NULLS FIRST, tenant_id DESC, id LIMIT 22 OFFSET 4

SELECT tenant_id, id, code FROM users ORDER BY code, tenant_id, id

SELECT code FROM users ORDER BY code DESC, tenant_id DESC, id LIMIT 23 OFFSET 0

SELECT tenant_id, id, strict_name FROM users ORDER BY strict_name DESC, tenant_id, id

SELECT strict_name FROM users ORDER BY strict_name, tenant_id DESC, id LIMIT 24 OFFSET 1

SELECT tenant_id, id, german FROM users ORDER BY german NULLS FIRST, tenant_id, id

SELECT german FROM users ORDER BY german DESC NULLS LAST, tenant_id DESC, id LIMIT 25 OFFSET 2

SELECT * FROM users ORDER BY tenant_id, id

SELECT * FROM users WHERE tenant_id IN (1, 2, 6) ORDER BY tenant_id DESC, id DESC

SELECT * FROM orders ORDER BY placed NULLS FIRST, tenant_id, id LIMIT 10

SELECT id, name FROM users ORDER BY length(name), name, tenant_id, id LIMIT 12

SELECT name AS id FROM users ORDER BY id, tenant_id, users.id LIMIT 5

SELECT tenant_id AS a, id AS b FROM users ORDER BY a DESC, b LIMIT 4

SELECT id, tenant_id FROM users ORDER BY 2, 1 FETCH FIRST 3 ROWS ONLY

SELECT id, tenant_id FROM users ORDER BY 2, 1 OFFSET 5 ROWS FETCH NEXT 2 ROWS ONLY

SELECT score FROM users ORDER BY score DESC NULLS LAST FETCH FIRST 3 ROWS WITH TIES

SELECT tenant_id, id FROM users ORDER BY tenant_id, id LIMIT ALL

SELECT tenant_id, id FROM users ORDER BY tenant_id, id LIMIT NULL OFFSET 130

SELECT tenant_id, id FROM users ORDER BY tenant_id, id LIMIT 0

SELECT tenant_id, id FROM users ORDER BY tenant_id, id OFFSET 100000

SELECT tenant_id, id FROM users ORDER BY tenant_id, id LIMIT -1

SELECT tenant_id, id FROM users ORDER BY tenant_id, id OFFSET -1

SELECT tenant_id, id FROM users ORDER BY tenant_id, id LIMIT 2 + 3 OFFSET 1 + 1

SELECT tenant_id, id FROM users ORDER BY tenant_id, id LIMIT (SELECT max(id) FROM plans)

SELECT tenant_id, id FROM users ORDER BY -tenant_id, id LIMIT 5

SELECT tenant_id, id, score + 1 FROM users WHERE score < 100 ORDER BY score + 1, 1, 2 LIMIT 5

SELECT tenant_id, id FROM users ORDER BY tenant_id USING >, id LIMIT 5

SELECT u.tenant_id, u.id, p.name FROM users u LEFT JOIN plans p ON p.id = u.plan_id ORDER BY p.name NULLS FIRST, 1, 2 LIMIT 15

SELECT u.id, o.id FROM users u JOIN orders o ON o.tenant_id = u.tenant_id AND o.user_id = u.id ORDER BY u.tenant_id, u.id, o.id

SELECT name FROM users ORDER BY name COLLATE "C", tenant_id, id LIMIT 20

SELECT name COLLATE "C" AS n FROM users ORDER BY n DESC, tenant_id, id LIMIT 20

SELECT strict_name FROM users ORDER BY strict_name COLLATE "de-x-icu", tenant_id, id

SELECT tenant_id, id FROM users WHERE tenant_id > 5 ORDER BY random() * 0, tenant_id, id LIMIT 3

SELECT count(*) FROM (SELECT * FROM users LIMIT 5) x

SELECT count(*) FROM (SELECT * FROM users OFFSET 5) x

SELECT * FROM (SELECT tenant_id, id FROM users ORDER BY tenant_id, id LIMIT 5) x ORDER BY id, tenant_id

SELECT * FROM (SELECT tenant_id, id FROM users ORDER BY tenant_id DESC, id LIMIT 5) x

SELECT id, tenant_id FROM tenants ORDER BY id

SELECT * FROM tenants ORDER BY since, id

SELECT * FROM tenants ORDER BY id LIMIT 3

SELECT * FROM events ORDER BY day, tenant_id, kind, weight LIMIT 20

TABLE events

TABLE events ORDER BY day, tenant_id, kind, weight

SELECT * FROM ONLY events

SELECT * FROM ONLY events_new ORDER BY day, tenant_id, kind, weight

SELECT * FROM events_old ORDER BY day DESC, tenant_id, kind, weight

SELECT * FROM bots ORDER BY id

SELECT * FROM devices ORDER BY device_id DESC LIMIT 4

SELECT * FROM empties ORDER BY n

-- text
SELECT * FROM notes ORDER BY id, tenant_id, body

-- text
SELECT about FROM notes WHERE about IS NOT NULL ORDER BY about

SELECT (about).a FROM notes WHERE about IS NOT NULL ORDER BY 1

SELECT * FROM app.users ORDER BY tenant_id

SELECT tenant_id, id FROM users ORDER BY tenant_id, id LIMIT 9223372036854775807 OFFSET 3

SELECT tenant_id, id FROM users ORDER BY tenant_id, id LIMIT 9223372036854775807 OFFSET 9223372036854775807

SELECT tenant_id, id FROM users ORDER BY tenant_id, id LIMIT 1 OFFSET 9223372036854775808

SELECT tenant_id, id FROM users ORDER BY tenant_id, id LIMIT 9223372036854775808 OFFSET 1

SELECT tenant_id FROM users ORDER BY tenant_id OFFSET 1 FETCH FIRST 9223372036854775807 ROWS WITH TIES

SELECT german FROM users ORDER BY german, tenant_id, id LIMIT 9223372036854775807 OFFSET 3
