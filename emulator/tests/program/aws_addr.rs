//! One address for all AWS services, with AWS clients that know nothing but `AWS_ENDPOINT_URL`.

use std::path::Path;

use apigw_local::{Options, Stack};
use aws_sdk_lambda::primitives::Blob;
use aws_types::{SdkConfig, region::Region};
use serde_json::{Value, json};

use crate::{
    cli::{RunningProgram, program},
    scripted::{ask, send},
};

const TEMPLATE: &str = "tests/program/aws_addr.yaml";

/// The settings of an AWS client with this endpoint for all services.
fn config(endpoint: &str) -> SdkConfig {
    use aws_smithy_async::{rt::sleep, time};
    let credentials = aws_credential_types::Credentials::new("local", "local", None, None, "test");
    SdkConfig::builder()
        .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(aws_sdk_sqs::config::SharedCredentialsProvider::new(credentials))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .sleep_impl(sleep::SharedAsyncSleep::new(sleep::TokioSleep::new()))
        .time_source(time::SharedTimeSource::new(time::SystemTimeSource::new()))
        .endpoint_url(endpoint)
        .build()
}

async fn start() -> Stack {
    let options = Options {
        aws_addr: Some(([0, 0, 0, 0], 0).into()),
        ..Options::on_free_ports(Path::new(env!("CARGO_MANIFEST_DIR")).join(TEMPLATE))
    };
    Stack::start(&options).await.expect("started")
}

#[tokio::test]
async fn a_client_in_rust_reaches_every_service_at_one_address() {
    let stack = start().await;
    let endpoint = format!("http://127.0.0.1:{}", stack.aws_addr.port());
    assert_eq!(stack.aws_variables["AWS_ENDPOINT_URL"], endpoint, "not 0.0.0.0, which is no address to connect to");
    let sdk = config(&endpoint);
    let tables = aws_sdk_dynamodb::Client::new(&sdk).list_tables().send().await.expect("listed");
    assert_eq!(tables.table_names().len(), 1);
    let sqs = aws_sdk_sqs::Client::new(&sdk);
    let url = sqs.get_queue_url().queue_name("jobs").send().await.expect("a queue").queue_url.expect("a URL");
    assert_eq!(url, format!("{endpoint}/000000000000/jobs"));
    let event = aws_sdk_eventbridge::types::PutEventsRequestEntry::builder();
    let event = event.source("test").detail_type("new").detail("{\"id\":7}").build();
    let events = aws_sdk_eventbridge::Client::new(&sdk);
    assert_eq!(events.put_events().entries(event).send().await.expect("put").failed_entry_count(), 0);
    let received = sqs.receive_message().queue_url(&url).wait_time_seconds(15).send().await.expect("a queue");
    assert!(received.messages()[0].body().expect("a body").contains("\"detail\":{\"id\":7}"));
    let lambda = aws_sdk_lambda::Client::new(&sdk);
    let answer = lambda.invoke().function_name("Message").payload(Blob::new("{}")).send().await.expect("invoked");
    assert_eq!((answer.status_code(), answer.function_error()), (200, None));
    let posts = aws_sdk_apigatewaymanagement::Client::new(&sdk);
    let gone = posts.post_to_connection().connection_id("Gto47d9-DoECGqg=").data(Blob::new("x")).send().await;
    assert!(gone.expect_err("no connection").into_service_error().is_gone_exception());
    stack.stop().await;
}

#[tokio::test]
async fn a_service_that_is_not_here_is_named_in_the_protocol_of_the_call() {
    let stack = start().await;
    let signed = |service: &str| {
        format!(
            "Authorization: AWS4-HMAC-SHA256 Credential=a/20261130/eu-central-1/{service}/aws4_request, \
                 SignedHeaders=host, Signature=0\r\n"
        )
    };
    let s3 = ask(stack.aws_addr, "PUT /bucket/key", &signed("s3"), &"x".repeat(100_000)).await;
    assert_eq!((s3.status, s3.error_type.as_str()), (501, "UnknownService"), "{}", s3.body);
    assert!(s3.body.contains("<Error><Code>UnknownService</Code><Message>the emulator does not serve s3; it serves"));
    let form = format!("{}Content-Type: application/x-www-form-urlencoded\r\n", signed("sts"));
    let sts = ask(stack.aws_addr, "POST /", &form, "Action=GetCallerIdentity").await;
    assert!(sts.body.contains("<ErrorResponse") && sts.body.contains("does not serve sts"), "{}", sts.body);
    let target = format!("{}X-Amz-Target: Logs_20140328.PutLogEvents\r\n", signed("logs"));
    let logs: Value = serde_json::from_str(&ask(stack.aws_addr, "POST /", &target, "{}").await.body).expect("JSON");
    assert_eq!(logs["__type"], "UnknownService");
    let message = logs["message"].as_str().expect("a message");
    assert!(message.ends_with("`apigw-local env` prints for each service instead of AWS_ENDPOINT_URL"), "{message}");
    let nothing = ask(stack.aws_addr, "POST /", "", "{}").await;
    assert_eq!(nothing.status, 501);
    assert!(nothing.body.contains("the request names no service"), "{}", nothing.body);
    assert_eq!(ask(stack.aws_addr, "GET /", "", "").await.status, 200, "for who looks whether it is there");
    stack.stop().await;
}

#[tokio::test]
async fn a_container_has_variables_with_its_own_name_of_this_machine() {
    let stack = start().await;
    let of =
        async |host: &str| send(stack.http_addr, "GET /inspector/env", &format!("Host: {host}\r\n"), b"").await.body;
    let (own, of_container) = (of("localhost").await, of("host.docker.internal:1").await);
    assert_eq!(of_container, own.replace("127.0.0.1", "host.docker.internal"));
    let line = format!("export AWS_ENDPOINT_URL=http://host.docker.internal:{}\n", stack.aws_addr.port());
    assert!(of_container.contains(&line), "{of_container}");
    stack.stop().await;
}

#[tokio::test]
async fn a_container_has_the_url_of_a_queue_under_its_own_name_of_this_machine() {
    let stack = start().await;
    let host = format!("host.docker.internal:{}", stack.aws_addr.port());
    let headers = format!("Host: {host}\r\nX-Amz-Target: AmazonSQS.GetQueueUrl\r\n");
    let reply = send(stack.aws_addr, "POST /", &headers, br#"{"QueueName": "jobs"}"#).await;
    let url: Value = serde_json::from_str(&reply.body).expect("JSON");
    assert_eq!(url, json!({"QueueUrl": format!("http://{host}/000000000000/jobs")}));
    stack.stop().await;
}

#[test]
fn functions_and_other_programs_have_the_address_of_all_services_only_if_it_is_asked_for() {
    let running = RunningProgram::with(TEMPLATE, &["--aws-addr", "127.0.0.1:0"]);
    let variables = running.variables();
    let all = variables.lines().find_map(|line| line.strip_prefix("export AWS_ENDPOINT_URL=")).expect("printed");
    assert!(variables.contains(&format!("export AWS_ENDPOINT_URL_SQS={all}\n")), "{variables}");
    let line = format!("# all AWS services that are here: AWS_ENDPOINT_URL={all}");
    assert!(running.lines.contains(&line), "{:?}", running.lines);
    let without = RunningProgram::with(TEMPLATE, &[]).variables();
    assert!(!without.contains("AWS_ENDPOINT_URL=") && without.contains("AWS_ENDPOINT_URL_SQS="), "{without}");
}

#[test]
#[ignore = "needs Python with boto3; tests/run installs it and runs this"]
fn a_client_in_python_reaches_every_service_at_one_address() {
    let script = "tests/program/aws_addr.py";
    let output = program(&["exec", "--aws-addr", "0", "--template", TEMPLATE, "--", "python3", script]);
    let output = { output }.output().expect("ended");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "all\n", "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
}
