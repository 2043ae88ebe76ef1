//! An API Gateway HTTP API: the routes of the template, with events of payload version 2.0.

mod cors;

use std::{net::SocketAddr, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use clock::Clock;
use http_body_util::{BodyExt, Limited};
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    body::Bytes,
    header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, ORIGIN, SET_COOKIE},
    http::request::Parts,
};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use crate::{
    aws::ACCOUNT_ID,
    http::{self, Body, Request},
    lambda::Functions,
    rate::{Quotas, RouteBuckets},
    template::{Cors, HttpRoute},
};

/// Largest request. Source: API Gateway quotas for HTTP APIs.
const REQUEST_BYTES_MAX: usize = 10 * 1024 * 1024;

/// Largest request line and header values in total. Source: API Gateway quotas for HTTP APIs.
const REQUEST_HEAD_BYTES_MAX: usize = 10_240;

/// The HTTP API of a template.
#[derive(Debug)]
pub(crate) struct HttpApi {
    pub(crate) routes: Vec<HttpRoute>,
    pub(crate) cors: Option<Cors>,
    pub(crate) functions: Arc<Functions>,
    pub(crate) clock: Clock,
    /// Quotas of the account.
    pub(crate) quotas: Arc<Quotas>,
    /// Throttles of the routes.
    pub(crate) buckets: RouteBuckets,
}

impl HttpApi {
    /// Returns the route of a method and path.
    pub(crate) fn route(&self, method: &str, path: &str) -> Option<&HttpRoute> {
        route_for(&self.routes, method, path)
    }

    /// Responds to a preflight request if CORS is configured, whether or not there is a route.
    pub(crate) fn preflight(&self, request: &Request) -> Option<Response<Body>> {
        self.cors(request.uri().path(), request.headers())?.preflight(request)
    }

    /// Returns the CORS configuration for a request. If the template has none, a page that this machine serves may read
    /// at any port, because development servers have a port of their own. A function that handles preflights decides
    /// itself.
    fn cors(&self, path: &str, headers: &HeaderMap) -> Option<&Cors> {
        let may_read = || {
            let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
            let has_route = |method: Method| self.route(method.as_str(), path).is_some();
            origin.is_some_and(http::is_loopback_origin) && has_route(Method::GET) && !has_route(Method::OPTIONS)
        };
        self.cors.as_ref().or_else(|| may_read().then_some(&*cors::READING))
    }

    /// Returns whether a page of another site may send a request. Allowed are requests that only read, because browsers
    /// hide the response unless CORS allows it; preflights, if CORS is configured; and what CORS allows. The service
    /// runs functions for all other requests too. Here, that would let every page that you open run them.
    pub(crate) fn is_open_to(&self, request: &Parts) -> bool {
        let Some(cors) = self.cors(request.uri.path(), &request.headers) else { return self.is_read(request) };
        request.method == Method::OPTIONS || self.is_read(request) || cors.allows(&request.method, &request.headers)
    }

    fn is_read(&self, request: &Parts) -> bool {
        http::is_read(&request.method) && self.route(request.method.as_str(), request.uri.path()).is_some()
    }

    /// Invokes the function of a route and returns its response.
    pub(crate) async fn handle(&self, route: &HttpRoute, request: Request, peer: SocketAddr) -> Response<Body> {
        let (parts, body) = request.into_parts();
        if head_bytes(&parts) > REQUEST_HEAD_BYTES_MAX {
            return http::json(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                &json!({"message": "Request Header Fields Too Large"}),
            );
        }
        // The throttle of the stage comes first: what it refuses does not count against the account's quota.
        if !self.buckets.admits(&route.key(), &self.clock) || !self.quotas.admits_request(&self.clock) {
            return self.allowed(&parts, too_many_requests());
        }
        let body = match Limited::new(body, REQUEST_BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => {
                return http::json(StatusCode::PAYLOAD_TOO_LARGE, &json!({"message": "Request Entity Too Large"}));
            }
        };
        let event = self.event(route, &parts, &body, peer);
        let (source, event) = (peer.to_string(), Bytes::from(event.to_string()));
        let response = match self.functions.invoke_for(&source, &route.function, event).await {
            Ok(result) => to_response(&result),
            Err(_) => internal_error(),
        };
        self.allowed(&parts, response)
    }

    /// Adds the configured CORS headers. If none are configured, those of the function stay.
    fn allowed(&self, request: &Parts, mut response: Response<Body>) -> Response<Body> {
        let is_said = self.cors.is_none() && response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN);
        if let (false, Some(cors)) = (is_said, self.cors(request.uri.path(), &request.headers)) {
            cors.apply(&request.headers, response.headers_mut());
        }
        response
    }

    fn event(&self, route: &HttpRoute, parts: &Parts, body: &Bytes, peer: SocketAddr) -> Value {
        let now = self.clock.now();
        let (text, encoded) = match str::from_utf8(body) {
            Ok(text) if is_text(&parts.headers) => (text.to_owned(), false),
            _ => (BASE64_STANDARD.encode(body), true),
        };
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let path = parts.uri.path();
        let route_key = route.key();
        let mut event = json!({
            "version": "2.0",
            "routeKey": route_key,
            "rawPath": path,
            "rawQueryString": parts.uri.query().unwrap_or_default(),
            "headers": headers(&parts.headers),
            "requestContext": {
                "accountId": ACCOUNT_ID,
                "apiId": "local",
                "domainName": header("host"),
                "http": {
                    "method": parts.method.as_str(),
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": peer.ip().to_string(),
                    "userAgent": header("user-agent"),
                },
                "requestId": uuid::Uuid::new_v4().to_string(),
                "routeKey": route_key,
                "stage": "$default",
                "timeEpoch": now.millis(),
            },
            "isBase64Encoded": encoded,
        });
        let Value::Object(fields) = &mut event else { return event };
        let mut insert = |name: &str, there: bool, value: Value| {
            if there {
                fields.insert(name.to_owned(), value);
            }
        };
        let of_path = route.parameters(path).unwrap_or_default().into_iter();
        let of_path: Map<String, Value> = of_path
            .map(|(name, value)| (name.to_owned(), json!(percent_decode_str(value).decode_utf8_lossy())))
            .collect();
        insert("pathParameters", !of_path.is_empty(), Value::Object(of_path));
        let (parameters, cookies) = (parameters(parts.uri.query().unwrap_or_default()), cookies(&parts.headers));
        insert("cookies", !cookies.is_empty(), json!(cookies));
        insert("queryStringParameters", !parameters.is_empty(), Value::Object(parameters));
        insert("body", !body.is_empty(), json!(text));
        event
    }
}

/// Returns the route of a method and path. Of several, it is the one with the fewest parameters.
fn route_for<'a>(routes: &'a [HttpRoute], method: &str, path: &str) -> Option<&'a HttpRoute> {
    let of_method = routes.iter().filter(|route| route.method == method || route.method == "ANY");
    let fit = of_method.filter_map(|route| Some((route, route.parameters(path)?.len())));
    fit.min_by_key(|(_, count)| *count).map(|(route, _)| route)
}

/// Counts the bytes of the request line and the header values.
fn head_bytes(parts: &Parts) -> usize {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let line = parts.method.as_str().len() + target + "  HTTP/1.1".len();
    line + parts.headers.values().map(HeaderValue::len).sum::<usize>()
}

/// Returns whether API Gateway passes a body as text. It encodes all others, such as forms.
fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || matches!(kind.as_str(), "application/json" | "application/javascript" | "application/xml")
}

/// Decodes the parameters of a query. Commas join several values of one name.
fn parameters(query: &str) -> Map<String, Value> {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let mut joined: Map<String, Value> = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match joined.get_mut(&decoded(name)) {
            Some(Value::String(values)) => *values = format!("{values},{}", decoded(value)),
            _ => {
                joined.insert(decoded(name), json!(decoded(value)));
            }
        }
    }
    joined
}

/// Splits the cookies of all headers.
fn cookies(headers: &HeaderMap) -> Vec<String> {
    let lists = headers.get_all(COOKIE).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let cookies = |list: String| list.split(';').map(|cookie| cookie.trim().to_owned()).collect::<Vec<_>>();
    lists.flat_map(cookies).filter(|cookie| !cookie.is_empty()).collect()
}

/// Returns the headers except cookies, with names in lower case. Commas join several values of one name.
fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let mut joined = Map::new();
    for name in headers.keys().filter(|name| *name != COOKIE) {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        joined.insert(name.to_string(), json!(values.join(",")));
    }
    joined
}

/// Converts the function's result to an HTTP response. Without a `statusCode`, it is 200 with the result as body.
fn to_response(result: &Bytes) -> Response<Body> {
    let Ok(value) = serde_json::from_slice::<Value>(result) else { return internal_error() };
    let Some(code) = value.get("statusCode") else { return http::json(StatusCode::OK, &value) };
    let code = code.as_u64().and_then(|code| u16::try_from(code).ok()).and_then(|code| StatusCode::from_u16(code).ok());
    let body = value.get("body").and_then(Value::as_str).unwrap_or_default();
    let body = match value.get("isBase64Encoded").and_then(Value::as_bool) {
        Some(true) => BASE64_STANDARD.decode(body).ok(),
        _ => Some(body.as_bytes().to_vec()),
    };
    let (Some(status), Some(body)) = (code, body) else { return internal_error() };
    let mut response = http::response(status, "text/plain; charset=utf-8", body);
    for (name, value) in value.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            response.headers_mut().insert(name, value);
        }
    }
    for cookie in value.get("cookies").and_then(Value::as_array).into_iter().flatten() {
        if let Some(cookie) = cookie.as_str().and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    response
}

fn too_many_requests() -> Response<Body> {
    http::json(StatusCode::TOO_MANY_REQUESTS, &json!({"message": "Too Many Requests"}))
}

fn internal_error() -> Response<Body> {
    http::json(StatusCode::INTERNAL_SERVER_ERROR, &json!({"message": "Internal Server Error"}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_become_responses_as_payload_version_2_says() {
        let check = |answer: Value, status: u16, kind: &str| {
            let response = to_response(&Bytes::from(answer.to_string()));
            assert_eq!(
                (response.status().as_u16(), response.headers()[CONTENT_TYPE].to_str().expect("text")),
                (status, kind),
                "{answer}"
            );
        };
        check(
            json!({"statusCode": 413, "headers": {"content-type": "application/json"}, "body": "{}"}),
            413,
            "application/json",
        );
        check(json!({"published": true}), 200, "application/json");
        check(json!({"statusCode": 200, "body": "%", "isBase64Encoded": true}), 500, "application/json");
        check(json!({"statusCode": 7}), 500, "application/json");
    }

    #[test]
    fn parameters_of_a_path_are_one_segment_each() {
        let route =
            |path: &str| HttpRoute { method: "DELETE".to_owned(), path: path.to_owned(), function: "f".to_owned() };
        let one = route("/alerts/{region}/{seq}");
        assert_eq!(one.parameters("/alerts/PL/7"), Some(vec![("region", "PL"), ("seq", "7")]));
        for other in ["/alerts/PL", "/alerts/PL/", "/alerts//7", "/alerts/PL/7/", "/alerts/PL/7/8", "/other/PL/7", "/"]
        {
            assert_eq!(one.parameters(other), None, "{other}");
        }
        assert_eq!(route("/alerts").parameters("/alerts"), Some(Vec::new()));
        assert_eq!(route("/alerts").parameters("/alerts/"), None);
        let routes = [one, route("/alerts/{region}/newest"), route("/alerts")];
        let chosen = |method: &str, path: &str| route_for(&routes, method, path).map(|route| route.path.as_str());
        assert_eq!(chosen("DELETE", "/alerts/PL/7"), Some("/alerts/{region}/{seq}"));
        assert_eq!(chosen("DELETE", "/alerts/PL/newest"), Some("/alerts/{region}/newest"));
        assert_eq!((chosen("GET", "/alerts"), chosen("DELETE", "/other")), (None, None));
    }

    #[test]
    fn parameters_are_decoded_and_repeats_joined_by_commas() {
        let check = |query: &str, expected: Value| assert_eq!(Value::Object(parameters(query)), expected, "{query}");
        check("", json!({}));
        check("region=PL&limit=10", json!({"region": "PL", "limit": "10"}));
        check("a=1&b=2&a=3&a", json!({"a": "1,3,", "b": "2"}));
        check("a%5B%5D=x%2Cy+z&&=w", json!({"a[]": "x,y z", "": "w"}));
        check("a=%FF%", json!({"a": "\u{fffd}%"}));
    }

    #[test]
    fn cookies_are_a_list_in_either_direction() {
        let pairs = [(COOKIE, HeaderValue::from_static("a=1; b=2;")), (COOKIE, HeaderValue::from_static("c=3"))];
        let mut sent = HeaderMap::new();
        for (name, value) in pairs {
            sent.append(name, value);
        }
        assert_eq!(cookies(&sent), ["a=1", "b=2", "c=3"]);
        assert!(headers(&sent).is_empty());
        let answer = json!({"statusCode": 200, "cookies": ["a=1; Secure", "b=2"], "body": ""});
        let response = to_response(&Bytes::from(answer.to_string()));
        assert_eq!(response.headers().get_all(SET_COOKIE).iter().collect::<Vec<_>>(), ["a=1; Secure", "b=2"]);
    }

    #[test]
    fn only_text_reaches_a_function_as_text() {
        let kind =
            |kind: &'static str| is_text(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]));
        assert!(
            kind("application/json; charset=utf-8") && kind("text/plain") && !kind("application/x-www-form-urlencoded")
        );
        assert!(!is_text(&HeaderMap::new()));
    }
}
