-- What is wrong with a statement is said in the same words, at the same place.
SELEC 1;
SELECT 1 FROM;
SELECT 'open;
';
SELECT "open;
";
SELECT /* open
*/ 1;
SELECT (1;
SELECT 1);
SELECT ]1;
SELECT * FROM;
INSERT INTO nothing VALUES (1);
UPDATE nothing SET a = 1;
DELETE FROM nothing;
SELECT nothing;
SELECT nothing();
SELECT a FROM (VALUES (1)) v(b);
SELECT 1 + 'x';
SELECT 1 || ;
SELECT $1 + 1;
SELECT 1::nothing;
SELECT 1 AS "", 2 AS "a";
DROP TABLE nothing;
DROP TABLE IF EXISTS nothing;
DROP SCHEMA nothing;
DROP FUNCTION nothing(int);
CREATE TABLE;
CREATE TABLE a (a nothing);
CREATE TABLE a (a int, a int);
ALTER TABLE nothing ADD COLUMN b int;
GRANT SELECT ON nothing TO PUBLIC;
SET ROLE nobody_at_all;
FETCH 1 FROM nothing;
EXECUTE nothing;
DEALLOCATE nothing;
LOCK TABLE nothing;
TRUNCATE nothing;
COPY nothing TO STDOUT;
VACUUM nothing;
COMMENT ON TABLE nothing IS 'x';
CALL nothing();
DO 'nothing';
NOTIFY;
EXPLAIN SELECT nothing;
EXPLAIN (NOTHING) SELECT 1;
SHOW nothing;
SELECT 1; SELECT 2 FROM nothing; SELECT 3;
;
;;
-- nothing but a comment
/* and /* another */ one */;
SELECT 'é', 'ü' AS "ä", nothing FROM (SELECT 1) "ö";
\set VERBOSITY verbose
SELECT 1 / 0;
SELECT * FROM nothing;
\set VERBOSITY sqlstate
SELECT 1 / 0;
\set VERBOSITY default
\errverbose
