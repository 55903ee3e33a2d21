//! `pgmeridian check`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{FOUND, load_map};

#[derive(clap::Args)]
pub(super) struct Check {
    /// The map file.
    #[arg(value_name = "MAP")]
    map: PathBuf,
}

pub(super) fn run(words: &Check) -> ExitCode {
    let map = match load_map(&words.map) {
        Ok(map) => map,
        // Looking for faults and finding some is what it is for; a file that isn't there is wrong usage.
        Err(_) if words.map.is_file() => return ExitCode::from(FOUND),
        Err(code) => return code,
    };
    let keys: Vec<String> =
        map.keys().iter().map(|key| format!("{} ({})", key.name, key.strategy.name())).collect();
    println!(
        "{}: ok: database \"{}\", {} shards, default \"{}\", keys: {}",
        words.map.display(),
        map.database(),
        map.shards().len(),
        map.shard_name(map.default_shard()),
        if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
    );
    ExitCode::SUCCESS
}
