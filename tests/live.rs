//! `check --live`: what the shards are, against what the map takes them for.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod support;

use std::process::{Command, Output};

use support::Shards;

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
