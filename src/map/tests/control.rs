//! Maps whose shards, ranges and directory come from control tables: what they make, and what is wrong with
//! them in a DBA's words.

use super::*;
use crate::datum::{KeyType, KeyValue};

const FILE: &str = r#"
version = 1
database = "bots"

[keys.tenant]
columns = ["tenant_id"]
tables = { tenants = "id" }
type = "bigint"
strategy = "directory"
[keys.tenant.directory]
otherwise = "range"

[control]
url = "postgresql://ctl:s3cret@127.0.0.1:5500/control"
"#;

fn row(id: &str, region: &str, connection: &str, primary: &str, min: &str, max: &str) -> ShardRow {
    let text = |text: &str| (text != "NULL").then(|| text.to_owned());
    ShardRow {
        shard_id: text(id),
        region_code: text(region),
        datacenter: text("dc-1"),
        connection_string: Connection::new(text(connection)),
        is_primary: text(primary),
        is_active: text("true"),
        min_tenant_id: text(min),
        max_tenant_id: text(max),
    }
}

fn tables() -> Tables {
    let mut entries = Entries::new(KeyType::BigInt);
    for (tenant, shard) in [(42, 3), (7, 2), (1_500, 1)] {
        entries.put(&KeyValue::Int(tenant), shard);
    }
    Tables {
        database: "ctl@127.0.0.1:5500/control".to_owned(),
        shards: vec![
            row("1", "USA", "postgresql://bot:s3cret@10.0.0.1/bots", "true", "1", "999"),
            row("2", "USA", "postgresql://bot:${PW}@10.0.0.2/bots", "false", "1000", "1999"),
            row("3", "DEU", "${DEU}", "NULL", "2000", "NULL"),
        ],
        entries,
        odd: Vec::new(),
        odd_more: 0,
        freezes: Vec::new(),
    }
}

fn env(name: &str) -> Option<String> {
    match name {
        "PW" => Some("s3cret".to_owned()),
        "DEU" => Some("postgresql://bot:s3cret@10.0.0.3/bots".to_owned()),
        _ => None,
    }
}

/// `where: message` of every fault.
fn faults(file: &str, tables: &Tables) -> Vec<String> {
    let Err(faults) = ShardMap::parse_with("map.toml", file, &env, tables) else {
        return Vec::new();
    };
    let rendered = faults.render(false);
    assert!(!rendered.contains("s3cret"), "{rendered}");
    faults.iter().for_each(super::faults::is_a_help);
    let place = |fault: &Fault| match fault.file().split_once(" in ") {
        Some((table, _)) => format!("{table} row {}", fault.position().0),
        None => format!("{} line {}", fault.file(), fault.position().0),
    };
    faults.iter().map(|fault| format!("{}: {}", place(fault), fault.message())).collect()
}

fn place(map: &ShardMap, tenant: i64) -> &str {
    map.place(K, &KeyValue::Int(tenant)).map_or("none", |shard| map.shard_name(shard))
}

#[test]
fn tables_make_a_map() {
    let (map, warnings) = ShardMap::parse_with("map.toml", FILE, &env, &tables())
        .unwrap_or_else(|faults| panic!("{faults}"));
    assert!(warnings.is_empty(), "{warnings:?}");
    let names: Vec<&str> = map.shards().iter().map(|shard| shard.name.as_str()).collect();
    assert_eq!(names, ["shard1", "shard2", "shard3"]);
    assert_eq!(map.default_shard(), ShardId(0));
    assert_eq!(map.shards()[2].url.host.to_string(), "10.0.0.3");
    assert_eq!(map.shards()[2].region.as_deref(), Some("DEU"));
    // Both ends included; a row of tenant_shard_map wins; NULL is an open end.
    let found: Vec<&str> =
        [0, 1, 999, 1000, 1999, 2000, 1 << 40, 42, 7, 1500].map(|t| place(&map, t)).to_vec();
    let expect = "none shard1 shard1 shard2 shard2 shard3 shard3 shard3 shard2 shard1";
    assert_eq!(found.join(" "), expect);
    assert!(!format!("{map:?}{:?}", tables()).contains("s3cret"));
}

#[test]
fn the_file_adds_what_the_tables_have_no_column_for() {
    let inline = "[[shards]]\nid = 1\nname = \"usa-east\"\nurl = \"postgresql://bot@10.9.9.9/bots\"\n\
                  [[shards]]\nid = 3\nname = \"deu\"\nring_name = \"old\"\n";
    let file = format!("{}{inline}", FILE.replace("version = 1", "default_shard = \"usa-east\""));
    let (map, _) = ShardMap::parse_with("map.toml", &file, &env, &tables())
        .unwrap_or_else(|faults| panic!("{faults}"));
    let names: Vec<&str> = map.shards().iter().map(|shard| shard.name.as_str()).collect();
    assert_eq!(names, ["usa-east", "shard2", "deu"]);
    assert_eq!(map.shards()[0].url.host.to_string(), "10.9.9.9");
    assert_eq!(map.shards()[2].ring_name, "old");
    // A row that is gone is no fault: whoever removes a shard begins with the table.
    let mut fewer = tables();
    fewer.shards.remove(2);
    fewer.entries.remove(&KeyValue::Int(42));
    let (_, warnings) = ShardMap::parse_with("map.toml", &file, &env, &fewer)
        .unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(warnings[0].message(), "shard_config has no shard_id 3");
}

#[test]
fn without_the_tables_the_file_is_checked_as_far_as_it_goes() {
    let (map, warnings) = ShardMap::check("map.toml", FILE, Outside::of(&env)).unwrap();
    assert!(map.is_none() && warnings.is_empty());
    let faults = ShardMap::parse("map.toml", FILE, &env).unwrap_err();
    assert_eq!(faults.iter().next().map(|f| f.position().0), Some(13));
    let broken = FILE.replace("bigint", "bigintt");
    assert_eq!(ShardMap::check("map.toml", &broken, Outside::of(&env)).unwrap_err().count(), 1);
    // Sections that only add to the tables' rows are no shards yet.
    let named = format!("default_shard = \"east\"\n{FILE}[[shards]]\nid = 1\nname = \"east\"\n");
    let (map, _) = ShardMap::check("map.toml", &named, Outside::of(&env)).unwrap();
    assert!(map.is_none());
    // Any name may be a shard's; one that is listed twice is wrong whatever it is.
    let placed = FILE
        .replace("otherwise = \"range\"\n", "otherwise = \"hash\"\nplace_new = \"geo\"\n")
        + "[keys.tenant.hash]\nalgorithm = \"modulo\"\nshards = [\"east\", \"west\"]\n[keys.tenant.place]\n\
           regions = { USA = [\"east\", \"west\"] }\ndefault = \"USA\"\n";
    let (map, _) = ShardMap::check("map.toml", &placed, Outside::of(&env)).unwrap();
    assert!(map.is_none());
    let twice = placed.replace("{ USA = [\"east\", \"west\"]", "{ USA = [\"east\", \"east\"]");
    assert_eq!(ShardMap::check("map.toml", &twice, Outside::of(&env)).unwrap_err().count(), 1);
    let broken = named.replace("id = 1\n", "id = 1\nregoin = \"USA\"\n");
    assert_eq!(ShardMap::check("map.toml", &broken, Outside::of(&env)).unwrap_err().count(), 1);
    let control = ShardMap::control_of("map.toml", FILE, &env).unwrap().unwrap();
    assert_eq!(control.key_type, Some(KeyType::BigInt));
}

/// botserver's columns are NOT NULL: whoever has no use for ranges writes anything there.
#[test]
fn ranges_that_nothing_uses_may_overlap() {
    let file = FILE.replace("otherwise = \"range\"", "otherwise = \"refuse\"");
    let mut same = tables();
    for row in &mut same.shards {
        row.min_tenant_id = Some("0".to_owned());
    }
    assert_eq!(faults(&file, &same), Vec::<String>::new());
    assert_eq!(faults(FILE, &same).len(), 1);
}

#[test]
fn a_swap_of_tenants_keeps_the_shards() {
    let parse = |tables: &Tables| ShardMap::parse_with("map.toml", FILE, &env, tables).unwrap().0;
    let first = parse(&tables()).with_version(5);
    let mut moved = tables();
    moved.entries.put(&KeyValue::Int(42), 1);
    let second = parse(&moved).succeeding(&first, 6);
    assert_eq!((second.version(), second.shards_version()), (6, 5));
    moved.shards[1].connection_string = Connection::new(Some("postgresql://bot@h/b".to_owned()));
    let third = parse(&moved).succeeding(&second, 7);
    assert_eq!((third.version(), third.shards_version()), (7, 7));
}

/// Tables that are right but for one thing have the one fault.
#[test]
fn each_fault_of_the_tables_is_told_once() {
    assert_eq!(faults(FILE, &tables()), Vec::<String>::new());
    let check = |change: &dyn Fn(&mut Tables), expect: &[&str]| {
        let mut changed = tables();
        change(&mut changed);
        assert_eq!(faults(FILE, &changed), expect);
    };
    let odd = |tenant: Option<&str>, shard: Option<&str>, problem: &str| OddTenant {
        tenant_id: tenant.map(str::to_owned),
        shard_id: shard.map(str::to_owned),
        problem: problem.to_owned(),
    };
    check(
        &|t| t.shards.clear(),
        &[
            "shard_config row 1: shard_config has no rows",
            "tenant_shard_map row 1: tenant 1500: shard_config has no shard_id 1",
            "tenant_shard_map row 2: tenant 7: shard_config has no shard_id 2",
            "tenant_shard_map row 3: tenant 42: shard_config has no shard_id 3",
        ],
    );
    check(
        &|t| t.shards[1].shard_id = None,
        &[
            "shard_config row 2: shard_id is NULL",
            "tenant_shard_map row 1: tenant 7: shard_config has no shard_id 2",
        ],
    );
    check(
        &|t| t.shards[2].shard_id = Some("70000".to_owned()),
        &[
            "shard_config row 3: shard_id must be from -32767 to 32767, not 70000",
            "tenant_shard_map row 1: tenant 42: shard_config has no shard_id 3",
        ],
    );
    check(
        &|t| {
            t.shards[2].shard_id = Some("1".to_owned());
            t.entries.remove(&KeyValue::Int(42));
        },
        &["shard_config row 3: shard_id 1 stands twice"],
    );
    check(
        &|t| t.shards[0].region_code = Some("Vereinigte Staaten".to_owned()),
        &[
            "shard_config row 1: shard_id 1: a region has 1 to 16 characters, not Vereinigte Staaten",
        ],
    );
    check(
        &|t| t.shards[0].is_primary = Some("maybe".to_owned()),
        &["shard_config row 1: shard_id 1: is_primary is neither true nor false"],
    );
    check(
        &|t| t.shards[0].is_active = Some("2".to_owned()),
        &["shard_config row 1: shard_id 1: is_active is neither true nor false"],
    );
    check(
        &|t| t.shards[1].is_primary = Some("true".to_owned()),
        &["shard_config row 2: two shards are is_primary"],
    );
    check(&|t| t.shards[0].is_primary = None, &["shard_config row 1: no shard is_primary"]);
    check(
        &|t| t.shards[1].max_tenant_id = Some("2000".to_owned()),
        &["shard_config row 3: the ranges of shard_id 2 and 3 overlap"],
    );
    check(
        &|t| t.shards[1].min_tenant_id = None,
        &["shard_config row 2: the ranges of shard_id 1 and 2 overlap"],
    );
    check(
        &|t| t.shards[1].max_tenant_id = Some("5".to_owned()),
        &["shard_config row 2: shard_id 2: min_tenant_id 1000 comes after max_tenant_id 5"],
    );
    check(
        &|t| t.shards[1].max_tenant_id = Some("many".to_owned()),
        &[
            "shard_config row 2: shard_id 2: max_tenant_id: invalid input syntax for type bigint: \"many\"",
        ],
    );
    let put = |text: &str| Connection::new(Some(text.to_owned()));
    for (connection, expect) in [
        (Connection::default(), "connection_string is empty"),
        (put(" "), "connection_string is empty"),
        (put("host=h password=s3cret"), "connection_string: not a PostgreSQL URL"),
        (
            put("postgresql://b:s3cret@h:99999/d"),
            "connection_string: the port is not a number from 1 to 65535",
        ),
        (put("postgresql://b:s3cret@h/d?sslmode=on"), "connection_string: unknown sslmode"),
        (put("postgresql://b:s3cret@h,i/d"), "connection_string: several hosts in one URL"),
        (put("postgresql://b:${NONE}@h/d"), "environment variable NONE is not set"),
        (
            put("postgresql://b:${s3cret@h/d"),
            "connection_string has \"${\" without a closing brace",
        ),
        (
            put("postgresql://b:${s3cret@h}/d"),
            "connection_string has a \"${…}\" that names no variable",
        ),
        (
            put("file:/run/url").with_file(Err("No such file or directory".to_owned())),
            "the file of connection_string can't be read: No such file or directory",
        ),
        (put("file:/run/url"), "the file of connection_string was not read"),
        (
            put("file:/run/url").with_file(Ok("s3cret\n".to_owned())),
            "connection_string: not a PostgreSQL URL",
        ),
        (put("postgresql://other@10.0.0.1:5432/bots"), "another shard has the same database"),
    ] {
        check(
            &|t| t.shards[1].connection_string = connection.clone(),
            &[&format!("shard_config row 2: shard_id 2: {expect}")],
        );
    }
    check(
        &|t| {
            t.shards[1].connection_string =
                put("file:/run/url").with_file(Ok("postgresql://b@h/d\n".to_owned()));
        },
        &[],
    );
    check(
        &|t| {
            t.entries.put(&KeyValue::Int(9), 9);
        },
        &["tenant_shard_map row 1: tenant 9: shard_config has no shard_id 9"],
    );
    check(
        &|t| {
            t.odd = vec![
                odd(None, Some("1"), "tenant_id is NULL"),
                odd(Some("5"), None, "tenant 5: shard_id is NULL"),
            ];
        },
        &[
            "tenant_shard_map row 1: tenant_id is NULL",
            "tenant_shard_map row 2: tenant 5: shard_id is NULL",
        ],
    );
    check(
        &|t| {
            t.odd = vec![odd(None, None, "x")];
            t.odd_more = 9;
        },
        &[
            "tenant_shard_map row 1: x",
            "tenant_shard_map row 2: 9 more rows of tenant_shard_map can't be used",
        ],
    );
}

/// Files that contradict their tables.
#[test]
fn file_and_tables_must_agree() {
    let check = |from: &str, to: &str, expect: &[&str]| {
        assert!(FILE.contains(from), "{from}");
        assert_eq!(faults(&FILE.replacen(from, to, 1), &tables()), expect, "{to}");
    };
    let after = "otherwise = \"range\"\n";
    check(
        after,
        "otherwise = \"range\"\nentries = { 5 = \"shard1\" }\n",
        &["map.toml line 12: the entries of this key are the rows of tenant_shard_map"],
    );
    check(
        after,
        "otherwise = \"range\"\n[keys.tenant.range]\nranges = [{ shard = \"shard1\" }]\n",
        &["map.toml line 12: the ranges of this key are those of shard_config"],
    );
    check(
        "strategy = \"directory\"\n[keys.tenant.directory]\notherwise = \"range\"",
        "strategy = \"range\"",
        &["map.toml line 5: tenant_shard_map has 3 rows, and this key has no directory"],
    );
    check(
        "version = 1",
        "default_shard = \"shard2\"",
        &["map.toml line 2: default_shard is \"shard2\", and in shard_config another is_primary"],
    );
    check(
        "version = 1",
        "default_shard = \"usa-east\"",
        &["map.toml line 2: unknown shard \"usa-east\""],
    );
    check(
        "[control]\n",
        "[control]\nkey = \"tennant\"\n",
        &["map.toml line 13: unknown key \"tennant\""],
    );
    check("[control]\n", "[control]\npol = \"1s\"\n", &["map.toml line 14: unknown field pol"]);
    check(
        "[control]\n",
        "[[shards]]\nid = 2\nregion = \"DEU\"\n[control]\n",
        &["map.toml line 15: region of a shard comes from shard_config"],
    );
    check(
        "[control]\n",
        "[[shards]]\nname = \"x\"\n[control]\n",
        &["map.toml line 13: id is missing"],
    );
    check(
        "[control]\n",
        "[[shards]]\nid = 2\nname = \"shard1\"\n[control]\n",
        &["shard_config row 2: two shards are called \"shard1\""],
    );
    check(
        "[control]\n",
        "[[shards]]\nid = 2\n[[shards]]\nid = 2\n[control]\n",
        &["map.toml line 16: two shards have the id \"2\""],
    );
    let second = "[keys.org]\ncolumns = [\"org_id\"]\ntype = \"uuid\"\nstrategy = \"directory\"\n\
                  directory = { otherwise = \"refuse\" }\n[control]\n";
    check("[control]\n", second, &["map.toml line 18: of which key is tenant_shard_map?"]);
    check("[control]\n", &format!("{second}key = \"tenant\"\n"), &[]);
}

#[test]
fn faults_of_tables_are_rendered_as_rows() {
    let mut tables = tables();
    tables.shards[1].max_tenant_id = Some("2000".to_owned());
    tables.entries.put(&KeyValue::Int(9), 9);
    tables.entries.put(&KeyValue::Int(10), 9);
    let faults = ShardMap::parse_with("map.toml", FILE, &env, &tables).unwrap_err();
    let text = faults.render(false);
    for line in [
        "shard_config in ctl@127.0.0.1:5500/control:3:",
        "shard_id = 3  min_tenant_id = 2000  max_tenant_id = NULL",
        "connection_string = ***",
        "tenant_shard_map in ctl@127.0.0.1:5500/control:1:",
        ", and 1 more tenants: shard_config has no shard_id 9",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
