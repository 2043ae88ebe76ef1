//! Templates with parts that cannot run here or that only AWS knows.

use std::path::Path;

use apigw_local::{Options, Stack};
use tokio_tungstenite::connect_async;

use crate::scripted::exchange;

fn options() -> Options {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program");
    let code = directory.join("functions/bash").display().to_string();
    Options {
        parameters: [("Code".to_owned(), code)].into(),
        ..Options::on_free_ports(directory.join("unavailable.yaml"))
    }
}

#[tokio::test]
async fn functions_that_cannot_run_here_are_noted_and_the_others_run() {
    let stack = Stack::start(&options()).await.expect("started");
    let has = |text: &str| assert!(stack.notes.iter().any(|note| note.contains(text)), "{text}: {:?}", stack.notes);
    has("Web does not run, and its invocations fail: the emulator does not run container images; run the function ");
    has("Jvm does not run, and its invocations fail: unsupported runtime java21: expected provided.*, ");
    has("Unbuilt does not run, and its invocations fail: cannot read its code ");
    has("only AWS knows Pool.ProviderURL: functions see made-up values; set them with --value Pool.ProviderURL=VALUE");
    has("not here, so that functions call the real AWS for it: Cognito (Pool)");
    let mut socket = connect_async(format!("ws://{}/dev", stack.ws_addr)).await.expect("connected").0;
    let answer = exchange(&mut socket, "hello").await;
    assert_eq!(answer.split(' ').nth(4), Some("Pool.ProviderURL"), "{answer}");
    let answer = exchange(&mut socket, r#"{"action":"java"}"#).await;
    assert!(answer.starts_with(r#"{"message": "Internal server error","#), "{answer}");
    stack.stop().await;
}

#[tokio::test]
async fn what_only_aws_knows_can_be_given() {
    let values = [("Pool.ProviderURL".to_owned(), "given".to_owned())].into();
    let stack = Stack::start(&Options { values, ..options() }).await.expect("started");
    assert!(!stack.notes.iter().any(|note| note.contains("only AWS knows")), "{:?}", stack.notes);
    let mut socket = connect_async(format!("ws://{}/dev", stack.ws_addr)).await.expect("connected").0;
    let answer = exchange(&mut socket, "hello").await;
    assert_eq!(answer.split(' ').nth(4), Some("given"), "{answer}");
    stack.stop().await;
}
