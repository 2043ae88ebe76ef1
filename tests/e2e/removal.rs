//! Alerts that publishers take back.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use clock::Clock;
use serde_json::{Value, json};
use shared::{limits::DISPATCH_GRACE, model::alert::Logged, tables::alerts::Alerts};

use crate::{
    recovering::{redrive, scheduled},
    site::{Client, Site, run},
};

/// The title that must be gone.
const WRONG: &str = "Wrong headline";

fn alert(region: &str, title: &str) -> Value {
    json!({"region": region, "video": {"id": "v1", "title": title, "thumbnail": "", "score": 97}})
}

/// The frame that clients receive.
fn removed(of: &Value) -> Value {
    json!({"type": "alert_removed", "region": of["region"], "seq": of["seq"], "epoch": of["epoch"], "id": of["id"]})
}

/// Takes an alert back, and waits until clients have been told.
async fn take_back(site: &Site, path: &str) -> (u16, Value) {
    let answer = site.request("DELETE", path, &[]).await;
    site.settled().await;
    (answer.status, answer.json())
}

fn key(region: &str, seq: u64) -> [(&str, AttributeValue); 2] {
    [("region", AttributeValue::S(region.to_owned())), ("seq", AttributeValue::N(seq.to_string()))]
}

/// Returns all items of the log's table.
async fn items(site: &Site) -> String {
    let scan = site.dynamodb().scan().table_name("AlertsTable").consistent_read(true).send().await.expect("read");
    format!("{:?}", scan.items())
}

async fn seqs_of(client: &mut Client, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    for _ in 0..count {
        seqs.push(client.json().await["seq"].as_u64().expect("a number"));
    }
    seqs
}

#[test]
fn whoever_asks_after_a_removal_gets_the_number_and_not_the_content() {
    run(async {
        let site = Site::with(&[("PushRate", "9700")]).await;
        let mut by_message = site.watcher("PL").await;
        let mut of_all = site.watcher("ALL").await;
        let mut at_connect = site.connect("/prod?region=PL").await;
        for title in ["One", WRONG, "Three"] {
            site.publish(&alert("PL", title)).await;
        }
        for client in [&mut by_message, &mut of_all, &mut at_connect] {
            let mut seqs = seqs_of(client, 3).await;
            seqs.sort_unstable();
            assert_eq!(seqs, [1, 2, 3]);
        }
        assert!(items(&site).await.contains(WRONG));
        let (_, page) = site.get("/alerts?region=PL").await;
        let wrong = page["alerts"][1].clone();

        let answer = take_back(&site, "/alerts/pl/2").await;
        let taken = json!({"id": wrong["id"], "region": "PL", "seq": 2, "epoch": wrong["epoch"], "removed": true});
        assert_eq!(answer, (200, taken.clone()));
        let frame = removed(&wrong);
        assert_eq!(by_message.json().await, frame);
        assert_eq!(of_all.json().await, frame);
        // Such a client would take it for an alert.
        at_connect.expect_nothing().await;
        let left = items(&site).await;
        assert!(!left.contains(WRONG) && left.contains("Three"), "{left}");

        let (_, page) = site.get("/alerts?region=PL").await;
        let seqs: Vec<_> = page["alerts"].as_array().expect("alerts").iter().map(|alert| &alert["seq"]).collect();
        assert_eq!((seqs, &page["removed"]), (vec![&json!(1), &json!(3)], &json!([frame])), "{page}");
        let (_, page) = site.get("/alerts?region=PL&after=1&limit=1").await;
        assert_eq!((&page["alerts"], &page["removed"]), (&json!([]), &json!([frame])), "{page}");
        assert_eq!((&page["recovered"], &page["more"]), (&json!(true), &json!(true)), "it is no hole");

        let since = json!({"epoch": wrong["epoch"], "seq": 1});
        for (format, kind) in [("viral_alert", "type"), ("new_trending", "event")] {
            let mut back = site.connect("/prod").await;
            let message = json!({"type": "subscribe_region", "region": "PL", "since": since, "format": format});
            let answer = back.ask(&message).await;
            assert_eq!((&answer["recovered"], &answer["removed"]), (&json!(true), &json!([frame])), "{answer}");
            let alerts = answer["alerts"].as_array().expect("alerts");
            assert_eq!((alerts.len(), &alerts[0]["seq"]), (1, &json!(3)), "{answer}");
            assert_eq!(alerts[0][kind], format, "{answer}");
        }

        let headers = [("accept", "text/event-stream")];
        let stream = site.request("GET", "/alerts?region=PL&after=1", &headers).await.body;
        let epoch = wrong["epoch"].as_i64().expect("a number");
        let id = |seq: u64| {
            let position = shared::model::alert::Position { epoch, seq };
            shared::model::position::Positions::from_iter([("PL".parse().expect("a region"), position)]).to_string()
        };
        let event = format!("event: alert_removed\nid: {}\ndata: ", id(2));
        let after = stream.split_once(&event).expect(&stream).1;
        assert_eq!(serde_json::from_str::<Value>(after.lines().next().expect("data")).expect("JSON"), frame);
        assert!(after.contains(&format!("\n\nid: {}\ndata: {{\"type\":\"viral_alert\"", id(3))), "{stream}");
        assert!(!stream.contains(WRONG), "{stream}");

        // A second removal changes nothing, and clients are told again.
        assert_eq!(take_back(&site, &format!("/alerts/PL/2?epoch={epoch}")).await, (200, taken));
        assert_eq!(by_message.json().await, frame);
        // The next alert is number four.
        site.publish(&alert("PL", "Four")).await;
        assert_eq!(seqs_of(&mut by_message, 1).await, [4]);
        assert_eq!(seqs_of(&mut at_connect, 1).await, [4]);
    });
}

#[test]
fn an_alert_that_is_not_there_is_refused_by_its_kind() {
    run(async {
        let site = Site::start().await;
        let region = crate::history::new_region();
        let refused = async |path: String| {
            let (status, answer) = take_back(&site, &path).await;
            (status, answer["error"]["code"].as_str().expect("a code").to_owned(), answer["error"]["field"].clone())
        };
        let error = |status: u16, code: &str, field: &str| (status, code.to_owned(), json!(field));
        let unknown = || error(404, "unknown_alert", "seq");
        assert_eq!(refused(format!("/alerts/{region}/1")).await, unknown(), "it has no log");
        let first = site.publish(&alert(&region, "One")).await;
        let epoch = first["epoch"].as_i64().expect("a number");
        assert_eq!(refused(format!("/alerts/{region}/2")).await, unknown());
        assert_eq!(refused(format!("/alerts/{region}/1?epoch={}", epoch + 1)).await, unknown());
        let expired = error(410, "alert_expired", "seq");
        assert_eq!(refused(format!("/alerts/{region}/1?epoch={}", epoch - 1)).await, expired);
        assert_eq!(refused(format!("/alerts/{region}/one")).await, error(400, "invalid_field", "seq"));
        assert_eq!(refused(format!("/alerts/{region}/1?epoch=x")).await, error(400, "invalid_field", "epoch"));
        assert_eq!(refused("/alerts/ALL/1".to_owned()).await, error(400, "invalid_region", "region"));
        assert_eq!(site.request("DELETE", &format!("/alerts/{region}"), &[]).await.status, 404, "no such route");

        // The time to live deletes items, and a number may hold the alert of an earlier log.
        let log = site.dynamodb();
        let [(region_key, name), (seq_key, seq)] = key(&region, 1);
        let item = log.get_item().table_name("AlertsTable").key(region_key, name.clone()).key(seq_key, seq.clone());
        let mut item = item.send().await.expect("read").item.expect("the alert");
        let delete = log.delete_item().table_name("AlertsTable").key(region_key, name).key(seq_key, seq);
        delete.send().await.expect("deleted");
        assert_eq!(refused(format!("/alerts/{region}/1")).await, expired);
        item.insert("epoch".to_owned(), AttributeValue::N((epoch - 1).to_string()));
        log.put_item().table_name("AlertsTable").set_item(Some(item)).send().await.expect("written");
        assert_eq!(refused(format!("/alerts/{region}/1")).await, expired);
        assert_eq!(refused(format!("/alerts/{region}/1?epoch={epoch}")).await, expired);
        assert!(items(&site).await.contains(&(epoch - 1).to_string()), "another log is not touched");
    });
}

#[test]
fn an_event_and_an_invocation_take_back_what_a_request_does() {
    run(async {
        let site = Site::with(&[("PushRate", "9710")]).await;
        let mut client = site.watcher("PL").await;
        for (title, takes_back) in [
            (WRONG, json!({"remove": {"region": "pl", "seq": 1}})),
            (
                WRONG,
                json!({
                    "id": "e",
                    "detail-type": "Remove Alert",
                    "source": "desk",
                    "detail": {"region": "PL", "seq": 2}
                }),
            ),
        ] {
            let published = site.publish(&alert("PL", title)).await;
            client.json().await;
            for _ in 0..2 {
                let (status, answer) = site.invoke("PublishFunction", &takes_back).await;
                site.settled().await;
                let seq = &published["seq"];
                let (id, epoch) = (&published["id"], &published["epoch"]);
                let taken = json!({"id": id, "region": "PL", "seq": seq, "epoch": epoch, "removed": true});
                assert_eq!((status, answer), (200, taken));
                assert_eq!(client.json().await, removed(&published));
            }
        }
        assert!(!items(&site).await.contains(WRONG));
        let (_, refused) = site.invoke("PublishFunction", &json!({"remove": {"region": "PL", "seq": 9}})).await;
        assert_eq!(refused["error"]["code"], "unknown_alert", "{refused}");
        let (_, refused) = site.invoke("PublishFunction", &json!({"remove": 9})).await;
        assert_eq!(refused["error"]["code"], "not_an_object", "{refused}");
        // An error that a retry may mend fails the invocation, so that Lambda retries.
        site.dynamodb().delete_table().table_name("AlertsTable").send().await.expect("deleted");
        let (_, failure) = site.invoke("PublishFunction", &json!({"remove": {"region": "PL", "seq": 1}})).await;
        assert!(failure["errorMessage"].is_string(), "{failure}");
        let (status, answer) = take_back(&site, "/alerts/PL/1").await;
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("unavailable")));
    });
}

#[test]
fn a_removal_is_an_alert_of_its_publisher_s_allowance() {
    run(async {
        let site = Site::with(&[("AlertsPerMinute", "2")]).await;
        site.publish(&alert("PL", WRONG)).await;
        assert_eq!(take_back(&site, "/alerts/PL/1").await.0, 200);
        let refused = site.request("DELETE", "/alerts/PL/1", &[]).await;
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &json!("rate_limited")));
        assert!(!refused.header("retry-after").is_empty());
    });
}

#[test]
fn what_was_taken_back_is_not_delivered_by_any_worker_that_begins_later() {
    run(async {
        let site = Site::with(&[("PushRate", "9720")]).await;
        let mut client = site.watcher("PL").await;
        let mut at_connect = site.connect("/prod?region=PL").await;
        let video = json!({"id": "v1", "title": WRONG, "thumbnail": "", "score": 97});
        let body = json!({"id": "scored-1", "region": "PL", "video": video});
        let published = site.publish(&body).await;
        client.json().await;
        at_connect.json().await;
        let task = json!({
            "alert": {
                "id": published["id"], "region": "PL", "epoch": published["epoch"], "seq": published["seq"],
                "video": body["video"], "at": 0,
            },
            "dispatched_at": 0,
        });
        let (_, report) = site.invoke("DeliverFunction", &task).await;
        assert_eq!(report["sent"], 2, "before it was taken back: {report}");
        client.json().await;
        at_connect.json().await;
        take_back(&site, "/alerts/PL/1").await;
        assert_eq!(client.json().await, removed(&published));

        // A task that waited in Lambda's queue, a part of an audience, and a redriven task.
        let mut part = task.clone();
        part["part"] = json!({"ranges": [{"first": 0, "last": u32::MAX}], "rate": 50.0, "everyone": false});
        for late in [&task, &part] {
            let (_, report) = site.invoke("DeliverFunction", late).await;
            assert_eq!((&report["sent"], &report["fell_back"]), (&json!(0), &json!(false)), "{report}");
        }
        let record = json!({"version": "1.0", "requestPayload": task}).to_string();
        let queue = site.queue_url("UndeliveredQueue").await;
        site.sqs().send_message().queue_url(&queue).message_body(record).send().await.expect("sent");
        assert_eq!(redrive(&site).await["redriven"], 1);
        assert_eq!(site.messages_in("UndeliveredQueue").await, 0, "and with it the content is gone from the queue");

        // The scorer retries with the same key and gets the first answer.
        let repeat = site.publish(&body).await;
        assert_eq!((&repeat["id"], &repeat["duplicate"]), (&published["id"], &json!(true)), "{repeat}");
        assert_eq!(repeat["removed"], true, "{repeat}");
        client.expect_nothing().await;
        at_connect.expect_nothing().await;
        let (_, page) = site.get("/alerts?region=PL").await;
        assert_eq!(page["alerts"], json!([]), "{page}");
    });
}

#[test]
fn a_removal_that_nobody_was_told_of_is_told_by_recover_and_the_alert_never_is() {
    run(async {
        let site = Site::with(&[("PushRate", "9730")]).await;
        let mut client = site.watcher("PL").await;
        // Publish died twice, before it dispatched the alert and before it dispatched the removal.
        let age = DISPATCH_GRACE + Duration::from_secs(1);
        let forgotten = crate::recovering::commit(&site, "PL", age.as_millis()).await;
        let update = site.dynamodb().update_item().table_name("AlertsTable");
        let [(region_key, name), (seq_key, seq)] = key("PL", forgotten.position.seq);
        let update =
            update.key(region_key, name).key(seq_key, seq).update_expression("REMOVE video SET removed_at = :now");
        update.expression_attribute_values(":now", AttributeValue::N("1".to_owned())).send().await.expect("updated");

        // The alert's publisher marks it as dispatched. The mark of the removal stays.
        let alerts = Alerts::new(site.dynamodb(), "AlertsTable".to_owned(), Clock::System);
        alerts.mark_dispatched(&Logged::Alert(forgotten.clone())).await.expect("nothing is wrong with that");

        assert_eq!(site.invoke("RecoverFunction", &scheduled()).await, (200, json!({"recovered": 1})));
        site.settled().await;
        let (seq, epoch) = (forgotten.position.seq, forgotten.position.epoch);
        let position = json!({"region": "PL", "seq": seq, "epoch": epoch, "id": forgotten.id});
        assert_eq!(client.json().await, removed(&position));
        assert_eq!(site.invoke("RecoverFunction", &scheduled()).await.1, json!({"recovered": 0}));
        client.expect_nothing().await;
        // The snapshot has the number, so a client with it is not ahead of the log.
        let since = json!({"epoch": forgotten.position.epoch, "seq": forgotten.position.seq});
        let answer = client.ask(&json!({"type": "subscribe_region", "region": "PL", "since": since})).await;
        assert_eq!(answer["recovered"], true, "{answer}");
    });
}
