//! Durations and sizes as people write them.

use std::time::Duration;

/// `5s`, `300ms`, `2min`, `1h`, `1d`, also `1.5s`; `0` needs no unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "" if number == 0.0 => 1.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok().filter(|duration| *duration <= DURATION_MAX)
}

/// Far beyond any sensible setting, and far from where adding it to a clock overflows.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// `64MiB`, `1GiB`, `512kB`, `4096B`; `0` needs no unit.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "B" => 1,
        "kB" | "KB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        "" if number == 0.0 => 1,
        _ => return None,
    };
    let total = number * factor as f64;
    // Exact up to there, and no machine has more.
    (total <= (1u64 << 50) as f64).then_some(total as u64)
}

fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text, expect: Option<u64>| {
            assert_eq!(duration(text), expect.map(Duration::from_millis), "{text}");
        };
        check("5s", Some(5000));
        check("300ms", Some(300));
        check("1.5 s", Some(1500));
        check("2min", Some(120_000));
        check("1h", Some(3_600_000));
        check("0", Some(0));
        check("0s", Some(0));
        check("5", None);
        check("s", None);
        check("-5s", None);
        check("5 seconds", None);
        check("1..5s", None);
        check("99999999999999999999999999d", None);
        check("", None);
    }

    #[test]
    fn sizes() {
        let check = |text, expect| assert_eq!(bytes(text), expect, "{text}");
        check("64MiB", Some(64 << 20));
        check("1GiB", Some(1 << 30));
        check("1.5kB", Some(1500));
        check("0", Some(0));
        check("64", None);
        check("64 mb", None);
        check("9999999999GiB", None);
    }
}
