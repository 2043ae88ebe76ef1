//! The account that the emulator plays: region, credentials that open nothing, and where its services are.

use std::collections::BTreeMap;

/// Account, region and names of the emulator.
pub(crate) const ACCOUNT_ID: &str = "000000000000";
pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const PARTITION: &str = "aws";
pub(crate) const URL_SUFFIX: &str = "amazonaws.com";
pub(crate) const STACK_NAME: &str = "local";

/// All regions. Code may name one of its own in the API's address. Source: AWS Regions and Availability Zones.
const REGIONS: [&str; 38] = [
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "cn-north-1",
    "cn-northwest-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-west-1",
    "us-west-2",
];

/// What is in each name that an API has in the cloud.
pub(crate) const API_HOST: &str = ".execute-api.";

/// The names that an API has in the cloud, one for each region. `*` as its id makes patterns of a certificate.
pub(crate) fn api_hosts(api_id: &str) -> impl Iterator<Item = String> {
    REGIONS.into_iter().map(move |region| {
        let china = if region.starts_with("cn-") { ".cn" } else { "" };
        format!("{api_id}{API_HOST}{region}.{URL_SUFFIX}{china}")
    })
}

/// Access key id and secret of the emulator. They are not secret: nothing outside accepts them.
pub(crate) const ACCESS_KEY: &str = "local";

/// Environment variables that point AWS clients to the emulator: those of the services that are here to `services`,
/// those of posts to connections to `management`. `AWS_ENDPOINT_URL`, which clients of all other services follow too,
/// is among them only if `for_all` says so.
pub(crate) fn variables(
    services: &str,
    dynamodb: Option<&str>,
    management: &str,
    for_all: bool,
) -> BTreeMap<String, String> {
    let all = for_all.then_some(("AWS_ENDPOINT_URL", services));
    let named = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", ACCESS_KEY),
        ("AWS_REGION", REGION),
        // The name by which the AWS client for Python knows it.
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.unwrap_or(services)),
        ("AWS_ENDPOINT_URL_LAMBDA", services),
        ("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI", management),
        ("AWS_ENDPOINT_URL_SQS", services),
        ("AWS_ENDPOINT_URL_EVENTBRIDGE", services),
        ("AWS_ENDPOINT_URL_SSM", services),
        ("AWS_ENDPOINT_URL_SNS", services),
    ];
    named.into_iter().chain(all).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
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

/// The name of a function in its name or ARN, with or without an alias or version.
pub(crate) fn function_name(reference: &str) -> &str {
    let name = reference.rsplit_once(":function:").map_or(reference, |(_, name)| name);
    name.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_function_is_found_in_its_name_and_its_arn() {
        let arn = "arn:aws:lambda:eu-central-1:000000000000:function:Message";
        for reference in ["Message", "Message:live", arn, &format!("{arn}:2")] {
            assert_eq!(function_name(reference), "Message", "{reference}");
        }
    }
}
