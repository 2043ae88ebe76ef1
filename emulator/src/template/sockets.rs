//! The WebSocket API: routes, integrations and responses.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{
    Resource, Resources, TemplateError, integrations, integrations::Integration, intrinsics, sam_sockets,
    throttles::Throttles,
};
use crate::gateway::selection::SelectionExpression;

/// Longest time that an integration may take; a shorter one may be set. Source: API Gateway quotas.
const INTEGRATION_TIMEOUT_MAX: Duration = Duration::from_secs(29);

/// A WebSocket API with its one stage.
#[derive(Clone, Debug)]
pub(crate) struct WebSocketApi {
    /// Ten lower-case letters and digits.
    pub(crate) api_id: String,
    /// The stage, first segment of every path.
    pub(crate) stage: String,
    /// Variables of the stage, for mapping templates and addresses.
    pub(crate) stage_variables: BTreeMap<String, String>,
    /// How the route of a message is chosen.
    pub(crate) selection: SelectionExpression,
    /// Routes by route key.
    pub(crate) routes: BTreeMap<String, Route>,
    /// How many requests the routes take.
    pub(crate) throttles: Throttles,
}

/// A route.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// What handles it.
    pub(crate) integration: Integration,
    /// Whether the integration's answer goes back over the socket.
    pub(crate) responds: bool,
    /// Who may use it. Only asked on `$connect`.
    pub(crate) authorization: Authorization,
}

/// Who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Authorization {
    /// Everybody.
    None,
    /// Whoever signs the request.
    Iam,
    /// Whom a function lets in.
    Lambda(Authorizer),
}

/// A Lambda authorizer of type REQUEST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authorizer {
    /// Name of the function.
    pub(crate) function: String,
    /// What must be there for the function to be asked at all.
    pub(crate) identity_sources: Vec<IdentitySource>,
}

/// A part of the handshake that says who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdentitySource {
    /// `route.request.header.NAME`
    Header(String),
    /// `route.request.querystring.NAME`
    Query(String),
}

pub(super) fn read(resources: &Resources) -> Result<WebSocketApi, TemplateError> {
    let raw = resources
        .of_type("AWS::ApiGatewayV2::Api")
        .filter(|api| api.text("ProtocolType").is_some_and(|protocol| protocol == "WEBSOCKET"));
    let mut apis = raw.chain(resources.of_type("AWS::Serverless::WebSocketApi"));
    let api = apis.next().ok_or_else(|| TemplateError::new("the template has no WebSocket API"))?;
    if let Some(second) = apis.next() {
        return Err(
            second.error(format!("there is a second WebSocket API beside {}; one is run locally", api.logical_id))
        );
    }
    if api.kind == "AWS::Serverless::WebSocketApi" { sam_sockets::read(api) } else { read_raw(api, resources) }
}

fn read_raw(api: &Resource, resources: &Resources) -> Result<WebSocketApi, TemplateError> {
    let of_api = |resource: &&Resource| resource.text("ApiId").is_some_and(|id| id == api.name);
    let stage_resource = resources.of_type("AWS::ApiGatewayV2::Stage").find(of_api);
    let stage = stage_resource.map_or_else(|| Ok("prod".to_owned()), |stage| stage.required_text("StageName"))?;
    let stage_variables = stage_resource.map(|stage| stage_variables(&stage.properties)).unwrap_or_default();
    let throttles = stage_resource.map(Throttles::read).transpose()?.unwrap_or_default();
    let mut routes = BTreeMap::new();
    for route in resources.of_type("AWS::ApiGatewayV2::Route").filter(of_api) {
        let key = route.required_text("RouteKey")?;
        let target = route.required_text("Target")?;
        let integration = resources
            .of_type("AWS::ApiGatewayV2::Integration")
            .find(|integration| target.strip_prefix("integrations/") == Some(&integration.logical_id))
            .ok_or_else(|| route.error(format!("Target names no integration of the template: {target}")))?;
        // Both are needed: the expression on the route, and the response itself.
        let responds = route.text("RouteResponseSelectionExpression").is_some()
            && resources
                .of_type("AWS::ApiGatewayV2::RouteResponse")
                .any(|response| response.text("RouteId").is_some_and(|id| id == route.logical_id));
        let authorization = read_authorization(route, resources)?;
        let read = Route {
            integration: integrations::read(integration, resources, &stage_variables)?,
            responds,
            authorization,
        };
        if routes.insert(key.clone(), read).is_some() {
            return Err(route.error(format!("the route key {key} is in use already")));
        }
    }
    Ok(WebSocketApi { api_id: api.name.clone(), stage, stage_variables, selection: selection(api)?, routes, throttles })
}

/// The variables of a stage, from its properties.
pub(super) fn stage_variables(properties: &Value) -> BTreeMap<String, String> {
    let variables = properties.get("StageVariables").and_then(Value::as_object).into_iter().flatten();
    variables.filter_map(|(name, value)| Some((name.clone(), intrinsics::as_text(value)?))).collect()
}

/// The route selection expression of an API of either kind.
pub(super) fn selection(api: &Resource) -> Result<SelectionExpression, TemplateError> {
    let expression = api.required_text("RouteSelectionExpression")?;
    SelectionExpression::parse(&expression)
        .map_err(|error| api.error(format!("RouteSelectionExpression {expression}: {error}")))
}

/// The time that an integration has: what it names in milliseconds, and at most what the service allows.
pub(super) fn integration_timeout(millis: Option<&Value>) -> Duration {
    let named = millis.and_then(Value::as_u64).map(Duration::from_millis);
    named.map_or(INTEGRATION_TIMEOUT_MAX, |named| named.min(INTEGRATION_TIMEOUT_MAX))
}

fn read_authorization(route: &Resource, resources: &Resources) -> Result<Authorization, TemplateError> {
    match route.text("AuthorizationType").as_deref() {
        None | Some("NONE") => return Ok(Authorization::None),
        Some("AWS_IAM") => return Ok(Authorization::Iam),
        Some("CUSTOM") => {}
        Some(other) => return Err(route.error(format!("WebSocket APIs have no authorization of type {other}"))),
    }
    let id = route.required_text("AuthorizerId")?;
    let authorizer = resources
        .of_type("AWS::ApiGatewayV2::Authorizer")
        .find(|authorizer| authorizer.logical_id == id)
        .ok_or_else(|| route.error(format!("AuthorizerId names no authorizer of the template: {id}")))?;
    let kind = authorizer.required_text("AuthorizerType")?;
    if kind != "REQUEST" {
        return Err(authorizer.error(format!("WebSocket APIs have no authorizers of type {kind}, only REQUEST")));
    }
    let uri = authorizer.required_text("AuthorizerUri")?;
    let function = function_of(&uri)
        .ok_or_else(|| authorizer.error(format!("AuthorizerUri is not that of a Lambda function: {uri}")))?;
    let identity_sources = identity_sources(authorizer, authorizer.properties.get("IdentitySource"))?;
    Ok(Authorization::Lambda(Authorizer { function: function.to_owned(), identity_sources }))
}

/// What must be there for an authorizer to be asked. WebSocket APIs have a syntax of their own for it.
pub(super) fn identity_sources(
    authorizer: &Resource,
    sources: Option<&Value>,
) -> Result<Vec<IdentitySource>, TemplateError> {
    let source = |source: &Value| {
        let text = source.as_str().unwrap_or_default();
        let header = text.strip_prefix("route.request.header.").map(|name| IdentitySource::Header(name.to_owned()));
        let query =
            || text.strip_prefix("route.request.querystring.").map(|name| IdentitySource::Query(name.to_owned()));
        header.or_else(query).ok_or_else(|| {
            authorizer.error(format!(
                "IdentitySource {source} is neither route.request.header.… nor route.request.querystring.…"
            ))
        })
    };
    sources.and_then(Value::as_array).into_iter().flatten().map(source).collect()
}

/// The function that an integration's or authorizer's address names: the path of its invocations, or its ARN alone, with or
/// without a version.
pub(super) fn function_of(uri: &str) -> Option<&str> {
    let arn = match uri.strip_suffix("/invocations") {
        Some(path) => path.rsplit_once("/functions/")?.1,
        None => uri,
    };
    let (_, name) = arn.split_once(":function:")?;
    name.split(':').next()
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
