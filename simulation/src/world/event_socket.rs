//! A model of `client/src/viral-alerts-events.ts`: towards our client a socket that speaks the protocol of the service,
//! with AppSync Events and the log behind it.
//!
//! It is written from `docs/protocol.md` ("The Event API") and `client/README.md`. Left out is what no world has:
//! regions whose name ends with a hyphen, more regions of `ALL` than a cursor can name, refusals of a channel for
//! another reason than its token, so many alerts that not all are held, and the day after which AppSync closes a
//! connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    clients::{
        order::Position,
        ours::{ALL, Input},
    },
    cloud::{EVENTS_HOST, EventLine, Incoming, Line, Situation, lock},
    world::{
        clients::Client,
        events::ANONYMOUS,
        journal::{self, Received, Visit},
        legs::{FALLBACK, Leg, Legs, NotRead, Positions},
    },
};

// The bounds of `client/src/limits.ts`. Times are in milliseconds.
const BACKOFF_MS_MAX: f64 = 30_000.0;
const KA_MS: u64 = 65_000;
const POLL_MS: f64 = 4_000.0;
const RECONNECT_MS: u64 = 60_000;
const REGIONS_MAX: usize = 25;
const SECOND_LOOK_MS: f64 = 5_000.0;
/// Subscriptions in a row that cannot be answered, after which the client uses the WebSocket API.
const VAIN_MAX: u32 = 3;

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

impl Client {
    /// The value of `Authorization` for AppSync.
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
    began: Instant,
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
    /// Whether a look is due soon, also where one is under way.
    is_due: bool,
    /// Whether the client has had an answer with the log.
    serves: bool,
    /// Subscriptions in a row that could not be answered.
    vain: u32,
    /// Alerts that are not the next ones of their regions, and arrived before the log was read.
    held: Vec<Value>,
}

impl EventsSocket {
    /// Opens a connection, and hands on what arrives until it ends or breaks.
    pub(super) async fn opens(legs: &Arc<Legs>, leg: Leg, socket: u32, send: mpsc::UnboundedSender<News>) {
        let began = Instant::now();
        let client = Arc::clone(&legs.client);
        let cloud = Arc::clone(&client.run.cloud);
        assert_eq!(leg.host, EVENTS_HOST, "what clients are told is the address of the Event API");
        let opened = cloud.open_event_socket(&client.name, &client.events_token()).await;
        let (line, mut incoming) = (opened.line, opened.incoming);
        let state = Mutex::default();
        let own = Arc::new(Self { legs: Arc::clone(legs), client, socket, send, leg, line, began, state });
        let mut abandoned = legs.opens(socket);
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
                    Some((_, Incoming::Closed(_))) | None => own.loses(),
                },
                Ok(()) = &mut abandoned, if !lock(&own.state).is_open => own.close(),
                () = sleep_until(is_gone_at) => own.loses(),
                () = sleep_until(breaks_at.unwrap_or(is_gone_at)), if breaks_at.is_some() => {
                    breaks_at = None;
                    if !cloud.is_calm() {
                        own.line.breaks(is_silent);
                        if !is_silent {
                            own.loses();
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
        // The client has waited for it in vain.
        if !lock(&self.state).is_closed && self.began.elapsed() >= FALLBACK {
            self.avoids_unless_it_serves();
        }
        self.hangs_up();
    }

    fn hangs_up(&self) {
        self.legs.has_opened(self.socket);
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
        }
        self.hangs_up();
        drop(self.send.send(News::To(Input::Closed { socket: self.socket, code: 1006 })));
    }

    /// AppSync has ended the connection, or is silent.
    fn loses(&self) {
        if !lock(&self.state).is_closed {
            self.avoids_unless_it_serves();
        }
        self.end();
    }

    /// Uses the WebSocket API for the next connection, if this one has not served the client.
    fn avoids_unless_it_serves(&self) {
        if !lock(&self.state).serves {
            self.avoids();
        }
    }

    fn avoids(&self) {
        self.client.run.cloud.reaches(Situation::LegAvoided);
        self.legs.avoid();
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
        if lock(&self.state).is_closed {
            return;
        }
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        match frame["type"].as_str() {
            Some("connection_ack") => {
                let visit = self.client.begins(&self.line.id);
                let mut state = lock(&self.state);
                (state.is_open, state.visit) = (true, visit);
                drop(state);
                self.legs.has_opened(self.socket);
                let wire = Wire::Events(Arc::clone(self));
                if self.send.send(News::Opened { socket: self.socket, wire, visit }).is_err() {
                    // The page has gone.
                    self.close();
                }
            }
            Some("connection_error") => self.loses(),
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
        let place = Position::deserialize(&alert).unwrap_or_default();
        let region = alert["region"].as_str().unwrap_or_default();
        {
            let mut state = lock(&self.state);
            let last = state.last.entry(region.to_owned()).or_default();
            if place < *last && alert["type"] == "viral_alert" {
                self.client.run.cloud.reaches(Situation::EventOvertaken);
            }
            *last = place.max(*last);
            let at = state.at.get(region).copied().unwrap_or_default();
            // Before the first alert of a region there is no log.
            let is_next = (at.epoch == 0 || place.epoch == at.epoch) && place.seq == at.seq + 1;
            if is_next {
                state.at.insert(region.to_owned(), place);
            } else if !state.serves {
                // A gap would make the client ask a log that is not read yet, once for each alert.
                return state.held.push(alert);
            }
        }
        self.tell(&alert);
    }

    // --- Requests of the client --------------------------------------------------------------------------------------

    async fn answer(self: Arc<Self>, message: &Value) {
        let asked: Vec<String> = Vec::deserialize(&message["regions"]).unwrap_or_default();
        let joins = message["type"] == "subscribe_region";
        if message["type"] == "keepalive" {
            return self.tell(&json!({"type": "kept"}));
        }
        let since = Positions::deserialize(&message["since"]).ok();
        let had_them = {
            let mut state = lock(&self.state);
            for (region, at) in since.iter().flatten() {
                state.at.entry(region.clone()).or_insert(*at);
            }
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
            // Leaving ALL subscribes to what it covered.
            if asked.iter().any(|region| region == ALL) {
                self.looks_soon();
            }
            return if is_refused { self.end() } else { self.tell(&json!({"type": "unsubscribed", "regions": asked})) };
        }
        match self.legs.read(&asked, since).await {
            // AppSync answers the same if the token does not allow a region and if authorize failed. The log refuses
            // only the former.
            Ok(_) if is_refused => return self.refuses("unavailable", true),
            Ok(found) => {
                if had_them && self.has_news(&found.alerts) {
                    self.client.run.cloud.reaches(Situation::FoundByNumber);
                }
                let held = {
                    let mut state = lock(&self.state);
                    state.at.extend(found.positions.clone());
                    (state.serves, state.vain) = (true, 0);
                    std::mem::take(&mut state.held)
                };
                let mut frame = serde_json::to_value(found).unwrap_or_default();
                frame["type"] = json!("subscribed");
                frame["regions"] = json!(asked);
                frame["reconnect_within_ms"] = json!(RECONNECT_MS);
                self.tell(&frame);
                for alert in &held {
                    self.tell(alert);
                }
            }
            Err(NotRead { status: 401, .. }) => return self.end(),
            Err(NotRead { status, code }) => {
                let told = code.as_deref().unwrap_or("unavailable");
                // A log that is busy has an answer later. An answer without a code is not the service's.
                return if status == 429 {
                    self.tell(&refusal(told, true));
                } else {
                    self.refuses(told, code.is_none() || status >= 500);
                };
            }
        }
        self.looks_soon();
        self.follows();
    }

    /// Tells that a subscription cannot be answered, or leaves the Event API after [`VAIN_MAX`] times.
    fn refuses(&self, code: &str, is_retryable: bool) {
        let is_vain = is_retryable && {
            let mut state = lock(&self.state);
            state.vain += 1;
            state.vain >= VAIN_MAX
        };
        if !is_vain {
            return self.tell(&refusal(code, is_retryable));
        }
        self.avoids();
        self.end();
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
        // Where ALL was refused, the others stay.
        let kept = self.names();
        let left: Vec<String> = {
            let mut state = lock(&self.state);
            state.channels.extract_if(.., |name, _| !kept.contains(name)).map(|(_, id)| id).collect()
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
        lock(&self.state).is_due = true;
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
        lock(&self.state).is_due = false;
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
        let is_due = {
            let mut state = lock(&self.state);
            state.failures = 0;
            state.heard.clear();
            state.is_due || !silent.is_empty()
        };
        if is_due {
            self.looks_soon();
        } else {
            self.looks_after(check_ms as f64 * (0.75 + self.client.draw_events(0.5)));
        }
        // What AppSync has lost and a subscription that has ended look the same from here.
        for name in silent {
            tokio::spawn(Arc::clone(self).renews(name));
        }
        self.follows();
    }

    /// Changes to the connection that the service means this client to have.
    fn follows(&self) {
        if !self.legs.means(&self.leg) {
            self.client.run.cloud.reaches(Situation::LegChanged);
            self.end();
        }
    }
}

/// An answer that refuses a message, as the service writes it.
fn refusal(code: &str, retryable: bool) -> Value {
    json!({"type": "error", "code": code, "message": code, "retryable": retryable})
}
