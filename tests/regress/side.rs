//! One of two equal servers, and psql as PostgreSQL's `pg_regress` calls it (`pg_regress.c`,
//! `pg_regress_main.c`).

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use pgmeridian::demo::cluster::{Options, Programs, SUPERUSER};

use crate::support::{Proxy, Shards};

/// The files' own name for their database.
const DATABASE: &str = "regression";
/// The superuser's, for the sake of the proxy's log-in.
const PASSWORD: &str = "regress";

/// As `pg_regress` makes it.
const SETTINGS: [&str; 6] = [
    "lc_messages TO 'C'",
    "lc_monetary TO 'C'",
    "lc_numeric TO 'C'",
    "lc_time TO 'C'",
    "bytea_output TO 'hex'",
    "timezone_abbreviations TO 'Default'",
];

/// Where the SQL files are.
pub(crate) struct Sources {
    /// The directory of `sql/` and `data/`.
    pub(crate) files: PathBuf,
    /// The directory of the C library.
    pub(crate) library: Option<PathBuf>,
}

/// One of the two.
pub(crate) struct Side<'a> {
    sources: &'a Sources,
    shards: Shards,
    proxy: Option<Proxy>,
    /// Where outputs go.
    outputs: PathBuf,
    port: u16,
}

impl<'a> Side<'a> {
    /// A server.
    pub(crate) async fn direct(outputs: PathBuf, sources: &'a Sources) -> Self {
        fs::create_dir_all(&outputs).unwrap();
        let shards = Shards::of(&Options {
            hba: vec![format!("host all {SUPERUSER} 127.0.0.1/32 trust\n")],
            ..Options::named("regress")
        });
        let cluster = shards.first();
        let mut create = vec![
            format!("ALTER ROLE {SUPERUSER} PASSWORD '{PASSWORD}'"),
            format!("CREATE DATABASE {DATABASE} TEMPLATE template0"),
        ];
        create.extend(SETTINGS.iter().map(|set| format!("ALTER DATABASE {DATABASE} SET {set}")));
        let client = cluster.connect("postgres").await.unwrap();
        for statement in create {
            client.batch_execute(&statement).await.unwrap();
        }
        fs::create_dir_all(cluster.directory().join("results")).unwrap();
        open_to_all(&cluster.directory().join("results"));
        let port = cluster.port();
        Self { sources, shards, proxy: None, outputs, port }
    }

    /// The same, with the proxy in front.
    pub(crate) async fn proxied(outputs: PathBuf, sources: &'a Sources) -> Self {
        let mut side = Self::direct(outputs, sources).await;
        let map = format!(
            "version = 1\ndatabase = \"{DATABASE}\"\ndefault_shard = \"only\"\n\
             [[shards]]\nid = 1\nname = \"only\"\nregion = \"USA\"\n\
             url = \"postgresql://{SUPERUSER}:{PASSWORD}@127.0.0.1:{}/{DATABASE}\"\n",
            side.port
        );
        let proxy = Proxy::start(&side.shards, &map).await;
        side.port = proxy.address.port();
        side.proxy = Some(proxy);
        side
    }

    /// Runs one file; what psql printed.
    pub(crate) async fn run(&self, file: &str, limit: Duration) -> Vec<u8> {
        let cluster = self.shards.first();
        let path = self.outputs.join(format!("{file}.out"));
        let output = File::create(&path).unwrap();
        let sql = self.sources.files.join("sql").join(format!("{file}.sql"));
        let sql = File::open(&sql).unwrap_or_else(|error| panic!("{}: {error}", sql.display()));
        let psql = Programs::find().unwrap().path("psql");
        let mut command = tokio::process::Command::new(psql);
        command.args(["-X", "-a", "-q", "-d", DATABASE]);
        command.args(["-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"]);
        command.stdin(sql).stdout(output.try_clone().unwrap()).stderr(output).kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG") || name.starts_with("LC_")) {
                command.env_remove(name);
            }
        }
        command.env_remove("LANG").env_remove("LANGUAGE");
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string());
        command.env("PGUSER", SUPERUSER).env("PGPASSWORD", PASSWORD);
        command.env("PGAPPNAME", format!("pg_regress/{file}"));
        command.env("PGTZ", "America/Los_Angeles").env("PGDATESTYLE", "Postgres, MDY");
        command.env("PGOPTIONS", "-c intervalstyle=postgres_verbose").env("LC_MESSAGES", "C");
        command.env("PG_ABS_SRCDIR", &self.sources.files);
        command.env("PG_ABS_BUILDDIR", cluster.directory()).env("PG_DLSUFFIX", ".so");
        if let Some(library) = &self.sources.library {
            command.env("PG_LIBDIR", library);
        }
        command.current_dir(cluster.directory());
        let mut psql = command.spawn().unwrap_or_else(|error| panic!("psql: {error}"));
        if tokio::time::timeout(limit, psql.wait()).await.is_err() {
            psql.kill().await.unwrap();
        }
        let said = fs::read(&path).unwrap();
        // The two have directories and ports of their own, which some of the files show.
        let own = cluster.directory().display().to_string();
        replaced(
            &replaced(&said, own.as_bytes(), b"<builddir>"),
            self.port.to_string().as_bytes(),
            b"<port>",
        )
    }

    /// What the proxy has logged.
    pub(crate) fn proxy_log(&self) -> String {
        self.proxy.as_ref().map(Proxy::log).unwrap_or_default()
    }
}

/// With `to` for each `from`, which is no part of a longer number.
fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(from)
            && !(digit(from.last()) && (digit(after.first()) || digit(out.last())))
        {
            out.extend_from_slice(to);
            rest = after;
        } else {
            out.push(rest[0]);
            rest = &rest[1..];
        }
    }
    out
}

fn open_to_all(directory: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
}
