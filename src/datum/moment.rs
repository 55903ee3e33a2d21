//! Moments as PostgreSQL counts and writes them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970, UTC.
pub fn micros(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    }
}

/// `DateStyle` ISO, `TimeZone` UTC: `2024-02-29 12:00:00.5+00`.
pub fn text(time: SystemTime) -> String {
    const DAY: i64 = 86_400_000_000;
    let micros = micros(time);
    let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = format!("{fraction:06}");
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{point}{fraction}+00")
}

/// Year, month and day of a day since 1970-01-01, in the proleptic Gregorian calendar. Years are counted
/// from March, so that a leap day is a year's last.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timestamps_read_as_postgresql_writes_them() {
        let check = |micros: u64, expect: &str| {
            assert_eq!(text(UNIX_EPOCH + Duration::from_micros(micros)), expect);
        };
        check(0, "1970-01-01 00:00:00+00");
        check(946_684_800_000_000, "2000-01-01 00:00:00+00");
        check(1_709_208_000_500_000, "2024-02-29 12:00:00.5+00");
        check(1_735_689_599_999_999, "2024-12-31 23:59:59.999999+00");
        check(4_107_542_400_000_000, "2100-03-01 00:00:00+00");
    }
}
