//! EventBridge schedules: functions that are invoked at intervals.

use std::sync::Arc;

use hyper::body::Bytes;
use serde_json::json;
use shared::clock::{Clock, Timestamp};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    lambda::Functions,
    template::{ACCOUNT_ID, REGION, Schedule, arn},
};

/// Runs every schedule until `shutdown`; the first invocation comes after one interval, as in EventBridge.
pub(crate) fn run(schedules: Vec<Schedule>, functions: &Arc<Functions>, clock: &Clock, shutdown: &CancellationToken, tasks: &TaskTracker) {
    for schedule in schedules {
        let (functions, clock, shutdown) = (Arc::clone(functions), clock.clone(), shutdown.clone());
        tasks.spawn(async move {
            while shutdown.run_until_cancelled(tokio::time::sleep(schedule.every)).await.is_some() {
                let payload = schedule.input.clone().unwrap_or_else(|| event(&schedule.name, clock.now()));
                if let Err(error) = functions.invoke_async(&schedule.function, Bytes::from(payload)) {
                    tracing::error!(schedule = schedule.name, %error, "scheduled invocation failed");
                }
            }
        });
    }
}

fn event(rule: &str, now: Timestamp) -> String {
    json!({
        "version": "0",
        "id": uuid::Uuid::new_v4().to_string(),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT_ID,
        "time": Timestamp::from_millis(now.secs() * 1_000).rfc3339(),
        "region": REGION,
        "resources": [arn("events", &format!("rule/{rule}"))],
        "detail": {},
    })
    .to_string()
}
