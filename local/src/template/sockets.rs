//! The WebSocket API: routes, integrations and responses.

use std::{collections::BTreeMap, time::Duration};

use regex::Regex;
use serde_json::Value;

use super::{Resource, Resources, TemplateError, sam_sockets};
use crate::gateway::selection::Selection;

/// Longest time that an integration may take; a shorter one may be set. Source: API Gateway quotas.
const INTEGRATION_TIMEOUT_MAX: Duration = Duration::from_secs(29);

/// A WebSocket API with its one stage.
#[derive(Clone, Debug)]
pub(crate) struct WebSocketApi {
    /// Ten lower-case letters and digits.
    pub(crate) api_id: String,
    /// The stage, first segment of every path.
    pub(crate) stage: String,
    /// How the route of a message is chosen.
    pub(crate) selection: Selection,
    /// Routes by route key.
    pub(crate) routes: BTreeMap<String, Route>,
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

/// What handles a message.
#[derive(Clone, Debug)]
pub(crate) enum Integration {
    /// Lambda proxy.
    Lambda {
        /// Name of the function.
        function: String,
        /// Longest time to wait for it.
        timeout: Duration,
    },
    /// An answer from the gateway itself.
    Mock(Mock),
}

/// A MOCK integration whose templates are plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mock {
    /// Status that its request template names; on `$connect` that of the handshake.
    pub(crate) status: u16,
    /// What it answers, if anything.
    pub(crate) body: Option<String>,
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
    let stage = match resources.of_type("AWS::ApiGatewayV2::Stage").find(of_api) {
        Some(stage) => stage.required_text("StageName")?,
        None => "prod".to_owned(),
    };
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
        let read = Route { integration: read_integration(integration, resources)?, responds, authorization };
        if routes.insert(key.clone(), read).is_some() {
            return Err(route.error(format!("the route key {key} is in use already")));
        }
    }
    Ok(WebSocketApi { api_id: api.name.clone(), stage, selection: selection(api)?, routes })
}

/// The route selection expression of an API of either kind.
pub(super) fn selection(api: &Resource) -> Result<Selection, TemplateError> {
    let expression = api.required_text("RouteSelectionExpression")?;
    Selection::parse(&expression).map_err(|error| api.error(format!("RouteSelectionExpression {expression}: {error}")))
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
fn function_of(uri: &str) -> Option<&str> {
    let arn = match uri.strip_suffix("/invocations") {
        Some(path) => path.rsplit_once("/functions/")?.1,
        None => uri,
    };
    let (_, name) = arn.split_once(":function:")?;
    name.split(':').next()
}

fn read_integration(integration: &Resource, resources: &Resources) -> Result<Integration, TemplateError> {
    match integration.required_text("IntegrationType")?.as_str() {
        "AWS_PROXY" => {
            let uri = integration.required_text("IntegrationUri")?;
            let function = function_of(&uri)
                .ok_or_else(|| integration.error(format!("IntegrationUri is not that of a Lambda function: {uri}")))?;
            let timeout = integration_timeout(integration.properties.get("TimeoutInMillis"));
            Ok(Integration::Lambda { function: function.to_owned(), timeout })
        }
        "MOCK" => read_mock(integration, resources).map(Integration::Mock),
        other => {
            Err(integration.error(format!("integrations of type {other} are not run locally; AWS_PROXY and MOCK are")))
        }
    }
}

fn read_mock(integration: &Resource, resources: &Resources) -> Result<Mock, TemplateError> {
    let request = template_text(integration, "RequestTemplates")?;
    let status = request
        .and_then(|text| serde_json::from_str::<Value>(&text).ok())
        .and_then(|request| u16::try_from(request.get("statusCode")?.as_u64()?).ok())
        .ok_or_else(|| integration.error("the $default template of RequestTemplates must be JSON with a statusCode"))?;
    for response in resources.of_type("AWS::ApiGatewayV2::IntegrationResponse") {
        if response.text("IntegrationId").is_none_or(|id| id != integration.logical_id) {
            continue;
        }
        let key = response.required_text("IntegrationResponseKey")?;
        let matches = match key.strip_prefix('/').and_then(|key| key.strip_suffix('/')) {
            Some(pattern) => Regex::new(&format!("^(?:{pattern})$"))
                .map_err(|error| response.error(format!("IntegrationResponseKey {key} is no pattern: {error}")))?
                .is_match(&status.to_string()),
            None => key == "$default",
        };
        if matches {
            return Ok(Mock { status, body: template_text(response, "ResponseTemplates")? });
        }
    }
    Ok(Mock { status, body: None })
}

/// The template under `$default`, refused where it is more than plain text.
fn template_text(resource: &Resource, property: &str) -> Result<Option<String>, TemplateError> {
    let templates = resource.properties.get(property);
    let text = templates.and_then(|templates| templates.get("$default")).and_then(Value::as_str);
    match text {
        Some(text) if text.contains(['$', '#']) => {
            Err(resource.error(format!("{property}: directives and references ($…, #…) are not run locally yet")))
        }
        text => Ok(text.map(str::to_owned)),
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
