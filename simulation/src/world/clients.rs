//! Clients that are not ours: those of the systems that this one replaces, those that somebody has written from the
//! protocol, and those that mean harm.

use std::{sync::Arc, time::Duration};

use rand::{RngExt, seq::IndexedRandom};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    cloud::{BEGAN_MS, Forgery, Incoming, Situation, Socket, TOKEN_END_S, Visitor, lock, token},
    world::{
        Run,
        items::Mischief,
        journal::{self, Visit, Wish},
    },
};

/// Longest that a client waits for an answer, in milliseconds.
const ANSWER: Duration = Duration::from_secs(30);

/// Floods that stay within the limit, for each client that sends them.
const FLOODS: u32 = 10;

/// A client of a world.
pub(super) struct Client {
    pub(super) run: Arc<Run>,
    /// Its lane.
    pub(super) name: String,
    /// The user of its token.
    pub(super) user: String,
    /// What its token allows; everything without it.
    pub(super) allowed: Option<Vec<String>>,
    /// When its token ends, in seconds after the beginning. Without it, long after the world.
    pub(super) token_ends_s: Option<u64>,
}

/// A connection of a client, and its place in the journal.
pub(super) struct Connected {
    pub(super) socket: Socket,
    pub(super) visit: usize,
}

impl Client {
    pub(super) fn new(run: &Arc<Run>, name: String, allowed: Option<Vec<String>>) -> Self {
        let user = name.clone();
        Self { run: Arc::clone(run), name, user, allowed, token_ends_s: None }
    }

    /// A token of the user.
    pub(super) fn token(&self) -> String {
        let ends_s = self.token_ends_s.and_then(|s| i64::try_from(s).ok());
        let expires = ends_s.map_or(TOKEN_END_S, |ends_s| BEGAN_MS / 1_000 + ends_s);
        let mut claims = json!({"exp": expires, "sub": self.user});
        if let Some(allowed) = &self.allowed {
            claims["regions"] = json!(allowed);
        }
        token(&claims, self.run.cloud.settings.has_issuer, Forgery::None)
    }

    pub(super) fn visitor(&self, region: Option<&str>) -> Visitor {
        let settings = &self.run.cloud.settings;
        let token = (settings.authorization != "off").then(|| self.token());
        let query = region.iter().map(|region| ("region".to_owned(), (*region).to_owned())).collect();
        Visitor { name: self.name.clone(), address: "192.0.2.1".to_owned(), query, token }
    }

    /// Connects, with a region in the address or without.
    pub(super) async fn connect(&self, region: Option<&str>) -> Result<Connected, u16> {
        let cloud = &self.run.cloud;
        let sent_ms = cloud.elapsed_ms();
        let answer = cloud.handshake(&self.visitor(region)).await;
        let mut journal = lock(&self.run.journal);
        if matches!(answer, Err(429)) {
            journal.without_seat.insert(self.name.clone());
        } else {
            journal.without_seat.remove(&self.name);
        }
        let socket = answer?;
        let mut visit = Visit { client: self.name.clone(), id: socket.line.id.clone(), ..Visit::default() };
        visit.allowed.clone_from(&self.allowed);
        visit.is_of_first_format = region.is_some();
        let has_tokens = cloud.settings.authorization != "off";
        visit.token_ends_ms = self.token_ends_s.filter(|_| has_tokens).map(|s| s * 1_000);
        if let Some(region) = region {
            let wish = Wish { joins: true, sent_ms, granted_ms: Some(cloud.elapsed_ms()) };
            visit.wishes.insert(region.to_owned(), vec![wish]);
        }
        journal.visits.push(visit);
        Ok(Connected { socket, visit: journal.visits.len() - 1 })
    }

    /// Notes what arrives. Returns a frame that is no alert; none when the connection has ended or `until` has come.
    pub(super) async fn next(&self, connected: &mut Connected, until: Instant) -> Option<Value> {
        loop {
            let (at, incoming) =
                timeout(until.saturating_duration_since(Instant::now()), connected.socket.incoming.recv())
                    .await
                    .ok()??;
            sleep_until(at).await;
            let cloud = &self.run.cloud;
            let now_ms = cloud.elapsed_ms();
            let Incoming::Frame(text) = incoming else {
                self.ends(connected);
                return None;
            };
            cloud.note(|| format!("{} receives {text}", self.name));
            let frame: Value = serde_json::from_str(&text).unwrap_or_default();
            match journal::alert(&frame, now_ms, None) {
                Some(received) => {
                    let mut journal = lock(&self.run.journal);
                    let visit = &mut journal.visits[connected.visit];
                    if visit.token_ends_ms.is_some_and(|ends_ms| ends_ms < now_ms) {
                        cloud.reaches(Situation::TokenOutlived);
                    }
                    visit.received.push(received);
                }
                None => return Some(frame),
            }
        }
    }

    /// Notes that a connection has ended.
    pub(super) fn ends(&self, connected: &Connected) {
        let now_ms = self.run.cloud.elapsed_ms();
        lock(&self.run.journal).visits[connected.visit].closed_ms.get_or_insert(now_ms);
    }

    pub(super) fn has_ended(&self, connected: &Connected) -> bool {
        lock(&self.run.journal).visits[connected.visit].closed_ms.is_some()
    }

    /// Notes that a connection asks to join or leave regions, and sends it.
    fn wish(&self, connected: &Connected, joins: bool, regions: &[String]) -> u64 {
        let sent_ms = self.run.cloud.elapsed_ms();
        for region in regions {
            let wish = Wish { joins, sent_ms, granted_ms: None };
            let mut journal = lock(&self.run.journal);
            journal.visits[connected.visit].wishes.entry(region.clone()).or_default().push(wish);
        }
        let kind = if joins { "subscribe_region" } else { "unsubscribe_region" };
        connected.socket.line.send(json!({"type": kind, "regions": regions}).to_string());
        sent_ms
    }

    fn granted(&self, connected: &Connected, joins: bool, regions: &[String], sent_ms: u64) {
        let now_ms = self.run.cloud.elapsed_ms();
        let mut journal = lock(&self.run.journal);
        for region in regions {
            for wish in journal.visits[connected.visit].wishes.entry(region.clone()).or_default() {
                if wish.joins == joins && wish.sent_ms == sent_ms {
                    wish.granted_ms = Some(now_ms);
                }
            }
        }
    }

    /// Joins or leaves regions, as often as it takes. False where that was refused, or the connection has ended.
    pub(super) async fn change(&self, connected: &mut Connected, joins: bool, regions: &[String]) -> bool {
        let expected = if joins { "subscribed" } else { "unsubscribed" };
        lock(&self.run.journal).visits[connected.visit].asks_again = true;
        for _ in 0..20 {
            let sent_ms = self.wish(connected, joins, regions);
            let until = Instant::now() + ANSWER;
            while let Some(frame) = self.next(connected, until).await {
                if frame["type"] == expected {
                    if joins {
                        let heads = journal::heads(&frame);
                        lock(&self.run.journal).visits[connected.visit].heads.extend(heads);
                    }
                    self.granted(connected, joins, regions, sent_ms);
                    return true;
                }
                if frame["type"] == "error" && frame["retryable"] != true {
                    return false;
                }
                if frame["type"] == "error" || frame["message"] == "Internal server error" {
                    break;
                }
            }
            if self.has_ended(connected) {
                return false;
            }
            let pause = self.run.cloud.draw(&self.name, |random| random.random_range(200..1_500_u64));
            sleep(Duration::from_millis(pause)).await;
        }
        false
    }

    /// Stays, pings and listens until the connection ends, the world does, or `until` has come.
    pub(super) async fn stay(&self, connected: &mut Connected, until: Option<Instant>) {
        let cloud = &self.run.cloud;
        loop {
            if self.run.is_over() || until.is_some_and(|until| Instant::now() >= until) {
                return;
            }
            let weather = cloud.weather();
            let (pause, breaks, is_silent) = self.run.cloud.draw(&self.name, |random| {
                let pause = Duration::from_millis(random.random_range(20_000..50_000));
                // Over a minute of pings it breaks as often as in as many seconds.
                let share = 1.0 - (1.0 - weather.broken_sockets).powf(pause.as_secs_f64());
                (pause, random.random_bool(share), random.random_bool(weather.silent_breaks))
            });
            let part = self.run.cloud.draw(&self.name, |random| random.random_range(0.0..1.0));
            let end = Instant::now() + if breaks { pause.mul_f64(part) } else { pause };
            let end = until.map_or(end, |until| end.min(until)).min(self.run.ends_at());
            while self.next(connected, end).await.is_some() {}
            if self.has_ended(connected) {
                return;
            }
            if breaks && !cloud.is_calm() {
                self.ends(connected);
                connected.socket.line.breaks(is_silent);
                return;
            }
            connected.socket.line.send(json!({"type": "ping"}).to_string());
        }
    }

    /// A client that subscribes at connect and pings, again and again.
    pub(super) async fn reference(self, region: String) {
        while !self.run.is_over() {
            if let Ok(mut connected) = self.connect(Some(&region)).await {
                self.stay(&mut connected, None).await;
                self.ends(&connected);
            }
            self.pause().await;
        }
    }

    pub(super) async fn pause(&self) {
        let pause = self.run.cloud.draw(&self.name, |random| random.random_range(500..4_000_u64));
        let end = Instant::now() + Duration::from_millis(pause);
        sleep_until(end.min(self.run.ends_at())).await;
    }

    /// A client that subscribes by message, and may leave the first region and come back.
    pub(super) async fn plain(self, regions: Vec<String>, leaves_after_ms: Option<u64>) {
        let leaves_at = leaves_after_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        while !self.run.is_over() {
            if let Ok(mut connected) = self.connect(None).await {
                if self.change(&mut connected, true, &regions).await {
                    connected.socket.line.send(json!({"type": "count", "region": regions[0]}).to_string());
                    if let Some(leaves_at) = leaves_at.filter(|at| *at > Instant::now()) {
                        self.stay(&mut connected, Some(leaves_at)).await;
                        if !self.has_ended(&connected) && self.change(&mut connected, false, &regions[..1]).await {
                            self.change(&mut connected, true, &regions[..1]).await;
                        }
                    }
                    self.stay(&mut connected, None).await;
                }
                self.ends(&connected);
            }
            self.pause().await;
        }
    }

    /// A client that means harm.
    pub(super) async fn hostile(self, mischief: Mischief, regions: Vec<String>) {
        let cloud = Arc::clone(&self.run.cloud);
        match mischief {
            Mischief::Ghost => {
                for _ in 0..10 {
                    let Ok(connected) = self.connect(regions.first().map(String::as_str)).await else { continue };
                    for _ in 0..3 {
                        self.wish(&connected, true, &regions);
                    }
                    cloud.pass(&self.name, 40.0).await;
                    self.ends(&connected);
                    connected.socket.line.close();
                }
            }
            Mischief::Change => {
                let Ok(mut connected) = self.connect(None).await else { return };
                for round in 0..8 {
                    for joins in [round % 2 == 0, round % 2 != 0, true] {
                        self.wish(&connected, joins, &regions);
                    }
                    let until = Instant::now() + Duration::from_millis(400);
                    while self.next(&mut connected, until).await.is_some() {}
                }
                self.stay(&mut connected, None).await;
                self.ends(&connected);
            }
            Mischief::Flood => self.flood().await,
            Mischief::Crowd => {
                let limit = cloud.settings.connections_per_user;
                // The functions that the first round has started answer the others at nearly the same time.
                for round in 0..3 {
                    let coming = limit.min(5) + cloud.draw(&self.name, |random| random.random_range(1..5_u32));
                    let all = (0..coming).map(|_| async {
                        let region = regions.first().map(String::as_str);
                        let Ok(mut connected) = self.connect(region).await else { return 0 };
                        let stay = cloud.draw(&self.name, |random| random.random_range(500..6_000_u64));
                        let until = Instant::now() + Duration::from_millis(stay);
                        while self.next(&mut connected, until).await.is_some() {}
                        self.ends(&connected);
                        1
                    });
                    let admitted: u32 = futures_util::future::join_all(all).await.into_iter().sum();
                    let least = coming.min(limit);
                    let is_limited = cloud.settings.authorization != "off";
                    // Later, those before may hold seats.
                    if round == 0 && admitted < least && is_limited && cloud.planned().has_sound_functions() {
                        let message = format!("{}: {admitted} of {coming} get in at once, and {limit} may", self.name);
                        cloud.breaks(7, message);
                    }
                }
            }
            Mischief::Trespass => {
                let Ok(mut connected) = self.connect(None).await else { return };
                let since = json!({"US": {"epoch": 0, "seq": 0}, "PL": {"epoch": 0, "seq": 0}});
                let messages = [
                    json!({"type": "subscribe_region", "regions": ["US", "PL"], "since": since}),
                    json!({"type": "subscribe_region", "region": "ALL", "since": {}}),
                    json!({"type": "keepalive", "regions": ["US"], "since": since}),
                    json!({"type": "subscribe_region", "regions": ["X-CANARY", ""]}),
                    json!({"type": "count"}),
                    json!([1, 2, 3]),
                    json!({"type": "publish", "region": "PL", "video": {"id": "trespass", "title": "no", "score": 99}}),
                ];
                // What arrives may answer any of them.
                let first_ms = cloud.elapsed_ms();
                for _ in 0..4 {
                    let message = cloud.draw(&self.name, |random| messages.choose(random).cloned()).unwrap_or_default();
                    let sent_ms = cloud.elapsed_ms();
                    // What it may have it may have asked for.
                    for region in ["US", "PL", "ALL"] {
                        let asks = message.to_string().contains(&format!("\"{region}\""))
                            && message["type"] == "subscribe_region";
                        let is_allowed = self
                            .allowed
                            .as_ref()
                            .is_none_or(|allowed| allowed.iter().any(|it| it == "*" || it == region));
                        if asks && is_allowed {
                            let wish = Wish { joins: true, sent_ms, granted_ms: None };
                            lock(&self.run.journal).visits[connected.visit]
                                .wishes
                                .entry(region.to_owned())
                                .or_default()
                                .push(wish);
                        }
                    }
                    connected.socket.line.send(message.to_string());
                    let until = Instant::now() + Duration::from_secs(2);
                    while let Some(frame) = self.next(&mut connected, until).await {
                        for alert in frame["alerts"].as_array().into_iter().flatten() {
                            if let Some(received) = journal::alert(alert, cloud.elapsed_ms(), Some(first_ms)) {
                                lock(&self.run.journal).visits[connected.visit].received.push(received);
                            }
                        }
                    }
                    if self.has_ended(&connected) {
                        return;
                    }
                }
                self.ends(&connected);
            }
        }
    }

    /// Sends messages at one moment, as many as it may or more.
    async fn flood(&self) {
        let cloud = &self.run.cloud;
        let Ok(mut connected) = self.connect(None).await else { return };
        let rate = u64::from(cloud.settings.messages_per_second);
        let is_within = cloud.chance(&self.name, 0.7);
        // In which order they are counted differs each time.
        for _ in 0..if is_within { FLOODS } else { 1 } {
            let flood = cloud.flood();
            self.burst(&mut connected, if is_within { rate } else { rate * 2 + 5 }).await;
            drop(flood);
            // Then it may send as many again.
            sleep(Duration::from_secs(2)).await;
        }
        self.ends(&connected);
    }

    /// Sends that many messages at one moment, and checks how many are let through.
    async fn burst(&self, connected: &mut Connected, sent: u64) {
        let cloud = &self.run.cloud;
        let rate = u64::from(cloud.settings.messages_per_second);
        let began = Instant::now();
        for number in 0..sent {
            connected.socket.line.send(json!({"type": "echo", "n": number}).to_string());
            if sent == rate {
                let pause = cloud.draw(&self.name, |random| random.random_range(0..4));
                sleep(Duration::from_millis(pause)).await;
            }
        }
        let (mut admitted, mut refused) = (0, 0);
        let mut last = began;
        let until = Instant::now() + Duration::from_secs(20);
        while admitted + refused < sent
            && let Some(frame) = self.next(connected, until).await
        {
            last = Instant::now();
            if frame["type"] == "response" {
                admitted += 1;
            } else if frame["code"] == "rate_limited" {
                refused += 1;
            }
        }
        let skew = Duration::from_secs_f64(cloud.planned().skew_ms / 1_000.0);
        // What comes later has more of the allowance.
        let most = rate as f64 * (1.0 + (last - began + skew).as_secs_f64());
        if admitted as f64 > most {
            cloud.breaks(7, format!("{}: {admitted} of {sent} messages pass, and {rate} a second may", self.name));
        }
        let has_to_be_exact = cloud.planned().skew_ms == 0.0 && cloud.planned().has_sound_functions();
        if sent == rate && has_to_be_exact && admitted + refused == sent {
            cloud.reaches(Situation::LimitReached);
        }
        if refused > 0 && admitted < sent.min(rate) && has_to_be_exact {
            cloud.breaks(7, format!("{}: only {admitted} of {sent} messages pass, and {rate} a second may", self.name));
        }
    }
}
