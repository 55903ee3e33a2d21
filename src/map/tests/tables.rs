//! What a map says of tables.

use super::*;
use crate::catalog::{Column, Heir, RelationKind, ShardCheck, Table};
use crate::datum::oid;

const MAP: &str = "
[keys.tenant]
columns = [\"tenant_id\", \"tid\"]
tables = { tenants = \"id\", \"app.accounts\" = \"owner\" }
type = \"bigint\"
strategy = \"hash\"
[keys.tenant.hash]
algorithm = \"postgres\"
shards = [\"usa-east\", \"deu\"]

[keys.region]
columns = [\"region_code\"]
type = \"text\"
strategy = \"geo\"
[keys.region.geo]
regions = { USA = [\"usa-east\", \"usa-west\"] }
within = { column = \"part\", type = \"bigint\", algorithm = \"modulo\" }

[keys.box]
columns = [\"box\"]
type = \"bigint\"
strategy = \"database\"
[keys.box.database]
[keys.box.hash]
algorithm = \"modulo\"
shards = [\"deu\"]

[lookups.bot]
columns = [\"bot_id\"]
tables = { bots = \"id\" }
key = \"tenant\"

[tables]
plans = \"reference\"
global_settings = { shard = \"deu\" }
memberships = { lookup = \"bot\" }
old_events = { key = \"tenant\", column = \"owner\" }
places = { key = \"region\", column = \"region_code\", within = \"id\" }
both = { key = \"tenant\", column = \"tenant_id\" }
wide_view = { key = \"tenant\", column = \"tenant_id\" }

[[everywhere]]
table = \"bots\"
predicate = \"id = 0\"
";

fn table(name: &str, columns: &str) -> Table {
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    let column = |text: &str| {
        let (name, ty) = text.split_once(':').unwrap_or((text, "bigint"));
        let type_oid = match ty {
            "bigint" => oid::INT8,
            "integer" => oid::INT4,
            "text" | "nondeterministic" => oid::TEXT,
            "varchar" => oid::VARCHAR,
            "char" => oid::BPCHAR,
            "uuid" => oid::UUID,
            _ => 0,
        };
        Column {
            name: name.to_owned(),
            type_oid,
            base_oid: type_oid,
            type_name: ty.to_owned(),
            not_null: false,
            deterministic: ty != "nondeterministic",
            has_default: false,
            default: crate::catalog::DefaultValue::Other,
            bytewise: false,
            shard_check: ShardCheck::None,
        }
    };
    Table::plain(schema, name, columns.split_whitespace().map(column).collect())
}

fn show(placement: &Placement<'_>) -> String {
    match placement {
        Placement::Sharded { key, columns } => format!("key {} {:?}", key.0, columns.as_slice()),
        Placement::Single(shard) => format!("single {}", shard.0),
        Placement::Lookup { name, column } => format!("lookup {name} {column}"),
        Placement::Reference => "reference".to_owned(),
        Placement::Unlisted => "unlisted".to_owned(),
        Placement::Unusable(why) => format!("unusable: {why}"),
    }
}

#[test]
fn partitions_follow_their_parents() {
    let map = map(MAP);
    let parents = |names: &[&str]| {
        names.iter().map(|n| ("public".to_owned(), (*n).to_owned())).collect::<Vec<_>>()
    };
    let check = |name: &str, columns: &str, of: &[&str], expect: &str| {
        let table = Table { parents: parents(of), ..table(name, columns) };
        assert_eq!(show(&map.placement(&table)), expect, "{name} {columns} {of:?}");
    };
    check("old_events_1", "id owner", &["old_events"], "key 0 [1]");
    check("old_events_1_1", "owner id", &["old_events_1", "old_events"], "key 0 [0]");
    check("global_settings", "id owner", &["old_events"], "single 2");
    check("plans_1", "id", &["plans"], "reference");
    check("free", "id", &["unheard_of"], "unlisted");
    let check = |name: &str, columns: &str, heir: &str, more: &[&str], expect: &str| {
        let more_columns = more.iter().map(|c| (*c).to_owned()).collect();
        let (schema, name_of) = ("public".to_owned(), heir.to_owned());
        let heirs = vec![Heir { schema, name: name_of, more_columns }];
        let table = Table { heirs, ..table(name, columns) };
        let shown = show(&map.placement(&table));
        assert!(shown.starts_with(expect), "{name} {columns} {heir}: {shown}");
    };
    check("old_events", "id owner", "old_events_1", &[], "key 0 [1]");
    check("old_events", "id owner", "plans", &[], "unusable: its rows are also in \"plans\"");
    check("free", "id", "owned", &["tenant_id"], "unusable: its rows are also in \"owned\"");
    check("free", "id", "owned", &["x"], "unlisted");
    check("users", "tenant_id", "special_users", &["x"], "key 0 [0]");
}

#[test]
fn placements_follow_their_precedence() {
    let map = map(MAP);
    let check = |name: &str, columns: &str, expect: &str| {
        assert_eq!(show(&map.placement(&table(name, columns))), expect, "{name} {columns}");
    };
    check("users", "id:uuid tenant_id", "key 0 [1]");
    check("users", "id tenant_id:integer bot_id:uuid", "key 0 [1]");
    check("other.users", "tid x", "key 0 [0]");
    check("tenants", "x id", "key 0 [1]");
    check("other.tenants", "x id", "unlisted");
    check("app.accounts", "owner", "key 0 [0]");
    check("accounts", "owner", "unlisted");
    check("plans", "tenant_id", "reference");
    check("global_settings", "name:text", "single 2");
    check("memberships", "user_id bot_id:uuid", "lookup bot 1");
    check("memberships", "user_id", "unusable: it has no column of the lookup \"bot\"");
    check("bots", "id name", "lookup bot 0");
    check("bots", "id tenant_id", "key 0 [1]");
    check("bot_notes", "x bot_id:uuid", "lookup bot 1");
    check("old_events", "id owner", "key 0 [1]");
    check(
        "old_events",
        "id tenant_id",
        "unusable: the shard map names \"owner\" as its key column, and it has no such column",
    );
    check("regions", "region_code:varchar part", "key 1 [0, 1]");
    check(
        "regions",
        "region_code:varchar",
        "unusable: it has no column \"part\", the second part of the key \"region\"",
    );
    check("places", "id region_code:text", "key 1 [1, 0]");
    check("both", "tenant_id region_code:text", "key 0 [0]");
    check("boxes", "box", "key 2 [0]");
    check("anything", "a b", "unlisted");
    for (columns, names) in [
        ("tenant_id tid", "\"tenant_id\" and \"tid\""),
        ("tenant_id region_code:text part", "\"tenant_id\" and \"region_code\""),
    ] {
        let expect = format!(
            "unusable: it has two key columns, {names}; list the table under [tables] with the one \
             that holds its key"
        );
        check("two", columns, &expect);
    }
}

#[test]
fn columns_that_cannot_hold_the_key_are_named() {
    let map = map(MAP);
    let check = |columns: &str, expect: &str| {
        assert_eq!(show(&map.placement(&table("t", columns))), expect, "{columns}");
    };
    check("tenant_id:mystery", "key 0 [0]");
    check(
        "tenant_id:text",
        "unusable: its key column \"tenant_id\" is of type text, and the shard map says bigint",
    );
    check(
        "region_code:char part",
        "unusable: its key column \"region_code\" is of type char, and the shard map says text",
    );
    check(
        "region_code:text part:uuid",
        "unusable: its key column \"part\" is of type uuid, and the shard map says bigint",
    );
    check(
        "region_code:nondeterministic part",
        "unusable: its key column \"region_code\" has a nondeterministic collation: equal keys could \
         have different shards",
    );
}

#[test]
fn relations_that_are_not_tables_are_sharded_only_where_listed() {
    let map = map(MAP);
    let check = |kind, name: &str, expect: &str| {
        let relation = Table { kind, ..table(name, "tenant_id") };
        assert_eq!(show(&map.placement(&relation)), expect, "{name}");
    };
    let view = "unusable: it is a view with a key column, and only a table under [tables] is known to \
                hold its key there";
    check(RelationKind::View, "v", view);
    check(RelationKind::ForeignTable, "f", &view.replace("a view", "a foreign table"));
    check(RelationKind::MaterializedView, "wide_view", "key 0 [0]");
    check(RelationKind::Sequence, "s", "unlisted");
}

#[test]
fn unknown_columns_are_taken_as_the_statement_names_them() {
    let map = map(MAP);
    let check = |name: &str, columns: &str, expect: &str| {
        let open = Table { columns_known: false, ..table(name, columns) };
        assert_eq!(show(&map.placement(&open)), expect, "{name} {columns}");
    };
    check("users", "name:? tenant_id:?", "key 0 [1]");
    check("tenants", "name:?", "key 0 [65535]");
    check("places", "name:?", "key 1 [65535, 65535]");
    check("regions", "region_code:?", "key 1 [0, 65535]");
    check("plans", "", "reference");
    check("memberships", "", "lookup bot 65535");
    check(
        "users",
        "name:?",
        "unusable: its columns are not known (offline they come from --schema FILE.sql), so it may have a key column that the statement does not \
         name",
    );
}

#[test]
fn everywhere_and_functions_are_found_by_name() {
    let map = map(&format!(
        "{MAP}\n[functions]\nword_count = \"pure\"\n\"public.f\" = \"home\"\n\"app.g\" = \"all\"\n"
    ));
    assert!(map.everywhere(&table("bots", "id")));
    assert!(!map.everywhere(&table("other.bots", "id")) && !map.everywhere(&table("users", "id")));
    let check = |name: &str, expect| assert_eq!(map.function(name), expect, "{name}");
    check("word_count", Some(FunctionRule::Pure));
    check("public.word_count", Some(FunctionRule::Pure));
    check("app.word_count", None);
    check("f", Some(FunctionRule::Home));
    check("public.f", Some(FunctionRule::Home));
    check("g", None);
    check("app.g", Some(FunctionRule::All));
    assert_eq!(map.session_key(), None);
}
