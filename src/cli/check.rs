//! `pgmeridian check`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::load_map;

#[derive(clap::Args)]
pub(super) struct Check {
    /// The map file.
    #[arg(value_name = "MAP")]
    map: PathBuf,
}

pub(super) fn run(words: &Check) -> ExitCode {
    let map = match load_map(&words.map) {
        Ok(map) => map,
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
