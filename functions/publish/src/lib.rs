//! Publishes an alert, asked for by an HTTP request, an EventBridge event, or a direct invocation.

mod event;
mod webhook;

use serde::Serialize;
use serde_json::{Value, json};
use shared::{
    alerts::Alerts,
    clock::Clock,
    environment::InvalidEnvironment,
    error::{Chain, Failure, Refusal},
    function::{Function, Start},
    limits::{PUSH_RATE_DEFAULT, SCORE_THRESHOLD_DEFAULT},
    publisher::{Dispatcher, Outcome, Publisher},
};
use tokio::time::Instant;

use crate::{event::Caller, webhook::Webhook};

/// The function's state.
#[derive(Debug)]
pub struct Publish {
    publisher: Publisher,
    webhook: Webhook,
    clock: Clock,
}

/// What the caller gets, in the caller's own form.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// A response of the HTTP API.
    Http(HttpResponse),
    /// The result of an invocation.
    Outcome(Outcome),
    /// The refusal of an invocation, as `{"error": …}`.
    Refusal(Value),
}

/// A response in the form that an HTTP API expects (payload version 2.0).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpResponse {
    status_code: u16,
    headers: Value,
    body: String,
}

impl Function for Publish {
    type Event = Value;
    type Response = Answer;

    fn start(start: &Start) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let alerts = Alerts::of_function(start, &mut environment);
        let deliver = environment.required("DELIVER_FUNCTION");
        let score_threshold = environment.parsed("SCORE_THRESHOLD", SCORE_THRESHOLD_DEFAULT);
        let push_rate = environment.parsed("PUSH_RATE", PUSH_RATE_DEFAULT);
        let webhook = Webhook::of_function(start, &mut environment);
        environment.finish(Self {
            webhook,
            clock: start.clock.clone(),
            publisher: Publisher {
                alerts,
                dispatcher: Dispatcher::new(aws_sdk_lambda::Client::new(&start.sdk), deliver, start.clock.clone()),
                score_threshold,
                push_rate,
            },
        })
    }

    async fn handle(&self, event: Value, _until: Instant) -> Result<Answer, Failure> {
        if event::is_webhook(&event) {
            match self.webhook.check(&event, self.clock.now()).await {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => return Ok(refused(Caller::Http, &refusal)),
                Err(failure) => {
                    tracing::error!(error = %Chain(&failure), "webhook not checked");
                    return Ok(refused(Caller::Http, &Refusal::unavailable()));
                }
            }
        }
        let (caller, publication) = event::parse(event);
        let result = match publication {
            Ok(publication) => self.publisher.publish(publication).await,
            Err(refusal) => return Ok(refused(caller, &refusal)),
        };
        match (caller, result) {
            (Caller::Http, Ok(outcome)) => Ok(http(200, &outcome)),
            (Caller::Http, Err(failure)) => {
                tracing::error!(error = %Chain(&failure), "alert not published");
                Ok(refused(caller, &Refusal::unavailable()))
            }
            (Caller::Invocation, Ok(outcome)) => Ok(Answer::Outcome(outcome)),
            // Lambda tries a failed asynchronous invocation again, with the same document.
            (Caller::Invocation, Err(failure)) => Err(failure),
        }
    }
}

fn refused(caller: Caller, refusal: &Refusal) -> Answer {
    let body = json!({"error": refusal.body()});
    match caller {
        Caller::Http => http(refusal.code.http_status(), &body),
        Caller::Invocation => {
            tracing::warn!(%refusal, field = refusal.field, "publication refused");
            Answer::Refusal(body)
        }
    }
}

fn http(status_code: u16, body: &impl Serialize) -> Answer {
    Answer::Http(HttpResponse {
        status_code,
        headers: json!({"content-type": "application/json; charset=utf-8", "cache-control": "no-store"}),
        body: serde_json::to_string(body).expect("strings, numbers and booleans always serialise"),
    })
}
