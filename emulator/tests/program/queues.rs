//! SQS with the AWS client: queues of the template, and records of failed invocations in them.

use std::path::Path;

use apigw_local::{Options, Stack};
use aws_sdk_sqs::{
    Client,
    config::{BehaviorVersion, Credentials, SharedCredentialsProvider},
    primitives::Blob,
    types::{
        DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
        SendMessageBatchRequestEntry,
    },
};
use aws_types::{SdkConfig, region::Region};
use serde_json::{Value, json};

use crate::scripted::invoke;

async fn start() -> (Stack, Client) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program");
    let code = directory.join("functions/bash").to_str().expect("UTF-8").to_owned();
    let options = Options {
        parameters: [("Code".to_owned(), code)].into(),
        ..Options::on_free_ports(directory.join("queues.yaml"))
    };
    let stack = Stack::start(&options).await.expect("started");
    let sleep = aws_smithy_async::rt::sleep::SharedAsyncSleep::new(aws_smithy_async::rt::sleep::TokioSleep::new());
    let time = aws_smithy_async::time::SharedTimeSource::new(aws_smithy_async::time::SystemTimeSource::new());
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(stack.aws_variables["AWS_REGION"].clone()))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("local", "local", None, None, "test")))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .sleep_impl(sleep)
        .time_source(time)
        .endpoint_url(stack.aws_variables["AWS_ENDPOINT_URL_SQS"].clone())
        .build();
    (stack, Client::new(&sdk))
}

async fn url(client: &Client, queue: &str) -> String {
    client.get_queue_url().queue_name(queue).send().await.expect("a queue").queue_url.expect("a URL")
}

/// Counts the visible and the hidden messages of a queue.
async fn counts(client: &Client, url: &str) -> (String, String) {
    let attributes = client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
    let mut attributes = attributes.send().await.expect("a queue").attributes.expect("attributes");
    let mut take = |name| attributes.remove(&name).expect("a count");
    (
        take(QueueAttributeName::ApproximateNumberOfMessages),
        take(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
    )
}

/// Receives messages, and waits up to 15 seconds for the first.
async fn receive(client: &Client, url: &str, max: i32) -> Vec<Message> {
    let receive = client.receive_message().queue_url(url).max_number_of_messages(max).wait_time_seconds(15);
    let receive = receive.message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
    receive.send().await.expect("a queue").messages.unwrap_or_default()
}

#[tokio::test]
async fn messages_are_sent_received_hidden_deleted_and_purged() {
    let (stack, client) = start().await;
    let url = url(&client, "records").await;
    for n in 0..3 {
        client.send_message().queue_url(&url).message_body(format!("body {n}")).send().await.expect("sent");
    }
    assert_eq!(counts(&client, &url).await, ("3".to_owned(), "0".to_owned()));
    let first = receive(&client, &url, 1).await.swap_remove(0);
    assert_eq!(first.body(), Some("body 0"));
    // Computed by another implementation of RFC 1321.
    assert_eq!(first.md5_of_body(), Some("2c2f1edb5aac06c6c201d1fe8916de7d"));
    let others = receive(&client, &url, 10).await;
    assert_eq!(others.iter().filter_map(Message::body).collect::<Vec<_>>(), ["body 1", "body 2"]);
    assert_eq!(counts(&client, &url).await, ("0".to_owned(), "3".to_owned()));
    // The template sets a visibility timeout of one second.
    let again = receive(&client, &url, 1).await.swap_remove(0);
    assert_eq!(again.message_id(), first.message_id());
    let received = &again.attributes.as_ref().expect("asked for")[&MessageSystemAttributeName::ApproximateReceiveCount];
    assert_eq!(received, "2");
    let delete = |receipt: Option<&str>| {
        client.delete_message().queue_url(&url).set_receipt_handle(receipt.map(str::to_owned)).send()
    };
    delete(again.receipt_handle()).await.expect("deleted");
    let refused = delete(Some("nonsense")).await.expect_err("no receipt").into_service_error();
    assert!(refused.is_receipt_handle_is_invalid(), "{refused:?}");
    client.purge_queue().queue_url(&url).send().await.expect("purged");
    assert_eq!(counts(&client, &url).await, ("0".to_owned(), "0".to_owned()));
    stack.stop().await;
}

#[tokio::test]
async fn errors_have_the_types_that_the_client_knows() {
    let (stack, client) = start().await;
    let refused = client.get_queue_url().queue_name("none").send().await.expect_err("no queue").into_service_error();
    assert!(refused.is_queue_does_not_exist(), "{refused:?}");
    let other = client.send_message().queue_url("http://127.0.0.1:1/000000000000/none").message_body("x").send();
    assert!(other.await.expect_err("no queue").into_service_error().is_queue_does_not_exist());
    let url = url(&client, "records").await;
    let delayed = client.send_message().queue_url(&url).message_body("x").delay_seconds(901).send();
    let text = apigw_local::ErrorChain(&delayed.await.expect_err("too long")).to_string();
    assert!(text.contains("Must be between 0 and 900"), "{text}");
    let many = client.receive_message().queue_url(&url).max_number_of_messages(11).send().await.expect_err("too many");
    let text = apigw_local::ErrorChain(&many).to_string();
    assert!(text.contains("Must be between 1 and 10"), "{text}");
    let long = client.receive_message().queue_url(&url).wait_time_seconds(21).send().await.expect_err("too long");
    let text = apigw_local::ErrorChain(&long).to_string();
    assert!(text.contains("WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided."), "{text}");
    let code = |error: &aws_sdk_sqs::error::SdkError<_, _>| {
        let error: &dyn aws_sdk_sqs::error::ProvideErrorMetadata = error;
        (error.code().unwrap_or_default().to_owned(), error.message().unwrap_or_default().to_owned())
    };
    let send = |body: &str| client.send_message().queue_url(&url).message_body(body).send();
    let (kind, message) = code(&send("").await.expect_err("empty"));
    assert!(kind.contains("MissingParameter") && message.contains("the parameter MessageBody"), "{kind}: {message}");
    let (kind, message) = code(&send("a\u{1}").await.expect_err("no text"));
    assert!(kind.contains("InvalidMessageContents") && message.contains("'#x1'"), "{kind}: {message}");
    let attribute = |kind: &str, text: &str| {
        let value = MessageAttributeValue::builder().data_type(kind).string_value(text).build().expect("complete");
        client.send_message().queue_url(&url).message_body("x").message_attributes("a", value).send()
    };
    assert!(code(&attribute("Text", "x").await.expect_err("a type")).1.contains("'a' is invalid. You must use only"));
    assert!(code(&attribute("String", "").await.expect_err("empty")).1.contains("must contain a non-empty value"));
    let entry = |id: &str| SendMessageBatchRequestEntry::builder().id(id).message_body("x".repeat(600_000)).build();
    for (ids, expected) in [
        (["1", "1 !"], "InvalidBatchEntryId"),
        (["1", "1"], "BatchRequestTooLong"),
        (["1", "2"], "BatchRequestTooLong"),
    ] {
        let batch = client.send_message_batch().queue_url(&url);
        let batch = ids.iter().fold(batch, |batch, id| batch.entries(entry(id).expect("complete")));
        let refused = batch.send().await.expect_err(expected);
        let kind = refused.as_service_error().and_then(|error| error.meta().code()).unwrap_or_default().to_owned();
        assert!(kind.contains(expected), "{kind}");
    }
    // Attributes count.
    let large = MessageAttributeValue::builder().data_type("String").string_value("x".repeat(600_000)).build();
    let large = large.expect("complete");
    let entry = |id: &str| SendMessageBatchRequestEntry::builder().id(id).message_body("x");
    let batch = client.send_message_batch().queue_url(&url);
    let batch = ["1", "2"].iter().fold(batch, |batch, id| {
        batch.entries(entry(id).message_attributes("a", large.clone()).build().expect("complete"))
    });
    assert!(batch.send().await.expect_err("too long").into_service_error().is_batch_request_too_long());
    let attributes = client.get_queue_attributes().queue_url(&url).attribute_names("Nonsense".into()).send().await;
    assert!(attributes.expect_err("unknown").into_service_error().is_invalid_attribute_name());
    let received = client.receive_message().queue_url(&url).message_system_attribute_names("Nonsense".into()).send();
    let text = apigw_local::ErrorChain(&received.await.expect_err("unknown")).to_string();
    assert!(text.contains("Unknown Attribute Nonsense."), "{text}");
    stack.stop().await;
}

#[tokio::test]
async fn a_queue_in_order_refuses_a_batch_as_a_whole() {
    let (stack, client) = start().await;
    let url = url(&client, "ordered.fifo").await;
    let complete = || SendMessageBatchRequestEntry::builder().id("1").message_body("x").message_group_id("g");
    let entry = || SendMessageBatchRequestEntry::builder().id("2").message_body("x").message_deduplication_id("d");
    for (second, expected) in [
        (entry(), "The request must contain the parameter MessageGroupId."),
        (entry().message_group_id("g").set_message_deduplication_id(None), "The queue should either have Content"),
    ] {
        let batch = client.send_message_batch().queue_url(&url);
        let batch = batch.entries(complete().message_deduplication_id("c").build().expect("complete"));
        let refused = batch.entries(second.build().expect("complete")).send().await.expect_err(expected);
        let meta = refused.as_service_error().expect("an answer").meta();
        let code = meta.code().unwrap_or_default();
        assert!(code.contains("InvalidParameterValue"), "{code}");
        assert!(meta.message().is_some_and(|message| message.starts_with(expected)), "{meta:?}");
    }
    let delayed = client.send_message().queue_url(&url).message_body("x").message_group_id("g").delay_seconds(2);
    let refused = delayed.message_deduplication_id("e").send().await.expect_err("a delay");
    let text = apigw_local::ErrorChain(&refused).to_string();
    assert!(text.contains("Value 2 for parameter DelaySeconds is invalid. Reason: The request include"), "{text}");
    assert_eq!(counts(&client, &url).await, ("0".to_owned(), "0".to_owned()));
    let at_once = client.send_message().queue_url(&url).message_body("x").message_group_id("g").delay_seconds(0);
    at_once.message_deduplication_id("e").send().await.expect("no delay");
    stack.stop().await;
}

#[tokio::test]
async fn batches_attributes_and_visibility_are_those_that_the_client_checks() {
    let (stack, client) = start().await;
    let url = url(&client, "records").await;
    let attribute = |kind: &str| MessageAttributeValue::builder().data_type(kind);
    let text = attribute("String").string_value("v").build().expect("complete");
    let bytes = attribute("Binary").binary_value(Blob::new([0, 255])).build().expect("complete");
    let entry = |id: &str| SendMessageBatchRequestEntry::builder().id(id).message_body(id);
    let first = entry("1").message_attributes("t", text.clone()).message_attributes("b", bytes.clone());
    let batch = client.send_message_batch().queue_url(&url).entries(first.build().expect("complete"));
    let sent = batch.entries(entry("2").delay_seconds(901).build().expect("complete")).send().await.expect("sent");
    assert_eq!((sent.successful().len(), sent.failed()[0].code()), (1, "InvalidParameterValue"));
    // Computed by another implementation of the documented steps.
    assert_eq!(sent.successful()[0].md5_of_message_attributes(), Some("2e5d97acaddb1ba046799a50a1f5d2b1"));

    let receive = || client.receive_message().queue_url(&url).message_attribute_names("All").wait_time_seconds(15);
    let mut received = receive().send().await.expect("a queue").messages.expect("a message");
    let message = received.swap_remove(0);
    let attributes = message.message_attributes.as_ref().expect("asked for");
    assert_eq!((&attributes["t"], &attributes["b"]), (&text, &bytes));
    let change = client.change_message_visibility().queue_url(&url).visibility_timeout(0);
    change.set_receipt_handle(message.receipt_handle.clone()).send().await.expect("changed");
    let again = receive().send().await.expect("a queue").messages.expect("at once").swap_remove(0);
    let entry = DeleteMessageBatchRequestEntry::builder().id("1").set_receipt_handle(again.receipt_handle.clone());
    let batch = client.delete_message_batch().queue_url(&url).entries(entry.build().expect("complete"));
    assert_eq!(batch.send().await.expect("deleted").successful().len(), 1);
    assert_eq!(counts(&client, &url).await, ("0".to_owned(), "0".to_owned()));
    stack.stop().await;
}

#[tokio::test]
async fn an_invocation_that_failed_all_retries_has_its_record_and_its_event_in_queues() {
    let (stack, client) = start().await;
    let event = json!({"body": "throw"});
    assert_eq!(invoke(&stack, "Message", "Event", &event.to_string()).await.status, 202);

    let record = receive(&client, &url(&client, "records").await, 1).await.swap_remove(0);
    let record: Value = serde_json::from_str(record.body().expect("a body")).expect("JSON");
    assert_eq!((&record["requestPayload"], &record["responsePayload"]["errorType"]), (&event, &json!("Refused")));
    assert_eq!(record["requestContext"]["condition"], "RetriesExhausted");
    let letter = receive(&client, &url(&client, "Letters").await, 1).await.swap_remove(0);
    assert_eq!(serde_json::from_str::<Value>(letter.body().expect("a body")).expect("JSON"), event);
    stack.stop().await;
}
