//! APIs in SAM's form: events `HttpApi` and `Api` of functions, and the APIs that they name or that SAM makes for them.
//!
//! Source: SAM's specification and translator.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    HttpApis, authorizers, cors, elsewhere,
    event::HttpEvent,
    gateway_responses,
    model::{ANY, DEFAULT, HttpApi, HttpApiKind, HttpAuthorization, HttpRoute, PayloadVersion, RouteBackend},
    open_api,
};
use crate::template::{
    error::TemplateError,
    intrinsics::Resolver,
    references::{http_integration_timeout, integration_timeout},
    resources::Resources,
    scalar,
    throttles::Throttles,
    yaml::YamlNode,
};

/// The stage of the REST API that SAM makes for events without an API. Source: SAM.
const IMPLICIT_STAGE: &str = "Prod";

/// An API with what its routes get from it.
struct SamApi {
    api: HttpApi,
    /// `Auth`.
    auth: Value,
    /// `Cors` of a REST API.
    cors: Option<Value>,
    /// Whether its routes are in an OpenAPI document. Then events are none.
    has_document: bool,
}

impl SamApi {
    /// Reads an API from its properties.
    fn read(
        mut api: HttpApi,
        property: impl Fn(&str) -> Option<Value>,
        invalid: impl Fn(String) -> TemplateError,
        notes: &mut Vec<String>,
    ) -> Result<Self, TemplateError> {
        let text = |name: &str| property(name).as_ref().and_then(scalar::as_text);
        api.stage = text("StageName").unwrap_or(api.stage);
        let variables = match api.kind {
            HttpApiKind::Http => property("StageVariables"),
            HttpApiKind::Rest => property("Variables"),
        };
        let variables = variables.as_ref().and_then(Value::as_object).into_iter().flatten();
        api.stage_variables =
            variables.filter_map(|(name, value)| Some((name.clone(), scalar::as_text(value)?))).collect();
        if api.kind == HttpApiKind::Http {
            let configuration = property("CorsConfiguration").map(|given| {
                cors::configuration(&given)
                    .ok_or_else(|| invalid("invalid CorsConfiguration: expected an object or a boolean".to_owned()))
            });
            api.cors = configuration.transpose()?;
        }
        let types = property("BinaryMediaTypes");
        let types = types.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(scalar::as_text);
        // A slash may be written as in JSON pointers.
        api.binary_types = types.map(|kind| kind.replace("~1", "/")).collect();
        if let Some(responses) = property("GatewayResponses") {
            gateway_responses::read_sam(&mut api, &responses, notes);
        }
        let cors = property("Cors").filter(|_| api.kind == HttpApiKind::Rest);
        let mut read = Self { api, auth: property("Auth").unwrap_or_default(), cors, has_document: false };
        if let Some(document) = property("DefinitionBody") {
            read.has_document = true;
            let default = read.auth.get("DefaultAuthorizer").and_then(scalar::as_text);
            let otherwise = read.authorization(default.as_deref());
            open_api::read(&mut read.api, &document, &otherwise, notes);
        } else if property("DefinitionUri").is_some() {
            read.has_document = true;
            read.api.unserved = Some(elsewhere("DefinitionUri"));
        }
        Ok(read)
    }

    /// Adds the route of an event.
    fn add(&mut self, event: &HttpEvent) {
        if self.has_document {
            return;
        }
        let mut route = route_of(event);
        let own = event.properties.get("Auth");
        let own = |name: &str| own.and_then(|auth| auth.get(name));
        let name = own("Authorizer").or_else(|| self.auth.get("DefaultAuthorizer")).and_then(scalar::as_text);
        route.authorization = self.authorization(name.as_deref());
        let of_authorizer = name.and_then(|name| self.auth.get("Authorizers")?.get(&name)?.get("AuthorizationScopes"));
        let scopes = own("AuthorizationScopes").or(of_authorizer);
        route.scopes = scopes.and_then(Value::as_array).into_iter().flatten().filter_map(scalar::as_text).collect();
        route.needs_api_key = authorizers::is_true(own("ApiKeyRequired").or_else(|| self.auth.get("ApiKeyRequired")));
        self.api.routes.push(route);
    }

    /// Who may use a route with an authorizer of this name.
    fn authorization(&self, name: Option<&str>) -> HttpAuthorization {
        let name = match name {
            None | Some("NONE") => return HttpAuthorization::None,
            Some("AWS_IAM") => return HttpAuthorization::Iam,
            Some(name) => name,
        };
        match (self.auth.get("Authorizers").and_then(|all| all.get(name)), self.api.kind) {
            (Some(given), HttpApiKind::Http) => authorizers::of_sam_http(name, given, &self.api.stage_variables),
            (Some(given), HttpApiKind::Rest) => authorizers::of_sam_rest(name, given, &self.api.stage_variables),
            (None, _) => authorizers::unserved(name, "is not among those of its API"),
        }
    }

    /// Adds the routes for preflight requests.
    fn finish(mut self) -> HttpApi {
        if let Some(cors) = &self.cors {
            let count = self.api.routes.len();
            cors::add_preflights(&mut self.api.routes, cors);
            let default = self.auth.get("DefaultAuthorizer").and_then(scalar::as_text);
            let for_preflights = self.auth.get("AddDefaultAuthorizerToCorsPreflight").and_then(scalar::as_text);
            if for_preflights.as_deref() != Some("false") {
                let authorization = self.authorization(default.as_deref());
                self.api.routes[count..].iter_mut().for_each(|route| route.authorization = authorization.clone());
            }
        }
        self.api
    }
}

/// Reads the APIs in SAM's form.
pub(super) fn read(
    root: &YamlNode,
    resolver: &Resolver<'_>,
    resources: &Resources<'_>,
    events: Vec<HttpEvent>,
    found: &mut HttpApis,
) -> Result<(), TemplateError> {
    let mut apis: Vec<SamApi> = Vec::new();
    for (kind, of_type) in
        [(HttpApiKind::Http, "AWS::Serverless::HttpApi"), (HttpApiKind::Rest, "AWS::Serverless::Api")]
    {
        for resource in resources.of_type(of_type) {
            let mut api = HttpApi::new(&resource.logical_id, &resource.name, kind);
            api.throttles = if kind == HttpApiKind::Http { Throttles::read(resource)? } else { Throttles::default() };
            let property = |name: &str| resource.get(name).cloned();
            apis.push(SamApi::read(api, property, |message| resource.error(message), &mut found.notes)?);
        }
    }
    for event in events {
        let id = match event.api() {
            Some(id) => id,
            None => implicit_id(resolver, event.kind),
        };
        if let Some(api) = apis.iter_mut().find(|api| api.api.api_id == id) {
            api.add(&event);
        } else if event.api().is_none() {
            let mut api = implicit(root, resolver, event.kind, &id, &mut found.notes)?;
            api.add(&event);
            apis.push(api);
        } else {
            let HttpEvent { name, function, .. } = &event;
            found.notes.push(format!(
                "{function} is not invoked by its event {name}: SAM adds routes to APIs in its own form, of the same \
                 template"
            ));
        }
    }
    found.apis.extend(apis.into_iter().map(SamApi::finish));
    Ok(())
}

/// The id of the API that SAM makes for events that name none.
fn implicit_id(resolver: &Resolver<'_>, kind: HttpApiKind) -> String {
    resolver.api_id(implicit_name(kind))
}

fn implicit_name(kind: HttpApiKind) -> &'static str {
    match kind {
        HttpApiKind::Http => "ServerlessHttpApi",
        HttpApiKind::Rest => "ServerlessRestApi",
    }
}

/// The API that SAM makes, whose properties are `Globals`.
fn implicit(
    root: &YamlNode,
    resolver: &Resolver<'_>,
    kind: HttpApiKind,
    id: &str,
    notes: &mut Vec<String>,
) -> Result<SamApi, TemplateError> {
    let section = if kind == HttpApiKind::Http { "HttpApi" } else { "Api" };
    let globals = root.get("Globals").and_then(|globals| globals.get(section));
    let line = globals.map_or(0, |globals| globals.line);
    let mut properties = BTreeMap::new();
    for (name, node) in globals.map(YamlNode::entries).unwrap_or_default() {
        properties.extend(resolver.read(node)?.map(|value| (name.clone(), value)));
    }
    let invalid = |message: String| TemplateError::at(line, format!("Globals: {section}: {message}"));
    let mut api = HttpApi::new(implicit_name(kind), id, kind);
    if kind == HttpApiKind::Http {
        let settings = Value::Object(properties.clone().into_iter().collect());
        api.throttles = Throttles::of_properties(&settings)
            .map_err(|(what, name)| invalid(format!("invalid {name} in {what}: expected a number of at least 0")))?;
    } else {
        api.stage = IMPLICIT_STAGE.to_owned();
    }
    // The stage of this API always has this name.
    properties.remove("StageName");
    SamApi::read(api, |name| properties.get(name).cloned(), invalid, notes)
}

/// The route of an event, without authorization.
fn route_of(event: &HttpEvent) -> HttpRoute {
    let path = event.text("Path").unwrap_or_else(|| DEFAULT.to_owned());
    let method = event.text("Method").unwrap_or_else(|| ANY.to_owned());
    let millis = event.properties.get("TimeoutInMillis");
    let (payload, timeout) = match event.kind {
        HttpApiKind::Http => {
            let version = event.text("PayloadFormatVersion");
            let payload = version.map_or(PayloadVersion::V2, |version| authorizers::payload(Some(&version)));
            (payload, http_integration_timeout(millis))
        }
        HttpApiKind::Rest => (PayloadVersion::V1, integration_timeout(millis)),
    };
    HttpRoute::new(&method, &path, RouteBackend::Lambda { function: event.function.clone(), payload, timeout })
}
