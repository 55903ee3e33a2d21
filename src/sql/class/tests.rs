use super::*;

fn class(sql: &str) -> Class {
    classify(sql, true)
}

fn check_all(expect: &Class, statements: &[&str]) {
    for sql in statements {
        assert_eq!(class(sql), *expect, "{sql}");
    }
}

#[test]
fn queries_and_single_words() {
    check_all(&Class::Empty, &["", " -- x\n /* y */ "]);
    check_all(
        &Class::Query,
        &[
            "select 1",
            "/* x */ SELECT 1",
            "INSERT INTO t VALUES (1)",
            "update t set a = 1",
            "DELETE FROM t",
            "WITH x AS (SELECT 1) SELECT * FROM x",
            "values (1)",
            "TABLE t",
            "MERGE INTO t USING s ON a = b WHEN MATCHED THEN DELETE",
            "(select 1) UNION (select 2)",
            "((select 1))",
        ],
    );
    check_all(&Class::Declare(Some("c".into())), &["DECLARE c CURSOR FOR SELECT 1"]);
    check_all(
        &Class::Fetch(Some("c".into())),
        &["FETCH 5 FROM c", "MOVE C", "FETCH ALL IN \"c\"", "FETCH ABSOLUTE -1 c"],
    );
    check_all(&Class::Fetch(None), &["FETCH", "FETCH U&\"c\""]);
    check_all(&Class::Close(Some("c".into())), &["CLOSE c"]);
    check_all(&Class::Close(None), &["CLOSE ALL"]);
    check_all(&Class::Do, &["DO $$ BEGIN END $$"]);
    check_all(&Class::Call, &["CALL p()"]);
    check_all(&Class::Listen, &["LISTEN x"]);
    check_all(&Class::Unlisten, &["UNLISTEN *"]);
    check_all(&Class::Notify, &["NOTIFY x"]);
    check_all(&Class::Lock, &["LOCK TABLE t"]);
    check_all(&Class::Truncate, &["TRUNCATE t"]);
    check_all(
        &Class::Maintenance,
        &["VACUUM", "ANALYZE t", "REINDEX TABLE t", "CLUSTER", "CHECKPOINT", "LOAD 'x'"],
    );
    check_all(
        &Class::Other,
        &[
            "selec 1",
            "\"select\" 1",
            "'select'",
            ")",
            "SELECT1",
            "deallocates x",
            "1",
            "U&\"x\"",
            "extraordinarily",
            "SELEKT",
        ],
    );
}

#[test]
fn transactions_begin() {
    let begin = |modes: TransactionModes| Class::Begin(modes);
    let none = TransactionModes::default();
    check_all(
        &begin(none),
        &[
            "BEGIN",
            "begin work",
            "BEGIN TRANSACTION",
            "START TRANSACTION",
            "BEGIN /* x */ -- y\n WORK",
        ],
    );
    let read_only = TransactionModes { read_only: Some(true), ..none };
    check_all(&begin(read_only), &["BEGIN READ ONLY", "begin read write, read only"]);
    let all = TransactionModes {
        isolation: Some(Isolation::Serializable),
        read_only: Some(false),
        deferrable: Some(false),
    };
    check_all(
        &begin(all),
        &[
            "BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE, NOT DEFERRABLE",
            "START TRANSACTION isolation level serializable read write not deferrable",
        ],
    );
    for (words, isolation) in [
        ("READ UNCOMMITTED", Isolation::ReadUncommitted),
        ("READ COMMITTED", Isolation::ReadCommitted),
        ("REPEATABLE READ", Isolation::RepeatableRead),
    ] {
        let sql = format!("BEGIN TRANSACTION ISOLATION LEVEL {words} DEFERRABLE");
        let isolation = Some(isolation);
        let deferrable = Some(true);
        assert_eq!(class(&sql), begin(TransactionModes { isolation, deferrable, ..none }));
    }
    check_all(
        &Class::Other,
        &[
            "BEGIN x",
            "BEGIN READ",
            "BEGIN READ ONLY,",
            "BEGIN , READ ONLY",
            "BEGIN READ ONLY,, READ WRITE",
            "BEGIN ISOLATION LEVEL SNAPSHOT",
            "START",
            "START WORK",
            "BEGIN WORK TRANSACTION",
            "BEGIN \"READ\" ONLY",
            "BEGIN ATOMIC",
        ],
    );
}

#[test]
fn transactions_end() {
    let (chain, ends) = (Class::Commit { chain: true }, Class::Commit { chain: false });
    check_all(&ends, &["COMMIT", "END", "commit work", "END TRANSACTION AND NO CHAIN"]);
    check_all(&chain, &["COMMIT AND CHAIN", "end work and chain"]);
    check_all(
        &Class::Rollback { chain: false },
        &["ROLLBACK", "ABORT", "ROLLBACK WORK", "abort and no chain"],
    );
    check_all(
        &Class::Rollback { chain: true },
        &["ROLLBACK AND CHAIN", "ABORT TRANSACTION AND CHAIN"],
    );
    check_all(&Class::Savepoint("a".into()), &["SAVEPOINT a", "savepoint A", "SAVEPOINT \"a\""]);
    check_all(&Class::Savepoint("A\"b".into()), &["SAVEPOINT \"A\"\"b\""]);
    check_all(&Class::Release("a".into()), &["RELEASE a", "RELEASE SAVEPOINT A"]);
    check_all(
        &Class::Release("savepoint".into()),
        &["RELEASE savepoint", "RELEASE SAVEPOINT SAVEPOINT"],
    );
    check_all(
        &Class::RollbackTo("a".into()),
        &[
            "ROLLBACK TO a",
            "ROLLBACK TO SAVEPOINT a",
            "ROLLBACK WORK TO a",
            "rollback transaction to savepoint A",
        ],
    );
    check_all(&Class::PrepareTransaction, &["PREPARE TRANSACTION 'x'"]);
    check_all(&Class::TwoPhase, &["COMMIT PREPARED 'x'", "ROLLBACK PREPARED E'x'"]);
    check_all(
        &Class::Other,
        &[
            "COMMIT x",
            "COMMIT AND",
            "COMMIT AND NO",
            "END PREPARED",
            "ABORT TO a",
            "ROLLBACK TO",
            "SAVEPOINT",
            "SAVEPOINT a b",
            "RELEASE",
            "ROLLBACK TO SAVEPOINT a b",
            "COMMIT PREPARED",
            "COMMIT PREPARED x",
            "SAVEPOINT U&\"a\"",
            "SAVEPOINT 'a'",
        ],
    );
    let long = format!("SAVEPOINT {}", "é".repeat(40));
    assert_eq!(class(&long), Class::Savepoint("é".repeat(31)));
}

/// `name = value` of a SET, with how the value is given and the text at its span.
fn set(sql: &str) -> String {
    match class(sql) {
        Class::Set(SetCommand { local, name, value, span }) => {
            let text = &sql[span.start as usize..span.end as usize];
            let local = if local { "local " } else { "" };
            let value = match value {
                SetValue::Default => "DEFAULT".to_owned(),
                SetValue::One(value) => format!("<{value}>"),
                SetValue::Raw(value) => {
                    assert_eq!(value, text, "{sql}");
                    "RAW".to_owned()
                }
            };
            format!("{local}{name} = {value} {text}")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn settings() {
    let check = |sql: &str, expect: &str| assert_eq!(set(sql), expect, "{sql}");
    check("SET x = v", "x = <v> v");
    check("set X TO V", "x = <v> V");
    check("SET x='it''s'", "x = <it's> 'it''s'");
    check(r"SET x = E'a\tb'", "x = <a\tb> E'a\\tb'");
    check("SET x = \"Aa\"", "x = <Aa> \"Aa\"");
    check("SET x = 42", "x = <42> 42");
    check("SET x = -1.50", "x = <-1.50> -1.50");
    check("SET x = + 007", "x = <7> + 007");
    check("SET x = -0", "x = <0> -0");
    check("SET x = 0x1F", "x = RAW 0x1F");
    check("SET x = on", "x = <on> on");
    check("SET x TO DEFAULT", "x = DEFAULT DEFAULT");
    check("SET x = 'default'", "x = <default> 'default'");
    check("SET search_path = a, \"B\" , 'c'", "search_path = RAW a, \"B\" , 'c'");
    check("SET search_path = 'a, b'", "search_path = <a, b> 'a, b'");
    check("SET SESSION x = 1", "x = <1> 1");
    check("SET LOCAL x = 1", "local x = <1> 1");
    check("SET pgmeridian.shard = 'deu'", "pgmeridian.shard = <deu> 'deu'");
    check("SET \"PgMeridian\".\"KEY\" = '42'", "pgmeridian.key = <42> '42'");
    check("SET /* a */ LOCAL -- b\n pgmeridian . key TO 42", "local pgmeridian.key = <42> 42");
    check("SET local.x = 1", "local.x = <1> 1");
    check("SET session = 1", "session = <1> 1");
    check("SET transaction.x = 1", "transaction.x = <1> 1");
    check("SET TIME ZONE 'UTC'", "timezone = <UTC> 'UTC'");
    check("SET LOCAL TIME ZONE utc", "local timezone = <utc> utc");
    check("SET TIME ZONE -8", "timezone = <-8> -8");
    check("SET TIME ZONE LOCAL", "timezone = DEFAULT LOCAL");
    check(
        "SET TIME ZONE INTERVAL '1' HOUR TO MINUTE",
        "timezone = RAW INTERVAL '1' HOUR TO MINUTE",
    );
    check("SET NAMES 'utf8'", "client_encoding = <utf8> 'utf8'");
    check("SET NAMES", "client_encoding = DEFAULT ");
    check("SET NAMES DEFAULT", "client_encoding = DEFAULT DEFAULT");
    check("SET SCHEMA 'x'", "search_path = <x> 'x'");
    check("SET ROLE bot", "role = <bot> bot");
    check("SET ROLE NONE", "role = DEFAULT NONE");
    check("SET ROLE 'Bot'", "role = <Bot> 'Bot'");
    check("SET SESSION AUTHORIZATION bot", "session_authorization = <bot> bot");
    check("SET SESSION AUTHORIZATION DEFAULT", "session_authorization = DEFAULT DEFAULT");
    check("SET LOCAL SESSION AUTHORIZATION 'x'", "local session_authorization = <x> 'x'");
    check("SET SESSION SESSION AUTHORIZATION x", "session_authorization = <x> x");
    check("SET XML OPTION DOCUMENT", "xmloption = <document> DOCUMENT");
    for sql in [
        "SET",
        "SET x",
        "SET x =",
        "SET x = 1 2",
        "SET x = 1,",
        "SET x = (1)",
        "SET x = - 'a'",
        "SET x. = 1",
        "SET x = 'a' y",
        "SET NAMES utf8",
        "SET TIME ZONE 'a' b",
        "SET SCHEMA x",
        "SET ROLE",
        "SET ROLE a b",
        "SET x FROM CURRENT",
        "SET x == 1",
        "SET LOCAL",
        "SET 'x' = 1",
        "SET x = $1",
    ] {
        assert_eq!(class(sql), Class::Other, "{sql}");
    }
    assert_eq!(
        classify(r"SET x = 'a\tb'", false),
        Class::Set(SetCommand {
            local: false,
            name: "x".into(),
            value: SetValue::One("a\tb".into()),
            span: Span { start: 8, end: 14 },
        })
    );
}

#[test]
fn settings_of_transactions() {
    let set = |session, text: &str| Class::SetTransaction { session, text: text.to_owned() };
    for text in [
        "SET TRANSACTION READ ONLY",
        "SET LOCAL TRANSACTION READ ONLY",
        "SET SESSION TRANSACTION READ ONLY",
        "SET TRANSACTION SNAPSHOT 'x'",
    ] {
        check_all(&set(false, text), &[text]);
    }
    let session = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY";
    check_all(&set(true, session), &[session]);
    check_all(
        &Class::Other,
        &["SET TRANSACTION", "SET TRANSACTION x", "SET SESSION CHARACTERISTICS AS TRANSACTION"],
    );
    let deferred = "SET CONSTRAINTS ALL DEFERRED";
    check_all(&Class::SetConstraints(deferred.to_owned()), &[deferred]);
    let check = |sql: &str, expect: Option<bool>| {
        let modes = set_transaction_modes(sql);
        assert_eq!(modes.and_then(|modes| modes.read_only), expect, "{sql}");
    };
    check("SET TRANSACTION READ ONLY", Some(true));
    check("SET LOCAL TRANSACTION READ WRITE", Some(false));
    check("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Some(true));
    check("SET SESSION TRANSACTION READ ONLY", Some(true));
    check("SET TRANSACTION SNAPSHOT 'x'", None);
    check("SET x = 1", None);
}

#[test]
fn reset_and_show() {
    let name = |name: &str| name.to_owned();
    check_all(&Class::Reset(None), &["RESET ALL"]);
    check_all(&Class::Reset(Some(name("x.y"))), &["RESET X.y", "reset \"x\" . y"]);
    check_all(&Class::Reset(Some(name("timezone"))), &["RESET TIME ZONE", "RESET timezone"]);
    check_all(&Class::Reset(Some(name("session_authorization"))), &["RESET SESSION AUTHORIZATION"]);
    check_all(&Class::Show(name("all")), &["SHOW ALL"]);
    check_all(&Class::Show(name("timezone")), &["SHOW TIME ZONE", "show TimeZone"]);
    check_all(&Class::Show(name("transaction_isolation")), &["SHOW TRANSACTION ISOLATION LEVEL"]);
    check_all(&Class::Show(name("session_authorization")), &["SHOW SESSION AUTHORIZATION"]);
    check_all(&Class::Show(name("pgmeridian.last_route")), &["SHOW pgmeridian.last_route"]);
    check_all(
        &Class::Other,
        &["SHOW", "RESET", "SHOW a b", "RESET 'x'", "RESET ALL x", "SHOW MAP HISTORY"],
    );
}

#[test]
fn prepared_statements() {
    let name = || "p".to_owned();
    let prepare = |name: &str, typed, body| Class::Prepare { name: name.into(), typed, body };
    check_all(&prepare("p", false, 13), &["PREPARE p AS SELECT 1"]);
    check_all(&prepare("p", true, 19), &["PREPARE P (int) AS SELECT $1"]);
    check_all(&prepare("transaction", false, 23), &["PREPARE transaction AS SELECT 1"]);
    let execute = |at: u32, arguments: Option<(u32, u32)>| {
        let span = |(start, end)| Span { start, end };
        let at = span((at, at + 1));
        Class::Execute(Execution { name: name(), at, arguments: arguments.map(span) })
    };
    check_all(&execute(8, None), &["EXECUTE p"]);
    check_all(&execute(8, Some((10, 11))), &["EXECUTE P(1)"]);
    check_all(&execute(8, Some((10, 18))), &["EXECUTE p(f(1), 2 )"]);
    check_all(
        &Class::Other,
        &["EXECUTE p 1", "EXECUTE p(1) x", "EXECUTE", "PREPARE p AS", "PREPARE p (int)"],
    );
    let within = |sql: &str| execution_within(sql, &class(sql), true).map(|found| found.at.start);
    assert_eq!(within("EXPLAIN EXECUTE p"), Some(16));
    assert_eq!(within("EXPLAIN (COSTS OFF) EXECUTE p(1)"), Some(28));
    assert_eq!(within("EXPLAIN ANALYZE VERBOSE EXECUTE p(1)"), Some(32));
    assert_eq!(within("CREATE TABLE t (a) AS EXECUTE p(1) WITH DATA"), Some(30));
    assert_eq!(within("EXPLAIN (ANALYZE) CREATE TABLE t (a) AS EXECUTE p WITH DATA"), Some(48));
    assert_eq!(within("EXPLAIN SELECT 'execute'"), None);
    assert_eq!(within("EXPLAIN CREATE TABLE t AS SELECT 1"), None);
    assert_eq!(within("EXECUTE p"), None);
    check_all(&Class::Deallocate(Some(name())), &["DEALLOCATE p", "DEALLOCATE PREPARE p"]);
    check_all(&Class::Deallocate(Some("prepare".into())), &["DEALLOCATE PREPARE"]);
    check_all(&Class::Deallocate(Some("all".into())), &["DEALLOCATE \"all\""]);
    check_all(&Class::Deallocate(None), &["DEALLOCATE ALL", "DEALLOCATE PREPARE ALL"]);
    check_all(&Class::DiscardAll, &["DISCARD ALL"]);
    check_all(
        &Class::Discard,
        &["DISCARD PLANS", "discard temp", "DISCARD TEMPORARY", "DISCARD SEQUENCES"],
    );
    check_all(
        &Class::Other,
        &["PREPARE", "PREPARE p", "DEALLOCATE", "DISCARD", "DISCARD x", "DISCARD ALL x"],
    );
}

#[test]
fn copy_statements() {
    let copy = |from, client, query| Class::Copy { from, client, query };
    check_all(
        &copy(true, true, false),
        &[
            "COPY t FROM STDIN",
            "copy public.t (a, b) from stdin with (format csv)",
            "COPY BINARY t FROM stdin",
            "COPY t FROM STDOUT",
        ],
    );
    check_all(&copy(false, true, false), &["COPY t TO STDOUT", "COPY \"T\"(a) TO STDIN CSV"]);
    check_all(&copy(false, true, true), &["COPY (SELECT (1), ')') TO STDOUT"]);
    check_all(&copy(true, false, false), &["COPY t FROM '/x'", "COPY t FROM PROGRAM 'x'"]);
    check_all(&copy(false, false, true), &["COPY (TABLE t) TO '/x'"]);
    check_all(
        &Class::Other,
        &["COPY", "COPY t", "COPY t FROM x", "COPY (SELECT 1) FROM STDIN", "COPY (SELECT 1"],
    );
}

#[test]
fn explain_statements() {
    check_all(
        &Class::Explain,
        &[
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE VERBOSE SELECT 1",
            "EXPLAIN (ANALYZE, FORMAT JSON) SELECT 1",
            "EXPLAIN (SELECT 1)",
            "EXPLAIN (SELECT route)",
            "EXPLAIN (TABLE route)",
            "EXPLAIN (ROUTE off) SELECT 1",
            "EXPLAIN (ROUTE 0, ANALYZE) SELECT 1",
            "EXPLAIN (ROUTE",
        ],
    );
    for (sql, option) in [
        ("EXPLAIN (ROUTE, ANALYZE) SELECT 1", "analyze"),
        ("EXPLAIN (COSTS off, ROUTE, FORMAT XML) SELECT 1", "costs off"),
        ("EXPLAIN (ROUTE, FORMAT XML) SELECT 1", "format xml"),
        ("EXPLAIN (ROUTE maybe) SELECT 1", "route maybe"),
    ] {
        check_all(&Class::ExplainRouteWith(option.to_owned()), &[sql]);
    }
    check_all(&Class::Other, &["EXPLAIN (ROUTE)", "EXPLAIN (ROUTE, ANALYZE)"]);
    let check = |sql: &str, expect_json: bool, expect_rest: &str| match class(sql) {
        Class::ExplainRoute { json, rest } => {
            assert_eq!((json, &sql[rest as usize..]), (expect_json, expect_rest), "{sql}");
        }
        other => panic!("{sql}: {other:?}"),
    };
    check("EXPLAIN (ROUTE) SELECT 1", false, " SELECT 1");
    check("explain(route)\n/* x */ select 1", false, "\n/* x */ select 1");
    check("EXPLAIN (ROUTE, FORMAT JSON) SELECT 1", true, " SELECT 1");
    check("EXPLAIN (FORMAT 'json', ROUTE true) (SELECT 1)", true, " (SELECT 1)");
    check("EXPLAIN (ROUTE on, FORMAT text) SELECT 1", false, " SELECT 1");
    check("EXPLAIN (ROUTE 1) SELECT 1", false, " SELECT 1");
}

#[test]
fn definitions() {
    let check = |sql: &str, tag: &'static str, temporary: bool, from_query: bool| {
        let found = class(sql);
        let Class::Definition { name, .. } = &found else { panic!("{sql}: {found:?}") };
        assert_eq!(name.is_some(), temporary, "{sql}");
        let name = name.clone();
        assert_eq!(found, Class::Definition { tag, temporary, from_query, name }, "{sql}");
    };
    let plain = |sql: &str, tag: &'static str| check(sql, tag, false, false);
    plain("CREATE TABLE t (a int)", "CREATE TABLE");
    plain("create unlogged table if not exists t (a int)", "CREATE TABLE");
    plain("CREATE TABLE t (a int GENERATED ALWAYS AS (b + 1) STORED)", "CREATE TABLE");
    check("CREATE TABLE t AS SELECT 1", "CREATE TABLE", false, true);
    check("CREATE TABLE t (a, b) WITH (x = 1) AS VALUES (1, 2)", "CREATE TABLE", false, true);
    check("CREATE TEMP TABLE t (a int)", "CREATE TABLE", true, false);
    check("CREATE LOCAL TEMPORARY TABLE t AS SELECT 1", "CREATE TABLE", true, true);
    check("CREATE TABLE pg_temp.t (a int)", "CREATE TABLE", true, false);
    check("CREATE TABLE IF NOT EXISTS PG_TEMP . t (a int)", "CREATE TABLE", true, false);
    check("CREATE TEMP VIEW v AS SELECT 1", "CREATE VIEW", true, false);
    check("CREATE TEMP SEQUENCE s", "CREATE SEQUENCE", true, false);
    check("CREATE MATERIALIZED VIEW v AS SELECT 1", "CREATE MATERIALIZED VIEW", false, true);
    plain("CREATE OR REPLACE RECURSIVE VIEW v (a) AS SELECT 1", "CREATE VIEW");
    plain("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX");
    plain("CREATE OR REPLACE FUNCTION f() RETURNS int AS $$ $$ LANGUAGE sql", "CREATE FUNCTION");
    plain("CREATE CONSTRAINT TRIGGER x AFTER INSERT ON t EXECUTE FUNCTION f()", "CREATE TRIGGER");
    plain("CREATE OR REPLACE TRUSTED PROCEDURAL LANGUAGE x", "CREATE LANGUAGE");
    plain("CREATE DEFAULT CONVERSION c FOR 'a' TO 'b' FROM f", "CREATE CONVERSION");
    plain("CREATE FOREIGN DATA WRAPPER x", "CREATE FOREIGN DATA WRAPPER");
    plain("CREATE FOREIGN TABLE x (a int) SERVER s", "CREATE FOREIGN TABLE");
    plain("CREATE TEXT SEARCH DICTIONARY x (a = b)", "CREATE TEXT SEARCH DICTIONARY");
    plain("CREATE OPERATOR CLASS x", "CREATE OPERATOR CLASS");
    plain("CREATE OPERATOR === (a = b)", "CREATE OPERATOR");
    plain("CREATE USER MAPPING FOR x SERVER y", "CREATE USER MAPPING");
    plain("ALTER TABLE t ADD COLUMN a int", "ALTER TABLE");
    plain("ALTER MATERIALIZED VIEW v RENAME TO w", "ALTER MATERIALIZED VIEW");
    plain("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO x", "ALTER DEFAULT PRIVILEGES");
    plain("DROP TABLE IF EXISTS t", "DROP TABLE");
    plain("DROP OWNED BY x", "DROP OWNED");
    plain("GRANT SELECT (a) ON t TO x", "GRANT");
    plain("REVOKE ALL ON ALL TABLES IN SCHEMA s FROM x", "REVOKE");
    plain("GRANT SELECT ON role TO x", "GRANT");
    plain("GRANT SELECT ON database.t TO x", "GRANT");
    plain("COMMENT ON TABLE t IS 'x'", "COMMENT");
    plain("SECURITY LABEL ON TABLE t IS 'x'", "SECURITY LABEL");
    plain("REASSIGN OWNED BY x TO y", "REASSIGN OWNED");
    plain("IMPORT FOREIGN SCHEMA s FROM SERVER x INTO y", "IMPORT FOREIGN SCHEMA");
    for (sql, tag) in [
        ("CREATE DATABASE d", "CREATE DATABASE"),
        ("CREATE USER u", "CREATE ROLE"),
        ("ALTER GROUP g ADD USER u", "ALTER ROLE"),
        ("DROP ROLE r", "DROP ROLE"),
        ("CREATE TABLESPACE t LOCATION 'x'", "CREATE TABLESPACE"),
        ("ALTER SYSTEM SET x = 1", "ALTER SYSTEM"),
        ("GRANT a TO b", "GRANT ROLE"),
        ("REVOKE ADMIN OPTION FOR a FROM b", "REVOKE ROLE"),
        ("GRANT CONNECT ON DATABASE d TO x", "GRANT"),
        ("COMMENT ON ROLE r IS 'x'", "COMMENT"),
    ] {
        assert_eq!(class(sql), Class::ClusterWide { tag }, "{sql}");
    }
    check_all(&Class::Other, &["CREATE", "CREATE x", "ALTER", "DROP \"table\" t", "SECURITY"]);
}
