//! API Gateway: a WebSocket API whose messages reach their functions in any order, and its management API, which lies.
//!
//! Sources: API Gateway developer guide, "About WebSocket APIs in API Gateway", "Use @connections commands in your
//! backend service", "Working with AWS Lambda proxy integrations for HTTP APIs"; API Gateway quotas.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use rand::RngExt;
use serde_json::{Value, json};
use shared::model::connection::Slot;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    client::{Call, Reply},
    cloud::{Cloud, FunctionName, InvocationError, Situation, lock, seats::Handshake},
};

/// Time without a message after which a connection is closed. Source: API Gateway quotas.
const IDLE_MAX: Duration = Duration::from_secs(600);

/// Life of a connection. Source: API Gateway quotas.
pub const LIFE_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// Bytes from which on a frame is a large one.
const LARGE_BYTES: usize = 24 * 1024;

/// Milliseconds of a frame on its way, at most.
pub(super) const WAY_MS: f64 = 80.0;

/// How many connections there seem to be for each that has a slot at the beginning of the ring: more than one worker
/// serves.
const AUDIENCE_SEEMS: u32 = 5_100;

/// Who connects.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Its lane.
    pub name: String,
    pub address: String,
    pub query: Vec<(String, String)>,
    /// Its token goes with the subprotocols.
    pub token: Option<String>,
}

/// What arrives at a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    Frame(String),
    Closed(u16),
}

/// A client's end of a connection. It is closed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    pub line: Line,
    pub incoming: mpsc::UnboundedReceiver<(Instant, Incoming)>,
}

/// What a client does with a connection.
#[derive(Clone, Debug)]
pub struct Line {
    pub id: String,
    cloud: Arc<Cloud>,
}

/// The connections that there are, and those that there were.
#[derive(Default)]
pub(super) struct Gateway {
    pub(super) connections: BTreeMap<String, Connection>,
    /// Calls of the management API that were taken within the last second.
    calls: VecDeque<Instant>,
    /// Posts of each frame by each fan-out, or by each worker, within the last second, refused ones too.
    posts: BTreeMap<u64, VecDeque<Instant>>,
    /// Connections to which a post was over the quota.
    over_quota: BTreeSet<String>,
    /// Connections whose `$disconnect` has ended.
    disconnected: BTreeSet<String>,
    /// In the order in which they came.
    pub(super) handshakes: Vec<Handshake>,
}

pub(super) struct Connection {
    visitor: Visitor,
    authorizer: Value,
    connected_ms: i64,
    pub(super) is_open: bool,
    /// The client's half is gone, and the gateway does not know.
    is_broken: bool,
    last_message: Instant,
    /// Messages that came, and those that are being answered.
    messages: u64,
    answering: u64,
    /// No frame overtakes another one.
    last_arrival: Instant,
    /// The regions that it has asked for.
    asked: BTreeSet<String>,
    frames: mpsc::UnboundedSender<(Instant, Incoming)>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.line.close();
    }
}

impl Line {
    /// Sends a message, which takes its time to the function.
    pub fn send(&self, text: String) {
        let (cloud, id) = (Arc::clone(&self.cloud), self.id.clone());
        let busy = cloud.begin();
        tokio::spawn(async move {
            cloud.message(&id, text).await;
            drop(busy);
        });
    }

    /// Closes it.
    pub fn close(&self) {
        self.cloud.hang_up(&self.id, true);
    }

    /// Breaks it. Without a word the gateway goes on as if it were open.
    pub fn breaks(&self, is_silent: bool) {
        if is_silent {
            if let Some(connection) = lock(&self.cloud.gateway).connections.get_mut(&self.id) {
                connection.is_broken = true;
            }
        } else {
            self.cloud.hang_up(&self.id, true);
        }
    }
}

fn context(id: &str, kind: &str, connection: &Visitor, connected_ms: i64, now_ms: i64, authorizer: &Value) -> Value {
    json!({
        "connectionId": id, "eventType": kind, "routeKey": "$default", "messageDirection": "IN", "stage": "prod",
        "connectedAt": connected_ms, "requestTimeEpoch": now_ms, "requestId": id, "apiId": "a", "domainName": "d",
        "identity": {"sourceIp": connection.address}, "authorizer": authorizer,
    })
}

impl Cloud {
    fn connection_id(&self, lane: &str) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let id = || {
            let letters = self.draw(lane, |random| {
                let letter = |_| char::from(LETTERS[random.random_range(0..LETTERS.len())]);
                (0..15).map(letter).collect::<String>()
            });
            format!("{letters}=")
        };
        if self.settings.page_items.is_none() || self.chance(lane, 0.5) {
            return id();
        }
        let is_first = |id: &str| id.parse().is_ok_and(|id| Slot::of(&id).hash() < u32::MAX / AUDIENCE_SEEMS);
        loop {
            let id = id();
            if is_first(&id) {
                return id;
            }
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// The status with which the handshake is refused.
    pub async fn handshake(self: &Arc<Self>, visitor: &Visitor) -> Result<Socket, u16> {
        let busy = self.begin();
        self.pass(&visitor.name, WAY_MS).await;
        let id = self.connection_id(&visitor.name);
        let connected_ms = self.now_ms();
        let mut headers = json!({"Host": "world.example"});
        if let Some(token) = &visitor.token {
            headers["Sec-WebSocket-Protocol"] = json!(format!("viral-alerts, bearer.{token}"));
        }
        let query: serde_json::Map<String, Value> =
            visitor.query.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let mut authorizer = Value::Null;
        if self.settings.authorization != "off" {
            let question = json!({"methodArn": "arn:x", "headers": headers, "queryStringParameters": query});
            let (answer, _) = self.invoke(FunctionName::Authorize, question.to_string().into_bytes(), id.clone()).await;
            authorizer = match answer {
                Ok(answer) => serde_json::from_slice::<Value>(&answer).unwrap_or_default()["context"].take(),
                Err(InvocationError::Failed(failure)) if failure.contains("Unauthorized") => return Err(401),
                Err(error) => {
                    self.fails(&format!("the handshake of {}", visitor.name), &error);
                    return Err(500);
                }
            };
        }
        // Until `$connect` has returned, the management API does not know the connection.
        let (frames, incoming) = mpsc::unbounded_channel();
        let now = Instant::now();
        let connection = Connection {
            visitor: visitor.clone(),
            authorizer: authorizer.clone(),
            connected_ms,
            is_open: false,
            is_broken: false,
            last_message: now,
            messages: 0,
            answering: 0,
            last_arrival: now,
            asked: visitor.query.iter().map(|(_, region)| region.clone()).collect(),
            frames,
        };
        lock(&self.gateway).connections.insert(id.clone(), connection);
        if let Some(user) = authorizer["user"].as_str() {
            self.comes(&id, user);
        }
        self.note(|| format!("{} opens {id}", visitor.name));
        let event = json!({
            "requestContext": context(&id, "CONNECT", visitor, connected_ms, self.now_ms(), &authorizer),
            "headers": headers, "queryStringParameters": query, "isBase64Encoded": false,
        });
        let (verdict, units) = self.invoke(FunctionName::Connect, event.to_string().into_bytes(), id.clone()).await;
        let verdict = verdict.map(|verdict| serde_json::from_slice::<Value>(&verdict).unwrap_or_default());
        let status = verdict.map_or(502, |verdict| verdict["statusCode"].as_u64().unwrap_or(502));
        if status >= 500 && self.is_calm_for(Duration::from_secs(10)) {
            self.breaks(8, format!("{} is refused with {status} in a calm world", visitor.name));
        }
        if status != 200 {
            lock(&self.gateway).connections.remove(&id);
        } else if let Some(connection) = lock(&self.gateway).connections.get_mut(&id) {
            connection.is_open = true;
        }
        self.has_come(&id, status);
        if status != 200 {
            return Err(u16::try_from(status).unwrap_or(502));
        }
        self.check_bill_of_connect(visitor.query.len(), self.rivals(&id), units);
        self.note(|| format!("{id} is open"));
        let (cloud, of) = (Arc::clone(self), id.clone());
        tokio::spawn(async move { cloud.end_of_life(&of).await });
        self.pass(&visitor.name, WAY_MS).await;
        drop(busy);
        Ok(Socket { line: Line { id, cloud: Arc::clone(self) }, incoming })
    }

    /// Closes a connection when it has been idle, or open, for as long as it may.
    async fn end_of_life(self: &Arc<Self>, id: &str) {
        let end = Instant::now() + LIFE_MAX;
        loop {
            let Some(idle_at) = lock(&self.gateway)
                .connections
                .get(id)
                .filter(|connection| connection.is_open)
                .map(|connection| connection.last_message + IDLE_MAX)
            else {
                return;
            };
            if Instant::now() >= idle_at.min(end) {
                return self.close_by_gateway(id, 1001);
            }
            sleep_until(idle_at.min(end)).await;
        }
    }

    fn close_by_gateway(self: &Arc<Self>, id: &str, code: u16) {
        self.tell(id, Incoming::Closed(code));
        self.hang_up(id, false);
    }

    /// A connection ends, and `$disconnect` runs sooner or later, or never.
    fn hang_up(self: &Arc<Self>, id: &str, is_by_client: bool) {
        let Some((event, regions, has_seat)) = ({
            let mut gateway = lock(&self.gateway);
            gateway.connections.get_mut(id).filter(|connection| connection.is_open).map(|connection| {
                connection.is_open = false;
                let Connection { visitor, connected_ms, authorizer, asked, .. } = connection;
                let event = json!({
                    "requestContext": context(id, "DISCONNECT", visitor, *connected_ms, self.now_ms(), authorizer),
                    "isBase64Encoded": false,
                });
                (event, asked.len(), authorizer["user"].is_string())
            })
        }) else {
            return;
        };
        self.note(|| format!("{id} is closed by the {}", if is_by_client { "client" } else { "gateway" }));
        if self.chance(id, self.weather().lost_disconnects) {
            return self.note(|| format!("$disconnect of {id} is lost"));
        }
        let (cloud, of) = (Arc::clone(self), id.to_owned());
        let busy = self.begin();
        tokio::spawn(async move {
            cloud.pass(&of, cloud.weather().disconnect_delay_ms.max(20.0)).await;
            let event = event.to_string().into_bytes();
            let (ended, units) = cloud.invoke(FunctionName::Disconnect, event, of.clone()).await;
            if ended.is_ok() {
                cloud.check_bill_of_disconnect(regions, has_seat, units);
                cloud.note(|| format!("$disconnect of {of} has ended"));
                tokio::spawn({
                    let (cloud, of) = (Arc::clone(&cloud), of.clone());
                    async move { cloud.check_traces_of(&of).await }
                });
                cloud.has_left(&of);
                lock(&cloud.gateway).disconnected.insert(of);
            }
            drop(busy);
        });
    }

    /// Sends a frame to a client. False if the connection does not exist.
    fn tell(&self, id: &str, frame: Incoming) -> bool {
        let ms = self.draw(id, |random| random.random_range(1.0..WAY_MS));
        if matches!(&frame, Incoming::Frame(text) if text.len() > LARGE_BYTES) {
            self.reaches(Situation::LargeAlert);
        }
        let mut gateway = lock(&self.gateway);
        let Some(connection) = gateway.connections.get_mut(id).filter(|connection| connection.is_open) else {
            return false;
        };
        let at = (Instant::now() + Duration::from_secs_f64(ms / 1_000.0)).max(connection.last_arrival);
        connection.last_arrival = at;
        // A client that is gone is not told.
        connection.is_broken || connection.frames.send((at, frame)).is_ok()
    }

    async fn message(self: &Arc<Self>, id: &str, text: String) {
        self.pass(id, WAY_MS).await;
        let Some((visitor, connected_ms, authorizer, began)) = ({
            let mut gateway = lock(&self.gateway);
            gateway.connections.get_mut(id).filter(|connection| connection.is_open && !connection.is_broken).map(
                |connection| {
                    connection.last_message = Instant::now();
                    connection.messages += 1;
                    connection.answering += 1;
                    let began = (connection.messages, connection.answering == 1);
                    (connection.visitor.clone(), connection.connected_ms, connection.authorizer.clone(), began)
                },
            )
        }) else {
            return;
        };
        let message: Value = serde_json::from_str(&text).unwrap_or_default();
        let kind = message["type"].as_str().map(str::to_owned);
        if let Some(connection) = lock(&self.gateway).connections.get_mut(id) {
            let asked = message["regions"].as_array().map_or(std::slice::from_ref(&message["region"]), Vec::as_slice);
            connection.asked.extend(asked.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        if kind.as_deref() == Some("ping") {
            self.tell(id, Incoming::Frame(json!({"type": "pong"}).to_string()));
            return;
        }
        let function = if kind.as_deref() == Some("publish") { FunctionName::Publish } else { FunctionName::Subscribe };
        let context = context(id, "MESSAGE", &visitor, connected_ms, self.now_ms(), &authorizer);
        let event = json!({"requestContext": context, "body": text, "isBase64Encoded": false});
        self.pass(id, self.weather().message_delay_ms).await;
        let (answer, units) = self.invoke(function, event.to_string().into_bytes(), id.to_owned()).await;
        let is_alone = lock(&self.gateway).connections.get_mut(id).is_some_and(|connection| {
            connection.answering -= 1;
            began == (connection.messages, true)
        });
        let answer = match answer {
            Ok(answer) => {
                let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
                self.check_answer(id, &message, answer["body"].as_str());
                answer["body"].as_str().map(str::to_owned)
            }
            Err(error) => {
                self.fails(&format!("a message of {id}"), &error);
                Some(json!({"message": "Internal server error", "connectionId": id, "requestId": "r"}).to_string())
            }
        };
        if let (Some(kind), Some(answer)) = (&kind, &answer)
            && is_alone
            && !answer.contains(r#""type":"error""#)
        {
            self.check_bill_of_message(kind, &message, units);
        }
        if let Some(answer) = answer {
            self.tell(id, Incoming::Frame(answer));
        }
    }

    /// The management API.
    pub(super) async fn manage(self: &Arc<Self>, call: &Call, path: &str) -> Reply {
        let id =
            path.rsplit('/').next().unwrap_or_default().replace("%3D", "=").replace("%2D", "-").replace("%5F", "_");
        let status = |status: u16| Reply { status, body: b"{}".to_vec() };
        let is_over = {
            let mut gateway = lock(&self.gateway);
            let now = Instant::now();
            while gateway.calls.front().is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(1)) {
                gateway.calls.pop_front();
            }
            let is_over = gateway.calls.len() >= self.settings.push_rate as usize;
            if is_over {
                gateway.over_quota.insert(id.clone());
            } else {
                gateway.calls.push_back(now);
            }
            is_over
        };
        let weather = self.weather();
        if is_over || self.chance(&id, weather.throttled_posts) {
            return status(429);
        }
        if self.chance(&id, weather.failed_posts) {
            return status(500);
        }
        let is_open = lock(&self.gateway).connections.get(&id).is_some_and(|connection| connection.is_open);
        let lies = match call.method.as_str() {
            "POST" => weather.post_lies,
            "GET" => weather.look_lies,
            _ => 0.0,
        };
        if !is_open || self.chance(&id, lies) {
            return status(410);
        }
        match call.method.as_str() {
            "POST" => {
                self.tell(&id, Incoming::Frame(String::from_utf8_lossy(&call.body).into_owned()));
                if self.chance(&id, weather.hung_posts) {
                    sleep(Duration::from_secs(4)).await;
                }
                status(200)
            }
            "DELETE" => {
                self.close_by_gateway(&id, 1000);
                status(204)
            }
            _ => Reply::json(&json!({"ConnectedAt": "2026-11-18T11:06:40Z", "LastActiveAt": "2026-11-18T11:06:40Z"})),
        }
    }

    /// Guarantee 6: the posts of one alert that leave the workers of a fan-out in any second. Where an invocation may
    /// run twice, each worker is looked at by itself.
    pub(super) fn check_rate(&self, call: &Call) {
        if call.method != "POST" || !call.uri.contains("/@connections/") {
            return;
        }
        let now = Instant::now();
        let runs_once = self.weather.has_sound_functions() && self.weather.repeats == 0.0;
        let invocation = || self.invocation_of(&call.process).map(|number| number.to_string());
        let sender = if runs_once { self.fan_out_of(&call.process) } else { invocation() };
        let Some(sender) = sender else { return };
        let frame = super::hash(super::hash(super::HASH_BEGAN, sender.as_bytes()), &call.body);
        let count = {
            let mut gateway = lock(&self.gateway);
            let posts = gateway.posts.entry(frame).or_default();
            while posts.front().is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(1)) {
                posts.pop_front();
            }
            posts.push_back(now);
            posts.len()
        };
        if count > self.settings.push_rate as usize {
            self.breaks(
                6,
                format!("{count} posts of one alert within a second, and {} are allowed", self.settings.push_rate),
            );
        }
    }

    /// Whether the gateway, or the Event API, holds a connection open.
    pub fn is_open(&self, id: &str) -> bool {
        lock(&self.gateway).connections.get(id).is_some_and(|connection| connection.is_open && !connection.is_broken)
            || self.is_event_socket_open(id)
    }

    /// Whether a call about a connection was over the quota.
    pub fn was_over_quota(&self, id: &str) -> bool {
        lock(&self.gateway).over_quota.contains(id)
    }

    /// Whether `$disconnect` of a connection has run to its end.
    pub fn has_disconnected(&self, id: &str) -> bool {
        lock(&self.gateway).disconnected.contains(id)
    }

    /// Breaks all connections at one moment.
    pub fn cut(self: &Arc<Self>) {
        let ids: Vec<String> = lock(&self.gateway).connections.keys().cloned().collect();
        for id in ids {
            self.close_by_gateway(&id, 1006);
        }
        self.cut_event_sockets();
    }

    /// Closes all connections, as their clients do.
    pub fn hang_up_all(self: &Arc<Self>) {
        let ids: Vec<String> = lock(&self.gateway).connections.keys().cloned().collect();
        for id in ids {
            self.hang_up(&id, true);
        }
    }

    /// Guarantee 5: half a minute after its `$disconnect`, when no message of it runs any more, a mark is left of a
    /// connection, and nothing else.
    async fn check_traces_of(self: &Arc<Self>, id: &str) {
        sleep(Duration::from_secs(31)).await;
        // A function that ends between writing and looking leaves what it wrote until it expires.
        if !self.planned().has_sound_functions() {
            return;
        }
        for item in self.store.items("SubscriptionsTable") {
            let is_mark = item["closed"].is_object();
            if item["connection_id"]["S"] == id && !is_mark {
                self.breaks(5, format!("{id} has disconnected, and left {item}"));
            }
        }
    }
}
