//! REST APIs in CloudFormation's form: `AWS::ApiGateway::RestApi` with resources and methods, as the CDK and the
//! Serverless Framework write them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    HttpApis, authorizers,
    backends::{IntegrationSettings, backend_of},
    elsewhere, gateway_responses,
    model::{ANY, HttpApi, HttpApiKind, HttpAuthorization, HttpRoute, PayloadVersion, RouteBackend},
    open_api, policies, transformed,
};
use crate::template::{
    references::integration_timeout,
    resources::{Resource, Resources},
    scalar,
    yaml::YamlNode,
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
        api.stage_variables = scalar::named_texts(stages.first().and_then(|(_, variables)| *variables));
        for (other, _) in stages.iter().filter(|(name, _)| *name != api.stage) {
            let (stage, name) = (&api.stage, &api.name);
            found.notes.push(format!("the stage {other} of {name} is not served: the emulator serves {stage}"));
        }
        api.binary_types = scalar::texts(resource.get("BinaryMediaTypes")).collect();
        match resource.get("Body") {
            Some(document) => open_api::read(&mut api, document, &HttpAuthorization::None, &mut found.notes),
            None if resource.has("BodyS3Location") => api.unserved = Some(elsewhere("BodyS3Location")),
            None => {}
        }
        if let Some(reason) = transformed(resource, "Body") {
            api.close(reason);
        }
        let place = |line: usize| format!("line {line}: Policy");
        let node = resource.node("Policy");
        if let Some(line) = node.and_then(YamlNode::unread_line) {
            let reason = "a transform adds a part of it, which the emulator does not read";
            api.restrict(Err(format!("{}: {reason}", place(line))));
        } else if let Some(policy) = resource.get("Policy") {
            policies::add(&mut api, policy, &place(node.map_or(resource.line, |node| node.line)));
        }
        gateway_responses::read(&mut api, resources, &mut found.notes);
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
        let mut route = HttpRoute::new(&http_method, &path, backend(method, &api.stage_variables, &mut found.notes));
        authorizers::secure(&mut route, api, method, resources);
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

fn backend(method: &Resource<'_>, stage_variables: &BTreeMap<String, String>, notes: &mut Vec<String>) -> RouteBackend {
    let Some(integration) = method.get("Integration") else {
        return RouteBackend::Unserved("it has no integration".to_owned());
    };
    let timeout = integration_timeout(integration.get("TimeoutInMillis"));
    let payload = PayloadVersion::V1;
    let name = format!("the integration of {}", method.logical_id);
    let settings = IntegrationSettings { name: &name, kind: HttpApiKind::Rest, payload, timeout, stage_variables };
    backend_of(integration, &settings, notes)
}
