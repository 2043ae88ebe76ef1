//! Sends alerts that were committed and never dispatched. A schedule invokes it once a minute.

use serde::Serialize;
use shared::{
    alerts::Alerts,
    environment::InvalidEnvironment,
    error::Failure,
    function::{Function, Start},
    metrics,
    publisher::Dispatcher,
    undispatched::Recovery,
};
use tokio::time::Instant;

/// The function's state.
#[derive(Debug)]
pub struct Recover {
    recovery: Recovery,
    own_name: String,
    start: Start,
}

/// What was done.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Answer {
    /// Alerts that were dispatched.
    recovered: u64,
}

impl Function for Recover {
    type Event = serde_json::Value;
    type Response = Answer;

    fn start(start: &Start) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let alerts = Alerts::of_function(start, &mut environment);
        let deliver = environment.required("DELIVER_FUNCTION");
        // Set by Lambda: the dimension of its metric.
        let own_name = environment.required("AWS_LAMBDA_FUNCTION_NAME");
        let dispatcher = Dispatcher::new(aws_sdk_lambda::Client::new(&start.sdk), deliver, start.clock.clone());
        let recovery = Recovery { alerts, dispatcher, clock: start.clock.clone() };
        environment.finish(Self { recovery, own_name, start: start.clone() })
    }

    async fn handle(&self, _event: Self::Event, until: Instant) -> Result<Answer, Failure> {
        let report = self.recovery.run(until).await;
        if report.recovered > 0 {
            let now = self.start.clock.now();
            self.start.metrics.emit(&metrics::of_recovery(report.recovered, &self.own_name, now));
        }
        report.failure.map_or(Ok(Answer { recovered: report.recovered }), Err)
    }
}
