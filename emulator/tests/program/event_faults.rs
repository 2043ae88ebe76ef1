//! Event APIs as they are now and then: with faults, quotas, time limits, and at the end.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use apigw_local::{FaultKind, GatewayOptions, Options, Stack};
use serde_json::{Value, json};

use crate::{
    event_client::{
        SIGNED, allow, connect, data, end, exchange, frame, key, nothing_more, open, post, publish, site, start,
        subprotocols, subscribe, token,
    },
    scripted::{Scripted, Socket, eventually, send},
};

/// A socket that is subscribed to `/alerts/x` as `s`.
async fn subscribed(site: &Scripted) -> Socket {
    let mut socket = connect(site, &token("t")).await;
    subscribe(&mut socket, "s", "/alerts/x").await;
    socket
}

async fn frames<const N: usize>(socket: &mut Socket) -> [Value; N] {
    let mut frames = Vec::new();
    for _ in 0..N {
        frames.push(frame(socket).await["event"].take());
    }
    frames.try_into().expect("as many")
}

#[tokio::test]
async fn a_lost_event_reaches_nobody_and_a_doubled_one_comes_twice() {
    let site = self::site(&["lost-event=1"]).await;
    let mut socket = subscribed(&site).await;
    assert_eq!(publish(&site, "/alerts/x", &["1"]).await["failed"], json!([]), "the publisher is not told");
    nothing_more(&mut socket).await;
    assert_eq!(site.stack.faults()[&FaultKind::LostEvent], 1);
    let site = self::site(&["doubled-event=1"]).await;
    let mut socket = subscribed(&site).await;
    publish(&site, "/alerts/x", &["1"]).await;
    assert_eq!([frame(&mut socket).await, frame(&mut socket).await], [data("s", "1"), data("s", "1")]);
    nothing_more(&mut socket).await;
}

#[tokio::test]
async fn a_late_event_comes_after_its_time_and_a_reordered_one_after_the_next_or_a_second() {
    let site = self::site(&["late-event=1:300ms"]).await;
    let mut socket = subscribed(&site).await;
    let began = Instant::now();
    publish(&site, "/alerts/x", &["1"]).await;
    nothing_more(&mut socket).await;
    assert_eq!(frame(&mut socket).await, data("s", "1"));
    assert!(began.elapsed() >= Duration::from_millis(300));
    let site = self::site(&["reordered-event=1"]).await;
    let mut socket = subscribed(&site).await;
    publish(&site, "/alerts/x", &["1", "2", "3"]).await;
    // The third one waits for another, and none comes.
    assert_eq!(frames(&mut socket).await, ["2", "1", "3"]);
}

#[tokio::test]
async fn events_reach_a_late_subscription_only_after_its_time() {
    let site = self::site(&["late-subscription=1:200ms"]).await;
    let mut socket = subscribed(&site).await;
    publish(&site, "/alerts/x", &["0"]).await;
    nothing_more(&mut socket).await;
    // Published again and again until one arrives, so that no time is waited for.
    let first = loop {
        publish(&site, "/alerts/x", &["1"]).await;
        let answer = exchange(&mut socket, json!({"type": "connection_init"})).await;
        if answer["type"] == "data" {
            break answer;
        }
    };
    assert_eq!(first, data("s", "1"), "what was published before is lost");
}

#[tokio::test]
async fn a_failed_event_is_in_failed_and_a_throttled_publish_is_refused() {
    let site = self::site(&["failed-event=1"]).await;
    let mut socket = subscribed(&site).await;
    let published = publish(&site, "/alerts/x", &["1", "2"]).await;
    assert_eq!((published["failed"].as_array().map(Vec::len), &published["successful"]), (Some(2), &json!([])));
    assert_eq!(
        (&published["failed"][1]["index"], &published["failed"][1]["code"]),
        (&json!(1), &json!("MessageProcessingError"))
    );
    nothing_more(&mut socket).await;
    let site = self::site(&["throttled-publish=1"]).await;
    let mut socket = subscribed(&site).await;
    let body = r#"{"channel":"/alerts/x","events":["1"]}"#;
    let reply = post(&site, &format!("Authorization: {SIGNED}\r\n"), body).await;
    assert_eq!((reply.status, reply.error_type.as_str()), (429, "LimitExceededError"), "{}", reply.body);
    nothing_more(&mut socket).await;
}

#[tokio::test]
async fn a_dropped_connection_ends_without_a_close_frame_and_its_event_is_lost() {
    let site = self::site(&["dropped-connection=1"]).await;
    let mut socket = connect(&site, &key(&site)).await;
    crate::event_client::tell(&mut socket, json!({"type": "connection_init"})).await;
    assert_eq!(end(&mut socket).await, (vec![], None));
    eventually("it is gone", || site.stack.event_sockets() == 0).await;
}

#[tokio::test]
async fn the_26th_publish_of_a_socket_in_a_second_is_refused_with_quotas() {
    let quotas = GatewayOptions { event_quotas: true, ..GatewayOptions::default() };
    for (gateway, admitted) in [(quotas, 25), (GatewayOptions::default(), 26)] {
        let site = start(gateway, &[], allow).await;
        let mut socket = connect(&site, &key(&site)).await;
        for n in 0..26 {
            let sent = json!({"type": "publish", "id": format!("p{n}"), "channel": "/open/x", "events": ["1"]});
            crate::event_client::tell(&mut socket, sent).await;
        }
        let (mut successes, mut refusals) = (0, Vec::new());
        for _ in 0..26 {
            match frame(&mut socket).await {
                answer if answer["type"] == "publish_success" => successes += 1,
                answer => refusals.push(answer["errors"][0]["errorType"].clone()),
            }
        }
        // The bucket fills while the messages come, so that one or two more may pass.
        assert!((admitted..=26).contains(&successes), "{successes}");
        assert_eq!(successes + refusals.len(), 26);
        assert!(refusals.iter().all(|kind| kind == "LimitExceededError"), "{refusals:?}");
    }
}

#[tokio::test]
async fn ka_comes_and_a_connection_ends_after_its_time_whatever_the_client_does() {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/event_api.yaml");
    let options = Options {
        lambda_endpoint: Some("http://127.0.0.1:1".parse().expect("an address")),
        // Every 100 ms, and 2 s for 24 hours.
        time_scale: 43_200.0,
        ..Options::on_free_ports(template)
    };
    let stack = Stack::start(&options).await.expect("started");
    let variables = &stack.function_variables["Publish"];
    let credentials = json!({"host": "h", "x-api-key": variables["KEY"]});
    let began = Instant::now();
    let (mut socket, _) = open(&variables["EVENTS_REALTIME"], &subprotocols(&credentials)).await;
    let ack = exchange(&mut socket, json!({"type": "connection_init"})).await;
    assert_eq!(ack, json!({"type": "connection_ack", "connectionTimeoutMs": 500}));
    let (frames, code) = end(&mut socket).await;
    assert_eq!(code, Some(1001));
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(frames.len() > 5 && frames.iter().all(|frame| *frame == json!({"type": "ka"})), "{frames:?}");
    // The option alone.
    let connection_duration = Some(Duration::from_millis(300));
    let site = start(GatewayOptions { connection_duration, ..GatewayOptions::default() }, &[], allow).await;
    assert_eq!(end(&mut connect(&site, &key(&site)).await).await, (vec![], Some(1001)));
}

#[tokio::test]
async fn a_reset_closes_sockets_and_forgets_answers_and_the_end_closes_them_too() {
    let site =
        start(GatewayOptions::default(), &[], |_, _| async { Ok(json!({"isAuthorized": true, "ttlOverride": 60})) })
            .await;
    let mut socket = connect(&site, &token("t")).await;
    let reply = send(site.stack.http_addr, "POST /reset", &format!("Host: {}\r\n", site.stack.http_addr), b"").await;
    assert_eq!((reply.status, reply.body.contains(r#""connections":1"#)), (200, true), "{}", reply.body);
    assert_eq!(end(&mut socket).await.1, Some(1000));
    let mut socket = connect(&site, &token("t")).await;
    assert_eq!(site.events_of("Authorize").len(), 2, "the answer is forgotten");
    site.stack.stop().await;
    assert_eq!(end(&mut socket).await.1, Some(1001));
}

#[tokio::test]
async fn the_inspector_shows_sockets_and_publishes_and_acts_on_them() {
    let site = self::site(&[]).await;
    let mut socket = subscribed(&site).await;
    publish(&site, "/alerts/x", &["1"]).await;
    assert_eq!(frame(&mut socket).await, data("s", "1"));
    let at = site.stack.http_addr;
    let headers = format!("Host: {at}\r\n");
    let get = |path: &'static str| {
        let headers = headers.clone();
        async move { serde_json::from_str::<Value>(&send(at, path, &headers, b"").await.body).expect("JSON") }
    };
    let records = get("GET /inspector/records?after=0").await;
    let records = records["records"].as_array().expect("a list");
    let of = |kind: &str| records.iter().filter(|record| record["kind"] == kind).collect::<Vec<_>>();
    assert_eq!(of("handshake")[0]["status"], 101);
    assert_eq!((of("received").len(), of("sent").len(), of("invoked").len()), (1, 2, 2));
    let [published] = of("published")[..] else { panic!("{records:?}") };
    assert_eq!(
        (&published["api"], &published["status"], &published["delivered"]),
        (&json!("Event"), &json!(200), &json!(1))
    );
    let listed = get("GET /inspector/connections").await;
    assert_eq!((&listed["connected"], &listed["connections"][0]["labels"]), (&json!(1), &json!(["Event API Event"])));
    let id = listed["connections"][0]["connectionId"].as_str().expect("an id").replace('=', "%3D");
    let act = |method: &'static str, action: &'static str, body: &'static str| {
        let (path, headers) = (format!("{method} /inspector/connections/{id}{action}"), headers.clone());
        async move { send(at, &path, &headers, body.as_bytes()).await.status }
    };
    assert_eq!(act("POST", "/sent", r#"{"type":"ka"}"#).await, 204);
    assert_eq!(frame(&mut socket).await, json!({"type": "ka"}));
    assert_eq!(act("POST", "/received", r#"{"type":"unsubscribe","id":"s"}"#).await, 204);
    assert_eq!(frame(&mut socket).await, json!({"type": "unsubscribe_success", "id": "s"}));
    assert_eq!(act("DELETE", "", "").await, 204);
    assert_eq!(end(&mut socket).await.1, Some(1000));
    assert_eq!(act("DELETE", "", "").await, 410);
}

#[tokio::test]
async fn a_client_that_does_not_read_gets_a_close_frame_when_it_is_closed() {
    let site = site(&[]).await;
    let mut socket = subscribed(&site).await;
    // More than the buffers of both ends hold, so that the API waits for the client.
    let event = format!("\"{}\"", "x".repeat(200_000));
    for _ in 0..80 {
        publish(&site, "/alerts/x", &[&event]).await;
    }
    let at = site.stack.http_addr;
    let headers = format!("Host: {at}\r\n");
    let listed = send(at, "GET /inspector/connections", &headers, b"").await.body;
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let sent = listed["connections"][0]["messagesSent"].as_u64().expect("a number");
    assert!((2..80).contains(&sent), "{sent} of them were begun");
    let id = listed["connections"][0]["connectionId"].as_str().expect("an id").replace('=', "%3D");
    assert_eq!(send(at, &format!("DELETE /inspector/connections/{id}"), &headers, b"").await.status, 204);
    let (frames, code) = end(&mut socket).await;
    // The answer to the subscription came before, and the test has read it.
    assert_eq!((frames.len() as u64, code), (sent - 1, Some(1000)), "what was begun comes whole");
}
