//! Redrives the dead-letter queues: invokes functions again with what they failed on.
//!
//! Source of their form: Lambda developer guide, "Capturing records of Lambda asynchronous invocations".

use aws_sdk_sqs::{Client, types::Message};
use clock::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    error::{ErrorChain, InternalError},
    fanout::FanoutTask,
    limits::{RECEIVE_WAIT_SECS, RECEIVED_MESSAGES_MAX, RECOVERY_END_BEFORE, REDRIVE_VISIBILITY_SECS},
    model::strict_json::whole_characters,
    publish::publisher::Dispatcher,
};

/// Invokes functions again with what they failed on.
#[derive(Clone, Debug)]
pub struct Redrive {
    /// Reads the queues.
    pub client: Client,
    /// URL of the queue with parts of fan-outs.
    pub undelivered_queue: String,
    /// Invokes deliver.
    pub deliver: Dispatcher,
    /// URL of the queue with publications by event.
    pub unpublished_queue: String,
    /// Invokes publish.
    pub publish: Dispatcher,
}

/// What became of the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RedriveCounts {
    /// Messages whose function was invoked again.
    pub redriven: u64,
    /// Messages that are not a record of a failed invocation of the function. They stay in the queue.
    pub unreadable: u64,
}

/// How a redrive ended.
#[derive(Debug, Default)]
pub struct Redriven {
    /// What became of the messages.
    pub counts: RedriveCounts,
    /// The first thing that failed, if anything did; the log has all.
    pub failure: Option<InternalError>,
}

/// The message is not a record of a failed invocation.
#[derive(Debug, thiserror::Error)]
#[error("the message has no {0}")]
struct Incomplete(&'static str);

/// What a function is invoked with again: the task of deliver, or the event of publish.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum RedrivenEvent {
    Deliver(Box<FanoutTask>),
    Publish(Value),
}

/// What is read of the record of a failed invocation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FailedInvocation {
    #[serde(default)]
    request_context: RequestContext,
    request_payload: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    request_id: Option<String>,
}

/// Makes an event of the record of a failed invocation. None when it is of no such invocation.
type EventOf = fn(FailedInvocation, Timestamp) -> Option<RedrivenEvent>;

impl RedrivenEvent {
    /// A part of a fan-out, at the beginning of a new chain of invocations. Its lag is measured from now on: the time
    /// in the queue is known already.
    fn of_deliver(record: FailedInvocation, now: Timestamp) -> Option<Self> {
        let task: FanoutTask = serde_json::from_value(record.request_payload).ok()?;
        Some(Self::Deliver(Box::new(FanoutTask { depth: 0, redriven_at: Some(now), ..task })))
    }

    /// A publication, whose idempotency key lets nothing be published twice: the id of the failed invocation where it
    /// has no other, as the failure may have come after the alert was committed.
    fn of_publish(record: FailedInvocation, _: Timestamp) -> Option<Self> {
        let Value::Object(mut event) = record.request_payload else { return None };
        let is_named = event.contains_key("detail-type") || event.get("id").is_some_and(|id| !id.is_null());
        if let (false, Some(id)) = (is_named, record.request_context.request_id) {
            event.insert("id".to_owned(), id.into());
        }
        Some(Self::Publish(event.into()))
    }
}

impl Redrive {
    /// Empties both queues, as far as the time reaches: a message is deleted when its function has been invoked.
    /// `deadline` is when the invocation ends.
    pub async fn run(&self, deadline: Instant) -> Redriven {
        let stop_at = deadline.checked_sub(RECOVERY_END_BEFORE).unwrap_or(deadline);
        let mut report = Redriven::default();
        let queues: [(&str, &Dispatcher, EventOf); 2] = [
            (&self.undelivered_queue, &self.deliver, RedrivenEvent::of_deliver),
            (&self.unpublished_queue, &self.publish, RedrivenEvent::of_publish),
        ];
        for (queue, dispatcher, event_of) in queues {
            while Instant::now() < stop_at {
                let messages = match self.receive(queue).await {
                    Ok(messages) if messages.is_empty() => break,
                    Ok(messages) => messages,
                    Err(failure) => {
                        report.fail(failure, queue);
                        break;
                    }
                };
                for message in messages.into_iter().take_while(|_| Instant::now() < stop_at) {
                    let Some(event) = record(&message).and_then(|record| event_of(record, dispatcher.now())) else {
                        tracing::error!(queue, message = message.message_id, "no record of a failed invocation");
                        report.counts.unreadable += 1;
                        continue;
                    };
                    match self.again(queue, dispatcher, &event, &message).await {
                        Ok(()) => report.counts.redriven += 1,
                        Err(failure) => report.fail(failure, queue),
                    }
                }
            }
        }
        let RedriveCounts { redriven, unreadable } = report.counts;
        tracing::info!(redriven, unreadable, "failed invocations redriven");
        report
    }

    async fn receive(&self, queue: &str) -> Result<Vec<Message>, InternalError> {
        let output = self
            .client
            .receive_message()
            .queue_url(queue)
            .max_number_of_messages(RECEIVED_MESSAGES_MAX)
            .visibility_timeout(REDRIVE_VISIBILITY_SECS)
            .wait_time_seconds(RECEIVE_WAIT_SECS)
            .send()
            .await
            .map_err(|error| InternalError::new("reading a queue", error))?;
        Ok(output.messages.unwrap_or_default())
    }

    /// Invokes the function, and only then deletes the message.
    async fn again(
        &self,
        queue: &str,
        dispatcher: &Dispatcher,
        event: &RedrivenEvent,
        message: &Message,
    ) -> Result<(), InternalError> {
        let doing = "deleting a message whose function has been invoked again";
        dispatcher.invoke(event, "invoking a function again").await?;
        let receipt =
            message.receipt_handle().ok_or_else(|| InternalError::new(doing, Incomplete("receipt handle")))?;
        let delete = self.client.delete_message().queue_url(queue).receipt_handle(receipt);
        delete.send().await.map_err(|error| InternalError::new(doing, error))?;
        Ok(())
    }
}

impl Redriven {
    fn fail(&mut self, failure: InternalError, queue: &str) {
        tracing::error!(error = %ErrorChain(&failure), queue, "failed invocation not redriven");
        self.failure.get_or_insert(failure);
    }
}

fn record(message: &Message) -> Option<FailedInvocation> {
    serde_json::from_str(&whole_characters(message.body()?)).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clock::Clock;
    use serde_json::json;

    use super::*;
    use crate::fake_aws::{FakeResponse, Requests, sdk};

    /// When it is redriven: long after it was dispatched.
    const NOW_MS: i64 = 5_000_000;

    fn redrive(answer: impl Fn(usize) -> FakeResponse + Send + Sync + 'static) -> (Redrive, Requests) {
        let (sdk, requests) = sdk(answer);
        let clock = Clock::Manual(std::sync::Arc::new(NOW_MS.into()));
        let dispatcher =
            |name: &str| Dispatcher::new(aws_sdk_lambda::Client::new(&sdk), name.to_owned(), clock.clone());
        let redrive = Redrive {
            client: Client::new(&sdk),
            undelivered_queue: "http://queue/undelivered".to_owned(),
            deliver: dispatcher("deliver"),
            unpublished_queue: "http://queue/unpublished".to_owned(),
            publish: dispatcher("publish"),
        };
        (redrive, requests)
    }

    fn messages(bodies: &[&str]) -> FakeResponse {
        let message = |body: &&str| json!({"MessageId": "m", "ReceiptHandle": "r", "Body": body});
        FakeResponse(200, "", json!({"Messages": bodies.iter().map(message).collect::<Vec<_>>()}).to_string())
    }

    fn record(payload: &Value) -> String {
        json!({"version": "1.0", "requestPayload": payload}).to_string()
    }

    fn task() -> Value {
        json!({
            "alert": {"id": "a", "region": "PL", "epoch": 1, "seq": 7, "video": {"id": "v", "title": "t"}, "at": 5},
            "dispatched_at": 6,
            "part": {"ranges": [{"first": 3, "last": 9}], "rate": 50.0, "everyone": false},
            "chain": 11,
        })
    }

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn a_part_of_a_fan_out_begins_a_new_chain_and_its_message_goes_after_the_invocation() {
        let body = record(&task());
        let (redrive, requests) = redrive(move |before| match before {
            0 => messages(&[&body]),
            1 => FakeResponse(202, "", String::new()),
            _ => FakeResponse(200, "", "{}".to_owned()),
        });
        let report = redrive.run(in_a_minute()).await;
        assert_eq!((report.counts, report.failure.is_none()), (RedriveCounts { redriven: 1, unreadable: 0 }, true));
        let requests = requests.lock().expect("unpoisoned");
        let mut expected = task();
        expected["chain"] = json!(0);
        expected["redriven_at"] = json!(NOW_MS);
        assert_eq!(serde_json::from_str::<Value>(&requests[1]).expect("JSON"), expected, "nothing else is changed");
        assert!(requests[2].contains(r#""ReceiptHandle":"r""#), "then it is deleted: {}", requests[2]);
    }

    #[test]
    fn a_publication_without_a_name_has_that_of_the_invocation_that_failed() {
        let redriven = |payload: Value| {
            let record = json!({"requestContext": {"requestId": "r-1"}, "requestPayload": payload});
            let event =
                RedrivenEvent::of_publish(serde_json::from_value(record).expect("a record"), Timestamp::from_millis(0));
            let event = event.expect("an event");
            serde_json::to_value(event).expect("JSON")["id"].take()
        };
        assert_eq!(redriven(json!({"region": "PL"})), "r-1");
        assert_eq!(redriven(json!({"region": "PL", "id": null})), "r-1");
        assert_eq!(redriven(json!({"region": "PL", "id": "mine"})), "mine");
        assert_eq!(redriven(json!({"detail-type": "Video Went Viral", "id": "event"})), "event");
    }

    #[tokio::test]
    async fn what_cannot_be_read_stays_and_is_counted() {
        let bodies = ["no JSON", "{}", &record(&json!(7)), &record(&json!({"alert": {}}))].map(str::to_owned);
        let (redrive, requests) = redrive(move |before| match before {
            0 => messages(&bodies.each_ref().map(String::as_str)),
            _ => FakeResponse(200, "", "{}".to_owned()),
        });
        let report = redrive.run(in_a_minute()).await;
        assert_eq!(report.counts, RedriveCounts { redriven: 0, unreadable: 4 });
        assert_eq!(requests.lock().expect("unpoisoned").len(), 3, "until each queue is empty, and nothing else");
    }

    #[tokio::test]
    async fn a_message_whose_function_is_not_invoked_is_not_deleted_and_the_others_are_tried() {
        let body = record(&json!({"region": "PL"}));
        let (redrive, requests) = redrive(move |before| match before {
            1 => messages(&[&body, &body]),
            2 => FakeResponse(403, "AccessDeniedException", "{}".to_owned()),
            3 => FakeResponse(202, "", String::new()),
            _ => FakeResponse(200, "", "{}".to_owned()),
        });
        let report = redrive.run(in_a_minute()).await;
        assert_eq!(report.counts, RedriveCounts { redriven: 1, unreadable: 0 });
        let failure = report.failure.expect("the first");
        assert!(
            ErrorChain(&failure).to_string().starts_with("invoking a function again failed"),
            "{}",
            ErrorChain(&failure)
        );
        let deleted = requests.lock().expect("unpoisoned").iter().filter(|body| body.contains("ReceiptHandle")).count();
        assert_eq!(deleted, 1);
    }

    #[tokio::test]
    async fn a_queue_that_never_ends_is_left_when_the_time_is_up() {
        let (redrive, _) = redrive(|_| messages(&["?"]));
        let began = Instant::now();
        let report = redrive.run(began + RECOVERY_END_BEFORE + Duration::from_millis(50)).await;
        assert!(report.counts.unreadable > 0, "some were read in the time that there was");
        assert!(began.elapsed() < RECOVERY_END_BEFORE, "it went on for {:?}", began.elapsed());
    }
}
