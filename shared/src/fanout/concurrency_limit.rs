//! How many posts are in flight: few, and more only where more are faster.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::limits::{POSTS_IN_FLIGHT, POSTS_IN_FLIGHT_MAX};

/// Time over which the rate is measured before the number of lanes is judged.
const WINDOW: Duration = Duration::from_millis(250);

/// Lanes after they were widened, for each one before.
const WIDER: f64 = 1.5;

/// Share of what more lanes promise that they must win: much where the gateway takes its time, and nothing where the
/// processor has no more to give.
const GAIN: f64 = 0.2;

/// Time before more lanes are tried again that were of no use.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Lanes for posts. A gateway that answers after 8 ms takes 5,000 posts per second in 40 of them and one that answers
/// after 80 ms in 400; but more than it takes cost CPU and connections. So there are [`POSTS_IN_FLIGHT`] at first, and
/// half as many more, up to [`POSTS_IN_FLIGHT_MAX`], as long as lanes are what posts wait for and the last widening
/// made them faster.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    free: Arc<Semaphore>,
    state: Mutex<LimitState>,
}

/// A lane that is taken, until it is dropped.
pub(super) type ConcurrencyPermit = OwnedSemaphorePermit;

#[derive(Debug)]
struct LimitState {
    count: usize,
    /// Lanes to be taken away as soon as they are free.
    surplus: usize,
    /// When the window began, how many lanes were taken in it, and how long they were waited for.
    began: Instant,
    taken: u32,
    waited: Duration,
    /// What the rate was, in lanes taken per second, and how many lanes there were before the last widening.
    before: Option<(f64, usize)>,
    /// When more lanes may be tried.
    widen_from: Instant,
}

impl Default for ConcurrencyLimit {
    fn default() -> Self {
        let now = Instant::now();
        let state = LimitState {
            count: POSTS_IN_FLIGHT,
            surplus: 0,
            began: now,
            taken: 0,
            waited: Duration::ZERO,
            before: None,
            widen_from: now,
        };
        Self { free: Arc::new(Semaphore::new(POSTS_IN_FLIGHT)), state: Mutex::new(state) }
    }
}

impl ConcurrencyLimit {
    /// Waits for a lane.
    pub(super) async fn take(&self) -> Option<ConcurrencyPermit> {
        let asked = Instant::now();
        loop {
            // The semaphore is never closed, so there is always a permit in the end.
            let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
            if !self.is_surplus() {
                self.count(asked, Instant::now());
                return Some(permit);
            }
            permit.forget();
        }
    }

    /// How many there are at present.
    #[cfg(test)]
    pub(super) fn count_now(&self) -> usize {
        self.state().count
    }

    fn is_surplus(&self) -> bool {
        let mut state = self.state();
        let is_surplus = state.surplus > 0;
        state.surplus -= usize::from(is_surplus);
        is_surplus
    }

    fn count(&self, asked: Instant, now: Instant) {
        let mut state = self.state();
        state.taken += 1;
        state.waited += now.saturating_duration_since(asked);
        let elapsed = now.saturating_duration_since(state.began);
        if elapsed < WINDOW {
            return;
        }
        let rate = f64::from(state.taken) / elapsed.as_secs_f64();
        let is_short = state.waited > elapsed / 2;
        (state.began, state.taken, state.waited) = (now, 0, Duration::ZERO);
        match state.before.take() {
            Some((before, count))
                if is_short && rate / before - 1.0 < GAIN * (state.count as f64 / count as f64 - 1.0) =>
            {
                state.surplus += state.count - count;
                state.count = count;
                state.widen_from = now + TRY_AGAIN;
            }
            _ if is_short && now >= state.widen_from && state.count < POSTS_IN_FLIGHT_MAX => {
                let wider = ((state.count as f64 * WIDER) as usize).min(POSTS_IN_FLIGHT_MAX);
                self.free.add_permits(wider - state.count);
                state.before = Some((rate, state.count));
                state.count = wider;
            }
            _ => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, LimitState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        sync::atomic::{AtomicU64, Ordering},
    };

    use tokio::time::{sleep, sleep_until};

    use super::*;

    /// Makes as many posts as the lanes allow for ten seconds of virtual time. Returns posts per second.
    async fn posts<F: Future<Output = ()> + Send + 'static>(
        concurrency: &ConcurrencyLimit,
        post: impl Fn() -> F,
    ) -> f64 {
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(10) {
            let permit = concurrency.take().await;
            let post = post();
            tokio::spawn(async move {
                post.await;
                drop(permit);
            });
            count += 1;
        }
        f64::from(count) / began.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_takes_its_time_gets_as_many_posts_in_flight_as_it_needs() {
        let concurrency = ConcurrencyLimit::default();
        let per_second = posts(&concurrency, || sleep(Duration::from_millis(100))).await;
        assert_eq!(concurrency.count_now(), POSTS_IN_FLIGHT_MAX);
        // Of what the most lanes make of a tenth of a second each, less the time in which they widen.
        assert!(per_second > POSTS_IN_FLIGHT_MAX as f64 * 10.0 * 0.9, "{per_second} per second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_processor_is_not_given_more_to_do_at_once() {
        // Whatever is in flight, one post is done each 200 µs.
        let (concurrency, began) = (ConcurrencyLimit::default(), Instant::now());
        let done = Arc::new(AtomicU64::new(0));
        let per_second = posts(&concurrency, || {
            let done = Arc::clone(&done);
            async move {
                let idle_from = done.load(Ordering::Relaxed).max(began.elapsed().as_micros() as u64) + 200;
                done.store(idle_from, Ordering::Relaxed);
                sleep_until(began + Duration::from_micros(idle_from)).await;
            }
        });
        assert!((4_900.0..5_200.0).contains(&per_second.await));
        assert_eq!(concurrency.count_now(), POSTS_IN_FLIGHT, "what brought nothing is taken back");
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_that_nobody_waits_for_stay_as_few_as_they_are() {
        let concurrency = ConcurrencyLimit::default();
        for _ in 0..10_000 {
            let permit = concurrency.take().await;
            sleep(Duration::from_millis(1)).await;
            drop(permit);
        }
        assert_eq!(concurrency.count_now(), POSTS_IN_FLIGHT);
    }
}
