//! Routes that call AWS services without a function.

use apigw_local::{FaultOptions, GatewayOptions};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::scripted::{Scripted, eventually, exchange};

async fn start() -> Scripted {
    let options = (GatewayOptions::default(), FaultOptions::default());
    Scripted::with("services.yaml", &[], options.0, options.1, |_, _| async { Ok(Value::Null) }).await
}

/// Waits for an event of the worker that has something at `pointer`, and returns that.
async fn event_with(site: &Scripted, pointer: &str) -> Value {
    let found = || site.events_of("Worker").iter().find_map(|event| event.pointer(pointer).cloned());
    eventually(pointer, || found().is_some()).await;
    found().expect("found")
}

#[tokio::test]
async fn connect_may_put_an_item_and_its_stream_tells_a_function() {
    let site = start().await;
    let (_socket, _) = site.connect("?name=anna", &[]).await.expect("connected");
    let image = event_with(&site, "/Records/0/dynamodb/NewImage").await;
    let [id] = site.stack.connections().try_into().expect("one");
    let id: String = id;
    assert_eq!(image, json!({"id": {"S": id}, "name": {"S": "anna"}}));
    site.stack.stop().await;
}

#[tokio::test]
async fn a_message_goes_to_a_queue_as_a_form_or_as_json() {
    let site = start().await;
    let (mut socket, _) = site.connect("?name=anna", &[]).await.expect("connected");
    let answer = exchange(&mut socket, r#"{"action": "queue", "data": {"a": "b & c"}}"#).await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let result = &answer["SendMessageResponse"]["SendMessageResult"];
    assert!(result["MessageId"].is_string() && result["SequenceNumber"].is_string(), "{answer}");
    assert!(answer["SendMessageResponse"]["ResponseMetadata"]["RequestId"].is_string(), "{answer}");
    let record = event_with(&site, "/Records/0/messageAttributes/connectionId/stringValue").await;
    assert_eq!(site.stack.connections(), [record.as_str().expect("a text")]);
    assert_eq!(event_with(&site, "/Records/0/body").await, r#"{"a":"b & c"}"#);

    socket.send(Message::text(r#"{"action": "json", "data": "plain"}"#)).await.expect("sent");
    let is_plain = |event: &Value| event.pointer("/Records/0/body") == Some(&json!("plain"));
    eventually("the other message", || site.events_of("Worker").iter().any(is_plain)).await;
    site.stack.stop().await;
}

#[tokio::test]
async fn a_call_without_a_body_for_the_queue_is_refused_as_the_service_does() {
    let site = start().await;
    let url = site.stack.aws_variables["AWS_ENDPOINT_URL_SQS"].trim_start_matches("http://").to_owned();
    let target = "X-Amz-Target: AmazonSQS.SendMessage\r\n";
    let input = r#"{"QueueUrl": "/jobs.fifo", "MessageGroupId": "g"}"#;
    let reply = crate::scripted::ask(url.parse().expect("an address"), "POST /", target, input).await;
    let error: Value = serde_json::from_str(&reply.body).expect("JSON");
    let expected = "The request must contain the parameter MessageBody.";
    let kind = "com.amazon.coral.service#MissingRequiredParameterException";
    assert_eq!(error, json!({"__type": kind, "message": expected}));
    site.stack.stop().await;
}

#[tokio::test]
async fn a_message_goes_to_a_topic_or_a_bus() {
    let site = start().await;
    let (mut socket, _) = site.connect("?name=anna", &[]).await.expect("connected");
    let answer = exchange(&mut socket, r#"{"action": "topic", "data": "hello & bye"}"#).await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert!(answer["PublishResponse"]["PublishResult"]["MessageId"].is_string(), "{answer}");
    assert_eq!(answer["PublishResponse"]["PublishResult"]["SequenceNumber"], Value::Null);
    assert_eq!(event_with(&site, "/Records/0/Sns/Message").await, "hello & bye");

    let refused = exchange(&mut socket, r#"{"action": "topic"}"#).await;
    let refused: Value = serde_json::from_str(&refused).expect("JSON");
    assert_eq!(refused["Error"]["Code"], "InvalidParameter", "{refused}");

    socket.send(Message::text(r#"{"action": "bus", "n": 7}"#)).await.expect("sent");
    assert_eq!(event_with(&site, "/detail").await, json!({"action": "bus", "n": 7}));
    site.stack.stop().await;
}

#[tokio::test]
async fn a_response_of_the_integration_replaces_the_expression() {
    let site = start().await;
    let (mut socket, _) = site.connect("?name=anna", &[]).await.expect("connected");
    // The route has a route response alone, so the next frame answers the other message.
    socket.send(Message::text(r#"{"action": "one-way", "n": 1}"#)).await.expect("sent");
    event_with(&site, "/detail").await;
    let answer = exchange(&mut socket, r#"{"action": "topic", "data": "a"}"#).await;
    assert!(answer.starts_with(r#"{"PublishResponse":"#), "{answer}");
    site.stack.stop().await;
}
