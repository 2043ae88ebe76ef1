//! An alert is published, published again, taken back, delivered, recovered and asked for at once, and requests take
//! effect in any order.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicI64, Ordering},
};

use apigw_local::Tables;
use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use clock::Clock;
use futures_util::{FutureExt, future::BoxFuture, future::join_all};
use publish::Publish;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use recover::Recover;
use serde_json::{Value, json};
use shared::{
    fanout::{Content, FanoutTask},
    protocol::event::AnyEvent,
    runtime::function::{Function, Invocation},
    tables::alerts::Alerts,
};
use simulation::{Call, Delays, Engine, Lost, Reply, World, client, engine::template, environment, start};
use subscribe::Subscribe;
use tokio::time::{Duration, Instant, sleep};

/// Runs, each with its own order.
const SEEDS: u64 = 16;

/// What must not be seen any more.
const WRONG: &str = "Wrong headline";

/// Long enough after the commit for recover to look at it.
const LATER_MS: i64 = 60_000;

/// The world of DynamoDB, and of a Lambda that keeps what it is asked to run.
struct Watched {
    inner: Arc<Delays>,
    /// What deliver is invoked with.
    tasks: Mutex<Vec<FanoutTask>>,
}

impl World for Watched {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Reply, Lost>> {
        if call.operation.is_empty() {
            let task = serde_json::from_slice(&call.body).expect("a task");
            self.tasks.lock().expect("unpoisoned").push(task);
        }
        Arc::clone(&self.inner).answer(call)
    }
}

fn invocation(id: &str) -> Invocation {
    Invocation { request_id: id.to_owned(), deadline: Instant::now() + Duration::from_secs(29) }
}

fn publication() -> Value {
    json!({"region": "PL", "id": "key", "video": {"id": "v", "title": WRONG, "thumbnail": "", "score": 97}})
}

fn subscription(number: usize) -> ApiGatewayWebsocketProxyRequest {
    let body = json!({"type": "subscribe_region", "region": "PL", "since": {"epoch": 0, "seq": 0}}).to_string();
    let event = json!({
        "requestContext": {
            "connectionId": format!("connection-{number}"),
            "eventType": "MESSAGE",
            "connectedAt": 1_795_000_000_000_i64,
            "requestTimeEpoch": 1_795_000_000_500_i64, "identity": {"sourceIp": "192.0.2.1"},
        },
        "body": body,
        "isBase64Encoded": false,
    });
    serde_json::from_value(event).expect("an event")
}

/// What a client is answered that subscribes, from the beginning of the log on.
async fn subscribe(world: &Arc<Watched>, clock: &Clock, number: usize) -> Value {
    let function: Subscribe = start(world, &format!("subscribe-{number}"), clock, environment(&[]));
    let answer = function.handle(subscription(number), invocation("subscribe")).await.expect("answered");
    let answer = serde_json::to_value(answer).expect("JSON");
    serde_json::from_str(answer["body"].as_str().expect("a body")).expect("JSON")
}

async fn invoke(world: &Arc<Watched>, clock: &Clock, process: &str, event: Value) -> Value {
    // The clock goes forward a minute in the middle, which an allowance would take for use.
    let function: Publish = start(world, process, clock, environment(&[("ALERTS_PER_MINUTE", "0")]));
    let answer = function.handle(AnyEvent(event), invocation(process)).await.expect("answered");
    serde_json::to_value(answer).expect("JSON")
}

async fn recover(world: &Arc<Watched>, clock: &Clock) {
    let more = [("PUBLISH_FUNCTION", "PublishFunction"), ("UNDELIVERED_QUEUE", "q"), ("UNPUBLISHED_QUEUE", "q")];
    let own = [("AWS_LAMBDA_FUNCTION_NAME", "RecoverFunction")];
    let function: Recover = start(world, "recover", clock, environment(&[more.as_slice(), &own].concat()));
    let scheduled = serde_json::from_value(json!({})).expect("a request");
    function.handle(scheduled, invocation("recover")).await.expect("recovered");
}

async fn in_any_order(seed: u64) {
    let tables = Tables::of_template(&template()).expect("the template");
    let inner = Delays::new(Engine::new(&tables), seed, 1..30);
    let world = Arc::new(Watched { inner, tasks: Mutex::default() });
    let ms = Arc::new(AtomicI64::new(1_795_000_000_000));
    let clock = Clock::Manual(Arc::clone(&ms));
    let mut random = StdRng::seed_from_u64(seed);
    let mut some_time = || Duration::from_millis(random.random_range(0..300));

    let published = Mutex::new(None::<Value>);
    // It may come before there is anything, and is repeated until there was.
    let (waits, repeats_after) = (some_time(), some_time());
    let taking_back = async {
        sleep(waits).await;
        loop {
            let answer = invoke(&world, &clock, "remove", json!({"remove": {"region": "PL", "seq": 1}})).await;
            if answer["removed"] == true {
                return (Instant::now(), answer);
            }
            assert_eq!(answer["error"]["code"], "unknown_alert", "{answer}");
            sleep(repeats_after).await;
        }
    };
    let publishing = join_all((0..2).map(|number| {
        let (waits, world, clock, published) = (some_time(), &world, &clock, &published);
        async move {
            sleep(waits).await;
            let answer = invoke(world, clock, &format!("publish-{number}"), publication()).await;
            assert_eq!((&answer["seq"], &answer["published"]), (&json!(1), &json!(true)), "{answer}");
            *published.lock().expect("unpoisoned") = Some(answer);
        }
    }));
    let subscribing = join_all((0..12).map(|number| {
        let (waits, world, clock) = (some_time() * 2, &world, &clock);
        async move {
            sleep(waits).await;
            let began = Instant::now();
            (began, subscribe(world, clock, number).await)
        }
    }));
    let waits = some_time();
    let recovering = async {
        sleep(waits).await;
        ms.fetch_add(LATER_MS, Ordering::Relaxed);
        recover(&world, &clock).await;
    };
    let ((removed_at, removed), _, answers, ()) = tokio::join!(taking_back, publishing, subscribing, recovering);
    let published = published.into_inner().expect("unpoisoned").expect("published");
    assert_eq!((&removed["id"], &removed["epoch"]), (&published["id"], &published["epoch"]));

    for (began, answer) in answers {
        assert_eq!(answer["recovered"], true, "no order makes a gap of it: {answer}");
        if began >= removed_at {
            assert_eq!((&answer["alerts"], answer["removed"][0]["seq"].as_u64()), (&json!([]), Some(1)), "{answer}");
        }
    }
    let items = format!("{:?}", world.inner.engine().items("AlertsTable"));
    assert!(!items.contains(WRONG), "{items}");

    // Whatever waits in Lambda's queue delivers nothing, and clients are told, after all that was dispatched.
    ms.fetch_add(LATER_MS, Ordering::Relaxed);
    recover(&world, &clock).await;
    let sdk = client::sdk(&world, "deliver");
    let alerts = Alerts::new(aws_sdk_dynamodb::Client::new(&sdk), "AlertsTable".to_owned(), clock.clone());
    let tasks = world.tasks.lock().expect("unpoisoned").clone();
    let mut told = 0;
    for task in &tasks {
        match &task.content {
            Content::Alert(alert) => assert!(!alerts.has(alert).await.expect("read"), "a worker would deliver it"),
            Content::Removal(removal) => {
                assert_eq!(removal.id, published["id"].as_str().expect("a text"));
                told += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(told > 0, "{tasks:?}");
    let items = format!("{:?}", world.inner.engine().items("AlertsTable"));
    assert!(!items.contains("undispatched"), "nothing is left for recover: {items}");
}

#[tokio::test(start_paused = true)]
async fn nobody_who_subscribes_after_a_removal_gets_the_content_in_any_order() {
    for seed in 0..SEEDS {
        in_any_order(seed).boxed().await;
    }
}
