-- What was moved is all there, and once only: over all shards, and in each branch.
SELECT sum(abalance) AS a FROM pgbench_accounts \gset
SELECT sum(tbalance) AS t FROM pgbench_tellers \gset
SELECT sum(bbalance) AS b FROM pgbench_branches \gset
SELECT sum(delta) AS h, count(*) AS n FROM pgbench_history \gset
SELECT :a = :h AND :t = :h AND :b = :h AND :n = :wanted AS same \gset
SELECT count(*) AS torn FROM pgbench_branches b WHERE bbalance <>
  (SELECT coalesce(sum(delta), 0) FROM pgbench_history h WHERE h.bid = b.bid) \gset
\echo :same :torn
