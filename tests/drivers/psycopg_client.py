"""psycopg 3 through the proxy: parameters in both formats, prepared statements, transactions, errors, batches,
pipelines, cursors on the server, COPY, cancel. Whatever DATABASE_URL says of TLS is obeyed."""

import asyncio
import datetime
import decimal
import os
import threading
import uuid

import psycopg

URL = os.environ.get("DATABASE_URL", "postgresql://bot:bot@127.0.0.1:6432/bots")


def main():
    with psycopg.connect(URL, autocommit=True) as connection:
        for binary in (False, True):
            for tenant in range(1, 61):
                with connection.cursor(binary=binary) as cursor:
                    # psycopg prepares a statement by itself when it is seen for the sixth time.
                    cursor.execute("SELECT id, name FROM tenants WHERE id = %b", (tenant,))
                    assert cursor.fetchone()[0] == tenant
                    cursor.execute("SELECT count(*) FROM users WHERE tenant_id = %t", (tenant,))
                    assert cursor.fetchone()[0] >= 4
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM tenants WHERE id = ANY(%s)", ([1, 2, 3, 1000],))
            assert sorted(row[0] for row in cursor) == [1, 2, 3]

        with connection.transaction(force_rollback=True), connection.cursor() as cursor:
            cursor.execute("UPDATE tasks SET status = 2 WHERE tenant_id = %s", (42,))
            assert cursor.rowcount > 0
            with connection.transaction(force_rollback=True):
                cursor.execute("DELETE FROM tasks WHERE tenant_id = %s", (42,))
            cursor.execute("SELECT count(*) FROM tasks WHERE tenant_id = %s", (42,))
            assert cursor.fetchone()[0] > 0

        try:
            connection.execute("UPDATE users SET tenant_id = 43 WHERE tenant_id = 42")
        except psycopg.errors.FeatureNotSupported as refusal:
            assert refusal.diag.message_hint, "a refusal has a hint"
        else:
            raise AssertionError("changing the key should be refused")
        assert connection.execute("SELECT 1").fetchone() == (1,)

    pipelines()
    batches()
    cursors()
    copies()
    cancels()
    types()
    asyncio.run(at_once())


def batches():
    with psycopg.connect(URL) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE tasks SET priority = %s WHERE tenant_id = %s RETURNING tenant_id",
            [(n % 5, 42) for n in range(100)],
            returning=True,
        )
        seen = 0
        while True:
            seen += len(cursor.fetchall())
            if not cursor.nextset():
                break
        assert seen == 100 * count(connection, 42)
        connection.rollback()


def cursors():
    """A cursor of SQL, and rows taken one by one."""
    with psycopg.connect(URL) as connection:
        expected = connection.execute("SELECT id FROM users WHERE tenant_id = 42 ORDER BY id").fetchall()
        # DECLARE leaves a cursor on a server: the session says on which.
        route = connection.execute("EXPLAIN (ROUTE, FORMAT JSON) SELECT 1 FROM users WHERE tenant_id = 42").fetchone()[0]
        connection.commit()
        connection.execute(f"SET pgmeridian.shard = '{route['shards'][0]}'")
        with connection.cursor(name="portion") as cursor:
            cursor.itersize = 2
            cursor.execute("SELECT id FROM users WHERE tenant_id = %s ORDER BY id", (42,))
            assert cursor.fetchmany(3) == expected[:3]
            cursor.scroll(0, mode="absolute")
            assert cursor.fetchall() == expected
        connection.commit()
        connection.execute("RESET pgmeridian.shard")
        with connection.cursor() as cursor:
            assert list(cursor.stream("SELECT id FROM users WHERE tenant_id = 42 ORDER BY id")) == expected


def copies():
    """COPY of a table that lives on one shard, in all formats, and an error in the middle."""
    with psycopg.connect(URL) as connection, connection.cursor() as cursor:
        rows = [(f"copied {n}", f"tab\tnewline\n{n}") for n in range(1000)]
        with cursor.copy("COPY global_settings (name, value) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        assert cursor.rowcount == 1000
        with cursor.copy("COPY global_settings (name, value) TO STDOUT") as copy:
            assert set(rows) <= set(copy.rows())
        with cursor.copy("COPY global_settings (name, value) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["varchar", "text"])
            assert set(rows) <= set(copy.rows())
        connection.rollback()
        for break_it in (lambda copy: copy.write_row((None, "x")), lambda copy: 1 / 0):
            try:
                with cursor.copy("COPY global_settings (name, value) FROM STDIN") as copy:
                    copy.write_row(("half", "done"))
                    break_it(copy)
            except (psycopg.errors.NotNullViolation, psycopg.errors.QueryCanceled, ZeroDivisionError):
                connection.rollback()
            else:
                raise AssertionError("the COPY should fail")
        cursor.execute("SELECT count(*) FROM global_settings WHERE name LIKE 'copied%' OR name = 'half'")
        assert cursor.fetchone() == (0,)


def cancels():
    with psycopg.connect(URL, autocommit=True) as connection:
        timer = threading.Timer(0.3, connection.cancel)
        timer.start()
        try:
            connection.execute("SELECT pg_sleep(20) FROM tenants WHERE id = 1")
        except psycopg.errors.QueryCanceled:
            pass
        else:
            raise AssertionError("the statement should be cancelled")
        timer.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def types():
    """Parameters and results of many types, both ways in both formats, to a shard that the key chooses."""
    values = (
        decimal.Decimal("12345.678"),
        datetime.datetime(2001, 2, 3, 4, 5, 6, 789, tzinfo=datetime.timezone.utc),
        datetime.date(2001, 2, 3),
        datetime.timedelta(days=1, seconds=2),
        uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        b"\x00\xff",
        True,
        -1.5,
        [1, 2, 3],
        "it's \\ here",
        None,
    )
    marks = "%s::numeric, %s::timestamptz, %s::date, %s::interval, %s::uuid, %s::bytea, %s::bool, %s::float8, %s::int[], %s::text, %s::text"
    with psycopg.connect(URL, autocommit=True) as connection:
        for binary in (False, True):
            for spec in ("t", "b"):
                text = f"SELECT {marks.replace('%s', '%' + spec)} FROM tenants WHERE id = %{spec}"
                for tenant in (1, 2, 3):
                    row = connection.execute(text, (*values, tenant), binary=binary).fetchone()
                    assert row == values, row


async def at_once():
    """Two dozen clients on three shards, each in transactions of its own."""

    async def client(tenant):
        async with await psycopg.AsyncConnection.connect(URL) as connection:
            for _ in range(5):
                async with connection.transaction():
                    cursor = await connection.execute("SELECT id FROM tenants WHERE id = %s", (tenant,))
                    assert await cursor.fetchone() == (tenant,)
                    await connection.execute("UPDATE tasks SET status = status WHERE tenant_id = %s", (tenant,))

    await asyncio.gather(*(client(tenant) for tenant in range(1, 25)))


def count(connection, tenant):
    return connection.execute("SELECT count(*) FROM tasks WHERE tenant_id = %s", (tenant,)).fetchone()[0]


def pipelines():
    """Many statements before one Sync, with transactions among them."""
    with psycopg.connect(URL, autocommit=True) as connection:
        before = count(connection, 42)
        assert before > 0
        with connection.pipeline():
            cursors = [
                connection.execute("SELECT id FROM users WHERE tenant_id = %s", (42,)) for _ in range(20)
            ]
            assert all(len(cursor.fetchall()) >= 4 for cursor in cursors)
        # A transaction, rolled back, in one pipeline.
        with connection.pipeline(), connection.transaction(force_rollback=True):
            connection.execute("DELETE FROM tasks WHERE tenant_id = %s", (42,))
        assert count(connection, 42) == before
        # A savepoint within, and a commit.
        with connection.pipeline(), connection.transaction():
            connection.execute("UPDATE tasks SET status = 2 WHERE tenant_id = %s", (42,))
            with connection.transaction(force_rollback=True):
                connection.execute("DELETE FROM tasks WHERE tenant_id = %s", (42,))
        assert count(connection, 42) == before
        # An error undoes what came before it.
        try:
            with connection.pipeline() as pipeline:
                connection.execute("DELETE FROM tasks WHERE tenant_id = %s", (42,))
                connection.execute("SELECT 1/0")
                pipeline.sync()
        except psycopg.errors.DivisionByZero:
            pass
        else:
            raise AssertionError("the pipeline should fail")
        assert count(connection, 42) == before
        # Tenants of different shards, a Sync between them.
        with connection.pipeline() as pipeline:
            for tenant in (1, 2, 3):
                cursor = connection.execute("SELECT id FROM tenants WHERE id = %s", (tenant,))
                pipeline.sync()
                assert cursor.fetchone() == (tenant,)
        # And without one: refused by name.
        try:
            with connection.pipeline():
                for tenant in range(1, 20):
                    connection.execute("UPDATE tasks SET status = 2 WHERE tenant_id = %s", (tenant,))
        except psycopg.errors.FeatureNotSupported as refusal:
            assert refusal.diag.message_hint
        else:
            raise AssertionError("several shards in one implicit transaction should be refused")
        assert connection.execute("SELECT 1").fetchone() == (1,)


main()
