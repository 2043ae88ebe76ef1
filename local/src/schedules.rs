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
pub(crate) fn run(
    schedules: Vec<Schedule>,
    functions: &Arc<Functions>,
    clock: &Clock,
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
) {
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::template::Function;

    #[tokio::test(start_paused = true)]
    async fn a_function_runs_once_per_interval_until_the_end() {
        let variables =
            [("ALERTS_TABLE", "t"), ("DELIVER_FUNCTION", "f")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let publish = Function {
            logical_id: "F".to_owned(),
            binary: Some("publish".to_owned()),
            timeout: Duration::from_secs(3),
            environment: variables.into(),
        };
        let functions = Functions::start(&[("F".to_owned(), publish)].into(), &BTreeMap::new(), None, Arc::default())
            .expect("started");
        // How an invocation ends does not matter here: time stands still only for this thread, not for the function's.
        let schedule = Schedule {
            name: "s".to_owned(),
            function: "F".to_owned(),
            every: Duration::from_secs(60),
            input: Some("{}".to_owned()),
        };
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        run(vec![schedule], &functions, &Clock::System, &shutdown, &tasks);
        for count in 0..3 {
            tokio::time::sleep(Duration::from_secs(59)).await;
            assert_eq!(functions.invocations(), count);
            tokio::time::sleep(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
            assert_eq!(functions.invocations(), count + 1);
        }
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
