-- Rows of several shards in order: every type, every direction, LIMIT and OFFSET.

SELECT tenant_id, id, name FROM users ORDER BY name, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY name DESC NULLS LAST, id DESC, tenant_id LIMIT 7 OFFSET 0

SELECT name FROM users ORDER BY 1 NULLS FIRST OFFSET 0 ROWS FETCH NEXT 5 ROWS ONLY

SELECT tenant_id, id, email FROM users ORDER BY email, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY email DESC NULLS LAST, id DESC, tenant_id LIMIT 8 OFFSET 1

SELECT email FROM users ORDER BY 1 NULLS FIRST OFFSET 1 ROWS FETCH NEXT 6 ROWS ONLY

SELECT tenant_id, id, plan_id FROM users ORDER BY plan_id, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY plan_id DESC NULLS LAST, id DESC, tenant_id LIMIT 9 OFFSET 2

SELECT plan_id FROM users ORDER BY 1 NULLS FIRST OFFSET 2 ROWS FETCH NEXT 7 ROWS ONLY

SELECT tenant_id, id, score FROM users ORDER BY score, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY score DESC NULLS LAST, id DESC, tenant_id LIMIT 10 OFFSET 3

SELECT score FROM users ORDER BY 1 NULLS FIRST OFFSET 3 ROWS FETCH NEXT 5 ROWS ONLY

SELECT tenant_id, id, ratio FROM users ORDER BY ratio, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY ratio DESC NULLS LAST, id DESC, tenant_id LIMIT 11 OFFSET 0

SELECT ratio FROM users ORDER BY 1 NULLS FIRST OFFSET 4 ROWS FETCH NEXT 6 ROWS ONLY

SELECT tenant_id, id, balance FROM users ORDER BY balance, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY balance DESC NULLS LAST, id DESC, tenant_id LIMIT 12 OFFSET 1

SELECT balance FROM users ORDER BY 1 NULLS FIRST OFFSET 5 ROWS FETCH NEXT 7 ROWS ONLY

SELECT tenant_id, id, huge FROM users ORDER BY huge, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY huge DESC NULLS LAST, id DESC, tenant_id LIMIT 13 OFFSET 2

SELECT huge::text FROM users ORDER BY huge NULLS FIRST, tenant_id, id OFFSET 0 ROWS FETCH NEXT 5 ROWS ONLY

SELECT tenant_id, id, active FROM users ORDER BY active, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY active DESC NULLS LAST, id DESC, tenant_id LIMIT 14 OFFSET 3

SELECT active FROM users ORDER BY 1 NULLS FIRST OFFSET 1 ROWS FETCH NEXT 6 ROWS ONLY

SELECT tenant_id, id, born FROM users ORDER BY born, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY born DESC NULLS LAST, id DESC, tenant_id LIMIT 15 OFFSET 0

SELECT born FROM users ORDER BY 1 NULLS FIRST OFFSET 2 ROWS FETCH NEXT 7 ROWS ONLY

SELECT tenant_id, id, seen FROM users ORDER BY seen, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY seen DESC NULLS LAST, id DESC, tenant_id LIMIT 16 OFFSET 1

SELECT seen FROM users ORDER BY 1 NULLS FIRST OFFSET 3 ROWS FETCH NEXT 5 ROWS ONLY

SELECT tenant_id, id, at FROM users ORDER BY at, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY at DESC NULLS LAST, id DESC, tenant_id LIMIT 17 OFFSET 2

SELECT at FROM users ORDER BY 1 NULLS FIRST OFFSET 4 ROWS FETCH NEXT 6 ROWS ONLY

SELECT tenant_id, id, uid FROM users ORDER BY uid, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY uid DESC NULLS LAST, id DESC, tenant_id LIMIT 18 OFFSET 3

SELECT uid FROM users ORDER BY 1 NULLS FIRST OFFSET 5 ROWS FETCH NEXT 7 ROWS ONLY

SELECT tenant_id, id, raw FROM users ORDER BY raw, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY raw DESC NULLS LAST, id DESC, tenant_id LIMIT 19 OFFSET 0

SELECT raw FROM users ORDER BY 1 NULLS FIRST OFFSET 0 ROWS FETCH NEXT 5 ROWS ONLY

SELECT tenant_id, id, span FROM users ORDER BY span, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY span DESC NULLS LAST, id DESC, tenant_id LIMIT 20 OFFSET 1

SELECT span::text FROM users ORDER BY span NULLS FIRST, tenant_id, id OFFSET 1 ROWS FETCH NEXT 6 ROWS ONLY

SELECT tenant_id, id, small FROM users ORDER BY small, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY small DESC NULLS LAST, id DESC, tenant_id LIMIT 21 OFFSET 2

SELECT small FROM users ORDER BY 1 NULLS FIRST OFFSET 2 ROWS FETCH NEXT 7 ROWS ONLY

SELECT tenant_id, id, half FROM users ORDER BY half, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY half DESC NULLS LAST, id DESC, tenant_id LIMIT 22 OFFSET 3

SELECT half FROM users ORDER BY 1 NULLS FIRST OFFSET 3 ROWS FETCH NEXT 5 ROWS ONLY

SELECT tenant_id, id, code FROM users ORDER BY code, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY code DESC NULLS LAST, id DESC, tenant_id LIMIT 23 OFFSET 0

SELECT code::text FROM users ORDER BY code NULLS FIRST, tenant_id, id OFFSET 4 ROWS FETCH NEXT 6 ROWS ONLY

SELECT tenant_id, id, strict_name FROM users ORDER BY strict_name, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY strict_name DESC NULLS LAST, id DESC, tenant_id LIMIT 24 OFFSET 1

SELECT strict_name FROM users ORDER BY 1 NULLS FIRST OFFSET 5 ROWS FETCH NEXT 7 ROWS ONLY

SELECT tenant_id, id, german FROM users ORDER BY german, tenant_id, id

SELECT tenant_id, id FROM users ORDER BY german DESC NULLS LAST, id DESC, tenant_id LIMIT 25 OFFSET 2

SELECT german FROM users ORDER BY 1 NULLS FIRST OFFSET 0 ROWS FETCH NEXT 5 ROWS ONLY

SELECT score FROM users ORDER BY score FETCH FIRST 3 ROWS WITH TIES

SELECT active FROM users ORDER BY active DESC OFFSET 4 FETCH FIRST 1 ROW WITH TIES

SELECT score + 1 AS s, tenant_id AS t, id FROM users ORDER BY s DESC, t, id

SELECT * FROM users ORDER BY tenant_id DESC, id DESC LIMIT 4

SELECT u.*, p.price FROM users u JOIN plans p ON p.id = u.plan_id ORDER BY p.price, u.tenant_id, u.id

SELECT u.name, o.total FROM users u LEFT JOIN orders o ON o.tenant_id = u.tenant_id AND o.user_id = u.id ORDER BY u.tenant_id, u.id, o.id LIMIT 20

SELECT id FROM users ORDER BY tenant_id * 100 + id DESC LIMIT 9

SELECT lower(name) AS l, tenant_id, id FROM users ORDER BY lower(name), 2, 3

SELECT tenant_id, id, status FROM orders ORDER BY status, tenant_id, id

SELECT tenant_id, id, fee, qty FROM orders ORDER BY fee DESC NULLS FIRST, qty, tenant_id, id LIMIT 25

SELECT n::text, f, s::text, c, m FROM twins ORDER BY f, n, s, tenant_id, t

-- ties
SELECT f FROM twins ORDER BY f DESC NULLS LAST

SELECT tenant_id, day, kind FROM events ORDER BY day DESC, tenant_id, kind, weight LIMIT 30

SELECT device_id, model FROM devices ORDER BY device_id DESC

SELECT n FROM empties ORDER BY n

SELECT v.name, v.score FROM v_users v ORDER BY v.tenant_id, v.id LIMIT 5 OFFSET 2

WITH x AS (SELECT tenant_id, id, score FROM users WHERE score > 2) SELECT * FROM x ORDER BY score, tenant_id, id

SELECT x.s FROM (SELECT tenant_id, id, score AS s FROM users) x ORDER BY x.s NULLS FIRST, x.tenant_id, x.id

SELECT DISTINCT tenant_id FROM users ORDER BY tenant_id DESC

SELECT name FROM users ORDER BY nosuch

SELECT name FROM users ORDER BY 7

SELECT name FROM users ORDER BY 'x'

SELECT name FROM users ORDER BY id LIMIT -1

SELECT tenant_id, id, 'x' AS label FROM users ORDER BY label, tenant_id, id LIMIT 3

SELECT tenant_id, id FROM users ORDER BY (score IS NULL), score DESC, tenant_id, id LIMIT 12

SELECT tenant_id, id FROM users ORDER BY CASE WHEN active THEN 0 ELSE 1 END, id, tenant_id

SELECT id AS tenant_id, tenant_id AS id FROM users ORDER BY tenant_id, id

SELECT tenant_id, id FROM users WHERE tenant_id IN (1, 2, 5) ORDER BY 1, 2

-- param: 3
-- param: 2
SELECT tenant_id, id FROM users ORDER BY score DESC NULLS LAST, tenant_id, id LIMIT $1 OFFSET $2

-- param: 4
SELECT tenant_id, id, score + $1 AS s FROM users ORDER BY s, tenant_id, id

-- param: 4
SELECT tenant_id, id FROM users WHERE score > $1 ORDER BY born NULLS FIRST, tenant_id, id FETCH FIRST 5 ROWS ONLY

SELECT tenant_id, id, length(body) FROM notes ORDER BY id, tenant_id, body

SELECT count(*), name FROM users GROUP BY name ORDER BY 1 DESC, 2 LIMIT 3

SELECT FROM users ORDER BY id, tenant_id LIMIT 7
