//! What Lambda does with asynchronous invocations that fail: it tries again, and then tells the on-failure destination.
//!
//! Source: Lambda developer guide, "Error handling for asynchronous invocation".

use std::{sync::Arc, time::Duration};

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::{Functions, RegisteredFunction, new_request_id};
use crate::{aws::arn, invocation::InvokeError};

/// Time before the first and the second retry.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(120)];

/// An asynchronous invocation whose last attempt has failed.
struct ExhaustedInvocation {
    request_id: String,
    payload: Bytes,
    error: InvokeError,
    attempts: usize,
}

impl Functions {
    /// Starts an invocation and does not wait for it. One that fails is tried again as often as the template says, after
    /// one minute and after two, passing as fast as the clocks of the gateway; after that its destination is told.
    pub(crate) fn invoke_async(self: &Arc<Self>, name: &str, payload: Bytes) -> Result<(), InvokeError> {
        let request_id = new_request_id();
        let first = self.spawn("", name, payload.clone(), request_id.clone())?;
        let (functions, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            let Some(entry) = functions.entry(&name) else { return };
            let mut outcome = first.await.unwrap_or_else(|ended| Err(ended.into()));
            let waits = &RETRY_DELAYS[..RETRY_DELAYS.len().min(entry.async_retries.into())];
            for wait in waits {
                if outcome.is_ok() {
                    return;
                }
                let wait = wait.div_f64(functions.time_scale);
                tracing::warn!(function = name, wait_s = wait.as_secs_f64(), "asynchronous invocation is tried again");
                if functions.stopping.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                    tracing::error!(function = name, "stopped before an asynchronous invocation was tried again");
                    return;
                }
                let Ok(again) = functions.spawn("", &name, payload.clone(), request_id.clone()) else { return };
                outcome = again.await.unwrap_or_else(|ended| Err(ended.into()));
            }
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

    /// Tells the on-failure destination, and hands the event to what takes dead letters. What reaches nobody is logged.
    fn send_to_destinations(self: &Arc<Self>, name: &str, entry: &RegisteredFunction, failed: &ExhaustedInvocation) {
        tracing::error!(function = name, attempts = failed.attempts, "asynchronous invocation failed for good");
        let event = || String::from_utf8_lossy(&failed.payload).into_owned();
        let mut messages = Vec::new();
        if let Some(destination) = &entry.on_failure {
            messages.push((destination, self.record(name, failed).to_string()));
        }
        messages.extend(entry.dead_letters.as_ref().map(|destination| (destination, event())));
        if messages.is_empty() {
            tracing::error!(function = name, event = event(), "nobody is told of it");
        }
        for (destination, message) in messages {
            if !self.deliver(destination, &message) {
                tracing::error!(function = name, destination, message, "its destination is not run locally");
            }
        }
    }

    /// What a destination is told.
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
            "requestPayload": serde_json::from_slice(payload).unwrap_or_else(|_| Value::from(text())),
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "responsePayload": serde_json::from_slice::<Value>(&error.payload()).unwrap_or_default(),
        })
    }

    /// Hands a message to the function or queue of an ARN. False when there is none of that name here.
    fn deliver(self: &Arc<Self>, destination: &str, message: &str) -> bool {
        match destination.split(':').collect::<Vec<_>>().as_slice() {
            ["arn", _, "lambda", _, _, "function", function, ..] => {
                self.invoke_async(function, Bytes::from(message.to_owned())).is_ok()
            }
            ["arn", _, "sqs", _, _, queue] => self.queues.send(queue, message.to_owned()).is_some(),
            _ => false,
        }
    }
}
