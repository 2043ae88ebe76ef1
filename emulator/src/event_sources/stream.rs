//! Streams of tables.
//!
//! Source: Lambda developer guide, "Using AWS Lambda with Amazon DynamoDB".

use std::{sync::Arc, time::Duration};

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::{
    BATCH_BYTES_MAX, EventSourceSettings,
    answer::{BatchOutcome, outcome},
    passes,
};
use crate::{
    aws::arn,
    dynamodb::{STREAM_RETENTION as RETENTION, StreamReader, StreamRecord},
    lambda::{Work, new_request_id},
    template::EventSourceMapping,
};

/// Delays between retries: each is twice the one before, up to the last. The service does not say how long it waits.
const RETRY_DELAY_FIRST: Duration = Duration::from_secs(1);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

/// The id of the only shard of each stream, in the form of the service.
const SHARD: &str = "shardId-00000000000000000000-00000000";

type Batch = Vec<Arc<StreamRecord>>;

/// Reads a stream for ever. A batch that fails blocks those after it.
pub(super) async fn run(
    mapping: &EventSourceMapping,
    stream: &str,
    reader: &StreamReader,
    settings: &EventSourceSettings,
) {
    loop {
        reader.next(mapping.batch_max, BATCH_BYTES_MAX, mapping.window).await;
        // Read once more during a turn: a reset may just have cleared the stream.
        let turn = settings.functions.background.turn().await;
        let batch = reader.ready(mapping.batch_max, BATCH_BYTES_MAX);
        let work = settings.functions.background.begin();
        drop(turn);
        let last = batch.last().map(Arc::clone);
        let wanted: Batch = batch.into_iter().filter(|record| passes(&mapping.filters, &record.event)).collect();
        if !wanted.is_empty() {
            process(mapping, stream, wanted, &work, settings).await;
        }
        if let Some(last) = last {
            reader.advance(&last);
        }
    }
}

/// Invokes the function with a batch, and with what of it fails, until all of it is done or given up, or a reset drops
/// it.
async fn process(
    mapping: &EventSourceMapping,
    stream: &str,
    batch: Batch,
    work: &Work<'_>,
    settings: &EventSourceSettings,
) {
    // Each part of the batch, with the number of its retries, the last part first.
    let mut parts = vec![(batch, 0_u32)];
    let mut delay = RETRY_DELAY_FIRST;
    while let Some((mut part, retries)) = parts.pop() {
        let Some(turn) = work.turn().await else { return };
        let (now, age_max) = (settings.clock.now(), mapping.age_max.unwrap_or(RETENTION));
        let fresh = part.iter().position(|record| now.since(record.at) <= age_max).unwrap_or(part.len());
        let old: Batch = part.drain(..fresh).collect();
        give_up(mapping, stream, &old, &new_request_id(), retries, "RecordAgeExceeded", settings);
        if part.is_empty() {
            continue;
        }
        let events: Vec<&Value> = part.iter().map(|record| &record.event).collect();
        let payload = Bytes::from(json!({"Records": events}).to_string());
        let request_id = new_request_id();
        let answer = settings.functions.invoke_as(&request_id, &mapping.name, &mapping.function, payload).await;
        let ids: Vec<&str> = part.iter().map(|record| record.sequence.as_str()).collect();
        let first = match outcome(&answer, mapping.reports_failures, &ids) {
            BatchOutcome::Done => {
                delay = RETRY_DELAY_FIRST;
                continue;
            }
            BatchOutcome::AllFailed => 0,
            // What comes before the first failure is done.
            BatchOutcome::Failed(failed) => ids.iter().position(|id| failed.iter().any(|one| one == id)).unwrap_or(0),
        };
        part.drain(..first);
        if mapping.bisects && part.len() > 1 {
            // This does not count as a retry.
            let second = part.split_off(part.len().div_ceil(2));
            parts.push((second, retries));
            parts.push((part, retries));
        } else if mapping.retries_max.is_some_and(|max| retries >= max) {
            give_up(mapping, stream, &part, &request_id, retries + 1, "RetryAttemptsExhausted", settings);
            continue;
        } else {
            parts.push((part, retries + 1));
        }
        let wait = delay.div_f64(settings.time_scale);
        let name = &mapping.name;
        tracing::warn!(mapping = name, retries, after_s = wait.as_secs_f64(), "batch of a stream retried");
        drop(turn);
        if !work.sleep(wait).await {
            return;
        }
        delay = (delay * 2).min(RETRY_DELAY_MAX);
    }
}

/// Gives up a batch: its metadata go to the on-failure destination.
fn give_up(
    mapping: &EventSourceMapping,
    stream: &str,
    batch: &[Arc<StreamRecord>],
    request_id: &str,
    attempts: u32,
    condition: &str,
    settings: &EventSourceSettings,
) {
    let [first, ..] = batch else { return };
    let last = batch.last().unwrap_or(first);
    let (name, records) = (&mapping.name, batch.len());
    tracing::error!(mapping = name, records, attempts, condition, "batch of a stream given up");
    let Some(destination) = &mapping.on_failure else { return };
    let record = json!({
        "requestContext": {
            "requestId": request_id,
            "functionArn": arn("lambda", &format!("function:{}", mapping.function)),
            "condition": condition,
            "approximateInvokeCount": attempts,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": settings.clock.now().rfc3339(),
        "DDBStreamBatchInfo": {
            "shardId": SHARD,
            "startSequenceNumber": first.sequence,
            "endSequenceNumber": last.sequence,
            "approximateArrivalOfFirstRecord": first.at.rfc3339_secs(),
            "approximateArrivalOfLastRecord": last.at.rfc3339_secs(),
            "batchSize": records,
            "streamArn": stream,
        },
    })
    .to_string();
    if let Err(error) = settings.functions.deliver(destination, &record) {
        tracing::error!(mapping = name, destination, record, %error, "record of a given-up batch lost");
    }
}
