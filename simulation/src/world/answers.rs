//! Guarantee 1 of what is answered: each refusal has its reason, what nobody waits for is not lost, and a key stands
//! for one publication.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use shared::model::audience::CANARY;
use tokio::time::sleep;

use crate::{
    cloud::{FunctionName, Situation, lock},
    world::{
        Run,
        journal::{Published, Told},
        publishers::told,
    },
};

impl Run {
    /// Notes in the journal what events were answered.
    pub(super) fn note_events(&self) {
        let mut journal = lock(&self.journal);
        for (video, answer) in self.cloud.answered() {
            if let Some(published) = journal.publications.get_mut(&video) {
                let told = told(&answer);
                if matches!(told, Told::Refused(_)) {
                    self.cloud.reaches(Situation::EventRefused);
                }
                published.answers.push(told);
            }
        }
    }

    /// Each refusal is one that the log's rules explain, and each event is answered or a dead letter.
    pub(super) fn check_answers(&self) {
        let cloud = &self.cloud;
        let log = self.log();
        let regions = log.keys().filter(|region| *region != CANARY).count();
        let is_full = regions >= cloud.settings.regions_max as usize;
        for (video, published) in &lock(&self.journal).publications {
            let Published { region, answers, is_queued, reuses_key, .. } = published;
            for told in answers {
                let Told::Refused(code) = told else { continue };
                let is_explained = match code.as_str() {
                    // What is left open, and the limit: `check_log` and `check_allowances` ask more of them. An event
                    // that may pass later fails instead, so that it comes again.
                    "unavailable" | "outcome_unknown" | "rate_limited" => !is_queued,
                    // No log ends in the life of a world.
                    "too_many_regions" => is_full && !log.contains_key(region),
                    "idempotency_conflict" => *reuses_key,
                    // `check_repeats` asks more of it.
                    "recently_alerted" => published.window_s.is_some(),
                    _ => false,
                };
                if !is_explained {
                    cloud.breaks(1, format!("{video} of {region} was refused with {code}, and nothing explains it"));
                }
            }
            if *is_queued && answers.is_empty() && !cloud.is_dead_letter(video) {
                cloud.breaks(1, format!("{video} of {region} came by event, and was neither answered nor kept"));
            }
        }
    }

    /// Uses the idempotency key of a publication for another one, and then for the same once more.
    pub(super) async fn conflict(self: &Arc<Self>, number: usize, of: usize) {
        let video = format!("v{of}");
        let lane = format!("publisher-of-{number}");
        let first = loop {
            let known = lock(&self.journal).publications.get(&video).map(|record| {
                let is_place = |told: &&Told| matches!(told, Told::Published { .. });
                let place = record.answers.iter().find(is_place).cloned();
                (record.region.clone(), record.bytes, record.has_key, place)
            });
            match known {
                Some((region, bytes, true, Some(place))) => break (region, bytes, place),
                Some((_, _, false, _)) => return,
                _ if self.cloud.is_calm() && self.is_over() => return,
                _ => sleep(Duration::from_millis(1_500)).await,
            }
        };
        let (region, bytes, place) = first;
        let key = format!("key-{video}");
        let other = other(number);
        let sent_ms = self.cloud.elapsed_ms();
        let record = Published {
            region: region.clone(),
            sent_ms,
            attempts: 1,
            has_key: true,
            reuses_key: true,
            ..Published::default()
        };
        lock(&self.journal).publications.insert(other.clone(), record);
        let ask = async |of: &str| {
            let body = Self::publication(of, &region, Some(&key), bytes).to_string();
            let request = json!({"headers": {"content-type": "application/json"}, "body": body});
            self.cloud.request(FunctionName::Publish, &lane, "POST /publish", request).await.1
        };
        let answer = told(&ask(&other).await);
        self.cloud.reaches(Situation::KeyReused);
        if matches!(answer, Told::Published { .. }) {
            self.cloud.breaks(1, format!("{key} stands for {video}, and {other} was published with it: {answer:?}"));
        }
        if let Some(record) = lock(&self.journal).publications.get_mut(&other) {
            record.answers.push(answer);
        }
        let answer = ask(&video).await;
        let again = told(&answer);
        if matches!(again, Told::Published { .. }) && (again != place || answer["duplicate"] != true) {
            self.cloud.breaks(1, format!("{video} was published at {place:?}, and its repeat is answered {answer}"));
        }
        if matches!(again, Told::Refused(code) if code == "idempotency_conflict") {
            self.cloud.breaks(1, format!("{video} was refused with its own key: {answer}"));
        }
    }
}

/// The id of the video that is published with the key of another.
fn other(number: usize) -> String {
    format!("c{number}")
}
