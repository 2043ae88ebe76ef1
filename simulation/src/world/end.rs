//! How a world ends: faults end, what was left is done, everybody goes, and time passes until nothing is left.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use shared::limits::{LOGS_ENDED_MAX, RECONNECT_WINDOW_MAX};
use tokio::time::sleep;

use crate::{
    cloud::{
        FunctionName,
        lifetimes::{CLOCKS_S, OF_CONNECTIONS_S, OF_LOGS_S},
        lock,
    },
    world::{
        CALM_WITHIN, Figures, Run,
        items::What,
        journal::{Published, Told},
        plan::Plan,
    },
};

/// Time within which an alert of a calm world arrives.
pub(super) const PROBE_WITHIN: Duration = Duration::from_secs(30);

/// Least `PushRate` that the template takes. With less, fan-outs that are driven again together may refuse each other.
pub(super) const PUSH_RATE_MIN: u32 = 100;

/// Posts and looks until a connection counts as gone.
const POSTS_OF_A_LOST_CONNECTION: usize = 5;

/// From then on posts, and not faults, decide when all is done.
const LONG_POSTING: Duration = Duration::from_secs(60);

impl Run {
    /// Waits until all is done that was begun before the last fault.
    pub(super) async fn settle(self: &Arc<Self>) {
        let began = self.cloud.elapsed_ms();
        // Two retries, which Lambda makes after one minute and after two more.
        sleep(Duration::from_secs(200)).await;
        for _ in 0..4 {
            if self.cloud.dead_letters() > 0 && self.cloud.settings.has_operator {
                self.redrive().await;
                sleep(Duration::from_secs(70)).await;
            }
        }
        let waited = Duration::from_millis(self.cloud.elapsed_ms() - began);
        sleep(CALM_WITHIN.saturating_sub(waited)).await;
        let posting = self.posting(self.alerts());
        if posting >= LONG_POSTING {
            sleep(posting).await;
        }
        sleep(self.look()).await;
        if self.cloud.settings.page_items.is_some() {
            // The service takes the audience for a crowd, whose clients come back over this time.
            sleep(RECONNECT_WINDOW_MAX).await;
        }
        if !self.cloud.is_idle_within(Duration::from_secs(20)).await {
            self.cloud.breaks(8, format!("work goes on {CALM_WITHIN:?} after the last fault"));
        }
        let has_push_rate = self.cloud.settings.push_rate >= PUSH_RATE_MIN;
        if self.cloud.dead_letters() > 0 && self.cloud.settings.has_operator && has_push_rate {
            let left = self.cloud.dead_letters();
            self.cloud.breaks(8, format!("{left} dead letters cannot be driven again in a calm world"));
        }
        self.note_scheduled();
        self.note_events();
        self.check_log();
        self.check_repeats();
        self.check_answers();
        self.check_announced();
        self.check_deliveries();
        self.check_grants();
        self.check_removals();
        self.check_events();
        self.check_applications();
        self.check_states();
    }

    /// How many alerts are in all logs.
    fn alerts(&self) -> usize {
        self.log().values().map(BTreeMap::len).sum()
    }

    /// How long the posts of so many alerts may take at the push rate, with their repeats to connections that are gone.
    fn posting(&self, alerts: usize) -> Duration {
        let items = self.cloud.store().items("SubscriptionsTable");
        let connections: BTreeSet<&str> = items.iter().filter_map(|item| item["connection_id"]["S"].as_str()).collect();
        let posts = alerts * connections.len() * POSTS_OF_A_LOST_CONNECTION;
        Duration::from_secs(posts as u64 / u64::from(self.cloud.settings.push_rate.max(1)))
    }

    /// Longest time until a client of the Event API looks at the log.
    fn look(&self) -> Duration {
        let check_ms = self.cloud.settings.event_api.and_then(|it| it.check_ms).unwrap_or_default();
        Duration::from_millis(check_ms + check_ms / 4)
    }

    /// Drives dead letters again.
    pub(super) async fn redrive(self: &Arc<Self>) {
        let request = json!({"redrive": true}).to_string().into_bytes();
        self.cloud.invoke(FunctionName::Recover, request, "redrive".to_owned()).await.0.ok();
    }

    /// Publishes in each region once all is calm: whoever is subscribed gets it.
    pub(super) async fn probe(self: &Arc<Self>) {
        let regions: BTreeSet<String> = lock(&self.journal)
            .visits
            .iter()
            .flat_map(|visit| visit.wishes.keys().cloned())
            .filter(|it| it != "ALL")
            .collect();
        let sent_ms = self.cloud.elapsed_ms();
        for region in &regions {
            // So that no quota keeps a post for long, and no fan-out takes another one's share of a small push rate.
            sleep(self.posting(1).max(Duration::from_secs(15))).await;
            let video = format!("probe-{region}");
            self.publish_in_calm(&video, region).await;
        }
        sleep(PROBE_WITHIN + self.posting(self.alerts()) + self.look()).await;
        self.check_probes(&regions, sent_ms);
    }

    /// Publishes where nothing goes wrong, as often as a limit asks for. Its place; none where there are too many
    /// regions.
    pub(super) async fn publish_in_calm(self: &Arc<Self>, video: &str, region: &str) -> Option<(i64, u64)> {
        let body = json!({"region": region, "video": {"id": video, "title": "probe", "score": 99}});
        let sent_ms = self.cloud.elapsed_ms();
        let record = Published { region: region.to_owned(), sent_ms, attempts: 1, ..Published::default() };
        lock(&self.journal).publications.insert(video.to_owned(), record);
        let request = json!({"headers": {}, "body": body.to_string()});
        let (mut status, mut answer) = (0, Value::Null);
        for _ in 0..20 {
            let route = "POST /publish";
            (status, answer) = self.cloud.request(FunctionName::Publish, video, route, request.clone()).await;
            let Some(ms) = answer["error"]["retry_after_ms"].as_u64() else { break };
            sleep(Duration::from_millis(ms)).await;
        }
        if answer["error"]["code"] == "too_many_regions" {
            lock(&self.journal).publications.remove(video);
            return None;
        }
        if answer["published"] != true {
            self.cloud.breaks(1, format!("in a calm world {region} cannot be published to: {status} {answer}"));
            return None;
        }
        let (epoch, seq) = (answer["epoch"].as_i64().unwrap_or_default(), answer["seq"].as_u64().unwrap_or_default());
        let told = Told::Published { epoch, seq, id: answer["id"].as_str().unwrap_or_default().to_owned() };
        if let Some(record) = lock(&self.journal).publications.get_mut(video) {
            record.answers.push(told);
        }
        Some((epoch, seq))
    }

    /// Everybody has gone: waits until nothing is left of them, and then until nothing is left of the alerts.
    pub(super) async fn afterwards(self: &Arc<Self>) {
        let cloud = &self.cloud;
        cloud.hang_up_all();
        // A fan-out may still find out about each of them, at its rate.
        if !cloud.is_idle_within(Duration::from_secs(5 * 60)).await {
            cloud.breaks(8, "work goes on five minutes after the last client has gone".to_owned());
        }
        self.note_scheduled();
        self.check_strangers();
        self.check_bill();
        cloud.check_seats();
        self.check_sizes();
        self.check_traces();
        self.check_tokens();
        cloud.check_allowances();
        self.nothing_is_left().await;
    }

    /// Guarantee 5: waits until nothing may be left of connections that end now, and then of alerts.
    pub(super) async fn nothing_is_left(self: &Arc<Self>) {
        let cloud = &self.cloud;
        let logs = self.log().len();
        let ended_ms = cloud.now_ms();
        let until = async |seconds: i64| {
            let passed_ms = cloud.now_ms() - ended_ms;
            let left_ms = (seconds + CLOCKS_S) * 1_000 - passed_ms;
            sleep(Duration::from_millis(u64::try_from(left_ms).unwrap_or_default())).await;
            cloud.store().expire(cloud.now_ms() / 1_000);
        };
        until(OF_CONNECTIONS_S).await;
        let left = cloud.store().items("SubscriptionsTable");
        if let Some(item) = left.first() {
            cloud.breaks(5, format!("{} items of connections are left {OF_CONNECTIONS_S} s later: {item}", left.len()));
        }
        until(OF_LOGS_S).await;
        // One finds what the snapshot does not have.
        for _ in 0..=logs.div_ceil(LOGS_ENDED_MAX) {
            cloud.invoke(FunctionName::Recover, b"{}".to_vec(), "recover".to_owned()).await.0.ok();
        }
        cloud.store().expire(cloud.now_ms() / 1_000);
        for item in cloud.store().items("AlertsTable") {
            let partition = item["region"]["S"].as_str().unwrap_or_default();
            let is_kept = match partition {
                // DynamoDB has no empty sets.
                "@regions" => item["names"].is_null(),
                // Each attribute with a capital is a region.
                _ if partition.starts_with("@heads#") => {
                    item.as_object().is_some_and(|item| !item.keys().any(|name| name.starts_with(char::is_uppercase)))
                }
                _ => false,
            };
            if !is_kept {
                return cloud.breaks(5, format!("an item of a log is left two days after its last alert: {item}"));
            }
        }
    }

    pub(super) fn figures(&self, plan: &Plan, lived: Duration) -> Figures {
        let journal = lock(&self.journal);
        let is_client = |what: &What| {
            matches!(what, What::Reference { .. } | What::Plain { .. } | What::Ours { .. } | What::Hostile { .. })
        };
        let publishers: std::collections::BTreeSet<usize> = plan
            .items
            .iter()
            .filter_map(|item| if let What::Publish { publisher, .. } = item.what { Some(publisher) } else { None })
            .collect();
        Figures {
            clients: plan.items.iter().filter(|item| is_client(&item.what)).count(),
            connections: journal.visits.iter().filter(|visit| !visit.id.is_empty()).count(),
            alerts: journal.publications.keys().filter(|video| !video.starts_with("probe")).count(),
            publishers: publishers.len(),
            database_requests: self.cloud.store().requests(),
            seconds: lived.as_secs(),
        }
    }
}
