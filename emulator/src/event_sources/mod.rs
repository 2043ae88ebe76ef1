//! Event source mappings: Lambda polls streams and queues, and invokes functions with batches of what it finds.
//!
//! Source: Lambda developer guide, "How Lambda processes records from stream and queue-based event sources".

mod answer;
mod queue;
mod stream;

use std::sync::Arc;

use clock::Clock;
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    dynamodb::Store,
    json,
    lambda::Functions,
    sqs::Queues,
    template::{EventFilter, EventSource, EventSourceMapping},
};

/// Most bytes of a batch, which leave some of the payload of an invocation for its envelope. Source: Lambda quotas,
/// 6 MB.
const BATCH_BYTES_MAX: usize = 5 * 1024 * 1024;

/// What mappings read from and invoke.
#[derive(Clone, Debug)]
pub(crate) struct EventSourceSettings {
    pub(crate) store: Arc<Store>,
    pub(crate) queues: Arc<Queues>,
    pub(crate) functions: Arc<Functions>,
    pub(crate) clock: Clock,
    /// Divides the delays between retries.
    pub(crate) time_scale: f64,
}

/// Runs all mappings until `shutdown`. A batch whose function runs then is neither retried nor reported.
pub(crate) fn run(
    mappings: Vec<EventSourceMapping>,
    settings: &EventSourceSettings,
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
) {
    for mapping in mappings {
        let mapping = Arc::new(mapping);
        match &mapping.source {
            EventSource::Stream(table) => {
                let Some(log) = settings.store.stream(table) else { continue };
                let (reader, settings, shutdown) = (log.reader(), settings.clone(), shutdown.clone());
                let arn = log.arn().to_owned();
                let mapping = Arc::clone(&mapping);
                tasks.spawn(async move {
                    shutdown.run_until_cancelled(stream::run(&mapping, &arn, &reader, &settings)).await;
                });
            }
            EventSource::Queue(_) => {
                for _ in 0..mapping.concurrency {
                    let (mapping, settings, shutdown) = (Arc::clone(&mapping), settings.clone(), shutdown.clone());
                    tasks.spawn(async move {
                        shutdown.run_until_cancelled(queue::run(&mapping, &settings)).await;
                    });
                }
            }
        }
    }
}

/// Whether an event passes the filters of a mapping.
fn passes(filters: &[EventFilter], event: &Value) -> bool {
    let matches = |filter: &EventFilter| {
        if !filter.reads_body {
            return filter.pattern.matches(event);
        }
        let body = event.get("body").and_then(Value::as_str).and_then(json::read);
        let Some(body) = body else { return false };
        let mut event = event.clone();
        event["body"] = body;
        filter.pattern.matches(&event)
    };
    filters.is_empty() || filters.iter().any(matches)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::template::EventPattern;

    #[test]
    fn a_filter_sees_the_record_or_into_its_body() {
        let filter = |pattern: Value| EventFilter {
            reads_body: pattern["body"].is_object(),
            pattern: EventPattern::parse(&pattern).expect("valid"),
        };
        let into = [filter(json!({"body": {"a": [1]}})), filter(json!({"body": {"a": [2]}}))];
        assert!(passes(&into, &json!({"body": "{\"a\": 2}"})));
        assert!(passes(&into, &json!({"body": r#"{"a": 2, "text": "\ud83d", "n": 1e400}"#})));
        assert!(!passes(&into, &json!({"body": "{\"a\": 3}"})) && !passes(&into, &json!({"body": "text"})));
        let whole = [filter(json!({"body": ["text"]}))];
        assert!(passes(&whole, &json!({"body": "text"})) && !passes(&whole, &json!({"body": "other"})));
        assert!(passes(&[], &json!({})));
    }
}
