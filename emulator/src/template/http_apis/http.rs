//! HTTP APIs in CloudFormation's form: `AWS::ApiGatewayV2::Api` with the protocol HTTP.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    HttpApis, authorizers,
    backends::{IntegrationSettings, backend_of, proxied},
    cors, elsewhere,
    model::{ANY, DEFAULT, HttpApi, HttpApiKind, HttpAuthorization, HttpRoute, PayloadVersion, RouteBackend},
    open_api, transformed,
};
use crate::template::{
    error::TemplateError,
    references::{function_of, http_integration_timeout, stage_variables},
    resources::{Resource, Resources},
    throttles::Throttles,
};

pub(super) fn read(resources: &Resources<'_>, found: &mut HttpApis) -> Result<(), TemplateError> {
    let is_http = |api: &&Resource<'_>| api.text("ProtocolType").is_none_or(|protocol| protocol == "HTTP");
    for resource in resources.of_type("AWS::ApiGatewayV2::Api").filter(is_http) {
        let mut api = HttpApi::new(&resource.logical_id, &resource.name, HttpApiKind::Http);
        let of_api = |other: &&Resource<'_>| other.text("ApiId").is_some_and(|id| id == resource.name);
        let stages: Vec<_> = resources.of_type("AWS::ApiGatewayV2::Stage").filter(of_api).collect();
        // Without a stage the API cannot be deployed; quick create makes this one.
        let stage = stages.iter().find(|stage| stage.name == DEFAULT).or(stages.first());
        if let Some(stage) = stage {
            api.stage = stage.text("StageName").unwrap_or(api.stage);
            api.stage_variables = stage_variables(stage);
            api.throttles = Throttles::read(stage)?;
            for other in stages.iter().filter(|other| other.logical_id != stage.logical_id) {
                let (other, name) = (&other.name, &api.name);
                found
                    .notes
                    .push(format!("the stage {other} of {name} is not served: the emulator serves {}", api.stage));
            }
        }
        let configuration = resource.get("CorsConfiguration").map(|given| {
            let invalid = || resource.error("invalid CorsConfiguration: expected an object or a boolean");
            cors::configuration(given).ok_or_else(invalid)
        });
        api.cors = configuration.transpose()?;
        match resource.get("Body") {
            Some(document) => open_api::read(&mut api, document, &HttpAuthorization::None, &mut found.notes),
            None if resource.has("BodyS3Location") => api.unserved = Some(elsewhere("BodyS3Location")),
            None => {}
        }
        if let Some(reason) = transformed(resource, "Body") {
            api.close(reason);
        }
        if let Some(target) = resource.text("Target") {
            let (method, path) = split_key(&resource.text("RouteKey").unwrap_or_else(|| DEFAULT.to_owned()));
            let timeout = http_integration_timeout(None);
            let backend = match function_of(&target) {
                Some(function) => {
                    RouteBackend::Lambda { function: function.to_owned(), payload: PayloadVersion::V2, timeout }
                }
                None => proxied(&target, None, timeout),
            };
            api.routes.push(HttpRoute::new(&method, &path, backend));
        }
        read_routes(&mut api, resources, &mut found.notes)?;
        found.apis.push(api);
    }
    // Routes of an API that another template declares: those of a WebSocket API have no paths.
    let is_here = |id: &String| resources.of_type("AWS::ApiGatewayV2::Api").any(|api| api.name == *id);
    let routes = resources.of_type("AWS::ApiGatewayV2::Route");
    let routes = routes.filter(|route| route.text("RouteKey").is_some_and(|key| key.contains(" /")));
    let elsewhere = routes.filter_map(|route| route.text("ApiId").filter(|id| !is_here(id)));
    for id in elsewhere.collect::<BTreeSet<_>>() {
        let mut api = HttpApi::new(&id, &id, HttpApiKind::Http);
        api.is_declared = false;
        read_routes(&mut api, resources, &mut found.notes)?;
        found.apis.push(api);
    }
    Ok(())
}

fn read_routes(api: &mut HttpApi, resources: &Resources<'_>, notes: &mut Vec<String>) -> Result<(), TemplateError> {
    let routes = resources.of_type("AWS::ApiGatewayV2::Route");
    for route in routes.filter(|route| route.text("ApiId").is_some_and(|id| id == api.api_id)) {
        let (method, path) = split_key(&route.required_text("RouteKey")?);
        let mut read = HttpRoute::new(&method, &path, backend(route, resources, &api.stage_variables, notes));
        authorizers::secure(&mut read, api, route, resources);
        api.routes.push(read);
    }
    Ok(())
}

/// The method and path of a route key.
fn split_key(key: &str) -> (String, String) {
    match key.split_once(' ') {
        Some((method, path)) => (method.to_owned(), path.trim().to_owned()),
        None => (ANY.to_owned(), DEFAULT.to_owned()),
    }
}

fn backend(
    route: &Resource<'_>,
    resources: &Resources<'_>,
    stage_variables: &BTreeMap<String, String>,
    notes: &mut Vec<String>,
) -> RouteBackend {
    let Some(target) = route.text("Target") else { return RouteBackend::Unserved("it has no integration".to_owned()) };
    let id = target.strip_prefix("integrations/").unwrap_or_default();
    let mut integrations = resources.of_type("AWS::ApiGatewayV2::Integration");
    let Some(integration) = integrations.find(|integration| integration.logical_id == id) else {
        return RouteBackend::Unserved(format!("the template does not have its integration ({target})"));
    };
    let mut properties = Map::new();
    let mut insert = |name: &str, value: Option<Value>| properties.extend(value.map(|value| (name.to_owned(), value)));
    for (name, own) in [
        ("Type", "IntegrationType"),
        ("Uri", "IntegrationUri"),
        ("IntegrationHttpMethod", "IntegrationMethod"),
        ("IntegrationSubtype", "IntegrationSubtype"),
        ("ConnectionType", "ConnectionType"),
    ] {
        insert(name, integration.get(own).cloned());
    }
    // That there are some is enough to know.
    for name in ["RequestParameters", "ResponseParameters"] {
        insert(name, integration.has(name).then_some(Value::Null));
    }
    let settings = IntegrationSettings {
        name: &format!("its integration {}", integration.logical_id),
        kind: HttpApiKind::Http,
        payload: authorizers::payload(integration.text("PayloadFormatVersion").as_deref()),
        timeout: http_integration_timeout(integration.get("TimeoutInMillis")),
        stage_variables,
    };
    backend_of(&Value::Object(properties), &settings, notes)
}
