-- GROUP BY, HAVING, DISTINCT.

SELECT plan_id, count(*) FROM users GROUP BY plan_id

SELECT plan_id, count(*) FROM users GROUP BY plan_id ORDER BY plan_id

SELECT plan_id, count(*) AS n FROM users GROUP BY 1 ORDER BY n DESC, plan_id

SELECT plan_id, count(*) FROM users GROUP BY plan_id ORDER BY 2 DESC, 1 NULLS FIRST LIMIT 3

SELECT count(*), plan_id FROM users GROUP BY plan_id HAVING count(*) > 13 ORDER BY plan_id

SELECT name, count(*), sum(score), min(balance), max(born) FROM users WHERE tenant_id < 10 GROUP BY name ORDER BY name

SELECT strict_name, count(*) FROM users GROUP BY strict_name ORDER BY strict_name

SELECT german, count(*) FROM users GROUP BY german ORDER BY german

SELECT active, avg(score), count(*) FROM users GROUP BY active ORDER BY active

SELECT tenant_id, count(*) FROM users GROUP BY tenant_id

SELECT tenant_id, count(*), sum(score) FROM users GROUP BY tenant_id ORDER BY tenant_id

SELECT tenant_id, plan_id, count(*) FROM users GROUP BY tenant_id, plan_id ORDER BY 1, 2

SELECT tenant_id, count(*) FROM users GROUP BY tenant_id HAVING count(*) > 6 ORDER BY 1

SELECT tenant_id, count(*) AS n FROM users GROUP BY tenant_id ORDER BY n DESC, tenant_id LIMIT 2

SELECT tenant_id % 2 AS odd, count(*) FROM users GROUP BY 1 ORDER BY 1

SELECT date_trunc('month', placed) AS month, count(*), sum(total) FROM orders GROUP BY 1 ORDER BY 1

SELECT extract(year FROM born) AS y, count(*) FROM users WHERE born > '1990-01-01' AND born < '3000-01-01' GROUP BY y ORDER BY y

SELECT status, count(*), sum(total), avg(fee) FROM orders GROUP BY status ORDER BY status

SELECT status, item, count(*) FROM orders GROUP BY status, item ORDER BY status, item

SELECT lower(name), count(*) FROM users WHERE length(name) < 30 GROUP BY lower(name) ORDER BY 1

SELECT ratio, count(*) FROM users WHERE tenant_id >= 10 AND ratio <> 0 GROUP BY ratio ORDER BY ratio

SELECT balance, count(*) FROM users GROUP BY balance ORDER BY balance NULLS FIRST LIMIT 9

SELECT huge::text, count(*) FROM users GROUP BY huge::text ORDER BY 1

SELECT span, count(*) FROM users WHERE tenant_id < 10 GROUP BY span ORDER BY span

SELECT code, count(*) FROM users GROUP BY code ORDER BY code

SELECT plan_id, count(DISTINCT tenant_id), count(DISTINCT score) FROM users GROUP BY plan_id ORDER BY plan_id

SELECT plan_id, string_agg(name, '|' ORDER BY tenant_id, id) FROM users WHERE id < 3 AND tenant_id < 12 GROUP BY plan_id ORDER BY 1

SELECT plan_id, array_agg(id ORDER BY tenant_id, id) FILTER (WHERE score > 3) FROM users WHERE tenant_id < 10 AND id < 10 GROUP BY plan_id ORDER BY 1

SELECT plan_id, score, count(*) FROM users WHERE id < 10 GROUP BY GROUPING SETS ((plan_id), (score), ()) ORDER BY 1, 2, 3

SELECT plan_id, active, count(*), grouping(plan_id, active) FROM users GROUP BY ROLLUP (plan_id, active) ORDER BY 1, 2, 4

SELECT plan_id, active, sum(score) FROM users WHERE tenant_id < 10 GROUP BY CUBE (plan_id, active) ORDER BY 1, 2, 3

SELECT u.plan_id, p.name, count(*) FROM users u JOIN plans p ON p.id = u.plan_id GROUP BY u.plan_id, p.name ORDER BY 1

SELECT p.id, p.name, count(u.id) FROM plans p LEFT JOIN users u ON u.plan_id = p.id GROUP BY p.id ORDER BY p.id

SELECT p.*, count(u.id) FROM plans p LEFT JOIN users u ON u.plan_id = p.id GROUP BY p.id ORDER BY p.id

SELECT t.id, t.name, count(u.id) FROM tenants t LEFT JOIN users u ON u.tenant_id = t.id GROUP BY t.id ORDER BY t.id

SELECT t.*, count(o.id) FROM tenants t LEFT JOIN orders o ON o.tenant_id = t.id GROUP BY t.id ORDER BY t.id

SELECT t.country, count(*), count(DISTINCT t.plan_id) FROM tenants t GROUP BY t.country ORDER BY 1

SELECT c.name, count(t.id) FROM countries c LEFT JOIN tenants t ON t.country = c.code GROUP BY c.code ORDER BY c.code

SELECT kind, sum(weight), count(*) FROM events GROUP BY kind ORDER BY kind

SELECT day, count(*) FROM events GROUP BY day ORDER BY day LIMIT 10

SELECT model, count(*) FROM devices GROUP BY model ORDER BY model

SELECT name, count(*) FROM bots GROUP BY name ORDER BY name

SELECT body, count(*) FROM notes GROUP BY body HAVING count(*) > 4 ORDER BY body

SELECT plan_id FROM users GROUP BY plan_id ORDER BY plan_id

SELECT DISTINCT plan_id FROM users

SELECT DISTINCT plan_id FROM users ORDER BY plan_id DESC

SELECT DISTINCT plan_id, active FROM users ORDER BY 1, 2

SELECT DISTINCT name FROM users ORDER BY name LIMIT 5

SELECT DISTINCT ON (plan_id) plan_id, tenant_id, id FROM users ORDER BY plan_id, tenant_id DESC, id

SELECT DISTINCT ON (tenant_id) tenant_id, id, name FROM users ORDER BY tenant_id, score DESC NULLS LAST, id

SELECT DISTINCT ratio FROM users WHERE tenant_id >= 10 AND ratio <> 0 ORDER BY ratio

SELECT DISTINCT status FROM orders ORDER BY status DESC

SELECT DISTINCT tags FROM users ORDER BY tags

SELECT DISTINCT tenant_id FROM users ORDER BY 1

SELECT DISTINCT t.country FROM tenants t JOIN users u ON u.tenant_id = t.id ORDER BY 1

SELECT count(*) FROM (SELECT DISTINCT tenant_id, plan_id FROM users) d

SELECT plan_id, count(*) FROM users WHERE false GROUP BY plan_id

SELECT score > 5 AS big, count(*) FROM users GROUP BY score > 5 ORDER BY 1

SELECT CASE WHEN score > 5 THEN 'high' ELSE 'low' END AS level, count(*) FROM users GROUP BY level ORDER BY level

SELECT plan_id + 1 FROM users GROUP BY plan_id ORDER BY 1

SELECT plan_id, max(name) FROM users WHERE length(name) < 50 GROUP BY plan_id HAVING max(name) > 'a' ORDER BY 1

SELECT n, count(*) FROM (SELECT tenant_id, count(*) AS n FROM users GROUP BY tenant_id) x GROUP BY n ORDER BY n

SELECT sum(sum(score)) OVER () FROM users GROUP BY plan_id

SELECT plan_id, rank() OVER (ORDER BY count(*) DESC, plan_id) FROM users GROUP BY plan_id ORDER BY 2

SELECT u.name FROM users u GROUP BY u.tenant_id, u.id ORDER BY u.tenant_id, u.id LIMIT 5

SELECT score FROM users GROUP BY tenant_id

SELECT plan_id, name FROM users GROUP BY plan_id
