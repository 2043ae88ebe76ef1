//! Stands in for AWS below the real clients, so that tests exercise signing, retries and the reading of errors too.

use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_async::{
    rt::sleep::{SharedAsyncSleep, TokioSleep},
    time::{SharedTimeSource, SystemTimeSource},
};
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_smithy_types::body::SdkBody;

/// What a test answers to a request: a status, a kind of error, and a body.
pub(crate) struct FakeResponse(pub(crate) u16, pub(crate) &'static str, pub(crate) String);

/// Requests that were made: the bodies, in their order.
pub(crate) type Requests = Arc<Mutex<Vec<String>>>;

/// A configuration whose every request is answered by `answer`, which is given the number of requests before it.
pub(crate) fn sdk(answer: impl Fn(usize) -> FakeResponse + Send + Sync + 'static) -> (SdkConfig, Requests) {
    configuration(move |before, _, _| answer(before))
}

/// A configuration whose every request is answered by `answer`, which is given its body.
pub(crate) fn sdk_for(answer: impl Fn(&str) -> FakeResponse + Send + Sync + 'static) -> (SdkConfig, Requests) {
    configuration(move |_, _, body| answer(body))
}

/// A configuration whose every request is answered by `answer`, which is given its operation, such as `PutItem`, and
/// its body. Requests to Lambda name none.
pub(crate) fn sdk_for_operations(
    answer: impl Fn(&str, &str) -> FakeResponse + Send + Sync + 'static,
) -> (SdkConfig, Requests) {
    configuration(move |_, operation, body| answer(operation, body))
}

fn configuration(answer: impl Fn(usize, &str, &str) -> FakeResponse + Send + Sync + 'static) -> (SdkConfig, Requests) {
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    let http = infallible_client_fn(move |request: http::Request<SdkBody>| {
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default();
        let mut seen = seen.lock().expect("no test panics with the lock");
        let FakeResponse(status, kind, text) = answer(seen.len(), operation, &body);
        seen.push(body);
        let mut response = http::Response::builder().status(status);
        if !kind.is_empty() {
            response = response.header("x-amzn-errortype", kind);
        }
        response.body(SdkBody::from(text)).expect("a valid response")
    });
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test")))
        .endpoint_url("http://127.0.0.1:1")
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .time_source(SharedTimeSource::new(SystemTimeSource::new()))
        .http_client(http)
        .build();
    (sdk, requests)
}
