-- What reports are made of.

SELECT u.tenant_id, u.id, sum(o.total) OVER (PARTITION BY u.tenant_id ORDER BY o.id) FROM users u JOIN orders o ON o.tenant_id = u.tenant_id AND o.user_id = u.id WHERE u.tenant_id < 4 ORDER BY 1, 2, 3

SELECT u.plan_id, count(*) FILTER (WHERE o.total > 20), sum(o.total) FILTER (WHERE o.status = 'ok') FROM users u JOIN orders o USING (tenant_id) GROUP BY u.plan_id ORDER BY 1

SELECT tenant_id, plan_id, count(*) FROM users GROUP BY GROUPING SETS ((tenant_id, plan_id), (tenant_id), ()) HAVING count(*) > 1 ORDER BY tenant_id NULLS FIRST, plan_id NULLS FIRST

SELECT tenant_id, id FROM (SELECT tenant_id, id, rank() OVER (PARTITION BY tenant_id ORDER BY total DESC NULLS LAST, id) r FROM orders) x WHERE r <= 2 ORDER BY 1, 2

SELECT t.id, o.id, o.total FROM tenants t LEFT JOIN LATERAL (SELECT id, total FROM orders o WHERE o.tenant_id = t.id ORDER BY total DESC NULLS LAST, id LIMIT 2) o ON true ORDER BY 1, 3 DESC NULLS LAST, 2

SELECT t.id, o.n FROM tenants t CROSS JOIN LATERAL (SELECT count(*) AS n FROM orders o WHERE o.tenant_id = t.id AND o.status = 'happy') o ORDER BY 1

WITH RECURSIVE tree AS (SELECT tenant_id, id, user_id, 0 AS lvl FROM orders WHERE id = 1 UNION ALL SELECT o.tenant_id, o.id, o.user_id, lvl + 1 FROM orders o JOIN tree t ON o.tenant_id = t.tenant_id AND o.id = t.id * 2) SELECT tenant_id, max(lvl), count(*) FROM tree GROUP BY 1 ORDER BY 1

WITH RECURSIVE tree AS (SELECT tenant_id, id, 0 AS lvl FROM orders WHERE id = 1 UNION ALL SELECT o.tenant_id, o.id, lvl + 1 FROM orders o JOIN tree t ON o.tenant_id = t.tenant_id + 1 AND o.id = t.id + 1) SEARCH DEPTH FIRST BY tenant_id SET path SELECT tenant_id, id, lvl FROM tree ORDER BY path LIMIT 8

WITH RECURSIVE c (n) AS (SELECT 1::bigint UNION SELECT (n * 3) % 16 FROM c) CYCLE n SET cyc USING p SELECT n, cyc FROM c ORDER BY n

WITH RECURSIVE walk AS (SELECT tenant_id, id, 1 AS step FROM orders WHERE tenant_id = 1 AND id = 1 UNION ALL SELECT o.tenant_id, o.id, step + 1 FROM orders o JOIN walk w ON o.tenant_id = w.tenant_id AND o.id = w.id % 3 + 1) CYCLE tenant_id, id SET again TO 'yes' DEFAULT 'no' USING way SELECT tenant_id, id, step, again, way FROM walk ORDER BY step

WITH RECURSIVE walk (t, i) AS NOT MATERIALIZED (SELECT tenant_id, id FROM orders WHERE tenant_id = 1 AND id < 3 UNION ALL SELECT o.tenant_id, o.id FROM orders o JOIN walk ON o.tenant_id = walk.t AND o.id = walk.i * 2) SEARCH BREADTH FIRST BY t, i SET "Order" CYCLE t, i SET again USING way, other AS (SELECT 5 AS five) SELECT walk.*, w."Order" AS second, w.again AS w_again, five FROM walk JOIN walk w USING (t, i), other ORDER BY walk."Order", w."Order", w.way

WITH RECURSIVE walk AS (SELECT tenant_id AS path, id FROM orders WHERE id = 1 UNION ALL SELECT path, id + 1 FROM walk WHERE id < 3) SEARCH DEPTH FIRST BY id SET way SELECT count(*), max(path) FROM walk WHERE path = 2

WITH RECURSIVE walk AS (SELECT tenant_id, id FROM orders WHERE id = 1 UNION ALL SELECT tenant_id, id + 1 FROM walk WHERE id < 3) CYCLE id SET tenant USING tenants SELECT t.id, w.id FROM walk w JOIN tenants t ON t.id = w.tenant_id WHERE NOT w.tenant AND cardinality(w.tenants) > 1 ORDER BY 1, 2

SELECT search.id, cycle.id FROM (SELECT id FROM users WHERE tenant_id = 1) search JOIN (SELECT id FROM users WHERE tenant_id = 2) cycle USING (id) ORDER BY 1

SELECT name FROM users u WHERE EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id OR o.fee = u.score) AND u.tenant_id < 3 ORDER BY tenant_id, id

SELECT name FROM users u WHERE u.id = 3 OR EXISTS (SELECT 1 FROM orders o WHERE o.tenant_id = u.tenant_id AND o.total > 45) ORDER BY tenant_id, id

SELECT count(*) FROM users WHERE plan_id NOT IN (SELECT plan_id FROM tenants)

SELECT count(*) FROM users WHERE plan_id NOT IN (SELECT plan_id FROM tenants WHERE plan_id IS NOT NULL)

SELECT count(*) FROM users u WHERE u.plan_id NOT IN (SELECT t.plan_id FROM tenants t WHERE t.id = u.tenant_id)

SELECT tenant_id, id, a.name, b.item FROM users a FULL JOIN orders b USING (tenant_id, id) WHERE id < 3 ORDER BY 1, 2

SELECT a.tenant_id AS at, b.tenant_id AS bt, tenant_id FROM users a LEFT JOIN orders b USING (tenant_id) WHERE a.id = 1 AND (b.id = 1 OR b.id IS NULL) ORDER BY 3

SELECT * FROM app.users NATURAL JOIN bots ORDER BY tenant_id, id

SELECT * FROM (SELECT tenant_id, id FROM users WHERE id < 3) a NATURAL LEFT JOIN (SELECT tenant_id, id, total FROM orders WHERE id > 1) b ORDER BY 1, 2

SELECT u.name, v.* FROM users u, (VALUES (1, 'a'), (4, 'b')) v (tenant_id, tag) WHERE u.tenant_id = v.tenant_id AND u.id = 1 ORDER BY 2

SELECT u.name, v.* FROM users u JOIN (VALUES (1::bigint, 'a'), (4, 'b')) v (tenant_id, tag) USING (tenant_id) WHERE u.id = 1 ORDER BY 2

((SELECT tenant_id, id FROM users ORDER BY score DESC NULLS LAST, tenant_id, id LIMIT 3) UNION ALL (SELECT tenant_id, id FROM orders ORDER BY total NULLS LAST, tenant_id, id OFFSET 2 LIMIT 3)) ORDER BY 2 DESC, 1 OFFSET 1

SELECT id AS tenant_id, tenant_id AS id FROM users WHERE id < 3 ORDER BY tenant_id, id

SELECT id AS tenant_id, count(*) FROM users GROUP BY tenant_id ORDER BY 1

SELECT tenant_id AS x, id AS tenant_id FROM users WHERE id = 2 GROUP BY x, users.id ORDER BY x

SELECT -score AS score, tenant_id, id FROM users WHERE id < 3 ORDER BY score, tenant_id, id

SELECT -score AS score, tenant_id, id FROM users WHERE id < 3 ORDER BY score + 0, tenant_id, id

SELECT "users"."name" AS "Name", "id" AS "select" FROM "public"."users" WHERE "users"."tenant_id" = 2 ORDER BY "select"

SELECT public.users.id FROM public.users WHERE public.users.tenant_id = 2 ORDER BY 1

SELECT Users.ID FROM USERS WHERE Tenant_Id = 2 ORDER BY ID

SELECT u.id FROM users AS u (tenant_id, id) WHERE u.tenant_id = 2 ORDER BY 1

SELECT u.a FROM users AS u (a, tenant_id) WHERE u.tenant_id = 2 ORDER BY 1

SELECT now() IS NOT NULL, current_user, session_user, current_database() IS NOT NULL, count(*) FROM users

SELECT generate_series(1, 2) AS g, tenant_id FROM users WHERE id = 1 ORDER BY 2, 1

SELECT tenant_id, generate_series(1, id) AS g FROM users WHERE tenant_id IN (1, 2) AND id < 4 ORDER BY 1, 2

SELECT unnest(ARRAY[1,2]), unnest(ARRAY['a','b','c']), count(*) FROM users GROUP BY 1, 2 ORDER BY 1, 2

SELECT DISTINCT ON (plan_id) now() = now(), plan_id, id FROM users ORDER BY plan_id, tenant_id, id

SELECT DISTINCT ON (tenant_id) now() IS NULL AS a, tenant_id FROM users ORDER BY tenant_id, id

SELECT (tenant_id, id) < (3, 4), count(*) FROM users GROUP BY 1 ORDER BY 1

SELECT tenant_id, id FROM users WHERE (tenant_id, id) >= (8, 5) ORDER BY (tenant_id, id)

SELECT tenant_id, id FROM users WHERE ROW(tenant_id, id, name) > ROW(12, 0, '') ORDER BY 1, 2

SELECT count(*) FROM users WHERE (tenant_id, plan_id) IS DISTINCT FROM (1, 2)

SELECT count(*) FROM users WHERE score IS DISTINCT FROM plan_id

SELECT count(*) FROM users WHERE score = ANY (ARRAY[1, 2, NULL])

SELECT count(*) FROM users WHERE 'a' = ANY (tags)

SELECT count(*) FROM users WHERE score > ALL (SELECT fee FROM orders WHERE tenant_id = 1 AND fee < 10)

SELECT count(*) FROM users WHERE score BETWEEN SYMMETRIC 7 AND 3

SELECT tenant_id, id, status FROM orders WHERE id < 4 ORDER BY CASE WHEN status = 'ok' THEN 0 WHEN status IS NULL THEN 2 ELSE 1 END, tenant_id, id

SELECT name FROM users WHERE id = 1 ORDER BY name COLLATE "C" DESC NULLS LAST

SELECT german FROM users WHERE id < 4 GROUP BY german ORDER BY german COLLATE "de-x-icu", german

SELECT german, tenant_id, id FROM users WHERE german IS NOT NULL ORDER BY german DESC, tenant_id, id LIMIT 20

SELECT name::varchar(3), balance::numeric(4,0), at::timestamp(0), span::interval day, uid::text::char(4) FROM users WHERE tenant_id < 3 AND id < 3 ORDER BY tenant_id, id

SELECT sum(amount), max(amount), min(amount), avg(amount::numeric)::numeric(10,4) FROM accounts

SELECT amount, count(*) FROM accounts WHERE account_id > 20 GROUP BY amount ORDER BY amount DESC LIMIT 4

SELECT account_id, amount * 2, amount / 2, amount / '$2.00' FROM accounts WHERE account_id IN (5, 15, 30) ORDER BY 1

SELECT flags, count(*) FROM moves GROUP BY flags ORDER BY flags

SELECT bit_and(flags), bit_or(flags), bit_xor(flags) FROM moves

SELECT vflags, flags | B'0001', flags << 1 FROM moves WHERE id < 6 ORDER BY id

SELECT addr, host(addr), count(*) FROM moves WHERE addr << '10.0.1.0/24' GROUP BY addr ORDER BY addr LIMIT 5

SELECT network(set_masklen(addr, 24)), count(*) FROM moves GROUP BY 1 ORDER BY 1

SELECT max(addr), min(addr) FROM moves

SELECT mac, count(*) FROM moves GROUP BY mac ORDER BY mac DESC LIMIT 3

SELECT note, id FROM moves WHERE id < 4 ORDER BY id

SELECT note::text, id FROM moves WHERE id < 4 ORDER BY id

SELECT xpath('/a/@n', note) FROM moves WHERE id < 4 ORDER BY id

SELECT xmlagg(note ORDER BY id) FROM moves WHERE id < 4

SELECT during, lower(during), upper(during) - lower(during) FROM moves WHERE id < 4 ORDER BY id

SELECT count(*) FROM moves WHERE during @> date '2024-02-01'

SELECT range_agg(during), range_intersect_agg(during) FROM moves WHERE id < 4

SELECT during * daterange('2024-01-03', '2024-01-06') AS d, count(*) FROM moves GROUP BY 1 ORDER BY 1

SELECT spot, spot <-> point(0, 0) FROM moves ORDER BY spot <-> point(3, 3), id LIMIT 3

SELECT owner, n FROM docs WHERE words @@ to_tsquery('english', 'lazy & fox | jump') ORDER BY owner, n LIMIT 10

SELECT owner, ts_rank(words, q) FROM docs, to_tsquery('english', 'dog') q WHERE words @@ q AND n = 1 ORDER BY 1

SELECT ts_headline('english', title, to_tsquery('title')) FROM docs WHERE n = 1 ORDER BY owner

SELECT opened::date, count(*) FROM accounts GROUP BY 1 ORDER BY 1 LIMIT 5

SELECT opened AT TIME ZONE 'UTC', opened AT TIME ZONE 'Asia/Kolkata' FROM accounts ORDER BY account_id LIMIT 3

SELECT extract(epoch FROM opened), date_part('dow', opened) FROM accounts ORDER BY 1 LIMIT 3

SELECT date_bin('1 day', opened, '2024-01-01'), count(*) FROM accounts GROUP BY 1 ORDER BY 1 LIMIT 3

SELECT opened + interval '1 month 2 days', opened - lag(opened) OVER (ORDER BY account_id) FROM accounts ORDER BY account_id LIMIT 4

SELECT justify_interval(sum(opened - '2024-01-01')) FROM accounts

SELECT to_char(opened, 'Day DD Mon YYYY'), to_char(amount::numeric, 'L9G999D99') FROM accounts ORDER BY account_id LIMIT 3

SELECT doc @> '{"k": 3}', doc - 'n', doc || '{"z": 1}', doc #- '{list,0}' FROM users WHERE tenant_id IN (3, 4) AND id < 4 ORDER BY tenant_id, id

SELECT jsonb_agg(doc ORDER BY tenant_id, id) FROM users WHERE id = 2

SELECT jsonb_object_agg(id, name) FROM users WHERE tenant_id < 2

SELECT x.k, x.n FROM users u, jsonb_to_record(u.doc) AS x (k int, n int) WHERE u.id = 1 ORDER BY 1

SELECT t.* FROM users u CROSS JOIN LATERAL jsonb_array_elements_text(u.doc -> 'list') WITH ORDINALITY t (v, o) WHERE u.id = 2 AND u.tenant_id < 4 ORDER BY u.tenant_id, o

SELECT doc['list'][0] FROM users WHERE id = 1 AND doc IS NOT NULL ORDER BY tenant_id

SELECT array_length(tags, 1), count(*) FROM users GROUP BY 1 ORDER BY 1

SELECT array_agg(DISTINCT plan_id) FROM users

SELECT array_agg(id ORDER BY id) FILTER (WHERE score > 5) FROM users WHERE tenant_id < 5

SELECT tags || ARRAY['z'], array_remove(tags, 'a'), cardinality(tags), tags[1:1] FROM users WHERE tenant_id IN (1, 2) ORDER BY tenant_id, id

SELECT string_agg(name, ',' ORDER BY name DESC, tenant_id) FROM users WHERE id = 1

SELECT string_agg(DISTINCT status::text, '|') FROM orders

SELECT status, status::text, status > 'sad' FROM orders WHERE id < 4 ORDER BY status, tenant_id, id

SELECT max(status), min(status) FROM orders

SELECT (about).a, (about).b FROM notes WHERE about IS NOT NULL ORDER BY id, tenant_id LIMIT 4

SELECT about FROM notes WHERE about = (3, 'b3')::pair ORDER BY id

SELECT count(DISTINCT about) FROM notes

SELECT about, count(*) FROM notes WHERE id < 4 GROUP BY about ORDER BY about

-- text
SELECT fee::cents + 1, pg_typeof(fee) FROM orders WHERE id = 2 ORDER BY tenant_id

SELECT qty, count(*) FROM orders GROUP BY qty ORDER BY qty

SELECT ntile(3) OVER (ORDER BY tenant_id, id), tenant_id, id FROM users WHERE id < 3 ORDER BY 2, 3

SELECT plan_id, avg(score) OVER w, count(*) OVER w FROM users WHERE id < 4 WINDOW w AS (PARTITION BY plan_id) ORDER BY plan_id, tenant_id, id

SELECT DISTINCT plan_id, count(*) OVER (PARTITION BY plan_id) FROM users ORDER BY 1

SELECT tenant_id, max(sum(total)) OVER () FROM orders WHERE total <> 'NaN' GROUP BY tenant_id ORDER BY 1

SELECT count(*), count(1), count(name), count(DISTINCT (tenant_id, plan_id)) FROM users

SELECT sum(DISTINCT score), avg(DISTINCT score) FROM users

SELECT stddev(balance), variance(score), var_pop(id) FROM users WHERE id < 10

SELECT max(name), min(name COLLATE "C"), max(uid::text), max(at), max(born), max(span), min(raw::text) FROM users

SELECT max(tags), min(tags) FROM users

SELECT bool_and(active) FROM users HAVING count(*) > 5

SELECT 1 FROM users HAVING true

SELECT 1 HAVING false

SELECT count(*) FROM users HAVING count(*) < 0

SELECT plan_id FROM users GROUP BY ALL plan_id ORDER BY 1

SELECT plan_id, count(*) FROM users GROUP BY DISTINCT ROLLUP (plan_id), ROLLUP (plan_id) ORDER BY 1, 2

SELECT plan_id, tenant_id, count(*) FROM users GROUP BY DISTINCT ROLLUP (plan_id, tenant_id), CUBE (tenant_id) ORDER BY 1, 2, 3

SELECT plan_id, count(*) FROM users WHERE tenant_id = 1 GROUP BY DISTINCT ROLLUP (plan_id), ROLLUP (plan_id) ORDER BY 1, 2

SELECT plan_id, count(*), sum(score) FROM users GROUP BY DISTINCT plan_id ORDER BY 1

SELECT tenant_id, count(*) FROM users GROUP BY DISTINCT tenant_id HAVING count(*) > 3 ORDER BY 1

SELECT plan_id, count(*) FROM users GROUP BY ALL ROLLUP (plan_id), ROLLUP (plan_id) ORDER BY 1, 2

SELECT ALL plan_id FROM users WHERE id = 1 ORDER BY 1

SELECT tenant_id, count(*) n FROM users GROUP BY tenant_id ORDER BY n > 6, n, tenant_id

SELECT tenant_id FROM users GROUP BY tenant_id ORDER BY count(*) DESC, tenant_id LIMIT 3

SELECT tenant_id FROM users GROUP BY 1 ORDER BY max(score) DESC NULLS LAST, 1 OFFSET 2

SELECT plan_id, (SELECT name FROM plans p WHERE p.id = u.plan_id) AS pname, count(*) FROM users u GROUP BY plan_id ORDER BY plan_id

SELECT p.name, count(u.id), coalesce(sum(u.score), 0) FROM plans p LEFT JOIN users u ON u.plan_id = p.id GROUP BY p.id ORDER BY p.id

SELECT p.name, count(*) FROM users u JOIN plans p ON p.id = u.plan_id GROUP BY p.name HAVING count(*) > 10 ORDER BY 2 DESC, 1

SELECT u.tenant_id, t.name, count(*) FROM users u JOIN tenants t ON t.id = u.tenant_id GROUP BY u.tenant_id, t.name ORDER BY 1

SELECT t.*, count(u.id) FROM tenants t LEFT JOIN users u ON u.tenant_id = t.id GROUP BY t.id ORDER BY t.id

SELECT u.* FROM users u LEFT JOIN orders o ON o.tenant_id = u.tenant_id AND o.user_id = u.id WHERE o.id IS NULL ORDER BY u.tenant_id, u.id LIMIT 5

SELECT tenant_id, id FROM users INTERSECT SELECT tenant_id, id FROM orders ORDER BY 1, 2 LIMIT 5

SELECT tenant_id, id FROM users EXCEPT ALL SELECT tenant_id, id FROM orders ORDER BY 1, 2 LIMIT 5

SELECT x, count(*) FROM (SELECT 'u' AS x FROM users UNION ALL SELECT 'o' FROM orders UNION ALL SELECT 'x') q GROUP BY x ORDER BY x

SELECT 1 UNION SELECT id FROM users WHERE tenant_id = 1 UNION ALL SELECT NULL ORDER BY 1 NULLS FIRST

SELECT NULL AS a, tenant_id FROM users WHERE id = 1 UNION SELECT 'x', 99 ORDER BY 2

SELECT '1' AS a UNION ALL SELECT id FROM tenants WHERE id < 2 ORDER BY 1

SELECT * FROM users WHERE tenant_id = 100000

SELECT * FROM users LIMIT 0

SELECT row_to_json(u) FROM users u WHERE tenant_id IN (1, 2) AND id = 1 ORDER BY tenant_id

-- refused: system column ctid over several shards is not supported
SELECT count(*) FROM users WHERE ctid IS NOT NULL

SELECT pg_column_size(name) FROM users WHERE tenant_id < 3 AND id = 1 ORDER BY tenant_id

SELECT length(name), octet_length(name), char_length(code) FROM users WHERE tenant_id > 9 ORDER BY tenant_id, id

SELECT regexp_replace(name, '[0-9]+', '#'), count(*) FROM users WHERE tenant_id < 10 GROUP BY 1 ORDER BY 1

SELECT split_part(email, '@', 2) AS d, count(*) FROM users GROUP BY d ORDER BY d LIMIT 5

SELECT substring(name FROM '[0-9]+') AS n, position('r' IN name), overlay(name PLACING 'X' FROM 1 FOR 1), trim(BOTH 'u' FROM name) FROM users WHERE id = 1 AND tenant_id < 4 ORDER BY tenant_id

SELECT (SELECT array_agg(x ORDER BY x) FROM (SELECT DISTINCT plan_id AS x FROM users) q)

SELECT ARRAY(SELECT tenant_id FROM users WHERE id = 1 ORDER BY 1), ARRAY[[1,2],[3,4]]

SELECT EXISTS (SELECT 1 FROM users WHERE tenant_id = 5 AND id = 500) OR EXISTS (SELECT 1 FROM users WHERE tenant_id = 6)

SELECT CASE (SELECT count(*) FROM users) WHEN 0 THEN 'none' ELSE 'some' END

SELECT t.id, t.name, CASE WHEN EXISTS (SELECT FROM users u WHERE u.tenant_id = t.id AND u.score > 8) THEN 'hot' ELSE 'cold' END AS temp FROM tenants t ORDER BY 1

SELECT tenant_id, id FROM users TABLESAMPLE SYSTEM (100) WHERE tenant_id = 1 ORDER BY id

SELECT * FROM ROWS FROM (generate_series(1, 2), unnest(ARRAY['a'])) x (a, b)

SELECT u.id, r.* FROM users u, ROWS FROM (generate_series(1, 2), unnest(u.tags)) r (a, b) WHERE u.tenant_id = 1 ORDER BY 1, 2

SELECT d::date, count(o.id) FROM generate_series(date '2024-03-01', '2024-03-08', '1 day') d LEFT JOIN orders o ON o.placed >= d AND o.placed < d + interval '1 day' GROUP BY 1 ORDER BY 1

SELECT k, sum(v) FROM (SELECT plan_id AS k, score AS v FROM users UNION ALL SELECT fee, 1 FROM orders) s GROUP BY k ORDER BY k

WITH s AS (SELECT tenant_id, sum(total) AS t FROM orders WHERE total <> 'NaN' GROUP BY 1), r AS (SELECT *, rank() OVER (ORDER BY t DESC) AS k FROM s) SELECT r.*, tenants.name FROM r JOIN tenants ON tenants.id = r.tenant_id WHERE k < 4 ORDER BY k, 1

WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS y FROM a) SELECT u.id FROM users u, b WHERE u.tenant_id = b.y ORDER BY 1

SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total) FROM orders WHERE total <> 'NaN'

SELECT tenant_id, percentile_disc(0.5) WITHIN GROUP (ORDER BY total), mode() WITHIN GROUP (ORDER BY item) FROM orders GROUP BY tenant_id ORDER BY 1

SELECT count(*) FROM users, LATERAL (SELECT 1 WHERE users.tenant_id = 1) x

SELECT "name" "n" FROM users WHERE tenant_id=2 AND id=1;

SELECT name n, id i FROM users WHERE tenant_id=2 ORDER BY i;

SELECT 1 AS "select", 2 AS "a b", 3 AS "ü" FROM users WHERE tenant_id = 1 LIMIT 1

select
  u.id -- the id; of the user
  , /* nested /* comment */ ; */ name
from users u
where tenant_id = 1 -- only one
order by id;

SELECT * FROM generate_series(timestamp '2024-01-01', '2024-01-03', '1 day') d LEFT JOIN orders o ON o.placed::date = d::date AND o.tenant_id = 1 ORDER BY 1, o.id

SELECT tenant_id, id, sum(score) OVER (PARTITION BY tenant_id ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE TIES), count(*) OVER (ORDER BY score GROUPS 2 PRECEDING EXCLUDE GROUP) FROM users WHERE id < 5 ORDER BY 1, 2

SELECT tenant_id, id, sum(score) OVER (ORDER BY tenant_id, id ROWS UNBOUNDED PRECEDING EXCLUDE NO OTHERS) FROM users WHERE tenant_id = 2 ORDER BY 1, 2
