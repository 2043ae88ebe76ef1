//! What it asks the service for over its sockets, and over HTTP.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ADVICE_MS_MAX, ALL, ANSWER_MS, Alarm, Alarms, Answer, CURSOR_MAX, Fetch, INTERVAL_MS_MIN, MESSAGE_MS, OurClient,
    Output, POLL_MS, POSITIONS_MAX, RECONNECT_WITHIN_MS, REGIONS_MAX, ROTATE_AFTER_MS, ROTATE_AFTER_MS_MAX, Request,
    SAVED_MS, SURPLUS_MAX, Socket, State, Told, Work, base36,
};
use crate::clients::order::Position;

/// The cursor of a request for what follows positions, sorted by region. It is empty without any, unless everything
/// is followed.
pub fn cursor(known: impl IntoIterator<Item = (String, Position)>, everything: bool) -> String {
    let mut cursor = String::new();
    for (region, Position { epoch, seq }) in known.into_iter().take(POSITIONS_MAX) {
        let one = format!("{region}.{}.{}", base36(epoch), base36(seq));
        if cursor.len() + one.len() >= CURSOR_MAX {
            break;
        }
        if !cursor.is_empty() {
            cursor.push('_');
        }
        cursor.push_str(&one);
    }
    if cursor.is_empty() && everything { "_".to_owned() } else { cursor }
}

impl OurClient {
    /// Requests what is wanted and missing, on each open connection.
    pub(super) fn work(&mut self) {
        let regions = self.followed();
        for id in [self.current, self.next].into_iter().flatten() {
            let new: Vec<&String> = regions.iter().filter(|region| !self.has(region)).collect();
            let Some(socket) = self.sockets.get_mut(&id) else { continue };
            // It starts anew, whether or not the service has heard that it was left.
            socket.subscribed.retain(|region| !new.contains(&region));
            if socket.opened {
                self.ask(id);
            }
        }
    }

    /// Begins a round of requests, one after the other until none is due.
    pub(super) fn ask(&mut self, id: u32) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if matches!(socket.work, Work::Nothing) {
            socket.errors = 0;
            socket.at_once = REGIONS_MAX;
            self.advance(id);
        }
    }

    pub(super) fn advance(&mut self, id: u32) {
        self.advance_after(id, 0.0);
    }

    /// Sends the next request after so long at least, and not faster than the service takes them.
    fn advance_after(&mut self, id: u32, ms: f64) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let wait = ms.max(socket.free_at - self.now as f64);
        if wait >= 1.0 {
            socket.work = Work::Pause;
            return self.after(wait, Alarm::Retry(id));
        }
        let regions = self.followed();
        let Some(Socket { subscribed, idle, at_once, .. }) = self.sockets.get(&id) else { return };
        let all = regions.first().is_some_and(|region| region == ALL);
        // Leaving makes room. What ALL covers costs nothing, until it takes the room of others.
        let mut left: Vec<String> = subscribed.iter().filter(|region| !regions.contains(region)).cloned().collect();
        if all && left.len() <= SURPLUS_MAX {
            left.clear();
        }
        left.truncate(REGIONS_MAX);
        let new = regions.iter().filter(|region| !subscribed.contains(region));
        let new: Vec<String> = new.take(*at_once).cloned().collect();
        let stale = self.stale.iter().find(|region| self.has(region)).cloned();
        let request = if !left.is_empty() {
            Some(Request { kind: "unsubscribe_region", regions: left })
        } else if !new.is_empty() {
            Some(Request { kind: "subscribe_region", regions: new })
        } else if let Some(region) = stale {
            Some(Request { kind: "subscribe_region", regions: vec![region] })
        } else if *idle && !regions.is_empty() {
            Some(Request { kind: "keepalive", regions })
        } else {
            None
        };
        let idle = *idle;
        if let Some(request) = request {
            let mut message = json!({"type": request.kind, "regions": request.regions});
            if request.regions.iter().any(|region| self.has(region)) {
                let since: BTreeMap<_, _> = self.since(&request.regions).into_iter().collect();
                message["since"] = json!(since);
            }
            if let Some(socket) = self.sockets.get_mut(&id) {
                socket.work = Work::Answer(request);
                socket.free_at = socket.free_at.max(self.now as f64 - SAVED_MS) + MESSAGE_MS;
            }
            return self.send(id, &message);
        }
        if idle {
            self.ping(id);
        }
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.idle = false;
            socket.work = Work::Nothing;
        }
        if self.next == Some(id) {
            self.promote(id);
        }
    }

    /// The new connection is subscribed to everything.
    pub(super) fn promote(&mut self, id: u32) {
        if let Some(old) = self.current.take() {
            self.close(old);
        }
        self.next = None;
        self.current = Some(id);
        self.failures = 0;
        self.alarms.cancel(&Alarm::Connect);
        self.after(self.rotate_after.clamp(INTERVAL_MS_MIN, ROTATE_AFTER_MS_MAX), Alarm::Connect);
        self.enter(State::Open);
    }

    pub(super) fn answered(&mut self, id: u32, request: &Request, frame: &Value) {
        let is_final = frame["retryable"] == false;
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.at_once = REGIONS_MAX;
        if !frame["positions"].is_null() {
            if self.subscribed(id, &request.regions, frame) {
                return;
            }
        } else if frame["type"] == "unsubscribed" || (is_final && request.kind == "unsubscribe_region") {
            socket.subscribed.retain(|region| !request.regions.contains(region));
        } else if frame["type"] == "kept" || (is_final && request.kind == "keepalive") {
            socket.idle = false;
            let named = |list: &str| {
                let names = frame[list].as_array().into_iter().flatten();
                names.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
            };
            // A service that does not know the message is asked with new subscriptions.
            let doubtful =
                if is_final { request.regions.clone() } else { [named("behind"), named("missing")].concat() };
            if request.regions.iter().any(|region| region == ALL) {
                if !doubtful.is_empty() {
                    socket.subscribed.retain(|region| region != ALL);
                }
            } else {
                socket.subscribed.retain(|region| !doubtful.contains(region));
            }
        } else {
            let about_positions = frame["field"].as_str().is_some_and(|field| field.starts_with("since"));
            let refuses = is_final && !about_positions;
            if refuses && request.regions.len() > 1 {
                // In ever smaller parts: only the refused region fails.
                socket.at_once = request.regions.len() / 2;
                return self.advance(id);
            }
            if is_final {
                let code = frame["code"].as_str().unwrap_or_default().to_owned();
                self.tell(Told::Error { code, terminal: false });
            }
            if refuses {
                self.refuse(&request.regions[0]);
            } else {
                return self.pause(id, frame["retry_after_ms"].as_f64().unwrap_or_default());
            }
        }
        self.advance(id);
    }

    pub(super) fn refuse(&mut self, region: &str) {
        self.refused.insert(region.to_owned());
        if !self.stale.iter().any(|stale| stale == region) {
            return;
        }
        self.stale.retain(|stale| stale != region);
        let mut news = Vec::new();
        if let Some(order) = self.orders.get_mut(region) {
            order.give_up(&mut news);
        }
        self.tell_news(region, news);
    }

    /// Waits before the next request, for as long as the service says or for a backoff.
    pub(super) fn pause(&mut self, id: u32, advised_ms: f64) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let errors = socket.errors;
        let ms = if advised_ms > 0.0 {
            advised_ms.min(ADVICE_MS_MAX)
        } else {
            socket.errors += 1;
            self.backoff(errors, RECONNECT_WITHIN_MS)
        };
        self.advance_after(id, ms);
    }

    /// Takes the answer to a subscription. Returns whether it starts to fetch what was not recovered.
    pub(super) fn subscribed(&mut self, id: u32, asked: &[String], frame: &Value) -> bool {
        let Ok(answer) = Answer::deserialize(frame) else { return false };
        if self.options.reconnect_within_ms.is_none() {
            self.within = answer.reconnect_within_ms.unwrap_or(RECONNECT_WITHIN_MS);
        }
        if self.options.rotate_after_ms.is_none() {
            self.rotate_after = answer.rotate_after_ms.unwrap_or(ROTATE_AFTER_MS);
        }
        if let Some(socket) = self.sockets.get_mut(&id) {
            let new = asked.iter().filter(|region| !socket.subscribed.contains(region));
            let new: Vec<String> = new.cloned().collect();
            socket.subscribed.extend(new);
        }
        self.stale.retain(|region| !asked.contains(region));
        let elsewhere = self.options.http || asked.len() > 1 || asked[0] == ALL;
        let open = self.apply(&answer, asked, elsewhere);
        if self.options.http {
            if open.is_empty() {
                return false;
            }
            self.fetch(Fetch { socket: id, regions: open, from: 0, after: String::new() }, None);
            return true;
        }
        for region in open {
            self.ask_again(region);
        }
        false
    }

    pub(super) fn ask_again(&mut self, region: String) {
        if !self.stale.contains(&region) {
            self.stale.push(region);
        }
    }

    fn cursor(&self, regions: &[String]) -> String {
        cursor(self.since(regions), self.everything)
    }

    /// Requests a page from a cursor, or the first one of the regions whose turn it is.
    pub(super) fn fetch(&mut self, mut fetch: Fetch, after: Option<String>) {
        let asked: Vec<String> = fetch.regions.iter().skip(fetch.from).take(REGIONS_MAX).cloned().collect();
        fetch.after = after.unwrap_or_else(|| self.cursor(&asked));
        let mut query = format!("region={}", asked.join(","));
        if !fetch.after.is_empty() {
            query = format!("{query}&after={}", fetch.after);
        }
        self.fetch_count += 1;
        let id = self.fetch_count;
        self.fetches.insert(id, fetch);
        self.out.push(Output::Get { id, query });
        self.alarms.add(self.now + ANSWER_MS, Alarm::Fetch(id));
    }

    pub(super) fn fetched(&mut self, id: u32, status: u16, body: &str) {
        let answer = serde_json::from_str::<Value>(body);
        if !(200..300).contains(&status) {
            let code = answer.ok().and_then(|body| Some(body["error"]["code"].as_str()?.to_owned()));
            if status != 401 || code.as_deref() != Some("unauthorized") || !self.fetches.contains_key(&id) {
                return self.fetch_failed(id, status < 500 && status != 429);
            }
            self.leave();
            self.tell(Told::Error { code: "unauthorized".to_owned(), terminal: true });
            self.enter(State::Closed);
            self.alarms = Alarms::default();
            return;
        }
        let Some(answer) = answer.ok().and_then(|body| Answer::deserialize(&body).ok()) else {
            return self.fetch_failed(id, false);
        };
        self.alarms.cancel(&Alarm::Fetch(id));
        let Some(mut fetch) = self.fetches.remove(&id) else { return };
        let asked: Vec<String> = fetch.regions.iter().skip(fetch.from).take(REGIONS_MAX).cloned().collect();
        self.apply(&answer, &asked, false);
        let after = self.cursor(&asked);
        // A page that does not move the cursor is the last one.
        if !fetch.after.is_empty() && answer.more && after != fetch.after {
            return self.fetch(fetch, Some(after));
        }
        fetch.from += REGIONS_MAX;
        if fetch.from < fetch.regions.len() {
            return self.fetch(fetch, None);
        }
        self.unread = 0;
        self.advance(fetch.socket);
    }

    /// What could not be read is still in the log, unless the service refuses to read it.
    pub(super) fn fetch_failed(&mut self, id: u32, refused: bool) {
        self.alarms.cancel(&Alarm::Fetch(id));
        let Some(fetch) = self.fetches.remove(&id) else { return };
        let wait = self.backoff(self.unread, POLL_MS);
        self.unread += 1;
        for region in &fetch.regions {
            if refused {
                let mut news = Vec::new();
                if let Some(order) = self.orders.get_mut(region) {
                    order.fail(&mut news);
                }
                self.tell_news(region, news);
            }
            self.heal(region, wait);
        }
        self.advance(fetch.socket);
    }
}
