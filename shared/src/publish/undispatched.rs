//! Alerts that were committed or taken back, of which clients were not told, because publish ended in between: they are
//! found and sent.

use clock::{Clock, Timestamp};
use tokio::time::Instant;

use crate::{
    error::{ErrorChain, InternalError},
    limits::{DISPATCH_GRACE, RECOVERY_END_BEFORE, RECOVERY_PAGES_MAX},
    publish::publisher::Dispatcher,
    tables::alerts::{AlertKey, Alerts},
};

/// Dispatches what publish did not.
#[derive(Clone, Debug)]
pub struct UndispatchedRecovery {
    pub alerts: Alerts,
    /// Starts fan-outs.
    pub dispatcher: Dispatcher,
    /// Tells how long ago an alert was committed.
    pub clock: Clock,
}

/// How a recovery ended.
#[derive(Debug, Default)]
pub struct RecoveryReport {
    /// Alerts that were dispatched.
    pub recovered: u64,
    /// The first thing that failed, if anything did; the log has all.
    pub failure: Option<InternalError>,
}

impl UndispatchedRecovery {
    /// Dispatches alerts that should have been long ago, the oldest first, within bounds of number and time: what is
    /// left is for the next run. One that fails does not stop the others. `deadline` is when the invocation ends.
    pub async fn run(&self, deadline: Instant) -> RecoveryReport {
        let mut report = RecoveryReport::default();
        let stop_at = deadline.checked_sub(RECOVERY_END_BEFORE).unwrap_or(deadline);
        let before = Timestamp::from_millis(self.clock.now().millis() - DISPATCH_GRACE.as_millis() as i64);
        let mut after = None;
        for _ in 0..RECOVERY_PAGES_MAX {
            let page = match self.alerts.undispatched(before, after).await {
                Ok(page) => page,
                Err(failure) => {
                    tracing::error!(error = %ErrorChain(&failure), "forgotten alerts not looked for");
                    report.failure.get_or_insert(failure);
                    return report;
                }
            };
            for key in page.keys {
                if Instant::now() >= stop_at {
                    tracing::warn!("forgotten alerts left to the next run: the time is up");
                    return report;
                }
                match self.recover(&key).await {
                    Ok(dispatched) => report.recovered += u64::from(dispatched),
                    Err(failure) => {
                        tracing::error!(
                            error = %ErrorChain(&failure),
                            region = key.region,
                            seq = key.seq,
                            "forgotten alert not dispatched"
                        );
                        report.failure.get_or_insert(failure);
                    }
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        report
    }

    /// Dispatches one alert, unless that has been done since the index said otherwise.
    async fn recover(&self, key: &AlertKey) -> Result<bool, InternalError> {
        let Some(logged) = self.alerts.if_undispatched(key).await? else { return Ok(false) };
        // Where publish has not done it, a client that subscribes at this moment would miss the alert.
        self.alerts.record_head(logged.region()).await?;
        self.dispatcher.deliver(logged.clone().into()).await?;
        let removed = logged.removal().is_some();
        tracing::warn!(alert = logged.id(), region = key.region, seq = key.seq, removed, "forgotten alert dispatched");
        // A failure, although the alert is on its way: without the mark every run sends it again.
        self.alerts.mark_dispatched(&logged).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_sdk_dynamodb::Client;
    use serde_json::json;

    use super::*;
    use crate::fake_aws::{FakeResponse, Requests, sdk};

    fn recovery(answer: impl Fn(usize) -> FakeResponse + Send + Sync + 'static) -> (UndispatchedRecovery, Requests) {
        let (sdk, requests) = sdk(answer);
        let clock = Clock::Manual(std::sync::Arc::new(100_000.into()));
        let recovery = UndispatchedRecovery {
            alerts: Alerts::new(Client::new(&sdk), "t".to_owned(), clock.clone()),
            dispatcher: Dispatcher::new(aws_sdk_lambda::Client::new(&sdk), "f".to_owned(), clock.clone()),
            clock,
        };
        (recovery, requests)
    }

    /// A page of the index.
    fn page(seqs: &[u64], has_next: bool) -> FakeResponse {
        let key = |seq: u64| json!({"region": {"S": "PL"}, "seq": {"N": seq.to_string()}});
        let mut page = json!({"Items": seqs.iter().copied().map(key).collect::<Vec<_>>()});
        if has_next {
            page["LastEvaluatedKey"] = key(1);
        }
        FakeResponse(200, "", page.to_string())
    }

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn one_that_was_dispatched_while_the_index_lagged_behind_is_not_dispatched_again() {
        let item = json!({"Item": {"region": {"S": "PL"}, "seq": {"N": "1"}, "id": {"S": "a"}}}).to_string();
        let (recovery, requests) =
            recovery(move |before| if before == 0 { page(&[1], false) } else { FakeResponse(200, "", item.clone()) });
        let report = recovery.run(in_a_minute()).await;
        assert_eq!((report.recovered, report.failure.is_none()), (0, true));
        let requests = requests.lock().expect("unpoisoned");
        assert_eq!(requests.len(), 2, "the index and the alert, and no invocation");
        assert!(requests[0].contains(r#"":before":{"N":"70000"}"#), "of those committed 30 s ago: {}", requests[0]);
        assert!(requests[1].contains(r#""ConsistentRead":true"#), "{}", requests[1]);
    }

    #[tokio::test]
    async fn an_index_without_end_is_read_within_bounds() {
        let (recovery, requests) = recovery(|_| page(&[], true));
        recovery.run(in_a_minute()).await;
        assert_eq!(requests.lock().expect("unpoisoned").len(), RECOVERY_PAGES_MAX);
    }

    #[tokio::test]
    async fn nothing_is_begun_when_the_time_is_up() {
        let (recovery, requests) = recovery(|_| page(&[1, 2], false));
        let report = recovery.run(Instant::now() + RECOVERY_END_BEFORE).await;
        assert_eq!((report.recovered, requests.lock().expect("unpoisoned").len()), (0, 1));
    }

    #[tokio::test]
    async fn an_index_that_cannot_be_read_is_a_failure() {
        let (recovery, _) = recovery(|_| FakeResponse(400, "AccessDeniedException", "{}".to_owned()));
        let failure = recovery.run(in_a_minute()).await.failure.expect("a failure");
        assert!(ErrorChain(&failure).to_string().starts_with("looking for alerts that were never dispatched failed"));
    }
}
