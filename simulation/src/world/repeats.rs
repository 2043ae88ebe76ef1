//! Guarantee 7 of videos that stay viral: within the window one alert stands, and each that is withheld names it.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use rand::RngExt;
use serde_json::{Value, json};
use shared::limits::REPEAT_RISE_DEFAULT;
use tokio::time::sleep;

use crate::{
    cloud::{BEGAN_MS, FunctionName, Situation, lock},
    world::{
        Run,
        guarantees::Logged,
        journal::{Published, Told, Withheld},
        publishers::{told, videos},
    },
};

/// Attempts of a publisher that gets no answer, or is told to come again.
const ATTEMPTS: usize = 3;

impl Run {
    /// Several publish one video again and again, some of them with a key.
    pub(super) async fn viral(self: &Arc<Self>, number: usize, region: &str, window_s: u64, times: &[(u64, u32)]) {
        let video = videos(number, 1).remove(0);
        let record = Published {
            region: region.to_owned(),
            sent_ms: self.cloud.elapsed_ms(),
            window_s: Some(window_s),
            ..Published::default()
        };
        lock(&self.journal).publications.insert(video.clone(), record);
        let each = times.iter().enumerate().map(|(index, (after_ms, score))| {
            let mut publication = Self::publication(&video, region, None, 0);
            publication["repeat_window"] = json!(window_s);
            publication["video"]["score"] = json!(score);
            if index % 2 == 0 {
                publication["id"] = json!(format!("viral-{number}-{index}"));
            }
            let video = &video;
            async move {
                sleep(Duration::from_millis(*after_ms)).await;
                self.viral_once(&format!("publisher-{number}-{index}"), video, publication).await;
            }
        });
        join_all(each).await;
    }

    async fn viral_once(self: &Arc<Self>, lane: &str, video: &str, publication: Value) {
        for _ in 0..ATTEMPTS {
            if let Some(record) = lock(&self.journal).publications.get_mut(video) {
                record.attempts += 1;
            }
            let sent_ms = self.cloud.elapsed_ms();
            let request = json!({"headers": {"content-type": "application/json"}, "body": publication.to_string()});
            let (_, answer) = self.cloud.request(FunctionName::Publish, lane, "POST /publish", request).await;
            let told = told(&answer);
            let is_final = told.is_final();
            self.note_viral(video, &publication, sent_ms, &answer, told);
            if is_final {
                return;
            }
            let pause = self.cloud.draw(lane, |random| random.random_range(300..3_000_u64));
            sleep(Duration::from_millis(pause)).await;
        }
    }

    fn note_viral(&self, video: &str, publication: &Value, sent_ms: u64, answer: &Value, told: Told) {
        let mut journal = lock(&self.journal);
        if answer["reason"] == "recently_alerted" {
            self.cloud.reaches(Situation::RecentlyAlerted);
            journal.withheld.push(Withheld {
                video: video.to_owned(),
                region: answer["region"].as_str().unwrap_or_default().to_owned(),
                score: publication["video"]["score"].as_f64().unwrap_or_default(),
                sent_ms,
                epoch: answer["epoch"].as_i64().unwrap_or_default(),
                seq: answer["seq"].as_u64().unwrap_or_default(),
                id: answer["id"].as_str().unwrap_or_default().to_owned(),
            });
        }
        if let Some(record) = journal.publications.get_mut(video) {
            record.answers.push(told);
        }
    }

    /// Of two alerts of a video that stand, the later one came after the window or has risen; and who was withheld was
    /// told of one that stood, within the window, and had not risen.
    pub(super) fn check_repeats(&self) {
        let cloud = &self.cloud;
        let log = self.log();
        let journal = lock(&self.journal);
        // The clocks of two functions differ by twice as much as one may be off.
        let skew_ms = 2 * cloud.planned().skew_ms as i64;
        let has_risen = |from: Option<f64>, to: f64| from.is_some_and(|from| from + REPEAT_RISE_DEFAULT <= to);
        for (video, Published { region, window_s, .. }) in &journal.publications {
            let Some(window_s) = window_s else { continue };
            let window_ms = i64::try_from(window_s * 1_000).unwrap_or(i64::MAX);
            let is_its = |logged: &&Logged| logged.video.as_deref() == Some(video);
            let alerts: Vec<&Logged> =
                log.get(region).into_iter().flat_map(|log| log.values()).filter(is_its).collect();
            for pair in alerts.windows(2) {
                cloud.reaches(Situation::AlertedAgain);
                let apart_ms = pair[1].committed_ms - pair[0].committed_ms;
                let was_freed = journal.removals.iter().any(|removed| removed.video == *video);
                if apart_ms + skew_ms < window_ms
                    && !has_risen(pair[0].score, pair[1].score.unwrap_or_default())
                    && !was_freed
                {
                    let message = format!("{video} was alerted twice in {region} within {window_s} s: {pair:?}");
                    cloud.breaks(7, message);
                }
            }
        }
        for withheld in &journal.withheld {
            let Withheld { video, region, score, sent_ms, epoch, seq, id } = withheld;
            let window_s = journal.publications.get(video).and_then(|record| record.window_s).unwrap_or_default();
            let place = log.get(region).and_then(|log| log.get(seq));
            let place = place.filter(|logged| logged.epoch == *epoch && logged.id == *id);
            let Some(standing) = place.filter(|logged| logged.video.as_ref().is_none_or(|there| there == video)) else {
                cloud.breaks(1, format!("nothing in the log is what withheld {withheld:?}"));
                continue;
            };
            let end_ms = standing.committed_ms + i64::try_from(window_s * 1_000).unwrap_or(i64::MAX);
            let asked_ms = BEGAN_MS + i64::try_from(*sent_ms).unwrap_or(i64::MAX);
            let was_removed = journal
                .removals
                .iter()
                .any(|removed| removed.region == *region && removed.seq == *seq && removed.answered_ms < *sent_ms);
            if end_ms + skew_ms < asked_ms || has_risen(standing.score, *score) || was_removed {
                cloud.breaks(7, format!("{standing:?} does not stand in the way, and {withheld:?}"));
            }
        }
    }
}
