//! The bridge as a process, between a real Redis with publishers in PHP and Python, and the service with a subscriber.

mod site;

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::site::{
    Bridge, Gate, Language::Php, Language::Python, Mode, Redis, Watcher, eventually, log_of, published, stack,
    until_published,
};

/// The channel of the broadcast system.
const TRENDING: &str = "topvideohub:trending";

/// A message in the form of the reference systems.
fn message(region: &str, id: &str) -> Value {
    json!({
        "event": "new_trending",
        "region": region,
        "video_id": id,
        "title": "Title",
        "thumbnail": "",
        "channel": "c",
        "ts": 1_795_000_000
    })
}

fn to_channel(region: &str, ids: &[String]) -> Vec<Value> {
    ids.iter().map(|id| json!({"channel": TRENDING, "message": message(region, id)})).collect()
}

fn to_stream(region: &str, ids: &[String]) -> Vec<Value> {
    ids.iter().map(|id| json!({"stream": "trending", "message": message(region, id)})).collect()
}

fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

/// The fields that come from the publisher.
fn of_publisher(frame: &Value) -> Value {
    let mut fields = frame.as_object().expect("an object").clone();
    for added in ["seq", "epoch", "id"] {
        assert!(fields.remove(added).is_some(), "{added} in {frame}");
    }
    Value::Object(fields)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; tests/run runs it"]
async fn what_php_and_python_publish_to_the_channels_of_today_reaches_browsers_as_it_was_sent() {
    let (redis, stack) = (Redis::start().await, stack(&[], &[]).await);
    // With the default sources.
    let bridge = Bridge::subscribed(&redis, ["--publish-url", &format!("http://{}/publish", stack.http_addr)]).await;
    let flat = |region: &str, title: &str, channel: &str, rtl: bool| {
        json!({"event": "new_trending", "region": region, "video_id": format!("v-{region}"), "title": title,
            "thumbnail": "https://i.example/vi/1/hq.jpg", "channel": channel, "rtl": rtl, "ts": 1_795_000_123})
    };
    let without = |message: &Value, field: &str| {
        let mut message = message.clone();
        message.as_object_mut().expect("an object").remove(field);
        message
    };
    // In the systems of today `rtl` goes by the region, also where the title is not Arabic.
    let jp = flat("JP", "【公式】新しい夏の歌 🎆", "音楽チャンネル", false);
    let kr = flat("KR", "새로운 노래 \"최신\" / 공식", "한국", false);
    let ae = flat("AE", "أغنية جديدة ٢٠٢٦", "قناة الموسيقى", true);
    let il = flat("IL", "New song", "ערוץ", true);
    let cz = flat("CZ", "Příliš žluťoučký kůň", "Kůň & spol.", false);
    let mut watchers = Vec::new();
    for expected in [&jp, &kr, &ae, &il, &cz] {
        let region = expected["region"].as_str().expect("a region");
        watchers.push((Watcher::of(&stack, region).await, expected));
    }

    redis
        .publish(
            Php,
            &[
                json!({"channel": TRENDING, "message": without(&jp, "rtl")}),
                json!({"channel": "tvs:AE", "message": ae}),
                json!({"channel": "tvs:il", "message": without(&il, "region")}),
            ],
        )
        .await;
    redis
        .publish(
            Python,
            &[
                json!({"channel": TRENDING, "message": without(&kr, "rtl")}),
                json!({"channel": "tvs:CZ", "message": without(&without(&cz, "rtl"), "region"), "ascii": true}),
            ],
        )
        .await;

    for (mut watcher, expected) in watchers {
        let text = watcher.text().await;
        let title = serde_json::to_string(&expected["title"]).expect("JSON");
        assert!(text.contains(&format!("\"title\":{title}")), "byte for byte: {text}");
        assert_eq!(&of_publisher(&serde_json::from_str(&text).expect("JSON")), expected);
    }
    bridge.reports("published", 5).await;
    let report = bridge.lines("report").pop().expect("a report");
    assert_eq!(
        (&report["read"], &report["duplicate"], &report["refused"]),
        (&json!(5), &json!(0), &json!(0)),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; tests/run runs it"]
async fn half_an_emoji_is_published_from_channels_and_streams_over_http_and_by_invocation() {
    let (redis, stack) = (Redis::start().await, stack(&[], &[]).await);
    let mut watcher = Watcher::of(&stack, "JP").await;
    let aws: Vec<(&str, &str)> =
        stack.aws_variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let url = format!("http://{}/publish", stack.http_addr);
    for (target, id) in [["--publish-url", &url], ["--function", "PublishFunction"]].into_iter().zip(ids("v", 2)) {
        let sources = ["--channel", TRENDING, "--stream", "trending", "--consumer", "a"];
        let bridge = Bridge::with(&redis, target.into_iter().chain(sources), &aws);
        bridge.says("subscribed").await;
        // As `json.dumps` and `JSON.stringify` write a title that was cut.
        let cut = message("JP", &id).to_string().replace("Title", r"cut \ud83d");
        for line in [json!({"channel": TRENDING, "message": cut}), json!({"stream": "trending", "message": cut})] {
            redis.publish(Python, &[line]).await;
            assert_eq!(watcher.json().await["title"], "cut \u{fffd}");
        }
        bridge.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; tests/run runs it"]
async fn it_publishes_by_signed_webhook_by_signature_for_iam_and_by_invocation() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let redis = Redis::start().await;
    let stack = stack(&[("WebhookSecretParameter", "/secret")], &[("/secret", SECRET)]).await;
    let gate = Gate::before(&stack, Mode::Pass).await;
    let webhook = format!("http://{}/webhook", stack.http_addr);
    let aws: Vec<(&str, &str)> =
        stack.aws_variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();

    // With variables alone, as in a container.
    let by = [
        vec![("BRIDGE_PUBLISH_URL", webhook.as_str()), ("BRIDGE_WEBHOOK_SECRET", SECRET)],
        vec![("BRIDGE_PUBLISH_URL", gate.url()), ("BRIDGE_IAM", "true")],
        vec![("BRIDGE_FUNCTION", "PublishFunction"), ("BRIDGE_CHANNELS", "another,topvideohub:trending")],
    ];
    for (variables, id) in by.into_iter().zip(ids("v", 3)) {
        let bridge = Bridge::with(&redis, [], &[aws.clone(), variables].concat());
        bridge.says("subscribed").await;
        redis.publish(Python, &to_channel("JP", std::slice::from_ref(&id))).await;
        bridge.reports("published", 1).await;
        assert_eq!(published(&stack, "JP").await.last(), Some(&id));
        bridge.kill().await;
    }
    let [headers] = gate.seen().try_into().expect("one request");
    let authorization = headers["authorization"].to_str().expect("text");
    let scope = format!("/{}/execute-api/aws4_request", stack.aws_variables["AWS_REGION"]);
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=local/"), "{authorization}");
    assert!(authorization.contains(&scope), "{authorization}");

    // With a wrong secret of the bridge the message waits.
    let wrong = ["--publish-url", &webhook, "--webhook-secret", "whsec_plJ3nmyCDGBKInavdOK15jsl"];
    let bridge = Bridge::subscribed(&redis, wrong).await;
    redis.publish(Python, &to_channel("JP", &ids("waits", 1))).await;
    let line = bridge.says("message not published yet").await;
    assert!(line["reason"].as_str().is_some_and(|reason| reason.starts_with("unauthorized: ")), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; tests/run runs it"]
async fn while_publish_fails_hangs_or_loses_its_answers_nothing_is_lost_doubled_or_out_of_order() {
    // KR has no subscribers, so its alerts would go to everyone.
    let (redis, stack) = (Redis::start().await, stack(&[("FallbackToEveryone", "false")], &[]).await);
    let gate = Gate::before(&stack, Mode::Fail).await;
    let bridge = Bridge::subscribed(&redis, ["--publish-url", gate.url(), "--attempt-secs", "1"]).await;
    let mut watcher = Watcher::of(&stack, "JP").await;
    let (jp, kr) = (ids("jp", 20), ids("kr", 20));
    redis.publish(Python, &[to_channel("JP", &jp[..10]), to_channel("KR", &kr)].concat()).await;
    for mode in [Mode::Fail, Mode::Hang, Mode::LoseAnswer] {
        gate.set(mode);
        gate.sees(3).await;
    }
    redis.publish(Php, &to_channel("JP", &jp[10..])).await;
    gate.set(Mode::Pass);

    until_published(&stack, "JP", jp.len()).await;
    until_published(&stack, "KR", kr.len()).await;
    bridge.reports("published", 40).await;
    assert_eq!((published(&stack, "JP").await, published(&stack, "KR").await), (jp.clone(), kr));
    let mut seen = BTreeSet::new();
    while seen.len() < jp.len() {
        let frame = watcher.json().await;
        seen.insert(frame["video_id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(seen, jp.into_iter().collect());
    let report = bridge.lines("report").pop().expect("a report");
    assert!(report["retried"].as_u64() >= Some(9) && report["duplicate"].as_u64() >= Some(1), "{report}");
    assert_eq!((&report["published"], &report["queued"]), (&json!(40), &json!(0)), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; tests/run runs it"]
async fn more_than_one_publisher_may_have_per_minute_is_published_later() {
    // One more comes back after 15 s, in which these are published even on a slow machine.
    const AT_ONCE: usize = 4;
    let (redis, stack) = (Redis::start().await, stack(&[("AlertsPerMinute", &AT_ONCE.to_string())], &[]).await);
    let bridge = Bridge::subscribed(&redis, ["--publish-url", &format!("http://{}/publish", stack.http_addr)]).await;
    redis.publish(Python, &to_channel("JP", &ids("v", AT_ONCE + 1))).await;
    let line = bridge.says("message not published yet").await;
    assert!(line["reason"].as_str().is_some_and(|reason| reason.starts_with("rate_limited: ")), "{line}");
    until_published(&stack, "JP", AT_ONCE + 1).await;
    assert_eq!(published(&stack, "JP").await, ids("v", AT_ONCE + 1));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; tests/run runs it"]
async fn after_redis_was_killed_and_came_back_it_subscribes_again_and_what_it_had_read_is_published() {
    let (mut redis, stack) = (Redis::start().await, stack(&[], &[]).await);
    let gate = Gate::before(&stack, Mode::Hang).await;
    let arguments = ["--publish-url", gate.url(), "--attempt-secs", "1"];
    let streams = ["--channel", TRENDING, "--stream", "trending", "--consumer", "a"];
    let bridge = Bridge::subscribed(&redis, arguments.into_iter().chain(streams)).await;
    bridge.says("stream read").await;
    redis.publish(Python, &[to_channel("JP", &ids("before", 2)), to_stream("KR", &ids("before", 2))].concat()).await;
    gate.sees(2).await;
    bridge.reports("queued", 4).await;

    redis.kill().await;
    let line = bridge.says("subscription ended, messages are lost until there is another").await;
    assert!(line["error"].is_string(), "{line}");
    bridge.says("stream not read, it keeps its entries").await;
    gate.set(Mode::Pass);
    until_published(&stack, "JP", 2).await;
    redis.restart().await;
    eventually("it has subscribed again", || async { bridge.lines("subscribed").len() == 2 }).await;
    assert!(bridge.lines("subscribed")[1]["away_ms"].as_u64() > Some(0));
    redis.publish(Php, &to_channel("JP", &ids("after", 2))).await;
    redis.publish(Python, &to_stream("KR", &ids("after", 2))).await;

    until_published(&stack, "JP", 4).await;
    until_published(&stack, "KR", 4).await;
    let expected = [ids("before", 2), ids("after", 2)].concat();
    assert_eq!((published(&stack, "JP").await, published(&stack, "KR").await), (expected.clone(), expected));
    eventually("everything is acknowledged", || async { redis.pending("trending").await == 0 }).await;
    bridge.reports("gaps", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; tests/run runs it"]
async fn a_bridge_that_is_killed_amid_a_stream_goes_on_where_it_was() {
    const ENTRIES: usize = 150;
    let (redis, stack) = (Redis::start().await, stack(&[], &[]).await);
    let url = format!("http://{}/publish", stack.http_addr);
    let arguments = ["--publish-url", &url, "--stream", "trending", "--consumer", "a"];
    // The stream is there before any bridge is, and with it no group.
    let (jp, kr) = (ids("jp", ENTRIES), ids("kr", ENTRIES));
    let turns = to_stream("JP", &jp).into_iter().zip(to_stream("KR", &kr)).flat_map(|(jp, kr)| [jp, kr]);
    redis.publish(Python, &turns.collect::<Vec<_>>()).await;
    for kills in 1..=3 {
        let bridge = Bridge::start(&redis, arguments);
        until_published(&stack, "JP", kills * ENTRIES / 5).await;
        bridge.kill().await;
    }
    assert!(redis.pending("trending").await > 0, "it was killed with entries in hand");
    assert!(log_of(&stack, "JP").await.len() < ENTRIES, "it was killed before the end");

    let bridge = Bridge::start(&redis, arguments);
    assert!(bridge.says("stream read").await["given"].as_u64() > Some(0));
    until_published(&stack, "JP", ENTRIES).await;
    until_published(&stack, "KR", ENTRIES).await;
    eventually("everything is acknowledged", || async { redis.pending("trending").await == 0 }).await;
    assert_eq!((published(&stack, "JP").await, published(&stack, "KR").await), (jp, kr));
    let caught_up = || async {
        let reports = bridge.lines("stream report");
        reports.last().is_some_and(|report| (&report["pending"], &report["lag"]) == (&json!(0), &json!(0)))
    };
    eventually("a report says so", caught_up).await;
    assert!(bridge.lines("report").iter().any(|report| report["entry_lag_max_ms"].as_u64() > Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; tests/run runs it"]
async fn what_a_bridge_that_does_not_come_back_had_in_hand_another_one_takes() {
    let (redis, stack) = (Redis::start().await, stack(&[], &[]).await);
    let gate = Gate::before(&stack, Mode::Hang).await;
    let gone = Bridge::start(&redis, ["--publish-url", gate.url(), "--stream", "trending", "--consumer", "gone"]);
    gone.says("stream read").await;
    redis.publish(Python, &to_stream("JP", &ids("v", 70))).await;
    gone.reports("queued", 70).await;
    gone.kill().await;

    gate.set(Mode::Pass);
    let other = ["--stream", "trending", "--consumer", "other", "--claim-idle-secs", "1"];
    let other = Bridge::start(&redis, ["--publish-url", gate.url()].into_iter().chain(other));
    other.says("entries claimed that were left for long").await;
    until_published(&stack, "JP", 70).await;
    eventually("everything is acknowledged", || async { redis.pending("trending").await == 0 }).await;
    assert_eq!(published(&stack, "JP").await, ids("v", 70));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; tests/run runs it"]
async fn two_bridges_on_the_same_channel_publish_once() {
    let (redis, stack) = (Redis::start().await, stack(&[], &[]).await);
    let url = format!("http://{}/publish", stack.http_addr);
    let arguments = ["--publish-url", url.as_str()];
    let first = Bridge::subscribed(&redis, arguments).await;
    let second = Bridge::subscribed(&redis, arguments).await;
    redis.publish(Php, &to_channel("JP", &ids("v", 20))).await;
    first.reports("published", 20).await;
    second.reports("published", 20).await;
    assert_eq!(published(&stack, "JP").await, ids("v", 20));
    let duplicates = |bridge: &Bridge| bridge.lines("report").pop().expect("a report")["duplicate"].as_u64();
    assert_eq!(duplicates(&first).zip(duplicates(&second)).map(|(first, second)| first + second), Some(20));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; tests/run runs it"]
async fn messages_that_can_never_be_published_hold_nothing_up_and_a_stream_keeps_a_copy() {
    let (redis, stack) = (Redis::start().await, stack(&[], &[]).await);
    let gate = Gate::before(&stack, Mode::Pass).await;
    let sources = ["--channel", TRENDING, "--pattern", "tvs:*", "--stream", "trending", "--consumer", "a"];
    let bridge = Bridge::subscribed(&redis, ["--publish-url", gate.url()].into_iter().chain(sources)).await;
    let nameless = json!({"event": "new_trending", "region": "JP", "title": "t", "thumbnail": ""});
    let mut regionless = message("JP", "regionless");
    regionless.as_object_mut().expect("an object").remove("region");
    let mut low = message("JP", "low");
    low["score"] = json!(10);
    let mut removed = message("JP", "removed");
    removed["event"] = json!("video_removed");
    redis
        .publish(
            Python,
            &[
                json!({"channel": TRENDING, "message": "{no JSON"}),
                json!({"channel": TRENDING, "message": nameless}),
                json!({"channel": TRENDING, "message": removed}),
                json!({"channel": "tvs:?", "message": regionless}),
                json!({"channel": TRENDING, "message": low}),
                json!({"channel": "tvs:DE", "message": message("JP", "of-another-channel")}),
                json!({"stream": "trending", "message": "{no JSON"}),
                json!({"stream": "trending", "message": message("JP", "v"), "field": "other"}),
                json!({"stream": "trending", "message": message("KR", "good")}),
            ],
        )
        .await;
    redis.publish(Php, &to_channel("JP", &ids("good", 1))).await;

    until_published(&stack, "JP", 2).await;
    until_published(&stack, "KR", 1).await;
    assert_eq!(published(&stack, "JP").await, ["of-another-channel", "good-0"]);
    bridge.reports("refused", 6).await;
    // What only the service finds wrong.
    gate.set(Mode::Refuse);
    redis.publish(Python, &to_stream("KR", &ids("unwanted", 1))).await;
    bridge.reports("refused", 7).await;
    let report = bridge.lines("report").pop().expect("a report");
    assert_eq!((&report["withheld"], &report["retried"], &report["queued"]), (&json!(1), &json!(0), &json!(0)));
    let refused: BTreeSet<_> = bridge.lines("message refused").iter().map(|line| line["from"].to_string()).collect();
    assert_eq!(refused, [TRENDING, "tvs:?", "trending"].map(|from| json!(from).to_string()).into());
    assert_eq!(bridge.lines("message names another region than its channel").len(), 1);

    eventually("everything is acknowledged", || async { redis.pending("trending").await == 0 }).await;
    let dead: Vec<(String, Vec<String>)> = redis.ask(&["XRANGE", "trending:dead", "-", "+"]).await;
    let fields: Vec<_> =
        dead.iter().map(|(_, fields)| (fields[0].as_str(), fields[2].as_str(), &fields[4..])).collect();
    assert_eq!(fields.len(), 3);
    assert_eq!(fields[0], ("bridge:entry", "bridge:reason", &["data".to_owned(), "{no JSON".to_owned()][..]));
    assert_eq!(fields[1].2[0], "other");
    assert!(dead[1].1[3].contains("no field data"), "{dead:?}");
    assert_eq!(dead[2].1[3], "invalid_field: title is not wanted");
    assert!(dead[2].1[5].contains("unwanted-0"), "{dead:?}");

    // Where no copy can be made, the log has the entry, and what comes after it is published.
    gate.set(Mode::Pass);
    let _: redis::Value = redis.ask(&["SET", "trending:dead", "no stream"]).await;
    let _: redis::Value = redis.ask(&["XADD", "trending", "*", "data", "{again no JSON"]).await;
    let before = published(&stack, "KR").await.len();
    redis.publish(Python, &to_stream("KR", &ids("after", 1))).await;
    until_published(&stack, "KR", before + 1).await;
    let line = bridge.says("refused entry not copied, it is here").await;
    assert!(line["entry"].as_str().is_some_and(|entry| entry.contains("{again no JSON")), "{line}");
    eventually("all of it is acknowledged", || async { redis.pending("trending").await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; tests/run runs it"]
async fn asked_to_stop_it_finishes_what_it_has_read_and_says_what_it_could_not() {
    let (redis, stack) = (Redis::start().await, stack(&[], &[]).await);
    let gate = Gate::before(&stack, Mode::Fail).await;
    let mut bridge = Bridge::subscribed(&redis, ["--publish-url", gate.url()]).await;
    redis.publish(Python, &to_channel("JP", &ids("v", 20))).await;
    bridge.reports("queued", 20).await;
    bridge.signal(Signal::TERM);
    bridge.says("stopping: nothing more is read").await;
    eventually("it reads no more", || async {
        redis.ask::<Vec<redis::Value>>(&["PUBSUB", "NUMSUB", TRENDING]).await[1] == redis::Value::Int(0)
    })
    .await;
    gate.set(Mode::Pass);
    assert_eq!(bridge.ended().await.code(), Some(0));
    assert_eq!(published(&stack, "JP").await, ids("v", 20));
    assert_eq!(bridge.says("stopped").await["entries"], 0);

    // In vain: what a stream keeps is no loss, what a channel said is one.
    gate.set(Mode::Fail);
    for (source, messages) in [("--stream", 0), ("--channel", 3)] {
        let name = if messages == 0 { "trending" } else { TRENDING };
        let arguments = ["--publish-url", gate.url(), source, name, "--consumer", "a", "--drain-secs", "1"];
        let mut bridge = Bridge::start(&redis, arguments);
        bridge.says(if messages == 0 { "stream read" } else { "subscribed" }).await;
        let orders = if messages == 0 { to_stream("KR", &ids("v", 3)) } else { to_channel("KR", &ids("v", 3)) };
        redis.publish(Python, &orders).await;
        bridge.reports("queued", 3).await;
        bridge.signal(Signal::INT);
        assert_eq!(bridge.ended().await.code(), Some(if messages == 0 { 0 } else { 1 }));
        let message = if messages == 0 { "stopped" } else { "stopped before everything was published" };
        let line = bridge.says(message).await;
        assert_eq!(line["entries"], 3 - messages, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; tests/run runs it"]
async fn a_full_queue_leaves_entries_in_their_stream_and_drops_messages_into_the_log() {
    let (redis, stack) = (Redis::start().await, stack(&[], &[]).await);
    let gate = Gate::before(&stack, Mode::Fail).await;
    let sources = ["--channel", TRENDING, "--stream", "trending", "--consumer", "a", "--queue", "40"];
    let bridge = Bridge::subscribed(&redis, ["--publish-url", gate.url()].into_iter().chain(sources)).await;
    redis.publish(Python, &to_stream("KR", &ids("v", 100))).await;
    redis.publish(Php, &to_channel("JP", &ids("v", 43))).await;
    bridge.reports("queued", 80).await;
    bridge.reports("dropped", 3).await;
    let dropped = bridge.lines("queue full, message dropped");
    let dropped: Vec<Value> = dropped
        .iter()
        .map(|line| serde_json::from_str(line["body"].as_str().expect("a body")).expect("JSON"))
        .collect();
    assert_eq!(dropped.iter().map(|body| &body["video_id"]).collect::<Vec<_>>(), ["v-40", "v-41", "v-42"]);
    assert!(dropped.iter().all(|body| body["region"] == "JP"), "{dropped:?}");
    assert_eq!(redis.pending("trending").await, 40);

    gate.set(Mode::Pass);
    until_published(&stack, "KR", 100).await;
    until_published(&stack, "JP", 40).await;
    assert_eq!((published(&stack, "KR").await, published(&stack, "JP").await), (ids("v", 100), ids("v", 40)));
}

#[test]
fn what_cannot_be_configured_ends_at_once_and_says_why() {
    for (arguments, expected) in [
        (&["--stream", "s"][..], "--consumer"),
        (&["--publish-url", "/publish"], "invalid address `/publish`"),
        (&["--publish-url", "http://localhost/publish", "--redis-url", "localhost"], "redis://"),
    ] {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_bridge")).args(arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}
