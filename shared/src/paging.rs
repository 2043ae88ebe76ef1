//! The log in pages: the newest alerts, or those after a position.

use std::collections::{BTreeMap, VecDeque};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    alert::{Alert, Format, Position},
    audience::{Audience, Region},
    error::Failure,
    history::{self, End, History},
    limits::{CURSOR_BYTES_MAX, LOG_READS_IN_FLIGHT, PAGE_BYTES_MAX},
    position::{Positions, entry_bytes},
    resumption::{Gap, Span, regions},
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
pub struct Batch {
    /// The alerts, by region, oldest first.
    pub alerts: Vec<Alert>,
    /// Where each region was before them.
    pub from: Positions,
    /// Where each region is after them, and where the next page begins.
    pub positions: Positions,
    /// Whether there is a next page already.
    pub more: bool,
    /// Regions whose log cannot tell what came after the position: it is another, or does not reach back. They are at their
    /// end.
    pub not_recovered: Vec<Region>,
    /// Whether `ALL` stands for more regions than these, which are those that a cursor has place for.
    pub truncated: bool,
}

impl Batch {
    /// Whether nothing is missing up to `positions`.
    pub fn recovered(&self) -> bool {
        self.not_recovered.is_empty() && !self.truncated
    }
}

/// Reads a page of at most `limit` alerts, which are fewer where they are large.
pub async fn read(history: &History, audiences: &[Audience], begin: &Begin, limit: usize) -> Result<Batch, Failure> {
    let since = match begin {
        Begin::After(positions) => Some(positions),
        Begin::Newest | Begin::Head | Begin::Seq(_) => None,
    };
    let (regions, covers_all) = regions(history, audiences, since).await?;
    let known = history.positions(&regions).await?;
    let mut heads: Vec<(Region, Position)> = regions
        .into_iter()
        .map(|region| {
            let head = known.get(&region).copied().unwrap_or(Position::START);
            (region, head)
        })
        .collect();
    let fits = cut(&mut heads, since);
    let heads: BTreeMap<Region, Position> = heads.into_iter().collect();
    let at_head: Positions = heads.iter().map(|(region, head)| (region.clone(), *head)).collect();
    let all = audiences.contains(&Audience::All);
    let since = |region: &Region, head: Position| match begin {
        Begin::Newest | Begin::Head => head,
        Begin::Seq(seq) => Position { epoch: head.epoch, seq: *seq },
        Begin::After(positions) => positions.get(region).unwrap_or(if all { Position::START } else { head }),
    };
    let batch = match begin {
        Begin::Head => Batch { from: at_head.clone(), positions: at_head, ..Batch::default() },
        Begin::Newest => newest(history, &heads, at_head, limit).await?,
        Begin::Seq(_) | Begin::After(_) => {
            let starts = heads.iter().map(|(region, head)| Start {
                region: region.clone(),
                since: since(region, *head),
                head: *head,
            });
            after(history, starts.collect(), limit).await?
        }
    };
    Ok(Batch { truncated: !covers_all || !fits, ..batch })
}

/// Drops the last regions for which a cursor has no place, wherever between the client's position and the head it comes to
/// stand. Returns whether all have one.
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

/// The newest alerts of each region, an equal share of `limit` for each, rounded up, and of these the newest of all.
async fn newest(
    history: &History,
    heads: &BTreeMap<Region, Position>,
    at_head: Positions,
    limit: usize,
) -> Result<Batch, Failure> {
    let span = |head: &Position| Span { epoch: head.epoch, first: 1, last: head.seq };
    let logs: Vec<(Region, Span)> =
        heads.iter().filter(|(_, head)| head.seq > 0).map(|(region, head)| (region.clone(), span(head))).collect();
    let share = limit.div_ceil(logs.len().max(1));
    let mut read: Vec<VecDeque<Alert>> = stream::iter(logs)
        .map(|(region, span)| async move {
            let page = history.alerts(&region, span, share, End::Newest).await?;
            Ok::<_, Failure>(VecDeque::from(page.alerts))
        })
        .buffered(LOG_READS_IN_FLIGHT)
        .try_collect()
        .await?;
    drop_oldest(&mut read, limit);
    Ok(Batch {
        alerts: read.into_iter().flatten().collect(),
        from: at_head.clone(),
        positions: at_head,
        ..Batch::default()
    })
}

/// Takes the oldest alerts away, from the beginning of whichever region has them, until the rest fits on a page.
fn drop_oldest(regions: &mut [VecDeque<Alert>], limit: usize) {
    let mut count: usize = regions.iter().map(VecDeque::len).sum();
    let mut bytes: usize = regions.iter().flatten().map(bytes).sum();
    while count > limit || bytes > PAGE_BYTES_MAX {
        let first = |alerts: &&mut VecDeque<Alert>| alerts.front().map(|alert| alert.at);
        let oldest = regions.iter_mut().filter(|alerts| !alerts.is_empty()).min_by_key(first);
        let Some(alert) = oldest.and_then(VecDeque::pop_front) else { return };
        (count, bytes) = (count - 1, bytes - self::bytes(&alert));
    }
}

/// One region of a page after a position.
#[derive(Clone, Debug)]
struct Start {
    region: Region,
    since: Position,
    head: Position,
}

async fn after(history: &History, starts: Vec<Start>, limit: usize) -> Result<Batch, Failure> {
    let mut left = limit as u64;
    let mut wanted = Vec::new();
    for start in starts {
        let gap = Gap::between(start.since, start.head);
        let share = gap.count().min(left);
        left -= share;
        wanted.push((start, gap, usize::try_from(share).unwrap_or(usize::MAX)));
    }
    let read = stream::iter(wanted)
        .map(|(start, gap, share)| async move {
            let found = match gap {
                Gap::Nothing => Some(Vec::new()),
                Gap::Unknown => None,
                // Nothing is known of what there is no place for: the next page finds out.
                Gap::Missed(_) if share == 0 => Some(Vec::new()),
                Gap::Missed(span) => {
                    let page = history.alerts(&start.region, span, share, End::Oldest).await?;
                    beginning(span, share, page)
                }
            };
            Ok::<_, Failure>((start, found))
        })
        .buffered(LOG_READS_IN_FLIGHT)
        .try_collect()
        .await?;
    Ok(assemble(read, PAGE_BYTES_MAX))
}

/// The page, if it is the beginning of the span without a hole. It may be short only where DynamoDB says that more follows, and
/// empty never: the client would ask for the same again, at once and for ever.
fn beginning(span: Span, share: usize, page: history::Page) -> Option<Vec<Alert>> {
    let complete = page.alerts.len() == share || (!page.whole && !page.alerts.is_empty());
    Some(page.alerts).filter(|alerts| complete && span.begins_with(alerts))
}

/// Puts together what was found of each region, up to `bytes_max`.
fn assemble(read: Vec<(Start, Option<Vec<Alert>>)>, bytes_max: usize) -> Batch {
    let mut batch = Batch::default();
    let mut left = bytes_max;
    let mut full = false;
    for (Start { region, since, head }, found) in read {
        batch.from.set(region.clone(), since);
        let Some(alerts) = found else {
            batch.positions.set(region.clone(), head);
            batch.not_recovered.push(region);
            continue;
        };
        // In a log that has no alert yet, a client knows as much as there is.
        let mut reached = if since == Position::START { Position { seq: 0, ..head } } else { since };
        for alert in alerts {
            // One is always taken, or the next page would begin with the same.
            full |= !batch.alerts.is_empty() && bytes(&alert) > left;
            if full {
                break;
            }
            left = left.saturating_sub(bytes(&alert));
            reached = alert.position;
            batch.alerts.push(alert);
        }
        batch.more |= reached != head;
        batch.positions.set(region, reached);
    }
    batch
}

/// Bytes of an alert on a page.
fn bytes(alert: &Alert) -> usize {
    alert.frame(Format::ViralAlert).len()
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

    fn region(name: &str) -> Region {
        name.parse().expect(name)
    }

    fn alert(name: &str, seq: u64, title_bytes: usize, secs: i64) -> Alert {
        Alert {
            id: "a".to_owned(),
            region: region(name),
            position: at(9, seq),
            video: serde_json::from_value::<Video>(json!({"id": "v", "title": "t".repeat(title_bytes)}))
                .expect("a video"),
            at: Timestamp::from_millis(secs * 1_000),
        }
    }

    fn alerts(name: &str, seqs: std::ops::RangeInclusive<u64>) -> Vec<Alert> {
        seqs.map(|seq| alert(name, seq, 1, 0)).collect()
    }

    #[test]
    fn what_was_read_is_the_beginning_of_the_span_or_nothing() {
        let span = Span { epoch: 9, first: 3, last: 9 };
        let check = |alerts: Vec<Alert>, whole: bool, share: usize, taken: bool| {
            let found = beginning(span, share, history::Page { alerts: alerts.clone(), whole });
            assert_eq!(found, taken.then_some(alerts), "{whole} {share}");
        };
        check(alerts("PL", 3..=9), true, 7, true);
        check(alerts("PL", 3..=5), true, 3, true);
        check(alerts("PL", 3..=5), false, 7, true);
        check(alerts("PL", 3..=8), true, 7, false);
        check(alerts("PL", 4..=9), true, 7, false);
        check([alerts("PL", 3..=4), alerts("PL", 6..=9)].concat(), true, 7, false);
        check(Vec::new(), true, 7, false);
        // A megabyte of items, none of which can be read.
        check(Vec::new(), false, 7, false);
    }

    #[test]
    fn a_page_goes_on_after_its_last_alert_and_regions_that_are_lost_at_their_end() {
        let start = |name: &str, since, head| Start { region: region(name), since, head };
        let batch = assemble(
            vec![
                (start("AA", at(9, 2), at(9, 4)), Some(alerts("AA", 3..=4))),
                (start("BB", at(7, 2), at(9, 6)), None),
                (start("CC", at(9, 1), at(9, 8)), Some(alerts("CC", 2..=3))),
                (start("DD", Position::START, at(9, 1)), Some(Vec::new())),
                (start("EE", Position::START, Position::START), Some(Vec::new())),
            ],
            PAGE_BYTES_MAX,
        );
        assert_eq!(batch.positions.to_string(), "AA.9.4_BB.9.6_CC.9.3_DD.9.0_EE.0.0");
        assert_eq!(batch.from.to_string(), "AA.9.2_BB.7.2_CC.9.1_DD.0.0_EE.0.0");
        assert_eq!((batch.more, batch.recovered(), &batch.not_recovered), (true, false, &vec![region("BB")]));
        let lost = assemble(vec![(start("BB", at(7, 2), at(9, 6)), None)], PAGE_BYTES_MAX);
        assert!(!lost.more, "there is nothing to come back for");
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
        let queue = |name: &str, secs: &[i64]| -> VecDeque<Alert> {
            (1..).zip(secs).map(|(seq, secs)| alert(name, seq, 1, *secs)).collect()
        };
        let mut regions = vec![queue("AA", &[1, 5, 9]), queue("BB", &[2, 3]), VecDeque::new()];
        drop_oldest(&mut regions, 2);
        let left: Vec<_> = regions.iter().flatten().map(|alert| (alert.region.as_str(), alert.position.seq)).collect();
        assert_eq!(left, [("AA", 2), ("AA", 3)]);
    }

    proptest! {
        /// Page by page, whatever their sizes: every alert once and in order, and no page larger than allowed.
        #[test]
        fn pages_hold_every_alert_once(sizes in proptest::collection::vec(1_usize..400, 1..30), bytes_max in 300_usize..2_000) {
            let all: Vec<Alert> =
                (1..).zip(&sizes).map(|(seq, title_bytes)| alert("PL", seq, *title_bytes, 0)).collect();
            let head = at(9, all.len() as u64);
            let mut reached = Position::START;
            let mut read = Vec::new();
            for _ in 0..=sizes.len() {
                let rest = all.iter().filter(|alert| alert.position.seq > reached.seq).cloned().collect();
                let batch = assemble(vec![(Start { region: region("PL"), since: reached, head }, Some(rest))], bytes_max);
                let size: usize = batch.alerts.iter().map(bytes).sum();
                prop_assert!(size <= bytes_max || batch.alerts.len() == 1);
                reached = batch.positions.get(&region("PL")).expect("its position");
                read.extend(batch.alerts);
                if !batch.more {
                    break;
                }
            }
            prop_assert_eq!(read, all);
        }
    }
}
