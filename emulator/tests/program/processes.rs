//! Functions as processes: custom runtimes, Node.js and Python.
//!
//! `cargo test` ignores the tests that need an interpreter; `tests/run` runs them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use apigw_local::{Options, Stack};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use crate::scripted::{Socket, ask, eventually, exchange, invoke, next};

fn code(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/functions").join(of)
}

async fn start(code: &Path, runtime: &str, handler: &str) -> Stack {
    start_scaled(code, runtime, handler, 1.0).await
}

async fn start_scaled(code: &Path, runtime: &str, handler: &str, time_scale: f64) -> Stack {
    let parameters = [("Code", code.to_str().expect("UTF-8")), ("Runtime", runtime), ("Handler", handler)];
    let options = Options {
        parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        time_scale,
        ..Options::on_free_ports(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/processes.yaml"))
    };
    Stack::start(&options).await.expect("started")
}

async fn connect(stack: &Stack) -> Socket {
    connect_async(format!("ws://{}/dev", stack.ws_addr)).await.expect("connected").0
}

/// Sends a message to the custom runtime and returns the words of the response.
async fn words(socket: &mut Socket) -> Vec<String> {
    exchange(socket, "hello").await.split(' ').map(str::to_owned).collect()
}

#[tokio::test]
async fn a_custom_runtime_gets_its_environment_and_is_kept_for_the_next_invocation() {
    let stack = start(&code("bash"), "provided.al2023", "unused").await;
    let mut socket = connect(&stack).await;
    let first = words(&mut socket).await;
    // The gateway's address has replaced that of the API in AWS.
    let endpoint = format!("http://{}/dev", stack.ws_addr);
    assert_eq!(first[..6], ["VERSION", "Message", "256", "unused", "hello", &endpoint]);
    assert_eq!(words(&mut socket).await, first, "the same process");
    stack.stop().await;
}

#[tokio::test]
async fn a_process_that_ends_or_takes_too_long_is_replaced() {
    let stack = start(&code("bash"), "provided.al2023", "unused").await;
    let mut socket = connect(&stack).await;
    let process = words(&mut socket).await[6].clone();
    assert!(exchange(&mut socket, "throw").await.starts_with(r#"{"message": "Internal server error","#));
    assert_eq!(words(&mut socket).await[6], process, "an error does not end the process");
    assert!(exchange(&mut socket, "crash").await.starts_with(r#"{"message": "Internal server error","#));
    let second = words(&mut socket).await[6].clone();
    assert_ne!(second, process);
    assert!(exchange(&mut socket, "sleep").await.starts_with(r#"{"message": "Internal server error","#), "after 2 s");
    assert_ne!(words(&mut socket).await[6], second);
    stack.stop().await;
}

#[tokio::test]
async fn changed_code_runs_from_the_next_invocation_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let bootstrap = directory.path().join("bootstrap");
    fs::copy(code("bash").join("bootstrap"), &bootstrap).expect("copied");
    let stack = start(directory.path(), "provided.al2023", "unused").await;
    let mut socket = connect(&stack).await;
    assert_eq!(words(&mut socket).await[0], "VERSION");
    // Replaced, not overwritten, because it is running. Compilers do the same.
    let changed = fs::read_to_string(&bootstrap).expect("read").replace("VERSION", "CHANGED");
    let beside = directory.path().join("new");
    fs::copy(&bootstrap, &beside).and_then(|_| fs::write(&beside, changed)).expect("written");
    fs::rename(&beside, &bootstrap).expect("replaced");
    assert_eq!(words(&mut socket).await[0], "CHANGED");
    stack.stop().await;
}

#[tokio::test]
async fn a_failed_asynchronous_invocation_is_retried_and_then_recorded() {
    // The minutes between retries become milliseconds.
    let stack = start_scaled(&code("bash"), "provided.al2023", "unused", 10_000.0).await;
    assert_eq!(invoke(&stack, "Message", "Event", r#"{"body":"throw"}"#).await.status, 202);
    eventually("the first attempt, one retry and the destination", || stack.invocations() == 3).await;
    stack.settled().await;
    let body = ask(stack.http_addr, "GET /inspector/records?after=0", "", "").await.body;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let records = body["records"].as_array().expect("records");
    let invoked: Vec<&Value> = records.iter().filter(|record| record["kind"] == "invoked").collect();
    let functions: Vec<&Value> = invoked.iter().map(|record| &record["function"]).collect();
    assert_eq!(functions, ["Message", "Message", "Told"]);
    assert_eq!(invoked[0]["requestId"], invoked[1]["requestId"], "all attempts have the same id");
    let told: Value = serde_json::from_str(invoked[2]["payload"].as_str().expect("text")).expect("JSON");
    assert_eq!(told["requestContext"]["requestId"], invoked[0]["requestId"]);
    assert_eq!(told["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(told["requestContext"]["approximateInvokeCount"], 2, "as often as the template says");
    assert_eq!(told["requestPayload"], json!({"body": "throw"}));
    assert_eq!(told["responsePayload"]["errorType"], "Refused");
    stack.stop().await;
}

#[tokio::test]
#[ignore = "needs Node.js; tests/run installs it and runs this"]
async fn handlers_of_node_may_answer_throw_reject_call_back_or_do_nothing() {
    let stack = start(&code("node"), "nodejs20.x", "app.handler").await;
    let mut socket = connect(&stack).await;
    assert_eq!(exchange(&mut socket, "plain").await, r#""plain""#);
    assert_eq!(exchange(&mut socket, "callback").await, r#""called back""#);
    for thrown in ["throw", "reject", "stray"] {
        let answer = exchange(&mut socket, thrown).await;
        assert!(answer.starts_with(r#"{"message": "Internal server error","#), "{thrown}: {answer}");
    }
    // A handler that returns nothing has no response, so the next one belongs to the next message.
    socket.send(Message::text("nothing")).await.expect("sent");
    let context: Value = serde_json::from_str(&exchange(&mut socket, "context").await).expect("JSON");
    let arn = "arn:aws:lambda:eu-central-1:000000000000:function:Message";
    assert_eq!(context, json!(["Message", "256", arn, true, 36, true]));
    // The function posts to the API's address in AWS, with TLS.
    for post in ["post", "post elsewhere"] {
        let (first, second) = (exchange(&mut socket, post).await, next(&mut socket).await);
        assert_eq!((first.as_str(), second.as_str()), ("posted", "200"), "{post}");
    }
    stack.stop().await;
}

#[tokio::test]
#[ignore = "needs Node.js; tests/run installs it and runs this"]
async fn a_callback_of_node_waits_for_an_empty_event_loop_and_nothing_else_does() {
    let stack = start(&code("node"), "nodejs20.x", "app.handler").await;
    let mut socket = connect(&stack).await;
    assert_eq!(exchange(&mut socket, "waits").await, r#""drained""#);
    assert_eq!(exchange(&mut socket, "does not wait").await, r#""early""#);
    assert_eq!(exchange(&mut socket, "succeeds at once").await, r#""succeeds at once""#);
    assert_eq!(exchange(&mut socket, "first").await, r#""first""#);
    for ended in ["fails at once", "never drained"] {
        let answer = exchange(&mut socket, ended).await;
        assert!(answer.starts_with(r#"{"message": "Internal server error","#), "{ended}: {answer}");
    }
    let body = ask(stack.http_addr, "GET /inspector/records?after=0", "", "").await.body;
    let errors: Vec<&str> = ["\"fails at once", "timed out"].into_iter().filter(|error| body.contains(error)).collect();
    assert_eq!(errors.len(), 2, "{body}");
    stack.stop().await;
}

#[tokio::test]
#[ignore = "needs Node.js; tests/run installs it and runs this"]
async fn a_client_of_node_that_names_a_service_in_the_cloud_reaches_the_emulator() {
    let stack = start(&code("node"), "nodejs20.x", "app.handler").await;
    let answer = exchange(&mut connect(&stack).await, "tables").await;
    assert_eq!(serde_json::from_str::<String>(&answer).expect("JSON"), r#"{"TableNames":[]}"#);
    stack.stop().await;
}

#[tokio::test]
#[ignore = "needs Node.js; tests/run installs it and runs this"]
async fn an_es_module_and_a_nested_handler_are_found_and_a_missing_one_is_an_error() {
    let stack = start(&code("esm"), "nodejs20.x", "app.nested.handler").await;
    assert_eq!(exchange(&mut connect(&stack).await, "one").await, "module one");
    stack.stop().await;
    let stack = start(&code("node"), "nodejs20.x", "default.default").await;
    assert_eq!(exchange(&mut connect(&stack).await, "one").await, "default one");
    stack.stop().await;
    for handler in ["app.missing", "missing.handler", "nonsense"] {
        let stack = start(&code("esm"), "nodejs20.x", handler).await;
        let answer = exchange(&mut connect(&stack).await, "one").await;
        assert!(answer.starts_with(r#"{"message": "Internal server error","#), "{handler}: {answer}");
        stack.stop().await;
    }
}

#[tokio::test]
#[ignore = "needs Python with awslambdaric; tests/run installs it and runs this"]
async fn handlers_of_python_run_in_the_runtime_of_aws() {
    let stack = start(&code("python"), "python3.11", "app.handler").await;
    let mut socket = connect(&stack).await;
    assert_eq!(exchange(&mut socket, "plain").await, r#""plain""#);
    for ended in ["throw", "exit"] {
        let answer = exchange(&mut socket, ended).await;
        assert!(answer.starts_with(r#"{"message": "Internal server error","#), "{ended}: {answer}");
    }
    let context: Value = serde_json::from_str(&exchange(&mut socket, "context").await).expect("JSON");
    assert_eq!(context, json!(["Message", "256", "arn:aws:lambda:eu-central-1:000000000000:function:Message", true]));
    for post in ["post", "post elsewhere"] {
        let (first, second) = (exchange(&mut socket, post).await, next(&mut socket).await);
        assert_eq!((first.as_str(), second.as_str()), ("posted", "200"), "{post}");
    }
    stack.stop().await;
}
