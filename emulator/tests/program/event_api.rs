//! Event APIs of AppSync: sockets, channels and publishes.

use apigw_local::GatewayOptions;
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    cli::RunningProgram,
    event_client::{
        SIGNED, connect, data, end, exchange, frame, key, nothing_more, open, post, publish, site, start, subprotocols,
        subscribe, tell, token, variable,
    },
    scripted::{ScriptedResult, ask, eventually},
};

const UNAUTHORIZED: &str = "You are not authorized to make this call.";

fn errors(kind: &str, code: u16, message: &str) -> Value {
    json!([{"errorType": kind, "errorCode": code, "message": message}])
}

#[tokio::test]
async fn a_client_connects_subscribes_gets_what_a_publisher_with_a_signature_sends_and_unsubscribes() {
    let site = site(&[]).await;
    let mut socket = connect(&site, &token("t")).await;
    let ack = exchange(&mut socket, json!({"type": "connection_init"})).await;
    assert_eq!(ack, json!({"type": "connection_ack", "connectionTimeoutMs": 300_000}));
    subscribe(&mut socket, "s1", "/alerts/PL").await;
    let published = publish(&site, "/alerts/PL", &[r#"{"a":1}"#, r#""two""#, "3"]).await;
    let identifiers: Vec<&Value> = published["successful"].as_array().expect("a list").iter().collect();
    assert_eq!(identifiers.iter().map(|one| one["index"].clone()).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(identifiers.iter().all(|one| one["identifier"].as_str().is_some_and(|id| id.len() == 36)));
    assert_eq!(published["failed"], json!([]));
    for event in [r#"{"a":1}"#, r#""two""#, "3"] {
        assert_eq!(frame(&mut socket).await, data("s1", event));
    }
    let ended = exchange(&mut socket, json!({"type": "unsubscribe", "id": "s1"})).await;
    assert_eq!(ended, json!({"type": "unsubscribe_success", "id": "s1"}));
    publish(&site, "/alerts/PL", &["4"]).await;
    nothing_more(&mut socket).await;
    let unknown = exchange(&mut socket, json!({"type": "unsubscribe", "id": "s1"})).await;
    let expected = errors("UnknownOperationError", 404, "Unknown operation id s1");
    assert_eq!(unknown, json!({"type": "unsubscribe_error", "id": "s1", "errors": expected}));
}

#[tokio::test]
async fn the_subprotocols_may_come_in_either_order_and_only_the_protocol_is_echoed() {
    let site = site(&[]).await;
    let url = variable(&site, "EVENTS_REALTIME");
    let offered = subprotocols(&key(&site));
    let (header, protocol) = offered.split_once(", ").expect("two");
    for offered in [format!("{header}, {protocol}"), format!("{protocol},{header}")] {
        let (mut socket, chosen) = open(&url, &offered).await;
        assert_eq!(chosen, "aws-appsync-event-ws");
        // A subscription needs no connection_init.
        subscribe(&mut socket, "s", "/open/x").await;
    }
    let without = ask(site.stack.http_addr, "GET /event/realtime", crate::scripted::UPGRADE, "").await;
    assert_eq!((without.status, without.error_type.as_str()), (400, "BadRequestException"), "{}", without.body);
    let plain = ask(site.stack.http_addr, "GET /event/realtime", "", "").await;
    assert_eq!(plain.status, 400);
}

#[tokio::test]
async fn a_handshake_has_one_key_and_version_13_alone() {
    let site = site(&[]).await;
    let protocols = format!("Sec-WebSocket-Protocol: {}\r\n", subprotocols(&key(&site)));
    let (version, key) = ("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    let upgrade = "Upgrade: websocket\r\n";
    for headers in [
        version.to_owned(),
        key.to_owned(),
        format!("{key}Sec-WebSocket-Version: 8\r\n"),
        format!("{key}Sec-WebSocket-Version: 13, 8\r\n"),
        format!("{key}{version}Sec-WebSocket-Version: 8\r\n"),
        format!("{key}{version}{version}"),
        format!("{key}{key}{version}"),
    ] {
        for (at, path) in [(site.stack.http_addr, "GET /event/realtime"), (site.stack.ws_addr, "GET /dev")] {
            let reply = ask(at, path, &format!("{upgrade}{headers}{protocols}"), "").await;
            assert_eq!(reply.status, 400, "{path}: {headers}");
        }
    }
    assert_eq!(site.stack.event_sockets(), 0);
}

#[tokio::test]
async fn a_refused_client_gets_a_frame_and_then_the_end() {
    let site = start(GatewayOptions::default(), &[], |_, event: Value| async move {
        match event["authorizationToken"].as_str() {
            Some("broken") => Err("it broke"),
            Some("text") => ScriptedResult::Ok(json!("yes")),
            Some("words") => Ok(json!({"isAuthorized": "true"})),
            _ => Ok(json!({})),
        }
    })
    .await;
    let url = variable(&site, "EVENTS_REALTIME");
    for credentials in [
        token("no"),
        token("broken"),
        token("text"),
        token("words"),
        token(""),
        json!({"host": "h", "x-api-key": "da2-wrong"}),
        json!({"host": "h"}),
    ] {
        let (frames, code) = end(&mut connect(&site, &credentials).await).await;
        let expected =
            json!({"type": "connection_error", "errors": errors("UnauthorizedException", 401, UNAUTHORIZED)});
        assert_eq!((frames.as_slice(), code), (&[expected][..], Some(4401)), "{credentials}");
    }
    for offered in ["header-!, aws-appsync-event-ws", "header-e30, aws-appsync-event-ws"] {
        let (frames, code) = end(&mut open(&url, offered).await.0).await;
        assert_eq!(
            (&frames[0]["errors"][0]["errorType"], code),
            (&json!("BadRequestException"), Some(4400)),
            "{offered}"
        );
    }
    eventually("none stays", || site.stack.event_sockets() == 0).await;
}

#[tokio::test]
async fn wildcards_get_all_levels_below_them_and_subscriptions_that_overlap_get_an_event_each() {
    let site = site(&[]).await;
    let mut socket = connect(&site, &token("t")).await;
    subscribe(&mut socket, "all", "/alerts/*").await;
    subscribe(&mut socket, "one", "alerts/x/").await;
    publish(&site, "alerts/x", &["1"]).await;
    let mut both = [frame(&mut socket).await, frame(&mut socket).await];
    both.sort_by_key(|frame| frame["id"].to_string());
    assert_eq!(both, [data("all", "1"), data("one", "1")]);
    publish(&site, "/alerts/x/y", &["2"]).await;
    assert_eq!(frame(&mut socket).await, data("all", "2"));
    publish(&site, "/alerts", &["3"]).await;
    publish(&site, "/alerts/X", &["4"]).await;
    assert_eq!(frame(&mut socket).await, data("all", "4"));
    nothing_more(&mut socket).await;
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_refused_and_the_socket_stays_open() {
    let site = site(&[]).await;
    let mut socket = connect(&site, &token("t")).await;
    subscribe(&mut socket, "s", "/alerts/x").await;
    let long = format!("/alerts/{}", "x".repeat(51));
    for (id, channel, kind) in [
        ("s", "/alerts/y", "BadRequestException"),
        ("n", "/unknown/x", "UnauthorizedException"),
        ("n", "/alerts/*/x", "BadRequestException"),
        ("n", "/alerts/b/c/d/e/f", "BadRequestException"),
        ("n", "/alerts/a_b", "BadRequestException"),
        ("n", &long, "BadRequestException"),
        ("n", "/*", "BadRequestException"),
        ("n n", "/alerts/x", "BadRequestException"),
        (&"n".repeat(129), "/alerts/x", "BadRequestException"),
    ] {
        let answer = exchange(&mut socket, json!({"type": "subscribe", "id": id, "channel": channel})).await;
        assert_eq!((&answer["type"], &answer["id"]), (&json!("subscribe_error"), &json!(id)));
        assert_eq!(answer["errors"][0]["errorType"], kind, "{id} {channel}");
    }
    for (sent, kind) in [(json!({"type": "start"}), "UnsupportedOperation"), (json!([1]), "UnsupportedOperation")] {
        let answer = exchange(&mut socket, sent).await;
        assert_eq!((&answer["type"], &answer["errors"][0]["errorType"]), (&json!("error"), &json!(kind)));
    }
    publish(&site, "/alerts/x", &["1"]).await;
    assert_eq!(frame(&mut socket).await, data("s", "1"), "the first subscription goes on");
}

#[tokio::test]
async fn a_connection_has_at_most_200_subscriptions_and_those_end_with_it() {
    let site = site(&[]).await;
    let mut socket = connect(&site, &key(&site)).await;
    for n in 0..200 {
        tell(&mut socket, json!({"type": "subscribe", "id": n.to_string(), "channel": format!("/open/{n}")})).await;
    }
    for n in 0..200 {
        assert_eq!(frame(&mut socket).await, json!({"type": "subscribe_success", "id": n.to_string()}));
    }
    let more = exchange(&mut socket, json!({"type": "subscribe", "id": "more", "channel": "/open/x"})).await;
    assert_eq!(more["errors"][0]["errorType"], "MaxSubscriptionsReachedError");
    assert_eq!(exchange(&mut socket, json!({"type": "unsubscribe", "id": "7"})).await["type"], "unsubscribe_success");
    subscribe(&mut socket, "more", "/open/x").await;
    drop(socket);
    eventually("the socket ends", || site.stack.event_sockets() == 0).await;
    let headers = format!("x-api-key: {}\r\n", variable(&site, "KEY"));
    let reply = post(&site, &headers, r#"{"channel":"/open/x","events":["1"]}"#).await;
    assert_eq!(reply.status, 200, "nobody is subscribed any more");
}

#[tokio::test]
async fn a_publish_that_is_invalid_is_refused_whole() {
    let site = site(&[]).await;
    let mut socket = connect(&site, &token("t")).await;
    subscribe(&mut socket, "s", "/alerts/*").await;
    let six = r#"{"channel":"/alerts/x","events":["1","2","3","4","5","6"]}"#;
    for (body, status, kind, message) in [
        (six, 400, "BadRequestException", "Input exceeded 5 event limit"),
        (r#"{"channel":"/alerts/x","events":[]}"#, 400, "BadRequestException", "Missing events"),
        (r#"{"channel":"/alerts/x"}"#, 400, "BadRequestException", "Missing events"),
        (r#"{"events":["1"]}"#, 400, "BadRequestException", "Missing channel"),
        (r#"{"channel":"/alerts/*","events":["1"]}"#, 400, "BadRequestException", "Invalid Channel Format"),
        (r#"{"channel":"/alerts/x","events":"1"}"#, 400, "SerializationException", "Expected list or null"),
        (r#"{"channel":"/alerts/x","events":[1]}"#, 400, "SerializationException", "Expected string"),
        (r#"{"channel":"/alerts/x","events":["1","{"]}"#, 400, "BadRequestException", "Invalid event: "),
        ("[]", 400, "SerializationException", "Unable to parse request body"),
        (r#"{"channel":"/unknown/x","events":["1"]}"#, 401, "UnauthorizedException", UNAUTHORIZED),
    ] {
        let reply = post(&site, &format!("Authorization: {SIGNED}\r\n"), body).await;
        assert_eq!((reply.status, reply.error_type.as_str()), (status, kind), "{body}: {}", reply.body);
        assert!(reply.body.contains(message), "{body}: {}", reply.body);
    }
    let large = format!(r#"{{"channel":"/alerts/x","events":["\"{}\""]}}"#, "x".repeat(1_300_000));
    assert_eq!(post(&site, &format!("Authorization: {SIGNED}\r\n"), &large).await.status, 413);
    let unsigned = post(&site, "Authorization: a-token\r\n", r#"{"channel":"/alerts/x","events":["1"]}"#).await;
    assert_eq!((unsigned.status, unsigned.error_type.as_str()), (401, "UnauthorizedException"));
    let other = ask(site.stack.http_addr, "GET /event", "", "").await;
    assert_eq!((other.status, other.error_type.as_str()), (404, "UnknownOperationError"));
    nothing_more(&mut socket).await;
}

#[tokio::test]
async fn an_event_that_is_too_large_has_failed_and_its_neighbours_arrive() {
    let site = site(&[]).await;
    let mut socket = connect(&site, &token("t")).await;
    subscribe(&mut socket, "s", "/alerts/x").await;
    let sized = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let (largest, larger) = (sized(240 * 1024), sized(240 * 1024 + 1));
    let published = publish(&site, "/alerts/x", &["1", &larger, &largest]).await;
    let failed = &published["failed"][0];
    // In the order of the service, which a client may print.
    let names: Vec<&String> = failed.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["code", "identifier", "index", "message"]);
    assert_eq!((&failed["index"], &failed["code"]), (&json!(1), &json!("EventTooLargeException")));
    assert_eq!(failed["message"], "Transformed event is larger than 240KB");
    assert_eq!(published["successful"].as_array().map(Vec::len), Some(2));
    assert_eq!(frame(&mut socket).await, data("s", "1"));
    assert_eq!(frame(&mut socket).await, data("s", &largest));
}

#[tokio::test]
async fn a_publisher_over_a_socket_gets_an_answer_with_its_id_and_its_own_events() {
    let site = site(&[]).await;
    let mut socket = connect(&site, &key(&site)).await;
    subscribe(&mut socket, "s", "/open/x").await;
    let sent = |events: Value| json!({"type": "publish", "id": "p", "channel": "/open/x", "events": events});
    tell(&mut socket, sent(json!(["1", "2"]))).await;
    let mut frames = Vec::new();
    for _ in 0..3 {
        frames.push(frame(&mut socket).await);
    }
    let (answers, events): (Vec<Value>, Vec<Value>) = frames.into_iter().partition(|frame| frame["type"] != "data");
    assert_eq!(events, [data("s", "1"), data("s", "2")]);
    let [answer] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((&answer["type"], &answer["id"]), (&json!("publish_success"), &json!("p")));
    assert_eq!(answer["successful"].as_array().map(Vec::len), Some(2));
    let refused = exchange(&mut socket, sent(json!(["1", "2", "3", "4", "5", "6"]))).await;
    let expected = errors("BadRequestException", 400, "Input exceeded 5 event limit");
    assert_eq!(refused, json!({"type": "publish_error", "id": "p", "errors": expected}));
    let sent = json!({"type": "publish", "id": "q", "channel": "/alerts/x", "events": ["1"]});
    let refused = exchange(&mut socket, sent).await;
    let expected = errors("UnauthorizedException", 401, UNAUTHORIZED);
    assert_eq!(refused, json!({"type": "publish_error", "id": "q", "errors": expected}), "only IAM publishes there");
}

#[tokio::test]
async fn several_apis_have_a_path_and_a_host_name_of_their_own_and_share_nothing() {
    let site = site(&[]).await;
    let at = site.stack.http_addr;
    assert_eq!(variable(&site, "EVENTS_URL"), format!("http://{at}/event"));
    assert_eq!(variable(&site, "SECOND_URL"), format!("http://{at}/Second/event"));
    let shown: Vec<_> = site.stack.event_apis.iter().map(|api| (api.api.as_str(), api.realtime.clone())).collect();
    let expected = [("Event", format!("{at}/event/realtime")), ("Second", format!("{at}/Second/event/realtime"))];
    assert_eq!(shown, expected);
    let body = r#"{"channel":"/open/x","events":["1"]}"#;
    let key = format!("x-api-key: {}\r\n", variable(&site, "KEY"));
    let of = |path: &'static str, host: String| {
        let headers = format!("Host: {host}\r\n{key}");
        async move { crate::scripted::send(at, path, &headers, body.as_bytes()).await.status }
    };
    assert_eq!(of("POST /event", at.to_string()).await, 200);
    assert_eq!(of("POST /Event/event", at.to_string()).await, 200);
    assert_eq!(of("POST /event", format!("event.localhost:{}", at.port())).await, 200);
    assert_eq!(of("POST /Second/event", at.to_string()).await, 401, "the key is another API's");
    assert_eq!(of("POST /event", format!("second.localhost:{}", at.port())).await, 401);
    // What is not of an Event API is for the HTTP API, whose function answers.
    let other = crate::scripted::send(at, "POST /events", &format!("Host: {at}\r\n"), b"{}").await;
    assert_eq!(other.status, 200);
    assert_eq!(site.events_of("Publish").len(), 1);
}

#[test]
fn the_start_prints_the_addresses_of_each_api() {
    let running = RunningProgram::with("tests/program/fuzzed_events.yaml", &[]);
    let http = running.address("http://").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let expected = format!("# the Event API Events: http://{http}/event, ws://{http}/event/realtime");
    let printed = running.lines.join("\n");
    assert!(printed.lines().any(|line| line == expected), "{printed}");
    running.end();
}

#[tokio::test]
async fn binary_messages_and_those_that_are_too_large_end_a_socket() {
    let site = site(&[]).await;
    for (message, expected) in [(Message::binary(vec![1]), 1003), (Message::text("x".repeat(1_300_000)), 1009)] {
        let mut socket = connect(&site, &token("t")).await;
        // The socket may end before all of it is sent.
        let _ = socket.send(message).await;
        assert_eq!(end(&mut socket).await.1, Some(expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_gets_nothing_before_its_beginning_and_nothing_after_its_end() {
    let site = site(&[]).await;
    let mut socket = connect(&site, &key(&site)).await;
    let at = site.stack.http_addr;
    let headers = format!("x-api-key: {}\r\n", variable(&site, "KEY"));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let publishers: Vec<_> = (0..2)
        .map(|_| {
            let (headers, stopped) = (headers.clone(), stopped.clone());
            tokio::spawn(async move {
                while !*stopped.borrow() {
                    let body = r#"{"channel":"/open/x","events":["1","2","3","4","5"]}"#;
                    assert_eq!(ask(at, "POST /event", &headers, body).await.status, 200);
                }
            })
        })
        .collect();
    let mut received = 0;
    for round in 0..100 {
        let id = format!("r{round}");
        tell(&mut socket, json!({"type": "subscribe", "id": id, "channel": "/open/*"})).await;
        assert_eq!(frame(&mut socket).await, json!({"type": "subscribe_success", "id": id}), "first of all");
        // Some rounds end at once, and some after an event.
        if round % 2 == 0 {
            assert_eq!(frame(&mut socket).await["id"], id);
            received += 1;
        }
        tell(&mut socket, json!({"type": "unsubscribe", "id": id})).await;
        loop {
            let next = frame(&mut socket).await;
            assert_eq!(next["id"], id, "nothing of a subscription that has ended");
            if next["type"] == "unsubscribe_success" {
                break;
            }
        }
    }
    assert_eq!(received, 50);
    stop.send_replace(true);
    for publisher in publishers {
        publisher.await.expect("no panic");
    }
}
