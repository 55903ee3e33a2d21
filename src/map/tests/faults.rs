//! Faults: all at once, each once, with line, caret and hint, and never a password.

use proptest::prelude::*;

use super::*;

/// `line: message` of every fault.
fn faults(text: &str) -> Vec<String> {
    match ShardMap::parse("map.toml", text, &no_env) {
        Ok(_) => Vec::new(),
        Err(faults) => {
            let rendered = faults.render(false);
            assert!(!rendered.contains("s3cret"), "{rendered}");
            faults.iter().for_each(is_a_help);
            faults.iter().map(|f| format!("{}: {}", f.position().0, f.message())).collect()
        }
    }
}

/// Whoever reads it is told where, and what to write instead.
pub(super) fn is_a_help(fault: &Fault) {
    let rendered = fault.render(false);
    let place = format!("{}:{}:{}", fault.file(), fault.position().0, fault.position().1);
    assert!(rendered.contains(&place) && rendered.contains('^'), "{rendered}");
    assert!(fault.is_explained(), "{rendered}");
}

const TEN: &str = r#"version = 1
default_shard = "usa_east"

[[shards]]
id = 1
name = "usa-east"
url = "postgresql://bot:s3cret@127.0.0.1:99999/bots"

[[shards]]
id = 1
name = "deu"
regoin = "DEU"
url = "postgresql://bot:s3cret@127.0.0.1:5503/bots"

[keys.tenant]
columns = ["tenant_id"]
type = "bigint"
strategy = "range"

[keys.tenant.range]
ranges = [
    { from = 1, to = 100, shard = "usa-east" },
    { from = 100, to = 200, shard = "deu" },
    { from = 300, to = 250, shard = "due" },
]

[keys.region]
columns = ["region_code"]
type = "char(3)"
strategy = "geo"

[keys.region.geo]
regions = { DEU = ["deu"] }

[tables]
plans = "refrence"

[policy]
fill_keys = "yes"
"#;

#[test]
fn ten_faults_are_ten() {
    let expect = [
        "2: unknown shard \"usa_east\"",
        "7: the port is not a number from 1 to 65535",
        "10: two shards have the id \"1\"",
        "12: unknown field regoin",
        "23: two ranges overlap",
        "24: unknown shard \"due\"",
        "24: this range is empty: 300 comes after 250",
        "29: a key can't be of type char(3)",
        "36: a table can't be \"refrence\"",
        "39: fill_keys must be true or false",
    ];
    let mut found = faults(TEN);
    found.sort_by_key(|f| f.split(':').next().map(|n| n.parse::<u32>().unwrap()));
    let mut expect: Vec<String> = expect.map(str::to_owned).to_vec();
    found.sort();
    expect.sort();
    assert_eq!(found, expect);
}

#[test]
fn faults_are_rendered_with_carets_and_hints() {
    let faults = ShardMap::parse("shard-maps/ten.toml", TEN, &no_env).unwrap_err();
    insta::assert_snapshot!(faults.render(false));
    assert!(faults.render(true).contains('\u{1b}'));
}

/// A valid map with one line changed has the one fault.
#[test]
fn each_fault_is_told_once() {
    let base = include_str!("../../../tests/golden/full_map.toml")
        .replace("${BOT_PASSWORD}", "s3cret")
        .replace("routing = \"off\"\n", "");
    assert_eq!(faults(&base), Vec::<String>::new());
    for fault in FaultyMap::all() {
        let FaultyMap { from, to, expect } = fault;
        assert!(base.contains(&from), "{from}");
        let found = faults(&base.replacen(&from, &to, 1));
        let messages: Vec<&str> =
            found.iter().map(|f| f.split_once(": ").map_or("", |(_, m)| m)).collect();
        assert_eq!(messages, expect, "{from} -> {to}");
    }
}

/// A change that makes the full map faulty.
#[derive(serde::Deserialize)]
struct FaultyMap {
    from: String,
    to: String,
    expect: Vec<String>,
}

impl FaultyMap {
    fn all() -> Vec<Self> {
        #[derive(serde::Deserialize)]
        struct File {
            fault: Vec<FaultyMap>,
        }
        toml::from_str::<File>(include_str!("../../../tests/faulty/maps.toml")).unwrap().fault
    }
}

#[test]
fn faults_of_syntax_are_faults() {
    assert_eq!(faults("version = \n[[shards]\n").len(), 2);
    let twice = with_shards("[policy]\nfill_keys = true\nfill_keys = true\ntrust_shard_id = 1\n");
    assert_eq!(faults(&twice), ["18: duplicate key", "19: trust_shard_id must be true or false",]);
    assert_eq!(faults(""), ["1: the map has no shards", "1: default_shard is missing"]);
    assert!(!faults("url = \"postgresql://bot:s3cret@h\n\u{0}").is_empty());
}

/// Strategy `database`: no database may be that of two keys, or one of the servers' own.
#[test]
fn databases_of_keys_can_be_told_apart() {
    let key = |name: &str, ty: &str, database: &str| {
        format!(
            "[keys.{name}]\ncolumns = [\"{name}\"]\ntype = \"{ty}\"\nstrategy = \"database\"\n\
             database = {{ {database} }}\nhash = {{ algorithm = \"md5\", shards = [\"deu\"] }}\n"
        )
    };
    let check = |rest: &str, expect: &[&str]| {
        let found = faults(&with_shards(rest));
        let message = |fault: &str| fault.split_once(": ").map(|(_, told)| told.to_owned());
        let found: Vec<_> = found.iter().filter_map(|fault| message(fault)).collect();
        assert_eq!(found, expect, "{rest}");
    };
    let needs = "a key that is text needs a prefix for its databases";
    check(&key("owner", "text", "placement = \"hash\""), &[needs]);
    check(&key("owner", "varchar", "prefix = \"\""), &[needs]);
    check(&key("box", "bigint", "placement = \"hash\""), &[]);
    let two = |one: &str, other: &str| {
        let prefix = |prefix| format!("prefix = \"{prefix}\"");
        key("one", "bigint", &prefix(one)) + &key("other", "bigint", &prefix(other))
    };
    check(&two("a_", "b_"), &[]);
    for (one, other) in [("a_", "a_"), ("a_", "a_1"), ("a_1", "a_"), ("", "a_")] {
        let told = format!("its databases' prefix \"{other}\" can't be told from \"{one}\"");
        check(&two(one, other), &[&told]);
    }
    let listed = |place_new: &str| {
        key("tenant", "bigint", "prefix = \"t_\", placement = \"directory\"")
            + &format!(
                "[keys.tenant.directory]\nentries = {{ 4 = \"deu\" }}\notherwise = \"hash\"\n\
                 place_new = \"{place_new}\"\n"
            )
    };
    check(&listed("refuse"), &[]);
    let control = "[control]\nurl = \"postgresql://c@127.0.0.1/c\"\n";
    let text = format!("version = 1\ndefault_shard = \"deu\"\n{}{control}", listed("hash"));
    let faults = faults(&text);
    let told = faults.iter().any(|fault| fault.ends_with("place_new is not for strategy database"));
    assert!(told, "{faults:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However a map is damaged, the answer is a map or faults that render and keep the passwords.
    #[test]
    fn damaged_maps_are_faults(
        cut in 0usize..3200,
        length in 0usize..60,
        put in prop_oneof![
            Just(String::new()), "[a-z=\"'{}\\[\\]#.,\n 0-9]{0,8}", Just("\u{e9}".to_owned()), Just("\"\"\"".to_owned()),
        ],
    ) {
        let mut text = include_str!("../../../tests/golden/full_map.toml")
            .replace("bot:bot@", "bot:s3cret@");
        let cut = cut.min(text.len());
        let end = (cut + length).min(text.len());
        text.replace_range(cut..end, &put);
        let env = |_: &str| Some("s3cret".to_owned());
        if let Err(faults) = ShardMap::parse("map.toml", &text, &env) {
            prop_assert!(faults.count() > 0);
            // Damage inside a URL may take away what tells its password.
            let touched = text.match_indices("s3cret").any(|(at, _)| at.abs_diff(cut) < 80);
            let leaks = faults.render(false).contains("s3cret");
            prop_assert!(touched || !leaks);
        }
    }
}
