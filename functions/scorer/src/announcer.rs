//! Hands announcements to the event bus.

use crate::rises::Announcement;
use aws_sdk_eventbridge::{
    Client,
    types::{PutEventsRequestEntry, PutEventsResultEntry},
};
use shared::{
    error::InternalError,
    limits::{ANNOUNCE_ATTEMPTS_MAX, ANNOUNCE_BACKOFF},
    runtime::backoff::Backoff,
};

/// What publish's rule in the template goes by, beside the source.
const DETAIL_TYPE: &str = "Video Went Viral";

/// Hands announcements to the default bus.
#[derive(Clone, Debug)]
pub(crate) struct Announcer {
    client: Client,
    source: String,
}

/// What became of announcements.
#[derive(Debug, Default)]
pub(crate) struct AnnouncementReport {
    /// Ids of those that the bus has taken.
    pub(crate) announced: Vec<String>,
    /// Why others were not, if there are any.
    pub(crate) failure: Option<InternalError>,
}

/// The bus took a call and not every entry of it.
#[derive(Debug, thiserror::Error)]
#[error("{count} entries were not taken, the first with {code}: {message}")]
struct Refused {
    count: usize,
    code: String,
    message: String,
}

impl Announcer {
    /// Announces in events of this source, which the rule of one stack goes by.
    pub(crate) fn new(client: Client, source: String) -> Self {
        Self { client, source }
    }

    /// Announces at most as many as fit in one call, and those again that were not taken, within bounds.
    pub(crate) async fn announce(&self, announcements: &[Announcement]) -> AnnouncementReport {
        let mut report = AnnouncementReport::default();
        let mut left: Vec<&Announcement> = announcements.iter().collect();
        let mut backoff = Backoff::doubling(ANNOUNCE_BACKOFF);
        for attempt in 0..ANNOUNCE_ATTEMPTS_MAX {
            if attempt > 0 {
                backoff.pause().await;
            }
            let results = match self.put(&left).await {
                Ok(results) => results,
                // The client has tried again by itself.
                Err(failure) => return AnnouncementReport { failure: Some(failure), ..report },
            };
            let refused = first_refused(&results);
            let (taken, others): (Vec<_>, Vec<_>) =
                left.into_iter().enumerate().partition(|(entry, _)| is_taken(results.get(*entry)));
            report.announced.extend(taken.into_iter().map(|(_, announcement)| announcement.id.clone()));
            left = others.into_iter().map(|(_, announcement)| announcement).collect();
            if left.is_empty() {
                return AnnouncementReport { failure: None, ..report };
            }
            let (code, message) = refused.unwrap_or_default();
            tracing::warn!(entries = left.len(), code, message, "announcements not taken");
            report.failure =
                Some(InternalError::new("announcing what went viral", Refused { count: left.len(), code, message }));
        }
        report
    }

    async fn put(&self, announcements: &[&Announcement]) -> Result<Vec<PutEventsResultEntry>, InternalError> {
        let doing = "putting events";
        let entries = announcements.iter().map(|announcement| {
            let detail = serde_json::to_string(announcement).map_err(|error| InternalError::new(doing, error))?;
            Ok(PutEventsRequestEntry::builder().source(&self.source).detail_type(DETAIL_TYPE).detail(detail).build())
        });
        let entries = entries.collect::<Result<_, InternalError>>()?;
        let output = self.client.put_events().set_entries(Some(entries)).send().await;
        Ok(output.map_err(|error| InternalError::new(doing, error))?.entries.unwrap_or_default())
    }
}

/// An entry has been taken when it has an id; one that the answer does not speak of has not.
fn is_taken(result: Option<&PutEventsResultEntry>) -> bool {
    result.is_some_and(|result| result.event_id().is_some() && result.error_code().is_none())
}

fn first_refused(results: &[PutEventsResultEntry]) -> Option<(String, String)> {
    let refused = results.iter().find(|result| !is_taken(Some(result)))?;
    Some((refused.error_code().unwrap_or_default().to_owned(), refused.error_message().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_sdk_eventbridge::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
    use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
    use aws_smithy_http_client::test_util::infallible_client_fn;
    use aws_smithy_types::body::SdkBody;
    use serde_json::{Value, json};
    use shared::{error::ErrorChain, forms};

    use super::*;

    const SOURCE: &str = "viral-alerts.scorer.one-stack";

    /// Details of the entries of each call.
    type Calls = Arc<Mutex<Vec<Vec<Value>>>>;

    /// An announcer whose every call is answered by `answer`, which is given the number of calls before it.
    fn announcer(answer: impl Fn(usize) -> (u16, Value) + Send + Sync + 'static) -> (Announcer, Calls) {
        let calls = Calls::default();
        let seen = Arc::clone(&calls);
        let http = infallible_client_fn(move |request: http::Request<SdkBody>| {
            let body: Value = serde_json::from_slice(request.body().bytes().expect("in memory")).expect("JSON");
            let detail = |entry: &Value| serde_json::from_str(entry["Detail"].as_str().expect("a text")).expect("JSON");
            for entry in body["Entries"].as_array().expect("entries") {
                assert_eq!((&entry["Source"], &entry["DetailType"]), (&json!(SOURCE), &json!("Video Went Viral")));
            }
            let mut seen = seen.lock().expect("unpoisoned");
            let (status, text) = answer(seen.len());
            seen.push(body["Entries"].as_array().expect("entries").iter().map(detail).collect());
            http::Response::builder().status(status).body(SdkBody::from(text.to_string())).expect("valid")
        });
        let config = aws_sdk_eventbridge::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("t", "t", None, None, "test")))
            .endpoint_url("http://127.0.0.1:1")
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .http_client(http)
            .build();
        (Announcer::new(Client::from_conf(config), SOURCE.to_owned()), calls)
    }

    #[tokio::test]
    async fn what_is_announced_is_what_the_golden_file_has() {
        let golden: serde_json::Map<String, Value> =
            serde_json::from_str(include_str!("../../../shared/forms/announcement.1.json")).expect("a golden file");
        let read = |announcement: &Value| serde_json::from_value(announcement.clone()).expect("an announcement");
        let announcements: Vec<Announcement> = golden.values().map(read).collect();
        let (announcer, calls) = announcer(|_| (200, json!({"FailedEntryCount": 0, "Entries": [taken(), taken()]})));
        assert!(announcer.announce(&announcements).await.failure.is_none());
        let details = calls.lock().expect("unpoisoned").remove(0);
        let written = golden.keys().cloned().zip(details).collect();
        let form = forms::named("announcement").expect("a form");
        form.check(&golden.into(), &Value::Object(written)).unwrap_or_else(|changed| panic!("{changed}"));
    }

    fn announcements() -> Vec<Announcement> {
        let video = json!({"id": "v", "title": "t", "thumbnail": null, "score": 90.0});
        let of = |id: &str| json!({"id": id, "region": "PL", "video": video});
        ["a", "b", "c"].map(|id| serde_json::from_value(of(id)).expect("an announcement")).into()
    }

    fn taken() -> Value {
        json!({"EventId": "e"})
    }

    fn refused() -> Value {
        json!({"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"})
    }

    #[tokio::test(start_paused = true)]
    async fn entries_that_were_not_taken_are_put_again_and_no_others() {
        let (announcer, calls) = announcer(|before| match before {
            0 => (200, json!({"FailedEntryCount": 1, "Entries": [taken(), refused(), taken()]})),
            // An answer that does not speak of an entry is none for it.
            1 => (200, json!({"FailedEntryCount": 0, "Entries": []})),
            _ => (200, json!({"FailedEntryCount": 0, "Entries": [taken()]})),
        });
        let report = announcer.announce(&announcements()).await;
        let ids = |details: &Vec<Value>| details.iter().map(|detail| detail["id"].clone()).collect::<Vec<_>>();
        let calls: Vec<_> = calls.lock().expect("unpoisoned").iter().map(ids).collect();
        assert_eq!(calls, [vec!["a", "b", "c"], vec!["b"], vec!["b"]]);
        assert_eq!((report.announced, report.failure.is_none()), (["a", "c", "b"].map(str::to_owned).to_vec(), true));
    }

    #[tokio::test(start_paused = true)]
    async fn entries_that_are_never_taken_fail_within_bounds_and_the_others_are_announced() {
        let (announcer, calls) = announcer(|before| match before {
            0 => (200, json!({"FailedEntryCount": 2, "Entries": [refused(), taken(), refused()]})),
            _ => (200, json!({"FailedEntryCount": 2, "Entries": [refused(), refused()]})),
        });
        let report = announcer.announce(&announcements()).await;
        assert_eq!(calls.lock().expect("unpoisoned").len(), ANNOUNCE_ATTEMPTS_MAX as usize);
        assert_eq!(report.announced, ["b"]);
        let text = ErrorChain(&report.failure.expect("two are left")).to_string();
        assert!(text.contains("2 entries were not taken, the first with ThrottlingException: slow down"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_announced_by_a_call_that_fails() {
        let (announcer, _) = announcer(|_| (400, json!({"__type": "AccessDeniedException"})));
        let report = announcer.announce(&announcements()).await;
        assert_eq!((report.announced.len(), report.failure.is_some()), (0, true));
    }
}
