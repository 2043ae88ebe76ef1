//! What stands behind a route: integrations, their mapping templates and their responses.

use std::{collections::BTreeMap, time::Duration};

use hyper::{Method, header::HeaderName};
use regex::Regex;
use serde_json::{Map, Value};
use velocity::MappingTemplate;

use super::{
    error::TemplateError,
    intrinsics,
    references::{function_of, integration_timeout},
    resources::{Resource, Resources},
    selection::{SelectionError, SelectionExpression},
};

/// The key that stands for whatever no other key matches.
const DEFAULT_KEY: &str = "$default";

/// The media type under which templates stand where no expression selects one.
const JSON_KEY: &str = "application/json";

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
    /// An HTTP server that gets the message and whose answer is the client's.
    HttpProxy {
        /// The server.
        backend: HttpBackend,
        /// Longest time to wait for it.
        timeout: Duration,
    },
    /// Anything with mapping templates before and after it.
    Mapped(Box<MappedIntegration>),
}

/// An integration whose requests and responses are mapped.
#[derive(Clone, Debug)]
pub(crate) struct MappedIntegration {
    /// What is asked.
    pub(crate) backend: IntegrationBackend,
    /// What it is asked with.
    pub(crate) requests: MappingTemplates,
    /// What happens to a message that no template matches.
    pub(crate) passthrough: Passthrough,
    /// What is made of its answer, in the order of the file.
    pub(crate) responses: Vec<IntegrationResponse>,
    /// Longest time to wait for it.
    pub(crate) timeout: Duration,
}

/// What a mapped integration asks.
#[derive(Clone, Debug)]
pub(crate) enum IntegrationBackend {
    /// Nothing: the request itself names the status.
    Mock,
    /// A function, which gets no proxy event.
    Lambda {
        /// Name of the function.
        function: String,
        /// Whether its answer is not awaited.
        asynchronous: bool,
    },
    /// An HTTP server.
    Http(HttpBackend),
}

/// An HTTP server.
#[derive(Clone, Debug)]
pub(crate) struct HttpBackend {
    /// The method of every request.
    pub(crate) method: Method,
    /// `http://` or `https://`, with `{name}` where a path parameter goes.
    pub(crate) uri: String,
    /// What requests carry beside the body: where, and a template for the value.
    pub(crate) parameters: Vec<(ParameterTarget, MappingTemplate)>,
}

/// A part of a request that a parameter goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ParameterTarget {
    /// A header.
    Header(HeaderName),
    /// A parameter of the query.
    Query(String),
    /// A part of the path.
    Path(String),
}

/// What happens to a message that no request template matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passthrough {
    /// It is passed on as it is.
    WhenNoMatch,
    /// It is passed on as it is where there are no templates at all.
    WhenNoTemplates,
    /// It fails.
    Never,
}

/// Mapping templates and which of them is used.
#[derive(Clone, Debug)]
pub(crate) struct MappingTemplates {
    /// Where they stand, for the log.
    pub(crate) origin: String,
    selection: Option<SelectionExpression>,
    by_key: BTreeMap<String, MappingTemplate>,
}

/// What is made of some of the answers of an integration.
#[derive(Clone, Debug)]
pub(crate) struct IntegrationResponse {
    /// Which answers: those that match, or those that nothing else matches.
    pub(crate) pattern: Option<Regex>,
    /// What they become.
    pub(crate) templates: MappingTemplates,
}

impl MappingTemplates {
    /// The template that `key` makes of the selection expression, or that of `$default`. Without an expression that of
    /// `application/json` will do too: public templates rely on it.
    pub(crate) fn select(&self, key: impl FnOnce(&SelectionExpression) -> String) -> Option<&MappingTemplate> {
        let Some(selection) = &self.selection else {
            return self.by_key.get(DEFAULT_KEY).or_else(|| self.by_key.get(JSON_KEY));
        };
        self.by_key.get(&key(selection)).or_else(|| self.by_key.get(DEFAULT_KEY))
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    fn read(
        resource: &Resource,
        property: &str,
        parse: fn(&str) -> Result<SelectionExpression, SelectionError>,
    ) -> Result<Self, TemplateError> {
        let selection = resource.text("TemplateSelectionExpression").map(|expression| {
            parse(&expression)
                .map_err(|error| resource.error(format!("TemplateSelectionExpression {expression}: {error}")))
        });
        let texts = resource.properties.get(property).and_then(Value::as_object);
        let by_key = texts.into_iter().flatten().map(|(key, text)| {
            let text =
                text.as_str().ok_or_else(|| resource.error(format!("{property}, {key}: a template is a text")))?;
            Ok((key.clone(), template(resource, &format!("{property}, {key}"), text)?))
        });
        Ok(Self {
            origin: format!("{}: {property}", resource.logical_id),
            selection: selection.transpose()?,
            by_key: by_key.collect::<Result<_, _>>()?,
        })
    }
}

fn template(resource: &Resource, place: &str, text: &str) -> Result<MappingTemplate, TemplateError> {
    MappingTemplate::parse(text).map_err(|error| resource.error(format!("{place}: {error}")))
}

pub(super) fn read(
    integration: &Resource,
    resources: &Resources,
    stage_variables: &BTreeMap<String, String>,
) -> Result<Integration, TemplateError> {
    let timeout = integration_timeout(integration.properties.get("TimeoutInMillis"));
    let backend = match integration.required_text("IntegrationType")?.as_str() {
        "AWS_PROXY" => return Ok(Integration::Lambda { function: function(integration)?, timeout }),
        "HTTP_PROXY" => return Ok(Integration::HttpProxy { backend: http(integration, stage_variables)?, timeout }),
        "MOCK" => IntegrationBackend::Mock,
        "AWS" => {
            IntegrationBackend::Lambda { function: function(integration)?, asynchronous: is_asynchronous(integration)? }
        }
        "HTTP" => IntegrationBackend::Http(http(integration, stage_variables)?),
        other => {
            return Err(integration.error(format!(
                "integrations of type {other} are not run locally; AWS, AWS_PROXY, HTTP, HTTP_PROXY and MOCK are"
            )));
        }
    };
    let passthrough = match integration.text("PassthroughBehavior").as_deref() {
        None | Some("WHEN_NO_MATCH") => Passthrough::WhenNoMatch,
        Some("WHEN_NO_TEMPLATES") => Passthrough::WhenNoTemplates,
        Some("NEVER") => Passthrough::Never,
        Some(other) => return Err(integration.error(format!("PassthroughBehavior cannot be {other}"))),
    };
    let requests = MappingTemplates::read(integration, "RequestTemplates", SelectionExpression::parse)?;
    let is_of_this =
        |response: &&Resource| response.text("IntegrationId").is_some_and(|id| id == integration.logical_id);
    let responses = resources.of_type("AWS::ApiGatewayV2::IntegrationResponse").filter(is_of_this).map(response);
    let responses = responses.collect::<Result<_, _>>()?;
    Ok(Integration::Mapped(Box::new(MappedIntegration { backend, requests, passthrough, responses, timeout })))
}

fn response(response: &Resource) -> Result<IntegrationResponse, TemplateError> {
    let key = response.required_text("IntegrationResponseKey")?;
    let pattern = match key.strip_prefix('/').and_then(|key| key.strip_suffix('/')) {
        Some(pattern) => Some(
            Regex::new(&format!("^(?:{pattern})$"))
                .map_err(|error| response.error(format!("IntegrationResponseKey {key} is no pattern: {error}")))?,
        ),
        None if key == DEFAULT_KEY => None,
        None => {
            return Err(response.error(format!("IntegrationResponseKey {key} is neither $default nor a /pattern/")));
        }
    };
    let templates = MappingTemplates::read(response, "ResponseTemplates", SelectionExpression::parse_for_response)?;
    Ok(IntegrationResponse { pattern, templates })
}

/// The function that an integration of type AWS or AWS_PROXY invokes.
fn function(integration: &Resource) -> Result<String, TemplateError> {
    let uri = integration.required_text("IntegrationUri")?;
    let function = function_of(&uri);
    let function =
        function.ok_or_else(|| integration.error(format!("IntegrationUri is not that of a Lambda function: {uri}")))?;
    Ok(function.to_owned())
}

/// The one parameter of Lambda's Invoke API that templates use.
fn is_asynchronous(integration: &Resource) -> Result<bool, TemplateError> {
    const TYPE: &str = "integration.request.header.X-Amz-Invocation-Type";
    let mut asynchronous = false;
    for (target, source) in request_parameters(integration) {
        match (target.eq_ignore_ascii_case(TYPE), source.as_str()) {
            (true, Some("'Event'")) => asynchronous = true,
            (true, Some("'RequestResponse'")) => {}
            _ => {
                return Err(integration.error(format!(
                    "RequestParameters, {target}: only {TYPE} as 'Event' or 'RequestResponse' is understood locally"
                )));
            }
        }
    }
    Ok(asynchronous)
}

fn request_parameters(integration: &Resource) -> impl Iterator<Item = (&String, &Value)> {
    let parameters: Option<&Map<String, Value>> =
        integration.properties.get("RequestParameters").and_then(Value::as_object);
    parameters.into_iter().flatten()
}

fn http(integration: &Resource, stage_variables: &BTreeMap<String, String>) -> Result<HttpBackend, TemplateError> {
    if integration.text("ConnectionType").is_some_and(|kind| kind != "INTERNET") {
        return Err(integration.error("private integrations (VPC links) are not run locally"));
    }
    let method = integration.required_text("IntegrationMethod")?;
    let method: Method =
        method.parse().map_err(|_| integration.error(format!("IntegrationMethod {method} is no HTTP method")))?;
    if method.as_str() == "ANY" {
        return Err(integration.error("IntegrationMethod cannot be ANY: a message has no method"));
    }
    let mut uri = integration.required_text("IntegrationUri")?;
    for (name, value) in stage_variables {
        uri = uri.replace(&format!("${{stageVariables.{name}}}"), value);
    }
    if !(uri.starts_with("http://") || uri.starts_with("https://")) || uri.contains("${") {
        return Err(integration.error(format!("IntegrationUri {uri} is no http:// or https:// address")));
    }
    let mut parameters = Vec::new();
    for (target, source) in request_parameters(integration) {
        let place = format!("RequestParameters, {target}");
        let source = intrinsics::as_text(source).unwrap_or_default();
        let text =
            parameter(&source).ok_or_else(|| integration.error(format!("{place}: {source} is not understood")))?;
        let value = template(integration, &place, &text)?;
        let part = target.strip_prefix("integration.request.").and_then(|part| part.split_once('.'));
        let part = part.and_then(|(part, name)| match part {
            "header" => name.parse().ok().map(ParameterTarget::Header),
            "querystring" => Some(ParameterTarget::Query(name.to_owned())),
            "path" => Some(ParameterTarget::Path(name.to_owned())),
            _ => None,
        });
        let part = part.ok_or_else(|| {
            integration.error(format!("{place} is neither integration.request.header.… nor .querystring.… nor .path.…"))
        })?;
        parameters.push((part, value));
    }
    Ok(HttpBackend { method, uri, parameters })
}

/// The template for the value of a mapping expression.
///
/// Source: API Gateway developer guide, "Setting up data mapping for WebSocket APIs".
fn parameter(source: &str) -> Option<String> {
    let quoted = |text: &str| text.replace('\'', "''");
    if let Some(text) = source.strip_prefix('\'') {
        return text.strip_suffix('\'').map(|text| format!("#set($text = '{}')$text", quoted(text)));
    }
    let named = |place: &str, name: &str| format!("$input.params().{place}.get('{}')", quoted(name));
    let (what, path) = source.strip_prefix("route.request.").unwrap_or(source).split_once('.')?;
    match (what, source.starts_with("route.request.")) {
        ("body", true) => Some(format!("$input.path('$.{}')", quoted(path))),
        ("querystring", true) => Some(named("querystring", path)),
        ("header", true) => Some(named("header", path)),
        ("context", false) => Some(format!("${{context.{path}}}")),
        ("stageVariables", false) => Some(format!("$stageVariables.get('{}')", quoted(path))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why a template with this integration, on line 3, and what goes with it is refused.
    fn refusal(integration: &str, rest: &str) -> String {
        let text = format!(
            "Resources:\n  Api: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, RouteSelectionExpression: $request.body.a }} }}\n  \
             I: {{ Type: AWS::ApiGatewayV2::Integration, Properties: {{ ApiId: !Ref Api, {integration} }} }}\n  \
             R: {{ Type: AWS::ApiGatewayV2::Route, Properties: {{ ApiId: !Ref Api, RouteKey: a, Target: !Sub 'integrations/${{I}}' }} }}\n{rest}"
        );
        super::super::Template::parse(&text, &BTreeMap::new()).expect_err(integration).to_string()
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_its_name_and_line() {
        let check = |integration: &str, expected: &str| {
            assert_eq!(refusal(integration, ""), format!("line 3: I: {expected}"));
        };
        check(
            "IntegrationType: MOCK, RequestTemplates: { $default: '{\"statusCode\": #if($a) 200}' }",
            "RequestTemplates, $default: line 1, column 16: #if has no #end",
        );
        check("IntegrationType: MOCK, RequestTemplates: { a: [] }", "RequestTemplates, a: a template is a text");
        check(
            "IntegrationType: MOCK, TemplateSelectionExpression: '${request.header.x}'",
            "TemplateSelectionExpression ${request.header.x}: unsupported variable `$request.header.x`: expected `$request.body`",
        );
        check("IntegrationType: MOCK, PassthroughBehavior: SOMETIMES", "PassthroughBehavior cannot be SOMETIMES");
        check(
            "IntegrationType: AWS, IntegrationUri: 'arn:aws:apigateway:eu-central-1:sqs:path/1/q'",
            "IntegrationUri is not that of a Lambda function: arn:aws:apigateway:eu-central-1:sqs:path/1/q",
        );
        check(
            "IntegrationType: AWS, IntegrationUri: 'arn:aws:lambda:eu-central-1:000000000000:function:f', RequestParameters: { integration.request.header.A: \"'b'\" }",
            "RequestParameters, integration.request.header.A: only integration.request.header.X-Amz-Invocation-Type as 'Event' or 'RequestResponse' is understood locally",
        );
        check("IntegrationType: HTTP_PROXY, IntegrationMethod: POST", "IntegrationUri is missing");
        check("IntegrationType: HTTP, IntegrationUri: 'http://x'", "IntegrationMethod is missing");
        check(
            "IntegrationType: HTTP, IntegrationMethod: ANY, IntegrationUri: 'http://x'",
            "IntegrationMethod cannot be ANY: a message has no method",
        );
        check(
            "IntegrationType: HTTP, IntegrationMethod: GET, IntegrationUri: 'http://${stageVariables.none}'",
            "IntegrationUri http://${stageVariables.none} is no http:// or https:// address",
        );
        check(
            "IntegrationType: HTTP, ConnectionType: VPC_LINK",
            "private integrations (VPC links) are not run locally",
        );
        let parameter = "IntegrationType: HTTP, IntegrationMethod: GET, IntegrationUri: 'http://x', RequestParameters:";
        check(
            &format!("{parameter} {{ integration.request.body.a: context.stage }}"),
            "RequestParameters, integration.request.body.a is neither integration.request.header.… nor .querystring.… nor .path.…",
        );
        check(
            &format!("{parameter} {{ integration.request.header.a: route.request.cookie.b }}"),
            "RequestParameters, integration.request.header.a: route.request.cookie.b is not understood",
        );
    }

    #[test]
    fn an_integration_response_is_refused_with_its_own_name_and_line() {
        let check = |response: &str, expected: &str| {
            let response = format!(
                "  P: {{ Type: AWS::ApiGatewayV2::IntegrationResponse, Properties: {{ ApiId: !Ref Api, IntegrationId: !Ref I, {response} }} }}\n"
            );
            assert_eq!(refusal("IntegrationType: MOCK", &response), format!("line 5: P: {expected}"));
        };
        check("IntegrationResponseKey: '200'", "IntegrationResponseKey 200 is neither $default nor a /pattern/");
        check(
            "IntegrationResponseKey: $default, ResponseTemplates: { $default: \"\\n ${context\" }",
            "ResponseTemplates, $default: line 2, column 11: } is missing at the end of the reference",
        );
    }

    #[test]
    fn parameters_are_read_as_templates() {
        let check =
            |source: &str, expected: Option<&str>| assert_eq!(parameter(source).as_deref(), expected, "{source}");
        check("'it is'", Some("#set($text = 'it is')$text"));
        check("route.request.body.a.b[0]", Some("$input.path('$.a.b[0]')"));
        check("route.request.querystring.to'ken", Some("$input.params().querystring.get('to''ken')"));
        check("route.request.header.X-A", Some("$input.params().header.get('X-A')"));
        check("context.authorizer.principalId", Some("${context.authorizer.principalId}"));
        check("stageVariables.url", Some("$stageVariables.get('url')"));
        for bad in ["'open", "text", "request.body.a", "route.request.multivalueheader.a", "route.request.context.a"] {
            check(bad, None);
        }
    }
}
