//! The same statements on one plain PostgreSQL and through the proxy over three shards that hold the same
//! rows, compared exactly: values, names, type OIDs, modifiers, order where ORDER BY says it, tags, errors;
//! in the simple and the extended protocol, in text and binary.
//!
//! The statements are in `tests/differential/*.sql`, by topic, separated by blank lines. Lines before a
//! statement say more of it:
//!
//! ```text
//! -- param: 3          a parameter, as text; then only the extended protocol is used
//! -- ties              ORDER BY does not determine the order: rows are compared as a bag
//! -- float             sums whose last digits depend on the order of addition
//! -- text              text results only (binary ones hold OIDs of user-defined types)
//! -- once             in the simple protocol only; `once, in binary`: in the extended one only
//! -- refused: message  the proxy refuses it (0A000) in these words
//! ```
//!
//! What is refused is marked, so that a change is seen. `UPDATE_EXPECT=1` writes the marks anew: read the
//! difference before you believe it. `TOPIC=joins` runs one file, `ONLY=text` the statements with that text,
//! `SHARDS=5` all of them over so many shards (one to five); `DIFFERENTIAL_SECONDS=60` asks for so long while maps
//! change and shards restart (three seconds).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]
#![allow(clippy::print_stdout, reason = "figures are shown where they are asked for")]

mod answer;
mod statements;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use answer::{Mode, compare, short};
use statements::Statement;
use world::World;

/// What came of one statement in all modes.
enum Outcome {
    Same,
    Refused(String),
    Different(String),
}

fn check(world: &mut World, statement: &Statement) -> Outcome {
    let mut refused = None;
    for mode in Mode::ALL {
        if mode == Mode::Simple && !statement.params.is_empty()
            || mode == Mode::Binary && statement.text_only
            || statement.only.is_some_and(|only| only != mode)
        {
            continue;
        }
        let plain = world.plain.ask(mode, &statement.sql, &statement.params);
        let proxied = world.proxied.ask(mode, &statement.sql, &statement.params);
        let expected = plain.error.as_ref().map(|error| error.code.as_str());
        if let Some(error) = &proxied.error
            && error.code == "0A000"
            && expected != Some("0A000")
        {
            refused = Some(error.message.clone());
            continue;
        }
        if let Err(why) = compare(&plain, &proxied, statement) {
            return Outcome::Different(format!(
                "{mode:?}: {why}\n  PostgreSQL: {}\n  pgmeridian: {}",
                short(&plain),
                short(&proxied)
            ));
        }
    }
    refused.map_or(Outcome::Same, Outcome::Refused)
}

#[test]
fn statements_answer_as_on_one_server() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut world = runtime.block_on(World::start());
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let only = std::env::var("ONLY").unwrap_or_default();
    let (mut faults, mut asked, mut refusals) = (String::new(), 0, 0);
    for mut file in statements::files() {
        for statement in &mut file.statements {
            // What is refused is marked for three shards; on one of them it means that shard.
            let elsewhere = world::shards().len() != 3 && statement.refused.is_some();
            if !statement.sql.contains(&only) || elsewhere {
                continue;
            }
            asked += 1;
            let outcome = check(&mut world, statement);
            let refused = match outcome {
                Outcome::Same => None,
                Outcome::Refused(message) => Some(message),
                Outcome::Different(why) => {
                    let _ = writeln!(
                        faults,
                        "{}:{} {}\n{why}\n",
                        file.name, statement.line, statement.sql
                    );
                    continue;
                }
            };
            refusals += usize::from(refused.is_some());
            if refused == statement.refused {
                continue;
            }
            if update {
                statement.refused = refused;
            } else {
                let _ = writeln!(
                    faults,
                    "{}:{} {}\n  refused: {refused:?}, where the file says {:?}\n",
                    file.name, statement.line, statement.sql, statement.refused
                );
            }
        }
        if update {
            file.write();
        }
    }
    println!("{asked} statements, {refusals} refused");
    assert!(faults.is_empty(), "\n{faults}");
}

/// Keys that are frozen, and whose rows are on every shard meanwhile.
const FROZEN: [(&str, &str, &str); 6] = [
    ("tenant", "3", "tenant_id"),
    ("tenant", "4", "tenant_id"),
    ("device", "7", "device_id"),
    ("owner", "bob", "owner"),
    ("account", "12", "account_id"),
    ("file", "74ce2e1a-498f-2fa2-7b55-42040be774dc", "file_id"),
];

/// While keys move their rows are on several shards, and no answer has them twice.
#[test]
fn what_is_there_twice_is_read_once() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut world = runtime.block_on(World::start_moving(&FROZEN, |_| {}));
    let only = std::env::var("ONLY").unwrap_or_default();
    let (mut faults, mut right, mut refused) = (String::new(), 0, 0);
    // Statements that stand on one another are not asked here.
    let files = statements::files().into_iter().filter(|file| file.name != "staged");
    let all: Vec<Statement> = files.flat_map(|file| file.statements).collect();
    for (statement, mode) in all.iter().zip(Mode::ALL.into_iter().cycle()) {
        let mode = match mode {
            _ if statement.only.is_some() => statement.only.unwrap_or(mode),
            Mode::Simple if !statement.params.is_empty() => Mode::Text,
            Mode::Binary if statement.text_only => Mode::Text,
            mode => mode,
        };
        if !statement.sql.contains(&only) {
            continue;
        }
        let proxied = world.proxied.ask(mode, &statement.sql, &statement.params);
        let code = proxied.error.as_ref().map_or("", |error| error.code.as_str());
        if matches!(code, "0A000" | "25006" | "40001") {
            refused += 1;
            // A user's function may write rows of the key; a whole row has the type of one place.
            let known = statement.refused.is_some() || code == "25006" || code == "0A000";
            if !known {
                let _ = writeln!(faults, "{} {mode:?}: {code}", statement.sql);
            }
            continue;
        }
        let mut plain = world.plain.ask(mode, &statement.sql, &statement.params);
        right += 1;
        if let (Some(error), Some(expected)) = (&proxied.error, &mut plain.error)
            && error.position.is_empty()
        {
            // It counts in a text that the client does not know.
            expected.position.clear();
        }
        if let Err(why) = compare(&plain, &proxied, statement) {
            let (expected, got) = (short(&plain), short(&proxied));
            let _ = writeln!(
                faults,
                "{} {mode:?}: {why}\n  PostgreSQL: {expected}\n  pgmeridian: {got}",
                statement.sql
            );
        }
    }
    println!("{right} right answers, {refused} refused");
    assert!(right > 1_000 || !only.is_empty(), "{right} right answers, {refused} refused");
    assert!(faults.is_empty(), "\n{faults}");
}

/// Past `limits.merge_memory_max` a statement is refused by name; what was begun for it is gone.
#[test]
fn a_limit_is_named_and_nothing_is_left() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut world = runtime.block_on(World::start_with(|config| {
        config.limits.merge_memory_max = 8 * 1024;
        config.pool.size = 2;
        config.pool.reserve = 0;
    }));
    let wide = "SELECT a.name, b.doc FROM users a JOIN users b ON a.score = b.score";
    let left = "SELECT count(*)::text FROM pg_catalog.pg_class WHERE relname LIKE 'pgmeridian%'";
    for mode in Mode::ALL {
        for _ in 0..3 {
            let answer = world.proxied.ask(mode, wide, &[]);
            let error = answer.error.unwrap();
            assert_eq!(error.code, "53400", "{}", error.message);
            // The connections work, and so does the session.
            let narrow = Statement::plain("SELECT count(*), sum(score) FROM users".to_owned());
            assert!(matches!(check(&mut world, &narrow), Outcome::Same));
            let fault =
                Statement::plain("SELECT 1 / count(*) FROM users, plans WHERE false".to_owned());
            assert!(matches!(check(&mut world, &fault), Outcome::Same));
            for server in [&mut world.proxied, &mut world.plain] {
                let answer = server.ask(Mode::Simple, left, &[]);
                assert_eq!(short(&answer), "SELECT 1 [0]");
            }
        }
    }
}

/// What a client may be told while a shard is away, or the map changes under its statement.
fn is_of_change(code: &str) -> bool {
    let classes = ["08", "57P", "53300", "40001", "55000"];
    classes.iter().any(|class| code.starts_with(class))
}

/// While the map changes and shards restart, an answer is right, or an error that says why.
#[test]
fn beside_changes_an_answer_is_right_or_an_error() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut world = runtime.block_on(World::start());
    let seconds = std::env::var("DIFFERENTIAL_SECONDS").map_or(3, |s| s.parse().unwrap());
    let operator = Arc::clone(&world.operator);
    let changes = runtime.spawn(async move {
        for round in 0_usize.. {
            operator.swap_map(round.is_multiple_of(2)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if round.is_multiple_of(4) {
                let shards = world::shards();
                operator.restart(shards[round / 4 % shards.len()]).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    // Statements that stand on one another are not asked here.
    let files = statements::files().into_iter().filter(|file| file.name != "staged");
    let all: Vec<Statement> = files.flat_map(|file| file.statements).collect();
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let (mut faults, mut right, mut errors) = (String::new(), 0, 0);
    for (statement, mode) in all.iter().zip(Mode::ALL.into_iter().cycle()).cycle() {
        if Instant::now() > deadline || !faults.is_empty() {
            break;
        }
        if mode == Mode::Simple && !statement.params.is_empty()
            || mode == Mode::Binary && statement.text_only
        {
            continue;
        }
        let proxied = world.proxied.ask(mode, &statement.sql, &statement.params);
        let code = proxied.error.as_ref().map_or("", |error| error.code.as_str());
        if is_of_change(code) || proxied.is_lost() {
            errors += 1;
            if proxied.is_lost() || code.starts_with("57P") {
                world.connect_again();
            }
            continue;
        }
        if code == "0A000" {
            continue;
        }
        let plain = world.plain.ask(mode, &statement.sql, &statement.params);
        right += 1;
        if let Err(why) = compare(&plain, &proxied, statement) {
            let (expected, got) = (short(&plain), short(&proxied));
            let _ = writeln!(
                faults,
                "{} {mode:?}: {why}\n  PostgreSQL: {expected}\n  pgmeridian: {got}",
                statement.sql
            );
        }
    }
    assert!(!changes.is_finished(), "{:?}", runtime.block_on(changes));
    changes.abort();
    println!("{right} right answers, {errors} errors");
    assert!(faults.is_empty(), "\n{faults}");
    assert!(right > 50, "{right} right answers, {errors} errors");
}
