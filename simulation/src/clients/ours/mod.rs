//! A model of our browser client, `client/src`: one tab, which leads, and the one connection that it keeps.
//!
//! It is written from `docs/protocol.md` and `client/README.md`, so it can be wrong on its own. What it does in a world
//! is recorded as a [trace](crate::clients::trace), and `client/test/replay.test.ts` replays traces through the real
//! client: both have to send the same and to tell the application the same.
//!
//! It does no I/O, and its time is passed in. It fetches over HTTP what an answer did not recover. Left out are the
//! fallback without a WebSocket, which the replay switches off too, tokens, hidden pages, other tabs, and a service
//! that refuses `ALL`.

mod alarms;
mod connections;
mod exchange;
mod requests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Map, Value};

use self::alarms::{Alarm, Alarms};
pub use self::{
    exchange::{Input, Logged, Options, Output, State, Told},
    requests::cursor,
};
use crate::clients::order::{Entry, News, Order, Position, Standing};

/// Stands for every region.
pub const ALL: &str = "ALL";

// The bounds of `client/src/limits.ts`, as `client/README.md` states them. Times are in milliseconds.
const ADVICE_MS_MAX: f64 = 600_000.0;
const ANSWER_MS: u64 = 15_000;
const BACKOFF_MS_MAX: f64 = 30_000.0;
const BACKOFF_MS_MIN: f64 = 1_000.0;
const CURSOR_MAX: usize = 4_096;
const EVERYONE_MAX: usize = 100;
const HEAL_MS: u64 = 500;
const INTERVAL_MS_MIN: f64 = 1_000.0;
const KEEPALIVE_MS: u64 = 570_000;
const MESSAGE_MS: f64 = 125.0;
const POLICY_MS: f64 = 60_000.0;
/// Window of the first pause after an error of HTTP.
const POLL_MS: f64 = 4_000.0;
const POSITIONS_MAX: usize = 300;
const PROBE_AFTER_MS: u64 = 30_000;
const RECONNECT_WITHIN_MS: f64 = 5_000.0;
const REGIONS_MAX: usize = 25;
const RESTART_WITHIN_MS: f64 = 30_000.0;
const ROTATE_AFTER_MS: f64 = 6_600_000.0;
const ROTATE_AFTER_MS_MAX: f64 = 86_400_000.0;
/// Time for which messages may be saved up.
const SAVED_MS: f64 = 7.0 * MESSAGE_MS;
/// Regions that stay subscribed beside `ALL`.
const SURPLUS_MAX: usize = 50;

/// A random number from 0 to 1, without 1, for a client with this seed at this time in milliseconds. It is the first
/// number of `randomOf(seed + now)` in `client/test/seeded.js` (mulberry32), so the real client can draw the same.
pub fn draw(seed: u32, now_ms: u64) -> f64 {
    // The sum is meant modulo 2^32, as JavaScript's bitwise operators are.
    let start = (u64::from(seed).wrapping_add(now_ms) & u64::from(u32::MAX)) as u32;
    let state = start.wrapping_add(0x6d2b_79f5);
    let mut mixed = (state ^ (state >> 15)).wrapping_mul(1 | state);
    mixed = mixed.wrapping_add((mixed ^ (mixed >> 7)).wrapping_mul(61 | mixed)) ^ mixed;
    f64::from(mixed ^ (mixed >> 14)) / 4_294_967_296.0
}

/// A type of message and the regions that it is about.
#[derive(Clone, Debug)]
struct Request {
    kind: &'static str,
    regions: Vec<String>,
}

/// What a socket is busy with.
#[derive(Debug)]
enum Work {
    Nothing,
    /// It waits for the answer to a request.
    Answer(Request),
    /// It waits before it asks again, or for HTTP.
    Pause,
}

#[derive(Debug)]
struct Socket {
    opened: bool,
    heard_ms: u64,
    work: Work,
    /// What the connection is subscribed to, in the order of the answers.
    subscribed: Vec<String>,
    /// A keepalive is due.
    idle: bool,
    /// Retryable errors of this round of requests.
    errors: u32,
    /// Regions of the next request.
    at_once: usize,
    /// When the next request may go.
    free_at: f64,
}

/// A catch-up over HTTP, on behalf of a socket that may be gone.
#[derive(Debug)]
struct Fetch {
    socket: u32,
    /// Everything that is to be fetched, and where the present request begins in it.
    regions: Vec<String>,
    from: usize,
    after: String,
}

/// The part of an answer, over either transport, that the client reads.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    positions: Map<String, Value>,
    #[serde(default)]
    alerts: Vec<Value>,
    #[serde(default)]
    removed: Vec<Value>,
    #[serde(default)]
    not_recovered: Vec<String>,
    #[serde(default)]
    more: bool,
    reconnect_within_ms: Option<f64>,
    rotate_after_ms: Option<f64>,
}

/// Our client. See the [module](self).
#[derive(Debug)]
pub struct OurClient {
    options: Options,
    now: u64,
    out: Vec<Output>,
    /// In the order in which the application watched them.
    watched: Vec<String>,
    /// Watched regions for which `subscribed` was not told yet.
    unannounced: BTreeSet<String>,
    /// The application's place in each region, from `subscribed` or from an earlier visit.
    placed: BTreeMap<String, Position>,
    /// Watched regions that the service refused.
    refused: BTreeSet<String>,
    /// `ALL` is followed and was answered: a region that is not known is new.
    everything: bool,
    /// In the order in which they were heard of.
    orders: IndexMap<String, Order>,
    /// Regions to be asked for again, in the order in which that was found.
    stale: Vec<String>,
    /// What reached everyone, oldest first: region, place, and whether it is a removal.
    seen: VecDeque<(String, Position, bool)>,
    alarms: Alarms,
    sockets: BTreeMap<u32, Socket>,
    socket_count: u32,
    current: Option<u32>,
    next: Option<u32>,
    fetches: BTreeMap<u32, Fetch>,
    fetch_count: u32,
    /// Catch-ups that failed in a row.
    unread: u32,
    failures: u32,
    held: bool,
    within: f64,
    rotate_after: f64,
    state: State,
}

impl OurClient {
    /// A client that watches `regions`, and knows the positions of an earlier visit. It does nothing before
    /// [`Input::Start`].
    pub fn new(options: Options, regions: &[String], positions: &BTreeMap<String, Position>, now_ms: u64) -> Self {
        let mut client = Self {
            now: now_ms,
            out: Vec::new(),
            watched: Vec::new(),
            unannounced: regions.iter().cloned().collect(),
            placed: positions.clone(),
            refused: BTreeSet::new(),
            everything: false,
            orders: IndexMap::new(),
            stale: Vec::new(),
            seen: VecDeque::new(),
            alarms: Alarms::default(),
            sockets: BTreeMap::new(),
            socket_count: 0,
            current: None,
            next: None,
            fetches: BTreeMap::new(),
            fetch_count: 0,
            unread: 0,
            failures: 0,
            held: false,
            within: options.reconnect_within_ms.map_or(RECONNECT_WITHIN_MS, |ms| ms as f64),
            rotate_after: options.rotate_after_ms.map_or(ROTATE_AFTER_MS, |ms| ms as f64),
            state: State::Connecting,
            options,
        };
        for region in regions {
            if !client.watched.contains(region) {
                client.watched.push(region.clone());
            }
        }
        client.everything = client.watches_all() && positions.contains_key(ALL);
        for (region, at) in positions.iter().filter(|(region, _)| *region != ALL) {
            if client.is_watched(region) {
                client.orders.entry(region.clone()).or_default().begin(*at);
            }
        }
        client
    }

    /// Takes what happens at this time, and returns what the client does then. Timers that are due come first, so drive
    /// the client with [`Input::Timer`] at [`OurClient::next_timer`] to have them at their time.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Output> {
        self.now = now_ms;
        while let Some((key, alarm)) = self.alarms.due(now_ms) {
            self.ring(key, alarm);
        }
        if self.is_closed() {
            return std::mem::take(&mut self.out);
        }
        match input {
            Input::Start => {
                self.announce();
                self.connect();
            }
            Input::Opened { socket } => self.opened(socket),
            Input::Frame { socket, text } => self.frame(socket, &text),
            Input::Closed { socket, code } => self.end(socket, Some(code)),
            Input::Http { id, status, body } => self.fetched(id, status, &body),
            Input::HttpFailed { id } => self.fetch_failed(id, false),
            Input::Wake => self.wake(),
            Input::Offline => {
                self.leave();
                self.schedule(None, self.held.then_some(1008));
            }
            Input::Watch(region) => self.watch(region),
            Input::Unwatch(region) => self.unwatch(&region),
            Input::Timer => {}
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Timer`] is due next, in milliseconds.
    pub fn next_timer(&self) -> Option<u64> {
        self.alarms.next()
    }

    /// The places of what the application was told last, by region.
    pub fn positions(&self) -> BTreeMap<String, Position> {
        self.orders.iter().filter_map(|(region, order)| Some((region.clone(), order.at()?))).collect()
    }

    /// The watched regions, in the order in which they were watched.
    pub fn watched(&self) -> &[String] {
        &self.watched
    }

    /// Whether it has a connection that is subscribed to everything that it watches.
    pub fn is_open(&self) -> bool {
        self.current.is_some()
    }

    /// Whether it has ended, which it does only if the service refuses it.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    // --- What the application is told --------------------------------------------------------------------------------

    fn tell(&mut self, told: Told) {
        self.out.push(Output::Tell(told));
    }

    fn enter(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.tell(Told::State(state));
        }
    }

    fn tell_entry(&mut self, region: &str, entry: Entry) {
        let Entry { at: Position { epoch, seq }, id, removed, everyone } = entry;
        let logged = Logged { region: region.to_owned(), epoch, seq, id, everyone };
        self.tell(if removed { Told::Removed(logged) } else { Told::Alert(logged) });
    }

    /// Tells news of a region.
    fn tell_news(&mut self, region: &str, news: Vec<News>) {
        let is_placed = self.is_placed(region);
        // Before any log nothing is lost, and a new log is followed from its beginning without a word.
        let moves = !news.is_empty() || self.placed.get(region).is_some_and(|at| at.epoch == 0);
        for one in news {
            match one {
                News::Entry(entry) if is_placed => self.tell_entry(region, entry),
                News::Lost { from, to } if is_placed => self.tell(Told::Gap { region: region.to_owned(), from, to }),
                // What comes before `subscribed` is not for the application, except what is for everyone.
                News::Entry(entry) if entry.everyone || entry.removed => self.take_for_everyone(region, &entry),
                _ => {}
            }
        }
        if let Some(at) = self.orders.get(region).and_then(Order::at).filter(|_| is_placed && moves) {
            self.placed.insert(region.to_owned(), at);
        }
    }

    /// Tells `subscribed` for each watched region that has a beginning now.
    fn announce(&mut self) {
        if self.everything {
            for region in self.watched.iter().filter(|region| *region != ALL && !self.refused.contains(*region)) {
                self.orders.entry(region.clone()).or_default().begin(Position::default());
            }
        }
        for region in self.watched.clone() {
            let has = self.everything || self.has(&region);
            if !has || self.refused.contains(&region) || !self.unannounced.remove(&region) {
                continue;
            }
            let mut positions = self.positions();
            if region == ALL {
                for (name, at) in &positions {
                    self.placed.entry(name.clone()).or_insert(*at);
                }
                positions.insert(region.clone(), Position::default());
            } else {
                positions.retain(|name, _| *name == region);
                let at = *positions.entry(region.clone()).or_default();
                self.placed.entry(region.clone()).or_insert(at);
            }
            self.tell(Told::Subscribed { region, positions });
        }
    }

    // --- Regions -----------------------------------------------------------------------------------------------------

    fn watches_all(&self) -> bool {
        self.watched.iter().any(|name| name == ALL)
    }

    fn is_watched(&self, region: &str) -> bool {
        self.watches_all() || self.watched.iter().any(|name| name == region)
    }

    /// Whether the application knows its place in the region.
    fn is_placed(&self, region: &str) -> bool {
        let all = self.watches_all() && !self.unannounced.contains(ALL);
        all || (self.is_watched(region) && self.placed.contains_key(region))
    }

    /// Whether there is a place from which the region is followed.
    fn has(&self, region: &str) -> bool {
        if region == ALL { self.everything } else { self.orders.get(region).is_some_and(|order| order.at().is_some()) }
    }

    fn watch(&mut self, region: String) {
        if self.watched.contains(&region) {
            return;
        }
        // Where the application left off, while `ALL` covered the region.
        for (name, at) in self.placed.clone() {
            if name == region || region == ALL {
                self.resume(&name, at);
            }
        }
        self.unannounced.insert(region.clone());
        self.watched.push(region);
        self.announce();
        self.work();
    }

    fn unwatch(&mut self, region: &str) {
        self.watched.retain(|name| name != region);
        self.unannounced.remove(region);
        let placed = std::mem::take(&mut self.placed);
        self.placed = placed.into_iter().filter(|(region, _)| self.is_watched(region)).collect();
        self.work();
    }

    /// What requests are about: only `ALL` if that is watched. Forgets everything else.
    fn followed(&mut self) -> Vec<String> {
        let Self { refused, watched, orders, .. } = self;
        refused.retain(|region| watched.contains(region));
        let mut regions: Vec<String> = watched.iter().filter(|region| !refused.contains(*region)).cloned().collect();
        if regions.iter().any(|region| region == ALL) {
            regions = vec![ALL.to_owned()];
        } else {
            self.everything = false;
            orders.retain(|region, _| regions.contains(region));
        }
        regions
    }

    /// The positions for a request about these regions, sorted, as many as the service takes.
    fn since(&self, regions: &[String]) -> Vec<(String, Position)> {
        let all = regions.iter().any(|region| region == ALL);
        let known = self.positions().into_iter().filter(|(region, _)| all || regions.contains(region));
        known.take(POSITIONS_MAX).collect()
    }

    /// Asks for a region again, unless what is missing arrives on its own.
    fn heal(&mut self, region: &str, wait_ms: f64) {
        let alarm = Alarm::Heal(region.to_owned());
        if !self.alarms.has(&alarm) {
            self.after(wait_ms, alarm);
        }
    }

    fn heal_if_behind(&mut self, region: &str) {
        if let Some(order) = self.orders.get(region)
            && order.is_behind()
        {
            self.heal(region, (HEAL_MS << order.tries()) as f64);
        }
    }

    // --- Frames ------------------------------------------------------------------------------------------------------

    /// Takes an alert, or a removal, that was pushed or is part of an answer.
    fn take(&mut self, frame: &Value) {
        let text = |name: &str| frame[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| frame[name].as_u64().unwrap_or_default();
        let region = text("region");
        let entry = Entry {
            at: Position { epoch: number("epoch"), seq: number("seq") },
            id: text("id"),
            removed: frame["type"] == "alert_removed",
            everyone: frame["everyone"] == true,
        };
        if !self.everything && !self.has(&region) {
            if self.is_watched(&region)
                && entry.removed
                && let Some(at) = self.placed.get(&region).copied()
            {
                return self.take_unfollowed_removal(&region, entry, at);
            }
            if entry.everyone || entry.removed {
                self.take_for_everyone(&region, &entry);
            }
            if entry.everyone {
                return;
            }
        }
        let everything = self.everything;
        // What is not followed is held until the next request, because a region may be watched by then.
        let order = self.orders.entry(region.clone()).or_default();
        let mut news = Vec::new();
        if everything {
            order.begin(Position::default());
        }
        order.take(entry, &mut news);
        self.tell_news(&region, news);
    }

    /// Takes a removal of a region that the application watches and the client may not follow, as `ALL` was refused.
    fn take_unfollowed_removal(&mut self, region: &str, entry: Entry, at: Position) {
        let next = Position { seq: at.seq + 1, ..at };
        if entry.at > next {
            // Others are missing before it.
            self.resume(region, at);
            return self.work();
        }
        self.placed.insert(region.to_owned(), at.max(entry.at));
        self.tell_entry(region, entry.clone());
        self.orders.entry(region.to_owned()).or_default().take(entry, &mut Vec::new());
    }

    /// Follows a region from the application's place.
    fn resume(&mut self, region: &str, at: Position) {
        let mut news = Vec::new();
        let order = self.orders.entry(region.to_owned()).or_default();
        order.begin(at);
        order.settle(&mut news);
        self.tell_news(region, news);
    }

    /// Alerts of a region that is not followed have no order, but each is told once, and not after its removal.
    fn take_for_everyone(&mut self, region: &str, entry: &Entry) {
        let key = |removed| (region.to_owned(), entry.at, removed);
        let was_told = self.seen.iter().any(|seen| *seen == key(false));
        if !entry.removed && self.seen.contains(&key(true)) {
            return;
        }
        self.seen.retain(|seen| *seen != key(false));
        if self.seen.len() >= EVERYONE_MAX {
            self.seen.pop_front();
        }
        if !self.seen.contains(&key(entry.removed)) {
            self.seen.push_back(key(entry.removed));
        }
        if was_told == entry.removed {
            self.tell_entry(region, entry.clone());
        }
    }

    /// Takes the answer to a request about `asked`. Returns what another request has to recover.
    fn apply(&mut self, answer: &Answer, asked: &[String], elsewhere: bool) -> Vec<String> {
        let ends: Vec<(&String, Position)> = answer
            .positions
            .iter()
            .filter_map(|(region, at)| Some((region, Position::deserialize(at).ok()?)))
            .collect();
        for (region, end) in &ends {
            // Under ALL, a region that was not known is new.
            let begins = if self.everything { Position::default() } else { *end };
            self.orders.entry((*region).clone()).or_default().begin(begins);
        }
        if asked.iter().any(|region| region == ALL) {
            // Regions that the answer does not name have no log, also if ALL was left meanwhile.
            self.everything = true;
            for order in self.orders.values_mut() {
                order.begin(Position::default());
            }
        }
        self.announce();
        for region in self.orders.keys().cloned().collect::<Vec<_>>() {
            let mut news = Vec::new();
            if let Some(order) = self.orders.get_mut(&region).filter(|order| order.at().is_some()) {
                order.settle(&mut news);
            }
            self.tell_news(&region, news);
        }
        for frame in answer.removed.iter().chain(&answer.alerts) {
            self.take(frame);
        }
        let mut open = Vec::new();
        for (region, end) in ends {
            let refused = answer.not_recovered.contains(region);
            let Some(order) = self.orders.get_mut(region) else { continue };
            let mut news = Vec::new();
            let standing = order.ends(end, asked.contains(region), refused, elsewhere, &mut news);
            self.tell_news(region, news);
            if standing == Standing::Refused {
                open.push(region.clone());
            }
        }
        // Only now is it known how often each was asked for.
        for region in self.orders.keys().cloned().collect::<Vec<_>>() {
            if !open.contains(&region) {
                self.heal_if_behind(&region);
            }
        }
        open
    }

    // --- Timers ------------------------------------------------------------------------------------------------------

    fn ring(&mut self, key: (u64, u64), alarm: Alarm) {
        match alarm {
            Alarm::Silence(id) => self.end(id, None),
            Alarm::Keepalive(id) => {
                let every = self.options.keepalive_ms.unwrap_or(KEEPALIVE_MS);
                self.alarms.repeat(key, every, Alarm::Keepalive(id));
                if let Some(socket) = self.sockets.get_mut(&id) {
                    socket.idle = true;
                }
                self.ask(id);
            }
            Alarm::Retry(id) => self.advance(id),
            Alarm::Connect => self.connect(),
            Alarm::Heal(region) => {
                if self.orders.get(&region).is_some_and(Order::is_behind) {
                    self.ask_again(region);
                    self.work();
                }
            }
            Alarm::Fetch(id) => self.fetch_failed(id, false),
        }
    }
}

fn base36(mut number: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut text = String::new();
    loop {
        text.insert(0, char::from(DIGITS[(number % 36) as usize]));
        number /= 36;
        if number == 0 {
            return text;
        }
    }
}

#[cfg(test)]
mod tests;
