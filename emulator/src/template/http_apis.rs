//! HTTP APIs: their CORS configuration and throttles. Their routes are events of functions.

use serde_json::Value;

use super::{
    error::TemplateError,
    intrinsics::Resolver,
    resources::{Resource, Resources},
    scalar,
    throttles::Throttles,
    yaml::YamlNode,
};

/// CORS configuration of an HTTP API: what pages of other origins may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cors {
    /// Origins, `*`, `https://*` or `http://*`.
    pub(crate) origins: Vec<String>,
    /// Methods, or `*`.
    pub(crate) methods: Vec<String>,
    /// Request headers, or `*`.
    pub(crate) headers: Vec<String>,
    /// Response headers that a page may read, or `*`.
    pub(crate) exposed: Vec<String>,
    /// Seconds for which a browser may cache the response to a preflight.
    pub(crate) max_age_secs: Option<u64>,
    /// Whether a page may send cookies and other credentials.
    pub(crate) credentials: bool,
}

/// What holds for all HTTP APIs of a template.
#[derive(Debug, Default)]
pub(super) struct HttpApis {
    pub(super) cors: Option<Cors>,
    pub(super) throttles: Throttles,
    pub(super) notes: Vec<String>,
}

/// Reads the CORS configuration and the throttles of the HTTP APIs. They share a port here, so they share the first
/// configuration, and a route has the throttle of the API that names it.
pub(super) fn read(
    root: &YamlNode,
    resolver: &Resolver<'_>,
    resources: &Resources<'_>,
) -> Result<HttpApis, TemplateError> {
    let mut found = HttpApis::default();
    let globals = root.get("Globals").and_then(|globals| globals.get("HttpApi"));
    let globals = match globals.and_then(|api| api.get("CorsConfiguration")) {
        Some(node) => resolver.read(node)?,
        None => None,
    };
    let raw: Vec<&Resource<'_>> = resources
        .of_type("AWS::ApiGatewayV2::Api")
        .filter(|api| api.text("ProtocolType").is_some_and(|protocol| protocol == "HTTP"))
        .collect();
    let of_raw = |stage: &&Resource<'_>| stage.text("ApiId").is_some_and(|id| raw.iter().any(|api| api.name == id));
    let stages = resources.of_type("AWS::ApiGatewayV2::Stage").filter(of_raw);
    for stage in resources.of_type("AWS::Serverless::HttpApi").chain(stages) {
        found.throttles.extend(Throttles::read(stage)?);
    }
    if let Some(node) = root.get("Globals").and_then(|globals| globals.get("HttpApi")) {
        let global = resolver.read(node)?.unwrap_or_default();
        let invalid = |(what, name)| {
            TemplateError::at(
                node.line,
                format!("Globals: HttpApi: invalid {name} in {what}: expected a number of at least 0"),
            )
        };
        let global = Throttles::of_properties(&global).map_err(invalid)?;
        found.throttles.default = found.throttles.default.or(global.default);
        for (route, throttle) in global.routes {
            found.throttles.routes.entry(route).or_insert(throttle);
        }
    }
    let mut configured = Vec::new();
    for api in resources.of_type("AWS::Serverless::HttpApi").chain(raw.iter().copied()) {
        let own = api.get("CorsConfiguration");
        let own = own
            .map(|own| cors(own).ok_or_else(|| api.error("invalid CorsConfiguration: expected an object or a boolean")))
            .transpose()?;
        configured.extend(own.map(|cors| (api.logical_id.clone(), cors)));
    }
    let first = configured.first().map(|(_, cors)| cors.clone());
    for (api, _) in configured.iter().skip(1).filter(|(_, cors)| Some(cors) != first.as_ref()) {
        found.notes.push(format!("the CORS configuration of {api} is ignored: all HTTP APIs share that of the first"));
    }
    let own = configured.into_iter().next().map(|(_, cors)| cors);
    found.cors = own.or_else(|| globals.as_ref().and_then(cors));
    Ok(found)
}

/// `None` when it is neither an object nor a boolean.
fn cors(value: &Value) -> Option<Cors> {
    let list = |name: &str| match value.get(name) {
        Some(Value::Array(items)) => items.iter().filter_map(scalar::as_text).collect(),
        Some(one) => scalar::as_text(one).into_iter().collect(),
        None => Vec::new(),
    };
    match value {
        // As in SAM.
        Value::Bool(true) => Some(Cors { origins: vec!["*".to_owned()], ..Cors::default() }),
        Value::Bool(false) => Some(Cors::default()),
        Value::Object(_) => Some(Cors {
            origins: list("AllowOrigins"),
            methods: list("AllowMethods"),
            headers: list("AllowHeaders"),
            exposed: list("ExposeHeaders"),
            max_age_secs: value.get("MaxAge").and_then(scalar::as_text).and_then(|age| age.parse().ok()),
            credentials: value.get("AllowCredentials").and_then(scalar::as_text).is_some_and(|text| text == "true"),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::template::{Template, TemplateInputs};

    #[test]
    fn an_api_is_closed_to_other_origins_until_a_parameter_names_them() {
        let text = "Parameters:\n  Origins: { Type: CommaDelimitedList, Default: '' }\n\
             Conditions:\n  Open: !Not [!Equals [!Join ['', !Ref Origins], '']]\nResources:\n  \
             Ws: { Type: AWS::Serverless::WebSocketApi, Properties: { RouteSelectionExpression: $request.body.a, \
             Routes: { a: { FunctionArn: x } } } }\n  \
             H: { Type: AWS::Serverless::HttpApi, Properties: { CorsConfiguration: !If [Open, { AllowOrigins: !Ref \
             Origins, AllowMethods: [GET], MaxAge: 3600 }, !Ref AWS::NoValue] } }\n";
        let read = |parameters: BTreeMap<String, String>| {
            Template::parse(text, &TemplateInputs { parameters, ..TemplateInputs::default() }).expect("valid").cors
        };
        assert_eq!(read(BTreeMap::new()), None);
        let origins = "https://a.example,http://localhost:3000";
        let cors = read([("Origins".to_owned(), origins.to_owned())].into()).expect("configured");
        assert_eq!(cors.origins, ["https://a.example", "http://localhost:3000"]);
        assert_eq!((cors.methods, cors.max_age_secs, cors.credentials), (vec!["GET".to_owned()], Some(3_600), false));
    }

    #[test]
    fn cors_is_read_from_globals_and_from_either_kind_of_api() {
        let sockets = "Resources:\n  Ws: { Type: AWS::Serverless::WebSocketApi, Properties: { \
            RouteSelectionExpression: $request.body.a, Routes: { a: { FunctionArn: x } } } }\n";
        let read =
            |rest: &str| Template::parse(&format!("{sockets}{rest}"), &TemplateInputs::default()).expect("valid");
        let any = Cors { origins: vec!["*".to_owned()], ..Cors::default() };
        let all = read("Globals: { HttpApi: { CorsConfiguration: true } }\n");
        assert_eq!(all.cors, Some(any.clone()));
        let raw = "  H: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: HTTP, CorsConfiguration: { \
            AllowOrigins: ['*'] } } }\n";
        assert_eq!(read(raw).cors, Some(any));
        let two = "  A: { Type: AWS::Serverless::HttpApi, Properties: { CorsConfiguration: { AllowOrigins: [x] } } \
            }\n  B: { Type: AWS::Serverless::HttpApi, Properties: { CorsConfiguration: true } }\n";
        let template = read(two);
        assert_eq!(template.cors.expect("the first").origins, ["x"]);
        assert_eq!(template.notes, ["the CORS configuration of B is ignored: all HTTP APIs share that of the first"]);
    }
}
