//! How viral a video is, from 0 to 100: its growth beside what has been usual in its region lately. The formula and how
//! it does on real counts are in `docs/scoring.md`.

use clock::Timestamp;
use serde::{Deserialize, Serialize};

use shared::limits::{GROWTH_SPREAD_MIN, GROWTHS_MIN};

/// How often a video had been watched at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was counted.
    pub at: Timestamp,
    /// The count.
    pub views: u64,
}

/// How a count grew between two snapshots: `ln(gained per hour / √views)`, in nats. The geometric mean of the gain
/// itself, which favours what is large already, and of the gain in proportion to the count, which favours what has just
/// begun. Other units of counts or of time move the growth of all videos by the same amount.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Growth(f64);

impl Growth {
    /// The growth from one snapshot to a later one. None when the count did not rise, or no time has passed.
    pub fn between(before: Snapshot, after: Snapshot) -> Option<Self> {
        let gained = after.views.checked_sub(before.views).filter(|gained| *gained > 0)? as f64;
        let hours = after.at.since(before.at).as_secs_f64() / 3_600.0;
        // Of the later count, which is never zero: a video that was just uploaded has no growth without bounds.
        (hours > 0.0).then(|| Self((gained / hours).ln() - (after.views as f64).ln() / 2.0))
    }

    /// To a thousandth of a nat, which is far below any spread: what is stored is shorter.
    pub(crate) fn rounded(self) -> Self {
        Self((self.0 * 1e3).round() / 1e3)
    }
}

/// What growth has been usual in a region: the median, and the median distance from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usual {
    median: f64,
    /// In the unit of a standard deviation, were growth normally distributed.
    spread: f64,
}

/// A standard deviation over the median absolute deviation, of a normal distribution.
const DEVIATION_OF_MAD: f64 = 1.4826;

impl Usual {
    /// Of growths in any order. None when there are too few of them to say.
    pub fn of(growths: impl IntoIterator<Item = Growth>) -> Option<Self> {
        let mut growths: Vec<f64> = growths.into_iter().map(|growth| growth.0).collect();
        if growths.len() < GROWTHS_MIN {
            return None;
        }
        let median = median(&mut growths);
        growths.iter_mut().for_each(|growth| *growth = (*growth - median).abs());
        let spread = (DEVIATION_OF_MAD * self::median(&mut growths)).max(GROWTH_SPREAD_MIN);
        Some(Self { median, spread })
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// 0 to 100, to a tenth.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Score(f64);

impl Score {
    /// What has not grown.
    pub const NONE: Self = Self(0.0);

    /// `100 · (1 − e^−z)`, where `z` says how many deviations a growth lies above the usual: 0 up to the median, 63 one
    /// deviation above it, 86 two, 95 three.
    pub fn of(growth: Growth, usual: &Usual) -> Self {
        let deviations = ((growth.0 - usual.median) / usual.spread).max(0.0);
        Self((1e3 * (1.0 - (-deviations).exp())).round() / 10.0)
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(secs: i64, views: u64) -> Snapshot {
        Snapshot { at: Timestamp::from_millis(secs * 1_000), views }
    }

    /// The score of the last pair of counts beside the others, all taken `secs` apart.
    fn score_of(pairs: &[(u64, u64)], secs: i64) -> Option<Score> {
        let growth = |(before, after): &(u64, u64)| Growth::between(snapshot(0, *before), snapshot(secs, *after));
        let (last, others) = pairs.split_last()?;
        Some(Score::of(growth(last)?, &Usual::of(others.iter().filter_map(growth))?))
    }

    #[test]
    fn each_deviation_above_the_median_leaves_the_same_share_of_what_is_left_to_a_hundred() {
        let usual = Usual { median: 1.0, spread: 0.5 };
        let score = |growth| Score::of(Growth(growth), &usual).get();
        assert_eq!([score(-7.0), score(1.0), score(1.5), score(2.0), score(2.5)], [0.0, 0.0, 63.2, 86.5, 95.0]);
        assert_eq!(score(1e300), 100.0);
    }

    #[test]
    fn few_growths_say_nothing_and_equal_ones_do_not_make_a_trifle_viral() {
        let growths = |count| vec![Growth(2.0); count];
        assert_eq!(Usual::of(growths(GROWTHS_MIN - 1)), None);
        let usual = Usual::of(growths(GROWTHS_MIN)).expect("enough");
        assert!(Score::of(Growth(2.05), &usual).get() < 50.0, "5 % more than all others");
    }

    #[test]
    fn half_of_the_history_may_be_anything_without_moving_the_median_beyond_the_rest() {
        let honest = (0..30).map(|n| Growth(f64::from(n) / 10.0));
        let usual = Usual::of(honest.chain([Growth(1e9); 29])).expect("enough");
        assert!((0.0..3.0).contains(&usual.median) && usual.spread < 6.0, "{usual:?}");
    }

    #[test]
    fn a_video_that_was_just_uploaded_is_no_more_viral_than_a_large_one_that_gains_as_much_for_its_size() {
        let new = Growth::between(snapshot(0, 0), snapshot(3_600, 5_000)).expect("grown");
        let large = Growth::between(snapshot(0, 1_000_000), snapshot(3_600, 1_100_000)).expect("grown");
        assert!(new < large, "{new:?} {large:?}");
    }

    fn history() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let pair = (0..1_000_000_u64, 1..1_000_000_u64).prop_map(|(before, gained)| (before, before + gained));
        proptest::collection::vec(pair, GROWTHS_MIN..60)
    }

    proptest! {
        #[test]
        fn more_growth_is_never_a_lower_score(
            history in history(),
            before in 0..u64::MAX / 4,
            a in 1..u64::MAX / 4,
            b in 1..u64::MAX / 4,
        ) {
            let score = |gained| score_of(&[history.clone(), vec![(before, before + gained)]].concat(), 3_600);
            prop_assert!(score(a.min(b)) <= score(a.max(b)));
        }

        #[test]
        fn a_score_lies_between_0_and_100(growths in proptest::collection::vec(-1e300..1e300_f64, GROWTHS_MIN + 1)) {
            let growths: Vec<_> = growths.into_iter().map(Growth).collect();
            let score = Score::of(growths[0], &Usual::of(growths[1..].iter().copied()).expect("enough")).get();
            prop_assert!((0.0..=100.0).contains(&score), "{score}");
        }

        #[test]
        fn a_count_that_falls_or_stands_has_no_growth(
            after in any::<u64>(),
            lost in any::<u64>(),
            secs in 0..10_000_000_i64,
        ) {
            let before = snapshot(0, after.saturating_add(lost));
            prop_assert_eq!(Growth::between(before, snapshot(secs, after)), None);
        }

        #[test]
        fn the_units_of_counts_and_of_time_do_not_matter(
            history in history(),
            pair in (0..1_000_000_u64, 1..1_000_000_u64),
            unit in 2..1_000_u64,
            time in 2..500_i64,
        ) {
            let all = [history, vec![(pair.0, pair.0 + pair.1)]].concat();
            let scaled: Vec<_> = all.iter().map(|(before, after)| (before * unit, after * unit)).collect();
            let (one, other) = (score_of(&all, 3_600), score_of(&scaled, 3_600 * time));
            let (one, other) = (one.expect("grown").get(), other.expect("grown").get());
            prop_assert!((one - other).abs() < 0.11, "{one} {other}: what rounding leaves");
        }
    }
}
