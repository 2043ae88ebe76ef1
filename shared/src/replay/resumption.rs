//! Finds the alerts that a client missed since its position, as far as the log still has them.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use clock::Timestamp;

use crate::{
    error::InternalError,
    limits::{
        ALERT_TTL, ALERTS_PER_PAGE_MAX, ANSWER_BYTES, CONNECTS_PER_SEC, FRAME_BYTES_MAX, LOG_READS_MAX,
        RECONNECT_SHARE, RECONNECT_WINDOW_DEFAULT, RECONNECT_WINDOW_MAX, RECONNECT_WINDOW_MIN, RECOVERED_REGIONS_MAX,
        REGIONS_OF_ALL_MAX,
    },
    model::{
        alert::{Logged, Position},
        audience::{Audience, Region},
        position::{Positions, Span},
    },
    tables::alerts::{
        history::{Budget, End, Found, History, Wanted, frame_bytes},
        snapshot::{SnapshotEntries, SnapshotEntry},
    },
};

/// What lies between a client's position and the head of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
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

    /// Returns the most alerts that the gap can hold.
    pub fn count(self) -> u64 {
        match self {
            Self::Missed(span) => span.count(),
            Self::Nothing | Self::Unknown => 0,
        }
    }
}

/// Where a subscription begins, and what its client has missed.
#[derive(Clone, Debug, PartialEq)]
pub struct Resumption {
    /// The head of every region that the client asked for; for `ALL`, of every region that has a log.
    pub positions: Positions,
    /// The missed alerts, if the client gave positions.
    pub recovery: Option<MissedAlerts>,
    /// The time over which clients spread their reconnections.
    pub reconnect_within: Duration,
}

/// What a client has missed.
#[derive(Clone, Debug, PartialEq)]
pub struct MissedAlerts {
    /// By region that the client gave a position for: all missed alerts, oldest first, with what is left of those that
    /// were taken back. `None` if they are unknown or too many for the answer.
    pub regions: BTreeMap<Region, Option<Vec<Logged>>>,
    /// Whether that covers all of `ALL`, which stands for the first [`REGIONS_OF_ALL_MAX`] regions.
    pub covers_all: bool,
}

/// Finds where a subscription to `audiences` begins, and the alerts that were missed before. Call it after the
/// subscription was written: then a new alert is in the answer, or is pushed, or both.
pub async fn resume(
    history: &History,
    audiences: &[Audience],
    since: Option<&Positions>,
) -> Result<Resumption, InternalError> {
    let standing = Standing::of(history, audiences, since).await?;
    let positions: Positions = standing.regions.iter().map(|region| (region.clone(), standing.head(region))).collect();
    let recovery = match since {
        None => None,
        Some(since) => {
            let regions = missed(history, &standing, since, room(&positions)).await?;
            Some(MissedAlerts { regions, covers_all: standing.covers_all })
        }
    };
    Ok(Resumption { positions, recovery, reconnect_within: reconnect_within(standing.entries.values()) })
}

/// Returns the regions of `audiences`, in ascending order, whose log does not end at the client's position: it has
/// newer alerts, or is another log. Regions without a position are left out, except under `ALL`: there they are new.
pub async fn behind(
    history: &History,
    audiences: &[Audience],
    since: Option<&Positions>,
) -> Result<Vec<Region>, InternalError> {
    let Some(since) = since else { return Ok(Vec::new()) };
    let standing = Standing::of(history, audiences, Some(since)).await?;
    let is_behind = |region: &Region| {
        standing.since(region, since).is_some_and(|since| Gap::between(since, standing.head(region)) != Gap::Nothing)
    };
    let behind: BTreeSet<&Region> = standing.regions.iter().filter(|region| is_behind(region)).collect();
    Ok(behind.into_iter().cloned().collect())
}

/// The regions of `audiences`, and where their logs end.
pub(crate) struct Standing {
    /// The regions. `ALL` includes those that the client has positions of, although their log may be gone, and excludes
    /// the canary's. If there are too many, the named ones come first, then those with a position, then the others by
    /// name.
    pub(crate) regions: Vec<Region>,
    /// What the snapshot says of them, where they have a log.
    pub(crate) entries: SnapshotEntries,
    /// Whether these are all that `ALL` stands for.
    pub(crate) covers_all: bool,
    /// Whether `ALL` is among the audiences.
    all: bool,
    now: Timestamp,
}

impl Standing {
    pub(crate) async fn of(
        history: &History,
        audiences: &[Audience],
        since: Option<&Positions>,
    ) -> Result<Self, InternalError> {
        let named = audiences.iter().filter_map(|audience| match audience {
            Audience::Region(region) => Some(region.clone()),
            Audience::All | Audience::Everyone | Audience::Room(_) => None,
        });
        let mut regions: Vec<Region> = named.collect();
        let all = audiences.contains(&Audience::All);
        let mut entries =
            if all { history.snapshot.read_all().await? } else { history.snapshot.read(&regions).await? };
        if all {
            let is_asked_for = |region: &Region| !region.is_canary() || regions.contains(region);
            entries.retain(|region, _| is_asked_for(region));
            let known = since.into_iter().flat_map(Positions::regions).filter(|region| is_asked_for(region));
            let others: Vec<Region> = known.chain(entries.keys()).cloned().collect();
            regions.extend(others);
        }
        let mut seen = BTreeSet::new();
        regions.retain(|region| seen.insert(region.clone()));
        let covers_all = regions.len() <= REGIONS_OF_ALL_MAX;
        if !covers_all {
            tracing::warn!(regions = regions.len(), "more regions than ALL can name");
        }
        regions.truncate(REGIONS_OF_ALL_MAX);
        Ok(Self { regions, entries, covers_all, all, now: history.clock.now() })
    }

    /// The last position of a region.
    pub(crate) fn head(&self, region: &Region) -> Position {
        self.entries.get(region).map_or(Position::START, |entry| entry.position)
    }

    /// Returns the client's position in a region. `None` if it gave none.
    pub(crate) fn since(&self, region: &Region, since: &Positions) -> Option<Position> {
        since.get(region).or(self.all.then_some(Position::START))
    }

    /// How large an alert of a region may be.
    pub(crate) fn largest_bytes(&self, region: &Region) -> usize {
        self.entries.get(region).map_or(FRAME_BYTES_MAX, |entry| entry.largest_bytes)
    }

    /// Whether no alert of a region is left: the last one has expired.
    pub(crate) fn has_expired(&self, region: &Region) -> bool {
        self.entries.get(region).is_some_and(|entry| entry.committed_at.after(ALERT_TTL) <= self.now)
    }

    /// Returns the gap from a position to the head of a region. In an expired log it is [`Gap::Unknown`], without a
    /// read.
    pub(crate) fn gap(&self, region: &Region, since: Position) -> Gap {
        match Gap::between(since, self.head(region)) {
            Gap::Missed(_) if self.has_expired(region) => Gap::Unknown,
            gap => gap,
        }
    }
}

/// Bytes that an answer with these positions has left for alerts.
fn room(positions: &Positions) -> usize {
    let names: usize = positions.regions().map(|region| region.as_str().len() + r#""","#.len()).sum();
    let written = serde_json::to_string(positions).map_or(FRAME_BYTES_MAX, |text| text.len());
    FRAME_BYTES_MAX.saturating_sub(ANSWER_BYTES + names + written)
}

/// Reads the alerts that were missed since the positions, of as many regions as fit into `room` bytes of an answer.
async fn missed(
    history: &History,
    standing: &Standing,
    since: &Positions,
    room: usize,
) -> Result<BTreeMap<Region, Option<Vec<Logged>>>, InternalError> {
    let mut regions = BTreeMap::new();
    let mut wanted = Vec::new();
    for region in &standing.regions {
        let Some(since) = standing.since(region, since) else { continue };
        let gap = standing.gap(region, since);
        regions.insert(region.clone(), (gap == Gap::Nothing).then(Vec::new));
        if let Gap::Missed(span) = gap {
            let count = usize::try_from(span.count()).unwrap_or(usize::MAX);
            wanted.push(Wanted { region: region.clone(), span, count, largest_bytes: standing.largest_bytes(region) });
        }
    }
    let wanted = affordable(wanted);
    let spans: BTreeMap<Region, Span> = wanted.iter().map(|wanted| (wanted.region.clone(), wanted.span)).collect();
    // One frame more than there is room for, because a read reserves the size of the largest alert that a log may have.
    let budget = Budget { bytes: room + FRAME_BYTES_MAX, reads: LOG_READS_MAX };
    let mut whole = history.read(wanted, End::Oldest, budget).await?;
    whole.retain(|found| spans.get(&found.region).is_some_and(|span| span.is(&found.alerts)));
    whole.sort_by_cached_key(|found| found.alerts.iter().map(frame_bytes).sum::<usize>());
    let mut left = room;
    for Found { region, alerts, .. } in whole {
        match left.checked_sub(alerts.iter().map(frame_bytes).sum()) {
            Some(rest) => left = rest,
            None => break,
        }
        regions.insert(region, Some(alerts));
    }
    Ok(regions)
}

/// Keeps the regions whose missed alerts fit into an answer. Those that are certain to need little space come first.
fn affordable(mut wanted: Vec<Wanted>) -> Vec<Wanted> {
    wanted.sort_by_key(|wanted| wanted.count.saturating_mul(wanted.largest_bytes));
    let mut left = ALERTS_PER_PAGE_MAX;
    wanted.retain(|wanted| match left.checked_sub(wanted.count) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    wanted.truncate(RECOVERED_REGIONS_MAX);
    wanted
}

/// The time in which the largest audience can come back at its share of the connections per second.
fn reconnect_within<'a>(entries: impl Iterator<Item = &'a SnapshotEntry>) -> Duration {
    let audience = entries.filter_map(|entry| entry.audience).max();
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
    use crate::model::alert::{Alert, Removal, Video};

    fn at(epoch: i64, seq: u64) -> Position {
        Position { epoch, seq }
    }

    fn alert(position: Position) -> Logged {
        Logged::Alert(Alert {
            id: format!("a-{}", position.seq),
            region: "PL".parse().expect("a region"),
            position,
            video: serde_json::from_value::<Video>(json!({"id": "v", "title": "t"})).expect("a video"),
            at: Timestamp::from_millis(0),
        })
    }

    fn removed(position: Position) -> Logged {
        let Logged::Alert(Alert { id, region, position, at, .. }) = alert(position) else { panic!("an alert") };
        Logged::Removed(Removal { id, region, position, at })
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
        let wanted = |name: &str, count: usize, kb: usize| Wanted {
            region: name.parse().expect(name),
            span: Span { epoch: 9, first: 1, last: count as u64 },
            count,
            largest_bytes: kb * 1_024,
        };
        let names = |wanted: Vec<Wanted>| -> Vec<String> {
            affordable(wanted).into_iter().map(|wanted| wanted.region.to_string()).collect()
        };
        let max = ALERTS_PER_PAGE_MAX;
        assert_eq!(names(vec![wanted("AA", max, 1), wanted("BB", max - 1, 1), wanted("CC", 1, 1)]), ["CC", "BB"]);
        assert_eq!(names(vec![wanted("AA", 2, 32), wanted("BB", 9, 1)]), ["BB", "AA"], "by what they surely take");
        let many: Vec<Wanted> = (0..40).map(|n| wanted(&format!("R{n}"), 1, 1)).collect();
        assert_eq!(names(many).len(), RECOVERED_REGIONS_MAX);
    }

    #[test]
    fn the_window_of_reconnections_follows_the_largest_audience() {
        let check = |audiences: &[Option<u64>], ms: u64| {
            let entry = |audience: &Option<u64>| SnapshotEntry {
                position: at(9, 1),
                committed_at: Timestamp::from_millis(0),
                largest_bytes: 1_024,
                audience: *audience,
            };
            let entries: Vec<SnapshotEntry> = audiences.iter().map(entry).collect();
            assert_eq!(reconnect_within(entries.iter()), Duration::from_millis(ms), "{audiences:?}");
        };
        check(&[], 10_000);
        check(&[None], 10_000);
        check(&[Some(0)], 1_000);
        check(&[Some(10_000)], 40_000);
        check(&[Some(500), None, Some(10_000)], 40_000);
        check(&[Some(u64::MAX)], 600_000);
    }

    proptest! {
        /// Whatever items are left of a log, in whatever mixture with those of an older one: what is recovered is
        /// exactly what was missed. An alert that was taken back leaves no hole.
        #[test]
        fn only_what_is_whole_is_recovered(
            since in 0_u64..12,
            last in 0_u64..12,
            epoch in 8_i64..10,
            lost in proptest::collection::btree_set(1_u64..12, 0..3),
            old in proptest::collection::btree_set(1_u64..12, 0..2),
            taken_back in proptest::collection::btree_set(1_u64..12, 0..3),
        ) {
            let head = at(9, last);
            let logged = |seq| if taken_back.contains(&seq) { removed } else { alert };
            let alerts: Vec<Logged> = (since + 1..=last)
                .filter(|seq| !lost.contains(seq))
                .map(|seq| logged(seq)(at(if old.contains(&seq) { 8 } else { 9 }, seq)))
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
