//! Queues.
//!
//! Source: Lambda developer guide, "Using Lambda with Amazon SQS".

use std::time::Duration;

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::{
    BATCH_BYTES_MAX, EventSourceSettings,
    answer::{BatchOutcome, outcome},
    passes,
};
use crate::template::{EventSource, EventSourceMapping};

/// Pauses before the next batch after one that failed: each is twice the one before, up to the last, until a batch
/// succeeds. The service reduces its concurrency instead, and does not say how far.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Reads a queue for ever. What fails comes back when its visibility timeout ends.
pub(super) async fn run(mapping: &EventSourceMapping, settings: &EventSourceSettings) {
    let EventSource::Queue(queue) = &mapping.source else { return };
    let mut pause = None::<Duration>;
    loop {
        if let Some(pause) = pause {
            // A reset ends it.
            settings.functions.background.begin().sleep(pause.div_f64(settings.time_scale)).await;
        }
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
        let answer = settings.functions.invoke_for(&mapping.name, &mapping.function, payload).await;
        let ids: Vec<&str> = events.iter().filter_map(|event| event["messageId"].as_str()).collect();
        let failed = match outcome(&answer, mapping.reports_failures, &ids) {
            BatchOutcome::Done => Vec::new(),
            BatchOutcome::Failed(failed) => failed,
            BatchOutcome::AllFailed => ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        pause = match (failed.is_empty(), pause) {
            (true, _) => None,
            (false, None) => Some(PAUSE_FIRST),
            (false, Some(pause)) => Some((pause * 2).min(PAUSE_MAX)),
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use clock::Clock;

    use super::*;
    use crate::{
        dynamodb,
        lambda::Functions,
        sqs::Queues,
        template::{Template, TemplateInputs},
    };

    /// A function that fails, behind a queue whose messages come back at once.
    const TEMPLATE: &str = "
Resources:
  Api:
    Type: AWS::ApiGatewayV2::Api
    Properties: { ProtocolType: WEBSOCKET, RouteSelectionExpression: $request.body.action }
  Jobs: { Type: AWS::SQS::Queue, Properties: { VisibilityTimeout: 0 } }
  F:
    Type: AWS::Serverless::Function
    Properties: { Events: { Jobs: { Type: SQS, Properties: { Queue: !GetAtt Jobs.Arn } } } }
";

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_fails_again_and_again_comes_back_more_and_more_seldom() {
        let template = Template::parse(TEMPLATE, &TemplateInputs::default()).expect("valid");
        let clock = Clock::System;
        let functions = Functions::unreachable(&template.functions);
        let settings = EventSourceSettings {
            store: dynamodb::open(None, &BTreeMap::new(), &[], None, &clock).expect("opened"),
            queues: Arc::new(Queues::new(template.queues, clock.clone())),
            functions: Arc::clone(&functions),
            clock,
            time_scale: 1.0,
        };
        settings.queues.send("Jobs", "poison".to_owned()).expect("a queue");
        // At 0, 1, 3, 7, 15 seconds, and then every ten.
        let minute = Duration::from_secs(60);
        let polling = run(&template.event_sources[0], &settings);
        assert!(tokio::time::timeout(minute, polling).await.is_err(), "it goes on");
        assert!((8..=10).contains(&functions.invocations()), "{}", functions.invocations());
    }
}
