//! Handshakes: what `$connect` and authorizers decide.

use std::time::Duration;

use apigw_local::{FaultOptions, GatewayOptions};
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4::SigningParams,
};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{
        Error,
        client::IntoClientRequest,
        http::{Request, Response},
    },
};

use crate::scripted::{RAW, SCRIPTED, Scripted, ScriptedResult, Socket, accept};
use clock::system_time;

fn policy(effect: &str) -> Value {
    json!({
        "principalId": "user-1",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{"Action": "execute-api:Invoke", "Effect": effect, "Resource": "*"}],
        },
        "context": {"team": "red", "level": 3},
    })
}

#[tokio::test]
async fn the_status_of_connect_is_the_status_of_the_handshake() {
    let script = |name: String, event: Value| async move {
        match (name.as_str(), event["queryStringParameters"]["answer"].as_str().unwrap_or_default()) {
            ("Connect", "throw") => Err("it broke"),
            ("Connect", "half") => Ok(json!({RAW: r#"{"statusCode": 200, "body": "cut \ud83d"}"#})),
            ("Connect", "text") => Ok(json!("not a proxy response")),
            ("Connect", code) => Ok(json!({"statusCode": code.parse::<u16>().unwrap_or(200)})),
            _ => Ok(json!({})),
        }
    };
    let site = Scripted::start(&[], script).await;
    for (answer, expected) in [("301", 301), ("401", 401), ("501", 501), ("throw", 502), ("text", 502)] {
        assert_eq!(site.connect(&format!("?answer={answer}"), &[]).await.err(), Some(expected), "{answer}");
    }
    let mut connected = Vec::new();
    for answer in ["204", "half"] {
        connected.push(site.connect(&format!("?answer={answer}"), &[]).await.expect(answer));
    }
    assert!(site.events_of("Disconnect").is_empty(), "a refused client is not disconnected");
}

#[tokio::test]
async fn only_the_subprotocol_of_connect_reaches_the_client() {
    let script = |_: String, _: Value| async {
        let headers = json!({"Sec-WebSocket-Protocol": "chat", "Set-Cookie": "a=b", "X-Other": "c"});
        Ok(json!({"statusCode": 200, "headers": headers}))
    };
    let site = Scripted::start(&[], script).await;
    let (_, headers) = site.connect("", &[("sec-websocket-protocol", "chat, other")]).await.expect("connected");
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    assert!(headers.contains(&("sec-websocket-protocol".to_owned(), "chat".to_owned())), "{headers:?}");
    assert!(!names.contains(&"set-cookie") && !names.contains(&"x-other"), "{headers:?}");
}

#[tokio::test]
async fn an_authorizer_lets_in_refuses_or_breaks() {
    let script = |name: String, event: Value| async move {
        match (name.as_str(), event["queryStringParameters"]["token"].as_str().unwrap_or_default()) {
            ("Authorize", "good") => Ok(policy("Allow")),
            ("Authorize", "half") => Ok(json!({RAW: policy("Allow").to_string().replace("red", r"\ud83d")})),
            ("Authorize", "denied") => Ok(policy("Deny")),
            ("Authorize", "unknown") => Err("Unauthorized"),
            ("Authorize", "broken") => Ok(json!({"principalId": "user-1"})),
            ("Authorize", _) => Err("it broke"),
            _ => ScriptedResult::Ok(json!({"statusCode": 200})),
        }
    };
    let site = Scripted::start(&[("Authorization", "CUSTOM")], script).await;
    let client = [("x-client", "web")];
    for (query, headers, expected) in [("", &client[..], 401), ("?token=", &client[..], 401), ("?token=good", &[], 401)]
    {
        assert_eq!(site.connect(query, headers).await.err(), Some(expected), "{query}");
    }
    assert!(site.events_of("Authorize").is_empty(), "without its identity sources it is not invoked");
    for (token, expected) in [("denied", 403), ("unknown", 401), ("broken", 500), ("throws", 500)] {
        assert_eq!(site.connect(&format!("?token={token}"), &client).await.err(), Some(expected), "{token}");
    }
    assert!(site.events_of("Connect").is_empty(), "refused before $connect");

    let (socket, _) = site.connect("?token=good", &client).await.expect("let in");
    let asked = site.events_of("Authorize").pop().expect("asked");
    assert_eq!(asked["stageVariables"], json!({"greeting": "hello"}));
    assert_eq!((&asked["type"], &asked["headers"]["Upgrade"]), (&json!("REQUEST"), &json!("websocket")));
    assert!(asked["methodArn"].as_str().is_some_and(|arn| arn.ends_with("/dev/$connect")), "{asked}");
    let connected = site.event_of("Connect").await;
    drop(socket);
    let disconnected = site.event_of("Disconnect").await;
    let authorizer = |event: &Value| event["requestContext"]["authorizer"].clone();
    assert!(authorizer(&connected)["integrationLatency"].is_u64(), "{connected}");
    // Who it was is in later events, as texts, and not how long that took.
    assert_eq!(authorizer(&disconnected), json!({"principalId": "user-1", "team": "red", "level": "3"}));
    for token in ["good", "half"] {
        assert!(site.connect(&format!("?token={token}"), &client).await.is_ok(), "{token}");
    }
    assert_eq!(site.events_of("Authorize").len(), 7, "every connection is authorized anew");
}

#[tokio::test]
async fn an_authorizer_alone_decides_where_connect_has_no_integration() {
    let script = |name: String, event: Value| async move {
        let is_good = event["queryStringParameters"]["token"] == "good";
        if name == "Authorize" { Ok(policy(if is_good { "Allow" } else { "Deny" })) } else { Ok(json!({})) }
    };
    let site = Scripted::start(&[("Authorization", "CUSTOM"), ("ConnectIntegrated", "no")], script).await;
    let client = [("x-client", "web")];
    assert_eq!(site.connect("?token=bad", &client).await.err(), Some(403));
    assert!(site.connect("?token=good", &client).await.is_ok());
    assert!(site.events_of("Connect").is_empty());
}

#[tokio::test]
async fn iam_needs_a_signature() {
    let site = Scripted::start(&[("Authorization", "AWS_IAM")], accept).await;
    assert_eq!(site.connect("", &[]).await.err(), Some(403));
    assert!(site.connect("", &[("authorization", "AWS4-HMAC-SHA256 Credential=x")]).await.is_ok());
    assert!(site.connect("?X-Amz-Signature=x", &[]).await.is_ok());
    let note = "AWS_IAM of the route $connect takes any signature: wrong ones are let in without --check-signatures";
    assert!(site.stack.notes.iter().any(|own| own == note), "{:?}", site.stack.notes);
}

#[tokio::test]
async fn iam_signatures_are_verified_if_the_options_say_so() {
    let gateway = GatewayOptions { check_signatures: true, ..GatewayOptions::default() };
    let site =
        Scripted::with(SCRIPTED, &[("Authorization", "AWS_IAM")], gateway, FaultOptions::default(), accept).await;
    let refused = |end: Result<Connected, Error>| match end {
        Err(Error::Http(response)) => {
            let body: Value = serde_json::from_slice(response.body().as_deref().expect("a body")).expect("JSON");
            let error_type = response.headers()["x-amzn-errortype"].to_str().expect("a text").to_owned();
            (response.status().as_u16(), error_type, body["message"].as_str().expect("a text").to_owned())
        }
        other => panic!("not refused: {other:?}"),
    };
    for in_query in [false, true] {
        let connected = connect_async(signed(&site, "local", in_query)).await;
        assert!(connected.is_ok(), "{in_query}: {connected:?}");
        let (status, error_type, message) = refused(connect_async(signed(&site, "wrong", in_query)).await);
        assert_eq!((status, error_type.as_str()), (403, "InvalidSignatureException"));
        assert!(message.starts_with("The request signature we calculated does not match"), "{message}");
    }
    let unsigned = format!("ws://{}/dev", site.stack.ws_addr);
    let missing = (403, "MissingAuthenticationTokenException".to_owned(), "Missing Authentication Token".to_owned());
    assert_eq!(refused(connect_async(unsigned).await), missing);
    assert_eq!(site.events_of("Connect").len(), 2, "a refused client reaches no function");
}

/// What `connect_async` returns.
type Connected = (Socket, Response<Option<Vec<u8>>>);

/// Makes a handshake that is signed as by an AWS client, in headers or in the query.
fn signed(site: &Scripted, secret: &str, in_query: bool) -> Request<()> {
    let host = site.stack.ws_addr.to_string();
    let url = format!("ws://{host}/dev?room=a%20b");
    let mut settings = SigningSettings::default();
    if in_query {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(60));
    }
    let identity = Credentials::new("local", secret, None, None, "test").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name("execute-api")
        .time(system_time())
        .settings(settings)
        .build()
        .expect("all there");
    let host_header = [("host", host.as_str())].into_iter();
    let signable = SignableRequest::new("GET", &url, host_header, SignableBody::Bytes(b"")).expect("signable");
    let (instructions, _) = sign(signable, &params.into()).expect("signed").into_parts();
    let mut request = url.into_client_request().expect("an address");
    instructions.apply_to_request_http1x(&mut request);
    request
}
