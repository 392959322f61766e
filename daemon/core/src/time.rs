//! Moments as text and text as moments. The calendar is `jiff`'s; the clock and the time zone are the caller's.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::exchange::UnixMicros;

/// RFC 3339, UTC, microseconds: `2026-11-22T23:25:39.987123Z`.
pub fn rfc3339(micros: UnixMicros) -> String {
    format!("{:.6}", timestamp(micros))
}

/// Time of day with milliseconds, in a zone: `23:25:39.987`.
pub fn of_day(micros: UnixMicros, zone: &TimeZone) -> String {
    timestamp(micros).to_zoned(zone.clone()).strftime("%H:%M:%S.%3f").to_string()
}

/// Date, time with microseconds and offset, in a zone: `2026-11-22 23:25:39.987123 +01:00`.
pub fn in_full(micros: UnixMicros, zone: &TimeZone) -> String {
    timestamp(micros).to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S.%6f %:z").to_string()
}

fn timestamp(micros: UnixMicros) -> Timestamp {
    i64::try_from(micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok()).unwrap_or(Timestamp::MAX)
}

/// A length of time for people: `0.31 ms`, `4.8 s`, `2 h 5 min`.
pub fn duration(micros: u64) -> String {
    let (value, unit) = match micros {
        0..1_000 => return format!("{micros} µs"),
        1_000..1_000_000 => (micros as f64 / 1e3, "ms"),
        1_000_000..60_000_000 => (micros as f64 / 1e6, "s"),
        60_000_000..3_600_000_000 => {
            return format!("{} min {} s", micros / 60_000_000, micros / 1_000_000 % 60);
        }
        _ => return format!("{} h {} min", micros / 3_600_000_000, micros / 60_000_000 % 60),
    };
    if value < 9.995 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no time: give a length like 10m, 2h, 1h30m (before now) or a time like 2026-11-22T23:25:39Z")]
pub struct NotATime(String);

/// A moment as people give it: so long before `now`, or RFC 3339.
pub fn parse_since(text: &str, now: UnixMicros) -> Result<UnixMicros, NotATime> {
    let error = || NotATime(text.to_owned());
    if let Ok(before) = text.parse::<SignedDuration>() {
        let before = u64::try_from(before.as_micros()).map_err(|_| error())?;
        return Ok(now.saturating_sub(before));
    }
    let moment: Timestamp = text.parse().map_err(|_| error())?;
    Ok(u64::try_from(moment.as_microsecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_six_decimals_and_a_z() {
        assert_eq!(rfc3339(1_795_389_939_987_123), "2026-11-22T23:25:39.987123Z");
        assert_eq!(rfc3339(1_795_389_939_000_000), "2026-11-22T23:25:39.000000Z");
        assert_eq!(of_day(1_795_389_939_987_999, &TimeZone::UTC), "23:25:39.987");
        assert_eq!(in_full(1_795_389_939_987_123, &TimeZone::UTC), "2026-11-22 23:25:39.987123 +00:00");
    }

    #[test]
    fn no_number_of_microseconds_is_too_large() {
        assert!(rfc3339(u64::MAX).starts_with("9999-"));
    }

    #[test]
    fn since_is_a_length_before_now_or_a_moment() {
        let now = 1_795_389_939_000_000;
        for (text, expected) in [
            ("10m", now - 600_000_000),
            ("2h", now - 7_200_000_000),
            ("1h30m", now - 5_400_000_000),
            ("30s", now - 30_000_000),
            ("2026-11-22T23:25:00Z", now - 39_000_000),
            ("2026-11-23T00:25:00+01:00", now - 39_000_000),
        ] {
            assert_eq!(parse_since(text, now).unwrap(), expected, "{text}");
        }
        for text in ["", "yesterday", "-5m", "2026-11-22", "10"] {
            assert!(parse_since(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_of_time_are_short() {
        for (micros, text) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (4_800, "4.8 ms"),
            (48_000, "48 ms"),
            (1_500_000, "1.5 s"),
            (61_000_000, "1 min 1 s"),
            (7_500_000_000, "2 h 5 min"),
        ] {
            assert_eq!(duration(micros), text);
        }
    }
}
