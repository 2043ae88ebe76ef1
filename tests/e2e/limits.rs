//! Limits of a connection, an address, a user and a publisher.

use std::time::Instant;

use serde_json::json;

use crate::{
    authorization::{token_of, tokens_and},
    history::alert,
    site::{Site, eventually, run},
};

#[test]
fn a_connection_that_sends_too_many_messages_is_told_when_to_go_on() {
    run(async {
        let site = Site::with(&[("MessagesPerSecond", "1")]).await;
        let mut client = site.connect("/prod").await;
        let began = Instant::now();
        for number in 0..40 {
            client.send(&json!({"type": "echo", "number": number}).to_string()).await;
        }
        let mut answers = Vec::new();
        for _ in 0..40 {
            answers.push(client.json().await);
        }
        let (echoed, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer["type"] == "response");
        // One at once, and one for each second that passed.
        let allowed = 1 + began.elapsed().as_secs() as usize;
        assert!((1..=allowed).contains(&echoed.len()), "{} of {allowed} echoed", echoed.len());
        for answer in refused {
            assert_eq!((&answer["code"], &answer["retryable"]), (&json!("rate_limited"), &json!(true)), "{answer}");
            assert!(answer["retry_after_ms"].as_u64().is_some_and(|ms| (1..=1_000).contains(&ms)), "{answer}");
        }
        // Other connections are not delayed, and this one only as long as it was told.
        let mut other = site.connect("/prod").await;
        other.send(r#"{"type":"echo"}"#).await;
        assert_eq!(other.json().await["type"], "response");
        assert_eq!(client.ask(&json!({"type": "echo"})).await["type"], "response");
        // Invalid messages count, too.
        let mut bad = site.connect("/prod").await;
        let mut codes = Vec::new();
        for _ in 0..20 {
            bad.send("nonsense").await;
        }
        for _ in 0..20 {
            codes.push(bad.json().await["code"].clone());
        }
        assert!(codes.contains(&json!("bad_json")) && codes.contains(&json!("rate_limited")), "{codes:?}");
    });
}

#[test]
fn a_connection_is_in_so_many_regions_and_no_more() {
    run(async {
        let site = Site::start_in_process().await;
        let mut client = site.connect("/prod?region=PL").await;
        let names = |from: usize| (from..from + 25).map(|number| format!("R{number}")).collect::<Vec<_>>();
        let subscribe = |regions: Vec<String>| json!({"type": "subscribe_region", "regions": regions});
        for from in [0, 25, 50] {
            assert_eq!(client.ask(&subscribe(names(from))).await["type"], "subscribed");
        }
        // With the 76 there would be 101, so none is added.
        let refused = client.ask(&subscribe(names(75))).await;
        assert_eq!((&refused["code"], &refused["retryable"]), (&json!("limit_reached"), &json!(false)), "{refused}");
        assert_eq!(site.subscriptions().await.len(), 1 + 76);
        // Existing subscriptions do not count twice, and leaving one makes room.
        assert_eq!(client.ask(&subscribe(names(75)[..24].to_vec())).await["type"], "subscribed");
        assert_eq!(client.ask(&subscribe(names(50)[..1].to_vec())).await["type"], "subscribed");
        assert_eq!(client.ask(&subscribe(names(75)[24..].to_vec())).await["code"], "limit_reached");
        assert_eq!(site.subscriptions().await.len(), 1 + 100);
        let left = client.ask(&json!({"type": "unsubscribe_region", "region": "PL"})).await;
        assert_eq!(left["type"], "unsubscribed");
        assert_eq!(client.ask(&subscribe(names(75)[24..].to_vec())).await["type"], "subscribed");
        assert_eq!(site.subscriptions().await.len(), 1 + 100);
        client.close().await;
        eventually("nothing is left", || async { site.subscriptions().await.is_empty() }).await;
    });
}

#[test]
fn a_connection_joins_and_leaves_a_hundred_at_once_and_then_one_each_second() {
    run(async {
        let site = Site::start_in_process().await;
        let mut client = site.connect("/prod").await;
        let regions: Vec<_> = (0..25).map(|number| format!("R{number}")).collect();
        for kind in ["subscribe_region", "unsubscribe_region", "subscribe_region", "unsubscribe_region"] {
            client.send(&json!({"type": kind, "regions": regions}).to_string()).await;
            assert_eq!(client.json().await["code"], json!(null), "{kind}");
        }
        client.send(&json!({"type": "subscribe_region", "regions": regions}).to_string()).await;
        let refused = client.json().await;
        assert_eq!((&refused["code"], &refused["retryable"]), (&json!("rate_limited"), &json!(true)), "{refused}");
        let after = refused["retry_after_ms"].as_u64().expect("a time");
        assert!((1..=25_000).contains(&after), "{refused}");
        assert_eq!(site.subscriptions().await.len(), 1, "nothing of it is carried out");
        // After the told wait it may subscribe, and messages that change nothing need not wait.
        assert_eq!(client.ask(&json!({"type": "echo"})).await["type"], "response");
        assert_eq!(client.ask(&json!({"type": "subscribe_region", "region": "PL"})).await["type"], "subscribed");
    });
}

#[test]
fn one_address_has_so_many_connections_and_gets_another_when_one_has_ended() {
    run(async {
        let site = Site::with(&[("ConnectionsPerAddress", "2")]).await;
        let first = site.connect("/prod").await;
        let _second = site.connect("/prod?region=PL").await;
        for _ in 0..3 {
            assert_eq!(site.try_connect("/prod", &[]).await.err(), Some(429));
        }
        let here = ("@address#127.0.0.1".to_owned(), "@everyone".to_owned());
        let items = site.subscriptions().await;
        let count = |audience: &str| items.iter().filter(|(of, _)| of == audience).count();
        assert_eq!((count(&here.0), count(&here.1)), (2, 2), "who is refused leaves nothing: {items:?}");
        first.close().await;
        eventually("one may come again", || async { site.try_connect("/prod", &[]).await.is_ok() }).await;
    });
}

#[test]
fn those_who_come_at_the_same_moment_are_as_many_as_there_may_be() {
    run(async {
        let site = Site::with(&[("ConnectionsPerAddress", "3")]).await;
        let together = futures_util::future::join_all((0..20).map(|_| site.try_connect("/prod", &[]))).await;
        let (let_in, refused): (Vec<_>, Vec<_>) = together.into_iter().partition(Result::is_ok);
        assert_eq!(let_in.len(), 3);
        assert!(refused.into_iter().all(|status| status.err() == Some(429)));
        assert_eq!(site.try_connect("/prod", &[]).await.err(), Some(429));
        assert_eq!(site.subscriptions().await.len(), 2 * 3, "nobody who was refused is left");
        drop(let_in);
    });
}

#[test]
fn one_user_has_so_many_connections_wherever_they_come_from() {
    run(async {
        let site = tokens_and(&[("ConnectionsPerUser", "1")]).await;
        let address = |user: &str| format!("/prod?token={}", token_of(json!({"sub": user})));
        let first = site.connect(&address("user-1")).await;
        assert_eq!(site.try_connect(&address("user-1"), &[]).await.err(), Some(429));
        let _other = site.connect(&address("user-2")).await;
        let without_a_subject = format!("/prod?token={}", token_of(json!({"sub": null})));
        let _nobody = site.connect(&without_a_subject).await;
        let _nobody_else = site.connect(&without_a_subject).await;
        first.close().await;
        eventually("the user may come again", || async { site.try_connect(&address("user-1"), &[]).await.is_ok() })
            .await;
        let items = format!("{:?}", site.subscriptions().await);
        assert!(!items.contains("user-"), "no subject of a token is stored: {items}");
    });
}

#[test]
fn a_publisher_that_publishes_too_much_is_told_when_to_go_on_and_loses_nothing() {
    run(async {
        let site = Site::with(&[("AlertsPerMinute", "2")]).await;
        let mut client = site.watcher("PL").await;
        let publish = async || site.post_json("/publish", &alert("PL")).await;
        for seq in 1..=2 {
            assert_eq!(publish().await.status, 200);
            assert_eq!(client.json().await["seq"], seq);
        }
        let refused = publish().await;
        assert_eq!(refused.status, 429, "{refused:?}");
        let error = refused.json()["error"].clone();
        assert_eq!((&error["code"], &error["retryable"]), (&json!("rate_limited"), &json!(true)), "{error}");
        let after = refused.header("retry-after").parse::<u64>().expect("seconds");
        assert!((1..=30).contains(&after), "{after}");
        // An event has no answer, so its invocation fails and Lambda retries it.
        let event = json!({"detail-type": "v", "source": "tests", "detail": alert("PL")});
        for _ in 0..2 {
            assert_eq!(site.invoke("PublishFunction", &event).await.1["published"], true, "another publisher");
        }
        let (_, failure) = site.invoke("PublishFunction", &event).await;
        let message = failure["errorMessage"].as_str().unwrap_or_default();
        assert!(message.contains("at most 2 alerts per minute of one publisher"), "{failure}");
        // Publications below the threshold do not count.
        let mut below = alert("PL");
        below["video"]["score"] = json!(1);
        let withheld = site.post_json("/publish", &below).await;
        assert_eq!(withheld.json(), json!({"published": false, "reason": "below_threshold"}));
    });
}
