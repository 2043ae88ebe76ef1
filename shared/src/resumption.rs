//! What a client has missed since the position that it names, and whether the log can still tell.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    alert::{Alert, Position},
    audience::{Audience, Region},
    error::Failure,
    history::{End, Head, History},
    limits::{
        ALERTS_PER_PAGE_MAX, CONNECTS_PER_SEC, LOG_READS_IN_FLIGHT, RECONNECT_SHARE, RECONNECT_WINDOW_DEFAULT,
        RECONNECT_WINDOW_MAX, RECONNECT_WINDOW_MIN, REGIONS_OF_ALL_MAX,
    },
    position::Positions,
};

/// Alerts of one log, both ends inclusive; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The log.
    pub epoch: i64,
    /// The oldest.
    pub first: u64,
    /// The newest.
    pub last: u64,
}

/// What lies between a client's position and the head of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Nothing.
    Nothing,
    /// These alerts, if they are still there.
    Missed(Span),
    /// The position is of another log, or ahead of this one.
    Unknown,
}

impl Gap {
    /// The gap from `since` to `head`, which is [`Position::START`] where there is no log.
    pub fn between(since: Position, head: Position) -> Self {
        if since.epoch != head.epoch && since != Position::START {
            return Self::Unknown;
        }
        match since.seq.cmp(&head.seq) {
            Ordering::Equal => Self::Nothing,
            Ordering::Less => Self::Missed(Span { epoch: head.epoch, first: since.seq + 1, last: head.seq }),
            Ordering::Greater => Self::Unknown,
        }
    }

    /// How many alerts it may hold.
    pub fn count(self) -> u64 {
        match self {
            Self::Missed(span) => span.count(),
            Self::Nothing | Self::Unknown => 0,
        }
    }
}

impl Span {
    /// How many alerts it holds.
    pub fn count(self) -> u64 {
        self.last - self.first + 1
    }

    /// Whether `alerts` begin the span and follow each other without a hole. The time to live removes items one by one and late.
    pub fn begins_with(self, alerts: &[Alert]) -> bool {
        let expected = (self.first..=self.last).map(|seq| Position { epoch: self.epoch, seq });
        alerts.len() as u64 <= self.count() && alerts.iter().map(|alert| alert.position).eq(expected.take(alerts.len()))
    }

    /// Whether `alerts` are the whole span.
    pub fn is(self, alerts: &[Alert]) -> bool {
        alerts.len() as u64 == self.count() && self.begins_with(alerts)
    }
}

/// Where a subscription begins, and what its client has missed.
#[derive(Clone, Debug, PartialEq)]
pub struct Resumption {
    /// The head of every region that the client asked for; for `ALL`, of every region that has a log.
    pub positions: Positions,
    /// What was missed, where the client said where it was.
    pub recovery: Option<Recovery>,
    /// The time over which clients spread their reconnections.
    pub reconnect_within: Duration,
}

/// What a client has missed.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// For every region that the client gave a position for: all that it missed there, oldest first, or none where that is not
    /// known or too much.
    pub regions: BTreeMap<Region, Option<Vec<Alert>>>,
    /// Whether that covers all of `ALL`, which stands for the first [`REGIONS_OF_ALL_MAX`] regions.
    pub covers_all: bool,
}

/// Finds out where a subscription to `audiences` begins and what was missed before it. To be called after the subscription was
/// written: then an alert is in the answer, or is pushed, or both.
pub async fn resume(
    history: &History,
    audiences: &[Audience],
    since: Option<&Positions>,
) -> Result<Resumption, Failure> {
    let (regions, covers_all) = regions(history, audiences, since).await?;
    let heads = history.heads(&regions).await?;
    let head = |region: &Region| heads.get(region).map_or(Position::START, |head| head.position);
    let recovery = match since {
        None => None,
        Some(since) => {
            let all = audiences.contains(&Audience::All);
            let position = |region: &Region| since.get(region).or(all.then_some(Position::START));
            let gaps = regions
                .iter()
                .filter_map(|region| Some((region.clone(), Gap::between(position(region)?, head(region)))))
                .collect();
            Some(Recovery { regions: missed(history, gaps).await?, covers_all })
        }
    };
    Ok(Resumption {
        positions: regions.iter().map(|region| (region.clone(), head(region))).collect(),
        recovery,
        reconnect_within: reconnect_within(heads.values()),
    })
}

/// The regions that `audiences` stand for, and whether there are no more of them. For `ALL` these are also the regions that the
/// client knows, although their log may be gone. Where there are too many the ones that are named come first, then those that the
/// client knows, then the others by name.
pub(crate) async fn regions(
    history: &History,
    audiences: &[Audience],
    since: Option<&Positions>,
) -> Result<(Vec<Region>, bool), Failure> {
    let named = audiences.iter().filter_map(|audience| match audience {
        Audience::Region(region) => Some(region.clone()),
        Audience::All | Audience::Everyone | Audience::Room(_) | Audience::Source(_) => None,
    });
    let mut regions: Vec<Region> = named.collect();
    if audiences.contains(&Audience::All) {
        regions.extend(since.into_iter().flat_map(Positions::regions).cloned());
        regions.extend(history.regions().await?);
    }
    let mut seen = BTreeSet::new();
    regions.retain(|region| seen.insert(region.clone()));
    let covers_all = regions.len() <= REGIONS_OF_ALL_MAX;
    if !covers_all {
        tracing::warn!(regions = regions.len(), "more regions than ALL can name");
    }
    regions.truncate(REGIONS_OF_ALL_MAX);
    Ok((regions, covers_all))
}

/// Reads what is in the gaps: the small ones first, as long as an answer can hold them.
async fn missed(history: &History, gaps: Vec<(Region, Gap)>) -> Result<BTreeMap<Region, Option<Vec<Alert>>>, Failure> {
    stream::iter(affordable(gaps))
        .map(|(region, gap)| async move {
            let alerts = match gap {
                Gap::Nothing => Some(Vec::new()),
                Gap::Unknown => None,
                Gap::Missed(span) => {
                    let page = history.alerts(&region, span, ALERTS_PER_PAGE_MAX, End::Oldest).await?;
                    Some(page.alerts).filter(|alerts| span.is(alerts))
                }
            };
            Ok((region, alerts))
        })
        .buffer_unordered(LOG_READS_IN_FLIGHT)
        .try_collect()
        .await
}

/// The gaps, those unknown for which no place would be left after the smaller ones.
fn affordable(mut gaps: Vec<(Region, Gap)>) -> Vec<(Region, Gap)> {
    gaps.sort_by_key(|(_, gap)| gap.count());
    let mut left = ALERTS_PER_PAGE_MAX as u64;
    for (_, gap) in &mut gaps {
        match left.checked_sub(gap.count()) {
            Some(rest) => left = rest,
            None => *gap = Gap::Unknown,
        }
    }
    gaps
}

/// The time in which the largest audience can come back at its share of the connections per second.
fn reconnect_within<'a>(heads: impl Iterator<Item = &'a Head>) -> Duration {
    let audience = heads.filter_map(|head| head.audience).max();
    let window = |audience: u64| {
        let ms = audience.saturating_mul(1_000 * RECONNECT_SHARE) / CONNECTS_PER_SEC;
        Duration::from_millis(ms).clamp(RECONNECT_WINDOW_MIN, RECONNECT_WINDOW_MAX)
    };
    audience.map_or(RECONNECT_WINDOW_DEFAULT, window)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{alert::Video, clock::Timestamp};

    fn at(epoch: i64, seq: u64) -> Position {
        Position { epoch, seq }
    }

    fn alert(position: Position) -> Alert {
        Alert {
            id: format!("a-{}", position.seq),
            region: "PL".parse().expect("a region"),
            position,
            video: serde_json::from_value::<Video>(json!({"id": "v", "title": "t"})).expect("a video"),
            at: Timestamp::from_millis(0),
        }
    }

    #[test]
    fn a_gap_is_known_within_one_log_and_from_before_it() {
        let check = |since: Position, head: Position, gap: Gap| {
            assert_eq!(Gap::between(since, head), gap, "{since:?} {head:?}")
        };
        let missed = |first, last| Gap::Missed(Span { epoch: 9, first, last });
        check(at(9, 41), at(9, 43), missed(42, 43));
        check(at(9, 0), at(9, 2), missed(1, 2));
        check(at(9, 43), at(9, 43), Gap::Nothing);
        check(Position::START, at(9, 3), missed(1, 3));
        check(Position::START, Position::START, Gap::Nothing);
        check(at(8, 41), at(9, 43), Gap::Unknown);
        check(at(9, 44), at(9, 43), Gap::Unknown);
        check(at(9, 41), Position::START, Gap::Unknown);
        check(at(0, 41), at(9, 43), Gap::Unknown);
        check(at(0, 1), Position::START, Gap::Unknown);
    }

    #[test]
    fn many_gaps_share_the_place_and_the_small_ones_come_first() {
        let gap = |count| Gap::Missed(Span { epoch: 9, first: 1, last: count });
        let region = |name: &str| name.parse::<Region>().expect(name);
        let max = ALERTS_PER_PAGE_MAX as u64;
        let gaps = vec![
            (region("AA"), gap(max)),
            (region("BB"), gap(max - 1)),
            (region("CC"), gap(1)),
            (region("DD"), Gap::Nothing),
        ];
        let afforded: BTreeMap<_, _> = affordable(gaps).into_iter().collect();
        assert_eq!(afforded[&region("AA")], Gap::Unknown);
        assert_eq!(afforded[&region("BB")], gap(max - 1));
        assert_eq!(afforded[&region("CC")], gap(1));
        assert_eq!(afforded[&region("DD")], Gap::Nothing);
    }

    #[test]
    fn the_window_of_reconnections_follows_the_largest_audience() {
        let check = |audiences: &[Option<u64>], ms: u64| {
            let heads: Vec<Head> =
                audiences.iter().map(|audience| Head { position: at(9, 1), audience: *audience }).collect();
            assert_eq!(reconnect_within(heads.iter()), Duration::from_millis(ms), "{audiences:?}");
        };
        check(&[], 10_000);
        check(&[None], 10_000);
        check(&[Some(0)], 1_000);
        check(&[Some(10_000)], 40_000);
        check(&[Some(500), None, Some(10_000)], 40_000);
        check(&[Some(u64::MAX)], 600_000);
    }

    proptest! {
        /// Whatever items are left of a log, in whatever mixture with those of an older one: what is recovered is exactly what
        /// was missed.
        #[test]
        fn only_what_is_whole_is_recovered(
            since in 0_u64..12,
            last in 0_u64..12,
            epoch in 8_i64..10,
            lost in proptest::collection::btree_set(1_u64..12, 0..3),
            old in proptest::collection::btree_set(1_u64..12, 0..2),
        ) {
            let head = at(9, last);
            let alerts: Vec<Alert> = (since + 1..=last)
                .filter(|seq| !lost.contains(seq))
                .map(|seq| alert(at(if old.contains(&seq) { 8 } else { 9 }, seq)))
                .collect();
            let whole = (since + 1..=last).all(|seq| !lost.contains(&seq) && !old.contains(&seq));
            match Gap::between(at(epoch, since), head) {
                Gap::Missed(span) => {
                    prop_assert!(epoch == 9 && since < last);
                    prop_assert_eq!(span.is(&alerts), whole);
                }
                Gap::Nothing => prop_assert!(epoch == 9 && since == last),
                Gap::Unknown => prop_assert!(epoch != 9 || since > last),
            }
        }
    }
}
