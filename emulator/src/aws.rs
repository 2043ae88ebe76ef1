//! What AWS clients need on a laptop: a region, credentials that open nothing, and an HTTP client.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, SharedCredentialsProvider};
use aws_types::sdk_config::Builder;
use shared::runtime::{environment::Environment, function::time_limits};

use crate::template::REGION;

/// Access key id and secret of the local mode. They are no secret: nothing outside accepts them.
pub(crate) const ACCESS_KEY: &str = "local";

/// Everything but the endpoints.
pub(crate) fn base_config() -> Builder {
    let http = aws_smithy_http_client::Builder::new().build_http();
    aws_types::SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(aws_smithy_async::rt::sleep::TokioSleep::new()))
        .time_source(aws_smithy_async::time::SharedTimeSource::new(aws_smithy_async::time::SystemTimeSource::new()))
        .retry_config(aws_types::sdk_config::RetryConfig::standard())
        .timeout_config(time_limits())
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            ACCESS_KEY,
            ACCESS_KEY,
            None,
            None,
            "local mode",
        )))
}

/// The region that an environment names.
pub(crate) fn region(environment: &Environment) -> String {
    environment.get("AWS_REGION").unwrap_or(REGION).to_owned()
}

/// The variables that lead any AWS client, in any language, to the local mode.
pub(crate) fn variables(
    dynamodb: &str,
    lambda: &str,
    management: &str,
    sqs: &str,
    events: &str,
    ssm: &str,
) -> BTreeMap<String, String> {
    [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", ACCESS_KEY),
        ("AWS_REGION", REGION),
        // The name by which the AWS client for Python knows it.
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb),
        ("AWS_ENDPOINT_URL_LAMBDA", lambda),
        ("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", management),
        ("AWS_ENDPOINT_URL_SQS", sqs),
        ("AWS_ENDPOINT_URL_EVENTBRIDGE", events),
        ("AWS_ENDPOINT_URL_SSM", ssm),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}
