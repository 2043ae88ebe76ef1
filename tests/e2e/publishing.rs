//! The publish API: HTTP, EventBridge events and direct invocations.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    delivery::leave_behind_in_a_sixth_of_the_ring,
    history::new_region,
    site::{Site, run},
};

fn alert(region: &str, score: f64) -> Value {
    let video = json!({"id": "v1", "title": "Title", "thumbnail": "https://t.example/1.jpg", "score": score});
    json!({"region": region, "video": video})
}

#[test]
fn any_of_the_three_ways_reaches_the_watchers() {
    run(async {
        let site = Site::start().await;
        let mut client = site.watcher("PL").await;
        let body = alert("PL", 97.0);
        let (kind, source) = ("Video Went Viral", "viral-alerts.scorer");
        let event = json!({"version": "0", "id": "e-1", "detail-type": kind, "source": source, "detail": body});
        // curl -d sends no JSON content type.
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let answers = [
            site.post("/", &form, body.to_string()).await,
            site.post("/publish", &[("content-type", "application/json")], body.to_string()).await,
            site.invoke("PublishFunction", &event).await,
            site.invoke("PublishFunction", &body).await,
        ];
        let first = answers[0].1["seq"].as_u64().expect("a position");
        for (index, (status, answer)) in answers.iter().enumerate() {
            assert_eq!(*status, 200);
            let seq = first + index as u64;
            let mut answer = answer.clone();
            // Present once a fan-out has ended.
            for forecast in ["audience", "eta_ms"] {
                answer.as_object_mut().expect("an object").remove(forecast);
            }
            let expected = json!({
                "id": answer["id"],
                "region": "PL",
                "seq": seq,
                "epoch": answers[0].1["epoch"],
                "duplicate": false,
                "published": true
            });
            assert_eq!(answer, expected);
        }
        site.settled().await;
        let mut received: BTreeSet<u64> = BTreeSet::new();
        for _ in &answers {
            received.insert(client.json().await["seq"].as_u64().expect("a position"));
        }
        assert_eq!(received, (first..first + 4).collect());
        client.expect_nothing().await;
    });
}

#[test]
fn a_publisher_is_told_how_many_the_last_alert_of_the_region_went_to() {
    run(async {
        // Its own stack, because another test may have published to the region.
        let site = Site::with(&[("PushRate", "9000")]).await;
        let mut watching = Vec::new();
        for _ in 0..3 {
            watching.push(site.watcher("PL").await);
        }
        let with_key = |key: &str| {
            let mut alert = alert("PL", 97.0);
            alert["id"] = json!(key);
            alert
        };
        let first = site.publish(&with_key("first")).await;
        assert_eq!((first["published"].clone(), first.get("audience"), first.get("eta_ms")), (json!(true), None, None));
        let second = site.publish(&with_key("second")).await;
        assert_eq!((&second["audience"], &second["eta_ms"]), (&json!("~3"), &json!(200)));
        let repeat = site.publish(&with_key("second")).await;
        assert_eq!((repeat["duplicate"].clone(), repeat.get("audience")), (json!(true), None));
        // The audience is that of the region.
        assert_eq!(site.publish(&alert("DE", 97.0)).await.get("audience"), None);

        // 1,100 items in a sixth of the slots stand for six times as many.
        leave_behind_in_a_sixth_of_the_ring(&site, 1_100).await;
        site.publish(&alert("PL", 97.0)).await;
        let told = site.publish(&alert("PL", 97.0)).await;
        let audience: u64 = told["audience"].as_str().expect("a text")[1..].replace(',', "").parse().expect("a number");
        assert!((5_500..8_000).contains(&audience), "{told}");
        let eta_ms = audience as f64 / (9_000.0 * 0.95) * 1e3;
        assert!((told["eta_ms"].as_f64().expect("a number") - eta_ms).abs() <= 55.0, "{told}");
    });
}

#[test]
fn an_audience_that_cannot_be_noted_fails_no_alert() {
    run(async {
        let site = Site::with(&[("PushRate", "9100")]).await;
        let mut client = site.watcher("PL").await;
        site.dynamodb().delete_table().table_name("AlertsTable").send().await.expect("deleted");
        let task = json!({
            "alert": {"id": "a", "region": "PL", "epoch": 1, "seq": 7, "video": {"id": "v", "title": "t"}, "at": 0},
            "dispatched_at": 0,
        });
        let (_, report) = site.invoke("DeliverFunction", &task).await;
        assert_eq!((&report["sent"], &report["audience"]), (&json!(1), &json!(1)), "{report}");
        assert_eq!(client.json().await["seq"], 7);
    });
}

#[test]
fn alerts_have_the_form_of_the_reference() {
    run(async {
        let site = Site::start().await;
        let region = new_region();
        let mut by_message = site.watcher(&region).await;
        let mut at_connect = site.connect(&format!("/prod?region={region}")).await;
        let video = json!({
            "id": "v1",
            "title": "Zażółć",
            "thumbnail": "https://t.example/1.jpg",
            "score": 97.5,
            "channel": "Kanał",
            "views": 12
        });
        let answer = site.publish(&json!({"region": region, "video": video})).await;
        let frame = by_message.json().await;
        assert_eq!(
            frame,
            json!({
                "type": "viral_alert", "region": region,
                "seq": answer["seq"], "epoch": answer["epoch"], "id": answer["id"],
                "dir": "ltr", "video": video, "timestamp": frame["timestamp"],
            })
        );
        assert!(frame["timestamp"].as_str().is_some_and(|at| at.starts_with("20") && at.ends_with('Z')), "{frame}");
        let frame = at_connect.json().await;
        assert_eq!(
            frame,
            json!({
                "event": "new_trending", "region": region,
                "seq": answer["seq"], "epoch": answer["epoch"], "id": answer["id"],
                "video_id": "v1", "title": "Zażółć", "thumbnail": "https://t.example/1.jpg", "channel": "Kanał",
                "rtl": false, "ts": frame["ts"], "score": 97.5, "views": 12,
            })
        );
    });
}

#[test]
fn the_flat_form_is_taken_and_keeps_its_time() {
    run(async {
        let site = Site::start().await;
        let mut client = site.connect("/prod?region=JP").await;
        let flat = json!({
            "event": "new_trending",
            "region": "JP",
            "video_id": "v2",
            "title": "新しい",
            "thumbnail": "",
            "channel": "c",
            "ts": 1_795_000_000
        });
        site.publish(&flat).await;
        let frame = client.json().await;
        for field in ["event", "region", "video_id", "title", "thumbnail", "channel", "ts"] {
            assert_eq!(frame[field], flat[field], "{field}");
        }
    });
}

#[test]
fn the_threshold_separates_84_9_from_85() {
    run(async {
        let site = Site::start().await;
        let mut client = site.watcher("PL").await;
        assert_eq!(site.publish(&alert("PL", 84.9)).await, json!({"published": false, "reason": "below_threshold"}));
        assert_eq!(site.publish(&alert("PL", 85.0)).await["published"], true);
        assert_eq!(client.json().await["video"]["score"], 85.0);
        client.expect_nothing().await;
    });
}

#[test]
fn a_region_that_is_not_named_is_the_default_one() {
    run(async {
        let site = Site::start().await;
        let answer = site.publish(&json!({"video": {"id": "v", "title": "t", "thumbnail": null, "score": 90}})).await;
        assert_eq!(answer["region"], "EU");
    });
}

#[test]
fn a_repeated_key_pushes_nothing_and_answers_with_the_first_result() {
    run(async {
        let site = Site::start().await;
        let (region, another) = (new_region(), new_region());
        let mut client = site.watcher(&region).await;
        client.subscribe(&another).await;
        for (name, key) in [("Idempotency-Key", "order-1"), ("webhook-id", "msg-1")] {
            let headers = [("content-type", "application/json"), (name, key)];
            let (_, first) = site.post("/publish", &headers, alert(&region, 97.0).to_string()).await;
            site.settled().await;
            let (status, second) = site.post("/publish", &headers, alert(&region, 97.0).to_string()).await;
            site.settled().await;
            assert_eq!((status, &second["duplicate"], &first["duplicate"]), (200, &json!(true), &json!(false)));
            assert_eq!((&second["id"], &second["seq"]), (&first["id"], &first["seq"]));
            assert_eq!(client.json().await["seq"], first["seq"]);
            client.expect_nothing().await;
        }
        // The same id in another region is another alert.
        let with_id = |region: &str| {
            let mut body = alert(region, 97.0);
            body["id"] = json!("video-1");
            body
        };
        assert_eq!(site.publish(&with_id(&region)).await["duplicate"], false);
        assert_eq!(site.publish(&with_id(&region)).await["duplicate"], true);
        assert_eq!(site.publish(&with_id(&another)).await["duplicate"], false);
    });
}

#[test]
fn a_repeat_of_an_alert_that_was_never_dispatched_dispatches_it() {
    run(async {
        let site = Site::start().await;
        let headers = [("content-type", "application/json"), ("Idempotency-Key", "crashed")];
        let mut client = site.watcher("PL").await;
        let (_, first) = site.post("/publish", &headers, alert("PL", 97.0).to_string()).await;
        site.settled().await;
        assert_eq!(client.json().await["seq"], first["seq"]);
        // As if publish had died between commit and dispatch.
        site.dynamodb()
            .update_item()
            .table_name("AlertsTable")
            .key("region", AttributeValue::S("PL".to_owned()))
            .key("seq", AttributeValue::N(first["seq"].to_string()))
            .update_expression("SET undispatched = :yes")
            .expression_attribute_values(":yes", AttributeValue::S("yes".to_owned()))
            .send()
            .await
            .expect("an update");
        let (_, second) = site.post("/publish", &headers, alert("PL", 97.0).to_string()).await;
        site.settled().await;
        assert_eq!((&second["duplicate"], &second["seq"]), (&json!(true), &first["seq"]));
        assert_eq!(client.json().await["seq"], first["seq"]);
        client.expect_nothing().await;
    });
}

#[test]
fn positions_have_no_gaps_when_many_publish_at_once() {
    run(async {
        let site = Site::start().await;
        let region = new_region();
        let mut client = site.watcher(&region).await;
        let before = site.publish(&alert(&region, 97.0)).await["seq"].as_u64().expect("a position");
        client.json().await;
        let headers = [("content-type", "application/json")];
        let answers =
            join_all((0..20).map(|_| site.post("/publish", &headers, alert(&region, 97.0).to_string()))).await;
        let published: Vec<u64> = answers.iter().filter_map(|(_, answer)| answer["seq"].as_u64()).collect();
        assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
        let expected: BTreeSet<u64> = (before + 1..=before + published.len() as u64).collect();
        assert_eq!(published.iter().copied().collect::<BTreeSet<_>>(), expected);
        site.settled().await;
        let mut received = BTreeSet::new();
        for _ in &published {
            received.insert(client.json().await["seq"].as_u64().expect("a position"));
        }
        assert_eq!(received, expected);
        client.expect_nothing().await;
    });
}

#[test]
fn a_publisher_that_hangs_up_at_once_has_published() {
    run(async {
        let site = Site::start().await;
        let mut client = site.watcher("PL").await;
        let body = alert("PL", 97.0).to_string();
        let mut socket = TcpStream::connect(site.http_addr).await.expect("a connection");
        let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        socket.write_all((head + &body).as_bytes()).await.expect("sent");
        drop(socket);
        assert_eq!(client.json().await["region"], "PL");
        client.expect_nothing().await;
    });
}

/// Publishes many alerts of one region at the same moment. None may be refused. Returns the 99th percentile.
async fn crowd(site: &Site, count: usize) -> Duration {
    let region = new_region();
    let headers = [("content-type", "application/json")];
    let answers = join_all((0..count).map(|_| async {
        let began = Instant::now();
        (site.post("/publish", &headers, alert(&region, 97.0).to_string()).await, began.elapsed())
    }));
    let answers = answers.await;
    let refused: Vec<_> = answers.iter().filter(|((status, _), _)| *status != 200).collect();
    assert!(refused.is_empty(), "{} of {count}, such as {:?}", refused.len(), refused[0]);
    let seqs: BTreeSet<u64> = answers.iter().filter_map(|((_, answer), _)| answer["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=count as u64).collect());
    site.settled().await;
    let mut took: Vec<Duration> = answers.iter().map(|(_, took)| *took).collect();
    took.sort();
    println!("{count} at one moment: p50 {:?}, p99 {:?}", took[count / 2], took[count * 99 / 100 - 1]);
    took[count * 99 / 100 - 1]
}

#[test]
fn none_of_sixty_at_one_moment_is_refused() {
    run(async {
        crowd(&Site::start().await, 60).await;
    });
}

/// Run it with `E2E_FUNCTIONS=processes` and in a release build, on an idle machine.
#[test]
#[ignore = "a bound of real time"]
fn two_hundred_at_one_moment_are_published_within_three_seconds() {
    run(async {
        let site = Site::start().await;
        // The first crowd starts the functions' processes.
        crowd(&site, 200).await;
        let p99 = crowd(&site, 200).await;
        assert!(p99 < Duration::from_secs(3), "{p99:?}");
    });
}

/// Makes a publication with or without an id.
fn named(region: &str, id: Option<&str>) -> Value {
    let mut publication = alert(region, 97.0);
    if let Some(id) = id {
        publication["id"] = json!(id);
    }
    publication
}

#[test]
fn several_publications_in_one_request_have_an_answer_each_and_a_bad_one_stops_no_other() {
    run(async {
        let site = Site::start().await;
        let (region, another) = (new_region(), new_region());
        let mut client = site.watcher(&region).await;
        let mut other_client = site.watcher(&another).await;
        let envelope = json!({"publications": [
            named(&region, None),
            named(&another, None),
            {"region": region, "video": {"id": "v"}},
            named(&region, Some("own")),
            alert(&region, 3.0),
            named(&region, Some("own")),
            7,
        ]});
        let headers = [("content-type", "application/json"), ("Idempotency-Key", "tick")];
        let (status, answer) = site.post("/publish", &headers, envelope.to_string()).await;
        site.settled().await;
        assert_eq!(status, 200, "{answer}");
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results.len(), 7);
        let seqs: Vec<_> = results.iter().map(|result| result["seq"].as_u64()).collect();
        assert_eq!(seqs, [Some(1), Some(1), None, Some(2), None, Some(2), None], "in their order: {answer}");
        assert_eq!((&results[3]["duplicate"], &results[5]["duplicate"]), (&json!(false), &json!(true)));
        assert_eq!(results[2]["error"]["code"], "missing_field");
        assert_eq!(results[4], json!({"published": false, "reason": "below_threshold"}));
        assert_eq!(results[6]["error"]["code"], "not_an_object");
        let received = BTreeSet::from([client.json().await["seq"].as_u64(), client.json().await["seq"].as_u64()]);
        assert_eq!(received, BTreeSet::from([Some(1), Some(2)]));
        assert_eq!(other_client.json().await["seq"], 1);

        // The same request again publishes nothing.
        let (_, repeat) = site.post("/publish", &headers, envelope.to_string()).await;
        site.settled().await;
        let again = repeat["results"].as_array().expect("results");
        for (first, second) in results.iter().zip(again).filter(|(first, _)| first["published"] == true) {
            assert_eq!((&second["duplicate"], &second["seq"]), (&json!(true), &first["seq"]), "{repeat}");
        }
        client.expect_nothing().await;
        other_client.expect_nothing().await;
    });
}

#[test]
fn an_event_with_several_publications_is_repeated_as_a_whole_and_publishes_none_twice() {
    run(async {
        // Only one of the two is accepted at first.
        let site = Site::with(&[("AlertsPerMinute", "1")]).await;
        let region = new_region();
        let detail = json!({"publications": [named(&region, None), named(&region, None)]});
        let event =
            json!({"id": "e-1", "detail-type": "Video Went Viral", "source": "viral-alerts.scorer", "detail": detail});
        let (_, failure) = site.invoke("PublishFunction", &event).await;
        let message = failure["errorMessage"].as_str().unwrap_or_default();
        assert!(message.contains("at most 1 alerts per minute"), "Lambda repeats what failed: {failure}");
        let rate_limit =
            json!({"id": "e-1", "detail-type": "v", "source": "another", "detail": detail["publications"][0]});
        let (_, answer) = site.invoke("PublishFunction", &rate_limit).await;
        assert_eq!((&answer["seq"], &answer["duplicate"]), (&json!(2), &json!(false)), "another key: {answer}");
        let only = json!({"publications": [detail["publications"][0]]});
        let event = json!({"id": "e-1", "detail-type": "v", "source": "third", "detail": only});
        let (_, answer) = site.invoke("PublishFunction", &event).await;
        assert_eq!(
            (&answer["results"][0]["seq"], &answer["results"][0]["duplicate"]),
            (&json!(1), &json!(true)),
            "{answer}"
        );
    });
}

#[test]
fn an_envelope_that_cannot_be_read_is_refused_as_a_whole() {
    run(async {
        let site = Site::start().await;
        for publications in [json!([]), json!(7), json!(vec![named("PL", None); 26])] {
            let (status, answer) = site.post("/publish", &[], json!({"publications": publications}).to_string()).await;
            assert_eq!((status, &answer["error"]["field"]), (400, &json!("publications")), "{answer}");
        }
    });
}

#[test]
fn a_key_that_comes_again_with_another_body_is_a_conflict() {
    run(async {
        let site = Site::start().await;
        let region = new_region();
        let publish = async |header: &'static str, body: &Value| {
            site.post("/publish", &[("content-type", "application/json"), (header, "one")], body.to_string()).await
        };
        let (_, first) = publish("Idempotency-Key", &alert(&region, 97.0)).await;
        let (status, answer) = publish("Idempotency-Key", &alert(&region, 98.0)).await;
        let error = &answer["error"];
        assert_eq!((status, &error["code"], &error["retryable"]), (409, &json!("idempotency_conflict"), &json!(false)));
        // The order of fields does not matter.
        let video = r#"{"score":97.0,"thumbnail":"https://t.example/1.jpg","title":"Title","id":"v1"}"#;
        let reordered = format!(r#"{{"video":{video},"region":"{region}"}}"#);
        let (status, answer) = publish("webhook-id", &serde_json::from_str(&reordered).expect("JSON")).await;
        assert_eq!((status, &answer["duplicate"], &answer["seq"]), (200, &json!(true), &first["seq"]), "{answer}");

        // The invocation of an event succeeds, because a retry would not help.
        let mut other = alert(&region, 99.0);
        other["id"] = json!("one");
        let (_, answer) = site.invoke("PublishFunction", &other).await;
        assert_eq!(answer["error"]["code"], "idempotency_conflict", "{answer}");
    });
}

#[test]
fn as_many_regions_have_alerts_as_the_deployment_allows_and_no_more() {
    run(async {
        let site = Site::with(&[("RegionsMax", "2")]).await;
        for region in ["PL", "DE", "PL"] {
            site.publish(&alert(region, 97.0)).await;
        }
        let body = alert("FR", 97.0);
        let (status, answer) = site.post("/publish", &[], body.to_string()).await;
        let error = &answer["error"];
        assert_eq!((status, &error["code"], &error["retryable"]), (409, &json!("too_many_regions"), &json!(false)));
        let (_, answer) = site.invoke("PublishFunction", &body).await;
        assert_eq!(answer["error"]["code"], "too_many_regions", "no invocation is repeated for it: {answer}");
        let twice = json!({"publications": [named("FR", Some("key")), named("FR", Some("key"))]});
        let (_, answer) = site.post("/publish", &[], twice.to_string()).await;
        let codes: Vec<_> = (0..2).map(|index| answer["results"][index]["error"]["code"].clone()).collect();
        assert_eq!(codes, ["too_many_regions"; 2], "what keeps the first keeps its repeat: {answer}");
        let crowd = join_all((0..20).map(|_| site.post("/publish", &[], body.to_string()))).await;
        assert!(crowd.iter().all(|(status, _)| *status == 409), "{crowd:?}");
        site.publish(&alert("DE", 97.0)).await;
    });
}
