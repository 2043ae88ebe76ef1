//! Durations as a person writes them: `500ms`, `2s`, `10m`, `2h`.

use std::time::Duration;

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration; write a whole number above zero with ms, s, m or h, such as 500ms or 2s")]
pub struct DurationError(String);

/// Reads a whole number above zero with its unit: `ms`, `s`, `m` or `h`.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(DurationError(text.to_owned())),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms)).filter(|&ms| ms > 0);
    ms.map(Duration::from_millis).ok_or_else(|| DurationError(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_with_a_unit_is_a_duration_and_nothing_else_is() {
        for (text, ms) in [("500ms", 500), ("2s", 2_000), ("10m", 600_000), ("2h", 7_200_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "2", "s", "0s", "-1s", "1.5s", "2 s", "2d", "99999999999999999999s", "9999999999999999999h"] {
            assert_eq!(parse(text), Err(DurationError(text.to_owned())));
        }
    }
}
