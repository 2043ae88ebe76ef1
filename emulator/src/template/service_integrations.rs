//! Integrations of routes with AWS services other than Lambda.
//!
//! Source: API Gateway developer guide, "Set up a WebSocket API integration request in API Gateway"; the form of the
//! addresses is that of REST APIs.

use velocity::MappingTemplate;

use super::{error::TemplateError, resources::Resource};

/// A call of an AWS service.
#[derive(Clone, Debug)]
pub(crate) struct ServiceCall {
    pub(crate) service: IntegratedService,
    /// The operation that the address names. `None` if the request does.
    pub(crate) action: Option<String>,
    /// The path in the address, such as that of a queue.
    pub(crate) path: String,
    /// Parameters of the query, and a template for the value of each.
    pub(crate) query: Vec<(String, MappingTemplate)>,
}

/// The services that integrations may call here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntegratedService {
    Sqs,
    Sns,
    EventBridge,
    DynamoDb,
}

/// Operations that integrations may call, except those of DynamoDB, of which all may be called.
const ACTIONS: [(IntegratedService, &str); 3] = [
    (IntegratedService::Sqs, "SendMessage"),
    (IntegratedService::Sns, "Publish"),
    (IntegratedService::EventBridge, "PutEvents"),
];

/// Reads the address of an integration with a service. `None` if it is the address of a function or something else.
pub(super) fn read(integration: &Resource<'_>, uri: &str) -> Result<Option<ServiceCall>, TemplateError> {
    let ["arn", _, "apigateway", _, service, place] = uri.splitn(6, ':').collect::<Vec<_>>()[..] else {
        return Ok(None);
    };
    let service = match service {
        "lambda" => return Ok(None),
        "sqs" => IntegratedService::Sqs,
        "sns" => IntegratedService::Sns,
        "events" => IntegratedService::EventBridge,
        "dynamodb" => IntegratedService::DynamoDb,
        "states" => return Err(not_run(integration, "Step Functions")),
        other => return Err(not_run(integration, other)),
    };
    let (action, path) = match place.split_once('/') {
        Some(("action", action)) => (Some(action.to_owned()), String::new()),
        Some(("path", path)) => (None, path.to_owned()),
        _ => {
            return Err(integration.error(format!(
                "invalid IntegrationUri {uri}: expected action/ and an operation, or path/ and a path, after the \
                 service"
            )));
        }
    };
    let known = ACTIONS.iter().find(|(of, _)| *of == service).map(|(_, action)| *action);
    if let (Some(known), Some(action)) = (known, &action)
        && known != action
    {
        let message =
            format!("invalid IntegrationUri {uri}: the emulator runs {known} of this service in integrations");
        return Err(integration.error(message));
    }
    Ok(Some(ServiceCall { service, action, path, query: Vec::new() }))
}

fn not_run(integration: &Resource<'_>, service: &str) -> TemplateError {
    integration.error(format!(
        "the emulator does not run integrations with {service}: it runs those with functions, SQS, SNS, EventBridge \
         and DynamoDB"
    ))
}

#[cfg(test)]
mod tests {
    use crate::template::Template;

    fn refusal(uri: &str) -> String {
        let text = format!(
            "Resources:\n  Api: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
             RouteSelectionExpression: $request.body.action }} }}\n  I: {{ Type: AWS::ApiGatewayV2::Integration, \
             Properties: {{ ApiId: !Ref Api, IntegrationType: AWS, IntegrationUri: '{uri}' }} }}\n  \
             R: {{ Type: AWS::ApiGatewayV2::Route, Properties: {{ ApiId: !Ref Api, RouteKey: a, Target: !Sub \
             'integrations/${{I}}' }} }}\n"
        );
        Template::parse(&text, &Default::default()).expect_err("must be refused").to_string()
    }

    #[test]
    fn other_services_and_operations_are_refused_by_name_with_the_line() {
        let runs = "it runs those with functions, SQS, SNS, EventBridge and DynamoDB";
        assert_eq!(
            refusal("arn:aws:apigateway:eu-central-1:states:action/StartExecution"),
            format!("line 3: I: the emulator does not run integrations with Step Functions: {runs}")
        );
        assert_eq!(
            refusal("arn:aws:apigateway:eu-central-1:kinesis:action/PutRecord"),
            format!("line 3: I: the emulator does not run integrations with kinesis: {runs}")
        );
        assert_eq!(
            refusal("arn:aws:apigateway:eu-central-1:sns:action/Subscribe"),
            "line 3: I: invalid IntegrationUri arn:aws:apigateway:eu-central-1:sns:action/Subscribe: the emulator runs \
             Publish of this service in integrations"
        );
        assert_eq!(
            refusal("arn:aws:apigateway:eu-central-1:sqs:jobs"),
            "line 3: I: invalid IntegrationUri arn:aws:apigateway:eu-central-1:sqs:jobs: expected action/ and an \
             operation, or path/ and a path, after the service"
        );
    }
}
