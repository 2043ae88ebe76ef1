//! SQS: the queues of the template behind the API that AWS clients speak (AWS JSON 1.0), with the operations to send,
//! receive, hide, delete and count messages.
//!
//! Source: SQS API reference, and the model of the service in the AWS SDKs.

mod batch;
mod errors;
mod message;
mod queue;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hyper::{Response, header::HOST};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    batch::{ENTRY_ID_CHARS_MAX, is_entry_id},
    message::{AttributeValue, MessageAttribute, NewMessage},
    queue::Queues,
};
use self::{
    batch::{batch, send_batch},
    errors::{error, invalid_parameter, missing_parameter, no_queue, no_receipt, too_long, unsupported},
    message::{digest, named},
    queue::{Queue, SendError},
};
use crate::{
    aws::arn,
    aws_json::{Protocol, ServiceError, Unreadable},
    aws_query::QueryInput,
    http::{Body, Request, is_secured},
};

/// Largest message, in bytes. Source: SQS quotas (1 MB since August 2025).
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Largest request, in bytes: a message with every character escaped, and the JSON around it.
const REQUEST_BYTES_MAX: usize = 6 * MESSAGE_BYTES_MAX + 64 * 1024;

/// Most messages in one response. Source: SQS.
const RECEIVED_MAX: i64 = 10;

/// Longest wait for a message, in seconds. Source: SQS.
const WAIT_SECS_MAX: i64 = 20;

/// Most attributes of a message. Source: SQS.
const ATTRIBUTES_MAX: usize = 10;

/// Longest delay, in seconds. Source: SQS.
const DELAY_SECS_MAX: i64 = 15 * 60;

/// Longest visibility timeout, in seconds. Source: SQS.
const VISIBILITY_SECS_MAX: i64 = 12 * 60 * 60;

/// The service's words for a message that a FIFO queue cannot tell from others.
const NO_DEDUPLICATION: &str =
    "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly";

/// Attributes of queues that a request may name. Source: SQS API reference, `GetQueueAttributes`.
const QUEUE_ATTRIBUTES: [&str; 22] = [
    "All",
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "ContentBasedDeduplication",
    "CreatedTimestamp",
    "DeduplicationScope",
    "DelaySeconds",
    "FifoQueue",
    "FifoThroughputLimit",
    "KmsDataKeyReusePeriodSeconds",
    "KmsMasterKeyId",
    "LastModifiedTimestamp",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "Policy",
    "QueueArn",
    "ReceiveMessageWaitTimeSeconds",
    "RedriveAllowPolicy",
    "RedrivePolicy",
    "SqsManagedSseEnabled",
    "VisibilityTimeout",
];

/// Attributes of messages that the service sets, which a request may name. Source: SQS API reference,
/// `ReceiveMessage`.
const SYSTEM_ATTRIBUTES: [&str; 10] = [
    "AWSTraceHeader",
    "All",
    "ApproximateFirstReceiveTimestamp",
    "ApproximateReceiveCount",
    "DeadLetterQueueSourceArn",
    "MessageDeduplicationId",
    "MessageGroupId",
    "SenderId",
    "SentTimestamp",
    "SequenceNumber",
];

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

/// Answers one request. A receiver that waits for a message gets none at `shutdown`.
pub(crate) async fn handle(queues: Arc<Queues>, request: Request, shutdown: CancellationToken) -> Response<Body> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = format!("{}://{host}", if is_secured(request.extensions()) { "https" } else { "http" });
    let perform = async |operation: &str, input: &[u8]| perform(&queues, &origin, operation, input, &shutdown).await;
    PROTOCOL.serve(request, perform).await
}

async fn perform(
    queues: &Queues,
    origin: &str,
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
            Ok(json!({"QueueUrl": queues.url(queue, origin)}))
        }
        "SendMessage" => send_message(queues, body),
        "SendMessageBatch" => send_batch(queues, body),
        "ReceiveMessage" => receive(queues, input(body)?, shutdown).await,
        "DeleteMessage" => {
            let queue_url: QueueUrl = input(body.clone())?;
            delete(of_url(queues, &queue_url.queue_url)?, body)
        }
        "DeleteMessageBatch" => batch(queues, body, delete),
        "ChangeMessageVisibility" => {
            let queue_url: QueueUrl = input(body.clone())?;
            change_visibility(of_url(queues, &queue_url.queue_url)?, body)
        }
        "ChangeMessageVisibilityBatch" => batch(queues, body, change_visibility),
        "GetQueueAttributes" => {
            let GetQueueAttributes { queue_url, attribute_names } = input(body)?;
            let attributes = attributes(of_url(queues, &queue_url)?);
            known_attributes(&attribute_names, &QUEUE_ATTRIBUTES)?;
            Ok(json!({"Attributes": named(attributes, &attribute_names)}))
        }
        "PurgeQueue" => {
            let QueueUrl { queue_url } = input(body)?;
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
    #[serde(flatten)]
    message: MessageInput,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MessageInput {
    #[serde(default)]
    message_body: String,
    delay_seconds: Option<i64>,
    #[serde(default)]
    message_attributes: BTreeMap<String, Value>,
    message_group_id: Option<String>,
    message_deduplication_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QueueUrl {
    queue_url: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ChangeVisibility {
    receipt_handle: String,
    visibility_timeout: i64,
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
    #[serde(default)]
    message_attribute_names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DeleteMessage {
    receipt_handle: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetQueueAttributes {
    queue_url: String,
    #[serde(default)]
    attribute_names: Vec<String>,
}

fn input<T: for<'de> Deserialize<'de>>(body: Value) -> Result<T, ServiceError> {
    serde_json::from_value(body).map_err(|error| invalid_parameter(error.to_string()))
}

/// The queue at a URL. Its name is the last segment; the host does not matter.
fn of_url<'a>(queues: &'a Queues, url: &str) -> Result<&'a Queue, ServiceError> {
    url.rsplit('/').next().and_then(|name| queues.get(name)).ok_or_else(no_queue)
}

/// Carries out `SendMessage`.
pub(crate) fn send_message(queues: &Queues, body: Value) -> Result<Value, ServiceError> {
    let SendMessage { queue_url, message } = input(body)?;
    let queue = of_url(queues, &queue_url)?;
    send(queues, queue, NewMessage::read(queue, message)?)
}

/// The input of `SendMessage` in a form of the query protocol. Source: SQS API reference, of that protocol.
pub(crate) fn message_of_form(form: &QueryInput) -> Value {
    let mut input = Map::new();
    for name in ["QueueUrl", "MessageBody", "MessageGroupId", "MessageDeduplicationId"] {
        input.extend(form.get(name).map(|text| (name.to_owned(), Value::from(text))));
    }
    let delay = form.get("DelaySeconds").map(|secs| secs.parse::<i64>().map_or_else(|_| secs.into(), Value::from));
    input.extend(delay.map(|delay| ("DelaySeconds".to_owned(), delay)));
    let attribute = |entry: &QueryInput| {
        let parts = ["DataType", "StringValue", "BinaryValue"];
        let parts =
            parts.into_iter().filter_map(|name| Some((name.to_owned(), entry.get(&format!("Value.{name}"))?.into())));
        Some((entry.get("Name")?.to_owned(), Value::Object(parts.collect())))
    };
    let attributes: Map<String, Value> = form.list("MessageAttribute").iter().filter_map(attribute).collect();
    input.insert("MessageAttributes".to_owned(), Value::Object(attributes));
    Value::Object(input)
}

fn send(queues: &Queues, queue: &Queue, message: NewMessage) -> Result<Value, ServiceError> {
    message.check(queue)?;
    let (body, attributes) = (digest(&message.body), message.digest_of_attributes());
    let sent = queues.send_message(&queue.settings.name, message).map_err(|refused| match refused {
        SendError::NoQueue => no_queue(),
        SendError::Full => error("com.amazonaws.sqs#OverLimit", "OverLimit;Sender", "The queue is full."),
    })?;
    let mut output = json!({"MessageId": sent.id, "MD5OfMessageBody": body});
    if let Some(digest) = attributes {
        output["MD5OfMessageAttributes"] = digest.into();
    }
    if let Some(sequence) = sent.sequence {
        output["SequenceNumber"] = sequence.into();
    }
    Ok(output)
}

impl NewMessage {
    /// The message of an input, if its parts are valid.
    fn read(queue: &Queue, input: MessageInput) -> Result<Self, ServiceError> {
        let attribute = |(name, value): (String, Value)| {
            let attribute = MessageAttribute::of_json(&value);
            let wrong = || invalid_parameter(format!("The message attribute '{name}' is invalid."));
            let attribute = attribute.ok_or_else(wrong)?;
            match attribute.problem(&name) {
                None => Ok((name, attribute)),
                Some(problem) => Err(invalid_parameter(problem)),
            }
        };
        if input.message_attributes.len() > ATTRIBUTES_MAX {
            let message = format!("Number of message attributes exceeds the limit of {ATTRIBUTES_MAX}.");
            return Err(invalid_parameter(message));
        }
        // A FIFO queue takes the delay 0 for none at all, and its own counts.
        let delay = input.delay_seconds.filter(|secs| *secs != 0 || !queue.settings.is_fifo);
        let delay = delay.map(|secs| within(secs, 0, DELAY_SECS_MAX, "DelaySeconds")).transpose()?;
        Ok(Self {
            body: input.message_body,
            attributes: input.message_attributes.into_iter().map(attribute).collect::<Result<_, _>>()?,
            group: input.message_group_id,
            deduplication: input.message_deduplication_id,
            delay: delay.map(Duration::from_secs),
        })
    }

    /// Refuses a message that its queue does not accept.
    fn check(&self, queue: &Queue) -> Result<(), ServiceError> {
        if self.body.is_empty() {
            return Err(missing_parameter("MessageBody"));
        }
        if let Some(character) = invalid_character(&self.body) {
            let message = format!(
                "Invalid binary character '#x{:X}' was found in the message body, the set of allowed characters is \
                 #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF",
                u32::from(character)
            );
            return Err(error("com.amazonaws.sqs#InvalidMessageContents", "InvalidMessageContents;Sender", message));
        }
        if self.bytes() > MESSAGE_BYTES_MAX {
            return Err(invalid_parameter(too_long()));
        }
        if queue.settings.is_fifo {
            if self.group.is_none() {
                return Err(missing_parameter("MessageGroupId"));
            }
            if self.deduplication.is_none() && !queue.settings.deduplicates_content {
                return Err(invalid_parameter(NO_DEDUPLICATION));
            }
            if let Some(delay) = self.delay {
                return Err(invalid_parameter(format!(
                    "Value {} for parameter DelaySeconds is invalid. Reason: The request include parameter that is \
                     not valid for this queue type.",
                    delay.as_secs()
                )));
            }
        }
        Ok(())
    }
}

fn delete(queue: &Queue, input: Value) -> Result<Value, ServiceError> {
    let DeleteMessage { receipt_handle } = self::input(input)?;
    queue.delete(&receipt_handle).map(|()| json!({})).ok_or_else(|| no_receipt(&receipt_handle))
}

fn change_visibility(queue: &Queue, input: Value) -> Result<Value, ServiceError> {
    let ChangeVisibility { receipt_handle, visibility_timeout } = self::input(input)?;
    let secs = within(visibility_timeout, 0, VISIBILITY_SECS_MAX, "VisibilityTimeout")?;
    let changed = queue.change_visibility(&receipt_handle, Duration::from_secs(secs));
    changed.map(|()| json!({})).ok_or_else(|| no_receipt(&receipt_handle))
}

/// Refuses attributes that the service does not know.
fn known_attributes(names: &[String], known: &[&str]) -> Result<(), ServiceError> {
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let kind = "com.amazonaws.sqs#InvalidAttributeName";
            Err(error(kind, "InvalidAttributeName;Sender", format!("Unknown Attribute {name}.")))
        }
    }
}

/// Returns a character of a body that the service does not take. Source: SQS API reference, `SendMessage`.
fn invalid_character(body: &str) -> Option<char> {
    body.chars().find(|character| match character {
        '\t' | '\n' | '\r' => false,
        character => *character < ' ' || matches!(character, '\u{fffe}' | '\u{ffff}'),
    })
}

async fn receive(queues: &Queues, asked: ReceiveMessage, shutdown: &CancellationToken) -> Result<Value, ServiceError> {
    let queue = of_url(queues, &asked.queue_url)?;
    let max = within(asked.max_number_of_messages.unwrap_or(1), 1, RECEIVED_MAX, "MaxNumberOfMessages")?;
    let system = [asked.attribute_names, asked.message_system_attribute_names].concat();
    known_attributes(&system, &SYSTEM_ATTRIBUTES)?;
    let secs = |asked: Option<i64>, max: i64, name: &str, default: Duration| match asked {
        None => Ok(default),
        Some(secs) => within(secs, 0, max, name).map(Duration::from_secs),
    };
    let visibility =
        secs(asked.visibility_timeout, VISIBILITY_SECS_MAX, "VisibilityTimeout", queue.settings.visibility)?;
    let wait = secs(asked.wait_time_seconds, WAIT_SECS_MAX, "WaitTimeSeconds", queue.settings.wait)?;
    // At most ten, so the cast loses nothing.
    let received = queues.receive(queue, max as usize, usize::MAX, visibility, wait);
    let received = shutdown.run_until_cancelled(received).await.unwrap_or_default();
    let names = &asked.message_attribute_names;
    let messages: Vec<Value> = received.iter().map(|message| message.to_json(&system, names)).collect();
    // The service leaves the list out if it is empty.
    Ok(if messages.is_empty() { json!({}) } else { json!({"Messages": messages}) })
}

fn within(value: i64, min: i64, max: i64, name: &str) -> Result<u64, ServiceError> {
    let refusal = || {
        // The service has other words for the parameter that it added later.
        let bounds = if name == "WaitTimeSeconds" {
            format!(">= {min} and <= {max}")
        } else {
            format!("between {min} and {max}")
        };
        invalid_parameter(format!(
            "Value {value} for parameter {name} is invalid. Reason: Must be {bounds}, if provided."
        ))
    };
    u64::try_from(value).ok().filter(|_| (min..=max).contains(&value)).ok_or_else(refusal)
}

fn attributes(queue: &Queue) -> Vec<(&'static str, String)> {
    let counts = queue.counts();
    let mut attributes = vec![
        ("ApproximateNumberOfMessages", counts.visible.to_string()),
        ("ApproximateNumberOfMessagesDelayed", counts.delayed.to_string()),
        ("ApproximateNumberOfMessagesNotVisible", counts.not_visible.to_string()),
        ("DelaySeconds", queue.settings.delay.as_secs().to_string()),
        ("QueueArn", arn("sqs", &queue.settings.name)),
        ("ReceiveMessageWaitTimeSeconds", queue.settings.wait.as_secs().to_string()),
        ("VisibilityTimeout", queue.settings.visibility.as_secs().to_string()),
    ];
    if let Some((letters, max)) = &queue.settings.redrive {
        let policy = json!({"deadLetterTargetArn": arn("sqs", letters), "maxReceiveCount": max});
        attributes.push(("RedrivePolicy", policy.to_string()));
    }
    if queue.settings.is_fifo {
        attributes.push(("FifoQueue", "true".to_owned()));
        attributes.push(("ContentBasedDeduplication", queue.settings.deduplicates_content.to_string()));
    }
    attributes
}
