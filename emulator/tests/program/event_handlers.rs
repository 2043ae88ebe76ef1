//! Handlers of channel namespaces that are Lambda functions.

use apigw_local::GatewayOptions;
use serde_json::{Value, json};

use crate::{
    event_client::{connect, data, exchange, frame, key, nothing_more, post, start, subscribe, token, variable},
    scripted::{Scripted, ScriptedResult},
};

/// What the handler does with each event is in its payload.
async fn handle(name: String, event: Value) -> ScriptedResult {
    if name == "Authorize" {
        return Ok(json!({"isAuthorized": true, "handlerContext": {"tenant": "t7"}}));
    }
    if event["info"]["operation"] == "SUBSCRIBE" {
        let channel = event["info"]["channel"]["path"].as_str().unwrap_or_default();
        return match channel {
            "/handled/refused" => Ok(json!({"error": "not you"})),
            "/handled/broken" => Err("it broke"),
            _ => Ok(Value::Null),
        };
    }
    let decided = |item: &Value| match item["payload"].as_str() {
        Some("drop") => None,
        Some("fail") => Some(json!({"id": item["id"], "error": "a word too many"})),
        Some("grow") => Some(json!({"id": item["id"], "payload": "x".repeat(240 * 1024)})),
        Some("break") => Some(json!({"id": "unknown"})),
        _ => Some(json!({"id": item["id"], "payload": {"was": item["payload"]}})),
    };
    let events: Vec<Value> = event["events"].as_array().into_iter().flatten().filter_map(decided).collect();
    Ok(json!({"events": events}))
}

async fn publish(site: &Scripted, channel: &str, events: &[&str]) -> Value {
    let body = json!({"channel": channel, "events": events}).to_string();
    let reply = post(site, &format!("x-api-key: {}\r\n", variable(site, "KEY")), &body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str(&reply.body).expect("JSON")
}

#[tokio::test]
async fn a_function_changes_drops_and_fails_events() {
    let site = start(GatewayOptions::default(), &[], handle).await;
    let mut socket = connect(&site, &key(&site)).await;
    subscribe(&mut socket, "s", "/handled/*").await;
    let published = publish(&site, "/handled/x", &["1", r#""drop""#, r#""fail""#, "[2]", r#""grow""#]).await;
    let of = |list: &str, field: &str| {
        let items = published[list].as_array().expect("a list").iter();
        items.map(|item| item[field].clone()).collect::<Vec<Value>>()
    };
    assert_eq!(of("successful", "index"), [0, 3]);
    assert_eq!(
        (of("failed", "index"), of("failed", "code")),
        (vec![json!(2), json!(4)], vec![json!("MessageProcessingError"), json!("EventTooLargeException"),])
    );
    assert_eq!(of("failed", "message")[0], "a word too many");
    assert_eq!(frame(&mut socket).await, data("s", r#"{"was":1}"#));
    assert_eq!(frame(&mut socket).await, data("s", r#"{"was":[2]}"#));
    let broken = publish(&site, "/handled/x", &["1", r#""break""#]).await;
    assert_eq!((broken["failed"].as_array().map(Vec::len), &broken["successful"]), (Some(2), &json!([])));
    nothing_more(&mut socket).await;
}

#[tokio::test]
async fn a_function_refuses_subscriptions_and_is_told_who_asks() {
    let site = start(GatewayOptions::default(), &[], handle).await;
    let mut socket = connect(&site, &token("t")).await;
    let sent = |channel: &str| json!({"type": "subscribe", "id": "s", "channel": channel});
    for (channel, message) in
        [("/handled/refused", "not you"), ("/handled/broken", "There was an error processing the subscription")]
    {
        let answer = exchange(&mut socket, sent(channel)).await;
        assert_eq!(answer["type"], "subscribe_error", "{answer}");
        let error = &answer["errors"][0];
        assert_eq!((&error["errorType"], &error["message"]), (&json!("SubscriptionProcessingError"), &json!(message)));
    }
    assert_eq!(exchange(&mut socket, sent("/handled/a/b")).await["type"], "subscribe_success");
    let event = site.events_of("Handle").pop().expect("one");
    assert_eq!(event["identity"], json!({"handlerContext": {"tenant": "t7"}}));
    let info = json!({
        "channel": {"path": "/handled/a/b", "segments": ["handled", "a", "b"]},
        "channelNamespace": {"name": "handled"},
        "operation": "SUBSCRIBE",
    });
    assert_eq!((&event["info"], &event["events"], &event["stash"]), (&info, &Value::Null, &json!({})));
}

#[tokio::test]
async fn nothing_waits_for_a_function_that_is_only_told() {
    let site = start(GatewayOptions::default(), &[], handle).await;
    let mut socket = connect(&site, &key(&site)).await;
    subscribe(&mut socket, "s", "/told/*").await;
    let published = publish(&site, "/told/x", &[r#""drop""#]).await;
    assert_eq!(frame(&mut socket).await, data("s", r#""drop""#));
    let event = site.event_of("Handle").await;
    assert_eq!(event["events"], json!([{"id": published["successful"][0]["identifier"], "payload": "drop"}]));
    assert_eq!((&event["identity"], &event["info"]["operation"]), (&Value::Null, &json!("PUBLISH")));
}
