//! Many who publish for one region, each in a process of its own, where DynamoDB has its limits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use apigw_local::Tables;
use clock::Clock;
use publish::Publish;
use serde_json::{Value, json};
use shared::{
    protocol::event::AnyEvent,
    runtime::function::{Function, Invocation},
};
use simulation::{Call, Engine, Losses, Quotas, engine::template, environment, start};
use tokio::time::{Duration, Instant, sleep, sleep_until};

/// When the world begins, in milliseconds since the Unix epoch.
const BEGIN_MS: i64 = 1_795_000_000_000;

/// A clock that goes with tokio's.
fn clock() -> Clock {
    let ms = Arc::new(AtomicI64::new(BEGIN_MS));
    let (began, moved) = (Instant::now(), Arc::clone(&ms));
    tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(1)).await;
            let elapsed = i64::try_from(began.elapsed().as_millis()).expect("not that long");
            moved.store(BEGIN_MS + elapsed, Ordering::Relaxed);
        }
    });
    Clock::Manual(ms)
}

/// A request to publish, signed by one of the publishers.
fn request(publisher: usize, key: Option<&str>, body: &Value) -> Value {
    json!({
        "version": "2.0", "routeKey": "POST /publish", "isBase64Encoded": false, "body": body.to_string(),
        "headers": key.map_or(json!({}), |key| json!({"idempotency-key": key})),
        "requestContext": {
            "http": {"method": "POST"}, "routeKey": "POST /publish",
            "authorizer": {"iam": {"userId": format!("AROA{publisher}:session")}},
        },
    })
}

fn alert(number: usize) -> Value {
    json!({"region": "PL", "video": {"id": format!("v{number}"), "title": "Title", "thumbnail": "", "score": 97}})
}

/// How a crowd comes.
#[derive(Clone, Copy, Debug)]
struct Crowd {
    count: usize,
    /// Time from one to the next.
    every: Duration,
    publishers: usize,
    alerts_per_minute: u32,
    with_keys: bool,
}

/// What an answer says, and how long it took.
struct Answered {
    status: u64,
    body: Value,
    took: Duration,
}

async fn publish(world: &Arc<Quotas>, clock: &Clock, crowd: Crowd, number: usize, began: Instant) -> Answered {
    let limit = crowd.alerts_per_minute.to_string();
    let process = format!("publish-{number}");
    let function: Publish = start(world, &process, clock, environment(&[("ALERTS_PER_MINUTE", &limit)]));
    sleep_until(began + crowd.every * u32::try_from(number).expect("few")).await;
    let from = Instant::now();
    let key = crowd.with_keys.then(|| format!("key-{number}"));
    let event = request(number % crowd.publishers, key.as_deref(), &alert(number));
    let invocation = Invocation { request_id: process, deadline: from + Duration::from_secs(29) };
    let answer = function.handle(AnyEvent(event), invocation).await.expect("HTTP is always answered");
    let answer = serde_json::to_value(answer).expect("JSON");
    let body = serde_json::from_str(answer["body"].as_str().expect("a body")).expect("JSON");
    Answered { status: answer["statusCode"].as_u64().expect("a status"), body, took: from.elapsed() }
}

fn world(seed: u64) -> Arc<Quotas> {
    Quotas::new(Engine::new(&Tables::of_template(&template()).expect("the template")), seed)
}

/// The numbers of the alerts in the log, as often as they stand there.
fn log(world: &Quotas) -> Vec<(u64, String)> {
    let items = world.engine().items("AlertsTable");
    let of_log = items.iter().filter(|item| item["region"]["S"] == "PL");
    let mut log: Vec<_> = of_log
        .map(|item| {
            let seq = item["seq"]["N"].as_str().and_then(|seq| seq.parse().ok()).expect("a number");
            let video: Value = serde_json::from_str(item["video"]["S"].as_str().expect("a video")).expect("JSON");
            (seq, video["id"].as_str().expect("an id").to_owned())
        })
        .collect();
    log.sort();
    log
}

/// Lets a crowd publish, and says how long 99 in 100 took at most.
async fn come(crowd: Crowd, seed: u64) -> Duration {
    let (world, clock) = (world(seed), clock());
    let began = Instant::now() + Duration::from_millis(100);
    let tasks: Vec<_> = (0..crowd.count)
        .map(|number| {
            let (world, clock) = (Arc::clone(&world), clock.clone());
            tokio::spawn(async move { publish(&world, &clock, crowd, number, began).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.expect("no panic"));
    }
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 200).map(|answer| &answer.body).collect();
    let mut took: Vec<_> = answers.iter().map(|answer| answer.took).collect();
    took.sort();
    let at = |share: f64| took[((took.len() as f64 * share).ceil() as usize).clamp(1, took.len()) - 1];
    println!(
        "seed {seed}, {crowd:?}: p50 {:?}, p99 {:?}, last {:?}, refused {}, {:?}",
        at(0.5),
        at(0.99),
        at(1.0),
        refused.len(),
        world.counts()
    );
    assert!(refused.is_empty(), "{:?}", refused.first());
    let seqs: BTreeSet<_> = answers.iter().map(|answer| answer.body["seq"].as_u64().expect("a position")).collect();
    assert_eq!(seqs, (1..=crowd.count as u64).collect(), "each has a position of its own");
    let log = log(&world);
    assert_eq!(log.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (1..=crowd.count as u64).collect::<Vec<_>>());
    assert_eq!(log.iter().map(|(_, id)| id).collect::<BTreeSet<_>>().len(), crowd.count, "nothing is there twice");
    for answer in &answers {
        assert_eq!(answer.body["duplicate"], false);
    }
    at(0.99)
}

/// Twenty publishers, one without a limit, and one with the default limit.
const WAYS: [(usize, u32); 3] = [(20, 600), (1, 0), (1, 600)];

#[tokio::test(start_paused = true)]
async fn three_hundred_at_one_moment_are_published_within_three_seconds() {
    for (seed, (publishers, alerts_per_minute)) in (1..).zip(WAYS) {
        let crowd = Crowd { count: 300, every: Duration::ZERO, publishers, alerts_per_minute, with_keys: seed == 1 };
        let p99 = come(crowd, seed).await;
        assert!(p99 < Duration::from_secs(3), "{p99:?}");
    }
}

async fn six_hundred(ways: &[(usize, u32)]) {
    for (seed, (publishers, alerts_per_minute)) in (4..).zip(ways.iter().copied()) {
        let crowd = Crowd { count: 600, every: Duration::ZERO, publishers, alerts_per_minute, with_keys: seed == 4 };
        let p99 = come(crowd, seed).await;
        assert!(p99 < Duration::from_secs(6), "{p99:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn six_hundred_at_one_moment_are_published_within_six_seconds() {
    six_hundred(&[(1, 600)]).await;
}

async fn fifty_a_second(seconds: usize, ways: &[(usize, u32)]) {
    for (seed, (publishers, alerts_per_minute)) in (7..).zip(ways.iter().copied()) {
        let every = Duration::from_millis(20);
        let crowd = Crowd { count: 50 * seconds, every, publishers, alerts_per_minute, with_keys: seed == 7 };
        let p99 = come(crowd, seed).await;
        assert!(p99 < Duration::from_millis(500), "{p99:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_a_second_are_published_within_half_a_second_each() {
    fifty_a_second(10, &[(20, 600)]).await;
}

#[tokio::test(start_paused = true)]
#[ignore = "minutes of CPU; tests/run --nightly runs it"]
async fn crowds_are_published_in_time_whoever_publishes() {
    six_hundred(&WAYS).await;
    fifty_a_second(60, &[(20, 600), (1, 0)]).await;
}

/// What one publication was told. None where its process ended before.
type Told = Option<Answered>;

/// Publishes while requests and answers are lost and processes end, and has recover run long after it.
async fn endure(seed: u64) -> (Arc<Quotas>, Vec<Told>) {
    let (world, clock) = (world(seed), clock());
    // Of eight attempts hardly ever all are lost at first, and often in the end.
    world.lose(Losses::Share(0.15 + 0.05 * seed as f64));
    let every = Duration::from_millis(15);
    let crowd = Crowd { count: 60, every, publishers: 5, alerts_per_minute: 600, with_keys: seed.is_multiple_of(2) };
    let began = Instant::now() + Duration::from_millis(100);
    let tasks: Vec<_> = (0..crowd.count)
        .map(|number| {
            let (world, clock) = (Arc::clone(&world), clock.clone());
            let task = tokio::spawn(async move { publish(&world, &clock, crowd, number, began).await });
            if number % 5 == 0 {
                let abort = task.abort_handle();
                let at = began + every * u32::try_from(number).expect("few") + Duration::from_millis(seed * 37 % 400);
                tokio::spawn(async move {
                    sleep_until(at).await;
                    abort.abort();
                });
            }
            task
        })
        .collect();
    let mut told = Vec::new();
    for task in tasks {
        told.push(task.await.ok());
    }
    world.lose(Losses::None);
    // Longer than anything waits, and than recover leaves an alert to publish.
    sleep(Duration::from_secs(120)).await;
    for number in crowd.count..crowd.count + 10 {
        let crowd = Crowd { every: Duration::ZERO, ..crowd };
        told.push(Some(publish(&world, &clock, crowd, number, began).await));
    }
    sleep(Duration::from_secs(60)).await;
    let variables = [
        ("PUBLISH_FUNCTION", "PublishFunction"),
        ("UNDELIVERED_QUEUE", "http://queue/undelivered"),
        ("UNPUBLISHED_QUEUE", "http://queue/unpublished"),
        ("AWS_LAMBDA_FUNCTION_NAME", "RecoverFunction"),
    ];
    let recover: recover::Recover = start(&world, "recover", &clock, environment(&variables));
    let invocation =
        Invocation { request_id: "recover".to_owned(), deadline: Instant::now() + Duration::from_secs(55) };
    recover.handle(serde_json::from_str("{}").expect("a request"), invocation).await.expect("recovered");
    (world, told)
}

#[tokio::test(start_paused = true)]
async fn every_answer_is_true_whatever_is_lost_and_whoever_ends() {
    let (mut codes, mut ended) = (BTreeMap::<String, u32>::new(), 0);
    for seed in 1..=8 {
        println!("seed {seed}");
        let (world, told) = endure(seed).await;
        let log = log(&world);
        let seqs: Vec<_> = log.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, (1..=log.len() as u64).collect::<Vec<_>>(), "no gap, seed {seed}");
        for (number, told) in told.iter().enumerate() {
            let places: Vec<_> =
                log.iter().filter(|(_, id)| *id == format!("v{number}")).map(|(seq, _)| *seq).collect();
            let context = format!("publication {number} of seed {seed} is at {places:?}");
            assert!(places.len() <= 1, "{context}");
            let Some(told) = told else {
                ended += 1;
                continue;
            };
            let code = told.body["error"]["code"].as_str().unwrap_or("published");
            *codes.entry(code.to_owned()).or_default() += 1;
            match code {
                "published" => assert_eq!(told.body["seq"].as_u64().as_slice(), places, "{context}: {}", told.body),
                "outcome_unknown" => {}
                _ => assert!(places.is_empty(), "{context}: {}", told.body),
            }
        }
        let dispatched: BTreeSet<_> =
            world.invocations().iter().filter_map(|task| task["alert"]["seq"].as_u64()).collect();
        assert_eq!(dispatched, seqs.into_iter().collect(), "all that is in the log is dispatched, seed {seed}");
    }
    println!("{codes:?}, {ended} ended before");
    let told = |code: &str, times: u32| codes.get(code).is_some_and(|count| *count >= times);
    assert!(told("published", 100) && told("unavailable", 1) && told("outcome_unknown", 1), "{codes:?}");
    assert!(ended > 10, "{ended}");
}

/// One publication and its repeat, both with a key or without, while `losses` go: what both were told, and what is
/// in the log.
async fn told_while(
    losses: impl FnMut(&Call, bool) -> bool + Send + 'static,
    with_keys: bool,
) -> (Value, Value, usize) {
    let (world, clock) = (world(1), clock());
    let crowd = Crowd { count: 1, every: Duration::ZERO, publishers: 1, alerts_per_minute: 600, with_keys };
    world.lose(Losses::Chosen(Box::new(losses)));
    let first = publish(&world, &clock, crowd, 0, Instant::now()).await;
    let in_log = log(&world).len();
    world.lose(Losses::None);
    let second = publish(&world, &clock, crowd, 0, Instant::now()).await;
    (first.body, second.body, in_log)
}

fn is_commit(call: &Call) -> bool {
    call.operation == "TransactWriteItems"
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_once_changes_nothing() {
    let mut lost = 0;
    let once = move |call: &Call, is_answer: bool| {
        lost += u32::from(is_commit(call) && is_answer);
        is_commit(call) && is_answer && lost == 1
    };
    let (first, _, in_log) = told_while(once, false).await;
    assert_eq!((&first["published"], &first["duplicate"], in_log), (&json!(true), &json!(false), 1), "{first}");
}

#[tokio::test(start_paused = true)]
async fn an_alert_all_of_whose_answers_are_lost_is_found_in_the_log() {
    let (first, second, in_log) = told_while(|call, is_answer| is_commit(call) && is_answer, true).await;
    assert_eq!((&first["published"], &first["duplicate"], in_log), (&json!(true), &json!(false), 1), "{first}");
    assert_eq!((&second["duplicate"], &second["seq"]), (&json!(true), &first["seq"]), "{second}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_known_is_told_as_that_and_its_repeat_with_the_key_publishes_once() {
    // Neither the commit nor the looks after it are answered.
    let from_the_commit_on = || {
        let mut began = false;
        move |call: &Call, is_answer: bool| {
            began |= is_commit(call);
            began && is_answer
        }
    };
    let unknown = |body: &Value| assert_eq!(body["error"]["code"], "outcome_unknown", "{body}");
    let (first, second, in_log) = told_while(from_the_commit_on(), true).await;
    unknown(&first);
    assert_eq!((&second["seq"], &second["duplicate"], in_log), (&json!(1), &json!(true), 1), "{second}");
    // No request arrives: it may still come for all that publish knows.
    let (first, second, in_log) = told_while(|call, is_answer| is_commit(call) && !is_answer, true).await;
    unknown(&first);
    assert_eq!((&second["seq"], &second["duplicate"], in_log), (&json!(1), &json!(false), 0), "{second}");
}

#[tokio::test(start_paused = true)]
async fn a_publication_that_is_queued_again_after_its_commit_is_taken_out_of_the_queue() {
    let (world, clock) = (world(1), clock());
    let crowd = Crowd { count: 60, every: Duration::ZERO, publishers: 5, alerts_per_minute: 600, with_keys: true };
    let mut lost = BTreeSet::new();
    let first_answers = move |call: &Call, is_answer: bool| {
        let put: Value = serde_json::from_slice(&call.body).expect("JSON");
        let is_queued = put["Item"]["region"]["S"].as_str().is_some_and(|partition| partition.starts_with("@queue#"));
        is_answer && is_queued && lost.insert(put["Item"]["seq"]["N"].to_string())
    };
    world.lose(Losses::Chosen(Box::new(first_answers)));
    let began = Instant::now();
    let all = (0..crowd.count).map(|number| publish(&world, &clock, crowd, number, began));
    let told = futures_util::future::join_all(all).await;
    assert!(told.iter().all(|told| told.body["published"] == true));
    assert_eq!(log(&world).len(), crowd.count);
    let items = world.engine().items("AlertsTable");
    let waiting: Vec<_> = items.iter().filter(|item| item["video"].is_object() && item["epoch"].is_null()).collect();
    assert_eq!(waiting, Vec::<&Value>::new());
}
