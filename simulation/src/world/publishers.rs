//! Those who publish, take back and read over HTTP.

use std::time::Duration;

use rand::RngExt;
use serde_json::{Value, json};
use shared::limits::PUBLICATIONS_MAX;
use tokio::time::sleep;

use crate::{
    cloud::{FunctionName, lock},
    world::{
        Run,
        items::Via,
        journal::{Published, Removed, Told},
    },
};

/// Attempts of a publisher that gets no answer, or is told to come again.
const ATTEMPTS: u32 = 4;

/// What somebody publishes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    /// The number of the item.
    pub(super) number: usize,
    pub(super) publisher: usize,
    pub(super) region: &'a str,
    pub(super) via: Via,
    pub(super) has_key: bool,
    /// Publications in one document.
    pub(super) count: usize,
    /// Bytes that each has beside its title.
    pub(super) bytes: usize,
}

/// The ids of the videos of an item.
pub(super) fn videos(number: usize, count: usize) -> Vec<String> {
    (0..count).map(|index| if index == 0 { format!("v{number}") } else { format!("v{number}.{index}") }).collect()
}

pub(super) fn told(answer: &Value) -> Told {
    if answer["published"] == true {
        return Told::Published {
            epoch: answer["epoch"].as_i64().unwrap_or_default(),
            seq: answer["seq"].as_u64().unwrap_or_default(),
            id: answer["id"].as_str().unwrap_or_default().to_owned(),
        };
    }
    match answer["error"]["code"].as_str().or(answer["reason"].as_str()) {
        Some(code) => Told::Refused(code.to_owned()),
        None => Told::Nothing,
    }
}

impl Run {
    pub(super) fn publication(video: &str, region: &str, key: Option<&str>, bytes: usize) -> Value {
        let mut publication =
            json!({"region": region, "video": {"id": video, "title": format!("Title of {video}"), "score": 97}});
        if let Some(key) = key {
            publication["id"] = json!(key);
        }
        if bytes > 0 {
            publication["video"]["description"] = json!("x".repeat(bytes));
        }
        publication
    }

    /// Publishes, and again where it has to, with a key or without one.
    pub(super) async fn publish(self: &std::sync::Arc<Self>, order: Order<'_>) {
        let Order { number, publisher, region, via, has_key, count, bytes } = order;
        let lane = format!("publisher-{publisher}");
        let videos = videos(number, count);
        let has_key = has_key || via == Via::Event;
        let publications: Vec<Value> = videos
            .iter()
            .map(|video| {
                let key = has_key.then_some(format!("key-{video}"));
                Self::publication(video, region, key.as_deref(), bytes)
            })
            .collect();
        let sent_ms = self.cloud.elapsed_ms();
        for video in &videos {
            let is_queued = via != Via::Http;
            let record =
                Published { region: region.to_owned(), sent_ms, has_key, is_queued, bytes, ..Published::default() };
            lock(&self.journal).publications.insert(video.clone(), record);
        }
        let body = match publications.as_slice() {
            [one] => one.clone(),
            several => json!({"publications": several}),
        };
        if via != Via::Http {
            let event = if via == Via::Event && count == 1 {
                let id = format!("event-{number}");
                json!({"id": id, "detail-type": "Video Went Viral", "source": "scorer", "detail": body})
            } else {
                body
            };
            for video in &videos {
                if let Some(record) = lock(&self.journal).publications.get_mut(video) {
                    record.attempts = 1;
                }
            }
            // At least once, and the bus may deliver an event twice.
            let times = if via == Via::Event && self.cloud.chance(&lane, 0.1) { 2 } else { 1 };
            for _ in 0..times {
                self.cloud.invoke_later(FunctionName::Publish, event.to_string().into_bytes());
            }
            return;
        }
        for attempt in 0..ATTEMPTS {
            let request = json!({"headers": {"content-type": "application/json"}, "body": body.to_string()});
            let (_, answer) = self.cloud.request(FunctionName::Publish, &lane, "POST /publish", request).await;
            let answers = answer["results"].as_array().cloned().unwrap_or_else(|| vec![answer.clone(); count]);
            let mut is_done = true;
            for (video, answer) in videos.iter().zip(&answers) {
                let told = told(answer);
                is_done &= told.is_final();
                if let Some(record) = lock(&self.journal).publications.get_mut(video) {
                    record.answers.push(told);
                    record.attempts = attempt + 1;
                }
            }
            if is_done || !has_key {
                return;
            }
            let pause = self.cloud.draw(&lane, |random| random.random_range(300..3_000_u64));
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Publishes to regions that are new, as many in one request as there may be.
    pub(super) async fn born(self: &std::sync::Arc<Self>, number: usize, count: usize) {
        let lane = format!("publisher-of-{number}");
        let regions: Vec<String> = (0..count).map(|index| format!("N{number}-{index}")).collect();
        for regions in regions.chunks(PUBLICATIONS_MAX) {
            let sent_ms = self.cloud.elapsed_ms();
            let mut publications = Vec::new();
            for region in regions {
                let video = format!("v{number}.{region}");
                publications.push(Self::publication(&video, region, None, 0));
                let record = Published { region: region.clone(), sent_ms, attempts: 1, ..Published::default() };
                lock(&self.journal).publications.insert(video, record);
            }
            let body = json!({"publications": publications}).to_string();
            let request = json!({"headers": {}, "body": body});
            let (_, answer) = self.cloud.request(FunctionName::Publish, &lane, "POST /publish", request).await;
            for (region, answer) in regions.iter().zip(answer["results"].as_array().into_iter().flatten()) {
                let video = format!("v{number}.{region}");
                if let Some(record) = lock(&self.journal).publications.get_mut(&video) {
                    record.answers.push(told(answer));
                }
            }
        }
    }

    /// Takes the first alert of an item back, once its publisher knows its place.
    pub(super) async fn remove(self: &std::sync::Arc<Self>, number: usize, of: usize) {
        let video = format!("v{of}");
        let lane = format!("operator-{number}");
        for _ in 0..20 {
            let place = lock(&self.journal).publications.get(&video).and_then(|record| {
                record.answers.iter().find_map(|told| match told {
                    Told::Published { epoch, seq, .. } => Some((record.region.clone(), *epoch, *seq)),
                    _ => None,
                })
            });
            if let Some((region, epoch, seq)) = place {
                let sent_ms = self.cloud.elapsed_ms();
                let request = json!({"pathParameters": {"region": region, "seq": seq.to_string()}, "headers": {}});
                let route = "DELETE /alerts/{region}/{seq}";
                let (_, answer) = self.cloud.request(FunctionName::Publish, &lane, route, request).await;
                if answer["removed"] == true {
                    let answered_ms = self.cloud.elapsed_ms();
                    let removed = Removed { video, region, epoch, seq, sent_ms, answered_ms };
                    lock(&self.journal).removals.push(removed);
                    return;
                }
            }
            if self.cloud.is_calm() && self.is_over() {
                return;
            }
            sleep(Duration::from_millis(1_500)).await;
        }
    }
}
