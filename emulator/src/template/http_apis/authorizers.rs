//! Authorizers of HTTP and REST APIs. What the emulator cannot decide it refuses, with the reason.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::model::{
    AuthorizerInput, HttpApi, HttpApiKind, HttpAuthorization, HttpAuthorizer, HttpIdentitySource, HttpRoute,
    JwtAuthorizer, PayloadVersion,
};
use crate::aws::URL_SUFFIX;
use crate::template::{
    references::function_of,
    resources::{Resource, Resources},
    scalar,
};

/// The header of a token where nothing else is named.
const AUTHORIZATION: &str = "Authorization";

/// Sets who may use a route of an HTTP API, or a method of a REST API, in CloudFormation's form. What cannot be read
/// closes it.
pub(super) fn secure(route: &mut HttpRoute, api: &HttpApi, resource: &Resource<'_>, resources: &Resources<'_>) {
    route.authorization = of_route(api, resource, resources);
    let scopes = scalar::all_texts(resource.get("AuthorizationScopes"));
    let needs_api_key = match api.kind {
        HttpApiKind::Http => Some(false),
        HttpApiKind::Rest => scalar::truth(resource.get("ApiKeyRequired")),
    };
    let unread = |property: &str| format!("line {}: its {property} cannot be read", resource.line);
    for property in ["ApiKeyRequired", "AuthorizationScopes", "AuthorizationType"] {
        if resource.node(property).is_some_and(|node| node.unread_line().is_some()) {
            route.authorization = HttpAuthorization::Unserved(unread(property));
        }
    }
    match (scopes, needs_api_key) {
        (Some(scopes), Some(needs_api_key)) => (route.scopes, route.needs_api_key) = (scopes, needs_api_key),
        (None, _) => route.authorization = HttpAuthorization::Unserved(unread("AuthorizationScopes")),
        (_, None) => route.authorization = HttpAuthorization::Unserved(unread("ApiKeyRequired")),
    }
}

fn of_route(api: &HttpApi, route: &Resource<'_>, resources: &Resources<'_>) -> HttpAuthorization {
    let (by_authorizer, authorizers) = match api.kind {
        HttpApiKind::Http => (["CUSTOM", "JWT"], "AWS::ApiGatewayV2::Authorizer"),
        HttpApiKind::Rest => (["CUSTOM", "COGNITO_USER_POOLS"], "AWS::ApiGateway::Authorizer"),
    };
    let kind = route.get("AuthorizationType").filter(|kind| !kind.is_null());
    match kind.map(|kind| scalar::as_text(kind).unwrap_or_else(|| kind.to_string())).as_deref() {
        None | Some("NONE") => return HttpAuthorization::None,
        Some("AWS_IAM") => return HttpAuthorization::Iam,
        Some(kind) if by_authorizer.contains(&kind) => {}
        Some(other) => return HttpAuthorization::Unserved(format!("its AuthorizationType {other} is unknown")),
    }
    let id = route.text("AuthorizerId").unwrap_or_default();
    match (find(resources, authorizers, &id), api.kind) {
        (Some(authorizer), HttpApiKind::Http) => of_http_api(authorizer, &api.stage_variables),
        (Some(authorizer), HttpApiKind::Rest) => of_rest_api(authorizer, &api.stage_variables),
        (None, _) => unserved(&id, "is not in the template"),
    }
}

/// Reads `AWS::ApiGatewayV2::Authorizer`.
fn of_http_api(authorizer: &Resource<'_>, stage_variables: &BTreeMap<String, String>) -> HttpAuthorization {
    let name = &authorizer.logical_id;
    let sources = match authorizer.get("IdentitySource") {
        None | Some(Value::Null) => &[],
        Some(Value::Array(sources)) => sources.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    let sources = sources.iter().map(|source| http_source(source, stage_variables));
    let sources: Vec<HttpIdentitySource> = match sources.collect::<Result<_, _>>() {
        Ok(sources) => sources,
        Err(source) => return unserved(name, &format!("has the identity source {source}")),
    };
    match authorizer.text("AuthorizerType").as_deref() {
        Some("JWT") => {
            jwt(name, sources.into_iter().next(), authorizer.get("JwtConfiguration"), ["Issuer", "Audience"])
        }
        Some("REQUEST") => {
            let uri = authorizer.text("AuthorizerUri").unwrap_or_default();
            let payload = payload(authorizer.text("AuthorizerPayloadFormatVersion").as_deref());
            let is_simple = is_true(authorizer.get("EnableSimpleResponses"));
            lambda(name, &uri, AuthorizerInput::Request { sources, payload }, is_simple)
        }
        other => unserved(name, &format!("is of type {}", other.unwrap_or("(none)"))),
    }
}

/// Reads `AWS::ApiGateway::Authorizer`.
fn of_rest_api(authorizer: &Resource<'_>, stage_variables: &BTreeMap<String, String>) -> HttpAuthorization {
    let name = &authorizer.logical_id;
    let text = match authorizer.get("IdentitySource") {
        None | Some(Value::Null) => String::new(),
        Some(source) => scalar::as_text(source).unwrap_or_else(|| source.to_string()),
    };
    let sources = text.split(',').map(str::trim).filter(|source| !source.is_empty());
    let sources = sources.map(|source| rest_source(source, stage_variables));
    let sources: Vec<HttpIdentitySource> = match sources.collect::<Result<_, _>>() {
        Ok(sources) => sources,
        Err(source) => return unserved(name, &format!("has the identity source {source}")),
    };
    let uri = authorizer.text("AuthorizerUri").unwrap_or_default();
    match authorizer.text("Type").as_deref() {
        Some("TOKEN") => {
            let header = sources.into_iter().find_map(|source| match source {
                HttpIdentitySource::Header(header) => Some(header),
                HttpIdentitySource::Query(_) | HttpIdentitySource::Constant(_) => None,
            });
            token(name, &uri, header, authorizer.get("IdentityValidationExpression"))
        }
        Some("REQUEST") => lambda(name, &uri, AuthorizerInput::Request { sources, payload: PayloadVersion::V1 }, false),
        Some("COGNITO_USER_POOLS") => cognito(name, sources.into_iter().next(), authorizer.get("ProviderARNs")),
        other => unserved(name, &format!("is of type {}", other.unwrap_or("(none)"))),
    }
}

/// Reads an entry of `Auth.Authorizers` of `AWS::Serverless::HttpApi`.
pub(super) fn of_sam_http(name: &str, given: &Value, stage_variables: &BTreeMap<String, String>) -> HttpAuthorization {
    if let Some(configuration) = given.get("JwtConfiguration") {
        let source = given.get("IdentitySource").map(|source| http_source(source, stage_variables));
        return match source.transpose() {
            Ok(source) => jwt(name, source, Some(configuration), ["issuer", "audience"]),
            Err(source) => unserved(name, &format!("has the identity source {source}")),
        };
    }
    let function = given.get("FunctionArn").and_then(scalar::as_text).unwrap_or_default();
    let sources = match sam_sources(given, stage_variables) {
        Ok(sources) => sources,
        Err(source) => return unserved(name, &format!("has the identity source {source}")),
    };
    let version = given.get("AuthorizerPayloadFormatVersion").and_then(scalar::as_text);
    let payload = payload(version.as_deref());
    let is_simple = is_true(given.get("EnableSimpleResponses"));
    lambda(name, &function, AuthorizerInput::Request { sources, payload }, is_simple)
}

/// Reads an entry of `Auth.Authorizers` of `AWS::Serverless::Api`.
pub(super) fn of_sam_rest(name: &str, given: &Value, stage_variables: &BTreeMap<String, String>) -> HttpAuthorization {
    if let Some(pools) = given.get("UserPoolArn") {
        let header = given.pointer("/Identity/Header").and_then(scalar::as_text);
        return cognito(name, header.map(HttpIdentitySource::Header), Some(pools));
    }
    let function = given.get("FunctionArn").and_then(scalar::as_text).unwrap_or_default();
    let identity = |name: &str| given.pointer(&format!("/Identity/{name}")).and_then(scalar::as_text);
    match given.get("FunctionPayloadType").and_then(Value::as_str) {
        None | Some("TOKEN") => {
            token(name, &function, identity("Header"), given.pointer("/Identity/ValidationExpression"))
        }
        Some("REQUEST") => match sam_sources(given, stage_variables) {
            Ok(sources) => {
                lambda(name, &function, AuthorizerInput::Request { sources, payload: PayloadVersion::V1 }, false)
            }
            Err(source) => unserved(name, &format!("has the identity source {source}")),
        },
        Some(other) => unserved(name, &format!("has the FunctionPayloadType {other}")),
    }
}

/// Reads the authorizer of a security scheme in an OpenAPI document.
pub(super) fn of_open_api(name: &str, scheme: &Value, given: &Value, api: &HttpApi) -> HttpAuthorization {
    let text = |field: &str| given.get(field).and_then(scalar::as_text);
    let sources: Result<Vec<HttpIdentitySource>, String> = match (given.get("identitySource"), api.kind) {
        (Some(Value::Array(sources)), _) => {
            sources.iter().map(|source| http_source(source, &api.stage_variables)).collect()
        }
        (Some(source), HttpApiKind::Http) => http_source(source, &api.stage_variables).map(|source| vec![source]),
        (Some(source), HttpApiKind::Rest) => {
            let sources = source.as_str().unwrap_or_default().split(',').map(str::trim);
            sources.map(|source| rest_source(source, &api.stage_variables)).collect()
        }
        (None, _) => Ok(Vec::new()),
    };
    let uri = text("authorizerUri").unwrap_or_default();
    match (text("type").unwrap_or_default().to_ascii_lowercase().as_str(), sources) {
        (_, Err(source)) => unserved(name, &format!("has the identity source {source}")),
        ("jwt", Ok(sources)) => {
            jwt(name, sources.into_iter().next(), given.get("jwtConfiguration"), ["issuer", "audience"])
        }
        ("token", Ok(_)) => {
            let header = scheme.get("name").and_then(scalar::as_text);
            token(name, &uri, header, given.get("identityValidationExpression"))
        }
        ("request", Ok(sources)) => {
            let payload = payload(text("authorizerPayloadFormatVersion").as_deref());
            let is_simple = is_true(given.get("enableSimpleResponses"));
            lambda(name, &uri, AuthorizerInput::Request { sources, payload }, is_simple)
        }
        ("cognito_user_pools", Ok(_)) => {
            let header = scheme.get("name").and_then(scalar::as_text);
            cognito(name, header.map(HttpIdentitySource::Header), given.get("providerARNs"))
        }
        (other, Ok(_)) => unserved(name, &format!("is of type {other}")),
    }
}

/// Finds the authorizer that a route or method names.
fn find<'a, 'b>(resources: &'a Resources<'b>, kind: &str, id: &str) -> Option<&'a Resource<'b>> {
    resources.all().find(|resource| resource.kind == kind && resource.logical_id == id)
}

/// Refuses everything, because an authorizer is not supported.
pub(super) fn unserved(name: &str, why: &str) -> HttpAuthorization {
    HttpAuthorization::Unserved(format!("its authorizer {name} {why}, which the emulator cannot decide"))
}

/// Checks tokens of a user pool, which has to be one of AWS.
fn cognito(name: &str, source: Option<HttpIdentitySource>, pools: Option<&Value>) -> HttpAuthorization {
    let issuer = match scalar::all_texts(pools).as_deref() {
        Some([pool]) => issuer_of(pool),
        Some([]) => return unserved(name, "names no Cognito user pool"),
        Some(_) => return unserved(name, "checks tokens of several Cognito user pools"),
        None => return unserved(name, "names Cognito user pools by something other than texts"),
    };
    let Some(issuer) = issuer else {
        let why = "checks tokens of a Cognito user pool that only AWS knows (set its ARN with --value)";
        return unserved(name, why);
    };
    let source = source.unwrap_or_else(|| HttpIdentitySource::Header(AUTHORIZATION.to_owned()));
    HttpAuthorization::Jwt(JwtAuthorizer { source, issuer, audiences: None })
}

/// The issuer of a user pool's tokens. The ids of real ones begin with their region.
fn issuer_of(pool: &str) -> Option<String> {
    let (_, id) = pool.split_once(":userpool/")?;
    let (region, rest) = id.split_once('_')?;
    let is_region = region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let is_id = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_region && is_id).then(|| format!("https://cognito-idp.{region}.{URL_SUFFIX}/{id}"))
}

fn lambda(name: &str, address: &str, input: AuthorizerInput, is_simple: bool) -> HttpAuthorization {
    let function = function_of(address).unwrap_or(address);
    if function.is_empty() {
        return unserved(name, "names no function");
    }
    HttpAuthorization::Lambda(HttpAuthorizer { function: function.to_owned(), input, is_simple })
}

fn token(name: &str, address: &str, header: Option<String>, pattern: Option<&Value>) -> HttpAuthorization {
    let header = header.unwrap_or_else(|| AUTHORIZATION.to_owned());
    let read = |pattern: &Value| Regex::new(&format!("^(?:{})$", scalar::as_text(pattern)?)).ok();
    let pattern = pattern.filter(|pattern| !pattern.is_null());
    match pattern.map(|pattern| read(pattern).ok_or(())).transpose() {
        Ok(pattern) => lambda(name, address, AuthorizerInput::Token { header, pattern }, false),
        Err(()) => unserved(name, "has a validation expression that is not a regular expression here"),
    }
}

fn jwt(
    name: &str,
    source: Option<HttpIdentitySource>,
    configuration: Option<&Value>,
    [issuer, audience]: [&str; 2],
) -> HttpAuthorization {
    let property = |name: &str| {
        let fields = configuration.and_then(Value::as_object)?;
        fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let Some(issuer) = property(issuer).and_then(scalar::as_text) else { return unserved(name, "names no issuer") };
    let Some(audiences) = scalar::all_texts(property(audience)) else {
        return unserved(name, "names audiences that are not texts");
    };
    let source = source.unwrap_or_else(|| HttpIdentitySource::Header(AUTHORIZATION.to_owned()));
    HttpAuthorization::Jwt(JwtAuthorizer { source, issuer, audiences: Some(audiences) })
}

/// The sources of SAM: `Identity` with lists of names. An error is the source that is not supported.
fn sam_sources(given: &Value, stage_variables: &BTreeMap<String, String>) -> Result<Vec<HttpIdentitySource>, String> {
    let names = |list: &str| {
        let names = given.pointer(&format!("/Identity/{list}"));
        scalar::all_texts(names).ok_or_else(|| format!("{list}, which are not texts"))
    };
    if let Some(name) = names("Context")?.first() {
        return Err(format!("context.{name}"));
    }
    let headers = names("Headers")?.into_iter().map(HttpIdentitySource::Header);
    let queries = names("QueryStrings")?.into_iter().map(HttpIdentitySource::Query);
    let variables = names("StageVariables")?.into_iter().map(|name| variable(&name, stage_variables));
    Ok(headers.chain(queries).chain(variables).collect())
}

fn variable(name: &str, stage_variables: &BTreeMap<String, String>) -> HttpIdentitySource {
    HttpIdentitySource::Constant(stage_variables.get(name).cloned().unwrap_or_default())
}

fn http_source(source: &Value, stage_variables: &BTreeMap<String, String>) -> Result<HttpIdentitySource, String> {
    let text = source.as_str().unwrap_or_default();
    let part = text.strip_prefix("$request.").and_then(|part| part.split_once('.'));
    match (part, text.strip_prefix("$stageVariables.")) {
        (Some(("header", name)), _) => Ok(HttpIdentitySource::Header(name.to_owned())),
        (Some(("querystring", name)), _) => Ok(HttpIdentitySource::Query(name.to_owned())),
        (_, Some(name)) => Ok(variable(name, stage_variables)),
        _ => Err(source.to_string()),
    }
}

fn rest_source(source: &str, stage_variables: &BTreeMap<String, String>) -> Result<HttpIdentitySource, String> {
    let part = source.strip_prefix("method.request.").and_then(|part| part.split_once('.'));
    match (part, source.strip_prefix("stageVariables.")) {
        (Some(("header", name)), _) => Ok(HttpIdentitySource::Header(name.to_owned())),
        (Some(("querystring", name)), _) => Ok(HttpIdentitySource::Query(name.to_owned())),
        (_, Some(name)) => Ok(variable(name, stage_variables)),
        _ => Err(source.to_owned()),
    }
}

/// The version of an event. Without one it is the first.
pub(super) fn payload(version: Option<&str>) -> PayloadVersion {
    // `2.0` without quotes is a number, whose text is `2.0` or `2`.
    if version.is_some_and(|version| version.starts_with('2')) { PayloadVersion::V2 } else { PayloadVersion::V1 }
}

pub(super) fn is_true(value: Option<&Value>) -> bool {
    value.and_then(scalar::as_text).is_some_and(|text| text == "true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{Template, TemplateInputs};

    fn route(resources: &str) -> HttpRoute {
        let text = format!(
            "Resources:\n  Ws: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, \
             RouteSelectionExpression: $request.body.a }} }}\n{resources}"
        );
        Template::parse(&text, &TemplateInputs::default()).expect("valid").http_apis.remove(0).routes.remove(0)
    }

    #[test]
    fn what_cannot_be_read_of_a_method_closes_it() {
        let method = |properties: &str| {
            route(&format!(
                "  Shop: {{ Type: AWS::ApiGateway::RestApi }}\n  Get: {{ Type: AWS::ApiGateway::Method, Properties: {{ \
                 RestApiId: !Ref Shop, ResourceId: !GetAtt Shop.RootResourceId, HttpMethod: GET, {properties} }} }}\n  \
                 By: {{ Type: AWS::ApiGateway::Authorizer, Properties: {{ Type: TOKEN, AuthorizerUri: F, \
                 IdentityValidationExpression: {{ a: b }} }} }}\n  All: {{ Type: AWS::ApiGateway::Authorizer, \
                 Properties: {{ Type: REQUEST, AuthorizerUri: F, IdentitySource: [method.request.header.A] }} }}\n  \
                 Pools: {{ Type: AWS::ApiGateway::Authorizer, Properties: {{ Type: COGNITO_USER_POOLS, ProviderARNs: \
                 [[a]] }} }}\n  Nobody: {{ Type: AWS::ApiGateway::Authorizer, Properties: {{ Type: \
                 COGNITO_USER_POOLS, ProviderARNs: [] }} }}\n"
            ))
        };
        for (properties, reason) in [
            ("AuthorizationType: [AWS_IAM]", "its AuthorizationType [\"AWS_IAM\"] is unknown"),
            ("AuthorizationType: { Fn::Transform: { Name: x } }", "line 4: its AuthorizationType cannot be read"),
            ("ApiKeyRequired: { a: b }", "line 4: its ApiKeyRequired cannot be read"),
            ("AuthorizationScopes: { a: b }", "line 4: its AuthorizationScopes cannot be read"),
            ("AuthorizationType: CUSTOM, AuthorizerId: !Ref By", "its authorizer By has a validation expression"),
            ("AuthorizationType: CUSTOM, AuthorizerId: !Ref Pools", "its authorizer Pools names Cognito user pools by"),
            (
                "AuthorizationType: CUSTOM, AuthorizerId: !Ref Nobody",
                "its authorizer Nobody names no Cognito user pool",
            ),
            (
                "AuthorizationType: CUSTOM, AuthorizerId: !Ref All",
                "its authorizer All has the identity source [\"method",
            ),
        ] {
            let read = method(properties);
            let HttpAuthorization::Unserved(found) = &read.authorization else { panic!("{properties}: {read:?}") };
            assert!(found.starts_with(reason), "{properties}: {found}");
        }
        let read = method("AuthorizationScopes: one, ApiKeyRequired: 'True'");
        assert_eq!((read.scopes, read.needs_api_key), (vec!["one".to_owned()], true));
    }

    #[test]
    fn a_document_is_closed_whose_security_a_transform_adds() {
        let include = "Fn::Transform: { Name: AWS::Include }";
        let of_operation = |more: &str| format!("paths: {{ /a: {{ get: {{ {more} }} }} }}");
        for document in [
            format!("{}, securityDefinitions: {{ {include} }}", of_operation("")),
            format!("{}, x-amazon-apigateway-policy: {{ Statement: [{{ {include} }}] }}", of_operation("")),
            format!("{}, {include}", of_operation("")),
            of_operation(&format!("security: [{{ {include} }}]")),
            of_operation(&format!("summary: A, {include}")),
        ] {
            for (kind, properties) in [
                ("AWS::ApiGateway::RestApi", "Body"),
                ("AWS::ApiGatewayV2::Api", "ProtocolType: HTTP, Body"),
                ("AWS::Serverless::Api", "StageName: v1, DefinitionBody"),
                ("AWS::Serverless::HttpApi", "DefinitionBody"),
            ] {
                let text = format!("  Shop: {{ Type: '{kind}', Properties: {{ {properties}: {{ {document} }} }} }}\n");
                let authorization = route(&text).authorization;
                assert!(matches!(authorization, HttpAuthorization::Unserved(_)), "{text}: {authorization:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_of_an_operation_closes_it() {
        let operation = |settings: &str| {
            route(&format!(
                "  Shop: {{ Type: AWS::ApiGateway::RestApi, Properties: {{ Body: {{ paths: {{ /a: {{ get: {{ \
                 {settings} }} }} }}, securityDefinitions: {{ by: {{ x-amazon-apigateway-authorizer: {{ type: token, \
                 authorizerUri: F }} }} }} }} }} }}\n"
            ))
        };
        for (settings, reason) in [
            ("security: { key: [] }", "its security is not a list of objects"),
            ("security: [key]", "its security is not a list of objects"),
            ("security: [{ by: [{ a: b }] }]", "its authorizer by has scopes that are not texts"),
            ("x-amazon-apigateway-auth: { type: iam }", "its x-amazon-apigateway-auth has a type other than"),
            ("x-amazon-apigateway-auth: {}", "its x-amazon-apigateway-auth has a type other than"),
        ] {
            let read = operation(settings);
            let HttpAuthorization::Unserved(found) = &read.authorization else { panic!("{settings}: {read:?}") };
            assert!(found.starts_with(reason), "{settings}: {found}");
        }
        let of = |kind: &str| operation(&format!("x-amazon-apigateway-auth: {{ type: {kind} }}")).authorization;
        assert!(matches!(of("aws_iam"), HttpAuthorization::Iam) && matches!(of("None"), HttpAuthorization::None));
    }
}
