//! Routes in OpenAPI documents: the integrations and authorizers of their operations.
//!
//! Source: API Gateway developer guide, "OpenAPI extensions for API Gateway".

use serde_json::{Map, Value, json};

use super::{
    authorizers,
    backends::{IntegrationSettings, backend_of},
    cors,
    model::{ANY, DEFAULT, HttpApi, HttpApiKind, HttpAuthorization, HttpRoute, RouteBackend},
    policies,
};
use crate::template::{
    references::{http_integration_timeout, integration_timeout},
    scalar,
};

/// Keys of a path that are operations. The last one is for all methods.
const METHODS: [&str; 9] =
    ["get", "put", "post", "delete", "options", "head", "patch", "trace", "x-amazon-apigateway-any-method"];

/// Keys of a document or an operation that say who may use a route.
pub(super) const RESTRICTING: [&str; 5] =
    ["components", "security", "securityDefinitions", "x-amazon-apigateway-auth", "x-amazon-apigateway-policy"];

/// Reads the routes of a document. Routes without security have the authorization `otherwise`.
pub(super) fn read(api: &mut HttpApi, document: &Value, otherwise: &HttpAuthorization, notes: &mut Vec<String>) {
    let Some(paths) = document.get("paths").and_then(Value::as_object) else {
        api.unserved = Some("its OpenAPI document has no paths that the emulator can read".to_owned());
        return;
    };
    if let Some(configuration) = document.get("x-amazon-apigateway-cors") {
        // What is no configuration allows nothing.
        api.cors = Some(cors::configuration(&capitalised(configuration)).unwrap_or_default());
    }
    const POLICY: &str = "x-amazon-apigateway-policy";
    if let Some(policy) = document.get(POLICY) {
        policies::add(api, policy, POLICY);
    }
    api.binary_types.extend(scalar::texts(document.get("x-amazon-apigateway-binary-media-types")));
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            if !METHODS.contains(&method.as_str()) {
                continue;
            }
            let method = if method.starts_with("x-") { ANY } else { method };
            let path = if path.trim_start_matches('/') == DEFAULT { DEFAULT } else { path };
            let integration = operation.get("x-amazon-apigateway-integration");
            let integration = integration.map(|integration| resolved(document, integration));
            let backend = backend(api, &format!("{} {path}", method.to_uppercase()), integration, notes);
            let mut route = HttpRoute::new(method, path, backend);
            secure(&mut route, api, document, operation, otherwise);
            api.routes.push(route);
        }
    }
}

/// A part of a document, which may refer to another one (`$ref`) by its place.
fn resolved<'a>(document: &'a Value, part: &'a Value) -> &'a Value {
    let place = part.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    place.and_then(|place| document.pointer(place)).unwrap_or(part)
}

fn backend(api: &HttpApi, name: &str, integration: Option<&Value>, notes: &mut Vec<String>) -> RouteBackend {
    let Some(given) = integration.and_then(Value::as_object) else {
        return RouteBackend::Unserved("it has no integration".to_owned());
    };
    if let Some(reference) = given.get("$ref") {
        return RouteBackend::Unserved(format!("its integration {reference} is not in the OpenAPI document"));
    }
    let text = |name: &str| given.get(name).and_then(scalar::as_text);
    let mut integration = Map::new();
    let mut insert = |name: &str, value: Option<Value>| integration.extend(value.map(|value| (name.to_owned(), value)));
    insert("Type", text("type").map(|kind| json!(kind.to_uppercase())));
    insert("Uri", given.get("uri").cloned());
    insert("IntegrationHttpMethod", given.get("httpMethod").cloned());
    insert("IntegrationSubtype", given.get("integrationSubtype").cloned());
    insert("ConnectionType", given.get("connectionType").cloned());
    insert("RequestParameters", given.get("requestParameters").cloned());
    insert("ResponseParameters", given.get("responseParameters").cloned());
    insert("RequestTemplates", given.get("requestTemplates").cloned());
    let responses = given.get("responses").and_then(Value::as_object).into_iter().flatten();
    let responses = responses.map(|(pattern, response)| {
        let mut response = capitalised(response);
        if let (Value::Object(fields), false) = (&mut response, pattern == "default") {
            fields.insert("SelectionPattern".to_owned(), json!(pattern));
        }
        response
    });
    insert("IntegrationResponses", Some(responses.collect()));
    let millis = given.get("timeoutInMillis");
    let settings = IntegrationSettings {
        name: &format!("the integration of {name}"),
        kind: api.kind,
        payload: authorizers::payload(text("payloadFormatVersion").as_deref()),
        timeout: match api.kind {
            HttpApiKind::Http => http_integration_timeout(millis),
            HttpApiKind::Rest => integration_timeout(millis),
        },
        stage_variables: &api.stage_variables,
    };
    backend_of(&Value::Object(integration), &settings, notes)
}

/// Sets who may use a route: what its operation says, or the document.
fn secure(route: &mut HttpRoute, api: &HttpApi, document: &Value, operation: &Value, otherwise: &HttpAuthorization) {
    route.authorization = otherwise.clone();
    let auth = operation.get("x-amazon-apigateway-auth");
    // Its values have no case. Source: API Gateway developer guide, "x-amazon-apigateway-auth object".
    let kind = auth.map(|auth| auth.get("type").and_then(Value::as_str).unwrap_or_default().to_ascii_uppercase());
    match kind.as_deref() {
        None | Some("NONE") => {}
        Some("AWS_IAM") => route.authorization = HttpAuthorization::Iam,
        Some(_) => {
            let reason = "its x-amazon-apigateway-auth has a type other than AWS_IAM and NONE";
            route.authorization = HttpAuthorization::Unserved(reason.to_owned());
        }
    }
    let Some(security) = operation.get("security").or_else(|| document.get("security")) else { return };
    if !security.as_array().is_some_and(|requirements| requirements.iter().all(Value::is_object)) {
        route.authorization = HttpAuthorization::Unserved("its security is not a list of objects".to_owned());
        return;
    }
    let schemes = document.get("securityDefinitions").or_else(|| document.pointer("/components/securitySchemes"));
    let requirements = security.as_array().into_iter().flatten().filter_map(Value::as_object).flatten();
    for (name, scopes) in requirements {
        let Some(scheme) = schemes.and_then(|schemes| Some(resolved(document, schemes.get(name)?))) else {
            route.authorization = authorizers::unserved(name, "is not in the OpenAPI document");
            continue;
        };
        let kind = scheme.get("x-amazon-apigateway-authtype").and_then(Value::as_str).unwrap_or_default();
        if kind.eq_ignore_ascii_case("awsSigv4") {
            route.authorization = HttpAuthorization::Iam;
        } else if let Some(given) = scheme.get("x-amazon-apigateway-authorizer") {
            route.authorization = authorizers::of_open_api(name, scheme, resolved(document, given), api);
            match scalar::all_texts(Some(scopes)) {
                Some(scopes) => route.scopes = scopes,
                None => route.authorization = authorizers::unserved(name, "has scopes that are not texts"),
            }
        } else if scheme.get("name").and_then(Value::as_str).is_some_and(|name| name.eq_ignore_ascii_case("x-api-key"))
        {
            route.needs_api_key = true;
        } else {
            route.authorization = authorizers::unserved(name, "has no x-amazon-apigateway-authorizer");
        }
    }
}

/// An object with its keys as CloudFormation writes them.
fn capitalised(object: &Value) -> Value {
    let key = |key: &str| {
        let mut letters = key.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    };
    match object {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (key(name), value.clone())).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}
