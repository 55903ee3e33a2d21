//! `pgmeridian check`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::say::{remark, say};
use super::{FOUND, blocking, print_faults, read_text};
use crate::map::{Outside, ShardMap};
use crate::mapstore::control::{Source, SourceError};
use crate::mapstore::{Files, live};

#[derive(clap::Args)]
pub(super) struct Check {
    /// The map file.
    #[arg(value_name = "MAP")]
    map: PathBuf,
    /// Also ask the shards, and the control database if there is one: reachable, same schema, keys, unique
    /// indexes, sequences, versions, collations.
    #[arg(long)]
    live: bool,
}

pub(super) fn run(words: &Check) -> ExitCode {
    if words.live {
        return blocking(check_live(&words.map));
    }
    let text = match read_text(&words.map) {
        Ok(text) => text,
        Err(code) => return code,
    };
    let name = words.map.display().to_string();
    let files = Files::beside(&words.map);
    let env = |name: &str| std::env::var(name).ok();
    let outside = Outside { env: &env, geoip: Some(&|name: &str| files.geoip(name)) };
    match ShardMap::check(&name, &text, outside) {
        Ok((map, warnings)) => {
            print_faults(warnings.iter());
            match map {
                Some(map) => print_map(&words.map, &map),
                None => say!(
                    "{name}: ok as far as the file goes; its shards are in the control database, which --live asks"
                ),
            }
            ExitCode::SUCCESS
        }
        Err(faults) => {
            print_faults(faults.iter());
            ExitCode::from(FOUND)
        }
    }
}

fn print_map(path: &Path, map: &ShardMap) {
    let keys: Vec<String> =
        map.keys().iter().map(|key| format!("{} ({})", key.name, key.strategy.name())).collect();
    say!(
        "{}: ok: database \"{}\", {} shard{}, default \"{}\", keys: {}",
        path.display(),
        map.database(),
        map.shards().len(),
        if map.shards().len() == 1 { "" } else { "s" },
        map.shard_name(map.default_shard()),
        if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
    );
}

async fn check_live(path: &Path) -> ExitCode {
    let (map, warnings) = match Source::without_cache(path).load().await {
        Ok(loaded) => loaded,
        Err(error @ SourceError::File { .. }) => return super::not_loaded(&error),
        Err(error) => {
            super::not_loaded(&error);
            return ExitCode::from(FOUND);
        }
    };
    print_faults(warnings.iter());
    let findings = live::check(&map).await;
    for finding in &findings {
        say!("{finding}");
    }
    let faults = findings.iter().filter(|finding| finding.fault).count();
    if faults > 0 {
        remark!("{}: {faults} faults on the shards", path.display());
        return ExitCode::from(FOUND);
    }
    print_map(path, &map);
    ExitCode::SUCCESS
}
