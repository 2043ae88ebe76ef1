//! AWS services that functions will look for and that the emulator does not have.

use std::collections::BTreeMap;

use super::{attributes, resources::Resources};

/// Services by the prefix of their resources' types. Source: the resource types of CloudFormation.
const SERVICES: [(&str, &str); 20] = [
    ("AWS::AppSync::", "AppSync"),
    ("AWS::Cognito::", "Cognito"),
    ("AWS::DocDB::", "DocumentDB"),
    ("AWS::ElastiCache::", "ElastiCache"),
    ("AWS::IoT::", "IoT"),
    ("AWS::KMS::", "KMS"),
    ("AWS::Kinesis::", "Kinesis"),
    ("AWS::KinesisFirehose::", "Firehose"),
    ("AWS::MSK::", "MSK"),
    ("AWS::Neptune::", "Neptune"),
    ("AWS::OpenSearchService::", "OpenSearch"),
    ("AWS::Pipes::", "EventBridge Pipes"),
    ("AWS::RDS::", "RDS"),
    ("AWS::S3::", "S3"),
    ("AWS::SES::", "SES"),
    ("AWS::SecretsManager::", "Secrets Manager"),
    ("AWS::Serverless::GraphQLApi", "AppSync"),
    ("AWS::Serverless::StateMachine", "Step Functions"),
    ("AWS::StepFunctions::", "Step Functions"),
    ("AWS::Timestream::", "Timestream"),
];

/// The bucket to which the Serverless Framework uploads code. No function looks for it.
const DEPLOYMENT_BUCKET: &str = "ServerlessDeploymentBucket";

/// One note that names the services, each with a resource of the template.
pub(super) fn notes(resources: &Resources<'_>) -> Vec<String> {
    let mut found: BTreeMap<&str, &str> = BTreeMap::new();
    let is_here = |kind: &str| attributes::EVENT_API.contains(&kind);
    let elsewhere = resources.all().filter(|resource| !is_here(&resource.kind));
    for resource in elsewhere.filter(|resource| !resource.logical_id.starts_with(DEPLOYMENT_BUCKET)) {
        if let Some((_, service)) = SERVICES.iter().find(|(prefix, _)| resource.kind.starts_with(prefix)) {
            found.entry(service).or_insert(&resource.logical_id);
        }
    }
    let named: Vec<String> = found.iter().map(|(service, resource)| format!("{service} ({resource})")).collect();
    let note = || format!("not here, so that functions call the real AWS for it: {}", named.join(", "));
    (!named.is_empty()).then(note).into_iter().collect()
}
