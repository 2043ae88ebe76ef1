//! Rate limits that several functions keep together in a table: the generic cell rate algorithm, in nanoseconds.
//!
//! One number is kept of each source: its theoretical arrival time, here the moment until which what it has sent would
//! have taken at its rate. A [`Charge`] takes a number of events from an [`RateLimit`]. In DynamoDB that is one
//! conditional update:
//!
//! | [`Step`] | writes | where |
//! |---|---|---|
//! | `Rested` | `now + cost` | the moment is not there, or has passed |
//! | `Busy` | the moment `+ cost` | it lies ahead, and not further than [`Charge::step`] allows |
//!
//! Begin with what [`Charge::step`] says of nothing, and have the update return the old item where its condition fails.
//! Then ask it again with what was there. With one `now`, the moment only moves forward, so a source is admitted or
//! refused after two updates, or three where its item is removed in between
//! ([`CHARGE_ATTEMPTS_MAX`](crate::limits::CHARGE_ATTEMPTS_MAX)). The updates add to what is there and compare it with
//! a bound, never with what was seen: no source waits for another.
//!
//! Source: ITU-T I.371, annex A.

use std::time::Duration;

use clock::Timestamp;

/// `count` events per `per`, with bursts of up to `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    count: u32,
    per: Duration,
}

/// Some events that are charged to a rate limit at one moment. All numbers are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    cost: i64,
    /// The present, since the Unix epoch.
    now: i64,
    /// How far ahead the moment that is kept may lie before, since the Unix epoch.
    latest: i64,
}

/// What to write for a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The source has rested: the moment begins anew.
    Rested(Charge),
    /// It has not: the moment moves on.
    Busy(Charge),
}

/// A step as parts of an update expression, whose placeholders begin with the name of the attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// An action of a `SET` clause.
    pub set: String,
    pub condition: String,
    /// Placeholders and their numbers.
    pub values: Vec<(String, i64)>,
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl RateLimit {
    /// The least there is.
    pub const ONE_A_SECOND: Self = Self { count: 1, per: Duration::from_secs(1) };

    /// Makes a limit of `count` events in each `per`. `None` if `count` is 0, which means no limit.
    pub fn new(count: u32, per: Duration) -> Option<Self> {
        (count > 0).then_some(Self { count, per })
    }

    pub fn count(self) -> u32 {
        self.count
    }

    /// Makes a charge of `events` at once. More than [`Self::count`] pass only after a full rest, and the source waits
    /// longer afterwards.
    pub fn charge(self, events: u32, now: Timestamp) -> Charge {
        let each = (nanos(self.per) / i64::from(self.count)).max(1);
        let now = now.millis().saturating_mul(1_000_000);
        let spare = each.saturating_mul(i64::from(self.count.saturating_sub(events)));
        Charge { cost: each.saturating_mul(i64::from(events)), now, latest: now.saturating_add(spare) }
    }

    /// Returns how many events pass at once now, if `stored` is kept of the source.
    pub fn left(self, stored: Option<i64>, now: Timestamp) -> u32 {
        // What the largest charge that passes leaves ahead: whole events.
        let one = self.charge(1, now);
        let ahead = stored.map_or(0, |stored| stored.saturating_sub(one.now).max(0));
        let free = one.cost.saturating_mul(i64::from(self.count)).saturating_sub(ahead).max(0);
        u32::try_from(free / one.cost).unwrap_or(u32::MAX)
    }
}

impl Charge {
    /// Returns what to write if `stored` is kept of the source, or how long it must wait, in whole milliseconds.
    pub fn step(self, stored: Option<i64>) -> Result<Step, Duration> {
        match stored {
            Some(stored) if stored > self.latest => {
                let wait = u64::try_from(stored.saturating_sub(self.latest)).unwrap_or_default();
                Err(Duration::from_millis(wait.div_ceil(1_000_000)))
            }
            Some(stored) if stored > self.now => Ok(Step::Busy(self)),
            _ => Ok(Step::Rested(self)),
        }
    }
}

impl Step {
    /// The step as an update of `attribute`, which is not a reserved word.
    pub fn write(self, attribute: &str) -> Write {
        let name = |part: &str| format!(":{attribute}_{part}");
        let (now, cost, next, latest) = (name("now"), name("cost"), name("next"), name("latest"));
        match self {
            Self::Rested(charge) => Write {
                set: format!("{attribute} = {next}"),
                condition: format!("(attribute_not_exists({attribute}) OR {attribute} <= {now})"),
                values: vec![(next, charge.now.saturating_add(charge.cost)), (now, charge.now)],
            },
            Self::Busy(charge) => Write {
                set: format!("{attribute} = {attribute} + {cost}"),
                condition: format!("{attribute} > {now} AND {attribute} <= {latest}"),
                values: vec![(cost, charge.cost), (now, charge.now), (latest, charge.latest)],
            },
        }
    }

    /// What is kept afterwards, as the table computes it.
    #[cfg(test)]
    pub(crate) fn apply(self, stored: Option<i64>) -> Option<i64> {
        match (self, stored) {
            (Self::Rested(charge), stored) if stored.is_none_or(|stored| stored <= charge.now) => {
                Some(charge.now + charge.cost)
            }
            (Self::Busy(charge), Some(stored)) if stored > charge.now && stored <= charge.latest => {
                Some(stored + charge.cost)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    /// A moment at which services run, in which nanoseconds have their largest numbers.
    const NOW: i64 = 1_795_000_000_000;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(NOW + ms)
    }

    /// What is kept after a charge, or the wait.
    fn take(rate_limit: RateLimit, events: u32, stored: Option<i64>, now: Timestamp) -> Result<Option<i64>, Duration> {
        let step = rate_limit.charge(events, now).step(stored)?;
        Ok(Some(step.apply(stored).expect("what the step says of what is there is so")))
    }

    /// Takes one by one until one has to wait: how many there were, and what is kept.
    fn burst(rate_limit: RateLimit, mut stored: Option<i64>, now: Timestamp) -> (u32, Option<i64>) {
        for admitted in 0.. {
            match take(rate_limit, 1, stored, now) {
                Ok(next) => stored = next,
                Err(_) => return (admitted, stored),
            }
        }
        unreachable!("an allowance has an end");
    }

    #[test]
    fn exactly_the_count_comes_at_once_after_a_rest_at_every_setting_there_is() {
        let settings = (1..=1_000).map(|count| (count, SECOND)).chain((1..=60_000).map(|count| (count, MINUTE)));
        for (count, per) in settings {
            let rate_limit = RateLimit::new(count, per).expect("a bound");
            let stored = take(rate_limit, count, None, at(0)).expect("all at once");
            assert!(take(rate_limit, 1, stored, at(0)).is_err(), "one more than {count} in {per:?}");
            // And once more after the whole time, whatever is kept.
            let later = at(i64::try_from(per.as_millis()).expect("short"));
            assert_eq!(rate_limit.left(stored, later), count, "{count} in {per:?}, the second time");
            if count < 1_000 && count % 7 == 3 {
                assert_eq!(burst(rate_limit, stored, later).0, count, "{count} in {per:?}, one by one");
            }
        }
    }

    #[test]
    fn the_sustained_rate_is_the_stated_one() {
        for (count, per) in [(1, SECOND), (3, SECOND), (7, MINUTE), (600, SECOND), (999, SECOND), (59_999, MINUTE)] {
            let rate_limit = RateLimit::new(count, per).expect("a bound");
            let (mut stored, mut admitted, periods) = (burst(rate_limit, None, at(0)).1, 0, 20);
            for ms in 1..=periods * i64::try_from(per.as_millis()).expect("short") {
                let more;
                (more, stored) = burst(rate_limit, stored, at(ms));
                admitted += i64::from(more);
            }
            let stated = periods * i64::from(count);
            assert!((admitted - stated).abs() * 1_000 <= stated, "{admitted} of {stated}: {count} in {per:?}");
        }
    }

    #[test]
    fn several_at_once_take_as_much_as_one_by_one_and_all_or_nothing() {
        let rate_limit = RateLimit::new(100, Duration::from_secs(100)).expect("a bound");
        let mut stored = None;
        for _ in 0..4 {
            stored = take(rate_limit, 25, stored, at(0)).expect("one of four");
        }
        assert_eq!((rate_limit.left(None, at(0)), rate_limit.left(stored, at(0))), (100, 0));
        assert_eq!(take(rate_limit, 25, stored, at(0)), Err(Duration::from_secs(25)));
        assert_eq!(take(rate_limit, 1, stored, at(0)), Err(SECOND));
        assert_eq!((rate_limit.left(stored, at(999)), rate_limit.left(stored, at(1_000))), (0, 1));
        assert!(take(rate_limit, 25, stored, at(25_000)).is_ok());
        // More than fit at all pass after a rest, and are paid for.
        let debt = take(rate_limit, 150, None, at(0)).expect("after a rest");
        assert_eq!(take(rate_limit, 1, debt, at(0)), Err(Duration::from_secs(51)));
        assert_eq!(take(rate_limit, 150, stored, at(99_999)), Err(Duration::from_millis(1)));
        assert_eq!(RateLimit::new(0, SECOND), None);
    }

    #[test]
    fn a_step_is_an_update_that_names_its_own_placeholders() {
        let charge = RateLimit::new(3, SECOND).expect("a bound").charge(2, Timestamp::from_millis(1));
        let rested = charge.step(None).expect("rested").write("until");
        assert_eq!(rested.set, "until = :until_next");
        assert_eq!(rested.condition, "(attribute_not_exists(until) OR until <= :until_now)");
        assert_eq!(rested.values, [(":until_next".to_owned(), 667_666_666), (":until_now".to_owned(), 1_000_000)]);
        let busy = charge.step(Some(1_000_001)).expect("busy").write("until");
        assert_eq!(busy.set, "until = until + :until_cost");
        assert_eq!(busy.condition, "until > :until_now AND until <= :until_latest");
        assert_eq!(busy.values[2], (":until_latest".to_owned(), 334_333_333));
    }

    proptest! {
        #[test]
        fn no_time_sees_more_than_twice_the_count_and_waiting_as_told_helps(
            count in 1_u32..2_000,
            per in prop_oneof![Just(SECOND), Just(MINUTE)],
            pauses in proptest::collection::vec((0_i64..400, 1_u32..30), 1..400),
        ) {
            let rate_limit = RateLimit::new(count, per).expect("a bound");
            let (mut now, mut stored, mut admitted) = (0, None, Vec::new());
            for (pause, events) in pauses {
                now += pause;
                let events = events.min(count);
                let left = rate_limit.left(stored, at(now));
                prop_assert!(take(rate_limit, left + 1, stored, at(now)).is_err() || left == count);
                match take(rate_limit, events, stored, at(now)) {
                    Ok(next) => {
                        prop_assert!(next > stored && events <= left);
                        stored = next;
                        admitted.push((now, events));
                    }
                    Err(wait) => {
                        prop_assert!(events > left && !wait.is_zero());
                        let later = at(now).after(wait);
                        prop_assert!(take(rate_limit, events, stored, later).is_ok());
                        let earlier = Timestamp::from_millis(later.millis() - 1);
                        prop_assert!(take(rate_limit, events, stored, earlier).is_err());
                    }
                }
            }
            let per = i64::try_from(per.as_millis()).expect("short");
            for (index, (first, _)) in admitted.iter().enumerate() {
                let within = admitted[index..].iter().take_while(|(later, _)| *later < first + per);
                let within: u32 = within.map(|(_, events)| events).sum();
                prop_assert!(within <= 2 * count, "{within} in {per} ms");
            }
        }
    }
}
