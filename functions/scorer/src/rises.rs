//! Rises of videos in one region: what has been seen of each video, when one goes viral, and what has to be announced
//! of it. A rise begins when a score reaches the threshold, and ends when it falls below [`RISE_END_SHARE`] of that;
//! each is announced once.

use std::collections::{BTreeMap, VecDeque};

use clock::Timestamp;
use serde::{Deserialize, Serialize};

use crate::score::{Growth, Score, Snapshot, Usual};
use shared::{
    limits::{
        DIP_MAX, GROWTH_TIME_MIN, GROWTHS_MAX, OUTBOX_MAX, RISE_END_SHARE, VIDEO_FORGOTTEN_AFTER, WATCHED_VIDEOS_MAX,
    },
    model::audience::Region,
};

/// A video, as the feed names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedVideo {
    pub id: String,
    pub title: String,
    /// Address of its picture, where it has one.
    pub thumbnail: Option<String>,
    /// Who published it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Where it is, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A video and its count, as the feed has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Which video.
    pub video: FeedVideo,
    /// Its count.
    pub snapshot: Snapshot,
}

/// That a video went viral: what publish takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// Names the rise, so that a repeat is known as one.
    pub id: String,
    pub region: String,
    /// What, with its score.
    pub video: ScoredVideo,
}

/// A video with its score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredVideo {
    /// Which video.
    #[serde(flatten)]
    pub video: FeedVideo,
    /// How viral it is.
    pub score: Score,
}

/// What a score meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RiseChange {
    None,
    /// A rise began.
    Begun,
    /// A rise ended.
    Ended,
}

/// How one observation was judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The video's id.
    pub video: String,
    /// The count.
    pub snapshot: Snapshot,
    /// Its score. None where the count fell, was not there long enough, or the region has too little history.
    pub score: Option<Score>,
    /// What followed.
    pub change: RiseChange,
}

/// All that is known of a region. It fits in an item of DynamoDB, which the limits assert.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rises {
    /// What has been usual, the newest last.
    growths: VecDeque<Growth>,
    videos: BTreeMap<String, Watched>,
    /// What has to be announced and is not known to be, the oldest first.
    outbox: Vec<Announcement>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Watched {
    /// The one before the newest, once there are two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    older: Option<Snapshot>,
    newest: Snapshot,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    rising: bool,
}

/// What an observation says beside what was known of the video.
enum Measured {
    Growth(Growth),
    Unchanged,
    Unknown,
}

impl Rises {
    /// Judges what the feed says, in the order of time, and remembers it. Observations that are not newer than what is
    /// known say nothing. All are measured against what was usual before.
    pub fn observe(&mut self, region: &Region, mut observations: Vec<Observation>, threshold: f64) -> Vec<Judged> {
        observations.sort_by(|a, b| (a.snapshot.at, &a.video.id).cmp(&(b.snapshot.at, &b.video.id)));
        let usual = Usual::of(self.growths.iter().copied());
        let judged = observations.into_iter().filter_map(|seen| self.judge(region, seen, usual.as_ref(), threshold));
        let judged = judged.collect();
        self.forget();
        judged
    }

    /// What has to be announced, at most [`OUTBOX_MAX`].
    pub fn outbox(&self) -> &[Announcement] {
        &self.outbox
    }

    /// Removes from the outbox what has been announced.
    pub fn announced(&mut self, ids: &[String]) {
        self.outbox.retain(|announcement| !ids.contains(&announcement.id));
    }

    fn judge(
        &mut self,
        region: &Region,
        Observation { video, snapshot }: Observation,
        usual: Option<&Usual>,
        threshold: f64,
    ) -> Option<Judged> {
        let judged = |score, change| Some(Judged { video: video.id.clone(), snapshot, score, change });
        let Some(watched) = self.videos.get_mut(&video.id) else {
            self.videos.insert(video.id.clone(), Watched { older: None, newest: snapshot, rising: false });
            return judged(None, RiseChange::None);
        };
        if snapshot.at <= watched.newest.at {
            return None;
        }
        let (measured, noted) = watched.measure(snapshot);
        self.growths.extend(noted.map(Growth::rounded));
        let score = match (measured, usual) {
            (Measured::Growth(growth), Some(usual)) => Score::of(growth, usual),
            (Measured::Unchanged, _) => Score::NONE,
            _ => return judged(None, RiseChange::None),
        };
        if watched.rising && score.get() < threshold * RISE_END_SHARE {
            watched.rising = false;
            return judged(Some(score), RiseChange::Ended);
        }
        if watched.rising || score == Score::NONE || score.get() < threshold || self.outbox.len() >= OUTBOX_MAX {
            return judged(Some(score), RiseChange::None);
        }
        watched.rising = true;
        let judged = judged(Some(score), RiseChange::Begun);
        self.outbox.push(Announcement {
            id: format!("rise:{region}:{}:{}", video.id, snapshot.at.millis()),
            region: region.to_string(),
            video: ScoredVideo { video, score },
        });
        judged
    }

    /// Keeps within the bounds. What has risen stays in the outbox until it is announced.
    fn forget(&mut self) {
        self.growths.drain(..self.growths.len().saturating_sub(GROWTHS_MAX));
        let Some(now) = self.videos.values().map(|watched| watched.newest.at).max() else { return };
        self.videos.retain(|_, watched| now.since(watched.newest.at) <= VIDEO_FORGOTTEN_AFTER);
        if self.videos.len() > WATCHED_VIDEOS_MAX {
            let mut seen: Vec<Timestamp> = self.videos.values().map(|watched| watched.newest.at).collect();
            seen.sort_unstable_by(|a, b| b.cmp(a));
            let oldest_kept = seen[WATCHED_VIDEOS_MAX - 1];
            let mut room = WATCHED_VIDEOS_MAX - seen.iter().filter(|at| **at > oldest_kept).count();
            // Of those seen at the last moment that is kept, the first by id.
            self.videos.retain(|_, watched| match watched.newest.at.cmp(&oldest_kept) {
                std::cmp::Ordering::Equal if room > 0 => {
                    room -= 1;
                    true
                }
                order => order.is_gt(),
            });
        }
    }
}

impl Watched {
    /// Measures a later snapshot against one that is long enough before it, and keeps it when the newest is. The growth
    /// that is noted as usual is that between kept snapshots: one each time.
    fn measure(&mut self, snapshot: Snapshot) -> (Measured, Option<Growth>) {
        if snapshot.views < self.newest.views {
            // The peak stays, so that what is regained after a dip does not count as growth.
            if snapshot.at.since(self.newest.at) <= DIP_MAX {
                return (Measured::Unknown, None);
            }
            (self.older, self.newest) = (None, snapshot);
            return (Measured::Unchanged, None);
        }
        let of = |before| Growth::between(before, snapshot).map_or(Measured::Unchanged, Measured::Growth);
        if snapshot.at.since(self.newest.at) < GROWTH_TIME_MIN {
            return (self.older.map_or(Measured::Unknown, of), None);
        }
        let (measured, noted) = (of(self.newest), Growth::between(self.newest, snapshot));
        (self.older, self.newest) = (Some(self.newest), snapshot);
        (measured, noted)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THRESHOLD: f64 = 85.0;
    const HOUR: i64 = 60;

    fn region() -> Region {
        "PL".parse().expect("a region")
    }

    fn seen(id: &str, minute: i64, views: u64) -> Observation {
        let video = FeedVideo { id: id.to_owned(), title: "t".to_owned(), thumbnail: None, channel: None, url: None };
        Observation { video, snapshot: Snapshot { at: Timestamp::from_millis(minute * 60_000), views } }
    }

    /// A region in which 30 videos grow about alike until the minute 0.
    fn usual() -> Rises {
        let mut rises = Rises::default();
        for (minute, factor) in [(-HOUR, 100), (0, 110)] {
            let others = (0..30).map(|n| seen(&format!("other-{n}"), minute, (1_000 + 100 * n) * factor));
            rises.observe(&region(), others.collect(), THRESHOLD);
        }
        rises
    }

    fn change(rises: &mut Rises, id: &str, minute: i64, views: u64) -> (Option<f64>, RiseChange) {
        let judged = rises.observe(&region(), vec![seen(id, minute, views)], THRESHOLD);
        let [judged] = judged.as_slice() else { panic!("{judged:?}") };
        (judged.score.map(Score::get), judged.change)
    }

    #[test]
    fn a_rise_is_announced_once_and_the_next_one_again() {
        let mut rises = usual();
        assert_eq!(change(&mut rises, "v", 0, 100_000), (None, RiseChange::None), "the first count");
        assert_eq!(change(&mut rises, "v", HOUR, 900_000).1, RiseChange::Begun);
        assert_eq!(change(&mut rises, "v", 2 * HOUR, 1_700_000).1, RiseChange::None, "it goes on");
        assert_eq!(change(&mut rises, "v", 3 * HOUR, 1_700_100), (Some(0.0), RiseChange::Ended));
        assert_eq!(change(&mut rises, "v", 4 * HOUR, 9_000_000).1, RiseChange::Begun);
        let ids: Vec<_> = rises.outbox().iter().map(|announcement| announcement.id.clone()).collect();
        assert_eq!(ids, ["rise:PL:v:3600000", "rise:PL:v:14400000"]);
        rises.announced(&ids[..1]);
        assert_eq!(rises.outbox().len(), 1);
    }

    #[test]
    fn a_score_between_the_two_thresholds_neither_begins_nor_ends_a_rise() {
        // A count between the two, found by trying.
        let between = |rises: &Rises, id: &str, minute: i64, before: u64| {
            let scored = |views: &u64| change(&mut rises.clone(), id, minute, *views).0.unwrap_or_default();
            let found = (before..2 * before).step_by(500).find(|views| (62.0..83.0).contains(&scored(views)));
            found.expect("some count")
        };
        let mut rises = usual();
        change(&mut rises, "v", 0, 100_000);
        let views = between(&rises, "v", HOUR, 100_000);
        assert_eq!(change(&mut rises, "v", HOUR, views).1, RiseChange::None, "none begins");
        assert_eq!(change(&mut rises, "v", 2 * HOUR, views + 900_000).1, RiseChange::Begun);
        let views = between(&rises, "v", 3 * HOUR, views + 900_000);
        assert_eq!(change(&mut rises, "v", 3 * HOUR, views).1, RiseChange::None, "none ends");
    }

    #[test]
    fn what_is_regained_after_a_dip_is_no_growth_and_a_dip_ends_no_rise() {
        let mut rises = usual();
        change(&mut rises, "v", 0, 100_000);
        assert_eq!(change(&mut rises, "v", HOUR, 1_000_000).1, RiseChange::Begun);
        assert_eq!(change(&mut rises, "v", 2 * HOUR, 500_000), (None, RiseChange::None));
        change(&mut rises, "w", 0, 1_000_000);
        change(&mut rises, "w", HOUR, 400_000);
        let (score, change) = change(&mut rises, "w", 2 * HOUR, 1_000_010);
        assert!(score < Some(1.0) && change == RiseChange::None, "{score:?}");
    }

    #[test]
    fn a_count_that_stays_lower_is_believed_after_two_days() {
        let mut rises = usual();
        change(&mut rises, "v", 0, 1_000_000);
        assert_eq!(change(&mut rises, "v", 48 * HOUR, 100_000), (None, RiseChange::None));
        assert_eq!(change(&mut rises, "v", 49 * HOUR, 100_001), (Some(0.0), RiseChange::None));
        assert_eq!(change(&mut rises, "v", 50 * HOUR, 900_000).1, RiseChange::Begun);
    }

    #[test]
    fn counts_in_short_succession_are_measured_over_half_an_hour_at_least() {
        let mut rises = usual();
        change(&mut rises, "v", 0, 100_000);
        assert_eq!(change(&mut rises, "v", 5, 100_000).0, None);
        assert!(change(&mut rises, "v", 30, 101_000).0.is_some());
        let (growths, score) = (rises.growths.len(), change(&mut rises, "v", 35, 101_100).0);
        assert!(
            score.is_some() && rises.growths.len() == growths,
            "measured from the minute 0, and not noted as usual"
        );
        assert_eq!(rises.observe(&region(), vec![seen("v", 30, 999_999)], THRESHOLD), [], "not newer");
    }

    #[test]
    fn a_full_outbox_puts_rises_off() {
        let mut rises = usual();
        let all = |minute, views| (0..OUTBOX_MAX + 2).map(|n| seen(&format!("v-{n:02}"), minute, views)).collect();
        rises.observe(&region(), all(0, 100_000), THRESHOLD);
        rises.observe(&region(), all(HOUR, 2_000_000), THRESHOLD);
        assert_eq!(rises.outbox().len(), OUTBOX_MAX);
        let ids: Vec<_> = rises.outbox().iter().map(|announcement| announcement.id.clone()).collect();
        rises.announced(&ids);
        rises.observe(&region(), all(HOUR + 5, 2_200_000), THRESHOLD);
        let late: Vec<_> = rises.outbox().iter().map(|announcement| announcement.video.video.id.as_str()).collect();
        assert_eq!(late, ["v-10", "v-11"]);
    }

    #[test]
    fn what_is_remembered_has_bounds_and_survives_being_stored() {
        let mut rises = Rises::default();
        let ids = (0..WATCHED_VIDEOS_MAX as i64 + 50).map(|n| format!("v-{n:03}")).collect::<Vec<_>>();
        for hour in 0..5 {
            let all = ids.iter().enumerate().map(|(n, id)| seen(id, hour * HOUR, 1_000 + hour as u64 * (n as u64 + 1)));
            rises.observe(&region(), all.collect(), THRESHOLD);
        }
        assert_eq!((rises.videos.len(), rises.growths.len()), (WATCHED_VIDEOS_MAX, GROWTHS_MAX));
        let stored = serde_json::to_string(&rises).expect("serialisable");
        assert_eq!(serde_json::from_str::<Rises>(&stored).expect("readable"), rises);
        rises.observe(&region(), vec![seen("new", 8 * 24 * HOUR, 1)], THRESHOLD);
        assert_eq!(rises.videos.keys().collect::<Vec<_>>(), ["new"], "the others were last seen a week ago");
    }

    proptest! {
        #[test]
        fn counts_that_never_rise_begin_no_rise(
            mut counts in proptest::collection::vec(any::<u64>(), 2..20),
            minutes in 1..10_000_i64,
        ) {
            counts.sort_unstable_by(|a, b| b.cmp(a));
            let mut rises = usual();
            for (step, views) in counts.into_iter().enumerate() {
                let judged = rises.observe(&region(), vec![seen("v", step as i64 * minutes, views)], THRESHOLD);
                prop_assert!(judged.iter().all(|judged| judged.change != RiseChange::Begun), "{judged:?}");
            }
            prop_assert!(rises.outbox().is_empty());
        }
    }
}
