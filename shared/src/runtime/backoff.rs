//! Backoff between attempts.

use std::time::Duration;

use rand::RngExt;
use tokio::time::sleep;

/// Exponential backoff with full jitter: each pause is random, below a bound that doubles up to the last one.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    bound: Duration,
}

impl Backoff {
    /// Creates a backoff whose first pause is below `first`, and none above `last`.
    pub const fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, bound: first }
    }

    /// Creates a backoff without a last bound, for attempts that are few anyway.
    pub const fn doubling(first: Duration) -> Self {
        Self::new(first, Duration::MAX)
    }

    /// Waits for the next pause.
    pub async fn pause(&mut self) {
        let pause = self.next(random());
        sleep(pause).await;
    }

    /// Waits for half of the bound and a random part of the other half. For polling, where a pause of zero is a poll
    /// for nothing.
    pub async fn pause_to_poll(&mut self) {
        let half = self.bound / 2;
        self.double();
        sleep(half + jittered(half)).await;
    }

    /// Waits as long as the other side says, at most the last bound, plus jitter, and starts over: it does answer.
    pub async fn pause_as_told(&mut self, time: Duration) {
        self.reset();
        sleep(time.min(self.last) + jittered(self.first)).await;
    }

    /// Returns the next pause: `share` of the bound, from 0 to 1.
    pub fn next(&mut self, share: f64) -> Duration {
        let pause = self.bound.mul_f64(share);
        self.double();
        pause
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.bound = self.first;
    }

    fn double(&mut self) {
        self.bound = self.last.min(self.bound.saturating_mul(2));
    }
}

/// Returns a random pause of up to `max`: of many that wait for the same thing, few come back at the same moment.
pub fn jittered(max: Duration) -> Duration {
    max.mul_f64(random())
}

fn random() -> f64 {
    rand::rng().random_range(0.0..=1.0)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const FIRST: Duration = Duration::from_millis(200);
    const LAST: Duration = Duration::from_secs(30);

    #[test]
    fn bounds_double_up_to_the_last_and_begin_again_after_a_success() {
        let mut backoff = Backoff::new(FIRST, LAST);
        let bounds: Vec<u64> = (0..10).map(|_| backoff.next(1.0).as_millis() as u64).collect();
        assert_eq!(bounds, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        backoff.reset();
        assert_eq!((backoff.next(0.5), backoff.next(0.0)), (FIRST / 2, Duration::ZERO));
        assert_eq!(Backoff::doubling(FIRST).next(1.0), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_stays_below_its_bound_and_a_poll_waits_for_half_of_it_at_least() {
        // Timers are a millisecond coarse.
        let coarse = Duration::from_millis(2);
        let (mut pauses, mut polls, mut bound) = (Backoff::new(FIRST, LAST), Backoff::new(FIRST, LAST), FIRST);
        for _ in 0..100 {
            let began = Instant::now();
            pauses.pause().await;
            assert!(began.elapsed() <= bound + coarse);
            let began = Instant::now();
            polls.pause_to_poll().await;
            assert!((bound / 2..=bound + coarse).contains(&began.elapsed()));
            bound = LAST.min(bound * 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_other_side_says_is_waited_for_within_bounds() {
        for (said, waited) in [(Duration::from_millis(100), Duration::from_millis(100)), (Duration::MAX, LAST)] {
            let mut backoff = Backoff::new(FIRST, LAST);
            for _ in 0..9 {
                backoff.next(1.0);
            }
            let began = Instant::now();
            backoff.pause_as_told(said).await;
            // Timers are a millisecond coarse.
            assert!((waited..=waited + FIRST + Duration::from_millis(2)).contains(&began.elapsed()), "{said:?}");
            assert_eq!(backoff.next(1.0), FIRST);
        }
    }
}
