//! Responses of functions, and the gateway's own.
//!
//! Source: API Gateway developer guide, "Create AWS Lambda proxy integrations for HTTP APIs" and "Lambda proxy
//! integrations in API Gateway"; what a REST API does not take is read in LocalStack, which compares itself with AWS.

use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::{
    HeaderMap, Response, StatusCode,
    body::Bytes,
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, EXPECT, HOST, HeaderName, HeaderValue, MAX_FORWARDS, SERVER,
        SET_COOKIE, USER_AGENT, WWW_AUTHENTICATE,
    },
};
use serde_json::{Map, Value, json};

use super::{
    connection_headers::is_of_connection,
    event::{Incoming, is_binary},
};
use crate::{
    gateway,
    http::{self, Body},
    json::read_answer,
    template::{HttpApi, HttpApiKind, MockResponse, PayloadVersion},
};

/// The media type of a response that names none.
const TEXT: &str = "text/plain; charset=utf-8";

/// What an HTTP API says of a request that is too large.
const ENTITY_TOO_LARGE: &str = "Request Entity Too Large";

/// Most headers of an answer, with its cookies. Our own choice: clients read from 100 to 2,000.
const HEADERS_MAX: usize = 1_000;

/// Characters of a name that a line of the log shows at most.
const SHOWN_NAME_CHARS_MAX: usize = 100;

/// All that a function behind a REST API may answer with. With anything else its answer is malformed.
const REST_KEYS: [&str; 5] = ["statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"];

/// Headers that a REST API passes on under another name. Source: API Gateway developer guide, "Amazon API Gateway
/// important notes".
const REMAPPED: [HeaderName; 9] = [
    AUTHORIZATION,
    HeaderName::from_static("content-md5"),
    DATE,
    EXPECT,
    HOST,
    MAX_FORWARDS,
    SERVER,
    USER_AGENT,
    WWW_AUTHENTICATE,
];

/// Turns the answer of a function into a response. An error says what is wrong with it.
pub(super) fn of_function(
    api: &HttpApi,
    payload: PayloadVersion,
    request: &HeaderMap,
    answer: &Bytes,
) -> Result<Response<Body>, String> {
    let is_rest = api.kind == HttpApiKind::Rest;
    let value = read_answer(answer).map_err(|error| format!("it is not JSON: {error}"))?;
    if !is_rest && payload == PayloadVersion::V2 && value.get("statusCode").is_none() {
        return Ok(inferred(value, answer));
    }
    let Value::Object(fields) = &value else { return Err("it is not an object".to_owned()) };
    if is_rest && let Some(key) = fields.keys().find(|key| !REST_KEYS.contains(&key.as_str())) {
        return Err(format!("it has the field {key}, and a REST API takes {} only", REST_KEYS.join(", ")));
    }
    if is_rest
        && let Some(Value::Object(lists)) = fields.get("multiValueHeaders")
        && let Some((name, _)) = lists.iter().find(|(_, values)| !values.is_array())
    {
        return Err(format!("its multiValueHeaders have {name}, which is not a list"));
    }
    let status = match fields.get("statusCode") {
        None | Some(Value::Null) if is_rest => StatusCode::OK,
        _ => gateway::status(&value).ok_or("it has no valid statusCode")?,
    };
    let body = match fields.get("body") {
        None | Some(Value::Null) => "",
        Some(Value::String(body)) => body,
        Some(_) => return Err("its body is not a text; use JSON.stringify or json.dumps".to_owned()),
    };
    let is_encoded = fields.get("isBase64Encoded").and_then(Value::as_bool) == Some(true);
    // A REST API decodes only for clients that accept one of its binary media types.
    let accepted = request.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accepted = accepted.split(',').next().unwrap_or_default();
    let body = match is_encoded && (!is_rest || is_binary(&api.binary_types, accepted)) {
        true => BASE64_STANDARD.decode(body).map_err(|error| format!("its body is not base64: {error}"))?,
        false => body.as_bytes().to_vec(),
    };
    let mut response = http::response(status, if is_rest { "application/json" } else { TEXT }, body);
    let takes_lists = is_rest || payload == PayloadVersion::V1;
    let headers = headers_of(&api.name, fields, takes_lists)?;
    // The first one replaces the default.
    if headers.iter().any(|(name, _)| *name == CONTENT_TYPE) {
        response.headers_mut().remove(CONTENT_TYPE);
    }
    headers.into_iter().for_each(|(name, value)| _ = response.headers_mut().append(name, value));
    if is_rest {
        remap(response.headers_mut());
    }
    Ok(response)
}

/// An answer of payload version 2.0 without a `statusCode` is the body: the characters of a text, anything else as the
/// function wrote it.
fn inferred(value: Value, answer: &Bytes) -> Response<Body> {
    let body = match value {
        Value::String(text) => Bytes::from(text),
        _ => answer.clone(),
    };
    http::response(StatusCode::OK, "application/json", body)
}

/// The headers of an answer, except those of the connection. Where there are lists, a value of them is not repeated by
/// one of the single values; elsewhere there are cookies.
fn headers_of(
    api: &str,
    fields: &Map<String, Value>,
    takes_lists: bool,
) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let entries = |field: &str| fields.get(field).and_then(Value::as_object).into_iter().flatten();
    let lists = entries("multiValueHeaders").filter(|_| takes_lists).flat_map(|(name, values)| {
        let values = match values {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        values.iter().map(move |value| (name.as_str(), value))
    });
    let cookies = fields.get("cookies").and_then(Value::as_array).filter(|_| !takes_lists).into_iter().flatten();
    let cookies = cookies.filter(|cookie| cookie.is_string()).map(|cookie| (SET_COOKIE.as_str(), cookie));
    let single = || entries("headers").map(|(name, value)| (name.as_str(), value));
    if lists.clone().chain(single()).chain(cookies.clone()).nth(HEADERS_MAX).is_some() {
        return Err(format!("it has more than {HEADERS_MAX} headers"));
    }
    let mut all: Vec<_> = lists.filter_map(|(name, value)| header(api, name, value)).collect();
    for pair in single().filter_map(|(name, value)| header(api, name, value)) {
        if !all.contains(&pair) {
            all.push(pair);
        }
    }
    all.extend(cookies.filter_map(|(name, value)| header(api, name, value)));
    Ok(all)
}

/// Renames what a REST API keeps for itself.
fn remap(headers: &mut HeaderMap) {
    for name in REMAPPED {
        let values: Vec<HeaderValue> = headers.get_all(&name).iter().cloned().collect();
        headers.remove(&name);
        if let Ok(name) = format!("x-amzn-remapped-{name}").parse::<HeaderName>() {
            values.into_iter().for_each(|value| _ = headers.append(name.clone(), value));
        }
    }
}

/// Adds the ids of a request to its response.
pub(super) fn identify(response: &mut Response<Body>, request: &Incoming<'_>) {
    let ids: &[(&'static str, &str)] = match request.api.kind {
        HttpApiKind::Http => &[("apigw-requestid", request.request_id)],
        HttpApiKind::Rest => &[
            ("x-amzn-requestid", request.uuid),
            ("x-amz-apigw-id", request.request_id),
            ("x-amzn-trace-id", request.trace_id),
        ],
    };
    let header = |(name, id): &(&'static str, &str)| Some((*name, HeaderValue::from_str(id).ok()?));
    for (name, id) in ids.iter().filter_map(header) {
        response.headers_mut().insert(name, id);
    }
}

/// A header of an API, unless it is one of the connection. One that HTTP does not allow leaves a line in the log.
fn header(api: &str, name: &str, value: &Value) -> Option<(HeaderName, HeaderValue)> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match (name.parse::<HeaderName>(), HeaderValue::from_str(&text)) {
        (Ok(name), _) if is_of_connection(&name) => None,
        (Ok(name), Ok(value)) => Some((name, value)),
        (name_read, _) => {
            let part = if name_read.is_err() { "name" } else { "value" };
            let header: String = name.chars().take(SHOWN_NAME_CHARS_MAX).collect();
            tracing::warn!(api, header, invalid = part, "header left out of a response: HTTP does not allow it");
            None
        }
    }
}

/// The response of a MOCK integration.
pub(super) fn of_mock(api: &str, mock: &MockResponse) -> Response<Body> {
    let status = StatusCode::from_u16(mock.status).unwrap_or(StatusCode::OK);
    let mut response = http::response(status, "application/json", mock.body.clone());
    for (name, value) in &mock.headers {
        if let Some((name, value)) = header(api, name, &json!(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A failure of what is behind a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BackendFailure {
    /// It failed, or its answer is malformed.
    Failed,
    /// It took too long, or a server was not reached.
    TimedOut,
    /// The event of the request has more bytes than Lambda takes.
    TooLarge,
}

/// What a client is told of a failure.
pub(super) fn of_failure(kind: HttpApiKind, failure: BackendFailure) -> Response<Body> {
    let (status, message) = match (kind, failure) {
        // Recorded: koki-develop/lgtm-generator issue 10.
        (HttpApiKind::Rest, BackendFailure::TooLarge) => (StatusCode::PAYLOAD_TOO_LARGE, "Request Too Long"),
        (HttpApiKind::Http, BackendFailure::TooLarge) => (StatusCode::PAYLOAD_TOO_LARGE, ENTITY_TOO_LARGE),
        (HttpApiKind::Rest, BackendFailure::Failed) => (StatusCode::BAD_GATEWAY, "Internal server error"),
        (HttpApiKind::Rest, BackendFailure::TimedOut) => (StatusCode::GATEWAY_TIMEOUT, "Endpoint request timed out"),
        (HttpApiKind::Http, BackendFailure::Failed) => (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        (HttpApiKind::Http, BackendFailure::TimedOut) => (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
    };
    let mut response = http::json(status, &json!({"message": message}));
    let error_type = match (kind, failure) {
        (HttpApiKind::Rest, BackendFailure::Failed) => Some("InternalServerErrorException"),
        (HttpApiKind::Rest, BackendFailure::TooLarge) => Some("BadRequestException"),
        _ => None,
    };
    if let Some(name) = error_type {
        response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(name));
    }
    response
}

/// Adds what an API has configured for its own errors.
pub(super) fn with_error_headers(api: &HttpApi, mut response: Response<Body>) -> Response<Body> {
    let configured = match response.status() {
        status if status.is_client_error() => &api.error_headers.client,
        _ => &api.error_headers.server,
    };
    for (name, value) in configured.iter().filter_map(|(name, value)| header(&api.name, name, &json!(value))) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// What a client is told of a request whose body is larger than this many bytes.
pub(super) fn too_large(kind: HttpApiKind, bytes_max: usize) -> Response<Body> {
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    match kind {
        // In front of REST APIs something refuses it that does not write JSON, and this as its media type.
        HttpApiKind::Rest => {
            http::response(status, "text; charset=utf-8", format!("HTTP content length exceeded {bytes_max} bytes."))
        }
        HttpApiKind::Http => http::json(status, &json!({"message": ENTITY_TOO_LARGE})),
    }
}

/// The response of a route that the emulator does not serve.
pub(super) fn unserved(route: &str, reason: &str) -> Response<Body> {
    http::json(StatusCode::NOT_IMPLEMENTED, &json!({"message": format!("{route} is not served here: {reason}")}))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::template::{Template, TemplateInputs};

    /// An API of this kind that has images as base64.
    fn api(kind: &str) -> HttpApi {
        let text = format!(
            "Globals: {{ Api: {{ BinaryMediaTypes: [image~1png] }} }}\nResources:\n  \
             Ws: {{ Type: AWS::ApiGatewayV2::Api, Properties: {{ ProtocolType: WEBSOCKET, RouteSelectionExpression: \
             $request.body.a }} }}\n  F: {{ Type: AWS::Serverless::Function, Properties: {{ Events: {{ E: {{ Type: \
             {kind}, Properties: {{ Path: /, Method: get }} }} }} }} }}\n"
        );
        Template::parse(&text, &TemplateInputs::default()).expect("valid").http_apis.remove(0)
    }

    fn asked(
        kind: &str,
        payload: PayloadVersion,
        answer: &Value,
        accept: &'static str,
    ) -> Result<(u16, HeaderMap), String> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        let response = of_function(&api(kind), payload, &headers, &Bytes::from(answer.to_string()))?;
        Ok((response.status().as_u16(), response.headers().clone()))
    }

    /// Status and content type of a response, or what is wrong with the answer.
    fn answered(kind: &str, payload: PayloadVersion, answer: &Value) -> Result<(u16, String), String> {
        let (status, headers) = asked(kind, payload, answer, "*/*")?;
        Ok((status, headers[CONTENT_TYPE].to_str().expect("a text").to_owned()))
    }

    #[test]
    fn answers_become_responses_as_payload_version_2_says() {
        let check = |answer: Value, status: u16, kind: &str| {
            assert_eq!(answered("HttpApi", PayloadVersion::V2, &answer), Ok((status, kind.to_owned())), "{answer}");
        };
        check(
            json!({"statusCode": 413, "headers": {"content-type": "application/json"}, "body": "{}"}),
            413,
            "application/json",
        );
        check(json!({"published": true}), 200, "application/json");
        check(json!("Hello from Lambda!"), 200, "application/json");
        let of = |answer: Bytes| of_function(&api("HttpApi"), PayloadVersion::V2, &HeaderMap::new(), &answer);
        assert!(of(Bytes::from("[x]")).is_err(), "it is not JSON");
        check(json!({"statusCode": "201", "body": null}), 201, TEXT);
        for bad in [
            json!({"statusCode": 200, "body": "%", "isBase64Encoded": true}),
            json!({"statusCode": 7}),
            json!({"statusCode": 101}),
            json!({"statusCode": 200, "body": {"a": 1}}),
        ] {
            assert!(answered("HttpApi", PayloadVersion::V2, &bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_json_functions_write_is_read_and_without_a_status_it_is_the_body() {
        use http_body_util::BodyExt;

        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(200), "]".repeat(200));
        let half = r#"{ "text": "\ud83d", "n": 1e400 }"#.to_owned();
        for (kind, answer, body) in [
            (
                "HttpApi",
                r#"{"statusCode": 200, "body": "cut \ud83d", "x": 1e400}"#.to_owned(),
                "cut \u{fffd}".to_owned(),
            ),
            ("HttpApi", format!(r#"{{"statusCode": 200, "body": "x", "deep": {}}}"#, deep("1")), "x".to_owned()),
            ("Api", r#"{"body": "cut \ud83d"}"#.to_owned(), "cut \u{fffd}".to_owned()),
            ("HttpApi", half.clone(), half),
            ("HttpApi", deep("1"), deep("1")),
            ("HttpApi", r#""cut \ud83d""#.to_owned(), "cut \u{fffd}".to_owned()),
        ] {
            let answered = of_function(&api(kind), PayloadVersion::V2, &HeaderMap::new(), &Bytes::from(answer.clone()));
            let response = answered.expect(&answer);
            assert_eq!(response.status(), StatusCode::OK, "{answer}");
            assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), body, "{answer}");
        }
    }

    #[test]
    fn version_1_and_rest_apis_need_the_whole_form() {
        let v1 = |answer: Value| answered("HttpApi", PayloadVersion::V1, &answer);
        assert_eq!(v1(json!({"statusCode": 200, "cookies": ["a=b"]})), Ok((200, TEXT.to_owned())));
        assert!(v1(json!({"body": "x"})).is_err());
        let rest = |answer: Value| answered("Api", PayloadVersion::V1, &answer);
        assert_eq!(rest(json!({})), Ok((200, "application/json".to_owned())));
        for (bad, what) in [
            (json!("text"), "not an object"),
            (json!({"statusCode": 200, "cookies": []}), "the field cookies"),
            (json!({"statusCode": 200, "body": {}}), "not a text"),
            (json!({"statusCode": "x"}), "statusCode"),
            (json!({"statusCode": 200, "multiValueHeaders": {"x-a": "1"}}), "x-a, which is not a list"),
        ] {
            assert!(rest(bad.clone()).is_err_and(|error| error.contains(what)), "{bad}");
        }
    }

    #[test]
    fn lists_of_headers_and_single_ones_are_joined() {
        let answer = json!({
            "statusCode": 200,
            "headers": {"X-A": "1", "X-B": "b", "X-N": 7},
            "multiValueHeaders": {"x-a": ["1", "2"], "Content-Type": ["image/png"]},
        });
        let (_, headers) = asked("Api", PayloadVersion::V1, &answer, "*/*").expect("valid");
        let all =
            |name: &str| headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect::<Vec<_>>();
        assert_eq!((all("x-a"), all("x-b"), all("x-n")), (vec!["1", "2"], vec!["b"], vec!["7"]));
        assert_eq!(all("content-type"), ["image/png"]);
        let (_, headers) = asked("HttpApi", PayloadVersion::V2, &answer, "*/*").expect("valid");
        assert_eq!(headers.get_all("x-a").iter().count(), 1, "version 2.0 has no lists");
    }

    #[test]
    fn headers_that_http_does_not_allow_are_left_out_and_named_in_the_log() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let log = Arc::new(file.reopen().expect("a file"));
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log).finish();
        let given = json!({"X-A": "a", "X B": "b", "X-C": "c\r\nX-D: d", "Content-Length": "1"});
        let answer = json!({"statusCode": 200, "headers": given, "cookies": ["a=1", "b=2\n"]});
        let (_, headers) = tracing::subscriber::with_default(subscriber, || {
            asked("HttpApi", PayloadVersion::V2, &answer, "*/*").expect("valid")
        });
        let names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "x-a", "set-cookie"]);
        let log = std::fs::read_to_string(file.path()).expect("UTF-8");
        for (header, part) in [("X B", "name"), ("X-C", "value"), ("set-cookie", "value")] {
            let line = format!(r#"api="ServerlessHttpApi" header="{header}" invalid="{part}""#);
            assert!(log.contains(&line), "{line}: {log}");
        }
        assert_eq!(log.lines().count(), 3, "{log}");
        let many: Map<String, Value> = (0..=HEADERS_MAX).map(|index| (format!("x-{index}"), json!("a"))).collect();
        let refused = asked("Api", PayloadVersion::V1, &json!({"headers": many}), "*/*").expect_err("too many");
        assert_eq!(refused, "it has more than 1000 headers");
    }

    #[test]
    fn the_gateway_frames_a_response_itself() {
        let lengths = json!({"Content-Length": "1", "Transfer-Encoding": "chunked", "X-A": "a"});
        let lists = json!({"content-length": ["7"], "Connection": ["close"]});
        let answer = json!({"statusCode": 200, "body": "text", "headers": lengths, "multiValueHeaders": lists});
        for (kind, payload) in
            [("Api", PayloadVersion::V1), ("HttpApi", PayloadVersion::V1), ("HttpApi", PayloadVersion::V2)]
        {
            let (_, headers) = asked(kind, payload, &answer, "*/*").expect("valid");
            let names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
            assert_eq!(names, ["content-type", "x-a"], "{kind}");
        }
    }

    #[test]
    fn a_rest_api_keeps_names_of_headers_for_itself() {
        let given = json!({"WWW-Authenticate": "Basic", "Server": "x", "Date": "today", "X-A": "a"});
        let answer = json!({"statusCode": 401, "headers": given, "body": ""});
        let (_, headers) = asked("Api", PayloadVersion::V1, &answer, "*/*").expect("valid");
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let remapped = ["date", "server", "www-authenticate"].map(|name| format!("x-amzn-remapped-{name}"));
        assert_eq!(names, ["content-type", "x-a", &remapped[0], &remapped[1], &remapped[2]]);
        let (_, headers) = asked("HttpApi", PayloadVersion::V2, &answer, "*/*").expect("valid");
        assert_eq!(headers[WWW_AUTHENTICATE], "Basic");
    }

    #[test]
    fn cookies_of_an_answer_become_headers() {
        let answer = json!({"statusCode": 200, "cookies": ["a=1; Secure", "b=2"], "body": ""});
        let (_, headers) = asked("HttpApi", PayloadVersion::V2, &answer, "*/*").expect("valid");
        assert_eq!(headers.get_all(SET_COOKIE).iter().collect::<Vec<_>>(), ["a=1; Secure", "b=2"]);
    }

    #[tokio::test]
    async fn a_rest_api_decodes_for_clients_that_accept_a_binary_type() {
        use http_body_util::BodyExt;

        let answer = json!({"statusCode": 200, "isBase64Encoded": true, "body": "AAEC"});
        for (kind, accept, expected) in [
            ("Api", "image/png", &b"\x00\x01\x02"[..]),
            ("Api", "text/html", b"AAEC"),
            ("HttpApi", "", b"\x00\x01\x02"),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            let answer = Bytes::from(answer.to_string());
            let response = of_function(&api(kind), PayloadVersion::V1, &headers, &answer).expect("valid");
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(&body[..], expected, "{kind} {accept}");
        }
    }
}
