//! Redis, the bridge as a process, publishers, and a proxy before the publish API that can fail. Every wait is bounded
//! and on a condition.

use std::{
    convert::Infallible,
    future::Future,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use apigw_local::{ErrorChain, Options, Stack};
use futures_util::StreamExt;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use local::Service;
use redis::{FromRedisValue, aio::MultiplexedConnection};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shared::error::{ApiError, Code};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

/// Bound of every wait. Only what never happens takes as long.
const WAIT_MAX: Duration = Duration::from_secs(40);

/// Waits for a future, and fails after `WAIT_MAX`.
pub(crate) async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_MAX, future).await.unwrap_or_else(|_| panic!("not within {WAIT_MAX:?}: {what}"))
}

/// Waits until a condition is true.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let checks = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    bounded(what, checks).await;
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the bridge lies in the repository").to_owned()
}

/// Starts the service in the emulator, with the functions in this process.
pub(crate) async fn stack(parameters: &[(&str, &str)], secrets: &[(&str, &str)]) -> Stack {
    let owned =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = Options {
        parameters: owned(parameters),
        secrets: owned(secrets),
        ..Options::on_free_ports(Service::template())
    };
    Service::start(&options).await.unwrap_or_else(|error| panic!("{}", ErrorChain(&error)))
}

/// Returns the alerts of a region, in the order of its log.
pub(crate) async fn log_of(stack: &Stack, region: &str) -> Vec<Value> {
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(HttpConnector::new());
    let mut alerts = Vec::new();
    let mut after = "0".to_owned();
    loop {
        let uri = format!("http://{}/alerts?region={region}&after={after}", stack.http_addr);
        let answer = bounded("the log", client.get(uri.parse().expect("a URL"))).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        let page: Value = serde_json::from_slice(&body).expect("JSON");
        alerts.extend(page["alerts"].as_array().unwrap_or_else(|| panic!("{page}")).iter().cloned());
        if page["more"] == false {
            return alerts;
        }
        after = page["after"].as_str().expect("a cursor").to_owned();
    }
}

/// Returns the ids of a region's videos, in the order of its log, which must have no gaps.
pub(crate) async fn published(stack: &Stack, region: &str) -> Vec<String> {
    let alerts = log_of(stack, region).await;
    for (index, alert) in alerts.iter().enumerate() {
        assert_eq!(alert["seq"], index + 1, "{alert}");
    }
    alerts.iter().map(|alert| alert["video"]["id"].as_str().expect("an id").to_owned()).collect()
}

/// Waits until a region has this many alerts.
pub(crate) async fn until_published(stack: &Stack, region: &str, count: usize) {
    eventually(&format!("{count} alerts of {region}"), || async { log_of(stack, region).await.len() >= count }).await;
}

/// A subscriber to one region, which receives `new_trending`.
pub(crate) struct Watcher(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Watcher {
    pub(crate) async fn of(stack: &Stack, region: &str) -> Self {
        let address = format!("ws://{}/prod?region={region}", stack.ws_addr);
        Self(bounded("connecting", connect_async(address)).await.expect("a connection").0)
    }

    /// The next frame, as it is on the wire.
    pub(crate) async fn text(&mut self) -> String {
        match bounded("a frame", self.0.next()).await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("no frame: {other:?}"),
        }
    }

    /// The next frame as JSON.
    pub(crate) async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).expect("JSON")
    }
}

/// A Redis that keeps streams over a restart.
pub(crate) struct Redis {
    directory: TempDir,
    server: Child,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let server = serve(directory.path());
        let redis = Self { directory, server };
        redis.answers().await;
        redis
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Kills it, as when a machine loses power.
    pub(crate) async fn kill(&mut self) {
        self.server.kill().await.expect("killed");
    }

    pub(crate) async fn restart(&mut self) {
        self.server = serve(self.directory.path());
        self.answers().await;
    }

    async fn answers(&self) {
        eventually("Redis answers", || async { self.connect().await.is_ok() }).await;
    }

    async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<String>(&mut connection).await?;
        Ok(connection)
    }

    /// Sends a command.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = self.connect().await.expect("a connection");
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]);
        bounded("an answer of Redis", asked.query_async(&mut connection)).await.expect("an answer")
    }

    /// Returns the number of pending entries of the bridge's group.
    pub(crate) async fn pending(&self, stream: &str) -> u64 {
        self.ask::<(u64, redis::Value, redis::Value, redis::Value)>(&["XPENDING", stream, "viral-alerts"]).await.0
    }

    /// Publishes with a program in another language, which must find a subscriber.
    pub(crate) async fn publish(&self, language: Language, orders: &[Value]) {
        let script = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/redis").join(name);
        let (program, script) = match language {
            Language::Python => (root().join("target/tools/bin/python"), script("publish.py")),
            Language::Php => ("php".into(), script("publish.php")),
        };
        let mut publisher = Command::new(&program)
            .arg(script)
            .arg(self.socket())
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}, which tests/run installs: {error}", program.display()));
        let mut input = publisher.stdin.take().expect("standard input");
        let orders: String = orders.iter().map(|order| format!("{order}\n")).collect();
        input.write_all(orders.as_bytes()).await.expect("written");
        drop(input);
        let status = bounded("the publisher ends", publisher.wait()).await.expect("an end");
        assert!(status.success(), "{language:?}: {status}");
    }
}

/// The language of a publisher.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Language {
    Php,
    Python,
}

fn serve(directory: &Path) -> Child {
    Command::new("redis-server")
        .args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "yes"])
        .args(["--appendfsync", "always", "--loglevel", "warning", "--dir", "."])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server, which tests/run installs")
}

/// The bridge as a process, and what it has logged.
pub(crate) struct Bridge {
    process: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Bridge {
    /// Starts a bridge, which reports every second.
    pub(crate) fn start<'a>(redis: &Redis, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        Self::with(redis, arguments, &[])
    }

    /// The same with environment variables.
    pub(crate) fn with<'a>(
        redis: &Redis,
        arguments: impl IntoIterator<Item = &'a str>,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_bridge"))
            .args(arguments)
            .env("REDIS_URL", redis.url())
            .env("BRIDGE_REPORT_SECS", "1")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the bridge");
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let mut output = BufReader::new(process.stdout.take().expect("standard output")).lines();
        let written = Arc::clone(&lines);
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                written.lock().expect("no panic").push(line);
            }
        });
        Self { process, lines }
    }

    /// A bridge that subscribes.
    pub(crate) async fn subscribed<'a>(redis: &Redis, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let bridge = Self::start(redis, arguments);
        bridge.says("subscribed").await;
        bridge
    }

    /// What it has logged with a message.
    pub(crate) fn lines(&self, message: &str) -> Vec<Value> {
        let lines = self.lines.lock().expect("no panic");
        lines.iter().map(|line| &line["fields"]).filter(|fields| fields["message"] == message).cloned().collect()
    }

    /// Waits until it has logged a message, and returns that.
    pub(crate) async fn says(&self, message: &str) -> Value {
        eventually(message, || async { !self.lines(message).is_empty() }).await;
        self.lines(message).swap_remove(0)
    }

    /// Waits until a report has a number of at least `count`.
    pub(crate) async fn reports(&self, field: &str, count: u64) {
        let has = |report: &Value| report[field].as_u64().is_some_and(|reported| reported >= count);
        eventually(&format!("a report with {field} {count}"), || async { self.lines("report").iter().any(has) }).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id().expect("it runs")).expect("an id");
        kill_process(Pid::from_raw(id).expect("an id"), signal).expect("signalled");
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        bounded("the bridge ends", self.process.wait()).await.expect("an end")
    }

    /// Kills it.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.expect("killed");
    }
}

/// What the proxy does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Answers 500 without passing it on.
    Fail,
    /// Passes it on and answers 500, so that the bridge cannot know that it was published.
    LoseAnswer,
    /// Never answers.
    Hang,
    /// Refuses it, as a service with rules that the bridge does not know.
    Refuse,
}

/// A proxy before the publish API.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

struct Inner {
    address: String,
    to: String,
    mode: Mutex<Mode>,
    seen: Mutex<Vec<HeaderMap>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Gate {
    pub(crate) async fn before(stack: &Stack, mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let gate = Self(Arc::new(Inner {
            address: format!("http://{}/publish", listener.local_addr().expect("an address")),
            to: format!("http://{}/publish", stack.http_addr),
            mode: Mutex::new(mode),
            seen: Mutex::default(),
            client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
        }));
        let serving = gate.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let gate = serving.clone();
                let service = service_fn(move |request| {
                    let gate = gate.clone();
                    async move { Ok::<_, Infallible>(gate.handle(request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        gate
    }

    pub(crate) fn url(&self) -> &str {
        &self.0.address
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.0.mode.lock().expect("no panic") = mode;
    }

    /// Returns the headers of each request so far.
    pub(crate) fn seen(&self) -> Vec<HeaderMap> {
        self.0.seen.lock().expect("no panic").clone()
    }

    /// Waits for this many more requests.
    pub(crate) async fn sees(&self, more: usize) {
        let count = self.seen().len() + more;
        eventually(&format!("{more} more requests"), || async { self.seen().len() >= count }).await;
    }

    async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.0.seen.lock().expect("no panic").push(request.headers().clone());
        let mode = *self.0.mode.lock().expect("no panic");
        let failure = Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR);
        let failure = failure.body(Full::from("it failed on purpose")).expect("a response");
        match mode {
            Mode::Pass => self.pass(request).await,
            Mode::Fail => failure,
            Mode::LoseAnswer => {
                assert_eq!(self.pass(request).await.status(), StatusCode::OK);
                failure
            }
            Mode::Hang => std::future::pending().await,
            Mode::Refuse => {
                let refusal = ApiError::of_field(Code::InvalidField, "title", "title is not wanted");
                let body = serde_json::json!({"error": refusal.body()}).to_string();
                let response = Response::builder().status(refusal.code.http_status());
                response.body(Full::from(body)).expect("a response")
            }
        }
    }

    async fn pass(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let request = Request::post(&self.0.to).header("content-type", "application/json");
        let answer = self.0.client.request(request.body(Full::new(body)).expect("a request")).await.expect("an answer");
        let (parts, body) = answer.into_parts();
        Response::from_parts(parts, Full::new(body.collect().await.expect("a body").to_bytes()))
    }
}
