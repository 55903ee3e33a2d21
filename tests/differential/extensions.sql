-- Functions that an extension brings along, some of them under the names of PostgreSQL's own.

SELECT count(*), min(id), max(id) FROM labels

SELECT max(score), min(name), max(tenant_id) FROM users

SELECT plan_id, min(score), max(seen) FROM users GROUP BY plan_id ORDER BY plan_id

SELECT max(m) FROM (SELECT tenant_id, max(id) AS m FROM users GROUP BY tenant_id) x

SELECT max(word) = 'É', min(word) FROM labels WHERE word <> 'é'

SELECT min(lower(word)), max(lower(word::text)) FROM labels

SELECT tenant_id % 2, count(DISTINCT word), lower(max(word)) FROM labels GROUP BY 1 ORDER BY 1

SELECT tenant_id, id, word FROM labels ORDER BY word, tenant_id, id

SELECT tenant_id, id FROM labels WHERE word = 'ABC' ORDER BY 1, 2

SELECT tenant_id, id FROM labels WHERE word LIKE 'AB%' ORDER BY 1, 2

SELECT count(*) FROM labels a JOIN labels b ON a.word = b.word

SELECT lower(word), count(*) FROM labels GROUP BY lower(word) ORDER BY 1

SELECT replace(word, 'B', 'x'), split_part(word, 'B', 1), translate(word, 'B', 'y'), strpos(word, 'C') FROM labels ORDER BY tenant_id, id

SELECT replace(name, 'user', 'u'), id FROM users WHERE id < 3 ORDER BY tenant_id, id

SELECT regexp_replace(word, 'B', 'x'), regexp_match(word, '^A') FROM labels WHERE tenant_id IN (1, 2) ORDER BY tenant_id, id

SELECT citext_cmp(word, 'ABC'), count(*) FROM labels GROUP BY 1 ORDER BY 1

SELECT count(*) FROM docs WHERE owner = 'ALICE'::citext

SELECT owner, n FROM docs WHERE owner IN ('ALICE'::citext, 'bob') ORDER BY owner COLLATE "C", n

SELECT max(word) FROM labels WHERE tenant_id = 1

SELECT max(n) FROM plans, empties
