//! `pgmeridian control`.

use std::process::ExitCode;

use super::say::{remark, say};
use super::{FOUND, WRONG};
use crate::map::ConnectionTarget;
use crate::mapstore::control::install;

#[derive(clap::Args)]
pub(super) struct Control {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Create the control tables, and what hot reload needs, in a control database.
    ///
    /// Says what it would do; with --yes it does it, all or nothing. What is there already stays as it is.
    #[command(
        after_help = "Examples:\n  pgmeridian control install --url postgresql://ctl@10.0.0.1/control\n  pgmeridian control install --url postgresql://ctl@10.0.0.1/control --yes"
    )]
    Install(Install),
}

#[derive(clap::Args)]
struct Install {
    /// The control database.
    #[arg(long, value_name = "URL", env = "PGMERIDIAN_CONTROL_URL", hide_env_values = true)]
    url: String,
    /// Do it.
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Only say what would be done; so it is without --yes, too.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(words: &Control) -> ExitCode {
    let Command::Install(words) = &words.command;
    let target = match ConnectionTarget::parse(&words.url, &|name| std::env::var(name).ok()) {
        Ok(target) => target,
        Err(bad) => {
            remark!("error: --url: {}", bad.message);
            if let Some(hint) = bad.hint {
                remark!("hint: {hint}");
            }
            return ExitCode::from(WRONG);
        }
    };
    super::blocking(install(words, &target))
}

async fn install(words: &Install, target: &ConnectionTarget) -> ExitCode {
    let database = format!("{}:{}/{}", target.host, target.port, target.dbname);
    let outcome = async {
        let mut client = install::open(target).await?;
        let steps = install::plan(&client).await?;
        for step in &steps {
            let state = if step.done { "is there" } else { "to be done" };
            say!("-- {} ({state})", step.what);
            if !step.done {
                say!("{}\n", step.sql);
            }
        }
        let open = steps.iter().filter(|step| !step.done).count();
        if words.yes && open > 0 {
            install::install(&mut client, &steps).await?;
        }
        Ok::<usize, crate::mapstore::ReadError>(open)
    };
    match outcome.await {
        Ok(0) => {
            remark!("{database}: everything is there");
            ExitCode::SUCCESS
        }
        Ok(_) if words.yes => {
            remark!("{database}: done");
            ExitCode::SUCCESS
        }
        Ok(_) => {
            remark!("{database}: nothing was done\nhint: --yes does it");
            ExitCode::SUCCESS
        }
        Err(error) => {
            remark!("error: {database}: {error}");
            ExitCode::from(FOUND)
        }
    }
}
