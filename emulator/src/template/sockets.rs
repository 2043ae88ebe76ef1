//! The WebSocket API: routes, integrations and responses.

use std::collections::BTreeMap;

use super::{
    error::TemplateError,
    identity::identity_sources,
    integrations::{self, Integration},
    references::{function_of, selection, stage_variables},
    resources::{Resource, Resources},
    sam_sockets,
    throttles::Throttles,
    websocket_api::{Authorization, Authorizer, Route, WebSocketApi},
};

/// What a template without a WebSocket API is refused with.
const NO_WEBSOCKET_API: &str = "the template has no WebSocket API: expected an AWS::Serverless::WebSocketApi, \
    or an AWS::ApiGatewayV2::Api with ProtocolType WEBSOCKET";

pub(super) fn read(resources: &Resources) -> Result<WebSocketApi, TemplateError> {
    let raw = resources
        .of_type("AWS::ApiGatewayV2::Api")
        .filter(|api| api.text("ProtocolType").is_some_and(|protocol| protocol == "WEBSOCKET"));
    let mut apis = raw.chain(resources.of_type("AWS::Serverless::WebSocketApi"));
    let api = apis.next().ok_or_else(|| TemplateError::new(NO_WEBSOCKET_API))?;
    if let Some(second) = apis.next() {
        return Err(second
            .error(format!("second WebSocket API beside {}: the emulator runs one of each template", api.logical_id)));
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
        let authorization = read_authorization(route, resources)?;
        let is_authorized_only =
            key == "$connect" && authorization != Authorization::None && route.properties.get("Target").is_none();
        let integration = if is_authorized_only {
            Integration::None
        } else {
            integrations::read(integration_of(route, resources)?, resources, &stage_variables)?
        };
        // The route needs both the expression and the response.
        let responds = route.text("RouteResponseSelectionExpression").is_some()
            && resources
                .of_type("AWS::ApiGatewayV2::RouteResponse")
                .any(|response| response.text("RouteId").is_some_and(|id| id == route.logical_id));
        if routes.insert(key.clone(), Route { integration, responds, authorization }).is_some() {
            return Err(route.error(format!("duplicate RouteKey {key}")));
        }
    }
    Ok(WebSocketApi { api_id: api.name.clone(), stage, stage_variables, selection: selection(api)?, routes, throttles })
}

/// Finds the integration that a route names.
fn integration_of<'a>(route: &Resource, resources: &'a Resources) -> Result<&'a Resource, TemplateError> {
    let target = route.required_text("Target")?;
    let mut integrations = resources.of_type("AWS::ApiGatewayV2::Integration");
    integrations.find(|integration| target.strip_prefix("integrations/") == Some(&integration.logical_id)).ok_or_else(
        || route.error(format!("invalid Target {target}: expected integrations/ and the logical id of an integration")),
    )
}

fn read_authorization(route: &Resource, resources: &Resources) -> Result<Authorization, TemplateError> {
    match route.text("AuthorizationType").as_deref() {
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
    let identity_sources = identity_sources(authorizer, authorizer.properties.get("IdentitySource"))?;
    Ok(Authorization::Lambda(Authorizer { function: function.to_owned(), identity_sources }))
}
