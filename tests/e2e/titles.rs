//! Titles in every script arrive byte for byte.

use serde_json::{Value, json};
use shared::limits::TITLE_CHARS_MAX;

use crate::{
    history::new_region,
    site::{Site, root, run},
};

/// Region, title, and whether it is written from right to left.
const FIXTURES: [(&str, &str, bool); 14] = [
    ("AE", "أغنية جديدة تتصدر المشاهدات", true),
    ("AE", "New song in Latin letters", false),
    ("AE", "😂🔥 100%", true),
    ("IL", "השיר החדש של הקיץ", true),
    ("DE", "שיר בעברית בגרמניה", true),
    ("CZ", "Příliš žluťoučký kůň úpěl ďábelské ódy", false),
    ("FI", "Yötön yö ja hyvää huomenta", false),
    ("DK", "Rødgrød med fløde på en ø", false),
    ("JP", "新しい動画が「急上昇」に入りました", false),
    ("KR", "새로운 영상이 인기 급상승", false),
    ("PL", "Rodzina 👨\u{200d}👩\u{200d}👧\u{200d}👦 i flaga 🇵🇱 👍🏽", false),
    ("IR", "می\u{200c}خواهم ببینم", true),
    ("US", "Not NFC: e\u{301} and a \"quoted\" <b>tag</b> & more", false),
    ("GB", "  spaces around, tab\tand \u{2028} separator  ", false),
];

/// Real records, if present: (region, video id, title, channel, thumbnail).
fn records() -> Option<Vec<Value>> {
    let text = std::fs::read_to_string(root().join("../shared/data/trending.jsonl")).ok()?;
    Some(text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect())
}

/// Returns the title between the quotes of a frame.
fn as_json(text: &str) -> String {
    serde_json::to_string(text).expect("a text")
}

#[test]
fn titles_arrive_byte_for_byte_and_with_their_direction() {
    run(async {
        let site = Site::start().await;
        let mut by_message = site.watcher("ALL").await;
        let mut at_connect = site.connect("/prod?region=ALL").await;
        for (region, title, rtl) in FIXTURES {
            site.publish(
                &json!({"region": region, "video": {"id": "v", "title": title, "thumbnail": "", "score": 99}}),
            )
            .await;
            let frame = by_message.text().await;
            assert!(frame.contains(&format!("\"title\":{}", as_json(title))), "{frame}");
            let frame: Value = serde_json::from_str(&frame).expect("JSON");
            assert_eq!(frame["video"]["title"], title);
            assert_eq!(frame["dir"], if rtl { "rtl" } else { "ltr" }, "{title}");
            let frame = at_connect.json().await;
            assert_eq!((&frame["title"], &frame["rtl"]), (&json!(title), &json!(rtl)));
        }
    });
}

#[test]
fn real_trending_titles_arrive_byte_for_byte() {
    run(async {
        let Some(records) = records() else {
            println!("no real records here; the fixtures of the test beside this one have every script");
            return;
        };
        assert_eq!(records.len(), 504);
        let site = Site::start().await;
        let mut client = site.watcher("ALL").await;
        for record in &records {
            let video = json!({
                "id": record["video_id"], "title": record["title"], "thumbnail": record["thumbnail_url"],
                "channel": record["channel_title"], "score": 99,
            });
            let answer = site.publish(&json!({"region": record["region"], "video": video})).await;
            let frame = client.text().await;
            // The bytes of the title: only escapes that JSON requires, no normalisation, no trimming.
            let title = record["title"].as_str().expect("a title");
            assert!(frame.contains(&format!("\"title\":{}", as_json(title))), "{frame}");
            let frame: Value = serde_json::from_str(&frame).expect("JSON");
            assert_eq!((&frame["region"], &frame["seq"], &frame["video"]), (&record["region"], &answer["seq"], &video));
        }
        client.expect_nothing().await;
    });
}

#[test]
fn a_title_that_is_too_long_is_refused_in_whatever_way_it_comes_and_one_that_just_fits_arrives_whole() {
    run(async {
        let site = Site::start().await;
        let region = new_region();
        let mut client = site.watcher(&region).await;
        let nested =
            |title: &str| json!({"region": region, "video": {"id": "v", "title": title, "thumbnail": "", "score": 97}});
        let flat = |title: &str| json!({"event": "new_trending", "region": region, "video_id": "v", "title": title});
        let event =
            |detail: Value| json!({"id": "e", "detail-type": "Video Went Viral", "source": "s", "detail": detail});
        let long = "é".repeat(TITLE_CHARS_MAX + 1);
        let refused = |answer: &Value, field: &str| {
            let error = &answer["error"];
            assert_eq!((&error["code"], &error["field"]), (&json!("title_too_long"), &json!(field)), "{answer}");
            assert_eq!(error["retryable"], false, "{answer}");
        };
        for (body, field) in [(nested(&long), "video.title"), (flat(&long), "title")] {
            let (status, answer) = site.post("/publish", &[], body.to_string()).await;
            assert_eq!(status, 400, "{answer}");
            refused(&answer, field);
            refused(&site.invoke("PublishFunction", &event(body.clone())).await.1, field);
            refused(&site.invoke("PublishFunction", &body).await.1, field);
        }
        let whole = "é".repeat(TITLE_CHARS_MAX);
        let several = json!({"publications": [nested(&long), nested(&whole)]});
        let (_, answer) = site.post("/publish", &[], several.to_string()).await;
        refused(&answer["results"][0], "video.title");
        assert_eq!(answer["results"][1]["published"], true, "one that is refused stops no other: {answer}");
        assert_eq!(client.json().await["video"]["title"], whole);
    });
}
