//! How it connects, leaves and comes back.

use serde_json::{Value, json};

use super::{
    ADVICE_MS_MAX, ANSWER_MS, Alarm, BACKOFF_MS_MAX, BACKOFF_MS_MIN, KEEPALIVE_MS, OurClient, Output, POLICY_MS,
    PROBE_AFTER_MS, REGIONS_MAX, RESTART_WITHIN_MS, Socket, State, Work, draw,
};

impl OurClient {
    pub(super) fn backoff(&self, failures: u32, within: f64) -> f64 {
        let first = if within > 0.0 { within } else { BACKOFF_MS_MIN };
        let doubled = (first * 2f64.powi(failures.try_into().unwrap_or(i32::MAX))).min(BACKOFF_MS_MAX);
        draw(self.options.seed, self.now) * doubled.max(within)
    }

    pub(super) fn after(&mut self, ms: f64, alarm: Alarm) {
        // Timers count whole milliseconds, and at least one.
        self.alarms.add(self.now + (ms as u64).max(1), alarm);
    }

    pub(super) fn connect(&mut self) {
        self.held = false;
        self.alarms.cancel(&Alarm::Connect);
        if let Some(abandoned) = self.next.take() {
            self.close(abandoned);
        }
        if self.current.is_none() {
            self.enter(State::Connecting);
        }
        self.socket_count += 1;
        let id = self.socket_count;
        let socket = Socket {
            opened: false,
            heard_ms: 0,
            work: Work::Nothing,
            subscribed: Vec::new(),
            idle: false,
            errors: 0,
            at_once: REGIONS_MAX,
            free_at: f64::NEG_INFINITY,
        };
        self.sockets.insert(id, socket);
        self.next = Some(id);
        self.out.push(Output::Connect { socket: id });
        self.alarms.add(self.now + ANSWER_MS, Alarm::Silence(id));
    }

    /// Plans the next attempt after so many failures, or without a network.
    pub(super) fn schedule(&mut self, failures: Option<u32>, code: Option<u16>) {
        self.held = code == Some(1008);
        let shortest = if code == Some(1012) { RESTART_WITHIN_MS } else { 0.0 };
        let within = self.within.clamp(shortest, ADVICE_MS_MAX);
        let pause = if self.held { POLICY_MS } else { 0.0 } + self.backoff(failures.unwrap_or(u32::MAX), within);
        if self.current.is_none() {
            self.enter(if failures.is_some() { State::Waiting(pause) } else { State::Offline });
        }
        self.alarms.cancel(&Alarm::Connect);
        self.after(pause, Alarm::Connect);
    }

    pub(super) fn close(&mut self, id: u32) {
        if self.forget(id) {
            self.out.push(Output::Close { socket: id });
        }
    }

    /// Forgets a socket with its timers. Returns whether there was one.
    pub(super) fn forget(&mut self, id: u32) -> bool {
        for alarm in [Alarm::Silence(id), Alarm::Keepalive(id), Alarm::Retry(id)] {
            self.alarms.cancel(&alarm);
        }
        self.sockets.remove(&id).is_some()
    }

    /// A connection ends: closed by the other side, which has a code, or given up.
    pub(super) fn end(&mut self, id: u32, code: Option<u16>) {
        if !self.sockets.contains_key(&id) {
            return;
        }
        if code.is_some() {
            self.forget(id);
        } else {
            self.close(id);
        }
        if self.current == Some(id) {
            self.current = None;
            // The one that replaces it is on its way.
            if self.next.is_some() {
                return;
            }
        } else {
            self.next = None;
        }
        let failures = self.failures;
        self.failures += 1;
        self.schedule(Some(failures), code);
    }

    pub(super) fn leave(&mut self) {
        self.alarms.cancel(&Alarm::Connect);
        for id in [self.current.take(), self.next.take()].into_iter().flatten() {
            self.close(id);
        }
    }

    pub(super) fn wake(&mut self) {
        let Some(id) = self.current else {
            if self.next.is_none() && !self.held {
                self.connect();
            }
            return;
        };
        if self.sockets.get(&id).is_some_and(|socket| self.now - socket.heard_ms > PROBE_AFTER_MS) {
            self.ping(id);
        }
    }

    pub(super) fn send(&mut self, id: u32, message: &Value) {
        self.out.push(Output::Send { socket: id, text: message.to_string() });
        self.alarms.cancel(&Alarm::Silence(id));
        self.alarms.add(self.now + ANSWER_MS, Alarm::Silence(id));
    }

    pub(super) fn ping(&mut self, id: u32) {
        self.send(id, &json!({"type": "ping"}));
    }

    pub(super) fn opened(&mut self, id: u32) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.opened = true;
        self.heard(id);
        let every = self.options.keepalive_ms.unwrap_or(KEEPALIVE_MS);
        self.alarms.add(self.now + every, Alarm::Keepalive(id));
        self.ask(id);
    }

    /// A frame has arrived. Only its answer shows that a request has arrived.
    pub(super) fn heard(&mut self, id: u32) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.heard_ms = self.now;
        if !matches!(socket.work, Work::Answer(_)) {
            self.alarms.cancel(&Alarm::Silence(id));
        }
    }

    pub(super) fn frame(&mut self, id: u32, text: &str) {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if frame["code"] == "connection_closed" {
            return self.end(id, None);
        }
        let kind = frame["type"].as_str().unwrap_or_default();
        let answers = match kind {
            "subscribed" | "unsubscribed" | "kept" | "error" => true,
            // A frame of the gateway itself.
            "" => frame["message"].is_string() && frame["event"].is_null(),
            _ => false,
        };
        let mut request = None;
        if answers && matches!(socket.work, Work::Answer(_)) {
            request = Some(std::mem::replace(&mut socket.work, Work::Pause));
        }
        self.heard(id);
        if matches!(kind, "viral_alert" | "alert_removed") {
            self.take(&frame);
            self.heal_if_behind(frame["region"].as_str().unwrap_or_default());
        }
        if let Some(Work::Answer(request)) = request {
            self.answered(id, &request, &frame);
        }
    }
}
