//! `pgmeridian diff`: what changes between two maps; with `--live`, which rows the new one would not find.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::route::{self, Question};
use super::say::{self, remark, say};
use super::{FOUND, Format, WRONG, load_map};
use crate::catalog::Catalog;
use crate::error::SqlError;
use crate::map::{MapDiff, ShardMap};
use crate::mapstore::control::Source;
use crate::mapstore::{self, Asked, Stranded};
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
    /// Also ask the shards of OLD which tables hold rows that NEW would not find; control databases are
    /// asked, too, and the schema is read.
    #[arg(long)]
    live: bool,
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

/// A statement whose route changes.
struct Rerouted {
    sql: String,
    old: String,
    new: String,
}

pub(super) fn run(words: &Diff) -> ExitCode {
    if words.live {
        return super::blocking(run_live(words));
    }
    match (load_map(&words.old), load_map(&words.new)) {
        (Ok(old), Ok(new)) => report(words, &old, &new, None, &[]),
        (Err(code), _) | (_, Err(code)) => code,
    }
}

/// With what the shards of the old map say.
async fn run_live(words: &Diff) -> ExitCode {
    let (old, new) = (Source::without_cache(&words.old), Source::without_cache(&words.new));
    let (old, new) = match (old.load().await, new.load().await) {
        (Ok((old, _)), Ok((new, _))) => (old, new),
        (Err(error), _) | (_, Err(error)) => return super::not_loaded(&error),
    };
    let Some(home) = old.shard(old.default_shard()) else { return ExitCode::from(WRONG) };
    let catalog = match mapstore::read_catalog(&home.url).await {
        Ok(catalog) => catalog,
        Err(error) => {
            remark!("error: shard {} can't be asked for the schema: {error}", home.name);
            return ExitCode::from(FOUND);
        }
    };
    match mapstore::stranded(&old, &new, &catalog, &Asked::default()).await {
        Ok(stranded) => report(words, &old, &new, Some(&catalog), &stranded),
        Err(error) => {
            remark!("error: {error}");
            ExitCode::from(FOUND)
        }
    }
}

fn report(
    words: &Diff,
    old: &ShardMap,
    new: &ShardMap,
    schema: Option<&Catalog>,
    stranded: &[Stranded],
) -> ExitCode {
    match compare(words, old, new, schema) {
        Ok((diff, rerouted)) => {
            match words.format {
                Format::Text => print_text(&diff, &rerouted, stranded, words.live),
                Format::Json => print_json(&diff, &rerouted, stranded),
            }
            let same = diff.is_empty() && rerouted.is_empty() && stranded.is_empty();
            ExitCode::from(if same { 0 } else { FOUND })
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
    schema: Option<&Catalog>,
) -> Result<(MapDiff, Vec<Rerouted>), SqlError> {
    let written = route::catalog(words.schema.as_deref())?;
    let known = schema.or_else(|| words.schema.is_some().then_some(&written));
    let catalog = known.unwrap_or(&written);
    let diff = MapDiff::of(old, new, known);
    let rerouted = match &words.statements {
        Some(path) => reroute(path, old, new, catalog)?,
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

fn print_text(diff: &MapDiff, rerouted: &[Rerouted], stranded: &[Stranded], is_live: bool) {
    say::to_stdout(format_args!("{}", diff.text()));
    for one in rerouted {
        let line: String = one.sql.split_whitespace().collect::<Vec<_>>().join(" ");
        let cut: String = line.chars().take(SHOWN_CHARACTERS).collect();
        let more = if cut.len() < line.len() { " …" } else { "" };
        say!("~ statement {cut}{more}\n    {} → {}", one.old, one.new);
    }
    for rows in stranded {
        say!("! {rows}");
    }
    if diff.is_empty() && rerouted.is_empty() {
        remark!("nothing changes");
    } else if is_live && stranded.is_empty() {
        remark!("the shards hold no rows that have to be moved");
    } else if diff.moves_rows() || !stranded.is_empty() {
        remark!("rows have to be moved before the new map is used");
    }
}

fn print_json(diff: &MapDiff, rerouted: &[Rerouted], stranded: &[Stranded]) {
    let mut all = diff.json();
    let statements: Vec<Value> = rerouted
        .iter()
        .map(|one| json!({"sql": one.sql, "old": one.old, "new": one.new}))
        .collect();
    if let Some(object) = all.as_object_mut() {
        object.insert("statements".to_owned(), statements.into());
        let stranded: Vec<Value> = stranded
            .iter()
            .map(|rows| {
                json!({
                    "table": rows.table,
                    "shard": rows.shard,
                    "rows": rows.rows,
                    "keys": rows.keys,
                    "keys_more": rows.keys_more,
                    "databases": rows.databases,
                    "to": rows.to,
                })
            })
            .collect();
        object.insert("stranded".to_owned(), stranded.into());
    }
    say!("{all}");
}
