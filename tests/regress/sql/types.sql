-- Values of many types: in, out, by cast and in arrays; what is printed depends on the session's settings.
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE span AS (first int, last int);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE kinds (
    id int PRIMARY KEY, b boolean, i2 smallint, i8 bigint, n numeric(12, 3), f4 real, f8 float8,
    t text, v varchar(5), c char(4), y bytea, d date, ts timestamp, tz timestamptz, iv interval,
    u uuid, j json, jb jsonb, a int[], m mood, s span, p positive, r int4range, x inet
);
INSERT INTO kinds VALUES
    (1, true, -32768, 9223372036854775807, 123456789.125, 1.5, 'NaN', 'it''s', 'abc', 'ab', '\xdeadbeef',
     '2001-02-03', '2001-02-03 04:05:06.789', '2001-02-03 04:05:06+02', '1 day 02:03:04',
     'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": 1}', '{"b": [1, 2]}', '{1,NULL,3}', 'ok', (1, 2), 7,
     '[1,5)', '192.168.0.1/24'),
    (2, false, 0, 0, 0, '-Infinity', 'Infinity', '', '', '', '', '0044-03-15 BC', 'infinity', '-infinity',
     '-1 mons', NULL, 'null', 'null', '{}', 'sad', ROW(NULL, NULL), 1, 'empty', '::1'),
    (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT * FROM kinds ORDER BY id;
SELECT d, ts, tz, iv FROM kinds ORDER BY id;
SET datestyle TO ISO;
SELECT d, ts, tz, iv FROM kinds ORDER BY id;
SET datestyle TO dmy;
SELECT d, ts, tz, date '03/04/2005' FROM kinds ORDER BY id;
SET datestyle TO German;
SELECT d, ts, tz FROM kinds ORDER BY id;
SET timezone TO 'Asia/Kathmandu';
SET intervalstyle TO iso_8601;
SET bytea_output TO escape;
SET extra_float_digits TO 0;
SELECT tz, iv, y, f4, f8, 0.1::float8 + 0.2::float8 FROM kinds ORDER BY id;
RESET datestyle;
RESET timezone;
SELECT tz, iv FROM kinds ORDER BY id;
RESET ALL;
SELECT tz, iv, y FROM kinds ORDER BY id;
-- what does not fit
INSERT INTO kinds (id, v) VALUES (4, 'too long');
INSERT INTO kinds (id, m) VALUES (4, 'furious');
INSERT INTO kinds (id, p) VALUES (4, 0);
INSERT INTO kinds (id, i2) VALUES (4, 32768);
INSERT INTO kinds (id, u) VALUES (4, 'no');
INSERT INTO kinds (id, j) VALUES (4, '{"a": }');
INSERT INTO kinds (id, tz) VALUES (4, '2001-02-30');
SELECT '1e400'::float8, 1;
SELECT 10000000000 / 0;
-- literals as they may be written
SELECT 'a' 'b';
SELECT 'a'
    'b', E'\t\x41\u00e9', U&'d\0061t\+000061', $$it's$$, $q$a $$ b$q$, B'101', X'1F', 1e3, .5, 5.;
SELECT 123abc;
SELECT 0.0e+a;
SELECT "kinds"."ID" FROM kinds;
SELECT U&"\0069d" FROM kinds WHERE id = 1;
SELECT m, m > 'sad', m::text || '!' FROM kinds ORDER BY m NULLS FIRST;
SELECT (s).first, s, r * '[2,9)'::int4range, a[1:2], jb #> '{b,1}', x << '192.168.0.0/16' FROM kinds ORDER BY id;
UPDATE kinds SET s.first = 9, a[2] = 8, jb = jb || '{"c": 3}' WHERE id = 1 RETURNING s, a, jb;
SELECT xmlelement(name a, 'b');
ALTER TYPE mood ADD VALUE 'thrilled' AFTER 'happy';
INSERT INTO kinds (id, m) VALUES (5, 'thrilled') RETURNING m;
DROP TABLE kinds;
DROP TYPE mood, span;
DROP DOMAIN positive;
