-- Every database gets these rows; each shard then loses those of others.
INSERT INTO plans VALUES (1, 'free', 0), (2, 'team', 9.90), (3, NULL, 99), (4, 'unused', NULL);
INSERT INTO countries VALUES ('DE', 'Deutschland'), ('US', 'United States'), ('FR', 'France'), ('XX', NULL);
INSERT INTO settings VALUES ('theme', 'dark'), ('limit', '5'), ('user 3', 'x');
INSERT INTO archive SELECT n, n % 7, 'old ' || n FROM generate_series(1, 12) n;
INSERT INTO tenants SELECT n, 'tenant ' || n, n % 4 + 1, (ARRAY['DE', 'US', 'FR', NULL])[n % 4 + 1],
    date '2020-01-01' + (n * 37)::integer FROM generate_series(0, 15) n;
INSERT INTO tenants VALUES (100, 'lonely', NULL, 'ZZ', NULL), (101, '', 99, 'DE', 'infinity');
INSERT INTO users SELECT t, i, 'user ' || (t * 7 + i * 3) % 23, CASE WHEN i % 4 <> 0 THEN 'u' || i || '@t' || t || '.test' END,
    (t + i) % 5, (t * i) % 11, (t - i) / 3.0::float8, (t * 100 + i) / 7.0, (10.0 ^ (t + i)) / 3, (t + i) % 3 = 0,
    date '1990-01-01' + (t * 400 + i * 31)::integer, timestamptz '2024-01-01 00:00+00' + (t * 17 + i) * interval '7 hours',
    timestamp '2023-06-01' + (i * 3 + t) * interval '1 day 2 minutes',
    CASE WHEN i % 3 = 0 THEN ARRAY['a', 'b' || i] WHEN i % 3 = 1 THEN '{}'::text[] END,
    jsonb_build_object('n', i, 'k', t, 'list', jsonb_build_array(t, i)),
    md5(t || '-' || i)::uuid, decode(md5(i || '/' || t), 'hex'), i * interval '1 day' - t * interval '1 hour',
    (t - i)::smallint, (i / 3.0)::real, chr((65 + (t + i) % 26)::integer), chr((97 + (t * i) % 26)::integer) || i,
    (ARRAY['Ärger', 'Zebra', 'apfel', 'Öl', 'zebra', 'Straße'])[(t + i) % 6 + 1]
    FROM generate_series(0, 9) t, generate_series(1, 6) i;
INSERT INTO users SELECT 3, i, 'hot ' || i % 10, 'hot' || i || '@x', 1, i % 50, i, i, i, true, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM generate_series(100, 180) i;
INSERT INTO users (tenant_id, id, name, score, ratio, balance, huge, born, at, seen, span, strict_name, tags) VALUES
    (10, 1, '', NULL, 'NaN', -0.00, 'NaN', '0044-03-15 BC', '0001-01-01 BC', '-infinity', '-3 months', '', '{NULL}'),
    (10, 2, 'emoji 😀🎉', 0, 'Infinity', 1.00, 1.0, 'infinity', 'infinity', 'infinity', '1 mon -30 days', 'Z', '{"a b","c,d"}'),
    (11, 1, 'user 4', 5, '-Infinity', NULL, 1.00, '-infinity', NULL, NULL, '00:00:00.000001', 'a', '{{1,2},{3,4}}'),
    (11, 2, NULL, -5, '-0', 1, 123456789012345678901234567890.123456789, NULL, NULL, NULL, NULL, 'A', NULL),
    (12, 1, repeat('long ', 2000), 2147483647, 0, 99999999.99, -0.00000000000000000001, '5874897-12-31', NULL, NULL, '178000000 years', NULL, NULL),
    (13, 1, 'quote '' and \ and " and tab	', -2147483648, 1e-300, 0, 0, '2000-02-29', '2000-02-29', '2000-02-29 12:00+05:30', '0', 'é', '{}'),
    (14, 1, 'User 4', 5, 1e300, 5, 5, NULL, NULL, NULL, NULL, 'ab', NULL);
INSERT INTO orders SELECT t, i, (t + i) % 8, CASE WHEN i % 7 <> 0 THEN (t * 13 + i * 7) / 4.0 END,
    (ARRAY['sad', 'ok', 'happy', NULL])[(t + i) % 4 + 1]::mood,
    timestamptz '2024-03-01 10:00+00' + (t * 5 + i * 11) * interval '53 minutes', 'item ' || i % 9, (i * t) % 100
    FROM generate_series(0, 11) t, generate_series(1, 15) i;
INSERT INTO orders VALUES (13, 1, NULL, 'NaN', 'ok', NULL, NULL, NULL), (13, 2, 1, 0, NULL, '-infinity', '', 0);
INSERT INTO notes SELECT i, (i * 5) % 14, CASE WHEN i % 5 <> 0 THEN 'note ' || i % 6 END, (i, 'b' || i)::pair
    FROM generate_series(1, 40) i;
INSERT INTO notes SELECT i % 3, i % 3, 'same', NULL FROM generate_series(1, 9) i;
INSERT INTO events SELECT t, date '2023-11-15' + (i * 9 + t)::integer, (ARRAY['click', 'view', 'buy'])[i % 3 + 1], (i * t) % 10
    FROM generate_series(0, 8) t, generate_series(1, 12) i;
INSERT INTO bots SELECT i, i % 9, 'bot ' || i % 4 FROM generate_series(1, 20) i;
INSERT INTO bots VALUES (0, 0, 'everywhere');
INSERT INTO devices SELECT i, 'model ' || i % 5, i % 13 FROM generate_series(1, 30) i;
INSERT INTO app.users SELECT t, t * 10, 'app ' || t FROM generate_series(0, 7) t;
-- Equal, but not the same; two of each kind on one shard.
INSERT INTO twins VALUES
    (0, 1.0, 0, '30 days', 'a', '{"x": 1.0}', '{"x": 1}', '(1,2)', 'ok', 'a'),
    (0, 1.00, '-0', '1 mon', 'a ', '{"x": 1.00}', '{"x": 2}', '(1,2)', 'ok', 'A'),
    (3, 1.000, 0, '720 hours', 'a  ', '{"x": 1}', NULL, '(1,3)', 'sad', 'a'),
    (1, 1.0, 'NaN', '1 mon', 'b', '{"x": 1.0}', '{"x": 1}', NULL, NULL, NULL),
    (1, 'NaN', '-0', '30 days', 'b ', 'null', '{"x": 1}', '(1,2)', 'happy', 'b'),
    (4, 1, 0, NULL, NULL, NULL, NULL, NULL, 'ok', 'a');
INSERT INTO docs SELECT o, n, o || ' title ' || n, to_tsvector('english', 'the quick brown ' || o || ' jumps over ' || n || ' lazy dogs')
  FROM unnest(ARRAY['alice','Alice','bob','bob ','carol','dave','éric','','O''Neil','x"y','back\slash','zoë','1','01','true']) o, generate_series(1,4) n;
INSERT INTO pages SELECT o, n, 'page ' || n FROM unnest(ARRAY['alice','Alice','bob','bob ','carol','nobody','']) o, generate_series(1,3) n;
INSERT INTO files SELECT md5('f'||n)::uuid, '/p/' || n, n * 10 FROM generate_series(1,30) n;
INSERT INTO accounts SELECT n, 'acc ' || n % 6, timestamptz '2024-01-01 00:00+00' + n * interval '13 hours', (n * 12.34)::numeric::money FROM generate_series(-5,40) n;
INSERT INTO moves SELECT n % 40 + 1, n, n * 3.1, daterange(date '2024-01-01' + n, date '2024-01-05' + n), (n % 16)::bit(4), (n % 8)::bit(3)::bit varying(6), ('10.0.' || n % 3 || '.' || n)::inet, ('08:00:2b:01:02:' || to_char(n % 90 + 10, 'FM00'))::macaddr, ('<a n="' || n || '"/>')::xml, point(n, n) FROM generate_series(1,100) n;
INSERT INTO "Odd Table" SELECT t, i, 'ab' || i, 'u' || t, jsonb_build_object('t', t) FROM generate_series(0,6) t, generate_series(1,3) i;
INSERT INTO base SELECT t, i, 'b' || i FROM generate_series(0,5) t, generate_series(1,2) i;
INSERT INTO derived SELECT t, i, 'd' || i, 'e' || t FROM generate_series(0,5) t, generate_series(1,2) i;
INSERT INTO smalls SELECT t, i, 's' || i FROM generate_series(-3,5) t, generate_series(1,2) i;
INSERT INTO labels SELECT t, i, (ARRAY['abc', 'ABC', 'Abd', 'abd', '', NULL, 'é', 'É'])[(t * 3 + i) % 8 + 1] FROM generate_series(0, 8) t, generate_series(1, 5) i;
