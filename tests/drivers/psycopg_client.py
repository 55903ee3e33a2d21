"""psycopg 3 through the proxy: parameters in both formats, prepared statements, transactions, errors."""

import os

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
