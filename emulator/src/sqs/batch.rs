//! Batches of messages to send, hide or delete.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    MESSAGE_BYTES_MAX, NO_DEDUPLICATION, NewMessage, Queues,
    errors::{error, invalid_parameter, missing_parameter},
    input as input_of, of_url,
    queue::Queue,
    send,
};
use crate::aws_json::ServiceError;

/// Most messages of one batch. Source: SQS.
const BATCH_MAX: usize = 10;

/// Longest id of an entry of a batch, in characters. Source: SQS.
pub(crate) const ENTRY_ID_CHARS_MAX: usize = 80;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchEntry {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchInput {
    queue_url: String,
    entries: Vec<Value>,
}

/// Returns whether a text can be the id of an entry of a batch, also of SNS.
pub(crate) fn is_entry_id(id: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=ENTRY_ID_CHARS_MAX).contains(&id.len()) && id.bytes().all(is_known)
}

/// Carries out `SendMessageBatch`.
pub(super) fn send_batch(queues: &Queues, input: Value) -> Result<Value, ServiceError> {
    let Batch { queue, ids, entries } = Batch::read(queues, input)?;
    let read = |entry| input_of(entry).and_then(|message| NewMessage::read(queue, message));
    let messages: Vec<Result<NewMessage, ServiceError>> = entries.into_iter().map(read).collect();
    let bytes: usize = messages.iter().flatten().map(NewMessage::bytes).sum();
    if bytes > MESSAGE_BYTES_MAX {
        let code = "AWS.SimpleQueueService.BatchRequestTooLong;Sender";
        let message =
            format!("Batch requests cannot be longer than {MESSAGE_BYTES_MAX} bytes. You have sent {bytes} bytes.");
        return Err(error("com.amazonaws.sqs#BatchRequestTooLong", code, message));
    }
    are_distinct(&ids)?;
    // One message without what a FIFO queue wants of each refuses all of them.
    let settings = &queue.settings;
    let mut read = messages.iter().flatten().filter(|_| settings.is_fifo);
    if read.clone().any(|message| message.group.is_none()) {
        return Err(invalid_parameter(missing_parameter("MessageGroupId").message));
    }
    if read.any(|message| message.deduplication.is_none() && !settings.deduplicates_content) {
        return Err(invalid_parameter(NO_DEDUPLICATION));
    }
    Ok(outcomes(ids, messages.into_iter().map(|message| send(queues, queue, message?))))
}

/// Carries out each entry of a batch by itself, if the batch is valid as a whole.
pub(super) fn batch(
    queues: &Queues,
    input: Value,
    perform: impl Fn(&Queue, Value) -> Result<Value, ServiceError>,
) -> Result<Value, ServiceError> {
    let Batch { queue, ids, entries } = Batch::read(queues, input)?;
    are_distinct(&ids)?;
    Ok(outcomes(ids, entries.into_iter().map(|entry| perform(queue, entry))))
}

/// The entries of a batch, with their ids.
struct Batch<'a> {
    queue: &'a Queue,
    ids: Vec<String>,
    entries: Vec<Value>,
}

impl<'a> Batch<'a> {
    fn read(queues: &'a Queues, input: Value) -> Result<Self, ServiceError> {
        let BatchInput { queue_url, entries } = input_of(input)?;
        let queue = of_url(queues, &queue_url)?;
        let id = |entry: &Value| input_of(entry.clone()).map(|BatchEntry { id }| id);
        let ids: Vec<String> = entries.iter().map(id).collect::<Result<_, _>>()?;
        if ids.is_empty() {
            let code = "AWS.SimpleQueueService.EmptyBatchRequest;Sender";
            let message = "There should be at least one entry in the request.";
            return Err(error("com.amazonaws.sqs#EmptyBatchRequest", code, message));
        }
        if ids.len() > BATCH_MAX {
            let code = "AWS.SimpleQueueService.TooManyEntriesInBatchRequest;Sender";
            let message =
                format!("Maximum number of entries per request are {BATCH_MAX}. You have sent {}.", ids.len());
            return Err(error("com.amazonaws.sqs#TooManyEntriesInBatchRequest", code, message));
        }
        if !ids.iter().all(|id| is_entry_id(id)) {
            let code = "AWS.SimpleQueueService.InvalidBatchEntryId;Sender";
            let message = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can \
                           be at most 80 letters long.";
            return Err(error("com.amazonaws.sqs#InvalidBatchEntryId", code, message));
        }
        Ok(Self { queue, ids, entries })
    }
}

/// Refuses a batch with an id that is there twice.
fn are_distinct(ids: &[String]) -> Result<(), ServiceError> {
    match ids.iter().enumerate().find(|(at, id)| ids[..*at].contains(id)) {
        None => Ok(()),
        Some((_, id)) => {
            let code = "AWS.SimpleQueueService.BatchEntryIdsNotDistinct;Sender";
            Err(error("com.amazonaws.sqs#BatchEntryIdsNotDistinct", code, format!("Id {id} repeated.")))
        }
    }
}

/// The response to a batch: what became of each entry.
fn outcomes(ids: Vec<String>, outcomes: impl Iterator<Item = Result<Value, ServiceError>>) -> Value {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for (id, outcome) in ids.into_iter().zip(outcomes) {
        match outcome {
            Ok(mut output) => {
                output["Id"] = id.into();
                done.push(output);
            }
            Err(error) => {
                let code = error.query_code.and_then(|code| code.split(';').next()).unwrap_or(error.kind);
                failed.push(json!({"Id": id, "SenderFault": true, "Code": code, "Message": error.message}));
            }
        }
    }
    json!({"Successful": done, "Failed": failed})
}
