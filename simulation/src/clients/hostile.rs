//! A service that keeps no promise except those about its log: it loses, repeats and delays what it pushes, answers
//! late, wrongly or not at all, and closes connections whenever it likes. A seed decides.

mod answers;

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
}

fn alert(region: &str, epoch: u64, seq: u64) -> Value {
    let id = format!("{region}/{seq}");
    json!({"type": "viral_alert", "region": region, "seq": seq, "epoch": epoch, "id": id, "video": {"id": "v"}})
}

fn removal(region: &str, epoch: u64, seq: u64) -> Value {
    json!({"type": "alert_removed", "region": region, "seq": seq, "epoch": epoch, "id": format!("{region}/{seq}")})
}

#[cfg(test)]
mod tests {
    use super::{answers::position, *};

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
