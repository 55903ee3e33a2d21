-- COPY both ways, in all its forms, with errors in the middle.
CREATE TABLE parcel (id int PRIMARY KEY, note text, weight numeric);
COPY parcel FROM STDIN;
1	one	1.5
2	\N	2
3	tab\there	\N
\.
COPY parcel TO STDOUT;
COPY parcel (note, id) TO STDOUT WITH (FORMAT csv, HEADER, FORCE_QUOTE (note), NULL 'none');
COPY (SELECT id, note FROM parcel WHERE id > 1 ORDER BY id) TO STDOUT (DELIMITER '|');
COPY parcel FROM STDIN WITH (FORMAT csv, HEADER, DELIMITER ';', QUOTE '''');
id;note;weight
4;'semi;colon';4
5;'two
lines';5
\.
SELECT * FROM parcel ORDER BY id;
-- errors: a bad value, a duplicate, too few columns, a missing table, in a transaction
COPY parcel FROM STDIN;
6	six	6
x	seven	7
\.
COPY parcel FROM STDIN;
6	six	6
1	again	1
\.
COPY parcel FROM STDIN;
6
\.
COPY nowhere FROM STDIN;
SELECT count(*) FROM parcel;
BEGIN;
COPY parcel FROM STDIN;
6	six	6
\.
SELECT count(*) FROM parcel;
COPY parcel (id) FROM STDIN;
oops
\.
SELECT 1;
ROLLBACK;
SELECT count(*) FROM parcel;
\copy parcel (id, note) FROM STDIN (FORMAT csv)
7,seven
8,eight
\.
\copy (SELECT id, note FROM parcel ORDER BY id) TO STDOUT (FORMAT csv, HEADER)
\copy nowhere TO STDOUT
-- several statements around it in one string
COPY parcel FROM STDIN\; SELECT count(*) FROM parcel\; COPY (SELECT max(id) FROM parcel) TO STDOUT;
9	nine	9
\.
COPY (INSERT INTO parcel VALUES (20, 'returned', 0) RETURNING *) TO STDOUT;
COPY (SELECT n, repeat('x', 100) FROM generate_series(1, 2000) n) TO PROGRAM 'cat > /dev/null';
COPY parcel TO STDOUT (FORMAT xml);
COPY parcel FROM STDIN (FORMAT csv) WHERE id < 31;
30,thirty,1
31,not wanted,2
\.
SELECT * FROM parcel WHERE id >= 30;
DROP TABLE parcel;
