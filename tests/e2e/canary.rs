//! The synthetic canary: its alert arrives, no one else sees it, and it reports when nothing arrives.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clock::Clock;
use serde_json::{Value, json};
use shared::{
    limits::{CANARY_TIME_MAX, LOG_AGE_MAX},
    model::{audience::Region, publication::Publication},
    tables::alerts::{Alerts, snapshot::Snapshot},
};

use crate::{
    authorization::{PARAMETER, SECRET, token_of},
    history::alert,
    site::{Site, eventually, run},
};

/// The event of its schedule.
fn scheduled() -> Value {
    json!({"version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}})
}

/// Runs the canary, waits until all functions have ended, and returns its result.
async fn probe(site: &Site) -> Value {
    let (status, answer) = site.invoke("CanaryFunction", &scheduled()).await;
    assert_eq!(status, 200, "{answer}");
    site.settled().await;
    answer
}

async fn assert_arrives(site: &Site) {
    let answer = probe(site).await;
    let latency = answer["latency_ms"].as_u64().map(Duration::from_millis);
    assert!(answer["arrived"] == true && latency.is_some_and(|latency| latency < CANARY_TIME_MAX), "{answer}");
}

#[test]
fn the_alert_of_the_canary_arrives_and_its_connection_leaves_nothing() {
    run(async {
        let site = Site::with(&[("Canary", "on")]).await;
        for _ in 0..2 {
            assert_arrives(&site).await;
            eventually("no traces", || async { site.subscriptions().await.is_empty() }).await;
        }
    });
}

#[test]
fn clients_that_watch_all_regions_or_none_get_nothing_of_the_canary() {
    run(async {
        let site = Site::with(&[("Canary", "on"), ("FallbackToEveryone", "true")]).await;
        let mut all = site.watcher("ALL").await;
        let mut none = site.connect("/prod").await;
        assert_arrives(&site).await;
        site.publish(&alert("PL")).await;
        assert_eq!(all.json().await["region"], "PL", "the first that it gets");
        all.expect_nothing().await;
        none.expect_nothing().await;

        let before = json!({"X-CANARY": {"epoch": 0, "seq": 0}, "PL": {"epoch": 0, "seq": 0}});
        let message = json!({"type": "subscribe_region", "region": "ALL", "since": before});
        let resumed = all.ask(&message).await;
        assert_eq!(resumed["positions"].as_object().expect("positions").keys().collect::<Vec<_>>(), ["PL"]);
        assert_eq!(resumed["alerts"].as_array().map(Vec::len), Some(1), "{resumed}");
        assert_eq!(resumed["recovered"], true, "{resumed}");
        let kept = all.ask(&json!({"type": "keepalive", "region": "ALL", "since": resumed["positions"]})).await;
        assert_eq!(kept, json!({"type": "kept"}));
        for path in ["/alerts?region=ALL", "/alerts?region=ALL&after=X-CANARY.0.0_PL.0.0"] {
            let (_, page) = site.get(path).await;
            let regions: Vec<_> =
                page["alerts"].as_array().expect("alerts").iter().map(|alert| &alert["region"]).collect();
            assert_eq!(regions, ["PL"], "{path}: {page}");
            assert!(!page.to_string().contains("CANARY"), "{path}: {page}");
        }
        let (_, own) = site.get("/alerts?region=X-CANARY").await;
        assert_eq!(own["alerts"][0]["region"], "X-CANARY", "who names it is told: {own}");
    });
}

#[test]
fn a_canary_takes_no_place_of_a_region_that_may_have_alerts() {
    run(async {
        let site = Site::with(&[("Canary", "on"), ("RegionsMax", "1")]).await;
        assert_arrives(&site).await;
        site.publish(&alert("PL")).await;
        let (status, refusal) = site.post("/publish", &[], alert("DE").to_string()).await;
        assert_eq!((status, &refusal["error"]["code"]), (409, &json!("too_many_regions")));
        assert_arrives(&site).await;
        let alerts = Alerts::new(site.dynamodb(), "AlertsTable".to_owned(), Clock::System);
        assert_eq!(alerts.registered().await.expect("read"), ["PL"]);
    });
}

#[test]
fn the_log_of_a_canary_that_is_switched_off_ends_and_is_none_of_the_regions_that_are_counted() {
    run(async {
        let site = Site::start_in_process().await;
        let now = Clock::System.now().millis();
        let commit = async |publication: Publication, age: Duration| {
            let then = now - i64::try_from(age.as_millis()).expect("not that long ago");
            let alerts = Alerts::new(site.dynamodb(), "AlertsTable".to_owned(), Clock::Manual(Arc::new(then.into())));
            let deadline = tokio::time::Instant::now() + Duration::from_secs(29);
            let region = publication.region.clone();
            let commit = alerts.commit(&region, &[publication], deadline).await.pop().expect("a result");
            commit.expect("committed").expect("not refused");
        };
        let germany = Publication::from_bytes(alert("DE").to_string().as_bytes()).expect("valid");
        commit(germany, Duration::ZERO).await;
        commit(Publication::of_canary("run-1"), LOG_AGE_MAX - Duration::from_secs(60)).await;
        let alerts = Alerts::new(site.dynamodb(), "AlertsTable".to_owned(), Clock::System);
        let end = async |alerts: &Alerts| {
            alerts.end_old_logs(tokio::time::Instant::now() + Duration::from_secs(55)).await.expect("read")
        };
        assert_eq!(end(&alerts).await, 1, "beside that of the canary");
        let snapshot = Snapshot::new(site.dynamodb(), "AlertsTable".to_owned());
        assert_eq!(snapshot.read_all().await.expect("read").len(), 2);

        let later = Clock::Manual(Arc::new((now + 120_000).into()));
        let later = Alerts::new(site.dynamodb(), "AlertsTable".to_owned(), later);
        assert_eq!(end(&later).await, 1);
        let left: Vec<_> = snapshot.read_all().await.expect("read").into_keys().collect();
        assert_eq!(left.iter().map(Region::as_str).collect::<Vec<_>>(), ["DE"]);
        assert_eq!(alerts.registered().await.expect("read"), ["DE"]);
    });
}

#[test]
fn no_publisher_can_use_the_region_of_the_canary() {
    run(async {
        // Without the canary's schedule.
        let site = Site::with(&[]).await;
        let mut watcher = site.watcher("X-CANARY").await;
        let (status, refusal) = site.post("/publish", &[], alert("x-canary").to_string()).await;
        assert_eq!((status, &refusal["error"]["code"]), (400, &json!("invalid_region")));
        let (_, refusal) = site.invoke("PublishFunction", &alert("X-CANARY")).await;
        assert_eq!(refusal["error"]["field"], "region");
        let (status, refusal) = site.post("/publish", &[], r#"{"canary":"run-1"}"#).await;
        assert_eq!(status, 400, "{refusal}");
        site.settled().await;
        watcher.expect_nothing().await;
    });
}

#[test]
fn where_nothing_is_delivered_the_canary_says_silence_within_its_time() {
    run(async {
        let site = Site::faulty_with(&[("Canary", "on")], &["throttled-post=1"]).await;
        let began = Instant::now();
        let (_, answer) = site.invoke("CanaryFunction", &scheduled()).await;
        assert_eq!(answer, json!({"arrived": false, "stage": "arriving"}));
        assert!(began.elapsed() >= CANARY_TIME_MAX, "it has waited for the alert as long as it may");
    });
}

#[test]
fn where_messages_are_lost_the_canary_says_silence_at_once() {
    run(async {
        let site = Site::faulty_with(&[("Canary", "on")], &["dropped-connection=1"]).await;
        assert_eq!(probe(&site).await, json!({"arrived": false, "stage": "subscribing"}));
    });
}

/// Starts the service with tokens required and other parameters.
async fn with_tokens(more: &[(&str, &str)], secrets: &[(&str, &str)]) -> Site {
    let required = [
        ("Canary", "on"),
        ("Authorization", "required"),
        ("TokenSecretParameter", PARAMETER),
        ("TokenIssuer", "tests"),
        ("TokenAudience", "alerts"),
        ("ConnectionsPerUser", "1"),
    ];
    Site::with_secrets(&[&required[..], more].concat(), &[&[(PARAMETER, SECRET)], secrets].concat()).await
}

#[test]
fn where_tokens_are_required_the_canary_signs_one_or_takes_the_one_that_it_is_given() {
    run(async {
        assert_arrives(&with_tokens(&[], &[]).await).await;
        let given = [("CanaryTokenParameter", "/viral-alerts/canary")];
        let token = token_of(json!({"regions": ["X-CANARY"]}));
        assert_arrives(&with_tokens(&given, &[("/viral-alerts/canary", &token)]).await).await;
        for (useless, stage) in [
            (token_of(json!({"exp": 0})), "connecting"),
            (token_of(json!({"regions": ["PL"]})), "subscribing"),
            (String::new(), "connecting"),
        ] {
            let site = with_tokens(&given, &[("/viral-alerts/canary", &useless)]).await;
            assert_eq!(probe(&site).await, json!({"arrived": false, "stage": stage}), "{useless}");
        }
    });
}
