//! Attacks by anonymous clients, while a publisher publishes: its alerts arrive within two seconds.
//!
//! The gateway has the quotas of the service and the throttles of the template, and each partition of the tables has
//! the capacity of DynamoDB. The test runs two attacks for two seconds and asserts that every alert arrives. With
//! `E2E_ATTACKERS=1000` it runs all attacks for ten seconds each, with 1,000 connections of two requests a second,
//! prints what each uses, and asserts that alerts arrive in time:
//!
//! ```text
//! E2E_ATTACKERS=1000 cargo test --release --package tests --test e2e -- attacks --nocapture
//! ```

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use apigw_local::{GatewayOptions, Rate, TableCapacity};
use cost::{DEFAULT_REGION, Prices};
use futures_util::{SinkExt, StreamExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use shared::runtime::environment::Environment;
use tokio::task::JoinSet;
use tokio_tungstenite::{connect_async, tungstenite::Message};
use tokio_util::sync::CancellationToken;

use crate::site::{Site, eventually, http, run};

/// Bound of the 99th percentile of an alert's time to its subscribers, in a release build on an idle machine.
const P99_MAX: Duration = Duration::from_secs(2);

/// Time after which an alert counts as lost.
const ARRIVAL_MAX: Duration = Duration::from_secs(120);

/// Interval of alerts.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);

/// Bytes of a message that are billed as one. Source: API Gateway pricing.
const MESSAGE_UNIT_BYTES: u64 = 32 * 1024;

/// GB-seconds of an invocation, as in `infra/cost`: 256 MB for 15 ms.
const GB_SECONDS: f64 = 0.25 * 0.015;

/// An attack, by what each attacker does.
#[derive(Clone, Copy)]
enum Attack {
    /// Sends its n-th message.
    Messages(&'static str, fn(usize) -> Value),
    /// Sends requests to the HTTP API.
    Requests(&'static str, &'static str, &'static str),
    /// Connects, subscribes to as many regions as allowed, and leaves at once.
    ComeAndGo,
    /// Does nothing, to measure publishing alone.
    Nothing,
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Messages(name, _) | Self::Requests(name, ..) => name,
            Self::ComeAndGo => "connect, subscribe to 100 regions and leave",
            Self::Nothing => "nothing",
        })
    }
}

const ATTACKS: [Attack; 12] = [
    Attack::Nothing,
    SUBSCRIBE_AND_LEAVE,
    Attack::Messages("ALL with since of 300 invented names", |_| {
        let since = since((0..300).map(|number| format!("X{number}")));
        json!({"type": "subscribe_region", "region": "ALL", "since": since})
    }),
    Attack::Messages("25 regions that missed alerts of 28 KB", |_| {
        let regions: Vec<String> = known_regions().collect();
        json!({"type": "subscribe_region", "regions": regions, "since": since(known_regions())})
    }),
    Attack::Messages("count", |_| json!({"type": "count", "region": "ALL"})),
    Attack::Messages("keepalive for ALL", |_| json!({"type": "keepalive", "regions": ["ALL"], "since": {}})),
    PINGS,
    Attack::Messages("echo", |_| json!({"type": "echo", "text": "x".repeat(1_000)})),
    Attack::Messages("chat, which is off by default", |_| json!({"type": "chat", "user": "x", "message": "x"})),
    Attack::Requests("POST /webhook without a signature", "/webhook", "{}"),
    Attack::Requests("GET /alerts", "/alerts?region=ALL", ""),
    Attack::ComeAndGo,
];

const SUBSCRIBE_AND_LEAVE: Attack = Attack::Messages("subscribe to 25 regions and leave them", |number| {
    let regions: Vec<String> = (0..25).map(|region| format!("S{region}")).collect();
    let kind = if number.is_multiple_of(2) { "subscribe_region" } else { "unsubscribe_region" };
    json!({"type": kind, "regions": regions})
});

const PINGS: Attack = Attack::Messages("ping", |_| json!({"type": "ping"}));

fn known_regions() -> impl Iterator<Item = String> {
    (0..25).map(|number| format!("K{number}"))
}

fn since(regions: impl Iterator<Item = String>) -> Value {
    regions.map(|region| (region, json!({"epoch": 0, "seq": 0}))).collect::<serde_json::Map<_, _>>().into()
}

/// The size of an attack.
#[derive(Clone, Copy, Debug)]
struct Scale {
    attackers: usize,
    watchers: usize,
    /// Messages, requests or connections per second, of all attackers together.
    per_second: f64,
    duration: Duration,
    /// Throttle of messages and pings per second, if not the template's.
    throttle: Option<&'static str>,
}

/// What attackers sent and received.
#[derive(Debug, Default)]
struct Seen {
    sent: AtomicU64,
    /// Billed messages in both directions, without throttled ones.
    billed: AtomicU64,
    answered: AtomicU64,
    /// Throttled by the gateway.
    refused: AtomicU64,
    /// Refused by the service's rate limit of a connection.
    limited: AtomicU64,
}

impl Seen {
    fn note(&self, answer: &str) {
        if answer.contains("Too Many Requests") {
            self.refused.fetch_add(1, Relaxed);
            return;
        }
        let counted = if answer.contains("rate_limited") { &self.limited } else { &self.answered };
        counted.fetch_add(1, Relaxed);
        // The message, and its answer.
        self.billed.fetch_add(1 + (answer.len() as u64).div_ceil(MESSAGE_UNIT_BYTES), Relaxed);
    }
}

/// When each alert was published, and how long it took to each subscriber.
#[derive(Debug, Default)]
struct Alerts {
    published: Mutex<HashMap<String, Instant>>,
    took: Mutex<Vec<Duration>>,
}

impl Alerts {
    fn received(&self, frame: &str) {
        let frame: Value = serde_json::from_str(frame).expect("JSON");
        let Some(id) = frame["video"]["id"].as_str() else { return };
        let published = self.published.lock().expect("whole")[id];
        self.took.lock().expect("whole").push(published.elapsed());
    }

    fn arrived(&self) -> usize {
        self.took.lock().expect("whole").len()
    }

    /// Returns a percentile of these times.
    fn percentile(&self, percent: usize) -> Duration {
        let mut took = self.took.lock().expect("whole").clone();
        took.sort();
        took[(took.len() * percent / 100).min(took.len() - 1)]
    }
}

async fn attacked_site(throttle: Option<&str>) -> Site {
    let gateway = GatewayOptions {
        connect_rate: Some(Rate::SERVICE_CONNECTS),
        request_rate: Some(Rate::SERVICE_REQUESTS),
        throttles: true,
        ..GatewayOptions::default()
    };
    let mut parameters = vec![("AlertsPerMinute", "0")];
    parameters.extend(throttle.iter().flat_map(|rate| [("MessageRate", *rate), ("PingRate", *rate)]));
    Site::limited(&parameters, gateway, TableCapacity::SERVICE).await
}

/// Connects, with retries while the gateway throttles connections.
async fn connected(
    address: &str,
) -> tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>> {
    loop {
        if let Ok((socket, _)) = connect_async(address).await {
            return socket;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs one attacker, until it is dropped.
async fn attacker(attack: Attack, socket: String, front: String, every: Duration, seen: Arc<Seen>) {
    let mut turns = tokio::time::interval(every);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Attackers do not start at the same moment.
    tokio::time::sleep(every.mul_f64(rand::random())).await;
    match attack {
        Attack::Nothing => {}
        Attack::Messages(_, message) => {
            let (mut sending, mut receiving) = connected(&socket).await.split();
            let reading = async {
                while let Some(Ok(frame)) = receiving.next().await {
                    if let Message::Text(text) = frame {
                        seen.note(&text);
                    }
                }
            };
            let writing = async {
                for number in 0.. {
                    turns.tick().await;
                    if sending.send(Message::text(message(number).to_string())).await.is_err() {
                        return;
                    }
                    seen.sent.fetch_add(1, Relaxed);
                }
            };
            tokio::join!(reading, writing);
        }
        Attack::Requests(_, path, body) => loop {
            turns.tick().await;
            seen.sent.fetch_add(1, Relaxed);
            let (_, answer) = http(&format!("{front}{path}"), &[], body).await;
            seen.note(&answer.to_string());
        },
        Attack::ComeAndGo => loop {
            turns.tick().await;
            seen.sent.fetch_add(1, Relaxed);
            let Ok((mut client, _)) = connect_async(&socket).await else {
                seen.refused.fetch_add(1, Relaxed);
                continue;
            };
            seen.answered.fetch_add(1, Relaxed);
            for part in 0..4 {
                let regions: Vec<String> = (0..25).map(|region| format!("G{}", part * 25 + region)).collect();
                let message = json!({"type": "subscribe_region", "regions": regions}).to_string();
                seen.billed.fetch_add(1, Relaxed);
                if client.send(Message::text(message)).await.is_err() {
                    break;
                }
            }
            let _ = client.close(None).await;
        },
    }
}

/// Publishes an alert.
async fn publish(site: &Site, alerts: &Alerts, id: &str) {
    let alert = json!({"region": "PL", "video": {"id": id, "title": "Viral", "thumbnail": "", "score": 97}});
    alerts.published.lock().expect("whole").insert(id.to_owned(), Instant::now());
    let (status, answer) = http(&format!("http://{}/publish", site.http_addr), &[], alert.to_string()).await;
    assert_eq!(status, 200, "{answer}");
}

/// Runs an attack. Returns a row of what it used, and what went wrong.
async fn carry_out(attack: Attack, scale: Scale) -> (String, Vec<&'static str>) {
    let site = attacked_site(scale.throttle).await;
    let (socket, front) = (format!("ws://{}/prod", site.ws_addr), format!("http://{}", site.http_addr));
    if attack.to_string().contains("missed") {
        for region in known_regions() {
            let padding = "x".repeat(28_000);
            let video = json!({"id": "old", "title": "Old", "thumbnail": "", "score": 97, "padding": padding});
            for _ in 0..3 {
                let (status, answer) =
                    http(&format!("{front}/publish"), &[], json!({"region": region, "video": video}).to_string()).await;
                assert_eq!(status, 200, "{answer}");
            }
        }
    }
    let alerts = Arc::new(Alerts::default());
    let mut watching = JoinSet::new();
    for _ in 0..scale.watchers {
        let (mut client, alerts) =
            (connected(&format!("{socket}?region=PL&format=viral_alert")).await, Arc::clone(&alerts));
        watching.spawn(async move {
            while let Some(Ok(frame)) = client.next().await {
                if let Message::Text(text) = frame {
                    alerts.received(&text);
                }
            }
        });
    }
    let (seen, stop) = (Arc::new(Seen::default()), CancellationToken::new());
    let every = Duration::from_secs_f64(scale.attackers as f64 / scale.per_second);
    let mut attacking = JoinSet::new();
    for _ in 0..scale.attackers {
        let attacker = attacker(attack, socket.clone(), front.clone(), every, Arc::clone(&seen));
        attacking.spawn(stop.clone().run_until_cancelled_owned(attacker));
    }
    // Attackers that stay connect first, at the rate that the gateway allows.
    if matches!(attack, Attack::Messages(..)) {
        eventually("all attackers are connected", async || site.connected() == scale.attackers + scale.watchers).await;
    }
    // The first alert takes longer, with or without an attack.
    publish(&site, &alerts, "first").await;
    eventually("the first alert arrives", async || alerts.arrived() == scale.watchers).await;
    alerts.took.lock().expect("whole").clear();
    let (began, invocations) = (Instant::now(), site.invocations());
    let before = (site.table_units().expect("counted"), seen.billed.load(Relaxed));
    let mut published = 0;
    let mut turns = tokio::time::interval(PUBLISH_EVERY);
    while began.elapsed() < scale.duration {
        turns.tick().await;
        publish(&site, &alerts, &format!("v{published}")).await;
        published += 1;
    }
    let (seconds, after) = (began.elapsed().as_secs_f64(), site.table_units().expect("counted"));
    let (invoked, billed) = (site.invocations() - invocations, seen.billed.load(Relaxed) - before.1);
    let due = published * scale.watchers;
    let arriving = async {
        while alerts.arrived() < due {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(ARRIVAL_MAX, arriving).await.unwrap_or_else(|_| panic!("alerts are lost during {attack}"));
    stop.cancel();
    attacking.join_all().await;
    let used = (after.read - before.0.read, after.write - before.0.write);
    let per_second = |count: &AtomicU64| count.load(Relaxed) as f64 / seconds;
    let usd = usd_an_hour(attack, billed as f64, invoked as f64, used, seconds);
    let (p50, p99) = (alerts.percentile(50), alerts.percentile(99));
    let row = format!(
        "| {attack} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} ms | {:.0} ms | {usd:.2} |",
        per_second(&seen.sent),
        per_second(&seen.answered),
        per_second(&seen.refused),
        per_second(&seen.limited),
        used.0 / seconds,
        used.1 / seconds,
        (after.throttled - before.0.throttled) as f64 / seconds,
        p50.as_secs_f64() * 1_000.0,
        p99.as_secs_f64() * 1_000.0,
    );
    // In a debug build beside other tests, times depend on the machine.
    let late = (scale.throttle.is_none() && p99 > P99_MAX).then_some("alerts are late");
    let open = (scale.throttle.is_some() && seen.refused.load(Relaxed) == 0).then_some("nothing was throttled");
    (row, late.into_iter().chain(open).collect())
}

/// Returns the cost of an hour of the attack, without logs and bytes to the internet.
fn usd_an_hour(attack: Attack, billed: f64, invoked: f64, (reads, writes): (f64, f64), seconds: f64) -> f64 {
    let prices = Prices::of_region(DEFAULT_REGION).expect("there are prices");
    let usd = |name: &str, quantity: f64| {
        let (_, price) = prices.iter().find(|(known, _)| *known == name).expect("a price");
        price.usd * quantity / price.per
    };
    let requests = if matches!(attack, Attack::Requests(..)) { "http_request" } else { "gateway_message" };
    let total = usd(requests, billed)
        + usd("lambda_request", invoked)
        + usd("lambda_gb_second", invoked * GB_SECONDS)
        + usd("dynamodb_read", reads)
        + usd("dynamodb_write", writes);
    total * 3_600.0 / seconds
}

#[test]
fn alerts_arrive_within_two_seconds_whatever_anybody_does() {
    // This process holds both ends of each socket.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("a higher limit of open files");
    let attackers = Environment::from_process().get("E2E_ATTACKERS").map(|number| number.parse().expect("a number"));
    run(async move {
        let Some(attackers) = attackers else {
            let scale = Scale {
                attackers: 40,
                watchers: 20,
                per_second: 200.0,
                duration: Duration::from_secs(2),
                throttle: Some("20"),
            };
            for attack in [PINGS, SUBSCRIBE_AND_LEAVE] {
                let (row, wrong) = carry_out(attack, scale).await;
                assert!(wrong.is_empty(), "{wrong:?}: {row}");
            }
            return;
        };
        println!(
            "| attack | sent/s | answered/s | refused by a throttle/s | refused by the service/s | read units/s \\
             | write units/s | throttled by tables/s | p50 | p99 | dollars an hour |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|");
        let scale = Scale {
            attackers,
            watchers: 100,
            per_second: 2.0 * attackers as f64,
            duration: Duration::from_secs(10),
            throttle: None,
        };
        let mut all_wrong = Vec::new();
        for attack in ATTACKS {
            let (row, wrong) = carry_out(attack, scale).await;
            println!("{row}");
            all_wrong.extend(wrong.into_iter().map(|wrong| format!("{wrong}: {attack}")));
        }
        assert!(all_wrong.is_empty(), "{all_wrong:#?}");
    });
}
