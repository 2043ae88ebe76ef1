//! How a world ends: faults end, what was left is done, everybody goes, and time passes until nothing is left.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    cloud::{FunctionName, lock},
    world::{
        CALM_WITHIN, Figures, Run,
        journal::{Published, Told},
        plan::{Plan, What},
    },
};

/// Time within which an alert of a calm world arrives.
const PROBE_WITHIN: Duration = Duration::from_secs(30);

impl Run {
    /// Waits until all is done that was begun before the last fault.
    pub(super) async fn settle(self: &Arc<Self>) {
        let began = self.cloud.elapsed_ms();
        // Two retries, which Lambda makes after one minute and after two more.
        sleep(Duration::from_secs(200)).await;
        for _ in 0..4 {
            if self.cloud.dead_letters() > 0 && self.cloud.settings.has_operator {
                let request = json!({"redrive": true}).to_string().into_bytes();
                self.cloud.invoke(FunctionName::Recover, request, "redrive".to_owned()).await.0.ok();
                sleep(Duration::from_secs(70)).await;
            }
        }
        let waited = Duration::from_millis(self.cloud.elapsed_ms() - began);
        sleep(CALM_WITHIN.saturating_sub(waited)).await;
        if !self.cloud.is_idle_within(Duration::from_secs(20)).await {
            self.cloud.breaks(8, format!("work goes on {CALM_WITHIN:?} after the last fault"));
        }
        if self.cloud.dead_letters() > 0 && self.cloud.settings.has_operator {
            let left = self.cloud.dead_letters();
            self.cloud.breaks(8, format!("{left} dead letters cannot be driven again in a calm world"));
        }
        self.note_scheduled();
        self.check_log();
        self.check_announced();
        self.check_deliveries();
        self.check_applications();
        self.check_states();
    }

    /// Publishes in each region once all is calm: whoever is subscribed gets it.
    pub(super) async fn probe(self: &Arc<Self>) {
        let regions: std::collections::BTreeSet<String> = lock(&self.journal)
            .visits
            .iter()
            .flat_map(|visit| visit.wishes.keys().cloned())
            .filter(|it| it != "ALL")
            .collect();
        let sent_ms = self.cloud.elapsed_ms();
        for region in &regions {
            // So that no quota keeps a post for long.
            sleep(Duration::from_secs(15)).await;
            let video = format!("probe-{region}");
            let body = json!({"region": region, "video": {"id": video, "title": "probe", "score": 99}});
            let record = Published { region: region.clone(), sent_ms, attempts: 1, ..Published::default() };
            lock(&self.journal).publications.insert(video.clone(), record);
            let request = json!({"headers": {}, "body": body.to_string()});
            let lane = format!("probe-{region}");
            let (mut status, mut answer) = (0, Value::Null);
            for _ in 0..20 {
                let route = "POST /publish";
                (status, answer) = self.cloud.request(FunctionName::Publish, &lane, route, request.clone()).await;
                let Some(ms) = answer["error"]["retry_after_ms"].as_u64() else { break };
                sleep(Duration::from_millis(ms)).await;
            }
            if answer["error"]["code"] == "too_many_regions" {
                lock(&self.journal).publications.remove(&video);
                continue;
            }
            if answer["published"] != true {
                self.cloud.breaks(1, format!("in a calm world {region} cannot be published to: {status} {answer}"));
                continue;
            }
            let told = Told::Published {
                epoch: answer["epoch"].as_i64().unwrap_or_default(),
                seq: answer["seq"].as_u64().unwrap_or_default(),
                id: answer["id"].as_str().unwrap_or_default().to_owned(),
            };
            if let Some(record) = lock(&self.journal).publications.get_mut(&video) {
                record.answers.push(told);
            }
        }
        sleep(PROBE_WITHIN).await;
        self.check_probes(&regions, sent_ms);
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
        // The life of a subscription, the pause of the time to live, and the slack between clocks.
        sleep(Duration::from_secs(3 * 60 * 60)).await;
        cloud.store().expire(cloud.now_ms() / 1_000);
        let left = cloud.store().items("SubscriptionsTable");
        if let Some(item) = left.first() {
            cloud.breaks(5, format!("{} subscriptions are left three hours later: {item}", left.len()));
        }
        sleep(Duration::from_secs(3 * 86_400)).await;
        cloud.store().expire(cloud.now_ms() / 1_000);
        // Each run ends some of the logs.
        for _ in 0..8 {
            cloud.invoke(FunctionName::Recover, b"{}".to_vec(), "recover".to_owned()).await.0.ok();
        }
        cloud.store().expire(cloud.now_ms() / 1_000);
        let is_of_the_whole = |item: &Value| {
            let partition = item["region"]["S"].as_str().unwrap_or_default();
            partition == "@regions" || partition.starts_with("@heads#")
        };
        let left: Vec<Value> =
            cloud.store().items("AlertsTable").into_iter().filter(|item| !is_of_the_whole(item)).collect();
        if let Some(item) = left.first() {
            cloud.breaks(5, format!("{} items of logs are left three days later: {item}", left.len()));
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
