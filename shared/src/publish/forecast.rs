//! What a publisher is told of the fan-out that begins: to about how many it goes, and about when the last of them is
//! reached.

use std::time::Duration;

use serde::Serialize;

use crate::limits::{PAGE_DELIVERY, PUSH_RATE_USED};

/// Digits of an audience that are told. The estimate is off by some percent, and more digits would pretend otherwise.
const SIGNIFICANT_DIGITS: u32 = 3;

/// Times are told in multiples of this.
const ETA_STEP: Duration = Duration::from_millis(100);

/// A forecast by the audience of the fan-out before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// How many the alert goes to, as a person reads it: `~12,400`.
    pub audience: String,
    /// Time until the last of them is reached, in milliseconds.
    pub eta_ms: u64,
}

impl Forecast {
    /// The forecast for an audience, pushed to at `push_rate` calls per second.
    pub fn of(audience: u64, push_rate: f64) -> Self {
        let seconds = audience as f64 / (push_rate * PUSH_RATE_USED);
        let step_ms = ETA_STEP.as_millis() as f64;
        // Saturates: no rate at all takes forever.
        let eta_ms = ((seconds * 1e3 / step_ms).round() * step_ms) as u64;
        Self {
            audience: format!("~{}", grouped(rounded(audience))),
            eta_ms: eta_ms.max(u64::try_from(PAGE_DELIVERY.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// The number rounded to its significant digits; half is rounded up.
fn rounded(number: u64) -> u64 {
    let digits = number.checked_ilog10().map_or(1, |log| log + 1);
    let unit = 10_u64.pow(digits.saturating_sub(SIGNIFICANT_DIGITS));
    (number / unit).saturating_add(u64::from(number % unit >= unit.div_ceil(2) && unit > 1)).saturating_mul(unit)
}

/// The number with commas between groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_audience_has_three_digits_that_count_and_a_time_in_tenths_of_a_second() {
        let table = [
            (0, 10_000.0, "~0", 200),
            (999, 10_000.0, "~999", 200),
            (1_004, 10_000.0, "~1,000", 200),
            (1_005, 10_000.0, "~1,010", 200),
            (2_900, 10_000.0, "~2,900", 300),
            (9_995, 10_000.0, "~10,000", 1_100),
            (12_388, 10_000.0, "~12,400", 1_300),
            (12_388, 2_500.0, "~12,400", 5_200),
            (1_234_567, 10_000.0, "~1,230,000", 130_000),
        ];
        for (audience, rate, text, eta_ms) in table {
            assert_eq!(
                Forecast::of(audience, rate),
                Forecast { audience: text.to_owned(), eta_ms },
                "{audience} at {rate}/s"
            );
        }
    }

    #[test]
    fn it_goes_over_the_wire_as_two_fields() {
        let forecast = serde_json::to_string(&Forecast::of(12_388, 10_000.0)).expect("serialisable");
        assert_eq!(forecast, r#"{"audience":"~12,400","eta_ms":1300}"#);
    }

    proptest! {
        #[test]
        fn a_rounded_audience_is_off_by_half_a_percent_at_most(audience: u64, rate in 0.0..1e9) {
            let text = Forecast::of(audience, rate).audience;
            let told: f64 = text[1..].replace(',', "").parse().expect("a number");
            prop_assert!((told - audience as f64).abs() <= audience as f64 * 0.005 + 0.5, "{} for {}", text, audience);
            prop_assert!(text[1..].split(',').skip(1).all(|group| group.len() == 3), "{}", text);
        }
    }
}
