//! The WebSocket API: routes, integrations and responses.

use std::collections::BTreeMap;

use super::{
    error::TemplateError,
    identity::identity_sources,
    integrations::{self, Integration},
    references::{FunctionReference, function_of, selection, stage_variables},
    resources::{Resource, Resources},
    sam_sockets, scalar,
    throttles::Throttles,
    websocket_api::{Authorization, Authorizer, Route, WebSocketApi},
};

/// The WebSocket API of a template.
#[derive(Debug, Default)]
pub(super) struct ParsedSockets {
    pub(super) api: Option<WebSocketApi>,
    /// The functions that its routes and authorizers name.
    pub(super) references: Vec<FunctionReference>,
    pub(super) notes: Vec<String>,
}

/// Reads the WebSocket API: of several, the first one with routes.
pub(super) fn read(resources: &Resources<'_>) -> Result<ParsedSockets, TemplateError> {
    let raw = resources
        .of_type("AWS::ApiGatewayV2::Api")
        .filter(|api| api.text("ProtocolType").is_some_and(|protocol| protocol == "WEBSOCKET"));
    let apis: Vec<&Resource<'_>> = raw.chain(resources.of_type("AWS::Serverless::WebSocketApi")).collect();
    let has_routes = |api: &&&Resource<'_>| {
        is_of_sam(api) || resources.of_type("AWS::ApiGatewayV2::Route").any(|route| is_of(route, api))
    };
    let mut found = ParsedSockets::default();
    let Some(api) = apis.iter().find(has_routes).or(apis.first()).copied() else { return Ok(found) };
    for other in apis.iter().filter(|other| other.logical_id != api.logical_id) {
        let (other, api) = (&other.logical_id, &api.logical_id);
        found.notes.push(format!("the WebSocket API {other} is not run: the emulator runs one, which is {api}"));
    }
    let references = &mut found.references;
    let read = if is_of_sam(api) { sam_sockets::read(api, references)? } else { read_raw(api, resources, references)? };
    found.api = Some(read);
    Ok(found)
}

fn is_of_sam(api: &Resource<'_>) -> bool {
    api.kind == "AWS::Serverless::WebSocketApi"
}

fn is_of(resource: &Resource<'_>, api: &Resource<'_>) -> bool {
    resource.text("ApiId").is_some_and(|id| id == api.name)
}

fn read_raw(
    api: &Resource<'_>,
    resources: &Resources<'_>,
    references: &mut Vec<FunctionReference>,
) -> Result<WebSocketApi, TemplateError> {
    let of_api = |resource: &&Resource<'_>| is_of(resource, api);
    let stage_resource = resources.of_type("AWS::ApiGatewayV2::Stage").find(of_api);
    let stage = stage_resource.map_or_else(|| Ok("prod".to_owned()), |stage| stage.required_text("StageName"))?;
    let stage_variables = stage_resource.map(stage_variables).unwrap_or_default();
    let throttles = stage_resource.map(Throttles::read).transpose()?.unwrap_or_default();
    let mut routes = BTreeMap::new();
    for route in resources.of_type("AWS::ApiGatewayV2::Route").filter(of_api) {
        let key = route.required_text("RouteKey")?;
        let authorization = read_authorization(route, resources, references)?;
        let is_authorized_only =
            key == "$connect" && authorization != Authorization::None && route.get("Target").is_none();
        let integration = if is_authorized_only {
            Integration::None
        } else {
            let of_route = integration_of(route, resources)?;
            let integration = integrations::read(of_route, resources, &stage_variables)?;
            if integration.function().is_some() {
                references.push(FunctionReference::new(of_route, &of_route.required_text("IntegrationUri")?));
            }
            integration
        };
        let responds = responds(route, resources);
        if routes.insert(key.clone(), Route { integration, responds, authorization }).is_some() {
            return Err(route.error(format!("duplicate RouteKey {key}")));
        }
    }
    Ok(WebSocketApi { api_id: api.name.clone(), stage, stage_variables, selection: selection(api)?, routes, throttles })
}

/// Whether the client gets the answer of a route. That needs a route response, and either the route's expression or a
/// response of its integration.
fn responds(route: &Resource<'_>, resources: &Resources<'_>) -> bool {
    let names = |response: &Resource<'_>, property: &str, id: &str| response.text(property).is_some_and(|of| of == id);
    let has_response = resources
        .of_type("AWS::ApiGatewayV2::RouteResponse")
        .any(|response| names(response, "RouteId", &route.logical_id));
    let has_integration_response = || {
        let target = route.text("Target");
        let Some(id) = target.as_ref().and_then(|target| target.strip_prefix("integrations/")) else { return false };
        let mut responses = resources.of_type("AWS::ApiGatewayV2::IntegrationResponse");
        responses.any(|response| names(response, "IntegrationId", id))
    };
    has_response && (route.text("RouteResponseSelectionExpression").is_some() || has_integration_response())
}

/// Finds the integration that a route names.
fn integration_of<'a, 'b>(
    route: &Resource<'_>,
    resources: &'a Resources<'b>,
) -> Result<&'a Resource<'b>, TemplateError> {
    let target = route.required_text("Target")?;
    let mut integrations = resources.of_type("AWS::ApiGatewayV2::Integration");
    integrations.find(|integration| target.strip_prefix("integrations/") == Some(&integration.logical_id)).ok_or_else(
        || route.error(format!("invalid Target {target}: expected integrations/ and the logical id of an integration")),
    )
}

fn read_authorization(
    route: &Resource<'_>,
    resources: &Resources<'_>,
    references: &mut Vec<FunctionReference>,
) -> Result<Authorization, TemplateError> {
    route.refuse_transform("AuthorizationType")?;
    let kind = route.get("AuthorizationType").filter(|kind| !kind.is_null());
    match kind.map(|kind| scalar::as_text(kind).unwrap_or_else(|| kind.to_string())).as_deref() {
        None | Some("NONE") => return Ok(Authorization::None),
        Some("AWS_IAM") => return Ok(Authorization::Iam),
        Some("CUSTOM") => {}
        Some(other) => {
            return Err(route.error(format!("invalid AuthorizationType {other}: expected NONE, AWS_IAM or CUSTOM")));
        }
    }
    let id = route.required_text("AuthorizerId")?;
    let authorizer =
        resources.of_type("AWS::ApiGatewayV2::Authorizer").find(|authorizer| authorizer.logical_id == id).ok_or_else(
            || route.error(format!("unknown AuthorizerId {id}: expected a !Ref to an AWS::ApiGatewayV2::Authorizer")),
        )?;
    let kind = authorizer.required_text("AuthorizerType")?;
    if kind != "REQUEST" {
        return Err(authorizer.error(format!("invalid AuthorizerType {kind}: WebSocket APIs take REQUEST only")));
    }
    let uri = authorizer.required_text("AuthorizerUri")?;
    let function = function_of(&uri).ok_or_else(|| {
        authorizer.error(format!("invalid AuthorizerUri {uri}: expected the address of a Lambda function"))
    })?;
    references.push(FunctionReference::new(authorizer, &uri));
    let identity_sources = identity_sources(authorizer, authorizer.get("IdentitySource"))?;
    Ok(Authorization::Lambda(Authorizer { function: function.to_owned(), identity_sources }))
}
