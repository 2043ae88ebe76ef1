//! Two days later all logs have ended. One begins again while somebody still has a position in the log before, and ends
//! once more at the moment at which somebody publishes.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rand::RngExt;
use serde_json::{Value, json};
use shared::model::audience::CANARY;
use tokio::time::{Instant, sleep};

use crate::{
    clients::order::Position,
    cloud::{FunctionName, Situation, lifetimes::OF_LOGS_S, lock},
    world::{
        Run,
        clients::Client,
        end::PROBE_WITHIN,
        journal::{Heard, Journal},
    },
};

/// The lane of what happens here.
const LANE: &str = "again";

/// Place of an alert: its log and its number.
type Place = (i64, u64);

impl Run {
    /// Where the logs end.
    pub(super) fn heads(&self) -> BTreeMap<String, Place> {
        let last = |alerts: &BTreeMap<u64, super::guarantees::Logged>| {
            alerts.last_key_value().map(|(seq, logged)| (logged.epoch, *seq))
        };
        let log = self.log();
        log.iter().filter_map(|(region, alerts)| Some((region.clone(), last(alerts)?))).collect()
    }

    /// Begins one of these logs again.
    pub(super) async fn again(self: &Arc<Self>, heads: &BTreeMap<String, Place>) {
        let Some((region, before)) = heads.iter().find(|(region, _)| *region != CANARY) else { return };
        *lock(&self.journal) = Journal::default();
        self.is_over.store(false, Ordering::Relaxed);
        *lock(&self.ends_at) = Instant::now() + Duration::from_secs(60 * 60);
        let Some(first) = self.publish_in_calm("again-1", region).await else { return };
        if first.0 <= before.0 || first.1 != 1 {
            self.cloud.breaks(1, format!("{region} ended at {before:?}, and begins again at {first:?}"));
        }
        self.cloud.reaches(Situation::BegunAgain);
        let position = Position { epoch: before.0.unsigned_abs(), seq: before.1 };
        let ours = Client::new(self, "ours-again".to_owned(), None);
        let positions = BTreeMap::from([(region.clone(), position)]);
        let application = tokio::spawn(ours.ours(vec![region.clone()], Vec::new(), positions, false));
        self.resume(region, *before, first).await;
        sleep(PROBE_WITHIN).await;
        self.publish_in_calm("again-2", region).await;
        sleep(PROBE_WITHIN).await;
        self.check_deliveries();
        self.check_applications();
        let is_gap = |heard: &Heard| matches!(heard, Heard::Gap { region: of, .. } if of == region);
        if !lock(&self.journal).told.values().any(|told| told.iter().any(is_gap)) {
            self.cloud
                .breaks(2, format!("{region} has begun again, and an application that was away is told of no gap"));
        }
        *lock(&self.ends_at) = Instant::now();
        self.is_over.store(true, Ordering::Relaxed);
        self.over.notify_waiters();
        if let Err(ended) = application.await
            && let Ok(panic) = ended.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
        self.cloud.hang_up_all();
        self.end_while_publishing(region, first).await;
        self.nothing_is_left().await;
    }

    /// Guarantee 2 on the wire: who resumes in a log that has ended is told so, and where the present one ends.
    async fn resume(self: &Arc<Self>, region: &str, before: Place, now: Place) {
        let client = Client::new(self, "plain-again".to_owned(), None);
        let Ok(mut connected) = client.connect(None).await else { return };
        let message = json!({
            "type": "subscribe_region", "region": region, "since": {"epoch": before.0, "seq": before.1},
        });
        connected.socket.line.send(message.to_string());
        let until = Instant::now() + PROBE_WITHIN;
        let answer = client.next(&mut connected, until).await.unwrap_or(Value::Null);
        let is_so = answer["recovered"] == false
            && answer["not_recovered"] == json!([region])
            && answer["alerts"] == json!([])
            && answer["positions"][region] == json!({"epoch": now.0, "seq": now.1});
        if !is_so {
            self.cloud
                .breaks(2, format!("{region} is at {now:?}, and who comes back from {before:?} is told {answer}"));
        }
        connected.socket.line.send(
            json!({
                "type": "keepalive", "region": region, "since": {"epoch": before.0, "seq": before.1},
            })
            .to_string(),
        );
        let answer = client.next(&mut connected, until).await.unwrap_or(Value::Null);
        if answer["behind"] != json!([region]) {
            self.cloud.breaks(2, format!("{region} is at {now:?}, and the keepalive of {before:?} is told {answer}"));
        }
        client.ends(&connected);
    }

    /// The log ends while somebody publishes: the alert is in the old one or in a new one.
    async fn end_while_publishing(self: &Arc<Self>, region: &str, first: Place) {
        let cloud = &self.cloud;
        sleep(Duration::from_secs(OF_LOGS_S.unsigned_abs() + 2)).await;
        cloud.store().expire(cloud.now_ms() / 1_000);
        let pause = cloud.draw(LANE, |random| Duration::from_millis(random.random_range(0..150)));
        let ends = cloud.invoke(FunctionName::Recover, b"{}".to_vec(), "recover".to_owned());
        let publishes = async {
            sleep(pause).await;
            self.publish_in_calm("again-3", region).await
        };
        let (_, place) = tokio::join!(ends, publishes);
        let Some((epoch, seq)) = place else { return };
        let is_next = (epoch, seq) == (first.0, 3) || epoch > first.0 && seq == 1;
        let there = self.log().get(region).and_then(|alerts| alerts.get(&seq).map(|logged| logged.epoch));
        if !is_next || there != Some(epoch) {
            let message = format!("{region} began at {first:?}, ends while {seq} of {epoch} comes, and has {there:?}");
            cloud.breaks(1, message);
        }
    }
}
