// node-postgres through the proxy: unnamed and named statements, a transaction, a pool.
"use strict";

const { Client, Pool } = require("pg");

const connectionString = process.env.DATABASE_URL || "postgresql://bot:bot@127.0.0.1:6432/bots";

function same(found, expected) {
  if (Number(found) !== Number(expected)) throw new Error(`${found} instead of ${expected}`);
}

async function main() {
  const client = new Client({ connectionString });
  await client.connect();
  const text = "SELECT id FROM tenants WHERE id = $1";
  for (let tenant = 1; tenant <= 20; tenant++) {
    same((await client.query(text, [tenant])).rows[0].id, tenant);
    same((await client.query({ name: "by-id", text, values: [tenant] })).rows[0].id, tenant);
  }
  await client.query("BEGIN");
  await client.query("UPDATE tasks SET status = 2 WHERE tenant_id = $1", [42]);
  await client.query("ROLLBACK");
  const refusal = await client
    .query("UPDATE users SET tenant_id = 43 WHERE tenant_id = 42")
    .then(() => null, (error) => error);
  if (!refusal || refusal.code !== "0A000") throw new Error(`not refused: ${refusal}`);
  await client.end();

  const pool = new Pool({ connectionString, max: 8 });
  const tenants = Array.from({ length: 200 }, (_, n) => (n % 60) + 1);
  await Promise.all(
    tenants.map(async (tenant) => same((await pool.query(text, [tenant])).rows[0].id, tenant)),
  );
  await pool.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
