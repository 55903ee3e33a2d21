-- Statements that need rows of several shards at once.

SELECT count(*) FROM users

SELECT count(*), sum(score), min(name), max(born), avg(balance) FROM users

SELECT u.name, o.item FROM users u JOIN orders o ON o.user_id = u.id ORDER BY u.tenant_id, u.id, o.tenant_id, o.id LIMIT 20

SELECT status, count(*) FROM orders GROUP BY status ORDER BY status

SELECT * FROM users ORDER BY tenant_id, id

SELECT * FROM users ORDER BY tenant_id DESC, id LIMIT 7 OFFSET 3

SELECT * FROM v_counts ORDER BY tenant

SELECT * FROM v_status ORDER BY status

SELECT * FROM v_nested ORDER BY 1, 2

-- ties
SELECT * FROM v_joined ORDER BY name

SELECT * FROM v_top

SELECT DISTINCT name FROM users

SELECT nosuch FROM users ORDER BY 1

SELECT 1 / (score - score) FROM users ORDER BY 1

-- param: 3
SELECT count(*) FROM users WHERE score > $1

-- text
SELECT array_agg(status ORDER BY id, tenant_id) FROM orders

SELECT u FROM users u ORDER BY tenant_id, id

SELECT public.users.name FROM public.users, orders WHERE orders.user_id = public.users.id AND public.users.tenant_id = 3

SELECT a.body, s.value FROM archive a, settings s ORDER BY a.id, s.name

SELECT count(*) FROM bots

-- refused: function reads_users over several shards is not supported
SELECT reads_users(), count(*) FROM users

SELECT tenant_id, id, name, row_number() OVER (ORDER BY tenant_id, id) FROM users ORDER BY 1, 2

TABLE plans

TABLE notes ORDER BY id, tenant_id

WITH RECURSIVE r (id) AS (SELECT min(id) FROM users UNION ALL SELECT id + 1 FROM r WHERE id < 5) SELECT r.id, count(u.id) FROM r LEFT JOIN users u ON u.id = r.id GROUP BY r.id ORDER BY 1
