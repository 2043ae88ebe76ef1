//! Mapping templates and the integrations that use them.

use std::{convert::Infallible, net::SocketAddr};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::scripted::{Scripted, ScriptedResult, Socket, exchange};

/// A function that returns its event, or fails as the event says.
async fn function(_: String, event: Value) -> ScriptedResult {
    match event["text"].as_str() {
        Some("refuse") => Err("Refused for a reason"),
        Some("fail") => Err("Something else"),
        _ => Ok(json!({"said": event})),
    }
}

/// A server that returns the request, fails, or never responds, as the path says.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let path = head.uri.to_string();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let mut answer = json!({
        "method": head.method.as_str(),
        "path": path,
        "body": String::from_utf8_lossy(&body),
        "connection": header("x-connection").map(str::len),
        "static": header("x-static"),
        "greeting": header("x-greeting"),
        "type": header("content-type"),
        "agent": header("user-agent"),
        "api": header("x-amzn-apigateway-api-id"),
    });
    for (name, value) in ["te", "forwarded", "via"].into_iter().filter_map(|name| Some((name, header(name)?))) {
        answer[name] = json!(value);
    }
    let mut response = Response::builder();
    if path.contains("short") {
        response = response.header("X-Kind", "short");
    }
    if path.contains("fail") {
        response = response.status(503);
    }
    if path.contains("kept") {
        response = response.header("Keep-Alive", "timeout=5").header("Upgrade", "h2c");
    }
    if path.contains("never") {
        std::future::pending::<()>().await;
    }
    Ok(response.body(Full::from(answer.to_string())).expect("a response"))
}

/// Starts a server that answers with what it gets.
pub(crate) async fn serve_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo)));
        }
    });
    address
}

async fn start() -> (Scripted, Socket) {
    let server = serve_echo().await.to_string();
    let scripted =
        Scripted::with("templates.yaml", &[("Server", &server)], Default::default(), Default::default(), function)
            .await;
    let (socket, _) = scripted.connect("?token=right", &[]).await.expect("connected");
    (scripted, socket)
}

/// Sends a message and returns the next frame.
async fn ask(socket: &mut Socket, message: Value) -> String {
    exchange(socket, &message.to_string()).await
}

fn is_internal_error(frame: &str) -> bool {
    frame.starts_with(r#"{"message": "Internal server error", "connectionId":"#)
}

#[tokio::test]
async fn a_mock_integration_decides_about_connect_by_its_template() {
    let (scripted, _socket) = start().await;
    assert_eq!(scripted.connect("?token=wrong", &[]).await.map(drop), Err(401));
    assert_eq!(scripted.connect("", &[]).await.map(drop), Err(401));
    scripted.stack.stop().await;
}

#[tokio::test]
async fn the_status_that_a_template_renders_selects_the_response() {
    let (scripted, mut socket) = start().await;
    let frame = ask(&mut socket, json!({"action": "mock", "kind": "status", "code": 204})).await;
    let said: Value = serde_json::from_str(&frame).expect(&frame);
    assert_eq!(said["id"].as_str().map(str::len), Some(16));
    assert!(said["epoch"].as_i64().is_some_and(|epoch| epoch > 1_600_000_000_000), "{frame}");
    assert_eq!((&said["route"], &said["status"], &said["greeting"]), (&json!("mock"), &json!("204"), &json!("hello")));

    let missing = json!({"action": "mock", "kind": "status", "code": 404});
    assert_eq!(ask(&mut socket, missing.clone()).await, "missing");
    let mut german = missing;
    german["language"] = json!("de");
    assert_eq!(ask(&mut socket, german).await, "fehlt");
    scripted.stack.stop().await;
}

#[tokio::test]
async fn without_templates_a_message_passes_unchanged() {
    let (scripted, mut socket) = start().await;
    assert_eq!(ask(&mut socket, json!({"action": "passed", "statusCode": 299})).await, "passed with 299");
    scripted.stack.stop().await;
}

#[tokio::test]
async fn what_cannot_be_mapped_is_an_error_frame_and_the_socket_stays_open() {
    let (scripted, mut socket) = start().await;
    let broken = [
        json!({"action": "mock", "kind": "status", "code": 500}),
        json!({"action": "mock", "kind": "status", "code": 301}),
        json!({"action": "mock", "kind": "status"}),
        json!({"action": "mock", "kind": "none"}),
        json!({"action": "nowhere"}),
        json!({"action": "nowhere-secure"}),
        json!({"action": "kept", "statusCode": 200}),
    ];
    for message in broken {
        let frame = ask(&mut socket, message.clone()).await;
        assert!(is_internal_error(&frame), "{message}: {frame}");
    }
    let frame = ask(&mut socket, json!({"action": "mock", "kind": "fixed"})).await;
    assert!(frame.contains("hello"), "{frame}");
    scripted.stack.stop().await;
}

#[tokio::test]
async fn a_custom_function_gets_what_the_template_makes_and_its_errors_select_the_response() {
    let (scripted, mut socket) = start().await;
    let frame = ask(&mut socket, json!({"action": "custom", "text": "a \"b\""})).await;
    let event = scripted.event_of("Function").await;
    assert_eq!(event["text"], "a \"b\"");
    assert_eq!(event["from"].as_str().map(str::len), Some(16));
    assert_eq!(frame, format!("said {{from={}, text=a \"b\"}}", event["from"].as_str().expect("a text")));
    assert_eq!(ask(&mut socket, json!({"action": "custom", "text": "refuse"})).await, "no: Refused for a reason");
    assert_eq!(ask(&mut socket, json!({"action": "custom", "text": "fail"})).await, "said ");
    scripted.stack.stop().await;
}

#[tokio::test]
async fn an_asynchronous_integration_does_not_wait_for_its_function() {
    let (scripted, mut socket) = start().await;
    let message = json!({"action": "later", "x": 1});
    assert_eq!(ask(&mut socket, message.clone()).await, "accepted");
    assert_eq!(scripted.event_of("Function").await, message);
    scripted.stack.stop().await;
}

#[tokio::test]
async fn an_http_integration_has_parameters_and_its_response_is_mapped() {
    let (scripted, mut socket) = start().await;
    let http = |name: &str| json!({"action": "http", "item": {"name": name}});
    let frame = ask(&mut socket, http("a/b c")).await;
    let mut got: Value = serde_json::from_str(&frame).expect(&frame);
    let api = got["api"].take();
    let api = api.as_str().expect("the id of the API");
    let expected = json!({
        "method": "PUT",
        "path": "/v2/items/a%2Fb%20c?fixed=1&stage=dev",
        "body": r#"{"item":"a/b c"}"#,
        "connection": 16,
        "static": "a b",
        "greeting": "hello",
        "type": "application/json",
        "agent": format!("AmazonAPIGateway_{api}"),
        "api": null,
    });
    assert!(!api.is_empty());
    assert_eq!(got, expected);
    assert_eq!(ask(&mut socket, http("short")).await, "short: /v2/items/short?fixed=1&stage=dev");
    assert_eq!(ask(&mut socket, http("fail")).await, "failed with 503");
    let frame = ask(&mut socket, http("never")).await;
    assert!(frame.starts_with(r#"{"message": "Endpoint request timed out""#), "{frame}");
    scripted.stack.stop().await;
}

#[tokio::test]
async fn an_http_proxy_passes_the_message_and_the_response_on() {
    let (scripted, mut socket) = start().await;
    let message = json!({"action": "proxy", "n": [1, 2]});
    let frame = ask(&mut socket, message.clone()).await;
    let got: Value = serde_json::from_str(&frame).expect(&frame);
    assert_eq!((&got["method"], &got["path"]), (&json!("POST"), &json!("/proxy")));
    assert_eq!(got["body"], message.to_string());
    scripted.stack.stop().await;
}
