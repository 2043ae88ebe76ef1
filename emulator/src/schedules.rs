//! EventBridge schedules, which invoke functions at intervals or at set times.

use std::{sync::Arc, time::Duration};

use clock::{Clock, Timestamp};
use hyper::body::Bytes;
use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    aws::{ACCOUNT_ID, REGION, arn},
    lambda::Functions,
    template::{Schedule, ScheduleExpression},
};

/// Time between two looks at the clock while a schedule waits: somebody may set it, and the machine may sleep.
const CLOCK_LOOK: Duration = Duration::from_secs(30);

/// Runs every schedule until `shutdown`. As in EventBridge, the first invocation of a rate comes after one interval.
/// The time scale does not apply: schedules keep the clock that functions see.
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
            while let Some(Some(due)) = shutdown.run_until_cancelled(due(&schedule, &clock)).await {
                let payload = schedule.input.clone().unwrap_or_else(|| event(&schedule.name, due));
                if let Err(error) = functions.invoke_async(&schedule.function, Bytes::from(payload)) {
                    tracing::error!(schedule = schedule.name, %error, "schedule not invoked");
                }
            }
        });
    }
}

/// Waits until a schedule is due and returns its time. `None` if it never is due again.
async fn due(schedule: &Schedule, clock: &Clock) -> Option<Timestamp> {
    match &schedule.times {
        ScheduleExpression::Rate(interval) => {
            tokio::time::sleep(*interval).await;
            Some(clock.now())
        }
        ScheduleExpression::Cron(cron) => {
            let Some(due) = cron.next(clock.now()) else {
                tracing::warn!(schedule = schedule.name, "schedule ended: no such time comes again");
                return None;
            };
            loop {
                match due.since(clock.now()) {
                    Duration::ZERO => return Some(due),
                    rest => tokio::time::sleep(rest.min(CLOCK_LOOK)).await,
                }
            }
        }
    }
}

fn event(rule: &str, now: Timestamp) -> String {
    json!({
        "version": "0",
        "id": uuid::Uuid::new_v4().to_string(),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT_ID,
        "time": now.rfc3339_secs(),
        "region": REGION,
        "resources": [arn("events", &format!("rule/{rule}"))],
        "detail": {},
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::template::{Template, TemplateInputs};

    /// Starts one schedule of a function that fails and counts its invocations.
    fn started(expression: &str, clock: &Clock) -> (Arc<Functions>, CancellationToken, TaskTracker) {
        let text = r#"
Resources:
  Api:
    Type: AWS::ApiGatewayV2::Api
    Properties: { ProtocolType: WEBSOCKET, RouteSelectionExpression: $request.body.action }
  F: { Type: AWS::Serverless::Function, Properties: { EventInvokeConfig: { MaximumRetryAttempts: 0 } } }
"#;
        let template = Template::parse(text, &TemplateInputs::default()).expect("valid");
        let functions = Functions::unreachable(&template.functions);
        let schedule = Schedule {
            name: "s".to_owned(),
            function: "F".to_owned(),
            times: ScheduleExpression::parse(expression).expect("valid").expect("known"),
            input: Some("{}".to_owned()),
        };
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        run(vec![schedule], &functions, clock, &shutdown, &tasks);
        tasks.close();
        (functions, shutdown, tasks)
    }

    #[tokio::test(start_paused = true)]
    async fn a_function_runs_once_per_interval_until_the_end() {
        let (functions, shutdown, tasks) = started("rate(1 minute)", &Clock::System);
        for count in 0..3 {
            tokio::time::sleep(Duration::from_secs(59)).await;
            assert_eq!(functions.invocations(), count);
            tokio::time::sleep(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
            assert_eq!(functions.invocations(), count + 1);
        }
        shutdown.cancel();
        tasks.wait().await;
    }

    /// Lets time pass for the schedule and for the clock that it reads, a second at a time.
    async fn pass(clock: &AtomicI64, secs: u32) {
        for _ in 0..secs {
            clock.fetch_add(1_000, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::task::yield_now().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_function_runs_once_in_each_minute_of_its_schedule_until_the_end() {
        // 2026-11-18T11:23:20Z: 36 minutes and 40 seconds before noon.
        let ms = Arc::new(AtomicI64::new(1_795_001_000_000));
        let (functions, shutdown, tasks) = started("cron(0,1 12 * * ? 2026)", &Clock::Manual(Arc::clone(&ms)));
        for (secs, count) in [(36 * 60 + 39, 0), (2, 1), (58, 1), (2, 2), (23 * 60 * 60, 2), (59 * 60, 3)] {
            pass(&ms, secs).await;
            assert_eq!(functions.invocations(), count, "after {secs} s more");
        }
        shutdown.cancel();
        tasks.wait().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_missed_while_the_machine_slept_runs_once() {
        let ms = Arc::new(AtomicI64::new(1_795_001_000_000));
        let (functions, shutdown, tasks) = started("cron(0/5 * * * ? *)", &Clock::Manual(Arc::clone(&ms)));
        pass(&ms, 1).await;
        ms.fetch_add(8 * 60 * 60 * 1_000, Ordering::Relaxed);
        pass(&ms, 31).await;
        assert_eq!(functions.invocations(), 1);
        shutdown.cancel();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn a_schedule_whose_years_are_over_ends() {
        let (functions, _, tasks) = started("cron(0 0 1 1 ? 2020)", &Clock::System);
        tasks.wait().await;
        assert_eq!(functions.invocations(), 0);
    }
}
