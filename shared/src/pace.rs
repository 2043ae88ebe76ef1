//! Keeping to a rate, and finding the right one when the gateway says that it is too much.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Time in whose worth of calls a pace may fall behind and catch up: timers have a granularity of a millisecond.
const SLACK: Duration = Duration::from_millis(10);

/// Time between two changes of the rate: many refusals of one moment are one piece of news.
const STEP_EVERY: Duration = Duration::from_millis(100);

/// What is left of the rate after a refusal.
const DECREASE: f64 = 0.7;

/// What is added in each step without one, as a share of the ceiling.
const INCREASE: f64 = 0.05;

/// Lowest rate, as a share of the ceiling, so that it comes back.
const FLOOR: f64 = 0.02;

/// A token bucket whose rate follows what the gateway can take: additive increase, multiplicative decrease.
#[derive(Debug)]
pub struct Pace {
    ceiling: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Calls per second.
    rate: f64,
    /// When the next call is due.
    next: Instant,
    /// When the rate was changed last.
    changed: Instant,
    /// When the gateway refused a call last.
    refused: Option<Instant>,
}

impl Pace {
    /// At most `ceiling` calls per second, and that many until a refusal. At least one.
    pub fn new(ceiling: f64) -> Self {
        let (ceiling, now) = (ceiling.max(1.0), Instant::now());
        Self { ceiling, state: Mutex::new(State { rate: ceiling, next: now, changed: now, refused: None }) }
    }

    /// Waits until the next call is due.
    pub async fn wait(&self) {
        let due = self.reserve(Instant::now());
        if due > Instant::now() {
            sleep_until(due).await;
        }
    }

    fn reserve(&self, now: Instant) -> Instant {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let calm_since = state.refused.map_or(state.changed, |refused| refused.max(state.changed));
        let steps = now.saturating_duration_since(calm_since).as_secs_f64() / STEP_EVERY.as_secs_f64();
        if steps >= 1.0 && state.rate < self.ceiling {
            state.rate = (state.rate + self.ceiling * INCREASE * steps).min(self.ceiling);
            state.changed = now;
        }
        let due = state.next.max(now.checked_sub(SLACK).unwrap_or(now));
        state.next = due + Duration::from_secs_f64(1.0 / state.rate);
        due
    }

    /// The gateway refused a call because of the rate.
    pub fn refused(&self) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.refused = Some(now);
        if state.rate >= self.ceiling || now.saturating_duration_since(state.changed) >= STEP_EVERY {
            state.rate = (state.rate * DECREASE).max(self.ceiling * FLOOR);
            state.changed = now;
        }
    }

    /// Calls per second at present.
    pub fn rate(&self) -> f64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).rate
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_lowers_the_rate_once_per_step_and_time_brings_it_back() {
        let pace = Pace::new(1_000.0);
        for _ in 0..50 {
            pace.refused();
        }
        assert!((pace.rate() - 700.0).abs() < 1.0);
        tokio::time::sleep(STEP_EVERY).await;
        pace.refused();
        assert!((pace.rate() - 490.0).abs() < 1.0);
        for _ in 0..100 {
            tokio::time::sleep(STEP_EVERY).await;
            pace.refused();
        }
        assert!((pace.rate() - 20.0).abs() < 1.0, "never below its floor");
        tokio::time::sleep(Duration::from_secs(3)).await;
        pace.wait().await;
        assert!((pace.rate() - 1_000.0).abs() < 1.0);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_between_calls_keep_the_rate_down() {
        let pace = Pace::new(1_000.0);
        for call in 0..3_000 {
            pace.wait().await;
            if call % 2 == 0 {
                pace.refused();
            }
        }
        assert!(pace.rate() < 50.0, "{} although every second call is refused", pace.rate());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_second_has_more_calls_than_the_rate_and_its_slack(rate in 1.0_f64..3_000.0, pauses in prop::collection::vec(0_u64..50, 1..20)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
            let calls = runtime.block_on(async {
                let pace = Pace::new(rate);
                let start = Instant::now();
                let mut calls = Vec::new();
                for pause in pauses {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    for _ in 0..100 {
                        pace.wait().await;
                        calls.push(start.elapsed());
                    }
                }
                calls
            });
            let most = rate + rate * SLACK.as_secs_f64() + 2.0;
            for (index, from) in calls.iter().enumerate() {
                let within = calls[index..].iter().take_while(|at| **at < *from + Duration::from_secs(1)).count();
                prop_assert!(within as f64 <= most, "{within} calls within a second at {rate}");
            }
        }
    }
}
