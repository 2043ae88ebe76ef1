//! A model of `client/src/viral-alerts-events.ts`: towards our client a socket that speaks the protocol of the service,
//! with AppSync Events and the log behind it.
//!
//! It is written from `docs/protocol.md` ("The Event API") and `client/README.md`. Left out are regions whose name ends
//! with a hyphen, of which a world has none, and the day after which AppSync closes a connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    clients::{
        order::Position,
        ours::{ALL, Input, cursor},
    },
    cloud::{EVENTS_HOST, EventLine, Incoming, Line, Situation, lock},
    world::{
        clients::Client,
        events::ANONYMOUS,
        journal::{self, Received, Visit},
    },
};

// The bounds of `client/src/limits.ts`. Times are in milliseconds.
const ANSWER_MS: u64 = 15_000;
const BACKOFF_MS_MAX: f64 = 30_000.0;
const FALLBACK_MS: u64 = 4_000;
const KA_MS: u64 = 65_000;
const PAGES_MAX: usize = 100;
const POLL_MS: f64 = 4_000.0;
const RECONNECT_MS: u64 = 60_000;
const REGIONS_MAX: usize = 25;
const SECOND_LOOK_MS: f64 = 5_000.0;

type Positions = BTreeMap<String, Position>;

/// What a socket of the client stands for.
pub(super) enum Wire {
    Gateway(Line),
    Events(Arc<EventsSocket>),
}

impl Wire {
    pub(super) fn send(&self, text: String) {
        match self {
            Self::Gateway(line) => line.send(text),
            Self::Events(socket) => socket.sends(&text),
        }
    }

    pub(super) fn close(&self) {
        match self {
            Self::Gateway(line) => line.close(),
            Self::Events(socket) => socket.close(),
        }
    }
}

/// What comes to the driver.
pub(super) enum News {
    Opened { socket: u32, wire: Wire, visit: usize },
    To(Input),
}

/// Which Event API the service has told of, and for how many clients.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Leg {
    url: String,
    host: String,
    share: u32,
}

/// What all sockets of one client have in common.
pub(super) struct Legs {
    client: Arc<Client>,
    /// The regions with which the page begins.
    regions: Vec<String>,
    known: Mutex<Known>,
}

struct Known {
    /// Which share of the clients this one belongs to.
    draw: u32,
    /// What the service told last; `Some(None)` if that was that there is none.
    leg: Option<Option<Leg>>,
    /// The leg could not be opened, so the next connection is another one.
    avoids: bool,
}

/// Which leg a connection is opened on.
pub(super) enum Way {
    Events(Leg),
    /// The WebSocket API. `stays`: also if the service tells of an Event API.
    Gateway {
        stays: bool,
    },
}

/// A request over HTTP that was not answered with a page.
struct NotRead {
    status: u16,
    code: Option<String>,
}

/// What was read of the log, as fields of an answer to a subscription.
#[derive(Default, Serialize)]
struct Found {
    positions: Positions,
    alerts: Vec<Value>,
    removed: Vec<Value>,
    not_recovered: Vec<Value>,
}

impl Legs {
    pub(super) fn new(client: &Arc<Client>, regions: &[String]) -> Arc<Self> {
        let draw = client.draw_events(100.0) as u32;
        let known = Mutex::new(Known { draw, leg: None, avoids: false });
        Arc::new(Self { client: Arc::clone(client), regions: regions.to_vec(), known })
    }

    fn meant(&self) -> Option<Leg> {
        let known = lock(&self.known);
        known.leg.clone().flatten().filter(|leg| known.draw < leg.share)
    }

    /// Takes from an answer of the service what it says of the Event API.
    fn learn(&self, answer: &Value) {
        lock(&self.known).leg = Some(Leg::deserialize(&answer["events"]).ok());
    }

    /// Whether a connection to the WebSocket API that does not stay is to be left, by a frame that came over it.
    pub(super) fn moves_away(&self, frame: &str) -> bool {
        let answer: Value = serde_json::from_str(frame).unwrap_or_default();
        if answer["type"] != "subscribed" {
            return false;
        }
        self.learn(&answer);
        self.meant().is_some()
    }

    pub(super) async fn choose(self: &Arc<Self>) -> Way {
        let is_unknown = {
            let known = lock(&self.known);
            known.leg.is_none() && !known.avoids
        };
        if is_unknown {
            let (legs, first) = (Arc::clone(self), self.regions.first().map_or(ALL, String::as_str).to_owned());
            let asked = tokio::spawn(async move { legs.query(&[first], "limit", "1").await.ok() });
            drop(timeout(Duration::from_millis(FALLBACK_MS), asked).await);
        }
        let mut known = lock(&self.known);
        let stays = std::mem::take(&mut known.avoids) || known.leg.is_none();
        drop(known);
        self.meant().filter(|_| !stays).map_or(Way::Gateway { stays }, Way::Events)
    }

    async fn query(self: &Arc<Self>, asked: &[String], name: &str, value: &str) -> Result<Value, NotRead> {
        let (client, query) = (Arc::clone(&self.client), json!({"region": asked.join(","), name: value}));
        let request = tokio::spawn(async move { client.get_alerts(query).await });
        let answered = timeout(Duration::from_millis(ANSWER_MS), request).await;
        let (status, body) = answered.ok().and_then(Result::ok).unwrap_or((500, String::new()));
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        if status != 200 {
            return Err(NotRead { status, code: answer["error"]["code"].as_str().map(str::to_owned) });
        }
        self.learn(&answer);
        Ok(answer)
    }

    /// Reads the log of some regions after positions. Without positions it reads where the logs end.
    async fn read(self: &Arc<Self>, asked: &[String], since: Option<Positions>) -> Result<Found, NotRead> {
        let has_all = since.is_some() && asked.first().is_some_and(|region| region == ALL);
        let mut found = Found { positions: since.unwrap_or_default(), ..Found::default() };
        let mut before = None;
        for _ in 0..PAGES_MAX {
            let after = cursor(found.positions.clone(), has_all);
            // A page that does not move the cursor is the last one.
            if before.as_ref() == Some(&after) {
                break;
            }
            let (name, value) = if after.is_empty() { ("limit", "1") } else { ("after", after.as_str()) };
            let mut answer = self.query(asked, name, value).await?;
            found.positions.extend(Positions::deserialize(&answer["positions"]).unwrap_or_default());
            if after.is_empty() {
                break;
            }
            let mut list = |name: &str| answer[name].as_array_mut().map(std::mem::take).unwrap_or_default();
            found.alerts.extend(list("alerts"));
            found.removed.extend(list("removed"));
            found.not_recovered.extend(list("not_recovered"));
            if answer["more"] != true {
                break;
            }
            before = Some(after);
        }
        Ok(found)
    }
}

impl Client {
    /// A number from 0 to `most`, of a lane of its own.
    fn draw_events(&self, most: f64) -> f64 {
        self.run.cloud.draw(&format!("events of {}", self.name), |random| random.random_range(0.0..most))
    }

    /// What it says to AppSync.
    fn events_token(&self) -> String {
        let has_token = self.run.cloud.settings.authorization != "off";
        if has_token { self.token() } else { ANONYMOUS.to_owned() }
    }

    /// Notes that a connection to the Event API has opened. Its place in the journal.
    fn begins(&self, id: &str) -> usize {
        let mut journal = lock(&self.run.journal);
        journal.without_seat.remove(&self.name);
        let visit = Visit { client: self.name.clone(), id: id.to_owned(), is_on_events: true, ..Visit::default() };
        journal.visits.push(Visit { allowed: self.allowed.clone(), ..visit });
        journal.visits.len() - 1
    }

    /// Whether an alert of an answer has not come over a connection before.
    fn has_not_received(&self, visit: usize, alert: &Value) -> bool {
        let Some(read) = journal::alert(alert, 0, None) else { return false };
        let is_same = |it: &Received| (&it.region, it.epoch, it.seq) == (&read.region, read.epoch, read.seq);
        !lock(&self.run.journal).visits[visit].received.iter().any(is_same)
    }
}

/// One connection to the Event API.
pub(super) struct EventsSocket {
    legs: Arc<Legs>,
    client: Arc<Client>,
    /// Its number in our client, and what it is told over.
    socket: u32,
    send: mpsc::UnboundedSender<News>,
    leg: Leg,
    line: EventLine,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_open: bool,
    is_closed: bool,
    visit: usize,
    /// Regions to which the client is subscribed, and the ids of the channels to which this connection is.
    regions: BTreeSet<String>,
    channels: BTreeMap<String, String>,
    /// Ids of the channels that have brought something since the last look.
    heard: BTreeSet<String>,
    count: usize,
    /// What takes the answers of AppSync, by id.
    waiting: BTreeMap<String, oneshot::Sender<Value>>,
    /// Up to where the client was handed everything, by region.
    at: Positions,
    /// The last number of each log that came, and how many looks were planned.
    last: Positions,
    looks: u64,
    /// Looks that failed in a row.
    failures: u32,
}

impl EventsSocket {
    /// Opens a connection, and hands on what arrives until it ends or breaks.
    pub(super) async fn opens(legs: &Arc<Legs>, leg: Leg, socket: u32, send: mpsc::UnboundedSender<News>) {
        let client = Arc::clone(&legs.client);
        let cloud = Arc::clone(&client.run.cloud);
        assert_eq!(leg.host, EVENTS_HOST, "what clients are told is the address of the Event API");
        let opened = cloud.open_event_socket(&client.name, &client.events_token()).await;
        let (line, mut incoming) = (opened.line, opened.incoming);
        let state = Mutex::default();
        let own = Arc::new(Self { legs: Arc::clone(legs), client, socket, send, leg, line, state });
        own.post(&json!({"type": "connection_init"}));
        let (mut breaks_at, is_silent) = own.client.breaks(&own.line.id);
        let mut heard_at = Instant::now();
        while !lock(&own.state).is_closed {
            let is_gone_at = heard_at + Duration::from_millis(KA_MS);
            tokio::select! {
                biased;
                arrived = incoming.recv() => match arrived {
                    Some((at, Incoming::Frame(text))) => {
                        sleep_until(at).await;
                        heard_at = Instant::now();
                        own.takes(&text);
                    }
                    Some((_, Incoming::Closed(_))) | None => own.end(),
                },
                () = sleep_until(is_gone_at) => own.end(),
                () = sleep_until(breaks_at.unwrap_or(is_gone_at)), if breaks_at.is_some() => {
                    breaks_at = None;
                    if !cloud.is_calm() {
                        own.line.breaks(is_silent);
                        if !is_silent {
                            own.end();
                        }
                    }
                }
            }
        }
    }

    fn post(&self, message: &Value) {
        self.line.send(message.to_string());
    }

    /// Takes a message of the client.
    pub(super) fn sends(self: &Arc<Self>, text: &str) {
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        if message["type"] == "ping" {
            // AppSync answers that it does not know the id, which shows that it is there.
            return self.post(&json!({"type": "unsubscribe", "id": "ping"}));
        }
        let own = Arc::clone(self);
        tokio::spawn(async move { own.answer(&message).await });
    }

    /// Closes it, as the client wants.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        state.waiting.clear();
        drop(state);
        self.line.close();
    }

    fn end(&self) {
        let (is_open, visit) = {
            let state = lock(&self.state);
            if state.is_closed {
                return;
            }
            (state.is_open, state.visit)
        };
        if is_open {
            self.client.closed(visit);
        } else {
            lock(&self.legs.known).avoids = true;
        }
        self.close();
        drop(self.send.send(News::To(Input::Closed { socket: self.socket, code: 1006 })));
    }

    fn tell(&self, frame: &Value) {
        let state = lock(&self.state);
        if state.is_open && !state.is_closed {
            let input = Input::Frame { socket: self.socket, text: frame.to_string() };
            drop(self.send.send(News::To(input)));
        }
    }

    // --- Alerts ------------------------------------------------------------------------------------------------------

    /// Takes a frame of AppSync.
    fn takes(self: &Arc<Self>, text: &str) {
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        match frame["type"].as_str() {
            Some("connection_ack") => {
                let visit = self.client.begins(&self.line.id);
                let mut state = lock(&self.state);
                (state.is_open, state.visit) = (true, visit);
                drop(state);
                let wire = Wire::Events(Arc::clone(self));
                if self.send.send(News::Opened { socket: self.socket, wire, visit }).is_err() {
                    // The page has gone.
                    self.close();
                }
            }
            Some("connection_error") => self.end(),
            Some("data") => {
                lock(&self.state).heard.insert(frame["id"].as_str().unwrap_or_default().to_owned());
                self.takes_alert(frame["event"].as_str().unwrap_or_default());
            }
            _ => {
                // To the client it only shows that the peer is there.
                self.tell(&json!({"type": "ka"}));
                let waiting = lock(&self.state).waiting.remove(frame["id"].as_str().unwrap_or_default());
                if let Some(waiting) = waiting {
                    drop(waiting.send(frame));
                }
            }
        }
    }

    fn takes_alert(&self, text: &str) {
        let alert: Value = serde_json::from_str(text).unwrap_or_default();
        self.tell(&alert);
        let Ok(place) = Position::deserialize(&alert) else { return };
        let region = alert["region"].as_str().unwrap_or_default();
        let mut state = lock(&self.state);
        let last = state.last.entry(region.to_owned()).or_default();
        if place < *last && alert["type"] == "viral_alert" {
            self.client.run.cloud.reaches(Situation::EventOvertaken);
        }
        *last = place.max(*last);
        let at = state.at.get(region).copied().unwrap_or_default();
        // Before the first alert of a region there is no log.
        if (at.epoch == 0 || place.epoch == at.epoch) && place.seq == at.seq + 1 {
            state.at.insert(region.to_owned(), place);
        }
    }

    // --- Requests of the client --------------------------------------------------------------------------------------

    async fn answer(self: Arc<Self>, message: &Value) {
        let asked: Vec<String> = Vec::deserialize(&message["regions"]).unwrap_or_default();
        let joins = message["type"] == "subscribe_region";
        if message["type"] == "keepalive" {
            return self.tell(&json!({"type": "kept"}));
        }
        let had_them = {
            let mut state = lock(&self.state);
            for region in &asked {
                if joins {
                    state.regions.insert(region.clone());
                } else {
                    state.regions.remove(region);
                }
            }
            asked.iter().all(|region| state.channels.contains_key(region))
        };
        let Some(is_refused) = self.subscribes().await else { return };
        if !joins {
            return if is_refused { self.end() } else { self.tell(&json!({"type": "unsubscribed", "regions": asked})) };
        }
        match self.legs.read(&asked, Positions::deserialize(&message["since"]).ok()).await {
            // AppSync answers the same if the token does not allow a region and if authorize failed. The log refuses
            // only the former.
            Ok(_) if is_refused => return self.tell(&refusal("unavailable", true)),
            Ok(found) => {
                if had_them && self.has_news(&found.alerts) {
                    self.client.run.cloud.reaches(Situation::FoundByNumber);
                }
                lock(&self.state).at.extend(found.positions.clone());
                let mut frame = serde_json::to_value(found).unwrap_or_default();
                frame["type"] = json!("subscribed");
                frame["regions"] = json!(asked);
                frame["reconnect_within_ms"] = json!(RECONNECT_MS);
                self.tell(&frame);
            }
            Err(NotRead { status: 401, .. }) => return self.end(),
            Err(NotRead { status, code }) => {
                // An answer without a code is not the service's.
                let is_retryable = code.is_none() || status >= 500 || status == 429;
                return self.tell(&refusal(code.as_deref().unwrap_or("unavailable"), is_retryable));
            }
        }
        self.looks_soon();
        self.follows();
    }

    /// Subscribes to what the client is subscribed to, and to nothing twice. Whether a channel is refused; nothing if
    /// the connection has ended.
    async fn subscribes(&self) -> Option<bool> {
        let names = self.names();
        let missing = {
            let state = lock(&self.state);
            names.iter().filter(|name| !state.channels.contains_key(*name)).cloned().collect::<Vec<_>>()
        };
        let answers = join_all(missing.into_iter().map(|name| async move {
            let (id, is_refused) = self.joins(&name).await?;
            let mut state = lock(&self.state);
            if is_refused {
                state.regions.remove(&name);
            } else {
                state.channels.insert(name, id);
            }
            Some(is_refused)
        }))
        .await;
        let left: Vec<String> = {
            let mut state = lock(&self.state);
            state.channels.extract_if(.., |name, _| !names.contains(name)).map(|(_, id)| id).collect()
        };
        for id in left {
            self.post(&json!({"type": "unsubscribe", "id": id}));
        }
        answers.into_iter().try_fold(false, |any, answer| answer.map(|is_refused| any || is_refused))
    }

    /// Subscribes to the channel of a region. The id of the subscription, and whether it is refused; nothing if the
    /// connection has ended.
    async fn joins(&self, name: &str) -> Option<(String, bool)> {
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut state = lock(&self.state);
            state.count += 1;
            let id = state.count.to_string();
            state.waiting.insert(id.clone(), answer);
            id
        };
        let channel = format!("/alerts/{}", if name == ALL { "*" } else { name });
        let authorization = json!({"host": self.leg.host, "Authorization": self.client.events_token()});
        self.post(&json!({"type": "subscribe", "id": id, "channel": channel, "authorization": authorization}));
        let answer = answered.await.ok()?;
        Some((id, answer["type"] != "subscribe_success"))
    }

    /// Puts another subscription in the place of one that may have ended, and only then ends that one.
    async fn renews(self: Arc<Self>, name: String) {
        let before = lock(&self.state).channels.get(&name).cloned();
        let Some((id, is_refused)) = self.joins(&name).await else { return };
        if is_refused {
            return self.end();
        }
        let left = {
            let mut state = lock(&self.state);
            // Meanwhile the region may have been left.
            let is_wanted = before.is_some() && state.channels.get(&name) == before.as_ref();
            if is_wanted { state.channels.insert(name, id) } else { Some(id) }
        };
        self.post(&json!({"type": "unsubscribe", "id": left}));
    }

    /// What it is subscribed to: only `ALL` if that is among it.
    fn names(&self) -> Vec<String> {
        let state = lock(&self.state);
        if state.regions.contains(ALL) { vec![ALL.to_owned()] } else { state.regions.iter().cloned().collect() }
    }

    // --- The log -----------------------------------------------------------------------------------------------------

    /// Whether any of these alerts has not come.
    fn has_news(&self, alerts: &[Value]) -> bool {
        let state = lock(&self.state);
        alerts.iter().any(|alert| self.client.has_not_received(state.visit, alert))
    }

    /// Looks at the log soon after a subscription: what is published just after `subscribe_success` may not arrive.
    fn looks_soon(self: &Arc<Self>) {
        self.looks_after(SECOND_LOOK_MS + self.client.draw_events(SECOND_LOOK_MS));
    }

    /// Looks at the log after a pause, unless another look is planned meanwhile.
    fn looks_after(self: &Arc<Self>, ms: f64) {
        if self.client.run.cloud.settings.event_api.is_none_or(|it| it.check_ms.is_none()) {
            return;
        }
        let number = {
            let mut state = lock(&self.state);
            state.looks += 1;
            state.looks
        };
        let own = Arc::clone(self);
        tokio::spawn(async move {
            sleep(Duration::from_secs_f64(ms / 1_000.0)).await;
            let is_due = {
                let state = lock(&own.state);
                state.looks == number && !state.is_closed
            };
            if is_due {
                own.looks().await;
            }
        });
    }

    /// Hands over what AppSync has lost.
    async fn looks(self: &Arc<Self>) {
        let (names, mut silent) = (self.names(), Vec::new());
        let check_ms = self.client.run.cloud.settings.event_api.and_then(|it| it.check_ms).unwrap_or_default();
        for asked in names.chunks(REGIONS_MAX) {
            let known = |name: &String| asked.contains(name) || asked[0] == ALL;
            let since = lock(&self.state).at.clone().into_iter().filter(|(name, _)| known(name)).collect();
            let found = match self.legs.read(asked, Some(since)).await {
                Ok(found) => found,
                // The client's next subscription finds out which region is refused, or that the token is.
                Err(NotRead { code: Some(code), .. }) if code == "forbidden" || code == "unauthorized" => {
                    return self.end();
                }
                Err(_) => {
                    let failures = {
                        let mut state = lock(&self.state);
                        state.failures += 1;
                        state.failures - 1
                    };
                    let window_ms = POLL_MS * 2f64.powi(failures.cast_signed());
                    self.looks_after(self.client.draw_events(window_ms.min(BACKOFF_MS_MAX)));
                    return self.follows();
                }
            };
            // The client's next subscription finds out what is lost.
            if !found.not_recovered.is_empty() {
                return self.end();
            }
            if self.has_news(&found.alerts) {
                self.client.run.cloud.reaches(Situation::FoundByLook);
            }
            for frame in found.removed.iter().chain(&found.alerts) {
                self.tell(frame);
            }
            let mut state = lock(&self.state);
            state.at.extend(found.positions);
            let is_found = |name: &str| {
                let mut all = found.removed.iter().chain(&found.alerts);
                all.any(|frame| name == ALL || frame["region"] == *name)
            };
            let has_heard = |name: &str| state.channels.get(name).is_some_and(|id| state.heard.contains(id));
            silent.extend(asked.iter().filter(|name| is_found(name) && !has_heard(name)).cloned());
        }
        {
            let mut state = lock(&self.state);
            state.failures = 0;
            state.heard.clear();
        }
        if silent.is_empty() {
            self.looks_after(check_ms as f64 * (0.75 + self.client.draw_events(0.5)));
        } else {
            self.looks_soon();
        }
        // What AppSync has lost and a subscription that has ended look the same from here.
        for name in silent {
            tokio::spawn(Arc::clone(self).renews(name));
        }
        self.follows();
    }

    /// Changes to the connection that the service means this client to have.
    fn follows(&self) {
        if self.legs.meant().is_none_or(|leg| leg.url != self.leg.url) {
            self.client.run.cloud.reaches(Situation::LegChanged);
            self.end();
        }
    }
}

/// An answer that refuses a message, as the service writes it.
fn refusal(code: &str, retryable: bool) -> Value {
    json!({"type": "error", "code": code, "message": code, "retryable": retryable})
}
