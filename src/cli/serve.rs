//! `pgmeridian serve`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use super::say::remark;
use super::{INTERNAL, WRONG, not_loaded, print_faults};
use crate::app::Server;
use crate::config::{Config, LogFormat};
use crate::mapstore::Origin;
use crate::mapstore::control::Source;
use crate::observe;
use crate::plan::scope;

#[derive(clap::Args)]
pub(super) struct Serve {
    /// The shard map.
    #[arg(long, value_name = "FILE")]
    map: PathBuf,
    /// The proxy's own settings; all have defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen for clients [default: 127.0.0.1:6432].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where to answer health, readiness and metrics [default: 127.0.0.1:9632].
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
}

pub(super) fn run(words: &Serve) -> ExitCode {
    let mut config = match words.config.as_deref().map(Config::load).transpose() {
        Ok(config) => config.unwrap_or_default(),
        Err(faults) => {
            remark!("{faults}");
            return ExitCode::from(WRONG);
        }
    };
    if let Some(listen) = &words.listen {
        config.listen.address.clone_from(listen);
    }
    if let Some(http) = &words.http {
        config.http.address.clone_from(http);
    }
    observe::init_log(&config.log.level, config.log.format == LogFormat::Json);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            remark!("error: {error}");
            return ExitCode::from(INTERNAL);
        }
    };
    let source = Source::new(&words.map);
    let map = match runtime.block_on(source.load()) {
        Ok((map, warnings)) => {
            print_faults(warnings.iter());
            map
        }
        Err(error) => return not_loaded(&error),
    };
    config.shard = std::env::var("SHARD_ID").ok().filter(|shard| !shard.is_empty());
    if let Some(Err(error)) = config.shard.as_ref().map(|shard| scope::resolve_shard(&map, shard)) {
        remark!("error: SHARD_ID: {}", error.message);
        return ExitCode::from(WRONG);
    }
    match runtime.block_on(serve(config, map, source, words)) {
        Ok(()) => ExitCode::SUCCESS,
        // What keeps it from serving is in the configuration: an address, a certificate, the users.
        Err(error) => {
            remark!("error: {error:#}");
            ExitCode::from(WRONG)
        }
    }
}

async fn serve(
    config: Config,
    map: crate::map::ShardMap,
    source: Arc<Source>,
    words: &Serve,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let (shards, database) = (map.shards().len(), map.database().to_owned());
    let http = config.http.address.clone();
    let mut server = Server::start(config, map).await?;
    server.follow(&source).await;
    // Whoever did not ask for HTTP by name is not kept from serving because the usual port is taken.
    match server.serve_http(&http).await {
        Ok(http) => info!(%http, "health and metrics"),
        Err(error) if words.http.is_some() => return Err(error),
        Err(error) => tracing::warn!("no health and metrics: {error:#}"),
    }
    info!(address = %server.address(), shards, database, "serving");
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                info!("draining: what runs may finish");
                server.shutdown().await;
                return Ok(());
            }
            _ = interrupt.recv() => {
                server.stop().await;
                return Ok(());
            }
            _ = hang_up.recv() => reload(&server).await,
            () = server.shutdown_asked() => {
                info!("draining, as an operator asked: what runs may finish");
                server.shutdown().await;
                return Ok(());
            }
        }
    }
}

/// SIGHUP: the certificate; the map file and the control tables: again, each of them all or nothing.
async fn reload(server: &Server) {
    match server.reload_certificate() {
        Ok(true) => info!("the certificate for clients was read again"),
        Ok(false) => {}
        Err(error) => {
            error!(%error, "the certificate for clients can't be used; the old one stays");
        }
    }
    // What comes of it is in the log.
    drop(server.reload(Origin::Signal).await);
}
