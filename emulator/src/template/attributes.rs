//! What `Ref` and `Fn::GetAtt` return for types of resources. Source: the resource schemas of CloudFormation.

use crate::aws::{ACCOUNT_ID, PARTITION, REGION, URL_SUFFIX, arn, sqs_endpoint, stream_arn};

/// The property with the name of a resource, by type.
pub(super) fn name_property(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "AWS::DynamoDB::Table" | "AWS::DynamoDB::GlobalTable" | "AWS::Serverless::SimpleTable" => "TableName",
        "AWS::Serverless::Function" | "AWS::Lambda::Function" => "FunctionName",
        "AWS::ApiGatewayV2::Stage" | "AWS::ApiGateway::Stage" => "StageName",
        "AWS::ApiGatewayV2::DomainName" => "DomainName",
        "AWS::SQS::Queue" => "QueueName",
        "AWS::SNS::Topic" => "TopicName",
        "AWS::S3::Bucket" => "BucketName",
        "AWS::IAM::Role" => "RoleName",
        "AWS::Logs::LogGroup" => "LogGroupName",
        "AWS::StepFunctions::StateMachine" => "StateMachineName",
        "AWS::Events::EventBus"
        | "AWS::Events::Rule"
        | "AWS::Events::Connection"
        | "AWS::Events::Archive"
        | "AWS::Kinesis::Stream"
        | "AWS::SSM::Parameter"
        | "AWS::SecretsManager::Secret"
        | "AWS::Scheduler::Schedule"
        | "AWS::Scheduler::ScheduleGroup"
        | "AWS::AppSync::DataSource"
        | "AWS::Serverless::StateMachine" => "Name",
        _ => return None,
    })
}

/// What the names of FIFO queues and topics end with. Source: SQS and SNS.
pub(super) const FIFO_SUFFIX: &str = ".fifo";

/// The property that makes a queue or a topic a FIFO one, by type.
pub(super) fn fifo_property(kind: &str) -> Option<&'static str> {
    match kind {
        "AWS::SQS::Queue" => Some("FifoQueue"),
        "AWS::SNS::Topic" => Some("FifoTopic"),
        _ => None,
    }
}

/// The types of an Event API of AppSync.
pub(super) const EVENT_API: [&str; 4] =
    ["AWS::AppSync::Api", "AWS::AppSync::ApiKey", "AWS::AppSync::ChannelNamespace", "AWS::AppSync::DataSource"];

/// Whether the id of a resource has the form of API ids.
pub(super) fn is_api(kind: &str) -> bool {
    matches!(
        kind,
        "AWS::ApiGatewayV2::Api"
            | "AWS::ApiGateway::RestApi"
            | "AWS::Serverless::Api"
            | "AWS::Serverless::HttpApi"
            | "AWS::Serverless::WebSocketApi"
    )
}

/// Whether the emulator runs resources of this type, or what `Ref` returns for them has no meaning outside the
/// template: then nobody has to know that a value is made up.
pub(super) fn is_here(kind: &str) -> bool {
    let own =
        ["AWS::ApiGatewayV2::", "AWS::ApiGateway::", "AWS::Lambda::", "AWS::DynamoDB::", "AWS::SNS::", "AWS::SQS::"];
    let without_meaning = ["AWS::IAM::", "AWS::Logs::", "AWS::Events::", "AWS::Scheduler::"];
    let of_sam = kind.starts_with("AWS::Serverless::")
        && !matches!(kind, "AWS::Serverless::StateMachine" | "AWS::Serverless::Application");
    of_sam || EVENT_API.contains(&kind) || own.iter().chain(&without_meaning).any(|service| kind.starts_with(service))
}

/// What `Ref` returns for a resource with this physical name.
pub(super) fn reference(kind: &str, name: &str) -> String {
    match kind {
        "AWS::SQS::Queue" => queue_url(name),
        "AWS::SNS::Topic" => arn("sns", name),
        "AWS::StepFunctions::StateMachine" | "AWS::Serverless::StateMachine" => {
            arn("states", &format!("stateMachine:{name}"))
        }
        "AWS::SecretsManager::Secret" => arn("secretsmanager", &format!("secret:{name}")),
        "AWS::AppSync::Api" => event_api_arn(name),
        "AWS::Lambda::LayerVersion" | "AWS::Serverless::LayerVersion" => arn("lambda", &format!("layer:{name}:1")),
        _ => name.to_owned(),
    }
}

/// What `Fn::GetAtt` returns for a resource with this physical name. `None` if the schema has no such attribute, or
/// only AWS knows its value.
pub(super) fn attribute(kind: &str, name: &str, attribute: &str) -> Option<String> {
    Some(match (kind, attribute) {
        ("AWS::DynamoDB::Table" | "AWS::DynamoDB::GlobalTable", "Arn") => arn("dynamodb", &format!("table/{name}")),
        ("AWS::Serverless::SimpleTable", "Arn") => arn("dynamodb", &format!("table/{name}")),
        ("AWS::DynamoDB::Table" | "AWS::DynamoDB::GlobalTable", "StreamArn") => stream_arn(name),
        ("AWS::DynamoDB::GlobalTable", "TableId") => name.to_owned(),
        ("AWS::Serverless::Function" | "AWS::Lambda::Function", "Arn") => arn("lambda", &format!("function:{name}")),
        ("AWS::Lambda::LayerVersion", "LayerVersionArn") => arn("lambda", &format!("layer:{name}:1")),
        ("AWS::Lambda::EventSourceMapping", "Id") => name.to_owned(),
        ("AWS::Lambda::EventSourceMapping", "EventSourceMappingArn") => {
            arn("lambda", &format!("event-source-mapping:{name}"))
        }
        ("AWS::ApiGatewayV2::Api" | "AWS::Serverless::HttpApi" | "AWS::Serverless::WebSocketApi", "ApiId") => {
            name.to_owned()
        }
        ("AWS::Serverless::HttpApi", "ApiEndpoint") => endpoint("https", name),
        ("AWS::Serverless::WebSocketApi", "ApiEndpoint") => endpoint("wss", name),
        ("AWS::ApiGatewayV2::Api" | "AWS::Serverless::WebSocketApi", "ExecuteApiArn") => arn("execute-api", name),
        ("AWS::ApiGateway::RestApi" | "AWS::Serverless::Api", "RestApiId" | "RootResourceId") => name.to_owned(),
        ("AWS::ApiGatewayV2::DomainName", "RegionalDomainName") => {
            format!("d-{name}.execute-api.{REGION}.{URL_SUFFIX}")
        }
        (kind, id)
            if ["AWS::ApiGatewayV2::", "AWS::ApiGateway::"]
                .iter()
                .any(|service| kind.strip_prefix(service).is_some_and(|kind| id.strip_suffix("Id") == Some(kind))) =>
        {
            name.to_owned()
        }
        ("AWS::AppSync::DataSource", "Name") => name.to_owned(),
        ("AWS::AppSync::Api", "ApiId") => name.to_owned(),
        ("AWS::AppSync::Api", "ApiArn") => event_api_arn(name),
        ("AWS::AppSync::Api", "Dns.Http") => event_api_hosts(name).0,
        ("AWS::AppSync::Api", "Dns.Realtime") => event_api_hosts(name).1,
        ("AWS::SQS::Queue", "Arn") => arn("sqs", name),
        ("AWS::SQS::Queue", "QueueName") => name.to_owned(),
        ("AWS::SQS::Queue", "QueueUrl") => queue_url(name),
        ("AWS::SNS::Topic", "TopicArn") => arn("sns", name),
        ("AWS::SNS::Topic", "TopicName") => name.to_owned(),
        ("AWS::Events::EventBus", "Arn") => arn("events", &format!("event-bus/{name}")),
        ("AWS::Events::Rule", "Arn") => arn("events", &format!("rule/{name}")),
        ("AWS::Events::EventBus", "Name") => name.to_owned(),
        ("AWS::S3::Bucket", "Arn") => format!("arn:{PARTITION}:s3:::{name}"),
        ("AWS::S3::Bucket", "DomainName") => format!("{name}.s3.{URL_SUFFIX}"),
        ("AWS::S3::Bucket", "RegionalDomainName") => format!("{name}.s3.{REGION}.{URL_SUFFIX}"),
        ("AWS::IAM::Role", "Arn") => format!("arn:{PARTITION}:iam::{ACCOUNT_ID}:role/{name}"),
        ("AWS::Logs::LogGroup", "Arn") => arn("logs", &format!("log-group:{name}:*")),
        ("AWS::StepFunctions::StateMachine" | "AWS::Serverless::StateMachine", "Arn") => {
            arn("states", &format!("stateMachine:{name}"))
        }
        ("AWS::StepFunctions::StateMachine" | "AWS::Serverless::StateMachine", "Name") => name.to_owned(),
        ("AWS::Kinesis::Stream", "Arn") => arn("kinesis", &format!("stream/{name}")),
        _ => return None,
    })
}

/// The address of an API in the cloud.
pub(super) fn endpoint(scheme: &str, api_id: &str) -> String {
    format!("{scheme}://{api_id}.execute-api.{REGION}.{URL_SUFFIX}")
}

/// The URL of a queue in the cloud.
fn queue_url(name: &str) -> String {
    format!("{}/{ACCOUNT_ID}/{name}", sqs_endpoint())
}

/// The ARN of an Event API. Source: AppSync developer guide, "Configuring authorization and authentication".
pub(super) fn event_api_arn(api_id: &str) -> String {
    arn("appsync", &format!("apis/{api_id}"))
}

/// The HTTP and the realtime host name of an Event API in the cloud. As there, their first label is not its id, so that
/// nobody builds one from the other.
pub(crate) fn event_api_hosts(api_id: &str) -> (String, String) {
    let label = long_id(&format!("{api_id}.Dns"));
    let host = |kind: &str| format!("{label}.appsync-{kind}.{REGION}.{URL_SUFFIX}");
    (host("api"), host("realtime-api"))
}

/// An id of 26 lower-case letters and digits, as AppSync makes them, always the same for a logical id.
pub(super) fn long_id(resource: &str) -> String {
    let parts = ["a", "b", "c"].map(|part| api_id(&format!("{resource}/{part}")));
    parts.concat().chars().take(26).collect()
}

/// An API id of the real form, ten lower-case letters and digits, always the same for a logical id.
pub(super) fn api_id(resource: &str) -> String {
    const DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut hash = resource
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (0..10)
        .map(|_| {
            let digit = char::from(DIGITS[(hash % 36) as usize]);
            hash /= 36;
            digit
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_api_gateway_are_what_ref_returns() {
        for (kind, attribute) in [
            ("Integration", "IntegrationId"),
            ("Route", "RouteId"),
            ("RouteResponse", "RouteResponseId"),
            ("IntegrationResponse", "IntegrationResponseId"),
            ("Authorizer", "AuthorizerId"),
            ("Deployment", "DeploymentId"),
            ("Model", "ModelId"),
            ("ApiMapping", "ApiMappingId"),
            ("VpcLink", "VpcLinkId"),
        ] {
            let kind = format!("AWS::ApiGatewayV2::{kind}");
            assert_eq!(self::attribute(&kind, "X", attribute).as_deref(), Some("X"), "{kind}");
            assert_eq!(reference(&kind, "X"), "X");
            assert_eq!(self::attribute(&kind, "X", "OtherId"), None);
        }
    }
}
