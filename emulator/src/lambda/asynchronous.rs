//! Asynchronous invocations: retries, then the on-failure destination and the dead-letter queue.
//!
//! Source: Lambda developer guide, "Error handling for asynchronous invocation".

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::{Functions, RegisteredFunction, new_request_id};
use crate::{aws::arn, invocation::InvokeError, json};

/// Delays before the first and the second retry.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(120)];

/// Why a message does not reach its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// There is none of that name.
    #[error("the destination is not in the template")]
    Unknown,
    /// Too much waits for it.
    #[error("too much waits for the destination")]
    Full,
}

/// An asynchronous invocation that failed after all retries.
struct ExhaustedInvocation {
    request_id: String,
    payload: Bytes,
    error: InvokeError,
    attempts: usize,
}

impl Functions {
    /// Starts an invocation and does not wait for it. One that fails is retried as often as the template says, after
    /// one minute and then two, divided by the time scale. After that the record goes to its destination.
    pub(crate) fn invoke_async(self: &Arc<Self>, name: &str, payload: Bytes) -> Result<(), InvokeError> {
        if self.entry(name).is_none() {
            return Err(InvokeError::UnknownFunction(name.to_owned()));
        }
        let event = self.accepted.accept(name, payload.len()).ok_or(InvokeError::TooManyEvents)?;
        let request_id = new_request_id();
        let first = self.spawn("", name, payload.clone(), request_id.clone())?;
        let (functions, name) = (Arc::clone(self), name.to_owned());
        // The end of the emulator waits for it, so that an event that has ended is not given up.
        self.tasks.spawn(async move {
            let work = functions.background.begin();
            let Some(entry) = functions.entry(&name) else { return };
            let mut outcome = first.await.unwrap_or_else(|ended| Err(ended.into()));
            let waits = &RETRY_DELAYS[..RETRY_DELAYS.len().min(entry.async_retries.into())];
            for wait in waits {
                if outcome.is_ok() {
                    return;
                }
                let wait = wait.div_f64(functions.time_scale);
                tracing::warn!(function = name, after_s = wait.as_secs_f64(), "asynchronous invocation retried");
                let Some(goes_on) = functions.stopping.run_until_cancelled(work.sleep(wait)).await else {
                    event.give_up();
                    return;
                };
                let Some(_turn) = (if goes_on { work.turn().await } else { None }) else { return };
                let Ok(again) = functions.spawn("", &name, payload.clone(), request_id.clone()) else { return };
                outcome = again.await.unwrap_or_else(|ended| Err(ended.into()));
            }
            drop(event);
            if let Err(error) = outcome {
                functions.send_to_destinations(
                    &name,
                    entry,
                    &ExhaustedInvocation { request_id, payload, error, attempts: 1 + waits.len() },
                );
            }
        });
        Ok(())
    }

    /// Sends a record to the on-failure destination, and the event to the dead-letter queue. Logs what it cannot
    /// deliver.
    fn send_to_destinations(self: &Arc<Self>, name: &str, entry: &RegisteredFunction, failed: &ExhaustedInvocation) {
        tracing::error!(
            function = name,
            attempts = failed.attempts,
            "asynchronous invocation failed after all retries"
        );
        let event = || String::from_utf8_lossy(&failed.payload).into_owned();
        let mut messages = Vec::new();
        if let Some(destination) = &entry.on_failure {
            messages.push((destination, self.record(name, failed).to_string()));
        }
        messages.extend(entry.dead_letters.as_ref().map(|destination| (destination, event())));
        if messages.is_empty() {
            tracing::error!(
                function = name,
                event = event(),
                "event of a failed invocation lost: the function has no destination"
            );
        }
        for (destination, message) in messages {
            if let Err(error) = self.deliver(destination, &message) {
                tracing::error!(function = name, destination, message, %error, "record of a failed invocation lost");
            }
        }
    }

    /// Makes the record for the on-failure destination.
    fn record(
        &self,
        name: &str,
        ExhaustedInvocation { request_id, payload, error, attempts }: &ExhaustedInvocation,
    ) -> Value {
        let text = || String::from_utf8_lossy(payload).into_owned();
        json!({
            "version": "1.0",
            "timestamp": self.clock.now().rfc3339(),
            "requestContext": {
                "requestId": request_id,
                "functionArn": format!("{}:$LATEST", arn("lambda", &format!("function:{name}"))),
                "condition": "RetriesExhausted",
                "approximateInvokeCount": attempts,
            },
            "requestPayload": json::read(&text()).unwrap_or_else(|| Value::from(text())),
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "responsePayload": serde_json::from_slice::<Value>(&error.payload()).unwrap_or_default(),
        })
    }

    /// Delivers a message to the function, queue or topic of an ARN.
    pub(crate) fn deliver(self: &Arc<Self>, destination: &str, message: &str) -> Result<(), DeliveryError> {
        match destination.split(':').collect::<Vec<_>>().as_slice() {
            ["arn", _, "lambda", _, _, "function", function, ..] => {
                let invoked = self.invoke_async(function, Bytes::from(message.to_owned()));
                invoked.map_err(|error| match error {
                    InvokeError::TooManyEvents => DeliveryError::Full,
                    _ => DeliveryError::Unknown,
                })
            }
            ["arn", _, "sqs", _, _, queue] => match self.queues.send(queue, message.to_owned()) {
                Some(_) => Ok(()),
                None if self.queues.contains(queue) => Err(DeliveryError::Full),
                None => Err(DeliveryError::Unknown),
            },
            ["arn", _, "sns", _, _, topic] => {
                let topics = self.topics.get().and_then(Weak::upgrade);
                let is_published = topics.is_some_and(|topics| topics.publish(topic, message));
                is_published.then_some(()).ok_or(DeliveryError::Unknown)
            }
            _ => Err(DeliveryError::Unknown),
        }
    }
}
