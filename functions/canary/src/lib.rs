//! The synthetic canary: once a minute it publishes an alert to a region of its own and waits for it on a socket, as a
//! browser does.
//!
//! It invokes publish directly. A publisher is answered and knows when publishing fails; a subscriber who hears nothing
//! does not know that there was anything to hear, and that is what is watched here.

mod run;
mod socket;

use aws_sdk_lambda::{Client, primitives::Blob};
use clock::Timestamp;
use http::Uri;
use serde::{Serialize, de::IgnoredAny};
use serde_json::{Value, json};
use shared::{
    auth::token::Pass,
    error::{ErrorChain, InternalError},
    runtime::{
        environment::InvalidEnvironment,
        function::{Function, Invocation, StartContext},
        https::quoted,
        metrics,
    },
};
use std::time::Duration;

use crate::{
    run::{CanaryFailure, Stage, run},
    socket::{Endpoint, Socket},
};

#[derive(Debug)]
pub struct Canary {
    endpoint: Endpoint,
    pass: Pass,
    lambda: Client,
    publish_function: String,
    own_name: String,
    start: StartContext,
}

/// What a run came to.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum CanaryResponse {
    /// The alert arrived.
    Arrived {
        /// Always true.
        arrived: bool,
        /// Milliseconds from the call of publish to the frame.
        latency_ms: u64,
    },
    /// It did not.
    Silent {
        /// Always false.
        arrived: bool,
        /// How far the run came.
        stage: Stage,
    },
}

/// publish answered with something else than a published alert.
#[derive(Debug, thiserror::Error)]
#[error("publish answered {0}")]
struct NotPublished(String);

impl Function for Canary {
    type Event = IgnoredAny;
    type Response = CanaryResponse;

    fn start(start: &StartContext) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let address = environment.required_parsed::<Uri>("SOCKET_URL");
        let endpoint =
            address.and_then(|address| environment.understood("SOCKET_URL", Endpoint::new(&start.network, address)));
        let pass = Pass::from_env(start, &mut environment);
        let publish_function = environment.required("PUBLISH_FUNCTION");
        // Set by Lambda: the dimension of its metrics.
        let own_name = environment.required("AWS_LAMBDA_FUNCTION_NAME");
        let (endpoint, pass) = environment.finish_whole(endpoint.zip(pass))?;
        let lambda = Client::new(&start.sdk);
        Ok(Self { endpoint, pass, lambda, publish_function, own_name, start: start.clone() })
    }

    async fn handle(&self, _schedule: IgnoredAny, _invocation: Invocation) -> Result<CanaryResponse, InternalError> {
        let id = uuid::Uuid::new_v4().to_string();
        let ended = run(self.connect(), self.publish(&id), &id).await;
        let now = self.start.clock.now();
        self.start.metrics.emit(&metrics_of(ended.as_ref().ok().copied(), &self.own_name, now));
        match ended {
            Ok(latency) => {
                let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
                tracing::info!(run = id, latency_ms, "canary alert arrived");
                Ok(CanaryResponse::Arrived { arrived: true, latency_ms })
            }
            Err(CanaryFailure { stage, failure }) => {
                tracing::warn!(run = id, ?stage, error = %ErrorChain(&failure), "canary alert did not arrive");
                Ok(CanaryResponse::Silent { arrived: false, stage })
            }
        }
    }
}

impl Canary {
    async fn connect(&self) -> Result<Socket, InternalError> {
        let token = self.pass.token().await?;
        self.endpoint.connect(token.as_deref()).await
    }

    async fn publish(&self, run: &str) -> Result<(), InternalError> {
        let doing = "publishing the alert of the canary";
        let payload = Blob::new(event(run).to_string());
        let answer = self.lambda.invoke().function_name(&self.publish_function).payload(payload).send().await;
        let answer = answer.map_err(|error| InternalError::new(doing, error))?;
        let body = answer.payload.unwrap_or_else(|| Blob::new(Vec::new())).into_inner();
        if serde_json::from_slice::<Value>(&body).is_ok_and(|answer| answer["published"] == true) {
            return Ok(());
        }
        Err(InternalError::new(doing, NotPublished(quoted(&body))))
    }
}

/// The event of publish in a run.
fn event(run: &str) -> Value {
    json!({"canary": run})
}

/// The metrics of a run of the synthetic canary: whether its alert arrived, 1 or 0, and how long that took.
fn metrics_of(latency: Option<Duration>, function: &str, at: Timestamp) -> Value {
    let mut metrics = vec![("Arrived", "Count", json!(u8::from(latency.is_some())))];
    metrics.extend(latency.map(|latency| ("ArrivalLatency", "Milliseconds", json!(latency.as_secs_f64() * 1_000.0))));
    metrics::document(&metrics, function, at)
}

#[cfg(test)]
mod tests {
    use shared::forms;

    use super::*;

    #[test]
    fn what_publish_is_invoked_with_is_what_the_golden_file_has() {
        let golden: Value =
            serde_json::from_str(include_str!("../../../shared/forms/canary_run.1.json")).expect("a golden file");
        let form = forms::named("canary_run").expect("a form");
        form.check(&golden, &json!({"run": event("run-1")})).unwrap_or_else(|changed| panic!("{changed}"));
    }

    #[test]
    fn a_run_without_an_arrival_has_no_latency() {
        let at = Timestamp::from_millis(1_795_000_000_000);
        let arrived = metrics_of(Some(Duration::from_millis(41)), "Canary", at);
        assert_eq!((&arrived["Arrived"], &arrived["ArrivalLatency"]), (&json!(1), &json!(41.0)));
        let silent = metrics_of(None, "Canary", at);
        assert_eq!((&silent["Arrived"], silent.get("ArrivalLatency")), (&json!(0), None));
    }
}
