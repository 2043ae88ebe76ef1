//! A model of our browser client, `client/src`: one tab, which leads, and the one connection that it keeps.
//!
//! It is written from `docs/protocol.md` and `client/README.md`, so it can be wrong on its own. What it does in a world
//! is recorded as a [trace](crate::clients::trace), and `client/test/replay.test.ts` replays traces through the real
//! client: both have to send the same and to tell the application the same.
//!
//! It does no I/O, and its time is passed in. It fetches over HTTP what an answer did not recover. Left out are the
//! fallback without a WebSocket, which the replay switches off too, tokens, hidden pages, other tabs, and a service
//! that refuses `ALL`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clients::order::{Entry, News, Order, Position, Standing};

/// Stands for every region.
pub const ALL: &str = "ALL";

// The bounds of `client/src/limits.ts`, as `client/README.md` states them. Times are in milliseconds.
const ANSWER_MS: u64 = 15_000;
const BACKOFF_MS_MAX: f64 = 30_000.0;
const BACKOFF_MS_MIN: f64 = 1_000.0;
const CURSOR_MAX: usize = 4_096;
const EVERYONE_MAX: usize = 100;
const HEAL_MS: u64 = 500;
/// An HTTP error counts as this many tries in the pause before the next request.
const HTTP_TRIES: u32 = 3;
const KEEPALIVE_MS: u64 = 570_000;
const POLICY_MS: f64 = 60_000.0;
const POSITIONS_MAX: usize = 300;
const PROBE_AFTER_MS: u64 = 30_000;
const RECONNECT_WITHIN_MS: f64 = 5_000.0;
const REGIONS_MAX: usize = 25;
const RESTART_WITHIN_MS: f64 = 30_000.0;
const ROTATE_AFTER_MS: u64 = 6_600_000;

/// What the application chose, and the client's randomness.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// Whether there is an `httpUrl`.
    pub http: bool,
    /// Milliseconds between keepalives; 9.5 minutes by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_ms: Option<u64>,
    /// Window of the first reconnect in milliseconds; by default what the service advises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnect_within_ms: Option<u64>,
    /// Age in milliseconds at which a connection is replaced; by default what the service advises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotate_after_ms: Option<u64>,
    /// Random numbers depend on it and on the time only, see [`draw`].
    pub seed: u32,
}

/// Something that happens to the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Input {
    /// The page has created the client. Once, before anything else.
    Start,
    /// A socket has opened.
    Opened {
        /// Its number.
        socket: u32,
    },
    /// A frame has arrived.
    Frame {
        /// The number of the socket.
        socket: u32,
        /// What it carries.
        text: String,
    },
    /// The other side, or the network, has closed a socket.
    Closed {
        /// Its number.
        socket: u32,
        /// The close code; 1006 where no close frame came.
        code: u16,
    },
    /// A request over HTTP was answered.
    Http {
        /// Its number.
        id: u32,
        /// The status.
        status: u16,
        /// The body.
        body: String,
    },
    /// A request over HTTP failed without an answer.
    HttpFailed {
        /// Its number.
        id: u32,
    },
    /// The page is shown, or the network may be back.
    Wake,
    /// The browser says that the network is gone.
    Offline,
    /// The application watches a region.
    Watch(String),
    /// The application stops to watch a region.
    Unwatch(String),
    /// The time of [`OurClient::next_timer`] has come.
    Timer,
}

/// Something that the client does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Output {
    /// Opens a socket.
    Connect {
        /// Its number, counted from 1.
        socket: u32,
    },
    /// Sends a frame.
    Send {
        /// The number of the socket.
        socket: u32,
        /// What it carries.
        text: String,
    },
    /// Closes a socket.
    Close {
        /// Its number.
        socket: u32,
    },
    /// Sends `GET /alerts`.
    Get {
        /// The number of the request, counted from 1.
        id: u32,
        /// The query, without escapes: `region=PL,DE&after=PL.mwm0nk74.17`.
        query: String,
    },
    /// Tells the application.
    Tell(Told),
}

/// What the application is told: the events of `client/README.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Told {
    /// An alert.
    Alert(Logged),
    /// An alert was taken back.
    Removed(Logged),
    /// Alerts are lost.
    Gap {
        /// The region.
        region: String,
        /// The first one.
        from: u64,
        /// The last one; nothing if the region has a new log.
        to: Option<u64>,
    },
    /// From here on no alert is left out.
    Subscribed {
        /// The watched region.
        region: String,
        /// From where on.
        positions: BTreeMap<String, Position>,
    },
    /// Something failed.
    Error {
        /// The code of `client/README.md`, or of the service.
        code: String,
        /// Whether the client has closed.
        terminal: bool,
    },
    /// The state changed.
    State(State),
}

/// An alert, or its removal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// The region.
    pub region: String,
    /// The log.
    pub epoch: u64,
    /// The number.
    pub seq: u64,
    /// The id; empty if the frame had none.
    pub id: String,
    /// Whether it went to every connection.
    pub everyone: bool,
}

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It opens a connection.
    Connecting,
    /// It has one.
    Open,
    /// It waits for so many milliseconds before the next attempt.
    Waiting(f64),
    /// The network is gone.
    Offline,
    /// It has ended.
    Closed,
}

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

/// What a timer is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Alarm {
    /// The socket was silent for too long.
    Silence(u32),
    /// A keepalive is due on the socket.
    Keepalive(u32),
    /// The socket asks again after an error.
    Retry(u32),
    /// Another connection is to be opened.
    Connect,
    /// A region asks for what it misses.
    Heal(String),
    /// The request over HTTP took too long.
    Fetch(u32),
}

/// Timers by time; those of one time in the order in which they were set.
#[derive(Debug, Default)]
struct Alarms {
    set: BTreeMap<(u64, u64), Alarm>,
    count: u64,
}

impl Alarms {
    fn add(&mut self, at: u64, alarm: Alarm) {
        self.count += 1;
        self.set.insert((at, self.count), alarm);
    }

    fn cancel(&mut self, alarm: &Alarm) {
        self.set.retain(|_, set| set != alarm);
    }

    fn has(&self, alarm: &Alarm) -> bool {
        self.set.values().any(|set| set == alarm)
    }

    fn next(&self) -> Option<u64> {
        self.set.keys().next().map(|(at, _)| *at)
    }

    fn due(&mut self, now: u64) -> Option<((u64, u64), Alarm)> {
        if self.next()? > now { None } else { self.set.pop_first() }
    }
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
    /// Regions of one request in this round.
    at_once: usize,
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
    rotate_after_ms: Option<u64>,
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
    failures: u32,
    held: bool,
    within: f64,
    rotate_after: u64,
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
            failures: 0,
            held: false,
            within: options.reconnect_within_ms.map_or(RECONNECT_WITHIN_MS, |ms| ms as f64),
            rotate_after: options.rotate_after_ms.unwrap_or(ROTATE_AFTER_MS),
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
            Input::HttpFailed { id } => self.fetch_failed(id),
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
    fn heal(&mut self, region: &str, tries: u32) {
        let alarm = Alarm::Heal(region.to_owned());
        if !self.alarms.has(&alarm) {
            self.alarms.add(self.now + (HEAL_MS << tries), alarm);
        }
    }

    fn heal_if_behind(&mut self, region: &str) {
        if let Some(order) = self.orders.get(region)
            && order.is_behind()
        {
            self.heal(region, order.tries());
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

    // --- Connections -------------------------------------------------------------------------------------------------

    fn backoff(&self, failures: u32, within: f64) -> f64 {
        let first = if within > 0.0 { within } else { BACKOFF_MS_MIN };
        let doubled = (first * 2f64.powi(failures.try_into().unwrap_or(i32::MAX))).min(BACKOFF_MS_MAX);
        draw(self.options.seed, self.now) * doubled.max(within).min(f64::from(i32::MAX))
    }

    fn after(&mut self, ms: f64, alarm: Alarm) {
        // Timers count whole milliseconds, and at least one.
        self.alarms.add(self.now + (ms as u64).max(1), alarm);
    }

    fn connect(&mut self) {
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
        };
        self.sockets.insert(id, socket);
        self.next = Some(id);
        self.out.push(Output::Connect { socket: id });
        self.alarms.add(self.now + ANSWER_MS, Alarm::Silence(id));
    }

    /// Plans the next attempt after so many failures, or without a network.
    fn schedule(&mut self, failures: Option<u32>, code: Option<u16>) {
        self.held = code == Some(1008);
        let within = if code == Some(1012) { self.within.max(RESTART_WITHIN_MS) } else { self.within };
        let pause = if self.held { POLICY_MS } else { 0.0 } + self.backoff(failures.unwrap_or(u32::MAX), within);
        if self.current.is_none() {
            self.enter(if failures.is_some() { State::Waiting(pause) } else { State::Offline });
        }
        self.alarms.cancel(&Alarm::Connect);
        self.after(pause, Alarm::Connect);
    }

    fn close(&mut self, id: u32) {
        if self.forget(id) {
            self.out.push(Output::Close { socket: id });
        }
    }

    /// Forgets a socket with its timers. Returns whether there was one.
    fn forget(&mut self, id: u32) -> bool {
        for alarm in [Alarm::Silence(id), Alarm::Keepalive(id), Alarm::Retry(id)] {
            self.alarms.cancel(&alarm);
        }
        self.sockets.remove(&id).is_some()
    }

    /// A connection ends: closed by the other side, which has a code, or given up.
    fn end(&mut self, id: u32, code: Option<u16>) {
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

    fn leave(&mut self) {
        self.alarms.cancel(&Alarm::Connect);
        for id in [self.current.take(), self.next.take()].into_iter().flatten() {
            self.close(id);
        }
    }

    fn wake(&mut self) {
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

    fn send(&mut self, id: u32, message: &Value) {
        self.out.push(Output::Send { socket: id, text: message.to_string() });
        self.alarms.cancel(&Alarm::Silence(id));
        self.alarms.add(self.now + ANSWER_MS, Alarm::Silence(id));
    }

    fn ping(&mut self, id: u32) {
        self.send(id, &json!({"type": "ping"}));
    }

    fn opened(&mut self, id: u32) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.opened = true;
        self.heard(id);
        let every = self.options.keepalive_ms.unwrap_or(KEEPALIVE_MS);
        self.alarms.add(self.now + every, Alarm::Keepalive(id));
        self.ask(id);
    }

    /// A frame has arrived. Only its answer shows that a request has arrived.
    fn heard(&mut self, id: u32) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.heard_ms = self.now;
        if !matches!(socket.work, Work::Answer(_)) {
            self.alarms.cancel(&Alarm::Silence(id));
        }
    }

    fn frame(&mut self, id: u32, text: &str) {
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

    // --- Requests ----------------------------------------------------------------------------------------------------

    /// Requests what is wanted and missing, on each open connection.
    fn work(&mut self) {
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
    fn ask(&mut self, id: u32) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if matches!(socket.work, Work::Nothing) {
            socket.errors = 0;
            socket.at_once = REGIONS_MAX;
            self.advance(id);
        }
    }

    fn advance(&mut self, id: u32) {
        let regions = self.followed();
        let Some(Socket { subscribed, idle, at_once, .. }) = self.sockets.get(&id) else { return };
        let all = regions.first().is_some_and(|region| region == ALL);
        // Leaving makes room. What ALL covers costs nothing.
        let left = subscribed.iter().filter(|region| !all && !regions.contains(region));
        let left: Vec<String> = left.take(REGIONS_MAX).cloned().collect();
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
    fn promote(&mut self, id: u32) {
        if let Some(old) = self.current.take() {
            self.close(old);
        }
        self.next = None;
        self.current = Some(id);
        self.failures = 0;
        self.alarms.cancel(&Alarm::Connect);
        self.alarms.add(self.now + self.rotate_after, Alarm::Connect);
        self.enter(State::Open);
    }

    fn answered(&mut self, id: u32, request: &Request, frame: &Value) {
        let is_final = frame["retryable"] == false;
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if !frame["positions"].is_null() {
            if self.subscribed(id, &request.regions, frame) {
                return;
            }
        } else if frame["type"] == "unsubscribed" {
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
                // One by one: only the refused region fails.
                socket.at_once = 1;
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

    fn refuse(&mut self, region: &str) {
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
    fn pause(&mut self, id: u32, advised_ms: f64) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let errors = socket.errors;
        let ms = if advised_ms > 0.0 {
            advised_ms
        } else {
            socket.errors += 1;
            self.backoff(errors, RECONNECT_WITHIN_MS)
        };
        self.after(ms, Alarm::Retry(id));
    }

    /// Takes the answer to a subscription. Returns whether it starts to fetch what was not recovered.
    fn subscribed(&mut self, id: u32, asked: &[String], frame: &Value) -> bool {
        let Ok(answer) = Answer::deserialize(frame) else { return false };
        if let Some(ms) = answer.reconnect_within_ms.filter(|_| self.options.reconnect_within_ms.is_none()) {
            self.within = ms;
        }
        if let Some(ms) = answer.rotate_after_ms.filter(|_| self.options.rotate_after_ms.is_none()) {
            self.rotate_after = ms;
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

    fn ask_again(&mut self, region: String) {
        if !self.stale.contains(&region) {
            self.stale.push(region);
        }
    }

    // --- Over HTTP ---------------------------------------------------------------------------------------------------

    fn cursor(&self, regions: &[String]) -> String {
        let mut cursor = String::new();
        for (region, Position { epoch, seq }) in self.since(regions) {
            let one = format!("{region}.{}.{}", base36(epoch), base36(seq));
            if cursor.len() + one.len() >= CURSOR_MAX {
                break;
            }
            if !cursor.is_empty() {
                cursor.push('_');
            }
            cursor.push_str(&one);
        }
        if cursor.is_empty() && self.everything { "_".to_owned() } else { cursor }
    }

    /// Requests a page from a cursor, or the first one of the regions whose turn it is.
    fn fetch(&mut self, mut fetch: Fetch, after: Option<String>) {
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

    fn fetched(&mut self, id: u32, status: u16, body: &str) {
        let answer = serde_json::from_str::<Value>(body);
        if !(200..300).contains(&status) {
            let code = answer.ok().and_then(|body| Some(body["error"]["code"].as_str()?.to_owned()));
            if status != 401 || code.as_deref() != Some("unauthorized") || !self.fetches.contains_key(&id) {
                return self.fetch_failed(id);
            }
            self.leave();
            self.tell(Told::Error { code: "unauthorized".to_owned(), terminal: true });
            self.enter(State::Closed);
            self.alarms = Alarms::default();
            return;
        }
        let Some(answer) = answer.ok().and_then(|body| Answer::deserialize(&body).ok()) else {
            return self.fetch_failed(id);
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
        self.advance(fetch.socket);
    }

    fn fetch_failed(&mut self, id: u32) {
        self.alarms.cancel(&Alarm::Fetch(id));
        let Some(fetch) = self.fetches.remove(&id) else { return };
        for region in &fetch.regions {
            self.heal(region, HTTP_TRIES);
        }
        self.advance(fetch.socket);
    }

    // --- Timers ------------------------------------------------------------------------------------------------------

    fn ring(&mut self, key: (u64, u64), alarm: Alarm) {
        match alarm {
            Alarm::Silence(id) => self.end(id, None),
            Alarm::Keepalive(id) => {
                let every = self.options.keepalive_ms.unwrap_or(KEEPALIVE_MS);
                self.alarms.set.insert((key.0 + every, key.1), Alarm::Keepalive(id));
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
            Alarm::Fetch(id) => self.fetch_failed(id),
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
mod tests {
    use super::*;

    const EPOCH: u64 = 1_795_000_000_000;
    /// What the service takes to answer, in milliseconds.
    const LATENCY_MS: u64 = 10;

    /// A client in its page, and the time.
    struct Page {
        client: OurClient,
        now: u64,
        /// What the client did since that was asked last.
        done: Vec<Output>,
    }

    impl Page {
        fn new(options: Options, regions: &[&str]) -> Self {
            let regions: Vec<String> = regions.iter().map(|region| (*region).to_owned()).collect();
            let client = OurClient::new(options, &regions, &BTreeMap::new(), 0);
            let mut page = Self { client, now: 0, done: Vec::new() };
            page.happens(Input::Start);
            page
        }

        fn happens(&mut self, input: Input) {
            let done = self.client.handle(self.now, input);
            self.done.extend(done);
        }

        /// Lets time pass, with its timers.
        fn pass(&mut self, ms: u64) {
            let end = self.now + ms;
            while let Some(due) = self.client.next_timer().filter(|due| *due <= end) {
                self.now = due;
                self.happens(Input::Timer);
            }
            self.now = end;
        }

        fn receives(&mut self, socket: u32, frame: &Value) {
            self.happens(Input::Frame { socket, text: frame.to_string() });
        }

        /// A page whose first connection is subscribed to `regions`, with the logs at `seq`.
        fn open(options: Options, regions: &[&str], seq: u64) -> Self {
            let mut page = Self::new(options, regions);
            page.happens(Input::Opened { socket: 1 });
            page.pass(LATENCY_MS);
            page.receives(1, &subscribed(regions, seq, &json!({})));
            assert!(page.client.is_open());
            page.done.clear();
            page
        }

        /// What was sent since that was asked last, in short.
        fn sent(&mut self) -> Vec<String> {
            let short = |output: Output| match output {
                Output::Connect { socket } => Some(format!("connect {socket}")),
                Output::Close { socket } => Some(format!("close {socket}")),
                Output::Get { query, .. } => Some(format!("get {query}")),
                Output::Send { socket, text } => {
                    let message: Value = serde_json::from_str(&text).expect("JSON");
                    let since = message.get("since").map(|since| format!(" since {since}")).unwrap_or_default();
                    let regions = message.get("regions").map(|regions| format!(" {regions}")).unwrap_or_default();
                    Some(
                        format!("{socket} {}{regions}{since}", message["type"].as_str().expect("a type"))
                            .replace('"', ""),
                    )
                }
                Output::Tell(_) => None,
            };
            std::mem::take(&mut self.done).into_iter().filter_map(short).collect()
        }

        fn told(&mut self) -> Vec<String> {
            let short = |output: Output| match output {
                Output::Tell(Told::Alert(Logged { region, seq, .. })) => Some(format!("{region} {seq}")),
                Output::Tell(Told::Removed(Logged { region, seq, .. })) => Some(format!("{region} removed {seq}")),
                Output::Tell(Told::Gap { region, from, to }) => Some(format!("{region} gap {from} {to:?}")),
                Output::Tell(Told::Error { code, .. }) => Some(code),
                _ => None,
            };
            std::mem::take(&mut self.done).into_iter().filter_map(short).collect()
        }
    }

    fn alert(region: &str, seq: u64) -> Value {
        json!({"type": "viral_alert", "region": region, "epoch": EPOCH, "seq": seq, "id": "i"})
    }

    fn subscribed(regions: &[&str], seq: u64, more: &Value) -> Value {
        let positions: Map<String, Value> =
            regions.iter().map(|region| ((*region).to_owned(), json!({"epoch": EPOCH, "seq": seq}))).collect();
        let mut answer = json!({"type": "subscribed", "regions": regions, "positions": positions});
        for (field, value) in more.as_object().into_iter().flatten() {
            answer[field] = value.clone();
        }
        answer
    }

    #[test]
    fn random_numbers_are_those_of_the_real_clients_tests() {
        // Of `randomOf` in client/test/seeded.js.
        assert_eq!(draw(7, 1_795_000_000_010), 0.188_084_809_808_060_53);
        assert_eq!(draw(u32::MAX, 5), 0.923_636_197_112_500_7);
    }

    #[test]
    fn a_missing_alert_is_asked_for_after_half_a_second_then_with_doubling_pauses_and_is_a_gap_in_the_end() {
        let mut page = Page::open(Options::default(), &["PL"], 1);
        page.receives(1, &alert("PL", 3));
        for pause in [500, 1_000, 2_000, 4_000, 8_000] {
            page.pass(pause - 1);
            assert_eq!(page.sent(), [""; 0], "before {pause} ms");
            page.pass(1);
            assert_eq!(page.sent(), [format!("1 subscribe_region [PL] since {{PL:{{epoch:{EPOCH},seq:1}}}}")]);
            page.receives(1, &subscribed(&["PL"], 3, &json!({"alerts": []})));
        }
        assert_eq!(page.told(), ["PL gap 2 Some(2)", "PL 3"]);
    }

    #[test]
    fn a_client_that_comes_back_asks_from_its_position_and_fetches_what_an_answer_does_not_recover() {
        let mut page = Page::open(Options { http: true, ..Options::default() }, &["PL"], 1);
        page.happens(Input::Closed { socket: 1, code: 1006 });
        page.pass(5_000);
        assert_eq!(page.sent(), ["connect 2"]);
        page.happens(Input::Opened { socket: 2 });
        assert_eq!(page.sent(), [format!("2 subscribe_region [PL] since {{PL:{{epoch:{EPOCH},seq:1}}}}")]);
        page.receives(2, &subscribed(&["PL"], 4, &json!({"alerts": [], "not_recovered": ["PL"]})));
        assert_eq!(page.sent(), ["get region=PL&after=PL.mwm0nk74.1"]);
        let body = |seq, more| {
            let positions = json!({"PL": {"epoch": EPOCH, "seq": seq}});
            json!({"positions": positions, "alerts": [alert("PL", seq)], "more": more})
        };
        page.happens(Input::Http { id: 1, status: 200, body: body(2, true).to_string() });
        assert_eq!(page.sent(), ["get region=PL&after=PL.mwm0nk74.2"]);
        page.happens(Input::Http { id: 2, status: 200, body: body(3, false).to_string() });
        assert_eq!(page.told(), ["PL 3"]);
    }

    #[test]
    fn a_connection_is_replaced_only_once_the_next_one_is_subscribed() {
        let options = Options { rotate_after_ms: Some(60_000), ..Options::default() };
        let mut page = Page::open(options, &["PL"], 1);
        page.pass(60_000);
        assert_eq!(page.sent(), ["connect 2"]);
        page.happens(Input::Opened { socket: 2 });
        page.done.clear();
        page.receives(1, &alert("PL", 2));
        assert_eq!(page.told(), ["PL 2"]);
        page.receives(2, &subscribed(&["PL"], 2, &json!({"alerts": []})));
        assert_eq!(page.sent(), ["close 1"]);
    }

    #[test]
    fn a_keepalive_finds_what_differs() {
        let mut page = Page::open(Options::default(), &["PL", "DE"], 1);
        page.pass(KEEPALIVE_MS - LATENCY_MS);
        let since = |region: &str| format!("{region}:{{epoch:{EPOCH},seq:1}}");
        assert_eq!(page.sent(), [format!("1 keepalive [PL,DE] since {{{},{}}}", since("DE"), since("PL"))]);
        page.receives(1, &json!({"type": "kept", "behind": ["DE"]}));
        assert_eq!(page.sent(), [format!("1 subscribe_region [DE] since {{{}}}", since("DE"))]);
    }

    #[test]
    fn a_peer_that_does_not_answer_for_15_seconds_is_left() {
        let mut page = Page::new(Options::default(), &["PL"]);
        page.happens(Input::Opened { socket: 1 });
        page.done.clear();
        page.pass(ANSWER_MS - 1);
        // Alerts are no answer.
        page.receives(1, &alert("PL", 1));
        page.pass(1);
        assert_eq!(page.sent(), ["close 1"]);
    }

    #[test]
    fn after_1008_nothing_shortens_the_wait_and_after_1012_the_window_is_wide() {
        let mut page = Page::open(Options::default(), &["PL"], 1);
        page.happens(Input::Closed { socket: 1, code: 1008 });
        page.pass(59_999);
        page.happens(Input::Wake);
        assert_eq!(page.sent(), [""; 0]);
        page.pass(5_001);
        assert_eq!(page.sent(), ["connect 2"]);

        let mut page = Page::open(Options::default(), &["PL"], 1);
        page.happens(Input::Closed { socket: 1, code: 1012 });
        let wait = draw(0, page.now) * RESTART_WITHIN_MS;
        assert_eq!(page.client.next_timer(), Some(page.now + wait as u64));
    }

    #[test]
    fn a_refused_region_does_not_hold_up_the_others() {
        let mut page = Page::new(Options::default(), &["PL", "DE"]);
        page.happens(Input::Opened { socket: 1 });
        page.done.clear();
        let refusal = json!({"type": "error", "code": "forbidden", "retryable": false});
        page.receives(1, &refusal);
        assert_eq!(page.sent(), ["1 subscribe_region [PL]"]);
        page.receives(1, &refusal);
        assert_eq!(page.client.followed(), ["DE"]);
        assert_eq!(page.told(), ["forbidden"]);
        page.receives(1, &subscribed(&["DE"], 0, &json!({})));
        assert!(page.client.is_open());
    }

    #[test]
    fn what_reaches_everyone_is_told_once_and_not_after_its_removal() {
        let mut page = Page::open(Options::default(), &["PL"], 1);
        let mut everyone = alert("FR", 9);
        everyone["everyone"] = json!(true);
        let removal = |seq| json!({"type": "alert_removed", "region": "FR", "epoch": EPOCH, "seq": seq, "id": "i"});
        page.receives(1, &everyone);
        page.receives(1, &everyone);
        page.receives(1, &removal(9));
        page.receives(1, &everyone);
        page.receives(1, &removal(8));
        assert_eq!(page.told(), ["FR 9", "FR removed 9"]);
    }

    #[test]
    fn a_region_without_a_log_keeps_its_beginning_when_all_is_left() {
        let mut page = Page::open(Options::default(), &["PL", "ALL"], 1);
        page.happens(Input::Unwatch("ALL".to_owned()));
        page.happens(Input::Watch("DE".to_owned()));
        page.done.clear();
        page.receives(1, &json!({"type": "unsubscribed", "regions": ["ALL"]}));
        assert!(page.sent()[0].contains("PL:"), "PL goes on where ALL stood");
    }

    #[test]
    fn a_401_of_the_service_ends_the_client() {
        let mut page = Page::open(Options { http: true, ..Options::default() }, &["PL"], 1);
        page.receives(1, &alert("PL", 3));
        page.pass(500);
        page.receives(1, &subscribed(&["PL"], 3, &json!({"alerts": [], "not_recovered": ["PL"]})));
        let body = json!({"error": {"code": "unauthorized"}}).to_string();
        page.happens(Input::Http { id: 1, status: 401, body });
        assert!(page.done.contains(&Output::Tell(Told::Error { code: "unauthorized".to_owned(), terminal: true })));
        assert_eq!(page.done.last(), Some(&Output::Tell(Told::State(State::Closed))));
        assert_eq!(page.client.next_timer(), None);
    }
}
