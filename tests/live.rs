//! `check --live`: what the shards are, against what the map takes them for.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod support;

use std::process::{Command, Output};

use support::{Proxy, Shards, said};
use tokio_postgres::SimpleQueryMessage;

fn check_live(shards: &Shards, map: &str) -> (i32, String, String) {
    let path = shards.first().directory().join("live.toml");
    std::fs::write(&path, map).unwrap();
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_pgmeridian"))
        .args(["check", "--live"])
        .arg(path)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

const TABLES: &str = "
    CREATE TYPE mood AS ENUM ('good', 'bad');
    CREATE TABLE tenants (id bigint PRIMARY KEY, slug text UNIQUE);
    CREATE TABLE notes (id uuid PRIMARY KEY, tenant_id bigint NOT NULL, feeling mood, body text DEFAULT 'x');
    CREATE TABLE lines (tenant_id bigint NOT NULL, n bigserial, PRIMARY KEY (tenant_id, n));
    CREATE TABLE plans (tier int PRIMARY KEY, name text);
    INSERT INTO plans VALUES (1, 'free'), (2, 'team');";

#[tokio::test]
async fn shards_that_agree_are_ok_and_others_are_told_apart() {
    let shards = Shards::databases(3);
    shards.run_on_all(TABLES).await;
    let map = shards.map_by_hash("[tables]\nplans = \"reference\"\n");
    let (code, out, err) = check_live(&shards, &map);
    assert_eq!(code, 0, "{out}{err}");
    for told in [
        "warning: unique index tenants_slug_key on tenants (slug) holds on each shard alone",
        "warning: 1 unique indexes on uuids alone",
        "warning: the sequence of lines.n gives the same numbers on usa-east and usa-west",
        "3 shards",
    ] {
        assert!(out.contains(told), "{told}\n{out}");
    }
    assert!(!out.contains("error:"), "{out}");

    // Tables that live on one shard only are not missed on others; nor are numbers of their own.
    shards.direct("usa-east").await.batch_execute("CREATE TABLE unlisted (id int)").await.unwrap();
    for (name, n) in [("usa-east", 1), ("usa-west", 2), ("deu", 3)] {
        let sql = format!("ALTER SEQUENCE lines_n_seq INCREMENT BY 3 START {n} RESTART");
        shards.direct(name).await.batch_execute(&sql).await.unwrap();
    }
    let (code, out, _) = check_live(&shards, &map);
    assert!(code == 0 && !out.contains("unlisted") && !out.contains("lines.n"), "{out}");

    shards
        .direct("deu")
        .await
        .batch_execute(
            "ALTER TABLE notes ALTER COLUMN tenant_id DROP NOT NULL; \
             ALTER TABLE notes ALTER COLUMN body TYPE varchar(9); \
             ALTER TABLE notes ADD CONSTRAINT short CHECK (length(body) < 5); \
             ALTER TYPE mood ADD VALUE 'so so'; \
             UPDATE plans SET name = 'gratis' WHERE tier = 1; \
             DROP TABLE lines; \
             CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        )
        .await
        .unwrap();
    shards
        .direct("usa-east")
        .await
        .batch_execute("ALTER TABLE tenants ALTER COLUMN id SET DEFAULT 1; CREATE TABLE more (tenant_id bigint)")
        .await
        .unwrap();
    let (code, out, err) = check_live(&shards, &map);
    assert_eq!(code, 1, "{out}{err}");
    for told in [
        "error: column notes.tenant_id is bigint NOT NULL on usa-east and bigint on deu",
        "error: column notes.body is text DEFAULT 'x'::text on usa-east and character varying(9) DEFAULT 'x'::text on deu",
        "error: constraint short of table notes is on deu and not on usa-east",
        "error: type mood is an enum of good, bad on usa-east and an enum of good, bad, so so on deu",
        "error: reference table plans has other rows on deu than on usa-east",
        "error: table lines is on usa-east and not on deu",
        "warning: function f() is on deu and not on usa-east",
        "error: key column more.tenant_id may be NULL",
        "error: table more is on usa-east and not on usa-west",
        "warning: key column tenants.id has a default",
    ] {
        assert!(out.contains(told), "{told}\n{out}");
    }
    // One line for a missing table, not one for each of its columns.
    assert!(!out.contains("lines.n") && !out.contains("lines_pkey"), "{out}");
}

#[tokio::test]
async fn what_cannot_be_reached_or_trusted_is_a_fault() {
    let shards = Shards::databases(2);
    shards
        .run_on_all(
            "CREATE TABLE notes (id bigint, tenant_id bigint NOT NULL, shard_id smallint NOT NULL)",
        )
        .await;
    shards
        .direct("usa-east")
        .await
        .batch_execute("ALTER TABLE notes ADD CHECK (shard_id = 1)")
        .await
        .unwrap();
    let map = shards.map_by_hash("[policy]\ntrust_shard_id = true\n");
    let (code, out, _) = check_live(&shards, &map);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("table notes on shard usa-west has no CHECK (shard_id = 2)"), "{out}");
    assert!(!out.contains("table notes on shard usa-east"), "{out}");
    let away = map.replacen("/usa-west\"", "/nowhere\"", 1);
    let (code, out, err) = check_live(&shards, &away);
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains("shard usa-west can't be asked: database \"nowhere\" does not exist"),
        "{out}"
    );
    assert!(!out.contains("bot:bot") && !err.contains("bot:bot"));
    let (code, _, _) = check_live(&shards, "nonsense");
    assert_eq!(code, 1);
}

/// Numbers of shards narrow routes where the map trusts them and the schema has the CHECKs; `check --live`
/// finds the shard that lacks one.
#[tokio::test]
async fn numbers_of_shards_are_proved_by_checks() {
    let shards = Shards::databases(3);
    let numbered = [("usa-east", 1), ("usa-west", 2), ("deu", 3)];
    for (name, n) in numbered {
        let sql = format!(
            "CREATE TABLE notes (id bigint CHECK ((id >> 12) & 1023 = {n}), tenant_id bigint NOT NULL,
                 shard_id smallint NOT NULL CHECK (shard_id = {n}));
             CREATE TABLE lines (id bigint, tenant_id bigint NOT NULL, shard_id int NOT NULL CHECK (shard_id = {n}),
                 CHECK ((id >> 12) & 1023 = shard_id));
             CREATE TABLE other (id bigint, tenant_id bigint NOT NULL, shard_id smallint NOT NULL CHECK (shard_id < 9))"
        );
        shards.direct(name).await.batch_execute(&sql).await.unwrap();
    }
    let map = shards.map_by_hash("[policy]\ntrust_shard_id = true\n");
    let (code, out, _) = check_live(&shards, &map);
    assert_eq!(code, 1, "{out}");
    for n in 1..=3 {
        let told = format!("has no CHECK (shard_id = {n}), and trust_shard_id = true");
        assert!(out.lines().any(|l| l.contains("table other") && l.contains(&told)), "{out}");
    }
    let faults = out.lines().filter(|line| line.starts_with("error:")).count();
    assert_eq!(faults, 3, "CHECKs that are meant to differ: {out}");

    // 4 is on usa-west, 5 on deu, 3 on usa-east (modulo).
    let proxy = Proxy::start(&shards, &map).await;
    let client = proxy.connect().await;
    for (tenant, n) in [(3, 1), (4, 2), (5, 3)] {
        let id = 1000_i64 << 22 | n << 12 | 7;
        for table in ["notes", "lines", "other"] {
            let sql = format!("INSERT INTO {table} VALUES ({id}, {tenant}, {n})");
            client.batch_execute(&sql).await.unwrap();
        }
    }
    let route = async |sql: &str| {
        let rows = client.simple_query(&format!("EXPLAIN (ROUTE) {sql}")).await.unwrap();
        let lines = rows.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap().to_owned()),
            _ => None,
        });
        lines.take(3).collect::<Vec<_>>().join("|")
    };
    let one = |shard: &str, key: &str| {
        format!("Route: one (relay)|  Shards: {shard}|  Key: {key} (from the statement)")
    };
    let id = 1000_i64 << 22 | 3 << 12 | 7;
    for table in ["notes", "lines"] {
        let by_number = format!("SELECT tenant_id FROM {table} WHERE shard_id = 2");
        assert_eq!(route(&by_number).await, one("usa-west", "shard_id = 2"), "{table}");
        let by_id = format!("SELECT tenant_id FROM {table} WHERE id = {id}");
        assert_eq!(route(&by_id).await, one("deu", &format!("id = {id}")), "{table}");
        let row = client.query_one(&by_id, &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 5);
        let by_parameter = format!("SELECT tenant_id FROM {table} WHERE shard_id = $1");
        let statement = client.prepare(&by_parameter).await.unwrap();
        let found = match table {
            "notes" => client.query(&statement, &[&1_i16]).await.unwrap(),
            _ => client.query(&statement, &[&1_i32]).await.unwrap(),
        };
        assert_eq!(found.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [3]);
    }
    assert!(route("SELECT * FROM other WHERE shard_id = 2").await.starts_with("Route: all"));
    let error = client.batch_execute("INSERT INTO notes VALUES (1, 4, 3)").await.unwrap_err();
    assert_eq!(said(&error).0, "22023");
    // Without its CHECK a number is a number.
    let drop = "ALTER TABLE notes DROP CONSTRAINT notes_shard_id_check";
    client.batch_execute(drop).await.unwrap();
    assert!(route("SELECT * FROM notes WHERE shard_id = 2").await.starts_with("Route: all"));
}
