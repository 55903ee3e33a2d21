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


main()
