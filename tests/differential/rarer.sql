-- Rarer forms, and several at once.

SELECT plan_id, active, count(*) FROM users GROUP BY GROUPING SETS ((plan_id, active), (plan_id), ()) HAVING count(*) > 10 ORDER BY 1, 2, 3

SELECT plan_id, score % 3, sum(score), grouping(plan_id) FROM users WHERE id < 10 GROUP BY ROLLUP (plan_id, score % 3) HAVING grouping(plan_id) = 0 OR sum(score) > 5 ORDER BY 1, 2, 3

SELECT coalesce(status::text, 'none'), count(*) FILTER (WHERE fee > 20), sum(total) FILTER (WHERE total <> 'NaN') FROM orders GROUP BY CUBE (1) ORDER BY 1, 2

SELECT tenant_id, grouping(tenant_id), count(*) FROM users GROUP BY GROUPING SETS (tenant_id, ()) ORDER BY 2, 1

SELECT plan_id, count(*) AS n, sum(count(*)) OVER (ORDER BY plan_id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM users GROUP BY plan_id ORDER BY 1

SELECT plan_id, sum(score) AS s, lag(sum(score)) OVER w, max(sum(score)) OVER w FROM users WHERE id < 10 GROUP BY plan_id WINDOW w AS (ORDER BY plan_id RANGE BETWEEN 2 PRECEDING AND CURRENT ROW) ORDER BY 1

SELECT tenant_id, id, sum(score) OVER (PARTITION BY tenant_id ORDER BY id ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW) FROM users WHERE id < 10 ORDER BY 1, 2

SELECT tenant_id, id, count(*) OVER (ORDER BY placed GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM orders WHERE placed > '2024-01-01' ORDER BY 1, 2 LIMIT 20

SELECT tenant_id, id, nth_value(id, 2) OVER (PARTITION BY plan_id ORDER BY tenant_id, id RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) FROM users ORDER BY 1, 2 LIMIT 20

SELECT tenant_id, id, sum(total) OVER (ORDER BY placed RANGE BETWEEN interval '2 hours' PRECEDING AND CURRENT ROW) FROM orders WHERE placed > '2024-01-01' ORDER BY 1, 2 LIMIT 20

SELECT p.id, l.name FROM plans p LEFT JOIN LATERAL (SELECT name FROM users u WHERE u.plan_id = p.id ORDER BY tenant_id, id LIMIT 2) l ON true ORDER BY p.id, l.name

SELECT u.tenant_id, u.id, l.total FROM users u CROSS JOIN LATERAL (SELECT total FROM orders o WHERE o.tenant_id = u.tenant_id ORDER BY total DESC NULLS LAST, o.id LIMIT 1) l WHERE u.id = 1 ORDER BY 1, 2

SELECT u.tenant_id, u.id, l.n FROM users u, LATERAL (SELECT count(*) AS n FROM orders o WHERE o.user_id = u.score) l WHERE u.id < 3 ORDER BY 1, 2

SELECT u.tenant_id, g FROM users u, LATERAL generate_series(u.id, u.id + 1) g WHERE u.id < 3 ORDER BY 1, 2

WITH RECURSIVE r AS (SELECT id, 1 AS depth FROM tenants WHERE id < 2 UNION ALL SELECT t.id, depth + 1 FROM tenants t JOIN r ON t.id = r.id + 4 WHERE depth < 5) SELECT depth, array_agg(id ORDER BY id) FROM r GROUP BY depth ORDER BY 1

WITH RECURSIVE walk (tenant_id, id, path) AS (SELECT tenant_id, id, ARRAY[id] FROM users WHERE id = 1 UNION ALL SELECT u.tenant_id, u.id, path || u.id FROM users u JOIN walk w ON u.tenant_id = w.tenant_id AND u.id = w.id + 1) SELECT tenant_id, max(array_length(path, 1)) FROM walk GROUP BY 1 ORDER BY 1

WITH RECURSIVE s AS (SELECT min(score) AS n FROM users WHERE score > 0 UNION ALL SELECT (SELECT min(score) FROM users WHERE score > s.n) FROM s WHERE n IS NOT NULL) SELECT n FROM s WHERE n IS NOT NULL ORDER BY 1

WITH a AS (SELECT tenant_id, id FROM users WHERE id = 1), b AS (SELECT * FROM a UNION ALL SELECT tenant_id, id FROM orders WHERE id = 1) SELECT tenant_id, count(*) FROM b GROUP BY 1 ORDER BY 1

((SELECT id FROM users ORDER BY id DESC LIMIT 3) UNION ALL (SELECT id FROM orders ORDER BY id LIMIT 2)) ORDER BY 1 LIMIT 4

(SELECT tenant_id FROM users EXCEPT SELECT tenant_id FROM orders) UNION (SELECT tenant_id FROM orders EXCEPT SELECT tenant_id FROM users) ORDER BY 1

SELECT * FROM ((SELECT tenant_id AS t FROM users) INTERSECT (SELECT tenant_id FROM notes) ORDER BY 1 LIMIT 5) x ORDER BY t DESC

(SELECT name FROM users WHERE id = 1 ORDER BY name COLLATE "C" LIMIT 4) UNION ALL (VALUES ('x'), (NULL)) ORDER BY 1 NULLS FIRST

SELECT DISTINCT ON (score % 3) score % 3, score, tenant_id, id FROM users WHERE id < 10 ORDER BY score % 3, score DESC NULLS LAST, tenant_id, id

SELECT DISTINCT ON (date_trunc('day', placed)) date_trunc('day', placed), tenant_id, id FROM orders ORDER BY date_trunc('day', placed) DESC NULLS LAST, tenant_id, id

SELECT DISTINCT ON (lower(strict_name), active) lower(strict_name), active, id FROM users ORDER BY 1, 2, 3, tenant_id

SELECT tenant_id, id, score FROM users ORDER BY score DESC NULLS LAST FETCH FIRST 5 ROWS WITH TIES

-- ties
SELECT score, count(*) FROM users GROUP BY score ORDER BY count(*) DESC FETCH FIRST 3 ROWS WITH TIES

SELECT fee FROM orders ORDER BY fee OFFSET 3 ROWS FETCH NEXT 7 ROWS WITH TIES

SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY score), percentile_disc(ARRAY[0.1, 0.9]) WITHIN GROUP (ORDER BY score), mode() WITHIN GROUP (ORDER BY plan_id) FROM users

SELECT plan_id, percentile_disc(0.5) WITHIN GROUP (ORDER BY name COLLATE "C") FROM users WHERE length(name) < 50 GROUP BY plan_id ORDER BY 1

SELECT rank(5) WITHIN GROUP (ORDER BY score), dense_rank(5) WITHIN GROUP (ORDER BY score) FROM users

SELECT plan_id, percentile_cont(0.25) WITHIN GROUP (ORDER BY span) FROM users WHERE tenant_id < 10 GROUP BY plan_id ORDER BY 1

SELECT t.id, (SELECT string_agg(name, ',' ORDER BY id) FROM users u WHERE u.tenant_id = t.id AND id < 3), (SELECT sum(total) FROM orders o WHERE o.tenant_id <> t.id AND total <> 'NaN') FROM tenants t ORDER BY 1

SELECT u.id, (SELECT max(o.id) FROM orders o WHERE o.user_id = u.id AND o.fee > (SELECT avg(fee) FROM orders p WHERE p.tenant_id = o.tenant_id)) FROM users u WHERE u.tenant_id = 3 OR u.tenant_id = 4 ORDER BY 1, 2

SELECT tenant_id, id FROM users u WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id AND o.tenant_id > u.tenant_id) ORDER BY 1, 2

SELECT id, a.plan_id, b.fee FROM (SELECT id, plan_id FROM users WHERE id < 9) a FULL JOIN (SELECT id, fee FROM orders WHERE fee > 50) b USING (id) ORDER BY 1, 2, 3

SELECT tenant_id, u.id, o.id FROM users u FULL JOIN orders o USING (tenant_id) WHERE u.id = 1 OR u.id IS NULL ORDER BY 1, 2, 3

SELECT * FROM (SELECT tenant_id, name FROM bots) b NATURAL FULL JOIN (SELECT tenant_id, name FROM app.users) a ORDER BY 1, 2

SELECT tenant_id, id FROM users WHERE (tenant_id, id) > (5, 3) ORDER BY tenant_id, id LIMIT 6

SELECT tenant_id, id FROM users WHERE (score, id) <= (SELECT max(score), 5 FROM users WHERE score < 100) ORDER BY 1, 2 LIMIT 30

SELECT count(*) FROM users WHERE ROW(plan_id, active) IS NOT DISTINCT FROM ROW(1, true)

SELECT count(*) FROM orders WHERE (tenant_id, user_id) IN (VALUES (1, 2), (3, 4), (NULL, 5))

SELECT plan_id, array_agg(DISTINCT score ORDER BY score DESC NULLS LAST) FROM users WHERE id < 10 GROUP BY plan_id ORDER BY 1

SELECT json_agg(json_build_object('t', tenant_id, 'n', name) ORDER BY tenant_id DESC, id) FROM users WHERE id = 2

SELECT jsonb_object_agg(tenant_id || '/' || id, doc) FROM users WHERE id < 3

SELECT active, string_agg(DISTINCT code, '') FROM users GROUP BY active ORDER BY 1

SELECT string_agg(DISTINCT name, ', ' ORDER BY name DESC) FROM tenants

SELECT array_agg(tags ORDER BY tenant_id, id) FROM users WHERE id = 3

SELECT bool_and(active), bool_or(active), every(score > -100), bit_or(plan_id), bit_and(plan_id) FROM users

-- float
SELECT corr(score, plan_id), regr_slope(score, plan_id), stddev_pop(score), var_samp(ratio) FROM users WHERE id < 10

SELECT sum(span), avg(span), min(span), max(span) FROM users WHERE tenant_id < 10

SELECT sum(span) FROM users

SELECT status, min(status) OVER (), max(status) OVER (PARTITION BY tenant_id % 2) FROM orders ORDER BY status DESC NULLS LAST, tenant_id, id LIMIT 9

SELECT status > 'sad', count(*) FROM orders GROUP BY 1 ORDER BY 1

-- text
SELECT enum_range(min(status), max(status)) FROM orders

SELECT max(ratio), min(ratio), count(ratio) FROM users

SELECT sum(huge), avg(huge) FROM users

SELECT ratio = 'NaN', ratio > 1e9, count(*) FROM users GROUP BY 1, 2 ORDER BY 1, 2

SELECT total FROM orders ORDER BY total DESC NULLS LAST, tenant_id, id LIMIT 3

SELECT placed AT TIME ZONE 'America/New_York' AS ny, date_trunc('day', placed, 'Asia/Tokyo') FROM orders ORDER BY placed NULLS LAST, tenant_id, id LIMIT 5

SELECT date_trunc('week', placed) AS week, count(*), min(placed), max(placed) FROM orders WHERE placed > '2000-01-01' GROUP BY 1 ORDER BY 1

SELECT extract(isodow FROM placed), count(*) FROM orders WHERE placed > '2000-01-01' GROUP BY 1 ORDER BY 1

SELECT to_char(placed, 'YYYY-MM-DD HH24:MI TZ'), count(*) FROM orders WHERE placed > '2000-01-01' GROUP BY 1 ORDER BY 1 LIMIT 5

SELECT age(timestamp '2024-05-01', at)::text, id FROM users WHERE id = 1 AND tenant_id < 9 ORDER BY at LIMIT 4

-- refused: FOR UPDATE or FOR SHARE over several shards is not supported
SELECT id, name FROM users WHERE id = 1 ORDER BY tenant_id FOR UPDATE

-- refused: FOR UPDATE or FOR SHARE over several shards is not supported
SELECT id FROM users FOR SHARE

SELECT u.name, v.label FROM users u JOIN (VALUES (1, 'one'), (2, 'two')) AS v (n, label) ON v.n = u.plan_id ORDER BY u.tenant_id, u.id LIMIT 9

SELECT v.n, count(u.id) FROM (VALUES (1), (7), (NULL)) AS v (n) LEFT JOIN users u ON u.plan_id = v.n GROUP BY v.n ORDER BY 1

SELECT tenant_id, count(*) FROM users WHERE tenant_id IS NULL GROUP BY 1

SELECT count(*) FROM users WHERE tenant_id = NULL OR tenant_id = 4

SELECT count(*) FROM users WHERE tenant_id NOT IN (1, 2, NULL)

SELECT count(*) FROM users WHERE tenant_id NOT IN (1, 2)

SELECT name FROM users ORDER BY tenant_id, id OFFSET 100000

SELECT name FROM users ORDER BY tenant_id, id LIMIT 0

SELECT count(*) FROM (SELECT 1 FROM users LIMIT 7 OFFSET 140) x

SELECT plan_id, count(*) FROM users GROUP BY plan_id ORDER BY plan_id OFFSET 2 LIMIT 2

-- param: 3
-- param: 2
SELECT plan_id, count(*) FROM users GROUP BY plan_id ORDER BY plan_id LIMIT $1 OFFSET $2

-- param: 4
SELECT DISTINCT plan_id FROM users ORDER BY plan_id LIMIT $1

-- param: 2
-- refused: this statement can't be routed
SELECT tenant_id, id FROM users ORDER BY score DESC NULLS LAST, tenant_id, id FETCH FIRST ($1) ROWS WITH TIES

-- param: 5
-- param: user%
SELECT u.tenant_id, max(o.total) FROM users u JOIN orders o ON o.user_id = u.id WHERE u.name LIKE $2 AND o.total <> 'NaN' GROUP BY 1 HAVING max(o.total) > $1 ORDER BY 1

-- param: 2024-03-02 00:00:00+00
SELECT count(*), max(placed) FROM orders WHERE placed < $1

-- param: {sad,ok}
SELECT status, count(*) FROM orders WHERE status::text = ANY ($1) GROUP BY status ORDER BY 1

-- param: 7
SELECT tenant_id, id, $1::int + id AS more FROM users ORDER BY tenant_id DESC, id LIMIT 3

-- param: x
SELECT $1 AS tag, tenant_id, id FROM users ORDER BY tenant_id, id LIMIT 2

SELECT id AS a, tenant_id AS id FROM users ORDER BY id, a LIMIT 5

SELECT name AS n, tenant_id, users.id AS i FROM users ORDER BY users.tenant_id DESC, i LIMIT 5

SELECT tenant_id, tenant_id, id FROM users ORDER BY 1, 3 LIMIT 4

SELECT tenant_id, id, id FROM users ORDER BY tenant_id, id LIMIT 4

SELECT *, tenant_id FROM notes ORDER BY tenant_id, id, body LIMIT 6

SELECT u.*, o.id FROM users u JOIN orders o ON o.tenant_id = u.tenant_id AND o.user_id = u.id ORDER BY u.tenant_id, o.id LIMIT 4

SELECT "id", "tenant_id" FROM "users" ORDER BY "tenant_id" ASC, "users"."id" DESC NULLS LAST LIMIT 3;

SELECT id, tenant_id FROM users ORDER BY tenant_id, id LIMIT 2 -- and no more

SELECT id, /* ORDER BY name */ tenant_id FROM users ORDER BY /* keys */ tenant_id, id

SELECT tenant_id, id, strict_name FROM users ORDER BY strict_name DESC NULLS LAST, tenant_id, id LIMIT 8

SELECT tenant_id, id, name FROM users WHERE name = 'user 3' ORDER BY tenant_id, id, nosuch

SELECT tenant_id, id, 1 / (id - 1) FROM users ORDER BY tenant_id, id

WITH x AS (SELECT 3 AS three) SELECT tenant_id, id FROM users WHERE plan_id = (SELECT 3) ORDER BY tenant_id, id LIMIT 3

SELECT tenant_id AS t, id FROM users WHERE id = 1 ORDER BY t DESC LIMIT 4 OFFSET 2

SELECT ratio, tenant_id, id FROM users WHERE tenant_id >= 10 ORDER BY ratio DESC, tenant_id, id

SELECT span, tenant_id, id FROM users ORDER BY span DESC NULLS FIRST, tenant_id DESC, id DESC LIMIT 20

SELECT small, half, uid, raw, id FROM users WHERE tenant_id < 10 AND id < 10 ORDER BY small DESC, half, uid LIMIT 12

SELECT raw, uid FROM users ORDER BY raw DESC NULLS LAST LIMIT 5

SELECT active, tenant_id, id FROM users ORDER BY active, tenant_id, id LIMIT 40

SELECT code, tenant_id, id FROM users ORDER BY tenant_id, id, code LIMIT 4

SELECT exists(SELECT 1 FROM users u JOIN orders o ON o.user_id = u.id + 1000), (SELECT count(*) > 3 FROM users)

SELECT CASE WHEN EXISTS (SELECT 1 FROM users WHERE name IS NULL) THEN 'some' ELSE 'none' END

SELECT count(*) FROM users u WHERE u.tenant_id IN (SELECT tenant_id FROM orders GROUP BY tenant_id HAVING sum(fee) > 300)

SELECT tenant_id, count(*) FROM (SELECT tenant_id, id FROM users UNION ALL SELECT tenant_id, id FROM orders UNION ALL SELECT tenant_id, id FROM bots) x GROUP BY tenant_id ORDER BY count(*) DESC, tenant_id LIMIT 5

SELECT sum(n) FROM (SELECT count(*) AS n FROM users GROUP BY tenant_id, plan_id HAVING count(*) > 1) x

SELECT max(n) - min(n) FROM (SELECT tenant_id, count(*) AS n FROM orders GROUP BY tenant_id) x

SELECT width_bucket(score, 0, 10, 5), count(*) FROM users GROUP BY 1 ORDER BY 1

SELECT name FROM users WHERE name SIMILAR TO 'user (1|2)%' GROUP BY name ORDER BY name LIMIT 4

SELECT tags[1], count(*) FROM users GROUP BY tags[1] ORDER BY 1

SELECT doc -> 'list' ->> 0 AS first, count(*) FROM users GROUP BY 1 ORDER BY 1 LIMIT 6

SELECT k, count(*) FROM users, jsonb_object_keys(doc) k GROUP BY k ORDER BY k

SELECT tenant_id, id, x FROM users, unnest(tags) WITH ORDINALITY AS t (x, n) ORDER BY 1, 2, n

SELECT count(*) FILTER (WHERE score > 3), count(DISTINCT plan_id) FILTER (WHERE active), sum(score) FILTER (WHERE false) FROM users

SELECT plan_id FROM users GROUP BY plan_id HAVING bool_and(score IS NOT NULL) ORDER BY plan_id

SELECT (count(*) * 100.0 / (SELECT count(*) FROM users))::numeric(5, 1) AS share, plan_id FROM users GROUP BY plan_id ORDER BY 2

-- refused: this statement can't be routed
SELECT xmlagg(xmlelement(name t, id) ORDER BY id)::text FROM tenants WHERE id < 4

-- refused: a whole row of a table over several shards is not supported
SELECT u FROM notes u ORDER BY tenant_id, id LIMIT 1

SELECT row(tenant_id, id) FROM users ORDER BY tenant_id, id LIMIT 2

SELECT about, (about).b FROM notes WHERE id < 3 ORDER BY id LIMIT 2

SELECT range_agg(int8range(id, id + 2)) FROM tenants WHERE id < 20

-- refused: TABLESAMPLE over several shards is not supported
SELECT tenant_id FROM users TABLESAMPLE BERNOULLI (100)

SELECT 1 FROM users LIMIT 1

SELECT FROM users WHERE id = 1

TABLE tenants ORDER BY id LIMIT 3

SELECT count(*) FROM ONLY events

SELECT any_value(x) FROM users u (x)

SELECT greatest(max(score), 7), least(min(score), 0), nullif(count(*), 0), coalesce(sum(score), 0) FROM users WHERE id < 10

SELECT 'today' AS date, id FROM users WHERE id < 4 ORDER BY id

SELECT DISTINCT CAST(now() AS date) - current_date AS days, score IS NULL FROM users ORDER BY 2

SELECT now() = now() AS one, ARRAY[id, 1, extract(year FROM now())::int - extract(year FROM current_timestamp)::int] FROM users WHERE id < 4 ORDER BY id
