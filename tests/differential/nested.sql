-- Sub-selects, CTEs, set operations, windows.

SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM orders)

SELECT (SELECT max(score) FROM users) AS top

SELECT tenant_id, id FROM users WHERE score = (SELECT max(score) FROM users) ORDER BY 1, 2

SELECT tenant_id, id FROM users WHERE score > (SELECT avg(score) FROM users) ORDER BY 1, 2

SELECT tenant_id, id FROM users u WHERE score >= (SELECT max(score) FROM users v WHERE v.plan_id = u.plan_id) ORDER BY 1, 2

SELECT tenant_id, id, (SELECT count(*) FROM orders o WHERE o.user_id = u.id) FROM users u ORDER BY 1, 2 LIMIT 10

SELECT tenant_id, id, (SELECT count(*) FROM orders o WHERE o.tenant_id = u.tenant_id) FROM users u ORDER BY 1, 2 LIMIT 10

SELECT name, (SELECT name FROM plans p WHERE p.id = u.plan_id) FROM users u ORDER BY u.tenant_id, u.id LIMIT 10

SELECT id, (SELECT name FROM users WHERE plan_id = p.id ORDER BY tenant_id, id LIMIT 1) FROM plans p ORDER BY 1

SELECT id, (SELECT name FROM users WHERE plan_id = p.id) FROM plans p ORDER BY 1

SELECT EXISTS (SELECT FROM users WHERE score > 1000000)

SELECT EXISTS (SELECT FROM users WHERE score < -1000000000000)

SELECT name FROM users WHERE (tenant_id, id) IN (SELECT tenant_id, user_id FROM orders) ORDER BY tenant_id, id LIMIT 10

SELECT name FROM users WHERE (plan_id, id) IN (SELECT plan_id, id FROM tenants) ORDER BY tenant_id, id LIMIT 10

SELECT tenant_id, id FROM users WHERE score > ALL (SELECT fee FROM orders WHERE fee < 5) AND score < 100 ORDER BY 1, 2

SELECT tenant_id, id FROM users WHERE score = ANY (SELECT fee FROM orders) ORDER BY 1, 2

SELECT ARRAY(SELECT id FROM tenants ORDER BY id)

SELECT t.id FROM tenants t WHERE (SELECT count(*) FROM users u WHERE u.tenant_id = t.id) > 6 ORDER BY 1

WITH u AS (SELECT * FROM users) SELECT count(*) FROM u

WITH u AS (SELECT * FROM users WHERE score > 3) SELECT a.tenant_id, count(*) FROM u a JOIN u b ON a.id = b.id GROUP BY 1 ORDER BY 1

WITH u AS MATERIALIZED (SELECT * FROM users ORDER BY tenant_id, id LIMIT 5) SELECT name FROM u ORDER BY tenant_id, id

WITH a AS (SELECT tenant_id, count(*) AS n FROM users GROUP BY tenant_id), b AS (SELECT max(n) AS m FROM a) SELECT tenant_id FROM a, b WHERE n = m

WITH users AS (SELECT 1 AS id) SELECT * FROM users, tenants WHERE tenants.id = users.id

WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < (SELECT count(*) FROM plans)) SELECT n, (SELECT count(*) FROM users WHERE plan_id = n) FROM r ORDER BY n

WITH RECURSIVE r AS (SELECT id, plan_id FROM tenants WHERE id = 1 UNION SELECT t.id, t.plan_id FROM tenants t JOIN r ON t.id = r.plan_id + r.id) SELECT * FROM r ORDER BY id

WITH RECURSIVE chain AS (SELECT tenant_id, id, score, 1 AS depth FROM users WHERE tenant_id = 1 AND id = 2 UNION ALL SELECT u.tenant_id, u.id, u.score, depth + 1 FROM users u JOIN chain c ON u.tenant_id = c.score AND u.id = c.id + 1 WHERE depth < 5) SELECT * FROM chain ORDER BY depth, tenant_id, id

WITH x AS (SELECT 1 AS one) SELECT count(*) FROM users, x

WITH unused AS (SELECT count(*) FROM users) SELECT count(*) FROM orders

SELECT tenant_id FROM users UNION SELECT id FROM tenants ORDER BY 1

SELECT id FROM users UNION ALL SELECT id FROM orders ORDER BY 1

SELECT id FROM users UNION ALL SELECT id FROM orders

SELECT id FROM users INTERSECT SELECT id FROM orders ORDER BY 1

SELECT id FROM orders EXCEPT SELECT plan_id FROM users ORDER BY 1

SELECT score FROM users INTERSECT ALL SELECT fee FROM orders ORDER BY 1

SELECT fee FROM orders EXCEPT ALL SELECT score FROM users ORDER BY 1

SELECT name FROM users UNION SELECT name FROM plans UNION SELECT name FROM tenants ORDER BY 1

(SELECT tenant_id, id FROM users ORDER BY 1, 2 LIMIT 3) UNION ALL (SELECT tenant_id, id FROM orders ORDER BY 1 DESC, 2 DESC LIMIT 3)

(SELECT id FROM users UNION SELECT id FROM orders) EXCEPT SELECT id FROM plans ORDER BY 1

SELECT 'a' AS kind, count(*) FROM users UNION ALL SELECT 'b', count(*) FROM orders ORDER BY 1

SELECT name FROM users WHERE tenant_id = 1 UNION ALL SELECT name FROM users WHERE tenant_id = 2 ORDER BY 1

SELECT id FROM users UNION SELECT 1000 ORDER BY 1 DESC LIMIT 3

SELECT count(*) FROM (SELECT id FROM users UNION SELECT id FROM orders) x

SELECT x.id FROM (SELECT id, name FROM users UNION ALL SELECT id, item FROM orders) x WHERE x.name LIKE '%1' ORDER BY 1

VALUES ((SELECT count(*) FROM users)), (1)

SELECT row_number() OVER (ORDER BY tenant_id, id), tenant_id, id FROM users ORDER BY 1

SELECT tenant_id, id, rank() OVER (ORDER BY score DESC NULLS LAST) FROM users ORDER BY 3, 1, 2

SELECT tenant_id, id, rank() OVER (PARTITION BY plan_id ORDER BY score, tenant_id, id) FROM users ORDER BY 1, 2

SELECT tenant_id, id, row_number() OVER (PARTITION BY tenant_id ORDER BY id) FROM users ORDER BY 1, 2

SELECT tenant_id, id, lag(name) OVER w, lead(score, 2, 0) OVER w FROM users WINDOW w AS (ORDER BY tenant_id, id) ORDER BY 1, 2

SELECT tenant_id, id, sum(score) OVER (ORDER BY tenant_id, id) FROM users ORDER BY 1, 2

SELECT tenant_id, id, sum(score) OVER (ORDER BY tenant_id, id ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) FROM users ORDER BY 1, 2

SELECT tenant_id, id, count(*) OVER (), first_value(name) OVER (ORDER BY tenant_id, id), ntile(4) OVER (ORDER BY tenant_id, id) FROM users ORDER BY 1, 2

SELECT DISTINCT count(*) OVER (PARTITION BY plan_id) FROM users ORDER BY 1

SELECT * FROM (SELECT tenant_id, id, score, row_number() OVER (PARTITION BY plan_id ORDER BY score DESC NULLS LAST, tenant_id, id) AS r FROM users) x WHERE r <= 2 ORDER BY 1, 2

SELECT plan_id, count(*), sum(count(*)) OVER (ORDER BY plan_id) FROM users GROUP BY plan_id ORDER BY 1

SELECT percent_rank() OVER (ORDER BY tenant_id, id), cume_dist() OVER (ORDER BY tenant_id, id) FROM users ORDER BY 1

SELECT generate_series(1, 3), id FROM tenants ORDER BY 2, 1

SELECT unnest(tags) AS tag, count(*) FROM users GROUP BY 1 ORDER BY 1

SELECT tenant_id, unnest(ARRAY[1, 2]) FROM users WHERE id = 1 ORDER BY 1, 2

SELECT tenant_id, regexp_matches(name, '(\d+)') FROM users WHERE id = 1 ORDER BY 1
