//! SQS: the queues of the template behind the API that AWS clients speak (AWS JSON 1.0). As much as it takes to put in, read,
//! delete and count.
//!
//! Source: SQS API reference, and the model of the service in the AWS SDKs.

mod queue;

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Response, StatusCode,
    header::{HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) use self::queue::Queues;
use self::queue::{Queue, Received};
use crate::{
    aws::arn,
    http::{Body, Request, response},
};

/// Largest message, in bytes. Source: SQS quotas (1 MB since August 2025).
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Largest request, in bytes: a message each of whose characters is escaped, and what is around it.
const REQUEST_BYTES_MAX: usize = 6 * MESSAGE_BYTES_MAX + 64 * 1024;

/// Messages in one answer. Source: SQS.
const RECEIVED_MAX: i64 = 10;

/// Longest time that one waits for a message, in seconds. Source: SQS.
const WAIT_SECS_MAX: i64 = 20;

/// Longest time that a message is hidden, in seconds. Source: SQS.
const VISIBILITY_SECS_MAX: i64 = 12 * 60 * 60;

/// What is refused, in the words of the service.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    /// Its name in the model, which clients read from the body.
    kind: &'static str,
    /// Its name from before the service spoke JSON, which some clients go by.
    query_code: &'static str,
    message: String,
}

impl Refusal {
    fn no_queue() -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "com.amazonaws.sqs#QueueDoesNotExist",
            query_code: "AWS.SimpleQueueService.NonExistentQueue;Sender",
            message: "The specified queue does not exist.".to_owned(),
        }
    }

    fn no_receipt(receipt: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            kind: "com.amazonaws.sqs#ReceiptHandleIsInvalid",
            query_code: "ReceiptHandleIsInvalid;Sender",
            message: format!("The input receipt handle \"{receipt}\" is not a valid receipt handle."),
        }
    }

    fn parameter(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "com.amazon.coral.service#InvalidParameterValueException",
            query_code: "InvalidParameterValue;Sender",
            message: message.into(),
        }
    }

    fn unsupported(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "com.amazonaws.sqs#UnsupportedOperation",
            query_code: "AWS.SimpleQueueService.UnsupportedOperation;Sender",
            message: message.into(),
        }
    }
}

/// Answers one request. Whoever waits for a message goes away empty-handed at `shutdown`.
pub(crate) async fn handle(queues: Arc<Queues>, request: Request, shutdown: CancellationToken) -> Response<Body> {
    let answer = match read(request).await {
        Ok((operation, body)) => perform(&queues, &operation, body, &shutdown).await,
        Err(refusal) => Err(refusal),
    };
    let (status, body, query_code) = match answer {
        Ok(body) => (StatusCode::OK, body, None),
        Err(Refusal { status, kind, query_code, message }) => {
            (status, json!({"__type": kind, "message": message}), Some(query_code))
        }
    };
    let mut response = response(status, "application/x-amz-json-1.0", body.to_string());
    if let Some(code) = query_code {
        response.headers_mut().insert(HeaderName::from_static("x-amzn-query-error"), HeaderValue::from_static(code));
    }
    response
}

/// The name of the operation and its input.
async fn read(request: Request) -> Result<(String, Value), Refusal> {
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
    let operation = target.and_then(|target| target.strip_prefix("AmazonSQS.")).map(str::to_owned);
    let operation = operation.ok_or_else(|| {
        Refusal::unsupported("this is SQS in AWS JSON 1.0: POST with X-Amz-Target: AmazonSQS.{operation}")
    })?;
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect().await;
    let body = body.map_err(|_| Refusal::parameter(too_long()))?.to_bytes();
    let body = serde_json::from_slice(&body).map_err(|error| Refusal::parameter(format!("no JSON: {error}")))?;
    Ok((operation, body))
}

async fn perform(
    queues: &Queues,
    operation: &str,
    body: Value,
    shutdown: &CancellationToken,
) -> Result<Value, Refusal> {
    match operation {
        "GetQueueUrl" => {
            let GetQueueUrl { queue_name } = input(body)?;
            let queue = queues.get(&queue_name).ok_or_else(Refusal::no_queue)?;
            Ok(json!({"QueueUrl": queues.url(queue)}))
        }
        "SendMessage" => send(queues, input(body)?),
        "ReceiveMessage" => receive(queues, input(body)?, shutdown).await,
        "DeleteMessage" => {
            let DeleteMessage { queue_url, receipt_handle } = input(body)?;
            let deleted = of_url(queues, &queue_url)?.delete(&receipt_handle);
            deleted.map(|()| json!({})).ok_or_else(|| Refusal::no_receipt(&receipt_handle))
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
        other => Err(Refusal::unsupported(format!("{other} is not there locally"))),
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

fn input<T: for<'de> Deserialize<'de>>(body: Value) -> Result<T, Refusal> {
    serde_json::from_value(body).map_err(|error| Refusal::parameter(error.to_string()))
}

/// The queue at a URL: its name is the last part, whatever host is before it.
fn of_url<'a>(queues: &'a Queues, url: &str) -> Result<&'a Queue, Refusal> {
    url.rsplit('/').next().and_then(|name| queues.get(name)).ok_or_else(Refusal::no_queue)
}

fn too_long() -> String {
    format!("One or more parameters are invalid. Reason: Message must be shorter than {MESSAGE_BYTES_MAX} bytes.")
}

fn send(queues: &Queues, message: SendMessage) -> Result<Value, Refusal> {
    let queue = of_url(queues, &message.queue_url)?;
    if message.message_body.is_empty() || message.message_body.len() > MESSAGE_BYTES_MAX {
        return Err(Refusal::parameter(too_long()));
    }
    if message.delay_seconds != 0 || !message.message_attributes.is_empty() || message.message_group_id.is_some() {
        return Err(Refusal::unsupported("messages are not delayed, grouped or given attributes locally"));
    }
    let digest = digest(&message.message_body);
    let id = queues.send(&queue.settings.name, message.message_body).ok_or_else(Refusal::no_queue)?;
    Ok(json!({"MessageId": id, "MD5OfMessageBody": digest}))
}

async fn receive(queues: &Queues, asked: ReceiveMessage, shutdown: &CancellationToken) -> Result<Value, Refusal> {
    let queue = of_url(queues, &asked.queue_url)?;
    let max = within(asked.max_number_of_messages.unwrap_or(1), 1, RECEIVED_MAX, "MaxNumberOfMessages")?;
    let secs = |asked: Option<i64>, max: i64, name: &str, default: Duration| match asked {
        None => Ok(default),
        Some(secs) => within(secs, 0, max, name).map(Duration::from_secs),
    };
    let visibility =
        secs(asked.visibility_timeout, VISIBILITY_SECS_MAX, "VisibilityTimeout", queue.settings.visibility)?;
    let wait = secs(asked.wait_time_seconds, WAIT_SECS_MAX, "WaitTimeSeconds", queue.settings.wait)?;
    // At most ten, so nothing is cut off.
    let received = queue.receive(max as usize, visibility, wait, queues);
    let received = shutdown.run_until_cancelled(received).await.unwrap_or_default();
    let names = [asked.attribute_names, asked.message_system_attribute_names].concat();
    let messages: Vec<Value> = received.iter().map(|message| message_as_json(message, &names)).collect();
    // Absent where there are none, as in the service.
    Ok(if messages.is_empty() { json!({}) } else { json!({"Messages": messages}) })
}

fn within(value: i64, min: i64, max: i64, name: &str) -> Result<u64, Refusal> {
    let refusal = || {
        Refusal::parameter(format!(
            "Value {value} for parameter {name} is invalid. Reason: Must be between {min} and {max}, if provided."
        ))
    };
    u64::try_from(value).ok().filter(|_| (min..=max).contains(&value)).ok_or_else(refusal)
}

fn message_as_json(message: &Received, names: &[String]) -> Value {
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

/// Those that were asked for by name, or by `All`.
fn named(attributes: Vec<(&'static str, String)>, names: &[String]) -> Map<String, Value> {
    let asked_for = |name: &str| names.iter().any(|asked| asked == name || asked == "All");
    let attributes = attributes.into_iter().filter(|(name, _)| asked_for(name));
    attributes.map(|(name, value)| (name.to_owned(), value.into())).collect()
}

/// What clients check a body with.
fn digest(body: &str) -> String {
    format!("{:x}", md5::compute(body))
}
