-- The rows of a query over several shards go to one place: INSERT, CREATE TABLE AS, SELECT INTO, cursors. Statements
-- of this file stand on one another.

INSERT INTO archive SELECT id, score, name FROM users

SELECT count(*), sum(id), max(note) FROM archive

INSERT INTO archive (note, id) SELECT DISTINCT status::text, 77 FROM orders RETURNING id, note

-- ties
INSERT INTO archive (id, note) SELECT u.id, p.name FROM users u LEFT JOIN plans p ON p.id = u.plan_id WHERE u.score > 8 RETURNING *, id + 1 AS next

INSERT INTO archive (id) SELECT sum(score) OVER (ORDER BY tenant_id, id) FROM users ORDER BY 1 LIMIT 3 RETURNING id

WITH big AS (SELECT * FROM users WHERE score > 5) INSERT INTO archive (id) SELECT count(*) FROM big WHERE id < 5 RETURNING id

INSERT INTO archive SELECT id FROM users WHERE false

INSERT INTO archive (id) SELECT id FROM users WHERE tenant_id = 1

INSERT INTO archive (id) SELECT score FROM users WHERE tenant_id IN (1, 2) UNION ALL SELECT max(id) FROM devices

-- param: 5
-- param: 300
INSERT INTO archive (id, note) SELECT $2, name FROM users WHERE score > $1 AND tenant_id < 5 RETURNING id, note

-- param: 12
-- param: x
INSERT INTO archive (id, note) SELECT count(*), max(name) FROM users WHERE score > $1 RETURNING note || $2

INSERT INTO settings SELECT 'users', count(*)::text FROM users ON CONFLICT (name) DO UPDATE SET value = excluded.value || '!' RETURNING name, value

INSERT INTO settings SELECT name, 'again' FROM users WHERE name IS NOT NULL

INSERT INTO settings SELECT 1, 2 FROM users

INSERT INTO settings SELECT 1, 2, 3 FROM users

INSERT INTO settings SELECT no_such FROM users

INSERT INTO settings SELECT 'a', 1 / (score - score)::text::int FROM users

INSERT INTO tenants (id, name, plan_id, country, since) SELECT 1000, 'new', NULL, 'DE', '2021-02-03' FROM users GROUP BY 1 ON CONFLICT DO NOTHING

INSERT INTO tenants SELECT 1003, count(*)::text, max(plan_id), 'FR', '2021-02-03' FROM users ON CONFLICT (id) DO UPDATE SET name = tenants.name || '+' RETURNING *

SELECT * FROM tenants WHERE id >= 1000 ORDER BY id

INSERT INTO users (tenant_id, id, name, doc, tags, span) SELECT 5, 5000 + row_number() OVER (ORDER BY tenant_id, id), name, doc, tags, span FROM users WHERE score = 3 AND id < 50 ON CONFLICT DO NOTHING

SELECT count(*), min(name), max(tags), sum(span) FROM users WHERE tenant_id = 5 AND id > 5000

DELETE FROM users WHERE tenant_id = 5 AND id > 5000

DELETE FROM tenants WHERE id = 1000

DELETE FROM tenants WHERE id = 1003

DELETE FROM settings WHERE name = 'users'

-- refused: INSERT … SELECT into table "users" with an unknown sharding key "tenant_id" is not supported
INSERT INTO users (tenant_id, id) SELECT tenant_id, id + 9000 FROM orders WHERE total < -100

-- once
BEGIN

-- once
INSERT INTO archive (id, note) SELECT 1, name FROM users WHERE name LIKE 'hot%'

-- once, in binary
INSERT INTO archive (id, note) SELECT id, note FROM archive WHERE note LIKE 'hot%' UNION ALL SELECT id, name FROM users WHERE name LIKE 'hot 1%'

-- once
SELECT count(*), count(DISTINCT note) FROM archive WHERE note LIKE 'hot%'

-- once
SAVEPOINT s

-- once
INSERT INTO settings SELECT name, 'x' FROM users WHERE name LIKE 'hot%'

-- once
INSERT INTO archive SELECT id FROM users

-- once
ROLLBACK TO s

-- once
SELECT count(*) FROM archive

-- once
ROLLBACK

SELECT count(*), sum(id) FROM archive

DELETE FROM archive WHERE id <> 1

CREATE TEMP TABLE s_users AS SELECT tenant_id, id, name, balance, doc, tags, seen FROM users

SELECT count(*), sum(balance), max(seen) FROM s_users

SELECT * FROM s_users ORDER BY tenant_id, id LIMIT 5

INSERT INTO s_users (tenant_id, id, name) SELECT 0, o.id, o.item FROM orders o WHERE o.total > 20 RETURNING name

INSERT INTO s_users SELECT * FROM s_users WHERE tenant_id = 3

-- once
CREATE TEMP TABLE s_counts (tenant, orders) ON COMMIT PRESERVE ROWS AS SELECT tenant_id, count(*) FROM orders GROUP BY 1

SELECT * FROM s_counts ORDER BY tenant

-- once, in binary
SELECT country, count(*) AS n INTO TEMP s_countries FROM tenants GROUP BY country

SELECT * FROM s_countries ORDER BY 1

-- once
CREATE TEMP TABLE s_empty AS SELECT a.name, b.id FROM users a, users b WHERE a.score = b.score WITH NO DATA

SELECT count(*) FROM s_empty

CREATE TEMP TABLE s_twice AS SELECT a.id, b.id FROM users a JOIN users b USING (name)

DROP TABLE s_users, s_counts, s_countries, s_empty

CREATE TABLE report AS SELECT plan_id, count(*) AS users, avg(score) AS mean FROM users GROUP BY plan_id

SELECT * FROM report ORDER BY plan_id

CREATE TABLE IF NOT EXISTS report AS SELECT name FROM users

INSERT INTO report (plan_id) SELECT max(id) FROM users RETURNING plan_id

ALTER TABLE report ADD COLUMN IF NOT EXISTS note text

DROP TABLE IF EXISTS report

-- once
SELECT name, id INTO UNLOGGED named FROM users WHERE score > 7

SELECT count(*), max(name) FROM named

-- once, in binary
CREATE TABLE empty_report (a, b) AS SELECT name, doc FROM users WITH NO DATA

SELECT count(*), max(a) FROM empty_report

DROP TABLE IF EXISTS named, empty_report

-- refused: a new table "mine" with the rows of a query is not supported
CREATE TABLE mine AS SELECT tenant_id, id FROM users

DECLARE c CURSOR FOR SELECT * FROM users

BEGIN

-- once
DECLARE c SCROLL CURSOR FOR SELECT tenant_id, id, name, balance, tags FROM users ORDER BY tenant_id DESC, id

-- once
FETCH 3 FROM c

-- once, in binary
FETCH 3 FROM c

FETCH PRIOR FROM c

FETCH ABSOLUTE 10 IN c

FETCH RELATIVE -3 FROM c

FETCH LAST c

FETCH BACKWARD 2 FROM c

MOVE FORWARD ALL IN c

MOVE BACKWARD 4 FROM c

FETCH ALL FROM c

FETCH FIRST FROM c

-- once
DECLARE d NO SCROLL CURSOR FOR SELECT u.name, count(*) FROM users u JOIN orders o ON o.user_id = u.score GROUP BY u.name ORDER BY 2 DESC, 1

FETCH FORWARD 5 FROM d

-- once
SAVEPOINT s

-- once
FETCH BACKWARD 1 FROM d

-- once
ROLLBACK TO s

FETCH 1 FROM d

CLOSE d

-- once
SAVEPOINT s

-- once
FETCH 1 FROM d

-- once
ROLLBACK TO s

-- once
UPDATE users SET name = 'changed' WHERE tenant_id = 1 AND id = 1

-- once
FETCH LAST FROM c

-- once
DECLARE e CURSOR FOR SELECT count(*) FROM users WHERE name = 'changed'

-- once
FETCH e

-- once
DECLARE b BINARY CURSOR FOR SELECT score, name FROM users WHERE score > 8 ORDER BY tenant_id, id

-- once
FETCH 2 FROM b

-- once
CLOSE ALL

-- once
ROLLBACK

FETCH 1 FROM c

-- once
DECLARE h SCROLL CURSOR WITH HOLD FOR SELECT tenant_id, id FROM users ORDER BY 1, 2

FETCH 2 FROM h

SELECT count(*) FROM users WHERE tenant_id = 2

FETCH BACKWARD ALL FROM h

-- once
CLOSE h

-- once
BEGIN

-- once
DECLARE c CURSOR FOR SELECT no_such FROM users

-- once
ROLLBACK

-- once
BEGIN READ ONLY

-- once
-- refused: a cursor over several shards is not supported in a READ ONLY transaction
DECLARE c CURSOR FOR SELECT id FROM users

-- once
ROLLBACK

UPDATE users SET tags[1] = 'zz', doc['a']['b'] = to_jsonb(id + 1), score = CASE WHEN tags[1] = 'a' THEN 1 ELSE score END WHERE tenant_id = 9 AND id = 3 RETURNING tags, doc

UPDATE users SET name = 'x', tags[2:3] = '{p,q}' WHERE tenant_id = 9 AND id = 3 AND tags[1] = 'zz' RETURNING tags, doc

UPDATE users SET tenant_id[1] = 5 WHERE tenant_id = 9

INSERT INTO users (tenant_id, id) VALUES (9, 3) ON CONFLICT (tenant_id, id) DO UPDATE SET tags[1] = 'again' RETURNING tags

CREATE TYPE hue AS ENUM ('red', 'green')

CREATE TABLE paints (tenant_id bigint NOT NULL, hue hue)

INSERT INTO paints VALUES (1, 'green') RETURNING tenant_id, hue::text

SELECT hue::text FROM paints WHERE tenant_id = 1

DROP TABLE paints

DROP TYPE hue

INSERT INTO moves (account_id, id, amount) OVERRIDING USER VALUE VALUES (7, 7000, 1.5) RETURNING account_id, id < 7000, amount

INSERT INTO moves (account_id, id, amount) OVERRIDING SYSTEM VALUE VALUES (7, 7000, 1.5) RETURNING account_id, id, amount

DELETE FROM moves WHERE account_id = 7 AND amount = 1.5

INSERT INTO archive (id, note) OVERRIDING USER VALUE SELECT score, name FROM users WHERE score > 8
