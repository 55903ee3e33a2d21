-- Aggregates over all rows.

SELECT count(score), sum(score), min(score), max(score), avg(score) FROM users WHERE tenant_id <> 10

SELECT count(tenant_id), sum(tenant_id), min(tenant_id), max(tenant_id), avg(tenant_id) FROM users WHERE tenant_id <> 10

SELECT count(balance), sum(balance), min(balance), max(balance), avg(balance) FROM users WHERE tenant_id <> 10

SELECT count(huge), sum(huge), min(huge), max(huge), avg(huge) FROM users WHERE tenant_id <> 10

SELECT count(small), sum(small), min(small), max(small), avg(small) FROM users WHERE tenant_id <> 10

SELECT count(name), min(name), max(name) FROM users

SELECT count(email), min(email), max(email) FROM users

SELECT count(born), min(born), max(born) FROM users

SELECT count(seen), min(seen), max(seen) FROM users

SELECT count(at), min(at), max(at) FROM users

SELECT count(span), min(span), max(span) FROM users

SELECT count(code), min(code), max(code) FROM users

SELECT count(strict_name), min(strict_name), max(strict_name) FROM users

SELECT count(german), min(german), max(german) FROM users

-- float
SELECT count(ratio), min(ratio), max(ratio), sum(ratio), avg(ratio) FROM users WHERE tenant_id < 10

SELECT min(ratio), max(ratio) FROM users

SELECT sum(ratio) FROM users

-- float
SELECT count(half), min(half), max(half), avg(half) FROM users WHERE tenant_id < 10

SELECT min(half), max(half) FROM users

SELECT count(*) FROM users

SELECT count(*) AS n FROM users WHERE false

SELECT sum(score), avg(score), min(name), bool_and(active), bool_or(active), every(active) FROM users WHERE false

SELECT count(*), count(1), count(name), count(DISTINCT name), count(DISTINCT plan_id) FROM users

SELECT bool_and(active), bool_or(active), every(active) FROM users

SELECT bit_and(score), bit_or(score) FROM users

SELECT sum(DISTINCT score), avg(DISTINCT score)::numeric(10,4), count(DISTINCT (tenant_id, plan_id)) FROM users

SELECT count(*) FILTER (WHERE active), sum(score) FILTER (WHERE score > 5), max(name) FILTER (WHERE tenant_id = 3) FROM users

SELECT coalesce(sum(score), 0), round(avg(score), 2), count(*)::int, sum(score) / count(*), -max(score) FROM users

SELECT sum(score + tenant_id), max(length(name)), min(upper(name)) FROM users

SELECT max(score) - min(score) AS spread, count(*) > 100 AS many FROM users

SELECT 'total ' || count(*) FROM users

SELECT count(*) FROM users WHERE score > 5 AND name LIKE 'user%'

SELECT count(*) FROM users HAVING count(*) > 10

SELECT count(*) FROM users HAVING count(*) < 10

SELECT sum(score) FROM users WHERE tenant_id IN (1, 2, 3)

SELECT sum(score), count(*) FROM users WHERE tenant_id BETWEEN 2 AND 7

SELECT count(*) FROM users u JOIN orders o ON o.tenant_id = u.tenant_id AND o.user_id = u.id

SELECT sum(o.total) FROM users u JOIN orders o ON o.tenant_id = u.tenant_id AND o.user_id = u.id WHERE o.total <> 'NaN'

SELECT sum(total), avg(total), max(total), min(total) FROM orders

SELECT sum(fee), max(fee), min(status), max(status), count(status) FROM orders

SELECT count(*), sum(qty) FROM orders

SELECT string_agg(name, ',' ORDER BY tenant_id, id) FROM users WHERE tenant_id < 4 AND id < 100

SELECT array_agg(score ORDER BY tenant_id, id) FROM users WHERE tenant_id < 5

SELECT json_agg(name ORDER BY tenant_id, id) FROM users WHERE id = 1

SELECT jsonb_agg(score ORDER BY tenant_id DESC, id) FROM users WHERE id < 3

SELECT json_object_agg(tenant_id || '/' || id, name ORDER BY tenant_id, id) FROM users WHERE id = 2

SELECT jsonb_object_agg(tenant_id || '/' || id, score) FROM users WHERE id <= 2

SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY score), percentile_disc(0.25) WITHIN GROUP (ORDER BY score) FROM users

SELECT mode() WITHIN GROUP (ORDER BY plan_id) FROM users

SELECT percentile_disc(ARRAY[0.1, 0.5, 0.9]) WITHIN GROUP (ORDER BY name) FROM users

SELECT rank(5) WITHIN GROUP (ORDER BY score), dense_rank(5) WITHIN GROUP (ORDER BY score) FROM users

-- float
SELECT stddev(score), variance(score), var_pop(score), stddev_samp(tenant_id) FROM users WHERE tenant_id < 11

-- float
SELECT corr(score, tenant_id), regr_slope(score, id), regr_count(score, id), covar_pop(score, id) FROM users WHERE tenant_id < 10

SELECT count(*) FROM (SELECT name FROM users) x

SELECT count(*), max(n) FROM (SELECT tenant_id, count(*) AS n FROM users GROUP BY tenant_id) x

SELECT avg(n), max(n) FROM (SELECT plan_id, count(*) AS n FROM users GROUP BY plan_id) x

SELECT sum(n) FROM (SELECT DISTINCT score AS n FROM users) x

SELECT count(*) FROM v_users

SELECT sum(n) FROM v_counts

-- refused: this statement can't be routed
SELECT xmlagg(xmlelement(name a, id) ORDER BY tenant_id, id) FROM users WHERE id = 1

SELECT max(tags), min(tags) FROM users

SELECT count(DISTINCT doc), count(DISTINCT uid), count(DISTINCT raw) FROM users

SELECT count(*) FROM empties

SELECT sum(n), avg(n), max(label), count(*) FROM empties

SELECT any_value FROM (SELECT min(score) AS any_value FROM users) x
