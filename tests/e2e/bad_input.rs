//! Bad input and its exact answers. The socket stays open and nothing changes.

use serde_json::{Value, json};

use crate::site::{Site, run};

const REGION_FORM: &str = "a region has 2 to 16 letters, digits or hyphens and starts with a letter, such as PL";

#[test]
fn bad_messages_are_answered_and_the_socket_stays_open() {
    run(async {
        let site = Site::start().await;
        let mut client = site.connect("/prod").await;
        let error = |code: &str, field: Option<&str>, message: &str| {
            let mut answer = json!({"type": "error", "code": code, "message": message});
            if let Some(field) = field {
                answer["field"] = json!(field);
            }
            answer["retryable"] = json!(false);
            answer
        };
        let types = "send subscribe_region, unsubscribe_region, keepalive, ping, count, echo, join, leave, chat, \
                     typing or publish";
        let long = "P".repeat(300);
        let absurd = |region: &str| json!({"type": "subscribe_region", "region": region}).to_string();
        let region_form = error("invalid_region", Some("region"), REGION_FORM);
        let wrong_type = error("invalid_field", Some("region"), "region must be a string");
        let deep =
            format!(r#"{{"type":"subscribe_region","region":"PL","x":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
        let cases: Vec<(String, Value)> = vec![
            (
                "hello".into(),
                error("bad_json", None, "the text is not acceptable JSON: expected value at line 1 column 1"),
            ),
            (
                "".into(),
                error(
                    "bad_json",
                    None,
                    "the text is not acceptable JSON: EOF while parsing a value at line 1 column 0",
                ),
            ),
            ("[1,2]".into(), error("not_an_object", None, "the JSON must be an object")),
            ("\"x\"".into(), error("not_an_object", None, "the JSON must be an object")),
            ("null".into(), error("not_an_object", None, "the JSON must be an object")),
            ("{}".into(), error("unknown_type", Some("type"), &format!("type is missing: {types}"))),
            (r#"{"type":5}"#.into(), error("unknown_type", Some("type"), &format!("type must be a string: {types}"))),
            (
                r#"{"type":"nonsense"}"#.into(),
                error("unknown_type", Some("type"), &format!("this type of message does not exist: {types}")),
            ),
            (
                r#"{"type":"$connect"}"#.into(),
                error("unknown_type", Some("type"), &format!("this type of message does not exist: {types}")),
            ),
            (r#"{"type":"subscribe_region"}"#.into(), error("missing_field", Some("region"), "region is missing")),
            (absurd(""), region_form.clone()),
            (absurd("P"), region_form.clone()),
            (absurd("../x"), region_form.clone()),
            (absurd(&long), region_form.clone()),
            (absurd("P\u{0}L"), region_form.clone()),
            (absurd("@everyone"), region_form),
            (r#"{"type":"subscribe_region","region":7}"#.into(), wrong_type.clone()),
            (r#"{"type":"subscribe_region","region":null}"#.into(), wrong_type.clone()),
            (r#"{"type":"unsubscribe_region","region":{}}"#.into(), wrong_type),
            (
                r#"{"type":"subscribe_region","region":NaN}"#.into(),
                error("bad_json", None, "the text is not acceptable JSON: expected value at line 1 column 37"),
            ),
            (
                r#"{"type":"subscribe_region","region":"PL","region":"DE"}"#.into(),
                error(
                    "bad_json",
                    None,
                    r#"the text is not acceptable JSON: the key "region" stands twice at line 1 column 49"#,
                ),
            ),
            (
                deep,
                error(
                    "bad_json",
                    None,
                    "the text is not acceptable JSON: recursion limit exceeded at line 1 column 172",
                ),
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(client.ask_text(&message).await, expected, "{message}");
        }
        if site.is_local() {
            let items = site.subscriptions().await.len();
            assert_eq!(items, 1, "no message left anything behind but the connection itself");
        }
        client.subscribe("PL").await;
    });
}

#[test]
fn bad_publications_are_answered_and_nothing_is_published() {
    run(async {
        let site = Site::start().await;
        let mut watcher = site.watcher("ALL").await;
        let good =
            json!({"region": "PL", "video": {"id": "v", "title": "t", "thumbnail": "", "score": 90}}).to_string();
        let with = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replacen(from, to, 1).into_bytes()
        };
        let deep = format!(r#"{{"region":"PL","video":{}1{}}}"#, r#"{"a":"#.repeat(500), "}".repeat(500)).into_bytes();
        let cases: Vec<(Vec<u8>, u16, &str, Option<&str>)> = vec![
            (b"hello".to_vec(), 400, "bad_json", None),
            (b"[]".to_vec(), 400, "not_an_object", None),
            (b"{}".to_vec(), 400, "missing_field", Some("video")),
            (with(r#""PL""#, r#""P""#), 400, "invalid_region", Some("region")),
            (with(r#""PL""#, r#""../x""#), 400, "invalid_region", Some("region")),
            (with(r#""PL""#, r#""@everyone""#), 400, "invalid_region", Some("region")),
            (with(r#""PL""#, r#""ALL""#), 400, "invalid_region", Some("region")),
            (with(r#""PL""#, "[]"), 400, "invalid_field", Some("region")),
            (with(r#""id":"v","#, ""), 400, "missing_field", Some("video.id")),
            (with(r#","score":90"#, ""), 400, "missing_field", Some("video.score")),
            (with(r#""title":"t""#, r#""title":["t"]"#), 400, "invalid_field", Some("video.title")),
            (with("90", "NaN"), 400, "bad_json", None),
            (with("90", r#""90""#), 400, "invalid_field", Some("video.score")),
            (with("90", r#"90,"views":18446744073709551616"#), 400, "invalid_field", Some("video.views")),
            (with("90", r#"90,"url":"http://v.example/""#), 400, "invalid_field", Some("video.url")),
            (with(r#"{"region""#, r#"{"event":"video_removed","region""#), 400, "invalid_field", Some("event")),
            (
                br#"{"event":"video_removed","region":"PL","video_id":"v","title":"t"}"#.to_vec(),
                400,
                "invalid_field",
                Some("event"),
            ),
            (
                br#"{"event":"new_trending","region":"PL","video_id":"v","ts":1795000000000}"#.to_vec(),
                400,
                "invalid_field",
                Some("ts"),
            ),
            (with("90", "1e999"), 400, "bad_json", None),
            (with("90", "101"), 400, "invalid_field", Some("video.score")),
            (with(r#""score":90"#, r#""score":90,"score":91"#), 400, "bad_json", None),
            ([b"{\"region\":\"".as_slice(), &[0xff, 0xfe], b"\"}"].concat(), 400, "bad_json", None),
            (deep, 400, "bad_json", None),
            (with(r#""t""#, &format!("\"{}\"", "t".repeat(301))), 400, "title_too_long", Some("video.title")),
            (with("90", &format!("90,\"more\":\"{}\"", "t".repeat(40_000))), 413, "too_large", None),
            (with("90", &format!("90,\"more\":\"{}\"", "t".repeat(200_000))), 413, "too_large", None),
        ];
        for kind in ["application/json", "application/x-www-form-urlencoded"] {
            for (body, status, code, field) in &cases {
                let (answered, answer) = site.post("/publish", &[("content-type", kind)], body.clone()).await;
                let shown = String::from_utf8_lossy(&body[..body.len().min(200)]);
                assert_eq!(
                    (answered, answer["error"]["code"].as_str(), answer["error"]["field"].as_str()),
                    (*status, Some(*code), *field),
                    "{shown}: {answer}"
                );
                assert!(answer["error"]["message"].is_string() && answer["error"]["retryable"] == false, "{answer}");
            }
        }
        let (status, answer) = site.post("/publish", &[("Idempotency-Key", &"k".repeat(300))], good.clone()).await;
        assert_eq!((status, answer["error"]["field"].as_str()), (400, Some("idempotency-key")));
        // An invocation has no status. Its result is the refusal.
        let (status, answer) = site.invoke("PublishFunction", &json!({"region": "PL"})).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (200, Some("missing_field")));
        site.settled().await;
        watcher.expect_nothing().await;
    });
}
