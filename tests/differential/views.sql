-- Views.

SELECT * FROM v_users ORDER BY tenant_id, id

SELECT count(*) FROM v_users WHERE score > 5

SELECT name FROM v_users WHERE tenant_id = 3 ORDER BY id

SELECT * FROM v_top

SELECT * FROM v_top WHERE tenant_id = 3

SELECT * FROM v_counts

SELECT * FROM v_counts ORDER BY n DESC, tenant

SELECT * FROM v_counts WHERE tenant = 4

SELECT tenant, n FROM v_counts c WHERE c.n > 6 ORDER BY 1

SELECT * FROM v_status ORDER BY status

SELECT max(n) FROM v_status

SELECT count(*) FROM v_nested

SELECT * FROM v_nested ORDER BY 1, 2 LIMIT 7

-- ties
SELECT * FROM v_joined ORDER BY name, total LIMIT 1000000

SELECT plan, count(*), count(total) FROM v_joined GROUP BY plan ORDER BY plan

SELECT * FROM v_plans ORDER BY id

SELECT p.name, u.name FROM v_plans p JOIN v_users u ON u.score = p.id ORDER BY p.id, u.tenant_id, u.id

SELECT a.n, b.n FROM v_counts a JOIN v_counts b ON a.tenant = b.tenant + 1 ORDER BY a.tenant

SELECT v.a FROM v_users AS v (a, b) ORDER BY 1, v.b LIMIT 3

TABLE v_counts ORDER BY tenant

SELECT v_counts.n FROM public.v_counts ORDER BY tenant

SELECT public.v_counts.n FROM public.v_counts ORDER BY public.v_counts.tenant

-- refused: a whole row of a table over several shards is not supported
SELECT c FROM v_counts c ORDER BY tenant

SELECT row_to_json(c) FROM v_counts c ORDER BY tenant

SELECT row_to_json(u) FROM users u JOIN plans p ON p.id = u.plan_id WHERE u.id = 1 ORDER BY u.tenant_id

SELECT to_jsonb(t) FROM tenants t ORDER BY id

SELECT count(u), count(u.*) FROM users u

SELECT (u).name FROM users u ORDER BY (u).tenant_id, (u).id LIMIT 3

SELECT u::text FROM notes u ORDER BY id, tenant_id, body

SELECT (SELECT v.n FROM v_counts v WHERE v.tenant = t.id) FROM tenants t ORDER BY t.id

SELECT * FROM v_users JOIN v_counts ON tenant = tenant_id ORDER BY tenant_id, id LIMIT 3
