//! The demo, through the binary: the tour ends well, and nothing is left behind however it ends.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The demo, in a directory of temporary files that must be empty in the end.
struct Demo {
    child: Child,
    temporary: tempfile::TempDir,
}

fn start(arguments: &[&str]) -> Demo {
    let temporary = tempfile::tempdir_in("/tmp").unwrap();
    // PostgreSQL's own user must get in when root runs the tests.
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(temporary.path(), all).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_pgmeridian"))
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Demo { child, temporary }
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

fn assert_nothing_left(demo: &Demo) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_empty(demo.temporary.path()) {
        assert!(Instant::now() < deadline, "{} is not empty", demo.temporary.path().display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Reads its output up to a line that contains `text`.
fn read_until(demo: &mut Demo, text: &str) {
    let mut lines = BufReader::new(demo.child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(text)), "the demo never said \"{text}\"");
}

#[test]
fn the_tour_ends_well() {
    let Demo { child, temporary } = start(&["--tour"]);
    let output = child.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(!shown.contains("!! not as announced"), "{shown}");
    for chapter in ["hash", "range", "geo", "directory"] {
        assert!(shown.contains(&format!(": {chapter} ")), "no chapter on {chapter}:\n{shown}");
    }
    assert!(is_empty(temporary.path()));
}

#[test]
fn ctrl_c_leaves_nothing() {
    let mut demo = start(&[]);
    read_until(&mut demo, "serving until Ctrl-C");
    let pid = demo.child.id().to_string();
    Command::new("/bin/sh").args(["-c", "kill -INT \"$1\"", "sh", &pid]).status().unwrap();
    assert_eq!(demo.child.wait().unwrap().code(), Some(0));
    assert_nothing_left(&demo);
}

#[test]
fn kill_9_leaves_nothing() {
    let mut demo = start(&[]);
    read_until(&mut demo, "serving until Ctrl-C");
    demo.child.kill().unwrap();
    demo.child.wait().unwrap();
    assert_nothing_left(&demo);
}
