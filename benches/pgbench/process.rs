//! What a process has used, from /proc (proc(5)).

use std::fs;

use anyhow::{Context as _, Result};

/// Clock ticks per second in /proc/PID/stat (`USER_HZ`, 100 on every Linux port that Rust runs on).
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used since it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// User and system time of all threads, in microseconds.
    pub cpu_us: f64,
    /// Context switches of all threads, wanted and unwanted.
    pub switches: f64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        Ok(Self { cpu_us: cpu_us(pid)?, switches: switches(pid)? })
    }
}

/// Fields 14 and 15 of /proc/PID/stat, counted after the program's name, which may contain anything but
/// ends with the last parenthesis.
fn cpu_us(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    Ok(ticks / TICKS_PER_SECOND * 1e6)
}

fn switches(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let counted = status.lines().filter(|line| line.contains("ctxt_switches:"));
        sum += counted
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok())
            .sum::<f64>();
    }
    Ok(sum)
}

/// Resident memory, and the most it ever was, in bytes.
pub(crate) fn memory(pid: u32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    let kibibytes = of("VmRSS:").zip(of("VmHWM:")).context("/proc/PID/status")?;
    Ok((kibibytes.0 * 1024.0, kibibytes.1 * 1024.0))
}
