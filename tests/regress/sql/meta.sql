-- psql's own commands ask the system catalogs.
CREATE TABLE described (
    id int PRIMARY KEY, name text NOT NULL DEFAULT 'x' CHECK (name <> ''), parent int REFERENCES described
);
COMMENT ON TABLE described IS 'a table';
CREATE INDEX described_name ON described (lower(name)) WHERE parent IS NULL;
CREATE VIEW seen AS SELECT id, name FROM described;
CREATE FUNCTION described_name(described) RETURNS text LANGUAGE sql AS 'SELECT $1.name';
\d described
\d+ described
\d seen
\d nothing
\dt
\dt+ described
\di
\dv+
\ds
\df described_name
\df+ described_name
\sf described_name
\sv seen
\dn
\du
\dg
\dT
\dp described
\dd
\l
\dx
\des
\dC bool*
\do ~~
\drds
\dP
\conninfo_not_a_command
\gset
SELECT 1 AS a \gx
SELECT 1 AS a, 2 AS b \crosstabview
\echo :LAST_ERROR_MESSAGE
SELECT 1 / 0;
\echo :LAST_ERROR_MESSAGE :SQLSTATE :ROW_COUNT
\x
SELECT * FROM described;
\x
\pset null '(null)'
INSERT INTO described VALUES (1, 'one', NULL) RETURNING *;
\timing off
\encoding
\set AUTOCOMMIT off
INSERT INTO described VALUES (2, 'two', 1);
ROLLBACK;
SELECT count(*) FROM described;
COMMIT;
\set AUTOCOMMIT on
\set ON_ERROR_ROLLBACK on
BEGIN;
INSERT INTO described VALUES (3, '', 1);
INSERT INTO described VALUES (3, 'three', 1);
COMMIT;
SELECT * FROM described ORDER BY id;
\set ON_ERROR_ROLLBACK off
DROP VIEW seen;
DROP TABLE described CASCADE;
