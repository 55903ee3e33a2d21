use super::*;

const SHARDS: &str = r#"
version = 1
database = "app"
default_shard = "a"
shards = [
    { id = 1, name = "a", url = "postgresql://app:s3cret@h1/app" },
    { id = 2, name = "b", url = "postgresql://app:s3cret@h2/app" },
    { id = 3, name = "c", url = "postgresql://app:s3cret@h3/app" },
]
"#;

fn map(text: &str) -> ShardMap {
    let parsed = ShardMap::parse("test", text, &|_| None);
    parsed.unwrap_or_else(|faults| panic!("{}", faults.render(false))).0
}

fn key(strategy: &str, ty: &str, section: &str) -> String {
    format!(
        "{SHARDS}[keys.t]\ncolumns = [\"t\"]\ntype = \"{ty}\"\nstrategy = \"{strategy}\"\n{section}\n"
    )
}

fn check(old: &str, new: &str, expect: &str) {
    let diff = MapDiff::of(&map(old), &map(new), None);
    let text = diff.text();
    assert_eq!(text.trim(), expect.trim(), "{text}");
    assert!(!text.contains("s3cret") && !diff.json().to_string().contains("s3cret"));
    assert_eq!(diff.is_empty(), expect.is_empty());
    // What goes there comes back.
    let back = MapDiff::of(&map(new), &map(old), None);
    assert_eq!(back.is_empty(), diff.is_empty());
}

#[test]
fn the_same_map_is_the_same() {
    check(SHARDS, SHARDS, "");
    for name in ["hash", "range", "geo", "directory", "botserver"] {
        let path = format!("{}/shard-maps/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        if let Ok((map, _)) = ShardMap::parse(name, &text, &|_| Some("x".to_owned())) {
            assert_eq!(MapDiff::of(&map, &map.clone(), None), MapDiff::default(), "{name}");
        }
    }
}

#[test]
fn shards_come_and_go() {
    let other = SHARDS.replace("h2/app", "h9:7/app").replace("name = \"c\"", "name = \"d\"");
    let other = other.replace("id = 3", "id = 4");
    check(
        SHARDS,
        &other,
        "~ shard b\n    url: postgresql://app@h2:5432/app?sslmode=prefer → postgresql://app@h9:7/app?sslmode=prefer\n+ shard d\n- shard c",
    );
    let secret = SHARDS.replace("s3cret@h1", "0ther@h1");
    check(SHARDS, &secret, "~ shard a\n    password: *** → ***");
    // A shard that keeps its id keeps its rows, whatever it is called.
    let ranges = "range = { ranges = [ { to = 9, shard = \"c\" }, { from = 10, shard = \"a\" } ] }";
    let old = key("range", "bigint", ranges);
    check(
        &old,
        &old.replace("\"c\"", "\"see\""),
        "~ shard see\n    name: c → see\n    ring_name: c → see",
    );
}

#[test]
fn ranges_are_exact() {
    let ranges = |list: &str| key("range", "bigint", &format!("range = {{ ranges = [ {list} ] }}"));
    check(
        &ranges("{ from = 1, to = 100, shard = \"a\" }, { from = 101, shard = \"b\" }"),
        &ranges(
            "{ from = 1, to = 50, shard = \"a\" }, { from = 51, to = 100, shard = \"c\" }, { from = 101, to = 200, shard = \"b\" }",
        ),
        "~ key t\n    51 to 100: a → c\n    from 201: b → nowhere",
    );
    // Other borders, the same shards.
    check(
        &ranges("{ to = 100, shard = \"a\" }, { from = 101, shard = \"a\" }"),
        &ranges("{ shard = \"a\" }"),
        "",
    );
    let texts = |list: &str| key("range", "text", &format!("range = {{ ranges = [ {list} ] }}"));
    check(
        &texts("{ to = \"m\", shard = \"a\" }, { from = \"n\", shard = \"b\" }"),
        &texts("{ to = \"f\", shard = \"a\" }, { from = \"n\", shard = \"b\" }"),
        "~ key t\n    from f (excluded) to m: a → nowhere",
    );
}

#[test]
fn directories_are_exact() {
    let directory = |entries: &str, otherwise: &str| {
        let section = format!(
            "directory = {{ entries = {{ {entries} }}, otherwise = \"{otherwise}\" }}\nrange = {{ ranges = [ {{ shard = \"a\" }} ] }}"
        );
        key("directory", "bigint", &section)
    };
    check(
        &directory("42 = \"a\", 7 = \"b\", 5 = \"c\"", "range"),
        &directory("42 = \"b\", 7 = \"b\", 6 = \"c\"", "range"),
        "~ key t\n    entry 5: c → a\n    entry 6: a → c\n    entry 42: a → b",
    );
}

#[test]
fn hashes_have_shares() {
    let hash = |words: &str| key("hash", "bigint", &format!("hash = {{ {words} }}"));
    check(
        &hash("algorithm = \"modulo\", shards = [\"a\", \"b\"]"),
        &hash("algorithm = \"modulo\", shards = [\"a\", \"b\", \"c\"]"),
        "~ key t\n    66.7 % of the keys that are hashed change shard\n        a → b: 16.7 %\n        a → c: 16.7 %\n        b → a: 16.7 %\n        b → c: 16.7 %",
    );
    let slots = |table: &str| hash(&format!("algorithm = \"slots\", slots = {{ {table} }}"));
    check(
        &slots("\"0-8191\" = \"a\", \"8192-16383\" = \"b\""),
        &slots("\"0-8191\" = \"a\", \"8192-12287\" = \"c\", \"12288-16383\" = \"b\""),
        "~ key t\n    slots 8192-12287: b → c\n    25.0 % of the keys that are hashed change shard\n        b → c: 25.0 %",
    );
    // A ring gives a new shard about its part, and moves nothing else.
    let ring =
        |shards: &str| map(&hash(&format!("algorithm = \"consistent\", shards = [{shards}]")));
    let diff = MapDiff::of(&ring("\"a\", \"b\""), &ring("\"a\", \"b\", \"c\""), None);
    let share = diff.keys[0].share.clone().unwrap();
    assert!(share.exact && (0.2..0.5).contains(&share.moved), "{share:?}");
    assert!(share.flows.iter().all(|(_, to, _)| to == "c"), "{share:?}");
    // Two algorithms are tried out.
    let other = map(&hash("algorithm = \"md5\", shards = [\"a\", \"b\"]"));
    let diff = MapDiff::of(&ring("\"a\", \"b\""), &other, None);
    let share = diff.keys[0].share.clone().unwrap();
    assert!(!share.exact && (0.4..0.6).contains(&share.moved), "{share:?}");
}

#[test]
fn regions_are_named() {
    let geo = |regions: &str, default: &str| {
        let section = format!("geo = {{ regions = {{ {regions} }}, default = \"{default}\" }}");
        key("geo", "text", &section)
    };
    check(
        &geo("USA = [\"a\"], DEU = [\"b\"]", "a"),
        &geo("USA = [\"a\"], FRA = [\"c\"], DEU = [\"a\"]", "refuse"),
        "~ key t\n    region DEU: b → a\n    region FRA: a → c\n    regions not listed: a → nowhere",
    );
}

#[test]
fn tables_and_settings_are_named() {
    let with = |rest: &str| format!("{SHARDS}{rest}");
    check(
        &with("[tables]\nplans = \"reference\"\n"),
        &with("[tables]\nplans = { shard = \"b\" }\n[policy]\ncross_shard_reads = \"refuse\"\n"),
        "~ table plans: reference → on shard b\n~ policy.cross_shard_reads: Allow → Refuse",
    );
    let old = key("hash", "bigint", "hash = { algorithm = \"modulo\", shards = [\"a\", \"b\"] }");
    let new = old.replace("columns = [\"t\"]", "columns = [\"t\", \"u\"]");
    let catalog = Catalog::from_ddl("CREATE TABLE x (u bigint NOT NULL); CREATE TABLE y (z int)");
    let diff = MapDiff::of(&map(&old), &map(&new), Some(&catalog.unwrap()));
    assert_eq!(
        diff.text().trim(),
        "~ key t\n    columns: t → t, u\n    tables with rows of it: x\n~ table x: not listed → by key t, column u"
    );
    assert_eq!(diff.summary(), "key t: columns; table x");
}
