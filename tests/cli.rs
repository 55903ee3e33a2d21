//! The command line, through the binary: words, exit codes, what goes to stdout and what to stderr.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::process::{Command, Output};

fn run(words: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_pgmeridian"))
        .args(words)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn check_accepts_the_maps_that_come_along() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/shard-maps")).unwrap() {
        let path = entry.unwrap().path();
        let (code, out, err) = run(&["check", path.to_str().unwrap()]);
        assert_eq!(code, 0, "{}: {err}", path.display());
        assert!(out.contains(": ok: database \"bots\", 3 shards"), "{out}");
    }
}

#[test]
fn check_reports_every_fault_at_once_and_no_secret() {
    let (code, out, err) = run(&["check", "tests/support/faulty.toml"]);
    assert_eq!((code, out.as_str()), (1, ""));
    for fault in [
        "unknown shard \"usa-esat\"",
        "did you mean shard \"usa-east\"?",
        "two shards have the id \"1\"",
        "not a PostgreSQL URL",
        "unknown field colums",
        "type can't be \"bigintt\"",
        "strategy can't be \"hsah\"",
        "unknown shard \"frankfurt\"",
        "cross_shard_reads can't be \"maybe\"",
    ] {
        assert!(err.contains(fault), "{fault} is missing in\n{err}");
    }
    assert_eq!(err.matches("error: ").count(), 8, "{err}");
    assert!(!err.contains("a-secret"), "{err}");
}

#[test]
fn wrong_usage_is_2() {
    for words in [
        &["check", "no-such-file.toml"][..],
        &["route", "--map", "tests/support/faulty.toml", "SELECT 1"],
        &["route", "--map", "shard-maps/hash.toml", "SELECT 1; SELECT 2"],
        &["route", "--map", "shard-maps/hash.toml", "--set", "nonsense", "SELECT 1"],
        &["serve", "--no-such-word"],
        &["serve", "--map", "shard-maps/hash.toml", "--listen", "nowhere"],
        &["serve", "--map", "shard-maps/hash.toml", "--listen", "0.0.0.0:0"],
        &["no-such-command"],
    ] {
        let (code, out, err) = run(words);
        assert_eq!((code, out.as_str()), (2, ""), "{words:?}: {err}");
        assert!(!err.is_empty(), "{words:?}");
    }
}

#[test]
fn a_fault_is_told_once_and_without_codes() {
    let (code, _, err) =
        run(&["route", "--map", "shard-maps/hash.toml", "--schema", "no-such.sql", "SELECT 1"]);
    assert_eq!(code, 2);
    assert!(err.contains("no-such.sql") && !err.contains("SQLSTATE"), "{err}");
    let directory = tempfile::tempdir().unwrap();
    let check = |map: &str| {
        let path = directory.path().join("map.toml");
        std::fs::write(&path, map).unwrap();
        let (code, out, err) = run(&["check", path.to_str().unwrap()]);
        (code, out + &err)
    };
    let shard = "[[shards]]\nid = 1\nname = \"a\"\nurl = \"postgresql://bot@127.0.0.1/x\"\n";
    let (code, said) = check(&format!("database = \"\"\nnonsensical = 1\n{shard}"));
    assert_eq!(code, 1);
    assert!(said.contains("the database has no name"), "{said}");
    let known = said.lines().find(|line| line.contains("known here:")).unwrap();
    assert_eq!(known.matches("control").count(), 1, "{known}");
    let (code, said) = check(&shard.replace("\"a\"", "\"\""));
    assert!(code == 1 && said.contains("give it a name"), "{said}");
    let key = "[keys.t]\ncolumns = [\"t\"]\ntype = \"bigint\"\nstrategy = \"hash\"\n\
               hash = { algorithm = \"modulo\", shards = [\"a\"], virtual_nodes = 3 }\n";
    let (code, said) = check(&format!("{shard}{key}"));
    assert!(code == 0 && said.contains("1 shard, "), "{said}");
    assert!(said.contains("virtual_nodes is for consistent only"), "{said}");
}

#[test]
fn route_of_copy_is_that_of_its_query() {
    for (sql, expect) in [
        (
            "COPY (SELECT * FROM bots WHERE tenant_id = 42) TO STDOUT",
            "Route: one (relay)\n  Shards: deu\n",
        ),
        ("COPY bots TO STDOUT", "Route: all (stream)\n"),
        ("EXPLAIN SELECT * FROM bots", "Route: all (stream)\n"),
        ("/* pgmeridian: shard=deu */ EXPLAIN SELECT * FROM bots", "Route: one (relay)\n"),
    ] {
        let words = ["--map", "shard-maps/directory.toml", "--schema", "src/demo/schema.sql", sql];
        let (code, out, err) = run(&[&["route"], words.as_slice()].concat());
        assert!(code == 0 && out.starts_with(expect), "{sql}: {out}{err}");
    }
    let (code, out, _) =
        run(&["route", "--map", "shard-maps/directory.toml", "COPY bots FROM STDIN"]);
    assert_eq!(code, 1);
    assert!(out.contains("Write the rows with INSERT"), "{out}");
}

#[test]
fn route_says_where_and_why() {
    let (code, out, err) = run(&[
        "route",
        "--map",
        "shard-maps/directory.toml",
        "SELECT * FROM bots WHERE tenant_id = 42",
    ]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("Route: one (relay)\n  Shards: deu\n  Key: tenant = 42"), "{out}");
}

#[test]
fn what_the_proxy_does_itself_has_a_local_route() {
    for sql in ["SET pgmeridian.shard = 'deu'", "SHOW pgmeridian.last_route", " -- nothing"] {
        let (code, out, err) = run(&["route", "--map", "shard-maps/hash.toml", sql]);
        assert_eq!((code, err.as_str()), (0, ""), "{sql}");
        assert!(out.starts_with("Route: local\n"), "{sql}: {out}");
    }
}

#[test]
fn route_as_json_is_the_same_object_as_explain() {
    let (code, out, _) = run(&[
        "route",
        "--map",
        "shard-maps/hash.toml",
        "--param",
        "42",
        "--format",
        "json",
        "SELECT * FROM bots WHERE tenant_id = $1",
    ]);
    assert_eq!(code, 0);
    let route: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(route["kind"], "one");
    assert_eq!(route["key"]["values"], serde_json::json!(["42"]));
    assert_eq!(route["key"]["source"], "statement");
    assert_eq!(route["statements"][0]["sql"], "SELECT * FROM bots WHERE tenant_id = $1");
    for field in ["answer", "shards", "strategy", "map_version", "merge", "reason"] {
        assert!(!route[field].is_null(), "{field} is missing in {out}");
    }
}

#[test]
fn a_refusal_is_data_and_exit_code_1() {
    let (code, out, _) = run(&[
        "route",
        "--map",
        "shard-maps/hash.toml",
        "--schema",
        "src/demo/schema.sql",
        "SELECT name FROM bots FOR UPDATE",
    ]);
    assert_eq!(code, 1);
    assert!(out.starts_with("Route: refused (0A000)"), "{out}");
    assert!(out.contains("FOR UPDATE or FOR SHARE over several shards"), "{out}");
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in ["serve", "demo", "check", "route", "import", "control", "control install"] {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let (code, out, _) = run(&words);
        assert_eq!(code, 0);
        assert!(out.contains("Example"), "{command}: {out}");
    }
}

#[test]
fn import_turns_config_csv_into_a_map() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(
        file("config.csv"),
        "name,value\nshard-strategy,range\nshard-ranges,0-9:shard1,10-:shard2\n\
         shard-1-primary,postgresql://gb@127.0.0.1:5501/gb\n\
         shard-2-primary,postgresql://gb@127.0.0.1:5502/gb\nshard-retention-months,12\n",
    )
    .unwrap();
    let (code, out, err) = run(&["import", &file("config.csv"), "-o", &file("map.toml")]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(err.contains("note: shard-retention-months has no equivalent"), "{err}");
    let (code, out, err) = run(&["check", &file("map.toml")]);
    assert!(code == 0 && out.contains("2 shards, default \"shard1\""), "{out}{err}");
    let route = "SELECT * FROM bots WHERE tenant_id = 10";
    let (_, out, err) = run(&["route", "--map", &file("map.toml"), route]);
    assert!(out.contains("Shards: shard2"), "{out}{err}");
    let (code, _, err) = run(&["import", &file("config.csv"), "-o", &file("map.toml")]);
    assert!(code == 2 && err.contains("exists"), "{err}");
    std::fs::write(file("config.csv"), "shard-strategy,time\n").unwrap();
    let (code, out, err) = run(&["import", &file("config.csv")]);
    assert!(code == 2 && out.is_empty() && err.contains("time has no equivalent"), "{err}");
}

/// `pgmeridian … | head`: whoever has read enough closes the pipe.
#[test]
fn a_reader_may_stop_reading() {
    for (words, expect) in [
        ("route --map shard-maps/hash.toml 'SELECT 1'", 0),
        ("route --format json --map shard-maps/hash.toml 'SELECT 1'", 0),
        ("check shard-maps/hash.toml", 0),
        ("check tests/support/faulty.toml", 1),
        ("diff shard-maps/hash.toml shard-maps/directory.toml", 1),
        ("diff --format json shard-maps/hash.toml shard-maps/directory.toml", 1),
    ] {
        // The reader is gone before the command starts; what it says of itself is kept in a file descriptor
        // of its own.
        let script = format!("{{ sleep 0.1; \"$0\" {words} 2>&1; echo $? >&3; }} 3>&2 | true");
        let output = Command::new("/bin/sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_pgmeridian")])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.trim(), expect.to_string(), "{words}");
    }
}

#[test]
fn diff_says_when_rows_have_to_be_moved() {
    let directory = tempfile::tempdir().unwrap();
    let map = std::fs::read_to_string("shard-maps/hash.toml").unwrap();
    let other = |name: &str, from: &str, to: &str| {
        assert!(map.contains(from), "{from}");
        let path = directory.path().join(name);
        std::fs::write(&path, map.replacen(from, to, 1)).unwrap();
        path.display().to_string()
    };
    let version = map.lines().find(|line| line.starts_with("version")).unwrap();
    let moved = "rows have to be moved";
    for (new, told) in [
        (other("off.toml", version, &format!("{version}\nrouting = \"off\"")), moved),
        (other("same.toml", version, version), "nothing changes"),
    ] {
        let (code, out, err) = run(&["diff", "shard-maps/hash.toml", &new]);
        assert_eq!(code, i32::from(told == moved), "{out}{err}");
        assert!(err.contains(told), "{out}{err}");
    }
}
