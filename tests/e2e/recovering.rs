//! What publish and deliver left behind, and recover sends.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use shared::{alert::Alert, alerts::Alerts, clock::Clock, limits::DISPATCH_GRACE, publication::Publication};

use crate::{
    failures::{create, description},
    site::{Site, eventually, run},
};

fn alert(region: &str) -> Value {
    json!({"region": region, "video": {"id": "v1", "title": "Title", "thumbnail": "", "score": 97}})
}

/// What the schedule invokes recover with.
fn scheduled() -> Value {
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

/// Commits an alert as publish does, `age_ms` ago, and ends there.
async fn commit(site: &Site, region: &str, age_ms: u128) -> Alert {
    let then = Clock::System.now().millis() - i64::try_from(age_ms).expect("not that long ago");
    let alerts = Alerts::new(site.dynamodb(), "AlertsTable".to_owned(), Clock::Manual(Arc::new(then.into())));
    let publication = Publication::from_bytes(alert(region).to_string().as_bytes()).expect("valid");
    alerts.commit(publication).await.expect("committed").alert
}

#[test]
fn an_alert_that_was_committed_and_never_dispatched_is_sent_within_a_minute() {
    run(async {
        let site = Site::with(&[("PushRate", "9200")]).await;
        let mut client = site.watcher("PL").await;
        let mut germany = site.watcher("DE").await;
        let forgotten = commit(&site, "PL", DISPATCH_GRACE.as_millis() + 1_000).await;
        // Publish may be about to dispatch this one.
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
        // What was published in order is nothing to recover, ever.
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

/// Asks for what failed for good to be tried again.
async fn redrive(site: &Site) -> Value {
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
        let event = json!({"id": "event-1", "detail-type": "Video Went Viral", "source": "viral-alerts.scorer", "detail": alert("PL")});
        for _ in 0..2 {
            site.invoke_async("PublishFunction", &event).await;
        }
        eventually("both records", || async { site.messages_in("UnpublishedQueue").await == 2 }).await;

        create(&dynamodb, alerts).await;
        assert_eq!(redrive(&site).await, json!({"redriven": 2, "unreadable": 0}));
        site.settled().await;
        assert_eq!(client.json().await["seq"], 1);
        // Two repeats at the same moment may both start the fan-out of the one alert that there is.
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
        let head = head.key("region", AttributeValue::S("PL".to_owned())).key("seq", AttributeValue::N("0".to_owned()));
        let item = head.send().await.expect("read").item.expect("a head");
        assert_eq!(item["last_seq"], AttributeValue::N("1".to_owned()));
    });
}

#[test]
fn what_a_redrive_cannot_read_stays_in_the_queue_and_is_counted() {
    run(async {
        let site = Site::with(&[("PushRate", "9400")]).await;
        let mut client = site.watcher("PL").await;
        let task = json!({
            "alert": {"id": "a", "region": "PL", "epoch": 1, "seq": 7, "video": {"id": "v", "title": "t"}, "at": 0},
            "dispatched_at": 0,
            // As long as a chain of invocations may become: with one more, deliver would refuse to hand over.
            "chain": 11,
        });
        let record = json!({"version": "1.0", "requestPayload": task});
        let queue = site.queue_url("UndeliveredQueue").await;
        for body in ["no record", &record.to_string(), r#"{"requestPayload": {}}"#] {
            site.sqs().send_message().queue_url(&queue).message_body(body).send().await.expect("sent");
        }
        assert_eq!(redrive(&site).await, json!({"redriven": 1, "unreadable": 2}));
        assert_eq!(client.json().await["seq"], 7);
        assert_eq!(site.messages_in("UndeliveredQueue").await, 2);
        client.expect_nothing().await;
        site.sqs().purge_queue().queue_url(&queue).send().await.expect("purged");
    });
}
