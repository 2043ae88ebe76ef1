//! Subscriptions of clients, and the answers of the service.

use serde_json::json;

use crate::{
    history::new_region,
    site::{Site, run},
};

fn alert(region: &str) -> serde_json::Value {
    let video = json!({"id": "v1", "title": "Title", "thumbnail": "https://t.example/1.jpg", "score": 97});
    json!({"region": region, "video": video})
}

#[test]
fn spellings_of_one_region_are_one_region() {
    run(async {
        let site = Site::start().await;
        let mut client = site.connect("/prod").await;
        for spelling in ["pl", " PL ", "PL"] {
            let answer = client.ask(&json!({"type": "subscribe_region", "region": spelling})).await;
            assert_eq!((&answer["type"], &answer["region"]), (&json!("subscribed"), &json!("PL")));
        }
        let items: Vec<String> = site.subscriptions().await.into_iter().map(|(audience, _)| audience).collect();
        assert_eq!(items, ["@everyone", "PL"]);
        site.publish(&alert(" pl ")).await;
        assert_eq!(client.json().await["region"], "PL");
        client.expect_nothing().await;
    });
}

#[test]
fn several_regions_at_once_and_leaving_one() {
    run(async {
        let site = Site::start().await;
        let (left, kept, never) = (new_region(), new_region(), new_region());
        let mut client = site.connect("/prod").await;
        let answer = client
            .ask(&json!({"type": "subscribe_region", "regions": [left.to_lowercase(), kept.to_lowercase(), left]}))
            .await;
        assert_eq!((&answer["type"], &answer["regions"]), (&json!("subscribed"), &json!([left, kept])));
        let answer = client.ask(&json!({"type": "unsubscribe_region", "region": left.to_lowercase()})).await;
        assert_eq!(answer, json!({"type": "unsubscribed", "region": left}));
        let answer = client.ask(&json!({"type": "unsubscribe_region", "region": never})).await;
        assert_eq!(answer, json!({"type": "unsubscribed", "region": never}), "what never was is no error");
        // Another client watches the region, so that its alert does not go to everyone.
        let mut other = site.watcher(&left).await;
        site.publish(&alert(&left)).await;
        site.publish(&alert(&kept)).await;
        assert_eq!(client.json().await["region"], kept);
        assert_eq!(other.json().await["region"], left);
        client.expect_nothing().await;
    });
}

#[test]
fn a_region_in_the_address_or_a_header_subscribes_without_an_answer() {
    run(async {
        let site = Site::start().await;
        let mut by_query = site.connect("/prod?region=ae").await;
        let mut at_root = site.connect("/?region=AE").await;
        let mut by_header = site.try_connect("/prod", &[("X-Region", "AE")]).await.expect("accepted");
        for client in [&mut by_query, &mut at_root, &mut by_header] {
            client.expect_nothing().await;
        }
        let answer = site.publish(&alert("AE")).await;
        for client in [&mut by_query, &mut at_root, &mut by_header] {
            let frame = client.json().await;
            assert_eq!(
                (&frame["event"], &frame["region"], &frame["seq"]),
                (&json!("new_trending"), &json!("AE"), &answer["seq"])
            );
            client.expect_nothing().await;
        }
    });
}

#[test]
fn the_form_belongs_to_the_way_of_subscribing_unless_named() {
    run(async {
        let site = Site::start().await;
        let region = new_region();
        let mut named_at_connect = site.connect(&format!("/prod?region={region}&format=viral_alert")).await;
        let mut named_in_message = site.connect("/prod").await;
        let message = json!({"type": "subscribe_region", "region": region, "format": "new_trending"});
        assert_eq!(named_in_message.ask(&message).await["type"], "subscribed");
        let mut changed = site.connect(&format!("/prod?region={region}")).await;
        changed.subscribe(&region).await;
        site.publish(&alert(&region)).await;
        assert_eq!(named_at_connect.json().await["type"], "viral_alert");
        assert_eq!(named_in_message.json().await["event"], "new_trending");
        assert_eq!(changed.json().await["type"], "viral_alert");
    });
}

#[test]
fn the_default_region_is_what_the_template_says() {
    run(async {
        let site = Site::with(&[("DefaultRegion", "ALL"), ("FallbackToEveryone", "false")]).await;
        let mut client = site.connect("/prod").await;
        site.publish(&alert("PL")).await;
        site.publish(&alert("JP")).await;
        assert_eq!(client.json().await["region"], "PL");
        assert_eq!(client.json().await["event"], "new_trending");
    });
}

#[test]
fn ping_is_answered_without_a_function() {
    run(async {
        let site = Site::start().await;
        let mut client = site.connect("/prod").await;
        let before = site.invocations_of("SubscribeFunction");
        client.send(r#"{"type":"ping"}"#).await;
        assert_eq!(client.text().await, r#"{"type":"pong"}"#);
        assert_eq!(site.invocations_of("SubscribeFunction"), before);
    });
}
