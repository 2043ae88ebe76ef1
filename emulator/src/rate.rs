//! Rate limiters: token buckets for the quotas of an account and for the throttles of routes.
//!
//! Source: API Gateway quotas, and the developer guide, "Protect your WebSocket APIs" and "Throttle requests to your
//! HTTP APIs". The quotas are those of an account in a region; here the two APIs of a template have them to themselves.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use clock::{Clock, Timestamp};

use crate::template::{Throttle, Throttles};

/// A rate limit per second, with a burst. Written `N` or `N:BURST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens added per second.
    pub per_second: NonZeroU32,
    /// Size of the bucket. By default the quota determines it.
    pub burst: Option<NonZeroU32>,
}

impl Rate {
    /// New connections of the service. The size of its bucket is not documented.
    pub const SERVICE_CONNECTS: Self = Self { per_second: NonZeroU32::new(500).expect("above 0"), burst: None };
    /// Requests of the service: messages of clients and calls of the management API together.
    pub const SERVICE_REQUESTS: Self =
        Self { per_second: NonZeroU32::new(10_000).expect("above 0"), burst: NonZeroU32::new(5_000) };
}

/// An invalid rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid rate {0:?}: expected N or N:BURST, whole numbers above zero, such as 10000:5000")]
pub struct RateError(String);

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let number = |number: &str| number.parse::<NonZeroU32>().map_err(|_| RateError(text.to_owned()));
        let (per_second, burst) = match text.split_once(':') {
            Some((per_second, burst)) => (per_second, Some(number(burst)?)),
            None => (text, None),
        };
        Ok(Self { per_second: number(per_second)?, burst })
    }
}

/// The buckets of an account. Without one, there is no limit.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    connects: Option<Mutex<TokenBucket>>,
    requests: Option<Mutex<TokenBucket>>,
}

impl Quotas {
    /// The default burst of connects is a second's worth, and that of requests half of it, as in the service.
    pub(crate) fn new(connects: Option<Rate>, requests: Option<Rate>, now: Timestamp) -> Self {
        let bucket = |rate: Rate, burst_default: u32| {
            let burst = rate.burst.map_or(burst_default.max(1), NonZeroU32::get);
            Mutex::new(TokenBucket::full(rate.per_second.get().into(), burst.into(), now))
        };
        Self {
            connects: connects.map(|rate| bucket(rate, rate.per_second.get())),
            requests: requests.map(|rate| bucket(rate, rate.per_second.get() / 2)),
        }
    }

    /// Takes a token for a new connection. `false` if there is none.
    pub(crate) fn admits_connect(&self, clock: &Clock) -> bool {
        self.connects.as_ref().is_none_or(|bucket| admits(bucket, clock))
    }

    /// Takes a token for a message, a call of the management API or a request of the HTTP API. `false` if there is
    /// none.
    pub(crate) fn admits_request(&self, clock: &Clock) -> bool {
        self.requests.as_ref().is_none_or(|bucket| admits(bucket, clock))
    }
}

/// The buckets of the throttled routes of one stage, by route key.
#[derive(Debug, Default)]
pub(crate) struct RouteBuckets(BTreeMap<String, Mutex<TokenBucket>>);

impl RouteBuckets {
    /// Creates full buckets for the routes that the stage throttles.
    pub(crate) fn new<'a>(throttles: &Throttles, routes: impl Iterator<Item = &'a str>, now: Timestamp) -> Self {
        let bucket = |route: &str| {
            let Throttle { per_second, burst } = throttles.of(route)?;
            Some((route.to_owned(), Mutex::new(TokenBucket::full(per_second, burst, now))))
        };
        Self(routes.filter_map(bucket).collect())
    }

    /// Takes a token for a request of this route. `false` if there is none.
    pub(crate) fn admits(&self, route: &str, clock: &Clock) -> bool {
        self.0.get(route).is_none_or(|bucket| admits(bucket, clock))
    }
}

fn admits(bucket: &Mutex<TokenBucket>, clock: &Clock) -> bool {
    // A panic while the bucket was locked leaves it consistent. The time is read under the lock, so it only grows.
    let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = bucket.take(clock.now());
    if !taken {
        tracing::debug!(per_second = bucket.per_second(), "request throttled");
    }
    taken
}

/// A token bucket.
///
/// It counts in millionths of a token, so a rate with up to three decimal places is exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenBucket {
    millionths_per_ms: i64,
    burst_millionths: i64,
    /// Below zero if more was charged than there was.
    millionths: i64,
    filled_at: Timestamp,
}

/// Millionths in a token.
const TOKEN: i64 = 1_000_000;

/// Milliseconds in a second.
const SECOND_MS: f64 = 1_000.0;

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn full(per_second: f64, burst: f64, now: Timestamp) -> Self {
        let burst_millionths = millionths(burst);
        let millionths_per_ms = millionths(per_second / SECOND_MS);
        Self { millionths_per_ms, burst_millionths, millionths: burst_millionths, filled_at: now }
    }

    /// Takes a token if there is one. A clock that was set back adds nothing until it runs on.
    pub(crate) fn take(&mut self, now: Timestamp) -> bool {
        self.fill(now);
        let there = self.millionths >= TOKEN;
        self.millionths -= if there { TOKEN } else { 0 };
        there
    }

    /// Whether there are this many tokens, or the bucket is full.
    pub(crate) fn has(&mut self, tokens: f64, now: Timestamp) -> bool {
        self.fill(now);
        self.millionths >= millionths(tokens).min(self.burst_millionths)
    }

    /// Takes tokens even if there are fewer. The debt must refill first.
    pub(crate) fn charge(&mut self, tokens: f64, now: Timestamp) {
        self.fill(now);
        self.millionths = self.millionths.saturating_sub(millionths(tokens));
    }

    /// Whether it is full, as a new bucket is.
    pub(crate) fn is_full(&mut self, now: Timestamp) -> bool {
        self.fill(now);
        self.millionths == self.burst_millionths
    }

    fn per_second(&self) -> f64 {
        self.millionths_per_ms as f64 * SECOND_MS / TOKEN as f64
    }

    fn fill(&mut self, now: Timestamp) {
        let elapsed_ms = i64::try_from(now.since(self.filled_at).as_millis()).unwrap_or(i64::MAX);
        let added = elapsed_ms.saturating_mul(self.millionths_per_ms);
        self.millionths = self.millionths.saturating_add(added).min(self.burst_millionths);
        self.filled_at = now;
    }
}

/// Tokens in millionths, up to the largest integer.
fn millionths(tokens: f64) -> i64 {
    (tokens * TOKEN as f64).round() as i64
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };

    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_bucket_is_emptied_and_fills_at_its_rate() {
        let mut bucket = TokenBucket::full(10.0, 3.0, at(0));
        assert_eq!([0; 4].map(|ms| bucket.take(at(ms))), [true, true, true, false]);
        assert_eq!([99, 100, 199, 200].map(|ms| bucket.take(at(ms))), [false, true, false, true]);
        assert_eq!([10_000; 4].map(|ms| bucket.take(at(ms))), [true, true, true, false], "no more than its size");
    }

    #[test]
    fn a_clock_that_is_set_back_neither_gives_tokens_nor_stops_them() {
        let mut bucket = TokenBucket::full(10.0, 1.0, at(1_000_000));
        assert_eq!([1_000_000, 0, 99, 100].map(|ms| bucket.take(at(ms))), [true, false, false, true]);
    }

    #[test]
    fn what_is_charged_beyond_what_there_is_has_to_come_back_first() {
        let mut bucket = TokenBucket::full(10.0, 10.0, at(0));
        assert!(bucket.has(10.0, at(0)) && bucket.has(1_000.0, at(0)), "more than fits needs a full one");
        bucket.charge(15.0, at(0));
        assert_eq!([500, 599, 600].map(|ms| bucket.has(1.0, at(ms))), [false, false, true]);
        assert!(!bucket.is_full(at(1_499)) && bucket.is_full(at(1_500)));
    }

    #[test]
    fn quotas_have_the_sizes_of_the_service() {
        let ms = Arc::new(AtomicI64::new(0));
        let clock = Clock::Manual(Arc::clone(&ms));
        let quotas = Quotas::new(Some(Rate::SERVICE_CONNECTS), Some(Rate::SERVICE_REQUESTS), clock.now());
        let connects = || (0..20_000).filter(|_| quotas.admits_connect(&clock)).count();
        let requests = || (0..20_000).filter(|_| quotas.admits_request(&clock)).count();
        assert_eq!((connects(), requests()), (500, 5_000));
        ms.store(100, Ordering::Relaxed);
        assert_eq!((connects(), requests()), (50, 1_000));
        let unlimited = Quotas::default();
        assert!((0..20_000).all(|_| unlimited.admits_connect(&clock) && unlimited.admits_request(&clock)));
    }

    #[test]
    fn a_route_has_its_own_throttle_or_the_stage_s_and_none_where_there_is_none() {
        let throttle = |per_second, burst| Throttle { per_second, burst };
        let own = [("a".to_owned(), throttle(0.5, 2.0)), ("$connect".to_owned(), throttle(0.0, 0.0))].into();
        let throttles = Throttles { default: Some(throttle(10.0, 3.0)), routes: own };
        let ms = Arc::new(AtomicI64::new(0));
        let clock = Clock::Manual(Arc::clone(&ms));
        let buckets = RouteBuckets::new(&throttles, ["$connect", "a", "b", "c"].into_iter(), clock.now());
        let admitted =
            || ["$connect", "a", "b", "c"].map(|route| (0..9).filter(|_| buckets.admits(route, &clock)).count());
        assert_eq!(admitted(), [0, 2, 3, 3], "each route has a bucket of its own");
        ms.store(1_999, Ordering::Relaxed);
        assert_eq!(admitted(), [0, 0, 3, 3]);
        ms.store(2_000, Ordering::Relaxed);
        assert_eq!(admitted(), [0, 1, 0, 0]);
        let buckets = RouteBuckets::new(&Throttles::default(), ["a"].into_iter(), clock.now());
        assert!((0..20_000).all(|_| buckets.admits("a", &clock)));
    }

    #[test]
    fn a_rate_is_read_with_and_without_its_burst() {
        let rate = |per_second, burst| Rate {
            per_second: NonZeroU32::new(per_second).expect("above 0"),
            burst: NonZeroU32::new(burst),
        };
        assert_eq!("10000:5000".parse(), Ok(Rate::SERVICE_REQUESTS));
        assert_eq!("7".parse(), Ok(rate(7, 0)));
        for text in ["", "0", "1:0", "1:", ":1", "-1", "1.5", "x"] {
            assert_eq!(text.parse::<Rate>(), Err(RateError(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn in_any_window_there_are_no_more_than_the_burst_and_what_came_back(
            per_second in 1_u32..20_000,
            burst in 1_u32..200,
            steps_ms in prop::collection::vec(0_i64..60, 1..400),
        ) {
            let mut bucket = TokenBucket::full(per_second.into(), burst.into(), at(0));
            let mut now = 0;
            let mut taken_at = Vec::new();
            for step in steps_ms {
                now += step;
                if bucket.take(at(now)) {
                    taken_at.push(now);
                }
            }
            for (first, start) in taken_at.iter().enumerate() {
                for (last, end) in taken_at.iter().enumerate().skip(first) {
                    let taken = i64::try_from(last - first + 1).expect("few");
                    prop_assert!(taken * 1_000 <= i64::from(burst) * 1_000 + i64::from(per_second) * (end - start));
                }
            }
        }

        #[test]
        fn what_has_come_back_can_be_taken(
            per_second in 1_u32..20_000,
            burst in 1_u32..200,
            wait_ms in 0_i64..20_000,
        ) {
            let mut bucket = TokenBucket::full(per_second.into(), burst.into(), at(0));
            while bucket.take(at(0)) {}
            let taken = (0..=burst).filter(|_| bucket.take(at(wait_ms))).count();
            let come_back = i64::from(per_second) * wait_ms / 1_000;
            prop_assert_eq!(i64::try_from(taken).expect("few"), come_back.min(burst.into()));
        }
    }
}
