//! Videos that stay viral: within the window they are not alerted again.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use clock::Clock;
use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::{
    model::{audience::Region, publication::Publication, repeat::RepeatRule},
    publish::commit::{CommitOutcome, StandingAlert},
    tables::alerts::Alerts,
};

use crate::{
    history::new_region,
    site::{Site, run},
};

const HOUR: Duration = Duration::from_secs(3_600);

fn alert(region: &str, video: &str, score: f64) -> Value {
    json!({"region": region, "video": {"id": video, "title": "Title", "thumbnail": "", "score": score}})
}

fn with(alert: Value, field: &str, value: impl Into<Value>) -> Value {
    let mut alert = alert;
    alert[field] = value.into();
    alert
}

/// The answer to a video that the alert of this answer keeps from being alerted.
fn stands(of: &Value) -> Value {
    json!({
        "published": false, "reason": "recently_alerted",
        "id": of["id"], "region": of["region"], "seq": of["seq"], "epoch": of["epoch"],
    })
}

#[test]
fn a_video_is_alerted_again_only_where_it_has_risen_or_was_taken_back() {
    run(async {
        let site = Site::with(&[("RepeatWindow", "3600"), ("RepeatRise", "5")]).await;
        let mut client = site.watcher("PL").await;
        let first = site.publish(&with(alert("PL", "v", 90.0), "id", "k-1")).await;
        assert_eq!((&first["published"], &first["seq"]), (&json!(true), &json!(1)));
        for score in [90.0, 94.9, 85.0] {
            assert_eq!(site.publish(&alert("PL", "v", score)).await, stands(&first), "{score}");
        }
        // The flat form has no score that could have risen.
        let flat = json!({"event": "new_trending", "region": "PL", "video_id": "v", "title": "Title"});
        assert_eq!(site.publish(&flat).await, stands(&first));
        // The key counts first, and one that was withheld is not in use.
        let again = site.publish(&with(alert("PL", "v", 90.0), "id", "k-1")).await;
        assert_eq!((&again["published"], &again["duplicate"], &again["seq"]), (&json!(true), &json!(true), &json!(1)));
        let other_key = with(alert("PL", "v", 90.0), "id", "k-2");
        assert_eq!(site.publish(&other_key).await, stands(&first));

        let others = [
            site.publish(&alert("PL", "w", 90.0)).await,
            site.publish(&with(alert("PL", "v", 90.0), "repeat_window", 0)).await,
            site.publish(&alert("PL", "v", 95.0)).await,
        ];
        let seqs = others.each_ref().map(|other| (other["published"].clone(), other["seq"].clone()));
        assert_eq!(seqs, [2, 3, 4].map(|seq| (json!(true), json!(seq))));
        assert_eq!(site.publish(&alert("DE", "v", 90.0)).await["published"], true, "of another region");
        assert_eq!(site.publish(&alert("PL", "v", 99.9)).await, stands(&others[2]), "it has risen from 95");

        let removed = site.request("DELETE", "/alerts/PL/4", &[]).await;
        assert_eq!(removed.status, 200);
        let after = site.publish(&other_key).await;
        assert_eq!((&after["published"], &after["duplicate"], &after["seq"]), (&json!(true), &json!(false), &json!(5)));
        assert_eq!(site.publish(&alert("PL", "v", 90.0)).await, stands(&after));
        site.settled().await;
        let mut seqs = BTreeSet::new();
        // Five alerts, the one that was taken back, and that of a region that nobody watches.
        for _ in 0..7 {
            let frame = client.json().await;
            if frame["type"] == "viral_alert" && frame["region"] == "PL" {
                seqs.insert(frame["seq"].as_u64().expect("a number"));
            }
        }
        assert_eq!(seqs, (1..=5).collect());
        client.expect_nothing().await;
    });
}

#[test]
fn a_publication_may_name_its_own_window_and_only_a_valid_one() {
    run(async {
        let site = Site::start().await;
        let region = new_region();
        let _client = site.watcher(&region).await;
        let named = |secs: Value| with(alert(&region, "v", 90.0), "repeat_window", secs);
        let first = site.publish(&named(json!(86_400))).await;
        assert_eq!(first["published"], true);
        assert_eq!(site.publish(&named(json!(60))).await, stands(&first));
        let flat = json!({"region": region, "video_id": "v", "title": "Title", "repeat_window": 60});
        assert_eq!(site.publish(&flat).await, stands(&first));
        // Without a window, as the deployment has it.
        assert_eq!(site.publish(&named(Value::Null)).await["seq"], 2);
        for secs in [json!(86_401), json!(-1), json!(1.5), json!("60"), json!(true)] {
            let (status, answer) = site.post("/publish", &[], named(secs.clone()).to_string()).await;
            let error = &answer["error"];
            assert_eq!(
                (status, &error["code"], &error["field"]),
                (400, &json!("invalid_field"), &json!("repeat_window")),
                "{secs}"
            );
        }
    });
}

/// Commits a publication at the moment of the clock.
async fn commit(alerts: &Alerts, region: &Region, publications: &[Value]) -> Vec<Result<u64, StandingAlert>> {
    let read = |publication: &Value| Publication::from_bytes(publication.to_string().as_bytes()).expect("valid");
    let publications: Vec<_> = publications.iter().map(read).collect();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(29);
    let commits = alerts.commit(region, &publications, deadline).await;
    let outcome = |commit: shared::publish::commit::Commit| match commit.expect("no failure").expect("not refused") {
        CommitOutcome::Committed(committed) => Ok(committed.logged.position().seq),
        CommitOutcome::RecentlyAlerted(standing) => Err(standing),
    };
    commits.into_iter().map(outcome).collect()
}

#[test]
fn a_window_ends_to_the_millisecond() {
    run(async {
        let site = Site::start_in_process().await;
        let now = Arc::new(AtomicI64::new(Clock::System.now().millis()));
        let alerts = Alerts::new(site.dynamodb(), "AlertsTable".to_owned(), Clock::Manual(Arc::clone(&now)));
        let alerts = alerts.with_repeat_rule(RepeatRule { window: HOUR, rise: 5.0 });
        let region: Region = new_region().parse().expect("a region");
        let again = alert(region.as_str(), "v", 90.0);
        let next = async |ms: i64, seq: u64| {
            assert_eq!(commit(&alerts, &region, std::slice::from_ref(&again)).await, [Ok(seq)]);
            now.fetch_add(ms, Ordering::Relaxed);
        };
        next(HOUR.as_millis() as i64, 1).await;
        next(HOUR.as_millis() as i64 - 1, 2).await;
        let stopped = commit(&alerts, &region, std::slice::from_ref(&again)).await;
        assert_eq!(stopped[0].as_ref().map_err(|standing| standing.seq), Err(2));
        now.fetch_add(1, Ordering::Relaxed);
        next(0, 3).await;
    });
}

#[test]
fn of_many_that_publish_one_video_at_one_moment_one_is_alerted() {
    run(async {
        let site = Site::with(&[("RepeatWindow", "60"), ("AlertsPerMinute", "0")]).await;
        let region = new_region();
        let _client = site.watcher(&region).await;
        // Each video is published by twenty, some of them in one request, and some with a key.
        let envelope = |publisher: usize| {
            let of = |video: usize| {
                let one = alert(&region, &format!("v-{}", video % 4), 90.0);
                if publisher.is_multiple_of(2) { with(one, "id", format!("{publisher}-{video}")) } else { one }
            };
            json!({"publications": (0..8).map(of).collect::<Vec<_>>()})
        };
        let envelopes: Vec<_> = (0..10).map(envelope).collect();
        let answers = join_all(envelopes.iter().map(|envelope| site.publish(envelope))).await;
        let results: Vec<_> =
            answers.iter().flat_map(|answer| answer["results"].as_array().expect("results").clone()).collect();
        let (published, withheld): (Vec<_>, Vec<_>) =
            results.into_iter().partition(|result| result["published"] == true);
        let seqs: BTreeSet<_> = published.iter().map(|result| result["seq"].as_u64()).collect();
        assert_eq!(seqs, (1..=4).map(Some).collect(), "{published:?}");
        assert_eq!((published.len(), withheld.len()), (4, 76));
        let standing: Vec<_> = published.iter().map(stands).collect();
        for result in withheld {
            assert!(standing.contains(&result), "{result}");
        }
    });
}

#[test]
fn of_25_that_have_a_window_none_is_lost() {
    run(async {
        let site = Site::start_in_process().await;
        let alerts = Alerts::new(site.dynamodb(), "AlertsTable".to_owned(), Clock::System);
        let alerts = alerts.with_repeat_rule(RepeatRule { window: HOUR, rise: 5.0 });
        let region: Region = new_region().parse().expect("a region");
        let publications: Vec<_> = (0..25)
            .map(|index| with(alert(region.as_str(), &format!("v-{index}"), 90.0), "id", format!("{index}")))
            .collect();
        let committed = commit(&alerts, &region, &publications).await;
        assert_eq!(committed, (1..=25).map(Ok).collect::<Vec<_>>());
    });
}

#[test]
fn publications_of_one_request_are_judged_one_after_the_other() {
    run(async {
        let site = Site::with(&[("RepeatWindow", "3600"), ("AlertsPerMinute", "0"), ("ScoreThreshold", "0")]).await;
        let region = new_region();
        let _client = site.watcher(&region).await;
        let first = site.publish(&alert(&region, "v", 85.0)).await;
        let several = async |publications: &[Value]| {
            site.publish(&json!({"publications": publications})).await["results"].as_array().expect("results").clone()
        };
        // A key that was withheld is not in use, also where another publication of the request has it.
        let keyed = |video: &str, score: f64| with(alert(&region, video, score), "id", "k");
        let results = several(&[keyed("v", 85.0), keyed("w", 85.0), keyed("w", 85.0), keyed("v", 85.0)]).await;
        assert_eq!(results[0], stands(&first));
        assert_eq!((&results[1]["seq"], &results[1]["duplicate"]), (&json!(2), &json!(false)));
        assert_eq!((&results[2]["seq"], &results[2]["duplicate"]), (&json!(2), &json!(true)));
        assert_eq!(results[3]["error"]["code"], "idempotency_conflict");
        // Each rise counts from the one before it.
        let results = several(&[85.0, 90.0, 94.0, 95.0].map(|score| alert(&region, "v", score))).await;
        let results = results.iter().map(|result| (result["seq"].as_u64(), result["published"] == true));
        assert_eq!(results.collect::<Vec<_>>(), [(Some(1), false), (Some(3), true), (Some(3), false), (Some(4), true)]);
        // DynamoDB cannot store such a score.
        assert_eq!(site.publish(&alert(&region, "x", 1e-300)).await["published"], true);
    });
}

type Item = HashMap<String, AttributeValue>;

/// The item of the one video of a region.
async fn item_of(site: &Site, region: &str) -> Item {
    let scan = site.dynamodb().scan().table_name("AlertsTable").consistent_read(true).send().await.expect("read");
    let prefix = format!("@video#{region}#");
    let is_its = |item: &&Item| item["region"].as_s().is_ok_and(|partition| partition.starts_with(&prefix));
    scan.items().iter().find(is_its).expect("one").clone()
}

#[test]
fn an_item_of_a_video_that_cannot_be_read_fails_its_publications_at_once() {
    run(async {
        let site = Site::with(&[("RepeatWindow", "3600"), ("AlertsPerMinute", "0")]).await;
        let region = new_region();
        let _client = site.watcher(&region).await;
        site.publish(&alert(&region, "v", 90.0)).await;
        let mut item = item_of(&site, &region).await;
        item.remove("committed_at");
        site.dynamodb().put_item().table_name("AlertsTable").set_item(Some(item)).send().await.expect("written");
        let began = std::time::Instant::now();
        let (status, answer) = site.post("/publish", &[], alert(&region, "v", 90.0).to_string()).await;
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("unavailable")));
        assert!(began.elapsed() < Duration::from_secs(10), "it waits for nothing: {:?}", began.elapsed());
        assert_eq!(site.publish(&alert(&region, "w", 90.0)).await["seq"], 2);
    });
}

#[test]
fn those_that_wait_behind_videos_that_were_alerted_are_committed() {
    run(async {
        let site = Site::with(&[("RepeatWindow", "3600"), ("AlertsPerMinute", "0")]).await;
        let region = new_region();
        let _client = site.watcher(&region).await;
        site.publish(&alert(&region, "v", 90.0)).await;
        let video = item_of(&site, &region).await["region"].as_s().expect("a text").clone();
        // Their functions have died. More than one transaction takes, and than a leader reads at once.
        let (text, number) = (|text: String| AttributeValue::S(text), |number: String| AttributeValue::N(number));
        let now = Clock::System.now().millis();
        for index in 0..40 {
            let item = [
                ("region", text(format!("@queue#{region}"))),
                ("seq", number(format!("{now}{index:015}"))),
                ("id", text(format!("orphan-{index}"))),
                ("video", text(json!({"id": "v", "title": "t", "score": 90}).to_string())),
                ("at", number(now.to_string())),
                ("receipt", text(format!("@receipt#orphan-{index}"))),
                ("fingerprint", text("f".to_owned())),
                ("recent", text(video.clone())),
                ("repeat_window", number("3600".to_owned())),
                ("repeat_rise", number("5".to_owned())),
                ("score", number("90".to_owned())),
                ("expires_at", number((now / 1_000 + 3_600).to_string())),
            ];
            let put = item.into_iter().fold(site.dynamodb().put_item(), |put, (name, value)| put.item(name, value));
            put.table_name("AlertsTable").send().await.expect("written");
        }
        let alerts: Vec<_> = (0..8).map(|index| alert(&region, &format!("w-{index}"), 90.0)).collect();
        let answers = join_all(alerts.iter().map(|alert| site.publish(alert))).await;
        let seqs: BTreeSet<_> = answers.iter().map(|answer| answer["seq"].as_u64()).collect();
        assert_eq!(seqs, (2..=9).map(Some).collect(), "{answers:?}");
    });
}
