//! Alerts that publish or deliver left undone, which recover delivers.

use std::{sync::Arc, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use clock::Clock;
use serde_json::{Value, json};
use shared::{
    limits::{DISPATCH_GRACE, LOG_AGE_MAX},
    model::{alert::Alert, audience::Region, publication::Publication},
    tables::alerts::{Alerts, snapshot::Snapshot},
};

use crate::{
    failures::{create, description},
    history::new_region,
    site::{Site, eventually, run},
};

fn alert(region: &str) -> Value {
    json!({"region": region, "video": {"id": "v1", "title": "Title", "thumbnail": "", "score": 97}})
}

/// The event of recover's schedule.
pub(crate) fn scheduled() -> Value {
    json!({
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": "2026-11-22T10:00:00Z",
        "region": "eu-central-1",
        "resources": ["arn:aws:events:eu-central-1:000000000000:rule/RecoverFunction-EveryMinute"],
        "detail": {},
    })
}

/// Commits an alert as publish does, `age_ms` ago, without a dispatch.
pub(crate) async fn commit(site: &Site, region: &str, age_ms: u128) -> Alert {
    let then = Clock::System.now().millis() - i64::try_from(age_ms).expect("not that long ago");
    let alerts = Alerts::new(site.dynamodb(), "AlertsTable".to_owned(), Clock::Manual(Arc::new(then.into())));
    let publication = Publication::from_bytes(alert(region).to_string().as_bytes()).expect("valid");
    let region = publication.region.clone();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(29);
    let commit = alerts.commit(&region, &[publication], deadline).await.pop().expect("a result");
    commit
        .expect("committed")
        .expect("not refused")
        .committed()
        .expect("new")
        .logged
        .alert()
        .cloned()
        .expect("an alert")
}

#[test]
fn an_alert_that_was_committed_and_never_dispatched_is_sent_within_a_minute() {
    run(async {
        let site = Site::with(&[("PushRate", "9200")]).await;
        let mut client = site.watcher("PL").await;
        let mut germany = site.watcher("DE").await;
        let forgotten = commit(&site, "PL", DISPATCH_GRACE.as_millis() + 1_000).await;
        // Publish may be about to dispatch it.
        let young = commit(&site, "DE", 0).await;
        site.settled().await;
        client.expect_nothing().await;

        assert_eq!(site.invoke("RecoverFunction", &scheduled()).await, (200, json!({"recovered": 1})));
        site.settled().await;
        let frame = client.json().await;
        assert_eq!((&frame["id"], &frame["seq"]), (&json!(forgotten.id), &json!(forgotten.position.seq)));
        assert_eq!(site.invoke("RecoverFunction", &scheduled()).await.1, json!({"recovered": 0}));
        site.settled().await;
        client.expect_nothing().await;
        germany.expect_nothing().await;
        assert_eq!(young.region.as_str(), "DE");
        // A dispatched alert is never recovered.
        site.publish(&alert("PL")).await;
        assert_eq!(client.json().await["region"], "PL");
        let left = site.dynamodb().query().table_name("AlertsTable").index_name("undispatched");
        let left = left
            .key_condition_expression("undispatched = :yes")
            .expression_attribute_values(":yes", AttributeValue::S("yes".to_owned()));
        let left = left.send().await.expect("a query");
        let regions: Vec<_> = left.items().iter().map(|item| item["region"].as_s().expect("a text").as_str()).collect();
        assert_eq!(regions, ["DE"]);
    });
}

#[test]
fn an_alert_that_cannot_be_sent_does_not_stop_the_others_and_fails_the_invocation() {
    run(async {
        let site = Site::with(&[("PushRate", "9300")]).await;
        let mut client = site.watcher("PL").await;
        let broken = commit(&site, "PL", DISPATCH_GRACE.as_millis() + 2_000).await;
        let forgotten = commit(&site, "PL", DISPATCH_GRACE.as_millis() + 1_000).await;
        let dynamodb = site.dynamodb();
        let update = dynamodb
            .update_item()
            .table_name("AlertsTable")
            .key("region", AttributeValue::S("PL".to_owned()))
            .key("seq", AttributeValue::N(broken.position.seq.to_string()))
            .update_expression("REMOVE video");
        update.send().await.expect("an update");

        let (_, failure) = site.invoke("RecoverFunction", &scheduled()).await;
        let message = failure["errorMessage"].as_str().unwrap_or_default();
        assert!(message.starts_with("reading an alert that was never dispatched failed: "), "{failure}");
        site.settled().await;
        assert_eq!(client.json().await["id"], forgotten.id.as_str());
        client.expect_nothing().await;
    });
}

/// Asks recover to redrive the dead-letter queues.
pub(crate) async fn redrive(site: &Site) -> Value {
    let (_, answer) = site.invoke("RecoverFunction", &json!({"redrive": true})).await;
    site.settled().await;
    answer
}

#[test]
fn an_alert_whose_fan_out_failed_for_good_lies_in_the_queue_and_a_redrive_delivers_it() {
    run(async {
        // Retries come at once.
        let site = Site::faulty(&[]).await;
        let mut client = site.watcher("PL").await;
        let dynamodb = site.dynamodb();
        let subscriptions = description(&dynamodb, "SubscriptionsTable").await;
        dynamodb.delete_table().table_name("SubscriptionsTable").send().await.expect("deleted");
        let answer = site.publish(&alert("PL")).await;
        eventually("a record", || async { site.messages_in("UndeliveredQueue").await == 1 }).await;
        client.expect_nothing().await;

        create(&dynamodb, subscriptions).await;
        client.subscribe("PL").await;
        assert_eq!(redrive(&site).await, json!({"redriven": 1, "unreadable": 0}));
        assert_eq!(client.json().await["seq"], answer["seq"]);
        assert_eq!(site.messages_in("UndeliveredQueue").await, 0);
        assert_eq!(redrive(&site).await, json!({"redriven": 0, "unreadable": 0}));
        client.expect_nothing().await;
    });
}

#[test]
fn an_event_that_was_not_published_for_good_lies_in_the_queue_and_a_redrive_publishes_it_once() {
    run(async {
        let site = Site::faulty(&[]).await;
        let mut client = site.watcher("PL").await;
        let dynamodb = site.dynamodb();
        let alerts = description(&dynamodb, "AlertsTable").await;
        dynamodb.delete_table().table_name("AlertsTable").send().await.expect("deleted");
        let (kind, source) = ("Video Went Viral", "viral-alerts.scorer");
        let event = json!({"id": "event-1", "detail-type": kind, "source": source, "detail": alert("PL")});
        for _ in 0..2 {
            site.invoke_async("PublishFunction", &event).await;
        }
        eventually("both records", || async { site.messages_in("UnpublishedQueue").await == 2 }).await;

        create(&dynamodb, alerts).await;
        assert_eq!(redrive(&site).await, json!({"redriven": 2, "unreadable": 0}));
        site.settled().await;
        assert_eq!(client.json().await["seq"], 1);
        // Two retries at the same moment may both start the fan-out of the alert.
        let (_, log) = site.get("/alerts?region=PL").await;
        assert_eq!(log["alerts"].as_array().map(Vec::len), Some(1), "{log}");
    });
}

#[test]
fn an_invocation_that_failed_after_the_commit_is_no_second_alert_when_lambda_repeats_it() {
    run(async {
        let site = Site::faulty(&["failed-after-run=1"]).await;
        site.invoke_async("PublishFunction", &alert("PL")).await;
        eventually("a record", || async { site.messages_in("UnpublishedQueue").await == 1 }).await;
        let head = site.dynamodb().get_item().table_name("AlertsTable").consistent_read(true);
        let head =
            head.key("region", AttributeValue::S("@head#PL".to_owned())).key("seq", AttributeValue::N("0".to_owned()));
        let item = head.send().await.expect("read").item.expect("a head");
        assert_eq!(item["last_seq"], AttributeValue::N("1".to_owned()));
    });
}

#[test]
fn what_a_redrive_cannot_read_stays_in_the_queue_and_is_counted() {
    run(async {
        let site = Site::with(&[("PushRate", "9400")]).await;
        let mut client = site.watcher("PL").await;
        let published = commit(&site, "PL", 0).await;
        let task = json!({
            "alert": published,
            "dispatched_at": 0,
            // The largest depth of invocations at which deliver still hands over.
            "chain": 11,
        });
        let record = json!({"version": "1.0", "requestPayload": task});
        let queue = site.queue_url("UndeliveredQueue").await;
        for body in ["no record", &record.to_string(), r#"{"requestPayload": {}}"#] {
            site.sqs().send_message().queue_url(&queue).message_body(body).send().await.expect("sent");
        }
        assert_eq!(redrive(&site).await, json!({"redriven": 1, "unreadable": 2}));
        assert_eq!(client.json().await["id"], published.id.as_str());
        assert_eq!(site.messages_in("UndeliveredQueue").await, 2);
        client.expect_nothing().await;
        site.sqs().purge_queue().queue_url(&queue).send().await.expect("purged");
    });
}

#[test]
fn the_lag_of_a_fan_out_that_is_redriven_begins_when_it_is() {
    run(async {
        let site = Site::start().await;
        let region = new_region();
        let mut client = site.watcher(&region).await;
        let now = Clock::System.now();
        let mut task = json!({
            "alert": commit(&site, &region, 0).await,
            "dispatched_at": now.millis() - 3_600_000,
        });
        let (_, report) = site.invoke("DeliverFunction", &task).await;
        assert!(report["lag_ms"].as_u64() >= Some(3_600_000), "{report}");
        task["redriven_at"] = json!(now);
        let (_, report) = site.invoke("DeliverFunction", &task).await;
        assert!(report["lag_ms"].as_u64() < Some(60_000), "{report}");
        client.json().await;
    });
}

/// Returns whether a region is in the snapshot, and whether it is registered.
async fn known(site: &Site, region: &Region) -> (bool, bool) {
    let alerts = Alerts::new(site.dynamodb(), "AlertsTable".to_owned(), Clock::System);
    let snapshot = Snapshot::new(site.dynamodb(), "AlertsTable".to_owned());
    let registered = alerts.registered().await.expect("read");
    let entries = snapshot.read([region]).await.expect("read");
    (!entries.is_empty(), registered.iter().any(|name| name == region.as_str()))
}

#[test]
fn a_region_goes_when_its_log_has_long_expired_and_begins_anew_with_a_later_epoch() {
    run(async {
        let site = Site::with(&[("PushRate", "9500")]).await;
        let region: Region = "PL".parse().expect("a region");
        let old = commit(&site, "PL", LOG_AGE_MAX.as_millis() + 1_000).await;
        let young = commit(&site, "DE", LOG_AGE_MAX.as_millis() - 60_000).await;
        assert_eq!(known(&site, &region).await, (true, true));
        site.invoke("RecoverFunction", &scheduled()).await;
        site.settled().await;
        assert_eq!(known(&site, &region).await, (false, false));
        assert_eq!(known(&site, &young.region).await, (true, true), "its alerts may still be asked for");

        let answer = site.publish(&alert("PL")).await;
        assert_eq!(answer["seq"], 1);
        assert!(answer["epoch"].as_i64() > Some(old.position.epoch), "{answer}");
        assert_eq!(known(&site, &region).await, (true, true));
        let mut client = site.connect("/prod").await;
        let since = json!({"epoch": old.position.epoch, "seq": old.position.seq});
        let answer = client.ask(&json!({"type": "subscribe_region", "region": "PL", "since": since})).await;
        assert_eq!(answer["recovered"], false, "its position is of another log: {answer}");
    });
}

#[test]
fn a_publication_at_the_moment_at_which_its_log_ends_is_never_lost() {
    run(async {
        let site = Site::with(&[("PushRate", "9600")]).await;
        let region: Region = "PL".parse().expect("a region");
        // The publication comes first, so the log has changed since recover read it.
        let old = commit(&site, "PL", LOG_AGE_MAX.as_millis() + 1_000).await;
        site.publish(&alert("PL")).await;
        let alerts = Alerts::new(site.dynamodb(), "AlertsTable".to_owned(), Clock::System);
        assert!(!alerts.remove_log(&region, old.position).await.expect("asked"), "it is not as it was seen");
        assert_eq!(known(&site, &region).await, (true, true));
        assert_eq!(site.publish(&alert("PL")).await["seq"], 3);

        // The end of the log comes first, and recover dies before it has changed the snapshot.
        let germany: Region = "DE".parse().expect("a region");
        let old = commit(&site, "DE", LOG_AGE_MAX.as_millis() + 1_000).await;
        assert!(alerts.end_log(&germany).await.expect("ended"));
        let answer = site.publish(&alert("DE")).await;
        assert_eq!((&answer["seq"], answer["epoch"].as_i64() > Some(old.position.epoch)), (&json!(1), true));
        site.invoke("RecoverFunction", &scheduled()).await;
        assert_eq!(known(&site, &germany).await, (true, true), "the entry is of the new log");
        assert_eq!(site.publish(&alert("DE")).await["seq"], 2);
    });
}
