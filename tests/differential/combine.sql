-- One table: WHERE, sorting and adding up are done by the shards beforehand.

SELECT u.plan_id, count(*) FROM users u WHERE u.score > 3 GROUP BY u.plan_id ORDER BY count(*) DESC, u.plan_id

SELECT plan_id p, count(*) c, sum(score) + 1, avg(score) * 2 x FROM users WHERE score < 100000 GROUP BY p ORDER BY c, p

SELECT count(*) n, max(strict_name) AS m FROM users WHERE name IS DISTINCT FROM 'user 4'

SELECT score IS DISTINCT FROM 3 AS d, count(*) FROM users GROUP BY d ORDER BY d

SELECT CASE WHEN count(*) > 15 THEN 'many' END FROM users GROUP BY plan_id ORDER BY 1

SELECT CASE WHEN count(*) > 15 THEN 'many' ELSE max(strict_name) END x FROM users GROUP BY plan_id ORDER BY 1

SELECT count(*) AS from FROM users

SELECT count(*) "Count", sum(score) "a b" FROM users WHERE score < 100

SELECT sum(score) FROM users WHERE score < 1000 GROUP BY ()

SELECT 1 FROM users GROUP BY 1

SELECT 1 FROM empties GROUP BY 1

SELECT count(*) FROM empties GROUP BY label

SELECT count(*) FROM users GROUP BY tenant_id % 2, plan_id

SELECT plan_id, sum(score) FILTER (WHERE active) AS a, avg(balance) FROM users GROUP BY plan_id HAVING avg(balance) > 10 AND count(DISTINCT name) > 3 ORDER BY avg(balance) DESC

SELECT avg(span), sum(span) FROM users WHERE tenant_id < 10

SELECT avg(huge), sum(huge), avg(balance), sum(balance) FROM users WHERE tenant_id < 10

SELECT avg(huge), sum(huge) FROM users

SELECT avg(tenant_id), avg(small), avg(id), sum(small), sum(id) FROM users

SELECT status, avg(total), sum(total), avg(fee), sum(fee), avg(qty) FROM orders WHERE total <> 'NaN' GROUP BY status ORDER BY status

-- float
SELECT avg(ratio), sum(ratio), avg(ratio) FILTER (WHERE score > 4) FROM users WHERE tenant_id < 10

SELECT avg(score) FROM users WHERE score > 1000000000000

SELECT sum(tenant_id * 1000000000000000000) FROM users

SELECT sum(score) OVER (), count(*) OVER () FROM users WHERE score = 5 ORDER BY 1

SELECT name, count(*) AS name FROM users WHERE tenant_id = 3 OR tenant_id = 4 GROUP BY 1 ORDER BY 1

SELECT name, count(*) AS name FROM users GROUP BY users.name ORDER BY name

SELECT length(name) AS score, count(*) FROM users GROUP BY score ORDER BY 2, 1

SELECT length(strict_name) AS score, count(*) FROM users GROUP BY length(strict_name) ORDER BY score

SELECT DISTINCT count(*) FROM users GROUP BY plan_id ORDER BY 1

SELECT count(*), max(c) FROM users AS u (a, b, c) WHERE b = 3

SELECT count(*) FROM users AS u (a, b) GROUP BY a ORDER BY 1

SELECT coalesce(max(score), 0) AS "x y", 'a -- b' AS c FROM users -- said

SELECT /* c */ count( /* d */ * ) /* e */ FROM users

SELECT Count(*), "users".Plan_ID FROM USERS Group  By "users".plan_id ORDER BY 2

SELECT pg_catalog.count(*) FROM users

SELECT "count"(*) FROM users

SELECT count(ALL score), sum(ALL plan_id) FROM users

SELECT count(*) FROM users WHERE name = E'quote \' and \\ and " and tab\t'

SELECT count(*) FROM users WHERE name = $$user 4$$ OR name = 'a' 'b'

SELECT max(ARRAY[score, plan_id]), min((tenant_id, id)::text) FROM users

SELECT count(*) + (SELECT 1) FROM users

SELECT (count(*))::text || '!' FROM users

SELECT -count(*), not bool_and(active), count(*) BETWEEN 1 AND 1000, count(*) IN (148) FROM users

SELECT plan_id, count(*) FILTER (WHERE name LIKE 'u%') AS u, count(name) FILTER (WHERE score IN (1, 2, 3)) FROM users GROUP BY plan_id ORDER BY plan_id

SELECT min(name), max(name), min(german), max(german), min(email), max(code) FROM users WHERE tenant_id < 10

SELECT min(doc ->> 'n'), max(tags), min(status), max(about) FROM users, orders, notes WHERE false

SELECT min(status), max(status), max(placed), min(item) FROM orders

SELECT to_char(max(seen), 'YYYY') FROM users WHERE seen < '2030-01-01'

SELECT count(*) FROM users u WHERE u.tenant_id = u.id

SELECT u FROM (SELECT count(*) AS u FROM users) x

SELECT tenant_id, count(*), max(name) FROM users GROUP BY tenant_id HAVING max(score) > 5 ORDER BY 1

SELECT t.country, array_length(array_agg(t.id), 1) FROM tenants t GROUP BY t.country ORDER BY 1

SELECT user_id, sum(fee) total FROM orders GROUP BY user_id ORDER BY total DESC, user_id LIMIT 4 OFFSET 1

SELECT date_trunc('day', placed) d, count(*) FROM orders WHERE placed BETWEEN '2024-03-02' AND '2024-03-06' GROUP BY d ORDER BY d

SELECT -id AS id FROM users ORDER BY id, tenant_id LIMIT 3

SELECT tenant_id AS id, id AS tenant_id FROM users ORDER BY tenant_id DESC, id DESC LIMIT 5

SELECT id FROM users ORDER BY users.tenant_id DESC, id LIMIT 3

SELECT id, upper(name) FROM users WHERE length(name) < 20 ORDER BY upper(name), tenant_id, users.id LIMIT 10

SELECT id FROM users ORDER BY tenant_id, id LIMIT 3::int

SELECT id FROM users ORDER BY tenant_id, id OFFSET 2 LIMIT 3

SELECT name AS n FROM users ORDER BY n, tenant_id, id LIMIT 5

SELECT count(*) FROM users WHERE score > 5 LIMIT 1

SELECT score FROM users WHERE score IS NOT NULL AND tenant_id > 3 ORDER BY score DESC, tenant_id, id LIMIT 4

SELECT * FROM orders WHERE status = 'happy' AND total > 20 AND total <> 'NaN' ORDER BY total DESC, tenant_id, id LIMIT 6

SELECT * FROM events WHERE kind = 'buy' ORDER BY day DESC, tenant_id, weight LIMIT 8

SELECT count(*) FROM bots WHERE id < 5

SELECT name, count(*) FROM bots GROUP BY name HAVING count(*) > 1 ORDER BY 1

SELECT * FROM bots ORDER BY id LIMIT 3

-- param: 3
-- param: user 4
-- param: 2
SELECT plan_id, count(*) FROM users WHERE score > $1 AND name <> $2 GROUP BY plan_id HAVING count(*) > $3 ORDER BY 1

-- param: 3
SELECT count(*) FROM users WHERE score > $1 OR plan_id = $1

-- param: quote ' and \ and " and tab	
SELECT count(*) FROM users WHERE name = $1

-- param: NULL
SELECT count(*), max(score) FROM users WHERE score = $1

-- param: 3
SELECT sum(score) FILTER (WHERE score < $1), max(name) FROM users WHERE tenant_id < 9

-- param: 2
-- param: 1
SELECT tenant_id, id FROM users WHERE score > 2 ORDER BY tenant_id DESC, id LIMIT $1 OFFSET $2

-- param: 7
SELECT $1::int + count(*) FROM users

-- param: 7
-- param: x
SELECT count(*) FROM users WHERE score > $1::int AND name > $2::text

-- param: {a}
SELECT count(*) FROM users WHERE tags @> $1

-- param: 99999999999999999999
SELECT count(*) FROM users WHERE score < $1

-- param: 2024-03-03
SELECT status, count(*) FROM orders WHERE placed > $1 GROUP BY status ORDER BY status
