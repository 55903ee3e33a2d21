-- Equal values that are not the same: shards must not make one of them.

SELECT n::text, count(*) FROM twins GROUP BY n::text ORDER BY 1

SELECT n::text AS n, count(*) FROM twins GROUP BY 1 ORDER BY 1

SELECT scale(n), count(*), min(t) FROM twins GROUP BY scale(n) ORDER BY 1

SELECT count(*), count(DISTINCT n), count(DISTINCT n::text) FROM twins

SELECT count(DISTINCT n::text), count(DISTINCT f::text), count(DISTINCT s::text), count(DISTINCT b::text) FROM twins

SELECT trunc(n), count(DISTINCT scale(n)) FROM twins GROUP BY trunc(n) ORDER BY 1

SELECT count(*), count(DISTINCT scale(n)) FROM twins WHERE n = 1 GROUP BY n

SELECT count(*) FROM twins GROUP BY n ORDER BY 1

SELECT f::text, count(*) FROM twins GROUP BY f::text ORDER BY 1

SELECT count(*) FROM twins GROUP BY f ORDER BY 1

SELECT s::text, count(*) FROM twins GROUP BY s::text ORDER BY 1

SELECT extract(day FROM s), count(*) FROM twins GROUP BY 1 ORDER BY 1

SELECT count(*) FROM twins GROUP BY s ORDER BY 1

SELECT octet_length(c), count(*) FROM twins GROUP BY 1 ORDER BY 1

SELECT c, count(*) FROM twins GROUP BY c ORDER BY c

SELECT b::text, count(*) FROM twins GROUP BY b::text ORDER BY 1

SELECT count(*) FROM twins GROUP BY b ORDER BY 1

SELECT j::text, count(*) FROM twins GROUP BY j::text ORDER BY 1

SELECT j ->> 'x', count(*), max(n) FROM twins WHERE n <> 'NaN' GROUP BY 1 ORDER BY 1

SELECT p::text, count(*) FROM twins GROUP BY p::text ORDER BY 1

SELECT p[0], count(*) FROM twins GROUP BY p[0] ORDER BY 1

SELECT m, count(*), sum(tenant_id) FROM twins GROUP BY m ORDER BY m

SELECT m::text, count(DISTINCT m) FROM twins GROUP BY m::text ORDER BY 1

SELECT lower(t), count(*), count(DISTINCT t) FROM twins GROUP BY lower(t) ORDER BY 1

SELECT sum(n), avg(n), sum(n) FILTER (WHERE f = 0) FROM twins WHERE n <> 'NaN'

SELECT t, n, f, s, c, b, m FROM twins ORDER BY tenant_id, t, n, f, s LIMIT 4

SELECT DISTINCT n::text FROM twins ORDER BY 1

SELECT max(f), min(f), sum(f) FROM twins

SELECT bool_or(n = 1), every(n = 1), max(b::text), count(j), count(p) FROM twins

SELECT j FROM twins WHERE j IS NOT NULL ORDER BY j::text, tenant_id

-- refused: this statement can't be routed
SELECT p FROM twins WHERE p <@ box '((0,0),(1,2))' ORDER BY tenant_id, n
