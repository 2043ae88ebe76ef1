//! A client of Event APIs, and publishers.

use apigw_local::{FaultOptions, GatewayOptions};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use crate::scripted::{HttpReply, Scripted, ScriptedResult, Socket, WAIT_MAX, ask, next};

/// The template of these tests.
const TEMPLATE: &str = "event_api.yaml";

/// A header that is a signature if nothing checks it.
pub(crate) const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=x";

/// Lets everybody do everything.
pub(crate) async fn allow(_: String, _: Value) -> ScriptedResult {
    Ok(json!({"isAuthorized": true}))
}

/// Starts the template with faults, a function and options.
pub(crate) async fn start<F>(
    gateway: GatewayOptions,
    faults: &[&str],
    script: impl Fn(String, Value) -> F + Send + Sync + 'static,
) -> Scripted
where
    F: Future<Output = ScriptedResult> + Send + 'static,
{
    let faults = faults.iter().map(|fault| fault.parse().expect("a fault")).collect();
    Scripted::with(TEMPLATE, &[], gateway, FaultOptions { faults, seed: Some(20_261_130) }, script).await
}

/// Starts the template with faults, and lets everybody do everything.
pub(crate) async fn site(faults: &[&str]) -> Scripted {
    start(GatewayOptions::default(), faults, allow).await
}

/// What the template says of the function that publishes.
pub(crate) fn variable(site: &Scripted, name: &str) -> String {
    site.stack.function_variables["Publish"][name].clone()
}

/// Credentials of the Lambda authorizer.
pub(crate) fn token(token: &str) -> Value {
    json!({"host": "h", "Authorization": token})
}

/// The API key of the template.
pub(crate) fn key(site: &Scripted) -> Value {
    json!({"host": "h", "x-api-key": variable(site, "KEY")})
}

/// The subprotocols of a client with these credentials.
pub(crate) fn subprotocols(credentials: &Value) -> String {
    format!("header-{}, aws-appsync-event-ws", BASE64_URL_SAFE_NO_PAD.encode(credentials.to_string()))
}

/// Opens a socket, and returns it with the subprotocol of the response.
pub(crate) async fn open(url: &str, subprotocols: &str) -> (Socket, String) {
    let mut request = url.into_client_request().expect("an address");
    let offered = HeaderValue::from_str(subprotocols).expect("a header");
    request.headers_mut().insert("sec-websocket-protocol", offered);
    let (socket, response) =
        tokio::time::timeout(WAIT_MAX, connect_async(request)).await.expect("in time").expect("101");
    let chosen = response.headers()["sec-websocket-protocol"].to_str().expect("a text").to_owned();
    (socket, chosen)
}

/// Connects with credentials.
pub(crate) async fn connect(site: &Scripted, credentials: &Value) -> Socket {
    open(&variable(site, "EVENTS_REALTIME"), &subprotocols(credentials)).await.0
}

/// Sends a frame.
pub(crate) async fn tell(socket: &mut Socket, frame: Value) {
    socket.send(Message::text(frame.to_string())).await.expect("sent");
}

/// Returns the next frame.
pub(crate) async fn frame(socket: &mut Socket) -> Value {
    serde_json::from_str(&next(socket).await).expect("JSON")
}

/// Sends a frame and returns the next one.
pub(crate) async fn exchange(socket: &mut Socket, sent: Value) -> Value {
    tell(socket, sent).await;
    frame(socket).await
}

/// Subscribes, and expects success.
pub(crate) async fn subscribe(socket: &mut Socket, id: &str, channel: &str) {
    let answer = exchange(socket, json!({"type": "subscribe", "id": id, "channel": channel})).await;
    assert_eq!(answer, json!({"type": "subscribe_success", "id": id}));
}

/// The frame of an event.
pub(crate) fn data(id: &str, event: &str) -> Value {
    json!({"type": "data", "id": id, "event": event})
}

/// Shows that nothing else has reached a client: the next frame is the answer to one that is sent now.
pub(crate) async fn nothing_more(socket: &mut Socket) {
    let answer = exchange(socket, json!({"type": "connection_init"})).await;
    assert_eq!(answer["type"], "connection_ack", "{answer}");
}

/// The end of a socket: the frames before it, and the code of the close frame.
pub(crate) async fn end(socket: &mut Socket) -> (Vec<Value>, Option<u16>) {
    let mut frames = Vec::new();
    loop {
        match tokio::time::timeout(WAIT_MAX, socket.next()).await.expect("in time") {
            Some(Ok(Message::Text(text))) => frames.push(serde_json::from_str(&text).expect("JSON")),
            Some(Ok(Message::Close(closed))) => return (frames, closed.map(|closed| closed.code.into())),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return (frames, None),
        }
    }
}

/// Sends a body to the address of publishes with headers.
pub(crate) async fn post(site: &Scripted, headers: &str, body: &str) -> HttpReply {
    ask(site.stack.http_addr, "POST /event", headers, body).await
}

/// Publishes events with a signature that nothing checks.
pub(crate) async fn publish(site: &Scripted, channel: &str, events: &[&str]) -> Value {
    let body = json!({"channel": channel, "events": events}).to_string();
    let reply = post(site, &format!("Authorization: {SIGNED}\r\n"), &body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str(&reply.body).expect("JSON")
}
