//! The language of the scripts: what a client says, line by line.
//!
//! `=== title` begins a script. A line that begins with blanks continues the one before. `{x*3}` stands
//! for `xxx`, `{cols*3}` for `1 AS c1, 2 AS c2, 3 AS c3`. `-` is the unnamed statement or portal.
//!
//! | line | meaning |
//! |---|---|
//! | `map three` | runs on three shards; what is expected stands behind `expect` |
//! | `quiet` | no other clients run in between |
//! | `startup name=value` | a parameter of the start-up packet, for all of its clients |
//! | `client b` | goes on as client `b` (the first is `a`) |
//! | `Query SQL` … | messages, as PostgreSQL names them; see [`message`] |
//! | `read` | sends, and reads until every Query and Sync has its `ReadyForQuery` |
//! | `await T` | sends, and reads until this message (or an error) comes |
//! | `forget` | no `ReadyForQuery` is expected any more (COPY swallows Sync) |
//! | `send` | sends, reads nothing |
//! | `cancel` | asks for the cancellation of what the client does |
//! | `sleep 100` | milliseconds |
//! | `expect` | the lines after it are the answers |

use crate::support::raw::frame;

/// One script.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) file: String,
    pub(crate) title: String,
    pub(crate) three: bool,
    pub(crate) quiet: bool,
    pub(crate) startup: Vec<(String, String)>,
    pub(crate) steps: Vec<Step>,
    /// What must come; `None`: the same as from PostgreSQL itself.
    pub(crate) expect: Option<Vec<String>>,
}

/// One line of it.
#[derive(Debug)]
pub(crate) enum Step {
    Client(String),
    Say { bytes: Vec<u8>, boundary: bool },
    Read,
    Await(u8),
    Forget,
    Send,
    Cancel,
    Sleep(u64),
}

/// All scripts of a file.
pub(crate) fn parse(file: &str, text: &str) -> Vec<Script> {
    let mut scripts: Vec<Script> = Vec::new();
    for line in logical_lines(text) {
        if let Some(title) = line.strip_prefix("=== ") {
            scripts.push(Script {
                file: file.to_owned(),
                title: title.to_owned(),
                three: false,
                quiet: false,
                startup: Vec::new(),
                steps: Vec::new(),
                expect: None,
            });
            continue;
        }
        let script = scripts.last_mut().unwrap_or_else(|| panic!("{file}: {line}: no title yet"));
        if let Some(expect) = &mut script.expect {
            expect.push(line);
            continue;
        }
        match line.as_str() {
            "map three" => script.three = true,
            "quiet" => script.quiet = true,
            "expect" => script.expect = Some(Vec::new()),
            line if line.starts_with("startup ") => {
                let (name, value) = line["startup ".len()..].split_once('=').unwrap();
                script.startup.push((name.to_owned(), value.to_owned()));
            }
            line => script.steps.push(step(file, line)),
        }
    }
    scripts
}

/// Lines without comments and blanks, continued ones joined.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        match (line.strip_prefix("  "), lines.last_mut()) {
            (Some(more), Some(last)) => {
                last.push('\n');
                last.push_str(more);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

fn step(file: &str, line: &str) -> Step {
    let (word, rest) = line.split_once([' ', '\n']).unwrap_or((line, ""));
    match word {
        "client" => Step::Client(rest.to_owned()),
        "read" => Step::Read,
        "await" => Step::Await(rest.as_bytes()[0]),
        "forget" => Step::Forget,
        "send" => Step::Send,
        "cancel" => Step::Cancel,
        "sleep" => Step::Sleep(rest.parse().unwrap()),
        _ => {
            let bytes = message(word, &expand(rest));
            let bytes = bytes.unwrap_or_else(|| panic!("{file}: what is \"{line}\"?"));
            // A frame of a Query that can't be read is answered as a Query is.
            let framed = line.starts_with("Frame F ") || line.starts_with("Frame Q ");
            let boundary = matches!(word, "Query" | "Sync") || framed;
            Step::Say { bytes, boundary }
        }
    }
}

/// A message from its words:
///
/// `Query SQL` · `Parse name [oid,oid] SQL` · `Bind portal statement 'text' null \x00ff | f=0,1 r=1` (values
/// without quotes are text too; `f` are the parameters' formats, `r` the results') · `Describe S name` ·
/// `Describe P name` · `Execute portal [rows]` · `Close S name` · `Close P name` · `Flush` · `Sync` ·
/// `CopyData text\n` · `CopyDone` · `CopyFail reason` · `Terminate` · `Frame tag hex`
fn message(word: &str, rest: &str) -> Option<Vec<u8>> {
    let own = |name: &str| if name == "-" { String::new() } else { name.to_owned() };
    let text = |text: &str| [text.as_bytes(), b"\0"].concat();
    let first = |rest: &str| match rest.split_once(' ') {
        Some((first, rest)) => (first.to_owned(), rest.to_owned()),
        None => (rest.to_owned(), String::new()),
    };
    Some(match word {
        "Query" => frame(b'Q', &text(rest)),
        "Parse" => {
            let (name, mut sql) = first(rest);
            let mut oids: Vec<u32> = Vec::new();
            if let Some((list, after)) = sql.strip_prefix('[').and_then(|s| s.split_once("] ")) {
                oids = list.split(',').map(|oid| oid.parse().unwrap()).collect();
                sql = after.to_owned();
            }
            let mut body = [text(&own(&name)), text(&sql)].concat();
            body.extend_from_slice(&(oids.len() as u16).to_be_bytes());
            for oid in oids {
                body.extend_from_slice(&oid.to_be_bytes());
            }
            frame(b'P', &body)
        }
        "Bind" => bind(rest),
        "Describe" | "Close" => {
            let (kind, name) = first(rest);
            let tag = if word == "Close" { b'C' } else { b'D' };
            frame(tag, &[kind.as_bytes(), &text(&own(&name))].concat())
        }
        "Execute" => {
            let (portal, rows) = first(rest);
            let rows: i32 = if rows.is_empty() { 0 } else { rows.parse().unwrap() };
            frame(b'E', &[&text(&own(&portal)), &rows.to_be_bytes()[..]].concat())
        }
        "Flush" => frame(b'H', b""),
        "Sync" => frame(b'S', b""),
        "CopyData" => frame(b'd', rest.replace("\\t", "\t").replace("\\n", "\n").as_bytes()),
        "CopyDone" => frame(b'c', b""),
        "CopyFail" => frame(b'f', &text(rest)),
        "Terminate" => frame(b'X', b""),
        "Frame" => {
            let (tag, body) = first(rest);
            frame(tag.as_bytes()[0], &unhex(&body))
        }
        _ => return None,
    })
}

fn bind(rest: &str) -> Vec<u8> {
    let (words, options) = rest.split_once(" | ").unwrap_or((rest, ""));
    let mut words = words.split(' ');
    let mut body = Vec::new();
    for _ in 0..2 {
        let name = words.next().unwrap();
        body.extend_from_slice(if name == "-" { "" } else { name }.as_bytes());
        body.push(0);
    }
    let formats = |letter: &str| -> Vec<u16> {
        let option = options.split(' ').find_map(|o| o.strip_prefix(letter)?.strip_prefix('='));
        option.map_or(Vec::new(), |list| list.split(',').map(|f| f.parse().unwrap()).collect())
    };
    let put = |body: &mut Vec<u8>, formats: &[u16]| {
        body.extend_from_slice(&(formats.len() as u16).to_be_bytes());
        for format in formats {
            body.extend_from_slice(&format.to_be_bytes());
        }
    };
    put(&mut body, &formats("f"));
    let values: Vec<Option<Vec<u8>>> = words
        .map(|word| match word {
            "null" => None,
            word => Some(match word.strip_prefix("\\x") {
                Some(hex) => unhex(hex),
                None => word.trim_matches('\'').as_bytes().to_vec(),
            }),
        })
        .collect();
    body.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for value in values {
        match value {
            None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(value) => {
                body.extend_from_slice(&(value.len() as u32).to_be_bytes());
                body.extend_from_slice(&value);
            }
        }
    }
    put(&mut body, &formats("r"));
    frame(b'B', &body)
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn expand(text: &str) -> String {
    let Some(start) = text.find('{') else { return text.to_owned() };
    let Some(end) = text[start..].find('}').map(|end| start + end) else { return text.to_owned() };
    let Some((what, count)) = text[start + 1..end].split_once('*') else { return text.to_owned() };
    let Ok(count) = count.parse::<usize>() else { return text.to_owned() };
    let long = if what == "cols" {
        let columns: Vec<String> = (1..=count).map(|n| format!("{n} AS c{n}")).collect();
        columns.join(", ")
    } else {
        what.repeat(count)
    };
    format!("{}{long}{}", &text[..start], expand(&text[end + 1..]))
}
