//! Limits and quotas of the service, set low enough to reach them.

use std::{sync::Arc, time::Duration};

use apigw_local::{FaultOptions, GatewayOptions, Rate};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::Message;

use crate::scripted::{SCRIPTED, Scripted, Socket, UPGRADE, WAIT_MAX, ask as http, echo, eventually, exchange, next};

/// Attempts that reach a quota of one per second on any machine.
const ATTEMPTS_MAX: usize = 1_000;

/// Starts a site whose functions echo messages.
async fn site(gateway: GatewayOptions) -> Scripted {
    Scripted::with(SCRIPTED, &[], gateway, FaultOptions::default(), echo).await
}

#[tokio::test]
async fn handshakes_over_the_quota_are_refused_with_429_and_accepted_again_later() {
    let connect_rate = Some("1:2".parse().expect("a rate"));
    let site = site(GatewayOptions { connect_rate, ..GatewayOptions::default() }).await;
    let mut sockets = Vec::new();
    let status = loop {
        match site.connect("", &[]).await {
            Ok((socket, _)) => sockets.push(socket),
            Err(status) => break status,
        }
        assert!(sockets.len() < ATTEMPTS_MAX, "never refused");
    };
    assert_eq!(status, 429);
    assert!(sockets.len() >= 2, "the bucket admits as many as it holds");
    assert_eq!(site.events_of("Connect").len(), sockets.len(), "a refused client reaches no function");

    let mut refused = site.request("GET /dev", UPGRADE, "").await;
    for _ in 0..ATTEMPTS_MAX {
        if refused.status == 429 {
            break;
        }
        refused = site.request("GET /dev", UPGRADE, "").await;
    }
    let body: Value = serde_json::from_str(&refused.body).expect("JSON");
    assert_eq!(
        (refused.error_type.as_str(), &body["message"]),
        ("TooManyRequestsException", &json!("Too Many Requests"))
    );
    assert!(body["connectionId"].is_string() && body["requestId"].is_string(), "{body}");

    let again = async { while site.connect("", &[]).await.is_err() {} };
    tokio::time::timeout(WAIT_MAX, again).await.expect("accepted again in time");
}

#[tokio::test]
async fn messages_and_management_calls_share_a_quota() {
    let request_rate = Some("1:50".parse().expect("a rate"));
    let site = site(GatewayOptions { request_rate, ..GatewayOptions::default() }).await;
    let (mut socket, id) = site.client().await;
    let mut taken = 0;
    let refusal = loop {
        match exchange(&mut socket, "m").await {
            answer if answer == "m" => taken += 1,
            refusal => break refusal,
        }
        assert!(taken < ATTEMPTS_MAX, "never refused");
    };
    assert!(taken >= 50, "the bucket admits as many as it holds: {taken}");
    assert!(refusal.starts_with(&format!(r#"{{"message": "Too Many Requests", "connectionId":"{id}", "requestId":""#)));
    assert_eq!(site.events_of("Message").len(), taken, "a refused message reaches no function");

    for method in ["POST", "GET"] {
        let mut calls = 0;
        let refused = loop {
            let reply = site.manage(method, &id, "m").await;
            if reply.status != 200 {
                break reply;
            }
            calls += 1;
            // The client has emptied the bucket; since then few tokens have come back.
            assert!(calls < 25, "{method}: {calls} calls were taken");
        };
        assert_eq!((refused.status, refused.error_type.as_str()), (429, "LimitExceededException"), "{method}");
        assert_eq!(refused.body, "");
    }
}

/// Starts a site with throttles in its template, whose functions echo messages.
async fn throttled_site(throttles: bool, request_rate: Option<Rate>, parameters: &[(&str, &str)]) -> Scripted {
    let gateway = GatewayOptions { throttles, request_rate, ..GatewayOptions::default() };
    Scripted::with("throttled.yaml", parameters, gateway, FaultOptions::default(), echo).await
}

/// Sends a message `times` and counts the echoes. All others must get the error frame of a throttle.
async fn echoed(socket: &mut Socket, message: &str, times: usize) -> usize {
    let mut echoes = 0;
    for _ in 0..times {
        let answer = exchange(socket, message).await;
        if answer == message {
            echoes += 1;
            continue;
        }
        let frame: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(frame["message"], "Too Many Requests", "{answer}");
        assert!(frame["connectionId"].is_string() && frame["requestId"].is_string(), "{answer}");
    }
    echoes
}

#[tokio::test]
async fn each_route_admits_what_its_stage_allows_and_refuses_the_rest_on_an_open_socket() {
    let site = throttled_site(true, None, &[]).await;
    let (mut socket, _) = site.connect("", &[]).await.expect("connected");
    assert_eq!(echoed(&mut socket, r#"{"action":"say"}"#, 6).await, 2, "its own throttle");
    assert_eq!(echoed(&mut socket, "nonsense", 9).await, 5, "the throttle of the stage");
    assert_eq!(echoed(&mut socket, r#"{"action":"free"}"#, 20).await, 20);
    let (mut second, _) = site.connect("", &[]).await.expect("connected");
    assert_eq!(
        echoed(&mut second, r#"{"action":"say"}"#, 1).await,
        0,
        "a throttle belongs to the route, not to a connection"
    );
    site.connect("", &[]).await.expect("connected");
    assert_eq!(site.connect("", &[]).await.err(), Some(429));
    assert_eq!(site.events_of("Message").len(), 2 + 5 + 20 + 3, "a refused message reaches no function");

    let ask = async |method: &str| http(site.stack.http_addr, &format!("{method} /read"), "", "").await;
    assert_eq!([ask("GET").await.status, ask("GET").await.status], [200, 200]);
    let refused = ask("GET").await;
    assert_eq!((refused.status, refused.body.as_str()), (429, r#"{"message":"Too Many Requests"}"#));
    assert_eq!(ask("POST").await.status, 200, "another route");
    assert_eq!(site.events_of("Read").len(), 3);
}

#[tokio::test]
async fn a_throttle_of_zero_refuses_all_and_without_the_option_none_applies() {
    let site = throttled_site(true, None, &[("ConnectBurst", "0")]).await;
    assert_eq!(site.connect("", &[]).await.err(), Some(429));
    let site = throttled_site(false, None, &[("ConnectBurst", "0")]).await;
    let (mut socket, _) = site.connect("", &[]).await.expect("connected");
    assert_eq!(echoed(&mut socket, r#"{"action":"say"}"#, 10).await, 10);
}

#[tokio::test]
async fn what_a_throttle_refuses_takes_nothing_of_the_account_s_quota_which_the_http_api_shares() {
    let site = throttled_site(true, Some("1:30".parse().expect("a rate")), &[]).await;
    let (mut socket, _) = site.connect("", &[]).await.expect("connected");
    assert_eq!(echoed(&mut socket, r#"{"action":"say"}"#, 60).await, 2);
    let free = echoed(&mut socket, r#"{"action":"free"}"#, 40).await;
    assert!((28..40).contains(&free), "28 are left, and few come back: {free}");
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(http(site.stack.http_addr, "POST /read", "", "").await.status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn a_flood_of_one_client_is_bounded_and_does_not_delay_another_client() {
    let held = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&held);
    let script = move |name: String, event: Value| {
        let gate = Arc::clone(&gate);
        async move {
            if name == "Message" {
                gate.acquire().await.expect("never closed").forget();
            }
            Ok(json!({"statusCode": 200, "body": event["body"]}))
        }
    };
    // The integrations of this template have no short timeout.
    let site = Scripted::with("throttled.yaml", &[], GatewayOptions::default(), FaultOptions::default(), script).await;
    let connecting = async {
        held.add_permits(2);
        (site.connect("", &[]).await.expect("connected").0, site.connect("", &[]).await.expect("connected").0)
    };
    let (mut flood, mut other) = connecting.await;
    let invoked = site.stack.invocations_of("Message");
    for _ in 0..300 {
        flood.send(Message::text(r#"{"action":"free"}"#)).await.expect("open");
    }
    // 256 are accepted. The client is told that the others are refused.
    for _ in 0..300 - 256 {
        let refused: Value = serde_json::from_str(&next(&mut flood).await).expect("JSON");
        assert_eq!(refused["message"], "Too Many Requests", "{refused}");
    }
    other.send(Message::text("mine")).await.expect("open");
    eventually("all are accepted", || site.stack.invocations_of("Message") == invoked + 257).await;
    eventually("64 run", || site.events_of("Message").len() == 2 + 64).await;
    held.add_permits(300);
    assert_eq!(next(&mut other).await, "mine");
    let events = site.events_of("Message");
    let turn = events.iter().position(|event| event["body"] == "mine").expect("it ran");
    // It gets the second permit that is free. When its request arrives depends on those that run beside it.
    assert!(turn < 2 + 3 * 64, "after those that ran, but not after all 256: {turn}");
}

#[tokio::test]
async fn an_invocation_that_somebody_waits_for_takes_turns_with_those_that_nobody_waits_for() {
    let held = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&held);
    let script = move |_: String, event: Value| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.expect("never closed").forget();
            Ok(event)
        }
    };
    let site = Scripted::start(&[], script).await;
    for number in 0..300 {
        assert_eq!(site.invoke("Message", "Event", &number.to_string()).await.status, 202);
    }
    eventually("64 run", || site.events_of("Message").len() == 64).await;
    let release = async {
        eventually("it is there too", || site.stack.invocations_of("Message") == 301).await;
        held.add_permits(301);
    };
    let (reply, ()) = tokio::join!(site.invoke("Message", "RequestResponse", r#""mine""#), release);
    assert_eq!((reply.status, reply.body.as_str()), (200, r#""mine""#));
    let turn = site.events_of("Message").iter().position(|event| event == "mine").expect("it ran");
    assert!(turn < 3 * 64, "after those that ran, but not after all 300: {turn}");
}

#[tokio::test]
async fn asynchronous_invocations_beyond_64_mb_are_refused_with_429() {
    let site = Scripted::start(&[], |_, _| std::future::pending()).await;
    let event = json!("x".repeat(1_000_000)).to_string();
    let mut accepted = 0;
    let refused = loop {
        let reply = site.invoke("Message", "Event", &event).await;
        if reply.status != 202 {
            break reply;
        }
        accepted += 1;
        assert!(accepted < 100, "without an end");
    };
    assert_eq!((refused.status, refused.error_type.as_str()), (429, "TooManyRequestsException"), "{}", refused.body);
    assert_eq!(accepted, 64 * 1024 * 1024 / event.len());
    assert_eq!(site.invoke("Message", "Event", "{}").await.status, 202, "a small one has room");
}

#[tokio::test]
async fn a_connect_that_takes_too_long_is_refused_with_504() {
    let integration_timeout = Some(Duration::from_millis(50));
    let gateway = GatewayOptions { integration_timeout, ..GatewayOptions::default() };
    let script = |name: String, _: Value| async move {
        if name == "Connect" {
            std::future::pending::<()>().await;
        }
        Ok(json!({"statusCode": 200}))
    };
    let site = Scripted::with(SCRIPTED, &[], gateway, FaultOptions::default(), script).await;
    assert_eq!(site.connect("", &[]).await.err(), Some(504));
    assert_eq!((site.events_of("Connect").len(), site.stack.connected()), (1, 0));
    assert!(site.events_of("Disconnect").is_empty(), "a refused client is not disconnected");
}

#[tokio::test]
async fn idle_timeout_and_connection_duration_are_independent() {
    let closed = async |gateway: GatewayOptions| {
        let site = site(gateway).await;
        let (mut socket, _) = site.client().await;
        let end = tokio::time::timeout(WAIT_MAX, socket.next()).await.expect("in time");
        let context = site.event_of("Disconnect").await["requestContext"].clone();
        assert!(matches!(end, Some(Ok(Message::Close(Some(_))))), "{end:?}");
        (context["disconnectStatusCode"].clone(), context["disconnectReason"].clone())
    };
    let short = Some(Duration::from_millis(100));
    let idle = GatewayOptions { idle_timeout: short, ..GatewayOptions::default() };
    let old = GatewayOptions { connection_duration: short, ..GatewayOptions::default() };
    for gateway in [idle, old] {
        assert_eq!(closed(gateway).await, (json!(1001), json!("Going away")));
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_gets_few_large_posts() {
    let site = site(GatewayOptions::default()).await;
    let (_socket, id) = site.client().await;
    let largest = "x".repeat(128 * 1024);
    let mut posts = 0;
    let refused = loop {
        let reply = site.manage("POST", &id, &largest).await;
        if reply.status != 200 {
            break reply;
        }
        posts += 1;
        // As many small ones may wait. These would take 32 MB, of which the system buffers a part.
        assert!(posts < 256, "texts wait without a bound on their bytes");
    };
    assert_eq!((refused.status, refused.error_type.as_str()), (429, "LimitExceededException"));
}
