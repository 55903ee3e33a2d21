//! `pgmeridian import`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::say::{self, remark};
use super::{INTERNAL, WRONG, read_text};
use crate::map::import::import;

#[derive(clap::Args)]
pub(super) struct Import {
    /// General Bots' config.csv.
    #[arg(value_name = "CONFIG.CSV")]
    config: PathBuf,
    /// Where to write the map, instead of stdout. A file that is there is not overwritten.
    #[arg(short, long, value_name = "MAP")]
    output: Option<PathBuf>,
}

pub(super) fn run(words: &Import) -> ExitCode {
    let text = match read_text(&words.config) {
        Ok(text) => text,
        Err(code) => return code,
    };
    let imported = match import(&text) {
        Ok(imported) => imported,
        Err(error) => {
            remark!("error: {}: {error}", words.config.display());
            return ExitCode::from(WRONG);
        }
    };
    for remark in &imported.remarks {
        remark!("note: {remark}");
    }
    let Some(path) = &words.output else {
        say::to_stdout(format_args!("{}", imported.map));
        return ExitCode::SUCCESS;
    };
    let written = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    match written.and_then(|mut file| file.write_all(imported.map.as_bytes())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            remark!("error: {}: {error}", path.display());
            let there = error.kind() == std::io::ErrorKind::AlreadyExists;
            ExitCode::from(if there { WRONG } else { INTERNAL })
        }
    }
}
