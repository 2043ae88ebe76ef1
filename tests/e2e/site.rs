//! A running service, and the clients of the tests. Every wait is bounded and on a condition.

use std::{
    collections::BTreeMap,
    future::Future,
    ops::Deref,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use apigw_local::{ErrorChain, FaultOptions, GatewayOptions, Options, Stack, TableCapacity};
use aws_sdk_dynamodb::{
    config::{BehaviorVersion, Credentials, SharedCredentialsProvider},
    types::AttributeValue,
};
use aws_sdk_sqs::types::QueueAttributeName;
use aws_types::{SdkConfig, region::Region};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, Uri, body::Bytes};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use local::Service;
use serde_json::Value;
use shared::runtime::environment::Environment;
use tokio::{
    net::TcpStream,
    runtime::Runtime,
    sync::{Mutex, OwnedMutexGuard},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::HeaderValue},
};

use crate::target::{TLS, Target, Wire, open};

/// Bound of every wait. Only what never happens takes as long.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Bound of the first invocation of a function under cargo lambda watch, which builds it.
const BUILD_WAIT_MAX: Duration = Duration::from_secs(600);

/// One runtime for all tests, because shared stacks outlive each test.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// Stacks under cargo lambda watch, by parameters. One test at a time uses each.
static SHARED: LazyLock<Mutex<BTreeMap<Parameters, Slot>>> = LazyLock::new(Mutex::default);

type Parameters = BTreeMap<String, String>;

/// A stack that starts when it is first needed.
type Slot = Arc<Mutex<Option<Stack>>>;

/// Runs a test.
pub(crate) fn run(test: impl Future<Output = ()> + Send) {
    RUNTIME.block_on(test);
}

/// Waits until a condition is true.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let checks = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, checks).await.unwrap_or_else(|_| panic!("not within {WAIT_MAX:?}: {what}"));
}

/// A stack for one test: its own, one leased from the shared ones, or a deployed one.
pub(crate) enum Site {
    Own(Box<Stack>),
    Leased(OwnedMutexGuard<Option<Stack>>),
    Deployed(Target),
}

impl Deref for Site {
    type Target = Stack;

    fn deref(&self) -> &Stack {
        match self {
            Self::Own(stack) => stack,
            Self::Leased(guard) => guard.as_ref().expect("a leased stack has been started"),
            Self::Deployed(_) => {
                panic!("this test looks inside, which a deployed stack does not allow: see tests/smoke.txt")
            }
        }
    }
}

impl Site {
    /// Starts the template with its defaults.
    pub(crate) async fn start() -> Self {
        match Target::of_environment() {
            Some(target) => Self::Deployed(target),
            None => Self::with(&[]).await,
        }
    }

    /// Whether tests can inspect the stack, and no one else uses it.
    pub(crate) fn is_local(&self) -> bool {
        !matches!(self, Self::Deployed(_))
    }

    /// Waits until no function runs. Returns at once for a deployed stack, which cannot be asked.
    pub(crate) async fn settled(&self) {
        if self.is_local() {
            Stack::settled(self).await;
        }
    }

    /// Returns an address of the HTTP API.
    fn http_address(&self, path_and_query: &str) -> String {
        match self {
            Self::Deployed(target) => target.http(path_and_query),
            local => format!("http://{}{path_and_query}", local.http_addr),
        }
    }

    /// Starts the template with parameters.
    pub(crate) async fn with(parameters: &[(&str, &str)]) -> Self {
        let parameters: Parameters =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        match Environment::from_process().get("E2E_FUNCTIONS") {
            Some("cargo-lambda") => Self::leased(parameters).await,
            Some("in-process") | None => Self::Own(Box::new(start(parameters, false).await)),
            Some("processes") => Self::Own(Box::new(start(parameters, true).await)),
            Some(path) if Path::new(path).extension().is_some_and(|extension| extension == "yaml") => {
                let options = Options { template: PathBuf::from(path).into(), parameters, ..options() };
                Self::Own(Box::new(start_as(options, Service { processes: true }).await))
            }
            Some(other) => {
                panic!("E2E_FUNCTIONS is in-process, processes, cargo-lambda or a template.yaml, not {other}")
            }
        }
    }

    /// Starts the template with parameters and secrets, with the functions in this process.
    pub(crate) async fn with_secrets(parameters: &[(&str, &str)], secrets: &[(&str, &str)]) -> Self {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Parameters>()
        };
        let options = Options { parameters: owned(parameters), secrets: owned(secrets), ..options() };
        Self::Own(Box::new(start_with(options).await))
    }

    /// Starts the template with its defaults, with the functions in this process.
    pub(crate) async fn start_in_process() -> Self {
        Self::Own(Box::new(start_with(options()).await))
    }

    /// Starts the template with other options of the gateway, with the functions in this process.
    pub(crate) async fn behind(gateway: GatewayOptions) -> Self {
        Self::Own(Box::new(start_with(Options { gateway, ..options() }).await))
    }

    /// Starts the template with `READS:WRITES` units a second for each partition key of the tables.
    pub(crate) async fn with_capacity(capacity: &str) -> Self {
        let table_capacity = Some(capacity.parse().expect("a capacity"));
        Self::Own(Box::new(start_with(Options { table_capacity, ..options() }).await))
    }

    /// Starts the template with parameters, and with limits of gateway and tables, with the functions in this process.
    pub(crate) async fn limited(parameters: &[(&str, &str)], gateway: GatewayOptions, capacity: TableCapacity) -> Self {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = Options { parameters, gateway, table_capacity: Some(capacity), ..options() };
        Self::Own(Box::new(start_with(options).await))
    }

    /// Starts the template on the tables of another database, with the functions in this process and high rate limits.
    pub(crate) async fn on(dynamodb: &Uri) -> Self {
        Self::on_with(dynamodb, &[("MessagesPerSecond", "1000"), ("AlertsPerMinute", "60000"), ("Rooms", "on")]).await
    }

    /// Starts it with these parameters instead.
    pub(crate) async fn on_with(dynamodb: &Uri, parameters: &[(&str, &str)]) -> Self {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = Options { parameters, dynamodb: Some(dynamodb.clone()), ..options() };
        Self::Own(Box::new(start_with(options).await))
    }

    /// Starts the template with injected faults, with the functions in this process. Lambda retries at once.
    pub(crate) async fn faulty(faults: &[&str]) -> Self {
        Self::with_faults(faults, options(), Service::default()).await
    }

    /// Starts it with parameters, too.
    pub(crate) async fn faulty_with(parameters: &[(&str, &str)], faults: &[&str]) -> Self {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::with_faults(faults, Options { parameters, ..options() }, Service::default()).await
    }

    /// Starts another template with parameters, and with the functions as processes.
    pub(crate) async fn faulty_processes(template: PathBuf, parameters: &[(&str, &str)], faults: &[&str]) -> Self {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = Options { template: template.into(), parameters, ..options() };
        Self::with_faults(faults, options, Service { processes: true }).await
    }

    async fn with_faults(faults: &[&str], options: Options, service: Service) -> Self {
        let faults = faults.iter().map(|fault| fault.parse().expect("a fault")).collect();
        let seed = rand::random();
        println!("fault seed {seed}");
        let gateway = GatewayOptions {
            idle_timeout: Some(GatewayOptions::IDLE_TIMEOUT_MAX),
            connection_duration: Some(GatewayOptions::CONNECTION_DURATION_MAX),
            ..GatewayOptions::default()
        };
        let faults = FaultOptions { faults, seed: Some(seed) };
        Self::Own(Box::new(start_as(Options { faults, gateway, time_scale: 600.0, ..options }, service).await))
    }

    async fn leased(parameters: Parameters) -> Self {
        let shared = Arc::clone(SHARED.lock().await.entry(parameters.clone()).or_default());
        let mut guard = shared.lock_owned().await;
        if guard.is_none() {
            *guard = Some(start_with_processes(parameters).await);
        }
        let site = Self::Leased(guard);
        site.settled().await;
        eventually("the previous test's connections are gone", || async { site.subscriptions().await.is_empty() })
            .await;
        site
    }

    /// Connects a WebSocket client, which must succeed.
    pub(crate) async fn connect(&self, path_and_query: &str) -> Client {
        self.try_connect(path_and_query, &[]).await.unwrap_or_else(|status| panic!("refused with {status}"))
    }

    /// Connects a WebSocket client, or returns the status of the refusal.
    pub(crate) async fn try_connect(
        &self,
        path_and_query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Client, u16> {
        let address = match self {
            Self::Deployed(target) => target.sockets(path_and_query),
            local => format!("ws://{}{path_and_query}", local.ws_addr),
        };
        connect_to(&address, headers).await
    }

    /// Connects a client that has subscribed to `region`.
    pub(crate) async fn watcher(&self, region: &str) -> Client {
        let mut client = self.connect("/prod").await;
        client.subscribe(region).await;
        client
    }

    /// Posts a body. Returns status and JSON.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> (u16, Value) {
        let (url, body) = (self.http_address(path), body.into());
        let signature = if self.is_local() { Vec::new() } else { Target::signature(&url, &body) };
        let signature = signature.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        http(&url, &headers.iter().copied().chain(signature).collect::<Vec<_>>(), body).await
    }

    /// Sends a request without a body to the HTTP API.
    pub(crate) async fn request(&self, method: &str, path_and_query: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(self.http_address(path_and_query));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        whole(request.body(Full::default()).expect("a valid request")).await
    }

    /// Posts JSON to the HTTP API.
    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Answer {
        let request =
            Request::builder().method("POST").uri(self.http_address(path)).header("content-type", "application/json");
        whole(request.body(Full::from(body.to_string())).expect("a valid request")).await
    }

    /// Gets JSON from the HTTP API. Returns status and JSON.
    pub(crate) async fn get(&self, path_and_query: &str) -> (u16, Value) {
        let answer = self.request("GET", path_and_query, &[]).await;
        (answer.status, answer.json())
    }

    /// Publishes, which must succeed, and waits until the alert is delivered. Returns the answer.
    pub(crate) async fn publish(&self, alert: &Value) -> Value {
        let (status, answer) = self.post("/publish", &[("content-type", "application/json")], alert.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        self.settled().await;
        answer
    }

    /// Invokes a function asynchronously.
    pub(crate) async fn invoke_async(&self, function: &str, event: &Value) {
        let url =
            format!("{}/2015-03-31/functions/{function}/invocations", self.aws_variables["AWS_ENDPOINT_URL_LAMBDA"]);
        assert_eq!(http(&url, &[("x-amz-invocation-type", "Event")], event.to_string()).await.0, 202);
    }

    /// Invokes a function through the Lambda Invoke API.
    pub(crate) async fn invoke(&self, function: &str, event: &Value) -> (u16, Value) {
        self.invoke_text(function, &event.to_string()).await
    }

    /// Invokes a function with any text.
    pub(crate) async fn invoke_text(&self, function: &str, event: &str) -> (u16, Value) {
        let endpoint = &self.aws_variables["AWS_ENDPOINT_URL_LAMBDA"];
        http(&format!("{endpoint}/2015-03-31/functions/{function}/invocations"), &[], event.to_owned()).await
    }

    /// Returns the configuration of AWS clients of this stack.
    pub(crate) fn sdk(&self) -> SdkConfig {
        let environment: Environment = self.aws_variables.clone().into_iter().collect();
        let variable = |name: &str| self.aws_variables[name].clone();
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(variable("AWS_REGION")))
            .credentials_provider(credentials(&variable("AWS_ACCESS_KEY_ID"), &variable("AWS_SECRET_ACCESS_KEY")))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(
                aws_smithy_async::rt::sleep::TokioSleep::new(),
            ))
            .time_source(aws_smithy_async::time::SharedTimeSource::new(aws_smithy_async::time::SystemTimeSource::new()))
            .service_config(environment)
            .build()
    }

    /// Returns a client of the database.
    pub(crate) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.sdk())
    }

    /// Returns a client of the queues.
    pub(crate) fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.sdk())
    }

    /// Returns the number of messages in a queue, including received ones.
    pub(crate) async fn messages_in(&self, queue: &str) -> usize {
        let attributes = self.sqs().get_queue_attributes().queue_url(self.queue_url(queue).await);
        let attributes = attributes.attribute_names(QueueAttributeName::All).send().await.expect("attributes");
        let attributes = attributes.attributes.expect("attributes");
        let count = |name| attributes[&name].parse::<usize>().expect("a number");
        count(QueueAttributeName::ApproximateNumberOfMessages)
            + count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
    }

    /// Returns the URL of a queue.
    pub(crate) async fn queue_url(&self, queue: &str) -> String {
        let output = self.sqs().get_queue_url().queue_name(queue).send().await.expect("a queue");
        output.queue_url.expect("a URL")
    }

    /// Returns `audience` and `connection_id` of all items of connections in the subscriptions table.
    pub(crate) async fn subscriptions(&self) -> Vec<(String, String)> {
        let scan = self.dynamodb().scan().table_name("SubscriptionsTable").consistent_read(true);
        let items = scan.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.expect("a scan");
        let text = |value: &AttributeValue| value.as_s().expect("a text").clone();
        // The count of an audience has no connection.
        let of_connections = items.iter().filter(|item| item.contains_key("connection_id"));
        let mut items: Vec<_> =
            of_connections.map(|item| (text(&item["audience"]), text(&item["connection_id"]))).collect();
        items.sort();
        items
    }
}

/// Makes credentials of an AWS client.
pub(crate) fn credentials(access_key: &str, secret: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(access_key, secret, None, None, "test"))
}

async fn start(parameters: Parameters, processes: bool) -> Stack {
    start_as(Options { parameters, ..options() }, Service { processes }).await
}

/// Returns the defaults, with free ports.
fn options() -> Options {
    Options::on_free_ports(Service::template())
}

async fn start_with(options: Options) -> Stack {
    start_as(options, Service::default()).await
}

async fn start_as(options: Options, service: Service) -> Stack {
    Stack::embedded(&options, &service).await.unwrap_or_else(|error| panic!("{}", ErrorChain(&error)))
}

/// Starts a stack with the functions under `cargo lambda watch`.
async fn start_with_processes(parameters: Parameters) -> Stack {
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        free.local_addr().expect("an address").port()
    };
    let lambda_endpoint = Some(format!("http://127.0.0.1:{port}").parse().expect("a URL"));
    let stack = start_with(Options { parameters, lambda_endpoint, ..options() }).await;
    // When this process ends, its pipe closes and the shell kills its process group.
    let script = format!(
        "cargo lambda watch -A 127.0.0.1 -P {port} --ignore-changes --concurrency 4 </dev/null & read -r _; kill 0"
    );
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).current_dir(root()).envs(&stack.aws_variables).stdin(Stdio::piped()).process_group(0);
    for variables in stack.function_variables.values() {
        shell.envs(variables.iter().filter(|(name, _)| !stack.aws_variables.contains_key(*name)));
    }
    let shell = shell.spawn().expect("a shell");
    std::mem::forget(shell);
    eventually("cargo lambda watch answers", || async { TcpStream::connect(("127.0.0.1", port)).await.is_ok() }).await;
    // The first invocation builds the binary, which takes longer than a gateway waits.
    for function in stack.function_variables.keys() {
        let endpoint = &stack.aws_variables["AWS_ENDPOINT_URL_LAMBDA"];
        let url = format!("{endpoint}/2015-03-31/functions/{function}/invocations");
        let answered = async { while exchange(&url, &[], "null".into()).await.1["errorType"] == "Sandbox.Timedout" {} };
        let answered = tokio::time::timeout(BUILD_WAIT_MAX, answered);
        answered.await.unwrap_or_else(|_| panic!("{function} is not built within {BUILD_WAIT_MAX:?}"));
    }
    stack
}

/// Returns the root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository").to_owned()
}

/// Connects a WebSocket client to an address, or returns the status of the refusal.
pub(crate) async fn connect_to(address: &str, headers: &[(&'static str, &str)]) -> Result<Client, u16> {
    let mut request = address.into_client_request().expect("a valid address");
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a valid header"));
    }
    let wire = bounded("connecting", open(request.uri())).await.expect("a connection");
    match bounded("the handshake", client_async(request, wire)).await {
        Ok((socket, _)) => Ok(Client { socket }),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("cannot connect: {error}"),
    }
}

async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_MAX, future).await.unwrap_or_else(|_| panic!("not within {WAIT_MAX:?}: {what}"))
}

/// Sends a POST with a body, or a GET without one. Returns status and JSON.
pub(crate) async fn http(url: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> (u16, Value) {
    bounded("an answer", exchange(url, headers, body.into())).await
}

/// One HTTP client for all tests.
static HTTP: LazyLock<HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>> = LazyLock::new(|| {
    let connector = HttpsConnectorBuilder::new().with_tls_config(TLS.clone()).https_or_http().enable_http1().build();
    HttpClient::builder(TokioExecutor::new()).build(connector)
});

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// Returns a header, or an empty text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// Parses the body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

async fn whole(request: Request<Full<Bytes>>) -> Answer {
    let (parts, body) = bounded("an answer", HTTP.request(request)).await.expect("an answer").into_parts();
    let body = bounded("a body", body.collect()).await.expect("a body").to_bytes();
    let body = String::from_utf8(body.into()).expect("UTF-8");
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

async fn exchange(url: &str, headers: &[(&str, &str)], body: Bytes) -> (u16, Value) {
    let mut request = Request::builder().method(if body.is_empty() { "GET" } else { "POST" }).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).expect("a valid request");
    let response = HTTP.request(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// What a socket received: a text or its end.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    Text(String),
    Closed(u16, String),
}

/// A WebSocket client.
pub(crate) struct Client {
    socket: WebSocketStream<Box<dyn Wire>>,
}

impl Client {
    pub(crate) async fn send(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        bounded("sending", self.socket.send(message)).await.expect("an open socket");
    }

    /// Receives the next text or the end.
    pub(crate) async fn receive(&mut self) -> Received {
        loop {
            match bounded("a frame", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Received::Text(text.to_string()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Received::Closed(frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(Message::Close(None))) => return Received::Closed(1005, String::new()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Received::Closed(1006, String::new()),
            }
        }
    }

    /// Receives the next text.
    pub(crate) async fn text(&mut self) -> String {
        match self.receive().await {
            Received::Text(text) => text,
            closed => panic!("the socket ended: {closed:?}"),
        }
    }

    /// Receives the next text as JSON.
    pub(crate) async fn json(&mut self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Sends a message and returns the answer. Waits and retries if it is rate limited.
    pub(crate) async fn ask(&mut self, message: &Value) -> Value {
        self.ask_text(&message.to_string()).await
    }

    /// Invokes a function with any text.
    pub(crate) async fn ask_text(&mut self, text: &str) -> Value {
        let began = Instant::now();
        loop {
            self.send(text).await;
            let answer = self.json().await;
            if answer["code"] != "rate_limited" {
                return answer;
            }
            assert!(began.elapsed() < WAIT_MAX, "still {answer}");
            tokio::time::sleep(Duration::from_millis(answer["retry_after_ms"].as_u64().expect("a time"))).await;
        }
    }

    pub(crate) async fn subscribe(&mut self, region: &str) {
        let answer = self.ask(&serde_json::json!({"type": "subscribe_region", "region": region})).await;
        assert_eq!(answer["type"], "subscribed", "{answer}");
    }

    /// Asserts that the client has received nothing: frames keep their order, so everything sent before comes before
    /// the answer to a ping.
    pub(crate) async fn expect_nothing(&mut self) {
        let answer = self.ask(&serde_json::json!({"type": "ping"})).await;
        assert_eq!(answer, serde_json::json!({"type": "pong"}), "a frame that should not be there");
    }

    /// Closes the socket with a close frame, which the gateway must answer.
    pub(crate) async fn close(mut self) {
        bounded("closing", self.socket.close(None)).await.expect("an open socket");
        let answer = bounded("the answer to a close frame", self.socket.next()).await;
        assert!(matches!(answer, Some(Ok(Message::Close(_)))), "{answer:?}");
    }

    /// Ends the TCP connection without a close frame.
    pub(crate) fn vanish(self) {
        drop(self.socket);
    }
}
