//! What WebSocket, HTTP and REST APIs have in common, in CloudFormation's form and in SAM's: addresses of functions,
//! timeouts, stage variables, and selection expressions.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{error::TemplateError, functions::Function, resources::Resource, scalar, selection::SelectionExpression};

/// Longest and default timeout of an integration of a WebSocket or REST API. Source: API Gateway quotas.
const INTEGRATION_TIMEOUT_MAX: Duration = Duration::from_secs(29);

/// Longest and default timeout of an integration of an HTTP API. Source: API Gateway quotas.
const HTTP_INTEGRATION_TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// Reads the variables of a stage.
pub(super) fn stage_variables(stage: &Resource<'_>) -> BTreeMap<String, String> {
    scalar::named_texts(stage.get("StageVariables"))
}

/// Reads the route selection expression of an API.
pub(super) fn selection(api: &Resource<'_>) -> Result<SelectionExpression, TemplateError> {
    let expression = api.required_text("RouteSelectionExpression")?;
    SelectionExpression::parse(&expression)
        .map_err(|error| api.error(format!("invalid RouteSelectionExpression {expression}: {error}")))
}

/// The timeout of an integration, from its milliseconds, up to the limit of the service.
pub(super) fn integration_timeout(millis: Option<&Value>) -> Duration {
    at_most(INTEGRATION_TIMEOUT_MAX, millis)
}

/// The timeout of an integration of an HTTP API.
pub(super) fn http_integration_timeout(millis: Option<&Value>) -> Duration {
    at_most(HTTP_INTEGRATION_TIMEOUT_MAX, millis)
}

fn at_most(max: Duration, millis: Option<&Value>) -> Duration {
    let named = millis.and_then(Value::as_u64).map(Duration::from_millis);
    named.map_or(max, |named| named.min(max))
}

/// The function in the address of an integration or authorizer: an ARN, or the path of its invocations, with or without
/// a version.
pub(super) fn function_of(uri: &str) -> Option<&str> {
    let arn = match uri.strip_suffix("/invocations") {
        Some(path) => path.rsplit_once("/functions/")?.1,
        None => uri,
    };
    let (_, name) = arn.split_once(":function:")?;
    name.split(':').next()
}

/// A function that a route or an authorizer names.
#[derive(Clone, Debug)]
pub(super) struct FunctionReference {
    resource: String,
    line: usize,
    address: String,
}

impl FunctionReference {
    pub(super) fn new(resource: &Resource<'_>, address: &str) -> Self {
        Self { resource: resource.logical_id.clone(), line: resource.line, address: address.to_owned() }
    }

    /// Whether the function exists, with the alias or version that the address has.
    pub(super) fn check(&self, functions: &BTreeMap<String, Function>) -> Result<(), TemplateError> {
        let refused = |message| TemplateError::at(self.line, message).in_resource(&self.resource);
        let name = function_of(&self.address).unwrap_or(&self.address);
        let function = functions
            .get(name)
            .ok_or_else(|| refused(format!("unknown function {name}: the template does not have it")))?;
        let qualifier = self.address.split_once(&format!(":function:{name}:")).map(|(_, rest)| rest);
        let qualifier = qualifier.map(|rest| rest.trim_end_matches("/invocations"));
        let is_version = |text: &str| text == "$LATEST" || text.bytes().all(|byte| byte.is_ascii_digit());
        match qualifier {
            // A stage variable selects the alias.
            Some(alias) if !is_version(alias) && !alias.contains('$') && !function.aliases.contains(alias) => {
                Err(refused(format!("unknown alias {alias} of the function {name}")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_by_its_invocations_or_its_arn_with_or_without_a_version() {
        let arn = "arn:aws:lambda:eu-central-1:000000000000:function:Message";
        let path = "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions";
        for uri in [
            arn.to_owned(),
            format!("{arn}:live"),
            format!("{path}/{arn}/invocations"),
            format!("{path}/{arn}:2/invocations"),
        ] {
            assert_eq!(function_of(&uri), Some("Message"), "{uri}");
        }
        for uri in ["", "https://example.com/invocations", "arn:aws:sqs:eu-central-1:000000000000:queue"] {
            assert_eq!(function_of(uri), None, "{uri}");
        }
    }
}
