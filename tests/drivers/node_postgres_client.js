// node-postgres through the proxy: unnamed and named statements, transactions, errors, values of many types,
// cancel by a second connection, a pool.
"use strict";

const { Client, Pool } = require("pg");

const connectionString = process.env.DATABASE_URL || "postgresql://bot:bot@127.0.0.1:6432/bots";

function same(found, expected) {
  if (Number(found) !== Number(expected)) throw new Error(`${found} instead of ${expected}`);
}

// The protocol's own CancelRequest, as the driver itself sends it.
function cancel(client, [processID, secretKey]) {
  const packet = Buffer.alloc(16);
  [16, 80877102, processID, secretKey].forEach((word, n) => packet.writeInt32BE(word, n * 4));
  return new Promise((resolve, reject) => {
    const socket = require("net").connect(client.port, client.host, () => socket.end(packet));
    socket.on("close", resolve).on("error", reject);
  });
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
  const state = (promise) => promise.then(() => "nothing", (error) => error.code);
  same(await state(client.query("SELECT 1 / 0")), 22012);
  await client.query("BEGIN");
  same(await state(client.query("SELECT 1 / 0")), 22012);
  if ((await state(client.query("SELECT 1"))) !== "25P02") throw new Error("not aborted");
  await client.query("ROLLBACK");
  const several = await client.query("SELECT 1 AS a; SELECT 2 AS b");
  same(several[1].rows[0].b, 2);
  const values = [new Date(981173106000), Buffer.from([0, 255]), "it's \\", null, true, [1, 2], { a: [1] }];
  const typed = await client.query({
    text: `SELECT $1::timestamptz a, $2::bytea b, $3::text c, $4::text d, $5::bool e, $6::int[] f, $7::jsonb g
           FROM tenants WHERE id = $8`,
    values: [...values, 3],
  });
  if (JSON.stringify(Object.values(typed.rows[0])) !== JSON.stringify(values)) throw new Error("types");
  const key = [client.processID, client.secretKey];
  const slow = state(client.query("SELECT pg_sleep(20) FROM tenants WHERE id = 1"));
  await new Promise((resolve) => setTimeout(resolve, 300));
  await cancel(client, key);
  same(await slow, 57014);
  same((await client.query("SELECT 1 AS a")).rows[0].a, 1);
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
