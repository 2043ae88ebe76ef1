//! A rate limiter for posts: keeps to a rate, and lowers it when the gateway throttles.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, sleep_until},
};

/// Calls that are at most this late are made up for at once. Timers have a granularity of a millisecond.
const SLACK: Duration = Duration::from_millis(10);

/// Time between two changes of the rate: many refusals at the same moment count as one.
const STEP_EVERY: Duration = Duration::from_millis(100);

/// Factor of the rate after a refusal.
const DECREASE: f64 = 0.7;

/// Increase of the rate in each step without a refusal, as a share of the ceiling.
const INCREASE: f64 = 0.05;

/// Lowest rate, as a share of the ceiling. Above zero, so that the rate can recover.
const FLOOR: f64 = 0.02;

/// A token bucket whose rate follows what the gateway can take: additive increase, multiplicative decrease.
///
/// Callers are released in the order in which they came, each at the rate of that moment. So a queue that builds up
/// while the rate is low drains at the full rate once that is back, and a caller that gives up leaves its place to the
/// next.
#[derive(Debug)]
pub(super) struct PushRateLimiter {
    ceiling: f64,
    /// Held by the caller that is next. Fair: the others get it in turn.
    turn: AsyncMutex<()>,
    state: Mutex<RateState>,
}

#[derive(Debug)]
struct RateState {
    /// Calls per second.
    rate: f64,
    /// When the last call was due. None before the first.
    last: Option<Instant>,
    /// When the rate was changed last.
    changed: Instant,
    /// When the gateway refused a call last.
    refused: Option<Instant>,
}

impl PushRateLimiter {
    /// Starts at `ceiling` calls per second, at least 1, which is also the highest rate.
    pub(super) fn new(ceiling: f64) -> Self {
        let (ceiling, now) = (ceiling.max(1.0), Instant::now());
        let state = RateState { rate: ceiling, last: None, changed: now, refused: None };
        Self { ceiling, turn: AsyncMutex::new(()), state: Mutex::new(state) }
    }

    /// Waits until the caller may make a call. Keep polling the future: those behind it in the queue wait for it.
    pub(super) async fn wait(&self) {
        let _turn = self.turn.lock().await;
        while let Some(due) = self.due(Instant::now()) {
            sleep_until(due).await;
        }
    }

    /// Takes the next call and returns `None`, or returns when to try again because it is not due yet.
    fn due(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        let calm_since = state.refused.map_or(state.changed, |refused| refused.max(state.changed));
        let steps = now.saturating_duration_since(calm_since).as_secs_f64() / STEP_EVERY.as_secs_f64();
        if steps >= 1.0 && state.rate < self.ceiling {
            state.rate = (state.rate + self.ceiling * INCREASE * steps).min(self.ceiling);
            state.changed = now;
        }
        let next = state.last.map_or(now, |last| last + Duration::from_secs_f64(1.0 / state.rate));
        if next > now {
            // By then the rate may have changed.
            return Some(next.min(now + STEP_EVERY));
        }
        state.last = Some(next.max(now.checked_sub(SLACK).unwrap_or(now)));
        None
    }

    /// Lowers the rate, because the gateway throttled a call.
    pub(super) fn refused(&self) {
        let now = Instant::now();
        let mut state = self.state();
        state.refused = Some(now);
        if state.rate >= self.ceiling || now.saturating_duration_since(state.changed) >= STEP_EVERY {
            state.rate = (state.rate * DECREASE).max(self.ceiling * FLOOR);
            state.changed = now;
        }
    }

    /// The most calls per second that it lets through.
    pub(super) fn ceiling(&self) -> f64 {
        self.ceiling
    }

    /// Calls per second at present.
    #[cfg(test)]
    pub(super) fn rate(&self) -> f64 {
        self.state().rate
    }

    fn state(&self) -> MutexGuard<'_, RateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_lowers_the_rate_once_per_step_and_time_brings_it_back() {
        let rate_limiter = PushRateLimiter::new(1_000.0);
        for _ in 0..50 {
            rate_limiter.refused();
        }
        assert!((rate_limiter.rate() - 700.0).abs() < 1.0);
        tokio::time::sleep(STEP_EVERY).await;
        rate_limiter.refused();
        assert!((rate_limiter.rate() - 490.0).abs() < 1.0);
        for _ in 0..100 {
            tokio::time::sleep(STEP_EVERY).await;
            rate_limiter.refused();
        }
        assert!((rate_limiter.rate() - 20.0).abs() < 1.0, "never below its floor");
        tokio::time::sleep(Duration::from_secs(3)).await;
        rate_limiter.wait().await;
        assert!((rate_limiter.rate() - 1_000.0).abs() < 1.0);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_between_calls_keep_the_rate_down() {
        let rate_limiter = PushRateLimiter::new(1_000.0);
        for call in 0..3_000 {
            rate_limiter.wait().await;
            if call % 2 == 0 {
                rate_limiter.refused();
            }
        }
        // Between a fiftieth and one step above it.
        assert!(rate_limiter.rate() <= 71.0, "{} although every second call is refused", rate_limiter.rate());
    }

    /// A pace that was refused until its rate is at the floor, which is 95 calls per second.
    async fn at_the_floor() -> Arc<PushRateLimiter> {
        let rate_limiter = Arc::new(PushRateLimiter::new(4_750.0));
        while rate_limiter.rate() > 95.0 {
            tokio::time::sleep(STEP_EVERY).await;
            rate_limiter.refused();
        }
        rate_limiter
    }

    fn queue(rate_limiter: &Arc<PushRateLimiter>, callers: usize) -> Vec<tokio::task::JoinHandle<()>> {
        let wait = |_| {
            let rate_limiter = Arc::clone(rate_limiter);
            tokio::spawn(async move { rate_limiter.wait().await })
        };
        (0..callers).map(wait).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_give_up_leave_no_debt() {
        let rate_limiter = at_the_floor().await;
        let callers = queue(&rate_limiter, 800);
        tokio::time::sleep(Duration::from_millis(1)).await;
        callers.iter().for_each(tokio::task::JoinHandle::abort);
        // At once, a call is as far away as the low rate says; and after two calm seconds, as the whole one does.
        let began = Instant::now();
        rate_limiter.wait().await;
        assert!(began.elapsed() <= Duration::from_millis(12), "{:?}", began.elapsed());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let began = Instant::now();
        for _ in 0..475 {
            rate_limiter.wait().await;
        }
        assert!(began.elapsed() <= Duration::from_millis(101), "{:?} for a tenth of a second", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_queue_are_released_at_the_rate_of_the_moment_and_in_their_order() {
        let rate_limiter = at_the_floor().await;
        let (began, mut calls) = (Instant::now(), Vec::new());
        // Far more than the low rate releases in the time that the rate takes to come back.
        let mut callers: FuturesUnordered<_> =
            (0..20_000).map(|caller| rate_limiter.wait().map(move |()| caller)).collect();
        while let Some(caller) = callers.next().await {
            assert_eq!(caller, calls.len());
            calls.push(began.elapsed());
        }
        let within = |from: u64, to: u64| {
            calls.iter().filter(|at| (Duration::from_secs(from)..Duration::from_secs(to)).contains(*at)).count()
        };
        // Two seconds of steps by a twentieth, from a fiftieth; then the whole rate.
        let expected = [1_187.0 + 95.0, 3_560.0 + 95.0, 4_750.0, 4_750.0];
        for (second, expected) in (0..).zip(expected) {
            let released = within(second, second + 1) as f64;
            assert!((released - expected).abs() < expected * 0.15, "{released} in second {second}, not {expected}");
        }
        let whole = 2.0 + (20_000.0 - (expected[0] + expected[1])) / 4_750.0;
        assert!((began.elapsed().as_secs_f64() - whole).abs() < 0.2, "{:?}, not {whole} s", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_lowest_rate_keeps_nobody_waiting_once_there_is_room_again() {
        // One call per second, of which a fiftieth is one in fifty seconds.
        let rate_limiter = Arc::new(PushRateLimiter::new(1.0));
        rate_limiter.wait().await;
        for _ in 0..30 {
            tokio::time::sleep(STEP_EVERY).await;
            rate_limiter.refused();
        }
        let began = Instant::now();
        rate_limiter.wait().await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_second_has_more_calls_than_the_rate_and_its_slack(
            rate in 1.0_f64..3_000.0,
            pauses in prop::collection::vec(0_u64..50, 1..20),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let runtime = runtime.expect("a runtime");
            let calls = runtime.block_on(async {
                let rate_limiter = PushRateLimiter::new(rate);
                let start = Instant::now();
                let mut calls = Vec::new();
                for pause in pauses {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    for _ in 0..100 {
                        rate_limiter.wait().await;
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
