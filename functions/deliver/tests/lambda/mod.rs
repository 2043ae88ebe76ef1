//! What Lambda does for the program, and the audience that it finds, for a world of one listener.

use std::{process::Stdio, time::Duration};

use http_body_util::Full;
use hyper::{Response, body::Bytes};
use serde_json::{Value, json};
use shared::model::connection::Slot;
use tokio::process::Command;

/// Bound of every wait.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);

/// An answer with a status and a body.
pub(crate) fn answer(status: u16, body: String) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(Bytes::from(body))).expect("valid")
}

/// What the Runtime API answers to a function that asks for its next invocation.
pub(crate) fn invocation(event: &Value) -> Response<Full<Bytes>> {
    let mut invocation = answer(200, event.to_string());
    for (name, value) in [
        ("lambda-runtime-aws-request-id", "id"),
        ("lambda-runtime-deadline-ms", "9999999999999"),
        ("lambda-runtime-invoked-function-arn", "arn"),
    ] {
        invocation.headers_mut().insert(name, value.parse().expect("a value"));
    }
    invocation
}

/// So many items of an audience, in the order of their slots.
pub(crate) fn watchers(count: usize) -> Vec<Value> {
    let mut slots: Vec<Slot> =
        (0..count).map(|number| Slot::of(&format!("connection-{number}").parse().expect("an id"))).collect();
    slots.sort();
    let item = |slot: &Slot| json!({"slot": {"S": slot.as_str()}, "format": {"S": "viral_alert"}, "since": {"N": "0"}});
    slots.iter().map(item).collect()
}

/// The program as Lambda starts it, with everything that it calls at one address. What it writes is piped.
pub(crate) fn deliver(address: &str) -> Command {
    let mut deliver = Command::new(env!("CARGO_BIN_EXE_deliver"));
    deliver
        .env("AWS_LAMBDA_RUNTIME_API", address)
        .env("AWS_LAMBDA_FUNCTION_NAME", "Deliver")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("SUBSCRIPTIONS_TABLE", "subscriptions")
        .env("ALERTS_TABLE", "alerts")
        .env("AWS_ENDPOINT_URL", format!("http://{address}"))
        .env("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", format!("http://{address}/prod"))
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    deliver
}
