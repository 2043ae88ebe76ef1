//! The client against a listener that answers as the Event API does.

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use serde_json::Value;
use tokio::net::TcpListener;

use super::{
    super::test_server::{Arrived, server},
    *,
};

const TAKEN: (u16, &str) = (200, r#"{"failed":[],"successful":[{"identifier":"0f6c2a54","index":0}]}"#);

/// What came of publishing, and the requests that it took. These are the answers, the last one from then on.
async fn published(answers: &'static [(u16, &'static str)]) -> (Result<(), String>, Arrived) {
    let (address, arrived) = server(move |index| answers[index.min(answers.len() - 1)]).await;
    let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("session".to_owned()), None, "test");
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    let endpoint = format!("http://{address}/event").parse().expect("an address");
    let publisher = EventPublisher::new(&sdk, &Network::System, endpoint).expect("no certificates are needed");
    let ended = publisher.publish("/alerts/PL", r#"{"type":"viral_alert","title":"Ż<>"}"#).await;
    (ended.map_err(|failure| ErrorChain(&failure).to_string()), arrived)
}

#[tokio::test]
async fn an_event_is_published_once_with_a_signature_for_appsync() {
    let (ended, arrived) = published(&[TAKEN]).await;
    assert_eq!(ended, Ok(()));
    let arrived = arrived.lock().expect("unpoisoned");
    let [request] = arrived.as_slice() else { panic!("{arrived:?}") };
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/event"));
    let body: Value = serde_json::from_slice(request.body()).expect("JSON");
    let headers = request.headers();
    let frame = r#"{"type":"viral_alert","title":"Ż<>"}"#;
    assert_eq!(body, json!({"channel": "/alerts/PL", "events": [frame]}));
    let authorization = headers["authorization"].to_str().expect("text");
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{authorization}");
    assert!(authorization.contains("/eu-central-1/appsync/aws4_request, "), "{authorization}");
    assert!(authorization.contains("SignedHeaders=host;x-amz-date;x-amz-security-token, "), "{authorization}");
    assert_eq!(
        (&headers["x-amz-security-token"], &headers["content-type"]),
        (&"session".parse().expect("a value"), &"application/json".parse().expect("a value"))
    );
}

#[tokio::test]
async fn what_may_pass_is_tried_again_within_bounds_and_a_refusal_is_not() {
    const FAILED: (u16, &str) = (
        200,
        r#"{"failed":[{"identifier":"x","index":0,"code":"InternalFailure","message":"later"}],"successful":[]}"#,
    );
    const THROTTLED: (u16, &str) = (429, r#"{"errors":[{"errorType":"LimitExceededException"}]}"#);
    const REFUSED: (u16, &str) = (401, r#"{"errors":[{"errorType":"UnauthorizedException","message":"no"}]}"#);
    let check = async |answers, attempts: usize, error: Option<&str>| {
        let (ended, arrived) = published(answers).await;
        assert_eq!(arrived.lock().expect("unpoisoned").len(), attempts, "{answers:?}");
        match (ended, error) {
            (Ok(()), None) => {}
            (Err(ended), Some(error)) if ended.contains(error) => {}
            (ended, _) => panic!("{answers:?}: {ended:?}"),
        }
    };
    check(&[FAILED, TAKEN], 2, None).await;
    check(&[THROTTLED, (500, "down"), TAKEN], 3, None).await;
    check(&[(200, "<html>"), TAKEN], 2, None).await;
    check(&[FAILED], 3, Some("could not publish the event (InternalFailure): later")).await;
    check(&[(200, r#"{"failed":[{"index":0}]}"#)], 3, Some("could not publish the event ()")).await;
    check(&[(503, "down")], 3, Some("the Event API answered 503 Service Unavailable: down")).await;
    check(&[REFUSED, TAKEN], 1, Some("UnauthorizedException")).await;
    check(&[(400, "{}"), TAKEN], 1, Some("the Event API answered 400")).await;
}

#[tokio::test]
async fn an_api_that_nobody_reaches_is_a_failure_and_an_address_without_a_host_is_invalid() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let credentials = SharedCredentialsProvider::new(Credentials::new("a", "s", None, None, "test"));
    let sdk = SdkConfig::builder().credentials_provider(credentials).build();
    let endpoint = format!("http://{address}/event").parse().expect("an address");
    let publisher = EventPublisher::new(&sdk, &Network::System, endpoint).expect("no certificates are needed");
    let failure = publisher.publish("/alerts/PL", "{}").await.expect_err("nobody is there");
    assert!(ErrorChain(&failure).to_string().contains("no answer of the Event API"), "{failure:?}");
    for address in ["", "/event", "host/event", "https://"] {
        assert!(address.parse::<EventsEndpoint>().is_err(), "{address}");
    }
}
