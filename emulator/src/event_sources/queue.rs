//! Queues.
//!
//! Source: Lambda developer guide, "Using Lambda with Amazon SQS".

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::{
    BATCH_BYTES_MAX, EventSourceSettings,
    answer::{BatchOutcome, outcome},
    passes,
};
use crate::template::{EventSource, EventSourceMapping};

/// Reads a queue for ever. What fails comes back when its visibility timeout ends.
pub(super) async fn run(mapping: &EventSourceMapping, settings: &EventSourceSettings) {
    let EventSource::Queue(queue) = &mapping.source else { return };
    loop {
        let Some(batch) = settings.queues.poll(queue, mapping.batch_max, BATCH_BYTES_MAX, mapping.window).await else {
            return;
        };
        // What a reset has removed meanwhile is not there any more.
        let _turn = settings.functions.background.turn().await;
        let batch = batch.into_iter().filter(|(receipt, _)| settings.queues.holds(queue, receipt));
        let (wanted, others): (Vec<_>, Vec<_>) = batch.partition(|(_, event)| passes(&mapping.filters, event));
        others.iter().for_each(|(receipt, _)| settings.queues.delete(queue, receipt));
        if wanted.is_empty() {
            continue;
        }
        let (receipts, events): (Vec<String>, Vec<Value>) = wanted.into_iter().unzip();
        let payload = Bytes::from(json!({"Records": events}).to_string());
        let answer = settings.functions.invoke(&mapping.function, payload).await;
        let ids: Vec<&str> = events.iter().filter_map(|event| event["messageId"].as_str()).collect();
        let failed = match outcome(&answer, mapping.reports_failures, &ids) {
            BatchOutcome::Done => Vec::new(),
            BatchOutcome::Failed(failed) => failed,
            BatchOutcome::AllFailed => ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        if !failed.is_empty() {
            let (name, failed) = (&mapping.name, failed.len());
            tracing::warn!(mapping = name, failed, "messages of a queue not processed; they come back");
        }
        for (id, receipt) in ids.iter().zip(&receipts) {
            if !failed.iter().any(|failed| failed == id) {
                settings.queues.delete(queue, receipt);
            }
        }
    }
}
