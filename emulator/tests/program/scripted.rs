//! An emulator whose functions are closures of the test, behind a Lambda Invoke API.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use apigw_local::{FaultOptions, GatewayOptions, Options, Stack};
use futures_util::{SinkExt, StreamExt, future::BoxFuture};
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
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::HeaderValue},
};

/// Bound of every wait.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);

/// The result of a function, or the message of its error.
pub(crate) type ScriptedResult = Result<Value, &'static str>;

/// The field of an answer whose text is the answer, as a function wrote it: JSON that a `Value` cannot hold.
pub(crate) const RAW: &str = "the answer itself";

/// The template of most tests.
pub(crate) const SCRIPTED: &str = "scripted.yaml";

/// Headers of a handshake, except `Connection`.
pub(crate) const UPGRADE: &str =
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Accepts every client and responds to no message.
pub(crate) async fn accept(_: String, _: Value) -> ScriptedResult {
    Ok(json!({"statusCode": 200}))
}

/// Accepts every client and responds to each message with its own text.
pub(crate) async fn echo(_: String, event: Value) -> ScriptedResult {
    Ok(json!({"statusCode": 200, "body": event["body"]}))
}

/// A WebSocket of a client.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Names of functions and the events that they received, in the order of arrival.
type Events = Arc<Mutex<Vec<(String, Value)>>>;

/// A running emulator and its scripted functions.
pub(crate) struct Scripted {
    pub(crate) stack: Stack,
    events: Events,
}

impl Scripted {
    /// Starts `scripted.yaml` with `parameters`. `script` gets the name and event of each invocation.
    pub(crate) async fn start<F>(
        parameters: &[(&str, &str)],
        script: impl Fn(String, Value) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ScriptedResult> + Send + 'static,
    {
        Self::with(SCRIPTED, parameters, GatewayOptions::default(), FaultOptions::default(), script).await
    }

    /// Starts another template of this directory, or options that are not the defaults.
    pub(crate) async fn with<F>(
        template: &str,
        parameters: &[(&str, &str)],
        gateway: GatewayOptions,
        faults: FaultOptions,
        script: impl Fn(String, Value) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ScriptedResult> + Send + 'static,
    {
        let events = Events::default();
        let script: Script = Arc::new(move |name, event| Box::pin(script(name, event)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let lambda = listener.local_addr().expect("an address");
        let seen = Arc::clone(&events);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                let service = service_fn(move |request| answer(request, Arc::clone(&script), Arc::clone(&seen)));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        let options = Options {
            parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            lambda_endpoint: Some(format!("http://{lambda}").parse().expect("an address")),
            gateway,
            faults,
            ..Options::on_free_ports(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program").join(template))
        };
        Self { stack: Stack::start(&options).await.expect("started"), events }
    }

    /// Connects a client and returns it with the headers of the response, or the status of a refusal.
    pub(crate) async fn connect(
        &self,
        query: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<(Socket, Vec<(String, String)>), u16> {
        let mut request = format!("ws://{}/dev{query}", self.stack.ws_addr).into_client_request().expect("an address");
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        match tokio::time::timeout(WAIT_MAX, connect_async(request)).await.expect("in time") {
            Ok((socket, response)) => {
                let headers = response.headers().iter();
                let headers =
                    headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
                Ok((socket, headers.collect()))
            }
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Connects a client and returns it with the id of its connection.
    pub(crate) async fn client(&self) -> (Socket, String) {
        let known = self.events_of("Connect").len();
        let (socket, _) = self.connect("", &[]).await.expect("connected");
        let event = self.events_of("Connect").swap_remove(known);
        (socket, event["requestContext"]["connectionId"].as_str().expect("an id").to_owned())
    }

    /// Calls the management API with a wrong signature.
    pub(crate) async fn manage(&self, method: &str, id: &str, body: &str) -> HttpReply {
        self.request(&format!("{method} /dev/@connections/{id}"), "Authorization: AWS4-HMAC-SHA256 x\r\n", body).await
    }

    /// Sends the gateway an HTTP request.
    pub(crate) async fn request(&self, method_and_path: &str, headers: &str, body: &str) -> HttpReply {
        ask(self.stack.ws_addr, method_and_path, headers, body).await
    }

    /// Calls the emulator's Lambda Invoke API.
    pub(crate) async fn invoke(&self, function_and_query: &str, kind: &str, body: &str) -> HttpReply {
        invoke(&self.stack, function_and_query, kind, body).await
    }

    /// Waits for the first invocation of a function and returns its event.
    pub(crate) async fn event_of(&self, function: &str) -> Value {
        let found = async {
            loop {
                if let Some(event) = self.events_of(function).into_iter().next() {
                    return event;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(WAIT_MAX, found).await.unwrap_or_else(|_| panic!("{function} was not invoked"))
    }

    /// Returns the events that a function received so far.
    pub(crate) fn events_of(&self, function: &str) -> Vec<Value> {
        let events = self.events.lock().expect("unpoisoned");
        events.iter().filter(|(name, _)| name == function).map(|(_, event)| event.clone()).collect()
    }
}

/// Calls the Lambda Invoke API of an emulator.
pub(crate) async fn invoke(stack: &Stack, function_and_query: &str, kind: &str, body: &str) -> HttpReply {
    let address = stack.aws_variables["AWS_ENDPOINT_URL_LAMBDA"].trim_start_matches("http://");
    let (function, query) = function_and_query.split_once('?').unwrap_or((function_and_query, ""));
    let path = format!("POST /2015-03-31/functions/{function}/invocations?{query}");
    let headers = format!("x-amz-invocation-type: {kind}\r\n");
    ask(address.parse().expect("an address"), &path, &headers, body).await
}

/// Sends an HTTP request with the header `Host` and reads the whole response.
pub(crate) async fn ask(address: SocketAddr, method_and_path: &str, headers: &str, body: &str) -> HttpReply {
    send(address, method_and_path, &format!("Host: {address}\r\n{headers}"), body.as_bytes()).await
}

/// Sends an HTTP request with `headers`, each ended by CRLF, and reads the whole response.
pub(crate) async fn send(address: SocketAddr, method_and_path: &str, headers: &str, body: &[u8]) -> HttpReply {
    let exchange = async {
        let mut socket = TcpStream::connect(address).await.expect("connected");
        let length = body.len();
        let head =
            format!("{method_and_path} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.expect("sent");
        // A body that is too long may be refused, and the connection reset, before all of it is sent.
        let _ = socket.write_all(body).await;
        let mut response = Vec::new();
        let _ = socket.read_to_end(&mut response).await;
        String::from_utf8_lossy(&response).into_owned()
    };
    let response = tokio::time::timeout(WAIT_MAX, exchange).await.expect("in time");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let error_type = head.lines().find_map(|line| line.strip_prefix("x-amzn-errortype: "));
    HttpReply {
        status,
        error_type: error_type.unwrap_or_default().to_owned(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// An HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpReply {
    pub(crate) status: u16,
    /// The header `x-amzn-errortype`, or nothing.
    pub(crate) error_type: String,
    /// The status line and the headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl HttpReply {
    /// The value of a header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let pairs = self.head.lines().filter_map(|line| line.split_once(": "));
        pairs.into_iter().find(|(own, _)| *own == name).map_or("", |(_, value)| value)
    }
}

/// Returns the next text that a client receives.
pub(crate) async fn next(socket: &mut Socket) -> String {
    let frame = tokio::time::timeout(WAIT_MAX, socket.next()).await.expect("in time").expect("open").expect("a frame");
    frame.into_text().expect("a text").to_string()
}

/// Sends a message and returns the next text that the client receives.
pub(crate) async fn exchange(socket: &mut Socket, message: &str) -> String {
    socket.send(Message::text(message)).await.expect("sent");
    next(socket).await
}

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let checks = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT_MAX, checks).await.unwrap_or_else(|_| panic!("not within {WAIT_MAX:?}: {what}"));
}

type Script = Arc<dyn Fn(String, Value) -> BoxFuture<'static, ScriptedResult> + Send + Sync>;

async fn answer(
    request: Request<Incoming>,
    script: Script,
    events: Events,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let name = request.uri().path().split('/').nth(3).unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let event: Value = serde_json::from_slice(&body).expect("JSON");
    events.lock().expect("unpoisoned").push((name.clone(), event.clone()));
    Ok(match script(name, event).await {
        Ok(value) => {
            let raw = value.get(RAW).and_then(Value::as_str).map(str::to_owned);
            Response::new(Full::from(raw.unwrap_or_else(|| value.to_string())))
        }
        Err(message) => {
            let body = json!({"errorType": "Error", "errorMessage": message}).to_string();
            let response = Response::builder().header("x-amz-function-error", "Unhandled").body(Full::from(body));
            response.expect("a valid response")
        }
    })
}
