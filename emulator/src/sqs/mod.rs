//! SQS: the queues of the template behind the API that AWS clients speak (AWS JSON 1.0), with the operations to send,
//! receive, delete and count messages.
//!
//! Source: SQS API reference, and the model of the service in the AWS SDKs.

mod queue;

use std::{sync::Arc, time::Duration};

use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) use self::queue::Queues;
use self::queue::{Queue, ReceivedMessage};
use crate::{
    aws::arn,
    aws_json::{Protocol, ServiceError, Unreadable},
    http::{Body, Request},
};

/// Largest message, in bytes. Source: SQS quotas (1 MB since August 2025).
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Largest request, in bytes: a message with every character escaped, and the JSON around it.
const REQUEST_BYTES_MAX: usize = 6 * MESSAGE_BYTES_MAX + 64 * 1024;

/// Most messages in one response. Source: SQS.
const RECEIVED_MAX: i64 = 10;

/// Longest wait for a message, in seconds. Source: SQS.
const WAIT_SECS_MAX: i64 = 20;

/// Longest visibility timeout, in seconds. Source: SQS.
const VISIBILITY_SECS_MAX: i64 = 12 * 60 * 60;

/// How SQS speaks.
const PROTOCOL: Protocol = Protocol {
    media_type: "application/x-amz-json-1.0",
    target_prefix: "AmazonSQS.",
    operations: &[],
    request_bytes_max: REQUEST_BYTES_MAX,
    unreadable: |request| match request {
        Unreadable::Target(_) => {
            unsupported("expected a call of SQS in AWS JSON 1.0: POST with X-Amz-Target: AmazonSQS.{operation}")
        }
        Unreadable::TooLarge => invalid_parameter(too_long()),
    },
};

fn error(kind: &'static str, query_code: &'static str, message: impl Into<String>) -> ServiceError {
    ServiceError { query_code: Some(query_code), ..ServiceError::new(kind, message) }
}

fn no_queue() -> ServiceError {
    error(
        "com.amazonaws.sqs#QueueDoesNotExist",
        "AWS.SimpleQueueService.NonExistentQueue;Sender",
        "The specified queue does not exist.",
    )
}

fn no_receipt(receipt: &str) -> ServiceError {
    let message = format!("The input receipt handle \"{receipt}\" is not a valid receipt handle.");
    let error = error("com.amazonaws.sqs#ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid;Sender", message);
    ServiceError { status: StatusCode::NOT_FOUND, ..error }
}

fn invalid_parameter(message: impl Into<String>) -> ServiceError {
    error("com.amazon.coral.service#InvalidParameterValueException", "InvalidParameterValue;Sender", message)
}

fn unsupported(message: impl Into<String>) -> ServiceError {
    error("com.amazonaws.sqs#UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation;Sender", message)
}

/// Answers one request. A receiver that waits for a message gets none at `shutdown`.
pub(crate) async fn handle(queues: Arc<Queues>, request: Request, shutdown: CancellationToken) -> Response<Body> {
    let perform = async |operation: &str, input: &[u8]| perform(&queues, operation, input, &shutdown).await;
    PROTOCOL.serve(request, perform).await
}

async fn perform(
    queues: &Queues,
    operation: &str,
    body: &[u8],
    shutdown: &CancellationToken,
) -> Result<Value, ServiceError> {
    let body: Value =
        serde_json::from_slice(body).map_err(|error| invalid_parameter(format!("invalid JSON: {error}")))?;
    match operation {
        "GetQueueUrl" => {
            let GetQueueUrl { queue_name } = input(body)?;
            let queue = queues.get(&queue_name).ok_or_else(no_queue)?;
            Ok(json!({"QueueUrl": queues.url(queue)}))
        }
        "SendMessage" => send(queues, input(body)?),
        "ReceiveMessage" => receive(queues, input(body)?, shutdown).await,
        "DeleteMessage" => {
            let DeleteMessage { queue_url, receipt_handle } = input(body)?;
            let deleted = of_url(queues, &queue_url)?.delete(&receipt_handle);
            deleted.map(|()| json!({})).ok_or_else(|| no_receipt(&receipt_handle))
        }
        "GetQueueAttributes" => {
            let GetQueueAttributes { queue_url, attribute_names } = input(body)?;
            let attributes = attributes(of_url(queues, &queue_url)?);
            Ok(json!({"Attributes": named(attributes, &attribute_names)}))
        }
        "PurgeQueue" => {
            let PurgeQueue { queue_url } = input(body)?;
            of_url(queues, &queue_url)?.purge();
            Ok(json!({}))
        }
        other => Err(unsupported(format!("the emulator does not support {other}"))),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetQueueUrl {
    queue_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendMessage {
    queue_url: String,
    message_body: String,
    #[serde(default)]
    delay_seconds: i64,
    #[serde(default)]
    message_attributes: Map<String, Value>,
    message_group_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ReceiveMessage {
    queue_url: String,
    max_number_of_messages: Option<i64>,
    visibility_timeout: Option<i64>,
    wait_time_seconds: Option<i64>,
    #[serde(default)]
    attribute_names: Vec<String>,
    #[serde(default)]
    message_system_attribute_names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DeleteMessage {
    queue_url: String,
    receipt_handle: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetQueueAttributes {
    queue_url: String,
    #[serde(default)]
    attribute_names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PurgeQueue {
    queue_url: String,
}

fn input<T: for<'de> Deserialize<'de>>(body: Value) -> Result<T, ServiceError> {
    serde_json::from_value(body).map_err(|error| invalid_parameter(error.to_string()))
}

/// The queue at a URL. Its name is the last segment; the host does not matter.
fn of_url<'a>(queues: &'a Queues, url: &str) -> Result<&'a Queue, ServiceError> {
    url.rsplit('/').next().and_then(|name| queues.get(name)).ok_or_else(no_queue)
}

fn too_long() -> String {
    format!("One or more parameters are invalid. Reason: Message must be shorter than {MESSAGE_BYTES_MAX} bytes.")
}

fn send(queues: &Queues, message: SendMessage) -> Result<Value, ServiceError> {
    let queue = of_url(queues, &message.queue_url)?;
    if message.message_body.is_empty() || message.message_body.len() > MESSAGE_BYTES_MAX {
        return Err(invalid_parameter(too_long()));
    }
    if message.delay_seconds != 0 || !message.message_attributes.is_empty() || message.message_group_id.is_some() {
        return Err(unsupported("the emulator does not support delays, groups and attributes of messages"));
    }
    let digest = digest(&message.message_body);
    let id = queues.send(&queue.settings.name, message.message_body).ok_or_else(no_queue)?;
    Ok(json!({"MessageId": id, "MD5OfMessageBody": digest}))
}

async fn receive(queues: &Queues, asked: ReceiveMessage, shutdown: &CancellationToken) -> Result<Value, ServiceError> {
    let queue = of_url(queues, &asked.queue_url)?;
    let max = within(asked.max_number_of_messages.unwrap_or(1), 1, RECEIVED_MAX, "MaxNumberOfMessages")?;
    let secs = |asked: Option<i64>, max: i64, name: &str, default: Duration| match asked {
        None => Ok(default),
        Some(secs) => within(secs, 0, max, name).map(Duration::from_secs),
    };
    let visibility =
        secs(asked.visibility_timeout, VISIBILITY_SECS_MAX, "VisibilityTimeout", queue.settings.visibility)?;
    let wait = secs(asked.wait_time_seconds, WAIT_SECS_MAX, "WaitTimeSeconds", queue.settings.wait)?;
    // At most ten, so the cast loses nothing.
    let received = queue.receive(max as usize, visibility, wait, queues);
    let received = shutdown.run_until_cancelled(received).await.unwrap_or_default();
    let names = [asked.attribute_names, asked.message_system_attribute_names].concat();
    let messages: Vec<Value> = received.iter().map(|message| message_as_json(message, &names)).collect();
    // The service leaves the list out if it is empty.
    Ok(if messages.is_empty() { json!({}) } else { json!({"Messages": messages}) })
}

fn within(value: i64, min: i64, max: i64, name: &str) -> Result<u64, ServiceError> {
    let refusal = || {
        invalid_parameter(format!(
            "Value {value} for parameter {name} is invalid. Reason: Must be between {min} and {max}, if provided."
        ))
    };
    u64::try_from(value).ok().filter(|_| (min..=max).contains(&value)).ok_or_else(refusal)
}

fn message_as_json(message: &ReceivedMessage, names: &[String]) -> Value {
    let attributes = [
        ("ApproximateFirstReceiveTimestamp", message.first_received_at.millis().to_string()),
        ("ApproximateReceiveCount", message.receives.to_string()),
        ("SentTimestamp", message.sent_at.millis().to_string()),
    ];
    let mut json = json!({
        "MessageId": message.id,
        "ReceiptHandle": message.receipt,
        "MD5OfBody": digest(&message.body),
        "Body": message.body,
    });
    let attributes = named(attributes.to_vec(), names);
    if !attributes.is_empty() {
        json["Attributes"] = attributes.into();
    }
    json
}

fn attributes(queue: &Queue) -> Vec<(&'static str, String)> {
    let counts = queue.counts();
    vec![
        ("ApproximateNumberOfMessages", counts.visible.to_string()),
        ("ApproximateNumberOfMessagesNotVisible", counts.not_visible.to_string()),
        ("QueueArn", arn("sqs", &queue.settings.name)),
        ("ReceiveMessageWaitTimeSeconds", queue.settings.wait.as_secs().to_string()),
        ("VisibilityTimeout", queue.settings.visibility.as_secs().to_string()),
    ]
}

/// The attributes that the request names, or all of them for `All`.
fn named(attributes: Vec<(&'static str, String)>, names: &[String]) -> Map<String, Value> {
    let asked_for = |name: &str| names.iter().any(|asked| asked == name || asked == "All");
    let attributes = attributes.into_iter().filter(|(name, _)| asked_for(name));
    attributes.map(|(name, value)| (name.to_owned(), value.into())).collect()
}

/// The digest with which clients check a body.
fn digest(body: &str) -> String {
    format!("{:x}", md5::compute(body))
}
