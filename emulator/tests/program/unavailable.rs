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

#[test]
fn without_an_interpreter_only_the_functions_that_need_it_do_not_run_and_a_note_says_what_to_install() {
    let directory = tempfile::tempdir().expect("a directory");
    let resource = |name: &str, runtime: &str| {
        format!(
            "  {name}: {{ Type: AWS::Serverless::Function, Properties: {{ Handler: app.handler, Runtime: {runtime}, \
             InlineCode: ' ' }} }}\n"
        )
    };
    let route = "  Route: { Type: AWS::ApiGatewayV2::Route, Properties: { ApiId: !Ref Api, RouteKey: $default, Target: \
                 !Sub 'integrations/${ToNode}' } }\n  ToNode: { Type: AWS::ApiGatewayV2::Integration, Properties: { \
                 ApiId: !Ref Api, IntegrationType: AWS_PROXY, IntegrationUri: !Sub 'arn:aws:apigateway:x:lambda:path/\
                 2015-03-31/functions/${First.Arn}/invocations' } }\n";
    let template =
        include_str!("cli.yaml").replace("  Default:", "  Other:").replace("RouteKey: $default", "RouteKey: other")
            + &[resource("First", "nodejs22.x"), resource("Second", "nodejs22.x"), resource("Third", "python3.13")]
                .concat()
            + route;
    std::fs::write(directory.path().join("template.yaml"), template).expect("written");
    let path = directory.path().to_str().expect("UTF-8");
    let mut command = crate::cli::program(&["exec", "--template", path, "--", "/bin/true"]);
    let output = command.env("PATH", "/nowhere").output().expect("ended");
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{notes}");
    for note in [
        "First, Second do not run, and their invocations fail: no program `node` on the path for nodejs22.x: install",
        "Third does not run, and its invocations fail: no program `python3.13` or `python3` on the path: install",
    ] {
        assert_eq!(notes.matches(note).count(), 1, "{notes}");
    }
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
