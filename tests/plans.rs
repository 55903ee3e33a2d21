//! Plan cases: SQL, parameters and scope → route, or refusal. The cases are files in `tests/plans`; what is
//! refused is a case too. `UPDATE_EXPECT=1 cargo test --test plans` writes what comes out into the files:
//! read the difference before you believe it, for a route that is too narrow is a wrong answer.
//!
//! A file is a list of blocks, separated by blank lines. `map:` chooses a map of `tests/plans/maps` for the
//! blocks that follow, with `/name` that of the sessions of one database. A case is
//!
//! ```text
//! # remarks
//! sql: SELECT * FROM users WHERE tenant_id = $1
//! param: int8 binary 3
//! session: shard=deu key=42
//! expect: one usa-east
//! rewritten: …
//! ```
//!
//! `frozen: tenant=3` freezes keys for the blocks that follow, in this map. Where shards are asked different things,
//! `rewritten` has each shard's.
//!
//! Flags follow the shards (and the database that is a key's own): `workspace`, `taints`, `writes`, `schema`. For a workspace `rewritten` is the host
//! with its statement, then for each scratch table (`_1`, `_2` …) the shards and what they are asked; for a `merge`
//! its steps and what each shard is asked (`merge?`: if the keys' types have an order outside PostgreSQL). A refusal
//! is `error SQLSTATE message`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use pgmeridian::catalog::{Catalog, Names};
use pgmeridian::datum::{Format, KeyValue, Param, oid};
use pgmeridian::error::SqlError;
use pgmeridian::map::{ShardId, ShardMap};
use pgmeridian::plan::{Answer, Fresh, Inputs, Plan, Route, Scope, Template, Workspace, scope};
use pgmeridian::sql::class::classify;
use pgmeridian::sql::lexer::{Limits, Scan, scan};
use pgmeridian::sql::{analyze, hint};

#[derive(Default, Debug)]
struct Case {
    remarks: Vec<String>,
    sql: String,
    params: Vec<String>,
    session: Option<String>,
    ascii: bool,
    expect: String,
    rewritten: Option<String>,
    line: usize,
}

enum Block {
    Remark(Vec<String>),
    Map(Vec<String>, String),
    Frozen(Vec<String>, String),
    Case(Case),
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans")
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut case = Case::default();
    let (mut map, mut frozen) = (None, None);
    for (number, line) in text.lines().chain([""]).enumerate() {
        if line.trim().is_empty() {
            let case = std::mem::take(&mut case);
            if let Some(keys) = frozen.take() {
                blocks.push(Block::Frozen(case.remarks, keys));
                continue;
            }
            match (map.take(), case.sql.is_empty()) {
                (Some(name), _) => blocks.push(Block::Map(case.remarks, name)),
                (None, true) if case.remarks.is_empty() => {}
                (None, true) => blocks.push(Block::Remark(case.remarks)),
                (None, false) => blocks.push(Block::Case(case)),
            }
            continue;
        }
        let (word, rest) = line.split_once(':').unwrap_or((line, ""));
        let rest = rest.trim().to_owned();
        match word {
            _ if line.starts_with('#') => case.remarks.push(line.to_owned()),
            "map" => map = Some(rest),
            "frozen" => frozen = Some(rest),
            "sql" => {
                case.sql = rest;
                case.line = number + 1;
            }
            "param" => case.params.push(rest),
            "session" => case.session = Some(rest),
            "client_encoding" => case.ascii = rest == "latin1",
            "expect" => case.expect = rest,
            "rewritten" => case.rewritten = Some(rest),
            other => panic!("line {}: unknown word {other}", number + 1),
        }
    }
    blocks
}

fn render(blocks: &[Block]) -> String {
    let mut text = String::new();
    for block in blocks {
        let (remarks, body) = match block {
            Block::Remark(remarks) => (remarks, String::new()),
            Block::Map(remarks, name) => (remarks, format!("map: {name}\n")),
            Block::Frozen(remarks, keys) => (remarks, format!("frozen: {keys}\n")),
            Block::Case(case) => (&case.remarks, render_case(case)),
        };
        for remark in remarks {
            writeln!(text, "{remark}").unwrap();
        }
        text.push_str(&body);
        text.push('\n');
    }
    format!("{}\n", text.trim_end())
}

fn render_case(case: &Case) -> String {
    let mut text = format!("sql: {}\n", case.sql);
    for param in &case.params {
        writeln!(text, "param: {param}").unwrap();
    }
    if let Some(session) = &case.session {
        writeln!(text, "session: {session}").unwrap();
    }
    if case.ascii {
        text.push_str("client_encoding: latin1\n");
    }
    writeln!(text, "expect: {}", case.expect).unwrap();
    if let Some(rewritten) = &case.rewritten {
        writeln!(text, "rewritten: {rewritten}").unwrap();
    }
    text
}

/// `int8 binary 42`, `- text 42` (no declared type), `int8[] text {1,2}`, `int8 null`.
fn param(written: &str) -> (u32, Format, Option<Vec<u8>>) {
    let (ty, rest) = written.split_once(' ').expect("a parameter's type");
    let declared = match ty {
        "-" => 0,
        "int2" => oid::INT2,
        "int4" => oid::INT4,
        "int8" => oid::INT8,
        "text" => oid::TEXT,
        "uuid" => oid::UUID,
        "numeric" => oid::NUMERIC,
        "bool" => oid::BOOL,
        "int8[]" => oid::INT8_ARRAY,
        "text[]" => oid::TEXT_ARRAY,
        other => panic!("unknown parameter type {other}"),
    };
    if rest == "null" {
        return (declared, Format::Text, None);
    }
    let (format, value) = rest.split_once(' ').expect("a format");
    if format == "text" {
        return (declared, Format::Text, Some(value.as_bytes().to_vec()));
    }
    let bytes = match ty {
        "int2" => value.parse::<i16>().unwrap().to_be_bytes().to_vec(),
        "int4" => value.parse::<i32>().unwrap().to_be_bytes().to_vec(),
        "int8" | "-" => value.parse::<i64>().unwrap().to_be_bytes().to_vec(),
        "text" => value.as_bytes().to_vec(),
        "uuid" => (0..16)
            .map(|i| u8::from_str_radix(&value.replace('-', "")[2 * i..2 * i + 2], 16).unwrap())
            .collect(),
        "int8[]" => {
            let elements: Vec<i64> = value.split(',').map(|v| v.parse().unwrap()).collect();
            let mut bytes = Vec::new();
            for word in [1, 0, oid::INT8 as i32, elements.len() as i32, 1] {
                bytes.extend(word.to_be_bytes());
            }
            for element in elements {
                bytes.extend(8i32.to_be_bytes());
                bytes.extend(element.to_be_bytes());
            }
            bytes
        }
        other => panic!("no binary form of {other} here"),
    };
    (declared, Format::Binary, Some(bytes))
}

/// `shard=deu key=42`; `user=42` is a user's own key, `across=regions` a user's right.
fn add_session(map: &ShardMap, written: &str, scope: &mut Scope<'_>) -> Result<(), SqlError> {
    for pair in written.split(' ') {
        match pair.split_once('=').expect("name=value") {
            ("shard", "*") => scope.everywhere = true,
            ("shard", name) => scope.session_shard = Some(scope::resolve_shard(map, name)?),
            ("key", text) => {
                scope.session_key = Some(scope::scope_key(scope::resolve_key(map, text)?));
            }
            ("across", "regions") => scope.across_regions = true,
            ("user", text) => {
                scope.session_key = Some(scope::scope_key(scope::resolve_key(map, text)?));
                scope.confined = true;
            }
            (other, _) => panic!("unknown session word {other}"),
        }
    }
    Ok(())
}

fn run(
    case: &Case,
    map: &ShardMap,
    catalog: &Catalog,
) -> Result<(Plan, serde_json::Value), SqlError> {
    let mut found = Scan::default();
    scan(case.sql.as_bytes(), true, &Limits::default(), &mut found)?;
    let statement = found.statements.first().expect("a statement").clone();
    let fresh = Fresh::new(|count| [count as u8; 16]);
    let mut scope = Scope { fresh: Some(fresh.of(0, None)), ..Scope::default() };
    if let Some(span) = statement.hint {
        let hint = hint::parse(&case.sql[span.start as usize..span.end as usize])?;
        if let Some(name) = &hint.shard {
            scope.hint_shard = Some(scope::resolve_shard(map, name)?);
        }
        if let Some(text) = &hint.key {
            scope.hint_key = Some(scope::scope_key(scope::resolve_key(map, text)?));
        }
    }
    if let Some(session) = &case.session {
        add_session(map, session, &mut scope)?;
    }
    let text = &case.sql[statement.span.start as usize..statement.span.end as usize];
    let literals = found.literals_of(&statement);
    let class = classify(text, true);
    let path = ["$user".to_owned(), "public".to_owned()];
    let names = Names { search_path: &path, user: "bot" };
    let analysed = analyze::statement(text, literals, &class, catalog, &names);
    let template = Template::compile(&analysed, &class, map);
    let values: Vec<_> = case.params.iter().map(|p| param(p)).collect();
    let params: Vec<Param<'_>> = values
        .iter()
        .map(|(oid, format, value)| Param { oid: *oid, format: *format, value: value.as_deref() })
        .collect();
    let inputs =
        Inputs { text, literals, params: &params, utf8: !case.ascii, standard_strings: true };
    let explained = template.explain(map, &inputs, &scope);
    let _ = template.describe_shard(map, &scope);
    template.plan(map, &inputs, &scope).map(|plan| (plan, explained.json))
}

fn outcome(case: &Case, map: &ShardMap, catalog: &Catalog) -> (String, Option<String>) {
    match run(case, map, catalog) {
        Ok((plan, json)) => {
            let kind = match &plan.route {
                Route::One(shard) => format!("one {}", map.shard_name(*shard)),
                Route::Database(database) => {
                    format!("one {} {}", map.shard_name(database.shard), database.name)
                }
                Route::Many(shards) => {
                    let names: Vec<_> = shards.iter().map(|s| map.shard_name(s)).collect();
                    format!("many {}", names.join(" "))
                }
                Route::All => "all".to_owned(),
                Route::Any => "any".to_owned(),
                Route::Nowhere => "none".to_owned(),
            };
            assert_eq!(kind.split(' ').next(), json["kind"].as_str(), "EXPLAIN says otherwise");
            let flags = [
                (plan.taints, " taints"),
                (plan.writes, " writes"),
                (plan.changes_schema, " schema"),
            ];
            let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
            match &plan.answer {
                Answer::Workspace(work) => (
                    kind + if work.combined { " combine" } else { " workspace" } + &flags,
                    Some(over_scratch(map, work)),
                ),
                Answer::Merge(merge) => {
                    let asked = by_shard(map, &plan.route, |shard| &merge.text_worker(shard).sql);
                    (
                        kind + if merge.certain { " merge" } else { " merge?" } + &flags,
                        Some(format!("{} <- {asked}", merge.steps().join(", "))),
                    )
                }
                Answer::Staged(staged) => {
                    let rest = format!("{} <- {} {}", staged.head, staged.query, staged.tail);
                    (kind + " staged" + &flags, Some(rest.trim_end().to_owned()))
                }
                Answer::Stream(texts) if texts.iter().next().is_some() => {
                    let asked = by_shard(map, &plan.route, |s| texts.of(s).unwrap_or(&case.sql));
                    (kind + &flags, Some(asked))
                }
                Answer::Relay | Answer::Stream(_) => (kind + &flags, plan.rewritten),
                Answer::Broadcast => (kind + " broadcast" + &flags, plan.rewritten),
                Answer::InTurn => (kind + " in turn" + &flags, plan.rewritten),
            }
        }
        Err(error) => (format!("error {} {}", error.code, error.message), None),
    }
}

/// What each shard is asked: once, if that is the same.
fn by_shard<'p>(map: &ShardMap, route: &Route, sql: impl Fn(ShardId) -> &'p str) -> String {
    let all = map.all_shards();
    let shards = if let Route::Many(shards) = route { shards } else { &all };
    let mut asked: Vec<(&str, Vec<&str>)> = Vec::new();
    for shard in shards.iter() {
        let name = map.shard_name(shard);
        match asked.iter_mut().find(|(own, _)| *own == sql(shard)) {
            Some((_, shards)) => shards.push(name),
            None => asked.push((sql(shard), vec![name])),
        }
    }
    match asked.as_slice() {
        [(sql, _)] => (*sql).to_owned(),
        several => {
            let told = several.iter().map(|(sql, shards)| format!("{}: {sql}", shards.join(" ")));
            told.collect::<Vec<_>>().join(" <- ")
        }
    }
}

/// The statement as the host runs it, and where its scratch tables' rows come from.
fn over_scratch(map: &ShardMap, work: &Workspace) -> String {
    let mut text = format!("{}: {}", map.shard_name(work.host), work.sql);
    for table in &work.tables {
        let mut fetches: Vec<(&str, Vec<&str>)> = Vec::new();
        for (shard, sql) in &table.fetches {
            let name = map.shard_name(*shard);
            match fetches.iter_mut().find(|(own, _)| own == sql) {
                Some((_, shards)) => shards.push(name),
                None => fetches.push((sql, vec![name])),
            }
        }
        let name = table.name.rsplit('_').next().unwrap_or_default();
        for (sql, shards) in fetches {
            write!(text, " <- {name} {}: {sql}", shards.join(" ")).unwrap();
        }
    }
    text.replace("pg_temp.pgmeridian_scratch_", "_")
}

#[test]
fn plans() {
    let directory = directory();
    let read = |path: &Path| std::fs::read_to_string(path).expect("a file of cases");
    let catalog = Catalog::from_ddl(&read(&directory.join("schema.sql"))).expect("the schema");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .expect("the directory of cases")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "case"))
        .collect();
    files.sort();
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut failures = String::new();
    let mut count = 0;
    for path in files {
        let text = read(&path);
        let mut blocks = blocks(&text);
        let mut map = None;
        for block in &mut blocks {
            match block {
                Block::Remark(_) => {}
                Block::Map(_, name) => {
                    let (name, database) = name.split_once('/').unwrap_or((name, ""));
                    let file = directory.join("maps").join(format!("{name}.toml"));
                    let parsed = ShardMap::parse(name, &read(&file), &|_| None);
                    let whole = parsed.unwrap_or_else(|f| panic!("{}", f.render(false))).0;
                    map = Some(if database.is_empty() {
                        whole
                    } else {
                        whole.of_database(database).expect("a database of the map")
                    });
                }
                Block::Frozen(_, keys) => {
                    let whole = map.take().expect("a map before what is frozen in it");
                    let frozen = keys.split_whitespace().map(|written| {
                        let (name, value) = written.split_once('=').expect("key=value");
                        let key = whole.key_named(name).expect("a key of the map");
                        let ty = whole.key(key).unwrap().key_type();
                        (key, KeyValue::from_text(ty, value).unwrap().into_owned())
                    });
                    let frozen = frozen.collect();
                    map = Some(whole.freezing(frozen));
                }
                Block::Case(case) => {
                    count += 1;
                    let map = map.as_ref().expect("a map before the first case");
                    let (got, rewritten) = outcome(case, map, &catalog);
                    if got != case.expect || rewritten != case.rewritten {
                        let file = path.file_name().unwrap_or_default().to_string_lossy();
                        writeln!(
                            failures,
                            "{file}:{}: {}\n  expected: {}\n  got:      {got}\n  expected: {:?}\n  got:      {rewritten:?}",
                            case.line, case.sql, case.expect, case.rewritten
                        )
                        .unwrap();
                    }
                    case.expect = got;
                    case.rewritten = rewritten;
                }
            }
        }
        if update {
            std::fs::write(&path, render(&blocks)).expect("writing the cases");
        }
    }
    assert!(update || failures.is_empty(), "{failures}");
    assert!(count >= 250, "only {count} cases");
}
