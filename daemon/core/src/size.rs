//! Numbers of bytes as people write them. 1 KiB is 1024 bytes, 1 kB is 1000; a bare `K`, `M`, `G` is the binary one.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no size: give bytes, or a number with KiB, MiB, GiB (1024) or kB, MB, GB (1000)")]
pub struct NotASize(String);

/// `262144`, `256KiB`, `1.5 GiB`, `10MB`, `64k`.
pub fn parse(text: &str) -> Result<u64, NotASize> {
    let error = || NotASize(text.to_owned());
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(error()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || part.len() > 9 || number.ends_with('.') {
        return Err(error());
    }
    let whole: u64 = whole.parse().map_err(|_| error())?;
    let part_of = 10u128.pow(u32::try_from(part.len()).map_err(|_| error())?);
    let part: u128 = if part.is_empty() { 0 } else { part.parse().map_err(|_| error())? };
    let part = u64::try_from(part * u128::from(factor) / part_of).map_err(|_| error())?;
    whole.checked_mul(factor).and_then(|bytes| bytes.checked_add(part)).ok_or_else(error)
}

/// `378 B`, `1.5 KiB`, `12 MiB`.
pub fn show(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        // 1023.95 KiB would be shown as 1024 KiB.
        if value < 999.5 || (unit == "B" && value < 1024.0) {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" || value >= 9.95 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_both_systems() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("256KiB", 262_144),
            ("256 kib", 262_144),
            ("64k", 65_536),
            ("1.5GiB", 1_610_612_736),
            ("10MB", 10_000_000),
            ("1 G", 1 << 30),
            ("5b", 5),
            ("0.5KiB", 512),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "KiB", "-1", "1.", ".5K", "1 XB", "1e3", "99999999999999999999", "99999999TiB", "1.2.3K"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (378, "378 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10_240, "10 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(show(bytes), text);
        }
    }
}
