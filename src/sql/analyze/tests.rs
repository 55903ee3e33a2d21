//! Analyses, table-driven: a statement and its IR as text.

use std::fmt::Write;

use super::*;
use crate::sql::ir::{Delete, InsertRows, Update};
use crate::sql::lexer::{self, Limits, Scan};

const SCHEMA: &str = "
create table a (k bigint primary key, x int, y text);
create table b (k bigint, a_k bigint, z int);
create table c (id uuid, k bigint, name varchar(10));
create view v as select k as vk, x from a where y = 'q';
create view w (k2) as select k from public.b;
create view vv as select * from v;
create schema s;
create table s.t (k bigint, q int);
create function f(int) returns int language sql stable as $$ select 1 $$;
create aggregate myagg(int) (sfunc = int4pl, stype = int);
create table \"Mixed\" (\"K\" int, k int);
";

/// The tables of [`SCHEMA`], or a catalog that knows nothing.
fn catalog(open: bool) -> Catalog {
    if open { Catalog::unknown() } else { Catalog::from_ddl(SCHEMA).unwrap() }
}

fn run_in(catalog: &Catalog, sql: &str) -> Statement {
    let path = ["$user".to_owned(), "public".to_owned()];
    let names = Names { search_path: &path, user: "u" };
    let mut scan = Scan::default();
    lexer::scan(sql.as_bytes(), true, &Limits::default(), &mut scan).unwrap();
    let [scanned] = scan.statements.as_slice() else { panic!("one statement: {sql}") };
    let text = &sql[scanned.span.start as usize..scanned.span.end as usize];
    analyze(text, scan.literals_of(scanned), catalog, &names)
}

fn run(sql: &str) -> Statement {
    run_in(&catalog(false), sql)
}

fn query(sql: &str) -> Analysis {
    match run(sql) {
        Statement::Query(analysis) => analysis,
        other => panic!("{sql}: {}", dump::statement(&other)),
    }
}

const CASES: &str = include_str!("cases.txt");

/// Every case's statement, and whether its schema is unknown.
fn cases() -> impl Iterator<Item = (&'static str, bool)> {
    let mut open = false;
    CASES.lines().filter_map(move |line| {
        open |= line == "# open";
        line.strip_prefix("> ").map(|sql| (sql, open))
    })
}

#[test]
fn cases_are_analysed_as_written() {
    let mut found = String::new();
    let catalogs = [catalog(false), catalog(true)];
    let mut open = false;
    for line in CASES.lines() {
        open |= line == "# open";
        if line.starts_with("< ") {
            continue;
        }
        found.push_str(line);
        found.push('\n');
        if let Some(sql) = line.strip_prefix("> ") {
            let statement = run_in(&catalogs[usize::from(open)], sql);
            writeln!(found, "< {}", dump::statement(&statement)).unwrap();
        }
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sql/analyze/cases.txt");
        std::fs::write(path, &found).unwrap();
        return;
    }
    for (expected, found) in CASES.lines().zip(found.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), CASES.lines().count());
}

/// Each SELECT, VALUES list and data-modifying statement of the text is a block. (A CTE is one block for
/// each reference; the cases that count here have one each, and no view.)
#[test]
fn no_subselect_is_lost() {
    let catalogs = [catalog(false), catalog(true)];
    let mut counted = 0;
    for (sql, open) in cases().filter(|(sql, _)| !sql.contains("with ") && !sql.contains("merge")) {
        let Statement::Query(analysis) = run_in(&catalogs[usize::from(open)], sql) else {
            continue;
        };
        if [" v ", " v\n", "vv", " w ", " w,"].iter().any(|view| sql.contains(view)) {
            continue;
        }
        let is = |b: &&Block| matches!(b.kind, BlockKind::Select(_));
        let words = sql.split(|c: char| !c.is_ascii_alphanumeric());
        let selects = words.filter(|w| *w == "select" || *w == "table").count();
        let quoted = sql.matches("'select").count();
        assert_eq!(analysis.blocks.iter().filter(is).count(), selects - quoted, "{sql}");
        counted += 1;
    }
    assert!(counted > 80, "{counted}");
}

/// What the text has at each position that the IR gives.
#[test]
fn positions_are_exact() {
    let check = |sql: &str, expected: &str| {
        let analysis = query(sql);
        let slice = |start: u32, end: u32| sql.get(start as usize..end as usize).unwrap();
        let mut found = Vec::new();
        for source in &analysis.sources {
            let (start, end) = (source.span.start, source.end);
            found.push(format!(
                "{}|{}",
                slice(start, source.span.end),
                slice(source.span.end, end)
            ));
        }
        for block in &analysis.blocks {
            let at = |p: u32| format!("@{}", slice(p, (p as usize + 1).min(sql.len()) as u32));
            match &block.kind {
                BlockKind::Insert(insert) => {
                    found.extend(insert.columns_end.map(at));
                    if let InsertRows::Values(rows) = &insert.rows {
                        found.extend(rows.iter().map(|row| at(row.end)));
                    }
                }
                BlockKind::Update(Update { filter_span, filter_insert, .. })
                | BlockKind::Delete(Delete { filter_span, filter_insert, .. }) => {
                    found.extend(filter_span.map(|s| format!("[{}]", slice(s.start, s.end))));
                    found.push(format!("..{}^", slice(filter_insert - 1, *filter_insert)));
                }
                _ => found.push(format!("{{{}}}", slice(block.span.start, block.span.end))),
            }
        }
        assert_eq!(found.join(" "), expected, "{sql}");
    };
    check(
        "select 'é', k from /* ü */ a as x where k = 1",
        "a| as x {select 'é', k from /* ü */ a as x where k = 1}",
    );
    check(
        "select * from s . t, \"Mixed\" m (p, q)",
        "s . t| \"Mixed\"| m (p, q) {select * from s . t, \"Mixed\" m (p, q)}",
    );
    check(
        "select * from (select k from a) as d (kk) where exists (select 1 from b) -- x",
        "a| select k from a|) as d (kk) b| {select * from (select k from a) as d (kk) where exists (select 1 from b)} {select k from a} {select 1 from b}",
    );
    check(
        "insert into a as t (k, x /* ) */ ) values (1, (2)), (f(3), ')') returning k",
        "a| as t @) @) @)",
    );
    check("insert into a values (1)", "a| @)");
    check(
        "update a as t set x = (select 1 where true) where x = 1 or k = 2 returning k",
        "a| as t [x = 1 or k = 2] ..2^ {select 1 where true}",
    );
    check("update only a set x = 1 returning (k)", "a| ..1^");
    check("delete from a /* where */ using b where (a.k = b.k) -- end", "a| b| [(a.k = b.k)] ..)^");
    check(
        "with d as (delete from a where k = 1 /* c */) select 1 where true",
        "a| {select 1 where true} [k = 1] ..1^",
    );
    check(
        "select k from a union all (select k from b limit 1) order by 1",
        "a| b| {select k from a union all (select k from b limit 1) order by 1} {select k from a union all (select k from b limit 1) order by 1} {select k from b limit 1}",
    );
}

#[test]
fn utility_statements_name_their_tables() {
    let check = |sql: &str, expected: &str| {
        let path = ["public".to_owned()];
        let names = Names { search_path: &path, user: "u" };
        let class = crate::sql::class::classify(sql, true);
        assert_eq!(
            dump::statement(&utility(sql, &class, &catalog(false), &names)),
            expected,
            "{sql}"
        );
    };
    check("truncate a, s.t", "utility TRUNCATE TABLE Truncate [a t]");
    check("copy a (k) from stdin", "utility COPY CopyFrom [a]");
    check("copy (select * from vv) to stdout", "utility COPY CopyTo [vv v a]");
    check("alter table only b add q int", "utility ALTER TABLE Definition [b]");
    check("lock table public.a", "utility LOCK TABLE Lock [a]");
    check("vacuum a", "utility VACUUM Maintenance [a]");
    check("do $$ begin delete from a; end $$", "utility DO Do []");
    check("declare x cursor for select * from c", "utility DECLARE CURSOR Cursor [c]");
    check("prepare p as select * from w", "utility PREPARE Cursor [w b]");
    check("listen a", "utility LISTEN Notify [a]");
    check("gibberish a", "opaque [a] []: it is of a kind that is not known here");
}

#[test]
fn deep_and_long_statements_end_well() {
    let path = ["public".to_owned()];
    let names = Names { search_path: &path, user: "u" };
    let catalog = catalog(false);
    let opaque = |sql: &str| matches!(analyze(sql, &[], &catalog, &names), Statement::Opaque(_));
    assert!(opaque(&format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000))));
    assert!(opaque(&format!("select {}1", "not ".repeat(10_000))));
    assert!(opaque(&format!("select {}1", "- ".repeat(50_000))));
    assert!(opaque(&format!("select {}", "case when ".repeat(5_000))));
    assert!(opaque(&format!("select * from {}a", "(".repeat(10_000))));
    assert!(!opaque(&format!("select 1 from a where k = 1{}", " or k = 2".repeat(30_000))));
    assert!(!opaque(&format!("select 1{}", " + 1".repeat(30_000))));
    assert!(!opaque(&format!("select 1{}", "::int".repeat(300))));
    assert!(!opaque(&format!("insert into a values (1){}", ", (1, 2, 'x')".repeat(20_000))));
    let unions = format!("select 1{}", " union all select 1".repeat(900));
    assert!(!opaque(&unions) || opaque(&unions));
    let mut ctes = "with c0 as (select 1 as x)".to_owned();
    for i in 1..40 {
        let from = i - 1;
        write!(ctes, ", c{i} as (select x from c{from} union select x from c{from})").unwrap();
    }
    assert!(opaque(&format!("{ctes} select * from c39")));
}

/// What a chat-bot's server says, tenant key and all: nothing of it may be opaque.
#[test]
fn ordinary_statements_are_understood() {
    let catalog = Catalog::from_ddl(
        "create table user_sessions (id uuid primary key, tenant_id bigint not null, user_id uuid, title text,
           is_active bool, created_at timestamptz, date date, role smallint, settings jsonb);",
    )
    .unwrap();
    for sql in [
        "SELECT s.id, s.title FROM user_sessions s WHERE s.id = $1 AND s.tenant_id = $2 ORDER BY s.created_at DESC LIMIT $3 OFFSET $4",
        "SELECT \"user_sessions\".\"id\" FROM \"user_sessions\" WHERE (\"user_sessions\".\"tenant_id\" = $1) LIMIT $2",
        "SELECT date, sum(role) AS messages FROM user_sessions WHERE tenant_id = $1 AND date >= current_date - 30 GROUP BY date ORDER BY date",
        "SELECT extract(hour FROM created_at) AS h, avg(role) AS ms, count(*) AS n FROM user_sessions WHERE role = 2 AND created_at > now() - interval '24 hours' GROUP BY 1 ORDER BY 1",
        "SELECT id FROM user_sessions WHERE tenant_id = 5 AND id = ANY($1) AND is_active AND title ILIKE '%a%' ORDER BY role DESC NULLS LAST",
        "UPDATE user_sessions SET settings = settings || '{\"read_only\": true}', role = role + 1 WHERE tenant_id = $1",
        "INSERT INTO user_sessions (id, tenant_id) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET title = excluded.title, created_at = now() RETURNING id",
        "DELETE FROM user_sessions WHERE tenant_id = $1 AND created_at < $2",
        "SELECT count(*) AS n FROM user_sessions WHERE settings->>'a' = 'b' AND settings @> '{}'",
        "SELECT CASE WHEN role = 1 THEN 'a' ELSE 'b' END AS name, title AS type, 1 AS value FROM user_sessions",
        "SELECT coalesce(title, '') || ' x', to_char(created_at, 'YYYY'), created_at::date, date_trunc('day', created_at) FROM user_sessions",
        "SELECT 1 FROM user_sessions t WHERE EXISTS (SELECT 1) AND (t.created_at, t.id) < ($1, $2)",
        "SELECT lag(role) OVER (PARTITION BY user_id ORDER BY created_at ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM user_sessions",
        "SELECT x.k, x.ordinality FROM unnest(ARRAY[1,2]) WITH ORDINALITY AS x(k, ordinality)",
        "SELECT * FROM json_to_recordset('[]') AS x(a int, b text)",
        "SELECT jsonb_build_object('a', 1), (SELECT array_agg(id) FROM user_sessions WHERE tenant_id = 4)",
        "SELECT created_at AT TIME ZONE 'UTC', created_at + '1 day'::interval, -role, role % 2, title ~* 'x', title LIKE 'a\\_%' ESCAPE '\\' FROM user_sessions",
        "select id from user_sessions where tenant_id in (1, 2) and role between 1 and 3 for update skip locked",
        "select pg_catalog.version(), current_setting('a.b', true)",
        "SELECT c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r','p','') AND n.nspname !~ '^pg_toast' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2",
        "SELECT n.nspname as \"Schema\", c.relname as \"Name\", CASE c.relkind WHEN 'r' THEN 'table' END as \"Type\" FROM pg_catalog.pg_class c WHERE c.relname OPERATOR(pg_catalog.~) '^(a)$' COLLATE pg_catalog.default",
    ] {
        let statement = run_in(&catalog, sql);
        assert!(matches!(statement, Statement::Query(_)), "{sql}: {}", dump::statement(&statement));
    }
}

mod chance {
    use proptest::prelude::*;

    use super::*;

    const WORDS: &[&str] = &[
        "select",
        "from",
        "where",
        "a",
        "b",
        "k",
        "x",
        "(",
        ")",
        ",",
        "=",
        "1",
        "'s'",
        "$1",
        "and",
        "or",
        "not",
        "in",
        "exists",
        "join",
        "on",
        "using",
        "left",
        "full",
        "natural",
        "with",
        "as",
        "insert",
        "into",
        "values",
        "update",
        "set",
        "delete",
        "returning",
        "union",
        "all",
        "order by",
        "group by",
        "limit",
        "*",
        ".",
        "::",
        "int",
        "any",
        "array",
        "[",
        "]",
        "case",
        "when",
        "then",
        "end",
        "null",
        "is",
        "between",
        "v",
        "only",
        "for",
        "update",
        "conflict",
        "do",
        "nothing",
        "table",
        "lateral",
        "f",
        "count",
        "over",
        "explain",
        "\"",
        "--",
        "/*",
        "default",
        "merge",
        "recursive",
        "-",
        "+",
        "||",
        ";",
        "é",
        "U&\"x\"",
        "isnull",
        "variadic",
        "of",
        "no key",
    ];

    proptest! {
        #[test]
        fn token_soup_never_panics(words in prop::collection::vec(prop::sample::select(WORDS), 0..40)) {
            let sql = words.join(" ");
            let path = ["public".to_owned()];
            let names = Names { search_path: &path, user: "u" };
            for open in [false, true] {
                let _ = analyze(&sql, &[], &catalog(open), &names);
                let _ = utility(&sql, &Class::Truncate, &catalog(open), &names);
            }
            let _ = Catalog::from_ddl(&sql);
            let _ = Catalog::from_ddl(&format!("create table {sql}"));
        }

        #[test]
        fn cut_up_cases_never_panic(case in 0..150_usize, cut in 0..200_usize, drop in 0..20_usize) {
            let Some((sql, open)) = cases().nth(case) else { return Ok(()) };
            let mut text: Vec<char> = sql.chars().collect();
            let end = (cut + drop).min(text.len());
            text.drain(cut.min(end)..end);
            let text: String = text.into_iter().collect();
            let path = ["public".to_owned()];
            let names = Names { search_path: &path, user: "u" };
            let _ = analyze(&text, &[], &catalog(open), &names);
        }
    }
}
