import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.Properties;

/** pgjdbc through the proxy: server-side prepared statements, batches, fetch sizes, savepoints, COPY, cancel. */
public final class JdbcClient {
    private static void same(Object found, Object expected) {
        if (!String.valueOf(found).equals(String.valueOf(expected))) {
            throw new AssertionError(found + " instead of " + expected);
        }
    }

    private static Connection connect(String mode) throws SQLException {
        String url = System.getenv().getOrDefault("JDBC_URL", "jdbc:postgresql://127.0.0.1:6432/bots");
        Properties properties = new Properties();
        properties.setProperty("user", "bot");
        properties.setProperty("password", "bot");
        properties.setProperty("preferQueryMode", mode);
        // Named on the server from the second execution, binary from then on.
        properties.setProperty("prepareThreshold", "2");
        return DriverManager.getConnection(url, properties);
    }

    private static long count(Connection connection, String table, long tenant) throws SQLException {
        String sql = "SELECT count(*) FROM " + table + " WHERE tenant_id = ?";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            statement.setLong(1, tenant);
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                return rows.getLong(1);
            }
        }
    }

    private static String state(Statement statement, String sql) {
        try {
            statement.execute(sql);
            return "nothing";
        } catch (SQLException error) {
            return error.getSQLState();
        }
    }

    private static void statements(Connection connection) throws SQLException {
        try (PreparedStatement one = connection.prepareStatement("SELECT id, name, created_at FROM tenants WHERE id = ?")) {
            for (int round = 0; round < 3; round++) {
                for (long tenant = 1; tenant <= 60; tenant++) {
                    one.setLong(1, tenant);
                    try (ResultSet rows = one.executeQuery()) {
                        rows.next();
                        same(rows.getLong("id"), tenant);
                        same(rows.getTimestamp("created_at") != null, true);
                        same(rows.next(), false);
                    }
                }
            }
        }
        try (Statement statement = connection.createStatement()) {
            same(state(statement, "SELECT 1 / 0"), "22012");
            same(state(statement, "UPDATE users SET tenant_id = 43 WHERE tenant_id = 42"), "0A000");
            same(state(statement, "SELEC 1"), "42601");
            same(state(statement, "SELECT 1"), "nothing");
        }
    }

    private static void transactions(Connection connection) throws SQLException {
        long before = count(connection, "tasks", 42);
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("UPDATE tasks SET status = 2 WHERE tenant_id = 42");
            Savepoint savepoint = connection.setSavepoint("before");
            statement.executeUpdate("DELETE FROM tasks WHERE tenant_id = 42");
            same(count(connection, "tasks", 42), 0);
            connection.rollback(savepoint);
            same(count(connection, "tasks", 42), before);
            same(state(statement, "SELECT 1 / 0"), "22012");
            same(state(statement, "SELECT 1"), "25P02");
        }
        connection.rollback();
        // Read in portions: a portal with a row limit.
        try (PreparedStatement users = connection.prepareStatement("SELECT id FROM users WHERE tenant_id = ?")) {
            users.setFetchSize(2);
            users.setLong(1, 42);
            int seen = 0;
            try (ResultSet rows = users.executeQuery()) {
                while (rows.next()) {
                    seen++;
                }
            }
            same(seen >= 4, true);
        }
        connection.commit();
        // A batch is one pipeline.
        try (PreparedStatement batch = connection.prepareStatement("UPDATE tasks SET priority = ? WHERE tenant_id = ?")) {
            for (int n = 0; n < 300; n++) {
                batch.setInt(1, n % 5);
                batch.setLong(2, 42);
                batch.addBatch();
            }
            for (int updated : batch.executeBatch()) {
                same(updated, before);
            }
        }
        connection.rollback();
        connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
        connection.setReadOnly(true);
        same(count(connection, "tasks", 7) > 0, true);
        try (Statement statement = connection.createStatement()) {
            same(state(statement, "DELETE FROM tasks WHERE tenant_id = 7"), "25006");
        }
        connection.rollback();
        connection.setReadOnly(false);
        connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        connection.setAutoCommit(true);
    }

    private static void metadata(Connection connection) throws SQLException {
        try (ResultSet columns = connection.getMetaData().getColumns(null, "public", "tenants", null)) {
            int seen = 0;
            while (columns.next()) {
                seen++;
            }
            same(seen, 8);
        }
        try (ResultSet keys = connection.getMetaData().getPrimaryKeys(null, "public", "users")) {
            same(keys.next(), true);
            same(keys.getString("COLUMN_NAME"), "id");
        }
    }

    private static void cancel(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    Thread.sleep(300);
                    statement.cancel();
                } catch (InterruptedException | SQLException error) {
                    throw new IllegalStateException(error);
                }
            });
            canceller.start();
            same(state(statement, "SELECT pg_sleep(20) FROM tenants WHERE id = 1"), "57014");
            canceller.join();
            statement.setQueryTimeout(1);
            same(state(statement, "SELECT pg_sleep(20) FROM tenants WHERE id = 2"), "57014");
            statement.setQueryTimeout(0);
            same(state(statement, "SELECT 1"), "nothing");
        }
    }

    public static void main(String[] arguments) throws Exception {
        for (String mode : new String[] {"extended", "extendedForPrepared", "extendedCacheEverything", "simple"}) {
            try (Connection connection = connect(mode)) {
                statements(connection);
                transactions(connection);
                metadata(connection);
                cancel(connection);
                same(connection.isValid(5), true);
            }
        }
    }
}
