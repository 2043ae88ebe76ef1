//! Our client in a world: the model of it, sockets that break, and the HTTP API.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand::RngExt;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    clients::{
        order::Position,
        ours::{Input, Logged, Options, Output, Told},
        trace::Recorder,
    },
    cloud::{FunctionName, Incoming, Situation, lock},
    world::{
        clients::Client,
        event_socket::{EventsSocket, News, Wire},
        journal::{self, Heard, Wish},
        legs::{Legs, Way},
    },
};

/// Share of our clients that have no address for `GET /alerts`, and tell their applications of a gap where an answer
/// leaves something out.
const WITHOUT_HTTP: f64 = 0.15;

/// Milliseconds for which alerts of a region come that was left on the Event API, at most.
const LEAVING_MS: u64 = 15_000;

/// A request that the client has sent over a socket, and that has no answer yet.
struct Asked {
    joins: bool,
    regions: Vec<String>,
    sent_ms: u64,
}

/// What the driver knows of a socket.
struct Open {
    wire: Wire,
    visit: usize,
    asked: Vec<Asked>,
}

impl Client {
    /// Our client, whose application watches regions and changes them at times after now. It knows some positions from
    /// the page before, and may be one that also knows the Event API.
    pub(super) async fn ours(
        self,
        regions: Vec<String>,
        changes: Vec<(u64, bool, String)>,
        positions: BTreeMap<String, Position>,
        on_events: bool,
    ) {
        let cloud = Arc::clone(&self.run.cloud);
        let client = Arc::new(self);
        let seed = cloud.draw(&client.name, |random| random.random());
        let now = || u64::try_from(cloud.now_ms()).unwrap_or_default();
        let name = format!("seed {} {}", cloud.seed(), client.name);
        let legs = on_events.then(|| Legs::new(&client, &regions));
        let http = on_events || !cloud.chance(&format!("options of {}", client.name), WITHOUT_HTTP);
        let options = Options { http, seed, ..Options::default() };
        let mut recorder = Recorder::new(&name, options, &regions, &positions, now());
        let (send, mut news) = mpsc::unbounded_channel::<News>();
        let mut open: BTreeMap<u32, Open> = BTreeMap::new();
        // Those that the client has closed before they opened.
        let mut abandoned: BTreeSet<u32> = BTreeSet::new();
        let mut changes: Vec<(Instant, bool, String)> = changes
            .into_iter()
            .map(|(ms, watches, region)| (Instant::now() + Duration::from_millis(ms), watches, region))
            .collect();
        changes.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
        let mut outputs = recorder.handle(now(), Input::Start);
        loop {
            for output in std::mem::take(&mut outputs) {
                if let Output::Close { socket } = output
                    && !open.contains_key(&socket)
                    && !legs.as_ref().is_some_and(|legs| legs.abandon(socket))
                {
                    abandoned.insert(socket);
                }
                client.carry_out(output, &mut open, &send, legs.as_ref());
            }
            let timer = recorder.client().next_timer().map(|due| cloud.at(due));
            let change = changes.last().map(|(at, ..)| *at);
            let far = Instant::now() + Duration::from_secs(86_400);
            let input = tokio::select! {
                biased;
                () = client.run.over() => break,
                come = news.recv() => match come {
                    Some(News::Opened { socket, wire, visit }) if abandoned.remove(&socket) => {
                        client.closed(visit);
                        wire.close();
                        continue;
                    }
                    Some(News::Opened { socket, wire, visit }) => {
                        open.insert(socket, Open { wire, visit, asked: Vec::new() });
                        Input::Opened { socket }
                    }
                    Some(News::To(input)) => input,
                    None => break,
                },
                () = sleep_until(timer.unwrap_or(far)) => Input::Timer,
                () = sleep_until(change.unwrap_or(far)) => match changes.pop() {
                    Some((_, true, region)) => Input::Watch(region),
                    Some((_, false, region)) => {
                        client.hears(Heard::Unwatched { region: region.clone() });
                        Input::Unwatch(region)
                    }
                    None => Input::Timer,
                },
            };
            match &input {
                Input::Frame { socket, text } => {
                    if let Some(open) = open.get_mut(socket) {
                        client.arrives(open, text);
                    }
                }
                Input::Closed { socket, .. } => drop(open.remove(socket)),
                _ => {}
            }
            outputs = recorder.handle(now(), input);
        }
        for open in open.values() {
            open.wire.close();
        }
        let watched = recorder.client().watched().to_vec();
        lock(&client.run.journal).watched.insert(client.name.clone(), watched);
        lock(&client.run.traces).push(recorder.into_text());
    }

    fn carry_out(
        self: &Arc<Self>,
        output: Output,
        open: &mut BTreeMap<u32, Open>,
        send: &mpsc::UnboundedSender<News>,
        legs: Option<&Arc<Legs>>,
    ) {
        match output {
            Output::Connect { socket } => {
                let (client, send, legs) = (Arc::clone(self), send.clone(), legs.cloned());
                tokio::spawn(async move {
                    let Some(legs) = legs else { return client.opens(socket, send, None, true).await };
                    match legs.choose().await {
                        Way::Events(leg) => EventsSocket::opens(&legs, leg, socket, send).await,
                        Way::Gateway { stays } => client.opens(socket, send, Some(legs), stays).await,
                    }
                });
            }
            Output::Send { socket, text } => {
                let Some(open) = open.get_mut(&socket) else { return };
                let message: Value = serde_json::from_str(&text).unwrap_or_default();
                let joins = message["type"] == "subscribe_region";
                let sent_ms = self.run.cloud.elapsed_ms();
                if joins || message["type"] == "unsubscribe_region" {
                    let regions: Vec<String> = message["regions"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(|region| region.as_str().map(str::to_owned))
                        .collect();
                    let mut journal = lock(&self.run.journal);
                    for region in &regions {
                        let wish = Wish { joins, sent_ms, granted_ms: None };
                        journal.visits[open.visit].wishes.entry(region.clone()).or_default().push(wish);
                    }
                    journal.visits[open.visit].asks_again = true;
                    open.asked.push(Asked { joins, regions, sent_ms });
                }
                self.run.cloud.note(|| format!("{} sends {text}", self.name));
                open.wire.send(text);
            }
            Output::Close { socket } => {
                if let Some(open) = open.remove(&socket) {
                    self.closed(open.visit);
                    open.wire.close();
                }
            }
            Output::Get { id, query } => {
                let (client, send) = (Arc::clone(self), send.clone());
                tokio::spawn(async move {
                    let parameters: serde_json::Map<String, Value> = query
                        .split('&')
                        .filter_map(|pair| pair.split_once('='))
                        .map(|(name, value)| (name.to_owned(), json!(value)))
                        .collect();
                    let (status, body) = client.get_alerts(json!(parameters)).await;
                    _ = send.send(News::To(Input::Http { id, status, body }));
                });
            }
            Output::Tell(told) => self.is_told(told),
        }
    }

    /// Sends `GET /alerts` with a query. The status and the body of the answer.
    pub(super) async fn get_alerts(&self, query: Value) -> (u16, String) {
        let cloud = &self.run.cloud;
        let mut request = json!({"headers": {}, "queryStringParameters": query});
        if cloud.settings.authorization != "off" {
            request["headers"]["authorization"] = json!(format!("Bearer {}", self.token()));
        }
        let lane = format!("{} over HTTP", self.name);
        cloud.request_text(FunctionName::Alerts, &lane, "GET /alerts", request).await
    }

    /// When a socket breaks unless all is calm by then, and whether that is without a word.
    pub(super) fn breaks(&self, id: &str) -> (Option<Instant>, bool) {
        let weather = self.run.cloud.planned();
        let (seconds, is_silent) = self.run.cloud.draw(id, |random| {
            let part: f64 = random.random_range(0.0..1.0);
            (-(1.0 - part).ln() / weather.broken_sockets.max(1e-9) * 3.0, random.random_bool(weather.silent_breaks))
        });
        (Some(Instant::now() + Duration::from_secs_f64(seconds.min(1e6))), is_silent)
    }

    /// Opens a socket to the WebSocket API, and hands on what arrives until it ends or breaks, or is left because the
    /// service tells of an Event API and it does not stay.
    async fn opens(
        self: Arc<Self>,
        socket: u32,
        send: mpsc::UnboundedSender<News>,
        legs: Option<Arc<Legs>>,
        stays: bool,
    ) {
        let cloud = Arc::clone(&self.run.cloud);
        let Ok(mut connected) = self.connect(None).await else {
            _ = send.send(News::To(Input::Closed { socket, code: 1006 }));
            return;
        };
        let (line, visit) = (connected.socket.line.clone(), connected.visit);
        if send.send(News::Opened { socket, wire: Wire::Gateway(line.clone()), visit }).is_err() {
            return;
        }
        let (mut breaks_at, is_silent) = self.breaks(&line.id);
        loop {
            let arrived = tokio::select! {
                biased;
                arrived = connected.socket.incoming.recv() => arrived,
                () = sleep_until(breaks_at.unwrap_or(self.run.calm_at)), if breaks_at.is_some() => {
                    breaks_at = None;
                    if cloud.is_calm() {
                        // It holds from now on.
                        continue;
                    }
                    self.closed(visit);
                    line.breaks(is_silent);
                    if is_silent {
                        // Nothing comes any more, until the client notices and closes it.
                        self.run.over().await;
                    } else {
                        _ = send.send(News::To(Input::Closed { socket, code: 1006 }));
                    }
                    return;
                }
            };
            let Some((at, incoming)) = arrived else { return };
            sleep_until(at).await;
            let (input, leaves) = match incoming {
                Incoming::Frame(text) => {
                    let leaves = legs.as_ref().is_some_and(|legs| legs.moves_away(&text)) && !stays;
                    (Input::Frame { socket, text }, leaves)
                }
                Incoming::Closed(code) => {
                    self.closed(visit);
                    _ = send.send(News::To(Input::Closed { socket, code }));
                    return;
                }
            };
            if send.send(News::To(input)).is_err() {
                return;
            }
            if leaves {
                cloud.reaches(Situation::LegChanged);
                self.closed(visit);
                line.close();
                _ = send.send(News::To(Input::Closed { socket, code: 1006 }));
                return;
            }
        }
    }

    pub(super) fn closed(&self, visit: usize) {
        let now_ms = self.run.cloud.elapsed_ms();
        lock(&self.run.journal).visits[visit].closed_ms.get_or_insert(now_ms);
    }

    /// Notes what a frame says before the client reads it.
    fn arrives(&self, open: &mut Open, text: &str) {
        let now_ms = self.run.cloud.elapsed_ms();
        self.run.cloud.note(|| format!("{} receives {text}", self.name));
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        let mut journal = lock(&self.run.journal);
        let visit = &mut journal.visits[open.visit];
        if let Some(received) = journal::alert(&frame, now_ms, None) {
            visit.received.push(received);
            return;
        }
        let joins = frame["type"] == "subscribed";
        if !joins && frame["type"] != "unsubscribed" {
            return;
        }
        let named: Vec<String> = match frame["regions"].as_array() {
            Some(regions) => regions.iter().filter_map(|region| region.as_str().map(str::to_owned)).collect(),
            None => frame["region"].as_str().map(str::to_owned).into_iter().collect(),
        };
        let Some(at) = open.asked.iter().position(|asked| asked.joins == joins && asked.regions == named) else {
            return;
        };
        let sent_ms = open.asked[at].sent_ms;
        // One that failed, and its repeats, ask for the same. An answer is to all of them, unless the opposite was
        // asked for meanwhile.
        let end = open.asked.iter().position(|asked| asked.joins != joins).filter(|end| *end > at);
        let later = open.asked.split_off(end.unwrap_or(open.asked.len()));
        // Who leaves does not wait for the Event API, nor for a look that is under way.
        let granted_ms = now_ms + if visit.is_on_events && !joins { LEAVING_MS } else { 0 };
        for asked in open.asked.extract_if(.., |asked| asked.joins == joins && asked.regions == named) {
            for region in asked.regions {
                for wish in visit.wishes.entry(region).or_default() {
                    if wish.joins == joins && wish.sent_ms == asked.sent_ms {
                        wish.granted_ms = Some(granted_ms);
                    }
                }
            }
        }
        open.asked.extend(later);
        if joins {
            visit.heads.extend(journal::heads(&frame));
        }
        for alert in frame["alerts"].as_array().into_iter().flatten() {
            visit.received.extend(journal::alert(alert, now_ms, Some(sent_ms)));
        }
    }

    pub(super) fn hears(&self, heard: Heard) {
        if matches!(heard, Heard::Gap { .. }) {
            self.run.cloud.reaches(Situation::GapTold);
        }
        self.run.cloud.note(|| format!("the application of {} hears {heard:?}", self.name));
        lock(&self.run.journal).told.entry(self.name.clone()).or_default().push(heard);
    }

    fn is_told(&self, told: Told) {
        let epoch = |epoch: u64| i64::try_from(epoch).unwrap_or(i64::MAX);
        match told {
            Told::Alert(Logged { region, epoch: log, seq, everyone, .. }) => {
                self.hears(Heard::Alert { region, epoch: epoch(log), seq, is_for_everyone: everyone });
            }
            Told::Removed(Logged { region, epoch: log, seq, .. }) => {
                self.hears(Heard::Removed { region, epoch: epoch(log), seq });
            }
            Told::Gap { region, from, to } => self.hears(Heard::Gap { region, from, to }),
            Told::Subscribed { region, positions } => {
                let positions = positions.into_iter().map(|(name, at)| (name, (epoch(at.epoch), at.seq))).collect();
                self.hears(Heard::Subscribed { region, positions });
            }
            Told::Error { .. } | Told::State(_) => {}
        }
    }
}
