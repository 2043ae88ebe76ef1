//! A service that keeps no promise except those about its log: it loses, repeats and delays what it pushes, answers
//! late, wrongly or not at all, and closes connections whenever it likes. A seed decides.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    ops::Range,
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::clients::{
    order::Position,
    ours::{ALL, Input, Options, Output},
    trace::Recorder,
};

/// When every trace begins, in milliseconds since 1970.
const START_MS: u64 = 1_795_000_000_000;
/// Alerts in an answer, and in a page over HTTP: few, so that answers are short and catching up takes several.
const ANSWER_MAX: usize = 8;
const PAGE_MAX: usize = 5;
const POSITIONS_MAX: usize = 300;

#[derive(Debug, Default)]
struct Log {
    epoch: u64,
    /// Whether each alert was removed, in the order of their numbers from 1.
    removed: Vec<bool>,
    /// Alerts up to this number are forgotten.
    forgotten: usize,
}

impl Log {
    fn head(&self) -> Position {
        Position { epoch: self.epoch, seq: self.removed.len() as u64 }
    }
}

/// How likely each misfortune is in one trace.
#[derive(Debug, Default)]
struct Mood {
    push_lost: f64,
    push_twice: f64,
    push_ms: Range<u64>,
    answer_lost: f64,
    answer_error: f64,
    answer_ms: Range<u64>,
    answer_full: f64,
    limit: f64,
    refuses_handshake: f64,
    http_fails: f64,
    late_reads: f64,
    publish: f64,
    remove: f64,
    everyone: f64,
    new_epoch: f64,
    forget: f64,
    close: f64,
    deaf: f64,
    marks_closed: f64,
    junk: f64,
    page: f64,
    watch: f64,
    step_ms: Range<u64>,
}

impl Mood {
    fn new(random: &mut StdRng) -> Self {
        // Most of what may happen never happens in a given trace, so that each of them is alone somewhere.
        let mut often = |max: f64| if random.random_bool(0.45) { random.random_range(0.0..max) } else { 0.0 };
        let (push_lost, push_twice) = (often(0.5), often(0.5));
        let (answer_lost, answer_error, answer_full) = (often(0.2), often(0.5), often(0.7));
        let (refuses_handshake, http_fails, late_reads) = (often(0.5), often(0.6), often(0.3));
        let limit = often(0.5);
        let (remove, everyone, new_epoch, forget) = (often(0.2), often(0.2), often(0.04), often(0.04));
        let (close, deaf, marks_closed, junk) = (often(0.1), often(0.05), often(0.05), often(0.1));
        let (page, watch) = (often(0.06), often(0.2));
        let slow = [20, 200, 2_000, 20_000];
        let mut until = || 11..*slow.choose(random).expect("some");
        Self {
            push_lost,
            push_twice,
            push_ms: until(),
            answer_lost,
            answer_error,
            answer_ms: until(),
            answer_full,
            limit,
            refuses_handshake,
            http_fails,
            late_reads,
            publish: 0.6,
            remove,
            everyone,
            new_epoch,
            forget,
            close,
            deaf,
            marks_closed,
            junk,
            page,
            watch,
            step_ms: until(),
        }
    }
}

#[derive(Debug, Default)]
struct Connection {
    regions: BTreeSet<String>,
    /// The service has seen it close.
    is_marked_closed: bool,
}

/// Something that the service does on its own.
type Deed = fn(&mut Hostile);

/// What is on its way to the client.
type Arrival = Reverse<(u64, u64, usize)>;

#[derive(Debug)]
struct Hostile {
    random: StdRng,
    mood: Mood,
    now: u64,
    names: Vec<String>,
    forbidden: BTreeSet<String>,
    knows_keepalive: bool,
    logs: BTreeMap<String, Log>,
    connections: BTreeMap<u32, Connection>,
    /// Sockets that the client has closed, or that were closed.
    gone: BTreeSet<u32>,
    queue: BinaryHeap<Arrival>,
    inputs: Vec<Input>,
    client: Recorder,
}

/// Writes the trace of a client that lives through about so many steps.
pub fn trace(seed: u32, steps: usize) -> String {
    let mut random = StdRng::seed_from_u64(seed.into());
    let count = *[1, 2, 3, 30, 90].choose(&mut random).expect("some");
    let names: Vec<String> = (0..count).map(|number| format!("R-{number}")).collect();
    let options = Options {
        http: random.random_bool(0.5),
        keepalive_ms: random.random_bool(0.5).then(|| random.random_range(5_000..60_000)),
        reconnect_within_ms: random.random_bool(0.3).then(|| random.random_range(0..3_000)),
        rotate_after_ms: random.random_bool(0.4).then(|| random.random_range(5_000..100_000)),
        seed,
    };
    let mut mood = Mood::new(&mut random);
    let forbidden: BTreeSet<String> = names.iter().filter(|_| random.random_bool(0.02)).cloned().collect();
    let has_tokens = !forbidden.is_empty();
    if has_tokens {
        // With tokens nothing goes to everyone, and who may not have a region may not have ALL.
        mood.everyone = 0.0;
    }
    let mut regions: Vec<String> = names.iter().filter(|_| random.random_bool(0.7)).cloned().collect();
    if random.random_bool(0.3) && !has_tokens {
        regions.push(ALL.to_owned());
    }
    let mut positions = BTreeMap::new();
    for name in &names {
        if random.random_bool(0.1) {
            positions.insert(name.clone(), Position { epoch: START_MS, seq: random.random_range(0..4) });
        }
    }
    // A page that follows ALL has kept its mark too.
    if regions.contains(&ALL.to_owned()) && random.random_bool(0.2) {
        positions.insert(ALL.to_owned(), Position::default());
    }
    positions.retain(|name, _| {
        let is_watched = regions.contains(name) || regions.contains(&ALL.to_owned());
        is_watched && !forbidden.contains(name)
    });
    let client = Recorder::new(&format!("hostile {seed}"), options, &regions, &positions, START_MS);
    let mut world = Hostile {
        mood,
        now: START_MS,
        names,
        forbidden,
        knows_keepalive: random.random_bool(0.8),
        logs: BTreeMap::new(),
        connections: BTreeMap::new(),
        gone: BTreeSet::new(),
        queue: BinaryHeap::new(),
        inputs: Vec::new(),
        client,
        random,
    };
    for _ in 0..world.random.random_range(0..6) {
        world.publish();
    }
    world.give(Input::Start);
    while world.client.steps() < steps && !world.client.client().is_closed() {
        world.now += world.random.random_range(world.mood.step_ms.clone());
        world.arrive();
        world.act();
    }
    // Everything calms down in the end.
    world.mood = Mood { push_ms: 11..12, answer_ms: 11..12, ..Mood::default() };
    for _ in 0..20 {
        world.now += 5_000;
        world.arrive();
    }
    world.client.into_text()
}

impl Hostile {
    fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }

    fn within(&mut self, ms: &Range<u64>) -> u64 {
        self.random.random_range(ms.clone())
    }

    /// Plans an input.
    fn later(&mut self, at: u64, input: Input) {
        self.inputs.push(input);
        let number = self.inputs.len() - 1;
        self.queue.push(Reverse((at, number as u64, number)));
    }

    /// Lets everything happen that is due by now, in its order.
    fn arrive(&mut self) {
        loop {
            let timer = self.client.client().next_timer().filter(|at| *at <= self.now);
            let arrival = self.queue.peek().map(|Reverse((at, ..))| *at).filter(|at| *at <= self.now);
            let now = self.now;
            match (timer, arrival) {
                (Some(at), arrival) if arrival.is_none_or(|arrival| at <= arrival) => {
                    self.now = at;
                    self.give(Input::Timer);
                }
                (_, Some(at)) => {
                    if let Some(Reverse((_, _, number))) = self.queue.pop() {
                        self.now = at;
                        let input = self.inputs[number].clone();
                        self.arrives(input);
                    }
                }
                (_, None) => return,
            }
            self.now = now;
        }
    }

    fn arrives(&mut self, input: Input) {
        match &input {
            Input::Opened { socket } => {
                if self.gone.contains(socket) {
                    return;
                }
                self.connections.insert(*socket, Connection::default());
            }
            Input::Frame { socket, .. } if !self.connections.contains_key(socket) => return,
            Input::Closed { socket, .. } => {
                if !self.gone.insert(*socket) {
                    return;
                }
                self.connections.remove(socket);
            }
            _ => {}
        }
        self.give(input);
    }

    /// Hands an input to the client, and does what it asks for.
    fn give(&mut self, input: Input) {
        for output in self.client.handle(self.now, input) {
            match output {
                Output::Connect { socket } => self.handshake(socket),
                Output::Send { socket, text } => self.message(socket, &text),
                Output::Close { socket } => {
                    self.gone.insert(socket);
                    self.connections.remove(&socket);
                }
                Output::Get { id, query } => self.request(id, &query),
                Output::Tell(_) => {}
            }
        }
    }

    fn handshake(&mut self, socket: u32) {
        if self.chance(self.mood.answer_lost) {
            return;
        }
        let at = self.now + self.within(&self.mood.answer_ms.clone());
        let refuses = self.chance(self.mood.refuses_handshake);
        self.later(at, if refuses { Input::Closed { socket, code: 1006 } } else { Input::Opened { socket } });
    }

    fn push(&mut self, socket: u32, frame: &Value) {
        if self.chance(self.mood.push_lost) {
            return;
        }
        for _ in 0..1 + u32::from(self.chance(self.mood.push_twice)) {
            let at = self.now + self.within(&self.mood.push_ms.clone());
            self.later(at, Input::Frame { socket, text: frame.to_string() });
        }
    }

    // --- What the service does on its own ----------------------------------------------------------------------------

    fn act(&mut self) {
        let mood = &self.mood;
        let deeds: [(f64, Deed); 10] = [
            (mood.publish, Self::publish),
            (mood.remove, Self::remove),
            (mood.new_epoch, Self::begin_again),
            (mood.forget, Self::forget),
            (mood.close, Self::close),
            (mood.deaf, Self::deafen),
            (mood.marks_closed, Self::mark_closed),
            (mood.junk, Self::send_junk),
            (mood.page, Self::turn_page),
            (mood.watch, Self::choose),
        ];
        for (probability, deed) in deeds {
            if self.chance(probability) {
                deed(self);
            }
        }
    }

    fn name(&mut self) -> String {
        self.names.choose(&mut self.random).expect("some").clone()
    }

    fn publish(&mut self) {
        let region = self.name();
        let log = self.logs.entry(region.clone()).or_default();
        if log.epoch == 0 {
            log.epoch = START_MS;
        }
        log.removed.push(false);
        let Position { epoch, seq } = log.head();
        let mut alert = alert(&region, epoch, seq);
        let everyone = self.chance(self.mood.everyone);
        if everyone {
            alert["everyone"] = json!(true);
        }
        for socket in self.connections.keys().copied().collect::<Vec<_>>() {
            let regions = &self.connections[&socket].regions;
            if everyone || regions.contains(&region) || regions.contains(ALL) {
                self.push(socket, &alert);
            }
        }
    }

    fn remove(&mut self) {
        let region = self.name();
        let Some(log) = self.logs.get_mut(&region).filter(|log| !log.removed.is_empty()) else { return };
        let number = self.random.random_range(0..log.removed.len());
        log.removed[number] = true;
        let frame = removal(&region, log.epoch, number as u64 + 1);
        for socket in self.connections.keys().copied().collect::<Vec<_>>() {
            self.push(socket, &frame);
        }
    }

    fn begin_again(&mut self) {
        let region = self.name();
        let now = self.now;
        if let Some(log) = self.logs.get_mut(&region) {
            *log = Log { epoch: now, ..Log::default() };
            self.publish();
        }
    }

    fn forget(&mut self) {
        let region = self.name();
        if let Some(log) = self.logs.get_mut(&region) {
            log.forgotten = log.removed.len().saturating_sub(1);
        }
    }

    fn close(&mut self) {
        let code = *[1000, 1001, 1006, 1008, 1012].choose(&mut self.random).expect("some");
        for socket in self.connections.keys().copied().collect::<Vec<_>>() {
            self.later(self.now, Input::Closed { socket, code });
        }
    }

    /// The service loses subscriptions.
    fn deafen(&mut self) {
        for connection in self.connections.values_mut() {
            connection.regions.clear();
        }
    }

    fn mark_closed(&mut self) {
        for connection in self.connections.values_mut() {
            connection.is_marked_closed = true;
        }
    }

    /// Frames that the client does not know. What looks like an answer comes only as one: answers have no number.
    fn send_junk(&mut self) {
        let junk = [r#"{"event":"new_trending","message":"m"}"#, r#"{"type":"pong"}"#, r#"{"type":"new"}"#, "7", "{"];
        let text = (*junk.choose(&mut self.random).expect("some")).to_owned();
        for socket in self.connections.keys().copied().collect::<Vec<_>>() {
            self.later(self.now, Input::Frame { socket, text: text.clone() });
        }
    }

    fn turn_page(&mut self) {
        let input = if self.chance(0.7) { Input::Wake } else { Input::Offline };
        self.give(input);
    }

    /// The application watches or leaves a region.
    fn choose(&mut self) {
        let region = if self.forbidden.is_empty() && self.chance(0.2) { ALL.to_owned() } else { self.name() };
        let watched = self.client.client().watched().contains(&region);
        self.give(if watched { Input::Unwatch(region) } else { Input::Watch(region) });
    }

    // --- Messages ----------------------------------------------------------------------------------------------------

    fn message(&mut self, socket: u32, text: &str) {
        if self.chance(self.mood.answer_lost) {
            return;
        }
        let message: Value = serde_json::from_str(text).expect("the client sends JSON");
        let answer = if message["type"] == "ping" { json!({"type": "pong"}) } else { self.answer(socket, &message) };
        let at = self.now + self.within(&self.mood.answer_ms.clone());
        self.later(at, Input::Frame { socket, text: answer.to_string() });
    }

    fn answer(&mut self, socket: u32, message: &Value) -> Value {
        if self.chance(self.mood.answer_error) {
            return match self.random.random_range(0..3) {
                0 => json!({"message": "Internal server error", "connectionId": "c", "requestId": "r"}),
                1 => error("unavailable", true),
                _ => {
                    let mut error = error("rate_limited", true);
                    error["retry_after_ms"] = json!(self.random.random_range(0..5_000));
                    error
                }
            };
        }
        let regions = strings(&message["regions"]);
        let Some(connection) = self.connections.get_mut(&socket) else { return error("connection_closed", true) };
        let kind = message["type"].as_str().unwrap_or_default();
        if kind == "unsubscribe_region" {
            connection.regions.retain(|region| !regions.contains(region));
            return json!({"type": "unsubscribed", "regions": regions});
        }
        if connection.is_marked_closed {
            return error("connection_closed", true);
        }
        if regions.iter().any(|region| self.forbidden.contains(region)) {
            return error("forbidden", false);
        }
        let is_own = regions.iter().any(|region| region == ALL || self.client.client().watched().contains(region));
        if !is_own && kind == "subscribe_region" && self.random.random_bool(self.mood.limit) {
            // The client asks again for a region that ALL covers, beyond the limit of regions.
            return error("limit_reached", false);
        }
        if kind == "keepalive" {
            return if self.knows_keepalive {
                self.kept(socket, &regions, &message["since"])
            } else {
                error("unknown_type", false)
            };
        }
        connection.regions.extend(regions.iter().cloned());
        let since = message.get("since");
        let names = self.meant(&regions, since.unwrap_or(&Value::Null));
        let mut heads = json!({});
        for name in &names {
            heads[name] = json!(self.end(name));
        }
        let mut answer = json!({
            "type": "subscribed",
            "regions": regions,
            "positions": heads,
            "reconnect_within_ms": self.advice(1_000),
            "rotate_after_ms": self.advice(300_000),
        });
        if let Some(since) = since {
            let mut lists = Lists::default();
            for name in &names {
                let from = since.get(name).map(position);
                let Some(from) = from.or_else(|| regions.contains(&ALL.to_owned()).then(Position::default)) else {
                    continue;
                };
                let full = self.chance(self.mood.answer_full) || lists.len() >= ANSWER_MAX;
                match self.after(name, from) {
                    Some(missed) if missed.is_empty() || !full => missed.into_iter().for_each(|one| lists.add(one)),
                    _ => lists.not_recovered.push(name.clone()),
                }
            }
            lists.write(&mut answer);
        }
        answer
    }

    /// A number of milliseconds, sometimes one that nobody can mean.
    fn advice(&mut self, ms: u64) -> Value {
        let wrong = [json!(0), json!(-1), json!(0.5), json!(1e15), Value::Null];
        if self.random.random_bool(0.05) {
            wrong.choose(&mut self.random).cloned().unwrap_or_default()
        } else {
            json!(ms)
        }
    }

    /// The end of a log, sometimes as it was one alert earlier.
    fn end(&mut self, region: &str) -> Position {
        let late = self.chance(self.mood.late_reads);
        let Some(log) = self.logs.get(region) else { return Position::default() };
        let mut head = log.head();
        head.seq = head.seq.saturating_sub(late.into());
        head
    }

    fn meant(&self, regions: &[String], since: &Value) -> Vec<String> {
        if !regions.contains(&ALL.to_owned()) {
            return regions.to_vec();
        }
        let named = since.as_object().into_iter().flatten().map(|(name, _)| name);
        let all: BTreeSet<&String> = regions.iter().chain(named).chain(self.logs.keys()).collect();
        all.into_iter().filter(|name| *name != ALL).take(POSITIONS_MAX).cloned().collect()
    }

    /// What follows a position. Nothing if the log cannot tell.
    fn after(&self, region: &str, from: Position) -> Option<Vec<Value>> {
        let Some(log) = self.logs.get(region) else { return (from.epoch == 0).then(Vec::new) };
        let from_seq = usize::try_from(from.seq).ok()?;
        if (from.epoch != 0 && from.epoch != log.epoch) || from_seq < log.forgotten {
            return None;
        }
        let missed = log.removed.iter().enumerate().skip(from_seq).map(|(number, removed)| {
            let seq = number as u64 + 1;
            if *removed { removal(region, log.epoch, seq) } else { alert(region, log.epoch, seq) }
        });
        Some(missed.collect())
    }

    fn kept(&mut self, socket: u32, regions: &[String], since: &Value) -> Value {
        let names = self.meant(regions, since);
        let behind: Vec<String> = names
            .into_iter()
            .filter(|name| self.end(name) != since.get(name).map(position).unwrap_or_default())
            .collect();
        let subscribed = &self.connections[&socket].regions;
        let missing: Vec<&String> = regions.iter().filter(|region| !subscribed.contains(*region)).collect();
        let mut kept = json!({"type": "kept"});
        if !behind.is_empty() {
            kept["behind"] = json!(behind);
        }
        if !missing.is_empty() {
            kept["missing"] = json!(missing);
        }
        kept
    }

    // --- Over HTTP ---------------------------------------------------------------------------------------------------

    fn request(&mut self, id: u32, query: &str) {
        let at = self.now + self.within(&self.mood.answer_ms.clone());
        if self.chance(self.mood.http_fails) {
            let input = match self.random.random_range(0..20) {
                0 => Input::Http { id, status: 401, body: r#"{"error":{"code":"unauthorized"}}"#.to_owned() },
                1 => Input::Http { id, status: 403, body: r#"{"error":{"code":"forbidden"}}"#.to_owned() },
                2..6 => Input::HttpFailed { id },
                6..11 => Input::Http { id, status: 503, body: r#"{"error":{"code":"unavailable"}}"#.to_owned() },
                11..16 => Input::Http { id, status: 200, body: "<html>".to_owned() },
                // No answer at all.
                _ => return,
            };
            return self.later(at, input);
        }
        let body = self.page(query).to_string();
        self.later(at, Input::Http { id, status: 200, body });
    }

    fn page(&mut self, query: &str) -> Value {
        let field = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap_or_default();
        let regions: Vec<String> = field("region=").split(',').map(str::to_owned).collect();
        let cursor: BTreeMap<String, Position> = field("after=")
            .split('_')
            .filter_map(|one| {
                let mut parts = one.split('.');
                let region = parts.next()?.to_owned();
                let mut number = || u64::from_str_radix(parts.next()?, 36).ok();
                Some((region, Position { epoch: number()?, seq: number()? }))
            })
            .collect();
        let mut lists = Lists::default();
        let mut positions = json!({});
        let mut more = false;
        for region in &regions {
            let end = self.end(region);
            let missed = cursor.get(region).map(|from| (*from, self.after(region, *from)));
            let mut at = end;
            match missed {
                Some((from, Some(missed))) => {
                    let count = missed.len();
                    let room = PAGE_MAX.saturating_sub(lists.len());
                    missed.into_iter().take(room).for_each(|one| lists.add(one));
                    if count > room {
                        more = true;
                        at = Position { seq: from.seq + room as u64, ..end };
                    }
                }
                Some((_, None)) => lists.not_recovered.push(region.clone()),
                None => {}
            }
            positions[region] = json!(at);
        }
        let mut answer = json!({"positions": positions, "more": more});
        lists.write(&mut answer);
        answer
    }
}

/// The alerts of an answer.
#[derive(Debug, Default)]
struct Lists {
    alerts: Vec<Value>,
    removed: Vec<Value>,
    not_recovered: Vec<String>,
}

impl Lists {
    fn len(&self) -> usize {
        self.alerts.len() + self.removed.len()
    }

    fn add(&mut self, one: Value) {
        if one["type"] == "viral_alert" { self.alerts.push(one) } else { self.removed.push(one) }
    }

    fn write(self, answer: &mut Value) {
        answer["alerts"] = json!(self.alerts);
        answer["recovered"] = json!(self.not_recovered.is_empty());
        if !self.removed.is_empty() {
            answer["removed"] = json!(self.removed);
        }
        if !self.not_recovered.is_empty() {
            answer["not_recovered"] = json!(self.not_recovered);
        }
    }
}

fn alert(region: &str, epoch: u64, seq: u64) -> Value {
    let id = format!("{region}/{seq}");
    json!({"type": "viral_alert", "region": region, "seq": seq, "epoch": epoch, "id": id, "video": {"id": "v"}})
}

fn removal(region: &str, epoch: u64, seq: u64) -> Value {
    json!({"type": "alert_removed", "region": region, "seq": seq, "epoch": epoch, "id": format!("{region}/{seq}")})
}

fn error(code: &str, retryable: bool) -> Value {
    json!({"type": "error", "code": code, "message": "no", "retryable": retryable})
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn position(value: &Value) -> Position {
    Position { epoch: value["epoch"].as_u64().unwrap_or_default(), seq: value["seq"].as_u64().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_trace_again() {
        assert_eq!(trace(7, 60), trace(7, 60));
    }

    #[test]
    fn the_application_is_told_each_alert_once_and_in_order_whatever_the_service_does() {
        let mut count = 0;
        for seed in 0..40 {
            let mut last: BTreeMap<String, (u64, u64)> = BTreeMap::new();
            for line in trace(seed, 100).lines() {
                let step: Value = serde_json::from_str(line).expect("JSON");
                // Watched again, a region begins anew.
                if !step["in"]["unwatch"].is_null() {
                    last.clear();
                }
                let told = step["out"].as_array().into_iter().flatten().map(|output| &output["tell"]["alert"]);
                for alert in told.filter(|alert| alert["everyone"] == false) {
                    let Position { epoch, seq } = position(alert);
                    let region = alert["region"].as_str().expect("a region").to_owned();
                    let before = last.insert(region, (epoch, seq));
                    assert!(before.is_none_or(|before| before < (epoch, seq)), "seed {seed}: {before:?}, then {alert}");
                    count += 1;
                }
            }
        }
        assert!(count > 1_000, "{count} alerts");
    }
}
