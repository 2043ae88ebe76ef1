//! Publications as clients of both formats receive them.

use serde_json::{Value, json};

use crate::{
    authorization::{token_of, tokens_and},
    scoring::entry_of_text,
    site::{Site, run},
};

const FLAT: &str =
    r#"{"event":"new_trending","region":"PL","video_id":"v","title":"cut \ud83d","thumbnail":"","ts":1795000000}"#;
const NESTED: &str = r#"{"region":"PL","video":{"id":"v","title":"cut \ud83d","thumbnail":"","score":97}}"#;

#[test]
fn half_an_emoji_is_published_whatever_way_it_comes() {
    run(async {
        let site = tokens_and(&[]).await;
        let token = token_of(json!({"publish": ["*"]}));
        let mut watcher = site.connect(&format!("/prod?region=PL&token={token}")).await;
        for body in [FLAT, NESTED] {
            let (status, answer) = site.post("/publish", &[], body).await;
            assert_eq!((status, &answer["published"]), (200, &json!(true)), "{answer}");
            let (_, answer) = site.invoke_text("PublishFunction", body).await;
            assert_eq!(answer["published"], true, "{answer}");
            let client = aws_sdk_eventbridge::Client::new(&site.sdk());
            let output = client.put_events().entries(entry_of_text(body)).send().await.expect("answered");
            assert_eq!(output.failed_entry_count(), 0);
            let mut publisher = site.connect(&format!("/prod?region=DE&token={token}")).await;
            let answer = publisher.ask_text(&body.replacen('{', r#"{"type":"publish","#, 1)).await;
            assert_eq!((&answer["type"], &answer["published"]), (&json!("published"), &json!(true)), "{answer}");
            site.settled().await;
            for way in ["HTTP", "invocation", "event", "socket"] {
                assert_eq!(watcher.json().await["title"], "cut \u{fffd}", "{way}");
            }
        }
    });
}

#[test]
fn what_a_publisher_says_of_a_video_reaches_both_kinds_of_clients_and_what_it_does_not_say_is_empty() {
    run(async {
        let site = Site::start().await;
        let mut by_message = site.watcher("PL").await;
        let mut by_address = site.connect("/prod?region=PL").await;
        let more = json!({"url": "https://v.example/1", "tags": ["a", {"b": null}], "views": 12});
        let mut flat = json!({"event": "new_trending", "region": "PL", "video_id": "v"});
        let mut nested = json!({"region": "PL", "video": {"id": "v", "score": 97}});
        for (name, value) in more.as_object().expect("an object") {
            flat[name] = value.clone();
            nested["video"][name] = value.clone();
        }
        for alert in [flat, nested] {
            site.publish(&alert).await;
            let has_all = |video: &Value| {
                for (name, value) in more.as_object().expect("an object") {
                    assert_eq!(&video[name], value, "{name} in {video}");
                }
                assert_eq!((&video["title"], video.get("thumbnail")), (&json!(""), None), "{video}");
            };
            has_all(&by_message.json().await["video"]);
            has_all(&by_address.json().await);
        }
    });
}
