//! The account that the emulator plays: region, credentials that open nothing, and where its services are.

use std::collections::BTreeMap;

/// Account, region and names of the emulator.
pub(crate) const ACCOUNT_ID: &str = "000000000000";
pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const PARTITION: &str = "aws";
pub(crate) const URL_SUFFIX: &str = "amazonaws.com";
pub(crate) const STACK_NAME: &str = "local";

/// Access key id and secret of the emulator. They are not secret: nothing outside accepts them.
pub(crate) const ACCESS_KEY: &str = "local";

/// Environment variables that point any AWS client to the emulator.
pub(crate) fn variables(
    dynamodb: &str,
    lambda: &str,
    management: &str,
    sqs: &str,
    events: &str,
    ssm: &str,
    sns: &str,
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
        ("AWS_ENDPOINT_URL_SNS", sns),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// An ARN of the local account and region.
pub(crate) fn arn(service: &str, resource: &str) -> String {
    format!("arn:{PARTITION}:{service}:{REGION}:{ACCOUNT_ID}:{resource}")
}

/// The creation time in the ARNs of streams. Every start makes new streams, but ARNs stay the same.
const STREAM_LABEL: &str = "2026-01-01T00:00:00.000";

/// The ARN of a table's stream.
pub(crate) fn stream_arn(table: &str) -> String {
    arn("dynamodb", &format!("table/{table}/stream/{STREAM_LABEL}"))
}

/// Where SQS is in the cloud.
pub(crate) fn sqs_endpoint() -> String {
    format!("https://sqs.{REGION}.{URL_SUFFIX}")
}
