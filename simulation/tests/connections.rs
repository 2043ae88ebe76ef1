//! Connections that open, send and close in any order: what remains of them, and how many there are.
//!
//! The handlers are those that are deployed. Each of their requests to DynamoDB takes effect at a time that the seed
//! decides, each item of a batch at a time of its own, as the service has it. The index of connections is behind: it
//! knows nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use apigw_local::Tables;
use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use clock::Clock;
use connect::Connect;
use disconnect::Disconnect;
use futures_util::{FutureExt, future::BoxFuture, future::join_all};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use shared::runtime::{
    environment::Environment,
    function::{Function, Invocation},
};
use simulation::{Call, Engine, Lost, Reply, World, engine::template, environment, start};
use subscribe::Subscribe;
use tokio::time::{Instant, sleep};

const TABLE: &str = "SubscriptionsTable";

/// Orders in a test, unless `CONNECTION_ORDERS` says another number; `tests/run --nightly` makes 10,000.
const SEEDS: u64 = 300;

/// Longest time that a request, or an answer, is on its way, as a rule.
const WAY_MS: u64 = 20;

/// The same for one of ten: others overtake it.
const LONG_WAY_MS: u64 = 200;

/// DynamoDB, whose requests take effect one by one, in an order that the seed decides.
struct Orders {
    engine: Engine,
    random: Mutex<StdRng>,
    /// Whether the next answer to the close of a connection is lost.
    loses_a_close: AtomicBool,
}

impl Orders {
    fn new(tables: &Tables, seed: u64) -> Arc<Self> {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        Arc::new(Self { engine: Engine::new(tables), random, loses_a_close: AtomicBool::new(false) })
    }

    fn random(&self, max: u64) -> u64 {
        self.random.lock().expect("unpoisoned").random_range(0..=max)
    }

    async fn travel(&self) {
        let longest = if self.random(9) == 0 { LONG_WAY_MS } else { WAY_MS };
        sleep(Duration::from_millis(self.random(longest))).await;
    }

    /// One item after the other, in any order.
    async fn batch(&self, call: &Call, request: &Value) -> Reply {
        let items = request["RequestItems"][TABLE].as_array().expect("items of one table");
        join_all(items.iter().map(|item| async move {
            self.travel().await;
            let body = json!({"RequestItems": {TABLE: [item]}}).to_string().into_bytes();
            let reply = self.engine.answer(&Call { body, ..call.clone() });
            assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        }))
        .await;
        Reply::json(&json!({"UnprocessedItems": {}}))
    }
}

impl World for Orders {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Reply, Lost>> {
        async move {
            self.travel().await;
            let request: Value = serde_json::from_slice(&call.body).unwrap_or_default();
            let reply = match call.operation.as_str() {
                // An invocation, which Lambda accepts.
                "" => Reply { status: 202, body: Vec::new() },
                "BatchWriteItem" => self.batch(&call, &request).await,
                "Query" if request["IndexName"] == "by_connection" => {
                    Reply::json(&json!({"Items": [], "Count": 0, "ScannedCount": 0}))
                }
                _ => self.engine.answer(&call),
            };
            self.travel().await;
            let closes = request["UpdateExpression"].as_str().is_some_and(|update| update.contains("SET closed"));
            if closes && self.loses_a_close.swap(false, Ordering::Relaxed) { Err(Lost) } else { Ok(reply) }
        }
        .boxed()
    }
}

/// The three functions, as many processes as there may be.
struct Site {
    world: Arc<Orders>,
    now: Arc<AtomicI64>,
    connect: Connect,
    subscribe: Subscribe,
    disconnect: Disconnect,
}

/// When it begins. Only tests that say so move the clock of the functions.
const NOW: i64 = 1_795_000_000_000;

fn tables() -> Tables {
    Tables::of_template(&template()).expect("the template")
}

impl Site {
    fn new(tables: &Tables, seed: u64, variables: &[(&str, &str)]) -> Arc<Self> {
        let world = Orders::new(tables, seed);
        let now = Arc::new(AtomicI64::new(NOW));
        let clock = Clock::Manual(Arc::clone(&now));
        Arc::new(Self {
            connect: start(&world, "connect", &clock, environment(variables)),
            subscribe: start(&world, "subscribe", &clock, environment(variables)),
            disconnect: start(&world, "disconnect", &clock, environment(variables)),
            now,
            world,
        })
    }

    /// The status of the handshake.
    async fn connect(&self, who: &Who, region: Option<&str>) -> u16 {
        let mut event = who.event("CONNECT", None);
        if let Some(region) = region {
            event["queryStringParameters"] = json!({"region": region});
        }
        let verdict = self.connect.handle(read(event), invocation()).await.expect("a verdict");
        let verdict = serde_json::to_value(verdict).expect("JSON");
        u16::try_from(verdict["statusCode"].as_u64().expect("a status")).expect("a status")
    }

    async fn send(&self, who: &Who, message: &Value) -> Value {
        let event = who.event("MESSAGE", Some(&message.to_string()));
        let answer = self.subscribe.handle(read(event), invocation()).await.expect("an answer");
        let answer = serde_json::to_value(answer).expect("JSON");
        answer["body"].as_str().map_or(Value::Null, |body| serde_json::from_str(body).expect("JSON"))
    }

    async fn disconnect(&self, who: &Who) {
        self.disconnect.handle(read(who.event("DISCONNECT", None)), invocation()).await.expect("disconnected");
    }

    fn items(&self) -> Vec<Value> {
        self.world.engine.items(TABLE)
    }

    fn seats(&self) -> usize {
        self.items().iter().filter(|item| text(&item["slot"]).starts_with("seat#")).count()
    }
}

fn text(attribute: &Value) -> &str {
    attribute["S"].as_str().unwrap_or_default()
}

fn read(event: Value) -> ApiGatewayWebsocketProxyRequest {
    serde_json::from_value(event).expect("an event")
}

fn invocation() -> Invocation {
    Invocation { request_id: "request".to_owned(), deadline: Instant::now() + Duration::from_secs(29) }
}

/// A connection and its user.
#[derive(Clone, Debug)]
struct Who {
    id: String,
    user: &'static str,
}

impl Who {
    fn event(&self, kind: &str, body: Option<&str>) -> Value {
        json!({
            "requestContext": {
                "connectionId": self.id, "eventType": kind, "connectedAt": NOW - 500, "requestTimeEpoch": NOW,
                "identity": {"sourceIp": "192.0.2.1"}, "authorizer": {"user": self.user, "regions": "*"},
            },
            "body": body,
            "isBase64Encoded": false,
        })
    }
}

/// The seeds to run: one that was asked for, or all, or a `share` of them where each takes long.
fn seeds(share: u64) -> Vec<u64> {
    let variable = |name| Environment::from_process().get(name).map(|number| number.parse::<u64>().expect("a number"));
    match variable("SIMULATION_SEED") {
        Some(seed) => vec![seed],
        None => (0..variable("CONNECTION_ORDERS").unwrap_or(SEEDS) / share).collect(),
    }
}

/// Runs a scenario for each seed, each in its own virtual time.
fn for_each_seed<F: Future<Output = ()>>(seeds: &[u64], scenario: impl Fn(u64) -> F + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for seeds in seeds.chunks(seeds.len().div_ceil(threads)) {
            let scenario = &scenario;
            scope.spawn(move || {
                for seed in seeds {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
                    runtime.expect("a runtime").block_on(scenario(*seed));
                }
            });
        }
    });
}

/// What a client may send, of few regions and rooms so that its messages meet.
fn message(random: &mut StdRng) -> Value {
    let regions = ["PL", "DE", "AE", "ALL"];
    let count = random.random_range(1..=regions.len());
    let some: BTreeSet<&str> = (0..count).map(|_| *regions.choose(random).expect("a region")).collect();
    let room = ["cats", "dogs"].choose(random).expect("a room");
    match random.random_range(0..10) {
        0..=2 => json!({"type": "subscribe_region", "regions": some}),
        3 => json!({"type": "subscribe_region", "region": "PL", "format": "new_trending"}),
        4 | 5 => json!({"type": "unsubscribe_region", "regions": some}),
        6 => json!({"type": "join", "room": room}),
        7 => json!({"type": "leave"}),
        8 => json!({"type": "chat", "user": "Ola", "message": "hej"}),
        _ => json!({"type": "chat", "room": room, "user": "Ola", "message": "hej"}),
    }
}

const VARIABLES: [(&str, &str); 5] = [
    ("ROOMS", "on"),
    ("MESSAGES_PER_SECOND", "1000"),
    ("AUTHORIZATION", "optional"),
    ("CONNECTIONS_PER_ADDRESS", "6"),
    ("CONNECTIONS_PER_USER", "5"),
];

/// What is not the mark of a closed connection.
fn left_behind(items: &[Value]) -> Vec<&Value> {
    let is_mark = |item: &&Value| {
        let fields: BTreeSet<&str> = item.as_object().expect("an item").keys().map(String::as_str).collect();
        text(&item["audience"]).starts_with("@connection#")
            && fields.contains("closed")
            && fields.is_subset(&BTreeSet::from(["audience", "slot", "closed", "expires_at", "audiences", "seats"]))
    };
    items.iter().filter(|item| !is_mark(item)).collect()
}

#[test]
fn a_closed_connection_leaves_nothing_behind_in_whatever_order_its_functions_run() {
    let tables = tables();
    for_each_seed(&seeds(1), |seed| {
        let tables = &tables;
        async move {
            let site = Site::new(tables, seed, &VARIABLES);
            let mut random = StdRng::seed_from_u64(seed ^ u64::MAX);
            let mut running: Vec<BoxFuture<'static, ()>> = Vec::new();
            let mut log = Vec::new();
            for number in 0..random.random_range(1..=2) {
                let who = Who { id: format!("c{number}-{seed}="), user: "ola" };
                // In every other world the connection has opened long before the rest, as a rule.
                let latest = if seed % 2 == 0 { 120 } else { 400 };
                let mut at = |what: String| {
                    let ms =
                        if what == "connects" { random.random_range(0..=20) } else { random.random_range(0..=latest) };
                    log.push(format!("{ms} ms: {} {what}", who.id));
                    sleep(Duration::from_millis(ms))
                };
                let begin = at("connects".to_owned());
                let region = [None, Some("PL"), Some("ALL")][usize::try_from(seed % 3).expect("small")];
                let (one, client) = (Arc::clone(&site), who.clone());
                running.push(
                    async move {
                        begin.await;
                        one.connect(&client, region).await;
                    }
                    .boxed(),
                );
                for _ in 0..1 + seed / 2 % 2 {
                    let begin = at("disconnects".to_owned());
                    let (one, client) = (Arc::clone(&site), who.clone());
                    running.push(
                        async move {
                            begin.await;
                            one.disconnect(&client).await;
                        }
                        .boxed(),
                    );
                }
                let mut messages = StdRng::seed_from_u64(seed.wrapping_mul(31) + number);
                for _ in 0..messages.random_range(0..=6) {
                    let message = message(&mut messages);
                    let begin = at(message.to_string());
                    let (one, client) = (Arc::clone(&site), who.clone());
                    running.push(
                        async move {
                            begin.await;
                            one.send(&client, &message).await;
                        }
                        .boxed(),
                    );
                }
            }
            join_all(running).await;
            let items = site.items();
            let left = left_behind(&items);
            assert!(left.is_empty(), "SIMULATION_SEED={seed} leaves {left:#?} of {log:#?}");
        }
    });
}

#[test]
fn what_is_noted_of_an_open_connection_is_what_is_written() {
    let tables = tables();
    for_each_seed(&seeds(10), |seed| {
        let tables = &tables;
        async move {
            let site = Site::new(tables, seed, &VARIABLES);
            let who = Who { id: format!("c{seed}="), user: "ola" };
            assert_eq!(site.connect(&who, Some("PL")).await, 200);
            let mut random = StdRng::seed_from_u64(seed ^ u64::MAX);
            let messages: Vec<_> = (0..6).map(|_| (random.random_range(0..=60_u64), message(&mut random))).collect();
            join_all(messages.iter().map(|(ms, message)| {
                let (site, who) = (&site, &who);
                async move {
                    sleep(Duration::from_millis(*ms)).await;
                    site.send(who, message).await;
                }
            }))
            .await;
            let items = site.items();
            let state = items.iter().find(|item| text(&item["audience"]).starts_with("@connection#")).expect("a state");
            let keys = |attribute: &str| {
                let keys = state[attribute]["SS"].as_array().cloned().unwrap_or_default();
                keys.iter().filter_map(Value::as_str).map(str::to_owned).collect::<BTreeSet<_>>()
            };
            let trending = keys("new_trending");
            let format = |audience: &str| if trending.contains(audience) { "new_trending" } else { "viral_alert" };
            let noted: BTreeMap<String, &str> =
                keys("audiences").into_iter().map(|audience| (audience.clone(), format(&audience))).collect();
            let written = items.iter().map(|item| (text(&item["audience"]).to_owned(), text(&item["format"])));
            let written: BTreeMap<String, &str> = written.filter(|(audience, _)| !audience.starts_with('@')).collect();
            assert_eq!(noted, written, "SIMULATION_SEED={seed}: {messages:#?}");
        }
    });
}

#[test]
fn of_any_number_that_connect_at_once_exactly_as_many_get_in_as_there_may_be() {
    let tables = tables();
    for_each_seed(&seeds(25), |seed| {
        let tables = &tables;
        async move {
            let (max, coming) = if seed % 2 == 0 { (5, 8) } else { (6, 20) };
            let limit = max.to_string();
            // Of an address, of a user, or of both.
            let (address, user) =
                [(&*limit, "0"), ("0", &*limit), (&*limit, "50")][usize::try_from(seed % 3).expect("small")];
            let variables =
                [("AUTHORIZATION", "optional"), ("CONNECTIONS_PER_ADDRESS", address), ("CONNECTIONS_PER_USER", user)];
            let site = Site::new(tables, seed, &variables);
            let who = |number: usize| Who { id: format!("c{number}-{seed}="), user: "ola" };
            let together = async |from: usize, count: usize| {
                let coming: Vec<Who> = (from..from + count).map(who).collect();
                let answers = join_all(coming.iter().map(|who| site.connect(who, Some("PL")))).await;
                assert!(
                    answers.iter().all(|status| [200, 429].contains(status)),
                    "SIMULATION_SEED={seed}: {answers:?}"
                );
                coming
                    .into_iter()
                    .zip(answers)
                    .filter(|(_, status)| *status == 200)
                    .map(|(who, _)| who)
                    .collect::<Vec<_>>()
            };
            let mut inside = together(0, coming).await;
            assert_eq!(inside.len(), max, "SIMULATION_SEED={seed}");
            // Three of them leave while others come: no more get in than leave, and in the end all that may.
            let leaving: Vec<Who> = inside.drain(..3).collect();
            let (_, more) =
                futures_util::join!(join_all(leaving.iter().map(|who| site.disconnect(who))), together(100, coming));
            assert!(more.len() <= 3, "SIMULATION_SEED={seed}: {} came for 3", more.len());
            inside.extend(more);
            inside.extend(together(200, coming).await);
            assert_eq!(inside.len(), max, "SIMULATION_SEED={seed}");
            let seats_of_each = if user == "50" { 2 } else { 1 };
            assert_eq!(site.seats(), max * seats_of_each, "SIMULATION_SEED={seed}");
            join_all(inside.iter().map(|who| site.disconnect(who))).await;
            let items = site.items();
            assert!(left_behind(&items).is_empty(), "SIMULATION_SEED={seed}: {items:#?}");
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_repeated_subscription_changes_the_format_and_nothing_else() {
    let site = Site::new(&tables(), 1, &VARIABLES);
    let who = Who { id: "eHrdFcnvvHcCE-w=".to_owned(), user: "ola" };
    assert_eq!(site.connect(&who, None).await, 200);
    let item = || site.items().into_iter().find(|item| text(&item["audience"]) == "PL").expect("a subscription");
    let subscribe = async |format: &str| {
        let answer = site.send(&who, &json!({"type": "subscribe_region", "region": "PL", "format": format})).await;
        assert_eq!(answer["type"], "subscribed", "{answer}");
        item()
    };
    let first = subscribe("viral_alert").await;
    assert_eq!(first["since"]["N"], (NOW - 500).to_string(), "when the connection began");
    site.now.fetch_add(60_000, Ordering::Relaxed);
    assert_eq!(subscribe("viral_alert").await, first);
    let mut changed = subscribe("new_trending").await;
    assert_eq!(text(&changed["format"]), "new_trending");
    changed["format"] = first["format"].clone();
    assert_eq!(changed, first);
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_is_told_so_whatever_it_sends() {
    let site = Site::new(&tables(), 1, &VARIABLES);
    let who = Who { id: "eHrdFcnvvHcCE-w=".to_owned(), user: "ola" };
    assert_eq!(site.connect(&who, Some("PL")).await, 200);
    site.disconnect(&who).await;
    for message in [
        json!({"type": "subscribe_region", "region": "PL"}),
        json!({"type": "unsubscribe_region", "region": "PL"}),
        json!({"type": "join"}),
        json!({"type": "leave"}),
        json!({"type": "chat", "user": "Ola", "message": "hej"}),
        json!({"type": "count"}),
        json!({"type": "echo"}),
        json!({"type": "nonsense"}),
    ] {
        let answer = site.send(&who, &message).await;
        assert_eq!((&answer["code"], &answer["retryable"]), (&json!("connection_closed"), &json!(true)), "{message}");
    }
    assert_eq!(site.connect(&who, Some("PL")).await, 410, "a handshake that comes late");
    assert!(left_behind(&site.items()).is_empty(), "{:#?}", site.items());
}

#[tokio::test(start_paused = true)]
async fn a_close_whose_first_answer_is_lost_leaves_nothing_behind() {
    let variables = [("AUTHORIZATION", "optional"), ("CONNECTIONS_PER_USER", "2")];
    let site = Site::new(&tables(), 1, &variables);
    let who = Who { id: "eHrdFcnvvHcCE-w=".to_owned(), user: "ola" };
    assert_eq!(site.connect(&who, Some("PL")).await, 200);
    assert_eq!(site.seats(), 1);
    site.world.loses_a_close.store(true, Ordering::Relaxed);
    site.disconnect(&who).await;
    assert!(!site.world.loses_a_close.load(Ordering::Relaxed), "it was lost");
    assert!(left_behind(&site.items()).is_empty(), "{:#?}", site.items());
}
