//! Clients that resume: the acknowledgement has what they missed, or says that it does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
};

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::{join, join_all};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    history::{alert, delete_alert, new_region, publish},
    site::{Client, Site, run},
};

async fn subscribe(client: &mut Client, region: &str, since: &Value) -> Value {
    client.ask(&json!({"type": "subscribe_region", "region": region, "since": since})).await
}

/// Returns region and sequence number of each alert in an answer.
fn alerts(answer: &Value) -> Vec<(String, u64)> {
    let alert = |alert: &Value| Some((alert["region"].as_str()?.to_owned(), alert["seq"].as_u64()?));
    answer["alerts"].as_array().expect("alerts").iter().filter_map(alert).collect()
}

#[test]
fn what_was_missed_comes_in_the_answer_oldest_first_and_then_alerts_are_pushed() {
    run(async {
        let site = Site::start().await;
        let region = new_region();
        let _watcher = site.watcher(&region).await;
        let since = publish(&site, &region).await;
        publish(&site, &region).await;
        let last = publish(&site, &region).await;
        let mut client = site.connect("/prod").await;
        let answer = subscribe(&mut client, &region.to_lowercase(), &since).await;
        assert_eq!(
            answer,
            json!({
                "type": "subscribed", "region": region, "positions": {&region: last}, "recovered": true,
                "alerts": answer["alerts"], "reconnect_within_ms": answer["reconnect_within_ms"],
                "rotate_after_ms": 6_600_000,
            })
        );
        assert_eq!(alerts(&answer), [(region.clone(), 2), (region.clone(), 3)]);
        assert_eq!(answer["alerts"][0]["type"], "viral_alert");
        assert_eq!(answer["alerts"][0]["video"]["title"], "Title");
        let next = publish(&site, &region).await;
        assert_eq!(client.json().await["seq"], next["seq"]);
        client.expect_nothing().await;

        // Alerts have the format of the subscription.
        let message = json!({"type": "subscribe_region", "region": region, "format": "new_trending", "since": last});
        let answer = client.ask(&message).await;
        assert_eq!((&answer["alerts"][0]["event"], &answer["alerts"][0]["seq"]), (&json!("new_trending"), &json!(4)));
    });
}

#[test]
fn a_client_that_names_no_position_learns_where_it_is_and_nothing_else() {
    run(async {
        let site = Site::start().await;
        let (region, silent) = (new_region(), new_region());
        let last = publish(&site, &region).await;
        let mut client = site.connect("/prod").await;
        let answer = client.ask(&json!({"type": "subscribe_region", "regions": [region, silent]})).await;
        let start = json!({"epoch": 0, "seq": 0});
        assert_eq!(
            answer,
            json!({
                "type": "subscribed", "regions": [region, silent], "positions": {&region: last, &silent: start},
                "reconnect_within_ms": answer["reconnect_within_ms"], "rotate_after_ms": 6_600_000,
            })
        );
        // The first alerts of a region count as missed, too.
        client.close().await;
        let first = publish(&site, &silent).await;
        let mut client = site.connect("/prod").await;
        let answer = subscribe(&mut client, &silent, &start).await;
        assert_eq!((alerts(&answer), &answer["recovered"]), (vec![(silent.clone(), 1)], &json!(true)));
        let answer = subscribe(&mut client, &silent, &first).await;
        assert_eq!((alerts(&answer), &answer["recovered"]), (Vec::new(), &json!(true)));
    });
}

#[test]
fn what_the_log_cannot_tell_is_not_recovered_in_part() {
    run(async {
        let site = Site::start().await;
        let region = new_region();
        let first = publish(&site, &region).await;
        for _ in 0..4 {
            publish(&site, &region).await;
        }
        let epoch = &first["epoch"];
        let mut client = site.connect("/prod").await;
        let lost = |answer: &Value| {
            assert_eq!(
                (&answer["recovered"], &answer["alerts"], &answer["not_recovered"]),
                (&json!(false), &json!([]), &json!([region]))
            );
            assert_eq!(
                answer["positions"][&region],
                json!({"epoch": epoch, "seq": 5}),
                "the client can go on from here"
            );
        };
        // A position of another log, and one ahead of the log.
        lost(&subscribe(&mut client, &region, &json!({"epoch": 7, "seq": 3})).await);
        lost(&subscribe(&mut client, &region, &json!({"epoch": epoch, "seq": 6})).await);
        // The time to live has deleted one in the middle.
        delete_alert(&site, &region, 3).await;
        lost(&subscribe(&mut client, &region, &first).await);
        let answer = subscribe(&mut client, &region, &json!({"epoch": epoch, "seq": 3})).await;
        assert_eq!(alerts(&answer), [(region.clone(), 4), (region.clone(), 5)]);
        // And now the last.
        delete_alert(&site, &region, 5).await;
        lost(&subscribe(&mut client, &region, &json!({"epoch": epoch, "seq": 3})).await);
    });
}

#[test]
fn what_does_not_fit_in_a_frame_is_left_out_and_smaller_regions_are_not() {
    run(async {
        let site = Site::start().await;
        let (large, small) = (new_region(), new_region());
        let more = "t".repeat(9_000);
        let first = publish(&site, &large).await;
        for _ in 0..4 {
            let video = json!({"id": "v1", "title": "t", "more": more, "score": 97});
            site.publish(&json!({"region": large, "video": video})).await;
        }
        publish(&site, &small).await;
        let since = json!({&large: first, &small: {"epoch": 0, "seq": 0}});
        let message = json!({"type": "subscribe_region", "regions": [large, small], "since": since});
        let mut client = site.connect("/prod").await;
        let answer = client.ask(&message).await;
        assert_eq!((&answer["recovered"], &answer["not_recovered"]), (&json!(false), &json!([large])));
        assert_eq!(alerts(&answer), [(small, 1)]);
        // One less fits.
        let since = json!({"epoch": first["epoch"], "seq": 2});
        let answer = subscribe(&mut client, &large, &since).await;
        assert_eq!(alerts(&answer), [(large.clone(), 3), (large.clone(), 4), (large.clone(), 5)]);
        assert!(answer.to_string().len() <= 32 * 1024);
    });
}

#[test]
fn regions_that_the_map_does_not_name_get_no_recovery_but_under_all() {
    run(async {
        let site = Site::start().await;
        let (known, other, born_meanwhile) = (new_region(), new_region(), new_region());
        let since = publish(&site, &known).await;
        publish(&site, &other).await;
        let mut client = site.connect("/prod").await;
        let answer = client.ask(&json!({"type": "subscribe_region", "region": "ALL"})).await;
        let mut everything = answer["positions"].clone();
        assert_eq!(everything[&known], since);
        client.close().await;

        publish(&site, &known).await;
        publish(&site, &born_meanwhile).await;
        let mut client = site.connect("/prod").await;
        let message = json!({"type": "subscribe_region", "regions": [known, other], "since": {&known: since}});
        let answer = client.ask(&message).await;
        assert_eq!((alerts(&answer), &answer["recovered"]), (vec![(known.clone(), 2)], &json!(true)));
        assert_eq!(answer["positions"].as_object().map(serde_json::Map::len), Some(2));

        let answer = subscribe(&mut client, "ALL", &everything).await;
        assert_eq!(
            alerts(&answer).into_iter().collect::<BTreeSet<_>>(),
            [(known.clone(), 2), (born_meanwhile.clone(), 1)].into()
        );
        assert_eq!((&answer["recovered"], &answer["region"]), (&json!(true), &json!("ALL")));
        assert_eq!(answer["positions"][&born_meanwhile]["seq"], 1);

        // The log of a region is gone.
        let gone = new_region();
        everything[&gone] = json!({"epoch": 7, "seq": 3});
        let answer = subscribe(&mut client, "ALL", &everything).await;
        assert_eq!((&answer["recovered"], &answer["not_recovered"]), (&json!(false), &json!([gone])));
        assert_eq!(answer["positions"][&gone], json!({"epoch": 0, "seq": 0}));
    });
}

#[test]
fn regions_that_come_into_being_at_the_same_moment_are_all_known() {
    run(async {
        let site = Site::start().await;
        let regions: Vec<String> = (0..8).map(|_| new_region()).collect();
        // Two publishers for each region, of which one creates the log.
        let twice = || regions.iter().chain(&regions);
        let answers = join_all(twice().map(|region| site.post("/publish", &[], alert(region).to_string()))).await;
        let mut published: BTreeMap<&str, u64> = BTreeMap::new();
        for (region, (status, answer)) in twice().zip(&answers) {
            // A publisher that loses every race is told to retry.
            assert!(*status == 200 || (*status == 503 && answer["error"]["retryable"] == true), "{answer}");
            *published.entry(region).or_default() += u64::from(*status == 200);
        }
        site.settled().await;
        let mut client = site.connect("/prod").await;
        let answer = client.ask(&json!({"type": "subscribe_region", "region": "ALL"})).await;
        for (region, count) in published {
            assert!(count > 0, "nobody published for {region}");
            assert_eq!(answer["positions"][region]["seq"], count, "{region}");
        }
    });
}

/// The key of the item with the size of a region's audience.
const AUDIENCE_PARTITION: &str = "@head#REGION";

#[test]
fn the_window_of_reconnections_follows_the_audience_of_the_last_alert() {
    run(async {
        let site = Site::start().await;
        let region = new_region();
        publish(&site, &region).await;
        site.settled().await;
        site.dynamodb()
            .put_item()
            .table_name("AlertsTable")
            .item("region", AttributeValue::S(AUDIENCE_PARTITION.replace("REGION", &region)))
            .item("seq", AttributeValue::N("-1".to_owned()))
            .item("audience", AttributeValue::N("10000".to_owned()))
            .send()
            .await
            .expect("written");
        publish(&site, &region).await;
        let mut client = site.connect("/prod").await;
        let answer = client.ask(&json!({"type": "subscribe_region", "region": region})).await;
        assert_eq!(answer["reconnect_within_ms"], 40_000, "the next alert told it");
        let answer = client.ask(&json!({"type": "subscribe_region", "region": new_region()})).await;
        assert_eq!(answer["reconnect_within_ms"], 10_000, "not known");
    });
}

/// By how many alerts a push may overtake another.
const AHEAD_MAX: u64 = 30;

/// A client's state of a region's log.
struct Known {
    epoch: Value,
    seen: BTreeSet<u64>,
}

impl Known {
    /// Returns the last sequence number before the first gap.
    fn last(&self) -> u64 {
        (1..).find(|seq| !self.seen.contains(seq)).expect("numbers do not end") - 1
    }

    /// Connects once: subscribes with its position, and stays for `further` pushes after the answer.
    async fn visit(&mut self, site: &Site, region: &str, further: u64) {
        let mut client = site.connect("/prod").await;
        let since = json!({"epoch": self.epoch, "seq": self.last()});
        client.send(&json!({"type": "subscribe_region", "region": region, "since": since}).to_string()).await;
        let mut answered = None;
        // Pushes may overtake the answer.
        while answered.is_none_or(|head| self.last() < head + further) {
            let frame = client.json().await;
            if frame["type"] == "subscribed" {
                self.seen.extend(alerts(&frame).into_iter().map(|(_, seq)| seq));
                let head = frame["positions"][region]["seq"].as_u64().expect("a position");
                // More alerts than fit into a frame: the rest comes over HTTP, as in clients.
                while frame["recovered"] == false && self.last() < head {
                    let (_, page) = site.get(&format!("/alerts?region={region}&after={}", self.last())).await;
                    assert_eq!(page["recovered"], true, "{page}");
                    self.seen.extend(alerts(&page).into_iter().map(|(_, seq)| seq));
                }
                assert!(self.last() >= head, "the answer has a gap before {head}: {frame}");
                answered = Some(head);
            } else {
                self.seen.insert(frame["seq"].as_u64().expect("an alert"));
            }
            // A push may overtake others.
            let ahead = self.seen.last().map_or(0, |newest| newest - self.last());
            assert!(answered.is_none() || ahead < AHEAD_MAX, "{} is missing: {:?}", self.last() + 1, self.seen);
        }
        client.vanish();
    }
}

#[test]
fn whoever_comes_back_while_alerts_are_published_misses_none() {
    const CLIENTS: u64 = 3;
    const VISITS: usize = 12;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    run(async {
        let site = Site::start().await;
        let region = new_region();
        let first = publish(&site, &region).await;
        let clients_are_done = AtomicBool::new(false);
        let publisher = async {
            let mut published = 1;
            while !clients_are_done.load(Ordering::Relaxed) {
                let (status, answer) = site.post("/publish", &[], alert(&region).to_string()).await;
                assert_eq!(status, 200, "{answer}");
                published += 1;
            }
            published
        };
        let (visited, since, watched) = (&site, &first, &region);
        let client = |number: u64| async move {
            let mut random = StdRng::seed_from_u64(seed ^ number);
            let mut known = Known { epoch: since["epoch"].clone(), seen: BTreeSet::from([1]) };
            for _ in 0..VISITS {
                known.visit(visited, watched, random.random_range(0..4)).await;
            }
            known
        };
        let clients = async {
            let known = join_all((0..CLIENTS).map(client)).await;
            clients_are_done.store(true, Ordering::Relaxed);
            known
        };
        let (published, known) = join(publisher, clients).await;
        site.settled().await;
        for mut known in known {
            known.visit(&site, &region, 0).await;
            assert_eq!(known.seen, (1..=published).collect());
        }
    });
}
