//! The WebSocket API: routes, integrations and responses.

use std::collections::BTreeMap;

use super::{
    error::TemplateError,
    identity::identity_sources,
    integrations,
    references::{function_of, selection, stage_variables},
    resources::{Resource, Resources},
    sam_sockets,
    throttles::Throttles,
    websocket_api::{Authorization, Authorizer, Route, WebSocketApi},
};

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
