//! The scratch directory of a process: where its clusters live, and what sweeps up behind it.
//!
//! Main type: [`Scratch`], one per process while any cluster lives. It holds the template that
//! clusters are copied from.
//!
//! Invariant: a small shell process, the sweeper, waits on a pipe whose other end only this process
//! holds. When the pipe closes (an orderly end, a panic, `kill -9`) and the directory is still there, it
//! stops every server below it and removes it. The pipe is close-on-exec, as all of Rust's are, so no other
//! child keeps it open.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::cluster::{ClusterError, DATABASE, Programs, ROLE, SUPERUSER, io_error};

/// A Unix socket's path has at most 107 bytes (`sockaddr_un`), of which the cluster's directory and
/// `/.s.PGSQL.65535` need this many.
const SOCKET_TAIL_BYTES: usize = 40;
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The sweeper. It must outlive a Ctrl-C, which a terminal sends to the whole foreground group.
/// `postmaster.pid` may name a process that is long gone, so a process counts only if its working
/// directory is below ours (a server's is its data directory); without /proc the file is believed.
const SWEEPER: &str = r#"
trap '' HUP INT TERM
read -r _
[ -d "$1" ] || exit 0
below() {
  if [ ! -d /proc/self ]; then
    for file in "$1"/*/data/postmaster.pid; do
      [ -f "$file" ] && read -r pid <"$file" && kill -0 "$pid" 2>/dev/null && echo "$pid"
    done
    return
  fi
  for process in /proc/[0-9]*; do
    case "$(readlink "$process/cwd" 2>/dev/null)" in
      "$1"|"$1"/*) echo "${process#/proc/}" ;;
    esac
  done
}
signal=QUIT
for attempt in 1 2 3 4 5 6 7 8; do
  pids=$(below "$1")
  [ -z "$pids" ] && break
  kill -s "$signal" $pids 2>/dev/null
  sleep 0.3
  [ "$attempt" -ge 5 ] && signal=KILL
done
rm -rf "$1"
"#;

/// The scratch directory of this process.
#[derive(Debug)]
pub(super) struct Scratch {
    directory: PathBuf,
    programs: Programs,
    /// The user that PostgreSQL runs as, when we are root.
    user: Option<(u32, u32)>,
    next: AtomicU32,
    sweeper: Mutex<Child>,
}

static SHARED: Mutex<Weak<Scratch>> = Mutex::new(Weak::new());

impl Scratch {
    /// The one of this process; made, with its template, when there is none.
    pub(super) fn shared() -> Result<Arc<Self>, ClusterError> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scratch) = shared.upgrade() {
            return Ok(scratch);
        }
        let scratch = Arc::new(Self::create()?);
        scratch.create_template()?;
        *shared = Arc::downgrade(&scratch);
        Ok(scratch)
    }

    fn create() -> Result<Self, ClusterError> {
        let programs = Programs::find()?;
        let directory = create_directory()?;
        // From here on the sweeper answers for the directory.
        let sweeper = Command::new("/bin/sh")
            .args(["-c", SWEEPER, "pgmeridian-sweeper"])
            .arg(&directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(io_error("starting /bin/sh"))?;
        let mut scratch = Self {
            directory,
            programs,
            user: None,
            next: AtomicU32::new(0),
            sweeper: Mutex::new(sweeper),
        };
        scratch.user = scratch.unprivileged_user()?;
        if let Some((uid, gid)) = scratch.user {
            chown(&scratch.directory, Some(uid), Some(gid)).map_err(io_error("chown"))?;
        }
        Ok(scratch)
    }

    /// Whom to become: nobody else, unless we are root. A directory that was just made belongs to the
    /// effective user.
    fn unprivileged_user(&self) -> Result<Option<(u32, u32)>, ClusterError> {
        let made = fs::metadata(&self.directory).map_err(io_error("the scratch directory"))?;
        if made.uid() != 0 {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(io_error("/etc/passwd"))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| passwd_entry(&passwd, name))
            .map(Some)
            .ok_or(ClusterError::NoUser)
    }

    /// A server program, to be run as the right user, out of reach of the terminal's Ctrl-C.
    pub(super) fn command(&self, program: &str) -> Command {
        self.command_at(&self.programs.path(program))
    }

    /// The same for any program.
    pub(super) fn command_at(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory).process_group(0).env_remove("PGDATA");
        command.env("LC_ALL", "C").env_remove("PGPORT").env_remove("PGHOST");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// A new directory for a cluster. Its name is short whatever the cluster's is, for the socket's sake.
    pub(super) fn directory_for(&self, name: &str) -> Result<PathBuf, ClusterError> {
        let word: String = name.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.join(format!("{word}.{number}"));
        fs::create_dir(&directory).map_err(io_error(directory.display().to_string()))?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))
            .map_err(io_error("chmod"))?;
        if let Some((uid, gid)) = self.user {
            chown(&directory, Some(uid), Some(gid)).map_err(io_error("chown"))?;
        }
        Ok(directory)
    }

    fn template(&self) -> PathBuf {
        self.directory.join("template")
    }

    fn create_template(&self) -> Result<(), ClusterError> {
        let mut initdb = self.command("initdb");
        // Bytewise collation, so that every machine sorts text the same; one-megabyte WAL segments, so
        // that a copy is small.
        initdb.arg("-D").arg(self.template()).args([
            "--username",
            SUPERUSER,
            "--auth=trust",
            "--encoding=UTF8",
            "--lc-collate=C",
            "--lc-ctype=C.UTF-8",
            "--wal-segsize=1",
            "--no-sync",
            "--no-instructions",
        ]);
        run("initdb", &mut initdb)?;
        let setup = format!(
            "CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{ROLE}';\n\
             CREATE DATABASE {DATABASE} OWNER {ROLE};\n"
        );
        self.single_user(&self.template(), &setup)
    }

    /// Copies the template; where the file system can share blocks, it does.
    pub(super) fn copy_template(&self, to: &Path) -> Result<(), ClusterError> {
        run("cp", self.command_at(Path::new("cp")).arg("-a").arg(self.template()).arg(to))
    }

    /// Runs statements, one a line, on a cluster that is not running (`postgres --single`).
    pub(super) fn single_user(&self, data: &Path, statements: &str) -> Result<(), ClusterError> {
        let mut server = self
            .command("postgres")
            .args(["--single", "-j", "-F", "-c", "log_min_messages=error"])
            .arg("-D")
            .arg(data)
            .arg("postgres")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(io_error("starting postgres --single"))?;
        if let Some(mut stdin) = server.stdin.take() {
            // With -j a statement ends with a semicolon and an empty line.
            stdin
                .write_all(statements.replace(";\n", ";\n\n").as_bytes())
                .map_err(io_error("postgres --single"))?;
        }
        let output = server.wait_with_output().map_err(io_error("postgres --single"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() && !said.contains("ERROR:") && !said.contains("FATAL:") {
            return Ok(());
        }
        Err(ClusterError::Program { program: "postgres --single", output: said.into_owned() })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
        let sweeper = self.sweeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(sweeper.stdin.take());
        let _ = sweeper.wait();
    }
}

/// A new directory for temporary files, where the socket's path fits and, when we are root, the
/// unprivileged user gets in.
fn create_directory() -> Result<PathBuf, ClusterError> {
    let create = |base: &Path| {
        let directory = tempfile::Builder::new().prefix("pgmeridian-").tempdir_in(base);
        directory.map_err(io_error(format!("a directory in {}", base.display())))
    };
    let base = std::env::temp_dir();
    let directory = create(&base)?;
    let too_long = base.as_os_str().len() + SOCKET_TAIL_BYTES > SOCKET_PATH_BYTES_MAX;
    let root = fs::metadata(directory.path()).is_ok_and(|made| made.uid() == 0);
    if too_long || (root && !reachable_by_all(&base)) {
        return Ok(create(Path::new("/tmp"))?.keep());
    }
    Ok(directory.keep())
}

fn run(program: &'static str, command: &mut Command) -> Result<(), ClusterError> {
    let output = command.stdin(Stdio::null()).output().map_err(io_error(program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(ClusterError::Program { program, output: String::from_utf8_lossy(&said).into_owned() })
}

/// Another user can pass through every directory of the path.
fn reachable_by_all(path: &Path) -> bool {
    path.ancestors()
        .all(|part| fs::metadata(part).is_ok_and(|found| found.permissions().mode() & 0o001 != 0))
}

/// The uid and gid of a user (passwd(5)).
fn passwd_entry(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_entries() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:104:,,,:/var/lib/postgresql:/bin/sh\nodd:x:y:1::\n";
        let check = |name: &str, expect: Option<(u32, u32)>| {
            assert_eq!(passwd_entry(passwd, name), expect, "{name}");
        };
        check("root", Some((0, 0)));
        check("postgres", Some((101, 104)));
        check("postgre", None);
        check("odd", None);
    }
}
