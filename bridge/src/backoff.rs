//! Backoff between attempts.

use std::time::Duration;

use shared::tables::dynamodb::jittered;

use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};

/// Exponential backoff with full jitter: each pause is a random part of a bound that doubles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    max: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { max: BACKOFF_MIN }
    }

    /// Waits as long as the service says, plus jitter, and starts over: the service does answer.
    pub(crate) async fn pause_of(&mut self, time: Duration) {
        *self = Self::new();
        tokio::time::sleep(time.min(BACKOFF_MAX) + jittered(BACKOFF_MIN)).await;
    }

    /// Waits, and doubles the bound of the next pause.
    pub(crate) async fn pause(&mut self) {
        let pause = jittered(self.max);
        self.max = BACKOFF_MAX.min(self.max * 2);
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_stay_below_their_bound() {
        let mut backoff = Backoff::new();
        let mut bound = BACKOFF_MIN;
        for _ in 0..100 {
            let began = Instant::now();
            backoff.pause().await;
            // Timers are a millisecond coarse.
            assert!(began.elapsed() <= bound + Duration::from_millis(2));
            bound = BACKOFF_MAX.min(bound * 2);
        }
        assert_eq!(backoff.max, BACKOFF_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_service_says_is_waited_for_within_bounds() {
        for (said, waited) in [(Duration::from_millis(100), Duration::from_millis(100)), (Duration::MAX, BACKOFF_MAX)] {
            let mut backoff = Backoff { max: BACKOFF_MAX };
            let began = Instant::now();
            backoff.pause_of(said).await;
            assert!((waited..=waited + BACKOFF_MIN + Duration::from_millis(2)).contains(&began.elapsed()), "{said:?}");
            assert_eq!(backoff.max, BACKOFF_MIN);
        }
    }
}
