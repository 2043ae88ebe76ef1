//! Feeds of view counts and events of others, from the scorer through the event bus to clients.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use clock::{Clock, Timestamp};
use http_body_util::Full;
use hyper::{Response, StatusCode, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::site::{Site, run};

/// Other videos, enough to tell what is usual.
const OTHERS: u64 = 30;

/// Minutes between counts.
const STEP: i64 = 60;

/// A feed on this machine, whose content the test sets.
pub(crate) struct Feed {
    pub(crate) address: String,
    body: Arc<Mutex<(StatusCode, String)>>,
    begun: Timestamp,
}

impl Feed {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}/feed.json", listener.local_addr().expect("an address"));
        let body = Arc::new(Mutex::new((StatusCode::OK, "[]".to_owned())));
        let served = Arc::clone(&body);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = Arc::clone(&served);
                let service = service_fn(move |_| {
                    let (status, text) = served.lock().expect("unpoisoned").clone();
                    let response = Response::builder().status(status).body(Full::new(Bytes::from(text)));
                    async move { Ok::<_, Infallible>(response.expect("a valid response")) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        // Ten steps ago, so that no count lies in the future.
        let begun = Timestamp::from_millis(Clock::System.now().millis() - 10 * STEP * 60_000);
        Self { address, body, begun }
    }

    fn says(&self, status: StatusCode, text: String) {
        *self.body.lock().expect("unpoisoned") = (status, text);
    }

    /// Sets the counts of a step: usual growth of the others, and the views of the one.
    pub(crate) fn counts(&self, step: i64, views: u64) {
        let at = Timestamp::from_millis(self.begun.millis() + step * STEP * 60_000).rfc3339();
        let entry = |id: String, views: u64| {
            let video = json!({"id": id, "title": "Zażółć 🎉", "thumbnail": "https://t/1.jpg", "channel": "c"});
            json!({"region": "PL", "video": video, "views": views, "at": at})
        };
        let usual = |n: u64| entry(format!("other-{n}"), (1_000 + 100 * n) * (10 + step as u64));
        let entries: Vec<_> = (0..OTHERS).map(usual).chain([entry("viral".to_owned(), views)]).collect();
        self.says(StatusCode::OK, json!(entries).to_string());
    }
}

/// Invokes the scorer, and waits until all functions have ended.
async fn score(site: &Site) -> Value {
    let (status, answer) = site.invoke("ScorerFunction", &json!({})).await;
    assert_eq!(status, 200, "{answer}");
    site.settled().await;
    answer
}

#[test]
fn what_goes_viral_reaches_those_who_watch_its_region_once_per_rise() {
    run(async {
        let feed = Feed::start().await;
        let site = Site::with(&[("FeedUrl", &feed.address)]).await;
        let mut watcher = site.watcher("PL").await;
        let mut elsewhere = site.watcher("DE").await;
        feed.counts(0, 100_000);
        assert_eq!(score(&site).await, json!({"regions": 1, "counts": 31, "skipped": 0, "announced": 0}));
        feed.counts(1, 110_000);
        assert_eq!(score(&site).await["announced"], 0, "what is usual is being learnt");
        watcher.expect_nothing().await;

        feed.counts(2, 2_000_000);
        assert_eq!(score(&site).await["announced"], 1);
        let frame = watcher.json().await;
        let video = &frame["video"];
        assert_eq!(
            (&frame["type"], &frame["region"], &video["id"]),
            (&json!("viral_alert"), &json!("PL"), &json!("viral"))
        );
        assert_eq!((&video["title"], &video["channel"]), (&json!("Zażółć 🎉"), &json!("c")));
        assert!(video["score"].as_f64().is_some_and(|score| (85.0..=100.0).contains(&score)), "{frame}");

        assert_eq!(score(&site).await["announced"], 0, "the same feed once more");
        feed.counts(3, 4_000_000);
        assert_eq!(score(&site).await["announced"], 0, "the rise goes on");
        watcher.expect_nothing().await;
        feed.counts(4, 4_000_100);
        assert_eq!(score(&site).await["announced"], 0, "it ends");
        feed.counts(5, 9_000_000);
        assert_eq!(score(&site).await["announced"], 1, "another one");
        assert_eq!(watcher.json().await["seq"], 2);
        watcher.expect_nothing().await;
        elsewhere.expect_nothing().await;
    });
}

#[test]
fn a_feed_that_cannot_be_read_is_a_failure_and_entries_that_cannot_be_are_skipped() {
    run(async {
        let feed = Feed::start().await;
        let site = Site::with(&[("FeedUrl", &feed.address)]).await;
        for (status, text, said) in [
            (StatusCode::SERVICE_UNAVAILABLE, "[]", "the answer has the status 503"),
            (StatusCode::OK, "{}", "reading the feed failed"),
        ] {
            feed.says(status, text.to_owned());
            let (_, answer) = site.invoke("ScorerFunction", &json!({})).await;
            assert_eq!(answer["errorType"], "Failure", "{answer}");
            assert!(answer["errorMessage"].as_str().is_some_and(|message| message.contains(said)), "{answer}");
        }
        feed.says(StatusCode::OK, json!([7, {"region": "?"}]).to_string());
        assert_eq!(score(&site).await, json!({"regions": 0, "counts": 0, "skipped": 2, "announced": 0}));
    });
}

pub(crate) fn entry(detail: &Value) -> PutEventsRequestEntry {
    entry_of_text(&detail.to_string())
}

/// Serves a text as the feed.
pub(crate) fn entry_of_text(detail: &str) -> PutEventsRequestEntry {
    let entry = PutEventsRequestEntry::builder().source("viral-alerts.scorer.local").detail_type("Video Went Viral");
    entry.detail(detail).build()
}

#[test]
fn an_event_that_is_put_again_is_no_second_alert() {
    run(async {
        let site = Site::start().await;
        let mut watcher = site.watcher("PL").await;
        let client = aws_sdk_eventbridge::Client::new(&site.sdk());
        let detail =
            json!({"region": "PL", "id": "rise-1", "video": {"id": "v", "title": "t", "thumbnail": "", "score": 97}});
        let mut ids = Vec::new();
        for _ in 0..2 {
            let output = client.put_events().entries(entry(&detail)).send().await.expect("taken");
            assert_eq!(output.failed_entry_count(), 0);
            ids.extend(output.entries()[0].event_id().map(str::to_owned));
            site.settled().await;
        }
        assert!(ids.len() == 2 && ids[0] != ids[1], "each call has an event of its own: {ids:?}");
        assert_eq!(watcher.json().await["video"]["id"], "v");
        watcher.expect_nothing().await;
    });
}

#[test]
fn entries_are_taken_or_refused_one_by_one_and_those_that_no_rule_is_for_reach_nobody() {
    run(async {
        let site = Site::start().await;
        let mut watcher = site.watcher("PL").await;
        let client = aws_sdk_eventbridge::Client::new(&site.sdk());
        let detail = json!({"region": "PL", "video": {"id": "v", "title": "t", "thumbnail": "", "score": 97}});
        let builder = || PutEventsRequestEntry::builder().source("s").detail_type("t").detail("{}");
        let entries = [
            PutEventsRequestEntry::builder().detail_type("t").detail("{}").build(),
            PutEventsRequestEntry::builder().source("s").detail("{}").build(),
            PutEventsRequestEntry::builder().source("s").detail_type("t").build(),
            builder().detail("no JSON").build(),
            builder().detail("[]").build(),
            builder().source("aws.ec2").build(),
            builder().detail(detail.to_string()).build(),
            PutEventsRequestEntry::builder()
                .event_bus_name("other")
                .source("viral-alerts.scorer.local")
                .detail_type("Video Went Viral")
                .detail(detail.to_string())
                .build(),
            entry(&detail),
        ];
        let output = client.put_events().set_entries(Some(entries.into())).send().await.expect("answered");
        let codes: Vec<_> = output.entries().iter().map(|entry| entry.error_code().unwrap_or_default()).collect();
        let argument = "InvalidArgument";
        let malformed = "MalformedDetail";
        assert_eq!(
            codes,
            [argument, argument, argument, malformed, malformed, "NotAuthorizedForSourceException", "", "", ""]
        );
        assert_eq!(output.failed_entry_count(), 6);
        site.settled().await;
        assert_eq!(watcher.json().await["video"]["id"], "v");
        watcher.expect_nothing().await;

        let eleven = client.put_events().set_entries(Some(vec![entry(&detail); 11])).send().await;
        let text = shared::error::ErrorChain(&eleven.expect_err("too many")).to_string();
        assert!(text.contains("ValidationException") && text.contains("less than or equal to 10"), "{text}");
        let large = json!({"x": "x".repeat(256 * 1024)});
        assert!(client.put_events().entries(entry(&large)).send().await.is_err());
    });
}
