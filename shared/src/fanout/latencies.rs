//! How long posts took, in a fixed amount of memory.

use std::time::Duration;

/// Upper bound of the first bucket, in microseconds.
const FIRST_MICROS: f64 = 100.0;

/// Each bucket's bound is this much above the one before it, so a quantile is at most 19 % too high.
const GROWTH: f64 = 1.189_207_115;

/// Buckets up to about 20 s, longer than any post may take.
const BUCKETS: usize = 72;

/// Counts of durations in buckets that grow exponentially.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    counts: [u64; BUCKETS],
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl Latencies {
    /// Counts one duration. What is above the last bound counts in the last bucket.
    pub(super) fn record(&mut self, duration: Duration) {
        let steps = (duration.as_secs_f64() * 1e6 / FIRST_MICROS).max(1.0).log(GROWTH).ceil();
        // Not negative, and below the number of buckets.
        self.counts[steps.min(BUCKETS as f64 - 1.0) as usize] += 1;
    }

    /// The bound below which this share of the durations lies, 0 to 1. `None` when nothing was counted.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.counts.iter().sum();
        let wanted = (total as f64 * share).ceil().max(1.0);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen as f64 >= wanted
        })?;
        Some(Duration::from_secs_f64(FIRST_MICROS * GROWTH.powf(bucket as f64) / 1e6))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_has_no_quantiles() {
        assert_eq!(Latencies::default().quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn a_quantile_is_never_too_low_and_at_most_a_fifth_too_high(
            mut micros in prop::collection::vec(100_u64..15_000_000, 1..300),
            share in 0.01_f64..=1.0,
        ) {
            let mut latencies = Latencies::default();
            micros.iter().for_each(|micros| latencies.record(Duration::from_micros(*micros)));
            micros.sort_unstable();
            let exact = micros[((micros.len() as f64 * share).ceil() as usize).max(1) - 1] as f64;
            let told = latencies.quantile(share).expect("counted").as_secs_f64() * 1e6;
            prop_assert!(told >= exact * 0.999 && told <= exact * 1.2, "{told} for {exact}");
        }
    }
}
