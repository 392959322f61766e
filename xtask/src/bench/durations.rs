//! Durations as load generators print them: `446.00us`, `1.20ms`, `2s`.

/// In microseconds; `None` when it is not such a duration.
pub(super) fn microseconds(text: &str) -> Option<f64> {
    let unit = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_read_in_microseconds() {
        assert_eq!(["446.5us", "1.5ms", "2s"].map(microseconds), [Some(446.5), Some(1500.0), Some(2e6)]);
        assert_eq!(["", "12", "1.0m", "ms"].map(microseconds), [None; 4]);
    }
}
