//! REST APIs in CloudFormation's form: `AWS::ApiGateway::RestApi` with resources and methods, as the CDK and the
//! Serverless Framework write them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    HttpApis, authorizers,
    http::proxied,
    model::{ANY, HttpApi, HttpApiKind, HttpAuthorization, HttpRoute, MockResponse, PayloadVersion, RouteBackend},
};
use crate::template::{
    references::{function_of, integration_timeout},
    resources::{Resource, Resources},
    scalar,
};

/// Most resources from the root to a resource. Source: API Gateway has a limit of 300 resources in an API.
const DEPTH_MAX: usize = 300;

/// The stage of an API without one.
const STAGE_DEFAULT: &str = "prod";

pub(super) fn read(resources: &Resources<'_>, found: &mut HttpApis) {
    for resource in resources.of_type("AWS::ApiGateway::RestApi") {
        let mut api = HttpApi::new(&resource.logical_id, &resource.name, HttpApiKind::Rest);
        let stages = stages(&api.api_id, resources);
        api.stage = stages.first().map_or_else(|| STAGE_DEFAULT.to_owned(), |(name, _)| name.clone());
        let variables = stages.first().and_then(|(_, variables)| variables.and_then(Value::as_object));
        let variables = variables.into_iter().flatten();
        api.stage_variables =
            variables.filter_map(|(name, value)| Some((name.clone(), scalar::as_text(value)?))).collect();
        for (other, _) in stages.iter().filter(|(name, _)| *name != api.stage) {
            let (stage, name) = (&api.stage, &api.name);
            found.notes.push(format!("the stage {other} of {name} is not served: the emulator serves {stage}"));
        }
        let types = resource.get("BinaryMediaTypes").and_then(Value::as_array).into_iter().flatten();
        api.binary_types = types.filter_map(scalar::as_text).collect();
        let document = ["Body", "BodyS3Location"].into_iter().find(|name| resource.has(name));
        api.unserved = document.map(|name| format!("its routes are in an OpenAPI document ({name})"));
        read_methods(&mut api, resources, found);
        found.apis.push(api);
    }
    let of_methods = resources.of_type("AWS::ApiGateway::Method").filter_map(|method| method.text("RestApiId"));
    for id in of_methods.collect::<BTreeSet<_>>() {
        if !found.apis.iter().any(|api| api.api_id == id) {
            let mut api = HttpApi::new(&id, &id, HttpApiKind::Rest);
            api.is_declared = false;
            api.stage = stages(&id, resources).into_iter().next().map_or(api.stage, |(name, _)| name);
            read_methods(&mut api, resources, found);
            found.apis.push(api);
        }
    }
}

/// The stages of an API with their variables: deployments may make one too.
fn stages<'a>(api_id: &str, resources: &'a Resources<'_>) -> Vec<(String, Option<&'a Value>)> {
    let of_api = |other: &&Resource<'_>| is_of(other, api_id);
    let stages = resources.of_type("AWS::ApiGateway::Stage").filter(of_api);
    let stages = stages.map(|stage| (stage.name.clone(), stage.get("Variables")));
    let deployments = resources.of_type("AWS::ApiGateway::Deployment").filter(of_api);
    stages.chain(deployments.filter_map(|deployment| Some((deployment.text("StageName")?, None)))).collect()
}

fn is_of(resource: &Resource<'_>, api_id: &str) -> bool {
    resource.text("RestApiId").is_some_and(|id| id == api_id)
}

fn read_methods(api: &mut HttpApi, resources: &Resources<'_>, found: &mut HttpApis) {
    let methods = resources.of_type("AWS::ApiGateway::Method").filter(|method| is_of(method, &api.api_id));
    for method in methods.collect::<Vec<_>>() {
        let Some(path) = path_of(method, &api.api_id, resources) else {
            let name = &method.logical_id;
            found.notes.push(format!("the method {name} is not served: the template does not have its resource"));
            continue;
        };
        let http_method = method.text("HttpMethod").unwrap_or_else(|| ANY.to_owned());
        let mut route = HttpRoute::new(&http_method, &path, backend(method, &api.stage_variables, found));
        route.authorization = authorization(method, resources, &api.stage_variables);
        let scopes = method.get("AuthorizationScopes").and_then(Value::as_array).into_iter().flatten();
        route.scopes = scopes.filter_map(scalar::as_text).collect();
        route.needs_api_key = authorizers::is_true(method.get("ApiKeyRequired"));
        api.routes.push(route);
    }
}

/// The path of a method's resource: from its parents, up to the root of the API.
fn path_of(method: &Resource<'_>, api_id: &str, resources: &Resources<'_>) -> Option<String> {
    let mut path = String::new();
    let mut id = method.text("ResourceId")?;
    for _ in 0..DEPTH_MAX {
        if id == api_id {
            return Some(if path.is_empty() { "/".to_owned() } else { path });
        }
        let resource = resources.of_type("AWS::ApiGateway::Resource").find(|resource| resource.logical_id == id)?;
        path = format!("/{}{path}", resource.text("PathPart")?);
        id = resource.text("ParentId")?;
    }
    None
}

fn backend(method: &Resource<'_>, stage_variables: &BTreeMap<String, String>, found: &mut HttpApis) -> RouteBackend {
    let Some(integration) = method.get("Integration") else {
        return RouteBackend::Unserved("it has no integration".to_owned());
    };
    let text = |name: &str| integration.get(name).and_then(scalar::as_text);
    let unserved = |what: &str| {
        RouteBackend::Unserved(format!("the emulator does not run the integration of {}, {what}", method.logical_id))
    };
    let timeout = integration_timeout(integration.get("TimeoutInMillis"));
    let mut uri = text("Uri").unwrap_or_default();
    for (variable, value) in stage_variables {
        uri = uri.replace(&format!("${{stageVariables.{variable}}}"), value);
    }
    if text("ConnectionType").is_some_and(|kind| kind != "INTERNET") {
        return unserved("which is private (VPC link)");
    }
    match text("Type").as_deref() {
        Some("AWS_PROXY") => match function_of(&uri) {
            Some(function) => {
                RouteBackend::Lambda { function: function.to_owned(), payload: PayloadVersion::V1, timeout }
            }
            None => unserved(&format!("whose address {uri} is no function")),
        },
        Some("HTTP_PROXY") => {
            let parameters = integration.get("RequestParameters").and_then(Value::as_object).into_iter().flatten();
            let is_same = |(target, source): (&String, &Value)| {
                let name = target.strip_prefix("integration.request.path.");
                name.is_some_and(|name| source.as_str() == Some(&format!("method.request.path.{name}")))
            };
            if !parameters.into_iter().all(is_same) {
                return unserved("which maps parameters");
            }
            proxied(&uri, text("IntegrationHttpMethod").filter(|method| method != ANY), timeout)
        }
        Some("MOCK") => match mock(integration) {
            Ok((response, note)) => {
                let name = &method.logical_id;
                found.notes.extend(note.map(|note| format!("{name} answers without its {note}, which is a template")));
                RouteBackend::Mock(response)
            }
            Err(what) => unserved(&what),
        },
        other => unserved(&format!("which is of type {}", other.unwrap_or("(none)"))),
    }
}

/// The response of a MOCK integration, as frameworks write it for preflight requests: its headers are texts. Says what
/// of it is left out.
fn mock(integration: &Value) -> Result<(MockResponse, Option<&'static str>), String> {
    let responses = integration.get("IntegrationResponses").and_then(Value::as_array);
    let responses = responses.ok_or("which has no IntegrationResponses")?;
    let is_default = |response: &&Value| response.get("SelectionPattern").is_none();
    let response = responses.iter().find(is_default).ok_or("which has no default response")?;
    let status = response.get("StatusCode").and_then(scalar::as_text).and_then(|status| status.parse().ok());
    let status = status.ok_or("whose response has no StatusCode")?;
    let mut headers = BTreeMap::new();
    for (target, value) in response.get("ResponseParameters").and_then(Value::as_object).into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let text = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
        let (Some(name), Some(text)) = (target.strip_prefix("method.response.header."), text) else {
            return Err(format!("whose response maps {target}"));
        };
        headers.insert(name.to_ascii_lowercase(), text.to_owned());
    }
    let template = response.pointer("/ResponseTemplates/application~1json").and_then(scalar::as_text);
    let template = template.unwrap_or_default();
    let is_template = template.contains(['#', '$']);
    let note = is_template.then_some("response template");
    Ok((MockResponse { status, headers, body: if is_template { String::new() } else { template } }, note))
}

fn authorization(
    method: &Resource<'_>,
    resources: &Resources<'_>,
    stage_variables: &BTreeMap<String, String>,
) -> HttpAuthorization {
    match method.text("AuthorizationType").as_deref() {
        None | Some("NONE") => return HttpAuthorization::None,
        Some("AWS_IAM") => return HttpAuthorization::Iam,
        Some("CUSTOM" | "COGNITO_USER_POOLS") => {}
        Some(other) => return HttpAuthorization::Unserved(format!("its AuthorizationType {other} is unknown")),
    }
    let id = method.text("AuthorizerId").unwrap_or_default();
    match authorizers::find(resources, "AWS::ApiGateway::Authorizer", &id) {
        Some(authorizer) => authorizers::of_rest_api(authorizer, stage_variables),
        None => authorizers::unserved(&id, "is not in the template"),
    }
}
