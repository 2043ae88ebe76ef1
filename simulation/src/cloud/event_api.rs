//! AppSync Events: an Event API beside the WebSocket API, which sends an event at most once and promises no order.
//!
//! That it loses, repeats and reorders events is what it is, and no fault: it goes on after the last one.
//!
//! Sources: AppSync Events developer guide, "Understanding the Event API WebSocket protocol", "Publish events via
//! HTTP", "Configuring authorization and authentication to secure Event APIs".

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand::RngExt;
use serde_json::{Value, json};
use shared::model::{audience::CANARY, channel::NAMESPACE};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use crate::{
    client::{Call, Reply},
    cloud::{Cloud, FunctionName, Incoming, Situation, gateway::WAY_MS, lock},
};

/// The path of publications.
pub(super) const PUBLISH_PATH: &str = "/event";

/// Share of the frames that are lost on the way to one subscriber.
const LOST: f64 = 0.05;

/// Shares of the frames that a subscriber gets twice, and that others overtake, by so many milliseconds at most.
const DOUBLED: f64 = 0.05;
const LATE: f64 = 0.15;
const LATE_MS: f64 = 4_000.0;

/// Share of the subscriptions that miss what is published right after their answer, and milliseconds for which they do
/// so at most. Source: aws-appsync-community issue 405.
const ROUTED_LATE: f64 = 0.2;
const ROUTED_MS: f64 = 2_000.0;

/// Longest time that the authorizer may take.
const AUTHORIZER_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two keepalives.
const KA: Duration = Duration::from_secs(60);

/// Longer than a publisher waits for an answer.
const HANGS: Duration = Duration::from_secs(4);

/// A client's end of a connection.
#[derive(Debug)]
pub struct EventSocket {
    pub line: EventLine,
    pub incoming: mpsc::UnboundedReceiver<(Instant, Incoming)>,
}

/// What a client does with a connection.
#[derive(Clone, Debug)]
pub struct EventLine {
    pub id: String,
    cloud: Arc<Cloud>,
}

impl EventLine {
    /// Sends a message.
    pub fn send(&self, text: String) {
        let (cloud, id) = (Arc::clone(&self.cloud), self.id.clone());
        let busy = cloud.begin();
        tokio::spawn(async move {
            cloud.pass(&id, WAY_MS).await;
            cloud.take_event_message(&id, &text).await;
            drop(busy);
        });
    }

    /// Closes it.
    pub fn close(&self) {
        lock(&self.cloud.events).connections.remove(&self.id);
    }

    /// Breaks it. Without a word AppSync goes on as if it were open.
    pub fn breaks(&self, is_silent: bool) {
        if !is_silent {
            self.close();
        } else if let Some(connection) = lock(&self.cloud.events).connections.get_mut(&self.id) {
            connection.is_broken = true;
        }
    }
}

/// The connections that there are, and what was published.
#[derive(Default)]
pub(super) struct Events {
    connections: BTreeMap<String, EventConnection>,
    opened: u64,
    /// Until when authorize is not asked again: by token and channel; without a channel to connect.
    allowed: BTreeMap<(String, Option<String>), Instant>,
    published: BTreeSet<Entry>,
    refused: BTreeSet<Entry>,
    /// What an invocation of deliver wanted another one to publish, whose request was lost.
    lost: BTreeSet<Entry>,
    /// Connections with what was lost on the way to them.
    unsent: BTreeSet<(String, Entry)>,
    /// What was handed over and became a dead letter.
    given_up: BTreeSet<Entry>,
}

struct EventConnection {
    token: String,
    is_admitted: bool,
    /// The client's half is gone, and AppSync does not know.
    is_broken: bool,
    /// By the id that the client gave them.
    subscriptions: BTreeMap<String, Subscription>,
    /// No frame overtakes another one on one connection.
    last_arrival: Instant,
    frames: mpsc::UnboundedSender<(Instant, Incoming)>,
}

struct Subscription {
    channel: String,
    /// From when on it gets events.
    routed_at: Instant,
}

impl Subscription {
    fn takes(&self, channel: &str) -> bool {
        let rest = self.channel.strip_suffix('*').and_then(|prefix| channel.strip_prefix(prefix));
        rest.is_some_and(|rest| !rest.is_empty()) || self.channel == channel
    }
}

/// An alert or a removal: region, log, number, and whether it is a removal.
pub(crate) type Entry = (String, i64, u64, bool);

/// The entry that a frame, or an event of deliver, is about.
fn entry(content: &Value, is_removal: bool) -> Entry {
    let region = content["region"].as_str().unwrap_or_default().to_owned();
    let (epoch, seq) = (content["epoch"].as_i64().unwrap_or_default(), content["seq"].as_u64().unwrap_or_default());
    (region, epoch, seq, is_removal)
}

fn entry_of_task(task: &Value) -> Entry {
    let is_removal = task["removal"].is_object();
    entry(if is_removal { &task["removal"] } else { &task["alert"] }, is_removal)
}

fn error(kind: &str, id: &Value, error: &str) -> Value {
    json!({"type": kind, "id": id, "errors": [{"errorType": error, "message": error}]})
}

impl Cloud {
    /// Opens a connection to the Event API, with what the client says in its header.
    pub async fn open_event_socket(self: &Arc<Self>, lane: &str, token: &str) -> EventSocket {
        self.pass(lane, WAY_MS).await;
        let (frames, incoming) = mpsc::unbounded_channel();
        let connection = EventConnection {
            token: token.to_owned(),
            is_admitted: false,
            is_broken: false,
            subscriptions: BTreeMap::new(),
            last_arrival: Instant::now(),
            frames,
        };
        let id = {
            let mut events = lock(&self.events);
            events.opened += 1;
            let id = format!("event-connection-{}", events.opened);
            events.connections.insert(id.clone(), connection);
            id
        };
        self.note(|| format!("{lane} opens {id}"));
        let (cloud, of) = (Arc::clone(self), id.clone());
        tokio::spawn(async move {
            while cloud.tell_event(&of, &json!({"type": "ka"})) {
                sleep(KA).await
            }
        });
        EventSocket { line: EventLine { id, cloud: Arc::clone(self) }, incoming }
    }

    /// Sends a frame to a client. False if the connection does not exist.
    fn tell_event(&self, id: &str, frame: &Value) -> bool {
        let ms = self.draw(id, |random| random.random_range(1.0..WAY_MS));
        let mut events = lock(&self.events);
        let Some(connection) = events.connections.get_mut(id) else { return false };
        let at = (Instant::now() + Duration::from_secs_f64(ms / 1_000.0)).max(connection.last_arrival);
        connection.last_arrival = at;
        connection.is_broken || connection.frames.send((at, Incoming::Frame(frame.to_string()))).is_ok()
    }

    fn close_event_socket(&self, id: &str, code: u16) {
        if let Some(EventConnection { frames, last_arrival, .. }) = lock(&self.events).connections.remove(id) {
            drop(frames.send((last_arrival, Incoming::Closed(code))));
        }
    }

    /// Whether it holds a connection open.
    pub(super) fn is_event_socket_open(&self, id: &str) -> bool {
        lock(&self.events).connections.get(id).is_some_and(|connection| !connection.is_broken)
    }

    /// Breaks all connections at one moment.
    pub(super) fn cut_event_sockets(&self) {
        let ids: Vec<String> = lock(&self.events).connections.keys().cloned().collect();
        for id in ids {
            self.close_event_socket(&id, 1006);
        }
    }

    async fn take_event_message(self: &Arc<Self>, id: &str, text: &str) {
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        let of = &message["id"];
        let answer = match message["type"].as_str() {
            Some("connection_init") => {
                let token = lock(&self.events).connections.get(id).map(|connection| connection.token.clone());
                let Some(token) = token else { return };
                let refusal = if self.chance(id, self.weather().failed_events / 2.0) {
                    Some("LimitExceededError")
                } else if self.is_allowed(&token, &Value::Null).await {
                    None
                } else {
                    Some("UnauthorizedException")
                };
                if let Some(refusal) = refusal {
                    self.tell_event(id, &error("connection_error", &Value::Null, refusal));
                    return self.close_event_socket(id, 1000);
                }
                if let Some(connection) = lock(&self.events).connections.get_mut(id) {
                    connection.is_admitted = true;
                }
                json!({"type": "connection_ack", "connectionTimeoutMs": 300_000})
            }
            Some("subscribe") => {
                let token = message["authorization"]["Authorization"].as_str().unwrap_or_default();
                if self.is_allowed(token, &message["channel"]).await {
                    self.subscribe_to_events(id, &message);
                    json!({"type": "subscribe_success", "id": of})
                } else {
                    self.reaches(Situation::ChannelRefused);
                    error("subscribe_error", of, "UnauthorizedException")
                }
            }
            Some("unsubscribe") => {
                let mut events = lock(&self.events);
                let connection = events.connections.get_mut(id);
                let found = connection.and_then(|it| it.subscriptions.remove(of.as_str().unwrap_or_default()));
                if found.is_some() {
                    json!({"type": "unsubscribe_success", "id": of})
                } else {
                    error("unsubscribe_error", of, "UnknownOperationError")
                }
            }
            _ => error("error", of, "UnsupportedOperation"),
        };
        self.tell_event(id, &answer);
    }

    fn subscribe_to_events(&self, id: &str, message: &Value) {
        let late_ms = self.draw(id, |random| {
            let (is_late, ms) = (random.random_bool(ROUTED_LATE), random.random_range(0.0..ROUTED_MS));
            if is_late { ms } else { 0.0 }
        });
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let routed_at = Instant::now() + Duration::from_secs_f64(late_ms / 1_000.0);
        let subscription = Subscription { channel: text("channel"), routed_at };
        if let Some(connection) = lock(&self.events).connections.get_mut(id).filter(|it| it.is_admitted) {
            connection.subscriptions.insert(text("id"), subscription);
        }
    }

    /// Asks authorize, unless it has said for how long its answer stands. A failure of it is a refusal.
    async fn is_allowed(self: &Arc<Self>, token: &str, channel: &Value) -> bool {
        let operation = if channel.is_null() { "EVENT_CONNECT" } else { "EVENT_SUBSCRIBE" };
        let key = (token.to_owned(), channel.as_str().map(str::to_owned));
        if lock(&self.events).allowed.get(&key).is_some_and(|until| *until > Instant::now()) {
            return true;
        }
        let namespace = if channel.is_null() { Value::Null } else { json!(NAMESPACE) };
        let number = self.draw("the Event API", |random| random.random::<u64>());
        let request_id = format!("{number:016x}");
        let question = json!({
            "authorizationToken": token,
            "requestContext": {
                "apiId": "a", "accountId": "1", "requestId": request_id, "operation": operation,
                "channelNamespaceName": namespace, "channel": channel,
            },
            "requestHeaders": {},
        });
        let cloud = Arc::clone(self);
        let asked = tokio::spawn(async move {
            cloud.invoke(FunctionName::Authorize, question.to_string().into_bytes(), request_id).await.0
        });
        let answer = match timeout(AUTHORIZER_TIMEOUT, asked).await {
            Ok(Ok(Ok(answer))) => serde_json::from_slice::<Value>(&answer).unwrap_or_default(),
            Ok(Ok(Err(failure))) => {
                self.fails(operation, &failure);
                return false;
            }
            Ok(Err(ended)) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return false,
            },
            Err(_) => return false,
        };
        let is_allowed = answer["isAuthorized"] == true;
        let kept = Duration::from_secs(answer["ttlOverride"].as_u64().unwrap_or_default());
        if is_allowed {
            lock(&self.events).allowed.insert(key, Instant::now() + kept);
        }
        is_allowed
    }

    /// Takes a publication over HTTP.
    pub(super) async fn publish_event(self: &Arc<Self>, call: &Call) -> Reply {
        let reply = |status: u16, body: Value| Reply { status, body: body.to_string().into_bytes() };
        let refused =
            |status: u16, kind: &str| reply(status, json!({"errors": [{"errorType": kind, "message": kind}]}));
        if !call.signature.starts_with("AWS4-HMAC-SHA256 ") || !call.signature.contains("/appsync/aws4_request") {
            return refused(401, "UnauthorizedException");
        }
        let request: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let channel = request["channel"].as_str().unwrap_or_default();
        let text = request["events"][0].as_str().unwrap_or_default();
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        let entry = entry(&frame, frame["type"] == "alert_removed");
        let fate = self.chance(channel, self.weather().failed_events).then(|| {
            let kinds = ["failed", "ServiceUnavailableException", "LimitExceededException", "lost"];
            kinds[self.draw(channel, |random| random.random_range(0..kinds.len()))]
        });
        let id = json!({"identifier": "0f6c2a54-6d1b-4a8e-9c33-7be1d0a4f812", "index": 0});
        if let Some(kind) = fate.filter(|kind| *kind != "lost") {
            self.reaches(Situation::EventNotTaken);
            lock(&self.events).refused.insert(entry);
            return match kind {
                "failed" => {
                    self.reaches(Situation::EventFailed);
                    let failure = json!({"identifier": id["identifier"], "index": 0, "code": "InternalFailure",
                        "message": "the event could not be processed"});
                    reply(200, json!({"failed": [failure], "successful": []}))
                }
                "LimitExceededException" => refused(429, kind),
                _ => refused(503, kind),
            };
        }
        self.check_event(channel, &frame, &entry);
        {
            let mut events = lock(&self.events);
            let is_first = events.published.insert(entry.clone());
            let was_refused = events.refused.contains(&entry);
            drop(events);
            if is_first && was_refused {
                self.reaches(Situation::EventTakenLater);
            }
        }
        self.distribute(channel, text, &entry);
        if fate.is_some() {
            self.reaches(Situation::EventUnanswered);
            sleep(HANGS).await;
        }
        reply(200, json!({"failed": [], "successful": [id]}))
    }

    /// Guarantees 1 and 3 of what is published: it is in the log, and on the channel of its region.
    fn check_event(&self, channel: &str, frame: &Value, entry: &Entry) {
        let (region, epoch, seq, _) = entry;
        if region == CANARY || channel != format!("/{NAMESPACE}/{region}") {
            self.breaks(3, format!("{seq} of {region} is published on {channel}"));
        }
        let number = |item: &Value, name: &str| item[name]["N"].as_str().and_then(|number| number.parse::<i64>().ok());
        let is_there = self.store.items("AlertsTable").iter().any(|item| {
            item["region"]["S"] == *region
                && number(item, "seq") == i64::try_from(*seq).ok()
                && number(item, "epoch") == Some(*epoch)
                && item["id"]["S"] == frame["id"]
        });
        if !is_there {
            self.breaks(1, format!("{seq} of {region} is published on the Event API, and is not in the log"));
        }
    }

    /// Sends an event to all whose subscription takes it, or loses it.
    fn distribute(self: &Arc<Self>, channel: &str, text: &str, entry: &Entry) {
        let takers: Vec<(String, String, bool)> = lock(&self.events)
            .connections
            .iter()
            .flat_map(|(id, connection)| connection.subscriptions.iter().map(move |of| (id, of)))
            .filter(|(_, (_, subscription))| subscription.takes(channel))
            .map(|(id, (of, subscription))| (id.clone(), of.clone(), subscription.routed_at <= Instant::now()))
            .collect();
        for (id, of, is_routed) in takers {
            let (is_lost, is_doubled) =
                self.draw(&id, |random| (random.random_bool(LOST), random.random_bool(DOUBLED)));
            if is_lost || !is_routed {
                self.reaches(Situation::EventLost);
                self.note(|| format!("the Event API loses {text} for {id}"));
                lock(&self.events).unsent.insert((id, entry.clone()));
                continue;
            }
            if is_doubled {
                self.reaches(Situation::EventDoubled);
            }
            for _ in 0..=u8::from(is_doubled) {
                let (is_late, late_ms, ms) = self.draw(&id, |random| {
                    (random.random_bool(LATE), random.random_range(0.0..LATE_MS), random.random_range(1.0..WAY_MS))
                });
                let (cloud, id, busy) = (Arc::clone(self), id.clone(), self.begin());
                let frame = json!({"type": "data", "id": of, "event": text});
                tokio::spawn(async move {
                    sleep(Duration::from_secs_f64(if is_late { late_ms } else { ms } / 1_000.0)).await;
                    cloud.tell_event(&id, &frame);
                    drop(busy);
                });
            }
        }
    }

    /// Notes that a request to Lambda is lost, if it hands an event over to another invocation of deliver.
    pub(super) fn note_lost_handover(&self, call: &Call) {
        if let Some(task) = handed_over(call) {
            lock(&self.events).lost.insert(entry_of_task(&task));
        }
    }

    /// Notes that deliver hands an event over to another invocation.
    pub(super) fn note_handover(&self, call: &Call) {
        if handed_over(call).is_some() {
            self.reaches(Situation::EventHandedOver);
        }
    }

    /// Notes that what was handed over is a dead letter.
    pub(super) fn note_event_given_up(&self, task: &Value) {
        lock(&self.events).given_up.insert(entry_of_task(task));
    }

    /// Whether the Event API has taken an alert or a removal, or the request was lost that would have had it published.
    pub(crate) fn was_published_as_event(&self, entry: &Entry) -> bool {
        let events = lock(&self.events);
        events.published.contains(entry) || events.lost.contains(entry)
    }

    /// Whether an alert or a removal was lost on the way to a connection.
    pub(crate) fn has_lost_event(&self, id: &str, entry: &Entry) -> bool {
        lock(&self.events).unsent.contains(&(id.to_owned(), entry.clone()))
    }

    /// Whether what was handed over to publish an alert or a removal was a dead letter.
    pub(crate) fn was_given_up_as_event(&self, entry: &Entry) -> bool {
        lock(&self.events).given_up.contains(entry)
    }
}

/// The task with which deliver asks another invocation of it to publish an event, if that is what a call is.
fn handed_over(call: &Call) -> Option<Value> {
    let is_by_deliver = call.is_async && call.process.starts_with("DeliverFunction");
    let task: Value = is_by_deliver.then(|| serde_json::from_slice(&call.body).ok())??;
    task["part"]["events"].as_bool().unwrap_or_default().then_some(task)
}
