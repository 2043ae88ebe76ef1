//! Who may connect to Event APIs, subscribe and publish.

use apigw_local::GatewayOptions;
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4::SigningParams,
};
use clock::system_time;
use serde_json::{Map, Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{client::IntoClientRequest, http::HeaderValue},
};

use crate::{
    event_client::{
        allow, connect, data, end, exchange, frame, key, post, publish, site, start, subscribe, tell, token, variable,
    },
    scripted::{Scripted, ask},
};

/// What AWS clients sign of an operation over a socket, in lower case.
const ACCEPT: &str = "application/json, text/javascript";
const CONTENT_ENCODING: &str = "amz-1.0";
const CONTENT_TYPE: &str = "application/json; charset=UTF-8";

/// The calls of the authorizer so far: operation, namespace, channel and token of each.
fn calls(site: &Scripted) -> Vec<Value> {
    let call = |event: Value| {
        let context = &event["requestContext"];
        json!([context["operation"], context["channelNamespaceName"], context["channel"], event["authorizationToken"]])
    };
    site.events_of("Authorize").into_iter().map(call).collect()
}

#[tokio::test]
async fn the_authorizer_is_asked_about_each_operation_with_the_documented_event() {
    let site = site(&[]).await;
    let mut socket = connect(&site, &token("a")).await;
    let own = json!({"type": "subscribe", "id": "s", "channel": "alerts/x/*", "authorization": {"Authorization": "b"}});
    assert_eq!(exchange(&mut socket, own).await["type"], "subscribe_success");
    let body = r#"{"channel":"/open/y","events":["1"]}"#;
    assert_eq!(post(&site, "Authorization: c\r\n", body).await.status, 200);
    let expected = [
        json!(["EVENT_CONNECT", null, null, "a"]),
        json!(["EVENT_SUBSCRIBE", "alerts", "/alerts/x/*", "b"]),
        json!(["EVENT_PUBLISH", "open", "/open/y", "c"]),
    ];
    assert_eq!(calls(&site), expected);
    for event in site.events_of("Authorize") {
        let context = event["requestContext"].as_object().expect("an object");
        let names: Vec<&str> = context.keys().map(String::as_str).collect();
        assert_eq!(names, ["apiId", "accountId", "requestId", "operation", "channelNamespaceName", "channel"]);
        assert_eq!(context["accountId"], "000000000000");
        assert_eq!(event["requestHeaders"]["host"], site.stack.http_addr.to_string());
    }
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time_for_the_same_operation_channel_and_token() {
    let site = start(GatewayOptions::default(), &[], |_, event: Value| async move {
        let token = event["authorizationToken"].as_str().unwrap_or_default().to_owned();
        match token.as_str() {
            "kept" => Ok(json!({"isAuthorized": true, "ttlOverride": 60})),
            "never" => Ok(json!({"isAuthorized": true, "ttlOverride": 0})),
            "refused" => Ok(json!({"isAuthorized": false, "ttlOverride": 60})),
            // The template says nothing, and then nothing is kept.
            _ => Ok(json!({"isAuthorized": true})),
        }
    })
    .await;
    let publish = |token: &'static str, channel: &'static str| {
        let site = &site;
        async move {
            let body = json!({"channel": channel, "events": ["1"]}).to_string();
            post(site, &format!("Authorization: {token}\r\n"), &body).await.status
        }
    };
    for (token, channel, status, asked) in [
        ("kept", "/open/a", 200, 1),
        ("kept", "open/a/", 200, 1),
        ("kept", "/open/b", 200, 2),
        ("never", "/open/a", 200, 3),
        ("never", "/open/a", 200, 4),
        ("other", "/open/a", 200, 5),
        ("other", "/open/a", 200, 6),
        ("refused", "/open/a", 401, 7),
        ("refused", "/open/a", 401, 7),
    ] {
        assert_eq!((publish(token, channel).await, calls(&site).len()), (status, asked), "{token} {channel}");
    }
    connect(&site, &token("kept")).await;
    assert_eq!(calls(&site).len(), 8, "to connect is another operation");
    connect(&site, &token("kept")).await;
    assert_eq!(calls(&site).len(), 8);
    assert_eq!((publish("K3pt", "/open/a").await, calls(&site).len()), (401, 8), "it does not match the expression");
}

#[tokio::test]
async fn a_namespace_overrides_the_modes_of_its_api_and_keys_expire() {
    let site = site(&[]).await;
    let (valid, expired) = (variable(&site, "KEY"), variable(&site, "EXPIRED_KEY"));
    let body = |channel: &str| json!({"channel": channel, "events": ["1"]}).to_string();
    for (channel, headers, status) in [
        ("/open/x", format!("x-api-key: {valid}\r\n"), 200),
        ("/open/x", format!("x-api-key: {expired}\r\n"), 401),
        ("/open/x", "Authorization: AWS4-HMAC-SHA256 Credential=x\r\n".to_owned(), 401),
        ("/alerts/x", format!("x-api-key: {valid}\r\n"), 401),
        ("/alerts/x", "Authorization: AWS4-HMAC-SHA256 Credential=x\r\n".to_owned(), 200),
    ] {
        assert_eq!(post(&site, &headers, &body(channel)).await.status, status, "{channel} {headers}");
    }
    let mut socket = connect(&site, &key(&site)).await;
    subscribe(&mut socket, "s", "/open/x").await;
    let refused = exchange(&mut socket, json!({"type": "subscribe", "id": "t", "channel": "/alerts/x"})).await;
    assert_eq!(refused["errors"][0]["errorType"], "UnauthorizedException", "a key does not subscribe there: {refused}");
}

#[tokio::test]
async fn credentials_may_be_headers_of_the_handshake() {
    let site = site(&[]).await;
    let mut request = variable(&site, "EVENTS_REALTIME").into_client_request().expect("an address");
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", HeaderValue::from_static("aws-appsync-event-ws"));
    headers.insert("x-api-key", HeaderValue::from_str(&variable(&site, "KEY")).expect("a header"));
    let (mut socket, _) = connect_async(request).await.expect("connected");
    subscribe(&mut socket, "s", "/open/x").await;
}

/// The headers that AWS clients sign and add to a POST of `/event` with a body.
fn signed(host: &str, secret: &str, body: &str) -> Map<String, Value> {
    let identity = Credentials::new("local", secret, None, None, "test").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name("appsync")
        .time(system_time())
        .settings(SigningSettings::default())
        .build()
        .expect("all there");
    let headers =
        [("accept", ACCEPT), ("content-encoding", CONTENT_ENCODING), ("content-type", CONTENT_TYPE), ("host", host)];
    let url = format!("https://{host}/event");
    let signable = SignableRequest::new("POST", &url, headers.into_iter(), SignableBody::Bytes(body.as_bytes()))
        .expect("signable");
    let (instructions, _) = sign(signable, &params.into()).expect("signed").into_parts();
    let own = headers.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
    own.chain(instructions.headers().map(|(name, value)| (name.to_owned(), Value::from(value)))).collect()
}

#[tokio::test]
async fn signatures_of_service_appsync_are_checked_over_http_and_over_sockets_if_the_options_say_so() {
    let note = "AWS_IAM of the Event API Event takes any signature: wrong ones are let in without --check-signatures";
    let is_noted = |site: &Scripted| site.stack.notes.iter().any(|own| own == note);
    let open = site(&[]).await;
    assert!(is_noted(&open), "{:?}", open.stack.notes);
    publish(&open, "/alerts/x", &["1"]).await;
    let gateway = GatewayOptions { check_signatures: true, ..GatewayOptions::default() };
    let site = start(gateway, &[], allow).await;
    assert!(!is_noted(&site), "{:?}", site.stack.notes);
    let host = site.stack.http_addr.to_string();
    let of = |secret: &str, body: &str| {
        let headers = signed(&host, secret, body);
        let lines = headers.iter().filter(|(name, _)| *name != "host");
        lines.map(|(name, value)| format!("{name}: {}\r\n", value.as_str().unwrap_or_default())).collect::<String>()
    };
    let body = r#"{"channel":"/alerts/x","events":["\"<b>\""]}"#;
    let wrong = post(&site, &of("wrong", body), body).await;
    assert_eq!((wrong.status, wrong.error_type.as_str()), (400, "BadRequestException"));
    assert!(wrong.body.contains("The Canonical String for this request should have been"), "{}", wrong.body);
    assert_eq!(post(&site, &of("local", body), body).await.status, 200);

    let mut socket = connect(&site, &Value::Object(signed(&host, "local", "{}"))).await;
    let sent = |kind: &str, channel: &str, signed: Map<String, Value>, events: Value| {
        let mut frame = json!({"type": kind, "id": "s", "channel": channel, "authorization": signed});
        if kind == "publish" {
            frame["events"] = events;
        }
        frame
    };
    let right = signed(&host, "local", r#"{"channel":"/open/x"}"#);
    let of_another = sent("subscribe", "/open/y", right.clone(), Value::Null);
    assert_eq!(exchange(&mut socket, of_another).await["errors"][0]["errorType"], "BadRequestException");
    let own = sent("subscribe", "/open/x", right, Value::Null);
    assert_eq!(exchange(&mut socket, own).await["type"], "subscribe_success");
    let body = r#"{"channel":"/alerts/x","events":["{\"a\":1}"]}"#;
    let published = sent("publish", "/alerts/x", signed(&host, "local", body), json!([r#"{"a":1}"#]));
    assert_eq!(exchange(&mut socket, published).await["type"], "publish_success");
    // The service compares with an escaped text.
    let body = r#"{"channel":"/alerts/x","events":["\"<\""]}"#;
    let published = sent("publish", "/alerts/x", signed(&host, "local", body), json!([r#""<""#]));
    assert_eq!(exchange(&mut socket, published).await["errors"][0]["errorType"], "BadRequestException");

    let refused = connect(&site, &Value::Object(signed(&host, "wrong", "{}"))).await;
    let (frames, code) = end(&mut { refused }).await;
    assert_eq!((&frames[0]["errors"][0]["errorType"], code), (&json!("BadRequestException"), Some(4400)));
}

#[tokio::test]
async fn pages_of_other_sites_may_connect_and_those_of_this_machine_may_publish() {
    let site = site(&[]).await;
    let at = site.stack.http_addr;
    let body = r#"{"channel":"/open/x","events":["1"]}"#;
    let page = |origin: &str| format!("Origin: {origin}\r\nSec-Fetch-Site: cross-site\r\n");
    let with_key = format!("x-api-key: {}\r\n", variable(&site, "KEY"));
    for (origin, status) in [("http://localhost:5173", 200), ("https://elsewhere.example", 403)] {
        let preflight = format!("{}Access-Control-Request-Headers: x-api-key\r\n", page(origin));
        let preflight = ask(at, "OPTIONS /event", &preflight, "").await;
        assert_eq!(preflight.status, status, "{origin}");
        let reply = post(&site, &format!("{}{with_key}", page(origin)), body).await;
        assert_eq!(reply.status, status, "{origin}: {}", reply.body);
        if status == 200 {
            assert_eq!(preflight.header("access-control-allow-headers"), "x-api-key");
            assert_eq!(reply.header("access-control-allow-origin"), "*");
        }
    }
    let mut request = variable(&site, "EVENTS_REALTIME").into_client_request().expect("an address");
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", HeaderValue::from_static("aws-appsync-event-ws"));
    headers.insert("authorization", HeaderValue::from_static("t"));
    headers.insert("origin", HeaderValue::from_static("https://elsewhere.example"));
    let (mut socket, _) = connect_async(request).await.expect("connected");
    subscribe(&mut socket, "s", "/alerts/x").await;
    publish(&site, "/alerts/x", &["1"]).await;
    assert_eq!(frame(&mut socket).await, data("s", "1"));
}

#[tokio::test]
async fn a_subscription_may_be_ended_while_the_authorizer_decides_and_data_comes_meanwhile() {
    let (go_on, may_go_on) = tokio::sync::watch::channel(false);
    let script = move |_: String, event: Value| {
        let mut may_go_on = may_go_on.clone();
        async move {
            if event["requestContext"]["channel"] == "/alerts/slow" {
                may_go_on.wait_for(|go| *go).await.expect("the test goes on");
            }
            Ok(json!({"isAuthorized": true}))
        }
    };
    let site = start(GatewayOptions::default(), &[], script).await;
    let mut socket = connect(&site, &token("t")).await;
    subscribe(&mut socket, "fast", "/alerts/fast").await;
    tell(&mut socket, json!({"type": "subscribe", "id": "slow", "channel": "/alerts/slow"})).await;
    publish(&site, "/alerts/fast", &["1"]).await;
    assert_eq!(frame(&mut socket).await, data("fast", "1"));
    let ended = exchange(&mut socket, json!({"type": "unsubscribe", "id": "slow"})).await;
    assert_eq!(ended, json!({"type": "unsubscribe_success", "id": "slow"}));
    go_on.send_replace(true);
    let answer = frame(&mut socket).await;
    assert_eq!((&answer["type"], &answer["id"]), (&json!("subscribe_error"), &json!("slow")));
    subscribe(&mut socket, "slow", "/alerts/slow").await;
}
