//! The layers of `src/lib.rs`'s table, kept: imports go down the table, never up, and the pure rooms
//! know no socket, no clock and no runtime.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms that lie side by side: neither imports the other.
const SIDE_BY_SIDE: &[&[&str]] =
    &[&["session", "plan", "merge"], &["catalog", "wire"], &["map", "wire"]];

/// What a room without IO does not say. (Addresses are values; sockets are not.)
const IMPURE: &[&str] = &[
    "tokio::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "ToSocketAddrs",
    "std::fs",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "tracing::",
];

/// Longer files are better split by concern; said, not enforced.
const LINES_ADVISED_MAX: usize = 800;

struct Room {
    name: String,
    io: bool,
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The table's rows, top first: ``//! | [`room`] | its one job | yes |``.
fn rooms() -> Vec<Room> {
    let text = fs::read_to_string(source().join("lib.rs")).unwrap();
    let rooms: Vec<Room> = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`"))
        .map(|row| {
            let (name, rest) = row.split_once('`').unwrap();
            let io = rest.trim_end().trim_end_matches('|').rsplit('|').next().unwrap().trim();
            Room { name: name.to_owned(), io: io != "no" }
        })
        .collect();
    assert!(rooms.len() > 10, "the table in src/lib.rs was not found");
    rooms
}

/// Every Rust file of a room.
fn files(room: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![source().join(room), source().join(format!("{room}.rs"))];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file's code with its comments blanked, line for line; without `tests` it ends where
/// `#[cfg(test)] mod tests` begins.
fn code_of(text: &str, tests: bool) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text.lines().peekable();
    while let Some(line) = rest.next() {
        let opens_tests = line.trim() == "#[cfg(test)]"
            && rest.peek().is_some_and(|next| next.trim_start().starts_with("mod tests"));
        if opens_tests && !tests {
            break;
        }
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

/// The line of a byte offset, from 1.
fn line_at(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The rooms named in paths, and where: what follows `crate::`, also in a group `crate::{a::X, b}`, which
/// may go over several lines.
fn imported(code: &str) -> Vec<(usize, &str)> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::` and `some_crate::` are other words.
        let before = code.get(..at).and_then(|head| head.chars().next_back());
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = code.get(at + "crate::".len()..).unwrap_or_default();
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_heads(group).into_iter().map(|name| (at, name))),
            None => names.push((at, word(rest))),
        }
    }
    names.retain(|(_, name)| !name.is_empty());
    names
}

/// The first word of each part of a `use` group, at its outermost level.
fn group_heads(group: &str) -> Vec<&str> {
    let mut heads = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.push(word(&group[start..at]));
                return heads;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(word(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    heads.push(word(&group[start..]));
    heads
}

fn word(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Whether `token` stands in `code` as a path of its own, not as the tail of another name.
fn says(code: &str, token: &str) -> bool {
    code.match_indices(token).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn every_room_is_in_the_table() {
    let rooms = rooms();
    let text = fs::read_to_string(source().join("lib.rs")).unwrap();
    for line in text.lines() {
        let Some(module) = line.strip_prefix("pub mod ").or(line.strip_prefix("mod ")) else {
            continue;
        };
        let module = word(module);
        assert!(
            rooms.iter().any(|room| room.name == module),
            "`{module}` is not in the table of src/lib.rs: give it a row, at its height"
        );
    }
}

#[test]
fn imports_go_down() {
    let rooms = rooms();
    let height = |name: &str| rooms.iter().position(|room| room.name == name);
    let mut faults = Vec::new();
    for (own, room) in rooms.iter().enumerate() {
        for file in files(&room.name) {
            let text = fs::read_to_string(&file).unwrap();
            let code = code_of(&text, true);
            for (at, name) in imported(&code) {
                let Some(other) = height(name) else { continue };
                let beside = SIDE_BY_SIDE.iter().any(|group| {
                    other != own && group.contains(&name) && group.contains(&&*room.name)
                });
                let what = if other < own { "climbs to" } else { "leans on its neighbour" };
                if other < own || beside {
                    let number = line_at(&code, at);
                    faults.push(format!("{}:{number}: {what} `{name}`", file.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn pure_rooms_are_pure() {
    let mut faults = Vec::new();
    for room in rooms().iter().filter(|room| !room.io) {
        for file in files(&room.name) {
            let text = fs::read_to_string(&file).unwrap();
            // Their tests may read case files.
            if file.file_stem().is_some_and(|stem| stem == "tests") {
                continue;
            }
            for (index, code) in code_of(&text, false).lines().enumerate() {
                for token in IMPURE.iter().filter(|token| says(code, token)) {
                    faults.push(format!("{}:{}: `{token}`", file.display(), index + 1));
                }
            }
        }
    }
    assert!(faults.is_empty(), "rooms without IO say:\n{}", faults.join("\n"));
}

#[test]
fn long_files_are_named() {
    for room in rooms() {
        for file in files(&room.name) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            if lines > LINES_ADVISED_MAX {
                eprintln!("{}: {lines} lines; split it by concern?", file.display());
            }
        }
    }
}

#[test]
fn this_test_reads_paths_rightly() {
    let check = |code: &str, expect: &[&str]| {
        let names: Vec<&str> = imported(code).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, expect, "{code}");
    };
    check("use crate::datum::Param;", &["datum"]);
    check("use crate::{datum::{Param, KeyValue}, map, sql::ir};", &["datum", "map", "sql"]);
    check("pub(crate) fn f(x: crate::error::SqlError)", &["error"]);
    check("use crate::{\n    app,\n    sql::ir,\n};", &["app", "sql"]);
    check("use my_crate::app;", &[]);
    assert!(says("use tokio::net;", "tokio::"));
    assert!(!says("use not_tokio::net;", "tokio::"));
}
