//! CORS: the configuration of HTTP APIs, and the routes for preflight requests that SAM adds to REST APIs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::model::{ANY, Cors, HttpRoute, MockResponse, RouteBackend};
use crate::template::scalar;

/// `None` when it is neither an object nor a boolean.
pub(super) fn configuration(value: &Value) -> Option<Cors> {
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

/// Adds the routes for OPTIONS that SAM adds where a REST API has `Cors`: one for each path without one. Its values are
/// quoted, as in mapping expressions.
pub(super) fn add_preflights(routes: &mut Vec<HttpRoute>, cors: &Value) {
    let setting = |name: &str| match cors {
        Value::String(origin) if name == "AllowOrigin" => Some(origin.clone()),
        other => other.get(name).and_then(scalar::as_text),
    };
    let unquoted = |text: String| text.trim_matches('\'').to_owned();
    let mut methods: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for route in routes.iter() {
        methods.entry(route.path.clone()).or_default().push(route.method.clone());
    }
    for (path, mut own) in methods {
        if own.iter().any(|method| method == "OPTIONS") {
            continue;
        }
        if own.iter().any(|method| method == ANY) {
            own = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"].map(str::to_owned).into();
        } else {
            own.push("OPTIONS".to_owned());
        }
        own.sort();
        let mut headers = BTreeMap::new();
        let mut header = |name: &str, value: Option<String>| {
            headers.extend(value.map(|value| (format!("access-control-{name}"), unquoted(value))));
        };
        header("allow-origin", setting("AllowOrigin"));
        header("allow-methods", setting("AllowMethods").or_else(|| Some(own.join(","))));
        header("allow-headers", setting("AllowHeaders"));
        header("max-age", setting("MaxAge"));
        header("allow-credentials", setting("AllowCredentials").filter(|text| text == "true"));
        let response = MockResponse { status: 200, headers, body: "{}\n".to_owned() };
        routes.push(HttpRoute::new("OPTIONS", &path, RouteBackend::Mock(response)));
    }
}
