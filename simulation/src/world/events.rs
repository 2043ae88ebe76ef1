//! What is asked of the Event API: everything is published there, and nobody gets what is not theirs.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::model::audience::CANARY;
use tokio::time::{sleep_until, timeout};

use crate::{
    cloud::{EVENTS_HOST, EventSocket, Incoming, lock},
    world::{
        Run,
        end::{PROBE_WITHIN, PUSH_RATE_MIN},
        items::Pass,
        journal::{self, Wish},
    },
};

/// What a client says that has no token.
pub(super) const ANONYMOUS: &str = "anonymous";

/// The next frame that is not an event or a keepalive. Nothing if there is none within half a minute.
async fn answer(socket: &mut EventSocket) -> Option<Value> {
    let next = async {
        loop {
            let (at, incoming) = socket.incoming.recv().await?;
            sleep_until(at).await;
            let Incoming::Frame(text) = incoming else { return None };
            let frame: Value = serde_json::from_str(&text).unwrap_or_default();
            if frame["type"] != "ka" && frame["type"] != "data" {
                return Some(frame);
            }
        }
    };
    timeout(PROBE_WITHIN, next).await.ok().flatten()
}

impl Run {
    /// Guarantee 3 on the Event API: with a token of a kind somebody connects and subscribes to what it allows, and to
    /// nothing else.
    pub(super) async fn intrude(self: &Arc<Self>, number: usize, region: &str, pass: Pass) {
        let cloud = &self.cloud;
        let lane = format!("intruder-{number}");
        let refusal = self.refusal_of(pass);
        let (token, allowed) = self.pass(pass, &lane);
        let token = token.unwrap_or_else(|| ANONYMOUS.to_owned());
        let mut socket = cloud.open_event_socket(&lane, &token).await;
        socket.line.send(json!({"type": "connection_init"}).to_string());
        let is_in = answer(&mut socket).await.is_some_and(|frame| frame["type"] == "connection_ack");
        if is_in && refusal == Some(401) {
            cloud.breaks(3, format!("{lane} is let in to the Event API with {pass:?}"));
        }
        let visit = self.visit_of_reader(&lane, region, allowed.filter(|_| refusal.is_some()));
        let wish = Wish { joins: true, sent_ms: cloud.elapsed_ms(), granted_ms: None };
        lock(&self.journal).visits[visit].wishes.insert("ALL".to_owned(), vec![wish]);
        for channel in [format!("/alerts/{region}"), "/alerts/*".to_owned()] {
            let authorization = json!({"host": EVENTS_HOST, "Authorization": token});
            let message =
                json!({"type": "subscribe", "id": channel, "channel": channel, "authorization": authorization});
            socket.line.send(message.to_string());
            let is_subscribed = answer(&mut socket).await.is_some_and(|frame| frame["type"] == "subscribe_success");
            if is_subscribed && refusal.is_some() {
                cloud.breaks(3, format!("{lane} is subscribed to {channel} with {pass:?}"));
            }
            if !is_subscribed && refusal.is_none() && is_in && cloud.planned().is_calm() {
                cloud.breaks(3, format!("{lane} may not subscribe to {channel} with {pass:?}"));
            }
        }
        loop {
            let arrived = tokio::select! {
                biased;
                () = self.over() => break,
                arrived = socket.incoming.recv() => arrived,
            };
            let Some((at, Incoming::Frame(text))) = arrived else { break };
            sleep_until(at).await;
            let frame: Value = serde_json::from_str(&text).unwrap_or_default();
            let event: Value = frame["event"].as_str().and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default();
            let received = journal::alert(&event, cloud.elapsed_ms(), None);
            lock(&self.journal).visits[visit].received.extend(received);
        }
        socket.line.close();
    }

    /// Guarantee 8 of the Event API: each alert and each removal was published there, or is a dead letter.
    pub(super) fn check_events(&self) {
        let cloud = &self.cloud;
        if cloud.settings.event_api.is_none() {
            return;
        }
        let log = self.log();
        let journal = lock(&self.journal);
        let alerts = log.iter().flat_map(|(region, alerts)| {
            let there = alerts.iter().filter(|(_, logged)| logged.video.is_some());
            there.map(move |(seq, logged)| (region.clone(), logged.epoch, *seq, false))
        });
        let removals = journal.removals.iter().map(|it| (it.region.clone(), it.epoch, it.seq, true));
        // Without them dead letters stay.
        let is_driven_again = cloud.settings.has_operator && cloud.settings.push_rate >= PUSH_RATE_MIN;
        for entry in alerts.chain(removals).filter(|(region, ..)| region != CANARY) {
            let is_dead_letter = || cloud.was_given_up_as_event(&entry) || cloud.was_undelivered(&entry.0, entry.2);
            if !cloud.was_published_as_event(&entry) && (is_driven_again || !is_dead_letter()) {
                cloud.breaks(8, format!("{entry:?} is not published on the Event API, and is not a dead letter"));
            }
        }
    }
}
