-- Joins across keys.

SELECT u.name, o.item FROM users u JOIN orders o ON o.user_id = u.id ORDER BY u.tenant_id, u.id, o.tenant_id, o.id LIMIT 30

SELECT count(*) FROM users u JOIN orders o ON o.user_id = u.id

SELECT count(*) FROM users u, orders o

SELECT count(*) FROM users u CROSS JOIN plans p

SELECT a.name, count(*) FROM users a JOIN users b ON a.score = b.score GROUP BY a.name ORDER BY 1

SELECT a.tenant_id, b.tenant_id, count(*) FROM users a JOIN users b ON a.id = b.id AND a.tenant_id < b.tenant_id GROUP BY 1, 2 ORDER BY 1, 2

SELECT u.tenant_id, u.id, o.id FROM users u LEFT JOIN orders o ON o.user_id = u.score AND o.item = 'item 1' ORDER BY 1, 2, o.tenant_id, 3

SELECT count(*), count(u.id), count(o.id) FROM users u FULL JOIN orders o ON o.user_id = u.id AND o.tenant_id = u.tenant_id

SELECT count(*), count(u.id), count(o.id) FROM users u FULL JOIN orders o ON o.fee = u.score

SELECT count(*), count(u.id) FROM users u RIGHT JOIN orders o ON o.fee = u.score

SELECT p.name, u.name FROM plans p LEFT JOIN users u ON u.plan_id = p.id AND u.tenant_id < 3 ORDER BY p.id, u.tenant_id, u.id

SELECT p.id, u.tenant_id, u.id FROM users u RIGHT JOIN plans p ON p.id = u.plan_id ORDER BY 1, 2, 3

SELECT p.id, u.tenant_id FROM plans p FULL JOIN users u ON u.plan_id = p.id ORDER BY 1, 2, u.id

SELECT p.* FROM plans p WHERE EXISTS (SELECT FROM users u WHERE u.plan_id = p.id) ORDER BY p.id

SELECT p.* FROM plans p WHERE NOT EXISTS (SELECT FROM users u WHERE u.plan_id = p.id) ORDER BY p.id

SELECT p.* FROM plans p WHERE p.id IN (SELECT plan_id FROM users) ORDER BY p.id

SELECT p.* FROM plans p WHERE p.id NOT IN (SELECT plan_id FROM users) ORDER BY p.id

SELECT p.* FROM plans p WHERE p.id NOT IN (SELECT plan_id FROM users WHERE plan_id IS NOT NULL) ORDER BY p.id

SELECT u.tenant_id, u.id FROM users u WHERE u.id IN (SELECT user_id FROM orders WHERE total > 30 AND total <> 'NaN') ORDER BY 1, 2

SELECT u.tenant_id, u.id FROM users u WHERE u.id NOT IN (SELECT user_id FROM orders WHERE user_id IS NOT NULL) ORDER BY 1, 2

SELECT u.tenant_id, u.id FROM users u WHERE EXISTS (SELECT FROM orders o WHERE o.fee = u.score AND o.tenant_id <> u.tenant_id) ORDER BY 1, 2

SELECT u.tenant_id, u.id FROM users u WHERE NOT EXISTS (SELECT FROM orders o WHERE o.fee = u.score) ORDER BY 1, 2

SELECT u.tenant_id, d.model FROM users u JOIN devices d ON d.tenant_ref = u.tenant_id WHERE u.id = 1 ORDER BY 1, d.device_id

SELECT d.model, t.name FROM devices d JOIN tenants t ON t.id = d.tenant_ref ORDER BY d.device_id

SELECT d.device_id, t.id FROM devices d LEFT JOIN tenants t ON t.id = d.device_id ORDER BY 1

SELECT a.id, s.value FROM archive a JOIN settings s ON s.name = 'user ' || a.id ORDER BY 1

SELECT a.body, t.name FROM archive a JOIN tenants t ON t.id = a.tenant ORDER BY a.id

SELECT a.body, t.name FROM archive a LEFT JOIN tenants t ON t.id = a.id ORDER BY a.id

SELECT s.value, count(u.id) FROM settings s LEFT JOIN users u ON u.name = s.name GROUP BY s.value ORDER BY 1

SELECT u.name, n.body FROM users u JOIN notes n ON n.tenant_id = u.tenant_id ORDER BY u.tenant_id, u.id, n.id, n.body LIMIT 20

SELECT u.name, n.body FROM users u JOIN notes n USING (tenant_id) WHERE u.id = 2 ORDER BY u.tenant_id, n.id, n.body

SELECT tenant_id, count(*) FROM users JOIN notes USING (tenant_id) GROUP BY tenant_id ORDER BY 1

SELECT * FROM users a JOIN users b USING (tenant_id, id) ORDER BY tenant_id, id LIMIT 3

SELECT id, count(*) FROM users JOIN orders USING (id) GROUP BY id ORDER BY id

SELECT count(*) FROM users NATURAL JOIN notes

SELECT count(*) FROM users NATURAL JOIN app.users a

SELECT count(*) FROM plans NATURAL JOIN tenants

SELECT x.tenant_id, x.n, y.n FROM (SELECT tenant_id, count(*) AS n FROM users GROUP BY tenant_id) x JOIN (SELECT tenant_id, count(*) AS n FROM orders GROUP BY tenant_id) y ON x.n > y.n ORDER BY 1, 2, 3

SELECT x.n, y.n FROM (SELECT tenant_id, count(*) AS n FROM users GROUP BY tenant_id) x JOIN (SELECT tenant_id, count(*) AS n FROM orders GROUP BY tenant_id) y USING (tenant_id) ORDER BY tenant_id

SELECT t.name, u.name, o.item FROM tenants t JOIN users u ON u.tenant_id = t.id JOIN orders o ON o.tenant_id = t.id AND o.id = u.id ORDER BY t.id, u.id

SELECT t.name, u.name, o.item FROM tenants t LEFT JOIN users u ON u.plan_id = t.plan_id AND u.id = 3 LEFT JOIN orders o ON o.user_id = u.id AND o.id = 7 ORDER BY t.id, u.tenant_id, u.id, o.tenant_id

SELECT count(*) FROM users u JOIN orders o ON o.tenant_id = u.tenant_id OR o.user_id = u.id

SELECT count(*) FROM users a, users b, plans p WHERE a.plan_id = p.id AND b.plan_id = p.id AND a.tenant_id = 1 AND b.tenant_id = 2

SELECT a.name, b.name FROM users a, users b WHERE a.tenant_id = 1 AND b.tenant_id = 2 AND a.id = b.id ORDER BY a.id

SELECT u.name, o.item FROM users u, orders o WHERE u.tenant_id = 1 AND o.tenant_id = 2 AND o.user_id = u.id ORDER BY u.id, o.id

SELECT u.name, o.item FROM users u LEFT JOIN orders o ON o.tenant_id = 2 AND o.id = u.id WHERE u.tenant_id = 1 ORDER BY u.id

SELECT public.users.name, a.name FROM public.users JOIN app.users a ON a.tenant_id = public.users.score ORDER BY public.users.tenant_id, public.users.id

SELECT users.*, 1 AS one FROM users, plans WHERE users.plan_id = plans.id AND users.tenant_id IN (1, 2) ORDER BY users.tenant_id, users.id

SELECT u.* FROM (users u JOIN plans p ON p.id = u.plan_id) JOIN orders o ON o.user_id = u.score ORDER BY u.tenant_id, u.id, o.tenant_id, o.id LIMIT 4

SELECT count(*) FROM bots b JOIN bots c ON b.name = c.name

SELECT count(*) FROM bots b LEFT JOIN tenants t ON t.id = b.id

SELECT count(*) FROM events e JOIN users u ON u.score = e.weight

SELECT u.a, u.b FROM users AS u (a, b, c) JOIN plans p ON p.id = u.b ORDER BY 1, 2

SELECT u.name FROM users u JOIN LATERAL (SELECT * FROM orders o WHERE o.user_id = u.id ORDER BY o.tenant_id, o.id LIMIT 1) x ON true WHERE x.item = 'item 8' ORDER BY u.tenant_id, u.id

SELECT t.id, x.n FROM tenants t, LATERAL (SELECT count(*) AS n FROM users u WHERE u.plan_id = t.plan_id) x ORDER BY 1

SELECT t.id, x.name FROM tenants t LEFT JOIN LATERAL (SELECT name FROM users u WHERE u.plan_id = t.plan_id ORDER BY u.tenant_id, u.id LIMIT 1) x ON true ORDER BY 1

SELECT u.tenant_id, u.id, tag FROM users u, unnest(u.tags) AS tag ORDER BY 1, 2, 3

SELECT u.tenant_id, u.id, tag, n FROM users u, unnest(u.tags) WITH ORDINALITY AS t (tag, n) ORDER BY 1, 2, 4

SELECT u.tenant_id, u.id, g FROM users u, generate_series(1, u.small) AS g WHERE u.tenant_id < 8 ORDER BY 1, 2, 3

SELECT u.id, j.key, j.value FROM users u, jsonb_each(u.doc) j WHERE u.tenant_id = 4 OR u.tenant_id = 5 ORDER BY u.tenant_id, u.id, j.key

SELECT g, count(u.id) FROM generate_series(1, 8) g LEFT JOIN users u ON u.id = g GROUP BY g ORDER BY g

SELECT v.a, count(*) FROM (VALUES (1), (2), (99)) v (a) LEFT JOIN users u ON u.plan_id = v.a GROUP BY v.a ORDER BY 1

SELECT * FROM (VALUES (1, 'x'), (2, 'y')) v (a, b) JOIN tenants t ON t.id = v.a ORDER BY v.a
