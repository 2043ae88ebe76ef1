//! The program as Lambda runs it with an Event API, in a world of one listener: the Runtime API, DynamoDB, Lambda, the
//! management API and the Event API.

mod lambda;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::Child,
    sync::{Mutex as Turn, Notify, mpsc, watch},
    time::timeout,
};

use self::lambda::{WAIT_MAX, answer, invocation, watchers};

const WATCHERS: usize = 5;

const TAKEN: &str = r#"{"failed":[],"successful":[{"identifier":"0f6c2a54","index":0}]}"#;
const REFUSED: &str = r#"{"errors":[{"errorType":"UnauthorizedException","message":"no"}]}"#;

struct World {
    /// What the function is invoked with next.
    invocations: Turn<mpsc::UnboundedReceiver<Value>>,
    /// What is posted to the Runtime API: the path and the body.
    ended: mpsc::UnboundedSender<(String, Value)>,
    event_api: watch::Sender<EventApi>,
    seen: Mutex<Seen>,
    /// Changes with each post.
    posted: Notify,
}

/// What the Event API does.
#[derive(Clone, Copy)]
enum EventApi {
    Takes,
    Refuses,
    /// Refuses once all watchers have the alert: a fan-out that waited for the answer would keep it from coming.
    RefusesLast,
}

/// What arrived since it was looked at last.
#[derive(Debug, Default)]
struct Seen {
    /// Bodies of posts to connections.
    frames: Vec<String>,
    /// Bodies of publications on the Event API.
    events: Vec<Value>,
    /// Payloads of invocations.
    invoked: Vec<Value>,
}

impl World {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let json = || serde_json::from_slice::<Value>(&body).expect("JSON");
        let seen = || self.seen.lock().expect("unpoisoned");
        if path.ends_with("/invocation/next") {
            let task = self.invocations.lock().await.recv().await.expect("the test goes on");
            invocation(&task)
        } else if path.contains("/invocation/") {
            self.ended.send((path, json())).expect("somebody waits");
            answer(202, String::new())
        } else if path == "/event" {
            seen().events.push(json());
            let does = *self.event_api.borrow();
            match does {
                EventApi::Takes => return answer(200, TAKEN.to_owned()),
                EventApi::Refuses => {}
                EventApi::RefusesLast => {
                    while seen().frames.len() < WATCHERS {
                        self.posted.notified().await;
                    }
                }
            }
            answer(401, REFUSED.to_owned())
        } else if path.starts_with("/prod/@connections/") {
            seen().frames.push(String::from_utf8(body.to_vec()).expect("text"));
            self.posted.notify_one();
            answer(200, String::new())
        } else if path.ends_with("/functions/Deliver/invocations") {
            seen().invoked.push(json());
            answer(202, String::new())
        } else {
            let query = json();
            if query.get("Key").is_some() {
                return answer(200, json!({"Item": {"id": {"S": "0193-alert"}}}).to_string());
            }
            let of_the_region = query["ExpressionAttributeValues"][":audience"]["S"] == "PL";
            answer(200, json!({"Items": if of_the_region { watchers(WATCHERS) } else { Vec::new() }}).to_string())
        }
    }

    fn seen(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().expect("unpoisoned"))
    }
}

fn task() -> Value {
    json!({
        "alert": {
            "id": "0193-alert", "region": "PL", "epoch": 1, "seq": 7, "at": 0,
            "video": {"id": "v", "title": "Zażółć", "thumbnail": "", "score": 99},
        },
        "dispatched_at": 0,
    })
}

async fn serve(listener: TcpListener, world: Arc<World>) {
    while let Ok((stream, _)) = listener.accept().await {
        let world = Arc::clone(&world);
        let service = service_fn(move |request| {
            let world = Arc::clone(&world);
            async move { Ok::<_, Infallible>(world.answer(request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// The function in its world.
struct Running {
    world: Arc<World>,
    invoke: mpsc::UnboundedSender<Value>,
    ends: mpsc::UnboundedReceiver<(String, Value)>,
    deliver: Child,
}

impl Running {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (ended, ends) = mpsc::unbounded_channel();
        let (invoke, invocations) = mpsc::unbounded_channel();
        let world = Arc::new(World {
            invocations: Turn::new(invocations),
            ended,
            event_api: watch::channel(EventApi::Takes).0,
            seen: Mutex::default(),
            posted: Notify::new(),
        });
        tokio::spawn(serve(listener, Arc::clone(&world)));
        let deliver = lambda::deliver(&address)
            .env("EVENTS_PUBLISH_URL", format!("http://{address}/event"))
            .spawn()
            .expect("started");
        Self { world, invoke, ends, deliver }
    }

    /// Invokes the function. Returns its answer, or how it failed, and what arrived. An Event API that does not take
    /// the event says so once `posts` have arrived.
    async fn invoke(&mut self, task: &Value, event_api: EventApi) -> (Result<(), String>, Seen) {
        self.world.event_api.send_replace(event_api);
        self.invoke.send(task.clone()).expect("it runs");
        let (path, body) = timeout(WAIT_MAX, self.ends.recv()).await.expect("in time").expect("an end");
        let failed = path.ends_with("/error").then(|| body["errorMessage"].to_string());
        (failed.map_or(Ok(()), Err), self.world.seen())
    }

    /// Metrics of the Event API that were written: published and undelivered.
    async fn metrics(mut self) -> Vec<(u64, u64)> {
        let output = self.deliver.stdout.take().expect("piped");
        self.deliver.kill().await.expect("running");
        let mut lines = BufReader::new(output).lines();
        let mut metrics = Vec::new();
        while let Some(line) = timeout(WAIT_MAX, lines.next_line()).await.expect("in time").expect("text") {
            let line = serde_json::from_str::<Value>(&line).unwrap_or_default();
            let number = |name: &str| line[name].as_u64();
            metrics.extend(number("EventsPublished").zip(number("EventsUndelivered")));
        }
        metrics
    }
}

#[tokio::test]
async fn each_alert_and_each_removal_is_published_once_and_what_is_not_taken_goes_to_another_invocation() {
    let mut running = Running::start().await;

    let (ended, seen) = running.invoke(&task(), EventApi::Takes).await;
    assert_eq!(ended, Ok(()));
    let frame = seen.frames.first().expect("a post");
    assert!(seen.frames.len() == WATCHERS && frame.contains("Zażółć"), "{seen:?}");
    assert_eq!(seen.events, [json!({"channel": "/alerts/PL", "events": [frame]})], "the text of the gateway's frame");
    assert!(seen.invoked.is_empty(), "{seen:?}");

    // A refusal neither delays nor fails what the gateway delivers.
    let (ended, seen) = running.invoke(&task(), EventApi::RefusesLast).await;
    assert_eq!((ended, seen.frames.len(), seen.events.len()), (Ok(()), WATCHERS, 1), "{seen:?}");
    let [again] = seen.invoked.as_slice() else { panic!("{seen:?}") };
    assert_eq!(again["part"], json!({"ranges": [], "rate": 0.0, "everyone": false, "events": true}));

    // That invocation posts nothing. If it fails too, Lambda repeats it.
    let (ended, seen) = running.invoke(again, EventApi::Takes).await;
    assert_eq!((ended, seen.frames.len(), seen.events.len(), seen.invoked.len()), (Ok(()), 0, 1, 0), "{seen:?}");
    let (ended, seen) = running.invoke(again, EventApi::Refuses).await;
    let failure = ended.expect_err("refused");
    assert!(failure.contains("publishing on the Event API"), "{failure}");
    assert_eq!((seen.frames.len(), seen.events.len(), seen.invoked.len()), (0, 1, 0), "{seen:?}");

    // A worker publishes nothing, as the invocation that divided the fan-out has done so. Nor does a room, or the
    // canary.
    let whole = json!({"ranges": [{"first": 0, "last": u32::MAX}], "rate": 1e6, "everyone": false});
    let mut worker = task();
    worker["part"] = whole;
    let mut canary = task();
    canary["alert"]["region"] = json!("X-CANARY");
    let message = json!({"id": "m", "room": "general", "frame": "{}", "until": i64::MAX});
    let room = json!({"room_message": message, "dispatched_at": 0});
    for task in [worker, canary, room] {
        let (ended, seen) = running.invoke(&task, EventApi::Takes).await;
        assert!(ended.is_ok() && seen.events.is_empty(), "{task}: {ended:?} {seen:?}");
    }

    let removal = json!({"id": "0193-alert", "region": "PL", "epoch": 1, "seq": 7, "at": 0});
    let (_, seen) = running.invoke(&json!({"removal": removal, "dispatched_at": 0}), EventApi::Takes).await;
    let event = seen.events.first().expect("an event");
    assert_eq!(event["events"], json!([seen.frames.first().expect("a post")]));
    assert!(event["events"][0].as_str().is_some_and(|frame| frame.contains("alert_removed")), "{event}");

    assert_eq!(running.metrics().await, [(1, 0), (0, 1), (1, 0), (0, 1), (1, 0)]);
}
