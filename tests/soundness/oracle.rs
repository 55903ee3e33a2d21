//! Whether a planned statement gives what one PostgreSQL with all rows would give.

use std::sync::Arc;

use bytes::BytesMut;
use futures_util::{SinkExt as _, TryStreamExt as _};
use pgmeridian::catalog::Names;
use pgmeridian::datum::{Format, KeyType, KeyValue, Param};
use pgmeridian::error::SqlError;
use pgmeridian::map::ShardId;
use pgmeridian::plan::{
    Answer as PlanAnswer, Inputs, Plan, Route, Scope, Template, Workspace, scope,
};
use pgmeridian::sql::analyze;
use pgmeridian::sql::class::{Class, classify};
use pgmeridian::sql::lexer::{Limits, LiteralKind, Scan, scan};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::generator::{Generated, Parameter, Value};
use crate::world::{self, INTS, Stored, World};

/// How one statement came out.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The same; the kind of route.
    Agree(&'static str),
    /// Refused by the planner: SQLSTATE and message.
    Refused(String),
    /// PostgreSQL itself refuses it.
    Invalid(String),
    /// It took too long, or errors that depend on the order of evaluation got in the way.
    Skipped,
    /// Another answer: what sort of fault, and everything about it.
    Fail(&'static str, String),
}

/// What besides the statement is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    /// Compiled from another statement of the same shape.
    Cached,
    /// With this number of [`INTS`] as the session's key.
    SessionKey(usize),
    /// With this shard as the session's.
    SessionShard(usize),
}

type Row = Vec<Option<Vec<u8>>>;

enum Answer {
    Rows(Vec<Row>),
    Error(String, String),
}

/// A parameter as it is bound.
#[derive(Clone, Debug)]
struct Bound {
    /// The declared type.
    oid: u32,
    /// The type that the planner knows.
    described: u32,
    /// The type that PostgreSQL has found for it.
    found: u32,
    format: Format,
    bytes: Option<Vec<u8>>,
}

impl ToSql for Bound {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match &self.bytes {
            None => Ok(IsNull::Yes),
            Some(bytes) => {
                out.extend_from_slice(bytes);
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> tokio_postgres::types::Format {
        match self.format {
            Format::Binary => tokio_postgres::types::Format::Binary,
            Format::Text => tokio_postgres::types::Format::Text,
        }
    }

    tokio_postgres::types::to_sql_checked!();
}

struct Raw(Vec<u8>);

impl FromSql<'_> for Raw {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Runs a statement every way, and compares.
pub(crate) async fn judge(world: &World, statement: &Generated, mode: Mode) -> Verdict {
    let mut bound = Vec::new();
    if !statement.params.is_empty() {
        let declared: Vec<Type> = statement.params.iter().map(|p| type_of(p.oid)).collect();
        match world.plain.prepare_typed(&statement.sql, &declared).await {
            Ok(prepared) => {
                for (n, (parameter, ty)) in
                    statement.params.iter().zip(prepared.params()).enumerate()
                {
                    let mut one = bind(parameter, ty);
                    // What stands in several places is read as what a shard described.
                    let name = format!("${}", n + 1);
                    let places = statement.sql.split(&name).skip(1);
                    let repeated =
                        places.filter(|p| !p.starts_with(|c: char| c.is_ascii_digit())).count() > 1;
                    let untold = matches!(one.oid, 0 | 705);
                    one.described = if repeated && untold { ty.oid() } else { one.oid };
                    bound.push(one);
                }
            }
            Err(error) => return Verdict::Invalid(code(&error).0),
        }
    }
    let planned = plan(world, &statement.sql, &bound, mode);
    let explain = |why: String, planned: &Result<Plan, SqlError>| {
        format!(
            "{why}\n  statement: {}\n  parameters: {bound:?}\n  mode: {mode:?}\n  plan: {planned:?}\n  search_path: {:?}, standard strings: {}",
            statement.sql, world.search_path, world.standard_strings
        )
    };
    let plan = match &planned {
        Ok(plan) => plan,
        Err(error) => {
            let ours = ["0A000", "22023", "23502"];
            let code = error.code.to_string();
            if ours.contains(&code.as_str()) {
                let mut message = error.message.clone();
                if code == "0A000" && message.contains("read") {
                    message.push_str(error.detail.as_deref().unwrap_or_default());
                }
                return Verdict::Refused(format!("{code} {message}"));
            }
            // An error that PostgreSQL would give too.
            let answer = in_transaction(&world.plain, &statement.sql, &bound, "", false).await.0;
            return match answer {
                Answer::Error(..) => Verdict::Agree("error"),
                Answer::Rows(_) if matches!(mode, Mode::Plain | Mode::Cached) => {
                    Verdict::Fail("an error of ours", explain(error.to_string(), &planned))
                }
                Answer::Rows(_) => Verdict::Refused(format!("{code} {}", error.message)),
            };
        }
    };
    let text = plan.rewritten.as_deref().unwrap_or(&statement.sql);
    let home = usize::from(world.map.default_shard().0);
    let (kind, shards) = match &plan.route {
        Route::One(shard) => ("one", vec![usize::from(shard.0)]),
        Route::Any => ("any", vec![statement.sql.len() % world::SHARDS]),
        Route::Nowhere => ("none", vec![home]),
        Route::Many(set) => ("many", set.iter().map(|s| usize::from(s.0)).collect()),
        Route::All => ("all", (0..world::SHARDS).collect()),
        Route::Database(_) => unreachable!("no key of this map has databases"),
    };
    if let Mode::SessionShard(shard) = mode {
        return in_scope(world, statement, &bound, plan, shard, &explain, &planned).await;
    }
    let session_key = match mode {
        Mode::SessionKey(at) => world.map.key_named("tenant").map(|key| (key, INTS[at])),
        _ => None,
    };
    let before = session_key
        .map(|(key, value)| world.keep_only(key, &value.to_string()))
        .unwrap_or_default();
    if let PlanAnswer::Staged(_) = plan.answer {
        // Several steps of the proxy's: it is judged through that.
        return Verdict::Refused("staged".to_owned());
    }
    let writes = plan.writes || statement.writes;
    if writes && shards.len() != 1 {
        return Verdict::Fail("a write on several shards", explain(String::new(), &planned));
    }
    let (expected, plain_after) = if writes || !before.is_empty() {
        in_transaction(&world.plain, &statement.sql, &bound, &before, writes).await
    } else {
        (run(&world.plain, &statement.sql, &bound).await, None)
    };
    let mut got = Vec::new();
    let mut failed = None;
    let mut shard_after = None;
    let over_tables = match &plan.answer {
        PlanAnswer::Workspace(work) => Some(work),
        // The merge of the shards' rows has its own tests; here both must be right.
        PlanAnswer::Merge(merge) => merge.fallback.as_ref(),
        _ => None,
    };
    let shards = if let Some(work) = over_tables {
        match over_scratch(world, work, &bound).await {
            Answer::Rows(rows) => got.extend(rows),
            Answer::Error(code, message) => failed = Some((code, message)),
        }
        Vec::new()
    } else {
        shards
    };
    for shard in &shards {
        let client = &world.shards[*shard];
        let answer = if writes {
            let (answer, after) = in_transaction(client, text, &bound, "", true).await;
            shard_after = after;
            answer
        } else {
            run(client, text, &bound).await
        };
        match answer {
            Answer::Rows(rows) => got.extend(rows),
            Answer::Error(code, message) => failed = Some((code, message)),
        }
    }
    match (expected, failed) {
        (Answer::Error(code, _), _) if code == "57014" => Verdict::Skipped,
        (_, Some((code, _))) if code == "57014" => Verdict::Skipped,
        (Answer::Error(..), Some(_)) => Verdict::Invalid(String::new()),
        (Answer::Error(code, message), None) => match code.as_str() {
            // Which rows an expression is evaluated for is PostgreSQL's choice.
            c if c.starts_with("22") => Verdict::Skipped,
            "21000" if kind == "none" || matches!(plan.answer, PlanAnswer::Workspace(_)) => {
                Verdict::Skipped
            }
            // The session's key was filled in.
            "23502" if session_key.is_some() => Verdict::Skipped,
            _ => Verdict::Fail(
                "no error where PostgreSQL has one",
                explain(format!("{code} {message}"), &planned),
            ),
        },
        (Answer::Rows(_), Some((code, _))) if code.starts_with("22") => Verdict::Skipped,
        (Answer::Rows(_), Some((code, _)))
            if code == "21000" && matches!(plan.answer, PlanAnswer::Workspace(_)) =>
        {
            Verdict::Skipped
        }
        (Answer::Rows(_), Some((code, message))) => Verdict::Fail(
            "an error where PostgreSQL has none",
            explain(format!("{code} {message}"), &planned),
        ),
        (Answer::Rows(mut expected), None) => {
            expected.sort();
            got.sort();
            if expected != got {
                let why = format!(
                    "PostgreSQL gives {} rows, the shards {}\n  expected: {}\n  got: {}",
                    expected.len(),
                    got.len(),
                    shown(&expected),
                    shown(&got)
                );
                return Verdict::Fail("another answer", explain(why, &planned));
            }
            let (Some(plain), Some(after)) = (plain_after, shard_after) else {
                let gathered = matches!(plan.answer, PlanAnswer::Workspace(_));
                return Verdict::Agree(if gathered { "workspace" } else { kind });
            };
            match compare(world, &plain, shards[0], &after, session_key) {
                Ok(()) => Verdict::Agree("written"),
                Err(why) => Verdict::Fail("other rows were written", explain(why, &planned)),
            }
        }
    }
}

/// Brings the rows of scratch tables together, and runs the statement over them.
async fn over_scratch(world: &World, work: &Workspace, bound: &[Bound]) -> Answer {
    let failed = |error: &tokio_postgres::Error| {
        let (code, message) = code(error);
        Answer::Error(code, message)
    };
    let mut loads = Vec::new();
    for table in &work.tables {
        for (shard, sql) in &table.fetches {
            let copy = format!("COPY ({sql}) TO STDOUT (FORMAT binary)");
            match world.shards[usize::from(shard.0)].copy_out(&copy).await {
                Ok(stream) => match stream.try_collect::<Vec<_>>().await {
                    Ok(data) => loads.push((&table.name, data)),
                    Err(error) => return failed(&error),
                },
                Err(error) => return failed(&error),
            }
        }
    }
    let host = &world.shards[usize::from(work.host.0)];
    let made: Vec<&str> = work.tables.iter().map(|table| table.create.as_str()).collect();
    let answer = async {
        host.batch_execute(&format!("BEGIN; {}", made.join("; "))).await?;
        for (name, data) in loads {
            let sink = host.copy_in(&format!("COPY {name} FROM STDIN (FORMAT binary)")).await?;
            let mut sink = std::pin::pin!(sink);
            for bytes in data {
                sink.feed(bytes).await?;
            }
            sink.close().await?;
        }
        // Of parameters that only the shards see nothing here says the type.
        let declared = |one: &Bound| Bound { oid: one.found, ..one.clone() };
        let bound: Vec<Bound> = bound.iter().map(declared).collect();
        Ok(run(host, &work.sql, &bound).await)
    };
    let answer = answer.await.unwrap_or_else(|error| failed(&error));
    if host.batch_execute("ROLLBACK").await.is_err() {
        return Answer::Error("57014".to_owned(), "no rollback".to_owned());
    }
    answer
}

/// Runs a statement on the plain database and through the proxy, and compares.
pub(crate) async fn through(
    world: &World,
    proxy: &Client,
    statement: &Generated,
    mode: Mode,
) -> Verdict {
    let mut bound = Vec::new();
    if !statement.params.is_empty() {
        let declared: Vec<Type> = statement.params.iter().map(|p| type_of(p.oid)).collect();
        match world.plain.prepare_typed(&statement.sql, &declared).await {
            Ok(prepared) => {
                let parameters = statement.params.iter().zip(prepared.params());
                bound.extend(parameters.map(|(parameter, ty)| bind(parameter, ty)));
            }
            Err(error) => return Verdict::Invalid(code(&error).0),
        }
    }
    let key = match mode {
        Mode::SessionKey(at) => {
            world.map.key_named("tenant").map(|key| (key, INTS[at].to_string()))
        }
        Mode::Plain | Mode::Cached | Mode::SessionShard(_) => None,
    };
    let before = key.as_ref().map(|(key, value)| world.keep_only(*key, value)).unwrap_or_default();
    let run_on = async |client: &Client, before: &str| {
        if statement.writes || !before.is_empty() {
            in_transaction(client, &statement.sql, &bound, before, false).await.0
        } else {
            run(client, &statement.sql, &bound).await
        }
    };
    let expected = run_on(&world.plain, &before).await;
    if let Some((_, value)) = &key
        && proxy.batch_execute(&format!("SET pgmeridian.key = '{value}'")).await.is_err()
    {
        return Verdict::Skipped;
    }
    let got = run_on(proxy, "").await;
    if key.is_some() && proxy.batch_execute("RESET pgmeridian.key").await.is_err() {
        return Verdict::Skipped;
    }
    let explain = |why: String| {
        format!(
            "{why}\n  statement: {}\n  parameters: {bound:?}\n  mode: {mode:?}\n  search_path: {:?}, standard strings: {}",
            statement.sql, world.search_path, world.standard_strings
        )
    };
    match (expected, got) {
        (Answer::Error(code, _), Answer::Rows(_)) if code == "23502" && key.is_some() => {
            Verdict::Skipped
        }
        (Answer::Error(code, _), _) | (_, Answer::Error(code, _)) if code == "57014" => {
            Verdict::Skipped
        }
        (_, Answer::Error(code, message))
            if ["0A000", "22023", "23502"].contains(&code.as_str()) =>
        {
            Verdict::Refused(format!("{code} {message}"))
        }
        (Answer::Error(..), Answer::Error(..)) => Verdict::Invalid(String::new()),
        (Answer::Error(code, _), Answer::Rows(_)) | (Answer::Rows(_), Answer::Error(code, _))
            if code.starts_with("22") || code == "21000" =>
        {
            Verdict::Skipped
        }
        (Answer::Error(code, message), Answer::Rows(_)) => Verdict::Fail(
            "no error through the proxy where PostgreSQL has one",
            explain(format!("{code} {message}")),
        ),
        (Answer::Rows(_), Answer::Error(code, message)) => Verdict::Fail(
            "an error through the proxy where PostgreSQL has none",
            explain(format!("{code} {message}")),
        ),
        (Answer::Rows(mut expected), Answer::Rows(mut got)) => {
            expected.sort();
            got.sort();
            if expected == got {
                return Verdict::Agree("through the proxy");
            }
            let (missing, added) = (without(&expected, &got), without(&got, &expected));
            let rows = format!(
                "{} rows expected, {} got; missing: {}; added: {}",
                expected.len(),
                got.len(),
                shown(&missing),
                shown(&added)
            );
            Verdict::Fail("another answer through the proxy", explain(rows))
        }
    }
}

/// With a shard as the session's the statement runs there; rows must stay where the map places them.
async fn in_scope(
    world: &World,
    statement: &Generated,
    bound: &[Bound],
    plan: &Plan,
    shard: usize,
    explain: &impl Fn(String, &Result<Plan, SqlError>) -> String,
    planned: &Result<Plan, SqlError>,
) -> Verdict {
    if plan.route != Route::One(ShardId(shard as u16)) {
        return Verdict::Fail("out of scope", explain(String::new(), planned));
    }
    let text = plan.rewritten.as_deref().unwrap_or(&statement.sql);
    let (answer, after) =
        in_transaction(&world.shards[shard], text, bound, "", statement.writes).await;
    let Answer::Rows(_) = answer else { return Verdict::Agree("error") };
    for row in after.into_iter().flatten() {
        if !world.homes(row.table, &row.key).contains(&shard) {
            let why = format!("this row is not of shard {shard}: {}", world::describe(&row));
            return Verdict::Fail("a row out of place", explain(why, planned));
        }
    }
    Verdict::Agree("scope")
}

/// After a write: the shard must hold what plain has of it, and the others what they had.
fn compare(
    world: &World,
    plain: &[Stored],
    shard: usize,
    after: &[Stored],
    session_key: Option<(pgmeridian::map::KeyId, i64)>,
) -> Result<(), String> {
    let visible = |row: &Stored| match session_key {
        Some((key, value)) if world.key_of(row.table) == Some(key) => {
            row.key.first().and_then(|k| k.as_deref()) == Some(value.to_string().as_str())
        }
        _ => true,
    };
    for index in 0..world::SHARDS {
        let expected: Vec<Stored> =
            world.placed_on(plain, index).into_iter().filter(visible).collect();
        let source = if index == shard { after } else { &world.at_rest[index] };
        let got: Vec<Stored> = source.iter().filter(|r| visible(r)).cloned().collect();
        if expected != got {
            return Err(difference(index, &expected, &got));
        }
    }
    let hidden =
        |rows: &[Stored]| -> Vec<Stored> { rows.iter().filter(|r| !visible(r)).cloned().collect() };
    let (had, has) = (hidden(&world.at_rest[shard]), hidden(after));
    if had == has { Ok(()) } else { Err(difference(shard, &had, &has)) }
}

fn difference(shard: usize, expected: &[Stored], got: &[Stored]) -> String {
    let missing: Vec<String> =
        expected.iter().filter(|r| !got.contains(r)).take(5).map(world::describe).collect();
    let more: Vec<String> =
        got.iter().filter(|r| !expected.contains(r)).take(5).map(world::describe).collect();
    format!("on shard {shard}: missing {missing:?}, too many {more:?}")
}

/// The rows of the first that are not in the second, as often as they are not.
fn without(rows: &[Row], others: &[Row]) -> Vec<Row> {
    let mut others = others.to_vec();
    let mut left = rows.to_vec();
    left.retain(|row| match others.iter().position(|other| other == row) {
        Some(at) => {
            others.swap_remove(at);
            false
        }
        None => true,
    });
    left
}

fn shown(rows: &[Row]) -> String {
    let cell = |cell: &Option<Vec<u8>>| match cell {
        None => "NULL".to_owned(),
        Some(bytes) => bytes.escape_ascii().to_string(),
    };
    let rows: Vec<String> = rows
        .iter()
        .take(12)
        .map(|row| format!("({})", row.iter().map(cell).collect::<Vec<_>>().join(", ")))
        .collect();
    rows.join(" ")
}

fn plan(world: &World, sql: &str, bound: &[Bound], mode: Mode) -> Result<Plan, SqlError> {
    let mut found = Scan::default();
    scan(sql.as_bytes(), world.standard_strings, &Limits::default(), &mut found)?;
    let statement = found.statements.first().expect("a statement").clone();
    let text = &sql[statement.span.start as usize..statement.span.end as usize];
    let literals = found.literals_of(&statement);
    let names = Names { search_path: &world.search_path, user: "bot" };
    let class = classify(text, world.standard_strings);
    let cached = match mode {
        Mode::Cached => true,
        Mode::SessionKey(_) => sql.len().is_multiple_of(2),
        Mode::Plain | Mode::SessionShard(_) => false,
    };
    let twin = if cached { twin(sql, &found, world.standard_strings) } else { None };
    let analysed = match (&class, &twin) {
        (Class::Query, Some((text, scan))) => {
            let twin = scan.statements.first().expect("a statement");
            let text = &text[twin.span.start as usize..twin.span.end as usize];
            analyze::analyze(text, scan.literals_of(twin), &world.catalog, &names)
        }
        (Class::Query, None) => analyze::analyze(text, literals, &world.catalog, &names),
        _ => analyze::utility(text, &class, &world.catalog, &names),
    };
    let template = Template::compile(&analysed, &class, &world.map);
    let params: Vec<Param<'_>> = bound
        .iter()
        .map(|b| Param { oid: b.described, format: b.format, value: b.bytes.as_deref() })
        .collect();
    let mut scope = Scope::default();
    match mode {
        Mode::Plain | Mode::Cached => {}
        Mode::SessionKey(at) => {
            let key = scope::resolve_key(&world.map, &INTS[at].to_string())?;
            scope.session_key = Some(scope::scope_key(key));
        }
        Mode::SessionShard(shard) => scope.session_shard = Some(ShardId(shard as u16)),
    }
    let inputs = Inputs {
        text,
        literals,
        params: &params,
        utf8: true,
        standard_strings: world.standard_strings,
    };
    template.plan(&world.map, &inputs, &scope)
}

/// Another statement of the same shape: other numbers and strings, of other lengths.
fn twin(sql: &str, found: &Scan, standard_strings: bool) -> Option<(String, Scan)> {
    let statement = found.statements.first()?;
    let start = statement.span.start;
    let mut text = String::new();
    let mut done = 0;
    for (index, literal) in found.literals_of(statement).iter().enumerate() {
        let (from, to) =
            ((start + literal.span.start) as usize, (start + literal.span.end) as usize);
        text.push_str(&sql[done..from]);
        match literal.kind {
            LiteralKind::Integer => text.push_str(["7", "12345", "2"][index % 3]),
            LiteralKind::Decimal => text.push_str("12.75"),
            LiteralKind::String => text.push_str(["'3'", "'something longer'", "''"][index % 3]),
            LiteralKind::EscapeString => text.push_str("E'a\\nb'"),
            LiteralKind::DollarString | LiteralKind::Other => text.push_str(&sql[from..to]),
        }
        done = to;
    }
    text.push_str(&sql[done..]);
    let text = text.replace(" WHERE ", "\n  WHERE /* AND */ ").replace(" FROM ", "   FROM ");
    let mut other = Scan::default();
    scan(text.as_bytes(), standard_strings, &Limits::default(), &mut other).ok()?;
    let same = other.shape_of(other.statements.first()?) == found.shape_of(statement);
    same.then_some((text, other))
}

fn type_of(oid: u32) -> Type {
    if oid == 0 { unspecified() } else { Type::from_oid(oid).unwrap_or(Type::UNKNOWN) }
}

fn unspecified() -> Type {
    Type::new("unspecified".to_owned(), 0, tokio_postgres::types::Kind::Simple, String::new())
}

/// Runs it in a transaction that is rolled back; the contents after it, if they are wanted.
async fn in_transaction(
    client: &Client,
    sql: &str,
    bound: &[Bound],
    before: &str,
    dump: bool,
) -> (Answer, Option<Vec<Stored>>) {
    if client.batch_execute(&format!("BEGIN; {before}")).await.is_err() {
        return (Answer::Error("57014".to_owned(), "no transaction".to_owned()), None);
    }
    let answer = run(client, sql, bound).await;
    let after = match &answer {
        Answer::Rows(_) if dump => Some(world::dump(client).await),
        _ => None,
    };
    if client.batch_execute("ROLLBACK").await.is_err() {
        return (Answer::Error("57014".to_owned(), "no rollback".to_owned()), None);
    }
    (answer, after)
}

async fn run(client: &Client, sql: &str, bound: &[Bound]) -> Answer {
    let result = if bound.is_empty() {
        simple(client, sql).await
    } else {
        extended(client, sql, bound).await
    };
    match result {
        Ok(rows) => Answer::Rows(rows),
        Err(error) => {
            let (code, message) = code(&error);
            Answer::Error(code, message)
        }
    }
}

async fn simple(client: &Client, sql: &str) -> Result<Vec<Row>, tokio_postgres::Error> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql).await? {
        match message {
            SimpleQueryMessage::Row(row) => rows.push(
                (0..row.len()).map(|i| row.get(i).map(|text| text.as_bytes().to_vec())).collect(),
            ),
            SimpleQueryMessage::CommandComplete(count) => {
                rows.push(vec![Some(b"count".to_vec()), Some(count.to_string().into_bytes())]);
            }
            _ => {}
        }
    }
    // The number of rows is the sum of the shards'; only writes say more than the rows do.
    if sql_reads(sql) {
        rows.retain(|row: &Row| row.first() != Some(&Some(b"count".to_vec())));
    }
    Ok(rows)
}

fn sql_reads(sql: &str) -> bool {
    let sql = sql.to_ascii_uppercase();
    ["SELECT", "VALUES", "(", "WITH"].iter().any(|word| sql.starts_with(word))
}

async fn extended(
    client: &Client,
    sql: &str,
    bound: &[Bound],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let types: Vec<Type> = bound.iter().map(|b| type_of(b.oid)).collect();
    let prepared = client.prepare_typed(sql, &types).await?;
    let params: Vec<&(dyn ToSql + Sync)> = bound.iter().map(|b| b as &(dyn ToSql + Sync)).collect();
    let rows = client.query(&prepared, &params).await?;
    Ok(rows
        .iter()
        .map(|row| {
            (0..row.len())
                .map(|i| row.try_get::<_, Option<Raw>>(i).expect("raw bytes").map(|raw| raw.0))
                .collect()
        })
        .collect())
}

fn code(error: &tokio_postgres::Error) -> (String, String) {
    match error.as_db_error() {
        Some(said) => (said.code().code().to_owned(), said.message().to_owned()),
        None => ("?".to_owned(), format!("{error:?}")),
    }
}

/// A parameter in the type that PostgreSQL found for it.
fn bind(parameter: &Parameter, ty: &Type) -> Bound {
    let (oid, found) = (parameter.oid, ty.oid());
    let text = text_of(&parameter.value);
    let binary = match (&parameter.value, ty.oid()) {
        _ if !parameter.binary => None,
        (Value::Null, _) => None,
        (value, oid) => binary_of(value, oid),
    };
    match (binary, text) {
        (_, None) => Bound { oid, described: oid, found, format: Format::Text, bytes: None },
        (Some(bytes), _) => {
            Bound { oid, described: oid, found, format: Format::Binary, bytes: Some(bytes) }
        }
        (None, Some(text)) => Bound {
            oid,
            described: oid,
            found,
            format: Format::Text,
            bytes: Some(text.into_bytes()),
        },
    }
}

fn text_of(value: &Value) -> Option<String> {
    let array = |elements: Vec<Option<String>>| {
        let elements: Vec<String> = elements
            .into_iter()
            .map(|e| match e {
                None => "NULL".to_owned(),
                Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            })
            .collect();
        format!("{{{}}}", elements.join(","))
    };
    match value {
        Value::Null => None,
        Value::Int(n) => Some(n.to_string()),
        Value::Text(text) => Some(text.clone()),
        Value::Ints(list) => Some(array(list.iter().map(|n| n.map(|n| n.to_string())).collect())),
        Value::Texts(list) => Some(array(list.clone())),
    }
}

fn binary_of(value: &Value, oid: u32) -> Option<Vec<u8>> {
    match (value, oid) {
        (Value::Int(n), _) => integer(*n, oid),
        (Value::Text(text), 25 | 1043 | 1042 | 19) => Some(text.clone().into_bytes()),
        (Value::Text(text), 2950) => uuid(text),
        (Value::Ints(list), 1016 | 1007 | 1005) => {
            let element = match oid {
                1016 => 20,
                1007 => 23,
                _ => 21,
            };
            array(element, list.iter().map(|n| n.map(|n| integer(n, element))).collect())
        }
        (Value::Texts(list), 1009 | 1015) => {
            let element = if oid == 1009 { 25 } else { 1043 };
            let texts = list.iter().map(|t| t.clone().map(|t| Some(t.into_bytes()))).collect();
            array(element, texts)
        }
        (Value::Texts(list), 2951) => {
            array(2950, list.iter().map(|t| t.as_ref().map(|t| uuid(t))).collect())
        }
        _ => None,
    }
}

fn array(element: u32, list: Vec<Option<Option<Vec<u8>>>>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let nulls = i32::from(list.iter().any(Option::is_none));
    for word in [1, nulls, element as i32, list.len() as i32, 1] {
        bytes.extend(word.to_be_bytes());
    }
    for item in list {
        match item {
            None => bytes.extend((-1i32).to_be_bytes()),
            Some(item) => {
                let item = item?;
                bytes.extend((item.len() as i32).to_be_bytes());
                bytes.extend(item);
            }
        }
    }
    Some(bytes)
}

fn integer(n: i64, oid: u32) -> Option<Vec<u8>> {
    Some(match oid {
        20 => n.to_be_bytes().to_vec(),
        23 => i32::try_from(n).ok()?.to_be_bytes().to_vec(),
        21 => i16::try_from(n).ok()?.to_be_bytes().to_vec(),
        26 => u32::try_from(n).ok()?.to_be_bytes().to_vec(),
        701 => (n as f64).to_be_bytes().to_vec(),
        1700 => {
            let mut bytes = Vec::new();
            let digits: i16 = i16::from(n != 0);
            let sign: u16 = if n < 0 { 0x4000 } else { 0 };
            bytes.extend(digits.to_be_bytes());
            bytes.extend(0i16.to_be_bytes());
            bytes.extend(sign.to_be_bytes());
            bytes.extend(0i16.to_be_bytes());
            if n != 0 {
                bytes.extend(i16::try_from(n.abs()).ok()?.to_be_bytes());
            }
            bytes
        }
        25 | 1043 | 1042 | 705 => n.to_string().into_bytes(),
        _ => return None,
    })
}

fn uuid(text: &str) -> Option<Vec<u8>> {
    match KeyValue::from_text(KeyType::Uuid, text).ok()? {
        KeyValue::Uuid(bytes) => Some(bytes.to_vec()),
        KeyValue::Int(_) | KeyValue::Text(_) => None,
    }
}

/// The same verdict, for shrinking: faults of one kind.
pub(crate) fn same_fault(a: &'static str, verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Fail(kind, _) if *kind == a)
}

pub(crate) type Shared = Arc<std::sync::Mutex<crate::Tally>>;
