//! Sends what was left behind: once a minute alerts that were committed and never dispatched, and when it is asked
//! to, invocations that failed for good. It also ends the logs of regions whose alerts have long expired.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::{
    error::InternalError,
    limits::{REGIONS_MAX_DEFAULT, REGIONS_NEAR_MAX_PERCENT, REGIONS_OF_ALL_MAX},
    publish::{
        publisher::Dispatcher,
        redrive::{Redrive, RedriveCounts},
        undispatched::UndispatchedRecovery,
    },
    runtime::{
        environment::InvalidEnvironment,
        function::{Function, Invocation, StartContext},
        metrics,
    },
    tables::alerts::Alerts,
};

#[derive(Debug)]
pub struct Recover {
    recovery: UndispatchedRecovery,
    redrive: Redrive,
    regions_max: usize,
    own_name: String,
    start: StartContext,
}

/// What it is invoked with: the event of a schedule, or `{"redrive": true}`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct RecoverRequest {
    #[serde(default)]
    redrive: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum RecoverResponse {
    /// Alerts were looked for that were never dispatched.
    Recovered {
        /// How many were dispatched.
        recovered: u64,
    },
    /// Failed invocations were made again.
    Redriven(RedriveCounts),
}

impl Function for Recover {
    type Event = RecoverRequest;
    type Response = RecoverResponse;

    fn start(start: &StartContext) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let alerts = Alerts::from_env(start, &mut environment);
        let lambda = aws_sdk_lambda::Client::new(&start.sdk);
        let mut dispatcher =
            |variable| Dispatcher::new(lambda.clone(), environment.required(variable), start.clock.clone());
        let (deliver, publish) = (dispatcher("DELIVER_FUNCTION"), dispatcher("PUBLISH_FUNCTION"));
        let redrive = Redrive {
            client: aws_sdk_sqs::Client::new(&start.sdk),
            undelivered_queue: environment.required("UNDELIVERED_QUEUE"),
            deliver: deliver.clone(),
            unpublished_queue: environment.required("UNPUBLISHED_QUEUE"),
            publish,
        };
        let recovery = UndispatchedRecovery { alerts, dispatcher: deliver, clock: start.clock.clone() };
        let regions_max = environment.whole_number("REGIONS_MAX", REGIONS_MAX_DEFAULT, 1..=REGIONS_OF_ALL_MAX);
        // Set by Lambda: the dimension of its metrics.
        let own_name = environment.required("AWS_LAMBDA_FUNCTION_NAME");
        environment.finish(Self { recovery, redrive, regions_max, own_name, start: start.clone() })
    }

    async fn handle(
        &self,
        request: RecoverRequest,
        Invocation { deadline, .. }: Invocation,
    ) -> Result<RecoverResponse, InternalError> {
        if request.redrive {
            let report = self.redrive.run(deadline).await;
            return report.failure.map_or(Ok(RecoverResponse::Redriven(report.counts)), Err);
        }
        let report = self.recovery.run(deadline).await;
        if report.recovered > 0 {
            self.start.metrics.emit(&self.metric("Recovered", report.recovered));
        }
        match self.recovery.alerts.end_old_logs(deadline).await {
            Some(regions) if regions * 100 >= self.regions_max * REGIONS_NEAR_MAX_PERCENT => {
                self.start.metrics.emit(&self.metric("Regions", regions));
            }
            _ => {}
        }
        report.failure.map_or(Ok(RecoverResponse::Recovered { recovered: report.recovered }), Err)
    }
}

impl Recover {
    /// Returns the metric `name`, a count.
    fn metric(&self, name: &str, count: impl Serialize) -> Value {
        metrics::document(&[(name, "Count", json!(count))], &self.own_name, self.start.clock.now())
    }
}
