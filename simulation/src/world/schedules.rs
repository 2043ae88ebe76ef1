//! The functions that run on a schedule and publish: the scorer, and the canary.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use shared::model::audience::CANARY;
use tokio::time::{Instant, sleep_until};

use crate::{
    cloud::{FunctionName, lock},
    world::{Run, journal::Published, publishers::told},
};

/// The event of a schedule.
const SCHEDULE: &[u8] = br#"{"source": "aws.events", "detail-type": "Scheduled Event"}"#;

/// Runs after the last fault, and the time between them.
const LAST_RUNS: u32 = 3;
const LAST_PAUSE: Duration = Duration::from_secs(60);

impl Run {
    /// Runs the scorer on a feed of these regions.
    pub(super) async fn score(self: &Arc<Self>, regions: Vec<String>, pause_ms: u64) {
        self.cloud.open_feed(regions);
        self.regularly(FunctionName::Scorer, pause_ms, || self.cloud.move_feed_on()).await;
    }

    /// Runs the canary.
    pub(super) async fn watch(self: &Arc<Self>, pause_ms: u64) {
        self.regularly(FunctionName::Canary, pause_ms, || {}).await;
    }

    /// Invokes a function regularly until faults end, and some times more.
    async fn regularly(&self, function: FunctionName, pause_ms: u64, before: impl Fn()) {
        let pause = Duration::from_millis(pause_ms);
        let mut last_runs = 0;
        while last_runs < LAST_RUNS && !self.is_over() {
            let is_last = self.cloud.calm_since_ms().is_some();
            last_runs += u32::from(is_last);
            before();
            self.cloud.invoke_later(function, SCHEDULE.to_vec());
            let next = Instant::now() + if is_last { LAST_PAUSE } else { pause.min(self.until_calm() + LAST_PAUSE) };
            sleep_until(next.min(self.ends_at())).await;
        }
    }

    /// Notes in the journal what scorer and canary have published.
    pub(super) fn note_scheduled(&self) {
        let mut journal = lock(&self.journal);
        for (video, announced) in self.cloud.announced() {
            let (region, sent_ms) = (announced.region, announced.at_ms);
            let record =
                Published { region, sent_ms, has_key: true, attempts: 1, is_queued: true, ..Published::default() };
            journal.publications.insert(video, record);
        }
        for (run, published) in self.cloud.canary_publications() {
            let (sent_ms, attempts) = (published.sent_ms, published.attempts);
            let answers = published.answers.iter().map(told).collect();
            let record = Published { region: CANARY.to_owned(), sent_ms, answers, attempts, ..Published::default() };
            journal.publications.insert(run, record);
        }
    }

    /// Guarantee 12: what rose was announced, and what was announced is in the log.
    pub(super) fn check_announced(&self) {
        let cloud = &self.cloud;
        let announced = cloud.announced();
        for video in cloud.found().iter().filter(|video| !announced.contains_key(*video)) {
            cloud.breaks(12, format!("{video} was found viral, and not announced"));
        }
        if cloud.planned().is_calm() {
            for (video, region) in cloud.risen() {
                if !announced.contains_key(&video) {
                    cloud.breaks(12, format!("{video} of {region} went viral, and was not announced"));
                }
            }
        }
        for item in cloud.store().items("ScoresTable") {
            let rises = item["rises"]["S"].as_str().and_then(|rises| serde_json::from_str::<Value>(rises).ok());
            let left = rises.map(|rises| rises["outbox"].clone()).unwrap_or_default();
            if left.as_array().is_none_or(|left| !left.is_empty()) {
                cloud.breaks(12, format!("{} waits to be announced: {left}", item["region"]["S"]));
            }
        }
        let log = self.log();
        let (settings, taken_back) = (&cloud.settings, lock(&self.journal).removals.clone());
        let is_limited = settings.alerts_per_minute < 600 || log.len() >= settings.regions_max as usize;
        for (video, announced) in announced {
            let is_there = log
                .get(&announced.region)
                .is_some_and(|alerts| alerts.values().any(|logged| logged.video.as_deref() == Some(&video)))
                || taken_back.iter().any(|removed| removed.video == video);
            if !is_there && settings.has_operator && !is_limited {
                cloud.breaks(12, format!("{video} of {} was announced, and is not in the log", announced.region));
            }
        }
    }
}
