//! Integrations of routes, with their mapping templates and responses.

use std::{collections::BTreeMap, time::Duration};

use hyper::{Method, header::HeaderName};
use regex::Regex;
use serde_json::{Map, Value};
use velocity::MappingTemplate;

use super::{
    error::TemplateError,
    references::{function_of, integration_timeout},
    resources::{Resource, Resources},
    scalar,
    selection::{SelectionError, SelectionExpression},
    service_integrations::{self, ServiceCall},
};

/// The key for everything that no other key matches.
const DEFAULT_KEY: &str = "$default";

/// The key of the template that is used if there is no selection expression.
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
    /// HTTP proxy: the server gets the message, and the client gets its response.
    HttpProxy {
        /// The server.
        backend: HttpBackend,
        /// Longest time to wait for it.
        timeout: Duration,
    },
    /// An integration with mapping templates.
    Mapped(Box<MappedIntegration>),
    /// None: `$connect` with an authorizer alone lets in whomever that does.
    None,
}

impl Integration {
    /// Name of the function that it invokes, if it does.
    pub(super) fn function(&self) -> Option<&str> {
        match self {
            Self::Lambda { function, .. } => Some(function),
            Self::HttpProxy { .. } | Self::None => None,
            Self::Mapped(mapped) => match &mapped.backend {
                IntegrationBackend::Lambda { function, .. } => Some(function),
                IntegrationBackend::Mock | IntegrationBackend::Http(_) | IntegrationBackend::Service(_) => None,
            },
        }
    }
}

/// An integration whose requests and responses are mapped.
#[derive(Clone, Debug)]
pub(crate) struct MappedIntegration {
    /// What it calls.
    pub(crate) backend: IntegrationBackend,
    /// Templates for the request.
    pub(crate) requests: MappingTemplates,
    /// What happens to a message that no request template matches.
    pub(crate) passthrough: Passthrough,
    /// Its responses, in the order of the template.
    pub(crate) responses: Vec<IntegrationResponse>,
    /// Longest time to wait for it.
    pub(crate) timeout: Duration,
}

/// What a mapped integration calls.
#[derive(Clone, Debug)]
pub(crate) enum IntegrationBackend {
    /// Nothing: the request template sets the status.
    Mock,
    /// A function, without the proxy event.
    Lambda {
        /// Name of the function.
        function: String,
        /// Whether the emulator does not wait for its response.
        asynchronous: bool,
    },
    /// An HTTP server.
    Http(HttpBackend),
    /// An AWS service other than Lambda.
    Service(ServiceCall),
}

/// An HTTP server.
#[derive(Clone, Debug)]
pub(crate) struct HttpBackend {
    /// The method of every request.
    pub(crate) method: Method,
    /// `http://` or `https://`, with `{name}` where a path parameter goes.
    pub(crate) uri: String,
    /// Request parameters: where each goes, and a template for its value.
    pub(crate) parameters: Vec<(ParameterTarget, MappingTemplate)>,
}

/// The part of a request that a parameter goes to.
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
    /// It is passed on unchanged.
    WhenNoMatch,
    /// It is passed on unchanged if there are no templates at all.
    WhenNoTemplates,
    /// It fails.
    Never,
}

/// Mapping templates, one of which is selected for each message.
#[derive(Clone, Debug)]
pub(crate) struct MappingTemplates {
    /// Where in the template they are, for the log.
    pub(crate) origin: String,
    selection: Option<SelectionExpression>,
    by_key: BTreeMap<String, MappingTemplate>,
}

/// An integration response: templates for the responses that match its key.
#[derive(Clone, Debug)]
pub(crate) struct IntegrationResponse {
    /// The pattern of the status. `None` is `$default`: responses that nothing else matches.
    pub(crate) pattern: Option<Regex>,
    /// Templates for the response.
    pub(crate) templates: MappingTemplates,
}

impl MappingTemplates {
    /// Selects the template by the value that `key` returns for the selection expression, else that of `$default`.
    /// Without an expression, `application/json` is the last resort: public templates rely on it.
    pub(crate) fn select(&self, key: impl FnOnce(&SelectionExpression) -> String) -> Option<&MappingTemplate> {
        let Some(selection) = &self.selection else {
            return self.by_key.get(DEFAULT_KEY).or_else(|| self.by_key.get(JSON_KEY));
        };
        self.by_key.get(&key(selection)).or_else(|| self.by_key.get(DEFAULT_KEY))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    fn read(
        resource: &Resource<'_>,
        property: &str,
        parse: fn(&str) -> Result<SelectionExpression, SelectionError>,
    ) -> Result<Self, TemplateError> {
        let selection = resource.text("TemplateSelectionExpression").map(|expression| {
            parse(&expression)
                .map_err(|error| resource.error(format!("invalid TemplateSelectionExpression {expression}: {error}")))
        });
        let texts = resource.get(property).and_then(Value::as_object);
        let by_key = texts.into_iter().flatten().map(|(key, text)| {
            let text = text.as_str().ok_or_else(|| resource.error(format!("{property}, {key}: expected a string")))?;
            Ok((key.clone(), template(resource, &format!("{property}, {key}"), text)?))
        });
        Ok(Self {
            origin: format!("{}: {property}", resource.logical_id),
            selection: selection.transpose()?,
            by_key: by_key.collect::<Result<_, _>>()?,
        })
    }
}

fn template(resource: &Resource<'_>, place: &str, text: &str) -> Result<MappingTemplate, TemplateError> {
    MappingTemplate::parse(text).map_err(|error| resource.error(format!("{place}: {error}")))
}

pub(super) fn read(
    integration: &Resource<'_>,
    resources: &Resources<'_>,
    stage_variables: &BTreeMap<String, String>,
) -> Result<Integration, TemplateError> {
    let timeout = integration_timeout(integration.get("TimeoutInMillis"));
    let backend = match integration.required_text("IntegrationType")?.as_str() {
        "AWS_PROXY" => return Ok(Integration::Lambda { function: function(integration)?, timeout }),
        "HTTP_PROXY" => return Ok(Integration::HttpProxy { backend: http(integration, stage_variables)?, timeout }),
        "MOCK" => IntegrationBackend::Mock,
        "AWS" => match service(integration)? {
            Some(call) => IntegrationBackend::Service(call),
            None => IntegrationBackend::Lambda {
                function: function(integration)?,
                asynchronous: is_asynchronous(integration)?,
            },
        },
        "HTTP" => IntegrationBackend::Http(http(integration, stage_variables)?),
        other => {
            return Err(integration.error(format!(
                "invalid IntegrationType {other}: the emulator runs AWS, AWS_PROXY, HTTP, HTTP_PROXY and MOCK"
            )));
        }
    };
    let passthrough = match integration.text("PassthroughBehavior").as_deref() {
        None | Some("WHEN_NO_MATCH") => Passthrough::WhenNoMatch,
        Some("WHEN_NO_TEMPLATES") => Passthrough::WhenNoTemplates,
        Some("NEVER") => Passthrough::Never,
        Some(other) => {
            return Err(integration.error(format!(
                "invalid PassthroughBehavior {other}: expected WHEN_NO_MATCH, WHEN_NO_TEMPLATES or NEVER"
            )));
        }
    };
    let requests = MappingTemplates::read(integration, "RequestTemplates", SelectionExpression::parse)?;
    let is_of_this =
        |response: &&Resource<'_>| response.text("IntegrationId").is_some_and(|id| id == integration.logical_id);
    let responses = resources.of_type("AWS::ApiGatewayV2::IntegrationResponse").filter(is_of_this).map(response);
    let responses = responses.collect::<Result<_, _>>()?;
    Ok(Integration::Mapped(Box::new(MappedIntegration { backend, requests, passthrough, responses, timeout })))
}

fn response(response: &Resource<'_>) -> Result<IntegrationResponse, TemplateError> {
    let key = response.required_text("IntegrationResponseKey")?;
    let pattern =
        match key.strip_prefix('/').and_then(|key| key.strip_suffix('/')) {
            Some(pattern) => Some(Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
                response.error(format!("invalid IntegrationResponseKey {key}: {}", last_line(&error)))
            })?),
            None if key == DEFAULT_KEY => None,
            None => {
                return Err(
                    response.error(format!("invalid IntegrationResponseKey {key}: expected $default or a /pattern/"))
                );
            }
        };
    let templates = MappingTemplates::read(response, "ResponseTemplates", SelectionExpression::parse_for_response)?;
    Ok(IntegrationResponse { pattern, templates })
}

/// What is wrong with a pattern. The lines before draw where.
fn last_line(error: &regex::Error) -> String {
    error.to_string().lines().last().unwrap_or_default().to_owned()
}

/// The function that an integration of type AWS or AWS_PROXY invokes.
fn function(integration: &Resource<'_>) -> Result<String, TemplateError> {
    let uri = integration.required_text("IntegrationUri")?;
    let function = function_of(&uri);
    let function = function.ok_or_else(|| {
        integration.error(format!("invalid IntegrationUri {uri}: expected the address of a Lambda function"))
    })?;
    Ok(function.to_owned())
}

/// Whether Lambda is invoked asynchronously: the one parameter of its Invoke API that templates use.
fn is_asynchronous(integration: &Resource<'_>) -> Result<bool, TemplateError> {
    const TYPE: &str = "integration.request.header.X-Amz-Invocation-Type";
    let mut asynchronous = false;
    for (target, source) in request_parameters(integration) {
        match (target.eq_ignore_ascii_case(TYPE), source.as_str()) {
            (true, Some("'Event'")) => asynchronous = true,
            (true, Some("'RequestResponse'")) => {}
            _ => {
                return Err(integration.error(format!(
                    "RequestParameters, {target}: the emulator supports only {TYPE} as 'Event' or 'RequestResponse'"
                )));
            }
        }
    }
    Ok(asynchronous)
}

fn request_parameters<'a>(integration: &'a Resource<'_>) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let parameters: Option<&Map<String, Value>> = integration.get("RequestParameters").and_then(Value::as_object);
    parameters.into_iter().flatten()
}

fn http(integration: &Resource<'_>, stage_variables: &BTreeMap<String, String>) -> Result<HttpBackend, TemplateError> {
    if integration.text("ConnectionType").is_some_and(|kind| kind != "INTERNET") {
        return Err(
            integration.error("invalid ConnectionType: the emulator does not run private integrations (VPC links)")
        );
    }
    let method = integration.required_text("IntegrationMethod")?;
    let method: Method = method
        .parse()
        .map_err(|_| integration.error(format!("invalid IntegrationMethod {method}: expected an HTTP method")))?;
    if method.as_str() == "ANY" {
        return Err(integration.error("invalid IntegrationMethod ANY: a message has no method of its own, so name one"));
    }
    let mut uri = integration.required_text("IntegrationUri")?;
    for (name, value) in stage_variables {
        uri = uri.replace(&format!("${{stageVariables.{name}}}"), value);
    }
    if !(uri.starts_with("http://") || uri.starts_with("https://")) || uri.contains("${") {
        return Err(integration.error(format!("invalid IntegrationUri {uri}: expected an http:// or https:// address")));
    }
    Ok(HttpBackend { method, uri, parameters: parameters(integration)? })
}

/// Request parameters: where each goes, and a template for its value.
fn parameters(integration: &Resource<'_>) -> Result<Vec<(ParameterTarget, MappingTemplate)>, TemplateError> {
    let mut parameters = Vec::new();
    for (target, source) in request_parameters(integration) {
        let place = format!("RequestParameters, {target}");
        let source = scalar::as_text(source).unwrap_or_default();
        let text = parameter(&source).ok_or_else(|| integration.error(format!("{place}: invalid source {source}")))?;
        let value = template(integration, &place, &text)?;
        let part = target.strip_prefix("integration.request.").and_then(|part| part.split_once('.'));
        let part = part.and_then(|(part, name)| match part {
            "header" => name.parse().ok().map(ParameterTarget::Header),
            "querystring" => Some(ParameterTarget::Query(name.to_owned())),
            "path" => Some(ParameterTarget::Path(name.to_owned())),
            _ => None,
        });
        let part = part.ok_or_else(|| {
            integration
                .error(format!("{place}: expected integration.request.header.NAME, .querystring.NAME or .path.NAME"))
        })?;
        parameters.push((part, value));
    }
    Ok(parameters)
}

/// The call of another service than Lambda. Its headers have no effect here: the body shows what protocol it is in.
fn service(integration: &Resource<'_>) -> Result<Option<ServiceCall>, TemplateError> {
    let call = service_integrations::read(integration, &integration.required_text("IntegrationUri")?)?;
    let Some(call) = call else { return Ok(None) };
    let query = parameters(integration)?.into_iter().filter_map(|(target, value)| match target {
        ParameterTarget::Query(name) => Some((name, value)),
        ParameterTarget::Header(_) | ParameterTarget::Path(_) => None,
    });
    Ok(Some(ServiceCall { query: query.collect(), ..call }))
}

/// Turns a mapping expression into a template.
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

    /// The error of a template with this integration on line 3.
    fn refusal(integration: &str, rest: &str) -> String {
        let text = format!(
            "Resources:\n  Api: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
             RouteSelectionExpression: $request.body.a }} }}\n  \
             I: {{ Type: AWS::ApiGatewayV2::Integration, Properties: {{ ApiId: !Ref Api, {integration} }} }}\n  \
             R: {{ Type: AWS::ApiGatewayV2::Route, Properties: {{ ApiId: !Ref Api, RouteKey: a, Target: !Sub \
             'integrations/${{I}}' }} }}\n{rest}"
        );
        super::super::Template::parse(&text, &crate::TemplateInputs::default()).expect_err(integration).to_string()
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
        check("IntegrationType: MOCK, RequestTemplates: { a: [] }", "RequestTemplates, a: expected a string");
        check(
            "IntegrationType: MOCK, TemplateSelectionExpression: '${request.header.x}'",
            "invalid TemplateSelectionExpression ${request.header.x}: unsupported variable `$request.header.x`: \
             expected `$request.body`",
        );
        check(
            "IntegrationType: MOCK, PassthroughBehavior: SOMETIMES",
            "invalid PassthroughBehavior SOMETIMES: expected WHEN_NO_MATCH, WHEN_NO_TEMPLATES or NEVER",
        );
        check(
            "IntegrationType: AWS, IntegrationUri: 'arn:aws:sqs:eu-central-1:1:q'",
            "invalid IntegrationUri arn:aws:sqs:eu-central-1:1:q: expected the address of a Lambda function",
        );
        check(
            "IntegrationType: AWS, IntegrationUri: 'arn:aws:lambda:eu-central-1:000000000000:function:f', \
             RequestParameters: { integration.request.header.A: \"'b'\" }",
            "RequestParameters, integration.request.header.A: the emulator supports only \
             integration.request.header.X-Amz-Invocation-Type as 'Event' or 'RequestResponse'",
        );
        check("IntegrationType: HTTP_PROXY, IntegrationMethod: POST", "IntegrationUri is missing");
        check("IntegrationType: HTTP, IntegrationUri: 'http://x'", "IntegrationMethod is missing");
        check(
            "IntegrationType: HTTP, IntegrationMethod: ANY, IntegrationUri: 'http://x'",
            "invalid IntegrationMethod ANY: a message has no method of its own, so name one",
        );
        check(
            "IntegrationType: HTTP, IntegrationMethod: GET, IntegrationUri: 'http://${stageVariables.none}'",
            "invalid IntegrationUri http://${stageVariables.none}: expected an http:// or https:// address",
        );
        check(
            "IntegrationType: HTTP, ConnectionType: VPC_LINK",
            "invalid ConnectionType: the emulator does not run private integrations (VPC links)",
        );
        let parameter = "IntegrationType: HTTP, IntegrationMethod: GET, IntegrationUri: 'http://x', RequestParameters:";
        check(
            &format!("{parameter} {{ integration.request.body.a: context.stage }}"),
            "RequestParameters, integration.request.body.a: expected integration.request.header.NAME, \
             .querystring.NAME or .path.NAME",
        );
        check(
            &format!("{parameter} {{ integration.request.header.a: route.request.cookie.b }}"),
            "RequestParameters, integration.request.header.a: invalid source route.request.cookie.b",
        );
    }

    #[test]
    fn an_integration_response_is_refused_with_its_own_name_and_line() {
        let check = |response: &str, expected: &str| {
            let response = format!(
                "  P: {{ Type: AWS::ApiGatewayV2::IntegrationResponse, Properties: {{ ApiId: !Ref Api, IntegrationId: \
                 !Ref I, {response} }} }}\n"
            );
            assert_eq!(refusal("IntegrationType: MOCK", &response), format!("line 5: P: {expected}"));
        };
        check("IntegrationResponseKey: '200'", "invalid IntegrationResponseKey 200: expected $default or a /pattern/");
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
