//! The program as Lambda runs it, in a world of one listener: the Runtime API, DynamoDB and the management API.

mod lambda;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
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
    sync::{mpsc, watch},
    time::timeout,
};

use self::lambda::{WAIT_MAX, answer, invocation, watchers};

/// More than there are posts in flight at first, so that some post goes out where another one was answered.
const WATCHERS: usize = 200;

/// A gateway that takes the first post, and forbids all others once it is seen that the answer to the first was read.
struct World {
    invoked: AtomicBool,
    posts: AtomicUsize,
    first_was_read: watch::Sender<bool>,
    /// What is posted to the Runtime API.
    ended: mpsc::UnboundedSender<(String, Value)>,
}

impl World {
    async fn answer(&self, request: Request<Incoming>, took_the_first: &AtomicBool) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        if path.ends_with("/invocation/next") {
            if self.invoked.swap(true, Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            invocation(&task())
        } else if path.contains("/invocation/") {
            let body = serde_json::from_slice(&body).expect("JSON");
            self.ended.send((path, body)).expect("somebody waits");
            answer(202, String::new())
        } else if path.starts_with("/prod/@connections/") {
            if self.posts.fetch_add(1, Ordering::SeqCst) == 0 {
                took_the_first.store(true, Ordering::SeqCst);
                return answer(200, String::new());
            }
            if took_the_first.load(Ordering::SeqCst) {
                self.first_was_read.send_replace(true);
            }
            self.first_was_read.subscribe().wait_for(|was_read| *was_read).await.expect("it lives");
            answer(403, String::new())
        } else {
            let query: Value = serde_json::from_slice(&body).expect("JSON");
            if query.get("Key").is_some() {
                return answer(200, json!({"Item": {"id": {"S": "0193-alert"}}}).to_string());
            }
            let of_the_region = query["ExpressionAttributeValues"][":audience"]["S"] == "PL";
            answer(200, json!({"Items": if of_the_region { watchers(WATCHERS) } else { Vec::new() }}).to_string())
        }
    }
}

fn task() -> Value {
    json!({
        "alert": {
            "id": "0193-alert", "region": "PL", "epoch": 1, "seq": 7, "at": 0,
            "video": {"id": "v", "title": "t", "thumbnail": "", "score": 99},
        },
        "dispatched_at": 0,
        "part": {"ranges": [{"first": 0, "last": u32::MAX}], "rate": 1e6, "everyone": false},
    })
}

async fn serve(listener: TcpListener, world: Arc<World>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (world, took_the_first) = (Arc::clone(&world), Arc::new(AtomicBool::new(false)));
        let service = service_fn(move |request| {
            let (world, took_the_first) = (Arc::clone(&world), Arc::clone(&took_the_first));
            async move { Ok::<_, Infallible>(world.answer(request, &took_the_first).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

#[tokio::test]
async fn a_part_that_fails_writes_one_document_of_metrics_with_what_it_did() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (ended, mut ends) = mpsc::unbounded_channel();
    let world = World {
        invoked: AtomicBool::default(),
        posts: AtomicUsize::default(),
        first_was_read: watch::channel(false).0,
        ended,
    };
    tokio::spawn(serve(listener, Arc::new(world)));
    let mut deliver = lambda::deliver(&address).spawn().expect("started");
    let (path, error) = timeout(WAIT_MAX, ends.recv()).await.expect("in time").expect("an end");
    assert!(path.ends_with("/invocation/id/error"), "{path}: {error}");
    let message = error["errorMessage"].as_str().expect("a message");
    assert!(message.contains("more posts failed at the management API"), "{message}");

    // All that it wrote before it reported the end.
    let output = deliver.stdout.take().expect("piped");
    deliver.kill().await.expect("running");
    let mut lines = BufReader::new(output).lines();
    let mut documents = Vec::new();
    while let Some(line) = timeout(WAIT_MAX, lines.next_line()).await.expect("in time").expect("text") {
        documents.extend(serde_json::from_str(&line).ok().filter(|line: &Value| line["_aws"].is_object()));
    }
    let [document] = documents.as_slice() else { panic!("{documents:#?}") };
    let number = |name: &str| document[name].as_u64();
    assert_eq!((number("Sent"), number("Undelivered"), number("Gone")), (Some(1), Some(WATCHERS as u64 - 1), Some(0)));
    assert_eq!((&document["FunctionName"], &document["Seq"]), (&json!("Deliver"), &json!(7)));
    assert!(number("Lag") > Some(0) && document["PostP99"].as_f64() > Some(0.0), "{document}");
}
