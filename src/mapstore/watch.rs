//! Noticing that a map's file has changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

/// A file is looked at so often where the system does not tell of changes (network file systems), and to
/// be sure.
const POLL: Duration = Duration::from_secs(5);

/// Changes that follow each other closer than this are one: editors write in several steps.
const SETTLE: Duration = Duration::from_millis(100);

/// Notices changes of a file: of the file itself, of one that is put in its place, of a link on the way to
/// it (as Kubernetes does it).
pub struct FileWatch {
    path: PathBuf,
    woken: Arc<Notify>,
    watched: Watched,
    /// What was in it when it was last looked at.
    seen: Option<[u8; 32]>,
    again: bool,
}

impl FileWatch {
    /// Begins to watch the file at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let seen = fingerprint(&path);
        Self { path, woken: Arc::default(), watched: Watched::default(), seen, again: false }
    }

    /// SHA-256 of what it holds, in hexadecimal, if it can be read.
    pub fn checksum(&self) -> Option<String> {
        checksum(&self.path)
    }

    /// Waits until the file holds something else than before.
    pub async fn changed(&mut self) {
        loop {
            self.watched.follow(&self.path, &self.woken);
            tokio::select! {
                () = self.woken.notified() => settle(&self.woken).await,
                () = tokio::time::sleep(POLL) => {}
            }
            let now = fingerprint(&self.path);
            if self.seen != now || std::mem::take(&mut self.again) {
                self.seen = now;
                return;
            }
        }
    }

    /// What it holds could not be used yet: it is reported again a little later.
    pub fn again(&mut self) {
        self.again = true;
    }
}

/// What a file holds, and whether it is there.
fn fingerprint(path: &Path) -> Option<[u8; 32]> {
    let bytes = std::fs::read(path).ok()?;
    Some(Sha256::digest(bytes).into())
}

/// A file's SHA-256 in hexadecimal, if it can be read.
pub(super) fn checksum(path: &Path) -> Option<String> {
    use std::fmt::Write as _;
    let hex = fingerprint(path)?.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String can't fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    Some(hex)
}

/// Waits until nothing has happened for a moment, but not for ever.
async fn settle(woken: &Notify) {
    let deadline = Instant::now() + 10 * SETTLE;
    while Instant::now() < deadline && tokio::time::timeout(SETTLE, woken.notified()).await.is_ok()
    {
    }
}

/// The directories that are watched: a file that is replaced is another file, but its directory stays. A
/// link may lead through several.
#[derive(Default)]
struct Watched {
    directories: Vec<PathBuf>,
    watcher: Option<notify::RecommendedWatcher>,
}

impl Watched {
    /// Watches where the path leads now, if that is not what is watched already.
    fn follow(&mut self, path: &Path, woken: &Arc<Notify>) {
        let wanted = directories_of(path);
        if wanted == self.directories && self.watcher.is_some() {
            return;
        }
        self.directories.clear();
        let waker = Arc::clone(woken);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Who only reads the file changes nothing, and we do so ourselves.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                waker.notify_one();
            }
        });
        let mut watcher = match watcher {
            Ok(watcher) => watcher,
            Err(error) => return tracing::debug!(%error, "the map file is looked at now and then"),
        };
        for directory in &wanted {
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                tracing::debug!(%error, directory = %directory.display(), "not watched");
                self.watcher = None;
                return;
            }
        }
        self.directories = wanted;
        self.watcher = Some(watcher);
    }
}

/// The directories in which a change can make the path mean another file: the one it is in, and those of
/// every link that it leads through.
fn directories_of(path: &Path) -> Vec<PathBuf> {
    /// More links in a row are a loop (`MAXSYMLINKS` of Linux).
    const LINKS_MAX: usize = 40;
    let mut found: Vec<PathBuf> = Vec::new();
    let mut add = |directory: &Path| {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        if !found.iter().any(|known| known == directory) {
            found.push(directory.to_owned());
        }
    };
    let mut current = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Some(parent) = current.parent().map(Path::to_owned) else { break };
        add(&parent);
        // A directory on the way may be a link too: `..data` is.
        let link = std::fs::read_link(&current).map(|target| parent.join(target)).ok();
        let through = std::fs::read_link(&parent).ok().and_then(|target| {
            let whole = parent.parent()?.join(target);
            add(parent.parent()?);
            Some(whole.join(current.file_name()?))
        });
        match link.or(through) {
            Some(next) => current = next,
            None => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Less than [`POLL`]: it must be told of, not found.
    const SOON: Duration = Duration::from_secs(4);

    async fn notices(watch: &mut FileWatch, what: &str, change: impl FnOnce()) {
        let waiting = async {
            // The watch is set up before the change is made.
            let changed = watch.changed();
            tokio::pin!(changed);
            tokio::select! {
                () = &mut changed => panic!("{what}: too early"),
                () = tokio::time::sleep(Duration::from_millis(50)) => change(),
            }
            changed.await;
        };
        let outcome = tokio::time::timeout(SOON, waiting).await;
        assert!(outcome.is_ok(), "{what} went unnoticed");
    }

    #[tokio::test]
    async fn every_way_to_change_a_file_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("map.toml"), "1").unwrap();
        let mut watch = FileWatch::new(path("map.toml"));
        notices(&mut watch, "writing", || fs::write(path("map.toml"), "2").unwrap()).await;
        notices(&mut watch, "an editor's rename", || {
            fs::write(path("map.toml~"), "3").unwrap();
            fs::rename(path("map.toml~"), path("map.toml")).unwrap();
        })
        .await;
        notices(&mut watch, "removal", || fs::remove_file(path("map.toml")).unwrap()).await;
        notices(&mut watch, "return", || fs::write(path("map.toml"), "3").unwrap()).await;
    }

    #[tokio::test]
    async fn links_that_are_swapped_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (version, text) in [("..1", "1"), ("..2", "2"), ("..3", "3")] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("map.toml"), text).unwrap();
        }
        symlink("..1", path("..data")).unwrap();
        symlink("..data/map.toml", path("map.toml")).unwrap();
        let mut watch = FileWatch::new(path("map.toml"));
        for version in ["..2", "..3"] {
            notices(&mut watch, version, || {
                symlink(version, path("..data_tmp")).unwrap();
                fs::rename(path("..data_tmp"), path("..data")).unwrap();
            })
            .await;
        }
        // What the link leads to is another file than at first.
        notices(&mut watch, "writing", || fs::write(path("..3/map.toml"), "4").unwrap()).await;
    }
}
