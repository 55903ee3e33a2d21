-- PREPARE, EXECUTE and DEALLOCATE, across transactions and changes of what they stand on.
CREATE TABLE stock (id int PRIMARY KEY, name text, amount int);
INSERT INTO stock SELECT n, 'thing ' || n, n * 10 FROM generate_series(1, 5) n;
PREPARE one AS SELECT * FROM stock WHERE id = $1;
EXECUTE one(2);
EXECUTE one('3');
EXECUTE one(1 + 3);
EXECUTE one;
EXECUTE one(1, 2);
EXECUTE one('x');
EXECUTE two(1);
PREPARE one AS SELECT 1;
PREPARE typed(int, text) AS INSERT INTO stock VALUES ($1, $2, 0) RETURNING *;
EXECUTE typed(6, 'six');
EXECUTE typed(6, 'six again');
EXPLAIN (COSTS OFF) EXECUTE one(1);
BEGIN;
PREPARE inside AS SELECT sum(amount) FROM stock;
EXECUTE inside;
ROLLBACK;
EXECUTE inside;
CREATE TABLE copied AS EXECUTE one(1);
SELECT * FROM copied;
DROP TABLE copied;
-- the table changes under them
ALTER TABLE stock ADD COLUMN place text;
EXECUTE one(1);
EXECUTE inside;
ALTER TABLE stock DROP COLUMN place;
EXECUTE one(1);
DEALLOCATE one;
EXECUTE one(1);
DEALLOCATE one;
DEALLOCATE PREPARE typed;
DEALLOCATE ALL;
PREPARE many(int, int, int) AS SELECT $1 + $2 * $3 AS answer;
EXECUTE many(1, 2, 3);
DISCARD PLANS;
EXECUTE many(2, 2, 2);
DISCARD ALL;
EXECUTE many(2, 2, 2);
PREPARE broken AS SELECT * FROM nowhere;
PREPARE broken AS SELEC 1;
SELECT $1;
SELECT id, name FROM stock WHERE id = 1 \gdesc
SELECT 1 AS a, 'x' AS b \gdesc
SELECT 'SELECT ' || id FROM stock WHERE id < 3 ORDER BY id \gexec
SELECT id AS it FROM stock WHERE id = 4 \gset
SELECT name FROM stock WHERE id = :it;
DROP TABLE stock;
