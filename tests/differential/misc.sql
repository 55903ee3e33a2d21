-- Errors, functions, and what is refused.

SELECT nosuch FROM users ORDER BY 1

SELECT count(nosuch) FROM users

SELECT u.nosuch FROM users u JOIN orders o ON o.user_id = u.id

SELECT name FROM users, tenants

SELECT x.name FROM users u

SELECT sum(name) FROM users

SELECT nosuch(score) FROM users ORDER BY 1

SELECT 1 / (score - score) FROM users ORDER BY 1

SELECT sum(1 / (score - 5)) FROM users

SELECT name::int FROM users WHERE name = 'user 3' ORDER BY 1

SELECT count(*) FROM users WHERE name::int > 3

SELECT (SELECT id FROM users)

SELECT score FROM users UNION SELECT name FROM users

SELECT id, name FROM users UNION SELECT id FROM users

SELECT count(*) FROM users GROUP BY count(*)

SELECT max(max(score)) FROM users

SELECT score FROM users HAVING score > 1

SELECT DISTINCT name FROM users ORDER BY score

SELECT * FROM users ORDER BY 99

SELECT power(score, 100000) FROM users ORDER BY 1

SELECT count(*) FROM users WHERE now() > '2000-01-01'

SELECT now() = now(), count(*) FROM users

SELECT count(DISTINCT now()) FROM users

SELECT count(DISTINCT n) FROM (SELECT now() AS n FROM users) x

SELECT now() > '2000-01-01' AS later, current_date > '2000-01-01' AS day, name FROM users ORDER BY tenant_id, id

SELECT date_trunc('century', now())::date, (current_date - current_date), localtime = localtime FROM users LIMIT 5

SELECT pg_typeof(current_timestamp(2)), pg_typeof(current_date), pg_typeof(current_time(1)) FROM users LIMIT 1

SELECT pg_typeof(localtime), pg_typeof(localtimestamp(0)), pg_typeof(now()) FROM users LIMIT 1

SELECT 'today'::date = current_date, date 'tomorrow' - date 'yesterday', 'now'::timestamptz = now() FROM users LIMIT 3

SELECT seen < now() AS past, count(*), sum(score) FROM users GROUP BY 1 ORDER BY 1

SELECT seen < now(), count(*) FROM users GROUP BY seen < now() ORDER BY 1

SELECT CASE WHEN now() < '2000-01-01' THEN name ELSE 'x' END, extract(century FROM now()) FROM users LIMIT 2

SELECT u.name FROM users u, now() n WHERE n > u.seen ORDER BY 1, u.tenant_id, u.id LIMIT 5

SELECT name FROM users WHERE seen > now() - interval '400 years' AND seen < current_timestamp ORDER BY tenant_id, id LIMIT 7

SELECT DISTINCT now() IS NULL, extract(year FROM seen) FROM users ORDER BY 2 NULLS FIRST

SELECT count(*) FROM (SELECT now() AS a, id FROM users UNION SELECT now(), id FROM orders) x

SELECT count(DISTINCT clock_timestamp() > '2000-01-01') FROM users

SELECT count(*) FROM users WHERE random() >= 0

SELECT current_user, session_user, current_database() IS NOT NULL, count(*) FROM users

SELECT current_schema, count(*) FROM users

SELECT version() IS NOT NULL, count(*) FROM users

SELECT count(gen_random_uuid()) FROM users

SELECT sum(twice(score)) FROM users WHERE score < 1000

SELECT twice(score) FROM users WHERE score < 1000 ORDER BY 1

-- refused: function reads_users over several shards is not supported
SELECT reads_users(), count(*) FROM users

-- refused: function reads_users over several shards is not supported
SELECT count(*) FROM users WHERE reads_users() > 0

SELECT u FROM users u ORDER BY tenant_id, id

-- refused: a whole row of a table over several shards is not supported
SELECT array_agg(u) FROM users u

-- refused: system column ctid over several shards is not supported
SELECT ctid FROM users ORDER BY 1

-- refused: system column tableoid over several shards is not supported
SELECT tableoid::regclass, count(*) FROM events GROUP BY 1

-- refused: a join with a system catalog over several shards is not supported
SELECT count(*) FROM users, pg_class

-- refused: a join with a system catalog over several shards is not supported
SELECT count(*) FROM pg_class WHERE relname = (SELECT min(name) FROM users)

-- refused: FOR UPDATE or FOR SHARE over several shards is not supported
SELECT name FROM users FOR UPDATE

-- refused: FOR UPDATE or FOR SHARE over several shards is not supported
SELECT name FROM users ORDER BY name FOR SHARE

SELECT nextval('s') FROM users

-- refused: function pg_advisory_lock over several shards is not supported
SELECT pg_advisory_lock(id) FROM users

-- refused: function query_to_xml over several shards is not supported
SELECT query_to_xml('SELECT 1', true, true, '') FROM users

-- refused: set_config of app.x to what can't be told is not supported over several shards
SELECT set_config('app.x', name, false) FROM users

SELECT count(*) FROM nosuch, users

-- refused: TABLESAMPLE over several shards is not supported
SELECT count(*) FROM users TABLESAMPLE SYSTEM (50)

-- refused: DELETE of table "users" on several shards is not supported
WITH d AS (DELETE FROM users WHERE false RETURNING *) SELECT count(*) FROM d

SELECT name FROM users INTO t

SELECT pg_typeof(score), pg_typeof(name), pg_typeof(total) FROM users u JOIN orders o ON o.user_id = u.id LIMIT 1

SELECT to_char(seen, 'YYYY-MM-DD HH24:MI TZ') FROM users WHERE seen IS NOT NULL AND seen < 'infinity' AND seen > '-infinity' ORDER BY 1

SELECT age(born, '2000-01-01') FROM users WHERE born > '1990-01-01' AND born < '3000-01-01' ORDER BY 1

SELECT name ~ '^user', count(*) FROM users GROUP BY 1 ORDER BY 1

SELECT coalesce(email, 'none'), count(*) FROM users WHERE id < 100 GROUP BY 1 ORDER BY 1

SELECT nullif(plan_id, 1), greatest(score, plan_id), least(score, plan_id) FROM users ORDER BY tenant_id, id

SELECT doc->>'n', doc #>> '{list,0}', count(*) FROM users GROUP BY 1, 2 ORDER BY 1, 2

SELECT doc FROM users WHERE doc ? 'n' ORDER BY doc

SELECT jsonb_path_query_first(doc, '$.list[0]') FROM users ORDER BY tenant_id, id

SELECT md5(string_agg(name, ',' ORDER BY tenant_id, id)) FROM users

SELECT name LIKE 'u%' AS u, sum(length(name)) FROM users GROUP BY u ORDER BY u

SELECT count(*) FROM users WHERE (tenant_id, id) > (5, 3)

SELECT count(*) FROM users WHERE tags && ARRAY['a'] OR tags IS NULL

SELECT count(*) FROM users WHERE at BETWEEN '2023-06-01' AND '2023-07-01'

SELECT count(*) FROM users WHERE ratio = 'NaN' OR ratio > 1e10

SELECT count(*) FROM orders WHERE total = 'NaN'

SELECT TRUE FROM users WHERE tenant_id = 10 UNION ALL SELECT count(*) > 1 FROM users

SELECT DISTINCT ON (plan_id) now() > 'infinity', plan_id FROM users ORDER BY plan_id

SELECT count(*) FROM users WHERE tenant_id = 'x'

SELECT count(*) FROM users WHERE name = 'é' AND tenant_id = '1x'

SELECT count(*) FROM users WHERE tenant_id IN (1, 'x')

SELECT count(*) FROM users WHERE tenant_id = ANY ('{1,x}')

SELECT count(*) FROM users WHERE tenant_id = ANY ('{1')

INSERT INTO users (tenant_id, id) VALUES ('99999999999999999999', 1)

-- once
SELECT count(*) FROM users WHERE name = $1

-- once
SELECT name FROM users u WHERE 'é' <> name AND tenant_id = $2 AND id > $1

-- once
UPDATE users SET name = $1

-- once
INSERT INTO users (tenant_id, id) VALUES ($1, 2)

-- once
INSERT INTO settings SELECT name, $1 FROM users
