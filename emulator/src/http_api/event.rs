//! Events of HTTP and REST APIs. They are JSON written by hand, not with the types that handlers parse, so that tests
//! see a difference between the two.
//!
//! Source: API Gateway developer guide, "Create AWS Lambda proxy integrations for HTTP APIs", "Lambda proxy
//! integrations in API Gateway", "Control access to HTTP APIs with AWS Lambda authorizers" and "Input to a Lambda
//! authorizer".

use std::net::{IpAddr, SocketAddr};

use base64::{Engine, prelude::BASE64_STANDARD};
use clock::Timestamp;
use hyper::{
    HeaderMap,
    body::Bytes,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderName, USER_AGENT},
    http::request::Parts,
};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use crate::{
    aws::{ACCOUNT_ID, arn},
    gateway::{clf_time, header_name, query},
    http::{host_and_port, is_secured},
    template::{HttpApi, HttpApiKind, HttpRoute},
};

/// What requests say of clients with a signature or a certificate, which the emulator does not know.
const UNKNOWN_IDENTITY: [&str; 10] = [
    "accessKey",
    "accountId",
    "caller",
    "cognitoAuthenticationProvider",
    "cognitoAuthenticationType",
    "cognitoIdentityId",
    "cognitoIdentityPoolId",
    "principalOrgId",
    "user",
    "userArn",
];

/// A request on its way to a route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming<'a> {
    pub(super) api: &'a HttpApi,
    pub(super) route: &'a HttpRoute,
    /// The path without the stage.
    pub(super) path: &'a str,
    pub(super) parameters: &'a [(String, String)],
    pub(super) parts: &'a Parts,
    pub(super) peer: SocketAddr,
    pub(super) now: Timestamp,
    pub(super) request_id: &'a str,
    /// The id of a request in REST APIs, where `request_id` is the extended one.
    pub(super) uuid: &'a str,
    pub(super) trace_id: &'a str,
}

/// What an authorizer adds to events, in each version.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AuthorizerContext {
    pub(super) v1: Option<Value>,
    pub(super) v2: Option<Value>,
}

impl Incoming<'_> {
    fn header(&self, name: HeaderName) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The path as the client wrote it in REST APIs, decoded in HTTP APIs.
    fn whole_path(&self) -> String {
        let path = self.parts.uri.path();
        match self.api.kind {
            HttpApiKind::Rest => path.to_owned(),
            HttpApiKind::Http => percent_decode_str(path).decode_utf8_lossy().into_owned(),
        }
    }

    /// The resource that a policy for this request names.
    pub(super) fn method_arn(&self) -> String {
        let (api, stage, method) = (&self.api.api_id, &self.api.stage, &self.parts.method);
        arn("execute-api", &format!("{api}/{stage}/{method}{}", self.path))
    }

    /// The value of a header, all of them joined by commas.
    pub(super) fn header_values(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self.parts.headers.get_all(name).iter().map(text).collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// The first value of a parameter of the query.
    pub(super) fn query_value(&self, name: &str) -> Option<String> {
        query(self.parts.uri.query().unwrap_or_default())
            .into_iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value)
    }

    /// The first label of the host name, or the id of the API where the host is an address.
    fn domain_prefix(&self) -> String {
        let (name, _) = host_and_port(self.header(HOST));
        match name.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(_) => self.api.api_id.clone(),
            Err(_) => name.split('.').next().unwrap_or_default().to_owned(),
        }
    }

    /// Headers that the gateway adds.
    fn added_headers(&self) -> [(&'static str, String); 4] {
        let (scheme, port) = if is_secured(&self.parts.extensions) { ("https", 443) } else { ("http", 80) };
        let port = host_and_port(self.header(HOST)).1.unwrap_or(port);
        let from = self.header_values("x-forwarded-for").map_or_else(String::new, |before| format!("{before}, "));
        [
            ("X-Amzn-Trace-Id", self.trace_id.to_owned()),
            ("X-Forwarded-For", format!("{from}{}", self.peer.ip())),
            ("X-Forwarded-Port", port.to_string()),
            ("X-Forwarded-Proto", scheme.to_owned()),
        ]
    }

    /// The header `Forwarded` (RFC 7239) for a server behind an HTTP API: what is there of it, and this client.
    pub(super) fn forwarded(&self) -> String {
        let quoted = |text: &str| if text.contains(':') { format!("\"{text}\"") } else { text.to_owned() };
        let client = match self.peer.ip() {
            IpAddr::V6(address) => format!("[{address}]"),
            IpAddr::V4(address) => address.to_string(),
        };
        let scheme = if is_secured(&self.parts.extensions) { "https" } else { "http" };
        let before = self.header_values("forwarded").map_or_else(String::new, |before| format!("{before}, "));
        format!("{before}for={};host={};proto={scheme}", quoted(&client), quoted(self.header(HOST)))
    }

    /// All headers in their order. Names are in lower case in HTTP APIs, and as the client wrote them in REST APIs.
    fn headers(&self) -> Vec<(String, String)> {
        let is_rest = self.api.kind == HttpApiKind::Rest;
        let written = self.parts.extensions.get();
        let added = self.added_headers();
        let is_own = |name: &HeaderName| {
            let is_added = added.iter().any(|(added, _)| added.eq_ignore_ascii_case(name.as_str()));
            !is_added && !(is_rest && (*name == CONNECTION || *name == CONTENT_LENGTH))
        };
        let cased = |name: &HeaderName| if is_rest { header_name(name, written) } else { name.to_string() };
        let own = self.parts.headers.iter().filter(|(name, _)| is_own(name));
        let own = own.map(|(name, value)| (cased(name), text(value)));
        let added = added.iter().map(|(name, value)| {
            let name = if is_rest { (*name).to_owned() } else { name.to_ascii_lowercase() };
            (name, value.clone())
        });
        own.chain(added).collect()
    }

    /// The event of payload version 2.0. What does not exist is absent.
    pub(super) fn v2(&self, body: &Bytes, authorizer: &AuthorizerContext) -> Value {
        let path = self.whole_path();
        let mut context = Map::new();
        context.insert("accountId".to_owned(), json!(ACCOUNT_ID));
        context.insert("apiId".to_owned(), json!(self.api.api_id));
        context.extend(authorizer.v2.clone().map(|value| ("authorizer".to_owned(), value)));
        extend(
            &mut context,
            json!({
                "domainName": self.header(HOST),
                "domainPrefix": self.domain_prefix(),
                "http": {
                    "method": self.parts.method.as_str(),
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": self.peer.ip().to_string(),
                    "userAgent": self.header(USER_AGENT),
                },
                "requestId": self.request_id,
                "routeKey": self.route.key(),
                "stage": self.api.stage,
                "time": clf_time(self.now),
                "timeEpoch": self.now.millis(),
            }),
        );
        let raw_query = self.parts.uri.query().unwrap_or_default();
        let (body_text, is_encoded) = self.body(body);
        let mut event = Map::new();
        extend(
            &mut event,
            json!({
                "version": "2.0",
                "routeKey": self.route.key(),
                "rawPath": path,
                "rawQueryString": raw_query,
            }),
        );
        let mut insert = |name: &str, is_there: bool, value: Value| {
            if is_there {
                event.insert(name.to_owned(), value);
            }
        };
        let cookies = cookies(&self.parts.headers);
        insert("cookies", !cookies.is_empty(), json!(cookies));
        let headers = self.headers().into_iter().filter(|(name, _)| *name != COOKIE.as_str());
        insert("headers", true, Value::Object(joined(headers)));
        let parameters = joined(query(raw_query).into_iter());
        insert("queryStringParameters", !parameters.is_empty(), Value::Object(parameters));
        insert("requestContext", true, Value::Object(context));
        insert("body", !body.is_empty(), json!(body_text));
        insert("pathParameters", !self.parameters.is_empty(), self.path_parameters());
        insert("isBase64Encoded", true, json!(is_encoded));
        insert("stageVariables", !self.api.stage_variables.is_empty(), json!(self.api.stage_variables));
        Value::Object(event)
    }

    /// The event of a REST API, and that of payload version 1.0. What does not exist is null.
    pub(super) fn v1(&self, body: &Bytes, authorizer: &AuthorizerContext) -> Value {
        let is_rest = self.api.kind == HttpApiKind::Rest;
        let or_null = |is_there: bool, value: Value| if is_there { value } else { Value::Null };
        let mut event = Map::new();
        if !is_rest {
            event.insert("version".to_owned(), json!("1.0"));
        }
        let headers = self.headers();
        let parameters = query(self.parts.uri.query().unwrap_or_default());
        // In HTTP APIs the example has the first value of a parameter. REST APIs have the last one.
        let single: Map<String, Value> = match is_rest {
            true => parameters.iter().map(|(name, value)| (name.clone(), json!(value))).collect(),
            false => parameters.iter().rev().map(|(name, value)| (name.clone(), json!(value))).collect(),
        };
        let lists = Value::Object(multiple(&parameters));
        let (body_text, is_encoded) = self.body(body);
        extend(
            &mut event,
            json!({
                "resource": self.route.path,
                "path": if is_rest { self.path.to_owned() } else { self.whole_path() },
                "httpMethod": self.parts.method.as_str(),
                "headers": headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>(),
                "multiValueHeaders": multiple(&headers),
                "queryStringParameters": or_null(!parameters.is_empty(), Value::Object(single)),
                "multiValueQueryStringParameters": or_null(!parameters.is_empty(), lists),
                "requestContext": self.v1_context(authorizer),
                "pathParameters": or_null(!self.parameters.is_empty(), self.path_parameters()),
                "stageVariables": or_null(!self.api.stage_variables.is_empty(), json!(self.api.stage_variables)),
                "body": or_null(!body.is_empty(), json!(body_text)),
                "isBase64Encoded": is_encoded,
            }),
        );
        Value::Object(event)
    }

    fn v1_context(&self, authorizer: &AuthorizerContext) -> Value {
        let is_rest = self.api.kind == HttpApiKind::Rest;
        let mut identity: Map<String, Value> =
            UNKNOWN_IDENTITY.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
        identity.insert("sourceIp".to_owned(), json!(self.peer.ip().to_string()));
        identity.insert("userAgent".to_owned(), json!(self.header(USER_AGENT)));
        if let Some(key) = self.header_values("x-api-key").filter(|_| is_rest && self.route.needs_api_key) {
            identity.insert("apiKey".to_owned(), json!(key));
        }
        let mut context = Map::new();
        extend(
            &mut context,
            json!({
                "accountId": ACCOUNT_ID,
                "apiId": self.api.api_id,
                "domainName": self.header(HOST),
                "domainPrefix": self.domain_prefix(),
                "extendedRequestId": self.request_id,
                "httpMethod": self.parts.method.as_str(),
                "identity": identity,
                "path": self.whole_path(),
                "protocol": "HTTP/1.1",
                "requestId": if is_rest { self.uuid } else { self.request_id },
                "requestTime": clf_time(self.now),
                "requestTimeEpoch": self.now.millis(),
                "resourceId": if is_rest { json!(resource_id(&self.route.path)) } else { Value::Null },
                "resourcePath": self.route.path,
                "stage": self.api.stage,
            }),
        );
        let none = (!is_rest).then(|| json!({"claims": null, "scopes": null}));
        context.extend(authorizer.v1.clone().or(none).map(|value| ("authorizer".to_owned(), value)));
        Value::Object(context)
    }

    /// The body, and whether it is base64. An empty one is not.
    fn body(&self, body: &Bytes) -> (String, bool) {
        let kind = self.header(CONTENT_TYPE);
        let is_binary = match self.api.kind {
            HttpApiKind::Rest => is_binary(&self.api.binary_types, kind),
            HttpApiKind::Http => !is_text(kind) || str::from_utf8(body).is_err(),
        };
        match is_binary && !body.is_empty() {
            true => (BASE64_STANDARD.encode(body), true),
            false => (String::from_utf8_lossy(body).into_owned(), false),
        }
    }

    fn path_parameters(&self) -> Value {
        self.parameters.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>().into()
    }
}

fn extend(object: &mut Map<String, Value>, more: Value) {
    if let Value::Object(more) = more {
        object.extend(more);
    }
}

fn text(value: &hyper::header::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// An id of X-Ray's form: the time, and a random part.
pub(super) fn new_trace_id(now: Timestamp) -> String {
    format!("Root=1-{:08x}-{}", now.secs(), &uuid::Uuid::new_v4().simple().to_string()[..24])
}

/// An id of a resource of a REST API, always the same for a path.
fn resource_id(path: &str) -> String {
    let hash = path.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{:06x}", hash & 0x00ff_ffff)
}

/// Joins values of one name by commas.
fn joined(pairs: impl Iterator<Item = (String, String)>) -> Map<String, Value> {
    let mut all = Map::new();
    for (name, value) in pairs {
        match all.get_mut(&name) {
            Some(Value::String(values)) => *values = format!("{values},{value}"),
            _ => _ = all.insert(name, json!(value)),
        }
    }
    all
}

/// All values of each name.
fn multiple(pairs: &[(String, String)]) -> Map<String, Value> {
    let mut all: Map<String, Value> = Map::new();
    for (name, value) in pairs {
        match all.get_mut(name) {
            Some(Value::Array(values)) => values.push(json!(value)),
            _ => _ = all.insert(name.clone(), json!([value])),
        }
    }
    all
}

/// Splits the cookies of all headers.
fn cookies(headers: &HeaderMap) -> Vec<String> {
    let cookies = |list: String| list.split(';').map(|cookie| cookie.trim().to_owned()).collect::<Vec<_>>();
    let lists = headers.get_all(COOKIE).iter().map(text);
    lists.flat_map(cookies).filter(|cookie| !cookie.is_empty()).collect()
}

/// The media type of a content type.
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Returns whether an HTTP API passes a body as text. It encodes all others, such as forms.
fn is_text(content_type: &str) -> bool {
    let kind = media_type(content_type);
    kind.starts_with("text/")
        || matches!(kind.as_str(), "application/json" | "application/javascript" | "application/xml")
}

/// Returns whether a REST API with these binary media types has a body of this type as base64.
pub(super) fn is_binary(binary_types: &[String], content_type: &str) -> bool {
    let kind = media_type(content_type);
    binary_types.iter().any(|binary| binary == "*/*" || (!kind.is_empty() && media_type(binary) == kind))
}

#[cfg(test)]
mod tests;
