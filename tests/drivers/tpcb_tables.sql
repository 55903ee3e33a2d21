-- pgbench's tables, with the branch in every key: 12 branches of 10 tellers and 1,000 accounts. Everything
-- through the proxy.
CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int NOT NULL);
CREATE TABLE pgbench_tellers (tid int, bid int, tbalance int NOT NULL, PRIMARY KEY (bid, tid));
CREATE TABLE pgbench_accounts (aid int, bid int, abalance int NOT NULL, PRIMARY KEY (bid, aid));
CREATE TABLE pgbench_history (tid int, bid int NOT NULL, aid int, delta int NOT NULL, mtime timestamp);
SELECT format('INSERT INTO pgbench_branches VALUES (%s, 0)', bid) FROM generate_series(1, 12) bid \gexec
SELECT format('INSERT INTO pgbench_tellers SELECT n, %s, 0 FROM generate_series(1, 10) n', bid)
  FROM generate_series(1, 12) bid \gexec
SELECT format('INSERT INTO pgbench_accounts SELECT n, %s, 0 FROM generate_series(1, 1000) n', bid)
  FROM generate_series(1, 12) bid \gexec
