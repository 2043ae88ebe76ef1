//! The feed of counts that the scorer reads, and the event bus that it announces on.
//!
//! Sources: `docs/scoring.md` for the form of the feed; EventBridge API reference, "PutEvents"; EventBridge user guide,
//! "Event delivery".

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand::{RngExt, seq::IndexedRandom};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::sleep;

use crate::{
    client::{Call, Reply},
    cloud::{BEGAN_MS, Cloud, FunctionName, SCORER_SOURCE, forms::later_event, lock},
};

/// The type of event that publish's rule goes by. Source: template.yaml.
const DETAIL_TYPE: &str = "Video Went Viral";

/// Videos of a region that grow as usual. With two growths of each the first feed is enough to score by.
const USUAL: u32 = 10;

/// Counts of a video in one feed.
const COUNTS: i64 = 3;

/// Minutes between two counts of a video. The scorer measures growth over half an hour.
const STEP_MIN: i64 = 40;

/// What the first count comes before the beginning of the world, in minutes: no count is of the future.
const BEFORE_MIN: i64 = 24 * 60;

/// Steps of a feed at most.
const STEPS_MAX: i64 = 30;

/// Share of events that the bus delivers twice.
const TWICE: f64 = 0.1;

/// What the feed has, and what the bus took.
#[derive(Default)]
pub(super) struct Feed {
    regions: Vec<String>,
    step: i64,
    /// Videos that the scorer has stored as viral.
    found: BTreeSet<String>,
    /// By the id of the video.
    announced: BTreeMap<String, Announced>,
}

/// That a video went viral, as the bus took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    pub region: String,
    /// When the bus took it first.
    pub at_ms: u64,
}

/// The video that goes viral in a region at a step.
fn riser(region: &str, step: i64) -> String {
    format!("rise-{region}-{step}")
}

fn entry(region: &str, id: &str, step: i64, views: i64) -> Value {
    let at = OffsetDateTime::from_unix_timestamp(BEGAN_MS / 1_000 + (step * STEP_MIN - BEFORE_MIN) * 60);
    let at = at.ok().and_then(|at| at.format(&Rfc3339).ok());
    let video = json!({"id": id, "title": format!("Title of {id}"), "thumbnail": null});
    json!({"region": region, "video": video, "views": views, "at": at})
}

/// The entries of a feed at a step: of each video the last counts.
fn entries(regions: &[String], step: i64) -> Vec<Value> {
    let mut entries = Vec::new();
    for region in regions {
        for at in step - COUNTS + 1..=step {
            for video in 0..i64::from(USUAL) {
                // So much alike that none of them ever rises.
                let views = 1_000 + (at + COUNTS) * (100 + video);
                entries.push(entry(region, &format!("usual-{region}-{video}"), at, views));
            }
            // Those that rise at this step, have risen, or will: before that they grow as others do.
            for rises_at in (step - 2..=step + 2).filter(|rises_at| at >= rises_at - 2) {
                let gained = if at < rises_at { 0 } else { 100_000 };
                let views = 1_000 + (at.min(rises_at - 1) + COUNTS) * 100 + gained;
                entries.push(entry(region, &riser(region, rises_at), at, views));
            }
        }
    }
    entries
}

impl Cloud {
    /// Gives the feed regions.
    pub fn open_feed(&self, regions: Vec<String>) {
        lock(&self.feed).regions = regions;
    }

    /// The feed has newer counts from now on.
    pub fn move_feed_on(&self) {
        let mut feed = lock(&self.feed);
        feed.step = (feed.step + 1).min(STEPS_MAX);
    }

    /// What the bus took, by the id of the video.
    pub fn announced(&self) -> BTreeMap<String, Announced> {
        lock(&self.feed).announced.clone()
    }

    /// The videos that went viral in a feed of which every step was read, with their regions.
    pub fn risen(&self) -> Vec<(String, String)> {
        let feed = lock(&self.feed);
        let of = |step| feed.regions.iter().map(move |region| (riser(region, step), region.clone()));
        (2..=feed.step).flat_map(of).collect()
    }

    /// The videos that the scorer has stored as viral.
    pub fn found(&self) -> BTreeSet<String> {
        lock(&self.feed).found.clone()
    }

    /// Notes what the scorer has stored.
    pub(super) fn note_found(&self, call: &Call) {
        let put: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let rises = put["Item"]["rises"]["S"].as_str().and_then(|rises| serde_json::from_str::<Value>(rises).ok());
        let rises = rises.unwrap_or_default();
        let waiting = rises["outbox"].as_array().into_iter().flatten();
        let videos = waiting.filter_map(|announcement| announcement["video"]["id"].as_str());
        lock(&self.feed).found.extend(videos.map(str::to_owned));
    }

    /// The feed's answer.
    pub(super) async fn feed(&self) -> Reply {
        let (regions, step) = {
            let feed = lock(&self.feed);
            (feed.regions.clone(), feed.step)
        };
        let whole = |step| Value::Array(entries(&regions, step)).to_string();
        let reply = |body: String| Reply { status: 200, body: body.into_bytes() };
        if !self.chance("feed", self.weather().bad_feeds) {
            return reply(whole(step));
        }
        let (kind, ms) =
            self.draw("feed", |random| (random.random_range(0..6), random.random_range(3_000..15_000_u64)));
        match kind {
            0 => {
                sleep(Duration::from_millis(ms)).await;
                reply(whole(step))
            }
            1 => Reply { status: 503, body: b"sorry".to_vec() },
            2 => {
                let mut body = whole(step);
                body.truncate(body.len() / 2);
                reply(body)
            }
            3 => reply("<!doctype html><title>We are back soon</title>".to_owned()),
            // A cache had it.
            4 => reply(whole((step - 2).max(1))),
            _ => {
                let region = regions.first().map_or("PL", String::as_str);
                let rubbish = [
                    json!(7),
                    json!({"region": region}),
                    entry("ALL", "of-all", step, 1),
                    entry(region, "", step, 1),
                    entry(region, "less-than-none", step, -1),
                    entry(region, "of-the-future", step + 1_000, i64::MAX),
                ];
                let mut list = entries(&regions, step);
                for entry in rubbish {
                    let at = self.draw("feed", |random| random.random_range(0..=list.len()));
                    list.insert(at, entry);
                }
                reply(Value::Array(list).to_string())
            }
        }
    }

    /// The event bus: takes each event of a call, or refuses it.
    pub(super) fn put_events(self: &Arc<Self>, call: &Call) -> Reply {
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let mut refused = 0;
        let mut results = Vec::new();
        for event in body["Entries"].as_array().into_iter().flatten() {
            if self.chance("bus", self.weather().refused_events) {
                refused += 1;
                let code =
                    self.draw("bus", |random| ["ThrottlingException", "InternalFailure"].choose(random).copied());
                results.push(json!({"ErrorCode": code, "ErrorMessage": "sorry"}));
                continue;
            }
            let id = format!("event-{:016x}", self.draw("bus", |random| random.random::<u64>()));
            self.deliver_event(call, event, &id);
            results.push(json!({"EventId": id}));
        }
        Reply::json(&json!({"FailedEntryCount": refused, "Entries": results}))
    }

    /// Invokes publish with an event that its rule matches: at least once.
    fn deliver_event(self: &Arc<Self>, call: &Call, event: &Value, id: &str) {
        let detail = event["Detail"].as_str().unwrap_or_default().as_bytes().to_vec();
        let detail = if self.writes_later_form(&call.process) { later_event(&detail) } else { detail };
        let detail: Value = serde_json::from_slice(&detail).unwrap_or_default();
        let (region, video) = (detail["region"].as_str(), detail["video"]["id"].as_str());
        let (region, video) = (region.unwrap_or_default().to_owned(), video.unwrap_or_default().to_owned());
        self.note(|| format!("{} announces {video} in {region}", call.process));
        let announced = Announced { region, at_ms: self.elapsed_ms() };
        lock(&self.feed).announced.entry(video).or_insert(announced);
        if event["Source"] != SCORER_SOURCE || event["DetailType"] != DETAIL_TYPE {
            return;
        }
        let event = json!({
            "version": "0", "id": id, "detail-type": DETAIL_TYPE, "source": SCORER_SOURCE, "account": "1",
            "time": "2026-11-18T11:06:40Z", "region": "region-of-the-world", "resources": [], "detail": detail,
        });
        let times = if self.chance("bus", TWICE) { 2 } else { 1 };
        for _ in 0..times {
            self.invoke_later(FunctionName::Publish, event.to_string().into_bytes());
        }
    }
}
