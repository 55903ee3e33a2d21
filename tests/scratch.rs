//! Scratch clusters leave nothing behind, not even after `kill -9` of the process that started them.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pgmeridian::demo::cluster::{Cluster, Options};

/// Says that a process of this test binary is the one to be killed.
const VICTIM: &str = "PGMERIDIAN_TEST_VICTIM";

/// In the test run itself nothing to do: the process that is to be killed below runs this.
#[test]
fn waits_to_be_killed() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let cluster = Cluster::start(&Options::named("killed")).unwrap();
    println!("\ncluster {} {}", cluster.port(), cluster.directory().display());
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_process_leaves_nothing() {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "waits_to_be_killed", "--nocapture"])
        .env(VICTIM, "yes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let line = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("cluster ").map(str::to_owned))
        .expect("the cluster's port and directory");
    let (port, directory) = line.split_once(' ').unwrap();
    let address = format!("127.0.0.1:{port}");
    assert!(TcpStream::connect(&address).is_ok());

    victim.kill().unwrap();
    victim.wait().unwrap();

    let base = Path::new(directory).parent().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while base.exists() || TcpStream::connect(&address).is_ok() {
        assert!(Instant::now() < deadline, "{} or its server is still there", base.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}
