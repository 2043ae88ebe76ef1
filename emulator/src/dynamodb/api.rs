//! The API of DynamoDB as AWS clients speak it (AWS JSON 1.0), in front of the engine.
//!
//! The engine has its own server, which would accept requests of any web page. So requests come through the emulator's
//! listeners and their guard instead. Only errors that no AWS client causes, values of the wrong JSON type, are less
//! exact here.

use std::sync::Arc;

use dynoxide::auth_material;
use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue},
};

use super::{
    Store,
    engine::{DynamoDbResponse, refusal, unknown_operation},
};
use crate::http::{Body, Request, response};

/// Largest request, in bytes. Source: DynamoDB quotas.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Media type of requests and responses.
const AMZ_JSON: &str = "application/x-amz-json-1.0";

/// Body of the response to a request that is not a call of the API.
const NOT_FOUND: &str = "<UnknownOperationException/>\n";

pub(crate) async fn handle(store: Arc<Store>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    match (&head.method, head.uri.path()) {
        (&Method::POST, "/") => {}
        (&Method::GET, "/") => return response(StatusCode::OK, "text/plain", "healthy: the local DynamoDB\n"),
        _ => return response(StatusCode::NOT_FOUND, "text/plain", NOT_FOUND),
    }
    let kind = text(&head.headers, CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
    let content_type = if kind.eq_ignore_ascii_case(AMZ_JSON) { AMZ_JSON } else { "application/json" };
    if content_type != AMZ_JSON && !kind.eq_ignore_ascii_case(content_type) {
        return response(StatusCode::NOT_FOUND, "text/plain", NOT_FOUND);
    }
    let (status, answer) = match Limited::new(body, REQUEST_BYTES_MAX).collect().await {
        Ok(body) => answer(&store, &head.headers, head.uri.query().unwrap_or_default(), &body.to_bytes()),
        Err(_) => refusal(
            "com.amazon.coral.validate#ValidationException",
            &format!("the request has more than {REQUEST_BYTES_MAX} bytes"),
        ),
    };
    let checksum = HeaderValue::from(crc32fast::hash(answer.as_bytes()));
    let mut response = response(status, content_type, answer);
    response.headers_mut().insert(HeaderName::from_static("x-amz-crc32"), checksum);
    let request_id = uuid::Builder::from_random_bytes(rand::random()).into_uuid().simple().to_string();
    if let Ok(request_id) = HeaderValue::try_from(request_id.to_uppercase()) {
        response.headers_mut().insert(HeaderName::from_static("x-amzn-requestid"), request_id);
    }
    response
}

fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn answer(store: &Store, headers: &HeaderMap, query: &str, body: &[u8]) -> DynamoDbResponse {
    let target = text(headers, HeaderName::from_static("x-amz-target"));
    let operation =
        target.strip_prefix("DynamoDB_20120810.").or_else(|| target.strip_prefix("DynamoDBStreams_20120810."));
    let Some(operation) = operation else { return unknown_operation() };
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let has_date_header = headers.contains_key("x-amz-date") || headers.contains_key(DATE);
    let material = auth_material::AuthMaterial { authorization, query, has_date_header };
    if let Some(refused) = auth_material::validate(material) {
        return (StatusCode::BAD_REQUEST, refused);
    }
    let Ok(body) = str::from_utf8(body) else {
        return refusal("com.amazon.coral.service#SerializationException", "the body is not UTF-8");
    };
    store.carry_out(operation, body)
}
