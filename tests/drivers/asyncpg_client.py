"""asyncpg through the proxy: every statement prepared and named, in transactions and out, many at once."""

import asyncio
import os

import asyncpg

URL = os.environ.get("DATABASE_URL", "postgresql://bot:bot@127.0.0.1:6432/bots")


async def one_client():
    connection = await asyncpg.connect(URL)
    try:
        for tenant in range(1, 61):
            row = await connection.fetchrow("SELECT id, name FROM tenants WHERE id = $1", tenant)
            assert row["id"] == tenant
        # A statement by hand, for tenants on different shards, in transactions of their own.
        statement = await connection.prepare("SELECT id FROM tenants WHERE id = $1")
        assert statement.get_parameters()[0].name == "int8"
        for tenant in (1, 2, 3, 42):
            async with connection.transaction():
                assert await statement.fetchval(tenant) == tenant
        for tenant in (5, 6, 7):
            async with connection.transaction():
                # Prepared within the transaction, before anything is executed in it.
                inner = await connection.prepare("SELECT count(*) FROM users WHERE tenant_id = $1")
                assert await inner.fetchval(tenant) >= 4
                again = await connection.prepare("UPDATE tasks SET status = status WHERE tenant_id = $1")
                await again.fetch(tenant)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("UPDATE tasks SET status = 2 WHERE tenant_id = $1", 42)
        async with connection.transaction():  # a savepoint
            await connection.execute("DELETE FROM tasks WHERE tenant_id = $1", 42)
            assert await connection.fetchval("SELECT count(*) FROM tasks WHERE tenant_id = $1", 42) == 0
        await transaction.rollback()
        assert await connection.fetchval("SELECT count(*) FROM tasks WHERE tenant_id = $1", 42) > 0
        async with connection.transaction():
            rows = 0
            async for _ in connection.cursor("SELECT id FROM users WHERE tenant_id = $1", 42, prefetch=2):
                rows += 1
            assert rows >= 4
        await connection.executemany(
            "UPDATE tasks SET priority = $1 WHERE tenant_id = $2", [(1, 42), (2, 42), (3, 42)]
        )
        ids = await connection.fetch("SELECT id FROM tenants WHERE id = ANY($1::bigint[])", [1, 2, 3])
        assert sorted(row["id"] for row in ids) == [1, 2, 3]
        try:
            await connection.execute("UPDATE users SET tenant_id = 43 WHERE tenant_id = 42")
        except asyncpg.FeatureNotSupportedError as refusal:
            assert refusal.hint
        else:
            raise AssertionError("changing the key should be refused")
        await connection.execute("SET application_name TO 'asyncpg'")
        assert await connection.fetchval("SHOW application_name") == "asyncpg"
        try:
            await connection.fetchval("SELECT pg_sleep(10) FROM tenants WHERE id = 1", timeout=0.3)
        except asyncio.TimeoutError:
            pass
        else:
            raise AssertionError("the statement should time out")
        assert await connection.fetchval("SELECT 1") == 1
        await connection.reset()
        assert await connection.fetchval("SELECT 2") == 2
    finally:
        await connection.close()


async def main():
    await one_client()
    await asyncio.gather(*(one_client() for _ in range(12)))
    # A pool resets each connection when it comes back.
    async with asyncpg.create_pool(URL, min_size=4, max_size=8) as pool:

        async def work(tenant):
            async with pool.acquire() as connection, connection.transaction():
                assert await connection.fetchval("SELECT id FROM tenants WHERE id = $1", tenant) == tenant

        await asyncio.gather(*(work(tenant % 60 + 1) for tenant in range(200)))


asyncio.run(main())
