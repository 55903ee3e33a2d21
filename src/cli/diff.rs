//! `pgmeridian diff`: what changes between two maps, without a server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::route::{self, Question};
use super::{FOUND, WRONG, load_map};
use crate::catalog::Catalog;
use crate::error::SqlError;
use crate::map::{MapDiff, ShardMap};
use crate::plan::{Explained, Scope};
use crate::sql::lexer::{self, Limits, Scan};

/// As much of a statement as is shown in a line.
const SHOWN_CHARACTERS: usize = 120;

#[derive(clap::Args)]
pub(super) struct Diff {
    /// The map that is used now.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The map that is to be used.
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// A file of CREATE statements: then tables are named, too.
    #[arg(long, value_name = "FILE.sql")]
    schema: Option<PathBuf>,
    /// A file of statements: those whose route changes are listed.
    #[arg(long, value_name = "FILE.sql")]
    statements: Option<PathBuf>,
    /// How to print the difference.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// A statement whose route changes.
struct Rerouted {
    sql: String,
    old: String,
    new: String,
}

pub(super) fn run(words: &Diff) -> ExitCode {
    let (old, new) = match (load_map(&words.old), load_map(&words.new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    match compare(words, &old, &new) {
        Ok((diff, rerouted)) => {
            match words.format {
                Format::Text => print_text(&diff, &rerouted),
                Format::Json => print_json(&diff, &rerouted),
            }
            ExitCode::from(if diff.is_empty() && rerouted.is_empty() { 0 } else { FOUND })
        }
        Err(error) => {
            route::complain(&error);
            ExitCode::from(WRONG)
        }
    }
}

fn compare(
    words: &Diff,
    old: &ShardMap,
    new: &ShardMap,
) -> Result<(MapDiff, Vec<Rerouted>), SqlError> {
    let catalog = route::catalog(words.schema.as_deref())?;
    let known = words.schema.is_some().then_some(&catalog);
    let diff = MapDiff::of(old, new, known);
    let rerouted = match &words.statements {
        Some(path) => reroute(path, old, new, &catalog)?,
        None => Vec::new(),
    };
    Ok((diff, rerouted))
}

/// The statements of a file that go elsewhere with the new map.
fn reroute(
    path: &Path,
    old: &ShardMap,
    new: &ShardMap,
    catalog: &Catalog,
) -> Result<Vec<Rerouted>, SqlError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| route::usage(format!("{}: {error}", path.display())))?;
    let mut scan = Scan::default();
    let limits = Limits { ..Limits::default() };
    lexer::scan(text.as_bytes(), true, &limits, &mut scan)?;
    let search_path = ["$user".to_owned(), "public".to_owned()];
    let mut rerouted = Vec::new();
    for scanned in &scan.statements {
        let question = Question { sql: &text, scan: &scan, scanned, search_path: &search_path };
        let route = |map: &ShardMap| match question.explain(map, catalog, Scope::default(), &[]) {
            Ok(explained) => said(&explained),
            Err(error) => format!("refused: {}", error.message),
        };
        let (was, becomes) = (route(old), route(new));
        if was != becomes {
            rerouted.push(Rerouted { sql: question.text().to_owned(), old: was, new: becomes });
        }
    }
    Ok(rerouted)
}

/// Kind and shards; why, where it is refused.
fn said(explained: &Explained) -> String {
    let word = |name: &str| explained.json.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = word("kind");
    if kind == "refused" {
        return format!("refused: {}", word("reason"));
    }
    let shards = explained.json.get("shards").and_then(Value::as_array);
    let names: Vec<&str> = shards.into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() { kind.to_owned() } else { format!("{kind}: {}", names.join(", ")) }
}

fn print_text(diff: &MapDiff, rerouted: &[Rerouted]) {
    print!("{}", diff.text());
    for one in rerouted {
        let line: String = one.sql.split_whitespace().collect::<Vec<_>>().join(" ");
        let cut: String = line.chars().take(SHOWN_CHARACTERS).collect();
        let more = if cut.len() < line.len() { " …" } else { "" };
        println!("~ statement {cut}{more}\n    {} → {}", one.old, one.new);
    }
    if diff.is_empty() && rerouted.is_empty() {
        eprintln!("nothing changes");
    } else if diff.moves_rows() {
        eprintln!("rows have to be moved before the new map is used");
    }
}

fn print_json(diff: &MapDiff, rerouted: &[Rerouted]) {
    let mut all = diff.json();
    let statements: Vec<Value> = rerouted
        .iter()
        .map(|one| json!({"sql": one.sql, "old": one.old, "new": one.new}))
        .collect();
    if let Some(object) = all.as_object_mut() {
        object.insert("statements".to_owned(), statements.into());
    }
    println!("{all}");
}
