// postgres.js through the proxy: it pipelines by itself, prepares what has parameters, streams and copies.
import postgres from "postgres";

const url = process.env.DATABASE_URL || "postgresql://bot:bot@127.0.0.1:6432/bots";

function same(found, expected) {
  if (String(found) !== String(expected)) throw new Error(`${found} instead of ${expected}`);
}

const sql = postgres(url, { max: 6, ssl: process.env.DATABASE_SSL || false });
for (let tenant = 1; tenant <= 60; tenant++) {
  const [row] = await sql`SELECT id, name FROM tenants WHERE id = ${tenant}`;
  same(row.id, tenant);
}
// Many at once: more statements than connections, several in flight on each.
const rows = await Promise.all(
  Array.from({ length: 200 }, (_, n) => sql`SELECT id FROM tenants WHERE id = ${(n % 60) + 1}`),
);
rows.forEach(([row], n) => same(row.id, (n % 60) + 1));

const count = async (handle) =>
  Number((await handle`SELECT count(*) FROM tasks WHERE tenant_id = 42`)[0].count);
const before = await count(sql);
const refused = await sql
  .begin(async (transaction) => {
    await transaction`DELETE FROM tasks WHERE tenant_id = ${42}`;
    same(await count(transaction), 0);
    await transaction.savepoint((inner) => inner`SELECT 1 / 0`).catch(() => {});
    same(await count(transaction), 0);
    throw new Error("undo");
  })
  .catch((error) => error.message);
same(refused, "undo");
same(await count(sql), before);

// A pipelined transaction.
await sql.begin((transaction) => [
  transaction`UPDATE tasks SET status = 2 WHERE tenant_id = ${42}`,
  transaction`SELECT count(*) FROM tasks WHERE tenant_id = ${42}`,
]);

// A portal that is read in portions.
await sql.begin(async (transaction) => {
  let seen = 0;
  await transaction`SELECT id FROM users WHERE tenant_id = ${42}`.cursor(2, (portion) => {
    seen += portion.length;
  });
  if (seen < 4) throw new Error(`${seen} users`);
});

const code = (promise) => promise.then(() => "nothing", (error) => error.code);
same(await code(sql`SELECT 1 / 0`), "22012");
same(await code(sql`UPDATE users SET tenant_id = 43 WHERE tenant_id = 42`), "0A000");
same(await code(sql.unsafe("SELEC 1")), "42601");

// Several statements in one string, COPY in and out, a cancelled statement.
const several = await sql.unsafe("SELECT 1 AS a; SELECT 2 AS b");
same(several[1][0].b, 2);
await sql`INSERT INTO plans VALUES (99, 'copied', 1)`.catch((error) => same(error.code, "0A000"));
const stream = await sql`COPY global_settings TO STDOUT`.readable();
for await (const chunk of stream) if (!chunk.length) throw new Error("an empty chunk");
const slow = sql`SELECT pg_sleep(20) FROM tenants WHERE id = 1`;
setTimeout(() => slow.cancel(), 300);
same(await code(slow), "57014");
same((await sql`SELECT 1 AS a`)[0].a, 1);
await sql.end();
