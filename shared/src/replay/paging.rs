//! The log in pages: the newest alerts, or those after a position.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

use crate::{
    error::InternalError,
    limits::{CURSOR_BYTES_MAX, LOG_READS_MAX, PAGE_BYTES_MAX, RECOVERED_REGIONS_MAX},
    model::{
        alert::{Logged, Position},
        audience::{Audience, Region},
        position::{Positions, Span, entry_bytes},
    },
    replay::resumption::{Gap, Standing},
    tables::alerts::{
        history::{Budget, End, Found, History, Wanted},
        snapshot::SnapshotEntry,
    },
};

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// So that the newest alerts are on it.
    Newest,
    /// At the end: it holds no alert.
    Head,
    /// After a number in the present log of the one region that is asked for.
    Seq(u64),
    /// After positions. Regions that they do not name are taken from their end; under `ALL`, from their beginning.
    After(Positions),
}

/// Some alerts of one or several logs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogPage {
    /// The alerts, by region, oldest first, with what is left of those that were taken back.
    pub alerts: Vec<Logged>,
    /// Where each region was before them.
    pub from: Positions,
    /// Where each region is after them, and where the next page begins.
    pub positions: Positions,
    /// Whether there is a next page already.
    pub more: bool,
    /// Regions whose log is another one than the position's, or does not reach back to it. Their new position is the
    /// end of their log.
    pub not_recovered: Vec<Region>,
    /// Whether `ALL` has more regions than a cursor can name, so that some are not on this page.
    pub truncated: bool,
}

impl LogPage {
    /// Whether nothing is missing up to `positions`.
    pub fn recovered(&self) -> bool {
        self.not_recovered.is_empty() && !self.truncated
    }
}

/// Reads a page of at most `limit` alerts; of fewer if they are large.
pub async fn read(
    history: &History,
    audiences: &[Audience],
    begin: &Begin,
    limit: usize,
) -> Result<LogPage, InternalError> {
    let since = match begin {
        Begin::After(positions) => Some(positions),
        Begin::Newest | Begin::Head | Begin::Seq(_) => None,
    };
    let standing = Standing::of(history, audiences, since).await?;
    let mut heads: Vec<(Region, Position)> =
        standing.regions.iter().map(|region| (region.clone(), standing.head(region))).collect();
    let fits = cut(&mut heads, since);
    let heads: BTreeMap<Region, Position> = heads.into_iter().collect();
    let at_head: Positions = heads.iter().map(|(region, head)| (region.clone(), *head)).collect();
    let since = |region: &Region, head: Position| match begin {
        Begin::Newest | Begin::Head => head,
        Begin::Seq(seq) => Position { epoch: head.epoch, seq: *seq },
        Begin::After(positions) => standing.since(region, positions).unwrap_or(head),
    };
    let batch = match begin {
        Begin::Head => LogPage { from: at_head.clone(), positions: at_head, ..LogPage::default() },
        Begin::Newest => newest(history, &standing, at_head, limit).await?,
        Begin::Seq(_) | Begin::After(_) => {
            let starts = heads.iter().map(|(region, head)| PageStart {
                region: region.clone(),
                since: since(region, *head),
                head: *head,
            });
            after(history, &standing, starts.collect(), limit).await?
        }
    };
    Ok(LogPage { truncated: !standing.covers_all || !fits, ..batch })
}

/// What a page may read.
const BUDGET: Budget = Budget { bytes: PAGE_BYTES_MAX, reads: LOG_READS_MAX };

/// Drops the last regions for which a cursor has no room, for any position from the client's to the head. Returns
/// whether all fit.
fn cut(heads: &mut Vec<(Region, Position)>, since: Option<&Positions>) -> bool {
    let mut left = CURSOR_BYTES_MAX;
    let count = heads.len();
    let mut full = false;
    heads.retain(|(region, head)| {
        let since = since.and_then(|since| since.get(region)).unwrap_or(Position::START);
        let bytes = entry_bytes(region, *head).max(entry_bytes(region, since));
        full |= bytes > left;
        left = left.saturating_sub(bytes);
        !full
    });
    if full {
        tracing::warn!(regions = count, "more regions than a cursor can name");
    }
    !full
}

/// Reads the regions that had an alert last, an equal share of `limit` of each, rounded up, and keeps the newest
/// `limit` of these alerts.
async fn newest(
    history: &History,
    standing: &Standing,
    at_head: Positions,
    limit: usize,
) -> Result<LogPage, InternalError> {
    let mut logs: Vec<(&Region, &SnapshotEntry)> = standing.entries.iter().collect();
    logs.retain(|(region, _)| at_head.get(region).is_some() && !standing.has_expired(region));
    logs.sort_by_key(|(_, entry)| Reverse(entry.committed_at));
    logs.truncate(RECOVERED_REGIONS_MAX);
    let share = limit.div_ceil(logs.len().max(1));
    let wanted = logs.into_iter().map(|(region, entry)| {
        let span = Span { epoch: entry.position.epoch, first: 1, last: entry.position.seq };
        wanted(region, span, share, entry.largest_bytes)
    });
    let found = history.read(wanted.collect(), End::Newest, BUDGET).await?;
    let mut read: BTreeMap<Region, VecDeque<Logged>> =
        found.into_iter().map(|found| (found.region, found.alerts.into())).collect();
    drop_oldest(&mut read, limit);
    Ok(LogPage {
        alerts: read.into_values().flatten().collect(),
        from: at_head.clone(),
        positions: at_head,
        ..LogPage::default()
    })
}

/// Up to `count` alerts of a span.
fn wanted(region: &Region, span: Span, count: usize, largest_bytes: usize) -> Wanted {
    let count = count.min(usize::try_from(span.count()).unwrap_or(usize::MAX));
    Wanted { region: region.clone(), span, count, largest_bytes }
}

/// Removes the oldest alerts of all regions until at most `limit` are left.
fn drop_oldest(regions: &mut BTreeMap<Region, VecDeque<Logged>>, limit: usize) {
    let mut count: usize = regions.values().map(VecDeque::len).sum();
    while count > limit {
        let first = |alerts: &&mut VecDeque<Logged>| alerts.front().map(Logged::at);
        let oldest = regions.values_mut().filter(|alerts| !alerts.is_empty()).min_by_key(first);
        if oldest.and_then(VecDeque::pop_front).is_none() {
            return;
        }
        count -= 1;
    }
}

/// One region of a page after a position.
#[derive(Clone, Debug)]
struct PageStart {
    region: Region,
    since: Position,
    head: Position,
}

async fn after(
    history: &History,
    standing: &Standing,
    starts: Vec<PageStart>,
    limit: usize,
) -> Result<LogPage, InternalError> {
    let mut left = limit;
    let mut logs = Vec::new();
    let mut found: BTreeMap<Region, Option<Vec<Logged>>> = BTreeMap::new();
    for PageStart { region, since, .. } in &starts {
        // The next page finds out what this one is too small to say.
        let gap = standing.gap(region, *since);
        found.insert(region.clone(), (gap != Gap::Unknown).then(Vec::new));
        if let Gap::Missed(span) = gap
            && left > 0
            && logs.len() < RECOVERED_REGIONS_MAX
        {
            let wanted = wanted(region, span, left, standing.largest_bytes(region));
            left -= wanted.count;
            logs.push(wanted);
        }
    }
    for Found { region, alerts, hole } in history.read(logs, End::Oldest, BUDGET).await? {
        // The alerts before a hole are delivered; the next page begins at the hole.
        let is_lost = hole && alerts.is_empty();
        found.insert(region, (!is_lost).then_some(alerts));
    }
    Ok(assemble(starts, found))
}

/// Puts together what was found of each region: none where its log cannot tell what came after the position.
fn assemble(starts: Vec<PageStart>, mut found: BTreeMap<Region, Option<Vec<Logged>>>) -> LogPage {
    let mut batch = LogPage::default();
    for PageStart { region, since, head } in starts {
        batch.from.set(region.clone(), since);
        let Some(alerts) = found.remove(&region).flatten() else {
            batch.positions.set(region.clone(), head);
            batch.not_recovered.push(region);
            continue;
        };
        // In a log that has no alert yet, a client knows as much as there is.
        let start = if since == Position::START { Position { seq: 0, ..head } } else { since };
        let reached = alerts.last().map_or(start, Logged::position);
        batch.alerts.extend(alerts);
        batch.more |= reached != head;
        batch.positions.set(region, reached);
    }
    batch
}

#[cfg(test)]
mod tests {
    use clock::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::model::alert::{Alert, Video};

    fn at(epoch: i64, seq: u64) -> Position {
        Position { epoch, seq }
    }

    fn region(name: &str) -> Region {
        name.parse().expect(name)
    }

    fn alert(name: &str, seq: u64, secs: i64) -> Logged {
        Logged::Alert(Alert {
            id: "a".to_owned(),
            region: region(name),
            position: at(9, seq),
            video: serde_json::from_value::<Video>(json!({"id": "v", "title": "t"})).expect("a video"),
            at: Timestamp::from_millis(secs * 1_000),
        })
    }

    fn alerts(name: &str, seqs: std::ops::RangeInclusive<u64>) -> Vec<Logged> {
        seqs.map(|seq| alert(name, seq, 0)).collect()
    }

    #[test]
    fn a_page_goes_on_after_its_last_alert_and_regions_that_are_lost_at_their_end() {
        let logs = vec![
            ("AA", at(9, 2), at(9, 4), Some(alerts("AA", 3..=4))),
            ("BB", at(7, 2), at(9, 6), None),
            ("CC", at(9, 1), at(9, 8), Some(alerts("CC", 2..=3))),
            ("DD", Position::START, at(9, 1), Some(Vec::new())),
            ("EE", Position::START, Position::START, Some(Vec::new())),
        ];
        let batch = |logs: Vec<(&str, Position, Position, Option<Vec<Logged>>)>| {
            let starts = logs.iter().map(|(name, since, head, _)| PageStart {
                region: region(name),
                since: *since,
                head: *head,
            });
            assemble(starts.collect(), logs.iter().map(|(name, _, _, found)| (region(name), found.clone())).collect())
        };
        let lost = batch(vec![logs[1].clone()]);
        assert!(!lost.more, "there is nothing to come back for");
        let batch = batch(logs);
        assert_eq!(batch.positions.to_string(), "AA.9.4_BB.9.6_CC.9.3_DD.9.0_EE.0.0");
        assert_eq!(batch.from.to_string(), "AA.9.2_BB.7.2_CC.9.1_DD.0.0_EE.0.0");
        assert_eq!((batch.more, batch.recovered(), &batch.not_recovered), (true, false, &vec![region("BB")]));
    }

    #[test]
    fn regions_for_which_the_cursor_has_no_place_are_cut_and_the_countries_of_the_world_fit() {
        let heads = |count: usize, seq: u64| -> Vec<(Region, Position)> {
            let name =
                |n: usize| [n / 26, n % 26].map(|letter| char::from(b'A' + letter as u8)).iter().collect::<String>();
            (0..count).map(|n| (region(&name(n)), at(1_795_000_000_000, seq))).collect()
        };
        let mut countries = heads(249, 46_655);
        assert!(cut(&mut countries, None));
        assert_eq!(countries.len(), 249);
        let mut many = heads(300, 46_655);
        assert!(!cut(&mut many, None));
        let cursor = many.clone().into_iter().collect::<Positions>().to_string();
        assert!((CURSOR_BYTES_MAX - 20..CURSOR_BYTES_MAX).contains(&cursor.len()), "{}", cursor.len());
        assert_eq!(many[0].0, region("AA"), "the first stay");
        // The answer may also have to repeat where the client was.
        let since = heads(300, u64::MAX).into_iter().collect();
        let mut short = heads(300, 1);
        assert!(!cut(&mut short, Some(&since)));
        let cursor =
            short.iter().map(|(name, _)| (name.clone(), at(1_795_000_000_000, u64::MAX))).collect::<Positions>();
        assert!(cursor.to_string().len() < CURSOR_BYTES_MAX);
    }

    #[test]
    fn the_oldest_of_all_regions_make_place_for_the_newest() {
        let queue = |name: &str, secs: &[i64]| -> (Region, VecDeque<Logged>) {
            (region(name), (1..).zip(secs).map(|(seq, secs)| alert(name, seq, *secs)).collect())
        };
        let mut regions = [queue("AA", &[1, 5, 9]), queue("BB", &[2, 3]), queue("CC", &[])].into();
        drop_oldest(&mut regions, 2);
        let left: Vec<_> =
            regions.values().flatten().map(|alert| (alert.region().as_str(), alert.position().seq)).collect();
        assert_eq!(left, [("AA", 2), ("AA", 3)]);
    }
}
