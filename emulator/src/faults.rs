//! Injects faults that the service has now and then, to show how an application handles them.
//!
//! A run can be repeated: whether a fault happens depends only on the seed, the kind of fault and the number of its
//! occasion.

use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// `$disconnect` does not run for a connection. The service delivers it on a best-effort basis.
    LostDisconnect,
    /// A POST or GET for an open connection returns 410 `GoneException`.
    FalseGone,
    /// A POST returns 429 `LimitExceededException` and delivers nothing.
    ThrottledPost,
    /// A POST delivers at once and responds after a duration.
    SlowPost,
    /// A POST delivers and does not respond within any timeout.
    HungPost,
    /// A message to or from the client is lost, and the TCP connection is cut without a close frame.
    DroppedConnection,
    /// An invocation fails before the function runs.
    FailedInvocation,
    /// An invocation fails after the function has run to its end.
    FailedAfterRun,
    /// An event of an Event API does not reach one subscription.
    LostEvent,
    /// An event reaches a subscription after a duration.
    LateEvent,
    /// An event reaches a subscription twice.
    DoubledEvent,
    /// An event reaches a subscription after the one that follows it.
    ReorderedEvent,
    /// Events reach a subscription only a duration after `subscribe_success`.
    LateSubscription,
    /// An event of a publish is in `failed`, and reaches nobody.
    FailedEvent,
    /// A publish to an Event API is refused with 429, and delivers nothing.
    ThrottledPublish,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::LostDisconnect,
        Self::FalseGone,
        Self::ThrottledPost,
        Self::SlowPost,
        Self::HungPost,
        Self::DroppedConnection,
        Self::FailedInvocation,
        Self::FailedAfterRun,
        Self::LostEvent,
        Self::LateEvent,
        Self::DoubledEvent,
        Self::ReorderedEvent,
        Self::LateSubscription,
        Self::FailedEvent,
        Self::ThrottledPublish,
    ];

    /// Its name on the command line and in logs. It decides with the seed when faults happen, so it must not change.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LostDisconnect => "lost-disconnect",
            Self::FalseGone => "false-gone",
            Self::ThrottledPost => "throttled-post",
            Self::SlowPost => "slow-post",
            Self::HungPost => "hung-post",
            Self::DroppedConnection => "dropped-connection",
            Self::FailedInvocation => "failed-invocation",
            Self::FailedAfterRun => "failed-after-run",
            Self::LostEvent => "lost-event",
            Self::LateEvent => "late-event",
            Self::DoubledEvent => "doubled-event",
            Self::ReorderedEvent => "reordered-event",
            Self::LateSubscription => "late-subscription",
            Self::FailedEvent => "failed-event",
            Self::ThrottledPublish => "throttled-publish",
        }
    }

    /// Whether a fault of this kind needs a duration.
    const fn takes_time(self) -> bool {
        matches!(self, Self::SlowPost | Self::LateEvent | Self::LateSubscription)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A kind of fault and its probability. Written `KIND=PROBABILITY`, or `KIND=PROBABILITY:DURATION` for those that
/// take time, such as `slow-post`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    kind: FaultKind,
    /// Between 0, never, and 1, always.
    probability: f64,
    /// Zero for kinds without a duration.
    duration: Duration,
}

/// Why a text does not describe a fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FaultError {
    /// The probability is missing.
    #[error("expected KIND=PROBABILITY")]
    Form,
    /// The kind is unknown.
    #[error("unknown fault {0:?}: expected one of {known}", known = FaultKind::ALL.map(FaultKind::name).join(", "))]
    Kind(String),
    /// The probability is invalid.
    #[error("invalid probability {0:?}: expected a number from 0 to 1")]
    Probability(String),
    /// The duration is invalid.
    #[error("invalid duration {0:?}: {1}")]
    Duration(String, humantime::DurationError),
    /// The duration is zero.
    #[error("invalid duration {0:?}: expected more than 0s")]
    DurationZero(String),
    /// The kind needs a duration.
    #[error("{0} needs a duration, as in {0}=0.1:2s")]
    DurationMissing(FaultKind),
    /// The kind does not take a duration.
    #[error("{0} does not take a duration")]
    DurationUnused(FaultKind),
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (name, rest) = text.split_once('=').ok_or(FaultError::Form)?;
        let kind = FaultKind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| FaultError::Kind(name.to_owned()))?;
        let (probability, duration) = match rest.split_once(':') {
            Some((probability, duration)) => {
                let parsed = humantime::parse_duration(duration);
                let parsed = parsed.map_err(|error| FaultError::Duration(duration.to_owned(), error))?;
                if parsed.is_zero() {
                    return Err(FaultError::DurationZero(duration.to_owned()));
                }
                (probability, Some(parsed))
            }
            None => (rest, None),
        };
        let chance = probability.parse().ok().filter(|chance| (0.0..=1.0).contains(chance));
        let probability = chance.ok_or_else(|| FaultError::Probability(probability.to_owned()))?;
        let duration = match (kind.takes_time(), duration) {
            (true, None) => return Err(FaultError::DurationMissing(kind)),
            (false, Some(_)) => return Err(FaultError::DurationUnused(kind)),
            (_, duration) => duration.unwrap_or_default(),
        };
        Ok(Self { kind, probability, duration })
    }
}

/// Which faults to inject.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultOptions {
    /// The faults. If a kind occurs twice, the last one counts.
    pub faults: Vec<Fault>,
    /// The seed, by default a random one.
    pub seed: Option<u64>,
}

/// Decides when faults happen, and counts them. By default there are none.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    seed: u64,
    sources: BTreeMap<FaultKind, FaultCounter>,
}

#[derive(Debug)]
struct FaultCounter {
    fault: Fault,
    /// Occasions so far, with and without a fault.
    asked: AtomicU64,
    injected: AtomicU64,
}

impl Faults {
    pub(crate) fn new(options: &FaultOptions) -> Self {
        let source = |&fault: &Fault| FaultCounter { fault, asked: AtomicU64::new(0), injected: AtomicU64::new(0) };
        Self {
            seed: options.seed.unwrap_or_else(rand::random),
            sources: options.faults.iter().map(|fault| (fault.kind, source(fault))).collect(),
        }
    }

    /// The seed that repeats the faults of this run. `None` without faults.
    pub(crate) fn seed(&self) -> Option<u64> {
        (!self.sources.is_empty()).then_some(self.seed)
    }

    /// Decides whether a fault happens on this occasion, and returns its duration if it does.
    pub(crate) fn inject(&self, kind: FaultKind) -> Option<Duration> {
        let FaultCounter { fault, asked, injected } = self.sources.get(&kind)?;
        let occasion = asked.fetch_add(1, Ordering::Relaxed);
        if draw(self.seed, kind, occasion) >= fault.probability {
            return None;
        }
        injected.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%kind, occasion, "fault injected");
        Some(fault.duration)
    }

    /// Whether faults of a kind are switched on.
    pub(crate) fn has(&self, kind: FaultKind) -> bool {
        self.sources.contains_key(&kind)
    }

    /// Number of faults of each kind that is switched on.
    pub(crate) fn counts(&self) -> BTreeMap<FaultKind, u64> {
        self.sources.iter().map(|(&kind, source)| (kind, source.injected.load(Ordering::Relaxed))).collect()
    }
}

/// Step between the states of SplitMix64.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A pseudorandom number from 0 to below 1, always the same for the same arguments.
fn draw(seed: u64, kind: FaultKind, occasion: u64) -> f64 {
    let stream = kind.name().bytes().fold(seed, |state, byte| mix((state ^ u64::from(byte)).wrapping_add(GAMMA)));
    let bits = mix(stream.wrapping_add(occasion.wrapping_add(1).wrapping_mul(GAMMA)));
    // The upper 53 bits, which is the precision of the result.
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Output function of SplitMix64 (Steele, Lea and Flood 2014), which spreads every bit over all others.
const fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;

    fn faults(seed: u64, texts: &[&str]) -> Faults {
        let faults = texts.iter().map(|text| text.parse().expect("a fault")).collect();
        Faults::new(&FaultOptions { faults, seed: Some(seed) })
    }

    #[test]
    fn a_fault_is_read_or_refused_with_what_would_be_right() {
        let slow: Fault = "slow-post=0.25:2s".parse().expect("a fault");
        let expected = Fault { kind: FaultKind::SlowPost, probability: 0.25, duration: Duration::from_secs(2) };
        assert_eq!(slow, expected);
        for kind in FaultKind::ALL {
            let text = format!("{kind}=1{}", if kind.takes_time() { ":1s" } else { "" });
            assert_eq!(text.parse::<Fault>().map(|fault| fault.kind), Ok(kind), "{text}");
        }
        for (text, expected) in [
            ("lost-disconnect", "KIND=PROBABILITY"),
            ("lost=1", "unknown fault \"lost\": expected one of lost-disconnect, false-gone, "),
            ("false-gone=2", "invalid probability \"2\": expected a number from 0 to 1"),
            ("false-gone=NaN", "invalid probability \"NaN\""),
            ("slow-post=0.1", "slow-post needs a duration, as in slow-post=0.1:2s"),
            ("slow-post=0.1:2", "invalid duration \"2\": time unit needed"),
            ("slow-post=0.1:0s", "invalid duration \"0s\": expected more than 0s"),
            ("false-gone=0.1:2s", "false-gone does not take a duration"),
        ] {
            let error = text.parse::<Fault>().expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_not_switched_on_never_happens_and_counts_nothing() {
        let none = Faults::default();
        assert_eq!((none.inject(FaultKind::FalseGone), none.seed()), (None, None));
        assert!(none.counts().is_empty());
        let some = faults(7, &["false-gone=1"]);
        assert_eq!((some.inject(FaultKind::SlowPost), some.seed()), (None, Some(7)));
        assert_eq!(some.counts(), [(FaultKind::FalseGone, 0)].into());
    }

    #[test]
    fn the_numbers_are_those_of_split_mix_64() {
        // The first outputs for the seed 1234567, as published with implementations in many languages.
        let outputs = [1_u64, 2, 3].map(|n| mix(1_234_567_u64.wrapping_add(n.wrapping_mul(GAMMA))));
        assert_eq!(outputs, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn the_decisions_of_a_seed_never_change() {
        let some = faults(42, &["false-gone=0.3"]);
        let hits: Vec<usize> = (0..30).filter(|_| some.inject(FaultKind::FalseGone).is_some()).collect();
        // Computed with another implementation.
        assert_eq!(hits, [3, 4, 9, 10, 14, 21, 25, 26]);
    }

    proptest! {
        #[test]
        fn faults_depend_on_seed_kind_and_occasion_alone(
            seed: u64,
            probability in 0.0..=1.0,
            asked in prop::collection::vec(select(FaultKind::ALL.to_vec()), 0..300),
        ) {
            let text = |kind: FaultKind| format!("{kind}={probability}{}", if kind.takes_time() { ":1s" } else { "" });
            let texts = FaultKind::ALL.map(text);
            let all = faults(seed, &texts.each_ref().map(String::as_str));
            let interleaved: Vec<_> = asked.iter().map(|&kind| (kind, all.inject(kind).is_some())).collect();
            // The same occasions, one kind after the other, and each with the others switched off.
            for kind in FaultKind::ALL {
                let alone = faults(seed, &[&text(kind)]);
                for (_, injected) in interleaved.iter().filter(|(asked, _)| *asked == kind) {
                    prop_assert_eq!(alone.inject(kind).is_some(), *injected);
                }
                prop_assert_eq!(all.counts()[&kind], alone.counts()[&kind]);
            }
        }

        #[test]
        fn a_probability_is_kept(seed: u64, kind in select(FaultKind::ALL.to_vec()), percent in 0_u32..=100) {
            let draws = 4_000;
            let probability = f64::from(percent) / 100.0;
            let hits = (0..draws).filter(|&occasion| draw(seed, kind, occasion) < probability).count();
            let (expected, deviation) =
                (draws as f64 * probability, (draws as f64 * probability * (1.0 - probability)).sqrt());
            // Six standard deviations: one false alarm in half a billion.
            prop_assert!((hits as f64 - expected).abs() <= 6.0 * deviation, "{} of {}", hits, draws);
        }
    }
}
