//! How much may come from one source in some time, whoever counts it: the generic cell rate algorithm.
//!
//! What is kept of a source is one moment: until when what it has sent would have taken at its rate. Several functions can keep it
//! in a table together, because the next moment depends on nothing but the last one and the present.
//!
//! Source: ITU-T I.371, annex A.

use std::time::Duration;

use crate::clock::Timestamp;

/// So many in so long. As many may come at once after a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    count: u32,
    per: Duration,
}

impl Allowance {
    /// The least there is.
    pub const ONE_A_SECOND: Self = Self { count: 1, per: Duration::from_secs(1) };

    /// `count` in each `per`, to a millisecond. None for no bound, which a count of 0 stands for.
    pub fn new(count: u32, per: Duration) -> Option<Self> {
        (count > 0).then_some(Self { count, per })
    }

    /// How many.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Admits one more of a source that is used up until `until`: until when it is then. Otherwise, how long it has to wait.
    pub fn admit(self, until: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Duration> {
        // Rounded up, and never nothing: each one admitted moves the moment, by which others see that there was one.
        let each = self.per.as_millis().div_ceil(u128::from(self.count)).max(1);
        let each = Duration::from_millis(u64::try_from(each).unwrap_or(u64::MAX));
        let from = until.map_or(now, |until| until.max(now));
        let ahead = from.since(now) + each;
        match ahead.checked_sub(self.per.max(each)) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(from.after(each)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn as_many_as_the_count_come_at_once_and_then_one_by_one() {
        let ten = Allowance::new(10, Duration::from_secs(1)).expect("a bound");
        let mut until = None;
        for _ in 0..10 {
            until = Some(ten.admit(until, at(5_000)).expect("one of ten"));
        }
        assert_eq!(ten.admit(until, at(5_000)), Err(Duration::from_millis(100)));
        assert_eq!(ten.admit(until, at(5_099)), Err(Duration::from_millis(1)));
        let until = ten.admit(until, at(5_100)).expect("a tenth of a second later");
        assert_eq!(ten.admit(Some(until), at(5_100)), Err(Duration::from_millis(100)));
        assert_eq!(Allowance::new(0, Duration::from_secs(1)), None);
    }

    proptest! {
        #[test]
        fn no_time_sees_more_than_twice_the_count_and_waiting_as_told_helps(
            count in 1_u32..2_000,
            pauses in proptest::collection::vec(0_i64..400, 1..400),
        ) {
            let allowance = Allowance::new(count, Duration::from_secs(1)).expect("a bound");
            let (mut now, mut until, mut admitted) = (0, None, Vec::new());
            for pause in pauses {
                now += pause;
                match allowance.admit(until, at(now)) {
                    Ok(next) => {
                        prop_assert!(until.is_none_or(|until| next > until));
                        until = Some(next);
                        admitted.push(now);
                    }
                    Err(wait) => {
                        let later = at(now).after(wait);
                        prop_assert!(allowance.admit(until, later).is_ok());
                        prop_assert!(wait.is_zero() || allowance.admit(until, at(later.millis() - 1)).is_err());
                    }
                }
            }
            for (index, first) in admitted.iter().enumerate() {
                let within = admitted[index..].iter().filter(|later| **later < first + 1_000).count();
                prop_assert!(within <= 2 * count as usize, "{within} in a second");
            }
        }
    }
}
